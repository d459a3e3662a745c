//! All services but KV through stock etcdctl, which must print the same for ringd and for etcd.
//!
//! Without ids, ports, sizes and times, everything must be equal: lines, exit codes, standard error.

use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use base64::prelude::{BASE64_STANDARD, Engine};
use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Client};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{
    self,
    etcdctl::{Printed, Running, etcdctl},
    printed::masked,
    reference,
    server::{self, Program, Server},
};

/// An event that does not happen within this time has failed.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL_EVERY: Duration = Duration::from_millis(10);
const FORMATS: [&str; 2] = ["simple", "json"];
const PROGRAMS: [Program; 2] = [Program::Ringd, Program::Etcd];

/// Revisions 2 to 7; every watch of these tests sees the last.
const HISTORY: [&str; 6] = ["put a 1", "put a 2", "put ab 3", "del a", "put b 4", "put a mark0"];

const MAINTENANCE: [&str; 60] = [
    "endpoint hashkv",
    "endpoint hashkv --rev=3",
    "endpoint hashkv --rev=99",
    "endpoint hashkv --rev=-1",
    "compaction",
    "compaction x",
    "compaction 0",
    "compaction -- -1",
    "compaction 3",
    "compaction 3",
    "compaction 99",
    "compaction 4 --physical",
    "compaction 4 --physical",
    "get a --rev=3",
    // Not 3: whether etcd still has its hash of that compaction varies.
    "endpoint hashkv --rev=2",
    "endpoint hashkv --rev=5",
    "endpoint hashkv",
    "endpoint hashkv --cluster",
    "endpoint status",
    "endpoint status --cluster",
    "endpoint health",
    "endpoint health --cluster",
    "defrag",
    "defrag --cluster",
    "get a --prefix",
    "endpoint hashkv",
    "member list",
    "member list --consistency=s",
    "member list --hex",
    "move-leader",
    "move-leader 0",
    "move-leader 1234",
    "move-leader {member}",
    "downgrade validate",
    "downgrade validate 3",
    "downgrade validate x.y",
    "downgrade validate 3.5",
    "downgrade validate 3.6",
    "downgrade validate 3.6.0",
    "downgrade validate 3.7",
    "downgrade validate 3.8",
    "downgrade cancel",
    "downgrade enable 3.6",
    "downgrade validate 3.6",
    "downgrade enable 3.6",
    "endpoint status",
    "downgrade cancel",
    "endpoint status",
    "alarm list",
    "alarm disarm",
    "{raise}",
    "alarm list",
    "put full 1",
    "get a",
    "endpoint health",
    "endpoint status",
    "alarm disarm",
    "alarm disarm",
    "alarm list",
    "put full 1",
];

const LEASES: [&str; 31] = [
    "lease list",
    "lease grant",
    "lease grant x",
    "lease grant 99999999999",
    "lease grant 1000",
    "lease grant 2000",
    "lease list",
    "lease timetolive {0}",
    "lease timetolive {0} --keys",
    "put k1 v --lease={0}",
    "put k2 v --lease={0}",
    "put k3 v --lease={1}",
    "put k3 v --lease=1234",
    "get k1",
    "lease timetolive {0} --keys",
    "lease timetolive 1234 --keys",
    "lease timetolive xyz",
    "lease keep-alive {0} --once",
    "lease keep-alive 1234 --once",
    "lease keep-alive 1234",
    "put k2 w",
    "lease timetolive {0} --keys",
    "lease revoke",
    "lease revoke {0}",
    "lease revoke {0}",
    "lease timetolive {0} --keys",
    "lease timetolive {1} --keys",
    "get k --prefix",
    "lease revoke {1}",
    "get k --prefix",
    "lease grant -- -5",
];

/// Watches of the history, which end with its last event.
const WATCHES: [&str; 5] = [
    "watch a --prefix --rev=1",
    "watch a --rev=2 --prev-kv",
    "watch a c --rev=3",
    "watch a --rev=4 --hex",
    "watch --rev=5 --prefix --prev-kv a -- sh -c {show}",
];
const SHOW: &str = "echo $ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE";

/// compaction, defrag, endpoint, member list, move-leader, downgrade, alarm.
pub fn maintenance_prints_the_same() {
    for format in FORMATS {
        same_transcripts(|program| {
            let mut view = View::start(program, format, &[]);
            view.all(&HISTORY);
            view.all(&MAINTENANCE)
        });
    }
}

/// lease, with attached keys.
pub fn leases_print_the_same() {
    for format in FORMATS {
        same_transcripts(|program| {
            let mut view = View::start(program, format, &[]);
            let mut said = view.all(&LEASES);
            // The shortest lease, so that `keep-alive` ends soon.
            said.push(view.run("lease grant 1", ""));
            let mut keeping = view.start_running("lease keep-alive {3}");
            let kept = keeping.line();
            said.push(view.run("lease revoke {3}", ""));
            let rest = keeping.rest();
            said.push(("keep-alive".into(), view.ended(&mut keeping, [vec![kept], rest].concat())));
            said
        });
    }
}

/// watch: past events, then new ones, until it is interrupted; and invalid watches.
pub fn watches_print_the_same() {
    for format in FORMATS {
        same_transcripts(|program| {
            let mut view = View::start(program, format, &[]);
            let mut said = view.all(&HISTORY);
            said.extend(WATCHES.iter().enumerate().map(|(number, command)| view.watch(number, command)));
            said.extend(view.all(&["watch", "watch --", "watch a --", "watch a b --prefix", "watch a --from-key"]));
            said.extend(view.all(&["compaction 5"]));
            said.extend(view.all(&["watch a --rev=3", "watch a --prefix --rev=4 -- echo seen"]));
            said
        });
    }
}

/// watch without a revision: no past events, all events after its creation.
pub fn watches_begin_now() {
    same_transcripts(|program| {
        let mut view = View::start(program, "simple", &[]);
        view.all(&HISTORY);
        let mut watching = view.start_running("watch a --prefix");
        let begun = Instant::now();
        let first = loop {
            assert!(begun.elapsed() < PATIENCE, "it never begins");
            view.run("put a/warm up", "");
            if let Some(line) = watching.line_within(POLL_EVERY) {
                break line;
            }
        };
        view.all(&["put a/begin begin"]);
        let mut lines = vec![first];
        lines.extend(watching.until(|line| line == "begin"));
        assert!(lines.chunks(3).all(|event| event == ["PUT", "a/warm", "up"] || event[1] == "a/begin"), "{lines:?}");
        view.all(&["put a/z last"]);
        let lines = watching.until(|line| line == "last");
        watching.interrupt();
        vec![("watch".into(), view.ended(&mut watching, lines))]
    });
}

/// watch -i: several watches on one stream, progress on request, and invalid lines.
pub fn interactive_watches_print_the_same() {
    same_transcripts(|program| {
        let mut view = View::start(program, "simple", &[]);
        view.all(&HISTORY);
        let mut watching = view.start_running("watch -i");
        for line in ["bogus", "", "watch", "watch a/ --prefix --prev-kv", "progress"] {
            watching.enter(line);
        }
        let mut lines = watching.until(|line| line.starts_with("progress notify"));
        view.all(&["put a/1 one", "put a/1 two"]);
        lines.extend(watching.until(|line| line == "two"));
        watching.enter("watch b c --rev=6");
        lines.extend(watching.until(|line| line == "4"));
        watching.enter("progress");
        lines.extend([watching.line(), watching.line()]);
        for (command, last) in [("put b 5", "5"), ("del a/1", "a/1"), ("put a/1 end", "end")] {
            view.run(command, "");
            lines.extend(watching.until(|line| line == last));
        }
        watching.end_input();
        lines.extend(watching.rest());
        vec![("watch -i".into(), view.ended(&mut watching, lines))]
    });
}

/// watch --progress-notify: a notification after a time without events.
pub fn progress_notices_print_the_same() {
    for format in FORMATS {
        same_transcripts(|program| {
            let mut view = View::start(program, format, &["--watch-progress-notify-interval", "200ms"]);
            view.all(&HISTORY);
            let mut watching = view.start_running("watch nothing --progress-notify");
            let mut lines = watching.until(|line| line.starts_with("progress notify: 7"));
            lines.extend((format == "json").then(|| watching.line()));
            watching.interrupt();
            vec![("watch".into(), view.ended(&mut watching, lines))]
        });
    }
}

/// snapshot save: etcdutl reads the same content from it, and the same history as from the server.
pub fn snapshots_hold_the_same() {
    same_transcripts(|program| {
        let mut view = View::start(program, "json", &[]);
        view.all(&HISTORY);
        let directory = server::directory();
        let mut said = Vec::new();
        let mut hashes = Vec::new();
        for (name, command) in [("one", "get a"), ("two", "put a 9"), ("three", "compaction 6 --physical")] {
            said.push(view.run(command, ""));
            let path = directory.path().join(name);
            let (_, mut saved) = view.run(&format!("snapshot save {}", path.display()), "");
            saved.stdout = saved.stdout.replace(&path.display().to_string(), "PATH");
            said.push((format!("snapshot save {name}"), saved));
            let (status, history) = (etcdutl(&["snapshot", "status"], &path), etcdutl(&["hashkv"], &path));
            hashes.push(status["hash"].as_u64().expect("a hash"));
            let known = ["revision", "totalKey", "version"].map(|field| status[field].to_string()).join(" ");
            let said_by_server = view.json("endpoint hashkv");
            let own = &said_by_server[0]["HashKV"];
            for (ours, theirs) in
                [("hash", "hash"), ("hash_revision", "hashRevision"), ("compact_revision", "compactRevision")]
            {
                assert_eq!(own[ours], history[theirs], "{program:?}, {name}: the server, then the snapshot");
            }
            said.push((
                format!("etcdutl {name}"),
                Printed { success: true, stdout: format!("{known} {history}"), stderr: String::new() },
            ));
        }
        assert_ne!(hashes[0], hashes[1], "{program:?}: written to in between");
        assert_ne!(hashes[1], hashes[2], "{program:?}: compacted in between");
        said
    });
}

/// make-mirror in both directions: existing keys, then changes.
pub fn mirrors_follow() {
    for [from, to] in [PROGRAMS, [Program::Etcd, Program::Ringd]] {
        let mut source = View::start(from, "simple", &[]);
        let mut destination = View::start(to, "simple", &[]);
        source.all(&["put m/1 old", "put m/1 one", "put m/2 two", "put m/gone x", "put other x", "del m/gone"]);
        destination.all(&["put copy/2 wrong", "put m/2 own"]);
        let endpoint = destination.server.endpoint();
        let mut mirror = source.start_running(&format!("make-mirror {endpoint} --prefix m/ --dest-prefix copy/"));
        let copied = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        destination.wait_for("get copy/ --prefix", &copied(&["copy/1", "one", "copy/2", "two"]));
        source.all(&["put m/1 1", "del m/2", "put m/3 3"]);
        let input = "\nput m/4 4\nput m/5 5\ndel m/3\n\n\n";
        assert!(source.run("txn", input).1.success);
        source.all(&["put other y", "put m/6 6"]);
        let expected = ["copy/1", "1", "copy/4", "4", "copy/5", "5", "copy/6", "6"];
        destination.wait_for("get copy/ --prefix", &copied(&expected));
        destination.wait_for("get m/ --prefix", &copied(&["m/2", "own"]));
        destination.wait_for("get other", "");
        mirror.interrupt();
        assert_eq!((mirror.rest(), mirror.errors()), (vec![], String::new()), "{from:?} to {to:?}");
    }
}

/// check datascale: ten thousand keys, the memory before and after, and cleaning up.
pub fn datascale_passes() {
    let mut view = View::start(Program::Ringd, "simple", &[]);
    let (_, printed) = view.run("check datascale --auto-compact --auto-defrag", "");
    assert!(printed.success, "{printed:?}");
    for line in ["Start data scale check for work load [10000 ", "Compacted with", "Defragmented", "PASS: Approximate"]
    {
        assert!(printed.stdout.contains(line), "{line}: {printed:?}");
    }
    assert_eq!(view.run("get --prefix /etcdctl", "").1.stdout, "");
}

/// check perf takes a minute. Interrupted, it reports its puts so far and cleans up. Its speed is not tested.
pub fn perf_is_interrupted() {
    let mut view = View::start(Program::Ringd, "simple", &[]);
    let mut checking = view.start_running("check perf --auto-compact");
    let begun = Instant::now();
    while view.run("get --prefix /etcdctl --keys-only --limit=1", "").1.stdout.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "it writes nothing");
        thread::sleep(POLL_EVERY);
    }
    checking.interrupt();
    let lines = checking.rest();
    for line in ["Throughput", "Slowest request", "Stddev", "Compacted with"] {
        assert!(lines.iter().any(|said| said.contains(line)), "{line}: {lines:?}");
    }
    assert!(!lines.iter().any(|line| line.contains("ERROR")), "{lines:?}");
    assert_eq!(view.run("get --prefix /etcdctl --keys-only", "").1.stdout, "");
}

type Said = (String, Printed);

/// The same steps with ringd and etcd, each with an etcdctl; the output must be equal.
fn same_transcripts(steps: impl Fn(Program) -> Vec<Said>) {
    let [ringd, etcd] = PROGRAMS.map(steps);
    for (ringd, etcd) in ringd.iter().zip(&etcd) {
        assert_eq!(ringd, etcd, "ringd, then etcd");
    }
    assert_eq!(ringd.len(), etcd.len());
}

/// One server, accessed through etcdctl.
struct View {
    server: Server,
    format: &'static str,
    member: u64,
    /// Those granted so far: `{0}` in a command is the first.
    leases: Vec<u64>,
    // Last, so that the server ends before its directory goes.
    _directory: TempDir,
}

impl View {
    fn start(program: Program, format: &'static str, flags: &[&str]) -> View {
        let directory = server::directory();
        let server = Server::start_with(program, directory.path(), flags);
        let mut view = View { server, format, member: 0, leases: Vec::new(), _directory: directory };
        view.member = view.json("endpoint status")[0]["Status"]["header"]["member_id"].as_u64().expect("an id");
        view
    }

    /// Runs commands one after the other.
    fn all(&mut self, commands: &[&str]) -> Vec<Said> {
        commands.iter().map(|command| self.run(command, "")).collect()
    }

    fn run(&mut self, command: &str, input: &str) -> Said {
        if command == "{raise}" {
            self.raise_alarm();
            return (command.into(), Printed { success: true, stdout: String::new(), stderr: String::new() });
        }
        let words = self.words(command);
        let printed = etcdctl(&self.server.endpoint(), &words.iter().map(String::as_str).collect::<Vec<_>>(), input);
        if command.starts_with("lease grant") && printed.success {
            self.leases.push(granted(&printed.stdout));
        }
        (command.into(), self.levelled(command, printed))
    }

    /// The JSON output of a command.
    fn json(&self, command: &str) -> Value {
        let words: Vec<&str> = command.split(' ').chain(["--write-out=json"]).collect();
        let printed = etcdctl(&self.server.endpoint(), &words, "");
        serde_json::from_str(&printed.stdout).unwrap_or_else(|error| panic!("{error}: {printed:?}"))
    }

    fn start_running(&self, command: &str) -> Running {
        let words = self.words(command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Running::start(reference::tool("etcdctl").as_os_str(), &self.server.endpoint(), &words)
    }

    fn words(&self, command: &str) -> Vec<String> {
        let word = |word: &str| {
            let named = self.leases.iter().enumerate().fold(word.to_owned(), |word, (number, lease)| {
                word.replace(&format!("{{{number}}}"), &format!("{lease:x}"))
            });
            named.replace("{member}", &format!("{:x}", self.member)).replace("{show}", SHOW)
        };
        [format!("--write-out={}", self.format)].into_iter().chain(command.split(' ').map(word)).collect()
    }

    /// A watch of past events, then of new ones. The history ends with the mark of this number.
    fn watch(&mut self, number: usize, command: &str) -> Said {
        let mut watching = self.start_running(command);
        let executed = command.contains(" -- ");
        let mut lines = watching.until(|line| shows(line, &format!("mark{number}"), executed));
        let next = [format!("live{}", number + 1), format!("mark{}", number + 1)];
        for value in &next {
            self.run(&format!("put a {value}"), "");
            lines.extend(watching.until(|line| shows(line, value, executed)));
            if *value == next[0] {
                self.run("del a", "");
            }
        }
        watching.interrupt();
        lines.extend(watching.rest());
        (command.into(), self.ended(&mut watching, lines))
    }

    /// Repeats a command until it prints the expected text.
    fn wait_for(&mut self, command: &str, expected: &str) {
        let begun = Instant::now();
        loop {
            let (_, printed) = self.run(command, "");
            if printed.stdout == expected {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{command}: {printed:?}");
            thread::sleep(POLL_EVERY);
        }
    }

    /// A running command that has ended and had printed these lines.
    fn ended(&self, running: &mut Running, lines: Vec<String>) -> Printed {
        let stdout = lines.iter().map(|line| format!("{line}\n")).collect();
        let status = running.wait();
        let printed = self.levelled("", Printed { success: status == Some(0), stdout, stderr: running.errors() });
        Printed { stderr: format!("{}exit {status:?}", printed.stderr), ..printed }
    }

    /// Without ids, ports, sizes and times.
    fn levelled(&self, command: &str, printed: Printed) -> Printed {
        let printed = masked(printed, &self.server);
        let level = |text: &str| {
            let mut text = without_number_after(text, "127.0.0.1:");
            for (number, lease) in self.leases.iter().enumerate() {
                let name = format!("LEASE{number}");
                text = text.replace(&format!("{lease:016x}"), &name).replace(&lease.to_string(), &name);
            }
            text = text.replace(&format!("{:x}", self.member), "MEMBER").replace(&self.member.to_string(), "MEMBER");
            text = with_sorted_keys(&text);
            text = without_number_after(&without_number_after(&text, "remaining("), "\"ttl\":");
            if command.starts_with("endpoint status") {
                // Go's text form of a message has one blank or two.
                text = text.replace("  ", " ").replace(" \"", "\"");
                text = if self.format == "simple" { without_sizes(&text) } else { text };
            }
            text.lines().map(|line| line.split("took ").next().unwrap_or(line).to_owned() + "\n").collect()
        };
        Printed { stdout: level(&printed.stdout), stderr: level(&printed.stderr), ..printed }
    }

    /// Raises an alarm of a member that does not exist, so that it is the same on both servers.
    fn raise_alarm(&self) {
        harness::run(async {
            let mut client = Client::connect([self.server.endpoint()], None).await.unwrap();
            let mut options = AlarmOptions::new();
            options.with_member(5);
            client.alarm(AlarmAction::Activate, AlarmType::Nospace, Some(options)).await.unwrap();
        });
    }
}

/// Whether a line shows this value: as text, as JSON, in hexadecimal, or by the command of a watch.
fn shows(line: &str, value: &str, executed: bool) -> bool {
    if executed {
        return line.ends_with(&format!("\"{value}\""));
    }
    let hex: String = value.bytes().map(|byte| format!("\\x{byte:x}")).collect();
    line == value || line == hex || line.contains(&BASE64_STANDARD.encode(value))
}

/// The id in the answer to `lease grant`.
fn granted(stdout: &str) -> u64 {
    let json: Option<Value> = serde_json::from_str(stdout).ok();
    match json.and_then(|value| value["ID"].as_u64()) {
        Some(id) => id,
        None => u64::from_str_radix(stdout.split(' ').nth(1).expect("lease ID granted"), 16).expect("hexadecimal"),
    }
}

fn without_number_after(text: &str, mark: &str) -> String {
    let mut pieces = text.split(mark);
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |all, piece| all + mark + "#" + piece.trim_start_matches(|letter: char| letter.is_ascii_digit()))
}

/// The keys of a lease are unordered in etcd.
fn with_sorted_keys(text: &str) -> String {
    let sorted = |text: &str, start: &str, between: &str, end: &str| {
        let Some((before, (keys, after))) =
            text.split_once(start).and_then(|(before, rest)| Some((before, rest.split_once(end)?)))
        else {
            return text.to_owned();
        };
        let mut keys: Vec<&str> = keys.split(between).collect();
        keys.sort_unstable();
        format!("{before}{start}{}{end}{after}", keys.join(between))
    };
    sorted(&sorted(text, "attached keys([", " ", "])"), "\"keys\":[", ",", "]")
}

/// A line of `endpoint status`: sizes and positions in the log differ.
fn without_sizes(text: &str) -> String {
    let differing = [4, 5, 6, 10, 11, 12];
    let kept = |line: &str| {
        let columns = line.split(", ").enumerate().filter(|(number, _)| !differing.contains(number));
        columns.map(|(_, column)| column.trim()).collect::<Vec<_>>().join(", ") + "\n"
    };
    text.lines().map(kept).collect()
}

fn etcdutl(command: &[&str], path: &Path) -> Value {
    let tool = reference::tool("etcdutl");
    let output = Command::new(tool).args(command).arg(path).arg("--write-out=json").output().expect("it starts");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}
