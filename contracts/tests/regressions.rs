//! One test for each way that money was lost or made elsewhere, named after the fact that must hold.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

mod common;

use anji_contracts::block::BlockExecutor;
use anji_contracts::entity::{Entity, EntityKey, PaymentStatus};
use anji_contracts::entry::{Cause, OpResult};
use anji_contracts::ops::*;
use anji_contracts::types::*;
use anji_contracts::{Broken, Reject};
use common::*;

fn sound(world: &World) {
    assert_eq!(world.view.scan(), Vec::<String>::new());
}

fn refund(payment: PaymentId, amount: u64) -> OpBody {
    let order_hash = order().order_hash;
    OpBody::RefundRequest(RefundRequest { payment, amount: Amount(amount), reason: 0, order_hash })
}

fn post(refund: RefundId) -> OpBody {
    OpBody::RefundPost(RefundStep { refund, reason: 0 })
}

fn void(payment: PaymentId) -> OpBody {
    OpBody::PaymentVoid(PaymentVoid { payment, reason: 0 })
}

#[test]
fn refund_headroom_shrinks_with_every_refund() {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let payment = world.paid(mandate, 100);
    world.refunded(payment, 30);
    assert_eq!(world.payment(payment).refund_headroom().unwrap(), Amount(70));
    assert_eq!(world.code(ACQUIRER, refund(payment, 71)), Reject::RefundAboveHeadroom.code());
    world.refunded(payment, 70);
    assert_eq!(world.code(ACQUIRER, refund(payment, 1)), Reject::RefundAboveHeadroom.code());
    assert_eq!(world.line(mandate).balance.credits_posted, 100);
    sound(&world);
}

#[test]
fn two_refunds_of_60_in_one_batch_cannot_share_a_payment_of_100() {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let payment = world.paid(mandate, 100);
    let ops = [0, 1].map(|_| Op { op_id: world.new_id(), linked: false, body: refund(payment, 60) });
    let receipts = world.run_ops(ACQUIRER, &ops);
    assert!(matches!(receipts[0].result, OpResult::Done(_)));
    assert_eq!(receipts[1].result, OpResult::Refused(Reject::RefundAboveHeadroom));
    sound(&world);
}

#[test]
fn a_capture_after_the_hold_expired_takes_nothing() {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let payment = world.held(mandate, 100);
    world.pass(DAY_MS);
    let body = OpBody::PaymentCapture(capture(payment, 100, true));
    assert_eq!(world.code(ACQUIRER, body), Reject::PaymentExpired.code());
    assert_eq!(world.line(mandate).balance.debits_posted, 0);
    assert_eq!(world.position(ISSUER).holds, Amount::ZERO);
    sound(&world);
}

#[test]
fn a_capture_after_a_decline_takes_nothing() {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let payment = world.requested(mandate, 100);
    world.done(ISSUER, OpBody::PaymentDecline(PaymentDecline { payment, reason: 1 }));
    let body = OpBody::PaymentCapture(capture(payment, 100, true));
    assert_eq!(world.code(ACQUIRER, body), Reject::PaymentNotHeld.code());
    sound(&world);
}

#[test]
fn a_hold_is_released_once() {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let other = world.held(mandate, 50);
    let payment = world.held(mandate, 100);
    world.done(ACQUIRER, void(payment));
    assert_eq!(world.code(ACQUIRER, void(payment)), Reject::PaymentNotHeld.code());
    world.pass(DAY_MS);
    world.pass(DAY_MS);
    assert_eq!(world.code(ACQUIRER, void(other)), Reject::PaymentExpired.code());
    assert_eq!(world.line(mandate).balance.debits_pending, 0);
    assert_eq!(world.payment(payment).released, Amount(100));
    sound(&world);
}

#[test]
fn an_operation_on_an_overdue_payment_expires_it_first_even_when_the_block_had_no_room_for_it() {
    let mut world = World::new();
    world.params.max_due_per_block = 1;
    let mandate = world.active_mandate();
    let payments = [world.held(mandate, 10), world.held(mandate, 20), world.held(mandate, 30)];
    world.now_ms += DAY_MS;
    // The block itself expires the first one only; the operation names the third.
    let op = Op { op_id: world.new_id(), linked: false, body: OpBody::PaymentCapture(capture(payments[2], 30, true)) };
    let batch = world.batch(ACQUIRER, &[op]);
    let effects = world.block(&[batch]);
    assert_eq!(effects.batches[0].receipts[0].result, OpResult::Refused(Reject::PaymentExpired));
    assert_eq!(effects.begin[0].key, EntityKey::Payment(payments[0]));
    // Its expiry stands though the operation was refused, and names time as its cause.
    let writes = &effects.batches[0].writes;
    assert_eq!((writes.len(), writes[0].key, writes[0].cause), (1, EntityKey::Payment(payments[2]), Cause::Time));
    assert_eq!(world.payment(payments[1]).status, PaymentStatus::Held);
    assert_eq!(world.position(ISSUER).holds, Amount(20));
    world.pass(1);
    assert_eq!(world.position(ISSUER).holds, Amount::ZERO);
    sound(&world);
}

#[test]
fn every_operation_on_something_overdue_sees_it_expired_when_the_block_had_no_room_for_it() {
    // The block has room for one due item, and an older one takes it.
    fn overdue(prepare: impl Fn(&mut World, MandateId) -> (ParticipantId, OpBody)) -> u16 {
        let mut world = World::new();
        world.params.max_due_per_block = 1;
        let mandate = world.active_mandate();
        let older = world.propose_mandate();
        let key = EntityKey::Mandate(older);
        let Entity::Mandate(mut it) = world.view.entities[&key].clone() else { panic!("a mandate") };
        it.expires_at_ms = world.now_ms + 1;
        world.view.forge(Entity::Mandate(it));
        let (signer, body) = prepare(&mut world, mandate);
        world.now_ms += 300 * DAY_MS;
        let code = world.code(signer, body);
        sound(&world);
        code
    }
    let hold = |payment| OpBody::PaymentHold(PaymentHold { payment, assertion: risk(), disclosure: None });
    let decline = |payment| OpBody::PaymentDecline(PaymentDecline { payment, reason: 0 });
    let stop = |mandate| MandateStop { mandate, reason: 0 };
    let expired = Reject::PaymentExpired.code();
    assert_eq!(overdue(|world, mandate| (ISSUER, hold(world.requested(mandate, 10)))), expired);
    assert_eq!(overdue(|world, mandate| (ISSUER, decline(world.requested(mandate, 10)))), expired);
    assert_eq!(overdue(|world, mandate| (ACQUIRER, void(world.held(mandate, 10)))), expired);
    let take = |payment| OpBody::PaymentCapture(capture(payment, 10, true));
    assert_eq!(overdue(|world, mandate| (ACQUIRER, take(world.held(mandate, 10)))), expired);
    // A refund is as good as ever; the rest of its payment's hold is released.
    let part = |world: &mut World, mandate| {
        let payment = world.held(mandate, 10);
        world.captured(payment, 5, false);
        payment
    };
    assert_eq!(overdue(|world, mandate| (ACQUIRER, refund(part(world, mandate), 5))), 0);
    let accepted = |world: &mut World, mandate| {
        let payment = part(world, mandate);
        world.refund_requested(payment, 5)
    };
    assert_eq!(overdue(|world, mandate| (ISSUER, post(accepted(world, mandate)))), 0);
    let ended = Reject::MandateExpired.code();
    assert_eq!(overdue(|_, mandate| (ACQUIRER, OpBody::Pay(pay(mandate, 10)))), ended);
    assert_eq!(overdue(|world, mandate| (ACQUIRER, OpBody::PaymentRequest(request(world, mandate, 10)))), ended);
    let activated = |world: &mut World, mandate| OpBody::MandateActivate(activate(world, mandate));
    assert_eq!(overdue(|world, mandate| (ISSUER, activated(world, mandate))), ended);
    assert_eq!(overdue(|_, mandate| (ISSUER, OpBody::MandateSuspend(stop(mandate)))), ended);
    assert_eq!(overdue(|_, mandate| (ISSUER, OpBody::MandateResume(stop(mandate)))), ended);
    assert_eq!(overdue(|_, mandate| (ISSUER, OpBody::MandateRevoke(stop(mandate)))), ended);
}

#[test]
fn a_payment_on_an_overdue_mandate_is_refused_as_expired() {
    let mut world = World::new();
    world.params.max_due_per_block = 1;
    let first = world.active_mandate();
    let second = world.active_mandate();
    world.now_ms += 300 * DAY_MS;
    assert_eq!(world.code(ACQUIRER, OpBody::Pay(pay(second, 10))), Reject::MandateExpired.code());
    assert_eq!(world.code(ACQUIRER, OpBody::Pay(pay(first, 10))), Reject::MandateExpired.code());
    sound(&world);
}

#[test]
fn what_a_failing_chain_touched_is_as_before_but_for_what_time_did() {
    let mut world = World::new();
    world.params.max_due_per_block = 1;
    let mandate = world.active_mandate();
    let payments = [world.held(mandate, 10), world.held(mandate, 20)];
    world.now_ms += DAY_MS;
    let bodies = [OpBody::Pay(pay(mandate, 40)), OpBody::PaymentCapture(capture(payments[1], 20, true))];
    let mut ops = bodies.map(|body| Op { op_id: world.new_id(), linked: false, body });
    ops[0].linked = true;
    let receipts = world.run_ops(ACQUIRER, &ops);
    assert_eq!(receipts[0].result, OpResult::Refused(Reject::LinkedOpFailed));
    assert_eq!(receipts[1].result, OpResult::Refused(Reject::PaymentExpired));
    assert_eq!(world.payment(payments[1]).status, PaymentStatus::Expired);
    assert_eq!(world.line(mandate).guarantee_used, Amount::ZERO);
    assert_eq!(world.line(mandate).balance.debits_posted, 0);
    sound(&world);
    // The partner did not use its id up.
    ops[0].linked = false;
    assert!(matches!(world.run_ops(ACQUIRER, &ops[..1])[0].result, OpResult::Done(_)));
}

#[test]
fn the_same_operation_twice_in_a_batch_a_block_and_a_day_is_one_payment() {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let op = Op { op_id: world.new_id(), linked: false, body: OpBody::Pay(pay(mandate, 100)) };
    let batch = world.batch(ACQUIRER, &[op.clone(), op.clone()]);
    let effects = world.block(&[batch.clone(), batch]);
    let mut receipts: Vec<_> = effects.batches.into_iter().flat_map(|it| it.receipts).collect();
    world.pass(HOUR_MS);
    receipts.extend(world.run_ops(ACQUIRER, std::slice::from_ref(&op)));
    world.pass(DAY_MS - HOUR_MS);
    receipts.extend(world.run_ops(ACQUIRER, std::slice::from_ref(&op)));
    assert!(receipts.windows(2).all(|pair| pair[0] == pair[1]), "{receipts:?}");
    assert_eq!(world.line(mandate).balance.debits_posted, 100);
    world.pass(1);
    assert_eq!(world.run_ops(ACQUIRER, &[op])[0].result, OpResult::Refused(Reject::IdTooOld));
    sound(&world);
}

#[test]
fn one_participant_cannot_use_up_the_id_of_another() {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let op = Op { op_id: world.new_id(), linked: false, body: OpBody::Pay(pay(mandate, 100)) };
    let theft = world.run_ops(ACQUIRER_2, std::slice::from_ref(&op));
    assert_eq!(theft[0].result, OpResult::Refused(Reject::NotTheParty));
    assert!(matches!(world.run_ops(ACQUIRER, &[op])[0].result, OpResult::Done(_)));
}

#[test]
fn partial_captures_and_refunds_never_drift_by_a_fen() {
    let amounts = [1, 37, 74, 149, 150, 333, 9_999, 12_345];
    for (amount, remainder_leg) in amounts.into_iter().flat_map(|amount| [(amount, 0), (amount, 3)]) {
        // The remainder leg can shrink from one capture to the next: then money runs back to the acquirer.
        let mut genesis = genesis();
        genesis.schedules[0].remainder_leg = remainder_leg;
        let mut world = World::with(&genesis);
        let mandate = world.active_mandate();
        let whole = world.paid(mandate, amount);
        let payment = world.held(mandate, amount);
        let mut left = amount;
        let mut next = 1;
        while left > 0 && world.payment(payment).captures.len() < MAX_CAPTURES - 1 {
            let part = next.min(left);
            world.captured(payment, part, false);
            left -= part;
            next = next * 3 / 2 + 1;
        }
        if left > 0 {
            world.captured(payment, left, true);
        }
        let fees = &world.payment(payment).fees;
        assert_eq!(fees, &world.payment(whole).fees, "{amount} in parts");
        for (who, leg) in [(PROVIDER, 2), (CHANNEL, 3), (TECHNICAL, 4)] {
            let position = world.position(who);
            let received = position.unsettled_credits - position.unsettled_debits;
            assert_eq!(received, 2 * fees[leg].posted.wide(), "{amount}: what participant {who} received");
        }
        for part in [amount / 3, amount / 5, amount - amount / 3 - amount / 5] {
            if part > 0 {
                world.refunded(payment, part);
            }
        }
        world.refunded(whole, amount);
        for id in [whole, payment] {
            assert!(world.payment(id).fees.iter().all(|leg| leg.posted == leg.returned), "{amount} given back");
        }
        // Everything was taken back: nobody owes anybody anything.
        for who in [ACQUIRER, ISSUER, PROVIDER, CHANNEL, TECHNICAL] {
            let position = world.position(who);
            assert_eq!(position.unsettled_debits, position.unsettled_credits, "{amount}: participant {who}");
        }
        sound(&world);
    }
}

#[test]
fn refunds_and_repayments_make_room_on_the_line_again() {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let first = world.held(mandate, 60_000);
    world.captured(first, 60_000, true);
    world.held(mandate, 40_000);
    let hold = |world: &mut World, amount| {
        let payment = world.requested(mandate, amount);
        world.code(ISSUER, OpBody::PaymentHold(PaymentHold { payment, assertion: risk(), disclosure: None }))
    };
    assert_eq!(hold(&mut world, 1), Reject::AboveCeiling.code());
    world.refunded(first, 10_000);
    assert_eq!(hold(&mut world, 10_001), Reject::AboveCeiling.code());
    assert_eq!(hold(&mut world, 10_000), 0);
    let repaid = Amount(5_000);
    let refresh = MandateRefresh { mandate, guarantee: None, assertion: None, disclosure: None, consent: None, repaid };
    world.done(ISSUER, OpBody::MandateRefresh(refresh));
    assert_eq!(hold(&mut world, 5_001), Reject::AboveCeiling.code());
    assert_eq!(hold(&mut world, 5_000), 0);
    sound(&world);
}

#[test]
fn the_nets_of_a_window_add_up_to_zero_and_a_closed_window_never_changes() {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let payment = world.paid(mandate, 20_000);
    world.pass(DAY_MS);
    let key = EntityKey::Window(WindowId(1));
    let closed = world.view.entities[&key].clone();
    let Entity::Window(window) = &closed else { panic!("window 1 is a window") };
    let nets: Vec<_> = window.nets.iter().map(|it| (it.participant, it.net)).collect();
    // 0.6 % stays with the acquirer, out of what it keeps from the merchant; it passes 0.75 % on.
    let expected = [(ACQUIRER, 19_850), (ISSUER, -19_900), (PROVIDER, 20), (CHANNEL, 10), (TECHNICAL, 20)];
    assert_eq!(nets, expected);
    world.refunded(payment, 20_000);
    world.done(CLEARING, OpBody::WindowClose(WindowClose { window: WindowId(2) }));
    assert_eq!(world.view.entities[&key], closed);
    let Entity::Window(window) = &world.view.entities[&EntityKey::Window(WindowId(2))] else { panic!("closed too") };
    let nets: Vec<_> = window.nets.iter().map(|it| (it.participant, it.net)).collect();
    assert_eq!(nets, expected.map(|(who, net)| (who, -net)));
    sound(&world);
}

fn window_payments(world: &World, window: u64) -> Option<anji_contracts::entity::WindowPayments> {
    match world.view.entities.get(&EntityKey::WindowPayments(WindowId(window))) {
        Some(Entity::WindowPayments(it)) => Some(*it),
        _ => None,
    }
}

#[test]
fn the_payments_of_a_closed_window_get_one_root_in_the_next_block() {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let paid = world.paid(mandate, 100);
    let held = world.held(mandate, 900);
    world.captured(held, 300, false);
    world.captured(held, 100, false);
    world.requested(mandate, 100);
    world.done(CLEARING, OpBody::WindowClose(WindowClose { window: WindowId(1) }));
    assert_eq!(window_payments(&world, 1), None, "the closing block only closes");
    // A capture of the block that closes a window belongs to the one that is open at that moment.
    let op = |world: &mut World, body| Op { op_id: world.new_id(), linked: false, body };
    let close = op(&mut world, OpBody::WindowClose(WindowClose { window: WindowId(2) }));
    let before = op(&mut world, OpBody::PaymentCapture(capture(held, 50, false)));
    let after = op(&mut world, OpBody::PaymentCapture(capture(held, 50, false)));
    let batches = [world.batch(ACQUIRER, &[before]), world.batch(CLEARING, &[close]), world.batch(ACQUIRER, &[after])];
    let effects = world.block(&batches);
    let root = |ids: &[PaymentId]| {
        let leaves: Vec<_> = ids.iter().map(anji_contracts::window_tree::payment_leaf).collect();
        anji_contracts::codec::merkle_root(&leaves)
    };
    let first = window_payments(&world, 1).expect("the block after it");
    assert_eq!((first.n_payments, first.root), (2, root(&[paid, held])));
    assert_eq!(effects.begin.last().map(|it| it.cause), Some(anji_contracts::entry::Cause::Time));
    world.pass(1);
    let second = window_payments(&world, 2).expect("the block after it");
    assert_eq!((second.n_payments, second.root), (1, root(&[held])));
    // An empty window has a root, too, and several may be done in one block.
    for window in 3..6 {
        let body = OpBody::WindowClose(WindowClose { window: WindowId(window) });
        let op = op(&mut world, body);
        let batch = world.batch(CLEARING, &[op]);
        world.view.window_tree.window = WindowId(100);
        world.block(&[batch]);
    }
    world.view.window_tree.window = WindowId(3);
    let effects = world.pass(1);
    assert_eq!(effects.begin.len(), 3);
    assert_eq!(window_payments(&world, 3).map(|it| it.root), Some(root(&[held])));
    assert_eq!(window_payments(&world, 5).map(|it| (it.n_payments, it.root)), Some((0, root(&[]))));
    assert_eq!(world.pass(1).window_tree, None, "nothing is left to do");
    sound(&world);
}

#[test]
fn a_large_window_takes_several_blocks_and_gives_the_same_root() {
    use anji_contracts::window_tree::{MAX_INDEXED_PER_BLOCK, payment_leaf};
    for n_payments in [MAX_INDEXED_PER_BLOCK - 1, MAX_INDEXED_PER_BLOCK, MAX_INDEXED_PER_BLOCK + 1, 120_001] {
        let mut world = World::new();
        let id =
            |n: usize| PaymentId(ScopedId { participant: ParticipantId(1 + (n % 3) as u32), op_id: OpId(n as u128) });
        world.view.captured = (0..n_payments).map(|n| (WindowId(1), id(n))).collect();
        world.done(CLEARING, OpBody::WindowClose(WindowClose { window: WindowId(1) }));
        let mut n_blocks = 0;
        while window_payments(&world, 1).is_none() {
            world.pass(1);
            n_blocks += 1;
        }
        assert_eq!(n_blocks, n_payments / MAX_INDEXED_PER_BLOCK + 1, "{n_payments}");
        let leaves: Vec<_> = world.view.captured.iter().map(|(_, id)| payment_leaf(id)).collect();
        let found = window_payments(&world, 1).expect("it is done");
        assert_eq!((found.n_payments, found.root), (n_payments as u64, anji_contracts::codec::merkle_root(&leaves)));
    }
}

#[test]
fn however_long_the_chain_stood_still_one_window_closes_and_the_next_ends_at_midnight_in_beijing() {
    let mut world = World::new();
    let effects = world.pass(10 * DAY_MS);
    let keys: Vec<_> = effects.begin.iter().map(|write| write.key).collect();
    assert_eq!(keys, [EntityKey::Window(WindowId(1)), EntityKey::Window(WindowId(2))]);
    let Entity::Window(next) = &effects.begin[1].state else { panic!("a window") };
    assert!(next.closes_at_ms > world.now_ms && next.closes_at_ms <= world.now_ms + DAY_MS);
    assert_eq!((next.closes_at_ms + 8 * HOUR_MS) % DAY_MS, 0);
}

#[test]
fn money_held_survives_suspension_and_revocation() {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let payment = world.held(mandate, 100);
    world.done(ISSUER, OpBody::MandateRevoke(MandateStop { mandate, reason: 0 }));
    world.captured(payment, 60, false);
    world.done(ACQUIRER, void(payment));
    world.refunded(payment, 10);
    sound(&world);
}

#[test]
fn a_refund_of_a_payment_in_parts_is_bounded_by_what_was_captured_not_by_what_was_held() {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let payment = world.held(mandate, 100);
    world.captured(payment, 40, false);
    assert_eq!(world.code(ACQUIRER, refund(payment, 41)), Reject::RefundAboveHeadroom.code());
    let first = world.refund_requested(payment, 40);
    world.captured(payment, 60, false);
    world.refunded(payment, 60);
    world.done(ISSUER, post(first));
    sound(&world);
}

#[test]
fn a_batch_whose_key_was_revoked_after_admission_uses_no_id_up() {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let ops = [0, 1].map(|_| Op { op_id: world.new_id(), linked: false, body: OpBody::Pay(pay(mandate, 10)) });
    let batch = world.batch(ACQUIRER, &ops);
    let key = EntityKey::Participant(ACQUIRER);
    let Entity::Participant(good) = world.view.entities[&key].clone() else { panic!("a participant") };
    let mut revoked = good.clone();
    revoked.keys[0].revoked_at_ms = Some(world.now_ms);
    world.view.forge(Entity::Participant(revoked));
    let effects = world.block(std::slice::from_ref(&batch));
    let refused = OpResult::Refused(Reject::KeyNotValid);
    assert!(effects.batches[0].receipts.iter().all(|receipt| receipt.result == refused));
    assert!(effects.batches[0].op_records.is_empty() && effects.batches[0].writes.is_empty());
    world.view.forge(Entity::Participant(good));
    let effects = world.block(&[batch]);
    assert!(effects.batches[0].receipts.iter().all(|receipt| matches!(receipt.result, OpResult::Done(_))));
}

#[test]
fn hot_entities_are_written_once_a_block_and_only_if_they_changed() {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let ops = [0, 1, 2].map(|_| Op { op_id: world.new_id(), linked: false, body: OpBody::Pay(pay(mandate, 10)) });
    let batch = world.batch(ACQUIRER, &ops);
    let effects = world.block(std::slice::from_ref(&batch));
    let keys: Vec<_> = effects.hot.iter().map(|write| write.key).collect();
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(keys, sorted, "each once, by key");
    assert!(effects.hot.iter().all(|write| write.key.is_hot() && write.cause == Cause::Block));
    let effects = world.block(&[batch]);
    assert!(effects.hot.is_empty(), "repeated operations change nothing");
}

#[test]
fn a_state_whose_sums_differ_stops_the_node_with_a_message() {
    let mut world = World::new();
    let Entity::Control(mut control) = world.view.entities[&EntityKey::Control].clone() else { panic!("control") };
    control.totals.debits_posted += 1;
    world.view.forge(Entity::Control(control));
    let effects = BlockExecutor::begin(&world.view, world.context()).unwrap().finish().unwrap();
    assert!(matches!(effects.broken, Some(Broken::Totals(_))));
    assert!(effects.broken.unwrap().to_string().contains("debits and credits"));
}

#[test]
fn a_window_whose_obligations_differ_stops_the_node_instead_of_netting() {
    let mut world = World::new();
    let mandate = world.active_mandate();
    world.paid(mandate, 10_000);
    let key = EntityKey::Obligation(ISSUER, WindowId(1));
    let Entity::Obligation(mut forged) = world.view.entities[&key].clone() else { panic!("an obligation") };
    forged.balance.debits_posted += 1;
    world.view.forge(Entity::Obligation(forged));
    let body = OpBody::WindowClose(WindowClose { window: WindowId(1) });
    assert_eq!(world.code(CLEARING, body), Reject::UnbalancedPosting.code());
    world.now_ms += DAY_MS;
    let effects = BlockExecutor::begin(&world.view, world.context()).unwrap().finish().unwrap();
    assert_eq!(effects.broken, Some(Broken::CutOff(Reject::UnbalancedPosting)));
    assert!(effects.begin.is_empty(), "nothing of the failed cut-off is left");
    assert_eq!(world.view.scan().len(), 3, "the scan names the window, the position and the totals");
}

#[test]
fn a_due_item_that_cannot_be_applied_stops_the_node_and_never_panics() {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let payment = world.held(mandate, 100);
    let mut line = world.line(mandate);
    line.balance.debits_pending = 0;
    world.view.forge(Entity::Line(line));
    world.now_ms += DAY_MS;
    let effects = BlockExecutor::begin(&world.view, world.context()).unwrap().finish().unwrap();
    assert_eq!(effects.broken, Some(Broken::DueItem(EntityKey::Payment(payment), Reject::NegativeBalance)));
}

#[test]
fn a_view_without_anything_is_broken_not_a_panic() {
    let view = MemoryView::default();
    let effects = BlockExecutor::begin(&view, World::new().context()).unwrap().finish().unwrap();
    assert_eq!(effects.broken, Some(Broken::CutOff(Reject::StateMissing)));
}

#[test]
fn genesis_names_the_field_that_is_wrong() {
    fn refused(change: impl FnOnce(&mut anji_contracts::Genesis)) -> String {
        let mut genesis = genesis();
        change(&mut genesis);
        anji_contracts::genesis_writes(&genesis).unwrap_err()
    }
    let cases = [
        (refused(|it| it.format = 2), "format"),
        (refused(|it| it.name.clear()), "name"),
        (refused(|it| it.time_ms = 1 << 48), "time_ms"),
        (refused(|it| it.params.rules = 2), "params.rules"),
        (refused(|it| it.params.window_length_ms = 0), "params.window_length_ms"),
        (refused(|it| it.params.max_due_per_block = 0), "params.max_due_per_block"),
        (refused(|it| it.params.governance_threshold = 10), "params.governance_threshold"),
        (refused(|it| it.participants.clear()), "params.governance_threshold"),
        (refused(|it| it.participants[2].id = ParticipantId(9)), "participants[3].id"),
        (refused(|it| it.participants[0].legal_name = "x".repeat(129)), "participants[1].legal_name"),
        (refused(|it| it.participants[0].keys.clear()), "participants[1].keys"),
        (refused(|it| it.participants[0].keys[0].public_key = vec![0; 32]), "participants[1].keys[1].public_key"),
        (refused(|it| it.participants[1].keys = it.participants[0].keys.clone()), "participants[2].keys[1].public_key"),
        (refused(|it| it.participants[0].licence.scenes = SceneSet::ALL), "participants[1].licence.scenes"),
        (refused(|it| it.participants.retain(|it| it.role != Role::Regulator)), "participants[7].id"),
        (refused(|it| it.participants[3].role = Role::Regulator), "participants: none is Clearing"),
        (refused(|it| it.validators.clear()), "validators"),
        (refused(|it| it.validators[0].power = 0), "validators[1].power"),
        (refused(|it| it.validators[0].participant = ParticipantId(99)), "validators[1].participant"),
        (refused(|it| it.schedules.clear()), "schedules"),
        (refused(|it| it.schedules[0].effective_at_ms = u64::MAX), "schedules: none is in force"),
        (refused(|it| it.schedules[0].remainder_leg = 7), "schedules[1].legs"),
        (refused(|it| it.schedules[0].legs[3].payee = ParticipantId(99)), "schedules[1].legs"),
        (refused(|it| it.positions[0].participant = ParticipantId(99)), "positions"),
        (refused(|it| it.positions[1].participant = ACQUIRER), "positions"),
    ];
    for (message, field) in cases {
        assert!(message.starts_with(field), "{message:?} does not name {field}");
    }
}
