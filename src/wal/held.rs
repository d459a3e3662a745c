//! Batches that wait for their segment.
//!
//! A batch may be issued for a segment whose file is not prepared yet. It is held here, and written once the segment is ready; the
//! replica and the simulator of a log alone share this order.

use super::{IssuedBatch, Wal};

/// Batches whose segment is not prepared yet, in the order in which they were issued.
#[derive(Debug, Default)]
pub struct HeldBatches {
    batches: Vec<IssuedBatch>,
}

impl HeldBatches {
    /// Passes those of `batches` whose segment is ready to `write`, and holds the others.
    pub fn admit(&mut self, wal: &Wal, batches: Vec<IssuedBatch>, mut write: impl FnMut(IssuedBatch)) {
        for batch in batches {
            match wal.is_ready(batch.write.segment) {
                true => write(batch),
                false => self.batches.push(batch),
            }
        }
    }

    /// Passes the batches whose segment has become ready to `write`. Called after `Wal::on_prepared`.
    pub fn release(&mut self, wal: &Wal, write: impl FnMut(IssuedBatch)) {
        let batches = std::mem::take(&mut self.batches);
        self.admit(wal, batches, write);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}
