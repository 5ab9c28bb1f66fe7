//! A driver of the spec that ships: what a plan names is there, and records flow through it.

use semel_schemas::topic::{Partition, TopicName};

use super::Driver;
use crate::{
    log::Log,
    spec::{parse::parse, plan::Plan},
};

const SPEC: &str = include_str!("../../../deploy/specs/attention-oracle.toml");
const CLAIMS: &str = include_str!("../../../schemas/golden/claim-1.0.jsonl");

fn plan() -> Plan {
    let variable = |name: &str| {
        let key = "GnGzNdsQMxMpJfMeqnkGPsvHm8kwaDidiKjNU2dCVZop".to_owned();
        match name {
            "ANCHOR_PROVIDER_URL" => Some("http://127.0.0.1:1".to_owned()),
            "DATABASE_URL" => Some("sqlite:rows.db".to_owned()),
            "SETTLEMENT_KEYPAIR" => Some("key.json".to_owned()),
            "SETTLEMENT_AUTHORITY" | "AO_MINT" => Some(key),
            _ => None,
        }
    };
    let (spec, source) = parse("attention-oracle.toml", SPEC, &variable).unwrap();
    Plan::new(&spec, &source).unwrap()
}

#[test]
fn a_driver_of_a_plan_has_its_topics_and_a_lane_for_each_stage() {
    let plan = plan();
    let mut driver = Driver::of_plan(&plan).unwrap();
    driver.run_until_idle().unwrap();
    for topic in &plan.topics {
        let found = driver.sim().topic(&topic.name).unwrap().unwrap();
        assert_eq!((found.partitions, found.cleanup), (topic.partitions, topic.cleanup));
    }
    for (stage, _) in &plan.stages {
        let lane = driver.lane_of(&stage.name).unwrap();
        let owned = driver.partitions(lane).unwrap();
        let want: Vec<_> = (0..stage.input.partitions).map(Partition).collect();
        assert_eq!(owned, want, "{}", stage.name);
    }
    assert!(driver.lane_of("claims-table").is_err(), "sinks are topics here");
    let asking = driver.effects();
    assert!(asking.iter().any(|asked| asked.stage == "chain"), "the source asks the chain");
}

#[test]
fn a_record_that_is_piped_in_goes_through_the_stages_of_a_plan() {
    let plan = plan();
    let mut driver = Driver::of_plan(&plan).unwrap();
    driver.run_until_idle().unwrap();
    let claim = CLAIMS.lines().next().unwrap();
    for _ in 0..2 {
        driver.pipe("attention.instructions", "somechannel", claim, "claim").unwrap();
    }
    driver.run_until_idle().unwrap();
    let of = |topic: &str, kind: &str| {
        let records = driver.read(topic).unwrap();
        records.iter().filter(|r| r.headers.get_str("semel-type") == Some(kind)).count()
    };
    assert_eq!(of("attention.claims", "claim"), 1, "each claim once");
    assert_eq!(of("attention.duplicates", "dedupe.duplicate"), 1);
    assert_eq!(of("attention.claim-states", "claim.state"), 1, "the next stage has read it");
    assert!(driver.read("attention.dead-letter").unwrap().is_empty());
    assert!(driver.sim().topic(&TopicName::new("attention.claims").unwrap()).unwrap().is_some());
}
