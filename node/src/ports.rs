//! What consensus and mempool need of their neighbours, made from the crates that provide it. Conversions and nothing else.

use anji_consensus::error::PortError;
use anji_consensus::ports::{Batch, Blocks, Body, CandidateLimits, Execution, Keys, Pool, StoredBody};
use anji_contracts::types::{Hash32, KeyId, ParticipantId};
use anji_contracts::{DecodedBatch, Reject};
use anji_execution::{DecidedBlock, ExecutionHandle, RegistrySnapshot};
use anji_mempool::{Mempool, PoolBatch, Registry};
use anji_storage::error::AppendError;
use anji_storage::{Block, BlockFile};
use anji_verify::{CommitCertificate, Header, LogRoot};
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt::Display;
use std::sync::Arc;

fn port_error(error: impl Display) -> PortError {
    PortError(error.to_string())
}

/// The block file, for consensus.
pub(crate) struct NodeBlocks(pub(crate) BlockFile);

impl Blocks for NodeBlocks {
    fn append_proposal(&self, header: &Header, batches: &[Bytes]) -> Result<bool, PortError> {
        match self.0.append_proposal(header, batches) {
            Ok(_) => Ok(true),
            // Its height was decided meanwhile: there is nothing to vote for any more.
            Err(AppendError::Refused { .. }) if header.height <= self.0.decided_height() => Ok(false),
            Err(error) => Err(port_error(error)),
        }
    }

    fn append_decision(&self, certificate: &CommitCertificate) -> Result<(), PortError> {
        self.0.append_decision(certificate).map_err(port_error)
    }

    fn decided_height(&self) -> u64 {
        self.0.decided_height()
    }

    fn first_height(&self) -> u64 {
        self.0.first_height()
    }

    fn load_decision(&self, height: u64) -> Result<Option<(Header, CommitCertificate)>, PortError> {
        self.0.load_decision(height).map_err(port_error)
    }

    fn load_block(&self, height: u64) -> Result<Option<(StoredBody, CommitCertificate)>, PortError> {
        let block = self.0.load_block(height).map_err(port_error)?;
        Ok(block.map(|Block { header, batches, certificate }| (StoredBody { header, batches }, certificate)))
    }

    fn load_proposal(&self, value: &Hash32) -> Result<Option<StoredBody>, PortError> {
        let proposal = self.0.load_proposal(value).map_err(port_error)?;
        Ok(proposal.map(|it| StoredBody { header: it.header, batches: it.batches }))
    }

    fn undecided(&self) -> Vec<Hash32> {
        self.0.undecided().into_iter().map(|(_, _, value)| value).collect()
    }
}

/// Execution, for consensus (roots, keys) and for the mempool (signatures).
#[derive(Clone)]
pub(crate) struct NodeExecution(pub(crate) ExecutionHandle);

struct NodeKeys(Arc<RegistrySnapshot>);

impl Keys for NodeKeys {
    fn check_key(&self, participant: ParticipantId, key_id: KeyId, time_ms: u64) -> Result<(), Reject> {
        self.0.key(participant, key_id, time_ms).map(drop)
    }

    fn check_signature(&self, batch: &DecodedBatch, time_ms: u64) -> Result<(), Reject> {
        self.0.check_signature(batch, time_ms).map(drop)
    }

    fn rules(&self) -> u32 {
        self.0.params.rules
    }
}

#[async_trait]
impl Execution for NodeExecution {
    async fn submit(&self, body: &Body, certificate: &CommitCertificate) -> Result<(), PortError> {
        let batches = body.batches.iter().map(|it| it.bytes.clone()).collect();
        let checked = body.batches.iter().map(|it| Some(it.checked.clone())).collect();
        let block = Block { header: (*body.header).clone(), batches, certificate: certificate.clone() };
        self.0.submit(DecidedBlock { block, checked }).await.map_err(port_error)
    }

    fn executed_height(&self) -> u64 {
        self.0.executed().height
    }

    async fn wait_executed(&self, height: u64) -> Result<(), PortError> {
        self.0.executed_up_to(height).await.map_err(port_error)
    }

    fn root_after(&self, height: u64) -> Option<LogRoot> {
        self.0.try_root_after(height)
    }

    fn keys_after(&self, height: u64) -> Option<Arc<dyn Keys>> {
        self.0.try_registry_after(height).map(|it| Arc::new(NodeKeys(it)) as Arc<dyn Keys>)
    }

    fn recent_batches(&self, since_ms: u64) -> Result<Vec<(u64, u64, Hash32)>, PortError> {
        let newest_first = self.0.reader().recent_batches(since_ms).map_err(port_error)?;
        Ok(newest_first.into_iter().rev().map(|it| (it.height, it.time_ms, it.batch_hash)).collect())
    }

    async fn stopped(&self) -> PortError {
        match self.0.stopped().await {
            Some(error) => port_error(error),
            // A clean stop is the node's own doing.
            None => std::future::pending().await,
        }
    }
}

impl Registry for NodeExecution {
    fn check_signature(&self, batch: &DecodedBatch, time_ms: u64) -> Result<(), Reject> {
        self.0.registry().check_signature(batch, time_ms).map(drop)
    }
}

/// The mempool, for consensus.
pub(crate) struct NodePool(pub(crate) Mempool);

fn batch(PoolBatch { bytes, checked }: PoolBatch) -> Batch {
    Batch { bytes, checked }
}

#[async_trait]
impl Pool for NodePool {
    fn get(&self, hash: &Hash32) -> Option<Batch> {
        self.0.get(hash).map(batch)
    }

    fn candidate(&self, limits: &CandidateLimits) -> Vec<Batch> {
        let CandidateLimits { batches, ops, bytes, time_ms } = *limits;
        let limits = anji_mempool::CandidateLimits { batches, ops, bytes, time_ms };
        self.0.candidate(&limits).into_iter().map(batch).collect()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    async fn wait_nonempty(&self) {
        self.0.wait_nonempty().await;
    }

    fn mark_included(&self, height: u64, time_ms: u64, hashes: &[Hash32]) {
        self.0.mark_included(height, time_ms, hashes);
    }

    fn mark_executed(&self, height: u64) {
        self.0.mark_executed(height);
    }

    fn offer(&self, batch: &Batch) {
        self.0.offer(PoolBatch { bytes: batch.bytes.clone(), checked: batch.checked.clone() });
    }
}
