//! One side of a TLS connection without its socket: rustls between encrypted bytes and plain ones.
//!
//! rustls' unbuffered connection reads records where the socket has put them, so that a record is copied once on its way in, and once
//! on its way out.

use std::io;

use rustls::{
    CommonState, Error, InvalidMessage,
    client::UnbufferedClientConnection,
    pki_types::CertificateDer,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus},
};

use super::words;

/// What a record adds to its content, at most: head, nonce, type and tag.
const RECORD_OVERHEAD_BYTES: usize = 64;
/// The content of a record.
const FRAGMENT_BYTES: usize = 16 * 1024;

pub(super) enum Session {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// What is to leave once the session may send.
#[derive(Clone, Copy)]
pub(super) enum Wish<'a> {
    Nothing,
    Send(&'a [u8]),
    /// Nothing more will come.
    Close,
}

/// What a pass over received bytes has left.
pub(super) struct Passed {
    /// So many bytes at the front are done with.
    pub(super) used: usize,
    /// The other side has said that nothing more will come.
    pub(super) has_ended: bool,
}

/// What follows a state.
enum Step {
    Again,
    PeerClosed,
    Rest,
}

impl Session {
    fn common(&self) -> &CommonState {
        match self {
            Self::Server(session) => session,
            Self::Client(session) => session,
        }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    /// The other side's certificates, its own first; none if it showed none.
    pub(super) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.common().peer_certificates().map(<[_]>::to_vec).unwrap_or_default()
    }

    /// The protocol that both sides have agreed on; empty if on none.
    pub(super) fn protocol(&self) -> &[u8] {
        self.common().alpn_protocol().unwrap_or_default()
    }

    /// Processes all whole records of `received`: content goes to `take`, and what is to be sent is added to `sealed`. Bytes that are
    /// not used come again, in front of later ones.
    pub(super) fn pass(
        &mut self,
        received: &mut [u8],
        sealed: &mut Vec<u8>,
        wish: Wish<'_>,
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<Passed> {
        let mut passed = Passed { used: 0, has_ended: false };
        loop {
            let rest = &mut received[passed.used..];
            let (discard, step) = match self {
                Self::Server(session) => carry_out(session.process_tls_records(rest), sealed, wish, &mut take),
                Self::Client(session) => carry_out(session.process_tls_records(rest), sealed, wish, &mut take),
            };
            passed.used += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::PeerClosed) => passed.has_ended = true,
                Ok(Step::Rest) => return Ok(passed),
                Err(error) => {
                    if !speaks_no_tls(&error) {
                        self.add_alert(&mut received[passed.used..], sealed);
                    }
                    return Err(io::Error::new(io::ErrorKind::InvalidData, words::of(&error)));
                }
            }
        }
    }

    /// After a fault of the other side: what it is told.
    fn add_alert(&mut self, rest: &mut [u8], sealed: &mut Vec<u8>) {
        // What comes out first was queued by the fault; whatever else there is does not matter any more.
        let _told = match self {
            Self::Server(session) => carry_out(session.process_tls_records(rest), sealed, Wish::Nothing, &mut |_| {}).1,
            Self::Client(session) => carry_out(session.process_tls_records(rest), sealed, Wish::Nothing, &mut |_| {}).1,
        };
    }
}

/// Whoever sends something else than TLS would not understand an alert.
fn speaks_no_tls(error: &Error) -> bool {
    matches!(error, Error::InvalidMessage(InvalidMessage::InvalidContentType))
}

fn carry_out<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    sealed: &mut Vec<u8>,
    wish: Wish<'_>,
    take: &mut impl FnMut(&[u8]),
) -> (usize, Result<Step, Error>) {
    let mut discard = status.discard;
    let step = status.state.and_then(|state| match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                discard += record.discard;
                take(record.payload);
            }
            Ok(Step::Again)
        }
        ConnectionState::EncodeTlsData(mut data) => {
            grow(sealed, 0, |into| match data.encode(into) {
                Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => Err(required_size),
                other => Ok(other.unwrap_or(0)),
            });
            Ok(Step::Again)
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Step::Again)
        }
        ConnectionState::PeerClosed => Ok(Step::PeerClosed),
        ConnectionState::WriteTraffic(mut traffic) => {
            let (bytes, mut is_exhausted) = (if let Wish::Send(bytes) = wish { bytes } else { &[] }, false);
            let overhead = (bytes.len() / FRAGMENT_BYTES + 1) * RECORD_OVERHEAD_BYTES;
            grow(sealed, bytes.len() + overhead, |into| {
                let written = match wish {
                    Wish::Nothing => Ok(0),
                    Wish::Send(bytes) => traffic.encrypt(bytes, into),
                    Wish::Close => traffic.queue_close_notify(into),
                };
                match written {
                    Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => Err(required_size),
                    Err(EncryptError::EncryptExhausted) => {
                        is_exhausted = true;
                        Ok(0)
                    }
                    Ok(count) => Ok(count),
                }
            });
            if is_exhausted { Err(Error::EncryptError) } else { Ok(Step::Rest) }
        }
        ConnectionState::BlockedHandshake => Ok(Step::Rest),
        ConnectionState::Closed if matches!(wish, Wish::Nothing) => Ok(Step::Rest),
        ConnectionState::Closed => Err(Error::EncryptError),
        // Early data is never offered.
        _ => Err(Error::General("unexpected state".to_owned())),
    });
    (discard, step)
}

/// Appends what `write` writes, which says how many bytes it has written, or how many it needs.
fn grow(sealed: &mut Vec<u8>, guess: usize, mut write: impl FnMut(&mut [u8]) -> Result<usize, usize>) {
    let (end, mut room) = (sealed.len(), guess);
    loop {
        sealed.resize(end + room, 0);
        match write(&mut sealed[end..]) {
            Ok(count) => return sealed.truncate(end + count),
            Err(needed) => room = needed.max(room + 1),
        }
    }
}
