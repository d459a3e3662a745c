//! File systems that are full, in memory or read-only. The tests mount them, which only root may do.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use ringd::proto::{
    etcdserverpb::{PutRequest, PutResponse, RangeRequest, RangeResponse, StatusRequest, StatusResponse},
    grpc::health::v1::health_check_response::ServingStatus,
};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tempfile::TempDir;

use crate::{
    damage::refused,
    harness::{
        self,
        grpc::{CallError, Connection},
        server::{self, Program, Server},
    },
    health,
};

/// Room for the log's first two segments (4 and 64 MiB) and for a small page file; a ballast file takes the rest.
const DISK: &str = "512M";
const BALLAST: &str = "384M";
const VALUE_BYTES: usize = 1 << 20;
/// More than the disk takes.
const PUTS_MAX: usize = 300;
/// Each attempt waits for the server's request time-out.
pub const ATTEMPTS_AFTER_ROOM: usize = 5;
/// Segments of 4, 64 and 64 MiB.
const LOG_DISK: &str = "160M";
const PUTS_ON_LOG_DISK: usize = 250;
const KEYS_ON_LOG_DISK: usize = 8;
/// A disk with less room than this is full.
const UNFILLED_BYTES_MAX: u64 = 32 << 10;

/// Writes fail once the disk is full, reads continue, writes continue when there is room, and no acknowledged write is lost.
pub fn full_disk() {
    let disk = Mount::ext4(DISK);
    let ballast = disk.path().join("ballast");
    run("fallocate", &["-l", BALLAST, text(&ballast)]).expect("the ballast fits");
    let data = disk.path().join("data");
    let server = Server::start(Program::Ringd, &data);
    let mut written = Vec::new();
    harness::run(async {
        let connection = server.connect().await;
        let refusal = loop {
            match put(&connection, written.len()).await {
                Ok(()) => written.push(written.len()),
                Err(error) => break error,
            }
            assert!(written.len() < PUTS_MAX, "the disk does not get full");
        };
        eprintln!("disks::full_disk: {} puts of {VALUE_BYTES} bytes, then: {refusal}", written.len());
        assert!(matches!(refusal, CallError::Refused(_)), "no answer but {refusal}");
        for &number in &written {
            check(&connection, number, true).await;
        }
        fs::remove_file(&ballast).unwrap();
        let next = written.len() + 1;
        let mut attempts = 0;
        while let Err(error) = put(&connection, next).await {
            attempts += 1;
            assert!(attempts < ATTEMPTS_AFTER_ROOM, "there is room, and still: {error}");
        }
        written.push(next);
    });
    let server = server.crash();
    harness::run(async {
        let connection = server.connect().await;
        for &number in &written {
            check(&connection, number, false).await;
        }
    });
    server.stop();
}

/// While writes wait for room, probes of readiness, Status and gRPC health report it; liveness does not, because the member lives. With
/// room the reports end by themselves.
pub fn full_disk_is_told() {
    let disk = Mount::ext4(DISK);
    let server = Server::start(Program::Ringd, &disk.path().join("data"));
    harness::run(async {
        let connection = server.connect().await;
        let mut watch = health::ask(&connection, "").await;
        assert_eq!(health::status(&mut watch).await, ServingStatus::Serving);
        for number in 0.. {
            disk.fill();
            if put(&connection, number).await.is_err() {
                break;
            }
            assert!(number < PUTS_MAX, "the disk does not get full");
        }
        // The status may change several times until the disk is quite full.
        let mut told = ServingStatus::Serving;
        while told != ServingStatus::NotServing || errors(&connection).await.is_empty() {
            told = health::status(&mut watch).await;
        }
        assert_eq!(health::check(&connection).await, ServingStatus::NotServing);
        let [error] = &errors(&connection).await[..] else { panic!("not one error") };
        assert!(error.contains("no space left on the disk"), "{error}");
        assert_eq!(server.page("/health"), "{\"health\":\"false\",\"reason\":\"DISK FULL\"}\n");
        let report = server.page("/readyz");
        assert!(report.contains("[-]disk_space failed: no space left on the disk"), "{report}");
        assert!(server.page("/readyz/disk_space").contains("[-]disk_space failed"));
        for page in ["/livez", "/readyz?exclude=disk_space", "/readyz/serializable_read"] {
            assert_eq!(server.page(page), "ok\n", "{page}");
        }
        for page in ["/health?serializable=true", "/health?exclude=NOSPACE"] {
            assert_eq!(server.page(page), "{\"health\":\"true\",\"reason\":\"\"}", "{page}");
        }
        disk.make_room();
        while told != ServingStatus::Serving || !errors(&connection).await.is_empty() {
            told = health::status(&mut watch).await;
        }
        assert_eq!(server.page("/readyz"), "ok\n");
        assert_eq!(server.page("/health"), "{\"health\":\"true\",\"reason\":\"\"}");
    });
    server.stop();
}

/// A log on a disk of its own without room for a new segment while the last ones are still needed: it reuses those when the database
/// has their entries.
pub fn full_log_disk() {
    let (disk, data) = (Mount::ext4(LOG_DISK), server::directory());
    let log = disk.path().join("log");
    let server = Server::start_with(Program::Ringd, data.path(), &["--wal-dir", text(&log)]);
    harness::run(async {
        let connection = server.connect().await;
        for number in 0..PUTS_ON_LOG_DISK {
            put(&connection, number % KEYS_ON_LOG_DISK).await.unwrap_or_else(|error| panic!("put {number}: {error}"));
        }
        server.must_log("the disk is full: writes wait until there is room").await;
    });
    let server = server.crash();
    harness::run(async {
        let connection = server.connect().await;
        for number in 0..KEYS_ON_LOG_DISK {
            check(&connection, number, false).await;
        }
    });
    server.stop();
}

/// A file system without O_DIRECT: refused, naming the flag that helps; with the flag it serves.
pub fn in_memory() {
    let memory = Mount::tmpfs("rw");
    let data = memory.path().join("data");
    let ended = Server::try_start(Program::Ringd, &data, &[]).err().expect("it serves from memory, unasked");
    refused(&ended, &[text(&data), "O_DIRECT", "--wal-buffered"]);

    let server = Server::start_with(Program::Ringd, &data, &["--wal-buffered"]);
    harness::run(async { put(&server.connect().await, 1).await.expect("it serves") });
    server.kill();
    let server = Server::start_with(Program::Ringd, &data, &["--wal-buffered"]);
    harness::run(async { check(&server.connect().await, 1, false).await });
    server.stop();
}

/// No right to write: refused, naming the directory. Read-only mounts keep root out too.
pub fn read_only() {
    let sealed = Mount::tmpfs("ro");
    for (data, flags) in [(sealed.path().to_owned(), vec![]), (sealed.path().join("data"), vec!["--wal-buffered"])] {
        let ended = Server::try_start(Program::Ringd, &data, &flags).err().expect("it serves without writing");
        refused(&ended, &[text(sealed.path())]);
    }
}

/// Whether this process can mount and make the file systems of the tests. Found by trying, because a container may have the right to
/// mount, and no loop devices.
pub fn may_mount() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| Mount::try_ext4("8M").and_then(|_| Mount::try_tmpfs("rw")).is_ok())
}

async fn errors(connection: &Connection) -> Vec<String> {
    let path = "/etcdserverpb.Maintenance/Status";
    connection.unary::<_, StatusResponse>(path, &StatusRequest {}).await.expect("reads go on").errors
}

async fn put(connection: &Connection, number: usize) -> Result<(), CallError> {
    let value = vec![u8::try_from(number % 251).unwrap(); VALUE_BYTES].into();
    let request = PutRequest { key: key(number).into(), value, ..PutRequest::default() };
    connection.unary::<_, PutResponse>("/etcdserverpb.KV/Put", &request).await.map(drop)
}

async fn check(connection: &Connection, number: usize, serializable: bool) {
    let request = RangeRequest { key: key(number).into(), serializable, ..RangeRequest::default() };
    let read: RangeResponse = connection.unary("/etcdserverpb.KV/Range", &request).await.expect("reads go on");
    let [kv] = &read.kvs[..] else { panic!("{} is lost", key(number)) };
    let byte = u8::try_from(number % 251).unwrap();
    assert!(kv.value.len() == VALUE_BYTES && kv.value.iter().all(|found| *found == byte), "{} differs", key(number));
}

fn key(number: usize) -> String {
    format!("k{number}")
}

/// A mounted file system, unmounted when dropped, after the servers on it, which are declared later.
pub struct Mount {
    point: PathBuf,
    // Last, so that it is removed after the mount is gone.
    _directory: TempDir,
}

impl Mount {
    /// A small disk, empty.
    pub fn ext4(size: &str) -> Mount {
        Mount::try_ext4(size).unwrap()
    }

    fn tmpfs(mode: &str) -> Mount {
        Mount::try_tmpfs(mode).unwrap()
    }

    fn try_ext4(size: &str) -> Result<Mount, String> {
        let directory = server::directory();
        let image = directory.path().join("image");
        run("fallocate", &["-l", size, text(&image)])?;
        run("mkfs.ext4", &["-q", "-m", "0", text(&image)])?;
        Mount::new(directory, &["-o", "loop", text(&image)])
    }

    fn try_tmpfs(mode: &str) -> Result<Mount, String> {
        Mount::new(server::directory(), &["-t", "tmpfs", "-o", mode, "none"])
    }

    fn new(directory: TempDir, arguments: &[&str]) -> Result<Mount, String> {
        let point = directory.path().join("mount");
        fs::create_dir(&point).unwrap();
        run("mount", &[arguments, &[text(&point)]].concat())?;
        Ok(Mount { point, _directory: directory })
    }

    pub fn path(&self) -> &Path {
        &self.point
    }

    /// Fills the disk with a ballast file. Space that is freed later stays free.
    pub fn fill(&self) {
        let ballast = fs::OpenOptions::new().append(true).create(true).open(self.ballast()).unwrap();
        let free = || {
            let told = statvfs(&self.point).unwrap();
            told.f_bavail * told.f_frsize
        };
        let mut piece = 64 << 20;
        while free() >= UNFILLED_BYTES_MAX && piece >= UNFILLED_BYTES_MAX {
            let length = ballast.metadata().unwrap().len();
            if fallocate(&ballast, FallocateFlags::empty(), length, piece).is_err() {
                piece /= 2;
            }
        }
    }

    /// Fills it up to so many bytes.
    pub fn fill_but(&self, room: u64) {
        self.fill();
        let ballast = fs::OpenOptions::new().write(true).open(self.ballast()).unwrap();
        ballast.set_len(ballast.metadata().unwrap().len().saturating_sub(room)).unwrap();
    }

    /// Removes the ballast file.
    pub fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    /// Nothing is written to it until what is returned is dropped: writers wait.
    pub fn freeze(&self) -> Frozen {
        run("fsfreeze", &["--freeze", text(&self.point)]).unwrap();
        Frozen(self.point.clone())
    }

    fn ballast(&self) -> PathBuf {
        self.point.join("ballast")
    }
}

/// A disk that stands still.
pub struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = run("fsfreeze", &["--unfreeze", text(&self.0)]) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a server that was just killed may still hold a file.
        if let Err(error) = run("umount", &["--lazy", text(&self.point)]) {
            eprintln!("{error}");
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let failed = |what: &str| format!("{program} {}: {what}", arguments.join(" "));
    let output = Command::new(program).args(arguments).output().map_err(|error| failed(&error.to_string()))?;
    if output.status.success() { Ok(()) } else { Err(failed(&String::from_utf8_lossy(&output.stderr))) }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
