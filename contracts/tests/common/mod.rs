//! A ledger in memory for the tests: the state as plain maps, a genesis with every role, and short ways to run operations.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "shared by test binaries"
)]

use anji_contracts::batch::MAX_BATCH_LIFE_MS;
use anji_contracts::block::{BlockContext, BlockEffects, BlockExecutor, StateView, Write};
use anji_contracts::entity::{
    EncryptionKey, Entity, EntityKey, Key, Licence, Line, Obligation, OpRecord, Participant, Payment, Position,
    SealSuite, Suite,
};
use anji_contracts::entry::{OpResult, Receipt};
use anji_contracts::fees::{Bearing, founding_schedule};
use anji_contracts::genesis::{Genesis, GenesisPosition, GenesisValidator, Params};
use anji_contracts::invariants::Scan;
use anji_contracts::ops::*;
use anji_contracts::types::*;
use anji_contracts::window_tree::WindowTree;
use anji_contracts::{CheckedBatch, decode_batch, encode_batch, genesis_writes};
use ed25519_dalek::{Signer, SigningKey};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

pub const START_MS: u64 = 1_800_000_000_000;
pub const HOUR_MS: u64 = 3_600_000;
pub const DAY_MS: u64 = 24 * HOUR_MS;

pub const ACQUIRER: ParticipantId = ParticipantId(1);
pub const ISSUER: ParticipantId = ParticipantId(2);
pub const PROVIDER: ParticipantId = ParticipantId(3);
pub const CLEARING: ParticipantId = ParticipantId(4);
pub const CHANNEL: ParticipantId = ParticipantId(5);
pub const TECHNICAL: ParticipantId = ParticipantId(6);
pub const REGULATOR: ParticipantId = ParticipantId(7);
pub const ACQUIRER_2: ParticipantId = ParticipantId(8);
pub const ISSUER_2: ParticipantId = ParticipantId(9);

pub const SCENES: [Scene; 3] = [Scene::Online, Scene::MerchantPresented, Scene::PayerPresented];

pub fn signing_key(participant: ParticipantId, key_id: u32) -> SigningKey {
    let mut seed = [7; 32];
    seed[0] = participant.0 as u8;
    seed[1] = key_id as u8;
    SigningKey::from_bytes(&seed)
}

pub fn genesis() -> Genesis {
    let participant = |id: ParticipantId, role, name: &str| Participant {
        id,
        role,
        name: name.into(),
        legal_name: format!("{name} Ltd"),
        active: true,
        licence: Licence {
            number: format!("Z{:04}", id.0),
            scenes: SceneSet::of(&SCENES),
            expires_at_ms: START_MS + 1000 * DAY_MS,
        },
        keys: vec![Key {
            key_id: KeyId(1),
            suite: Suite::Ed25519,
            public_key: signing_key(id, 1).verifying_key().to_bytes().to_vec(),
            valid_from_ms: 0,
            valid_until_ms: u64::MAX,
            revoked_at_ms: None,
        }],
        encryption: Some(EncryptionKey { suite: SealSuite::X25519, public_key: vec![id.0 as u8; 32] }),
    };
    let position =
        |participant| GenesisPosition { participant, cap: Amount(1_000_000_000), liquidity: Amount(1_000_000_000) };
    Genesis {
        format: 1,
        name: "test".into(),
        salt: [1; 32],
        time_ms: START_MS - 1000,
        currency: Currency::CNY,
        params: Params::default(),
        participants: vec![
            participant(ACQUIRER, Role::Acquirer, "wallet"),
            participant(ISSUER, Role::Issuer, "credit"),
            participant(PROVIDER, Role::ServiceProvider, "provider"),
            participant(CLEARING, Role::Clearing, "clearing"),
            participant(CHANNEL, Role::FeePayee, "channel"),
            participant(TECHNICAL, Role::FeePayee, "technical"),
            participant(REGULATOR, Role::Regulator, "regulator"),
            participant(ACQUIRER_2, Role::Acquirer, "wallet2"),
            participant(ISSUER_2, Role::Issuer, "credit2"),
        ],
        validators: vec![GenesisValidator {
            participant: ACQUIRER,
            public_key: signing_key(ACQUIRER, 99).verifying_key().to_bytes(),
            power: 1,
        }],
        schedules: vec![founding_schedule(Bearing::OnTop, ScheduleVersion(1), 0, PROVIDER, CHANNEL, TECHNICAL)],
        positions: vec![position(ACQUIRER), position(ISSUER), position(ACQUIRER_2), position(ISSUER_2)],
    }
}

/// The state as plain maps.
#[derive(Clone, Default, Debug)]
pub struct MemoryView {
    pub entities: BTreeMap<EntityKey, Entity>,
    pub records: BTreeMap<ScopedId, OpRecord>,
    pub due: BTreeSet<(u64, EntityKey)>,
    pub captured: BTreeSet<(WindowId, PaymentId)>,
    pub window_tree: WindowTree,
}

impl StateView for MemoryView {
    type Error = Infallible;

    fn entity(&self, key: &EntityKey) -> Result<Option<Entity>, Infallible> {
        Ok(self.entities.get(key).cloned())
    }

    fn op_record(&self, id: &ScopedId) -> Result<Option<OpRecord>, Infallible> {
        Ok(self.records.get(id).cloned())
    }

    fn due(&self, until_ms: u64, limit: usize) -> Result<Vec<(u64, EntityKey)>, Infallible> {
        Ok(self.due.iter().take_while(|(due, _)| *due <= until_ms).take(limit).copied().collect())
    }

    fn obligations(&self, window: WindowId) -> Result<Vec<Obligation>, Infallible> {
        let of_window = self.entities.values().filter_map(|entity| match entity {
            Entity::Obligation(it) if it.window == window => Some(it.clone()),
            _ => None,
        });
        Ok(of_window.collect())
    }

    fn window_payments(
        &self,
        window: WindowId,
        after: Option<PaymentId>,
        limit: usize,
    ) -> Result<Vec<PaymentId>, Infallible> {
        let of_window = self.captured.iter().filter(|it| it.0 == window).map(|it| it.1);
        Ok(of_window.filter(|it| after.is_none_or(|after| *it > after)).take(limit).collect())
    }

    fn window_tree(&self) -> Result<WindowTree, Infallible> {
        Ok(self.window_tree.clone())
    }
}

impl MemoryView {
    pub fn put(&mut self, write: &Write) {
        assert_eq!(write.key, write.state.key());
        self.entities.insert(write.key, write.state.clone());
    }

    /// Replaces a state behind the ledger's back.
    pub fn forge(&mut self, state: Entity) {
        if let Some(due) = self.entities.get(&state.key()).and_then(Entity::due_at_ms) {
            self.due.remove(&(due, state.key()));
        }
        if let Some(due) = state.due_at_ms() {
            self.due.insert((due, state.key()));
        }
        self.entities.insert(state.key(), state);
    }

    pub fn apply(&mut self, effects: &BlockEffects) {
        effects.begin.iter().for_each(|write| self.put(write));
        for batch in &effects.batches {
            batch.writes.iter().for_each(|write| self.put(write));
            for (id, record) in &batch.op_records {
                assert!(self.records.insert(*id, record.clone()).is_none(), "an id was consumed twice");
            }
        }
        effects.hot.iter().for_each(|write| self.put(write));
        assert!(effects.captured.is_sorted());
        self.captured.extend(&effects.captured);
        if let Some(tree) = &effects.window_tree {
            self.window_tree = tree.clone();
        }
        for due in &effects.due_removed {
            assert!(self.due.remove(due), "a due time was taken away that was not there");
        }
        for due in &effects.due_added {
            assert!(self.due.insert(*due), "a due time was added twice");
        }
        // Quadratic over a test, so only while the state is small.
        if self.entities.len() < 1000 {
            let index = self.entities.values().filter_map(|it| Some((it.due_at_ms()?, it.key())));
            assert_eq!(self.due, index.collect(), "the due index is not what the entities say");
        }
    }

    /// Every sum recomputed from all entities.
    pub fn scan(&self) -> Vec<String> {
        let mut scan = Scan::new(self.entities.values().filter_map(|it| match it {
            Entity::Schedule(it) => Some(it.clone()),
            _ => None,
        }));
        self.entities.values().for_each(|it| scan.add(it));
        scan.finish().iter().map(ToString::to_string).collect()
    }
}

/// A running ledger.
#[derive(Clone)]
pub struct World {
    pub view: MemoryView,
    pub chain: ChainId,
    pub params: Params,
    pub height: u64,
    pub now_ms: u64,
    pub next_id: u128,
}

impl World {
    pub fn new() -> Self {
        Self::with(&genesis())
    }

    pub fn with(genesis: &Genesis) -> Self {
        let mut view = MemoryView::default();
        view.apply(&genesis_writes(genesis).expect("the test genesis is good"));
        assert_eq!(view.scan(), Vec::<String>::new());
        Self {
            view,
            chain: genesis.chain_id(),
            params: genesis.params.clone(),
            height: 0,
            now_ms: START_MS,
            next_id: 1,
        }
    }

    pub fn context(&self) -> BlockContext {
        BlockContext {
            height: self.height + 1,
            time_ms: self.now_ms,
            params: self.params.clone(),
            currency: Currency::CNY,
        }
    }

    pub fn new_id(&mut self) -> OpId {
        self.next_id += 1;
        OpId::new(self.now_ms, self.next_id)
    }

    pub fn batch_bytes(&self, signer: ParticipantId, ops: &[Op]) -> Vec<u8> {
        let sign = |digest: &[u8; 32]| signing_key(signer, 1).sign(digest).to_bytes();
        encode_batch(&self.chain, signer, KeyId(1), self.now_ms + MAX_BATCH_LIFE_MS, ops, sign)
            .expect("the test batch is well formed")
    }

    pub fn batch(&self, signer: ParticipantId, ops: &[Op]) -> CheckedBatch {
        let bytes = self.batch_bytes(signer, ops);
        decode_batch(&bytes, &self.chain).expect("what was encoded decodes").assume_verified()
    }

    /// Runs one block and keeps what it did.
    pub fn block(&mut self, batches: &[CheckedBatch]) -> BlockEffects {
        let effects = self.try_block(batches);
        assert_eq!(effects.broken, None);
        effects
    }

    pub fn try_block(&mut self, batches: &[CheckedBatch]) -> BlockEffects {
        let mut executor = BlockExecutor::begin(&self.view, self.context()).unwrap();
        for batch in batches {
            executor.apply_batch(batch).unwrap();
        }
        let effects = executor.finish().unwrap();
        self.view.apply(&effects);
        self.height += 1;
        effects
    }

    /// Runs one batch in a block of its own.
    pub fn run_ops(&mut self, signer: ParticipantId, ops: &[Op]) -> Vec<Receipt> {
        let batch = self.batch(signer, ops);
        self.block(&[batch]).batches.remove(0).receipts
    }

    /// Runs one operation under a fresh id; gives the result.
    pub fn run(&mut self, signer: ParticipantId, body: OpBody) -> OpResult {
        let op_id = self.new_id();
        self.run_ops(signer, &[Op { op_id, linked: false, body }]).remove(0).result
    }

    /// Runs one operation that must succeed; gives the entity it was about.
    pub fn done(&mut self, signer: ParticipantId, body: OpBody) -> EntityKey {
        match self.run(signer, body) {
            OpResult::Done(key) => key,
            OpResult::Refused(reject) => panic!("refused: {reject}"),
        }
    }

    /// Runs one operation; gives its code, 0 for done.
    pub fn code(&mut self, signer: ParticipantId, body: OpBody) -> u16 {
        code(&self.run(signer, body))
    }

    /// Lets ledger time pass, with an empty block.
    pub fn pass(&mut self, ms: u64) -> BlockEffects {
        self.now_ms += ms;
        self.block(&[])
    }
}

pub fn code(result: &OpResult) -> u16 {
    match result {
        OpResult::Done(_) => 0,
        OpResult::Refused(reject) => reject.code(),
    }
}

/// Made early in every test and good for all of it, so that the same words give the same bytes at any time.
pub fn risk() -> RiskAssertion {
    RiskAssertion {
        model_kind: 1,
        score: 1200,
        as_of_ms: START_MS,
        valid_until_ms: START_MS + 1000 * DAY_MS,
        evidence_hash: Hash32([5; 32]),
    }
}

pub fn disclosure() -> Disclosure {
    Disclosure {
        lender: "credit Ltd".into(),
        service_provider: PROVIDER,
        annual_cost_bps: 1460,
        schedule_version: ScheduleVersion(1),
        page_hash: Hash32([6; 32]),
        shown_ms: 3000,
    }
}

pub fn propose(world: &World) -> MandatePropose {
    MandatePropose {
        issuer: ISSUER,
        payer: Pseudonym([1; 16]),
        ceiling: Amount(100_000),
        payment_cap: Amount(60_000),
        scenes: SceneSet::of(&[Scene::Online, Scene::MerchantPresented]),
        tier: Tier::B,
        expires_at_ms: world.now_ms + 300 * DAY_MS,
        request_commitment: Hash32([2; 32]),
    }
}

pub fn activate(world: &World, mandate: MandateId) -> MandateActivate {
    MandateActivate {
        mandate,
        payer_at_issuer: Pseudonym([3; 16]),
        ceiling: Amount(100_000),
        payment_cap: Amount(60_000),
        scenes: SceneSet::of(&[Scene::Online, Scene::MerchantPresented]),
        guarantee: Some(Guarantee { amount: Amount(80_000), until_ms: world.now_ms + 10 * DAY_MS }),
        assertion: Some(risk()),
        disclosure: disclosure(),
        consent: Consent {
            given_at_ms: world.now_ms,
            until_ms: world.now_ms + 200 * DAY_MS,
            record_hash: Hash32([4; 32]),
        },
    }
}

pub fn order() -> Order {
    Order {
        merchant: Pseudonym([8; 16]),
        category: MerchantCategory(5411),
        order_hash: Hash32([9; 32]),
        trace_id: TraceId([10; 16]),
        envelope_hash: Hash32([11; 32]),
    }
}

pub fn pay(mandate: MandateId, amount: u64) -> Pay {
    Pay {
        mandate,
        amount: Amount(amount),
        currency: Currency::CNY,
        scene: Scene::Online,
        order: order(),
        schedule_version: ScheduleVersion(1),
        guarantee_version: 1,
        assertion_version: 1,
        consent_version: 1,
        assertion: risk(),
    }
}

pub fn request(world: &World, mandate: MandateId, amount: u64) -> PaymentRequest {
    PaymentRequest {
        mandate,
        amount: Amount(amount),
        currency: Currency::CNY,
        scene: Scene::Online,
        order: order(),
        schedule_version: ScheduleVersion(1),
        instalments: 1,
        assertion: risk(),
        answer_by_ms: world.now_ms + HOUR_MS,
        capture_by_ms: world.now_ms + DAY_MS,
    }
}

pub fn capture(payment: PaymentId, amount: u64, last: bool) -> PaymentCapture {
    let order = order();
    PaymentCapture {
        payment,
        amount: Amount(amount),
        last,
        merchant: order.merchant,
        category: order.category,
        order_hash: order.order_hash,
    }
}

impl World {
    pub fn propose_mandate(&mut self) -> MandateId {
        let body = OpBody::MandatePropose(propose(self));
        match self.done(ACQUIRER, body) {
            EntityKey::Mandate(id) => id,
            other => panic!("not a mandate: {other:?}"),
        }
    }

    pub fn active_mandate(&mut self) -> MandateId {
        let mandate = self.propose_mandate();
        let body = OpBody::MandateActivate(activate(self, mandate));
        self.done(ISSUER, body);
        mandate
    }

    pub fn paid(&mut self, mandate: MandateId, amount: u64) -> PaymentId {
        let body = OpBody::Pay(pay(mandate, amount));
        as_payment(self.done(ACQUIRER, body))
    }

    pub fn requested(&mut self, mandate: MandateId, amount: u64) -> PaymentId {
        let body = OpBody::PaymentRequest(request(self, mandate, amount));
        as_payment(self.done(ACQUIRER, body))
    }

    pub fn held(&mut self, mandate: MandateId, amount: u64) -> PaymentId {
        let payment = self.requested(mandate, amount);
        let assertion = risk();
        self.done(ISSUER, OpBody::PaymentHold(PaymentHold { payment, assertion, disclosure: None }));
        payment
    }

    pub fn captured(&mut self, payment: PaymentId, amount: u64, last: bool) {
        self.done(ACQUIRER, OpBody::PaymentCapture(capture(payment, amount, last)));
    }

    pub fn refund_requested(&mut self, payment: PaymentId, amount: u64) -> RefundId {
        let body = RefundRequest { payment, amount: Amount(amount), reason: 1, order_hash: order().order_hash };
        match self.done(ACQUIRER, OpBody::RefundRequest(body)) {
            EntityKey::Refund(id) => id,
            other => panic!("not a refund: {other:?}"),
        }
    }

    pub fn refunded(&mut self, payment: PaymentId, amount: u64) -> RefundId {
        let refund = self.refund_requested(payment, amount);
        self.done(ISSUER, OpBody::RefundPost(RefundStep { refund, reason: 0 }));
        refund
    }

    pub fn payment(&self, id: PaymentId) -> &Payment {
        match &self.view.entities[&EntityKey::Payment(id)] {
            Entity::Payment(it) => it,
            other => panic!("not a payment: {other:?}"),
        }
    }

    pub fn line(&self, id: MandateId) -> Line {
        match self.view.entities.get(&EntityKey::Line(id)) {
            Some(Entity::Line(it)) => it.clone(),
            _ => Line::default(),
        }
    }

    pub fn position(&self, id: ParticipantId) -> Position {
        match self.view.entities.get(&EntityKey::Position(id)) {
            Some(Entity::Position(it)) => it.clone(),
            _ => Position::default(),
        }
    }
}

fn as_payment(key: EntityKey) -> PaymentId {
    match key {
        EntityKey::Payment(id) => id,
        other => panic!("not a payment: {other:?}"),
    }
}
