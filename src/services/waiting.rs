//! What waits on one core, and for what: the state of each service between two calls.
//!
//! Nothing here acts: what is done with a state stands in the file of its service.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use ahash::HashMap;
use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use slab::Slab;

use crate::{
    apply::request::Kind,
    base::refusal::Refusal,
    os::{
        clock,
        notify::{Notify, Ticket},
    },
    proto::etcdserverpb::{RangeRequest, TxnRequest},
    replica::{
        CoreId, Standing,
        lease_questions::{LeaseAnswer, LeaseQuestion},
    },
    rpc::Responder,
    services::credentials::Credentials,
    watch::{Counts, Hub, StreamKey},
};

/// What waits until its entry is applied, by the id of its proposal.
#[derive(Default)]
pub(super) struct Proposals {
    pub(super) waiting: HashMap<u64, Proposal>,
}

pub(super) struct Proposal {
    pub(super) kind: Kind,
    pub(super) waiter: Waiter,
    pub(super) since: Instant,
}

pub(super) enum Waiter {
    Call(Responder),
    /// A task of its own waits.
    Task(Rc<Ticket<Result<Bytes, Refusal>>>),
}

/// Linearizable reads of this core, in rounds.
#[derive(Default)]
pub(super) struct Reads {
    /// The round in flight.
    pub(super) context: Option<u64>,
    pub(super) round: Vec<Read>,
    /// For the next round.
    pub(super) waiting: Vec<Read>,
    pub(super) rounds: u64,
}

pub(super) struct Read {
    pub(super) work: Work,
    pub(super) since: Instant,
}

pub(super) enum Work {
    Range {
        request: RangeRequest,
        who: Credentials,
        responder: Responder,
    },
    Txn {
        request: TxnRequest,
        who: Credentials,
        responder: Responder,
    },
    MemberList {
        who: Credentials,
        responder: Responder,
    },
    /// A task of its own waits.
    Task(Rc<Ticket<Result<(), Refusal>>>),
}

/// An alarm for want of space that is being raised, and the refusals that wait for it. As many as calls may be open.
#[derive(Default)]
pub(super) struct Quota {
    pub(super) raising: Cell<Option<(u64, Instant)>>,
    pub(super) refused: RefCell<Vec<Waiter>>,
}

pub(super) type Outcome<T> = Ticket<Result<T, Refusal>>;

/// Requests about the members that are under way, by their ids.
#[derive(Default)]
pub(super) struct MemberRequests {
    /// Changes of the members and hand-overs of leadership.
    pub(super) changing: RefCell<HashMap<u64, Rc<Outcome<Bytes>>>>,
    pub(super) settling: RefCell<HashMap<u64, Rc<Outcome<Standing>>>>,
}

/// Chores of this core that are under way.
#[derive(Default)]
pub(super) struct Maintenance {
    pub(super) waiting: RefCell<Vec<(u64, Rc<Ticket<()>>)>>,
}

/// Questions about leases on their way to the engine and back.
#[derive(Default)]
pub(super) struct LeaseQuestions {
    pub(super) asked: Vec<(u64, LeaseQuestion)>,
    pub(super) waiting: HashMap<u64, Rc<Ticket<LeaseAnswer>>>,
    pub(super) next: u64,
    /// How streams of keepalives are told that the server stops.
    pub(super) streams: Slab<Rc<Notify>>,
}

/// What a core watches.
pub(super) struct Watching {
    pub(super) hub: RefCell<Hub>,
    /// By the number of the stream.
    pub(super) doors: RefCell<Vec<Option<Rc<Door>>>>,
    pub(super) is_reading: Cell<bool>,
    pub(super) is_closing: Cell<bool>,
    pub(super) known: Cell<Counts>,
    /// What watchers were allowed to watch, with `--auth-recheck-watches`; and the state of users that it was checked with last.
    pub(super) guards: RefCell<BTreeMap<(StreamKey, i64), Guard>>,
    pub(super) checked: Cell<(bool, u64)>,
    /// For the moments of progress notices, which should not coincide. Nothing has to be secret about them.
    pub(super) random: RefCell<SmallRng>,
}

/// The right of a watcher.
pub(super) struct Guard {
    pub(super) key: Bytes,
    pub(super) range_end: Bytes,
    pub(super) who: Credentials,
}

/// Who waits for a stream.
#[derive(Default)]
pub(super) struct Door {
    /// There are responses to send.
    pub(super) ready: Notify,
    /// There is room for answers.
    pub(super) room: Notify,
}

impl Watching {
    pub(super) fn new(id: CoreId) -> Self {
        let seed = clock::unix_ms() ^ (u64::from(id) << 48);
        Self {
            hub: RefCell::default(),
            doors: RefCell::default(),
            is_reading: Cell::default(),
            is_closing: Cell::default(),
            known: Cell::default(),
            guards: RefCell::default(),
            checked: Cell::default(),
            random: RefCell::new(SmallRng::seed_from_u64(seed)),
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    /// A part of `most`, different every time.
    pub(super) fn jitter(&self, most: Duration) -> Duration {
        most.mul_f64(self.random.borrow_mut().random::<f64>())
    }
}

/// What one front knows of the health of the member, and whom it tells.
#[derive(Default)]
pub(super) struct HealthWatches {
    pub(super) leaderless: Cell<Leaderless>,
    pub(super) complaint: Cell<Option<&'static str>>,
    pub(super) is_stopping: Cell<bool>,
    pub(super) streams: RefCell<Slab<Rc<Notify>>>,
    /// Streams that end when the leader is lost for long.
    pub(super) led: RefCell<Slab<Rc<Notify>>>,
}

/// Since when there has been no leader, as of the last tick.
#[derive(Clone, Copy, Default)]
pub(super) struct Leaderless {
    pub(super) since: Option<Instant>,
    pub(super) lasted: Duration,
}
