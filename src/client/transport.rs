//! gRPC on HTTP/2: five bytes before each message, metadata as headers, the status as trailers.
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 1 | 1 if compressed; this client never asks for that |
//! | 1 | 4 | length of the message, big endian |
//! | 5 | n | the message |

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request};

use super::Call;
use super::balance::Ring;
use super::error::{Code, Error};

const PREFIX_BYTES: usize = 5;
const API_VERSION: &str = "3.7";

/// `message` with its prefix, ready to send. Fails beyond `bytes_max`, as the server would.
pub fn frame(message: &impl prost::Message, bytes_max: usize) -> Result<Bytes, Error> {
    let len = message.encoded_len();
    if len > bytes_max {
        let text = format!("trying to send message larger than max ({len} vs. {bytes_max})");
        return Err(Error::status(Code::ResourceExhausted, text));
    }
    let mut buffer = BytesMut::with_capacity(PREFIX_BYTES + len);
    buffer.put_u8(0);
    buffer.put_u32(len as u32);
    message.encode(&mut buffer).expect("a BytesMut grows");
    Ok(buffer.freeze())
}

/// Parses one response message.
pub fn decode<A: prost::Message + Default>(payload: &Bytes) -> Result<A, Error> {
    A::decode(payload.clone()).map_err(|error| {
        Error::status(Code::Internal, format!("grpc: failed to unmarshal the received message: {error}"))
    })
}

/// One request, one response message (still encoded).
pub async fn unary(ring: &Ring, path: &str, body: Bytes, token: &str, call: Call) -> Result<Bytes, Error> {
    let exchange = async {
        let (mut sending, mut messages) = start(ring, path, token, call).await?;
        sending.send_data(body, true).map_err(broken)?;
        let payload = messages.next().await?;
        let payload = payload
            .ok_or_else(|| Error::status(Code::Internal, "cardinality violation: received no response message"))?;
        // The status comes behind the message; only then is it known to be good.
        messages.next().await?;
        Ok(payload)
    };
    until(call.deadline, exchange).await
}

/// Opens a stream with its first message.
pub async fn stream<Q, A>(
    ring: &Ring,
    path: &str,
    body: Bytes,
    token: &str,
    call: Call,
) -> Result<Stream<Q, A>, Error> {
    let opening = async {
        let (mut sending, messages) = start(ring, path, token, call).await?;
        sending.send_data(body, false).map_err(broken)?;
        Ok(Stream {
            sender: Sender { sending, messages: PhantomData },
            receiver: Receiver { messages, deadline: call.deadline, kind: PhantomData },
        })
    };
    until(call.deadline, opening).await
}

/// Both directions of an open call.
pub struct Stream<Q, A> {
    sender: Sender<Q>,
    receiver: Receiver<A>,
}

impl<Q: prost::Message, A: prost::Message + Default> Stream<Q, A> {
    pub fn send(&mut self, request: &Q) -> Result<(), Error> {
        self.sender.send(request)
    }

    /// Ends the sending direction; responses keep coming.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.sender.sending.send_data(Bytes::new(), true).map_err(broken)
    }

    /// The next response, or `None` when the server ended the stream well.
    pub async fn next(&mut self) -> Result<Option<A>, Error> {
        self.receiver.next().await
    }

    /// The two directions apart, for tasks of their own.
    pub fn split(self) -> (Sender<Q>, Receiver<A>) {
        (self.sender, self.receiver)
    }
}

/// The sending direction of a stream. Dropping it resets the stream unless it was finished.
pub struct Sender<Q> {
    sending: SendStream<Bytes>,
    messages: PhantomData<fn(Q)>,
}

impl<Q: prost::Message> Sender<Q> {
    pub fn send(&mut self, request: &Q) -> Result<(), Error> {
        self.sending.send_data(frame(request, usize::MAX)?, false).map_err(broken)
    }
}

/// The receiving direction of a stream.
pub struct Receiver<A> {
    messages: Messages,
    deadline: Option<Instant>,
    kind: PhantomData<fn() -> A>,
}

impl<A: prost::Message + Default> Receiver<A> {
    /// The next response, or `None` when the server ended the stream well.
    pub async fn next(&mut self) -> Result<Option<A>, Error> {
        let payload = until(self.deadline, self.messages.next()).await?;
        payload.as_ref().map(decode).transpose()
    }
}

async fn start(ring: &Ring, path: &str, token: &str, call: Call) -> Result<(SendStream<Bytes>, Messages), Error> {
    let mut connection = ring.pick(call.deadline).await?;
    let scheme = if connection.is_secure { "https" } else { "http" };
    let mut request = Request::post(format!("{scheme}://{}{path}", connection.authority))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", concat!("ringd/", env!("CARGO_PKG_VERSION")))
        .header("client-api-version", API_VERSION);
    if call.require_leader {
        request = request.header("hasleader", "true");
    }
    if !token.is_empty() {
        request = request.header("token", token);
    }
    if let Some(deadline) = call.deadline {
        request = request.header("grpc-timeout", timeout_text(deadline));
    }
    let request = request.body(()).map_err(|error| Error::status(Code::Internal, error.to_string()))?;
    let (receiving, sending) =
        connection.requests.send_request(request, false).map_err(|error| Error::NotSent(error.to_string()))?;
    Ok((sending, Messages::new(receiving, ring.response_bytes_max, connection.in_use)))
}

/// The rest of the time in the largest unit that fits eight digits.
fn timeout_text(deadline: Instant) -> String {
    const DIGITS_MAX: u128 = 99_999_999;
    let left = deadline.saturating_duration_since(Instant::now());
    match left.as_micros() {
        micros if micros <= DIGITS_MAX => format!("{}u", micros.max(1)),
        micros if micros / 1_000 <= DIGITS_MAX => format!("{}m", micros / 1_000),
        micros => format!("{}S", (micros / 1_000_000).min(DIGITS_MAX)),
    }
}

async fn until<T>(deadline: Option<Instant>, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let outcome = match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), work).await.unwrap_or(Err(Error::Deadline)),
        None => work.await,
    };
    match outcome {
        // The server may notice the deadline first; the caller sees one error for both.
        Err(Error::Status { code: Code::DeadlineExceeded, .. }) if deadline.is_some_and(|at| at <= Instant::now()) => {
            Err(Error::Deadline)
        }
        outcome => outcome,
    }
}

fn broken(error: h2::Error) -> Error {
    if error.reason() == Some(Reason::REFUSED_STREAM) {
        return Error::NotSent(error.to_string());
    }
    Error::Broken(format!("error reading from server: {error}"))
}

/// Cuts the data of a response into messages and reads the status at its end.
struct Messages {
    state: State,
    buffer: BytesMut,
    bytes_max: usize,
    /// Says that a call is open on its connection.
    _in_use: Arc<()>,
}

/// state | transition | by
/// ---|---|---
/// opening | response headers came: reading; they hold a status: ended | `open`
/// reading | data ended, status good or bad: ended | `next`
enum State {
    Opening(ResponseFuture),
    Reading(RecvStream),
    Ended,
}

impl Messages {
    fn new(receiving: ResponseFuture, bytes_max: usize, in_use: Arc<()>) -> Self {
        Self { state: State::Opening(receiving), buffer: BytesMut::new(), bytes_max, _in_use: in_use }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(message) = self.cut()? {
                return Ok(Some(message));
            }
            match &mut self.state {
                State::Opening(_) => self.open().await?,
                State::Ended => return Ok(None),
                State::Reading(body) => match body.data().await {
                    Some(chunk) => {
                        let chunk = chunk.map_err(broken)?;
                        body.flow_control().release_capacity(chunk.len()).map_err(broken)?;
                        self.buffer.extend_from_slice(&chunk);
                    }
                    None => {
                        let trailers = body.trailers().await.map_err(broken)?;
                        self.state = State::Ended;
                        status(&trailers.unwrap_or_default())?;
                    }
                },
            }
        }
    }

    async fn open(&mut self) -> Result<(), Error> {
        let State::Opening(receiving) = &mut self.state else {
            return Ok(());
        };
        let response = receiving.await.map_err(broken)?;
        if response.status() != http::StatusCode::OK {
            let text = format!("unexpected HTTP status code received from server: {}", response.status());
            return Err(Error::status(Code::Unavailable, text));
        }
        if response.headers().contains_key("grpc-status") {
            self.state = State::Ended;
            return status(response.headers());
        }
        self.state = State::Reading(response.into_body());
        Ok(())
    }

    /// The next whole message of the buffer.
    fn cut(&mut self) -> Result<Option<Bytes>, Error> {
        if self.buffer.len() < PREFIX_BYTES {
            return Ok(None);
        }
        let len = u32::from_be_bytes([self.buffer[1], self.buffer[2], self.buffer[3], self.buffer[4]]) as usize;
        if self.buffer[0] != 0 {
            return Err(Error::status(Code::Internal, "grpc: compressed message from a server that was not asked to"));
        }
        if len > self.bytes_max {
            let text = format!("grpc: received message larger than max ({len} vs. {})", self.bytes_max);
            return Err(Error::status(Code::ResourceExhausted, text));
        }
        if self.buffer.len() < PREFIX_BYTES + len {
            return Ok(None);
        }
        self.buffer.advance(PREFIX_BYTES);
        Ok(Some(self.buffer.split_to(len).freeze()))
    }
}

/// The status in the trailers (or in the headers of a response without a body).
fn status(trailers: &HeaderMap) -> Result<(), Error> {
    let code = trailers.get("grpc-status").and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let Some(code) = code else {
        return Err(Error::status(Code::Internal, "server closed the stream without sending trailers"));
    };
    match Code::from_number(code) {
        Code::Ok => Ok(()),
        code => {
            let message = trailers.get("grpc-message").map(|value| percent_decode(value.as_bytes()));
            Err(Error::status(code, message.unwrap_or_default()))
        }
    }
}

fn percent_decode(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        let decoded = (first == b'%').then(|| tail.get(..2)).flatten().and_then(hex_byte);
        match decoded {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => bytes.push(first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::PutRequest;

    #[test]
    fn a_frame_is_prefix_and_message() {
        let request = PutRequest { key: "k".into(), ..Default::default() };
        assert_eq!(&frame(&request, 100).unwrap()[..], b"\0\0\0\0\x03\x0a\x01k");
        let error = frame(&request, 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "rpc error: code = ResourceExhausted desc = trying to send message larger than max (3 vs. 2)"
        );
    }

    #[test]
    fn statuses_are_read_from_trailers() {
        let mut trailers = HeaderMap::new();
        assert_eq!(status(&trailers).unwrap_err().code(), Code::Internal);
        trailers.insert("grpc-status", "0".parse().unwrap());
        assert_eq!(status(&trailers), Ok(()));
        trailers.insert("grpc-status", "5".parse().unwrap());
        trailers.insert("grpc-message", "no%20such%zz key".parse().unwrap());
        assert_eq!(status(&trailers), Err(Error::status(Code::NotFound, "no such%zz key")));
    }

    #[test]
    fn timeouts_fit_eight_digits() {
        let text = |seconds| timeout_text(Instant::now() + std::time::Duration::from_secs(seconds));
        assert!(text(5).ends_with('u'));
        assert!(text(5_000).ends_with('m'));
        assert!(text(5_000_000).ends_with('S'));
        assert!(timeout_text(Instant::now()).ends_with('u'));
    }
}
