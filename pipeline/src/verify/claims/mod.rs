//! The claims pipeline (`deploy/specs/attention-oracle.toml`) down to the settled root, on a devnet
//! that runs beside it as a process of its own.
//!
//! `script` what is fed · here the devnet, and what must be there at the end: each claim once in the
//! topics, in the state and in the table, settled; each root the root of its rows and the chain's.

mod script;

use std::{
    collections::HashSet,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use semel_connectors::solana::rpc::RpcNode;
use semel_operators::field::digest;
use semel_schemas::{
    attention,
    claim::{CLAIM, ClaimState, ClaimStatus},
    header,
    record::Record,
    solana::Address,
    verdict::Duplicate,
};

use self::script::{Claims, Given, amount, channel, claim_id, place};
use super::{
    Options, Pipeline, VerifyError,
    compare::{Counts, Order, Place, Repeats, Tally, numbers},
    events::dead_letters,
    processes::{Helper, Launch, last_line},
    report::Line,
    world::{Gap, World},
};
use crate::{
    audit::{self, book::Book},
    spec::plan::Plan,
};

/// The pipeline's spec, as it is in the repository.
const SPEC: &str = include_str!("../../../../deploy/specs/attention-oracle.toml");
/// Slots of an epoch: 15 s at the devnet's pace.
const EPOCH_SLOTS: u64 = 150;
/// Claims for each channel, roughly: a root takes 8,192 (the program's limit), and a channel gets one
/// in each epoch.
const CLAIMS_PER_CHANNEL: u64 = 20_000;
/// How long the devnet may take to start.
const DEVNET_MAX: Duration = Duration::from_secs(60);
/// How long the devnet may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Ids that `dedupe` admitted, in its changelog.
const IDS: &[u8] = b"dedupe_ids\0";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ClaimsPipeline {
    channels: u32,
    devnet: Option<Devnet>,
}

#[derive(Debug)]
struct Devnet {
    _process: Helper,
    rpc: String,
    mint: String,
}

impl Devnet {
    /// Starts one with these channels, whose publisher is the key in `key`.
    fn start(
        world: &World,
        options: &Options,
        publisher: &str,
        channels: u32,
    ) -> Result<Self, VerifyError> {
        let log = world.folder.join("devnet.log");
        let mut arguments: Vec<String> = [
            "devnet",
            "--listen",
            "127.0.0.1:0",
            "--slot-ms",
            "100",
            "--finalized-lag",
            "8",
            "--skip-every",
            "9",
            "--publisher",
            publisher,
        ]
        .map(str::to_owned)
        .to_vec();
        for number in 0..channels {
            arguments.extend(["--channel".to_owned(), channel(number, channels)]);
        }
        let launch = Launch {
            exe: options.exe.clone(),
            arguments,
            variables: Vec::new(),
            without: Vec::new(),
        };
        let mut process = Helper::start(&launch, "the devnet", log.clone())?;
        let deadline = Instant::now() + DEVNET_MAX;
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let rpc = text.lines().find(|line| line.starts_with("http://"));
            let mint = text.split("devnet: mint ").nth(1).and_then(|rest| rest.split(';').next());
            if let (Some(rpc), Some(mint)) = (rpc, mint) {
                let (rpc, mint) = (rpc.to_owned(), mint.to_owned());
                return Ok(Self { _process: process, rpc, mint });
            }
            if process.ended()? || Instant::now() > deadline {
                let said = last_line(&log);
                return Err(VerifyError::Failed(format!("the devnet does not start: {said}")));
            }
            if world.stopped() {
                return Err(VerifyError::Interrupted);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Makes a settlement key by the command that users have; its public half.
fn keygen(exe: &Path, file: &Path) -> Result<String, VerifyError> {
    let made = std::process::Command::new(exe).arg("keygen").arg(file).output();
    match made {
        Ok(made) if made.status.success() => {
            Ok(String::from_utf8_lossy(&made.stdout).trim().to_owned())
        }
        Ok(made) => Err(VerifyError::Failed(String::from_utf8_lossy(&made.stderr).into_owned())),
        Err(error) => Err(VerifyError::Failed(format!("{}: {error}", exe.display()))),
    }
}

impl Pipeline for ClaimsPipeline {
    type Script = Claims;

    fn name(&self) -> &'static str {
        "claims"
    }

    fn spec(&self) -> &'static str {
        SPEC
    }

    fn input(&self) -> &'static str {
        "instructions"
    }

    /// Blocks come whether claims do or not: progress is written through the stages, epochs close.
    fn restless(&self) -> &'static [&'static str] {
        &[
            "chain.control",
            "chain.state",
            "instructions",
            "dedupe.state",
            "claims",
            "settle.state",
            "epochs",
        ]
    }

    fn start(
        &mut self,
        world: &World,
        options: &Options,
    ) -> Result<Vec<(String, String)>, VerifyError> {
        let key = world.folder.join("settlement-key.json");
        let authority = keygen(&options.exe, &key)?;
        let channels = (options.records / CLAIMS_PER_CHANNEL).clamp(20, 64);
        self.channels = u32::try_from(channels).unwrap_or(20);
        let devnet = Devnet::start(world, options, &authority, self.channels)?;
        let variables = [
            ("ANCHOR_PROVIDER_URL", devnet.rpc.clone()),
            ("AO_PROGRAM_ID", attention::PROGRAM.to_string()),
            ("AO_MINT", devnet.mint.clone()),
            ("AO_FROM_SLOT", "0".to_owned()),
            ("AO_POLL_MS", "200".to_owned()),
            ("AUTO_PUBLISH", "true".to_owned()),
            ("DEDUPE_WINDOW_SLOTS", "864000".to_owned()),
            ("EPOCH_DURATION_SLOTS", EPOCH_SLOTS.to_string()),
            ("FINALIZE_THRESHOLD_SECS", "2".to_owned()),
            ("SETTLEMENT_AUTHORITY", authority),
            ("SETTLEMENT_KEYPAIR", key.to_string_lossy().into_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        self.devnet = Some(devnet);
        Ok(variables.to_vec())
    }

    /// Slots of epoch 1: the program takes no epoch 0. Once that is closed, claims count in the next
    /// one that is open.
    fn script(&self, seed: u64, records: u64) -> Claims {
        Claims::new(seed, records, self.channels, EPOCH_SLOTS)
    }

    fn missing(&self, world: &World, script: &Claims) -> Result<u64, VerifyError> {
        let sql = format!(
            "SELECT CAST(count(*) AS TEXT) FROM \"{}\".claims WHERE status = 'settled'",
            world.schema
        );
        Ok(u64::from(script.given.claims).saturating_sub(world.number(&sql)?))
    }

    fn compare(
        &self,
        world: &World,
        _: &Plan,
        script: &Claims,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Line>, VerifyError> {
        let given = &script.given;
        let mut lines = vec![admitted(world, given)?, duplicates(world, given)?];
        lines.push(Line::new("dead letters", dead_letters(world, given.poison)?));
        lines.push(self.ids(world, given)?);
        lines.push(states(world, given)?);
        lines.push(self.table(world, given)?);
        lines.extend(self.roots(world, given, notes)?);
        Ok(lines)
    }
}

fn value(record: &Record) -> &[u8] {
    record.value.as_deref().unwrap_or_default()
}

/// The topic of admitted claims. (In their partition claims stand in the order of arrival, which
/// nobody prescribes: the order that counts is that of the leaves, see the roots.)
fn admitted(world: &World, given: &Given) -> Result<Line, VerifyError> {
    #[derive(serde::Deserialize)]
    struct Admitted {
        claim_id: String,
    }
    let mut tally = Tally::new(&[given.claims], Order::Any);
    let mut gap = Gap::default();
    world.read(&world.topic("claims")?, |record| {
        if record.headers.get_str(header::TYPE) == Some(CLAIM) {
            gap.note(record.partition, record.timestamp_ms);
            let claim: Option<Admitted> = serde_json::from_slice(value(record)).ok();
            tally.find(claim.and_then(|claim| place(&claim.claim_id)));
        }
    })?;
    let line = Line::new("instructions → topic claims", tally.counts());
    Ok(line.given(given.records).gap(gap.worst_ms()))
}

fn duplicates(world: &World, given: &Given) -> Result<Line, VerifyError> {
    let mut repeats = Repeats::new(&given.again);
    world.read(&world.topic("duplicates")?, |record| {
        let told: Option<Duplicate> = serde_json::from_slice(value(record)).ok();
        repeats.find(told.and_then(|told| place(told.id.first()?)));
    })?;
    Ok(Line::new("duplicates told", repeats.counts()))
}

/// The last state of each claim: it is settled.
fn states(world: &World, given: &Given) -> Result<Line, VerifyError> {
    let mut last: Vec<Option<ClaimStatus>> = vec![None; given.claims as usize];
    let mut foreign = 0;
    world.read(&world.topic("claim-states")?, |record| {
        let state: Option<ClaimState> = serde_json::from_slice(value(record)).ok();
        let at = state.as_ref().and_then(|state| place(&state.claim.claim_id));
        match (state, at.and_then(|at| last.get_mut(at.number as usize))) {
            (Some(state), Some(last)) => *last = Some(state.status),
            _ => foreign += 1,
        }
    })?;
    let settled = last.iter().filter(|state| **state == Some(ClaimStatus::Settled)).count() as u64;
    let counts = numbers(given.claims.into(), settled);
    Ok(Line::new("topic claim-states: settled", Counts { foreign, ..counts }))
}

impl ClaimsPipeline {
    /// What `dedupe` remembers, as its changelog says.
    fn ids(&self, world: &World, given: &Given) -> Result<Line, VerifyError> {
        let mut ids: HashSet<Vec<u8>> = HashSet::new();
        world.read(&world.topic("dedupe.state")?, |record| {
            let key = record.key.as_deref().and_then(|key| key.strip_prefix(IDS));
            let _known = match (key, &record.value) {
                (Some(key), Some(_)) => ids.insert(key.to_vec()),
                (Some(key), None) => ids.remove(key),
                (None, _) => false,
            };
        })?;
        let found = ids.len() as u64;
        let mine = |number: &u32| {
            let id = digest(&[claim_id(*number, self.channels)]);
            ids.remove(id.as_slice())
        };
        let kept = (0..given.claims).filter(mine).count() as u64;
        let expected = u64::from(given.claims);
        let counts = Counts {
            expected,
            found,
            lost: expected - kept,
            foreign: found - kept,
            ..Counts::default()
        };
        Ok(Line::new("state: ids remembered", counts))
    }

    fn table(&self, world: &World, given: &Given) -> Result<Line, VerifyError> {
        let mut tally = Tally::new(&[given.claims], Order::Any);
        world.each_row("claims", &["status", "amount", "channel"], |row| {
            let [Some(id), Some(status), Some(paid), Some(of)] = row else {
                tally.find(None);
                return;
            };
            tally.find(place(id).filter(|Place { number, .. }| {
                status == "settled"
                    && *paid == amount(*number).to_string()
                    && *of == channel(*number, self.channels)
            }));
        })?;
        Ok(Line::new("table claims: settled", tally.counts()))
    }

    /// Each root is the root of its rows in the chain's order, and the chain's; each was confirmed
    /// once; together their leaves are all claims.
    fn roots(
        &self,
        world: &World,
        given: &Given,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Line>, VerifyError> {
        let Some(devnet) = &self.devnet else { return Ok(Vec::new()) };
        let wrong = |text: String| VerifyError::Failed(text);
        let mint: Address = devnet
            .mint
            .parse()
            .map_err(|_| wrong(format!("the devnet named `{}`, which is no mint", devnet.mint)))?;
        let audits = world
            .runtime
            .block_on(async {
                let node = RpcNode::new(&devnet.rpc, ANSWER_MAX).map_err(|e| e.to_string())?;
                let book = Book::new(world.look.clone(), &world.schema, Vec::new());
                audit::roots(&book, &node, &mint).await
            })
            .map_err(wrong)?;
        let bad = audits.iter().filter(|audit| !audit.wrong.is_empty());
        for audit in bad.take(3) {
            let (channel, epoch) = (&audit.channel, audit.epoch);
            notes.push(format!("root {channel}:{epoch}: {}", audit.wrong.join("; ")));
        }
        let roots = audits.len() as u64;
        let agree = audits.iter().filter(|audit| audit.wrong.is_empty()).count() as u64;
        let leaves: u64 = audits.iter().map(|audit| u64::from(audit.count)).sum();
        let confirmed = |having: &str| {
            world.number(&format!(
                "SELECT CAST(count(*) AS TEXT) FROM (SELECT root_id FROM \"{}\".settlement_log \
                 WHERE status = 'confirmed' GROUP BY root_id HAVING count(*) {having}) AS t",
                world.schema
            ))
        };
        let settled = numbers(roots, confirmed(">= 1")?);
        Ok(vec![
            Line::new("leaves of all roots", numbers(given.claims.into(), leaves)),
            Line::new("roots of rows and chain", numbers(roots, agree)),
            Line::new("roots confirmed", Counts { twice: confirmed("> 1")?, ..settled }),
        ])
    }
}
