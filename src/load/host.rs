//! What of this machine spoils latencies, and what to do about it.
//!
//! | finding | read from | spoils |
//! |---|---|---|
//! | governor, idle states | `/sys/devices/system/cpu` | each request that finds a slow or sleeping CPU |
//! | SMT | the same | a CPU shares its core with whatever runs on the other thread |
//! | huge pages, swap | `/sys/kernel/mm`, `/proc/swaps` | stalls while memory is moved |
//! | io_uring, limits | `/proc/sys/kernel`, `/proc/self/limits` | ringd does not start |
//! | file system, disk, its cache, its scheduler | `/proc/mounts`, `/sys/dev/block` | each durable write |
//! | clock | `/sys/devices/system/clocksource` | each reading of the time |
//! | load, steal, jitter | `/proc/loadavg`, `/proc/stat`, measured | everything, at random |
//! | durable writes | measured | puts |

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

const CPUS: &str = "/sys/devices/system/cpu";
/// Idle states that take longer to leave than this are seen in latencies.
const IDLE_EXIT_US_MAX: u64 = 20;
/// So much of all CPUs may be busy with other things.
const OTHERS_BUSY_MAX: f64 = 0.1;
const FILES_MIN: u64 = 65_536;
/// The loop of the jitter measurement takes far less; what takes longer was an interruption.
const GAP: Duration = Duration::from_micros(50);
const JITTER: Duration = Duration::from_secs(1);
const SYNCS: u64 = 200;
const BLOCK_BYTES: usize = 4096;

/// One line about this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub what: &'static str,
    pub found: String,
    /// What to do, if it spoils latencies.
    pub mend: Option<String>,
}

impl Finding {
    fn new(what: &'static str, found: impl Into<String>, spoils: bool, mend: &str) -> Self {
        let found = Some(found.into()).filter(|found| !found.is_empty()).unwrap_or_else(|| "not visible".to_owned());
        Self { what, found, mend: spoils.then(|| mend.to_owned()) }
    }
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// What can be read without measuring. `directory` is where data would be.
pub fn facts(directory: &Path) -> Vec<Finding> {
    let mut all =
        vec![kernel(), governor(), idle_states(), smt(), huge_pages(), swap(), io_uring(), open_files(), clock()];
    all.extend(disk(directory));
    all.push(load());
    all
}

/// What takes a second or two to measure.
///
/// # Errors
/// The directory cannot be written to.
pub fn measurements(directory: &Path) -> io::Result<Vec<Finding>> {
    Ok(vec![jitter(), durable_writes(directory)?])
}

/// The same for programs.
pub fn json(findings: &[Finding]) -> Value {
    findings.iter().map(|finding| json!({"what": finding.what, "found": finding.found, "mend": finding.mend})).collect()
}

/// A table for people.
pub fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    for Finding { what, found, mend } in findings {
        out += &format!("{} {what:<16} {found}\n", if mend.is_some() { "!" } else { " " });
        if let Some(mend) = mend {
            out += &format!("{:19}{mend}\n", "");
        }
    }
    out
}

fn kernel() -> Finding {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = read("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let found = format!("Linux {release}; {cpus} CPUs, {}", model.trim_start_matches(['\t', ' ', ':']));
    Finding::new("machine", found, cpus < 2, "load and server share one CPU: run the load on another machine")
}

fn governor() -> Finding {
    let mut all: Vec<String> =
        cpu_folders().iter().filter_map(|cpu| read(cpu.join("cpufreq/scaling_governor"))).collect();
    all.sort_unstable();
    all.dedup();
    if all.is_empty() {
        return Finding::new("governor", "not visible: a virtual machine, or the firmware decides", false, "");
    }
    let spoils = all.iter().any(|governor| governor != "performance");
    Finding::new("governor", all.join(", "), spoils, "cpupower frequency-set -g performance")
}

fn cpu_folders() -> Vec<PathBuf> {
    let entries = fs::read_dir(CPUS).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_cpu = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.strip_prefix("cpu").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    entries.filter(is_cpu).collect()
}

fn idle_states() -> Finding {
    let states = fs::read_dir(format!("{CPUS}/cpu0/cpuidle")).into_iter().flatten().flatten();
    let on = states.map(|state| state.path()).filter(|state| read(state.join("disable")).as_deref() == Some("0"));
    let exits =
        on.filter_map(|state| Some((read(state.join("latency"))?.parse::<u64>().ok()?, read(state.join("name"))?)));
    match exits.max() {
        None => Finding::new("idle states", "not visible: a virtual machine", false, ""),
        Some((us, name)) => {
            let found = format!("the deepest is {name}, left in {us} us");
            Finding::new(
                "idle states",
                found,
                us > IDLE_EXIT_US_MAX,
                "cpupower idle-set -D 20, or boot with processor.max_cstate=1",
            )
        }
    }
}

fn smt() -> Finding {
    let is_on = read(format!("{CPUS}/smt/active")).as_deref() == Some("1");
    let found = if is_on { "on" } else { "off" };
    Finding::new(
        "SMT",
        found,
        is_on,
        "pin ringd and the load to different cores, or echo off > /sys/devices/system/cpu/smt/control",
    )
}

fn huge_pages() -> Finding {
    let modes = read("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let chosen = modes.split(['[', ']']).nth(1).unwrap_or("not there").to_owned();
    let spoils = chosen == "always";
    Finding::new("huge pages", chosen, spoils, "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled")
}

fn swap() -> Finding {
    let count = read("/proc/swaps").unwrap_or_default().lines().skip(1).count();
    let found = if count == 0 { "none".to_owned() } else { format!("{count} areas") };
    Finding::new("swap", found, count > 0, "swapoff -a, or vm.swappiness=0")
}

fn io_uring() -> Finding {
    let value = read("/proc/sys/kernel/io_uring_disabled").unwrap_or_else(|| "0".to_owned());
    let found = if value == "0" { "allowed".to_owned() } else { format!("kernel.io_uring_disabled={value}") };
    Finding::new("io_uring", found, value != "0", "sysctl kernel.io_uring_disabled=0: ringd does not start without")
}

fn open_files() -> Finding {
    let limits = read("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or_default();
    let soft: u64 = line.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
    Finding::new(
        "open files",
        soft.to_string(),
        soft < FILES_MIN,
        "ulimit -n 65536, where many connections are measured",
    )
}

fn clock() -> Finding {
    let source = read("/sys/devices/system/clocksource/clocksource0/current_clocksource").unwrap_or_default();
    let is_slow = ["hpet", "acpi_pm", "jiffies"].contains(&&*source);
    Finding::new("clock", source, is_slow, "each reading is a device access: boot with tsc=reliable where the TSC is")
}

/// The file system and the disk under a directory.
fn disk(directory: &Path) -> Vec<Finding> {
    let path = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let mounts = read("/proc/mounts").unwrap_or_default();
    let over = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (_, at, kind, options) = (words.next()?, words.next()?, words.next()?, words.next()?);
        path.starts_with(at).then(|| (at.len(), kind.to_owned(), options.to_owned()))
    });
    let (_, kind, options) = over.max().unwrap_or_default();
    let is_known = ["ext4", "xfs"].contains(&&*kind);
    let mut all =
        vec![Finding::new("file system", format!("{kind}, {options}"), !is_known, "ringd is measured on ext4 and xfs")];
    let Some(device) = fs::metadata(&path).ok().map(|metadata| metadata.dev()) else { return all };
    // glibc's encoding of device numbers.
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    let folder = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    // A partition has the queue of its disk.
    let queue = [folder.join("queue"), folder.join("../queue")].into_iter().find(|queue| queue.is_dir());
    if let Some(queue) = queue {
        let of = |name: &str| read(queue.join(name)).unwrap_or_default();
        let spins = of("rotational") == "1";
        all.push(Finding::new(
            "disk",
            if spins { "rotating, says the kernel" } else { "not rotating" },
            spins,
            "use an SSD",
        ));
        let cache = of("write_cache");
        let is_volatile = cache == "write back";
        let mend = "every sync waits for a flush: a disk with power-loss protection says `write through`";
        all.push(Finding::new("write cache", cache, is_volatile, mend));
        let scheduler = of("scheduler");
        let chosen = scheduler.split(['[', ']']).nth(1).unwrap_or(&scheduler).to_owned();
        let spoils = !spins && ["bfq", "cfq"].contains(&&*chosen);
        all.push(Finding::new("I/O scheduler", chosen, spoils, "echo none > .../queue/scheduler"));
    }
    all
}

fn load() -> Finding {
    let found = read("/proc/loadavg").unwrap_or_default();
    let now: f64 = found.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let cpus = thread::available_parallelism().map_or(1, usize::from) as f64;
    let spoils = now > OTHERS_BUSY_MAX * cpus;
    Finding::new(
        "load",
        found,
        spoils,
        "something else runs: measure again when it is done, or pair every figure with its rival's",
    )
}

/// Time that the hypervisor gave to others, in all CPUs together.
fn steal_ticks() -> u64 {
    let stat = read("/proc/stat").unwrap_or_default();
    stat.lines().next().and_then(|line| line.split_whitespace().nth(8)?.parse().ok()).unwrap_or(0)
}

fn jitter() -> Finding {
    let (begun, steal) = (Instant::now(), steal_ticks());
    let (mut last, mut gaps, mut lost, mut longest) = (begun, 0, Duration::ZERO, Duration::ZERO);
    while last - begun < JITTER {
        let now = Instant::now();
        let gap = now - last;
        if gap > GAP {
            gaps += 1;
            lost += gap;
            longest = longest.max(gap);
        }
        last = now;
    }
    let steal = steal_ticks() - steal;
    let found = format!(
        "{gaps} interruptions of more than {} us in a second, {:.1} ms together, the longest {:.1} ms; steal {steal} ticks",
        GAP.as_micros(),
        lost.as_secs_f64() * 1e3,
        longest.as_secs_f64() * 1e3
    );
    let spoils = longest > Duration::from_millis(1) || steal > 0;
    Finding::new(
        "jitter",
        found,
        spoils,
        "others take the CPU: pin (taskset, isolcpus), stop them, or ask the host's owner",
    )
}

/// Writes of a block, each durable before the next, as a log makes them.
fn durable_writes(directory: &Path) -> io::Result<Finding> {
    let path = directory.join(format!(".ringbench-{}", std::process::id()));
    // O_DSYNC of Linux on every machine that ringd runs on.
    let file = OpenOptions::new().write(true).create_new(true).custom_flags(0o10_000).open(&path)?;
    let measured = sync_times(&file);
    drop(file);
    fs::remove_file(&path)?;
    let times = measured?;
    let us = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    let found = format!("{SYNCS} of 4 KiB: p50 {:.0} us, p99 {:.0} us, longest {:.0} us", us(0.5), us(0.99), us(1.0));
    Ok(Finding::new(
        "durable writes",
        found,
        us(0.99) > 10_000.0,
        "no put is faster than this: see `write cache`, or use another disk",
    ))
}

fn sync_times(mut file: &fs::File) -> io::Result<Histogram<u64>> {
    let mut times = Histogram::new(3).map_err(io::Error::other)?;
    let block = [b'r'; BLOCK_BYTES];
    for _ in 0..SYNCS {
        file.write_all(&block)?;
    }
    for number in 0..SYNCS {
        let begun = Instant::now();
        file.write_all_at(&block, number * BLOCK_BYTES as u64)?;
        times += u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_something_to_say() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let mut all = facts(directory.path());
        all.extend(measurements(directory.path()).unwrap());
        let names: Vec<_> = all.iter().map(|finding| finding.what).collect();
        for name in ["machine", "governor", "swap", "file system", "load", "jitter", "durable writes"] {
            assert!(names.contains(&name), "{names:?}");
        }
        assert!(all.iter().all(|finding| !finding.found.is_empty() && finding.mend.as_deref() != Some("")), "{all:?}");
        assert_eq!(text(&all).lines().count(), all.len() + all.iter().filter(|finding| finding.mend.is_some()).count());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
        assert!(measurements(Path::new("/nowhere")).is_err());
    }
}
