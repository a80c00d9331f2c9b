//! The same blocks give the same roots: in one go, after every crash, and from nothing but the block file.

use crate::contracts::*;
use crate::support::*;
use anji_execution::{ExecutionError, Executor, scan_invariants};
use anji_storage::{ActiveAt, PROVABLE_BLOCKS, Store};
use std::fs;
use std::path::Path;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The folder as a crash at this moment would leave it: copied again if RocksDB made or removed a file meanwhile.
fn copy_as_crashed(from: &Path, to: &Path) {
    let state = from.join("state");
    loop {
        let before = names(&state);
        copy_dir(from, to);
        if names(&state) == before && names(&to.join("state")) == before {
            return;
        }
        fs::remove_dir_all(to).unwrap();
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            let _ = fs::copy(entry.path(), &target);
        }
    }
}

/// A few proofs at every height that can be proven from.
fn active_proofs(executor: &Executor, dice: &mut Dice) -> Vec<(u64, ActiveAt)> {
    let newest = executor.height();
    let mut proofs = Vec::new();
    for height in newest.saturating_sub(PROVABLE_BLOCKS as u64)..=newest {
        let size = executor.reader().root_at(height).unwrap().unwrap().size;
        let index = dice.roll(size - 1);
        proofs.push((index, executor.reader().active_proof(index, height).unwrap().expect("it is provable")));
    }
    proofs
}

fn holds(executor: &anji_execution::Executor) {
    let report = scan_invariants(executor.reader(), &mut |_, _| {}).unwrap();
    assert!(report.holds(), "{report:#?}");
}

#[test]
fn storage_agrees_with_the_ledger_in_memory_block_by_block() {
    let dir = folder();
    let genesis = genesis();
    let (mut executor, blocks) = open(dir.path(), &genesis, &small_options());
    let mut chain = ChainMaker::new(genesis.clone(), executor.log_root());
    let mut dice = Dice::new(1);
    for n in 0..150 {
        let batches = story_block(&mut chain, &mut dice);
        chain.run(&mut executor, &blocks, &batches);
        if n % 25 == 0 {
            chain.compare(&executor);
            holds(&executor);
        }
    }
    chain.compare(&executor);
    holds(&executor);
    assert!(chain.world.view.entities.len() > 150, "the story is lively: {}", chain.world.view.entities.len());
    // A clean stop and a start change nothing.
    let root = executor.log_root();
    drop((executor, blocks));
    let (mut executor, blocks) = open(dir.path(), &genesis, &small_options());
    assert_eq!((executor.height(), executor.log_root()), (150, root));
    chain.compare(&executor);
    // And it goes on from there, now with cold caches.
    for _ in 0..20 {
        let batches = story_block(&mut chain, &mut dice);
        chain.run(&mut executor, &blocks, &batches);
    }
    chain.compare(&executor);
    holds(&executor);
}

#[test]
fn a_crash_at_any_moment_replays_to_the_same_roots() {
    let dir = folder();
    let copies = folder();
    let genesis = genesis();
    let (mut executor, blocks) = open(dir.path(), &genesis, &small_options());
    let mut chain = ChainMaker::new(genesis.clone(), executor.log_root());
    let mut dice = Dice::new(2);
    let mut crashes = Vec::new();
    for n in 0..90u64 {
        let batches = story_block(&mut chain, &mut dice);
        chain.run(&mut executor, &blocks, &batches);
        if dice.roll(9) == 0 {
            executor.flush().unwrap();
        }
        if n % 6 == 0 {
            // What is on disk now, without what RocksDB holds in memory: what `kill -9` leaves.
            copy_as_crashed(dir.path(), &copies.path().join(n.to_string()));
            crashes.push((n, executor.log_root(), active_proofs(&executor, &mut dice)));
        }
    }
    for (n, root, proofs) in crashes {
        let copy = copies.path().join(n.to_string());
        let (executor, _blocks) = open(&copy, &genesis, &small_options());
        assert_eq!((executor.height(), executor.log_root()), (n + 1, root), "crash after block {n}");
        for (index, proof) in proofs {
            let again = executor.reader().active_proof(index, proof.height).unwrap();
            assert_eq!(again, Some(proof), "entry {index}, crash after block {n}");
        }
        holds(&executor);
    }
}

#[test]
fn the_state_is_rebuilt_from_the_block_file_alone() {
    let dir = folder();
    let genesis = genesis();
    let (mut executor, blocks) = open(dir.path(), &genesis, &small_options());
    let mut chain = ChainMaker::new(genesis.clone(), executor.log_root());
    let mut dice = Dice::new(3);
    for _ in 0..60 {
        let batches = story_block(&mut chain, &mut dice);
        chain.run(&mut executor, &blocks, &batches);
    }
    drop((executor, blocks));
    fs::remove_dir_all(dir.path().join("state")).unwrap();
    let (executor, _blocks) = open(dir.path(), &genesis, &small_options());
    assert_eq!(executor.log_root(), *chain.roots.last().unwrap());
    chain.compare(&executor);
}

#[test]
fn decided_blocks_that_were_never_executed_are_run_at_start() {
    let dir = folder();
    let genesis = genesis();
    let (executor, blocks) = open(dir.path(), &genesis, &small_options());
    let mut chain = ChainMaker::new(genesis.clone(), executor.log_root());
    // A twin executes, so that the headers can be made.
    let twin = folder();
    let (mut other, _other_blocks) = open(twin.path(), &genesis, &small_options());
    let mut dice = Dice::new(4);
    for _ in 0..10 {
        let batches = story_block(&mut chain, &mut dice);
        let block = chain.make_block(&batches);
        chain.decide(&blocks, &block);
        chain.execute(&mut other, block).unwrap();
    }
    drop((executor, blocks));
    let (executor, _blocks) = open(dir.path(), &genesis, &small_options());
    assert_eq!((executor.height(), executor.log_root()), (10, other.log_root()));
}

#[test]
fn a_header_with_another_root_stops_with_both_roots() {
    let dir = folder();
    let genesis = genesis();
    let (mut executor, blocks) = open(dir.path(), &genesis, &small_options());
    let mut chain = ChainMaker::new(genesis, executor.log_root());
    let mut dice = Dice::new(5);
    for _ in 0..5 {
        let batches = story_block(&mut chain, &mut dice);
        chain.run(&mut executor, &blocks, &batches);
    }
    chain.world.now_ms += 1;
    let mut block = chain.make_block(&[]);
    block.header.log.root.0[0] ^= 1;
    block.certificate.value = block.header.hash();
    let error = executor.execute(&block.clone().into()).unwrap_err();
    assert!(error.is_broken());
    let text = error.to_string();
    let own = chain.roots[4];
    assert!(text.contains(&own.root.to_string()) && text.contains(&block.header.log.root.to_string()), "{text}");
    assert!(matches!(error, ExecutionError::BrokenRoot { height: 6, of_height: 4, .. }));
}

#[test]
fn a_block_that_is_not_the_successor_is_refused() {
    let dir = folder();
    let genesis = genesis();
    let (mut executor, blocks) = open(dir.path(), &genesis, &small_options());
    let mut chain = ChainMaker::new(genesis, executor.log_root());
    chain.world.now_ms += 1;
    chain.run(&mut executor, &blocks, &[]);
    let good = chain.make_block(&[]);
    type Change = fn(&mut anji_storage::Block);
    let change: [(&str, Change); 7] = [
        ("height", |it| it.header.height += 1),
        ("parent", |it| it.header.parent_hash.0[3] ^= 1),
        ("time", |it| it.header.time_ms -= 1),
        ("number of batches", |it| it.header.n_batches = 1),
        ("body", |it| it.header.batches_root.0[0] ^= 1),
        ("rules", |it| it.header.rules = 2),
        ("chain", |it| it.header.chain_id.0.0[0] ^= 1),
    ];
    for (what, change) in change {
        let mut block = good.clone();
        chain.world.now_ms += 1;
        change(&mut block);
        block.certificate.value = block.header.hash();
        let error = executor.execute(&block.into()).unwrap_err();
        assert!(matches!(error, ExecutionError::BrokenBlock { .. }), "{what}: {error}");
    }
    let mut block = good;
    block.certificate.value.0[0] ^= 1;
    assert!(executor.execute(&block.into()).unwrap_err().is_broken());
}

#[test]
fn a_state_ahead_of_its_block_file_does_not_open() {
    let dir = folder();
    let genesis = genesis();
    let (mut executor, blocks) = open(dir.path(), &genesis, &small_options());
    let mut chain = ChainMaker::new(genesis.clone(), executor.log_root());
    for _ in 0..3 {
        chain.world.now_ms += 1;
        chain.run(&mut executor, &blocks, &[]);
    }
    drop((executor, blocks));
    let segment = dir.path().join("blocks/000001.blk");
    let length = fs::metadata(&segment).unwrap().len();
    fs::File::options().write(true).open(&segment).unwrap().set_len(length - 1).unwrap();
    let error = Store::open(dir.path(), &genesis, &small_options()).unwrap_err().to_string();
    assert!(error.contains("height 3") && error.contains("ends at 2"), "{error}");
}

#[test]
fn the_scan_sees_what_was_changed_behind_the_ledgers_back() {
    // The scan must be able to fail: the same folder judged against the log of a shorter chain.
    let dir = folder();
    let genesis = genesis();
    let (mut executor, blocks) = open(dir.path(), &genesis, &small_options());
    let mut chain = ChainMaker::new(genesis, executor.log_root());
    let mut dice = Dice::new(6);
    for _ in 0..40 {
        let batches = story_block(&mut chain, &mut dice);
        chain.run(&mut executor, &blocks, &batches);
    }
    let report = scan_invariants(executor.reader(), &mut |_, _| {}).unwrap();
    assert!(report.holds(), "{report:#?}");
    assert_eq!(report.height, 40);
    assert_eq!(report.n_entities as usize, chain.world.view.entities.len());
    let names: Vec<_> = report.checks.iter().map(|check| check.name).collect();
    assert_eq!(
        names,
        [
            "log root",
            "tiles",
            "blocks",
            "receipts",
            "versions",
            "active roots",
            "latest",
            "due",
            "windows",
            "sums",
            "operations"
        ]
    );
}
