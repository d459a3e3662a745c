//! Answers about this member and its cluster: Status, MemberList.

use crate::{
    apply::View,
    base::version,
    proto::etcdserverpb::{AlarmType, DowngradeInfo, Member, MemberListResponse, ResponseHeader, StatusResponse},
};

/// Maintenance.Status of this member.
#[must_use]
pub fn status(view: &View, quota_bytes: i64) -> StatusResponse {
    let records = view.kv.records();
    let mut errors = Vec::new();
    if view.raft.leader == 0 {
        errors.push("etcdserver: no leader".to_owned());
    }
    errors.extend(view.alarms.members().map(|alarm| {
        let kind = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
        format!("memberID:{} alarm:{kind}", alarm.member_id)
    }));
    StatusResponse {
        header: Some(view.header(view.kv.revision())),
        version: version::SERVER.to_owned(),
        db_size: records.size_bytes().cast_signed(),
        leader: view.raft.leader,
        raft_index: view.raft.committed,
        raft_term: view.raft.term,
        raft_applied_index: view.applied,
        errors,
        db_size_in_use: records.in_use_bytes().cast_signed(),
        is_learner: view.membership.local_is_learner(),
        storage_version: view.storage_version.clone().unwrap_or_default(),
        db_size_quota: quota_bytes,
        downgrade_info: Some(DowngradeInfo {
            enabled: view.membership.downgrade.enabled,
            target_version: view.membership.downgrade.target_version.clone(),
        }),
    }
}

/// Cluster.MemberList. Its header has no revision.
#[must_use]
pub fn member_list(view: &View) -> MemberListResponse {
    let header = ResponseHeader { revision: 0, ..view.header(0) };
    let members = view.membership.members().map(|member| Member {
        id: member.id,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    });
    MemberListResponse { header: Some(header), members: members.collect() }
}
