//! Claims that the shipped sinks wrote, proved from sealed levels: on SQLite, and on PostgreSQL.

use semel_connectors::{
    sink::{SinkBatch, Written},
    sinks::{connect, look::Look, mapping::SinkSpec},
};
use semel_operators::merkle::{profile::by_name, proof::verify};
use semel_schemas::{
    amount::Amount,
    claim::{self, Claim, ClaimState, ClaimStatus, RootRecord, RootStatus},
    header::{self, Headers},
    record::Record as Sent,
    solana::{Address, Signature},
    time::{Slot, WallTime},
    topic::{NextOffset, Offset, Partition, TopicId, TopicName},
};

use super::*;
use crate::{audit::book::profiles, spec::parse};

const SPEC: &str = include_str!("../../../../deploy/specs/attention-oracle.toml");

/// A database of one test.
struct Db {
    url: String,
    schema: String,
    folder: tempfile::TempDir,
}

impl Db {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("rows.db").display());
        Self { url, schema: "public".to_owned(), folder }
    }

    fn postgres(name: &str) -> Self {
        let url = std::env::var("SEMEL_TEST_POSTGRES").unwrap_or_else(|_| {
            panic!("set SEMEL_TEST_POSTGRES to the URL that `deploy/postgres start DIR` prints")
        });
        let schema = format!("t{}_{name}", std::process::id());
        Self { url, schema, folder: tempfile::tempdir().unwrap() }
    }

    async fn book(&self, own: Vec<Profile>) -> Book {
        Book::new(Look::open(&self.url).await.unwrap(), &self.schema, own)
    }

    async fn epochs(&self) -> Epochs {
        Epochs::new(self.book(vec![own()]).await, &self.folder.path().join(FOLDER))
    }

    /// Runs a statement on a table of this database.
    async fn change(&self, table: &str, rest: &str) {
        let change = |prefix: String| sqlx::AssertSqlSafe(format!("UPDATE {prefix}{table} {rest}"));
        match Look::open(&self.url).await.unwrap() {
            Look::Postgres(pool) => {
                let sql = change(format!("\"{}\".", self.schema));
                assert_eq!(sqlx::query(sql).execute(&pool).await.unwrap().rows_affected(), 1);
            }
            Look::Sqlite(pool) => {
                let sql = change(String::new());
                assert_eq!(sqlx::query(sql).execute(&pool).await.unwrap().rows_affected(), 1);
            }
        }
    }

    /// Writes records through the sink that ships.
    async fn write(&self, name: &str, kind: &str, values: Vec<serde_json::Value>) {
        let topic = TopicName::new("t").unwrap();
        let sink = connect(&self.url, &self.schema, shipped(name)).unwrap();
        sink.prepare().await.unwrap();
        let record = |(value, offset): (serde_json::Value, u64)| {
            let mut headers = Headers::new();
            headers.push(header::TYPE, kind);
            Sent {
                topic: topic.clone(),
                partition: Partition(0),
                offset: Offset(offset),
                timestamp_ms: 1,
                key: Some(b"k".to_vec()),
                value: Some(value.to_string().into_bytes()),
                headers,
            }
        };
        let records: Vec<_> = values.into_iter().zip(0..).map(record).collect();
        let batch = SinkBatch {
            topic: topic.clone(),
            topic_id: TopicId("first".into()),
            partition: Partition(0),
            expected: None,
            next: NextOffset(records.len() as u64),
            records,
            reported: Vec::new(),
        };
        match sink.write(&batch).await.unwrap() {
            Written::Done { refused, .. } => assert!(refused.is_empty(), "{refused:?}"),
            moved => panic!("{moved:?}"),
        }
    }
}

/// The sink of the spec that ships.
fn shipped(name: &str) -> SinkSpec {
    let (_, sinks) = SPEC.split_once("# --- tables").unwrap();
    let spec: toml::Table = toml::from_str(&format!("# {sinks}")).unwrap();
    let sinks = spec["sink"].as_array().unwrap();
    let sink = sinks.iter().find(|sink| sink["name"].as_str() == Some(name)).unwrap();
    SinkSpec {
        name: name.to_owned(),
        topic: TopicName::new("t").unwrap(),
        tables: sink["tables"].clone().try_into().unwrap(),
    }
}

/// A profile that does not ship, whose leaves stand by hash.
fn own() -> Profile {
    Profile { name: "own".to_owned(), ..by_name("saber").unwrap() }
}

/// A name that SQL must not be misled by.
const CHANNEL: &str = "it's";
const COUNT: u32 = 21;

fn given(epoch: u64, index: u32) -> Claim {
    Claim {
        claim_id: format!("{CHANNEL}#{epoch}#{index}"),
        channel: CHANNEL.to_owned(),
        user: Address([u8::try_from(index % 7).unwrap(); 32]),
        id: format!("twitch:{CHANNEL}:{index}"),
        amount: Amount(u64::MAX - u64::from(index)),
        slot: Slot(epoch * 100 + u64::from(index)),
        signature: Signature([u8::try_from(index).unwrap(); 64]),
        tx_index: 0,
        ix_index: 0,
        block_time: 0,
    }
}

/// Two closed epochs by two profiles, and a pending claim.
async fn fill(db: &Db) {
    let mut claims = Vec::new();
    let mut roots = Vec::new();
    for (epoch, profile) in [(3, by_name("ao-claim-v0").unwrap()), (4, own())] {
        let leaf = ClaimLeaf::new(profile.clone()).unwrap();
        let leaves: Vec<_> = (0..COUNT)
            .map(|index| leaf.leaf(&given(epoch, index), Epoch(epoch), index).unwrap())
            .collect();
        let published = Tree::build(&profile.rules(), leaves).unwrap().published().unwrap();
        roots.push(RootRecord {
            root_id: claim::root_id(CHANNEL, Epoch(epoch)),
            channel: CHANNEL.to_owned(),
            epoch: Epoch(epoch),
            root: hex::encode(published.root),
            count: u32::try_from(published.count).unwrap(),
            profile: profile.name,
            finalized_at: WallTime(1_763_424_000_123),
            status: RootStatus::ReadyForSettlement,
        });
        claims.extend((0..COUNT).map(|index| ClaimState {
            claim: given(epoch, index),
            status: ClaimStatus::Included,
            epoch: Epoch(epoch),
            leaf_index: Some(index),
        }));
    }
    claims.push(ClaimState {
        claim: given(5, 0),
        status: ClaimStatus::Pending,
        epoch: Epoch(5),
        leaf_index: None,
    });
    let claims = claims.iter().map(|claim| serde_json::to_value(claim).unwrap()).collect();
    db.write("claims-table", claim::CLAIM_STATE, claims).await;
    let roots = roots.iter().map(|root| serde_json::to_value(root).unwrap()).collect();
    db.write("roots-table", claim::ROOT, roots).await;
}

fn by_id(id: String) -> Which {
    Which { claim_id: Some(id), ..Which::default() }
}

fn files(db: &Db) -> Vec<PathBuf> {
    let Ok(files) = fs::read_dir(db.folder.path().join(FOLDER)) else { return Vec::new() };
    files.map(|file| file.unwrap().path()).collect()
}

/// Every claim is proved against the root in the table, from a file that is written once.
async fn every_claim_is_proved_from_levels_that_are_sealed_once(db: &Db) {
    fill(db).await;
    let epochs = db.epochs().await;
    for (epoch, name) in [(3, "ao-claim-v0"), (4, "own")] {
        for index in 0..COUNT {
            let proofs = epochs.proofs(&by_id(given(epoch, index).claim_id)).await.unwrap();
            let [proof] = &proofs[..] else { panic!("{proofs:?}") };
            let rules = proof.profile.rules();
            assert_eq!(verify(&rules, &proof.published, &proof.leaf, &proof.proof), Ok(()));
            assert_eq!((proof.epoch, proof.profile.name.as_str()), (Epoch(epoch), name));
            assert_eq!(proof.record["amount"], given(epoch, index).amount.0.to_string());
            let again = super::super::row(&proof.profile, &proof.record).unwrap();
            assert_eq!(proof.profile.leaf(&again), Ok(proof.leaf), "the record is the leaf's data");
        }
    }
    assert_eq!(files(db).len(), 2, "one file a root, and no part is left");
    // By the claimer: three claims in each epoch, the pending one is passed over.
    let user = Which { user: Some(given(3, 0).user), ..Which::default() };
    let proofs = epochs.proofs(&user).await.unwrap();
    let found: Vec<_> = proofs.iter().map(|p| (p.epoch.0, p.record["index"].as_str())).collect();
    assert_eq!(found, [(3, "0"), (3, "7"), (3, "14"), (4, "0"), (4, "7"), (4, "14")]);
    let one = Which { epoch: Some(Epoch(4)), channel: Some(CHANNEL.to_owned()), ..user };
    assert_eq!(epochs.proofs(&one).await.unwrap().len(), 3);
    for root in epochs.roots(&Which::default()).await.unwrap() {
        assert_eq!(epochs.seal(&root).await, Ok(Sealing::Found));
    }
}

/// What is served comes from the file: once sealed, other rows than the claim's own are not read.
async fn sealed_levels_serve_without_the_rows_and_rows_that_differ_are_found(db: &Db) {
    fill(db).await;
    let epochs = db.epochs().await;
    for root in epochs.roots(&Which::default()).await.unwrap() {
        assert_eq!(epochs.seal(&root).await, Ok(Sealing::Written));
    }
    let changed = given(3, 5).claim_id.replace('\'', "''");
    db.change("claims", &format!("SET amount = '1' WHERE claim_id = '{changed}'")).await;
    assert!(epochs.proofs(&by_id(given(3, 6).claim_id)).await.is_ok());
    let why = epochs.proofs(&by_id(given(3, 5).claim_id)).await.unwrap_err();
    assert!(why.contains("is not the leaf that the root is of"), "{why}");
    // Not sealed, the same rows have no proof at all.
    fs::remove_dir_all(db.folder.path().join(FOLDER)).unwrap();
    let why = epochs.proofs(&by_id(given(3, 6).claim_id)).await.unwrap_err();
    assert!(why.contains("`semel audit roots` tells what differs"), "{why}");
    assert!(files(db).is_empty(), "nothing was sealed");
    // A root that is none.
    db.change("roots", "SET root = 'zz' WHERE epoch = 4").await;
    let why = epochs.proofs(&by_id(given(4, 0).claim_id)).await.unwrap_err();
    assert!(why.contains("epoch 4: `root`: character 1 is `z`"), "{why}");
}

/// What is not there, is open or is damaged is told in a sentence.
async fn what_cannot_be_proved_is_told(db: &Db) {
    fill(db).await;
    let epochs = db.epochs().await;
    let ask = async |which: &Which| epochs.proofs(which).await.unwrap_err();
    let why = ask(&by_id("nobody".to_owned())).await;
    assert!(why.contains("table `claims` has no such claim"), "{why}");
    let why = ask(&by_id(given(5, 0).claim_id)).await;
    assert!(why.contains("is pending"), "{why}");
    let why = ask(&Which { epoch: Some(Epoch(5)), ..Which::default() }).await;
    assert!(why.contains("is pending"), "{why}");
    let stranger = Epochs::new(db.book(Vec::new()).await, &db.folder.path().join(FOLDER));
    let why = stranger.proofs(&by_id(given(4, 0).claim_id)).await.unwrap_err();
    assert!(why.contains("own"), "a profile that the spec does not define: {why}");
    // One node is changed on the disk.
    assert!(epochs.proofs(&by_id(given(3, 0).claim_id)).await.is_ok());
    let file = files(db).pop().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes[192 + 32] ^= 1;
    fs::write(&file, bytes).unwrap();
    let why = ask(&by_id(given(3, 0).claim_id)).await;
    assert!(why.contains("the levels are damaged near leaf 0"), "{why}");
    assert!(why.contains(&file.display().to_string()), "{why}");
}

macro_rules! on_both {
    ($($case:ident)*) => {
        mod on_sqlite { $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(&super::Db::sqlite()).await;
            }
        )* }
        mod on_postgres { $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                // A schema's name has at most 63 bytes.
                let name = &stringify!($case)[..20];
                super::$case(&super::Db::postgres(name)).await;
            }
        )* }
    };
}
on_both! {
    every_claim_is_proved_from_levels_that_are_sealed_once
    sealed_levels_serve_without_the_rows_and_rows_that_differ_are_found
    what_cannot_be_proved_is_told
}

#[test]
fn a_specs_own_profile_is_found() {
    let spec = SPEC.replace(
        "profile = \"ao-claim-v0\"",
        "profile = { name = \"own\", base = \"saber\", odd = \"duplicate\" }",
    );
    // Those without a default, each of which stands in quotes.
    let needed = [
        "ANCHOR_PROVIDER_URL",
        "AO_MINT",
        "DATABASE_URL",
        "SETTLEMENT_AUTHORITY",
        "SETTLEMENT_KEYPAIR",
    ];
    let lookup = |name: &str| needed.contains(&name).then(|| "x".to_owned());
    let (spec, _) = parse::parse("own.toml", &spec, &lookup).unwrap();
    let found = profiles(&spec);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].name, "own");
}
