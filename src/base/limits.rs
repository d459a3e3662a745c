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

// Connections and calls. What one client can make a core hold is the product of these.

/// Open connections per front core; one more is accepted and closed at once.
pub const CONNECTIONS_PER_CORE_MAX: usize = 16_384;
/// Unanswered unary calls per connection, and the cap on the advertised concurrent streams.
pub const CALLS_PER_CONNECTION_MAX: usize = 16_384;
/// A connection must show which protocol it speaks, and finish an HTTP/2 handshake, within this.
pub const FIRST_BYTES_MS_MAX: u64 = 10_000;
/// How long the accept loop rests after an error such as "too many open files".
pub const ACCEPT_PAUSE_MS: u64 = 100;
/// Decoded header list of one HTTP/2 request.
pub const HEADER_LIST_BYTES_MAX: u32 = 64 * 1024;
/// HTTP/2 receive window of one stream: what a stream may have in flight that its handler has not read.
pub const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// HTTP/2 receive window of a connection: what all its streams together may have in flight.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Bytes of half-received messages a connection may hold.
pub const ASSEMBLY_BYTES_PER_CONNECTION_MAX: usize = 32 * 1024 * 1024;
/// One receive per turn takes at most this.
pub const TURN_INPUT_BYTES: usize = 128 * 1024;
/// Output a turn gathers before it sends early, and what a connection may hold for a slow reader.
pub const TURN_OUTPUT_BYTES: usize = 128 * 1024;
/// Requests taken from HTTP/2 before the first of them is handled.
pub const TURN_REQUESTS_MAX: usize = 256;
/// What one stream may have waiting to be sent.
pub const STREAM_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// A large answer is produced in pieces of this size.
pub const ANSWER_PIECE_BYTES: usize = 32 * 1024;
/// Largest message a server sends (etcd: 2^31 - 1).
pub const SEND_BYTES_MAX: u64 = i32::MAX as u64;
/// A connection that failed has this long to take the last bytes.
pub const LINGER_MS_MAX: u64 = 1_000;
/// Streams a client reset before the server looked at them (rapid reset).
pub const RESET_STREAMS_PENDING_MAX: usize = 64;
/// Small DATA frames that handlers have not read: each counts what it is short of 256 bytes.
pub const SMALL_FRAMES_BUDGET_BYTES: usize = 8 * 1024 * 1024;
/// Pings that come too early before the connection is closed (grpc-go: the third).
pub const PING_STRIKES_MAX: u32 = 2;
/// HTTP/1: size of the request head.
pub const HTTP1_HEAD_BYTES_MAX: usize = 64 * 1024;
/// HTTP/1: size of a request body.
pub const HTTP1_BODY_BYTES_MAX: usize = REQUEST_BYTES_MAX + REQUEST_OVERHEAD_BYTES;
/// HTTP/1: time between two completed requests (etcd's header timeout).
pub const HTTP1_IDLE_MS_MAX: u64 = 300_000;

const _: () = assert!(STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES);
const _: () = assert!(ANSWER_PIECE_BYTES <= STREAM_SEND_BUFFER_BYTES);
