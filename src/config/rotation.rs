//! `--enable-log-rotation` and `--log-rotation-config-json`: when a log file is put aside, and for how long it stays.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::error::Category;

use super::{
    refused::{Refused, refuse},
    values::Values,
};

const MEGABYTE: u64 = 1 << 20;
const SIZE_MEGABYTES_DEFAULT: u64 = 100;

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    Stderr,
    Stdout,
    /// The journal of systemd.
    Journal,
    /// Made when it is not there; lines are added at its end.
    File(PathBuf),
}

/// What happens to a log file that is full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    pub size_bytes_max: u64,
    /// Files put aside are removed after so many days; 0 is never.
    pub age_days_max: u64,
    /// So many of them stay; 0 is all.
    pub backups_max: usize,
    /// Their names have the time of this machine's zone.
    pub in_local_time: bool,
    pub compresses: bool,
}

/// The settings as etcd's library reads them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Settings {
    maxsize: i64,
    maxage: i64,
    maxbackups: i64,
    localtime: bool,
    compress: bool,
}

impl Values {
    /// `None` without rotation.
    pub(super) fn rotation(&self, outputs: &[LogOutput]) -> Result<Option<Rotation>, Refused> {
        if !self.boolean("enable-log-rotation")? {
            return Ok(None);
        }
        if outputs.iter().filter(|output| matches!(output, LogOutput::File(_))).count() != 1 {
            let text = "--log-outputs requires a single file path when --log-rotate-config-json is defined";
            return Err(refuse(1, text));
        }
        let settings: Settings = serde_json::from_str(self.text("log-rotation-config-json")).map_err(|error| {
            let kind = match error.classify() {
                Category::Data => "invalid log rotation config",
                _ => "improperly formatted log rotation config",
            };
            refuse(1, format!("{kind}: {error}"))
        })?;
        let megabytes = u64::try_from(settings.maxsize).unwrap_or(0);
        let megabytes = if megabytes == 0 { SIZE_MEGABYTES_DEFAULT } else { megabytes };
        Ok(Some(Rotation {
            size_bytes_max: megabytes.saturating_mul(MEGABYTE),
            age_days_max: u64::try_from(settings.maxage).unwrap_or(0),
            backups_max: usize::try_from(settings.maxbackups).unwrap_or(0),
            in_local_time: settings.localtime,
            compresses: settings.compress,
        }))
    }
}
