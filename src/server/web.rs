//! What the client port answers over HTTP/1: `/version`, `/health`, `/metrics`.

use std::{rc::Rc, time::Instant};

use http::{HeaderValue, Method, StatusCode, header};

use crate::{
    base::version,
    frontend::{WebFuture, WebHandler, WebRequest, WebResponse},
    metrics::{Name, text::CONTENT_TYPE},
    server::{exposition, front::Front},
};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// The pages of one core.
pub struct Web {
    pub front: Rc<Front>,
}

impl WebHandler for Web {
    fn http(&self, request: WebRequest) -> WebFuture {
        let front = Rc::clone(&self.front);
        Box::pin(async move {
            match request.path.as_str() {
                "/version" => get(&request).unwrap_or_else(|| version_page(&front)),
                "/health" => match get(&request) {
                    Some(refused) => refused,
                    None => health(&front, &request.query).await,
                },
                "/metrics" => get(&request).unwrap_or_else(|| {
                    WebResponse::new(StatusCode::OK, CONTENT_TYPE, exposition::page(front.shared()))
                }),
                _ => WebResponse::new(StatusCode::NOT_FOUND, TEXT, "404 page not found\n"),
            }
        })
    }
}

/// Refuses anything but GET, as etcd words it.
fn get(request: &WebRequest) -> Option<WebResponse> {
    if request.method == Method::GET {
        return None;
    }
    let mut response = WebResponse::new(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed\n");
    response.headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
    Some(response)
}

fn version_page(front: &Front) -> WebResponse {
    let view = front.shared().view.load();
    let body = format!(
        r#"{{"etcdserver":"{}","etcdcluster":"{}","storage":"{}"}}"#,
        version::SERVER,
        view.membership.version.as_deref().unwrap_or("not_decided"),
        view.storage_version.as_deref().unwrap_or("unknown"),
    );
    WebResponse::new(StatusCode::OK, JSON, body)
}

/// Alarms, a leader, a read: the first that fails is the reason.
async fn health(front: &Front, query: &str) -> WebResponse {
    let pairs = || url::form_urlencoded::parse(query.as_bytes());
    let serializable = pairs().any(|(name, value)| name == "serializable" && value == "true");
    let excluded: Vec<String> =
        pairs().filter(|(name, _)| name == "exclude").map(|(_, value)| value.into_owned()).collect();
    let reason = failing(front, serializable, &excluded).await;
    let counter = if reason.is_none() { Name::ServerHealthSuccess } else { Name::ServerHealthFailures };
    front.meter().sheet.add(counter, 1);
    match reason {
        None => WebResponse::new(StatusCode::OK, TEXT, r#"{"health":"true","reason":""}"#),
        Some(reason) => {
            tracing::warn!(reason, status_code = 503, "serving /health false");
            let body = format!(r#"{{"health":"false","reason":"{reason}"}}"#);
            WebResponse::new(StatusCode::SERVICE_UNAVAILABLE, TEXT, body)
        }
    }
}

async fn failing(front: &Front, serializable: bool, excluded: &[String]) -> Option<String> {
    let view = front.shared().view.load_full();
    let listed = |name: &str| excluded.iter().any(|other| other == name);
    if view.alarms.is_full() && !listed("NOSPACE") {
        return Some("ALARM NOSPACE".to_owned());
    }
    if view.alarms.is_corrupt() && !listed("CORRUPT") {
        return Some("ALARM CORRUPT".to_owned());
    }
    if serializable {
        return None;
    }
    if view.raft.leader == 0 {
        return Some("RAFT NO LEADER".to_owned());
    }
    drop(view);
    front.confirmed(Instant::now()).await.err().map(|refusal| format!("RANGE ERROR:{refusal}"))
}
