//! Linearizable reads of one core: they wait in rounds until consensus says that this member may answer.
//!
//! 1. A read joins a round only before the round is handed to the engine, so its read index is never older than the read.
//! 2. One round per core is in flight; what comes meanwhile shares the next one.

use std::{rc::Rc, time::Instant};

use crate::{
    base::refusal::Refusal,
    metrics::Name,
    os::{self, clock, notify::Ticket},
    replica::Request,
    service::status,
    services::{
        Services, encoded,
        kv::{Started, may_range, measure_on, start_range},
        refuse,
        request_log::Reading,
        waiting::{Read, Work},
    },
};

impl Services {
    pub(super) fn join_round(&self, work: Work, since: Instant) {
        let reads = &mut *self.reads.borrow_mut();
        reads.waiting.push(Read { work, since });
        if reads.context.is_none() {
            self.outgoing.notify();
        }
    }

    /// Waits until this member may answer a linearizable read.
    ///
    /// # Errors
    /// No quorum confirmed it in time.
    pub async fn confirmed(&self, since: Instant) -> Result<(), Refusal> {
        let ticket = Rc::new(Ticket::default());
        self.join_round(Work::Task(Rc::clone(&ticket)), since);
        ticket.outcome().await
    }

    /// Starts the round of the reads that wait, if none is in flight.
    pub(super) fn begin_round(&self) -> Option<Request> {
        let reads = &mut *self.reads.borrow_mut();
        if reads.context.is_some() || reads.waiting.is_empty() {
            return None;
        }
        reads.rounds += 1;
        let context = (u64::from(self.id) << 48) | reads.rounds;
        reads.context = Some(context);
        reads.round = std::mem::take(&mut reads.waiting);
        Some(Request::ReadIndex { context })
    }

    /// The view published last is new enough for this round.
    pub(super) fn on_confirmed(self: &Rc<Self>, context: u64) {
        for read in self.end_round(context) {
            self.run(read);
        }
    }

    /// No quorum confirmed the round in time.
    pub(super) fn on_read_failed(&self, context: u64, error: Refusal) {
        self.end_round(context).into_iter().for_each(|read| read.work.fail(error));
    }

    fn end_round(&self, context: u64) -> Vec<Read> {
        let reads = &mut *self.reads.borrow_mut();
        if reads.context != Some(context) {
            return Vec::new();
        }
        reads.context = None;
        if !reads.waiting.is_empty() {
            self.outgoing.notify();
        }
        std::mem::take(&mut reads.round)
    }

    pub(super) fn expire_reads(&self, now: Instant) {
        let reads = &mut *self.reads.borrow_mut();
        for list in [&mut reads.round, &mut reads.waiting] {
            let (expired, kept): (Vec<Read>, Vec<Read>) =
                std::mem::take(list).into_iter().partition(|read| self.is_late(now, read.since));
            *list = kept;
            if !expired.is_empty() {
                self.meter().sheet.add(Name::ServerSlowReadIndexesTotal, 1);
                self.meter().sheet.add(Name::ServerReadIndexesFailedTotal, 1);
            }
            expired.into_iter().for_each(|read| read.work.fail(Refusal::Timeout));
        }
        if reads.context.is_none() && !reads.waiting.is_empty() {
            self.outgoing.notify();
        }
    }

    fn run(self: &Rc<Self>, read: Read) {
        let view = self.shared.view.load();
        match read.work {
            Work::Range { request, who, responder } => {
                if let Err(refusal) = may_range(&view, &who, &request) {
                    responder.send(Err(refuse(refusal)));
                    return;
                }
                let reading = Reading { called: read.since, began: clock::now() };
                match start_range(&view, &request) {
                    Started::Answered(reply) => {
                        reading.count_range(self, &request, &reply);
                        responder.send(reply);
                    }
                    Started::Measuring(job) => {
                        os::spawn_local(measure_on(Rc::clone(self), reading, request, job, responder));
                    }
                }
            }
            Work::Txn { request, who, responder } => {
                responder.send(self.read_txn(&view, &request, &who, read.since));
            }
            Work::MemberList { who, responder } => {
                let checked = who.check_identity(&view.auth).map_err(refuse);
                responder.send(checked.and_then(|()| encoded(&status::member_list(&view))));
            }
            Work::Task(ticket) => ticket.end(Ok(())),
        }
    }
}

impl Work {
    fn fail(self, refusal: Refusal) {
        match self {
            Self::Range { responder, .. } | Self::Txn { responder, .. } | Self::MemberList { responder, .. } => {
                responder.send(Err(refuse(refusal)));
            }
            Self::Task(ticket) => ticket.end(Err(refusal)),
        }
    }
}
