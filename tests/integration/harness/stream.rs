//! A gRPC call with streams in both directions: watch, keepalive, snapshot.
//!
//! Nothing is read ahead of the test: what it does not ask for stays in the window of the connection, so that a test can
//! be the client that does not read.

use std::fmt;

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream, client::ResponseFuture};
use http::{HeaderMap, Method, Request};
use prost::Message;

use super::grpc::{Connection, GRPC, PATIENCE, frame, headers, split_message, status};

/// An open call.
pub struct Stream {
    requests: SendStream<Bytes>,
    answer: Answer,
    /// Received, and not yet a whole message.
    bytes: BytesMut,
}

enum Answer {
    /// A server may hold its headers back until it has something to say.
    Awaited(ResponseFuture),
    Open(RecvStream),
    Ended(End),
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Status {
        code: Option<u32>,
        message: String,
    },
    /// Reset, or the connection broke, or silent for too long.
    Broken(String),
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Status { code, message } => write!(formatter, "status {code:?} {message:?}"),
            End::Broken(reason) => write!(formatter, "broken: {reason}"),
        }
    }
}

impl Connection {
    /// Opens a call, with `more` beside the headers that every call has.
    pub async fn stream(&self, path: &str, more: &[(&'static str, &str)]) -> Stream {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://127.0.0.1{path}"))
            .body(())
            .expect("tests send valid request lines");
        *request.headers_mut() = headers(&[&GRPC[..], more].concat());
        let mut sender = self.sender.clone().ready().await.unwrap_or_else(|error| panic!("{path}: {error}"));
        let (response, requests) =
            sender.send_request(request, false).unwrap_or_else(|error| panic!("{path}: {error}"));
        Stream { requests, answer: Answer::Awaited(response), bytes: BytesMut::new() }
    }
}

impl Stream {
    /// Sends a message, unless the server has ended the call, which the next answer reports.
    pub fn send(&mut self, message: &impl Message) {
        self.send_bytes(message.encode_to_vec().into());
    }

    /// The same with a message that need not be one.
    pub fn send_bytes(&mut self, message: Bytes) {
        let _ = self.requests.send_data(frame(0, &message), false);
    }

    /// Ends the client's side.
    pub fn half_close(&mut self) {
        let _ = self.requests.send_data(Bytes::new(), true);
    }

    /// Cancels the call, as a client that ends.
    pub fn cancel(mut self) {
        self.requests.send_reset(h2::Reason::CANCEL);
    }

    /// The next message, or how the call ended.
    pub async fn next<R: Message + Default>(&mut self) -> Result<R, End> {
        let message = match tokio::time::timeout(PATIENCE, self.next_bytes()).await {
            Ok(message) => message?,
            Err(_) => return Err(End::Broken("no answer".to_owned())),
        };
        R::decode(message).map_err(|error| End::Broken(error.to_string()))
    }

    /// Reads to the end of the call and gives back how it ended; messages on the way are too many.
    pub async fn end(&mut self) -> End {
        match tokio::time::timeout(PATIENCE, self.next_bytes()).await {
            Ok(Err(end)) => end,
            Ok(Ok(message)) => panic!("a message of {} bytes instead of the end", message.len()),
            Err(_) => panic!("the call does not end"),
        }
    }

    async fn next_bytes(&mut self) -> Result<Bytes, End> {
        loop {
            if let Some(message) = split_message(&mut self.bytes) {
                return Ok(message);
            }
            if let Err(end) = self.advance().await {
                self.answer = Answer::Ended(end.clone());
                return Err(end);
            }
        }
    }

    /// One step of the answer: its head, a part of its body, or its end. May be dropped and called again.
    async fn advance(&mut self) -> Result<(), End> {
        match &mut self.answer {
            Answer::Awaited(response) => {
                let (head, body) = response.await.map_err(broken)?.into_parts();
                if head.headers.contains_key("grpc-status") {
                    return Err(ended(&head.headers));
                }
                self.answer = Answer::Open(body);
                Ok(())
            }
            Answer::Open(body) => {
                let Some(chunk) = body.data().await else {
                    let trailers = body.trailers().await.map_err(broken)?;
                    return Err(ended(&trailers.unwrap_or_default()));
                };
                let chunk = chunk.map_err(broken)?;
                body.flow_control().release_capacity(chunk.len()).map_err(broken)?;
                self.bytes.extend_from_slice(&chunk);
                Ok(())
            }
            Answer::Ended(end) => Err(end.clone()),
        }
    }
}

fn ended(headers: &HeaderMap) -> End {
    let (code, message) = status(headers);
    End::Status { code, message }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(error: h2::Error) -> End {
    End::Broken(error.to_string())
}
