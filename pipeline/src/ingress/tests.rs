//! What requests are refused for, and what is published of the ingress.

use std::{fmt::Write as _, path::Path};

use super::{body, openapi, prepare};
use crate::spec::IngressSpec;

#[test]
fn bodies_that_are_taken() {
    let parse = |text: &str| body::parse(text.as_bytes()).unwrap();
    let one = parse(r#"{"key":"k","value":{"n":1.50},"headers":{"a":"b"}}"#);
    let many =
        parse(r#"{"type":"claim","records":[{"key":"k","value":{"n":1.50},"headers":{"a":"b"}}]}"#);
    assert_eq!((one.kind, many.kind.as_deref()), (None, Some("claim")));
    for records in [one.records, many.records] {
        let [record]: [_; 1] = records.try_into().unwrap();
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let new = record.new_record(Some(trace)).unwrap();
        assert_eq!(new.key.0, b"k");
        assert_eq!(new.value.unwrap().0, br#"{"n":1.50}"#, "byte for byte");
        let headers = [("a", "b"), ("traceparent", trace)];
        assert_eq!(new.headers, headers.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }
    let own = parse(r#"{"key":"k","value":1,"headers":{"traceparent":"mine"}}"#).records;
    let new = own.into_iter().next().unwrap().new_record(Some("its")).unwrap();
    assert_eq!(new.headers, [("traceparent".to_owned(), "mine".to_owned())]);
}

#[test]
fn bodies_that_are_refused() {
    let mut deep = String::from("{\"key\":\"k\",\"value\":");
    let _infallible = write!(deep, "{}1{}", "[".repeat(200_000), "]".repeat(200_000));
    for (text, want) in [
        (&b"\xff{}"[..], "not UTF-8 from byte 0 on"),
        (b"", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"{\"key\":\"k\"", "not a JSON object"),
        (b"{\"records\":[]}", "`records` is empty"),
        (b"{\"records\":{}}", "not what is asked for"),
        (b"{\"records\":[{\"key\":\"k\"}]}", "missing field `value`"),
        (b"{\"value\":1}", "missing field `key`"),
        (b"{\"key\":\"k\",\"value\":1,\"valeu\":2}", "unknown field `valeu`"),
        (b"{\"key\":\"k\",\"value\":1,\"key\":\"j\"}", "duplicate field `key`"),
        (b"{\"key\":7,\"value\":1}", "invalid type"),
        (deep.as_bytes(), "not a JSON object"), // its end is missing: it is read to there, by no recursion
    ] {
        let (_, told) = body::parse(text).unwrap_err();
        assert!(told.contains(want), "`{want}` is not in: {told}");
    }
}

#[test]
fn headers_that_are_ours_are_refused() {
    for (name, want) in [("semel-id", "is Semel's own"), ("", "is Semel's own")] {
        let text = format!(r#"{{"key":"k","value":1,"headers":{{"{name}":"x"}}}}"#);
        let records = body::parse(text.as_bytes()).unwrap().records;
        let told = records.into_iter().next().unwrap().new_record(None).unwrap_err();
        assert!(told.contains(want), "{told}");
    }
    let many: Vec<String> = (0..33).map(|n| format!("\"h{n}\":\"x\"")).collect();
    let text = format!(r#"{{"key":"k","value":1,"headers":{{{}}}}}"#, many.join(","));
    let records = body::parse(text.as_bytes()).unwrap().records;
    let told = records.into_iter().next().unwrap().new_record(None).unwrap_err();
    assert!(told.contains("33 headers"), "{told}");
}

#[test]
fn an_ingress_that_others_reach_has_keys() {
    let spec = |listen: &str, keys: &str, topics: &[&str]| IngressSpec {
        listen: listen.to_owned(),
        keys: keys.to_owned(),
        topics: topics.iter().map(|t| (*t).to_owned()).collect(),
        ..IngressSpec::default()
    };
    let prepared = |spec: &IngressSpec| prepare(spec, &|_| Some("ann 0123456789abcdef".to_owned()));
    assert!(prepared(&spec("", "", &[])).unwrap().is_none());
    let (address, keys) = prepared(&spec("8080", "", &["in"])).unwrap().unwrap();
    assert_eq!((address.to_string().as_str(), keys.are_none()), ("127.0.0.1:8080", true));
    let (_, keys) = prepared(&spec("0.0.0.0:8080", "env:KEYS", &["in"])).unwrap().unwrap();
    assert!(!keys.are_none());
    for (wrong, want) in [
        (spec("0.0.0.0:8080", "", &["in"]), "others than this machine reach 0.0.0.0:8080"),
        (spec("[::]:8080", "", &["in"]), "others than this machine reach"),
        (spec("8080", "", &[]), "`topics` is empty"),
        (spec("here", "", &["in"]), "`here` is no address"),
        (IngressSpec { records_max: 0, ..spec("8080", "", &["in"]) }, "are at least 1"),
    ] {
        let told = prepared(&wrong).unwrap_err();
        assert!(told.contains(want), "{told}");
    }
}

#[test]
fn the_openapi_document_is_published() {
    let text = serde_json::to_string_pretty(&openapi()).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/openapi.json");
    if std::env::var_os("SEMEL_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == text, "schemas/openapi.json differs: run this test with SEMEL_BLESS=1");
}
