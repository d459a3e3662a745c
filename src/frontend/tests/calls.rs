//! Calls as clients make them, well-formed or refused.

use std::sync::atomic::Ordering;

use futures_lite::future::zip;

use super::{server::pattern, *};

#[test]
fn unary_calls_answer_now_or_later() {
    with_server(Settings::default(), |address, seen| async move {
        let client = connect(address).await;
        assert_eq!(echo(&client, b"hello").await, "hello");
        assert_eq!(echo(&client, b"").await, "");
        let big = vec![7; 1_900_000];
        assert_eq!(echo(&client, &big).await, big);
        let later = call(&client, "/test.Echo/Later", &[], framed(b"x")).await;
        assert_eq!((later.status.0, &later.messages[0][..]), (0, &b"x"[..]));
        let fail = call(&client, "/test.Echo/Fail", &[], framed(b"")).await;
        assert_eq!(fail.refused(), (5, "gibt's nicht: %C3%A4%25%0A"));
        assert_eq!(fail.headers["content-type"], "application/grpc");
        let dropped = call(&client, "/test.Echo/Drop", &[], framed(b"")).await;
        assert_eq!(dropped.refused(), (14, "the call was dropped by the server"));

        let counts = seen.counters.lock().unwrap().as_ref().unwrap().snapshot();
        assert_eq!((counts[0].started, counts[0].handled[0], counts[0].messages_sent), (3, 3, 3));
        assert_eq!((counts[3].started, counts[3].handled[5], counts[3].messages_sent), (1, 1, 0));
        assert_eq!(seen.handled.load(Ordering::Relaxed), 6);
    });
}

#[test]
fn metadata_reaches_the_handler() {
    with_server(Settings::default(), |address, _| async move {
        let client = connect(address).await;
        let extra = [("token", "t"), ("authorization", "a"), ("hasleader", "true"), ("x-bin", "AQI")];
        let answer = call(&client, "/test.Echo/Who", &extra, framed(b"")).await;
        assert_eq!(answer.messages[0], "t a true - AQI");
        let answer = call(&client, "/test.Echo/Who", &[("client-api-version", "3.7.3")], framed(b"")).await;
        assert_eq!(answer.messages[0], "- - false 3.7.3 -");
    });
}

#[test]
fn thousands_of_calls_at_once() {
    with_server(Settings::default(), |address, _| async move {
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let client = connect(address).await;
            for number in 0..500_u32 {
                let client = client.clone();
                let path = if number % 3 == 0 { "/test.Echo/Later" } else { "/test.Echo/Echo" };
                tasks.push(tokio::spawn(async move {
                    let message = number.to_be_bytes();
                    let answer = call(&client, path, &[("grpc-timeout", "1M")], framed(&message)).await;
                    assert_eq!((answer.status.0, &answer.messages[0][..]), (0, &message[..]));
                }));
            }
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn streams() {
    with_server(Settings::default(), |address, _| async move {
        let client = connect(address).await;
        let answer = call(&client, "/test.Stream/Count", &[], framed(b"700")).await;
        assert_eq!((answer.status.0, answer.messages.len()), (0, 700));
        assert!(answer.messages.iter().enumerate().all(|(n, message)| message[..] == vec![n as u8; 700]));
        let none = call(&client, "/test.Stream/Count", &[], Bytes::new()).await;
        let text = "cardinality violation: received no request message from non-client-streaming RPC";
        assert_eq!(none.refused(), (13, text));
        let two = call(&client, "/test.Stream/Count", &[], [framed(b"1"), framed(b"2")].concat().into()).await;
        let text = "cardinality violation: received multiple request messages for non-client-streaming RPC";
        assert_eq!(two.refused(), (13, text));

        let messages: Vec<Vec<u8>> = (0..50).map(|n| vec![n as u8; n * n * 10]).collect();
        let wire: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
        let (response, mut stream) = client.clone().send_request(request("/test.Stream/Echo", &[]), false).unwrap();
        let sending = async {
            for piece in wire.chunks(777) {
                stream.send_data(Bytes::copy_from_slice(piece), false).unwrap();
                tokio::task::yield_now().await;
            }
            stream.send_data(Bytes::new(), true).unwrap();
        };
        let (echoed, ()) = zip(super::answer(response), sending).await;
        let echoed = echoed.unwrap();
        assert_eq!((echoed.status.0, echoed.messages), (0, messages.into_iter().map(Bytes::from).collect()));
    });
}

#[test]
fn refusals_are_those_of_grpc_go() {
    with_server(Settings::default(), |address, _| async move {
        let client = connect(address).await;
        let body = framed(b"x");
        for (path, extra, status) in [
            ("/test.Echo/Nope", vec![], (12, "unknown method Nope for service test.Echo")),
            ("/nope.Echo/Echo", vec![], (12, "unknown service nope.Echo")),
            ("/Echo", vec![], (12, "malformed method name: \"/Echo\"")),
            (
                "/test.Echo/Echo",
                vec![("grpc-encoding", "snappy")],
                (12, "grpc: Decompressor is not installed for grpc-encoding \"snappy\""),
            ),
            ("/test.Echo/Echo", vec![("grpc-timeout", "0m")], (4, "context deadline exceeded")),
        ] {
            let answer = call(&client, path, &extra, body.clone()).await;
            assert_eq!((answer.http, answer.refused()), (StatusCode::OK, status));
        }
        for (extra, http, code) in [
            (("content-type", "application/json"), 415, 3),
            (("grpc-timeout", "soon"), 400, 13),
            (("x-bin", "?"), 400, 13),
        ] {
            let answer = call(&client, "/test.Echo/Echo", &[extra], body.clone()).await;
            assert_eq!((answer.http.as_u16(), answer.refused().0), (http, code));
        }
        for (body, status) in [
            (&[1, 0, 0, 0, 0][..], (13, "grpc: compressed flag set with identity or empty encoding")),
            (&[0, 0, 32, 0, 1], (8, "grpc: received message larger than max (2097153 vs. 2097152)")),
            (&[0, 0, 0, 0, 9, 1], (2, "unexpected EOF")),
            (&[0, 0], (2, "EOF")),
            (&[], (2, "EOF")),
        ] {
            let answer = call(&client, "/test.Echo/Echo", &[], Bytes::copy_from_slice(body)).await;
            assert_eq!(answer.refused(), status);
        }
        let extra = call(&client, "/test.Echo/Echo", &[], [framed(b"a"), framed(b"b")].concat().into()).await;
        assert_eq!((extra.status.0, &extra.messages[..]), (0, &[Bytes::from_static(b"a")][..]));
    });
}

#[test]
fn a_half_sent_request_holds_up_nobody() {
    with_server(Settings::default(), |address, _| async move {
        let client = connect(address).await;
        let mut halves = Vec::new();
        for _ in 0..20 {
            let mut client = client.clone().ready().await.unwrap();
            let (response, mut stream) = client.send_request(request("/test.Echo/Echo", &[]), false).unwrap();
            stream.send_data(framed(b"abcdef").slice(..7), false).unwrap();
            halves.push((response, stream));
        }
        assert_eq!(echo(&client, b"other").await, "other");
        for (response, mut stream) in halves {
            // Answered although the stream stays open, as grpc-go does.
            stream.send_data(framed(b"abcdef").slice(7..), false).unwrap();
            assert_eq!(answer(response).await.unwrap().messages[0], "abcdef");
        }
    });
}

#[test]
fn a_slow_reader_of_a_large_answer_costs_little() {
    const LENGTH: u64 = 50_000_000;
    with_server(Settings::default(), |address, seen| async move {
        let client = connect(address).await;
        let mut sender = client.clone().ready().await.unwrap();
        let (response, mut stream) = sender.send_request(request("/test.Echo/Large", &[]), false).unwrap();
        stream.send_data(framed(LENGTH.to_string().as_bytes()), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        for _ in 0..100 {
            assert_eq!(echo(&client, b"meanwhile").await, "meanwhile");
        }
        let produced = seen.produced.load(Ordering::Relaxed);
        assert!((1..=65_535 + 64 * 1024 + 32 * 1024).contains(&produced), "{produced} bytes for one window");
        let mut at = 0_u64;
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            for byte in data {
                assert!(at < 5 || byte == pattern(at - 5), "byte {at}");
                at += 1;
            }
        }
        assert_eq!(at, LENGTH + 5);
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    });
}

#[test]
fn a_large_answer_nobody_wants_any_more_ends() {
    with_server(Settings::default(), |address, seen| async move {
        let client = connect(address).await;
        for _ in 0..10 {
            let mut sender = client.clone().ready().await.unwrap();
            let (response, mut stream) = sender.send_request(request("/test.Echo/Large", &[]), false).unwrap();
            stream.send_data(framed(b"10000000"), true).unwrap();
            drop(response.await.unwrap());
        }
        assert_eq!(echo(&client, b"x").await, "x");
        assert!(seen.produced.load(Ordering::Relaxed) < 10 * 1_000_000);
    });
}
