//! Several members in one cluster, ringd and etcd in any mix.
//!
//! ```text
//!   clients ──► proxy ──► member ──► listens for peers ◄── proxy ◄── the other members
//!             advertised                                 advertised
//! ```
//!
//! A member is known by its place: 0, 1, 2, and so on in the order in which they came. Both of its advertised URLs are proxies, whose
//! ports stay; where it listens is chosen at each start. In [namespaces](super::namespaces) members reach each other without a proxy.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message;
use ringd::proto::etcdserverpb::{
    HashKvRequest, HashKvResponse, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, RangeRequest,
    RangeResponse, StatusRequest, StatusResponse,
};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    child::{PATIENCE, Process},
    grpc::{CallError, Connection},
    namespaces::{CLIENT_PORT, PEER_PORT, Wires},
    proxy::{Network, Proxy},
    server::{self, PORT_ATTEMPTS, PORT_TAKEN, Program, READY, free_port},
};

/// Long enough for two busy cores, short enough to wait for.
const HEARTBEAT_MS: &str = "100";
const ELECTION_MS: &str = "1000";
/// A call that takes longer is made again.
const CALL: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const UNHEALTHY: &str = "etcdserver: unhealthy cluster";
const NOT_IN_SYNC: &str = "etcdserver: can only promote a learner member which is in sync with leader";

pub struct Cluster {
    /// Links between members, by their ids.
    pub peers: Network,
    /// Links from clients (nobody) to members, by their places.
    pub clients: Network,
    members: Vec<Member>,
    /// `http` or `https`, of all peer URLs.
    peer_scheme: &'static str,
    flags: Vec<String>,
    token: String,
    /// Members live in network namespaces.
    wires: Option<Wires>,
    // Last, so that the processes end before their directories go.
    directory: TempDir,
}

struct Member {
    name: String,
    program: Program,
    /// Where it listens.
    host: Ipv4Addr,
    data: PathBuf,
    peer_proxy: Proxy,
    peer_scheme: &'static str,
    client_proxy: Proxy,
    /// Known once it has started.
    id: u64,
    /// `--initial-cluster` and `--initial-cluster-state` of its start.
    founded: (String, &'static str),
    /// Flags of this member alone.
    flags: Vec<String>,
    process: Option<Process>,
}

impl Cluster {
    /// Starts as many members as there are programs, and waits until they serve.
    pub fn start(programs: &[Program], flags: &[&str]) -> Cluster {
        Cluster::start_by("http", programs, flags, None)
    }

    /// The same with each member in a network namespace of its own.
    pub fn start_in_namespaces(programs: &[Program], flags: &[&str]) -> Cluster {
        Cluster::start_by("http", programs, flags, Some(Wires::new()))
    }

    /// The same with `https` peer URLs.
    pub fn start_secure(programs: &[Program], flags: &[&str]) -> Cluster {
        Cluster::start_by("https", programs, flags, None)
    }

    fn start_by(peer_scheme: &'static str, programs: &[Program], flags: &[&str], wires: Option<Wires>) -> Cluster {
        let mut cluster = Cluster {
            peers: Network::new(),
            clients: Network::new(),
            members: Vec::new(),
            peer_scheme,
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            token: format!("token-{}", free_port()),
            wires,
            directory: server::directory(),
        };
        for &program in programs {
            cluster.prepare(program);
        }
        let founders = cluster.initial_cluster();
        for member in &mut cluster.members {
            member.founded = (founders.clone(), "new");
        }
        let all: Vec<usize> = (0..programs.len()).collect();
        all.iter().for_each(|&at| cluster.spawn(at));
        all.iter().for_each(|&at| cluster.wait_until_ready(at));
        cluster.wait_until_healthy();
        cluster
    }

    /// A member that is not started yet: its name, directory and proxies.
    fn prepare(&mut self, program: Program) -> usize {
        let at = self.members.len();
        let name = format!("m{at}");
        let client_proxy = Proxy::start(&self.clients);
        client_proxy.belongs_to(at as u64);
        let mut host = Ipv4Addr::LOCALHOST;
        if let Some(wires) = &mut self.wires {
            wires.add();
            host = wires.address(at);
            client_proxy.lead_to_address(wires.client_address(at));
        }
        self.members.push(Member {
            data: self.directory.path().join(&name),
            name,
            program,
            host,
            peer_proxy: Proxy::start(&self.peers),
            peer_scheme: self.peer_scheme,
            client_proxy,
            id: 0,
            founded: (String::new(), ""),
            flags: Vec::new(),
            process: None,
        });
        at
    }

    /// All members as `--initial-cluster` names them.
    pub fn initial_cluster(&self) -> String {
        let named = |member: &Member| format!("{}={}", member.name, member.peer_url());
        self.members.iter().map(named).collect::<Vec<_>>().join(",")
    }

    /// Starts the process of a member and does not wait for it.
    pub fn spawn(&mut self, at: usize) {
        assert!(self.members[at].process.is_none(), "{} runs already", self.members[at].name);
        if let Some(wires) = &self.wires {
            let (namespace, arguments) = (wires.namespace(at), self.arguments(at, CLIENT_PORT, PEER_PORT));
            let member = &mut self.members[at];
            member.process = Some(Process::spawn_in(&namespace, member.program, &arguments));
            return;
        }
        let (client_port, peer_port) = (free_port(), free_port());
        let arguments = self.arguments(at, client_port, peer_port);
        let member = &mut self.members[at];
        member.client_proxy.lead_to(client_port);
        member.peer_proxy.lead_to(peer_port);
        member.process = Some(Process::spawn(member.program, &arguments));
    }

    /// Waits until a spawned member serves, which it does once its cluster has a leader. Tries again if another process took a port.
    pub fn wait_until_ready(&mut self, at: usize) {
        for attempt in 1.. {
            let process = self.members[at].process.as_mut().expect("it has been spawned");
            match process.wait_for(READY) {
                Ok(()) => break,
                Err(ended) if ended.log.contains(PORT_TAKEN) && attempt < PORT_ATTEMPTS => {
                    self.members[at].process = None;
                    self.spawn(at);
                }
                Err(ended) => panic!("{} did not start: {ended}", self.members[at].name),
            }
        }
        if self.members[at].id != 0 {
            // It keeps its id, and may ask for a user by now.
            return;
        }
        let status: StatusResponse = self.ask(at, "Maintenance/Status", &StatusRequest {});
        self.members[at].id = status.header.expect("answers have headers").member_id;
        self.members[at].peer_proxy.belongs_to(self.members[at].id);
    }

    fn arguments(&self, at: usize, client_port: u16, peer_port: u16) -> Vec<String> {
        let member = &self.members[at];
        let client_url = format!("http://{}:{client_port}", member.host);
        let peer_url = format!("{}://{}:{peer_port}", self.peer_scheme, member.host);
        let fixed = [
            ("--name", member.name.clone()),
            ("--data-dir", member.data.display().to_string()),
            ("--listen-client-urls", client_url),
            ("--advertise-client-urls", member.client_url()),
            ("--listen-peer-urls", peer_url),
            ("--initial-advertise-peer-urls", member.peer_url()),
            ("--initial-cluster", member.founded.0.clone()),
            ("--initial-cluster-state", member.founded.1.to_owned()),
            ("--initial-cluster-token", self.token.clone()),
            ("--heartbeat-interval", HEARTBEAT_MS.to_owned()),
            ("--election-timeout", ELECTION_MS.to_owned()),
        ];
        let fixed = fixed.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        fixed.chain(self.flags.iter().chain(&member.flags).cloned()).collect()
    }

    /// Adds a member through the others, starts it and waits until it serves.
    pub fn add(&mut self, program: Program, learner: bool) -> usize {
        let at = self.announce(program, learner);
        self.spawn(at);
        self.wait_until_ready(at);
        at
    }

    /// Adds a member through the others; it is not started.
    pub fn announce(&mut self, program: Program, learner: bool) -> usize {
        let at = self.prepare(program);
        let request = MemberAddRequest { peer_ur_ls: vec![self.members[at].peer_url()], is_learner: learner };
        let response: MemberAddResponse = self.change(self.leader(), "Cluster/MemberAdd", &request);
        let named = |url: &String, name: &str| format!("{name}={url}");
        let ours = self.members[at].peer_url();
        let all = response.members.iter().map(|member| {
            let url = &member.peer_ur_ls[0];
            named(url, if *url == ours { &self.members[at].name } else { &member.name })
        });
        self.members[at].founded = (all.collect::<Vec<_>>().join(","), "existing");
        self.members[at].id = response.member.expect("the answer names the new member").id;
        at
    }

    pub fn promote(&mut self, at: usize) {
        let _: MemberPromoteResponse =
            self.change(self.leader(), "Cluster/MemberPromote", &MemberPromoteRequest { id: self.members[at].id });
    }

    /// Takes a member out through another one, and ends its process.
    pub fn remove(&mut self, at: usize) {
        let other = self.running().into_iter().find(|&other| other != at).expect("another member runs");
        let _: MemberRemoveResponse =
            self.change(other, "Cluster/MemberRemove", &MemberRemoveRequest { id: self.members[at].id });
        self.members[at].process = None;
    }

    /// A change of members, made again while the cluster says that it is not healthy for long enough yet.
    fn change<Q: Message, R: Message + Default>(&self, asked: usize, method: &str, request: &Q) -> R {
        let start = Instant::now();
        loop {
            match self.try_ask(asked, method, request) {
                Ok(response) => return response,
                Err(CallError::Refused(refusal)) if [UNHEALTHY, NOT_IN_SYNC].contains(&&*refusal.message) => {}
                Err(error) => panic!("{method}: {error}"),
            }
            assert!(start.elapsed() < PATIENCE, "{method} is not done");
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self, at: usize) {
        let mut process = self.members[at].process.take().expect("it runs");
        process.signal(Signal::KILL);
        process.wait();
    }

    /// SIGTERM; it must obey.
    pub fn stop(&mut self, at: usize) {
        let mut process = self.members[at].process.take().expect("it runs");
        process.signal(Signal::TERM);
        let status = process.wait();
        assert!(server::obeyed(status), "{} stopped with {status}\n{}", self.members[at].name, process.log());
    }

    /// SIGSTOP: it is there and does nothing.
    pub fn pause(&self, at: usize) {
        self.members[at].process.as_ref().expect("it runs").signal(Signal::STOP);
    }

    pub fn resume(&self, at: usize) {
        self.members[at].process.as_ref().expect("it runs").signal(Signal::CONT);
    }

    /// Starts a member that was stopped or killed, on what it left.
    pub fn restart(&mut self, at: usize) {
        self.spawn(at);
        self.wait_until_ready(at);
    }

    /// Flags of one member alone, from its next start on.
    pub fn set_flags(&mut self, at: usize, flags: &[&str]) {
        self.members[at].flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    }

    /// Starts a stopped member that is expected to end by itself; its last lines.
    pub fn ends(&mut self, at: usize) -> String {
        self.spawn(at);
        let mut process = self.members[at].process.take().expect("it has been spawned");
        process.wait_for_end()
    }

    /// Whether a running member has written this.
    pub fn has_logged(&self, at: usize, text: &str) -> bool {
        self.members[at].process.as_ref().is_some_and(|process| process.has_logged(text))
    }

    /// The data directory of a member.
    pub fn data(&self, at: usize) -> &Path {
        &self.members[at].data
    }

    /// From now on a stopped member has its data elsewhere.
    pub fn move_data(&mut self, at: usize, to: PathBuf) {
        let member = &mut self.members[at];
        assert!(member.process.is_none(), "{} runs", member.name);
        let moved = Command::new("cp").arg("-a").arg(&member.data).arg(&to).status();
        assert!(moved.expect("cp runs").success(), "{} is not moved to {}", member.name, to.display());
        member.data = to;
    }

    /// Removes all that a stopped member has stored.
    pub fn lose_disk(&self, at: usize) {
        let member = &self.members[at];
        assert!(member.process.is_none(), "{} runs", member.name);
        fs::remove_dir_all(&member.data).expect("it has been there");
    }

    /// The members with a process.
    pub fn running(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|&at| self.members[at].process.is_some()).collect()
    }

    /// What stock clients take as `--endpoints` for one member.
    pub fn endpoint(&self, at: usize) -> String {
        self.members[at].client_url()
    }

    /// The same for all that run.
    pub fn endpoints(&self) -> Vec<String> {
        self.running().into_iter().map(|at| self.endpoint(at)).collect()
    }

    /// The ports that clients use, of all that run.
    pub fn client_ports(&self) -> Vec<u16> {
        self.running().into_iter().map(|at| self.members[at].client_proxy.port).collect()
    }

    pub fn client_port(&self, at: usize) -> u16 {
        self.members[at].client_proxy.port
    }

    /// The port that other members use.
    pub fn peer_port(&self, at: usize) -> u16 {
        self.members[at].peer_proxy.port
    }

    /// How many lines of a running member's log have all of these in them.
    pub fn lines_with(&self, at: usize, parts: &[&str]) -> usize {
        self.members[at].process.as_ref().expect("it runs").lines_with(parts)
    }

    /// The links between members that live in namespaces.
    pub fn wires(&self) -> &Wires {
        self.wires.as_ref().expect("members live in namespaces")
    }

    pub fn is_in_namespaces(&self) -> bool {
        self.wires.is_some()
    }

    pub fn program(&self, at: usize) -> Program {
        self.members[at].program
    }

    pub fn id(&self, at: usize) -> u64 {
        self.members[at].id
    }

    /// The ids of all that run but for this one.
    pub fn others(&self, at: usize) -> Vec<u64> {
        self.running().into_iter().filter(|&other| other != at).map(|other| self.members[other].id).collect()
    }

    /// Whom all running members take for their leader, once they agree.
    pub fn leader(&self) -> usize {
        self.leader_among(&self.running())
    }

    /// The same for some of them, if others are out of reach. The leader is one of them.
    pub fn leader_among(&self, members: &[usize]) -> usize {
        let start = Instant::now();
        loop {
            let told: Vec<_> =
                members.iter().map(|&at| self.try_ask(at, "Maintenance/Status", &StatusRequest {})).collect();
            let told: Option<Vec<(u64, u64)>> = told
                .into_iter()
                .map(|status: Result<StatusResponse, _>| status.ok().map(|status| (status.leader, status.raft_term)))
                .collect();
            if let Some(told) = told
                && told.windows(2).all(|pair| pair[0] == pair[1])
                && let Some(&leader) = members.iter().find(|&&at| self.members[at].id == told[0].0)
            {
                return leader;
            }
            assert!(start.elapsed() < PATIENCE, "{members:?} do not agree on a leader");
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until every running member answers a linearizable read.
    pub fn wait_until_healthy(&self) {
        for at in self.running() {
            self.read(at, "health");
        }
    }

    /// A linearizable read of one key, made until it is answered. Learners answer no reads.
    pub fn read(&self, at: usize, key: &str) -> RangeResponse {
        self.ask(
            at,
            "KV/Range",
            &RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..RangeRequest::default() },
        )
    }

    /// All that runs has the same history, once each has caught up; the revision.
    pub fn assert_hashes_agree(&self) -> i64 {
        let running = self.running();
        let revision = self.read(self.leader(), "health").header.expect("answers have headers").revision;
        let hashes: Vec<_> = running
            .iter()
            .map(|&at| {
                self.read(at, "health");
                let hash: HashKvResponse = self.ask(at, "Maintenance/HashKV", &HashKvRequest { revision });
                (hash.hash, hash.hash_revision, hash.compact_revision)
            })
            .collect();
        let agree = hashes.windows(2).all(|pair| pair[0] == pair[1]);
        assert!(agree, "hash, its revision and the compacted one of {running:?} at {revision}: {hashes:?}");
        revision
    }

    /// The members as one of them knows them.
    pub fn list(&self, at: usize) -> MemberListResponse {
        self.ask(at, "Cluster/MemberList", &MemberListRequest { linearizable: true })
    }

    /// Waits until something that nobody tells is so.
    pub fn until(&self, what: &str, so: impl Fn() -> bool) {
        let start = Instant::now();
        while !so() {
            assert!(start.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}");
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Asks a member until it answers: for requests that may be made twice.
    pub fn ask<Q: Message, R: Message + Default>(&self, at: usize, method: &str, request: &Q) -> R {
        let start = Instant::now();
        loop {
            match self.try_ask(at, method, request) {
                Ok(response) => return response,
                Err(error) => assert!(start.elapsed() < PATIENCE, "{} {method}: {error}", self.members[at].name),
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Asks a member once.
    pub fn try_ask<Q: Message, R: Message + Default>(
        &self,
        at: usize,
        method: &str,
        request: &Q,
    ) -> Result<R, CallError> {
        let lost = |error: &dyn ToString| CallError::Lost(error.to_string());
        super::run(async {
            let asking = async {
                let connection = Connection::open(self.client_port(at)).await.map_err(|error| lost(&error))?;
                connection.unary(&format!("/etcdserverpb.{method}"), request).await
            };
            tokio::time::timeout(CALL, asking).await.map_err(|error| lost(&error))?
        })
    }
}

impl Member {
    fn client_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_proxy.port)
    }

    fn peer_url(&self) -> String {
        // Without a namespace, others come by the proxy.
        let port = if self.host.is_loopback() { self.peer_proxy.port } else { PEER_PORT };
        format!("{}://{}:{port}", self.peer_scheme, self.host)
    }
}
