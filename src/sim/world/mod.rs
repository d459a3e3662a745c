//! Whole clusters in one thread: machines with clocks and disks, a network, clients, faults, and the checkers of all they show.
//! One seed decides everything.
//!
//! ```text
//!   queue by virtual time ─▶ event ─▶ member.step ─▶ effects ─▶ events (messages, timers, answers)
//!                              │                        └─▶ checkers (views, changes, answers, watch responses)
//!                              ├─▶ clients ask
//!                              └─▶ faults
//! ```
//!
//! A run has three phases:
//!
//! | phase | faults | must hold |
//! |---|---|---|
//! | safety | those that the seed has drawn | all checkers, at every event |
//! | progress | the rest of the members is frozen as it is, and cut off for good | a quorum, which works without faults, serves again within bounded time |
//! | calm | none | all members agree, every lease ends, every watcher has everything, queues are empty |
//!
//! Fault budget: what is durable at a majority stays. One log at most is damaged at a time, and never as much as half of the voters;
//! its machine is replaced by a new one. A member that a change removes is gone with its disk.
//!
//! | file | holds |
//! |---|---|
//! | `state` | machines, clients, events, counts |
//! | `machines` | starts, steps, effects, messages |
//! | `faults` | what is broken, and when |
//! | `clients` | requests, their answers, their time-outs |
//! | `kv`, `reading`, `watching`, `leasing`, `locking`, `operating`, `members` | one kind of client each |
//! | `phases` | a whole run, and its end |

mod clients;
mod faults;
mod kv;
mod leasing;
mod locking;
mod machines;
mod members;
mod operating;
mod phases;
mod reading;
#[cfg(test)]
mod scenario_tests;
mod state;
mod watching;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};

pub use self::state::Counts;
use self::state::{Client, Event, Machine, Pending};
use super::{
    checkers::{agreement::Agreement, journal::Journal, leases::Leases, linearizable::Operation, order::Order},
    network::Network,
    options::Options,
    story::{Kind, Story},
};
use crate::cluster::membership::Membership;

/// Sources of chance, apart from each other: without one fault the others stay as they were, as far as that is possible.
struct Chance {
    network: SmallRng,
    faults: SmallRng,
    clients: SmallRng,
    schedule: SmallRng,
}

/// A world at work.
pub struct World {
    options: Options,
    chance: Chance,
    now_us: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Event>,
    machines: BTreeMap<u64, Machine>,
    network: Network,
    clients: Vec<Client>,
    pending: BTreeMap<u64, Pending>,
    /// The last id of a request, value, lease.
    last_id: u64,
    /// Number of calls and returns so far.
    ticks: u64,
    /// No faults any more.
    is_calm: bool,
    /// Clients begin nothing new.
    is_quiet: bool,
    /// Number of injected faults so far.
    injected: u64,
    /// When a change of the members was asked for last.
    changed_us: Option<u64>,
    /// How far all clocks have jumped.
    jumped_us: u64,
    /// The members after the newest applied entry that anybody has shown.
    membership: (u64, Option<Arc<Membership>>),
    /// Whether there is an alarm then.
    has_alarm: bool,
    journal: Journal,
    agreement: Agreement,
    order: Order,
    leases: Leases,
    registers: Vec<Operation>,
    story: Story,
    counts: Counts,
    states: BTreeSet<u64>,
}

/// A violated condition.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}")]
pub struct Violation {
    pub what: String,
    /// Events until then.
    pub events: u64,
    /// Faults injected until then.
    pub faults: u64,
    pub story: String,
}

/// A run without violations.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub counts: Counts,
    /// Hashes of the different states that the cluster was in.
    pub states: BTreeSet<u64>,
}

impl World {
    /// Runs a world to its end.
    ///
    /// # Errors
    /// A condition is violated.
    pub fn run(options: &Options) -> Result<Report, Violation> {
        let mut world = Self::new(options.clone());
        // An assertion of the core that fails is a violation, too.
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run_phases()));
        let ran = ran.unwrap_or_else(|panic| Err(format!("an assertion failed: {}", panic_text(&*panic))));
        world.counts.virtual_ms = world.now_us / 1000;
        match ran {
            Ok(()) => Ok(Report { counts: world.counts, states: world.states }),
            Err(what) => {
                Err(Violation { what, events: world.counts.events, faults: world.injected, story: world.story.tell() })
            }
        }
    }

    fn new(options: Options) -> Self {
        let mut seeds = SmallRng::seed_from_u64(options.seed);
        let mut source = || SmallRng::seed_from_u64(seeds.random());
        let chance = Chance { network: source(), faults: source(), clients: source(), schedule: source() };
        let mut world = Self {
            network: Network::new(options.network),
            options,
            chance,
            now_us: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            machines: BTreeMap::new(),
            clients: Vec::new(),
            pending: BTreeMap::new(),
            last_id: 1,
            ticks: 0,
            is_calm: false,
            is_quiet: false,
            injected: 0,
            changed_us: None,
            jumped_us: 0,
            membership: (0, None),
            has_alarm: false,
            journal: Journal::default(),
            agreement: Agreement::default(),
            order: Order::default(),
            leases: Leases::default(),
            registers: Vec::new(),
            story: Story::default(),
            counts: Counts::default(),
            states: BTreeSet::new(),
        };
        world.found();
        world.add_clients();
        world.at(10_000, Event::Fault);
        world
    }

    fn note(&mut self, kind: Kind, line: String) {
        self.story.note(self.now_us, kind, line);
    }

    fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn at(&mut self, after_us: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now_us + after_us, self.sequence), event);
    }

    fn soon(&mut self, max_us: u64, event: Event) {
        let after_us = self.chance.schedule.random_range(0..=max_us);
        self.at(after_us, event);
    }

    /// Takes the next event from the queue.
    fn event(&mut self) -> Result<(), String> {
        let ((now_us, _), event) = self.queue.pop_first().expect("clients and timers never end");
        self.now_us = now_us;
        if let Some(id) = event.member()
            && let Some(machine) = self.machines.get_mut(&id)
            && machine.paused_until_us > now_us
        {
            machine.held.push(event);
            return Ok(());
        }
        self.counts.events += 1;
        match event {
            Event::Boot { member } => self.boot(member),
            Event::Crash { member, epoch, is_power_cut } => {
                if !self.is_calm && self.running(member, epoch).is_some() {
                    self.crash(member, is_power_cut);
                }
                Ok(())
            }
            Event::Resume { member } => {
                self.resume(member);
                Ok(())
            }
            Event::Step { member, epoch, input } => {
                self.step(member, epoch, *input)?;
                self.turn_soon(member);
                Ok(())
            }
            Event::Turn { member, epoch } => self.turn(member, epoch),
            Event::Timer { member, epoch, timer } => self.on_timer(member, epoch, timer),
            Event::Work { member, epoch } => self.work(member, epoch),
            Event::Deliver { from, to, message, image } => {
                let kind = message.r#type();
                self.deliver(from, to, *message, image)?;
                self.ambush(to, from, kind);
                Ok(())
            }
            Event::Dial { from, epoch, to } => {
                self.on_dial(from, epoch, to);
                Ok(())
            }
            Event::ToldRemoved { by, member, epoch } => {
                self.on_told_removed(by, member, epoch);
                Ok(())
            }
            Event::Changes { member, epoch } => self.on_changes(member, epoch),
            Event::Read { member, epoch } => self.read_history(member, epoch),
            Event::Taken { client, member, epoch, stream } => self.on_taken(client, member, epoch, stream),
            Event::Client { client } => self.on_client(client),
            Event::Fault => self.on_fault(),
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
