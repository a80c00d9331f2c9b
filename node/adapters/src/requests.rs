//! Plain requests to operations. Every field is checked and named when it cannot be used; what the caller leaves open and the ledger
//! has in force (currency, schedule, versions) arrives here already filled in.

use anji_contracts::ops::{
    CapSet, LiquidityMove, MandateActivate, MandatePropose, MandateRefresh, MandateStop, OpBody, Pay, PaymentCapture,
    PaymentDecline, PaymentHold, PaymentRequest, PaymentVoid, RefundRequest, RefundStep, WindowClose,
};
use anji_contracts::types::{
    Amount, Currency, MandateId, ParticipantId, PaymentId, RefundId, ScheduleVersion, WindowId,
};
use anji_proto::v1;
use anji_wire::field::{self, FieldError};
use anji_wire::terms;

/// What is in force on the ledger, for fields that the caller leaves at 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InForce {
    pub(crate) currency: Currency,
    pub(crate) schedule: ScheduleVersion,
    pub(crate) guarantee: u32,
    pub(crate) assertion: u32,
    pub(crate) consent: u32,
}

fn mandate(id: Option<&v1::Id>) -> Result<MandateId, FieldError> {
    field::scoped_id("mandate", id, None).map(MandateId)
}

fn payment(id: Option<&v1::Id>) -> Result<PaymentId, FieldError> {
    field::scoped_id("payment", id, None).map(PaymentId)
}

fn refund(id: Option<&v1::Id>) -> Result<RefundId, FieldError> {
    field::scoped_id("refund", id, None).map(RefundId)
}

fn currency(number: u32, in_force: &InForce) -> Result<Currency, FieldError> {
    if number == 0 { Ok(in_force.currency) } else { field::number_u16("currency", number).map(Currency) }
}

fn or_in_force(given: u32, in_force: u32) -> u32 {
    if given == 0 { in_force } else { given }
}

pub(crate) fn create_mandate(it: &v1::CreateMandateRequest) -> Result<OpBody, FieldError> {
    Ok(OpBody::MandatePropose(MandatePropose {
        issuer: ParticipantId(it.issuer),
        payer: field::pseudonym("payer", &it.payer)?,
        ceiling: Amount(it.ceiling),
        payment_cap: Amount(it.payment_cap),
        scenes: terms::read_scenes("scenes", &it.scenes)?,
        tier: terms::read_tier("tier", it.tier)?,
        expires_at_ms: it.expires_at_ms,
        request_commitment: field::hash32("request_commitment", &it.request_commitment)?,
    }))
}

pub(crate) fn activate_mandate(it: &v1::ActivateMandateRequest) -> Result<OpBody, FieldError> {
    Ok(OpBody::MandateActivate(MandateActivate {
        mandate: mandate(it.mandate.as_ref())?,
        payer_at_issuer: field::pseudonym("payer_at_issuer", &it.payer_at_issuer)?,
        ceiling: Amount(it.ceiling),
        payment_cap: Amount(it.payment_cap),
        scenes: terms::read_scenes("scenes", &it.scenes)?,
        guarantee: it.guarantee.as_ref().map(terms::read_guarantee),
        assertion: optional(it.assertion.as_ref(), |it| terms::read_assertion("assertion", Some(it)))?,
        disclosure: terms::read_disclosure("disclosure", it.disclosure.as_ref())?,
        consent: terms::read_consent("consent", it.consent.as_ref())?,
    }))
}

pub(crate) fn refresh_mandate(it: &v1::RefreshMandateRequest) -> Result<OpBody, FieldError> {
    Ok(OpBody::MandateRefresh(MandateRefresh {
        mandate: mandate(it.mandate.as_ref())?,
        guarantee: it.guarantee.as_ref().map(terms::read_guarantee),
        assertion: optional(it.assertion.as_ref(), |it| terms::read_assertion("assertion", Some(it)))?,
        disclosure: optional(it.disclosure.as_ref(), |it| terms::read_disclosure("disclosure", Some(it)))?,
        consent: optional(it.consent.as_ref(), |it| terms::read_consent("consent", Some(it)))?,
        repaid: Amount(it.repaid),
    }))
}

fn optional<T, U>(it: Option<&T>, read: impl FnOnce(&T) -> Result<U, FieldError>) -> Result<Option<U>, FieldError> {
    it.map(read).transpose()
}

/// Suspend, resume, revoke.
pub(crate) fn stop_mandate(it: &v1::StopMandateRequest) -> Result<MandateStop, FieldError> {
    Ok(MandateStop { mandate: mandate(it.mandate.as_ref())?, reason: field::number_u16("reason", it.reason)? })
}

pub(crate) fn pay(it: &v1::PayRequest, in_force: &InForce) -> Result<OpBody, FieldError> {
    Ok(OpBody::Pay(Pay {
        mandate: mandate(it.mandate.as_ref())?,
        amount: Amount(it.amount),
        currency: currency(it.currency, in_force)?,
        scene: terms::read_scene("scene", it.scene)?,
        order: terms::read_order("order", it.order.as_ref())?,
        schedule_version: ScheduleVersion(or_in_force(it.schedule_version, in_force.schedule.0)),
        guarantee_version: or_in_force(it.guarantee_version, in_force.guarantee),
        assertion_version: or_in_force(it.assertion_version, in_force.assertion),
        consent_version: or_in_force(it.consent_version, in_force.consent),
        assertion: terms::read_assertion("assertion", it.assertion.as_ref())?,
    }))
}

pub(crate) fn request_payment(it: &v1::RequestPaymentRequest, in_force: &InForce) -> Result<OpBody, FieldError> {
    Ok(OpBody::PaymentRequest(PaymentRequest {
        mandate: mandate(it.mandate.as_ref())?,
        amount: Amount(it.amount),
        currency: currency(it.currency, in_force)?,
        scene: terms::read_scene("scene", it.scene)?,
        order: terms::read_order("order", it.order.as_ref())?,
        schedule_version: ScheduleVersion(or_in_force(it.schedule_version, in_force.schedule.0)),
        instalments: field::number_u8("instalments", it.instalments.max(1))?,
        assertion: terms::read_assertion("assertion", it.assertion.as_ref())?,
        answer_by_ms: it.answer_by_ms,
        capture_by_ms: it.capture_by_ms,
    }))
}

pub(crate) fn capture_payment(it: &v1::CapturePaymentRequest) -> Result<OpBody, FieldError> {
    let order = field::required("order", it.order.as_ref())?;
    Ok(OpBody::PaymentCapture(PaymentCapture {
        payment: payment(it.payment.as_ref())?,
        amount: Amount(it.amount),
        last: it.last,
        merchant: field::pseudonym("order.merchant", &order.merchant)?,
        category: anji_contracts::types::MerchantCategory(field::number_u16("order.category", order.category)?),
        order_hash: field::hash32("order.order_hash", &order.order_hash)?,
    }))
}

pub(crate) fn void_payment(it: &v1::VoidPaymentRequest) -> Result<OpBody, FieldError> {
    Ok(OpBody::PaymentVoid(PaymentVoid {
        payment: payment(it.payment.as_ref())?,
        reason: field::number_u16("reason", it.reason)?,
    }))
}

pub(crate) fn refund_payment(it: &v1::RefundPaymentRequest) -> Result<OpBody, FieldError> {
    Ok(OpBody::RefundRequest(RefundRequest {
        payment: payment(it.payment.as_ref())?,
        amount: Amount(it.amount),
        reason: field::number_u16("reason", it.reason)?,
        order_hash: field::hash32("order_hash", &it.order_hash)?,
    }))
}

pub(crate) fn hold_payment(it: &v1::HoldPaymentRequest) -> Result<OpBody, FieldError> {
    Ok(OpBody::PaymentHold(PaymentHold {
        payment: payment(it.payment.as_ref())?,
        assertion: terms::read_assertion("assertion", it.assertion.as_ref())?,
        disclosure: optional(it.disclosure.as_ref(), |it| terms::read_disclosure("disclosure", Some(it)))?,
    }))
}

pub(crate) fn decline_payment(it: &v1::DeclinePaymentRequest) -> Result<OpBody, FieldError> {
    Ok(OpBody::PaymentDecline(PaymentDecline {
        payment: payment(it.payment.as_ref())?,
        reason: field::number_u16("reason", it.reason)?,
    }))
}

pub(crate) fn post_refund(it: &v1::PostRefundRequest) -> Result<OpBody, FieldError> {
    Ok(OpBody::RefundPost(RefundStep { refund: refund(it.refund.as_ref())?, reason: 0 }))
}

pub(crate) fn fail_refund(it: &v1::FailRefundRequest) -> Result<OpBody, FieldError> {
    let reason = field::number_u16("reason", it.reason)?;
    Ok(OpBody::RefundFail(RefundStep { refund: refund(it.refund.as_ref())?, reason }))
}

pub(crate) fn close_window(it: &v1::CloseWindowRequest) -> Result<OpBody, FieldError> {
    Ok(OpBody::WindowClose(WindowClose { window: WindowId(it.window) }))
}

pub(crate) fn set_cap(it: &v1::SetCapRequest) -> Result<OpBody, FieldError> {
    Ok(OpBody::CapSet(CapSet { participant: ParticipantId(it.participant), cap: Amount(it.cap) }))
}

/// Deposit, withdraw.
pub(crate) fn move_liquidity(it: &v1::MoveLiquidityRequest) -> Result<LiquidityMove, FieldError> {
    if !(1..=64).contains(&it.bank_reference.len()) {
        return Err(FieldError::new("bank_reference", "must be 1 to 64 bytes"));
    }
    Ok(LiquidityMove {
        participant: ParticipantId(it.participant),
        amount: Amount(it.amount),
        bank_reference: it.bank_reference.clone(),
    })
}
