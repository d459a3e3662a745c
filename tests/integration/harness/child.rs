//! One child process and its standard error, which is kept and printed when the test that owns it fails.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::server::Program;

/// A start or a stop that takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that cannot be waited for.
pub const LOOK_AGAIN: Duration = Duration::from_millis(2);
const LOG_LINES_SHOWN: usize = 40;

/// How a server ended that was expected to serve, or not to.
#[derive(Debug)]
pub struct Ended {
    pub status: Option<ExitStatus>,
    pub log: String,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.status {
            Some(status) => write!(formatter, "{status}\n{}", self.log),
            None => write!(formatter, "still silent after {PATIENCE:?}\n{}", self.log),
        }
    }
}

/// A child process and its standard error.
pub struct Process {
    child: Child,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    lines: Vec<String>,
    /// The process has closed its standard error, usually by ending.
    closed: bool,
}

impl Process {
    pub fn spawn(program: Program, arguments: &[impl AsRef<OsStr>]) -> Process {
        let mut command = Command::new(program.path());
        command.args(arguments);
        Process::run(command)
    }

    /// The same in a network namespace. (`ip` becomes the program.)
    pub fn spawn_in(namespace: &str, program: Program, arguments: &[impl AsRef<OsStr>]) -> Process {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(program.path()).args(arguments);
        Process::run(command)
    }

    pub fn run(mut command: Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stderr = child.stderr.take().expect("piped");
        let log = Arc::new(Log::default());
        let writer = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                writer.update(|state| state.lines.push(String::from_utf8_lossy(&line).into_owned()));
            }
            writer.update(|state| state.closed = true);
        });
        Process { child, log }
    }

    pub fn has_logged(&self, text: &str) -> bool {
        let state = self.log.state.lock().expect("no panic under the lock");
        state.lines.iter().any(|line| line.contains(text))
    }

    /// How many lines have all of these in them.
    pub fn lines_with(&self, parts: &[&str]) -> usize {
        let state = self.log.state.lock().expect("no panic under the lock");
        state.lines.iter().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }

    pub fn wait_for(&mut self, text: &str) -> Result<(), Ended> {
        self.wait_until(|lines| lines.iter().any(|line| line.contains(text)))
    }

    pub fn wait_until(&mut self, done: impl Fn(&[String]) -> bool) -> Result<(), Ended> {
        let state = self.log.state.lock().expect("no panic under the lock");
        let waiting = |state: &mut LogState| !state.closed && !done(&state.lines);
        let (state, _) =
            self.log.changed.wait_timeout_while(state, PATIENCE, waiting).expect("no panic under the lock");
        let (satisfied, closed) = (done(&state.lines), state.closed);
        drop(state);
        if satisfied {
            return Ok(());
        }
        let status = closed.then(|| self.wait());
        Err(Ended { status, log: self.log() })
    }

    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        // One that has ended already cannot be told any more, and need not be.
        let _ = kill_process(id, signal);
    }

    /// Waits for the end. Polls, because std has no wait with a limit and a server that hangs must not hang the tests.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            if start.elapsed() > PATIENCE {
                self.signal(Signal::KILL);
                panic!("still running after {PATIENCE:?}\n{}", self.log());
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until it has ended by itself: all that it has logged.
    pub fn wait_for_end(&mut self) -> String {
        match self.wait_until(|_| false) {
            Err(Ended { status: Some(_), log }) => log,
            _ => panic!("it goes on\n{}", self.log()),
        }
    }

    /// Has it ended by itself?
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child")
    }

    /// The end of the log.
    pub fn log(&self) -> String {
        let state = self.log.state.lock().expect("no panic under the lock");
        let skipped = state.lines.len().saturating_sub(LOG_LINES_SHOWN);
        state.lines[skipped..].join("\n")
    }
}

impl Log {
    fn update(&self, change: impl FnOnce(&mut LogState)) {
        change(&mut self.state.lock().expect("no panic under the lock"));
        self.changed.notify_all();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of process {}\n{}\n---", self.child.id(), self.log());
        }
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}
