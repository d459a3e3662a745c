//! `check perf`: a minute of puts at a fixed rate; checks throughput, slowest request and standard deviation.

use std::time::Duration;

use super::super::command::{Command, Flag, Kind};
use super::super::progress::Progress;
use super::super::session::{Exit, Session};
use super::cluster;
use super::load::{self, Load, Outcome};
use crate::client::{Call, Client};

pub static COMMAND: Command = Command {
    name: "perf",
    arguments: "[options]",
    short: "Check the performance of the etcd cluster",
    flags: &[
        Flag::new(
            "load",
            Kind::Text,
            "s",
            "The performance check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge). \
             Different workload models use different configurations in terms of number of clients and expected \
             throughput.",
        )
        .values(&["small", "medium", "large", "xLarge"]),
        Flag::text("prefix", "/etcdctl-check-perf/", "The prefix for writing the performance check's keys."),
        cluster::AUTO_COMPACT,
        cluster::AUTO_DEFRAG,
    ],
    run: Some(run),
    ..Command::EMPTY
};

/// Puts per second and clients, by workload.
const WORKLOADS: [(u64, usize); 4] = [(150, 50), (1_000, 200), (8_000, 500), (15_000, 1_000)];
const DURATION: Duration = Duration::from_secs(60);
const KEY_BYTES: usize = 256;
const VALUE_BYTES: usize = 1_024;

/// Limits of a good cluster: the part of the rate, and seconds.
const RATE_SHARE_MIN: f64 = 0.9;
const SLOWEST_MAX: f64 = 0.5;
const DEVIATION_MAX: f64 = 0.1;

fn run(session: &mut Session) -> Result<(), Exit> {
    let (rate, count) = WORKLOADS[cluster::workload(session)?];
    let clients = cluster::clients(session, count)?;
    cluster::expect_nothing(session, &clients[0], "'")?;
    let load = Load {
        prefix: session.flags.text("prefix").to_owned(),
        key_bytes: KEY_BYTES,
        value_bytes: VALUE_BYTES,
        puts_max: None,
        rate: Some(rate),
        duration: Some(DURATION),
    };
    let progress = Progress::seconds(session, DURATION.as_secs());
    let (done, _) = tokio::sync::watch::channel(0);
    let outcome = session.wait_or_interrupt(progress.beside(load::run(&clients, load, &done), &done));
    clean_up(session, &clients[0], outcome.is_some() && session.flags.bool("auto-compact"))?;
    let Some(outcome) = outcome else {
        return Err(cluster::failed());
    };
    if session.flags.bool("auto-defrag") {
        cluster::defragment(session)?;
    }
    judge(session, &outcome, rate)
}

/// Cleans up. A failure is reported, and does not change the result of the check.
fn clean_up(session: &mut Session, client: &Client, compacts: bool) -> Result<(), Exit> {
    match cluster::delete(session, client, Call::within(cluster::CLEANUP_TIMEOUT)) {
        Ok(revision) if compacts => cluster::compact(session, client, revision),
        Ok(_) => Ok(()),
        Err(error) => {
            writeln!(session.io.output, "FAIL: Cleanup failed during key deletion: ERROR({error})")?;
            Ok(())
        }
    }
}

fn judge(session: &mut Session, outcome: &Outcome, rate: u64) -> Result<(), Exit> {
    let mut good = !cluster::show_errors(session, outcome)?;
    let output = &mut session.io.output;
    let measured = outcome.rate();
    let shown = measured as u64 + 1;
    if measured / rate as f64 <= RATE_SHARE_MIN {
        writeln!(output, "FAIL: Throughput too low: {shown} writes/s")?;
        good = false;
    } else {
        writeln!(output, "PASS: Throughput is {shown} writes/s")?;
    }
    let (slowest, deviation) = (outcome.slowest(), outcome.deviation());
    if slowest > SLOWEST_MAX {
        writeln!(output, "Slowest request took too long: {slowest:.6}s")?;
        good = false;
    } else {
        writeln!(output, "PASS: Slowest request took {slowest:.6}s")?;
    }
    if deviation > DEVIATION_MAX {
        writeln!(output, "Stddev too high: {deviation:.6}s")?;
        good = false;
    } else {
        writeln!(output, "PASS: Stddev is {deviation:.6}s")?;
    }
    writeln!(output, "{}", if good { "PASS" } else { "FAIL" })?;
    if good { Ok(()) } else { Err(cluster::failed()) }
}
