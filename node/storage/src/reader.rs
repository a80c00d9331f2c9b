//! Reads of the state. Whatever is read is checked as it is decoded: a damaged value is an error, never an answer.

use crate::blocks::{Block, BlockFile};
use crate::columns::{
    BatchReceipts, BlockRecord, DUE, LATEST, Latest, OPS, OpRow, RECEIPTS, ROOTS, decode_due_key, decode_op_key, op_key,
};
use crate::entries::entry_damaged;
use crate::error::ReadError;
use crate::state::{State, damaged};
use crate::tiles;
use anji_contracts::entity::{Entity, Obligation, Participant, key_from_sort_bytes};
use anji_contracts::entry::{EntityEntry, NO_PREVIOUS};
use anji_contracts::types::{Hash32, OpId, ParticipantId, PaymentId, ScopedId, WindowId};
use anji_contracts::{EntityKey, Entry, codec};
use anji_verify::{CommitCertificate, Header, LogRoot};
use bytes::Bytes;
use rocksdb::{Direction, IteratorMode};
use std::sync::Arc;

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
    /// RocksDB's tables.
    pub state_bytes: u64,
    /// Free on the file system of the data folder.
    pub free_bytes: Option<u64>,
}

/// Reads of the state as of the last committed block. Cheap to clone, usable from any thread; every call may block on the disk, so
/// keep it off the async threads.
///
/// # Errors
/// Every call: [`ReadError`] when the disk refuses or what is stored cannot be what was written.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(crate) state: Arc<State>,
    blocks: BlockFile,
}

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl Reader {
    pub(crate) fn new(state: Arc<State>, blocks: BlockFile) -> Self {
        Self { state, blocks }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Height of the last executed block; `None` before genesis is written.
    pub fn executed_height(&self) -> Result<Option<u64>, ReadError> {
        Ok(self.state.last().map(|last| last.height))
    }

    /// The last executed block.
    pub fn last_block(&self) -> Result<Option<BlockRecord>, ReadError> {
        Ok(self.state.last())
    }

    /// What is kept of the block at `height`.
    pub fn block_record(&self, height: u64) -> Result<Option<BlockRecord>, ReadError> {
        let key = height.to_be_bytes();
        let Some(value) = self.state.get(ROOTS, &key)? else { return Ok(None) };
        let record = codec::decode::<BlockRecord>(&value).ok().filter(|record| record.height == height);
        record.map(Some).ok_or_else(|| damaged(ROOTS, &key, "it is no record of this height"))
    }

    /// Size and root of the log after the block at `height`.
    pub fn root_at(&self, height: u64) -> Result<Option<LogRoot>, ReadError> {
        Ok(self.block_record(height)?.map(|record| record.log))
    }

    /// The exact bytes of an entry: what the log tree hashes.
    pub fn entry_bytes(&self, index: u64) -> Result<Option<Vec<u8>>, ReadError> {
        self.state.entry(index)
    }

    /// An entry.
    pub fn entry(&self, index: u64) -> Result<Option<Entry>, ReadError> {
        let Some(value) = self.state.entry(index)? else { return Ok(None) };
        codec::decode(&value).map(Some).map_err(|_| entry_damaged(index, "it cannot be decoded"))
    }

    /// Calls `visit` with every entry from `from` on, in order, until it answers false.
    pub fn visit_entries(
        &self,
        from: u64,
        visit: impl FnMut(u64, &[u8]) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        self.state.walk_entries(from, false, visit)
    }

    /// Where the latest version of an entity is.
    pub fn latest(&self, key: &EntityKey) -> Result<Option<Latest>, ReadError> {
        let row = key.to_sort_bytes();
        if let Some(value) = self.state.get(LATEST, &row)? {
            return decode_latest(&row, &value).map(Some);
        }
        // In its first version a payment is found by the operation that made it.
        let EntityKey::Payment(PaymentId(id)) = key else { return Ok(None) };
        Ok(self.op(id)?.and_then(|row| first_version(&row)))
    }

    /// The latest version of an entity.
    pub fn entity(&self, key: &EntityKey) -> Result<Option<Known>, ReadError> {
        let Some(latest) = self.latest(key)? else { return Ok(None) };
        let value = self.state.entry(latest.index)?;
        decode_version(key, &latest, value.as_deref()).map(Some)
    }

    /// The latest versions of many entities, in the order asked for.
    pub fn entities(&self, keys: &[EntityKey]) -> Result<Vec<Option<Known>>, ReadError> {
        let sort_keys: Vec<Vec<u8>> = keys.iter().map(EntityKey::to_sort_bytes).collect();
        let mut found = Vec::with_capacity(keys.len());
        let (mut payments, mut made_by) = (Vec::new(), Vec::new());
        let values = self.state.get_many(LATEST, &sort_keys, false)?;
        for (((place, value), row), key) in values.iter().enumerate().zip(&sort_keys).zip(keys) {
            match (value, key) {
                (Some(value), _) => found.push((place, decode_latest(row, value)?)),
                (None, EntityKey::Payment(PaymentId(id))) => {
                    payments.push(place);
                    made_by.push(*id);
                }
                (None, _) => {}
            }
        }
        let rows = if made_by.is_empty() { Vec::new() } else { self.ops(&made_by)? };
        for (place, row) in payments.into_iter().zip(rows) {
            found.extend(row.and_then(|row| first_version(&row)).map(|latest| (place, latest)));
        }
        let indexes: Vec<u64> = found.iter().map(|(_, latest)| latest.index).collect();
        let mut answer = vec![None; keys.len()];
        self.state.visit_entries_at(&indexes, |at, entry| {
            let Some((place, latest)) = found.get(at) else { return Ok(()) };
            if let (Some(slot), Some(key)) = (answer.get_mut(*place), keys.get(*place)) {
                *slot = Some(decode_version(key, latest, entry)?);
            }
            Ok(())
        })?;
        Ok(answer)
    }

    /// An operation that consumed its id.
    pub fn op(&self, id: &ScopedId) -> Result<Option<OpRow>, ReadError> {
        let key = op_key(id);
        let Some(value) = self.state.get(OPS, &key)? else { return Ok(None) };
        OpRow::decode(id, &value).map(Some).ok_or_else(|| damaged(OPS, &key, "it cannot be decoded"))
    }

    /// Many operations, in the order asked for.
    pub fn ops(&self, ids: &[ScopedId]) -> Result<Vec<Option<OpRow>>, ReadError> {
        let keys: Vec<[u8; 20]> = ids.iter().map(op_key).collect();
        let values = self.state.get_many(OPS, &keys, false)?;
        let decode = |((value, id), key): ((Option<_>, &ScopedId), &[u8; 20])| {
            let Some(value): Option<rocksdb::DBPinnableSlice<'_>> = value else { return Ok(None) };
            OpRow::decode(id, &value).map(Some).ok_or_else(|| damaged(OPS, key, "it cannot be decoded"))
        };
        values.into_iter().zip(ids).zip(&keys).map(decode).collect()
    }

    /// Calls `visit` with every operation that consumed its id, by id, until it answers false.
    pub fn visit_ops(
        &self,
        mut visit: impl FnMut(&ScopedId, &OpRow) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        self.state.walk(OPS, IteratorMode::Start, false, |key, value| {
            let (id, row) = decode_op(key, value)?;
            visit(&id, &row)
        })
    }

    /// The newest operation id of a participant that consumed its id.
    pub fn newest_op(&self, participant: ParticipantId) -> Result<Option<ScopedId>, ReadError> {
        let top = op_key(&ScopedId { participant, op_id: OpId(u128::MAX) });
        let mut newest = None;
        self.state.walk(OPS, IteratorMode::From(&top, Direction::Reverse), true, |key, _| {
            let id = decode_op_key(key).ok_or_else(|| damaged(OPS, key, "the key is no id"))?;
            newest = (id.participant == participant).then_some(id);
            Ok(false)
        })?;
        Ok(newest)
    }

    /// Receipts of a batch.
    pub fn receipts(&self, batch_seq: u64) -> Result<Option<BatchReceipts>, ReadError> {
        let key = batch_seq.to_be_bytes();
        let Some(value) = self.state.get(RECEIPTS, &key)? else { return Ok(None) };
        let batch = BatchReceipts::decode(batch_seq, &value);
        batch.map(Some).ok_or_else(|| damaged(RECEIPTS, &key, "it cannot be decoded"))
    }

    /// Receipts of at most `limit` batches from `from_seq` on, in order: what a resumable stream reads.
    pub fn receipts_from(&self, from_seq: u64, limit: usize) -> Result<Vec<BatchReceipts>, ReadError> {
        let mut batches = Vec::new();
        if limit == 0 {
            return Ok(batches);
        }
        let start = from_seq.to_be_bytes();
        self.state.walk(RECEIPTS, IteratorMode::From(&start, Direction::Forward), true, |key, value| {
            let seq = key.try_into().map(u64::from_be_bytes);
            let seq = seq.map_err(|_| damaged(RECEIPTS, key, "the key is no number"))?;
            let batch = BatchReceipts::decode(seq, value);
            batches.push(batch.ok_or_else(|| damaged(RECEIPTS, key, "it cannot be decoded"))?);
            Ok(batches.len() < limit)
        })?;
        Ok(batches)
    }

    /// Batches of all executed blocks whose ledger time is at or after `since_ms`, newest first.
    pub fn recent_batches(&self, since_ms: u64) -> Result<Vec<RecentBatch>, ReadError> {
        let mut batches = Vec::new();
        self.state.walk(RECEIPTS, IteratorMode::End, true, |key, mut value| {
            let head = BatchReceipts::decode_head(0, &mut value);
            let head = head.ok_or_else(|| damaged(RECEIPTS, key, "it cannot be decoded"))?;
            if head.time_ms < since_ms {
                return Ok(false);
            }
            batches.push(RecentBatch { batch_hash: head.batch_hash, height: head.height, time_ms: head.time_ms });
            Ok(true)
        })?;
        Ok(batches)
    }

    /// The first `limit` entities whose due time is at or after `from_ms` and at or before `until_ms`, by (due time, key).
    pub fn due(&self, from_ms: u64, until_ms: u64, limit: usize) -> Result<Vec<(u64, EntityKey)>, ReadError> {
        let mut due = Vec::new();
        if limit == 0 {
            return Ok(due);
        }
        let start = from_ms.to_be_bytes();
        self.state.walk(DUE, IteratorMode::From(&start, Direction::Forward), true, |key, _| {
            let item = decode_due_key(key).ok_or_else(|| damaged(DUE, key, "the key cannot be decoded"))?;
            if item.0 > until_ms {
                return Ok(false);
            }
            due.push(item);
            Ok(due.len() < limit)
        })?;
        Ok(due)
    }

    /// All obligation accounts of a window, by participant.
    pub fn obligations(&self, window: WindowId) -> Result<Vec<Obligation>, ReadError> {
        let keys: Vec<EntityKey> =
            self.participants()?.iter().map(|participant| EntityKey::Obligation(participant.id, window)).collect();
        let state = |known: Known| match known.entry.state {
            Entity::Obligation(obligation) => Some(obligation),
            _ => None,
        };
        Ok(self.entities(&keys)?.into_iter().flatten().filter_map(state).collect())
    }

    /// All participants, by number.
    pub fn participants(&self) -> Result<Vec<Participant>, ReadError> {
        let mut keys = Vec::new();
        let start = EntityKey::Participant(ParticipantId(0)).to_sort_bytes();
        self.state.walk(LATEST, IteratorMode::From(&start, Direction::Forward), true, |key, _| {
            let key = key_from_sort_bytes(key).ok_or_else(|| damaged(LATEST, key, "the key cannot be decoded"))?;
            let is_participant = matches!(key, EntityKey::Participant(_));
            keys.extend(is_participant.then_some(key));
            Ok(is_participant)
        })?;
        let state = |known: Known| match known.entry.state {
            Entity::Participant(participant) => Some(participant),
            _ => None,
        };
        Ok(self.entities(&keys)?.into_iter().flatten().filter_map(state).collect())
    }

    /// Versions of an entity, newest first, at most `limit`.
    pub fn history(&self, key: &EntityKey, limit: usize) -> Result<Vec<Known>, ReadError> {
        let mut versions = Vec::new();
        let mut next = if limit == 0 { None } else { self.entity(key)? };
        while let Some(known) = next {
            next = if versions.len() + 1 < limit { self.version_before(&known)? } else { None };
            versions.push(known);
        }
        Ok(versions)
    }

    /// At most `limit` entities after `after` (from the start if `None`), in key order.
    pub fn keys_after(&self, after: Option<&EntityKey>, limit: usize) -> Result<Vec<(EntityKey, Latest)>, ReadError> {
        let mut keys = Vec::new();
        if limit == 0 {
            return Ok(keys);
        }
        let start = after.map(EntityKey::to_sort_bytes).unwrap_or_default();
        self.state.walk(LATEST, IteratorMode::From(&start, Direction::Forward), false, |key, value| {
            if after.is_some() && key == start {
                return Ok(true);
            }
            let entity = key_from_sort_bytes(key).ok_or_else(|| damaged(LATEST, key, "it cannot be decoded"))?;
            keys.push((entity, decode_latest(key, value)?));
            Ok(keys.len() < limit)
        })?;
        let is_full = keys.len() == limit;
        let is_before_payments = keys.last().is_some_and(|(key, _)| *key < FIRST_PAYMENT);
        if !(is_full && is_before_payments) {
            // A payment that has a row by now was found above.
            self.push_new_payments(after, limit, &mut keys)?;
            keys.sort_by_key(|(key, latest)| (*key, std::cmp::Reverse(latest.version)));
            keys.dedup_by_key(|(key, _)| *key);
            keys.truncate(limit);
        }
        Ok(keys)
    }

    /// The first `limit` payments after `after`, each as the operation made it.
    fn push_new_payments(
        &self,
        after: Option<&EntityKey>,
        limit: usize,
        keys: &mut Vec<(EntityKey, Latest)>,
    ) -> Result<(), ReadError> {
        let start = match after {
            Some(EntityKey::Payment(PaymentId(id))) => op_key(id),
            Some(key) if *key > FIRST_PAYMENT => return Ok(()),
            _ => [0; 20],
        };
        let mut n_found = 0;
        self.state.walk(OPS, IteratorMode::From(&start, Direction::Forward), false, |key, value| {
            let (id, row) = decode_op(key, value)?;
            let payment = EntityKey::Payment(PaymentId(id));
            if after != Some(&payment) {
                keys.extend(first_version(&row).map(|latest| (payment, latest)));
                n_found += usize::from(row.payment_index.is_some());
            }
            Ok(n_found < limit)
        })
    }

    /// The version of an entity before this one; `None` for the first.
    pub fn version_before(&self, known: &Known) -> Result<Option<Known>, ReadError> {
        let (index, previous) = (known.index, known.entry.prev_index);
        if previous == NO_PREVIOUS {
            return Ok(None);
        }
        // Only backwards, or a damaged link could lead in circles.
        if previous >= index {
            return Err(entry_damaged(index, "its link to the version before points ahead"));
        }
        let before = Latest { index: previous, version: known.entry.version.wrapping_sub(1) };
        let value = self.state.entry(previous)?;
        decode_version(&known.entry.key, &before, value.as_deref()).map(Some)
    }

    /// Height of the last decided block; it may be ahead of what is executed.
    #[must_use]
    pub fn decided_height(&self) -> u64 {
        self.blocks.decided_height()
    }

    /// A decided block as archived; `None` if it is not decided here.
    pub fn block(&self, height: u64) -> Result<Option<Block>, ReadError> {
        self.blocks.load_block(height)
    }

    /// One batch of a decided height, by its place in the block. Its bytes are not checked: compare its hash.
    pub fn batch(&self, height: u64, place: usize) -> Result<Option<Bytes>, ReadError> {
        self.blocks.load_batch(height, place)
    }

    /// Header and certificate of a decided height.
    pub fn decision(&self, height: u64) -> Result<Option<(Header, CommitCertificate)>, ReadError> {
        self.blocks.load_decision(height)
    }

    /// A full tile of the log tree.
    pub fn tile(&self, level: u8, index: u64) -> Result<Option<Vec<Hash32>>, ReadError> {
        tiles::load_tile(&self.state, level, index)
    }

    /// Bytes on disk, for status and metrics.
    #[must_use]
    pub fn disk_usage(&self) -> DiskUsage {
        let size = |name: &'static str| {
            let family = self.state.family(name).ok()?;
            self.state.db.property_int_value_cf(family, "rocksdb.total-sst-files-size").ok().flatten()
        };
        let free = rustix::fs::statvfs(&self.state.dir).ok().map(|it| it.f_bavail.saturating_mul(it.f_frsize));
        DiskUsage {
            blocks_bytes: self.blocks.size_bytes(),
            state_bytes: crate::columns::ALL.iter().filter_map(|name| size(name)).sum(),
            free_bytes: free,
        }
    }

    /// Raw rows of a column family in key order: for the byte snapshots of the format.
    pub fn visit_raw(
        &self,
        family: &'static str,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        self.state.walk(family, IteratorMode::Start, false, |key, value| visit(key, value))
    }
}

/// The lowest key of a payment.
const FIRST_PAYMENT: EntityKey =
    EntityKey::Payment(PaymentId(ScopedId { participant: ParticipantId(0), op_id: OpId(0) }));

/// Where the first version is of the payment that an operation made, if it made one.
fn first_version(row: &OpRow) -> Option<Latest> {
    row.payment_index.map(|index| Latest { index, version: 1 })
}

fn decode_latest(key: &[u8], value: &[u8]) -> Result<Latest, ReadError> {
    Latest::decode(value).ok_or_else(|| damaged(LATEST, key, "it cannot be decoded"))
}

fn decode_op(key: &[u8], value: &[u8]) -> Result<(ScopedId, OpRow), ReadError> {
    let id = decode_op_key(key).ok_or_else(|| damaged(OPS, key, "the key is no id"))?;
    let row = OpRow::decode(&id, value).ok_or_else(|| damaged(OPS, key, "it cannot be decoded"))?;
    Ok((id, row))
}

/// Checks that an entry is the version of the entity that the index says.
fn decode_version(key: &EntityKey, latest: &Latest, value: Option<&[u8]>) -> Result<Known, ReadError> {
    let index = latest.index;
    let value = value.ok_or_else(|| entry_damaged(index, "it is missing, but an index names it"))?;
    let entry = codec::decode::<Entry>(value).map_err(|_| entry_damaged(index, "it cannot be decoded"))?;
    match entry {
        Entry::Entity(entry) if entry.key == *key && entry.version == latest.version => Ok(Known { index, entry }),
        _ => Err(entry_damaged(index, "it is not the version of the entity that the index says")),
    }
}
