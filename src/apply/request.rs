//! The request of an entry: etcd's `InternalRaftRequest`, decoded without building the whole message.
//!
//! The generated struct has forty optional members of which one is set. Only that one is decoded, and a request from a client is
//! wrapped without encoding it again, so making an entry is one copy of its bytes.
//!
//! ```text
//!   field n (the request, as the client sent it) | field 100 { 1: id, 2: user, 3: auth revision }
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{
    DecodeError, Message,
    encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, key_len},
};

use crate::{
    auth::{AuthRequest, Requester},
    proto::{
        etcdserverpb::{
            AlarmRequest, CompactionRequest, DeleteRangeRequest, LeaseCheckpointRequest, LeaseGrantRequest,
            LeaseRevokeRequest, PutRequest, RequestHeader, TxnRequest,
        },
        membershippb::{ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest},
    },
};

const HEADER: u32 = 100;

/// The request kinds that are proposed here, with their field in `InternalRaftRequest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    Put = 4,
    DeleteRange = 5,
    Txn = 6,
    Compaction = 7,
    LeaseGrant = 8,
    LeaseRevoke = 9,
    Alarm = 10,
    LeaseCheckpoint = 11,
    AuthEnable = 1000,
    AuthDisable = 1011,
    Authenticate = 1012,
    AuthUserAdd = 1100,
    AuthUserDelete = 1101,
    AuthUserChangePassword = 1103,
    AuthUserGrantRole = 1104,
    AuthUserRevokeRole = 1105,
    AuthRoleAdd = 1200,
    AuthRoleDelete = 1201,
    AuthRoleGrantPermission = 1203,
    AuthRoleRevokePermission = 1204,
    ClusterVersionSet = 1300,
    ClusterMemberAttrSet = 1301,
    DowngradeInfoSet = 1302,
}

/// One entry's request.
#[derive(Clone, Debug, PartialEq)]
pub struct RaftRequest {
    /// Id of the proposal, by which its member answers; 0 for none.
    pub id: u64,
    /// Who asked, in UTF-8; empty for nobody.
    pub user: Bytes,
    /// Revision of users and roles at which it was identified; 0 for nobody.
    pub auth_revision: u64,
    pub operation: Operation,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compaction(CompactionRequest),
    LeaseGrant(LeaseGrantRequest),
    LeaseRevoke(LeaseRevokeRequest),
    Alarm(AlarmRequest),
    LeaseCheckpoint(LeaseCheckpointRequest),
    Auth(AuthRequest),
    ClusterVersionSet(ClusterVersionSetRequest),
    ClusterMemberAttrSet(ClusterMemberAttrSetRequest),
    DowngradeInfoSet(DowngradeInfoSetRequest),
    /// Written by etcd's own tests; has no effect.
    DowngradeVersionTest,
    /// A field this version does not know.
    Unknown(u32),
}

/// Wraps an encoded request for the log.
#[must_use]
pub fn wrap(id: u64, kind: Kind, message: &[u8], who: Requester<'_>) -> Bytes {
    let varint_len = |number: u64| if number == 0 { 0 } else { 1 + encoded_len_varint(number) };
    let user = who.user.as_bytes();
    let user_len = if user.is_empty() { 0 } else { 1 + encoded_len_varint(user.len() as u64) + user.len() };
    let header_len = varint_len(id) + user_len + varint_len(who.revision);
    let length = key_len(kind as u32)
        + encoded_len_varint(message.len() as u64)
        + message.len()
        + key_len(HEADER)
        + encoded_len_varint(header_len as u64)
        + header_len;
    let mut out = BytesMut::with_capacity(length);
    encode_key(kind as u32, WireType::LengthDelimited, &mut out);
    encode_varint(message.len() as u64, &mut out);
    out.put_slice(message);
    encode_key(HEADER, WireType::LengthDelimited, &mut out);
    encode_varint(header_len as u64, &mut out);
    put_varint(1, id, &mut out);
    if !user.is_empty() {
        encode_key(2, WireType::LengthDelimited, &mut out);
        encode_varint(user.len() as u64, &mut out);
        out.put_slice(user);
    }
    put_varint(3, who.revision, &mut out);
    debug_assert_eq!(out.len(), length);
    out.freeze()
}

/// A field that is left out when it is 0.
fn put_varint(field: u32, number: u64, out: &mut BytesMut) {
    if number != 0 {
        encode_key(field, WireType::Varint, out);
        encode_varint(number, out);
    }
}

/// Field number of the request in an entry's data; 0 if there is none.
#[must_use]
pub fn operation_field(data: &[u8]) -> u32 {
    decode_key(&mut &data[..]).map_or(0, |(field, _)| field)
}

impl RaftRequest {
    /// Reads an entry's data. The request's bytes fields share `data`.
    ///
    /// # Errors
    /// The data is no `InternalRaftRequest`: a committed entry that no member can apply.
    pub fn parse(mut data: Bytes) -> Result<Self, DecodeError> {
        let (mut id, mut user, mut auth_revision) = (0, Bytes::new(), 0);
        let mut operation = None;
        while data.has_remaining() {
            let (number, wire) = decode_key(&mut data)?;
            if wire != WireType::LengthDelimited {
                prost::encoding::skip_field(wire, number, &mut data, prost::encoding::DecodeContext::default())?;
                continue;
            }
            let length = decode_varint(&mut data)?;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > data.remaining() {
                // The crate has no public constructor for its error, so this decodes a buffer that is too short.
                RequestHeader::decode_length_delimited(&b"\x01"[..])?;
            }
            let field = data.split_to(length.min(data.remaining()));
            if number == HEADER {
                let header = RequestHeader::decode(field)?;
                (id, user, auth_revision) = (header.id, header.username.into(), header.auth_revision);
            } else {
                operation = Some(Operation::parse(number, field)?);
            }
        }
        Ok(Self { id, user, auth_revision, operation: operation.unwrap_or(Operation::Unknown(0)) })
    }

    /// Who asked.
    #[must_use]
    pub fn requester(&self) -> Requester<'_> {
        let user = std::str::from_utf8(&self.user).expect("the decoder takes UTF-8 only");
        Requester { user, revision: self.auth_revision }
    }
}

impl Operation {
    fn parse(number: u32, field: Bytes) -> Result<Self, DecodeError> {
        Ok(match number {
            4 => Self::Put(PutRequest::decode(field)?),
            5 => Self::DeleteRange(DeleteRangeRequest::decode(field)?),
            6 => Self::Txn(TxnRequest::decode(field)?),
            7 => Self::Compaction(CompactionRequest::decode(field)?),
            8 => Self::LeaseGrant(LeaseGrantRequest::decode(field)?),
            9 => Self::LeaseRevoke(LeaseRevokeRequest::decode(field)?),
            10 => Self::Alarm(AlarmRequest::decode(field)?),
            11 => Self::LeaseCheckpoint(LeaseCheckpointRequest::decode(field)?),
            1300 => Self::ClusterVersionSet(ClusterVersionSetRequest::decode(field)?),
            1301 => Self::ClusterMemberAttrSet(ClusterMemberAttrSetRequest::decode(field)?),
            1302 => Self::DowngradeInfoSet(DowngradeInfoSetRequest::decode(field)?),
            9900 => Self::DowngradeVersionTest,
            other => match AuthRequest::parse(other, &field)? {
                Some(request) => Self::Auth(request),
                None => Self::Unknown(other),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::InternalRaftRequest;

    #[test]
    fn wrapping_equals_the_generated_encoding() {
        let put = PutRequest { key: "k".into(), value: "v".into(), lease: 7, ..PutRequest::default() };
        for who in [Requester::NOBODY, Requester { user: "alice", revision: 300 }] {
            let header = RequestHeader { id: 99, username: who.user.to_owned(), auth_revision: who.revision };
            let whole =
                InternalRaftRequest { put: Some(put.clone()), header: Some(header), ..InternalRaftRequest::default() };
            let wrapped = wrap(99, Kind::Put, &put.encode_to_vec(), who);
            assert_eq!(wrapped, whole.encode_to_vec());
            let parsed = RaftRequest::parse(wrapped).expect("parses");
            assert_eq!((parsed.id, parsed.requester()), (99, who));
            assert_eq!(parsed.operation, Operation::Put(put.clone()));
        }
    }

    #[test]
    fn cut_entries_are_errors() {
        let put = PutRequest { key: "key".into(), ..PutRequest::default() };
        let wrapped = wrap(1, Kind::Put, &put.encode_to_vec(), Requester::NOBODY);
        for length in 1..wrapped.len() {
            // Cutting between the two fields leaves a shorter, valid message.
            let parsed = RaftRequest::parse(wrapped.slice(..length));
            assert!(parsed.is_err() || parsed.is_ok_and(|request| request.id == 0), "cut at {length}");
        }
        assert_eq!(RaftRequest::parse(Bytes::new()).expect("empty").operation, Operation::Unknown(0));
    }
}
