//! Users in a cluster: what one member learns, every other one knows, whoever it is.

use bytes::Bytes;
use prost::Message;
use ringd::proto::etcdserverpb::{
    AuthStatusRequest, AuthStatusResponse, AuthenticateRequest, AuthenticateResponse, LeaseGrantRequest,
    LeaseGrantResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
};

use crate::harness::{
    self,
    cluster::Cluster,
    etcdctl::etcdctl,
    grpc::{Connection, Reply},
    masked::decoded,
    server::Program::{self, Etcd, Ringd},
};

const UNAUTHENTICATED: u32 = 16;

const SETUP: [&str; 8] = [
    "user add root:root",
    "role add root",
    "user grant-role root root",
    "user add alice:a",
    "role add part",
    "role grant-permission part readwrite a b",
    "user grant-role alice part",
    "auth enable",
];

/// Users made through one member count at the others, and a token of one counts at all.
pub fn users_count_everywhere() {
    everywhere(&[Ringd, Ringd, Ringd]);
}

/// The same with an etcd among them: both apply the same entries to the same state.
pub fn mixed_members_agree() {
    everywhere(&[Ringd, Etcd, Ringd]);
}

/// Runs a command of etcdctl's. While a leader is being elected etcd answers the reads in it with an error, and has changed nothing.
fn run(cluster: &Cluster, at: usize, command: &str) {
    loop {
        let done = etcdctl(&cluster.endpoint(at), &command.split(' ').collect::<Vec<_>>(), "");
        if done.success {
            return;
        }
        assert!(format!("{done:?}").contains("leader changed"), "{command} at {at}: {done:?}");
    }
}

fn everywhere(programs: &[Program]) {
    let mut cluster = Cluster::start(programs, &["--bcrypt-cost", "4"]);
    for (number, command) in SETUP.iter().enumerate() {
        run(&cluster, number % 3, command);
    }
    for at in 0..3 {
        for (key, allowed) in [("a1", true), ("z1", false)] {
            let put = etcdctl(&cluster.endpoint(at), &["--user", "alice:a", "put", key, "1"], "");
            assert_eq!(put.success, allowed, "{key} at {at}: {put:?}");
        }
        assert!(!etcdctl(&cluster.endpoint(at), &["get", "a1"], "").success);
        let [wrong, right] = ["wrong", "a"].map(|password| authenticate(&cluster, at, "alice", password).code);
        assert_eq!((wrong, right), (Some(3), Some(0)), "at {at}");
    }
    // A token may be shown at once to a member that has not applied its entry yet.
    for round in 0..30 {
        let from = round % 3;
        let token = token(&cluster, from, "alice", "a");
        for at in 0..3 {
            let put = PutRequest { key: "a1".into(), value: round.to_string().into(), ..PutRequest::default() };
            let mut reply = call(&cluster, at, &token, "KV/Put", &put);
            // etcd waits for the entry before the one that assigns the token.
            while cluster.program(at) == Etcd && reply.code == Some(UNAUTHENTICATED) {
                reply = call(&cluster, at, &token, "KV/Put", &put);
            }
            assert_eq!(reply.code, Some(0), "token of {from} at {at}: {reply:?}");
            let range = RangeRequest { key: "a1".into(), serializable: at == from, ..RangeRequest::default() };
            let reply = call(&cluster, at, &token, "KV/Range", &range);
            assert_eq!(reply.code, Some(0), "token of {from} at {at}: {reply:?}");
            assert_eq!(decoded::<RangeResponse>(&reply.messages[0]).count, 1);
        }
    }
    leases_end(&cluster);
    for round in 0..6 {
        let at = round % 3;
        run(&cluster, at, &format!("--user root:root role grant-permission part readwrite k{round}"));
        run(&cluster, (at + 1) % 3, &format!("--user alice:a put k{round} {round}"));
    }
    agree(&cluster);
    cluster.kill(0);
    run(&cluster, 1, "--user root:root user add late:l");
    run(&cluster, 2, "--user root:root user grant-role late part");
    cluster.restart(0);
    run(&cluster, 0, "--user late:l put a2 late");
    run(&cluster, 0, "--user root:root user delete late");
    assert_eq!(authenticate(&cluster, 1, "late", "l").code, Some(3));
    agree(&cluster);
    run(&cluster, 2, "--user root:root auth disable");
    run(&cluster, 0, "put z1 open");
    agree_openly(&cluster);
}

/// A lease with keys ends although nobody asks for it: the leader may revoke any.
fn leases_end(cluster: &Cluster) {
    let root = token(cluster, 0, "root", "root");
    let reply = call(cluster, 0, &root, "Lease/LeaseGrant", &LeaseGrantRequest { ttl: 2, id: 0 });
    let granted: LeaseGrantResponse = decoded(&reply.messages[0]);
    let put = PutRequest { key: "z2".into(), lease: granted.id, ..PutRequest::default() };
    let reply = call(cluster, 1, &root, "KV/Put", &put);
    assert_eq!(reply.code, Some(0), "{reply:?}");
    let _: PutResponse = decoded(&reply.messages[0]);
    cluster.until("the lease has ended", || {
        let range = RangeRequest { key: "z2".into(), ..RangeRequest::default() };
        let reply = call(cluster, 2, &root, "KV/Range", &range);
        reply.code == Some(0) && decoded::<RangeResponse>(&reply.messages[0]).count == 0
    });
}

/// All members have the same data, and the same users.
fn agree(cluster: &Cluster) {
    let statuses: Vec<AuthStatusResponse> =
        (0..3).map(|at| cluster.ask(at, "Auth/AuthStatus", &AuthStatusRequest {})).collect();
    let of = |status: &AuthStatusResponse| (status.enabled, status.auth_revision);
    assert!(statuses.iter().all(|status| of(status) == of(&statuses[0])), "{statuses:?}");
    for words in ["user list", "role list", "user get alice --detail", "role get part", "endpoint hashkv"] {
        let print = |at: usize| {
            let words: Vec<&str> = ["--user", "root:root"].into_iter().chain(words.split(' ')).collect();
            let printed = etcdctl(&cluster.endpoint(at), &words, "");
            assert!(printed.success, "{words:?} at {at}: {printed:?}");
            printed.stdout.replace(&cluster.endpoint(at), "")
        };
        let all: Vec<String> = (0..3).map(print).collect();
        assert!(all.iter().all(|one| *one == all[0]), "{words}: {all:?}");
    }
}

fn agree_openly(cluster: &Cluster) {
    cluster.assert_hashes_agree();
}

fn authenticate(cluster: &Cluster, at: usize, name: &str, password: &str) -> Reply {
    let request = AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
    call(cluster, at, "", "Auth/Authenticate", &request)
}

fn token(cluster: &Cluster, at: usize, name: &str, password: &str) -> String {
    let reply = authenticate(cluster, at, name, password);
    assert_eq!(reply.code, Some(0), "{name} at {at}: {reply:?}");
    decoded::<AuthenticateResponse>(&reply.messages[0]).token
}

fn call(cluster: &Cluster, at: usize, token: &str, method: &str, request: &impl Message) -> Reply {
    let (path, message): (String, Bytes) = (format!("/etcdserverpb.{method}"), request.encode_to_vec().into());
    harness::run(async {
        let connection = Connection::open(cluster.client_port(at)).await.expect("it serves");
        match token {
            "" => connection.call(&path, message).await,
            token => connection.call_as(token, &path, message).await,
        }
    })
}
