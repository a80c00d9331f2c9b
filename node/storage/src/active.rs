//! The bitmap of latest versions with its tree, in memory, and what is kept to prove from it as it was a few blocks ago.
//!
//! The rows on disk are written every [`SAVE_EVERY`] blocks, in the commit of such a block: most chunks change with every block, and the log
//! itself says what the blocks since then did. Opening reads the rows, goes back to the oldest block that is to be provable, and goes
//! forward again over the links of the entries, comparing every block's `active_root` on the way.

use crate::columns::{ACTIVE, BlockRecord, META, META_ACTIVE, ROOTS};
use crate::entries::entry_damaged;
use crate::error::ReadError;
use crate::state::{State, damaged};
use anji_contracts::codec;
use anji_contracts::entry::{Entry, entity_head};
use anji_contracts::types::Hash32;
use anji_verify::active_tree::{
    ActiveProof, ActiveTree, BlockLinks, CHUNK_BITS, CHUNK_BYTES, Chunk, WrongBit, bit_of, cut_chunk, depth, n_chunks,
    put_bit,
};
use rocksdb::IteratorMode;
use std::collections::VecDeque;

/// Blocks before the newest one whose bitmap can still be proven from.
pub const PROVABLE_BLOCKS: usize = 64;
/// Heights divisible by this write the rows.
pub(crate) const SAVE_EVERY: u64 = 16;
/// From this level up, old hashes are kept; below it, they are made again from at most 2^level chunks.
const KEPT_LEVEL: u32 = 4;

/// A proof about one entry at one block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActiveAt {
    /// Height of the block.
    pub height: u64,
    /// Log index of its block entry: so many entries are covered.
    pub block_index: u64,
    /// The `active_root` in that entry.
    pub root: Hash32,
    /// What the proof says: whether the entry was the latest of its entity.
    pub is_active: bool,
    /// For [`anji_verify::check_active`].
    pub proof: ActiveProof,
}

/// How to go back over one block.
#[derive(Debug)]
struct Step {
    /// Entries covered before it.
    before: u64,
    root_before: Hash32,
    /// What it superseded, ascending.
    cleared: Vec<u64>,
    /// Hashes it replaced, from [`KEPT_LEVEL`] up, by [`node_key`], ascending.
    nodes: Vec<(u64, Hash32)>,
}

fn node_key(level: u32, position: u64) -> u64 {
    (u64::from(level) << 56) | position
}

/// The tree after the newest block, and the way back.
#[derive(Debug)]
pub(crate) struct ActiveHistory {
    tree: ActiveTree,
    /// Height of the newest block; `None` before genesis.
    newest: Option<u64>,
    /// The last one leads back from `newest`.
    steps: VecDeque<Step>,
}

impl ActiveHistory {
    pub(crate) fn new() -> Self {
        Self { tree: ActiveTree::new(), newest: None, steps: VecDeque::new() }
    }

    /// Goes on by one block whose entry will stand at `block_index`. Returns the new root and the chunks that changed.
    pub(crate) fn apply(
        &mut self,
        height: u64,
        block_index: u64,
        set: impl IntoIterator<Item = u64>,
        mut cleared: Vec<u64>,
    ) -> Result<(Hash32, Vec<usize>), WrongBit> {
        cleared.sort_unstable();
        let (before, root_before) = (self.tree.size(), self.tree.root());
        let mut nodes = Vec::new();
        let changed = self.tree.apply(block_index, set, cleared.iter().copied(), &mut |level, position, hash| {
            if level >= KEPT_LEVEL {
                nodes.push((node_key(level, position), hash));
            }
        })?;
        if self.newest.is_some() {
            if self.steps.len() >= PROVABLE_BLOCKS {
                self.steps.pop_front();
            }
            self.steps.push_back(Step { before, root_before, cleared, nodes });
        }
        self.newest = Some(height);
        Ok((self.tree.root(), changed))
    }

    pub(crate) fn chunk(&self, position: usize) -> Option<&Chunk> {
        self.tree.chunks().get(position)
    }

    /// The proof as of the block at `height`; `None` if that is too long ago, not executed, or does not cover the entry.
    pub(crate) fn proof(&self, index: u64, height: u64) -> Option<ActiveAt> {
        let n_later = usize::try_from(self.newest?.checked_sub(height)?).ok()?;
        let first_later = self.steps.len().checked_sub(n_later)?;
        let then = Then { history: self, first_later };
        let (block_index, root) = match self.steps.get(first_later) {
            Some(step) => (step.before, step.root_before),
            None => (self.tree.size(), self.tree.root()),
        };
        if index >= block_index {
            return None;
        }
        let position = index / CHUNK_BITS;
        let chunk = then.chunk(position, block_index);
        let path =
            (0..depth(block_index)).map(|level| then.node(level, (position >> level) ^ 1, block_index)).collect();
        let is_active = bit_of(&chunk, index);
        Some(ActiveAt { height, block_index, root, is_active, proof: ActiveProof { chunk, path } })
    }
}

/// The tree as it was before the steps from `first_later` on.
struct Then<'a> {
    history: &'a ActiveHistory,
    first_later: usize,
}

impl Then<'_> {
    fn later(&self) -> impl Iterator<Item = &Step> {
        self.history.steps.range(self.first_later..)
    }

    fn chunk(&self, position: u64, size: u64) -> Chunk {
        let mut chunk = self.history.tree.chunk(position).copied().unwrap_or([0; CHUNK_BYTES]);
        let (start, end) = (position * CHUNK_BITS, (position + 1) * CHUNK_BITS);
        for step in self.later() {
            let from = step.cleared.partition_point(|index| *index < start);
            let within = step.cleared.iter().skip(from).take_while(|index| **index < end);
            within.for_each(|index| put_bit(&mut chunk, *index, true));
        }
        cut_chunk(&mut chunk, position, size);
        chunk
    }

    fn node(&self, level: u32, position: u64, size: u64) -> Hash32 {
        let tree = &self.history.tree;
        if self.first_later == self.history.steps.len() {
            return tree.node(level, position);
        }
        if level >= KEPT_LEVEL {
            let key = node_key(level, position);
            // The first later block that changed it tells what it was.
            let old = self.later().find_map(|step| {
                let place = step.nodes.binary_search_by_key(&key, |(key, _)| *key).ok()?;
                step.nodes.get(place).map(|(_, hash)| *hash)
            });
            return old.unwrap_or_else(|| tree.node(level, position));
        }
        match level.checked_sub(1) {
            None => tree.hasher().chunk(&self.chunk(position, size)),
            Some(below) => {
                let child = |side| self.node(below, position * 2 + side, size);
                tree.hasher().node(&child(0), &child(1))
            }
        }
    }
}

/// The history as a start makes it, and the chunks that changed since the rows were written.
pub(crate) struct LoadedActive {
    pub(crate) history: ActiveHistory,
    pub(crate) unsaved: Vec<usize>,
}

/// Log index of the block entry of `height`.
fn load_block_index(state: &State, height: u64) -> Result<u64, ReadError> {
    let key = height.to_be_bytes();
    let record = state.get(ROOTS, &key)?.and_then(|value| codec::decode::<BlockRecord>(&value).ok());
    let size = record.filter(|record| record.height == height).and_then(|record| record.log.size.checked_sub(1));
    size.ok_or_else(|| damaged(ROOTS, &key, "there is no record of this height"))
}

fn load_active_root(state: &State, block_index: u64, height: u64) -> Result<Hash32, ReadError> {
    match state.entry(block_index)?.map(|value| codec::decode::<Entry>(&value)) {
        Some(Ok(Entry::Block(entry))) if entry.height == height => Ok(entry.active_root),
        _ => Err(entry_damaged(block_index, "it is not the block entry that should stand here")),
    }
}

/// What the entries from `start` up to the block entry do.
fn load_links(state: &State, start: u64, block_index: u64) -> Result<(Vec<u64>, Vec<u64>), ReadError> {
    let mut links = BlockLinks::new(start);
    let mut next = start;
    state.walk_entries(start, true, |_, value| {
        if next == block_index {
            return Ok(false);
        }
        if let Some(head) = entity_head(value) {
            links.add(next, head.prev_index);
        }
        next += 1;
        Ok(true)
    })?;
    Ok(links.finish())
}

fn load_rows(state: &State, block_index: u64) -> Result<Vec<Chunk>, ReadError> {
    let mut chunks: Vec<Chunk> = Vec::new();
    state.walk(ACTIVE, IteratorMode::Start, false, |key, value| {
        let chunk = <Chunk>::try_from(value).map_err(|_| damaged(ACTIVE, key, "it is not 256 bytes"))?;
        if key != (chunks.len() as u64).to_be_bytes() {
            return Err(damaged(ACTIVE, key, "a chunk before it is missing"));
        }
        chunks.push(chunk);
        Ok(true)
    })?;
    if chunks.len() as u64 != n_chunks(block_index) {
        return Err(damaged(ACTIVE, b"", &format!("it has {} chunks for {block_index} entries", chunks.len())));
    }
    Ok(chunks)
}

/// Reads the bitmap back and compares it with what the newest block entries commit to.
pub(crate) fn load_active(state: &State, last: &BlockRecord) -> Result<LoadedActive, ReadError> {
    let saved =
        state.get(META, META_ACTIVE)?.and_then(|value| Some(u64::from_be_bytes(value.as_ref().try_into().ok()?)));
    let saved = saved.filter(|saved| *saved <= last.height);
    let saved = saved.ok_or_else(|| damaged(META, META_ACTIVE, "it names no height whose rows are there"))?;
    let saved_index = load_block_index(state, saved)?;
    let rows = load_rows(state, saved_index)?;
    let mut chunks = rows.clone();

    let oldest = last.height.saturating_sub(PROVABLE_BLOCKS as u64).min(saved);
    let oldest_index = load_block_index(state, oldest)?;
    let mut blocks = Vec::new();
    let mut start = oldest_index + 1;
    for height in oldest + 1..=last.height {
        let block_index = load_block_index(state, height)?;
        blocks.push((height, block_index, load_links(state, start, block_index)?));
        start = block_index + 1;
    }
    // Back to the oldest block: what was superseded since was the latest then.
    for (_, _, (_, cleared)) in blocks.iter().take_while(|(height, ..)| *height <= saved) {
        for index in cleared.iter().filter(|index| **index < oldest_index) {
            let chunk = usize::try_from(*index / CHUNK_BITS).ok().and_then(|place| chunks.get_mut(place));
            chunk.into_iter().for_each(|chunk| put_bit(chunk, *index, true));
        }
    }
    chunks.truncate(usize::try_from(n_chunks(oldest_index)).unwrap_or(usize::MAX));
    let last_chunk = n_chunks(oldest_index) - 1;
    chunks.last_mut().into_iter().for_each(|chunk| cut_chunk(chunk, last_chunk, oldest_index));
    // And forward again.
    let wrong =
        |height: u64| damaged(ACTIVE, b"", &format!("the bitmap is not the one that block {height} commits to"));
    let tree = ActiveTree::from_chunks(oldest_index, chunks).ok_or_else(|| wrong(oldest))?;
    if tree.root() != load_active_root(state, oldest_index, oldest)? {
        return Err(wrong(oldest));
    }
    let mut history = ActiveHistory { tree, newest: Some(oldest), steps: VecDeque::new() };
    let mut unsaved = Vec::new();
    for (height, block_index, (set, cleared)) in blocks {
        let (root, changed) = history.apply(height, block_index, set, cleared).map_err(|_| wrong(height))?;
        let are_rows = height != saved || history.tree.chunks() == rows;
        if !are_rows || root != load_active_root(state, block_index, height)? {
            return Err(wrong(height));
        }
        if height > saved {
            unsaved.extend(changed);
        }
    }
    Ok(LoadedActive { history, unsaved })
}
