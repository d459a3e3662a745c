//! The small buckets: the state stored beside the keys, and how it is read at start.
//!
//! | bucket | key | value |
//! |---|---|---|
//! | meta | `consistent_index`, `term` | 8 bytes big-endian each: everything up to this entry is in the file |
//! | meta | `confState` | JSON `{"voters":[..],"learners":[..],"auto_leave":false}` |
//! | meta | `storageVersion` | `3.7.0` |
//! | cluster | `clusterVersion` | `3.7.0` |
//! | cluster | `downgrade` | JSON `{"target-version":"3.6.0","enabled":true}`, once one was asked for |
//! | members | id in hexadecimal | the member's JSON |
//! | members_removed | id in hexadecimal | `removed` |
//! | alarm | marshalled AlarmMember | nothing |
//! | lease | id, 8 bytes big-endian | marshalled leasepb.Lease |
//! | auth, authUsers, authRoles | see `auth` | |

use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::{
    apply::Alarms,
    auth::{Auth, StoredError},
    backend::{Backend, Bucket, ReadView},
    base::{
        log_entry::ConfState,
        planted::{self, Bug},
    },
    cluster::membership::{Downgrade, Member, Membership},
    pagefile::{Corrupt, ReadTxn},
    proto::leasepb::Lease,
};

const CONSISTENT_INDEX: &[u8] = b"consistent_index";
const TERM: &[u8] = b"term";
const CONF_STATE: &[u8] = b"confState";
const STORAGE_VERSION: &[u8] = b"storageVersion";
const CLUSTER_VERSION: &[u8] = b"clusterVersion";
const DOWNGRADE: &[u8] = b"downgrade";

/// The content of the small buckets at start.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// 0 in a new file.
    pub index: u64,
    pub term: u64,
    pub conf_state: Option<ConfState>,
    pub storage_version: Option<String>,
    pub cluster_version: Option<String>,
    pub downgrade: Downgrade,
    pub members: Vec<Member>,
    pub removed: Vec<u64>,
    pub alarms: Alarms,
    pub leases: Vec<Lease>,
    pub auth: Auth,
}

/// Why the small buckets cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    #[error(transparent)]
    Auth(#[from] StoredError),
    #[error("bucket {bucket}, key {key}: {reason}")]
    Value { bucket: &'static str, key: String, reason: String },
}

/// etcd's JSON of a ConfState: empty lists are left out, `auto_leave` always stands.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct StoredConfState {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    voters: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    voters_outgoing: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learners_next: Vec<u64>,
    auto_leave: bool,
}

/// Reads the small buckets of a page file.
///
/// # Errors
/// Damage, or an invalid value.
pub fn restore(records: &ReadView) -> Result<Restored, StateError> {
    let mut restored = Restored { auth: Auth::restore(records)?, ..Restored::default() };
    visit(records, Bucket::Meta, &mut |key, value| match key {
        CONSISTENT_INDEX => set(&mut restored.index, key, value),
        TERM => set(&mut restored.term, key, value),
        CONF_STATE => {
            let stored: StoredConfState = parse_json("meta", key, value)?;
            restored.conf_state = Some(stored.into());
            Ok(())
        }
        STORAGE_VERSION => {
            restored.storage_version = Some(String::from_utf8_lossy(value).into_owned());
            Ok(())
        }
        _ => Ok(()),
    })?;
    visit(records, Bucket::Cluster, &mut |key, value| {
        match key {
            CLUSTER_VERSION => restored.cluster_version = Some(String::from_utf8_lossy(value).into_owned()),
            DOWNGRADE => restored.downgrade = parse_json("cluster", key, value)?,
            _ => {}
        }
        Ok(())
    })?;
    visit(records, Bucket::Members, &mut |key, value| {
        restored.members.push(parse_json("members", key, value)?);
        Ok(())
    })?;
    visit(records, Bucket::MembersRemoved, &mut |key, _| {
        let id = std::str::from_utf8(key).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
        restored.removed.push(id.ok_or_else(|| bad("members_removed", key, "not a hexadecimal id"))?);
        Ok(())
    })?;
    visit(records, Bucket::Alarm, &mut |key, _| {
        restored.alarms.restore(key);
        Ok(())
    })?;
    visit(records, Bucket::Lease, &mut |key, value| {
        let lease = Lease::decode(value).map_err(|error| bad("lease", key, &error.to_string()))?;
        restored.leases.push(lease);
        Ok(())
    })?;
    Ok(restored)
}

/// Index and term of the last entry that a page file covers, and the members of consensus then.
///
/// # Errors
/// Damage, or an invalid value; a file without members of consensus is none of a member.
pub fn mark(pages: &ReadTxn) -> Result<(u64, u64, ConfState), StateError> {
    let (mut index, mut term, mut conf_state) = (0, 0, None);
    if let Some(root) = pages.bucket(Bucket::Meta.name())? {
        let of = |key| pages.get(&root, key);
        of(CONSISTENT_INDEX)?.map_or(Ok(()), |value| set(&mut index, CONSISTENT_INDEX, value))?;
        of(TERM)?.map_or(Ok(()), |value| set(&mut term, TERM, value))?;
        let stored = of(CONF_STATE)?.map(|value| parse_json::<StoredConfState>("meta", CONF_STATE, value));
        conf_state = stored.transpose()?.map(ConfState::from);
    }
    let conf_state = conf_state.ok_or_else(|| bad("meta", CONF_STATE, "it is missing"))?;
    Ok((index, term, conf_state))
}

type Visitor<'v> = &'v mut dyn FnMut(&[u8], &[u8]) -> Result<(), StateError>;

fn visit(records: &ReadView, bucket: Bucket, visitor: Visitor<'_>) -> Result<(), StateError> {
    let pages = records.pages();
    let Some(root) = pages.bucket(bucket.name())? else { return Ok(()) };
    let mut cursor = pages.cursor(root);
    let mut item = cursor.first()?;
    while let Some(found) = item {
        visitor(found.key, found.value)?;
        item = cursor.next_item()?;
    }
    Ok(())
}

impl Restored {
    /// The members as of the restored index.
    #[must_use]
    pub fn membership(&self, cluster_id: u64, local_id: u64) -> Membership {
        let mut membership = Membership::new(cluster_id, local_id);
        for member in &self.members {
            membership.add(member.clone());
        }
        for id in &self.removed {
            membership.restore_removed(*id);
        }
        membership.version.clone_from(&self.cluster_version);
        membership.downgrade.clone_from(&self.downgrade);
        membership
    }
}

/// Writes the index and term of the last entry that the file covers.
pub fn put_applied(backend: &mut Backend, index: u64, term: u64) {
    let index = index.saturating_sub(u64::from(planted::has(Bug::ApplyTwice)));
    backend.put(Bucket::Meta, Bytes::from_static(CONSISTENT_INDEX), Bytes::copy_from_slice(&index.to_be_bytes()));
    backend.put(Bucket::Meta, Bytes::from_static(TERM), Bytes::copy_from_slice(&term.to_be_bytes()));
}

/// Writes the members of consensus.
///
/// # Panics
/// Never: numbers always serialize.
pub fn put_conf_state(backend: &mut Backend, conf_state: &ConfState) {
    let stored = StoredConfState {
        voters: conf_state.voters.clone(),
        learners: conf_state.learners.clone(),
        voters_outgoing: conf_state.voters_outgoing.clone(),
        learners_next: conf_state.learners_next.clone(),
        auto_leave: conf_state.auto_leave,
    };
    let json = serde_json::to_vec(&stored).expect("numbers serialize");
    backend.put(Bucket::Meta, Bytes::from_static(CONF_STATE), json.into());
}

/// Writes a member.
pub fn put_member(backend: &mut Backend, member: &Member) {
    backend.put(Bucket::Members, member.key().into(), member.to_json().into());
}

/// Removes a member permanently.
pub fn remove_member(backend: &mut Backend, id: u64) {
    let key = format!("{id:x}");
    backend.delete(Bucket::Members, key.as_bytes());
    backend.put(Bucket::MembersRemoved, key.into(), Bytes::from_static(b"removed"));
}

/// Writes a lease.
pub fn put_lease(backend: &mut Backend, lease: &Lease) {
    backend.put(Bucket::Lease, Bytes::copy_from_slice(&lease.id.to_be_bytes()), lease.encode_to_vec().into());
}

/// Removes a lease.
pub fn remove_lease(backend: &mut Backend, id: i64) {
    backend.delete(Bucket::Lease, &id.to_be_bytes());
}

/// Writes the cluster version.
pub fn put_cluster_version(backend: &mut Backend, version: &str) {
    backend.put(Bucket::Cluster, Bytes::from_static(CLUSTER_VERSION), Bytes::copy_from_slice(version.as_bytes()));
}

/// Writes the schema version of the page file.
pub fn put_storage_version(backend: &mut Backend, version: &str) {
    let value = Bytes::copy_from_slice(version.as_bytes());
    backend.put(Bucket::Meta, Bytes::from_static(STORAGE_VERSION), value);
}

/// Writes the requested downgrade.
///
/// # Panics
/// Never: a string and a flag always serialize.
pub fn put_downgrade(backend: &mut Backend, downgrade: &Downgrade) {
    let json = serde_json::to_vec(downgrade).expect("a string and a flag serialize");
    backend.put(Bucket::Cluster, Bytes::from_static(DOWNGRADE), json.into());
}

impl From<StoredConfState> for ConfState {
    fn from(stored: StoredConfState) -> Self {
        Self {
            voters: stored.voters,
            learners: stored.learners,
            voters_outgoing: stored.voters_outgoing,
            learners_next: stored.learners_next,
            auto_leave: stored.auto_leave,
        }
    }
}

fn set(target: &mut u64, key: &[u8], value: &[u8]) -> Result<(), StateError> {
    let bytes = value.try_into().map_err(|_| bad("meta", key, "8 bytes are expected"))?;
    *target = u64::from_be_bytes(bytes);
    Ok(())
}

fn parse_json<'v, T: Deserialize<'v>>(bucket: &'static str, key: &[u8], value: &'v [u8]) -> Result<T, StateError> {
    serde_json::from_slice(value).map_err(|error| bad(bucket, key, &error.to_string()))
}

fn bad(bucket: &'static str, key: &[u8], reason: &str) -> StateError {
    StateError::Value { bucket, key: String::from_utf8_lossy(key).into_owned(), reason: reason.to_owned() }
}
