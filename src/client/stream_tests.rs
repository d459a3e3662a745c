//! Watches and leases against a server whose streams break off by script.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Response};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse,
};
use crate::proto::mvccpb::{Event, KeyValue};

/// How one stream ends after its messages.
#[derive(Clone, Copy)]
enum End {
    /// With this status.
    Status(Code),
    /// With its connection.
    Cut,
    /// Not at all.
    Open,
}

/// What one stream sends, to whatever it is asked first.
struct Act {
    messages: Vec<Vec<u8>>,
    end: End,
}

/// A server that plays one act per stream, and the first message of each stream it got.
struct Stage {
    endpoint: String,
    seen: Arc<Mutex<Vec<Bytes>>>,
}

impl Stage {
    async fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(play(listener, acts, seen.clone()));
        Self { endpoint, seen }
    }

    async fn client(&self) -> Client {
        let options = Options { endpoints: vec![self.endpoint.clone()], ..Options::default() };
        Client::connect(options).await.unwrap()
    }

    fn seen<M: Message + Default>(&self) -> Vec<M> {
        self.seen.lock().unwrap().iter().map(|message| M::decode(message.clone()).unwrap()).collect()
    }
}

async fn play(listener: TcpListener, acts: Vec<Act>, seen: Arc<Mutex<Vec<Bytes>>>) {
    let mut acts = acts.into_iter();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        play_connection(socket, &mut acts, &seen).await;
    }
}

async fn play_connection(socket: TcpStream, acts: &mut impl Iterator<Item = Act>, seen: &Mutex<Vec<Bytes>>) {
    let mut connection = h2::server::handshake(socket).await.unwrap();
    let mut open = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let act = acts.next().expect("the script is long enough");
        let mut asked = request.into_body();
        // The connection has to be driven for the message to come.
        let message = tokio::select! {
            message = asked.data() => message.unwrap().unwrap(),
            _ = connection.accept() => panic!("one stream at a time"),
        };
        seen.lock().unwrap().push(message.slice(5..));
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut body = respond.send_response(head, false).unwrap();
        for message in act.messages {
            let frame = [&[0, 0, 0, 0, message.len() as u8][..], &message].concat();
            body.send_data(frame.into(), false).unwrap();
        }
        match act.end {
            End::Status(code) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", (code as u32).to_string().parse().unwrap());
                body.send_trailers(trailers).unwrap();
            }
            End::Open => open.push((body, asked)),
            End::Cut => {
                // What was sent goes out first; then the client's next stream is refused by the end of the connection.
                connection.graceful_shutdown();
                body.send_reset(h2::Reason::INTERNAL_ERROR);
                while connection.accept().await.is_some() {}
                return;
            }
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

fn created(revision: i64) -> Vec<u8> {
    WatchResponse { header: header(revision), created: true, ..WatchResponse::default() }.encode_to_vec()
}

fn progress(revision: i64) -> Vec<u8> {
    WatchResponse { header: header(revision), ..WatchResponse::default() }.encode_to_vec()
}

fn events(revision: i64, changed_at: &[i64]) -> Vec<u8> {
    let event = |mod_revision: &i64| {
        let pair = KeyValue { mod_revision: *mod_revision, ..KeyValue::default() };
        Event { kv: Some(pair), ..Event::default() }
    };
    let events = changed_at.iter().map(event).collect();
    WatchResponse { header: header(revision), events, ..WatchResponse::default() }.encode_to_vec()
}

fn changed_at(response: &WatchResponse) -> Vec<i64> {
    response.events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision).collect()
}

#[test]
fn a_watch_resumes_after_the_last_revision_seen() {
    run(async {
        let compacted =
            WatchResponse { header: header(20), canceled: true, compact_revision: 15, ..WatchResponse::default() };
        let stage = Stage::start(vec![
            Act { messages: vec![created(5)], end: End::Status(Code::Unavailable) },
            Act { messages: vec![created(7), events(8, &[7, 8])], end: End::Status(Code::Unavailable) },
            Act { messages: vec![created(9), progress(9)], end: End::Status(Code::Ok) },
            Act { messages: vec![created(10), events(10, &[10])], end: End::Status(Code::Unavailable) },
            Act { messages: vec![compacted.encode_to_vec()], end: End::Open },
        ])
        .await;
        let mut watch = stage.client().await.watch(WatchCreateRequest::default(), Call::default());
        let mut next = async || watch.next().await.unwrap();
        assert_eq!(changed_at(&next().await.unwrap()), [7, 8]);
        assert!(changed_at(&next().await.unwrap()).is_empty());
        assert_eq!(changed_at(&next().await.unwrap()), [10]);
        let last = next().await.unwrap();
        let error = watch::cancellation(&last).unwrap();
        assert_eq!(error.message(), "etcdserver: mvcc: required revision has been compacted");
        assert_eq!(next().await, None);
        let starts: Vec<i64> = stage
            .seen::<WatchRequest>()
            .into_iter()
            .map(|request| match request.request_union.unwrap() {
                RequestUnion::CreateRequest(create) => create.start_revision,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(starts, [0, 6, 9, 10, 11]);
    });
}

#[test]
fn a_watch_survives_its_connection() {
    run(async {
        let stage = Stage::start(vec![
            Act { messages: vec![created(5)], end: End::Cut },
            Act { messages: vec![created(5), events(6, &[6])], end: End::Open },
        ])
        .await;
        let mut watch = stage.client().await.watch(WatchCreateRequest::default(), Call::default());
        assert_eq!(changed_at(&watch.next().await.unwrap().unwrap()), [6]);
    });
}

#[test]
fn a_refused_watch_ends() {
    run(async {
        let stage = Stage::start(vec![Act { messages: vec![], end: End::Status(Code::PermissionDenied) }]).await;
        let mut watch = stage.client().await.watch(WatchCreateRequest::default(), Call::default());
        assert_eq!(watch.next().await.unwrap_err().code(), Code::PermissionDenied);
        assert_eq!(watch.next().await, Ok(None));
    });
}

fn beat(ttl: i64) -> Vec<u8> {
    LeaseKeepAliveResponse { header: header(1), id: 7, ttl }.encode_to_vec()
}

#[test]
fn a_lease_is_kept_alive_over_broken_streams_until_it_is_gone() {
    run(async {
        let stage = Stage::start(vec![
            Act { messages: vec![], end: End::Status(Code::Unavailable) },
            Act { messages: vec![beat(1)], end: End::Status(Code::Unavailable) },
            Act { messages: vec![beat(0)], end: End::Open },
        ])
        .await;
        let mut beats = stage.client().await.keep_alive(7);
        assert_eq!(beats.next().await.unwrap().unwrap().ttl, 1);
        assert_eq!(beats.next().await, Ok(None));
        assert!(stage.seen::<LeaseKeepAliveRequest>().iter().all(|request| request.id == 7));
        assert_eq!(stage.seen::<LeaseKeepAliveRequest>().len(), 3);
    });
}

#[test]
fn a_beat_that_is_not_answered_is_sent_to_the_next_endpoint() {
    run(async {
        let silent = Stage::start(vec![Act { messages: vec![], end: End::Open }]).await;
        let good = Stage::start(vec![Act { messages: vec![beat(1)], end: End::Open }]).await;
        let endpoints = vec![silent.endpoint.clone(), good.endpoint.clone()];
        let client = Client::connect(Options { endpoints, ..Options::default() }).await.unwrap();
        assert_eq!(client.keep_alive(7).next().await.unwrap().unwrap().ttl, 1);
        assert_eq!(silent.seen::<LeaseKeepAliveRequest>().len(), 1);
    });
}

#[test]
fn a_session_is_lost_when_nobody_answers_for_a_whole_ttl() {
    run(async {
        let silent = || Act { messages: vec![], end: End::Open };
        let stage = Stage::start(vec![Act { messages: vec![beat(1)], end: End::Open }, silent(), silent()]).await;
        let session = Session::of_lease(&stage.client().await, 7);
        session.lost().await;
    });
}
