//! Proofs of the log tree: that an entry is in the log, and that a longer log goes on where a shorter one ended. Paths are those of
//! RFC 6962, which tlog clients read as they are. The makers of paths ask for hashes of perfect subtrees; `anji-storage` takes
//! them from its tiles.

use crate::log_tree::{LogRoot, node_hash};
use crate::proof_error::ProofError;
use crate::rfc6962;
use alloc::vec::Vec;
use anji_contracts::types::Hash32;

/// Checks that the entry with this leaf hash ([`crate::log_tree::leaf_hash`]) stands at `index` of the log.
///
/// # Errors
/// [`ProofError`].
///
/// # Correctness
/// Proves nothing unless `log` is trusted, and `leaf` was computed from the entry's bytes.
pub fn check_inclusion(leaf: &Hash32, index: u64, log: &LogRoot, path: &[Hash32]) -> Result<(), ProofError> {
    let root = rfc6962::root_of_inclusion(leaf, index, log.size, path, node_hash)?;
    if root == log.root { Ok(()) } else { Err(ProofError::WrongRoot) }
}

/// Checks that the log `new` begins with the log `old`. Every log begins with the empty one; equal sizes need equal roots.
///
/// # Errors
/// [`ProofError`].
pub fn check_consistency(old: &LogRoot, new: &LogRoot, path: &[Hash32]) -> Result<(), ProofError> {
    if old.size > new.size {
        return Err(ProofError::Shrunk);
    }
    if old.size == 0 || old.size == new.size {
        let expected = if old.size == 0 { crate::LogTree::new().root().root } else { new.root };
        return match (path.is_empty(), old.root == expected) {
            (false, _) => Err(ProofError::WrongLength),
            (true, false) => Err(ProofError::WrongRoot),
            (true, true) => Ok(()),
        };
    }
    let (older, newer) = rfc6962::roots_of_consistency(old.size, &old.root, new.size, path, node_hash)?;
    if older == old.root && newer == new.root { Ok(()) } else { Err(ProofError::WrongRoot) }
}

/// The path for [`check_inclusion`]. `subtree(level, index)` gives the root over the leaves `index << level .. (index + 1) << level`; it is
/// asked for whole subtrees inside the log only. Empty if there is no such entry.
///
/// # Errors
/// Those of `subtree`.
pub fn inclusion_path<E>(
    index: u64,
    size: u64,
    subtree: impl FnMut(u32, u64) -> Result<Hash32, E>,
) -> Result<Vec<Hash32>, E> {
    rfc6962::inclusion_path(index, size, node_hash, subtree)
}

/// The path for [`check_consistency`], likewise.
///
/// # Errors
/// Those of `subtree`.
pub fn consistency_path<E>(
    old: u64,
    new: u64,
    subtree: impl FnMut(u32, u64) -> Result<Hash32, E>,
) -> Result<Vec<Hash32>, E> {
    rfc6962::consistency_path(old, new, node_hash, subtree)
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
    use crate::log_tree::leaf_hash;
    use core::convert::Infallible;

    /// The definitions of RFC 6962 as they stand there.
    fn root(leaves: &[Hash32]) -> Hash32 {
        match leaves {
            [] => crate::LogTree::new().root().root,
            [lone] => *lone,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node_hash(&root(left), &root(right))
            }
        }
    }

    fn naive_path(index: usize, leaves: &[Hash32]) -> Vec<Hash32> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let middle = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(middle);
        let (mut path, other) = if index < middle {
            (naive_path(index, left), root(right))
        } else {
            (naive_path(index - middle, right), root(left))
        };
        path.push(other);
        path
    }

    fn naive_consistency(old: usize, leaves: &[Hash32], is_known: bool) -> Vec<Hash32> {
        if old == leaves.len() {
            return if is_known { Vec::new() } else { alloc::vec![root(leaves)] };
        }
        let middle = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(middle);
        let (mut path, other) = if old <= middle {
            (naive_consistency(old, left, is_known), root(right))
        } else {
            (naive_consistency(old - middle, right, false), root(left))
        };
        path.push(other);
        path
    }

    fn leaves(n: u32) -> Vec<Hash32> {
        (0..n).map(|index| leaf_hash(&index.to_le_bytes())).collect()
    }

    fn subtree(leaves: &[Hash32]) -> impl FnMut(u32, u64) -> Result<Hash32, Infallible> + '_ {
        |level, index| {
            let start = usize::try_from(index << level).unwrap();
            Ok(root(&leaves[start..start + (1 << level)]))
        }
    }

    fn broken(path: &[Hash32]) -> Vec<Vec<Hash32>> {
        let mut wrong = Vec::new();
        for place in 0..path.len() {
            let mut flipped = path.to_vec();
            flipped[place].0[31] ^= 1;
            let mut missing = path.to_vec();
            missing.remove(place);
            let mut doubled = path.to_vec();
            doubled.insert(place, path[place]);
            wrong.extend([flipped, missing, doubled]);
        }
        let mut longer = path.to_vec();
        longer.push(Hash32([7; 32]));
        wrong.push(longer);
        wrong
    }

    #[test]
    fn every_inclusion_of_every_small_log_is_the_rfcs_and_no_other_passes() {
        let all = leaves(70);
        for size in 1..=all.len() {
            let leaves = &all[..size];
            let log = LogRoot { size: size as u64, root: root(leaves) };
            for index in 0..size {
                let path = inclusion_path(index as u64, log.size, subtree(leaves)).unwrap();
                assert_eq!(path, naive_path(index, leaves), "{index} of {size}");
                assert_eq!(check_inclusion(&leaves[index], index as u64, &log, &path), Ok(()));
                for wrong in broken(&path) {
                    assert!(check_inclusion(&leaves[index], index as u64, &log, &wrong).is_err());
                }
                for other in 0..size + 3 {
                    let holds = check_inclusion(&leaves[index], other as u64, &log, &path).is_ok();
                    assert_eq!(holds, other == index, "{index} shown as {other} of {size}");
                }
            }
            assert_eq!(inclusion_path(log.size, log.size, subtree(leaves)).unwrap(), []);
        }
    }

    #[test]
    fn every_consistency_of_every_small_log_is_the_rfcs_and_no_other_passes() {
        let all = leaves(40);
        let log = |size: usize| LogRoot { size: size as u64, root: root(&all[..size]) };
        for new in 0..=all.len() {
            for old in 0..=new {
                let path = consistency_path(old as u64, new as u64, subtree(&all[..new])).unwrap();
                if old > 0 {
                    assert_eq!(path, naive_consistency(old, &all[..new], true), "{old} to {new}");
                }
                assert_eq!(check_consistency(&log(old), &log(new), &path), Ok(()), "{old} to {new}");
                for wrong in broken(&path) {
                    assert!(check_consistency(&log(old), &log(new), &wrong).is_err());
                }
                for size in 0..=all.len() {
                    let forged = LogRoot { size: size as u64, root: log(old).root };
                    let holds = check_consistency(&forged, &log(new), &path).is_ok();
                    assert_eq!(holds, size == old, "{old} shown as {size} of {new}");
                }
                let mut fork = log(old);
                fork.root.0[0] ^= 1;
                assert!(check_consistency(&fork, &log(new), &path).is_err());
                let mut fork = log(new);
                fork.root.0[0] ^= 1;
                assert!(old == 0 || check_consistency(&log(old), &fork, &path).is_err());
            }
        }
        assert_eq!(check_consistency(&log(3), &log(2), &[]), Err(ProofError::Shrunk));
    }

    #[test]
    fn sizes_at_the_end_of_the_numbers_are_no_trouble() {
        let log = LogRoot { size: u64::MAX, root: Hash32([1; 32]) };
        let path = alloc::vec![Hash32([2; 32]); 64];
        for index in [0, 1, 1 << 63, u64::MAX - 1, u64::MAX] {
            for length in [0, 1, 63, 64] {
                assert!(check_inclusion(&Hash32([3; 32]), index, &log, &path[..length]).is_err());
                let old = LogRoot { size: index, root: Hash32([4; 32]) };
                assert!(check_consistency(&old, &log, &path[..length]).is_err());
            }
        }
        let zero = |_, _| Ok::<_, Infallible>(Hash32::ZERO);
        assert_eq!(inclusion_path(u64::MAX - 1, u64::MAX, zero).unwrap().len(), 63);
        assert_eq!(inclusion_path(0, u64::MAX, zero).unwrap().len(), 64);
    }
}
