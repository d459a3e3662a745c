//! What the network of the tests promises.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::harness::{
    proxy::{Caller, Network, Proxy, Rule, caller},
    run,
};

const A: u64 = 0xa;
const B: u64 = 0xb;
const MESSAGE: &str = "POST /raft HTTP/1.1\r\nX-Server-From: a\r\n\r\n";
const STREAM: &str = "GET /raft/stream/msgappv2/b HTTP/1.1\r\nx-server-from: a\r\n\r\n";
/// Long enough for bytes that pass, and short enough to wait for those that do not.
const MOMENT: Duration = Duration::from_millis(200);

/// Rules hold for their link alone, at once, and until they are lifted.
pub fn rules_hold() {
    assert_eq!(caller(MESSAGE), Caller { from: Some(A), stream: false });
    assert_eq!(caller(STREAM), Caller { from: Some(A), stream: true });
    assert_eq!(caller("PRI * HTTP/2.0\r\n\r\n"), Caller::default());
    run(async {
        let network = Network::new();
        let proxy = Proxy::start(&network);
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        proxy.lead_to(echo.local_addr().unwrap().port());
        proxy.belongs_to(B);
        let serving = tokio::spawn(serve(echo));
        let (mut message, mut stream) = (open(&proxy, MESSAGE).await, open(&proxy, STREAM).await);
        assert_eq!((echoes(&mut message).await, echoes(&mut stream).await), (Seen::Echo, Seen::Echo));

        network.set(Some(A), Some(B), Rule::Cut);
        assert_eq!((echoes(&mut message).await, echoes(&mut stream).await), (Seen::End, Seen::Echo));
        let mut refused = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        refused.write_all(MESSAGE.as_bytes()).await.unwrap();
        assert_eq!(echoes(&mut refused).await, Seen::End);

        network.heal();
        let mut message = open(&proxy, MESSAGE).await;
        network.set(Some(A), Some(B), Rule::Swallow);
        assert_eq!(echoes(&mut message).await, Seen::Nothing);
        network.heal();
        assert_eq!(echoes(&mut message).await, Seen::End);
        network.isolate(A, &[B], Rule::Delay(Duration::from_millis(1)));
        assert_eq!(echoes(&mut stream).await, Seen::Echo);
        serving.abort();
    });
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Echo,
    Nothing,
    End,
}

/// A server that sends back what it gets.
async fn serve(listener: TcpListener) {
    while let Ok((mut client, _)) = listener.accept().await {
        drop(tokio::spawn(async move {
            let (mut from, mut to) = client.split();
            tokio::io::copy(&mut from, &mut to).await.unwrap_or_default()
        }));
    }
}

async fn open(proxy: &Proxy, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut echo = vec![0; head.len()];
    stream.read_exact(&mut echo).await.unwrap();
    stream
}

async fn echoes(stream: &mut TcpStream) -> Seen {
    let exchange = async {
        stream.write_all(b"ping").await?;
        let mut echo = [0; 4];
        stream.read_exact(&mut echo).await
    };
    match tokio::time::timeout(MOMENT, exchange).await {
        Ok(Ok(_)) => Seen::Echo,
        Ok(Err(error)) => {
            assert!(error.kind() != io::ErrorKind::InvalidInput);
            Seen::End
        }
        Err(_) => Seen::Nothing,
    }
}
