//! Proofs out of what is stored: tiles for the log, the bitmap's tree for what is current. Checked by `anji-verify`.

use crate::active::ActiveAt;
use crate::error::ReadError;
use crate::reader::Reader;
use crate::state::{State, place};
use crate::tiles::load_tile;
use anji_contracts::types::Hash32;
use anji_verify::LogTree;
use anji_verify::log_proof::{consistency_path, inclusion_path};
use anji_verify::log_tree::{TILE_WIDTH, subtree_root};
use std::collections::HashMap;
use std::sync::Arc;

/// Hashes of the log as of one block: full tiles from disk, the right edge from memory.
struct Tiles<'a> {
    state: &'a State,
    edge: Arc<LogTree>,
    read: HashMap<(u8, u64), Vec<Hash32>>,
}

impl<'a> Tiles<'a> {
    fn new(state: &'a State) -> Self {
        Self { state, edge: state.log_tree(), read: HashMap::new() }
    }

    /// Hashes of a tile, full or not.
    fn tile(&mut self, level: u8, index: u64) -> Result<&[Hash32], ReadError> {
        let n_hashes = self.edge.size().checked_shr(u32::from(level) * 8).unwrap_or(0);
        if index >= n_hashes / TILE_WIDTH as u64 {
            return Ok(if index == n_hashes / TILE_WIDTH as u64 { self.edge.partial_tile(level) } else { &[] });
        }
        if !self.read.contains_key(&(level, index)) {
            let missing = || ReadError::Corrupted {
                place: place(crate::columns::TILES, &crate::columns::tile_key(level, index)),
                what: "it is missing".into(),
            };
            let tile = load_tile(self.state, level, index)?.ok_or_else(missing)?;
            self.read.insert((level, index), tile);
        }
        Ok(self.read.get(&(level, index)).map_or(&[], Vec::as_slice))
    }

    /// Root of the whole subtree of 2^level entries at `index`.
    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash32, ReadError> {
        let within = level % 8;
        let tile_level = u8::try_from(level / 8).unwrap_or(u8::MAX);
        let first = index << within;
        let (tile, offset) = (first / TILE_WIDTH as u64, usize::try_from(first % TILE_WIDTH as u64).unwrap_or(0));
        let hashes = self.tile(tile_level, tile)?;
        let root = hashes.get(offset..offset + (1 << within)).and_then(subtree_root);
        root.ok_or_else(|| ReadError::Corrupted {
            place: "state, column family tiles".into(),
            what: format!("there is no subtree {index} of level {level}"),
        })
    }
}

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl Reader {
    /// The audit path of the entry at `index` in the log of its first `size` entries, for [`anji_verify::check_inclusion`]. `None` if
    /// there is no such entry in it, or the log is not so long.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Option<Vec<Hash32>>, ReadError> {
        let mut tiles = Tiles::new(&self.state);
        if index >= size || size > tiles.edge.size() {
            return Ok(None);
        }
        inclusion_path(index, size, |level, index| tiles.subtree(level, index)).map(Some)
    }

    /// The proof that the log of `new` entries begins with that of `old`, for [`anji_verify::check_consistency`]. `None` if it has no
    /// such sizes.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Option<Vec<Hash32>>, ReadError> {
        let mut tiles = Tiles::new(&self.state);
        if old > new || new > tiles.edge.size() {
            return Ok(None);
        }
        consistency_path(old, new, |level, index| tiles.subtree(level, index)).map(Some)
    }

    /// The first `width` hashes of a tile of the log (C2SP level and index), full or partial. `None` if the log has not so many.
    pub fn tile_prefix(&self, level: u8, index: u64, width: usize) -> Result<Option<Vec<Hash32>>, ReadError> {
        Ok(Tiles::new(&self.state).tile(level, index)?.get(..width).map(<[Hash32]>::to_vec))
    }

    /// Proves whether the entry at `index` was the latest of its entity after the block at `height`. `None` if the block is not among the
    /// newest [`crate::PROVABLE_BLOCKS`] before the last executed one, or ended before the entry. Safe beside a running execution; waits
    /// for a commit's hashing at most.
    pub fn active_proof(&self, index: u64, height: u64) -> Result<Option<ActiveAt>, ReadError> {
        if self.state.last().is_none_or(|last| height > last.height) {
            return Ok(None);
        }
        Ok(self.state.active().proof(index, height))
    }
}
