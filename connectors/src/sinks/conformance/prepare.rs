//! `prepare`: our tables come, legacy rows stay, and a mapping that does not fit is one sentence.

use super::*;

on_both! {
    preparing_twice_and_by_two_is_no_error
    a_legacy_table_keeps_its_rows_and_its_ids_go_on
    a_mapping_that_does_not_fit_is_refused_with_a_sentence
    a_table_for_which_records_wait_cannot_leave_the_mapping
}

async fn preparing_twice_and_by_two_is_no_error(db: &Db) {
    let (a, b) = (db.sink(shipped("claims")), db.sink(shipped("roots")));
    a.prepare().await.unwrap();
    let (first, second) = tokio::join!(a.prepare(), b.prepare());
    first.unwrap();
    second.unwrap();
    assert_eq!(db.texts("SELECT CAST(count(*) AS VARCHAR) FROM semel_migrations").await, ["4"]);
}

async fn a_legacy_table_keeps_its_rows_and_its_ids_go_on(db: &Db) {
    let id = match db {
        Db::Sqlite { .. } => "INTEGER PRIMARY KEY AUTOINCREMENT",
        Db::Postgres { schema, .. } => {
            db.exec(&format!("CREATE SCHEMA \"{schema}\"")).await;
            "SERIAL PRIMARY KEY"
        }
    };
    db.exec(&format!(
        "CREATE TABLE claims (id {id}, channel VARCHAR, user_pubkey VARCHAR, slot BIGINT, \
           claim_timestamp TIMESTAMP, status VARCHAR); \
         INSERT INTO claims (channel, user_pubkey, slot, status) \
           VALUES ('old', 'u', 5, 'settled'), ('old', 'v', 6, 'pending')"
    ))
    .await;
    let sink = db.ready(shipped("claims")).await;
    done(&*sink, &batch(None, vec![claim(0, "a", "pending")])).await;
    assert_eq!(
        db.texts("SELECT id || channel || user_pubkey || slot || status FROM claims WHERE semel_id IS NULL ORDER BY id").await,
        ["1oldu5settled", "2oldv6pending"]
    );
    assert_eq!(db.texts("SELECT id || ' ' || semel_id FROM claims WHERE id > 2").await, ["3 a"]);
}

async fn a_mapping_that_does_not_fit_is_refused_with_a_sentence(db: &Db) {
    db.ready(shipped("claims")).await;
    db.exec("CREATE TABLE strict (semel_id VARCHAR UNIQUE, must INT NOT NULL)").await;
    db.exec("CREATE TABLE odd (semel_id VARCHAR UNIQUE, day DATE)").await;
    db.exec("CREATE TABLE bare (semel_id VARCHAR, a INT)").await;
    let lookup = "{ lookup = { table = \"roots\", column = \"root\", by = \"r\" } }";
    for (table, columns, parts) in [
        ("nowhere", "a = \"a\"".to_owned(), ["no table", "nowhere", "create it"]),
        ("claims", "chanel = \"a\"".into(), ["column", "claims.chanel", "does not exist"]),
        ("claims", "claim_timestamp = \"a\"".into(), ["claims.claim_timestamp", "`a`", "form"]),
        (
            "claims",
            "slot = { field = \"a\", form = \"ms\" }".into(),
            ["claims.slot", "`a`", "TIMESTAMP"],
        ),
        ("claims", "slot = { value = \"x\" }".into(), ["constant", "claims.slot", "does not fit"]),
        ("claims", format!("slot = {lookup}"), ["claims.slot", "looks up", "roots.root"]),
        (
            "strict",
            "must = { field = \"a\", optional = true }".into(),
            ["strict.must", "NOT NULL", "optional"],
        ),
        ("odd", "day = \"a\"".into(), ["odd.day", "cannot write", "TIMESTAMP"]),
        ("bare", "a = \"a\"".into(), ["bare", "semel_id", "UNIQUE"]),
    ] {
        let text = format!(
            "name = \"s\"\ntopic = \"t\"\n[[tables]]\ntable = \"{table}\"\ntypes = [\"x\"]\n\
             key = [\"k\"]\n[tables.columns]\n{columns}"
        );
        let sink = db.sink(toml::from_str(&text).unwrap());
        let error = sink.prepare().await.unwrap_err();
        let SinkError::Refused(said) = &error else { panic!("{error:?}") };
        for part in parts {
            assert!(said.contains(part), "{table} {columns}: {said}");
        }
        assert!(matches!(sink.write(&batch(None, vec![])).await, Err(SinkError::Refused(_))));
    }
}

async fn a_table_for_which_records_wait_cannot_leave_the_mapping(db: &Db) {
    let sink = db.ready(family()).await;
    done(&*sink, &batch(None, vec![settlement(0, "s1", "c:1", "x")])).await;
    let mut without = family();
    without.tables.remove(0);
    let error = db.sink(without).prepare().await.unwrap_err();
    assert!(error.to_string().contains("settlement_log"), "{error}");
}

#[tokio::test]
async fn a_url_or_a_schema_that_is_wrong_is_refused() {
    for (url, schema, part) in [
        ("mysql://h/d", "public", "postgres:// or sqlite:"),
        ("sqlite:x.db", "other", "SQLite has no schemas"),
        ("postgres://h/d", "a\"b", "no name of a database schema"),
        ("postgres://u:secret@h:x/d", "public", "cannot be read"),
    ] {
        let said = connect(url, schema, shipped("claims")).map(|_| ()).unwrap_err().to_string();
        assert!(said.contains(part) && !said.contains("secret"), "{said}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_and_a_folder_that_is_missing_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text.db");
    std::fs::write(&file, "this is no database, only text of some length ".repeat(20)).unwrap();
    for path in [file, folder.path().join("missing/sink.db")] {
        let url = format!("sqlite:{}", path.display());
        let sink = connect(&url, "public", shipped("claims")).unwrap();
        let error = sink.prepare().await.unwrap_err();
        assert!(matches!(error, SinkError::Refused(_)), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}
