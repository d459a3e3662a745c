//! What one membership change means: read from a conf change of the log, and written into one.
//!
//! | conf change | context, in etcd's JSON | meaning |
//! |---|---|---|
//! | add node | the member | a voter is added |
//! | add node | `{"id":7,"peerURLs":null,"isPromote":true}` | the learner 7 becomes a voter |
//! | add learner node | the member, with `"isLearner":true` | a learner is added |
//! | update node | the member, of which only the peer URLs count | the member has moved |
//! | remove node | none | the member is gone for good |
//!
//! Go writes an empty list as `null` and leaves absent fields out. A change without a context names the member by its node id.
//!
//! Whether a change is valid is a question to [`super::rules`], asked before it is proposed and again before it is applied.

use prost::Message;
use serde::{Deserialize, Serialize};

use super::membership::{Member, Membership};
use crate::{
    base::planted::{self, Bug},
    proto::raftpb::{ConfChange, ConfChangeSingle, ConfChangeType, ConfChangeV2},
};

/// A change of who the members are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new member. `votes` is consensus's view of it, `member.is_learner` the stored one; etcd writes them alike.
    Add { member: Member, votes: bool },
    /// A learner gets a vote.
    Promote { id: u64 },
    /// A member has other peer URLs.
    Update { id: u64, peer_urls: Vec<String> },
    /// A member is gone, and its id is never used again.
    Remove { id: u64 },
}

/// Why a conf change means nothing.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("it is no conf change: {0}")]
    Undecodable(#[from] prost::DecodeError),
    #[error("its type {0} is unknown")]
    Kind(i32),
    #[error("its context is no member: {0}")]
    Context(#[from] serde_json::Error),
    #[error("it names member {node_id:x}, its context member {described:x}")]
    OtherMember { node_id: u64, described: u64 },
}

/// What has to be stored after a change.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect<'a> {
    Put(&'a Member),
    Removed(u64),
    /// It was about a member that is not there.
    Nothing,
}

/// The member in a context, and what else it says.
#[derive(Default, Deserialize)]
struct Context {
    #[serde(flatten)]
    member: Member,
    #[serde(rename = "isPromote", default)]
    is_promote: bool,
}

/// The context of a promotion, byte for byte as etcd writes it.
#[derive(Serialize)]
struct Promotion {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: Option<()>,
    #[serde(rename = "isPromote")]
    is_promote: bool,
}

impl Change {
    /// Reads a conf change.
    ///
    /// # Errors
    /// It is none that etcd writes.
    pub fn of(change: &ConfChange) -> Result<Self, ChangeError> {
        let kind = change.r#type.unwrap_or_default();
        let kind = ConfChangeType::try_from(kind).map_err(|_| ChangeError::Kind(kind))?;
        let id = change.node_id();
        if kind == ConfChangeType::ConfChangeRemoveNode {
            return Ok(Self::Remove { id });
        }
        let Context { member, is_promote } = context_of(change)?;
        Ok(match kind {
            ConfChangeType::ConfChangeUpdateNode => Self::Update { id, peer_urls: member.peer_urls },
            _ if is_promote => Self::Promote { id },
            kind => Self::Add { member, votes: kind != ConfChangeType::ConfChangeAddLearnerNode },
        })
    }

    /// Reads the data of a log entry of type conf change.
    ///
    /// # Errors
    /// As [`Change::of`].
    pub fn decode(data: bytes::Bytes) -> Result<Self, ChangeError> {
        Self::of(&ConfChange::decode(data)?)
    }

    /// Reads the data of a log entry of type conf change v2: several changes at once, or none, which ends a joint configuration.
    ///
    /// # Errors
    /// As [`Change::of`].
    pub fn decode_v2(data: bytes::Bytes) -> Result<Vec<Self>, ChangeError> {
        let change = ConfChangeV2::decode(data)?;
        let single = |ConfChangeSingle { r#type, node_id }: &ConfChangeSingle| {
            let context = change.context.clone();
            Self::of(&ConfChange { id: None, r#type: *r#type, node_id: *node_id, context })
        };
        change.changes.iter().map(single).collect()
    }

    /// The member that it is about.
    #[must_use]
    pub fn id(&self) -> u64 {
        match self {
            Self::Add { member, .. } => member.id,
            Self::Promote { id } | Self::Update { id, .. } | Self::Remove { id } => *id,
        }
    }

    /// The conf change to propose under this id, as etcd's leader would.
    ///
    /// # Panics
    /// Never: plain strings and numbers always serialize.
    #[must_use]
    pub fn to_conf_change(&self, proposal_id: u64) -> ConfChange {
        let (kind, context) = match self {
            Self::Add { member, votes: true } => (ConfChangeType::ConfChangeAddNode, Some(member.to_json())),
            Self::Add { member, votes: false } => (ConfChangeType::ConfChangeAddLearnerNode, Some(member.to_json())),
            Self::Promote { id } => {
                let promotion = Promotion { id: *id, peer_urls: None, is_promote: true };
                let json = serde_json::to_vec(&promotion).expect("numbers serialize");
                (ConfChangeType::ConfChangeAddNode, Some(json))
            }
            Self::Update { id, peer_urls } => {
                let member = Member { id: *id, peer_urls: peer_urls.clone(), ..Member::default() };
                (ConfChangeType::ConfChangeUpdateNode, Some(member.to_json()))
            }
            Self::Remove { .. } => (ConfChangeType::ConfChangeRemoveNode, None),
        };
        ConfChange {
            id: Some(proposal_id),
            r#type: Some(kind.into()),
            node_id: Some(self.id()),
            context: context.map(Into::into),
        }
    }
}

fn context_of(change: &ConfChange) -> Result<Context, ChangeError> {
    let id = change.node_id();
    let json = change.context();
    if json.is_empty() {
        let is_learner = change.r#type == Some(ConfChangeType::ConfChangeAddLearnerNode.into());
        let member = Member { id, is_learner, ..Member::default() };
        return Ok(Context { member, is_promote: false });
    }
    let context: Context = serde_json::from_slice(json)?;
    if context.member.id != id {
        return Err(ChangeError::OtherMember { node_id: id, described: context.member.id });
    }
    Ok(context)
}

impl Membership {
    /// Carries out a change that [`Membership::check`] has accepted. One about a member that is not there changes nothing.
    pub fn change(&mut self, change: Change) -> Effect<'_> {
        let changed = match change {
            Change::Add { member, .. } => {
                let id = member.id;
                if self.add(member) { self.member(id) } else { None }
            }
            Change::Promote { id } => self.set(id, |member| member.is_learner = false),
            // The rest of what a context says is not news: whether it is a learner, above all, stays as it was.
            Change::Update { id, peer_urls } => self.set(id, |member| {
                member.peer_urls = peer_urls;
                member.is_learner &= !planted::has(Bug::LoseLearner);
            }),
            Change::Remove { id } => {
                self.remove(id);
                return Effect::Removed(id);
            }
        };
        changed.map_or(Effect::Nothing, Effect::Put)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf_change(kind: ConfChangeType, id: u64, context: &str) -> ConfChange {
        let context = Some(bytes::Bytes::copy_from_slice(context.as_bytes()));
        ConfChange { id: Some(9), r#type: Some(kind.into()), node_id: Some(id), context }
    }

    fn read(kind: ConfChangeType, context: &str) -> Change {
        Change::of(&conf_change(kind, 7, context)).expect(context)
    }

    /// The contexts as etcd 3.7.1 logs them.
    #[test]
    fn contexts_of_etcd_are_read() {
        use ConfChangeType::*;
        let promotion = r#"{"id":7,"peerURLs":null,"isPromote":true}"#;
        assert_eq!(read(ConfChangeAddNode, promotion), Change::Promote { id: 7 });
        let voter = Member { id: 7, peer_urls: vec!["http://a:1".into()], ..Member::default() };
        let plain = r#"{"id":7,"peerURLs":["http://a:1"]}"#;
        assert_eq!(read(ConfChangeAddNode, plain), Change::Add { member: voter.clone(), votes: true });
        let not_promoted = r#"{"id":7,"peerURLs":["http://a:1"],"isPromote":false}"#;
        assert_eq!(read(ConfChangeAddNode, not_promoted), Change::Add { member: voter.clone(), votes: true });
        let learner = Member { is_learner: true, ..voter.clone() };
        let context = r#"{"id":7,"peerURLs":["http://a:1"],"isLearner":true}"#;
        assert_eq!(read(ConfChangeAddLearnerNode, context), Change::Add { member: learner, votes: false });
        let named = Member { name: "n".into(), client_urls: vec!["http://b:2".into()], ..voter };
        let context = r#"{"id":7,"peerURLs":["http://a:1"],"name":"n","clientURLs":["http://b:2"]}"#;
        assert_eq!(read(ConfChangeAddNode, context), Change::Add { member: named, votes: true });
        assert_eq!(read(ConfChangeUpdateNode, plain), Change::Update { id: 7, peer_urls: vec!["http://a:1".into()] });
        assert_eq!(read(ConfChangeRemoveNode, ""), Change::Remove { id: 7 });
    }

    #[test]
    fn a_change_without_a_context_names_its_member() {
        use ConfChangeType::*;
        let member = Member { id: 7, ..Member::default() };
        assert_eq!(read(ConfChangeAddNode, ""), Change::Add { member: member.clone(), votes: true });
        let learner = Member { is_learner: true, ..member };
        assert_eq!(read(ConfChangeAddLearnerNode, ""), Change::Add { member: learner, votes: false });
        assert_eq!(read(ConfChangeUpdateNode, ""), Change::Update { id: 7, peer_urls: vec![] });
    }

    #[test]
    fn what_is_no_change_is_refused() {
        let add = ConfChangeType::ConfChangeAddNode;
        let refused = |change: &ConfChange| Change::of(change).expect_err("refused");
        assert!(matches!(refused(&conf_change(add, 7, "{")), ChangeError::Context(_)));
        assert!(matches!(refused(&conf_change(add, 7, "[]")), ChangeError::Context(_)));
        let other = conf_change(add, 7, r#"{"id":8,"peerURLs":[]}"#);
        assert!(matches!(refused(&other), ChangeError::OtherMember { node_id: 7, described: 8 }));
        let unknown = ConfChange { r#type: Some(4), ..conf_change(add, 7, "") };
        assert!(matches!(refused(&unknown), ChangeError::Kind(4)));
        assert!(matches!(Change::decode(b"\xff"[..].into()), Err(ChangeError::Undecodable(_))));
    }

    #[test]
    fn changes_are_written_as_etcd_writes_them() {
        let member = Member { id: 7, peer_urls: vec!["http://a:1".into()], ..Member::default() };
        let changes = [
            (Change::Add { member: member.clone(), votes: true }, r#"{"id":7,"peerURLs":["http://a:1"]}"#),
            (
                Change::Add { member: Member { is_learner: true, ..member }, votes: false },
                r#"{"id":7,"peerURLs":["http://a:1"],"isLearner":true}"#,
            ),
            (Change::Promote { id: 7 }, r#"{"id":7,"peerURLs":null,"isPromote":true}"#),
            (Change::Update { id: 7, peer_urls: vec!["http://b:1".into()] }, r#"{"id":7,"peerURLs":["http://b:1"]}"#),
            (Change::Remove { id: 7 }, ""),
        ];
        for (change, context) in changes {
            let written = change.to_conf_change(5);
            assert_eq!((written.id(), written.node_id()), (5, 7));
            assert_eq!(String::from_utf8_lossy(written.context()), context);
            assert_eq!(Change::decode(written.encode_to_vec().into()).expect("reads back"), change);
        }
    }

    #[test]
    fn several_changes_in_one_are_read() {
        let single = |kind: ConfChangeType, id| ConfChangeSingle { r#type: Some(kind.into()), node_id: Some(id) };
        let remove = ConfChangeType::ConfChangeRemoveNode;
        let two = ConfChangeV2 { changes: vec![single(remove, 1), single(remove, 2)], ..ConfChangeV2::default() };
        let read = Change::decode_v2(two.encode_to_vec().into()).expect("two");
        assert_eq!(read, [Change::Remove { id: 1 }, Change::Remove { id: 2 }]);
        assert_eq!(Change::decode_v2(bytes::Bytes::new()).expect("leaves a joint configuration"), []);
    }

    #[test]
    fn changes_do_what_they_say() {
        let mut members = Membership::new(1, 2);
        let learner = Member { id: 7, is_learner: true, peer_urls: vec!["http://a:1".into()], ..Member::default() };
        let added = members.change(Change::Add { member: learner.clone(), votes: false });
        assert_eq!(added, Effect::Put(&learner));
        let moved = Member { peer_urls: vec!["http://b:1".into()], ..learner };
        let change = Change::Update { id: 7, peer_urls: moved.peer_urls.clone() };
        assert_eq!(members.change(change.clone()), Effect::Put(&moved), "it stays a learner");
        let voter = Member { is_learner: false, ..moved };
        assert_eq!(members.change(Change::Promote { id: 7 }), Effect::Put(&voter), "it keeps its URLs");
        assert_eq!(members.change(Change::Remove { id: 7 }), Effect::Removed(7));
        for about_nobody in [change, Change::Promote { id: 7 }, Change::Add { member: voter, votes: true }] {
            assert_eq!(members.change(about_nobody), Effect::Nothing);
        }
        assert_eq!(members.members().count(), 0);
    }
}
