//! A plain HTTP/1.1 client that shows what an answer is made of, chunk by chunk.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
};

use super::child::PATIENCE;

/// The head of an answer.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

/// An answer, its body complete.
#[derive(Clone, Debug)]
pub struct Answer {
    pub head: Head,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON, or as the text that it is instead.
    pub fn json(&self) -> serde_json::Value {
        let text = String::from_utf8_lossy(&self.body).into_owned();
        serde_json::from_slice(&self.body).unwrap_or(serde_json::Value::String(text))
    }
}

/// A request whose answer may go on.
pub struct Exchange {
    reader: BufReader<TcpStream>,
}

impl Exchange {
    /// Sends a request with a body; `headers` are whole lines.
    pub fn begin(port: u16, start: &str, headers: &[&str], body: &[u8]) -> Exchange {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        let mut request = format!("{start} HTTP/1.1\r\nhost: localhost\r\n");
        for line in headers {
            request.push_str(line);
            request.push_str("\r\n");
        }
        request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        stream.write_all(&[request.as_bytes(), body].concat()).expect("the server takes a request");
        Exchange { reader: BufReader::new(stream) }
    }

    /// The answers to what was sent on a connection.
    pub fn of(stream: TcpStream) -> Exchange {
        Exchange { reader: BufReader::new(stream) }
    }

    pub fn head(&mut self) -> Head {
        let start = self.line();
        let status = start.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut head = Head { status: status.unwrap_or_else(|| panic!("no status: {start:?}")), headers: Vec::new() };
        loop {
            let line = self.line();
            if line.is_empty() {
                return head;
            }
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}"));
            head.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// The next chunk of a chunked body; `None` after the last.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.line();
        let size = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("no size of a chunk: {size:?}"));
        let chunk = self.bytes(size);
        self.line();
        (size > 0).then_some(chunk)
    }

    /// The answer to its end.
    pub fn answer(&mut self) -> Answer {
        let head = self.head();
        let is_chunked = head.header("transfer-encoding") == Some("chunked");
        let body = match head.header("content-length") {
            Some(length) => self.bytes(length.parse().expect("a length")),
            None if is_chunked => std::iter::from_fn(|| self.chunk()).flatten().collect(),
            None => Vec::new(),
        };
        Answer { head, body }
    }

    /// The client leaves, as one that closes its socket while it reads.
    pub fn leave(self) {
        // Fails if the server has closed first.
        let _ = self.reader.get_ref().shutdown(Shutdown::Both);
    }

    /// The connection, when nothing of it has been read that was not asked for.
    pub fn into_stream(self) -> TcpStream {
        let (stream, rest) = self.into_parts();
        assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
        stream
    }

    /// The connection, and what came of it after the answer.
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        let rest = self.reader.buffer().to_vec();
        (self.reader.into_inner(), rest)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("an answer");
        assert!(line.ends_with('\n'), "the answer ends in the middle: {line:?}");
        line.trim_end().to_owned()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).expect("all of the answer");
        bytes
    }
}

/// Asks for the whole answer.
pub fn ask(port: u16, start: &str, headers: &[&str], body: &str) -> Answer {
    Exchange::begin(port, start, headers, body.as_bytes()).answer()
}
