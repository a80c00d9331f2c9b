//! What consensus needs of its neighbours, and nothing more: the block file, execution, the mempool. Narrow, so that the tests of this
//! crate run a whole network without a disk and without the ledger rules. The implementations are in `adapters.rs`.

use crate::error::PortError;
use anji_contracts::types::{Hash32, KeyId, ParticipantId};
use anji_contracts::{CheckedBatch, DecodedBatch, Reject};
use anji_verify::{CommitCertificate, Header, LogRoot};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;

/// A batch: its exact bytes and what they say. The signature was verified, or the batch is in a decided block.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The exact bytes.
    pub bytes: Bytes,
    /// What they say.
    pub checked: Arc<CheckedBatch>,
}

/// Header and batches.
#[derive(Clone, Debug)]
pub struct Body {
    /// The header.
    pub header: Arc<Header>,
    /// Its batches, in order.
    pub batches: Arc<[Batch]>,
}

/// Header and the exact bytes of the batches, as archived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredBody {
    /// The header.
    pub header: Header,
    /// The exact bytes of the batches, in order.
    pub batches: Vec<Bytes>,
}

/// The block file. Every call blocks the thread and is made from blocking threads only. Appends are on disk when they return.
pub trait Blocks: Send + Sync + 'static {
    /// Keeps a proposed block. Keeping it twice does nothing. False when its height is decided already.
    ///
    /// # Errors
    /// The node must stop.
    fn append_proposal(&self, header: &Header, batches: &[Bytes]) -> Result<bool, PortError>;
    /// Keeps the certificate of the next height.
    ///
    /// # Errors
    /// The node must stop.
    fn append_decision(&self, certificate: &CommitCertificate) -> Result<(), PortError>;
    /// Keeps body and certificate of the next height with one sync. A height that is decided with the same value stays as it is.
    ///
    /// # Errors
    /// The node must stop.
    fn append_decided(
        &self,
        header: &Header,
        batches: &[Bytes],
        certificate: &CommitCertificate,
    ) -> Result<(), PortError>;
    /// The last decided height; 0 before the first.
    fn decided_height(&self) -> u64;
    /// The lowest height still there.
    fn first_height(&self) -> u64;
    /// Header and certificate of a decided height.
    ///
    /// # Errors
    /// The file cannot be read.
    fn load_decision(&self, height: u64) -> Result<Option<(Header, CommitCertificate)>, PortError>;
    /// A decided block.
    ///
    /// # Errors
    /// The file cannot be read.
    fn load_block(&self, height: u64) -> Result<Option<(StoredBody, CommitCertificate)>, PortError>;
    /// A proposed block that is not decided, or the last decided one.
    ///
    /// # Errors
    /// The file cannot be read.
    fn load_proposal(&self, value: &Hash32) -> Result<Option<StoredBody>, PortError>;
    /// Values of the proposals above the decided height.
    fn undecided(&self) -> Vec<Hash32>;
}

/// Keys and rules as of one height.
pub trait Keys: Send + Sync {
    /// Whether the key may sign at `time_ms`.
    ///
    /// # Errors
    /// [`Reject::UnknownKey`] or [`Reject::KeyNotValid`].
    fn check_key(&self, participant: ParticipantId, key_id: KeyId, time_ms: u64) -> Result<(), Reject>;
    /// Whether the batch is signed by the key it names.
    ///
    /// # Errors
    /// The above, or [`Reject::BadSignature`].
    fn check_signature(&self, batch: &DecodedBatch, time_ms: u64) -> Result<(), Reject>;
    /// The rule book in force.
    fn rules(&self) -> u32;
}

/// Execution: behind consensus by at most two blocks.
#[async_trait]
pub trait Execution: Send + Sync + 'static {
    /// Hands over the next decided block, which is durable; waits while two are queued.
    ///
    /// # Errors
    /// Execution has stopped.
    async fn submit(&self, body: &Body, certificate: &CommitCertificate) -> Result<(), PortError>;
    /// The last executed height.
    fn executed_height(&self) -> u64;
    /// Whether blocks after the last executed one have work even if they are empty.
    fn has_backlog(&self) -> bool;
    /// Waits until a height is executed.
    ///
    /// # Errors
    /// Execution has stopped.
    async fn wait_executed(&self, height: u64) -> Result<(), PortError>;
    /// The log after an executed height among the newest.
    fn root_after(&self, height: u64) -> Option<LogRoot>;
    /// Keys and rules after an executed height among the newest.
    fn keys_after(&self, height: u64) -> Option<Arc<dyn Keys>>;
    /// Batches of all executed blocks whose time is at or after `since_ms`, as (height, time, hash), oldest first. Blocks the thread.
    ///
    /// # Errors
    /// The state cannot be read.
    fn recent_batches(&self, since_ms: u64) -> Result<Vec<(u64, u64, Hash32)>, PortError>;
    /// Resolves when execution has stopped by itself, with the reason.
    async fn stopped(&self) -> PortError;
}

/// How much a candidate may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CandidateLimits {
    /// Batches.
    pub batches: usize,
    /// Operations.
    pub ops: u32,
    /// Bytes.
    pub bytes: usize,
    /// Ledger time of the block: batches that would be expired then are left out.
    pub time_ms: u64,
}

/// The mempool.
#[async_trait]
pub trait Pool: Send + Sync + 'static {
    /// A batch that was admitted, included ones until they are executed.
    fn get(&self, hash: &Hash32) -> Option<Batch>;
    /// Batches for the next block, a fair share of each participant; they stay in the pool.
    fn candidate(&self, limits: &CandidateLimits) -> Vec<Batch>;
    /// Whether a candidate would hold something.
    fn is_empty(&self) -> bool;
    /// Waits until a candidate would hold something.
    async fn wait_nonempty(&self);
    /// These batches are in a decided block of this height and time; also told at start, for those that a block could still repeat.
    fn mark_included(&self, height: u64, time_ms: u64, hashes: &[Hash32]);
    /// The block is executed: its batches need not be kept any more.
    fn mark_executed(&self, height: u64);
    /// A batch that was fetched for a proposal: keep it if there is room.
    fn offer(&self, batch: &Batch);
}
