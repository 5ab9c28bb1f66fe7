//! States × outcomes, as a table. Each row: state, event, next state, acts in short.

use semel_schemas::{
    attention::{self, CHANNEL_DISCRIMINATOR, channel_layout as layout},
    claim::{RootRecord, RootStatus},
    effect::{Commitment, TransactionStatus},
    solana::Address,
    time::Epoch,
};
use solana_keypair::Keypair;
use solana_signer::Signer;

use super::{
    Event::{Account, Prepared, Sent, Signature as Sig, Status, Tick},
    *,
};

const NOW: WallTime = WallTime(10_000);
const LAST_VALID: u64 = 150;

fn keypair() -> Keypair {
    Keypair::new_from_array([9; 32])
}

fn settings() -> Settings {
    let authority = Address(keypair().pubkey().to_bytes());
    let json = format!(
        r#"{{"chain":"c","signer":"s","program":"{}","mint":"{}","authority":"{authority}",
            "failures_max":2,"retry_ms":100,"retry_max_ms":1000}}"#,
        attention::PROGRAM,
        Address([5; 32])
    );
    serde_json::from_str(&json).unwrap()
}

fn target(settings: &Settings) -> Target {
    let record = RootRecord {
        root_id: "kick:12".into(),
        channel: "kick".into(),
        epoch: Epoch(12),
        root: "ab".repeat(32),
        count: 3,
        profile: "p".into(),
        finalized_at: WallTime(0),
        status: RootStatus::ReadyForSettlement,
    };
    Target::of(&record, settings).unwrap()
}

/// A channel account whose slot for epoch 12 holds `epoch` and `root`.
fn ring(epoch: u64, root: u8) -> Option<Base64> {
    let mut data = vec![0; layout::LEN];
    data[..8].copy_from_slice(&CHANNEL_DISCRIMINATOR);
    data[layout::VERSION] = 1;
    let slot = layout::slot(12);
    data[slot..slot + 8].copy_from_slice(&epoch.to_le_bytes());
    data[slot + 8..slot + 40].fill(root);
    Some(Base64(data))
}

fn account(context_slot: u64, data: Option<Base64>) -> Outcome {
    Outcome::Account { context_slot: Slot(context_slot), data }
}

fn status(height: u64, found: Option<(Commitment, Option<&str>)>) -> Outcome {
    Outcome::Status {
        context_slot: Slot(800),
        finalized_height: BlockHeight(height),
        found: found.map(|(commitment, error)| TransactionStatus {
            slot: Slot(700),
            commitment,
            error: error.map(str::to_owned),
        }),
    }
}

fn uncertain() -> Outcome {
    Outcome::Uncertain { text: "timed out".into() }
}

fn prepared(simulated: Result<u64, String>) -> Outcome {
    Outcome::Prepared {
        blockhash: Blockhash([4; 32]),
        last_valid_block_height: BlockHeight(LAST_VALID),
        simulated,
        unit_price: 7,
    }
}

/// The state machine with one root, driven by hand.
struct Machine {
    settings: Settings,
    target: Target,
}

impl Machine {
    fn new() -> Self {
        let settings = settings();
        Self { target: target(&settings), settings }
    }

    fn world(&self) -> World<'_> {
        World { settings: &self.settings, target: &self.target, root_id: "kick:12", now: NOW }
    }

    fn sample(&self, name: &str) -> State {
        let run = Run { min_slot: Some(Slot(500)), ..Run::FIRST };
        let reading = || State::Reading(Reading { run, tries: 0 });
        let preparing = || reading().on(Event::Account(&account(500, ring(3, 1))), &self.world()).0;
        let signing = || preparing().on(Event::Prepared(&prepared(Ok(1_000))), &self.world()).0;
        let committed = || {
            let state = signing();
            let signature = self.sign(&state);
            state.on(Event::Signature(&Outcome::Signed { signature }), &self.world()).0
        };
        let sighted = || committed().on(Event::Status(&status(151, None)), &self.world()).0;
        let confirming = || {
            let landed = status(100, Some((Commitment::Finalized, None)));
            committed().on(Event::Status(&landed), &self.world()).0
        };
        match name {
            "held" => State::Held,
            "queued" => State::Queued(run),
            "reading" => reading(),
            "reading_2" => State::Reading(Reading { run: Run { failures: 1, ..run }, tries: 0 }),
            "preparing" => preparing(),
            "preparing_2" => {
                State::Preparing(Preparing { run: Run { failures: 1, ..run }, tries: 0 })
            }
            "signing" => signing(),
            "committed" => committed(),
            "committed_2" => match committed() {
                State::Committed(state) => {
                    State::Committed(Committed { run: Run { failures: 1, ..state.run }, ..state })
                }
                other => other,
            },
            "sighted" => sighted(),
            "confirming" => confirming(),
            "settled" => {
                confirming().on(Event::Account(&account(700, ring(12, 0xab))), &self.world()).0
            }
            "failed" => reading().on(Event::Account(&account(500, ring(12, 1))), &self.world()).0,
            other => panic!("no sample `{other}`"),
        }
    }

    /// A good signature for what a [`State::Signing`] waits for.
    fn sign(&self, state: &State) -> Signature {
        let (_, acts) = state.clone().on(Event::Tick, &self.world());
        match acts.first() {
            Some(Act::Sign(Effect::Sign {
                payload: Payload::SolanaMessage { message }, ..
            })) => Signature(keypair().sign_message(&message.0).into()),
            _ => Signature([0; 64]),
        }
    }
}

fn name(state: &State) -> String {
    let json = serde_json::to_value(state).unwrap();
    json["state"].as_str().unwrap().to_owned()
}

fn short(acts: &[Act]) -> String {
    let text = |act: &Act| match act {
        Act::Read(min) => format!("read>={}", min.map_or(0, |s| s.0)),
        Act::Prepare => "prepare".into(),
        Act::Sign(_) => "sign".into(),
        Act::Broadcast(_) => "send".into(),
        Act::Status(_, min) => format!("status>={}", min.map_or(0, |s| s.0)),
        Act::StopSending => "stop".into(),
        Act::Wake(at) => format!("wake+{}", at.0 - NOW.0),
        Act::Log(row, status, _) => {
            let signed = if row.signature.is_some() { "tx" } else { "-" };
            format!("log#{}:{status:?}:{signed}", row.attempt)
        }
        Act::Alert(code, _) => format!("alert:{code}"),
        Act::Count(name) => (*name).into(),
    };
    acts.iter().map(text).collect::<Vec<_>>().join(" ")
}

type Table<'a> = &'a [(&'a str, Event<'a>, &'a str, &'a str)];

fn check(machine: &Machine, rows: Table<'_>) {
    for (sample, event, next, acts) in rows {
        let (state, did) = machine.sample(sample).on(*event, &machine.world());
        assert_eq!(
            (name(&state).as_str(), short(&did).as_str()),
            (*next, *acts),
            "{sample} {event:?}"
        );
    }
}

#[test]
fn rule_1_the_account_decides_whether_there_is_anything_to_send() {
    let machine = Machine::new();
    let ours = ring(12, 0xab);
    let rows: Table<'_> = &[
        // Rule 1.
        ("reading", Account(&account(500, ours.clone())), "settled", "log#1:Confirmed:-"),
        ("reading", Account(&account(500, ring(12, 1))), "failed", "log#1:Failed:- alert:SEM-0018"),
        (
            "reading",
            Account(&account(500, ring(21, 0xab))),
            "failed",
            "log#1:Failed:- alert:SEM-0031",
        ),
        ("reading", Account(&account(500, ring(3, 0xab))), "preparing", "prepare"),
        ("reading", Account(&account(500, ring(0, 0))), "preparing", "prepare"),
        ("reading", Account(&account(500, None)), "preparing", "prepare"),
        (
            "reading",
            Account(&account(500, Some(Base64(vec![1; 9])))),
            "failed",
            "log#1:Failed:- alert:SEM-0032",
        ),
        ("reading", Account(&account(499, ours.clone())), "reading", "settle_uncertain wake+100"),
        ("reading", Account(&uncertain()), "reading", "settle_uncertain wake+100"),
        ("reading", Account(&Outcome::Sent), "reading", "settle_uncertain wake+100"),
        ("reading", Tick, "reading", "read>=500"),
    ];
    check(&machine, rows);
}

#[test]
fn rule_2_a_transaction_is_prepared_signed_committed_then_sent() {
    let machine = Machine::new();
    let good = Outcome::Signed { signature: machine.sign(&machine.sample("signing")) };
    let wrong = Outcome::Signed { signature: Signature([1; 64]) };
    let rows: Table<'_> = &[
        // Preparation (rule 5).
        ("preparing", Prepared(&prepared(Ok(1_000))), "signing", "sign"),
        (
            "preparing",
            Prepared(&prepared(Err("6005".into()))),
            "reading",
            "wake+100 settle_simulation_failed",
        ),
        (
            "preparing_2",
            Prepared(&prepared(Err("6005".into()))),
            "failed",
            "log#1:Failed:- alert:SEM-0032 settle_simulation_failed",
        ),
        ("preparing", Prepared(&uncertain()), "preparing", "settle_uncertain wake+100"),
        ("preparing", Tick, "preparing", "prepare"),
        // Rule 2: signed, committed, sent, in this order.
        ("signing", Sig(&good), "committed", "log#1:PendingConfirmation:tx send wake+2000"),
        ("signing", Sig(&wrong), "signing", "settle_wrong_signature sign"),
        ("signing", Sig(&uncertain()), "signing", "settle_uncertain wake+100"),
        ("signing", Tick, "signing", "sign"),
    ];
    check(&machine, rows);
}

#[test]
fn rules_3_and_4_the_same_bytes_until_they_landed_failed_or_are_dead() {
    let machine = Machine::new();
    let fin = |error| Some((Commitment::Finalized, error));
    let rows: Table<'_> = &[
        // Rule 3: the same bytes while they may land.
        ("committed", Tick, "committed", "send status>=0"),
        ("committed", Sent(&Outcome::Sent), "committed", "settle_sent"),
        (
            "committed",
            Sent(&Outcome::Rejected { text: "already processed".into() }),
            "committed",
            "settle_send_rejected",
        ),
        ("committed", Sent(&uncertain()), "committed", "settle_send_uncertain"),
        ("committed", Status(&status(150, None)), "committed", "wake+2000"),
        (
            "committed",
            Status(&status(150, Some((Commitment::Processed, None)))),
            "committed",
            "wake+2000",
        ),
        (
            "committed",
            Status(&status(150, Some((Commitment::Confirmed, Some("e"))))),
            "committed",
            "wake+2000",
        ),
        ("committed", Status(&uncertain()), "committed", "wake+2000 settle_uncertain"),
        ("committed", Status(&status(151, None)), "committed", "wake+2000 settle_uncertain"),
        ("sighted", Tick, "committed", "status>=800"),
        ("sighted", Status(&uncertain()), "committed", "wake+2000 settle_uncertain"),
        (
            "sighted",
            Status(&status(151, None)),
            "reading",
            "stop log#1:Failed:tx settle_dead read>=800",
        ),
        // Rule 4: judged at finalized only.
        ("committed", Status(&status(100, fin(None))), "confirming", "stop read>=700"),
        ("sighted", Status(&status(151, fin(None))), "confirming", "stop read>=700"),
        (
            "committed",
            Status(&status(100, fin(Some("6023")))),
            "reading",
            "stop settle_failed_on_chain log#1:Failed:tx wake+100",
        ),
        (
            "committed_2",
            Status(&status(100, fin(Some("6023")))),
            "failed",
            "stop settle_failed_on_chain log#1:Failed:tx alert:SEM-0032",
        ),
    ];
    check(&machine, rows);
}

#[test]
fn a_landed_transaction_is_confirmed_by_the_account() {
    let machine = Machine::new();
    let ours = ring(12, 0xab);
    let rows: Table<'_> = &[
        // Landed: the account says the last word.
        ("confirming", Account(&account(700, ours.clone())), "settled", "log#1:Confirmed:tx"),
        ("confirming", Account(&account(700, ring(21, 1))), "settled", "log#1:Confirmed:tx"),
        (
            "confirming",
            Account(&account(699, ours.clone())),
            "confirming",
            "settle_uncertain wake+100",
        ),
        ("confirming", Account(&uncertain()), "confirming", "settle_uncertain wake+100"),
        (
            "confirming",
            Account(&account(700, ring(12, 1))),
            "failed",
            "log#1:Failed:tx alert:SEM-0018",
        ),
        (
            "confirming",
            Account(&account(700, ring(3, 1))),
            "failed",
            "log#1:Failed:tx alert:SEM-0032",
        ),
        (
            "confirming",
            Account(&account(700, Some(Base64(vec![])))),
            "failed",
            "log#1:Failed:tx alert:SEM-0032",
        ),
        ("confirming", Tick, "confirming", "read>=700"),
    ];
    check(&machine, rows);
}

#[test]
fn what_does_not_fit_a_state_changes_nothing() {
    let machine = Machine::new();
    let outcome = uncertain();
    let events = [
        ("read", Event::Account(&outcome)),
        ("prepare", Event::Prepared(&outcome)),
        ("sign", Event::Signature(&outcome)),
        ("send", Event::Sent(&outcome)),
        ("status", Event::Status(&outcome)),
        ("tick", Event::Tick),
    ];
    let fits: &[(&str, &[&str])] = &[
        ("held", &[]),
        ("queued", &[]),
        ("reading", &["read", "tick"]),
        ("preparing", &["prepare", "tick"]),
        ("signing", &["sign", "tick"]),
        ("committed", &["send", "status", "tick"]),
        ("confirming", &["read", "tick"]),
        ("settled", &[]),
        ("failed", &[]),
    ];
    for (sample, fits) in fits {
        for (what, event) in events {
            let before = machine.sample(sample);
            let (after, acts) = before.clone().on(event, &machine.world());
            let stray = acts == [Act::Count("settle_stray")];
            assert_eq!(stray, !fits.contains(&what), "{sample} {what}");
            assert!(!stray || after == before, "{sample} {what}");
        }
    }
}

#[test]
fn three_wrong_signatures_give_the_root_up_before_anything_is_sent() {
    let machine = Machine::new();
    let wrong = Outcome::Signed { signature: Signature([1; 64]) };
    let mut state = machine.sample("signing");
    for _ in 0..2 {
        let (next, acts) = state.on(Event::Signature(&wrong), &machine.world());
        assert_eq!(short(&acts), "settle_wrong_signature sign");
        state = next;
    }
    let (state, acts) = state.on(Event::Signature(&wrong), &machine.world());
    assert_eq!(name(&state), "failed");
    assert_eq!(short(&acts), "log#1:Failed:- alert:SEM-0019");
}

#[test]
fn states_survive_the_store() {
    let machine = Machine::new();
    for sample in [
        "held",
        "queued",
        "reading",
        "preparing",
        "signing",
        "committed",
        "sighted",
        "confirming",
        "settled",
        "failed",
    ] {
        let state = machine.sample(sample);
        let json = serde_json::to_vec(&state).unwrap();
        assert_eq!(serde_json::from_slice::<State>(&json).unwrap(), state, "{sample}");
    }
}
