//! What the mempool needs of execution: the keys of now.

use anji_contracts::{DecodedBatch, Reject};
use anji_execution::ExecutionHandle;
use anji_mempool::Registry;

/// Participants and keys after the last executed block.
pub(crate) struct LatestKeys(pub(crate) ExecutionHandle);

impl Registry for LatestKeys {
    fn check_signature(&self, batch: &DecodedBatch, time_ms: u64) -> Result<(), Reject> {
        self.0.registry().check_signature(batch, time_ms).map(drop)
    }
}
