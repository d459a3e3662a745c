//! What other members and those who want to join ask over the peer port, beside Raft's paths.

use std::rc::Rc;

use http::{HeaderName, HeaderValue, StatusCode};

use super::{JSON, plain::error, version_page};
use crate::{
    frontend::{WebFuture, WebHandler, WebRequest, WebResponse},
    services::Services,
};

/// The pages of the peer port.
pub struct PeerPages {
    services: Rc<Services>,
}

impl PeerPages {
    #[must_use]
    pub fn new(services: Rc<Services>) -> Self {
        Self { services }
    }

    fn members(&self) -> WebResponse {
        let view = self.services.shared().view.load();
        let members: Vec<_> = view.membership.members().collect();
        let body = serde_json::to_vec(&members).expect("strings and numbers serialize");
        let mut answer = WebResponse::new(StatusCode::OK, JSON, body);
        let id = format!("{:x}", view.membership.cluster_id);
        answer.headers.insert(
            HeaderName::from_static("x-etcd-cluster-id"),
            HeaderValue::from_str(&id).expect("hexadecimal digits"),
        );
        answer
    }
}

impl WebHandler for PeerPages {
    fn http(&self, request: WebRequest) -> WebFuture {
        let answer = match request.path.as_str() {
            "/members" => self.members(),
            "/version" => version_page(&self.services),
            "/downgrade/enabled" => {
                let enabled = self.services.shared().view.load().membership.downgrade.enabled;
                WebResponse::new(StatusCode::OK, "text/plain", enabled.to_string())
            }
            _ => error(StatusCode::NOT_FOUND, "404 page not found"),
        };
        Box::pin(std::future::ready(answer))
    }
}
