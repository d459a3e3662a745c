//! Where the reference programs are: built by `tests/reference/` (etcd 3.7.3), or Debian's packages (3.4), or nowhere.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// Which etcd the comparison runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Built by `make reference`: everything is compared.
    V3_7,
    /// Debian's: what [`LACKING_IN_3_4`] names is left out.
    V3_4,
}

/// What etcd 3.4 lacks or answers differently, so that a comparison with it leaves it out.
pub const LACKING_IN_3_4: [&str; 6] = [
    "RangeStream",
    "refusal of unknown sort options (in a transaction they end it)",
    "keys_only without the lease",
    "the same choice among several errors",
    "the same HTTP/1 answers and texts of the gRPC library",
    "etcdutl hashkv",
];

/// The reference server and its release.
pub fn etcd() -> Option<(PathBuf, Release)> {
    if let Some(path) = built("etcd") {
        return Some((path, Release::V3_7));
    }
    let path = installed("etcd")?;
    Some((path.clone(), release(&path)?))
}

/// One of `etcdctl`, `etcdutl`, `bbolt`.
pub fn tool(name: &str) -> PathBuf {
    built(name).or_else(|| installed(name)).unwrap_or_else(|| panic!("etcd is here, {name} is not"))
}

fn built(name: &str) -> Option<PathBuf> {
    let path = target().join("reference").join(name);
    path.is_file().then_some(path)
}

fn installed(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// Cargo's target directory: the parent of the directory that it gives to integration tests.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp has a parent")
}

fn release(etcd: &Path) -> Option<Release> {
    let output = Command::new(etcd).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.lines().find_map(|line| line.strip_prefix("etcd Version: "))?;
    match version.split('.').take(2).collect::<Vec<_>>()[..] {
        ["3", "7"] => Some(Release::V3_7),
        ["3", "4"] => Some(Release::V3_4),
        _ => None,
    }
}
