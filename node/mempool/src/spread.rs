//! The peers' side: what they push, and the upkeep that runs beside it.

use crate::admit::{JUDGED_IN_PLACE, Mempool, Origin};
use crate::error::MempoolError;
use crate::frame::{decode_frame, encode_frames};
use crate::standing::is_fault;
use anji_contracts::Reject;
use anji_network::{Message, PeerId};
use bytes::Bytes;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How often expired and executed batches are cleared away and late ones pushed again.
const UPKEEP: Duration = Duration::from_millis(500);
/// Batches pushed again at a time.
const RESPREAD_BATCHES: usize = 64;
/// Pushes with large batches under judgement at the same time; their bytes are bounded by the waiting room.
const LARGE_AT_ONCE: usize = 64;
/// Frames taken at a time.
const FRAMES_AT_ONCE: usize = 16;
/// Small batches of one peer that arrived together are judged together, up to so many bytes of frames.
const TOGETHER_BYTES: usize = 64 * 1024;

/// Batches of one peer that are to be judged.
struct Push {
    peer: PeerId,
    batches: Vec<Bytes>,
    size: usize,
    /// Each is judged where it is, in microseconds.
    small: bool,
}

impl Mempool {
    /// Serves the peers' pushes and keeps the pool tidy until the network ends or the future is dropped.
    pub async fn run(&self, mut pushes: mpsc::Receiver<Message>) {
        let mut upkeep = tokio::time::interval(UPKEEP);
        upkeep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut judging = JoinSet::new();
        let mut frames = Vec::with_capacity(FRAMES_AT_ONCE);
        loop {
            tokio::select! {
                n_frames = pushes.recv_many(&mut frames, FRAMES_AT_ONCE), if judging.len() < LARGE_AT_ONCE => {
                    if n_frames == 0 {
                        return;
                    }
                    for push in self.accepted(frames.drain(..)) {
                        if push.small {
                            self.on_push(push).await;
                        } else {
                            let this = self.clone();
                            judging.spawn(async move { this.on_push(push).await });
                        }
                    }
                }
                Some(_) = judging.join_next() => {}
                _ = upkeep.tick() => self.upkeep(),
            }
        }
    }

    /// What of the frames is to be judged; small frames of one peer in a row become one push.
    fn accepted(&self, frames: impl Iterator<Item = Message>) -> Vec<Push> {
        let mut accepted: Vec<Push> = Vec::new();
        for Message { from: peer, bytes: frame } in frames {
            let size = frame.len();
            let batches = decode_frame(frame);
            if !self.accepts(peer, size, batches.as_ref().map_or(1, Vec::len)) {
                continue;
            }
            let batches = match batches {
                Ok(batches) => batches,
                Err(reject) => {
                    let _ = self.on_fault(peer, reject);
                    continue;
                }
            };
            let small = batches.iter().all(|batch| batch.len() <= JUDGED_IN_PLACE);
            match accepted.last_mut() {
                Some(last) if last.peer == peer && last.small && small && last.size + size <= TOGETHER_BYTES => {
                    last.batches.extend(batches);
                    last.size += size;
                }
                _ => accepted.push(Push { peer, batches, size, small }),
            }
        }
        accepted
    }

    fn accepts(&self, from: PeerId, size: usize, n_batches: usize) -> bool {
        let now_ms = (self.shared.clock)();
        let accepted = self.standings().accepts(&self.shared.limits, from, size, n_batches, now_ms);
        if !accepted {
            self.shared.metrics.counters.dropped_pushes.inc();
        }
        accepted
    }

    async fn on_push(&self, Push { peer, batches, .. }: Push) {
        for result in self.submit_all(batches, Origin::Peer(peer)).await {
            match result {
                Err(MempoolError::Reject(reject)) if is_fault(reject) => {
                    // From here on the peer is not listened to, so the rest is not counted either.
                    if self.on_fault(peer, reject) {
                        return;
                    }
                }
                Err(MempoolError::Reject(reject)) => {
                    tracing::debug!(%peer, code = reject.code(), "a pushed batch was refused");
                }
                Ok(_) | Err(MempoolError::Full { .. } | MempoolError::Stopping) => {}
            }
        }
    }

    /// Whether this one costs the peer its standing.
    fn on_fault(&self, peer: PeerId, reject: Reject) -> bool {
        let muted = self.standings().fault(&self.shared.limits, peer, (self.shared.clock)());
        tracing::warn!(%peer, code = reject.code(), reason = reject.text(), "a peer pushed a bad batch");
        if muted {
            self.shared.metrics.counters.muted_peers.inc();
            let seconds = self.shared.limits.peer_mute.as_secs();
            tracing::warn!(%peer, seconds, "too many bad batches: the peer's pushes are dropped for a while");
        }
        muted
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
        self.shared.metrics.counters.respread.inc_by(u64::try_from(late.len()).unwrap_or(u64::MAX));
        for frame in encode_frames(&late) {
            self.shared.spread.push(frame);
        }
    }
}
