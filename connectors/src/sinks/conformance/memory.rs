//! The database in memory against SQLite: whatever is written, both answer the same and hold the
//! same rows, the same offset, the same outbox.

use proptest::prelude::*;

use super::*;
use crate::sinks::memory::Database;

#[derive(Clone, Debug)]
enum Step {
    Root(u8),
    Settle(u8, u8, u8),
    Unsettle(u8),
    Unroot(u8),
    /// A record that fits no row.
    Bad,
    /// The batch ends here.
    Cut,
    /// The batch ends here, and is written again.
    Again,
    /// A writer that is behind writes the batch so far.
    Zombie,
    /// The outbox is read and told.
    Tell,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_u8).prop_map(Step::Root),
        (0..3_u8, 0..4_u8, 0..100_u8).prop_map(|(s, r, status)| Step::Settle(s, r, status)),
        (0..3_u8).prop_map(Step::Unsettle),
        // A parent with children cannot be deleted in SQLite: number 9 has none.
        Just(Step::Unroot(9)),
        Just(Step::Bad),
        Just(Step::Cut),
        Just(Step::Again),
        Just(Step::Zombie),
        Just(Step::Tell),
    ]
}

fn fed(offset: u64, step: &Step) -> Option<Record> {
    Some(match step {
        Step::Root(r) => root(offset, &format!("c:{r}"), &format!("{offset}")),
        Step::Settle(s, r, status) => {
            settlement(offset, &format!("s{s}"), &format!("c:{r}"), &format!("{status}"))
        }
        Step::Unsettle(s) => gone(offset, "settlement.gone", "settlement_id", &format!("s{s}")),
        Step::Unroot(r) => gone(offset, "root.gone", "root_id", &format!("c:{r}")),
        Step::Bad => record(offset, "root", &json!({ "root_id": true })),
        Step::Cut | Step::Again | Step::Zombie | Step::Tell => return None,
    })
}

/// Everything that a sink answered, and at last its outbox and position.
async fn answers(sink: &dyn Sink, steps: &[Step]) -> Vec<String> {
    let (mut said, mut expected, mut records) = (Vec::new(), None, Vec::new());
    for (offset, step) in (0..).zip(steps.iter().chain([&Step::Cut])) {
        if let Some(record) = fed(offset, step) {
            records.push(record);
            continue;
        }
        let whole = batch(expected, std::mem::take(&mut records));
        let behind = expected.unwrap_or(5) + 1_000;
        if matches!(step, Step::Zombie) {
            let late = SinkBatch { expected: Some(NextOffset(behind)), ..whole.clone() };
            said.push(format!("{:?}", sink.write(&late).await.unwrap()));
        }
        for _ in 0..if matches!(step, Step::Again) { 2 } else { 1 } {
            said.push(format!("{:?}", sink.write(&whole).await.unwrap()));
        }
        expected = Some(whole.next.0);
        if matches!(step, Step::Tell) {
            let topic = TopicName::new("t").unwrap();
            let found = sink.unreported(&topic, &topic_id(), Partition(0)).await.unwrap();
            said.push(format!("{found:?}"));
            let reported = found.iter().map(|(record, _)| record.offset).collect();
            let told = SinkBatch { reported, ..batch(expected, vec![]) };
            said.push(format!("{:?}", sink.write(&told).await.unwrap()));
        }
    }
    said.push(format!("{:?}", position(sink).await.unwrap()));
    said
}

/// The rows of both tables in SQLite, in the form that the database in memory has them.
async fn rows(db: &Db) -> Vec<String> {
    db.texts(
        "SELECT semel_id || '|' || id || '|' || status || '|' || root || '|' || count FROM roots \
         UNION ALL SELECT semel_id || '|' || id || '|' || status || '|' || root_id \
         FROM settlement_log ORDER BY 1",
    )
    .await
}

fn rows_in_memory(memory: &Database) -> Vec<String> {
    let mut found = Vec::new();
    for (table, columns) in [
        ("roots", &["semel_id", "id", "status", "root", "count"][..]),
        ("settlement_log", &["semel_id", "id", "status", "root_id"][..]),
    ] {
        for row in memory.rows(table).values() {
            let cells = columns.iter().map(|column| row[*column].clone().unwrap());
            found.push(cells.collect::<Vec<_>>().join("|"));
        }
    }
    found.sort();
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_database_in_memory_does_what_sqlite_does(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (db, memory) = (Db::sqlite().await, Database::new());
            let (there, here) = (db.ready(family()).await, memory.sink(family()).unwrap());
            here.prepare().await.unwrap();
            assert_eq!(answers(&*here, &steps).await, answers(&*there, &steps).await);
            assert_eq!(rows_in_memory(&memory), rows(&db).await);
        });
    }
}

#[tokio::test]
async fn the_tables_in_memory_have_the_columns_of_the_migrations() {
    let (db, memory) = (Db::sqlite().await, Database::new());
    for name in ["claims", "epochs", "roots", "settlements"] {
        db.ready(shipped(name)).await;
        memory.sink(shipped(name)).unwrap().prepare().await.unwrap();
    }
    for table in ["claims", "epochs", "roots", "settlement_log"] {
        let sql = format!("SELECT name FROM pragma_table_info('{table}') ORDER BY 1");
        let names = db.texts(&sql).await;
        let ours: Vec<String> = memory.columns(table);
        assert_eq!(ours, names, "{table}");
    }
}
