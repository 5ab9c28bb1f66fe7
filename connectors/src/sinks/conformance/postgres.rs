//! What only a server can show: namespaces, a backend that dies, an answer that is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_parallel_run_stands_beside_a_legacy_schema() {
    let legacy = Db::postgres("legacy").await;
    let ours = Db::postgres("parallel").await;
    legacy.exec(&format!("CREATE SCHEMA \"{}\"", legacy.schema())).await;
    legacy
        .exec(
            "CREATE TABLE claims (id SERIAL PRIMARY KEY, channel VARCHAR); \
             INSERT INTO claims (channel) VALUES ('old')",
        )
        .await;
    let sink = ours.ready(shipped("claims")).await;
    done(&*sink, &batch(None, vec![claim(0, "a", "pending")])).await;
    assert_eq!(ours.texts("SELECT id || semel_id FROM claims").await, ["1a"]);
    assert_eq!(legacy.texts("SELECT channel FROM claims").await, ["old"]);
    let tables = format!(
        "SELECT CAST(count(*) AS text) FROM information_schema.tables WHERE table_schema = '{}'",
        legacy.schema()
    );
    assert_eq!(legacy.texts(&tables).await, ["1"]);
    let columns = format!(
        "SELECT CAST(count(*) AS text) FROM information_schema.columns WHERE table_schema = '{}'",
        legacy.schema()
    );
    assert_eq!(legacy.texts(&columns).await, ["2"]);
    // Both at once: each namespace counts its own migrations and offsets.
    legacy.exec("DROP TABLE claims").await;
    let other = legacy.ready(shipped("claims")).await;
    assert_eq!(position(&*other).await.unwrap(), None);
    done(&*other, &batch(None, vec![claim(0, "b", "pending")])).await;
    assert_eq!(ours.count("claims").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_dies_in_the_middle_leaves_nothing_behind() {
    let db = Db::postgres("dies").await;
    let sink = db.ready(shipped("claims")).await;
    done(&*sink, &batch(None, vec![claim(0, "a", "pending")])).await;
    db.exec(
        "CREATE FUNCTION slow() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(30); RETURN NEW; END' \
           LANGUAGE plpgsql; \
         CREATE TRIGGER slow BEFORE INSERT ON claims FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    .await;
    let second = batch(Some(1), vec![claim(1, "a", "included"), claim(2, "b", "pending")]);
    let writing = tokio::spawn({
        let (sink, second) = (Arc::clone(&sink), second.clone());
        async move { sink.write(&second).await }
    });
    let kill = format!(
        "SELECT CAST(pg_terminate_backend(pid) AS text) FROM pg_stat_activity \
         WHERE application_name = 'semel' AND wait_event = 'PgSleep' AND query LIKE '%{}%'",
        db.schema()
    );
    let begun = Instant::now();
    while db.texts(&kill).await.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the write never came to its trigger");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = writing.await.unwrap().unwrap_err();
    assert!(matches!(error, SinkError::Unavailable(_)), "{error:?}");
    assert_eq!(position(&*sink).await.unwrap(), Some(1));
    assert_eq!(db.texts("SELECT semel_id || status FROM claims").await, ["apending"]);
    db.exec("DROP TRIGGER slow ON claims").await;
    assert_eq!(done(&*sink, &second).await, (2, 0, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_column_takes_its_values() {
    let db = Db::postgres("kinds").await;
    db.ready(shipped("claims")).await;
    db.exec(
        "CREATE TABLE kinds (semel_id VARCHAR UNIQUE, s SMALLINT, i INT, b BIGINT, n NUMERIC(10,2), \
           m NUMERIC, f DOUBLE PRECISION, yes BOOLEAN, at TIMESTAMP, tz TIMESTAMPTZ, j JSON, \
           jb JSONB, v VARCHAR(3), x TEXT)",
    )
    .await;
    let spec = r#"
        name = "kinds"
        topic = "t"
        [[tables]]
        table = "kinds"
        types = ["kinds"]
        key = ["k.a", "k.b"]
        retract = { types = ["gone"], action = { set = { yes = false, i = 0, v = "abc" } } }
        [tables.columns]
        s = "s"
        i = "i"
        b = "b"
        n = "n"
        m = "n"
        f = "f"
        yes = "yes"
        at = { field = "at", form = "ms" }
        tz = { field = "at", form = "ms" }
        j = "k"
        jb = "k"
        v = { field = "v", optional = true, null_if = "" }
        x = { value = "constant" }
    "#;
    let sink = db.ready(toml::from_str(spec).unwrap()).await;
    let value = json!({
        "k": {"a": "x", "b": 7}, "s": -32768, "i": "2147483647", "b": i64::MIN, "n": "-12345678.90",
        "f": 0.1, "yes": true, "at": 1_763_424_000_123_u64, "v": "",
    });
    for (offset, kind) in [(0, "kinds"), (1, "kinds"), (2, "gone")] {
        let batch = batch((offset > 0).then_some(offset), vec![record(offset, kind, &value)]);
        assert_eq!(done(&*sink, &batch).await, (1, 0, vec![]));
        let want = if kind == "gone" { ("0", "f", "abc") } else { ("2147483647", "t", "-") };
        assert_eq!(
            db.texts(
                "SELECT concat_ws(' ', semel_id, s, i, b, n, m, f, yes, at, tz AT TIME ZONE 'UTC', \
                   j ->> 'b', jb ->> 'b', coalesce(v, '-'), x) FROM kinds"
            )
            .await,
            [format!(
                "x:7 -32768 {} -9223372036854775808 -12345678.90 -12345678.90 0.1 {} \
                 2025-11-18 00:00:00.123 2025-11-18 00:00:00.123 7 7 {} constant",
                want.0, want.1, want.2
            )]
        );
    }
}

/// What the wire does with the next commit.
const PASS: u8 = 0;
const CUT_BEFORE: u8 = 1;
const CUT_AFTER: u8 = 2;

/// A wire to the server that can be cut around a commit.
async fn wire(to: String) -> (u16, Arc<AtomicU8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mode = Arc::new(AtomicU8::new(PASS));
    let shared = Arc::clone(&mode);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&to).await.unwrap();
            tokio::spawn(carry(client, server, Arc::clone(&shared)));
        }
    });
    (port, mode)
}

async fn carry(mut client: TcpStream, mut server: TcpStream, mode: Arc<AtomicU8>) {
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                let is_commit = up[..length].windows(7).any(|w| w == b"COMMIT\0");
                let mode = if is_commit { mode.load(Ordering::SeqCst) } else { PASS };
                if mode == CUT_BEFORE {
                    return;
                }
                if server.write_all(&up[..length]).await.is_err() {
                    return;
                }
                if mode == CUT_AFTER {
                    // The server's answer comes when the commit is done; nobody hears it.
                    let _ = server.read(&mut down).await;
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&down[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_commit_is_unknown_and_the_position_tells() {
    let db = Db::postgres("lost").await;
    let options: sqlx::postgres::PgConnectOptions = db.url().parse().unwrap();
    let server = format!("{}:{}", options.get_host(), options.get_port());
    let (port, mode) = wire(server).await;
    let url = db.url().replace(&format!(":{}/", options.get_port()), &format!(":{port}/"));
    let sink = connect(&url, db.schema(), shipped("claims")).unwrap();
    sink.prepare().await.unwrap();
    done(&*sink, &batch(None, vec![claim(0, "a", "pending")])).await;
    for (how, want, status) in [(CUT_BEFORE, 1, "pending"), (CUT_AFTER, 2, "included")] {
        mode.store(how, Ordering::SeqCst);
        let write = batch(Some(1), vec![claim(1, "a", "included")]);
        let error = sink.write(&write).await.unwrap_err();
        assert!(matches!(error, SinkError::Unknown(_)), "{error:?}");
        mode.store(PASS, Ordering::SeqCst);
        assert_eq!(position(&*sink).await.unwrap(), Some(want));
        assert_eq!(db.texts("SELECT status FROM claims").await, [status]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_held_is_not_waited_for_without_end() {
    let db = Db::postgres("held").await;
    let sink = db.ready(shipped("claims")).await;
    done(&*sink, &batch(None, vec![claim(0, "a", "pending")])).await;
    let Db::Postgres { pool, .. } = &db else { panic!("a server is needed") };
    let mut zombie = pool.begin().await.unwrap();
    sqlx::raw_sql("UPDATE semel_offsets SET next_offset = 9").execute(&mut *zombie).await.unwrap();
    let next = batch(Some(1), vec![claim(1, "b", "pending")]);
    assert!(matches!(sink.write(&next).await, Err(SinkError::Unavailable(_))));
    assert!(matches!(position(&*sink).await, Err(SinkError::Unavailable(_))));
    zombie.rollback().await.unwrap();
    assert_eq!(done(&*sink, &next).await.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("postgres://u:secret@127.0.0.1:{port}/d");
    let sink = connect(&url, "public", shipped("claims")).unwrap();
    for error in [
        sink.prepare().await.unwrap_err(),
        position(&*sink).await.unwrap_err(),
        sink.write(&batch(None, vec![])).await.unwrap_err(),
    ] {
        assert!(matches!(error, SinkError::Unavailable(_)), "{error:?}");
        assert!(error.to_string().contains(&port.to_string()), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_there_is_refused() {
    let url = postgres_url();
    let url = format!("{}/no_such_database", url.rsplit_once('/').unwrap().0);
    let error = connect(&url, "public", shipped("claims")).unwrap().prepare().await.unwrap_err();
    assert!(matches!(error, SinkError::Refused(_)), "{error:?}");
}

/// A figure, never a verdict: `cargo test -p semel-connectors sink_speed -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints a figure; run it by name"]
async fn sink_speed() {
    for db in [Db::sqlite().await, Db::postgres("speed").await] {
        let sink = db.ready(shipped("claims")).await;
        let (size, batches) = (5_000_u64, 20_u64);
        for status in ["pending", "included"] {
            let mut taken = Duration::ZERO;
            for number in 0..batches {
                let first = number * size + if status == "pending" { 0 } else { batches * size };
                let records = (0..size)
                    .map(|i| claim(first + i, &format!("claim-{}", number * size + i), status))
                    .collect();
                let batch = batch((first > 0).then_some(first), records);
                let begun = Instant::now();
                assert_eq!(done(&*sink, &batch).await.0, size);
                taken += begun.elapsed();
            }
            let rate = (size * batches) as f64 / taken.as_secs_f64();
            println!("{} {status}: {rate:.0} rows a second in batches of {size}", db.schema());
        }
    }
}
