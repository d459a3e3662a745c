//! The accept loop of one core, and its end.

use std::{io, rc::Rc, time::Duration};

use futures_lite::future;

use super::{
    connection::{self, Door},
    handshakes::Handshakes,
    http1::WebHandler,
};
use crate::{
    base::limits::{ACCEPT_PAUSE_MS, CONNECTIONS_PER_CORE_MAX},
    os::{self, net::Listener},
    rpc::{Drain, Handler, Server, Stage},
};

/// One front core: its gRPC server and the connections it serves.
pub struct Front<H> {
    server: Rc<Server<H>>,
    drain: Rc<Drain>,
    handshakes: Rc<Handshakes>,
}

impl<H: Handler> Front<H> {
    /// Serves gRPC with `server`.
    pub fn new(server: Rc<Server<H>>) -> Rc<Front<H>> {
        Rc::new(Front { server, drain: Drain::new(), handshakes: Rc::default() })
    }

    pub fn server(&self) -> &Rc<Server<H>> {
        &self.server
    }

    /// Open connections of this core.
    pub fn connections(&self) -> usize {
        self.drain.members()
    }

    /// Accepts and serves until [`Front::stop`]. May run for several listeners at once.
    pub async fn run<W: WebHandler>(self: Rc<Self>, listener: Listener, door: Door<W>) {
        while let Some(accepted) = future::or(
            async {
                self.drain.reached(Stage::Draining).await;
                None
            },
            async {
                if door.secrets.is_some() {
                    self.handshakes.room().await;
                }
                Some(listener.accept().await)
            },
        )
        .await
        {
            match accepted {
                Ok(socket) if self.connections() < CONNECTIONS_PER_CORE_MAX => {
                    let place = door.secrets.is_some().then(|| self.handshakes.begin());
                    let serving =
                        connection::serve(self.server.clone(), socket, self.drain.join(), door.clone(), place);
                    os::spawn_local(serving);
                }
                Ok(socket) => {
                    tracing::warn!(remote = %socket.peer(), limit = CONNECTIONS_PER_CORE_MAX, "too many connections");
                }
                Err(error) => rest_after(&error).await,
            }
        }
    }

    /// Stops: refuses new connections and calls, gives running calls `grace`, then closes everything.
    pub async fn stop(&self, grace: Duration) {
        self.drain.advance(Stage::Draining);
        if os::timeout(grace, self.drain.empty()).await.is_none() {
            tracing::info!(connections = self.connections(), "closing connections that did not end in time");
        }
        self.drain.advance(Stage::Aborting);
        self.drain.empty().await;
    }
}

/// Pauses after an error of `accept`, unless it only concerns one client that has left.
async fn rest_after(error: &io::Error) {
    let harmless = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset, io::ErrorKind::NotConnected];
    if harmless.contains(&error.kind()) {
        return;
    }
    tracing::warn!(%error, "cannot accept connections; trying again");
    os::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
}
