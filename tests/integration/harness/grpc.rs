//! A plain gRPC client on h2 that sends any request, and returns every part of the answer.
//!
//! Stock clients are unsuitable for comparisons: they cannot send a wrong request, and they rewrite answers.

use std::{fmt, io, str, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use h2::{RecvStream, client::SendRequest};
use http::{HeaderMap, HeaderValue, Method, Request};
use prost::Message;
use tokio::{net::TcpStream, task::JoinHandle};

const WINDOW_BYTES: u32 = 64 << 20;
/// A call that takes longer hangs. The servers themselves give up after 7 s.
pub const PATIENCE: Duration = Duration::from_secs(15);
const PREFIX_BYTES: usize = 5;

/// The headers every gRPC client sends.
pub const GRPC: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];

/// One HTTP/2 connection.
pub struct Connection {
    pub(super) sender: SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
}

/// The answer to one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub http_status: u16,
    pub content_type: String,
    /// `grpc-status`; none if the server sent none.
    pub code: Option<u32>,
    /// `grpc-message`, percent-decoded.
    pub message: String,
    /// The status came in the only block of headers.
    pub trailers_only: bool,
    pub messages: Vec<Bytes>,
    /// The stream was reset or the connection broke before the end of the answer.
    pub broken: Option<String>,
}

/// A status other than OK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: u32,
    pub message: String,
}

/// Why a call has no answer.
#[derive(Debug)]
pub enum CallError {
    Refused(Refusal),
    /// The connection or the server went away: the call may have happened or not.
    Lost(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Refused(refusal) => write!(formatter, "{} {}", refusal.code, refusal.message),
            CallError::Lost(reason) => write!(formatter, "lost: {reason}"),
        }
    }
}

impl Connection {
    pub async fn open(port: u16) -> io::Result<Connection> {
        Connection::open_with_window(port, WINDOW_BYTES).await
    }

    /// A connection that takes so many bytes from the server before the test has read them.
    pub async fn open_with_window(port: u16, window_bytes: u32) -> io::Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(window_bytes)
            .initial_connection_window_size(window_bytes)
            .handshake(stream)
            .await
            .map_err(io::Error::other)?;
        Ok(Connection { sender, driver: tokio::spawn(connection) })
    }

    /// A unary call with typed messages.
    pub async fn unary<Q: Message, R: Message + Default>(&self, path: &str, request: &Q) -> Result<R, CallError> {
        let reply = self.call(path, request.encode_to_vec().into()).await;
        if let Some(reason) = reply.broken {
            return Err(CallError::Lost(reason));
        }
        match (reply.code, reply.messages.first()) {
            (Some(0), Some(message)) => R::decode(message.clone()).map_err(|error| CallError::Lost(error.to_string())),
            (Some(code), _) => Err(CallError::Refused(Refusal { code, message: reply.message })),
            (None, _) => Err(CallError::Lost(format!("no grpc-status: {reply:?}"))),
        }
    }

    /// One request message, any number of response messages.
    pub async fn call(&self, path: &str, message: Bytes) -> Reply {
        self.send(Method::POST, path, &headers(&GRPC), frame(0, &message)).await
    }

    /// The same with a token.
    pub async fn call_as(&self, token: &str, path: &str, message: Bytes) -> Reply {
        let headers = headers(&[&GRPC[..], &[("token", token)]].concat());
        self.send(Method::POST, path, &headers, frame(0, &message)).await
    }

    /// Anything; the body goes out as it is.
    pub async fn send(&self, method: Method, path: &str, headers: &HeaderMap, body: Bytes) -> Reply {
        let mut reply = Reply::default();
        let exchange = self.exchange(method, path, headers, body, &mut reply);
        let broken = match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer".to_owned()),
        };
        reply.broken = broken;
        reply
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
        reply: &mut Reply,
    ) -> Result<(), h2::Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1{path}"))
            .body(())
            .expect("tests send valid request lines");
        *request.headers_mut() = headers.clone();
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut stream) = sender.send_request(request, false)?;
        // h2 keeps what the windows do not take yet. A stream that the server has ended early refuses the rest.
        let _ = stream.send_data(body, true);
        let (head, body) = response.await?.into_parts();
        reply.http_status = head.status.as_u16();
        reply.content_type = text(&head.headers, "content-type");
        reply.trailers_only = head.headers.contains_key("grpc-status");
        if reply.trailers_only {
            reply.take_status(&head.headers);
        }
        reply.take_body(body).await
    }

    /// Whether the connection is open.
    pub fn alive(&self) -> bool {
        !self.driver.is_finished()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Reply {
    async fn take_body(&mut self, mut body: RecvStream) -> Result<(), h2::Error> {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            bytes.extend_from_slice(&chunk);
            self.messages.extend(std::iter::from_fn(|| split_message(&mut bytes)));
        }
        if let Some(trailers) = body.trailers().await? {
            self.take_status(&trailers);
        }
        Ok(())
    }

    fn take_status(&mut self, headers: &HeaderMap) {
        (self.code, self.message) = status(headers);
    }
}

/// `grpc-status` and `grpc-message`.
pub(super) fn status(headers: &HeaderMap) -> (Option<u32>, String) {
    (text(headers, "grpc-status").parse().ok(), percent_decoded(&text(headers, "grpc-message")))
}

/// Takes the first message off what has been received, once it is whole.
pub(super) fn split_message(bytes: &mut BytesMut) -> Option<Bytes> {
    if bytes.len() < PREFIX_BYTES {
        return None;
    }
    let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize;
    if bytes.len() < PREFIX_BYTES + length {
        return None;
    }
    Some(bytes.split_to(PREFIX_BYTES + length).freeze().slice(PREFIX_BYTES..))
}

/// A message with its gRPC prefix.
pub fn frame(flags: u8, message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    bytes.put_u8(flags);
    bytes.put_u32(u32::try_from(message.len()).expect("below 4 GiB"));
    bytes.put_slice(message);
    bytes.freeze()
}

/// Headers from pairs; values may hold any bytes that HTTP/2 carries.
pub fn headers<V: AsRef<[u8]>>(pairs: &[(&'static str, V)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            let value = HeaderValue::from_bytes(value.as_ref()).expect("tests send valid values");
            (http::HeaderName::from_static(name), value)
        })
        .collect()
}

fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    String::from_utf8_lossy(value).into_owned()
}

fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hexadecimal = tail.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        match hexadecimal.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if first == b'%' => {
                decoded.push(byte);
                rest = &tail[2..];
            }
            _ => {
                decoded.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
