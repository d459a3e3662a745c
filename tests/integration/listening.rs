//! Listeners, compared with etcd's: sockets in the file system, and listeners for one kind of traffic.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
};

use crate::{
    harness::{
        self,
        etcdctl::etcdctl,
        server::{self, Program, Server, free_port},
    },
    pages::ask,
};

/// A socket is served like a port. One that a dead process left is replaced; a stop removes it.
pub fn socket_in_the_file_system() {
    let (directory, sockets) = (server::directory(), tempfile::tempdir().unwrap());
    let path = sockets.path().join("client.sock");
    let url = format!("unix://{}", path.display());
    drop(UnixListener::bind(&path).unwrap());
    let server = Server::start_with(Program::Ringd, directory.path(), &["--listen-client-urls", &url]);
    assert!(get(&path, "/version").contains("etcdserver"));
    server.kill();
    assert!(path.exists());
    let server = Server::start_with(Program::Ringd, directory.path(), &["--listen-client-urls", &url]);
    assert!(get(&path, "/health").contains("true"));

    let other = server::directory();
    let ended = Server::try_start(Program::Ringd, other.path(), &["--listen-client-urls", &url]);
    let ended = ended.err().expect("the socket is in use");
    assert!(ended.log.contains("address already in use"), "{ended}");

    server.stop();
    assert!(!path.exists());
}

/// All fronts accept from the one socket.
pub fn socket_shared_by_cores() {
    let (directory, sockets) = (server::directory(), tempfile::tempdir().unwrap());
    let path = sockets.path().join("client.sock");
    let url = format!("unix://{}", path.display());
    let flags = ["--cores", "5", "--listen-client-urls", &url];
    let server = Server::start_with(Program::Ringd, directory.path(), &flags);
    for _ in 0..100 {
        assert!(get(&path, "/health?serializable=true").contains("true"));
    }
    server.stop();
    assert!(!path.exists());
}

/// gRPC over a socket, from an independent client; Kubernetes tests use this form of URL.
pub fn stock_client_on_a_socket() {
    let (directory, sockets) = (server::directory(), tempfile::tempdir().unwrap());
    let url = format!("unix://{}", sockets.path().join("client.sock").display());
    let flags = ["--listen-client-urls", &url, "--advertise-client-urls", &url];
    let server = Server::start_with(Program::Ringd, directory.path(), &flags);
    assert_eq!(etcdctl(&url, &["put", "k", "v"], "").stdout, "OK\n");
    assert_eq!(etcdctl(&url, &["get", "k"], "").stdout, "k\nv\n");
    assert!(etcdctl(&url, &["member", "list"], "").stdout.contains(&url));
    server.stop();
}

/// With a URL for pages the others serve gRPC only, and the one for metrics has few pages.
pub fn traffic_is_split_as_by_etcd() {
    let directories = [server::directory(), server::directory()];
    let ports = [0; 4].map(|_| server::free_port());
    let start = |program, directory: &Path, pages: u16, metrics: u16| {
        let (pages, metrics) = (format!("http://127.0.0.1:{pages}"), format!("http://127.0.0.1:{metrics}"));
        let flags = ["--listen-client-http-urls", &pages, "--listen-metrics-urls", &metrics];
        Server::start_with(program, directory, &flags)
    };
    let ringd = start(Program::Ringd, directories[0].path(), ports[0], ports[1]);
    let etcd = start(Program::Etcd, directories[1].path(), ports[2], ports[3]);

    for (method, path) in [("GET", "/version"), ("GET", "/health"), ("OPTIONS", "/health"), ("GET", "/nothing")] {
        let [ours, etcds] = [ports[0], ports[2]].map(|port| harness::run(ask(port, method, path)));
        assert_eq!(ours, etcds, "{method} {path} of the pages: ringd, then etcd");
    }
    for (method, path) in [
        ("GET", "/health"),
        ("POST", "/health"),
        ("OPTIONS", "/health"),
        ("GET", "/livez?verbose"),
        ("GET", "/readyz/linearizable_read?verbose"),
        ("GET", "/readyz/nothing"),
        ("GET", "/version"),
        ("OPTIONS", "/version"),
        ("GET", "/debug/vars"),
        ("GET", "//health"),
        ("GET", "/"),
    ] {
        let [ours, etcds] = [ports[1], ports[3]].map(|port| harness::run(ask(port, method, path)));
        assert_eq!(ours, etcds, "{method} {path} of the metrics: ringd, then etcd");
    }
    assert!(harness::run(ask(ports[1], "GET", "/metrics")).has_body("etcd_server_has_leader 1"));

    let http1 = b"GET /version HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for (server, pages, metrics) in [(&ringd, ports[0], ports[1]), (&etcd, ports[2], ports[3])] {
        let answer = answer_to(http1, server.port);
        assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
        assert_eq!(answer_to(http2, pages), b"", "gRPC where pages are");
        assert!(!answer_to(http2, metrics).starts_with(b"\0\0"), "gRPC where metrics are");
        harness::run(async { server.connect().await });
    }
}

/// Two servers share a port only if both want to.
pub fn ports_are_shared_on_demand() {
    let (directories, port) = ([server::directory(), server::directory()], free_port());
    let url = format!("http://127.0.0.1:{port}");
    let alone = ["--listen-client-urls", &url, "--advertise-client-urls", &url];
    let shared = [&alone[..], &["--socket-reuse-port"]].concat();
    let first = Server::start_with(Program::Ringd, directories[0].path(), &shared);
    let second = Server::start_with(Program::Ringd, directories[1].path(), &shared);
    second.stop();
    let ended = Server::try_start(Program::Ringd, directories[1].path(), &alone).err().expect("the port is taken");
    assert!(ended.log.contains("address already in use"), "{ended}");
    first.stop();
}

/// The body of a page, over a socket.
fn get(path: &Path, page: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    write!(stream, "GET {page} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").expect("an HTTP answer").1.to_owned()
}

/// The answer to some bytes, until the server closes.
fn answer_to(bytes: &[u8], port: u16) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut answer = Vec::new();
    // A server that refuses the bytes may close before it has read all.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let _ = stream.read_to_end(&mut answer);
    answer
}
