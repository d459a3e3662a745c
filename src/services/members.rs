//! The Cluster service on one core.

use bytes::Bytes;

use crate::{
    apply::View,
    proto::etcdserverpb::MemberListRequest,
    rpc::{Call, Reply, Responder},
    service::status,
    services::{Services, decode, encoded, reads::Work},
};

impl Services {
    pub(super) fn member_list(&self, call: &Call, view: &View, message: Bytes, responder: Responder) -> Option<Reply> {
        match decode::<MemberListRequest>(message) {
            Ok(MemberListRequest { linearizable: true }) => {
                self.join_round(Work::MemberList { responder }, call.started);
                None
            }
            Ok(_) => Some(encoded(&status::member_list(view))),
            Err(status) => Some(Err(status)),
        }
    }
}
