//! Every kind of claim, as it should be and with one thing wrong.

use crate::contracts::{self as rules, ACQUIRER, ISSUER, disclosure, order, pay, risk, signing_key};
use crate::world::{Batch, Ledger, Voters};
use anji_contracts::entity::{Balance, Line, Net, Payment, PaymentStatus, Position, Window, WindowStatus};
use anji_contracts::entry::{Cause, OpResult};
use anji_contracts::ops::{Op, OpBody};
use anji_contracts::types::{
    Amount, Currency, Hash32, KeyId, MandateId, OpId, ParticipantId, PaymentId, Scene, ScheduleVersion, ScopedId,
    WindowId,
};
use anji_contracts::window_tree::{WindowTree, payment_leaf};
use anji_contracts::{Entity, EntityKey, Reject};
use anji_verify::bundle::{
    AbsenceClaim, Bundle, Claim, ClaimPart, Fault, List, Part, Proven, Standing, Statement, verify,
};
use anji_verify::merkle_proof::merkle_path;
use anji_verify::proof_error::ProofError;
use anji_verify::window_proof::{WindowAbsence, WindowMember};

pub(crate) fn id(tail: u128) -> ScopedId {
    ScopedId { participant: ACQUIRER, op_id: OpId::new(rules::START_MS, tail) }
}

pub(crate) fn payment(tail: u128, captured: u64) -> Payment {
    Payment {
        id: PaymentId(id(tail)),
        status: PaymentStatus::Captured,
        mandate: MandateId(id(1)),
        issuer: ISSUER,
        amount: Amount(captured),
        currency: Currency::CNY,
        scene: Scene::Online,
        order: order(),
        schedule_version: ScheduleVersion(1),
        instalments: 1,
        requested_at_ms: rules::START_MS,
        answer_by_ms: 0,
        capture_by_ms: 0,
        captured_at_ms: rules::START_MS,
        held: Amount(captured),
        captured: Amount(captured),
        released: Amount(0),
        refund_reserved: Amount(0),
        refunded: Amount(0),
        charged_back: Amount(0),
        n_refunds: 0,
        captures: vec![anji_contracts::entity::CaptureLeg { window: WindowId(1), amount: Amount(captured) }],
        fees: Vec::new(),
        acquirer_assertion: risk(),
        issuer_assertion: Some(risk()),
        disclosure: Some(disclosure()),
        reason: 0,
    }
}

fn position(cap: u64) -> Entity {
    Entity::Position(Position { participant: ISSUER, cap: Amount(cap), holds: Amount(7), ..Position::default() })
}

fn window(nets: &[(u32, i128)]) -> Entity {
    let nets = nets.iter().map(|(who, net)| Net { participant: ParticipantId(*who), net: *net }).collect();
    Entity::Window(Window {
        id: WindowId(1),
        status: WindowStatus::Closed,
        opened_at_ms: rules::START_MS,
        closes_at_ms: rules::START_MS + 5000,
        closed_at_ms: rules::START_MS + 5000,
        nets,
        instruction_hash: Hash32::ZERO,
    })
}

/// A ledger with one of everything, and the claims about it.
pub(crate) struct Sample {
    pub(crate) ledger: Ledger,
    pub(crate) batch: Batch,
    pub(crate) paid: u64,
    /// Indexes of the position's versions after heights 1, 2 and 3.
    pub(crate) caps: [u64; 3],
    pub(crate) window: u64,
    pub(crate) payments: u64,
}

/// The payments of the window: even tails.
const MEMBERS: [u128; 5] = [20, 22, 24, 26, 28];

fn member(index: usize) -> WindowMember {
    let payments: Vec<PaymentId> = MEMBERS.iter().map(|tail| PaymentId(id(*tail))).collect();
    let leaves: Vec<Hash32> = payments.iter().map(payment_leaf).collect();
    WindowMember { payment: payments[index], index: index as u64, path: merkle_path(&leaves, index as u64).unwrap() }
}

pub(crate) fn absence(ledger: &Ledger, payments: u64, tail: u128) -> AbsenceClaim {
    let place = MEMBERS.partition_point(|it| *it < tail);
    let neighbours = WindowAbsence {
        before: place.checked_sub(1).map(member),
        after: (place < MEMBERS.len()).then(|| member(place)),
    };
    AbsenceClaim { payment: PaymentId(id(tail)), payments: ledger.entry(payments), neighbours }
}

impl Sample {
    pub(crate) fn new() -> Self {
        let mut ledger = Ledger::new();
        let mut caps = [0; 3];
        let op = |tail| Op { op_id: id(tail).op_id, linked: false, body: OpBody::Pay(pay(MandateId(id(1)), 100)) };
        let paid = ledger.put(Entity::Payment(payment(20, 100)), Cause::Op(id(20)));
        let batch = ledger.batch(
            ACQUIRER,
            &[
                (op(20), OpResult::Done(EntityKey::Payment(PaymentId(id(20))))),
                (op(21), OpResult::Refused(Reject::AboveCap)),
                (op(22), OpResult::Refused(Reject::KeyNotValid)),
            ],
        );
        caps[0] = ledger.put(position(1), Cause::Block);
        ledger.block();
        caps[1] = ledger.put(position(2), Cause::Block);
        ledger.block();
        // A few thousand entries, so that the active tree has some depth.
        for number in 0..5000 {
            let line = Line { mandate: MandateId(id(number)), balance: Balance::default(), ..Line::default() };
            ledger.put(Entity::Line(line), Cause::Block);
        }
        let window = ledger.put(window(&[(1, 40), (2, -40)]), Cause::Time);
        caps[2] = ledger.put(position(3), Cause::Block);
        let mut tree = WindowTree::start(WindowId(1));
        MEMBERS.iter().for_each(|tail| tree.push(PaymentId(id(*tail))));
        let payments = ledger.put(Entity::WindowPayments(tree.finish()), Cause::Time);
        ledger.block();
        Self { ledger, batch, paid, caps, window, payments }
    }

    /// The same with a lone validator: quick to verify, for tests that do little else.
    pub(crate) fn quick() -> Self {
        let mut sample = Self::new();
        sample.ledger.voters = Voters::new(&[4]);
        sample.ledger.trust.validators = sample.ledger.voters.set();
        sample
    }

    /// A bundle for each kind of claim.
    pub(crate) fn bundles(&self) -> Vec<(&'static str, Bundle)> {
        let Self { ledger, batch, paid, caps, window, payments } = self;
        let one = |claim: Claim| ledger.bundle(vec![claim]);
        vec![
            ("payment", one(Claim::Operation(ledger.operation(batch, 0, Some(*paid))))),
            ("refusal", one(Claim::Operation(ledger.operation(batch, 1, None)))),
            ("current", one(Claim::State(ledger.current(*paid)))),
            ("balance now", one(Claim::State(ledger.current(caps[2])))),
            ("balance then", one(Claim::State(ledger.at_height(caps[0], 1, Some(caps[1]))))),
            ("payment then", one(Claim::State(ledger.at_height(*paid, 2, None)))),
            ("nets", one(Claim::State(ledger.current(*window)))),
            ("absence", one(Claim::Absence(absence(ledger, *payments, 23)))),
            ("absence at an end", one(Claim::Absence(absence(ledger, *payments, 29)))),
            (
                "several",
                ledger.bundle(vec![
                    Claim::Operation(ledger.operation(batch, 0, Some(*paid))),
                    Claim::State(ledger.current(*paid)),
                    Claim::State(ledger.at_height(caps[1], 2, Some(caps[2]))),
                ]),
            ),
        ]
    }
}

fn proven(ledger: &Ledger, claim: Claim) -> Proven {
    verify(&ledger.bundle(vec![claim]).encode(), &ledger.trust).unwrap()
}

#[track_caller]
fn wrong(ledger: &Ledger, claim: Claim, part: ClaimPart, fault: &Fault) {
    let error = verify(&ledger.bundle(vec![claim]).encode(), &ledger.trust).unwrap_err();
    assert_eq!((error.part, &error.fault), (Part::Claim(1, part), fault), "{error}");
}

#[test]
fn every_kind_holds_and_says_what_it_should() {
    let sample = Sample::new();
    for (name, bundle) in sample.bundles() {
        let bytes = bundle.encode();
        let proven = verify(&bytes, &sample.ledger.trust).unwrap_or_else(|error| panic!("{name}: {error}"));
        let words = proven.words(&sample.ledger.trust).join("\n");
        assert!(words.contains("after block 3") && words.contains("cosigned exactly this log"), "{words}");
        assert!(words.contains("3 of 4 validators"), "{words}");
        let expected = match name {
            "payment" | "several" => "wallet (participant 1, wallet Ltd) signed, with its key 1, the operation 1-",
            "refusal" => "refused it, in block 1 of 2027-01-15 08:00:01.000 UTC, with 4019 AboveCap",
            "current" | "payment then" => "Captured, 1.00 in currency 156, taken by wallet (participant 1)",
            "balance now" => "cap 0.03, liquidity 0.00, held 0.07",
            "balance then" => "after block 1 of 2027-01-15 08:00:01.000 UTC: exposure 0.07, cap 0.01",
            "absence" | "absence at an end" => "all 5 payments captured in it, and this one is not among them",
            _ => "wallet (participant 1) +0.40, credit (participant 2) -0.40",
        };
        assert!(words.contains(expected), "{name}: no {expected:?} in\n{words}");
    }
}

#[test]
fn statements_carry_the_facts() {
    let Sample { ledger, batch, paid, caps, .. } = Sample::new();
    let it = proven(&ledger, Claim::Operation(ledger.operation(&batch, 0, Some(paid))));
    assert_eq!((it.height, it.decided_at_height, it.n_validators, it.n_precommits), (3, 5, 4, 3));
    let Statement::Operation { signer, receipt, made: Some((index, entry)), .. } = &it.statements[0] else { panic!() };
    assert_eq!((signer.id, receipt.height, *index), (ACQUIRER, 1, paid));
    assert_eq!(entry.key, EntityKey::Payment(PaymentId(id(20))));
    let it = proven(&ledger, Claim::State(ledger.at_height(caps[1], 2, Some(caps[2]))));
    let Statement::State { at: Some(moment), replaced, .. } = &it.statements[0] else { panic!() };
    assert_eq!((moment.height, *replaced), (2, Some(caps[2])));
    // A refusal because of the key itself is provable although the key was not valid.
    proven(&ledger, Claim::Operation(ledger.operation(&batch, 2, None)));
}

#[test]
fn a_state_is_not_claimed_for_another_time_than_its_own() {
    let Sample { ledger, caps, paid, .. } = Sample::new();
    let state = |claim| Claim::State(claim);
    // Replaced, yet claimed as the latest: its bit is 0.
    wrong(&ledger, state(ledger.current(caps[1])), ClaimPart::Standing, &Fault::NotLatest { index: caps[1] });
    // From after the height asked for.
    wrong(&ledger, state(ledger.at_height(caps[1], 1, Some(caps[2]))), ClaimPart::Standing, &Fault::NotThen);
    // Replaced before the height asked for.
    wrong(&ledger, state(ledger.at_height(caps[0], 2, Some(caps[1]))), ClaimPart::Standing, &Fault::NotThen);
    // The successor is not the next version, or that of another entity.
    let mismatch = Fault::Mismatch("the version before it");
    wrong(&ledger, state(ledger.at_height(caps[0], 1, Some(caps[2]))), ClaimPart::Standing, &mismatch);
    wrong(&ledger, state(ledger.at_height(paid, 1, Some(caps[2]))), ClaimPart::Standing, &mismatch);
    // "At a height" with an entry that is no block's.
    let mut claim = ledger.at_height(caps[0], 1, Some(caps[1]));
    claim.at = Some(ledger.entry(paid));
    wrong(&ledger, state(claim), ClaimPart::At, &Fault::WrongKind);
    // No state at all.
    wrong(&ledger, state(ledger.current(ledger.blocks[1])), ClaimPart::Entry, &Fault::WrongKind);
    // Another entry's place.
    let mut claim = ledger.current(paid);
    claim.entry.index += 1;
    wrong(&ledger, state(claim), ClaimPart::Entry, &Fault::NotInLog { index: paid + 1 });
}

#[test]
fn nets_must_add_up() {
    let mut ledger = Ledger::new();
    let index = ledger.put(window(&[(1, 40), (2, -39)]), Cause::Time);
    ledger.block();
    wrong(&ledger, Claim::State(ledger.current(index)), ClaimPart::Entry, &Fault::Unbalanced);
}

#[test]
fn what_is_in_the_window_is_not_absent() {
    let Sample { ledger, payments, paid, .. } = Sample::new();
    let not_between = Fault::Proof(ProofError::NotNeighbours);
    for tail in [20, 24, 28] {
        wrong(&ledger, Claim::Absence(absence(&ledger, payments, tail)), ClaimPart::Whole, &not_between);
    }
    // Neighbours with one left out between them.
    let mut claim = absence(&ledger, payments, 23);
    claim.neighbours.after = Some(member(3));
    wrong(&ledger, Claim::Absence(claim), ClaimPart::Whole, &not_between);
    let mut claim = absence(&ledger, payments, 23);
    claim.payments = ledger.entry(paid);
    wrong(&ledger, Claim::Absence(claim), ClaimPart::Payments, &Fault::WrongKind);
}

#[test]
fn an_operation_is_its_signers_and_its_receipt_is_its_own() {
    let Sample { mut ledger, batch, paid, caps, .. } = Sample::new();
    let good = ledger.operation(&batch, 0, Some(paid));
    let operation = |claim| Claim::Operation(claim);
    let other = ledger.operation(&batch, 1, None);
    // The receipt of its neighbour, at either place.
    let mut claim = good.clone();
    (claim.receipt, claim.receipt_path) = (other.receipt.clone(), other.receipt_path.clone());
    wrong(&ledger, operation(claim), ClaimPart::Receipt, &Fault::Proof(ProofError::WrongRoot));
    let mut claim = other.clone();
    (claim.op, claim.op_path) = (good.op.clone(), good.op_path.clone());
    wrong(&ledger, operation(claim), ClaimPart::Operation, &Fault::Proof(ProofError::WrongRoot));
    // An entry made by nobody or by another operation.
    let mut claim = good.clone();
    claim.made = Some(ledger.entry(caps[0]));
    wrong(&ledger, operation(claim), ClaimPart::Made, &Fault::Mismatch("what the receipt says was done"));
    let mut claim = other;
    claim.made = Some(ledger.entry(paid));
    wrong(&ledger, operation(claim), ClaimPart::Made, &Fault::Mismatch("what the receipt says was done"));
    // Another participant's entry as the signer's.
    let issuer = ledger.latest[&EntityKey::Participant(ISSUER)].0;
    let mut claim = good.clone();
    (claim.signer, claim.signer_standing) = (ledger.entry(issuer), Standing::Latest(ledger.active(issuer)));
    wrong(&ledger, operation(claim), ClaimPart::Signer, &Fault::Mismatch("the participant"));
    // A batch entry that is none, and another batch's.
    let mut claim = good.clone();
    claim.batch = ledger.entry(paid);
    wrong(&ledger, operation(claim), ClaimPart::Batch, &Fault::WrongKind);
    let op = Op { op_id: id(30).op_id, linked: false, body: OpBody::Pay(pay(MandateId(id(1)), 5)) };
    let result = OpResult::Refused(Reject::AboveCap);
    let second = ledger.batch(ACQUIRER, &[(op.clone(), result)]);
    ledger.block();
    let mut claim = ledger.operation(&batch, 0, Some(paid));
    claim.batch = ledger.entry(second.index);
    wrong(&ledger, operation(claim), ClaimPart::BatchHeader, &Fault::Mismatch("the batch entry's expiry"));
    // Signed with a key that is not the one named; a key that the participant does not have.
    let forged = ledger.batch_with(ACQUIRER, &signing_key(ISSUER, 1), KeyId(1), &[(op.clone(), result)]);
    let strange = ledger.batch_with(ACQUIRER, &signing_key(ACQUIRER, 1), KeyId(2), &[(op, result)]);
    ledger.block();
    wrong(&ledger, operation(ledger.operation(&forged, 0, None)), ClaimPart::Signature, &Fault::BadSignature);
    let unknown = Fault::UnknownKey(ACQUIRER, KeyId(2));
    wrong(&ledger, operation(ledger.operation(&strange, 0, None)), ClaimPart::Signature, &unknown);
}

#[test]
fn a_key_counts_by_the_version_in_force_at_the_batch() {
    let mut ledger = Ledger::new();
    let before = ledger.latest[&EntityKey::Participant(ACQUIRER)].0;
    let op = |tail| Op { op_id: id(tail).op_id, linked: false, body: OpBody::Pay(pay(MandateId(id(1)), 5)) };
    let refused = OpResult::Refused(Reject::AboveCap);
    let early = ledger.batch(ACQUIRER, &[(op(1), refused)]);
    ledger.block();
    // The key is revoked from now on.
    let mut revoked = rules::genesis().participants.remove(0);
    revoked.keys[0].revoked_at_ms = Some(ledger.now() + 1);
    let after = ledger.put(Entity::Participant(revoked), Cause::Time);
    let late = ledger.batch(ACQUIRER, &[(op(2), refused), (op(3), OpResult::Refused(Reject::KeyNotValid))]);
    ledger.block();
    let with = |batch: &Batch, position, version, standing| {
        let mut claim = ledger.operation(batch, position, None);
        (claim.signer, claim.signer_standing) = (ledger.entry(version), standing);
        Claim::Operation(claim)
    };
    let replaced = || Standing::Replaced(ledger.entry(after));
    let latest = || Standing::Latest(ledger.active(after));
    // Before: good by the old version, for ever.
    proven(&ledger, with(&early, 0, before, replaced()));
    // The new version was not there yet, and the old one is not the latest any more.
    wrong(&ledger, with(&early, 0, after, latest()), ClaimPart::SignerStanding, &Fault::NotThen);
    let stale = Standing::Latest(ledger.active(before));
    wrong(&ledger, with(&early, 0, before, stale), ClaimPart::SignerStanding, &Fault::NotLatest { index: before });
    // After: the old version does not count, by the new one the key is not valid, and only a refusal for that reason holds.
    wrong(&ledger, with(&late, 0, before, replaced()), ClaimPart::SignerStanding, &Fault::NotThen);
    wrong(&ledger, with(&late, 0, after, latest()), ClaimPart::Signature, &Fault::KeyNotValid(KeyId(1)));
    proven(&ledger, with(&late, 1, after, latest()));
}

#[test]
fn a_file_claims_something_and_not_too_much() {
    let Sample { ledger, paid, .. } = Sample::new();
    let error = verify(&ledger.bundle(Vec::new()).encode(), &ledger.trust).unwrap_err();
    assert_eq!(error.fault, Fault::NoClaim);
    let claims = vec![Claim::State(ledger.current(paid)); 16];
    assert!(verify(&ledger.bundle(claims.clone()).encode(), &ledger.trust).is_ok());
    assert!(List::<Claim, 16>::new([claims, vec![Claim::State(ledger.current(paid))]].concat()).is_none());
}
