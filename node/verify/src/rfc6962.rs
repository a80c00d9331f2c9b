//! Paths in trees of RFC 6962 shape, for any hash: which subtrees a proof names, and what a proof leads to.
//! [`crate::log_proof`] uses it with SHA-256, [`crate::merkle_proof`] with BLAKE3. Nothing here trusts anything.

use crate::proof_error::ProofError;
use alloc::vec::Vec;
use anji_contracts::types::Hash32;

/// Most hashes an inclusion path can have: one a level of a tree of 2^64 leaves.
pub const MAX_PATH: usize = 64;

/// The largest power of two below `size`, as an exponent; `None` for fewer than two leaves.
fn split_level(size: u64) -> Option<u32> {
    size.checked_sub(1)?.checked_ilog2()
}

/// The root over the leaves from `start` to `end`, out of the perfect subtrees that it consists of. `start` must be where such a
/// subtree may begin.
fn range_root<E>(
    start: u64,
    end: u64,
    node: &impl Fn(&Hash32, &Hash32) -> Hash32,
    subtree: &mut impl FnMut(u32, u64) -> Result<Hash32, E>,
) -> Result<Option<Hash32>, E> {
    let mut parts = Vec::new();
    let mut at = start;
    while let Some(level) = end.saturating_sub(at).checked_ilog2() {
        parts.push(subtree(level, at >> level)?);
        at = at.saturating_add(1 << level);
    }
    Ok(parts.into_iter().rev().reduce(|right, left| node(&left, &right)))
}

/// The audit path of the leaf at `index` in a tree of `size` leaves, lowest hash first (RFC 6962, 2.1.1). `subtree(level, index)` gives
/// the root of the perfect subtree over the leaves `index << level .. (index + 1) << level`. Empty if there is no such leaf.
pub(crate) fn inclusion_path<E>(
    index: u64,
    size: u64,
    node: impl Fn(&Hash32, &Hash32) -> Hash32,
    mut subtree: impl FnMut(u32, u64) -> Result<Hash32, E>,
) -> Result<Vec<Hash32>, E> {
    let mut path = Vec::new();
    let (mut start, mut end) = (0, size);
    if index >= size {
        return Ok(path);
    }
    while let Some(level) = split_level(end.saturating_sub(start)) {
        let middle = start.saturating_add(1 << level);
        if index < middle {
            path.extend(range_root(middle, end, &node, &mut subtree)?);
            end = middle;
        } else {
            path.extend(range_root(start, middle, &node, &mut subtree)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The consistency proof between the first `old` and the first `new` leaves (RFC 6962, 2.1.2); empty if `old` is zero, or not below `new`.
pub(crate) fn consistency_path<E>(
    old: u64,
    new: u64,
    node: impl Fn(&Hash32, &Hash32) -> Hash32,
    mut subtree: impl FnMut(u32, u64) -> Result<Hash32, E>,
) -> Result<Vec<Hash32>, E> {
    let mut path = Vec::new();
    if old == 0 || old >= new {
        return Ok(path);
    }
    let (mut start, mut end) = (0, new);
    while old < end {
        let Some(level) = split_level(end.saturating_sub(start)) else { break };
        let middle = start.saturating_add(1 << level);
        if old <= middle {
            path.extend(range_root(middle, end, &node, &mut subtree)?);
            end = middle;
        } else {
            path.extend(range_root(start, middle, &node, &mut subtree)?);
            start = middle;
        }
    }
    // Where the older tree is a subtree of the newer one, the verifier has its root already.
    if start > 0 {
        path.extend(range_root(start, end, &node, &mut subtree)?);
    }
    path.reverse();
    Ok(path)
}

/// The root that a leaf and its audit path lead to (RFC 9162, 2.1.3.2).
///
/// # Errors
/// [`ProofError::OutOfRange`], [`ProofError::WrongLength`].
pub(crate) fn root_of_inclusion(
    leaf: &Hash32,
    index: u64,
    size: u64,
    path: &[Hash32],
    node: impl Fn(&Hash32, &Hash32) -> Hash32,
) -> Result<Hash32, ProofError> {
    let mut last = size.checked_sub(1).filter(|last| index <= *last).ok_or(ProofError::OutOfRange)?;
    let mut place = index;
    let mut root = *leaf;
    for sibling in path {
        if last == 0 {
            return Err(ProofError::WrongLength);
        }
        if place & 1 == 1 || place == last {
            root = node(sibling, &root);
            // A lone node moves up until it has a sibling.
            let lone = if place & 1 == 1 { 0 } else { place.trailing_zeros().min(63) };
            place >>= lone;
            last >>= lone;
        } else {
            root = node(&root, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    if last == 0 { Ok(root) } else { Err(ProofError::WrongLength) }
}

/// The roots of the older and the newer tree that a consistency proof leads to (RFC 9162, 2.1.4.2); `old_root` is what the older one is
/// said to be. Only for 0 < `old` < `new`.
///
/// # Errors
/// [`ProofError::OutOfRange`], [`ProofError::WrongLength`].
pub(crate) fn roots_of_consistency(
    old: u64,
    old_root: &Hash32,
    new: u64,
    path: &[Hash32],
    node: impl Fn(&Hash32, &Hash32) -> Hash32,
) -> Result<(Hash32, Hash32), ProofError> {
    if old == 0 || old >= new {
        return Err(ProofError::OutOfRange);
    }
    let whole = old.trailing_zeros();
    let (mut place, mut last) = (old.saturating_sub(1) >> whole, new.saturating_sub(1) >> whole);
    let (first, rest) = match path.split_first() {
        _ if old.is_power_of_two() => (old_root, path),
        Some((first, rest)) => (first, rest),
        None => return Err(ProofError::WrongLength),
    };
    let (mut older, mut newer) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(ProofError::WrongLength);
        }
        if place & 1 == 1 || place == last {
            older = node(sibling, &older);
            newer = node(sibling, &newer);
            let lone = if place & 1 == 1 || place == 0 { 0 } else { place.trailing_zeros() };
            place >>= lone;
            last >>= lone;
        } else {
            newer = node(&newer, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    if last == 0 { Ok((older, newer)) } else { Err(ProofError::WrongLength) }
}
