//! `--force-new-cluster`: two of three members are lost, and the third goes on alone. The same story with ringd and with etcd.

use bytes::Bytes;
use ringd::proto::etcdserverpb::{PutRequest, PutResponse};

use crate::harness::{cluster::Cluster, server::Program};

const KEYS: usize = 20;
const SURVIVOR: usize = 2;
const FORCE: &str = "--force-new-cluster";

/// It has all that was acknowledged, is alone in the list of members, and keeps its ids.
pub fn ringd_goes_on_alone() {
    goes_on_alone(Program::Ringd);
}

/// What the tests of this file expect is what etcd does.
pub fn etcd_goes_on_alone() {
    goes_on_alone(Program::Etcd);
}

fn goes_on_alone(program: Program) {
    let mut cluster = Cluster::start(&[program; 3], &[]);
    for number in 0..KEYS {
        put(&cluster, number % 3, number);
    }
    let before = cluster.list(SURVIVOR);
    // All of it has reached this member.
    let revision = cluster.assert_hashes_agree();
    for at in 0..3 {
        cluster.kill(at);
    }
    cluster.set_flags(SURVIVOR, &[FORCE]);
    cluster.restart(SURVIVOR);
    let is_alone = |cluster: &Cluster| {
        let after = cluster.list(SURVIVOR);
        let (before_header, header) = (before.header.unwrap(), after.header.unwrap());
        assert_eq!(header.cluster_id, before_header.cluster_id);
        assert_eq!(header.member_id, before_header.member_id);
        let itself = before.members.iter().find(|member| member.id == header.member_id);
        assert_eq!(after.members, [itself.unwrap().clone()]);
    };
    is_alone(&cluster);
    // etcd drops what its log does not say is committed, which after a kill may be the last keys.
    if program == Program::Ringd {
        for number in 0..KEYS {
            assert_eq!(cluster.read(SURVIVOR, &key(number)).kvs[0].value, value(number), "{number}");
        }
        assert_eq!(cluster.read(SURVIVOR, "health").header.unwrap().revision, revision);
    }
    put(&cluster, SURVIVOR, KEYS);

    cluster.kill(SURVIVOR);
    cluster.set_flags(SURVIVOR, &[]);
    cluster.restart(SURVIVOR);
    is_alone(&cluster);
    put(&cluster, SURVIVOR, KEYS + 1);

    let log = cluster.ends(0);
    assert!(log.contains("the member has been permanently removed from the cluster"), "a former member: {log}");
    is_alone(&cluster);

    let new = cluster.add(program, false);
    assert_eq!(cluster.read(new, &key(KEYS + 1)).kvs[0].value, value(KEYS + 1));
    let ids = |at: usize| cluster.list(at).members.iter().map(|member| member.id).collect::<Vec<_>>();
    assert_eq!((ids(new).len(), ids(new)), (2, ids(SURVIVOR)));
    assert!(before.members.iter().all(|member| member.id != cluster.id(new)));
    cluster.assert_hashes_agree();
}

fn key(number: usize) -> String {
    format!("key{number}")
}

fn value(number: usize) -> Bytes {
    format!("value{number}").into()
}

fn put(cluster: &Cluster, at: usize, number: usize) {
    let request = PutRequest { key: key(number).into(), value: value(number), ..PutRequest::default() };
    let _: PutResponse = cluster.ask(at, "KV/Put", &request);
}
