//! Finished spans as a message of the protocol.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

pub(super) use crate::proto::otlp::Resource;
use crate::{
    proto::otlp::{
        AnyValue, ExportTraceServiceRequest, InstrumentationScope, KeyValue, ResourceSpans, ScopeSpans, Span, Status,
        any_value, span::SpanKind, status::StatusCode,
    },
    spans::{Attribute, Finished, Kind, Value},
};

/// `Span.flags`: it is known whether the parent is of another process; it is.
const KNOWS_PARENT: u32 = 0x100;
const PARENT_IS_REMOTE: u32 = 0x200;

/// Who sends, sorted by name.
pub(super) fn resource(service_name: &str, instance_id: &str) -> Resource {
    let mut attributes = Vec::new();
    if !instance_id.is_empty() {
        attributes.push(key_value(&Attribute::text("service.instance.id", instance_id.to_owned())));
    }
    attributes.push(key_value(&Attribute::text("service.name", service_name.to_owned())));
    Resource { attributes, dropped_attributes_count: 0 }
}

/// Spans by their library, in the order of its first span.
pub(super) fn request(resource: &Resource, spans: &[Finished]) -> ExportTraceServiceRequest {
    let mut scopes: Vec<ScopeSpans> = Vec::new();
    for finished in spans {
        let scope = finished.scope;
        let is_of = |of: &&mut ScopeSpans| of.scope.as_ref().is_some_and(|of| of.name == scope.name);
        match scopes.iter_mut().find(is_of) {
            Some(of) => of.spans.push(span(finished)),
            None => scopes.push(ScopeSpans {
                scope: Some(InstrumentationScope { name: scope.name.to_owned(), version: scope.version.to_owned() }),
                spans: vec![span(finished)],
                schema_url: String::new(),
            }),
        }
    }
    let of_server = ResourceSpans { resource: Some(resource.clone()), scope_spans: scopes, schema_url: String::new() };
    ExportTraceServiceRequest { resource_spans: vec![of_server] }
}

fn span(finished: &Finished) -> Span {
    let context = &finished.context;
    // A call comes from another process, whether or not that has a span.
    let is_remote = finished.parent.map_or(finished.kind == Kind::Server, |parent| parent.is_remote);
    let id = |id: u64| Bytes::copy_from_slice(&id.to_be_bytes());
    Span {
        trace_id: Bytes::copy_from_slice(&context.trace_id.to_be_bytes()),
        span_id: id(context.span_id),
        trace_state: context.state.as_deref().unwrap_or_default().to_owned(),
        parent_span_id: finished.parent.map(|parent| id(parent.span_id)).unwrap_or_default(),
        name: finished.name.clone().into_owned(),
        kind: match finished.kind {
            Kind::Internal => SpanKind::Internal,
            Kind::Server => SpanKind::Server,
        } as i32,
        start_time_unix_nano: unix_ns(finished.started),
        end_time_unix_nano: unix_ns(finished.ended),
        attributes: finished.attributes.iter().map(key_value).collect(),
        status: Some(match &finished.failure {
            Some(reason) => Status { code: StatusCode::Error as i32, message: reason.clone().into_owned() },
            None => Status::default(),
        }),
        flags: u32::from(context.flags) | KNOWS_PARENT | if is_remote { PARENT_IS_REMOTE } else { 0 },
        ..Span::default()
    }
}

fn key_value(attribute: &Attribute) -> KeyValue {
    let value = match &attribute.value {
        Value::Text(text) => any_value::Value::StringValue(text.clone().into_owned()),
        Value::Integer(number) => any_value::Value::IntValue(*number),
        Value::Boolean(is_so) => any_value::Value::BoolValue(*is_so),
    };
    KeyValue { key: attribute.name.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

fn unix_ns(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
