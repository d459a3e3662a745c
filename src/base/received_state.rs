//! How a database received from another member is called until it takes the page file's place.

/// Its name beside the page file, as etcd's: the index in 16 hexadecimal digits.
#[must_use]
pub fn file_name(index: u64) -> String {
    format!("{index:016x}.snap.db")
}
