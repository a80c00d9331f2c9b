//! Blocks that may still be decided, with their batches in memory. What is in here is in the block file too.

use crate::ports::{Batch, Body};
use anji_contracts::types::Hash32;
use anji_verify::Address;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bodies by height and value. Bounded by what `proposals.rs` admits and pruned with every decision.
#[derive(Debug, Default)]
pub(crate) struct Bodies(Mutex<BTreeMap<(u64, Hash32), Body>>);

impl Bodies {
    pub(crate) fn insert(&self, value: Hash32, body: Body) {
        self.lock().insert((body.header.height, value), body);
    }

    pub(crate) fn get(&self, height: u64, value: &Hash32) -> Option<Body> {
        self.lock().get(&(height, *value)).cloned()
    }

    /// What `proposer` proposed first in this round.
    pub(crate) fn proposed_by(&self, proposer: Address, height: u64, round: u32) -> Option<(Hash32, Body)> {
        self.lock()
            .range((height, Hash32::ZERO)..=(height, Hash32([255; 32])))
            .find(|(_, body)| body.header.proposer == proposer && body.header.round == round)
            .map(|((_, value), body)| (*value, body.clone()))
    }

    /// All values of a height, with their headers' rounds.
    pub(crate) fn of_height(&self, height: u64) -> Vec<(Hash32, Body)> {
        self.lock()
            .range((height, Hash32::ZERO)..=(height, Hash32([255; 32])))
            .map(|((_, value), body)| (*value, body.clone()))
            .collect()
    }

    /// A batch of any of them: peers may ask for it when the pool has forgotten it, as after a restart.
    pub(crate) fn batch(&self, hash: &Hash32) -> Option<Batch> {
        self.lock().values().flat_map(|body| body.batches.iter()).find(|batch| batch.checked.hash == *hash).cloned()
    }

    /// Forgets everything up to a decided height.
    pub(crate) fn prune(&self, decided: u64) {
        let mut bodies = self.lock();
        *bodies = bodies.split_off(&(decided + 1, Hash32::ZERO));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u64, Hash32), Body>> {
        // A plain map: whole whatever happened to the last holder.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
