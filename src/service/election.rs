//! Election: the requests by which a contender leads under a name, and what an observer reports.
//!
//! The leader is the first of the queue; it proclaims the value of its key. An [`Observer`] follows the leaders:
//!
//! | state | input | next | shown |
//! |---|---|---|---|
//! | finding | read: a leader | following it, after the read | the leader |
//! | finding | read: no leader | waiting for the prefix, from the read's revision | |
//! | waiting | put under the prefix | following it, after the put | the new leader |
//! | waiting | deletion | | |
//! | following | put of the leader's key | | the new value |
//! | following | deletion of the leader's key | finding | |

use bytes::Bytes;

use super::queue;
use crate::proto::{
    etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse, request_op::Request},
    mvccpb::{Event, KeyValue, event::EventType},
    v3electionpb::{LeaderKey, LeaderResponse},
};

/// Texts of the refusals; the code of each is Unknown.
pub const NOT_LEADER: &str = "election: not leader";
pub const NO_LEADER: &str = "election: no leader";
pub const MISSING_LEADER_KEY: &str = "\"leader\" field must be provided";

/// A contender for leadership.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub prefix: Bytes,
    pub key: Bytes,
    lease: i64,
    /// Create revision of the key, once in the queue.
    pub revision: i64,
}

impl Candidate {
    #[must_use]
    pub fn new(name: &[u8], lease: i64) -> Self {
        let prefix = queue::prefix(name);
        let key = queue::key(&prefix, lease);
        Self { prefix, key, lease, revision: 0 }
    }

    /// The leader that `leader` names.
    #[must_use]
    pub fn resume(leader: &LeaderKey) -> Self {
        Self { prefix: leader.name.clone(), key: leader.key.clone(), lease: leader.lease, revision: leader.rev }
    }

    /// Joins the queue with `value`, or finds its earlier place in it.
    #[must_use]
    pub fn join(&self, value: &Bytes) -> TxnRequest {
        let own = Request::RequestRange(queue::read(&self.key));
        queue::if_created_at(&self.key, 0, vec![queue::put(&self.key, value, self.lease)], vec![own])
    }

    /// Processes the answer to [`Self::join`]. Returns whether the key existed with another value.
    pub fn on_joined(&mut self, response: &TxnResponse, value: &Bytes) -> bool {
        self.revision = queue::joined_at(response);
        !response.succeeded && queue::found(response, 0).is_some_and(|own| own.value != value)
    }

    /// The request for the contender directly before this one.
    #[must_use]
    pub fn next_before(&self) -> RangeRequest {
        queue::last_until(&self.prefix, self.revision - 1)
    }

    /// Writes another value, if the key is still the one that joined.
    #[must_use]
    pub fn proclaim(&self, value: &Bytes) -> TxnRequest {
        queue::if_created_at(&self.key, self.revision, vec![queue::put(&self.key, value, self.lease)], Vec::new())
    }

    /// Leaves the queue, if the key is still the one that joined.
    #[must_use]
    pub fn resign(&self) -> TxnRequest {
        let delete = Request::RequestDeleteRange(queue::delete(&self.key));
        queue::if_created_at(&self.key, self.revision, vec![delete], Vec::new())
    }

    /// The identity by which the leader finds its place again later.
    #[must_use]
    pub fn leader_key(&self, name: &Bytes) -> LeaderKey {
        LeaderKey { name: name.clone(), key: self.key.clone(), rev: self.revision, lease: self.lease }
    }
}

/// Follows the leaders of one name; the table is in the module's head.
#[derive(Clone, Debug)]
pub struct Observer {
    prefix: Bytes,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Finding,
    Waiting { from: i64 },
    Following { key: Bytes, from: i64 },
}

/// What an observer needs next.
#[derive(Clone, Debug, PartialEq)]
pub enum Need {
    /// The answer to a linearizable read.
    Read(RangeRequest),
    /// The events of `key .. range_end` (one key, if that is empty) from a revision on.
    Events { key: Bytes, range_end: Bytes, from: i64 },
}

impl Observer {
    #[must_use]
    pub fn new(name: &[u8]) -> Self {
        Self { prefix: queue::prefix(name), state: State::Finding }
    }

    #[must_use]
    pub fn need(&self) -> Need {
        match &self.state {
            State::Finding => Need::Read(queue::first(&self.prefix)),
            State::Waiting { from } => {
                Need::Events { key: self.prefix.clone(), range_end: queue::prefix_end(&self.prefix), from: *from }
            }
            State::Following { key, from } => Need::Events { key: key.clone(), range_end: Bytes::new(), from: *from },
        }
    }

    /// The read that was needed.
    pub fn on_read(&mut self, response: RangeResponse) -> Option<LeaderResponse> {
        let revision = queue::revision(&response);
        match response.kvs.into_iter().next() {
            Some(leader) => {
                self.state = State::Following { key: leader.key.clone(), from: revision + 1 };
                Some(LeaderResponse { header: response.header, kv: Some(leader) })
            }
            None => {
                self.state = State::Waiting { from: revision };
                None
            }
        }
    }

    /// Processes needed events, in order; leaders go to `shown`. Returns whether other events are needed from now on, in which case the
    /// rest of these is ignored.
    pub fn on_events(
        &mut self,
        header: ResponseHeader,
        events: &[Event],
        shown: &mut impl Extend<LeaderResponse>,
    ) -> bool {
        let keys = |state: &State| match state {
            State::Following { key, .. } => Some(key.clone()),
            State::Waiting { .. } | State::Finding => None,
        };
        let before = keys(&self.state);
        for event in events {
            shown.extend(self.on_event(header, event));
            if keys(&self.state) != before {
                return true;
            }
        }
        false
    }

    fn on_event(&mut self, header: ResponseHeader, event: &Event) -> Option<LeaderResponse> {
        let pair = event.kv.as_ref()?;
        let is_put = event.r#type == EventType::Put as i32;
        match &mut self.state {
            State::Waiting { .. } if is_put => {
                self.state = State::Following { key: pair.key.clone(), from: pair.mod_revision + 1 };
                // The response may hold later events too; the header shown is that of this event.
                Some(leader(ResponseHeader { revision: pair.mod_revision, ..header }, pair))
            }
            State::Following { from, .. } if is_put => {
                *from = pair.mod_revision + 1;
                Some(leader(header, pair))
            }
            State::Following { .. } => {
                self.state = State::Finding;
                None
            }
            State::Waiting { .. } | State::Finding => None,
        }
    }
}

fn leader(header: ResponseHeader, pair: &KeyValue) -> LeaderResponse {
    LeaderResponse { header: Some(header), kv: Some(pair.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &str, mod_revision: i64) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            mod_revision,
            ..KeyValue::default()
        }
    }

    fn event(kind: EventType, kv: KeyValue) -> Event {
        Event { r#type: kind as i32, kv: Some(kv), prev_kv: None }
    }

    fn at(revision: i64) -> ResponseHeader {
        ResponseHeader { revision, ..ResponseHeader::default() }
    }

    fn shown(response: Option<LeaderResponse>) -> (Bytes, i64) {
        let response = response.unwrap();
        (response.kv.unwrap().value, response.header.unwrap().revision)
    }

    #[test]
    fn an_observer_sees_each_leader_and_each_of_its_values() {
        let mut observer = Observer::new(b"name");
        assert!(matches!(observer.need(), Need::Read(_)));
        let nobody = RangeResponse { header: Some(at(3)), ..RangeResponse::default() };
        assert_eq!(observer.on_read(nobody), None);
        let everything = Need::Events { key: "name/".into(), range_end: "name0".into(), from: 3 };
        assert_eq!(observer.need(), everything);
        assert_eq!(observer.on_event(at(9), &event(EventType::Delete, pair("name/1", "", 4))), None);
        assert_eq!(shown(observer.on_event(at(9), &event(EventType::Put, pair("name/2", "a", 5)))), ("a".into(), 5));
        assert_eq!(observer.need(), Need::Events { key: "name/2".into(), range_end: Bytes::new(), from: 6 });
        assert_eq!(shown(observer.on_event(at(9), &event(EventType::Put, pair("name/2", "b", 7)))), ("b".into(), 9));
        assert_eq!(observer.on_event(at(9), &event(EventType::Delete, pair("name/2", "", 8))), None);
        let somebody =
            RangeResponse { header: Some(at(9)), kvs: vec![pair("name/3", "c", 6)], ..RangeResponse::default() };
        assert_eq!(shown(observer.on_read(somebody)), ("c".into(), 9));
        assert_eq!(observer.need(), Need::Events { key: "name/3".into(), range_end: Bytes::new(), from: 10 });
    }

    #[test]
    fn a_candidate_with_another_value_has_to_proclaim() {
        let mut candidate = Candidate::new(b"name", 7);
        let fresh = TxnResponse { header: Some(at(5)), succeeded: true, ..TxnResponse::default() };
        assert!(!candidate.on_joined(&fresh, &"v".into()));
        assert_eq!(candidate.leader_key(&"name".into()).rev, 5);
        assert_eq!(candidate.next_before().max_create_revision, 4);
    }
}
