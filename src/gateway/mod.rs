//! The JSON gateway: etcd's methods over HTTP/1, with JSON bodies, as grpc-gateway v2 maps them.
//!
//! ```text
//!   POST /v3/kv/range, JSON ── routes: path ─▶ method, message shapes       404 and 501 as grpc-gateway's router
//!                                │
//!                  metadata: headers ─▶ what a gRPC client would have sent  (Authorization, Grpc-Metadata-*, Grpc-Timeout)
//!                                │
//!        document ─▶ reader: one JSON value ─▶ the request's bytes          400 in the words of Go's libraries
//!                                │
//!                  rpc: the same call in the same process, on the core that owns the connection
//!                                │
//!   unary ◀── transcoder: the response's bytes ─▶ JSON ──▶ exchange: one JSON document per chunk and line
//!   websocket: the same exchange, with the client's documents in messages
//! ```
//!
//! A response is never a tree in memory: its bytes become text while they are read, large ones piece by piece as the client takes them.
//! Requests are read by rules and in words of Go's `encoding/json` and `protojson`: what is refused there is refused here.
//!
//! Invariants
//! 1. A chunk of a streamed answer is exactly one JSON document and its newline: clients parse chunks.
//! 2. Of a stream at most STREAM_SEND_BUFFER_BYTES and one message wait for a client that does not read.
//! 3. A client that leaves cancels its call, as the end of a gRPC stream does.
//! 4. A client's certificate stands for no user here: the gateway would lend its own.
//!
//! Routes come from the `google.api.http` options in `proto/`; there is no list of them in the code.
//!
//! Deliberately absent: who may ask (origins, host names, the guard of common names: `web`), and what calls mean (`services`).

mod document;
mod exchange;
mod failure;
mod inner_json;
mod metadata;
mod reader;
mod routes;
mod session;
mod shapes;
#[cfg(test)]
mod tests;
mod transcoder;
mod unary;
mod upgrade;

use std::rc::Rc;

use http::{Method, StatusCode};

use self::{
    failure::refusal,
    routes::{Route, Routes},
};
use crate::{
    base::limits::GATEWAY_DOCUMENT_OVERHEAD_BYTES,
    frontend::{WebRequest, WebResponse},
    os::net::Peer,
    rpc::{Code, LocalCall, MethodKind, Server, Status},
    services::ServiceHandler,
};

/// Where the gateway is, and where clients of etcd 3.3 look for it.
pub const PREFIX: &str = "/v3/";
pub const OLD_PREFIX: &str = "/v3beta/";

type Methods = Server<ServiceHandler>;

/// The gateway of one core.
pub struct Gateway {
    server: Rc<Methods>,
    routes: Routes,
}

impl Gateway {
    #[must_use]
    pub fn new(server: Rc<Methods>) -> Rc<Gateway> {
        Rc::new(Gateway { server, routes: Routes::read() })
    }

    /// The longest body of a request: Base64 takes a third more than bytes, and names take their part.
    #[must_use]
    pub fn body_bytes_max(&self) -> usize {
        2 * self.server.settings().receive_bytes_max + GATEWAY_DOCUMENT_OVERHEAD_BYTES
    }

    /// The refusal of a longer body: no message that is read from it could be small enough.
    #[must_use]
    pub fn too_large(&self) -> WebResponse {
        let (body, message) = (self.body_bytes_max(), self.server.settings().receive_bytes_max);
        let text = format!("grpc: received message larger than max (a body of more than {body} vs. {message})");
        refusal(&Status::new(Code::ResourceExhausted, text))
    }

    /// Answers a request for a path below [`PREFIX`].
    pub async fn answer(self: &Rc<Self>, request: WebRequest) -> WebResponse {
        if upgrade::is_asked_for(&request) {
            return upgrade::begin(self, &request);
        }
        let mut request = request;
        if let Some(method) = metadata::overridden_method(&request) {
            // The form has been read as such, so there is no document.
            (request.method, request.body) = (method, bytes::Bytes::new());
        }
        let route = match self.route(&request.path) {
            None => return refusal(&routing_error(StatusCode::NOT_FOUND)),
            Some(_) if request.method != Method::POST => {
                return refusal(&routing_error(StatusCode::METHOD_NOT_ALLOWED));
            }
            Some(route) => route,
        };
        match route.kind {
            MethodKind::Unary => unary::answer(self, route, &request).await,
            MethodKind::ServerStream | MethodKind::BidiStream => exchange::answer(self, route, &request).await,
        }
    }

    /// The route of a path, which may be escaped.
    fn route(&self, path: &str) -> Option<&Route> {
        match path.contains('%') {
            false => self.routes.find(path),
            true => self.routes.find(&unescaped(path)?),
        }
    }

    /// Begins the call of a request.
    fn call(&self, route: &Route, request: &WebRequest) -> Result<LocalCall<ServiceHandler>, Status> {
        let peer = request.identity.peer.unwrap_or(Peer::Unix);
        let (fields, timeout) = metadata::of(request)?;
        let fields = fields.iter().map(|(name, value)| (&**name, &value[..]));
        self.server.local(route.method, peer, fields, timeout)
    }
}

/// In the words of grpc-gateway's router.
fn routing_error(status: StatusCode) -> Status {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => Status::new(Code::Unimplemented, "Method Not Allowed"),
        _ => Status::new(Code::NotFound, "Not Found"),
    }
}

/// A path without `%XX`; `None` if it is malformed.
fn unescaped(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}
