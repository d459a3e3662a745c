//! ringd: an etcd v3 server on io_uring, one pinned thread per core.
//!
//! This page is the map of the modules. They form layers, from programs down to the ground, and a module may only use modules below it.
//!
//! ```text
//! programs   bin/       ringd, ringctl, ringutl, ringbench: parse arguments, call the library
//!            ctl/       ringctl: one file per command, one per printer
//!            utl/       ringutl: one file per command on files, one per printer
//!            load/      ringbench: loads, what is measured, reports
//! shell      server/    one process: boot, cores, run, shutdown
//! (async)    otlp/      finished spans to a collector, from a thread of their own
//!            client/    endpoints, balance, retry
//!            drive/     the tasks that carry out what the member decides: log files, page commits, compaction, expiry, ticks
//!            web/       pages over HTTP/1: health, metrics, versions
//!            gateway/   the same methods as JSON over HTTP/1
//!            services/  the gRPC services of one core: decode, check, ask the replica, answer
//!            peer/      links between members, in etcd's peer protocol
//!            config/    flags and environment -> one typed Config
//!            meters/    counters, by the core that counts
//!            frontend/  listener, connection, HTTP/1
//!            rpc/       gRPC on h2, ignorant of etcd
//!            spans/     which calls are traced, and what is known of them
//!            os/        the only door to the kernel and glommio
//! core       replica/   one member's decisions and the order of everything
//! (sync,     service/   the meaning of each RPC as functions
//! determi-   consensus/ Raft as a pure machine: inputs in, effects out
//! nistic)    apply/     one committed entry becomes a change of state
//!            watch/     changes find their watchers
//!            lease/     keys that are deleted unless a client renews their lease
//!            auth/      users, roles, and who may do what
//!            cluster/   ids, the first members, what each change of members means and when it is allowed
//!            mvcc/      revisions, key index, tree index, range, write, compact, hash, restore
//!            snapshot/  a whole state as a stream of chunks
//!            backend/   buckets over pages: read buffer, read view, write batch
//!            pagefile/  bbolt's file format: pages, nodes, cursors, commits as data, check, shrinking
//!            wal/       the log: records, segments, append as data, replay, repair
//! ground     proto/ metrics/ base/ (the one table of refusals, every limit)
//! beside     sim/       whole clusters in one thread, from a seed: drives the core in tests, with faults and checkers
//! ```
//!
//! # Who imports whom
//!
//! All of it, from the top down (`tests/integration/layers` fails on any other import, and on circles between files of one module):
//!
//! ```text
//! sim       | replica service consensus apply watch lease auth cluster mvcc pagefile wal proto base
//! bin       | utl ctl load client server config
//! utl       | ctl server os consensus apply lease cluster mvcc snapshot backend pagefile wal proto base
//! ctl       | client service os proto base
//! load      | client proto
//! server    | otlp drive web gateway services peer meters config frontend rpc spans os replica consensus apply lease cluster pagefile wal proto base
//! otlp      | client spans os proto base
//! client    | service proto base
//! drive     | services peer meters os replica service apply watch auth cluster mvcc pagefile wal proto metrics base
//! web       | gateway services frontend os service apply cluster proto metrics base
//! gateway   | services frontend rpc os proto base
//! services  | peer meters rpc spans os replica service apply watch lease auth cluster mvcc backend pagefile proto metrics base
//! peer      | meters frontend rpc os pagefile proto metrics base
//! meters    | rpc apply metrics base
//! config    | os service cluster base
//! frontend  | rpc os base
//! rpc       | spans os base
//! spans     | base
//! os        | pagefile base
//! replica   | consensus apply watch lease auth mvcc backend pagefile wal proto base
//! service   | apply auth cluster mvcc pagefile proto base
//! consensus | proto base
//! apply     | lease auth cluster mvcc backend pagefile proto base
//! watch     | mvcc proto base
//! lease     | mvcc proto base
//! auth      | backend pagefile proto base
//! cluster   | proto base
//! mvcc      | backend pagefile proto base
//! snapshot  | pagefile base
//! backend   | pagefile base
//! pagefile  | base
//! wal       | base
//! proto     |
//! metrics   |
//! base      |
//! ```
//!
//! # A read
//!
//! ```text
//! frontend/connection   one turn: everything the socket has, parsed by h2, one batch of requests
//! services              decode, check; serializable: read at once. linearizable: join this core's read-index round
//! consensus/            read index, one round for all waiting reads of a core
//! mvcc/range            the view published last: tree index -> revision
//! backend/read_buffer   the record if it is younger than the page file: binary search
//! pagefile/cursor       else the record in the mapped page file: binary search page by page
//! service/kv            the record is the wire format of the KeyValue: header + copy of it = the response
//! frontend/connection   all answers of the turn, one send
//! ```
//!
//! # A write
//!
//! ```text
//! services              decode, check, wrap into an InternalRaftRequest without re-encoding
//! replica/turn          all proposals that wait become one batch
//! consensus/ -> wal/    entries -> aligned blocks -> one durable O_DIRECT write, several in flight
//! consensus/ -> apply/  committed: mvcc/write, backend/write_batch, the answer
//! replica/turn          publish the new view
//! watch/hub             each front core finds the watchers of the changed keys, and queues events for them
//! replica/turn          deliver the answers, one wake per connection
//! drive                 later, off the path: the batch becomes pages, sync, meta page, sync; the log releases the entry
//! ```
//!
//! Copies of a put's value on this path (`apply/copy_tests` checks the second and the fourth; all other steps share the bytes):
//!
//! | | from | to | why |
//! |---|---|---|---|
//! | 1 | the core's receive buffer | h2's buffer (`rpc/intake`) | h2 reads through a buffer of its own. A message longer than a frame is joined once more (`rpc/frame`) |
//! | 2 | the message | the entry (`apply/request`) | an entry is retained for followers, and must not keep a receive buffer alive |
//! | 3 | the entry | the block of the log (`wal/append`) | direct writes need aligned memory |
//! | 4 | the entry | the record (`mvcc/record`) | its bytes are known when it is applied; read buffer, watchers and page file share it |
//! | 5 | the record | the page (`pagefile`) | pages are written whole |
//!
//! A copy into fresh memory takes 19 ns for 256 bytes, 191 ns for 10 KiB and 49 us for 1 MiB (2 virtual cores, 2026).
//!
//! # A watch
//!
//! ```text
//! services/watch_*     create, cancel and progress requests of one stream
//! watch/hub             a watcher that has all events is synced and in the index; any other is behind
//! watch/run             for watchers that are behind: slices of history from the newest view, as fast as the client takes them
//! watch/chunk           events encoded once for all watchers with equal options, into the stream's bounded queue
//! ```
//!
//! # Glossary
//!
//! | word | meaning |
//! |---|---|
//! | entry | one element of the replicated log, numbered by its **index** |
//! | revision | one state of the key space; `main` counts transactions, `sub` counts changes inside one |
//! | record | a stored `mvccpb.KeyValue`, byte for byte as in a RangeResponse |
//! | view | the whole state for readers, immutable, published after each applied batch |
//! | batch | records made durable together (WAL) or changes committed together (page file) |
//! | front | the part of a core that serves connections |
//! | replica | the one owner of consensus, log and state |
//! | refusal, failure, bug | caused by the client (typed, gRPC), by disk or network (the member logs it and stops), by our code (assertion) |

pub mod apply;
pub mod auth;
pub mod backend;
pub mod base;
pub mod client;
pub mod cluster;
pub mod config;
pub mod consensus;
pub mod ctl;
pub mod drive;
pub mod frontend;
pub mod gateway;
pub mod lease;
pub mod load;
pub mod meters;
pub mod metrics;
pub mod mvcc;
pub mod os;
pub mod otlp;
pub mod pagefile;
pub mod peer;
pub mod proto;
pub mod replica;
pub mod rpc;
pub mod server;
pub mod service;
pub mod services;
pub mod sim;
pub mod snapshot;
pub mod spans;
pub mod utl;
pub mod wal;
pub mod watch;
pub mod web;
