//! HTTP/1 on the gRPC port.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// One request on a connection of its own; the whole response.
pub async fn get(address: SocketAddr, path: &str) -> String {
    exchange(address, format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await
}

async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    // The server may be gone already when it is asked to stop a second time.
    let Ok(mut socket) = TcpStream::connect(address).await else { return String::new() };
    let _ = socket.write_all(request).await;
    let mut response = Vec::new();
    let _ = socket.read_to_end(&mut response).await;
    String::from_utf8_lossy(&response).into_owned()
}

#[test]
fn requests_with_and_without_body() {
    with_server(Settings::default(), |address, _| async move {
        let response = get(address, "/health?exclude=NOSPACE").await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(response.ends_with("\r\n\r\nGET /health exclude=NOSPACE 0"));
        let post = "POST /v3/kv/put HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc";
        assert!(exchange(address, post.as_bytes()).await.ends_with("POST /v3/kv/put  3"));
        let two = "GET /a HTTP/1.1\r\nhost: x\r\n\r\nGET /b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let both = exchange(address, two.as_bytes()).await;
        assert!(both.contains("GET /a  0") && both.ends_with("GET /b  0"));
    });
}

#[test]
fn requests_that_are_refused() {
    with_server(Settings::default(), |address, _| async move {
        assert!(exchange(address, b"PRINT /x HTTP/9\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        let head = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(100_000));
        assert!(exchange(address, head.as_bytes()).await.starts_with("HTTP/1.1 431"));
        let head = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 3000000\r\n\r\n";
        let large = [head, &"z".repeat(3_000_000)].concat();
        assert!(exchange(address, large.as_bytes()).await.starts_with("HTTP/1.1 413"));
    });
}

/// The status lines are those of Go's server.
#[test]
fn hosts() {
    with_server(Settings::default(), |address, _| async move {
        for (head, status) in [
            ("GET /a HTTP/1.1\r\n", "HTTP/1.1 400 Bad Request: missing required Host header"),
            ("GET http://x/a HTTP/1.1\r\n", "HTTP/1.1 400 Bad Request: missing required Host header"),
            ("GET /a HTTP/1.1\r\nhost: x\r\nhost: x\r\n", "HTTP/1.1 400 Bad Request"),
            ("GET /a HTTP/1.1\r\nhost: a b\r\n", "HTTP/1.1 400 Bad Request: malformed Host header"),
            ("GET /a HTTP/1.1\r\nhost: a/b\r\n", "HTTP/1.1 400 Bad Request: malformed Host header"),
            ("GET /a HTTP/1.1\r\nhost:\r\nconnection: close\r\n", "HTTP/1.1 200 OK"),
            ("GET /a HTTP/1.1\r\nhost: [::1]:80,b;c=d\r\nconnection: close\r\n", "HTTP/1.1 200 OK"),
            ("GET /a HTTP/1.0\r\n", "HTTP/1.0 200 OK"),
        ] {
            let answer = exchange(address, format!("{head}\r\n").as_bytes()).await;
            assert_eq!(answer.lines().next(), Some(status), "{head:?}");
            if let Some((_, reason)) = status.split_once("400 ") {
                assert!(answer.ends_with(&format!("\r\n\r\n400 {reason}")), "{answer}");
            }
        }
    });
}
