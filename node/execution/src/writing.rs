//! A block's effects as entries, in log order: what ledger time changed, then per batch its changes and the batch entry, then the hot
//! entities; the store adds the block entry. The order is part of the format: every node must append the same bytes.

use crate::cache::is_worth_keeping;
use crate::view::View;
use anji_contracts::block::{BlockEffects, Write};
use anji_contracts::codec;
use anji_contracts::entity::{Entity, EntityKey};
use anji_contracts::entry::{BatchEntry, Cause, Entry, NO_PREVIOUS};
use anji_contracts::types::{Hash32, PaymentId};
use anji_contracts::{CheckedBatch, Receipt};
use anji_storage::{BatchReceipts, BlockCommit, BlockRecord, Latest, OpRow, ReadError};
use borsh::BorshSerialize;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::Arc;

/// Collects one block's commit.
pub(crate) struct Writing<'v> {
    view: &'v View,
    commit: BlockCommit,
    next_index: u64,
    next_batch_seq: u64,
    /// Where the newest version of every entity is that the block changed.
    changed: HashMap<EntityKey, Latest, RandomState>,
    /// Payments made by the batch under way, in log order, with the index of their first entry.
    made: Vec<(PaymentId, u64)>,
    /// What the view should know of it, in log order.
    states: Vec<(EntityKey, Latest, Option<Entity>)>,
}

impl<'v> Writing<'v> {
    /// `last` is the block before, `this` names height, header and time of the block. The commit's memory is used again.
    pub(crate) fn new(view: &'v View, mut commit: BlockCommit, last: &BlockRecord, this: &BlockRecord) -> Self {
        commit.height = this.height;
        commit.header_hash = this.header_hash;
        commit.time_ms = this.time_ms;
        commit.entries.clear();
        commit.latest.clear();
        commit.superseded.clear();
        commit.ops.clear();
        commit.batches.clear();
        commit.due_removed.clear();
        commit.due_added.clear();
        commit.captured.clear();
        commit.window_tree = None;
        commit.n_ops = 0;
        Self {
            view,
            commit,
            next_index: last.log.size,
            next_batch_seq: last.n_batches_total,
            changed: HashMap::default(),
            made: Vec::new(),
            states: Vec::new(),
        }
    }

    /// Writes everything and returns the receipts by batch.
    pub(crate) fn put_block(
        &mut self,
        effects: BlockEffects,
        batches: &[Arc<CheckedBatch>],
    ) -> Result<Vec<Arc<BatchReceipts>>, ReadError> {
        self.changed.reserve(effects.batches.iter().map(|batch| batch.writes.len()).sum::<usize>() * 2);
        self.put_writes(effects.begin)?;
        for (effects, batch) in effects.batches.into_iter().zip(batches) {
            self.put_writes(effects.writes)?;
            self.put_batch(batch, effects.receipts, effects.op_records);
        }
        self.put_writes(effects.hot)?;
        self.commit.due_removed = effects.due_removed;
        self.commit.due_added = effects.due_added;
        self.commit.captured = effects.captured;
        self.commit.window_tree = effects.window_tree;
        Ok(self.commit.batches.clone())
    }

    fn put_entry(&mut self, entry: &Entry) {
        self.commit.entries.push(entry);
        self.next_index += 1;
    }

    fn put_writes(&mut self, writes: Vec<Write>) -> Result<(), ReadError> {
        for Write { key, state, cause } in writes {
            let before = match self.changed.get(&key) {
                Some(latest) => Some(*latest),
                None if is_creation(&key, &cause) => None,
                None => {
                    let before = self.view.latest(&key)?;
                    self.commit.superseded.extend(before.map(|before| before.index));
                    before
                }
            };
            let version = before.map_or(1, |before| before.version + 1);
            let prev_index = before.map_or(NO_PREVIOUS, |before| before.index);
            let latest = Latest { index: self.next_index, version };
            if let (EntityKey::Payment(payment), 1) = (&key, version) {
                self.made.push((*payment, latest.index));
            }
            let is_worth_keeping = is_worth_keeping(&state);
            self.commit.entries.push(&EntityEntryRef { key: &key, version, prev_index, state: &state, cause: &cause });
            self.next_index += 1;
            self.changed.insert(key, latest);
            if is_worth_keeping {
                self.states.push((key, latest, Some(state)));
            } else if version > 1 {
                // What was never known before need not be forgotten.
                self.states.push((key, latest, None));
            }
        }
        Ok(())
    }

    fn put_batch(
        &mut self,
        batch: &CheckedBatch,
        receipts: Vec<Receipt>,
        op_records: Vec<(anji_contracts::types::ScopedId, anji_contracts::OpRecord)>,
    ) {
        let batch_seq = self.next_batch_seq;
        let mut bytes = Vec::with_capacity(64);
        let leaves: Vec<Hash32> = receipts
            .iter()
            .map(|receipt| {
                bytes.clear();
                // Writing to a Vec does not fail (see `codec::encode`).
                let _ = receipt.serialize(&mut bytes);
                codec::merkle_leaf(&bytes)
            })
            .collect();
        self.put_entry(&Entry::Batch(BatchEntry {
            batch_seq,
            batch_hash: batch.hash,
            participant: batch.header.participant,
            expires_at_ms: batch.header.expires_at_ms,
            n_ops: batch.header.n_ops,
            ops_root: batch.header.ops_root,
            receipts_root: codec::merkle_root(&leaves),
        }));
        // Records come in the order of the operations, each at most once.
        let mut positions = (0u32..).zip(&batch.ops);
        let mut next = 0;
        for (id, record) in op_records {
            let position = positions.by_ref().find_map(|(position, op)| (op.op_id == id.op_id).then_some(position));
            let position = position.unwrap_or(u32::MAX);
            let mut row = OpRow { record, batch_seq, position, payment_index: None };
            if row.made_payment(&id) {
                // Payments are written in the order of the operations too, so this looks at the next one.
                let (before, rest) = self.made.split_at(next.min(self.made.len()));
                let found = rest.iter().chain(before).enumerate().find(|(_, (payment, _))| payment.0 == id);
                next += found.map_or(0, |(skipped, _)| skipped + 1);
                row.payment_index = found.map(|(_, (_, index))| *index);
            }
            self.commit.ops.push((id, row));
        }
        self.made.clear();
        self.commit.n_ops += receipts.len() as u64;
        self.commit.batches.push(Arc::new(BatchReceipts {
            seq: batch_seq,
            height: self.commit.height,
            time_ms: self.commit.time_ms,
            participant: batch.header.participant,
            batch_hash: batch.hash,
            receipts,
        }));
        self.next_batch_seq += 1;
    }

    /// The commit, and the states for the view.
    pub(crate) fn finish(mut self) -> (BlockCommit, Vec<(EntityKey, Latest, Option<Entity>)>) {
        self.commit.latest.extend(self.changed.iter().map(|(key, latest)| (*key, *latest)));
        // Sorted keys are cheaper to insert, and the same block makes the same write everywhere.
        self.commit.latest.sort_unstable_by_key(|(key, _)| *key);
        (self.commit, self.states)
    }
}

/// An entity's entry, borrowed: a payment is large, and moving it into an owned entry costs as much as encoding it.
struct EntityEntryRef<'a> {
    key: &'a EntityKey,
    version: u64,
    prev_index: u64,
    state: &'a Entity,
    cause: &'a Cause,
}

impl BorshSerialize for EntityEntryRef<'_> {
    /// The bytes of [`Entry::Entity`] with the same fields.
    fn serialize<W: borsh::io::Write>(&self, writer: &mut W) -> borsh::io::Result<()> {
        const ENTITY: u8 = 1;
        ENTITY.serialize(writer)?;
        self.key.serialize(writer)?;
        self.version.serialize(writer)?;
        self.prev_index.serialize(writer)?;
        self.state.serialize(writer)?;
        self.cause.serialize(writer)
    }
}

/// An entity that is named after the operation that wrote it was made by it: an id is consumed once.
fn is_creation(key: &EntityKey, cause: &Cause) -> bool {
    matches!(cause, Cause::Op(id) if key.scoped_id() == Some(*id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anji_contracts::entity::Line;
    use anji_contracts::entry::EntityEntry;

    #[test]
    fn a_borrowed_entry_has_the_bytes_of_the_owned_one() {
        let (key, state) = (EntityKey::Control, Entity::Line(Line::default()));
        for cause in [Cause::Genesis, Cause::Time, Cause::Block, Cause::Op(anji_contracts::types::ScopedId::default())]
        {
            let borrowed = EntityEntryRef { key: &key, version: 7, prev_index: 300, state: &state, cause: &cause };
            let owned = EntityEntry { key, version: 7, prev_index: 300, state: state.clone(), cause };
            assert_eq!(codec::encode(&borrowed), codec::encode(&Entry::Entity(owned)));
        }
    }
}
