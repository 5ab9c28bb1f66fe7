//! What stands in the rows: conversions, upsert and keep, retractions, what is refused.

use semel_schemas::fault::FaultCode;
use serde_json::json;

use super::*;

on_both! {
    the_shipped_mapping_fills_the_seeds_tables
    the_last_record_of_a_key_wins_and_ids_stay
    the_first_record_stands_where_the_mapping_says_keep
    records_of_one_row_in_one_batch_keep_their_order
    a_retraction_sets_what_the_mapping_says
    a_bad_record_is_refused_and_the_others_stand
    a_row_that_the_database_refuses_is_found_among_many
    records_that_are_no_rows_are_passed_over
}

async fn the_shipped_mapping_fills_the_seeds_tables(db: &Db) {
    let closed = json!({"epoch": 1, "start_slot": 2, "end_slot": 3, "finalized_at": 1000});
    for (name, record, want) in [
        ("claims", claim(0, "a", "pending"), 1),
        ("roots", root(0, "c:1", "ready_for_settlement"), 1),
        ("epochs", record(0, "epoch.closed", &closed), 1),
        ("settlements", settlement(0, "c:1#0", "c:1", "confirmed"), 1),
    ] {
        let sink = db.ready(shipped(name)).await;
        assert_eq!(done(&*sink, &batch(None, vec![record])).await, (want, 0, vec![]), "{name}");
    }
    let amount = "channel || ' ' || slot || ' ' || claim_timestamp || ' ' || status || ' ' || epoch \
        || ' ' || amount || ' ' || claim_id || ' ' || tx_signature || ' ' || semel_id \
        || coalesce(' ' || leaf_index, '')";
    let at = if matches!(db, Db::Sqlite { .. }) { ".000" } else { "" };
    assert_eq!(
        db.texts(&format!("SELECT {amount} FROM claims")).await,
        [format!("c 7 2025-11-18 00:00:00{at} pending 1 18446744073709551615 a sig-a a")]
    );
    assert_eq!(
        db.texts("SELECT root || ' ' || count || ' ' || finalized_at || ' ' || profile FROM roots")
            .await,
        [format!("{} 2 2025-11-18 00:00:00.123 ao-claim-v0", "ab".repeat(32))]
    );
    assert_eq!(db.texts("SELECT start_slot || ' ' || end_slot FROM epochs").await, ["2 3"]);
    assert_eq!(
        db.texts("SELECT r.semel_id || ' ' || s.status FROM settlement_log s JOIN roots r ON r.id = s.root_id").await,
        ["c:1 confirmed"]
    );
}

async fn the_last_record_of_a_key_wins_and_ids_stay(db: &Db) {
    let sink = db.ready(shipped("claims")).await;
    let first = vec![claim(0, "a", "pending"), claim(1, "b", "pending")];
    assert_eq!(done(&*sink, &batch(None, first)).await.0, 2);
    for offset in 2..20 {
        let again = vec![claim(offset, "a", "included")];
        assert_eq!(done(&*sink, &batch(Some(offset), again)).await.0, 1);
    }
    done(&*sink, &batch(Some(20), vec![claim(20, "c", "pending")])).await;
    // An update takes no number of the table's SERIAL.
    assert_eq!(
        db.texts("SELECT id || semel_id || ' ' || status FROM claims ORDER BY id").await,
        ["1a included", "2b pending", "3c pending"]
    );
}

async fn the_first_record_stands_where_the_mapping_says_keep(db: &Db) {
    let sink = db.ready(shipped("epochs")).await;
    let closed = |offset, epoch: u64, end: u64| {
        let value = json!({"epoch": epoch, "start_slot": 0, "end_slot": end, "finalized_at": 1});
        record(offset, "epoch.closed", &value)
    };
    db.exec("INSERT INTO epochs (epoch, end_slot) VALUES (7, 70)").await;
    let records = vec![closed(0, 1, 10), closed(1, 1, 11), closed(2, 7, 71), closed(3, 2, 20)];
    assert_eq!(done(&*sink, &batch(None, records)).await, (2, 0, vec![]));
    assert_eq!(done(&*sink, &batch(Some(4), vec![closed(4, 2, 21)])).await, (0, 0, vec![]));
    assert_eq!(
        db.texts("SELECT epoch || ' ' || end_slot FROM epochs ORDER BY epoch").await,
        ["1 10", "2 20", "7 70"]
    );
}

async fn records_of_one_row_in_one_batch_keep_their_order(db: &Db) {
    let sink = db.ready(shipped("claims")).await;
    let retracted = |offset, id| gone(offset, "claim.retracted", "claim_id", id);
    let records = vec![
        claim(0, "a", "pending"),
        claim(1, "a", "included"),
        retracted(2, "a"),
        claim(3, "a", "settled"),
        claim(4, "b", "pending"),
        retracted(5, "b"),
        retracted(6, "c"),
        claim(7, "c", "pending"),
    ];
    let (_, delayed, refused) = done(&*sink, &batch(None, records)).await;
    assert_eq!((delayed, refused), (0, vec![]));
    let rows = "SELECT semel_id || ' ' || status FROM claims ORDER BY semel_id";
    assert_eq!(db.texts(rows).await, ["a settled", "c pending"]);
    assert_eq!(done(&*sink, &batch(Some(8), vec![retracted(8, "a")])).await, (1, 0, vec![]));
    assert_eq!(db.texts(rows).await, ["c pending"]);
}

async fn a_retraction_sets_what_the_mapping_says(db: &Db) {
    let mut spec = shipped("claims");
    spec.tables[0].retract = toml::from_str(
        "types = [\"claim.retracted\"]\naction = { set = { status = \"retracted\", epoch = -1 } }",
    )
    .ok();
    let sink = db.ready(spec).await;
    let records = vec![
        claim(0, "a", "pending"),
        claim(1, "b", "pending"),
        gone(2, "claim.retracted", "claim_id", "a"),
    ];
    assert_eq!(done(&*sink, &batch(None, records)).await.0, 3);
    assert_eq!(
        db.texts("SELECT semel_id || ' ' || status || ' ' || epoch FROM claims ORDER BY 1").await,
        ["a retracted -1", "b pending 1"]
    );
}

async fn a_bad_record_is_refused_and_the_others_stand(db: &Db) {
    let sink = db.ready(shipped("claims")).await;
    let with = |offset, field: &str, value: Value| {
        let mut record = claim(offset, "bad", "pending");
        let mut json: Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
        json[field] = value;
        record.value = Some(json.to_string().into_bytes());
        record
    };
    let mut not_json = claim(6, "bad", "pending");
    not_json.value = Some(b"{".to_vec());
    let mut tombstone = claim(7, "bad", "pending");
    tombstone.value = None;
    let mut version = claim(8, "bad", "pending");
    version.headers.push(header::VERSION, "2.0");
    let records = vec![
        claim(0, "a", "pending"),
        with(1, "slot", json!(u64::MAX)),
        with(2, "amount", json!("100000000000000000000")),
        with(3, "channel", json!(5)),
        with(4, "user", Value::Null),
        with(5, "claim_id", json!("")),
        not_json,
        tombstone,
        version,
        with(9, "channel", json!("a\0b")),
        claim(10, "b", "pending"),
    ];
    let (rows, _, refused) = done(&*sink, &batch(None, records)).await;
    // SQLite's amounts are decimal texts of any length.
    let text = matches!(db, Db::Sqlite { .. });
    let mut want = vec![
        (1, FaultCode::Overflow),
        (2, FaultCode::Overflow),
        (3, FaultCode::WrongType),
        (4, FaultCode::MissingField),
        (5, FaultCode::EmptyKey),
        (6, FaultCode::Undecodable),
        (7, FaultCode::UnexpectedTombstone),
        (8, FaultCode::UnknownVersion),
        (9, FaultCode::WrongType),
    ];
    want.retain(|(offset, _)| !(text && *offset == 2));
    assert_eq!(refused, want);
    assert_eq!(rows, if text { 3 } else { 2 });
    assert_eq!(position(&*sink).await.unwrap(), Some(11));
}

async fn a_row_that_the_database_refuses_is_found_among_many(db: &Db) {
    let sink = db.ready(shipped("claims")).await;
    db.exec("CREATE UNIQUE INDEX one_signature ON claims (tx_signature)").await;
    let mut records: Vec<_> =
        (0..200).map(|offset| claim(offset, &format!("c{offset}"), "pending")).collect();
    for (offset, taken) in [(50, "sig-c3"), (51, "sig-c3"), (199, "sig-c198")] {
        let mut json: Value =
            serde_json::from_slice(records[offset].value.as_ref().unwrap()).unwrap();
        json["signature"] = taken.into();
        records[offset].value = Some(json.to_string().into_bytes());
    }
    let (rows, _, refused) = done(&*sink, &batch(None, records)).await;
    let poison = FaultCode::Poison;
    assert_eq!(refused, [(50, poison), (51, poison), (199, poison)]);
    assert_eq!((rows, db.count("claims").await), (197, 197));
}

async fn records_that_are_no_rows_are_passed_over(db: &Db) {
    let sink = db.ready(shipped("claims")).await;
    let mut untyped = claim(1, "x", "pending");
    untyped.headers = Headers::new();
    let records = vec![record(0, "progress", &json!({"complete": 5})), untyped];
    assert_eq!(done(&*sink, &batch(None, records)).await, (0, 0, vec![]));
    assert_eq!(position(&*sink).await.unwrap(), Some(2));
}
