//! The end of etcd's log that its database does not have yet: what is committed of it is applied, as etcd would at its next start.
//!
//! | entry | becomes |
//! |---|---|
//! | request on keys, leases, alarms | applied by `apply::Applier`, as at a member |
//! | conf change, attributes of a member | a change of [`Members`]; the new directory has one member only |
//! | cluster version, downgrade | nothing: the new directory is of our version |
//! | read that went through the log, nothing at all | nothing |
//! | request of the v2 API (3.4) | members' attributes as above; keys of that API are counted and left out, they were never in the database |
//! | anything that this version does not know | a refusal that names the remedy |
//!
//! How far the log is committed: up to the index in its hard state, which may be older than the last answer etcd gave. A sole
//! voter's log is committed as far as it goes, as it would be at etcd's next start, so nothing acknowledged is lost.

use std::collections::{BTreeMap, BTreeSet};

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
    backend::{Backend, Bucket},
    base::{
        limits::TAIL_ENTRIES_PER_COMMIT,
        log_entry::{EntryKind, LogEntry},
    },
    cluster::membership::Member,
    lease::{Lessor, Terms},
    pagefile::Corrupt,
    proto::raftpb,
};

const REMEDY: &str =
    "stop etcd cleanly and migrate again, or take a snapshot with `etcdctl snapshot save` and migrate from that";
/// Reads and tokens, which went through the log in older releases or still do: they change nothing that is stored.
const CHANGES_NOTHING: [u32; 8] = [3, 1012, 1013, 1102, 1106, 1107, 1202, 9900];
/// Methods of the v2 API.
const V2_METHODS: [&str; 6] = ["PUT", "POST", "DELETE", "QGET", "GET", "SYNC"];

/// Why the end of a log cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    #[error(transparent)]
    File(#[from] FileFailure),
    #[error("entry {index} in the log behind the database cannot be read: {reason}; {REMEDY}")]
    Undecodable { index: u64, reason: String },
    #[error(
        "entry {index} in the log behind the database asks for something this version cannot apply (field {field}); {REMEDY}"
    )]
    Unknown { index: u64, field: u32 },
    #[error(
        "authentication is enabled, and entry {index} in the log behind the database is a request whose permission this version cannot \
         check; {REMEDY}"
    )]
    Auth { index: u64 },
    #[error("entry {index} in the log behind the database: {source}")]
    Apply { index: u64, source: ApplyFailure },
}

/// The member as it was when its log ended.
#[derive(Debug)]
pub struct Ended {
    /// The last entry applied, now or before.
    pub index: u64,
    pub term: u64,
    /// How many entries of the log were applied now.
    pub applied: u64,
    /// Entries behind the committed part, left out.
    pub uncommitted: u64,
    /// Requests on keys of the v2 API, left out.
    pub v2_requests: u64,
    pub members: Members,
}

/// Who the members are, as far as a database and a log tell.
#[derive(Clone, Debug, Default)]
pub struct Members {
    voters: BTreeSet<u64>,
    learners: BTreeSet<u64>,
    known: BTreeMap<u64, Member>,
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

/// What of a member the v2 API stored apart.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Attributes {
    name: String,
    #[serde(rename = "clientURLs")]
    client_urls: Option<Vec<String>>,
}

/// A member in the context of a conf change.
#[derive(Deserialize)]
struct ChangeContext {
    #[serde(rename = "isPromote", default)]
    is_promote: bool,
}

/// Whether passwords protect this database.
pub fn is_auth_enabled(backend: &Backend) -> Result<bool, Corrupt> {
    Ok(backend.get(Bucket::Auth, b"authEnabled")?.is_some_and(|value| value[..] == [1]))
}

/// Applies what is committed of `contents` to the database, and commits it there. The backend is handed back.
pub fn apply(
    database: &Database,
    mut backend: Backend,
    state: Restored,
    contents: Contents,
) -> Result<(Backend, Ended), TailError> {
    let own = contents.metadata.member_id;
    let mut members = Members::of(&state, &contents.old_conf_changes)?;
    let start_term = match state.term {
        0 => contents.term_at_start.unwrap_or(contents.hard_state.term),
        term => term,
    };
    let mut ended = Ended {
        index: state.index,
        term: start_term,
        applied: 0,
        uncommitted: 0,
        v2_requests: 0,
        members: Members::default(),
    };
    let guarded = is_auth_enabled(&backend).map_err(FileFailure::from)?;
    let (store, attachments) = load_store(&mut backend)?;
    let mut lessor = Lessor::new(Terms::default());
    lessor.restore(&state.leases, &attachments);
    let membership = state.membership(contents.metadata.cluster_id, own);
    let mut applier = Applier::new(store, backend, state, membership, lessor);
    let mut entries = contents.entries.into_iter();
    for entry in entries.by_ref() {
        if entry.index > contents.hard_state.commit && !members.is_sole_voter(own) {
            ended.uncommitted = 1;
            break;
        }
        (ended.index, ended.term) = (entry.index, entry.term);
        let entry = translate(entry, &mut members, guarded, &mut ended.v2_requests)?;
        apply_one(&mut applier, &entry)?;
        ended.applied += 1;
        if ended.applied.is_multiple_of(TAIL_ENTRIES_PER_COMMIT) {
            commit(database, &mut applier)?;
        }
    }
    ended.uncommitted += entries.count() as u64;
    commit(database, &mut applier)?;
    ended.members = members;
    Ok((applier.into_backend(), ended))
}

fn commit(database: &Database, applier: &mut Applier) -> Result<(), FileFailure> {
    while applier.begin_commit(false) {
        database.finish_commit(applier.backend())?;
    }
    Ok(())
}

/// A refusal is the one that etcd gave, and changes nothing here either.
fn apply_one(applier: &mut Applier, entry: &LogEntry) -> Result<(), TailError> {
    let index = entry.index;
    let failed = |failure| match failure {
        ApplyFailure::Unknown { field, .. } => TailError::Unknown { index, field },
        source => TailError::Apply { index, source },
    };
    let mut applied = applier.apply(entry, RaftStatus::default(), |_| false).map_err(failed)?;
    while matches!(applied, Applied::Unfinished) {
        applied = applier.go_on(RaftStatus::default(), |_| false).map_err(failed)?;
    }
    Ok(())
}

fn parse(entry: &LogEntry) -> Result<RaftRequest, TailError> {
    RaftRequest::parse(entry.data.clone())
        .map_err(|error| TailError::Undecodable { index: entry.index, reason: error.to_string() })
}

/// The entry as the applier is to see it: as it is, or empty if what it says is taken in here.
fn translate(
    entry: LogEntry,
    members: &mut Members,
    guarded: bool,
    v2_requests: &mut u64,
) -> Result<LogEntry, TailError> {
    let empty = LogEntry { kind: EntryKind::Normal, data: Bytes::new(), ..entry };
    match entry.kind {
        EntryKind::ConfChange => {
            members.change(&entry)?;
            return Ok(empty);
        }
        EntryKind::ConfChangeV2 => return Err(TailError::Unknown { index: entry.index, field: 0 }),
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
        Operation::Alarm(_) | Operation::LeaseCheckpoint(_) => Ok(entry),
        _ if guarded => Err(TailError::Auth { index: entry.index }),
        _ => Ok(entry),
    }
}

/// The entry's request if it is one of the v2 API: bare in 3.4, in field 2 of an `InternalRaftRequest` since.
fn v2_request(data: &Bytes) -> Option<V2Request> {
    let is_v2 = |request: &V2Request| V2_METHODS.contains(&request.method());
    let bare = V2Request::decode(data.clone()).ok().filter(is_v2);
    bare.or_else(|| WithV2::decode(data.clone()).ok()?.v2.filter(is_v2))
}

impl Members {
    /// From the database; from the log where a database of 3.4 tells nothing.
    fn of(state: &Restored, old_conf_changes: &[LogEntry]) -> Result<Self, TailError> {
        let mut members =
            Self { known: state.members.iter().map(|member| (member.id, member.clone())).collect(), ..Self::default() };
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
                members.change(entry)?;
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
        self.known.get(&id)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.voters.len() + self.learners.len()
    }

    fn change(&mut self, entry: &LogEntry) -> Result<(), TailError> {
        let undecodable = |reason: String| TailError::Undecodable { index: entry.index, reason };
        let change = raftpb::ConfChange::decode(entry.data.clone()).map_err(|error| undecodable(error.to_string()))?;
        let id = change.node_id();
        let described = |context: &[u8]| -> Result<(Member, bool), TailError> {
            let context_of: ChangeContext =
                serde_json::from_slice(context).map_err(|error| undecodable(error.to_string()))?;
            let member = serde_json::from_slice(context).map_err(|error| undecodable(error.to_string()))?;
            Ok((member, context_of.is_promote))
        };
        match change.r#type() {
            raftpb::ConfChangeType::ConfChangeRemoveNode => {
                self.voters.remove(&id);
                self.learners.remove(&id);
                self.known.remove(&id);
            }
            raftpb::ConfChangeType::ConfChangeUpdateNode => {
                let (described, _) = described(change.context())?;
                let known = self.known.entry(id).or_default();
                (known.id, known.peer_urls) = (id, described.peer_urls);
            }
            kind => {
                let is_learner = kind == raftpb::ConfChangeType::ConfChangeAddLearnerNode;
                let (described, is_promote) = described(change.context())?;
                let (role, other) = match is_learner {
                    true => (&mut self.learners, &mut self.voters),
                    false => (&mut self.voters, &mut self.learners),
                };
                role.insert(id);
                other.remove(&id);
                match self.known.get_mut(&id) {
                    Some(known) if is_promote => known.is_learner = false,
                    _ => drop(self.known.insert(id, described)),
                }
            }
        }
        Ok(())
    }

    fn set_attributes(&mut self, id: u64, name: String, client_urls: Vec<String>) {
        if let Some(member) = self.known.get_mut(&id) {
            (member.name, member.client_urls) = (name, client_urls);
        }
    }

    /// Takes in what a request of the v2 API says of members. False: it is about something else.
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

/// Where the log ended, as the database is to say it.
pub fn put_end(backend: &mut Backend, ended: &Ended) {
    state::put_applied(backend, ended.index, ended.term);
}
