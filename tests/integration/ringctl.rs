//! ringctl beside etcdctl: the scripts of `src/ctl/testdata/` run twice, once through each, each time against a fresh etcd on the same
//! ports, and every stdout, stderr and exit status must agree. Commands that run until they are ended have a test each, below.
//!
//! ```text
//! # comment
//! NAME=value $ words of a command     environment and arguments; single and double quotes as in a shell
//! < line of stdin                     any number
//! ```
//!
//! `{lease}` stands for the lease granted last, `{endpoint}` for the server, `{folder}` for an empty folder. What differs between any two
//! runs is made equal first: log lines on stderr are dropped, durations, sizes and lease ids are replaced. Lines of help about flags that
//! etcdctl lacks are dropped, too. That every command and flag stands in a script is a unit test of `ctl`.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::{env, fs, iter, process, thread};

use crate::harness::etcdctl::{Printed, Running, etcdctl};
use crate::harness::reference;
use crate::harness::server::{self, Program, Server as Etcd};

const RINGCTL: &str = env!("CARGO_BIN_EXE_ringctl");
/// How the help of a flag begins that etcdctl does not have.
const OWN_FLAG: &str = "--decode";

pub fn auth_script() {
    script("auth");
}

pub fn concurrency_script() {
    script("concurrency");
}

pub fn kv_script() {
    script("kv");
}

pub fn other_script() {
    script("other");
}

pub fn txn_script() {
    script("txn");
}

pub fn watch_script() {
    script("watch");
}

/// Files that hold no certificates are refused before anything is sent, and so is discovery.
pub fn certificates_that_are_none_are_refused() {
    let folder = server::directory();
    let file = folder.path().join("file");
    fs::write(&file, "no certificate").unwrap();
    let file = file.to_str().unwrap();
    let mirror = ["make-mirror", "127.0.0.1:1"];
    let cases: [(&[&str], i32, &str); 8] = [
        (&["--cacert", file, "get", "a"], 128, "no certificate in it"),
        (&["--cert", file, "--key", file, "get", "a"], 128, "no certificate in it"),
        (&["--cert", file, "get", "a"], 128, "KeyFile and CertFile must both be present[key: , cert: "),
        (&["--cacert", "/nonexistent", "get", "a"], 128, "open /nonexistent: no such file or directory"),
        (&["--cacert", "", "get", "a"], 128, "empty string is passed to --cacert option"),
        (&[mirror[0], mirror[1], "--dest-cacert", file], 128, "no certificate in it"),
        (&[mirror[0], mirror[1], "--dest-key", file], 128, "KeyFile and CertFile must both be present"),
        (&["-w", "json", "--cacert", file, "version"], 0, ""),
    ];
    for (words, code, text) in cases {
        let step = Step { words: words.iter().map(|&word| word.to_owned()).collect(), ..Step::default() };
        let said = outcome(OsStr::new(RINGCTL), &step);
        let errors = String::from_utf8_lossy(&said.errors);
        assert_eq!(said.code, code, "{words:?}: {errors}");
        assert!(errors.contains(text), "{words:?}: {errors}");
    }
    let environment = vec![("ETCDCTL_CACERT".to_owned(), file.to_owned())];
    let step = Step { environment, words: vec!["get".into(), "a".into()], ..Step::default() };
    assert_eq!(outcome(OsStr::new(RINGCTL), &step).code, 128);
}

/// `--debug` shows the flags, without the lines of etcdctl's gRPC library.
pub fn debug_shows_the_flags() {
    let folder = server::directory();
    let etcd = Etcd::start(Program::Etcd, folder.path());
    let said = [reference::tool("etcdctl").as_os_str(), OsStr::new(RINGCTL)].map(|program| {
        let words = ["--endpoints", &etcd.endpoint(), "--debug", "--command-timeout=9s", "get", "a"];
        let step = Step { words: words.map(str::to_owned).to_vec(), ..Step::default() };
        let errors = String::from_utf8(outcome(program, &step).errors).unwrap();
        errors.lines().filter(|line| line.starts_with("ETCDCTL_")).map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(said[0], said[1]);
    assert!(said[0].len() > 20, "{said:?}");
    etcd.stop();
}

/// `endpoint status --watch` prints a line per endpoint again and again, also while one of them does not answer.
pub fn a_status_is_watched() {
    let folder = server::directory();
    let ringd = Etcd::start(Program::Ringd, folder.path());
    let endpoint = ringd.endpoint();
    let words = ["endpoint", "status", "--watch", "--interval", "10ms"];
    let mut watching = Running::start(OsStr::new(RINGCTL), &endpoint, &words);
    for _ in 0..3 {
        let line = watching.line();
        assert!(line.starts_with(&format!("{endpoint}, ")), "{line}");
    }
    assert_eq!(watching.interrupt(), Some(0));
    assert_eq!(watching.errors(), "");
    let both = format!("{endpoint},127.0.0.1:1");
    let mut watching = Running::start(OsStr::new(RINGCTL), &both, &[&words[..], &["--command-timeout=1s"]].concat());
    let lines = [watching.line(), watching.line()];
    assert!(lines.iter().all(|line| line.starts_with(&format!("{endpoint}, "))), "{lines:?}");
    assert_eq!(watching.interrupt(), Some(0));
    let errors = watching.errors();
    assert!(errors.starts_with("Failed to get the status of endpoint 127.0.0.1:1 ("), "{errors}");
    ringd.stop();
}

/// `lease keep-alive` runs until the lease ends, or until a signal.
pub fn leases_are_kept_alive() {
    let folder = server::directory();
    let etcd = Etcd::start(Program::Etcd, folder.path());
    let said = [reference::tool("etcdctl").as_os_str(), OsStr::new(RINGCTL)].map(|program| {
        let run = |words: &[&str]| etcdctl(&etcd.endpoint(), words, "");
        let granted = run(&["lease", "grant", "2"]).stdout;
        let lease = granted.split_whitespace().nth(1).expect("an id").to_owned();
        let mut keeping = Running::start(program, &etcd.endpoint(), &["lease", "keep-alive", &lease]);
        let kept = [keeping.line(), keeping.line(), keeping.line()];
        let mut interrupted = Running::start(program, &etcd.endpoint(), &["lease", "keep-alive", &lease]);
        interrupted.line();
        let ended = interrupted.interrupt();
        assert!(run(&["lease", "revoke", &lease]).success);
        let rest = keeping.rest();
        let code = keeping.wait();
        let lines = [&kept[..], &rest].concat();
        (lines.iter().map(|line| line.replace(&lease, "LEASE")).collect::<Vec<_>>(), code, keeping.errors(), ended)
    });
    assert_eq!(said[0], said[1], "etcdctl, then ringctl");
    etcd.stop();
}

/// A mirror that begins at a revision keeps the prefix, and one without a connection reports it.
pub fn mirrors_keep_their_prefix_and_complain() {
    let folder = server::directory();
    let etcd = Etcd::start(Program::Etcd, &folder.path().join("from"));
    let target = Etcd::start(Program::Etcd, &folder.path().join("to"));
    let run = |endpoint: &str, words: &[&str]| -> Printed { etcdctl(endpoint, words, "") };
    assert!(run(&etcd.endpoint(), &["put", "p/a", "1"]).success);
    let words = ["make-mirror", &target.endpoint(), "--prefix", "p/", "--rev", "2"];
    let mut mirror = Running::start(OsStr::new(RINGCTL), &etcd.endpoint(), &words);
    let mut watch = Running::start(
        reference::tool("etcdctl").as_os_str(),
        &target.endpoint(),
        &["watch", "", "--prefix", "--rev=1"],
    );
    assert_eq!([watch.line(), watch.line(), watch.line()], ["PUT", "p/a", "1"]);
    mirror.interrupt();

    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut waiting = Command::new(RINGCTL)
        .args(["--endpoints", &etcd.endpoint(), "make-mirror", &dead])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(waiting.stderr.take().unwrap()).read_line(&mut line).unwrap();
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    assert!(line.contains("waiting for the destination cluster") && line.contains(&dead), "{line}");
    etcd.stop();
    target.stop();
}

/// A format that cannot show a result is refused after the command, as by etcdctl, and a log line states that it was carried out.
pub fn results_without_a_table_are_told() {
    let folder = server::directory();
    let etcd = Etcd::start(Program::Etcd, folder.path());
    let said = [reference::tool("etcdctl").as_os_str(), OsStr::new(RINGCTL)].map(|program| {
        let words = ["--endpoints", &etcd.endpoint(), "put", "a", "b", "-w", "table"].map(str::to_owned).to_vec();
        let said = outcome(program, &Step { words, ..Step::default() });
        assert_eq!(etcdctl(&etcd.endpoint(), &["del", "a"], "").stdout, "1\n", "{program:?} has put it");
        (said.code, String::from_utf8(said.errors).unwrap())
    });
    assert_eq!((said[0].0, said[1].0), (4, 4));
    assert!(said[1].1.ends_with(&said[0].1), "{said:?}");
    assert!(said[1].1.contains("the command was carried out"), "{said:?}");
    etcd.stop();
}

fn script(name: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/ctl/testdata").join(name).with_extension("txt");
    let steps = parse(&fs::read_to_string(path).unwrap());
    let ports = [free_port(), free_port()];
    let etcd = Program::Etcd.path();
    let theirs = play(&steps, etcd.as_os_str(), ports, reference::tool("etcdctl").as_os_str());
    let ours = play(&steps, etcd.as_os_str(), ports, OsStr::new(RINGCTL));
    let mut differences = Vec::new();
    for (step, (theirs, ours)) in steps.iter().zip(iter::zip(theirs, ours)) {
        if theirs != ours {
            differences.push(format!("{}\n{}", step.line, difference(&theirs, &ours)));
        }
    }
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

/// The lines that only one of the two texts has.
fn difference(theirs: &str, ours: &str) -> String {
    let only = |mark: char, these: &str, others: &str| -> String {
        let missing = these.lines().filter(|line| !others.lines().any(|other| other == *line));
        missing.map(|line| format!("{mark} {line}\n")).collect()
    };
    only('-', theirs, ours) + &only('+', ours, theirs)
}

/// One command line with its surroundings.
#[derive(Clone, Default)]
struct Step {
    line: String,
    environment: Vec<(String, String)>,
    words: Vec<String>,
    input: Vec<u8>,
}

struct Outcome {
    code: i32,
    output: Vec<u8>,
    errors: Vec<u8>,
}

fn parse(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(input) = line.strip_prefix('<') {
            let input = input.strip_prefix(' ').unwrap_or(input);
            let last = steps.last_mut().unwrap();
            last.input.extend_from_slice(input.as_bytes());
            last.input.push(b'\n');
            continue;
        }
        let (environment, words) = line.split_once('$').unwrap();
        let pair =
            |text: String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
        steps.push(Step {
            line: line.to_owned(),
            environment: shell_words(environment).into_iter().map(pair).collect(),
            words: shell_words(words),
            input: Vec::new(),
        });
    }
    steps
}

/// Words of a shell line with quotes but without escapes or expansion.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for char in line.chars() {
        match (quote, char) {
            (Some(open), char) if char == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (_, char) => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    words
}

/// The transcript of a script against a fresh etcd.
fn play(steps: &[Step], etcd: &OsStr, ports: [u16; 2], program: &OsStr) -> Vec<String> {
    let folder = server::directory();
    let _server = start(etcd, folder.path(), ports);
    let mut lease = String::new();
    let mut names = Names::default();
    let mut transcript = Vec::new();
    for step in steps {
        let mut step = step.clone();
        step.environment.push(("ETCDCTL_ENDPOINTS".to_owned(), format!("127.0.0.1:{}", ports[0])));
        for word in &mut step.words {
            let here = folder.path().to_string_lossy();
            let endpoint = format!("127.0.0.1:{}", ports[0]);
            *word = word.replace("{lease}", &lease).replace("{endpoint}", &endpoint).replace("{folder}", &here);
        }
        if step.words.iter().any(|word| word.starts_with("--endpoints")) {
            step.environment.retain(|(name, _)| name != "ETCDCTL_ENDPOINTS");
        }
        let outcome = outcome(program, &step);
        let output = String::from_utf8_lossy(&outcome.output).into_owned();
        if let Some((_, rest)) = output.split_once("lease ")
            && let Some((id, _)) = rest.split_once(" granted")
        {
            lease = id.to_owned();
        }
        let errors = String::from_utf8_lossy(&outcome.errors);
        let errors: String =
            errors.lines().filter(|line| !line.starts_with('{')).map(|line| format!("{line}\n")).collect();
        let text = format!("exit {}\n{output}\nstderr:\n{errors}", outcome.code);
        let text = text.replace(&*folder.path().to_string_lossy(), "<folder>");
        transcript.push(names.replace(&text, &lease));
    }
    transcript
}

/// Replaces what differs from run to run.
#[derive(Default)]
struct Names {
    leases: Vec<String>,
}

impl Names {
    fn replace(&mut self, text: &str, lease: &str) -> String {
        if !lease.is_empty() && !self.leases.iter().any(|known| known == lease) {
            self.leases.push(lease.to_owned());
        }
        let mut text = text.to_owned();
        for (at, lease) in self.leases.iter().enumerate() {
            let decimal = i64::from_str_radix(lease, 16).unwrap().to_string();
            text = text.replace(lease, &format!("<lease {at}>")).replace(&decimal, &format!("<lease {at}>"));
        }
        let lines = text.lines().filter(|line| !line.trim_start().starts_with(OWN_FLAG));
        lines.map(|line| format!("{}\n", without_sizes(&without_durations(&without_queue_keys(line))))).collect()
    }
}

/// The key of a lock or candidate ends with a lease that the server chose, without leading zeros: 15 bits of the member's id, which may
/// all be 0, above 48 bits of time and counter, of which the first is 1 until the year 2039.
fn without_queue_keys(line: &str) -> String {
    const LEAST_LEASE_DIGITS: usize = 12;
    match line.rsplit_once('/') {
        Some((before, after)) => {
            let digits = after.find(|char: char| !char.is_ascii_hexdigit()).unwrap_or(after.len());
            if digits < LEAST_LEASE_DIGITS {
                return line.to_owned();
            }
            format!("{before}/<lease>{}", &after[digits..])
        }
        None => line.to_owned(),
    }
}

fn without_durations(line: &str) -> String {
    for mark in ["took = ", "\"took\":\"", "\"Took\" : ", "took "] {
        if let Some((before, after)) = line.split_once(mark) {
            let end = after.find(['"', ' ', ',']).unwrap_or(after.len());
            return format!("{before}{mark}<duration>{}", &after[end..]);
        }
    }
    line.to_owned()
}

/// The size of etcd's file depends on when it committed. A number becomes a 0 where a size may stand, and the widths of a table's
/// columns, which follow from it, are made one.
fn without_sizes(line: &str) -> String {
    let has_size = ["dbSize", "\"DBSize", " kB", "DB SIZE"].iter().any(|mark| line.contains(mark));
    if !has_size {
        return squeezed(line, '─');
    }
    let words = line.split_inclusive([' ', ',']).map(|word| {
        let is_size = word.ends_with("% ") || word.ends_with("%,") || word.starts_with("\"dbSize");
        let is_number = word.trim().len() < 7 && word.trim().bytes().all(|byte| byte.is_ascii_digit());
        if is_size || is_number {
            squeezed(&word.replace(|char: char| char.is_ascii_digit(), "0"), '0')
        } else {
            word.to_owned()
        }
    });
    squeezed(&words.collect::<String>(), ' ')
}

/// Every run of `repeated` becomes one.
fn squeezed(text: &str, repeated: char) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character != repeated || !out.ends_with(repeated) {
            out.push(character);
        }
    }
    out
}

fn outcome(program: &OsStr, step: &Step) -> Outcome {
    let mut child = Command::new(program)
        .args(&step.words)
        .env_clear()
        .envs(env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(step.environment.iter().cloned())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads no stdin may be gone already.
    let _closed = child.stdin.take().unwrap().write_all(&step.input);
    let result = child.wait_with_output().unwrap();
    Outcome { code: result.status.code().unwrap(), output: result.stdout, errors: result.stderr }
}

/// Starts etcd and waits for the line that says it serves, and for the one that says it has decided its storage version:
/// a moment later, and what `endpoint status` prints depends on it.
fn start(program: &OsStr, folder: &Path, [client, peer]: [u16; 2]) -> Server {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let mut child = Command::new(program)
        .arg("--data-dir")
        .arg(folder.join("data"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut missing = vec!["serving client traffic insecurely", r#""new-storage-version":"3.7.0""#];
    while !missing.is_empty() {
        let line = lines.next().and_then(Result::ok).expect("etcd ended before it served");
        missing.retain(|text| !line.contains(text));
    }
    // Its log must be read, or it stops when the pipe is full.
    thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    Server(child)
}

/// An etcd that ends with the script, also when a step panics.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A port below those that the kernel gives to clients: none of them takes it between one etcd and the next.
fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = u16::try_from(process::id() % u32::from(COUNT)).unwrap();
    let candidate = || FIRST + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
    iter::repeat_with(candidate).find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok()).unwrap()
}
