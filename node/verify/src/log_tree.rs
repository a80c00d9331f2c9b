//! The append-only log tree of RFC 6962: SHA-256, leaf = H(0x00 ‖ entry), node = H(0x01 ‖ left ‖ right). Hashes are stored as
//! C2SP tlog-tiles: a full tile holds the 256 hashes of one level under one hash eight levels up.
//! [`LogTree`] keeps only the right edge: at most 255 hashes a tile level, so memory does not grow with the log.

use alloc::vec::Vec;
use anji_contracts::types::Hash32;
use borsh::{BorshDeserialize, BorshSerialize};
use sha2::{Digest, Sha256};

/// Hashes in a full tile.
pub const TILE_WIDTH: usize = 256;

/// Size and root of the log: what headers and checkpoints commit to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct LogRoot {
    /// Number of entries.
    pub size: u64,
    /// RFC 6962 root over them.
    pub root: Hash32,
}

/// Hash of an entry.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash32 {
    Hash32(Sha256::new().chain_update([0]).chain_update(entry).finalize().into())
}

/// Hash of an inner node.
#[must_use]
pub fn node_hash(left: &Hash32, right: &Hash32) -> Hash32 {
    Hash32(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// Root over hashes of one level, in RFC 6962 shape; `None` for no hashes.
#[must_use]
pub fn subtree_root(hashes: &[Hash32]) -> Option<Hash32> {
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .filter_map(|pair| match pair {
                [left, right] => Some(node_hash(left, right)),
                [lone] => Some(*lone),
                _ => None,
            })
            .collect();
    }
    level.first().copied()
}

/// A tile that became full: C2SP level (0 = leaves), index within the level, 256 hashes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FullTile {
    /// Level: hashes here are roots of subtrees of 256^level leaves.
    pub level: u8,
    /// Index within the level.
    pub index: u64,
    /// 256 hashes.
    pub hashes: Vec<Hash32>,
}

/// The right edge of the tree: per tile level the hashes of the tile that is not full yet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogTree {
    size: u64,
    edge: Vec<Vec<Hash32>>,
}

impl LogTree {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Rebuilds the right edge from stored hashes: `edge[level]` holds the hashes of that level's partial tile, in order.
    /// `None` if the numbers of hashes do not fit `size`.
    #[must_use]
    pub fn from_edge(size: u64, edge: Vec<Vec<Hash32>>) -> Option<Self> {
        let mut left = size;
        for level in &edge {
            if u64::try_from(level.len()).ok()? != left.checked_rem(256)? {
                return None;
            }
            left = left.checked_div(256)?;
        }
        (left == 0).then_some(Self { size, edge })
    }

    /// For a log of `size` entries: per tile level (number of full tiles, hashes in the partial tile). What [`Self::from_edge`] needs.
    #[must_use]
    pub fn edge_shape(size: u64) -> Vec<(u64, usize)> {
        let mut shape = Vec::new();
        let mut left = size;
        while left > 0 {
            let full = left.checked_div(256).unwrap_or(0);
            let partial = usize::try_from(left.checked_rem(256).unwrap_or(0)).unwrap_or(0);
            shape.push((full, partial));
            left = full;
        }
        shape
    }

    /// Number of entries.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The hashes of a level's tile that is not full yet; empty for a level without one.
    #[must_use]
    pub fn partial_tile(&self, level: u8) -> &[Hash32] {
        self.edge.get(usize::from(level)).map_or(&[], Vec::as_slice)
    }

    /// Appends the hash of the next entry; tiles that became full are handed to `on_full`.
    pub fn append(&mut self, leaf: Hash32, on_full: &mut impl FnMut(FullTile)) {
        let index = self.size;
        self.size = self.size.saturating_add(1);
        let mut hash = leaf;
        let mut position = index;
        let mut level = 0usize;
        loop {
            if self.edge.len() <= level {
                self.edge.push(Vec::with_capacity(TILE_WIDTH));
            }
            let Some(tile) = self.edge.get_mut(level) else { return };
            tile.push(hash);
            if tile.len() < TILE_WIDTH {
                return;
            }
            let hashes = core::mem::replace(tile, Vec::with_capacity(TILE_WIDTH));
            let Some(root) = subtree_root(&hashes) else { return };
            position = position.checked_div(256).unwrap_or(0);
            on_full(FullTile { level: u8::try_from(level).unwrap_or(u8::MAX), index: position, hashes });
            hash = root;
            level = level.saturating_add(1);
        }
    }

    /// Size and root now.
    #[must_use]
    pub fn root(&self) -> LogRoot {
        // From the right edge upwards: whatever is to the right of a level's partial tile hangs below its last place.
        let mut right: Option<Hash32> = None;
        for tile in &self.edge {
            let mut hashes = tile.clone();
            hashes.extend(right);
            right = subtree_root(&hashes);
        }
        let root = right.unwrap_or_else(|| Hash32(Sha256::digest([]).into()));
        LogRoot { size: self.size, root }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962 section 2.1, written as it stands there.
    fn naive_root(leaves: &[Hash32]) -> Hash32 {
        match leaves {
            [] => Hash32(Sha256::digest([]).into()),
            [lone] => *lone,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                let (left, right) = leaves.split_at(split);
                node_hash(&naive_root(left), &naive_root(right))
            }
        }
    }

    #[test]
    fn root_equals_the_rfc_at_every_size_across_tile_borders() {
        let mut tree = LogTree::new();
        let mut leaves = Vec::new();
        let mut tiles = Vec::new();
        assert_eq!(tree.root().root, naive_root(&[]));
        for index in 0u32..1100 {
            let leaf = leaf_hash(&index.to_le_bytes());
            leaves.push(leaf);
            tree.append(leaf, &mut |tile| tiles.push(tile));
            assert_eq!(tree.root().root, naive_root(&leaves), "size {}", leaves.len());
        }
        assert_eq!(tiles.len(), 4);
        assert!(tiles.iter().enumerate().all(|(index, tile)| tile.level == 0 && tile.index == index as u64));
    }

    #[test]
    fn two_tile_levels_agree_with_the_rfc() {
        let mut tree = LogTree::new();
        let mut leaves = Vec::new();
        let mut upper = 0;
        for index in 0u32..65_536 + 700 {
            let leaf = leaf_hash(&index.to_le_bytes());
            leaves.push(leaf);
            tree.append(leaf, &mut |tile| upper += usize::from(tile.level == 1));
        }
        assert_eq!(upper, 1);
        assert_eq!(tree.root().root, naive_root(&leaves));
        assert_eq!(LogTree::edge_shape(66_236), [(258, 188), (1, 2), (0, 1)]);
        let edge = tree.edge.clone();
        assert_eq!(LogTree::from_edge(66_236, edge.clone()), Some(tree));
        assert_eq!(LogTree::from_edge(66_235, edge), None);
    }

    #[test]
    fn empty_root_is_that_of_the_rfc() {
        let expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(alloc::format!("{}", LogTree::new().root().root), expected);
    }
}
