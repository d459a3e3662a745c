//! The engine's tasks on its core: they carry out what the machine says and tell it what happened.
//!
//! | task | wakes up | does |
//! |---|---|---|
//! | pump | a request, a finished write, a tick | turns of the engine until nothing waits |
//! | one per batch of the log | its write ends | tells the engine what is durable |
//! | keeper | an action | prepares and retires segments, one after the other; retires first when there is no room to prepare |
//! | committer | every 100 ms, or 10,000 changes | one commit of the page file: pages, sync, meta, sync |
//! | compactor | a compaction begins | slices of it, with pauses |
//! | defragmenter | a front asks for it | commits until the page file has given back its end |
//! | expiry (`lessor`) | twice a second | proposes to revoke what has run out |
//! | ticker | every heartbeat interval | tick, time-outs, signals |
//!
//! A failure of the disk or of the data ends the process (`stop::fatal`): nothing after it could be trusted.

pub mod auto_compaction;
mod chores;
pub mod engine;
pub mod expiry;
pub mod log_files;
pub mod mailbox;
pub mod version_monitor;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use self::chores::Chores;
use crate::{
    base::limits,
    drive::{
        engine::{Engine, Output},
        expiry::{EXPIRY, Expiry},
        log_files::LogFiles,
        mailbox::MailboxToCore,
    },
    lease::Lessor,
    metrics::{Name, Sheet},
    mvcc::{Change, CompactStep, CompactionReport},
    os::{
        self, clock,
        file::{FileError, PagedFile},
        notify::Notify,
        signal, stop,
    },
    pagefile::Commit,
    replica::{Answer, CoreId, Request},
    services::{Admission, Gate, Services, Shared},
    wal::{Action, IssuedBatch},
    watch::Batch,
};

/// Where proposals of the member itself come from: nobody waits for their answers.
pub const SELF: CoreId = CoreId::MAX;

/// How often and how much.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub tick: Duration,
    pub commit_interval: Duration,
    pub commit_changes_max: usize,
    pub compaction_batch: usize,
    pub compaction_pause: Duration,
}

/// Everything that lives on the engine's core.
pub struct Node {
    engine: RefCell<Engine>,
    /// Raised when the pump has something to do. The front of this core shares it.
    pub wake: Rc<Notify>,
    files: LogFiles,
    pages: PagedFile,
    shared: Arc<Shared>,
    pace: Pace,
    /// The front of this core, and the ways to the others.
    fronts: RefCell<Vec<CoreLink>>,
    actions: RefCell<VecDeque<Action>>,
    actions_wake: Notify,
    /// Batches for a segment that is still being prepared.
    held: RefCell<Vec<IssuedBatch>>,
    commit_wake: Notify,
    /// Rounds of the committer, with or without something to commit.
    commit_rounds: Cell<u64>,
    /// The commit under way waits for room on the disk.
    lacks_room: Cell<bool>,
    compaction_wake: Notify,
    chores: Chores,
    /// Revokes expired leases.
    pub expiry: Expiry,
    /// What the leases count time from.
    started: Instant,
    is_stopping: Cell<bool>,
}

/// How the engine reaches a front.
pub enum CoreLink {
    Here(Rc<Services>),
    Away(MailboxToCore),
}

impl Node {
    #[must_use]
    pub fn new(engine: Engine, files: LogFiles, pages: PagedFile, shared: Arc<Shared>, pace: Pace) -> Rc<Self> {
        Rc::new(Self {
            engine: RefCell::new(engine),
            wake: Rc::default(),
            files,
            pages,
            shared,
            pace,
            fronts: RefCell::default(),
            actions: RefCell::default(),
            actions_wake: Notify::default(),
            held: RefCell::default(),
            commit_wake: Notify::default(),
            commit_rounds: Cell::new(0),
            lacks_room: Cell::new(false),
            compaction_wake: Notify::default(),
            chores: Chores::default(),
            expiry: Expiry::default(),
            started: clock::now(),
            is_stopping: Cell::new(false),
        })
    }

    /// Connects a front; its id is its position.
    pub fn connect(&self, link: CoreLink) {
        self.fronts.borrow_mut().push(link);
    }

    /// Starts the tasks.
    pub fn start(self: &Rc<Self>, actions: Vec<Action>) {
        self.queue_actions(actions);
        os::spawn_local(Rc::clone(self).pump());
        os::spawn_local(Rc::clone(self).keeper());
        os::spawn_local(Rc::clone(self).committer());
        os::spawn_local(Rc::clone(self).compactor());
        os::spawn_local(Rc::clone(self).defragmenter());
        os::spawn_local(Rc::clone(self).ticker());
        if self.engine.borrow().is_compacting() {
            self.compaction_wake.notify();
        }
    }

    /// Stands for election at once: for a member that is alone.
    pub fn campaign(&self) {
        self.engine.borrow_mut().campaign();
        self.wake.notify();
    }

    /// Takes a request from a front or from the member itself.
    pub fn submit(&self, front: CoreId, request: Request) {
        self.engine.borrow_mut().submit(front, request);
        self.wake.notify();
    }

    /// The leases, with the time of now.
    pub fn with_lessor<R>(&self, use_it: impl FnOnce(&mut Lessor) -> R) -> R {
        let engine = &mut *self.engine.borrow_mut();
        self.tell_time(engine);
        use_it(engine.lessor())
    }

    fn tell_time(&self, engine: &mut Engine) {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        engine.lessor().on_time(now_ms);
    }

    async fn pump(self: Rc<Self>) {
        loop {
            self.wake.wait().await;
            while self.turn() {
                os::yield_now().await;
            }
        }
    }

    /// One turn. Says whether there is more to do at once.
    fn turn(self: &Rc<Self>) -> bool {
        let output = {
            let engine = &mut *self.engine.borrow_mut();
            self.tell_time(engine);
            for link in &*self.fronts.borrow() {
                if let CoreLink::Here(front) = link {
                    front.take_requests().into_iter().for_each(|request| engine.submit(front.id(), request));
                }
            }
            let output = or_stop(engine.turn());
            if engine.pending_changes() >= self.pace.commit_changes_max {
                self.commit_wake.notify();
            }
            if engine.is_compacting() {
                self.compaction_wake.notify();
            }
            output
        };
        let more = output.more;
        self.carry_out(output);
        more
    }

    fn carry_out(self: &Rc<Self>, output: Output) {
        if let Some(view) = output.view {
            self.shared.view.store(view);
        }
        self.write(output.writes);
        self.queue_actions(output.actions);
        self.announce(output.changes);
        self.deliver(output.answers);
        output.chores.into_iter().for_each(|(front, id, chore)| self.take_chore(front, id, chore));
    }

    /// Tells the fronts that watch something what changed. The view that has it was published before.
    fn announce(&self, changes: Vec<Change>) {
        if !self.shared.watch.gates().iter().any(Gate::is_open) {
            return;
        }
        let Some(batch) = Batch::new(changes).map(Arc::new) else { return };
        for (gate, link) in self.shared.watch.gates().iter().zip(&*self.fronts.borrow()) {
            match link {
                CoreLink::Here(front) if gate.is_open() => front.on_changes(&batch),
                CoreLink::Here(_) => {}
                CoreLink::Away(mailbox) => match gate.admit(batch.bytes()) {
                    Admission::Sent => mailbox.send(Answer::Changes(Arc::clone(&batch))),
                    Admission::Lost => mailbox.send(Answer::ChangesLost),
                    Admission::Closed => {}
                },
            }
        }
    }

    fn deliver(&self, answers: Vec<(CoreId, Answer)>) {
        let fronts = self.fronts.borrow();
        for (front, answer) in answers {
            match fronts.get(usize::from(front)) {
                Some(CoreLink::Here(front)) => front.on_answer(answer),
                Some(CoreLink::Away(mailbox)) => mailbox.send(answer),
                None if front == EXPIRY => self.expiry.on_answer(&answer, self.sheet()),
                None => log_own(&answer),
            }
        }
    }

    fn write(self: &Rc<Self>, batches: Vec<IssuedBatch>) {
        for batch in batches {
            if self.engine.borrow().is_segment_ready(batch.write.segment) {
                os::spawn_local(Rc::clone(self).write_one(batch));
            } else {
                self.held.borrow_mut().push(batch);
            }
        }
    }

    async fn write_one(self: Rc<Self>, batch: IssuedBatch) {
        let (bytes, started) = (batch.write.bytes.len(), clock::now());
        or_stop(self.files.write(batch.write).await);
        self.count_log_write(bytes, started.elapsed());
        self.engine.borrow_mut().on_written(batch.sequence);
        self.wake.notify();
    }

    /// One durable write is both etcd's write and its fsync.
    fn count_log_write(&self, bytes: usize, took: Duration) {
        let sheet = self.sheet();
        sheet.observe(Name::DiskWalWriteDurationSeconds, took.as_secs_f64());
        sheet.observe(Name::DiskWalFsyncDurationSeconds, took.as_secs_f64());
        sheet.change(Name::DiskWalWriteBytesTotal, bytes as i64);
        let expected = Duration::from_millis(limits::SLOW_LOG_WRITE_MS);
        if took > expected {
            tracing::warn!(?took, expected_duration = ?expected, "slow fdatasync");
        }
    }

    fn sheet(&self) -> &Sheet {
        &self.shared.meters.engine.sheet
    }

    fn queue_actions(&self, actions: Vec<Action>) {
        if !actions.is_empty() {
            self.actions.borrow_mut().extend(actions);
            self.actions_wake.notify();
        }
    }

    async fn keeper(self: Rc<Self>) {
        loop {
            self.actions_wake.wait().await;
            while let Some(mut action) = self.next_action() {
                let done = loop {
                    match self.files.carry_out(&action).await {
                        Ok(done) => break done,
                        Err(error) if error.is_full() && self.reuse(&mut action).await => {}
                        Err(error) => {
                            // Preparing ahead may wait as long as no batch needs the segment.
                            let holds_up = error.is_full() && !self.held.borrow().is_empty();
                            self.shared.health.set_log_lacks_room(holds_up);
                            or_stop(wait_for_room(error).await);
                        }
                    }
                };
                self.shared.health.set_log_lacks_room(false);
                if let Some(segment) = done {
                    self.engine.borrow_mut().on_prepared(segment);
                    let held = self.held.take();
                    self.write(held);
                }
            }
        }
    }

    fn next_action(&self) -> Option<Action> {
        self.actions.borrow_mut().pop_front()
    }

    /// For a preparation that lacks room: lets go of all segments that the log does not need any more, and has it take one of
    /// them, if need be from the next preparation. False: there is none.
    async fn reuse(&self, action: &mut Action) -> bool {
        let Action::Prepare(prepare) = action else { return false };
        if prepare.spare.is_some() {
            return false;
        }
        // Nothing of what is let go of can be the segment that is still to be prepared. Until there is nothing more: a spare may
        // only be taken when its release was carried out.
        loop {
            let (later, releases): (VecDeque<_>, VecDeque<_>) =
                self.actions.take().into_iter().partition(|next| matches!(next, Action::Prepare(_)));
            *self.actions.borrow_mut() = later;
            if releases.is_empty() {
                break;
            }
            for release in releases {
                or_stop(self.files.carry_out(&release).await);
            }
        }
        for next in &mut *self.actions.borrow_mut() {
            if let Action::Prepare(next) = next
                && prepare.spare.is_none()
                && prepare.size_bytes == next.size_bytes
            {
                prepare.spare = next.spare.take();
            }
        }
        prepare.spare.is_some() || self.engine.borrow_mut().reuse_segment(prepare)
    }

    async fn committer(self: Rc<Self>) {
        loop {
            os::timeout(self.pace.commit_interval, self.commit_wake.wait()).await;
            self.commit().await;
            let open = self.engine.borrow_mut().open_read_transactions();
            self.sheet().set(Name::MvccDbOpenReadTransactions, i64::try_from(open).unwrap_or(i64::MAX));
            self.commit_rounds.set(self.commit_rounds.get() + 1);
        }
    }

    /// One commit of the page file, if there is something to commit.
    async fn commit(self: &Rc<Self>) {
        while self.engine.borrow().is_midway() {
            os::yield_now().await;
        }
        let Some(index) = self.engine.borrow_mut().begin_commit() else { return };
        let started = clock::now();
        let commit = loop {
            let step = self.engine.borrow_mut().step_commit(limits::COMMIT_CHANGES_PER_SLICE);
            if let Some(commit) = or_stop(step) {
                break commit;
            }
            os::yield_now().await;
        };
        let (truncate_to, built) = (commit.truncate_to, clock::now());
        or_stop(self.write_commit(commit).await);
        self.count_commit(built - started, built.elapsed());
        let (view, actions) = or_stop(self.engine.borrow_mut().on_committed(index));
        // Before anything else can publish a newer one.
        self.shared.view.store(view);
        self.queue_actions(actions);
        if let Some(length) = truncate_to {
            or_stop(self.pages.cut(length, limits::PAGE_FILE_CUT_BYTES).await);
        }
        self.wake.notify();
    }

    /// Building pages is etcd's spill; merging small ones (its rebalance) is part of it here and not measured apart.
    fn count_commit(&self, building: Duration, writing: Duration) {
        let sheet = self.sheet();
        sheet.observe(Name::DiskBackendCommitSpillDurationSeconds, building.as_secs_f64());
        sheet.observe(Name::DiskBackendCommitWriteDurationSeconds, writing.as_secs_f64());
        sheet.observe(Name::DiskBackendCommitDurationSeconds, (building + writing).as_secs_f64());
    }

    async fn write_commit(&self, commit: Commit) -> Result<(), FileError> {
        if let Some(length) = commit.grow_to {
            while let Err(error) = self.pages.grow(length).await {
                self.lacks_room.set(error.is_full());
                self.shared.health.set_database_lacks_room(error.is_full());
                wait_for_room(error).await?;
            }
            self.lacks_room.set(false);
            self.shared.health.set_database_lacks_room(false);
            self.pages.sync().await?;
        }
        for write in commit.pages {
            let (offset, bytes) = write.into_parts();
            self.pages.write(bytes, offset).await?;
        }
        self.pages.sync().await?;
        let (offset, bytes) = commit.meta.into_parts();
        self.pages.write(bytes, offset).await?;
        self.pages.sync().await
    }

    async fn compactor(self: Rc<Self>) {
        loop {
            self.compaction_wake.wait().await;
            let mut started = clock::now();
            loop {
                let paused = clock::now();
                let step = self.engine.borrow_mut().compact_step(self.pace.compaction_batch);
                let pause = milliseconds(paused.elapsed());
                let step = or_stop(step);
                let pauses = match step {
                    CompactStep::Idle => None,
                    CompactStep::Indexing => Some(Name::MvccIndexCompactionPauseDurationMilliseconds),
                    _ => Some(Name::MvccDbCompactionPauseDurationMilliseconds),
                };
                pauses.into_iter().for_each(|name| self.sheet().observe(name, pause));
                match step {
                    CompactStep::Idle => break,
                    CompactStep::Indexing | CompactStep::Working => os::sleep(self.pace.compaction_pause).await,
                    CompactStep::AwaitsCommit => self.force_commit().await,
                    CompactStep::Finished(report) => {
                        self.on_compacted(report, started.elapsed());
                        started = clock::now();
                        self.force_commit().await;
                        let answers = self.engine.borrow_mut().on_compacted(report.revision);
                        self.deliver(answers);
                    }
                }
            }
        }
    }

    fn on_compacted(&self, report: CompactionReport, took: Duration) {
        let view = self.shared.view.load();
        let records = view.kv.records();
        tracing::info!(
            compact_revision = report.revision,
            ?took,
            number_of_keys_compacted = report.records_deleted,
            hash = report.hash.hash,
            current_db_size_bytes = records.size_bytes(),
            current_db_size_in_use_bytes = records.in_use_bytes(),
            "finished scheduled compaction"
        );
        let sheet = self.sheet();
        sheet.observe(Name::MvccDbCompactionTotalDurationMilliseconds, milliseconds(took));
        sheet.add(Name::MvccDbCompactionKeysTotal, report.records_deleted);
        sheet.set(Name::MvccDbCompactionLast, (clock::unix_ms() / 1000).cast_signed());
    }

    /// Returns when everything applied before the call is in the page file.
    async fn force_commit(&self) {
        // The round that may be under way does not have it all; the one after it does.
        let enough = self.commit_rounds.get() + 2;
        while self.commit_rounds.get() < enough {
            self.commit_wake.notify();
            os::sleep(Duration::from_millis(limits::COMMIT_POLL_MS)).await;
        }
    }

    async fn ticker(self: Rc<Self>) {
        while !self.is_stopping.get() {
            os::sleep(self.pace.tick).await;
            let confirmed = {
                let engine = &mut *self.engine.borrow_mut();
                self.tell_time(engine);
                engine.tick();
                engine.confirm_log()
            };
            self.write(confirmed);
            self.wake.notify();
        }
    }

    /// Waits for SIGTERM or SIGINT.
    pub async fn stop_signal(&self) -> i32 {
        loop {
            if let Some(signal) = signal::received() {
                return signal;
            }
            os::sleep(self.pace.tick.min(Duration::from_millis(limits::SIGNAL_POLL_MS))).await;
        }
    }

    /// The last commit before the end, so that the next start has little to replay. A full disk does not hold up the end: the log
    /// has what the page file lacks.
    pub async fn finish(self: &Rc<Self>) {
        self.is_stopping.set(true);
        let enough = self.commit_rounds.get() + 2;
        while self.commit_rounds.get() < enough && !self.lacks_room.get() {
            self.commit_wake.notify();
            os::sleep(Duration::from_millis(limits::COMMIT_POLL_MS)).await;
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A full disk is not the end: what was acknowledged is on it, and the same step is tried again. Any other failure is.
async fn wait_for_room(error: FileError) -> Result<(), FileError> {
    if !error.is_full() {
        return Err(error);
    }
    tracing::error!(%error, "the disk is full: writes wait until there is room");
    os::sleep(Duration::from_millis(limits::FULL_DISK_PAUSE_MS)).await;
    Ok(())
}

/// Ends fronts' waiting calls in time; runs on every front core.
pub async fn expire_calls(front: Rc<Services>, every: Duration) {
    loop {
        os::sleep(every).await;
        front.expire(Instant::now());
    }
}

fn log_own(answer: &Answer) {
    if let Answer::Proposal { outcome: Err(refusal), .. } = answer {
        tracing::warn!(error = %refusal, "a proposal of this member itself was refused");
    }
}

fn or_stop<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| stop::fatal(&error.to_string()))
}
