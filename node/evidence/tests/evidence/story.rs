//! A few payments, refusals and a closed window; then everything that can be asked about them.

use crate::chain::Chain;
use crate::contracts::{ACQUIRER, CLEARING, ISSUER, activate, capture, pay, propose, request};
use anji_contracts::entity::PaymentStatus;
use anji_contracts::ops::{MandateStop, Op, OpBody, PaymentHold, WindowClose};
use anji_contracts::types::{MandateId, OpId, ParticipantId, PaymentId, ScopedId, WindowId};
use anji_contracts::{Entity, EntityKey, OpResult, Reject};
use anji_evidence::{Ask, EvidenceError};
use anji_verify::bundle::{Proven, Statement, Trust, verify};

struct Story {
    chain: Chain,
    mandate: MandateId,
    /// In one batch with what was refused.
    paid: Vec<PaymentId>,
    refused: ScopedId,
    /// Requested, held and captured in two parts.
    held: PaymentId,
    /// Height after which the first part was captured.
    part_height: u64,
    suspended: ScopedId,
}

fn story() -> Story {
    let mut chain = Chain::new();
    let body = OpBody::MandatePropose(propose(&chain.world));
    let mandate = MandateId(chain.done(ACQUIRER, body));
    let body = OpBody::MandateActivate(activate(&chain.world, mandate));
    chain.done(ISSUER, body);
    let mut ops: Vec<Op> = (1..6).map(|amount| chain.op(OpBody::Pay(pay(mandate, amount * 100)))).collect();
    let too_much = chain.op(OpBody::Pay(pay(mandate, u64::MAX / 2)));
    let id = |op: &Op| ScopedId { participant: ACQUIRER, op_id: op.op_id };
    let paid = ops.iter().map(|op| PaymentId(id(op))).collect();
    let refused = id(&too_much);
    ops.insert(2, too_much);
    chain.block(vec![chain.batch(ACQUIRER, &ops)]);
    let body = OpBody::PaymentRequest(request(&chain.world, mandate, 1000));
    let held = PaymentId(chain.done(ACQUIRER, body));
    let body = PaymentHold { payment: held, assertion: crate::contracts::risk(), disclosure: None };
    chain.done(ISSUER, OpBody::PaymentHold(body));
    chain.done(ACQUIRER, OpBody::PaymentCapture(capture(held, 400, false)));
    let part_height = chain.height();
    chain.done(CLEARING, OpBody::WindowClose(WindowClose { window: WindowId(1) }));
    chain.done(ACQUIRER, OpBody::PaymentCapture(capture(held, 600, true)));
    let suspended = chain.done(ISSUER, OpBody::MandateSuspend(MandateStop { mandate, reason: 3 }));
    for _ in 0..4 {
        chain.block(Vec::new());
    }
    Story { chain, mandate, paid, refused, held, part_height, suspended }
}

fn proven(chain: &Chain, asks: &[Ask]) -> Proven {
    let made = chain.evidence().bundle(asks).unwrap_or_else(|error| panic!("{asks:?}: {error}"));
    let bytes = made.bundle.encode();
    let proven = verify(&bytes, &chain.trust).unwrap_or_else(|error| panic!("{asks:?}: {error}"));
    assert_eq!(proven.height, made.height);
    assert_eq!(proven.statements.len(), asks.len());
    assert!(proven.words(&chain.trust).len() > asks.len());
    proven
}

fn state(chain: &Chain, key: EntityKey, height: Option<u64>) -> Entity {
    match proven(chain, &[Ask::State(key, height)]).statements.remove(0) {
        Statement::State { entry, at, .. } => {
            assert_eq!((entry.key, at.map(|at| at.height)), (key, height));
            entry.state
        }
        other => panic!("{other:?}"),
    }
}

fn operation(chain: &Chain, id: ScopedId) -> (OpResult, Option<EntityKey>) {
    match proven(chain, &[Ask::Operation(id)]).statements.remove(0) {
        Statement::Operation { signer, op, receipt, made, .. } => {
            assert_eq!((signer.id, op.op_id), (id.participant, id.op_id));
            (receipt.result, made.map(|(_, entry)| entry.key))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn operations_and_refusals_are_proven() {
    let Story { chain, mandate, paid, refused, held, suspended, .. } = story();
    for payment in &paid {
        let key = EntityKey::Payment(*payment);
        assert_eq!(operation(&chain, payment.0), (OpResult::Done(key), Some(key)));
    }
    assert_eq!(operation(&chain, refused), (OpResult::Refused(Reject::GuaranteeExceeded), None));
    let key = EntityKey::Payment(held);
    assert_eq!(operation(&chain, held.0), (OpResult::Done(key), Some(key)));
    let key = EntityKey::Mandate(mandate);
    assert_eq!(operation(&chain, suspended), (OpResult::Done(key), Some(key)));
}

#[test]
fn states_are_proven_now_and_then() {
    let Story { chain, mandate, paid, held, part_height, .. } = story();
    let Entity::Payment(now) = state(&chain, EntityKey::Payment(held), None) else { panic!() };
    let Entity::Payment(then) = state(&chain, EntityKey::Payment(held), Some(part_height)) else { panic!() };
    assert_eq!((now.status, now.captured.0), (PaymentStatus::Captured, 1000));
    assert_eq!((then.status, then.captured.0), (PaymentStatus::PartCaptured, 400));
    // What never changed again is then what it is now.
    let key = EntityKey::Payment(paid[0]);
    assert_eq!(state(&chain, key, Some(part_height)), state(&chain, key, None));
    // Balances: of the line, of the issuer, in the window; now and after every height since there was one.
    for height in 3..=part_height {
        let Entity::Line(line) = state(&chain, EntityKey::Line(mandate), Some(height)) else { panic!() };
        let captured = if height == part_height { 1900 } else { 1500 };
        assert_eq!(line.balance.debits_posted, captured, "height {height}");
    }
    let Entity::Position(position) = state(&chain, EntityKey::Position(ISSUER), None) else { panic!() };
    assert!(position.unsettled_debits >= 2500 && position.holds.0 == 0);
    let Entity::Position(before) = state(&chain, EntityKey::Position(ISSUER), Some(0)) else { panic!() };
    assert_eq!(before.unsettled_debits, 0);
    let Entity::Obligation(owed) = state(&chain, EntityKey::Obligation(ISSUER, WindowId(1)), None) else { panic!() };
    assert_eq!(owed.balance.debits_posted, 1900);
    // Nets of the window that closed.
    let Entity::Window(window) = state(&chain, EntityKey::Window(WindowId(1)), None) else { panic!() };
    assert!(window.closed_at_ms > 0 && window.nets.iter().any(|net| net.net < 0));
    let Entity::Window(open) = state(&chain, EntityKey::Window(WindowId(1)), Some(1)) else { panic!() };
    assert_eq!((open.closed_at_ms, open.nets.len()), (0, 0));
    state(&chain, EntityKey::Control, None);
    state(&chain, EntityKey::Participant(ACQUIRER), Some(0));
}

#[test]
fn absence_is_proven_of_what_was_not_captured_in_the_window() {
    let Story { chain, paid, held, refused, .. } = story();
    let absent = |payment, window| {
        let statement = proven(&chain, &[Ask::Absence(payment, WindowId(window))]).statements.remove(0);
        assert!(matches!(statement, Statement::Absence { n_payments: 6, .. }), "{statement:?}");
    };
    absent(PaymentId(refused), 1);
    absent(PaymentId(ScopedId { participant: ParticipantId(0), op_id: OpId(0) }), 1);
    absent(PaymentId(ScopedId { participant: ParticipantId(9), op_id: OpId(u128::MAX) }), 1);
    for payment in paid.iter().chain([&held]) {
        let refused = chain.evidence().bundle(&[Ask::Absence(*payment, WindowId(1))]);
        assert!(matches!(refused, Err(EvidenceError::Captured)), "{refused:?}");
    }
    let open = chain.evidence().bundle(&[Ask::Absence(paid[0], WindowId(2))]);
    assert!(matches!(open, Err(EvidenceError::WindowOpen)), "{open:?}");
    let none = chain.evidence().bundle(&[Ask::Absence(paid[0], WindowId(3))]);
    assert!(matches!(none, Err(EvidenceError::NotFound { .. })), "{none:?}");
}

#[test]
fn any_flipped_byte_of_a_real_bundle_fails() {
    let Story { chain, paid, refused, held, part_height, .. } = story();
    let asks = [
        vec![Ask::Operation(paid[3].0), Ask::State(EntityKey::Payment(paid[3]), None)],
        vec![Ask::Operation(refused)],
        vec![Ask::State(EntityKey::Payment(held), Some(part_height))],
        vec![Ask::State(EntityKey::Position(ISSUER), None)],
        vec![Ask::State(EntityKey::Window(WindowId(1)), None), Ask::Absence(PaymentId(refused), WindowId(1))],
    ];
    for asks in asks {
        let good = chain.evidence().bundle(&asks).unwrap().bundle.encode();
        assert!(verify(&good, &chain.trust).is_ok());
        for place in 0..good.len() {
            let mut bytes = good.clone();
            bytes[place] ^= 1 << (place % 8);
            assert!(verify(&bytes, &chain.trust).is_err(), "{asks:?}: byte {place}");
        }
        for end in (0..good.len()).step_by(97) {
            assert!(verify(&good[..end], &chain.trust).is_err());
        }
        let stranger = Trust {
            chain_id: anji_contracts::types::ChainId(anji_contracts::types::Hash32::ZERO),
            ..chain.trust.clone()
        };
        assert!(verify(&good, &stranger).is_err());
    }
}

#[test]
fn what_is_not_final_is_not_proven_yet() {
    let mut chain = Chain::new();
    let nothing = chain.evidence().bundle(&[Ask::State(EntityKey::Control, None)]);
    assert!(matches!(nothing, Err(EvidenceError::NotYet(_))), "{nothing:?}");
    let body = OpBody::MandatePropose(propose(&chain.world));
    let mandate = chain.done(ACQUIRER, body);
    let asks = [Ask::Operation(mandate)];
    // Decided and cosigned, but no header carries the root.
    assert!(matches!(chain.evidence().bundle(&asks), Err(EvidenceError::NotYet(_))));
    chain.block_with(Vec::new(), false);
    chain.block_with(Vec::new(), false);
    assert_eq!(chain.evidence().bundle(&asks).unwrap().height, 1);
    // The newest final one counts, however far the chain has gone on.
    for _ in 0..5 {
        chain.block_with(Vec::new(), false);
    }
    assert_eq!(chain.evidence().bundle(&asks).unwrap().height, 1);
    let later = [Ask::State(EntityKey::Control, Some(2))];
    assert!(matches!(chain.evidence().bundle(&later), Err(EvidenceError::NotYet(_))));
    chain.cosign(5);
    assert_eq!(chain.evidence().bundle(&later).unwrap().height, 5);
    chain.cosign(8);
    assert_eq!(chain.evidence().bundle(&later).unwrap().height, 5, "no header carries the root of 8 yet");
    let unknown = [Ask::Operation(ScopedId { participant: ACQUIRER, op_id: OpId(1) })];
    assert!(matches!(chain.evidence().bundle(&unknown), Err(EvidenceError::NotFound { .. })));
    let early = [Ask::State(EntityKey::Mandate(MandateId(mandate)), Some(0))];
    assert!(matches!(chain.evidence().bundle(&early), Err(EvidenceError::NotThen { height: 0, .. })));
}
