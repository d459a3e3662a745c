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

/// Revisions per slice of a compaction, and the pause between slices.
pub const COMPACTION_BATCH: usize = 1000;
pub const COMPACTION_PAUSE_MS: u64 = 10;

/// Zeros written at a time when a log segment is prepared.
pub const WAL_FILL_BYTES: usize = 256 * 1024;
/// Size of a WAL segment file. One batch, so also one entry, has to fit into a segment.
pub const WAL_SEGMENT_BYTES: u64 = 64 << 20;
/// Size of the very first WAL segment: small, so that a first start does not wait for 64 MiB of zeros.
pub const WAL_SEGMENT_BYTES_FIRST: u64 = 4 << 20;
/// Records of one WAL batch beyond which an append is split (a single larger entry gets a batch of its own).
pub const WAL_BATCH_BYTES_MAX: usize = 1 << 20;
/// What a replay asks for at a time.
pub const WAL_REPLAY_SLICE_BYTES: usize = 1 << 20;
/// Released WAL segments kept for reuse.
pub const WAL_SPARES_MAX: usize = 2;

const _: () = assert!(WAL_SEGMENT_BYTES.is_multiple_of(BLOCK_BYTES as u64));
const _: () = assert!(WAL_SEGMENT_BYTES_FIRST.is_multiple_of(BLOCK_BYTES as u64));
const _: () = assert!(WAL_SEGMENT_BYTES <= u32::MAX as u64);
const _: () = assert!(WAL_SEGMENT_BYTES > 8 * (REQUEST_BYTES_MAX + REQUEST_OVERHEAD_BYTES) as u64);
const _: () = assert!(WAL_REPLAY_SLICE_BYTES.is_multiple_of(BLOCK_BYTES));
/// Entries in one Raft message, at least one entry.
pub const RAFT_MESSAGE_BYTES_MAX: u64 = 1 << 20;

/// Raft messages with entries sent to one member and not yet answered.
pub const RAFT_MESSAGES_IN_FLIGHT_MAX: usize = 512;

/// Read requests that wait for a new leader's first commit.
pub const RAFT_READS_WAITING_MAX: usize = 4096;
