//! The state that all connections of one core share.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use super::{
    handler::Handler,
    interceptors::{CallCounters, Interceptors},
    method::{Method, MethodTable},
    turn_io::CoreBuffers,
};
use crate::{
    base::limits::{REQUEST_BYTES_MAX, REQUEST_OVERHEAD_BYTES},
    spans::Tracer,
};

/// Limits and times of a server, with etcd's defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Largest request message: `--max-request-bytes` and the overhead.
    pub receive_bytes_max: usize,
    /// `--max-concurrent-streams`, per connection.
    pub concurrent_streams_max: u32,
    /// `--grpc-keepalive-interval`: ping a silent client after this.
    pub keepalive_interval: Duration,
    /// `--grpc-keepalive-timeout`: close when it stays silent.
    pub keepalive_timeout: Duration,
    /// `--grpc-keepalive-min-time`: clients that ping more often are closed.
    pub keepalive_min_time: Duration,
    /// `--warning-unary-request-duration`.
    pub slow_request: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            receive_bytes_max: REQUEST_BYTES_MAX + REQUEST_OVERHEAD_BYTES,
            concurrent_streams_max: u32::MAX,
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            keepalive_min_time: Duration::from_secs(5),
            slow_request: Duration::from_millis(300),
        }
    }
}

/// One core's gRPC server: give it connections with [`super::Connection::new`].
pub struct Server<H> {
    pub(super) handler: H,
    pub(super) table: MethodTable,
    pub(super) settings: Settings,
    pub(super) interceptors: Interceptors,
    pub(super) buffers: Rc<RefCell<CoreBuffers>>,
}

impl<H: Handler> Server<H> {
    pub fn new(methods: &'static [Method], handler: H, settings: Settings) -> Rc<Server<H>> {
        Self::with_tracer(methods, handler, settings, None)
    }

    /// The same, with calls that are traced.
    pub fn with_tracer(
        methods: &'static [Method],
        handler: H,
        settings: Settings,
        tracer: Option<Rc<Tracer>>,
    ) -> Rc<Server<H>> {
        let table = MethodTable::new(methods);
        let counters = Arc::new(CallCounters::new(&table));
        let interceptors = Interceptors { counters, slow: settings.slow_request, tracer };
        let buffers = Rc::new(RefCell::new(CoreBuffers::new()));
        Rc::new(Server { handler, table, settings, interceptors, buffers })
    }

    pub fn handler(&self) -> &H {
        &self.handler
    }

    pub fn table(&self) -> &MethodTable {
        &self.table
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// This core's call counts; may be read from any thread.
    pub fn counters(&self) -> Arc<CallCounters> {
        self.interceptors.counters.clone()
    }
}
