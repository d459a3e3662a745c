//! Clients that list a prefix at the same time, and the memory of the server meanwhile.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use ringd::proto::etcdserverpb::RangeRequest;

use crate::{
    AnyError, WIDE, here,
    pool::{Pool, or_closed},
    prefix_end,
    samples::Memory,
    wire::Event,
};

#[derive(Args)]
pub struct List {
    #[arg(long)]
    port: u16,
    /// Each on a connection of its own.
    #[arg(long, default_value_t = 8)]
    clients: usize,
    #[arg(long, default_value = "/registry/")]
    prefix: String,
    #[arg(long, value_enum, default_value_t = How::Unary)]
    how: How,
    /// A client that got less is an error.
    #[arg(long)]
    bytes_min: u64,
    /// Megabytes per second that each client reads; without, all it can.
    #[arg(long)]
    pace: Option<f64>,
    /// The server, for its memory.
    #[arg(long)]
    process: Option<u32>,
}

#[derive(Clone, Copy, ValueEnum)]
enum How {
    Unary,
    Stream,
}

#[derive(Clone, Copy, Default)]
struct Client {
    received: u64,
    done: bool,
}

impl List {
    /// Time between two checks of a slow client whether it may read again.
    const TURN: Duration = Duration::from_millis(5);

    pub fn run(&self) -> Result<(), AnyError> {
        let path = match self.how {
            How::Unary => "/etcdserverpb.KV/Range",
            How::Stream => "/etcdserverpb.KV/RangeStream",
        };
        let (key, range_end) = (self.prefix.clone().into(), prefix_end(&self.prefix));
        let request = RangeRequest { key, range_end, ..RangeRequest::default() };
        let mut pool = Pool::open(&here(self.port), self.clients, WIDE)?;
        let mut memory = Memory::of(self.process)?;
        let mut clients = vec![Client::default(); self.clients];
        let begin = Instant::now();
        for connection in &mut pool.connections {
            connection.wire.call(path, &request, true);
        }
        while clients.iter().any(|client| !client.done) {
            let now = Instant::now();
            memory.look(now)?;
            let mut until = memory.next();
            if let Some(pace) = self.pace {
                let allowed = now.duration_since(begin).as_secs_f64() * pace * 1e6;
                for (client, connection) in clients.iter().zip(&mut pool.connections) {
                    connection.reading = client.received as f64 <= allowed;
                }
                until = until.min(now + Self::TURN);
            }
            let mut handler = or_closed(|number, _, event| {
                let client: &mut Client = &mut clients[number];
                match event {
                    Event::Data { bytes, .. } => client.received += bytes.len() as u64,
                    Event::End { .. } if client.received < self.bytes_min => {
                        return Err(format!("client {number} got only {} bytes", client.received).into());
                    }
                    Event::End { .. } => client.done = true,
                    Event::Closed { .. } => {}
                }
                Ok(())
            });
            pool.step(Some(until), &mut handler)?;
        }
        let megabytes = clients.iter().map(|client| client.received).sum::<u64>() as f64 / 1e6;
        println!("{:.3} {megabytes:.0} {} {}", begin.elapsed().as_secs_f64(), memory.begin_mb, memory.peak_mb);
        Ok(())
    }
}
