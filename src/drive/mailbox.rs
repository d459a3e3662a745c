//! How answers reach the services of other cores.
//!
//! On the engine's own core both directions are plain calls into queues of the same executor. Between cores they are bounded
//! single-producer single-consumer channels.

use std::{cell::RefCell, rc::Rc};

use crate::{
    os::{channel::SenderSeat, notify::Notify},
    replica::Answer,
};

/// The way from the engine to a front on another core: a queue that a task of the engine's core empties into a channel.
#[derive(Clone, Default)]
pub struct MailboxToCore {
    queue: Rc<RefCell<Vec<Answer>>>,
    raised: Rc<Notify>,
}

impl MailboxToCore {
    /// Queues an answer. Bounded by what fronts may ask for.
    pub fn send(&self, answer: Answer) {
        self.queue.borrow_mut().push(answer);
        self.raised.notify();
    }

    /// Carries answers over until the front is gone.
    pub async fn carry(self, seat: SenderSeat<Answer>) {
        let sender = seat.connect().await;
        loop {
            self.raised.wait().await;
            for answer in self.queue.take() {
                if !sender.send(answer).await {
                    return;
                }
            }
        }
    }
}
