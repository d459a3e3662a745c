//! Compressed pages: whether a client wants one, judged as etcd's metrics library does.
//!
//! It offers `identity`, then `gzip`, and takes the one with the highest quality, of equals the first. So `*` means `identity`, and
//! where nothing is acceptable the page goes out as it is. What cannot be parsed ends its header line, and what came before counts.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, header};

use crate::frontend::WebResponse;

/// The response, compressed if the request's headers ask for that.
pub(super) fn compressed(headers: &HeaderMap, response: WebResponse) -> WebResponse {
    if !wants_gzip(headers) {
        return response;
    }
    let mut response = WebResponse { body: gzip(&response.body), ..response };
    response.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response
}

fn gzip(page: &[u8]) -> Bytes {
    // A page is made anew for every request, so a little larger is better than much later.
    let mut encoder = GzEncoder::new(Vec::with_capacity(page.len() / 8), Compression::fast());
    encoder.write_all(page).expect("memory takes all bytes");
    encoder.finish().expect("memory takes all bytes").into()
}

fn wants_gzip(headers: &HeaderMap) -> bool {
    let (mut identity, mut gzip) = (0.0, 0.0);
    for line in headers.get_all(header::ACCEPT_ENCODING) {
        let mut rest = line.as_bytes();
        while let Some((name, quality, behind)) = accepted(rest) {
            for (offer, best) in [("identity", &mut identity), ("gzip", &mut gzip)] {
                if name == b"*" || name == offer.as_bytes() {
                    *best = f64::max(*best, quality);
                }
            }
            let Some(behind) = spaces_skipped(behind).strip_prefix(b",") else { break };
            rest = spaces_skipped(behind);
        }
    }
    gzip > identity
}

/// One name and its quality, and what follows them.
fn accepted(text: &[u8]) -> Option<(&[u8], f64, &[u8])> {
    let is_name_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(byte);
    let end = text.iter().position(|byte| !is_name_byte(byte)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return None;
    }
    let rest = spaces_skipped(rest);
    let Some(parameter) = rest.strip_prefix(b";") else { return Some((name, 1.0, rest)) };
    let (quality, rest) = quality(spaces_skipped(parameter).strip_prefix(b"q=")?)?;
    Some((name, quality, rest))
}

/// `0` or `1`, and decimals.
fn quality(text: &[u8]) -> Option<(f64, &[u8])> {
    let (first @ (b'0' | b'1'), rest) = text.split_first()? else { return None };
    let mut quality = f64::from(first - b'0');
    let Some(mut rest) = rest.strip_prefix(b".") else { return Some((quality, rest)) };
    let mut unit = 1.0;
    while let Some((digit @ b'0'..=b'9', behind)) = rest.split_first() {
        unit /= 10.0;
        quality += unit * f64::from(digit - b'0');
        rest = behind;
    }
    Some((quality, rest))
}

fn spaces_skipped(text: &[u8]) -> &[u8] {
    let count = text.iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
    &text[count..]
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use http::StatusCode;

    use super::*;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (header::ACCEPT_ENCODING, HeaderValue::from_static(line))).collect()
    }

    /// What etcd 3.7.1 answered.
    #[test]
    fn wishes_are_understood_as_by_etcd() {
        for (wish, is_gzip) in [
            ("gzip", true),
            ("zstd", false),
            ("zstd, gzip", true),
            ("deflate, gzip;q=0.5", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("identity, gzip;q=0.1", false),
            ("identity;q=0.1, gzip;q=0.2", true),
            ("*", false),
            ("*;q=0.5, gzip", true),
            ("GZIP", false),
            ("gzip;q=0.001", true),
            ("gzip;q=x", false),
            ("gzip;q=1.5", true),
            ("gzip;q=2", false),
            ("gzip;q", false),
            ("gzip ; q=0.5", true),
            ("gzip;x=1", false),
            ("gzip;q=0;x=1", false),
            ("gzip;q=0.5;q=0", true),
            ("", false),
            ("gzip;q=0.", false),
            (",gzip", false),
            ("br,;gzip", false),
            ("gzip,", true),
            ("x gzip", false),
            ("gzip;q=00.5", false),
        ] {
            assert_eq!(wants_gzip(&headers(&[wish])), is_gzip, "{wish}");
        }
        assert!(!wants_gzip(&headers(&[])));
        assert!(wants_gzip(&headers(&["br", "gzip"])));
    }

    #[test]
    fn a_compressed_page_is_the_page() {
        let page = "# HELP a\n".repeat(1000);
        let response = WebResponse::new(StatusCode::OK, "text/plain", page.clone());
        let response = compressed(&headers(&["gzip"]), response);
        assert_eq!(response.headers[header::CONTENT_ENCODING], "gzip");
        let mut text = String::new();
        GzDecoder::new(&response.body[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, page);
    }
}
