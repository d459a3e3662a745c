//! The families of etcd 3.7.3 as data: name, kind, labels (sorted), help text.

/// How a family counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram(Buckets),
}

/// Upper bounds of the buckets of a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Buckets {
    /// `count` bounds, each twice the one before.
    Doubling {
        start: f64,
        count: usize,
    },
    Listed(&'static [f64]),
}

impl Buckets {
    pub const fn count(self) -> usize {
        match self {
            Self::Doubling { count, .. } => count,
            Self::Listed(bounds) => bounds.len(),
        }
    }

    /// The bucket that `value` falls into; `count` is the one without a bound.
    pub fn index(self, value: f64) -> usize {
        self.bounds().position(|bound| value <= bound).unwrap_or(self.count())
    }

    pub fn bounds(self) -> impl Iterator<Item = f64> {
        let mut doubled = 0.0;
        (0..self.count()).map(move |at| match self {
            Self::Doubling { start, .. } => {
                doubled = if at == 0 { start } else { doubled * 2.0 };
                doubled
            }
            Self::Listed(bounds) => bounds[at],
        })
    }
}

/// One family.
#[derive(Debug)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

impl Family {
    /// Cells of one series: a number; or a count per bucket, the rest, and the sum.
    pub const fn cells(&self) -> usize {
        match self.kind {
            Kind::Counter | Kind::Gauge => 1,
            Kind::Histogram(buckets) => buckets.count() + 2,
        }
    }
}

const COUNTER: Kind = Kind::Counter;
const GAUGE: Kind = Kind::Gauge;

const fn doubling(start: f64, count: usize) -> Kind {
    Kind::Histogram(Buckets::Doubling { start, count })
}

/// A table and the names of its rows, so that they cannot differ.
macro_rules! families {
    ($($id:ident, $name:literal, $kind:expr, $labels:expr, $help:literal;)*) => {
        /// The families by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Name { $($id),* }

        /// Every name in order.
        pub const ALL: &[Name] = &[$(Name::$id),*];

        /// Every family, sorted by name, in the order of [`Name`].
        pub const FAMILIES: &[Family] =
            &[$(Family { name: $name, kind: $kind, labels: &$labels, help: $help }),*];
    };
}

families! {
    ClusterVersion, "etcd_cluster_version", GAUGE, ["cluster_version"], "Which version is running. 1 for 'cluster_version' label with current cluster version";
    AuthRevision, "etcd_debugging_auth_revision", GAUGE, [], "The current revision of auth store.";
    DiskBackendCommitSpillDurationSeconds, "etcd_debugging_disk_backend_commit_spill_duration_seconds", doubling(0.001, 14), [], "The latency distributions of commit.spill called by bboltdb backend.";
    DiskBackendCommitWriteDurationSeconds, "etcd_debugging_disk_backend_commit_write_duration_seconds", doubling(0.001, 14), [], "The latency distributions of commit.write called by bboltdb backend.";
    LeaseGrantedTotal, "etcd_debugging_lease_granted_total", COUNTER, [], "The total number of granted leases.";
    LeaseRenewedTotal, "etcd_debugging_lease_renewed_total", COUNTER, [], "The number of renewed leases seen by the leader.";
    LeaseRevokedTotal, "etcd_debugging_lease_revoked_total", COUNTER, [], "The total number of revoked leases.";
    LeaseTtlTotal, "etcd_debugging_lease_ttl_total", doubling(1.0, 24), [], "Bucketed histogram of lease TTLs.";
    MvccCompactRevision, "etcd_debugging_mvcc_compact_revision", GAUGE, [], "The revision of the last compaction in store.";
    MvccCurrentRevision, "etcd_debugging_mvcc_current_revision", GAUGE, [], "The current revision of store.";
    MvccDbCompactionKeysTotal, "etcd_debugging_mvcc_db_compaction_keys_total", COUNTER, [], "Total number of db keys compacted.";
    MvccDbCompactionLast, "etcd_debugging_mvcc_db_compaction_last", GAUGE, [], "The unix time of the last db compaction. Resets to 0 on start.";
    MvccDbCompactionPauseDurationMilliseconds, "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", doubling(1.0, 13), [], "Bucketed histogram of db compaction pause duration.";
    MvccDbCompactionTotalDurationMilliseconds, "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", doubling(100.0, 14), [], "Bucketed histogram of db compaction total duration.";
    MvccEventsTotal, "etcd_debugging_mvcc_events_total", COUNTER, [], "Total number of events sent by this member.";
    MvccIndexCompactionPauseDurationMilliseconds, "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", doubling(0.5, 14), [], "Bucketed histogram of index compaction pause duration.";
    MvccKeysTotal, "etcd_debugging_mvcc_keys_total", GAUGE, [], "Total number of keys.";
    MvccPendingEventsTotal, "etcd_debugging_mvcc_pending_events_total", GAUGE, [], "Total number of pending events to be sent.";
    MvccSlowWatcherTotal, "etcd_debugging_mvcc_slow_watcher_total", GAUGE, [], "Total number of unsynced slow watchers.";
    MvccTotalPutSizeInBytes, "etcd_debugging_mvcc_total_put_size_in_bytes", GAUGE, [], "The total size of put kv pairs seen by this member.";
    MvccWatchStreamTotal, "etcd_debugging_mvcc_watch_stream_total", GAUGE, [], "Total number of watch streams.";
    MvccWatcherTotal, "etcd_debugging_mvcc_watcher_total", GAUGE, [], "Total number of watchers.";
    ServerAlarms, "etcd_debugging_server_alarms", GAUGE, ["alarm_type", "server_id"], "Alarms for every member in cluster. 1 for 'server_id' label with current ID. 2 for 'alarm_type' label with type of this alarm";
    ServerLeaseExpiredTotal, "etcd_debugging_server_lease_expired_total", COUNTER, [], "The total number of expired leases.";
    ServerWatchSendLoopControlStreamDurationSeconds, "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds", doubling(0.001, 14), [], "The total duration in seconds of running through the send loop control stream response.";
    ServerWatchSendLoopProgressDurationSeconds, "etcd_debugging_server_watch_send_loop_progress_duration_seconds", doubling(0.001, 14), [], "The total duration in seconds of running through the progress loop control stream response.";
    ServerWatchSendLoopWatchStreamDurationPerEventSeconds, "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds", doubling(0.001, 14), [], "The average duration in seconds of running through the send loop watch stream response, per event.";
    ServerWatchSendLoopWatchStreamDurationSeconds, "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds", doubling(0.001, 14), [], "The total duration in seconds of running through the send loop watch stream response all events.";
    DiskBackendCommitDurationSeconds, "etcd_disk_backend_commit_duration_seconds", doubling(0.001, 14), [], "The latency distributions of commit called by backend.";
    DiskBackendDefragDurationSeconds, "etcd_disk_backend_defrag_duration_seconds", doubling(0.1, 13), [], "The latency distribution of backend defragmentation.";
    DiskBackendSnapshotDurationSeconds, "etcd_disk_backend_snapshot_duration_seconds", doubling(0.01, 17), [], "The latency distribution of backend snapshots.";
    DiskDefragInflight, "etcd_disk_defrag_inflight", GAUGE, [], "Whether or not defrag is active on the member. 1 means active, 0 means not.";
    DiskWalFsyncDurationSeconds, "etcd_disk_wal_fsync_duration_seconds", doubling(0.001, 14), [], "The latency distributions of fsync called by WAL.";
    DiskWalWriteBytesTotal, "etcd_disk_wal_write_bytes_total", GAUGE, [], "Total number of bytes written in WAL.";
    DiskWalWriteDurationSeconds, "etcd_disk_wal_write_duration_seconds", doubling(0.001, 14), [], "The latency distributions of write called by WAL.";
    MvccDbOpenReadTransactions, "etcd_mvcc_db_open_read_transactions", GAUGE, [], "The number of currently open read transactions";
    MvccDbTotalSizeInBytes, "etcd_mvcc_db_total_size_in_bytes", GAUGE, [], "Total size of the underlying database physically allocated in bytes.";
    MvccDbTotalSizeInUseInBytes, "etcd_mvcc_db_total_size_in_use_in_bytes", GAUGE, [], "Total size of the underlying database logically in use in bytes.";
    MvccDeleteTotal, "etcd_mvcc_delete_total", COUNTER, [], "Total number of deletes seen by this member.";
    MvccHashDurationSeconds, "etcd_mvcc_hash_duration_seconds", doubling(0.01, 15), [], "The latency distribution of storage hash operation.";
    MvccHashRevDurationSeconds, "etcd_mvcc_hash_rev_duration_seconds", doubling(0.01, 15), [], "The latency distribution of storage hash by revision operation.";
    MvccPutTotal, "etcd_mvcc_put_total", COUNTER, [], "Total number of puts seen by this member.";
    MvccRangeTotal, "etcd_mvcc_range_total", COUNTER, [], "Total number of ranges seen by this member.";
    MvccTxnTotal, "etcd_mvcc_txn_total", COUNTER, [], "Total number of txns seen by this member.";
    NetworkActivePeers, "etcd_network_active_peers", GAUGE, ["Local", "Remote"], "The current number of active peer connections.";
    NetworkClientGrpcReceivedBytesTotal, "etcd_network_client_grpc_received_bytes_total", COUNTER, [], "The total number of bytes received from grpc clients.";
    NetworkClientGrpcSentBytesTotal, "etcd_network_client_grpc_sent_bytes_total", COUNTER, [], "The total number of bytes sent to grpc clients.";
    NetworkDisconnectedPeersTotal, "etcd_network_disconnected_peers_total", COUNTER, ["Local", "Remote"], "The total number of disconnected peers.";
    NetworkKnownPeers, "etcd_network_known_peers", GAUGE, ["Local", "Remote"], "The current number of known peers.";
    NetworkPeerReceivedBytesTotal, "etcd_network_peer_received_bytes_total", COUNTER, ["From"], "The total number of bytes received from peers.";
    NetworkPeerReceivedFailuresTotal, "etcd_network_peer_received_failures_total", COUNTER, ["From"], "The total number of receive failures from peers.";
    NetworkPeerRoundTripTimeSeconds, "etcd_network_peer_round_trip_time_seconds", doubling(0.0001, 16), ["To"], "Round-Trip-Time histogram between peers";
    NetworkPeerSentBytesTotal, "etcd_network_peer_sent_bytes_total", COUNTER, ["To"], "The total number of bytes sent to peers.";
    NetworkPeerSentFailuresTotal, "etcd_network_peer_sent_failures_total", COUNTER, ["To"], "The total number of send failures from peers.";
    NetworkServerStreamFailuresTotal, "etcd_network_server_stream_failures_total", COUNTER, ["API", "Type"], "The total number of stream failures from the local server.";
    NetworkSnapshotReceiveFailures, "etcd_network_snapshot_receive_failures", COUNTER, ["From"], "Total number of snapshot receive failures";
    NetworkSnapshotReceiveInflightsTotal, "etcd_network_snapshot_receive_inflights_total", GAUGE, ["From"], "Total number of inflight snapshot receives";
    NetworkSnapshotReceiveSuccess, "etcd_network_snapshot_receive_success", COUNTER, ["From"], "Total number of successful snapshot receives";
    NetworkSnapshotReceiveTotalDurationSeconds, "etcd_network_snapshot_receive_total_duration_seconds", doubling(0.1, 10), ["From"], "Total latency distributions of v3 snapshot receives";
    NetworkSnapshotSendFailures, "etcd_network_snapshot_send_failures", COUNTER, ["To"], "Total number of snapshot send failures";
    NetworkSnapshotSendInflightsTotal, "etcd_network_snapshot_send_inflights_total", GAUGE, ["To"], "Total number of inflight snapshot sends";
    NetworkSnapshotSendSuccess, "etcd_network_snapshot_send_success", COUNTER, ["To"], "Total number of successful snapshot sends";
    NetworkSnapshotSendTotalDurationSeconds, "etcd_network_snapshot_send_total_duration_seconds", doubling(0.1, 10), ["To"], "Total latency distributions of v3 snapshot sends";
    ServerApplyDurationSeconds, "etcd_server_apply_duration_seconds", doubling(0.0001, 20), ["op", "success", "version"], "The latency distributions of v2 apply called by backend.";
    ServerClientRequestsTotal, "etcd_server_client_requests_total", COUNTER, ["client_api_version", "type"], "The total number of client requests per client version.";
    ServerFeatureEnabled, "etcd_server_feature_enabled", GAUGE, ["name", "stage"], "Whether or not a feature is enabled. 1 is enabled, 0 is not.";
    ServerHasLeader, "etcd_server_has_leader", GAUGE, [], "Whether or not a leader exists. 1 is existence, 0 is not.";
    ServerHealthFailures, "etcd_server_health_failures", COUNTER, [], "The total number of failed health checks";
    ServerHealthSuccess, "etcd_server_health_success", COUNTER, [], "The total number of successful health checks";
    ServerHealthcheck, "etcd_server_healthcheck", GAUGE, ["name", "type"], "The result of each kind of healthcheck.";
    ServerHealthchecksTotal, "etcd_server_healthchecks_total", COUNTER, ["name", "status", "type"], "The total number of each kind of healthcheck.";
    ServerHeartbeatSendFailuresTotal, "etcd_server_heartbeat_send_failures_total", COUNTER, [], "The total number of leader heartbeat send failures (likely overloaded from slow disk).";
    ServerId, "etcd_server_id", GAUGE, ["server_id"], "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.";
    ServerIsLeader, "etcd_server_is_leader", GAUGE, [], "Whether or not this member is a leader. 1 if is, 0 otherwise.";
    ServerIsLearner, "etcd_server_is_learner", GAUGE, [], "Whether or not this member is a learner. 1 if is, 0 otherwise.";
    ServerLeaderChangesSeenTotal, "etcd_server_leader_changes_seen_total", COUNTER, [], "The number of leader changes seen.";
    ServerLearnerPromoteFailures, "etcd_server_learner_promote_failures", COUNTER, ["Reason"], "The total number of failed learner promotions (likely learner not ready) while this member is leader.";
    ServerLearnerPromoteSuccesses, "etcd_server_learner_promote_successes", COUNTER, [], "The total number of successful learner promotions while this member is leader.";
    ServerProposalsAppliedTotal, "etcd_server_proposals_applied_total", GAUGE, [], "The total number of consensus proposals applied.";
    ServerProposalsCommittedTotal, "etcd_server_proposals_committed_total", GAUGE, [], "The total number of consensus proposals committed.";
    ServerProposalsFailedTotal, "etcd_server_proposals_failed_total", COUNTER, [], "The total number of failed proposals seen.";
    ServerProposalsPending, "etcd_server_proposals_pending", GAUGE, [], "The current number of pending proposals to commit.";
    ServerQuotaBackendBytes, "etcd_server_quota_backend_bytes", GAUGE, [], "Current backend storage quota size in bytes.";
    ServerRangeDurationSeconds, "etcd_server_range_duration_seconds", doubling(0.0001, 20), ["success"], "The latency distributions of txn.Range";
    ServerReadIndexesFailedTotal, "etcd_server_read_indexes_failed_total", COUNTER, [], "The total number of failed read indexes seen.";
    ServerRequestDurationSeconds, "etcd_server_request_duration_seconds", doubling(0.001, 14), ["success", "type"], "Response latency distribution in seconds for each type.";
    ServerSlowApplyTotal, "etcd_server_slow_apply_total", COUNTER, [], "The total number of slow apply requests (likely overloaded from slow disk).";
    ServerSlowReadIndexesTotal, "etcd_server_slow_read_indexes_total", COUNTER, [], "The total number of pending read indexes not in sync with leader's or timed out read index requests.";
    ServerSnapshotApplyInProgressTotal, "etcd_server_snapshot_apply_in_progress_total", GAUGE, [], "1 if the server is applying the incoming snapshot. 0 if none.";
    ServerVersion, "etcd_server_version", GAUGE, ["server_version"], "Which version is running. 1 for 'server_version' label with current version.";
    SnapDbFsyncDurationSeconds, "etcd_snap_db_fsync_duration_seconds", doubling(0.001, 14), [], "The latency distributions of fsyncing .snap.db file";
    SnapDbSaveTotalDurationSeconds, "etcd_snap_db_save_total_duration_seconds", doubling(0.1, 10), [], "The total latency distributions of v3 snapshot save";
    SpansExportedTotal, "ringd_spans_exported_total", COUNTER, [], "Spans of distributed tracing that the collector has taken.";
    SpansLostTotal, "ringd_spans_lost_total", COUNTER, [], "Spans of distributed tracing for which the queue had no room or that the collector has not taken.";
}

impl Name {
    pub const fn family(self) -> &'static Family {
        &FAMILIES[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_so_are_the_labels() {
        assert!(FAMILIES.is_sorted_by_key(|family| family.name));
        assert!(FAMILIES.iter().all(|family| family.labels.is_sorted()));
        assert_eq!(Name::MvccPutTotal.family().name, "etcd_mvcc_put_total");
    }

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let buckets = Buckets::Doubling { start: 0.001, count: 3 };
        assert_eq!(buckets.bounds().collect::<Vec<_>>(), [0.001, 0.002, 0.004]);
        assert_eq!([0.0, 0.001, 0.0011, 0.004, 5.0].map(|value| buckets.index(value)), [0, 0, 1, 2, 3]);
    }
}
