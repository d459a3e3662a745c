//! One connection to one address: dialled, greeted, and driven by a task of its own.
//!
//! A connection stands once the other end has answered a ping: one that accepts and says nothing, or closes at once, was never there,
//! so no call is lost on it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::Ping;
use h2::client::SendRequest;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;

use super::pings::Pings;
use super::tls::Tls;

const WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(String),
    Unix(String),
}

/// Where an endpoint is, and the name that its certificate has to have if it has one.
pub(super) struct Target {
    pub address: Address,
    pub tls: Option<(Tls, ServerName<'static>)>,
}

/// A connection that stands.
#[derive(Clone)]
pub(super) struct Dialled {
    pub requests: SendRequest<Bytes>,
    /// Held as long as a call is open.
    pub in_use: Arc<()>,
}

/// Connects and waits for the other end's first word.
pub(super) async fn dial(target: &Target, pings: Option<Pings>) -> io::Result<Dialled> {
    match &target.address {
        Address::Tcp(host) => {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host(host).await?.collect();
            let stream = TcpStream::connect(addresses.as_slice()).await?;
            // Requests are small and each one waits for its answer.
            stream.set_nodelay(true)?;
            secure(target, stream, pings).await
        }
        Address::Unix(path) => secure(target, UnixStream::connect(path).await?, pings).await,
    }
}

async fn secure<T>(target: &Target, stream: T, pings: Option<Pings>) -> io::Result<Dialled>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match &target.tls {
        None => handshake(stream, pings).await,
        Some((tls, name)) => handshake(tls.secure(stream, name.clone()).await?, pings).await,
    }
}

async fn handshake<T>(stream: T, pings: Option<Pings>) -> io::Result<Dialled>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let (requests, mut connection) = builder.handshake(stream).await.map_err(io::Error::other)?;
    let in_use = Arc::new(());
    let token = Arc::downgrade(&in_use);
    let mut sender = connection.ping_pong().expect("taken only here");
    let (greets, greeted) = oneshot::channel();
    // The driver ends with the connection; what it has to say reaches the streams as their errors.
    tokio::spawn(async move {
        let watched = async {
            if sender.ping(Ping::opaque()).await.is_err() {
                // The connection says why.
                return std::future::pending().await;
            }
            // The caller may have given up waiting; the connection is closed with its last handle.
            let _given_up = greets.send(());
            match pings {
                Some(pings) => pings.watch(sender, token).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = connection => ended.unwrap_or_default(),
            () = watched => {}
        }
    });
    greeted
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::ConnectionReset, "the connection ended before it served"))?;
    Ok(Dialled { requests, in_use })
}
