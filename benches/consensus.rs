//! The cost of consensus per entry: propose, append, commit, without disk and network.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use ringd::base::log_entry::{ConfState, HardState};
use ringd::consensus::{Config, Consensus, Effect, Effects, Initial, Input};

const BATCH: u64 = 32;
const VALUE_BYTES: usize = 300;
/// Entries kept in memory, as etcd's catch-up entries.
const KEPT: u64 = 5000;

fn member(id: u64, voters: &[u64]) -> Consensus {
    let config =
        Config { member_id: id, election_ticks: 10, heartbeat_ticks: 1, pre_vote: true, seed: 1, log: |_, _| {} };
    let initial = Initial {
        hard_state: HardState { term: 1, vote: 0, commit: 5 },
        conf_state: ConfState { voters: voters.to_vec(), ..ConfState::default() },
        snapshot_index: 5,
        snapshot_term: 1,
        entries: Vec::new(),
        applied: 5,
    };
    Consensus::new(&config, initial).expect("a sound start")
}

/// Delivers messages and acknowledgements until none are left.
struct Group {
    members: Vec<Consensus>,
    effects: Effects,
    committed: u64,
    over_the_wire: bool,
}

impl Group {
    fn of(size: u64, over_the_wire: bool) -> Self {
        let voters: Vec<u64> = (1..=size).collect();
        let members = voters.iter().map(|id| member(*id, &voters)).collect();
        let mut group = Group { members, effects: Effects::new(), committed: 0, over_the_wire };
        group.input(0, Input::Campaign);
        group.settle(0);
        assert!(group.members[0].is_leader());
        group
    }

    fn input(&mut self, member: usize, input: Input) {
        self.members[member].step(input, &mut self.effects);
    }

    fn settle(&mut self, member: usize) {
        let mut work = vec![member];
        while let Some(at) = work.pop() {
            let mut effects = std::mem::take(&mut self.effects);
            self.members[at].turn(&mut effects);
            if effects.is_empty() {
                continue;
            }
            work.push(at);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Append(append) => {
                        black_box(&append.entries);
                        let append = append.number;
                        self.input(at, Input::Persisted { append });
                    }
                    Effect::Send { mut message, .. } => {
                        let to = message.to() as usize - 1;
                        if self.over_the_wire {
                            let bytes = Bytes::from(message.encode_to_vec());
                            message = ringd::proto::raftpb::Message::decode(bytes).expect("what was encoded");
                        }
                        self.input(to, Input::Message(message));
                        work.push(to);
                    }
                    Effect::Commit { entries } => {
                        self.committed += entries.len() as u64;
                        let index = entries.last().expect("never empty").index;
                        self.input(at, Input::Applied { index });
                        let index = index.saturating_sub(KEPT);
                        self.input(at, Input::Compact { index });
                    }
                    _ => {}
                }
            }
        }
    }
}

fn batches(criterion: &mut Criterion) {
    let mut benches = criterion.benchmark_group("propose-append-commit");
    benches.throughput(Throughput::Elements(BATCH));
    for (name, size, over_the_wire) in
        [("1 member", 1, false), ("3 members", 3, false), ("3 members, encoded", 3, true)]
    {
        let mut group = Group::of(size, over_the_wire);
        let value = Bytes::from(vec![7; VALUE_BYTES]);
        benches.bench_function(name, |bencher| {
            bencher.iter(|| {
                let before = group.committed;
                for id in 0..BATCH {
                    let data = value.clone();
                    group.input(0, Input::Propose { id, data });
                }
                group.settle(0);
                assert!(group.committed >= before + BATCH);
            });
        });
    }
    benches.finish();
}

fn reads(criterion: &mut Criterion) {
    let mut group = Group::of(3, false);
    let mut context = 0;
    criterion.bench_function("read index, 3 members", |bencher| {
        bencher.iter(|| {
            context += 1;
            group.input(0, Input::ReadIndex { context });
            group.settle(0);
        });
    });
}

criterion_group!(benches, batches, reads);
criterion_main!(benches);
