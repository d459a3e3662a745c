//! Answers about this member and its cluster: Status, MemberList.

use crate::{
    apply::View,
    base::version,
    cluster::membership,
    proto::etcdserverpb::{
        AlarmMember, AlarmType, DowngradeInfo, Member, MemberListResponse, ResponseHeader, StatusResponse,
    },
};

/// Maintenance.Status of this member. `disk_complaint` is the reason why it cannot write, if it cannot.
#[must_use]
pub fn status(view: &View, quota_bytes: i64, disk_complaint: Option<&str>) -> StatusResponse {
    let records = view.kv.records();
    let mut errors = Vec::new();
    if view.raft.leader == 0 {
        errors.push("etcdserver: no leader".to_owned());
    }
    errors.extend(disk_complaint.map(|text| format!("etcdserver: {text}")));
    errors.extend(view.alarms.members().map(|alarm| alarm_text(&alarm)));
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

/// The text format of protobuf, as etcd prints an alarm: fields that are zero are left out, a value without a name is a number.
fn alarm_text(alarm: &AlarmMember) -> String {
    let member = (alarm.member_id != 0).then(|| format!("memberID:{}", alarm.member_id));
    let kind = (alarm.alarm != 0).then(|| match AlarmType::try_from(alarm.alarm) {
        Ok(kind) => format!("alarm:{}", kind.as_str_name()),
        Err(_) => format!("alarm:{}", alarm.alarm),
    });
    member.into_iter().chain(kind).collect::<Vec<_>>().join(" ")
}

/// Cluster.MemberList. Its header has no revision.
#[must_use]
pub fn member_list(view: &View) -> MemberListResponse {
    let header = ResponseHeader { revision: 0, ..view.header(0) };
    MemberListResponse { header: Some(header), members: view.membership.members().map(member).collect() }
}

/// A member as the Cluster service tells it.
#[must_use]
pub fn member(member: &membership::Member) -> Member {
    Member {
        id: member.id,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}
