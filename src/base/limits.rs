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

/// Keys in one leaf of the tree index.
pub const INDEX_LEAF_KEYS_MAX: usize = 64;
/// Key bytes in one leaf of the tree index that holds more than one key.
pub const INDEX_LEAF_BYTES_MAX: usize = 16 * 1024;
/// Children of one branch of the tree index.
pub const INDEX_BRANCH_CHILDREN_MAX: usize = 64;
/// Past versions of one key in one piece; longer pieces are not merged any more.
pub const HISTORY_RUN_MAX: usize = 4096;
/// Index entries that one call of a range's `fill` looks at.
pub const RANGE_FILL_ENTRIES_MAX: usize = 4096;
/// Compaction hashes kept for comparison between members.
pub const COMPACTION_HASHES_MAX: usize = 10;

// The place of a key in its leaf is kept in one byte.
const _: () = assert!(INDEX_LEAF_KEYS_MAX < u8::MAX as usize);
