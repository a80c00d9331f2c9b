//! How fast one node executes. Not a timed test: run it with
//! `cargo test --release -p anji-execution --test execution -- --ignored --nocapture pay_throughput`.

use crate::contracts::*;
use crate::support::*;
use anji_contracts::decode_batch;
use anji_contracts::ops::*;
use anji_contracts::types::*;
use anji_execution::{DecidedBlock, ExecutionMetrics, ExecutionOptions, Executor};
use anji_storage::{BlockFile, Store, StoreOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};

const N_MANDATES: usize = 10_000;
const BATCH_OPS: usize = 1000;
const BLOCK_BATCHES: usize = 10;

#[test]
#[ignore = "prints figures, run by hand"]
fn pay_throughput() {
    let n_blocks: usize = std::env::var("BLOCKS").ok().and_then(|it| it.parse().ok()).unwrap_or(60);
    let dir = tempfile::tempdir_in(std::env::var("BENCH_DIR").unwrap_or_else(|_| "/tmp".into())).unwrap();
    let mut genesis = genesis();
    for position in &mut genesis.positions {
        position.cap = Amount(u64::MAX / 4);
        position.liquidity = Amount(u64::MAX / 4);
    }
    let opened = Store::open(dir.path(), &genesis, &StoreOptions::default()).unwrap();
    let blocks = opened.blocks.clone();
    let metrics = ExecutionMetrics::default();
    let mut executor = Executor::open(opened, &genesis, &ExecutionOptions::default(), metrics.clone()).unwrap();
    let mut chain = ChainMaker::new(genesis, executor.log_root());
    let mandates = make_mandates(&mut chain, &mut executor, &blocks);
    println!("{} mandates, {} blocks of {} Pay", mandates.len(), n_blocks, BATCH_OPS * BLOCK_BATCHES);

    let before = stages(&metrics);
    let (mut n_ops, mut busy, mut bytes, mut appending) = (0usize, Duration::ZERO, 0usize, Duration::ZERO);
    let mut cpu = Duration::ZERO;
    let entries_before = executor.log_root().size;
    let mut dice = Dice::new(7);
    for _ in 0..n_blocks {
        chain.world.now_ms += 250;
        let batches: Vec<Vec<u8>> = (0..BLOCK_BATCHES)
            .map(|_| {
                let ops: Vec<Op> = (0..BATCH_OPS)
                    .map(|_| {
                        let mandate = mandates[dice.roll(mandates.len() as u64) as usize];
                        let mut body = pay(mandate, 100 + dice.roll(1000));
                        // Hashes and pseudonyms differ in real life, and do not compress.
                        for bytes in [
                            &mut body.order.order_hash.0[..],
                            &mut body.order.envelope_hash.0,
                            &mut body.order.merchant.0,
                            &mut body.order.trace_id.0,
                        ] {
                            bytes.iter_mut().for_each(|byte| *byte = dice.roll(256) as u8);
                        }
                        Op { op_id: chain.world.new_id(), linked: false, body: OpBody::Pay(body) }
                    })
                    .collect();
                chain.world.batch_bytes(ACQUIRER, &ops)
            })
            .collect();
        let block = chain.make_block(&batches);
        bytes += batches.iter().map(Vec::len).sum::<usize>();
        let started = Instant::now();
        chain.decide(&blocks, &block);
        appending += started.elapsed();
        // As in a node: admission decoded and verified the batches long before.
        let checked = batches
            .iter()
            .map(|bytes| Some(Arc::new(decode_batch(bytes, &chain.genesis.chain_id()).unwrap().assume_verified())));
        let decided = DecidedBlock { block: block.clone(), checked: checked.collect() };
        let (started, cpu_before) = (Instant::now(), thread_cpu());
        let executed = executor.execute(&decided).unwrap();
        busy += started.elapsed();
        cpu += thread_cpu() - cpu_before;
        assert!(executed.batches.iter().flat_map(|it| &it.receipts).all(|it| code(&it.result) == 0));
        chain.roots.push(executed.log);
        chain.parent_hash = executed.header_hash;
        chain.blocks.push(block);
        chain.blocks.last_mut().unwrap().batches.clear();
        n_ops += BATCH_OPS * BLOCK_BATCHES;
    }
    let after = stages(&metrics);
    let per_op = |seconds: f64| seconds * 1e6 / n_ops as f64;
    println!("{:.0} Pay/s, {:.2} µs each:", n_ops as f64 / busy.as_secs_f64(), per_op(busy.as_secs_f64()));
    println!("  of it on the CPU {:.2} µs: {:.0} Pay/s", per_op(cpu.as_secs_f64()), n_ops as f64 / cpu.as_secs_f64());
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        println!("  {name:9} {:6.2} µs", per_op(after - before));
    }
    println!("  entries/op {:.2}", (executor.log_root().size - entries_before) as f64 / n_ops as f64);
    println!("block file: {:.2} ms per block (write and sync)", appending.as_secs_f64() * 1e3 / n_blocks as f64);
    executor.flush().unwrap();
    let disk = executor.reader().disk_usage();
    println!(
        "submitted {} MB, block file {} MB, state {} MB: {:.2} bytes per byte",
        bytes >> 20,
        disk.blocks_bytes >> 20,
        disk.state_bytes >> 20,
        (disk.blocks_bytes + disk.state_bytes) as f64 / bytes as f64
    );
    println!("memory: {}", memory());
    let threads = anji_meter::text();
    threads.lines().filter(|line| line.starts_with("anji_cpu_threads")).for_each(|line| println!("{line}"));
    let genesis = chain.genesis.clone();
    drop((executor, blocks));
    let started = Instant::now();
    let (executor, blocks) = open(dir.path(), &genesis, &StoreOptions::default());
    println!("start with every check: {:.2} s", started.elapsed().as_secs_f64());
    drop((executor, blocks));
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    let started = Instant::now();
    let (executor, _blocks) = open(dir.path(), &genesis, &StoreOptions::default());
    let seconds = started.elapsed().as_secs_f64();
    println!("state rebuilt from the block file: {seconds:.2} s, {:.0} Pay/s", n_ops as f64 / seconds);
    assert_eq!(executor.log_root(), *chain.roots.last().unwrap());
}

fn make_mandates(chain: &mut ChainMaker, executor: &mut Executor, blocks: &BlockFile) -> Vec<MandateId> {
    let mut mandates = Vec::new();
    for _ in 0..N_MANDATES / BATCH_OPS {
        chain.world.now_ms += 100;
        let mut ids = Vec::new();
        let ops: Vec<Op> = (0..BATCH_OPS)
            .map(|_| {
                let op_id = chain.world.new_id();
                ids.push(MandateId(ScopedId { participant: ACQUIRER, op_id }));
                let body = MandatePropose { ceiling: Amount(1 << 50), ..propose(&chain.world) };
                Op { op_id, linked: false, body: OpBody::MandatePropose(body) }
            })
            .collect();
        let proposals = chain.world.batch_bytes(ACQUIRER, &ops);
        let ops: Vec<Op> = ids
            .iter()
            .map(|id| {
                let now_ms = chain.world.now_ms;
                let guarantee = Some(Guarantee { amount: Amount(1 << 50), until_ms: now_ms + 10 * DAY_MS });
                let body = MandateActivate { ceiling: Amount(1 << 50), guarantee, ..activate(&chain.world, *id) };
                Op { op_id: chain.world.new_id(), linked: false, body: OpBody::MandateActivate(body) }
            })
            .collect();
        let activations = chain.world.batch_bytes(ISSUER, &ops);
        let block = chain.make_block(&[proposals, activations]);
        chain.decide(blocks, &block);
        let executed = chain.execute(executor, block).unwrap();
        assert!(executed.batches.iter().flat_map(|it| &it.receipts).all(|it| code(&it.result) == 0));
        mandates.extend(ids);
    }
    mandates
}

fn stages(metrics: &ExecutionMetrics) -> [(&'static str, f64); 5] {
    [
        ("decode", metrics.decode_seconds.get()),
        ("prefetch", metrics.prefetch_seconds.get()),
        ("rules", metrics.rules_seconds.get()),
        ("encode", metrics.encode_seconds.get()),
        ("commit", metrics.commit_seconds.get()),
    ]
}

/// Time this thread was on a CPU: what counts when others use the machine too.
fn thread_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or_default())
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM")).collect::<Vec<_>>().join(", ")
}
