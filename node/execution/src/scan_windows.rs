//! The part of the full check that is about settlement windows: the index of captured payments says what the payments say, and the
//! root of every closed window is that of its payments.

use crate::scan::{Check, Findings};
use anji_contracts::entity::{Payment, WindowPayments};
use anji_contracts::types::{PaymentId, WindowId};
use anji_contracts::window_tree::{WindowTree, payment_leaf};
use anji_storage::{ReadError, Reader};
use std::collections::BTreeMap;

/// Payments read at a time.
const PAGE: usize = 4096;

/// A set of payments by number and by a sum of their hashes, so that two sets can be compared in any order with no memory for either.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Sum {
    n_payments: u64,
    hashes: u128,
}

impl Sum {
    fn add(&mut self, payment: &PaymentId) {
        let head = payment_leaf(payment).0.first_chunk::<16>().copied().unwrap_or_default();
        self.n_payments += 1;
        self.hashes = self.hashes.wrapping_add(u128::from_le_bytes(head));
    }
}

/// What the active entities say about windows.
#[derive(Debug, Default)]
pub(crate) struct WindowScan {
    captured: BTreeMap<WindowId, Sum>,
    roots: BTreeMap<WindowId, WindowPayments>,
    open: Option<WindowId>,
}

impl WindowScan {
    pub(crate) fn add_payment(&mut self, payment: &Payment) {
        let mut windows: Vec<WindowId> = payment.captures.iter().map(|leg| leg.window).collect();
        windows.dedup();
        for window in windows {
            self.captured.entry(window).or_default().add(&payment.id);
        }
    }

    pub(crate) fn add_root(&mut self, root: WindowPayments) {
        self.roots.insert(root.window, root);
    }

    pub(crate) fn set_open(&mut self, window: WindowId) {
        self.open = Some(window);
    }

    /// Compares index, trees and roots, window by window.
    pub(crate) fn check(self, reader: &Reader) -> Result<Check, ReadError> {
        let mut findings = Findings::default();
        let open = self.open.unwrap_or_default().0;
        let next = reader.window_tree()?;
        findings
            .expect(next.window.0 <= open, || format!("the tree of {:?} is begun, but {open} is open", next.window));
        let mut n_payments = 0;
        for number in 1..=open {
            let window = WindowId(number);
            let mut tree = WindowTree::start(window);
            let (mut sum, mut partly) = (Sum::default(), None);
            loop {
                let page = reader.window_payments(window, tree.after, PAGE)?;
                for payment in &page {
                    sum.add(payment);
                    tree.push(*payment);
                    if window == next.window && Some(*payment) == next.after {
                        partly = Some(tree.clone());
                    }
                }
                if page.len() < PAGE {
                    break;
                }
            }
            n_payments += sum.n_payments;
            let said = self.captured.get(&window).copied().unwrap_or_default();
            findings.expect(sum == said, || {
                let (found, said) = (sum.n_payments, said.n_payments);
                format!("{window:?} lists {found} payments, {said} say that they were captured in it")
            });
            let root = self.roots.get(&window);
            let expected = (window < next.window).then(|| tree.finish());
            findings
                .expect(root == expected.as_ref(), || format!("the root of {window:?} is not that of its payments"));
            if window == next.window {
                let begun = partly.unwrap_or_else(|| WindowTree::start(window));
                findings.expect(begun == next, || format!("the tree of {window:?} is not that of its first payments"));
            }
        }
        let n_roots = self.roots.len();
        findings.expect(self.roots.keys().all(|it| it.0 < open), || "an open window has a root".into());
        Ok(findings.into_check("windows", format!("{n_roots} roots, {n_payments} payments by window")))
    }
}
