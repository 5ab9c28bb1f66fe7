//! The outbox: what a write refuses is there with the write or not at all, and goes when told.

use super::*;

on_both! {
    what_is_refused_is_kept_with_its_batch_until_it_is_told
    a_batch_that_fails_leaves_no_refused_record
    a_zombie_neither_refuses_nor_tells
    a_late_refusal_does_not_go_with_younger_ones
    bytes_that_are_no_text_come_back_as_they_were
    a_topic_that_was_created_anew_has_an_outbox_of_its_own
    more_than_one_answer_holds_come_by_and_by
}

fn wrong(offset: u64) -> Record {
    record(offset, "claim.state", &json!({"claim_id": offset}))
}

async fn unreported(sink: &dyn Sink, id: &TopicId) -> Vec<(Record, semel_schemas::fault::Fault)> {
    sink.unreported(&TopicName::new("t").unwrap(), id, Partition(0)).await.unwrap()
}

async fn offsets(sink: &dyn Sink) -> Vec<u64> {
    unreported(sink, &topic_id()).await.into_iter().map(|(record, _)| record.offset.0).collect()
}

fn told(expected: u64, records: Vec<Record>, reported: &[u64]) -> SinkBatch {
    let reported = reported.iter().map(|offset| Offset(*offset)).collect();
    SinkBatch { reported, ..batch(Some(expected), records) }
}

async fn what_is_refused_is_kept_with_its_batch_until_it_is_told(db: &Db) {
    let sink = db.ready(shipped("claims")).await;
    let records = vec![wrong(0), claim(1, "a", "pending"), wrong(2)];
    let Written::Done { refused, .. } = sink.write(&batch(None, records)).await.unwrap() else {
        panic!("not written")
    };
    assert_eq!(refused.len(), 2);
    // A new connection: as after a crash.
    let after = db.ready(shipped("claims")).await;
    assert_eq!(unreported(&*after, &topic_id()).await, refused);
    done(&*after, &told(3, vec![claim(3, "b", "pending"), wrong(4)], &[0])).await;
    assert_eq!(offsets(&*after).await, [2, 4]);
    // Told in a tick, and told twice.
    done(&*after, &told(5, vec![], &[0, 2, 4])).await;
    assert_eq!(offsets(&*after).await, [0_u64; 0]);
    assert_eq!(db.count("claims").await, 2);
}

async fn a_batch_that_fails_leaves_no_refused_record(db: &Db) {
    let sink = db.ready(shipped("claims")).await;
    done(&*sink, &batch(None, vec![wrong(0)])).await;
    db.exec("ALTER TABLE claims RENAME COLUMN leaf_id TO gone").await;
    let next = told(1, vec![wrong(1), claim(2, "a", "pending")], &[0]);
    assert!(matches!(sink.write(&next).await, Err(SinkError::Refused(_))));
    assert_eq!(offsets(&*sink).await, [0], "neither the new one nor the telling of the old");
    db.exec("ALTER TABLE claims RENAME COLUMN gone TO leaf_id").await;
    done(&*sink, &next).await;
    assert_eq!(offsets(&*sink).await, [1]);
}

async fn a_zombie_neither_refuses_nor_tells(db: &Db) {
    let sink = db.ready(shipped("claims")).await;
    done(&*sink, &batch(None, vec![wrong(0), wrong(1)])).await;
    let found = Some(NextOffset(2));
    for late in [told(1, vec![wrong(1), wrong(2)], &[0]), told(1, vec![], &[0, 1])] {
        assert_eq!(sink.write(&late).await.unwrap(), Written::Moved { found });
    }
    assert_eq!(offsets(&*sink).await, [0, 1]);
}

async fn a_late_refusal_does_not_go_with_younger_ones(db: &Db) {
    let sink = db.ready(family()).await;
    db.exec("CREATE UNIQUE INDEX one_status ON settlement_log (status)").await;
    let bad = record(1, "root", &json!({}));
    let first = vec![settlement(0, "s1", "c:1", "same"), bad];
    assert_eq!(done(&*sink, &batch(None, first)).await.1, 1);
    assert_eq!(offsets(&*sink).await, [1]);
    // While the younger one is told, the older one stops waiting and is refused.
    let taken = vec![root(2, "c:2", "x"), settlement(3, "s2", "c:2", "same"), root(4, "c:1", "x")];
    let (_, delayed, refused) = done(&*sink, &told(2, taken, &[1])).await;
    assert_eq!((delayed, refused), (0, vec![(0, FaultCode::Poison)]));
    assert_eq!(offsets(&*sink).await, [0]);
}

async fn bytes_that_are_no_text_come_back_as_they_were(db: &Db) {
    let sink = db.ready(shipped("claims")).await;
    let mut odd = wrong(0);
    odd.key = Some(vec![0, 0xff]);
    odd.value = Some(b"\0{\xff".to_vec());
    odd.headers.push("raw", vec![0]);
    let mut nul = wrong(1);
    nul.value = Some(br#"{"claim_id": "a\u0000b"}"#.to_vec());
    done(&*sink, &batch(None, vec![odd.clone(), nul.clone()])).await;
    let found = unreported(&*sink, &topic_id()).await;
    assert_eq!(found.iter().map(|(record, _)| record).collect::<Vec<_>>(), [&odd, &nul]);
}

async fn a_topic_that_was_created_anew_has_an_outbox_of_its_own(db: &Db) {
    let sink = db.ready(shipped("claims")).await;
    done(&*sink, &batch(None, vec![wrong(0)])).await;
    db.exec("DELETE FROM semel_offsets").await;
    let second = TopicId("second".into());
    assert!(unreported(&*sink, &second).await.is_empty());
    let anew = record(0, "claim.state", &json!({"claim_id": true}));
    done(&*sink, &SinkBatch { topic_id: second.clone(), ..batch(None, vec![anew.clone()]) }).await;
    assert_eq!(unreported(&*sink, &second).await[0].0, anew);
    assert_eq!(unreported(&*sink, &topic_id()).await[0].0, wrong(0));
}

async fn more_than_one_answer_holds_come_by_and_by(db: &Db) {
    let sink = db.ready(shipped("claims")).await;
    done(&*sink, &batch(None, (0..250).map(wrong).collect())).await;
    let mut all = Vec::new();
    loop {
        let found = offsets(&*sink).await;
        if found.is_empty() {
            break;
        }
        done(&*sink, &told(250, vec![], &found)).await;
        all.extend(found);
    }
    assert_eq!(all, (0..250).collect::<Vec<_>>());
}
