//! The overlay of one block: what the operations see and change. Reads fall through to the view and are kept; changes stay
//! here until the block is finished. Every change can be taken back to a mark, which is how a refused operation or a broken
//! linked chain leaves nothing behind. Balances are changed by [`crate::postings`] alone.

use crate::block::{BlockContext, StateView, Write};
use crate::entity::{
    Control, Entity, EntityKey, FeeSchedule, Line, Mandate, Obligation, OpRecord, Participant, Payment, Position,
    Refund, Window, WindowPayments,
};
use crate::entry::Cause;
use crate::reject::Reject;
use crate::types::{MandateId, ParticipantId, PaymentId, RefundId, ScheduleVersion, ScopedId, WindowId};
use crate::window_tree::WindowTree;
use alloc::collections::btree_map::{BTreeMap, Entry};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Why an operation stops: refused, or the store failed.
#[derive(Debug)]
pub(crate) enum Stop<E> {
    /// The ledger's answer.
    Refused(Reject),
    /// The machine's trouble.
    Store(E),
}

impl<E> From<Reject> for Stop<E> {
    fn from(reject: Reject) -> Self {
        Self::Refused(reject)
    }
}

/// What anything that reads the ledger returns.
pub(crate) type Answer<V, T> = Result<T, Stop<<V as StateView>::Error>>;

/// An entity whose every change is an entry.
#[derive(Debug)]
struct Cold<T> {
    value: Option<Arc<T>>,
    loaded_due: Option<u64>,
    changed: bool,
}

impl<T> Clone for Cold<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), loaded_due: self.loaded_due, changed: self.changed }
    }
}

/// An entity that is appended once, at the end of its block.
#[derive(Clone, Debug)]
pub(crate) struct Hot<T> {
    value: T,
    changed: bool,
}

/// How to take one change back.
#[derive(Debug)]
enum Undo {
    Mandate(MandateId, Option<Cold<Mandate>>),
    Payment(PaymentId, Option<Cold<Payment>>),
    Refund(RefundId, Option<Cold<Refund>>),
    Window(WindowId, Option<Cold<Window>>),
    Line(MandateId, Hot<Line>),
    Obligation((ParticipantId, WindowId), Hot<Obligation>),
    Position(ParticipantId, Hot<Position>),
    Control(Hot<Control>),
    Record(ScopedId),
}

/// The new state of a cold entity, shared with the overlay until the block is finished.
#[derive(Debug)]
enum Shared {
    Mandate(Arc<Mandate>),
    Payment(Arc<Payment>),
    Refund(Arc<Refund>),
    Window(Arc<Window>),
    WindowPayments(WindowPayments),
}

/// A change waiting for the end of the block.
#[derive(Debug)]
pub(crate) struct PendingWrite {
    key: EntityKey,
    state: Shared,
    cause: Cause,
}

impl PendingWrite {
    /// The write as the caller of the executor gets it; copies only if the state was replaced later in the block.
    pub(crate) fn into_write(self) -> Write {
        let state = match self.state {
            Shared::Mandate(it) => Entity::Mandate(Arc::unwrap_or_clone(it)),
            Shared::Payment(it) => Entity::Payment(Arc::unwrap_or_clone(it)),
            Shared::Refund(it) => Entity::Refund(Arc::unwrap_or_clone(it)),
            Shared::Window(it) => Entity::Window(Arc::unwrap_or_clone(it)),
            Shared::WindowPayments(it) => Entity::WindowPayments(it),
        };
        Write { key: self.key, state, cause: self.cause }
    }
}

/// A point to go back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    undo: usize,
    writes: usize,
    records: usize,
}

/// What one section of the block (its begin, or a batch) changed.
#[derive(Debug, Default)]
pub(crate) struct Section {
    pub(crate) writes: Vec<PendingWrite>,
    pub(crate) records: Vec<(ScopedId, OpRecord)>,
}

/// The hot entities and due times that a block changed.
pub(crate) struct Tail {
    pub(crate) hot: Vec<Write>,
    pub(crate) due_removed: Vec<(u64, EntityKey)>,
    pub(crate) due_added: Vec<(u64, EntityKey)>,
    pub(crate) captured: Vec<(WindowId, PaymentId)>,
    pub(crate) window_tree: Option<WindowTree>,
}

/// The overlay.
pub(crate) struct Ledger<'v, V> {
    view: &'v V,
    context: BlockContext,
    cause: Cause,
    participants: BTreeMap<ParticipantId, Option<Arc<Participant>>>,
    schedules: BTreeMap<ScheduleVersion, Option<Arc<FeeSchedule>>>,
    mandates: BTreeMap<MandateId, Cold<Mandate>>,
    payments: BTreeMap<PaymentId, Cold<Payment>>,
    refunds: BTreeMap<RefundId, Cold<Refund>>,
    windows: BTreeMap<WindowId, Cold<Window>>,
    lines: BTreeMap<MandateId, Hot<Line>>,
    obligations: BTreeMap<(ParticipantId, WindowId), Hot<Obligation>>,
    positions: BTreeMap<ParticipantId, Hot<Position>>,
    control: Option<Hot<Control>>,
    records: BTreeMap<ScopedId, OpRecord>,
    /// The open window before the block: captures of this block belong to it or to one after it.
    first_open: Option<WindowId>,
    window_tree: Option<WindowTree>,
    section: Section,
    undo: Vec<Undo>,
}

/// An entity of another kind than its key's is a broken store: answered as missing.
const fn wrong_kind<T, E>() -> Result<T, Stop<E>> {
    Err(Stop::Refused(Reject::StateMissing))
}

macro_rules! read_only {
    ($name:ident, $map:ident, $id:ty, $kind:ident, $type:ty) => {
        pub(crate) fn $name(&mut self, id: $id) -> Answer<V, Option<Arc<$type>>> {
            if let Some(known) = self.$map.get(&id) {
                return Ok(known.clone());
            }
            let loaded = match self.view.entity(&EntityKey::$kind(id)).map_err(Stop::Store)? {
                Some(Entity::$kind(it)) => Some(Arc::new(it)),
                None => None,
                Some(_) => return wrong_kind(),
            };
            self.$map.insert(id, loaded.clone());
            Ok(loaded)
        }
    };
}

macro_rules! cold {
    ($get:ident, $put:ident, $map:ident, $id:ty, $kind:ident) => {
        pub(crate) fn $get(&mut self, id: $id) -> Answer<V, Option<Arc<$kind>>> {
            if let Some(slot) = self.$map.get(&id) {
                return Ok(slot.value.clone());
            }
            let (value, loaded_due) = match self.view.entity(&EntityKey::$kind(id)).map_err(Stop::Store)? {
                Some(state) => {
                    let due = state.due_at_ms();
                    let Entity::$kind(it) = state else { return wrong_kind() };
                    (Some(Arc::new(it)), due)
                }
                None => (None, None),
            };
            self.$map.insert(id, Cold { value: value.clone(), loaded_due, changed: false });
            Ok(value)
        }

        /// Replaces the state and appends a write.
        pub(crate) fn $put(&mut self, state: $kind) {
            let id = state.id;
            let value = Arc::new(state);
            match self.$map.entry(id) {
                Entry::Occupied(mut slot) => {
                    let slot = slot.get_mut();
                    self.undo.push(Undo::$kind(id, Some(slot.clone())));
                    slot.value = Some(value.clone());
                    slot.changed = true;
                }
                Entry::Vacant(slot) => {
                    self.undo.push(Undo::$kind(id, None));
                    slot.insert(Cold { value: Some(value.clone()), loaded_due: None, changed: true });
                }
            }
            let write = PendingWrite { key: EntityKey::$kind(id), state: Shared::$kind(value), cause: self.cause };
            self.section.writes.push(write);
        }
    };
}

macro_rules! hot {
    ($get:ident, $change:ident, $map:ident, $id:ty, $key:expr, $kind:ident, $new:expr) => {
        /// The state; a fresh one where there is none yet.
        pub(crate) fn $get(&mut self, id: $id) -> Answer<V, &$kind> {
            match self.$map.entry(id) {
                Entry::Occupied(slot) => Ok(&slot.into_mut().value),
                Entry::Vacant(slot) => {
                    let value = match self.view.entity(&($key)(id)).map_err(Stop::Store)? {
                        Some(Entity::$kind(it)) => it,
                        None => ($new)(id),
                        Some(_) => return wrong_kind(),
                    };
                    Ok(&slot.insert(Hot { value, changed: false }).value)
                }
            }
        }

        /// The state, to be changed: what was before is kept for a rollback.
        pub(crate) fn $change(&mut self, id: $id) -> Answer<V, &mut $kind> {
            self.$get(id)?;
            let slot = self.$map.get_mut(&id).ok_or(Reject::StateMissing)?;
            self.undo.push(Undo::$kind(id, slot.clone()));
            slot.changed = true;
            Ok(&mut slot.value)
        }
    };
}

impl<'v, V: StateView> Ledger<'v, V> {
    pub(crate) const fn new(view: &'v V, context: BlockContext) -> Self {
        Self {
            view,
            context,
            cause: Cause::Time,
            participants: BTreeMap::new(),
            schedules: BTreeMap::new(),
            mandates: BTreeMap::new(),
            payments: BTreeMap::new(),
            refunds: BTreeMap::new(),
            windows: BTreeMap::new(),
            lines: BTreeMap::new(),
            obligations: BTreeMap::new(),
            positions: BTreeMap::new(),
            control: None,
            records: BTreeMap::new(),
            first_open: None,
            window_tree: None,
            section: Section { writes: Vec::new(), records: Vec::new() },
            undo: Vec::new(),
        }
    }

    pub(crate) const fn context(&self) -> &BlockContext {
        &self.context
    }

    pub(crate) const fn now(&self) -> u64 {
        self.context.time_ms
    }

    /// From here on, writes name this cause.
    pub(crate) const fn set_cause(&mut self, cause: Cause) {
        self.cause = cause;
    }

    read_only!(participant, participants, ParticipantId, Participant, Participant);
    read_only!(schedule, schedules, ScheduleVersion, Schedule, FeeSchedule);
    cold!(mandate, put_mandate, mandates, MandateId, Mandate);
    cold!(payment, put_payment, payments, PaymentId, Payment);
    cold!(refund, put_refund, refunds, RefundId, Refund);
    cold!(window, put_window, windows, WindowId, Window);
    hot!(line, change_line, lines, MandateId, EntityKey::Line, Line, |mandate| Line { mandate, ..Line::default() });
    hot!(
        obligation,
        change_obligation,
        obligations,
        (ParticipantId, WindowId),
        |(participant, window)| EntityKey::Obligation(participant, window),
        Obligation,
        |(participant, window)| Obligation { participant, window, ..Obligation::default() }
    );
    hot!(position, change_position, positions, ParticipantId, EntityKey::Position, Position, |participant| {
        Position { participant, ..Position::default() }
    });

    fn load_control(&mut self) -> Answer<V, &mut Hot<Control>> {
        if self.control.is_none() {
            match self.view.entity(&EntityKey::Control).map_err(Stop::Store)? {
                Some(Entity::Control(value)) => self.control = Some(Hot { value, changed: false }),
                _ => return wrong_kind(),
            }
        }
        Ok(self.control.as_mut().ok_or(Reject::StateMissing)?)
    }

    pub(crate) fn control(&mut self) -> Answer<V, &Control> {
        Ok(&self.load_control()?.value)
    }

    /// The control account, to be changed: what was before is kept for a rollback.
    pub(crate) fn change_control(&mut self) -> Answer<V, &mut Control> {
        let before = self.load_control()?.clone();
        self.undo.push(Undo::Control(before));
        let slot = self.control.as_mut().ok_or(Reject::StateMissing)?;
        slot.changed = true;
        Ok(&mut slot.value)
    }

    /// All obligations of a window by participant, this block's changes included.
    pub(crate) fn obligations(&mut self, window: WindowId) -> Answer<V, BTreeMap<ParticipantId, Obligation>> {
        let before = self.view.obligations(window).map_err(Stop::Store)?;
        let mut all: BTreeMap<_, _> = before.into_iter().map(|it| (it.participant, it)).collect();
        for ((participant, of), slot) in &self.obligations {
            if *of == window && slot.changed {
                all.insert(*participant, slot.value.clone());
            }
        }
        Ok(all)
    }

    /// Remembers which window is open before anything of the block has happened.
    pub(crate) fn note_open_window(&mut self) -> Answer<V, ()> {
        self.first_open = Some(self.control()?.open_window);
        Ok(())
    }

    /// The window that was open before the block; all before it are closed in the view, too.
    pub(crate) const fn first_open(&self) -> Option<WindowId> {
        self.first_open
    }

    pub(crate) fn window_tree(&self) -> Answer<V, WindowTree> {
        self.view.window_tree().map_err(Stop::Store)
    }

    pub(crate) fn window_payments(
        &self,
        window: WindowId,
        after: Option<PaymentId>,
        limit: usize,
    ) -> Answer<V, Vec<PaymentId>> {
        self.view.window_payments(window, after, limit).map_err(Stop::Store)
    }

    /// Says how far the trees of closed windows are built now.
    pub(crate) fn put_window_tree(&mut self, tree: WindowTree) {
        self.window_tree = Some(tree);
    }

    /// Appends the entry of a closed window's payments. No operation reads it.
    pub(crate) fn put_window_payments(&mut self, state: WindowPayments) {
        let key = EntityKey::WindowPayments(state.window);
        self.section.writes.push(PendingWrite { key, state: Shared::WindowPayments(state), cause: self.cause });
    }

    pub(crate) fn due(&self, limit: usize) -> Answer<V, Vec<(u64, EntityKey)>> {
        self.view.due(self.context.time_ms, limit).map_err(Stop::Store)
    }

    /// What is remembered of an operation.
    pub(crate) fn record(&self, id: &ScopedId) -> Result<Option<OpRecord>, V::Error> {
        match self.records.get(id) {
            Some(record) => Ok(Some(record.clone())),
            None => self.view.op_record(id),
        }
    }

    /// Remembers an operation that nothing was remembered of.
    pub(crate) fn put_record(&mut self, id: ScopedId, record: OpRecord) {
        self.undo.push(Undo::Record(id));
        self.records.insert(id, record.clone());
        self.section.records.push((id, record));
    }

    pub(crate) const fn mark(&self) -> Mark {
        Mark { undo: self.undo.len(), writes: self.section.writes.len(), records: self.section.records.len() }
    }

    /// Takes everything back that happened after `mark`, newest first.
    pub(crate) fn rollback(&mut self, mark: Mark) {
        fn restore<K: Ord, T>(map: &mut BTreeMap<K, T>, key: K, before: Option<T>) {
            match before {
                Some(slot) => map.insert(key, slot),
                None => map.remove(&key),
            };
        }
        while self.undo.len() > mark.undo {
            match self.undo.pop() {
                Some(Undo::Mandate(id, slot)) => restore(&mut self.mandates, id, slot),
                Some(Undo::Payment(id, slot)) => restore(&mut self.payments, id, slot),
                Some(Undo::Refund(id, slot)) => restore(&mut self.refunds, id, slot),
                Some(Undo::Window(id, slot)) => restore(&mut self.windows, id, slot),
                Some(Undo::Line(id, slot)) => restore(&mut self.lines, id, Some(slot)),
                Some(Undo::Obligation(id, slot)) => restore(&mut self.obligations, id, Some(slot)),
                Some(Undo::Position(id, slot)) => restore(&mut self.positions, id, Some(slot)),
                Some(Undo::Control(slot)) => self.control = Some(slot),
                Some(Undo::Record(id)) => restore(&mut self.records, id, None),
                None => break,
            }
        }
        self.section.writes.truncate(mark.writes);
        self.section.records.truncate(mark.records);
    }

    /// What happened so far can no longer be taken back.
    pub(crate) fn commit(&mut self) {
        self.undo.clear();
    }

    /// Ends a section of the block.
    pub(crate) fn take_section(&mut self) -> Section {
        self.commit();
        core::mem::take(&mut self.section)
    }

    /// Ends the block: hot entities by key, and how the due index changes.
    pub(crate) fn into_tail(self) -> Tail {
        let mut hot = Vec::new();
        let mut push = |state: Entity| hot.push(Write { key: state.key(), state, cause: Cause::Block });
        self.lines.into_values().filter(|slot| slot.changed).for_each(|slot| push(Entity::Line(slot.value)));
        self.obligations
            .into_values()
            .filter(|slot| slot.changed)
            .for_each(|slot| push(Entity::Obligation(slot.value)));
        self.positions.into_values().filter(|slot| slot.changed).for_each(|slot| push(Entity::Position(slot.value)));
        self.control.into_iter().filter(|slot| slot.changed).for_each(|slot| push(Entity::Control(slot.value)));

        let mut due_removed = Vec::new();
        let mut due_added = Vec::new();
        let mut compare = |key: EntityKey, before: Option<u64>, after: Option<u64>| {
            if before != after {
                due_removed.extend(before.map(|due| (due, key)));
                due_added.extend(after.map(|due| (due, key)));
            }
        };
        for (id, slot) in self.mandates {
            if let (true, Some(it)) = (slot.changed, slot.value) {
                compare(EntityKey::Mandate(id), slot.loaded_due, it.due_at_ms());
            }
        }
        let mut captured = Vec::new();
        for (id, slot) in self.payments {
            if let (true, Some(it)) = (slot.changed, slot.value) {
                let legs = it.captures.iter().rev().map(|leg| leg.window);
                captured.extend(legs.take_while(|window| Some(*window) >= self.first_open).map(|window| (window, id)));
                compare(EntityKey::Payment(id), slot.loaded_due, it.due_at_ms());
            }
        }
        due_removed.sort_unstable();
        due_added.sort_unstable();
        captured.sort_unstable();
        captured.dedup();
        Tail { hot, due_removed, due_added, captured, window_tree: self.window_tree }
    }
}
