//! The network between members: it loses, doubles, delays and reorders messages, and cuts links.
//!
//! | fault | what happens to a message |
//! |---|---|
//! | loss | it is gone |
//! | doubling | it arrives twice, at two times; not a forwarded request, which would be two requests, and a connection doubles nothing |
//! | delay | it arrives at a random time; in `in_order` no earlier than those before it on its link |
//! | cut | it is gone, if the cut of its link covers its kind |
//! | clog | it waits until the clog ends |
//! | capacity | it is gone, if too many are under way on its link |
//!
//! Links are directed, so a cut may be of one way only.

use std::collections::BTreeMap;

use rand::{Rng, rngs::SmallRng};

use crate::proto::raftpb::MessageType;

/// Rates of the network's faults, in per mille.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    pub lost: u32,
    pub doubled: u32,
    pub delay_us_max: u64,
    /// Messages of one link keep their order, as on one connection.
    pub in_order: bool,
    /// Messages under way on one link; 0 for any number.
    pub capacity: usize,
}

/// From a member to another.
pub type Link = (u64, u64);

/// The messages that a cut covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    All,
    Appends,
    Heartbeats,
    Votes,
    Reads,
    Snapshots,
}

impl Cut {
    /// Every kind of cut.
    pub const KINDS: [Self; 6] =
        [Self::All, Self::Appends, Self::Heartbeats, Self::Votes, Self::Reads, Self::Snapshots];

    fn covers(self, kind: MessageType) -> bool {
        use MessageType::*;
        match self {
            Self::All => true,
            Self::Appends => matches!(kind, MsgApp | MsgAppResp),
            Self::Heartbeats => matches!(kind, MsgHeartbeat | MsgHeartbeatResp),
            Self::Votes => {
                matches!(kind, MsgVote | MsgVoteResp | MsgPreVote | MsgPreVoteResp | MsgTimeoutNow | MsgTransferLeader)
            }
            Self::Reads => matches!(kind, MsgReadIndex | MsgReadIndexResp),
            Self::Snapshots => matches!(kind, MsgSnap),
        }
    }
}

/// What happens to one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    Lost,
    /// It arrives at these times.
    Arrives(Vec<u64>),
}

#[derive(Debug, Default)]
pub struct Network {
    rates: Rates,
    cuts: BTreeMap<Link, Cut>,
    /// When the clog of a link ends.
    clogs: BTreeMap<Link, u64>,
    under_way: BTreeMap<Link, usize>,
    /// The last arrival on a link.
    last: BTreeMap<Link, u64>,
}

/// Delay at most when there are no faults.
const CALM_DELAY_US: u64 = 2_000;

impl Network {
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        Self { rates, ..Self::default() }
    }

    /// Decides what happens to a message that is sent now. [`Network::arrived`] follows for each arrival.
    pub fn route(&mut self, random: &mut SmallRng, now_us: u64, link: Link, kind: MessageType) -> Route {
        let per_mille = |random: &mut SmallRng, rate| random.random_range(0..1000) < rate;
        let is_cut = self.cuts.get(&link).is_some_and(|cut| cut.covers(kind));
        let is_lost = per_mille(random, self.rates.lost);
        let is_once = matches!(kind, MessageType::MsgSnap | MessageType::MsgProp);
        let is_doubled = per_mille(random, self.rates.doubled) && !is_once;
        let under_way = self.under_way.entry(link).or_default();
        if is_cut || is_lost || self.rates.capacity > 0 && *under_way >= self.rates.capacity {
            return Route::Lost;
        }
        let from_us = self.clogs.get(&link).copied().unwrap_or(0).max(now_us);
        let mut times = vec![from_us + random.random_range(0..=self.rates.delay_us_max)];
        if is_doubled {
            times.push(from_us + random.random_range(0..=2 * self.rates.delay_us_max));
        }
        if self.rates.in_order {
            let last = self.last.entry(link).or_default();
            times.iter_mut().for_each(|time| *time = (*time).max(*last + 1));
            times.sort_unstable();
            *last = times[times.len() - 1];
        }
        *under_way += times.len();
        Route::Arrives(times)
    }

    /// A message has left its link.
    pub fn arrived(&mut self, link: Link) {
        if let Some(under_way) = self.under_way.get_mut(&link) {
            *under_way = under_way.saturating_sub(1);
        }
    }

    pub fn cut(&mut self, link: Link, cut: Cut) {
        self.cuts.insert(link, cut);
    }

    pub fn clog(&mut self, link: Link, until_us: u64) {
        self.clogs.insert(link, until_us);
    }

    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.cuts.is_empty()
    }

    /// All cuts end.
    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    /// One cut ends.
    pub fn mend(&mut self, link: Link) {
        self.cuts.remove(&link);
    }

    /// The links that are cut.
    #[must_use]
    pub fn cut_links(&self) -> Vec<Link> {
        self.cuts.keys().copied().collect()
    }

    /// All faults end, those of links that lead to or from members outside of `core` excepted: these are cut for good.
    pub fn calm(&mut self, core: &[u64], members: &[u64]) {
        self.rates = Rates { delay_us_max: CALM_DELAY_US, in_order: self.rates.in_order, ..Rates::default() };
        self.cuts.clear();
        self.clogs.clear();
        for from in members {
            for to in members {
                if !core.contains(from) || !core.contains(to) {
                    self.cuts.insert((*from, *to), Cut::All);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn network(rates: Rates) -> (Network, SmallRng) {
        (Network::new(rates), SmallRng::seed_from_u64(1))
    }

    #[test]
    fn cuts_cover_one_way_and_one_kind() {
        let (mut network, mut random) = network(Rates::default());
        network.cut((1, 2), Cut::Appends);
        let mut route = |link, kind| network.route(&mut random, 5, link, kind);
        assert_eq!(route((1, 2), MessageType::MsgApp), Route::Lost);
        assert_eq!(route((1, 2), MessageType::MsgHeartbeat), Route::Arrives(vec![5]));
        assert_eq!(route((2, 1), MessageType::MsgApp), Route::Arrives(vec![5]));
    }

    #[test]
    fn order_capacity_and_clogs_hold() {
        let (mut network, mut random) =
            network(Rates { delay_us_max: 1000, in_order: true, capacity: 50, ..Rates::default() });
        let mut last = 0;
        for _ in 0..50 {
            let Route::Arrives(times) = network.route(&mut random, 0, (1, 2), MessageType::MsgApp) else {
                panic!("there is room")
            };
            assert!(times[0] > last);
            last = times[0];
        }
        assert_eq!(network.route(&mut random, 0, (1, 2), MessageType::MsgApp), Route::Lost);
        network.arrived((1, 2));
        network.clog((1, 2), 9_000);
        let Route::Arrives(times) = network.route(&mut random, 0, (1, 2), MessageType::MsgApp) else {
            panic!("there is room again")
        };
        assert!(times[0] >= 9_000);
    }
}
