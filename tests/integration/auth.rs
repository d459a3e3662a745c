//! Users and roles, compared with etcd's: what may be done by whom, what is printed, and what is stored.
//!
//! Both servers get the same requests under tokens of the same users; status and answer must agree.

use std::{fmt::Debug, fs};

use bytes::Bytes;
use prost::Message;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use ringd::proto::{
    authpb::{Permission, UserAddOptions},
    etcdserverpb::{
        AlarmRequest, AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse,
        AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGetResponse,
        AuthRoleGrantPermissionRequest, AuthRoleListRequest, AuthRoleListResponse, AuthRoleRevokePermissionRequest,
        AuthStatusRequest, AuthStatusResponse, AuthUserAddRequest, AuthUserChangePasswordRequest,
        AuthUserDeleteRequest, AuthUserGetRequest, AuthUserGetResponse, AuthUserGrantRoleRequest, AuthUserListRequest,
        AuthUserListResponse, AuthUserRevokeRoleRequest, AuthenticateRequest, AuthenticateResponse, CompactionRequest,
        Compare, DefragmentRequest, DeleteRangeRequest, DowngradeRequest, HashKvRequest, HashRequest,
        LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseRevokeRequest,
        LeaseTimeToLiveRequest, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
        MemberUpdateRequest, MoveLeaderRequest, PutRequest, PutResponse, RangeRequest, RequestOp, SnapshotRequest,
        StatusRequest, TxnRequest, WatchCreateRequest, WatchRequest, WatchResponse, request_op::Request,
        watch_request::RequestUnion,
    },
    v3electionpb::{CampaignRequest, LeaderRequest},
    v3lockpb::{LockRequest, UnlockRequest},
};

use crate::{
    harness::{
        self,
        etcdctl::{Printed, etcdctl, ringctl},
        grpc::{Connection, Reply},
        masked::{decoded, masked},
        pair::Pair,
        printed,
        server::{self, Program, Server},
    },
    utl::migrate,
};

const KV: &str = "/etcdserverpb.KV/";
const LEASE: &str = "/etcdserverpb.Lease/";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

fn path(method: &str) -> String {
    format!("/etcdserverpb.Auth/{method}")
}

fn kv(method: &str) -> String {
    format!("{KV}{method}")
}

/// Without users: the same refusals and empty lists as in etcd.
pub fn without_users_agrees() {
    harness::run(async {
        let pair = Pair::start(&[]).await;
        let put = PutRequest { key: "k".into(), ..PutRequest::default() };
        let _: PutResponse = pair.done("/etcdserverpb.KV/Put", &put).await;
        let named = AuthenticateRequest { name: "root".into(), password: "pw".into() };
        for request in [named, AuthenticateRequest::default()] {
            let _: Result<AuthenticateResponse, _> = pair.agree(&path("Authenticate"), &request).await;
        }
        let _: AuthStatusResponse = pair.done(&path("AuthStatus"), &AuthStatusRequest {}).await;
        let enabled: Result<AuthEnableResponse, _> = pair.agree(&path("AuthEnable"), &AuthEnableRequest {}).await;
        enabled.expect_err("there is no user");
        let _: AuthDisableResponse = pair.done(&path("AuthDisable"), &AuthDisableRequest {}).await;
        let users: AuthUserListResponse = pair.done(&path("UserList"), &AuthUserListRequest {}).await;
        let roles: AuthRoleListResponse = pair.done(&path("RoleList"), &AuthRoleListRequest {}).await;
        assert_eq!((users.users, roles.roles), (vec![], vec![]));
        for name in ["", "root", "nobody"] {
            let request = AuthUserGetRequest { name: name.into() };
            let _: Result<AuthUserGetResponse, _> = pair.agree(&path("UserGet"), &request).await;
            let request = AuthRoleGetRequest { role: name.into() };
            let _: Result<AuthRoleGetResponse, _> = pair.agree(&path("RoleGet"), &request).await;
        }
        for method in ["AuthStatus", "UserList", "RoleGet", "Authenticate", "UserAdd", "RoleAdd"] {
            let nonsense = pair.both_encoded(&path(method), vec![0x0a, 0xff].into()).await;
            let [ours, theirs] = nonsense.map(|reply| (reply.code, reply.messages));
            assert_eq!(ours, theirs, "{method} with what is no message");
        }
    });
}

/// Two servers with the same users, and the tokens of each user at each server.
struct Guarded {
    pair: Pair,
    /// By name: a token for ringd and one for etcd.
    tokens: Vec<(&'static str, [String; 2])>,
}

/// Passwords that cost little, for tests that are not about them.
const QUICK: [&str; 2] = ["--bcrypt-cost", "4"];

const USERS: [(&str, &str); 4] = [("root", "root"), ("alice", "a"), ("bob", "b"), ("nobody", "n")];

const SETUP: [&str; 15] = [
    "user add root:root",
    "user add alice:a",
    "user add bob:b",
    "user add nobody:n",
    "user add cn --no-password",
    "role add root",
    "user grant-role root root",
    "role add part",
    "role grant-permission part readwrite a b",
    "role grant-permission part read r",
    "role grant-permission part write w",
    "user grant-role alice part",
    "role add from",
    "role grant-permission from readwrite m --from-key",
    "user grant-role bob from",
];

impl Guarded {
    async fn start(flags: &[&str]) -> Guarded {
        let pair = Pair::start(&[&QUICK[..], flags].concat()).await;
        for server in pair.servers() {
            run(server, &SETUP);
            for key in ["a1", "a2", "b1", "m1", "r", "w", "z"] {
                run(server, &[&format!("put {key} before")]);
            }
            run(server, &["auth enable"]);
        }
        let mut guarded = Guarded { pair, tokens: Vec::new() };
        for (name, password) in USERS {
            guarded.authenticate(name, password).await;
        }
        guarded
    }

    async fn authenticate(&mut self, name: &'static str, password: &str) {
        let request = AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
        let replies = self.pair.both(&path("Authenticate"), &request).await;
        let tokens = replies.map(|reply| {
            assert_eq!(reply.code, Some(0), "{name}: {reply:?}");
            decoded::<AuthenticateResponse>(&reply.messages[0]).token
        });
        self.tokens.retain(|(other, _)| *other != name);
        self.tokens.push((name, tokens));
    }

    fn tokens_of<'a>(&'a self, user: &'a str) -> [&'a str; 2] {
        match self.tokens.iter().find(|(name, _)| *name == user) {
            Some((_, tokens)) => tokens.each_ref().map(String::as_str),
            None => [user; 2],
        }
    }

    /// Asks both as a user; as nobody with an empty name; with a token that is none as any other name.
    async fn both(&self, user: &str, path: &str, request: &impl Message) -> [Reply; 2] {
        let message: Bytes = request.encode_to_vec().into();
        if user.is_empty() {
            return self.pair.both_encoded(path, message).await;
        }
        let (tokens, connections) = (self.tokens_of(user), &self.pair.connections);
        let (ringd, etcd) = tokio::join!(
            connections[0].call_as(tokens[0], path, message.clone()),
            connections[1].call_as(tokens[1], path, message)
        );
        [ringd, etcd]
    }

    /// The status and the answer must agree. Gives back the status code.
    async fn agree(&self, user: &str, path: &str, request: &(impl Message + Debug)) -> u32 {
        let [ringd, etcd] = self.both(user, path, request).await;
        let shown = |reply: &Reply| (reply.code, reply.message.clone(), reply.messages.iter().map(masked).collect());
        let (ours, theirs): ((_, _, Vec<_>), (_, _, Vec<_>)) = (shown(&ringd), shown(&etcd));
        assert_eq!(ours, theirs, "{path} as {user:?}: {request:?}: ringd, then etcd");
        ours.0.expect("a status")
    }

    /// Only the status must agree.
    async fn same_status(&self, user: &str, path: &str, request: &(impl Message + Debug)) -> u32 {
        let [ringd, etcd] = self.both(user, path, request).await;
        let (ours, theirs) = ((ringd.code, ringd.message), (etcd.code, etcd.message));
        assert_eq!(ours, theirs, "{path} as {user:?}: {request:?}: ringd, then etcd");
        ours.0.expect("a status")
    }
}

fn run(server: &Server, commands: &[&str]) {
    for command in commands {
        let done = etcdctl(&server.endpoint(), &command.split(' ').collect::<Vec<_>>(), "");
        assert!(done.success, "{command}: {done:?}");
    }
}

/// Everybody who may ask: users, nobody, and tokens that are none.
const ASKING: [&str; 8] = ["root", "alice", "bob", "nobody", "", "abcdefghijklmnop.1", "no token", "a.b.c"];

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn put(key: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: "v".into(), ..PutRequest::default() }
}

fn range(key: &str, end: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), range_end: end.to_owned().into(), ..RangeRequest::default() }
}

/// Transactions with something in each place that could be overlooked: compares, both branches, nested ones.
fn transactions() -> Vec<TxnRequest> {
    let compare = |key: &str| Compare { key: key.to_owned().into(), ..Compare::default() };
    let inner = |success: Vec<RequestOp>| TxnRequest { success, ..TxnRequest::default() };
    let nested = |txn: TxnRequest| op(Request::RequestTxn(txn));
    let delete = |key: &str, prev_kv| {
        op(Request::RequestDeleteRange(DeleteRangeRequest {
            key: key.to_owned().into(),
            prev_kv,
            ..DeleteRangeRequest::default()
        }))
    };
    let (get, set) = (|key| op(Request::RequestRange(range(key, ""))), |key| op(Request::RequestPut(put(key))));
    let previous = |key| op(Request::RequestPut(PutRequest { prev_kv: true, ..put(key) }));
    vec![
        TxnRequest::default(),
        TxnRequest { compare: vec![compare("a1")], ..TxnRequest::default() },
        TxnRequest { compare: vec![compare("z")], ..TxnRequest::default() },
        inner(vec![get("a1"), get("r")]),
        inner(vec![get("a1"), get("w")]),
        inner(vec![set("a1"), set("w")]),
        inner(vec![set("a1"), set("z")]),
        inner(vec![previous("a1")]),
        inner(vec![previous("w")]),
        inner(vec![delete("w", false)]),
        inner(vec![delete("w", true)]),
        TxnRequest { failure: vec![set("z")], success: vec![set("a1")], ..TxnRequest::default() },
        inner(vec![nested(inner(vec![set("a1")]))]),
        inner(vec![nested(inner(vec![set("z")]))]),
        inner(vec![nested(TxnRequest { compare: vec![compare("z")], ..TxnRequest::default() })]),
        inner(vec![nested(inner(vec![nested(TxnRequest { failure: vec![get("w")], ..TxnRequest::default() })]))]),
        inner(vec![set("a1"), nested(inner(vec![previous("w")]))]),
    ]
}

/// Reads and writes of everybody.
pub fn rights_on_keys_agree() {
    harness::run(async {
        let guarded = Guarded::start(&[]).await;
        for user in ASKING {
            for (key, end) in
                [("a1", ""), ("a", "b"), ("a", "c"), ("r", ""), ("w", ""), ("m", "\0"), ("n", "z"), ("z", "")]
            {
                let linearizable = range(key, end);
                guarded.agree(user, &kv("Range"), &linearizable).await;
                let local = RangeRequest { serializable: true, ..linearizable.clone() };
                guarded.agree(user, &kv("Range"), &local).await;
                guarded.same_status(user, &kv("RangeStream"), &linearizable).await;
                let bounds = (linearizable.key, linearizable.range_end);
                for prev_kv in [false, true] {
                    let (key, range_end) = bounds.clone();
                    guarded
                        .agree(user, &kv("Put"), &PutRequest { prev_kv, ..put(&String::from_utf8_lossy(&key)) })
                        .await;
                    let request = DeleteRangeRequest { key, range_end, prev_kv };
                    guarded.agree(user, &kv("DeleteRange"), &request).await;
                }
            }
            for request in transactions() {
                guarded.agree(user, &kv("Txn"), &request).await;
            }
            guarded.agree(user, &kv("Put"), &PutRequest::default()).await;
            guarded.agree(user, &kv("Range"), &RangeRequest::default()).await;
        }
    });
}

/// What needs a user, and what needs root.
pub fn rights_to_administrate_agree() {
    harness::run(async {
        let guarded = Guarded::start(&[]).await;
        let maintenance = |method: &str| format!("/etcdserverpb.Maintenance/{method}");
        let cluster = |method: &str| format!("/etcdserverpb.Cluster/{method}");
        let alarm = |action| AlarmRequest { action, member_id: 1, alarm: 1 };
        for user in ["alice", "", "no.1", "root"] {
            let g = &guarded;
            g.same_status(user, &kv("Compact"), &CompactionRequest { revision: 1, physical: false }).await;
            g.same_status(user, &maintenance("Status"), &StatusRequest {}).await;
            for action in 0..3 {
                g.same_status(user, &maintenance("Alarm"), &alarm(action)).await;
            }
            g.same_status(user, &maintenance("Defragment"), &DefragmentRequest {}).await;
            g.same_status(user, &maintenance("Hash"), &HashRequest {}).await;
            g.same_status(user, &maintenance("HashKV"), &HashKvRequest::default()).await;
            g.same_status(user, &maintenance("Snapshot"), &SnapshotRequest {}).await;
            g.same_status(user, &maintenance("MoveLeader"), &MoveLeaderRequest { target_id: 1 }).await;
            g.same_status(user, &maintenance("Downgrade"), &DowngradeRequest { action: 0, version: "x".into() }).await;
            for linearizable in [false, true] {
                g.same_status(user, &cluster("MemberList"), &MemberListRequest { linearizable }).await;
            }
            let bad = MemberAddRequest { peer_ur_ls: vec!["nonsense".into()], is_learner: true };
            g.same_status(user, &cluster("MemberAdd"), &bad).await;
            g.same_status(user, &cluster("MemberRemove"), &MemberRemoveRequest { id: 1 }).await;
            let update = MemberUpdateRequest { id: 1, peer_ur_ls: vec!["http://127.0.0.1:1".into()] };
            g.same_status(user, &cluster("MemberUpdate"), &update).await;
            g.same_status(user, &cluster("MemberPromote"), &MemberPromoteRequest { id: 1 }).await;
            g.agree(user, &path("AuthStatus"), &AuthStatusRequest {}).await;
            g.agree(user, &path("UserList"), &AuthUserListRequest {}).await;
            g.agree(user, &path("RoleList"), &AuthRoleListRequest {}).await;
            for name in ["alice", "bob", "none", ""] {
                g.agree(user, &path("UserGet"), &AuthUserGetRequest { name: name.into() }).await;
            }
            for role in ["part", "from", "root", "none", ""] {
                g.agree(user, &path("RoleGet"), &AuthRoleGetRequest { role: role.into() }).await;
            }
            if user != "root" {
                for request in changes(&mut SmallRng::seed_from_u64(1)) {
                    g.agree(user, &request.0, &request.1).await;
                }
                g.agree(user, &path("AuthDisable"), &AuthDisableRequest {}).await;
            }
        }
    });
}

/// Leases: granting needs a user; attaching, revoking, renewing and looking need every key of the lease.
pub fn rights_on_leases_agree() {
    harness::run(async {
        let guarded = Guarded::start(&[]).await;
        let method = |name: &str| format!("{LEASE}{name}");
        for user in ["alice", "", "no.1"] {
            guarded.same_status(user, &method("LeaseGrant"), &LeaseGrantRequest { ttl: 100, id: 0 }).await;
        }
        for id in 1..=4 {
            guarded.agree("root", &method("LeaseGrant"), &LeaseGrantRequest { ttl: 1000, id }).await;
        }
        // 1 has keys of alice, 2 one of root as well, 3 none, 4 one that alice may write and not read.
        for (key, lease) in [("a1", 1), ("a2", 1), ("z", 2), ("w", 4)] {
            guarded.agree("root", &kv("Put"), &PutRequest { lease, ..put(key) }).await;
        }
        for user in ["alice", "bob", "", "no.1", "root"] {
            for lease in [1, 2, 3, 4, 99] {
                guarded.agree(user, &kv("Put"), &PutRequest { lease, ..put("a3") }).await;
                let inside = op(Request::RequestPut(PutRequest { lease, ..put("a4") }));
                let txn = TxnRequest { success: vec![inside], ..TxnRequest::default() };
                guarded.agree(user, &kv("Txn"), &txn).await;
                for keys in [false, true] {
                    let request = LeaseTimeToLiveRequest { id: lease, keys };
                    guarded.same_status(user, &method("LeaseTimeToLive"), &request).await;
                }
                let renewed = renewals(&guarded, user, lease).await;
                assert_eq!(renewed[0], renewed[1], "renewal of {lease} as {user:?}");
            }
            guarded.same_status(user, &method("LeaseLeases"), &LeaseLeasesRequest {}).await;
        }
        // What was attached meanwhile goes with its lease.
        for user in ["bob", "", "alice", "root"] {
            for id in [2, 1, 3, 4, 99] {
                guarded.agree(user, &method("LeaseRevoke"), &LeaseRevokeRequest { id }).await;
            }
        }
        guarded.agree("root", &kv("Range"), &range("\0", "\0")).await;
    });
}

/// The TTL, or the end of the stream.
async fn renewals(guarded: &Guarded, user: &str, id: i64) -> Vec<String> {
    let (tokens, mut outcomes) = (guarded.tokens_of(user), Vec::new());
    for (connection, token) in guarded.pair.connections.iter().zip(tokens) {
        let headers = if user.is_empty() { vec![] } else { vec![("token", token)] };
        let mut stream = connection.stream(&format!("{LEASE}LeaseKeepAlive"), &headers).await;
        stream.send(&LeaseKeepAliveRequest { id });
        let answer = stream.next::<LeaseKeepAliveResponse>().await;
        outcomes.push(answer.map_or_else(|end| end.to_string(), |response| format!("TTL {}", response.ttl)));
    }
    outcomes
}

/// Watches are checked when they are created: the whole range, as the request has it.
pub fn rights_to_watch_agree() {
    harness::run(async {
        let guarded = Guarded::start(&[]).await;
        for user in ASKING {
            let (tokens, mut answers) = (guarded.tokens_of(user), Vec::new());
            for (connection, token) in guarded.pair.connections.iter().zip(tokens) {
                let headers = if user.is_empty() { vec![] } else { vec![("token", token)] };
                let mut stream = connection.stream(WATCH, &headers).await;
                let mut seen = Vec::new();
                for (key, end, start_revision) in [
                    ("a1", "", 0),
                    ("a1", "\0", 0),
                    ("a", "b", 0),
                    ("r", "\0", 0),
                    ("w", "", 0),
                    ("m", "\0", 0),
                    ("", "", 0),
                    ("", "\0", 0),
                    ("z", "", -1),
                ] {
                    let create = WatchCreateRequest {
                        key: key.into(),
                        range_end: end.into(),
                        start_revision,
                        ..WatchCreateRequest::default()
                    };
                    stream.send(&WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) });
                    let answer =
                        stream.next::<WatchResponse>().await.map(|answer| WatchResponse { header: None, ..answer });
                    seen.push((key, end, answer.map_err(|end| end.to_string())));
                }
                answers.push(seen);
            }
            assert_eq!(answers[0], answers[1], "as {user:?}: ringd, then etcd");
        }
    });
}

/// Lock and Election act as their callers.
pub fn rights_to_lock_agree() {
    harness::run(async {
        let guarded = Guarded::start(&[]).await;
        for user in ["bob", "alice", "", "no.1"] {
            for name in ["a-lock", "m-lock", "z-lock"] {
                let lock = LockRequest { name: name.into(), lease: 0 };
                guarded.same_status(user, "/v3lockpb.Lock/Lock", &lock).await;
                let unlock = UnlockRequest { key: name.into() };
                guarded.same_status(user, "/v3lockpb.Lock/Unlock", &unlock).await;
                let campaign = CampaignRequest { name: format!("{name}-{user}").into(), ..CampaignRequest::default() };
                guarded.same_status(user, "/v3electionpb.Election/Campaign", &campaign).await;
                let leader = LeaderRequest { name: campaign.name };
                guarded.same_status(user, "/v3electionpb.Election/Leader", &leader).await;
            }
        }
    });
}

/// Requests of the Auth service that change something, encoded.
fn changes(random: &mut SmallRng) -> Vec<(String, Encoded)> {
    let mut any = |choices: &[&str]| choices[random.random_range(0..choices.len())].to_owned();
    let (user, role) = (any(&["alice", "bob", "carol", "root", "cn", ""]), any(&["part", "from", "new", "root", ""]));
    let key: Bytes = any(&["a", "a", "b", "m", "r", ""]).into();
    let range_end: Bytes = any(&["", "b", "c", "\0", "a"]).into();
    let no_password = any(&["yes", "no", "no"]) == "yes";
    let perm_type = any(&["0", "1", "2"]).parse().expect("a number");
    let perm = Permission { perm_type, key: key.clone(), range_end: range_end.clone() };
    let options = Some(UserAddOptions { no_password });
    let (name, password) = (user.clone(), "pw".to_owned());
    let add = AuthUserAddRequest { name, password: password.clone(), options, ..AuthUserAddRequest::default() };
    // Root keeps its password, with which it comes back after a restart.
    let other = if user == "root" { "carol" } else { &user };
    let (name, hashed_password) = (other.to_owned(), String::new());
    let change = AuthUserChangePasswordRequest { name, password, hashed_password };
    let grant = AuthUserGrantRoleRequest { user: user.clone(), role: role.clone() };
    let permit = AuthRoleGrantPermissionRequest { name: role.clone(), perm: Some(perm) };
    vec![
        (path("UserAdd"), Encoded::of(&add)),
        (path("UserDelete"), Encoded::of(&AuthUserDeleteRequest { name: user.clone() })),
        (path("UserChangePassword"), Encoded::of(&change)),
        (path("UserGrantRole"), Encoded::of(&grant)),
        (path("UserGrantRole"), Encoded::of(&grant)),
        (path("UserRevokeRole"), Encoded::of(&AuthUserRevokeRoleRequest { name: user, role: role.clone() })),
        (path("RoleAdd"), Encoded::of(&AuthRoleAddRequest { name: role.clone() })),
        (path("RoleDelete"), Encoded::of(&AuthRoleDeleteRequest { role: role.clone() })),
        (path("RoleGrantPermission"), Encoded::of(&permit)),
        (path("RoleGrantPermission"), Encoded::of(&permit)),
        (path("RoleGrantPermission"), Encoded::of(&AuthRoleGrantPermissionRequest { name: role.clone(), perm: None })),
        (path("RoleRevokePermission"), Encoded::of(&AuthRoleRevokePermissionRequest { role, key, range_end })),
    ]
}

/// A message of any type, for lists.
#[derive(Clone, Debug, Default, PartialEq)]
struct Encoded(Bytes);

impl Encoded {
    fn of(message: &impl Message) -> Self {
        Self(message.encode_to_vec().into())
    }
}

impl Message for Encoded {
    fn encode_raw(&self, buffer: &mut impl bytes::BufMut) {
        buffer.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        _: u32,
        _: prost::encoding::WireType,
        _: &mut impl bytes::Buf,
        _: prost::encoding::DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        unreachable!("it is only sent")
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// Random changes by root between reads and writes of the others: every answer agrees, and so does what is stored at the end.
pub fn random_changes_agree() {
    let seed = harness::seed("auth::random_changes_agree", 5);
    let operations = harness::setting("RINGD_DIFFERENTIAL_OPERATIONS", 4000) / 10;
    harness::run(async {
        let mut guarded = Guarded::start(&[]).await;
        let mut random = SmallRng::seed_from_u64(seed);
        for position in 0..operations {
            let list = changes(&mut random);
            let (path_of, request) = list[random.random_range(0..list.len())].clone();
            guarded.agree("root", &path_of, &request).await;
            let user = ASKING[random.random_range(0..ASKING.len())];
            let key = ["a", "a1", "b", "m1", "r", "w", "z"][random.random_range(0..7)];
            let end = ["", "", "b", "z", "\0"][random.random_range(0..5)];
            match random.random_range(0..4) {
                0 => guarded.agree(user, &kv("Put"), &put(key)).await,
                1 => guarded.agree(user, &kv("Txn"), &transactions()[random.random_range(0..17)]).await,
                2 => {
                    let request =
                        DeleteRangeRequest { key: key.into(), range_end: end.into(), ..DeleteRangeRequest::default() };
                    guarded.agree(user, &kv("DeleteRange"), &request).await
                }
                _ => guarded.agree(user, &kv("Range"), &range(key, end)).await,
            };
            if position % 50 == 49 {
                guarded.pair.restart(Server::restart).await;
                // Tokens end with their server.
                for (name, tokens) in &guarded.tokens {
                    let message: Bytes = range("a1", "").encode_to_vec().into();
                    for (connection, token) in guarded.pair.connections.iter().zip(tokens) {
                        let reply = connection.call_as(token, &kv("Range"), message.clone()).await;
                        assert_eq!(reply.code, Some(16), "{name}: {reply:?}");
                    }
                }
                guarded.authenticate("root", "root").await;
            }
        }
        guarded.agree("root", &path("UserList"), &AuthUserListRequest {}).await;
        guarded.agree("root", &path("RoleList"), &AuthRoleListRequest {}).await;
        guarded.agree("root", &path("AuthStatus"), &AuthStatusRequest {}).await;
        guarded.agree("root", &kv("Range"), &range("\0", "\0")).await;
        for name in ["alice", "bob", "carol", "root", "cn"] {
            guarded.agree("root", &path("UserGet"), &AuthUserGetRequest { name: name.into() }).await;
        }
        for role in ["part", "from", "new", "root"] {
            guarded.agree("root", &path("RoleGet"), &AuthRoleGetRequest { role: role.into() }).await;
        }
    });
}

/// A role with many permissions on the same keys: the order in which they are stored is that of Go's sort.
pub fn many_permissions_agree() {
    harness::run(async {
        let pair = Pair::start(&[]).await;
        let _: Result<AuthEnableResponse, _> =
            pair.agree(&path("RoleAdd"), &AuthRoleAddRequest { name: "r".into() }).await;
        let mut random = SmallRng::seed_from_u64(11);
        for _ in 0..120 {
            let key: Bytes = vec![b'a' + random.random_range(0..4)].into();
            let range_end: Bytes = vec![b'f' + random.random_range(0..20)].into();
            let perm = Some(Permission { perm_type: random.random_range(0..3), key, range_end });
            let request = AuthRoleGrantPermissionRequest { name: "r".into(), perm };
            let _: Result<AuthEnableResponse, _> = pair.agree(&path("RoleGrantPermission"), &request).await;
            let _: AuthRoleGetResponse = pair.done(&path("RoleGet"), &AuthRoleGetRequest { role: "r".into() }).await;
        }
    });
}

/// Passwords: wrong ones, none, too long ones, and those that were changed.
pub fn passwords_agree() {
    harness::run(async {
        let guarded = Guarded::start(&[]).await;
        let authenticate =
            |name: &str, password: &str| AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
        for (name, password) in
            [("alice", "wrong"), ("alice", ""), ("nobody here", "x"), ("", ""), ("cn", ""), ("cn", "x")]
        {
            guarded.agree("", &path("Authenticate"), &authenticate(name, password)).await;
        }
        let long = "x".repeat(80);
        let add = |name: &str, password: &str| AuthUserAddRequest {
            name: name.to_owned(),
            password: password.to_owned(),
            ..AuthUserAddRequest::default()
        };
        guarded.agree("root", &path("UserAdd"), &add("long", &long)).await;
        guarded.agree("root", &path("UserAdd"), &add("full", &long[..72])).await;
        guarded.agree("root", &path("UserAdd"), &add("empty", "")).await;
        guarded.same_status("", &path("Authenticate"), &authenticate("full", &long[..72])).await;
        guarded.same_status("", &path("Authenticate"), &authenticate("full", &long[..71])).await;
        guarded.same_status("", &path("Authenticate"), &authenticate("empty", "")).await;
        // The tokens of a user end with the password, and others go on.
        let change = AuthUserChangePasswordRequest {
            name: "alice".into(),
            password: "new".into(),
            hashed_password: String::new(),
        };
        guarded.agree("root", &path("UserChangePassword"), &change).await;
        assert_eq!(guarded.agree("alice", &kv("Range"), &range("a1", "")).await, 16);
        assert_eq!(guarded.agree("bob", &kv("Range"), &range("m1", "")).await, 0);
        guarded.agree("", &path("Authenticate"), &authenticate("alice", "a")).await;
        guarded.same_status("", &path("Authenticate"), &authenticate("alice", "new")).await;
        // What a client may set by itself.
        for hashed in ["", "?", "bm9uc2Vuc2U="] {
            let change = AuthUserChangePasswordRequest {
                name: "bob".into(),
                password: String::new(),
                hashed_password: hashed.into(),
            };
            guarded.agree("root", &path("UserChangePassword"), &change).await;
            guarded.agree("", &path("Authenticate"), &authenticate("bob", "b")).await;
        }
    });
}

type Client = fn(&str, &[&str], &str) -> Printed;

const COMMANDS: [&str; 44] = [
    "auth status",
    "auth enable",
    "user add root:root",
    "auth enable",
    "--user root:root auth status",
    "user list",
    "--user root:root user add alice:a",
    "--user root:root user add alice:a",
    "--user root:root user add bob --new-user-password b",
    "--user root:root user list",
    "--user root:root role add r",
    "--user root:root role add r",
    "--user root:root role grant-permission r readwrite a b",
    "--user root:root role grant-permission r read k",
    "--user root:root role grant-permission r write w --prefix",
    "--user root:root role grant-permission r write y --from-key",
    "--user root:root role get r",
    "--user root:root role get nothing",
    "--user root:root user grant-role alice r",
    "--user root:root user grant-role alice nothing",
    "--user root:root user get alice",
    "--user root:root user get alice --detail",
    "--user alice:a user get alice",
    "--user alice:a user get bob",
    "--user alice:a role get r",
    "--user alice:a role list",
    "--user alice:wrong get a",
    "--user alice:a put a 1",
    "--user alice:a get a",
    "--user alice:a get k",
    "--user alice:a put k 1",
    "--user alice:a get a b",
    "--user alice:a get a c",
    "--user alice:a del a --prev-kv",
    "--user bob:b get a",
    "--user alice --password a get a",
    "get a",
    "--user root:root role revoke-permission r k",
    "--user root:root user revoke-role alice r",
    "--user alice:a get a",
    "--user root:root user delete bob",
    "--user root:root role delete r",
    "--user root:root auth disable",
    "get a",
];

/// Stock etcdctl prints the same, and so does ringctl.
pub fn commands_agree() {
    harness::run(async {
        let pair = Pair::start(&QUICK).await;
        for (format, client) in [("simple", etcdctl as Client), ("json", etcdctl), ("simple", ringctl)] {
            for command in COMMANDS {
                let words: Vec<&str> = ["-w", format].into_iter().chain(command.split(' ')).collect();
                let [ringd, etcd] =
                    pair.servers().map(|server| printed::masked(client(&server.endpoint(), &words, ""), server));
                assert_eq!(ringd, etcd, "{command}");
            }
            for server in pair.servers() {
                run(server, &["user delete root", "user delete alice", "role delete root"]);
            }
        }
    });
}

/// Users and roles of a migration are shown as etcd shows them, before and after authentication was enabled; then they count at once.
pub fn migrated_users_count() {
    let folder = server::directory();
    let source = folder.path().join("etcd");
    let etcd = Server::start(Program::Etcd, &source);
    run(&etcd, &SETUP);
    etcd.stop();
    let data = folder.path().join("ringd");
    migrate(&source, &data);
    let servers = [Server::start(Program::Ringd, &data), Server::start(Program::Etcd, &source)];
    harness::run(async {
        let connections = [servers[0].connect().await, servers[1].connect().await];
        let status: AuthStatusResponse = same(&connections, "AuthStatus", &AuthStatusRequest {}).await;
        assert!(status.auth_revision > 1 && !status.enabled, "{status:?}");
        let users: AuthUserListResponse = same(&connections, "UserList", &AuthUserListRequest {}).await;
        for name in users.users {
            let _: AuthUserGetResponse = same(&connections, "UserGet", &AuthUserGetRequest { name }).await;
        }
        let roles: AuthRoleListResponse = same(&connections, "RoleList", &AuthRoleListRequest {}).await;
        for role in roles.roles {
            let _: AuthRoleGetResponse = same(&connections, "RoleGet", &AuthRoleGetRequest { role }).await;
        }
    });
    let revision = |server: &Server| {
        let page = server.page("/metrics");
        page.lines().find(|line| line.starts_with("etcd_debugging_auth_revision ")).map(str::to_owned)
    };
    assert_eq!(revision(&servers[0]), revision(&servers[1]));
    let [ringd, etcd] = servers;
    ringd.stop();
    // The end of the log, which the database lacks, has requests of users too.
    run(&etcd, &["auth enable", "--user root:root put a1 1", "--user alice:a put a2 2"]);
    assert!(!etcdctl(&etcd.endpoint(), &["--user", "bob:b", "put", "a3", "3"], "").success);
    etcd.kill();
    let enabled = folder.path().join("enabled");
    migrate(&source, &enabled);
    let ringd = Server::start(Program::Ringd, &enabled);
    let endpoint = ringd.endpoint();
    let print = |words: &str| etcdctl(&endpoint, &words.split(' ').collect::<Vec<_>>(), "");
    assert!(print("auth status").stdout.starts_with("Authentication Status: true"));
    let refused = print("get a1");
    assert!(!refused.success && refused.stderr.contains("user name is empty"), "{refused:?}");
    assert_eq!(print("--user alice:a get a --prefix --print-value-only").stdout, "1\n2\n");
    assert!(!print("--user bob:b get a1").success);
    assert!(print("--user root:root auth disable").success);
    assert!(print("get a1").success);
    ringd.stop();
}

/// Both ways: etcd starts with the users of a ringd's snapshot.
pub fn etcd_takes_ringds_users() {
    let folder = server::directory();
    let ringd = Server::start(Program::Ringd, &folder.path().join("ringd"));
    run(&ringd, &SETUP);
    run(&ringd, &["auth enable", "--user root:root put a1 1"]);
    let backup = folder.path().join("backup.db");
    let file = backup.to_str().expect("UTF-8");
    run(&ringd, &[&format!("--user root:root snapshot save {file}")]);
    let data = folder.path().join("etcd");
    let restored = std::process::Command::new(harness::reference::tool("etcdutl"))
        .args(["snapshot", "restore", file, "--data-dir", data.to_str().expect("UTF-8")])
        .args(["--name", "default", "--initial-cluster", "default=http://localhost:2380"])
        .args(["--initial-advertise-peer-urls", "http://localhost:2380"])
        .output()
        .expect("it starts");
    assert!(restored.status.success(), "{restored:?}");
    let etcd = Server::start(Program::Etcd, &data);
    for words in ["--user alice:a get a1", "--user root:root user list", "--user root:root role get part", "get a1"] {
        let words: Vec<&str> = words.split(' ').collect();
        let [ours, theirs] =
            [&ringd, &etcd].map(|server| printed::masked(etcdctl(&server.endpoint(), &words, ""), server));
        assert_eq!(ours, theirs, "{words:?}");
    }
}

/// A token that nobody uses ends after its TTL, and one in use lives on.
pub fn unused_tokens_end() {
    let data = server::directory();
    let ringd = Server::start_with(Program::Ringd, data.path(), &["--auth-token-ttl", "2", "--bcrypt-cost", "4"]);
    run(&ringd, &SETUP);
    run(&ringd, &["auth enable"]);
    harness::run(async {
        let connection = ringd.connect().await;
        let used = token(&connection, "alice", "a").await;
        let mut unused = Vec::new();
        for _ in 0..32 {
            unused.push(token(&connection, "alice", "a").await);
        }
        let message: Bytes = range("a1", "").encode_to_vec().into();
        // A question renews a token, so each of the unused ones is tried once, and the pauses between trials double: one of them lasts
        // longer than the TTL, on any machine. All pauses are filled with requests under the token in use.
        for (trial, unused) in unused.iter().enumerate() {
            for asked in 0..1_u64 << trial {
                let before = std::time::Instant::now();
                let reply = connection.call_as(&used, &kv("Range"), message.clone()).await;
                if reply.code != Some(0) {
                    // The machine may have stood still for so long that the token was not in use.
                    assert!(before.elapsed().as_secs() >= 1, "trial {trial}, request {asked}: {reply:?}");
                    return;
                }
            }
            let reply = connection.call_as(unused, &kv("Range"), message.clone()).await;
            if reply.code != Some(0) {
                assert_eq!((reply.code, &*reply.message), (Some(16), "etcdserver: invalid auth token"));
                return;
            }
        }
        panic!("none of the unused tokens has ended");
    });
}

async fn token(connection: &Connection, name: &str, password: &str) -> String {
    let request = AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
    let reply = connection.call(&path("Authenticate"), request.encode_to_vec().into()).await;
    assert_eq!(reply.code, Some(0), "{name}: {reply:?}");
    decoded::<AuthenticateResponse>(&reply.messages[0]).token
}

/// Signed tokens: either server takes those of the other, and refuses them after a change of users.
pub fn signed_tokens_agree() {
    let folder = server::directory();
    let secret = folder.path().join("secret");
    fs::write(&secret, "a secret that both servers know").expect("a file");
    let method = format!("jwt,sign-method=HS256,priv-key={},ttl=5m", secret.display());
    harness::run(async {
        let mut guarded = Guarded::start(&["--auth-token", &method]).await;
        let swapped: Vec<_> =
            guarded.tokens.iter().map(|(name, [ringd, etcd])| (*name, [etcd.clone(), ringd.clone()])).collect();
        guarded.tokens = swapped;
        for user in ASKING {
            for key in ["a1", "w", "m1"] {
                guarded.agree(user, &kv("Range"), &range(key, "")).await;
                guarded.agree(user, &kv("Put"), &put(key)).await;
            }
            guarded.agree(user, &kv("Txn"), &TxnRequest::default()).await;
        }
        guarded.agree("root", &path("RoleAdd"), &AuthRoleAddRequest { name: "another".into() }).await;
        for user in ASKING {
            for key in ["a1", "w"] {
                guarded.agree(user, &kv("Range"), &range(key, "")).await;
                guarded.agree(user, &kv("Put"), &put(key)).await;
            }
            guarded.agree(user, &kv("Txn"), &TxnRequest::default()).await;
            guarded.same_status(user, "/etcdserverpb.Maintenance/Status", &StatusRequest {}).await;
        }
    });
}

/// With `--auth-recheck-watches` a watch ends when its right is taken away; other watches go on.
pub fn watches_are_rechecked() {
    let data = server::directory();
    let ringd = Server::start_with(Program::Ringd, data.path(), &["--auth-recheck-watches", "--bcrypt-cost", "4"]);
    run(&ringd, &SETUP);
    run(&ringd, &["auth enable"]);
    harness::run(async {
        let connection = ringd.connect().await;
        let [alice, bob] = [token(&connection, "alice", "a").await, token(&connection, "bob", "b").await];
        let watch = async |token: &str, key: &str| {
            let mut stream = connection.stream(WATCH, &[("token", token)]).await;
            let create = WatchCreateRequest { key: key.to_owned().into(), ..WatchCreateRequest::default() };
            stream.send(&WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) });
            let created: WatchResponse = stream.next().await.expect("created");
            assert!(created.created && !created.canceled, "{created:?}");
            stream
        };
        let (mut taken, mut kept) = (watch(&alice, "a1").await, watch(&bob, "m1").await);
        run(&ringd, &["--user root:root user revoke-role alice part"]);
        let end: WatchResponse = taken.next().await.expect("a response");
        assert!(end.canceled && !end.created && end.watch_id == 0, "{end:?}");
        assert_eq!(end.cancel_reason, "rpc error: code = PermissionDenied desc = etcdserver: permission denied");
        run(&ringd, &["--user root:root put a1 1", "--user root:root put m1 1"]);
        let event: WatchResponse = kept.next().await.expect("a response");
        assert_eq!(event.events.len(), 1);
    });
}

/// The answer that both give, without the header: the two have applied different numbers of entries.
async fn same<Q, R>(connections: &[Connection; 2], method: &str, request: &Q) -> R
where
    Q: Message + Debug,
    R: Message + Default + Debug + PartialEq,
{
    let path = path(method);
    let mut answers = Vec::new();
    for connection in connections {
        let reply = connection.call(&path, request.encode_to_vec().into()).await;
        assert_eq!(reply.code, Some(0), "{method} {request:?}: {reply:?}");
        answers.push(decoded::<R>(&masked(&reply.messages[0])));
    }
    assert_eq!(answers[0], answers[1], "{method} {request:?}: ringd, then etcd");
    answers.swap_remove(0)
}
