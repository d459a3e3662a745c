//! What the replica notes and counts, as lines of the log and as metrics.

use std::{path::Path, time::Duration};

use super::work::PageTasks;
use crate::{
    apply::request::RaftRequest,
    base::human_size::human_size,
    meters::slow::Slow,
    metrics::Name,
    os::clock,
    replica::{Count, Note, Sizes, SlowApply},
    service::request_text,
    services::Shared,
};

/// Writes a line.
pub(super) fn log(note: Note, shared: &Shared, path: &Path) {
    match note {
        Note::LeaderElected { local, leader, term } => {
            tracing::info!("raft.node: {local:x} elected leader {leader:x} at term {term}");
        }
        Note::LeaderLost { local, term } => tracing::info!("raft.node: {local:x} lost leader at term {term}"),
        Note::LogStalled { local, waits_ms, to } => tracing::warn!(
            local_member_id = format!("{local:x}"),
            waits = ?Duration::from_millis(waits_ms),
            transferee_member_id = format!("{to:x}"),
            "the disk of the log is stalled; this member stops leading"
        ),
        Note::HeartbeatLate { to, expected_ms, exceeded_ms } => {
            tracing::warn!(
                to = format!("{to:x}"),
                heartbeat_interval = ?Duration::from_millis(expected_ms / 2),
                expected_duration = ?Duration::from_millis(expected_ms),
                exceeded_duration = ?Duration::from_millis(exceeded_ms),
                "leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk"
            );
            shared.meters.engine.sheet.add(Name::ServerHeartbeatSendFailuresTotal, 1);
        }
        Note::MessageRefused { from, refusal } => tracing::warn!(from, %refusal, "refused a raft message"),
        Note::ConfChangeRefused { index, reason } => {
            tracing::warn!(index, reason, "refused a change of the membership");
        }
        Note::Applied(applied) => log_applied(&applied, shared),
        Note::RevokeFailed { lease, refusal } => {
            tracing::warn!(lease_id = format!("{lease:016x}"), error = %refusal, "failed to revoke lease");
        }
        Note::Defragmenting(sizes) => tracing::info!(
            path = %path.display(),
            current_db_size_bytes = sizes.bytes,
            current_db_size = human_size(sizes.bytes),
            current_db_size_in_use_bytes = sizes.in_use_bytes,
            current_db_size_in_use = human_size(sizes.in_use_bytes),
            "defragmenting"
        ),
        Note::Defragmented { before, after, took_ms } => log_defragmented(before, after, took_ms, path),
        Note::Compacted { report, took_ms, sizes } => {
            tracing::info!(
                compact_revision = report.revision,
                took = ?Duration::from_millis(took_ms),
                number_of_keys_compacted = report.records_deleted,
                hash = report.hash.hash,
                current_db_size_bytes = sizes.bytes,
                current_db_size_in_use_bytes = sizes.in_use_bytes,
                "finished scheduled compaction"
            );
            let sheet = &shared.meters.engine.sheet;
            sheet.observe(Name::MvccDbCompactionTotalDurationMilliseconds, took_ms as f64);
            sheet.add(Name::MvccDbCompactionKeysTotal, report.records_deleted);
            sheet.set(Name::MvccDbCompactionLast, (clock::unix_ms() / 1000).cast_signed());
        }
        Note::SnapshotSending { to, index, bytes } => {
            tracing::info!(to = format!("{to:x}"), index, bytes, "sending the database to a member that lags");
        }
        Note::SnapshotInstalling { index, applied } => {
            tracing::info!(snapshot_index = index, applied_index = applied, "applying snapshot");
            shared.meters.engine.sheet.set(Name::ServerSnapshotApplyInProgressTotal, 1);
        }
        Note::SnapshotRestored { index, revision } => {
            tracing::info!(snapshot_index = index, revision, "applied snapshot");
            shared.meters.engine.sheet.set(Name::ServerSnapshotApplyInProgressTotal, 0);
        }
    }
}

fn log_defragmented(before: Sizes, after: Sizes, took_ms: u64, path: &Path) {
    tracing::info!(
        path = %path.display(),
        current_db_size_bytes_diff = difference(after.bytes, before.bytes),
        current_db_size_bytes = after.bytes,
        current_db_size = human_size(after.bytes),
        current_db_size_in_use_bytes_diff = difference(after.in_use_bytes, before.in_use_bytes),
        current_db_size_in_use_bytes = after.in_use_bytes,
        current_db_size_in_use = human_size(after.in_use_bytes),
        took = ?Duration::from_millis(took_ms),
        "finished defragmenting directory"
    );
}

fn difference(now: u64, before: u64) -> i64 {
    now.cast_signed() - before.cast_signed()
}

fn log_applied(applied: &SlowApply, shared: &Shared) {
    let Ok(request) = RaftRequest::parse(applied.entry.data.clone()) else { return };
    let response = applied.response_bytes.map_or_else(String::new, |bytes| format!("size:{bytes}"));
    let request = request_text::entry(&request);
    let took = Duration::from_nanos(applied.took_ns);
    if applied.is_slow {
        let slow = Slow { took, expected: shared.meters.slow_apply, prefix: "" };
        slow.warn(&shared.meters.engine.sheet, &request, &response, applied.refusal);
    }
    if let Some(error) = applied.refusal.filter(|_| applied.failed) {
        tracing::warn!(?took, request, response, %error, "failed to apply request");
    }
}

/// Counts.
pub(super) fn count(count: Count, shared: &Shared, pages: &PageTasks) {
    let meter = &shared.meters.engine;
    let sheet = &meter.sheet;
    match count {
        Count::Applied(entries) => {
            for entry in entries {
                meter.applied(entry.operation, entry.is_ok, Duration::from_nanos(entry.took_ns));
            }
        }
        Count::Leases(tally) => {
            for ttl_s in &tally.granted {
                sheet.observe(Name::LeaseTtlTotal, *ttl_s as f64);
            }
            for (name, count) in [
                (Name::LeaseGrantedTotal, tally.granted.len() as u64),
                (Name::LeaseRevokedTotal, tally.revoked),
                (Name::LeaseRenewedTotal, tally.renewed),
            ] {
                if count > 0 {
                    sheet.add(name, count);
                }
            }
        }
        Count::LeaderChanged => sheet.add(Name::ServerLeaderChangesSeenTotal, 1),
        Count::LeasesExpired(count) => sheet.add(Name::ServerLeaseExpiredTotal, count),
        Count::ReadIndexSlow => sheet.add(Name::ServerSlowReadIndexesTotal, 1),
        Count::ReadIndexFailed => sheet.add(Name::ServerReadIndexesFailedTotal, 1),
        Count::CompactionSlice { of_index, took_ns } => {
            let name = match of_index {
                true => Name::MvccIndexCompactionPauseDurationMilliseconds,
                false => Name::MvccDbCompactionPauseDurationMilliseconds,
            };
            sheet.observe(name, took_ns as f64 / 1e6);
        }
        Count::OpenReadTransactions(count) => {
            sheet.set(Name::MvccDbOpenReadTransactions, i64::try_from(count).unwrap_or(i64::MAX));
        }
        Count::CommitBuilt { took_ns } => pages.built.set(Duration::from_nanos(took_ns)),
        Count::DefragmentStarted => sheet.set(Name::DiskDefragInflight, 1),
        Count::DefragmentEnded { took_ms } => {
            sheet.set(Name::DiskDefragInflight, 0);
            sheet.observe(Name::DiskBackendDefragDurationSeconds, took_ms as f64 / 1e3);
        }
    }
}
