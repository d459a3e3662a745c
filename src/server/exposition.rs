//! `/metrics`: etcd's names for what exists here.

use std::{cell::Cell, fmt::Write};

use crate::{os::process, server::front::Front};

/// Prints the page.
#[derive(Default)]
pub struct Exposition {
    health_success: Cell<u64>,
    health_failures: Cell<u64>,
}

impl Exposition {
    /// Counts one `/health`.
    pub fn count_health(&self, healthy: bool) {
        let counter = if healthy { &self.health_success } else { &self.health_failures };
        counter.set(counter.get() + 1);
    }

    /// The whole page.
    #[must_use]
    pub fn page(&self, _front: &Front) -> String {
        let reading = process::read();
        let mut out = String::new();
        let _infallible = writeln!(out, "process_resident_memory_bytes {}", reading.resident_bytes);
        out
    }
}
