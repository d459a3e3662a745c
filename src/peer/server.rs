//! The peer port: what other members ask of this one.
//!
//! | path | method | checks, in this order | answer |
//! |---|---|---|---|
//! | `/raft` | POST | method, versions, cluster, body, sender, receiver | 204 |
//! | `/raft/stream/<kind>/<id>` | GET | method, versions, cluster, path, removed, known, receiver | 200 and an endless body |
//! | `/raft/snapshot` | POST | as `/raft` | 204 once the database is whole and durable |
//! | `/ringd/image...` | GET | method, versions, cluster, a member | a whole state; see `image_server` |
//! | `/raft/probing` | any | | the time |
//! | others | | | the pages' |
//!
//! A newer stream of a kind ends the older one of the same member.

use std::{convert::Infallible, pin::pin, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_lite::future;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use hyper::{body::Incoming, server::conn::http1::Builder, service::service_fn};
use prost::Message as _;

use super::{
    answers::{Answer, AnswerBody, TEXT, Use, add_remote, answer, check, forbid, own_fields, refuse, wrong_method},
    bodies::Pieces,
    codec::Framing,
    headers::{self, Extensions, FROM, IMAGE_PATH, SERVER_VERSION, TO, id_text, parse_id},
    http_io::PeerIo,
    image_server,
    settings::Event,
    snapshot_receiver,
    table::Table,
    wall,
};
use crate::{
    base::{
        limits::{
            ACCEPT_PAUSE_MS, HTTP1_BODY_BYTES_MAX, PEER_CONNECTIONS_MAX, PEER_MESSAGE_BYTES_MAX, PEER_SILENCE_MS_MAX,
        },
        version,
    },
    frontend::{ClientWatch, WebHandler, WebRequest, WebResponse},
    metrics::Name,
    os::{
        self,
        net::{Listener, Peer as Address, Socket},
        tls::{Secrets, Stream, TlsError},
    },
    proto::raftpb::Message,
    rpc::{Drain, Membership, Stage},
};

/// A listener, and what it serves with.
pub(super) struct Door<W> {
    pub(super) listener: Listener,
    /// Connections are encrypted with these.
    pub(super) secrets: Option<Arc<Secrets>>,
    pub(super) pages: Rc<W>,
}

/// Accepts and serves until the drain begins.
pub(super) async fn run<W: WebHandler>(table: Rc<Table>, door: Door<W>, drain: Rc<Drain>) {
    let Door { listener, secrets, pages } = door;
    let draining = async || {
        drain.reached(Stage::Draining).await;
        None
    };
    while let Some(accepted) = future::or(draining(), async { Some(listener.accept().await) }).await {
        match accepted {
            Ok(socket) if drain.members() < PEER_CONNECTIONS_MAX => {
                os::spawn_local(welcome(Rc::clone(&table), socket, secrets.clone(), Rc::clone(&pages), drain.join()));
            }
            Ok(socket) => tracing::warn!(remote = %socket.peer(), "too many connections of peers"),
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections of peers; trying again");
                os::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
}

/// Makes a connection secure, if it has to be, and serves it.
async fn welcome<W: WebHandler>(
    table: Rc<Table>,
    socket: Socket,
    secrets: Option<Arc<Secrets>>,
    pages: Rc<W>,
    membership: Membership,
) {
    let remote = socket.peer();
    // A failure only means that a dead member is noticed later.
    let _refused = socket.keep_alive();
    let Some(secrets) = secrets else { return serve(table, socket.into(), pages, membership).await };
    let patience = Duration::from_millis(PEER_SILENCE_MS_MAX);
    let accepted = os::timeout(patience, secrets.accept(socket, Bytes::new(), &[])).await;
    #[expect(clippy::result_large_err, reason = "made once per connection")]
    let accepted = accepted.unwrap_or_else(|| Err(TlsError::Late.into()));
    match accepted {
        Ok(stream) => serve(table, stream, pages, membership).await,
        Err(rejected) => rejected.log("peer", remote),
    }
}

/// Serves one connection to its end.
async fn serve<W: WebHandler>(table: Rc<Table>, stream: Stream, pages: Rc<W>, membership: Membership) {
    let remote = stream.peer();
    let use_of = Use::new();
    let service = service_fn(|request| {
        let (table, pages, running) = (Rc::clone(&table), Rc::clone(&pages), use_of.begin());
        async move {
            let mut answer = route(&table, remote, request, &*pages).await;
            match answer.body_mut() {
                AnswerBody::Stream { connection_use, .. } | AnswerBody::Image { connection_use, .. } => {
                    *connection_use = Some(running);
                }
                AnswerBody::Whole(_) => {}
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = pin!(
        Builder::new()
            .title_case_headers(true)
            .serve_connection(PeerIo::new(stream, Duration::from_millis(PEER_SILENCE_MS_MAX)), service)
    );
    let ending = future::or(membership.drain().reached(Stage::Draining), use_of.silence());
    // How it ends is seen by what it carried.
    future::or(async { drop(connection.as_mut().await) }, ending).await;
}

async fn route<W: WebHandler>(table: &Rc<Table>, remote: Address, request: Request<Incoming>, pages: &W) -> Answer {
    let (parts, body) = request.into_parts();
    match parts.uri.path() {
        "/raft" => post(table, remote, &parts, body).await,
        "/raft/probing" => probing(),
        "/raft/snapshot" => snapshot_receiver::receive(table, remote, &parts, body).await,
        path if path.starts_with(IMAGE_PATH) => image_server::serve(table, &parts).await,
        path if path.starts_with("/raft/stream/") => stream(table, &parts),
        path if path.starts_with("/raft/") => refuse(StatusCode::NOT_FOUND, "404 page not found", HeaderMap::new()),
        _ => page(parts, body, pages).await,
    }
}

async fn post(table: &Table, remote: Address, parts: &Parts, body: Incoming) -> Answer {
    if parts.method != Method::POST {
        return wrong_method("POST");
    }
    let fields = own_fields(table);
    if let Some(answer) = check(table, &parts.headers, &fields) {
        return answer;
    }
    add_remote(table, parse_id(headers::text(&parts.headers, &FROM)), &parts.headers);
    let sheet = &table.settings.meters.engine.sheet;
    let fault = |text: &str, error: &dyn std::fmt::Display| {
        tracing::warn!(local_member_id = id_text(table.settings.member_id), %error, "failed to read Raft message");
        sheet.series(Name::NetworkPeerReceivedFailuresTotal, &[&remote.to_string()]).add(1);
        refuse(StatusCode::BAD_REQUEST, text, fields.clone())
    };
    let bytes = match Pieces::new(body).whole(PEER_MESSAGE_BYTES_MAX as usize).await {
        Ok(bytes) => bytes,
        Err(error) => return fault("error reading raft message", &error),
    };
    let length = bytes.len() as u64;
    let message = match Message::decode(bytes) {
        Ok(message) => message,
        Err(error) => return fault("error unmarshalling raft message", &error),
    };
    if let Some(peer) = table.peer(message.from()) {
        peer.link.meter.received_bytes.add(length);
    }
    if let Err(refused) = table.reports.check(&message) {
        return forbid(&refused.to_string(), fields);
    }
    table.reports.say(Event::Message(message));
    answer(StatusCode::NO_CONTENT, "", fields)
}

fn stream(table: &Table, parts: &Parts) -> Answer {
    if parts.method != Method::GET {
        return wrong_method("GET");
    }
    let mut fields = own_fields(table);
    fields.insert(SERVER_VERSION, HeaderValue::from_static(version::SERVER));
    if let Some(answer) = check(table, &parts.headers, &fields) {
        return answer;
    }
    let local = id_text(table.settings.member_id);
    let (folder, from) = parts.uri.path().rsplit_once('/').unwrap_or_default();
    let framings = [Framing::Appends, Framing::Messages];
    let Some(framing) = framings.into_iter().find(|framing| framing.path() == folder) else {
        tracing::debug!(local_member_id = local, path = parts.uri.path(), "ignored unexpected streaming request path");
        return refuse(StatusCode::NOT_FOUND, "invalid path", fields);
    };
    let Some(id) = parse_id(from) else {
        tracing::warn!(local_member_id = local, path = from, "failed to parse path into ID");
        return refuse(StatusCode::NOT_FOUND, "invalid from", fields);
    };
    if table.reports.is_removed(id) {
        tracing::warn!(
            local_member_id = local,
            remote_peer_id_from = from,
            "rejected stream from remote peer because it was removed"
        );
        return refuse(StatusCode::GONE, "removed member", fields);
    }
    let Some(peer) = table.peer(id) else {
        add_remote(table, Some(id), &parts.headers);
        tracing::warn!(
            local_member_id = local,
            remote_peer_id_from = from,
            cluster_id = id_text(table.settings.cluster_id),
            "failed to find remote peer in cluster"
        );
        return refuse(StatusCode::NOT_FOUND, "error sender not found", fields);
    };
    let to = headers::text(&parts.headers, &TO);
    if to != local {
        tracing::warn!(
            local_member_id = local,
            remote_peer_id_header = to,
            remote_peer_id_from = from,
            cluster_id = id_text(table.settings.cluster_id),
            "ignored streaming request; ID mismatch"
        );
        return refuse(StatusCode::PRECONDITION_FAILED, "to field mismatch", fields);
    }
    peer.link.set_extensions(Extensions::read(&parts.headers));
    let mut answer = Response::new(AnswerBody::Stream { body: peer.outgoing(framing).attach(), connection_use: None });
    *answer.headers_mut() = fields;
    answer
}

/// The time here, for the round trip and the difference of clocks.
fn probing() -> Answer {
    let fields = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(TEXT))]);
    answer(StatusCode::OK, format!("{{\"OK\":true,\"Now\":\"{}\"}}\n", wall::text(wall::now())), fields)
}

/// A page that is not of Raft.
async fn page<W: WebHandler>(parts: Parts, body: Incoming, pages: &W) -> Answer {
    let Ok(body) = Pieces::new(body).whole(HTTP1_BODY_BYTES_MAX).await else {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "request body too large", HeaderMap::new());
    };
    let request = WebRequest {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body,
        identity: Rc::default(),
        client: ClientWatch::default(),
    };
    let WebResponse { status, headers, body, .. } = pages.http(request).await;
    answer(status, body, headers)
}
