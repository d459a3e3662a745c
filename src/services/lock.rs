//! The Lock service on one core.
//!
//! A call of Lock is a task that may wait for ever: it ends with the lock, with the call, or with the server. The queue is in the
//! store, so which member or core serves a contender makes no difference.

use std::rc::Rc;

use bytes::Bytes;
use futures_lite::future;

use crate::{
    proto::{
        etcdserverpb::ResponseHeader,
        v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse},
    },
    rpc::{Code, Reply, Responder, Status},
    service::{
        lock::{Contender, SESSION_EXPIRED},
        queue,
    },
    services::{Services, credentials::Credentials, encoded},
};

impl Services {
    pub(super) fn lock(self: &Rc<Self>, who: Credentials, message: Bytes, responder: Responder) -> Option<Reply> {
        self.answer_later(message, responder, async move |front, request: LockRequest, responder| {
            front.hold(&who, &request, responder).await.and_then(|response| encoded(&response))
        })
    }

    pub(super) fn unlock(self: &Rc<Self>, who: Credentials, message: Bytes, responder: Responder) -> Option<Reply> {
        self.answer_later(message, responder, async move |front, request: UnlockRequest, _| {
            let deleted = front.delete(&who, &request.key).await?;
            encoded(&UnlockResponse { header: deleted.header })
        })
    }

    async fn hold(
        self: &Rc<Self>,
        who: &Credentials,
        request: &LockRequest,
        responder: &Responder,
    ) -> Result<LockResponse, Status> {
        let mut contender = Contender::new(&request.name, self.session(who, request.lease).await?);
        let joined = self.commit(who, &contender.join()).await?;
        let mut header = joined.header;
        if !contender.on_joined(&joined) {
            header = match while_wanted(responder, self.wait_for_lock(who, &contender)).await {
                Ok(Some(header)) => header,
                Ok(None) => return Err(Status::new(Code::Unknown, SESSION_EXPIRED)),
                Err(status) => {
                    // The place in the queue is given up. If that fails too, the lease ends it.
                    let _kept = self.delete(who, &contender.key).await;
                    return Err(status);
                }
            };
        }
        Ok(LockResponse { header, key: contender.key })
    }

    /// `None` if the own key was gone when the turn came.
    async fn wait_for_lock(
        self: &Rc<Self>,
        who: &Credentials,
        contender: &Contender,
    ) -> Result<Option<Option<ResponseHeader>>, Status> {
        self.wait_for_turn(who, &contender.next_before()).await?;
        let own = self.read(who, &queue::read(&contender.key)).await?;
        Ok(if own.kvs.is_empty() { None } else { Some(own.header) })
    }
}

/// Does `work` as long as somebody waits for the answer.
pub(super) async fn while_wanted<T>(
    responder: &Responder,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let abandoned = async {
        responder.canceled().await;
        Err(Status::canceled())
    };
    future::or(work, abandoned).await
}
