//! What execution keeps in memory: decoded entities and the newest operation ids. Both are bounded and both only repeat what storage
//! holds, so losing them costs time and never an answer.

use anji_contracts::entity::{Entity, EntityKey, PaymentStatus, RefundStatus};
use anji_contracts::types::ScopedId;
use anji_storage::Latest;
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// The latest version of an entity, decoded.
#[derive(Clone, Debug)]
pub(crate) struct Cached {
    pub(crate) latest: Latest,
    pub(crate) state: Arc<Entity>,
}

/// Entities with the block that used them last. When there are twice as many as wanted, those used longest ago are forgotten.
#[derive(Debug)]
pub(crate) struct EntityCache {
    capacity: usize,
    block: u64,
    slots: HashMap<EntityKey, Slot, RandomState>,
}

#[derive(Debug)]
struct Slot {
    used: u64,
    cached: Cached,
}

impl EntityCache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1024), block: 0, slots: HashMap::default() }
    }

    pub(crate) fn get(&mut self, key: &EntityKey) -> Option<&Cached> {
        let slot = self.slots.get_mut(key)?;
        slot.used = self.block;
        Some(&slot.cached)
    }

    pub(crate) fn insert(&mut self, key: EntityKey, cached: Cached) {
        if self.slots.len() >= self.capacity.saturating_mul(2) {
            self.forget();
        }
        self.slots.insert(key, Slot { used: self.block, cached });
    }

    pub(crate) fn remove(&mut self, key: &EntityKey) {
        self.slots.remove(key);
    }

    /// The uses that follow are later than those before.
    pub(crate) fn next_block(&mut self) {
        self.block += 1;
    }

    /// Keeps the `capacity` entities that were used last.
    fn forget(&mut self) {
        let mut uses: Vec<u64> = self.slots.values().map(|slot| slot.used).collect();
        let n_forgotten = uses.len().saturating_sub(self.capacity);
        let (_, oldest_kept, _) = uses.select_nth_unstable(n_forgotten);
        let oldest_kept = *oldest_kept;
        let n_later = self.slots.values().filter(|slot| slot.used > oldest_kept).count();
        let mut n_ties = self.capacity.saturating_sub(n_later);
        self.slots.retain(|_, slot| {
            if slot.used == oldest_kept && n_ties > 0 {
                n_ties -= 1;
                return true;
            }
            slot.used > oldest_kept
        });
    }
}

/// Whether an entity is likely to be asked for again: payments and refunds that are over are not worth the memory.
pub(crate) fn is_worth_keeping(state: &Entity) -> bool {
    match state {
        Entity::Payment(payment) => {
            matches!(payment.status, PaymentStatus::Requested | PaymentStatus::Held | PaymentStatus::PartCaptured)
        }
        Entity::Refund(refund) => refund.status == RefundStatus::Accepted,
        _ => true,
    }
}

/// Ids of the newest operations. Ids start with their time, so "every id from `floor_ms` on is in here" is a claim that can be
/// kept with bounded memory, and nearly every new operation is known to be new without asking the disk.
#[derive(Debug)]
pub(crate) struct RecentOps {
    capacity: usize,
    floor_ms: u64,
    ids: HashSet<ScopedId, RandomState>,
    by_second: BTreeMap<u64, Vec<ScopedId>>,
}

impl RecentOps {
    /// Every id consumed so far is older than `floor_ms`.
    pub(crate) fn new(capacity: usize, floor_ms: u64) -> Self {
        Self { capacity: capacity.max(1024), floor_ms, ids: HashSet::default(), by_second: BTreeMap::new() }
    }

    /// Whether the id was consumed; `None` if only the disk knows.
    pub(crate) fn is_consumed(&self, id: &ScopedId) -> Option<bool> {
        (id.op_id.time_ms() >= self.floor_ms).then(|| self.ids.contains(id))
    }

    pub(crate) fn insert(&mut self, id: ScopedId) {
        let time_ms = id.op_id.time_ms();
        if time_ms < self.floor_ms || !self.ids.insert(id) {
            return;
        }
        self.by_second.entry(time_ms / 1000).or_default().push(id);
        while self.ids.len() > self.capacity {
            let Some((second, ids)) = self.by_second.pop_first() else { return };
            for id in &ids {
                self.ids.remove(id);
            }
            self.floor_ms = (second + 1).saturating_mul(1000);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anji_contracts::entity::Line;
    use anji_contracts::types::{MandateId, OpId, ParticipantId};

    fn id(time_ms: u64, tail: u128) -> ScopedId {
        ScopedId { participant: ParticipantId(1), op_id: OpId::new(time_ms, tail) }
    }

    #[test]
    fn an_id_that_is_not_known_is_never_called_new() {
        let mut recent = RecentOps::new(1024, 5_000);
        assert_eq!(recent.is_consumed(&id(4_999, 1)), None);
        assert_eq!(recent.is_consumed(&id(5_000, 1)), Some(false));
        let mut consumed = HashSet::new();
        for n in 0..10_000u128 {
            // Times that jump back and forth, some below the floor.
            let time_ms = 4_000 + u64::try_from(n * 7919 % 60_000).unwrap_or_default();
            recent.insert(id(time_ms, n));
            consumed.insert(id(time_ms, n));
            assert!(recent.ids.len() <= 1024);
        }
        for id in &consumed {
            assert_ne!(recent.is_consumed(id), Some(false));
        }
        assert_eq!(recent.is_consumed(&id(u64::MAX, 0)), Some(false));
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let mut cache = EntityCache::new(1024);
        let key = |n: u64| EntityKey::Line(MandateId(id(n, 0)));
        let cached =
            |n| Cached { latest: Latest { index: n, version: 1 }, state: Arc::new(Entity::Line(Line::default())) };
        for n in 0..100_000 {
            cache.insert(key(n), cached(n));
            assert!(cache.get(&key(0)).is_some(), "used all the time");
            assert!(cache.slots.len() <= 2048);
            if n % 100 == 0 {
                cache.next_block();
            }
            // The last hundreds are there: not many others were used since.
            assert!(cache.get(&key(n.saturating_sub(200))).is_some());
        }
        assert!(cache.get(&key(1)).is_none());
        // Even if all were used in one block, no more than the bound are kept.
        for n in 0..10_000 {
            cache.insert(key(n), cached(n));
            assert!(cache.slots.len() <= 2048);
        }
        cache.remove(&key(0));
        assert!(cache.get(&key(0)).is_none());
    }
}
