//! One block from begin to end: due items first, then the window's cut-off, then the batches, operation by operation.

use crate::batch::CheckedBatch;
use crate::entity::{Entity, EntityKey, OpRecord};
use crate::entry::{Cause, Receipt};
use crate::genesis::{Genesis, Params};
use crate::types::{Currency, ScopedId};
use alloc::vec::Vec;

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
    fn obligations(&self, window: crate::types::WindowId) -> Result<Vec<crate::entity::Obligation>, Self::Error>;
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
    /// Alarms: operations refused with a 9xxx code.
    pub alarms: Vec<(ScopedId, crate::Reject)>,
}

/// Runs one block on an overlay over the view.
pub struct BlockExecutor<'v, V> {
    view: &'v V,
    context: BlockContext,
    _batch: core::marker::PhantomData<CheckedBatch>,
}

impl<'v, V: StateView> BlockExecutor<'v, V> {
    /// Opens the block: applies due items (bounded), then the window's cut-off.
    ///
    /// # Errors
    /// The store failed.
    pub fn begin(view: &'v V, context: BlockContext) -> Result<Self, V::Error> {
        let _ = (view, &context, genesis_writes);
        Ok(Self { view, context, _batch: core::marker::PhantomData })
    }

    /// Runs a batch's operations in order.
    ///
    /// # Errors
    /// The store failed.
    pub fn apply_batch(&mut self, batch: &CheckedBatch) -> Result<(), V::Error> {
        let _ = (self.view, &self.context, batch);
        Ok(())
    }

    /// Closes the block.
    ///
    /// # Errors
    /// The store failed.
    pub fn finish(self) -> Result<BlockEffects, V::Error> {
        Ok(BlockEffects {
            begin: Vec::new(),
            batches: Vec::new(),
            hot: Vec::new(),
            due_removed: Vec::new(),
            due_added: Vec::new(),
            alarms: Vec::new(),
        })
    }
}

/// The state that the genesis document describes, as the writes of height 0.
///
/// # Errors
/// A sentence naming the field that is wrong.
pub fn genesis_writes(genesis: &Genesis) -> Result<BlockEffects, alloc::string::String> {
    let _ = genesis;
    Err(alloc::string::String::from("not built yet"))
}
