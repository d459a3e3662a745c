//! Every limit of the server in one place, by the module that keeps it. Sizes in bytes, times in milliseconds unless the name says
//! otherwise.

// base: blocks and requests.

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
/// A larger `--quota-backend-bytes` is warned about, as etcd does.
pub const QUOTA_BYTES_SUGGESTED_MAX: i64 = 8 << 30;

const _: () = assert!(BLOCK_BYTES.is_power_of_two());
const _: () = assert!(REQUEST_BYTES_MAX.is_multiple_of(BLOCK_BYTES));

// wal.

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

// pagefile and backend.

/// Consecutive pages of a commit are written together up to this.
pub const PAGE_WRITE_BYTES_MAX: usize = 256 * 1024;
/// A page file of this size or more grows in steps of this; a smaller one doubles.
pub const PAGE_FILE_GROW_BYTES: u64 = 16 << 20;
/// And is cut in steps of this.
pub const PAGE_FILE_CUT_BYTES: u64 = 16 << 20;
/// Levels of a tree beyond which the file is taken for damaged (two children per branch make 2^40 leaves).
pub const TREE_DEPTH_MAX: usize = 40;
/// Records per chunk of the read buffer.
pub const READ_BUFFER_CHUNK_RECORDS: usize = 1024;
/// Page size of a new page file: that of the machines we run on, as bbolt takes it.
pub const PAGE_BYTES: u32 = 4096;
/// Leaves looked at per commit while the page file gives back its end.
pub const SHRINK_LEAVES_VISITED_MAX: usize = 1000;
/// Pages moved per commit meanwhile.
pub const SHRINK_PAGES_MOVED_MAX: u64 = 1000;
/// Free spans looked at for a low place before any sufficient one is taken.
pub const SHRINK_SPANS_VISITED_MAX: usize = 4096;

// snapshot: copies of a whole state.

/// Records and bytes that a copy of a whole state takes at a time: one commit of the new file each.
pub const COPY_CHUNK_RECORDS: usize = 10_000;
pub const COPY_CHUNK_BYTES: usize = 4 << 20;

// mvcc.

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

// lease (rates are etcd's).

/// Longest TTL, in seconds.
pub const LEASE_TTL_S_MAX: i64 = 9_000_000_000;
/// How often expired leases are looked for ...
pub const LEASE_SCAN_MS: u64 = 500;
/// ... how many are revoked then, and so in a second.
pub const LEASE_REVOKES_PER_SCAN: usize = 500;
pub const LEASE_REVOKES_PER_SECOND: usize = 1000;
/// Keys of a lease that a revocation deletes before others get their turn.
pub const LEASE_KEYS_PER_SLICE: usize = 256;
/// Leases that a listing takes from the engine at a time.
pub const LEASES_PER_SLICE: usize = 1000;
/// Checkpoints in one entry of the log.
pub const LEASE_CHECKPOINTS_PER_ENTRY_MAX: usize = 1000;
/// Revocations of expired leases whose outcome is remembered for.
pub const LEASE_REVOKES_WAITING_MAX: usize = 16_384;

// watch.

/// Watch responses of one stream that wait for its client, in bytes, each counting a little extra; beyond it the watchers that are
/// affected read history later.
pub const WATCH_QUEUE_BYTES_MAX: usize = 256 * 1024;
pub const WATCH_RESPONSE_COST: usize = 64;
/// Events of several revisions share one response up to this.
pub const WATCH_CHUNK_BYTES: usize = 64 * 1024;
/// One revision with more events or bytes than this goes to watchers by way of history, in slices.
pub const WATCH_LIVE_REVISION_EVENTS_MAX: usize = 4096;
pub const WATCH_LIVE_REVISION_BYTES_MAX: usize = 4 << 20;
/// Records that a slice of history visits before others get their turn, and how many it begins with.
pub const WATCH_SLICE_RECORDS: usize = 256;
pub const WATCH_SLICE_RECORDS_FIRST: usize = 4;
/// Watchers behind on one stream read together when they are this many revisions apart ...
pub const WATCH_RUN_REVISIONS: i64 = 1000;
/// ... or when the stream has this many separate readings already.
pub const WATCH_RUNS_PER_STREAM_MAX: usize = 8;
/// Answers to creations, cancellations and progress requests that a stream has waiting before it reads more requests.
pub const WATCH_ANSWERS_MAX: usize = 256;
/// Ids of one stream's watchers that compactions ended, kept until the client cancels them; beyond it the lowest are free again.
pub const WATCHES_ENDED_MAX: usize = 65_536;
/// Watchers of one front core; one more is refused.
pub const WATCHERS_PER_CORE_MAX: usize = 4_000_000;
/// Changes on their way to the front of another core; beyond it the front reads them from the view.
pub const WATCH_CHANGES_BYTES_MAX: usize = 16 << 20;
/// Default of `--watch-progress-notify-interval`, and the least it can be.
pub const WATCH_PROGRESS_MS: u64 = 600_000;
pub const WATCH_PROGRESS_MS_MIN: u64 = 100;

const _: () = assert!(WATCH_CHUNK_BYTES < WATCH_QUEUE_BYTES_MAX);

// consensus.

/// Entries in one Raft message, at least one entry.
pub const RAFT_MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// Raft messages with entries sent to one member and not yet answered.
pub const RAFT_MESSAGES_IN_FLIGHT_MAX: usize = 512;
/// Proposals of other members that wait for a leader which can take them, and their bytes.
pub const PROPOSALS_HELD_MAX: usize = 4096;
pub const PROPOSALS_HELD_BYTES_MAX: usize = 16 << 20;
/// Read requests that wait for a new leader's first commit.
pub const RAFT_READS_WAITING_MAX: usize = 4096;

// replica and drive: turns of the engine, commits, compactions.

/// Committed but not applied entries beyond which proposals are refused (`too many requests`).
pub const APPLY_BACKLOG_MAX: u64 = 5000;
/// The page file commits after this long ...
pub const COMMIT_INTERVAL_MS: u64 = 100;
/// ... or after this many changes.
pub const COMMIT_CHANGES_MAX: usize = 10_000;
/// Revisions per slice of a compaction, and the pause between slices.
pub const COMPACTION_BATCH: usize = 1000;
pub const COMPACTION_PAUSE_MS: u64 = 10;
/// A read index that was asked for and has not come is asked for again after this (etcd's `readIndexRetryTime`).
pub const READ_INDEX_RETRY_MS: u64 = 500;
/// Proposals that may wait for their answer on one member; beyond it `too many requests`.
pub const PROPOSALS_MAX: usize = 65_536;
/// Bytes of proposals that enter Raft in one turn of the engine.
pub const PROPOSAL_BYTES_PER_TURN: usize = 1 << 20;
/// Batches of the log that may be on their way to the disk at once.
pub const APPENDS_IN_FLIGHT_MAX: usize = 4;
/// Bytes applied in one turn of the engine before others run, every entry counting this much extra.
pub const APPLY_BYTES_PER_TURN: usize = 256 * 1024;
pub const APPLY_ENTRY_COST: usize = 256;
/// Changes that a commit of the page file builds in before others get their turn.
pub const COMMIT_CHANGES_PER_SLICE: usize = 128;
/// Records read at a time when the index is rebuilt at start.
pub const RESTORE_RECORDS_PER_SLICE: usize = 10_000;
/// Messages that may wait between two cores.
pub const MAILBOX_MESSAGES_MAX: usize = 65_536;
/// How long a step waits that found the disk full.
pub const FULL_DISK_PAUSE_MS: u64 = 1_000;
/// Bytes of applied entries kept in memory for slow followers.
pub const RETAINED_BYTES_MAX: usize = 64 << 20;
/// How often a forced commit of the page file is looked for.
pub const COMMIT_POLL_MS: u64 = 1;
/// A durable write of the log that takes longer is logged.
pub const SLOW_LOG_WRITE_MS: u64 = 1_000;
/// Flushes, snapshots and defragmentations that one core may have under way; beyond it `too many requests`.
pub const CHORES_PER_CORE_MAX: usize = 64;
/// Waits until the state is applied that one member may have under way, and how long one lasts (etcd's `applyTimeout`).
pub const SETTLING_MAX: usize = 65_536;
pub const SETTLING_MS_MAX: u64 = 1_000;
/// How long a member must have been connected to count for a change of the membership (etcd's `HealthInterval`).
pub const CONNECTED_MS_MIN: u64 = 5_000;
/// Body of a request for a lease between members, as in etcd.
pub const PEER_LEASE_REQUEST_BYTES_MAX: usize = 64 * 1024;
/// What is forwarded to the leader is tried again after this.
pub const FORWARD_PAUSE_MS: u64 = 50;
/// How often the version of the cluster is looked at.
pub const VERSION_CHECK_MS: u64 = 4_000;
/// The same until it is decided.
pub const VERSION_FIRST_CHECK_MS: u64 = 5;

// services: slices of long answers.

/// Records of one message of a RangeStream, unless a single one is larger.
pub const RANGE_STREAM_PIECE_BYTES: usize = 128 * 1024;
/// Room for the answer to a read of one key before it has to grow.
pub const POINT_ANSWER_BYTES: usize = 512;
/// Keys that a range visits before others get their turn.
pub const RANGE_KEYS_PER_SLICE: usize = 512;
/// Answers up to this size are encoded at once; larger ones piece by piece as the client reads.
pub const WHOLE_ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// Announced client versions that `/metrics` tells apart, per core.
pub const CLIENT_VERSIONS_MAX: usize = 32;
/// Bytes of the database in one message of a snapshot, as etcd sends it.
pub const SNAPSHOT_BLOB_BYTES: usize = 32 * 1024;
/// Records that a checksum of the database takes in before others get their turn.
pub const HASH_RECORDS_PER_SLICE: usize = 512;
/// Keepalives of one stream that go to the engine together.
pub const KEEP_ALIVES_PER_BATCH: usize = 256;
/// Pause before a keepalive asks again that cannot be answered yet; it doubles up to the second figure.
pub const KEEP_ALIVE_PAUSE_MS: u64 = 50;
pub const KEEP_ALIVE_PAUSE_MS_MAX: u64 = 500;

// frontend and rpc: connections and calls. What one client can make a core hold is the product of these.

/// Open connections per front core; one more is accepted and closed at once.
pub const CONNECTIONS_PER_CORE_MAX: usize = 16_384;
/// Unanswered unary calls per connection, and the cap on the advertised concurrent streams.
pub const CALLS_PER_CONNECTION_MAX: usize = 16_384;
/// A connection must show which protocol it speaks, and finish an HTTP/2 handshake, within this.
pub const FIRST_BYTES_MS_MAX: u64 = 10_000;
/// How long the accept loop rests after an error such as "too many open files".
pub const ACCEPT_PAUSE_MS: u64 = 100;
/// Decoded header list of one HTTP/2 request, each field counting 32 bytes extra; a call with a larger one is refused ...
pub const HEADER_LIST_BYTES_MAX: usize = 1 << 20;
/// ... and with one larger than this its connection ends, as with etcd.
pub const HEADER_LIST_BYTES_DISCARDED_MAX: usize = 16 << 20;
/// The longest name or value of a header as it comes over the wire.
pub const HEADER_LITERAL_BYTES_MAX: usize = 4 << 20;
/// Header lists that the calls of a connection hold together.
pub const HEADER_LISTS_PER_CONNECTION_BYTES_MAX: usize = 16 << 20;
/// Header lists of a connection that are kept to be recognized, how long their blocks may be, and how large the lists.
pub const HEADER_LISTS_KEPT: usize = 4;
pub const HEADER_BLOCK_KEPT_BYTES_MAX: usize = 256;
pub const HEADER_LIST_KEPT_BYTES_MAX: usize = 4096;
/// The largest answer that is compressed for a client that compresses; larger ones go out as they are.
pub const PACKED_ANSWER_BYTES_MAX: u64 = 4 << 20;
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
/// Streams a client reset before the server looked at them (rapid reset). One receive cannot hold so many: clients cancel calls in
/// bursts, and only a flood ends the connection.
pub const RESET_STREAMS_PENDING_MAX: usize = 8192;
/// Streams that a connection may make the server reset or refuse by faults of its own. The resets themselves are bounded by what the
/// client reads: with TURN_OUTPUT_BYTES unsent nothing more is received.
pub const RESET_STREAMS_BY_FAULT_MAX: usize = 1 << 20;
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
/// What a connection unpacks before the core's other tasks get their turn; the last message may pass it.
pub const DECOMPRESSED_BYTES_PER_TURN_MAX: usize = 1 << 20;
/// Message bodies from this size on are sent without a copy.
pub const SHARED_BODY_BYTES_MIN: usize = 4096;

const _: () = assert!(STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES);
const _: () = assert!(ANSWER_PIECE_BYTES <= STREAM_SEND_BUFFER_BYTES);
// The shortest request and its reset: two frame heads, four fields, an error code.
const _: () = assert!(TURN_INPUT_BYTES / (9 + 4 + 9 + 4) < RESET_STREAMS_PENDING_MAX);
const _: () = assert!(HEADER_LIST_BYTES_MAX <= HEADER_LISTS_PER_CONNECTION_BYTES_MAX);
const _: () = assert!(HEADER_LIST_BYTES_MAX <= HEADER_LIST_BYTES_DISCARDED_MAX);
const _: () = assert!(PACKED_ANSWER_BYTES_MAX < u32::MAX as u64 / 2);

// peer: links between members; the numbers are etcd's unless the text says otherwise.

/// A message on a stream or of a post.
pub const PEER_MESSAGE_BYTES_MAX: u64 = 512 << 20;
/// The message in front of a database.
pub const PEER_SNAPSHOT_MESSAGE_BYTES_MAX: u64 = 64 << 20;
/// Messages that wait for one stream.
pub const PEER_STREAM_MESSAGES_MAX: usize = 4096;
/// And their bytes, ringd's own bound: what a member that reads slowly may keep of the leader's memory.
pub const PEER_STREAM_BYTES_MAX: usize = 16 << 20;
/// Messages that wait to be posted.
pub const PEER_POSTS_WAITING_MAX: usize = 64;
/// Posts to one member at a time.
pub const PEER_POSTS_RUNNING_MAX: usize = 4;
/// Silence or blockage after which a connection is given up.
pub const PEER_SILENCE_MS_MAX: u64 = 5_000;
/// Between two heartbeats of a stream.
pub const PEER_HEARTBEAT_MS: u64 = PEER_SILENCE_MS_MAX / 3;
/// A stream is dialed at most once in this time.
pub const PEER_DIAL_PAUSE_MS: u64 = 100;
/// Between two probes of a member.
pub const PEER_PROBE_MS: u64 = PEER_SILENCE_MS_MAX - 1_000;
/// Members known only from their own requests; ringd's own bound.
pub const PEER_REMOTES_MAX: usize = 64;
/// What is read, sent or written of a database at a time.
pub const PEER_SNAPSHOT_SLICE_BYTES: usize = 128 * 1024;
/// A state that goes no further for this long is given up; ringd's own bound.
pub const PEER_SNAPSHOT_STALL_MS_MAX: u64 = 120_000;
/// Connections of the peer port; ringd's own bound.
pub const PEER_CONNECTIONS_MAX: usize = 1024;
/// An answer of a member to a request; ringd's own bound.
pub const PEER_ANSWER_BYTES_MAX: usize = 16 << 20;
/// Read from a peer's socket at a time.
pub const PEER_READ_BYTES: usize = 64 * 1024;
/// A stream that had this much to read lets the core's other tasks run.
pub const PEER_READ_BYTES_PER_TURN: usize = 256 * 1024;

const _: () = assert!(PEER_STREAM_BYTES_MAX > 4 * (REQUEST_BYTES_MAX + REQUEST_OVERHEAD_BYTES));

// os: executors.

/// How often a stop signal is looked for.
pub const SIGNAL_POLL_MS: u64 = 50;
/// Address space reserved for the page file: it never moves while the server runs.
pub const PAGE_FILE_RESERVE_BYTES: usize = 256 << 30;
/// While tasks yield and are ready again, sockets, disks and timers are looked at this often. Yielding between slices lets others
/// run, but only after this does anything arrive for them.
pub const IO_LOOK_MS: u64 = 1;
/// glommio's own look at I/O while tasks are ready: long, see `os::executor`.
pub const PREEMPT_MS: u64 = 10_000;
/// An executor never sleeps longer than this.
pub const PULSE_MS: u64 = 50;

// server: start and end.

/// Calls that run get this long to end when the server stops.
pub const SHUTDOWN_GRACE_MS: u64 = 7_000;
/// A member that founds a cluster waits this long for each other member to say that the cluster exists already.
pub const BOOTSTRAP_ASK_MS_MAX: u64 = 1_000;
/// A member that joins a cluster waits this long for each other member to say who the members are.
pub const JOIN_ASK_MS_MAX: u64 = 10_000;
/// After its start a member looks so long, and so often, for others to be connected before it shortens its first election timeout.
pub const TICK_ADVANCE_WAIT_MS_MAX: u64 = 5_000;
pub const TICK_ADVANCE_POLL_MS: u64 = 50;
/// How often a starting member looks whether it is published.
pub const PUBLISH_POLL_MS: u64 = 2;

// client, ctl and utl.

/// Largest request the client sends and largest response it accepts.
pub const CLIENT_REQUEST_BYTES_MAX: usize = 2 << 20;
pub const CLIENT_RESPONSE_BYTES_MAX: usize = i32::MAX as usize;
/// Attempts of one client call, and the pause between two rounds over the endpoints.
pub const CLIENT_ATTEMPTS_MAX: u32 = 100;
pub const CLIENT_BACKOFF_MS: u64 = 25;
/// How often a tool that waits for a database looks whether its lock is free.
pub const LOCK_POLL_MS: u64 = 50;
/// Entries of another server's log that are applied before they are committed to the database.
pub const TAIL_ENTRIES_PER_COMMIT: u64 = 10_000;
/// Between two pings of a client on one connection, at least: what servers of etcd and gRPC bear.
pub const CLIENT_PING_MS_MIN: u64 = 10_000;
/// How long a client waits for the answer to its first beat of a lease, and before it opens another stream for beats.
pub const CLIENT_FIRST_BEAT_MS: u64 = 5_000;
pub const CLIENT_KEEP_ALIVE_PAUSE_MS: u64 = 500;
/// The most that a client reads of a `/metrics` page.
pub const CLIENT_METRICS_BYTES_MAX: u64 = 64 << 20;
/// Responses and lines that wait to be shown by an interactive watch.
pub const CLIENT_WATCH_QUEUE_MAX: usize = 64;
