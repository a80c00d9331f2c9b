//! Settlement windows: exactly one is open. When it closes, by the clearing party or by ledger time, every participant's net
//! is written down and the next window opens in the same block; the blocks after it build the tree over its payments. Until the nets are funded (rule book) their debits and
//! credits go on counting towards exposure.

use super::{Caller, WindowClose};
use crate::block::StateView;
use crate::entity::{EntityKey, Net, Window, WindowStatus};
use crate::ledger::{Answer, Ledger};
use crate::reject::Reject;
use crate::rules::licence;
use crate::types::{Hash32, Role, WindowId};
use crate::window_tree::{MAX_INDEXED_PER_BLOCK, WindowTree};
use alloc::vec::Vec;

/// Cut-offs are counted in this zone: UTC+8.
const ZONE_MS: u64 = 8 * 3_600_000;

/// The first cut-off after `now_ms`: a whole number of window lengths since 1970-01-01 00:00 UTC+8.
#[must_use]
pub(crate) fn next_cut_off(now_ms: u64, length_ms: u64) -> u64 {
    let local = now_ms.saturating_add(ZONE_MS);
    let passed = local.checked_div(length_ms).unwrap_or(0);
    passed.saturating_add(1).saturating_mul(length_ms).saturating_sub(ZONE_MS).max(now_ms.saturating_add(1))
}

/// A window that opens now.
#[must_use]
pub(crate) fn opened(id: WindowId, now_ms: u64, length_ms: u64) -> Window {
    Window {
        id,
        status: WindowStatus::Open,
        opened_at_ms: now_ms,
        closes_at_ms: next_cut_off(now_ms, length_ms),
        closed_at_ms: 0,
        nets: Vec::new(),
        instruction_hash: Hash32::ZERO,
    }
}

/// Closes the open window if ledger time has reached its end. However long the chain stood still, one window closes.
pub(crate) fn apply_time<V: StateView>(ledger: &mut Ledger<'_, V>) -> Answer<V, ()> {
    let id = ledger.control()?.open_window;
    let window = ledger.window(id)?.ok_or(Reject::StateMissing)?;
    if window.status == WindowStatus::Open && ledger.now() >= window.closes_at_ms { close_open(ledger) } else { Ok(()) }
}

fn net(credits: u128, debits: u128) -> Result<i128, Reject> {
    let credits = i128::try_from(credits).map_err(|_| Reject::Overflow)?;
    let debits = i128::try_from(debits).map_err(|_| Reject::Overflow)?;
    credits.checked_sub(debits).ok_or(Reject::Overflow)
}

/// Writes the nets down and opens the next window.
fn close_open<V: StateView>(ledger: &mut Ledger<'_, V>) -> Answer<V, ()> {
    let id = ledger.control()?.open_window;
    let mut window = (*ledger.window(id)?.ok_or(Reject::StateMissing)?).clone();
    let mut nets = Vec::new();
    let mut sum = 0_i128;
    for (participant, account) in ledger.obligations(id)? {
        let net = net(account.balance.credits_posted, account.balance.debits_posted)?;
        sum = sum.checked_add(net).ok_or(Reject::Overflow)?;
        nets.push(Net { participant, net });
    }
    if sum != 0 {
        return Err(Reject::UnbalancedPosting.into());
    }
    let now = ledger.now();
    window.status = WindowStatus::Closed;
    window.closed_at_ms = now;
    window.nets = nets;
    let next = WindowId(id.0.checked_add(1).ok_or(Reject::Overflow)?);
    let length_ms = ledger.context().params.window_length_ms;
    ledger.put_window(window);
    ledger.put_window(opened(next, now, length_ms));
    ledger.change_control()?.open_window = next;
    Ok(())
}

/// Goes on with the trees over the payments of windows that were closed before this block, so many payments a block, and writes the entry
/// of each that is done.
pub(crate) fn index_closed<V: StateView>(ledger: &mut Ledger<'_, V>) -> Answer<V, ()> {
    let Some(open) = ledger.first_open() else { return Ok(()) };
    let mut tree = ledger.window_tree()?;
    if tree.window >= open {
        return Ok(());
    }
    let mut room = MAX_INDEXED_PER_BLOCK;
    while tree.window < open && room > 0 {
        let payments = ledger.window_payments(tree.window, tree.after, room)?;
        let is_last = payments.len() < room;
        room = room.saturating_sub(payments.len());
        payments.into_iter().for_each(|payment| tree.push(payment));
        if is_last {
            ledger.put_window_payments(tree.finish());
            let next = tree.window.0.checked_add(1).ok_or(Reject::Overflow)?;
            tree = WindowTree::start(WindowId(next));
            // A window costs something even if it is empty.
            room = room.saturating_sub(1);
        }
    }
    ledger.put_window_tree(tree);
    Ok(())
}

/// `WindowClose`: the clearing party closes the open window before its time.
pub(crate) fn close<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    op: &WindowClose,
) -> Answer<V, EntityKey> {
    licence::check_signer(caller.signer, &[Role::Clearing], ledger.now())?;
    let window = ledger.window(op.window)?.ok_or(Reject::UnknownWindow)?;
    if window.status != WindowStatus::Open || op.window != ledger.control()?.open_window {
        return Err(Reject::WindowNotOpen.into());
    }
    close_open(ledger)?;
    Ok(EntityKey::Window(op.window))
}
