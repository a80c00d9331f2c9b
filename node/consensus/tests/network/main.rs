//! Networks as sentences: what happens to a chain when nodes come, go, lie, lag and forget.

mod harness;
mod measure;

use anji_consensus::error::WalError;
use anji_consensus::{Fatal, Role, Timing};
use harness::{TestNet, quick};
use std::sync::atomic::Ordering;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const ALL: [usize; 4] = [0, 1, 2, 3];

/// Blocks without a pause, so that a test does not wait for heartbeats.
fn restless() -> Timing {
    Timing { heartbeat: Duration::from_millis(5), ..quick() }
}

/// Four validators that have decided so many heights.
async fn running(heights: u64) -> TestNet {
    let mut net = TestNet::new(4, 0, restless());
    net.start_all().await;
    net.wait_decided(&ALL, heights, LONG).await;
    net
}

/// Without another one, the third validator is needed.
async fn check_that_it_votes(mut net: TestNet) {
    net.nodes[1].stop().await;
    let height = net.nodes[0].height();
    net.wait_decided(&[0, 2, 3], height + 10, LONG).await;
    net.check_chains();
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_nodes_decide_the_same_blocks_with_every_batch_once() {
    let mut net = TestNet::new(4, 1, quick());
    net.start_all().await;
    let mut private = Vec::new();
    for i in 0..20 {
        // Mostly known to all; some are known to one node only and must be fetched by the others when it proposes them.
        if i % 4 == 0 {
            let bytes = net.batch(500);
            net.nodes[i % 3].pool.put(&bytes);
            private.push(bytes);
        } else {
            net.submit(&ALL);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    // What stays behind is spread again, as the mempool does: its node may be benched.
    for bytes in &private {
        net.nodes.iter().for_each(|node| node.pool.put(bytes));
    }
    let count = |net: &TestNet| -> usize {
        let disk = &net.nodes[4].disk;
        (1..=disk.height()).map(|height| disk.block(height).expect("no gap").0.batches.len()).sum()
    };
    net.wait(LONG, "the observer has all batches", || count(&net) >= 20).await;
    net.wait_decided(&[0, 1, 2, 3, 4], net.nodes[4].height(), LONG).await;
    net.check_chains();
    assert_eq!(count(&net), 20, "each batch once");
    assert_eq!(net.nodes[4].role(), Role::Observer);
    assert_eq!(net.nodes[0].role(), Role::Validator, "a fresh log, and the peers were at the beginning too");
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_proposer_is_benched() {
    let mut net = running(8).await;
    net.nodes[3].stop().await;
    let stopped_at = net.nodes[0].height();
    net.wait_decided(&[0, 1, 2], stopped_at + 40, LONG).await;
    let late_rounds = |from: u64| {
        (from..=stopped_at + 40)
            .filter(|height| net.nodes[0].disk.block(*height).expect("there").0.header.round > 0)
            .count()
    };
    assert!(late_rounds(stopped_at) <= 3, "{} of 40 blocks lost a round", late_rounds(stopped_at));
    assert_eq!(late_rounds(stopped_at + 12), 0, "once benched it costs nothing");
    net.check_chains();
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_a_slow_sync_holds_up_loses_no_proposal() {
    let mut net = running(8).await;
    for _ in 0..5 {
        // The others are a quorum and go on; what they propose meanwhile is never sent again.
        let height = net.nodes[3].height();
        net.nodes[3].disk.stalled.store(true, Ordering::Relaxed);
        net.wait(LONG, "the others are ahead", || net.nodes[0].height() >= height + 3).await;
        net.nodes[3].disk.stalled.store(false, Ordering::Relaxed);
        net.wait_decided(&ALL, height + 8, LONG).await;
    }
    let dropped = net.nodes[3].metric("anji_consensus_dropped_frames_total{reason=\"far_height\"}");
    assert_eq!(dropped, 0.0, "messages that it needs once its disk has answered");
    net.check_chains();
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_catches_up_and_votes_at_once() {
    let mut net = running(3).await;
    net.nodes[2].stop().await;
    let missed = net.nodes[0].height() + 60;
    net.wait_decided(&[0, 1, 3], missed, LONG).await;
    net.nodes[2].start().await.expect("starts");
    assert_eq!(net.nodes[2].role(), Role::Validator, "its log is intact");
    net.wait_decided(&[2], missed, LONG).await;
    assert!(net.nodes[2].metric("anji_consensus_synced_blocks_total") >= 20.0);
    check_that_it_votes(net).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_stopped_while_it_catches_up_still_votes() {
    let mut net = running(3).await;
    net.nodes[2].stop().await;
    let left_at = net.nodes[2].height();
    net.wait_decided(&[0, 1, 3], left_at + 60, LONG).await;
    // It gets so far and no further, twice; its consensus log stays where it was.
    for gate in [left_at + 15, left_at + 25] {
        net.nodes[2].execution.gate.store(gate, Ordering::Relaxed);
        net.nodes[2].execution.run();
        net.nodes[2].start().await.expect("starts");
        assert_eq!(net.nodes[2].role(), Role::Validator, "its log was left at {left_at} on purpose");
        net.wait_decided(&[2], gate + 1, LONG).await;
        net.nodes[2].stop().await;
        assert!(net.nodes[2].height() <= gate + 2, "at most two blocks ahead of execution");
    }
    net.nodes[2].execution.gate.store(u64::MAX, Ordering::Relaxed);
    net.nodes[2].execution.run();
    net.nodes[2].start().await.expect("starts");
    assert_eq!(net.nodes[2].role(), Role::Validator);
    net.wait_decided(&[2], left_at + 60, LONG).await;
    check_that_it_votes(net).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_serves_other_blocks_is_left_alone() {
    let mut net = running(3).await;
    net.nodes[2].stop().await;
    let left_at = net.nodes[2].height();
    net.wait_decided(&[0, 1, 3], left_at + 60, LONG).await;
    for height in left_at + 1..=left_at + 60 {
        net.nodes[0].disk.forge(height, |body| body.header.time_ms += 1);
    }
    net.nodes[2].start().await.expect("starts");
    net.wait_decided(&[2], left_at + 60, LONG).await;
    assert!(net.nodes[2].metric("anji_consensus_dropped_frames_total{reason=\"malformed_answer\"}") >= 1.0);
    for height in left_at + 1..=left_at + 60 {
        let value = |node: usize| net.nodes[node].disk.block(height).expect("there").1.value;
        assert_eq!(value(2), value(1), "height {height}");
        assert_eq!(net.nodes[2].disk.block(height).expect("there").0.header.hash(), value(1), "height {height}");
    }
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_validator_follows_and_votes_again_when_it_may() {
    let mut net = running(10).await;
    net.nodes[1].stop().await;
    net.nodes[1].wipe();
    let tip = net.nodes[0].height();
    let own = net.nodes[1].config.own_address().expect("a validator");
    net.nodes[1].start().await.expect("starts");
    match net.nodes[1].role() {
        Role::Follower { reason, .. } => assert!(reason.contains("wiped"), "{reason}"),
        other => panic!("{other:?}"),
    }
    net.wait(LONG, "it votes", || net.nodes[1].role() == Role::Validator).await;
    let voted_from = net.nodes[1].height();
    assert!(voted_from > tip + 2, "voted after {voted_from}, the tip was {tip}");
    // Without another one its vote is needed.
    net.nodes[3].stop().await;
    let three_from = net.nodes[0].height() + 2;
    net.wait_decided(&[0, 1, 2], three_from + 10, LONG).await;
    net.check_chains();
    let signed = |height: u64| {
        let (_, certificate) = net.nodes[0].disk.block(height).expect("there");
        certificate.signatures.iter().any(|it| it.validator == own)
    };
    assert!((tip + 1..=tip + 2).all(|height| !signed(height)), "nothing signed that it could have signed before");
    assert!((three_from..=three_from + 10).all(signed), "and it does sign now");
    assert!(net.wal_path(1).exists());
    // The new log is as good as any.
    net.nodes[1].stop().await;
    net.nodes[1].start().await.expect("starts");
    assert_eq!(net.nodes[1].role(), Role::Validator);
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_prepared_elsewhere_start_a_chain_once_and_for_all() {
    let mut net = TestNet::new(4, 0, restless());
    for index in ALL {
        let content = std::fs::read(net.wal_path(index)).expect("made");
        std::fs::remove_file(net.wal_path(index)).expect("moved");
        std::fs::write(net.wal_path(index), content).expect("copied");
    }
    net.nodes[0].start().await.expect("starts");
    net.nodes[1].start().await.expect("starts");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(matches!(net.nodes[0].role(), Role::Follower { .. }), "two of four do not know how far the chain is");
    net.nodes[2].start().await.expect("starts");
    net.nodes[3].start().await.expect("starts");
    net.wait_decided(&ALL, 20, LONG).await;
    net.nodes[0].stop().await;
    net.nodes[0].start().await.expect("starts");
    assert_eq!(net.nodes[0].role(), Role::Validator, "the log is its own now");
    net.check_chains();
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_restored_to_its_first_day_follows_too() {
    let mut net = TestNet::new(4, 0, restless());
    let first_day = std::fs::read(net.wal_path(1)).expect("made");
    net.start_all().await;
    net.wait_decided(&ALL, 10, LONG).await;
    net.nodes[1].stop().await;
    net.nodes[1].wipe();
    std::fs::create_dir_all(&net.nodes[1].config.folder).expect("made");
    std::fs::write(net.wal_path(1), first_day).expect("restored");
    let tip = net.nodes[0].height();
    net.nodes[1].start().await.expect("starts");
    let followed = |net: &TestNet| match net.nodes[1].role() {
        Role::Follower { reason, .. } => reason.contains("already"),
        _ => false,
    };
    net.wait(LONG, "it learns that the chain is older", || followed(&net)).await;
    net.wait(LONG, "it votes", || net.nodes[1].role() == Role::Validator).await;
    assert!(net.nodes[1].height() > tip + 2);
    net.check_chains();
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_validator_never_votes_where_its_vote_is_missing() {
    let mut net = running(5).await;
    net.nodes[1].stop().await;
    net.nodes[3].stop().await;
    net.nodes[1].wipe();
    net.nodes[1].start().await.expect("starts");
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Two voters of four and a follower: the chain rests rather than risk a second signature.
    let height = net.nodes[0].height();
    net.wait_decided(&[1], height, LONG).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(net.nodes[0].height(), height);
    assert!(matches!(net.nodes[1].role(), Role::Follower { .. }));
    net.nodes[3].start().await.expect("starts");
    net.wait(LONG, "it votes", || net.nodes[1].role() == Role::Validator).await;
    net.check_chains();
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_chain_rests_and_wakes() {
    let mut net = TestNet::new(4, 0, Timing { heartbeat: Duration::from_secs(3600), ..quick() });
    net.start_all().await;
    net.submit(&ALL);
    let nonempty = |net: &TestNet| {
        let disk = &net.nodes[0].disk;
        (1..=disk.height()).rev().find(|height| !disk.block(*height).expect("there").0.batches.is_empty())
    };
    net.wait(LONG, "the batch is decided", || nonempty(&net).is_some()).await;
    let last = nonempty(&net).expect("just seen");
    net.wait_decided(&ALL, last + 2, LONG).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let at_rest = net.nodes[0].height();
    assert!(at_rest <= last + 3, "it went on to {at_rest} after {last}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(net.nodes[0].height(), at_rest, "an idle chain makes no blocks");

    let begun = std::time::Instant::now();
    net.submit(&ALL);
    net.wait_decided(&ALL, at_rest + 1, LONG).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "woke after {:?}", begun.elapsed());
    net.wait_decided(&ALL, at_rest + 3, LONG).await;
    let (header, _) = net.nodes[0].disk.block(at_rest + 3).expect("there");
    let root = anji_consensus::ports::Execution::root_after(&*net.nodes[0].execution, at_rest + 1);
    assert_eq!(Some(header.header.log), root, "the roots of the last batch are agreed on before the rest");

    // What execution does block by block is gone on with, batch or no batch.
    let at_rest = net.nodes[0].height();
    for node in &net.nodes {
        node.execution.backlog_until.store(at_rest + 10, std::sync::atomic::Ordering::Relaxed);
    }
    net.submit(&ALL);
    net.wait_decided(&ALL, at_rest + 10, LONG).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(net.nodes[0].height() <= at_rest + 12, "and then it rests again");
    net.check_chains();
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_killed_nodes_decide_again_from_their_logs() {
    let mut net = TestNet::new(4, 0, restless());
    for _ in 0..5 {
        net.start_all().await;
        let height = net.nodes[0].height();
        net.submit(&ALL);
        net.wait_decided(&ALL, height + 4, LONG).await;
        // No decision gets on disk any more: all four end between a body and its certificate, or before the body.
        for node in &net.nodes {
            node.disk.full.store(true, Ordering::Relaxed);
        }
        for node in &mut net.nodes {
            let fatal = tokio::time::timeout(Duration::from_secs(5), node.consensus().fatal()).await;
            // A node that was behind may not get as far as an append.
            if let Ok(fatal) = fatal {
                assert!(matches!(fatal, Fatal::Blocks(_)), "{fatal}");
                assert_eq!(fatal.exit_code(), 74);
            }
            node.stop().await;
            node.disk.full.store(false, Ordering::Relaxed);
        }
        net.check_chains();
    }
    net.start_all().await;
    assert!(net.nodes.iter().all(|node| node.role() == Role::Validator), "their logs are intact");
    let height = net.nodes[0].height();
    net.wait_decided(&ALL, height + 5, LONG).await;
    net.check_chains();
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_proposal_is_not_decided() {
    let mut net = TestNet::new(4, 0, restless());
    // This node takes a batch whose key nobody else knows, and proposes it whenever it is its turn.
    net.nodes[2].execution.lenient.store(true, Ordering::Relaxed);
    let foreign = net.foreign_batch();
    net.nodes[2].pool.put(&foreign);
    net.start_all().await;
    net.wait_decided(&ALL, 20, LONG).await;
    let own = net.nodes[2].config.own_address().expect("a validator");
    for height in 1..=20 {
        let (body, _) = net.nodes[0].disk.block(height).expect("there");
        assert!(body.batches.is_empty());
        assert_ne!(body.header.proposer, own);
    }
    assert!(net.nodes[0].metric("anji_consensus_refused_proposals_total{reason=\"batch\"}") >= 1.0);
    net.check_chains();
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decided_block_that_breaks_a_rule_stops_the_node() {
    let mut net = TestNet::new(4, 0, restless());
    // This node computes another state from the first block on.
    net.nodes[2].execution.flavour.store(1, Ordering::Relaxed);
    net.start_all().await;
    net.wait_decided(&[0, 1, 3], 20, LONG).await;
    let fatal = tokio::time::timeout(LONG, net.nodes[2].consensus().fatal()).await.expect("it stops");
    match &fatal {
        Fatal::InvalidDecision { fault, .. } => assert_eq!(fault.name(), "log"),
        other => panic!("{other}"),
    }
    assert_eq!(fatal.exit_code(), 70);
    assert!(net.nodes[2].height() < 5);
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_execution_delays_a_node_and_calls_nothing_invalid() {
    let mut net = running(5).await;
    let gate = net.nodes[3].height();
    net.nodes[3].execution.gate.store(gate, Ordering::Relaxed);
    net.wait_decided(&[0, 1, 2], gate + 30, LONG).await;
    assert!(net.nodes[3].height() <= gate + 3, "at most two blocks ahead of execution");
    net.nodes[3].execution.gate.store(u64::MAX, Ordering::Relaxed);
    net.nodes[3].execution.run();
    net.wait_decided(&[3], gate + 30, LONG).await;
    let refused = net.nodes[3].metric("anji_consensus_refused_proposals_total");
    let stale = net.nodes[3].metric("anji_consensus_refused_proposals_total{reason=\"stale\"}");
    assert!(refused - stale < 1.0, "{refused} refused, {stale} of them too late");
    net.check_chains();
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_clocks_follow() {
    let mut net = TestNet::new(4, 0, restless());
    net.nodes[0].clock.set_offset_ms(-3_600_000);
    net.start_all().await;
    net.wait_decided(&ALL, 30, LONG).await;
    assert!(net.nodes[0].metric("anji_consensus_refused_proposals_total{reason=\"clock\"}") >= 1.0);
    net.nodes[0].clock.set_offset_ms(3_600_000);
    let height = net.nodes[1].height();
    net.wait_decided(&ALL, height + 30, LONG).await;
    let hour_ahead = harness::now_ms() + 1_800_000;
    for height in 1..=height + 30 {
        assert!(
            net.nodes[1].disk.block(height).expect("there").0.header.time_ms < hour_ahead,
            "ledger time follows the others"
        );
    }
    net.check_chains();
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_the_log_is_named_at_start() {
    let mut net = running(5).await;
    net.nodes[0].stop().await;
    let path = net.wal_path(0);
    let mut bytes = std::fs::read(&path).expect("there");
    bytes[150] ^= 4;
    std::fs::write(&path, bytes).expect("written");
    match net.nodes[0].start().await.expect_err("not on a damaged log") {
        Fatal::Wal(WalError::Damaged { path: named, .. }) => assert_eq!(named, path),
        other => panic!("{other}"),
    }
    // The way out that the error names.
    std::fs::rename(&path, path.with_extension("damaged")).expect("moved");
    net.nodes[0].start().await.expect("follows");
    assert!(matches!(net.nodes[0].role(), Role::Follower { .. }));
    net.wait(LONG, "it votes", || net.nodes[0].role() == Role::Validator).await;
    net.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_blocks_are_agreed_on_and_synced() {
    let mut net = TestNet::new(4, 0, restless());
    net.nodes[3].stop().await;
    for index in 0..3 {
        net.nodes[index].start().await.expect("starts");
    }
    // 12 MiB of batches: six full blocks, more than one answer of the sync protocol.
    for _ in 0..24 {
        let bytes = net.batch(500_000);
        for index in 0..3 {
            net.nodes[index].pool.put(&bytes);
        }
    }
    let count = |net: &TestNet, node: usize| -> usize {
        let disk = &net.nodes[node].disk;
        (1..=disk.height()).map(|height| disk.block(height).expect("no gap").0.batches.len()).sum()
    };
    net.wait(LONG, "all batches are decided", || count(&net, 0) == 24).await;
    net.nodes[3].start().await.expect("starts");
    net.wait(LONG, "the late one has them", || count(&net, 3) == 24).await;
    net.check_chains();
    net.stop_all().await;
}
