//! What needs no running pipeline: the page's policy, hosts, ids.

use super::{PAGE, asked_id, names_this_machine, policy};

#[test]
fn the_page_keeps_to_its_policy() {
    let policy = policy(PAGE);
    let empty = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    assert_eq!(policy.matches("'sha256-").count(), 2, "{policy}");
    assert!(!policy.contains(empty) && !policy.contains("unsafe"), "{policy}");
    // One of each, so that what was hashed is what stands there; nothing that a hash does not cover.
    for tag in ["<script>", "</script>", "<style>", "</style>"] {
        assert_eq!(PAGE.matches(tag).count(), 1, "{tag}");
    }
    for never in
        ["<script ", "<link", "<img", "<iframe", "src=", "style=", "onclick", "http://", "https://"]
    {
        let found = PAGE.matches(never).count();
        let svg = if never == "http://" { 1 } else { 0 }; // The name of SVG's namespace.
        assert_eq!(found, svg, "{never}");
    }
    // What stands in records is text, never markup.
    for never in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
        assert!(!PAGE.contains(never), "{never}");
    }
}

#[test]
fn only_names_that_nobody_else_gives_out_are_this_machine() {
    for host in
        ["localhost", "localhost:9090", "LOCALHOST:1", "127.0.0.1:9090", "[::1]:9090", "[::1]"]
    {
        assert!(names_this_machine(host), "{host}");
    }
    for host in
        ["", "evil.example", "evil.example:9090", "127.0.0.1.evil.example:9090", "localhost.evil:1"]
    {
        assert!(!names_this_machine(host), "{host}");
    }
}

#[test]
fn an_id_is_read_as_browsers_write_it() {
    assert_eq!(asked_id("id=p.t%2F0%2F7").unwrap(), "p.t/0/7");
    assert_eq!(asked_id("x=1&id=a+b").unwrap(), "a b");
    for none in ["", "id=", "id=%20", "identity=7"] {
        assert!(asked_id(none).unwrap_err().starts_with("say which record"), "{none}");
    }
    assert!(asked_id(&format!("id={}", "a".repeat(501))).unwrap_err().contains("500 characters"));
}
