//! Why a batch was not admitted.

use anji_contracts::Reject;
use std::time::Duration;

/// What was full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    /// The pool.
    Pool,
    /// The participant's share of it.
    Participant,
    /// The line of batches that wait for judgement.
    Judging,
}

/// Why a batch was not admitted. Nothing was kept.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MempoolError {
    /// The batch cannot enter the chain as it is; the code is the one the ledger would give. Advice, by this node's clock and state.
    #[error("{0}")]
    Reject(#[from] Reject),
    /// There is no room now.
    #[error("no room for the batch: {}", match what {
        Full::Pool => "the pool is full",
        Full::Participant => "the participant's share of the pool is full",
        Full::Judging => "too many batches are being judged",
    })]
    Full {
        /// What was full.
        what: Full,
        /// Ask again after this long.
        retry_after: Duration,
    },
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}
