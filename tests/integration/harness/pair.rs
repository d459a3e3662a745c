//! ringd and etcd side by side: started alike, asked the same, and their answers compared.
//!
//! Equal must be: HTTP status, content type, gRPC code and message, and the response but for what [`masked`] takes out.

use std::fmt::Debug;

use bytes::Bytes;
use prost::Message;
use tempfile::TempDir;

use super::{
    grpc::{Connection, Refusal, Reply},
    masked::{decoded, masked},
    server::{self, Program, Server},
};

/// In the order of every pair of answers.
pub const NAMES: [&str; 2] = ["ringd", "etcd"];

pub struct Pair {
    pub connections: [Connection; 2],
    servers: [Option<Server>; 2],
    // Last, so that the servers end before their directories go.
    _directories: [TempDir; 2],
}

impl Pair {
    /// Both on empty directories.
    pub async fn start(flags: &[&str]) -> Pair {
        let directories = [server::directory(), server::directory()];
        let ringd = Server::start_with(Program::Ringd, directories[0].path(), flags);
        let etcd = Server::start_with(Program::Etcd, directories[1].path(), flags);
        Pair {
            connections: [ringd.connect().await, etcd.connect().await],
            servers: [Some(ringd), Some(etcd)],
            _directories: directories,
        }
    }

    /// Ends both, as `how` says, and starts them again on what they left.
    pub async fn restart(&mut self, how: impl Fn(Server) -> Server) {
        for (server, connection) in self.servers.iter_mut().zip(&mut self.connections) {
            let again = how(server.take().expect("always there between calls"));
            *connection = again.connect().await;
            *server = Some(again);
        }
    }

    /// Both, ringd first.
    pub fn servers(&self) -> [&Server; 2] {
        self.servers.each_ref().map(|server| server.as_ref().expect("always there between calls"))
    }

    /// Asks both at the same time.
    pub async fn both(&self, path: &str, request: &impl Message) -> [Reply; 2] {
        self.both_encoded(path, request.encode_to_vec().into()).await
    }

    pub async fn both_encoded(&self, path: &str, request: Bytes) -> [Reply; 2] {
        let (ringd, etcd) =
            tokio::join!(self.connections[0].call(path, request.clone()), self.connections[1].call(path, request));
        [ringd, etcd]
    }

    /// Asks both; the answers must be equal. Gives back etcd's.
    pub async fn agree<Q, R>(&self, path: &str, request: &Q) -> Result<R, Refusal>
    where
        Q: Message + Debug,
        R: Message + Default + Debug + PartialEq,
    {
        self.agree_after(path, request, |_: &mut R| ()).await
    }

    /// The same after `level` has taken out of each response what etcd leaves open.
    pub async fn agree_after<Q, R>(&self, path: &str, request: &Q, level: impl Fn(&mut R)) -> Result<R, Refusal>
    where
        Q: Message + Debug,
        R: Message + Default + Debug + PartialEq,
    {
        let replies = self.both(path, request).await;
        if let Some(what) = difference(&replies, level) {
            panic!("{path} {request:?}\n{what}");
        }
        replies[1].clone().typed()
    }

    /// The answer that both give, which must not be a refusal.
    pub async fn done<Q, R>(&self, path: &str, request: &Q) -> R
    where
        Q: Message + Debug,
        R: Message + Default + Debug + PartialEq,
    {
        self.agree(path, request).await.unwrap_or_else(|refusal| panic!("{path} {request:?}: {refusal:?}"))
    }
}

impl Reply {
    /// The one message, or the refusal.
    pub fn typed<R: Message + Default>(self) -> Result<R, Refusal> {
        match (self.code, self.messages.first()) {
            (Some(0), Some(message)) => Ok(decoded(message)),
            (code, _) => Err(Refusal { code: code.unwrap_or(u32::MAX), message: self.message }),
        }
    }
}

/// What differs between the replies of ringd and etcd, if anything.
pub fn difference<R: Message + Default + Debug + PartialEq>(
    replies: &[Reply; 2],
    level: impl Fn(&mut R),
) -> Option<String> {
    let [ringd, etcd] = replies.each_ref().map(|reply| {
        let Reply { http_status, content_type, code, message, broken, .. } = reply;
        let mut messages: Vec<R> = reply.messages.iter().map(|message| decoded(&masked(message))).collect();
        messages.iter_mut().for_each(&level);
        (format!("{http_status} {content_type} grpc-status {code:?} {message:?} {broken:?}"), messages)
    });
    (ringd != etcd).then(|| format!("ringd: {} {:?}\netcd:  {} {:?}", ringd.0, ringd.1, etcd.0, etcd.1))
}
