//! Batches of the log: one task each, several in flight.

use std::{rc::Rc, time::Duration};

use super::{Driver, or_stop};
use crate::{base::limits, metrics::Name, os::clock, replica::Input, wal::IssuedBatch};

impl Driver {
    pub(super) async fn write_log(self: Rc<Self>, batch: IssuedBatch) {
        let (bytes, started) = (batch.write.bytes.len(), clock::now());
        or_stop(self.files.write(batch.write).await);
        self.count_log_write(bytes, started.elapsed());
        self.step(Input::LogWritten { sequence: batch.sequence });
    }

    /// One durable write is both etcd's write and its fsync.
    fn count_log_write(&self, bytes: usize, took: Duration) {
        let sheet = self.sheet();
        sheet.observe(Name::DiskWalWriteDurationSeconds, took.as_secs_f64());
        sheet.observe(Name::DiskWalFsyncDurationSeconds, took.as_secs_f64());
        sheet.change(Name::DiskWalWriteBytesTotal, bytes as i64);
        let expected = Duration::from_millis(limits::SLOW_LOG_WRITE_MS);
        if took > expected {
            tracing::warn!(?took, expected_duration = ?expected, "slow fdatasync");
        }
    }
}
