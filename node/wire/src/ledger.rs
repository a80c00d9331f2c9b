//! The ledger's state as protobuf: everything that is stored, nothing derived, in the order of `ledger.proto`.

use crate::terms::{assertion, consent, disclosure, guarantee, order, scene, scenes, tier};
use anji_contracts::entity::{
    Bearer, EncryptionKey, FeeSchedule, Key, Line, Mandate, MandateStatus, Net, Obligation, Participant, Payment,
    PaymentStatus, Position, Refund, RefundStatus, SealSuite, Suite, Window, WindowStatus,
};
use anji_contracts::genesis::Params;
use anji_contracts::types::{OpId, Role, ScopedId};
use anji_contracts::{EntityKey, OpResult, Receipt, Reject};
use anji_proto::v1;

/// 16 bytes, big-endian.
#[must_use]
pub fn op_id(id: OpId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

/// A scoped id.
#[must_use]
pub fn id(id: ScopedId) -> v1::Id {
    v1::Id { participant: id.participant.0, op_id: op_id(id.op_id) }
}

/// A role.
#[must_use]
pub const fn role(role: Role) -> v1::Role {
    match role {
        Role::Acquirer => v1::Role::Acquirer,
        Role::Issuer => v1::Role::Issuer,
        Role::ServiceProvider => v1::Role::ServiceProvider,
        Role::Clearing => v1::Role::Clearing,
        Role::Regulator => v1::Role::Regulator,
        Role::FeePayee => v1::Role::FeePayee,
    }
}

/// What kind of thing a key names.
#[must_use]
pub const fn entity_kind(key: &EntityKey) -> v1::EntityKind {
    match key {
        EntityKey::Participant(_) => v1::EntityKind::Participant,
        EntityKey::Mandate(_) => v1::EntityKind::Mandate,
        EntityKey::Line(_) => v1::EntityKind::Line,
        EntityKey::Payment(_) => v1::EntityKind::Payment,
        EntityKey::Refund(_) => v1::EntityKind::Refund,
        EntityKey::Dispute(_) => v1::EntityKind::Dispute,
        EntityKey::Window(_) => v1::EntityKind::Window,
        EntityKey::Obligation(..) => v1::EntityKind::Obligation,
        EntityKey::Position(_) => v1::EntityKind::Position,
        EntityKey::Control => v1::EntityKind::Control,
        EntityKey::Schedule(_) => v1::EntityKind::Schedule,
        EntityKey::WindowPayments(_) => v1::EntityKind::WindowPayments,
    }
}

/// The name of an entity.
#[must_use]
pub fn entity_ref(key: &EntityKey) -> v1::EntityRef {
    let (number, participant) = match key {
        EntityKey::Window(window) | EntityKey::WindowPayments(window) => (window.0, 0),
        EntityKey::Schedule(version) => (u64::from(version.0), 0),
        EntityKey::Obligation(participant, window) => (window.0, participant.0),
        EntityKey::Participant(participant) | EntityKey::Position(participant) => (0, participant.0),
        EntityKey::Mandate(_)
        | EntityKey::Line(_)
        | EntityKey::Payment(_)
        | EntityKey::Refund(_)
        | EntityKey::Dispute(_)
        | EntityKey::Control => (0, 0),
    };
    v1::EntityRef { kind: entity_kind(key).into(), id: key.scoped_id().map(id), number, participant }
}

/// A mandate.
#[must_use]
pub fn mandate(it: &Mandate) -> v1::Mandate {
    let status = match it.status {
        MandateStatus::Proposed => v1::MandateStatus::Proposed,
        MandateStatus::Active => v1::MandateStatus::Active,
        MandateStatus::Suspended => v1::MandateStatus::Suspended,
        MandateStatus::Revoked => v1::MandateStatus::Revoked,
        MandateStatus::Expired => v1::MandateStatus::Expired,
    };
    v1::Mandate {
        id: Some(id(it.id.0)),
        status: status.into(),
        issuer: it.issuer.0,
        payer: it.payer.0.to_vec(),
        payer_at_issuer: it.payer_at_issuer.0.to_vec(),
        ceiling: it.ceiling.0,
        payment_cap: it.payment_cap.0,
        scenes: scenes(it.scenes),
        tier: tier(it.tier).into(),
        expires_at_ms: it.expires_at_ms,
        request_commitment: it.request_commitment.0.to_vec(),
        suspended_by: it.suspended_by.map_or(0, |participant| participant.0),
        guarantee: it.guarantee.value.as_ref().map(guarantee),
        guarantee_version: it.guarantee.version,
        assertion: it.assertion.value.as_ref().map(assertion),
        assertion_version: it.assertion.version,
        disclosure: it.disclosure.value.as_ref().map(disclosure),
        disclosure_version: it.disclosure.version,
        consent: it.consent.value.as_ref().map(consent),
        consent_version: it.consent.version,
    }
}

/// The use of a line.
#[must_use]
pub fn line(it: &Line) -> v1::Line {
    v1::Line {
        held: it.balance.debits_pending.saturating_sub(it.balance.credits_pending).to_string(),
        owed: it.balance.debits_posted.saturating_sub(it.balance.credits_posted).to_string(),
        guarantee_used: it.guarantee_used.0,
        guarantee_version: it.guarantee_version,
    }
}

/// A payment.
#[must_use]
pub fn payment(it: &Payment) -> v1::Payment {
    let status = match it.status {
        PaymentStatus::Requested => v1::PaymentStatus::Requested,
        PaymentStatus::Held => v1::PaymentStatus::Held,
        PaymentStatus::Declined => v1::PaymentStatus::Declined,
        PaymentStatus::PartCaptured => v1::PaymentStatus::PartCaptured,
        PaymentStatus::Captured => v1::PaymentStatus::Captured,
        PaymentStatus::Voided => v1::PaymentStatus::Voided,
        PaymentStatus::Expired => v1::PaymentStatus::Expired,
    };
    v1::Payment {
        id: Some(id(it.id.0)),
        status: status.into(),
        mandate: Some(id(it.mandate.0)),
        issuer: it.issuer.0,
        amount: it.amount.0,
        currency: u32::from(it.currency.0),
        scene: scene(it.scene).into(),
        order: Some(order(&it.order)),
        schedule_version: it.schedule_version.0,
        instalments: u32::from(it.instalments),
        requested_at_ms: it.requested_at_ms,
        answer_by_ms: it.answer_by_ms,
        capture_by_ms: it.capture_by_ms,
        captured_at_ms: it.captured_at_ms,
        held: it.held.0,
        captured: it.captured.0,
        released: it.released.0,
        refund_reserved: it.refund_reserved.0,
        refunded: it.refunded.0,
        charged_back: it.charged_back.0,
        n_refunds: u32::from(it.n_refunds),
        captures: it.captures.iter().map(|leg| v1::CaptureLeg { window: leg.window.0, amount: leg.amount.0 }).collect(),
        fees: it
            .fees
            .iter()
            .map(|leg| v1::FeeLeg { payee: leg.payee.0, posted: leg.posted.0, returned: leg.returned.0 })
            .collect(),
        reason: u32::from(it.reason),
    }
}

/// A refund.
#[must_use]
pub fn refund(it: &Refund) -> v1::Refund {
    let status = match it.status {
        RefundStatus::Accepted => v1::RefundStatus::Accepted,
        RefundStatus::Posted => v1::RefundStatus::Posted,
        RefundStatus::Failed => v1::RefundStatus::Failed,
    };
    v1::Refund {
        id: Some(id(it.id.0)),
        payment: Some(id(it.payment.0)),
        status: status.into(),
        amount: it.amount.0,
        accepted_at_ms: it.accepted_at_ms,
        window: it.window.map_or(0, |window| window.0),
        reason: u32::from(it.reason),
    }
}

/// A settlement window.
#[must_use]
pub fn window(it: &Window) -> v1::Window {
    let status = match it.status {
        WindowStatus::Open => v1::WindowStatus::Open,
        WindowStatus::Closed => v1::WindowStatus::Closed,
        WindowStatus::Attested => v1::WindowStatus::Attested,
        WindowStatus::Contested => v1::WindowStatus::Contested,
        WindowStatus::Funding => v1::WindowStatus::Funding,
        WindowStatus::Settled => v1::WindowStatus::Settled,
        WindowStatus::Defaulted => v1::WindowStatus::Defaulted,
    };
    let net = |net: &Net| v1::Net { participant: net.participant.0, net: net.net.to_string() };
    v1::Window {
        id: it.id.0,
        status: status.into(),
        opened_at_ms: it.opened_at_ms,
        closes_at_ms: it.closes_at_ms,
        closed_at_ms: it.closed_at_ms,
        nets: it.nets.iter().map(net).collect(),
    }
}

/// What a participant owes and is owed.
#[must_use]
pub fn obligation(it: &Obligation) -> v1::Obligation {
    v1::Obligation {
        participant: it.participant.0,
        window: it.window.0,
        debits: it.balance.debits_posted.to_string(),
        credits: it.balance.credits_posted.to_string(),
    }
}

/// A participant's cap, liquidity and exposure.
#[must_use]
pub fn position(it: &Position) -> v1::Position {
    v1::Position {
        participant: it.participant.0,
        cap: it.cap.0,
        liquidity: it.cover().to_string(),
        holds: it.holds.0,
        unsettled_debits: it.unsettled_debits.to_string(),
        unsettled_credits: it.unsettled_credits.to_string(),
    }
}

/// A fee schedule.
#[must_use]
pub fn schedule(it: &FeeSchedule) -> v1::FeeSchedule {
    let legs = it.legs.iter().map(|leg| v1::ScheduleLeg {
        payee: leg.payee.0,
        rate_bps: leg.rate_bps,
        borne_by_leg: match leg.bearer {
            Bearer::Merchant => None,
            Bearer::Leg(place) => Some(u32::from(place)),
        },
        returned_on_refund: leg.returned_on_refund,
    });
    v1::FeeSchedule {
        version: it.version.0,
        effective_at_ms: it.effective_at_ms,
        legs: legs.collect(),
        remainder_leg: u32::from(it.remainder_leg),
    }
}

/// A participant.
#[must_use]
pub fn participant(it: &Participant) -> v1::Participant {
    let key = |key: &Key| v1::ParticipantKey {
        key_id: key.key_id.0,
        suite: match key.suite {
            Suite::Ed25519 => 1,
            Suite::Sm2Sm3 => 2,
        },
        public_key: key.public_key.clone(),
        valid_from_ms: key.valid_from_ms,
        valid_until_ms: key.valid_until_ms,
        revoked_at_ms: key.revoked_at_ms.unwrap_or(0),
    };
    let encryption = |key: &EncryptionKey| v1::EncryptionKey {
        suite: match key.suite {
            SealSuite::X25519 => 1,
            SealSuite::Sm2 => 2,
        },
        public_key: key.public_key.clone(),
    };
    v1::Participant {
        id: it.id.0,
        role: role(it.role).into(),
        name: it.name.clone(),
        legal_name: it.legal_name.clone(),
        active: it.active,
        licence_expires_at_ms: it.licence.expires_at_ms,
        keys: it.keys.iter().map(key).collect(),
        encryption: it.encryption.as_ref().map(encryption),
    }
}

/// The numbers of the rules.
#[must_use]
pub fn params(it: &Params) -> v1::Params {
    let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    v1::Params {
        window_length_ms: it.window_length_ms,
        max_answer_ms: it.max_answer_ms,
        max_hold_ms: it.max_hold_ms,
        min_disclosure_shown_ms: it.min_disclosure_shown_ms,
        max_refunds: u32::from(it.max_refunds),
        refund_period_ms: it.refund_period_ms,
        max_batch_life_ms: anji_contracts::batch::MAX_BATCH_LIFE_MS,
        max_batch_bytes: small(anji_contracts::batch::MAX_BATCH_BYTES),
        max_batch_ops: small(anji_contracts::batch::MAX_BATCH_OPS),
    }
}

/// A reject inside a receipt.
#[must_use]
pub fn reject(it: Reject) -> v1::Reject {
    v1::Reject {
        code: u32::from(it.code()),
        name: it.name().to_owned(),
        text: it.text().to_owned(),
        transient: it.is_transient(),
        id_consumed: it.consumes_id(),
    }
}

/// A receipt.
#[must_use]
pub fn receipt(it: &Receipt) -> v1::Receipt {
    let result = match &it.result {
        OpResult::Done(key) => v1::receipt::Result::Done(entity_ref(key)),
        OpResult::Refused(why) => v1::receipt::Result::Refused(reject(*why)),
    };
    v1::Receipt { op_id: op_id(it.op_id), result: Some(result), time_ms: it.time_ms, height: it.height }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anji_contracts::entity::{Balance, ScheduleLeg};
    use anji_contracts::types::{Amount, ParticipantId, PaymentId, ScheduleVersion, WindowId};

    #[test]
    fn enum_numbers_are_those_of_format_v1() {
        let roles =
            [Role::Acquirer, Role::Issuer, Role::ServiceProvider, Role::Clearing, Role::Regulator, Role::FeePayee];
        for it in roles {
            assert_eq!(i32::from(it as u8), role(it) as i32);
        }
        let id = ScopedId::default();
        let keys = [
            EntityKey::Participant(ParticipantId(1)),
            EntityKey::Payment(PaymentId(id)),
            EntityKey::Window(WindowId(1)),
            EntityKey::Obligation(ParticipantId(1), WindowId(1)),
            EntityKey::Control,
            EntityKey::Schedule(ScheduleVersion(1)),
            EntityKey::WindowPayments(WindowId(1)),
        ];
        for key in keys {
            assert_eq!(key.to_sort_bytes().first().map(|kind| i32::from(*kind)), Some(entity_kind(&key) as i32));
        }
    }

    #[test]
    fn a_receipt_carries_its_answer() {
        let scoped = ScopedId { participant: ParticipantId(4), op_id: OpId::new(5, 6) };
        let done = Receipt {
            op_id: scoped.op_id,
            result: OpResult::Done(EntityKey::Payment(PaymentId(scoped))),
            time_ms: 7,
            height: 8,
        };
        let sent = receipt(&done);
        assert_eq!((sent.op_id.len(), sent.time_ms, sent.height), (16, 7, 8));
        let Some(v1::receipt::Result::Done(entity)) = sent.result else { panic!("done") };
        assert_eq!(entity.kind, v1::EntityKind::Payment as i32);
        assert_eq!(entity.id, Some(id(scoped)));

        let refused = receipt(&Receipt { result: OpResult::Refused(Reject::AboveCap), ..done });
        let Some(v1::receipt::Result::Refused(why)) = refused.result else { panic!("refused") };
        assert_eq!((why.code, why.name.as_str(), why.transient, why.id_consumed), (4019, "AboveCap", true, true));
    }

    #[test]
    fn sums_are_decimal_strings_of_any_size() {
        let wide = Obligation {
            participant: ParticipantId(1),
            window: WindowId(2),
            balance: Balance { debits_posted: u128::MAX, credits_posted: 1, ..Balance::default() },
        };
        assert_eq!(obligation(&wide).debits, "340282366920938463463374607431768211455");
        let closed = Window {
            id: WindowId(2),
            status: WindowStatus::Closed,
            opened_at_ms: 0,
            closes_at_ms: 1,
            closed_at_ms: 1,
            nets: vec![Net { participant: ParticipantId(1), net: i128::MIN }],
            instruction_hash: Default::default(),
        };
        assert_eq!(window(&closed).nets.first().map(|net| net.net.clone()), Some(i128::MIN.to_string()));
    }

    #[test]
    fn a_leg_of_place_zero_differs_from_the_merchant() {
        let leg = |bearer| ScheduleLeg { payee: ParticipantId(1), rate_bps: 5, bearer, returned_on_refund: true };
        let sent = schedule(&FeeSchedule {
            version: ScheduleVersion(1),
            effective_at_ms: 0,
            legs: vec![leg(Bearer::Merchant), leg(Bearer::Leg(0))],
            remainder_leg: 0,
        });
        let borne: Vec<_> = sent.legs.iter().map(|leg| leg.borne_by_leg).collect();
        assert_eq!(borne, [None, Some(0)]);
    }

    #[test]
    fn a_position_shows_what_is_there() {
        let it = Position {
            participant: ParticipantId(2),
            cap: Amount(9),
            liquidity: Balance { credits_posted: 100, debits_posted: 30, ..Balance::default() },
            ..Position::default()
        };
        assert_eq!(position(&it).liquidity, "70");
    }
}
