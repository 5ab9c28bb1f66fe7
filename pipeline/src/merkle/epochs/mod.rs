//! The trees of closed epochs: built once from the rows of `claims`, sealed, and read from then on.
//!
//! Lives here: which file is whose, and what must agree before a proof is handed to a claimer. May
//! not live here: the files' format (`semel_operators::merkle::sealed`), the tables
//! (`crate::audit::book`).
//!
//! Invariants: levels are sealed only if they have the root and count that table `roots` holds; a
//! file is named by that root and count, so that it is never stale and never written twice; a proof
//! is handed out only if the claim's own row is the leaf and the proof leads to the published root.
//! Nothing here touches the data folder's database: it works beside a running pipeline, and after.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use semel_operators::{
    merkle::{
        explain::Record,
        hash::Hash,
        leaf::text::unhex_hash,
        profile::Profile,
        proof::{Proof, Published},
        tree::Tree,
    },
    merkle_root::leaf::ClaimLeaf,
};
use semel_schemas::time::Epoch;

use super::sealed::{self, Levels};
use crate::audit::book::{Book, ClaimRow, RootRow, Which};

/// The folder of sealed levels within a data folder.
pub const FOLDER: &str = "levels";

/// The sealed levels of a pipeline's roots.
#[derive(Debug)]
pub struct Epochs {
    book: Book,
    folder: PathBuf,
}

/// What came of sealing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sealing {
    /// The levels were built from `claims` and written.
    Written,
    /// They were there.
    Found,
}

/// A claim's proof, and what it proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimProof {
    /// The claim's id.
    pub claim_id: String,
    /// Its channel.
    pub channel: String,
    /// Its epoch.
    pub epoch: Epoch,
    /// The profile.
    pub profile: Profile,
    /// The root and its number of leaves.
    pub published: Published,
    /// The leaf's hash.
    pub leaf: Hash,
    /// The proof.
    pub proof: Proof,
    /// The leaf's data: the profile's fields, as text.
    pub record: Record,
}

/// Sealed levels that are open, with what a claim's leaf is made by.
struct Open {
    levels: Levels,
    leaf: ClaimLeaf,
    published: Published,
}

impl Epochs {
    /// Those of the roots in `book`, kept in `folder`, which is made when something is sealed.
    #[must_use]
    pub fn new(book: Book, folder: &Path) -> Self {
        Self { book, folder: folder.to_owned() }
    }

    /// The roots that are asked for.
    ///
    /// # Errors
    /// One sentence if the database cannot be read.
    pub async fn roots(&self, which: &Which) -> Result<Vec<RootRow>, String> {
        self.book.roots(which).await
    }

    /// Where the levels of a root are, or will be.
    ///
    /// # Errors
    /// One sentence if the row's root is no root.
    pub fn path(&self, root: &RootRow) -> Result<PathBuf, String> {
        let published = published(root)?;
        Ok(self.folder.join(format!("{}-{}.levels", hex::encode(published.root), published.count)))
    }

    /// Seals the levels of a root, unless they are.
    ///
    /// # Errors
    /// One sentence: the database cannot be read, its rows have another root than the one that was
    /// published, or the file cannot be written.
    pub async fn seal(&self, root: &RootRow) -> Result<Sealing, String> {
        let path = self.path(root)?;
        if path.exists() {
            return Ok(Sealing::Found);
        }
        let claims = self.book.leaves(&root.channel, root.epoch).await?;
        let leaf = ClaimLeaf::new(self.book.profile(&root.profile)?)?;
        let leaves = claims.iter().map(|(index, claim)| leaf.leaf(claim, root.epoch, *index));
        let leaves: Vec<Hash> = leaves.collect::<Result<_, _>>().map_err(|why| why.to_string())?;
        let tree = Tree::build(&leaf.profile().rules(), leaves);
        let tree = tree.map_err(|why| of(root, &why))?;
        if tree.published() != Ok(published(root)?) {
            return Err(of(
                root,
                &"the rows of `claims` have another root than the one in `roots`, so nothing was \
                  sealed: `semel audit roots` tells what differs",
            ));
        }
        fs::create_dir_all(&self.folder)
            .map_err(|why| format!("{} cannot be made: {why}", self.folder.display()))?;
        match sealed::write(&path, leaf.profile(), &tree) {
            // Another process was faster, and what it sealed has this very root.
            Err(_) if path.exists() => Ok(Sealing::Found),
            written => written.map(|()| Sealing::Written),
        }
    }

    /// The proofs of the claims that are asked for, read from sealed levels; those of roots that are
    /// not sealed yet are sealed first.
    ///
    /// # Errors
    /// One sentence: no such claim, its epoch is open, its row is not the leaf that the root is of,
    /// or whatever [`Epochs::seal`] says.
    pub async fn proofs(&self, which: &Which) -> Result<Vec<ClaimProof>, String> {
        let rows = self.book.claims(which).await?;
        if rows.is_empty() {
            return Err("table `claims` has no such claim: it was never admitted, was retracted, \
                        or its row is not written yet"
                .to_owned());
        }
        let mut open: BTreeMap<(String, Epoch), Open> = BTreeMap::new();
        let mut proofs = Vec::new();
        for row in &rows {
            // Whoever asks by a name gets what is there; whoever asks for one claim gets the reason.
            let Some((epoch, index)) = row.leaf else {
                if which.claim_id.is_none() && rows.iter().any(|row| row.leaf.is_some()) {
                    continue;
                }
                return Err(format!(
                    "claim {} is pending: it is proved once its epoch is closed and rooted",
                    row.claim.claim_id
                ));
            };
            let key = (row.claim.channel.clone(), epoch);
            let tree = match open.entry(key) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(self.open(&row.claim.channel, epoch).await?)
                }
            };
            proofs.push(tree.prove(row, epoch, index)?);
        }
        Ok(proofs)
    }

    async fn open(&self, channel: &str, epoch: Epoch) -> Result<Open, String> {
        let which =
            Which { channel: Some(channel.to_owned()), epoch: Some(epoch), ..Which::default() };
        let root = self.book.roots(&which).await?.into_iter().next().ok_or_else(|| {
            format!("table `roots` has no root of channel {channel}, epoch {}, yet", epoch.0)
        })?;
        self.seal(&root).await?;
        let levels = Levels::open(&self.path(&root)?)?;
        let leaf = ClaimLeaf::new(self.book.profile(&root.profile)?)?;
        Ok(Open { levels, leaf, published: published(&root)? })
    }
}

impl Open {
    fn prove(&self, row: &ClaimRow, epoch: Epoch, index: u32) -> Result<ClaimProof, String> {
        let (claim, profile) = (&row.claim, self.leaf.profile());
        let tree = self.levels.tree(profile)?;
        let wrong = |why: &dyn std::fmt::Display| {
            format!("claim {}, sealed in {}: {why}", claim.claim_id, self.levels.path().display())
        };
        if tree.published() != self.published {
            return Err(wrong(&"the file bears another name than its root: delete it"));
        }
        let leaf = self.leaf.leaf(claim, epoch, index).map_err(|why| wrong(&why))?;
        let proof = tree.proof(index as usize).map_err(|why| wrong(&why))?;
        if tree.leaf(index as usize).map_err(|why| wrong(&why))? != leaf {
            return Err(wrong(
                &"its row in `claims` is not the leaf that the root is of: `semel audit roots` \
                  tells whether rows were changed; if they agree, delete the file",
            ));
        }
        let values = self.leaf.row(claim, epoch, index);
        let shown =
            profile.asked().zip(&values).map(|(field, v)| (field.name.clone(), field.show(v)));
        Ok(ClaimProof {
            claim_id: claim.claim_id.clone(),
            channel: claim.channel.clone(),
            epoch,
            profile: profile.clone(),
            published: self.published,
            leaf,
            proof,
            record: shown.collect(),
        })
    }
}

fn published(root: &RootRow) -> Result<Published, String> {
    let hash = unhex_hash(&root.root).map_err(|why| of(root, &format_args!("`root`: {why}")))?;
    Ok(Published { root: hash, count: root.count as usize })
}

fn of(root: &RootRow, why: &dyn std::fmt::Display) -> String {
    format!("the root of channel {}, epoch {}: {why}", root.channel, root.epoch.0)
}

#[cfg(test)]
mod tests;
