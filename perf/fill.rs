//! Writes many different keys, or reads one: what `perf/keys` needs and h2load cannot do.
//!
//! `fill put --port P --count N --bytes B` prints puts per second; `fill read ...` prints the milliseconds of one
//! linearizable read. One thread: 16 connections with 16 requests in flight each.

use std::{cell::Cell, error::Error, rc::Rc, time::Instant};

use bytes::{BufMut, Bytes, BytesMut};
use clap::{Parser, ValueEnum};
use h2::client::SendRequest;
use prost::Message;
use ringd::proto::etcdserverpb::{PutRequest, RangeRequest};
use tokio::{net::TcpStream, task::JoinSet, task::LocalSet};

const CONNECTIONS: usize = 16;
const IN_FLIGHT: usize = 16;

type AnyError = Box<dyn Error>;

#[derive(Parser)]
struct Arguments {
    what: What,
    #[arg(long)]
    port: u16,
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    #[arg(long, default_value_t = 256)]
    bytes: usize,
    /// `cargo bench` passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Put,
    Read,
}

fn main() -> Result<(), AnyError> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let start = Instant::now();
    match arguments.what {
        What::Put => {
            runtime.block_on(LocalSet::new().run_until(fill(&arguments)))?;
            println!("{:.0}", arguments.count as f64 / start.elapsed().as_secs_f64());
        }
        What::Read => {
            let request = RangeRequest { key: key(0), ..RangeRequest::default() };
            runtime.block_on(LocalSet::new().run_until(async {
                let sender = connect(arguments.port).await?;
                call(&sender, "/etcdserverpb.KV/Range", &request.encode_to_vec()).await
            }))?;
            println!("{:.1}", start.elapsed().as_secs_f64() * 1000.0);
        }
    }
    Ok(())
}

async fn fill(arguments: &Arguments) -> Result<(), AnyError> {
    let value = Bytes::from(vec![b'v'; arguments.bytes]);
    let next = Rc::new(Cell::new(0));
    let count = arguments.count;
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let sender = connect(arguments.port).await?;
        for _ in 0..IN_FLIGHT {
            let (sender, value, next) = (sender.clone(), value.clone(), Rc::clone(&next));
            tasks.spawn_local(async move {
                while next.get() < count {
                    let key = key(next.replace(next.get() + 1));
                    let request = PutRequest { key, value: value.clone(), ..PutRequest::default() };
                    call(&sender, "/etcdserverpb.KV/Put", &request.encode_to_vec())
                        .await
                        .map_err(|error| error.to_string())?;
                }
                Ok::<(), String>(())
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// Keys in an order that is not theirs, as applications write them.
fn key(number: u64) -> Bytes {
    format!("/registry/{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into()
}

async fn connect(port: u16) -> Result<SendRequest<Bytes>, AnyError> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

async fn call(sender: &SendRequest<Bytes>, path: &str, message: &[u8]) -> Result<(), AnyError> {
    let request = http::Request::post(format!("http://127.0.0.1{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut stream) = sender.clone().ready().await?.send_request(request, false)?;
    let mut body = BytesMut::with_capacity(5 + message.len());
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len())?);
    body.put_slice(message);
    stream.send_data(body.freeze(), true)?;
    let (head, mut body) = response.await?.into_parts();
    while let Some(chunk) = body.data().await {
        let length = chunk?.len();
        body.flow_control().release_capacity(length)?;
    }
    let trailers = body.trailers().await?;
    let status = trailers.as_ref().unwrap_or(&head.headers).get("grpc-status");
    match status {
        Some(status) if status == "0" => Ok(()),
        other => Err(format!("{path}: grpc-status {other:?}").into()),
    }
}
