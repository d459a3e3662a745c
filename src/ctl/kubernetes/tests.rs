//! The objects of Kubernetes' own tests, with every field filled: decoded, they are the JSON beside them. `RINGD_KUBERNETES_OBJECTS`
//! names another directory of such pairs, for instance `testdata/HEAD` of the module `k8s.io/api`.

use std::{env, fs, path::PathBuf};

use serde_json::{Value, json};

use super::*;

/// Kinds that an API server never stores, for which there is no message.
const NOT_STORED: [&str; 6] = [
    "admission.k8s.io",
    "apidiscovery.k8s.io",
    "authentication.k8s.io",
    "core.v1.WatchEvent",
    "extensions",
    "imagepolicy.k8s.io",
];

fn parsed(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}: {yaml}"))
}

#[test]
fn objects_of_every_field_are_their_json() {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ctl/kubernetes/testdata");
    let folder = env::var_os("RINGD_KUBERNETES_OBJECTS").map_or_else(|| PathBuf::from(own), PathBuf::from);
    let mut compared = 0;
    let mut different = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.extension().is_none_or(|extension| extension != "pb")
            || NOT_STORED.iter().any(|group| name.starts_with(group))
        {
            continue;
        }
        let printed = document(&fs::read(&path).unwrap());
        let expected: Value = serde_json::from_slice(&fs::read(path.with_extension("json")).unwrap()).unwrap();
        compared += 1;
        if printed.starts_with('#') || parsed(&printed) != object::sorted(expected.clone()) {
            different.push(format!("{name}:\n{printed}\nexpected {expected}"));
        }
    }
    assert!(compared >= 13, "{compared} objects");
    assert!(different.is_empty(), "{} of {compared}: {}", different.len(), different.join("\n"));
}

#[test]
fn values_that_are_no_objects_are_named() {
    assert_eq!(
        document(b"k8s:enc:aescbc:v1:key1:\x01\x02"),
        "# encrypted by the API server (aescbc:v1:key1), not decoded\n"
    );
    assert_eq!(document(b"plain"), "# not an object of Kubernetes\nplain\n");
    assert_eq!(document(b"\xff\xfe"), "# not an object of Kubernetes\n//4=\n");
    assert_eq!(document(br#"{"kind":"Widget","apiVersion":"a/v1"}"#), "apiVersion: a/v1\nkind: Widget\n");
    assert!(document(b"k8s\0\xff").starts_with("# not decoded: envelope: "));
}

#[test]
fn unknown_kinds_and_fields_are_named() {
    let envelope = |version: &str, kind: &str, encoded: &[u8]| {
        let mut type_meta = vec![0x0a, version.len() as u8];
        type_meta.extend_from_slice(version.as_bytes());
        type_meta.extend_from_slice(&[0x12, kind.len() as u8]);
        type_meta.extend_from_slice(kind.as_bytes());
        let mut value = [PROTOBUF, &[0x0a, type_meta.len() as u8], &type_meta, &[0x12, encoded.len() as u8]].concat();
        value.extend_from_slice(encoded);
        value
    };
    let unknown = document(&envelope("example.com/v1", "Widget", b"\x01"));
    assert!(unknown.starts_with("# ringctl has no message of this kind\n"), "{unknown}");
    let rest = json!({"apiVersion": "example.com/v1", "kind": "Widget", "raw": "AQ=="});
    assert_eq!(parsed(&unknown), rest);
    // Field 99 with the number 1, in a ConfigMap without anything else.
    let newer = document(&envelope("v1", "ConfigMap", b"\x98\x06\x01"));
    assert_eq!(newer, "# 1 unknown fields are left out\napiVersion: v1\nkind: ConfigMap\n");
    let damaged = document(&envelope("v1", "ConfigMap", b"\x0a\x7f"));
    assert!(damaged.starts_with("# not decoded: "), "{damaged}");
}

#[test]
fn keys_are_comments_of_one_line() {
    let pair = |key: &'static str, value: &'static str| KeyValue {
        key: key.into(),
        value: value.into(),
        ..KeyValue::default()
    };
    let mut printed = Vec::new();
    print(&[pair("/a\nb", r#"{"x":1}"#), pair("/c", r#"{"b":1,"a":{"d":0,"c":false}}"#)], &mut printed).unwrap();
    let expected = "# /a\u{fffd}b\nx: 1\n---\n# /c\na:\n  c: false\n  d: 0\nb: 1\n";
    assert_eq!(String::from_utf8(printed).unwrap(), expected);
}
