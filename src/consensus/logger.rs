//! The crate's log lines, forwarded to a function of the caller's.

use std::fmt::{self, Write as _};

use slog::{Drain, Logger, OwnedKVList, Record, Serializer, o};

/// The level of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
}

/// Takes one finished log line. A function, not a closure, so that the machine owns nothing shared.
pub type LogSink = fn(LogLevel, &str);

/// A logger for the crate. Debug and trace lines are discarded unformatted: the crate writes one per message.
pub(super) fn forwarding_to(sink: LogSink) -> Logger {
    Logger::root(Forward { sink }, o!())
}

struct Forward {
    sink: LogSink,
}

impl Drain for Forward {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record, values: &OwnedKVList) -> Result<(), slog::Never> {
        let level = match record.level() {
            slog::Level::Critical | slog::Level::Error => LogLevel::Error,
            slog::Level::Warning => LogLevel::Warn,
            slog::Level::Info => LogLevel::Info,
            slog::Level::Debug | slog::Level::Trace => return Ok(()),
        };
        let mut line = Line(record.msg().to_string());
        // Writing to a string cannot fail, and a value that cannot be formatted is left out.
        let _ = slog::KV::serialize(&record.kv(), record, &mut line);
        let _ = slog::KV::serialize(values, record, &mut line);
        (self.sink)(level, &line.0);
        Ok(())
    }

    fn is_enabled(&self, level: slog::Level) -> bool {
        level.is_at_least(slog::Level::Info)
    }
}

/// `message, key: value, key: value`
struct Line(String);

impl Serializer for Line {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments) -> slog::Result {
        write!(self.0, ", {key}: {value}")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    thread_local! {
        static LINES: RefCell<Vec<(LogLevel, String)>> = const { RefCell::new(Vec::new()) };
    }

    #[test]
    fn lines_keep_level_message_and_values() {
        let logger = forwarding_to(|level, line| {
            LINES.with_borrow_mut(|lines| lines.push((level, line.to_owned())));
        })
        .new(o!("raft_id" => 7));
        slog::info!(logger, "became {}", "leader"; "term" => 3);
        slog::debug!(logger, "noise");
        slog::crit!(logger, "broken");
        let expected = vec![
            (LogLevel::Info, "became leader, term: 3, raft_id: 7".to_owned()),
            (LogLevel::Error, "broken, raft_id: 7".to_owned()),
        ];
        assert_eq!(LINES.take(), expected);
    }
}
