//! Two streams of one core, and everything that goes through them.

use std::{future::poll_fn, time::Duration};

use glommio::LocalExecutorBuilder;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;
use crate::os::{
    self,
    net::{Address, Listener, Sharing, bind},
};

const ANSWER: u8 = 0x5a;

fn secrets(directory: &std::path::Path, refuses_tls13: bool) -> Arc<Secrets> {
    let (cert_file, key_file) = self_signed(directory, &["127.0.0.1".to_owned()], 1).unwrap();
    let files = TlsFiles { cert_file, key_file, is_self_signed: true, refuses_tls13, ..TlsFiles::default() };
    Secrets::load(files).unwrap()
}

/// Two ends of one connection.
async fn pair(secrets: &Arc<Secrets>, protocols: &'static [&'static [u8]]) -> (Stream, Stream) {
    let listener = bind(&Address::Tcp("127.0.0.1:0".parse().unwrap()), 1, Sharing::Alone).unwrap().sockets.remove(0);
    let Address::Tcp(address) = listener.local_address().unwrap() else { unreachable!() };
    let listener = Listener::new(listener);
    let accepting = async {
        let mut socket = listener.accept().await.unwrap();
        // As on a listener with and without TLS: some bytes were read before there was a session.
        let mut first = [0; 7];
        let count = socket.receive(&mut first).await.unwrap();
        let first = Bytes::copy_from_slice(&first[..count]);
        secrets.accept(socket, first, protocols).await.unwrap_or_else(|rejected| panic!("{}", rejected.error))
    };
    let connecting = async {
        let socket = Socket::connect(address).await.unwrap();
        secrets.connect(socket, "127.0.0.1").await.unwrap()
    };
    futures_lite::future::zip(accepting, connecting).await
}

async fn send_all(stream: &mut Stream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let count = poll_fn(|context| stream.poll_send(context, bytes)).await.unwrap();
        bytes = &bytes[count..];
    }
    poll_fn(|context| stream.poll_flush(context)).await.unwrap();
    assert_eq!(stream.unsent(), 0);
}

#[test]
fn all_bytes_arrive_in_order_whatever_the_buffers() {
    LocalExecutorBuilder::default().make().unwrap().run(async {
        let directory = tempfile::tempdir().unwrap();
        for (round, refuses_tls13) in [false, true].into_iter().enumerate() {
            let secrets = secrets(directory.path(), refuses_tls13);
            let (mut here, mut there) = pair(&secrets, &[]).await;
            let mut random = SmallRng::seed_from_u64(round as u64);
            let total = 3_000_000;
            let sent: Vec<u8> = (0..total).map(|_| random.random()).collect();
            let expected = sent.clone();
            let sending = async move {
                let mut at = 0;
                while at < sent.len() {
                    let count = random.random_range(1..=[10, 1000, 20_000, 700_000][at % 4]).min(sent.len() - at);
                    send_all(&mut there, &sent[at..at + count]).await;
                    at += count;
                }
                let mut answer = [0];
                assert_eq!(there.receive(&mut answer).await.unwrap(), 1);
                assert_eq!(answer[0], ANSWER);
                poll_fn(|context| std::task::Poll::Ready(there.shutdown_send(context))).await.unwrap();
            };
            let receiving = async move {
                let mut received = Vec::new();
                let mut random = SmallRng::seed_from_u64(7);
                while received.len() < total {
                    let mut buffer = vec![0; random.random_range(1..=[3, 5000, 17_000, 200_000][received.len() % 4])];
                    let count = here.receive(&mut buffer).await.unwrap();
                    assert!(count > 0, "ended after {}", received.len());
                    received.extend_from_slice(&buffer[..count]);
                }
                assert!(received == expected);
                send_all(&mut here, &[ANSWER]).await;
                assert_eq!(here.receive(&mut [0; 10]).await.unwrap(), 0, "an announced end");
            };
            let both = futures_lite::future::zip(sending, receiving);
            os::timeout(Duration::from_secs(60), both).await.expect("it does not hang");
        }
    });
}

#[test]
fn the_protocol_is_agreed_on() {
    LocalExecutorBuilder::default().make().unwrap().run(async {
        let directory = tempfile::tempdir().unwrap();
        let (here, there) = pair(&secrets(directory.path(), false), &[b"h2"]).await;
        assert!(here.is_secure() && here.protocol().is_empty(), "the client offers none");
        assert_eq!((here.common_name(), there.common_name()), (None, None));
    });
}
