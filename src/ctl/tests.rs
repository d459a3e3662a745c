//! Commands that need no server, and the completeness of the scripts in `testdata/`, which an integration test runs beside etcdctl.

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;

use super::command::{Command, Path, find};
use super::tree::flags;
use super::{Io, ROOT, run};

/// Commands without a script, and the tests that cover them: they run until they are ended, take long, or differ in every run.
const NOT_IN_SCRIPTS: [&str; 7] = [
    // client_views::datascale_passes, client_views::perf_is_interrupted
    "check datascale",
    "check perf",
    // ringctl::debug_shows_the_flags, discovery::clients_find_their_endpoints
    "--debug",
    "--discovery-srv",
    // Flags that only ringctl has: ringctl::a_status_is_watched
    "get --decode",
    "endpoint status --watch",
    "endpoint status --interval",
];

#[test]
fn commands_that_need_no_server_answer_alone() {
    assert_eq!(answer(&["version"]), (0, "etcdctl version: 3.7.3\nAPI version: 3.7\n".to_owned()));
    assert_eq!(answer(&["gett"]).0, 1);
    assert_eq!(answer(&["get"]).0, 128);
    assert_eq!(answer(&["get", "k", "-w", "none"]).0, 4);
    assert_eq!(answer(&["end", "stat", "--help"]).0, 0);
    assert!(answer(&["role", "--help"]).1.contains("\n  add               Adds a new role\n"));
}

#[test]
fn every_command_and_flag_stands_in_a_script() {
    let lines: Vec<Vec<Vec<u8>>> = scripts().lines().filter_map(words).collect();
    let used: Vec<(Path, &Vec<Vec<u8>>)> = lines.iter().map(|words| (find(&ROOT, words).path, words)).collect();
    let mut missing = BTreeSet::new();
    let mut shared = BTreeSet::new();
    for path in paths(&ROOT) {
        let name = path[1..].iter().map(|command| command.name).collect::<Vec<_>>().join(" ");
        let of_command: Vec<_> = used.iter().filter(|(other, _)| names(other) == names(&path)).collect();
        if of_command.is_empty() {
            missing.insert(name.clone());
        }
        for flag in flags(&path).filter(|flag| flag.name != "help") {
            let is_given = |words: &[Vec<u8>]| words.iter().any(|word| gives(word, flag.name, flag.letter));
            let is_shared = ROOT.shared_flags.iter().any(|other| other.name == flag.name);
            let mut lines = if is_shared { used.iter().collect() } else { of_command.clone() }.into_iter();
            if !lines.any(|(_, words)| is_given(words)) && !NOT_IN_SCRIPTS.contains(&&*name) {
                let whose = if is_shared { String::new() } else { format!("{name} ") };
                shared.insert(format!("{whose}--{}", flag.name));
            }
        }
    }
    missing.append(&mut shared);
    missing.retain(|what| !NOT_IN_SCRIPTS.contains(&&**what));
    assert!(missing.is_empty(), "in no script: {missing:#?}");
}

/// The paths of all commands that can run.
fn paths(root: &'static Command) -> Vec<Path> {
    let mut done = Vec::new();
    let mut open: Vec<Path> = vec![vec![root]];
    while let Some(path) = open.pop() {
        let last = path[path.len() - 1];
        open.extend(last.commands.iter().map(|&command| [&path[..], &[command]].concat()));
        if last.run.is_some() {
            done.push(path);
        }
    }
    done
}

fn names(path: &Path) -> Vec<&'static str> {
    path.iter().map(|command| command.name).collect()
}

fn gives(word: &[u8], name: &str, letter: Option<char>) -> bool {
    let word = String::from_utf8_lossy(word);
    let long = word.strip_prefix("--").and_then(|rest| rest.split('=').next());
    let short = letter.is_some_and(|letter| word.starts_with(&format!("-{letter}")));
    long == Some(name) || short
}

fn scripts() -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ctl/testdata");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// The words of a line that is a command.
fn words(line: &str) -> Option<Vec<Vec<u8>>> {
    let (environment, words) = line.split_once('$').filter(|_| !line.starts_with(['#', '<']))?;
    let variables = environment.split_whitespace().filter_map(|pair| pair.split_once('=')).map(|(name, _)| {
        // A variable sets a flag, too.
        format!("--{}=", name.trim_start_matches("ETCDCTL_").to_lowercase().replace('_', "-"))
    });
    Some(variables.chain(words.split_whitespace().map(str::to_owned)).map(String::into_bytes).collect())
}

fn answer(words: &[&str]) -> (i32, String) {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    let io = Io {
        input: Box::new(Cursor::new(Vec::new())),
        output: &mut output,
        errors: &mut errors,
        shares_streams: false,
        interrupt: Box::pin(std::future::pending()),
    };
    let code = run(&words, Vec::new(), io);
    (code, String::from_utf8(output).unwrap())
}
