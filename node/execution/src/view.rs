//! The state before a block, as the rules ask for it: memory first, then storage.

use crate::cache::{Cached, EntityCache, RecentOps};
use anji_contracts::entity::{Entity, EntityKey, Obligation, OpRecord};
use anji_contracts::ops::OpBody;
use anji_contracts::types::{MandateId, PaymentId, ScopedId, WindowId};
use anji_contracts::window_tree::WindowTree;
use anji_contracts::{CheckedBatch, StateView};
use anji_storage::{Known, Latest, ReadError, Reader};
use foldhash::fast::RandomState;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Nobody else uses it while a block runs, so its answers do not change during a block: writes reach it only by [`View::take_in`].
#[derive(Debug)]
pub(crate) struct View {
    reader: Reader,
    cache: RefCell<EntityCache>,
    recent: RecentOps,
    /// No due item is earlier than this: what was looked for and not there need not be looked for again.
    due_floor_ms: Cell<u64>,
    /// Operations that were looked up for the block that is about to run.
    looked_up: HashMap<ScopedId, Option<OpRecord>, RandomState>,
    window_tree: WindowTree,
}

impl View {
    /// # Errors
    /// The store failed.
    pub(crate) fn new(reader: Reader, cached_entities: usize, cached_ops: usize) -> Result<Self, ReadError> {
        // Everything consumed so far is below the floor; whatever is newer will pass through here.
        let mut floor_ms = 0;
        for participant in reader.participants()? {
            if let Some(id) = reader.newest_op(participant.id)? {
                floor_ms = floor_ms.max(id.op_id.time_ms().saturating_add(1));
            }
        }
        let window_tree = reader.window_tree()?;
        Ok(Self {
            reader,
            cache: RefCell::new(EntityCache::new(cached_entities)),
            recent: RecentOps::new(cached_ops, floor_ms),
            due_floor_ms: Cell::new(0),
            looked_up: HashMap::default(),
            window_tree,
        })
    }

    /// Where the latest version of an entity is, before the block.
    pub(crate) fn latest(&self, key: &EntityKey) -> Result<Option<Latest>, ReadError> {
        if let Some(cached) = self.cache.borrow_mut().get(key) {
            return Ok(Some(cached.latest));
        }
        if self.cannot_exist(key) {
            return Ok(None);
        }
        self.reader.latest(key)
    }

    /// A payment, mandate, line or refund exists only if the operation it is named after was done, which consumes the id.
    fn cannot_exist(&self, key: &EntityKey) -> bool {
        key.scoped_id().is_some_and(|id| self.recent.is_consumed(&id) == Some(false))
    }

    fn keep(&self, key: EntityKey, known: Known) {
        let latest = Latest { index: known.index, version: known.entry.version };
        self.cache.borrow_mut().insert(key, Cached { latest, state: Arc::new(known.entry.state) });
    }

    /// Whether the tree of a closed window is not complete after the last block.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) fn has_open_trees(&self) -> Result<bool, ReadError> {
        match self.entity(&EntityKey::Control)? {
            Some(Entity::Control(control)) => Ok(self.window_tree.window < control.open_window),
            _ => Ok(false),
        }
    }

    /// Reads what the operations of a block name, many at a time, before they run one by one.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) fn prefetch(&mut self, batches: &[Arc<CheckedBatch>]) -> Result<(), ReadError> {
        self.cache.get_mut().next_block();
        let mut ids = Vec::new();
        let mut wanted = Wanted::default();
        for batch in batches {
            for op in &batch.ops {
                let id = ScopedId { participant: batch.header.participant, op_id: op.op_id };
                if self.recent.is_consumed(&id) != Some(false) {
                    ids.push(id);
                }
                wanted.name_entities(&op.body);
            }
        }
        let rows = if ids.is_empty() { Vec::new() } else { self.reader.ops(&ids)? };
        self.looked_up.clear();
        self.looked_up.extend(ids.into_iter().zip(rows.into_iter().map(|row| row.map(|row| row.record))));
        // Payments lead to mandates, refunds to payments: each round reads what the one before named.
        let mut seen: HashSet<EntityKey, RandomState> = HashSet::default();
        for _ in 0..3 {
            let mut next = Wanted::default();
            let mut missing = wanted.keys;
            // A shop's or shopper's entities are named many times in a block; one look each.
            seen.clear();
            missing.retain(|key| seen.insert(*key) && self.is_missing(key, &mut next));
            missing.sort_unstable();
            missing.dedup();
            if !missing.is_empty() {
                for (key, known) in missing.iter().zip(self.reader.entities(&missing)?) {
                    if let Some(known) = known {
                        next.follow(&known.entry.state);
                        self.keep(*key, known);
                    }
                }
            }
            wanted = next;
        }
        Ok(())
    }

    fn is_missing(&self, key: &EntityKey, next: &mut Wanted) -> bool {
        match self.cache.borrow_mut().get(key) {
            Some(cached) => {
                // Only these lead on; the others' states need not be touched.
                if matches!(key, EntityKey::Payment(_) | EntityKey::Refund(_)) {
                    next.follow(&cached.state);
                }
                false
            }
            None => !self.cannot_exist(key),
        }
    }

    /// What the committed block changed: newest states (`None`: not worth keeping) in log order, and consumed ids.
    pub(crate) fn take_in(
        &mut self,
        changed: impl IntoIterator<Item = (EntityKey, Latest, Option<Entity>)>,
        consumed: impl IntoIterator<Item = ScopedId>,
        due_added: &[(u64, EntityKey)],
        window_tree: Option<&WindowTree>,
    ) {
        if let Some(tree) = window_tree {
            self.window_tree.clone_from(tree);
        }
        let cache = self.cache.get_mut();
        for (key, latest, state) in changed {
            match state {
                Some(state) => cache.insert(key, Cached { latest, state: Arc::new(state) }),
                None => cache.remove(&key),
            }
        }
        consumed.into_iter().for_each(|id| self.recent.insert(id));
        self.looked_up.clear();
        let earliest = due_added.iter().map(|(due_at_ms, _)| *due_at_ms).min();
        self.due_floor_ms.set(self.due_floor_ms.get().min(earliest.unwrap_or(u64::MAX)));
    }
}

impl StateView for View {
    type Error = ReadError;

    fn entity(&self, key: &EntityKey) -> Result<Option<Entity>, ReadError> {
        if let Some(cached) = self.cache.borrow_mut().get(key) {
            return Ok(Some(Entity::clone(&cached.state)));
        }
        if self.cannot_exist(key) {
            return Ok(None);
        }
        let Some(known) = self.reader.entity(key)? else { return Ok(None) };
        let state = known.entry.state.clone();
        self.keep(*key, known);
        Ok(Some(state))
    }

    fn op_record(&self, id: &ScopedId) -> Result<Option<OpRecord>, ReadError> {
        if self.recent.is_consumed(id) == Some(false) {
            return Ok(None);
        }
        match self.looked_up.get(id) {
            Some(record) => Ok(record.clone()),
            None => Ok(self.reader.op(id)?.map(|row| row.record)),
        }
    }

    fn due(&self, until_ms: u64, limit: usize) -> Result<Vec<(u64, EntityKey)>, ReadError> {
        let floor_ms = self.due_floor_ms.get();
        if limit == 0 || floor_ms > until_ms {
            return Ok(Vec::new());
        }
        let due = self.reader.due(floor_ms, until_ms, limit)?;
        let earliest = due.first().map_or(until_ms.saturating_add(1), |(due_at_ms, _)| *due_at_ms);
        self.due_floor_ms.set(earliest);
        Ok(due)
    }

    fn obligations(&self, window: WindowId) -> Result<Vec<Obligation>, ReadError> {
        self.reader.obligations(window)
    }

    fn window_payments(
        &self,
        window: WindowId,
        after: Option<PaymentId>,
        limit: usize,
    ) -> Result<Vec<PaymentId>, ReadError> {
        self.reader.window_payments(window, after, limit)
    }

    fn window_tree(&self) -> Result<WindowTree, ReadError> {
        Ok(self.window_tree.clone())
    }
}

/// Entities to read; the same one may be named many times.
#[derive(Debug, Default)]
struct Wanted {
    keys: Vec<EntityKey>,
}

impl Wanted {
    fn mandate(&mut self, id: MandateId) {
        self.keys.push(EntityKey::Mandate(id));
        self.keys.push(EntityKey::Line(id));
    }

    fn payment(&mut self, id: PaymentId) {
        self.keys.push(EntityKey::Payment(id));
    }

    /// What an entity leads to.
    fn follow(&mut self, state: &Entity) {
        match state {
            Entity::Payment(payment) => self.mandate(payment.mandate),
            Entity::Refund(refund) => self.payment(refund.payment),
            _ => {}
        }
    }

    /// The entities that an operation names. Only a hint: what is missing here is read one by one when the rules ask.
    fn name_entities(&mut self, body: &OpBody) {
        match body {
            OpBody::MandateActivate(op) => self.mandate(op.mandate),
            OpBody::MandateRefresh(op) => self.mandate(op.mandate),
            OpBody::MandateSuspend(op) | OpBody::MandateResume(op) | OpBody::MandateRevoke(op) => {
                self.mandate(op.mandate);
            }
            OpBody::Pay(op) => self.mandate(op.mandate),
            OpBody::PaymentRequest(op) => self.mandate(op.mandate),
            OpBody::PaymentHold(op) => self.payment(op.payment),
            OpBody::PaymentDecline(op) => self.payment(op.payment),
            OpBody::PaymentCapture(op) => self.payment(op.payment),
            OpBody::PaymentVoid(op) => self.payment(op.payment),
            OpBody::RefundRequest(op) => self.payment(op.payment),
            OpBody::RefundPost(op) | OpBody::RefundFail(op) => {
                self.keys.push(EntityKey::Refund(op.refund));
            }
            _ => {}
        }
    }
}
