//! Checks of the machine's capabilities, with advice for each that is missing. There is no fallback without io_uring.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// A missing capability, its cause and its remedy.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    #[error("this kernel has no io_uring (Linux 5.8 or newer is needed)")]
    NoKernelSupport,
    #[error(
        "io_uring is switched off: kernel.io_uring_disabled is {setting}; allow it with `sysctl kernel.io_uring_disabled=0`"
    )]
    Disabled { setting: String },
    #[error(
        "io_uring_setup is not permitted though kernel.io_uring_disabled allows it: a seccomp filter is in the way (containers: \
         use a profile that allows io_uring_setup, io_uring_enter and io_uring_register)"
    )]
    Seccomp,
    #[error(
        "the memlock limit is {limit_bytes} bytes, at least {needed_bytes} are needed for the rings: raise it with `ulimit -l` \
         or LimitMEMLOCK= in the systemd unit"
    )]
    Memlock { limit_bytes: u64, needed_bytes: u64 },
    #[error(
        "{path} is on a file system without O_DIRECT ({source}; tmpfs and some overlays have none): move the data directory to a \
         disk, or start with --wal-buffered to write the log through the page cache with fdatasync (slower, as durable)"
    )]
    NoDirectIo { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Other(io::Error),
}

/// Bytes of locked memory that one executor's rings may need.
pub const MEMLOCK_BYTES_PER_EXECUTOR: u64 = 512 * 1024;

const TMPFS_MAGIC: i64 = 0x0102_1994;
const RAMFS_MAGIC: i64 = 0x8584_58f6;

/// Checks that an executor can be made here.
///
/// # Errors
/// What is missing.
pub fn io_uring() -> Result<(), Missing> {
    match ring_setup() {
        Ok(()) => memlock(),
        Err(error) => Err(explain(error)),
    }
}

/// Checks that files under `directory` can be written directly, by writing one block.
///
/// # Errors
/// `NoDirectIo`, or another error of the kernel.
pub fn direct_io(directory: &Path) -> Result<(), Missing> {
    let lacks = |source| Missing::NoDirectIo { path: directory.to_owned(), source };
    if in_memory(directory).map_err(Missing::Other)? {
        return Err(lacks(io::Error::other("an in-memory file system")));
    }
    let path = directory.join(".direct-io-probe");
    let opened =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_DIRECT).open(&path);
    let outcome = opened.and_then(|mut file| {
        let block = AlignedBlock([0; 4096]);
        file.write_all(&block.0)
    });
    let _absent = std::fs::remove_file(&path);
    match outcome {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(lacks(error)),
        // A full disk may well support O_DIRECT. A member can restart on it, because its log has its space already.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
        Err(error) => Err(Missing::Other(io::Error::new(error.kind(), format!("{}: {error}", path.display())))),
    }
}

#[repr(align(4096))]
struct AlignedBlock([u8; 4096]);

fn in_memory(directory: &Path) -> io::Result<bool> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: statfs is plain data and valid when zeroed.
    let mut info: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is NUL-terminated and `info` is live.
    if unsafe { libc::statfs(path.as_ptr(), &raw mut info) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok([TMPFS_MAGIC, RAMFS_MAGIC].contains(&info.f_type))
}

fn ring_setup() -> io::Result<()> {
    // `struct io_uring_params` is 120 bytes.
    let mut params = [0u8; 120];
    // SAFETY: two entries and a zeroed parameter block are a valid call; the descriptor is closed right away.
    let descriptor = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2, params.as_mut_ptr()) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just returned and has no other owner.
    unsafe { libc::close(i32::try_from(descriptor).unwrap_or(-1)) };
    Ok(())
}

fn explain(error: io::Error) -> Missing {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => Missing::NoKernelSupport,
        Some(libc::ENOMEM) => memlock().err().unwrap_or(Missing::Other(error)),
        Some(libc::EPERM | libc::EACCES) => match std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled") {
            Ok(setting) if setting.trim() != "0" => Missing::Disabled { setting: setting.trim().to_owned() },
            _ => Missing::Seccomp,
        },
        _ => Missing::Other(error),
    }
}

fn memlock() -> Result<(), Missing> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } != 0 {
        return Err(Missing::Other(io::Error::last_os_error()));
    }
    if limit.rlim_cur < MEMLOCK_BYTES_PER_EXECUTOR {
        return Err(Missing::Memlock { limit_bytes: limit.rlim_cur, needed_bytes: MEMLOCK_BYTES_PER_EXECUTOR });
    }
    Ok(())
}
