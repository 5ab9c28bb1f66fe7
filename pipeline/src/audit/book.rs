//! The tables `roots` and `claims`, read back as facts.
//!
//! Lives here: the queries, and which profile a name in `roots` stands for. May not live here: what
//! follows from the rows (`super` compares them, `crate::merkle::epochs` proves them). Invariant:
//! nothing here writes, and a row that cannot be read is an error, never left out.

use semel_connectors::sinks::look::Look;
use semel_operators::{
    merkle::profile::{self, Profile},
    merkle_root::Settings,
};
use semel_schemas::{
    amount::Amount,
    claim::Claim,
    solana::{Address, Signature},
    time::{Epoch, Slot},
};

use crate::spec::Spec;

/// A pipeline's tables.
#[derive(Clone, Debug)]
pub struct Book {
    look: Look,
    /// What stands before a table's name.
    prefix: String,
    /// The pipeline's own profiles.
    profiles: Vec<Profile>,
}

/// A row of `roots` that Semel wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootRow {
    /// Channel.
    pub channel: String,
    /// Epoch.
    pub epoch: Epoch,
    /// The root, hex digits without `0x`.
    pub root: String,
    /// Number of leaves.
    pub count: u32,
    /// Status, as the table has it.
    pub status: String,
    /// Name of its Merkle profile.
    pub profile: String,
}

/// A row of `claims`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRow {
    /// The claim; its places in block and transaction and its time are not in the table, and 0 here.
    pub claim: Claim,
    /// Its epoch and its place among the leaves; none while its epoch is open.
    pub leaf: Option<(Epoch, u32)>,
}

/// Which claims are asked for. What is none narrows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// The claim's id.
    pub claim_id: Option<String>,
    /// The claimer.
    pub user: Option<Address>,
    /// The channel.
    pub channel: Option<String>,
    /// The epoch.
    pub epoch: Option<Epoch>,
}

/// The profiles that the operators `merkle` of a spec are set to.
#[must_use]
pub fn profiles(spec: &Spec) -> Vec<Profile> {
    let operators = spec.stage.iter().flat_map(|stage| &stage.operators);
    let settings = operators.map(toml::Spanned::get_ref).filter_map(|table| {
        let mut table = table.clone();
        let name = table.remove("use")?;
        // A spec that was checked has no settings that cannot be read.
        (name.as_str() == Some("merkle")).then(|| table.try_into::<Settings>().ok()).flatten()
    });
    settings.map(|settings| settings.profile).collect()
}

impl Book {
    /// The tables in this database and namespace, and the profiles that are the pipeline's own.
    #[must_use]
    pub fn new(look: Look, schema: &str, profiles: Vec<Profile>) -> Self {
        let prefix = match look {
            Look::Postgres(_) => format!("\"{}\".", schema.replace('"', "\"\"")),
            Look::Sqlite(_) => String::new(),
        };
        Self { look, prefix, profiles }
    }

    /// The profile of this name: the pipeline's own, or one that ships.
    ///
    /// # Errors
    /// A sentence, if there is none.
    pub fn profile(&self, name: &str) -> Result<Profile, String> {
        let own = self.profiles.iter().find(|profile| profile.name == name);
        own.cloned().map_or_else(|| profile::by_name(name), Ok)
    }

    /// The rows of `roots` that Semel wrote, by epoch and channel.
    ///
    /// # Errors
    /// One sentence if the database cannot be read, or holds what Semel never writes.
    pub async fn roots(&self, which: &Which) -> Result<Vec<RootRow>, String> {
        let sql = format!(
            "SELECT CAST(channel AS TEXT), CAST(epoch AS TEXT), CAST(root AS TEXT), \
             CAST(count AS TEXT), CAST(status AS TEXT), CAST(profile AS TEXT) \
             FROM {}roots AS r WHERE semel_id IS NOT NULL{} ORDER BY r.epoch, r.channel",
            self.prefix,
            place(which)
        );
        let mut roots = Vec::new();
        for row in self.look.rows(&sql).await.map_err(|e| e.to_string())? {
            let [channel, epoch, root, count, status, profile] = texts(row)?;
            roots.push(RootRow {
                channel,
                epoch: Epoch(number(&epoch)?),
                root: root.trim_start_matches("0x").to_owned(),
                count: number(&count)?,
                status,
                profile,
            });
        }
        Ok(roots)
    }

    /// The included claims of a channel and epoch, each with its place, in leaf order.
    ///
    /// # Errors
    /// As [`Book::roots`].
    pub async fn leaves(&self, channel: &str, epoch: Epoch) -> Result<Vec<(u32, Claim)>, String> {
        let which =
            Which { channel: Some(channel.to_owned()), epoch: Some(epoch), ..Which::default() };
        let rows = self.rows(&format!("status <> 'pending'{}", place(&which))).await?;
        let leaf = |row: ClaimRow| match row.leaf {
            Some((_, index)) => Ok((index, row.claim)),
            None => Err(format!(
                "claim {} is of an epoch that is closed, and has no `leaf_index`",
                row.claim.claim_id
            )),
        };
        rows.into_iter().map(leaf).collect()
    }

    /// The claims that are asked for, by epoch, channel and place.
    ///
    /// # Errors
    /// As [`Book::roots`].
    pub async fn claims(&self, which: &Which) -> Result<Vec<ClaimRow>, String> {
        let mut condition = format!("semel_id IS NOT NULL{}", place(which));
        if let Some(id) = &which.claim_id {
            condition.push_str(&format!(" AND claim_id = {}", quoted(id)));
        }
        if let Some(user) = &which.user {
            condition.push_str(&format!(" AND user_pubkey = {}", quoted(&user.to_string())));
        }
        self.rows(&condition).await
    }

    async fn rows(&self, condition: &str) -> Result<Vec<ClaimRow>, String> {
        let sql = format!(
            "SELECT CAST(leaf_index AS TEXT), CAST(claim_id AS TEXT), CAST(user_pubkey AS TEXT), \
             CAST(amount AS TEXT), CAST(slot AS TEXT), CAST(tx_signature AS TEXT), \
             CAST(leaf_id AS TEXT), CAST(channel AS TEXT), CAST(epoch AS TEXT) \
             FROM {}claims AS c WHERE {condition} ORDER BY c.epoch, c.channel, c.leaf_index",
            self.prefix
        );
        let rows = self.look.rows(&sql).await.map_err(|e| e.to_string())?;
        rows.into_iter().map(claim).collect()
    }
}

fn claim(row: Vec<Option<String>>) -> Result<ClaimRow, String> {
    let [index, claim_id, user, amount, slot, signature, id, channel, epoch] = texts(row)?;
    let amount = amount.split('.').next().unwrap_or_default();
    let wrong = |what: &str, why: &dyn std::fmt::Display| {
        format!("claim {claim_id} has a {what} in table `claims` that Semel never writes: {why}")
    };
    let leaf =
        if index.is_empty() { None } else { Some((Epoch(number(&epoch)?), number(&index)?)) };
    Ok(ClaimRow {
        claim: Claim {
            user: user.parse::<Address>().map_err(|e| wrong("user_pubkey", &e))?,
            amount: amount.parse::<Amount>().map_err(|e| wrong("amount", &e))?,
            slot: Slot(number(&slot)?),
            signature: signature.parse::<Signature>().map_err(|e| wrong("tx_signature", &e))?,
            id,
            claim_id,
            channel,
            tx_index: 0,
            ix_index: 0,
            block_time: 0,
        },
        leaf,
    })
}

/// The conditions on channel and epoch, which both tables have.
fn place(which: &Which) -> String {
    let channel =
        which.channel.as_ref().map(|channel| format!(" AND channel = {}", quoted(channel)));
    let epoch = which.epoch.map(|epoch| format!(" AND epoch = {}", epoch.0));
    format!("{}{}", channel.unwrap_or_default(), epoch.unwrap_or_default())
}

/// A text as SQL has it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn texts<const N: usize>(row: Vec<Option<String>>) -> Result<[String; N], String> {
    let row: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
    row.try_into().map_err(|_| "a row has another number of columns than was asked for".to_owned())
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("the database holds `{text}` where a number belongs"))
}
