//! Command line clients, one process per command: stock etcdctl, and our ringctl in its place.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::reference;

/// A line that takes longer never comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The output of a command and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

/// Runs one command against one endpoint, with `input` on stdin.
pub fn etcdctl(endpoint: &str, arguments: &[&str], input: &str) -> Printed {
    run(reference::tool("etcdctl").as_os_str(), endpoint, arguments, input)
}

/// The same with ringctl.
pub fn ringctl(endpoint: &str, arguments: &[&str], input: &str) -> Printed {
    run(OsStr::new(env!("CARGO_BIN_EXE_ringctl")), endpoint, arguments, input)
}

fn run(program: &OsStr, endpoint: &str, arguments: &[&str], input: &str) -> Printed {
    let mut child = Command::new(program)
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", endpoint])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    // A command that reads nothing may have ended already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    Printed {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A command that runs until it is ended: it watches, waits, holds or leads.
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
}

impl Running {
    pub fn start(program: &OsStr, endpoint: &str, arguments: &[&str]) -> Running {
        let mut child = Command::new(program)
            .args(["--endpoints", endpoint])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let input = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (lines, output) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        Running { child, input, output }
    }

    /// What a user types, without the end of the line.
    pub fn enter(&mut self, line: &str) {
        let input = self.input.as_mut().expect("nothing is typed after the end of the input");
        writeln!(input, "{line}").expect("it reads");
    }

    pub fn end_input(&mut self) {
        self.input = None;
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> String {
        self.output.recv_timeout(PATIENCE).unwrap_or_else(|error| {
            let _gone = self.child.kill();
            panic!("no line ({error}): {:?}", self.errors())
        })
    }

    /// The lines up to one that `last` picks.
    pub fn until(&mut self, last: impl Fn(&str) -> bool) -> Vec<String> {
        let mut lines = vec![self.line()];
        while !lines.last().is_some_and(|line| last(line)) {
            lines.push(self.line());
        }
        lines
    }

    /// The next line, if it comes within a moment. For commands that are given something to print again and again.
    pub fn line_within(&mut self, moment: Duration) -> Option<String> {
        match self.output.recv_timeout(moment) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("it ended: {:?}", self.errors()),
        }
    }

    /// Everything that it prints until it ends.
    pub fn rest(&mut self) -> Vec<String> {
        self.output.iter().collect()
    }

    /// SIGINT, and how it ends then.
    pub fn interrupt(&mut self) -> Option<i32> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(id, Signal::INT).expect("our own child");
        self.wait()
    }

    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("our own child").code()
    }

    /// What it says of its end, without log lines. Waits for the end.
    pub fn errors(&mut self) -> String {
        let mut text = String::new();
        if let Some(errors) = &mut self.child.stderr {
            errors.read_to_string(&mut text).expect("text");
        }
        text.lines().filter(|line| !line.starts_with('{')).map(|line| line.to_owned() + "\n").collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails if it has ended already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
