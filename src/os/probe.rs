//! Checks of the machine's capabilities, with advice for each that is missing. There is no fallback without io_uring.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
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
        "{call} is not permitted though kernel.io_uring_disabled allows it: a seccomp filter is in the way; allow io_uring_setup, \
         io_uring_enter and io_uring_register (containers: another seccomp profile than the default one; systemd: \
         SystemCallFilter=@system-service has them)"
    )]
    Seccomp { call: &'static str },
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
    match try_calls() {
        Ok(()) => memlock(),
        Err((call, error)) => Err(explain(call, error)),
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

/// The three calls of io_uring, which a filter may forbid one by one, on a ring of its own: the call that failed, and how.
fn try_calls() -> Result<(), (&'static str, io::Error)> {
    /// Fails with ENXIO on a ring without an eventfd, and changes nothing.
    const UNREGISTER_EVENTFD: libc::c_ulong = 5;
    // `struct io_uring_params` is 120 bytes.
    let mut params = [0u8; 120];
    // SAFETY: two entries and a zeroed parameter block are a valid call.
    let descriptor = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2, params.as_mut_ptr()) };
    if descriptor < 0 {
        return Err(("io_uring_setup", io::Error::last_os_error()));
    }
    let descriptor = i32::try_from(descriptor).unwrap_or(-1);
    // SAFETY: the descriptor was just returned and has no other owner.
    let ring = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let null = std::ptr::null::<libc::c_void>();
    // SAFETY: this operation takes no memory.
    let registered =
        unsafe { libc::syscall(libc::SYS_io_uring_register, ring.as_raw_fd(), UNREGISTER_EVENTFD, null, 0) };
    forbidden("io_uring_register", registered)?;
    // SAFETY: nothing is submitted or awaited, and there is no signal mask.
    let entered = unsafe { libc::syscall(libc::SYS_io_uring_enter, ring.as_raw_fd(), 0, 0, 0, null, 0_usize) };
    forbidden("io_uring_enter", entered)
}

/// A filter answers with one of these errors; another one comes from the kernel, which has carried the call out.
fn forbidden(call: &'static str, result: libc::c_long) -> Result<(), (&'static str, io::Error)> {
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) if result < 0 => Err((call, error)),
        _ => Ok(()),
    }
}

fn explain(call: &'static str, error: io::Error) -> Missing {
    // Kernels from 6.6 on have this setting if they have io_uring.
    let setting = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    match (error.raw_os_error(), setting.as_deref().map(str::trim)) {
        (Some(libc::EPERM | libc::EACCES), Some(setting)) if setting != "0" => {
            Missing::Disabled { setting: setting.to_owned() }
        }
        (Some(libc::EPERM | libc::EACCES), _) => Missing::Seccomp { call },
        // Some profiles of containers answer so for any call that they do not list.
        (Some(libc::ENOSYS), Some(_)) => Missing::Seccomp { call },
        (Some(libc::ENOSYS), None) if is_filtered() => Missing::Seccomp { call },
        (Some(libc::ENOSYS), None) => Missing::NoKernelSupport,
        (Some(libc::ENOMEM), _) => memlock().err().unwrap_or(Missing::Other(error)),
        _ => Missing::Other(error),
    }
}

/// Whether a seccomp filter is set for this thread.
fn is_filtered() -> bool {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"]))
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

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Forbids one call to this thread: it fails with this error from now on.
    fn forbid(call: libc::c_long, errno: i32) {
        // `struct seccomp_data` begins with the number of the call.
        let load_number = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
        let is_equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        let answer = libc::BPF_RET | libc::BPF_K;
        let step = |code: u32, jf: u8, k: u32| libc::sock_filter { code: u16::try_from(code).unwrap(), jt: 0, jf, k };
        let mut steps = [
            step(load_number, 0, 0),
            step(is_equal, 1, u32::try_from(call).unwrap()),
            step(answer, 0, libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap()),
            step(answer, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: 4, filter: steps.as_mut_ptr() };
        // SAFETY: the program lives during the call, which copies it. Both calls concern this thread alone.
        let set = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
        };
        assert!(set, "{}", io::Error::last_os_error());
    }

    #[test]
    fn filters_are_told_from_kernels_without_io_uring() {
        io_uring().expect("without a filter all is there");
        let calls = [
            ("io_uring_setup", libc::SYS_io_uring_setup),
            ("io_uring_register", libc::SYS_io_uring_register),
            ("io_uring_enter", libc::SYS_io_uring_enter),
        ];
        for (name, call) in calls {
            for errno in [libc::EPERM, libc::EACCES, libc::ENOSYS] {
                let under_filter = move || {
                    forbid(call, errno);
                    io_uring().expect_err("a call is forbidden").to_string()
                };
                let text = thread::spawn(under_filter).join().unwrap();
                assert!(text.starts_with(&format!("{name} is not permitted")), "{name}, {errno}: {text}");
            }
        }
    }

    #[test]
    fn filters_of_other_calls_do_no_harm() {
        let under_filter = || {
            forbid(libc::SYS_mount, libc::ENOSYS);
            assert!(is_filtered());
            io_uring()
        };
        thread::spawn(under_filter).join().unwrap().expect("all is there");
        assert!(matches!(
            explain("io_uring_enter", io::Error::from_raw_os_error(libc::EINVAL)),
            Missing::Other(error) if error.raw_os_error() == Some(libc::EINVAL)
        ));
    }
}
