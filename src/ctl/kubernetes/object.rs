//! A message of Kubernetes as the JSON that its Go type would have. Messages are nested 100 deep at most (prost), JSON 128 (serde_json),
//! so the functions may call themselves.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage, Value as Field};
use serde_json::{Map, Value, json};

use super::super::go_format::duration;
use crate::base::civil_time::date_and_time;

/// Fields of messages whose own fields stand in the surrounding object: embedded structs of Go.
const EMBEDDED: [&str; 9] = [
    "deviceConfiguration",
    "ephemeralContainerCommon",
    "handler",
    "ingressRuleValue",
    "localObjectReference",
    "persistentVolumeSource",
    "rule",
    "ruleWithOperations",
    "volumeSource",
];

/// Fields with other names in JSON.
const RENAMED: [(&str, &str); 5] = [
    ("aPIGroup", "apiGroup"),
    ("Expression", "expression"),
    ("Name", "name"),
    ("uID", "uid"),
    ("Webhooks", "webhooks"),
];

/// Adds the fields of a message to an object, without those that are empty.
pub fn add_fields(message: &DynamicMessage, object: &mut Map<String, Value>) {
    for (field, value) in message.fields() {
        let name = RENAMED.iter().find(|(name, _)| *name == field.name()).map_or(field.name(), |(_, name)| *name);
        match value {
            Field::Message(inner) if EMBEDDED.contains(&field.name()) => add_fields(inner, object),
            value => {
                let value = json(value);
                if !is_empty(&value) {
                    object.insert(name.to_owned(), value);
                }
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn json(value: &Field) -> Value {
    match value {
        Field::Bool(value) => json!(value),
        Field::I32(value) | Field::EnumNumber(value) => json!(value),
        Field::I64(value) => json!(value),
        Field::U32(value) => json!(value),
        Field::U64(value) => json!(value),
        Field::F32(value) => json!(value),
        Field::F64(value) => json!(value),
        Field::String(value) => json!(value),
        Field::Bytes(value) => json!(BASE64.encode(value)),
        Field::Message(message) => message_json(message),
        Field::List(items) => items.iter().map(json).collect(),
        Field::Map(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| (key_text(key), json(value)));
            let pairs: Map<String, Value> = pairs.collect();
            if pairs.is_empty() { Value::Null } else { Value::Object(pairs) }
        }
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::String(text) => text.clone(),
        MapKey::Bool(value) => value.to_string(),
        MapKey::I32(value) => value.to_string(),
        MapKey::I64(value) => value.to_string(),
        MapKey::U32(value) => value.to_string(),
        MapKey::U64(value) => value.to_string(),
    }
}

/// A message, some of which Go writes by methods of their own.
fn message_json(message: &DynamicMessage) -> Value {
    let descriptor = message.descriptor();
    let name = descriptor.full_name().strip_prefix("k8s.io.apimachinery.pkg.").unwrap_or_default();
    match name {
        "apis.meta.v1.Time" => time(message, 0),
        "apis.meta.v1.MicroTime" => time(message, 6),
        "apis.meta.v1.Duration" => json!(duration(Duration::from_nanos(number(message, "duration").unsigned_abs()))),
        "apis.meta.v1.FieldsV1" => embedded_json(message, "Raw"),
        "runtime.RawExtension" => embedded_json(message, "raw"),
        "api.resource.Quantity" => json!(text(message, "string")),
        "util.intstr.IntOrString" if number(message, "type") == 0 => json!(number(message, "intVal")),
        "util.intstr.IntOrString" => json!(text(message, "strVal")),
        _ => plain_message(message),
    }
}

/// A message with nothing but texts in a field `items` is a Go slice with a name.
fn plain_message(message: &DynamicMessage) -> Value {
    let descriptor = message.descriptor();
    if let Some(items) = descriptor.get_field_by_name("items")
        && descriptor.fields().len() == 1
        && items.kind() == Kind::String
    {
        return json(&message.get_field(&items));
    }
    let mut object = Map::new();
    add_fields(message, &mut object);
    Value::Object(object)
}

fn text(message: &DynamicMessage, name: &str) -> String {
    message.get_field_by_name(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn number(message: &DynamicMessage, name: &str) -> i64 {
    let value = message.get_field_by_name(name);
    value.and_then(|value| value.as_i64().or_else(|| value.as_i32().map(i64::from))).unwrap_or_default()
}

/// RFC 3339 with so many digits of the second; Go's zero time is `null`.
fn time(message: &DynamicMessage, digits: usize) -> Value {
    if !message.has_field_by_name("seconds") {
        return Value::Null;
    }
    let time = date_and_time(number(message, "seconds"));
    let fraction = format!("{:09}", number(message, "nanos"));
    let fraction = if digits == 0 { String::new() } else { format!(".{}", &fraction[..digits]) };
    json!(format!("{time}{fraction}Z"))
}

/// JSON inside a message.
fn embedded_json(message: &DynamicMessage, name: &str) -> Value {
    let bytes = message.get_field_by_name(name).and_then(|value| value.as_bytes().cloned()).unwrap_or_default();
    if bytes.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(BASE64.encode(&bytes)))
}

/// How many fields of a message and of those in it are of a newer Kubernetes.
pub fn unknown_fields(message: &DynamicMessage) -> usize {
    let inner: usize = message.fields().map(|(_, value)| unknown_in(value)).sum();
    message.unknown_fields().count() + inner
}

fn unknown_in(value: &Field) -> usize {
    match value {
        Field::Message(message) => unknown_fields(message),
        Field::List(items) => items.iter().map(unknown_in).sum(),
        Field::Map(pairs) => pairs.values().map(unknown_in).sum(),
        _ => 0,
    }
}

/// The same value, the keys of all objects in the order of the alphabet.
pub fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<(String, Value)> =
                fields.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            fields.sort_by(|left, right| left.0.cmp(&right.0));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        value => value,
    }
}
