//! The load generator: parses its arguments and calls `ringd::load`.

use std::{
    fs,
    io::{self, Write},
    net::{SocketAddr, ToSocketAddrs},
    process::exit,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ringd::{
    client::tls::{Tls, TlsFiles},
    load::{
        AnyError,
        compare::{Comparison, compare},
        host,
        plan::{Keys, Mix, Order, Plan, Reading},
        pool::Access,
        report,
        run::{Load, run},
    },
};

/// Loads an etcd or a ringd with requests, and says how long they took.
///
/// Without --rate, clients send their next request when they have an answer (closed loop). With it, requests are sent when they are
/// due, and their latency counts from then (open loop).
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one")]
enum What {
    #[command(flatten)]
    Load(Workload),
    /// Looks at this machine: what spoils latencies here, and what to do about it.
    Host(Host),
    /// Starts servers, loads them in alternating rounds, and writes one page about it.
    Compare(Comparison),
}

#[derive(Subcommand)]
enum Workload {
    /// Writes keys.
    Put(Writing),
    /// Reads a key of the key space, or KEY, or the range from KEY to END.
    Range(Ranges),
    /// Writes keys in transactions.
    TxnPut(Transactions),
    /// Reads and writes.
    Mixed(Mixed),
}

#[derive(Args)]
struct Common {
    /// Addresses of the servers, to which connections go in turn.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:2379")]
    endpoints: Vec<String>,
    /// Authorities that sign the certificates of servers at https://; else those of this machine.
    #[arg(long, value_name = "FILE")]
    cacert: Option<std::path::PathBuf>,
    /// The certificate that the client shows.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    cert: Option<std::path::PathBuf>,
    #[arg(long = "key", value_name = "FILE", requires = "cert")]
    tls_key: Option<std::path::PathBuf>,
    /// Takes any certificate of a server.
    #[arg(long)]
    insecure_skip_tls_verify: bool,
    /// Asks for a token first, which all requests carry.
    #[arg(long, value_name = "NAME:PASSWORD")]
    user: Option<String>,
    #[arg(long, default_value_t = 16)]
    conns: usize,
    /// Requests under way in a closed loop, over all connections.
    #[arg(long, default_value_t = 256)]
    clients: usize,
    /// Requests a second: an open loop.
    #[arg(long)]
    rate: Option<f64>,
    /// Ends after so many requests, instead of after a time.
    #[arg(long)]
    total: Option<u64>,
    /// Seconds.
    #[arg(long, default_value_t = 10.0)]
    duration: f64,
    /// Seconds before that, which do not count.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Bytes of a key: a hexadecimal number with zeros before it.
    #[arg(long, default_value_t = 16)]
    key_size: usize,
    /// Number of different keys.
    #[arg(long, default_value_t = 10_000)]
    key_space_size: u64,
    #[arg(long, value_enum, default_value_t = Order::Uniform)]
    key_order: Order,
    /// Short for --key-order=sequential.
    #[arg(long)]
    sequential_keys: bool,
    #[arg(long, default_value_t = 256)]
    val_size: usize,
    /// Writes every key once before.
    #[arg(long)]
    preload: bool,
    /// Decides which keys come, and in which order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// A percentile distribution as HdrHistogram's plotter reads it, into this file.
    #[arg(long, value_name = "FILE")]
    hdr: Option<std::path::PathBuf>,
    /// No line a second on standard error.
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
    Csv,
}

#[derive(Args)]
struct Host {
    /// Where the data of a server would be; a small file is written there and removed.
    #[arg(long, default_value = ".")]
    directory: std::path::PathBuf,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Args)]
struct Writing {
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Ranges {
    key: Option<String>,
    end: Option<String>,
    /// `l`: linearizable, `s`: serializable.
    #[arg(long, default_value = "l", value_parser = ["l", "s"])]
    consistency: String,
    #[arg(long, default_value_t = 0)]
    limit: i64,
    #[arg(long)]
    keys_only: bool,
    #[arg(long)]
    count_only: bool,
    /// Reads at this revision.
    #[arg(long, default_value_t = 0)]
    rev: i64,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Transactions {
    /// Puts in a transaction.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=128))]
    txn_ops: u16,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Mixed {
    /// Reads for each write.
    #[arg(long, default_value_t = 1.0)]
    rw_ratio: f64,
    /// The part of the reads that is serializable, from 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    serializable: f64,
    #[command(flatten)]
    common: Common,
}

impl Workload {
    fn parts(self) -> Result<(Common, Mix, Reading), AnyError> {
        let reads = |reads, serializable| Mix { reads, serializable, txn_ops: 0 };
        Ok(match self {
            Self::Put(Writing { common }) => (common, reads(0.0, 0.0), Reading::default()),
            Self::TxnPut(Transactions { txn_ops, common }) => {
                (common, Mix { txn_ops: usize::from(txn_ops), ..reads(0.0, 0.0) }, Reading::default())
            }
            Self::Range(ranges) => {
                let reading = Reading {
                    key: ranges.key.map(Into::into),
                    range_end: ranges.end.unwrap_or_default().into(),
                    limit: ranges.limit,
                    keys_only: ranges.keys_only,
                    count_only: ranges.count_only,
                    revision: ranges.rev,
                };
                let serializable = if ranges.consistency == "s" { 1.0 } else { 0.0 };
                (ranges.common, reads(1.0, serializable), reading)
            }
            Self::Mixed(Mixed { rw_ratio, serializable, common }) => {
                if !(rw_ratio.is_finite() && rw_ratio >= 0.0 && (0.0..=1.0).contains(&serializable)) {
                    return Err("--rw-ratio is 0 or more, --serializable from 0 to 1".into());
                }
                (common, reads(rw_ratio / (1.0 + rw_ratio), serializable), Reading::default())
            }
        })
    }
}

const SECURE: &str = "https://";

impl Common {
    fn access(&self) -> Result<Access, AnyError> {
        let user = self.user.as_ref().map(|user| user.split_once(':').ok_or("--user is NAME:PASSWORD")).transpose()?;
        let user = user.map(|(name, password)| (name.to_owned(), password.to_owned()));
        let secure = self.endpoints.iter().filter(|endpoint| endpoint.starts_with(SECURE)).count();
        if secure == 0 {
            if self.cacert.is_some() || self.cert.is_some() || self.insecure_skip_tls_verify {
                return Err("options of TLS, and no endpoint that begins with https://".into());
            }
            return Ok(Access { tls: None, user });
        }
        if secure < self.endpoints.len() {
            return Err("endpoints are all https:// or all not".into());
        }
        let files = TlsFiles {
            shown: self.cert.clone().zip(self.tls_key.clone()),
            cacert: self.cacert.clone(),
            skips_verification: self.insecure_skip_tls_verify,
        };
        let names = self.endpoints.iter().map(|endpoint| host_port(endpoint).to_owned()).collect();
        Ok(Access { tls: Some((Tls::load(&files)?, names)), user })
    }

    fn load(&self) -> Result<Load, AnyError> {
        let is_time = |seconds: f64| (0.0..=1e6).contains(&seconds);
        if self.conns == 0 || self.clients == 0 || !is_time(self.duration) || !is_time(self.warm_up) {
            return Err("--conns and --clients are at least 1, times from 0 to 1000000 seconds".into());
        }
        if self.rate.is_some_and(|rate| !(0.001..=1e7).contains(&rate)) {
            return Err("--rate is from 0.001 to 10000000 a second".into());
        }
        let addresses = self.endpoints.iter().map(|endpoint| resolve(endpoint)).collect::<Result<Vec<_>, _>>()?;
        Ok(Load {
            addresses,
            access: self.access()?,
            connections: self.conns,
            clients: self.clients,
            rate: self.rate,
            total: self.total,
            duration: Duration::from_secs_f64(self.duration),
            warm_up: Duration::from_secs_f64(self.warm_up),
            preload: self.preload,
        })
    }
}

fn resolve(endpoint: &str) -> Result<SocketAddr, AnyError> {
    if endpoint.starts_with("unix") {
        return Err(format!("{endpoint}: UNIX sockets are not supported yet").into());
    }
    let found = host_port(endpoint).to_socket_addrs().map_err(|error| format!("{endpoint}: {error}"))?.next();
    found.ok_or_else(|| format!("{endpoint} has no address").into())
}

fn host_port(endpoint: &str) -> &str {
    let rest = endpoint.strip_prefix(SECURE).or_else(|| endpoint.strip_prefix("http://"));
    rest.unwrap_or(endpoint)
}

fn look(Host { directory, format }: &Host) -> Result<(), AnyError> {
    let mut findings = host::facts(directory);
    let measured = host::measurements(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    findings.extend(measured);
    match format {
        Format::Text => print!("{}", host::text(&findings)),
        Format::Json => println!("{:#}", host::json(&findings)),
        Format::Csv => return Err("a machine has no CSV".into()),
    }
    Ok(())
}

/// Whether all of it was measured.
fn measure(workload: Workload) -> Result<bool, AnyError> {
    let (common, mix, reading) = workload.parts()?;
    let load = common.load()?;
    let order = if common.sequential_keys { Order::Sequential } else { common.key_order };
    let keys = Keys::new(order, common.key_space_size, common.key_size)?;
    let mut plan = Plan::new(common.seed, keys, mix, reading, common.val_size);
    let outcome = run(&load, &mut plan, &mut |second| {
        if !common.quiet {
            eprintln!("{}", report::line(second));
        }
    })?;
    if let Some(path) = &common.hdr {
        let distribution = report::percentiles(&outcome.tallies.total());
        fs::write(path, distribution).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let mut out = io::stdout().lock();
    match common.format {
        Format::Text => out.write_all(report::text(&load, &outcome).as_bytes())?,
        Format::Json => writeln!(out, "{:#}", report::json(&load, &outcome))?,
        Format::Csv => {
            out.write_all(report::csv(&outcome).as_bytes())?;
            report::warnings(&load, &outcome).iter().for_each(|warning| eprintln!("note: {warning}"));
        }
    }
    Ok(outcome.cut_short.is_none())
}

fn main() {
    let done = match Arguments::parse().what {
        What::Load(workload) => measure(workload),
        What::Host(host) => look(&host).map(|()| true),
        What::Compare(comparison) => compare(&comparison).map(|verdict| {
            print!("{verdict}");
            true
        }),
    };
    match done {
        Ok(true) => {}
        Ok(false) => exit(1),
        Err(error) => {
            eprintln!("ringbench: {error}");
            exit(2);
        }
    }
}
