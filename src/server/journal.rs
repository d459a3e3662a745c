//! `--log-outputs=systemd/journal`: log lines as entries of systemd's journal, by its native protocol.
//!
//! An entry is one datagram of fields (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>), here all in the form for any bytes:
//!
//! | bytes | meaning |
//! |---|---|
//! | name, newline | `MESSAGE`, `PRIORITY`, `SYSLOG_IDENTIFIER` |
//! | 8, little-endian | length of the value |
//! | value, newline | |

use std::{io, os::unix::net::UnixDatagram, path::Path};

use tracing::Level;

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
const IDENTIFIER: &str = "ringd";

/// A connection to the journal.
pub(super) struct Journal(UnixDatagram);

impl Journal {
    pub(super) fn open(socket: &Path) -> io::Result<Self> {
        let datagrams = UnixDatagram::unbound()?;
        datagrams.connect(socket)?;
        // A journal that does not keep up must not hold up the threads that serve.
        datagrams.set_nonblocking(true)?;
        Ok(Self(datagrams))
    }

    /// Sends a line as one entry.
    ///
    /// # Errors
    /// The journal is gone, its queue is full, or the line is larger than a datagram may be: the caller writes it elsewhere.
    pub(super) fn write(&self, level: Level, line: &[u8]) -> io::Result<()> {
        self.0.send(&entry(level, line)).map(drop)
    }
}

fn entry(level: Level, line: &[u8]) -> Vec<u8> {
    let message = line.strip_suffix(b"\n").unwrap_or(line);
    let fields: [(&str, &[u8]); 3] =
        [("MESSAGE", message), ("PRIORITY", priority(level)), ("SYSLOG_IDENTIFIER", IDENTIFIER.as_bytes())];
    let mut entry = Vec::with_capacity(message.len() + 96);
    for (name, value) in fields {
        entry.extend_from_slice(name.as_bytes());
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        entry.extend_from_slice(value);
        entry.push(b'\n');
    }
    entry
}

/// The levels of syslog(3).
fn priority(level: Level) -> &'static [u8] {
    match level {
        Level::ERROR => b"3",
        Level::WARN => b"4",
        Level::INFO => b"6",
        Level::DEBUG | Level::TRACE => b"7",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_entry() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let receiver = UnixDatagram::bind(&path).expect("a socket");
        let journal = Journal::open(&path).expect("it listens");
        journal.write(Level::WARN, b"two\nlines\n").expect("sent");
        let mut received = [0; 256];
        let length = receiver.recv(&mut received).expect("one entry");
        let expected = b"MESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\nPRIORITY\n\x01\0\0\0\0\0\0\x004\n\
                         SYSLOG_IDENTIFIER\n\x05\0\0\0\0\0\0\0ringd\n";
        assert_eq!(&received[..length], expected);
    }

    #[test]
    fn a_journal_that_does_not_listen_or_is_full_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        assert!(Journal::open(&path).is_err());
        let _receiver = UnixDatagram::bind(&path).expect("a socket");
        let journal = Journal::open(&path).expect("it listens");
        let kind = loop {
            if let Err(error) = journal.write(Level::INFO, &[b'x'; 4096]) {
                break error.kind();
            }
        };
        assert_eq!(kind, io::ErrorKind::WouldBlock);
    }
}
