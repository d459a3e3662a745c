//! Log lines as etcd writes them: one JSON object (or one tab-separated line) per event, with `level`, `ts`,
//! `caller`, `msg` first, so that tools that wait for a message keep working.

use std::{
    fmt::{self, Write as _},
    fs::{File, OpenOptions},
    io,
    path::Path,
};

use serde_json::{Map, Value};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, format::Writer, time::FormatTime},
    registry::LookupSpan,
};

use super::{
    journal::{self, Journal},
    rotation::RotatedFile,
};
use crate::config::{Config, LogOutput, Rotation};

/// Installs the process-wide log. Later calls change nothing.
///
/// # Errors
/// A file cannot be written; in the words of etcd's log library.
pub fn install(config: &Config) -> Result<(), String> {
    let open = |output| Output::open(output, config.log_rotation.as_ref());
    let outputs = config.log_outputs.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(config.log_level)
        .with_ansi(false)
        .with_writer(Outputs(outputs))
        .event_format(Format { json: config.log_json })
        .finish();
    // A second installation (tests in one process) keeps the first.
    let _already_installed = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// All places where a line goes.
struct Outputs(Vec<Output>);

enum Output {
    Stderr,
    Stdout,
    Journal(Journal),
    File(File),
    Rotated(RotatedFile),
}

impl Output {
    fn open(output: &LogOutput, rotation: Option<&Rotation>) -> Result<Self, String> {
        Ok(match output {
            LogOutput::Stderr => Self::Stderr,
            LogOutput::Stdout => Self::Stdout,
            LogOutput::Journal => {
                let opened = Journal::open(Path::new(journal::SOCKET));
                Self::Journal(opened.map_err(|error| format!("can't find journal ({}: {error})", journal::SOCKET))?)
            }
            LogOutput::File(path) => {
                let opened = match rotation {
                    Some(rotation) => RotatedFile::open(path, rotation).map(Self::Rotated),
                    None => OpenOptions::new().append(true).create(true).open(path).map(Self::File),
                };
                opened.map_err(|error| {
                    let path = path.display().to_string();
                    format!("open sink {path:?}: open {path}: {error}")
                })?
            }
        })
    }
}

/// Where the line of one event goes.
struct LineWriter<'a> {
    outputs: &'a Outputs,
    level: Level,
}

impl<'a> MakeWriter<'a> for Outputs {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter { outputs: self, level: Level::INFO }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Self::Writer {
        LineWriter { outputs: self, level: *event.level() }
    }
}

/// A line is written whole, by one call for each output.
impl io::Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        for output in &self.outputs.0 {
            // A log that cannot be written does not stop the member, and does not keep the line from the other outputs.
            let _lost = match output {
                Output::Stderr => io::stderr().write_all(line),
                Output::Stdout => io::stdout().write_all(line),
                // As etcd: a line that the journal does not take goes to stderr.
                Output::Journal(journal) => journal.write(self.level, line).or_else(|_| io::stderr().write_all(line)),
                Output::File(file) => (&mut &*file).write_all(line),
                Output::Rotated(file) => file.write(line),
            };
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Format {
    json: bool,
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        if !metadata.target().starts_with("ringd") && *metadata.level() > Level::WARN {
            return Ok(());
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match *metadata.level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let mut time = String::new();
        tracing_subscriber::fmt::time::SystemTime.format_time(&mut Writer::new(&mut time))?;
        let caller = format!(
            "{}:{}",
            metadata.file().map_or("", |path| path.strip_prefix("src/").unwrap_or(path)),
            metadata.line().unwrap_or(0)
        );
        if !self.json {
            write!(out, "{time}\t{level}\t{caller}\t{}", fields.message)?;
            if !fields.rest.is_empty() {
                write!(out, "\t{}", Value::Object(fields.rest))?;
            }
            return writeln!(out);
        }
        write!(out, "{{\"level\":\"{level}\",\"ts\":\"{time}\",\"caller\":{},", Value::String(caller))?;
        write!(out, "\"msg\":{}", Value::String(fields.message))?;
        for (name, value) in fields.rest {
            write!(out, ",{}:{value}", Value::String(name))?;
        }
        writeln!(out, "}}")
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        self.rest.insert(field.name().replace('_', "-"), value);
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.add(field, value.into());
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.add(field, text.into());
        }
    }
}
