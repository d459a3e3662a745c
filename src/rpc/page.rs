//! A request that is not gRPC's, on a connection that serves pages too: its head, its body, and its answer.
//!
//! The page's task works on HTTP/2's stream directly, as those of streaming calls do. The bodies of a connection together hold at most
//! ASSEMBLY_BYTES_PER_CONNECTION_MAX.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream, server::SendResponse};
use http::Response;

use super::{answer, frame::Payload, head::Head};
use crate::base::limits::{ASSEMBLY_BYTES_PER_CONNECTION_MAX, STREAM_SEND_BUFFER_BYTES};

/// Answers the requests of a connection that are not gRPC's.
pub trait Pages {
    /// Answers one; it is dropped early only if its connection's core stops.
    fn serve(&self, exchange: Exchange) -> Pin<Box<dyn Future<Output = ()>>>;
}

/// The client has reset the stream, or its connection is gone.
#[derive(Debug)]
pub struct Gone;

/// One request and its answer.
pub struct Exchange {
    head: Rc<Head>,
    body: RecvStream,
    respond: SendResponse<Payload>,
    /// `None` before the answer.
    stream: Option<SendStream<Payload>>,
    held: Held,
}

/// Bytes of a body, counted with those of all bodies of the connection.
struct Held {
    own: usize,
    of_all: Rc<Cell<usize>>,
}

impl Held {
    /// `false` if there are too many.
    fn add(&mut self, count: usize) -> bool {
        self.own += count;
        self.of_all.set(self.of_all.get() + count);
        self.of_all.get() <= ASSEMBLY_BYTES_PER_CONNECTION_MAX
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of_all.set(self.of_all.get() - self.own);
    }
}

impl Exchange {
    /// `held_in_all` counts the bytes of all bodies of one connection.
    pub(super) fn new(
        head: Rc<Head>,
        respond: SendResponse<Payload>,
        body: RecvStream,
        held_in_all: &Rc<Cell<usize>>,
    ) -> Exchange {
        let held = Held { own: 0, of_all: Rc::clone(held_in_all) };
        Exchange { head, body, respond, stream: None, held }
    }

    /// Names and values of the head, pseudo-headers first.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.head.fields()
    }

    /// The whole body; `None` if it is larger than that, or larger than there is room for. It is read to its end all the same: clients
    /// take a stream that ends before their request does for broken.
    ///
    /// # Errors
    /// The client has left.
    pub async fn body(&mut self, bytes_max: usize) -> Result<Option<Bytes>, Gone> {
        let (mut collected, mut fits) = (BytesMut::new(), true);
        while let Some(data) = poll_fn(|context| self.body.poll_data(context)).await {
            let data = data.map_err(|_| Gone)?;
            // Fails only when the stream has ended, which the next poll reports.
            let _ = self.body.flow_control().release_capacity(data.len());
            fits = fits && collected.len() + data.len() <= bytes_max && self.held.add(data.len());
            match fits {
                true => collected.extend_from_slice(&data),
                false => collected = BytesMut::new(),
            }
        }
        Ok(fits.then(|| collected.freeze()))
    }

    /// Sends the head of the answer, `is_whole` if no body follows.
    ///
    /// # Errors
    /// The client has left, or HTTP/2 forbids one of the fields.
    pub fn begin(&mut self, head: Response<()>, is_whole: bool) -> Result<(), Gone> {
        self.stream = Some(self.respond.send_response(head, is_whole).map_err(|_| Gone)?);
        Ok(())
    }

    /// Sends a part of the body; returns when all of it is queued, for which it may wait until the client reads.
    ///
    /// # Errors
    /// The client has left, or the answer has not begun.
    pub async fn send(&mut self, mut bytes: Bytes) -> Result<(), Gone> {
        let stream = self.stream.as_mut().ok_or(Gone)?;
        while !bytes.is_empty() {
            let want = bytes.len().min(STREAM_SEND_BUFFER_BYTES);
            let room = poll_fn(|context| answer::poll_room(stream, context, want)).await.ok_or(Gone)?;
            let piece = bytes.split_to(room.min(bytes.len()));
            stream.send_data(Payload::raw(piece), false).map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// Ends the body.
    pub fn end(&mut self) {
        if let Some(stream) = &mut self.stream {
            // Fails only when the client has left.
            let _ = stream.send_data(Payload::raw(Bytes::new()), true);
        }
    }

    /// Resolves when the client has left.
    pub async fn gone(&mut self) {
        poll_fn(|context| self.poll_gone(context)).await;
    }

    /// [`Exchange::gone`] for hand-written futures.
    pub fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut self.stream {
            Some(stream) => stream.poll_reset(context),
            None => self.respond.poll_reset(context),
        };
        reset.map(drop)
    }
}
