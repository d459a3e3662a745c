//! Compressed answers.

use std::io::Read;

use flate2::read::GzDecoder;

use super::{server::pattern, *};

const GZIP: [(&str, &str); 1] = [("grpc-encoding", "gzip")];

/// The messages of an answer, and which of them came compressed.
#[derive(Debug, PartialEq, Eq)]
struct Unpacked {
    announced: bool,
    messages: Vec<Vec<u8>>,
    packed: Vec<bool>,
    code: String,
}

async fn ask(client: &SendRequest<Bytes>, path: &str, extra: &[(&str, &str)], body: Bytes) -> Unpacked {
    let mut client = client.clone().ready().await.unwrap();
    let (response, mut stream) = client.send_request(request(path, extra), false).unwrap();
    stream.send_data(body, true).unwrap();
    let (head, mut body) = response.await.unwrap().into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_else(|| head.headers.clone());
    let (mut messages, mut packed) = (Vec::new(), Vec::new());
    let mut rest = &bytes[..];
    while let Some((&[flag, a, b, c, d], after)) = rest.split_first_chunk() {
        let (message, after) = after.split_at(u32::from_be_bytes([a, b, c, d]) as usize);
        rest = after;
        packed.push(flag == 1);
        let mut plain = Vec::new();
        if flag == 1 {
            GzDecoder::new(message).read_to_end(&mut plain).unwrap();
        } else {
            plain.extend_from_slice(message);
        }
        messages.push(plain);
    }
    let announced = head.headers.get("grpc-encoding").is_some_and(|value| value == "gzip");
    Unpacked { announced, messages, packed, code: trailers["grpc-status"].to_str().unwrap().to_owned() }
}

#[test]
fn an_answer_is_packed_like_its_request() {
    with_server(Settings::default(), |address, _| async move {
        let client = connect(address).await;
        let of = |messages: Vec<Vec<u8>>, is_packed| Unpacked {
            announced: true,
            packed: vec![is_packed; messages.len()],
            messages,
            code: "0".to_owned(),
        };
        for path in ["/test.Echo/Echo", "/test.Echo/Later", "/test.Stream/Echo"] {
            for length in [1, 1000, 100_000, 1_000_000] {
                let message = vec![b'm'; length];
                let answer = ask(&client, path, &GZIP, framed(&message)).await;
                assert_eq!(answer, of(vec![message], true), "{path} {length}");
            }
            let empty = ask(&client, path, &GZIP, framed(b"")).await;
            assert_eq!(empty, of(vec![Vec::new()], false), "{path}: like grpc-go, not an empty message");
            let plain = ask(&client, path, &[("grpc-accept-encoding", "gzip")], framed(b"m")).await;
            assert_eq!((plain.announced, plain.packed), (false, vec![false]), "{path}");
        }
        let counted = ask(&client, "/test.Stream/Count", &GZIP, framed(b"20")).await;
        assert_eq!(counted, of((0..20).map(|number| vec![number; 20]).collect(), true));
        let refused = ask(&client, "/test.Echo/Fail", &GZIP, framed(b"")).await;
        assert_eq!((refused.announced, &*refused.code), (false, "5"));
    });
}

#[test]
fn a_large_answer_is_packed_in_slices_or_not_at_all() {
    with_server(Settings::default(), |address, _| async move {
        let client = connect(address).await;
        for (length, is_packed) in [(70_000_u64, true), (4 << 20, true), ((4 << 20) + 1, false)] {
            let answer = ask(&client, "/test.Echo/Large", &GZIP, framed(length.to_string().as_bytes())).await;
            let expected: Vec<u8> = (0..length).map(pattern).collect();
            assert!(answer.messages == [expected], "{length}");
            assert_eq!((answer.announced, answer.packed), (true, vec![is_packed]), "{length}");
        }
        // More at once than a connection may hold while it packs.
        let mut tasks = Vec::new();
        for _ in 0..20 {
            let client = client.clone();
            tasks.push(tokio::spawn(async move { ask(&client, "/test.Echo/Large", &GZIP, framed(b"4000000")).await }));
        }
        let mut packed = 0;
        for task in tasks {
            let answer = task.await.unwrap();
            assert_eq!((answer.messages[0].len(), &*answer.code), (4_000_000, "0"));
            packed += usize::from(answer.packed[0]);
        }
        assert!((1..20).contains(&packed), "{packed} of 20 were packed");
        let again = ask(&client, "/test.Echo/Large", &GZIP, framed(b"4000000")).await;
        assert_eq!(again.packed, [true], "what was held is free again");
    });
}
