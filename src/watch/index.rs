//! The watchers of a key: single keys by hash, ranges by interval tree.
//!
//! ```text
//!   key ─▶ keys (hash) ──┐
//!       └▶ ranges (tree) ┴─▶ groups, one per distinct span ─▶ classes, one per set of options ─▶ one builder each
//! ```
//!
//! Finding costs O(log n + groups found), encoding one copy of the record per class, however many watchers a class has: a
//! thousand streams on one prefix share the bytes of a response.

use ahash::HashMap;
use bytes::Bytes;
use slab::Slab;

use super::{
    chunk::{Builder, Built},
    span::Span,
    watcher::{Seat, Watcher, WatcherKey, Wish},
};
use crate::{
    base::interval_tree::IntervalTree,
    mvcc::{ChangeKind, Error, EventRecord, Failure, View},
};

type GroupKey = usize;

/// Watchers by what they watch.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: HashMap<Bytes, GroupKey>,
    ranges: IntervalTree<GroupKey>,
    groups: Slab<Group>,
    /// Groups with classes, in the order in which events reached them.
    touched: Vec<GroupKey>,
    /// Buffer for the groups of one event.
    found: Vec<GroupKey>,
}

/// All watchers of one span.
#[derive(Debug)]
struct Group {
    span: Span,
    members: Vec<WatcherKey>,
    /// From the first event until the chunks are taken.
    classes: Vec<Class>,
}

/// Watchers of a group that get the same events in the same form.
#[derive(Debug)]
struct Class {
    wish: Wish,
    /// No member gets events below this revision. Some may start later and get only a part of the chunks.
    from: i64,
    members: Vec<WatcherKey>,
    builder: Builder,
}

/// The same for all of `members`.
pub(super) struct Delivery {
    pub members: Vec<WatcherKey>,
    pub built: Built,
}

/// How events are added.
#[derive(Clone, Copy, Debug)]
pub(super) struct Feed {
    /// No event comes below this revision.
    pub floor: i64,
    pub is_live: bool,
}

impl Index {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Gives a watcher its seat.
    pub(super) fn add(&mut self, span: &Span, watcher: WatcherKey) -> Seat {
        let known = match span {
            Span::Key(key) => self.keys.get(key),
            Span::Range(interval) => self.ranges.get(interval),
        };
        let group = known.copied().unwrap_or_else(|| {
            let group = self.groups.insert(Group { span: span.clone(), members: Vec::new(), classes: Vec::new() });
            match span {
                Span::Key(key) => drop(self.keys.insert(key.clone(), group)),
                Span::Range(interval) => self.ranges.insert(interval.clone(), group),
            }
            group
        });
        let members = &mut self.groups[group].members;
        members.push(watcher);
        Seat { group, at: members.len() - 1 }
    }

    /// Removes a watcher. Returns the watcher that was moved into its seat.
    pub(super) fn remove(&mut self, seat: Seat) -> Option<WatcherKey> {
        let group = &mut self.groups[seat.group];
        let watcher = group.members.swap_remove(seat.at);
        group.classes.iter_mut().for_each(|class| class.members.retain(|member| *member != watcher));
        let moved = group.members.get(seat.at).copied();
        if group.members.is_empty() {
            match &group.span {
                Span::Key(key) => drop(self.keys.remove(key)),
                Span::Range(interval) => drop(self.ranges.remove(interval)),
            }
            self.groups.remove(seat.group);
            self.touched.retain(|group| *group != seat.group);
        }
        moved
    }

    /// All watchers, in an order that has no meaning but is the same for the same inputs.
    pub(super) fn members(&self) -> Vec<WatcherKey> {
        self.groups.iter().flat_map(|(_, group)| group.members.iter().copied()).collect()
    }

    /// Adds an event to the chunks of the watchers of its key. Returns the bytes added.
    pub(super) fn feed(
        &mut self,
        event: &EventRecord<'_>,
        feed: Feed,
        view: &View,
        watchers: &Slab<Watcher>,
    ) -> Result<usize, Failure> {
        let mut found = std::mem::take(&mut self.found);
        found.extend(self.keys.get(event.key));
        self.ranges.at_point(event.key, &mut |group| found.push(*group));
        let mut previous = Previous::Unread;
        let mut bytes = 0;
        for key in found.drain(..) {
            let group = &mut self.groups[key];
            if group.classes.is_empty() {
                group.classes = classes(&group.members, feed, watchers);
                self.touched.push(key);
            }
            for class in &mut group.classes {
                if !class.wants(event) {
                    continue;
                }
                let before = if class.wish.prev_kv { previous.read(event, view)? } else { None };
                bytes += class.builder.append(event, before);
            }
        }
        self.found = found;
        Ok(bytes)
    }

    /// Takes the chunks, without the events of a revision that may not be complete.
    pub(super) fn finish(&mut self, incomplete: Option<i64>) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        for key in std::mem::take(&mut self.touched) {
            for class in std::mem::take(&mut self.groups[key].classes) {
                let built = class.builder.finish(incomplete);
                deliveries.push(Delivery { members: class.members, built });
            }
        }
        deliveries
    }

    /// Drops the chunks.
    pub(super) fn forget(&mut self) {
        for key in std::mem::take(&mut self.touched) {
            self.groups[key].classes.clear();
        }
    }
}

fn classes(members: &[WatcherKey], feed: Feed, watchers: &Slab<Watcher>) -> Vec<Class> {
    let mut groups: Vec<(Wish, Vec<WatcherKey>)> = Vec::new();
    for key in members {
        let wish = watchers[*key].wish;
        // There are at most eight combinations of options.
        match groups.iter_mut().find(|(other, _)| *other == wish) {
            Some((_, alike)) => alike.push(*key),
            None => groups.push((wish, vec![*key])),
        }
    }
    let class = |(wish, members): (Wish, Vec<WatcherKey>)| {
        let from = members.iter().map(|key| watchers[*key].next).min().unwrap_or(0);
        let has_late = members.iter().any(|key| watchers[*key].next > feed.floor);
        Class { wish, from, members, builder: Builder::new(feed.is_live, has_late) }
    };
    groups.into_iter().map(class).collect()
}

impl Class {
    fn wants(&self, event: &EventRecord<'_>) -> bool {
        let is_filtered = match event.kind {
            ChangeKind::Put => self.wish.no_put,
            ChangeKind::Delete => self.wish.no_delete,
        };
        !is_filtered && event.revision.main >= self.from
    }
}

/// The version before an event, read when the first class needs it.
enum Previous<'v> {
    Unread,
    Read(Option<&'v [u8]>),
}

impl<'v> Previous<'v> {
    /// As in etcd: the version of the key at the revision before, if that is not compacted.
    fn read(&mut self, event: &EventRecord<'_>, view: &'v View) -> Result<Option<&'v [u8]>, Failure> {
        if let Self::Read(known) = self {
            return Ok(*known);
        }
        let found = match event.revision.main - 1 {
            _ if event.is_create() => None,
            // A read at revision zero would return the newest.
            0 => None,
            revision => match view.get(event.key, revision) {
                Ok(found) => found,
                Err(Error::Refused(_)) => None,
                Err(Error::Failed(failure)) => return Err(failure),
            },
        };
        *self = Self::Read(found);
        Ok(found)
    }
}
