//! The peers' side: what they push, and the upkeep that runs beside it.

use crate::admit::{Mempool, Origin};
use crate::error::MempoolError;
use crate::standing::is_fault;
use anji_network::Message;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How often expired and executed batches are cleared away and late ones pushed again.
const UPKEEP: Duration = Duration::from_millis(500);
/// Batches pushed again at a time.
const RESPREAD_BATCHES: usize = 64;
/// Pushes under judgement at the same time; their bytes are bounded by the waiting room.
const PUSHES_AT_ONCE: usize = 64;

impl Mempool {
    /// Serves the peers' pushes and keeps the pool tidy until the network ends or the future is dropped.
    pub async fn run(&self, mut pushes: mpsc::Receiver<Message>) {
        let mut upkeep = tokio::time::interval(UPKEEP);
        upkeep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut judging = JoinSet::new();
        loop {
            tokio::select! {
                message = pushes.recv(), if judging.len() < PUSHES_AT_ONCE => match message {
                    Some(message) => {
                        if self.accepts(&message) {
                            let this = self.clone();
                            judging.spawn(async move { this.on_push(message).await });
                        }
                    }
                    None => return,
                },
                Some(_) = judging.join_next() => {}
                _ = upkeep.tick() => self.upkeep(),
            }
        }
    }

    fn accepts(&self, message: &Message) -> bool {
        let now_ms = (self.shared.clock)();
        let size = message.bytes.len();
        let accepted = self.standings().accepts(&self.shared.limits, message.from, size, now_ms);
        if !accepted {
            self.shared.metrics.counters.dropped_pushes.inc();
        }
        accepted
    }

    async fn on_push(&self, message: Message) {
        let peer = message.from;
        let Err(MempoolError::Reject(reject)) = self.submit(message.bytes, Origin::Peer(peer)).await else { return };
        if !is_fault(reject) {
            tracing::debug!(%peer, code = reject.code(), "a pushed batch was refused");
            return;
        }
        let muted = self.standings().fault(&self.shared.limits, peer, (self.shared.clock)());
        tracing::warn!(%peer, code = reject.code(), reason = reject.text(), "a peer pushed a bad batch");
        if muted {
            self.shared.metrics.counters.muted_peers.inc();
            let seconds = self.shared.limits.peer_mute.as_secs();
            tracing::warn!(%peer, seconds, "too many bad batches: the peer's pushes are dropped for a while");
        }
    }

    fn upkeep(&self) {
        let now_ms = (self.shared.clock)();
        let respread_ms = u64::try_from(self.shared.limits.respread_after.as_millis()).unwrap_or(u64::MAX);
        let late = {
            let mut pool = self.pool();
            let expired = pool.drop_expired(now_ms);
            self.shared.metrics.counters.expired.inc_by(u64::try_from(expired).unwrap_or(u64::MAX));
            pool.sweep_executed(now_ms);
            let late = pool.take_unspread(now_ms.saturating_sub(respread_ms), now_ms, RESPREAD_BATCHES);
            self.publish(&pool);
            late
        };
        for bytes in late {
            self.shared.metrics.counters.respread.inc();
            self.shared.spread.push(bytes);
        }
    }
}
