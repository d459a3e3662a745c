//! Whole states that other members fetch from this one, an extension that only ringd has.
//!
//! | request | answer |
//! |---|---|
//! | `GET /ringd/image?index=N` | the state of a new commit that goes up to entry N at least; its number and its last entry are in headers |
//! | `GET /ringd/image/<number>?offset=M` | the same state from its byte M on, for as long as it is kept; 404 after that |
//!
//! The body is the pages, and after them SHA-256 of all of them. A state is kept for a while after its last byte, so
//! that a member whose connection broke can resume at the offset it had reached. Its pages are not reused meanwhile.

use std::rc::Rc;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use prost::Message as _;

use super::{
    answers::{Answer, AnswerBody, check, own_fields, refuse, wrong_method},
    headers::{self, FROM, IMAGE_MARK, IMAGE_NUMBER, IMAGE_PATH, id_text, parse_id},
    image_body::ImageBody,
    images::{Kept, Reading},
    table::Table,
};

/// `GET /ringd/image...`
pub(super) async fn serve(table: &Rc<Table>, parts: &Parts) -> Answer {
    if parts.method != Method::GET {
        return wrong_method("GET");
    }
    let fields = own_fields(table);
    if let Some(answer) = check(table, &parts.headers, &fields) {
        return answer;
    }
    let from = parse_id(headers::text(&parts.headers, &FROM));
    if from.is_none_or(|id| table.peer(id).is_none()) {
        return refuse(StatusCode::FORBIDDEN, "only members get the whole state", fields);
    }
    let query = parts.uri.query().unwrap_or_default();
    let number = parts.uri.path().strip_prefix(IMAGE_PATH).and_then(|rest| rest.strip_prefix('/'));
    match (number, value(query, "index"), value(query, "offset")) {
        (None, Some(index), _) => new(table, parts, index, fields).await,
        (Some(number), _, Some(offset)) => resumed(table, parse_id(number).unwrap_or(0), offset, fields),
        _ => refuse(StatusCode::BAD_REQUEST, "an index, or the number of a state and an offset, are expected", fields),
    }
}

fn value(query: &str, name: &str) -> Option<u64> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(found, _)| *found == name)?.1.parse().ok()
}

async fn new(table: &Rc<Table>, parts: &Parts, index: u64, fields: HeaderMap) -> Answer {
    let image = match (table.settings.images)(index).await {
        Ok(image) => image,
        Err(why) => return refuse(StatusCode::SERVICE_UNAVAILABLE, &why, fields),
    };
    tracing::info!(
        remote_peer_id = headers::text(&parts.headers, &FROM),
        snapshot_index = image.mark.index(),
        bytes = image.pages.size_bytes(),
        "another member fetches the database"
    );
    match table.images.keep(image) {
        Some((number, kept)) => pages(table, number, kept, 0, fields),
        None => refuse(StatusCode::SERVICE_UNAVAILABLE, "too many states are being fetched", fields),
    }
}

fn resumed(table: &Rc<Table>, number: u64, offset: u64, fields: HeaderMap) -> Answer {
    match table.images.find(number) {
        None => refuse(StatusCode::NOT_FOUND, "this state is not kept any more", fields),
        Some(kept) if offset > kept.digest.reached() => {
            refuse(StatusCode::RANGE_NOT_SATISFIABLE, "this byte was not reached yet", fields)
        }
        Some(kept) => pages(table, number, kept, offset, fields),
    }
}

fn pages(table: &Rc<Table>, number: u64, kept: Rc<Kept>, offset: u64, mut fields: HeaderMap) -> Answer {
    let text = |text: String| HeaderValue::from_str(&text).expect("digits and letters");
    fields.insert(IMAGE_NUMBER, text(id_text(number)));
    fields.insert(IMAGE_MARK, text(BASE64.encode(kept.image.mark.encode_to_vec())));
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let body = ImageBody::from(offset, kept.image.pages.clone(), Rc::clone(&kept.digest), Rc::clone(&table.throttle));
    let reading = Reading::new(&table.images, number, kept);
    let mut answer = Response::new(AnswerBody::Image { body, _reading: reading, connection_use: None });
    *answer.headers_mut() = fields;
    answer
}
