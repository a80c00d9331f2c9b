//! Where the chain stands on this node: the last decided block, the order of proposers, the batches of the last ten minutes.
//! Judging and deciding both take the lock, so a block is never judged against another parent than its own.

use crate::proposer::{History, Proposed, Schedule};
use crate::validity::Expected;
use anji_contracts::batch::MAX_BATCH_LIFE_MS;
use anji_contracts::types::{ChainId, Hash32};
use anji_verify::{Address, Header, LogRoot, ValidatorSet};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The last decided block; at height 0, genesis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tip {
    /// Its height.
    pub height: u64,
    /// Its header hash; zero at height 0.
    pub hash: Hash32,
    /// Its ledger time.
    pub time_ms: u64,
}

/// Batches of the decided blocks whose time is within a batch's longest life of the newest one's.
#[derive(Debug, Default)]
pub(crate) struct RecentBatches {
    heights: HashMap<Hash32, u64>,
    blocks: VecDeque<(u64, Vec<Hash32>)>,
}

impl RecentBatches {
    pub(crate) fn contains(&self, hash: &Hash32) -> bool {
        self.heights.contains_key(hash)
    }

    pub(crate) fn len(&self) -> usize {
        self.heights.len()
    }

    /// Adds the batches of the next block, and forgets those that no later block may repeat anyway, as they have expired.
    pub(crate) fn push(&mut self, height: u64, time_ms: u64, hashes: impl IntoIterator<Item = Hash32>) {
        let hashes: Vec<Hash32> = hashes.into_iter().collect();
        self.heights.extend(hashes.iter().map(|hash| (*hash, height)));
        self.blocks.push_back((time_ms, hashes));
        // A batch of a block at time t expires at t + life at the latest, so it may not be in a block at that time or later.
        while self.blocks.front().is_some_and(|(old_ms, _)| old_ms.saturating_add(MAX_BATCH_LIFE_MS) <= time_ms) {
            if let Some((_, hashes)) = self.blocks.pop_front() {
                for hash in hashes {
                    self.heights.remove(&hash);
                }
            }
        }
    }
}

/// The chain as of the last decided block.
#[derive(Debug)]
pub(crate) struct Chain {
    chain_id: ChainId,
    validators: Arc<ValidatorSet>,
    validators_hash: Hash32,
    tip: Tip,
    history: History,
    /// The order of proposers of `tip.height + 1`.
    next: Arc<Schedule>,
    recent: RecentBatches,
    /// The last block with a batch in it; 0 if there was none.
    last_nonempty: u64,
}

impl Chain {
    /// A chain at genesis.
    pub(crate) fn new(chain_id: ChainId, validators: Arc<ValidatorSet>, genesis_time_ms: u64) -> Self {
        let history = History::default();
        let next = Arc::new(history.schedule(&validators, 1));
        let tip = Tip { height: 0, hash: Hash32::ZERO, time_ms: genesis_time_ms };
        let validators_hash = validators.hash();
        let recent = RecentBatches::default();
        Self { chain_id, validators, validators_hash, tip, history, next, recent, last_nonempty: 0 }
    }

    /// Takes over an older decided header at start: only the order of proposers remembers it.
    pub(crate) fn load_header(&mut self, header: &Header) {
        self.history.push(Proposed::from(header));
        self.tip = Tip { height: header.height, hash: header.hash(), time_ms: header.time_ms };
        if header.n_batches > 0 {
            self.last_nonempty = header.height;
        }
        self.next = Arc::new(self.history.schedule(&self.validators, header.height + 1));
    }

    /// Takes over the batches of an older decided block at start, oldest block first.
    pub(crate) fn load_batches(&mut self, height: u64, time_ms: u64, hashes: Vec<Hash32>) {
        self.recent.push(height, time_ms, hashes);
    }

    /// The next block is decided.
    pub(crate) fn apply(&mut self, header: &Header, value: Hash32, batch_hashes: &[Hash32]) {
        debug_assert_eq!(header.height, self.tip.height + 1);
        self.history.push(Proposed::from(header));
        self.tip = Tip { height: header.height, hash: value, time_ms: header.time_ms };
        if !batch_hashes.is_empty() {
            self.last_nonempty = header.height;
        }
        self.next = Arc::new(self.history.schedule(&self.validators, header.height + 1));
        self.recent.push(header.height, header.time_ms, batch_hashes.iter().copied());
    }

    pub(crate) fn tip(&self) -> Tip {
        self.tip
    }

    pub(crate) fn validators(&self) -> &Arc<ValidatorSet> {
        &self.validators
    }

    /// The order of proposers of the next height.
    pub(crate) fn next_schedule(&self) -> Arc<Schedule> {
        Arc::clone(&self.next)
    }

    /// Who proposes in a round of the next height.
    pub(crate) fn proposer(&self, round: u32) -> Address {
        self.next.proposer(round)
    }

    pub(crate) fn last_nonempty(&self) -> u64 {
        self.last_nonempty
    }

    pub(crate) fn recent(&self) -> &RecentBatches {
        &self.recent
    }

    /// What the next header must say, given the log after the height before the tip and the rules in force.
    pub(crate) fn expected(&self, log: LogRoot, rules: u32) -> Expected {
        Expected {
            chain_id: self.chain_id,
            height: self.tip.height + 1,
            parent_hash: self.tip.hash,
            parent_time_ms: self.tip.time_ms,
            validators_hash: self.validators_hash,
            next_validators_hash: self.validators_hash,
            rules,
            log,
        }
    }
}

/// The height whose log a header at `height` carries.
#[must_use]
pub(crate) fn log_height(height: u64) -> u64 {
    height.saturating_sub(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h(i: u8) -> Hash32 {
        Hash32([i; 32])
    }

    #[test]
    fn batches_are_remembered_exactly_as_long_as_they_could_be_repeated() {
        let mut recent = RecentBatches::default();
        recent.push(1, 1_000, [h(1)]);
        recent.push(2, 2_000, [h(2)]);
        recent.push(3, 1_000 + MAX_BATCH_LIFE_MS - 1, []);
        assert!(recent.contains(&h(1)) && recent.contains(&h(2)));
        recent.push(4, 1_000 + MAX_BATCH_LIFE_MS, []);
        assert!(!recent.contains(&h(1)), "it has expired for every block from here on");
        assert!(recent.contains(&h(2)));
        assert_eq!(recent.len(), 1);
    }

    #[test]
    fn heights_1_and_2_carry_the_log_of_genesis() {
        assert_eq!([1, 2, 3, 4].map(log_height), [0, 0, 1, 2]);
    }
}
