//! The Prometheus text format, with numbers as Go prints them.
//!
//! Lines: `# HELP name text`, `# TYPE name kind`, then `name{label="value"} number` per series; a histogram
//! has `name_bucket{le="bound"}` with the number of values up to the bound, `name_sum` and `name_count`.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::family::{ALL, Family, Kind};
use super::grpc::Grpc;
use super::sheet::{Read, Sheet};

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// The kernel's figures about the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    pub cpu_seconds: f64,
    pub fds_max: f64,
    pub fds_open: f64,
    pub resident_bytes: f64,
    pub start_time_seconds: f64,
    pub virtual_bytes: f64,
    pub virtual_bytes_max: f64,
    pub network_received_bytes: f64,
    pub network_sent_bytes: f64,
    pub major_faults: f64,
}

/// The whole page: all families sorted by name, the sheets of all cores added up.
pub fn render(sheets: &[&Sheet], grpc: &[&Grpc], process: &Process) -> String {
    let mut page: BTreeMap<&'static str, (&'static Family, Samples)> = BTreeMap::new();
    for name in ALL {
        let family = name.family();
        for sheet in sheets {
            let samples = &mut page.entry(family.name).or_insert_with(|| (family, Samples::new())).1;
            merge(family, samples, sheet.read(*name));
        }
    }
    for (family, series) in grpc.iter().flat_map(|grpc| grpc.read()) {
        let samples = &mut page.entry(family.name).or_insert_with(|| (family, Samples::new())).1;
        merge(family, samples, series);
    }
    let text = |(name, (family, samples)): (_, (&Family, Samples))| (name, family_text(family, &samples));
    let mut texts: BTreeMap<&str, String> = page.into_iter().map(text).collect();
    texts.extend(process_texts(process));
    texts.into_values().collect()
}

/// Series of a family by label values.
type Samples = BTreeMap<Vec<String>, Vec<u64>>;

fn merge(family: &Family, samples: &mut Samples, series: Vec<Read>) {
    for (values, cells) in series {
        let total = samples.entry(values).or_insert_with(|| vec![0; cells.len()]);
        let sum_at = matches!(family.kind, Kind::Histogram(_)).then(|| cells.len() - 1);
        for (at, (total, cell)) in total.iter_mut().zip(cells).enumerate() {
            *total = if Some(at) == sum_at {
                (f64::from_bits(*total) + f64::from_bits(cell)).to_bits()
            } else {
                total.wrapping_add(cell)
            };
        }
    }
}

fn family_text(family: &Family, samples: &Samples) -> String {
    let mut text = String::new();
    if !samples.is_empty() {
        write_family(&mut text, family, samples).expect("a String takes everything");
    }
    text
}

fn write_family(text: &mut String, family: &Family, samples: &Samples) -> std::fmt::Result {
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let name = family.name;
    writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", family.help)?;
    for (values, cells) in samples {
        let labels: Vec<String> = family.labels.iter().zip(values).map(|(label, value)| pair(label, value)).collect();
        match family.kind {
            Kind::Counter => writeln!(text, "{name}{} {}", braces(&labels), number(cells[0] as f64))?,
            Kind::Gauge => writeln!(text, "{name}{} {}", braces(&labels), number(cells[0] as i64 as f64))?,
            Kind::Histogram(buckets) => {
                let mut below = 0;
                let bounds = buckets.bounds().map(number).chain(["+Inf".to_owned()]);
                for (bound, count) in bounds.zip(cells) {
                    below += count;
                    let labels: Vec<String> = labels.iter().cloned().chain([pair("le", &bound)]).collect();
                    writeln!(text, "{name}_bucket{} {below}", braces(&labels))?;
                }
                let sum = f64::from_bits(cells[buckets.count() + 1]);
                writeln!(text, "{name}_sum{} {}", braces(&labels), number(sum))?;
                writeln!(text, "{name}_count{} {below}", braces(&labels))?;
            }
        }
    }
    Ok(())
}

fn process_texts(process: &Process) -> impl Iterator<Item = (&'static str, String)> {
    let rows = [
        ("os_fd_limit", "gauge", "The file descriptor limit.", process.fds_max),
        ("os_fd_used", "gauge", "The number of used file descriptors.", process.fds_open),
        (
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            process.cpu_seconds,
        ),
        ("process_max_fds", "gauge", "Maximum number of open file descriptors.", process.fds_max),
        (
            "process_network_receive_bytes_total",
            "counter",
            "Number of bytes received by the process over the network.",
            process.network_received_bytes,
        ),
        (
            "process_network_transmit_bytes_total",
            "counter",
            "Number of bytes sent by the process over the network.",
            process.network_sent_bytes,
        ),
        ("process_open_fds", "gauge", "Number of open file descriptors.", process.fds_open),
        ("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", process.resident_bytes),
        (
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
            process.start_time_seconds,
        ),
        ("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", process.virtual_bytes),
        (
            "process_virtual_memory_max_bytes",
            "gauge",
            "Maximum amount of virtual memory available in bytes.",
            process.virtual_bytes_max,
        ),
        (
            "ringd_process_major_faults_total",
            "counter",
            "Page faults that waited for a disk: reads of cold pages of the mapped page file among them.",
            process.major_faults,
        ),
    ];
    rows.into_iter().map(|(name, kind, help, value)| {
        (name, format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {}\n", number(value)))
    })
}

fn pair(label: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{label}=\"{value}\"")
}

fn braces(labels: &[String]) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) }
}

/// Shortest digits, with an exponent below 1e-4 and from 1e6 on: `%g` of Go.
fn number(value: f64) -> String {
    let scientific = format!("{value:e}");
    match scientific.split_once('e').and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?))) {
        Some((digits, exponent)) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        Some(_) => value.to_string(),
        None if value.is_nan() => "NaN".to_owned(),
        None => if value < 0.0 { "-Inf" } else { "+Inf" }.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Name;
    use super::super::grpc::{GrpcCounts, GrpcMethod};
    use super::*;

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        let cases = [
            (0.0, "0"),
            (729_048.0, "729048"),
            (2_147_483_648.0, "2.147483648e+09"),
            (0.0001, "0.0001"),
            (0.000_048, "4.8e-05"),
            (1.638_4, "1.6384"),
            (1_000_000.0, "1e+06"),
            (-2.5, "-2.5"),
            (f64::INFINITY, "+Inf"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn sheets_of_all_cores_are_added_up() {
        let (one, two) = (Sheet::default(), Sheet::default());
        one.add(Name::MvccPutTotal, 2);
        two.add(Name::MvccPutTotal, 3);
        one.set(Name::ServerHasLeader, 1);
        two.change(Name::MvccWatcherTotal, 5);
        one.change(Name::MvccWatcherTotal, -2);
        one.observe(Name::DiskWalFsyncDurationSeconds, 0.0015);
        two.observe(Name::DiskWalFsyncDurationSeconds, 100.0);
        let series = two.series(Name::NetworkServerStreamFailuresTotal, &["a\"b", "send"]);
        series.add(7);
        one.series(Name::NetworkServerStreamFailuresTotal, &["a\"b", "send"]).add(1);
        let text = render(&[&one, &two], &[], &Process::default());
        for line in [
            "# TYPE etcd_mvcc_put_total counter",
            "etcd_mvcc_put_total 5",
            "etcd_server_has_leader 1",
            "etcd_debugging_mvcc_watcher_total 3",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 0",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.002\"} 1",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} 1",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 2",
            "etcd_disk_wal_fsync_duration_seconds_sum 100.0015",
            "etcd_disk_wal_fsync_duration_seconds_count 2",
            r#"etcd_network_server_stream_failures_total{API="a\"b",Type="send"} 8"#,
            "etcd_server_proposals_failed_total 0",
            "process_open_fds 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        assert!(!text.contains("etcd_server_client_requests_total"), "a labelled family without series is absent");
    }

    #[test]
    fn methods_are_there_from_the_start() {
        static METHODS: [GrpcMethod; 2] = [
            GrpcMethod { service: "etcdserverpb.KV", method: "Range", kind: "unary", from_start: true },
            GrpcMethod { service: "etcdserverpb.Watch", method: "Watch", kind: "bidi_stream", from_start: true },
        ];
        let grpc = Grpc::new(&METHODS, true);
        let mut counts = GrpcCounts { started: 1, ..GrpcCounts::default() };
        counts.handled[14] = 1;
        grpc.load(0, &counts);
        grpc.load(0, &counts);
        grpc.took(0, 0.02);
        let text = render(&[], &[&grpc, &Grpc::new(&METHODS, true)], &Process::default());
        let labels = r#"grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
        for line in [
            format!("grpc_server_started_total{{{labels}}} 1"),
            format!("grpc_server_handled_total{{grpc_code=\"Unavailable\",{labels}}} 1"),
            format!("grpc_server_handled_total{{grpc_code=\"OK\",{labels}}} 0"),
            format!("grpc_server_handling_seconds_bucket{{{labels},le=\"0.025\"}} 1"),
            format!("grpc_server_msg_sent_total{{{labels}}} 0"),
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        let basic = render(&[], &[&Grpc::new(&METHODS, false)], &Process::default());
        assert!(!basic.contains("grpc_server_handling_seconds"));
    }
}
