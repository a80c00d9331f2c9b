//! Proofs out of what is stored: tiles for the log, the bitmap's tree for what is current. Checked by `anji-verify`.

use crate::active::ActiveAt;
use crate::columns::{TILES, tile_key};
use crate::error::ReadError;
use crate::reader::Reader;
use crate::state::{State, damaged};
use crate::tiles::load_tile;
use anji_contracts::types::Hash32;
use anji_verify::LogTree;
use anji_verify::log_proof::{consistency_path, inclusion_path};
use anji_verify::log_tree::{TILE_WIDTH, subtree_root};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Full tiles above the lowest level that are kept with all their inner nodes: 16 KiB each, and each is over 65,536 entries or more.
const KEPT_TILES: usize = 256;

/// A tile and the hashes of the whole subtrees above it, level by level: 256, 128, … 1 for a full one.
type TileNodes = Arc<Vec<Vec<Hash32>>>;

/// Full tiles that proofs needed lately, newest last. What they hold never changes.
#[derive(Debug, Default)]
pub(crate) struct KeptTiles(Mutex<Vec<((u8, u64), TileNodes)>>);

impl KeptTiles {
    fn get(&self, tile: (u8, u64)) -> Option<TileNodes> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().rposition(|(known, _)| *known == tile)?;
        let newest = kept.remove(found);
        let nodes = Arc::clone(&newest.1);
        kept.push(newest);
        Some(nodes)
    }

    fn keep(&self, tile: (u8, u64), nodes: &TileNodes) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.iter().all(|(known, _)| *known != tile) {
            if kept.len() >= KEPT_TILES {
                kept.remove(0);
            }
            kept.push((tile, Arc::clone(nodes)));
        }
    }
}

/// Hashes of the log as of one block: full tiles from disk, the right edge from memory.
struct Tiles<'a> {
    state: &'a State,
    edge: Arc<LogTree>,
    read: HashMap<(u8, u64), TileNodes>,
}

impl<'a> Tiles<'a> {
    fn new(state: &'a State) -> Self {
        Self { state, edge: state.log_tree(), read: HashMap::new() }
    }

    /// Hashes of a tile, full or not; none past the right edge.
    fn tile(&self, level: u8, index: u64) -> Result<Cow<'_, [Hash32]>, ReadError> {
        let n_full = self.n_full(level);
        if index >= n_full {
            return Ok(Cow::Borrowed(if index == n_full { self.edge.partial_tile(level) } else { &[] }));
        }
        let missing = || damaged(TILES, &tile_key(level, index), "it is missing");
        load_tile(self.state, level, index)?.map(Cow::Owned).ok_or_else(missing)
    }

    fn n_full(&self, level: u8) -> u64 {
        self.edge.size().checked_shr((u32::from(level) + 1) * 8).unwrap_or(0)
    }

    /// A tile with its inner nodes, hashed once.
    fn nodes(&mut self, level: u8, index: u64) -> Result<TileNodes, ReadError> {
        if let Some(known) = self.read.get(&(level, index)) {
            return Ok(Arc::clone(known));
        }
        // Those of the lowest level are too many to be asked for again, and the one at the edge grows.
        let is_kept = level > 0 && index < self.n_full(level);
        let kept = if is_kept { self.state.tiles.get((level, index)) } else { None };
        let nodes = match kept {
            Some(kept) => kept,
            None => {
                let nodes = Arc::new(inner_nodes(self.tile(level, index)?.into_owned()));
                if is_kept {
                    self.state.tiles.keep((level, index), &nodes);
                }
                nodes
            }
        };
        self.read.insert((level, index), Arc::clone(&nodes));
        Ok(nodes)
    }

    /// Root of the whole subtree of 2^level entries at `index`.
    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash32, ReadError> {
        let within = level % 8;
        let tile_level = u8::try_from(level / 8).unwrap_or(u8::MAX);
        let first = index << within;
        let (tile, offset) = (first / TILE_WIDTH as u64, usize::try_from(first % TILE_WIDTH as u64).unwrap_or(0));
        let nodes = self.nodes(tile_level, tile)?;
        let root = nodes.get(within as usize).and_then(|level| level.get(offset >> within)).copied();
        root.ok_or_else(|| damaged(TILES, &[], &format!("there is no subtree {index} of level {level}")))
    }
}

/// The hashes of a tile and of the whole subtrees above them.
fn inner_nodes(hashes: Vec<Hash32>) -> Vec<Vec<Hash32>> {
    let mut nodes = vec![hashes];
    while let Some(below) = nodes.last().filter(|it| it.len() > 1) {
        nodes.push(below.chunks_exact(2).filter_map(subtree_root).collect());
    }
    nodes
}

/// Makes audit paths in the log of its first so many entries; tiles are read once for all of them.
pub struct LogProver<'a> {
    tiles: Tiles<'a>,
    size: u64,
}

impl LogProver<'_> {
    /// The audit path of the entry at `index`, for [`anji_verify::check_inclusion`]. `None` if there is no such entry.
    ///
    /// # Errors
    /// The store failed, or is damaged.
    pub fn inclusion(&mut self, index: u64) -> Result<Option<Vec<Hash32>>, ReadError> {
        if index >= self.size {
            return Ok(None);
        }
        inclusion_path(index, self.size, |level, index| self.tiles.subtree(level, index)).map(Some)
    }
}

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl Reader {
    /// The maker of audit paths in the log of its first `size` entries. `None` if the log is not so long.
    #[must_use]
    pub fn prover(&self, size: u64) -> Option<LogProver<'_>> {
        let tiles = Tiles::new(&self.state);
        (size <= tiles.edge.size()).then_some(LogProver { tiles, size })
    }

    /// The audit path of the entry at `index` in the log of its first `size` entries, for [`anji_verify::check_inclusion`]. `None` if
    /// there is no such entry in it, or the log is not so long.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Option<Vec<Hash32>>, ReadError> {
        self.prover(size).map_or(Ok(None), |mut prover| prover.inclusion(index))
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
