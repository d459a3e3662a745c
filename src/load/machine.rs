//! What a process of this machine used, from `/proc`, and what a server says of itself in `/metrics`.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// `sysconf(_SC_CLK_TCK)` of every Linux there is.
const TICKS_PER_SECOND: f64 = 100.0;
const METRICS_TIMEOUT: Duration = Duration::from_secs(2);
/// The state of a listening socket in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// Counters of a process since its start; memory as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu_s: f64,
    pub rss_mb: f64,
    /// Voluntary and other switches of all its threads.
    pub switches: u64,
    pub written_mb: f64,
}

impl Usage {
    /// `None` when the process is gone, or may not be looked at.
    pub fn of(process: u32) -> Option<Self> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}")).ok();
        let stat = read("stat")?;
        // The name, in parentheses, may contain blanks.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
        let number = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let mut switches = 0;
        for thread in fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten() {
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            switches += number(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            switches += number(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
        Some(Self {
            cpu_s: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
            rss_mb: number(&read("status")?, "VmRSS:").unwrap_or(0) as f64 / 1024.0,
            switches,
            // Only root and the owner may read it.
            written_mb: read("io").and_then(|io| number(&io, "write_bytes:")).unwrap_or(0) as f64 / 1e6,
        })
    }

    /// What was used between two looks; memory as it is at the second.
    pub fn since(self, before: Self) -> Self {
        Self {
            cpu_s: self.cpu_s - before.cpu_s,
            rss_mb: self.rss_mb,
            switches: self.switches.saturating_sub(before.switches),
            written_mb: self.written_mb - before.written_mb,
        }
    }
}

/// The process of this machine that listens at a port, if it is one that may be looked at.
pub fn listener(port: u16) -> Option<u32> {
    let mut sockets = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, state, .., inode] = fields[..fields.len().min(10)] else { continue };
            let is_here = local.rsplit_once(':').is_some_and(|(_, hex)| u16::from_str_radix(hex, 16) == Ok(port));
            if is_here && state == LISTENS {
                sockets.insert(format!("socket:[{inode}]"));
            }
        }
    }
    let owns_one = |process: &u32| {
        let files = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|to| sockets.contains(&*to.to_string_lossy()))
    };
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).find(owns_one)
}

/// Counters of a server, of those that etcd and ringd both have.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    pub syncs: f64,
    pub commits: f64,
    pub leader_changes: f64,
}

impl Counters {
    /// `None` where no pages are served.
    pub fn of(address: SocketAddr) -> Option<Self> {
        let mut stream = TcpStream::connect_timeout(&address, METRICS_TIMEOUT).ok()?;
        stream.set_read_timeout(Some(METRICS_TIMEOUT)).ok()?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
        let mut page = Vec::new();
        stream.read_to_end(&mut page).ok()?;
        let page = String::from_utf8_lossy(&page);
        let value = |name: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            line.trim().parse::<f64>().ok()
        };
        Some(Self {
            syncs: value("etcd_disk_wal_fsync_duration_seconds_count")?,
            commits: value("etcd_disk_backend_commit_duration_seconds_count").unwrap_or(0.0),
            leader_changes: value("etcd_server_leader_changes_seen_total").unwrap_or(0.0),
        })
    }

    pub fn since(self, before: Self) -> Self {
        Self {
            syncs: self.syncs - before.syncs,
            commits: self.commits - before.commits,
            leader_changes: self.leader_changes - before.leader_changes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, process, thread};

    use super::*;

    #[test]
    fn the_owner_of_a_port_is_found_and_measured() {
        let listener_of_ours = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener_of_ours.local_addr().unwrap().port();
        assert_eq!(listener(port), Some(process::id()));
        let before = Usage::of(process::id()).unwrap();
        assert!(before.rss_mb > 0.0 && before.switches > 0);
        assert!(Usage::of(u32::MAX).is_none());
    }

    #[test]
    fn counters_are_read_from_a_page() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 512];
            assert!(stream.read(&mut head).unwrap() > 0);
            let page = "HTTP/1.1 200 OK\r\n\r\n# HELP x\netcd_disk_wal_fsync_duration_seconds_count 7\n\
                        etcd_server_leader_changes_seen_total 1\n";
            stream.write_all(page.as_bytes()).unwrap();
        });
        assert_eq!(Counters::of(address), Some(Counters { syncs: 7.0, commits: 0.0, leader_changes: 1.0 }));
        server.join().unwrap();
    }
}
