//! `get --decode=kubernetes`: values that an API server has stored, as YAML.
//!
//! | a value begins with | it is | printed as |
//! |---|---|---|
//! | `k8s\0` | the message `runtime.Unknown`: API version, kind and the encoded object | the object, by the messages in `proto/kubernetes` |
//! | the same, with another kind | an object of an API that ringctl has no messages of | API version, kind and the bytes in base64 |
//! | `k8s:enc:` | an object that the API server has encrypted | a comment with the provider of the key |
//! | `{` | an object in JSON: custom resources, their definitions, API services | the object |
//! | anything else | not an object of Kubernetes | a comment, and the value as a text, or else in base64 |
//!
//! The protobuf form does not tell which fields may be left out of the YAML: empty texts and lists and unset times are, and numbers and
//! booleans are printed as they are stored, also 0 and `false`. Keys are in the order of the alphabet, as `kubectl get -o yaml` has them.

mod object;

use std::{
    io::{self, Write},
    sync::LazyLock,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::{Map, Value};

use crate::proto::{KUBERNETES_DESCRIPTORS, mvccpb::KeyValue};

/// The names of formats that `--decode` takes.
pub const FORMATS: &[&str] = &["kubernetes"];

const PROTOBUF: &[u8] = b"k8s\0";
const ENCRYPTED: &[u8] = b"k8s:enc:";
const ENVELOPE: &str = "k8s.io.apimachinery.pkg.runtime.Unknown";
const META: &str = "k8s.io.apimachinery.pkg.apis.meta.v1";
/// The groups whose package has another name than the first word of the group.
const PACKAGES: [(&str, &str); 2] = [("", "core"), ("internal.apiserver.k8s.io", "apiserverinternal")];

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(KUBERNETES_DESCRIPTORS).expect("the build has made it"));

/// Prints each pair as one document of YAML, with its key as a comment.
pub fn print(pairs: &[KeyValue], output: &mut dyn Write) -> io::Result<()> {
    for (at, pair) in pairs.iter().enumerate() {
        if at > 0 {
            writeln!(output, "---")?;
        }
        writeln!(output, "# {}", one_line(&pair.key))?;
        output.write_all(document(&pair.value).as_bytes())?;
    }
    Ok(())
}

/// A comment must not end early.
fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect()
}

/// A value as YAML, with a comment where it cannot be decoded.
fn document(value: &[u8]) -> String {
    if let Some(envelope) = value.strip_prefix(PROTOBUF) {
        return match Object::decode(envelope) {
            Ok(object) => object.document(),
            Err(why) => format!("# not decoded: {why}\n{}", raw(value)),
        };
    }
    if let Some(rest) = value.strip_prefix(ENCRYPTED) {
        // `aescbc:v1:<name of the key>:`, and the ciphertext after it.
        let provider: Vec<_> = rest.splitn(4, |byte| *byte == b':').take(3).map(one_line).collect();
        return format!("# encrypted by the API server ({}), not decoded\n", provider.join(":"));
    }
    match serde_json::from_slice::<Value>(value) {
        Ok(object @ Value::Object(_)) => yaml(&object::sorted(object)),
        _ => format!("# not an object of Kubernetes\n{}", raw(value)),
    }
}

fn raw(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => yaml(&Value::from(text)),
        Err(_) => yaml(&Value::from(BASE64.encode(value))),
    }
}

fn yaml(value: &Value) -> String {
    let text = serde_saphyr::to_string(value).expect("a value of JSON is one of YAML");
    if text.ends_with('\n') { text } else { text + "\n" }
}

/// An object out of its envelope.
struct Object {
    api_version: String,
    kind: String,
    /// The message of this kind.
    encoded: Vec<u8>,
}

impl Object {
    fn decode(envelope: &[u8]) -> Result<Self, String> {
        let descriptor = POOL.get_message_by_name(ENVELOPE).expect("it is in the pool");
        let message = DynamicMessage::decode(descriptor, envelope).map_err(|error| format!("envelope: {error}"))?;
        let text = |message: &DynamicMessage, name: &str| {
            message.get_field_by_name(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
        };
        let type_meta = message.get_field_by_name("typeMeta");
        let type_meta = type_meta.as_deref().and_then(prost_reflect::Value::as_message);
        let of_type = |name| type_meta.map(|type_meta| text(type_meta, name)).unwrap_or_default();
        let encoding = text(&message, "contentEncoding");
        if !encoding.is_empty() {
            return Err(format!("content encoding {encoding:?}"));
        }
        let encoded = message.get_field_by_name("raw").and_then(|raw| raw.as_bytes().map(|bytes| bytes.to_vec()));
        let (api_version, kind) = (of_type("apiVersion"), of_type("kind"));
        Ok(Self { api_version, kind, encoded: encoded.unwrap_or_default() })
    }

    /// The message of this version and kind: `apps/v1` and `Deployment` is `k8s.io.api.apps.v1.Deployment`.
    fn descriptor(&self) -> Option<MessageDescriptor> {
        let (group, version) = self.api_version.split_once('/').unwrap_or(("", &self.api_version));
        let special = PACKAGES.iter().find(|(name, _)| *name == group).map(|(_, package)| *package);
        let package = special.or_else(|| group.split('.').next()).unwrap_or_default();
        let kind = &self.kind;
        let of_group = POOL.get_message_by_name(&format!("k8s.io.api.{package}.{version}.{kind}"));
        of_group.or_else(|| POOL.get_message_by_name(&format!("{META}.{kind}")).filter(|_| group.is_empty()))
    }

    fn document(&self) -> String {
        let head = [("apiVersion", &self.api_version), ("kind", &self.kind)];
        let mut fields: Map<String, Value> =
            head.into_iter().map(|(name, text)| (name.to_owned(), Value::from(text.as_str()))).collect();
        let decoded = match self.descriptor() {
            Some(descriptor) => {
                DynamicMessage::decode(descriptor, &self.encoded[..]).map_err(|error| format!("not decoded: {error}"))
            }
            None => Err("ringctl has no message of this kind".to_owned()),
        };
        match decoded {
            Ok(message) => {
                object::add_fields(&message, &mut fields);
                let note = object::unknown_fields(&message);
                let note = if note == 0 { String::new() } else { format!("# {note} unknown fields are left out\n") };
                note + &yaml(&object::sorted(Value::Object(fields)))
            }
            Err(why) => {
                fields.insert("raw".to_owned(), Value::from(BASE64.encode(&self.encoded)));
                format!("# {why}\n{}", yaml(&Value::Object(fields)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
