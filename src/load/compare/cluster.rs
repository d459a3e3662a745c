//! The members of one server, as processes of this machine.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{super::AnyError, subject::Subject};

const START: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(2);
/// Of the log of a server that has not started.
const LOG_TAIL_LINES: usize = 5;

/// Running members. They are killed when this is dropped.
pub(super) struct Cluster {
    members: Vec<Child>,
    pub(super) addresses: Vec<SocketAddr>,
}

impl Cluster {
    /// Starts `count` members with empty directories in `directory`, and waits until each is healthy.
    pub(super) fn start(subject: &Subject, count: usize, directory: &Path) -> Result<Self, AnyError> {
        fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let ports = free_ports(2 * count)?;
        let peers: Vec<String> = (0..count).map(|at| format!("m{at}=http://127.0.0.1:{}", ports[2 * at + 1])).collect();
        let mut cluster = Self { members: Vec::new(), addresses: Vec::new() };
        for at in 0..count {
            let (client, peer) = (ports[2 * at], ports[2 * at + 1]);
            let client_url = format!("http://127.0.0.1:{client}");
            let peer_url = format!("http://127.0.0.1:{peer}");
            let name = format!("m{at}");
            let log = File::create(directory.join(format!("{name}.log")))?;
            let child = Command::new(&subject.program)
                .args(["--name", &name, "--initial-cluster", &peers.join(",")])
                .arg("--data-dir")
                .arg(directory.join(&name))
                .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
                .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
                .args(&subject.flags)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()
                .map_err(|error| format!("{}: {}: {error}", subject.name, subject.program.display()))?;
            cluster.members.push(child);
            cluster.addresses.push(SocketAddr::from(([127, 0, 0, 1], client)));
        }
        for at in 0..count {
            cluster.await_health(at).map_err(|error| {
                let log = fs::read_to_string(directory.join(format!("m{at}.log"))).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
                format!("member {at} of {} {error}; it said last:\n{}", subject.name, tail.join("\n"))
            })?;
        }
        Ok(cluster)
    }

    fn await_health(&mut self, at: usize) -> Result<(), String> {
        let deadline = Instant::now() + START;
        while !is_healthy(self.addresses[at]) {
            if let Ok(Some(status)) = self.members[at].try_wait() {
                return Err(format!("has ended ({status})"));
            }
            if Instant::now() > deadline {
                return Err(format!("is not healthy after {} s", START.as_secs()));
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            // One that has ended already is as good.
            let _killed = member.kill();
            let _status = member.wait();
        }
    }
}

fn is_healthy(address: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(stream, "GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        Some(page.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}

/// Ports that nobody listens at now.
fn free_ports(count: usize) -> Result<Vec<u16>, AnyError> {
    let held = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    Ok(held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<std::io::Result<Vec<_>>>()?)
}
