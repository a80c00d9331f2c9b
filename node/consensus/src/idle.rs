//! When the next height begins. Under load at once; an idle chain waits for work, by withholding the answer to `Finalized` (engine trap 12).

use crate::shared::Shared;
use std::time::{Duration, Instant};

/// The first pause after a block that took nothing from a pool that has something, and the longest.
const FRUITLESS_MIN: Duration = Duration::from_millis(20);
const FRUITLESS_MAX: Duration = Duration::from_secs(1);
/// Between blocks that have no batch and are there for execution to go on. Long beside a block, so that a payment rarely comes during one
/// and waits for its end.
const BACKLOG_PAUSE: Duration = Duration::from_millis(200);

/// Waits until there is a reason for the height `next`: a batch, a header that still has to carry the roots of the last non-empty block,
/// work that execution goes on with block by block, a peer that works on this height or has decided it, or the heartbeat.
pub(crate) async fn wait_for_work(shared: &Shared, next: u64) {
    let timing = &shared.config.timing;
    let begun = Instant::now();
    let mut heard = shared.heard();
    let mut changes = shared.peers.changes();
    let fruitless = shared.count_fruitless(next, !shared.pool.is_empty());
    if fruitless > 0 {
        // What waits cannot enter a block, for instance as it expires too late by ledger time: no reason to run at full speed.
        let pause = FRUITLESS_MIN.saturating_mul(1 << fruitless.min(6)).min(FRUITLESS_MAX);
        tokio::select! {
            _ = heard.wait_for(|heard| *heard >= next) => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
    while !has_work(shared, next) {
        // A higher tip is only a claim: it hurries, but it cannot make an idle chain run at full speed.
        let claimed = shared.peers.highest_tip() >= next;
        let mut patience = if claimed { timing.sync_patience } else { timing.heartbeat };
        if shared.execution.has_backlog() {
            patience = patience.min(BACKLOG_PAUSE);
        }
        tokio::select! {
            () = shared.pool.wait_nonempty() => return,
            _ = heard.wait_for(|heard| *heard >= next) => return,
            _ = changes.changed() => {}
            () = tokio::time::sleep(patience.saturating_sub(begun.elapsed())) => return,
        }
    }
}

fn has_work(shared: &Shared, next: u64) -> bool {
    let last_nonempty = shared.chain().last_nonempty();
    let roots_due = last_nonempty > 0 && next <= last_nonempty + 2;
    // While catching up, the last block came from a peer and more are there.
    let catching_up = shared.last_synced() + 1 == next && shared.peers.highest_tip() >= next;
    roots_due || catching_up || !shared.pool.is_empty() || shared.heard_height() >= next
}
