//! Caps and liquidity: what limits a participant's exposure. The clearing party sets any cap and books liquidity against a
//! bank reference; a participant may lower its own cap.

use super::{Caller, CapSet, LiquidityMove};
use crate::block::StateView;
use crate::entity::EntityKey;
use crate::ledger::{Answer, Ledger};
use crate::postings;
use crate::reject::Reject;
use crate::rules::licence;
use crate::types::Role;

/// `CapSet`. A cap below the exposure is allowed: it only stops new holds.
pub(crate) fn set_cap<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    op: &CapSet,
) -> Answer<V, EntityKey> {
    let roles = [Role::Acquirer, Role::Issuer, Role::ServiceProvider, Role::Clearing];
    licence::check_signer(caller.signer, &roles, ledger.now())?;
    ledger.participant(op.participant)?.ok_or(Reject::UnknownParticipant)?;
    if caller.signer.role != Role::Clearing {
        caller.check_party(op.participant)?;
        if op.cap > ledger.position(op.participant)?.cap {
            return Err(Reject::CapDirection.into());
        }
    }
    ledger.change_position(op.participant)?.cap = op.cap;
    Ok(EntityKey::Position(op.participant))
}

fn check_move<V: StateView>(ledger: &mut Ledger<'_, V>, caller: &Caller<'_>, op: &LiquidityMove) -> Answer<V, ()> {
    licence::check_signer(caller.signer, &[Role::Clearing], ledger.now())?;
    ledger.participant(op.participant)?.ok_or(Reject::UnknownParticipant)?;
    if op.amount.is_zero() { Err(Reject::ZeroAmount.into()) } else { Ok(()) }
}

/// `LiquidityDeposit`: money arrived at the clearing party's bank.
pub(crate) fn deposit<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    op: &LiquidityMove,
) -> Answer<V, EntityKey> {
    check_move(ledger, caller, op)?;
    postings::deposit(ledger, op.participant, op.amount)?;
    Ok(EntityKey::Position(op.participant))
}

/// `LiquidityWithdraw`: money leaves it again, never so much that the exposure is no longer covered.
pub(crate) fn withdraw<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    op: &LiquidityMove,
) -> Answer<V, EntityKey> {
    check_move(ledger, caller, op)?;
    let position = ledger.position(op.participant)?;
    let exposure = position.exposure().ok_or(Reject::Overflow)?;
    if position.cover().checked_sub(op.amount.wide()).is_none_or(|rest| rest < exposure) {
        return Err(Reject::LiquidityInUse.into());
    }
    postings::withdraw(ledger, op.participant, op.amount)?;
    Ok(EntityKey::Position(op.participant))
}
