//! Rows of text, one transaction each, ending in the expected code: see `rows.txt`. Every reject has its row.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

mod common;

use anji_contracts::entity::{Bearer, CaptureLeg, Entity, EntityKey, Participant, Suite, WindowStatus};
use anji_contracts::fees::{Bearing, founding_schedule};
use anji_contracts::ops::*;
use anji_contracts::types::*;
use anji_contracts::{Reject, decode_batch, encode_batch};
use common::*;
use ed25519_dalek::Signer;
use std::collections::{BTreeMap, BTreeSet};

/// One row's operation: its words, and `key=value` pairs beside them.
struct Row<'a> {
    words: Vec<&'a str>,
    pairs: BTreeMap<&'a str, &'a str>,
    linked: bool,
    expected: Option<u16>,
}

impl<'a> Row<'a> {
    fn parse(line: &'a str) -> Self {
        let (line, expected) = match line.rsplit_once(" = ") {
            Some((line, code)) => (line, Some(code.trim().parse().unwrap())),
            None => (line, None),
        };
        let (mut words, mut pairs, mut linked) = (Vec::new(), BTreeMap::new(), false);
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some((key, value)) => {
                    pairs.insert(key, value);
                }
                None if word == "+" => linked = true,
                None => words.push(word),
            }
        }
        Self { words, pairs, linked, expected }
    }

    fn pair(&self, key: &str) -> Option<&'a str> {
        self.pairs.get(key).copied()
    }
}

fn participant(name: &str) -> ParticipantId {
    match name {
        "wallet" => ACQUIRER,
        "credit" => ISSUER,
        "provider" => PROVIDER,
        "clearing" => CLEARING,
        "regulator" => REGULATOR,
        "wallet2" => ACQUIRER_2,
        "credit2" => ISSUER_2,
        "nobody" => ParticipantId(77),
        _ => panic!("who is {name}?"),
    }
}

fn amount(text: &str) -> Amount {
    let (yuan, fen) = text.split_once('.').expect("amounts are written 1.00");
    assert_eq!(fen.len(), 2);
    Amount(yuan.parse::<u64>().unwrap() * 100 + fen.parse::<u64>().unwrap())
}

/// `1d`, `-25h`, `+601s` in milliseconds.
fn duration(text: &str) -> i64 {
    let (number, unit) = text.split_at(text.len() - 1);
    let unit = match unit {
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => panic!("what is {text}?"),
    };
    number.parse::<i64>().unwrap() * unit
}

fn scenes(text: &str) -> SceneSet {
    let one = |name| match name {
        "none" => 0,
        other => scene(other).bit(),
    };
    SceneSet(text.split('+').map(one).fold(0, |all, bit| all | bit))
}

fn scene(text: &str) -> Scene {
    match text {
        "online" => Scene::Online,
        "merchant" => Scene::MerchantPresented,
        "payer" => Scene::PayerPresented,
        "inapp" => Scene::InApp,
        "social" => Scene::SocialTransfer,
        _ => panic!("what is {text}?"),
    }
}

/// A ledger and the names that its rows use.
struct Stage {
    world: World,
    names: BTreeMap<String, ScopedId>,
}

impl Stage {
    fn new(row: Option<&Row<'_>>) -> Self {
        let mut genesis = genesis();
        if let Some(row) = row {
            if row.pair("schedules").is_some() {
                let at = START_MS + DAY_MS;
                let next = founding_schedule(Bearing::Inside, ScheduleVersion(2), at, PROVIDER, CHANNEL, TECHNICAL);
                genesis.schedules.push(next);
            }
            if let Some(most) = row.pair("max_refunds") {
                genesis.params.max_refunds = most.parse().unwrap();
            }
        }
        Self { world: World::with(&genesis), names: BTreeMap::new() }
    }

    fn at(&self, text: &str) -> u64 {
        self.world.now_ms.checked_add_signed(duration(text)).unwrap()
    }

    fn named(&self, name: &str) -> ScopedId {
        let unknown = ScopedId { participant: ACQUIRER, op_id: OpId(1) };
        self.names.get(name).copied().unwrap_or(unknown)
    }

    fn mandate(&self, name: &str) -> MandateId {
        MandateId(self.named(name))
    }

    fn payment(&self, name: &str) -> PaymentId {
        PaymentId(self.named(name))
    }

    fn risk(&self, row: &Row<'_>) -> Option<RiskAssertion> {
        let now_ms = self.world.now_ms;
        match row.pair("risk") {
            None => Some(risk()),
            Some("none") => None,
            Some("stale") => Some(RiskAssertion { valid_until_ms: now_ms, ..risk() }),
            Some("short") => Some(RiskAssertion { valid_until_ms: now_ms + 60_000, ..risk() }),
            Some("ahead") => Some(RiskAssertion { as_of_ms: now_ms + 120_001, ..risk() }),
            Some(other) => panic!("what is risk={other}?"),
        }
    }

    fn disclosure(&self, row: &Row<'_>) -> Disclosure {
        let mut it = disclosure();
        if let Some(shown) = row.pair("shown") {
            it.shown_ms = shown.parse().unwrap();
        }
        if row.pair("lender").is_some() {
            it.lender.clear();
        }
        if row.pair("page").is_some() {
            it.page_hash = Hash32::ZERO;
        }
        if let Some(name) = row.pair("provider") {
            it.service_provider = participant(name);
        }
        if let Some(version) = row.pair("shows") {
            it.schedule_version = ScheduleVersion(version.parse().unwrap());
        }
        it
    }

    fn body(&self, row: &Row<'_>) -> OpBody {
        let word = |place: usize| row.words[place];
        let version = |key: &str, default: u32| row.pair(key).map_or(default, |it| it.parse().unwrap());
        let stop = || MandateStop { mandate: self.mandate(word(2)), reason: 1 };
        let step = || RefundStep { refund: RefundId(self.named(word(2))), reason: version("reason", 0) as u16 };
        let window = || WindowId(word(2).parse().unwrap());
        let liquidity = || LiquidityMove {
            participant: participant(word(2)),
            amount: amount(word(3)),
            bank_reference: "B1".into(),
        };
        let until = || row.pair("until").map_or(self.world.now_ms + 10 * DAY_MS, |it| self.at(it));
        let guarantee = |text| Guarantee { amount: amount(text), until_ms: until() };
        let consent =
            |text| Consent { given_at_ms: self.world.now_ms, until_ms: self.at(text), record_hash: Hash32([4; 32]) };
        match word(1) {
            "propose" => {
                let mut it = propose(&self.world);
                it.issuer = row.pair("issuer").map_or(it.issuer, participant);
                it.ceiling = row.pair("ceiling").map_or(it.ceiling, amount);
                it.payment_cap = row.pair("cap").map_or(it.payment_cap, amount);
                it.scenes = row.pair("scenes").map_or(it.scenes, scenes);
                it.expires_at_ms = row.pair("expires").map_or(it.expires_at_ms, |it| self.at(it));
                OpBody::MandatePropose(it)
            }
            "activate" => {
                let mut it = activate(&self.world, self.mandate(word(2)));
                it.ceiling = row.pair("ceiling").map_or(it.ceiling, amount);
                it.payment_cap = row.pair("cap").map_or(it.payment_cap, amount);
                it.scenes = row.pair("scenes").map_or(it.scenes, scenes);
                if row.pair("guarantee") == Some("none") {
                    it.guarantee = None;
                }
                it.assertion = self.risk(row);
                it.disclosure = self.disclosure(row);
                OpBody::MandateActivate(it)
            }
            "refresh" => OpBody::MandateRefresh(MandateRefresh {
                mandate: self.mandate(word(2)),
                guarantee: row.pair("guarantee").map(guarantee),
                assertion: row.pair("risk").and_then(|_| self.risk(row)),
                disclosure: ["shows", "shown"].iter().any(|key| row.pair(key).is_some()).then(|| self.disclosure(row)),
                consent: row.pair("consent").map(consent),
                repaid: row.pair("repaid").map_or(Amount::ZERO, amount),
            }),
            "suspend" => OpBody::MandateSuspend(stop()),
            "resume" => OpBody::MandateResume(stop()),
            "revoke" => OpBody::MandateRevoke(stop()),
            "pay" => OpBody::Pay(Pay {
                amount: amount(word(4)),
                currency: Currency(version("currency", 156) as u16),
                scene: row.pair("scene").map_or(Scene::Online, scene),
                schedule_version: ScheduleVersion(version("schedule", 1)),
                guarantee_version: version("guarantee", 1),
                assertion_version: version("assertion", 1),
                consent_version: version("consent", 1),
                assertion: self.risk(row).unwrap(),
                ..pay(self.mandate(word(3)), 0)
            }),
            "request" => {
                let it = request(&self.world, self.mandate(word(3)), 0);
                OpBody::PaymentRequest(PaymentRequest {
                    amount: amount(word(4)),
                    currency: Currency(version("currency", 156) as u16),
                    scene: row.pair("scene").map_or(Scene::Online, scene),
                    schedule_version: ScheduleVersion(version("schedule", 1)),
                    instalments: version("instalments", 1) as u8,
                    assertion: self.risk(row).unwrap(),
                    answer_by_ms: row.pair("answer").map_or(it.answer_by_ms, |it| self.at(it)),
                    capture_by_ms: row.pair("capture").map_or(it.capture_by_ms, |it| self.at(it)),
                    ..it
                })
            }
            "hold" => OpBody::PaymentHold(PaymentHold {
                payment: self.payment(word(2)),
                assertion: self.risk(row).unwrap(),
                disclosure: row.pair("disclosure").map(|_| self.disclosure(row)),
            }),
            "decline" => OpBody::PaymentDecline(PaymentDecline { payment: self.payment(word(2)), reason: 1 }),
            "capture" => {
                let last = row.words.get(4) == Some(&"last");
                let mut it = capture(self.payment(word(2)), amount(word(3)).0, last);
                if row.pair("merchant").is_some() {
                    it.merchant = Pseudonym([0; 16]);
                }
                if row.pair("category").is_some() {
                    it.category = MerchantCategory(1);
                }
                if row.pair("order").is_some() {
                    it.order_hash = Hash32::ZERO;
                }
                OpBody::PaymentCapture(it)
            }
            "void" => OpBody::PaymentVoid(PaymentVoid { payment: self.payment(word(2)), reason: 1 }),
            "refund" => OpBody::RefundRequest(RefundRequest {
                payment: self.payment(word(3)),
                amount: amount(word(4)),
                reason: 1,
                order_hash: row.pair("order").map_or(order().order_hash, |_| Hash32::ZERO),
            }),
            "post" => OpBody::RefundPost(step()),
            "fail" => OpBody::RefundFail(step()),
            "close" => OpBody::WindowClose(WindowClose { window: window() }),
            "cap" => OpBody::CapSet(CapSet { participant: participant(word(2)), cap: amount(word(3)) }),
            "deposit" => OpBody::LiquidityDeposit(liquidity()),
            "withdraw" => OpBody::LiquidityWithdraw(liquidity()),
            "increment" => {
                let change = PaymentChange { payment: self.payment(word(2)), amount: amount(word(3)) };
                OpBody::PaymentIncrement(change)
            }
            "dispute" => OpBody::DisputeOpen(DisputeOpen {
                payment: self.payment(word(2)),
                amount: amount(word(3)),
                reason: 1,
                evidence_hash: Hash32::ZERO,
            }),
            "attest" => OpBody::WindowAttest(WindowAttest { window: window(), net: -5 }),
            "fund" => OpBody::WindowFund(WindowStep { window: window(), document_hash: Hash32::ZERO }),
            "bilateral" => {
                let set = BilateralCapSet { towards: participant(word(2)), cap: amount(word(3)) };
                OpBody::BilateralCapSet(set)
            }
            "govern" => OpBody::GovernancePropose(GovernancePropose {
                change: GovernanceChange::Upgrade { rules: 2 },
                effective_height: 9,
                reasons_hash: Hash32::ZERO,
            }),
            "seal" => OpBody::SealedReport(SealedReport { window: window(), blob: vec![0; 1024] }),
            other => panic!("what is {other}?"),
        }
    }

    /// Chooses the row's id and remembers it under the row's name.
    fn id(&mut self, row: &Row<'_>, signer: ParticipantId) -> OpId {
        let fresh = self.world.new_id();
        let op_id = match row.pair("id") {
            None => fresh,
            Some(text) => match text.strip_prefix('@') {
                Some(name) => self.names.get(name).map_or(fresh, |id| id.op_id),
                None => OpId::new(self.at(text), self.world.next_id),
            },
        };
        let id = ScopedId { participant: signer, op_id };
        if let Some(name) = row.pair("id").and_then(|text| text.strip_prefix('@')) {
            self.names.insert(name.into(), id);
        }
        if matches!(row.words[1], "propose" | "pay" | "request" | "refund") {
            self.names.insert(row.words[2].into(), id);
        }
        op_id
    }

    fn setup(&mut self) {
        let mandate = self.world.active_mandate();
        self.names.insert("m".into(), mandate.0);
    }

    fn change_participant(&mut self, name: &str, change: impl FnOnce(&mut Participant)) {
        let Some(Entity::Participant(mut it)) =
            self.world.view.entities.get(&EntityKey::Participant(participant(name))).cloned()
        else {
            panic!("{name} is there")
        };
        change(&mut it);
        self.world.view.forge(Entity::Participant(it));
    }

    /// Changes the state behind the ledger's back, for what no operation can reach.
    fn forge(&mut self, words: &[&str]) {
        let now_ms = self.world.now_ms;
        let control = |stage: &Self| match &stage.world.view.entities[&EntityKey::Control] {
            Entity::Control(it) => it.clone(),
            _ => unreachable!(),
        };
        match words[0] {
            "inactive" => self.change_participant(words[1], |it| it.active = false),
            "active" => self.change_participant(words[1], |it| it.active = true),
            "licence-expired" => self.change_participant(words[1], |it| it.licence.expires_at_ms = now_ms),
            "licence-none" => self.change_participant(words[1], |it| it.licence.scenes = SceneSet(0)),
            "revoke-key" => self.change_participant(words[1], |it| it.keys[0].revoked_at_ms = Some(now_ms)),
            "restore-key" => self.change_participant(words[1], |it| it.keys[0].revoked_at_ms = None),
            "greedy-schedule" => {
                let mut it = founding_schedule(Bearing::OnTop, ScheduleVersion(1), 0, PROVIDER, CHANNEL, TECHNICAL);
                it.legs[0].rate_bps = 10_000;
                assert!(anji_contracts::fees::check_schedule(&it).is_err());
                assert_eq!(it.legs[0].bearer, Bearer::Merchant);
                self.world.view.forge(Entity::Schedule(it));
            }
            "unbalance" => {
                let mut it = control(self);
                it.totals.debits_posted += 1;
                self.world.view.forge(Entity::Control(it));
            }
            "huge-liquidity" => {
                let mut it = self.world.position(participant(words[1]));
                it.liquidity.credits_posted = u128::MAX;
                self.world.view.forge(Entity::Position(it));
            }
            "empty-line" => {
                let mut it = self.world.line(self.mandate(words[1]));
                it.balance.debits_pending = 0;
                self.world.view.forge(Entity::Line(it));
            }
            "overcaptured" | "overrefunded" | "legless" => {
                let mut it = self.world.payment(self.payment(words[1])).clone();
                match words[0] {
                    "overcaptured" => {
                        it.captured = Amount(it.held.0 + 1);
                        it.captures.push(CaptureLeg { window: WindowId(1), amount: it.captured });
                    }
                    "overrefunded" => it.refund_reserved = Amount(it.captured.0 + 1),
                    _ => it.fees.clear(),
                }
                self.world.view.forge(Entity::Payment(it));
            }
            "closed-window" => {
                let Some(Entity::Window(mut it)) =
                    self.world.view.entities.get(&EntityKey::Window(WindowId(1))).cloned()
                else {
                    panic!("window 1 is there")
                };
                it.status = WindowStatus::Closed;
                self.world.view.forge(Entity::Window(it));
            }
            "no-schedule" => {
                self.world.view.entities.remove(&EntityKey::Schedule(ScheduleVersion(1)));
            }
            other => panic!("what is {other}?"),
        }
    }

    /// Runs the rows that are linked to each other as one batch; compares every code.
    fn run(&mut self, rows: &[(usize, Row<'_>)]) {
        let signer = participant(rows[0].1.words[0]);
        let mut ops = Vec::new();
        for (_, row) in rows {
            let body = self.body(row);
            let op_id = self.id(row, signer);
            ops.push(Op { op_id, linked: row.linked, body });
        }
        let first = &rows[0].1;
        let key_id = KeyId(first.pair("key").map_or(1, |it| it.parse().unwrap()));
        let expiry = if matches!(first.words[1], "pay") { first.pair("expires") } else { None };
        let expires_at_ms = self.at(expiry.unwrap_or("600s"));
        let sign = |digest: &[u8; 32]| signing_key(signer, 1).sign(digest).to_bytes();
        let bytes = encode_batch(&self.world.chain, signer, key_id, expires_at_ms, &ops, sign).unwrap();
        let batch = decode_batch(&bytes, &self.world.chain).unwrap().assume_verified();
        let before = self.world.view.clone();
        let effects = self.world.try_block(&[batch]);
        let receipts = &effects.batches[0].receipts;
        assert_eq!(receipts.len(), rows.len());
        for ((line, row), receipt) in rows.iter().zip(receipts) {
            let code = code(&receipt.result);
            assert_eq!(Some(code), row.expected, "rows.txt line {line}: got {:?}", receipt.result);
            let alarmed = effects.alarms.iter().any(|(id, _)| id.op_id == receipt.op_id);
            assert_eq!(alarmed, code >= 9000, "rows.txt line {line}: the alarm");
        }
        let nothing_done = rows.iter().all(|(_, row)| row.expected != Some(0));
        if nothing_done && effects.begin.is_empty() {
            assert_eq!(self.world.view.entities, before.entities, "line {}: a reject changed state", rows[0].0);
        }
    }
}

fn check(text: &str) -> BTreeSet<u16> {
    let mut seen = BTreeSet::new();
    let mut stage = Stage::new(None);
    let mut forged = false;
    let mut chain = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if text.starts_with("==") {
            assert!(forged || stage.world.view.scan().is_empty(), "before line {line}: {:?}", stage.world.view.scan());
            stage = Stage::new(None);
            forged = false;
            continue;
        }
        let row = Row::parse(text);
        match row.words[0] {
            "setup" => {
                stage = Stage::new(Some(&row));
                stage.setup();
            }
            "wait" => {
                stage.world.pass(duration(row.words[1]).unsigned_abs());
            }
            "forge" => {
                forged = true;
                stage.forge(&row.words[1..]);
            }
            _ => {
                seen.extend(row.expected);
                let linked = row.linked;
                chain.push((line, row));
                if !linked {
                    stage.run(&std::mem::take(&mut chain));
                }
            }
        }
    }
    seen
}

/// Bytes that no client should send, and what they are told.
fn refused_bytes() -> Vec<(Reject, Vec<u8>)> {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let mut op = |body| Op { op_id: world.new_id(), linked: false, body };
    let ops = [op(OpBody::MandateSuspend(MandateStop { mandate, reason: 0 }))];
    let long = [op(OpBody::LiquidityDeposit(LiquidityMove {
        participant: ISSUER,
        amount: Amount(1),
        bank_reference: "x".repeat(65),
    }))];
    let sealed = [op(OpBody::SealedReport(SealedReport { window: WindowId(1), blob: vec![0; 1023] }))];
    let good = world.batch_bytes(ACQUIRER, &ops);
    // encode_batch refuses such operations, so their bytes are put together here, with the root that belongs to them.
    let raw = |ops: &[Op]| {
        let header_len = 2 + 32 + 4 + 4 + 8 + 4 + 32;
        let mut bytes = good[..header_len - 36].to_vec();
        let encoded: Vec<Vec<u8>> = ops.iter().map(anji_contracts::codec::encode).collect();
        let leaves: Vec<Hash32> = encoded.iter().map(|op| anji_contracts::codec::merkle_leaf(op)).collect();
        bytes.extend((ops.len() as u32).to_le_bytes());
        bytes.extend(anji_contracts::codec::merkle_root(&leaves).0);
        for op in &encoded {
            bytes.extend((op.len() as u32).to_le_bytes());
            bytes.extend(op);
        }
        bytes.extend([0; 64]);
        bytes
    };
    assert_eq!(decode_batch(&raw(&ops), &world.chain).unwrap().ops, ops);
    let change = |at: usize, to: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    };
    let mut many = Vec::new();
    many.extend(change(50, &4097_u32.to_le_bytes()));
    let mut linked = ops.clone();
    linked[0].linked = true;
    vec![
        (Reject::Malformed, good[..good.len() - 1].to_vec()),
        (Reject::Malformed, raw(&sealed)),
        (Reject::UnsupportedFormat, change(0, &[2, 0])),
        (Reject::WrongChain, change(2, &[0; 32])),
        (Reject::TooLarge, vec![0; (1 << 20) + 1]),
        (Reject::TooManyOps, many),
        (Reject::EmptyBatch, change(50, &[0; 4])),
        (Reject::OpsRootMismatch, change(54, &[0; 32])),
        (Reject::TrailingBytes, [good.as_slice(), &[0]].concat()),
        (Reject::LinkUnterminated, raw(&linked)),
        (Reject::FieldTooLong, raw(&long)),
    ]
}

#[test]
fn every_row_ends_in_its_code_and_every_reject_has_a_row() {
    let mut seen = check(include_str!("rows.txt"));
    let chain = genesis().chain_id();
    for (reject, bytes) in refused_bytes() {
        assert_eq!(decode_batch(&bytes, &chain).unwrap_err(), reject);
        seen.insert(reject.code());
    }
    let missing: Vec<_> = Reject::ALL.iter().filter(|reject| !seen.contains(&reject.code())).collect();
    // A bad signature and a repeated batch are told before the ledger: the first by `verify`, tested below, the second by the
    // node, which knows the hashes of the chain. Captures by the hundred have a test of their own.
    assert_eq!(missing, [&Reject::BadSignature, &Reject::BatchRepeated, &Reject::TooManyCaptures]);
}

#[test]
fn a_signature_over_other_bytes_or_by_another_key_is_refused() {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let op = Op { op_id: world.new_id(), linked: false, body: OpBody::Pay(pay(mandate, 100)) };
    let bytes = world.batch_bytes(ACQUIRER, &[op]);
    let key = signing_key(ACQUIRER, 1).verifying_key().to_bytes();
    let decode = |bytes: &[u8]| decode_batch(bytes, &world.chain);
    assert!(decode(&bytes).unwrap().verify(Suite::Ed25519, &key).is_ok());
    let other = signing_key(ISSUER, 1).verifying_key().to_bytes();
    assert_eq!(decode(&bytes).unwrap().verify(Suite::Ed25519, &other).unwrap_err(), Reject::BadSignature);
    assert_eq!(decode(&bytes).unwrap().verify(Suite::Ed25519, &key[..31]).unwrap_err(), Reject::BadSignature);
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        let refused = decode(&flipped).and_then(|batch| batch.verify(Suite::Ed25519, &key)).is_err();
        assert!(refused, "the flipped byte {at} was not noticed");
    }
}

#[test]
fn a_payment_takes_a_hundred_captures_and_no_more() {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let payment = world.held(mandate, 10_000);
    for _ in 0..MAX_CAPTURES {
        world.captured(payment, 1, false);
    }
    let body = OpBody::PaymentCapture(capture(payment, 1, false));
    assert_eq!(world.code(ACQUIRER, body), Reject::TooManyCaptures.code());
    world.done(ACQUIRER, OpBody::PaymentVoid(PaymentVoid { payment, reason: 1 }));
    assert_eq!(world.view.scan(), Vec::<String>::new());
}
