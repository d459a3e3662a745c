//! A client's bytes on their way to h2: header blocks are removed and checked here, everything else passes unchanged.
//!
//! ```text
//! socket --> Intake --frames, every header block replaced by [`STAND_IN`]--> h2 --requests--> connection
//!              |                                                                                   ^
//!              \--heads, by stream------------------------------------------------------------------/
//! ```
//!
//! h2 serves what HTTP/2 and URIs allow; grpc-go serves more (an authority may be any text, a path need not begin with a slash),
//! and it ends streams, or does nothing, where h2 ends connections. So h2 gets the same valid request in place of each head,
//! accepts the stream, and the connection answers it by the head that was decoded here, possibly with a reset.
//!
//! Invariants
//! 1. The client's HPACK table is kept here alone. [`STAND_IN`] refers to fixed fields only, so h2's table stays empty.
//! 2. One frame with one block goes to h2 for each head, however many frames it came in; its stream and END_STREAM are the client's.
//! 3. Heads are queued in the order of their streams, and so are h2's requests. A head whose request never comes (h2 refused
//!    the stream, or ignores it) is dropped with the next one, or when h2 has nothing left to read.
//! 4. Equal blocks that refer to an unchanged table have equal fields, and share one head.
//! 5. Only faults that leave the two sides with different tables or frame boundaries end the connection: see [`Intake::broken`].
//! 6. A head under way holds one field of at most HEADER_LITERAL_BYTES_MAX and HEADER_LIST_BYTES_MAX of fields; the heads of a
//!    connection together hold HEADER_LISTS_PER_CONNECTION_BYTES_MAX.
//!
//! Cost per request of a client that repeats its heads: a comparison of the block with those kept, no allocation.

use std::{cell::Cell, collections::VecDeque, mem, rc::Rc};

use h2::Reason;
use smallvec::SmallVec;
use tokio::io::ReadBuf;

use super::{
    head::{Fields, Head},
    hpack::Decoder,
};
use crate::base::limits::{
    HEADER_BLOCK_KEPT_BYTES_MAX, HEADER_LIST_BYTES_DISCARDED_MAX, HEADER_LIST_KEPT_BYTES_MAX, HEADER_LISTS_KEPT,
};

const PREFACE_BYTES: usize = 24;
const FRAME_HEAD_BYTES: usize = 9;
/// The smallest limit that a receiver may have, and the limit of this one.
const FRAME_BYTES_MAX: usize = 16_384;
const PRIORITY_BYTES: usize = 5;
const INCREMENT_BYTES: usize = 4;
const GOAWAY_BYTES_MIN: usize = 8;
const TYPE_HEADERS: u8 = 1;
const TYPE_PING: u8 = 6;
const TYPE_GOAWAY: u8 = 7;
const TYPE_WINDOW_UPDATE: u8 = 8;
const TYPE_CONTINUATION: u8 = 9;
const FLAG_ACK: u8 = 1;
const FLAG_END_STREAM: u8 = 1;
const FLAG_END_HEADERS: u8 = 4;
const FLAG_PADDED: u8 = 8;
const FLAG_PRIORITY: u8 = 0x20;

/// `:method: POST`, `:scheme: http`, `:path: /` as three fixed fields of HPACK.
const STAND_IN: [u8; 3] = [0x83, 0x86, 0x84];

/// The client's side of one connection.
pub(super) struct Intake {
    /// Bytes that pass before the next frame head.
    pass: usize,
    /// The frame head under way.
    frame_head: [u8; FRAME_HEAD_BYTES],
    frame_head_filled: usize,
    /// The frame under way, if it is needed as a whole, and the part of it that has arrived.
    frame: Option<FrameHead>,
    payload: Vec<u8>,
    /// The head under way.
    block: Option<Block>,
    decoder: Decoder,
    kept: Kept,
    heads: VecDeque<(u32, Rc<Head>)>,
    /// Bytes of all heads that are alive.
    held: Rc<Cell<usize>>,
    /// Written for h2, and not read by it yet.
    ready: SmallVec<[u8; 16]>,
    /// h2 has read all bytes and asked for more.
    drained: bool,
    broken: Option<Reason>,
    /// Pings (not answers to ours) seen since the last [`Intake::take_pings`].
    pings: u32,
    /// Highest stream seen.
    pub last_stream: u32,
}

/// An incomplete head.
struct Block {
    stream: u32,
    end_stream: bool,
    fields: Fields,
    /// An incomplete field.
    rest: Vec<u8>,
}

#[derive(Clone, Copy)]
struct FrameHead {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl FrameHead {
    fn read(bytes: [u8; FRAME_HEAD_BYTES]) -> FrameHead {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        FrameHead {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }

    fn is_increment(self) -> bool {
        self.kind == TYPE_WINDOW_UPDATE && self.stream > 0 && self.length == INCREMENT_BYTES
    }

    fn is_goaway(self) -> bool {
        let lengths = GOAWAY_BYTES_MIN..=FRAME_BYTES_MAX;
        self.kind == TYPE_GOAWAY && self.stream == 0 && lengths.contains(&self.length)
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl Intake {
    pub(super) fn new() -> Intake {
        Intake {
            pass: PREFACE_BYTES,
            frame_head: [0; FRAME_HEAD_BYTES],
            frame_head_filled: 0,
            frame: None,
            payload: Vec::new(),
            block: None,
            decoder: Decoder::new(),
            kept: Kept::default(),
            heads: VecDeque::new(),
            held: Rc::default(),
            ready: SmallVec::new(),
            drained: true,
            broken: None,
            pings: 0,
            last_stream: 0,
        }
    }

    /// Moves bytes to h2. Returns how many of `input` were used: all, unless `into` is full or the connection is broken.
    pub(super) fn pass(&mut self, input: &[u8], into: &mut ReadBuf<'_>) -> usize {
        let mut used = 0;
        loop {
            let count = self.ready.len().min(into.remaining());
            if count > 0 {
                into.put_slice(&self.ready[..count]);
                match count == self.ready.len() {
                    true => self.ready.clear(),
                    false => drop(self.ready.drain(..count)),
                }
                self.drained = false;
            }
            let rest = &input[used..];
            if rest.is_empty() || into.remaining() == 0 || self.broken.is_some() {
                return used;
            }
            used += match self.frame {
                Some(frame) => self.take_payload(frame, rest),
                None if self.pass > 0 => self.pass_on(rest, into),
                None => self.take_frame_head(rest),
            };
        }
    }

    /// h2 asked for bytes, and there were none.
    pub(super) fn on_drained(&mut self) {
        self.drained = true;
    }

    /// h2 has no more requests now.
    pub(super) fn on_all_accepted(&mut self) {
        if self.drained {
            self.heads.clear();
        }
    }

    /// The head of a request that h2 returned.
    pub(super) fn head(&mut self, stream: u32) -> Option<Rc<Head>> {
        while let Some((number, head)) = self.heads.pop_front() {
            if number == stream {
                return Some(head);
            }
        }
        None
    }

    /// The reason with which the connection must be closed, if no bytes pass any more.
    pub(super) fn broken(&self) -> Option<Reason> {
        self.broken
    }

    pub(super) fn take_pings(&mut self) -> u32 {
        mem::take(&mut self.pings)
    }

    /// Part of the preface, or of a frame that h2 reads itself.
    fn pass_on(&mut self, input: &[u8], into: &mut ReadBuf<'_>) -> usize {
        let count = self.pass.min(input.len()).min(into.remaining());
        into.put_slice(&input[..count]);
        self.drained = false;
        self.pass -= count;
        count
    }

    fn take_frame_head(&mut self, input: &[u8]) -> usize {
        let count = (FRAME_HEAD_BYTES - self.frame_head_filled).min(input.len());
        let filled = self.frame_head_filled + count;
        self.frame_head[self.frame_head_filled..filled].copy_from_slice(&input[..count]);
        self.frame_head_filled = filled;
        if filled == FRAME_HEAD_BYTES {
            self.frame_head_filled = 0;
            self.on_frame_head(FrameHead::read(self.frame_head));
        }
        count
    }

    fn on_frame_head(&mut self, frame: FrameHead) {
        let continues = frame.kind == TYPE_CONTINUATION && self.block.is_some();
        if self.block.as_ref().is_some_and(|block| !continues || block.stream != frame.stream) {
            // No other frame may come between the frames of a head.
            self.broken = Some(Reason::PROTOCOL_ERROR);
        } else if frame.is_increment() || frame.is_goaway() {
            self.frame = Some(frame);
        } else if !continues && frame.kind != TYPE_HEADERS {
            self.pings += u32::from(frame.kind == TYPE_PING && !frame.has(FLAG_ACK));
            self.ready.extend_from_slice(&self.frame_head);
            self.pass = frame.length;
        } else if frame.length > FRAME_BYTES_MAX {
            self.broken = Some(Reason::FRAME_SIZE_ERROR);
        } else if frame.length == 0 {
            self.on_frame(frame, b"");
        } else {
            self.frame = Some(frame);
        }
    }

    fn take_payload(&mut self, frame: FrameHead, input: &[u8]) -> usize {
        if self.payload.is_empty() && input.len() >= frame.length {
            self.frame = None;
            self.on_frame(frame, &input[..frame.length]);
            return frame.length;
        }
        let count = (frame.length - self.payload.len()).min(input.len());
        self.payload.extend_from_slice(&input[..count]);
        if self.payload.len() == frame.length {
            self.frame = None;
            let payload = mem::take(&mut self.payload);
            self.on_frame(frame, &payload);
        }
        count
    }

    /// A whole frame: part of a head, an increment of a stream's window, or a GOAWAY.
    fn on_frame(&mut self, frame: FrameHead, payload: &[u8]) {
        if frame.is_goaway() {
            // h2 would close the connection; grpc-go waits until the client does.
            return;
        }
        if frame.is_increment() {
            // h2 would end the connection for an increment of zero.
            let is_nothing = payload[0] & 0x7f == 0 && payload[1..].iter().all(|byte| *byte == 0);
            if !is_nothing {
                self.ready.extend_from_slice(&self.frame_head);
                self.ready.extend_from_slice(payload);
            }
            return;
        }
        let ends = frame.has(FLAG_END_HEADERS);
        if let Some(block) = self.block.take() {
            return self.on_fragment(block, payload, ends);
        }
        let end_stream = frame.has(FLAG_END_STREAM);
        let fragment = match fragment(frame, payload) {
            Ok(Some(fragment)) => fragment,
            // Like grpc-go, without decoding the block.
            Ok(None) => {
                let block = Block { stream: frame.stream, end_stream, fields: Fields::invalid(), rest: Vec::new() };
                return self.on_fragment(block, b"", ends);
            }
            Err(reason) => return self.broken = Some(reason),
        };
        let changes = self.decoder.changes();
        if ends && let Some(head) = self.kept.find(fragment, changes) {
            return self.on_head(frame.stream, end_stream, head);
        }
        let block = Block { stream: frame.stream, end_stream, fields: Fields::default(), rest: Vec::new() };
        let opens = frame.stream > self.last_stream;
        self.on_fragment(block, fragment, ends);
        if opens
            && self.decoder.changes() == changes
            && let Some((stream, head)) = self.heads.back()
            && *stream == frame.stream
        {
            self.kept.keep(fragment, head);
        }
    }

    /// The next bytes of a block.
    fn on_fragment(&mut self, mut block: Block, fragment: &[u8], ends: bool) {
        let fields = &mut block.fields;
        let decoded = if block.rest.is_empty() {
            let decoded = self.decoder.decode(fragment, |name, value| fields.add(name, value));
            decoded.inspect(|used| block.rest.extend_from_slice(&fragment[*used..]))
        } else {
            block.rest.extend_from_slice(fragment);
            let decoded = self.decoder.decode(&block.rest, |name, value| fields.add(name, value));
            decoded.inspect(|used| drop(block.rest.drain(..*used)))
        };
        if decoded.is_err() || ends && !block.rest.is_empty() {
            self.broken = Some(Reason::COMPRESSION_ERROR);
        } else if block.fields.size_bytes > HEADER_LIST_BYTES_DISCARDED_MAX {
            self.broken = Some(Reason::ENHANCE_YOUR_CALM);
        } else if ends {
            self.decoder.end();
            let head = Rc::new(Head::new(block.fields, &self.held));
            self.on_head(block.stream, block.end_stream, head);
        } else {
            self.block = Some(block);
        }
    }

    /// Replaces the frames of a head by a frame with one block. The fields of trailers are not needed.
    fn on_head(&mut self, stream: u32, end_stream: bool, head: Rc<Head>) {
        let opens = stream > self.last_stream;
        let block = if opens { &STAND_IN[..] } else { &[] };
        let flags = FLAG_END_HEADERS | if end_stream { FLAG_END_STREAM } else { 0 };
        self.ready.extend_from_slice(&[0, 0, block.len() as u8, TYPE_HEADERS, flags]);
        self.ready.extend_from_slice(&stream.to_be_bytes());
        self.ready.extend_from_slice(block);
        if opens {
            self.last_stream = stream;
            self.heads.push_back((stream, head));
        }
    }
}

/// A HEADERS frame's part of the block, without padding and priority; `None` if the padding takes more than there is.
fn fragment(frame: FrameHead, payload: &[u8]) -> Result<Option<&[u8]>, Reason> {
    let mut rest = payload;
    let mut padding = 0;
    if frame.has(FLAG_PADDED) {
        let (first, after) = rest.split_first().ok_or(Reason::FRAME_SIZE_ERROR)?;
        (padding, rest) = (usize::from(*first), after);
    }
    if frame.has(FLAG_PRIORITY) {
        rest = rest.get(PRIORITY_BYTES..).ok_or(Reason::FRAME_SIZE_ERROR)?;
    }
    Ok(rest.len().checked_sub(padding).map(|length| &rest[..length]))
}

/// The last few blocks that only refer to the table, as it was after `changes` changes.
#[derive(Default)]
struct Kept {
    changes: u64,
    heads: SmallVec<[KeptHead; HEADER_LISTS_KEPT]>,
    /// The index that is replaced next.
    oldest: usize,
}

struct KeptHead {
    block: Box<[u8]>,
    head: Rc<Head>,
}

impl Kept {
    fn find(&mut self, block: &[u8], changes: u64) -> Option<Rc<Head>> {
        if self.changes != changes {
            self.changes = changes;
            self.heads.clear();
        }
        self.heads.iter().find(|kept| *kept.block == *block).map(|kept| kept.head.clone())
    }

    fn keep(&mut self, block: &[u8], head: &Rc<Head>) {
        if block.len() > HEADER_BLOCK_KEPT_BYTES_MAX || head.size_bytes() > HEADER_LIST_KEPT_BYTES_MAX {
            return;
        }
        let entry = KeptHead { block: block.into(), head: head.clone() };
        if self.heads.len() < HEADER_LISTS_KEPT {
            self.heads.push(entry);
        } else {
            self.heads[self.oldest] = entry;
            self.oldest = (self.oldest + 1) % HEADER_LISTS_KEPT;
        }
    }
}

#[cfg(test)]
mod tests;
