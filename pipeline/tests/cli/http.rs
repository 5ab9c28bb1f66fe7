//! What a running process answers over HTTP: metrics, and whether it is live and ready.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use super::{
    look::{SPEC, Told, claim, semel, until},
    run, says,
};

/// Status and body of one request.
pub(super) fn ask(address: &str, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(240))).unwrap();
    let head = format!(
        "{head}\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub(super) fn get(address: &str, path: &str) -> (u16, String) {
    ask(address, &format!("GET {path} HTTP/1.1"), b"")
}

/// The value of a sample with exactly this name and these labels.
fn sample(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn a_process_tells_what_it_does_and_whether_it_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("toy.toml"), SPEC).unwrap();
    let json = [("SEMEL_LOG_FORMAT", "json")];
    let told = Told::begin(folder.path(), &["run", "toy.toml", "--metrics", "0"], &json);
    let address = told.after("metrics and health at http://");
    assert!(address.starts_with("127.0.0.1:"), "{address} is not this machine only");
    assert_eq!(get(&address, "/health/live"), (200, "live\n".to_owned()));
    assert_eq!(get(&address, "/nothing").0, 404);
    until(240, "readiness", || get(&address, "/health/ready").0 == 200);
    let (code, health) = get(&address, "/health");
    let health: serde_json::Value = serde_json::from_str(&health).unwrap();
    assert_eq!((code, &health["ready"], &health["tasks"]), (200, &true.into(), &2.into()));

    let made = semel(folder.path(), &["produce", "toy.toml", "in", "--key", "c", &claim(1, "c")]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    until(240, "one record in and one out", || {
        let text = get(&address, "/metrics").1;
        ["in", "out"].iter().all(|way| {
            let name = format!("semel_records_{way}_total{{stage=\"dedupe\"}}");
            sample(&text, &name) == Some(1.0)
        })
    });
    until(240, "lag of zero", || {
        let text = get(&address, "/metrics").1;
        ["0", "1"].iter().all(|partition| {
            let name = format!("semel_lag_records{{stage=\"dedupe\",partition=\"{partition}\"}}");
            sample(&text, &name) == Some(0.0)
        })
    });
    let text = get(&address, "/metrics").1;
    let name = "semel_commit_seconds_count{group=\"semel.toy.dedupe\",end=\"committed\"}";
    assert!(sample(&text, name).is_some_and(|count| count >= 1.0), "{text}");
    assert!(sample(&text, "semel_state_bytes").is_some_and(|bytes| bytes > 0.0), "{text}");

    // Paused by a person: not flowing, and still no reason to keep others waiting.
    let paused = semel(folder.path(), &["pause", "toy.toml", "dedupe"]);
    assert_eq!(paused.code, Some(0), "{}", paused.err);
    until(240, "the pause", || get(&address, "/health").1.contains("\"paused\":[\"dedupe\"]"));

    fs::create_dir(folder.path().join("other")).unwrap();
    let other =
        run(&folder.path().join("other"), 240, &["run", "../toy.toml", "--metrics", &address], &[]);
    says(&other, 1, &[&format!("metrics cannot be served at {address}: the port is in use")]);
    assert!(!folder.path().join("other/data").exists(), "it began before it had its port");
    told.stop();
}

#[test]
fn wrong_settings_of_what_is_told_are_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("toy.toml"), SPEC).unwrap();
    let wrong = run(folder.path(), 240, &["run", "toy.toml", "--metrics", "nowhere"], &[]);
    says(&wrong, 2, &["metrics: `nowhere` is no address: write a port"]);
    let wrong = run(folder.path(), 240, &["check", "toy.toml"], &[("SEMEL_LOG_FORMAT", "xml")]);
    says(&wrong, 2, &["SEMEL_LOG_FORMAT is `xml`: set it to `human` or `json`"]);
}

#[test]
fn log_lines_for_machines_bear_the_trace_of_a_refused_record() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("toy.toml"), SPEC).unwrap();
    let told = Told::begin(folder.path(), &["run", "toy.toml"], &[("SEMEL_LOG_FORMAT", "json")]);
    told.after("running on");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let header = format!("traceparent=00-{trace}-00f067aa0ba902b7-01");
    // Of a version that nobody knows yet.
    let made = semel(
        folder.path(),
        &[
            "produce",
            "toy.toml",
            "in",
            "--key",
            "c",
            "--header",
            &header,
            "--header",
            "semel-version=9.0",
            &claim(7, "c"),
        ],
    );
    assert_eq!(made.code, Some(0), "{}", made.err);
    let rest = told.after("a record was refused");
    for text in [format!("\"trace_id\":\"{trace}\""), "\"stage\":\"dedupe\"".to_owned()] {
        assert!(rest.contains(&text), "{text} is not in {rest}");
    }
    told.stop();
}

/// The toy pipeline with an ingress for its topic.
fn with_ingress(more: &str) -> String {
    format!("{SPEC}\n[ingress]\nlisten = \"0\"\ntopics = [\"in\"]\n{more}\n")
}

fn post(address: &str, path: &str, more: &str, body: &[u8]) -> (u16, serde_json::Value) {
    let head = format!("POST {path} HTTP/1.1\r\nContent-Type: application/json{more}");
    let (code, text) = ask(address, &head, body);
    let value = serde_json::from_str(&text);
    (code, value.unwrap_or_else(|e| panic!("{code}: {e}: {text}")))
}

fn records(address: &str, body: &[u8]) -> (u16, serde_json::Value) {
    post(address, "/v1/topics/in/records", "", body)
}

#[test]
fn records_are_taken_by_http_all_or_none_and_are_there_when_it_answers() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    fs::write(place.join("toy.toml"), with_ingress("records_max = 3")).unwrap();
    let told = Told::begin(place, &["run", "toy.toml", "--metrics", "0"], &[]);
    let address = told.after("records are taken at http://");
    let metrics = told.after("metrics and health at http://");
    let one = format!("{{\"key\":\"c\",\"value\":{}}}", claim(1, "c"));
    let (code, answer) = records(&address, one.as_bytes());
    assert_eq!(code, 200, "{answer}");
    let id = answer["records"][0]["id"].as_str().unwrap().to_owned();
    let there = semel(place, &["consume", "toy.toml", "in", "--json"]);
    assert_eq!(there.code, Some(0), "{}", there.err);
    assert!(there.out.contains("twitch:c:u1"), "{}", there.out);
    let trace = semel(place, &["trace", "toy.toml", &id]);
    assert_eq!(trace.code, Some(0), "{id}: {}", trace.err);

    let many = |claims: &[String]| {
        let records: Vec<String> =
            claims.iter().map(|c| format!("{{\"key\":\"c\",\"value\":{c}}}")).collect();
        format!("{{\"type\":\"claim\",\"records\":[{}]}}", records.join(","))
    };
    let (code, answer) = records(&address, many(&[claim(2, "c"), claim(3, "c")]).as_bytes());
    assert_eq!((code, answer["records"].as_array().unwrap().len()), (200, 2), "{answer}");
    let bad = claim(5, "c").replace("\"slot\":9", "\"slot\":\"soon\"");
    let (code, answer) = records(&address, many(&[claim(4, "c"), bad]).as_bytes());
    assert_eq!((code, &answer["record"]), (422, &1.into()), "{answer}");
    assert!(answer["text"].as_str().unwrap().contains("slot"), "{answer}");
    let four: Vec<String> = (6..10).map(|n| claim(n, "c")).collect();
    let (code, answer) = records(&address, many(&four).as_bytes());
    assert_eq!((code, &answer["code"]), (413, &"too_many".into()), "{answer}");
    let (code, answer) = post(&address, "/v1/topics/out/records", "", one.as_bytes());
    assert_eq!((code, &answer["code"]), (404, &"no_topic".into()), "{answer}");
    let there = semel(place, &["consume", "toy.toml", "in", "--json"]);
    assert_eq!(there.out.matches("claim_id").count(), 3, "{}", there.out);
    until(240, "three records in", || {
        let text = get(&metrics, "/metrics").1;
        sample(&text, "semel_records_in_total{stage=\"dedupe\"}") == Some(3.0)
            && sample(&text, "semel_ingress_records_total") == Some(3.0)
            && sample(&text, "semel_ingress_requests_total{status=\"200\"}") == Some(2.0)
    });
    told.stop();
}

#[test]
fn requests_that_are_wrong_are_told_so_and_the_process_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        with_ingress("keys = \"env:KEYS\"\nbody_bytes_max = 10000\nrequests_per_second = 10000");
    fs::write(folder.path().join("toy.toml"), text).unwrap();
    let keys = [("KEYS", "ann 0123456789abcdef")];
    let told = Told::begin(folder.path(), &["run", "toy.toml"], &keys);
    let address = told.after("records are taken at http://");
    let path = "/v1/topics/in/records";
    let key = "\r\nAuthorization: Bearer 0123456789abcdef";
    let one = format!("{{\"key\":\"c\",\"value\":{}}}", claim(1, "c"));
    let deep = format!("{{\"key\":\"c\",\"value\":{}1{}}}", "[".repeat(4_000), "]".repeat(4_000));
    for (more, body, want) in [
        ("", one.as_bytes(), (401, "unauthorized")),
        ("\r\nAuthorization: Bearer 0123456789abcdeX", one.as_bytes(), (401, "unauthorized")),
        (key, b"{", (400, "unreadable")),
        (key, b"\xff\xfe", (400, "unreadable")),
        (key, deep.as_bytes(), (422, "SEM-0003")),
        (key, &[b' '; 10_001], (413, "too_large")),
        (key, b"{\"key\":\"\",\"value\":{}}", (422, "SEM-0007")),
        (key, b"{\"type\":\"clam\",\"records\":[{\"key\":\"k\",\"value\":{}}]}", (422, "refused")),
    ] {
        let (code, answer) = post(&address, path, more, body);
        assert_eq!((code, answer["code"].as_str().unwrap()), want, "{answer}");
    }
    let once = format!("{key}\r\nIdempotency-Key: 7");
    assert_eq!(post(&address, path, &once, one.as_bytes()).1["code"], "no_ids");
    let head = format!("POST {path} HTTP/1.1\r\nContent-Type: text/plain{key}");
    assert_eq!(ask(&address, &head, one.as_bytes()).0, 415);
    assert_eq!(ask(&address, &format!("GET {path} HTTP/1.1"), b"").0, 405);
    let (code, document) = get(&address, "/v1/openapi.json");
    assert_eq!((code, document.contains("/v1/topics/{topic}/records")), (200, true));
    assert_eq!(post(&address, path, key, one.as_bytes()).0, 200);
    let open = run(
        folder.path(),
        240,
        &["run", "toy.toml", "--ingress", "0.0.0.0:0"],
        &[("KEYS", "ann short")],
    );
    says(&open, 2, &["ingress: line 1 of the API keys: the key of `ann` has fewer than 16"]);
    told.stop();
}
