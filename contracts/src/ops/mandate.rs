//! Mandates: a shopper's link from an acquirer to an issuer. The acquirer proposes terms; the issuer accepts them, lower or
//! equal, with its guarantee, its view of the risk, the disclosure and the consent, and refreshes those. Either side may
//! stop new payments, for now or for good; money held stays held. Ledger time ends a mandate.
//! Rejects come in the order told in [`crate::reject`].

use super::{Caller, MandateActivate, MandatePropose, MandateRefresh, MandateStop, known_mandate, party};
use crate::block::StateView;
use crate::entity::{EntityKey, Mandate, MandateStatus, Versioned};
use crate::ledger::{Answer, Ledger};
use crate::postings;
use crate::reject::Reject;
use crate::rules::{disclosure, licence, risk, scenes};
use crate::types::{Consent, Disclosure, Guarantee, MandateId, Pseudonym, RiskAssertion, Role};

/// Ledger time reached the end of the mandate.
pub(crate) fn apply_time<V: StateView>(ledger: &mut Ledger<'_, V>, id: MandateId) -> Answer<V, ()> {
    if let Some(mandate) = ledger.mandate(id)?
        && mandate.due_at_ms().is_some_and(|due| due <= ledger.now())
    {
        let mut mandate = (*mandate).clone();
        mandate.status = MandateStatus::Expired;
        mandate.suspended_by = None;
        ledger.put_mandate(mandate);
    }
    Ok(())
}

/// The mandate serves new payments.
pub(crate) const fn check_active(mandate: &Mandate) -> Result<(), Reject> {
    match mandate.status {
        MandateStatus::Active => Ok(()),
        MandateStatus::Proposed => Err(Reject::MandateNotActive),
        MandateStatus::Suspended => Err(Reject::MandateSuspended),
        MandateStatus::Revoked => Err(Reject::MandateRevoked),
        MandateStatus::Expired => Err(Reject::MandateExpired),
    }
}

fn check_party(caller: &Caller<'_>, mandate: &Mandate) -> Result<(), Reject> {
    if caller.signer.id == mandate.acquirer() { Ok(()) } else { caller.check_party(mandate.issuer) }
}

fn set<T>(slot: &mut Versioned<T>, value: Option<T>) -> Result<(), Reject> {
    if value.is_some() {
        slot.version = slot.version.checked_add(1).ok_or(Reject::Overflow)?;
        slot.value = value;
    }
    Ok(())
}

/// What the issuer promises, asserts and records must be good today.
fn check_terms<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    guarantee: Option<&Guarantee>,
    assertion: Option<&RiskAssertion>,
    shown: Option<&Disclosure>,
    consent: Option<&Consent>,
) -> Answer<V, ()> {
    let now = ledger.now();
    if guarantee.is_some_and(|it| it.until_ms <= now) {
        return Err(Reject::GuaranteeExpired.into());
    }
    if let Some(assertion) = assertion {
        risk::check_fresh(assertion, now)?;
    }
    if consent.is_some() {
        risk::check_consent(consent, now)?;
    }
    if let Some(shown) = shown {
        disclosure::check_record(shown, ledger.context().params.min_disclosure_shown_ms)?;
        let provider = ledger.participant(shown.service_provider)?.ok_or(Reject::DisclosureMissing)?;
        if provider.role != Role::ServiceProvider || ledger.schedule(shown.schedule_version)?.is_none() {
            return Err(Reject::DisclosureMissing.into());
        }
    }
    Ok(())
}

/// `MandatePropose`: the acquirer asks an issuer for a link.
pub(crate) fn propose<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    op: &MandatePropose,
) -> Answer<V, EntityKey> {
    let now = ledger.now();
    licence::check_signer(caller.signer, &[Role::Acquirer], now)?;
    scenes::check_allowed(op.scenes)?;
    let issuer = ledger.participant(op.issuer)?.ok_or(Reject::UnknownParticipant)?;
    if issuer.id == caller.signer.id {
        return Err(Reject::SelfDealing.into());
    }
    licence::check_signer(&issuer, &[Role::Issuer], now)?;
    licence::check_scope(caller.signer, op.scenes)?;
    licence::check_scope(&issuer, op.scenes)?;
    scenes::check_some(op.scenes)?;
    if op.expires_at_ms <= now {
        return Err(Reject::DeadlinePassed.into());
    }
    if op.ceiling.is_zero() || op.payment_cap.is_zero() {
        return Err(Reject::ZeroAmount.into());
    }
    let id = MandateId(caller.id);
    ledger.put_mandate(Mandate {
        id,
        status: MandateStatus::Proposed,
        issuer: op.issuer,
        payer: op.payer,
        payer_at_issuer: Pseudonym::default(),
        ceiling: op.ceiling,
        payment_cap: op.payment_cap,
        scenes: op.scenes,
        tier: op.tier,
        expires_at_ms: op.expires_at_ms,
        request_commitment: op.request_commitment,
        suspended_by: None,
        guarantee: Versioned::default(),
        assertion: Versioned::default(),
        disclosure: Versioned::default(),
        consent: Versioned::default(),
    });
    Ok(EntityKey::Mandate(id))
}

/// `MandateActivate`: the issuer accepts and sets its terms, never above what was proposed.
pub(crate) fn activate<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    op: &MandateActivate,
) -> Answer<V, EntityKey> {
    let now = ledger.now();
    licence::check_signer(caller.signer, &[Role::Issuer], now)?;
    let mandate = known_mandate(ledger, op.mandate)?;
    caller.check_party(mandate.issuer)?;
    match mandate.status {
        MandateStatus::Proposed => {}
        MandateStatus::Active | MandateStatus::Suspended => return Err(Reject::MandateNotProposed.into()),
        MandateStatus::Revoked => return Err(Reject::MandateRevoked.into()),
        MandateStatus::Expired => return Err(Reject::MandateExpired.into()),
    }
    let acquirer = party(ledger, mandate.acquirer())?;
    licence::check_standing(&acquirer, now)?;
    licence::check_scope(caller.signer, op.scenes)?;
    scenes::check_some(op.scenes)?;
    let lower = op.ceiling <= mandate.ceiling && op.payment_cap <= mandate.payment_cap;
    if !lower || !op.scenes.is_subset_of(mandate.scenes) {
        return Err(Reject::AboveProposedTerms.into());
    }
    check_terms(ledger, op.guarantee.as_ref(), op.assertion.as_ref(), Some(&op.disclosure), Some(&op.consent))?;
    if op.ceiling.is_zero() || op.payment_cap.is_zero() {
        return Err(Reject::ZeroAmount.into());
    }
    let mut mandate = (*mandate).clone();
    mandate.status = MandateStatus::Active;
    mandate.payer_at_issuer = op.payer_at_issuer;
    mandate.ceiling = op.ceiling;
    mandate.payment_cap = op.payment_cap;
    mandate.scenes = op.scenes;
    set(&mut mandate.guarantee, op.guarantee)?;
    set(&mut mandate.assertion, op.assertion)?;
    set(&mut mandate.disclosure, Some(op.disclosure.clone()))?;
    set(&mut mandate.consent, Some(op.consent))?;
    ledger.put_mandate(mandate);
    Ok(EntityKey::Mandate(op.mandate))
}

/// `MandateRefresh`: the issuer renews what it promised, asserted and recorded, and reports repayments. Repayments are taken
/// after the end of a mandate too, because the shopper still owes what was spent.
pub(crate) fn refresh<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    op: &MandateRefresh,
) -> Answer<V, EntityKey> {
    licence::check_signer(caller.signer, &[Role::Issuer], ledger.now())?;
    let mandate = known_mandate(ledger, op.mandate)?;
    caller.check_party(mandate.issuer)?;
    let renews = op.guarantee.is_some() || op.assertion.is_some() || op.disclosure.is_some() || op.consent.is_some();
    match mandate.status {
        MandateStatus::Active | MandateStatus::Suspended => {}
        MandateStatus::Proposed => return Err(Reject::MandateNotActive.into()),
        MandateStatus::Revoked if renews => return Err(Reject::MandateRevoked.into()),
        MandateStatus::Expired if renews => return Err(Reject::MandateExpired.into()),
        MandateStatus::Revoked | MandateStatus::Expired => {}
    }
    check_terms(ledger, op.guarantee.as_ref(), op.assertion.as_ref(), op.disclosure.as_ref(), op.consent.as_ref())?;
    let line = ledger.line(op.mandate)?.balance;
    if op.repaid.wide() > line.debits_posted.saturating_sub(line.credits_posted) {
        return Err(Reject::RepaidTooMuch.into());
    }
    if op.repaid.is_zero() && !renews {
        return Err(Reject::ZeroAmount.into());
    }
    if !op.repaid.is_zero() {
        postings::credit_line(ledger, op.mandate, op.repaid)?;
    }
    if renews {
        let mut mandate = (*mandate).clone();
        set(&mut mandate.guarantee, op.guarantee)?;
        set(&mut mandate.assertion, op.assertion)?;
        set(&mut mandate.disclosure, op.disclosure.clone())?;
        set(&mut mandate.consent, op.consent)?;
        ledger.put_mandate(mandate);
    }
    Ok(EntityKey::Mandate(op.mandate))
}

/// What suspend, resume and revoke share: the mandate, if the signer is one of its two parties.
fn stoppable<V: StateView>(ledger: &mut Ledger<'_, V>, caller: &Caller<'_>, op: &MandateStop) -> Answer<V, Mandate> {
    licence::check_signer(caller.signer, &[Role::Acquirer, Role::Issuer], ledger.now())?;
    let mandate = known_mandate(ledger, op.mandate)?;
    check_party(caller, &mandate)?;
    Ok((*mandate).clone())
}

/// `MandateSuspend`: either party stops new payments for now.
pub(crate) fn suspend<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    op: &MandateStop,
) -> Answer<V, EntityKey> {
    let mut mandate = stoppable(ledger, caller, op)?;
    check_active(&mandate)?;
    mandate.status = MandateStatus::Suspended;
    mandate.suspended_by = Some(caller.signer.id);
    ledger.put_mandate(mandate);
    Ok(EntityKey::Mandate(op.mandate))
}

/// `MandateResume`: the party that suspended allows payments again.
pub(crate) fn resume<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    op: &MandateStop,
) -> Answer<V, EntityKey> {
    let mut mandate = stoppable(ledger, caller, op)?;
    match mandate.status {
        MandateStatus::Suspended => {}
        MandateStatus::Proposed | MandateStatus::Active => return Err(Reject::MandateNotSuspended.into()),
        MandateStatus::Revoked => return Err(Reject::MandateRevoked.into()),
        MandateStatus::Expired => return Err(Reject::MandateExpired.into()),
    }
    if mandate.suspended_by != Some(caller.signer.id) {
        return Err(Reject::SuspendedByAnother.into());
    }
    mandate.status = MandateStatus::Active;
    mandate.suspended_by = None;
    ledger.put_mandate(mandate);
    Ok(EntityKey::Mandate(op.mandate))
}

/// `MandateRevoke`: either party ends the link for good. What is held can still be captured or released.
pub(crate) fn revoke<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    op: &MandateStop,
) -> Answer<V, EntityKey> {
    let mut mandate = stoppable(ledger, caller, op)?;
    match mandate.status {
        MandateStatus::Proposed | MandateStatus::Active | MandateStatus::Suspended => {}
        MandateStatus::Revoked => return Err(Reject::MandateRevoked.into()),
        MandateStatus::Expired => return Err(Reject::MandateExpired.into()),
    }
    mandate.status = MandateStatus::Revoked;
    mandate.suspended_by = None;
    ledger.put_mandate(mandate);
    Ok(EntityKey::Mandate(op.mandate))
}
