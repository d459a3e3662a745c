//! Channels between two executors: bounded, one producer, one consumer.

use glommio::channels::shared_channel::{
    ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender, new_bounded,
};

/// The sending end before it has an executor.
pub struct SenderSeat<T: Send>(SharedSender<T>);

/// The receiving end before it has an executor.
pub struct ReceiverSeat<T: Send>(SharedReceiver<T>);

/// The sending end on its executor.
pub struct Sender<T: Send + 'static>(ConnectedSender<T>);

/// The receiving end on its executor.
pub struct Receiver<T: Send + 'static>(ConnectedReceiver<T>);

/// A channel that holds up to `capacity` messages.
#[must_use]
pub fn channel<T: Send>(capacity: usize) -> (SenderSeat<T>, ReceiverSeat<T>) {
    let (sender, receiver) = new_bounded(capacity);
    (SenderSeat(sender), ReceiverSeat(receiver))
}

impl<T: Send + 'static> SenderSeat<T> {
    /// Takes the seat on the executor that calls; returns when the other end has done so too.
    pub async fn connect(self) -> Sender<T> {
        Sender(self.0.connect().await)
    }
}

impl<T: Send + 'static> ReceiverSeat<T> {
    /// As [`SenderSeat::connect`].
    pub async fn connect(self) -> Receiver<T> {
        Receiver(self.0.connect().await)
    }
}

impl<T: Send + 'static> Sender<T> {
    /// Waits for room. `false` if the other end is gone.
    pub async fn send(&self, message: T) -> bool {
        self.0.send(message).await.is_ok()
    }
}

impl<T: Send + 'static> Receiver<T> {
    /// `None` if the other end is gone.
    pub async fn receive(&self) -> Option<T> {
        self.0.recv().await
    }
}
