//! What the rules themselves cost: `Pay` in batches of 1,000 over a state in memory, decoding and signature check apart.
//! `cargo run --release -p anji-contracts --example pay_rate`
#![allow(clippy::unwrap_used, clippy::disallowed_types, missing_docs, reason = "a measurement, not the ledger")]

#[path = "../tests/common/mod.rs"]
mod common;

use anji_contracts::block::BlockExecutor;
use anji_contracts::entity::{EntityKey, Suite};
use anji_contracts::ops::{Op, OpBody};
use anji_contracts::types::{Amount, MandateId};
use anji_contracts::{codec, decode_batch};
use common::{ACQUIRER, World, pay, signing_key};
use std::time::{Duration, Instant};

const N_MANDATES: u64 = 10_000;
const N_BLOCKS: usize = 20;
const BATCHES_PER_BLOCK: usize = 10;
const OPS_PER_BATCH: usize = 1000;

fn main() {
    let mut genesis = common::genesis();
    for position in &mut genesis.positions {
        position.cap = Amount(u64::MAX / 4);
        position.liquidity = Amount(u64::MAX / 4);
    }
    let mut world = World::with(&genesis);
    let mandates: Vec<MandateId> = (0..N_MANDATES).map(|_| world.active_mandate()).collect();
    let key = signing_key(ACQUIRER, 1).verifying_key().to_bytes();

    let (mut decoding, mut verifying, mut executing) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut bytes_total = 0;
    let mut picked = 0_usize;
    for _ in 0..N_BLOCKS {
        world.now_ms += 100;
        let mut batches = Vec::new();
        for _ in 0..BATCHES_PER_BLOCK {
            let ops: Vec<Op> = (0..OPS_PER_BATCH)
                .map(|_| {
                    picked = (picked * 31 + 17) % mandates.len();
                    let body = OpBody::Pay(pay(mandates[picked], 100));
                    Op { op_id: world.new_id(), linked: false, body }
                })
                .collect();
            let bytes = world.batch_bytes(ACQUIRER, &ops);
            bytes_total += bytes.len();
            let start = Instant::now();
            let decoded = decode_batch(&bytes, &world.chain).unwrap();
            decoding += start.elapsed();
            let start = Instant::now();
            batches.push(decoded.verify(Suite::Ed25519, &key).unwrap());
            verifying += start.elapsed();
        }
        let start = Instant::now();
        let mut executor = BlockExecutor::begin(&world.view, world.context()).unwrap();
        for batch in &batches {
            executor.apply_batch(batch).unwrap();
        }
        let effects = executor.finish().unwrap();
        executing += start.elapsed();
        let done = effects.batches.iter().flat_map(|batch| &batch.receipts);
        assert!(done.into_iter().all(|receipt| common::code(&receipt.result) == 0));
        world.view.apply(&effects);
        world.height += 1;
    }
    let n_ops = N_BLOCKS * BATCHES_PER_BLOCK * OPS_PER_BATCH;
    let per_op = |time: Duration| time.as_secs_f64() * 1e6 / n_ops as f64;
    println!("{n_ops} Pay, {} bytes each in the batch", bytes_total / n_ops);
    println!("decode, hash and root  {:6.2} µs an op", per_op(decoding));
    println!("verify the signature   {:6.2} µs an op", per_op(verifying));
    println!("execute                {:6.2} µs an op, {:.0} ops/s", per_op(executing), 1e6 / per_op(executing));
    let payment = world.view.entities.range(EntityKey::Payment(Default::default())..).next().unwrap();
    println!("a payment's state has {} bytes", codec::encode(payment.1).len());
}
