//! The one table of refusals: constant, gRPC code and exact text, as etcd 3.7 puts them on the wire.
//!
//! Client libraries turn the text back into a typed error by exact comparison, so the texts are part of the interface. Some errors
//! carry code Unknown although etcd's own constants name another code: etcd sends Unknown for them, and so do we.

use super::code::Code;

macro_rules! refusals {
    ($($name:ident = $code:ident, $text:literal;)+) => {
        /// Why a request was refused. `Display` is etcd's text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        pub enum Refusal {
            $(#[error($text)] $name,)+
        }

        impl Refusal {
            /// The gRPC code on the wire.
            #[must_use]
            pub fn code(self) -> Code {
                match self { $(Self::$name => Code::$code,)+ }
            }

            /// The message on the wire.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

// A macro, so that each error is one line of a table, with code and text side by side.
refusals! {
    EmptyKey = InvalidArgument, "etcdserver: key is not provided";
    KeyNotFound = InvalidArgument, "etcdserver: key not found";
    ValueProvided = InvalidArgument, "etcdserver: value is provided";
    LeaseProvided = InvalidArgument, "etcdserver: lease is provided";
    TooManyOps = InvalidArgument, "etcdserver: too many operations in txn request";
    DuplicateKey = InvalidArgument, "etcdserver: duplicate key given in txn request";
    InvalidClientApiVersion = InvalidArgument, "etcdserver: invalid client api version";
    InvalidSortOption = InvalidArgument, "etcdserver: invalid sort option";
    Compacted = OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    FutureRevision = OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    NoSpace = ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    LeaseNotFound = NotFound, "etcdserver: requested lease not found";
    LeaseExists = FailedPrecondition, "etcdserver: lease already exists";
    LeaseTtlTooLarge = OutOfRange, "etcdserver: too large lease TTL";
    WatchCanceled = Canceled, "etcdserver: watch canceled";
    MemberNotFound = NotFound, "etcdserver: member not found";
    MemberBadUrls = InvalidArgument, "etcdserver: given member URLs are invalid";
    MemberExists = FailedPrecondition, "etcdserver: member ID already exist";
    PeerUrlExists = FailedPrecondition, "etcdserver: Peer URLs already exists";
    MemberNotEnoughStarted = Unknown, "etcdserver: re-configuration failed due to not enough started members";
    NotSupportedForLearner = FailedPrecondition, "etcdserver: rpc not supported for learner";
    MemberNotLearner = FailedPrecondition, "etcdserver: can only promote a learner member";
    LearnerNotReady = FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader";
    TooManyLearners = FailedPrecondition, "etcdserver: too many learner members in cluster";
    Unhealthy = Unavailable, "etcdserver: unhealthy cluster";
    RequestTooLarge = InvalidArgument, "etcdserver: request is too large";
    TooManyRequests = Unknown, "etcdserver: too many requests";
    NoLeader = Unavailable, "etcdserver: no leader";
    NotLeader = FailedPrecondition, "etcdserver: not leader";
    LeaderChanged = Unavailable, "etcdserver: leader changed";
    NotCapable = FailedPrecondition, "etcdserver: not capable";
    Stopped = Unavailable, "etcdserver: server stopped";
    Timeout = Unavailable, "etcdserver: request timed out";
    TimeoutLeaderFail = Unavailable, "etcdserver: request timed out, possibly due to previous leader failure";
    TimeoutLeaderTransfer = Unavailable, "etcdserver: request timed out, leader transfer took too long";
    TimeoutConnectionLost = Unavailable, "etcdserver: request timed out, possibly due to connection lost";
    TimeoutWaitAppliedIndex = Unavailable,
        "etcdserver: request timed out, waiting for the applied index took too long";
    Corrupt = DataLoss, "etcdserver: corrupt cluster";
    BadLeaderTransferee = FailedPrecondition, "etcdserver: bad leader transferee";
    WrongDowngradeVersionFormat = InvalidArgument, "etcdserver: wrong downgrade target version format";
    InvalidDowngradeTargetVersion = InvalidArgument, "etcdserver: invalid downgrade target version";
    ClusterVersionUnavailable = FailedPrecondition, "etcdserver: cluster version not found during downgrade";
    DowngradeInProcess = FailedPrecondition, "etcdserver: cluster has a downgrade job in progress";
    NoInflightDowngrade = FailedPrecondition, "etcdserver: no inflight downgrade job";
    Canceled = Canceled, "etcdserver: request canceled";
    DeadlineExceeded = DeadlineExceeded, "context deadline exceeded";
    ProposalDropped = Unknown, "raft proposal dropped";
    RangeStreamSort = Unimplemented, "RangeStream does not support custom sort orders";
    RangeStreamFilter = Unimplemented, "RangeStream does not support revision filters";
    AuthNotEnabled = FailedPrecondition, "etcdserver: authentication is not enabled";
    RootUserNotExist = FailedPrecondition, "etcdserver: root user does not exist";
    RootRoleNotExist = FailedPrecondition, "etcdserver: root user does not have root role";
    UserExists = FailedPrecondition, "etcdserver: user name already exists";
    UserEmpty = InvalidArgument, "etcdserver: user name is empty";
    UserNotFound = FailedPrecondition, "etcdserver: user name not found";
    RoleExists = FailedPrecondition, "etcdserver: role name already exists";
    RoleNotFound = FailedPrecondition, "etcdserver: role name not found";
    RoleEmpty = InvalidArgument, "etcdserver: role name is empty";
    AuthFailed = InvalidArgument, "etcdserver: authentication failed, invalid user ID or password";
    NoPasswordUser = Unknown, "auth: authentication failed, password was given for no password user";
    PasswordTooLong = Unknown, "bcrypt: password length exceeds 72 bytes";
    PermissionNotGiven = InvalidArgument, "etcdserver: permission not given";
    PermissionDenied = PermissionDenied, "etcdserver: permission denied";
    RoleNotGranted = FailedPrecondition, "etcdserver: role is not granted to the user";
    PermissionNotGranted = FailedPrecondition, "etcdserver: permission is not granted to the role";
    InvalidAuthToken = Unauthenticated, "etcdserver: invalid auth token";
    InvalidAuthManagement = InvalidArgument, "etcdserver: invalid auth management";
    AuthOldRevision = InvalidArgument, "etcdserver: revision of auth store is old";
    VerifyOnly = Unknown, "auth: token signing attempted with verify-only key";
    NotPrimaryLessor = Unknown, "not a primary lessor";
    UnknownMethod = Unknown, "etcdserver: unknown method";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_codes_stand_side_by_side() {
        assert_eq!(Refusal::Compacted.code(), Code::OutOfRange);
        assert_eq!(Refusal::Compacted.to_string(), Refusal::Compacted.text());
        assert_eq!(Refusal::TooManyRequests.code(), Code::Unknown);
    }
}
