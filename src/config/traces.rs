//! `--enable-distributed-tracing` and what belongs to it, which counts only beside it.

use super::{
    refused::{Refused, refuse},
    values::Values,
};

const PER_MILLION_MAX: i64 = 1_000_000;

/// Which calls are traced, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// `host:port` of the collector.
    pub collector: String,
    pub service_name: String,
    /// Not told if it is empty.
    pub instance_id: String,
    /// Of a million new traces so many are sampled.
    pub per_million: u32,
}

impl Values {
    pub(super) fn traces(&self) -> Result<Option<Traces>, Refused> {
        if !self.boolean("enable-distributed-tracing")? {
            return Ok(None);
        }
        let text = |name| self.text(name).to_owned();
        Ok(Some(Traces {
            collector: text("distributed-tracing-address"),
            service_name: text("distributed-tracing-service-name"),
            instance_id: text("distributed-tracing-instance-id"),
            per_million: self.sampled_per_million()?,
        }))
    }

    /// In etcd's words.
    fn sampled_per_million(&self) -> Result<u32, Refused> {
        let given: i64 = self.number("distributed-tracing-sampling-rate")?;
        let why = match given {
            ..0 => "must be positive".to_owned(),
            0..=PER_MILLION_MAX => return Ok(u32::try_from(given).unwrap_or(0)),
            _ => format!("must be less than {PER_MILLION_MAX}"),
        };
        Err(refuse(1, format!("distributed tracing configurition is not valid: (tracing sampling rate {why})")))
    }
}
