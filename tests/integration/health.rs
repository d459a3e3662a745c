//! The gRPC health service, compared with etcd's, and its status when clients should leave.

use bytes::Bytes;
use prost::Message;
use ringd::proto::{
    etcdserverpb::{DefragmentRequest, DefragmentResponse},
    grpc::health::v1::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus},
};

use crate::{
    harness::{
        self,
        grpc::Connection,
        pair::Pair,
        server::{self, Program, Server},
        stream::{End, Stream},
    },
    maintenance::DEFRAGMENT,
};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const LIST: &str = "/grpc.health.v1.Health/List";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// Check and List byte for byte; the first answers of Watch, and its end.
pub fn answers_agree() {
    harness::run(async {
        let pair = Pair::start(&[]).await;
        for service in ["", "etcdserverpb.KV", "grpc.health.v1.Health", "etcdserverpb"] {
            let request = HealthCheckRequest { service: service.into() };
            let [ours, theirs] = pair.both(CHECK, &request).await;
            assert_eq!(ours, theirs, "Check {service:?}");
            let mut first = Vec::new();
            for connection in &pair.connections {
                let mut stream = ask(connection, service).await;
                first.push(stream.next::<HealthCheckResponse>().await.expect("an answer"));
                stream.cancel();
            }
            assert_eq!(first[0], first[1], "Watch {service:?}");
        }
        for (path, message) in
            [(LIST, &b""[..]), (LIST, b"\x0a\x01x"), (LIST, b"\x0a"), (CHECK, b"\x0a"), (WATCH, b"\x0a")]
        {
            let [ours, theirs] = pair.both_encoded(path, Bytes::from_static(message)).await;
            let level = |reply: &harness::grpc::Reply| (reply.code, reply.messages.clone(), reply.trailers_only);
            assert_eq!(level(&ours), level(&theirs), "{path} {message:?}");
        }
    });
}

/// A Watch ends when the server stops, so that the client connects to another member.
pub fn watches_end_with_the_server() {
    let directory = server::directory();
    let server = Server::start(Program::Ringd, directory.path());
    harness::run(async {
        let connection = server.connect().await;
        let mut stream = ask(&connection, "").await;
        assert_eq!(status(&mut stream).await, ServingStatus::Serving);
        server.stop();
        let end = stream.end().await;
        assert!(matches!(&end, End::Status { code: Some(14), .. }), "{end:?}");
    });
}

/// With the feature gate, clients leave for the time of a Defragment.
pub fn defragmentation_with_the_gate() {
    let directory = server::directory();
    let flags = ["--feature-gates", "StopGRPCServiceOnDefrag=true"];
    let server = Server::start_with(Program::Ringd, directory.path(), &flags);
    harness::run(async {
        let connection = server.connect().await;
        let mut stream = ask(&connection, "").await;
        assert_eq!(status(&mut stream).await, ServingStatus::Serving);
        let _: DefragmentResponse = connection.unary(DEFRAGMENT, &DefragmentRequest {}).await.unwrap();
        assert_eq!(status(&mut stream).await, ServingStatus::NotServing);
        assert_eq!(status(&mut stream).await, ServingStatus::Serving);
    });
    server.stop();
}

/// Opens a Watch of one service.
pub async fn ask(connection: &Connection, service: &str) -> Stream {
    let mut stream = connection.stream(WATCH, &[]).await;
    stream.send_bytes(HealthCheckRequest { service: service.into() }.encode_to_vec().into());
    stream.half_close();
    stream
}

/// The next status of a Watch.
pub async fn status(stream: &mut Stream) -> ServingStatus {
    let answer: HealthCheckResponse = stream.next().await.unwrap_or_else(|end| panic!("no status: {end}"));
    answer.status()
}

/// The status of the whole server by Check.
pub async fn check(connection: &Connection) -> ServingStatus {
    let answer: HealthCheckResponse = connection.unary(CHECK, &HealthCheckRequest::default()).await.unwrap();
    answer.status()
}
