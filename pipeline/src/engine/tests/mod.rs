//! The engine proved over the driver: toy operators, faults, crashes. One file is one promise.

mod commit;
mod effects;
mod failures;
mod groups;
mod letters;
mod quarantine;
mod sink;
#[cfg(feature = "sabotage")]
mod slow;
mod time;
mod toys;
#[cfg(feature = "sabotage")]
mod traps;

/// The tests of the traps switch guards off. Without them nobody should believe the others.
#[cfg(not(feature = "sabotage"))]
#[test]
fn the_traps_need_the_feature_sabotage() {
    panic!("the tests of Kafka's traps were left out: run `cargo test --features sabotage`");
}
