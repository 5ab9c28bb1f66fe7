//! Effects on a chain → facts about it: accounts, what a transaction needs, sending, statuses.
//!
//! May not live here: judgements. An error of the node is [`Outcome::Uncertain`], whatever it
//! says; a refusal at preflight is [`Outcome::Rejected`], which judges nothing either.

use semel_schemas::{
    effect::{Commitment, Outcome},
    solana::{Address, Base64, Signature},
    time::Slot,
};

use super::node::{NodeError, SendAnswer, SolanaNode};

/// Reads one account.
pub async fn account(
    node: &dyn SolanaNode,
    address: &Address,
    commitment: Commitment,
    min_context_slot: Option<Slot>,
) -> Outcome {
    outcome(node.account(address, commitment, min_context_slot).await.map(|account| {
        Outcome::Account { context_slot: account.context_slot, data: account.data.map(Base64) }
    }))
}

/// What is needed to build a transaction. The blockhash is taken at `confirmed`: it lives longer
/// than a finalized one by the depth of finality, and preflight looks at the same commitment.
pub async fn prepare(
    node: &dyn SolanaNode,
    message: &Base64,
    writable: &[Address],
    fee_percentile: u8,
) -> Outcome {
    let prepared = async {
        let latest = node.latest_blockhash(Commitment::Confirmed).await?;
        let simulated = node.simulate(&message.0).await?;
        let fees = node.recent_fees(writable).await?;
        Ok(Outcome::Prepared {
            blockhash: latest.blockhash,
            last_valid_block_height: latest.last_valid_block_height,
            simulated,
            unit_price: percentile(fees, fee_percentile),
        })
    };
    outcome(prepared.await)
}

/// Sends signed bytes.
pub async fn broadcast(node: &dyn SolanaNode, transaction: &Base64) -> Outcome {
    outcome(node.send(&transaction.0).await.map(|answer| match answer {
        SendAnswer::Taken => Outcome::Sent,
        SendAnswer::Rejected(text) => Outcome::Rejected { text },
    }))
}

/// What has become of a transaction.
pub async fn status(
    node: &dyn SolanaNode,
    signature: &Signature,
    min_context_slot: Option<Slot>,
) -> Outcome {
    outcome(node.status(signature, min_context_slot).await.map(|at| Outcome::Status {
        context_slot: at.context_slot,
        finalized_height: at.finalized_height,
        found: at.found,
    }))
}

fn outcome(answer: Result<Outcome, NodeError>) -> Outcome {
    answer.unwrap_or_else(|error| Outcome::Uncertain { text: error.to_string() })
}

/// Nearest-rank percentile: the least fee that at least `percent` of the fees do not exceed; 0
/// if there is no fee. Above 100 counts as 100.
fn percentile(mut fees: Vec<u64>, percent: u8) -> u64 {
    fees.sort_unstable();
    let rank = (fees.len() * usize::from(percent.min(100))).div_ceil(100);
    fees.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        for (fees, percent, want) in [
            (vec![], 50, 0),
            (vec![7], 0, 7),
            (vec![7], 100, 7),
            (vec![30, 10, 20], 0, 10),
            (vec![30, 10, 20], 33, 10),
            (vec![30, 10, 20], 34, 20),
            (vec![30, 10, 20], 50, 20),
            (vec![30, 10, 20], 67, 30),
            (vec![30, 10, 20], 100, 30),
            (vec![30, 10, 20], 255, 30),
        ] {
            assert_eq!(percentile(fees.clone(), percent), want, "{fees:?} at {percent}");
        }
    }
}
