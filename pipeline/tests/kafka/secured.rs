//! A broker behind TLS and SASL, reached through the `[log.client]` table of a spec as a person
//! writes it: what it takes to get in, and what is said to somebody who does not.
//!
//! `deploy/kafka start DIR --secured` makes such a listener, and `SEMEL_TEST_KAFKA_SECURED` names the
//! folder with what a client needs. May not live here: what a log does once it is reached.

use std::{fs, path::PathBuf};

use semel::{
    log::{
        LogError,
        conformance::kit::{self, Lane, P0},
        kafka::{KafkaConfig, KafkaLog},
    },
    spec::parse::parse,
};

use crate::harness::Broker;

/// The folder of the secured listener.
fn secured() -> PathBuf {
    let folder = std::env::var("SEMEL_TEST_KAFKA_SECURED").expect(
        "this test needs a secured listener: run `deploy/kafka start DIR --secured`, and set \
         SEMEL_TEST_KAFKA_SECURED to DIR/secured",
    );
    PathBuf::from(folder)
}

fn read(name: &str) -> String {
    let text = fs::read_to_string(secured().join(name)).expect("deploy/kafka wrote it");
    text.trim().to_owned()
}

/// The settings of a spec whose `[log.client]` says so.
fn config(mechanism: &str, password: &str, authority: &str) -> KafkaConfig {
    let spec = format!(
        r#"
[pipeline]
name = "secured"

[log]
brokers = "{}"

[log.client]
"security.protocol" = "sasl_ssl"
"ssl.ca.location" = "{authority}"
"sasl.mechanism" = "{mechanism}"
"sasl.username" = "semel"
"sasl.password" = "{password}"
"#,
        read("bootstrap")
    );
    let (spec, _) = parse("secured.toml", &spec, &|_| None).expect("the spec is right");
    let mut config = KafkaConfig::new(&spec.log.brokers);
    config.settings = spec.log.client;
    config
}

fn authority() -> String {
    secured().join("ca.pem").display().to_string()
}

fn password() -> String {
    format!("file:{}", secured().join("password").display())
}

#[test]
fn records_and_offsets_are_committed_over_tls_and_sasl() {
    for mechanism in ["SCRAM-SHA-512", "PLAIN"] {
        let h = Broker::with(config(mechanism, &password(), &authority()));
        let (source, out) = (kit::topic(&h, "source", 1), kit::topic(&h, "out", 1));
        kit::append(semel::log::conformance::Harness::log(&h), &source, P0, &["a", "b"]);
        let mut lane = Lane::alone(&h, &source, 1);
        kit::until(&h, "both are copied", || {
            lane.copy(&h, &out);
            (kit::committed_texts(&h, &out) == ["a", "b"]).then_some(())
        });
    }
}

fn refused(config: &KafkaConfig, what: &[&str]) {
    let error = KafkaLog::connect(config).expect_err("the broker lets nobody in");
    let text = error.to_string();
    assert!(matches!(error, LogError::Refused(_)), "{text}");
    for what in what {
        assert!(text.contains(what), "`{what}` is not in: {text}");
    }
    assert!(!text.contains('\n') && !text.contains("hunter2"), "{text}");
}

#[test]
fn a_wrong_password_is_one_sentence_that_does_not_tell_it() {
    let wrong = tempfile::NamedTempFile::new().expect("a file is made");
    fs::write(wrong.path(), "hunter2").expect("it is written");
    let pointer = format!("file:{}", wrong.path().display());
    for mechanism in ["SCRAM-SHA-512", "PLAIN"] {
        let wrong = config(mechanism, &pointer, &authority());
        refused(&wrong, &[&read("bootstrap"), "sasl.username", "sasl.password"]);
    }
}

#[test]
fn an_authority_that_did_not_sign_the_certificate_is_one_sentence() {
    // Any other self-made certificate: the broker's own is not one that signs.
    let other = secured().join("server.crt").display().to_string();
    refused(&config("PLAIN", &password(), &other), &[&read("bootstrap"), "ssl.ca.location"]);
}
