//! The tasks on the replica's core: they carry out its effects and bring it what happened.
//!
//! | file | task | wakes up | does |
//! |---|---|---|---|
//! | `mod` | pump | a request, a finished write, a timer | turns of the replica until nothing waits |
//! | `mod` | one per timer | its time | brings the timer to the replica |
//! | `log_writes` | one per batch of the log | its write ends | brings what is durable to the replica |
//! | `log_tasks` | keeper | a task on the log's files | prepares and retires segments, one after the other |
//! | `page_file` | none | | opens, maps and locks the page file |
//! | `installation` | one per received state | consensus takes it | gives it the page file's place |
//! | `work` | none | | what waits for the keeper and the committer |
//! | `links` | none | | tells the links to other members what leaves and who the members are |
//! | `peer_events` | none | | brings what comes from other members to the replica |
//! | `page_commits` | committer | a commit of the page file | its steps: grow, pages, sync, meta, sync, cut |
//! | `notes` | none | | lines for the log, counts for the metrics |
//! | `auto_compaction`, `corruption`, `version_monitor` | some each | their interval | propose by themselves, on the leader |
//! | `mailbox` | one per other core | an answer | carries answers to the services of another core |
//!
//! A failure of the disk or of the data ends the process (`stop::fatal`): nothing after it could be trusted.

pub mod auto_compaction;
pub mod corruption;
pub mod installation;
mod links;
pub mod log_files;
mod log_tasks;
mod log_writes;
pub mod mailbox;
mod notes;
mod page_commits;
pub mod page_file;
mod peer_events;
pub mod version_monitor;
mod work;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use self::{
    links::Links,
    mailbox::MailboxToCore,
    page_file::OpenPageFile,
    work::{LogTasks, PageTasks},
};
use crate::{
    auth::TokenChange,
    base::limits,
    metrics::Sheet,
    mvcc::Change,
    os::{self, clock, file::FileError, notify::Notify, signal, stop},
    replica::{Answer, CoreId, Effect, Effects, Input, Replica, Request, SELF, Timer},
    services::{Admission, Gate, Services, Shared},
    watch::Batch,
};

use self::log_files::LogFiles;

/// Everything that lives on the replica's core.
pub struct Driver {
    replica: RefCell<Replica>,
    /// Between two steps, to keep its allocation.
    effects: Cell<Effects>,
    /// Raised when the pump has something to do. The services of this core share it.
    pub wake: Rc<Notify>,
    shared: Arc<Shared>,
    /// The services of this core, and the ways to the others.
    cores: RefCell<Vec<CoreLink>>,
    files: LogFiles,
    log_tasks: LogTasks,
    pages: PageTasks,
    links: Links,
    /// The replica's turn has asked for another one.
    is_turn_due: Cell<bool>,
    is_stopping: Cell<bool>,
    stopped: Notify,
    is_removed: Cell<bool>,
}

/// Why a member ends in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Signal(i32),
    /// It is not in the cluster any more.
    Removed,
}

/// How the driver reaches the services of a core.
pub enum CoreLink {
    Here(Rc<Services>),
    Away(MailboxToCore),
}

impl Driver {
    #[must_use]
    pub fn new(replica: Replica, files: LogFiles, pages: OpenPageFile, shared: Arc<Shared>) -> Rc<Self> {
        Rc::new(Self {
            replica: RefCell::new(replica),
            effects: Cell::default(),
            wake: Rc::default(),
            shared,
            cores: RefCell::default(),
            files,
            log_tasks: LogTasks::default(),
            pages: PageTasks::new(pages),
            links: Links::default(),
            is_turn_due: Cell::new(false),
            is_stopping: Cell::new(false),
            stopped: Notify::default(),
            is_removed: Cell::new(false),
        })
    }

    /// Connects the services of a core; its id is their position.
    pub fn connect(&self, link: CoreLink) {
        self.cores.borrow_mut().push(link);
    }

    /// Starts the tasks, with the effects of the replica's start.
    pub fn start(self: &Rc<Self>, effects: Effects) {
        os::spawn_local(Rc::clone(self).pump());
        os::spawn_local(Rc::clone(self).keep_log());
        os::spawn_local(Rc::clone(self).commit_pages());
        effects.into_iter().for_each(|effect| self.carry_out(effect));
        self.wake.notify();
    }

    /// Stands for election at once: for a member that is alone.
    pub fn campaign(self: &Rc<Self>) {
        self.step(Input::Campaign);
    }

    /// Counts so many ticks at once, so that the first election comes sooner.
    pub fn advance(self: &Rc<Self>, ticks: usize) {
        self.step(Input::Advance { ticks });
    }

    /// Takes a request from the services of a core or from the member itself.
    pub fn submit(self: &Rc<Self>, core: CoreId, request: Request) {
        self.step(Input::Request { core, request });
    }

    /// Brings an input to the replica; a turn follows.
    fn step(self: &Rc<Self>, input: Input) {
        self.step_alone(input);
        self.wake.notify();
    }

    fn step_alone(self: &Rc<Self>, input: Input) {
        let now_ms = clock::boot_ms();
        let mut effects = self.effects.take();
        or_stop(self.replica.borrow_mut().step(now_ms, input, &mut effects));
        effects.drain(..).for_each(|effect| self.carry_out(effect));
        self.effects.set(effects);
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
        let own = self.cores.borrow().iter().find_map(|link| match link {
            CoreLink::Here(services) => Some(Rc::clone(services)),
            CoreLink::Away(_) => None,
        });
        if let Some(services) = own {
            for request in services.take_requests() {
                self.step_alone(Input::Request { core: services.id(), request });
            }
        }
        self.is_turn_due.set(false);
        self.step_alone(Input::Turn);
        self.is_turn_due.get()
    }

    fn carry_out(self: &Rc<Self>, effect: Effect) {
        match effect {
            Effect::Tokens(changes) => self.shared.tokens.change(changes),
            Effect::Publish(view) => {
                self.links.on_members(&view.membership);
                self.shared.view.store(view);
            }
            Effect::Announce(changes) => self.announce(changes),
            Effect::HistoryReplaced => self.replace_history(),
            Effect::Answer { core, answer } => self.deliver(core, answer),
            Effect::WriteLog(batch) => os::spawn_local(Rc::clone(self).write_log(batch)),
            Effect::LogTask(action) => self.log_tasks.push(action),
            Effect::CommitPages(commit) => self.pages.push_commit(commit),
            Effect::CutPages { length } => self.pages.push_cut(length),
            Effect::SetTimer { timer, after_ms } => self.set_timer(timer, after_ms),
            Effect::Again => self.is_turn_due.set(true),
            Effect::Note(note) => notes::log(note, &self.shared, self.pages.path()),
            Effect::Count(count) => notes::count(count, &self.shared, &self.pages),
            Effect::Stopped => self.stopped.notify(),
            Effect::Removed => self.on_removed(),
            Effect::Send(message) => self.links.send(message),
            Effect::SendSnapshot { message, image, caught_up } => {
                self.links.send_snapshot(message, image, &caught_up);
            }
            Effect::InstallSnapshot { index } => self.install_snapshot(index),
            Effect::DiscardSnapshot { index } => self.discard_snapshot(index),
        }
    }

    fn set_timer(self: &Rc<Self>, timer: Timer, after_ms: u64) {
        if self.is_stopping.get() && timer == Timer::Tick {
            return;
        }
        let driver = Rc::clone(self);
        os::spawn_local(async move {
            os::sleep(Duration::from_millis(after_ms)).await;
            driver.step(Input::Timer(timer));
        });
    }

    /// Tells the cores that watch something what changed. The view that has it was published before.
    fn announce(&self, changes: Vec<Change>) {
        if !self.shared.watch.gates().iter().any(Gate::is_open) {
            return;
        }
        let Some(batch) = Batch::new(changes).map(Arc::new) else { return };
        for (gate, link) in self.shared.watch.gates().iter().zip(&*self.cores.borrow()) {
            match link {
                CoreLink::Here(services) if gate.is_open() => services.on_changes(&batch),
                CoreLink::Here(_) => {}
                CoreLink::Away(mailbox) => match gate.admit(batch.bytes()) {
                    Admission::Sent => mailbox.send(Answer::Changes(Arc::clone(&batch))),
                    Admission::Lost => mailbox.send(Answer::ChangesLost),
                    Admission::Closed => {}
                },
            }
        }
    }

    /// Every core reads what its watchers lack from the view published last.
    fn replace_history(&self) {
        if !self.shared.view.load().auth.is_enabled() {
            self.shared.tokens.change(vec![TokenChange::AllEnded]);
        }
        for link in &*self.cores.borrow() {
            match link {
                CoreLink::Here(services) => services.on_answer(Answer::ChangesLost),
                CoreLink::Away(mailbox) => mailbox.send(Answer::ChangesLost),
            }
        }
    }

    fn deliver(&self, core: CoreId, answer: Answer) {
        match self.cores.borrow().get(usize::from(core)) {
            Some(CoreLink::Here(services)) => services.on_answer(answer),
            Some(CoreLink::Away(mailbox)) => mailbox.send(answer),
            None => log_own(core, &answer),
        }
    }

    fn sheet(&self) -> &Sheet {
        &self.shared.meters.engine.sheet
    }

    fn on_removed(&self) {
        if !self.is_removed.replace(true) {
            tracing::warn!("server error: the member has been permanently removed from the cluster");
            tracing::warn!("data-dir used by this member must be removed");
        }
    }

    /// Waits until the member has to end: SIGTERM, SIGINT, or its removal.
    pub async fn end(&self) -> End {
        loop {
            if let Some(signal) = signal::received() {
                return End::Signal(signal);
            }
            if self.is_removed.get() {
                return End::Removed;
            }
            os::sleep(Duration::from_millis(limits::SIGNAL_POLL_MS)).await;
        }
    }

    /// The last commit before the end, so that the next start has little to replay. A full disk does not hold up the end: the log
    /// has what the page file lacks.
    pub async fn finish(self: &Rc<Self>) {
        self.is_stopping.set(true);
        self.step(Input::Stop);
        let lacks_room = self.pages.until_room_is_lacking();
        futures_lite::future::or(self.stopped.wait(), lacks_room).await;
    }
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

/// Ends the waiting calls of a core in time; runs on every core that serves connections.
pub async fn expire_calls(services: Rc<Services>, every: Duration) {
    loop {
        os::sleep(every).await;
        services.expire(Instant::now());
    }
}

fn log_own(core: CoreId, answer: &Answer) {
    if let Answer::Proposal { outcome: Err(refusal), .. } = answer
        && core == SELF
    {
        tracing::warn!(error = %refusal, "a proposal of this member itself was refused");
    }
}

fn or_stop<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| stop::fatal(&error.to_string()))
}
