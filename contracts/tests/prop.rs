//! Random operations of all roles, with hostile ids, times and amounts, against the engine and a naive ledger (`model`) side by
//! side: the same code and the same state after every step, every invariant after every step, and the same results however
//! the operations are split into batches and blocks.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

mod common;
mod model;

use anji_contracts::CheckedBatch;
use anji_contracts::entity::{
    Bearer, Entity, EntityKey, FeeSchedule, Mandate, MandateStatus, PaymentStatus, RefundStatus, ScheduleLeg,
};
use anji_contracts::fees::{Bearing, check_schedule, founding_schedule, merchant_total, quote};
use anji_contracts::genesis::Genesis;
use anji_contracts::ops::*;
use anji_contracts::types::*;
use common::*;
use model::Model;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Small numbers that are turned into an operation on whatever exists at that moment, so that a failing case shrinks well.
#[derive(Clone, Debug)]
struct Step {
    kind: u8,
    signer: u8,
    pick: u8,
    amount: u8,
    twist: u8,
    wait: u8,
    id: u8,
    linked: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = (any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>());
    let step = (bytes, proptest::bool::weighted(0.15)).prop_map(|(bytes, linked)| {
        let (kind, signer, pick, amount, twist, wait, id) = bytes;
        Step { kind, signer, pick, amount, twist, wait, id, linked }
    });
    proptest::collection::vec(step, 1..90)
}

/// Limits are near, windows are short, a licence ends soon, the fee schedule changes on the second day.
fn tight_genesis() -> Genesis {
    let mut genesis = genesis();
    genesis.params.window_length_ms = 6 * HOUR_MS;
    genesis.params.max_refunds = 3;
    // The remainder goes to legs that are really paid, so that they are seen to shrink and run back.
    genesis.schedules[0].remainder_leg = 3;
    let mut inside =
        founding_schedule(Bearing::Inside, ScheduleVersion(2), START_MS + DAY_MS, PROVIDER, CHANNEL, TECHNICAL);
    inside.remainder_leg = 2;
    genesis.schedules.push(inside);
    genesis.participants[ACQUIRER_2.0 as usize - 1].licence.expires_at_ms = START_MS + 3 * DAY_MS;
    genesis.participants[ISSUER_2.0 as usize - 1].licence.scenes = SceneSet::of(&[Scene::Online]);
    for position in &mut genesis.positions {
        position.cap = Amount(90_000);
        position.liquidity = Amount(120_000);
    }
    genesis
}

fn nth<T: Copy>(items: &[T], pick: u8) -> Option<T> {
    // The newest is the most likely to be of use.
    let place = items.len().checked_sub(1 + usize::from(pick) % items.len().max(1))?;
    items.get(place).copied()
}

struct Builder<'a> {
    model: &'a Model,
    step: &'a Step,
    next_id: u128,
}

impl Builder<'_> {
    fn is(&self, twist: u8) -> bool {
        self.step.twist == twist
    }

    fn amount(&self, near: i128) -> Amount {
        let near = u64::try_from(near).unwrap_or(0);
        Amount(match self.step.amount {
            0 => 0,
            1 => u64::MAX,
            2 => u64::MAX / 10_000,
            3 => 1,
            4..=80 => near,
            81..=100 => near.saturating_add(1),
            101..=180 => near / 2,
            181..=220 => near / 3 + 1,
            other => u64::from(other) * 97,
        })
    }

    fn mandates(&self) -> Vec<ScopedId> {
        self.model.links.keys().copied().collect()
    }

    fn mandate(&self) -> (ScopedId, u32, u32) {
        let unknown = ScopedId { participant: ACQUIRER, op_id: OpId(9) };
        // Mostly one in the state that the step needs.
        let wanted = |link: &model::Link| match self.step.kind {
            11..=24 => link.status == MandateStatus::Proposed,
            48..=57 => link.status == MandateStatus::Suspended,
            _ => link.status == MandateStatus::Active,
        };
        let fit: Vec<_> = self.model.links.iter().filter(|it| wanted(it.1)).map(|it| *it.0).collect();
        let ids = if self.step.pick.is_multiple_of(8) || fit.is_empty() { self.mandates() } else { fit };
        match nth(&ids, self.step.pick / 32) {
            Some(id) if self.step.pick != 255 => (id, self.model.links[&id].acquirer, self.model.links[&id].issuer),
            _ => (unknown, ACQUIRER.0, ISSUER.0),
        }
    }

    fn payment(&self) -> (ScopedId, u32, u32) {
        let wanted = |buy: &model::Buy| match self.step.kind {
            136..=171 => buy.status == PaymentStatus::Requested,
            172..=208 => matches!(buy.status, PaymentStatus::Held | PaymentStatus::PartCaptured),
            _ => !buy.captures.is_empty(),
        };
        let fit: Vec<_> = self.model.buys.iter().filter(|it| wanted(it.1)).map(|it| *it.0).collect();
        let ids: Vec<_> = self.model.buys.keys().copied().collect();
        let ids = if self.step.pick.is_multiple_of(8) || fit.is_empty() { ids } else { fit };
        match nth(&ids, self.step.pick / 32) {
            Some(id) if self.step.pick != 255 => (id, self.model.buys[&id].acquirer, self.model.buys[&id].issuer),
            _ => self.mandate(),
        }
    }

    fn refund(&self) -> (ScopedId, u32) {
        let accepted = |it: &(&ScopedId, &model::Back)| it.1.status == RefundStatus::Accepted;
        let fit: Vec<_> = self.model.backs.iter().filter(accepted).map(|it| *it.0).collect();
        let ids: Vec<_> = self.model.backs.keys().copied().collect();
        let ids = if self.step.pick.is_multiple_of(8) || fit.is_empty() { ids } else { fit };
        match nth(&ids, self.step.pick / 32) {
            Some(id) if self.step.pick != 255 => (id, self.model.buys[&self.model.backs[&id].payment].issuer),
            _ => (self.payment().0, ISSUER.0),
        }
    }

    fn at(&self, ms: u64) -> u64 {
        self.model.now + ms
    }

    fn risk(&self) -> RiskAssertion {
        let valid_until_ms = match self.step.twist {
            1 => self.model.now,
            2 => self.at(HOUR_MS),
            _ => self.at(DAY_MS),
        };
        let as_of_ms = if self.is(3) { self.at(120_001) } else { self.at(120_000) };
        RiskAssertion { as_of_ms, valid_until_ms, ..risk() }
    }

    fn scene(&self) -> Scene {
        match self.step.twist {
            10 => Scene::SocialTransfer,
            11 => Scene::InApp,
            12..=30 => Scene::PayerPresented,
            31..=60 => Scene::MerchantPresented,
            _ => Scene::Online,
        }
    }

    fn disclosure(&self) -> Disclosure {
        let mut it = disclosure();
        match self.step.twist {
            70 => it.shown_ms = 2999,
            71 => it.lender.clear(),
            72 => it.service_provider = CLEARING,
            73..=90 => it.schedule_version = ScheduleVersion(2),
            91 => it.schedule_version = ScheduleVersion(3),
            _ => it.schedule_version = self.schedule_in_force(),
        }
        it
    }

    fn schedule_in_force(&self) -> ScheduleVersion {
        ScheduleVersion(if self.model.now >= START_MS + DAY_MS { 2 } else { 1 })
    }

    fn schedule(&self) -> ScheduleVersion {
        match self.step.twist {
            100 => ScheduleVersion(3),
            101..=104 => ScheduleVersion(2),
            105..=108 => ScheduleVersion(1),
            _ => self.schedule_in_force(),
        }
    }

    fn guarantee(&self) -> Guarantee {
        let until_ms = if self.is(110) { self.model.now } else { self.at(2 * DAY_MS) };
        Guarantee { amount: Amount(70_000), until_ms }
    }

    fn consent(&self) -> Consent {
        let until_ms = if self.is(111) { self.model.now } else { self.at(3 * DAY_MS) };
        Consent { given_at_ms: self.model.now, until_ms, record_hash: Hash32([4; 32]) }
    }

    fn currency(&self) -> Currency {
        if self.is(112) { Currency(840) } else { Currency::CNY }
    }

    fn order(&self) -> Order {
        Order { category: MerchantCategory(u16::from(self.step.pick % 2)), ..order() }
    }

    /// Who should sign, and what.
    fn body(&self) -> (u32, OpBody) {
        let (mandate, acquirer, issuer) = self.mandate();
        let (payment, payment_acquirer, payment_issuer) = self.payment();
        let (refund, refund_issuer) = self.refund();
        let buy = self.model.buys.get(&payment);
        let link = self.model.links.get(&mandate);
        let off = u32::from(self.is(120));
        let window = WindowId(self.model.window() + u64::from(off) - u64::from(self.is(121)));
        match self.step.kind {
            0..=10 => {
                let acquirer = if self.step.pick < 160 { ACQUIRER } else { ACQUIRER_2 };
                let it = MandatePropose {
                    issuer: match self.step.pick % 16 {
                        0 => PROVIDER,
                        1 => acquirer,
                        2 => ParticipantId(50),
                        3..=6 => ISSUER_2,
                        _ => ISSUER,
                    },
                    payer: Pseudonym([1; 16]),
                    ceiling: Amount(100_000 * u64::from(self.step.amount != 0)),
                    payment_cap: Amount(60_000),
                    scenes: match self.step.twist {
                        0 => SceneSet(0),
                        10 => SceneSet::ALL,
                        11 => SceneSet::of(&[Scene::InApp]),
                        12..=60 => SceneSet::of(&SCENES),
                        _ => SceneSet::of(&[Scene::Online]),
                    },
                    tier: Tier::C,
                    expires_at_ms: self.at(u64::from(self.step.amount) * 3 * HOUR_MS),
                    request_commitment: Hash32::ZERO,
                };
                (acquirer.0, OpBody::MandatePropose(it))
            }
            11..=24 => {
                let it = MandateActivate {
                    mandate: MandateId(mandate),
                    payer_at_issuer: Pseudonym([2; 16]),
                    ceiling: Amount(100_000 + u64::from(off)),
                    payment_cap: Amount(50_000),
                    scenes: if self.is(31) { SceneSet(0) } else { link.map_or(SceneSet(2), |it| SceneSet(it.scenes)) },
                    guarantee: (!self.is(122)).then(|| self.guarantee()),
                    assertion: (!self.is(123)).then(|| self.risk()),
                    disclosure: self.disclosure(),
                    consent: self.consent(),
                };
                (issuer, OpBody::MandateActivate(it))
            }
            25..=42 => {
                let owed = link.map_or(0, |_| {
                    let (_, posted, credited) = self.model.of_line(mandate);
                    posted - credited
                });
                let it = MandateRefresh {
                    mandate: MandateId(mandate),
                    guarantee: (self.step.id & 1 == 1).then(|| self.guarantee()),
                    assertion: (self.step.id & 2 == 2).then(|| self.risk()),
                    disclosure: (self.step.id & 4 == 4).then(|| self.disclosure()),
                    consent: (self.step.id & 8 == 8).then(|| self.consent()),
                    repaid: self.amount(owed),
                };
                (issuer, OpBody::MandateRefresh(it))
            }
            43..=58 => {
                let it = MandateStop { mandate: MandateId(mandate), reason: 3 };
                let signer = if self.step.pick.is_multiple_of(2) { acquirer } else { issuer };
                let body = match self.step.kind {
                    43..=47 => OpBody::MandateSuspend(it),
                    48..=57 => OpBody::MandateResume(it),
                    _ => OpBody::MandateRevoke(it),
                };
                (signer, body)
            }
            59..=100 => {
                let version = |count: usize| count as u32 + off;
                let it = Pay {
                    mandate: MandateId(mandate),
                    amount: self.amount(20_000),
                    currency: self.currency(),
                    scene: self.scene(),
                    order: self.order(),
                    schedule_version: self.schedule(),
                    guarantee_version: version(link.map_or(0, |it| it.guarantees.len())),
                    assertion_version: version(link.map_or(0, |it| it.assertions.len())),
                    consent_version: version(link.map_or(0, |it| it.consents.len())),
                    assertion: self.risk(),
                };
                (acquirer, OpBody::Pay(it))
            }
            101..=135 => {
                let answer = if self.is(130) { 0 } else { u64::from(self.step.pick) * 15_000 };
                let it = PaymentRequest {
                    mandate: MandateId(mandate),
                    amount: self.amount(20_000),
                    currency: self.currency(),
                    scene: self.scene(),
                    order: self.order(),
                    schedule_version: self.schedule(),
                    instalments: 1 + u8::from(self.step.twist % 8 == 7),
                    assertion: self.risk(),
                    answer_by_ms: self.at(answer),
                    capture_by_ms: self.at(u64::from(self.step.amount) * HOUR_MS / 4),
                };
                (acquirer, OpBody::PaymentRequest(it))
            }
            136..=168 => {
                let it = PaymentHold {
                    payment: PaymentId(payment),
                    assertion: self.risk(),
                    disclosure: (self.step.id.is_multiple_of(2)).then(|| self.disclosure()),
                };
                (payment_issuer, OpBody::PaymentHold(it))
            }
            169..=171 => {
                let it = PaymentDecline { payment: PaymentId(payment), reason: 4 };
                (payment_issuer, OpBody::PaymentDecline(it))
            }
            172..=203 => {
                let order = buy.map_or_else(order, |it| it.order.clone());
                let it = PaymentCapture {
                    payment: PaymentId(payment),
                    amount: self.amount(buy.map_or(100, model::Buy::remaining)),
                    last: self.step.twist.is_multiple_of(4),
                    merchant: order.merchant,
                    category: if self.is(125) { MerchantCategory(99) } else { order.category },
                    order_hash: order.order_hash,
                };
                (payment_acquirer, OpBody::PaymentCapture(it))
            }
            204..=208 => {
                let it = PaymentVoid { payment: PaymentId(payment), reason: 5 };
                (payment_acquirer, OpBody::PaymentVoid(it))
            }
            209..=226 => {
                let headroom = buy.map_or(100, |it| it.captured() - self.model.reserved(payment));
                let it = RefundRequest {
                    payment: PaymentId(payment),
                    amount: self.amount(headroom),
                    reason: 6,
                    order_hash: if self.is(126) { Hash32::ZERO } else { order().order_hash },
                };
                (payment_acquirer, OpBody::RefundRequest(it))
            }
            227..=239 => {
                let it = RefundStep { refund: RefundId(refund), reason: 0 };
                let body =
                    if self.step.twist.is_multiple_of(4) { OpBody::RefundFail(it) } else { OpBody::RefundPost(it) };
                (refund_issuer, body)
            }
            240..=242 => (CLEARING.0, OpBody::WindowClose(WindowClose { window })),
            243..=246 => {
                let participant = ParticipantId(1 + u32::from(self.step.pick) % 11);
                let signer = if self.step.twist < 128 { CLEARING } else { participant };
                (signer.0.min(9), OpBody::CapSet(CapSet { participant, cap: self.amount(90_000) }))
            }
            247..=253 => {
                let participant = ParticipantId(1 + u32::from(self.step.pick) % 11);
                let near = self.model.cover(participant.0);
                let it = LiquidityMove { participant, amount: self.amount(near), bank_reference: "B".into() };
                let deposit = self.step.twist < 160 && self.step.amount > 2;
                let body = if deposit { OpBody::LiquidityDeposit(it) } else { OpBody::LiquidityWithdraw(it) };
                (CLEARING.0, body)
            }
            254 => (CLEARING.0, OpBody::WindowFund(WindowStep { window, document_hash: Hash32::ZERO })),
            255 => {
                (ISSUER.0, OpBody::PaymentIncrement(PaymentChange { payment: PaymentId(payment), amount: Amount(1) }))
            }
        }
    }

    fn build(&self) -> (u32, Op) {
        let (signer, body) = self.body();
        let signer = if self.step.signer > 240 { 1 + u32::from(self.step.signer) % 9 } else { signer };
        let seen: Vec<_> =
            self.model.answers.iter().filter(|(id, _)| id.participant.0 == signer).map(|(id, it)| (*id, it)).collect();
        let again = |pick: u8| seen.len().checked_sub(1 + usize::from(pick) % seen.len().max(1)).map(|at| &seen[at]);
        let (op_id, body) = match self.step.id {
            200..=207 => match again(self.step.pick) {
                // The same again.
                Some((id, (body, _))) => (id.op_id, body.clone()),
                None => (OpId::new(self.model.now, self.next_id), body),
            },
            // Another body under an id that was used.
            208..=211 => {
                (again(self.step.pick).map_or(OpId::new(self.model.now, self.next_id), |(id, _)| id.op_id), body)
            }
            212..=214 => (OpId::new(self.model.now - DAY_MS, self.next_id), body),
            215 => (OpId::new(self.model.now - DAY_MS - 1, self.next_id), body),
            216..=218 => (OpId::new(self.at(120_000), self.next_id), body),
            219 => (OpId::new(self.at(120_001), self.next_id), body),
            220 => (OpId(0), body),
            221 => (OpId(u128::MAX), body),
            _ => (OpId::new(self.model.now, self.next_id), body),
        };
        (signer, Op { op_id, linked: false, body })
    }

    fn wait(&self) -> u64 {
        match self.step.wait {
            0..=200 => 0,
            201..=215 => 1,
            216..=225 => 60_000,
            226..=235 => HOUR_MS / 2,
            236..=243 => HOUR_MS,
            244..=249 => 6 * HOUR_MS,
            250..=253 => DAY_MS,
            254 => 2 * DAY_MS,
            255 => {
                if self.next_id > 1060 {
                    366 * DAY_MS
                } else {
                    7 * DAY_MS
                }
            }
        }
    }
}

/// A unit as it ran: when, who, what, with which codes.
type Unit = (u64, ParticipantId, Vec<Op>, Vec<u16>);

/// Runs a unit on both ledgers and compares what they say and what they hold.
fn run_unit(world: &mut World, model: &mut Model, units: &mut Vec<Unit>, signer: ParticipantId, unit: Vec<Op>) {
    let expected = model.run(signer.0, &unit);
    let batch = world.batch(signer, &unit);
    let effects = world.block(&[batch]);
    let codes: Vec<u16> = effects.batches[0].receipts.iter().map(|it| code(&it.result)).collect();
    assert_eq!(codes, expected, "unit {}, signer {signer}: {unit:#?}", units.len());
    compare(world, model);
    assert_eq!(world.view.scan(), Vec::<String>::new(), "unit {}: {unit:#?}", units.len());
    units.push((world.now_ms, signer, unit, codes));
}

/// Runs the steps on both ledgers, comparing after every unit.
fn run_both(steps: &[Step]) -> (World, Vec<Unit>) {
    let genesis = tight_genesis();
    let mut world = World::with(&genesis);
    let mut model = Model::new(&genesis);
    model.set_time(world.now_ms);
    let mut units = Vec::new();
    for (place, (acquirer, issuer)) in
        [(ACQUIRER, ISSUER), (ACQUIRER_2, ISSUER), (ACQUIRER, ISSUER_2)].iter().enumerate()
    {
        let id = |place: usize| OpId::new(START_MS - 5000, place as u128);
        let op = |at: usize, body| vec![Op { op_id: id(at), linked: false, body }];
        let mandate = MandateId(ScopedId { participant: *acquirer, op_id: id(2 * place) });
        let scenes = SceneSet::of(&[Scene::Online]);
        let body = MandatePropose { issuer: *issuer, scenes, ..propose(&world) };
        run_unit(&mut world, &mut model, &mut units, *acquirer, op(2 * place, OpBody::MandatePropose(body)));
        let body = MandateActivate { scenes, ..activate(&world, mandate) };
        run_unit(&mut world, &mut model, &mut units, *issuer, op(2 * place + 1, OpBody::MandateActivate(body)));
    }
    let mut chain: Vec<Op> = Vec::new();
    let mut chain_signer = 0;
    for (place, step) in steps.iter().enumerate() {
        let next_id = place as u128 + 1000;
        let (signer, mut op) = Builder { model: &model, step, next_id }.build();
        if chain.is_empty() {
            chain_signer = signer;
        }
        let linked = step.linked && chain.len() < 4 && place + 1 < steps.len();
        op.linked = linked;
        chain.push(op);
        if linked {
            continue;
        }
        let unit = std::mem::take(&mut chain);
        let signer = ParticipantId(chain_signer);
        world.now_ms += Builder { model: &model, step, next_id }.wait();
        model.set_time(world.now_ms);
        run_unit(&mut world, &mut model, &mut units, signer, unit);
    }
    // The trees of closed windows come a block later.
    world.block(&[]);
    compare(&world, &model);
    let indexed = world.view.entities.keys().filter(|key| matches!(key, EntityKey::WindowPayments(_))).count() as u64;
    assert_eq!(indexed, model.window() - 1, "every closed window has its tree");
    (world, units)
}

fn compare_mandate(it: &Mandate, link: &model::Link) {
    assert_eq!(it.status, link.status);
    assert_eq!((it.acquirer().0, it.issuer.0), (link.acquirer, link.issuer));
    assert_eq!((i128::from(it.ceiling.0), i128::from(it.payment_cap.0)), (link.ceiling, link.cap));
    assert_eq!(it.guarantee.version as usize, link.guarantees.len());
    assert_eq!(it.guarantee.value.as_ref(), link.guarantees.last());
    assert_eq!(it.assertion.value.as_ref(), link.assertions.last());
    assert_eq!(it.disclosure.value.as_ref(), link.disclosures.last());
    assert_eq!(it.consent.value.as_ref(), link.consents.last());
    if link.status == MandateStatus::Suspended {
        assert_eq!(it.suspended_by.map(|it| it.0), link.suspended_by);
    }
}

/// Everything the naive ledger knows is what the engine's entities say, and the engine has nothing else.
fn compare(world: &World, model: &Model) {
    let (mut mandates, mut payments, mut refunds) = (0, 0, 0);
    let mut obligations: BTreeMap<(u32, u64), (i128, i128)> = BTreeMap::new();
    for owed in &model.owed {
        obligations.entry((owed.debtor, owed.window)).or_default().0 += owed.amount;
        obligations.entry((owed.creditor, owed.window)).or_default().1 += owed.amount;
    }
    for entity in world.view.entities.values() {
        match entity {
            Entity::Mandate(it) => {
                mandates += 1;
                compare_mandate(it, &model.links[&it.id.0]);
            }
            Entity::Line(it) => {
                let (pending, posted, credited) = model.of_line(it.mandate.0);
                let balance = it.balance;
                let found = (balance.debits_pending, balance.debits_posted, balance.credits_posted);
                assert_eq!(found, (pending as u128, posted as u128, credited as u128));
            }
            Entity::Payment(it) => {
                payments += 1;
                let buy = &model.buys[&it.id.0];
                assert_eq!(it.status, buy.status);
                assert_eq!(i128::from(it.held.0), buy.held());
                assert_eq!(i128::from(it.captured.0), buy.captured());
                assert_eq!(i128::from(it.released.0), buy.released);
                assert_eq!(i128::from(it.refunded.0), model.refunded(it.id.0));
                assert_eq!(i128::from(it.refund_reserved.0), model.reserved(it.id.0));
                let legs: Vec<_> = it.captures.iter().map(|it| (it.window.0, i128::from(it.amount.0))).collect();
                assert_eq!(legs, buy.captures);
                let posted = model.quote(buy.schedule, buy.captured());
                let returned = model.quote(buy.schedule, model.refunded(it.id.0));
                for (place, fee) in it.fees.iter().enumerate() {
                    assert_eq!(fee.payee.0, model.payee(buy, place));
                    assert_eq!(i128::from(fee.posted.0), posted[place]);
                    assert_eq!(i128::from(fee.returned.0), returned[place]);
                    if it.refunded == it.captured {
                        assert_eq!(fee.posted, fee.returned, "a full refund gives back exactly what was posted");
                    }
                }
            }
            Entity::Refund(it) => {
                refunds += 1;
                let back = &model.backs[&it.id.0];
                assert_eq!(
                    (it.status, i128::from(it.amount.0), it.payment.0),
                    (back.status, back.amount, back.payment)
                );
            }
            Entity::Obligation(it) => {
                let (debits, credits) = obligations.remove(&(it.participant.0, it.window.0)).unwrap_or_default();
                assert_eq!((it.balance.debits_posted, it.balance.credits_posted), (debits as u128, credits as u128));
            }
            Entity::Position(it) => {
                let who = it.participant.0;
                assert_eq!(i128::from(it.cap.0), model.cap(who));
                assert_eq!(it.cover() as i128, model.cover(who));
                assert_eq!(i128::from(it.holds.0), model.holds(who));
                assert_eq!(it.unsettled_debits as i128, model.debits(who));
                assert_eq!(it.unsettled_credits as i128, model.credits(who));
            }
            Entity::Window(it) => {
                assert!(it.id.0 <= model.window());
                if it.id.0 == model.window() {
                    assert_eq!(it.closes_at_ms, *model.windows.last().unwrap());
                } else {
                    for net in &it.nets {
                        let of = |who: u32| who == net.participant.0;
                        let owed = model.owed.iter().filter(|owed| owed.window == it.id.0);
                        let expected: i128 = owed
                            .map(|owed| owed.amount * (i128::from(of(owed.creditor)) - i128::from(of(owed.debtor))))
                            .sum();
                        assert_eq!(net.net, expected);
                    }
                }
            }
            Entity::Control(it) => assert_eq!(it.open_window.0, model.window()),
            Entity::WindowPayments(it) => {
                assert!(it.window.0 < model.window(), "its window is closed");
                let payments = model.captured_in(it.window.0);
                let leaves: Vec<Hash32> = payments
                    .iter()
                    .map(|id| {
                        let bytes = [&id.participant.0.to_be_bytes()[..], &id.op_id.0.to_be_bytes()].concat();
                        anji_contracts::codec::merkle_leaf(&bytes)
                    })
                    .collect();
                assert_eq!(it.n_payments, payments.len() as u64);
                assert_eq!(it.root, anji_contracts::codec::merkle_root(&leaves));
            }
            Entity::Participant(_) | Entity::Schedule(_) => {}
        }
    }
    assert_eq!((mandates, payments, refunds), (model.links.len(), model.buys.len(), model.backs.len()));
    assert!(obligations.values().all(|it| *it == (0, 0)), "obligations that the engine does not have: {obligations:?}");
    assert_eq!(world.view.records.len(), model.answers.len());
}

/// Runs the same units again, split into batches and blocks by `cuts`; gives the final state.
fn replay(units: &[Unit], cuts: &[u8]) -> World {
    let mut world = World::with(&tight_genesis());
    let mut block: Vec<CheckedBatch> = Vec::new();
    let mut batch: Vec<Op> = Vec::new();
    let mut codes = Vec::new();
    let mut run = |world: &mut World, block: &mut Vec<CheckedBatch>| {
        let effects = world.block(&std::mem::take(block));
        codes.extend(effects.batches.iter().flat_map(|it| &it.receipts).map(|it| code(&it.result)));
    };
    for (place, (time, signer, unit, _)) in units.iter().enumerate() {
        let cut = cuts.get(place).copied().unwrap_or(0);
        batch.extend(unit.iter().cloned());
        world.now_ms = *time;
        let next = units.get(place + 1);
        let new_block = cut.is_multiple_of(4) || next.is_none_or(|next| next.0 != *time);
        if new_block || cut % 4 == 1 || next.is_none_or(|next| next.1 != *signer) {
            block.push(world.batch(*signer, &std::mem::take(&mut batch)));
        }
        if new_block {
            run(&mut world, &mut block);
        }
    }
    let expected: Vec<u16> = units.iter().flat_map(|it| it.3.clone()).collect();
    assert_eq!(codes, expected, "another split gave another answer");
    // The trees of closed windows come a block later.
    world.block(&[]);
    world
}

fn without_heights(world: &World) -> BTreeMap<ScopedId, (Hash32, u16, u64)> {
    let plain = |it: &anji_contracts::OpRecord| (it.body_hash, code(&it.receipt.result), it.receipt.time_ms);
    world.view.records.iter().map(|(id, it)| (*id, plain(it))).collect()
}

fn any_schedule() -> impl Strategy<Value = FeeSchedule> {
    let leg =
        (1..9_u32, 0..1500_u32, any::<bool>(), 0..8_u8, any::<bool>()).prop_map(|(payee, rate, own, of, back)| {
            let bearer = if own { Bearer::Merchant } else { Bearer::Leg(of) };
            ScheduleLeg { payee: ParticipantId(payee), rate_bps: rate, bearer, returned_on_refund: back }
        });
    (proptest::collection::vec(leg, 1..=8), 0..8_u8)
        .prop_map(|(legs, remainder_leg)| FeeSchedule {
            version: ScheduleVersion(1),
            effective_at_ms: 0,
            legs,
            remainder_leg,
        })
        .prop_map(|mut schedule| {
            schedule.remainder_leg %= schedule.legs.len() as u8;
            let remainder = usize::from(schedule.remainder_leg);
            schedule.legs[remainder].bearer = Bearer::Merchant;
            // Whatever cannot be borne by another leg is borne by the merchant.
            for place in 0..schedule.legs.len() {
                if check_schedule(&schedule).is_err() {
                    schedule.legs[place].bearer = Bearer::Merchant;
                }
            }
            schedule
        })
        .prop_filter("the merchant bears more than everything", |it| check_schedule(it).is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        max_shrink_iters: 4000,
        // A failing case is printed in full and becomes a named test.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_naive_ledger_agrees_step_by_step_and_any_split_gives_the_same(
        steps in steps(),
        cuts in proptest::collection::vec(any::<u8>(), 0..90),
    ) {
        let (world, units) = run_both(&steps);
        let again = replay(&units, &cuts);
        prop_assert_eq!(&world.view.entities, &again.view.entities);
        prop_assert_eq!(&world.view.due, &again.view.due);
        prop_assert_eq!(without_heights(&world), without_heights(&again));
    }

    #[test]
    fn a_repeated_batch_gives_the_same_receipts_and_changes_nothing(steps in steps()) {
        let (mut world, units) = run_both(&steps);
        let now = world.now_ms;
        for (_, signer, unit, codes) in units.iter().filter(|it| it.0 == now) {
            let before = world.view.clone();
            let receipts = world.run_ops(*signer, unit);
            // An id that was not used up may find another state now; everything else is answered as before.
            let used_up = !codes.iter().any(|code| (3001..=3010).contains(code));
            if used_up {
                prop_assert_eq!(&receipts.iter().map(|it| code(&it.result)).collect::<Vec<_>>(), codes);
                for receipt in &receipts {
                    let id = ScopedId { participant: *signer, op_id: receipt.op_id };
                    prop_assert_eq!(&before.records[&id].receipt, receipt, "the first receipt, to the byte");
                }
                prop_assert_eq!(&before.entities, &world.view.entities);
            }
        }
    }

    #[test]
    fn fee_legs_conserve_every_fen(schedule in any_schedule(), amount in 0..u64::MAX / 20_000) {
        let legs = quote(&schedule, Amount(amount)).unwrap();
        let merchant = |place: &usize| schedule.legs[*place].bearer == Bearer::Merchant;
        let total: u128 = (0..legs.len()).filter(merchant).map(|place| legs[place].wide()).sum();
        prop_assert_eq!(total, merchant_total(&schedule, Amount(amount)).unwrap().wide());
        prop_assert!(total <= u128::from(amount));
        // Borne legs never exceed the leg that bears them, so nobody pays out of nothing.
        for (place, leg) in legs.iter().enumerate() {
            let borne = (0..legs.len()).filter(|it| schedule.legs[*it].bearer == Bearer::Leg(place as u8));
            let borne: u128 = borne.map(|it| legs[it].wide()).sum();
            prop_assert!(borne <= leg.wide(), "leg {} bears {} out of {:?}", place, borne, leg);
        }
    }
}

#[test]
fn the_founding_schedule_is_60_50_10_5_10_on_ten_thousand_yuan() {
    let on_top = founding_schedule(Bearing::OnTop, ScheduleVersion(1), 0, PROVIDER, CHANNEL, TECHNICAL);
    let inside = founding_schedule(Bearing::Inside, ScheduleVersion(1), 0, PROVIDER, CHANNEL, TECHNICAL);
    let legs = [6000, 5000, 1000, 500, 1000].map(Amount).to_vec();
    assert_eq!(quote(&on_top, Amount(1_000_000)).unwrap(), legs);
    assert_eq!(quote(&inside, Amount(1_000_000)).unwrap(), legs);
    assert_eq!(merchant_total(&on_top, Amount(1_000_000)).unwrap(), Amount(13_500));
    assert_eq!(merchant_total(&inside, Amount(1_000_000)).unwrap(), Amount(12_000));
    assert_eq!(quote(&on_top, Amount(1)).unwrap(), vec![Amount(0); 5]);
}

/// Every fifth code or so must really be met, or the steps above test nothing.
#[test]
fn the_random_steps_reach_most_of_the_rules() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut seen: BTreeMap<u16, u32> = BTreeMap::new();
    let mut done: BTreeMap<u8, u32> = BTreeMap::new();
    for _ in 0..400 {
        let (world, units) = run_both(&steps().new_tree(&mut runner).unwrap().current());
        for unit in &units {
            for (op, code) in unit.2.iter().zip(&unit.3) {
                *seen.entry(*code).or_default() += 1;
                if *code == 0 {
                    *done.entry(anji_contracts::codec::encode(&op.body)[0]).or_default() += 1;
                }
            }
        }
        assert!(world.view.entities.contains_key(&EntityKey::Control));
    }
    println!("codes: {seen:?}\ndone: {done:?}");
    assert!(seen.len() > 45, "only {} codes were met: {seen:?}", seen.len());
    let in_force = [16, 17, 18, 19, 20, 21, 32, 33, 34, 35, 36, 37, 48, 49, 50, 80, 96, 97, 98];
    assert!(in_force.iter().all(|op| done.contains_key(op)), "operations that never succeeded: {done:?}");
}
