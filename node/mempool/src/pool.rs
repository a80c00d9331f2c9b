//! The state of the pool: what waits, what is included, what is remembered. Plain data behind one short lock; no clock, no IO.

use crate::candidate::{self, CandidateLimits, Size};
use crate::error::Full;
use crate::limits::Limits;
use anji_contracts::CheckedBatch;
use anji_contracts::batch::MAX_BATCH_LIFE_MS;
use anji_contracts::ops::Op;
use anji_contracts::types::{Hash32, ParticipantId};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// A batch with its exact bytes. The signature was verified, with a key that never changes under its number.
#[derive(Clone, Debug)]
pub struct PoolBatch {
    /// The exact bytes.
    pub bytes: Bytes,
    /// What they say.
    pub checked: Arc<CheckedBatch>,
}

impl PoolBatch {
    /// The memory the batch takes: its bytes and what was decoded from them.
    pub(crate) fn memory_bytes(&self) -> usize {
        // Beside the operation: body hash, place, and two map entries by the batch.
        let per_op = size_of::<Op>() + size_of::<Hash32>() + 8;
        self.bytes.len() + self.checked.ops.len() * per_op + 512
    }

    fn size(&self) -> Size {
        Size { ops: self.checked.header.n_ops, bytes: self.bytes.len() }
    }
}

/// Where a kept batch stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Waiting,
    Included,
}

struct Slot {
    batch: PoolBatch,
    stage: Stage,
    /// Handed in here, so pushing it again is ours to do.
    own: bool,
    pushed_at_ms: u64,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Hash32>,
    n_batches: usize,
    memory_bytes: usize,
}

struct Remembered {
    height: u64,
    expires_at_ms: u64,
}

/// What is known of a hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Unknown,
    Kept,
    OnChain { height: u64 },
}

/// The pool's state.
pub(crate) struct Pool {
    limits: Limits,
    slots: HashMap<Hash32, Slot>,
    /// Waiting batches by participant, in the order of arrival. Hashes of batches that left are skipped and cleaned up later.
    lines: BTreeMap<ParticipantId, Line>,
    /// Batches on the chain, by hash; and in the order they came there: (time of the block, hash).
    on_chain: HashMap<Hash32, Remembered>,
    on_chain_order: VecDeque<(u64, Hash32)>,
    /// Blocks that are decided and not executed, with those of their batches that are kept.
    included: BTreeMap<u64, Vec<Hash32>>,
    /// Executed blocks: (when we learned of it, their batches).
    executed: VecDeque<(u64, Vec<Hash32>)>,
    executed_bytes: usize,
    memory_bytes: usize,
    n_waiting: usize,
    n_waiting_ops: u64,
    first_turn: ParticipantId,
}

impl Pool {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            slots: HashMap::new(),
            lines: BTreeMap::new(),
            on_chain: HashMap::new(),
            on_chain_order: VecDeque::new(),
            included: BTreeMap::new(),
            executed: VecDeque::new(),
            executed_bytes: 0,
            memory_bytes: 0,
            n_waiting: 0,
            n_waiting_ops: 0,
            first_turn: ParticipantId(0),
        }
    }

    pub(crate) fn n_waiting(&self) -> usize {
        self.n_waiting
    }

    pub(crate) fn n_waiting_ops(&self) -> u64 {
        self.n_waiting_ops
    }

    pub(crate) fn n_kept(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    pub(crate) fn n_remembered(&self) -> usize {
        self.on_chain.len()
    }

    pub(crate) fn fate(&self, hash: &Hash32) -> Fate {
        if let Some(remembered) = self.on_chain.get(hash) {
            return Fate::OnChain { height: remembered.height };
        }
        if self.slots.contains_key(hash) { Fate::Kept } else { Fate::Unknown }
    }

    pub(crate) fn get(&self, hash: &Hash32) -> Option<PoolBatch> {
        self.slots.get(hash).map(|slot| slot.batch.clone())
    }

    /// Whether the batch fits now. Batches that peers hold in a proposal (`offered`) may use some room beyond the bounds, since a
    /// full pool must not keep this node from voting.
    pub(crate) fn check_room(&self, batch: &PoolBatch, offered: bool) -> Result<(), Full> {
        let size = batch.memory_bytes();
        let reserve = if offered { self.limits.total_bytes / 8 } else { 0 };
        if self.memory_bytes.saturating_add(size) > self.limits.total_bytes.saturating_add(reserve) {
            return Err(Full::Pool);
        }
        let Some(line) = self.lines.get(&batch.checked.header.participant) else { return Ok(()) };
        let full = line.n_batches >= self.limits.participant_batches
            || line.memory_bytes.saturating_add(size) > self.limits.participant_bytes;
        if full && !offered { Err(Full::Participant) } else { Ok(()) }
    }

    /// Keeps a batch at the end of its participant's line, unless it is known.
    pub(crate) fn insert(&mut self, batch: PoolBatch, own: bool, offered: bool, now_ms: u64) -> Result<Fate, Full> {
        let hash = batch.checked.hash;
        let fate = self.fate(&hash);
        if fate != Fate::Unknown {
            return Ok(fate);
        }
        self.check_room(&batch, offered)?;
        let size = batch.memory_bytes();
        let line = self.lines.entry(batch.checked.header.participant).or_default();
        line.waiting.push_back(hash);
        line.n_batches += 1;
        line.memory_bytes += size;
        self.memory_bytes += size;
        self.n_waiting += 1;
        self.n_waiting_ops += u64::from(batch.checked.header.n_ops);
        self.slots.insert(hash, Slot { batch, stage: Stage::Waiting, own, pushed_at_ms: now_ms });
        Ok(Fate::Unknown)
    }

    /// Batches for a block of the given time; they stay. Batches that have expired by then are dropped on the way.
    pub(crate) fn candidate(&mut self, limits: &CandidateLimits) -> Vec<PoolBatch> {
        self.drop_expired(limits.time_ms);
        let slots = &self.slots;
        let until_ms = limits.time_ms.saturating_add(MAX_BATCH_LIFE_MS);
        let queues = self.lines.iter().map(|(who, line)| {
            let batches = line.waiting.iter().filter_map(|hash| slots.get(hash));
            let ready = batches
                .filter(|slot| slot.stage == Stage::Waiting && slot.batch.checked.header.expires_at_ms <= until_ms)
                .map(|slot| (slot.batch.size(), slot.batch.clone()));
            (*who, ready)
        });
        let queues: BTreeMap<_, _> = queues.collect();
        candidate::choose(limits, queues, &mut self.first_turn)
    }

    /// Drops what waits and has expired at `time_ms`: block time only grows, so it can enter no block any more.
    pub(crate) fn drop_expired(&mut self, time_ms: u64) -> usize {
        let expired: Vec<Hash32> = self
            .waiting()
            .filter(|(_, slot)| slot.batch.checked.header.expires_at_ms <= time_ms)
            .map(|(hash, _)| *hash)
            .collect();
        for hash in &expired {
            self.leave_line(hash);
            self.forget(hash);
        }
        self.sweep_lines();
        expired.len()
    }

    /// These batches are in a decided block: they wait no more and are never taken again.
    pub(crate) fn mark_included(&mut self, height: u64, time_ms: u64, hashes: &[Hash32]) {
        let mut kept = Vec::new();
        for hash in hashes {
            let mut expires_at_ms = time_ms.saturating_add(MAX_BATCH_LIFE_MS);
            if let Some(slot) = self.slots.get(hash) {
                expires_at_ms = slot.batch.checked.header.expires_at_ms;
                kept.push(*hash);
                self.leave_line(hash);
            }
            if self.on_chain.insert(*hash, Remembered { height, expires_at_ms }).is_none() {
                self.on_chain_order.push_back((time_ms, *hash));
            }
        }
        if !kept.is_empty() {
            self.included.entry(height).or_default().extend(kept);
        }
        self.sweep_lines();
        self.sweep_on_chain(time_ms);
    }

    /// The blocks up to `height` are executed.
    pub(crate) fn mark_executed(&mut self, height: u64, now_ms: u64) {
        let later = self.included.split_off(&height.saturating_add(1));
        for hashes in std::mem::replace(&mut self.included, later).into_values() {
            let sizes = hashes.iter().filter_map(|hash| self.slots.get(hash)).map(|slot| slot.batch.memory_bytes());
            self.executed_bytes += sizes.sum::<usize>();
            self.executed.push_back((now_ms, hashes));
        }
        self.sweep_executed(now_ms);
    }

    /// Lets go of executed batches that are too old or too many.
    pub(crate) fn sweep_executed(&mut self, now_ms: u64) {
        let age_ms = u64::try_from(self.limits.executed_age.as_millis()).unwrap_or(u64::MAX);
        while let Some((at_ms, _)) = self.executed.front() {
            if self.executed_bytes <= self.limits.executed_bytes && now_ms.saturating_sub(*at_ms) < age_ms {
                break;
            }
            let Some((_, hashes)) = self.executed.pop_front() else { break };
            for hash in &hashes {
                let freed = self.forget(hash);
                self.executed_bytes = self.executed_bytes.saturating_sub(freed);
            }
        }
    }

    /// Own batches that wait and were last pushed at or before `before_ms`, the oldest push first; they count as pushed now.
    pub(crate) fn take_unspread(&mut self, before_ms: u64, now_ms: u64, limit: usize) -> Vec<Bytes> {
        let mut late: Vec<(u64, Hash32)> = self
            .waiting()
            .filter(|(_, slot)| slot.own && slot.pushed_at_ms <= before_ms)
            .map(|(hash, slot)| (slot.pushed_at_ms, *hash))
            .collect();
        late.sort_by_key(|(pushed_at_ms, _)| *pushed_at_ms);
        late.truncate(limit);
        late.into_iter()
            .filter_map(|(_, hash)| {
                let slot = self.slots.get_mut(&hash)?;
                slot.pushed_at_ms = now_ms;
                Some(slot.batch.bytes.clone())
            })
            .collect()
    }

    /// What waits, by participant in the order of arrival. Of small batches many more are kept than wait, so the lines are shorter than the map.
    fn waiting(&self) -> impl Iterator<Item = (&Hash32, &Slot)> {
        let hashes = self.lines.values().flat_map(|line| &line.waiting);
        let slots = hashes.filter_map(|hash| self.slots.get(hash).map(|slot| (hash, slot)));
        slots.filter(|(_, slot)| slot.stage == Stage::Waiting)
    }

    /// Takes a waiting batch out of the counts; its hash stays in the line until the next sweep.
    fn leave_line(&mut self, hash: &Hash32) {
        let Some(slot) = self.slots.get_mut(hash).filter(|slot| slot.stage == Stage::Waiting) else { return };
        slot.stage = Stage::Included;
        self.n_waiting = self.n_waiting.saturating_sub(1);
        self.n_waiting_ops = self.n_waiting_ops.saturating_sub(u64::from(slot.batch.checked.header.n_ops));
        if let Some(line) = self.lines.get_mut(&slot.batch.checked.header.participant) {
            line.n_batches = line.n_batches.saturating_sub(1);
            line.memory_bytes = line.memory_bytes.saturating_sub(slot.batch.memory_bytes());
        }
    }

    /// Drops a batch; returns the memory that became free.
    fn forget(&mut self, hash: &Hash32) -> usize {
        let freed = self.slots.remove(hash).map_or(0, |slot| slot.batch.memory_bytes());
        self.memory_bytes = self.memory_bytes.saturating_sub(freed);
        freed
    }

    /// Removes hashes of batches that no longer wait, and empty lines. What leaves is mostly at the front.
    fn sweep_lines(&mut self) {
        let slots = &self.slots;
        self.lines.retain(|_, line| {
            if line.waiting.len() > line.n_batches {
                line.waiting.retain(|hash| slots.get(hash).is_some_and(|slot| slot.stage == Stage::Waiting));
            }
            !line.waiting.is_empty()
        });
    }

    /// Forgets hashes that are older than any batch can be; earlier if there are too many and they have expired.
    fn sweep_on_chain(&mut self, time_ms: u64) {
        while let Some((included_at_ms, hash)) = self.on_chain_order.front() {
            let old = included_at_ms.saturating_add(MAX_BATCH_LIFE_MS) <= time_ms;
            let expired = self.on_chain.get(hash).is_none_or(|remembered| remembered.expires_at_ms <= time_ms);
            let crowded = self.on_chain.len() > self.limits.remembered_batches;
            if !(old || crowded && expired) {
                break;
            }
            self.on_chain.remove(hash);
            self.on_chain_order.pop_front();
        }
    }
}
