//! The keys of a watcher: one key, or an interval of keys.

use bytes::Bytes;

use crate::base::interval_tree::Interval;

/// The keys of a watcher, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    Key(Bytes),
    Range(Interval),
}

/// The range of a request holds no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mvcc: watcher range is empty")]
pub struct EmptyRange;

impl Span {
    /// From `key` and `range_end` of a request: an empty key is the smallest one, an empty end means the single key, one zero
    /// byte no upper bound.
    ///
    /// # Errors
    /// The end is not after the key.
    pub fn new(key: &[u8], range_end: &[u8]) -> Result<Self, EmptyRange> {
        // Copies, because the request's bytes belong to a larger buffer.
        let start = Bytes::copy_from_slice(if key.is_empty() { &[0] } else { key });
        match range_end {
            [] => Ok(Self::Key(start)),
            [0] => Ok(Self::Range(Interval { start, end: None })),
            end if start >= end => Err(EmptyRange),
            end => Ok(Self::Range(Interval { start, end: Some(Bytes::copy_from_slice(end)) })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conventions_are_etcds() {
        let range = |start: &'static [u8], end: Option<&'static [u8]>| {
            Ok(Span::Range(Interval { start: Bytes::from_static(start), end: end.map(Bytes::from_static) }))
        };
        assert_eq!(Span::new(b"", b""), Ok(Span::Key(Bytes::from_static(b"\0"))));
        assert_eq!(Span::new(b"", b"\0"), range(b"\0", None));
        assert_eq!(Span::new(b"a", b"\0"), range(b"a", None));
        assert_eq!(Span::new(b"a", b"b"), range(b"a", Some(b"b")));
        assert_eq!(Span::new(b"b", b"b"), Err(EmptyRange));
        assert_eq!(Span::new(b"b", b"a"), Err(EmptyRange));
    }
}
