//! The log tree over the stored tiles. Only full tiles are stored; the right edge is made again at start from the newest entries and
//! the newest tiles, and its root must be the one of the last executed block.

use crate::columns::{ENTRIES, TILES, tile_key};
use crate::entries::row_key;
use crate::error::ReadError;
use crate::state::{State, damaged};
use anji_contracts::types::Hash32;
use anji_verify::log_tree::{TILE_WIDTH, leaf_hash, subtree_root};
use anji_verify::{LogRoot, LogTree};

pub(crate) fn decode_tile(bytes: &[u8]) -> Option<Vec<Hash32>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    (rest.is_empty() && hashes.len() == TILE_WIDTH).then(|| hashes.iter().map(|hash| Hash32(*hash)).collect())
}

pub(crate) fn load_tile(state: &State, level: u8, index: u64) -> Result<Option<Vec<Hash32>>, ReadError> {
    let key = tile_key(level, index);
    let Some(bytes) = state.get(TILES, &key)? else { return Ok(None) };
    decode_tile(&bytes).map(Some).ok_or_else(|| damaged(TILES, &key, "it is not 256 hashes"))
}

/// Rebuilds the right edge of a log of `expected.size` entries and compares its root.
pub(crate) fn load_tree(state: &State, expected: &LogRoot) -> Result<LogTree, ReadError> {
    let missing = |family: &str, key: &[u8]| damaged(family, key, "it is missing");
    let mut edge = Vec::new();
    for (level, (n_full, n_partial)) in LogTree::edge_shape(expected.size).into_iter().enumerate() {
        let first = n_full * TILE_WIDTH as u64;
        let mut hashes = Vec::with_capacity(TILE_WIDTH);
        for index in first..first + n_partial as u64 {
            let hash = match level.checked_sub(1) {
                None => {
                    let entry = state.entry(index)?.ok_or_else(|| missing(ENTRIES, &row_key(index)))?;
                    leaf_hash(&entry)
                }
                Some(below) => {
                    let below = u8::try_from(below).unwrap_or(u8::MAX);
                    load_tile(state, below, index)?
                        .and_then(|tile| subtree_root(&tile))
                        .ok_or_else(|| missing(TILES, &tile_key(below, index)))?
                }
            };
            hashes.push(hash);
        }
        edge.push(hashes);
    }
    let tree = LogTree::from_edge(expected.size, edge).filter(|tree| tree.root() == *expected);
    tree.ok_or_else(|| ReadError::Corrupted {
        place: "state, column families entries and tiles".into(),
        what: format!("the log of {} entries does not have the root {}", expected.size, expected.root),
    })
}

/// Hashes the newest `n_entries` entries again and compares them with the stored tiles, and every tile touched with the one above it.
pub(crate) fn check_entries(
    state: &State,
    size: u64,
    n_entries: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<(), ReadError> {
    let n_full = size / TILE_WIDTH as u64;
    let first = size.saturating_sub(n_entries) / TILE_WIDTH as u64;
    for index in first..n_full {
        let tile = load_tile(state, 0, index)?;
        let start = index * TILE_WIDTH as u64;
        let indexes: Vec<u64> = (start..start + TILE_WIDTH as u64).collect();
        let mut hashes = Vec::with_capacity(TILE_WIDTH);
        state.visit_entries_at(&indexes, |_, entry| {
            hashes.extend(entry.map(leaf_hash));
            Ok(())
        })?;
        if tile.as_ref() != Some(&hashes) {
            let what = format!("entries {start} and the 255 after it do not hash to their tile");
            return Err(damaged(TILES, &tile_key(0, index), &what));
        }
        progress(start);
    }
    let mut level = 0u8;
    let mut n_full = n_full;
    let mut first = first;
    while n_full / (TILE_WIDTH as u64) > 0 {
        let n_above = n_full / TILE_WIDTH as u64;
        first /= TILE_WIDTH as u64;
        for index in first..n_above {
            let above = load_tile(state, level + 1, index)?;
            let start = index * TILE_WIDTH as u64;
            let mut hashes = Vec::with_capacity(TILE_WIDTH);
            for below in start..start + TILE_WIDTH as u64 {
                hashes.extend(load_tile(state, level, below)?.and_then(|tile| subtree_root(&tile)));
            }
            if above.as_ref() != Some(&hashes) {
                return Err(damaged(TILES, &tile_key(level + 1, index), "the tiles below do not hash to it"));
            }
        }
        level += 1;
        n_full = n_above;
    }
    Ok(())
}
