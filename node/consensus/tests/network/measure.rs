//! Figures, not tests: run with `--ignored --nocapture`. Four nodes in one process share the machine.

use crate::harness::{TestNet, quick};
use anji_consensus::Timing;
use std::time::{Duration, Instant};

const ALL: [usize; 4] = [0, 1, 2, 3];

async fn measure(name: &str, batch_bytes: usize, batches_per_block: usize) {
    let mut net = TestNet::new(4, 0, Timing { heartbeat: Duration::from_millis(1), ..quick() });
    net.sync_disks();
    net.start_all().await;
    net.wait_decided(&ALL, 20, Duration::from_secs(60)).await;
    let begun = Instant::now();
    let first = net.nodes[0].height();
    let mut decided_at = vec![begun];
    let mut heights = net.nodes[0].consensus().decided();
    while begun.elapsed() < Duration::from_secs(10) {
        if batches_per_block > 0 {
            let waiting = net.nodes[0].pool.n_waiting();
            for _ in waiting..batches_per_block {
                let bytes = net.batch(batch_bytes);
                for node in &net.nodes {
                    node.pool.put(&bytes);
                }
            }
        }
        if heights.changed().await.is_ok() {
            decided_at.push(Instant::now());
        }
    }
    let blocks = net.nodes[0].height() - first;
    let mut gaps: Vec<f64> = decided_at.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3).collect();
    gaps.sort_by(f64::total_cmp);
    let at = |part: usize| gaps[(gaps.len() - 1) * part / 100];
    println!(
        "{name}: {:.1} blocks/s, from block to block p50 {:.1} ms, p99 {:.1} ms, rounds lost {}",
        blocks as f64 / begun.elapsed().as_secs_f64(),
        at(50),
        at(99),
        net.nodes[0].metric("anji_consensus_skipped_rounds_total"),
    );
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn block_times() {
    measure("empty blocks", 0, 0).await;
    measure("one batch of 100 kB", 100_000, 1).await;
    measure("ten batches of 100 kB", 100_000, 10).await;
}
