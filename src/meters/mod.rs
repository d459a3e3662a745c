//! The counters of a member, by core. Any core may read all of them.
//!
//! ```text
//!   front 0: sheet, handling times, gRPC counts ─┐
//!   front n: the same                            ├─▶ exposition: one page
//!   engine:  sheet (log, page file, apply)       │
//!   view:    figures of the state ───────────────┘
//! ```
//!
//! 1. Counting takes no lock and hashes nothing: sheets are cells at constant places; a labelled series is made at its first
//!    use and found by its position from then on.
//! 2. Figures of the published view (revisions, sizes, leader, applied operations) are not counted: the page reads the view.

pub mod slow;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::{
    apply::request::Kind,
    base::limits,
    metrics::{Grpc, GrpcCounts, GrpcMethod, Name, Series, Sheet},
    rpc::{CallCounters, CallReport, MethodCounts},
};

/// All counters of a member.
pub struct Meters {
    pub engine: EngineMeter,
    fronts: Box<[CoreMeter]>,
    /// `--warning-apply-duration`.
    pub slow_apply: Duration,
}

/// The counters of one front's core.
pub struct CoreMeter {
    pub sheet: Sheet,
    grpc: Grpc,
    counters: OnceLock<Arc<CallCounters>>,
    requests: [Outcomes; RequestKind::COUNT],
    ranges: Outcomes,
}

/// The counters of the engine's core.
pub struct EngineMeter {
    pub sheet: Sheet,
    applies: [Outcomes; OPERATIONS.len()],
}

/// A series for failures and one for successes.
#[derive(Default)]
struct Outcomes([OnceLock<Series>; 2]);

/// `type` of `etcd_server_request_duration_seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    Put,
    DeleteRange,
    Txn,
    Compaction,
    Alarm,
    LeaseGrant,
    LeaseRevoke,
    LeaseCheckpoint,
    Range,
    ReadonlyTxn,
    AuthEnable,
    AuthDisable,
    Authenticate,
    AuthUserAdd,
    AuthUserDelete,
    AuthUserChangePassword,
    AuthUserGrantRole,
    AuthUserRevokeRole,
    AuthRoleAdd,
    AuthRoleDelete,
    AuthRoleGrantPermission,
    AuthRoleRevokePermission,
    Other,
}

/// `op` of `etcd_server_apply_duration_seconds`, by field of the request.
const OPERATIONS: [(u32, &str); 30] = [
    (Kind::Put as u32, "Put"),
    (Kind::DeleteRange as u32, "DeleteRange"),
    (Kind::Txn as u32, "Txn"),
    (Kind::Compaction as u32, "Compaction"),
    (Kind::LeaseGrant as u32, "LeaseGrant"),
    (Kind::LeaseRevoke as u32, "LeaseRevoke"),
    (Kind::LeaseCheckpoint as u32, "LeaseCheckpoint"),
    (Kind::Alarm as u32, "Alarm"),
    (Kind::ClusterVersionSet as u32, "ClusterVersionSet"),
    (Kind::ClusterMemberAttrSet as u32, "ClusterMemberAttrSet"),
    (Kind::DowngradeInfoSet as u32, "DowngradeInfoSet"),
    (Kind::AuthEnable as u32, "AuthEnable"),
    (Kind::AuthDisable as u32, "AuthDisable"),
    (Kind::Authenticate as u32, "Authenticate"),
    (Kind::AuthUserAdd as u32, "AuthUserAdd"),
    (Kind::AuthUserDelete as u32, "AuthUserDelete"),
    (Kind::AuthUserChangePassword as u32, "AuthUserChangePassword"),
    (Kind::AuthUserGrantRole as u32, "AuthUserGrantRole"),
    (Kind::AuthUserRevokeRole as u32, "AuthUserRevokeRole"),
    (Kind::AuthRoleAdd as u32, "AuthRoleAdd"),
    (Kind::AuthRoleDelete as u32, "AuthRoleDelete"),
    (Kind::AuthRoleGrantPermission as u32, "AuthRoleGrantPermission"),
    (Kind::AuthRoleRevokePermission as u32, "AuthRoleRevokePermission"),
    (1013, "AuthStatus"),
    (1102, "AuthUserGet"),
    (1106, "AuthUserList"),
    (1107, "AuthRoleList"),
    (1202, "AuthRoleGet"),
    (9900, "DowngradeVersionTest"),
    (0, "unknown"),
];

impl Meters {
    #[must_use]
    pub fn new(fronts: usize, methods: &'static [GrpcMethod], extensive: bool, slow_apply: Duration) -> Arc<Self> {
        let engine = EngineMeter { sheet: Sheet::default(), applies: Default::default() };
        Arc::new(Self { engine, fronts: (0..fronts).map(|_| CoreMeter::new(methods, extensive)).collect(), slow_apply })
    }

    #[must_use]
    pub fn front(&self, id: u16) -> &CoreMeter {
        &self.fronts[usize::from(id)]
    }

    /// Which of etcd's features are on.
    pub fn show_gates(&self, gates: impl IntoIterator<Item = (&'static str, &'static str, bool)>) {
        for (name, stage, open) in gates {
            self.engine.sheet.series(Name::ServerFeatureEnabled, &[name, stage]).set(i64::from(open));
        }
    }

    /// Every core's sheet.
    pub fn sheets(&self) -> impl Iterator<Item = &Sheet> {
        self.fronts.iter().map(|front| &front.sheet).chain([&self.engine.sheet])
    }

    /// Every front's gRPC metrics, up to date.
    pub fn grpc(&self) -> impl Iterator<Item = &Grpc> {
        self.fronts.iter().map(CoreMeter::grpc)
    }
}

impl CoreMeter {
    fn new(methods: &'static [GrpcMethod], extensive: bool) -> Self {
        Self {
            sheet: Sheet::default(),
            grpc: Grpc::new(methods, extensive),
            counters: OnceLock::new(),
            requests: Default::default(),
            ranges: Outcomes::default(),
        }
    }

    /// Where this core's gRPC server counts.
    pub fn connect(&self, counters: Arc<CallCounters>) {
        self.counters.get_or_init(|| counters);
    }

    fn grpc(&self) -> &Grpc {
        if let Some(counters) = self.counters.get() {
            for (at, counts) in counters.snapshot().iter().enumerate() {
                self.grpc.load(at, &grpc_counts(counts));
            }
        }
        &self.grpc
    }

    /// A call ended.
    pub fn handled(&self, report: &CallReport<'_>) {
        self.sheet.add(Name::NetworkClientGrpcReceivedBytesTotal, report.received.bytes);
        self.sheet.add(Name::NetworkClientGrpcSentBytesTotal, report.sent.bytes);
        self.grpc.took(usize::from(report.method.0), report.duration().as_secs_f64());
    }

    /// A request that passed its checks was answered.
    pub fn answered(&self, kind: RequestKind, is_ok: bool, took: Duration) {
        let series = self.requests[kind as usize]
            .series(is_ok, |success| self.sheet.series(Name::ServerRequestDurationSeconds, &[success, kind.name()]));
        series.observe(took.as_secs_f64());
    }

    /// The ranges of a read-only transaction were read.
    pub fn read_txn(&self, ranges: usize) {
        self.sheet.add(Name::MvccRangeTotal, ranges as u64);
        self.sheet.add(Name::MvccTxnTotal, u64::from(ranges > 1));
    }

    /// A range was read.
    pub fn ranged(&self, is_ok: bool, took: Duration) {
        self.sheet.add(Name::MvccRangeTotal, 1);
        let make = |success: &str| self.sheet.series(Name::ServerRangeDurationSeconds, &[success]);
        self.ranges.series(is_ok, make).observe(took.as_secs_f64());
    }
}

impl EngineMeter {
    /// A request from the log was applied.
    pub fn applied(&self, operation: u32, is_ok: bool, took: Duration) {
        let last = OPERATIONS.len() - 1;
        let at = OPERATIONS.iter().position(|(other, _)| *other == operation).unwrap_or(last);
        let series = self.applies[at].series(is_ok, |success| {
            self.sheet.series(Name::ServerApplyDurationSeconds, &[OPERATIONS[at].1, success, "v3"])
        });
        series.observe(took.as_secs_f64());
    }
}

impl Outcomes {
    fn series(&self, is_ok: bool, make: impl FnOnce(&str) -> Series) -> &Series {
        self.0[usize::from(is_ok)].get_or_init(|| make(if is_ok { "true" } else { "false" }))
    }
}

impl RequestKind {
    const COUNT: usize = Self::Other as usize + 1;

    fn name(self) -> &'static str {
        match self {
            Self::Put => "Put",
            Self::DeleteRange => "DeleteRange",
            Self::Txn => "Txn",
            Self::Compaction => "Compaction",
            Self::Alarm => "Alarm",
            Self::LeaseGrant => "LeaseGrant",
            Self::LeaseRevoke => "LeaseRevoke",
            Self::LeaseCheckpoint => "LeaseCheckpoint",
            Self::Range => "Range",
            Self::ReadonlyTxn => "ReadonlyTxn",
            Self::AuthEnable => "AuthEnable",
            Self::AuthDisable => "AuthDisable",
            Self::Authenticate => "Authenticate",
            Self::AuthUserAdd => "AuthUserAdd",
            Self::AuthUserDelete => "AuthUserDelete",
            Self::AuthUserChangePassword => "AuthUserChangePassword",
            Self::AuthUserGrantRole => "AuthUserGrantRole",
            Self::AuthUserRevokeRole => "AuthUserRevokeRole",
            Self::AuthRoleAdd => "AuthRoleAdd",
            Self::AuthRoleDelete => "AuthRoleDelete",
            Self::AuthRoleGrantPermission => "AuthRoleGrantPermission",
            Self::AuthRoleRevokePermission => "AuthRoleRevokePermission",
            Self::Other => "unknown",
        }
    }
}

impl From<Kind> for RequestKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Put => Self::Put,
            Kind::DeleteRange => Self::DeleteRange,
            Kind::Txn => Self::Txn,
            Kind::Compaction => Self::Compaction,
            Kind::Alarm => Self::Alarm,
            Kind::LeaseGrant => Self::LeaseGrant,
            Kind::LeaseRevoke => Self::LeaseRevoke,
            Kind::LeaseCheckpoint => Self::LeaseCheckpoint,
            Kind::AuthEnable => Self::AuthEnable,
            Kind::AuthDisable => Self::AuthDisable,
            Kind::Authenticate => Self::Authenticate,
            Kind::AuthUserAdd => Self::AuthUserAdd,
            Kind::AuthUserDelete => Self::AuthUserDelete,
            Kind::AuthUserChangePassword => Self::AuthUserChangePassword,
            Kind::AuthUserGrantRole => Self::AuthUserGrantRole,
            Kind::AuthUserRevokeRole => Self::AuthUserRevokeRole,
            Kind::AuthRoleAdd => Self::AuthRoleAdd,
            Kind::AuthRoleDelete => Self::AuthRoleDelete,
            Kind::AuthRoleGrantPermission => Self::AuthRoleGrantPermission,
            Kind::AuthRoleRevokePermission => Self::AuthRoleRevokePermission,
            _ => Self::Other,
        }
    }
}

fn grpc_counts(counts: &MethodCounts) -> GrpcCounts {
    GrpcCounts {
        started: counts.started,
        received: counts.messages_received,
        sent: counts.messages_sent,
        handled: counts.handled,
    }
}

/// Requests of one front, by the version that the client announces.
#[derive(Default)]
pub struct ClientVersions {
    /// In the order of their first call. The list is short and searched in sequence.
    known: Vec<(&'static str, Vec<u8>, Series)>,
}

impl ClientVersions {
    /// Counts a call of `kind` (`unary` or `stream`). Clients that announce ever new versions share one series.
    pub fn count(&mut self, sheet: &Sheet, kind: &'static str, version: Option<&[u8]>) {
        let version = version.unwrap_or(b"unknown");
        let known = self.known.iter().find(|(other, bytes, _)| *other == kind && bytes == version);
        if let Some((_, _, series)) = known {
            series.add(1);
            return;
        }
        let is_full = self.known.len() >= limits::CLIENT_VERSIONS_MAX;
        let label = if is_full { "other".into() } else { String::from_utf8_lossy(version) };
        let series = sheet.series(Name::ServerClientRequestsTotal, &[&label, kind]);
        series.add(1);
        if !is_full {
            self.known.push((kind, version.to_vec(), series));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Process, render};

    fn page(meters: &Meters) -> String {
        let (sheets, grpc): (Vec<_>, Vec<_>) = (meters.sheets().collect(), meters.grpc().collect());
        render(&sheets, &grpc, &Process::default())
    }

    #[test]
    fn cores_are_added_up() {
        let meters = Meters::new(2, &[], false, Duration::from_secs(1));
        let mut versions = ClientVersions::default();
        for id in 0..2 {
            let front = meters.front(id);
            front.answered(RequestKind::Range, true, Duration::from_millis(3));
            front.ranged(false, Duration::from_millis(3));
            versions.count(&front.sheet, "unary", Some(b"3.7"));
        }
        meters.engine.applied(Kind::ClusterVersionSet as u32, true, Duration::from_micros(50));
        let text = page(&meters);
        for line in [
            r#"etcd_server_request_duration_seconds_count{success="true",type="Range"} 2"#,
            r#"etcd_server_range_duration_seconds_count{success="false"} 2"#,
            "etcd_mvcc_range_total 2",
            r#"etcd_server_client_requests_total{client_api_version="3.7",type="unary"} 2"#,
            r#"etcd_server_apply_duration_seconds_count{op="ClusterVersionSet",success="true",version="v3"} 1"#,
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
    }

    #[test]
    fn invented_versions_do_not_grow_without_bound() {
        let (sheet, mut versions) = (Sheet::default(), ClientVersions::default());
        for number in 0..limits::CLIENT_VERSIONS_MAX * 3 {
            versions.count(&sheet, "unary", Some(number.to_string().as_bytes()));
        }
        assert_eq!(versions.known.len(), limits::CLIENT_VERSIONS_MAX);
        let text = render(&[&sheet], &[], &Process::default());
        let shared = format!(
            "etcd_server_client_requests_total{{client_api_version=\"other\",type=\"unary\"}} {}",
            limits::CLIENT_VERSIONS_MAX * 2
        );
        assert!(text.contains(&shared), "{text}");
    }
}
