//! A bare gRPC echo on one core: the cost of the layers under the server.
//!
//! `cargo bench --bench echo_server -- --listen 127.0.0.1:2400 [--core 0] [--spin-us 0]` answers
//! `/etcdserverpb.KV/Range` with the request until it is killed, for a load generator. Without `--listen` it makes a
//! thousand calls to itself, as a test, and ends.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use glommio::{LocalExecutorBuilder, Placement};
use http::StatusCode;
use ringd::{
    frontend::{Door, Front, Traffic, WebFuture, WebHandler, WebRequest, WebResponse},
    os::net::{Address, Listener, Sharing, Socket, bind},
    rpc::{Body, Call, Handler, Inbound, Method, MethodKind, Outbound, Reply, Responder, Server, Settings},
};

const METHODS: &[Method] = &[Method { service: "etcdserverpb.KV", name: "Range", kind: MethodKind::Unary }];

/// As in the server.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

struct Echo;

impl Handler for Echo {
    fn unary(&self, _: &Call, message: Bytes, _: Responder) -> Option<Reply> {
        Some(Ok(Body::Message(message)))
    }

    fn streaming(&self, _: Call, _: Inbound, _: Outbound) {}
}

impl WebHandler for Echo {
    fn http(&self, request: WebRequest) -> WebFuture {
        Box::pin(async { WebResponse::new(StatusCode::OK, "text/plain", request.path) })
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1).cloned()
    };
    let core = value("--core").map_or(0, |core| core.parse().expect("--core takes a number"));
    let mut builder = LocalExecutorBuilder::new(Placement::Fixed(core));
    if let Some(spin) = value("--spin-us") {
        builder = builder.spin_before_park(Duration::from_micros(spin.parse().expect("--spin-us takes a number")));
    }
    let listen = value("--listen");
    let address: SocketAddr =
        listen.as_deref().unwrap_or("127.0.0.1:0").parse().expect("--listen takes an address and a port");
    let listener = bind(&Address::Tcp(address), 1, Sharing::Alone).expect("the address is free").sockets.remove(0);
    let Ok(Address::Tcp(address)) = listener.local_address() else { panic!("it is not bound") };
    println!("listening on {address}");
    builder
        .spawn(move || async move {
            let front = Front::new(Server::new(METHODS, Echo, Settings::default()));
            let door = Door { traffic: Traffic::Both(Rc::new(Echo)), secrets: None, is_plain_too: false };
            let running = glommio::spawn_local(front.clone().run(Listener::new(listener), door));
            if listen.is_none() {
                call_ourselves(address).await;
                front.stop(Duration::from_secs(1)).await;
            }
            running.await;
        })
        .expect("glommio starts")
        .join()
        .expect("the executor ends well");
}

/// A thousand HTTP/1 requests, one after the other.
async fn call_ourselves(address: SocketAddr) {
    let mut socket = Socket::connect(address).await.expect("it listens");
    let mut buffer = [0; 1024];
    for _ in 0..1000 {
        socket.send_all(b"GET /echo HTTP/1.1\r\nhost: here\r\n\r\n").await.expect("it reads");
        let count = socket.receive(&mut buffer).await.expect("it answers");
        assert!(buffer[..count].starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
    println!("1000 requests answered");
}
