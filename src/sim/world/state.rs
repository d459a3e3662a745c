//! The parts of a world: machines, clients, what waits in its queue, and what was counted.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    apply::View,
    mvcc::Change,
    pagefile::ReadTxn,
    proto::{
        etcdserverpb::{RangeRequest, TxnRequest},
        raftpb,
    },
    replica::{Input, Timer},
    service::lock::Contender,
    sim::{checkers::watch::Watched, clock::Clock, member::Member, options::Knobs},
    watch::{Batch, Hub, QueueLimit, StreamKey},
};

/// Counts of a run, so that a test without effect is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub events: u64,
    pub writes: u64,
    pub reads: u64,
    pub serializable: u64,
    pub refused: u64,
    pub watch_events: u64,
    pub watch_ends: u64,
    pub lease_renewals: u64,
    pub leases_expired: u64,
    pub locks_held: u64,
    pub copies: u64,
    pub crashes: u64,
    pub faults: u64,
    pub snapshots: u64,
    pub elections: u64,
    pub changes_of_members: u64,
    pub promotions: u64,
    pub removals: u64,
    pub alarms: u64,
    /// Defragmentations and flushes.
    pub chores: u64,
    pub compactions: u64,
    pub virtual_ms: u64,
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Counts) {
        let pairs = [
            (&mut self.events, other.events),
            (&mut self.writes, other.writes),
            (&mut self.reads, other.reads),
            (&mut self.serializable, other.serializable),
            (&mut self.refused, other.refused),
            (&mut self.watch_events, other.watch_events),
            (&mut self.watch_ends, other.watch_ends),
            (&mut self.lease_renewals, other.lease_renewals),
            (&mut self.leases_expired, other.leases_expired),
            (&mut self.locks_held, other.locks_held),
            (&mut self.copies, other.copies),
            (&mut self.crashes, other.crashes),
            (&mut self.faults, other.faults),
            (&mut self.snapshots, other.snapshots),
            (&mut self.elections, other.elections),
            (&mut self.changes_of_members, other.changes_of_members),
            (&mut self.promotions, other.promotions),
            (&mut self.removals, other.removals),
            (&mut self.alarms, other.alarms),
            (&mut self.chores, other.chores),
            (&mut self.compactions, other.compactions),
            (&mut self.virtual_ms, other.virtual_ms),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum += more);
    }
}

/// Something that happens at its time.
pub(super) enum Event {
    Deliver {
        from: u64,
        to: u64,
        message: Box<raftpb::Message>,
        image: Option<StateOnItsWay>,
    },
    /// A member opens a connection to another one.
    Dial {
        from: u64,
        epoch: u64,
        to: u64,
    },
    /// The other one has answered that this member was removed.
    ToldRemoved {
        by: u64,
        member: u64,
        epoch: u64,
    },
    Step {
        member: u64,
        epoch: u64,
        input: Box<Input>,
    },
    Turn {
        member: u64,
        epoch: u64,
    },
    Timer {
        member: u64,
        epoch: u64,
        timer: Timer,
    },
    /// One step of the disk.
    Work {
        member: u64,
        epoch: u64,
    },
    /// Changes reach the watchers of a member.
    Changes {
        member: u64,
        epoch: u64,
    },
    /// Watchers that lag read history.
    Read {
        member: u64,
        epoch: u64,
    },
    /// A client has taken what was sent.
    Taken {
        client: usize,
        member: u64,
        epoch: u64,
        stream: StreamKey,
    },
    Boot {
        member: u64,
    },
    /// The process ends, or the machine loses its power.
    Crash {
        member: u64,
        epoch: u64,
        is_power_cut: bool,
    },
    /// The end of a pause, if it was not made longer.
    Resume {
        member: u64,
    },
    Client {
        client: usize,
    },
    Fault,
}

impl Event {
    /// The member whose process has to run for it.
    pub fn member(&self) -> Option<u64> {
        match self {
            Self::Deliver { to, .. } | Self::Dial { to, .. } => Some(*to),
            Self::ToldRemoved { member, .. }
            | Self::Step { member, .. }
            | Self::Turn { member, .. }
            | Self::Timer { member, .. }
            | Self::Work { member, .. }
            | Self::Changes { member, .. }
            | Self::Read { member, .. }
            | Self::Taken { member, .. }
            | Self::Boot { member } => Some(*member),
            Self::Crash { .. } | Self::Resume { .. } | Self::Client { .. } | Self::Fault => None,
        }
    }
}

/// A whole state that is sent: half of it is copied when it is sent, the rest when it arrives.
pub(super) struct StateOnItsWay {
    pub copied: Vec<u8>,
    pub pages: ReadTxn,
    /// The start of the sender's process.
    pub epoch: u64,
}

impl StateOnItsWay {
    pub fn new(pages: ReadTxn, epoch: u64) -> Self {
        let mut copied = Vec::new();
        pages.copy_image(0, pages.size_bytes() as usize / 2, &mut copied);
        Self { copied, pages, epoch }
    }

    pub fn whole(mut self) -> Vec<u8> {
        let (from, bytes) = (self.copied.len() as u64, self.pages.size_bytes());
        self.pages.copy_image(from, (bytes - from) as usize, &mut self.copied);
        self.copied
    }
}

/// A machine of the cluster, or one that was.
pub(super) struct Machine {
    pub member: Member,
    pub clock: Clock,
    /// The process stands still until then.
    pub paused_until_us: u64,
    /// What came while it stood still, in order.
    pub held: Vec<Event>,
    /// The disk does nothing until then.
    pub stalled_until_us: u64,
    /// A step of the disk is under way.
    pub is_working: bool,
    /// A turn is under way.
    pub is_turning: bool,
    pub front: Front,
    /// Its log was damaged; it may never start again.
    pub is_damaged: bool,
    /// It will not start again.
    pub is_gone: bool,
}

/// The watchers of one member.
#[derive(Default)]
pub(super) struct Front {
    pub hub: Hub,
    /// Changes on their way; `None`: some were lost.
    pub batches: VecDeque<Option<Batch>>,
    pub is_reading: bool,
}

impl Front {
    pub fn new(knobs: &Knobs) -> Self {
        let mut front = Self::default();
        front.hub.queue_limit = QueueLimit(knobs.watch_queue_bytes);
        front
    }

    pub fn push(&mut self, changes: Vec<Change>, is_lost: bool) {
        if let Some(batch) = Batch::new(changes) {
            self.batches.push_back((!is_lost).then_some(batch));
        }
    }
}

/// One client. It asks for one thing at a time.
pub(super) struct Client {
    pub task: Task,
    /// The request that it waits for.
    pub waits_for: Option<u64>,
    pub gives_up_us: u64,
}

pub(super) enum Task {
    /// Reads, writes and swaps single keys: what it does is checked by search.
    Register,
    /// Transactions, deletions, ranges.
    Writer,
    Watcher(Watching),
    Lease(Leasing),
    Lock(Locking),
    Reader(Option<Box<Reading>>),
    Operator,
    Members,
}

/// A client that watches.
pub(super) struct Watching {
    /// The member it is connected to, with the number of that start, and its stream there.
    pub stream: Option<(u64, u64, StreamKey)>,
    pub watched: Vec<Watched>,
    /// The id of each in the present stream.
    pub ids: Vec<Option<i64>>,
    /// Those whose creation is not answered, in order.
    pub asked: VecDeque<usize>,
    /// What was taken is not sent yet.
    pub is_sending: bool,
    /// It does not connect before.
    pub away_until_us: u64,
}

/// A client with a lease.
#[derive(Clone, Copy, Debug)]
pub(super) enum Leasing {
    Idle,
    Granted { lease: i64, ttl_ms: u64, is_attached: bool, renewals: u32, next_us: u64 },
}

/// A client that takes turns with others.
pub(super) struct Locking {
    pub lease: Option<i64>,
    pub contender: Option<Contender>,
    pub state: LockState,
    pub next_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockState {
    Apart,
    Waiting,
    /// Nobody is before it in the queue: it looks whether its own key is still there.
    Confirming,
    Holding,
}

/// A client that keeps a view and copies its page file.
pub(super) struct Reading {
    pub member: u64,
    pub epoch: u64,
    pub view: Arc<View>,
    pub copy: Vec<u8>,
    /// In how many pieces the copy is made.
    pub pieces: u64,
    pub until_us: u64,
}

/// A request under way.
pub(super) struct Pending {
    pub client: usize,
    pub member: u64,
    pub epoch: u64,
    pub called_us: u64,
    pub jumped_us: u64,
    /// The newest revision that was known when it began.
    pub floor: i64,
    pub op: Op,
}

/// What was asked for.
pub(super) enum Op {
    /// `register` is its place in the history that is searched.
    Write {
        request: TxnRequest,
        is_txn: bool,
        register: Option<usize>,
    },
    Read {
        range: RangeRequest,
        register: Option<usize>,
    },
    Grant {
        lease: i64,
    },
    Renew {
        lease: i64,
    },
    Revoke {
        lease: i64,
    },
    Compact,
    Chore,
    Other,
}

impl Op {
    /// Whether it is answered within the request timeout.
    pub fn is_bounded(&self) -> bool {
        !matches!(self, Self::Compact | Self::Chore)
    }
}
