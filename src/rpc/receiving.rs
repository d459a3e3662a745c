//! A unary call's one message, from DATA that may come in pieces.

use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};

use super::{
    call::Call,
    frame::{Assembler, Payload},
    head::Form,
    status::{Code, Status},
};

/// DATA smaller than this keeps its part of the window until its call ends, which saves a lock per request.
const RELEASE_FROM_BYTES: usize = 1024;

/// A unary call whose message is not complete.
pub(super) struct Receiving {
    pub serial: u64,
    pub call: Call,
    pub form: Form,
    pub respond: SendResponse<Payload>,
    stream: RecvStream,
    assembler: Assembler,
}

/// The state of the message.
pub(super) enum Received {
    Message(Bytes),
    Refused(Status),
    /// The client reset the stream.
    Gone,
    /// The message is incomplete.
    Waiting,
}

impl Receiving {
    pub(super) fn new(call: Call, form: Form, respond: SendResponse<Payload>, stream: RecvStream) -> Receiving {
        let assembler = Assembler::new(form.encoding);
        Receiving { serial: 0, call, form, respond, stream, assembler }
    }

    /// Bytes held for the message.
    pub(super) fn held(&self) -> usize {
        self.assembler.held()
    }

    /// Bytes that the message was unpacked to, if it came compressed.
    pub(super) fn decompressed(&self) -> usize {
        self.assembler.decompressed()
    }

    /// Takes the DATA that has arrived. Like grpc-go, does not wait for the end of the stream and ignores bytes after the message.
    pub(super) fn proceed(&mut self, context: &mut Context<'_>, limit: usize) -> Received {
        loop {
            match self.stream.poll_data(context) {
                Poll::Pending => return Received::Waiting,
                Poll::Ready(Some(Err(_))) => return Received::Gone,
                Poll::Ready(None) if self.assembler.is_torn() => return end_of_file("unexpected EOF"),
                Poll::Ready(None) => return end_of_file("EOF"),
                Poll::Ready(Some(Ok(data))) => {
                    if data.len() >= RELEASE_FROM_BYTES {
                        // Fails only when the stream has ended, which the next poll reports.
                        let _ = self.stream.flow_control().release_capacity(data.len());
                    }
                    self.assembler.push(data);
                }
            }
            match self.assembler.next(limit) {
                Ok(None) => {}
                Ok(Some(message)) => return Received::Message(message),
                Err(status) => return Received::Refused(status),
            }
        }
    }
}

/// grpc-go's unary path turns io.EOF into Unknown.
fn end_of_file(text: &'static str) -> Received {
    Received::Refused(Status::new(Code::Unknown, text))
}
