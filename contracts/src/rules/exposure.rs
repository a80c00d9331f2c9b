//! Limits on money at risk, judged operation by operation: the line's ceiling, and cap and liquidity cover of a participant.
//! Exposure = holds + max(0, debits − credits over all unsettled windows).

use crate::entity::{Line, Mandate, Position};
use crate::postings::exposure_with;
use crate::reject::Reject;
use crate::types::Amount;

/// A new hold of `amount` fits the line: pending and posted debits less posted credits stay within the ceiling.
pub(crate) fn check_ceiling(mandate: &Mandate, line: &Line, amount: Amount) -> Result<(), Reject> {
    let balance = &line.balance;
    let debits = balance.debits_pending.checked_add(balance.debits_posted).ok_or(Reject::Overflow)?;
    let debits = debits.checked_add(amount.wide()).ok_or(Reject::Overflow)?;
    let limit = mandate.ceiling.wide().checked_add(balance.credits_posted).ok_or(Reject::Overflow)?;
    if debits <= limit { Ok(()) } else { Err(Reject::AboveCeiling) }
}

/// A new hold of `amount` keeps the issuer within cap and liquidity cover. `Pay` is judged as its hold: a net credit of the
/// issuer does not count against it before the capture.
pub(crate) fn check_hold(issuer: &Position, amount: Amount) -> Result<(), Reject> {
    let exposure = exposure_with(issuer, amount, Amount::ZERO)?;
    if exposure > issuer.cap.wide() {
        return Err(Reject::AboveCap);
    }
    if exposure > issuer.cover() {
        return Err(Reject::AboveLiquidity);
    }
    Ok(())
}

/// A refund of `amount` keeps the acquirer within cap and liquidity cover.
pub(crate) fn check_refund(acquirer: &Position, amount: Amount) -> Result<(), Reject> {
    let exposure = exposure_with(acquirer, Amount::ZERO, amount)?;
    let limit = acquirer.cap.wide().min(acquirer.cover());
    if exposure <= limit { Ok(()) } else { Err(Reject::RefundAboveCap) }
}
