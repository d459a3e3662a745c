//! Waiting for one's turn in the queue behind a lock or an election (`service::queue`).

use bytes::Bytes;

use super::error::Error;
use super::{Call, Client, method, watch};
use crate::proto::etcdserverpb::{RangeRequest, WatchCreateRequest};
use crate::proto::mvccpb::event::EventType;
use crate::service::queue::revision;

/// Waits until `next_before` finds nobody. Whoever it finds is waited for, one after the other.
pub(super) async fn wait_for_turn(client: &Client, next_before: &RangeRequest) -> Result<(), Error> {
    loop {
        let response = client.call(&method::RANGE, next_before, Call::default()).await?;
        let from = revision(&response);
        match response.kvs.into_iter().next() {
            Some(ahead) => wait_for_deletion(client, ahead.key, from).await?,
            None => return Ok(()),
        }
    }
}

async fn wait_for_deletion(client: &Client, key: Bytes, from: i64) -> Result<(), Error> {
    let request = WatchCreateRequest { key, start_revision: from, ..WatchCreateRequest::default() };
    let mut watch = client.watch(request, Call::default());
    while let Some(response) = watch.next().await? {
        if response.events.iter().any(|event| event.r#type == EventType::Delete as i32) {
            return Ok(());
        }
        if let Some(error) = watch::cancellation(&response) {
            return Err(error);
        }
    }
    Err(Error::Broken("lost watcher waiting for delete".to_owned()))
}
