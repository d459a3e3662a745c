//! One watcher: what it wants, and how far it is.

use super::span::Span;

/// A stream of watchers; given out again after it was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(pub usize);

/// Place of a watcher in the hub.
pub(super) type WatcherKey = usize;

/// Watchers of a range that are alike in this get the same bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    pub prev_kv: bool,
    pub no_put: bool,
    pub no_delete: bool,
}

#[derive(Debug)]
pub(super) struct Watcher {
    pub stream: StreamKey,
    pub id: i64,
    pub span: Span,
    pub wish: Wish,
    pub fragment: bool,
    /// Wants to hear of progress from time to time.
    pub notify: bool,
    /// Got no event since the last tick.
    pub is_quiet: bool,
    /// Start revision asked for; 0 for none.
    pub start: i64,
    /// Events below this revision are not for it, or were queued already.
    pub next: i64,
    pub place: Place,
}

/// Where a watcher is found by the keys that change.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// Not for longer than a call.
    Nowhere,
    /// It has everything the hub has seen.
    Synced(Seat),
    /// It reads history, together with the others of a run of its stream.
    Behind { run: u64, seat: Seat },
}

/// The place of a watcher in the index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    /// Key of the group of its span.
    pub group: usize,
    /// Position in that group.
    pub at: usize,
}
