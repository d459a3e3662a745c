//! One machine, or two, step by step: the effects, their order, and the appends that they wait for.

use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{Append, Config, Consensus, DropReason, Effect, Effects, Initial, Input, Refusal, Role};
use crate::base::log_entry::{ConfState, EntryKind, HardState, LogEntry};
use crate::proto::raftpb::{self, ConfChangeType, MessageType};

fn config(member_id: u64) -> Config {
    Config { member_id, election_ticks: 10, heartbeat_ticks: 1, pre_vote: true, seed: 42, log: |_, _| {} }
}

/// A member of a settled group: everything up to entry 5 of term 1 is applied.
fn settled(member_id: u64, voters: &[u64], learners: &[u64]) -> Consensus {
    let initial = Initial {
        hard_state: HardState { term: 1, vote: 0, commit: 5 },
        conf_state: ConfState { voters: voters.to_vec(), learners: learners.to_vec(), ..ConfState::default() },
        snapshot_index: 5,
        snapshot_term: 1,
        entries: Vec::new(),
        applied: 5,
    };
    Consensus::new(&config(member_id), initial).unwrap()
}

fn step(machine: &mut Consensus, input: Input) -> Effects {
    let mut effects = Effects::new();
    machine.step(input, &mut effects);
    effects
}

fn turn(machine: &mut Consensus) -> Effects {
    let mut effects = Effects::new();
    machine.turn(&mut effects);
    effects
}

fn step_and_turn(machine: &mut Consensus, input: Input) -> Effects {
    let mut effects = step(machine, input);
    machine.turn(&mut effects);
    effects
}

fn append_in(effects: &[Effect]) -> &Append {
    let append = effects.iter().find_map(|effect| match effect {
        Effect::Append(append) => Some(append),
        _ => None,
    });
    append.unwrap_or_else(|| panic!("no append in {effects:?}"))
}

fn committed_in(effects: &[Effect]) -> Vec<LogEntry> {
    let entries = effects.iter().filter_map(|effect| match effect {
        Effect::Commit { entries } => Some(entries.clone()),
        _ => None,
    });
    entries.flatten().collect()
}

/// Type, recipient and `after` of every message.
fn sent_in(effects: &[Effect]) -> Vec<(MessageType, u64, Option<u64>)> {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Send { after, message } => Some((message.r#type(), message.to(), *after)),
        _ => None,
    });
    sent.collect()
}

fn wire(kind: MessageType, from: u64, term: u64) -> raftpb::Message {
    raftpb::Message {
        r#type: Some(kind as i32),
        to: Some(1),
        from: Some(from),
        term: Some(term),
        ..raftpb::Message::default()
    }
}

fn propose(machine: &mut Consensus, id: u64) -> Effects {
    let data = Bytes::from(format!("value {id}"));
    step(machine, Input::Propose { id, data })
}

fn conf_change(kind: ConfChangeType, node_id: u64) -> raftpb::ConfChange {
    raftpb::ConfChange {
        id: Some(1),
        r#type: Some(kind as i32),
        node_id: Some(node_id),
        context: Some(Bytes::from_static(b"{\"id\":1}")),
    }
}

/// Makes member 1 of three leader of term 2; its first entry, 6, is in flight.
fn leader_of_three() -> (Consensus, u64) {
    let mut machine = settled(1, &[1, 2, 3], &[]);
    step_and_turn(&mut machine, Input::Campaign);
    let granted = wire(MessageType::MsgPreVoteResp, 2, 2);
    let effects = step_and_turn(&mut machine, Input::Message(granted));
    let append = append_in(&effects).number;
    step_and_turn(&mut machine, Input::Persisted { append });
    let granted = wire(MessageType::MsgVoteResp, 2, 2);
    let effects = step_and_turn(&mut machine, Input::Message(granted));
    assert_eq!(machine.role(), Role::Leader);
    let append = append_in(&effects).number;
    (machine, append)
}

fn acknowledge(machine: &mut Consensus, from: u64, index: u64) -> Effects {
    let mut answer = wire(MessageType::MsgAppResp, from, machine.term());
    answer.index = Some(index);
    step_and_turn(machine, Input::Message(answer))
}

#[test]
fn a_new_single_member_leads_at_once() {
    let initial = Initial::of_new_cluster(vec![(1, Bytes::from_static(b"{}"))]);
    let mut machine = Consensus::new(&config(1), initial).unwrap();
    let founding = committed_in(&turn(&mut machine));
    assert_eq!(founding.len(), 1);
    assert_eq!(machine.role(), Role::Follower, "a conf change is pending");

    let change = conf_change(ConfChangeType::ConfChangeAddNode, 1);
    machine.apply_conf_change(1, &change).unwrap();
    let effects = step_and_turn(&mut machine, Input::Applied { index: 1 });
    assert_eq!(machine.role(), Role::Leader);
    let append = append_in(&effects);
    let hard_state = append.hard_state.unwrap();
    assert_eq!((hard_state.term, hard_state.vote), (2, 1));
    assert_eq!(append.entries.len(), 1);

    let append = append.number;
    let effects = step_and_turn(&mut machine, Input::Persisted { append });
    assert_eq!(committed_in(&effects).len(), 1);
}

#[test]
fn proposals_of_one_turn_share_an_append_and_a_message() {
    let (mut machine, first) = leader_of_three();
    step(&mut machine, Input::Persisted { append: first });
    acknowledge(&mut machine, 2, 6);
    acknowledge(&mut machine, 3, 6);
    step(&mut machine, Input::Applied { index: 6 });
    for id in 1..=32 {
        assert_eq!(propose(&mut machine, id), []);
    }
    let effects = turn(&mut machine);
    let append = append_in(&effects);
    assert_eq!(append.entries.len(), 32);
    assert_eq!(append.entries[31].data, "value 32");
    let app = MessageType::MsgApp;
    assert_eq!(sent_in(&effects), [(app, 2, None), (app, 3, None)]);
    let is_first = matches!(effects[0], Effect::Send { .. });
    assert!(is_first, "followers get to work before our own disk does");

    // A quorum without this member commits, but no entry is in a `Commit` before it is durable here.
    let number = append.number;
    acknowledge(&mut machine, 2, 38);
    let effects = acknowledge(&mut machine, 3, 38);
    assert_eq!((machine.commit(), committed_in(&effects)), (38, vec![]));
    let effects = step_and_turn(&mut machine, Input::Persisted { append: number });
    assert_eq!(committed_in(&effects).len(), 32);
}

#[test]
fn a_commit_index_alone_is_not_written() {
    let (mut machine, first) = leader_of_three();
    step(&mut machine, Input::Persisted { append: first });
    let effects = acknowledge(&mut machine, 2, 6);
    assert_eq!(committed_in(&effects).len(), 1);
    assert!(!effects.iter().any(|e| matches!(e, Effect::Append(_))));
    // It is part of the next append.
    propose(&mut machine, 1);
    let effects = turn(&mut machine);
    assert_eq!(append_in(&effects).hard_state.unwrap().commit, 6);
}

#[test]
fn promises_wait_for_the_disk_and_other_answers_do_not() {
    let mut machine = settled(1, &[1, 2, 3], &[]);
    let mut append = wire(MessageType::MsgApp, 2, 2);
    append.index = Some(5);
    append.log_term = Some(1);
    append.entries = vec![raftpb::Entry { r#type: Some(0), term: Some(2), index: Some(6), data: None }];
    step(&mut machine, Input::Message(append));
    let mut heartbeat = wire(MessageType::MsgHeartbeat, 2, 2);
    heartbeat.context = Some(Bytes::from_static(b"read"));
    step(&mut machine, Input::Message(heartbeat));
    step(&mut machine, Input::ReadIndex { context: 1 });
    propose(&mut machine, 1);
    let effects = turn(&mut machine);
    let number = append_in(&effects).number;
    let expected = [
        (MessageType::MsgHeartbeatResp, 2, None),
        (MessageType::MsgReadIndex, 2, None),
        (MessageType::MsgProp, 2, None),
        (MessageType::MsgAppResp, 2, Some(number)),
    ];
    assert_eq!(sorted(sent_in(&effects)), sorted(expected.to_vec()));

    // An answer with nothing to write waits for the appends in flight.
    let mut vote = wire(MessageType::MsgPreVote, 3, 9);
    vote.index = Some(6);
    vote.log_term = Some(2);
    for _ in 0..10 {
        step_and_turn(&mut machine, Input::Tick);
    }
    let effects = step_and_turn(&mut machine, Input::Message(vote));
    let answers = sent_in(&effects);
    let last = answers.last().unwrap();
    assert_eq!((last.0, last.1), (MessageType::MsgPreVoteResp, 3));
    assert!(last.2.is_some());
}

fn sorted<T: std::fmt::Debug>(mut list: Vec<T>) -> Vec<String> {
    let mut list: Vec<_> = list.drain(..).map(|item| format!("{item:?}")).collect();
    list.sort();
    list
}

#[test]
fn a_sole_voter_does_not_feed_learners_from_an_unwritten_term() {
    let mut machine = settled(1, &[1], &[2]);
    let effects = turn(&mut machine);
    assert!(machine.is_leader());
    let number = append_in(&effects).number;
    assert_eq!(sent_in(&effects), [(MessageType::MsgApp, 2, Some(number))]);
    step_and_turn(&mut machine, Input::Persisted { append: number });
    acknowledge(&mut machine, 2, 6);
    propose(&mut machine, 1);
    let effects = turn(&mut machine);
    assert_eq!(sent_in(&effects), [(MessageType::MsgApp, 2, None)]);
}

#[test]
fn a_sole_voter_campaigns_only_with_a_durable_log() {
    let mut machine = settled(1, &[1], &[2]);
    let append = append_in(&turn(&mut machine)).number;
    // A message of a later term deposes it while its write is under way.
    let later = wire(MessageType::MsgAppResp, 2, 9);
    let effects = step_and_turn(&mut machine, Input::Message(later));
    assert_eq!(machine.role(), Role::Follower);
    for _ in 0..30 {
        step_and_turn(&mut machine, Input::Tick);
        assert_eq!(machine.role(), Role::Follower);
    }
    step_and_turn(&mut machine, Input::Persisted { append });
    let append = append_in(&effects).number;
    step_and_turn(&mut machine, Input::Persisted { append });
    for _ in 0..30 {
        step_and_turn(&mut machine, Input::Tick);
    }
    assert_eq!(machine.role(), Role::Leader);
}

#[test]
fn reads_wait_for_the_first_commit_of_the_term() {
    let (mut machine, first) = leader_of_three();
    assert_eq!(step_and_turn(&mut machine, Input::ReadIndex { context: 7 }), []);
    step(&mut machine, Input::Persisted { append: first });
    let effects = acknowledge(&mut machine, 2, 6);
    let heartbeat = effects.iter().find_map(|effect| match effect {
        Effect::Send { message, .. } if message.r#type() == MessageType::MsgHeartbeat => message.context.clone(),
        _ => None,
    });
    let mut answer = wire(MessageType::MsgHeartbeatResp, 3, 2);
    answer.context = heartbeat;
    let effects = step_and_turn(&mut machine, Input::Message(answer));
    let ready = Effect::ReadReady { context: 7, index: 6 };
    assert!(effects.contains(&ready), "{effects:?}");
}

#[test]
fn reads_without_a_leader_or_across_leaders_are_dropped() {
    let mut machine = settled(1, &[1, 2, 3], &[]);
    let dropped = |context, reason| Effect::ReadDropped { context, reason };
    let effects = step(&mut machine, Input::ReadIndex { context: 1 });
    assert_eq!(effects, [dropped(1, DropReason::NoLeader)]);

    let (mut machine, _) = leader_of_three();
    step(&mut machine, Input::ReadIndex { context: 2 });
    let later = wire(MessageType::MsgHeartbeat, 3, 5);
    let effects = step(&mut machine, Input::Message(later));
    let changed = Effect::LeaderChanged { leader: 3, term: 5 };
    assert_eq!(effects, [changed, dropped(2, DropReason::LeaderChanged)]);
}

#[test]
fn proposals_without_a_leader_come_back() {
    let mut machine = settled(1, &[1, 2, 3], &[]);
    propose(&mut machine, 8);
    let dropped = Effect::ProposalDropped { id: 8, reason: DropReason::NoLeader };
    assert_eq!(turn(&mut machine), [dropped]);
}

#[test]
fn one_conf_change_at_a_time() {
    let (mut machine, first) = leader_of_three();
    step(&mut machine, Input::Persisted { append: first });
    acknowledge(&mut machine, 2, 6);
    step(&mut machine, Input::Applied { index: 6 });
    let change = |id, kind, node| Input::ProposeConfChange { id, change: conf_change(kind, node) };
    let add = change(1, ConfChangeType::ConfChangeAddLearnerNode, 4);
    let effects = step_and_turn(&mut machine, add);
    let entry = &append_in(&effects).entries[0];
    assert_eq!(entry.kind, EntryKind::ConfChange);
    let bytes = prost::Message::encode_to_vec(&conf_change(ConfChangeType::ConfChangeAddLearnerNode, 4));
    assert_eq!(entry.data, bytes, "the bytes are the caller's");

    let dropped = Effect::ProposalDropped { id: 2, reason: DropReason::ConfChangePending };
    let effects = step(&mut machine, change(2, ConfChangeType::ConfChangeAddNode, 5));
    assert_eq!(effects, [dropped]);
}

#[test]
fn conf_changes_that_change_no_quorum() {
    let mut machine = settled(1, &[1], &[]);
    let append = append_in(&turn(&mut machine)).number;
    step_and_turn(&mut machine, Input::Persisted { append });
    step(&mut machine, Input::Applied { index: 6 });
    let mut index = 6;
    let mut apply = |kind: i32, node_id| {
        let mut change = conf_change(ConfChangeType::ConfChangeUpdateNode, node_id);
        change.r#type = Some(kind);
        let input = Input::ProposeConfChange { id: 1, change: change.clone() };
        let append = append_in(&step_and_turn(&mut machine, input)).number;
        step_and_turn(&mut machine, Input::Persisted { append });
        index += 1;
        let result = machine.apply_conf_change(index, &change);
        step(&mut machine, Input::Applied { index });
        result.map(|conf_state| conf_state.unwrap().voters)
    };
    assert_eq!(apply(2, 1), Ok(vec![1]), "an update");
    assert_eq!(apply(0, 0), Ok(vec![1]), "rejected by the application");
    assert!(apply(9, 1).is_err(), "unknown");
    assert!(apply(1, 1).is_err(), "the last voter");
    assert_eq!(apply(0, 2), Ok(vec![1, 2]));
}

#[test]
fn a_removed_leader_tells_the_other_voter_before_it_goes() {
    let mut machine = settled(1, &[1, 2], &[]);
    step_and_turn(&mut machine, Input::Campaign);
    let granted = wire(MessageType::MsgPreVoteResp, 2, 2);
    let append = append_in(&step_and_turn(&mut machine, Input::Message(granted))).number;
    step_and_turn(&mut machine, Input::Persisted { append });
    let granted = wire(MessageType::MsgVoteResp, 2, 2);
    let append = append_in(&step_and_turn(&mut machine, Input::Message(granted))).number;
    step_and_turn(&mut machine, Input::Persisted { append });
    acknowledge(&mut machine, 2, 6);
    step(&mut machine, Input::Applied { index: 6 });

    let change = conf_change(ConfChangeType::ConfChangeRemoveNode, 1);
    let input = Input::ProposeConfChange { id: 1, change: change.clone() };
    let append = append_in(&step_and_turn(&mut machine, input)).number;
    // Another proposal is under way while the removal is applied.
    propose(&mut machine, 2);
    let later = append_in(&turn(&mut machine)).number;
    step_and_turn(&mut machine, Input::Persisted { append });
    acknowledge(&mut machine, 2, 7);
    let conf_state = machine.apply_conf_change(7, &change).unwrap().unwrap();
    assert_eq!(conf_state.voters, [2]);
    step_and_turn(&mut machine, Input::Applied { index: 7 });

    // It still leads, commits and sends its commit index, but takes no proposals.
    step_and_turn(&mut machine, Input::Persisted { append: later });
    let effects = acknowledge(&mut machine, 2, 8);
    assert_eq!(committed_in(&effects).len(), 1);
    let effects = step_and_turn(&mut machine, Input::Tick);
    let heartbeat = effects.iter().find_map(|effect| match effect {
        Effect::Send { message, .. } => Some(message.commit()),
        _ => None,
    });
    assert_eq!(heartbeat, Some(8));
    propose(&mut machine, 3);
    let effects = step_and_turn(&mut machine, Input::ReadIndex { context: 4 });
    let reason = DropReason::Removed;
    assert!(effects.contains(&Effect::ReadDropped { context: 4, reason }));
    assert!(effects.contains(&Effect::ProposalDropped { id: 3, reason }));
    for _ in 0..10 {
        step_and_turn(&mut machine, Input::Tick);
    }
    assert_eq!((machine.role(), machine.leader()), (Role::Follower, 0));
}

fn snapshot_message(index: u64, voters: &[u64]) -> raftpb::Message {
    let mut message = wire(MessageType::MsgSnap, 2, 4);
    message.snapshot = Some(raftpb::Snapshot {
        data: None,
        metadata: Some(raftpb::SnapshotMetadata {
            conf_state: Some(raftpb::ConfState { voters: voters.to_vec(), ..raftpb::ConfState::default() }),
            index: Some(index),
            term: Some(3),
        }),
    });
    message
}

#[test]
fn a_snapshot_is_installed_before_anything_else_happens() {
    let mut machine = settled(1, &[1, 2, 3], &[]);
    let message = snapshot_message(50, &[1, 2]);
    let effects = step_and_turn(&mut machine, Input::Message(message.clone()));
    let append = append_in(&effects).clone();
    let mark = append.snapshot.unwrap();
    assert_eq!((mark.index, mark.term), (50, 3));
    assert_eq!(mark.conf_state.voters, [1, 2]);
    assert_eq!(append.hard_state.unwrap().commit, 50);

    // No election meanwhile, however long it takes; and a second copy is not reported as ignored.
    for _ in 0..100 {
        let effects = step_and_turn(&mut machine, Input::Tick);
        assert_eq!(sent_in(&effects), []);
    }
    let effects = step_and_turn(&mut machine, Input::Message(message));
    assert!(!effects.contains(&Effect::SnapshotIgnored { index: 50 }));

    let append = append.number;
    step_and_turn(&mut machine, Input::Persisted { append });
    assert_eq!((machine.applied(), machine.first_index()), (50, 51));
    let old = snapshot_message(20, &[1]);
    let effects = step_and_turn(&mut machine, Input::Message(old));
    assert!(effects.contains(&Effect::SnapshotIgnored { index: 20 }));
    for _ in 0..30 {
        step_and_turn(&mut machine, Input::Tick);
    }
    assert_eq!(machine.role(), Role::PreCandidate);
}

#[test]
fn a_follower_too_far_behind_gets_a_snapshot() {
    let (mut machine, first) = leader_of_three();
    step(&mut machine, Input::Persisted { append: first });
    acknowledge(&mut machine, 2, 6);
    step(&mut machine, Input::Applied { index: 6 });
    step(&mut machine, Input::Compact { index: 6 });
    let mut behind = wire(MessageType::MsgAppResp, 3, 2);
    behind.reject = Some(true);
    behind.index = Some(5);
    behind.reject_hint = Some(2);
    behind.log_term = Some(1);
    let effects = step_and_turn(&mut machine, Input::Message(behind));
    let snapshot = effects.iter().find_map(|effect| match effect {
        Effect::SendSnapshot { after, message } => Some((*after, message.clone())),
        _ => None,
    });
    let (after, message) = snapshot.unwrap_or_else(|| panic!("no snapshot in {effects:?}"));
    assert_eq!((after, message.to()), (None, 3));
    let metadata = message.snapshot.unwrap().metadata.unwrap();
    assert_eq!((metadata.index(), metadata.term()), (6, 2));
    assert_eq!(metadata.conf_state.unwrap().voters, [1, 2, 3]);
    assert!(machine.followers()[2].needs_snapshot);
}

#[test]
fn leadership_is_handed_over() {
    let (mut machine, first) = leader_of_three();
    step(&mut machine, Input::Persisted { append: first });
    acknowledge(&mut machine, 2, 6);
    let effects = step_and_turn(&mut machine, Input::TransferLeader { to: 2 });
    assert_eq!(sent_in(&effects), [(MessageType::MsgTimeoutNow, 2, None)]);
    assert_eq!(machine.transferee(), Some(2));
    propose(&mut machine, 1);
    let dropped = Effect::ProposalDropped { id: 1, reason: DropReason::Transferring };
    assert_eq!(turn(&mut machine), [dropped]);
}

#[test]
fn refused_messages_are_told() {
    let mut machine = settled(1, &[1, 2, 3], &[]);
    let mut heartbeat = wire(MessageType::MsgHeartbeat, 2, 1);
    heartbeat.commit = Some(6);
    let effects = step(&mut machine, Input::Message(heartbeat));
    let refused = |from, refusal| Effect::MessageRefused { from, refusal };
    assert_eq!(effects, [refused(2, Refusal::CommitBeyondLog)]);
    let stranger = wire(MessageType::MsgAppResp, 9, 1);
    let effects = step(&mut machine, Input::Message(stranger));
    assert_eq!(effects, [refused(9, Refusal::UnknownSender)]);
}

#[test]
#[should_panic(expected = "comes before applied")]
fn a_conf_change_must_not_be_skipped() {
    let initial = Initial::of_new_cluster(vec![(1, Bytes::new())]);
    let mut machine = Consensus::new(&config(1), initial).unwrap();
    turn(&mut machine);
    step(&mut machine, Input::Applied { index: 1 });
}

/// Random messages, many of them nearly valid, never reach an assertion of the crate.
#[test]
fn no_message_stops_the_machine() {
    for seed in 0..400 {
        let run = std::panic::catch_unwind(|| bombard(seed));
        run.unwrap_or_else(|cause| {
            eprintln!("failed with seed {seed}");
            std::panic::resume_unwind(cause)
        });
    }
}

fn bombard(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let voters: &[u64] = [&[1][..], &[1, 2], &[1, 2, 3]][random.random_range(0..3)];
    let mut machine = settled(1, voters, &[4]);
    let mut appends = Vec::new();
    for event in 0..400 {
        let input = match random.random_range(0..10) {
            0 => Input::Tick,
            1 => Input::ReadIndex { context: event },
            2 => Input::Propose { id: event, data: Bytes::from_static(b"x") },
            3 if !appends.is_empty() => Input::Persisted { append: appends.remove(0) },
            4 => Input::Compact { index: random.random_range(0..20) },
            _ => Input::Message(nonsense(&mut random, &machine)),
        };
        let mut effects = step(&mut machine, input);
        if random.random_range(0..3) > 0 {
            machine.turn(&mut effects);
        }
        for effect in effects {
            match effect {
                Effect::Append(append) => appends.push(append.number),
                Effect::Commit { entries } => apply_all(&mut machine, &entries),
                _ => {}
            }
        }
    }
}

fn apply_all(machine: &mut Consensus, entries: &[LogEntry]) {
    for entry in entries {
        if entry.kind == EntryKind::ConfChange {
            let change = prost::Message::decode(entry.data.clone()).unwrap_or_default();
            // The change may be refused, or overtaken by a snapshot.
            let _ = machine.apply_conf_change(entry.index, &change);
        }
        step(machine, Input::Applied { index: entry.index });
    }
}

fn nonsense(random: &mut StdRng, machine: &Consensus) -> raftpb::Message {
    let term = machine.term();
    let last = machine.last_index();
    let near = |random: &mut StdRng, value: u64| match random.random_range(0..20) {
        0 => 0,
        1 => u64::MAX,
        2 => (1 << 62) - 1,
        _ => (value + random.random_range(0..5)).saturating_sub(2),
    };
    let index = near(random, last);
    let log_term = near(random, term);
    let count = random.random_range(0..4);
    let entries = (1..=count).map(|offset| raftpb::Entry {
        r#type: Some(*[0, 0, 0, 1, 2].get(random.random_range(0..6)).unwrap_or(&9)),
        term: Some(near(random, term)),
        index: Some(index.saturating_add(offset)),
        data: Some(Bytes::from_static(b"\x10\x00\x18\x05")),
    });
    let entries = entries.collect();
    let mut message = match random.random_range(0..20) {
        0 => snapshot_message(near(random, last), &[1, 2]),
        _ => raftpb::Message::default(),
    };
    let kind = message.r#type.unwrap_or(random.random_range(0..20));
    message.r#type = Some(kind);
    message.to = Some(1);
    message.from = Some(random.random_range(0..6));
    message.term = Some(match kind {
        2 | 15 => 0,
        // Most terms are near the present one, because distant ones are refused or end the run early.
        _ => near(random, term).min(term + 3),
    });
    message.log_term = Some(log_term);
    message.index = Some(index);
    message.entries = entries;
    message.commit = Some(near(random, machine.commit()));
    message.reject = Some(random.random());
    message.reject_hint = Some(near(random, last));
    message.context = Some(Bytes::from_static(b"context"));
    message
}

/// A member that has an entry and does not know that it is committed learns so from the one that refuses its vote (etcd issue 12359:
/// the change of members that decides who votes may be that entry).
#[test]
fn a_refused_vote_tells_what_is_committed() {
    let of_leader = |commit_term| {
        let mut machine = settled(1, &[1, 2, 3], &[]);
        let mut append = wire(MessageType::MsgApp, 2, 2);
        (append.index, append.log_term, append.commit) = (Some(5), Some(1), Some(5));
        let data = Some(Bytes::from_static(b"value"));
        append.entries = vec![raftpb::Entry { r#type: Some(0), term: Some(2), index: Some(6), data }];
        let effects = step_and_turn(&mut machine, Input::Message(append));
        let append = append_in(&effects).number;
        step_and_turn(&mut machine, Input::Persisted { append });
        let effects = step_and_turn(&mut machine, Input::Campaign);
        assert_eq!(sent_in(&effects).iter().filter(|sent| sent.0 == MessageType::MsgPreVote).count(), 2);
        let mut refused = wire(MessageType::MsgPreVoteResp, 3, 2);
        (refused.reject, refused.commit, refused.commit_term) = (Some(true), Some(6), commit_term);
        let effects = step_and_turn(&mut machine, Input::Message(refused));
        (machine.commit(), committed_in(&effects).len())
    };
    assert_eq!(of_leader(Some(2)), (6, 1));
    assert_eq!(of_leader(None), (5, 0), "as an etcd answers");
    assert_eq!(of_leader(Some(1)), (5, 0), "another entry at this place");
}

#[test]
fn a_candidate_of_an_old_term_hears_of_the_present_one() {
    let mut machine = settled(1, &[1, 2, 3], &[]);
    step_and_turn(&mut machine, Input::Message(wire(MessageType::MsgHeartbeat, 2, 7)));
    let vote = |term| {
        Input::Message(raftpb::Message { index: Some(9), log_term: Some(6), ..wire(MessageType::MsgVote, 4, term) })
    };
    let effects = step(&mut machine, vote(6));
    let [Effect::Send { after: None, message }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(
        (message.r#type(), message.to(), message.term(), message.reject()),
        (MessageType::MsgVoteResp, 4, 7, true)
    );
    assert_eq!(
        step_and_turn(&mut machine, vote(8)).iter().filter(|effect| matches!(effect, Effect::Send { .. })).count(),
        0
    );
}
