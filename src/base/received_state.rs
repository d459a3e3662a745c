//! Where a state received from another member stands until it takes the page file's place.

/// Name of a received state beside the page file, as etcd's: the index in 16 hexadecimal digits.
#[must_use]
pub fn received_name(index: u64) -> String {
    format!("{index:016x}.snap.db")
}
