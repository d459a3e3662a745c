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

/// Consecutive pages of a commit are written together up to this.
pub const PAGE_WRITE_BYTES_MAX: usize = 256 * 1024;

/// A page file of this size or more grows in steps of this; a smaller one doubles.
pub const PAGE_FILE_GROW_BYTES: u64 = 16 << 20;

/// Levels of a tree beyond which the file is taken for damaged (two children per branch make 2^40 leaves).
pub const TREE_DEPTH_MAX: usize = 40;

/// Records per chunk of the read buffer.
pub const READ_BUFFER_CHUNK_RECORDS: usize = 1024;

/// Leaves looked at per commit while the page file gives back its end.
pub const SHRINK_LEAVES_VISITED_MAX: usize = 1000;
/// Pages moved per commit meanwhile.
pub const SHRINK_PAGES_MOVED_MAX: u64 = 1000;
/// Free spans looked at for a low place before any sufficient one is taken.
pub const SHRINK_SPANS_VISITED_MAX: usize = 4096;
