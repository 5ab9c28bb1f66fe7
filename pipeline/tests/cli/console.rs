//! The console of a running process: what its page is drawn from, whom it answers, what it refuses.
//! The page itself is opened by `deploy/console-test`.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;

use super::{
    http::{ask, get},
    look::{SPEC, Told, claim, semel, until},
    run, says,
};

/// A key that would be markup in a page that took it for such.
const KEY: &str = "<img src=x onerror=alert(1)>";

/// The whole answer to a GET that names this host.
fn whole(address: &str, host: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(240))).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn api(address: &str, path: &str) -> (u16, Value) {
    let (code, text) = get(address, &format!("/console/api/{path}"));
    (code, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{code}: {e}: {text}")))
}

/// A running pipeline that has taken one claim and refused one, and where its console is.
fn with_a_dead_letter(folder: &Path) -> (Told, String) {
    fs::write(folder.join("toy.toml"), SPEC).unwrap();
    let told = Told::begin(folder, &["run", "toy.toml", "--metrics", "0"], &[]);
    let address = told.after("console at http://");
    let address = address.strip_suffix("/console").unwrap().to_owned();
    for more in [&["--key", "c"][..], &["--key", KEY, "--header", "semel-version=9.0"]] {
        let value = claim(1, "c");
        let made = semel(folder, &[&["produce", "toy.toml", "in"][..], more, &[&*value]].concat());
        assert_eq!(made.code, Some(0), "{}", made.err);
    }
    until(240, "the dead letter", || {
        let (code, found) = api(&address, "dlq");
        code == 200 && !found["letters"].as_array().unwrap().is_empty()
    });
    (told, address)
}

#[test]
fn the_console_answers_what_the_commands_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (told, address) = with_a_dead_letter(folder.path());

    let (code, graph) = api(&address, "graph");
    assert_eq!((code, &graph["pipeline"]), (200, &"toy".into()));
    let drawn = semel(folder.path(), &["graph", "toy.toml"]);
    let nodes = graph["nodes"].as_array().unwrap();
    let kinds = |kind: &str| nodes.iter().filter(|node| node["kind"] == kind).count();
    assert_eq!((kinds("stage"), kinds("topic"), kinds("sink")), (1, 3, 0), "{graph}");
    for node in nodes {
        assert!(drawn.out.contains(node["name"].as_str().unwrap()), "{node}: {}", drawn.out);
    }
    let arrows = graph["arrows"].as_array().unwrap();
    assert_eq!(drawn.out.matches("-->").count(), arrows.len(), "{}", drawn.out);
    assert!(arrows.iter().any(|a| a["from"] == "t:in" && a["reader"] == "dedupe"), "{graph}");

    until(240, "one record out, and no lag", || {
        let (code, top) = api(&address, "top");
        let row = &top["rows"][0];
        assert_eq!((code, &row["name"]), (200, &"dedupe".into()), "{top}");
        row["records_out"] == 1 && row["lag"] == 0 && row["dead_letters"] == 1
    });

    let letter = api(&address, "dlq").1["letters"][0].clone();
    let list = semel(folder.path(), &["dlq", "list", "toy.toml"]);
    for name in ["time", "place", "stage", "key", "fault", "text"] {
        assert!(list.out.contains(letter[name].as_str().unwrap()), "{name}: {letter} {}", list.out);
    }
    assert_eq!((&letter["stage"], &letter["key"]), (&"dedupe".into(), &KEY.into()));

    // From the letter to its record, as the page's link goes.
    let origin = letter["origin"].as_str().unwrap();
    let (code, way) = api(&address, &format!("trace?id={}", origin.replace('/', "%2F")));
    assert_eq!(code, 200, "{way}");
    let steps = way["steps"].as_array().unwrap();
    let shown = semel(folder.path(), &["trace", "toy.toml", origin]);
    assert_eq!(shown.out.lines().count(), steps.len(), "{way} {}", shown.out);
    for step in steps {
        assert!(shown.out.contains(step["what"].as_str().unwrap()), "{step}: {}", shown.out);
    }
    assert!(way.to_string().contains("refused: "), "{way}");

    // Decided about: the page need not show it any longer.
    let done =
        semel(folder.path(), &["dlq", "drop", "toy.toml", letter["place"].as_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(api(&address, "dlq").1["letters"], Value::Array(Vec::new()));
    told.stop();
}

#[test]
fn what_is_asked_wrongly_is_one_sentence_and_nothing_can_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (told, address) = with_a_dead_letter(folder.path());
    let long = format!("trace?id={}", "a".repeat(501));
    for (path, want, text) in [
        ("trace", 400, "say which record"),
        ("trace?id=", 400, "say which record"),
        (&*long, 400, "500 characters"),
        ("trace?id=nothing-bears-this", 422, "no record of pipeline `toy` bears the id"),
    ] {
        let (code, answer) = api(&address, path);
        assert_eq!(code, want, "{path}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(text), "{path}: {answer}");
    }
    for path in ["/console", "/console/api/graph", "/console/api/dlq", "/console/api/trace?id=x"] {
        for verb in ["POST", "PUT", "DELETE", "PATCH"] {
            assert_eq!(
                ask(&address, &format!("{verb} {path} HTTP/1.1"), b"").0,
                405,
                "{verb} {path}"
            );
        }
    }
    assert_eq!(get(&address, "/console/api/nothing").0, 404);
    assert_eq!(get(&address, "/health/live").0, 200);
    told.stop();
}

#[test]
fn the_page_runs_nothing_but_its_own_and_is_shown_to_this_machine_only() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("toy.toml"), SPEC).unwrap();
    let told = Told::begin(folder.path(), &["run", "toy.toml", "--metrics", "0"], &[]);
    let address = told.after("metrics and health at http://");
    let page = whole(&address, &address, "/console").to_lowercase();
    assert!(page.starts_with("http/1.1 200"), "{page}");
    let policy = page.lines().find(|line| line.starts_with("content-security-policy: ")).unwrap();
    assert!(policy.contains("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(page.contains("x-content-type-options: nosniff"), "{page}");
    assert!(page.contains("cache-control: no-store"), "{page}");
    // A name that somebody else resolves to this machine: a page of theirs would read our records.
    for path in ["/console", "/console/api/graph", "/console/api/dlq"] {
        let answer = whole(&address, "evil.example", path);
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(answer.contains("only this machine is served"), "{answer}");
    }
    let port = address.rsplit_once(':').unwrap().1;
    assert!(whole(&address, &format!("localhost:{port}"), "/console").starts_with("HTTP/1.1 200"));
    told.stop();

    // Where others reach the metrics, records are shown only if that is said.
    for (more, code) in [(None, 404), (Some("--console"), 200)] {
        let mut args = vec!["run", "toy.toml", "--metrics", "0.0.0.0:0"];
        args.extend(more);
        let told = Told::begin(folder.path(), &args, &[]);
        let address = told.after("metrics and health at http://");
        let port = address.rsplit_once(':').unwrap().1;
        let here = format!("127.0.0.1:{port}");
        assert_eq!(get(&here, "/console").0, code);
        assert_eq!(get(&here, "/console/api/graph").0, code);
        assert_eq!(get(&here, "/health/live").0, 200);
        told.stop();
    }
    let nowhere = run(folder.path(), 240, &["run", "toy.toml", "--console"], &[]);
    says(&nowhere, 2, &["the console is served where metrics are"]);
}
