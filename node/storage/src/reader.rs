//! Reads of the state.
#![allow(clippy::missing_errors_doc, unused_variables)]

use crate::columns::{BatchReceipts, BlockRecord, Latest, OpRow};
use crate::error::ReadError;
use anji_contracts::entity::{Obligation, Participant};
use anji_contracts::entry::EntityEntry;
use anji_contracts::types::{Hash32, ScopedId, WindowId};
use anji_contracts::{EntityKey, Entry};
use anji_verify::LogRoot;

/// The latest version of an entity with the entry that holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// Log index of the entry.
    pub index: u64,
    /// The entry: version, state, cause, index of the version before.
    pub entry: EntityEntry,
}

/// A batch of the recent past, for the rule that a batch enters the chain once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecentBatch {
    /// BLAKE3 of the batch.
    pub batch_hash: Hash32,
    /// The block it is in.
    pub height: u64,
    /// That block's ledger time.
    pub time_ms: u64,
}

/// Bytes on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskUsage {
    /// The block file.
    pub blocks_bytes: u64,
    /// RocksDB.
    pub state_bytes: u64,
    /// Free on the file system of the data folder.
    pub free_bytes: Option<u64>,
}

/// Reads of the state as of the last committed block. Cheap to clone, usable from any thread; every call may block on the disk, so
/// keep it off the async threads. Whatever is read is checked as it is decoded: a damaged value is an error, never an answer.
#[derive(Clone, Debug)]
pub struct Reader {
    _state: std::sync::Arc<()>,
}

impl Reader {
    /// Height of the last executed block; `None` before genesis is written.
    pub fn executed_height(&self) -> Result<Option<u64>, ReadError> {
        unimplemented!()
    }

    /// The last executed block.
    pub fn last_block(&self) -> Result<Option<BlockRecord>, ReadError> {
        unimplemented!()
    }

    /// What is kept of the block at `height`.
    pub fn block_record(&self, height: u64) -> Result<Option<BlockRecord>, ReadError> {
        unimplemented!()
    }

    /// Size and root of the log after the block at `height`.
    pub fn root_at(&self, height: u64) -> Result<Option<LogRoot>, ReadError> {
        unimplemented!()
    }

    /// The exact bytes of an entry: what the log tree hashes.
    pub fn entry_bytes(&self, index: u64) -> Result<Option<Vec<u8>>, ReadError> {
        unimplemented!()
    }

    /// An entry.
    pub fn entry(&self, index: u64) -> Result<Option<Entry>, ReadError> {
        unimplemented!()
    }

    /// Where the latest version of an entity is.
    pub fn latest(&self, key: &EntityKey) -> Result<Option<Latest>, ReadError> {
        unimplemented!()
    }

    /// The latest version of an entity.
    pub fn entity(&self, key: &EntityKey) -> Result<Option<Known>, ReadError> {
        unimplemented!()
    }

    /// The latest versions of many entities, in the order asked for.
    pub fn entities(&self, keys: &[EntityKey]) -> Result<Vec<Option<Known>>, ReadError> {
        unimplemented!()
    }

    /// An operation that consumed its id.
    pub fn op(&self, id: &ScopedId) -> Result<Option<OpRow>, ReadError> {
        unimplemented!()
    }

    /// Many operations, in the order asked for.
    pub fn ops(&self, ids: &[ScopedId]) -> Result<Vec<Option<OpRow>>, ReadError> {
        unimplemented!()
    }

    /// Receipts of a batch.
    pub fn receipts(&self, batch_seq: u64) -> Result<Option<BatchReceipts>, ReadError> {
        unimplemented!()
    }

    /// Receipts of at most `limit` batches from `from_seq` on, in order: what a resumable stream reads.
    pub fn receipts_from(&self, from_seq: u64, limit: usize) -> Result<Vec<BatchReceipts>, ReadError> {
        unimplemented!()
    }

    /// Batches of all blocks whose ledger time is at or after `since_ms`, newest first.
    pub fn recent_batches(&self, since_ms: u64) -> Result<Vec<RecentBatch>, ReadError> {
        unimplemented!()
    }

    /// The first `limit` entities whose due time is at or before `until_ms`, by (due time, key).
    pub fn due(&self, until_ms: u64, limit: usize) -> Result<Vec<(u64, EntityKey)>, ReadError> {
        unimplemented!()
    }

    /// All obligation accounts of a window, by participant.
    pub fn obligations(&self, window: WindowId) -> Result<Vec<Obligation>, ReadError> {
        unimplemented!()
    }

    /// All participants, by number.
    pub fn participants(&self) -> Result<Vec<Participant>, ReadError> {
        unimplemented!()
    }

    /// Versions of an entity, newest first, at most `limit`: (log index, entry).
    pub fn history(&self, key: &EntityKey, limit: usize) -> Result<Vec<Known>, ReadError> {
        unimplemented!()
    }

    /// At most `limit` entities after `after` (from the start if `None`), in key order.
    pub fn keys_after(&self, after: Option<&EntityKey>, limit: usize) -> Result<Vec<(EntityKey, Latest)>, ReadError> {
        unimplemented!()
    }

    /// A full tile of the log tree.
    pub fn tile(&self, level: u8, index: u64) -> Result<Option<Vec<Hash32>>, ReadError> {
        unimplemented!()
    }

    /// Bytes on disk, for status and metrics.
    #[must_use]
    pub fn disk_usage(&self) -> DiskUsage {
        unimplemented!()
    }
}
