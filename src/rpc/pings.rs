//! A client's pings: counted in the input, and limited as in grpc-go.
//!
//! h2 answers pings by itself and does not report them, so `intake` counts them, and a [`FrameWalker`] follows the frames of
//! the output: a large answer leaves h2 in pieces, and a client pings between them to measure the bandwidth.
//! A [`PingPolicy`] decides: a ping that follows the one before too closely is a strike, any frame that the server sends on a
//! stream clears all strikes, and the third strike ends the connection with `too_many_pings`.

use std::time::{Duration, Instant};

use crate::base::limits::PING_STRIKES_MAX;

const HEADER_BYTES: usize = 9;
const TYPE_DATA: u8 = 0;
const TYPE_HEADERS: u8 = 1;
const TYPE_GO_AWAY: u8 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;
const TOO_MANY_PINGS: &[u8] = b"too_many_pings";

/// Without streams a ping is expected at most this often (grpc-go's `defaultPingTimeout`).
const IDLE_PING_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);

/// Follows frame boundaries through the bytes that a server sends.
#[derive(Default)]
pub(super) struct FrameWalker {
    /// Bytes until the next frame header.
    skip: usize,
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    /// Headers or data were written since the last [`FrameWalker::take_on_stream`].
    on_stream: bool,
}

impl FrameWalker {
    pub(super) fn walk(&mut self, mut bytes: &[u8]) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let filled = (HEADER_BYTES - self.header_filled).min(bytes.len());
            self.header[self.header_filled..self.header_filled + filled].copy_from_slice(&bytes[..filled]);
            self.header_filled += filled;
            bytes = &bytes[filled..];
            if self.header_filled < HEADER_BYTES {
                return;
            }
            self.header_filled = 0;
            let [a, b, c, kind, ..] = self.header;
            self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
            self.on_stream |= kind == TYPE_DATA || kind == TYPE_HEADERS;
        }
    }

    pub(super) fn take_on_stream(&mut self) -> bool {
        std::mem::take(&mut self.on_stream)
    }
}

/// Decides whether a client pings too often.
pub(super) struct PingPolicy {
    interval_min: Duration,
    last: Option<Instant>,
    strikes: u32,
}

impl PingPolicy {
    /// `interval_min` is `--grpc-keepalive-min-time`.
    pub(super) fn new(interval_min: Duration) -> PingPolicy {
        PingPolicy { interval_min, last: None, strikes: 0 }
    }

    /// A frame was sent on a stream since the last ping.
    pub(super) fn forgive(&mut self) {
        self.strikes = 0;
        self.last = None;
    }

    /// `true` if the connection must be closed.
    pub(super) fn on_ping(&mut self, now: Instant, has_streams: bool) -> bool {
        let interval = if has_streams { self.interval_min } else { IDLE_PING_INTERVAL };
        if self.last.is_some_and(|last| now < last + interval) {
            self.strikes += 1;
        }
        self.last = Some(now);
        self.strikes > PING_STRIKES_MAX
    }
}

/// The GOAWAY for too many pings. grpc-go's client recognises its text and pings less often afterwards.
pub(super) fn too_many_pings(last_stream: u32) -> Vec<u8> {
    let length = 8 + TOO_MANY_PINGS.len() as u8;
    let mut frame = vec![0, 0, length, TYPE_GO_AWAY, 0, 0, 0, 0, 0];
    frame.extend(last_stream.to_be_bytes());
    frame.extend(ENHANCE_YOUR_CALM.to_be_bytes());
    frame.extend(TOO_MANY_PINGS);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_streams_are_seen_however_the_bytes_are_cut() {
        let ping = [0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let headers = [0, 0, 2, 1, 4, 0, 0, 0, 9, 0, 0];
        for step in 1..30 {
            let mut walker = FrameWalker::default();
            [ping, ping].concat().chunks(step).for_each(|piece| walker.walk(piece));
            assert!(!walker.take_on_stream(), "in pieces of {step}");
            [&headers[..], &ping].concat().chunks(step).for_each(|piece| walker.walk(piece));
            assert!(walker.take_on_stream(), "in pieces of {step}");
            assert!(!walker.take_on_stream());
        }
    }

    #[test]
    fn the_third_strike_is_out() {
        let mut policy = PingPolicy::new(Duration::from_secs(5));
        let start = Instant::now();
        assert!(!policy.on_ping(start, true));
        assert!(!policy.on_ping(start + Duration::from_secs(1), true));
        assert!(!policy.on_ping(start + Duration::from_secs(2), true));
        assert!(policy.on_ping(start + Duration::from_secs(3), true));
        policy.forgive();
        assert!(!policy.on_ping(start + Duration::from_secs(4), true));
        let mut polite = PingPolicy::new(Duration::from_secs(5));
        assert!((0..20).all(|n| !polite.on_ping(start + Duration::from_secs(5 * n), true)));
        let mut idle = PingPolicy::new(Duration::from_secs(5));
        assert!((0..4).any(|n| idle.on_ping(start + Duration::from_secs(60 * n), false)));
    }
}
