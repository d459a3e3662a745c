//! The gateway of one core: its routes, and how a call of one of its methods begins.

use std::rc::Rc;

use super::{
    failure::refusal,
    metadata,
    routes::{Route, Routes},
};
use crate::{
    base::limits::GATEWAY_DOCUMENT_OVERHEAD_BYTES,
    frontend::{WebRequest, WebResponse},
    os::net::Peer,
    rpc::{Code, LocalCall, Server, Status},
    services::ServiceHandler,
};

type Methods = Server<ServiceHandler>;

/// The gateway of one core.
pub struct Gateway {
    server: Rc<Methods>,
    pub(super) routes: Routes,
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

    /// The route of a path, which may be escaped.
    pub(super) fn route(&self, path: &str) -> Option<&Route> {
        match path.contains('%') {
            false => self.routes.find(path),
            true => self.routes.find(&unescaped(path)?),
        }
    }

    /// Begins the call of a request.
    pub(super) fn call(&self, route: &Route, request: &WebRequest) -> Result<LocalCall<ServiceHandler>, Status> {
        let peer = request.identity.peer.unwrap_or(Peer::Unix);
        let (fields, timeout) = metadata::of(request)?;
        let fields = fields.iter().map(|(name, value)| (&**name, &value[..]));
        self.server.local(route.method, peer, fields, timeout)
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
