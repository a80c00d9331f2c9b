//! The tree over the payments of a closed window: ascending ids, so that two neighbours prove that nothing lies between them. It is
//! built from the left in the blocks after the window closed, a bounded number of ids each; what a block leaves off at is state.

use crate::codec::{merkle_leaf, merkle_node, merkle_root};
use crate::entity::WindowPayments;
use crate::types::{Hash32, PaymentId, WindowId};
use alloc::vec::Vec;
use borsh::{BorshDeserialize, BorshSerialize};

/// Most ids taken into trees in one block: a few milliseconds beside the block's own payments.
pub const MAX_INDEXED_PER_BLOCK: usize = 8_192;

/// Leaf of a payment in the tree of its window.
#[must_use]
pub fn payment_leaf(id: &PaymentId) -> Hash32 {
    merkle_leaf(&id.0.to_sort_bytes())
}

/// How far the trees of the closed windows have been built. Windows come one after the other.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct WindowTree {
    /// The window whose tree is next or under way; all before it are done.
    pub window: WindowId,
    /// The last payment taken in.
    pub after: Option<PaymentId>,
    /// Payments taken in.
    pub n_payments: u64,
    /// Roots of the whole subtrees that they make, largest first: one for each set bit of `n_payments`.
    pub edge: Vec<Hash32>,
}

impl Default for WindowTree {
    fn default() -> Self {
        Self::start(WindowId(1))
    }
}

impl WindowTree {
    /// Nothing taken in yet.
    #[must_use]
    pub const fn start(window: WindowId) -> Self {
        Self { window, after: None, n_payments: 0, edge: Vec::new() }
    }

    /// Takes the next payment in; ids must ascend.
    pub fn push(&mut self, id: PaymentId) {
        let mut hash = payment_leaf(&id);
        for _ in 0..self.n_payments.trailing_ones() {
            if let Some(left) = self.edge.pop() {
                hash = merkle_node(&left, &hash);
            }
        }
        self.edge.push(hash);
        self.n_payments = self.n_payments.saturating_add(1);
        self.after = Some(id);
    }

    /// What the window's entry says if nothing comes any more.
    #[must_use]
    pub fn finish(&self) -> WindowPayments {
        let root = self.edge.iter().rev().copied().reduce(|right, left| merkle_node(&left, &right));
        WindowPayments {
            window: self.window,
            n_payments: self.n_payments,
            root: root.unwrap_or_else(|| merkle_root(&[])),
        }
    }
}
