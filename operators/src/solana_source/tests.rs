//! The source, step by step: what is emitted, when it asks again, when it stops.

use semel_schemas::{
    claim::Claim,
    solana::{Blockhash, Signature},
};

use super::*;
use crate::{
    operator::{Step, TimerOp},
    testing::Bench,
};

const NOW: u64 = 50_000;

fn settings() -> SolanaSourceSettings {
    let program = Address([7; 32]);
    let json = format!(r#"{{"name":"src","chain":"c","program":"{program}","from_slot":5}}"#);
    SolanaSourceSettings { max_outputs: 4, ..serde_json::from_str(&json).unwrap() }
}

fn bench() -> Bench<SolanaSource> {
    let mut bench = Bench::new(SolanaSource::new(settings()).unwrap());
    bench.now = WallTime(NOW);
    bench
}

fn claim(n: u8, slot: u64) -> SolanaFact {
    SolanaFact::Claim(Claim {
        claim_id: format!("c{n}"),
        channel: "kick".into(),
        user: Address([1; 32]),
        id: format!("twitch:kick:u{n}"),
        amount: semel_schemas::amount::Amount(1),
        slot: Slot(slot),
        signature: Signature([n; 64]),
        tx_index: 0,
        ix_index: 2,
        block_time: 0,
    })
}

fn cursor(slot: u64) -> SolanaCursor {
    SolanaCursor { slot: Slot(slot), blockhash: Blockhash([slot as u8; 32]) }
}

fn blocks(facts: Vec<SolanaFact>, at: Option<u64>, complete: u64, finalized: u64) -> Input {
    answer(Outcome::Blocks {
        facts,
        cursor: at.map(cursor),
        complete: Slot(complete),
        finalized: Slot(finalized),
        at: WallTime(9),
    })
}

fn answer(outcome: Outcome) -> Input {
    Input::Outcome { id: FETCH.into(), outcome }
}

fn timer(name: &str) -> Input {
    Input::Timer { key: TimerKey::wall(name), payload: vec![] }
}

fn resume(source: &str, from_slot: Option<u64>) -> Input {
    let resume = Resume { source: source.into(), from_slot: from_slot.map(Slot), by: "me".into() };
    Input::Record(Envelope {
        id: "r".into(),
        kind: RESUME.into(),
        key: source.into(),
        value: Some(codec::encode(&resume)),
        headers: Default::default(),
    })
}

/// A step in short: emitted ids (progress: its numbers), fetches, timers.
fn short(step: &Step) -> String {
    let mut out = Vec::new();
    for emit in &step.emits {
        let place = match emit.to {
            To::Next => "",
            To::Output(name) => name,
        };
        let value = emit.record.value.as_deref().unwrap();
        out.push(match emit.record.kind.as_str() {
            PROGRESS => {
                assert!(emit.record.key.is_empty());
                let p: Progress = codec::decode(PROGRESS, value).unwrap();
                format!("{}:{}/{}", p.source, p.complete, p.finalized)
            }
            CLAIM => codec::decode::<Claim>(CLAIM, value).unwrap().claim_id,
            kind => format!("{place}<{kind}"),
        });
    }
    for request in &step.effects {
        assert_eq!((request.id.as_str(), request.ordering_key.as_str()), (FETCH, "src"));
        let Effect::FetchSolana { cursor, from_slot, .. } = &request.effect else { panic!() };
        out.push(match cursor {
            Some(cursor) => format!("fetch>{}", cursor.slot),
            None => format!("fetch@{from_slot}"),
        });
    }
    for timer in &step.timers {
        if let TimerOp::Set { key, at, .. } = timer {
            out.push(format!("{}+{}", key.name, at - NOW));
        }
    }
    out.join(" ")
}

#[test]
fn the_source_goes_on_at_once_while_blocks_come_and_polls_when_there_are_none() {
    let mut bench = bench();
    let uncertain = || answer(Outcome::Uncertain { text: "away".into() });
    let rows = [
        (Input::Begin, "fetch@5"),
        (blocks(vec![claim(1, 6), claim(2, 6)], Some(6), 6, 5), "c1 c2 src:6/5 fetch>6"),
        (blocks(vec![], Some(8), 8, 7), "src:8/7 fetch>8"),
        (blocks(vec![], None, 8, 7), "poll+400"),
        (timer(POLL), "fetch>8"),
        // Only finality moved.
        (blocks(vec![], None, 8, 8), "src:8/8 poll+400"),
        (timer(POLL), "fetch>8"),
        // A node that is behind says less: no news.
        (blocks(vec![], None, 7, 6), "poll+400"),
        (timer(POLL), "fetch>8"),
        (uncertain(), "poll+400"),
        (timer(POLL), "fetch>8"),
        (uncertain(), "poll+800"),
        (timer(POLL), "fetch>8"),
        (uncertain(), "poll+1600"),
        (timer(POLL), "fetch>8"),
        // An answer ends the back-off.
        (blocks(vec![], None, 8, 8), "poll+400"),
        (timer(POLL), "fetch>8"),
        (answer(Outcome::Sent), "poll+400"),
    ];
    for (row, (input, want)) in rows.into_iter().enumerate() {
        assert_eq!(short(&bench.step(input).unwrap()), want, "row {row}");
    }
}

#[test]
fn each_fact_goes_where_it_belongs_under_its_own_id() {
    let mut bench = bench();
    bench.step(Input::Begin).unwrap();
    let set = SolanaFact::RootSet {
        signature: Signature([4; 64]),
        slot: Slot(6),
        ix_index: 1,
        streamer: Address([8; 32]),
        epoch: 3,
        root: "00".repeat(32),
        count: 1,
    };
    let odd = SolanaFact::Undecodable {
        signature: Signature([5; 64]),
        slot: Slot(6),
        ix_index: 0,
        data: Base64(vec![1]),
        text: "short".into(),
    };
    let SolanaFact::Claim(nameless) = claim(6, 6) else { panic!() };
    let nameless = SolanaFact::Claim(Claim { channel: String::new(), ..nameless });
    let step = bench.step(blocks(vec![set.clone(), odd.clone(), nameless], Some(6), 6, 6)).unwrap();
    let seen: Vec<_> = step
        .emits
        .iter()
        .map(|e| (e.to.clone(), e.record.kind.as_str(), e.record.id.clone()))
        .collect();
    let id = |n: u8, ix: u32| format!("{}:{ix}", Signature([n; 64]));
    assert_eq!(
        seen[..3],
        [
            (To::Output("observed"), ROOT_OBSERVED, id(4, 1)),
            (To::Output("undecodable"), UNDECODABLE, id(5, 0)),
            (To::Output("undecodable"), UNDECODABLE, id(6, 2)),
        ]
    );
    assert_eq!(step.emits[0].record.key, Address([8; 32]).to_string().into_bytes());
    let back: SolanaFact =
        codec::decode(ROOT_OBSERVED, step.emits[0].record.value.as_deref().unwrap()).unwrap();
    assert_eq!(back, set);

    let step = bench.step(blocks(vec![claim(1, 7)], Some(7), 7, 7)).unwrap();
    assert_eq!(step.emits[0].record.id, id(1, 2), "<signature>:<instruction>");
    assert_eq!(step.emits[0].record.key, b"kick");
}

#[test]
fn what_does_not_fit_a_step_follows_by_timers_before_the_cursor_moves() {
    let mut bench = bench();
    bench.step(Input::Begin).unwrap();
    let facts: Vec<_> = (1..=7).map(|n| claim(n, 6)).collect();
    let rows = [
        (blocks(facts, Some(6), 6, 6), "c1 c2 c3 drain+0"),
        // Whatever else comes meanwhile does not start a second fetch.
        (timer(POLL), ""),
        (Input::Begin, "drain+0"),
        (timer(DRAIN), "c4 c5 c6 drain+0"),
        (timer(DRAIN), "c7 src:6/6 fetch>6"),
        (timer(DRAIN), ""),
    ];
    for (row, (input, want)) in rows.into_iter().enumerate() {
        let step = bench.step(input).unwrap();
        assert_eq!(short(&step), want, "row {row}");
        assert!(step.emits.len() <= 4, "max_outputs, row {row}");
    }
    // Nothing of the backlog is left in the state.
    assert_eq!(bench.state.len(), 1);
}

#[test]
fn a_discontinuity_stops_the_source_until_a_command_and_calls_a_person() {
    let mut bench = bench();
    bench.step(Input::Begin).unwrap();
    bench.step(blocks(vec![claim(1, 6)], Some(6), 6, 6)).unwrap();
    let text = "block 7 follows another block than 6".into();
    let step = bench.step(answer(Outcome::Discontinuity { text })).unwrap();
    assert_eq!(short(&step), "alerts<alert");
    assert_eq!(step.counts, [("source_discontinuity", 1)]);
    for input in [timer(POLL), timer(DRAIN), blocks(vec![claim(2, 7)], Some(7), 7, 7)] {
        assert_eq!(short(&bench.step(input).unwrap()), "");
    }
    let refused = |bench: &mut Bench<SolanaSource>, input| bench.step(input).unwrap_err().code;
    assert_eq!(refused(&mut bench, resume("other", None)), FaultCode::UnknownTarget);
    assert_eq!(refused(&mut bench, resume("src", Some(6))), FaultCode::SlotBackwards);
    let mut anew = self::bench();
    anew.state = bench.state.clone();
    assert_eq!(short(&anew.step(resume("src", Some(9))).unwrap()), "fetch@9");
    assert_eq!(short(&bench.step(resume("src", None)).unwrap()), "fetch>6");
    assert_eq!(refused(&mut bench, resume("src", None)), FaultCode::UnknownTarget);
}

#[test]
fn an_answer_that_would_lose_or_double_a_fact_stops_the_source() {
    let rows = [
        ("a fact of a block that was taken", blocks(vec![claim(2, 6)], Some(7), 7, 7)),
        ("a cursor that goes back", blocks(vec![], Some(5), 7, 7)),
        ("the same cursor again", blocks(vec![], Some(6), 7, 7)),
        ("facts without a cursor", blocks(vec![claim(2, 7)], None, 7, 7)),
        ("a fact beyond the cursor", blocks(vec![claim(2, 9)], Some(8), 9, 7)),
    ];
    for (what, input) in rows {
        let mut bench = bench();
        bench.step(Input::Begin).unwrap();
        bench.step(blocks(vec![claim(1, 6)], Some(6), 6, 6)).unwrap();
        assert_eq!(short(&bench.step(input).unwrap()), "alerts<alert", "{what}");
    }
}

#[test]
fn settings_refuse_unknown_keys_and_values_out_of_range() {
    for (name, settings) in [
        ("max_blocks", SolanaSourceSettings { max_blocks: 0, ..settings() }),
        ("poll_ms", SolanaSourceSettings { poll_ms: 0, ..settings() }),
        ("max_outputs", SolanaSourceSettings { max_outputs: 1, ..settings() }),
        ("name", SolanaSourceSettings { name: String::new(), ..settings() }),
    ] {
        let text = SolanaSource::new(settings).unwrap_err();
        assert!(text.starts_with(&format!("`{name}` is ")), "{text}");
    }
    let text =
        r#"{"name":"a","chain":"c","program":"11111111111111111111111111111111","pol_ms":1}"#;
    let error = serde_json::from_str::<SolanaSourceSettings>(text).unwrap_err();
    assert!(error.to_string().contains("pol_ms"), "{error}");
}
