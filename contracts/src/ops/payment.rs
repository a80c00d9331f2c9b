//! Payments: ∅ → Requested → Held → PartCaptured → Captured, or Declined, Voided, Expired; `Pay` goes to Captured in one
//! operation inside the issuer's standing guarantee. A hold is a pending debit of the shopper's line; a capture posts it, and
//! the issuer comes to owe the acquirer the amount in the open window, fee legs beside it.
//! Rejects come in the order told in [`crate::reject`].

use super::{
    Caller, Pay, PaymentCapture, PaymentDecline, PaymentHold, PaymentRequest, PaymentVoid, known_mandate,
    known_payment, mandate, open_window, party,
};
use crate::block::StateView;
use crate::entity::{CaptureLeg, EntityKey, FeeSchedule, Mandate, Payment, PaymentStatus};
use crate::fees;
use crate::invariants::check_payment;
use crate::ledger::{Answer, Ledger};
use crate::postings::{self, Transfers};
use crate::reject::Reject;
use crate::rules::{disclosure, exposure, licence, risk, scenes};
use crate::types::{Amount, Currency, MandateId, PaymentId, Role, Scene, SceneSet, ScheduleVersion};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Most captures of a payment: bounds the size of its state.
pub const MAX_CAPTURES: usize = 100;

/// Ledger time reached the payment's deadline: an unanswered request expires, what is held and not captured is released.
pub(crate) fn apply_time<V: StateView>(ledger: &mut Ledger<'_, V>, id: PaymentId) -> Answer<V, ()> {
    let Some(payment) = ledger.payment(id)? else { return Ok(()) };
    if payment.due_at_ms().is_none_or(|due| due > ledger.now()) {
        return Ok(());
    }
    let mut payment = (*payment).clone();
    if payment.status == PaymentStatus::Requested {
        payment.status = PaymentStatus::Expired;
        store(ledger, payment)
    } else {
        let end = if payment.captured.is_zero() { PaymentStatus::Expired } else { PaymentStatus::Captured };
        release_rest(ledger, &mut payment, end)?;
        store(ledger, payment)
    }
}

/// Keeps a payment's new state, unless it would break what must hold for every payment.
pub(crate) fn store<V: StateView>(ledger: &mut Ledger<'_, V>, payment: Payment) -> Answer<V, ()> {
    let schedule = frozen_schedule(ledger, &payment)?;
    check_payment(&payment, &schedule)?;
    ledger.put_payment(payment);
    Ok(())
}

/// The schedule that was frozen on the payment.
pub(crate) fn frozen_schedule<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    payment: &Payment,
) -> Answer<V, Arc<FeeSchedule>> {
    Ok(ledger.schedule(payment.schedule_version)?.ok_or(Reject::StateMissing)?)
}

/// Frees what is left of the hold and ends the payment.
fn release_rest<V: StateView>(ledger: &mut Ledger<'_, V>, payment: &mut Payment, end: PaymentStatus) -> Answer<V, ()> {
    let rest = payment.remaining()?;
    if !rest.is_zero() {
        postings::release(ledger, payment.mandate, payment.issuer, rest)?;
        payment.released = payment.released.plus(rest)?;
    }
    payment.status = end;
    Ok(())
}

/// Books a capture that the line has already been debited for: obligations and fee legs in the open window.
fn settle_capture<V: StateView>(ledger: &mut Ledger<'_, V>, payment: &mut Payment, amount: Amount) -> Answer<V, ()> {
    let window = open_window(ledger)?;
    if payment.captures.last().is_some_and(|last| last.window > window) {
        return Err(Reject::WindowReassigned.into());
    }
    if payment.captures.is_empty() {
        payment.captured_at_ms = ledger.now();
    }
    payment.captures.push(CaptureLeg { window, amount });
    payment.captured = payment.captured.plus(amount)?;
    let schedule = frozen_schedule(ledger, payment)?;
    let mut transfers = Transfers::with_capacity(schedule.legs.len().saturating_add(1));
    transfers.push((payment.issuer, payment.acquirer(), amount));
    fees::post_legs(payment, &schedule, &mut transfers)?;
    postings::oblige(ledger, window, &transfers)
}

/// What every new payment names.
struct Terms {
    mandate: MandateId,
    currency: Currency,
    scene: Scene,
    schedule_version: ScheduleVersion,
}

/// Signer, scene, currency, mandate, parties and licences of a new payment.
fn check_terms<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    terms: &Terms,
) -> Answer<V, (Arc<Mandate>, Arc<FeeSchedule>)> {
    let now = ledger.now();
    licence::check_signer(caller.signer, &[Role::Acquirer], now)?;
    let scene = SceneSet(terms.scene.bit());
    scenes::check_allowed(scene)?;
    if terms.currency != ledger.context().currency {
        return Err(Reject::CurrencyNotServed.into());
    }
    let mandate = known_mandate(ledger, terms.mandate)?;
    let schedule = ledger.schedule(terms.schedule_version)?.ok_or(Reject::UnknownSchedule)?;
    caller.check_party(mandate.acquirer())?;
    mandate::check_active(&mandate)?;
    let issuer = party(ledger, mandate.issuer)?;
    licence::check_standing(&issuer, now)?;
    licence::check_scope(caller.signer, scene)?;
    licence::check_scope(&issuer, scene)?;
    scenes::check_agreed(terms.scene, mandate.scenes)?;
    Ok((mandate, schedule))
}

/// Amount and schedule of a new payment.
fn check_amount<V: StateView>(ledger: &mut Ledger<'_, V>, amount: Amount, schedule: &FeeSchedule) -> Answer<V, ()> {
    if amount.is_zero() {
        return Err(Reject::ZeroAmount.into());
    }
    if schedule.version != ledger.control()?.schedule_version {
        return Err(Reject::ScheduleNotInForce.into());
    }
    if fees::merchant_total(schedule, amount)? > amount {
        return Err(Reject::FeesAboveAmount.into());
    }
    Ok(())
}

/// The money a new hold needs is there: on the line, under the cap, under the liquidity cover.
fn check_money<V: StateView>(ledger: &mut Ledger<'_, V>, mandate: &Mandate, amount: Amount) -> Answer<V, ()> {
    exposure::check_ceiling(mandate, ledger.line(mandate.id)?, amount)?;
    Ok(exposure::check_hold(ledger.position(mandate.issuer)?, amount)?)
}

/// `Pay`: request, hold and capture in one. The issuer signs nothing here, so everything it must have said before is named by
/// version and checked: guarantee, risk assertion, consent; and its disclosure is on the mandate.
pub(crate) fn pay<V: StateView>(ledger: &mut Ledger<'_, V>, caller: &Caller<'_>, op: &Pay) -> Answer<V, EntityKey> {
    let terms =
        Terms { mandate: op.mandate, currency: op.currency, scene: op.scene, schedule_version: op.schedule_version };
    let (mandate, schedule) = check_terms(ledger, caller, &terms)?;
    let now = ledger.now();
    if op.guarantee_version != mandate.guarantee.version {
        return Err(Reject::GuaranteeVersion.into());
    }
    let guarantee = mandate.guarantee.value.filter(|it| now < it.until_ms).ok_or(Reject::GuaranteeExpired)?;
    let line = ledger.line(op.mandate)?;
    let used = if line.guarantee_version == op.guarantee_version { line.guarantee_used } else { Amount::ZERO };
    let used = used.checked_add(op.amount).filter(|used| *used <= guarantee.amount).ok_or(Reject::GuaranteeExceeded)?;
    if op.assertion_version != mandate.assertion.version {
        return Err(Reject::AssertionVersion.into());
    }
    let assertion = mandate.assertion.value.ok_or(Reject::AssertionStale)?;
    risk::check_fresh(&assertion, now)?;
    risk::check_fresh(&op.assertion, now)?;
    if op.consent_version != mandate.consent.version {
        return Err(Reject::ConsentVersion.into());
    }
    risk::check_consent(mandate.consent.value.as_ref(), now)?;
    let min_shown = ledger.context().params.min_disclosure_shown_ms;
    disclosure::check_covers(mandate.disclosure.value.as_ref(), op.schedule_version, min_shown)?;
    if op.amount > mandate.payment_cap {
        return Err(Reject::AbovePaymentCap.into());
    }
    check_money(ledger, &mandate, op.amount)?;
    check_amount(ledger, op.amount, &schedule)?;

    let id = PaymentId(caller.id);
    let mut payment = Payment {
        id,
        status: PaymentStatus::Captured,
        mandate: op.mandate,
        issuer: mandate.issuer,
        amount: op.amount,
        currency: op.currency,
        scene: op.scene,
        order: op.order.clone(),
        schedule_version: op.schedule_version,
        instalments: 1,
        requested_at_ms: now,
        answer_by_ms: now,
        capture_by_ms: now,
        captured_at_ms: 0,
        held: op.amount,
        captured: Amount::ZERO,
        released: Amount::ZERO,
        refund_reserved: Amount::ZERO,
        refunded: Amount::ZERO,
        charged_back: Amount::ZERO,
        n_refunds: 0,
        captures: Vec::with_capacity(1),
        fees: fees::open_legs(&schedule, caller.signer.id, mandate.issuer),
        acquirer_assertion: op.assertion,
        issuer_assertion: Some(assertion),
        disclosure: None,
        reason: 0,
    };
    postings::debit_line(ledger, op.mandate, op.amount)?;
    postings::use_guarantee(ledger, op.mandate, op.guarantee_version, used)?;
    settle_capture(ledger, &mut payment, op.amount)?;
    store(ledger, payment)?;
    Ok(EntityKey::Payment(id))
}

/// `PaymentRequest`: the acquirer asks the issuer to hold money. No money moves.
pub(crate) fn request<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    op: &PaymentRequest,
) -> Answer<V, EntityKey> {
    let terms =
        Terms { mandate: op.mandate, currency: op.currency, scene: op.scene, schedule_version: op.schedule_version };
    let (mandate, schedule) = check_terms(ledger, caller, &terms)?;
    let now = ledger.now();
    risk::check_fresh(&op.assertion, now)?;
    if op.amount > mandate.payment_cap {
        return Err(Reject::AbovePaymentCap.into());
    }
    let params = &ledger.context().params;
    let answerable = op.answer_by_ms > now && op.answer_by_ms <= now.saturating_add(params.max_answer_ms);
    let capturable = op.capture_by_ms >= op.answer_by_ms && op.capture_by_ms <= now.saturating_add(params.max_hold_ms);
    if !answerable || !capturable {
        return Err(Reject::DeadlinePassed.into());
    }
    check_amount(ledger, op.amount, &schedule)?;

    let id = PaymentId(caller.id);
    let payment = Payment {
        id,
        status: PaymentStatus::Requested,
        mandate: op.mandate,
        issuer: mandate.issuer,
        amount: op.amount,
        currency: op.currency,
        scene: op.scene,
        order: op.order.clone(),
        schedule_version: op.schedule_version,
        instalments: op.instalments,
        requested_at_ms: now,
        answer_by_ms: op.answer_by_ms,
        capture_by_ms: op.capture_by_ms,
        captured_at_ms: 0,
        held: Amount::ZERO,
        captured: Amount::ZERO,
        released: Amount::ZERO,
        refund_reserved: Amount::ZERO,
        refunded: Amount::ZERO,
        charged_back: Amount::ZERO,
        n_refunds: 0,
        captures: Vec::new(),
        fees: fees::open_legs(&schedule, caller.signer.id, mandate.issuer),
        acquirer_assertion: op.assertion,
        issuer_assertion: None,
        disclosure: None,
        reason: 0,
    };
    store(ledger, payment)?;
    Ok(EntityKey::Payment(id))
}

/// The issuer may answer the request.
const fn check_requested(payment: &Payment) -> Result<(), Reject> {
    match payment.status {
        PaymentStatus::Requested => Ok(()),
        PaymentStatus::Expired => Err(Reject::PaymentExpired),
        PaymentStatus::Held
        | PaymentStatus::Declined
        | PaymentStatus::PartCaptured
        | PaymentStatus::Captured
        | PaymentStatus::Voided => Err(Reject::PaymentNotRequested),
    }
}

/// Money is held that can be captured or released.
const fn check_held(payment: &Payment) -> Result<(), Reject> {
    match payment.status {
        PaymentStatus::Held | PaymentStatus::PartCaptured => Ok(()),
        PaymentStatus::Expired => Err(Reject::PaymentExpired),
        PaymentStatus::Requested | PaymentStatus::Declined | PaymentStatus::Captured | PaymentStatus::Voided => {
            Err(Reject::PaymentNotHeld)
        }
    }
}

/// `PaymentHold`: the issuer sets the money aside. Whatever a debit needs is judged here, at the latest moment.
pub(crate) fn hold<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    op: &PaymentHold,
) -> Answer<V, EntityKey> {
    let now = ledger.now();
    licence::check_signer(caller.signer, &[Role::Issuer], now)?;
    let payment = known_payment(ledger, op.payment)?;
    caller.check_party(payment.issuer)?;
    check_requested(&payment)?;
    let mandate = ledger.mandate(payment.mandate)?.ok_or(Reject::StateMissing)?;
    mandate::check_active(&mandate)?;
    let acquirer = party(ledger, payment.acquirer())?;
    let scene = SceneSet(payment.scene.bit());
    licence::check_standing(&acquirer, now)?;
    licence::check_scope(&acquirer, scene)?;
    licence::check_scope(caller.signer, scene)?;
    risk::check_fresh(&op.assertion, now)?;
    risk::check_fresh(&payment.acquirer_assertion, now)?;
    risk::check_consent(mandate.consent.value.as_ref(), now)?;
    // Instalment terms are shown for each payment; a plain payment may rest on the mandate's record.
    let standing = if payment.instalments == 1 { mandate.disclosure.value.as_ref() } else { None };
    let shown = op.disclosure.as_ref().or(standing);
    disclosure::check_covers(shown, payment.schedule_version, ledger.context().params.min_disclosure_shown_ms)?;
    check_money(ledger, &mandate, payment.amount)?;

    let mut payment = (*payment).clone();
    postings::hold(ledger, payment.mandate, payment.issuer, payment.amount)?;
    payment.status = PaymentStatus::Held;
    payment.held = payment.amount;
    payment.issuer_assertion = Some(op.assertion);
    payment.disclosure = op.disclosure.clone();
    store(ledger, payment)?;
    Ok(EntityKey::Payment(op.payment))
}

/// `PaymentDecline`: the issuer will not hold.
pub(crate) fn decline<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    op: &PaymentDecline,
) -> Answer<V, EntityKey> {
    licence::check_signer(caller.signer, &[Role::Issuer], ledger.now())?;
    let payment = known_payment(ledger, op.payment)?;
    caller.check_party(payment.issuer)?;
    check_requested(&payment)?;
    let mut payment = (*payment).clone();
    payment.status = PaymentStatus::Declined;
    payment.reason = op.reason;
    store(ledger, payment)?;
    Ok(EntityKey::Payment(op.payment))
}

/// `PaymentCapture`: the acquirer takes all or part of the hold for the goods that were bound at request.
pub(crate) fn capture<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    op: &PaymentCapture,
) -> Answer<V, EntityKey> {
    licence::check_signer(caller.signer, &[Role::Acquirer], ledger.now())?;
    let payment = known_payment(ledger, op.payment)?;
    caller.check_party(payment.acquirer())?;
    check_held(&payment)?;
    if op.amount.is_zero() {
        return Err(Reject::ZeroAmount.into());
    }
    if op.amount > payment.remaining()? {
        return Err(Reject::CaptureAboveHold.into());
    }
    let order = &payment.order;
    if op.merchant != order.merchant || op.category != order.category || op.order_hash != order.order_hash {
        return Err(Reject::GoodsMismatch.into());
    }
    if payment.captures.len() >= MAX_CAPTURES {
        return Err(Reject::TooManyCaptures.into());
    }
    let mut payment = (*payment).clone();
    postings::capture(ledger, payment.mandate, payment.issuer, op.amount)?;
    settle_capture(ledger, &mut payment, op.amount)?;
    if op.last || payment.remaining()?.is_zero() {
        release_rest(ledger, &mut payment, PaymentStatus::Captured)?;
    } else {
        payment.status = PaymentStatus::PartCaptured;
    }
    store(ledger, payment)?;
    Ok(EntityKey::Payment(op.payment))
}

/// `PaymentVoid`: the acquirer releases what is left of the hold. What was captured stays captured.
pub(crate) fn void<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    op: &PaymentVoid,
) -> Answer<V, EntityKey> {
    licence::check_signer(caller.signer, &[Role::Acquirer], ledger.now())?;
    let payment = known_payment(ledger, op.payment)?;
    caller.check_party(payment.acquirer())?;
    check_held(&payment)?;
    let mut payment = (*payment).clone();
    let end = if payment.captured.is_zero() { PaymentStatus::Voided } else { PaymentStatus::Captured };
    release_rest(ledger, &mut payment, end)?;
    payment.reason = op.reason;
    store(ledger, payment)?;
    Ok(EntityKey::Payment(op.payment))
}
