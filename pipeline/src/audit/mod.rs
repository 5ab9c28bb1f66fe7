//! Audits: whether what the database holds, what was published, and what the chain holds agree.
//!
//! `mod` the audit of roots · [`book`] the tables, read back. Nothing here is used on the way of a
//! record: an audit reads the tables that users read, rebuilds each root from the rows of `claims`
//! alone, and asks the chain.

pub mod book;

use std::collections::BTreeMap;

use book::{Book, Which};
use semel_connectors::solana::{devnet::channel_pda, node::SolanaNode};
use semel_operators::{
    merkle::{profile::Profile, tree::Tree},
    merkle_root::leaf::ClaimLeaf,
};
use semel_schemas::{attention, claim::Claim, effect::Commitment, solana::Address, time::Epoch};

use crate::merkle::second;

/// One root, seen from all sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootAudit {
    /// Channel.
    pub channel: String,
    /// Epoch.
    pub epoch: u64,
    /// Leaves, as the table `roots` says.
    pub count: u32,
    /// Rows of `claims` for this channel and epoch.
    pub rows: u32,
    /// The root in the table `roots`.
    pub stored: String,
    /// The root rebuilt from the rows of `claims`.
    pub rebuilt: String,
    /// The root of the same leaves by `rs_merkle`, which is not ours; none where it cannot express
    /// the profile.
    pub second: Option<String>,
    /// The root in the chain's account at `finalized`, if that epoch is there.
    pub on_chain: Option<String>,
    /// The newer epoch that took the epoch's place in the chain's ring: then the chain can no longer
    /// be asked about this root.
    pub superseded_by: Option<u64>,
    /// The row's status.
    pub status: String,
    /// What does not agree; empty if all is well.
    pub wrong: Vec<String>,
}

/// Audits every row of `roots` in these tables.
///
/// # Errors
/// One sentence if the database or the chain cannot be read.
pub async fn roots(
    book: &Book,
    node: &dyn SolanaNode,
    mint: &Address,
) -> Result<Vec<RootAudit>, String> {
    let mut audits = Vec::new();
    let mut accounts: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
    for row in book.roots(&Which::default()).await? {
        let epoch = row.epoch.0;
        if !accounts.contains_key(&row.channel) {
            let address = channel_pda(mint, &attention::channel_key(&row.channel)).0;
            let account = node
                .account(&Address(address.to_bytes()), Commitment::Finalized, None)
                .await
                .map_err(|e| e.to_string())?;
            accounts.insert(row.channel.clone(), account.data);
        }
        let claims = book.leaves(&row.channel, row.epoch).await?;
        let account = accounts.get(&row.channel).and_then(Option::as_deref);
        let slot = account.and_then(|data| attention::read_ring(data, epoch));
        let (rebuilt, second) = rebuild(book.profile(&row.profile)?, row.epoch, &claims)?;
        let mut audit = RootAudit {
            channel: row.channel,
            epoch,
            count: row.count,
            rows: u32::try_from(claims.len()).unwrap_or(u32::MAX),
            stored: row.root,
            rebuilt,
            second,
            // The ring marks an empty slot with epoch 0, which it therefore never holds.
            on_chain: slot
                .filter(|slot| slot.epoch == epoch && epoch > 0)
                .map(|slot| hex::encode(slot.root)),
            superseded_by: slot.map(|slot| slot.epoch).filter(|newer| *newer > epoch),
            status: row.status,
            wrong: Vec::new(),
        };
        audit.wrong = wrong(&audit, &claims);
        audits.push(audit);
    }
    Ok(audits)
}

fn wrong(audit: &RootAudit, claims: &[(u32, Claim)]) -> Vec<String> {
    let mut wrong = Vec::new();
    if audit.count != audit.rows {
        wrong.push(format!("`roots` counts {} claims, `claims` has {}", audit.count, audit.rows));
    }
    if claims.iter().zip(0_u32..).any(|((index, _), place)| *index != place) {
        wrong.push("leaf indexes have a gap or a double".to_owned());
    }
    if audit.stored != audit.rebuilt {
        wrong.push("the stored root is not the root of the rows".to_owned());
    }
    if audit.second.as_ref().is_some_and(|second| *second != audit.stored) {
        wrong.push("rs_merkle builds another root from the rows".to_owned());
    }
    match &audit.on_chain {
        Some(root) if *root != audit.stored => {
            wrong.push("the chain holds another root".to_owned());
        }
        None if audit.status == "settled" && audit.superseded_by.is_none() => {
            wrong.push("settled, but the chain does not hold it".to_owned());
        }
        _ => {}
    }
    wrong
}

/// The root of the rows, and what `rs_merkle` makes of the same leaves.
fn rebuild(
    profile: Profile,
    epoch: Epoch,
    claims: &[(u32, Claim)],
) -> Result<(String, Option<String>), String> {
    if claims.is_empty() {
        return Ok((String::new(), None));
    }
    let leaf = ClaimLeaf::new(profile)?;
    let leaves: Result<Vec<_>, _> =
        claims.iter().map(|(index, claim)| leaf.leaf(claim, epoch, *index)).collect();
    let leaves = leaves.map_err(|why| why.to_string())?;
    let rules = leaf.profile().rules();
    let second = second::root(&rules, leaves.clone()).ok().map(hex::encode);
    let tree = Tree::build(&rules, leaves).map_err(|why| why.to_string())?;
    Ok((tree.root().map(hex::encode).map_err(|why| why.to_string())?, second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_agree_is_named() {
        let good = RootAudit {
            channel: "c".into(),
            epoch: 3,
            count: 0,
            rows: 0,
            stored: "aa".into(),
            rebuilt: "aa".into(),
            second: Some("aa".into()),
            on_chain: Some("aa".into()),
            superseded_by: None,
            status: "settled".into(),
            wrong: Vec::new(),
        };
        let away = RootAudit { on_chain: None, ..good.clone() };
        for (audit, part) in [
            (good.clone(), None),
            (RootAudit { superseded_by: Some(12), ..away.clone() }, None),
            (RootAudit { status: "ready_for_settlement".into(), ..away.clone() }, None),
            (away, Some("does not hold it")),
            (RootAudit { rows: 1, ..good.clone() }, Some("counts 0 claims")),
            (RootAudit { rebuilt: "bb".into(), ..good.clone() }, Some("root of the rows")),
            (RootAudit { second: None, ..good.clone() }, None),
            (RootAudit { second: Some("bb".into()), ..good.clone() }, Some("rs_merkle")),
            (RootAudit { on_chain: Some("bb".into()), ..good }, Some("another root")),
        ] {
            let found = wrong(&audit, &[]).join("; ");
            assert_eq!(part.is_some(), !found.is_empty(), "{found}");
            assert!(found.contains(part.unwrap_or_default()), "{found}");
        }
    }
}
