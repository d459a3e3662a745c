//! Proxies in front of members, and what passes through them: the network of a test.
//!
//! ```text
//!   member a ──┐                  ┌── proxy of b ──► peer port of b
//!   member c ──┴── advertised ────┘      │
//!                                        └ who asks (`X-Server-From`) and for what (a stream or a message) -> one link -> one rule
//! ```
//!
//! A link is one direction between two members. Messages from a to b travel in requests that a sends to b, and in the streams that b
//! has asked a for: so the proxy of b sees the first, and the proxy of a the second. Requests without a sender (versions, probes,
//! forwarded leases) belong to the link from nobody. So does everything that is encrypted: of members with `https` peer URLs only all
//! that reaches one of them can be disturbed, not a single link.
//!
//! 1. A rule holds for connections that are open and for those to come.
//! 2. A connection that has lost bytes is closed when its link heals: what follows would be nonsense to its reader.
//! 3. The port of a proxy stays the same as long as the test runs, whatever becomes of the server behind it.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{oneshot, watch},
};

const PIECE_BYTES: usize = 64 << 10;
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The first byte of an encrypted connection: the kind of its first record.
const TLS_HANDSHAKE: u8 = 22;

/// What happens on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Bytes pass.
    Pass,
    /// Bytes pass so much later.
    Delay(Duration),
    /// Connections stay and are accepted, and every byte is lost.
    Swallow,
    /// Connections are closed, new ones at once.
    Cut,
}

/// A member of the cluster by its id; none: whoever does not say who it is.
pub type Party = Option<u64>;

/// The links of a cluster. Clones are the same network.
#[derive(Clone)]
pub struct Network {
    rules: Arc<watch::Sender<Rules>>,
}

#[derive(Clone, Debug, Default)]
struct Rules {
    links: BTreeMap<(Party, Party), Rule>,
}

impl Rules {
    fn of(&self, link: (Party, Party)) -> Rule {
        self.links.get(&link).copied().unwrap_or(Rule::Pass)
    }
}

impl Network {
    pub fn new() -> Network {
        Network { rules: Arc::new(watch::Sender::new(Rules::default())) }
    }

    /// What happens to messages from one to the other.
    pub fn set(&self, from: Party, to: Party, rule: Rule) {
        self.rules.send_modify(|rules| {
            rules.links.insert((from, to), rule);
        });
    }

    /// The same for every link between `member` and `others`, and what nobody sends it.
    pub fn isolate(&self, member: u64, others: &[u64], rule: Rule) {
        for &other in others {
            self.set(Some(member), Some(other), rule);
            self.set(Some(other), Some(member), rule);
        }
        self.set(None, Some(member), rule);
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.rules.send_modify(|rules| rules.links.clear());
    }
}

/// A port that leads to another one.
pub struct Proxy {
    pub port: u16,
    server: watch::Sender<Behind>,
    /// Dropped at the end, which ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a proxy stands before.
#[derive(Clone, Copy, Debug, Default)]
struct Behind {
    address: Option<SocketAddr>,
    id: Party,
}

impl Proxy {
    /// A proxy with nothing behind it.
    pub fn start(network: &Network) -> Proxy {
        let (ready, started) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let (server, behind) = watch::channel(Behind::default());
        let rules = network.rules.subscribe();
        let thread = thread::spawn(move || {
            super::run(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                ready.send(listener.local_addr().expect("bound")).expect("the starter waits");
                tokio::select! {
                    never = serve(listener, &behind, &rules) => never,
                    _ = stopped => {}
                }
            });
        });
        let address: SocketAddr = started.recv().expect("a port is found");
        Proxy { port: address.port(), server, stop: Some(stop), thread: Some(thread) }
    }

    /// Leads to this port of the machine from now on.
    pub fn lead_to(&self, port: u16) {
        self.lead_to_address((Ipv4Addr::LOCALHOST, port).into());
    }

    pub fn lead_to_address(&self, address: SocketAddr) {
        self.server.send_modify(|behind| behind.address = Some(address));
    }

    /// The member behind it, once it is known.
    pub fn belongs_to(&self, id: u64) {
        self.server.send_modify(|behind| behind.id = Some(id));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.take();
        // A proxy that panicked has said so.
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}

async fn serve(listener: TcpListener, behind: &watch::Receiver<Behind>, rules: &watch::Receiver<Rules>) {
    loop {
        // Out of file descriptors: those that end make room.
        let Ok((client, _)) = listener.accept().await else { continue };
        let (behind, rules) = (behind.clone(), rules.clone());
        // How one connection ends is seen by its two ends.
        drop(tokio::spawn(async move { carry(client, &behind, rules).await.unwrap_or_default() }));
    }
}

/// Reads whom a connection is from, connects it, and carries bytes both ways until one way ends.
async fn carry(
    mut client: TcpStream,
    behind: &watch::Receiver<Behind>,
    rules: watch::Receiver<Rules>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (head, caller) = read_head(&mut client).await?;
    let Behind { address, id } = *behind.borrow();
    let link = match caller {
        Caller { from, stream: true } => (id, from),
        Caller { from, stream: false } => (from, id),
    };
    let lane = Lane { link, rules };
    if lane.rule() == Rule::Cut {
        return Ok(());
    }
    let server = TcpStream::connect(address.ok_or(io::ErrorKind::ConnectionRefused)?).await?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        ended = lane.clone().pump(from_client, to_server, head) => ended,
        ended = lane.pump(from_server, to_client, Vec::new()) => ended,
    }
}

/// Who opened a connection between members, and for what.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Caller {
    pub from: Party,
    pub stream: bool,
}

/// The bytes up to the end of the first head, or what there is if it is none. An encrypted one tells nothing.
async fn read_head(client: &mut TcpStream) -> io::Result<(Vec<u8>, Caller)> {
    let mut head = Vec::new();
    while head.first() != Some(&TLS_HANDSHAKE)
        && !head.windows(4).any(|end| end == b"\r\n\r\n")
        && head.len() < HEAD_BYTES_MAX
    {
        // Clients of gRPC begin with a preface, whose head ends at once.
        if client.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let caller = caller(&String::from_utf8_lossy(&head));
    Ok((head, caller))
}

/// What the head of the first request tells.
pub fn caller(head: &str) -> Caller {
    let from = head.lines().take_while(|line| !line.is_empty()).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("x-server-from").then(|| u64::from_str_radix(value.trim(), 16).ok())?
    });
    Caller { from, stream: head.starts_with("GET /raft/stream/") }
}

/// The rules as one connection sees them.
#[derive(Clone)]
struct Lane {
    link: (Party, Party),
    rules: watch::Receiver<Rules>,
}

impl Lane {
    fn rule(&self) -> Rule {
        self.rules.borrow().of(self.link)
    }

    /// Carries bytes one way, by the rule of the moment.
    async fn pump(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, first: Vec<u8>) -> io::Result<()> {
        let mut piece = first;
        let mut lost = false;
        loop {
            match self.rule() {
                Rule::Cut => return Ok(()),
                Rule::Swallow => lost |= !piece.is_empty(),
                Rule::Pass | Rule::Delay(_) if lost => return Ok(()),
                Rule::Pass => to.write_all(&piece).await?,
                Rule::Delay(time) => {
                    tokio::time::sleep(time).await;
                    to.write_all(&piece).await?;
                }
            }
            piece.clear();
            piece.reserve(PIECE_BYTES);
            tokio::select! {
                read = from.read_buf(&mut piece) => if read? == 0 { return Ok(()) },
                // The network is gone with its test.
                changed = self.rules.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }
}
