//! Who the members are: changed only by applying entries, stored in the buckets `members`, `members_removed` and `cluster`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// etcd's `--max-learners`, where it is not set.
pub const LEARNERS_MAX_DEFAULT: usize = 1;

/// One member, in etcd's JSON: the value in bucket `members` and the context of a conf change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub id: u64,
    #[serde(rename = "peerURLs", default, deserialize_with = "or_null")]
    pub peer_urls: Vec<String>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(rename = "clientURLs", default, deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub client_urls: Vec<String>,
}

/// Go writes an empty list as `null`.
fn or_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default())
}

impl Member {
    /// Whether it has ever started: it has published its name then.
    #[must_use]
    pub fn has_started(&self) -> bool {
        !self.name.is_empty()
    }

    /// The key of this member in its bucket: its id in lowercase hexadecimal.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{:x}", self.id)
    }

    /// etcd's JSON of this member.
    ///
    /// # Panics
    /// Never: plain strings and numbers always serialize.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers serialize")
    }
}

/// A downgrade that was asked for, in etcd's JSON: the value of `downgrade` in bucket `cluster`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downgrade {
    /// As `3.6.0`; empty if there is none.
    #[serde(rename = "target-version", default)]
    pub target_version: String,
    #[serde(default)]
    pub enabled: bool,
}

/// The members of the cluster at one applied index.
#[derive(Clone, Debug)]
pub struct Membership {
    pub cluster_id: u64,
    pub local_id: u64,
    /// How many learners there may be (`--max-learners`).
    pub learners_max: usize,
    members: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
    /// The cluster version (`3.7.0`) once decided.
    pub version: Option<String>,
    pub downgrade: Downgrade,
}

impl Membership {
    /// An empty cluster as seen by `local_id`.
    #[must_use]
    pub fn new(cluster_id: u64, local_id: u64) -> Self {
        Self {
            cluster_id,
            local_id,
            learners_max: LEARNERS_MAX_DEFAULT,
            members: BTreeMap::new(),
            removed: BTreeSet::new(),
            version: None,
            downgrade: Downgrade::default(),
        }
    }

    /// Adds or replaces a member. One that was removed never comes back under the same id.
    pub fn add(&mut self, member: Member) -> bool {
        if self.removed.contains(&member.id) {
            return false;
        }
        self.members.insert(member.id, member);
        true
    }

    /// Removes a member for good.
    pub fn remove(&mut self, id: u64) {
        self.members.remove(&id);
        self.removed.insert(id);
    }

    /// Remembers a removal found in the page file.
    pub fn restore_removed(&mut self, id: u64) {
        self.removed.insert(id);
    }

    /// Sets what a member published of itself.
    pub fn set_attributes(&mut self, id: u64, name: String, client_urls: Vec<String>) -> Option<&Member> {
        self.set(id, |member| (member.name, member.client_urls) = (name, client_urls))
    }

    /// Changes a member that is there.
    pub(super) fn set(&mut self, id: u64, change: impl FnOnce(&mut Member)) -> Option<&Member> {
        let member = self.members.get_mut(&id)?;
        change(member);
        Some(member)
    }

    /// The ids of members that were removed; nobody gets one again.
    pub fn removed(&self) -> impl Iterator<Item = u64> + '_ {
        self.removed.iter().copied()
    }

    /// Whether this id was removed from the cluster.
    #[must_use]
    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    #[must_use]
    pub fn member(&self, id: u64) -> Option<&Member> {
        self.members.get(&id)
    }

    /// Members by ascending id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Whether the local member is a learner.
    #[must_use]
    pub fn local_is_learner(&self) -> bool {
        self.member(self.local_id).is_some_and(|member| member.is_learner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_etcds() {
        let mut member =
            Member { id: 10_501_334_649_042_878_790, peer_urls: vec!["http://a:1".into()], ..Member::default() };
        assert_eq!(
            String::from_utf8(member.to_json()).expect("text"),
            r#"{"id":10501334649042878790,"peerURLs":["http://a:1"]}"#
        );
        member.name = "n".into();
        member.client_urls = vec!["http://b:2".into()];
        let text = String::from_utf8(member.to_json()).expect("text");
        assert!(text.ends_with(r#""name":"n","clientURLs":["http://b:2"]}"#), "{text}");
        assert_eq!(serde_json::from_str::<Member>(&text).expect("reads back"), member);
        let go = r#"{"id":1,"peerURLs":["x"],"isLearner":true,"name":"","clientURLs":null}"#;
        assert!(serde_json::from_str::<Member>(go).expect("Go's null").is_learner);
        let promotion = r#"{"id":1,"peerURLs":null,"isPromote":true}"#;
        assert_eq!(serde_json::from_str::<Member>(promotion).expect("Go's null").peer_urls, Vec::<String>::new());
    }
}
