//! Decoding of a header block, field by field. The format is in the module head.

use super::{Malformed, huffman, table::Table};
use crate::base::limits::HEADER_LITERAL_BYTES_MAX;

/// Bytes of an integer beyond its prefix, as many as Go's decoder takes.
const INTEGER_BYTES_MAX: usize = 9;

/// One direction of one connection.
pub struct Decoder {
    table: Table,
    /// Nothing of the current block was decoded yet.
    at_start: bool,
    // Buffers for the field under way.
    name: Vec<u8>,
    value: Vec<u8>,
}

/// How one field begins.
enum Kind {
    Indexed,
    Added,
    NotAdded,
    Resize,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { table: Table::new(), at_start: true, name: Vec::new(), value: Vec::new() }
    }
}

impl Decoder {
    #[must_use]
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Grows with every change of the table. As long as it stays the same, equal blocks have equal fields.
    pub fn changes(&self) -> u64 {
        self.table.changes
    }

    /// Decodes the complete fields in `bytes` and returns their length. The caller passes the rest again, with more bytes after it.
    pub fn decode(&mut self, bytes: &[u8], mut on_field: impl FnMut(&[u8], &[u8])) -> Result<usize, Malformed> {
        let mut reader = Reader { bytes, at: 0 };
        while reader.at < bytes.len() {
            let begun = reader.at;
            match self.field(&mut reader, &mut on_field)? {
                Some(()) => self.at_start = false,
                None => return Ok(begun),
            }
        }
        Ok(bytes.len())
    }

    /// The block has ended.
    pub fn end(&mut self) {
        self.at_start = true;
    }

    /// One field; `None` if it is incomplete.
    fn field(
        &mut self,
        reader: &mut Reader<'_>,
        on_field: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<Option<()>, Malformed> {
        let (kind, prefix_bits) = match reader.bytes[reader.at] {
            0x80.. => (Kind::Indexed, 7),
            0x40.. => (Kind::Added, 6),
            0x20.. => (Kind::Resize, 5),
            _ => (Kind::NotAdded, 4),
        };
        let Some(number) = reader.integer(prefix_bits)? else { return Ok(None) };
        match kind {
            Kind::Indexed => {
                let (name, value) = self.table.field(number)?;
                on_field(name, value);
            }
            Kind::Resize if !self.at_start && !self.table.is_empty() => return Err(Malformed),
            Kind::Resize => self.table.resize(number)?,
            Kind::Added | Kind::NotAdded => {
                // Both are found before either is decoded, because an incomplete field is scanned again with every frame that adds to it.
                let name = match number {
                    0 => reader.string()?,
                    index => Some(Text::Plain(self.table.field(index)?.0)),
                };
                let Some(name) = name else { return Ok(None) };
                let Some(value) = reader.string()? else { return Ok(None) };
                self.name.clear();
                name.decode(&mut self.name)?;
                self.value.clear();
                value.decode(&mut self.value)?;
                if matches!(kind, Kind::Added) {
                    self.table.add(&self.name, &self.value);
                }
                on_field(&self.name, &self.value);
            }
        }
        Ok(Some(()))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// An integer that begins in the lowest bits of a byte (section 5.1).
    fn integer(&mut self, prefix_bits: u32) -> Result<Option<usize>, Malformed> {
        let Some(first) = self.bytes.get(self.at) else { return Ok(None) };
        self.at += 1;
        let prefix_max = (1_usize << prefix_bits) - 1;
        let mut number = usize::from(*first) & prefix_max;
        if number < prefix_max {
            return Ok(Some(number));
        }
        for position in 0..INTEGER_BYTES_MAX {
            let Some(byte) = self.bytes.get(self.at) else { return Ok(None) };
            self.at += 1;
            number = number.checked_add(usize::from(byte & 0x7f) << (7 * position)).ok_or(Malformed)?;
            if byte & 0x80 == 0 {
                return Ok(Some(number));
            }
        }
        Err(Malformed)
    }

    /// A string (section 5.2), borrowed.
    fn string(&mut self) -> Result<Option<Text<'a>>, Malformed> {
        let Some(first) = self.bytes.get(self.at) else { return Ok(None) };
        let Some(length) = self.integer(7)? else { return Ok(None) };
        if length > HEADER_LITERAL_BYTES_MAX {
            return Err(Malformed);
        }
        let Some(bytes) = self.bytes.get(self.at..self.at + length) else { return Ok(None) };
        self.at += length;
        Ok(Some(if first & 0x80 == 0 { Text::Plain(bytes) } else { Text::Huffman(bytes) }))
    }
}

enum Text<'a> {
    Plain(&'a [u8]),
    Huffman(&'a [u8]),
}

impl Text<'_> {
    fn decode(self, into: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            Text::Plain(bytes) => into.extend_from_slice(bytes),
            Text::Huffman(bytes) => huffman::decode(bytes, into)?,
        }
        Ok(())
    }
}
