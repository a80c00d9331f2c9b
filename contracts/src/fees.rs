//! Fee legs. A schedule is frozen on the payment at request; what a leg has received is always a function of the cumulative
//! captured amount alone, so partial captures never drift. Returns are the same function of the cumulative refunded amount.
//!
//! With C the cumulative amount in minor units and r the rate of a leg in basis points:
//! - every leg but the remainder leg: floor(r × C / 10,000);
//! - T, what the merchant bears: (sum of the merchant-borne rates) × C / 10,000, rounded half up;
//! - the remainder leg: T less the other merchant-borne legs.
//!
//! The remainder leg is never negative: a sum of floors is at most the floor of the sum, which is at most T because the other
//! merchant-borne rates add up to no more than all of them. It may shrink by a few minor units from one capture to the
//! next; then the difference is posted the other way round.

use crate::entity::{Bearer, FeeLeg, FeeSchedule, Payment, ScheduleLeg};
use crate::postings::Transfers;
use crate::reject::Reject;
use crate::types::{Amount, ParticipantId, ScheduleVersion};
use alloc::vec::Vec;

/// Most legs of a schedule.
pub const MAX_LEGS: usize = 8;
/// Basis points of the whole.
const WHOLE_BPS: u128 = 10_000;

/// Who bears channel and technical fee in the founding schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bearing {
    /// The merchant, on top of the other legs: 1.35 % in all.
    OnTop,
    /// The issuer's and the service provider's legs: the merchant pays 1.20 % in all.
    Inside,
}

/// The founding schedule: acquirer 60 (takes the remainder), issuer 50, service provider 10, channel 5, technical provider 10,
/// in basis points of the amount.
#[must_use]
pub fn founding_schedule(
    bearing: Bearing,
    version: ScheduleVersion,
    effective_at_ms: u64,
    service_provider: ParticipantId,
    channel: ParticipantId,
    technical: ParticipantId,
) -> FeeSchedule {
    let (channel_bearer, technical_bearer) = match bearing {
        Bearing::OnTop => (Bearer::Merchant, Bearer::Merchant),
        Bearing::Inside => (Bearer::Leg(1), Bearer::Leg(2)),
    };
    let leg = |payee, rate_bps, bearer| ScheduleLeg { payee, rate_bps, bearer, returned_on_refund: true };
    FeeSchedule {
        version,
        effective_at_ms,
        legs: alloc::vec![
            leg(ScheduleLeg::ACQUIRER, 60, Bearer::Merchant),
            leg(ScheduleLeg::ISSUER, 50, Bearer::Merchant),
            leg(service_provider, 10, Bearer::Merchant),
            leg(channel, 5, channel_bearer),
            leg(technical, 10, technical_bearer),
        ],
        remainder_leg: 0,
    }
}

/// Whether a schedule can be computed with.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check_schedule(schedule: &FeeSchedule) -> Result<(), &'static str> {
    let legs = &schedule.legs;
    if legs.is_empty() || legs.len() > MAX_LEGS {
        return Err("a schedule has 1 to 8 legs");
    }
    if legs.iter().any(|leg| u128::from(leg.rate_bps) > WHOLE_BPS) || merchant_bps(schedule) > WHOLE_BPS {
        return Err("the merchant cannot bear more than 10,000 basis points");
    }
    if legs.get(usize::from(schedule.remainder_leg)).is_none_or(|leg| leg.bearer != Bearer::Merchant) {
        return Err("the remainder leg must be a leg that the merchant bears");
    }
    for (place, leg) in legs.iter().enumerate() {
        let Bearer::Leg(of) = leg.bearer else { continue };
        let Some(bearer) = legs.get(usize::from(of)) else { return Err("a leg is borne by a leg that does not exist") };
        if usize::from(of) == place || bearer.bearer != Bearer::Merchant {
            return Err("a leg can only be borne by another leg that the merchant bears");
        }
        let borne: u64 = legs.iter().filter(|it| it.bearer == leg.bearer).map(|it| u64::from(it.rate_bps)).sum();
        if borne > u64::from(bearer.rate_bps) {
            return Err("the legs that a leg bears exceed it");
        }
    }
    Ok(())
}

/// What the merchant bears, in basis points.
fn merchant_bps(schedule: &FeeSchedule) -> u128 {
    let borne = schedule.legs.iter().filter(|leg| leg.bearer == Bearer::Merchant);
    borne.fold(0_u128, |sum, leg| sum.saturating_add(u128::from(leg.rate_bps)))
}

/// `scaled` over the whole, rounded down. Nearly every amount fits 64 bits, where a division by a constant is a multiplication.
fn over_whole(scaled: u128) -> u128 {
    const WHOLE: u64 = 10_000;
    u64::try_from(scaled).map_or(scaled / WHOLE_BPS, |scaled| u128::from(scaled / WHOLE))
}

fn narrow(amount: u128) -> Result<Amount, Reject> {
    u64::try_from(amount).map(Amount).map_err(|_| Reject::Overflow)
}

/// What the merchant bears in all on a cumulative amount.
///
/// # Errors
/// [`Reject::Overflow`].
pub fn merchant_total(schedule: &FeeSchedule, cumulative: Amount) -> Result<Amount, Reject> {
    let scaled = merchant_bps(schedule).checked_mul(cumulative.wide()).ok_or(Reject::Overflow)?;
    let rounded = over_whole(scaled.checked_add(WHOLE_BPS / 2).ok_or(Reject::Overflow)?);
    narrow(rounded)
}

/// What every leg has received on a cumulative amount, in the order of the schedule.
///
/// # Errors
/// [`Reject::Overflow`], [`Reject::FeeMismatch`] for a schedule that [`check_schedule`] refuses.
pub fn quote(schedule: &FeeSchedule, cumulative: Amount) -> Result<Vec<Amount>, Reject> {
    let mut rest = merchant_total(schedule, cumulative)?;
    let mut amounts = Vec::with_capacity(schedule.legs.len());
    for (place, leg) in schedule.legs.iter().enumerate() {
        if place == usize::from(schedule.remainder_leg) {
            amounts.push(Amount::ZERO);
            continue;
        }
        let scaled = u128::from(leg.rate_bps).checked_mul(cumulative.wide()).ok_or(Reject::Overflow)?;
        let amount = narrow(over_whole(scaled))?;
        if leg.bearer == Bearer::Merchant {
            rest = rest.checked_sub(amount).ok_or(Reject::FeeMismatch)?;
        }
        amounts.push(amount);
    }
    *amounts.get_mut(usize::from(schedule.remainder_leg)).ok_or(Reject::FeeMismatch)? = rest;
    Ok(amounts)
}

/// The legs of a new payment: payees named, nothing posted.
pub(crate) fn open_legs(schedule: &FeeSchedule, acquirer: ParticipantId, issuer: ParticipantId) -> Vec<FeeLeg> {
    let payee = |leg: &ScheduleLeg| match leg.payee {
        ScheduleLeg::ACQUIRER => acquirer,
        ScheduleLeg::ISSUER => issuer,
        named => named,
    };
    schedule.legs.iter().map(|leg| FeeLeg { payee: payee(leg), ..FeeLeg::default() }).collect()
}

/// Who pays leg `leg`: the acquirer out of the merchant's money, or the payee of the leg that bears it.
fn payer(payment: &Payment, leg: &ScheduleLeg) -> Result<ParticipantId, Reject> {
    match leg.bearer {
        Bearer::Merchant => Ok(payment.acquirer()),
        Bearer::Leg(of) => payment.fees.get(usize::from(of)).map(|it| it.payee).ok_or(Reject::FeeMismatch),
    }
}

/// Adds the transfer that moves a leg from `before` to `after`. A payer that is its own payee keeps the money: no posting.
fn step(transfers: &mut Transfers, payer: ParticipantId, payee: ParticipantId, before: Amount, after: Amount) {
    let difference = Amount(after.0.abs_diff(before.0));
    if payer != payee && !difference.is_zero() {
        let (debtor, creditor) = if after > before { (payer, payee) } else { (payee, payer) };
        transfers.push((debtor, creditor, difference));
    }
}

/// Brings the legs up to the captured amount.
pub(crate) fn post_legs(
    payment: &mut Payment,
    schedule: &FeeSchedule,
    transfers: &mut Transfers,
) -> Result<(), Reject> {
    for (place, (leg, after)) in schedule.legs.iter().zip(quote(schedule, payment.captured)?).enumerate() {
        let payer = payer(payment, leg)?;
        let posted = payment.fees.get_mut(place).ok_or(Reject::FeeMismatch)?;
        step(transfers, payer, posted.payee, posted.posted, after);
        posted.posted = after;
    }
    Ok(())
}

/// Gives the returnable legs back up to the refunded amount; a full refund gives back exactly what was posted.
pub(crate) fn return_legs(
    payment: &mut Payment,
    schedule: &FeeSchedule,
    transfers: &mut Transfers,
) -> Result<(), Reject> {
    for (place, (leg, after)) in schedule.legs.iter().zip(quote(schedule, payment.refunded)?).enumerate() {
        if leg.returned_on_refund {
            let payer = payer(payment, leg)?;
            let posted = payment.fees.get_mut(place).ok_or(Reject::FeeMismatch)?;
            step(transfers, posted.payee, payer, posted.returned, after);
            posted.returned = after;
        }
    }
    Ok(())
}

/// The legs of a payment are what the schedule quotes, to the minor unit, by another way of computing than [`quote`].
pub(crate) fn check_legs(payment: &Payment, schedule: &FeeSchedule) -> Result<(), Reject> {
    if payment.fees.len() != schedule.legs.len() {
        return Err(Reject::FeeMismatch);
    }
    let mut merchant_posted = 0_u128;
    for (place, (leg, fee)) in schedule.legs.iter().zip(&payment.fees).enumerate() {
        if leg.bearer == Bearer::Merchant {
            merchant_posted = merchant_posted.checked_add(fee.posted.wide()).ok_or(Reject::Overflow)?;
        }
        let exact = u128::from(leg.rate_bps).checked_mul(payment.captured.wide()).ok_or(Reject::Overflow)?;
        let scaled = fee.posted.wide().checked_mul(WHOLE_BPS).ok_or(Reject::Overflow)?;
        let floored = exact.checked_sub(scaled).is_some_and(|rest| rest < WHOLE_BPS);
        if place != usize::from(schedule.remainder_leg) && !floored {
            return Err(Reject::FeeMismatch);
        }
    }
    let exact = merchant_bps(schedule).checked_mul(payment.captured.wide()).ok_or(Reject::Overflow)?;
    let scaled = merchant_posted.checked_mul(WHOLE_BPS).ok_or(Reject::Overflow)?;
    let half = WHOLE_BPS / 2;
    let up = scaled.checked_sub(exact).is_some_and(|over| over <= half);
    let down = exact.checked_sub(scaled).is_some_and(|under| under < half);
    if up || down { Ok(()) } else { Err(Reject::FeeMismatch) }
}
