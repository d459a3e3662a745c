//! The page of a comparison: one file that needs no other, with all that was measured in it.

use std::{fmt::Write as _, process::Command};

use serde_json::json;

use super::{
    super::host,
    findings::{Finding, Findings, Spread},
    measure::{QUANTILES, Work},
    plot::{self, Axis, Line, Point, Scale, escaped},
    subject::{Comparison, Subject},
};

/// Four colours that are told apart by those who see no red, or no green (after Okabe and Ito); more servers begin again.
const COLOURS: usize = 4;
const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --quiet: #6b6b6b; --grid: #d9d9d9;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b5549a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #161616; --quiet: #9a9a9a; --grid: #3a3a3a;
  --c0: #56b4e9; --c1: #e69f00; --c2: #2fc79c; --c3: #dd94c2; } }
@media print { :root { --ink: #000; --paper: #fff; --quiet: #444; --grid: #ccc; --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b5549a; }
  figure, tr { break-inside: avoid; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-weight: 600; } svg { width: 100%; height: auto; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
td, th { padding: .25rem .75rem .25rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid); vertical-align: top; }
td:first-child, th:first-child, td.text { text-align: left; white-space: normal; } small { color: var(--quiet); }
.grid { stroke: var(--grid); fill: none; } .mark { fill: var(--quiet); font-size: 12px; } .axis { fill: var(--ink); font-size: 13px; }
.line { stroke: currentColor; stroke-width: 2; fill: none; } .dashed .line { stroke-dasharray: 6 4; }
.point { fill: currentColor; } .beyond { fill: var(--paper); stroke: currentColor; stroke-width: 2; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); } .c3 { color: var(--c3); }
.legend span { margin-right: 1rem; white-space: nowrap; } .legend span::before { content: '\\2501\\2501 '; } .legend .dashed::before { content: '\\2505\\2505 '; }
pre { overflow-x: auto; }
";

/// The whole page.
pub(super) fn html(comparison: &Comparison, subjects: &[Subject], findings: &Findings) -> String {
    let title = findings.names.join(", ");
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{0}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{0}</h1>\n",
        escaped(&title)
    );
    for sentence in findings.verdict().lines() {
        let _ = writeln!(page, "<p>{}</p>", escaped(sentence));
    }
    page += "<h2>Closed loop: how much each can do</h2>\n";
    let _ = writeln!(
        page,
        "<p>{} requests under way on {} connections; each client sends its next request when it has an answer. Medians of {} rounds, \
         with the least and the greatest; CPU and bytes written to the disk are of all members together.</p>",
        comparison.clients, comparison.conns, comparison.rounds
    );
    page += &peaks(findings);
    page += "<h2>Open loop: latency at an offered rate</h2>\n<p>Requests are sent when they are due, and their latency counts from then. A \
             hollow point is a rate that the server did not keep up with.</p>\n<div class=\"plots\">\n";
    Work::ALL.into_iter().for_each(|work| page += &ladder(findings, work));
    page += "</div>\n<h2>Percentiles at a rate that all keep up with</h2>\n<div class=\"plots\">\n";
    Work::ALL.into_iter().for_each(|work| page += &percentiles(findings, work));
    page += "</div>\n<h2>Linearizable beside serializable reads</h2>\n<div class=\"plots\">\n";
    page += &reads(findings);
    page += "</div>\n<h2>What was compared, and where</h2>\n";
    page += &setting(comparison, subjects);
    let data = json!({"settings": settings(comparison, subjects), "findings": findings.json()});
    // No text of it may end the element.
    let data = data.to_string().replace('<', "\\u003c");
    let _ = write!(page, "<script type=\"application/json\" id=\"data\">{data}</script>\n</body>\n</html>\n");
    page
}

fn peaks(findings: &Findings) -> String {
    let mut table =
        "<div class=\"scroll\"><table>\n<tr><th></th><th>requests/s</th><th>p50 &#181;s</th><th>p99 &#181;s</th>\
                     <th>CPU &#181;s per request</th><th>bytes to disk per request</th><th>keeps up with</th></tr>\n"
            .to_owned();
    for work in Work::ALL {
        for (server, name) in findings.names.iter().enumerate() {
            let Some(peak) = findings.peak(server, work) else { continue };
            let knee = findings
                .knee(server, work)
                .map_or_else(|| "none of the rates".to_owned(), |rate| format!("{rate:.0}/s"));
            let _ = writeln!(
                table,
                "<tr><td>{}, <span class=\"c{}\">{}</span></td>{}{}{}{}{}<td>{knee}</td></tr>",
                work.name(),
                server % COLOURS,
                escaped(name),
                cell(peak.per_second, 0),
                cell(peak.p50_us, 0),
                cell(peak.p99_us, 0),
                cell(peak.cpu_us, 1),
                cell(peak.written, 0)
            );
        }
    }
    table + "</table></div>\n"
}

fn cell(spread: Spread, digits: usize) -> String {
    let Spread { median, least, greatest } = spread;
    format!("<td>{median:.digits$}<br><small>{least:.digits$} &#8211; {greatest:.digits$}</small></td>")
}

const RATE: Axis<'_> = Axis { title: "offered requests a second", scale: Scale::Log };
const LATENCY: Axis<'_> = Axis { title: "latency", scale: Scale::Time };

fn ladder(findings: &Findings, work: Work) -> String {
    let mut lines = Vec::new();
    for (server, name) in findings.names.iter().enumerate() {
        let all: Vec<&Finding> = findings.ladder(server, work).collect();
        lines.push(rates(&all, format!("{name} p99"), server, false, |one| one.p99_us));
        lines.push(rates(&all, format!("{name} p50"), server, true, |one| one.p50_us));
    }
    plot::lines(&format!("{}: latency against offered rate", work.name()), RATE, LATENCY, &lines)
}

fn rates(all: &[&Finding], label: String, server: usize, is_dashed: bool, of: fn(&Finding) -> Spread) -> Line {
    let point = |one: &&Finding| Some(Point { x: one.offered?, y: of(one).median, is_beyond: !one.keeps_up });
    Line { label, colour: server % COLOURS, is_dashed, points: all.iter().filter_map(point).collect() }
}

fn percentiles(findings: &Findings, work: Work) -> String {
    let Some(rate) = findings.common_rate(work) else {
        return format!("<p>{}: there is no offered rate that all servers kept up with.</p>\n", work.name());
    };
    let lines: Vec<Line> = findings
        .names
        .iter()
        .enumerate()
        .map(|(server, name)| {
            let curve = findings.ladder(server, work).find(|one| one.offered == Some(rate));
            let points = curve.into_iter().flat_map(|one| QUANTILES.iter().zip(&one.curve_us));
            Line {
                label: name.clone(),
                colour: server % COLOURS,
                is_dashed: false,
                points: points.map(|(quantile, us)| Point { x: *quantile, y: *us, is_beyond: false }).collect(),
            }
        })
        .collect();
    let axis = Axis { title: "percentile", scale: Scale::Nines };
    plot::lines(&format!("{} at {rate:.0} requests a second", work.name()), axis, LATENCY, &lines)
}

fn reads(findings: &Findings) -> String {
    let all = |of: fn(&Finding) -> Spread| {
        let mut lines = Vec::new();
        for (server, name) in findings.names.iter().enumerate() {
            for (work, kind) in [(Work::Linearizable, "linearizable"), (Work::Serializable, "serializable")] {
                let ladder: Vec<&Finding> = findings.ladder(server, work).collect();
                lines.push(rates(&ladder, format!("{name} {kind}"), server, work == Work::Serializable, of));
            }
        }
        lines
    };
    plot::lines("p50 of reads", RATE, LATENCY, &all(|one| one.p50_us))
        + &plot::lines("p99 of reads", RATE, LATENCY, &all(|one| one.p99_us))
}

fn setting(comparison: &Comparison, subjects: &[Subject]) -> String {
    let mut text = "<div class=\"scroll\"><table>\n".to_owned();
    let mut row = |what: &str, found: &str| {
        let _ = writeln!(text, "<tr><td>{}</td><td class=\"text\">{}</td></tr>", escaped(what), escaped(found));
    };
    for subject in subjects {
        row(&subject.name, &version(subject));
        row("", &format!("{} {}", subject.program.display(), subject.flags.join(" ")));
    }
    row("members of each", &comparison.members.to_string());
    row("keys and values", &format!("{} keys, values of {} bytes", comparison.key_space_size, comparison.val_size));
    row("each measurement", &format!("{} s, {} rounds", comparison.seconds, comparison.rounds));
    row("ringbench", env!("CARGO_PKG_VERSION"));
    for finding in host::facts(&comparison.directory) {
        let mend = finding.mend.map(|mend| format!(" (spoils latencies: {mend})")).unwrap_or_default();
        row(finding.what, &format!("{}{mend}", finding.found));
    }
    text + "</table></div>\n<p>The servers and the load share this machine, one server at a time. Figures of another machine do not \
            compare with these; ratios may.</p>\n"
}

fn settings(comparison: &Comparison, subjects: &[Subject]) -> serde_json::Value {
    let servers = subjects.iter().map(|subject| {
        json!({"name": subject.name, "program": subject.program.display().to_string(), "flags": subject.flags, "version": version(subject)})
    });
    json!({
        "servers": servers.collect::<Vec<_>>(),
        "members": comparison.members,
        "rounds": comparison.rounds,
        "seconds": comparison.seconds,
        "connections": comparison.conns,
        "clients": comparison.clients,
        "keys": comparison.key_space_size,
        "value_bytes": comparison.val_size,
        "host": host::json(&host::facts(&comparison.directory)),
    })
}

/// What a program says of its version, in one line.
fn version(subject: &Subject) -> String {
    let output = Command::new(&subject.program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
