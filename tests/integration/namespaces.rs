//! Partitions of every shape between members in network namespaces, under load: here it is the kernel that loses packets, not a proxy.

use ringd::proto::etcdserverpb::{RangeRequest, RangeResponse};

use crate::{
    cluster::{SNAPSHOTS, SOME, cast},
    harness::{self, cluster::Cluster, load::Load, namespaces::Wires},
};

/// Links that fail while a quorum is left: the leader and two followers.
type Shape = (&'static str, fn(&Wires, [usize; 3]));

const SHAPES: [Shape; 7] = [
    ("the leader is alone", |wires, [leader, a, b]| wires.split(&[leader], &[a, b])),
    ("a follower is alone", |wires, [leader, a, b]| wires.split(&[a], &[leader, b])),
    ("the leader hears nobody", |wires, [leader, a, b]| [a, b].iter().for_each(|&from| wires.cut(from, leader))),
    ("nobody hears the leader", |wires, [leader, a, b]| [a, b].iter().for_each(|&to| wires.cut(leader, to))),
    ("the leader and a follower have only the other one in common", |wires, [leader, a, _]| wires.cut_both(leader, a)),
    ("the followers have only the leader in common", |wires, [_, a, b]| wires.cut_both(a, b)),
    ("the leader is unplugged", |wires, [leader, ..]| wires.unplug(leader)),
];

/// A quorum has links: writes are acknowledged while the others fail.
pub fn three_keep_a_quorum() {
    let cluster = Cluster::start_in_namespaces(&cast(), &SNAPSHOTS);
    let load = Load::start(&cluster, harness::seed("namespaces::three_keep_a_quorum", 1));
    load.wait_for_writes(SOME);
    for (name, shape) in SHAPES {
        eprintln!("{name}");
        let leader = cluster.leader();
        shape(cluster.wires(), [leader, (leader + 1) % 3, (leader + 2) % 3]);
        load.wait_for_writes(SOME / 2);
        cluster.wires().heal();
        cluster.wait_until_healthy();
    }
    load.wait_for_writes(SOME);
    load.judge(&cluster);
}

/// All links fail: nobody answers what needs a quorum, and all do again when they work.
pub fn three_lose_every_link() {
    let cluster = Cluster::start_in_namespaces(&cast(), &[]);
    let load = Load::start(&cluster, harness::seed("namespaces::three_lose_every_link", 1));
    load.wait_for_writes(SOME);
    let leader = cluster.leader();
    [(0, 1), (0, 2), (1, 2)].iter().for_each(|&(one, other)| cluster.wires().cut_both(one, other));
    let request = RangeRequest { key: "k".into(), ..RangeRequest::default() };
    let alone = cluster.try_ask::<_, RangeResponse>(leader, "KV/Range", &request);
    assert!(alone.is_err(), "a member without a link answers a linearizable read: {alone:?}");
    for at in 0..3 {
        let _: RangeResponse = cluster.ask(at, "KV/Range", &RangeRequest { serializable: true, ..request.clone() });
    }
    cluster.wires().heal();
    cluster.wait_until_healthy();
    load.wait_for_writes(SOME);
    load.judge(&cluster);
}

/// Five: the leader in the minority, then in the majority, and two pairs that meet only in the fifth.
pub fn five_are_split() {
    let [x, y, z] = cast();
    let cluster = Cluster::start_in_namespaces(&[x, y, z, x, y], &SNAPSHOTS);
    let load = Load::start(&cluster, harness::seed("namespaces::five_are_split", 1));
    load.wait_for_writes(SOME);
    for shape in 0..3 {
        let leader = cluster.leader();
        let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|step| (leader + step) % 5);
        match shape {
            0 => cluster.wires().split(&[a, b], &[c, d, e]),
            1 => cluster.wires().split(&[a, b, c], &[d, e]),
            _ => cluster.wires().split(&[b, c], &[d, e]),
        }
        load.wait_for_writes(SOME);
        cluster.wires().heal();
        cluster.wait_until_healthy();
    }
    load.wait_for_writes(SOME);
    load.judge(&cluster);
}
