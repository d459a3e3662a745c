//! Messages in both directions, with the real shapes.

use prost::Message;

use super::{
    document, reader,
    routes::{Route, Routes},
    shapes::descriptors,
    transcoder::{Malformed, Transcoder},
};
use crate::{
    proto::{
        etcdserverpb::{
            AlarmMember, AlarmResponse, MemberListResponse, RangeResponse, ResponseHeader, ResponseOp, StatusResponse,
            TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest, compare, request_op, response_op,
            watch_request::RequestUnion,
        },
        mvccpb::KeyValue,
    },
    services::methods::METHODS,
};

fn route(routes: &Routes, path: &str) -> Route {
    *routes.find(path).unwrap_or_else(|| panic!("{path} is a route"))
}

fn read<M: Message + Default>(path: &str, text: &str) -> Result<M, String> {
    let routes = Routes::read();
    let found = document::find(text.as_bytes(), 0).unwrap().unwrap();
    let bytes = reader::read(&text.as_bytes()[found], route(&routes, path).request, &routes.shapes)?;
    Ok(M::decode(&*bytes).unwrap())
}

/// The text of a message that comes in pieces of `step` bytes.
fn text(path: &str, bytes: &[u8], step: usize) -> Result<String, Malformed> {
    let routes = Routes::read();
    let mut out = Vec::new();
    let shape = route(&routes, path).response;
    let mut transcoder = Transcoder::begin(&routes.shapes, shape, bytes.len() as u64, &mut out);
    for piece in bytes.chunks(step) {
        transcoder.feed(piece, &mut out)?;
    }
    assert!(transcoder.is_done());
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn every_method_of_etcds_gateway_has_its_routes() {
    let routes = Routes::read();
    assert_eq!(routes.all().count(), 51);
    let served: std::collections::BTreeSet<u16> = routes.all().map(|(_, route)| route.method.0).collect();
    let without: Vec<&str> =
        (0..).zip(METHODS).filter(|(id, _)| !served.contains(id)).map(|(_, method)| method.name).collect();
    assert_eq!(without, ["RangeStream", "Check", "List", "Watch"]);
    for path in ["/v3/kv/lease/revoke", "/v3/kv/lease/timetolive", "/v3/kv/lease/leases", "/v3/lease/leases"] {
        route(&routes, path);
    }
}

/// The transcoder writes fields as they come, which is their order here too.
#[test]
fn numbers_of_fields_ascend_in_the_proto_files() {
    for message in descriptors().all_messages().filter(|message| message.full_name().starts_with("etcdserverpb.")) {
        let numbers: Vec<u32> = message.fields().map(|field| field.number()).collect();
        if message.full_name().ends_with("Response") && !numbers.is_sorted() {
            println!("{} is declared in another order: {numbers:?}", message.full_name());
        }
    }
}

#[test]
fn both_forms_of_names_and_values() {
    let text = r#"{"compare":[{"result":"EQUAL","target":"CREATE","key":"Zm9v","createRevision":"0"},
        {"target":3,"key":"Zm9v","value":"YmFy"}],
        "success":[{"requestPut":{"key":"Zm9v","value":"YmFy","lease":12}},{"request_range":{"key":"Zm9v"}}],
        "failure":[{"requestRange":{}}], "unknown":{"a":[1,{"b":null}]}, "future":null}"#;
    let request: TxnRequest = read("/v3/kv/txn", text).unwrap();
    assert_eq!(request.compare[0].target_union, Some(compare::TargetUnion::CreateRevision(0)));
    assert_eq!(request.compare[1].target_union, Some(compare::TargetUnion::Value("bar".into())));
    assert_eq!(request.compare[1].target, 3);
    let Some(request_op::Request::RequestPut(put)) = &request.success[0].request else { panic!("{request:?}") };
    assert_eq!((&put.key[..], &put.value[..], put.lease), (&b"foo"[..], &b"bar"[..], 12));
    assert!(matches!(request.success[1].request, Some(request_op::Request::RequestRange(_))));
    assert!(matches!(request.failure[0].request, Some(request_op::Request::RequestRange(_))));
}

#[test]
fn empty_values_of_a_oneof_and_lists_of_numbers() {
    let text = r#"{"create_request":{"key":"","filters":["NOPUT",1,"SOMETHING"],"start_revision":"7","watch_id":0}}"#;
    let request: WatchRequest = read("/v3/watch", text).unwrap();
    let wanted = WatchCreateRequest { filters: vec![0, 1], start_revision: 7, ..WatchCreateRequest::default() };
    assert_eq!(request.request_union, Some(RequestUnion::CreateRequest(wanted)));
    let request: WatchRequest = read("/v3/watch", r#"{"progressRequest":{}}"#).unwrap();
    assert!(matches!(request.request_union, Some(RequestUnion::ProgressRequest(_))));
}

#[test]
fn refusals_are_in_protojsons_words() {
    for (path, text, words) in [
        ("/v3/kv/range", "5", "proto: syntax error (line 1:1): unexpected token 5"),
        ("/v3/kv/range", "null", "proto: syntax error (line 1:1): unexpected token null"),
        ("/v3/kv/range", r#"{"key":5}"#, "proto: (line 1:8): invalid value for bytes field key: 5"),
        ("/v3/kv/range", r#"{"key":"*"}"#, r#"proto: (line 1:8): invalid value for bytes field key: "*""#),
        ("/v3/kv/range", r#"{"limit":1.5}"#, "proto: (line 1:10): invalid value for int64 field limit: 1.5"),
        ("/v3/kv/range", r#"{"limit":"x"}"#, r#"proto: (line 1:10): invalid value for int64 field limit: "x""#),
        ("/v3/kv/range", r#"{"limit":{}}"#, "proto: (line 1:10): invalid value for int64 field limit: {"),
        (
            "/v3/kv/range",
            "{\n \"sort_order\":true}",
            "proto: (line 2:15): invalid value for enum field sortOrder: true",
        ),
        ("/v3/kv/range", r#"{"key":"YQ==","key":"Yg=="}"#, r#"proto: (line 1:15): duplicate field "key""#),
        ("/v3/kv/txn", r#"{"compare":{}}"#, "proto: syntax error (line 1:12): unexpected token {"),
        ("/v3/kv/txn", r#"{"success":["a"]}"#, r#"proto: syntax error (line 1:13): unexpected token "a""#),
        (
            "/v3/watch",
            r#"{"create_request":{},"cancel_request":{}}"#,
            r#"proto: (line 1:22): error parsing "cancel_request", oneof etcdserverpb.WatchRequest.request_union is already set"#,
        ),
    ] {
        assert_eq!(read::<TxnRequest>(path, text).unwrap_err(), words, "{text}");
    }
    let deep = format!("{}{}", r#"{"success":[{"request_txn":"#.repeat(200), "{}".to_owned() + &"}]}".repeat(200));
    assert_eq!(read::<TxnRequest>("/v3/kv/txn", &deep).unwrap_err(), "proto: exceeded max recursion depth");
}

#[test]
fn answers_come_out_the_same_in_pieces_of_any_size() {
    let header = ResponseHeader { cluster_id: u64::MAX, member_id: 1, revision: -1, raft_term: 2 };
    let pair = |key: &str| KeyValue { key: key.to_owned().into(), value: vec![0xff; 5].into(), ..KeyValue::default() };
    let range = RangeResponse { kvs: vec![pair("a"), pair("b")], more: true, count: 2, ..RangeResponse::default() };
    let response = TxnResponse {
        header: Some(header),
        succeeded: false,
        responses: vec![
            ResponseOp { response: Some(response_op::Response::ResponseRange(range)) },
            ResponseOp { response: Some(response_op::Response::ResponsePut(Default::default())) },
        ],
    };
    let wanted = concat!(
        r#"{"header":{"cluster_id":"18446744073709551615","member_id":"1","revision":"-1","raft_term":"2"},"#,
        r#""responses":[{"response_range":{"kvs":[{"key":"YQ==","value":"//////8="},{"key":"Yg==","value":"//////8="}],"#,
        r#""more":true,"count":"2"}},{"response_put":{}}]}"#
    );
    let bytes = response.encode_to_vec();
    for step in 1..=bytes.len() {
        assert_eq!(text("/v3/kv/txn", &bytes, step).as_deref(), Ok(wanted), "{step}");
    }
    assert_eq!(text("/v3/kv/txn", &[], 1).as_deref(), Ok("{}"));
}

#[test]
fn texts_enums_and_lists_of_texts() {
    let status =
        StatusResponse { version: "3.7".into(), errors: vec!["a\"<\n".into(), String::new()], ..Default::default() };
    let written = text("/v3/maintenance/status", &status.encode_to_vec(), 3);
    assert_eq!(written.as_deref(), Ok(r#"{"version":"3.7","errors":["a\"<\n",""]}"#));
    let alarms = [(1, 1), (2, 99)].map(|(member_id, alarm)| AlarmMember { member_id, alarm });
    let alarms = AlarmResponse { alarms: alarms.to_vec(), ..AlarmResponse::default() };
    let written = text("/v3/maintenance/alarm", &alarms.encode_to_vec(), 1);
    let wanted = r#"{"alarms":[{"memberID":"1","alarm":"NOSPACE"},{"memberID":"2","alarm":99}]}"#;
    assert_eq!(written.as_deref(), Ok(wanted));
    let list = MemberListResponse { members: vec![Default::default(), Default::default()], ..Default::default() };
    let written = text("/v3/cluster/member/list", &list.encode_to_vec(), 1);
    assert_eq!(written.as_deref(), Ok(r#"{"members":[{},{}]}"#));
}

#[test]
fn malformed_bytes_are_an_error() {
    for bytes in [&[0x0b][..], &[0x0a, 5, 0x08, 1, 0x10, 1, 0x18], &[0x0a, 1, 0x08, 0x80]] {
        let routes = Routes::read();
        let mut out = Vec::new();
        let shape = route(&routes, "/v3/kv/range").response;
        let mut transcoder = Transcoder::begin(&routes.shapes, shape, bytes.len() as u64, &mut out);
        let fed = transcoder.feed(bytes, &mut out);
        assert!(fed.is_err() || !transcoder.is_done(), "{bytes:?}");
    }
}
