//! Proofs against a window's `WindowPayments` entry: that a payment was captured in the window, and that a payment was not, shown by the
//! two that stand next to each other where it would stand.

use crate::merkle_proof::check_merkle;
use crate::proof_error::ProofError;
use alloc::vec::Vec;
use anji_contracts::entity::WindowPayments;
use anji_contracts::types::{Hash32, PaymentId};
use anji_contracts::window_tree::payment_leaf;
use borsh::{BorshDeserialize, BorshSerialize};

/// A payment of a window with its place among them.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct WindowMember {
    /// The payment.
    pub payment: PaymentId,
    /// Its place, from 0.
    pub index: u64,
    /// Its path.
    pub path: Vec<Hash32>,
}

/// The neighbours of what is absent; none on a side where it would be the first or the last.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct WindowAbsence {
    /// The last payment before it.
    pub before: Option<WindowMember>,
    /// The first payment after it.
    pub after: Option<WindowMember>,
}

/// Checks that a payment was captured in the window.
///
/// # Errors
/// [`ProofError`].
///
/// # Correctness
/// `window` must come from an entry of a trusted log; it is written once, so it needs no active proof.
pub fn check_captured(member: &WindowMember, window: &WindowPayments) -> Result<(), ProofError> {
    let leaf = payment_leaf(&member.payment);
    check_merkle(&leaf, member.index, window.n_payments, &window.root, &member.path)
}

/// Checks that a payment was not captured in the window.
///
/// # Errors
/// [`ProofError`].
///
/// # Correctness
/// As for [`check_captured`].
pub fn check_absent(payment: &PaymentId, proof: &WindowAbsence, window: &WindowPayments) -> Result<(), ProofError> {
    for member in proof.before.iter().chain(&proof.after) {
        check_captured(member, window)?;
    }
    let is_between = match (&proof.before, &proof.after) {
        (None, None) => window.n_payments == 0,
        (None, Some(after)) => after.index == 0 && *payment < after.payment,
        (Some(before), None) => before.index.checked_add(1) == Some(window.n_payments) && before.payment < *payment,
        (Some(before), Some(after)) => {
            before.index.checked_add(1) == Some(after.index) && before.payment < *payment && *payment < after.payment
        }
    };
    if is_between { Ok(()) } else { Err(ProofError::NotNeighbours) }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test"
)]
mod tests {
    use super::*;
    use crate::merkle_path;
    use anji_contracts::codec::merkle_root;
    use anji_contracts::types::{OpId, ParticipantId, ScopedId, WindowId};
    use anji_contracts::window_tree::WindowTree;

    fn id(participant: u32, op_id: u128) -> PaymentId {
        PaymentId(ScopedId { participant: ParticipantId(participant), op_id: OpId(op_id) })
    }

    /// Payments with even ids of two participants.
    fn payments(n: u128) -> Vec<PaymentId> {
        (0..n).map(|n| id(1 + u32::from(n >= 9), (n * 2) << 64)).collect()
    }

    fn member(payments: &[PaymentId], index: usize) -> WindowMember {
        let leaves: Vec<Hash32> = payments.iter().map(payment_leaf).collect();
        let path = merkle_path(&leaves, index as u64).unwrap();
        WindowMember { payment: payments[index], index: index as u64, path }
    }

    fn absence(payments: &[PaymentId], absent: PaymentId) -> WindowAbsence {
        let place = payments.partition_point(|it| *it < absent);
        let before = place.checked_sub(1).map(|before| member(payments, before));
        WindowAbsence { before, after: (place < payments.len()).then(|| member(payments, place)) }
    }

    fn entry(payments: &[PaymentId]) -> WindowPayments {
        let mut tree = WindowTree::start(WindowId(3));
        payments.iter().for_each(|id| tree.push(*id));
        let found = tree.finish();
        let leaves: Vec<Hash32> = payments.iter().map(payment_leaf).collect();
        assert_eq!(found.root, merkle_root(&leaves), "built from the left it is the same tree");
        assert_eq!(found.n_payments, payments.len() as u64);
        found
    }

    #[test]
    fn what_is_there_is_proven_and_what_is_not_is_absent() {
        for n in 0..34 {
            let payments = payments(n);
            let entry = entry(&payments);
            for (index, payment) in payments.iter().enumerate() {
                assert_eq!(check_captured(&member(&payments, index), &entry), Ok(()));
                // Nothing that is there can be shown as absent, by whatever neighbours.
                for before in [None, index.checked_sub(1), Some(index)] {
                    for after in [None, Some(index), (index + 1 < payments.len()).then_some(index + 1)] {
                        let proof = WindowAbsence {
                            before: before.map(|it| member(&payments, it)),
                            after: after.map(|it| member(&payments, it)),
                        };
                        assert!(check_absent(payment, &proof, &entry).is_err(), "{index} of {n}");
                    }
                }
            }
            let absent = payments.iter().map(|it| PaymentId(ScopedId { op_id: OpId(it.0.op_id.0 + 1), ..it.0 }));
            for absent in absent.chain([id(0, 0), id(1, u128::MAX), id(u32::MAX, 5)]) {
                let proof = absence(&payments, absent);
                assert_eq!(check_absent(&absent, &proof, &entry), Ok(()), "{absent} of {n}");
            }
        }
    }

    #[test]
    fn wrong_neighbours_prove_nothing() {
        let payments = payments(20);
        let entry = entry(&payments);
        let absent = id(2, ((11 * 2) << 64) + 1);
        let good = absence(&payments, absent);
        assert_eq!(check_absent(&absent, &good, &entry), Ok(()));
        let wrong = [
            WindowAbsence { before: None, ..good.clone() },
            WindowAbsence { after: None, ..good.clone() },
            WindowAbsence { before: None, after: None },
            WindowAbsence { before: Some(member(&payments, 10)), ..good.clone() },
            WindowAbsence { after: Some(member(&payments, 13)), ..good.clone() },
            WindowAbsence { before: good.after.clone(), after: good.before.clone() },
        ];
        for wrong in &wrong {
            assert_eq!(check_absent(&absent, wrong, &entry), Err(ProofError::NotNeighbours));
        }
        for change in [0, 1, 2] {
            let mut wrong = good.clone();
            let before = wrong.before.as_mut().unwrap();
            match change {
                0 => before.index -= 1,
                1 => before.payment.0.op_id.0 -= 1,
                _ => before.path[0].0[0] ^= 1,
            }
            assert!(check_absent(&absent, &wrong, &entry).is_err());
        }
        // The number says where the end is; the entry commits to it beside the root.
        let beyond = id(3, 0);
        let at_the_end = absence(&payments, beyond);
        assert_eq!(check_absent(&beyond, &at_the_end, &entry), Ok(()));
        for n_payments in [19, 21] {
            let other = WindowPayments { n_payments, ..entry };
            assert!(check_absent(&beyond, &at_the_end, &other).is_err());
        }
    }
}
