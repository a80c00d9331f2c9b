//! A naive ledger, written from the rules and not from the code: plain maps, sums found by adding everything up again, a copy of
//! the whole state before every unit so that a failure is undone by forgetting. Slow on purpose.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

use anji_contracts::entity::{Bearer, FeeSchedule, MandateStatus, PaymentStatus, RefundStatus, ScheduleLeg};
use anji_contracts::genesis::Genesis;
use anji_contracts::ops::*;
use anji_contracts::types::*;
use std::collections::BTreeMap;

type Code = u16;
type Money = i128;

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;

#[derive(Clone, Debug)]
pub struct Link {
    pub status: MandateStatus,
    pub acquirer: u32,
    pub issuer: u32,
    pub ceiling: Money,
    pub cap: Money,
    pub scenes: u16,
    pub ends: u64,
    pub suspended_by: Option<u32>,
    pub guarantees: Vec<Guarantee>,
    pub assertions: Vec<RiskAssertion>,
    pub disclosures: Vec<Disclosure>,
    pub consents: Vec<Consent>,
    pub repaid: Money,
}

#[derive(Clone, Debug)]
pub struct Buy {
    pub status: PaymentStatus,
    pub mandate: ScopedId,
    pub acquirer: u32,
    pub issuer: u32,
    pub amount: Money,
    pub scene: Scene,
    pub order: Order,
    pub schedule: u32,
    pub instalments: u8,
    pub answer_by: u64,
    pub capture_by: u64,
    pub first_capture: u64,
    pub was_held: bool,
    pub released: Money,
    /// (window, amount)
    pub captures: Vec<(u64, Money)>,
    pub assertion: RiskAssertion,
    /// Which guarantee a `Pay` used.
    pub guarantee: Option<u32>,
}

impl Buy {
    pub fn captured(&self) -> Money {
        self.captures.iter().map(|it| it.1).sum()
    }

    pub fn held(&self) -> Money {
        if self.was_held { self.amount } else { 0 }
    }

    pub fn remaining(&self) -> Money {
        self.held() - self.captured() - self.released
    }
}

#[derive(Clone, Debug)]
pub struct Back {
    pub payment: ScopedId,
    pub status: RefundStatus,
    pub amount: Money,
}

/// One participant owes another.
#[derive(Clone, Debug)]
pub struct Owed {
    pub window: u64,
    pub debtor: u32,
    pub creditor: u32,
    pub amount: Money,
}

#[derive(Clone, Debug)]
pub struct Model {
    pub genesis: Genesis,
    pub now: u64,
    pub links: BTreeMap<ScopedId, Link>,
    pub buys: BTreeMap<ScopedId, Buy>,
    pub backs: BTreeMap<ScopedId, Back>,
    pub owed: Vec<Owed>,
    pub caps: BTreeMap<u32, Money>,
    pub liquidity: BTreeMap<u32, Money>,
    /// When each window ends, or ended; the last one is open.
    pub windows: Vec<u64>,
    pub answers: BTreeMap<ScopedId, (OpBody, Code)>,
}

fn ensure(holds: bool, code: Code) -> Result<(), Code> {
    if holds { Ok(()) } else { Err(code) }
}

impl Model {
    pub fn new(genesis: &Genesis) -> Self {
        let mut model = Self {
            genesis: genesis.clone(),
            now: genesis.time_ms,
            links: BTreeMap::new(),
            buys: BTreeMap::new(),
            backs: BTreeMap::new(),
            owed: Vec::new(),
            caps: genesis.positions.iter().map(|it| (it.participant.0, it.cap.0.into())).collect(),
            liquidity: genesis.positions.iter().map(|it| (it.participant.0, it.liquidity.0.into())).collect(),
            windows: Vec::new(),
            answers: BTreeMap::new(),
        };
        model.open_window();
        model
    }

    fn open_window(&mut self) {
        let length = self.genesis.params.window_length_ms;
        // Days are counted in Beijing; walk there step by step from a midnight.
        let mut end = self.now - (self.now + 8 * 60 * MINUTE) % length;
        while end <= self.now {
            end += length;
        }
        self.windows.push(end);
    }

    pub fn window(&self) -> u64 {
        self.windows.len() as u64
    }

    /// Ledger time comes to `now`.
    pub fn set_time(&mut self, now: u64) {
        self.now = now;
        for link in self.links.values_mut() {
            let open =
                matches!(link.status, MandateStatus::Proposed | MandateStatus::Active | MandateStatus::Suspended);
            if open && link.ends <= now {
                link.status = MandateStatus::Expired;
            }
        }
        for buy in self.buys.values_mut() {
            match buy.status {
                PaymentStatus::Requested if buy.answer_by <= now => buy.status = PaymentStatus::Expired,
                PaymentStatus::Held if buy.capture_by <= now => {
                    buy.released = buy.amount;
                    buy.status = PaymentStatus::Expired;
                }
                PaymentStatus::PartCaptured if buy.capture_by <= now => {
                    buy.released = buy.amount - buy.captured();
                    buy.status = PaymentStatus::Captured;
                }
                _ => {}
            }
        }
        if *self.windows.last().unwrap() <= now {
            self.open_window();
        }
    }

    fn schedule_in_force(&self) -> u32 {
        let effective = self.genesis.schedules.iter().filter(|it| it.effective_at_ms <= self.now);
        effective.map(|it| it.version.0).max().unwrap()
    }

    fn schedule(&self, version: u32) -> Option<&FeeSchedule> {
        self.genesis.schedules.iter().find(|it| it.version.0 == version)
    }

    pub fn holds(&self, issuer: u32) -> Money {
        self.buys.values().filter(|it| it.issuer == issuer).map(Buy::remaining).sum()
    }

    pub fn debits(&self, who: u32) -> Money {
        self.owed.iter().filter(|it| it.debtor == who).map(|it| it.amount).sum()
    }

    pub fn credits(&self, who: u32) -> Money {
        self.owed.iter().filter(|it| it.creditor == who).map(|it| it.amount).sum()
    }

    pub fn cap(&self, who: u32) -> Money {
        self.caps.get(&who).copied().unwrap_or(0)
    }

    pub fn cover(&self, who: u32) -> Money {
        self.liquidity.get(&who).copied().unwrap_or(0)
    }

    fn exposure(&self, who: u32, more_held: Money, more_owed: Money) -> Money {
        self.holds(who) + more_held + (self.debits(who) + more_owed - self.credits(who)).max(0)
    }

    pub fn of_line(&self, mandate: ScopedId) -> (Money, Money, Money) {
        let of = || self.buys.iter().filter(move |(_, it)| it.mandate == mandate);
        let pending = of().map(|(_, it)| it.remaining()).sum();
        let posted = of().map(|(_, it)| it.captured()).sum();
        let refunded: Money = of().map(|(id, _)| self.refunded(*id)).sum();
        (pending, posted, refunded + self.links[&mandate].repaid)
    }

    /// Payments with a capture in the window, by id.
    pub fn captured_in(&self, window: u64) -> Vec<ScopedId> {
        self.buys.iter().filter(|(_, it)| it.captures.iter().any(|leg| leg.0 == window)).map(|(id, _)| *id).collect()
    }

    pub fn refunds(&self, payment: ScopedId) -> impl Iterator<Item = &Back> {
        self.backs.values().filter(move |it| it.payment == payment)
    }

    pub fn refunded(&self, payment: ScopedId) -> Money {
        self.refunds(payment).filter(|it| it.status == RefundStatus::Posted).map(|it| it.amount).sum()
    }

    pub fn reserved(&self, payment: ScopedId) -> Money {
        self.refunds(payment).filter(|it| it.status != RefundStatus::Failed).map(|it| it.amount).sum()
    }

    /// What each leg is on a cumulative amount: rounded down; the merchant's total rounded to the nearest, halves up; the
    /// remainder leg takes what is left of it.
    pub fn quote(&self, version: u32, amount: Money) -> Vec<Money> {
        let schedule = self.schedule(version).unwrap();
        let by_merchant = |leg: &&ScheduleLeg| leg.bearer == Bearer::Merchant;
        let rate: Money = schedule.legs.iter().filter(by_merchant).map(|leg| Money::from(leg.rate_bps)).sum();
        let twice = 2 * rate * amount;
        let total = twice / 20_000 + Money::from(twice % 20_000 >= 10_000);
        let mut legs: Vec<Money> =
            schedule.legs.iter().map(|leg| (Money::from(leg.rate_bps) * amount).div_euclid(10_000)).collect();
        let place = usize::from(schedule.remainder_leg);
        legs[place] = 0;
        let others: Money =
            schedule.legs.iter().zip(&legs).filter(|(leg, _)| leg.bearer == Bearer::Merchant).map(|(_, it)| it).sum();
        legs[place] = total - others;
        legs
    }

    pub fn payee(&self, buy: &Buy, place: usize) -> u32 {
        match self.schedule(buy.schedule).unwrap().legs[place].payee {
            ScheduleLeg::ACQUIRER => buy.acquirer,
            ScheduleLeg::ISSUER => buy.issuer,
            other => other.0,
        }
    }

    fn owe(&mut self, debtor: u32, creditor: u32, amount: Money) {
        let window = self.window();
        if amount < 0 {
            self.owed.push(Owed { window, debtor: creditor, creditor: debtor, amount: -amount });
        } else if amount > 0 {
            self.owed.push(Owed { window, debtor, creditor, amount });
        }
    }

    /// Fee legs move from one cumulative amount to another; backwards for refunds.
    fn owe_legs(&mut self, buy: &Buy, from: Money, to: Money, backwards: bool) {
        let (before, after) = (self.quote(buy.schedule, from), self.quote(buy.schedule, to));
        let legs = self.schedule(buy.schedule).unwrap().legs.clone();
        for (place, leg) in legs.iter().enumerate() {
            let payee = self.payee(buy, place);
            let payer = match leg.bearer {
                Bearer::Merchant => buy.acquirer,
                Bearer::Leg(of) => self.payee(buy, usize::from(of)),
            };
            if payer == payee || (backwards && !leg.returned_on_refund) {
                continue;
            }
            let amount = after[place] - before[place];
            if backwards { self.owe(payee, payer, amount) } else { self.owe(payer, payee, amount) }
        }
    }

    /// Runs a lone operation or a chain; gives one code each.
    pub fn run(&mut self, signer: u32, unit: &[Op]) -> Vec<Code> {
        let before = self.clone();
        let mut codes: Vec<Code> = Vec::new();
        for op in unit {
            let id = ScopedId { participant: ParticipantId(signer), op_id: op.op_id };
            let code = self.run_one(signer, id, &op.body);
            codes.push(code);
            if code == 0 {
                continue;
            }
            // Everything of this unit never happened, but for the record of what failed.
            let already = before.answers.contains_key(&id);
            *self = before.clone();
            if !already && !matches!(code, 3001..=3003) {
                self.answers.insert(id, (op.body.clone(), code));
            }
            let failed = codes.len() - 1;
            return (0..unit.len())
                .map(|place| if place == failed { code } else { self.partner_code(signer, &unit[place]) })
                .collect();
        }
        codes
    }

    fn partner_code(&self, signer: u32, op: &Op) -> Code {
        let id = ScopedId { participant: ParticipantId(signer), op_id: op.op_id };
        match self.answers.get(&id) {
            Some((body, code)) if *body == op.body && self.id_time(id).is_ok() => *code,
            _ => 3010,
        }
    }

    fn id_time(&self, id: ScopedId) -> Result<(), Code> {
        let at = id.op_id.time_ms();
        ensure(at + DAY >= self.now, 3002)?;
        ensure(at <= self.now + 2 * MINUTE, 3003)
    }

    fn run_one(&mut self, signer: u32, id: ScopedId, body: &OpBody) -> Code {
        if let Err(code) = self.id_time(id) {
            return code;
        }
        if let Some((first, code)) = self.answers.get(&id) {
            return if first == body { *code } else { 3001 };
        }
        match self.apply(signer, id, body) {
            Ok(()) => {
                self.answers.insert(id, (body.clone(), 0));
                0
            }
            Err(code) => code,
        }
    }

    fn role(&self, who: u32) -> Option<Role> {
        self.genesis.participants.iter().find(|it| it.id.0 == who).map(|it| it.role)
    }

    fn licence(&self, who: u32) -> &anji_contracts::entity::Licence {
        &self.genesis.participants.iter().find(|it| it.id.0 == who).unwrap().licence
    }

    fn signer(&self, who: u32, roles: &[Role]) -> Result<(), Code> {
        ensure(roles.contains(&self.role(who).unwrap()), 2001)?;
        self.standing(who)
    }

    fn standing(&self, who: u32) -> Result<(), Code> {
        ensure(self.genesis.participants[who as usize - 1].active, 2003)?;
        ensure(self.now < self.licence(who).expires_at_ms, 2004)
    }

    fn scope(&self, who: u32, scenes: u16) -> Result<(), Code> {
        ensure(scenes & !self.licence(who).scenes.0 == 0, 2005)
    }

    fn fresh(&self, it: Option<&RiskAssertion>) -> Result<(), Code> {
        let good = it.is_some_and(|it| it.as_of_ms <= self.now + 2 * MINUTE && it.valid_until_ms > self.now);
        ensure(good, 4013)
    }

    fn consented(&self, it: Option<&Consent>) -> Result<(), Code> {
        let good = it.is_some_and(|it| it.given_at_ms <= self.now + 2 * MINUTE && it.until_ms > self.now);
        ensure(good, 4015)
    }

    fn shown(&self, it: Option<&Disclosure>, schedule: Option<u32>) -> Result<(), Code> {
        let good = it.is_some_and(|it| {
            !it.lender.is_empty()
                && it.page_hash.0 != [0; 32]
                && it.shown_ms >= self.genesis.params.min_disclosure_shown_ms
                && schedule.is_none_or(|version| version == it.schedule_version.0)
        });
        ensure(good, 4016)
    }

    fn active(link: &Link) -> Result<(), Code> {
        match link.status {
            MandateStatus::Active => Ok(()),
            MandateStatus::Proposed => Err(4002),
            MandateStatus::Suspended => Err(4003),
            MandateStatus::Revoked => Err(4004),
            MandateStatus::Expired => Err(4005),
        }
    }

    /// The terms an issuer signs at activation and refresh.
    fn issuer_terms(
        &self,
        guarantee: Option<&Guarantee>,
        assertion: Option<&RiskAssertion>,
        disclosure: Option<&Disclosure>,
        consent: Option<&Consent>,
    ) -> Result<(), Code> {
        ensure(guarantee.is_none_or(|it| it.until_ms > self.now), 4010)?;
        assertion.map_or(Ok(()), |it| self.fresh(Some(it)))?;
        consent.map_or(Ok(()), |it| self.consented(Some(it)))?;
        if let Some(it) = disclosure {
            self.shown(Some(it), None)?;
            ensure(self.role(it.service_provider.0) == Some(Role::ServiceProvider), 4016)?;
            ensure(self.schedule(it.schedule_version.0).is_some(), 4016)?;
        }
        Ok(())
    }

    fn link(&self, id: MandateId) -> Result<Link, Code> {
        self.links.get(&id.0).cloned().ok_or(3004)
    }

    fn buy(&self, id: PaymentId) -> Result<Buy, Code> {
        self.buys.get(&id.0).cloned().ok_or(3005)
    }

    fn apply(&mut self, signer: u32, id: ScopedId, body: &OpBody) -> Result<(), Code> {
        match body {
            OpBody::MandatePropose(op) => self.propose(signer, id, op),
            OpBody::MandateActivate(op) => self.activate(signer, op),
            OpBody::MandateRefresh(op) => self.refresh(signer, op),
            OpBody::MandateSuspend(op) => {
                let mut link = self.stoppable(signer, op)?;
                Self::active(&link)?;
                link.status = MandateStatus::Suspended;
                link.suspended_by = Some(signer);
                self.links.insert(op.mandate.0, link);
                Ok(())
            }
            OpBody::MandateResume(op) => {
                let mut link = self.stoppable(signer, op)?;
                match link.status {
                    MandateStatus::Revoked => return Err(4004),
                    MandateStatus::Expired => return Err(4005),
                    MandateStatus::Proposed | MandateStatus::Active => return Err(4006),
                    MandateStatus::Suspended => ensure(link.suspended_by == Some(signer), 4007)?,
                }
                link.status = MandateStatus::Active;
                self.links.insert(op.mandate.0, link);
                Ok(())
            }
            OpBody::MandateRevoke(op) => {
                let mut link = self.stoppable(signer, op)?;
                ensure(link.status != MandateStatus::Revoked, 4004)?;
                ensure(link.status != MandateStatus::Expired, 4005)?;
                link.status = MandateStatus::Revoked;
                self.links.insert(op.mandate.0, link);
                Ok(())
            }
            OpBody::Pay(op) => self.pay(signer, id, op),
            OpBody::PaymentRequest(op) => self.request(signer, id, op),
            OpBody::PaymentHold(op) => self.hold(signer, op),
            OpBody::PaymentDecline(op) => {
                self.signer(signer, &[Role::Issuer])?;
                let mut buy = self.buy(op.payment)?;
                ensure(buy.issuer == signer, 2002)?;
                Self::answerable(&buy)?;
                buy.status = PaymentStatus::Declined;
                self.buys.insert(op.payment.0, buy);
                Ok(())
            }
            OpBody::PaymentCapture(op) => self.capture(signer, op),
            OpBody::PaymentVoid(op) => {
                self.signer(signer, &[Role::Acquirer])?;
                let mut buy = self.buy(op.payment)?;
                ensure(buy.acquirer == signer, 2002)?;
                Self::takeable(&buy)?;
                buy.released = buy.amount - buy.captured();
                buy.status = if buy.captures.is_empty() { PaymentStatus::Voided } else { PaymentStatus::Captured };
                self.buys.insert(op.payment.0, buy);
                Ok(())
            }
            OpBody::RefundRequest(op) => self.ask_back(signer, id, op),
            OpBody::RefundPost(op) => {
                let (mut back, buy) = self.back(signer, op)?;
                let limit = self.cap(buy.acquirer).min(self.cover(buy.acquirer));
                ensure(self.exposure(buy.acquirer, 0, back.amount) <= limit, 5016)?;
                let before = self.refunded(back.payment);
                self.owe(buy.acquirer, buy.issuer, back.amount);
                self.owe_legs(&buy, before, before + back.amount, true);
                back.status = RefundStatus::Posted;
                self.backs.insert(op.refund.0, back);
                Ok(())
            }
            OpBody::RefundFail(op) => {
                let (mut back, _) = self.back(signer, op)?;
                back.status = RefundStatus::Failed;
                self.backs.insert(op.refund.0, back);
                Ok(())
            }
            OpBody::WindowClose(op) => {
                self.signer(signer, &[Role::Clearing])?;
                ensure(op.window.0 >= 1 && op.window.0 <= self.window(), 3007)?;
                ensure(op.window.0 == self.window(), 5012)?;
                self.open_window();
                Ok(())
            }
            OpBody::CapSet(op) => {
                self.signer(signer, &[Role::Acquirer, Role::Issuer, Role::ServiceProvider, Role::Clearing])?;
                let who = op.participant.0;
                ensure(self.role(who).is_some(), 3008)?;
                if self.role(signer) != Some(Role::Clearing) {
                    ensure(who == signer, 2002)?;
                    ensure(Money::from(op.cap.0) <= self.cap(who), 5013)?;
                }
                self.caps.insert(who, op.cap.0.into());
                Ok(())
            }
            OpBody::LiquidityDeposit(op) => {
                self.signer(signer, &[Role::Clearing])?;
                ensure(self.role(op.participant.0).is_some(), 3008)?;
                ensure(op.amount.0 > 0, 5001)?;
                *self.liquidity.entry(op.participant.0).or_default() += Money::from(op.amount.0);
                Ok(())
            }
            OpBody::LiquidityWithdraw(op) => {
                self.signer(signer, &[Role::Clearing])?;
                let who = op.participant.0;
                ensure(self.role(who).is_some(), 3008)?;
                ensure(op.amount.0 > 0, 5001)?;
                let rest = self.cover(who) - Money::from(op.amount.0);
                ensure(rest >= 0 && rest >= self.exposure(who, 0, 0), 5014)?;
                self.liquidity.insert(who, rest);
                Ok(())
            }
            _ => Err(2009),
        }
    }

    fn propose(&mut self, signer: u32, id: ScopedId, op: &MandatePropose) -> Result<(), Code> {
        self.signer(signer, &[Role::Acquirer])?;
        ensure(!op.scenes.contains(Scene::SocialTransfer), 2007)?;
        let issuer = op.issuer.0;
        let role = self.role(issuer).ok_or(3008_u16)?;
        ensure(issuer != signer, 2010)?;
        ensure(role == Role::Issuer, 2001)?;
        self.standing(issuer)?;
        self.scope(signer, op.scenes.0)?;
        self.scope(issuer, op.scenes.0)?;
        ensure(op.scenes.0 != 0, 2006)?;
        ensure(op.expires_at_ms > self.now, 4021)?;
        ensure(op.ceiling.0 > 0 && op.payment_cap.0 > 0, 5001)?;
        let link = Link {
            status: MandateStatus::Proposed,
            acquirer: signer,
            issuer,
            ceiling: op.ceiling.0.into(),
            cap: op.payment_cap.0.into(),
            scenes: op.scenes.0,
            ends: op.expires_at_ms,
            suspended_by: None,
            guarantees: Vec::new(),
            assertions: Vec::new(),
            disclosures: Vec::new(),
            consents: Vec::new(),
            repaid: 0,
        };
        self.links.insert(id, link);
        Ok(())
    }

    fn activate(&mut self, signer: u32, op: &MandateActivate) -> Result<(), Code> {
        self.signer(signer, &[Role::Issuer])?;
        let mut link = self.link(op.mandate)?;
        ensure(link.issuer == signer, 2002)?;
        match link.status {
            MandateStatus::Proposed => {}
            MandateStatus::Active | MandateStatus::Suspended => return Err(4001),
            MandateStatus::Revoked => return Err(4004),
            MandateStatus::Expired => return Err(4005),
        }
        self.standing(link.acquirer)?;
        self.scope(signer, op.scenes.0)?;
        ensure(op.scenes.0 != 0, 2006)?;
        let (ceiling, cap) = (Money::from(op.ceiling.0), Money::from(op.payment_cap.0));
        ensure(ceiling <= link.ceiling && cap <= link.cap && op.scenes.0 & !link.scenes == 0, 4008)?;
        self.issuer_terms(op.guarantee.as_ref(), op.assertion.as_ref(), Some(&op.disclosure), Some(&op.consent))?;
        ensure(ceiling > 0 && cap > 0, 5001)?;
        link.status = MandateStatus::Active;
        link.ceiling = ceiling;
        link.cap = cap;
        link.scenes = op.scenes.0;
        link.guarantees.extend(op.guarantee);
        link.assertions.extend(op.assertion);
        link.disclosures.push(op.disclosure.clone());
        link.consents.push(op.consent);
        self.links.insert(op.mandate.0, link);
        Ok(())
    }

    fn refresh(&mut self, signer: u32, op: &MandateRefresh) -> Result<(), Code> {
        self.signer(signer, &[Role::Issuer])?;
        let mut link = self.link(op.mandate)?;
        ensure(link.issuer == signer, 2002)?;
        let only_repaid =
            op.guarantee.is_none() && op.assertion.is_none() && op.disclosure.is_none() && op.consent.is_none();
        match link.status {
            MandateStatus::Proposed => return Err(4002),
            MandateStatus::Revoked if !only_repaid => return Err(4004),
            MandateStatus::Expired if !only_repaid => return Err(4005),
            _ => {}
        }
        self.issuer_terms(op.guarantee.as_ref(), op.assertion.as_ref(), op.disclosure.as_ref(), op.consent.as_ref())?;
        let (_, posted, credited) = self.of_line(op.mandate.0);
        ensure(Money::from(op.repaid.0) <= (posted - credited).max(0), 4022)?;
        ensure(!(only_repaid && op.repaid.0 == 0), 5001)?;
        link.repaid += Money::from(op.repaid.0);
        link.guarantees.extend(op.guarantee);
        link.assertions.extend(op.assertion);
        link.disclosures.extend(op.disclosure.clone());
        link.consents.extend(op.consent);
        self.links.insert(op.mandate.0, link);
        Ok(())
    }

    fn stoppable(&self, signer: u32, op: &MandateStop) -> Result<Link, Code> {
        self.signer(signer, &[Role::Acquirer, Role::Issuer])?;
        let link = self.link(op.mandate)?;
        ensure(link.acquirer == signer || link.issuer == signer, 2002)?;
        Ok(link)
    }

    fn new_payment(
        &self,
        signer: u32,
        mandate: MandateId,
        currency: Currency,
        scene: Scene,
        version: u32,
    ) -> Result<Link, Code> {
        self.signer(signer, &[Role::Acquirer])?;
        ensure(scene != Scene::SocialTransfer, 2007)?;
        ensure(currency == self.genesis.currency, 2008)?;
        let link = self.link(mandate)?;
        ensure(self.schedule(version).is_some(), 3009)?;
        ensure(link.acquirer == signer, 2002)?;
        Self::active(&link)?;
        self.standing(link.issuer)?;
        self.scope(signer, 1 << scene as u8)?;
        self.scope(link.issuer, 1 << scene as u8)?;
        ensure(link.scenes >> (scene as u8) & 1 == 1, 2006)?;
        Ok(link)
    }

    fn money(&self, mandate: MandateId, link: &Link, amount: Money) -> Result<(), Code> {
        let (pending, posted, credited) = self.of_line(mandate.0);
        ensure(pending + posted - credited + amount <= link.ceiling, 4018)?;
        let exposure = self.exposure(link.issuer, amount, 0);
        ensure(exposure <= self.cap(link.issuer), 4019)?;
        ensure(exposure <= self.cover(link.issuer), 4020)
    }

    fn amount(&self, amount: Money, version: u32) -> Result<(), Code> {
        ensure(amount > 0, 5001)?;
        ensure(version == self.schedule_in_force(), 5007)
    }

    fn take(&mut self, buy: &mut Buy, amount: Money) {
        if buy.captures.is_empty() {
            buy.first_capture = self.now;
        }
        let before = buy.captured();
        buy.captures.push((self.window(), amount));
        self.owe(buy.issuer, buy.acquirer, amount);
        self.owe_legs(buy, before, before + amount, false);
    }

    fn pay(&mut self, signer: u32, id: ScopedId, op: &Pay) -> Result<(), Code> {
        let version = op.schedule_version.0;
        let link = self.new_payment(signer, op.mandate, op.currency, op.scene, version)?;
        let amount = Money::from(op.amount.0);
        ensure(op.guarantee_version as usize == link.guarantees.len(), 4009)?;
        let guarantee = link.guarantees.last().filter(|it| it.until_ms > self.now).ok_or(4010_u16)?;
        let used: Money = self
            .buys
            .values()
            .filter(|it| it.mandate == op.mandate.0 && it.guarantee == Some(op.guarantee_version))
            .map(|it| it.amount)
            .sum();
        ensure(used + amount <= Money::from(guarantee.amount.0), 4011)?;
        ensure(op.assertion_version as usize == link.assertions.len(), 4012)?;
        self.fresh(link.assertions.last())?;
        self.fresh(Some(&op.assertion))?;
        ensure(op.consent_version as usize == link.consents.len(), 4014)?;
        self.consented(link.consents.last())?;
        self.shown(link.disclosures.last(), Some(version))?;
        ensure(amount <= link.cap, 4017)?;
        self.money(op.mandate, &link, amount)?;
        self.amount(amount, version)?;
        let mut buy = Buy {
            status: PaymentStatus::Captured,
            mandate: op.mandate.0,
            acquirer: signer,
            issuer: link.issuer,
            amount,
            scene: op.scene,
            order: op.order.clone(),
            schedule: version,
            instalments: 1,
            answer_by: 0,
            capture_by: 0,
            first_capture: 0,
            was_held: true,
            released: 0,
            captures: Vec::new(),
            assertion: op.assertion,
            guarantee: Some(op.guarantee_version),
        };
        self.take(&mut buy, amount);
        self.buys.insert(id, buy);
        Ok(())
    }

    fn request(&mut self, signer: u32, id: ScopedId, op: &PaymentRequest) -> Result<(), Code> {
        let version = op.schedule_version.0;
        let link = self.new_payment(signer, op.mandate, op.currency, op.scene, version)?;
        let amount = Money::from(op.amount.0);
        self.fresh(Some(&op.assertion))?;
        ensure(amount <= link.cap, 4017)?;
        let params = &self.genesis.params;
        ensure(op.answer_by_ms > self.now && op.answer_by_ms - self.now <= params.max_answer_ms, 4021)?;
        ensure(op.capture_by_ms >= op.answer_by_ms && op.capture_by_ms - self.now <= params.max_hold_ms, 4021)?;
        self.amount(amount, version)?;
        let buy = Buy {
            status: PaymentStatus::Requested,
            mandate: op.mandate.0,
            acquirer: signer,
            issuer: link.issuer,
            amount,
            scene: op.scene,
            order: op.order.clone(),
            schedule: version,
            instalments: op.instalments,
            answer_by: op.answer_by_ms,
            capture_by: op.capture_by_ms,
            first_capture: 0,
            was_held: false,
            released: 0,
            captures: Vec::new(),
            assertion: op.assertion,
            guarantee: None,
        };
        self.buys.insert(id, buy);
        Ok(())
    }

    fn answerable(buy: &Buy) -> Result<(), Code> {
        match buy.status {
            PaymentStatus::Requested => Ok(()),
            PaymentStatus::Expired => Err(5004),
            _ => Err(5002),
        }
    }

    fn takeable(buy: &Buy) -> Result<(), Code> {
        match buy.status {
            PaymentStatus::Held | PaymentStatus::PartCaptured => Ok(()),
            PaymentStatus::Expired => Err(5004),
            _ => Err(5003),
        }
    }

    fn hold(&mut self, signer: u32, op: &PaymentHold) -> Result<(), Code> {
        self.signer(signer, &[Role::Issuer])?;
        let mut buy = self.buy(op.payment)?;
        ensure(buy.issuer == signer, 2002)?;
        Self::answerable(&buy)?;
        let link = self.links[&buy.mandate].clone();
        Self::active(&link)?;
        self.standing(buy.acquirer)?;
        self.scope(buy.acquirer, 1 << buy.scene as u8)?;
        self.scope(signer, 1 << buy.scene as u8)?;
        self.fresh(Some(&op.assertion))?;
        self.fresh(Some(&buy.assertion))?;
        self.consented(link.consents.last())?;
        let on_mandate = if buy.instalments > 1 { None } else { link.disclosures.last() };
        self.shown(op.disclosure.as_ref().or(on_mandate), Some(buy.schedule))?;
        self.money(MandateId(buy.mandate), &link, buy.amount)?;
        buy.was_held = true;
        buy.status = PaymentStatus::Held;
        self.buys.insert(op.payment.0, buy);
        Ok(())
    }

    fn capture(&mut self, signer: u32, op: &PaymentCapture) -> Result<(), Code> {
        self.signer(signer, &[Role::Acquirer])?;
        let mut buy = self.buy(op.payment)?;
        ensure(buy.acquirer == signer, 2002)?;
        Self::takeable(&buy)?;
        let amount = Money::from(op.amount.0);
        ensure(amount > 0, 5001)?;
        ensure(amount <= buy.remaining(), 5005)?;
        let bound = (buy.order.merchant, buy.order.category, buy.order.order_hash);
        ensure((op.merchant, op.category, op.order_hash) == bound, 5006)?;
        ensure(buy.captures.len() < 100, 5017)?;
        self.take(&mut buy, amount);
        buy.status = PaymentStatus::PartCaptured;
        if op.last || buy.remaining() == 0 {
            buy.released = buy.amount - buy.captured();
            buy.status = PaymentStatus::Captured;
        }
        self.buys.insert(op.payment.0, buy);
        Ok(())
    }

    fn ask_back(&mut self, signer: u32, id: ScopedId, op: &RefundRequest) -> Result<(), Code> {
        self.signer(signer, &[Role::Acquirer])?;
        let buy = self.buy(op.payment)?;
        ensure(buy.acquirer == signer, 2002)?;
        let amount = Money::from(op.amount.0);
        ensure(amount > 0, 5001)?;
        ensure(op.order_hash == buy.order.order_hash, 5006)?;
        ensure(amount <= buy.captured() - self.reserved(op.payment.0), 5008)?;
        let count = self.refunds(op.payment.0).count();
        ensure(count < usize::from(self.genesis.params.max_refunds), 5009)?;
        ensure(self.now - buy.first_capture <= self.genesis.params.refund_period_ms, 5010)?;
        let limit = self.cap(signer).min(self.cover(signer));
        ensure(self.exposure(signer, 0, amount) <= limit, 5016)?;
        self.backs.insert(id, Back { payment: op.payment.0, status: RefundStatus::Accepted, amount });
        Ok(())
    }

    fn back(&self, signer: u32, op: &RefundStep) -> Result<(Back, Buy), Code> {
        self.signer(signer, &[Role::Issuer])?;
        let back = self.backs.get(&op.refund.0).cloned().ok_or(3006_u16)?;
        let buy = self.buys[&back.payment].clone();
        ensure(buy.issuer == signer, 2002)?;
        ensure(back.status == RefundStatus::Accepted, 5011)?;
        Ok((back, buy))
    }
}
