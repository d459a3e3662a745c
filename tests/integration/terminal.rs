//! Programs on a terminal of their own: etcdctl's prompts for passwords, without echo, and the progress of long copies.

use std::{
    ffi::{CString, OsStr},
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    process::{Child, Command, Stdio},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};

use crate::harness::{
    etcdctl::{etcdctl, ringctl},
    reference,
    server::{self, Program, Server},
};

/// Prompts, and the input at each.
type Dialogue = &'static [(&'static str, &'static str)];

const RINGCTL: &str = env!("CARGO_BIN_EXE_ringctl");
const RINGUTL: &str = env!("CARGO_BIN_EXE_ringutl");

/// `--user NAME`, `user add`, `user passwd` and `make-mirror --dest-user`: the same screen as etcdctl's.
pub fn passwords_are_not_shown() {
    let folder = server::directory();
    let etcd = Server::start(Program::Etcd, folder.path());
    // With authentication on, the password that was typed is the one that is asked for.
    for command in ["user add root:secret", "role add root", "user grant-role root root", "auth enable"] {
        let done = etcdctl(&etcd.endpoint(), &command.split(' ').collect::<Vec<_>>(), "");
        assert!(done.success, "{command}: {done:?}");
    }
    let root: &[&str] = &["--user", "root:secret"];
    let cases: [(&[&str], Dialogue, bool); 5] = [
        (&["--user", "root", "get", "x"], &[("Password: ", "secret")], true),
        (&["--user", "root", "endpoint", "health"], &[("Password: ", "secret")], true),
        (
            &[root[0], root[1], "user", "add", "joe"],
            &[("Password of joe: ", "top"), ("Type password of joe again for confirmation: ", "top")],
            true,
        ),
        (
            &[root[0], root[1], "user", "passwd", "joe"],
            &[("Password of joe: ", "one"), ("Type password of joe again for confirmation: ", "two")],
            false,
        ),
        (&[root[0], root[1], "user", "passwd", "joe"], &[("Password of joe: ", "")], false),
    ];
    for (words, dialogue, is_good) in cases {
        let [theirs, ours] = [reference::tool("etcdctl").as_os_str(), OsStr::new(RINGCTL)].map(|program| {
            // There is none before the first of them.
            let _gone = etcdctl(&etcd.endpoint(), &["--user", "root:secret", "user", "delete", "joe"], "");
            let mut session = Session::start(program, &etcd.endpoint(), words);
            for (prompt, typed) in dialogue {
                session.until(prompt);
                session.type_silently(typed);
            }
            let (screen, code) = session.end();
            for (_, typed) in dialogue.iter().filter(|(_, typed)| !typed.is_empty()) {
                assert!(!screen.contains(typed), "{program:?} {words:?} shows {typed}: {screen}");
            }
            (without_times(&screen), code)
        });
        assert_eq!(theirs, ours, "{words:?}: etcdctl, then ringctl");
        assert_eq!(theirs.1 == Some(0), is_good, "{words:?}: {theirs:?}");
    }
    etcd.stop();
}

/// A signal while a password is typed: the echo is on again, and the status is etcdctl's.
pub fn interrupted_prompts_leave_the_terminal_as_it_was() {
    for program in [reference::tool("etcdctl").as_os_str(), OsStr::new(RINGCTL)] {
        let mut session = Session::start(program, "127.0.0.1:1", &["--user", "root", "get", "x"]);
        session.until("Password: ");
        session.wait_for_silence();
        let id = i32::try_from(session.child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(id, Signal::INT).unwrap();
        assert_eq!(session.child.wait().unwrap().code(), Some(255), "{program:?}");
        assert!(session.shows_input(), "{program:?}");
    }
}

/// `snapshot save` and `snapshot restore` draw how far they are, and clear the line before their result.
pub fn copies_show_their_progress() {
    let folder = server::directory();
    let ringd = Server::start(Program::Ringd, &folder.path().join("member"));
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let (saved, restored) = (path("saved"), path("restored"));
    let saving = Session::start(OsStr::new(RINGCTL), &ringd.endpoint(), &["snapshot", "save", &saved]);
    let (screen, code) = saving.end();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains("100%"), "{screen:?}");
    assert!(screen.contains("Snapshot saved at"), "{screen:?}");
    let restoring = Session::start_with(OsStr::new(RINGUTL), &["snapshot", "restore", &saved, "--data-dir", &restored]);
    let (screen, code) = restoring.end();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains("100%"), "{screen:?}");
    assert!(screen.contains("restored snapshot"), "{screen:?}");
    // Without a terminal there is the result alone.
    let printed = ringctl(&ringd.endpoint(), &["snapshot", "save", &saved], "");
    assert!(printed.success && !printed.stderr.contains('%'), "{printed:?}");
    ringd.stop();
}

/// How long a health check took.
fn without_times(screen: &str) -> String {
    let lines = screen.lines().filter(|line| !line.starts_with('{'));
    lines.map(|line| line.split("took = ").next().unwrap_or_default().to_owned() + "\n").collect()
}

/// A program on a terminal.
struct Session {
    child: Child,
    /// The user's side.
    terminal: File,
    /// The program's side, kept open so that its settings can be read.
    line: File,
    screen: String,
}

impl Session {
    fn start(program: &OsStr, endpoint: &str, words: &[&str]) -> Session {
        Self::start_with(program, &[&["--endpoints", endpoint], words].concat())
    }

    fn start_with(program: &OsStr, words: &[&str]) -> Session {
        let terminal: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name: CString = ptsname(&terminal, Vec::new()).unwrap();
        let line = OpenOptions::new().read(true).write(true).open(OsStr::from_bytes(name.as_bytes())).unwrap();
        let stream = || Stdio::from(line.try_clone().unwrap());
        let child =
            Command::new(program).args(words).stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
        Session { child, terminal: terminal.into(), line, screen: String::new() }
    }

    fn shows_input(&self) -> bool {
        tcgetattr(&self.line).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    /// Reads until the screen ends with this.
    fn until(&mut self, text: &str) {
        let mut bytes = [0; 512];
        while !self.screen.ends_with(text) {
            let length = self.terminal.read(&mut bytes).expect("the terminal is open");
            self.screen.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
    }

    /// etcdctl turns the echo off only after the prompt.
    fn wait_for_silence(&self) {
        while self.shows_input() {
            std::thread::yield_now();
        }
    }

    fn type_silently(&mut self, text: &str) {
        self.wait_for_silence();
        writeln!(self.terminal, "{text}").unwrap();
    }

    /// The whole screen, when the program has ended, and its status.
    fn end(mut self) -> (String, Option<i32>) {
        let code = self.child.wait().unwrap().code();
        // Marks the end of the screen, after the last output of the program.
        self.line.write_all(b"\0").unwrap();
        self.until("\0");
        (self.screen.trim_end_matches('\0').to_owned(), code)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Fails if it has ended already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
