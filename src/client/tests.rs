//! The client against a server that answers by script.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use prost::Message;
use tokio::net::TcpListener;

use super::*;
use crate::proto::etcdserverpb::{Member, MemberListResponse, PutRequest, PutResponse, RangeRequest, RangeResponse};

/// What the server says to one call.
enum Answer {
    Message(Vec<u8>),
    Status(Code, &'static str),
    Silence,
}

/// A listening server, and what it has seen: method and token of each call.
struct Scripted {
    endpoint: String,
    seen: Arc<Mutex<Vec<(String, String)>>>,
}

impl Scripted {
    async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(serve(listener, VecDeque::from(answers), seen.clone()));
        Self { endpoint, seen }
    }

    fn seen(&self) -> Vec<(String, String)> {
        self.seen.lock().unwrap().clone()
    }

    fn methods(&self) -> Vec<String> {
        self.seen().into_iter().map(|(method, _)| method).collect()
    }
}

async fn serve(listener: TcpListener, mut answers: VecDeque<Answer>, seen: Arc<Mutex<Vec<(String, String)>>>) {
    let mut silent = Vec::new();
    while let Ok((stream, _)) = listener.accept().await {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let token = request.headers().get("token").map(|token| token.to_str().unwrap().to_owned());
            let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
            seen.lock().unwrap().push((method, token.unwrap_or_default()));
            let head = Response::builder().header("content-type", "application/grpc");
            let mut trailers = HeaderMap::new();
            match answers.pop_front().expect("the script is long enough") {
                Answer::Silence => silent.push(respond),
                Answer::Status(code, text) => {
                    let head = head.header("grpc-status", (code as u32).to_string()).header("grpc-message", text);
                    respond.send_response(head.body(()).unwrap(), true).unwrap();
                }
                Answer::Message(message) => {
                    let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
                    // Cut in two, as the network may.
                    let prefix = [&[0][..], &(message.len() as u32).to_be_bytes()].concat();
                    let frame = [&prefix[..], &message].concat();
                    body.send_data(Bytes::copy_from_slice(&frame[..3]), false).unwrap();
                    body.send_data(Bytes::copy_from_slice(&frame[3..]), false).unwrap();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    body.send_trailers(trailers).unwrap();
                }
            }
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

async fn client(endpoints: &[&str]) -> Client {
    let endpoints = endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect();
    Client::connect(Options { endpoints, ..Options::default() }).await.unwrap()
}

fn range() -> RangeRequest {
    RangeRequest { key: "k".into(), ..Default::default() }
}

const NO_LEADER: Answer = Answer::Status(Code::Unavailable, "etcdserver: no leader");

#[test]
fn a_read_is_repeated_until_the_server_is_available() {
    run(async {
        let response = RangeResponse { count: 7, ..Default::default() };
        let server = Scripted::start(vec![NO_LEADER, NO_LEADER, Answer::Message(response.encode_to_vec())]).await;
        let client = client(&[&server.endpoint]).await;
        assert_eq!(client.call(&method::RANGE, &range(), Call::default()).await, Ok(response));
        assert_eq!(server.methods(), ["Range", "Range", "Range"]);
    });
}

#[test]
fn a_write_is_not_repeated_once_sent() {
    run(async {
        let server = Scripted::start(vec![NO_LEADER]).await;
        let client = client(&[&server.endpoint]).await;
        let error = client.call(&method::PUT, &PutRequest::default(), Call::default()).await.unwrap_err();
        assert_eq!(error, Error::status(Code::Unavailable, "etcdserver: no leader"));
        assert_eq!(server.methods(), ["Put"]);
    });
}

#[test]
fn calls_go_around_a_dead_endpoint() {
    run(async {
        // A port that was just free: nobody listens there.
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        let answers = (0..4).map(|_| Answer::Message(PutResponse::default().encode_to_vec())).collect();
        let server = Scripted::start(answers).await;
        let client = client(&[&dead, &server.endpoint]).await;
        for _ in 0..4 {
            client.call(&method::PUT, &PutRequest::default(), Call::default()).await.unwrap();
        }
        assert_eq!(server.methods().len(), 4);
    });
}

#[test]
fn a_write_is_not_lost_on_an_endpoint_that_accepts_and_ends() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ends = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        let server = Scripted::start(vec![Answer::Message(Vec::new())]).await;
        let client = client(&[&ends, &server.endpoint]).await;
        client.call(&method::PUT, &PutRequest::default(), Call::default()).await.unwrap();
        assert!(client.trouble().is_none());
    });
}

#[test]
fn an_endpoint_that_hangs_is_left_for_the_next_one() {
    run(async {
        let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Scripted::start((0..4).map(|_| Answer::Message(Vec::new())).collect()).await;
        let endpoints = vec![hangs.local_addr().unwrap().to_string(), server.endpoint.clone()];
        let options = Options { endpoints, dial_timeout: Duration::from_millis(20), ..Options::default() };
        let client = Client::connect(options).await.unwrap();
        for _ in 0..4 {
            client.call(&method::PUT, &PutRequest::default(), Call::default()).await.unwrap();
        }
        assert_eq!(server.methods().len(), 4);
    });
}

#[test]
fn endpoints_are_taken_from_the_members() {
    run(async {
        let member = |name: &str, url: &str, is_learner| Member {
            name: name.to_owned(),
            client_ur_ls: vec![format!("http://{url}")],
            is_learner,
            ..Member::default()
        };
        let other = Scripted::start(vec![Answer::Message(Vec::new())]).await;
        let members = vec![
            member("voter", &other.endpoint, false),
            member("", "127.0.0.1:1", false),
            member("learner", "127.0.0.1:2", true),
        ];
        let list = MemberListResponse { members, ..MemberListResponse::default() };
        let server = Scripted::start(vec![Answer::Message(list.encode_to_vec())]).await;
        let client = client(&[&server.endpoint]).await;
        client.sync(Call::default()).await.unwrap();
        assert_eq!(client.endpoints(), [format!("http://{}", other.endpoint)]);
        client.call(&method::RANGE, &range(), Call::default()).await.unwrap();
        assert_eq!((server.methods(), other.methods()), (vec!["MemberList".to_owned()], vec!["Range".to_owned()]));
        assert_eq!(client.set_endpoints(&[]), Err(Error::NoEndpoints));
    });
}

#[test]
fn calls_are_spread_over_the_endpoints() {
    run(async {
        let answers = || (0..2).map(|_| Answer::Message(Vec::new())).collect();
        let (one, two) = (Scripted::start(answers()).await, Scripted::start(answers()).await);
        let client = client(&[&one.endpoint, &two.endpoint]).await;
        for _ in 0..4 {
            client.call(&method::RANGE, &range(), Call::default()).await.unwrap();
        }
        assert_eq!((one.methods().len(), two.methods().len()), (2, 2));
    });
}

#[test]
fn a_call_ends_at_its_deadline() {
    run(async {
        let server = Scripted::start(vec![Answer::Silence]).await;
        let client = client(&[&server.endpoint]).await;
        let call = Call::within(Duration::from_millis(20));
        assert_eq!(client.call(&method::RANGE, &range(), call).await, Err(Error::Deadline));
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        let client = self::client(&[&dead]).await;
        let call = Call::within(Duration::from_millis(20));
        assert_eq!(client.call(&method::RANGE, &range(), call).await, Err(Error::Deadline));
    });
}

#[test]
fn an_expired_token_is_renewed() {
    run(async {
        let token = |text: &str| {
            let response = AuthenticateResponse { token: text.to_owned(), ..Default::default() };
            Answer::Message(response.encode_to_vec())
        };
        let expired = Answer::Status(Code::Unauthenticated, "etcdserver: invalid auth token");
        let server = Scripted::start(vec![token("one"), expired, token("two"), Answer::Message(Vec::new())]).await;
        let user = Some(("root".to_owned(), "secret".to_owned()));
        let options = Options { endpoints: vec![server.endpoint.clone()], user, ..Options::default() };
        let client = Client::connect(options).await.unwrap();
        client.call(&method::PUT, &PutRequest::default(), Call::default()).await.unwrap();
        let seen = server.seen();
        let seen: Vec<(&str, &str)> = seen.iter().map(|(method, token)| (&**method, &**token)).collect();
        assert_eq!(seen, [("Authenticate", ""), ("Put", "one"), ("Authenticate", ""), ("Put", "two")]);
    });
}
