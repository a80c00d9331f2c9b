//! Double entry: the only file that changes a balance. Every function here posts two sides of one sum, so that debits and
//! credits stay equal, pending and posted; the running totals are kept from the changes of the accounts themselves and
//! compared after every posting. An alarm (9xxx) leaves the caller to take the operation back.
//!
//! Accounts: `line(mandate)` against `control.lines`; `obligation(participant, window)` against another participant's;
//! `liquidity(participant)` against `control.liquidity`.

use crate::block::StateView;
use crate::entity::{Balance, Position};
use crate::ledger::{Answer, Ledger};
use crate::reject::Reject;
use crate::types::{Amount, MandateId, ParticipantId, WindowId};
use alloc::vec::Vec;

/// What a participant is debited and credited in one go: (who, debits, credits).
type Sums = Vec<(ParticipantId, u128, u128)>;

fn add(sum: &mut u128, amount: u128) -> Result<(), Reject> {
    *sum = sum.checked_add(amount).ok_or(Reject::Overflow)?;
    Ok(())
}

fn take(sum: &mut u128, amount: u128) -> Result<(), Reject> {
    *sum = sum.checked_sub(amount).ok_or(Reject::NegativeBalance)?;
    Ok(())
}

/// Follows a change of one account in the totals.
fn follow(totals: &mut Balance, before: &Balance, after: &Balance) -> Result<(), Reject> {
    let step = |total: &mut u128, before: u128, after: u128| {
        if after >= before { add(total, after.abs_diff(before)) } else { take(total, before.abs_diff(after)) }
    };
    step(&mut totals.debits_pending, before.debits_pending, after.debits_pending)?;
    step(&mut totals.debits_posted, before.debits_posted, after.debits_posted)?;
    step(&mut totals.credits_pending, before.credits_pending, after.credits_pending)?;
    step(&mut totals.credits_posted, before.credits_posted, after.credits_posted)
}

/// Debits equal credits, pending and posted.
pub(crate) const fn is_balanced(totals: &Balance) -> bool {
    totals.debits_pending == totals.credits_pending && totals.debits_posted == totals.credits_posted
}

fn check_balanced(totals: &Balance) -> Result<(), Reject> {
    if is_balanced(totals) { Ok(()) } else { Err(Reject::UnbalancedPosting) }
}

/// Changes a mandate's line by `line` and the control account of all lines by `control`.
fn post_line<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    mandate: MandateId,
    line: impl FnOnce(&mut Balance) -> Result<(), Reject>,
    control: impl FnOnce(&mut Balance) -> Result<(), Reject>,
) -> Answer<V, ()> {
    let account = &mut ledger.change_line(mandate)?.balance;
    let before = *account;
    line(account)?;
    let after = *account;
    let own = ledger.change_control()?;
    let own_before = own.lines;
    control(&mut own.lines)?;
    let own_after = own.lines;
    follow(&mut own.totals, &before, &after)?;
    follow(&mut own.totals, &own_before, &own_after)?;
    Ok(check_balanced(&own.totals)?)
}

/// Sets money of a line aside: pending debit on the line. The issuer's exposure grows by it.
pub(crate) fn hold<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    mandate: MandateId,
    issuer: ParticipantId,
    amount: Amount,
) -> Answer<V, ()> {
    let wide = amount.wide();
    post_line(ledger, mandate, |line| add(&mut line.debits_pending, wide), |own| add(&mut own.credits_pending, wide))?;
    let position = ledger.change_position(issuer)?;
    position.holds = position.holds.plus(amount)?;
    Ok(())
}

/// Frees money that was set aside.
pub(crate) fn release<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    mandate: MandateId,
    issuer: ParticipantId,
    amount: Amount,
) -> Answer<V, ()> {
    let wide = amount.wide();
    post_line(
        ledger,
        mandate,
        |line| take(&mut line.debits_pending, wide),
        |own| take(&mut own.credits_pending, wide),
    )?;
    let position = ledger.change_position(issuer)?;
    position.holds = position.holds.minus(amount)?;
    Ok(())
}

/// Turns money that was set aside into a debit for good.
pub(crate) fn capture<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    mandate: MandateId,
    issuer: ParticipantId,
    amount: Amount,
) -> Answer<V, ()> {
    let wide = amount.wide();
    let line = |line: &mut Balance| {
        take(&mut line.debits_pending, wide)?;
        add(&mut line.debits_posted, wide)
    };
    let own = |own: &mut Balance| {
        take(&mut own.credits_pending, wide)?;
        add(&mut own.credits_posted, wide)
    };
    post_line(ledger, mandate, line, own)?;
    let position = ledger.change_position(issuer)?;
    position.holds = position.holds.minus(amount)?;
    Ok(())
}

/// Debits a line for good at once: hold and capture of the same sum in one posting, for `Pay`.
pub(crate) fn debit_line<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    mandate: MandateId,
    amount: Amount,
) -> Answer<V, ()> {
    let wide = amount.wide();
    post_line(ledger, mandate, |line| add(&mut line.debits_posted, wide), |own| add(&mut own.credits_posted, wide))
}

/// Gives a line back what was debited: a refund or a repayment.
pub(crate) fn credit_line<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    mandate: MandateId,
    amount: Amount,
) -> Answer<V, ()> {
    let wide = amount.wide();
    post_line(ledger, mandate, |line| add(&mut line.credits_posted, wide), |own| add(&mut own.debits_posted, wide))
}

/// What participants come to owe each other by one step: (debtor, creditor, amount) each.
pub(crate) type Transfers = Vec<(ParticipantId, ParticipantId, Amount)>;

fn sum_up(transfers: &Transfers) -> Result<Sums, Reject> {
    fn slot(sums: &mut Sums, who: ParticipantId) -> Result<&mut (ParticipantId, u128, u128), Reject> {
        let place = match sums.iter().position(|(known, ..)| *known == who) {
            Some(place) => place,
            None => {
                sums.push((who, 0, 0));
                sums.len().saturating_sub(1)
            }
        };
        sums.get_mut(place).ok_or(Reject::StateMissing)
    }
    let mut sums = Sums::with_capacity(8);
    for (debtor, creditor, amount) in transfers {
        add(&mut slot(&mut sums, *debtor)?.1, amount.wide())?;
        add(&mut slot(&mut sums, *creditor)?.2, amount.wide())?;
    }
    Ok(sums)
}

/// Posts what participants come to owe each other in a window: debit of the debtor, credit of the creditor.
pub(crate) fn oblige<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    window: WindowId,
    transfers: &Transfers,
) -> Answer<V, ()> {
    let mut changed = Balance::default();
    for (who, debits, credits) in sum_up(transfers)? {
        let account = &mut ledger.change_obligation((who, window))?.balance;
        let before = *account;
        add(&mut account.debits_posted, debits)?;
        add(&mut account.credits_posted, credits)?;
        follow(&mut changed, &before, &{ *account })?;
        let position = ledger.change_position(who)?;
        add(&mut position.unsettled_debits, debits)?;
        add(&mut position.unsettled_credits, credits)?;
    }
    let totals = &mut ledger.change_control()?.totals;
    add(&mut totals.debits_posted, changed.debits_posted)?;
    add(&mut totals.credits_posted, changed.credits_posted)?;
    Ok(check_balanced(totals)?)
}

/// Changes a participant's liquidity by `account` and the control account of all liquidity by `control`.
fn post_liquidity<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    participant: ParticipantId,
    account: impl FnOnce(&mut Balance) -> Result<(), Reject>,
    control: impl FnOnce(&mut Balance) -> Result<(), Reject>,
) -> Answer<V, ()> {
    let liquidity = &mut ledger.change_position(participant)?.liquidity;
    let before = *liquidity;
    account(liquidity)?;
    let after = *liquidity;
    let own = ledger.change_control()?;
    let own_before = own.liquidity;
    control(&mut own.liquidity)?;
    let own_after = own.liquidity;
    follow(&mut own.totals, &before, &after)?;
    follow(&mut own.totals, &own_before, &own_after)?;
    Ok(check_balanced(&own.totals)?)
}

/// Liquidity arrived at the clearing party.
pub(crate) fn deposit<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    participant: ParticipantId,
    amount: Amount,
) -> Answer<V, ()> {
    let wide = amount.wide();
    let account = |it: &mut Balance| add(&mut it.credits_posted, wide);
    post_liquidity(ledger, participant, account, |own| add(&mut own.debits_posted, wide))
}

/// Liquidity left the clearing party.
pub(crate) fn withdraw<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    participant: ParticipantId,
    amount: Amount,
) -> Answer<V, ()> {
    let wide = amount.wide();
    let account = |it: &mut Balance| {
        add(&mut it.debits_posted, wide)?;
        if it.debits_posted > it.credits_posted { Err(Reject::NegativeBalance) } else { Ok(()) }
    };
    post_liquidity(ledger, participant, account, |own| add(&mut own.credits_posted, wide))
}

/// What a position's exposure would be with `amount` more on its debit side.
pub(crate) fn exposure_with(position: &Position, held: Amount, owed: Amount) -> Result<u128, Reject> {
    let debits = position.unsettled_debits.checked_add(owed.wide()).ok_or(Reject::Overflow)?;
    let net = debits.saturating_sub(position.unsettled_credits);
    let holds = position.holds.wide().checked_add(held.wide()).ok_or(Reject::Overflow)?;
    holds.checked_add(net).ok_or(Reject::Overflow)
}

/// Notes how much of a guarantee `Pay` has used up; a new version of the guarantee starts from zero.
pub(crate) fn use_guarantee<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    mandate: MandateId,
    version: u32,
    used: Amount,
) -> Answer<V, ()> {
    let line = ledger.change_line(mandate)?;
    line.guarantee_version = version;
    line.guarantee_used = used;
    Ok(())
}
