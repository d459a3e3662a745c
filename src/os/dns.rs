//! Services that the domain name system has under a domain: SRV records (RFC 2782), which the resolver of the C library does not give.
//!
//! The name servers are those of `/etc/resolv.conf` (by resolv-conf), asked over UDP, and over TCP where an answer does not fit (messages by
//! simple-dns). Names of hosts are the C library's affair. `RINGD_NAME_SERVER=<address>:<port>` names another name server; tests bring
//! one along.

use std::{
    env, fs,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket},
    time::Duration,
};

use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE, rdata::RData};

use super::random;

/// The variable that names a name server.
pub const NAME_SERVER: &str = "RINGD_NAME_SERVER";

const RESOLV_CONF: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// Of an answer over UDP, with room for servers that send more than they should.
const DATAGRAM_BYTES_MAX: usize = 4096;

/// Where a service is to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// Without a dot at its end.
    pub target: String,
    pub port: u16,
    /// An address of the target, if it has one.
    pub address: Option<SocketAddr>,
}

/// Why there are no records.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    #[error("lookup {name}: {reason}")]
    Lookup { name: String, reason: String },
    #[error("{variable}={text}: an address and a port are expected", variable = NAME_SERVER)]
    NameServer { text: String },
}

/// The name servers, and how patiently they are asked.
struct NameServers {
    addresses: Vec<SocketAddr>,
    timeout: Duration,
    attempts: u32,
}

/// Why one name server gave no answer to use.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("no such host")]
    NoSuchName,
    #[error("server misbehaving ({0:?})")]
    Code(RCODE),
    #[error("{0}")]
    Message(simple_dns::SimpleDnsError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The records of a service over TCP in a domain, by priority and then by weight, with the addresses of their targets. Blocks; for use
/// at start.
///
/// # Errors
/// There are none, or no name server answers.
pub fn services(service: &str, domain: &str) -> Result<Vec<Srv>, DnsError> {
    let name = format!("_{service}._tcp.{}", domain.trim_end_matches('.'));
    let servers = NameServers::find()?;
    let failed = |error: AskError| DnsError::Lookup { name: name.clone(), reason: error.to_string() };
    let mut last = AskError::NoSuchName;
    for _ in 0..servers.attempts.max(1) {
        for address in &servers.addresses {
            match ask(*address, &name, servers.timeout) {
                Ok(records) => return Ok(records),
                Err(AskError::NoSuchName) => return Err(failed(AskError::NoSuchName)),
                Err(error) => last = error,
            }
        }
    }
    Err(failed(last))
}

impl NameServers {
    fn find() -> Result<Self, DnsError> {
        if let Ok(text) = env::var(NAME_SERVER) {
            let address = text.parse().map_err(|_| DnsError::NameServer { text })?;
            return Ok(Self { addresses: vec![address], timeout: Duration::from_secs(5), attempts: 2 });
        }
        // Without the file, or with one that says nothing, the machine itself is asked, as by the C library.
        let content = fs::read(RESOLV_CONF).unwrap_or_default();
        let settings = resolv_conf::Config::parse(content).unwrap_or_default();
        let found = settings.nameservers.iter().map(|server| SocketAddr::new(server.into(), PORT));
        let mut addresses: Vec<SocketAddr> = found.collect();
        if addresses.is_empty() {
            addresses.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
        let timeout = Duration::from_secs(settings.timeout.max(1).into());
        Ok(Self { addresses, timeout, attempts: settings.attempts })
    }
}

fn ask(server: SocketAddr, name: &str, timeout: Duration) -> Result<Vec<Srv>, AskError> {
    let id = (random::number() & 0xffff) as u16;
    let mut query = Packet::new_query(id);
    query.set_flags(PacketFlag::RECURSION_DESIRED);
    let parsed = Name::new(name).map_err(AskError::Message)?;
    query.questions.push(Question::new(parsed, TYPE::SRV.into(), CLASS::IN.into(), false));
    let query = query.build_bytes_vec().map_err(AskError::Message)?;
    let answer = over_udp(server, &query, id, timeout)?;
    let is_cut = Packet::parse(&answer).is_ok_and(|packet| packet.has_flags(PacketFlag::TRUNCATION));
    let answer = if is_cut { over_tcp(server, &query, timeout)? } else { answer };
    let packet = Packet::parse(&answer).map_err(AskError::Message)?;
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Err(AskError::NoSuchName),
        code => return Err(AskError::Code(code)),
    }
    let mut found: Vec<(u16, std::cmp::Reverse<u16>, String, u16)> = packet
        .answers
        .iter()
        .filter_map(|record| match &record.rdata {
            RData::SRV(srv) => Some((srv.priority, std::cmp::Reverse(srv.weight), srv.target.to_string(), srv.port)),
            _ => None,
        })
        .collect();
    found.sort_by_key(|(priority, weight, ..)| (*priority, *weight));
    if found.is_empty() {
        return Err(AskError::NoSuchName);
    }
    let service = |(_, _, target, port): (u16, std::cmp::Reverse<u16>, String, u16)| {
        let target = target.trim_end_matches('.').to_owned();
        let address = first_address(&target, port);
        Srv { target, port, address }
    };
    Ok(found.into_iter().map(service).collect())
}

/// Waits for the answer to this query, and for no other.
fn over_udp(server: SocketAddr, query: &[u8], id: u16, timeout: Duration) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.send(query)?;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer)?;
        if buffer[..length].starts_with(&id.to_be_bytes()) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

/// Two bytes of length precede each message.
fn over_tcp(server: SocketAddr, query: &[u8], timeout: Duration) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(query)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// IPv4 before IPv6, as in Go.
fn first_address(host: &str, port: u16) -> Option<SocketAddr> {
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().ok()?.collect();
    addresses.iter().find(|address| address.is_ipv4()).or(addresses.first()).copied()
}
