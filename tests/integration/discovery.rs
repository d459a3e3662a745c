//! `--discovery-srv`: members and clients that find the cluster by SRV records, from a name server of the tests' own.

use std::{collections::BTreeMap, net::UdpSocket, process::Command, thread};

use ringd::{
    os::dns::NAME_SERVER,
    proto::etcdserverpb::{MemberListRequest, MemberListResponse},
};

use crate::harness::{
    self,
    child::Process,
    grpc::Connection,
    server::{self, Program, READY, Server, free_port},
};

const DOMAIN: &str = "ring.test";
const TYPE_SRV: u16 = 33;
const NO_SUCH_NAME: u8 = 3;

/// A name server: what it knows, and where it is.
struct NameServer {
    address: String,
}

/// Services and the ports at which `localhost` has them.
type Services = BTreeMap<String, Vec<u16>>;

impl NameServer {
    fn start(services: &[(&str, &[u16])]) -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("bound").to_string();
        let name = |service: &str| format!("_{service}._tcp.{DOMAIN}.");
        let services: Services = services.iter().map(|(service, ports)| (name(service), ports.to_vec())).collect();
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let answer = answer(&buffer[..length], &services);
                socket.send_to(&answer, from).expect("loopback takes it");
            }
        });
        NameServer { address }
    }
}

/// The answer to a query of one question (RFC 1035, RFC 2782).
fn answer(query: &[u8], services: &Services) -> Vec<u8> {
    let mut at = 12;
    let mut name = String::new();
    while query[at] != 0 {
        let label = &query[at + 1..at + 1 + usize::from(query[at])];
        name += &String::from_utf8_lossy(label).to_lowercase();
        name.push('.');
        at += 1 + label.len();
    }
    let question = &query[12..at + 5];
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let records: Vec<Vec<u8>> = match kind {
        TYPE_SRV => services.get(&name).into_iter().flatten().map(|port| srv(*port)).collect(),
        _ => Vec::new(),
    };
    let code = if records.is_empty() { NO_SUCH_NAME } else { 0 };
    let mut answer = Vec::from(&query[..2]);
    answer.extend([0x85, 0x80 | code, 0, 1]);
    answer.extend(u16::try_from(records.len()).expect("few").to_be_bytes());
    answer.extend([0, 0, 0, 0]);
    answer.extend(question);
    for record in records {
        // The name of the question, class IN, a minute.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 60]);
        answer.extend(u16::try_from(record.len()).expect("short").to_be_bytes());
        answer.extend(record);
    }
    answer
}

fn srv(port: u16) -> Vec<u8> {
    let mut record = vec![0, 0, 0, 0];
    record.extend(port.to_be_bytes());
    record.push(9);
    record.extend(b"localhost\0");
    record
}

/// A member that listens at this port for others, and is not waited for.
fn spawn(names: &NameServer, data: &std::path::Path, name: &str, peer_port: u16, flags: &[&str]) -> (Process, u16) {
    let client_port = free_port();
    let client = format!("http://127.0.0.1:{client_port}");
    let mut command = Command::new(Program::Ringd.path());
    command.env(NAME_SERVER, &names.address);
    command.args(["--name", name, "--data-dir", data.join(name).to_str().expect("UTF-8")]);
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &format!("http://127.0.0.1:{peer_port}")]);
    command.args(["--initial-advertise-peer-urls", &format!("http://localhost:{peer_port}")]);
    command.args(["--discovery-srv", DOMAIN]).args(flags);
    (Process::run(command), client_port)
}

/// Three members that know a domain found one cluster, and come back without it.
pub fn members_are_found_by_their_records() {
    for (service, flags) in [("etcd-server", &[][..]), ("etcd-server-blue", &["--discovery-srv-name", "blue"])] {
        let directory = server::directory();
        let ports = [free_port(), free_port(), free_port()];
        let names = NameServer::start(&[(service, &ports)]);
        let nobody = NameServer::start(&[]);
        for names in [&names, &nobody] {
            let start = |at: usize| spawn(names, directory.path(), &format!("m{at}"), ports[at], flags);
            let mut members: Vec<(Process, u16)> = (0..3).map(start).collect();
            for (process, _) in &mut members {
                process.wait_for(READY).unwrap_or_else(|ended| panic!("{service}: {ended}"));
            }
            let list: MemberListResponse = harness::run(async {
                let connection = Connection::open(members[0].1).await.expect("it serves");
                let request = MemberListRequest { linearizable: true };
                connection.unary("/etcdserverpb.Cluster/MemberList", &request).await.expect("a list")
            });
            let mut found: Vec<String> = list.members.iter().map(|member| member.name.clone()).collect();
            found.sort_unstable();
            assert_eq!(found, ["m0", "m1", "m2"]);
        }
    }
}

/// What is wrong with the records is told, and nothing is founded.
pub fn faults_of_records_are_told() {
    let port = free_port();
    let others = NameServer::start(&[("etcd-server", &[1, 2])]);
    let nobody = NameServer::start(&[]);
    let secure = NameServer::start(&[("etcd-server-ssl", &[port])]);
    for (names, expected) in [
        (&others, "cannot find local etcd member \"m0\" in SRV records"),
        (&nobody, "error querying DNS SRV records for _etcd-server lookup _etcd-server._tcp.ring.test: no such host"),
        (&secure, "has scheme mismatch with expected peer http://localhost:"),
    ] {
        let directory = server::directory();
        let data = directory.path().join("m0");
        let url = format!("http://localhost:{port}");
        let flags = [
            ("--name", "m0"),
            ("--data-dir", data.to_str().expect("UTF-8")),
            ("--listen-client-urls", "http://127.0.0.1:0"),
            ("--advertise-client-urls", "http://127.0.0.1:1"),
            ("--listen-peer-urls", "http://127.0.0.1:0"),
            ("--initial-advertise-peer-urls", &url),
            ("--discovery-srv", DOMAIN),
        ];
        let flags: Vec<&str> = flags.iter().flat_map(|(flag, value)| [*flag, *value]).collect();
        let ended = server::run_to_end(Program::Ringd, &flags, &[(NAME_SERVER, &names.address)]);
        let log = ended.log;
        assert_eq!(ended.status.and_then(|status| status.code()), Some(1), "{log}");
        assert!(log.contains(&expected.replace('"', "\\\"")) || log.contains(expected), "{expected}: {log}");
    }
}

/// ringctl finds its endpoints the same way.
pub fn clients_find_their_endpoints() {
    let directory = server::directory();
    let server = Server::start(Program::Ringd, directory.path());
    let names = NameServer::start(&[("etcd-client", &[server.port]), ("etcd-client-blue", &[server.port])]);
    let nobody = NameServer::start(&[]);
    let run = |names: &NameServer, words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringctl"));
        command.env(NAME_SERVER, &names.address).args(["--discovery-srv", DOMAIN]).args(words);
        let output = command.output().expect("it starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    assert_eq!(run(&names, &["put", "a", "b"]), (Some(0), "OK\n".to_owned(), String::new()));
    let (code, printed, errors) = run(&names, &["--discovery-srv-name", "blue", "get", "a"]);
    assert_eq!((code, printed.as_str()), (Some(0), "a\nb\n"), "{errors}");
    let (code, printed, errors) = run(&names, &["endpoint", "health"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(printed.starts_with("http://localhost:"), "{printed}");
    let (code, _, errors) = run(&nobody, &["get", "a"]);
    let expected = "dns lookup errors: lookup _etcd-client-ssl._tcp.ring.test: no such host and \
                    lookup _etcd-client._tcp.ring.test: no such host";
    assert!(code == Some(1) && errors.contains(expected), "{errors}");
    let words = ["--insecure-discovery=false", "--endpoints", &server.endpoint(), "get", "a"];
    let (code, printed, errors) = run(&names, &words);
    assert_eq!((code, printed.as_str()), (Some(0), "a\nb\n"), "{errors}");
    assert!(errors.contains("ignoring discovered insecure endpoint \"http://localhost:"), "{errors}");
    server.stop();
}
