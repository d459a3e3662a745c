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

mod calls;
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

pub use self::calls::Gateway;
use self::failure::{refusal, routing_error};
use crate::{
    frontend::{WebRequest, WebResponse},
    rpc::MethodKind,
};

/// Where the gateway is, and where clients of etcd 3.3 look for it.
pub const PREFIX: &str = "/v3/";
pub const OLD_PREFIX: &str = "/v3beta/";

impl Gateway {
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
}
