//! One watcher: its options, and its position.

use super::span::Span;

/// A stream of watchers. The key is reused after the stream was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(pub usize);

/// Place of a watcher in the hub.
pub(super) type WatcherKey = usize;

/// Watchers of a range with equal options get the same bytes.
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
    /// Asked for progress notifications.
    pub notify: bool,
    /// Has got no event since the last tick.
    pub is_quiet: bool,
    /// Start revision asked for; 0 for none.
    pub start: i64,
    /// Events below this revision are before its start, or were queued already.
    pub next: i64,
    pub place: Place,
}

/// The index that holds a watcher.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// In no index. Valid only during one call.
    Nowhere,
    /// It has every change that the hub has seen.
    Synced(Seat),
    /// It reads history, together with other watchers of a run of its stream.
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
