//! An election: sessions that want to lead under a name, and who follows the leader, in etcd's recipe (`service::queue`).

use std::collections::VecDeque;

use bytes::Bytes;

use super::error::Error as CallError;
use super::session::Session;
use super::watch::Watch;
use super::{Call, Client, method, queue, watch};
use crate::proto::etcdserverpb::{RangeResponse, ResponseHeader, TxnRequest, WatchCreateRequest};
use crate::proto::v3electionpb::LeaderResponse;
use crate::service::election::{Candidate, NO_LEADER, NOT_LEADER, Need, Observer};
use crate::service::queue as asked;

/// Why an election gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{NOT_LEADER}")]
    NotLeader,
    #[error("{NO_LEADER}")]
    NoLeader,
}

/// One candidate for a name.
pub struct Election {
    client: Client,
    candidate: Candidate,
    campaigns: bool,
    header: ResponseHeader,
}

impl Election {
    /// A candidate of a session; nothing is sent yet.
    #[must_use]
    pub fn new(session: &Session, name: &[u8]) -> Self {
        let candidate = Candidate::new(name, session.lease());
        Self { client: session.client().clone(), candidate, campaigns: false, header: ResponseHeader::default() }
    }

    /// Waits until this candidate leads, with `value`. A caller who drops this while it waits calls [`Self::resign`].
    pub async fn campaign(&mut self, value: &Bytes) -> Result<(), Error> {
        let response = self.client.call(&method::TXN, &self.candidate.join(value), Call::default()).await?;
        let differs = self.candidate.on_joined(&response, value);
        self.campaigns = true;
        let header = response.header.unwrap_or_default();
        if differs && let Err(error) = self.proclaim(value).await {
            // The lease ends the key if this does not.
            let _kept = self.resign(Call::default()).await;
            return Err(error);
        }
        if let Err(error) = queue::wait_for_turn(&self.client, &self.candidate.next_before()).await {
            self.campaigns = false;
            return Err(error.into());
        }
        self.header = header;
        Ok(())
    }

    /// Shows another value without another election.
    pub async fn proclaim(&mut self, value: &Bytes) -> Result<(), Error> {
        if !self.campaigns {
            return Err(Error::NotLeader);
        }
        if self.commit(&self.candidate.proclaim(value), Call::default()).await? {
            Ok(())
        } else {
            Err(Error::NotLeader)
        }
    }

    /// Leaves the queue, as leader or before.
    pub async fn resign(&mut self, call: Call) -> Result<(), Error> {
        if self.campaigns {
            self.campaigns = false;
            self.commit(&self.candidate.resign(), call).await?;
        }
        Ok(())
    }

    async fn commit(&mut self, request: &TxnRequest, call: Call) -> Result<bool, Error> {
        let response = self.client.call(&method::TXN, request, call).await?;
        self.header = response.header.unwrap_or_default();
        Ok(response.succeeded)
    }

    /// The key that stands for the candidate.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        &self.candidate.key
    }

    /// Header of the last proposal that succeeded.
    #[must_use]
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }
}

impl Client {
    /// Who leads under `name`.
    pub async fn leader(&self, name: &[u8], call: Call) -> Result<RangeResponse, Error> {
        let response = self.call(&method::RANGE, &asked::first(&asked::prefix(name)), call).await?;
        if response.kvs.is_empty() { Err(Error::NoLeader) } else { Ok(response) }
    }

    /// Follows the leaders of `name`, the present one first.
    #[must_use]
    pub fn observe(&self, name: &[u8]) -> Leaders {
        Leaders { client: self.clone(), observer: Observer::new(name), watch: None, waiting: VecDeque::new() }
    }
}

/// The leaders of one name and their values, in order. Not every value of the past is seen, the present one always is.
pub struct Leaders {
    client: Client,
    observer: Observer,
    /// The watch of the keys that the observer follows.
    watch: Option<Box<Watch>>,
    /// What one response of the watch has shown at once.
    waiting: VecDeque<LeaderResponse>,
}

impl Leaders {
    /// The next leader or value.
    pub async fn next(&mut self) -> Result<LeaderResponse, CallError> {
        loop {
            if let Some(leader) = self.waiting.pop_front() {
                return Ok(leader);
            }
            match self.observer.need() {
                Need::Read(request) => {
                    self.watch = None;
                    let response = self.client.call(&method::RANGE, &request, Call::default()).await?;
                    self.waiting.extend(self.observer.on_read(response));
                }
                Need::Events { key, range_end, from } => {
                    let create =
                        WatchCreateRequest { key, range_end, start_revision: from, ..WatchCreateRequest::default() };
                    let client = &self.client;
                    self.watch.get_or_insert_with(|| Box::new(client.watch(create, Call::default())));
                    self.take_events().await?;
                }
            }
        }
    }

    /// Takes in one response of the watch.
    async fn take_events(&mut self) -> Result<(), CallError> {
        let Some(watch) = &mut self.watch else {
            return Ok(());
        };
        let Some(response) = watch.next().await? else {
            return Err(CallError::Broken("watch ended".to_owned()));
        };
        if let Some(error) = watch::cancellation(&response) {
            return Err(error);
        }
        if self.observer.on_events(response.header.unwrap_or_default(), &response.events, &mut self.waiting) {
            self.watch = None;
        }
        Ok(())
    }
}
