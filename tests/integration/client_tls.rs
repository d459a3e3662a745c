//! TLS for clients: stock clients over it, who is let in by ringd and by etcd, and files that change while it serves.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    path::Path,
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{
    self,
    authority::{Authority, LOCAL, Pair},
    child::Process,
    etcdctl::{Printed, Running, etcdctl, ringctl},
    server::{self, PORT_ATTEMPTS, PORT_TAKEN, Program, READY, free_port},
};

const BOTH: [Program; 2] = [Program::Ringd, Program::Etcd];
const REJECTED: &str = "rejected connection on client endpoint";
/// An attempt to connect that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// A value of several TLS records, and of several buffers on its way.
const LARGE_BYTES: usize = 1_400_000;

/// A server whose clients come over TLS.
struct Secure {
    process: Process,
    port: u16,
    program: Program,
    directory: TempDir,
}

impl Secure {
    /// Starts it with `https` at a port of its own.
    fn start(program: Program, flags: &[String]) -> Secure {
        Secure::start_at(program, flags, |port| format!("https://127.0.0.1:{port}"))
    }

    /// Starts it at these URLs for clients.
    fn start_at(program: Program, flags: &[String], urls: impl Fn(u16) -> String) -> Secure {
        let directory = server::directory();
        for _ in 0..PORT_ATTEMPTS {
            let (port, peer) = (free_port(), format!("http://127.0.0.1:{}", free_port()));
            let (urls, founders) = (urls(port), format!("one={peer}"));
            let data = directory.path().join("data").display().to_string();
            let fixed = [
                ["--name", "one"],
                ["--data-dir", &data],
                ["--listen-client-urls", &urls],
                ["--advertise-client-urls", &urls],
                ["--listen-peer-urls", &peer],
                ["--initial-advertise-peer-urls", &peer],
                ["--initial-cluster", &founders],
            ];
            let arguments: Vec<String> =
                fixed.concat().into_iter().map(str::to_owned).chain(flags.iter().cloned()).collect();
            let mut process = Process::spawn(program, &arguments);
            match process.wait_for(READY) {
                Ok(()) => return Secure { process, port, program, directory },
                Err(ended) if ended.log.contains(PORT_TAKEN) => {}
                Err(ended) => panic!("{program:?} did not start: {ended}"),
            }
        }
        panic!("no free port");
    }

    fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Waits until so many lines of the log have all of this.
    fn must_log(&mut self, count: usize, parts: &[&str]) {
        let has = |log: &[String]| log.iter().filter(|line| parts.iter().all(|part| line.contains(part))).count();
        let ended = self.process.wait_until(|log| has(log) >= count);
        ended.unwrap_or_else(|ended| panic!("{:?} has not logged {parts:?}: {ended}", self.program));
    }

    fn stop(mut self) {
        self.process.signal(Signal::TERM);
        assert!(server::obeyed(self.process.wait()), "{:?}\n{}", self.program, self.process.log());
    }
}

/// Runs etcdctl with these flags for certificates.
fn ask(endpoint: &str, tls: &[String], arguments: &[&str]) -> Printed {
    let arguments: Vec<&str> = tls.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
    etcdctl(endpoint, &arguments, "")
}

/// What curl prints of a page, or its error.
fn curl(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("curl").args(["--silent", "--show-error", "--max-time", "60"]).args(arguments).output();
    let output = output.expect("curl is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn as_str(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// etcdctl, curl and the etcd-client crate read and write over TLS, small and large.
pub fn stock_clients_are_served() {
    let authority = Authority::new();
    let (of_server, of_client) = (authority.sign("server", &LOCAL, 1), authority.sign("client", &LOCAL, 2));
    let (ca, large) = (authority.path("ca.pem"), "x".repeat(LARGE_BYTES));
    for program in BOTH {
        let mut secure = Secure::start(program, &authority.client_flags(&of_server));
        secure.must_log(1, &["starting with client TLS", "client-cert-auth = true"]);
        secure.must_log(1, &["serving client traffic securely"]);
        let tls = authority.etcdctl_flags(Some(&of_client));
        let endpoint = secure.endpoint();
        assert_eq!(ask(&endpoint, &tls, &["put", "greeting", "hello"]).stdout, "OK\n", "{program:?}");
        assert_eq!(ask(&endpoint, &tls, &["get", "greeting"]).stdout, "greeting\nhello\n", "{program:?}");
        assert!(ask(&endpoint, &tls, &["endpoint", "health"]).success, "{program:?}");
        let shown = [["--cacert", as_str(&ca)], ["--cert", as_str(&of_client.cert)], ["--key", as_str(&of_client.key)]]
            .concat();
        for more in [&[][..], &["--tls-max", "1.2"], &["--no-alpn"], &["--http1.1"]] {
            let url = format!("{endpoint}/health");
            let page = curl(&[&shown[..], more, &[url.as_str()]].concat());
            assert_eq!(page, Ok(r#"{"health":"true","reason":""}"#.to_owned()), "{program:?} {more:?}");
        }
        harness::run(async {
            let mut client = crate_client(&endpoint, &ca, Some(&of_client)).await;
            client.put("large", large.as_str(), None).await.unwrap();
            for _ in 0..3 {
                let read = client.get("large", None).await.unwrap();
                assert_eq!(read.kvs()[0].value(), large.as_bytes(), "{program:?}");
            }
            let calls = (0..1000).map(|number| {
                let mut client = client.clone();
                tokio::spawn(async move { client.put(format!("key{number}"), "value", None).await.map(drop) })
            });
            for call in calls.collect::<Vec<_>>() {
                call.await.unwrap().unwrap();
            }
            let all = client.get("key", Some(etcd_client::GetOptions::new().with_prefix())).await.unwrap();
            assert_eq!(all.count(), 1000, "{program:?}");
        });
        secure.stop();
    }
}

/// Clients that offer HTTP/2 get it, for pages and the JSON gateway as for gRPC.
pub fn pages_are_served_over_http2() {
    let authority = Authority::new();
    let pair = authority.sign("server", &LOCAL, 1);
    let ca = authority.path("ca.pem");
    let files = ["--cert-file", as_str(&pair.cert), "--key-file", as_str(&pair.key)].map(str::to_owned);
    let folder = server::directory();
    let body = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        format!("@{}", path.display())
    };
    let large = "QUJD".repeat(LARGE_BYTES / 4);
    let put = body("put", format!(r#"{{"key":"YQ==","value":"{large}"}}"#));
    let too_large = body("too large", format!(r#"{{"key":"YQ==","value":"{}"}}"#, "QUJD".repeat(5 << 20)));
    let range = body("range", r#"{"key":"YQ=="}"#.to_owned());
    let requests: [(&str, &[&str]); 10] = [
        ("/version", &[]),
        ("/health", &[]),
        ("/health", &["--head"]),
        ("/health", &["--http1.1"]),
        ("/nothing/here", &[]),
        ("/version", &["--request", "POST"]),
        ("/v3/kv/put", &["--data-binary", &put]),
        ("/v3/kv/put", &["--data-binary", &too_large]),
        ("/v3/kv/range", &["--data-binary", &range]),
        ("/v3/maintenance/snapshot", &["--data-binary", "{}"]),
    ];
    let shown = ["--cacert", as_str(&ca), "--write-out", "\n%{http_version} %{http_code} %{content_type}"];
    let [ours, etcds] = BOTH.map(|program| {
        let secure = Secure::start(program, &files);
        let answers = requests.map(|(path, more)| {
            let url = format!("{}{path}", secure.endpoint());
            let answer = curl(&[&shown[..], more, &[url.as_str()]].concat());
            let answer = answer.unwrap_or_else(|error| panic!("{program:?} {path} {more:?}: {error}"));
            let (text, outcome) = answer.rsplit_once('\n').expect("a line is added");
            if path == "/v3/kv/range" {
                assert!(text.contains(&large), "{program:?}: {} bytes", text.len());
            }
            let text = if path.starts_with("/v3/") || more.contains(&"--head") { "" } else { text };
            (text.to_owned(), outcome.to_owned())
        });
        secure.stop();
        answers
    });
    for ((request, ours), etcds) in requests.iter().zip(ours).zip(etcds) {
        assert_eq!(ours, etcds, "{request:?}");
        let version = if request.1.contains(&"--http1.1") { "1.1 " } else { "2 " };
        assert!(ours.1.starts_with(version), "{request:?}: {ours:?}");
    }
}

/// A stream of the gateway over HTTP/2 ends with its client, and the connection serves on.
pub fn streams_over_http2_end_with_their_clients() {
    let authority = Authority::new();
    let pair = authority.sign("server", &LOCAL, 1);
    let ca = authority.path("ca.pem");
    let files = ["--cert-file", as_str(&pair.cert), "--key-file", as_str(&pair.key)].map(str::to_owned);
    let secure = Secure::start(Program::Ringd, &files);
    let url = |path: &str| format!("{}{path}", secure.endpoint());
    let watchers = || {
        let page = curl(&["--cacert", as_str(&ca), &url("/metrics")]).expect("a page");
        let line = page.lines().find_map(|line| line.strip_prefix("etcd_debugging_mvcc_watcher_total "));
        line.expect("it is counted").to_owned()
    };
    assert_eq!(watchers(), "0");
    let mut watching = Command::new("curl")
        .args(["--silent", "--no-buffer", "--cacert", as_str(&ca), "--data", r#"{"create_request":{"key":"YQ=="}}"#])
        .arg(url("/v3/watch"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl is installed");
    let mut line = String::new();
    BufReader::new(watching.stdout.take().expect("piped")).read_line(&mut line).unwrap();
    assert!(line.contains(r#""created":true"#), "{line}");
    assert_eq!(watchers(), "1");
    watching.kill().unwrap();
    watching.wait().unwrap();
    while watchers() != "0" {}
    secure.stop();
}

async fn crate_client(endpoint: &str, ca: &Path, pair: Option<&Pair>) -> Client {
    let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(fs::read(ca).unwrap()));
    if let Some(pair) = pair {
        tls = tls.identity(Identity::from_pem(fs::read(&pair.cert).unwrap(), fs::read(&pair.key).unwrap()));
    }
    let options = ConnectOptions::new().with_tls(tls).with_timeout(PATIENCE);
    Client::connect([endpoint], Some(options)).await.unwrap()
}

/// Whoever connects is let in or not by ringd as by etcd, and both say why in the same words.
pub fn only_fitting_certificates_are_let_in() {
    let (authority, other) = (Authority::new(), Authority::new());
    let friend = authority.sign("friend", &["friends.example"], 2);
    let cases = [
        (Some(other.sign("friend", &["friends.example"], 3)), "x509: certificate signed by unknown authority"),
        (Some(authority.sign("stranger", &["strangers.example"], 4)), "client certificate authentication failed"),
        (Some(authority.sign("revoked", &["friends.example"], 0x0abc)), "transport: certificate serial 0abc revoked"),
        (
            Some(authority.sign_until("late", &["friends.example"], 6, 2020)),
            "x509: certificate has expired or is not yet valid",
        ),
        (None, "tls: client didn't provide a certificate"),
    ];
    let crl = authority.revoke(0x0abc).display().to_string();
    let rules = ["--client-crl-file", &crl, "--client-cert-allowed-hostname", "a.example,friends.example"];
    let of_server = authority.sign("server", &LOCAL, 1);
    let flags: Vec<String> = authority.client_flags(&of_server).into_iter().chain(rules.map(str::to_owned)).collect();
    for program in BOTH {
        let mut secure = Secure::start(program, &flags);
        authority.ask(secure.port, Some(&friend)).expect("let in");
        let endpoint = secure.endpoint();
        for (pair, reason) in &cases {
            assert!(authority.ask(secure.port, pair.as_ref()).is_err(), "{program:?} lets in: {reason}");
            secure.must_log(1, &[REJECTED, "remote-addr", "server-name", reason]);
            let flags = authority.etcdctl_flags(pair.as_ref());
            let refused = ask(&endpoint, &flags, &["get", "k", "--command-timeout=1s"]);
            assert!(!refused.success, "{program:?} lets in: {reason}");
        }
        // A server that the client does not trust.
        let flags = other.etcdctl_flags(Some(&friend));
        assert!(!ask(&endpoint, &flags, &["get", "k", "--command-timeout=1s"]).success, "{program:?}");
        secure.must_log(1, &[REJECTED, "remote error: tls: bad certificate"]);
        authority.ask(secure.port, Some(&friend)).expect("let in");
        secure.stop();
    }
}

/// The answer to some bytes, until the server closes.
fn answer_to(bytes: &[u8], port: u16) -> Vec<u8> {
    let mut stream = TcpStream::connect((LOCAL[0], port)).expect("a listener");
    let mut answer = Vec::new();
    // A server that refuses the bytes may close before it has read all.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Plain text where TLS is, TLS where plain text is, and both at one address.
pub fn encrypted_and_plain_are_told_apart() {
    let authority = Authority::new();
    let pair = authority.sign("server", &LOCAL, 1);
    let files = [("--cert-file", &pair.cert), ("--key-file", &pair.key)];
    let flags: Vec<String> =
        files.into_iter().flat_map(|(flag, path)| [flag.to_owned(), path.display().to_string()]).collect();
    let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let (ca, tls) = (authority.path("ca.pem"), authority.etcdctl_flags(None));
    let mut answers = Vec::new();
    for program in BOTH {
        let mut secure = Secure::start(program, &flags);
        let refused = answer_to(request, secure.port);
        secure.must_log(1, &[REJECTED, "tls: first record does not look like a TLS handshake"]);
        let plain = format!("http://127.0.0.1:{}", secure.port);
        assert!(!ask(&plain, &[], &["get", "k", "--command-timeout=1s"]).success, "{program:?}");
        assert!(ask(&secure.endpoint(), &tls, &["put", "k", "v"]).success, "{program:?}");
        secure.stop();

        let plain_only = Secure::start_at(program, &flags, |port| format!("http://127.0.0.1:{port}"));
        let hello = answer_to(&[0x16, 3, 1, 0, 1, 1], plain_only.port);
        assert!(!ask(&plain_only.endpoint(), &tls, &["get", "k", "--command-timeout=1s"]).success, "{program:?}");
        plain_only.stop();

        let both = |port| format!("http://127.0.0.1:{port},https://127.0.0.1:{port}");
        let both = Secure::start_at(program, &flags, both);
        let plain = format!("http://127.0.0.1:{}", both.port);
        assert_eq!(ask(&plain, &[], &["put", "k", "v"]).stdout, "OK\n", "{program:?}");
        assert_eq!(ask(&both.endpoint(), &tls, &["get", "k"]).stdout, "k\nv\n", "{program:?}");
        let pages = [
            curl(&[&format!("{plain}/version")]),
            curl(&["--cacert", as_str(&ca), &format!("{}/version", both.endpoint())]),
        ];
        assert!(pages[0].is_ok() && pages[0] == pages[1], "{program:?} {pages:?}");
        both.stop();
        answers.push((refused, hello));
    }
    assert_eq!(answers[0], answers[1]);
}

/// Suites and versions are limited, for TLS 1.2 and 1.3.
pub fn suites_and_versions_are_limited() {
    let authority = Authority::new();
    let pair = authority.sign("server", &LOCAL, 1);
    let ca = authority.path("ca.pem");
    let files = ["--cert-file", as_str(&pair.cert), "--key-file", as_str(&pair.key)];
    let takes = |secure: &Secure, more: &[&str]| {
        let url = format!("{}/version", secure.endpoint());
        curl(&[&["--cacert", as_str(&ca)][..], more, &[url.as_str()]].concat()).is_ok()
    };
    // etcd does not serve HTTP/2 without this one.
    let one = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    for program in BOTH {
        for (flags, accepted, refused) in [
            (
                &["--cipher-suites", one, "--tls-max-version=TLS1.2"][..],
                &["--ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256"][..],
                &["--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384"][..],
            ),
            (
                &["--cipher-suites", one],
                &["--tlsv1.3"],
                &["--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-CHACHA20-POLY1305"],
            ),
            (&["--tls-min-version=TLS1.3"], &["--tlsv1.3"], &["--tls-max", "1.2"]),
            (&["--tls-max-version=TLS1.2"], &["--tls-max", "1.2"], &["--tlsv1.3"]),
        ] {
            let flags: Vec<String> = files.iter().chain(flags).map(|&flag| flag.to_owned()).collect();
            let secure = Secure::start(program, &flags);
            assert!(takes(&secure, accepted), "{program:?} {flags:?} refuses {accepted:?}");
            assert!(!takes(&secure, refused), "{program:?} {flags:?} takes {refused:?}");
            secure.stop();
        }
    }
}

/// A certificate of the server's own making is for clients that do not verify; it is made once.
pub fn own_certificates_are_shown() {
    for program in BOTH {
        let mut secure = Secure::start(program, &["--auto-tls".to_owned()]);
        secure.must_log(1, &["created key file"]);
        let skip = ["--insecure-skip-tls-verify".to_owned(), "--insecure-transport=false".to_owned()];
        assert_eq!(ask(&secure.endpoint(), &skip, &["put", "k", "v"]).stdout, "OK\n", "{program:?}");
        let made = secure.directory.path().join("data/fixtures/client/cert.pem");
        let certificate = fs::read(&made).expect("made");
        assert!(curl(&[&format!("{}/version", secure.endpoint())]).is_err(), "nobody vouches for it");
        // Its own authority vouches for it.
        let page = curl(&["--cacert", as_str(&made), &format!("{}/version", secure.endpoint())]);
        assert!(page.is_ok(), "{program:?} {page:?}");
        assert_eq!(fs::read(&made).expect("there"), certificate);
        secure.stop();
    }
}

/// A socket in the file system, encrypted.
pub fn sockets_in_the_file_system_are_encrypted() {
    let authority = Authority::new();
    let (of_server, of_client) = (authority.sign("server", &LOCAL, 1), authority.sign("client", &LOCAL, 2));
    for program in BOTH {
        let sockets = server::directory();
        // Clients expect the name of the file in the certificate.
        let path = sockets.path().join("localhost").display().to_string();
        let secure = Secure::start_at(program, &authority.client_flags(&of_server), |_| format!("unixs://{path}"));
        let tls = authority.etcdctl_flags(Some(&of_client));
        let endpoint = format!("unixs://{path}");
        assert_eq!(ask(&endpoint, &tls, &["put", "k", "v"]).stdout, "OK\n", "{program:?}");
        assert!(!ask(&endpoint, &authority.etcdctl_flags(None), &["get", "k", "--command-timeout=1s"]).success);
        secure.stop();
    }
}

/// Certificates, authorities and revocations are replaced while clients come, go and stay; none is turned away that should not be.
pub fn files_are_replaced_under_load() {
    let (authority, next) = (Authority::new(), Authority::new());
    let of_server = authority.sign("server", &LOCAL, 1);
    let (friend, newcomer) = (authority.sign("friend", &LOCAL, 2), next.sign("newcomer", &LOCAL, 3));
    let crl = authority.revoke(99);
    let flags: Vec<String> = authority
        .client_flags(&of_server)
        .into_iter()
        .chain(["--client-crl-file".to_owned(), crl.display().to_string()])
        .collect();
    let secure = Secure::start(Program::Ringd, &flags);
    let port = secure.port;
    // What is replaced is another file from now on, so that the friend's trust stays as it is.
    let (stays, own) = (AtomicBool::new(true), authority.path("own-ca.pem"));
    fs::copy(authority.path("ca.pem"), &own).expect("copied");
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while stays.load(Ordering::Relaxed) {
                    authority.ask_trusting(&own, port, Some(&friend)).expect("let in");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| harness::run(stay(&secure.endpoint(), &own, &friend, &stays, &served)));
        let some = || {
            let until = served.load(Ordering::Relaxed) + 20;
            while served.load(Ordering::Relaxed) < until {
                thread::yield_now();
            }
        };
        assert!(next.ask_trusting(&own, port, Some(&newcomer)).is_err(), "not known yet");
        for serial in 10..20 {
            some();
            let pair = authority.sign("server", &LOCAL, serial);
            // Between these two the files do not fit together.
            fs::rename(&pair.cert, &of_server.cert).expect("replaced");
            some();
            fs::rename(&pair.key, &of_server.key).expect("replaced");
        }
        let both = [fs::read(&own).expect("there"), fs::read(next.path("ca.pem")).expect("there")].concat();
        replace(&authority.path("ca.pem"), &both);
        next.ask_trusting(&own, port, Some(&newcomer)).expect("let in");
        some();
        replace(&authority.path("ca.pem"), &fs::read(&own).expect("there"));
        assert!(next.ask_trusting(&own, port, Some(&newcomer)).is_err(), "its authority has gone");
        some();
        stays.store(false, Ordering::Relaxed);
    });
    authority.revoke(2);
    assert!(authority.ask_trusting(&own, port, Some(&friend)).is_err(), "revoked");
    let shown = authority.ask_trusting(&own, port, Some(&authority.sign("other", &LOCAL, 4))).expect("let in");
    let serial = x509_parser::parse_x509_certificate(&shown).expect("a certificate").1.raw_serial().to_vec();
    assert_eq!(serial, [19], "the last one is shown");
    secure.stop();
}

fn replace(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    fs::write(&beside, bytes).expect("written");
    fs::rename(beside, path).expect("replaced");
}

/// One connection that stays, whatever happens to the files that it was made with.
async fn stay(endpoint: &str, ca: &Path, pair: &Pair, stays: &AtomicBool, served: &AtomicUsize) {
    let mut client = crate_client(endpoint, ca, Some(pair)).await;
    while stays.load(Ordering::Relaxed) {
        client.put("k", "v", None).await.expect("the connection goes on");
        served.fetch_add(1, Ordering::Relaxed);
    }
}

/// More silent connections than handshakes may be under way do not keep others out.
pub fn silent_connections_keep_nobody_out() {
    let authority = Authority::new();
    let (of_server, of_client) = (authority.sign("server", &LOCAL, 1), authority.sign("client", &LOCAL, 2));
    let secure = Secure::start(Program::Ringd, &authority.client_flags(&of_server));
    let connect = || TcpStream::connect((LOCAL[0], secure.port)).expect("a connection");
    let mut silent: Vec<TcpStream> = (0..600).map(|_| connect()).collect();
    for _ in 0..3 {
        authority.ask(secure.port, Some(&of_client)).expect("let in");
    }
    // They are closed, although they have said nothing.
    let mut byte = [0];
    assert!(silent[0].read(&mut byte).is_ok_and(|count| count == 0));
    secure.stop();
}

/// ringctl connects where etcdctl does with the same flags, and prints the same.
pub fn ringctl_is_secured_as_etcdctl() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (of_server, of_client) = (authority.sign("server", &LOCAL, 1), authority.sign("client", &LOCAL, 2));
    let plain = Secure::start_at(Program::Ringd, &[], |port| format!("http://127.0.0.1:{port}"));
    let secure = Secure::start(Program::Ringd, &authority.client_flags(&of_server));
    let sockets = server::directory();
    let path = sockets.path().join("localhost").display().to_string();
    let unix = Secure::start_at(Program::Ringd, &authority.client_flags(&of_server), |_| format!("unixs://{path}"));
    let (https, bare) = (secure.endpoint(), format!("127.0.0.1:{}", secure.port));
    let (http, unixs) = (format!("http://127.0.0.1:{}", plain.port), format!("unixs://{path}"));
    let own = authority.etcdctl_flags(Some(&of_client));
    let without = |flags: &[String], more: &[&str]| -> Vec<String> {
        flags.iter().cloned().chain(more.iter().map(|&flag| flag.to_owned())).collect()
    };
    let cases = [
        (&https, own.clone(), true),
        (&bare, own.clone(), true),
        (&http, own.clone(), true),
        (&unixs, own.clone(), true),
        (&https, without(&own[1..], &["--insecure-skip-tls-verify"]), true),
        (&bare, without(&own[1..], &["--insecure-skip-tls-verify", "--insecure-transport=false"]), true),
        (&https, own[1..].to_vec(), false),
        (&https, authority.etcdctl_flags(None), false),
        (&https, other.etcdctl_flags(Some(&of_client)), false),
        (&https, Vec::new(), false),
        (&bare, Vec::new(), false),
    ];
    for (endpoint, flags, is_let_in) in cases {
        let commands: [&[&str]; 3] = [&["put", "k", "v"], &["get", "k"], &["endpoint", "health"]];
        for command in commands.iter().take(if is_let_in { 3 } else { 1 }) {
            let words = [*command, &["--command-timeout=2s"][..]].concat();
            let arguments: Vec<&str> = flags.iter().map(String::as_str).chain(words).collect();
            let [etcdctl, ringctl] = [etcdctl, ringctl].map(|run| run(endpoint, &arguments, ""));
            assert_eq!(etcdctl.success, is_let_in, "{endpoint} {arguments:?}: {etcdctl:?}");
            assert_eq!(ringctl.success, is_let_in, "{endpoint} {arguments:?}: {ringctl:?}");
            if command[0] != "endpoint" {
                assert_eq!(etcdctl.stdout, ringctl.stdout, "{endpoint} {arguments:?}");
            }
        }
    }
    [plain, secure, unix].into_iter().for_each(Secure::stop);
}

/// ringbench shows a certificate, and its requests are those of a user.
pub fn ringbench_brings_a_certificate_and_a_user() {
    let authority = Authority::new();
    let (of_server, of_client) = (authority.sign("server", &LOCAL, 1), authority.sign("client", &LOCAL, 2));
    let secure = Secure::start(Program::Ringd, &authority.client_flags(&of_server));
    let (endpoint, tls) = (secure.endpoint(), authority.etcdctl_flags(Some(&of_client)));
    for words in ["role add root", "user add root:secret", "user grant-role root root", "auth enable"] {
        let words: Vec<&str> = words.split(' ').collect();
        assert!(ask(&endpoint, &tls, &words).success, "{words:?}");
    }
    let measure = |flags: &[String], more: &str| {
        let words = "put --quiet --format json --warm-up 0 --conns 3 --clients 30 --val-size 20000".split(' ');
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringbench"));
        command.args(words).args(["--endpoints", &endpoint]).args(flags).args(more.split_whitespace());
        command.output().expect("ringbench runs")
    };
    let refused = |output: &Output| {
        let measured: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (measured["all"]["requests"].as_u64() >= Some(300)).then(|| measured["all"]["refused"].as_u64()).flatten()
    };
    let done = measure(&tls, "--total 300 --user root:secret --preload --key-space-size 50");
    assert!(done.status.success() && refused(&done) == Some(0), "{done:?}");
    assert!(refused(&measure(&tls, "--total 300")) >= Some(300), "without a user");
    for (flags, more, why) in [
        (&tls, "--total 1 --user root:wrong", "refuses this name"),
        (&authority.etcdctl_flags(None), "--total 1", "CertificateRequired"),
        (&Vec::new(), "--total 1", "UnknownIssuer"),
    ] {
        let output = measure(flags, more);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && told.contains(why), "{more}: {output:?}");
    }
    secure.stop();
}

/// A mirror whose destination is encrypted, and whose source is not.
pub fn mirrors_are_secured() {
    let authority = Authority::new();
    let (of_server, of_client) = (authority.sign("server", &LOCAL, 1), authority.sign("client", &LOCAL, 2));
    let from = Secure::start_at(Program::Ringd, &[], |port| format!("http://127.0.0.1:{port}"));
    let to = Secure::start(Program::Ringd, &authority.client_flags(&of_server));
    let source = format!("http://127.0.0.1:{}", from.port);
    assert!(ringctl(&source, &["put", "mirrored", "value"], "").success);
    let files = [
        format!("--dest-cacert={}", authority.path("ca.pem").display()),
        format!("--dest-cert={}", of_client.cert.display()),
        format!("--dest-key={}", of_client.key.display()),
    ];
    let destination = to.endpoint();
    let arguments: Vec<&str> =
        ["make-mirror", &destination].into_iter().chain(files.iter().map(String::as_str)).collect();
    let mirror = Running::start(OsStr::new(env!("CARGO_BIN_EXE_ringctl")), &source, &arguments);
    let tls = authority.etcdctl_flags(Some(&of_client));
    let read = || ask(&destination, &tls, &["get", "mirrored", "--print-value-only"]).stdout;
    while read() != "value\n" {
        thread::yield_now();
    }
    drop(mirror);
    [from, to].into_iter().for_each(Secure::stop);
}

/// The flags that kubeadm starts etcd with, all of them.
pub fn kubeadms_flags_are_served() {
    let authority = Authority::new();
    let (pair, client) = (authority.sign("node", &LOCAL, 1), authority.sign("apiserver", &[], 2));
    let metrics = free_port();
    let peer = format!("https://127.0.0.1:{}", free_port());
    let flags = [
        format!("--cert-file={}", pair.cert.display()),
        "--client-cert-auth=true".to_owned(),
        "--feature-gates=InitialCorruptCheck=true".to_owned(),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=one={peer}"),
        format!("--key-file={}", pair.key.display()),
        format!("--listen-metrics-urls=http://127.0.0.1:{metrics}"),
        format!("--listen-peer-urls={peer}"),
        format!("--peer-cert-file={}", pair.cert.display()),
        "--peer-client-cert-auth=true".to_owned(),
        format!("--peer-key-file={}", pair.key.display()),
        format!("--peer-trusted-ca-file={}", authority.path("ca.pem").display()),
        "--snapshot-count=10000".to_owned(),
        format!("--trusted-ca-file={}", authority.path("ca.pem").display()),
        "--watch-progress-notify-interval=5s".to_owned(),
    ];
    let secure = Secure::start(Program::Ringd, &flags);
    assert!(ask(&secure.endpoint(), &authority.etcdctl_flags(Some(&client)), &["put", "k", "v"]).success);
    for probe in ["/readyz", "/livez", "/health?exclude=NOSPACE&serializable=true", "/metrics"] {
        assert!(curl(&["--fail", &format!("http://127.0.0.1:{metrics}{probe}")]).is_ok(), "{probe}");
    }
    secure.stop();
}

/// The gateway does not take the name in a certificate for a user, and says so to who shows one while there are users.
pub fn common_names_do_not_count_at_the_gateway() {
    let authority = Authority::new();
    let of_server = authority.sign("server", &LOCAL, 1);
    let (named, unnamed) = (authority.sign("root", &LOCAL, 2), authority.sign("", &LOCAL, 3));
    let ca = authority.path("ca.pem");
    let mut printed = Vec::new();
    for program in BOTH {
        let flags = [authority.client_flags(&of_server), vec!["--bcrypt-cost=4".to_owned()]].concat();
        let secure = Secure::start(program, &flags);
        let post = |pair: &Pair, path: &str, header: &str, body: &str| {
            let url = format!("{}{path}", secure.endpoint());
            let (cert, key) = (as_str(&pair.cert), as_str(&pair.key));
            let files = ["--cacert", as_str(&ca), "--cert", cert, "--key", key];
            let answered = curl(
                &[&files[..], &["--header", header, "--data", body, "--write-out", " %{http_code}", &url]].concat(),
            );
            let answered = answered.unwrap_or_else(|error| panic!("{program:?} {path}: {error}"));
            let (body, status) = answered.rsplit_once(' ').expect("a status");
            // Go's library chooses at build time whether a blank follows a comma.
            (body.replace(", \"", ",\""), status.to_owned())
        };
        let (range, nothing) = (r#"{"key":"Zm9v"}"#, "x: y");
        assert_eq!(post(&named, "/v3/kv/range", nothing, range).1, "200", "there are no users yet");
        for (path, body) in [
            ("/v3/auth/user/add", r#"{"name":"root","password":"root"}"#),
            ("/v3/auth/role/add", r#"{"name":"root"}"#),
            ("/v3/auth/user/grant", r#"{"user":"root","role":"root"}"#),
            ("/v3/auth/enable", "{}"),
        ] {
            assert_eq!(post(&named, path, nothing, body).1, "200", "{program:?} {path}");
        }
        let (token, _) = post(&unnamed, "/v3/auth/authenticate", nothing, r#"{"name":"root","password":"root"}"#);
        let token: serde_json::Value = serde_json::from_str(&token).expect("JSON");
        let token = format!("authorization: {}", token["token"].as_str().expect("a token"));
        assert_eq!(post(&unnamed, "/v3/kv/range", &token, range).1, "200", "{program:?}");
        printed.push([
            post(&named, "/v3/kv/range", &token, range),
            post(&named, "/v3/nothing", nothing, "{}"),
            post(&named, "/v3beta/kv/range", nothing, range),
            post(&unnamed, "/v3/kv/range", "authorization: nonsense", range),
        ]);
        secure.stop();
    }
    assert_eq!(printed[0], printed[1], "ringd, then etcd");
    assert_eq!(printed[0][0].1, "400");
}
