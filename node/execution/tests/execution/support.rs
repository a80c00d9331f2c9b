//! A chain made by the tests: blocks in the block file, executed by the real executor, next to the contracts' own world in memory.

use crate::contracts::*;
use anji_contracts::entity::{Entity, EntityKey, PaymentStatus, RefundStatus};
use anji_contracts::ops::*;
use anji_contracts::types::*;
use anji_contracts::{CheckedBatch, Genesis, decode_batch};
use anji_execution::{Executed, ExecutionError, ExecutionMetrics, ExecutionOptions, Executor};
use anji_storage::{Block, BlockFile, Opened, Store, StoreOptions};
use anji_verify::{Address, CommitCertificate, Header, LogRoot};
use bytes::Bytes;
use std::path::Path;

/// Makes blocks and knows what their headers must say.
pub(crate) struct ChainMaker {
    pub(crate) genesis: Genesis,
    pub(crate) world: World,
    pub(crate) blocks: Vec<Block>,
    /// By height, genesis first.
    pub(crate) roots: Vec<LogRoot>,
    pub(crate) parent_hash: Hash32,
}

/// A folder that goes away with the test; in memory where the system offers that, since no test here pulls the plug.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

pub(crate) fn small_options() -> StoreOptions {
    StoreOptions { cache_bytes: 8 << 20, write_buffer_bytes: 4 << 20, ..StoreOptions::default() }
}

pub(crate) fn open(dir: &Path, genesis: &Genesis, options: &StoreOptions) -> (Executor, BlockFile) {
    try_open(dir, genesis, options).expect("the folder opens")
}

pub(crate) fn try_open(
    dir: &Path,
    genesis: &Genesis,
    options: &StoreOptions,
) -> Result<(Executor, BlockFile), Box<dyn std::error::Error>> {
    let opened: Opened = Store::open(dir, genesis, options)?;
    let blocks = opened.blocks.clone();
    let executor = Executor::open(opened, genesis, &ExecutionOptions::default(), ExecutionMetrics::default())?;
    Ok((executor, blocks))
}

impl ChainMaker {
    pub(crate) fn new(genesis: Genesis, genesis_root: LogRoot) -> Self {
        let world = World::with(&genesis);
        Self { genesis, world, blocks: Vec::new(), roots: vec![genesis_root], parent_hash: Hash32::ZERO }
    }

    pub(crate) fn height(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// The next block with these batches; `log` of its header as it must be.
    pub(crate) fn make_block(&self, batches: &[Vec<u8>]) -> Block {
        let height = self.height() + 1;
        let chain = self.genesis.chain_id();
        let hashes: Vec<Hash32> =
            batches.iter().map(|bytes| decode_batch(bytes, &chain).expect("well formed").hash).collect();
        let header = Header {
            format: 1,
            chain_id: chain,
            height,
            round: 0,
            time_ms: self.world.now_ms,
            parent_hash: self.parent_hash,
            proposer: Address([1; 20]),
            n_batches: batches.len() as u32,
            batches_root: Header::batches_root_of(&hashes),
            log: self.roots[height.saturating_sub(2) as usize],
            validators_hash: Hash32([2; 32]),
            next_validators_hash: Hash32([2; 32]),
            rules: 1,
        };
        let value = header.hash();
        let certificate = CommitCertificate { height, round: 0, value, signatures: Vec::new() };
        Block { header, batches: batches.iter().cloned().map(Bytes::from).collect(), certificate }
    }

    pub(crate) fn decide(&self, blocks: &BlockFile, block: &Block) {
        blocks.append_decided(&block.header, &block.batches, &block.certificate).expect("the block file takes it");
    }

    /// Makes, decides and executes a block, in memory too, and compares the receipts.
    pub(crate) fn run(&mut self, executor: &mut Executor, blocks: &BlockFile, batches: &[Vec<u8>]) -> Executed {
        let block = self.make_block(batches);
        self.decide(blocks, &block);
        let executed = self.execute(executor, block).expect("it executes");
        let checked: Vec<CheckedBatch> = batches
            .iter()
            .map(|bytes| decode_batch(bytes, &self.genesis.chain_id()).expect("well formed").assume_verified())
            .collect();
        let effects = self.world.block(&checked);
        for (ours, theirs) in executed.batches.iter().zip(&effects.batches) {
            assert_eq!(ours.receipts, theirs.receipts);
        }
        assert_eq!(executed.batches.len(), effects.batches.len());
        let Some(Entity::Control(control)) = self.world.view.entities.get(&EntityKey::Control) else {
            panic!("there is one")
        };
        assert_eq!(executed.has_backlog, self.world.view.window_tree.window < control.open_window);
        executed
    }

    pub(crate) fn execute(&mut self, executor: &mut Executor, block: Block) -> Result<Executed, ExecutionError> {
        let executed = executor.execute(&block.clone().into())?;
        self.roots.push(executed.log);
        self.parent_hash = executed.header_hash;
        self.blocks.push(block);
        Ok(executed)
    }

    /// Every entity and due item in storage is what the world in memory has.
    pub(crate) fn compare(&self, executor: &Executor) {
        let reader = executor.reader();
        let stored = reader.keys_after(None, usize::MAX).expect("reads");
        assert_eq!(stored.len(), self.world.view.entities.len());
        for (key, state) in &self.world.view.entities {
            let known = reader.entity(key).expect("reads").unwrap_or_else(|| panic!("{key:?} is not stored"));
            assert_eq!(known.entry.state, *state);
        }
        for (id, record) in &self.world.view.records {
            let row = reader.op(id).expect("reads").unwrap_or_else(|| panic!("{id} is not stored"));
            assert_eq!(row.record, *record);
        }
        let windows = reader.window_tree().expect("reads");
        assert_eq!(windows, self.world.view.window_tree);
        for window in (1..=windows.window.0).map(WindowId) {
            let of_window = self.world.view.captured.iter().filter(|it| it.0 == window).map(|it| it.1);
            let expected: Vec<PaymentId> = of_window.collect();
            assert_eq!(reader.window_payments(window, None, usize::MAX).expect("reads"), expected);
        }
        let due: Vec<_> = self.world.view.due.iter().copied().collect();
        assert_eq!(reader.due(0, u64::MAX, usize::MAX).expect("reads"), due);
    }
}

/// A small generator of numbers, so that a story is the same every time.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides.max(1)
    }
}

fn pick<T: Copy>(dice: &mut Dice, items: &[T]) -> Option<T> {
    items.get(dice.roll(items.len() as u64) as usize).copied()
}

/// Batches for one block of a lively ledger: every machine of the rule book, refusals, repeated ids, and time that passes.
pub(crate) fn story_block(chain: &mut ChainMaker, dice: &mut Dice) -> Vec<Vec<u8>> {
    let world = &mut chain.world;
    world.now_ms += [1, 50, 1000, HOUR_MS / 2, 3 * HOUR_MS][dice.roll(5) as usize];
    let mut mandates = Vec::new();
    let (mut proposed, mut requested, mut held, mut captured, mut refunds) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (key, state) in &world.view.entities {
        match (key, state) {
            (EntityKey::Mandate(id), Entity::Mandate(it)) if it.guarantee.version == 0 => proposed.push(*id),
            (EntityKey::Mandate(id), _) => mandates.push(*id),
            (EntityKey::Payment(id), Entity::Payment(it)) => match it.status {
                PaymentStatus::Requested => requested.push(*id),
                PaymentStatus::Held | PaymentStatus::PartCaptured => held.push((*id, it.amount.0 / 3 + 1)),
                PaymentStatus::Captured => captured.push((*id, it.captured.0 / 4 + 1, it.order.order_hash)),
                _ => {}
            },
            (EntityKey::Refund(id), Entity::Refund(it)) if it.status == RefundStatus::Accepted => refunds.push(*id),
            _ => {}
        }
    }
    let mut batches = Vec::new();
    for _ in 0..dice.roll(4) {
        let signer = [ACQUIRER, ISSUER, CLEARING, ACQUIRER][dice.roll(4) as usize];
        let mut ops = Vec::new();
        for _ in 0..=dice.roll(12) {
            let amount = dice.roll(5_000);
            let body = match (signer, dice.roll(8)) {
                (ACQUIRER, 0) => Some(OpBody::MandatePropose(propose(world))),
                (ACQUIRER, 1..=3) => pick(dice, &mandates).map(|it| OpBody::Pay(pay(it, amount))),
                (ACQUIRER, 4) => pick(dice, &mandates).map(|it| OpBody::PaymentRequest(request(world, it, amount))),
                (ACQUIRER, 5) => {
                    pick(dice, &held).map(|(it, part)| OpBody::PaymentCapture(capture(it, part, dice.roll(3) == 0)))
                }
                (ACQUIRER, 6) => {
                    pick(dice, &held).map(|(payment, _)| OpBody::PaymentVoid(PaymentVoid { payment, reason: 1 }))
                }
                (ACQUIRER, _) => pick(dice, &captured).map(|(payment, amount, order_hash)| {
                    OpBody::RefundRequest(RefundRequest { payment, amount: Amount(amount), reason: 2, order_hash })
                }),
                (ISSUER, 0..=2) => pick(dice, &proposed).map(|it| OpBody::MandateActivate(activate(world, it))),
                (ISSUER, 3..=5) => pick(dice, &requested)
                    .map(|payment| OpBody::PaymentHold(PaymentHold { payment, assertion: risk(), disclosure: None })),
                (ISSUER, 6) => {
                    pick(dice, &requested).map(|payment| OpBody::PaymentDecline(PaymentDecline { payment, reason: 3 }))
                }
                (ISSUER, _) => pick(dice, &refunds).map(|refund| OpBody::RefundPost(RefundStep { refund, reason: 0 })),
                (_, 0) => world.view.entities.get(&EntityKey::Control).and_then(|it| match it {
                    Entity::Control(it) => Some(OpBody::WindowClose(WindowClose { window: it.open_window })),
                    _ => None,
                }),
                _ => None,
            };
            if let Some(body) = body {
                // Now and then an id of a moment ago: a repetition or a conflict.
                let op_id = match dice.roll(12) {
                    0 => OpId::new(world.now_ms, world.next_id),
                    _ => world.new_id(),
                };
                ops.push(Op { op_id, linked: false, body });
            }
        }
        if !ops.is_empty() {
            batches.push(world.batch_bytes(signer, &ops));
        }
    }
    // The same bytes twice are one batch, which a block never holds twice.
    batches.sort();
    batches.dedup();
    batches
}
