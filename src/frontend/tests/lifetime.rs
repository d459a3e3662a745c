//! Cancellation, deadlines, keepalive and the end of connections.

use std::sync::atomic::Ordering;

use h2::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Makes round trips until the server has seen `count` calls end.
async fn until_ended(client: &SendRequest<Bytes>, seen: &Seen, count: u64) {
    while seen.ended.load(Ordering::Relaxed) < count {
        echo(client, b"anything new?").await;
    }
}

#[test]
fn a_reset_cancels_the_call() {
    with_server(Settings::default(), |address, seen| async move {
        let client = connect(address).await;
        for (number, path) in ["/test.Echo/Never", "/test.Stream/Never"].into_iter().enumerate() {
            let mut sender = client.clone().ready().await.unwrap();
            let (response, mut stream) = sender.send_request(request(path, &[]), false).unwrap();
            stream.send_data(framed(b"x"), true).unwrap();
            assert_eq!(echo(&client, b"it is there").await, "it is there");
            stream.send_reset(Reason::CANCEL);
            drop(response);
            until_ended(&client, &seen, number as u64 + 1).await;
        }
    });
}

#[test]
fn a_broken_connection_cancels_its_calls() {
    with_server(Settings::default(), |address, seen| async move {
        let other = connect(address).await;
        let socket = TcpStream::connect(address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(socket).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut calls = Vec::new();
        for path in ["/test.Echo/Never", "/test.Stream/Never"] {
            let (response, mut stream) = client.send_request(request(path, &[]), false).unwrap();
            stream.send_data(framed(b"x"), true).unwrap();
            client = client.ready().await.unwrap();
            calls.push((response, stream));
        }
        // An answer on the same connection: the two before it have arrived.
        assert_eq!(echo(&client, b"they are there").await, "they are there");
        connection.abort();
        until_ended(&other, &seen, 2).await;
    });
}

#[test]
fn a_deadline_ends_the_call() {
    with_server(Settings::default(), |address, seen| async move {
        let client = connect(address).await;
        let late = (4, "context deadline exceeded");
        for path in ["/test.Echo/Never", "/test.Stream/Never"] {
            let answer = call(&client, path, &[("grpc-timeout", "20m")], framed(b"x")).await;
            assert_eq!(answer.refused(), late);
        }
        let mut sender = client.clone().ready().await.unwrap();
        let half = request("/test.Echo/Echo", &[("grpc-timeout", "20m")]);
        let (response, mut stream) = sender.send_request(half, false).unwrap();
        stream.send_data(Bytes::from_static(&[0, 0]), false).unwrap();
        assert_eq!(answer(response).await.unwrap().refused(), late);
        until_ended(&client, &seen, 2).await;
    });
}

#[test]
fn draining_lets_calls_end_and_closes_then() {
    with_server(Settings::default(), |address, _| async move {
        let client = connect(address).await;
        let mut sender = client.clone().ready().await.unwrap();
        let (response, mut stream) = sender.send_request(request("/test.Stream/Echo", &[]), false).unwrap();
        stream.send_data(framed(b"before"), false).unwrap();
        assert_eq!(echo(&client, b"it runs").await, "it runs");
        web::get(address, "/drain").await;
        stream.send_data(framed(b"after"), true).unwrap();
        let answer = answer(response).await.unwrap();
        assert_eq!((answer.status.0, &answer.messages[..]), (0, &["before".into(), "after".into()][..]));
        // Nothing runs any more, so the server closes.
        while client.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn stopping_closes_under_running_calls() {
    with_server(Settings::default(), |address, seen| async move {
        let client = connect(address).await;
        let mut sender = client.clone().ready().await.unwrap();
        let (response, mut stream) = sender.send_request(request("/test.Echo/Never", &[]), false).unwrap();
        stream.send_data(framed(b"x"), true).unwrap();
        assert_eq!(echo(&client, b"it runs").await, "it runs");
        web::get(address, "/stop").await;
        assert!(answer(response).await.is_err());
        while seen.ended.load(Ordering::Relaxed) < 1 {
            tokio::task::yield_now().await;
        }
    });
}

/// Everything the server sends until it closes.
async fn read_to_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset after the last bytes is an end like any other.
    let _ = socket.read_to_end(&mut bytes).await;
    bytes
}

#[test]
fn a_silent_client_is_pinged_and_closed() {
    let settings = Settings {
        keepalive_interval: Duration::from_millis(20),
        keepalive_timeout: Duration::from_millis(20),
        ..Settings::default()
    };
    with_server(settings, |address, _| async move {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(PREFACE).await.unwrap();
        let bytes = read_to_end(&mut socket).await;
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0];
        assert!(bytes.windows(ping.len()).any(|window| window == ping));
    });
}

#[test]
fn an_answering_client_is_kept() {
    let settings = Settings {
        keepalive_interval: Duration::from_millis(5),
        keepalive_timeout: Duration::from_secs(60),
        ..Settings::default()
    };
    with_server(settings, |address, _| async move {
        let client = connect(address).await;
        for _ in 0..20 {
            let answer = call(&client, "/test.Echo/Never", &[("grpc-timeout", "8m")], framed(b"x")).await;
            assert_eq!(answer.status.0, 4);
        }
    });
}

#[test]
fn too_many_pings_end_the_connection() {
    with_server(Settings::default(), |address, _| async move {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(PREFACE).await.unwrap();
        for _ in 0..4 {
            socket.write_all(b"\0\0\x08\x06\0\0\0\0\0abcdefgh").await.unwrap();
        }
        let bytes = read_to_end(&mut socket).await;
        let goaway = b"\0\0\x16\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0btoo_many_pings";
        assert!(bytes.ends_with(goaway), "{}", bytes.escape_ascii());
    });
}
