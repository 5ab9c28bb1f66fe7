//! Lookups: a record whose parent is missing waits, the later ones of its row behind it; nothing
//! is dropped.

use super::*;

on_both! {
    a_child_waits_for_its_parent_and_its_row_keeps_its_order
    a_tick_releases_what_another_sink_made_ready
    a_zombies_tick_releases_nothing
    parents_and_children_of_one_batch_find_each_other
    a_retraction_waits_behind_its_row
    a_parents_deletion_is_a_border
    a_parent_that_was_deleted_before_is_not_found_without_a_foreign_key_either
    what_fits_no_row_after_waiting_is_refused_with_its_record
    more_than_one_write_can_try_is_released_by_and_by
}

const ROWS: &str = "SELECT s.semel_id || ' ' || r.semel_id || ' ' || s.status FROM settlement_log s \
    JOIN roots r ON r.id = s.root_id ORDER BY s.semel_id";

async fn a_child_waits_for_its_parent_and_its_row_keeps_its_order(db: &Db) {
    let sink = db.ready(family()).await;
    let early = vec![
        settlement(0, "s1", "c:1", "pending_confirmation"),
        settlement(1, "s2", "c:2", "pending_confirmation"),
        root(2, "c:2", "ready_for_settlement"),
    ];
    assert_eq!(done(&*sink, &batch(None, early)).await, (2, 1, vec![]));
    // Its own parent is there, but it stands behind the record that waits for c:1.
    let late = vec![settlement(3, "s1", "c:2", "confirmed")];
    assert_eq!(done(&*sink, &batch(Some(3), late)).await, (0, 2, vec![]));
    assert_eq!(db.texts(ROWS).await, ["s2 c:2 pending_confirmation"]);
    let parent = vec![root(4, "c:1", "ready_for_settlement")];
    assert_eq!(done(&*sink, &batch(Some(4), parent)).await, (3, 0, vec![]));
    assert_eq!(db.texts(ROWS).await, ["s1 c:2 confirmed", "s2 c:2 pending_confirmation"]);
    assert_eq!(db.count("semel_delayed").await, 0);
}

async fn a_tick_releases_what_another_sink_made_ready(db: &Db) {
    let settlements = db.ready(shipped("settlements")).await;
    let roots = db.ready(shipped("roots")).await;
    let first = vec![settlement(0, "s1", "c:1", "pending_confirmation")];
    assert_eq!(done(&*settlements, &batch(None, first)).await, (0, 1, vec![]));
    assert_eq!(done(&*settlements, &batch(Some(1), vec![])).await, (0, 1, vec![]));
    done(&*roots, &batch(None, vec![root(0, "c:1", "ready_for_settlement")])).await;
    assert_eq!(done(&*settlements, &batch(Some(1), vec![])).await, (1, 0, vec![]));
    assert_eq!(done(&*settlements, &batch(Some(1), vec![])).await, (0, 0, vec![]));
    assert_eq!(db.texts(ROWS).await, ["s1 c:1 pending_confirmation"]);
    assert_eq!(position(&*settlements).await.unwrap(), Some(1));
}

async fn a_zombies_tick_releases_nothing(db: &Db) {
    let sink = db.ready(shipped("settlements")).await;
    let roots = db.ready(shipped("roots")).await;
    done(&*sink, &batch(None, vec![settlement(0, "s1", "c:1", "x")])).await;
    done(&*sink, &batch(Some(1), vec![settlement(1, "s2", "c:9", "x")])).await;
    done(&*roots, &batch(None, vec![root(0, "c:1", "x")])).await;
    let found = Some(NextOffset(2));
    assert_eq!(sink.write(&batch(Some(1), vec![])).await.unwrap(), Written::Moved { found });
    assert_eq!(db.count("semel_delayed").await, 2);
    assert_eq!(db.count("settlement_log").await, 0);
}

async fn parents_and_children_of_one_batch_find_each_other(db: &Db) {
    let sink = db.ready(family()).await;
    let mut records = Vec::new();
    for pair in 0..100 {
        records.push(settlement(2 * pair, &format!("s{pair:02}"), &format!("c:{pair}"), "x"));
        records.push(root(2 * pair + 1, &format!("c:{pair}"), "x"));
    }
    assert_eq!(done(&*sink, &batch(None, records)).await, (200, 0, vec![]));
    assert_eq!(db.texts(ROWS).await.len(), 100);
}

async fn a_retraction_waits_behind_its_row(db: &Db) {
    let sink = db.ready(family()).await;
    let records = vec![
        settlement(0, "s1", "c:1", "x"),
        gone(1, "settlement.gone", "settlement_id", "s1"),
        settlement(2, "s2", "c:1", "x"),
    ];
    assert_eq!(done(&*sink, &batch(None, records)).await, (0, 3, vec![]));
    let (_, delayed, refused) = done(&*sink, &batch(Some(3), vec![root(3, "c:1", "x")])).await;
    assert_eq!((delayed, refused), (0, vec![]));
    assert_eq!(db.texts(ROWS).await, ["s2 c:1 x"]);
}

async fn a_parents_deletion_is_a_border(db: &Db) {
    let sink = db.ready(family()).await;
    let records = vec![
        root(0, "c:1", "x"),
        root(1, "c:2", "x"),
        settlement(2, "s2", "c:2", "x"),
        gone(3, "root.gone", "root_id", "c:1"),
        settlement(4, "s1", "c:1", "x"),
        gone(5, "root.gone", "root_id", "c:2"),
    ];
    // c:1 goes before s1 comes, so s1 waits; c:2 cannot go, for s2 holds it.
    let (_, delayed, refused) = done(&*sink, &batch(None, records)).await;
    assert_eq!((delayed, refused), (1, vec![(5, FaultCode::Poison)]));
    assert_eq!(db.texts("SELECT semel_id FROM roots").await, ["c:2"]);
    assert_eq!(db.texts(ROWS).await, ["s2 c:2 x"]);
}

async fn a_parent_that_was_deleted_before_is_not_found_without_a_foreign_key_either(db: &Db) {
    db.ready(family()).await;
    db.exec(
        "CREATE TABLE parents (semel_id VARCHAR UNIQUE, name VARCHAR); \
         CREATE TABLE children (semel_id VARCHAR UNIQUE, parent VARCHAR)",
    )
    .await;
    let spec = r#"
        name = "free"
        topic = "t"
        [[tables]]
        table = "children"
        types = ["child"]
        key = ["id"]
        columns = { parent = { lookup = { table = "parents", column = "name", by = "of" } } }
        [[tables]]
        table = "parents"
        types = ["parent"]
        key = ["id"]
        columns = { name = "name" }
        retract = { types = ["orphaned"], action = "delete" }
    "#;
    let sink = db.ready(toml::from_str(spec).unwrap()).await;
    let records = vec![
        record(0, "parent", &json!({"id": "p", "name": "P"})),
        record(1, "child", &json!({"id": "early", "of": "p"})),
        gone(2, "orphaned", "id", "p"),
        record(3, "child", &json!({"id": "late", "of": "p"})),
    ];
    assert_eq!(done(&*sink, &batch(None, records)).await, (3, 1, vec![]));
    assert_eq!(db.texts("SELECT semel_id || parent FROM children").await, ["earlyP"]);
    assert_eq!(db.count("parents").await, 0);
}

async fn what_fits_no_row_after_waiting_is_refused_with_its_record(db: &Db) {
    let sink = db.ready(family()).await;
    db.exec("CREATE UNIQUE INDEX one_status ON settlement_log (status)").await;
    let waits = settlement(0, "s1", "c:1", "same");
    assert_eq!(done(&*sink, &batch(None, vec![waits.clone()])).await.1, 1);
    let taken = vec![root(1, "c:2", "x"), settlement(2, "s2", "c:2", "same"), root(3, "c:1", "x")];
    match sink.write(&batch(Some(1), taken)).await.unwrap() {
        Written::Done { delayed: 0, refused, .. } => {
            assert_eq!(refused.len(), 1);
            assert_eq!((&refused[0].0, refused[0].1.code), (&waits, FaultCode::Poison));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(db.count("semel_delayed").await, 0);
}

async fn more_than_one_write_can_try_is_released_by_and_by(db: &Db) {
    let sink = db.ready(family()).await;
    let waiting: Vec<_> =
        (0..4500).map(|offset| settlement(offset, &format!("s{offset}"), "c:1", "x")).collect();
    assert_eq!(done(&*sink, &batch(None, waiting)).await, (0, 4500, vec![]));
    let (rows, delayed, _) = done(&*sink, &batch(Some(4500), vec![root(4500, "c:1", "x")])).await;
    assert_eq!((rows, delayed), (4001, 500));
    assert_eq!(done(&*sink, &batch(Some(4501), vec![])).await, (500, 0, vec![]));
    assert_eq!(db.count("settlement_log").await, 4500);
}
