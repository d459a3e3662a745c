//! A lock held by a session, in etcd's recipe (`service::queue`).
//!
//! The lock is held while the session's lease lives. Who acts on something outside etcd hands on [`Lock::revision`], which only
//! grows from holder to holder, so that the other side can turn down a holder whose lease ran out without its knowing.

use bytes::Bytes;

use super::error::Error as CallError;
use super::session::Session;
use super::{Call, Client, method, queue};
use crate::proto::etcdserverpb::ResponseHeader;
use crate::service::lock::{Contender, SESSION_EXPIRED};
use crate::service::queue as asked;

/// Why a lock was not acquired or given back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Call(#[from] CallError),
    /// The key was gone when the turn came.
    #[error("{SESSION_EXPIRED}")]
    SessionExpired,
    #[error("mutex: Locked by another session")]
    Locked,
    #[error("mutex: lock has already been released")]
    Released,
}

/// One contender for a name.
pub struct Lock {
    client: Client,
    contender: Contender,
    header: ResponseHeader,
}

impl Lock {
    /// A lock of `name` for a session; nothing is sent yet.
    #[must_use]
    pub fn new(session: &Session, name: &[u8]) -> Self {
        let contender = Contender::new(name, session.lease());
        Self { client: session.client().clone(), contender, header: ResponseHeader::default() }
    }

    /// Waits until the lock is held. If waiting fails the place in the queue is given up. A caller who drops this while it waits
    /// calls [`Self::release`].
    pub async fn acquire(&mut self) -> Result<(), Error> {
        if self.join().await? {
            return Ok(());
        }
        match self.wait().await {
            Err(Error::Call(error)) => {
                // The lease ends the key if this does not.
                let _kept = self.release(Call::default()).await;
                Err(Error::Call(error))
            }
            outcome => outcome,
        }
    }

    /// Holds the lock now or not at all.
    pub async fn try_acquire(&mut self) -> Result<(), Error> {
        if self.join().await? {
            return Ok(());
        }
        self.release(Call::default()).await?;
        Err(Error::Locked)
    }

    /// Gives the lock, or the place in its queue, back.
    pub async fn release(&mut self, call: Call) -> Result<(), Error> {
        if !self.contender.is_in_queue() {
            return Err(Error::Released);
        }
        self.client.call(&method::DELETE_RANGE, &asked::delete(&self.contender.key), call).await?;
        self.contender.on_left();
        Ok(())
    }

    /// The key that stands for the lock.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        &self.contender.key
    }

    /// The store's revision when the lock was acquired: greater than that of every holder before.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.header.revision
    }

    async fn join(&mut self) -> Result<bool, Error> {
        let response = self.client.call(&method::TXN, &self.contender.join(), Call::default()).await?;
        let held = self.contender.on_joined(&response);
        self.header = response.header.unwrap_or_default();
        Ok(held)
    }

    async fn wait(&mut self) -> Result<(), Error> {
        queue::wait_for_turn(&self.client, &self.contender.next_before()).await?;
        let own = self.client.call(&method::RANGE, &asked::read(&self.contender.key), Call::default()).await?;
        if own.kvs.is_empty() {
            return Err(Error::SessionExpired);
        }
        self.header = own.header.unwrap_or_default();
        Ok(())
    }
}
