//! One block from begin to end: due items first, then the window's cut-off, then the batches, operation by operation.

use crate::batch::{CheckedBatch, check_expiry, find_key};
use crate::entity::{Entity, EntityKey, OpRecord, Participant};
use crate::entry::{Cause, OpResult, Receipt};
use crate::genesis::Params;
use crate::invariants::Broken;
use crate::ledger::{Answer, Ledger, PendingWrite, Section, Stop, Tail};
use crate::ops::{self, Caller, Op};
use crate::postings::is_balanced;
use crate::reject::Reject;
use crate::rules::CLOCK_AHEAD_MS;
use crate::types::{Currency, Hash32, OpId, PaymentId, ScheduleVersion, ScopedId, WindowId};
use crate::window_tree::WindowTree;
use alloc::sync::Arc;
use alloc::vec::Vec;

pub use crate::genesis::genesis_writes;

/// The block an operation runs in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockContext {
    /// Its height, counted from 1; genesis is 0.
    pub height: u64,
    /// Its ledger time: strictly greater than the parent's.
    pub time_ms: u64,
    /// The numbers of the rules in force.
    pub params: Params,
    /// The ledger's currency.
    pub currency: Currency,
}

/// The state before the block. The executor keeps its own overlay; an answer must not change during a block.
pub trait StateView {
    /// The machine's trouble (a disk error), never the ledger's answer.
    type Error;
    /// The latest state of an entity.
    ///
    /// # Errors
    /// The store failed.
    fn entity(&self, key: &EntityKey) -> Result<Option<Entity>, Self::Error>;
    /// What is remembered of an operation of the last 24 hours.
    ///
    /// # Errors
    /// The store failed.
    fn op_record(&self, id: &ScopedId) -> Result<Option<OpRecord>, Self::Error>;
    /// The first `limit` entities whose due time is at or before `until_ms`, by (due time, key).
    ///
    /// # Errors
    /// The store failed.
    fn due(&self, until_ms: u64, limit: usize) -> Result<Vec<(u64, EntityKey)>, Self::Error>;
    /// All obligation accounts of a window.
    ///
    /// # Errors
    /// The store failed.
    fn obligations(&self, window: WindowId) -> Result<Vec<crate::entity::Obligation>, Self::Error>;
    /// The first `limit` payments captured in a window, in ascending order, past `after` if there is one.
    ///
    /// # Errors
    /// The store failed.
    fn window_payments(
        &self,
        window: WindowId,
        after: Option<PaymentId>,
        limit: usize,
    ) -> Result<Vec<PaymentId>, Self::Error>;
    /// How far the trees of closed windows have been built; [`WindowTree::default`] if no block has said.
    ///
    /// # Errors
    /// The store failed.
    fn window_tree(&self) -> Result<WindowTree, Self::Error>;
}

/// One change of an entity, in log order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// Which entity.
    pub key: EntityKey,
    /// Its full new state.
    pub state: Entity,
    /// What changed it.
    pub cause: Cause,
}

/// What happened to the operations of one batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchEffects {
    /// One receipt per operation, in order.
    pub receipts: Vec<Receipt>,
    /// Changes in the order they happened, hot entities excluded.
    pub writes: Vec<Write>,
    /// Ids this batch consumed.
    pub op_records: Vec<(ScopedId, OpRecord)>,
}

/// What a block did, in log order: `begin` (due items, cut-off), then each batch, then the hot entities.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockEffects {
    /// Changes by ledger time.
    pub begin: Vec<Write>,
    /// Per batch, in the order of the block.
    pub batches: Vec<BatchEffects>,
    /// Hot entities that changed, one write each, by key.
    pub hot: Vec<Write>,
    /// Due times taken away: (due time, key).
    pub due_removed: Vec<(u64, EntityKey)>,
    /// Due times added.
    pub due_added: Vec<(u64, EntityKey)>,
    /// Payments with a capture in a window that was open in this block, in ascending order; some may have been told before.
    pub captured: Vec<(WindowId, PaymentId)>,
    /// How far the trees of closed windows are built now, if the block built any further.
    pub window_tree: Option<WindowTree>,
    /// Alarms: operations refused with a 9xxx code.
    pub alarms: Vec<(ScopedId, crate::Reject)>,
    /// The state itself is wrong. The node must stop at this height, before it tells anybody anything of it.
    pub broken: Option<Broken>,
}

/// An operation's id may be this much older than ledger time.
pub const ID_LIFE_MS: u64 = 24 * 3_600_000;
/// An operation's id may be this much newer than ledger time.
pub const ID_AHEAD_MS: u64 = CLOCK_AHEAD_MS;
/// So long after its block an operation must be remembered: afterwards its id is too old for good.
pub const OP_RECORD_LIFE_MS: u64 = ID_LIFE_MS + ID_AHEAD_MS;

/// Runs one block on an overlay over the view.
pub struct BlockExecutor<'v, V> {
    ledger: Ledger<'v, V>,
    begin: Section,
    batches: Vec<(Vec<Receipt>, Section)>,
    alarms: Vec<(ScopedId, Reject)>,
    broken: Option<Broken>,
}

/// The outcome of one operation inside its unit.
enum Ran {
    /// It was answered before: the first receipt again.
    Again(Receipt),
    /// It ran, or an id rule stopped it.
    Now(Result<EntityKey, Reject>),
}

impl<'v, V: StateView> BlockExecutor<'v, V> {
    /// Opens the block: applies due items (bounded), then the window's cut-off.
    ///
    /// # Errors
    /// The store failed.
    pub fn begin(view: &'v V, context: BlockContext) -> Result<Self, V::Error> {
        let limit = usize::try_from(context.params.max_due_per_block).unwrap_or(usize::MAX);
        let mut this = Self {
            ledger: Ledger::new(view, context),
            begin: Section::default(),
            batches: Vec::new(),
            alarms: Vec::new(),
            broken: None,
        };
        this.ledger.set_cause(Cause::Time);
        match this.ledger.note_open_window() {
            // Without a control account the steps below find the state broken.
            Ok(()) | Err(Stop::Refused(_)) => {}
            Err(Stop::Store(error)) => return Err(error),
        }
        let due = match this.ledger.due(limit) {
            Ok(due) => due,
            Err(Stop::Refused(_)) => Vec::new(),
            Err(Stop::Store(error)) => return Err(error),
        };
        for (_, key) in due {
            this.apply_time(|ledger| apply_due(ledger, key), |reject| Broken::DueItem(key, reject))?;
        }
        this.apply_time(ops::window::apply_time, Broken::CutOff)?;
        this.apply_time(apply_schedules, Broken::Control)?;
        this.apply_time(ops::window::index_closed, Broken::Control)?;
        this.begin = this.ledger.take_section();
        Ok(this)
    }

    /// Applies ledger time to one thing; what cannot be applied is no operation's fault, so the state is broken.
    fn apply_time(
        &mut self,
        apply: impl FnOnce(&mut Ledger<'v, V>) -> Answer<V, ()>,
        broken: impl FnOnce(Reject) -> Broken,
    ) -> Result<(), V::Error> {
        let mark = self.ledger.mark();
        match apply(&mut self.ledger) {
            Ok(()) => self.ledger.commit(),
            Err(Stop::Refused(reject)) => {
                self.ledger.rollback(mark);
                self.broken.get_or_insert(broken(reject));
            }
            Err(Stop::Store(error)) => return Err(error),
        }
        Ok(())
    }

    /// Runs a batch's operations in order.
    ///
    /// # Errors
    /// The store failed.
    pub fn apply_batch(&mut self, batch: &CheckedBatch) -> Result<(), V::Error> {
        let mut receipts = Vec::with_capacity(batch.ops.len());
        match self.check_batch(batch)? {
            Err(reject) => {
                receipts.extend(batch.ops.iter().map(|op| self.receipt(op.op_id, OpResult::Refused(reject))));
            }
            Ok(signer) => {
                let mut rest = batch.ops.as_slice();
                let mut hashes = batch.body_hashes.as_slice();
                while !rest.is_empty() {
                    // A unit is a lone operation or a linked chain up to its last member.
                    let linked = rest.iter().take_while(|op| op.linked).count();
                    let length = linked.saturating_add(1).min(rest.len());
                    let (unit, later) = rest.split_at(length);
                    let (unit_hashes, later_hashes) = hashes.split_at(length.min(hashes.len()));
                    self.run_unit(&signer, unit, unit_hashes, &mut receipts)?;
                    rest = later;
                    hashes = later_hashes;
                }
            }
        }
        let section = self.ledger.take_section();
        self.batches.push((receipts, section));
        Ok(())
    }

    /// Signer and key at block time. Admission saw an earlier state: a key may have been revoked since.
    fn check_batch(&mut self, batch: &CheckedBatch) -> Result<Result<Arc<Participant>, Reject>, V::Error> {
        let header = &batch.header;
        let now = self.ledger.now();
        let signer = match self.ledger.participant(header.participant) {
            Ok(signer) => signer,
            Err(Stop::Refused(reject)) => return Ok(Err(reject)),
            Err(Stop::Store(error)) => return Err(error),
        };
        let Some(signer) = signer else { return Ok(Err(Reject::UnknownKey)) };
        let checked = find_key(&signer, header.key_id, now).map(|_| ()).and(check_expiry(header.expires_at_ms, now));
        Ok(checked.map(|()| signer))
    }

    fn receipt(&self, op_id: OpId, result: OpResult) -> Receipt {
        let context = self.ledger.context();
        Receipt { op_id, result, time_ms: context.time_ms, height: context.height }
    }

    /// Runs a lone operation or a linked chain: all of it happens, or nothing.
    fn run_unit(
        &mut self,
        signer: &Participant,
        unit: &[Op],
        hashes: &[Hash32],
        receipts: &mut Vec<Receipt>,
    ) -> Result<(), V::Error> {
        let first = receipts.len();
        let mut failed = self.apply_overdue(unit)?;
        let mark = self.ledger.mark();
        if failed.is_none() {
            for (place, (op, body_hash)) in unit.iter().zip(hashes).enumerate() {
                let receipt = match self.run(signer, op, body_hash)? {
                    Ran::Again(receipt) => match receipt.result {
                        OpResult::Done(_) => receipt,
                        // In a chain, the first answer stands and stops the others once more.
                        OpResult::Refused(_) if unit.len() > 1 => {
                            failed = Some((place, Ran::Again(receipt)));
                            break;
                        }
                        OpResult::Refused(_) => receipt,
                    },
                    Ran::Now(Ok(key)) => {
                        let receipt = self.receipt(op.op_id, OpResult::Done(key));
                        self.remember(signer, op, *body_hash, &receipt);
                        receipt
                    }
                    Ran::Now(Err(reject)) => {
                        failed = Some((place, Ran::Now(Err(reject))));
                        break;
                    }
                };
                receipts.push(receipt);
            }
        }
        if let Some((place, ran)) = failed {
            self.ledger.rollback(mark);
            receipts.truncate(first);
            self.refuse_unit(signer, unit, hashes, place, ran, receipts)?;
        }
        self.ledger.commit();
        Ok(())
    }

    /// Ledger time comes first, for all that the unit names; it stands whatever becomes of the unit.
    fn apply_overdue(&mut self, unit: &[Op]) -> Result<Option<(usize, Ran)>, V::Error> {
        self.ledger.set_cause(Cause::Time);
        for (place, op) in unit.iter().enumerate() {
            let mark = self.ledger.mark();
            match ops::apply_overdue(&mut self.ledger, &op.body) {
                Ok(()) => {}
                Err(Stop::Refused(reject)) => {
                    self.ledger.rollback(mark);
                    return Ok(Some((place, Ran::Now(Err(reject)))));
                }
                Err(Stop::Store(error)) => return Err(error),
            }
        }
        self.ledger.commit();
        Ok(None)
    }

    /// Runs one operation, id rules first.
    fn run(&mut self, signer: &Participant, op: &Op, body_hash: &Hash32) -> Result<Ran, V::Error> {
        let id = ScopedId { participant: signer.id, op_id: op.op_id };
        if let Err(reject) = check_id_time(op.op_id, self.ledger.now()) {
            return Ok(Ran::Now(Err(reject)));
        }
        if let Some(record) = self.ledger.record(&id)? {
            let same = record.body_hash == *body_hash;
            return Ok(if same { Ran::Again(record.receipt) } else { Ran::Now(Err(Reject::IdConflict)) });
        }
        self.ledger.set_cause(Cause::Op(id));
        match ops::apply(&mut self.ledger, &Caller { signer, id }, &op.body) {
            Ok(key) => Ok(Ran::Now(Ok(key))),
            Err(Stop::Refused(reject)) => Ok(Ran::Now(Err(reject))),
            Err(Stop::Store(error)) => Err(error),
        }
    }

    fn remember(&mut self, signer: &Participant, op: &Op, body_hash: Hash32, receipt: &Receipt) {
        let id = ScopedId { participant: signer.id, op_id: op.op_id };
        self.ledger.put_record(id, OpRecord { body_hash, receipt: receipt.clone() });
    }

    /// Answers a unit whose operation at `place` failed and whose changes were taken back.
    fn refuse_unit(
        &mut self,
        signer: &Participant,
        unit: &[Op],
        hashes: &[Hash32],
        place: usize,
        ran: Ran,
        receipts: &mut Vec<Receipt>,
    ) -> Result<(), V::Error> {
        let mut answer = None;
        if let (Some(op), Some(body_hash)) = (unit.get(place), hashes.get(place)) {
            answer = Some(match ran {
                Ran::Again(receipt) => receipt,
                Ran::Now(result) => {
                    let reject = result.err().unwrap_or(Reject::StateMissing);
                    let receipt = self.receipt(op.op_id, OpResult::Refused(reject));
                    if reject.is_alarm() {
                        self.alarms.push((ScopedId { participant: signer.id, op_id: op.op_id }, reject));
                    }
                    if reject.consumes_id() {
                        self.consume(signer, op, *body_hash, &receipt)?;
                    }
                    receipt
                }
            });
        }
        for (index, (op, body_hash)) in unit.iter().zip(hashes).enumerate() {
            let receipt = match answer.take_if(|_| index == place) {
                Some(receipt) => receipt,
                None => self.partner_receipt(signer, op, body_hash)?,
            };
            receipts.push(receipt);
        }
        Ok(())
    }

    /// Remembers a refusal unless the id was answered before (it can have been when ledger time itself failed).
    fn consume(&mut self, signer: &Participant, op: &Op, hash: Hash32, receipt: &Receipt) -> Result<(), V::Error> {
        let id = ScopedId { participant: signer.id, op_id: op.op_id };
        if check_id_time(op.op_id, self.ledger.now()).is_ok() && self.ledger.record(&id)?.is_none() {
            self.remember(signer, op, hash, receipt);
        }
        Ok(())
    }

    /// The answer to a partner of a failed operation: its own first receipt if it has one, else that the chain failed.
    fn partner_receipt(&mut self, signer: &Participant, op: &Op, body_hash: &Hash32) -> Result<Receipt, V::Error> {
        let id = ScopedId { participant: signer.id, op_id: op.op_id };
        if check_id_time(op.op_id, self.ledger.now()).is_ok()
            && let Some(record) = self.ledger.record(&id)?
            && record.body_hash == *body_hash
        {
            return Ok(record.receipt);
        }
        Ok(self.receipt(op.op_id, OpResult::Refused(Reject::LinkedOpFailed)))
    }

    /// Closes the block.
    ///
    /// # Errors
    /// The store failed.
    pub fn finish(mut self) -> Result<BlockEffects, V::Error> {
        match self.ledger.control() {
            Ok(control) if is_balanced(&control.totals) => {}
            Ok(control) => {
                let totals = control.totals;
                self.broken.get_or_insert(Broken::Totals(totals));
            }
            Err(Stop::Refused(reject)) => {
                self.broken.get_or_insert(Broken::Control(reject));
            }
            Err(Stop::Store(error)) => return Err(error),
        }
        // The overlay goes first, so that the writes below hold the only reference to most states and need not copy them.
        let Tail { hot, due_removed, due_added, captured, window_tree } = self.ledger.into_tail();
        let writes = |pending: Vec<PendingWrite>| pending.into_iter().map(PendingWrite::into_write).collect();
        let batches = self.batches.into_iter().map(|(receipts, section)| BatchEffects {
            receipts,
            writes: writes(section.writes),
            op_records: section.records,
        });
        Ok(BlockEffects {
            batches: batches.collect(),
            begin: writes(self.begin.writes),
            hot,
            due_removed,
            due_added,
            captured,
            window_tree,
            alarms: self.alarms,
            broken: self.broken,
        })
    }
}

/// Ids lie within ledger time −24 h … +2 min. Judged before anything is looked up, so that the answer does not depend on how
/// long a node remembers.
const fn check_id_time(id: OpId, now_ms: u64) -> Result<(), Reject> {
    let at_ms = id.time_ms();
    if at_ms < now_ms.saturating_sub(ID_LIFE_MS) {
        return Err(Reject::IdTooOld);
    }
    if at_ms > now_ms.saturating_add(ID_AHEAD_MS) {
        return Err(Reject::IdTooNew);
    }
    Ok(())
}

fn apply_due<V: StateView>(ledger: &mut Ledger<'_, V>, key: EntityKey) -> Answer<V, ()> {
    match key {
        EntityKey::Mandate(id) => ops::mandate::apply_time(ledger, id),
        EntityKey::Payment(id) => ops::payment::apply_time(ledger, id),
        EntityKey::Participant(_)
        | EntityKey::Line(_)
        | EntityKey::Refund(_)
        | EntityKey::Dispute(_)
        | EntityKey::Window(_)
        | EntityKey::Obligation(..)
        | EntityKey::Position(_)
        | EntityKey::Control
        | EntityKey::Schedule(_)
        | EntityKey::WindowPayments(_) => Ok(()),
    }
}

/// A fee schedule announced before comes into force at its time.
fn apply_schedules<V: StateView>(ledger: &mut Ledger<'_, V>) -> Answer<V, ()> {
    loop {
        let next = ledger.control()?.schedule_version.0.checked_add(1).map(ScheduleVersion);
        let Some(next) = next else { return Ok(()) };
        match ledger.schedule(next)? {
            Some(schedule) if schedule.effective_at_ms <= ledger.now() => {
                ledger.change_control()?.schedule_version = next;
            }
            _ => return Ok(()),
        }
    }
}
