//! The server under test: one method per behaviour.

use std::{
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;

use crate::{
    frontend::{WebFuture, WebHandler, WebRequest, WebResponse},
    os,
    rpc::{
        Body, Call, CallCounters, CallReport, Code, Drain, Handler, Inbound, Method, MethodKind, Outbound, Producer,
        Reply, Responder, Stage, Status,
    },
};

const fn unary(name: &'static str) -> Method {
    Method { service: "test.Echo", name, kind: MethodKind::Unary }
}

pub const METHODS: &[Method] = &[
    unary("Echo"),
    unary("Later"),
    unary("Never"),
    unary("Fail"),
    unary("Large"),
    unary("Drop"),
    unary("Who"),
    Method { service: "test.Stream", name: "Count", kind: MethodKind::ServerStream },
    Method { service: "test.Stream", name: "Echo", kind: MethodKind::BidiStream },
    Method { service: "test.Stream", name: "Never", kind: MethodKind::BidiStream },
];

/// Counts that the server shares with the test.
#[derive(Default)]
pub struct Seen {
    /// Bytes that producers of large answers were asked for.
    pub produced: AtomicU64,
    /// Kept calls and streams that noticed their end.
    pub ended: AtomicU64,
    pub handled: AtomicU64,
    pub stopping: AtomicBool,
    pub counters: Mutex<Option<Arc<CallCounters>>>,
}

pub struct TestHandler(pub Arc<Seen>);

impl Handler for TestHandler {
    fn unary(&self, call: &Call, message: Bytes, responder: Responder) -> Option<Reply> {
        assert!(!responder.is_canceled());
        let seen = self.0.clone();
        match METHODS[usize::from(call.method.0)].name {
            "Echo" => return Some(Ok(Body::Message(message))),
            "Fail" => return Some(Err(Status::new(Code::NotFound, "gibt's nicht: ä%\n"))),
            "Large" => {
                let length = String::from_utf8(message.to_vec()).unwrap().parse().unwrap();
                return Some(Ok(Body::Large(Box::new(Pattern { at: 0, length, seen }))));
            }
            "Who" => {
                let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or(b"-")).into_owned();
                let who = format!(
                    "{} {} {} {} {}",
                    text(call.metadata("token")),
                    text(call.metadata("authorization")),
                    call.has_leader(),
                    text(call.client_api_version()),
                    text(call.metadata("x-bin")),
                );
                return Some(Ok(Body::Message(who.into())));
            }
            "Drop" => drop(responder),
            "Later" => os::spawn_local(async move {
                os::yield_now().await;
                responder.send(Ok(Body::Message(message)));
            }),
            "Never" => os::spawn_local(async move {
                while !responder.is_canceled() {
                    os::yield_now().await;
                }
                seen.ended.fetch_add(1, Ordering::Relaxed);
                responder.send(Ok(Body::Message(message)));
            }),
            other => panic!("{other} is not unary"),
        }
        None
    }

    fn streaming(&self, call: Call, inbound: Inbound, outbound: Outbound) {
        let seen = self.0.clone();
        match METHODS[usize::from(call.method.0)].name {
            "Count" => os::spawn_local(count(inbound, outbound)),
            "Echo" => os::spawn_local(stream_echo(inbound, outbound)),
            _ => os::spawn_local(async move {
                let mut outbound = outbound;
                let status = outbound.closed().await;
                outbound.finish(Err(status));
                seen.ended.fetch_add(1, Ordering::Relaxed);
            }),
        }
    }

    fn handled(&self, _: &CallReport<'_>) {
        self.0.handled.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends as many messages as the request says, each of that many bytes.
async fn count(mut inbound: Inbound, mut outbound: Outbound) {
    let result = async {
        let count: usize = String::from_utf8_lossy(&inbound.only().await?).parse().unwrap();
        for number in 0..count {
            outbound.send(Bytes::from(vec![number as u8; count])).await?;
        }
        Ok(())
    };
    let result = result.await;
    outbound.finish(result);
}

async fn stream_echo(mut inbound: Inbound, mut outbound: Outbound) {
    let result = async {
        while let Some(message) = inbound.next().await? {
            outbound.send(message).await?;
        }
        Ok(())
    };
    let result = result.await;
    outbound.finish(result);
}

/// Bytes that depend on their offset.
struct Pattern {
    at: u64,
    length: u64,
    seen: Arc<Seen>,
}

pub fn pattern(at: u64) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)) as u8
}

impl Producer for Pattern {
    fn length(&self) -> u64 {
        self.length
    }

    fn fill(&mut self, out: &mut BytesMut, room: usize) {
        for _ in 0..room {
            out.put_u8(pattern(self.at));
            self.at += 1;
        }
        self.seen.produced.fetch_add(room as u64, Ordering::Relaxed);
    }
}

/// `/stop` stops the server at once and `/drain` patiently; every other request is echoed.
pub struct TestWeb {
    pub stop: Rc<Drain>,
    pub seen: Arc<Seen>,
}

impl WebHandler for TestWeb {
    fn http(&self, request: WebRequest) -> WebFuture {
        let stage = match &*request.path {
            "/stop" => Stage::Aborting,
            "/drain" => Stage::Draining,
            _ => Stage::Open,
        };
        self.seen.stopping.fetch_or(stage > Stage::Open, Ordering::Relaxed);
        self.stop.advance(stage);
        Box::pin(async move {
            os::yield_now().await;
            let text = format!("{} {} {} {}", request.method, request.path, request.query, request.body.len());
            WebResponse::new(StatusCode::OK, "text/plain", text)
        })
    }
}
