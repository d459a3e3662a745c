//! A run as text, JSON, CSV, or a percentile distribution of HdrHistogram.

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};

use super::{
    host,
    machine::Usage,
    run::{Load, Outcome, Second, Server},
    tally::Tally,
};

const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];
/// A client that uses more of its one core than this may be what limits the rate.
const CLIENT_BUSY: f64 = 0.9;

/// One second, for who watches the run.
pub fn line(second: &Second) -> String {
    let total = second.tallies.total();
    let warm_up = if second.at_s <= 0.0 { " (warm-up)" } else { "" };
    format!(
        "{:7.1} s {:9} requests  p50 {:9.1} us  p99 {:9.1} us  longest {:9.1} us  {} refused  server {:.2} cores{warm_up}",
        second.at_s,
        total.requests(),
        total.quantile_us(0.5),
        total.quantile_us(0.99),
        total.max_us(),
        total.refused,
        second.server_cpu_s
    )
}

/// What a reader of the figures has to know.
pub fn warnings(load: &Load, outcome: &Outcome) -> Vec<String> {
    let mut warnings = Vec::new();
    let seconds = outcome.took.as_secs_f64();
    if let Some(why) = &outcome.cut_short {
        warnings.push(format!("it ended after {seconds:.1} s: {why}; these are the figures until then"));
    }
    let busy = outcome.client.cpu_s / seconds.max(1e-9);
    if busy > CLIENT_BUSY {
        warnings.push(format!(
            "this program used {:.0} % of a core: it may have been the limit, not the server",
            100.0 * busy
        ));
    }
    let total = outcome.tallies.total();
    let reached = outcome.ended as f64 / seconds.max(1e-9);
    if let Some(rate) = load.rate.filter(|rate| reached < 0.99 * rate) {
        warnings.push(format!("{reached:.0} of {rate:.0} requests a second were served: the server does not keep up"));
    }
    if total.refused > 0 {
        warnings.push(format!("{} requests were refused; latencies are of the others", total.refused));
    }
    let changes: f64 = outcome.servers.iter().filter_map(|server| server.counters).map(|all| all.leader_changes).sum();
    if changes > 0.0 {
        warnings.push("the leader changed meanwhile".to_owned());
    }
    warnings
}

/// A table for people.
pub fn text(load: &Load, outcome: &Outcome) -> String {
    let mut out = String::new();
    let seconds = outcome.took.as_secs_f64().max(1e-9);
    let loop_kind = match load.rate {
        Some(rate) => format!("open loop, {rate} requests a second; latencies count from when a request was due"),
        None => format!("closed loop, {} clients", load.clients),
    };
    let _ = writeln!(out, "{loop_kind}, {} connections, {seconds:.1} s\n", load.connections);
    let _ = write!(out, "{:<22}{:>10}{:>12}{:>10}", "", "requests", "per second", "mean us");
    QUANTILES.iter().for_each(|(name, _)| out += &format!("{name:>11}"));
    let _ = writeln!(out, "{:>11}{:>9}", "longest", "refused");
    let kinds: Vec<(&str, Tally)> =
        outcome.tallies.present().map(|(kind, tally)| (kind.name(), tally.clone())).collect();
    let all = (kinds.len() > 1).then(|| ("all", outcome.tallies.total()));
    for (name, tally) in kinds.into_iter().chain(all) {
        let rate = tally.requests() as f64 / seconds;
        let _ = write!(out, "{name:<22}{:>10}{rate:>12.0}{:>10.1}", tally.requests(), tally.mean_us());
        QUANTILES.iter().for_each(|(_, quantile)| out += &format!("{:>11.1}", tally.quantile_us(*quantile)));
        let _ = writeln!(out, "{:>11.1}{:>9}", tally.max_us(), tally.refused);
    }
    let requests = outcome.tallies.total().requests().max(1) as f64;
    out.push('\n');
    for Server { address, usage, counters } in &outcome.servers {
        let Some(usage) = usage else {
            let _ = writeln!(out, "server {address}: not a process of this machine that may be looked at");
            continue;
        };
        let _ = writeln!(out, "server {address}: {}", used(usage, requests));
        if let Some(counters) = counters {
            let per_sync = if counters.syncs > 0.0 { requests / counters.syncs } else { 0.0 };
            let _ = writeln!(out, "    {:.0} syncs of the log, {per_sync:.1} requests for each", counters.syncs);
        }
    }
    let _ = writeln!(out, "client: {}", used(&outcome.client, requests));
    warnings(load, outcome).iter().for_each(|warning| out += &format!("note: {warning}\n"));
    out
}

fn used(usage: &Usage, requests: f64) -> String {
    format!(
        "{:.2} s of CPU, {:.1} us per request; {:.0} MB resident; {} context switches; {:.1} MB to the disk",
        usage.cpu_s,
        1e6 * usage.cpu_s / requests,
        usage.rss_mb,
        usage.switches,
        usage.written_mb
    )
}

/// Everything, for programs. Times are in microseconds unless the name says otherwise.
pub fn json(load: &Load, outcome: &Outcome) -> Value {
    let seconds = outcome.took.as_secs_f64().max(1e-9);
    let kinds = outcome.tallies.present().map(|(kind, tally)| (kind.name().to_owned(), figures(tally, seconds)));
    let servers: Vec<Value> = outcome
        .servers
        .iter()
        .map(|server| {
            json!({
                "address": server.address.to_string(),
                "usage": server.usage.map(usage_of),
                "log_syncs": server.counters.map(|counters| counters.syncs),
                "database_commits": server.counters.map(|counters| counters.commits),
                "leader_changes": server.counters.map(|counters| counters.leader_changes),
            })
        })
        .collect();
    let course: Vec<Value> = outcome
        .seconds
        .iter()
        .map(|second| {
            let total = second.tallies.total();
            json!({"at_s": second.at_s, "requests": total.requests(), "refused": total.refused,
            "p50_us": total.quantile_us(0.5), "p99_us": total.quantile_us(0.99), "max_us": total.max_us(),
            "server_cpu_s": second.server_cpu_s})
        })
        .collect();
    json!({
        "loop": if load.rate.is_some() { "open" } else { "closed" },
        "rate": load.rate,
        "ended_per_second": outcome.ended as f64 / seconds,
        "clients": load.rate.is_none().then_some(load.clients),
        "connections": load.connections,
        "seconds": seconds,
        "all": figures(&outcome.tallies.total(), seconds),
        "kinds": kinds.collect::<serde_json::Map<_, _>>(),
        "client": usage_of(outcome.client),
        "servers": servers,
        "course": course,
        "notes": warnings(load, outcome),
        "host": host::json(&host::facts(Path::new("."))),
    })
}

fn figures(tally: &Tally, seconds: f64) -> Value {
    let mut figures = json!({"requests": tally.requests(), "refused": tally.refused,
        "per_second": tally.requests() as f64 / seconds, "mean_us": tally.mean_us()});
    for (name, quantile) in QUANTILES {
        figures[format!("{name}_us")] = json!(tally.quantile_us(quantile));
    }
    figures["max_us"] = json!(tally.max_us());
    figures
}

fn usage_of(usage: Usage) -> Value {
    json!({"cpu_s": usage.cpu_s, "rss_mb": usage.rss_mb, "context_switches": usage.switches, "written_mb": usage.written_mb})
}

/// One line for each kind, with a head line.
pub fn csv(outcome: &Outcome) -> String {
    let seconds = outcome.took.as_secs_f64().max(1e-9);
    let mut out = "kind,requests,refused,per_second,mean_us".to_owned();
    QUANTILES.iter().for_each(|(name, _)| out += &format!(",{name}_us"));
    out.push_str(",max_us\n");
    for (kind, tally) in outcome.tallies.present() {
        let rate = tally.requests() as f64 / seconds;
        let _ = write!(out, "{},{},{},{rate:.1},{:.1}", kind.name(), tally.requests(), tally.refused, tally.mean_us());
        QUANTILES.iter().for_each(|(_, quantile)| out += &format!(",{:.1}", tally.quantile_us(*quantile)));
        let _ = writeln!(out, ",{:.1}", tally.max_us());
    }
    out
}

/// The percentile distribution that HdrHistogram's plotter reads, in milliseconds.
pub fn percentiles(tally: &Tally) -> String {
    let latencies = &tally.latencies;
    let mut out = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n".to_owned();
    let mut total = 0;
    for step in latencies.iter_quantiles(5) {
        total += step.count_since_last_iteration();
        let quantile = step.quantile_iterated_to();
        let inverse = if quantile < 1.0 { format!("{:.2}", 1.0 / (1.0 - quantile)) } else { "inf".to_owned() };
        let value = step.value_iterated_to() as f64 / 1e6;
        let _ = writeln!(out, "{value:>12.3} {quantile:>2.12} {total:>10} {inverse:>14}");
    }
    let _ = writeln!(
        out,
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]\n#[Max     = {:>12.3}, Total count    = {:>12}]",
        latencies.mean() / 1e6,
        latencies.stdev() / 1e6,
        latencies.max() as f64 / 1e6,
        latencies.len()
    );
    out
}
