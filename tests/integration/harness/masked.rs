//! Answers without what follows from how a server was started, so that two servers can be compared.

use bytes::Bytes;
use prost::{Message, encode_length_delimiter, encoding::decode_varint};

/// A response without `cluster_id`, `member_id` and `raft_term`. Works on the bytes, so that the encoding is compared too;
/// in every response, field 1 is the header, or the response that holds it.
pub fn masked(message: &Bytes) -> Bytes {
    let mut out = Vec::with_capacity(message.len());
    for (tag, field) in fields(message) {
        if tag != 1 {
            out.extend_from_slice(field.whole);
            continue;
        }
        let nested = fields(field.content).first().is_some_and(|(_, inner)| inner.length_delimited);
        let inner: Vec<u8> = if nested {
            masked(&Bytes::copy_from_slice(field.content)).to_vec()
        } else {
            let kept = fields(field.content).into_iter().filter(|(tag, _)| !matches!(tag, 1 | 2 | 4));
            kept.flat_map(|(_, inner)| inner.whole.to_vec()).collect()
        };
        out.push(field.whole[0]);
        encode_length_delimiter(inner.len(), &mut out).expect("a vector grows");
        out.extend_from_slice(&inner);
    }
    out.into()
}

struct Field<'a> {
    /// With tag and length.
    whole: &'a [u8],
    content: &'a [u8],
    length_delimited: bool,
}

/// The fields of a message, as far as they can be read.
fn fields(message: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let start = rest;
        let Ok(key) = decode_varint(&mut rest) else { break };
        let length_delimited = key & 7 == 2;
        let Ok(number) = decode_varint(&mut rest) else { break };
        let length = if length_delimited { usize::try_from(number).expect("64 bit") } else { 0 };
        let Some((content, tail)) = rest.split_at_checked(length) else { break };
        rest = tail;
        fields.push((key >> 3, Field { whole: &start[..start.len() - rest.len()], content, length_delimited }));
    }
    fields
}

/// A message that a server has sent.
pub fn decoded<M: Message + Default>(bytes: &Bytes) -> M {
    M::decode(bytes.clone()).expect("both servers send messages")
}
