//! Every limit of the server in one place. Sizes in bytes, times in milliseconds unless the name says otherwise.

/// Alignment of direct writes, and the unit of the WAL.
pub const BLOCK_BYTES: usize = 4096;

/// Default of `--max-request-bytes`: the largest marshalled Raft request.
pub const REQUEST_BYTES_MAX: usize = 1_572_864;

/// What a gRPC message may exceed `--max-request-bytes` by.
pub const REQUEST_OVERHEAD_BYTES: usize = 512 * 1024;

/// Default of `--max-txn-ops`.
pub const TXN_OPS_MAX: usize = 128;

/// Default of `--quota-backend-bytes`.
pub const QUOTA_BYTES_DEFAULT: i64 = 2 << 30;

/// Committed but not applied entries beyond which proposals are refused (`too many requests`).
pub const APPLY_BACKLOG_MAX: u64 = 5000;

/// The page file commits after this long ...
pub const COMMIT_INTERVAL_MS: u64 = 100;
/// ... or after this many changes.
pub const COMMIT_CHANGES_MAX: usize = 10_000;

const _: () = assert!(BLOCK_BYTES.is_power_of_two());
const _: () = assert!(REQUEST_BYTES_MAX.is_multiple_of(BLOCK_BYTES));

/// Largest request the client sends and largest response it accepts.
pub const CLIENT_REQUEST_BYTES_MAX: usize = 2 << 20;
pub const CLIENT_RESPONSE_BYTES_MAX: usize = i32::MAX as usize;

/// Attempts of one client call, and the pause between two rounds over the endpoints.
pub const CLIENT_ATTEMPTS_MAX: u32 = 100;
pub const CLIENT_BACKOFF_MS: u64 = 25;
