//! Leases: what a client was promised, and when their keys went.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Part of a lease's time that must pass in any case: clocks are up to a twentieth fast.
const SLOWNESS_PER_CENT: u64 = 93;

#[derive(Debug, Default)]
pub struct Leases {
    promised: BTreeMap<i64, Promise>,
}

#[derive(Debug)]
struct Promise {
    ttl_ms: u64,
    /// The call of the last grant or renewal that succeeded.
    called_us: u64,
    /// How far clocks had jumped then.
    jumped_us: u64,
    /// Somebody has asked for the revocation.
    may_end: bool,
    /// Its key went away at this revision.
    gone_at: Option<i64>,
}

/// The key that is attached to a lease.
#[must_use]
pub fn key_of(lease: i64) -> Bytes {
    format!("lease/{lease}").into()
}

fn lease_of(key: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(key.strip_prefix(b"lease/")?).ok()?;
    text.parse().ok()
}

impl Leases {
    /// A lease is asked for at this time.
    pub fn on_grant(&mut self, lease: i64, ttl_ms: u64, now_us: u64, jumped_us: u64) {
        let promise = Promise { ttl_ms, called_us: now_us, jumped_us, may_end: false, gone_at: None };
        self.promised.insert(lease, promise);
    }

    /// A renewal that was called at this time has succeeded.
    pub fn on_renewed(&mut self, lease: i64, called_us: u64, jumped_us: u64) {
        if let Some(promise) = self.promised.get_mut(&lease)
            && called_us > promise.called_us
        {
            (promise.called_us, promise.jumped_us) = (called_us, jumped_us);
        }
    }

    /// The revocation of a lease is asked for.
    pub fn on_revoke(&mut self, lease: i64) {
        if let Some(promise) = self.promised.get_mut(&lease) {
            promise.may_end = true;
        }
    }

    /// A revision deletes a key. `jumped_us` is how far all clocks have jumped until now.
    ///
    /// # Errors
    /// It is the key of a lease whose time has not come.
    pub fn on_deleted(&mut self, key: &[u8], revision: i64, now_us: u64, jumped_us: u64) -> Result<(), String> {
        let Some((lease, promise)) = lease_of(key).and_then(|lease| Some((lease, self.promised.get_mut(&lease)?)))
        else {
            return Ok(());
        };
        promise.gone_at = Some(revision);
        let lived_us = now_us.saturating_sub(promise.called_us) + jumped_us.saturating_sub(promise.jumped_us);
        if !promise.may_end && lived_us < promise.ttl_ms * 10 * SLOWNESS_PER_CENT {
            return Err(format!(
                "lease {lease} of {} ms ends {} ms after its last renewal was called",
                promise.ttl_ms,
                lived_us / 1000
            ));
        }
        Ok(())
    }

    /// A revocation was answered at this revision, at which the key has to be gone.
    ///
    /// # Errors
    /// It is not.
    pub fn on_revoked(&self, journal: &super::journal::Journal, lease: i64, revision: i64) -> Result<(), String> {
        match journal.at(&key_of(lease), revision) {
            Some(_) => Err(format!("lease {lease} was revoked by revision {revision}, and its key is still there")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_ends_early_is_found() {
        let mut leases = Leases::default();
        leases.on_grant(7, 2000, 0, 0);
        leases.on_renewed(7, 1_000_000, 0);
        assert!(leases.on_deleted(b"lease/7", 5, 2_500_000, 0).is_err());
        assert!(leases.on_deleted(b"lease/7", 5, 2_500_000, 400_000).is_ok(), "a clock has jumped");
        assert!(leases.on_deleted(b"lease/7", 5, 2_900_000, 0).is_ok());
        assert!(leases.on_deleted(b"lease/8", 5, 0, 0).is_ok(), "nobody was promised that one");
        leases.on_revoke(7);
        assert!(leases.on_deleted(b"lease/7", 5, 1_100_000, 0).is_ok());
    }
}
