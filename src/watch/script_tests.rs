//! Scripts about watchers: one hub, clients that read on command, and the messages they get.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use prost::Message as _;

use super::{Batch, Hub, Response, StreamKey};
use crate::base::script_tests;
use crate::mvcc::{Change, CompactStep, KeyRange, Store, View, test_disk::Disk};
use crate::proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse, watch_create_request::FilterType};
use crate::proto::mvccpb::{Event, event::EventType};

/// Small, so that a few events make several pieces.
const FRAGMENT_BYTES: usize = 100;

#[derive(goldenscript::Command)]
enum Command {
    /// Creates a watcher. Example: watch s1 a c start=2 prev_kv=true
    Watch {
        stream: String,
        key: String,
        end: Option<String>,
        #[arg(key)]
        start: Option<i64>,
        #[arg(key)]
        id: Option<i64>,
        #[arg(key)]
        prev_kv: Option<bool>,
        #[arg(key)]
        filter: Option<String>,
        #[arg(key)]
        fragment: Option<bool>,
        #[arg(key)]
        notify: Option<bool>,
    },
    /// Cancels a watcher. Example: cancel s1 0
    Cancel { stream: String, id: i64 },
    /// The stream ends.
    Close(String),
    /// Writes keys, each at a revision of its own. Example: put a=1 b=2
    Put(Vec<(String, String)>),
    /// Writes keys, all at one revision.
    PutTogether(Vec<(String, String)>),
    /// Writes large values that fill the queue of a client that does not read. Example: fill a 20
    Fill { key: String, count: usize },
    /// Deletes a key, or a range.
    Delete { key: String, end: Option<String> },
    /// Compacts, to the end.
    Compact(i64),
    /// Changes are lost on their way to this core.
    Lose,
    /// A slice of history for every stream whose turn it is, and for lost changes.
    Read,
    /// A client takes its responses, and they are sent.
    Take(String),
    /// A client asks for progress.
    Progress(String),
    /// The interval of progress notifications has passed.
    Tick(String),
    /// Shows numbers of streams, watchers and events.
    Counts,
}

#[derive(Default)]
struct Core {
    store: Store,
    disk: Disk,
    hub: Hub,
    streams: BTreeMap<String, StreamKey>,
    loses: bool,
}

impl goldenscript::Runner for Core {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        match command {
            Command::Watch { stream, .. } => {
                let key = *self.streams.entry(stream.clone()).or_insert_with(|| self.hub.open());
                self.hub.create(key, &create_request(command)?, &self.store.view(&self.disk.backend));
            }
            Command::Cancel { stream, id } => self.hub.cancel(self.streams[stream], *id, self.store.revision()),
            Command::Close(stream) => {
                let key = self.streams.remove(stream).ok_or("no such stream")?;
                self.hub.close(key);
            }
            Command::Put(pairs) => {
                for pair in pairs {
                    self.put([pair.clone()])?;
                }
            }
            Command::PutTogether(pairs) => self.put(pairs.iter().cloned())?,
            Command::Fill { key, count } => {
                for _ in 0..*count {
                    self.put([(key.clone(), "x".repeat(30_000))])?;
                }
            }
            Command::Delete { key, end } => {
                let mut txn = self.store.write(&mut self.disk.backend);
                txn.delete_range(KeyRange::new(key.as_bytes(), end.as_deref().unwrap_or_default().as_bytes()), false)?;
                let changes = txn.end().changes;
                self.publish(changes)?;
            }
            Command::Compact(revision) => {
                self.store.compact_begin(&mut self.disk.backend, *revision)?;
                while self.store.compact_step(&mut self.disk.backend, 1000)? != CompactStep::Idle {
                    self.disk.commit();
                }
            }
            Command::Lose => self.loses = true,
            Command::Read => self.read()?,
            Command::Take(stream) => return Ok(self.take(self.streams[stream])),
            Command::Progress(stream) => self.hub.request_progress(self.streams[stream], self.store.revision()),
            Command::Tick(stream) => self.hub.tick(self.streams[stream], self.store.revision()),
            Command::Counts => {
                let counts = self.hub.counts();
                return Ok(format!(
                    "{} streams, {} watchers, {} of them behind, {} events queued",
                    counts.streams, counts.watchers, counts.behind, counts.events
                ));
            }
        }
        Ok(String::new())
    }
}

impl Core {
    fn view(&self) -> View {
        self.store.view(&self.disk.backend)
    }

    fn put(&mut self, pairs: impl IntoIterator<Item = (String, String)>) -> Result<(), Box<dyn Error>> {
        let mut txn = self.store.write(&mut self.disk.backend);
        for (key, value) in pairs {
            txn.put(key.as_bytes(), value.as_bytes(), 0, false)?;
        }
        let changes = txn.end().changes;
        self.publish(changes)
    }

    fn publish(&mut self, changes: Vec<Change>) -> Result<(), Box<dyn Error>> {
        let view = self.view();
        let Some(batch) = Batch::new(changes) else { return Ok(()) };
        if std::mem::take(&mut self.loses) {
            self.hub.on_lost();
            return Ok(());
        }
        Ok(self.hub.on_batch(&batch, &view)?)
    }

    fn read(&mut self) -> Result<(), Box<dyn Error>> {
        let view = self.view();
        while self.hub.has_gap() {
            self.hub.read_gap(&view)?;
        }
        let mut turns = Vec::new();
        while let Some(stream) = self.hub.next_reader() {
            turns.push(stream);
        }
        for stream in turns {
            self.hub.read(stream, &view)?;
        }
        Ok(())
    }

    fn take(&mut self, stream: StreamKey) -> String {
        let mut output = String::new();
        loop {
            let responses = self.hub.take(stream);
            if responses.is_empty() {
                break;
            }
            for response in responses {
                show_response(response, &mut output);
            }
        }
        self.hub.taken(stream);
        if output.is_empty() { "nothing".to_owned() } else { output }
    }
}

fn create_request(command: &Command) -> Result<WatchCreateRequest, Box<dyn Error>> {
    let Command::Watch { key, end, start, id, prev_kv, filter, fragment, notify, .. } = command else {
        unreachable!("only called for a watch");
    };
    let filters = match filter.as_deref() {
        None => vec![],
        Some("put") => vec![FilterType::Noput as i32],
        Some("delete") => vec![FilterType::Nodelete as i32],
        Some(other) => return Err(format!("no such filter: {other}").into()),
    };
    Ok(WatchCreateRequest {
        key: key.clone().into(),
        range_end: end.clone().unwrap_or_default().into(),
        start_revision: start.unwrap_or(0),
        watch_id: id.unwrap_or(0),
        prev_kv: prev_kv.unwrap_or(false),
        fragment: fragment.unwrap_or(false),
        progress_notify: notify.unwrap_or(false),
        filters,
    })
}

/// As the messages of the wire, decoded again.
fn show_response(response: Response, output: &mut String) {
    let header = ResponseHeader { revision: response.revision, ..ResponseHeader::default() };
    response.encode(header, FRAGMENT_BYTES, |head, body| {
        let bytes = [head, &body[..]].concat();
        let message = WatchResponse::decode(&bytes[..]).expect("what was encoded");
        let _ =
            write!(output, "watcher {} revision {}:", message.watch_id, message.header.unwrap_or_default().revision);
        if message.created {
            output.push_str(" created");
        }
        if message.canceled {
            let _ = write!(output, " canceled {}", message.cancel_reason);
        }
        if message.compact_revision != 0 {
            let _ = write!(output, "compact revision {}", message.compact_revision);
        }
        for event in &message.events {
            show_event(event, output);
        }
        if message.fragment {
            output.push_str(" (more fragments)");
        }
        let is_empty = !message.created && !message.canceled && message.events.is_empty();
        output.push_str(if is_empty { " progress\n" } else { "\n" });
        while output.ends_with(" \n") {
            output.truncate(output.len() - 2);
            output.push('\n');
        }
    });
}

fn show_event(event: &Event, output: &mut String) {
    let kv = event.kv.clone().unwrap_or_default();
    let text = |value: &[u8]| match value.len() {
        0..100 => String::from_utf8_lossy(value).into_owned(),
        long => format!("({long} bytes)"),
    };
    let _ = match event.r#type() {
        EventType::Put => write!(output, " put {}={}@{}", text(&kv.key), text(&kv.value), kv.mod_revision),
        EventType::Delete => write!(output, " delete {}@{}", text(&kv.key), kv.mod_revision),
    };
    if let Some(previous) = &event.prev_kv {
        let _ = write!(output, " (was {})", text(&previous.value));
    }
}

#[test]
fn scripts() {
    script_tests::run("watch", Core::default);
}
