//! Every limit of the server, in sections by the module that keeps it. Sizes in bytes, times in milliseconds unless the name says
//! otherwise. Assertions between limits follow the section of the last one.

// -------- Requests.

/// Default of `--max-request-bytes`: the largest marshalled Raft request.
pub const REQUEST_BYTES_MAX: usize = 1_572_864;
/// The largest gRPC message is `--max-request-bytes` and this.
pub const REQUEST_OVERHEAD_BYTES: usize = 512 * 1024;
/// Default of `--max-txn-ops`.
pub const TXN_OPS_MAX: usize = 128;
/// Default of `--quota-backend-bytes`.
pub const QUOTA_BYTES_DEFAULT: i64 = 2 << 30;
/// A larger `--quota-backend-bytes` is logged as a warning, as in etcd.
pub const QUOTA_BYTES_SUGGESTED_MAX: i64 = 8 << 30;

// -------- Write-ahead log: `wal`.

/// Alignment of direct writes, and the unit of the WAL.
pub const BLOCK_BYTES: usize = 4096;
/// Zeros written at a time when a segment is prepared.
pub const WAL_FILL_BYTES: usize = 256 * 1024;
/// Size of a segment file. One batch, so also one entry, has to fit into a segment.
pub const WAL_SEGMENT_BYTES: u64 = 64 << 20;
/// Size of the very first segment: small, so that a first start does not wait for 64 MiB of zeros.
pub const WAL_SEGMENT_BYTES_FIRST: u64 = 4 << 20;
/// Records of one batch beyond which an append is split. A single larger entry gets a batch of its own.
pub const WAL_BATCH_BYTES_MAX: usize = 1 << 20;
/// Bytes that a replay reads at a time.
pub const WAL_REPLAY_SLICE_BYTES: usize = 1 << 20;
/// Released segments kept for reuse.
pub const WAL_SPARES_MAX: usize = 2;

const _: () = assert!(BLOCK_BYTES.is_power_of_two());
const _: () = assert!(REQUEST_BYTES_MAX.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(WAL_SEGMENT_BYTES.is_multiple_of(BLOCK_BYTES as u64));
const _: () = assert!(WAL_SEGMENT_BYTES_FIRST.is_multiple_of(BLOCK_BYTES as u64));
const _: () = assert!(WAL_SEGMENT_BYTES <= u32::MAX as u64);
const _: () = assert!(WAL_SEGMENT_BYTES > 8 * (REQUEST_BYTES_MAX + REQUEST_OVERHEAD_BYTES) as u64);
const _: () = assert!(WAL_REPLAY_SLICE_BYTES.is_multiple_of(BLOCK_BYTES));

// -------- Page file: `pagefile`.

/// Page size of a new page file: that of x86-64, as bbolt takes it.
pub const PAGE_BYTES: u32 = 4096;
/// Consecutive pages of a commit are written together up to this.
pub const PAGE_WRITE_BYTES_MAX: usize = 256 * 1024;
/// A page file of this size or more grows in steps of this; a smaller one doubles.
pub const PAGE_FILE_GROW_BYTES: u64 = 16 << 20;
/// A page file is cut in steps of this.
pub const PAGE_FILE_CUT_BYTES: u64 = 16 << 20;
/// Address space reserved for the page file: it never moves while the server runs.
pub const PAGE_FILE_RESERVE_BYTES: usize = 256 << 30;
/// A tree with more levels is damaged (two children per branch make 2^40 leaves).
pub const TREE_DEPTH_MAX: usize = 40;
/// Leaves visited per commit while the page file shrinks.
pub const SHRINK_LEAVES_VISITED_MAX: usize = 1000;
/// Pages moved per commit while the page file shrinks.
pub const SHRINK_PAGES_MOVED_MAX: u64 = 1000;
/// Free spans visited for a low place before any sufficient one is taken.
pub const SHRINK_SPANS_VISITED_MAX: usize = 4096;

// -------- Buckets and copies: `backend`, `snapshot`.

/// Records per chunk of the read buffer.
pub const READ_BUFFER_CHUNK_RECORDS: usize = 1024;
/// Records in one chunk of a copy of a whole state. Each chunk is one commit of the new file.
pub const COPY_CHUNK_RECORDS: usize = 10_000;
/// Bytes in one chunk of such a copy.
pub const COPY_CHUNK_BYTES: usize = 4 << 20;

// -------- Key space: `mvcc`.

/// Keys in one leaf of the tree index.
pub const INDEX_LEAF_KEYS_MAX: usize = 64;
/// Key bytes in one leaf of the tree index that holds more than one key.
pub const INDEX_LEAF_BYTES_MAX: usize = 16 * 1024;
/// Children of one branch of the tree index.
pub const INDEX_BRANCH_CHILDREN_MAX: usize = 64;
/// Past versions of one key in one run; longer runs are not merged.
pub const HISTORY_RUN_MAX: usize = 4096;
/// Index entries that one call of a range's `fill` visits.
pub const RANGE_FILL_ENTRIES_MAX: usize = 4096;
/// Compaction hashes kept for comparison between members.
pub const COMPACTION_HASHES_MAX: usize = 10;

// The index of a key in its leaf is one byte.
const _: () = assert!(INDEX_LEAF_KEYS_MAX < u8::MAX as usize);

// -------- Leases: `lease` (rates are etcd's).

/// Longest TTL, in seconds.
pub const LEASE_TTL_S_MAX: i64 = 9_000_000_000;
/// Time between two scans for expired leases.
pub const LEASE_SCAN_MS: u64 = 500;
/// Leases revoked per scan.
pub const LEASE_REVOKES_PER_SCAN: usize = 500;
/// Leases revoked per second, by both scans of it.
pub const LEASE_REVOKES_PER_SECOND: usize = 1000;
/// Keys of a lease that a revocation deletes before other work gets its turn.
pub const LEASE_KEYS_PER_SLICE: usize = 256;
/// Leases that a listing takes from the engine at a time.
pub const LEASES_PER_SLICE: usize = 1000;
/// Checkpoints in one entry of the log.
pub const LEASE_CHECKPOINTS_PER_ENTRY_MAX: usize = 1000;
/// Revocations of expired leases whose outcome is awaited.
pub const LEASE_REVOKES_WAITING_MAX: usize = 16_384;

// -------- Watchers: `watch`.

/// Bytes of responses that wait for the client of one stream. Beyond it the watchers concerned read history later.
pub const WATCH_QUEUE_BYTES_MAX: usize = 256 * 1024;
/// Bytes that each response counts in addition.
pub const WATCH_RESPONSE_COST: usize = 64;
/// Events of several revisions share one response up to this.
pub const WATCH_CHUNK_BYTES: usize = 64 * 1024;
/// Watchers read a revision with more events than this from history, in slices.
pub const WATCH_LIVE_REVISION_EVENTS_MAX: usize = 4096;
/// Watchers read a revision with more bytes of events than this from history, in slices.
pub const WATCH_LIVE_REVISION_BYTES_MAX: usize = 4 << 20;
/// Records that a slice of history visits before other work gets its turn.
pub const WATCH_SLICE_RECORDS: usize = 256;
/// The first step of such a slice, in records.
pub const WATCH_SLICE_RECORDS_FIRST: usize = 4;
/// Lagging watchers of one stream share a reading of history if they are at most this many revisions apart.
pub const WATCH_RUN_REVISIONS: i64 = 1000;
/// Readings of history per stream; beyond it watchers share one at any distance.
pub const WATCH_RUNS_PER_STREAM_MAX: usize = 8;
/// Answers to creations, cancellations and progress requests that wait on a stream before it reads more requests.
pub const WATCH_ANSWERS_MAX: usize = 256;
/// Ids of one stream's watchers that compactions ended, kept until the client cancels them. Beyond it the lowest are free again.
pub const WATCHES_ENDED_MAX: usize = 65_536;
/// Watchers of one front core; one more is refused.
pub const WATCHERS_PER_CORE_MAX: usize = 4_000_000;
/// Changes on their way to the front of another core. Beyond it the front reads them from the view.
pub const WATCH_CHANGES_BYTES_MAX: usize = 16 << 20;
/// Default of `--watch-progress-notify-interval`.
pub const WATCH_PROGRESS_MS: u64 = 600_000;
/// Least value of `--watch-progress-notify-interval`.
pub const WATCH_PROGRESS_MS_MIN: u64 = 100;

const _: () = assert!(WATCH_CHUNK_BYTES < WATCH_QUEUE_BYTES_MAX);

// -------- Raft: `consensus`.

/// Entries in one Raft message, at least one entry.
pub const RAFT_MESSAGE_BYTES_MAX: u64 = 128 << 10;
/// Proposals that become one step of Raft, at least one.
pub const RAFT_PROPOSALS_BYTES_MAX: u64 = 1 << 20;
/// Raft messages with entries sent to one member and not answered yet: 8 MiB, unless single entries are larger.
pub const RAFT_MESSAGES_IN_FLIGHT_MAX: usize = 64;
/// Proposals of other members that wait for a leader which can take them, and their bytes.
pub const PROPOSALS_HELD_MAX: usize = 4096;
pub const PROPOSALS_HELD_BYTES_MAX: usize = 16 << 20;
/// Read requests that wait for a new leader's first commit.
pub const RAFT_READS_WAITING_MAX: usize = 4096;
/// Bytes of applied entries kept in memory for followers that lag.
pub const RETAINED_BYTES_MAX: usize = 64 << 20;
/// The same while a follower receives a state, and until it has caught up with what was written meanwhile.
pub const RETAINED_FOR_STATE_BYTES_MAX: usize = 512 << 20;
/// Entries are kept for a follower that has received a state as long as it takes some in such a time; etcd keeps them for 30 s.
pub const RETAINED_FOR_STATE_MS: u64 = 30_000;

// -------- Proposals and reads: `replica`.

/// Proposals that wait for their answer on one member; beyond it `too many requests`.
pub const PROPOSALS_MAX: usize = 65_536;
/// Bytes of proposals that enter Raft in one turn of the engine.
pub const PROPOSAL_BYTES_PER_TURN: usize = 1 << 20;
/// Committed entries that are not applied yet; beyond it `too many requests`.
pub const APPLY_BACKLOG_MAX: u64 = 5000;
/// Bytes applied in one turn of the engine before other work gets its turn.
pub const APPLY_BYTES_PER_TURN: usize = 256 * 1024;
/// Bytes that each entry counts in addition.
pub const APPLY_ENTRY_COST: usize = 256;
/// Batches of the log on their way to the disk.
pub const APPENDS_IN_FLIGHT_MAX: usize = 4;
/// A read index without an answer is requested again after this (etcd's `readIndexRetryTime`).
pub const READ_INDEX_RETRY_MS: u64 = 500;

// -------- Commits and compactions: `replica`.

/// Time after which the page file commits.
pub const COMMIT_INTERVAL_MS: u64 = 100;
/// Changes after which the page file commits.
pub const COMMIT_CHANGES_MAX: usize = 10_000;
/// Changes that a commit of the page file builds in before other work gets its turn.
pub const COMMIT_CHANGES_PER_SLICE: usize = 128;
/// Revisions per slice of a compaction.
pub const COMPACTION_BATCH: usize = 1000;
/// Pause between two slices of a compaction.
pub const COMPACTION_PAUSE_MS: u64 = 10;
/// Records read at a time when the index is rebuilt, at start or from a received state: less than a millisecond, after which other
/// tasks run, and other members on the same CPU.
pub const RESTORE_RECORDS_PER_SLICE: usize = 500;

// -------- Tasks of the engine: `drive`.

/// Messages that wait between two cores.
pub const MAILBOX_MESSAGES_MAX: usize = 65_536;
/// Flushes, snapshots and defragmentations under way for one core; beyond it `too many requests`.
pub const CHORES_PER_CORE_MAX: usize = 64;
/// Pause of a step that found the disk full.
pub const FULL_DISK_PAUSE_MS: u64 = 1_000;
/// Time between two checks for a forced commit of the page file.
pub const COMMIT_POLL_MS: u64 = 1;
/// A durable write of the log that takes longer is logged.
pub const SLOW_LOG_WRITE_MS: u64 = 1_000;
/// Waits until the state is applied that one member may have under way, and how long one lasts (etcd's `applyTimeout`).
pub const SETTLING_MAX: usize = 65_536;
pub const SETTLING_MS_MAX: u64 = 1_000;
/// How long a member must have been connected to count for a change of the membership (etcd's `HealthInterval`).
pub const CONNECTED_MS_MIN: u64 = 5_000;
/// Body of a request for a lease between members, as in etcd.
pub const PEER_LEASE_REQUEST_BYTES_MAX: usize = 64 * 1024;
/// What is forwarded to the leader is tried again after this.
pub const FORWARD_PAUSE_MS: u64 = 50;
/// Time between two checks of the cluster's version.
pub const VERSION_CHECK_MS: u64 = 4_000;
/// The same until it is decided.
pub const VERSION_FIRST_CHECK_MS: u64 = 5;

// -------- Slices of long answers: `services`.

/// Records of one message of a RangeStream, unless a single one is larger.
pub const RANGE_STREAM_PIECE_BYTES: usize = 128 * 1024;
/// Initial buffer for the answer to a read of one key.
pub const POINT_ANSWER_BYTES: usize = 512;
/// Keys that a range visits before other work gets its turn.
pub const RANGE_KEYS_PER_SLICE: usize = 512;
/// Answers up to this size are encoded at once; larger ones piece by piece as the client reads.
pub const WHOLE_ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of the database in one message of a snapshot, as in etcd.
pub const SNAPSHOT_BLOB_BYTES: usize = 32 * 1024;
/// Records that a checksum of the database adds before other work gets its turn.
pub const HASH_RECORDS_PER_SLICE: usize = 512;
/// Keepalives of one stream that go to the engine together.
pub const KEEP_ALIVES_PER_BATCH: usize = 256;
/// Pause before a keepalive that cannot be answered yet is sent again; it doubles each time.
pub const KEEP_ALIVE_PAUSE_MS: u64 = 50;
/// Longest such pause.
pub const KEEP_ALIVE_PAUSE_MS_MAX: u64 = 500;
/// Announced client versions that `/metrics` tells apart, per core.
pub const CLIENT_VERSIONS_MAX: usize = 32;

// -------- Connections: `frontend`. The memory that one client can hold on a core is the product of these and the next three sections.

/// Open connections per front core; one more is accepted and closed at once.
pub const CONNECTIONS_PER_CORE_MAX: usize = 16_384;
/// Pause of the accept loop after an error such as "too many open files".
pub const ACCEPT_PAUSE_MS: u64 = 100;
/// Time for a connection to show its protocol, and to finish an HTTP/2 handshake.
pub const FIRST_BYTES_MS_MAX: u64 = 10_000;
/// TLS handshakes under way on a core: with their buffers at most 64 MB.
pub const TLS_HANDSHAKES_PER_CORE_MAX: usize = 512;
/// Time for a TLS handshake, as in etcd.
pub const TLS_HANDSHAKE_MS_MAX: u64 = 10_000;
/// The same while there are as many as may be.
pub const TLS_HANDSHAKE_PRESSED_MS_MAX: u64 = 1_000;
/// HTTP/1: size of the request head.
pub const HTTP1_HEAD_BYTES_MAX: usize = 64 * 1024;
/// HTTP/1: size of a request body.
pub const HTTP1_BODY_BYTES_MAX: usize = REQUEST_BYTES_MAX + REQUEST_OVERHEAD_BYTES;
/// JSON gateway: what names and brackets of a request may take beside its message.
pub const GATEWAY_DOCUMENT_OVERHEAD_BYTES: usize = 64 * 1024;
/// JSON gateway: messages inside messages, as many as the decoder of messages takes.
pub const GATEWAY_MESSAGE_DEPTH_MAX: usize = 100;
/// JSON gateway: requests of a stream that its method has not taken.
pub const GATEWAY_REQUESTS_WAITING_MAX: usize = 16;
/// JSON gateway: WebSocket messages that one document of a stream may be spread over.
pub const GATEWAY_DOCUMENT_PIECES_MAX: u32 = 64;
/// HTTP/1: time between two completed requests (etcd's header timeout).
pub const HTTP1_IDLE_MS_MAX: u64 = 300_000;
/// Time for a failed connection to take the last bytes.
pub const LINGER_MS_MAX: u64 = 1_000;

// -------- Calls: `rpc`.

/// Unanswered unary calls per connection, and the cap on the advertised concurrent streams.
pub const CALLS_PER_CONNECTION_MAX: usize = 16_384;
/// Bytes of one receive; there is one per turn.
pub const TURN_INPUT_BYTES: usize = 128 * 1024;
/// Output that a turn gathers before it sends early, and that a connection holds for a slow reader.
pub const TURN_OUTPUT_BYTES: usize = 128 * 1024;
/// Requests taken from HTTP/2 before the first of them is handled.
pub const TURN_REQUESTS_MAX: usize = 256;
/// Receive window of one HTTP/2 stream: bytes in flight that its handler has not read.
pub const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// Receive window of an HTTP/2 connection: bytes in flight of all its streams.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Bytes of half-received messages of one connection.
pub const ASSEMBLY_BYTES_PER_CONNECTION_MAX: usize = 32 * 1024 * 1024;
/// Bytes of one stream that wait to be sent.
pub const STREAM_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Size of the pieces in which a large answer is produced.
pub const ANSWER_PIECE_BYTES: usize = 32 * 1024;
/// Largest message that a server sends (etcd: 2^31 - 1).
pub const SEND_BYTES_MAX: u64 = i32::MAX as u64;
/// Message bodies from this size on are sent without a copy.
pub const SHARED_BODY_BYTES_MIN: usize = 4096;
/// The largest answer that is compressed for a client that compresses; larger ones are sent uncompressed.
pub const PACKED_ANSWER_BYTES_MAX: u64 = 4 << 20;
/// Bytes that a connection unpacks before other work gets its turn; the last message may exceed it.
pub const DECOMPRESSED_BYTES_PER_TURN_MAX: usize = 1 << 20;

const _: () = assert!(STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES);
const _: () = assert!(ANSWER_PIECE_BYTES <= STREAM_SEND_BUFFER_BYTES);
const _: () = assert!(PACKED_ANSWER_BYTES_MAX < u32::MAX as u64 / 2);

// -------- Links between members: `peer`. The numbers are etcd's unless the text says otherwise.

/// A message on a stream or of a post.
pub const PEER_MESSAGE_BYTES_MAX: u64 = 512 << 20;
/// The message in front of a database.
pub const PEER_SNAPSHOT_MESSAGE_BYTES_MAX: u64 = 64 << 20;
/// Messages that wait for one stream.
pub const PEER_STREAM_MESSAGES_MAX: usize = 4096;
/// And their bytes, ringd's own bound: what a member that reads slowly may keep of the leader's memory.
pub const PEER_STREAM_BYTES_MAX: usize = 16 << 20;
/// Encoded for a stream at a time.
pub const PEER_STREAM_SLICE_BYTES: usize = 256 * 1024;
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
/// Written of a received state before it is made durable so far; ringd's own bound.
pub const PEER_SNAPSHOT_UNSYNCED_BYTES_MAX: u64 = 1 << 20;
/// How long the disk is left alone after that at most, however slow it is; ringd's own bound.
pub const PEER_SNAPSHOT_REST_MS_MAX: u64 = 100;
/// A state of which nothing arrives for this long is given up; ringd's own bound.
pub const PEER_SNAPSHOT_STALL_MS_MAX: u64 = 120_000;
/// What leaves a member of whole states in a second, all of them together; ringd's own bound.
pub const PEER_SNAPSHOT_BYTES_PER_SECOND: u64 = 100 << 20;
/// A state that another member fetches is kept for this long after the last byte was sent, so that a fetch can resume after a broken
/// connection.
pub const PEER_IMAGE_KEPT_MS: u64 = 30_000;
/// States kept for other members.
pub const PEER_IMAGES_MAX: usize = 16;
/// A member that is asked for a state which it has not reached yet tries for this long.
pub const PEER_IMAGE_WAIT_MS_MAX: u64 = 5_000;
/// A fetch of a state continues after up to this many broken connections in a row without a byte, with this pause before each new one.
pub const PEER_FETCH_ATTEMPTS_MAX: usize = 10;
pub const PEER_FETCH_PAUSE_MS: u64 = 500;
/// Connections of the peer port; ringd's own bound.
pub const PEER_CONNECTIONS_MAX: usize = 1024;
/// An answer of a member to a request; ringd's own bound.
pub const PEER_ANSWER_BYTES_MAX: usize = 16 << 20;
/// Read from a peer's socket at a time.
pub const PEER_READ_BYTES: usize = 64 * 1024;
/// A stream that had this much to read lets the core's other tasks run.
pub const PEER_READ_BYTES_PER_TURN: usize = 256 * 1024;

const _: () = assert!(PEER_STREAM_BYTES_MAX > 4 * (REQUEST_BYTES_MAX + REQUEST_OVERHEAD_BYTES));

// -------- Heads of requests: `rpc`.

/// Decoded header list of one request, each field counting 32 bytes in addition; a call with a larger one is refused.
pub const HEADER_LIST_BYTES_MAX: usize = 1 << 20;
/// A header list larger than this ends its connection, as in etcd.
pub const HEADER_LIST_BYTES_DISCARDED_MAX: usize = 16 << 20;
/// The longest encoded name or value of a header.
pub const HEADER_LITERAL_BYTES_MAX: usize = 4 << 20;
/// Header lists of all calls of a connection.
pub const HEADER_LISTS_PER_CONNECTION_BYTES_MAX: usize = 16 << 20;
/// Header lists of a connection that are kept for comparison with later ones.
pub const HEADER_LISTS_KEPT: usize = 4;
/// Largest block that is kept for that.
pub const HEADER_BLOCK_KEPT_BYTES_MAX: usize = 256;
/// Largest header list that is kept for that.
pub const HEADER_LIST_KEPT_BYTES_MAX: usize = 4096;

const _: () = assert!(HEADER_LIST_BYTES_MAX <= HEADER_LISTS_PER_CONNECTION_BYTES_MAX);
const _: () = assert!(HEADER_LIST_BYTES_MAX <= HEADER_LIST_BYTES_DISCARDED_MAX);

// -------- Floods: `rpc`.

/// Streams that a client reset before the server handled them (rapid reset). One receive cannot hold so many: clients cancel calls in
/// bursts, and only a flood ends the connection.
pub const RESET_STREAMS_PENDING_MAX: usize = 8192;
/// Streams that a connection makes the server reset or refuse by faults of its own. The resets themselves are bounded by the client's
/// reading: with TURN_OUTPUT_BYTES unsent nothing more is received.
pub const RESET_STREAMS_BY_FAULT_MAX: usize = 1 << 20;
/// Small DATA frames that handlers have not read: each counts the bytes that it lacks of 256.
pub const SMALL_FRAMES_BUDGET_BYTES: usize = 8 * 1024 * 1024;
/// Pings that come too early before the connection is closed (grpc-go: the third).
pub const PING_STRIKES_MAX: u32 = 2;

// The shortest request and its reset: two frame heads, four fields, an error code.
const _: () = assert!(TURN_INPUT_BYTES / (9 + 4 + 9 + 4) < RESET_STREAMS_PENDING_MAX);

// -------- Executors: `os`.

/// Time between two polls of sockets, disks and timers while tasks yield and are ready again. A yielding task lets other tasks run, but
/// new events reach them only after a poll.
pub const IO_LOOK_MS: u64 = 1;
/// glommio's own interval for polling I/O while tasks are ready: long, see `os::executor`.
pub const PREEMPT_MS: u64 = 10_000;
/// The longest sleep of an executor.
pub const PULSE_MS: u64 = 50;
/// Time between two checks for a stop signal.
pub const SIGNAL_POLL_MS: u64 = 50;

// -------- Users and tokens: `services`.

/// Tokens that one core remembers. All are forgotten beyond it, and found again in the member's table.
pub const TOKENS_PER_CORE_MAX: usize = 65_536;
/// Calls of one core that wait for the entry of their token. One more is answered as one with an invalid token.
pub const TOKENS_AWAITED_PER_CORE_MAX: usize = 1_024;
/// bcrypt takes no more of a password.
pub const PASSWORD_BYTES_MAX: usize = 72;
/// Passwords that one core has hashed at the same time; each takes a CPU for tens of milliseconds.
pub const PASSWORDS_AT_ONCE: usize = 2;
/// Passwords that wait on one core, in all and of one source address: at 20 ms each the last one waits 5 seconds, and a single
/// source leaves half of the places to others.
pub const PASSWORDS_WAITING_MAX: usize = 512;
pub const PASSWORDS_PER_SOURCE_MAX: usize = 256;

// -------- Distributed tracing: `spans`, `otlp`. OpenTelemetry's own defaults, and a bound on bytes.

/// Finished spans that wait to be exported; one more is lost.
pub const SPANS_WAITING_MAX: usize = 2_048;
/// The same in bytes, since a span names keys. Collectors take messages of 4 MiB.
pub const SPANS_WAITING_BYTES_MAX: usize = 3 << 20;
/// Spans of one message.
pub const SPANS_PER_BATCH: usize = 512;
/// Spans wait this long for others of their batch.
pub const SPANS_DELAY_MS: u64 = 5_000;
/// Time for a collector to take a batch, and the pause before it is asked again within that time.
pub const SPANS_EXPORT_MS_MAX: u64 = 10_000;
pub const SPANS_EXPORT_PAUSE_MS: u64 = 4_000;
/// Time for the last batches when the server stops.
pub const SPANS_LAST_EXPORT_MS_MAX: u64 = 2_000;

// -------- Start and end: `server`.

/// Time for running calls to end when the server stops.
pub const SHUTDOWN_GRACE_MS: u64 = 7_000;
/// A member that founds a cluster waits this long for each other member to say that the cluster exists already.
pub const BOOTSTRAP_ASK_MS_MAX: u64 = 1_000;
/// A member that is healed asks the others for this long, and this long passes between two attempts.
pub const HEAL_ASK_MS_MAX: u64 = 60_000;
pub const HEAL_PAUSE_MS: u64 = 500;
/// A member that joins a cluster waits this long for each other member to say who the members are.
pub const JOIN_ASK_MS_MAX: u64 = 10_000;
/// After its start a member looks so long, and so often, for others to be connected before it shortens its first election timeout.
pub const TICK_ADVANCE_WAIT_MS_MAX: u64 = 5_000;
pub const TICK_ADVANCE_POLL_MS: u64 = 50;
/// Time between two checks of a starting member whether it is published.
pub const PUBLISH_POLL_MS: u64 = 2;

// -------- Client library and tools: `client`, `ctl`, `utl`.

/// Largest request that the client sends.
pub const CLIENT_REQUEST_BYTES_MAX: usize = 2 << 20;
/// Largest response that the client accepts.
pub const CLIENT_RESPONSE_BYTES_MAX: usize = i32::MAX as usize;
/// Attempts of one client call.
pub const CLIENT_ATTEMPTS_MAX: u32 = 100;
/// Pause between two rounds over the endpoints.
pub const CLIENT_BACKOFF_MS: u64 = 25;
/// Least time between two pings of a client on one connection, which servers of etcd and gRPC accept.
pub const CLIENT_PING_MS_MIN: u64 = 10_000;
/// Time that a client waits for the answer to the first keepalive of a lease.
pub const CLIENT_FIRST_BEAT_MS: u64 = 5_000;
/// Pause before a client opens another stream for keepalives.
pub const CLIENT_KEEP_ALIVE_PAUSE_MS: u64 = 500;
/// Largest `/metrics` page that a client reads.
pub const CLIENT_METRICS_BYTES_MAX: u64 = 64 << 20;
/// Responses and lines that wait to be shown by an interactive watch.
pub const CLIENT_WATCH_QUEUE_MAX: usize = 64;
/// Time between two attempts of a tool to lock a database.
pub const LOCK_POLL_MS: u64 = 50;
/// Entries of another server's log that are applied before they are committed to the database.
pub const TAIL_ENTRIES_PER_COMMIT: u64 = 10_000;
