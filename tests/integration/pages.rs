//! The pages over HTTP/1, compared with etcd's: status, every header, every byte of the body.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use ringd::proto::etcdserverpb::{AlarmRequest, AlarmResponse, AlarmType, alarm_request::AlarmAction};

use crate::harness::{
    self,
    server::{self, Program, Server},
};

/// Requests that every server answers with the same bytes.
const REQUESTS: [(&str, &str); 39] = [
    ("GET", "/version"),
    ("POST", "/version"),
    ("HEAD", "/version"),
    ("OPTIONS", "/version"),
    ("GET", "/health"),
    ("POST", "/health"),
    ("HEAD", "/health"),
    ("DELETE", "/health"),
    ("GET", "/health?serializable=true"),
    ("GET", "/health?exclude=NOSPACE"),
    ("GET", "/health?exclude=NOSPACE&exclude=CORRUPT"),
    ("GET", "/health?exclude=&exclude=none"),
    ("GET", "/health/"),
    ("GET", "/livez"),
    ("GET", "/livez?verbose"),
    ("GET", "/livez?verbose=false"),
    ("GET", "/livez?exclude=serializable_read&verbose"),
    ("GET", "/livez?exclude=nothing"),
    ("GET", "/livez/serializable_read?verbose"),
    ("GET", "/livez/serializable_read?exclude=serializable_read&verbose"),
    ("GET", "/livez/linearizable_read"),
    ("GET", "/livez/"),
    ("PUT", "/livez"),
    ("GET", "/readyz/data_corruption?verbose"),
    ("GET", "/readyz/serializable_read?verbose"),
    ("GET", "/readyz/linearizable_read?verbose"),
    ("GET", "/readyz/non_learner?verbose"),
    ("GET", "/readyz?exclude=data_corruption&exclude=linearizable_read&exclude=non_learner&verbose"),
    ("POST", "/readyz/non_learner"),
    ("GET", "/readyz/nothing"),
    ("GET", "/"),
    ("GET", "/nothing/here"),
    ("POST", "/nothing/here"),
    ("GET", "//health?serializable=true&x=y"),
    ("POST", "/a/../health"),
    ("GET", "/./nothing//"),
    ("POST", "/debug/vars"),
    ("GET", "/debug/pprof/"),
    ("GET", "/debug/requests"),
];
/// The same but for the body, whose length may be announced or not.
const HEADS: [(&str, &str); 3] = [("GET", "/metrics"), ("POST", "/metrics"), ("GET", "/debug/vars")];

/// On a healthy member, and with each alarm.
pub fn pages_agree() {
    let directories = [server::directory(), server::directory()];
    let ringd = Server::start(Program::Ringd, directories[0].path());
    let etcd = Server::start(Program::Etcd, directories[1].path());
    for alarm in [None, Some(AlarmType::Nospace), Some(AlarmType::Corrupt)] {
        for server in [&ringd, &etcd] {
            alarm.inspect(|alarm| harness::run(set_alarm(server, *alarm, AlarmAction::Activate)));
        }
        for (method, path) in REQUESTS {
            let answers = [&ringd, &etcd].map(|server| harness::run(ask(server.port, method, path)));
            assert_eq!(answers[0], answers[1], "{method} {path} with {alarm:?}: ringd, then etcd");
        }
        for (method, path) in HEADS {
            let [ringd, etcd] = [&ringd, &etcd].map(|server| harness::run(ask(server.port, method, path)));
            assert_eq!((ringd.status, ringd.headers), (etcd.status, etcd.headers), "{method} {path}");
        }
        for server in [&ringd, &etcd] {
            alarm.inspect(|alarm| harness::run(set_alarm(server, *alarm, AlarmAction::Deactivate)));
        }
    }
}

/// Requests without a host or with a wrong one: status line, every header, every byte of the body.
pub fn hosts_agree() {
    let directories = [server::directory(), server::directory()];
    let ringd = Server::start(Program::Ringd, directories[0].path());
    let etcd = Server::start(Program::Etcd, directories[1].path());
    for head in [
        "GET /version HTTP/1.1\r\n",
        "GET http://localhost/version HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "GET /version HTTP/1.1\r\nhost: a\r\nhost: a\r\n",
        "GET /version HTTP/1.1\r\nhost: a b\r\n",
        "GET /version HTTP/1.1\r\nhost: a/b\r\n",
        "GET /version HTTP/1.1\r\nhost: k\u{e4}se\r\n",
        "GET /version HTTP/1.1\r\nhost:\r\nconnection: close\r\n",
        "GET /version HTTP/1.1\r\nhost: a,b;c=[d]:e!$%&'()*+-._~\r\nconnection: close\r\n",
        "GET /version HTTP/1.0\r\n",
        "GET /nothing HTTP/1.0\r\n",
    ] {
        let request = format!("{head}\r\n");
        let [ringd, etcd] = [&ringd, &etcd].map(|server| harness::run(exchange(server.port, &request)));
        assert_eq!(ringd, etcd, "{head}: ringd, then etcd");
    }
}

/// Only the scripts of some origins may read pages, and only some names of the host are answered.
pub fn access_agrees() {
    let directories = [server::directory(), server::directory()];
    let flags = ["--cors=http://a.example:80,http://b.example:81", "--host-whitelist=localhost,good.example,::1"];
    let ringd = Server::start_with(Program::Ringd, directories[0].path(), &flags);
    let etcd = Server::start_with(Program::Etcd, directories[1].path(), &flags);
    for host in [
        "localhost",
        "localhost:1",
        "good.example:9",
        "127.0.0.1:2379",
        "evil.example",
        "[::1]:1",
        "[::1]",
        "Localhost",
    ] {
        for origin in
            ["", "origin: http://a.example:80\r\n", "origin: http://a.example\r\n", "origin: http://b.example:81\r\n"]
        {
            for start in ["GET /version", "OPTIONS /version", "GET /nothing", "GET /health"] {
                let request = format!("{start} HTTP/1.1\r\nhost: {host}\r\n{origin}connection: close\r\n\r\n");
                let [ringd, etcd] = [&ringd, &etcd].map(|server| harness::run(exchange(server.port, &request)));
                assert_eq!(ringd, etcd, "{request}: ringd, then etcd");
            }
        }
    }
}

/// CPU profiles of a server that has something to do, if it was started for that.
pub fn profiles_are_served() {
    let directory = server::directory();
    let server = Server::start_with(Program::Ringd, directory.path(), &["--enable-pprof"]);
    let profile = |path: &str| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let request = format!("GET /debug/pprof/{path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("an HTTP answer") + 4;
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..end]));
        answer.split_off(end)
    };
    assert!(String::from_utf8(profile("")).unwrap().contains("flamegraph"));
    for (path, begin) in [("profile?seconds=1", &[0x1f, 0x8b][..]), ("flamegraph?seconds=1", b"<?xml")] {
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| profile(path));
            while !taken.is_finished() {
                assert!(server.page("/metrics").contains("etcd_server_has_leader 1"));
            }
            assert!(taken.join().unwrap().starts_with(begin), "{path}");
        });
    }
    server.stop();
    let server = Server::start(Program::Ringd, directory.path());
    assert!(server.page("/debug/pprof/").contains("404"), "only if asked for");
}

/// Which encoding `/metrics` comes in; other pages are never compressed.
pub fn encodings_agree() {
    let directories = [server::directory(), server::directory()];
    let ringd = Server::start(Program::Ringd, directories[0].path());
    let etcd = Server::start(Program::Etcd, directories[1].path());
    let wishes = [
        "gzip",
        "zstd",
        "zstd, gzip",
        "br",
        "identity",
        "identity, gzip;q=0.1",
        "*",
        "*;q=0",
        "gzip;q=0",
        "gzip ; q=0.5",
        "GZIP",
        "gzip;q=x",
        "gzip;q=1.5",
        "gzip;x=1",
        "gzip;q=0.5;q=0",
        "",
        ",gzip",
        "gzip,",
        "x gzip",
        "*;q=0.5, gzip;q=0",
        "identity;q=0.1, gzip;q=0.2",
        "br\r\naccept-encoding: gzip",
    ];
    for (path, wish) in
        wishes.map(|wish| ("/metrics", wish)).into_iter().chain([("/version", "gzip"), ("/health", "gzip")])
    {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\naccept-encoding: {wish}\r\n\r\n");
        let [ringd, etcd] = [&ringd, &etcd].map(|server| harness::run(exchange(server.port, &request)));
        assert_eq!((ringd.status, ringd.headers), (etcd.status, etcd.headers), "{path} as {wish:?}: ringd, then etcd");
    }
}

/// The checks of a page come in any order in etcd; one line each, and then the verdict.
pub fn reports_agree() {
    let directories = [server::directory(), server::directory()];
    let ringd = Server::start(Program::Ringd, directories[0].path());
    let etcd = Server::start(Program::Etcd, directories[1].path());
    let paths = ["/readyz?verbose", "/readyz", "/readyz?exclude=data_corruption&verbose"];
    for (round, path) in paths.into_iter().chain(paths).enumerate() {
        if round == paths.len() {
            let corrupt = |server| harness::run(set_alarm(server, AlarmType::Corrupt, AlarmAction::Activate));
            [&ringd, &etcd].into_iter().for_each(corrupt);
        }
        let [ringd, etcd] = [&ringd, &etcd].map(|server| {
            let page = harness::run(ask(server.port, "GET", path));
            let mut lines: Vec<String> = page.body.lines().map(str::to_owned).collect();
            lines.sort();
            (page.status, page.headers, lines)
        });
        assert_eq!(ringd, etcd, "{path}: ringd, then etcd");
    }
}

async fn set_alarm(server: &Server, alarm: AlarmType, action: AlarmAction) {
    let request = AlarmRequest { action: action as i32, member_id: 7, alarm: alarm as i32 };
    let path = "/etcdserverpb.Maintenance/Alarm";
    let answer: AlarmResponse = server.connect().await.unary(path, &request).await.unwrap();
    assert_eq!(answer.alarms.len(), 1);
}

#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    status: String,
    /// Names in lower case, sorted; without the date and the fields for the length.
    headers: Vec<String>,
    body: String,
}

impl Page {
    /// Whether this is in the body.
    pub fn has_body(&self, text: &str) -> bool {
        self.body.contains(text)
    }
}

pub async fn ask(port: u16, method: &str, path: &str) -> Page {
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    exchange(port, &request).await
}

/// One request on a connection of its own, which the server closes.
async fn exchange(port: u16, request: &str) -> Page {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").expect("an HTTP answer");
    let mut lines = head.lines();
    let status = lines.next().expect("a status line").to_owned();
    let named = |line: &str| {
        let (name, value) = line.split_once(':').expect("a header");
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    let left_out = ["date", "content-length", "transfer-encoding", "connection"];
    let headers = lines.map(named).filter(|(name, _)| !left_out.contains(&name.as_str()));
    let mut headers: Vec<String> = headers.map(|(name, value)| format!("{name}: {value}")).collect();
    headers.sort();
    Page { status, headers, body: body.to_owned() }
}
