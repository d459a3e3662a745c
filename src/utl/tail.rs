//! The end of etcd's log that its database does not have yet: its committed entries are applied, as etcd would at its next start.
//!
//! | entry | becomes |
//! |---|---|
//! | request on keys, leases, alarms, users, roles | applied by `apply::Applier`, as at a member |
//! | conf change of either version, attributes of a member | a change of [`Members`]; the new directory has one member only |
//! | cluster version, downgrade | nothing: the new directory has this program's version |
//! | read through the log, empty entry | nothing |
//! | request of the v2 API (3.4) | members' attributes as above; keys of that API are counted and left out, they were never in the database |
//! | a request that this version does not know | a refusal that names the remedy |
//!
//! The log is committed up to the index in its hard state, which may be older than the last answer that etcd gave. A sole
//! voter's log is committed up to its end, as it would be at etcd's next start, so nothing acknowledged is lost.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use serde::Deserialize;

use super::{
    database::{Database, FileFailure, load_store},
    etcd_wal::Contents,
};
use crate::{
    apply::{
        Applied, Applier, ApplyFailure, RaftStatus,
        request::{Operation, RaftRequest},
        state::{self, Restored},
    },
    backend::Backend,
    base::{
        limits::TAIL_ENTRIES_PER_COMMIT,
        log_entry::{EntryKind, LogEntry},
    },
    cluster::{
        change::{Change, ChangeError},
        membership::{Member, Membership},
    },
    lease::{Lessor, Terms},
};

const REMEDY: &str =
    "stop etcd cleanly and migrate again, or take a snapshot with `etcdctl snapshot save` and migrate from that";
/// Reads, which some releases write to the log, and a request of tests: they change no stored state.
const CHANGES_NOTHING: [u32; 2] = [3, 9900];
/// Methods of the v2 API.
const V2_METHODS: [&str; 6] = ["PUT", "POST", "DELETE", "QGET", "GET", "SYNC"];

/// Why the end of a log cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    #[error(transparent)]
    File(#[from] FileFailure),
    #[error("entry {index} in the log after the database cannot be read: {source}; {REMEDY}")]
    Undecodable { index: u64, source: prost::DecodeError },
    #[error(
        "entry {index} in the log after the database is a change of members that cannot be read: {source}; {REMEDY}"
    )]
    Change { index: u64, source: ChangeError },
    #[error(
        "entry {index} in the log after the database asks for something this version cannot apply (field {field}); {REMEDY}"
    )]
    Unknown { index: u64, field: u32 },
    #[error("entry {index} in the log after the database: {source}")]
    Apply { index: u64, source: ApplyFailure },
}

/// The member as it was when its log ended.
#[derive(Debug)]
pub struct Ended {
    /// The last applied entry.
    pub index: u64,
    pub term: u64,
    /// Number of entries of the log that were applied here.
    pub applied: u64,
    /// Number of entries after the committed part, left out.
    pub uncommitted: u64,
    /// Number of requests on keys of the v2 API, left out.
    pub v2_requests: u64,
    pub members: Members,
}

/// The members, as far as a database and a log have them.
#[derive(Clone, Debug)]
pub struct Members {
    /// The voters in consensus.
    voters: BTreeSet<u64>,
    learners: BTreeSet<u64>,
    known: Membership,
}

/// A request of the v2 API, as 3.4 logged it.
#[derive(Clone, PartialEq, Message)]
struct V2Request {
    #[prost(string, optional, tag = "2")]
    method: Option<String>,
    #[prost(string, optional, tag = "3")]
    path: Option<String>,
    #[prost(string, optional, tag = "4")]
    value: Option<String>,
}

/// An `InternalRaftRequest` of 3.6 or older, where it may hold one of those.
#[derive(Clone, PartialEq, Message)]
struct WithV2 {
    #[prost(message, optional, tag = "2")]
    v2: Option<V2Request>,
}

/// The attributes of a member that the v2 API stored.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Attributes {
    name: String,
    #[serde(rename = "clientURLs")]
    client_urls: Option<Vec<String>>,
}

/// Applies the committed entries of `contents` to the database, and commits. Returns the backend.
pub fn apply(
    database: &Database,
    mut backend: Backend,
    state: Restored,
    contents: Contents,
) -> Result<(Backend, Ended), TailError> {
    let own = contents.metadata.member_id;
    let membership = state.membership(contents.metadata.cluster_id, own);
    let mut members = Members::of(&state, membership.clone(), &contents.old_conf_changes)?;
    let start_term = match state.term {
        0 => contents.term_at_start.unwrap_or(contents.hard_state.term),
        term => term,
    };
    let (mut index, mut term, mut applied, mut uncommitted, mut v2_requests) = (state.index, start_term, 0, 0, 0);
    let (store, attachments) = load_store(&mut backend)?;
    let mut lessor = Lessor::new(Terms::default());
    lessor.restore(&state.leases, &attachments);
    let mut applier = Applier::new(store, backend, state, membership, lessor);
    let mut entries = contents.entries.into_iter();
    for entry in entries.by_ref() {
        if entry.index > contents.hard_state.commit && !members.is_sole_voter(own) {
            uncommitted = 1;
            break;
        }
        (index, term) = (entry.index, entry.term);
        let entry = translate(entry, &mut members, &mut v2_requests)?;
        apply_one(&mut applier, &entry)?;
        applied += 1;
        if u64::is_multiple_of(applied, TAIL_ENTRIES_PER_COMMIT) {
            commit(database, &mut applier)?;
        }
    }
    uncommitted += entries.count() as u64;
    commit(database, &mut applier)?;
    Ok((applier.into_backend(), Ended { index, term, applied, uncommitted, v2_requests, members }))
}

fn commit(database: &Database, applier: &mut Applier) -> Result<(), FileFailure> {
    while applier.begin_commit(false) {
        database.finish_commit(applier.backend())?;
    }
    Ok(())
}

/// Applies one entry. A refusal is the same as etcd's, and changes nothing.
fn apply_one(applier: &mut Applier, entry: &LogEntry) -> Result<(), TailError> {
    let index = entry.index;
    let failed = |failure| match failure {
        ApplyFailure::Unknown { field, .. } => TailError::Unknown { index, field },
        source => TailError::Apply { index, source },
    };
    let mut applied = applier.apply(entry, RaftStatus::default(), |_| false).map_err(failed)?;
    while matches!(applied, Applied::Unfinished) {
        applied = applier.resume(RaftStatus::default(), |_| false).map_err(failed)?;
    }
    Ok(())
}

fn parse(entry: &LogEntry) -> Result<RaftRequest, TailError> {
    RaftRequest::parse(entry.data.clone()).map_err(|source| TailError::Undecodable { index: entry.index, source })
}

/// The entry for the applier: unchanged, or empty if it is processed here.
fn translate(entry: LogEntry, members: &mut Members, v2_requests: &mut u64) -> Result<LogEntry, TailError> {
    let empty = LogEntry { kind: EntryKind::Normal, data: Bytes::new(), ..entry };
    match entry.kind {
        EntryKind::ConfChange | EntryKind::ConfChangeV2 => {
            changes(&entry)?.into_iter().for_each(|change| members.change(change));
            return Ok(empty);
        }
        EntryKind::Normal if entry.data.is_empty() => return Ok(empty),
        EntryKind::Normal => {}
    }
    if let Some(request) = v2_request(&entry.data) {
        *v2_requests += u64::from(!members.take_v2(&request));
        return Ok(empty);
    }
    match parse(&entry)?.operation {
        Operation::ClusterMemberAttrSet(set) => {
            let attributes = set.member_attributes.unwrap_or_default();
            members.set_attributes(set.member_id, attributes.name, attributes.client_urls);
            Ok(empty)
        }
        Operation::ClusterVersionSet(_) | Operation::DowngradeInfoSet(_) | Operation::DowngradeVersionTest => Ok(empty),
        Operation::Unknown(field) if CHANGES_NOTHING.contains(&field) => Ok(empty),
        Operation::Unknown(field) => Err(TailError::Unknown { index: entry.index, field }),
        _ => Ok(entry),
    }
}

/// The entry's request if it is one of the v2 API: bare in 3.4, in field 2 of an `InternalRaftRequest` since.
fn v2_request(data: &Bytes) -> Option<V2Request> {
    let is_v2 = |request: &V2Request| V2_METHODS.contains(&request.method());
    let bare = V2Request::decode(data.clone()).ok().filter(is_v2);
    bare.or_else(|| WithV2::decode(data.clone()).ok()?.v2.filter(is_v2))
}

/// The changes of members in an entry that is a conf change.
fn changes(entry: &LogEntry) -> Result<Vec<Change>, TailError> {
    let data = entry.data.clone();
    let changes = match entry.kind {
        EntryKind::ConfChangeV2 => Change::decode_v2(data),
        EntryKind::ConfChange | EntryKind::Normal => Change::decode(data).map(|change| vec![change]),
    };
    changes.map_err(|source| TailError::Change { index: entry.index, source })
}

impl Members {
    /// The members of the database, or those of the log if a database of 3.4 has none.
    fn of(state: &Restored, known: Membership, old_conf_changes: &[LogEntry]) -> Result<Self, TailError> {
        let mut members = Self { voters: BTreeSet::new(), learners: BTreeSet::new(), known };
        // The learner limit of that cluster is unknown. A learner that it refused was never promoted.
        members.known.learners_max = usize::MAX;
        match &state.conf_state {
            Some(conf_state) => {
                members.voters.extend(conf_state.voters.iter().chain(&conf_state.voters_outgoing));
                members.learners.extend(conf_state.learners.iter().chain(&conf_state.learners_next));
            }
            None => {
                for member in &state.members {
                    let role = if member.is_learner { &mut members.learners } else { &mut members.voters };
                    role.insert(member.id);
                }
            }
        }
        if members.voters.is_empty() {
            for entry in old_conf_changes {
                changes(entry)?.into_iter().for_each(|change| members.carry_out(change));
            }
        }
        Ok(members)
    }

    /// Whether this member decides alone.
    #[must_use]
    pub fn is_sole_voter(&self, id: u64) -> bool {
        self.voters.len() == 1 && self.voters.contains(&id)
    }

    /// Whether there is no other member.
    #[must_use]
    pub fn is_alone(&self, id: u64) -> bool {
        self.is_sole_voter(id) && self.learners.is_empty()
    }

    #[must_use]
    pub fn member(&self, id: u64) -> Option<&Member> {
        self.known.member(id)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.voters.len() + self.learners.len()
    }

    /// Applies a change. An invalid one has no effect, as in etcd. A change that the database has already has none either: a database of
    /// 3.4 may be ahead of its applied index.
    fn change(&mut self, change: Change) {
        if self.known.check(&change).is_ok() {
            self.carry_out(change);
        }
    }

    fn carry_out(&mut self, change: Change) {
        let id = change.id();
        let (added, gone): (Option<&mut BTreeSet<u64>>, Option<&mut BTreeSet<u64>>) = match &change {
            Change::Add { votes: false, .. } => (Some(&mut self.learners), Some(&mut self.voters)),
            Change::Add { .. } | Change::Promote { .. } => (Some(&mut self.voters), Some(&mut self.learners)),
            Change::Update { .. } => (None, None),
            Change::Remove { .. } => {
                self.voters.remove(&id);
                (None, Some(&mut self.learners))
            }
        };
        added.map(|role| role.insert(id));
        gone.map(|role| role.remove(&id));
        self.known.change(change);
    }

    fn set_attributes(&mut self, id: u64, name: String, client_urls: Vec<String>) {
        // An unknown member was removed before.
        let _unknown = self.known.set_attributes(id, name, client_urls);
    }

    /// Processes a request of the v2 API about members. False for any other request.
    fn take_v2(&mut self, request: &V2Request) -> bool {
        let path = request.path();
        if request.method() == "SYNC" || path == "/0/version" {
            return true;
        }
        let id = path.strip_prefix("/0/members/").and_then(|rest| rest.strip_suffix("/attributes"));
        let Some(id) = id.and_then(|id| u64::from_str_radix(id, 16).ok()) else { return false };
        let Ok(attributes) = serde_json::from_str::<Attributes>(request.value()) else { return false };
        self.set_attributes(id, attributes.name, attributes.client_urls.unwrap_or_default());
        true
    }
}

/// Writes the end of the log into the database.
pub fn put_end(backend: &mut Backend, ended: &Ended) {
    state::put_applied(backend, ended.index, ended.term);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::RequestHeader;
    use crate::proto::raftpb::{ConfChange, ConfChangeSingle, ConfChangeType, ConfChangeV2};

    const OWN: u64 = 1;
    /// Every field of an `InternalRaftRequest` that is a request, by its treatment.
    const APPLIED: [u32; 24] = [
        4, 5, 6, 7, 8, 9, 10, 11, 1000, 1011, 1012, 1013, 1100, 1101, 1102, 1103, 1104, 1105, 1106, 1107, 1200, 1201,
        1202, 1203,
    ];
    const TAKEN_IN: [u32; 3] = [1300, 1301, 1302];
    /// Of a later release.
    const UNKNOWN: [u32; 3] = [12, 1108, 1400];

    /// A member alone.
    fn alone() -> Members {
        let mut known = Membership::new(9, OWN);
        known.add(Member { id: OWN, name: "one".into(), peer_urls: vec!["http://a:1".into()], ..Member::default() });
        known.learners_max = usize::MAX;
        Members { voters: BTreeSet::from([OWN]), learners: BTreeSet::new(), known }
    }

    fn entry(kind: EntryKind, data: Vec<u8>) -> LogEntry {
        LogEntry { index: 5, term: 2, kind, data: data.into() }
    }

    /// An entry with an empty request in this field.
    fn request(field: u32) -> LogEntry {
        let mut data = Vec::new();
        prost::encoding::encode_key(field, prost::encoding::WireType::LengthDelimited, &mut data);
        data.push(0);
        let header = RequestHeader { id: 3, ..RequestHeader::default() };
        prost::encoding::message::encode(100, &header, &mut data);
        entry(EntryKind::Normal, data)
    }

    fn conf_change(kind: ConfChangeType, id: u64, context: &str) -> LogEntry {
        let context = Some(Bytes::copy_from_slice(context.as_bytes()));
        let change = ConfChange { id: Some(1), r#type: Some(kind.into()), node_id: Some(id), context };
        entry(EntryKind::ConfChange, change.encode_to_vec())
    }

    fn translated(entry: LogEntry) -> Result<LogEntry, TailError> {
        translate(entry, &mut alone(), &mut 0)
    }

    #[test]
    fn every_kind_of_request_has_its_place() {
        for field in APPLIED {
            assert_eq!(translated(request(field)).expect("applied"), request(field), "field {field}");
        }
        for field in CHANGES_NOTHING.into_iter().chain(TAKEN_IN) {
            assert!(translated(request(field)).expect("taken in").data.is_empty(), "field {field}");
        }
        for field in UNKNOWN {
            let refused = translated(request(field)).expect_err("unknown");
            assert!(matches!(refused, TailError::Unknown { index: 5, field: found } if found == field), "{refused}");
        }
        assert!(translated(entry(EntryKind::Normal, vec![])).expect("nothing").data.is_empty());
        let cut = entry(EntryKind::Normal, vec![0x22, 5, 1]);
        assert!(matches!(translated(cut), Err(TailError::Undecodable { .. })));
    }

    #[test]
    fn requests_of_the_v2_api_are_counted_or_taken_in() {
        let v2 = |method: &str, path: &str, value: &str| V2Request {
            method: Some(method.into()),
            path: Some(path.into()),
            value: Some(value.into()),
        };
        let attributes = r#"{"name":"other","clientURLs":null}"#;
        let requests = [
            (v2("PUT", "/1/key", "v"), 1, "one"),
            (v2("SYNC", "", ""), 0, "one"),
            (v2("PUT", "/0/version", "3.4.0"), 0, "one"),
            (v2("PUT", "/0/members/1/attributes", attributes), 0, "other"),
            (v2("PUT", "/0/members/7/attributes", attributes), 0, "one"),
        ];
        for (request, counted, name) in requests {
            for data in [request.encode_to_vec(), WithV2 { v2: Some(request.clone()) }.encode_to_vec()] {
                let (mut members, mut count) = (alone(), 0);
                let left = translate(entry(EntryKind::Normal, data), &mut members, &mut count).expect("taken");
                assert!(left.data.is_empty());
                assert_eq!((count, members.member(OWN).expect("there").name.as_str()), (counted, name), "{request:?}");
            }
        }
    }

    /// The changes that etcd logs, including refused ones, and the cluster after each.
    #[test]
    fn conf_changes_are_followed() {
        use ConfChangeType::*;
        let learner = r#"{"id":2,"peerURLs":["http://b:1"],"isLearner":true}"#;
        let moved = r#"{"id":2,"peerURLs":["http://c:1"]}"#;
        let promotion = r#"{"id":2,"peerURLs":null,"isPromote":true}"#;
        let again = r#"{"id":1,"peerURLs":["http://x:1"]}"#;
        let steps = [
            (conf_change(ConfChangeAddNode, 1, again), (1, 0), "a member that is there"),
            (conf_change(ConfChangeAddNode, 2, promotion), (1, 0), "a promotion of nobody"),
            (conf_change(ConfChangeAddLearnerNode, 2, learner), (1, 1), "a learner"),
            (conf_change(ConfChangeUpdateNode, 2, moved), (1, 1), "it moves"),
            (conf_change(ConfChangeAddNode, 2, promotion), (2, 0), "it is promoted"),
            (conf_change(ConfChangeAddNode, 2, promotion), (2, 0), "and again"),
            (conf_change(ConfChangeAddNode, 3, ""), (3, 0), "a member without a context"),
            (conf_change(ConfChangeRemoveNode, 3, ""), (2, 0), "it goes"),
            (conf_change(ConfChangeRemoveNode, 2, ""), (1, 0), "the other goes"),
            (conf_change(ConfChangeAddLearnerNode, 2, learner), (1, 0), "a removed one returns"),
        ];
        let mut members = alone();
        for (entry, expected, what) in steps {
            let left = translate(entry, &mut members, &mut 0).expect(what);
            assert!(left.data.is_empty() && left.kind == EntryKind::Normal, "{what}");
            assert_eq!((members.voters.len(), members.learners.len()), expected, "{what}");
            if what == "it is promoted" {
                let member = members.member(2).expect("there");
                assert_eq!((member.is_learner, &member.peer_urls[..]), (false, &["http://c:1".to_owned()][..]));
            }
        }
        assert!(members.is_alone(OWN));
    }

    #[test]
    fn conf_changes_of_version_2_are_followed() {
        let single = |kind: ConfChangeType, id| ConfChangeSingle { r#type: Some(kind.into()), node_id: Some(id) };
        let changes =
            vec![single(ConfChangeType::ConfChangeAddNode, 2), single(ConfChangeType::ConfChangeAddLearnerNode, 3)];
        let both = ConfChangeV2 { changes, ..ConfChangeV2::default() };
        let mut members = alone();
        for data in [both.encode_to_vec(), vec![]] {
            let left = translate(entry(EntryKind::ConfChangeV2, data), &mut members, &mut 0).expect("followed");
            assert!(left.data.is_empty() && left.kind == EntryKind::Normal);
            assert_eq!((members.voters.len(), members.learners.len()), (2, 1));
        }
    }

    #[test]
    fn damaged_conf_changes_are_refused() {
        let other = conf_change(ConfChangeType::ConfChangeAddNode, 2, r#"{"id":3,"peerURLs":[]}"#);
        for damaged in [other, entry(EntryKind::ConfChange, vec![0xff]), entry(EntryKind::ConfChangeV2, vec![0xff])] {
            assert!(matches!(translated(damaged), Err(TailError::Change { index: 5, .. })));
        }
    }
}
