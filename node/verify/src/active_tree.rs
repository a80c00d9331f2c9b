//! The tree over the bitmap "this entry is the latest of its entity". With a block entry's `active_root`, one chunk of the bitmap and its
//! path, a set bit proves that an entry held the **current** state at that block, a cleared one that it had been superseded.
//!
//! Bit i stands for log index i; bits of batch and block entries are never set. A leaf is a chunk of 2,048 bits, bit i in byte
//! (i mod 2,048) / 8, lowest bit first. The tree is perfect and just deep enough for the chunks of `size` entries; what is past the end is
//! zero. [`ActiveTree`] keeps all of it in memory: 256 bytes and two hashes for 2,048 entries.

use crate::proof_error::ProofError;
use alloc::vec::Vec;
use anji_contracts::codec::Domain;
use anji_contracts::entry::NO_PREVIOUS;
use anji_contracts::types::Hash32;
use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};
use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;

/// Entries under one leaf.
pub const CHUNK_BITS: u64 = 2048;
/// Bytes of a leaf.
pub const CHUNK_BYTES: usize = 256;
/// A piece of the bitmap.
pub type Chunk = [u8; CHUNK_BYTES];
/// Deepest possible tree: 2^53 chunks hold the bits of 2^64 entries.
pub const MAX_DEPTH: u32 = 53;

const EMPTY: Chunk = [0; CHUNK_BYTES];

/// Number of chunks of a bitmap of `size` bits: at least one.
#[must_use]
pub fn n_chunks(size: u64) -> u64 {
    size.div_ceil(CHUNK_BITS).max(1)
}

/// Levels above the chunks: the smallest d with 2^d ≥ [`n_chunks`].
#[must_use]
pub fn depth(size: u64) -> u32 {
    n_chunks(size).next_power_of_two().trailing_zeros()
}

fn chunk_of(index: u64) -> u64 {
    index.checked_div(CHUNK_BITS).unwrap_or(0)
}

/// Byte within the chunk, and mask within the byte.
fn place_of(index: u64) -> (usize, u8) {
    let bit = index & (CHUNK_BITS - 1);
    (usize::try_from(bit >> 3).unwrap_or(0), 1 << (bit & 7))
}

/// The bit of a log index in its chunk.
#[must_use]
pub fn bit_of(chunk: &Chunk, index: u64) -> bool {
    let (byte, mask) = place_of(index);
    chunk.get(byte).is_some_and(|byte| byte & mask != 0)
}

/// Sets or clears the bit of a log index in its chunk.
pub fn put_bit(chunk: &mut Chunk, index: u64, value: bool) {
    let (byte, mask) = place_of(index);
    if let Some(byte) = chunk.get_mut(byte) {
        *byte = if value { *byte | mask } else { *byte & !mask };
    }
}

/// Clears the bits of a chunk from `size` on.
pub fn cut_chunk(chunk: &mut Chunk, position: u64, size: u64) {
    let start = position.saturating_mul(CHUNK_BITS);
    for index in size.max(start)..start.saturating_add(CHUNK_BITS) {
        put_bit(chunk, index, false);
    }
}

/// Hashes chunks and nodes: BLAKE3 in `derive_key` mode, the keys derived once.
#[derive(Clone)]
pub struct ActiveHasher {
    chunk: ContextKey,
    node: ContextKey,
}

impl fmt::Debug for ActiveHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ActiveHasher")
    }
}

impl Default for ActiveHasher {
    fn default() -> Self {
        Self {
            chunk: hash_derive_key_context(Domain::ActiveChunk.context()),
            node: hash_derive_key_context(Domain::ActiveNode.context()),
        }
    }
}

impl ActiveHasher {
    /// Hash of a leaf.
    #[must_use]
    pub fn chunk(&self, chunk: &Chunk) -> Hash32 {
        Hash32(*blake3::Hasher::new_from_context_key(&self.chunk).update(chunk).finalize().as_bytes())
    }

    /// Hash of an inner node.
    #[must_use]
    pub fn node(&self, left: &Hash32, right: &Hash32) -> Hash32 {
        let mut hasher = blake3::Hasher::new_from_context_key(&self.node);
        Hash32(*hasher.update(&left.0).update(&right.0).finalize().as_bytes())
    }

    /// Root of a tree without a set bit, by its depth from 0 to [`MAX_DEPTH`].
    #[must_use]
    pub fn zeros(&self) -> Vec<Hash32> {
        let mut zeros = alloc::vec![self.chunk(&EMPTY)];
        for _ in 0..MAX_DEPTH {
            let below = zeros.last().copied().unwrap_or(Hash32::ZERO);
            zeros.push(self.node(&below, &below));
        }
        zeros
    }
}

/// A chunk of the bitmap with its path.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct ActiveProof {
    /// The chunk that holds the bit.
    pub chunk: Chunk,
    /// Siblings from the chunk up.
    pub path: Vec<Hash32>,
}

/// What a proof says about the entry at `index`: `true` if it held the latest state of its entity at the block whose entry stands at
/// `block_index` and has this `active_root`, `false` if it had been superseded (or is no entity's).
///
/// # Errors
/// [`ProofError`]: nothing is known then.
///
/// # Correctness
/// Trust in `root` must come from the block entry itself, at `block_index` of a trusted log.
pub fn check_active(proof: &ActiveProof, index: u64, block_index: u64, root: &Hash32) -> Result<bool, ProofError> {
    if index >= block_index {
        return Err(ProofError::OutOfRange);
    }
    if u32::try_from(proof.path.len()) != Ok(depth(block_index)) {
        return Err(ProofError::WrongLength);
    }
    let hasher = ActiveHasher::default();
    let mut place = chunk_of(index);
    let mut cut = proof.chunk;
    cut_chunk(&mut cut, place, block_index);
    if cut != proof.chunk {
        return Err(ProofError::BitsPastEnd);
    }
    let mut found = hasher.chunk(&proof.chunk);
    for sibling in &proof.path {
        found = if place & 1 == 1 { hasher.node(sibling, &found) } else { hasher.node(&found, sibling) };
        place >>= 1;
    }
    if found == *root { Ok(bit_of(&proof.chunk, index)) } else { Err(ProofError::WrongRoot) }
}

/// What the entries of one block do to the bitmap, collected from their links to the versions before.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BlockLinks {
    start: u64,
    set: Vec<u64>,
    replaced: Vec<u64>,
    cleared: Vec<u64>,
}

impl BlockLinks {
    /// A block whose first entry stands at `start`.
    #[must_use]
    pub fn new(start: u64) -> Self {
        Self { start, ..Self::default() }
    }

    /// Takes an entity's entry in, in log order; `prev_index` is as in the entry.
    pub fn add(&mut self, index: u64, prev_index: u64) {
        self.set.push(index);
        match prev_index {
            NO_PREVIOUS => {}
            within if within >= self.start => self.replaced.push(within),
            before => self.cleared.push(before),
        }
    }

    /// What becomes the latest of its entity, and what ceases to be: the arguments of [`ActiveTree::apply`].
    #[must_use]
    pub fn finish(mut self) -> (Vec<u64>, Vec<u64>) {
        self.replaced.sort_unstable();
        self.set.retain(|index| self.replaced.binary_search(index).is_err());
        self.cleared.sort_unstable();
        (self.set, self.cleared)
    }
}

/// A bit was to change that cannot: the block does not follow from the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongBit {
    /// The log index.
    pub index: u64,
}

impl fmt::Display for WrongBit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {} cannot become or cease to be the latest of its entity", self.index)
    }
}

impl core::error::Error for WrongBit {}

/// The whole bitmap with all its hashes.
#[derive(Clone, Debug)]
pub struct ActiveTree {
    size: u64,
    chunks: Vec<Chunk>,
    /// By level from the chunks' hashes up to the root; what lies right of a level's end is zero.
    levels: Vec<Vec<Hash32>>,
    zeros: Vec<Hash32>,
    hasher: ActiveHasher,
}

impl Default for ActiveTree {
    fn default() -> Self {
        Self::new()
    }
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

impl ActiveTree {
    /// The tree over no entries.
    #[must_use]
    pub fn new() -> Self {
        Self::from_chunks(0, alloc::vec![EMPTY]).unwrap_or_else(|| Self {
            size: 0,
            chunks: Vec::new(),
            levels: Vec::new(),
            zeros: Vec::new(),
            hasher: ActiveHasher::default(),
        })
    }

    /// The tree over a bitmap of `size` bits. `None` if there are not exactly the chunks of that size, or bits are set past the end.
    #[must_use]
    pub fn from_chunks(size: u64, chunks: Vec<Chunk>) -> Option<Self> {
        if u64::try_from(chunks.len()) != Ok(n_chunks(size)) {
            return None;
        }
        let last = n_chunks(size).saturating_sub(1);
        let mut cut = *chunks.last()?;
        cut_chunk(&mut cut, last, size);
        if cut != *chunks.last()? {
            return None;
        }
        let hasher = ActiveHasher::default();
        let n_chunks = chunks.len();
        let mut tree = Self { size, chunks, levels: Vec::new(), zeros: hasher.zeros(), hasher };
        tree.rehash((0..n_chunks).collect(), &mut |_, _, _| {});
        Some(tree)
    }

    /// Entries covered: the index of the block entry that holds [`Self::root`].
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Hash32 {
        self.node(depth(self.size), 0)
    }

    /// Whether the entry is the latest of its entity.
    #[must_use]
    pub fn is_active(&self, index: u64) -> bool {
        index < self.size && self.chunk(chunk_of(index)).is_some_and(|chunk| bit_of(chunk, index))
    }

    /// A chunk; `None` past the end.
    #[must_use]
    pub fn chunk(&self, position: u64) -> Option<&Chunk> {
        self.chunks.get(to_usize(position))
    }

    /// All chunks.
    #[must_use]
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Hash of the subtree at `position` of a level, level 0 being the chunks.
    #[must_use]
    pub fn node(&self, level: u32, position: u64) -> Hash32 {
        let level = usize::try_from(level).unwrap_or(usize::MAX);
        let known = self.levels.get(level).and_then(|hashes| hashes.get(to_usize(position)));
        known.or_else(|| self.zeros.get(level)).copied().unwrap_or(Hash32::ZERO)
    }

    /// The hasher, for those who compute older nodes.
    #[must_use]
    pub const fn hasher(&self) -> &ActiveHasher {
        &self.hasher
    }

    /// The proof of the entry's bit; `None` if it is not covered.
    #[must_use]
    pub fn proof(&self, index: u64) -> Option<ActiveProof> {
        if index >= self.size {
            return None;
        }
        let chunk = *self.chunk(chunk_of(index))?;
        let path = (0..depth(self.size)).map(|level| self.node(level, (chunk_of(index) >> level) ^ 1)).collect();
        Some(ActiveProof { chunk, path })
    }

    /// Goes on to `size` entries: those in `set`, all of them new, become the latest of their entities; those in `cleared`, all of them
    /// old, cease to be. `on_old(level, position, hash)` is told every hash that changes, as it was. Returns the changed chunks in order.
    ///
    /// # Errors
    /// [`WrongBit`]; the tree is of no use then.
    pub fn apply(
        &mut self,
        size: u64,
        set: impl IntoIterator<Item = u64>,
        cleared: impl IntoIterator<Item = u64>,
        on_old: &mut impl FnMut(u32, u64, Hash32),
    ) -> Result<Vec<usize>, WrongBit> {
        let before = self.size;
        if size < before {
            return Err(WrongBit { index: size });
        }
        let n_before = self.chunks.len();
        self.chunks.resize(to_usize(n_chunks(size)), EMPTY);
        let mut dirty: Vec<usize> = (n_before..self.chunks.len()).collect();
        let changes = set.into_iter().map(|index| (index, true)).chain(cleared.into_iter().map(|index| (index, false)));
        for (index, value) in changes {
            let position = to_usize(chunk_of(index));
            let chunk = self.chunks.get_mut(position).ok_or(WrongBit { index })?;
            let is_new = index >= before;
            if index >= size || is_new != value || bit_of(chunk, index) == value {
                return Err(WrongBit { index });
            }
            put_bit(chunk, index, value);
            if dirty.last() != Some(&position) {
                dirty.push(position);
            }
        }
        dirty.sort_unstable();
        dirty.dedup();
        self.size = size;
        self.rehash(dirty.clone(), on_old);
        Ok(dirty)
    }

    /// Hashes the changed chunks and everything above them.
    fn rehash(&mut self, mut dirty: Vec<usize>, on_old: &mut impl FnMut(u32, u64, Hash32)) {
        let mut n_nodes = self.chunks.len();
        for level in 0..=depth(self.size) {
            let at = usize::try_from(level).unwrap_or(usize::MAX);
            let zero = self.zeros.get(at).copied().unwrap_or(Hash32::ZERO);
            let below = at.checked_sub(1).map(|below| (below, self.zeros.get(below).copied().unwrap_or(Hash32::ZERO)));
            if self.levels.len() <= at {
                self.levels.push(Vec::new());
                // A level that is new covers everything below.
                dirty = (0..n_nodes).collect();
            }
            let (lower, upper) = self.levels.split_at_mut(at);
            let Some(hashes) = upper.first_mut() else { return };
            hashes.resize(n_nodes, zero);
            for position in &dirty {
                let hash = match below {
                    None => self.chunks.get(*position).map(|chunk| self.hasher.chunk(chunk)),
                    Some((below, zero)) => {
                        let children = lower.get(below);
                        let child = |side| children.and_then(|hashes| hashes.get(position.wrapping_mul(2) | side));
                        Some(self.hasher.node(child(0).unwrap_or(&zero), child(1).unwrap_or(&zero)))
                    }
                };
                if let (Some(slot), Some(hash)) = (hashes.get_mut(*position), hash) {
                    on_old(level, u64::try_from(*position).unwrap_or(u64::MAX), *slot);
                    *slot = hash;
                }
            }
            dirty.iter_mut().for_each(|position| *position >>= 1);
            dirty.dedup();
            n_nodes = n_nodes.div_ceil(2);
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test"
)]
mod tests;
