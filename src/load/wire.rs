//! The client's side of one HTTP/2 connection with gRPC bodies: bytes in, bytes out, no sockets.
//!
//! A load generator that shares two cores with the server it measures must cost little. So input is decoded only for the caller:
//! headers are never decoded, a body is passed as a slice of the receive buffer. The success of a unary call is known
//! without headers: gRPC sends a message for success and none for a refusal.
//!
//! 1. What is sent respects the windows and the number of streams that the server grants; what does not fit waits.
//! 2. Request headers go through the dynamic table, as ordinary clients send them: a few bytes per request.
//! 3. Windows for what is received are granted back at a quarter, or not at all ([`Windows::grant`]).

use std::{borrow::Cow, collections::VecDeque};

use ahash::AHashMap;
use prost::Message;
use thiserror::Error;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;
/// The largest frame that any peer accepts.
const FRAME_BYTES_MAX: usize = 16_384;
const WINDOW_DEFAULT: u32 = 65_535;
const TABLE_BYTES: u32 = 4096;
const TABLE_ENTRIES_STATIC: usize = 61;
/// A longer header is not kept in the table, which all others fit into.
const TABLE_TEXT_BYTES_MAX: usize = 2048;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

const SETTING_TABLE_SIZE: u16 = 1;
const SETTING_PUSH: u16 = 2;
const SETTING_STREAMS_MAX: u16 = 3;
const SETTING_WINDOW: u16 = 4;

const CANCEL: u32 = 8;

#[derive(Debug, Error)]
pub enum WireError {
    #[error("the server sent a malformed frame of type {0}")]
    Malformed(u8),
    #[error("the server wants a header table of {0} bytes, less than every server offers")]
    SmallTable(u32),
    #[error("the server says goodbye with code {0}")]
    Goodbye(u32),
}

/// How much the server may send ahead.
#[derive(Clone, Copy)]
pub struct Windows {
    pub stream: u32,
    pub connection: u32,
    /// Whether what was received is granted again. Without, a stream stalls when its window is used up, as the
    /// stream of an application that does not read does.
    pub grant: bool,
}

/// An event on a stream.
pub enum Event<'a> {
    /// A piece of the body, gRPC prefixes included.
    Data { stream: u32, bytes: &'a [u8] },
    /// The server has ended the stream.
    End { stream: u32 },
    /// The connection is closed.
    Closed { reason: String },
}

pub struct Wire {
    /// Bytes for the socket, taken by the owner.
    pub output: Vec<u8>,
    windows: Windows,
    streams: AHashMap<u32, Stream>,
    stream_next: u32,
    streams_max: usize,
    send_window: i64,
    stream_send_window: i64,
    received: u32,
    /// Streams with bytes that no window took.
    blocked: VecDeque<u32>,
    /// The dynamic header table, oldest entry first.
    table: Vec<(&'static str, Cow<'static, str>)>,
    /// Of the user, in the headers of each call.
    token: Option<String>,
    settled: bool,
}

struct Stream {
    send_window: i64,
    received: u32,
    waiting: VecDeque<u8>,
    /// END_STREAM follows the waiting bytes.
    end: bool,
}

struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl Wire {
    pub fn new(windows: Windows) -> Wire {
        let mut wire = Wire {
            output: PREFACE.to_vec(),
            windows,
            streams: AHashMap::new(),
            stream_next: 1,
            streams_max: usize::MAX,
            send_window: i64::from(WINDOW_DEFAULT),
            stream_send_window: i64::from(WINDOW_DEFAULT),
            received: 0,
            blocked: VecDeque::new(),
            table: Vec::new(),
            token: None,
            settled: false,
        };
        wire.head(SETTINGS, 0, 0, 12);
        wire.setting(SETTING_PUSH, 0);
        wire.setting(SETTING_WINDOW, windows.stream);
        if windows.connection > WINDOW_DEFAULT {
            wire.window_update(0, windows.connection - WINDOW_DEFAULT);
        }
        wire
    }

    /// Whether the server's settings are known.
    pub fn settled(&self) -> bool {
        self.settled
    }

    /// Whether the server takes one more stream.
    pub fn has_room(&self) -> bool {
        self.streams.len() < self.streams_max
    }

    /// A call with its first message; `last` if it is the only one. Gives the number of the stream.
    pub fn call(&mut self, path: &'static str, message: &impl Message, last: bool) -> u32 {
        assert!(self.has_room(), "the caller asks before");
        let number = self.stream_next;
        self.stream_next += 2;
        let (waiting, received) = (VecDeque::new(), 0);
        let stream = Stream { send_window: self.stream_send_window, received, waiting, end: false };
        self.streams.insert(number, stream);
        let at = self.output.len();
        self.head(HEADERS, END_HEADERS, number, 0);
        self.output.extend([0x83, 0x86]); // POST, http
        for (name, value) in [
            (":authority", "127.0.0.1"),
            (":path", path),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "ringbench"),
        ] {
            self.header(name, Cow::Borrowed(value));
        }
        if let Some(token) = self.token.take() {
            self.header("token", Cow::Borrowed(&token));
            self.token = Some(token);
        }
        let length = self.output.len() - at - HEAD_BYTES;
        self.output[at..at + 3].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
        self.send(number, message, last);
        number
    }

    /// A message on an open stream. On one that the server has ended, nothing.
    pub fn send(&mut self, number: u32, message: &impl Message, last: bool) {
        let length = message.encoded_len();
        let framed = 5 + length;
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let room = stream.send_window.min(self.send_window);
        if stream.waiting.is_empty() && framed <= FRAME_BYTES_MAX && framed as i64 <= room {
            stream.send_window -= framed as i64;
            self.send_window -= framed as i64;
            self.head(DATA, if last { END_STREAM } else { 0 }, number, framed);
            self.output.push(0);
            self.output.extend((length as u32).to_be_bytes());
            message.encode(&mut self.output).expect("a vector grows");
            return;
        }
        if stream.waiting.is_empty() {
            self.blocked.push_back(number);
        }
        stream.waiting.push_back(0);
        stream.waiting.extend((length as u32).to_be_bytes());
        stream.waiting.extend(message.encode_to_vec());
        stream.end = last;
        self.send_blocked();
    }

    /// Cancels a stream. Later frames on it are ignored.
    pub fn cancel(&mut self, number: u32) {
        if self.streams.remove(&number).is_some() {
            self.head(RST_STREAM, 0, number, 4);
            self.output.extend(CANCEL.to_be_bytes());
        }
    }

    /// Processes bytes of the socket; returns how many were used.
    pub fn receive<E: From<WireError>>(
        &mut self,
        input: &[u8],
        handler: &mut dyn FnMut(&mut Wire, Event<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut at = 0;
        while let Some(frame) = frame_at(&input[at..]) {
            at += HEAD_BYTES + frame.payload.len();
            self.on_frame(&frame, handler)?;
        }
        Ok(at)
    }

    fn on_frame<E: From<WireError>>(
        &mut self,
        frame: &Frame<'_>,
        handler: &mut dyn FnMut(&mut Wire, Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (stream, payload) = (frame.stream, frame.payload);
        match frame.kind {
            DATA => {
                let bytes = body(frame)?;
                self.on_received(stream, payload.len() as u32);
                if !bytes.is_empty() && self.streams.contains_key(&stream) {
                    handler(self, Event::Data { stream, bytes })?;
                }
                self.on_end(frame, handler)
            }
            HEADERS => self.on_end(frame, handler),
            RST_STREAM => match self.streams.remove(&stream) {
                Some(_) => handler(self, Event::End { stream }),
                None => Ok(()),
            },
            SETTINGS if frame.flags & ACK == 0 => Ok(self.on_settings(payload)?),
            PING if frame.flags & ACK == 0 => {
                self.head(PING, ACK, 0, payload.len());
                self.output.extend(payload);
                Ok(())
            }
            GOAWAY => Err(WireError::Goodbye(number_at(frame, 4)?).into()),
            WINDOW_UPDATE => {
                let more = i64::from(number_at(frame, 0)?);
                match self.streams.get_mut(&stream) {
                    _ if stream == 0 => self.send_window += more,
                    Some(stream) => stream.send_window += more,
                    None => {}
                }
                self.send_blocked();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn on_end<E: From<WireError>>(
        &mut self,
        frame: &Frame<'_>,
        handler: &mut dyn FnMut(&mut Wire, Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let stream = frame.stream;
        if frame.flags & END_STREAM != 0 && self.streams.remove(&stream).is_some() {
            handler(self, Event::End { stream })?;
        }
        Ok(())
    }

    fn on_settings(&mut self, payload: &[u8]) -> Result<(), WireError> {
        for setting in payload.chunks_exact(6) {
            let name = u16::from_be_bytes([setting[0], setting[1]]);
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            match name {
                SETTING_TABLE_SIZE if value < TABLE_BYTES => return Err(WireError::SmallTable(value)),
                SETTING_STREAMS_MAX => self.streams_max = value as usize,
                SETTING_WINDOW => {
                    let change = i64::from(value) - self.stream_send_window;
                    self.stream_send_window = i64::from(value);
                    self.streams.values_mut().for_each(|stream| stream.send_window += change);
                }
                _ => {}
            }
        }
        self.head(SETTINGS, ACK, 0, 0);
        self.settled = true;
        self.send_blocked();
        Ok(())
    }

    fn on_received(&mut self, number: u32, length: u32) {
        if !self.windows.grant {
            return;
        }
        self.received += length;
        if self.received >= self.windows.connection.max(WINDOW_DEFAULT) / 4 {
            self.window_update(0, self.received);
            self.received = 0;
        }
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.received += length;
        if stream.received >= self.windows.stream / 4 {
            let received = std::mem::take(&mut stream.received);
            self.window_update(number, received);
        }
    }

    fn send_blocked(&mut self) {
        for _ in 0..self.blocked.len() {
            let Some(number) = self.blocked.pop_front() else { return };
            while let Some(stream) = self.streams.get_mut(&number) {
                let room = stream.send_window.min(self.send_window).max(0) as usize;
                let length = stream.waiting.len().min(room).min(FRAME_BYTES_MAX);
                if length == 0 {
                    self.blocked.push_back(number);
                    break;
                }
                stream.send_window -= length as i64;
                self.send_window -= length as i64;
                let piece: Vec<u8> = stream.waiting.drain(..length).collect();
                let done = stream.waiting.is_empty();
                let flags = if done && stream.end { END_STREAM } else { 0 };
                self.head(DATA, flags, number, length);
                self.output.extend(piece);
                if done {
                    break;
                }
            }
        }
    }

    fn head(&mut self, kind: u8, flags: u8, stream: u32, length: usize) {
        self.output.extend(&(length as u32).to_be_bytes()[1..]);
        self.output.extend([kind, flags]);
        self.output.extend(stream.to_be_bytes());
    }

    fn setting(&mut self, name: u16, value: u32) {
        self.output.extend(name.to_be_bytes());
        self.output.extend(value.to_be_bytes());
    }

    fn window_update(&mut self, stream: u32, more: u32) {
        self.head(WINDOW_UPDATE, 0, stream, 4);
        self.output.extend(more.to_be_bytes());
    }

    /// The calls from now on are those of a user.
    pub fn set_token(&mut self, token: &str) {
        self.token = Some(token.to_owned());
    }

    /// RFC 7541, 6.1, 6.2.1 and for what does not fit into the table 6.2.2.
    fn header(&mut self, name: &'static str, value: Cow<'_, str>) {
        if let Some(position) = self.table.iter().position(|entry| entry.0 == name && entry.1 == value) {
            let index = TABLE_ENTRIES_STATIC + self.table.len() - position;
            self.output.push(0x80 | index as u8);
            return;
        }
        let is_kept = name.len() + value.len() <= TABLE_TEXT_BYTES_MAX;
        self.output.push(if is_kept { 0x40 } else { 0 });
        for text in [name, &value] {
            self.length(text.len());
            self.output.extend(text.as_bytes());
        }
        if is_kept {
            self.table.push((name, Cow::Owned(value.into_owned())));
        }
        assert!(self.table.len() <= 16, "few paths per connection");
    }

    /// The length of a text that is not compressed: RFC 7541, 5.1 with a prefix of 7 bits.
    fn length(&mut self, length: usize) {
        if length < 127 {
            self.output.push(length as u8);
            return;
        }
        self.output.push(127);
        let mut rest = length - 127;
        while rest >= 128 {
            self.output.push((rest % 128) as u8 | 0x80);
            rest /= 128;
        }
        self.output.push(rest as u8);
    }
}

fn frame_at(input: &[u8]) -> Option<Frame<'_>> {
    let (head, rest) = input.split_first_chunk::<HEAD_BYTES>()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
    Some(Frame { kind: head[3], flags: head[4], stream, payload: rest.get(..length)? })
}

/// The payload of a DATA frame without its padding.
fn body<'a>(frame: &Frame<'a>) -> Result<&'a [u8], WireError> {
    if frame.flags & PADDED == 0 {
        return Ok(frame.payload);
    }
    let (&padding, rest) = frame.payload.split_first().ok_or(WireError::Malformed(DATA))?;
    let length = rest.len().checked_sub(usize::from(padding)).ok_or(WireError::Malformed(DATA))?;
    Ok(&rest[..length])
}

fn number_at(frame: &Frame<'_>, at: usize) -> Result<u32, WireError> {
    let bytes = frame.payload.get(at..).and_then(|rest| rest.first_chunk::<4>());
    bytes.map(|bytes| u32::from_be_bytes(*bytes)).ok_or(WireError::Malformed(frame.kind))
}
