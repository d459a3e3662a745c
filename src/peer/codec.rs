//! The two framings of streams, sans I/O. All numbers are big-endian.
//!
//! `message`, for everything:
//!
//! | bytes | meaning |
//! |---|---|
//! | 8 | length of the message |
//! | length | the message, protobuf |
//!
//! `msgappv2`, for appends; the first byte is the kind:
//!
//! | kind | then | meaning |
//! |---|---|---|
//! | 0 | | the stream's heartbeat |
//! | 1 | 8: count; per entry 8: length, then the entry; 8: commit | an append that continues the one before it |
//! | 2 | 8: length, then the message | any append |
//!
//! An append continues the one before it if it begins where that one ended and if term and log term are the term of the last
//! append of kind 2. Both sides keep that term and index, so kind 1 names neither, nor the two members.
//!
//! A decoder takes bytes as they come and never allocates for bytes that have not come.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message as _;

use crate::{
    base::limits::PEER_MESSAGE_BYTES_MAX,
    proto::raftpb::{Entry, Message, MessageType},
};

/// What comes first in a frame of `msgappv2`.
const KIND_HEARTBEAT: u8 = 0;
const KIND_CONTINUED: u8 = 1;
const KIND_WHOLE: u8 = 2;

const LENGTH_BYTES: usize = 8;

/// A stream of one framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Appends,
    Messages,
}

impl Framing {
    /// The path of its streams, without the member that asks.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Appends => "/raft/stream/msgapp",
            Self::Messages => "/raft/stream/message",
        }
    }

    /// As etcd's lines name it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Appends => "stream MsgApp v2",
            Self::Messages => "stream Message",
        }
    }
}

/// The bytes are not what the framing says.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadFrame {
    #[error("failed to parse type {0} in msgappv2 stream")]
    Kind(u8),
    #[error("rafthttp: error limit exceeded")]
    TooLong,
    #[error("{0}")]
    Message(#[from] prost::DecodeError),
}

/// The heartbeat of a stream, which Raft never sees.
pub(super) fn link_heartbeat() -> Message {
    Message { r#type: Some(MessageType::MsgHeartbeat as i32), ..Message::default() }
}

/// Raft's own heartbeats name their members.
pub(super) fn is_link_heartbeat(message: &Message) -> bool {
    message.r#type() == MessageType::MsgHeartbeat && message.from() == 0 && message.to() == 0
}

/// Encodes the messages of one stream.
#[derive(Debug)]
pub(super) enum Encoder {
    Messages,
    Appends { term: u64, index: u64 },
}

impl Encoder {
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Messages => Self::Messages,
            Framing::Appends => Self::Appends { term: 0, index: 0 },
        }
    }

    /// Appends `message` to `out`.
    pub(super) fn encode(&mut self, message: &Message, out: &mut BytesMut) {
        match self {
            Self::Messages => put_message(message, out),
            Self::Appends { .. } if is_link_heartbeat(message) => out.put_u8(KIND_HEARTBEAT),
            Self::Appends { term, index }
                if *index == message.index() && *term == message.log_term() && *term == message.term() =>
            {
                out.put_u8(KIND_CONTINUED);
                out.put_u64(message.entries.len() as u64);
                for entry in &message.entries {
                    put_length(entry.encoded_len(), out);
                    put(entry, out);
                }
                out.put_u64(message.commit());
                *index += message.entries.len() as u64;
            }
            Self::Appends { term, index } => {
                out.put_u8(KIND_WHOLE);
                put_message(message, out);
                (*term, *index) = end_of(message);
            }
        }
    }
}

/// Appends `message` and its length to `out`.
pub(super) fn put_message(message: &Message, out: &mut BytesMut) {
    put_length(message.encoded_len(), out);
    put(message, out);
}

fn put_length(length: usize, out: &mut BytesMut) {
    out.reserve(LENGTH_BYTES + length);
    out.put_u64(length as u64);
}

fn put(message: &impl prost::Message, out: &mut BytesMut) {
    message.encode(out).expect("a BytesMut grows");
}

/// Term and last index after an append.
fn end_of(message: &Message) -> (u64, u64) {
    (message.term(), message.entries.last().map_or(message.index(), Entry::index))
}

/// Decodes the messages of one stream.
#[derive(Debug)]
pub(super) struct Decoder {
    bytes: BytesMut,
    state: State,
    length_max: u64,
    appends: Option<Appends>,
}

/// What comes next.
#[derive(Debug)]
enum State {
    Kind,
    Length,
    Message { length: usize },
    Count,
    EntryLength(Continued),
    Entry(Continued, usize),
    Commit(Continued),
}

/// A frame of kind 1 that has not come whole.
#[derive(Debug, Default)]
struct Continued {
    entries_left: u64,
    entries: Vec<Entry>,
    bytes: u64,
}

/// What the frames before have said of the next append.
#[derive(Debug)]
struct Appends {
    term: u64,
    index: u64,
    from: u64,
    to: u64,
}

impl Decoder {
    /// For a stream from member `from` to member `to`.
    pub(super) fn new(framing: Framing, from: u64, to: u64) -> Self {
        let appends = (framing == Framing::Appends).then_some(Appends { term: 0, index: 0, from, to });
        Self { bytes: BytesMut::new(), state: first(appends.is_some()), length_max: PEER_MESSAGE_BYTES_MAX, appends }
    }

    /// For messages up to `length_max`.
    pub(super) fn of_messages(length_max: u64) -> Self {
        Self { bytes: BytesMut::new(), state: State::Length, length_max, appends: None }
    }

    /// Takes the next bytes of the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, if it has come whole. After an error the stream makes no sense any more.
    pub(super) fn next_message(&mut self) -> Result<Option<Message>, BadFrame> {
        loop {
            let state = std::mem::replace(&mut self.state, first(self.appends.is_some()));
            match self.step(state)? {
                Step::Done(message) => return Ok(Some(message)),
                Step::On(state) => self.state = state,
                Step::Short(state) => {
                    self.state = state;
                    return Ok(None);
                }
            }
        }
    }

    /// What came after the last message.
    pub(super) fn into_rest(self) -> Bytes {
        self.bytes.freeze()
    }

    fn step(&mut self, state: State) -> Result<Step, BadFrame> {
        if self.bytes.len() < wanted(&state) {
            return Ok(Step::Short(state));
        }
        Ok(match state {
            State::Kind => match self.bytes.get_u8() {
                KIND_HEARTBEAT => Step::Done(link_heartbeat()),
                KIND_CONTINUED => Step::On(State::Count),
                KIND_WHOLE => Step::On(State::Length),
                kind => return Err(BadFrame::Kind(kind)),
            },
            State::Length => Step::On(State::Message { length: self.length()? }),
            State::Message { length } => Step::Done(self.message(length)?),
            State::Count => {
                let entries_left = self.bytes.get_u64();
                Step::On(next_entry(Continued { entries_left, ..Continued::default() }))
            }
            State::EntryLength(mut continued) => {
                let length = self.length()?;
                continued.bytes += (LENGTH_BYTES + length) as u64;
                if continued.bytes > self.length_max {
                    return Err(BadFrame::TooLong);
                }
                Step::On(State::Entry(continued, length))
            }
            State::Entry(mut continued, length) => {
                continued.entries.push(Entry::decode(self.bytes.split_to(length).freeze())?);
                continued.entries_left -= 1;
                Step::On(next_entry(continued))
            }
            State::Commit(continued) => Step::Done(self.continued(continued.entries)),
        })
    }

    fn length(&mut self) -> Result<usize, BadFrame> {
        let length = self.bytes.get_u64();
        if length > self.length_max {
            return Err(BadFrame::TooLong);
        }
        usize::try_from(length).map_err(|_| BadFrame::TooLong)
    }

    fn message(&mut self, length: usize) -> Result<Message, BadFrame> {
        let message = Message::decode(self.bytes.split_to(length).freeze())?;
        if let Some(appends) = &mut self.appends {
            (appends.term, appends.index) = end_of(&message);
        }
        Ok(message)
    }

    /// An append of kind 1, with what its frame leaves out.
    fn continued(&mut self, entries: Vec<Entry>) -> Message {
        let commit = self.bytes.get_u64();
        let appends = self.appends.as_mut().expect("only this framing has such frames");
        let index = appends.index;
        appends.index = index.wrapping_add(entries.len() as u64);
        Message {
            r#type: Some(MessageType::MsgApp as i32),
            from: Some(appends.from),
            to: Some(appends.to),
            term: Some(appends.term),
            log_term: Some(appends.term),
            index: Some(index),
            entries,
            commit: Some(commit),
            ..Message::default()
        }
    }
}

// A step is moved once; a box would cost an allocation per message.
#[allow(clippy::large_enum_variant)]
enum Step {
    Done(Message),
    On(State),
    /// The bytes for this have not come.
    Short(State),
}

fn first(has_kinds: bool) -> State {
    if has_kinds { State::Kind } else { State::Length }
}

fn next_entry(continued: Continued) -> State {
    if continued.entries_left == 0 { State::Commit(continued) } else { State::EntryLength(continued) }
}

/// How many bytes must have come.
fn wanted(state: &State) -> usize {
    match state {
        State::Kind => 1,
        State::Length | State::Count | State::EntryLength(_) | State::Commit(_) => LENGTH_BYTES,
        State::Message { length } | State::Entry(_, length) => *length,
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
