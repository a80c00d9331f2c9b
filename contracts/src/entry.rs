//! What the log holds: entries, and the receipts they commit to. Every change of an entity appends one entry with its full
//! new state; each batch appends one entry; the last entry of a block is the block entry. The leaf hash is
//! SHA-256(0x00 ‖ entry bytes), as in RFC 6962.

use crate::entity::{Entity, EntityKey};
use crate::reject::Reject;
use crate::types::{Hash32, OpId, ParticipantId, ScopedId};
use borsh::{BorshDeserialize, BorshSerialize};

/// `prev_index` of the first version of an entity.
pub const NO_PREVIOUS: u64 = u64::MAX;

/// One record of the log.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
#[expect(clippy::large_enum_variant, reason = "nearly all entries are of the large kind; a box would cost them all")]
pub enum Entry {
    /// An entity changed.
    Entity(EntityEntry) = 1,
    /// A batch was executed.
    Batch(BatchEntry) = 2,
    /// A block ended.
    Block(BlockEntry) = 3,
}

/// An entity changed.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct EntityEntry {
    /// Which entity.
    pub key: EntityKey,
    /// Counts from 1 per entity.
    pub version: u64,
    /// Log index of the version before; [`NO_PREVIOUS`] for the first.
    pub prev_index: u64,
    /// The full new state.
    pub state: Entity,
    /// What changed it.
    pub cause: Cause,
}

/// What changed an entity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Cause {
    /// The genesis document.
    Genesis = 0,
    /// An operation: the participant's id for it.
    Op(ScopedId) = 1,
    /// Ledger time reached the entity's due time.
    Time = 2,
    /// Several operations of the block: a hot account's entry at the end of its block.
    Block = 3,
}

/// A batch was executed: commits to its operations' ids and receipts, so that a refusal is as provable as a payment.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct BatchEntry {
    /// Counts all batches of the chain from 0.
    pub batch_seq: u64,
    /// BLAKE3 of the batch as archived.
    pub batch_hash: Hash32,
    /// Who signed it.
    pub participant: ParticipantId,
    /// Until when it could enter a block: the duplicate rule needs it.
    pub expires_at_ms: u64,
    /// Number of operations and of receipts.
    pub n_ops: u32,
    /// Merkle root over the operations' bytes, as signed.
    pub ops_root: Hash32,
    /// Merkle root over the receipts' bytes, in the order of the operations.
    pub receipts_root: Hash32,
}

/// A block ended.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct BlockEntry {
    /// Its height.
    pub height: u64,
    /// BLAKE3 of its header.
    pub header_hash: Hash32,
    /// Its ledger time.
    pub time_ms: u64,
    /// Root of the tree over the bitmap "latest of its entity" of all entries before this one; zero until that tree is in force.
    pub active_root: Hash32,
    /// Batches executed since genesis, this block's included.
    pub n_batches_total: u64,
    /// Operations executed since genesis, this block's included.
    pub n_ops_total: u64,
}

/// The first fields of an entity's entry: enough to know which version it takes the place of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct EntityHead {
    /// Which entity.
    pub key: EntityKey,
    /// Counts from 1 per entity.
    pub version: u64,
    /// Log index of the version before; [`NO_PREVIOUS`] for the first.
    pub prev_index: u64,
}

/// Reads the first fields of an entry's bytes without the rest; `None` for entries of other kinds, and for what is no entry.
#[must_use]
pub fn entity_head(entry: &[u8]) -> Option<EntityHead> {
    let (kind, mut rest) = entry.split_first()?;
    if *kind == 1 { EntityHead::deserialize(&mut rest).ok() } else { None }
}

/// The answer to one operation. Its leaf in `receipts_root` is over these bytes.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Receipt {
    /// The operation's id.
    pub op_id: OpId,
    /// Done, or refused with a number.
    pub result: OpResult,
    /// Ledger time of the block.
    pub time_ms: u64,
    /// Height of the block.
    pub height: u64,
}

/// Done or refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum OpResult {
    /// Done; names the entity the operation was about.
    Done(EntityKey) = 0,
    /// Refused; nothing changed but this receipt.
    Refused(Reject) = 1,
}
