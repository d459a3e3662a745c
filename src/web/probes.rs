//! Whether this member is well: `/health` for people, `/livez` and `/readyz` for supervisors.
//!
//! | page | checks, in this order |
//! |---|---|
//! | `/health` | no alarm, room on the disks, a leader, a read; the first that fails is the reason |
//! | `/livez` | serializable_read |
//! | `/readyz` | data_corruption, disk_space, linearizable_read, non_learner, serializable_read |
//!
//! etcd has no check of the disk: a full one ends it. Here writes wait for room, so the member is alive and not ready. As with a
//! missing leader, `/health?serializable=true` does not mind, and as with a full quota, `exclude=NOSPACE` takes it out. The check is
//! reported only when it fails, so that the report of a member that is well is etcd's.
//!
//! Every check of the last two is also a page of its own. Bodies, codes and counts are etcd's; its order of checks is that of a
//! map, so nobody can depend on it.

use std::fmt::Write;

use http::{HeaderValue, StatusCode, header};

use super::plain::{TEXT, error, get};
use crate::{
    apply::View,
    frontend::{WebRequest, WebResponse},
    metrics::Name,
    os::clock,
    proto::etcdserverpb::{AlarmType, RangeRequest},
    service::kv::{self, ReadStop},
    services::Services,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    DiskSpace,
    LinearizableRead,
    NonLearner,
    SerializableRead,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::DiskSpace => "disk_space",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
            Self::SerializableRead => "serializable_read",
        }
    }
}

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] =
    &[Check::DataCorruption, Check::DiskSpace, Check::LinearizableRead, Check::NonLearner, Check::SerializableRead];

/// A page of checks: all of a kind, or one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    /// `livez` or `readyz`, as the metrics have it.
    kind: &'static str,
    checks: &'static [Check],
    is_whole: bool,
}

/// The page at a path.
pub(super) fn find(path: &str) -> Option<Probe> {
    let (kind, one) =
        path.strip_prefix('/')?.split_once('/').map_or((&path[1..], None), |(kind, one)| (kind, Some(one)));
    let (kind, checks) = match kind {
        "livez" => ("livez", LIVEZ),
        "readyz" => ("readyz", READYZ),
        _ => return None,
    };
    let Some(one) = one else { return Some(Probe { kind, checks, is_whole: true }) };
    let at = checks.iter().position(|check| check.name() == one)?;
    Some(Probe { kind, checks: &checks[at..=at], is_whole: false })
}

/// Runs the checks of a page.
pub(super) async fn run(front: &Services, request: &WebRequest, probe: Probe) -> WebResponse {
    if let Some(refused) = get(request) {
        tracing::warn!(path = request.path, status_code = 405, "Health request error");
        return refused;
    }
    let excluded = if probe.is_whole { values(&request.query, "exclude") } else { Vec::new() };
    warn_of_unknown(probe, &excluded);
    let (mut report, mut is_well) = (String::new(), true);
    for check in probe.checks {
        if excluded.iter().any(|name| name == check.name()) {
            continue;
        }
        let failure = failure_of(front, *check).await;
        count(front, probe.kind, check.name(), failure.is_none());
        is_well &= failure.is_none();
        // Writing to a String cannot fail.
        let _infallible = match failure {
            None if *check == Check::DiskSpace && probe.is_whole => Ok(()),
            None => writeln!(report, "[+]{} ok", check.name()),
            Some(reason) => writeln!(report, "[-]{} failed: {reason}", check.name()),
        };
    }
    if !is_well {
        tracing::error!(path = request.path, reason = report, status_code = 503, "Health check error");
        return error(StatusCode::SERVICE_UNAVAILABLE, &report);
    }
    tracing::debug!(path = request.path, reason = report, status_code = 200, "Health check OK");
    let is_verbose = url::form_urlencoded::parse(request.query.as_bytes()).any(|(name, _)| name == "verbose");
    let body = if is_verbose { report + "ok\n" } else { "ok\n".to_owned() };
    let mut response = WebResponse::new(StatusCode::OK, TEXT, body);
    response.headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Excluding what does not exist is no failure, so that one command works with several versions.
fn warn_of_unknown(probe: Probe, excluded: &[String]) {
    let known = |name: &&String| probe.checks.iter().any(|check| check.name() == *name);
    let missing: Vec<String> = excluded.iter().filter(|name| !known(name)).map(|name| format!("{name:?}")).collect();
    if !missing.is_empty() {
        tracing::warn!(missing_health_checks = missing.join(","), "some health checks cannot be excluded");
    }
}

async fn failure_of(front: &Services, check: Check) -> Option<String> {
    match check {
        Check::DataCorruption => {
            front.shared().view.load().alarms.is_corrupt().then(|| "alarm activated: CORRUPT".to_owned())
        }
        Check::DiskSpace => front.shared().health.disk_complaint().map(str::to_owned),
        Check::NonLearner => {
            front.shared().view.load().membership.local_is_learner().then(|| "not supported for learner".to_owned())
        }
        Check::SerializableRead => read(&front.shared().view.load()),
        Check::LinearizableRead => match front.confirmed(clock::now()).await {
            Ok(()) => read(&front.shared().view.load()),
            Err(refusal) => Some(refusal.to_string()),
        },
    }
}

/// etcd's probe: one key at most, without values.
fn read(view: &View) -> Option<String> {
    let request = RangeRequest { keys_only: true, limit: 1, ..RangeRequest::default() };
    match kv::range(view, &request) {
        Ok(_) => None,
        Err(ReadStop::Refused(refusal)) => Some(refusal.to_string()),
        Err(ReadStop::Failed(text)) => Some(text),
    }
}

/// On one sheet for all cores, because a gauge says what the last probe found.
fn count(front: &Services, kind: &str, check: &str, is_ok: bool) {
    let sheet = &front.shared().meters.engine.sheet;
    let status = if is_ok { "success" } else { "error" };
    sheet.series(Name::ServerHealthcheck, &[check, kind]).set(i64::from(is_ok));
    sheet.series(Name::ServerHealthchecksTotal, &[check, status, kind]).add(1);
}

/// `/health`: alarms, a leader, a read.
pub(super) async fn health(front: &Services, request: &WebRequest) -> WebResponse {
    if let Some(refused) = get(request) {
        tracing::warn!(status_code = 405, "/health error");
        return refused;
    }
    let serializable = values(&request.query, "serializable").first().is_some_and(|value| value == "true");
    let reason = reason(front, serializable, &values(&request.query, "exclude")).await;
    let counter = if reason.is_none() { Name::ServerHealthSuccess } else { Name::ServerHealthFailures };
    front.meter().sheet.add(counter, 1);
    let Some(reason) = reason else {
        tracing::debug!(status_code = 200, "/health OK");
        return WebResponse::new(StatusCode::OK, TEXT, r#"{"health":"true","reason":""}"#);
    };
    let output = format!(r#"{{"health":"false","reason":{}}}"#, serde_json::Value::from(reason));
    tracing::warn!(output, status_code = 503, "/health error");
    error(StatusCode::SERVICE_UNAVAILABLE, &output)
}

async fn reason(front: &Services, serializable: bool, excluded: &[String]) -> Option<String> {
    if let Some((member_id, kind)) = alarm(&front.shared().view.load(), excluded) {
        let alarm = format!("memberID:{member_id} alarm:{kind}");
        tracing::warn!(alarm, "serving /health false due to an alarm");
        return Some(format!("ALARM {kind}"));
    }
    let complaint = front.shared().health.disk_complaint().filter(|_| !excluded.iter().any(|name| name == "NOSPACE"));
    if let (false, Some(complaint)) = (serializable, complaint) {
        tracing::warn!(complaint, "serving /health false; writes wait for room on the disk");
        return Some("DISK FULL".to_owned());
    }
    if !serializable && front.shared().view.load().raft.leader == 0 {
        tracing::warn!("serving /health false; no leader");
        return Some("RAFT NO LEADER".to_owned());
    }
    let check = if serializable { Check::SerializableRead } else { Check::LinearizableRead };
    let error = failure_of(front, check).await?;
    tracing::warn!(error, "serving /health false; Range fails");
    Some(format!("RANGE ERROR:{error}"))
}

/// The first active alarm that is not excluded: whose, and its name.
fn alarm(view: &View, excluded: &[String]) -> Option<(u64, &'static str)> {
    let named = view.alarms.members().map(|alarm| match AlarmType::try_from(alarm.alarm) {
        Ok(kind @ (AlarmType::Nospace | AlarmType::Corrupt)) => (alarm.member_id, kind.as_str_name()),
        _ => (alarm.member_id, "UNKNOWN"),
    });
    named.into_iter().find(|(_, name)| !excluded.iter().any(|other| other == name))
}

/// The values of a parameter that are not empty.
fn values(query: &str, name: &str) -> Vec<String> {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.filter(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_a_page_of_its_own() {
        assert_eq!(find("/livez"), Some(Probe { kind: "livez", checks: LIVEZ, is_whole: true }));
        let one = find("/readyz/non_learner").expect("a page");
        assert_eq!((one.checks, one.is_whole), (&[Check::NonLearner][..], false));
        for path in ["/livez/non_learner", "/livez/", "/readyz/x/y", "/health", "/", ""] {
            assert_eq!(find(path), None, "{path}");
        }
    }

    #[test]
    fn parameters_may_repeat_and_be_escaped() {
        assert_eq!(values("exclude=a&exclude=&exclude=b%20c&other=d", "exclude"), ["a", "b c"]);
    }
}
