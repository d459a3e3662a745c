//! When a failed call is made again. The rules are those of etcd's own client:
//!
//! | failure | repeatable method | other method |
//! |---|---|---|
//! | nothing was sent | again | again |
//! | Unavailable | again | give up |
//! | not supported for a learner, several endpoints | again | again |
//! | token invalid or old; user empty though configured | new token, again | new token, again |
//! | deadline, anything else | give up | give up |
//!
//! At most 100 attempts, 25 ms (10 % jitter) apart after each round over a quorum of the endpoints.

use std::time::{Duration, Instant, SystemTime};

use super::error::{Code, Error};
use crate::base::limits::{CLIENT_ATTEMPTS_MAX, CLIENT_BACKOFF_MS};

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    GiveUp,
    Repeat,
    /// Fetch a new token, then repeat.
    Renew,
}

/// Decides by the table above; `attempt` counts the failed ones.
pub fn decide(error: &Error, repeatable: bool, endpoints: usize, can_renew: bool, attempt: u32) -> After {
    if attempt + 1 >= CLIENT_ATTEMPTS_MAX {
        return After::GiveUp;
    }
    match error {
        Error::NotSent(_) => After::Repeat,
        Error::Broken(_) if repeatable => After::Repeat,
        Error::Status { code, message } => after_status(*code, message, repeatable, endpoints, can_renew),
        _ => After::GiveUp,
    }
}

fn after_status(code: Code, message: &str, repeatable: bool, endpoints: usize, can_renew: bool) -> After {
    match message {
        "etcdserver: user name is empty" if can_renew => After::Renew,
        "etcdserver: invalid auth token" | "etcdserver: revision of auth store is old" if can_renew => After::Renew,
        // Without a password (certificates) there is nothing to renew, but the next try sees the new revision.
        "etcdserver: revision of auth store is old" => After::Repeat,
        "etcdserver: rpc not supported for learner" if endpoints > 1 => After::Repeat,
        _ if code == Code::Unavailable && repeatable => After::Repeat,
        _ => After::GiveUp,
    }
}

/// The pause between attempts.
pub struct Backoff {
    attempt: u32,
    quorum: u32,
}

impl Backoff {
    pub fn new(endpoints: usize) -> Self {
        Self { attempt: 0, quorum: (endpoints / 2 + 1) as u32 }
    }

    /// How many attempts have failed and been waited for.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Waits before the next attempt; fails at the deadline.
    pub async fn wait(&mut self, deadline: Option<Instant>) -> Result<(), Error> {
        self.attempt += 1;
        if self.attempt.is_multiple_of(self.quorum) {
            pause(Duration::from_millis(CLIENT_BACKOFF_MS), deadline).await?;
        }
        Ok(())
    }
}

/// Sleeps `base` with 10 % jitter, at most until the deadline, where it fails.
pub async fn pause(base: Duration, deadline: Option<Instant>) -> Result<(), Error> {
    let end = Instant::now() + base.mul_f64(0.9 + 0.2 * any_fraction());
    match deadline {
        Some(deadline) if deadline <= end => {
            tokio::time::sleep_until(deadline.into()).await;
            Err(Error::Deadline)
        }
        _ => {
            tokio::time::sleep_until(end.into()).await;
            Ok(())
        }
    }
}

/// A number in 0 .. 1 that differs between processes; the clock's nanoseconds are good enough for jitter.
fn any_fraction() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    f64::from(since.subsec_nanos() % 1_000) / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: Code, message: &str) -> Error {
        Error::status(code, message)
    }

    #[test]
    fn writes_are_repeated_only_if_nothing_was_sent() {
        let write = |error: &Error| decide(error, false, 3, false, 0);
        assert_eq!(write(&Error::NotSent(String::new())), After::Repeat);
        assert_eq!(write(&Error::Broken(String::new())), After::GiveUp);
        assert_eq!(write(&status(Code::Unavailable, "etcdserver: leader changed")), After::GiveUp);
        assert_eq!(write(&Error::Deadline), After::GiveUp);
    }

    #[test]
    fn reads_are_repeated_while_the_server_is_unavailable() {
        let read = |error: &Error, attempt| decide(error, true, 3, false, attempt);
        let no_leader = status(Code::Unavailable, "etcdserver: no leader");
        assert_eq!(read(&no_leader, 0), After::Repeat);
        assert_eq!(read(&no_leader, 98), After::Repeat);
        assert_eq!(read(&no_leader, 99), After::GiveUp);
        assert_eq!(read(&Error::Broken(String::new()), 0), After::Repeat);
        assert_eq!(
            read(&status(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"), 0),
            After::GiveUp
        );
    }

    #[test]
    fn tokens_are_renewed_where_possible() {
        let old = status(Code::InvalidArgument, "etcdserver: revision of auth store is old");
        assert_eq!(decide(&old, false, 1, true, 0), After::Renew);
        assert_eq!(decide(&old, false, 1, false, 0), After::Repeat);
        let empty = status(Code::InvalidArgument, "etcdserver: user name is empty");
        assert_eq!(decide(&empty, false, 1, true, 0), After::Renew);
        assert_eq!(decide(&empty, false, 1, false, 0), After::GiveUp);
    }

    #[test]
    fn a_learner_is_left_for_another_endpoint() {
        let learner = status(Code::FailedPrecondition, "etcdserver: rpc not supported for learner");
        assert_eq!(decide(&learner, false, 2, false, 0), After::Repeat);
        assert_eq!(decide(&learner, false, 1, false, 0), After::GiveUp);
    }
}
