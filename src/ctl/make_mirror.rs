//! `make-mirror`: copies a prefix into another cluster, then every change of it.
//!
//! ```text
//!   --rev 0:   read everything at one revision, 1000 keys at a time ──▶ put each
//!   then:      watch after that revision (or from --rev)  ──▶ one transaction per revision, split at --max-txn-ops
//! ```
//!
//! It ends with an error, never by itself. Every 30 seconds it prints how many keys it has written.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Interval, interval_at};

use super::command::{Command, Flag, Group, Kind};
use super::security;
use super::session::{BAD_CONNECTION, ERROR, Exit, Session};
use crate::client::{Call, Client, Error, Options, Watch, method, watch};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchResponse,
};
use crate::proto::mvccpb::{Event, event::EventType};
use crate::service::queue::{prefix_end, revision};

pub static COMMAND: Command = Command {
    name: "make-mirror",
    arguments: "[options] <destination>",
    short: "Makes a mirror at the destination etcd cluster",
    group: Some(Group::Utility),
    flags: FLAGS,
    run: Some(run),
    ..Command::EMPTY
};

const FLAGS: &[Flag] = &[
    Flag::text("prefix", "", "Key-value prefix to mirror"),
    Flag::int("rev", "Specify the kv revision to start to mirror"),
    Flag::new(
        "max-txn-ops",
        Kind::Uint,
        "128",
        "Maximum number of operations permitted in a transaction during syncing updates.",
    ),
    Flag::text(
        "dest-prefix",
        "",
        "destination prefix to mirror a prefix to a different prefix in the destination cluster",
    ),
    Flag::bool("no-dest-prefix", "mirror key-values to the root of the destination cluster"),
    Flag::text("dest-cert", "", "Identify secure client using this TLS certificate file for the destination cluster"),
    Flag::text("dest-key", "", "Identify secure client using this TLS key file"),
    Flag::text("dest-cacert", "", "Verify certificates of TLS enabled secure servers using this CA bundle"),
    Flag::new("dest-insecure-transport", Kind::Bool, "true", "Disable transport security for client connections"),
    Flag::text(
        "dest-user",
        "",
        "Destination username[:password] for authentication (prompt if password is not supplied)",
    ),
    Flag::text(
        "dest-password",
        "",
        "Destination password for authentication (if this option is used, --user option shouldn't include password)",
    ),
];

const DESTINATION: security::Names = security::Names {
    cert: "dest-cert",
    key: "dest-key",
    cacert: "dest-cacert",
    insecure_transport: "dest-insecure-transport",
};
/// Keys per read of the first copy.
const BATCH_KEYS: i64 = 1000;
const REPORT_EVERY: Duration = Duration::from_secs(30);
/// A cluster that does not answer is reported at this interval.
const COMPLAIN_EVERY: Duration = Duration::from_secs(5);

fn run(session: &mut Session) -> Result<(), Exit> {
    let [destination] = session.arguments() else {
        return Err(Exit::arguments("make-mirror takes one destination argument"));
    };
    let destination = String::from_utf8_lossy(destination).into_owned();
    let source_options = session.settle()?;
    let tls = security::read(&session.flags, &DESTINATION, false)?;
    let user = destination_user(session)?;
    let options = Options { endpoints: vec![destination], tls, user, token: None, ..source_options.clone() };
    let to = connect(session, options)?;
    let from = connect(session, source_options)?;
    let (prefix, mut new_prefix) =
        (session.flags.text("prefix").to_owned(), session.flags.text("dest-prefix").to_owned());
    let moves_to_root = session.flags.bool("no-dest-prefix");
    if moves_to_root && !new_prefix.is_empty() {
        let text = "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one";
        return Err(Exit::arguments(text));
    }
    let start = (session.flags.int("rev") - 1).max(0);
    // etcdctl drops the prefix if it begins at a revision, as with an empty destination prefix.
    if !moves_to_root && new_prefix.is_empty() {
        new_prefix.clone_from(&prefix);
    }
    let operations_max = session.flags.uint("max-txn-ops");
    let mut every = |period| session.wait(async move { interval_at(Instant::now() + period, period) });
    let (report, complaint) = (every(REPORT_EVERY), every(COMPLAIN_EVERY));
    let mut mirror = Mirror { from, to, prefix, new_prefix, operations_max, written: 0, report, complaint };
    let start = if start == 0 { mirror.copy(session)? } else { start };
    mirror.follow(session, start)
}

fn connect(session: &mut Session, options: Options) -> Result<Client, Exit> {
    session.wait(Client::connect(options)).map_err(|error| Exit::new(BAD_CONNECTION, error))
}

fn destination_user(session: &mut Session) -> Result<Option<(String, String)>, Exit> {
    let (user, password) = (session.flags.text("dest-user").to_owned(), session.flags.text("dest-password").to_owned());
    if user.is_empty() {
        return Ok(None);
    }
    if !password.is_empty() {
        return Ok(Some((user, password)));
    }
    if let Some((user, password)) = user.split_once(':') {
        return Ok(Some((user.to_owned(), password.to_owned())));
    }
    let password = session.ask_secret("Destination Password: ")?;
    Ok(Some((user, password)))
}

struct Mirror {
    from: Client,
    to: Client,
    prefix: String,
    new_prefix: String,
    operations_max: u64,
    /// Keys put or deleted at the destination.
    written: u64,
    report: Interval,
    complaint: Interval,
}

/// The cluster whose answer is awaited.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

impl Mirror {
    /// Copies all keys at one revision; returns that revision.
    fn copy(&mut self, session: &mut Session) -> Result<i64, Exit> {
        let probe = if self.prefix.is_empty() { "foo" } else { &self.prefix };
        let probe = RangeRequest { key: Bytes::copy_from_slice(probe.as_bytes()), ..RangeRequest::default() };
        let from = self.from.clone();
        let at =
            revision(&self.reporting(session, Side::Source, from.call(&method::RANGE, &probe, Call::default()))??);
        let (mut key, range_end) = self.range();
        loop {
            let request = RangeRequest {
                key,
                range_end: range_end.clone(),
                limit: BATCH_KEYS,
                revision: at,
                ..RangeRequest::default()
            };
            let response =
                self.reporting(session, Side::Source, from.call(&method::RANGE, &request, Call::default()))??;
            for pair in &response.kvs {
                let put =
                    PutRequest { key: self.renamed(&pair.key), value: pair.value.clone(), ..PutRequest::default() };
                let to = self.to.clone();
                self.reporting(session, Side::Destination, to.call(&method::PUT, &put, Call::default()))??;
                self.written += 1;
            }
            match response.kvs.last() {
                Some(last) if response.more => key = [&last.key[..], b"\0"].concat().into(),
                _ => return Ok(at),
            }
        }
    }

    /// Everything, or everything under the prefix.
    fn range(&self) -> (Bytes, Bytes) {
        let prefix = Bytes::copy_from_slice(self.prefix.as_bytes());
        match prefix.is_empty() {
            true => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            false => (prefix.clone(), prefix_end(&prefix)),
        }
    }

    /// Copies every change after revision `at`. Ends with the watch.
    fn follow(&mut self, session: &mut Session, at: i64) -> Result<(), Exit> {
        let (key, range_end) = self.range();
        let request = WatchCreateRequest { key, range_end, start_revision: at + 1, ..WatchCreateRequest::default() };
        let mut changes: Watch = self.from.watch(request, Call::default());
        loop {
            match self.reporting(session, Side::Source, changes.next())?? {
                Some(response) => self.carry_over(session, &response)?,
                // etcdctl prints a nil error here.
                None => return Err(Exit::new(ERROR, "<nil>")),
            }
        }
    }

    fn carry_over(&mut self, session: &mut Session, response: &WatchResponse) -> Result<(), Exit> {
        if response.compact_revision != 0
            && let Some(error) = watch::cancellation(response)
        {
            return Err(error.into());
        }
        let mut operations = Vec::new();
        let mut last = 0;
        for event in &response.events {
            let at = event.kv.as_ref().map_or(0, |pair| pair.mod_revision);
            let is_full = operations.len() as u64 == self.operations_max;
            if (last != 0 && at > last) || (is_full && !operations.is_empty()) {
                self.commit(session, std::mem::take(&mut operations))?;
            }
            last = at;
            operations.push(self.operation(event));
            self.written += 1;
        }
        if operations.is_empty() { Ok(()) } else { self.commit(session, operations) }
    }

    fn commit(&mut self, session: &mut Session, success: Vec<RequestOp>) -> Result<(), Exit> {
        let request = TxnRequest { success, ..TxnRequest::default() };
        let to = self.to.clone();
        self.reporting(session, Side::Destination, to.call(&method::TXN, &request, Call::default()))??;
        Ok(())
    }

    fn operation(&self, event: &Event) -> RequestOp {
        let pair = event.kv.clone().unwrap_or_default();
        let key = self.renamed(&pair.key);
        let request = match event.r#type == EventType::Put as i32 {
            true => Request::RequestPut(PutRequest { key, value: pair.value, ..PutRequest::default() }),
            false => Request::RequestDeleteRange(DeleteRangeRequest { key, ..DeleteRangeRequest::default() }),
        };
        RequestOp { request: Some(request) }
    }

    /// The key at the destination: the new prefix in the place of the old one.
    fn renamed(&self, key: &Bytes) -> Bytes {
        let rest = key.strip_prefix(self.prefix.as_bytes()).unwrap_or(key);
        [self.new_prefix.as_bytes(), rest].concat().into()
    }

    /// Waits for `work`; prints the count at its interval, and reports a cluster that does not answer.
    fn reporting<T>(
        &mut self,
        session: &mut Session,
        side: Side,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<Result<T, Error>, Exit> {
        let mut work = std::pin::pin!(work);
        loop {
            let (report, complaint) = (&mut self.report, &mut self.complaint);
            let next = session.wait(async {
                tokio::select! {
                    outcome = &mut work => Next::Done(outcome),
                    _ = report.tick() => Next::Report,
                    _ = complaint.tick() => Next::Complain,
                }
            });
            match next {
                Next::Done(outcome) => return Ok(outcome),
                Next::Report => {
                    writeln!(session.io.output, "{}", self.written)?;
                    session.io.output.flush()?;
                }
                Next::Complain => self.complain(session, side)?,
            }
        }
    }

    /// Reports a cluster that does not answer. etcdctl waits without a report.
    fn complain(&self, session: &mut Session, side: Side) -> Result<(), Exit> {
        let (client, text) = match side {
            Side::Source => (&self.from, "waiting for the source cluster"),
            Side::Destination => (&self.to, "waiting for the destination cluster"),
        };
        match client.trouble() {
            Some(reason) => session.log("warn", text, "error", &reason),
            None => Ok(()),
        }
    }
}

/// The end of a wait.
enum Next<T> {
    Done(T),
    Report,
    Complain,
}
