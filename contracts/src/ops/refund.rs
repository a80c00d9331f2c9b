//! Refunds: ∅ → Accepted (headroom reserved) → Posted or Failed. Money goes back the way it came, in the window that is open
//! when the issuer posts: the acquirer comes to owe the issuer, returnable fee legs run backwards, the line is credited.
//! Rejects come in the order told in [`crate::reject`].

use super::{Caller, RefundRequest, RefundStep, known_payment, open_window, payment};
use crate::block::StateView;
use crate::entity::{EntityKey, Payment, Refund, RefundStatus};
use crate::fees;
use crate::ledger::{Answer, Ledger};
use crate::postings::{self, Transfers};
use crate::reject::Reject;
use crate::rules::{exposure, licence};
use crate::types::{RefundId, Role};

/// `RefundRequest`: the acquirer promises money back; the headroom is taken at once, so that two refunds cannot share it.
pub(crate) fn request<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    op: &RefundRequest,
) -> Answer<V, EntityKey> {
    let now = ledger.now();
    licence::check_signer(caller.signer, &[Role::Acquirer], now)?;
    let payment = known_payment(ledger, op.payment)?;
    caller.check_party(payment.acquirer())?;
    if op.amount.is_zero() {
        return Err(Reject::ZeroAmount.into());
    }
    if op.order_hash != payment.order.order_hash {
        return Err(Reject::GoodsMismatch.into());
    }
    if op.amount > payment.refund_headroom()? {
        return Err(Reject::RefundAboveHeadroom.into());
    }
    if payment.n_refunds >= ledger.context().params.max_refunds {
        return Err(Reject::TooManyRefunds.into());
    }
    if now > payment.captured_at_ms.saturating_add(ledger.context().params.refund_period_ms) {
        return Err(Reject::RefundTooLate.into());
    }
    exposure::check_refund(ledger.position(payment.acquirer())?, op.amount)?;

    let id = RefundId(caller.id);
    let mut payment = (*payment).clone();
    payment.refund_reserved = payment.refund_reserved.plus(op.amount)?;
    payment.n_refunds = payment.n_refunds.checked_add(1).ok_or(Reject::Overflow)?;
    payment::store(ledger, payment)?;
    ledger.put_refund(Refund {
        id,
        payment: op.payment,
        status: RefundStatus::Accepted,
        amount: op.amount,
        accepted_at_ms: now,
        window: None,
        reason: op.reason,
    });
    Ok(EntityKey::Refund(id))
}

/// What both answers of the issuer share: a refund that waits for one, and its payment.
fn waiting<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    op: &RefundStep,
) -> Answer<V, (Refund, Payment)> {
    licence::check_signer(caller.signer, &[Role::Issuer], ledger.now())?;
    let refund = ledger.refund(op.refund)?.ok_or(Reject::UnknownRefund)?;
    let payment = ledger.payment(refund.payment)?.ok_or(Reject::StateMissing)?;
    caller.check_party(payment.issuer)?;
    match refund.status {
        RefundStatus::Accepted => Ok(((*refund).clone(), (*payment).clone())),
        RefundStatus::Posted | RefundStatus::Failed => Err(Reject::RefundNotAccepted.into()),
    }
}

/// `RefundPost`: the issuer has given the money back to the shopper's line.
pub(crate) fn post<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    op: &RefundStep,
) -> Answer<V, EntityKey> {
    let (mut refund, mut payment) = waiting(ledger, caller, op)?;
    exposure::check_refund(ledger.position(payment.acquirer())?, refund.amount)?;
    let window = open_window(ledger)?;
    let schedule = payment::frozen_schedule(ledger, &payment)?;
    payment.refunded = payment.refunded.plus(refund.amount)?;
    let mut transfers = Transfers::with_capacity(schedule.legs.len().saturating_add(1));
    transfers.push((payment.acquirer(), payment.issuer, refund.amount));
    fees::return_legs(&mut payment, &schedule, &mut transfers)?;
    postings::credit_line(ledger, payment.mandate, refund.amount)?;
    postings::oblige(ledger, window, &transfers)?;
    payment::store(ledger, payment)?;
    refund.status = RefundStatus::Posted;
    refund.window = Some(window);
    ledger.put_refund(refund);
    Ok(EntityKey::Refund(op.refund))
}

/// `RefundFail`: the issuer could not give the money back; the headroom is free again.
pub(crate) fn fail<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    op: &RefundStep,
) -> Answer<V, EntityKey> {
    let (mut refund, mut payment) = waiting(ledger, caller, op)?;
    payment.refund_reserved = payment.refund_reserved.minus(refund.amount)?;
    payment::store(ledger, payment)?;
    refund.status = RefundStatus::Failed;
    refund.reason = op.reason;
    ledger.put_refund(refund);
    Ok(EntityKey::Refund(op.refund))
}
