use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;

type Fields = Vec<(String, String)>;

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, Malformed> {
    let mut fields = Fields::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let used = decoder.decode(block, |name, value| fields.push((text(name), text(value))))?;
    decoder.end();
    if used == block.len() { Ok(fields) } else { Err(Malformed) }
}

fn hexadecimal(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// RFC 7541, C.3 (plain) and C.4 (Huffman): three requests of one connection.
#[test]
fn requests_of_the_specification() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    let host = (":authority", "www.example.com");
    let expected = [
        fields(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), host]),
        fields(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), host, ("cache-control", "no-cache")]),
        fields(&[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            host,
            ("custom-key", "custom-value"),
        ]),
    ];
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::new();
        for (block, expected) in blocks.iter().zip(&expected) {
            assert_eq!(&decode(&mut decoder, &hexadecimal(block)).unwrap(), expected);
        }
        assert_eq!(decoder.changes(), 3);
    }
}

/// RFC 7541, C.6: responses in Huffman's code, with a table of 256 bytes from which entries fall.
#[test]
fn evictions_of_the_specification() {
    let mut decoder = Decoder::new();
    // The other side sets the table's size.
    let first = "3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 \
                 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
    let date = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    let location = ("location", "https://www.example.com");
    let private = ("cache-control", "private");
    let block = hexadecimal(first);
    assert_eq!(decode(&mut decoder, &block).unwrap(), fields(&[(":status", "302"), private, date, location]));
    let answer = decode(&mut decoder, &hexadecimal("4883 640e ffc1 c0bf")).unwrap();
    assert_eq!(answer, fields(&[(":status", "307"), private, date, location]));
    let third = "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 \
                 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed \
                 4ee5 b106 3d50 07";
    let cookie = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    assert_eq!(
        decode(&mut decoder, &hexadecimal(third)).unwrap(),
        fields(&[
            (":status", "200"),
            private,
            ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
            location,
            ("content-encoding", "gzip"),
            ("set-cookie", cookie),
        ])
    );
    // The three youngest are left, 215 bytes.
    assert!(decode(&mut decoder, &[0x80 | 64]).is_ok());
    assert!(decode(&mut decoder, &[0x80 | 65]).is_err());
}

#[test]
fn a_block_may_be_cut_anywhere() {
    let block = hexadecimal("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf 00 0161 7f01");
    let block = [block, vec![b'v'; 128]].concat();
    let before = hexadecimal("4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf 4001 6101 62");
    let mut whole = Decoder::new();
    decode(&mut whole, &before).unwrap();
    let expected = decode(&mut whole, &block).unwrap();
    for seed in 0..100 {
        println!("seed {seed}");
        let mut random = SmallRng::seed_from_u64(seed);
        let mut decoder = Decoder::new();
        decode(&mut decoder, &before).unwrap();
        let (mut waiting, mut got, mut at) = (Vec::new(), Fields::new(), 0);
        while at < block.len() {
            let end = (at + random.random_range(1..10)).min(block.len());
            waiting.extend_from_slice(&block[at..end]);
            at = end;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let used = decoder.decode(&waiting, |name, value| got.push((text(name), text(value)))).unwrap();
            waiting.drain(..used);
        }
        assert!(waiting.is_empty());
        assert_eq!(got, expected);
    }
}

#[test]
fn malformed_blocks() {
    for (block, what) in [
        ("80", "index 0"),
        ("be", "an index beyond the tables"),
        ("ff ff ff ff ff ff ff ff ff ff 7f", "an integer that is too large"),
        ("0f ff ff ff ff ff ff ff ff ff 01", "an integer of too many bytes"),
        ("3f e2 1f", "a table larger than allowed"),
        ("40 01 61 01 62 20", "a new size after a field"),
        ("00 7f ff ff ff 7f", "a name that is too long"),
        ("00 81 00 01 62", "zeros that pad a name"),
        ("82 86 0f", "half an integer"),
        ("00 01 61 02 62", "half a value"),
    ] {
        assert!(decode(&mut Decoder::new(), &hexadecimal(block)).is_err(), "{what}");
    }
    assert!(decode(&mut Decoder::new(), &hexadecimal("20 3f e1 1f 82")).is_ok(), "two sizes before a field");
    assert!(
        decode(&mut Decoder::new(), &hexadecimal("82 20")).is_ok(),
        "a size after a field while the table is empty"
    );
}

#[test]
fn a_field_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new();
    decode(&mut decoder, &hexadecimal("40 01 61 01 62")).unwrap();
    assert_eq!(decode(&mut decoder, &hexadecimal("be")).unwrap(), fields(&[("a", "b")]));
    let large = [&hexadecimal("40 01 61 7f 81 1f")[..], &[b'v'; 4096]].concat();
    assert_eq!(decode(&mut decoder, &large).unwrap()[0].1.len(), 4096);
    assert!(decode(&mut decoder, &hexadecimal("be")).is_err());
}

#[test]
fn random_bytes_end_in_fields_or_an_error() {
    for seed in 0..2000 {
        let mut random = SmallRng::seed_from_u64(seed);
        let block: Vec<u8> = (0..random.random_range(0..200)).map(|_| random.random()).collect();
        let _ = decode(&mut Decoder::new(), &block);
    }
}
