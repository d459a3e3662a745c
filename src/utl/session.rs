//! The state of a running command: its flags and arguments, its streams, and log lines as etcdutl writes them.

use std::{borrow::Cow, io::Write, path, time::Duration};

use super::help;
use crate::{
    base::civil_time::date_and_time,
    ctl::{
        exit::{ERROR, Exit},
        flags::Flags,
        go_format::{io_error, quote},
        progress::ByteProgress,
        tree,
    },
    os::clock,
};

/// The streams of the process, or buffers of a test.
pub struct Io<'a> {
    pub output: &'a mut dyn Write,
    pub errors: &'a mut dyn Write,
    /// `errors` is the stderr of this process, which may be a terminal and show progress.
    pub owns_stderr: bool,
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

    /// A progress line for a long copy, shown on a terminal only.
    pub fn progress(&self) -> ByteProgress {
        ByteProgress::new(self.io.owns_stderr, 0)
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
        let now = i64::try_from(clock::unix_ms() / 1000).unwrap_or_default();
        writeln!(self.io.errors, "{}Z\t{level}\t{text}{fields}", date_and_time(now))?;
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
