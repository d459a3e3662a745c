//! HPACK's tables (RFC 7541, section 2.3): 61 fixed fields, then those that the other side has added, youngest first.
//!
//! Invariants
//! 1. `size_bytes` is the sum of the entries' sizes, and at most `size_bytes_max`, which is at most TABLE_BYTES_MAX.
//! 2. `changes` grows with every change: bytes that only refer to the table mean the same as long as it stays.

use std::collections::VecDeque;

use super::Malformed;

/// The largest size of the dynamic table: HTTP/2's default, which this side never raises.
const TABLE_BYTES_MAX: usize = 4096;
/// The size of an entry beyond its text (section 4.1).
pub(in crate::rpc) const ENTRY_COST_BYTES: usize = 32;

/// Appendix A.
#[rustfmt::skip]
const FIXED: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The dynamic table, and the view of both.
pub(super) struct Table {
    entries: VecDeque<Entry>,
    size_bytes: usize,
    size_bytes_max: usize,
    pub changes: u64,
}

struct Entry {
    text: Box<[u8]>,
    name_length: usize,
}

impl Entry {
    fn size_bytes(&self) -> usize {
        self.text.len() + ENTRY_COST_BYTES
    }
}

impl Table {
    pub(super) fn new() -> Table {
        Table { entries: VecDeque::new(), size_bytes: 0, size_bytes_max: TABLE_BYTES_MAX, changes: 0 }
    }

    /// Name and value at a position, which counts from 1.
    pub(super) fn field(&self, index: usize) -> Result<(&[u8], &[u8]), Malformed> {
        let position = index.checked_sub(1).ok_or(Malformed)?;
        if let Some((name, value)) = FIXED.get(position) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let entry = self.entries.get(position - FIXED.len()).ok_or(Malformed)?;
        Ok(entry.text.split_at(entry.name_length))
    }

    /// Adds a field; the oldest make room. One that is larger than the table empties it.
    pub(super) fn add(&mut self, name: &[u8], value: &[u8]) {
        self.changes += 1;
        let size_bytes = name.len() + value.len() + ENTRY_COST_BYTES;
        self.shrink_to(self.size_bytes_max.saturating_sub(size_bytes));
        if size_bytes <= self.size_bytes_max {
            self.size_bytes += size_bytes;
            let text = [name, value].concat().into_boxed_slice();
            self.entries.push_front(Entry { text, name_length: name.len() });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The other side's choice of a size.
    pub(super) fn resize(&mut self, size_bytes_max: usize) -> Result<(), Malformed> {
        if size_bytes_max > TABLE_BYTES_MAX {
            return Err(Malformed);
        }
        self.changes += 1;
        self.size_bytes_max = size_bytes_max;
        self.shrink_to(size_bytes_max);
        Ok(())
    }

    fn shrink_to(&mut self, size_bytes: usize) {
        while self.size_bytes > size_bytes {
            let oldest = self.entries.pop_back().expect("a table with a size has entries");
            self.size_bytes -= oldest.size_bytes();
        }
    }
}
