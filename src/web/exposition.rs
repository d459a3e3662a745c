//! `/metrics`: what all cores counted, what the view says, what the kernel says.

use crate::{
    apply::{Tally, View},
    base::version,
    metrics::{Name, Process, Sheet, render},
    os::process,
    proto::etcdserverpb::AlarmType,
    services::Shared,
};

/// The whole page.
#[must_use]
pub fn page(shared: &Shared) -> String {
    let state = Sheet::default();
    show(&state, &shared.view.load(), shared.quota_bytes);
    if let Some(spans) = &shared.spans {
        let counts = spans.counts();
        state.add(Name::SpansExportedTotal, counts.exported);
        state.add(Name::SpansLostTotal, counts.lost);
    }
    let sheets: Vec<&Sheet> = shared.meters.sheets().chain([&state]).collect();
    let grpc: Vec<_> = shared.meters.grpc().collect();
    render(&sheets, &grpc, &of_process())
}

/// What follows from the published state.
fn show(sheet: &Sheet, view: &View, quota_bytes: i64) {
    let (kv, raft, local_id) = (&view.kv, view.raft, view.membership.local_id);
    let gauges = [
        (Name::AuthRevision, view.auth.revision().cast_signed()),
        (Name::MvccCompactRevision, kv.compact_revision()),
        (Name::MvccCurrentRevision, kv.revision()),
        (Name::MvccKeysTotal, kv.index().live_keys().cast_signed()),
        (Name::MvccDbTotalSizeInBytes, kv.records().size_bytes().cast_signed()),
        (Name::MvccDbTotalSizeInUseInBytes, kv.records().in_use_bytes().cast_signed()),
        (Name::ServerHasLeader, i64::from(raft.leader != 0)),
        (Name::ServerIsLeader, i64::from(raft.leader == local_id)),
        (Name::ServerIsLearner, i64::from(view.membership.local_is_learner())),
        (Name::ServerProposalsAppliedTotal, view.applied.cast_signed()),
        (Name::ServerProposalsCommittedTotal, raft.committed.max(view.applied).cast_signed()),
        (Name::ServerQuotaBackendBytes, quota_bytes),
        (Name::MvccTotalPutSizeInBytes, view.tally.put_bytes.cast_signed()),
    ];
    gauges.into_iter().for_each(|(name, value)| sheet.set(name, value));
    count(sheet, view.tally);
    let id = format!("{local_id:x}");
    sheet.series(Name::ServerId, &[&id]).set(1);
    sheet.series(Name::ServerVersion, &[version::SERVER]).set(1);
    if let Some(version) = &view.membership.version {
        let minor = version.rsplit_once('.').map_or(version.as_str(), |(minor, _)| minor);
        sheet.series(Name::ClusterVersion, &[minor]).set(1);
    }
    for alarm in view.alarms.members() {
        let kind = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
        sheet.series(Name::ServerAlarms, &[kind, &format!("{:x}", alarm.member_id)]).set(1);
    }
}

fn count(sheet: &Sheet, tally: Tally) {
    sheet.add(Name::MvccRangeTotal, tally.ranges);
    sheet.add(Name::MvccPutTotal, tally.puts);
    sheet.add(Name::MvccDeleteTotal, tally.deletes);
    sheet.add(Name::MvccTxnTotal, tally.txns);
}

fn of_process() -> Process {
    let reading = process::read();
    Process {
        cpu_seconds: reading.cpu_seconds,
        fds_max: reading.max_fds as f64,
        fds_open: reading.open_fds as f64,
        resident_bytes: reading.resident_bytes as f64,
        start_time_seconds: reading.start_time_seconds,
        virtual_bytes: reading.virtual_bytes as f64,
        virtual_bytes_max: reading.virtual_bytes_max as f64,
        network_received_bytes: reading.network_received_bytes as f64,
        network_sent_bytes: reading.network_sent_bytes as f64,
        major_faults: reading.major_faults as f64,
    }
}
