//! The tree against the bitmap it stands for, hashed by the words of the format.

use super::*;
use alloc::collections::BTreeSet;

/// FORMAT.md, word by word.
fn naive_root(size: u64, active: &BTreeSet<u64>) -> Hash32 {
    let mut n_chunks = 1;
    while n_chunks * 2048 < size {
        n_chunks *= 2;
    }
    let mut level: Vec<[u8; 32]> = (0..n_chunks)
        .map(|chunk| {
            let mut bytes = [0u8; 256];
            for bit in 0..2048u64 {
                if active.contains(&(chunk * 2048 + bit)) {
                    bytes[(bit / 8) as usize] |= 1 << (bit % 8);
                }
            }
            blake3::derive_key("anji v1 active chunk", &bytes)
        })
        .collect();
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| blake3::derive_key("anji v1 active node", &pair.concat())).collect();
    }
    Hash32(level[0])
}

/// A small generator of numbers, the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Blocks of random sizes that supersede random entries, with the sets as they stood.
fn story(seed: u64, n_blocks: usize, most: u64) -> (ActiveTree, Vec<(u64, Hash32, BTreeSet<u64>)>) {
    let mut dice = Dice(seed);
    let mut tree = ActiveTree::new();
    let mut active = BTreeSet::new();
    let mut history = Vec::new();
    for _ in 0..n_blocks {
        let before = tree.size();
        let size = before + dice.roll(most);
        let set: Vec<u64> = (before..size).filter(|_| dice.roll(3) > 0).collect();
        let cleared: Vec<u64> = active.iter().copied().filter(|_| dice.roll(9) == 0).collect();
        tree.apply(size, set.clone(), cleared.clone(), &mut |_, _, _| {}).unwrap();
        active.extend(set);
        cleared.iter().for_each(|index| assert!(active.remove(index)));
        assert_eq!(tree.root(), naive_root(size, &active), "size {size}");
        history.push((size, tree.root(), active.clone()));
    }
    (tree, history)
}

#[test]
fn the_root_is_that_of_the_bitmap_at_every_size() {
    assert_eq!(ActiveTree::new().root(), naive_root(0, &BTreeSet::new()));
    for seed in 0..6 {
        story(seed, 60, 1500);
    }
    // Around the borders of chunks and of levels.
    for size in [1, 2047, 2048, 2049, 4095, 4096, 4097, 8191, 8192, 8193, 16_384, 16_385] {
        let mut tree = ActiveTree::new();
        tree.apply(size, [0, size - 1].into_iter().take(size.min(2) as usize), [], &mut |_, _, _| {}).unwrap();
        assert_eq!(tree.root(), naive_root(size, &BTreeSet::from([0, size - 1])), "size {size}");
    }
}

#[test]
fn every_bit_is_proven_as_it_is_and_no_wrong_proof_passes() {
    let (tree, history) = story(7, 40, 900);
    let (size, root, active) = history.last().unwrap();
    assert!(*size > 3 * CHUNK_BITS);
    for index in (0..*size).step_by(37).chain(size - 3..*size) {
        let proof = tree.proof(index).unwrap();
        assert_eq!(check_active(&proof, index, *size, root), Ok(active.contains(&index)));
        let mut dice = Dice(index);
        let mut wrong = proof.clone();
        wrong.chunk[dice.roll(256) as usize] ^= 1 << dice.roll(8);
        assert!(check_active(&wrong, index, *size, root).is_err(), "a flipped bit of the chunk");
        let mut wrong = proof.clone();
        let place = dice.roll(proof.path.len() as u64) as usize;
        wrong.path[place].0[dice.roll(32) as usize] ^= 1 << dice.roll(8);
        assert_eq!(check_active(&wrong, index, *size, root), Err(ProofError::WrongRoot));
        let mut wrong = proof.clone();
        wrong.path.pop();
        assert_eq!(check_active(&wrong, index, *size, root), Err(ProofError::WrongLength));
        let mut wrong = proof.clone();
        wrong.path.push(Hash32::ZERO);
        assert_eq!(check_active(&wrong, index, *size, root), Err(ProofError::WrongLength));
        let elsewhere = (index + CHUNK_BITS) % size;
        if chunk_of(elsewhere) != chunk_of(index) {
            assert!(check_active(&proof, elsewhere, *size, root).is_err(), "a chunk shown in another place");
        }
        assert_eq!(check_active(&proof, *size, *size, root), Err(ProofError::OutOfRange));
    }
    assert_eq!(tree.proof(*size), None);
    // An older root is another root.
    let (_, older, _) = &history[history.len() - 2];
    assert_eq!(check_active(&tree.proof(0).unwrap(), 0, *size, older), Err(ProofError::WrongRoot));
}

#[test]
fn bits_past_the_end_are_refused() {
    let mut tree = ActiveTree::new();
    tree.apply(10, [3], [], &mut |_, _, _| {}).unwrap();
    // The same chunk with a bit too many, under the root that it would have.
    let mut proof = tree.proof(3).unwrap();
    put_bit(&mut proof.chunk, 10, true);
    let root = ActiveHasher::default().chunk(&proof.chunk);
    assert_eq!(check_active(&proof, 3, 10, &root), Err(ProofError::BitsPastEnd));
    assert_eq!(check_active(&proof, 3, 11, &root), Ok(true));
    assert!(ActiveTree::from_chunks(10, alloc::vec![proof.chunk]).is_none());
    assert!(ActiveTree::from_chunks(11, alloc::vec![proof.chunk]).is_some());
    assert!(ActiveTree::from_chunks(2049, alloc::vec![proof.chunk]).is_none());
}

#[test]
fn only_what_can_change_changes() {
    let start = || {
        let mut tree = ActiveTree::new();
        tree.apply(5, [1, 2], [], &mut |_, _, _| {}).unwrap();
        tree
    };
    let mut quiet = |_, _, _| {};
    assert_eq!(start().apply(8, [6, 6], [], &mut quiet), Err(WrongBit { index: 6 }));
    assert_eq!(start().apply(8, [8], [], &mut quiet), Err(WrongBit { index: 8 }));
    assert_eq!(
        start().apply(8, [3], [], &mut quiet),
        Err(WrongBit { index: 3 }),
        "an old entry becomes nothing's latest"
    );
    assert_eq!(start().apply(8, [], [3], &mut quiet), Err(WrongBit { index: 3 }), "it was not the latest");
    assert_eq!(start().apply(8, [6], [6], &mut quiet), Err(WrongBit { index: 6 }));
    assert_eq!(start().apply(8, [], [u64::MAX], &mut quiet), Err(WrongBit { index: u64::MAX }));
    assert_eq!(start().apply(4, [], [], &mut quiet), Err(WrongBit { index: 4 }));
    assert_eq!(start().apply(5, [], [], &mut quiet), Ok(Vec::new()));
}

#[test]
fn a_tree_read_back_from_its_chunks_is_the_same() {
    let (tree, _) = story(11, 30, 2000);
    let again = ActiveTree::from_chunks(tree.size(), tree.chunks().to_vec()).unwrap();
    assert_eq!(again.root(), tree.root());
    assert_eq!(again.levels, tree.levels);
}

#[test]
fn old_hashes_lead_back() {
    let mut dice = Dice(5);
    let mut tree = ActiveTree::new();
    tree.apply(9000, (0..9000).step_by(2), [], &mut |_, _, _| {}).unwrap();
    let before = tree.clone();
    let mut old = Vec::new();
    let cleared: BTreeSet<u64> = (0..50).map(|_| dice.roll(4500) * 2).collect();
    tree.apply(20_000, 9000..15_000, cleared, &mut |level, position, hash| old.push((level, position, hash))).unwrap();
    for (level, position, hash) in old {
        if level < depth(before.size()) || position > 0 {
            assert_eq!(hash, before.node(level, position), "level {level}, position {position}");
        }
    }
}
