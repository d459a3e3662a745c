//! The state of a running command: its flags and arguments, its streams, and log lines as etcdutl writes them.

use std::{borrow::Cow, io::Write, path, time::Duration};

use super::help;
use crate::{
    ctl::{
        exit::{ERROR, Exit},
        flags::Flags,
        go_format::{io_error, quote},
        tree,
    },
    os::clock,
};

/// The streams of the process, or buffers of a test.
pub struct Io<'a> {
    pub output: &'a mut dyn Write,
    pub errors: &'a mut dyn Write,
}

/// Carries a command out.
pub type Run = fn(&mut Session) -> Result<(), Exit>;

pub type Command = tree::Command<Run>;
pub type Path = tree::Path<Run>;

/// A command being carried out.
pub struct Session<'a> {
    pub path: Path,
    pub flags: Flags,
    pub io: Io<'a>,
}

impl Session<'_> {
    /// Argument `at` as text.
    pub fn argument(&self, at: usize) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.flags.arguments[at])
    }

    /// Exactly one argument, or the usage.
    pub fn one_argument(&mut self) -> Result<String, Exit> {
        match self.flags.arguments.len() {
            1 => Ok(self.argument(0).into_owned()),
            count => Err(self.misuse(&format!("accepts 1 arg(s), received {count}"))),
        }
    }

    /// All of these flags, or the usage.
    pub fn require(&mut self, names: &[&str]) -> Result<(), Exit> {
        let missing: Vec<String> =
            names.iter().filter(|name| !self.flags.given(name)).map(|name| quote(name.as_bytes())).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(self.misuse(&format!("required flag(s) {} not set", missing.join(", "))))
    }

    pub fn misuse(&mut self, message: &str) -> Exit {
        misuse(&self.path, self.io.errors, message)
    }

    /// How long to wait for the lock of another process; `None`: without limit.
    pub fn patience(&self) -> Option<Duration> {
        Some(self.flags.duration("timeout")).filter(|timeout| !timeout.is_zero())
    }

    /// A log line on stderr: time, level, text and fields.
    pub fn log(&mut self, level: &str, text: &str, fields: &[(&str, &str)]) -> Result<(), Exit> {
        let fields: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{}: {}", quote(name.as_bytes()), quote(value.as_bytes())))
            .collect();
        let fields = if fields.is_empty() { String::new() } else { format!("\t{{{}}}", fields.join(", ")) };
        writeln!(self.io.errors, "{}\t{level}\t{text}{fields}", rfc3339(clock::unix_ms() / 1000))?;
        Ok(())
    }
}

/// A mistake in flags or arguments: the message, the usage, and the message once more.
pub fn misuse(path: &Path, errors: &mut dyn Write, message: &str) -> Exit {
    let written = writeln!(errors, "Error: {message}\n{}", help::usage(path));
    match written {
        Ok(()) => Exit::new(ERROR, message),
        Err(error) => error.into(),
    }
}

/// Checks that a file exists.
pub fn must_exist(path: &path::Path) -> Result<(), Exit> {
    match path.metadata() {
        Ok(_) => Ok(()),
        Err(error) => Err(Exit::new(ERROR, format!("stat {}: {}", path.display(), io_error(&error)))),
    }
}

/// `2026-01-31T23:59:59Z`, by the calendar of days since 1970 (Hinnant's civil_from_days).
fn rfc3339(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400 + 719_468, unix_seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_calendar_times() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_795_424_557), "2026-11-23T09:02:37Z");
    }
}
