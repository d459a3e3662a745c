//! The outcome of one entry: applied, refused, or a failure that stops the member.

use bytes::{Bytes, BytesMut};
use prost::Message;

use crate::{
    base::refusal::Refusal,
    cluster::change::ChangeError,
    mvcc,
    pagefile::CommitError,
    proto::{
        etcdserverpb::{
            AlarmResponse, AuthEnableResponse, AuthenticateResponse, CompactionResponse, DeleteRangeResponse,
            LeaseCheckpointResponse, LeaseGrantResponse, LeaseRevokeResponse, PutResponse, ResponseHeader, TxnResponse,
        },
        raftpb,
    },
};

/// The outcome of one entry.
#[derive(Debug)]
pub enum Applied {
    /// No caller of this member waits for it.
    Nothing,
    /// The caller passes the change to consensus and the resulting members to [`Applier::set_conf_state`](super::Applier::set_conf_state).
    /// A refused change names node 0, which consensus applies without effect.
    ConfChange { id: u64, change: raftpb::ConfChange, outcome: Result<(), Refusal> },
    /// The encoded response, or the refusal.
    Answered { id: u64, outcome: Result<Bytes, Refusal> },
    /// The answer follows from [`Applier::compact_step`](super::Applier::compact_step).
    Deferred { id: u64 },
    /// Applied in part: [`Applier::resume`](super::Applier::resume) applies the next slice, before any other entry.
    Unfinished,
}

/// The member has to stop.
#[derive(Debug, thiserror::Error)]
pub enum ApplyFailure {
    #[error("entry {index} is no request: {source}")]
    Entry { index: u64, source: prost::DecodeError },
    #[error("entry {index}, a conf change: {source}")]
    ConfChange { index: u64, source: ChangeError },
    #[error("entry {index} asks for something this version does not know (field {field}): the member must be upgraded")]
    Unknown { index: u64, field: u32 },
    #[error("entry {found} follows entry {applied}")]
    OutOfOrder { applied: u64, found: u64 },
    #[error(transparent)]
    Record(#[from] mvcc::BadRecord),
    #[error(transparent)]
    Database(#[from] mvcc::Failure),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why an operation gave no result.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The same on every member.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The member stops.
    #[error(transparent)]
    Failed(#[from] ApplyFailure),
}

impl From<mvcc::Error> for Stop {
    fn from(error: mvcc::Error) -> Self {
        match error {
            mvcc::Error::Refused(refusal) => Self::Refused(refusal.into()),
            mvcc::Error::Failed(failure) => Self::Failed(failure.into()),
        }
    }
}

impl From<crate::mvcc::Refusal> for Stop {
    fn from(refusal: crate::mvcc::Refusal) -> Self {
        Self::Refused(refusal.into())
    }
}

impl From<crate::mvcc::Failure> for Stop {
    fn from(failure: crate::mvcc::Failure) -> Self {
        Self::Failed(failure.into())
    }
}

pub(super) enum Done {
    Now(Response),
    Later,
    Unfinished,
}

/// The closed set of answers that come out of apply.
pub(super) enum Response {
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compaction(CompactionResponse),
    Alarm(AlarmResponse),
    LeaseGrant(LeaseGrantResponse),
    LeaseRevoke(LeaseRevokeResponse),
    LeaseCheckpoint(LeaseCheckpointResponse),
    Authenticate(AuthenticateResponse),
    /// Every change of users and roles: the responses are a header each.
    AuthChanged(AuthEnableResponse),
    Empty,
}

impl Response {
    pub(super) fn header(&mut self) -> Option<&mut Option<ResponseHeader>> {
        match self {
            Self::Put(response) => Some(&mut response.header),
            Self::DeleteRange(response) => Some(&mut response.header),
            Self::Txn(response) => Some(&mut response.header),
            Self::Compaction(response) => Some(&mut response.header),
            Self::Alarm(response) => Some(&mut response.header),
            Self::LeaseGrant(response) => Some(&mut response.header),
            Self::LeaseRevoke(response) => Some(&mut response.header),
            Self::LeaseCheckpoint(response) => Some(&mut response.header),
            Self::Authenticate(response) => Some(&mut response.header),
            Self::AuthChanged(response) => Some(&mut response.header),
            Self::Empty => None,
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        match self {
            Self::Put(response) => encoded(response),
            Self::DeleteRange(response) => encoded(response),
            Self::Txn(response) => encoded(response),
            Self::Compaction(response) => encoded(response),
            Self::Alarm(response) => encoded(response),
            Self::LeaseGrant(response) => encoded(response),
            Self::LeaseRevoke(response) => encoded(response),
            Self::LeaseCheckpoint(response) => encoded(response),
            Self::Authenticate(response) => encoded(response),
            Self::AuthChanged(response) => encoded(response),
            Self::Empty => Bytes::new(),
        }
    }
}

fn encoded(message: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(message.encoded_len());
    message.encode_raw(&mut out);
    out.freeze()
}
