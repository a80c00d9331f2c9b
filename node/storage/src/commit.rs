//! Writing one executed block: entries, indexes, tiles and the new height in one atomic batch.

use crate::active::SAVE_EVERY;
use crate::columns::{
    ACTIVE, BatchReceipts, BlockRecord, CAPTURED, DUE, ENTRIES, LATEST, Latest, META, META_ACTIVE, META_CHAIN,
    META_EXECUTED, META_WINDOWS, OPS, OpRow, RECEIPTS, ROOTS, TILES, captured_key, due_key, op_key, tile_key,
};
use crate::entries::OpenRow;
use crate::error::CommitError;
use crate::state::State;
use crate::sums::SumsKeeper;
use anji_contracts::entry::{BlockEntry, Entry};
use anji_contracts::types::{ChainId, Hash32, PaymentId, ScopedId, WindowId};
use anji_contracts::window_tree::WindowTree;
use anji_contracts::{EntityKey, codec};
use anji_meter::{Lap, Stage};
use anji_verify::log_tree::leaf_hash;
use anji_verify::{LogRoot, LogTree};
use borsh::BorshSerialize;
use rocksdb::{FlushOptions, WriteBatch, WriteOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};

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

    /// Bytes of all entries.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets the entries, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Appends the canonical bytes of an entry: pass an [`anji_contracts::Entry`], or anything whose borsh bytes are the same.
    pub fn push(&mut self, entry: &impl BorshSerialize) {
        // Writing to a Vec does not fail, and no type of the contracts refuses to be written (see `codec::encode`).
        if entry.serialize(&mut self.bytes).is_ok() {
            self.ends.push(self.bytes.len());
        }
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
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
    /// The new entries but the block entry, which the store makes; the first one's index is the log's size.
    pub entries: EntryBuffer,
    /// The entities that changed, each once, with the index and version of its newest entry.
    pub latest: Vec<(EntityKey, Latest)>,
    /// Log indexes of the entries that were the newest of these entities before the block.
    pub superseded: Vec<u64>,
    /// Operations that consumed their ids.
    pub ops: Vec<(ScopedId, OpRow)>,
    /// Receipts of the block's batches; sequence numbers go on from the state's.
    pub batches: Vec<Arc<BatchReceipts>>,
    /// Due times taken away.
    pub due_removed: Vec<(u64, EntityKey)>,
    /// Due times added.
    pub due_added: Vec<(u64, EntityKey)>,
    /// Payments with a capture in a window that was open in the block, in ascending order.
    pub captured: Vec<(WindowId, PaymentId)>,
    /// How far the trees of closed windows are built, if the block built any further.
    pub window_tree: Option<WindowTree>,
    /// Operations in the block.
    pub n_ops: u64,
}

/// The only writer of the state. Dropping it makes the state durable.
#[derive(Debug)]
pub struct Store {
    state: Arc<State>,
    chain: ChainId,
    tree: Arc<LogTree>,
    /// The newest entries that do not fill a row yet.
    row: OpenRow,
    /// Chunks of the bitmap that changed since its rows were written.
    unsaved: Vec<usize>,
    sums: SumsKeeper,
    flush_every: Duration,
    /// Since when something may be in memory only, or the last flush begun; `None` once all is durable.
    dirty_since: Option<Instant>,
    /// Set by a failed write: what RocksDB holds is then known only after a restart.
    failed: bool,
}

impl Store {
    pub(crate) fn new(
        state: Arc<State>,
        chain: ChainId,
        (tree, row): (Arc<LogTree>, OpenRow),
        unsaved: Vec<usize>,
        sums: SumsKeeper,
        flush_every: Duration,
    ) -> Self {
        Self { state, chain, tree, row, unsaved, sums, flush_every, dirty_since: None, failed: false }
    }

    /// Writes a block's effects in one atomic batch and returns its record with the new log root. It is durable once its block is: after a
    /// crash the block is run again.
    ///
    /// # Errors
    /// [`CommitError`]; the node must stop.
    pub fn commit(&mut self, block: &BlockCommit) -> Result<BlockRecord, CommitError> {
        let height = block.height;
        let out_of_turn = |what: String| CommitError::OutOfTurn { height, what };
        if self.failed {
            return Err(out_of_turn("an earlier write failed".into()));
        }
        let last = self.state.last();
        let expected = last.map_or(0, |last| last.height + 1);
        if height != expected {
            return Err(out_of_turn(format!("height {expected} is next")));
        }
        let (n_batches, n_ops) = last.map_or((0, 0), |last| (last.n_batches_total, last.n_ops_total));
        for (seq, batch) in (n_batches..).zip(&block.batches) {
            if batch.seq != seq {
                return Err(out_of_turn(format!("batch {} stands where {seq} is next", batch.seq)));
            }
        }
        // A payment in its first version is found by the row of the operation that made it.
        let n_first = block.latest.iter().filter(|(key, latest)| is_found_by_op(key, latest)).count();
        let n_made = block.ops.iter().filter(|(_, row)| row.payment_index.is_some()).count();
        if n_first > n_made || block.ops.iter().any(|(id, row)| row.payment_index.is_some() != row.made_payment(id)) {
            return Err(out_of_turn(format!("{n_first} new payments, but {n_made} operations that lead to one")));
        }
        // From here on memory goes ahead of the disk; should anything fail, this store takes nothing more.
        self.failed = true;
        let lap = Lap::start();
        let mut write = WriteBatch::with_capacity_bytes(write_size(block));
        let active_root = self.put_active(&mut write, block)?;
        let entry = BlockEntry {
            height,
            header_hash: block.header_hash,
            time_ms: block.time_ms,
            active_root,
            n_batches_total: n_batches + block.batches.len() as u64,
            n_ops_total: n_ops + block.n_ops,
        };
        let block_entry = codec::encode(&Entry::Block(entry.clone()));
        let hashes: Vec<Hash32> = block.entries.iter().chain([&block_entry[..]]).map(leaf_hash).collect();
        let lap = lap.next(Stage::Tree);
        let mut tree = LogTree::clone(&self.tree);
        self.put_entries(&mut write, &mut tree, block, &block_entry, &hashes)?;
        self.put_indexes(&mut write, block)?;
        let record = BlockRecord {
            height,
            header_hash: block.header_hash,
            time_ms: block.time_ms,
            log: tree.root(),
            n_batches_total: entry.n_batches_total,
            n_ops_total: entry.n_ops_total,
        };
        write.put_cf(self.state.family(ROOTS)?, height.to_be_bytes(), codec::encode(&record));
        write.put_cf(self.state.family(META)?, META_EXECUTED, height.to_be_bytes());
        if height == 0 {
            write.put_cf(self.state.family(META)?, META_CHAIN, codec::encode(&self.chain));
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        if let Err(error) = self.state.db.write_opt(write, &options) {
            return Err(CommitError::Failed { height, path: self.state.dir.clone(), what: error.to_string() });
        }
        self.failed = false;
        self.tree = Arc::new(tree);
        self.state.set_last(record, Arc::clone(&self.tree));
        let dirty_since = *self.dirty_since.get_or_insert_with(Instant::now);
        if dirty_since.elapsed() >= self.flush_every {
            self.flush_families(false)?;
        }
        lap.end(Stage::Store);
        Ok(record)
    }

    /// For a benchmark's bare node, which executes nothing: readers are told of this block, and nothing is written. The next start
    /// begins at the last block that was.
    pub fn note_bare(&self, record: BlockRecord) {
        self.state.set_last(record, Arc::clone(&self.tree));
    }

    /// Takes the block into the bitmap and returns its new root; every so often the changed rows are written.
    fn put_active(&mut self, write: &mut WriteBatch, block: &BlockCommit) -> Result<Hash32, CommitError> {
        let height = block.height;
        let block_index = self.tree.size() + block.entries.len() as u64;
        let newest = block.latest.iter().map(|(_, latest)| latest.index);
        let mut active = self.state.active_mut();
        let (root, changed) = active
            .apply(height, block_index, newest, block.superseded.clone())
            .map_err(|wrong| CommitError::OutOfTurn { height, what: wrong.to_string() })?;
        self.unsaved.extend(changed);
        if height.is_multiple_of(SAVE_EVERY) {
            let rows = self.state.family(ACTIVE)?;
            self.unsaved.sort_unstable();
            self.unsaved.dedup();
            for position in self.unsaved.drain(..) {
                if let Some(chunk) = active.chunk(position) {
                    write.put_cf(rows, (position as u64).to_be_bytes(), chunk);
                }
            }
            write.put_cf(self.state.family(META)?, META_ACTIVE, height.to_be_bytes());
        }
        Ok(root)
    }

    fn put_entries(
        &mut self,
        write: &mut WriteBatch,
        tree: &mut LogTree,
        block: &BlockCommit,
        block_entry: &[u8],
        hashes: &[Hash32],
    ) -> Result<(), CommitError> {
        let entries = self.state.family(ENTRIES)?;
        let tiles = self.state.family(TILES)?;
        let bytes = block.entries.iter().chain([block_entry]);
        for ((index, entry), hash) in (tree.size()..).zip(bytes).zip(hashes) {
            self.row.push(index, entry, |key, row| write.put_cf(entries, key, row));
            tree.append(*hash, &mut |tile| {
                let mut bytes = Vec::with_capacity(tile.hashes.len() * 32);
                tile.hashes.iter().for_each(|hash| bytes.extend_from_slice(&hash.0));
                write.put_cf(tiles, tile_key(tile.level, tile.index), bytes);
            });
        }
        self.row.put_begun(|key, row| write.put_cf(entries, key, row));
        Ok(())
    }

    fn put_indexes(&self, write: &mut WriteBatch, block: &BlockCommit) -> Result<(), CommitError> {
        let mut value = Vec::with_capacity(128);
        let latest = self.state.family(LATEST)?;
        for (key, row) in block.latest.iter().filter(|(key, row)| !is_found_by_op(key, row)) {
            value.clear();
            row.encode(&mut value);
            write.put_cf(latest, key.to_sort_bytes(), &value);
        }
        let ops = self.state.family(OPS)?;
        for (id, row) in &block.ops {
            value.clear();
            row.encode(id, &mut value);
            write.put_cf(ops, op_key(id), &value);
        }
        let receipts = self.state.family(RECEIPTS)?;
        for batch in &block.batches {
            value.clear();
            batch.encode(&mut value);
            write.put_cf(receipts, batch.seq.to_be_bytes(), &value);
        }
        let due = self.state.family(DUE)?;
        for (due_at_ms, key) in &block.due_removed {
            write.delete_cf(due, due_key(*due_at_ms, key));
        }
        for (due_at_ms, key) in &block.due_added {
            write.put_cf(due, due_key(*due_at_ms, key), []);
        }
        let captured = self.state.family(CAPTURED)?;
        for (window, payment) in &block.captured {
            write.put_cf(captured, captured_key(*window, payment), []);
        }
        if let Some(tree) = &block.window_tree {
            write.put_cf(self.state.family(META)?, META_WINDOWS, codec::encode(tree));
        }
        Ok(())
    }

    /// Makes everything committed durable now. Called on a clean stop; otherwise flushes run in the background.
    ///
    /// # Errors
    /// [`CommitError::Failed`]; nothing is lost, the next start replays more.
    pub fn flush(&mut self) -> Result<(), CommitError> {
        self.flush_families(true)?;
        self.sums.write_now().map_err(|error| self.not_flushed(error.to_string()))
    }

    /// Begins a flush of all column families as of now, and waits for its end if it is to be durable on return.
    fn flush_families(&mut self, wait: bool) -> Result<(), CommitError> {
        let mut families = Vec::new();
        for family in crate::columns::ALL {
            families.push(self.state.family(family)?);
        }
        let mut options = FlushOptions::default();
        options.set_wait(wait);
        self.state.db.flush_cfs_opt(&families, &options).map_err(|error| self.not_flushed(error.to_string()))?;
        self.dirty_since = (!wait).then(Instant::now);
        Ok(())
    }

    fn not_flushed(&self, what: String) -> CommitError {
        let height = self.state.last().map_or(0, |last| last.height);
        CommitError::Failed { height, path: self.state.dir.clone(), what }
    }

    /// The log as of the last commit.
    #[must_use]
    pub fn log_root(&self) -> LogRoot {
        self.tree.root()
    }
}

/// Whether the entity is found without a row of its own in `latest`.
fn is_found_by_op(key: &EntityKey, latest: &Latest) -> bool {
    latest.version == 1 && matches!(key, EntityKey::Payment(_))
}

/// About the bytes of a block's write: entries, tiles and what the indexes add per operation.
fn write_size(block: &BlockCommit) -> usize {
    let indexes = block.latest.len() * 48 + block.ops.len() * 128 + block.captured.len() * 48;
    4096 + block.entries.size_bytes() + block.entries.len() * 48 + indexes
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.failed {
            return;
        }
        let flushed = if self.dirty_since.is_some() { self.flush() } else { Ok(()) };
        if let Err(error) = flushed {
            tracing::warn!(%error, "the state was not flushed; the next start replays it from the block file");
        }
        // Nothing changes the tables from here on, so the digests are those of the closed state.
        self.state.db.cancel_all_background_work(true);
        if let Err(error) = self.sums.write_now() {
            tracing::warn!(%error, "the digests of the state's files were not written; the next start takes longer");
        }
    }
}
