//! Changes of members through the log: stored members, refusals, and the changes passed to consensus.

use super::*;
use crate::{
    backend::Bucket,
    cluster::membership::Member,
    lease::Terms,
    mvcc::Restore,
    pagefile::{MemoryImage, PageFile},
};

const IMAGE_BYTES: usize = 1 << 20;

fn applier(image: &MemoryImage, file_len: u64) -> Applier {
    let mut backend = Backend::new(PageFile::open(image.map(), file_len).expect("sound")).expect("sound");
    let mut restore = Restore::new(backend.view()).expect("sound");
    while !restore.step(100).expect("sound") {}
    let (store, _) = restore.finish(&mut backend).expect("sound");
    let state = state::Restored::default();
    let membership = state.membership(7, 1);
    Applier::new(store, backend, state, membership, Lessor::new(Terms::default()))
}

/// Applies a change. Returns the outcome, the node passed to consensus, and the stored member.
fn apply(applier: &mut Applier, change: &MemberChange) -> (Result<(), Refusal>, u64, Option<String>) {
    let index = applier.index() + 1;
    let data = change.to_conf_change(index).encode_to_vec().into();
    let entry = LogEntry { index, term: 2, kind: EntryKind::ConfChange, data };
    let applied = applier.apply(&entry, RaftStatus::default(), |_| false).expect("sound");
    let Applied::ConfChange { id, change: passed, outcome } = applied else { panic!("a conf change, not {applied:?}") };
    assert_eq!(id, index);
    let key = format!("{:x}", change.id());
    let stored = applier.backend().get(Bucket::Members, key.as_bytes()).expect("sound");
    (outcome, passed.node_id(), stored.map(|value| String::from_utf8_lossy(&value).into_owned()))
}

#[test]
fn changes_are_checked_applied_and_stored() {
    let content = PageFile::image_of_new_file(4096);
    let image = MemoryImage::new(&content, IMAGE_BYTES);
    let mut applier = applier(&image, content.len() as u64);
    let learner = Member { id: 5, is_learner: true, peer_urls: vec!["http://a:1".into()], ..Member::default() };
    let add = MemberChange::Add { member: learner.clone(), votes: false };
    let other = Member { id: 6, peer_urls: vec!["http://b:1".into()], ..learner.clone() };
    let second = MemberChange::Add { member: other, votes: false };
    let update = MemberChange::Update { id: 5, peer_urls: vec!["http://c:1".into()] };
    let promote = MemberChange::Promote { id: 5 };
    let remove = MemberChange::Remove { id: 5 };
    let as_learner = r#"{"id":5,"peerURLs":["http://a:1"],"isLearner":true}"#;
    let moved = r#"{"id":5,"peerURLs":["http://c:1"],"isLearner":true}"#;
    let voter = r#"{"id":5,"peerURLs":["http://c:1"]}"#;
    let steps = [
        (&promote, Err(Refusal::MemberNotFound), None),
        (&add, Ok(()), Some(as_learner)),
        (&add, Err(Refusal::MemberExists), Some(as_learner)),
        (&second, Err(Refusal::TooManyLearners), None),
        (&update, Ok(()), Some(moved)),
        (&promote, Ok(()), Some(voter)),
        (&promote, Err(Refusal::MemberNotLearner), Some(voter)),
        (&remove, Ok(()), None),
        (&add, Err(Refusal::MemberNotFound), None),
    ];
    for (change, outcome, stored) in steps {
        let node = if outcome.is_ok() { change.id() } else { 0 };
        assert_eq!(apply(&mut applier, change), (outcome, node, stored.map(str::to_owned)), "{change:?}");
    }
    let removed = applier.backend().get(Bucket::MembersRemoved, b"5").expect("sound");
    assert_eq!(removed.as_deref(), Some(&b"removed"[..]));
}
