//! The bytes of every operation of format v1, the whole rule book, numbered once and for ever.
//! What an operation means is told in its machine's file; one that the rules in force do not know yet is decoded and
//! refused with [`crate::Reject::OpNotInForce`]. Layout: `proto/FORMAT.md`.

use crate::entity::{EncryptionKey, FeeSchedule, Key, Licence};
use crate::types::{
    Amount, Consent, Currency, Disclosure, DisputeId, Guarantee, Hash32, KeyId, MandateId, MerchantCategory, OpId,
    ParticipantId, PaymentId, ProposalId, Pseudonym, RefundId, RiskAssertion, Role, Scene, SceneSet, ScheduleVersion,
    Tier, TraceId, WindowId,
};
use alloc::string::String;
use alloc::vec::Vec;
use borsh::{BorshDeserialize, BorshSerialize};

/// One operation as it stands in a batch.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Op {
    /// The caller's id, scoped by the participant that signs the batch.
    pub op_id: OpId,
    /// Linked to the next operation: the chain happens as a whole or not at all. Never set on a batch's last operation.
    pub linked: bool,
    /// What is asked.
    pub body: OpBody,
}

/// What is asked; the discriminant is the operation's number in format v1.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum OpBody {
    /// Acquirer: proposes a shopper's link to an issuer.
    MandatePropose(MandatePropose) = 16,
    /// Issuer: accepts the link and sets its terms.
    MandateActivate(MandateActivate) = 17,
    /// Issuer: refreshes guarantee, assertion, disclosure or consent, and reports repayments.
    MandateRefresh(MandateRefresh) = 18,
    /// Acquirer or issuer: stops new payments for now.
    MandateSuspend(MandateStop) = 19,
    /// The party that suspended: allows payments again.
    MandateResume(MandateStop) = 20,
    /// Acquirer or issuer: ends the link; holds survive.
    MandateRevoke(MandateStop) = 21,

    /// Acquirer: request, hold and capture in one, inside the issuer's standing guarantee.
    Pay(Pay) = 32,
    /// Acquirer: asks the issuer to hold money for an order.
    PaymentRequest(PaymentRequest) = 33,
    /// Issuer: holds it.
    PaymentHold(PaymentHold) = 34,
    /// Issuer: declines.
    PaymentDecline(PaymentDecline) = 35,
    /// Acquirer: takes all or part of the hold.
    PaymentCapture(PaymentCapture) = 36,
    /// Acquirer: releases what is left of the hold.
    PaymentVoid(PaymentVoid) = 37,
    /// Acquirer: asks to raise a hold (rule book, not in force in rules 1).
    PaymentIncrement(PaymentChange) = 38,
    /// Acquirer: lowers a hold (rule book, not in force in rules 1).
    PaymentReduce(PaymentChange) = 39,

    /// Acquirer: asks to give money back; headroom is reserved at once.
    RefundRequest(RefundRequest) = 48,
    /// Issuer: posts the refund.
    RefundPost(RefundStep) = 49,
    /// Issuer: could not give the money back; headroom is free again.
    RefundFail(RefundStep) = 50,

    /// Issuer: opens a dispute.
    DisputeOpen(DisputeOpen) = 64,
    /// Acquirer: accepts the chargeback.
    DisputeAccept(DisputeStep) = 65,
    /// Acquirer: challenges with evidence.
    DisputeChallenge(DisputeStep) = 66,
    /// Issuer: withdraws.
    DisputeWithdraw(DisputeStep) = 67,
    /// Issuer: insists.
    DisputePreArbitration(DisputeStep) = 68,
    /// Acquirer: takes it to arbitration.
    DisputeArbitration(DisputeStep) = 69,
    /// Clearing: rules.
    DisputeRuling(DisputeRuling) = 70,

    /// Clearing: closes the open window; the next opens in the same block.
    WindowClose(WindowClose) = 80,
    /// Participant: signs its net.
    WindowAttest(WindowAttest) = 81,
    /// Participant: contests its net.
    WindowContest(WindowStep) = 82,
    /// Clearing: sends the instruction file.
    WindowFund(WindowStep) = 83,
    /// Clearing: one leg is confirmed.
    WindowConfirmLeg(WindowLeg) = 84,
    /// Clearing: a participant defaulted.
    WindowDefault(WindowLeg) = 85,

    /// Participant lowers its own net-debit cap, clearing sets any.
    CapSet(CapSet) = 96,
    /// Clearing: liquidity arrived.
    LiquidityDeposit(LiquidityMove) = 97,
    /// Clearing: liquidity left.
    LiquidityWithdraw(LiquidityMove) = 98,
    /// Participant: cap towards one other participant (rule book, not in force in rules 1).
    BilateralCapSet(BilateralCapSet) = 99,

    /// Any participant: proposes a change of the rules of the house.
    GovernancePropose(GovernancePropose) = 112,
    /// A participant: approves a proposal.
    GovernanceApprove(GovernanceStep) = 113,
    /// The proposer: takes it back.
    GovernanceWithdraw(GovernanceStep) = 114,

    /// Any participant: the window's sealed report blob, whether there is a report or not.
    SealedReport(SealedReport) = 120,
}

/// `MandatePropose`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct MandatePropose {
    /// The issuer asked.
    pub issuer: ParticipantId,
    /// The shopper as the acquirer knows them.
    pub payer: Pseudonym,
    /// Highest use of the line at any time.
    pub ceiling: Amount,
    /// Highest single payment.
    pub payment_cap: Amount,
    /// Scenes asked for.
    pub scenes: SceneSet,
    /// Tier of the payer's account.
    pub tier: Tier,
    /// The mandate ends here (exclusive).
    pub expires_at_ms: u64,
    /// Salted commitment to the shopper's request.
    pub request_commitment: Hash32,
}

/// `MandateActivate`. The issuer may lower what was proposed, never raise it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct MandateActivate {
    /// Which mandate.
    pub mandate: MandateId,
    /// The shopper as the issuer knows them.
    pub payer_at_issuer: Pseudonym,
    /// At most what was proposed.
    pub ceiling: Amount,
    /// At most what was proposed.
    pub payment_cap: Amount,
    /// A subset of what was proposed.
    pub scenes: SceneSet,
    /// The standing promise, if any.
    pub guarantee: Option<Guarantee>,
    /// The issuer's view of the risk, if any.
    pub assertion: Option<RiskAssertion>,
    /// What was shown to the shopper.
    pub disclosure: Disclosure,
    /// What the shopper agreed to.
    pub consent: Consent,
}

/// `MandateRefresh`: whatever is present replaces what stood and raises its version by one.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct MandateRefresh {
    /// Which mandate.
    pub mandate: MandateId,
    /// New promise; what was used of the old one is forgotten.
    pub guarantee: Option<Guarantee>,
    /// New view of the risk.
    pub assertion: Option<RiskAssertion>,
    /// New disclosure.
    pub disclosure: Option<Disclosure>,
    /// New consent.
    pub consent: Option<Consent>,
    /// The shopper repaid this much since the last report; it frees the line. May be zero.
    pub repaid: Amount,
}

/// Suspend, resume or revoke a mandate.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct MandateStop {
    /// Which mandate.
    pub mandate: MandateId,
    /// The participant's own reason number.
    pub reason: u16,
}

/// What `Pay` and `PaymentRequest` share: the order, bound once and compared at every later step.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Order {
    /// The merchant as the acquirer knows it.
    pub merchant: Pseudonym,
    /// Its category.
    pub category: MerchantCategory,
    /// BLAKE3 over the order the shopper saw (salted).
    pub order_hash: Hash32,
    /// Ties the chain of funds together.
    pub trace_id: TraceId,
    /// Commitment to the sealed clear text beside the ledger; zero if none.
    pub envelope_hash: Hash32,
}

/// `Pay`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Pay {
    /// Whose line.
    pub mandate: MandateId,
    /// How much.
    pub amount: Amount,
    /// In what.
    pub currency: Currency,
    /// Where.
    pub scene: Scene,
    /// For what.
    pub order: Order,
    /// Fee schedule quoted.
    pub schedule_version: ScheduleVersion,
    /// Version of the guarantee relied on.
    pub guarantee_version: u32,
    /// Version of the issuer's risk assertion relied on.
    pub assertion_version: u32,
    /// Version of the consent relied on.
    pub consent_version: u32,
    /// The acquirer's own view of the risk.
    pub assertion: RiskAssertion,
}

/// `PaymentRequest`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct PaymentRequest {
    /// Whose line.
    pub mandate: MandateId,
    /// How much.
    pub amount: Amount,
    /// In what.
    pub currency: Currency,
    /// Where.
    pub scene: Scene,
    /// For what.
    pub order: Order,
    /// Fee schedule quoted; frozen for the payment's life.
    pub schedule_version: ScheduleVersion,
    /// Instalments; 1 = a plain payment.
    pub instalments: u8,
    /// The acquirer's own view of the risk.
    pub assertion: RiskAssertion,
    /// The issuer must answer before this time, else the payment expires.
    pub answer_by_ms: u64,
    /// What is held and not captured by this time is released.
    pub capture_by_ms: u64,
}

/// `PaymentHold`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct PaymentHold {
    /// Which payment.
    pub payment: PaymentId,
    /// The issuer's view of the risk of this payment.
    pub assertion: RiskAssertion,
    /// Needed for instalments; otherwise the mandate's stands in.
    pub disclosure: Option<Disclosure>,
}

/// `PaymentDecline`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct PaymentDecline {
    /// Which payment.
    pub payment: PaymentId,
    /// The issuer's own reason number.
    pub reason: u16,
}

/// `PaymentCapture`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct PaymentCapture {
    /// Which payment.
    pub payment: PaymentId,
    /// How much of the hold.
    pub amount: Amount,
    /// The last capture: the rest of the hold is released.
    pub last: bool,
    /// Must equal what was bound at request.
    pub merchant: Pseudonym,
    /// Must equal what was bound at request.
    pub category: MerchantCategory,
    /// Must equal what was bound at request.
    pub order_hash: Hash32,
}

/// `PaymentVoid`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct PaymentVoid {
    /// Which payment.
    pub payment: PaymentId,
    /// The acquirer's own reason number.
    pub reason: u16,
}

/// `PaymentIncrement`, `PaymentReduce`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct PaymentChange {
    /// Which payment.
    pub payment: PaymentId,
    /// By how much.
    pub amount: Amount,
}

/// `RefundRequest`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct RefundRequest {
    /// Of which payment.
    pub payment: PaymentId,
    /// How much.
    pub amount: Amount,
    /// The acquirer's own reason number.
    pub reason: u16,
    /// Must equal what was bound at request.
    pub order_hash: Hash32,
}

/// `RefundPost`, `RefundFail`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct RefundStep {
    /// Which refund.
    pub refund: RefundId,
    /// The issuer's own reason number; 0 when posting.
    pub reason: u16,
}

/// `DisputeOpen`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct DisputeOpen {
    /// Which payment.
    pub payment: PaymentId,
    /// How much of it.
    pub amount: Amount,
    /// The scheme's reason number.
    pub reason: u16,
    /// BLAKE3 of the evidence.
    pub evidence_hash: Hash32,
}

/// A step of a dispute.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct DisputeStep {
    /// Which dispute.
    pub dispute: DisputeId,
    /// BLAKE3 of the evidence; zero if none.
    pub evidence_hash: Hash32,
}

/// `DisputeRuling`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct DisputeRuling {
    /// Which dispute.
    pub dispute: DisputeId,
    /// Whether the chargeback stands.
    pub upheld: bool,
    /// BLAKE3 of the reasons.
    pub evidence_hash: Hash32,
}

/// `WindowClose`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct WindowClose {
    /// The window the clearing party believes is open; anything else is refused.
    pub window: WindowId,
}

/// `WindowAttest`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct WindowAttest {
    /// Which window.
    pub window: WindowId,
    /// The participant's net in minor units: positive is owed to it.
    pub net: i128,
}

/// A step of a window that carries a document.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct WindowStep {
    /// Which window.
    pub window: WindowId,
    /// BLAKE3 of the document.
    pub document_hash: Hash32,
}

/// A step of one participant's leg of a window.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct WindowLeg {
    /// Which window.
    pub window: WindowId,
    /// Whose leg.
    pub participant: ParticipantId,
    /// BLAKE3 of the confirmation or notice.
    pub document_hash: Hash32,
}

/// `CapSet`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct CapSet {
    /// Whose cap.
    pub participant: ParticipantId,
    /// The new cap.
    pub cap: Amount,
}

/// Liquidity in or out.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct LiquidityMove {
    /// Whose liquidity.
    pub participant: ParticipantId,
    /// How much.
    pub amount: Amount,
    /// The bank's reference, at most 64 bytes.
    pub bank_reference: String,
}

/// `BilateralCapSet`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct BilateralCapSet {
    /// Towards whom.
    pub towards: ParticipantId,
    /// The new cap.
    pub cap: Amount,
}

/// `GovernancePropose`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct GovernancePropose {
    /// What would change.
    pub change: GovernanceChange,
    /// The block height at which it takes effect once approved.
    pub effective_height: u64,
    /// BLAKE3 of the reasons.
    pub reasons_hash: Hash32,
}

/// What governance can change; the discriminant is the change's number in format v1.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum GovernanceChange {
    /// A new participant.
    ParticipantAdd {
        /// Its role.
        role: Role,
        /// Legal name, at most 128 bytes.
        legal_name: String,
        /// Its licence.
        licence: Licence,
        /// Its signing keys.
        keys: Vec<Key>,
        /// Its key for envelopes, if it gets any.
        encryption: Option<EncryptionKey>,
    } = 1,
    /// Active or not.
    ParticipantStatus {
        /// Who.
        participant: ParticipantId,
        /// Whether it may act.
        active: bool,
    } = 2,
    /// A renewed licence.
    LicenceSet {
        /// Whose.
        participant: ParticipantId,
        /// The licence.
        licence: Licence,
    } = 3,
    /// A new key.
    KeyAdd {
        /// Whose.
        participant: ParticipantId,
        /// The key.
        key: Key,
    } = 4,
    /// A key ends.
    KeyRevoke {
        /// Whose.
        participant: ParticipantId,
        /// Which.
        key_id: KeyId,
    } = 5,
    /// A validator's voting power; zero removes it.
    ValidatorSet {
        /// Who.
        participant: ParticipantId,
        /// Ed25519 key for votes.
        public_key: [u8; 32],
        /// Voting power.
        power: u64,
    } = 6,
    /// A new fee schedule.
    ScheduleAdd(FeeSchedule) = 7,
    /// A policy document by kind, as canonical bytes of at most 16 KiB.
    PolicySet {
        /// The kind's number.
        kind: u16,
        /// The document.
        document: Vec<u8>,
    } = 8,
    /// Freezes or releases a mandate.
    Freeze {
        /// Which.
        mandate: MandateId,
        /// Frozen or released.
        frozen: bool,
        /// BLAKE3 of the legal reference.
        reference_hash: Hash32,
    } = 9,
    /// New rules from the effective height on.
    Upgrade {
        /// Number of the rules.
        rules: u32,
    } = 10,
}

/// `GovernanceApprove`, `GovernanceWithdraw`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct GovernanceStep {
    /// Which proposal.
    pub proposal: ProposalId,
}

/// `SealedReport`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct SealedReport {
    /// For which window.
    pub window: WindowId,
    /// Exactly 1,024 sealed bytes; anything else is refused.
    pub blob: Vec<u8>,
}
