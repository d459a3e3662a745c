//! Judged by etcdctl itself: the scripts of `testdata/` run twice, once through the real tool and once
//! through [`run`], each time against a fresh etcd on the same ports, and every stdout, stderr and exit
//! status must agree.
//!
//! ```text
//! # comment
//! NAME=value $ words of a command     environment and arguments; single and double quotes as in a shell
//! < line of stdin                     any number
//! ```
//!
//! `{lease}` stands for the lease granted last, `{endpoint}` for the server, `{folder}` for an empty folder. What differs between any two runs is made equal first: log
//! lines on stderr are dropped, durations, sizes and lease ids are replaced.
//!
//! It runs where `RINGD_ETCD` and `RINGD_ETCDCTL` name the programs of the real etcd.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Cursor, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::{env, fs, iter, process, thread};

use super::{Io, run};

#[test]
fn prints_what_etcdctl_prints() {
    let (Some(etcd), Some(etcdctl)) = (env::var_os("RINGD_ETCD"), env::var_os("RINGD_ETCDCTL")) else {
        println!("RINGD_ETCD and RINGD_ETCDCTL are not set: nothing to compare with");
        return;
    };
    let mut differences = Vec::new();
    for (name, text) in scripts() {
        let ports = [free_port(), free_port()];
        let steps = parse(&text);
        let theirs = play(&steps, &etcd, ports, |step| run_etcdctl(&etcdctl, step));
        let ours = play(&steps, &etcd, ports, run_ours);
        for (step, (theirs, ours)) in steps.iter().zip(iter::zip(theirs, ours)) {
            if theirs != ours {
                differences.push(format!("{name}: {}\n{}", step.line, difference(&theirs, &ours)));
            }
        }
    }
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn commands_that_need_no_server_answer_alone() {
    let step = |words: &[&str]| Step {
        line: String::new(),
        environment: Vec::new(),
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        input: Vec::new(),
    };
    assert_eq!(run_ours(&step(&["version"])).output, b"etcdctl version: 3.7.1\nAPI version: 3.7\n");
    assert_eq!(run_ours(&step(&["gett"])).code, 1);
    assert_eq!(run_ours(&step(&["get"])).code, 128);
    assert_eq!(run_ours(&step(&["get", "k", "-w", "none"])).code, 4);
    assert_eq!(run_ours(&step(&["end", "stat", "--help"])).code, 0);
}

#[test]
fn queue_keys_of_every_member_are_levelled() {
    for lease in ["694d9a208f0f23a0", "61a208f0f23a0f", "a208f0f23a0f"] {
        assert_eq!(without_queue_keys(&format!("a/{lease} 8")), "a/<lease> 8");
    }
    assert_eq!(without_queue_keys("a/b8"), "a/b8");
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
#[derive(Clone)]
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

fn scripts() -> BTreeMap<String, String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ctl/testdata");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap()))
        .collect()
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
fn play(steps: &[Step], etcd: &std::ffi::OsStr, ports: [u16; 2], run: impl Fn(&Step) -> Outcome) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
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
        let outcome = run(&step);
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
        text.lines().map(|line| format!("{}\n", without_sizes(&without_durations(&without_queue_keys(line))))).collect()
    }
}

/// The key of a lock or candidate ends with a lease that nobody named, without leading zeros: 15 bits of the member's id, which may
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

fn run_etcdctl(program: &std::ffi::OsStr, step: &Step) -> Outcome {
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

fn run_ours(step: &Step) -> Outcome {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let words: Vec<Vec<u8>> = step.words.iter().map(|word| word.clone().into_bytes()).collect();
    let io = Io {
        input: Box::new(Cursor::new(step.input.clone())),
        output: &mut output,
        errors: &mut errors,
        shares_streams: false,
        interrupt: Box::pin(std::future::pending()),
    };
    let code = run(&words, step.environment.clone(), io);
    Outcome { code, output, errors }
}

/// Starts etcd and waits for the line that says it serves, and for the one that says it has decided its storage version:
/// a moment later, and what `endpoint status` prints depends on it.
fn start(program: &std::ffi::OsStr, folder: &std::path::Path, [client, peer]: [u16; 2]) -> Server {
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
