//! CPU profiles: a timer interrupts whichever thread computes, and its stack is counted.

use std::{collections::BTreeMap, io, time::Duration};

use pprof::{ProfilerGuard, ProfilerGuardBuilder};

use super::{offload::offload, sleep};

/// Samples per second of computing.
pub const FREQUENCY_HZ: u32 = 100;

/// Where stacks are not walked: their frames cannot be, or may be locked.
const NOT_WALKED: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// There is one profile at a time.
    #[error("Could not enable CPU profiling: {0}")]
    Profiler(#[from] pprof::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no samples: nothing was computed meanwhile")]
    Idle,
}

/// Stacks and how often each was seen.
#[derive(Debug, Default)]
pub struct Profile {
    pub stacks: BTreeMap<Vec<Function>, u64>,
}

/// A function of a stack, the innermost first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Function {
    pub name: String,
    pub file: String,
    pub line: u32,
}

/// What all threads of this process compute during `time`.
///
/// # Errors
/// Another profile is being taken, or the kernel's.
pub async fn take(time: Duration) -> Result<Profile, ProfileError> {
    let guard = begin()?;
    sleep(time).await;
    offload("profile", move || stacks(&guard)).await?
}

/// The same as a picture, SVG.
///
/// # Errors
/// As [`take`].
pub async fn draw(time: Duration) -> Result<Vec<u8>, ProfileError> {
    let guard = begin()?;
    sleep(time).await;
    let picture = offload("profile", move || {
        let mut picture = Vec::new();
        guard.report().build()?.flamegraph(&mut picture)?;
        Ok::<_, pprof::Error>(picture)
    });
    let picture = picture.await??;
    if picture.is_empty() { Err(ProfileError::Idle) } else { Ok(picture) }
}

fn begin() -> Result<ProfilerGuard<'static>, pprof::Error> {
    ProfilerGuardBuilder::default().frequency(FREQUENCY_HZ as i32).blocklist(&NOT_WALKED).build()
}

fn stacks(guard: &ProfilerGuard<'static>) -> Result<Profile, ProfileError> {
    let mut profile = Profile::default();
    for (frames, count) in guard.report().build()?.data {
        let functions = frames.frames.iter().flatten().map(|symbol| Function {
            name: symbol.name(),
            file: symbol.filename().into_owned(),
            line: symbol.lineno(),
        });
        *profile.stacks.entry(functions.collect()).or_default() += u64::try_from(count).unwrap_or(0);
    }
    Ok(profile)
}
