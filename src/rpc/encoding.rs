//! Encodings of messages by `grpc-encoding`: identity or gzip.
//!
//! etcd understands gzip, so clients may send it, and etcd answers with it (`packing`).
//!
//! A few bytes can unpack to gigabytes: unpacking stops one byte after the limit for messages, and a connection that has
//! unpacked DECOMPRESSED_BYTES_PER_TURN_MAX lets other tasks run (`connection`; a stream after each message, `streams`).

use std::io::{self, Read};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;

use super::{
    quoted::quoted,
    status::{Code, Status},
};

/// The encoding of the messages of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Encoding {
    #[default]
    Identity,
    Gzip,
}

impl Encoding {
    /// By its name in the request's head; empty if there is none.
    pub(super) fn find(name: &[u8]) -> Result<Encoding, Status> {
        match name {
            b"" | b"identity" => Ok(Encoding::Identity),
            b"gzip" => Ok(Encoding::Gzip),
            name => {
                let text = format!("grpc: Decompressor is not installed for grpc-encoding {}", quoted(name));
                Err(Status::new(Code::Unimplemented, text))
            }
        }
    }

    /// The message of a frame with this flag. `limit` applies after unpacking; errors are grpc-go's.
    pub(super) fn decode(self, flag: u8, message: Bytes, limit: usize) -> Result<Bytes, Status> {
        let text = match (flag, self) {
            (0, _) => return Ok(message),
            (1, Encoding::Gzip) => return unzip(&message, limit),
            (1, Encoding::Identity) => "grpc: compressed flag set with identity or empty encoding".to_owned(),
            (other, _) => format!("grpc: received unexpected payload format {other}"),
        };
        Err(Status::new(Code::Internal, text))
    }
}

fn unzip(packed: &[u8], limit: usize) -> Result<Bytes, Status> {
    let mut decoder = MultiGzDecoder::new(packed);
    // grpc-go reads the first header apart from the rest.
    let step = match decoder.header() {
        Some(_) => "failed to read decompressed data",
        None => "failed to decompress the message",
    };
    let mut message = Vec::new();
    match decoder.by_ref().take(limit as u64 + 1).read_to_end(&mut message) {
        Ok(_) if message.len() > limit => {
            let text = format!("grpc: received message after decompression larger than max {limit}");
            Err(Status::new(Code::ResourceExhausted, text))
        }
        // Without the unused capacity of the vector.
        Ok(_) => Ok(message.into_boxed_slice().into()),
        Err(error) => {
            let cause = if packed.is_empty() { "EOF" } else { cause(&error, decoder.header().is_some()) };
            Err(Status::new(Code::Internal, format!("grpc: {step}: {cause}")))
        }
    }
}

/// Go's words for the library's error. (Go also counts the bytes before corrupt input.)
fn cause(error: &io::Error, in_member: bool) -> &'static str {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return "unexpected EOF";
    }
    if !in_member {
        return "gzip: invalid header";
    }
    // The two differ in the library's text only; the tests below fail if that text changes.
    if error.to_string().contains("checksum") { "gzip: invalid checksum" } else { "flate: corrupt input" }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    fn zip(message: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(message).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(packed: &[u8], limit: usize) -> Result<Bytes, Status> {
        Encoding::Gzip.decode(1, Bytes::copy_from_slice(packed), limit)
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        for seed in 0..50 {
            println!("seed {seed}");
            let mut random = SmallRng::seed_from_u64(seed);
            let message: Vec<u8> = (0..random.random_range(0..5000)).map(|_| random.random_range(0..9)).collect();
            assert_eq!(decode(&zip(&message), message.len()).unwrap(), message);
            assert_eq!(Encoding::Gzip.decode(0, Bytes::from(message.clone()), 0).unwrap(), message);
        }
        assert_eq!(decode(&[zip(b"two "), zip(b"members")].concat(), 100).unwrap(), &b"two members"[..]);
    }

    #[test]
    fn the_limit_counts_after_unpacking() {
        let packed = zip(&vec![0; 64 << 20]);
        assert!(packed.len() < 100_000);
        let status = decode(&packed, 1000).unwrap_err();
        assert_eq!(status.code, Code::ResourceExhausted);
        assert_eq!(status.message, "grpc: received message after decompression larger than max 1000");
        assert_eq!(decode(&zip(b"abcd"), 3).unwrap_err().code, Code::ResourceExhausted);
        assert_eq!(decode(&zip(b"abc"), 3).unwrap(), &b"abc"[..]);
    }

    #[test]
    fn bad_data_is_refused_in_the_words_of_grpc_go() {
        let good = zip(b"etcd etcd etcd etcd");
        let damaged = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let head = "grpc: failed to decompress the message: ";
        let rest = "grpc: failed to read decompressed data: ";
        for (packed, step, cause) in [
            (Vec::new(), head, "EOF"),
            (good[..9].to_vec(), head, "unexpected EOF"),
            (b"no gzip at all".to_vec(), head, "gzip: invalid header"),
            (good[..14].to_vec(), rest, "unexpected EOF"),
            (good[..good.len() - 1].to_vec(), rest, "unexpected EOF"),
            (damaged(good.len() - 5, 0xaa), rest, "gzip: invalid checksum"),
            (damaged(good.len() - 1, 0xaa), rest, "gzip: invalid checksum"),
            // Block type 3 does not exist.
            (damaged(10, 0x07), rest, "flate: corrupt input"),
            ([&good[..], b"no gzip behind"].concat(), rest, "gzip: invalid header"),
            ([&good[..], b"short"].concat(), rest, "unexpected EOF"),
        ] {
            let status = decode(&packed, 1000).unwrap_err();
            assert_eq!((status.code, &*status.message), (Code::Internal, &*format!("{step}{cause}")));
        }
    }

    #[test]
    fn names() {
        assert_eq!(Encoding::find(b""), Ok(Encoding::Identity));
        assert_eq!(Encoding::find(b"gzip"), Ok(Encoding::Gzip));
        let status = Encoding::find(b"snappy").unwrap_err();
        assert_eq!(status.code, Code::Unimplemented);
        assert_eq!(status.message, "grpc: Decompressor is not installed for grpc-encoding \"snappy\"");
    }

    #[test]
    fn flags_of_uncompressed_streams() {
        let refused = |flag| Encoding::Identity.decode(flag, Bytes::new(), 4).unwrap_err().message;
        assert_eq!(refused(1), "grpc: compressed flag set with identity or empty encoding");
        assert_eq!(refused(7), "grpc: received unexpected payload format 7");
    }
}
