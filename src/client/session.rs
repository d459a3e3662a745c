//! A session: a lease that lives as long as its owner, and what locks and elections are bound to.

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::Error;
use super::{Call, Client};

/// What etcd's clients take where nothing else is asked for.
pub const TTL_SECONDS_DEFAULT: i64 = 60;

/// A lease kept alive by a task. Dropping it ends the beats; the lease then runs out on the server.
pub struct Session {
    client: Client,
    lease: i64,
    keeper: JoinHandle<()>,
    lost: watch::Receiver<bool>,
}

impl Session {
    /// Grants a lease and keeps it alive.
    pub async fn open(client: &Client, ttl_seconds: i64) -> Result<Self, Error> {
        let lease = client.grant(ttl_seconds, Call::default()).await?.id;
        Ok(Self::of_lease(client, lease))
    }

    /// Keeps a lease alive that is there already.
    pub fn of_lease(client: &Client, lease: i64) -> Self {
        let (sender, lost) = watch::channel(false);
        let mut beats = client.keep_alive(lease);
        let keeper = tokio::spawn(async move {
            while let Ok(Some(_)) = beats.next().await {}
            // Nobody may be listening any more.
            sender.send_replace(true);
        });
        Self { client: client.clone(), lease, keeper, lost }
    }

    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    #[must_use]
    pub fn lease(&self) -> i64 {
        self.lease
    }

    /// Returns when the lease is no longer kept: it expired, was revoked, or the server refuses it.
    pub async fn lost(&self) {
        let mut lost = self.lost.clone();
        // An error means the keeper is gone, which is the same to the owner.
        let _ended = lost.wait_for(|lost| *lost).await;
    }

    /// Ends the session: everything bound to its lease goes at once.
    pub async fn close(self, call: Call) -> Result<(), Error> {
        self.keeper.abort();
        self.client.revoke(self.lease, call).await.map(|_| ())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}
