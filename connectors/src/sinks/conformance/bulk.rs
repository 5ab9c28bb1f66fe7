//! Bulk writes do what writing one record after another does.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Root(u8),
    Settle(u8, u8, u8),
    Unsettle(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_u8).prop_map(Step::Root),
        (0..3_u8, 0..4_u8, 0..100_u8).prop_map(|(s, r, status)| Step::Settle(s, r, status)),
        (0..3_u8).prop_map(Step::Unsettle),
    ]
}

fn records(steps: &[Step]) -> Vec<Record> {
    let records = (0..).zip(steps).map(|(offset, step)| match step {
        Step::Root(r) => root(offset, &format!("c:{r}"), &format!("{offset}")),
        Step::Settle(s, r, status) => {
            settlement(offset, &format!("s{s}"), &format!("c:{r}"), &format!("{status}"))
        }
        Step::Unsettle(s) => gone(offset, "settlement.gone", "settlement_id", &format!("s{s}")),
    });
    records.collect()
}

/// What stands in the tables after the records were written in batches of `size`.
async fn outcome(steps: &[Step], size: usize) -> Vec<String> {
    let db = Db::sqlite().await;
    let sink = db.ready(family()).await;
    let mut expected = None;
    for chunk in records(steps).chunks(size) {
        let batch = batch(expected, chunk.to_vec());
        assert_eq!(done(&*sink, &batch).await.2, []);
        expected = Some(batch.next.0);
    }
    db.texts(
        "SELECT semel_id || status FROM roots UNION ALL \
         SELECT s.semel_id || s.status || r.semel_id FROM settlement_log s \
           JOIN roots r ON r.id = s.root_id UNION ALL \
         SELECT \"key\" || \"offset\" FROM semel_delayed ORDER BY 1",
    )
    .await
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_size_of_batches_changes_nothing(
        steps in proptest::collection::vec(step(), 1..30),
        size in 2..30_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (one, many) =
            runtime.block_on(async { (outcome(&steps, 1).await, outcome(&steps, size).await) });
        prop_assert_eq!(one, many);
    }
}
