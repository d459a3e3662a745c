//! An HTTP/2 client without a library: it sends given frames and reports the answer, frame by frame.

use std::{collections::BTreeMap, mem, time::Duration};

use ringd::rpc::hpack::Decoder;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::grpc::PATIENCE;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types of HTTP/2 (RFC 9113, section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const PRIORITIZED: u8 = 0x20;

/// What every server must take.
const FRAME_BYTES_MAX: usize = 16_384;
const FRAME_HEAD_BYTES: usize = 9;

/// The server's frames on one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// One entry per block: its fields in order.
    pub blocks: Vec<Vec<(String, String)>>,
    pub data: Vec<u8>,
    pub ended: bool,
    /// The code of a reset.
    pub reset: Option<u32>,
}

impl Heard {
    fn is_over(&self) -> bool {
        self.ended || self.reset.is_some()
    }
}

/// The server's frames on one connection.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    pub streams: BTreeMap<u32, Heard>,
    /// Code and text of a GOAWAY.
    pub goaway: Option<(u32, String)>,
    pub closed: bool,
    /// Of a block that is not whole yet.
    block: Vec<u8>,
}

/// One connection.
pub struct Client {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    decoder: Decoder,
    pub exchange: Exchange,
}

impl Client {
    /// Sends the preface and empty settings.
    pub async fn open(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the server listens");
        let (reader, mut writer) = stream.into_split();
        writer.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).await.expect("a fresh connection takes it");
        Client { reader, writer, decoder: Decoder::new(), exchange: Exchange::default() }
    }

    /// Sends bytes and hears until all of `streams` are over, the connection is closed, or nothing comes for `patience`.
    pub async fn send_and_hear(&mut self, bytes: &[u8], streams: &[u32], patience: Duration) {
        let Client { reader, writer, decoder, exchange } = self;
        let send = async {
            // The server may have closed already.
            let _ = writer.write_all(bytes).await;
        };
        let hear = async {
            let is_over = |exchange: &Exchange, stream| exchange.streams.get(stream).is_some_and(Heard::is_over);
            while !exchange.block.is_empty() || !streams.iter().all(|stream| is_over(exchange, stream)) {
                match tokio::time::timeout(patience, next_frame(reader)).await {
                    Ok(Some((head, payload))) => exchange.take(decoder, head, payload),
                    Ok(None) => {
                        exchange.closed = true;
                        return;
                    }
                    Err(_) => return,
                }
            }
        };
        let both = async { tokio::join!(send, hear) };
        tokio::time::timeout(PATIENCE, both).await.expect("a server reads and answers");
    }
}

impl Exchange {
    fn take(&mut self, decoder: &mut Decoder, head: [u8; FRAME_HEAD_BYTES], payload: Vec<u8>) {
        let [_, _, _, kind, flags, a, b, c, d] = head;
        let stream = u32::from_be_bytes([a, b, c, d]);
        let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four bytes"));
        match kind {
            HEADERS | CONTINUATION => {
                // Neither server sends padding or priorities.
                assert_eq!(flags & !(END_STREAM | END_HEADERS), 0, "flags of HEADERS");
                self.block.extend_from_slice(&payload);
                let heard = self.streams.entry(stream).or_default();
                heard.ended |= kind == HEADERS && flags & END_STREAM != 0;
                if flags & END_HEADERS == 0 {
                    return;
                }
                let block = mem::take(&mut self.block);
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let mut fields = Vec::new();
                let used = decoder.decode(&block, |name, value| fields.push((text(name), text(value))));
                assert_eq!(used, Ok(block.len()), "a server sends good blocks");
                decoder.end();
                heard.blocks.push(fields);
            }
            DATA => {
                let heard = self.streams.entry(stream).or_default();
                heard.data.extend_from_slice(&payload);
                heard.ended |= flags & END_STREAM != 0;
            }
            RST_STREAM => {
                let reset = code(0);
                self.streams.entry(stream).or_default().reset = Some(reset);
            }
            GOAWAY => self.goaway = Some((code(4), String::from_utf8_lossy(&payload[8..]).into_owned())),
            _ => (),
        }
    }
}

async fn next_frame(reader: &mut OwnedReadHalf) -> Option<([u8; FRAME_HEAD_BYTES], Vec<u8>)> {
    let mut head = [0; FRAME_HEAD_BYTES];
    reader.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    reader.read_exact(&mut payload).await.ok()?;
    Some((head, payload))
}

/// A frame: length (24 bits), type, flags, stream, payload.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("frames are short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block in HEADERS and CONTINUATION frames of at most `size`; the flags are those of the first.
pub fn head_frames(stream: u32, flags: u8, block: &[u8], size: usize) -> Vec<u8> {
    let count = block.len().div_ceil(size).max(1);
    let piece = |at: usize| &block[(at * size).min(block.len())..((at + 1) * size).min(block.len())];
    let each = (0..count).map(|at| {
        let kind = if at == 0 { HEADERS } else { CONTINUATION };
        let flags = if at == 0 { flags } else { 0 } | if at + 1 == count { END_HEADERS } else { 0 };
        frame(kind, flags, stream, piece(at))
    });
    each.collect::<Vec<_>>().concat()
}

/// A head in frames as large as they may be.
pub fn head(stream: u32, block: &[u8]) -> Vec<u8> {
    head_frames(stream, 0, block, FRAME_BYTES_MAX)
}

/// Fields as HPACK's "literal without indexing, new name" (RFC 7541, 6.2.2), without Huffman coding.
pub fn literals<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    fields
        .iter()
        .flat_map(|(name, value)| [&[0], &string(name.as_ref())[..], &string(value.as_ref())].concat())
        .collect()
}

fn string(text: &[u8]) -> Vec<u8> {
    [integer(0, 7, text.len()), text.to_vec()].concat()
}

/// An integer after the given first bits (RFC 7541, 5.1).
pub fn integer(first: u8, prefix_bits: u32, number: usize) -> Vec<u8> {
    let prefix_max = (1 << prefix_bits) - 1;
    if number < prefix_max {
        return vec![first | u8::try_from(number).expect("below 128")];
    }
    let mut bytes = vec![first | u8::try_from(prefix_max).expect("below 256")];
    let mut rest = number - prefix_max;
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128 + 128).expect("a byte"));
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).expect("below 128"));
    bytes
}
