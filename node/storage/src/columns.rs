//! The column families: their names, keys and values, and nothing else.

use anji_contracts::OpRecord;
use anji_contracts::entry::Receipt;
use anji_contracts::types::{Hash32, ParticipantId};
use anji_verify::LogRoot;
use borsh::{BorshDeserialize, BorshSerialize};

/// Where the latest version of an entity is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Latest {
    /// Log index of its entry.
    pub index: u64,
    /// Its version, counted from 1.
    pub version: u64,
}

/// An operation that consumed its id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpRow {
    /// What the duplicate rule remembers.
    pub record: OpRecord,
    /// The batch it was in.
    pub batch_seq: u64,
    /// Its place in that batch, from 0.
    pub position: u32,
}

/// The receipts of one executed batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchReceipts {
    /// Counts all batches of the chain from 0.
    pub seq: u64,
    /// Height of the block.
    pub height: u64,
    /// Ledger time of the block.
    pub time_ms: u64,
    /// Who signed the batch.
    pub participant: ParticipantId,
    /// BLAKE3 of the batch.
    pub batch_hash: Hash32,
    /// One receipt per operation, in order.
    pub receipts: Vec<Receipt>,
}

/// What is kept of every executed block; height 0 is genesis.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct BlockRecord {
    /// Its height.
    pub height: u64,
    /// Hash of its header; the chain id's bytes at height 0.
    pub header_hash: Hash32,
    /// Its ledger time.
    pub time_ms: u64,
    /// The log after it.
    pub log: LogRoot,
    /// Batches executed since genesis, this block's included.
    pub n_batches_total: u64,
    /// Operations executed since genesis, this block's included.
    pub n_ops_total: u64,
}
