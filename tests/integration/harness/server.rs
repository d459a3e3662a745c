//! One server process: ringd, or etcd in the same role.
//!
//! A start waits until the server logs that it serves, or until it has ended. Its standard error is kept and printed
//! when the test that owns it fails.

use std::{
    env,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    thread,
    time::Instant,
};

use rustix::process::Signal;
use tempfile::TempDir;

pub use super::child::Ended;
use super::{
    child::{LOOK_AGAIN, PATIENCE, Process},
    grpc::Connection,
    reference,
};

pub const READY: &str = "ready to serve client requests";
pub const PORT_TAKEN: &str = "address already in use";
/// Between choosing a port and binding it another process may take it.
pub const PORT_ATTEMPTS: usize = 5;

/// Who plays the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// ringd, or the binary `RINGD_TEST_SUBJECT` names: with etcd there, the tests test themselves.
    Ringd,
    /// The reference.
    Etcd,
}

impl Program {
    pub fn path(self) -> PathBuf {
        match self {
            Program::Ringd => {
                env::var_os("RINGD_TEST_SUBJECT").map_or_else(|| env!("CARGO_BIN_EXE_ringd").into(), PathBuf::from)
            }
            Program::Etcd => reference::etcd().expect("tests that need etcd ask first").0,
        }
    }
}

/// Is it ringd that plays ringd? What only ringd promises is left out when the tests test themselves.
pub fn subject_is_ringd() -> bool {
    env::var_os("RINGD_TEST_SUBJECT").is_none()
}

/// A directory for one test, on the disk that the project is on; removed at the end.
pub fn directory() -> TempDir {
    TempDir::with_prefix_in("data-", env!("CARGO_TARGET_TMPDIR")).expect("target/tmp is writable")
}

/// A server that serves.
pub struct Server {
    pub port: u16,
    program: Program,
    data: PathBuf,
    flags: Vec<String>,
    process: Process,
}

impl Server {
    /// Starts a server on a data directory and expects it to serve.
    pub fn start(program: Program, data: &Path) -> Server {
        Server::start_with(program, data, &[])
    }

    /// The same with further flags.
    pub fn start_with(program: Program, data: &Path, flags: &[&str]) -> Server {
        Server::try_start(program, data, flags).unwrap_or_else(|ended| panic!("{program:?} did not start: {ended}"))
    }

    /// Starts a server, or says how it ended.
    pub fn try_start(program: Program, data: &Path, flags: &[&str]) -> Result<Server, Ended> {
        let mut attempt = 1;
        loop {
            let port = free_port();
            let mut process = Process::spawn(program, &arguments(data, port, free_port(), flags));
            match process.wait_for(READY) {
                Ok(()) => {
                    let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
                    let server = Server { port, program, data: data.into(), flags, process };
                    server.wait_for_versions();
                    return Ok(server);
                }
                Err(ended) if ended.log.contains(PORT_TAKEN) && attempt < PORT_ATTEMPTS => {
                    attempt += 1;
                }
                Err(ended) => return Err(ended),
            }
        }
    }

    /// An etcd serves before it has decided the versions of its cluster and its storage, which it tells clients. ringd does not.
    fn wait_for_versions(&self) {
        let start = Instant::now();
        while self.program == Program::Etcd && !self.has_versions() {
            assert!(start.elapsed() < PATIENCE, "no versions\n{}", self.process.log());
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Whether what is stored is of the cluster's version. Releases before 3.6 do not tell, and one that does not commit does not know.
    fn has_versions(&self) -> bool {
        let commits = !self.flags.iter().any(|flag| flag == "--backend-batch-interval");
        let versions: Option<serde_json::Value> = serde_json::from_str(&self.page("/version")).ok();
        versions.is_some_and(|versions| {
            let (cluster, storage) = (&versions["etcdcluster"], versions.get("storage"));
            cluster != "not_decided" && (!commits || storage.is_none_or(|storage| storage == cluster))
        })
    }

    /// The body of a page; empty if there was no answer.
    pub fn page(&self, path: &str) -> String {
        let mut answer = String::new();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let asked = TcpStream::connect(("127.0.0.1", self.page_port())).and_then(|mut stream| {
            stream.write_all(request.as_bytes())?;
            stream.read_to_string(&mut answer)
        });
        let body = answer.split_once("\r\n\r\n").filter(|_| asked.is_ok());
        body.map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    /// Where pages are served: at the URL of clients, unless there is another one for them.
    fn page_port(&self) -> u16 {
        let split = self.flags.iter().skip_while(|flag| *flag != "--listen-client-http-urls").nth(1);
        split.and_then(|url| url.rsplit_once(':')).map_or(self.port, |(_, port)| port.parse().expect("a port"))
    }

    /// Sends a signal, which may or may not end it.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits until it has ended by itself.
    pub fn wait(mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Kills a server that is starting after it has logged so many lines, ready or not.
    pub fn kill_while_starting(program: Program, data: &Path, lines: usize) {
        let mut process = Process::spawn(program, &arguments(data, free_port(), free_port(), &[]));
        // A server that ends here by itself is found out by the next start.
        let _ = process.wait_until(|log| log.len() >= lines || log.iter().any(|line| line.contains(READY)));
        process.signal(Signal::KILL);
        process.wait();
    }

    /// Starts a server where it cannot serve yet: once it has logged `complaint`, `remedy` helps.
    pub fn start_into(program: Program, data: &Path, complaint: &str, remedy: impl FnOnce()) -> Server {
        let port = free_port();
        let mut process = Process::spawn(program, &arguments(data, port, free_port(), &[]));
        process.wait_for(complaint).unwrap_or_else(|ended| panic!("{complaint:?} is not logged: {ended}"));
        remedy();
        process.wait_for(READY).unwrap_or_else(|ended| panic!("{program:?} did not start: {ended}"));
        Server { port, program, data: data.into(), flags: Vec::new(), process }
    }

    /// Waits until it has logged this; others of the test go on meanwhile.
    pub async fn must_log(&self, text: &str) {
        let start = Instant::now();
        while !self.process.has_logged(text) {
            assert!(start.elapsed() < PATIENCE, "{text:?} is not logged");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// What stock clients take as `--endpoints`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A new connection of our own client.
    pub async fn connect(&self) -> Connection {
        Connection::open(self.port).await.unwrap_or_else(|error| panic!("no connection to {:?}: {error}", self.program))
    }

    /// SIGTERM, as a service manager stops a server; it must obey and end cleanly.
    pub fn stop(mut self) {
        self.process.signal(Signal::TERM);
        let status = self.process.wait();
        assert!(obeyed(status), "{:?} stopped with {status}\n{}", self.program, self.process.log());
    }

    /// SIGKILL: what was not on its way to the disk is lost.
    pub fn kill(mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait();
    }

    /// Stops it and starts it again on the same directory, with the same flags.
    pub fn restart(self) -> Server {
        self.start_again(Server::stop)
    }

    /// Kills it and starts it again on the same directory, with the same flags.
    pub fn crash(self) -> Server {
        self.start_again(Server::kill)
    }

    fn start_again(self, end: impl FnOnce(Server)) -> Server {
        let (program, data, flags) = (self.program, self.data.clone(), self.flags.clone());
        end(self);
        Server::start_with(program, &data, &flags.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Has the process ended by itself?
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }
}

/// Runs a program with exactly these arguments and environment until it ends; one that goes on is a failure.
pub fn run_to_end(program: Program, flags: &[&str], environment: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(program.path());
    command.args(flags).envs(environment.iter().copied());
    let mut process = Process::run(command);
    match process.wait_for("\u{0}never logged") {
        Err(ended) if ended.status.is_some() => ended,
        _ => panic!("{program:?} {flags:?} goes on\n{}", process.log()),
    }
}

/// Is this how a server ends after SIGTERM? etcd raises the signal again once it is done.
pub fn obeyed(status: ExitStatus) -> bool {
    status.success() || status.signal() == Some(Signal::TERM.as_raw())
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

fn arguments(data: &Path, port: u16, peer_port: u16, flags: &[&str]) -> Vec<String> {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
    let fixed = [
        ("--name", "one".to_owned()),
        ("--data-dir", data.display().to_string()),
        ("--listen-client-urls", client.clone()),
        ("--advertise-client-urls", client),
        ("--listen-peer-urls", peer.clone()),
        ("--initial-advertise-peer-urls", peer.clone()),
        ("--initial-cluster", format!("one={peer}")),
    ];
    fixed
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .chain(flags.iter().map(|&flag| flag.to_owned()))
        .collect()
}
