//! Whole states on their way between members.
//!
//! Sending: consensus asks for a state when a follower needs entries that are not in memory any more. The state is the image of a
//! commit of the page file, which is read while the member serves; the message names the last entry of the image. The entries
//! after it stay in memory until the transfer has failed, or the follower has them but for a few, or takes none for half a minute.
//!
//! Receiving:
//!
//! | state | moves on by | next |
//! |---|---|---|
//! | none | `SnapshotReceived`, and consensus takes it | marking |
//! | marking | the marker in the log is durable, and no commit of the old file is in flight | installing |
//! | installing | `SnapshotInstalled` | restoring |
//! | restoring | `Turn`: a slice of the index | restoring, or the new state is published: none, or marking of a newer one |
//! | any but none | consensus takes a newer one | marking: the newer one; later: the newer one follows |
//!
//! Meanwhile nothing is applied and readers keep the old view. After a crash the member finds at its start either no marker, and
//! continues with the old state, or the marker and the received file beside an older page file, and installs it then. So the file of a
//! state that is superseded stays until the marker of the newer one is durable.

use super::{
    Answer, Effect, Effects, Failure, Note, Replica,
    opening::Opening,
    progress::{Behind, CommitState, FlushPurpose, Install},
};
use crate::{
    base::{
        planted::{self, Bug},
        refusal::Refusal,
    },
    consensus::Input as RaftInput,
    pagefile::PageFile,
    proto::raftpb::{self, ConfState},
};

impl Replica {
    // Sending.

    pub(super) fn want_snapshot(&mut self, message: raftpb::Message) {
        if planted::has(Bug::ForgetOwedState) && !matches!(self.commits.state, CommitState::Idle) {
            return;
        }
        let to = message.to();
        self.snapshots.wanted.retain(|other| other.to() != to);
        self.snapshots.wanted.push(message);
        self.flush(FlushPurpose::Image);
    }

    /// Sends the states that members wait for, from the last commit.
    pub(super) fn send_snapshots(&mut self, effects: &mut Effects) {
        for mut message in std::mem::take(&mut self.snapshots.wanted) {
            let mark = &self.commits.committed;
            let snapshot = message.snapshot.get_or_insert_default();
            let metadata = snapshot.metadata.get_or_insert_default();
            metadata.index = Some(match planted::has(Bug::MislabelSnapshot) {
                false => mark.index,
                true => self.applier.index(),
            });
            metadata.term = Some(mark.term);
            metadata.conf_state = Some(ConfState {
                voters: mark.conf_state.voters.clone(),
                learners: mark.conf_state.learners.clone(),
                voters_outgoing: mark.conf_state.voters_outgoing.clone(),
                learners_next: mark.conf_state.learners_next.clone(),
                auto_leave: Some(mark.conf_state.auto_leave),
            });
            let image = self.applier.backend().view().pages().clone();
            let (to, index, bytes) = (message.to(), mark.index, image.size_bytes());
            self.snapshots.behind.remove(&to);
            self.snapshots.sent.insert(to, index);
            effects.push(Effect::Note(Note::SnapshotSending { to, index, bytes }));
            let caught_up = self.caught_up(index, to);
            effects.push(Effect::SendSnapshot { message, image, caught_up });
        }
    }

    /// Members that have everything up to an entry, but for one.
    fn caught_up(&self, index: u64, but: u64) -> Vec<u64> {
        let local = self.settings.identity.member_id;
        let followers = self.consensus.followers().into_iter();
        let others = followers.filter(|follower| follower.id != but && follower.id != local && follower.is_active);
        others
            .filter(|follower| !follower.needs_snapshot && follower.matched >= index)
            .map(|follower| follower.id)
            .collect()
    }

    pub(super) fn on_snapshot_sent(&mut self, to: u64, arrived: bool, effects: &mut Effects) {
        if let Some(index) = self.snapshots.sent.remove(&to).filter(|_| arrived) {
            self.snapshots.behind.insert(to, Behind::new(index, self.now_ms));
        }
        self.consensus.step(RaftInput::ReportSnapshot { to, arrived }, &mut self.raft_effects);
        self.release_log(effects);
    }

    // Receiving.

    /// Whether a received state is about to replace the present one: nothing may be applied, compacted or committed.
    pub(super) fn is_installing(&self) -> bool {
        !matches!(self.snapshots.install, Install::None)
    }

    /// Consensus has accepted a received state; its append is on its way to the log.
    pub(super) fn begin_install(&mut self, index: u64, effects: &mut Effects) {
        let applied = self.applier.index();
        effects.push(Effect::Note(Note::SnapshotInstalling { index, applied }));
        self.committed.clear();
        self.commits.abandon();
        match self.snapshots.install {
            Install::None => self.snapshots.install = Install::Marking { index },
            Install::Marking { index: older } => {
                self.supersede(older, effects);
                self.snapshots.install = Install::Marking { index };
            }
            Install::Installing { .. } | Install::Restoring { .. } => {
                if let Some(older) = self.snapshots.next.replace(index) {
                    self.supersede(older, effects);
                }
            }
        }
    }

    /// A newer state follows this one. Its file stays until the newer marker is durable: a start may find this marker as the last one.
    fn supersede(&mut self, older: u64, effects: &mut Effects) {
        match planted::has(Bug::DiscardEarly) {
            false => self.snapshots.superseded.push(older),
            true => effects.push(Effect::DiscardSnapshot { index: older }),
        }
    }

    /// Installs the state when its marker is durable and no commit is in flight.
    pub(super) fn install_if_ready(&mut self, effects: &mut Effects) {
        if let Install::Marking { index } = self.snapshots.install
            && self.log.awaits_installation(index)
            && !self.commits.is_writing()
        {
            let superseded = std::mem::take(&mut self.snapshots.superseded).into_iter();
            effects.extend(superseded.map(|older| Effect::DiscardSnapshot { index: older }));
            self.snapshots.install = Install::Installing { index };
            effects.push(Effect::InstallSnapshot { index });
        }
    }

    pub(super) fn on_snapshot_installed(&mut self, file: PageFile) -> Result<(), Failure> {
        let Install::Installing { index } = self.snapshots.install else { panic!("no snapshot is being installed") };
        let opening = Box::new(Opening::new(file)?);
        self.snapshots.install = Install::Restoring { index, opening };
        Ok(())
    }

    pub(super) fn has_restore_work(&self) -> bool {
        matches!(self.snapshots.install, Install::Restoring { .. })
    }

    /// One slice of the restored index; at the end the new state replaces the old one.
    pub(super) fn restore_slice(&mut self, effects: &mut Effects) -> Result<(), Failure> {
        let Install::Restoring { opening, .. } = &mut self.snapshots.install else { return Ok(()) };
        if !opening.step()? {
            return Ok(());
        }
        let Install::Restoring { index, opening } = std::mem::take(&mut self.snapshots.install) else {
            unreachable!("looked at above")
        };
        let opened = opening.finish(&self.settings.identity)?;
        if opened.applier.index() != index {
            return Err(Failure::WrongSnapshot { expected: index, found: opened.applier.index() });
        }
        let was_primary = self.applier.lessor().is_primary();
        self.applier = opened.applier;
        self.applier.lessor().on_time(self.now_ms);
        assert!(!was_primary, "a leader receives no state");
        self.commits.committed = self.applied_mark();
        self.retained.clear();
        for (core, id) in self.proposals.end_deferred() {
            let outcome = Err(Refusal::Timeout);
            effects.push(Effect::Answer { core, answer: Answer::Proposal { id, outcome } });
        }
        self.unfinished = None;
        self.commit_index = self.commit_index.max(index);
        if let Some(append) = self.log.on_installed(index) {
            self.consensus.step(RaftInput::Persisted { append }, &mut self.raft_effects);
        }
        self.publish(effects);
        effects.push(Effect::HistoryReplaced);
        let revision = self.applier.revision();
        effects.push(Effect::Note(Note::SnapshotRestored { index, revision }));
        self.is_removed |= self.applier.membership().is_removed(self.settings.identity.member_id);
        self.end_all_flushes(effects);
        if let Some(index) = self.snapshots.next.take() {
            self.snapshots.install = Install::Marking { index };
        }
        Ok(())
    }
}
