//! `check datascale`: the memory that a server takes for a number of keys, by its own `/metrics`.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::command::{Command, Flag, Kind};
use super::super::progress::Progress;
use super::super::session::{Exit, Session};
use super::cluster;
use super::load::{self, Load};
use crate::base::limits::CLIENT_METRICS_BYTES_MAX;
use crate::client::{Call, Tls, TlsFiles, tls::server_name};

pub static COMMAND: Command = Command {
    name: "datascale",
    arguments: "[options]",
    short: "Check the memory usage of holding data for different workloads on a given server endpoint.",
    long: "If no endpoint is provided, localhost will be used. If multiple endpoints are provided, first endpoint \
           will be used.",
    flags: &[
        Flag::new(
            "load",
            Kind::Text,
            "s",
            "The datascale check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge)",
        ),
        Flag::text("prefix", "/etcdctl-check-datascale/", "The prefix for writing the datascale check's keys."),
        cluster::AUTO_COMPACT,
        cluster::AUTO_DEFRAG,
    ],
    run: Some(run),
    ..Command::EMPTY
};

/// Keys and clients, by workload.
const WORKLOADS: [(u64, usize); 4] = [(10_000, 50), (100_000, 200), (1_000_000, 500), (3_000_000, 1_000)];
const PAIR_BYTES: usize = 1_024;
const MEMORY_METRIC: &str = "process_resident_memory_bytes";

fn run(session: &mut Session) -> Result<(), Exit> {
    let (puts, count) = WORKLOADS[cluster::workload(session)?];
    let clients = cluster::clients(session, count)?;
    cluster::expect_nothing(session, &clients[0], "")?;
    let endpoint = session.flags.list("endpoints").first().cloned().unwrap_or_default();
    let before = memory(session, &endpoint, "before")?;
    writeln!(
        session.io.output,
        "Start data scale check for work load [{puts} key-value pairs, {PAIR_BYTES} bytes per key-value, {count} \
         concurrent clients]."
    )?;
    session.io.output.flush()?;
    let load = Load {
        prefix: session.flags.text("prefix").to_owned(),
        key_bytes: PAIR_BYTES / 2,
        value_bytes: PAIR_BYTES / 2,
        puts_max: Some(puts),
        rate: None,
        duration: None,
    };
    let progress = Progress::steps(session, puts);
    let (done, _) = tokio::sync::watch::channel(0);
    let outcome = session.wait(progress.beside(load::run(&clients, load, &done), &done));
    let after = memory(session, &endpoint, "after")?;
    let revision = cluster::delete(session, &clients[0], Call::default())?;
    if session.flags.bool("auto-compact") {
        cluster::compact(session, &clients[0], revision)?;
    }
    if session.flags.bool("auto-defrag") {
        cluster::defragment(session)?;
    }
    if cluster::show_errors(session, &outcome)? {
        return Err(cluster::failed());
    }
    let used = (after - before) / f64::from(1 << 20);
    writeln!(session.io.output, "PASS: Approximate system memory used : {used:.2} MB.")?;
    Ok(())
}

/// The server's resident memory in bytes.
fn memory(session: &mut Session, endpoint: &str, when: &str) -> Result<f64, Exit> {
    let tls = session.tls().cloned();
    let page = session.wait(metrics_page(endpoint, tls));
    let value = match &page {
        Ok(page) => resident_memory(page),
        Err(error) => {
            writeln!(session.io.output, "fetch error: {error}")?;
            None
        }
    };
    if let Some(bytes) = value.filter(|bytes| *bytes > 0.0) {
        return Ok(bytes);
    }
    if page.is_ok() {
        writeln!(session.io.output, "could not find: {MEMORY_METRIC}")?;
    }
    writeln!(session.io.output, "FAIL: Could not read {MEMORY_METRIC} {when} the put operations.")?;
    Err(cluster::failed())
}

/// `/metrics` by HTTP/1.0: the answer ends with the connection.
async fn metrics_page(endpoint: &str, tls: Option<Tls>) -> io::Result<String> {
    let (is_secure, host) = match endpoint.strip_prefix("https://") {
        Some(host) => (true, host),
        None => (false, endpoint.strip_prefix("http://").unwrap_or(endpoint)),
    };
    let host = host.trim_end_matches('/');
    let stream = TcpStream::connect(host).await?;
    if !is_secure {
        return read_metrics(stream, host).await;
    }
    let tls = match tls {
        Some(tls) => tls,
        None => Tls::load(&TlsFiles::default()).map_err(io::Error::other)?,
    };
    let name = server_name(host).map_err(io::Error::other)?;
    read_metrics(tls.without_protocol().secure(stream, name).await?, host).await
}

async fn read_metrics(mut stream: impl AsyncRead + AsyncWrite + Unpin, host: &str) -> io::Result<String> {
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    let mut page = Vec::new();
    stream.take(CLIENT_METRICS_BYTES_MAX).read_to_end(&mut page).await?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn resident_memory(page: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(MEMORY_METRIC)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_line_of_its_name() {
        let page = "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes 2.5e+07\n";
        assert_eq!(resident_memory(page), Some(25_000_000.0));
        assert_eq!(resident_memory("up 1\n"), None);
    }
}
