//! What the peer port answers, in etcd's words.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use prost::Message as _;

use super::*;
use crate::peer::client::{self, Response};

async fn ask(
    member: &Member,
    method: Method,
    path: &str,
    changes: &[(&'static str, &'static str)],
    body: Bytes,
) -> Response {
    let fields = [
        ("x-server-from", "2"),
        ("x-server-version", "3.7.3"),
        ("x-min-cluster-version", "3.0.0"),
        ("x-etcd-cluster-id", "c1"),
        ("x-raft-to", "1"),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in fields.iter().chain(changes) {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let url = format!("{}{path}", member.url);
    client::request(method, &url, headers, body, Duration::from_secs(60)).await.unwrap()
}

fn text(response: &Response) -> (u16, &str) {
    (response.status.as_u16(), std::str::from_utf8(&response.body).unwrap())
}

#[test]
fn strangers_and_mistakes_are_refused() {
    on_executor(async {
        let one = Member::start(1);
        one.inside(|peers| peers.set_members(&[(2, vec!["http://127.0.0.1:1".into()])], &[9]));
        let empty = Bytes::new;
        for (method, path, changes, expected) in [
            (Method::GET, "/raft", &[] as &[_], (405, "Method Not Allowed\n")),
            (Method::POST, "/raft/stream/message/2", &[], (405, "Method Not Allowed\n")),
            (Method::GET, "/raft/snapshot", &[], (405, "Method Not Allowed\n")),
            (Method::POST, "/raft", &[("x-etcd-cluster-id", "c2")], (412, "cluster ID mismatch\n")),
            (Method::GET, "/raft/stream/msgapp/2", &[("x-server-version", "2.3.0")], (412, "incompatible version\n")),
            (
                Method::GET,
                "/raft/stream/msgapp/2",
                &[("x-min-cluster-version", "3.9.0")],
                (412, "incompatible version\n"),
            ),
            (Method::GET, "/raft/stream/other/2", &[], (404, "invalid path\n")),
            (Method::GET, "/raft/stream/message/x", &[], (404, "invalid from\n")),
            (Method::GET, "/raft/stream/message/9", &[], (410, "removed member\n")),
            (Method::GET, "/raft/stream/message/7", &[], (404, "error sender not found\n")),
            (Method::GET, "/raft/stream/message/2", &[("x-raft-to", "3")], (412, "to field mismatch\n")),
            (Method::GET, "/raft/else", &[], (404, "404 page not found\n")),
            (Method::GET, "/version", &[], (200, "GET /version")),
        ] {
            let response = ask(&one, method, path, changes, empty()).await;
            assert_eq!(text(&response), expected, "{path}");
            if path.starts_with("/raft/stream/") && expected.0 != 405 {
                assert_eq!(response.headers["x-etcd-cluster-id"], "c1");
                assert_eq!(response.headers["x-server-version"], "3.7.3");
            }
            if expected.0 == 405 {
                assert!(response.headers.contains_key("allow"));
            }
        }
        one.peers.stop().await;
    });
}

#[test]
fn posts_are_checked_and_delivered() {
    on_executor(async {
        let one = Member::start(1);
        one.inside(|peers| peers.set_members(&[], &[9]));
        let post = async |message: Message| {
            let response = ask(&one, Method::POST, "/raft", &[], message.encode_to_vec().into()).await;
            (response.status.as_u16(), String::from_utf8(response.body.to_vec()).unwrap())
        };
        assert_eq!(post(heartbeat(2, 1, 5)).await, (204, String::new()));
        assert_eq!(one.message().await, heartbeat(2, 1, 5));
        let refused = |text: &str| (403, format!("{{\"message\":\"{text}\"}}"));
        assert_eq!(post(heartbeat(9, 1, 5)).await, refused("cannot process message from removed member"));
        assert_eq!(post(heartbeat(2, 3, 5)).await, refused("cannot process message to mismatch member"));
        let response = ask(&one, Method::POST, "/raft", &[], Bytes::from_static(&[0xff])).await;
        assert_eq!(text(&response), (400, "error unmarshalling raft message\n"));
        let response = ask(&one, Method::GET, "/raft/probing", &[], Bytes::new()).await;
        assert!(text(&response).1.starts_with("{\"OK\":true,\"Now\":\"20"), "{response:?}");
        one.peers.stop().await;
    });
}
