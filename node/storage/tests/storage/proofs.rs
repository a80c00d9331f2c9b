//! Proofs out of what is stored: the log's at every size around tile borders, the bitmap's at every block that is provable, the same after
//! a stop, a crash and a rebuild, and beside a running writer.

use crate::support::*;
use anji_contracts::codec;
use anji_contracts::entity::{Entity, Line};
use anji_contracts::entry::{Cause, EntityEntry, Entry, NO_PREVIOUS};
use anji_contracts::types::*;
use anji_storage::{ActiveAt, BlockCommit, Latest, Opened, PROVABLE_BLOCKS, Reader, Store};
use anji_verify::log_tree::leaf_hash;
use anji_verify::{LogRoot, LogTree, ProofError, check_active, check_consistency, check_inclusion};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below.max(1)
    }
}

/// Blocks that add lines and write old ones anew; knows what was the latest after each.
struct Lines {
    dice: Dice,
    latest: BTreeMap<u64, Latest>,
    next_index: u64,
    /// By height: log index of the block entry, and all that was active.
    history: Vec<(u64, BTreeSet<u64>)>,
}

impl Lines {
    fn new(seed: u64) -> Self {
        Self { dice: Dice(seed), latest: BTreeMap::new(), next_index: 0, history: Vec::new() }
    }

    fn height(&self) -> u64 {
        self.history.len() as u64
    }

    fn commit(&mut self, opened: &mut Opened, n_new: u64, n_again: u64) {
        let height = self.height();
        let header_hash = if height == 0 {
            genesis(1).chain_id().0
        } else {
            let block = block(height, &[b"batch"]);
            decide(&opened.blocks, &block);
            block.certificate.value
        };
        let mut commit = BlockCommit { height, header_hash, time_ms: 1000 + height, ..BlockCommit::default() };
        let n_lines = self.latest.len() as u64;
        let mut which: Vec<u64> = (0..n_again).map(|_| self.dice.roll(n_lines)).filter(|_| n_lines > 0).collect();
        which.extend(n_lines..n_lines + n_new);
        let mut newest = BTreeMap::new();
        for line in which {
            let mandate = MandateId(ScopedId { participant: ParticipantId(1), op_id: OpId(line.into()) });
            let state = Entity::Line(Line { mandate, ..Line::default() });
            let before = self.latest.get(&line).copied();
            if let Some(before) = before
                && !newest.contains_key(&line)
            {
                commit.superseded.push(before.index);
            }
            let version = before.map_or(1, |it| it.version + 1);
            let prev_index = before.map_or(NO_PREVIOUS, |it| it.index);
            let latest = Latest { index: self.next_index, version };
            let key = state.key();
            commit.entries.push(&Entry::Entity(EntityEntry { key, version, prev_index, state, cause: Cause::Block }));
            newest.insert(line, (key, latest));
            self.latest.insert(line, latest);
            self.next_index += 1;
        }
        commit.latest = newest.into_values().collect();
        self.history.push((self.next_index, self.latest.values().map(|it| it.index).collect()));
        self.next_index += 1;
        let record = opened.store.commit(&commit).unwrap();
        assert_eq!(record.log.size, self.next_index);
    }

    /// Proofs at every provable height for a few entries, checked against the block entries and the naive sets.
    fn check(&mut self, reader: &Reader, n_each: u64) -> Vec<(u64, ActiveAt)> {
        let last = self.height() - 1;
        let mut proofs = Vec::new();
        for height in last.saturating_sub(PROVABLE_BLOCKS as u64)..=last {
            let (block_index, active) = &self.history[height as usize];
            let root = match reader.entry(*block_index).unwrap() {
                Some(Entry::Block(entry)) if entry.height == height => entry.active_root,
                other => panic!("no block entry: {other:?}"),
            };
            for n in 0..n_each {
                let index = if n == 0 { block_index - 1 } else { self.dice.roll(*block_index) };
                let found = reader.active_proof(index, height).unwrap().unwrap();
                assert_eq!((found.height, found.block_index, found.root), (height, *block_index, root));
                assert_eq!(found.is_active, active.contains(&index), "entry {index} at height {height}");
                assert_eq!(check_active(&found.proof, index, *block_index, &root), Ok(found.is_active));
                proofs.push((index, found));
            }
            assert_eq!(reader.active_proof(*block_index, height).unwrap(), None, "it does not cover itself");
        }
        assert_eq!(reader.active_proof(0, last + 1).unwrap(), None);
        if let Some(old) = last.checked_sub(PROVABLE_BLOCKS as u64 + 1) {
            assert_eq!(reader.active_proof(0, old).unwrap(), None, "too long ago");
        }
        proofs
    }
}

fn same(reader: &Reader, proofs: &[(u64, ActiveAt)]) {
    for (index, expected) in proofs {
        assert_eq!(reader.active_proof(*index, expected.height).unwrap().as_ref(), Some(expected));
    }
}

#[test]
fn every_provable_block_proves_what_was_current_then() {
    let dir = folder();
    let mut opened = open(dir.path());
    let mut lines = Lines::new(1);
    // Across the sizes where chunks begin and the tree grows a level, up to where old hashes are kept.
    for n in 0..110 {
        let (n_new, n_again) = if n < 70 { (lines.dice.roll(400), lines.dice.roll(90)) } else { (1500, 600) };
        lines.commit(&mut opened, n_new + 1, n_again);
        if n % 7 == 0 || n > 105 {
            lines.check(&opened.reader, 6);
        }
    }
    assert!(lines.next_index > 80_000, "{}", lines.next_index);
    let proofs = lines.check(&opened.reader, 20);
    drop(opened);
    let opened = open(dir.path());
    same(&opened.reader, &proofs);
    drop(opened);
    let looking = Store::open_read_only(dir.path(), &options()).unwrap();
    same(&looking.reader, &proofs);
}

#[test]
fn a_start_after_any_crash_proves_the_same_and_goes_on() {
    let dir = folder();
    let copies = folder();
    let mut opened = open(dir.path());
    let mut lines = Lines::new(2);
    for n in 0..100u64 {
        let n_new = lines.dice.roll(200) + 1;
        lines.commit(&mut opened, n_new, 80);
        if n % 3 == 0 {
            // The rows are as old as the last block that wrote them, whatever the height.
            drop(opened);
            let copy = copies.path().join(n.to_string());
            copy_dir(dir.path(), &copy);
            opened = open(dir.path());
            let mut again = open(&copy);
            assert_eq!(again.reader.executed_height().unwrap(), Some(n));
            let proofs = lines.check(&opened.reader, 2);
            same(&again.reader, &proofs);
            let mut twin =
                Lines { dice: Dice(n), latest: lines.latest.clone(), history: lines.history.clone(), ..lines };
            for _ in 0..20 {
                twin.commit(&mut again, 9, 40);
            }
            drop(again);
            let again = open(&copy);
            twin.check(&again.reader, 2);
            // Open, it goes on writing and deleting files of its own.
            drop(again);
            lines.dice = Dice(n + 1000);
            std::fs::remove_dir_all(&copy).unwrap();
        }
    }
}

#[test]
fn a_wrong_bitmap_does_not_open() {
    let dir = folder();
    let mut opened = open(dir.path());
    let mut lines = Lines::new(3);
    for _ in 0..40 {
        lines.commit(&mut opened, 100, 50);
    }
    drop(opened);
    type Change = fn(&rocksdb::DB, &rocksdb::ColumnFamily);
    let changes: [(&str, &str, Change); 5] = [
        ("a flipped bit", "not the one that block", |db, rows| {
            let mut row = db.get_cf(rows, 0u64.to_be_bytes()).unwrap().unwrap();
            row[7] ^= 1;
            db.put_cf(rows, 0u64.to_be_bytes(), row).unwrap();
        }),
        ("a missing row", "is missing", |db, rows| db.delete_cf(rows, 0u64.to_be_bytes()).unwrap()),
        ("a row too many", "chunks for", |db, rows| db.put_cf(rows, 3u64.to_be_bytes(), [0; 256]).unwrap()),
        ("a short row", "256 bytes", |db, rows| db.put_cf(rows, 1u64.to_be_bytes(), [0; 255]).unwrap()),
        ("rows of another height", "active", |db, _| {
            db.put_cf(db.cf_handle("meta").unwrap(), b"active", 16u64.to_be_bytes()).unwrap();
        }),
    ];
    for (what, expected, change) in changes {
        let copy = folder();
        copy_dir(dir.path(), copy.path());
        let families = anji_storage::columns::ALL;
        let db = rocksdb::DB::open_cf(&rocksdb::Options::default(), copy.path().join("state"), families).unwrap();
        change(&db, db.cf_handle("active").unwrap());
        drop(db);
        std::fs::remove_file(copy.path().join("state/SUMS")).unwrap();
        let error = refused(copy.path());
        assert!(error.contains(expected) && error.contains("delete the folder `state`"), "{what}: {error}");
    }
}

#[test]
fn proofs_are_whole_while_blocks_are_committed() {
    let dir = folder();
    let mut opened = open(dir.path());
    let mut lines = Lines::new(4);
    lines.commit(&mut opened, 5000, 0);
    let reader = opened.reader.clone();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let prover = scope.spawn(|| {
            let mut dice = Dice(9);
            let mut n_checked = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) || n_checked < 100 {
                let last = reader.last_block().unwrap().unwrap();
                let height = last.height.saturating_sub(dice.roll(5));
                let index = dice.roll(5000);
                let found = reader.active_proof(index, height).unwrap().unwrap();
                let Some(Entry::Block(entry)) = reader.entry(found.block_index).unwrap() else {
                    panic!("no block entry")
                };
                assert_eq!((entry.height, entry.active_root), (height, found.root));
                assert_eq!(check_active(&found.proof, index, found.block_index, &found.root), Ok(found.is_active));
                let path = reader.inclusion(found.block_index, last.log.size).unwrap().unwrap();
                let leaf = leaf_hash(&reader.entry_bytes(found.block_index).unwrap().unwrap());
                assert_eq!(check_inclusion(&leaf, found.block_index, &last.log, &path), Ok(()));
                n_checked += 1;
            }
        });
        for _ in 0..200 {
            lines.commit(&mut opened, 50, 400);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        prover.join().unwrap();
    });
}

#[test]
fn a_block_that_replaces_what_is_not_the_latest_is_not_committed() {
    let dir = folder();
    let mut opened = open(dir.path());
    let mut lines = Lines::new(5);
    lines.commit(&mut opened, 10, 0);
    lines.commit(&mut opened, 1, 5);
    let gone = (0..10).find(|index| !lines.history[1].1.contains(index)).unwrap();
    let commit = BlockCommit { height: 2, superseded: vec![gone], ..BlockCommit::default() };
    let error = opened.store.commit(&commit).unwrap_err().to_string();
    assert!(error.contains(&format!("entry {gone} cannot")), "{error}");
    let good = BlockCommit { height: 2, ..BlockCommit::default() };
    assert!(opened.store.commit(&good).is_err(), "memory may be ahead of the disk: nothing more is taken");
}

/// Roots of the log at every size asked for.
fn roots(leaves: &[Hash32], sizes: &BTreeSet<u64>) -> BTreeMap<u64, LogRoot> {
    let mut tree = LogTree::new();
    let mut roots = BTreeMap::from([(0, tree.root())]);
    for leaf in leaves {
        tree.append(*leaf, &mut |_| {});
        if sizes.contains(&tree.size()) {
            roots.insert(tree.size(), tree.root());
        }
    }
    roots
}

fn leaves(reader: &Reader) -> Vec<Hash32> {
    let mut leaves = Vec::new();
    reader
        .visit_entries(0, |_, bytes| {
            leaves.push(leaf_hash(bytes));
            Ok(true)
        })
        .unwrap();
    leaves
}

fn check_log(reader: &Reader, sizes: &BTreeSet<u64>, dice: &mut Dice) {
    let leaves = leaves(reader);
    let roots = roots(&leaves, sizes);
    for (size, log) in &roots {
        let edges = [0, 1, 255, 256, 257, 65_535, 65_536, size / 2, size.saturating_sub(2), size.saturating_sub(1)];
        for index in edges.into_iter().chain((0..3).map(|_| dice.roll(*size))) {
            let path = reader.inclusion(index, *size).unwrap();
            assert_eq!(path.is_some(), index < *size);
            let Some(path) = path else { continue };
            let leaf = &leaves[index as usize];
            assert_eq!(check_inclusion(leaf, index, log, &path), Ok(()), "{index} of {size}");
            let other = &leaves[(index as usize + 1) % leaves.len()];
            assert_eq!(check_inclusion(other, index, log, &path), Err(ProofError::WrongRoot));
        }
        for (old_size, old) in &roots {
            let path = reader.consistency(*old_size, *size).unwrap();
            assert_eq!(path.is_some(), old_size <= size);
            let Some(path) = path else { continue };
            assert_eq!(check_consistency(old, log, &path), Ok(()), "{old_size} to {size}");
            if *old_size > 0 && !path.is_empty() {
                let forged = LogRoot { root: Hash32([9; 32]), ..*old };
                assert_eq!(check_consistency(&forged, log, &path), Err(ProofError::WrongRoot));
            }
        }
    }
    let end = leaves.len() as u64;
    assert_eq!(reader.inclusion(0, end + 1).unwrap(), None);
    assert_eq!(reader.consistency(1, end + 1).unwrap(), None);
}

#[test]
fn the_logs_proofs_hold_at_every_size_around_tile_borders() {
    let dir = folder();
    let mut opened = open(dir.path());
    let mut lines = Lines::new(6);
    let mut dice = Dice(6);
    lines.commit(&mut opened, 700, 0);
    let sizes: BTreeSet<u64> = (1..20).chain(250..262).chain(505..520).chain(690..=701).collect();
    check_log(&opened.reader, &sizes, &mut dice);
    for _ in 0..7 {
        lines.commit(&mut opened, 10_000, 20);
    }
    let end = lines.next_index;
    let sizes = [1, 255, 256, 257, 40_000, 65_279, 65_280, 65_535, 65_536, 65_537, 65_791, 65_792, 65_793, 70_000, end];
    check_log(&opened.reader, &BTreeSet::from(sizes), &mut dice);
    drop(opened);
    let opened = open(dir.path());
    check_log(&opened.reader, &BTreeSet::from(sizes), &mut dice);

    let leaves = leaves(&opened.reader);
    let last = end / 256;
    let width = (end % 256) as usize;
    let tile = opened.reader.tile_prefix(0, last, width).unwrap().unwrap();
    assert_eq!(tile, leaves[leaves.len() - width..]);
    assert_eq!(opened.reader.tile_prefix(0, last, width + 1).unwrap(), None);
    assert_eq!(opened.reader.tile_prefix(0, 3, 5).unwrap().unwrap(), leaves[768..773]);
    assert_eq!(opened.reader.tile_prefix(2, 0, 1).unwrap().map(|tile| tile.len()), Some(1));
    assert_eq!(opened.reader.tile_prefix(3, 0, 1).unwrap(), None);
    assert_eq!(opened.reader.tile_prefix(9, 0, 1).unwrap(), None);
}

#[test]
fn genesis_alone_is_proven() {
    let dir = folder();
    let mut opened = open(dir.path());
    assert_eq!(opened.reader.active_proof(0, 0).unwrap(), None);
    let mut lines = Lines::new(7);
    lines.commit(&mut opened, 3, 0);
    lines.check(&opened.reader, 3);
    drop(opened);
    let opened = open(dir.path());
    lines.check(&opened.reader, 3);
    let bytes = opened.reader.entry_bytes(3).unwrap().unwrap();
    assert_eq!(codec::encode(&opened.reader.entry(3).unwrap().unwrap()), bytes);
    assert!(Path::new(dir.path()).is_dir());
}

/// What the bitmap's tree costs for a payment: one new active entry, one replaced at random. Not a timed test.
#[test]
#[ignore = "prints figures, run by hand"]
fn active_tree_cost() {
    use anji_verify::active_tree::{ActiveTree, n_chunks};
    use std::time::Instant;
    for size in [1_000_000u64, 10_000_000, 100_000_000] {
        for per_block in [100u64, 1000, 10_000] {
            // Two of three entries are active, as after many payments with their lines.
            let mut tree = ActiveTree::new();
            let replaced: BTreeSet<u64> = BTreeSet::new();
            tree.apply(size, (0..size).filter(|index| index % 3 != 0), replaced, &mut |_, _, _| {}).unwrap();
            let mut dice = Dice(size);
            let (mut n_payments, mut spent) = (0, std::time::Duration::ZERO);
            while n_payments < 100_000 {
                let before = tree.size();
                let mut old = BTreeSet::new();
                while (old.len() as u64) < per_block {
                    let index = dice.roll(before);
                    if tree.is_active(index) {
                        old.insert(index);
                    }
                }
                let mut old: Vec<u64> = old.into_iter().collect();
                // As the store gets them: by entity, not by index.
                old.sort_unstable_by_key(|index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let started = Instant::now();
                tree.apply(before + per_block * 2 + 1, before..before + per_block * 2, old, &mut |_, _, _| {}).unwrap();
                spent += started.elapsed();
                n_payments += per_block;
            }
            let each = spent.as_secs_f64() * 1e6 / n_payments as f64;
            println!(
                "{size} entries ({} chunks), {per_block} payments a block: {each:.2} µs a payment",
                n_chunks(size)
            );
        }
    }
}
