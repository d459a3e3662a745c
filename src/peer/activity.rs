//! Which members are connected, for every core to see.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The links write it, every core may read it.
#[derive(Debug, Default)]
pub struct Activity {
    peers: Mutex<BTreeMap<u64, Contact>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Contact {
    since: Option<Instant>,
    rtt: Option<Duration>,
}

impl Activity {
    /// Since when this member is connected; `None` if it is not, or is no peer.
    pub fn since(&self, id: u64) -> Option<Instant> {
        self.peers().get(&id)?.since
    }

    /// The smoothed time of a round trip to this member, once one was measured.
    pub fn rtt(&self, id: u64) -> Option<Duration> {
        self.peers().get(&id)?.rtt
    }

    /// How many peers are connected.
    pub fn connected(&self) -> usize {
        self.peers().values().filter(|contact| contact.since.is_some()).count()
    }

    pub(super) fn set_since(&self, id: u64, since: Option<Instant>) {
        self.peers().entry(id).or_default().since = since;
    }

    pub(super) fn set_rtt(&self, id: u64, rtt: Duration) {
        self.peers().entry(id).or_default().rtt = Some(rtt);
    }

    pub(super) fn forget(&self, id: u64) {
        self.peers().remove(&id);
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<u64, Contact>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
