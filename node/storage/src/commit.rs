//! Writing one executed block: entries, indexes, tiles and the new height in one atomic batch.
#![allow(clippy::missing_errors_doc, unused_variables)]

use crate::columns::{BatchReceipts, BlockRecord, OpRow};
use crate::error::CommitError;
use anji_contracts::EntityKey;
use anji_contracts::types::{Hash32, ScopedId};
use anji_verify::LogRoot;

/// Encoded entries in log order, in one buffer.
#[derive(Clone, Debug, Default)]
pub struct EntryBuffer {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl EntryBuffer {
    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Forgets the entries, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// What a block changes.
#[derive(Clone, Debug, Default)]
pub struct BlockCommit {
    /// Its height: one above the state's; 0 for genesis.
    pub height: u64,
    /// Hash of its header.
    pub header_hash: Hash32,
    /// Its ledger time.
    pub time_ms: u64,
    /// The new entries; the first one's index is the log's size.
    pub entries: EntryBuffer,
    /// The entities that changed, each once, with the index and version of its newest entry.
    pub latest: Vec<(EntityKey, crate::Latest)>,
    /// Operations that consumed their ids.
    pub ops: Vec<(ScopedId, OpRow)>,
    /// Receipts of the block's batches; sequence numbers go on from the state's.
    pub batches: Vec<std::sync::Arc<BatchReceipts>>,
    /// Due times taken away.
    pub due_removed: Vec<(u64, EntityKey)>,
    /// Due times added.
    pub due_added: Vec<(u64, EntityKey)>,
    /// Operations in the block.
    pub n_ops: u64,
}

/// The only writer of the state.
#[derive(Debug)]
pub struct Store {
    _state: (),
}

impl Store {
    /// Writes a block's effects in one atomic batch and returns its record with the new log root.
    pub fn commit(&mut self, block: &BlockCommit) -> Result<BlockRecord, CommitError> {
        unimplemented!()
    }

    /// Makes everything committed durable now. Called on a clean stop; otherwise flushes run in the background.
    pub fn flush(&mut self) -> Result<(), CommitError> {
        unimplemented!()
    }

    /// The log as of the last commit.
    #[must_use]
    pub fn log_root(&self) -> LogRoot {
        unimplemented!()
    }
}
