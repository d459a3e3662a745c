//! TLS between members: who is let in, by ringd and by etcd, and that clusters of both live on such links.

use std::fs;

use ringd::proto::etcdserverpb::{PutRequest, PutResponse};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::{
    cluster::{SNAPSHOTS, SOME},
    harness::{
        self,
        authority::{Authority, LOCAL, Pair},
        child::Process,
        cluster::Cluster,
        load::Load,
        server::{self, Program, Server, free_port},
    },
};

const BOTH: [Program; 2] = [Program::Ringd, Program::Etcd];
const MIXED: [Program; 3] = [Program::Ringd, Program::Etcd, Program::Ringd];
const REJECTED: &str = "rejected connection on peer endpoint";

fn start(programs: &[Program], flags: &[String]) -> Cluster {
    Cluster::start_secure(programs, &flags.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Members that show each other certificates are killed, lag, get a snapshot, and take in another one.
pub fn members_live_on_secure_links() {
    let authority = Authority::new();
    let flags = authority.flags(&authority.sign("member", &LOCAL, 1));
    let flags: Vec<String> = flags.into_iter().chain(SNAPSHOTS.map(str::to_owned)).collect();
    let mut cluster = start(&MIXED, &flags);
    let load = Load::start(&cluster, harness::seed("peer_tls::members_live_on_secure_links", 1));
    load.wait_for_writes(SOME);
    for _ in 0..2 {
        let away = (cluster.leader() + 1) % 3;
        cluster.kill(away);
        load.wait_for_writes(SOME);
        cluster.restart(away);
        cluster.read(away, "health");
        let leader = cluster.leader();
        cluster.kill(leader);
        load.wait_for_writes(SOME);
        cluster.restart(leader);
    }
    for program in BOTH {
        let new = cluster.add(program, false);
        load.members_changed(&cluster);
        cluster.read(new, "health");
    }
    load.wait_for_writes(SOME);
    load.judge(&cluster);
}

/// Members with certificates of their own making take each other's, whoever has made them, also after a restart.
pub fn own_certificates_need_no_authority() {
    let mut cluster = Cluster::start_secure(&MIXED, &["--peer-auto-tls"]);
    for at in 0..3 {
        cluster.stop(at);
        cluster.restart(at);
        let request = PutRequest { key: "k".into(), value: vec![b'v'; 100_000].into(), ..PutRequest::default() };
        let _: PutResponse = cluster.ask(at, "KV/Put", &request);
        cluster.assert_hashes_agree();
    }
}

/// Each program starts beside a certificate that the other one has made, whose key is of a kind that ringd does not know.
pub fn certificates_of_the_other_program_are_no_hindrance() {
    for programs in [[Program::Etcd, Program::Ringd], [Program::Ringd, Program::Etcd]] {
        let directory = server::directory();
        for program in programs {
            let data = directory.path().join("data");
            Server::start_with(program, &data, &["--peer-auto-tls"]).stop();
            fs::remove_dir_all(data.join("member")).expect("one program does not read what the other has stored");
        }
    }
}

/// What a client can show, and why it is not let in.
struct Case {
    pair: Option<Pair>,
    reason: &'static str,
}

fn case(pair: Pair, reason: &'static str) -> Case {
    Case { pair: Some(pair), reason }
}

/// A member that lets in certain others, and who is not let in.
struct Strict {
    authority: Authority,
    /// Its files are shown.
    _other: Authority,
    flags: Vec<String>,
    cases: Vec<Case>,
}

fn strict() -> Strict {
    let (authority, other) = (Authority::new(), Authority::new());
    let cases = vec![
        case(other.sign("member", &LOCAL, 3), "x509: certificate signed by unknown authority"),
        case(authority.sign("stranger", &LOCAL, 4), "client certificate authentication failed"),
        case(authority.sign("member", &LOCAL, 0x0abc), "transport: certificate serial 0abc revoked"),
        case(authority.sign("member", &["192.0.2.1"], 6), "x509: certificate is valid for 192.0.2.1, not 127.0.0.1"),
        case(authority.sign("member", &["nowhere.invalid"], 7), "does not match any of DNSNames"),
        Case { pair: None, reason: "tls: client didn't provide a certificate" },
    ];
    // etcd reads the revocation list of each connection anew, and so does not need it before there is one.
    let crl = authority.revoke(0x0abc).display().to_string();
    let names = ["--peer-cert-allowed-cn", "friend,member", "--peer-crl-file", &crl].map(str::to_owned);
    let flags = authority.flags(&authority.sign("member", &LOCAL, 1)).into_iter().chain(names).collect();
    Strict { authority, _other: other, flags, cases }
}

/// Whoever connects is let in or not by ringd as by etcd, and both say why in the same words.
pub fn only_fitting_certificates_are_let_in() {
    let Strict { authority, flags, cases, _other } = strict();
    let friend = authority.sign("friend", &LOCAL, 2);
    for program in BOTH {
        let cluster = start(&[program], &flags);
        let port = cluster.peer_port(0);
        authority.ask(port, Some(&friend)).expect("let in");
        for Case { pair, reason } in &cases {
            let asked = authority.ask(port, pair.as_ref());
            assert!(asked.is_err(), "{program:?} lets in {reason}");
            cluster.until(reason, || cluster.lines_with(0, &[REJECTED, "remote-addr", "server-name", reason]) == 1);
        }
        authority.ask(port, Some(&friend)).expect("let in");
    }
}

/// Members of either program with such a certificate do not get into a cluster of both.
pub fn strangers_stay_outside() {
    let Strict { authority, flags, cases, _other } = strict();
    let cluster = start(&BOTH, &flags);
    let directory = server::directory();
    for (number, (program, case)) in
        BOTH.into_iter().flat_map(|program| cases.iter().map(move |case| (program, case))).enumerate()
    {
        let Some(pair) = &case.pair else { continue };
        let own = format!("https://127.0.0.1:{}", free_port());
        let client = format!("http://127.0.0.1:{}", free_port());
        let data = directory.path().join(number.to_string()).display().to_string();
        let founders = format!("{},stranger={own}", cluster.initial_cluster());
        let mut arguments = authority.flags(pair);
        let fixed = [
            ["--name", "stranger"],
            ["--data-dir", &data],
            ["--listen-client-urls", &client],
            ["--advertise-client-urls", &client],
            ["--listen-peer-urls", &own],
            ["--initial-advertise-peer-urls", &own],
            ["--initial-cluster", &founders],
        ];
        arguments.extend(fixed.concat().into_iter().map(str::to_owned));
        let before = [0, 1].map(|at| cluster.lines_with(at, &[REJECTED, case.reason]));
        let stranger = Process::spawn(program, &arguments);
        for at in [0, 1] {
            let what = format!("{:?} turns away {program:?}: {}", cluster.program(at), case.reason);
            cluster.until(&what, || cluster.lines_with(at, &[REJECTED, case.reason]) > before[at]);
        }
        assert!(!stranger.has_logged(server::READY));
    }
    cluster.assert_hashes_agree();
}

/// A certificate that is replaced on disk is shown at the next handshake.
pub fn replaced_certificates_are_shown() {
    for program in BOTH {
        let authority = Authority::new();
        let (first, second) = (authority.sign("member", &LOCAL, 1), authority.sign("member", &LOCAL, 2));
        let cluster = start(&[program], &authority.flags(&first));
        let friend = authority.sign("friend", &LOCAL, 3);
        let shown = || authority.ask(cluster.peer_port(0), Some(&friend)).expect("let in");
        let of = |pair: &Pair| CertificateDer::from_pem_file(&pair.cert).expect("a certificate");
        let (old, new) = (of(&first), of(&second));
        assert_eq!(shown(), old, "{program:?}");
        fs::rename(&second.key, &first.key).expect("replaced");
        fs::rename(&second.cert, &first.cert).expect("replaced");
        assert_eq!(shown(), new, "{program:?}");
    }
}

/// An `https` URL needs a certificate, and an `http` URL ignores it, with etcd's words.
pub fn urls_and_certificates_go_together() {
    let authority = Authority::new();
    let flags = authority.flags(&authority.sign("member", &LOCAL, 1));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    for program in BOTH {
        let cluster = Cluster::start(&[program], &[&flags[..], &["--peer-auto-tls"]].concat());
        for words in [
            "ignoring peer auto TLS since certs given",
            "starting with peer TLS",
            "scheme is HTTP while key and cert files are present; ignoring key and cert files",
            "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL",
        ] {
            assert_eq!(cluster.lines_with(0, &[words]), 1, "{program:?}: {words}");
        }
        let directory = server::directory();
        let (own, data) = (format!("127.0.0.1:{}", free_port()), directory.path().join("data").display().to_string());
        let url = format!("https://{own}");
        let founders = format!("default={url}");
        let mut process = Process::spawn(
            program,
            &[
                ["--data-dir", &data],
                ["--listen-peer-urls", &url],
                ["--initial-advertise-peer-urls", &url],
                ["--initial-cluster", &founders],
                ["--listen-client-urls", "http://127.0.0.1:0"],
                ["--advertise-client-urls", "http://127.0.0.1:1"],
            ]
            .concat(),
        );
        let refusal = format!("cannot listen on TLS for {own}: KeyFile and CertFile are not presented");
        process.wait_for(&refusal).unwrap_or_else(|ended| panic!("{program:?}: {ended}"));
        assert_eq!(process.wait().code(), Some(1), "{program:?}");
    }
}
