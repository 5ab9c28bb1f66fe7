//! Signatures that verify, that do not, that do not come; intents that come again.

use semel_schemas::{
    alert::{ALERT, Alert},
    codec,
    fault::FaultCode,
    sign::{SIGN_INTENT, SIGNED, SignIntent, Signed},
    solana::Base64,
};
use solana_keypair::Keypair;
use solana_signer::Signer;

use super::*;
use crate::{
    operator::{Envelope, Input, Step, TimerKey, TimerOp, To},
    testing::Bench,
};

fn keypair() -> Keypair {
    Keypair::new_from_array([3; 32])
}

fn payload(text: &str) -> Payload {
    Payload::SolanaMessage { message: Base64(text.as_bytes().to_vec()) }
}

fn signature(text: &str) -> Signature {
    Signature(keypair().sign_message(text.as_bytes()).into())
}

fn intent(id: &str, text: &str) -> SignIntent {
    SignIntent {
        intent_id: id.into(),
        signer: "local".into(),
        public_key: Address(keypair().pubkey().to_bytes()),
        payload: payload(text),
    }
}

fn input(intent: &SignIntent) -> Input {
    Input::Record(Envelope {
        id: "in".into(),
        kind: SIGN_INTENT.into(),
        key: intent.intent_id.clone().into_bytes(),
        value: Some(codec::encode(intent)),
        headers: Default::default(),
    })
}

fn signed(id: &str, signature: Signature) -> Input {
    Input::Outcome { id: id.into(), outcome: Outcome::Signed { signature } }
}

fn bench() -> Bench<Sign> {
    let settings = SignSettings { retry_ms: 100, retry_max_ms: 300, wrong_max: 2 };
    Bench::new(Sign::new(settings).unwrap())
}

fn emitted(step: &Step) -> Vec<(&To, String, Signed)> {
    step.emits
        .iter()
        .map(|e| {
            assert_eq!((e.record.kind.as_str(), e.record.key.as_slice()), (SIGNED, &b"i"[..]));
            let signed = codec::decode(SIGNED, e.record.value.as_deref().unwrap()).unwrap();
            (&e.to, e.record.id.clone(), signed)
        })
        .collect()
}

#[test]
fn only_a_signature_of_this_key_over_this_payload_verifies() {
    let key = Address(keypair().pubkey().to_bytes());
    assert!(verifies(&key, &payload("m"), &signature("m")));
    let mut flipped = signature("m");
    flipped.0[5] ^= 1;
    // The same point with s + L: a malleable form of a good signature (RFC 8032, 5.1.7).
    let mut malleable = signature("m");
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0;
    for (byte, add) in malleable.0[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    for (what, key, text, signature) in [
        ("another payload", key, "n", signature("m")),
        ("another key", Address([1; 32]), "m", signature("m")),
        ("no point of the curve", Address([0xff; 32]), "m", signature("m")),
        ("a flipped bit", key, "m", flipped),
        ("a malleable form", key, "m", malleable),
        ("zeros", Address([0; 32]), "m", Signature([0; 64])),
    ] {
        assert!(!verifies(&key, &payload(text), &signature), "{what}");
    }
}

#[test]
fn an_intent_is_signed_once_and_a_repeat_gets_the_same_record() {
    let mut bench = bench();
    let step = bench.step(input(&intent("i", "m"))).unwrap();
    assert_eq!(step.effects.len(), 1);
    assert!(
        matches!(&step.effects[0].effect, Effect::Sign { payload: p, .. } if *p == payload("m"))
    );
    // A repeat while it waits asks nothing.
    assert!(bench.step(input(&intent("i", "m"))).unwrap().effects.is_empty());
    let first = bench.step(signed("i", signature("m"))).unwrap();
    let [(To::Next, id, record)] = &emitted(&first)[..] else { panic!("{first:?}") };
    assert_eq!(*record, Signed { intent_id: "i".into(), signature: signature("m") });
    let again = bench.step(input(&intent("i", "m"))).unwrap();
    assert!(again.effects.is_empty());
    assert_eq!(emitted(&again), [(&To::Next, id.clone(), record.clone())]);
    // A late second answer is nothing new.
    let late = bench.step(signed("i", signature("m"))).unwrap();
    assert_eq!((late.emits.len(), late.counts), (0, vec![("sign_stray", 1)]));
}

#[test]
fn an_intent_id_with_another_payload_is_refused_before_and_after_the_signature() {
    let mut bench = bench();
    bench.step(input(&intent("i", "m"))).unwrap();
    let other_key = SignIntent { public_key: Address([1; 32]), ..intent("i", "m") };
    for other in [intent("i", "n"), other_key] {
        assert_eq!(bench.step(input(&other)).unwrap_err().code, FaultCode::IntentMismatch);
    }
    bench.step(signed("i", signature("m"))).unwrap();
    assert_eq!(bench.step(input(&intent("i", "n"))).unwrap_err().code, FaultCode::IntentMismatch);
}

#[test]
fn wrong_signatures_are_asked_again_then_refused_and_a_repeat_starts_anew() {
    let mut bench = bench();
    bench.step(input(&intent("i", "m"))).unwrap();
    let step = bench.step(signed("i", signature("n"))).unwrap();
    assert_eq!((step.effects.len(), step.emits.len()), (1, 0));
    let step = bench.step(signed("i", signature("n"))).unwrap();
    assert!(step.effects.is_empty());
    let [emit] = &step.emits[..] else { panic!("{step:?}") };
    assert_eq!(emit.to, To::Output("alerts"));
    let alert: Alert = codec::decode(ALERT, emit.record.value.as_deref().unwrap()).unwrap();
    assert_eq!((alert.code, alert.subject.as_str()), (FaultCode::BadSignature, "i"));
    assert_eq!(bench.step(input(&intent("i", "m"))).unwrap().effects.len(), 1);
    assert_eq!(emitted(&bench.step(signed("i", signature("m"))).unwrap()).len(), 1);
}

#[test]
fn an_uncertain_answer_is_asked_again_later_with_growing_bounded_delays() {
    let mut bench = bench();
    bench.now = semel_schemas::time::WallTime(1_000);
    let first = bench.step(input(&intent("i", "m"))).unwrap().effects;
    for delay in [100, 200, 300, 300] {
        let uncertain = Outcome::Uncertain { text: "away".into() };
        let step = bench.step(Input::Outcome { id: "i".into(), outcome: uncertain }).unwrap();
        let at = 1_000 + delay;
        let timer = TimerOp::Set { key: TimerKey::wall("i"), at, payload: vec![] };
        assert_eq!((step.timers, step.effects.len()), (vec![timer], 0));
        let timer = Input::Timer { key: TimerKey::wall("i"), payload: vec![] };
        assert_eq!(bench.step(timer).unwrap().effects, first, "the same payload every time");
    }
}

#[test]
fn broken_intents_are_refused_and_leave_nothing_behind() {
    let mut bench = bench();
    for id in ["", "a\0b", &"x".repeat(257)] {
        assert_eq!(bench.step(input(&intent(id, "m"))).unwrap_err().code, FaultCode::WrongType);
    }
    let Input::Record(envelope) = input(&intent("i", "m")) else { panic!() };
    let none = Input::Record(Envelope { value: None, ..envelope.clone() });
    assert_eq!(bench.step(none).unwrap_err().code, FaultCode::UnexpectedTombstone);
    let garbage = Input::Record(Envelope { value: Some(b"[]".to_vec()), ..envelope });
    assert!(bench.step(garbage).is_err());
    assert!(bench.state.is_empty());
}
