//! `semel demo`: the whole way on one machine: claims on an in-process chain, the shipped spec on
//! the embedded log, roots settled on the chain and read back, rows in SQLite.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use semel::audit::{self, RootAudit, book::Book};
use semel_connectors::{
    signer::Signer as _,
    signers::local::{LocalSigner, Readable},
    sinks::look::Look,
    solana::{
        devnet::{Devnet, DevnetConfig, traffic::User},
        node::SolanaNode as _,
        server,
    },
};
use semel_schemas::effect::Commitment;

use super::{Done, Failure, boot, keygen, output, run};

/// The shipped spec, as it is in the repository.
const SPEC: &str = include_str!("../../../deploy/specs/attention-oracle.toml");
const SLOT_MS: u64 = 50;
const EPOCH_SLOTS: u64 = 40;
const CHANNELS: [&str; 3] = ["alpha", "beta", "gamma"];
const USERS: u32 = 40;
/// Longest time until everything is settled.
const PATIENCE: Duration = Duration::from_secs(120);

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the demo keeps its data (log, state, database, key); it must not exist yet
    #[arg(long)]
    data: Option<PathBuf>,
    /// Go on claiming and settling until Ctrl-C
    #[arg(long)]
    keep: bool,
}

struct Demo {
    data: PathBuf,
    devnet: Devnet,
    users: Vec<User>,
    database: String,
    started: Instant,
}

/// Runs it.
pub(super) fn demo(args: &Args) -> Done {
    let data = args
        .data
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("semel-demo-{}", std::process::id())));
    std::fs::create_dir(&data).map_err(|e| {
        Failure::Failed(format!("the demo's folder {} cannot be made: {e}", data.display()))
    })?;
    let (demo, running, runtime) = start(data)?;
    let done = runtime.block_on(demo.watch(&running, args.keep));
    let joined = running.host.join().map_err(Failure::Failed);
    done.and(joined)
}

fn start(data: PathBuf) -> Result<(Demo, run::Running, tokio::runtime::Runtime), Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::Failed(e.to_string());
    let keypair = data.join("settlement-key.json");
    keygen::write_key(&keypair).map_err(|e| failed(&e))?;
    let signer = LocalSigner::from_file(&keypair, Readable::Owner).map_err(|e| failed(&e))?;
    let publisher = signer.public_key();
    let users: Vec<User> = (0..USERS).map(User::new).collect();
    let mut funded: Vec<_> = users.iter().map(User::purse).collect();
    funded.push((publisher, 1_000_000_000_000));
    let config = DevnetConfig {
        slot_ms: SLOT_MS,
        finalized_lag: 8,
        skip_every: 7,
        publisher,
        channels: CHANNELS.map(str::to_owned).to_vec(),
        funded,
        ..DevnetConfig::default()
    };
    let mint = config.mint;
    let devnet = Devnet::new(config).map_err(|e| failed(&e))?;
    let database = format!("sqlite:{}", data.join("attention.db").display());
    let variables =
        variables(&data, &keypair, &database, &publisher.to_string(), &mint.to_string());
    let lookup = |name: &str| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    };
    let (spec, _, plan) =
        boot::checked(boot::registry(), "deploy/specs/attention-oracle.toml", SPEC, &lookup)?;
    let runtime = run::runtime()?;
    let chain = devnet.clone();
    runtime.spawn(async move {
        if let Err(error) = server::keep_time(chain, Duration::from_millis(SLOT_MS / 2)).await {
            tracing::error!(%error, "the devnet ended");
        }
    });
    let running = run::start(&runtime, &spec, plan, Some(Arc::new(devnet.clone())))?;
    let demo = Demo { data, devnet, users, database, started: Instant::now() };
    Ok((demo, running, runtime))
}

fn variables(
    data: &Path,
    keypair: &Path,
    database: &str,
    authority: &str,
    mint: &str,
) -> Vec<(&'static str, String)> {
    vec![
        ("SEMEL_DATA", data.display().to_string()),
        ("DATABASE_URL", database.to_owned()),
        ("ANCHOR_PROVIDER_URL", boot::DEVNET.to_owned()),
        ("AO_MINT", mint.to_owned()),
        ("AO_POLL_MS", "50".to_owned()),
        ("SETTLEMENT_KEYPAIR", keypair.display().to_string()),
        ("SETTLEMENT_AUTHORITY", authority.to_owned()),
        ("EPOCH_DURATION_SLOTS", EPOCH_SLOTS.to_string()),
        ("FINALIZE_THRESHOLD_SECS", "1".to_owned()),
        ("AUTO_PUBLISH", "true".to_owned()),
    ]
}

impl Demo {
    async fn watch(&self, running: &run::Running, keep: bool) -> Done {
        output::say(&format!("data folder {}", self.data.display()));
        let mut epoch = self.wait_for_epoch(1).await?;
        let mut first = None;
        loop {
            let sent = self.claims(epoch).await?;
            output::say(&format!(
                "epoch {epoch}: {} claims sent to the chain, {} of them doubles",
                sent.0, sent.1
            ));
            let audits = self.settled(running, epoch).await?;
            let took = *first.get_or_insert(self.started.elapsed());
            if !keep {
                return self.report(running, &audits, took).await;
            }
            for audit in audits.iter().filter(|audit| audit.epoch == epoch) {
                output::line(&format!(
                    "epoch {} channel {}: {} claims, root {} settled",
                    audit.epoch, audit.channel, audit.count, audit.stored
                ))?;
            }
            epoch = self.wait_for_epoch(epoch + 1).await?;
        }
    }

    async fn wait_for_epoch(&self, epoch: u64) -> Result<u64, Failure> {
        loop {
            let slot = self.devnet.slot(Commitment::Processed).await;
            let now = slot.map_err(|e| Failure::Failed(e.to_string()))?.0 / EPOCH_SLOTS;
            if now >= epoch {
                return Ok(now);
            }
            tokio::time::sleep(Duration::from_millis(SLOT_MS)).await;
        }
    }

    /// Every user claims on every channel; every eighth claim is sent twice.
    async fn claims(&self, epoch: u64) -> Result<(u32, u32), Failure> {
        let (mut sent, mut doubles) = (0, 0);
        for channel in CHANNELS {
            for (number, user) in (0_u32..).zip(&self.users) {
                let amount = 1_000 + u64::from(number) * 10;
                for again in 0..=u32::from(number % 8 == 0) {
                    let claim = user.claim(&self.devnet, channel, epoch, amount, again).await;
                    claim.map_err(|e| Failure::Failed(format!("a claim was refused: {e}")))?;
                    sent += 1;
                    doubles += again;
                }
            }
        }
        Ok((sent, doubles))
    }

    /// Waits until the claims sent in `epoch` are settled on every channel.
    async fn settled(&self, running: &run::Running, epoch: u64) -> Result<Vec<RootAudit>, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let want = USERS * u32::try_from(CHANNELS.len()).unwrap_or(u32::MAX);
        let look = loop {
            match Look::open(&self.database).await {
                Ok(look) => break look,
                Err(_) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(Failure::Failed(error.to_string())),
            }
        };
        loop {
            running.host.failed(Duration::ZERO).map_err(Failure::Failed)?;
            let sql = format!(
                "SELECT CAST(COUNT(*) AS TEXT) FROM claims WHERE status = 'settled' \
                 AND claim_id LIKE '%#{epoch}'"
            );
            let rows = look.rows(&sql).await.map_err(|e| Failure::Failed(e.to_string()))?;
            let settled = rows.first().and_then(|row| row.first()).cloned().flatten();
            if settled.is_some_and(|count| count == want.to_string()) {
                let mint = self.devnet.config().mint;
                let book = Book::new(look, "", Vec::new());
                return audit::roots(&book, &self.devnet, &mint).await.map_err(Failure::Failed);
            }
            if Instant::now() > deadline {
                return Err(Failure::Failed(format!(
                    "the claims of epoch {epoch} were not settled within {} s; look into {}",
                    PATIENCE.as_secs(),
                    self.data.display()
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn report(&self, running: &run::Running, audits: &[RootAudit], took: Duration) -> Done {
        let counts = running.host.board.read();
        let rows: Vec<Vec<String>> = counts
            .iter()
            .map(|(stage, c)| {
                let named: Vec<String> =
                    c.named.iter().map(|(name, n)| format!("{name} {n}")).collect();
                vec![
                    stage.clone(),
                    c.records_in.to_string(),
                    c.records_out.to_string(),
                    c.effects.to_string(),
                    c.commits.to_string(),
                    c.dead_letters.to_string(),
                    named.join(", "),
                ]
            })
            .collect();
        output::table(&["stage", "in", "out", "effects", "commits", "dead", "counted"], &rows)?;
        output::line("")?;
        for audit in audits {
            let chain = audit.on_chain.clone().unwrap_or_else(|| "not there".to_owned());
            output::line(&format!(
                "channel {}, epoch {}: {} claims, {}",
                audit.channel, audit.epoch, audit.count, audit.status
            ))?;
            output::line(&format!("  rebuilt from table claims  {}", audit.rebuilt))?;
            output::line(&format!("  stored in table roots      {}", audit.stored))?;
            output::line(&format!("  read from the chain        {chain}"))?;
            for wrong in &audit.wrong {
                output::line(&format!("  WRONG: {wrong}"))?;
            }
        }
        let wrong: usize = audits.iter().map(|audit| audit.wrong.len()).sum();
        output::line("")?;
        output::line(&format!("settled {:.1} s after the start", took.as_secs_f64()))?;
        output::line(&format!(
            "look next: sqlite3 {} 'SELECT * FROM settlement_log'",
            self.data.join("attention.db").display()
        ))?;
        if wrong > 0 || audits.is_empty() {
            return Err(Failure::Failed(format!("{wrong} things do not agree: see above")));
        }
        Ok(())
    }
}
