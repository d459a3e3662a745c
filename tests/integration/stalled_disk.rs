//! A leader whose disk hangs. The test freezes its file system, which only root may do.

use bytes::Bytes;
use ringd::proto::etcdserverpb::{PutRequest, PutResponse};

use crate::{
    cluster_services::move_leader,
    disks::Mount,
    harness::{cluster::Cluster, server::Program},
};

/// Room for the log's first segments.
const DISK: &str = "512M";

/// It hands leadership to a member whose disk works, says so once, and follows with all data when its own works again.
pub fn leader_hands_over() {
    let disk = Mount::ext4(DISK);
    let mut cluster = Cluster::start(&[Program::Ringd; 3], &[]);
    let old = 0;
    cluster.stop(old);
    cluster.move_data(old, disk.path().join("data"));
    cluster.restart(old);
    move_leader(&cluster, old);
    put(&cluster, old, "before");

    let frozen = disk.freeze();
    // Whoever takes it passes it to the leader, until there is one that can commit it.
    put(&cluster, 1, "meanwhile");
    let new = cluster.leader_among(&[1, 2]);
    assert_ne!(new, old);
    assert_eq!(cluster.read(2, "k").kvs[0].value, "meanwhile");
    assert!(cluster.has_logged(old, "the disk of the log is stalled"));

    drop(frozen);
    assert_ne!(cluster.leader(), old);
    assert_eq!(cluster.read(old, "k").kvs[0].value, "meanwhile");
    move_leader(&cluster, old);
    put(&cluster, old, "after");
    cluster.assert_hashes_agree();
}

fn put(cluster: &Cluster, at: usize, value: &str) {
    let value = Bytes::copy_from_slice(value.as_bytes());
    let request = PutRequest { key: "k".into(), value, ..PutRequest::default() };
    let _: PutResponse = cluster.ask(at, "KV/Put", &request);
}
