//! The cores that serve clients: their services, their listeners, and the ways to the replica's core.

use std::{io, rc::Rc, sync::Arc, time::Duration};

use super::{cores::Layout, listening::OfFront};
use crate::{
    base::limits,
    config::Config,
    drive::{self, CoreLink, Driver, mailbox::MailboxToCore},
    frontend,
    os::{
        self,
        channel::{ReceiverSeat, SenderSeat, channel},
        executor::{self, Seat},
        notify::Notify,
        signal, stop,
    },
    replica::{Answer, CoreId, Request},
    rpc::{Server, Settings},
    services::{self, ServiceHandler, Services, Shared},
    spans::Tracer,
};

pub(super) type FrontServer = frontend::Front<ServiceHandler>;

/// Serves clients on this core.
pub(super) fn start_front(config: &Config, front: Rc<Services>, doors: OfFront) -> Rc<FrontServer> {
    let settings = Settings {
        receive_bytes_max: config.request_bytes_max + limits::REQUEST_OVERHEAD_BYTES,
        concurrent_streams_max: config.streams_max,
        keepalive_interval: config.keepalive_interval,
        keepalive_timeout: config.keepalive_timeout,
        keepalive_min_time: config.keepalive_min_time,
        slow_request: config.warning_unary,
    };
    let (handler, tracer) = (ServiceHandler(Rc::clone(&front)), tracer(config, &front));
    let server = Server::with_tracer(services::methods::METHODS, handler, settings, tracer);
    front.meter().connect(server.counters());
    let served = frontend::Front::new(server);
    doors.serve(config, &served, &front);
    served
}

/// Every core decides for itself which calls are traced.
fn tracer(config: &Config, front: &Services) -> Option<Rc<Tracer>> {
    let (traces, queue) = (config.traces.as_ref()?, front.shared().spans.as_ref()?);
    Some(Tracer::new(Arc::clone(queue), traces.per_million, os::random::number()))
}

pub(super) type Threads = Vec<std::thread::JoinHandle<io::Result<()>>>;

/// Starts the cores that only serve clients.
pub(super) fn start_other_fronts(
    config: &Arc<Config>,
    layout: &Layout,
    driver: &Rc<Driver>,
    shared: &Arc<Shared>,
    ids: u64,
    doors: Vec<OfFront>,
) -> io::Result<Threads> {
    let mut threads = Vec::new();
    for ((number, cpu), doors) in (1..).zip(&layout.fronts).zip(doors) {
        let (to_engine, from_front) = channel(limits::MAILBOX_MESSAGES_MAX);
        let (to_front, from_engine) = channel(limits::MAILBOX_MESSAGES_MAX);
        let id: CoreId = number;
        let mailbox = MailboxToCore::default();
        os::spawn_local(mailbox.clone().carry(to_front));
        os::spawn_local(receive_requests(Rc::clone(driver), id, from_front));
        driver.connect(CoreLink::Away(mailbox));
        let seat = Seat { name: format!("ringd-{number}"), cpu: Some(*cpu), spin: Duration::ZERO };
        let (config, shared) = (Arc::clone(config), Arc::clone(shared));
        let far = FarFront { id, count: layout.proposers(), ids, to_engine, from_engine, doors };
        let thread = executor::spawn(seat, move || far.run(config, shared))?;
        threads.push(thread);
    }
    Ok(threads)
}

async fn receive_requests(driver: Rc<Driver>, front: u16, seat: ReceiverSeat<Request>) {
    let receiver = seat.connect().await;
    while let Some(request) = receiver.receive().await {
        driver.submit(front, request);
    }
}

/// A front on a core of its own, before it runs.
struct FarFront {
    id: u16,
    count: u64,
    ids: u64,
    to_engine: SenderSeat<Request>,
    from_engine: ReceiverSeat<Answer>,
    doors: OfFront,
}

impl FarFront {
    async fn run(self, config: Arc<Config>, shared: Arc<Shared>) {
        let outgoing = Rc::new(Notify::default());
        let front = Services::new(self.id, self.count, self.ids, shared, Rc::clone(&outgoing));
        os::spawn_local(drive::expire_calls(Rc::clone(&front), config.heartbeat));
        os::spawn_local(send_requests(Rc::clone(&front), outgoing, self.to_engine));
        os::spawn_local(receive_answers(Rc::clone(&front), self.from_engine));
        let served = start_front(&config, Rc::clone(&front), self.doors);
        while signal::received().is_none() && !stop::has_begun() {
            os::sleep(Duration::from_millis(limits::SIGNAL_POLL_MS)).await;
        }
        front.stop_streams();
        served.stop(Duration::from_millis(limits::SHUTDOWN_GRACE_MS)).await;
    }
}

async fn send_requests(front: Rc<Services>, outgoing: Rc<Notify>, seat: SenderSeat<Request>) {
    let sender = seat.connect().await;
    loop {
        outgoing.wait().await;
        for request in front.take_requests() {
            if !sender.send(request).await {
                return;
            }
        }
    }
}

async fn receive_answers(front: Rc<Services>, seat: ReceiverSeat<Answer>) {
    let receiver = seat.connect().await;
    while let Some(answer) = receiver.receive().await {
        front.on_answer(answer);
    }
}
