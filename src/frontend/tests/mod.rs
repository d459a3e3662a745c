//! A front core on a thread of its own, with clients of another implementation (h2 on tokio) or raw sockets.

mod abuse;
mod calls;
mod heads;
mod lifetime;
mod packed;
mod server;
mod web;

use std::{
    future::Future,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering, mpsc},
    thread,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use glommio::LocalExecutorBuilder;
use h2::client::SendRequest;
use http::{HeaderMap, Request, StatusCode};
use tokio::net::TcpStream;

use self::server::{METHODS, Seen, TestHandler, TestWeb};
use super::{Door, Front, Traffic};
use crate::{
    os::net::{Address, Listener, Sharing, bind},
    rpc::{Drain, Server, Settings, Stage},
};

/// How long a draining server waits for its clients.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `client` against a fresh server, then stops the server and waits for its thread.
fn with_server<F: Future<Output = ()>>(settings: Settings, client: impl FnOnce(SocketAddr, Arc<Seen>) -> F) {
    let (address_sender, address) = mpsc::channel();
    let seen = Arc::new(Seen::default());
    let for_server = seen.clone();
    let server = thread::spawn(move || {
        let executor = LocalExecutorBuilder::default().make().unwrap();
        executor.run(async move {
            let listener =
                bind(&Address::Tcp("127.0.0.1:0".parse().unwrap()), 1, Sharing::Alone).unwrap().sockets.remove(0);
            let Address::Tcp(address) = listener.local_address().unwrap() else { unreachable!() };
            address_sender.send(address).unwrap();
            let stop = Drain::new();
            let server = Server::new(METHODS, TestHandler(for_server.clone()), settings);
            *for_server.counters.lock().unwrap() = Some(server.counters());
            let traffic = Traffic::Both(Rc::new(TestWeb { stop: stop.clone(), seen: for_server }));
            let door = Door { traffic, secrets: None, is_plain_too: false };
            let front = Front::new(server);
            let running = glommio::spawn_local(front.clone().run(Listener::new(listener), door));
            stop.reached(Stage::Draining).await;
            let grace = if stop.stage() == Stage::Draining { PATIENCE } else { Duration::ZERO };
            front.stop(grace).await;
            running.await;
        });
    });
    let address = address.recv().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        client(address, seen.clone()).await;
        if !seen.stopping.load(Ordering::Relaxed) {
            web::get(address, "/stop").await;
        }
    });
    drop(runtime);
    server.join().unwrap();
}

/// A connected client.
async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(address).await.unwrap();
    // A stream that is not read must leave room for the others, and many small answers at once are no attack.
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(4 << 20);
    let (sender, connection) = builder.handshake(socket).await.unwrap();
    tokio::spawn(async move {
        // The calls report the end of the connection.
        let _ = connection.await;
    });
    sender.ready().await.unwrap()
}

fn request(path: &str, extra: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::post(format!("http://server{path}"));
    if extra.iter().all(|(name, _)| *name != "content-type") {
        request = request.header("content-type", "application/grpc");
    }
    extra.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
}

/// A message with its prefix.
fn framed(message: &[u8]) -> Bytes {
    let mut wire = vec![0];
    wire.extend((message.len() as u32).to_be_bytes());
    wire.extend(message);
    wire.into()
}

/// The answer to one call.
#[derive(Debug)]
struct Answer {
    http: StatusCode,
    headers: HeaderMap,
    messages: Vec<Bytes>,
    /// `grpc-status` and `grpc-message` from the trailers or the head.
    status: (u8, String),
}

impl Answer {
    fn refused(&self) -> (u8, &str) {
        assert!(self.messages.is_empty());
        (self.status.0, &self.status.1)
    }
}

/// One request with these bytes as its whole body.
async fn call(client: &SendRequest<Bytes>, path: &str, extra: &[(&str, &str)], body: Bytes) -> Answer {
    let mut client = client.clone().ready().await.unwrap();
    let (response, mut stream) = client.send_request(request(path, extra), false).unwrap();
    stream.send_data(body, true).unwrap();
    answer(response).await.unwrap()
}

async fn echo(client: &SendRequest<Bytes>, message: &[u8]) -> Bytes {
    let mut answer = call(client, "/test.Echo/Echo", &[], framed(message)).await;
    assert_eq!(answer.status, (0, String::new()));
    assert_eq!(answer.messages.len(), 1);
    answer.messages.remove(0)
}

async fn answer(response: h2::client::ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    let trailers = body.trailers().await?;
    let of_status = trailers.as_ref().unwrap_or(&head.headers);
    let text = |name| of_status.get(name).map(|value| value.to_str().unwrap().to_owned());
    let status = (text("grpc-status").unwrap().parse().unwrap(), text("grpc-message").unwrap_or_default());
    let mut messages = Vec::new();
    while bytes.len() >= 5 {
        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        let _prefix = bytes.split_to(5);
        messages.push(bytes.split_to(length).freeze());
    }
    assert!(bytes.is_empty());
    Ok(Answer { http: head.status, headers: head.headers, messages, status })
}
