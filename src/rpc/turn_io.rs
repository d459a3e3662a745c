//! The bytes of one turn: at most one receive before it, one send after it.
//!
//! ```text
//! begin    stream --recv--> core's input buffer --\
//! turn                               intake --> h2 (reads until no bytes are left, writes at any time)
//! end      stream <--send-- core's output buffer <-/
//! ```
//!
//! The stream decrypts and encrypts, if it is encrypted.
//!
//! Both buffers belong to the core, so an idle connection holds none; bytes that a turn could not use or send move to
//! the connection until its next turn.
//!
//! Invariants
//! 1. Between `begin` and `end` no other connection of the core runs, so the core's buffers are this connection's.
//! 2. Bytes leave in the order they were written: `unsent` before the core's output.
//! 3. h2 never reaches the socket except when more than TURN_OUTPUT_BYTES wait.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{intake::Intake, pings::FrameWalker};
use crate::{
    base::limits::{TURN_INPUT_BYTES, TURN_OUTPUT_BYTES},
    os::tls::Stream,
};

/// The buffers that all connections of a core use in turn.
pub(super) struct CoreBuffers {
    input: Box<[u8]>,
    output: Vec<u8>,
}

impl CoreBuffers {
    pub(super) fn new() -> CoreBuffers {
        CoreBuffers {
            input: vec![0; TURN_INPUT_BYTES].into_boxed_slice(),
            output: Vec::with_capacity(2 * TURN_OUTPUT_BYTES),
        }
    }
}

/// The connection's side of the adapter.
pub(super) struct TurnIo {
    stream: Stream,
    buffers: Rc<RefCell<CoreBuffers>>,
    /// This connection's part of the core's input buffer: `input_from..input_to`.
    input_from: usize,
    input_to: usize,
    /// Input that an earlier turn left, or that came before HTTP/2 was known.
    leftover: Bytes,
    /// Output that the socket did not take.
    unsent: BytesMut,
    /// The socket may hold more bytes.
    more: bool,
    ended: bool,
    send_closed: bool,
    /// Filters the bytes that h2 reads.
    pub intake: Intake,
    /// Follows the frames that h2 writes.
    pub output_walker: FrameWalker,
}

impl TurnIo {
    /// `first` was read from `stream` already.
    pub(super) fn new(stream: Stream, first: Bytes, buffers: Rc<RefCell<CoreBuffers>>) -> TurnIo {
        TurnIo {
            stream,
            buffers,
            input_from: 0,
            input_to: 0,
            leftover: first,
            unsent: BytesMut::new(),
            more: false,
            ended: false,
            send_closed: false,
            intake: Intake::new(),
            output_walker: FrameWalker::default(),
        }
    }

    /// Starts a turn with one receive, unless there are bytes left. Returns the number of bytes received.
    pub(super) fn begin(&mut self, context: &mut Context<'_>) -> io::Result<usize> {
        if !self.leftover.is_empty() || self.ended {
            return Ok(0);
        }
        let mut buffers = self.buffers.borrow_mut();
        match self.stream.poll_receive(context, &mut buffers.input) {
            Poll::Pending => {
                self.more = false;
                Ok(0)
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(count)) => {
                self.ended = count == 0;
                self.more = self.stream.may_hold_more(count, buffers.input.len());
                (self.input_from, self.input_to) = (0, count);
                Ok(count)
            }
        }
    }

    /// Ends a turn: sends, keeps the bytes left, and registers for the next input.
    /// `true` if another turn should follow at once.
    pub(super) fn end(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        self.send(context)?;
        let mut buffers = self.buffers.borrow_mut();
        self.unsent.extend_from_slice(&buffers.output);
        buffers.output.clear();
        if self.input_from < self.input_to {
            self.leftover = Bytes::copy_from_slice(&buffers.input[self.input_from..self.input_to]);
            (self.input_from, self.input_to) = (0, 0);
        }
        if self.ended {
            return Ok(false);
        }
        if !self.leftover.is_empty() {
            // h2 stopped reading because its output does not drain; the socket wakes the task when it does.
            return Ok(self.unsent.is_empty() && self.stream.unsent() == 0);
        }
        if self.more {
            return Ok(true);
        }
        // The socket was empty just now, so this registers the waker without a system call.
        match self.stream.poll_receive(context, &mut buffers.input) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(count)) => {
                self.ended = count == 0;
                self.leftover = Bytes::copy_from_slice(&buffers.input[..count]);
                Ok(true)
            }
        }
    }

    /// Sends as much as the socket takes of what was written so far.
    fn send(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.stream.poll_flush(context)?.is_pending() {
            return Ok(());
        }
        while !self.unsent.is_empty() {
            match self.stream.poll_send(context, &self.unsent) {
                Poll::Pending => return Ok(()),
                Poll::Ready(count) => self.unsent.advance(count?),
            }
        }
        let mut buffers = self.buffers.borrow_mut();
        let mut sent = 0;
        while sent < buffers.output.len() {
            match self.stream.poll_send(context, &buffers.output[sent..]) {
                Poll::Pending => break,
                Poll::Ready(count) => sent += count?,
            }
        }
        buffers.output.drain(..sent);
        Ok(())
    }

    /// Bytes written but not sent.
    pub(super) fn waiting(&self) -> usize {
        self.unsent.len() + self.stream.unsent() + self.buffers.borrow().output.len()
    }

    /// After an error of the socket: removes this connection's bytes from the core's buffers.
    pub(super) fn forget(&mut self) {
        self.buffers.borrow_mut().output.clear();
    }

    /// Writes bytes after everything that h2 wrote.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.buffers.borrow_mut().output.extend_from_slice(bytes);
    }

    /// After the last turn: sends the rest, then reads and discards until the client closes, so that the kernel
    /// does not answer unread bytes with a reset that would overtake the last frames.
    pub(super) fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send(context)?;
        if !self.unsent.is_empty() || self.stream.unsent() > 0 {
            return Poll::Pending;
        }
        if !self.send_closed {
            self.send_closed = true;
            self.stream.shutdown_send(context)?;
        }
        let mut buffers = self.buffers.borrow_mut();
        while !self.ended {
            match self.stream.poll_receive(context, &mut buffers.input) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(count) => self.ended = count? == 0,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// h2's side of the adapter.
pub(super) struct H2Io(pub Rc<RefCell<TurnIo>>);

impl AsyncRead for H2Io {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let io = &mut *self.0.borrow_mut();
        let filled = into.filled().len();
        let used = io.intake.pass(&io.leftover, into);
        io.leftover.advance(used);
        if io.leftover.is_empty() {
            let buffers = io.buffers.borrow();
            io.input_from += io.intake.pass(&buffers.input[io.input_from..io.input_to], into);
        }
        if into.filled().len() > filled {
            return Poll::Ready(Ok(()));
        }
        io.intake.on_drained();
        // h2 gets no end of a broken connection, which its task closes.
        if io.ended && io.intake.broken().is_none() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl AsyncWrite for H2Io {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut io = self.0.borrow_mut();
        if io.waiting() + bytes.len() > TURN_OUTPUT_BYTES && io.waiting() > 0 {
            io.send(context)?;
            if io.waiting() + bytes.len() > TURN_OUTPUT_BYTES && io.waiting() > 0 {
                return Poll::Pending;
            }
        }
        io.output_walker.walk(bytes);
        io.write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
