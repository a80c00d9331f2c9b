//! Paths in the BLAKE3 trees of `proto/FORMAT.md` section 2: operations of a batch, receipts of a batch, batches of a block, payments of a
//! window. Leaves are hashed with [`anji_contracts::codec::merkle_leaf`].

use crate::proof_error::ProofError;
use crate::rfc6962;
use alloc::vec::Vec;
use anji_contracts::codec::{merkle_node, merkle_root};
use anji_contracts::types::Hash32;

/// Checks that the leaf stands at `index` of the `size` leaves under `root`.
///
/// # Errors
/// [`ProofError`].
pub fn check_merkle(leaf: &Hash32, index: u64, size: u64, root: &Hash32, path: &[Hash32]) -> Result<(), ProofError> {
    let found = rfc6962::root_of_inclusion(leaf, index, size, path, merkle_node)?;
    if found == *root { Ok(()) } else { Err(ProofError::WrongRoot) }
}

/// The path of a leaf for [`check_merkle`]; `None` if there is no such leaf. Hashes about as much as there are leaves.
#[must_use]
pub fn merkle_path(leaves: &[Hash32], index: u64) -> Option<Vec<Hash32>> {
    let size = u64::try_from(leaves.len()).ok().filter(|size| index < *size)?;
    let subtree = |level: u32, index: u64| {
        let start = usize::try_from(index << level).ok();
        let end = usize::try_from(index.saturating_add(1) << level).ok();
        start.zip(end).and_then(|(start, end)| leaves.get(start..end)).map(merkle_root).ok_or(())
    };
    rfc6962::inclusion_path(index, size, merkle_node, subtree).ok()
}

/// The same out of subtree roots that the caller has: see [`crate::log_proof::inclusion_path`].
///
/// # Errors
/// Those of `subtree`.
pub fn merkle_path_of<E>(
    index: u64,
    size: u64,
    subtree: impl FnMut(u32, u64) -> Result<Hash32, E>,
) -> Result<Vec<Hash32>, E> {
    rfc6962::inclusion_path(index, size, merkle_node, subtree)
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
mod tests {
    use super::*;
    use anji_contracts::codec::merkle_leaf;

    #[test]
    fn every_leaf_of_every_small_tree_is_proven_and_nothing_else() {
        let all: Vec<Hash32> = (0..40u8).map(|byte| merkle_leaf(&[byte])).collect();
        for size in 1..=all.len() {
            let (leaves, root) = (&all[..size], merkle_root(&all[..size]));
            for index in 0..size {
                let path = merkle_path(leaves, index as u64).unwrap();
                for (other, leaf) in all.iter().enumerate() {
                    let holds = check_merkle(leaf, other as u64, size as u64, &root, &path).is_ok();
                    assert_eq!(holds, other == index, "{other} by the path of {index} of {size}");
                }
                for place in 0..path.len() {
                    let mut wrong = path.clone();
                    wrong[place].0[0] ^= 0x80;
                    let checked = check_merkle(&all[index], index as u64, size as u64, &root, &wrong);
                    assert_eq!(checked, Err(ProofError::WrongRoot));
                }
            }
            assert_eq!(merkle_path(leaves, size as u64), None);
        }
    }
}
