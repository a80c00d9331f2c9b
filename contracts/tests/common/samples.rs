//! One sample of everything that format v1 writes: every operation, entity, entry, receipt. The values are arbitrary and fixed:
//! the vectors are made of them.
#![allow(dead_code, unreachable_pub, reason = "shared by test binaries")]

use crate::common::*;
use anji_contracts::entity::*;
use anji_contracts::entry::*;
use anji_contracts::ops::*;
use anji_contracts::types::*;

fn scoped(participant: ParticipantId, tail: u128) -> ScopedId {
    ScopedId { participant, op_id: OpId::new(START_MS, tail) }
}

fn hash(byte: u8) -> Hash32 {
    Hash32([byte; 32])
}

pub fn op_bodies() -> Vec<OpBody> {
    let world = World::new();
    let mandate = MandateId(scoped(ACQUIRER, 1));
    let payment = PaymentId(scoped(ACQUIRER, 2));
    let refund = RefundId(scoped(ACQUIRER, 3));
    let dispute = DisputeId(scoped(ISSUER, 4));
    let proposal = ProposalId(scoped(CLEARING, 5));
    let window = WindowId(7);
    let stop = MandateStop { mandate, reason: 300 };
    let dispute_step = || DisputeStep { dispute, evidence_hash: hash(20) };
    let window_step = || WindowStep { window, document_hash: hash(21) };
    let window_leg = || WindowLeg { window, participant: ISSUER, document_hash: hash(22) };
    let liquidity =
        |amount| LiquidityMove { participant: ISSUER, amount: Amount(amount), bank_reference: "20260101-0001".into() };
    let change = || PaymentChange { payment, amount: Amount(500) };
    vec![
        OpBody::MandatePropose(propose(&world)),
        OpBody::MandateActivate(activate(&world, mandate)),
        OpBody::MandateRefresh(MandateRefresh {
            mandate,
            guarantee: Some(Guarantee { amount: Amount(1), until_ms: 2 }),
            assertion: None,
            disclosure: Some(disclosure()),
            consent: None,
            repaid: Amount(3),
        }),
        OpBody::MandateSuspend(stop.clone()),
        OpBody::MandateResume(stop.clone()),
        OpBody::MandateRevoke(stop),
        OpBody::Pay(pay(mandate, 1_000_000)),
        OpBody::PaymentRequest(request(&world, mandate, 1_000_000)),
        OpBody::PaymentHold(PaymentHold { payment, assertion: risk(), disclosure: Some(disclosure()) }),
        OpBody::PaymentDecline(PaymentDecline { payment, reason: 9 }),
        OpBody::PaymentCapture(capture(payment, 250_000, true)),
        OpBody::PaymentVoid(PaymentVoid { payment, reason: 10 }),
        OpBody::PaymentIncrement(change()),
        OpBody::PaymentReduce(change()),
        OpBody::RefundRequest(RefundRequest { payment, amount: Amount(700), reason: 11, order_hash: hash(9) }),
        OpBody::RefundPost(RefundStep { refund, reason: 0 }),
        OpBody::RefundFail(RefundStep { refund, reason: 12 }),
        OpBody::DisputeOpen(DisputeOpen { payment, amount: Amount(800), reason: 13, evidence_hash: hash(19) }),
        OpBody::DisputeAccept(dispute_step()),
        OpBody::DisputeChallenge(dispute_step()),
        OpBody::DisputeWithdraw(dispute_step()),
        OpBody::DisputePreArbitration(dispute_step()),
        OpBody::DisputeArbitration(dispute_step()),
        OpBody::DisputeRuling(DisputeRuling { dispute, upheld: true, evidence_hash: hash(23) }),
        OpBody::WindowClose(WindowClose { window }),
        OpBody::WindowAttest(WindowAttest { window, net: -123_456_789 }),
        OpBody::WindowContest(window_step()),
        OpBody::WindowFund(window_step()),
        OpBody::WindowConfirmLeg(window_leg()),
        OpBody::WindowDefault(window_leg()),
        OpBody::CapSet(CapSet { participant: ISSUER, cap: Amount(5_000_000_000) }),
        OpBody::LiquidityDeposit(liquidity(900)),
        OpBody::LiquidityWithdraw(liquidity(901)),
        OpBody::BilateralCapSet(BilateralCapSet { towards: ACQUIRER, cap: Amount(902) }),
        OpBody::GovernancePropose(GovernancePropose {
            change: GovernanceChange::KeyRevoke { participant: ISSUER, key_id: KeyId(1) },
            effective_height: 1_000,
            reasons_hash: hash(24),
        }),
        OpBody::GovernanceApprove(GovernanceStep { proposal }),
        OpBody::GovernanceWithdraw(GovernanceStep { proposal }),
        OpBody::SealedReport(SealedReport { window, blob: vec![25; SEALED_REPORT_BYTES] }),
    ]
}

pub fn governance_changes() -> Vec<(&'static str, GovernanceChange)> {
    let genesis = genesis();
    let issuer = &genesis.participants[1];
    vec![
        (
            "ParticipantAdd",
            GovernanceChange::ParticipantAdd {
                role: Role::ServiceProvider,
                legal_name: issuer.legal_name.clone(),
                licence: issuer.licence.clone(),
                keys: issuer.keys.clone(),
                encryption: Some(EncryptionKey { suite: SealSuite::Sm2, public_key: vec![26; 33] }),
            },
        ),
        ("ParticipantStatus", GovernanceChange::ParticipantStatus { participant: ISSUER, active: false }),
        ("LicenceSet", GovernanceChange::LicenceSet { participant: ISSUER, licence: issuer.licence.clone() }),
        ("KeyAdd", GovernanceChange::KeyAdd { participant: ISSUER, key: issuer.keys[0].clone() }),
        ("KeyRevoke", GovernanceChange::KeyRevoke { participant: ISSUER, key_id: KeyId(1) }),
        ("ValidatorSet", GovernanceChange::ValidatorSet { participant: ISSUER, public_key: [27; 32], power: 5 }),
        ("ScheduleAdd", GovernanceChange::ScheduleAdd(genesis.schedules[0].clone())),
        ("PolicySet", GovernanceChange::PolicySet { kind: 3, document: vec![1, 2, 3] }),
        (
            "Freeze",
            GovernanceChange::Freeze {
                mandate: MandateId(scoped(ACQUIRER, 1)),
                frozen: true,
                reference_hash: hash(28),
            },
        ),
        ("Upgrade", GovernanceChange::Upgrade { rules: 2 }),
    ]
}

/// One entity of every kind, as a small story leaves them.
pub fn entities() -> Vec<(&'static str, Entity)> {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let payment = world.held(mandate, 10_000);
    world.captured(payment, 6_000, false);
    let refund = world.refunded(payment, 1_000);
    world.pass(DAY_MS);
    world.pass(1);
    let of = |key: EntityKey| world.view.entities[&key].clone();
    vec![
        ("Participant", of(EntityKey::Participant(ISSUER))),
        ("Mandate", of(EntityKey::Mandate(mandate))),
        ("Line", of(EntityKey::Line(mandate))),
        ("Payment", of(EntityKey::Payment(payment))),
        ("Refund", of(EntityKey::Refund(refund))),
        ("Window", of(EntityKey::Window(WindowId(1)))),
        ("Obligation", of(EntityKey::Obligation(ACQUIRER, WindowId(1)))),
        ("Position", of(EntityKey::Position(ISSUER))),
        ("Control", of(EntityKey::Control)),
        ("Schedule", of(EntityKey::Schedule(ScheduleVersion(1)))),
        ("WindowPayments", of(EntityKey::WindowPayments(WindowId(1)))),
    ]
}

pub fn receipts() -> Vec<(&'static str, Receipt)> {
    let receipt = |result| Receipt { op_id: OpId::new(START_MS, 6), result, time_ms: START_MS, height: 17 };
    vec![
        ("Done", receipt(OpResult::Done(EntityKey::Payment(PaymentId(scoped(ACQUIRER, 6)))))),
        ("DoneObligation", receipt(OpResult::Done(EntityKey::Obligation(ISSUER, WindowId(3))))),
        ("DoneControl", receipt(OpResult::Done(EntityKey::Control))),
        ("Refused", receipt(OpResult::Refused(anji_contracts::Reject::AboveCeiling))),
    ]
}

pub fn entries() -> Vec<(&'static str, Entry)> {
    let (_, state) = entities().remove(4);
    let entity = |cause| {
        let (key, prev_index) = (state.key(), NO_PREVIOUS);
        Entry::Entity(EntityEntry { key, version: 1, prev_index, state: state.clone(), cause })
    };
    vec![
        ("EntityByGenesis", entity(Cause::Genesis)),
        ("EntityByOp", entity(Cause::Op(scoped(ISSUER, 8)))),
        ("EntityByTime", entity(Cause::Time)),
        ("EntityByBlock", entity(Cause::Block)),
        (
            "Batch",
            Entry::Batch(BatchEntry {
                batch_seq: 5,
                batch_hash: hash(30),
                participant: ACQUIRER,
                expires_at_ms: START_MS,
                n_ops: 2,
                ops_root: hash(31),
                receipts_root: hash(32),
            }),
        ),
        (
            "Block",
            Entry::Block(BlockEntry {
                height: 17,
                header_hash: hash(33),
                time_ms: START_MS,
                active_root: Hash32::ZERO,
                n_batches_total: 6,
                n_ops_total: 7,
            }),
        ),
    ]
}
