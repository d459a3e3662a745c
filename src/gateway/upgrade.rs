//! The begin of a WebSocket connection (RFC 6455), as etcd's proxy in front of its gateway takes it.
//!
//! Who calls comes from a cookie `token`, or else from `Sec-WebSocket-Protocol: Bearer, <token>`, because scripts in browsers cannot set
//! other headers of such a request. Of the other headers only `Origin` and `Referer` reach the call.

use std::rc::Rc;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use sha1::{Digest, Sha1};

use super::{calls::Gateway, session};
use crate::frontend::{More, WebRequest, WebResponse};

const VERSION: &str = "13";
/// Of RFC 6455: what a server appends to a client's key.
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY_BYTES: usize = 16;
const BEARER: &str = "Bearer";
const COOKIE: &str = "token";
const TEXT: &str = "text/plain; charset=utf-8";

/// Whether a request wants to become a WebSocket connection.
pub(super) fn is_asked_for(request: &WebRequest) -> bool {
    has_token(&request.headers, &header::CONNECTION, "upgrade")
        && has_token(&request.headers, &header::UPGRADE, "websocket")
}

/// The answer to it, after which the connection is one.
pub(super) fn begin(gateway: &Rc<Gateway>, request: &WebRequest) -> WebResponse {
    let key = request.headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    if request.method != Method::GET {
        return refusal(StatusCode::METHOD_NOT_ALLOWED);
    }
    let is_known = has_token(&request.headers, &header::SEC_WEBSOCKET_VERSION, VERSION);
    if !is_known || STANDARD.decode(key).is_ok_and(|key| key.len() != KEY_BYTES) || STANDARD.decode(key).is_err() {
        return refusal(StatusCode::BAD_REQUEST);
    }
    let mut response = WebResponse::new(StatusCode::SWITCHING_PROTOCOLS, TEXT, "");
    response.headers.clear();
    let fields = [(header::UPGRADE, "websocket"), (header::CONNECTION, "Upgrade")];
    response.headers.extend(fields.map(|(name, value)| (name, HeaderValue::from_static(value))));
    if let Ok(accepted) = HeaderValue::from_str(&accepted(key)) {
        response.headers.insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    }
    if protocols(&request.headers).is_some_and(|protocols| protocols.starts_with(BEARER)) {
        response.headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(BEARER));
    }
    let inner = WebRequest {
        method: Method::POST,
        path: request.path.clone(),
        query: request.query.clone(),
        headers: passed_on(&request.headers),
        body: bytes::Bytes::new(),
        identity: Rc::clone(&request.identity),
        // The session looks after the connection itself.
        client: crate::frontend::ClientWatch::default(),
    };
    let gateway = Rc::clone(gateway);
    response.more = More::Takeover(Box::new(move |stream, unread, drain| {
        Box::pin(session::serve(gateway, inner, stream, unread, drain))
    }));
    response
}

fn refusal(status: StatusCode) -> WebResponse {
    let text = format!("{}\n", status.canonical_reason().unwrap_or_default());
    let mut response = WebResponse::new(status, TEXT, text);
    response.headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
    response.headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The answer to a client's key.
fn accepted(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(KEY_SUFFIX);
    STANDARD.encode(hash.finalize())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

fn protocols(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()
}

/// The headers of the call.
fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::new();
    for name in [header::ORIGIN, header::REFERER] {
        if let Some(value) = headers.get(&name) {
            passed.insert(name, value.clone());
        }
    }
    let by_protocol = || {
        let (_, token) = protocols(headers)?.split_once("Bearer,")?;
        Some(token.trim_matches(' '))
    };
    if let Some(token) = cookie(headers).or_else(by_protocol)
        && let Ok(value) = HeaderValue::from_str(&format!("{BEARER} {token}"))
    {
        passed.insert(header::AUTHORIZATION, value);
    }
    passed
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|part| part.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc() {
        assert_eq!(accepted(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn tokens_come_from_the_cookie_or_the_protocol() {
        for (cookie, protocol, authorization) in [
            (None, Some("Bearer, abc.1"), Some("Bearer abc.1")),
            (None, Some("Bearer,abc.1"), Some("Bearer abc.1")),
            (None, Some("chat"), None),
            (Some("a=b; token=xyz"), Some("Bearer, abc.1"), Some("Bearer xyz")),
            (None, None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", HeaderValue::from_static("ignored"));
            if let Some(cookie) = cookie {
                headers.insert(header::COOKIE, HeaderValue::from_static(cookie));
            }
            if let Some(protocol) = protocol {
                headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
            }
            let passed = passed_on(&headers);
            let found = passed.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            assert_eq!(found, authorization);
        }
    }
}
