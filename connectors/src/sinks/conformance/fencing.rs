//! The offset row: with the rows or not at all, and one writer only.

use super::*;

on_both! {
    a_replayed_batch_is_moved_and_changes_nothing
    a_zombie_changes_no_row
    of_two_writers_exactly_one_writes
    rows_and_offset_are_committed_together_or_not_at_all
    a_topic_that_was_created_anew_is_refused
    partitions_and_sinks_have_offsets_of_their_own
}

async fn a_replayed_batch_is_moved_and_changes_nothing(db: &Db) {
    let sink = db.ready(shipped("claims")).await;
    assert_eq!(position(&*sink).await.unwrap(), None);
    let first = batch(None, vec![claim(0, "a", "pending")]);
    let second = batch(Some(1), vec![claim(1, "a", "included")]);
    done(&*sink, &first).await;
    done(&*sink, &second).await;
    for again in [first, second] {
        let found = Some(NextOffset(2));
        assert_eq!(sink.write(&again).await.unwrap(), Written::Moved { found });
    }
    assert_eq!(db.texts("SELECT status FROM claims").await, ["included"]);
}

async fn a_zombie_changes_no_row(db: &Db) {
    let (zombie, owner) = (db.ready(shipped("claims")).await, db.ready(shipped("claims")).await);
    done(&*zombie, &batch(None, vec![claim(0, "a", "pending")])).await;
    done(&*owner, &batch(Some(1), vec![claim(1, "a", "included")])).await;
    // Late with the same records, with others, with none.
    for late in [
        batch(Some(1), vec![claim(1, "a", "settled")]),
        batch(Some(1), vec![claim(1, "z", "pending"), claim(2, "y", "pending")]),
        batch(Some(1), vec![]),
        batch(None, vec![claim(0, "z", "pending")]),
    ] {
        let found = Some(NextOffset(2));
        assert_eq!(zombie.write(&late).await.unwrap(), Written::Moved { found });
    }
    // An expectation of a row that is not there.
    let mut other = batch(Some(5), vec![claim(5, "z", "pending")]);
    other.partition = Partition(1);
    assert_eq!(zombie.write(&other).await.unwrap(), Written::Moved { found: None });
    let rows = "SELECT semel_id || ' ' || status FROM claims";
    assert_eq!(db.texts(rows).await, ["a included"]);
}

async fn of_two_writers_exactly_one_writes(db: &Db) {
    let (a, b) = (db.ready(shipped("claims")).await, db.ready(shipped("claims")).await);
    for round in 0..20_u64 {
        let expected = (round > 0).then_some(round);
        let of = |who: &str| batch(expected, vec![claim(round, &format!("{who}{round}"), "x")]);
        let (of_a, of_b) = (of("a"), of("b"));
        let (first, second) = tokio::join!(a.write(&of_a), b.write(&of_b));
        let (first, second) = (first.unwrap(), second.unwrap());
        let moved = Written::Moved { found: Some(NextOffset(round + 1)) };
        assert!((first == moved) != (second == moved), "{first:?} {second:?}");
    }
    assert_eq!(db.count("claims").await, 20);
}

async fn rows_and_offset_are_committed_together_or_not_at_all(db: &Db) {
    let sink = db.ready(family()).await;
    done(&*sink, &batch(None, vec![root(0, "c:1", "x")])).await;
    // The second table breaks after the first was written.
    db.exec("ALTER TABLE settlement_log RENAME COLUMN error_message TO gone").await;
    let both = batch(Some(1), vec![root(1, "c:2", "x"), settlement(2, "s", "c:2", "x")]);
    assert!(matches!(sink.write(&both).await, Err(SinkError::Refused(_))));
    assert_eq!(db.texts("SELECT semel_id FROM roots").await, ["c:1"]);
    assert_eq!(position(&*sink).await.unwrap(), Some(1));
    db.exec("ALTER TABLE settlement_log RENAME COLUMN gone TO error_message").await;
    assert_eq!(done(&*sink, &both).await, (2, 0, vec![]));
    assert_eq!(position(&*sink).await.unwrap(), Some(3));
}

async fn a_topic_that_was_created_anew_is_refused(db: &Db) {
    let sink = db.ready(shipped("claims")).await;
    done(&*sink, &batch(None, vec![claim(0, "a", "pending")])).await;
    let second = TopicId("second".into());
    let topic = TopicName::new("t").unwrap();
    let error = sink.position(&topic, &second, Partition(0)).await.unwrap_err();
    assert!(matches!(&error, SinkError::Refused(text) if text.contains("created anew")), "{error}");
    for expected in [None, Some(1)] {
        let mut batch = batch(expected, vec![claim(1, "b", "pending")]);
        batch.topic_id = second.clone();
        assert!(matches!(sink.write(&batch).await, Err(SinkError::Refused(_))));
    }
    assert_eq!(db.count("claims").await, 1);
}

async fn partitions_and_sinks_have_offsets_of_their_own(db: &Db) {
    let claims = db.ready(shipped("claims")).await;
    let epochs = db.ready(shipped("epochs")).await;
    done(&*claims, &batch(None, vec![claim(0, "a", "pending")])).await;
    assert_eq!(position(&*epochs).await.unwrap(), None);
    let mut other = batch(None, vec![claim(8, "b", "pending")]);
    other.partition = Partition(1);
    done(&*claims, &other).await;
    assert_eq!(position(&*claims).await.unwrap(), Some(1));
    assert_eq!(
        db.texts("SELECT sink || ' ' || \"partition\" || ' ' || next_offset FROM semel_offsets ORDER BY 1").await,
        ["claims-table 0 1", "claims-table 1 9"]
    );
}
