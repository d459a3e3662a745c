//! The log line and the count of slow operations.

use std::time::Duration;

use crate::{
    base::refusal::Refusal,
    metrics::{Name, Sheet},
};

/// A slow operation.
pub struct Slow {
    pub took: Duration,
    pub expected: Duration,
    /// Its name; empty for an entry of the log.
    pub prefix: &'static str,
}

impl Slow {
    /// etcd's line, and its count.
    pub fn warn(&self, sheet: &Sheet, request: &str, response: &str, error: Option<Refusal>) {
        let (took, expected, prefix) = (self.took, self.expected, self.prefix);
        let text = "apply request took too long";
        match error {
            None => tracing::warn!(?took, expected_duration = ?expected, prefix, request, response, "{text}"),
            Some(error) => {
                tracing::warn!(?took, expected_duration = ?expected, prefix, request, response, %error, "{text}");
            }
        }
        sheet.add(Name::ServerSlowApplyTotal, 1);
    }
}
