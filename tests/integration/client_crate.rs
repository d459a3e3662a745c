//! All services but KV through the etcd-client crate, an independent client.
//!
//! The tests expect etcd's behaviour; with etcd as `RINGD_TEST_SUBJECT` they are checked against it.

use std::time::Duration;

use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions, DowngradeOptions, Error, EventType,
    LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions, WatchFilterType, WatchOptions, WatchResponse, WatchStream,
};
use sha2::{Digest, Sha256};

use crate::harness::{
    self,
    server::{self, Program, Server},
};

/// A step that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const SHA256_BYTES: usize = 32;

/// Several watches on one stream: creation, events, progress, cancellation; from the present, the past, and a compacted past.
pub fn watches() {
    with_client(async |mut client| {
        for (key, value) in [("a", "1"), ("b", "1"), ("a", "2"), ("p/1", "1")] {
            client.put(key, value, None).await.unwrap();
        }
        let mut stream = client.watch("a", None).await.unwrap();
        let first = created(&mut stream).await;
        let past = WatchOptions::new().with_start_revision(2).with_prev_key();
        stream.watch("a", Some(past)).await.unwrap();
        let second = created(&mut stream).await;
        assert_ne!(first, second);
        assert_eq!(events(&next(&mut stream).await, second), ["2 a=1", "4 a=2 was 1"]);
        progress(&mut client, &mut stream).await;

        client.put("a", "3", None).await.unwrap();
        let mut both = [next(&mut stream).await, next(&mut stream).await];
        both.sort_by_key(WatchResponse::watch_id);
        assert_eq!(events(&both[0], first), ["6 a=3"]);
        assert_eq!(events(&both[1], second), ["6 a=3 was 2"]);

        stream.cancel(first).await.unwrap();
        let canceled = next(&mut stream).await;
        assert!(canceled.canceled() && canceled.watch_id() == first, "{canceled:?}");
        client.delete("a", None).await.unwrap();
        assert_eq!(events(&next(&mut stream).await, second), ["7 a deleted was 3"]);
        chosen_watches(&mut client, &mut stream).await;
        compacted_watch(&mut client, &mut stream).await;
        // A client without further requests still gets events.
        stream.watch("a", None).await.unwrap();
        let last = created(&mut stream).await;
        let (requests, mut responses) = stream.split();
        drop(requests);
        client.put("a", "4", None).await.unwrap();
        let mut told = Vec::new();
        while told.len() < 2 {
            told.push(responses.message().await.unwrap().expect("the stream goes on"));
        }
        told.sort_by_key(WatchResponse::watch_id);
        assert_eq!(told.iter().map(WatchResponse::watch_id).collect::<Vec<_>>(), [second, last]);
    });
}

/// With a chosen id, a prefix, a filter.
async fn chosen_watches(client: &mut Client, stream: &mut WatchStream) {
    let prefix = WatchOptions::new().with_prefix().with_watch_id(77).with_filters([WatchFilterType::NoDelete]);
    stream.watch("p/", Some(prefix.clone())).await.unwrap();
    assert_eq!(created(stream).await, 77);
    stream.watch("p/", Some(prefix)).await.unwrap();
    let twice = next(stream).await;
    assert!(twice.canceled(), "{twice:?}");
    assert!(twice.cancel_reason().contains("duplicate"), "{twice:?}");
    client.delete("p/1", None).await.unwrap();
    client.put("p/2", "2", None).await.unwrap();
    client.put("pq", "2", None).await.unwrap();
    assert_eq!(events(&next(stream).await, 77), ["9 p/2=2"]);
    stream.cancel(77).await.unwrap();
    assert!(next(stream).await.canceled());
}

async fn compacted_watch(client: &mut Client, stream: &mut WatchStream) {
    client.compact(6, Some(CompactionOptions::new().with_physical())).await.unwrap();
    stream.watch("a", Some(WatchOptions::new().with_start_revision(3))).await.unwrap();
    let id = created(stream).await;
    let canceled = next(stream).await;
    assert_eq!((canceled.watch_id(), canceled.canceled(), canceled.compact_revision()), (id, true, 6), "{canceled:?}");
    let error = client.compact(6, None).await.unwrap_err().to_string();
    assert!(error.contains("required revision has been compacted"), "{error}");
    let error = client.compact(99, None).await.unwrap_err().to_string();
    assert!(error.contains("required revision is a future revision"), "{error}");
}

/// A progress response has the present revision and follows all events up to it.
async fn progress(client: &mut Client, stream: &mut WatchStream) {
    let present = client.get("a", None).await.unwrap().header().unwrap().revision();
    stream.request_progress().await.unwrap();
    let notice = next(stream).await;
    assert!(notice.events().is_empty() && !notice.created() && !notice.canceled(), "{notice:?}");
    assert_eq!((notice.watch_id(), notice.header().unwrap().revision()), (-1, present));
}

async fn next(stream: &mut WatchStream) -> WatchResponse {
    stream.message().await.unwrap().expect("the stream goes on")
}

async fn created(stream: &mut WatchStream) -> i64 {
    let response = next(stream).await;
    assert!(response.created() && !response.canceled() && response.events().is_empty(), "{response:?}");
    response.watch_id()
}

fn events(response: &WatchResponse, watch_id: i64) -> Vec<String> {
    assert_eq!(response.watch_id(), watch_id, "{response:?}");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let shown = |event: &etcd_client::Event| {
        let kv = event.kv().unwrap();
        let what = match event.event_type() {
            EventType::Put => format!("={}", text(kv.value())),
            EventType::Delete => " deleted".to_owned(),
        };
        let before = event.prev_kv().map_or_else(String::new, |kv| format!(" was {}", text(kv.value())));
        format!("{} {}{what}{before}", kv.mod_revision(), text(kv.key()))
    };
    response.events().iter().map(shown).collect()
}

/// Grant, keepalive, time to live, list, revocation, and expiry.
pub fn leases() {
    with_client(async |mut client| {
        let own = client.lease_grant(1000, Some(LeaseGrantOptions::new().with_id(42))).await.unwrap();
        assert_eq!((own.id(), own.ttl(), own.error()), (42, 1000, ""));
        let error = client.lease_grant(1000, Some(LeaseGrantOptions::new().with_id(42))).await.unwrap_err();
        assert!(error.to_string().contains("lease already exists"), "{error}");
        let given = client.lease_grant(2000, None).await.unwrap().id();
        assert!(given > 0 && given != 42);
        for key in ["k2", "k1"] {
            client.put(key, "v", Some(PutOptions::new().with_lease(42))).await.unwrap();
        }
        let error = client.put("k", "v", Some(PutOptions::new().with_lease(43))).await.unwrap_err();
        assert!(error.to_string().contains("requested lease not found"), "{error}");

        let left = client.lease_time_to_live(42, Some(LeaseTimeToLiveOptions::new().with_keys())).await.unwrap();
        assert_eq!((left.id(), left.granted_ttl()), (42, 1000));
        assert!((1..=1000).contains(&left.ttl()), "{left:?}");
        let mut keys = left.keys().to_vec();
        keys.sort();
        assert_eq!(keys, [b"k1", b"k2"]);
        let mut listed: Vec<i64> = client.leases().await.unwrap().leases().iter().map(|lease| lease.id()).collect();
        listed.sort_unstable();
        assert_eq!(listed, [42, given]);

        let (mut keeper, mut kept) = client.lease_keep_alive(42).await.unwrap();
        keeper.keep_alive().await.unwrap();
        let response = kept.message().await.unwrap().unwrap();
        assert_eq!((response.id(), response.ttl()), (42, 1000));
        client.lease_revoke(42).await.unwrap();
        keeper.keep_alive().await.unwrap();
        assert_eq!(kept.message().await.unwrap().unwrap().ttl(), 0);
        assert!(matches!(client.lease_keep_alive(42).await, Err(Error::LeaseKeepAliveError(_))));
        assert_eq!(client.lease_time_to_live(42, None).await.unwrap().ttl(), -1);
        assert_eq!(client.get("k1", None).await.unwrap().count(), 0);
        let error = client.lease_revoke(42).await.unwrap_err().to_string();
        assert!(error.contains("requested lease not found"), "{error}");
        runs_out(&mut client).await;
    });
}

async fn runs_out(client: &mut Client) {
    let lease = client.lease_grant(1, None).await.unwrap().id();
    client.put("short", "v", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    let mut stream = client.watch("short", None).await.unwrap();
    created(&mut stream).await;
    assert_eq!(next(&mut stream).await.events()[0].event_type(), EventType::Delete);
    assert_eq!(client.lease_time_to_live(lease, None).await.unwrap().ttl(), -1);
}

/// Alarms, hashes, defragmentation, a snapshot, the status, and requests that need several members.
pub fn maintenance() {
    with_client(async |mut client| {
        for number in 0..100 {
            client.put(format!("k{number:02}"), vec![b'v'; 1000], None).await.unwrap();
        }
        alarms(&mut client).await;
        hashes(&mut client).await;
        snapshot(&mut client).await;
        let status = client.status().await.unwrap();
        let member = status.header().unwrap().member_id();
        assert_eq!((status.leader(), status.is_learner(), status.errors()), (member, false, &[][..]));
        assert!(status.version().starts_with("3.7.") && status.storage_version().starts_with("3.7."), "{status:?}");
        assert!(status.raft_index() >= status.raft_applied_index() && status.raft_applied_index() > 100, "{status:?}");
        assert!(0 < status.raft_used_db_size() && status.raft_used_db_size() <= status.db_size(), "{status:?}");
        assert!(status.raft_term() > 0 && status.db_size_quota() > 0, "{status:?}");

        client.move_leader(member).await.unwrap();
        let error = client.move_leader(5).await.unwrap_err().to_string();
        assert!(error.contains("bad leader transferee"), "{error}");
        let mut maintenance = client.maintenance_client();
        let version = maintenance.downgrade(DowngradeOptions::Validate("3.6".into())).await.unwrap();
        assert_eq!(version.version(), "3.7");
        // Without a downgrade, canceling one is no error.
        assert_eq!(maintenance.downgrade(DowngradeOptions::Cancel).await.unwrap().version(), "3.7");
    });
}

async fn alarms(client: &mut Client) {
    let mut of_five = AlarmOptions::new();
    of_five.with_member(5);
    let known = |response: &etcd_client::AlarmResponse| {
        response.alarms().iter().map(|alarm| (alarm.member_id(), alarm.alarm())).collect::<Vec<_>>()
    };
    let raised = client.alarm(AlarmAction::Activate, AlarmType::Nospace, Some(of_five.clone())).await.unwrap();
    assert_eq!(known(&raised), [(5, AlarmType::Nospace)]);
    let listed = client.alarm(AlarmAction::Get, AlarmType::None, None).await.unwrap();
    assert_eq!(known(&listed), [(5, AlarmType::Nospace)]);
    let error = client.put("k", "v", None).await.unwrap_err().to_string();
    assert!(error.contains("database space exceeded"), "{error}");
    assert_eq!(client.status().await.unwrap().errors().len(), 1);
    let disarmed = client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(of_five)).await.unwrap();
    assert_eq!(known(&disarmed), [(5, AlarmType::Nospace)]);
    assert_eq!(known(&client.alarm(AlarmAction::Get, AlarmType::None, None).await.unwrap()), []);
    client.put("k", "v", None).await.unwrap();
}

async fn hashes(client: &mut Client) {
    let before = client.hash_kv(0).await.unwrap();
    let revision = before.header().unwrap().revision();
    assert_eq!(before.hash_revision(), revision);
    client.put("k", "w", None).await.unwrap();
    assert_eq!(client.hash_kv(revision).await.unwrap().hash(), before.hash());
    assert_ne!(client.hash_kv(0).await.unwrap().hash(), before.hash());
    client.compact(revision, Some(CompactionOptions::new().with_physical())).await.unwrap();
    client.defragment().await.unwrap();
    let after = client.hash_kv(0).await.unwrap();
    assert_eq!((after.compact_version(), after.hash_revision()), (revision, revision + 1));
    let error = client.hash_kv(revision - 1).await.unwrap_err().to_string();
    assert!(error.contains("required revision has been compacted"), "{error}");
    assert_eq!(client.hash().await.unwrap().hash(), client.hash().await.unwrap().hash());
}

/// The database, then its SHA-256; every message has the number of remaining bytes.
async fn snapshot(client: &mut Client) {
    let mut stream = client.snapshot().await.unwrap();
    let mut image = Vec::new();
    let mut total = None;
    let mut version = String::new();
    while let Some(piece) = stream.message().await.unwrap() {
        image.extend_from_slice(piece.blob());
        let remaining = usize::try_from(piece.remaining_bytes()).unwrap();
        if remaining > 0 || total.is_none() {
            let all = image.len() + remaining;
            assert_eq!(*total.get_or_insert(all), all, "after {} bytes", image.len());
        }
        version = piece.version().to_owned();
    }
    let (database, hash) = image.split_at(image.len() - SHA256_BYTES);
    assert_eq!(total, Some(database.len()));
    assert_eq!(&Sha256::digest(database)[..], hash);
    assert_eq!(version, "3.7.0");
}

fn with_client(test: impl AsyncFnOnce(Client)) {
    let directory = server::directory();
    let server = Server::start(Program::Ringd, directory.path());
    let test = async { test(Client::connect([server.endpoint()], None).await.unwrap()).await };
    harness::run(async { tokio::time::timeout(PATIENCE, test).await.expect("it does not hang") });
}
