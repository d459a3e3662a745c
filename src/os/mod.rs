//! The only door to the kernel and to glommio.
//!
//! All other modules use files, sockets, clocks and executors through the types here, so this folder shows everything that
//! ringd asks of Linux. `unsafe` code is only here and in the page views.
//!
//! | file | what it offers |
//! |---|---|
//! | `executor` | one pinned executor per core |
//! | `cpu_claim` | which CPUs other ringds on the machine have taken |
//! | `channel` | messages between two executors |
//! | `net` | listeners and streams |
//! | `task` | tasks and timers of one executor |
//! | `tls` | the same streams, encrypted |
//! | `probe` | whether io_uring, memlock and O_DIRECT are available, with advice if not |
//! | `file` | direct durable writes (WAL), buffered writes and syncs (page file), directories |
//! | `mapping` | the reserved read-only mapping of the page file |
//! | `lock` | one process per data directory |
//! | `clock` | monotonic and wall time |
//! | `random` | seeds and salts |
//! | `signal` | SIGTERM and SIGINT as a value, and signals without effect |
//! | `process` | what /proc says of this process |
//! | `profile` | where its threads spend their time |
//! | `notify` | wake-ups between tasks of one executor |
//! | `offload` | blocking calls on threads of their own: names of hosts |
//! | `stop` | the ends of the process |

#![allow(unsafe_code)]

pub mod channel;
pub mod clock;
pub mod cpu_claim;
pub mod dns;
pub mod executor;
pub mod file;
pub mod lock;
pub mod mapping;
pub mod net;
pub mod notify;
pub mod offload;
pub mod probe;
pub mod process;
pub mod profile;
pub mod random;
pub mod signal;
pub mod stop;
mod task;
pub mod tls;

pub use task::{Alarm, sleep, spawn_local, timeout, yield_now};
