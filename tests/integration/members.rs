//! The Cluster service of one member beside etcd's: changes that are refused, learners that never start, and hand-overs without
//! anybody to hand over to.

use std::fmt::Debug;

use prost::Message;
use ringd::proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse,
    StatusRequest, StatusResponse,
};

use crate::harness::{
    self,
    grpc::Refusal,
    pair::{NAMES, Pair, difference},
    server::Server,
};

const ADD: &str = "/etcdserverpb.Cluster/MemberAdd";
const REMOVE: &str = "/etcdserverpb.Cluster/MemberRemove";
const UPDATE: &str = "/etcdserverpb.Cluster/MemberUpdate";
const PROMOTE: &str = "/etcdserverpb.Cluster/MemberPromote";
const LIST: &str = "/etcdserverpb.Cluster/MemberList";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";

/// Where nobody listens.
const NOBODY: &str = "http://127.0.0.1:1";
const NOBODY_ELSE: &str = "http://127.0.0.2:1";

/// Every request that one started member can answer, with the answers of etcd.
pub fn requests_agree() {
    harness::run(async {
        let mut pair = Pair::start(&[]).await;
        for urls in [&[][..], &[""], &["x"], &["127.0.0.1:1"], &["http://a"], &["ftp://a:1"], &["http://a:1/x"]] {
            add(&pair, urls, true).await.expect_err("no URLs of a member");
        }
        for id in [0, 5, u64::MAX] {
            unknown(&pair, id).await;
        }
        let own = own_ids(&pair).await;
        refused::<_, MemberRemoveResponse>(&pair, REMOVE, own.map(|id| MemberRemoveRequest { id })).await;
        refused::<_, MemberPromoteResponse>(&pair, PROMOTE, own.map(|id| MemberPromoteRequest { id })).await;

        let learners = learner(&pair).await;
        list(&pair).await;
        add(&pair, &[NOBODY], true).await.expect_err("its URL is taken");
        add(&pair, &[NOBODY], false).await.expect_err("its URL is taken");
        add(&pair, &[NOBODY_ELSE], true).await.expect_err("one learner is the limit");
        refused::<_, MemberPromoteResponse>(&pair, PROMOTE, learners.map(|id| MemberPromoteRequest { id })).await;
        let moved = |id| MemberUpdateRequest { id, peer_ur_ls: vec![NOBODY_ELSE.into()] };
        done::<_, MemberUpdateResponse>(&pair, UPDATE, learners.map(moved), |response| &mut response.members).await;
        list(&pair).await;
        pair.restart(Server::crash).await;
        list(&pair).await;
        let removal = learners.map(|id| MemberRemoveRequest { id });
        done::<_, MemberRemoveResponse>(&pair, REMOVE, removal, |response| &mut response.members).await;
        refused::<_, MemberRemoveResponse>(&pair, REMOVE, removal).await;
        list(&pair).await;
    });
}

/// With room for more of them, and without the checks that protect the quorum.
pub fn limits_agree() {
    harness::run(async {
        let pair = Pair::start(&["--max-learners", "2", "--strict-reconfig-check=false"]).await;
        let own = own_ids(&pair).await;
        learner(&pair).await;
        add(&pair, &[NOBODY_ELSE, "http://127.0.0.3:1"], true).await.expect("two learners may be");
        add(&pair, &["http://127.0.0.4:1"], true).await.expect_err("two learners are the limit");
        refused::<_, MemberPromoteResponse>(&pair, PROMOTE, own.map(|id| MemberPromoteRequest { id })).await;
        // The second voter has to start before anything else is committed.
        add(&pair, &["http://127.0.0.5:1"], false).await.expect("a second voter");
        let stale: Result<MemberListResponse, _> = pair
            .agree_after(LIST, &MemberListRequest { linearizable: false }, |r: &mut MemberListResponse| {
                level(&mut r.members)
            })
            .await;
        assert_eq!(stale.expect("needs no quorum").members.len(), 4);
    });
}

async fn unknown(pair: &Pair, id: u64) {
    let removed: Result<MemberRemoveResponse, _> = pair.agree(REMOVE, &MemberRemoveRequest { id }).await;
    removed.expect_err("there is no such member");
    let promoted: Result<MemberPromoteResponse, _> = pair.agree(PROMOTE, &MemberPromoteRequest { id }).await;
    promoted.expect_err("there is no such member");
    let request = MemberUpdateRequest { id, peer_ur_ls: vec![NOBODY.into()] };
    let updated: Result<MemberUpdateResponse, _> = pair.agree(UPDATE, &request).await;
    updated.expect_err("there is no such member");
}

async fn add(pair: &Pair, urls: &[&str], is_learner: bool) -> Result<MemberAddResponse, Refusal> {
    let peer_ur_ls = urls.iter().map(|&url| url.to_owned()).collect();
    let request = MemberAddRequest { peer_ur_ls, is_learner };
    pair.agree_after(ADD, &request, |response: &mut MemberAddResponse| {
        level(&mut response.members);
        if let Some(member) = &mut response.member {
            member.id = 0;
        }
    })
    .await
}

/// Adds a learner that never starts: its ids.
async fn learner(pair: &Pair) -> [u64; 2] {
    add(pair, &[NOBODY], true).await.expect("a learner");
    let lists = pair.both(LIST, &MemberListRequest { linearizable: true }).await;
    lists.map(|reply| {
        let response: MemberListResponse = reply.typed().expect("a list");
        response.members.iter().find(|member| member.is_learner).expect("it is there").id
    })
}

async fn list(pair: &Pair) {
    for linearizable in [false, true] {
        let listed: Result<MemberListResponse, _> = pair
            .agree_after(LIST, &MemberListRequest { linearizable }, |r: &mut MemberListResponse| level(&mut r.members))
            .await;
        listed.expect("a list");
    }
}

/// Ids follow from the time and from ports, and so does the order of members; the member that is asked has ports of its own.
fn level(members: &mut [Member]) {
    for member in &mut *members {
        member.id = 0;
        if !member.name.is_empty() {
            member.peer_ur_ls.clear();
            member.client_ur_ls.clear();
        }
    }
    members.sort_by(|one, other| (&one.name, &one.peer_ur_ls).cmp(&(&other.name, &other.peer_ur_ls)));
}

async fn own_ids(pair: &Pair) -> [u64; 2] {
    pair.both(STATUS, &StatusRequest {}).await.map(|reply| {
        let status: StatusResponse = reply.typed().expect("a status");
        status.header.expect("every response has a header").member_id
    })
}

/// Asks each with its own request, of the same meaning.
async fn each<Q: Message, R: Message + Default + Debug + PartialEq>(
    pair: &Pair,
    path: &str,
    requests: [Q; 2],
    level: impl Fn(&mut R),
) -> [Result<R, Refusal>; 2] {
    let [ringd, etcd] = requests.map(|request| request.encode_to_vec().into());
    let (ringd, etcd) = tokio::join!(pair.connections[0].call(path, ringd), pair.connections[1].call(path, etcd));
    let replies = [ringd, etcd];
    if let Some(what) = difference(&replies, level) {
        panic!("{path}\n{what}");
    }
    replies.map(harness::grpc::Reply::typed)
}

async fn refused<Q: Message, R: Message + Default + Debug + PartialEq>(pair: &Pair, path: &str, requests: [Q; 2]) {
    for (name, reply) in NAMES.iter().zip(each::<Q, R>(pair, path, requests, |_| ()).await) {
        assert!(reply.is_err(), "{path}: {name} does not refuse");
    }
}

async fn done<Q: Message, R: Message + Default + Debug + PartialEq>(
    pair: &Pair,
    path: &str,
    requests: [Q; 2],
    members: impl Fn(&mut R) -> &mut Vec<Member>,
) {
    let replies = each(pair, path, requests, |response| level(members(response))).await;
    for (name, reply) in NAMES.iter().zip(replies) {
        assert!(reply.is_ok(), "{path}: {name} refuses: {reply:?}");
    }
}
