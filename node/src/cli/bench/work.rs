//! What the benchmark sends: mandates with everything a payment relies on, and payments.

use super::client::Bank;
use anji_adapters::keys::PrivateKey;
use anji_contracts::ops::{MandateActivate, MandatePropose, Op, OpBody, Order, Pay};
use anji_contracts::types::{
    Amount, ChainId, Consent, Currency, Disclosure, Guarantee, Hash32, KeyId, MandateId, MerchantCategory, OpId,
    ParticipantId, Pseudonym, RiskAssertion, Role, Scene, SceneSet, ScheduleVersion, ScopedId, Tier, TraceId,
};
use anji_contracts::{Genesis, encode_batch};
use anji_proto::v1 as pb;
use anyhow::{Context, Result};
use std::time::{SystemTime, UNIX_EPOCH};

const HOUR_MS: u64 = 3_600_000;
/// Batches must enter a block within this time.
const BATCH_LIFE_MS: u64 = 9 * 60 * 1000;

pub(super) fn now_ms() -> u64 {
    // A clock before 1970 gives ids that the ledger refuses as too old, which is said by the ledger.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The ledger that is paid on, and how much.
#[derive(Clone)]
pub(super) struct Plan {
    chain_id: ChainId,
    currency: Currency,
    schedule: ScheduleVersion,
    issuer: ParticipantId,
    provider: ParticipantId,
}

impl Plan {
    pub(super) fn new(chain: &pb::GetChainInfoResponse) -> Result<Self> {
        let of_role = |role: pb::Role| {
            let found = chain.participants.iter().find(|it| it.role() == role);
            found.map(|it| ParticipantId(it.id)).with_context(|| format!("the ledger has no participant of {role:?}"))
        };
        Ok(Self {
            chain_id: ChainId(Hash32(chain.chain_id.as_slice().try_into().context("the chain id is not 32 bytes")?)),
            currency: Currency(u16::try_from(chain.currency).context("the currency is out of range")?),
            schedule: ScheduleVersion(chain.schedule.as_ref().context("no fee schedule is in force")?.version),
            issuer: of_role(pb::Role::Issuer)?,
            provider: of_role(pb::Role::ServiceProvider)?,
        })
    }

    /// The same, from the genesis document: for a ledger that no node serves.
    pub(super) fn of_genesis(genesis: &Genesis) -> Result<Self> {
        let of_role = |role: Role| {
            let found = genesis.participants.iter().find(|it| it.role == role);
            found.map(|it| it.id).with_context(|| format!("genesis has no participant of {role:?}"))
        };
        Ok(Self {
            chain_id: genesis.chain_id(),
            currency: genesis.currency,
            schedule: genesis.schedules.last().context("genesis has no fee schedule")?.version,
            issuer: of_role(Role::Issuer)?,
            provider: of_role(Role::ServiceProvider)?,
        })
    }

    fn op(body: OpBody) -> Op {
        Op { op_id: OpId::new(now_ms(), rand::random()), linked: false, body }
    }

    pub(super) fn propose(&self, count: u32) -> Vec<Op> {
        let propose = |_| {
            Self::op(OpBody::MandatePropose(MandatePropose {
                issuer: self.issuer,
                payer: Pseudonym(rand::random()),
                ceiling: Amount(1_000_000_000_000),
                payment_cap: Amount(10_000_000),
                scenes: SceneSet(Scene::Online.bit()),
                tier: Tier::A,
                expires_at_ms: now_ms() + 24 * HOUR_MS,
                request_commitment: Hash32(rand::random()),
            }))
        };
        (0..count).map(propose).collect()
    }

    pub(super) fn activate(&self, mandates: &[MandateId]) -> Vec<Op> {
        let now = now_ms();
        let activate = |mandate: &MandateId| {
            Self::op(OpBody::MandateActivate(MandateActivate {
                mandate: *mandate,
                payer_at_issuer: Pseudonym(rand::random()),
                ceiling: Amount(1_000_000_000_000),
                payment_cap: Amount(10_000_000),
                scenes: SceneSet(Scene::Online.bit()),
                guarantee: Some(Guarantee { amount: Amount(1_000_000_000_000), until_ms: now + 12 * HOUR_MS }),
                assertion: Some(Self::assertion(now)),
                disclosure: Disclosure {
                    lender: String::from("Lender"),
                    service_provider: self.provider,
                    annual_cost_bps: 1800,
                    schedule_version: self.schedule,
                    page_hash: Hash32([7; 32]),
                    shown_ms: 10_000,
                },
                consent: Consent { given_at_ms: now, until_ms: now + 12 * HOUR_MS, record_hash: Hash32([8; 32]) },
            }))
        };
        mandates.iter().map(activate).collect()
    }

    fn assertion(now: u64) -> RiskAssertion {
        RiskAssertion {
            model_kind: 1,
            score: 120,
            as_of_ms: now.saturating_sub(1000),
            valid_until_ms: now + 12 * HOUR_MS,
            evidence_hash: Hash32([9; 32]),
        }
    }

    /// `count` payments over the mandates in turn; `first` makes amounts and mandates differ from call to call.
    pub(super) fn pay(&self, mandates: &[MandateId], first: u64, count: u32) -> Vec<Op> {
        let now = now_ms();
        let turns = mandates.iter().cycle().skip(usize::try_from(first).unwrap_or(0) % mandates.len().max(1));
        let pay = |(number, mandate): (u64, &MandateId)| {
            Self::op(OpBody::Pay(Pay {
                mandate: *mandate,
                amount: Amount(100 + (first + number) % 50_000),
                currency: self.currency,
                scene: Scene::Online,
                order: Order {
                    merchant: Pseudonym(rand::random()),
                    category: MerchantCategory(5411),
                    order_hash: Hash32(rand::random()),
                    trace_id: TraceId(rand::random()),
                    envelope_hash: Hash32::ZERO,
                },
                schedule_version: self.schedule,
                guarantee_version: 1,
                assertion_version: 1,
                consent_version: 1,
                assertion: Self::assertion(now),
            }))
        };
        (0..u64::from(count)).zip(turns).map(pay).collect()
    }
}

/// Signs batches for one participant.
#[derive(Clone)]
pub(super) struct Signer {
    pub(super) participant: ParticipantId,
    chain_id: ChainId,
    key: PrivateKey,
}

impl Signer {
    pub(super) fn new(bank: &Bank, plan: &Plan) -> Self {
        Self { participant: ParticipantId(bank.participant), chain_id: plan.chain_id, key: bank.key.clone() }
    }

    pub(super) const fn mandate_id(&self, op: &Op) -> MandateId {
        MandateId(ScopedId { participant: self.participant, op_id: op.op_id })
    }

    pub(super) fn sign(&self, ops: &[Op]) -> Result<Vec<u8>> {
        let expires = now_ms() + BATCH_LIFE_MS;
        encode_batch(&self.chain_id, self.participant, KeyId(1), expires, ops, |digest| self.key.sign(digest))
            .context("a batch could not be built")
    }
}
