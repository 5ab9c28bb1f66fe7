//! The named connections of a process, and which of them performs an effect.
//!
//! Holds no state but the connections. A name that is not there is [`Outcome::Uncertain`]: the
//! effect may have been recorded under another set of settings, and waits for the right one.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use semel_schemas::{
    effect::{Effect, Outcome, Payload},
    solana::Address,
};

use crate::{
    files::RecordFile,
    perform::Performer,
    signer::Signer,
    solana::{
        chain,
        node::SolanaNode,
        source::{self, Fetch, Pace},
    },
};

/// Chains, signers and files by name.
#[derive(Clone, Default)]
pub struct Connectors {
    /// Chain connections.
    pub chains: BTreeMap<String, Arc<dyn SolanaNode>>,
    /// Signers.
    pub signers: BTreeMap<String, Arc<dyn Signer>>,
    /// Files of records.
    pub files: BTreeMap<String, Arc<dyn RecordFile>>,
    /// How the sources go about their work.
    pub pace: Pace,
}

impl fmt::Debug for Connectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connectors")
            .field("chains", &self.chains.keys())
            .field("signers", &self.signers.keys())
            .field("files", &self.files.keys())
            .field("pace", &self.pace)
            .finish()
    }
}

impl Connectors {
    fn chain(&self, name: &str) -> Result<&dyn SolanaNode, String> {
        known("chain", &self.chains, name)
    }

    async fn sign(&self, name: &str, key: &Address, payload: &Payload) -> Result<Outcome, String> {
        let signer = known::<dyn Signer>("signer", &self.signers, name)?;
        match signer.sign(key, payload).await {
            Ok(signature) => Ok(Outcome::Signed { signature }),
            Err(error) => Err(format!("signer `{name}`: {error}")),
        }
    }

    /// Performs it; or why nothing is known.
    async fn dispatch(&self, effect: &Effect) -> Result<Outcome, String> {
        Ok(match effect {
            Effect::FetchSolana { chain, cursor, from_slot, max_blocks, program } => {
                let fetch = Fetch {
                    cursor: *cursor,
                    from_slot: *from_slot,
                    max_blocks: *max_blocks,
                    program,
                };
                source::fetch(self.chain(chain)?, fetch, self.pace).await
            }
            Effect::SolanaAccount { chain, address, commitment, min_context_slot } => {
                chain::account(self.chain(chain)?, address, *commitment, *min_context_slot).await
            }
            Effect::SolanaPrepare { chain, message, writable, fee_percentile } => {
                chain::prepare(self.chain(chain)?, message, writable, *fee_percentile).await
            }
            Effect::Sign { signer, public_key, payload } => {
                self.sign(signer, public_key, payload).await?
            }
            Effect::SolanaBroadcast { chain, transaction } => {
                chain::broadcast(self.chain(chain)?, transaction).await
            }
            Effect::SolanaStatus { chain, signature, min_context_slot } => {
                chain::status(self.chain(chain)?, signature, *min_context_slot).await
            }
            Effect::ReadFile { file, cursor, max_records, follow } => {
                let file = known::<dyn RecordFile>("file", &self.files, file)?;
                file.read(cursor.clone(), *max_records, *follow).await
            }
        })
    }
}

#[async_trait]
impl Performer for Connectors {
    async fn perform(&self, effect: &Effect) -> Outcome {
        self.dispatch(effect).await.unwrap_or_else(|text| Outcome::Uncertain { text })
    }
}

/// The connection of that name, or a sentence with the names that there are.
fn known<'a, T: ?Sized>(
    what: &str,
    all: &'a BTreeMap<String, Arc<T>>,
    name: &str,
) -> Result<&'a T, String> {
    all.get(name).map(AsRef::as_ref).ok_or_else(|| {
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        format!("there is no {what} `{name}` in this process's settings; known: {names}")
    })
}

#[cfg(test)]
mod tests;
