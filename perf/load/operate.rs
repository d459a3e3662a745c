//! One call, which the scripts time, without the start of a client program.

use std::time::Instant;

use clap::{Args, Subcommand};
use prost::Message;
use ringd::proto::etcdserverpb::{
    CompactionRequest, DefragmentRequest, LeaseLeasesRequest, LeaseRevokeRequest, RangeRequest, SnapshotRequest,
};

use crate::{
    AnyError, WIDE, here,
    messages::{Assembly, count_in, header_revision},
    pool::{Pool, or_closed},
    wire::Event,
};

#[derive(Args)]
pub struct Operate {
    #[arg(long)]
    port: u16,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Copy, Subcommand)]
enum What {
    /// A linearizable read of a key that need not exist.
    Read,
    /// Compacts at the newest revision, and waits until the space is free.
    Compact,
    Defragment,
    /// Received, not kept.
    Snapshot,
    /// Takes back lease 1.
    Revoke,
    /// Counts the leases: the second number.
    Leases,
}

impl Operate {
    pub fn run(&self) -> Result<(), AnyError> {
        let begin = Instant::now();
        let mut pool = Pool::open(&here(self.port), 1, WIDE)?;
        let read = RangeRequest { key: "/".into(), ..RangeRequest::default() };
        let bytes = match self.what {
            What::Read => call(&mut pool, "/etcdserverpb.KV/Range", &read)?.bytes,
            What::Compact => {
                let revision = call(&mut pool, "/etcdserverpb.KV/Range", &read)?.revision;
                let compaction = CompactionRequest { revision, physical: true };
                call(&mut pool, "/etcdserverpb.KV/Compact", &compaction)?.bytes
            }
            What::Defragment => {
                call(&mut pool, "/etcdserverpb.Maintenance/Defragment", &DefragmentRequest::default())?.bytes
            }
            What::Snapshot => call(&mut pool, "/etcdserverpb.Maintenance/Snapshot", &SnapshotRequest::default())?.bytes,
            What::Leases => {
                call(&mut pool, "/etcdserverpb.Lease/LeaseLeases", &LeaseLeasesRequest::default())?.repeated as u64
            }
            What::Revoke => call(&mut pool, "/etcdserverpb.Lease/LeaseRevoke", &LeaseRevokeRequest { id: 1 })?.bytes,
        };
        println!("{:.3} {bytes}", begin.elapsed().as_secs_f64());
        Ok(())
    }
}

#[derive(Default)]
struct Answer {
    bytes: u64,
    /// Of the last message's header.
    revision: i64,
    /// The number of fields after the header in the last message.
    repeated: usize,
}

fn call(pool: &mut Pool, path: &'static str, request: &impl Message) -> Result<Answer, AnyError> {
    pool.connections[0].wire.call(path, request, true);
    let (mut answer, mut assembly) = (Answer::default(), Assembly::default());
    let mut done = false;
    while !done {
        let mut handler = or_closed(|_, _, event| {
            match event {
                Event::Data { bytes, .. } => {
                    answer.bytes += bytes.len() as u64;
                    assembly.push(bytes, &mut |message| {
                        answer.revision = header_revision(message);
                        answer.repeated = count_in(message, 2);
                    });
                }
                Event::End { .. } => done = true,
                Event::Closed { .. } => {}
            }
            Ok(())
        });
        pool.step(None, &mut handler)?;
    }
    if answer.bytes == 0 { Err(format!("{path} was refused").into()) } else { Ok(answer) }
}
