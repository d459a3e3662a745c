//! What is answered over HTTP/1: versions, probes, metrics, variables.
//!
//! | path | answer |
//! |---|---|
//! | `/version` | versions as JSON |
//! | `/health`, `/livez`, `/readyz` and their checks | see `probes` |
//! | `/metrics` | see `exposition`; compressed for clients that ask for it (`compression`) |
//! | `/debug/vars` | command line, limits and Raft's state as JSON |
//! | `/debug/pprof/` | see `profile`; only if asked for |
//! | `/v3/`, `/v3beta/` | the methods of gRPC as JSON: see `gateway`; unless switched off |
//!
//! The peer port has pages of its own: see `peer_pages`.
//!
//! The listeners of `--listen-metrics-urls` have the probes and the metrics only, and say nothing of origins.
//!
//! As with etcd the scripts of some or all origins may read them, requests without TLS name an allowed host, a path that is not in its shortest form is redirected to it, and OPTIONS is always fine.
//!
//! A request passes, in etcd's order: the old prefix of the gateway is replaced; the host is checked without TLS, and the guard of
//! common names with it; origins; OPTIONS; the page.

mod compression;
pub mod exposition;
mod peer_pages;
mod plain;
pub mod probes;
mod profile;

use std::{collections::BTreeSet, rc::Rc};

use http::{HeaderName, HeaderValue, Method, StatusCode, header};

pub use self::peer_pages::PeerPages;
use self::plain::{TEXT, error, get};
use crate::{
    apply::View,
    base::{limits::HTTP1_BODY_BYTES_MAX, version},
    frontend::{WebFuture, WebHandler, WebRequest, WebResponse},
    gateway::{self, Gateway},
    metrics::text::CONTENT_TYPE,
    os::process,
    services::{Follower, Role, Services, Standing},
};

const JSON: &str = "application/json";
const JSON_UTF8: &str = "application/json; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// In etcd's words.
const COMMON_NAME_IGNORED: &str =
    "CommonName of client sending a request against gateway will be ignored and not used as expected";

/// What a browser is told that lets a script read a page, beside its origin.
const CORS: [(HeaderName, &str); 2] = [
    (header::ACCESS_CONTROL_ALLOW_HEADERS, "accept, content-type, authorization"),
    (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, GET, OPTIONS, PUT, DELETE"),
];

/// The pages of one core.
pub struct Web {
    pub front: Rc<Services>,
    pub pages: Pages,
    pub access: Rc<Access>,
    /// `None`: there is none.
    pub gateway: Option<Rc<Gateway>>,
}

/// Who may read which pages.
#[derive(Debug, Default)]
pub struct Access {
    /// Origins whose scripts may; `None`: all.
    pub origins: Option<BTreeSet<String>>,
    /// What the `Host` of a request without TLS may be; `None`: anything.
    pub hosts: Option<BTreeSet<String>>,
    /// Profiles are served.
    pub profiles: bool,
}

impl Access {
    /// The refusal of a request that a browser may have been tricked into (CVE-2018-5702), in etcd's words.
    fn refusal(&self, request: &WebRequest) -> Option<WebResponse> {
        let hosts = self.hosts.as_ref().filter(|_| !request.identity.is_secure)?;
        let host = request.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let name = host_name(host);
        if hosts.contains(name) {
            return None;
        }
        tracing::warn!(host = name, "rejecting HTTP request to prevent DNS rebinding attacks");
        let text = format!(
            "\netcd received your request, but the Host header was unrecognized.\n\n\
             To fix this, choose one of the following options:\n\
             - Enable TLS, then any HTTPS request will be allowed.\n\
             - Add the hostname you want to use to the whitelist in settings.\n  \
             - e.g. etcd --host-whitelist {name:?}\n\n\
             This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).\n"
        );
        Some(error(StatusCode::MISDIRECTED_REQUEST, &text))
    }

    /// The origin whose scripts may read the answer.
    fn origin(&self, request: &WebRequest) -> Option<HeaderValue> {
        let Some(origins) = &self.origins else { return Some(HeaderValue::from_static("*")) };
        let origin = request.headers.get(header::ORIGIN)?;
        origins.contains(origin.to_str().ok()?).then(|| origin.clone())
    }
}

/// `host` of `host:port`; the whole if it is not of this form.
fn host_name(host: &str) -> &str {
    let Some((name, _)) = host.rsplit_once(':') else { return host };
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(inner) => inner,
        None if name.contains([':', '[', ']']) => host,
        None => name,
    }
}

/// Which pages a listener has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    All,
    /// Probes and metrics.
    Health,
}

impl WebHandler for Web {
    fn http(&self, request: WebRequest) -> WebFuture {
        let (front, access, pages) = (Rc::clone(&self.front), Rc::clone(&self.access), self.pages);
        let gateway = self.gateway.clone();
        Box::pin(async move {
            if pages == Pages::Health {
                return health_page(&front, &request).await;
            }
            let mut request = request;
            if let Some(rest) = request.path.strip_prefix(gateway::OLD_PREFIX) {
                request.path = format!("{}{rest}", gateway::PREFIX);
            }
            if let Some(refusal) = access.refusal(&request) {
                return refusal;
            }
            if gateway.is_some()
                && let Some(refusal) = common_name_guard(&front, &request)
            {
                return refusal;
            }
            let origin = access.origin(&request);
            let mut response = answer(&front, &access, gateway.as_ref(), request).await;
            if let Some(origin) = origin {
                response.headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                for (name, value) in CORS {
                    response.headers.insert(name, HeaderValue::from_static(value));
                }
            }
            response
        })
    }

    fn body_bytes_max(&self, path: &str) -> usize {
        match &self.gateway {
            Some(gateway) if is_of_gateway(path) => gateway.body_bytes_max(),
            _ => HTTP1_BODY_BYTES_MAX,
        }
    }

    fn too_large(&self, path: &str) -> WebResponse {
        match &self.gateway {
            Some(gateway) if is_of_gateway(path) => gateway.too_large(),
            _ => error(StatusCode::PAYLOAD_TOO_LARGE, "request body too large"),
        }
    }
}

fn is_of_gateway(path: &str) -> bool {
    path.starts_with(gateway::PREFIX) || path.starts_with(gateway::OLD_PREFIX)
}

/// With `--client-cert-auth` a certificate's name would be the user elsewhere; here it would not, which must not go unnoticed.
fn common_name_guard(front: &Services, request: &WebRequest) -> Option<WebResponse> {
    let name = request.identity.common_name.as_deref().unwrap_or_default();
    let is_ignored = !name.is_empty()
        && request.path.starts_with(gateway::PREFIX)
        && front.shared().auth.client_cert_auth
        && front.shared().view.load().auth.is_enabled();
    is_ignored.then(|| error(StatusCode::BAD_REQUEST, COMMON_NAME_IGNORED))
}

async fn answer(front: &Services, access: &Access, gateway: Option<&Rc<Gateway>>, request: WebRequest) -> WebResponse {
    if request.method == Method::OPTIONS {
        let mut response = WebResponse::new(StatusCode::OK, TEXT, "");
        response.headers.clear();
        return response;
    }
    if let Some(response) = redirect(&request) {
        return response;
    }
    if let Some(gateway) = gateway {
        if request.path.starts_with(gateway::PREFIX) {
            return gateway.answer(request).await;
        }
        if request.path == gateway::PREFIX.trim_end_matches('/') {
            return redirect_to(&request, gateway::PREFIX.to_owned()).unwrap_or_else(not_found);
        }
    }
    page(front, access, &request).await
}

async fn page(front: &Services, access: &Access, request: &WebRequest) -> WebResponse {
    if access.profiles
        && let Some(page) = profile::page(request).await
    {
        return page;
    }
    match request.path.as_str() {
        "/version" => get(request).unwrap_or_else(|| version_page(front)),
        "/debug/vars" => match get(request) {
            Some(refused) => refused,
            None => WebResponse::new(StatusCode::OK, JSON_UTF8, variables(front).await),
        },
        _ => health_page(front, request).await,
    }
}

fn not_found() -> WebResponse {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

/// A page that the listeners for metrics have as well.
async fn health_page(front: &Services, request: &WebRequest) -> WebResponse {
    if let Some(response) = redirect(request) {
        return response;
    }
    match request.path.as_str() {
        "/health" => probes::health(front, request).await,
        "/metrics" => {
            let page = WebResponse::new(StatusCode::OK, CONTENT_TYPE, exposition::page(front.shared()));
            compression::compressed(&request.headers, page)
        }
        path => match probes::find(path) {
            Some(probe) => probes::run(front, request, probe).await,
            None => not_found(),
        },
    }
}

/// To the shortest form of the path, if it is not that already.
fn redirect(request: &WebRequest) -> Option<WebResponse> {
    let shortest = shortest_path(&request.path);
    if shortest == request.path { None } else { redirect_to(request, shortest) }
}

fn redirect_to(request: &WebRequest, path: String) -> Option<WebResponse> {
    let target = match request.query.as_str() {
        "" => path,
        query => format!("{path}?{query}"),
    };
    let location = HeaderValue::from_str(&target).ok()?;
    let shows = matches!(request.method, Method::GET | Method::HEAD);
    let escaped = target.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;");
    let body = if shows { format!("<a href=\"{escaped}\">Temporary Redirect</a>.\n\n") } else { String::new() };
    let mut response = WebResponse::new(StatusCode::TEMPORARY_REDIRECT, HTML, body);
    response.headers.insert(header::LOCATION, location);
    if !shows {
        response.headers.remove(header::CONTENT_TYPE);
    }
    Some(response)
}

/// Without `//`, `.` and `..`.
fn shortest_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let is_folder = path.ends_with('/') && !parts.is_empty();
    format!("/{}{}", parts.join("/"), if is_folder { "/" } else { "" })
}

fn version_page(front: &Services) -> WebResponse {
    let view = front.shared().view.load();
    let body = format!(
        r#"{{"etcdserver":"{}","etcdcluster":"{}","storage":"{}"}}"#,
        version::SERVER,
        view.membership.version.as_deref().unwrap_or("not_decided"),
        view.storage_version.as_deref().unwrap_or("unknown"),
    );
    WebResponse::new(StatusCode::OK, JSON, body)
}

/// What etcd publishes of itself, but for the memory of a Go program. A member that does not catch up shows no status of Raft.
async fn variables(front: &Services) -> String {
    let command_line: Vec<String> = std::env::args().collect();
    let standing = front.settled().await;
    let status = match &standing {
        Ok(standing) => raft_status(&front.shared().view.load(), standing),
        Err(_) => "null".to_owned(),
    };
    format!(
        "{{\n\"cmdline\": {},\n\"file_descriptor_limit\": {},\n\"raft.status\": {status}\n}}\n",
        serde_json::Value::from(command_line),
        process::read().max_fds,
    )
}

fn raft_status(view: &View, standing: &Standing) -> String {
    let progress: Vec<String> = standing.followers.iter().map(progress_of).collect();
    format!(
        "{{\"id\":\"{:x}\",\"term\":{},\"vote\":\"{:x}\",\"commit\":{},\"lead\":\"{:x}\",\"raftState\":\"{}\",\
         \"applied\":{},\"progress\":{{{}}},\"leadtransferee\":\"{:x}\"}}",
        view.membership.local_id,
        standing.term,
        standing.vote,
        view.raft.committed.max(view.applied),
        standing.leader,
        match standing.role {
            Role::Follower => "StateFollower",
            Role::PreCandidate => "StatePreCandidate",
            Role::Candidate => "StateCandidate",
            Role::Leader => "StateLeader",
        },
        view.applied,
        progress.join(","),
        standing.transferee,
    )
}

/// The leader's record of a member, in etcd's JSON.
fn progress_of(follower: &Follower) -> String {
    let state = match (follower.needs_snapshot, follower.is_replicating) {
        (true, _) => "StateSnapshot",
        (false, true) => "StateReplicate",
        (false, false) => "StateProbe",
    };
    format!(r#""{:x}":{{"match":{},"next":{},"state":"{state}"}}"#, follower.id, follower.matched, follower.next)
}

#[cfg(test)]
mod tests {
    use super::{host_name, shortest_path};

    #[test]
    fn hosts_as_go_splits_them() {
        for (host, name) in
            [("a:1", "a"), ("a", "a"), ("[::1]:1", "::1"), ("[::1]", "[::1]"), ("::1", "::1"), ("", ""), (":1", "")]
        {
            assert_eq!(host_name(host), name, "{host}");
        }
    }

    #[test]
    fn paths_as_gos_router_cleans_them() {
        for (path, shortest) in [
            ("/health", "/health"),
            ("/health/", "/health/"),
            ("//health", "/health"),
            ("/a/../health", "/health"),
            ("/../..", "/"),
            ("/a/./b//", "/a/b/"),
            ("", "/"),
        ] {
            assert_eq!(shortest_path(path), shortest, "{path}");
        }
    }
}
