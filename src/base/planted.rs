//! Deliberate bugs, for the proof that the simulator finds such bugs: a test plants one of them on its thread.
//!
//! The code that would be wrong asks [`has`]. Outside of this crate's tests the answer is a constant, so the question costs nothing.

/// A deliberate bug, named after what the member does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// An append counts as durable as soon as any later batch is written.
    AcknowledgeBeforeDurable,
    /// A vote or an acknowledgement leaves before the append that it claims is durable.
    SendBeforeDurable,
    /// A read index is answered without a quorum.
    SkipReadQuorum,
    /// A read is answered from a view older than its index.
    ReadOlderView,
    /// The page file says that its last entry was not applied, so a restart applies it again.
    ApplyTwice,
    /// A page is used again while a reader needs it.
    ReusePage,
    /// A configuration change is not stored.
    LoseConfChange,
    /// A watcher that has caught up gets events again.
    WatchTwice,
    /// A watcher that lags skips the revision at which it fell behind.
    WatchSkip,
    /// A watcher whose start is compacted gets what is left.
    WatchCompacted,
    /// A member that does not lead any more still expires leases, by its own clock.
    ExpireAsFollower,
    /// A revoked lease leaves its keys behind.
    KeepLeaseKey,
    /// The last entry of the last batch is dropped when the log is replayed.
    DropLastRecord,
    /// A restarted member does not know for whom it has voted.
    VoteTwice,
    /// Alarms are lost with a restart.
    ForgetAlarm,
    /// The log is released up to the applied entry instead of the one that the page file has.
    ReleaseEarly,
    /// The leader's lease for reads survives a transfer of leadership.
    KeepReadLease,
    /// A state is sent under the index of the applied entry instead of its own.
    MislabelSnapshot,
    /// A compaction also deletes the newest version of a key below its revision.
    CompactTooMuch,
    /// A new leader answers reads before an entry of its own term is committed.
    ReadBeforeTermCommit,
    /// A state that a member needs is not sent when the page file is busy.
    ForgetOwedState,
    /// A learner that moves counts as a voter.
    LoseLearner,
    /// A watcher hears that it has had everything while changes are on their way to it.
    ProgressEarly,
    /// The file of a received state is removed as soon as a newer state is accepted.
    DiscardEarly,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug on this thread, in place of the one before.
#[cfg(test)]
pub fn plant(bug: Option<Bug>) {
    PLANTED.with(|planted| planted.set(bug));
}

/// Whether this bug is planted.
#[cfg(test)]
#[must_use]
pub fn has(bug: Bug) -> bool {
    PLANTED.with(|planted| planted.get() == Some(bug))
}

/// Whether this bug is planted: never, outside of tests.
#[cfg(not(test))]
#[inline(always)]
#[must_use]
pub const fn has(_: Bug) -> bool {
    false
}
