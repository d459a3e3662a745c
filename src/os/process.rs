//! The kernel's figures about this process, for `/metrics`.

use std::fs;

/// A reading of `/proc/self`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessReading {
    pub cpu_seconds: f64,
    pub open_fds: u64,
    pub max_fds: u64,
    /// Of the whole network namespace, as Go's process collector reports them.
    pub network_received_bytes: u64,
    pub network_sent_bytes: u64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    /// `u64::MAX` means no limit.
    pub virtual_bytes_max: u64,
    pub start_time_seconds: f64,
    /// Faults that had to wait for a disk: reads of cold pages of the mapped page file among them.
    pub major_faults: u64,
}

/// Reads `/proc/self`. A figure that cannot be read is 0.
#[must_use]
pub fn read() -> ProcessReading {
    // SAFETY: sysconf has no memory effect.
    let (ticks, page) = unsafe { (libc::sysconf(libc::_SC_CLK_TCK) as f64, libc::sysconf(libc::_SC_PAGESIZE) as u64) };
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The command name may hold spaces; the fields read here follow its closing parenthesis.
    let fields: Vec<&str> = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    ProcessReading {
        cpu_seconds: (field(14) + field(15)) / ticks,
        open_fds: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
        max_fds: limit(libc::RLIMIT_NOFILE),
        network_received_bytes: network_octets("InOctets"),
        network_sent_bytes: network_octets("OutOctets"),
        resident_bytes: field(24) as u64 * page,
        virtual_bytes: field(23) as u64,
        virtual_bytes_max: limit(libc::RLIMIT_AS),
        start_time_seconds: boot_time_seconds() + field(22) / ticks,
        major_faults: field(12) as u64,
    }
}

/// Lets this process open as many files as its hard limit allows, as Go's runtime does. The limit is one on connections too.
pub fn allow_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live rlimit; the call reads or writes it only.
    let changed = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
        }
    };
    if !changed {
        tracing::warn!(limit = limit.rlim_cur, "cannot raise the number of files that may be open");
    }
}

fn limit(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live rlimit.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    limit.rlim_cur
}

/// A counter of the `IpExt` lines: the first names the columns, the second has the numbers.
fn network_octets(column: &str) -> u64 {
    let netstat = fs::read_to_string("/proc/self/net/netstat").unwrap_or_default();
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (Some(names), Some(numbers)) = (lines.next(), lines.next()) else { return 0 };
    let found = names.split(' ').zip(numbers.split(' ')).find(|(name, _)| *name == column);
    found.and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

fn boot_time_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    stat.lines().find_map(|line| line.strip_prefix("btime ")).and_then(|text| text.trim().parse().ok()).unwrap_or(0.0)
}
