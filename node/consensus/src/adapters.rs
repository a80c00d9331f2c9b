//! The real neighbours behind the traits of [`crate::ports`].

use crate::error::PortError;
use crate::ports::{Batch, Blocks, Body, CandidateLimits, Execution, Keys, Pool, StoredBody};
use anji_contracts::types::{Hash32, KeyId, ParticipantId};
use anji_contracts::{DecodedBatch, Reject};
use anji_execution::{DecidedBlock, ExecutionError, ExecutionHandle, RegistrySnapshot};
use anji_mempool::{Mempool, PoolBatch};
use anji_storage::{AppendError, Block, BlockFile, ReadError};
use anji_verify::{CommitCertificate, Header, LogRoot};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;

impl From<AppendError> for PortError {
    fn from(error: AppendError) -> Self {
        let broken = matches!(error, AppendError::Conflict { .. });
        Self { what: error.to_string(), broken }
    }
}

impl From<ReadError> for PortError {
    fn from(error: ReadError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<&ExecutionError> for PortError {
    fn from(error: &ExecutionError) -> Self {
        Self { what: error.to_string(), broken: error.is_broken() }
    }
}

impl From<ExecutionError> for PortError {
    fn from(error: ExecutionError) -> Self {
        Self::from(&error)
    }
}

impl Blocks for BlockFile {
    fn append_proposal(&self, header: &Header, batches: &[Bytes]) -> Result<bool, PortError> {
        match Self::append_proposal(self, header, batches) {
            Ok(_) => Ok(true),
            // A block that was judged before fits the file in everything but its height: that was decided meanwhile.
            Err(AppendError::Refused { height, what }) => {
                tracing::debug!(height, what, "the block file does not take this proposal any more");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn append_decision(&self, certificate: &CommitCertificate) -> Result<(), PortError> {
        Ok(Self::append_decision(self, certificate)?)
    }

    fn append_decided(
        &self,
        header: &Header,
        batches: &[Bytes],
        certificate: &CommitCertificate,
    ) -> Result<(), PortError> {
        Ok(Self::append_decided(self, header, batches, certificate)?)
    }

    fn decided_height(&self) -> u64 {
        Self::decided_height(self)
    }

    fn first_height(&self) -> u64 {
        Self::first_height(self)
    }

    fn load_decision(&self, height: u64) -> Result<Option<(Header, CommitCertificate)>, PortError> {
        Ok(Self::load_decision(self, height)?)
    }

    fn load_block(&self, height: u64) -> Result<Option<(StoredBody, CommitCertificate)>, PortError> {
        let block = Self::load_block(self, height)?;
        Ok(block.map(|Block { header, batches, certificate }| (StoredBody { header, batches }, certificate)))
    }

    fn load_proposal(&self, value: &Hash32) -> Result<Option<StoredBody>, PortError> {
        let proposal = Self::load_proposal(self, value)?;
        Ok(proposal.map(|it| StoredBody { header: it.header, batches: it.batches }))
    }

    fn undecided(&self) -> Vec<Hash32> {
        Self::undecided(self).into_iter().map(|(_, _, value)| value).collect()
    }
}

impl Keys for RegistrySnapshot {
    fn check_key(&self, participant: ParticipantId, key_id: KeyId, time_ms: u64) -> Result<(), Reject> {
        self.key(participant, key_id, time_ms).map(drop)
    }

    fn check_signature(&self, batch: &DecodedBatch, time_ms: u64) -> Result<(), Reject> {
        Self::check_signature(self, batch, time_ms).map(drop)
    }

    fn rules(&self) -> u32 {
        self.params.rules
    }
}

#[async_trait]
impl Execution for ExecutionHandle {
    async fn submit(&self, body: &Body, certificate: &CommitCertificate) -> Result<(), PortError> {
        let block = Block {
            header: (*body.header).clone(),
            batches: body.batches.iter().map(|batch| batch.bytes.clone()).collect(),
            certificate: certificate.clone(),
        };
        let checked = body.batches.iter().map(|batch| Some(Arc::clone(&batch.checked))).collect();
        Ok(Self::submit(self, DecidedBlock { block, checked }).await?)
    }

    fn executed_height(&self) -> u64 {
        self.executed().height
    }

    fn has_backlog(&self) -> bool {
        self.executed().has_backlog
    }

    async fn wait_executed(&self, height: u64) -> Result<(), PortError> {
        Ok(self.executed_up_to(height).await?)
    }

    fn root_after(&self, height: u64) -> Option<LogRoot> {
        self.try_root_after(height)
    }

    fn keys_after(&self, height: u64) -> Option<Arc<dyn Keys>> {
        self.try_registry_after(height).map(|snapshot| snapshot as Arc<dyn Keys>)
    }

    fn recent_batches(&self, since_ms: u64) -> Result<Vec<(u64, u64, Hash32)>, PortError> {
        let mut batches = self.reader().recent_batches(since_ms)?;
        batches.reverse();
        Ok(batches.into_iter().map(|it| (it.height, it.time_ms, it.batch_hash)).collect())
    }

    async fn stopped(&self) -> PortError {
        match Self::stopped(self).await {
            Some(error) => PortError::from(&*error),
            // A clean stop: the node is ending.
            None => std::future::pending().await,
        }
    }
}

fn batch(PoolBatch { bytes, checked }: PoolBatch) -> Batch {
    Batch { bytes, checked }
}

#[async_trait]
impl Pool for Mempool {
    fn get(&self, hash: &Hash32) -> Option<Batch> {
        Self::get(self, hash).map(batch)
    }

    fn candidate(&self, limits: &CandidateLimits) -> Vec<Batch> {
        let CandidateLimits { batches, ops, bytes, time_ms } = *limits;
        let limits = anji_mempool::CandidateLimits { batches, ops, bytes, time_ms };
        Self::candidate(self, &limits).into_iter().map(batch).collect()
    }

    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }

    async fn wait_nonempty(&self) {
        Self::wait_nonempty(self).await;
    }

    fn mark_included(&self, height: u64, time_ms: u64, hashes: &[Hash32]) {
        Self::mark_included(self, height, time_ms, hashes);
    }

    fn mark_executed(&self, height: u64) {
        Self::mark_executed(self, height);
    }

    fn offer(&self, batch: &Batch) {
        Self::offer(self, PoolBatch { bytes: batch.bytes.clone(), checked: Arc::clone(&batch.checked) });
    }
}
