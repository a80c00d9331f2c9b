//! The execution thread as the rest of the node sees it.

use crate::contracts::*;
use crate::support::*;
use anji_execution::{ExecutionError, spawn};
use anji_storage::Store;

#[tokio::test]
async fn blocks_go_in_and_roots_come_out() {
    let dir = folder();
    let genesis = genesis();
    let (executor, blocks) = open(dir.path(), &genesis, &small_options());
    let mut chain = ChainMaker::new(genesis.clone(), executor.log_root());
    // A twin in memory of the test makes the headers.
    let twin = folder();
    let (mut other, _other_blocks) = open(twin.path(), &genesis, &small_options());
    let handle = spawn(executor).unwrap();
    let mut each = handle.subscribe();
    let early = handle.clone();
    let waits = tokio::spawn(async move { early.root_after(80).await });
    let mut dice = Dice::new(8);
    for height in 1..=80 {
        let batches = story_block(&mut chain, &mut dice);
        let block = chain.make_block(&batches);
        chain.decide(&blocks, &block);
        chain.execute(&mut other, block.clone()).unwrap();
        handle.submit(block.into()).await.unwrap();
        let executed = each.recv().await.unwrap();
        assert_eq!((executed.height, executed.log), (height, chain.roots[height as usize]));
        assert_eq!(handle.registry_after(height).await.unwrap().unwrap().height, height);
    }
    assert_eq!(waits.await.unwrap().unwrap(), chain.roots[80]);
    assert_eq!(handle.executed().height, 80);
    // Far back: from storage, and without a registry.
    assert_eq!(handle.root_after(3).await.unwrap(), chain.roots[3]);
    assert_eq!(handle.try_root_after(3), None);
    assert_eq!(handle.registry_after(3).await.unwrap(), None);
    assert_eq!(handle.try_registry_after(81), None);
    handle.stop().await.unwrap();
    assert!(handle.stopped().await.is_none());
    assert!(matches!(handle.root_after(81).await, Err(ExecutionError::Stopped)));
    drop((handle, each, blocks));
    // Right after a start, the registries of the last heights are there again.
    let (executor, _blocks) = open(dir.path(), &genesis, &small_options());
    let handle = spawn(executor).unwrap();
    assert_eq!(handle.registry_after(78).await.unwrap().unwrap().participants.len(), genesis.participants.len());
    assert_eq!(handle.root_after(79).await.unwrap(), chain.roots[79]);
}

#[tokio::test]
async fn a_broken_block_stops_the_thread_and_says_why() {
    let dir = folder();
    let genesis = genesis();
    let (executor, blocks) = open(dir.path(), &genesis, &small_options());
    let mut chain = ChainMaker::new(genesis.clone(), executor.log_root());
    chain.world.now_ms += 1;
    let mut block = chain.make_block(&[]);
    block.header.log.size += 1;
    block.certificate.value = block.header.hash();
    let handle = spawn(executor).unwrap();
    handle.submit(block.into()).await.unwrap();
    let error = handle.stopped().await.unwrap();
    assert!(error.is_broken(), "{error}");
    let waiting = handle.root_after(1).await;
    assert!(matches!(waiting, Err(ExecutionError::Stopped)));
    assert!(handle.stop().await.is_err());
    // Nothing of the block was kept.
    drop((handle, blocks));
    let opened = Store::open(dir.path(), &genesis, &small_options()).unwrap();
    assert_eq!(opened.reader.executed_height().unwrap(), Some(0));
}
