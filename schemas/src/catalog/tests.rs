//! The catalog is complete and unambiguous.

use std::collections::BTreeSet;

use super::*;

#[test]
fn names_are_distinct_and_sorted() {
    let names: Vec<_> = ENTRIES.iter().map(|e| e.name).collect();
    let sorted: Vec<_> = names.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(names, sorted);
}

#[test]
fn a_union_is_narrowed_to_its_variant() {
    let observed = find(ROOT_OBSERVED).unwrap();
    let schema = observed.schema();
    assert_eq!(schema["properties"]["fact"]["const"], "root_set");
    assert!(schema.get("oneOf").is_none());
    let other =
        br#"{"fact":"undecodable","signature":"SIG","slot":1,"ix_index":0,"data":"","text":"t"}"#;
    let other = String::from_utf8_lossy(other).replace("SIG", &"1".repeat(64));
    assert!(find(UNDECODABLE).unwrap().rewrite(other.as_bytes()).is_ok());
    let fault = observed.rewrite(other.as_bytes()).unwrap_err();
    assert!(fault.text.contains("root_set"), "{fault}");
}

#[test]
fn bad_bytes_are_refused_with_the_types_name() {
    for entry in ENTRIES {
        for bad in [&b""[..], b"{}", b"[]", b"null", b"\xff"] {
            let fault = entry.rewrite(bad).unwrap_err();
            assert!(fault.text.contains(entry.name), "{}: {fault}", entry.name);
        }
    }
}
