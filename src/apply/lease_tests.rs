//! Leases through the log: a revocation in slices as readers see it, in the page file, and after a restart.

use std::collections::BTreeMap;

use prost::Message;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{request::Kind, *};
use crate::mvcc;
use crate::{
    auth::Requester,
    base::limits,
    lease::{Lessor, Terms},
    mvcc::{ChangeKind, EventReader, RangeOptions, Restore},
    pagefile::PageFile,
    proto::{
        etcdserverpb::{
            AlarmRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseGrantRequest, LeaseGrantResponse,
            LeaseRevokeRequest, LeaseRevokeResponse, RequestOp, request_op::Request,
        },
        membershippb::ClusterVersionSetRequest,
    },
    sim::page_files::LonePageFile,
};

const IMAGE_BYTES: usize = 16 << 20;
const RAFT: RaftStatus = RaftStatus { leader: 1, term: 2, committed: 0 };
/// More keys than three slices delete.
const MANY: usize = 3 * limits::LEASE_KEYS_PER_SLICE + 10;

/// A member without consensus and log.
struct Member {
    pages: LonePageFile,
    applier: Applier,
    /// The proposals, for replay.
    log: Vec<LogEntry>,
}

impl Member {
    fn new() -> Self {
        let new = LonePageFile::new(&PageFile::image_of_new_file(4096), IMAGE_BYTES);
        Self::open(new.expect("sound"), Vec::new())
    }

    fn open((pages, file): (LonePageFile, PageFile), log: Vec<LogEntry>) -> Self {
        let mut backend = Backend::new(file).expect("sound");
        let state = state::restore(&backend.view()).expect("readable");
        let mut restore = Restore::new(backend.view()).expect("sound");
        while !restore.step(100).expect("sound") {}
        let (store, attachments) = restore.finish(&mut backend).expect("sound");
        let mut lessor = Lessor::new(Terms::default());
        assert_eq!(lessor.restore(&state.leases, &attachments), 0);
        let membership = state.membership(7, 1);
        Self { pages, applier: Applier::new(store, backend, state, membership, lessor), log }
    }

    /// The member after a power cut and a start from the page file and the log.
    fn restarted(&self) -> Self {
        let mut member = Self::open(self.pages.after_power_cut().expect("sound"), self.log.clone());
        for at in 0..member.log.len() {
            let entry = member.log[at].clone();
            if entry.index > member.applier.index() {
                drop(member.apply_entry(&entry));
            }
        }
        member
    }

    fn commit(&mut self) {
        assert!(self.applier.begin_commit(false));
        let commit = loop {
            if let Some(commit) = self.applier.backend().step_commit(100).expect("sound") {
                break commit;
            }
        };
        self.pages.carry_out(commit).expect("a disk without faults");
        self.applier.backend().on_committed().expect("sound");
    }

    fn propose(&mut self, kind: Kind, message: &impl Message) -> LogEntry {
        let index = self.log.len() as u64 + 1;
        let data = request::wrap(index, kind, &message.encode_to_vec(), Requester::NOBODY);
        let entry = LogEntry { index, term: 2, kind: EntryKind::Normal, data };
        self.log.push(entry.clone());
        entry
    }

    fn apply_entry(&mut self, entry: &LogEntry) -> Result<Bytes, Refusal> {
        let mut applied = self.applier.apply(entry, RAFT, |_| true).expect("sound");
        while matches!(applied, Applied::Unfinished) {
            applied = self.applier.resume(RAFT, |_| true).expect("sound");
        }
        match applied {
            Applied::Answered { outcome, .. } => outcome,
            other => panic!("an answer, not {other:?}"),
        }
    }

    fn apply(&mut self, kind: Kind, message: &impl Message) -> Result<Bytes, Refusal> {
        let entry = self.propose(kind, message);
        self.apply_entry(&entry)
    }

    fn grant(&mut self, id: i64, ttl: i64) -> Result<LeaseGrantResponse, Refusal> {
        let answer = self.apply(Kind::LeaseGrant, &LeaseGrantRequest { id, ttl })?;
        Ok(LeaseGrantResponse::decode(answer).expect("a response"))
    }

    fn revoke(&mut self, id: i64) -> Result<LeaseRevokeResponse, Refusal> {
        let answer = self.apply(Kind::LeaseRevoke, &LeaseRevokeRequest { id })?;
        Ok(LeaseRevokeResponse::decode(answer).expect("a response"))
    }

    fn put(&mut self, key: &str, lease: i64) -> Result<Bytes, Refusal> {
        self.apply(Kind::Put, &put(key, lease))
    }

    fn put_many(&mut self, lease: i64) {
        for number in (0..MANY).rev() {
            self.put(&format!("key{number:05}"), lease).expect("put");
        }
    }

    fn view(&self) -> mvcc::View {
        self.applier.view(RAFT).kv
    }

    fn revision(&self) -> i64 {
        self.view().revision()
    }

    fn live(&self) -> i64 {
        let everything =
            RangeOptions { key: "\0".into(), range_end: "\0".into(), count_only: true, ..Default::default() };
        mvcc::collect(&self.view(), &everything).expect("now").count
    }

    /// Every change from `revision` on: revision, sub revision, whether deleted, key.
    fn history(&self, revision: i64) -> Vec<(i64, i64, bool, Bytes)> {
        let view = self.view();
        let (mut reader, mut found) = (EventReader::new(&view, revision), Vec::new());
        let mut visit = |event: mvcc::EventRecord<'_>| {
            let is_deletion = event.kind == ChangeKind::Delete;
            found.push((event.revision.main, event.revision.sub, is_deletion, Bytes::copy_from_slice(event.key)));
        };
        while !reader.step(&view, 100, &mut visit).expect("sound") {}
        found
    }

    /// The keys of each lease.
    fn leases(&mut self) -> BTreeMap<i64, Bytes> {
        let lessor = self.applier.lessor();
        lessor.list(None, usize::MAX).into_iter().map(|(_, id)| (id, lessor.encode_keys(id, 5))).collect()
    }
}

fn put(key: &str, lease: i64) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: "v".into(), lease, ..PutRequest::default() }
}

#[test]
fn a_revocation_is_one_revision_however_many_slices_it_takes() {
    let mut member = Member::new();
    assert_eq!(member.grant(5, 60).map(|granted| (granted.id, granted.ttl)), Ok((5, 60)));
    member.put_many(5);
    member.put("other", 0).expect("put");
    let before = member.revision();
    let entry = member.propose(Kind::LeaseRevoke, &LeaseRevokeRequest { id: 5 });
    let mut applied = member.applier.apply(&entry, RAFT, |_| true).expect("sound");
    let mut slices = 1;
    while matches!(applied, Applied::Unfinished) {
        assert!(member.applier.is_midway());
        assert_eq!((member.revision(), member.live()), (before, MANY as i64 + 1), "half of it is not to be seen");
        assert!(member.history(before + 1).is_empty());
        assert_eq!(member.applier.index(), entry.index - 1);
        assert_eq!(member.applier.view(RAFT).applied, entry.index - 1);
        assert!(!member.applier.begin_commit(false), "half of it is not to be stored");
        applied = member.applier.resume(RAFT, |_| true).expect("sound");
        slices += 1;
    }
    assert_eq!(slices, 4);
    let Applied::Answered { outcome: Ok(answer), .. } = applied else { panic!("an answer, not {applied:?}") };
    let response = LeaseRevokeResponse::decode(answer).expect("a response");
    assert_eq!(response.header.map(|header| header.revision), Some(before + 1));
    assert_eq!((member.revision(), member.live()), (before + 1, 1));
    assert_eq!(member.applier.index(), entry.index);
    let expected: Vec<_> =
        (0..MANY).map(|number| (before + 1, number as i64, true, Bytes::from(format!("key{number:05}")))).collect();
    assert_eq!(member.history(before + 1), expected);
    assert_eq!(member.revoke(5).expect_err("gone"), Refusal::LeaseNotFound);
}

/// A power cut between two slices: the page file has the state before, the log has the whole entry.
#[test]
fn a_revocation_cut_short_is_done_again_from_its_beginning() {
    let mut member = Member::new();
    member.grant(5, 60).expect("granted");
    member.put_many(5);
    member.commit();
    member.put("later", 5).expect("put");
    let entry = member.propose(Kind::LeaseRevoke, &LeaseRevokeRequest { id: 5 });
    let applied = member.applier.apply(&entry, RAFT, |_| true).expect("sound");
    assert!(matches!(applied, Applied::Unfinished));
    let mut restarted = member.restarted();
    member.applier.resume(RAFT, |_| true).expect("sound");
    while member.applier.is_midway() {
        member.applier.resume(RAFT, |_| true).expect("sound");
    }
    assert_eq!(restarted.history(1), member.history(1));
    assert_eq!((restarted.live(), restarted.revision()), (0, member.revision()));
    member.commit();
    restarted.commit();
    let mut again = restarted.restarted();
    assert_eq!(again.applier.index(), entry.index);
    assert_eq!((again.leases(), again.history(1)), (BTreeMap::new(), member.history(1)));
}

#[test]
fn refusals_are_those_of_etcd_and_change_nothing() {
    let mut member = Member::new();
    assert_eq!(member.put("k", 5), Err(Refusal::LeaseNotFound));
    let of_put = RequestOp { request: Some(Request::RequestPut(put("k", 5))) };
    let txn = TxnRequest { success: vec![of_put], ..TxnRequest::default() };
    assert_eq!(member.apply(Kind::Txn, &txn), Err(Refusal::LeaseNotFound));
    assert_eq!(member.grant(5, limits::LEASE_TTL_S_MAX + 1), Err(Refusal::LeaseTtlTooLarge));
    member.grant(5, 1).expect("granted");
    assert_eq!(member.grant(5, 1), Err(Refusal::LeaseExists));
    member.put("k", 5).expect("put");
    let alarm = |action, alarm| AlarmRequest { action, member_id: 1, alarm };
    member.apply(Kind::Alarm, &alarm(1, 1)).expect("raised");
    assert_eq!(member.grant(6, 1), Err(Refusal::NoSpace));
    member.apply(Kind::Alarm, &alarm(1, 2)).expect("raised");
    assert_eq!(member.revoke(5), Err(Refusal::Corrupt));
    member.apply(Kind::Alarm, &alarm(2, 2)).expect("lowered");
    let revision = member.revision();
    assert_eq!(member.revoke(5).map(|answer| answer.header.map(|h| h.revision)), Ok(Some(revision + 1)));
    member.apply(Kind::Alarm, &alarm(2, 1)).expect("lowered");
    member.grant(6, 1).expect("granted");
    assert_eq!(member.revoke(6).map(|answer| answer.header.map(|h| h.revision)), Ok(Some(revision + 1)));
}

#[test]
fn checkpoints_are_stored_once_every_member_knows_them() {
    let mut member = Member::new();
    member.grant(5, 600).expect("granted");
    let checkpoint = |remaining_ttl| LeaseCheckpointRequest {
        checkpoints: vec![LeaseCheckpoint { id: 5, remaining_ttl }, LeaseCheckpoint { id: 6, remaining_ttl }],
    };
    for (version, stored) in [("3.5.0", 0), ("3.6.0", 30), ("3.10.0", 30), ("4.0.0", 30)] {
        let set = ClusterVersionSetRequest { ver: version.to_owned() };
        member.apply(Kind::ClusterVersionSet, &set).expect("set");
        member.apply(Kind::LeaseCheckpoint, &checkpoint(30)).expect("noted");
        member.commit();
        let mut restarted = Member::open(member.pages.after_power_cut().expect("sound"), Vec::new());
        restarted.applier.lessor().promote();
        let left_s = restarted.applier.lessor().time_to_live(5).map(|left| left.remaining_s);
        assert_eq!(left_s, Some(if stored == 0 { 600 } else { stored }), "{version}");
    }
}

#[test]
fn a_restart_at_any_time_finds_the_same_leases_and_keys() {
    for seed in 0..10 {
        eprintln!("seed {seed}");
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut member = Member::new();
        for _ in 0..400 {
            let id = rng.random_range(1..8);
            let key = format!("k{}", rng.random_range(0..30));
            // Some requests are refused, on both sides alike.
            match rng.random_range(0..20) {
                0..4 => drop(member.grant(id, 60)),
                4 => drop(member.revoke(id)),
                5..7 => drop(member.apply(
                    Kind::DeleteRange,
                    &DeleteRangeRequest { key: key.into(), range_end: "k2".into(), ..DeleteRangeRequest::default() },
                )),
                7 => {
                    let kept = PutRequest { ignore_lease: true, ..put(&key, 0) };
                    drop(member.apply(Kind::Put, &kept));
                }
                8 => {
                    let of_put = |key, lease| RequestOp { request: Some(Request::RequestPut(put(key, lease))) };
                    let success = vec![of_put(&key, id), of_put("other", 0)];
                    drop(member.apply(Kind::Txn, &TxnRequest { success, ..TxnRequest::default() }));
                }
                9 if member.applier.backend().pending_changes() > 0 => member.commit(),
                _ => drop(member.put(&key, if rng.random() { id } else { 0 })),
            }
            if rng.random_ratio(1, 40) {
                let mut restarted = member.restarted();
                assert_eq!(restarted.leases(), member.leases());
                assert_eq!(restarted.history(1), member.history(1));
                member = restarted;
            }
        }
    }
}
