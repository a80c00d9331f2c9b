//! The state: reads give what was written, damage in any of its files is named at start, a crash loses whole blocks only.

use crate::support::*;
use anji_contracts::types::*;
use anji_contracts::{EntityKey, Entry};
use anji_storage::{CommitError, Opened, Store, StoreOptions, Verify};
use anji_verify::log_tree::{leaf_hash, node_hash};
use std::fs;
use std::path::Path;

fn filled(dir: &Path, n_blocks: u64, n_payments: u64) -> (Opened, Filler) {
    let mut opened = open(dir);
    let mut filler = Filler::new();
    filler.fill(&mut opened, n_blocks, n_payments);
    (opened, filler)
}

/// RFC 6962 as it stands there.
fn naive_root(leaves: &[Hash32]) -> Hash32 {
    match leaves {
        [lone] => *lone,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&naive_root(left), &naive_root(right))
        }
    }
}

#[test]
fn what_was_committed_is_read_back() {
    let dir = folder();
    let (opened, filler) = filled(dir.path(), 12, 40);
    let check = |opened: &Opened| {
        let reader = &opened.reader;
        assert_eq!(reader.executed_height().unwrap(), Some(12));
        let keys: Vec<EntityKey> = filler.latest.keys().copied().collect();
        let known = reader.entities(&keys).unwrap();
        for ((key, (latest, state)), known) in filler.latest.iter().zip(known) {
            let known = known.unwrap();
            assert_eq!((known.index, known.entry.version, &known.entry.state), (latest.index, latest.version, state));
            assert_eq!(reader.latest(key).unwrap(), Some(*latest));
            assert_eq!(reader.entity(key).unwrap(), Some(known));
        }
        let position = EntityKey::Position(ParticipantId(1));
        let history = reader.history(&position, 100).unwrap();
        assert_eq!(history.len(), 13);
        assert!(history.windows(2).all(|pair| pair[0].entry.version == pair[1].entry.version + 1));
        assert_eq!(reader.history(&position, 3).unwrap(), history[..3]);
        assert_eq!(reader.entity(&EntityKey::Control).unwrap(), None);
        assert_eq!(reader.entities(&[EntityKey::Control, position]).unwrap()[0], None);

        let batches = reader.receipts_from(0, 100).unwrap();
        assert_eq!(batches.len(), 12);
        for batch in &batches {
            assert_eq!(batch.receipts.len(), 40);
            assert_eq!(reader.receipts(batch.seq).unwrap().as_ref(), Some(batch));
            for (position, receipt) in (0u32..).zip(&batch.receipts) {
                let id = ScopedId { participant: batch.participant, op_id: receipt.op_id };
                let row = reader.op(&id).unwrap().unwrap();
                assert_eq!((&row.record.receipt, row.batch_seq, row.position), (receipt, batch.seq, position));
                assert_eq!(reader.ops(&[id]).unwrap(), [Some(row)]);
            }
        }
        assert_eq!(reader.receipts_from(10, 1).unwrap(), batches[10..11]);
        assert_eq!(reader.receipts_from(12, 5).unwrap(), []);
        assert_eq!(reader.receipts(12).unwrap(), None);
        let recent = reader.recent_batches(1010).unwrap();
        let heights: Vec<u64> = recent.iter().map(|batch| batch.height).collect();
        assert_eq!(heights, [12, 11, 10], "newest first, of blocks at or after that time");
        let newest = reader.newest_op(ParticipantId(1)).unwrap().unwrap();
        assert_eq!(newest.op_id, OpId::new(1012, 12_039));
        assert_eq!(reader.newest_op(ParticipantId(2)).unwrap(), None);

        let due = reader.due(0, u64::MAX, usize::MAX).unwrap();
        assert_eq!(due.len(), 12 * 40);
        assert!(due.is_sorted());
        assert_eq!(reader.due(0, due[7].0, 3).unwrap(), due[..3]);
        assert!(
            reader
                .due(due[9].0, due[20].0, usize::MAX)
                .unwrap()
                .iter()
                .all(|it| (due[9].0..=due[20].0).contains(&it.0))
        );
        assert_eq!(reader.due(0, 4_999, 10).unwrap(), []);

        let mut after = None;
        let mut walked = Vec::new();
        loop {
            let page = reader.keys_after(after.as_ref(), 7).unwrap();
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            walked.extend(page.into_iter().map(|(key, _)| key));
        }
        assert_eq!(walked, keys);
    };
    check(&opened);
    drop(opened);
    check(&open(dir.path()));
}

#[test]
fn the_log_is_the_one_of_the_rfc_and_its_tiles_are_stored() {
    let dir = folder();
    let (opened, filler) = filled(dir.path(), 30, 40);
    let reader = &opened.reader;
    let leaves: Vec<Hash32> =
        (0..filler.next_index).map(|index| leaf_hash(&reader.entry_bytes(index).unwrap().unwrap())).collect();
    assert_eq!(reader.entry_bytes(filler.next_index).unwrap(), None);
    for height in 0..=30 {
        let root = reader.root_at(height).unwrap().unwrap();
        assert_eq!(root.root, naive_root(&leaves[..root.size as usize]), "height {height}");
        let last = reader.entry(root.size - 1).unwrap().unwrap();
        assert!(matches!(last, Entry::Block(entry) if entry.height == height), "a block ends with its entry");
    }
    assert_eq!(reader.root_at(31).unwrap(), None);
    for (index, tile) in (0u64..).zip(leaves.chunks_exact(256)) {
        assert_eq!(reader.tile(0, index).unwrap().as_deref(), Some(tile));
    }
    assert_eq!(reader.tile(0, filler.next_index / 256).unwrap(), None, "only full tiles are stored");
    assert_eq!(reader.tile(1, 0).unwrap(), None);
}

#[test]
fn blocks_out_of_turn_are_not_committed() {
    let dir = folder();
    let (mut opened, _) = filled(dir.path(), 2, 3);
    for (height, seq) in [(2, 2), (4, 2), (0, 2)] {
        let mut commit = anji_storage::BlockCommit { height, ..Default::default() };
        commit.n_ops = seq;
        assert!(matches!(opened.store.commit(&commit), Err(CommitError::OutOfTurn { .. })), "height {height}");
    }
    assert_eq!(opened.reader.executed_height().unwrap(), Some(2));
}

fn state_files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir.join("state")).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    // What RocksDB tells people, what locks, and its own log, which is off and empty: no data.
    names.retain(|name| !name.starts_with("LOG") && name != "LOCK" && !name.ends_with(".log"));
    names.sort();
    names
}

#[test]
fn a_flipped_byte_in_any_state_file_is_named() {
    let dir = folder();
    drop(filled(dir.path(), 20, 60));
    let names = state_files(dir.path());
    for kind in ["CURRENT", "IDENTITY", "MANIFEST-", "OPTIONS-", "SUMS", ".sst"] {
        assert!(names.iter().any(|name| name.contains(kind)), "{kind} is in {names:?}");
    }
    for name in names {
        let path = dir.path().join("state").join(&name);
        let whole = fs::read(&path).unwrap();
        let step = whole.len() / 50 + 1;
        for place in (0..whole.len()).step_by(step).chain([whole.len() - 1]) {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x20;
            fs::write(&path, &bytes).unwrap();
            let error = refused(dir.path());
            assert!(error.contains(&format!("{name} is corrupted")), "byte {place} of {name}: {error}");
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(refused(dir.path()).contains(&name), "{name} cut");
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(open(dir.path()).reader.executed_height().unwrap(), Some(20));
}

#[test]
fn without_digests_rocksdbs_own_checksums_find_it() {
    let dir = folder();
    drop(filled(dir.path(), 20, 60));
    fs::remove_file(dir.path().join("state/SUMS")).unwrap();
    let whole_folder = folder();
    copy_dir(dir.path(), whole_folder.path());
    let mut n_refused = 0;
    for name in state_files(dir.path()) {
        let whole = fs::read(whole_folder.path().join("state").join(&name)).unwrap();
        let step = whole.len() / 5 + 1;
        for place in (0..whole.len()).step_by(step) {
            fs::remove_dir_all(dir.path().join("state")).unwrap();
            copy_dir(&whole_folder.path().join("state"), &dir.path().join("state"));
            let mut bytes = whole.clone();
            bytes[place] ^= 0x08;
            fs::write(dir.path().join("state").join(&name), &bytes).unwrap();
            match Store::open(dir.path(), &genesis(1), &options()) {
                Err(error) => {
                    n_refused += 1;
                    let text = error.to_string();
                    assert!(name.starts_with("MANIFEST") || text.contains(&name), "byte {place} of {name}: {text}");
                }
                // A manifest whose end is lost is an older state: blocks are run again. A filter that is lost is asked for later.
                Ok(opened) => {
                    let height = opened.reader.executed_height().unwrap().unwrap_or(0);
                    let root = opened.reader.root_at(height).unwrap();
                    assert_eq!(root, opened.reader.last_block().unwrap().map(|it| it.log));
                }
            }
        }
    }
    assert!(n_refused > 15, "{n_refused}");
}

#[test]
fn state_files_that_are_gone_are_missed() {
    let dir = folder();
    drop(filled(dir.path(), 20, 60));
    let whole_folder = folder();
    copy_dir(dir.path(), whole_folder.path());
    for name in state_files(dir.path()) {
        fs::remove_dir_all(dir.path().join("state")).unwrap();
        copy_dir(&whole_folder.path().join("state"), &dir.path().join("state"));
        fs::remove_file(dir.path().join("state").join(&name)).unwrap();
        match Store::open(dir.path(), &genesis(1), &options()) {
            // Nothing that the state consists of.
            Ok(opened) => {
                assert!(["IDENTITY", "SUMS"].contains(&name.as_str()) || name.starts_with("OPTIONS"), "{name}");
                assert_eq!(opened.reader.executed_height().unwrap(), Some(20));
            }
            Err(error) => assert!(error.to_string().contains("delete the folder `state`"), "{name}: {error}"),
        }
    }
}

#[test]
fn a_state_that_did_not_reach_the_disk_is_that_of_a_whole_block() {
    let dir = folder();
    let copy = folder();
    let (mut opened, mut filler) = filled(dir.path(), 5, 20);
    opened.store.flush().unwrap();
    for height in 6..=9 {
        let block = block(height, &[b"batch"]);
        decide(&opened.blocks, &block);
        filler.commit(&mut opened, height, block.certificate.value, 20);
    }
    copy_dir(dir.path(), copy.path());
    let crashed = open(copy.path());
    assert_eq!(crashed.reader.executed_height().unwrap(), Some(5));
    assert_eq!(crashed.blocks.decided_height(), 9);
    assert_eq!(crashed.store.log_root(), opened.reader.root_at(5).unwrap().unwrap());
}

#[test]
fn the_state_of_other_blocks_does_not_open() {
    let dir = folder();
    drop(filled(dir.path(), 3, 3));
    let other = folder();
    let opened = open(other.path());
    for height in 1..=3 {
        decide(&opened.blocks, &block(height, &[b"batch", b"another"]));
    }
    drop(opened);
    fs::remove_dir_all(other.path().join("state")).unwrap();
    copy_dir(&dir.path().join("state"), &other.path().join("state"));
    let error = refused(other.path());
    assert!(error.contains("another block at height 3"), "{error}");
}

#[test]
fn quick_opening_checks_the_structure_only_but_reads_are_checked() {
    let dir = folder();
    drop(filled(dir.path(), 20, 60));
    let quick = StoreOptions { verify: Verify::Recent, ..options() };
    let opened = Store::open(dir.path(), &genesis(1), &quick).unwrap();
    assert_eq!(opened.reader.executed_height().unwrap(), Some(20));
    let usage = opened.reader.disk_usage();
    assert!(usage.blocks_bytes > 1000 && usage.state_bytes > 1000 && usage.free_bytes.is_some(), "{usage:?}");
}

#[test]
fn a_little_state_is_flushed_after_a_while_without_being_asked() {
    let dir = folder();
    let at_once = StoreOptions { flush_every: std::time::Duration::ZERO, ..options() };
    let mut opened = Store::open(dir.path(), &genesis(1), &at_once).unwrap();
    Filler::new().fill(&mut opened, 5, 3);
    let flushed = || Store::open_read_only(dir.path(), &options()).unwrap().reader.executed_height().unwrap();
    let begun = std::time::Instant::now();
    while flushed() != Some(5) {
        assert!(begun.elapsed().as_secs() < 30, "the state on disk is at {:?}", flushed());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
