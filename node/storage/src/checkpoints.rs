//! Final checkpoints: written beside execution, by whoever collects the validators' signatures. They are not derived from blocks, so a
//! crash may lose the newest ones; the validators sign again what they had signed.

use crate::columns::{BlockRecord, CHECKPOINTS, ROOTS};
use crate::error::{CommitError, ReadError};
use crate::reader::Reader;
use crate::state::{State, place};
use anji_contracts::codec;
use anji_verify::SignedCheckpoint;
use rocksdb::{Direction, IteratorMode, WriteOptions};
use std::sync::Arc;

/// Writes final checkpoints. Every call may block on the disk.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    state: Arc<State>,
}

impl CheckpointStore {
    pub(crate) const fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    /// Keeps a final checkpoint of an executed height, over an earlier one of that height with fewer signatures.
    ///
    /// # Errors
    /// [`CommitError`]: RocksDB refused, or the checkpoint is not that of the executed block.
    pub fn put(&self, checkpoint: &SignedCheckpoint) -> Result<(), CommitError> {
        let height = checkpoint.height;
        let key = height.to_be_bytes();
        let executed = self.state.get(ROOTS, &key)?.and_then(|record| codec::decode::<BlockRecord>(&record).ok());
        if executed.is_none_or(|record| record.log != checkpoint.log) {
            let what = "the checkpoint is not that of the executed block".into();
            return Err(CommitError::OutOfTurn { height, what });
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        let family = self.state.family(CHECKPOINTS)?;
        let written = self.state.db.put_cf_opt(family, key, codec::encode(checkpoint), &options);
        written.map_err(|error| CommitError::Failed { height, path: self.state.dir.clone(), what: error.to_string() })
    }
}

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl Reader {
    /// The final checkpoint of exactly this height; not every height has one.
    pub fn checkpoint(&self, height: u64) -> Result<Option<SignedCheckpoint>, ReadError> {
        let key = height.to_be_bytes();
        let Some(value) = self.state().get(CHECKPOINTS, &key)? else { return Ok(None) };
        decode(&key, &value).map(Some)
    }

    /// The first final checkpoint at or after a height: it covers everything up to that height.
    pub fn checkpoint_from(&self, height: u64) -> Result<Option<SignedCheckpoint>, ReadError> {
        let key = height.to_be_bytes();
        self.first_checkpoint(IteratorMode::From(&key, Direction::Forward))
    }

    /// The newest final checkpoint.
    pub fn newest_checkpoint(&self) -> Result<Option<SignedCheckpoint>, ReadError> {
        self.first_checkpoint(IteratorMode::End)
    }

    fn first_checkpoint(&self, mode: IteratorMode<'_>) -> Result<Option<SignedCheckpoint>, ReadError> {
        let mut found = None;
        self.state().walk(CHECKPOINTS, mode, true, |key, value| {
            found = Some(decode(key, value)?);
            Ok(false)
        })?;
        Ok(found)
    }
}

fn decode(key: &[u8], value: &[u8]) -> Result<SignedCheckpoint, ReadError> {
    let decoded = codec::decode::<SignedCheckpoint>(value).ok().filter(|it| it.height.to_be_bytes() == key);
    let what = "it is no checkpoint of this height".to_owned();
    decoded.ok_or_else(|| ReadError::Corrupted { place: place(CHECKPOINTS, key), what })
}
