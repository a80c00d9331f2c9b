//! What the ledger knows: one state type per entity, and the key that names each. Every change of an entity is appended to
//! the log as its full new state (see [`crate::entry`]).

use crate::ops::Order;
use crate::types::{
    Amount, Consent, Currency, Disclosure, DisputeId, Guarantee, Hash32, KeyId, MandateId, OpId, ParticipantId,
    PaymentId, Pseudonym, RefundId, RiskAssertion, Role, Scene, SceneSet, ScheduleVersion, ScopedId, Tier, WindowId,
};
use alloc::string::String;
use alloc::vec::Vec;
use borsh::{BorshDeserialize, BorshSerialize};

/// Names an entity. The discriminant is the entity's kind in format v1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum EntityKey {
    /// A participant with its licence and keys.
    Participant(ParticipantId) = 1,
    /// A shopper's link.
    Mandate(MandateId) = 2,
    /// The use of a mandate's line (hot: one entry a block).
    Line(MandateId) = 3,
    /// A payment.
    Payment(PaymentId) = 4,
    /// A refund.
    Refund(RefundId) = 5,
    /// A dispute (rule book).
    Dispute(DisputeId) = 6,
    /// A settlement window.
    Window(WindowId) = 7,
    /// What a participant owes and is owed in a window (hot).
    Obligation(ParticipantId, WindowId) = 8,
    /// A participant's cap, liquidity and exposure (hot).
    Position(ParticipantId) = 9,
    /// The other side of lines and liquidity, and the running sums (hot).
    Control = 10,
    /// A fee schedule.
    Schedule(ScheduleVersion) = 11,
    /// The payments captured in a closed window, as one root.
    WindowPayments(WindowId) = 12,
}

/// The state of an entity.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
#[expect(missing_docs, reason = "the variants are the kinds of EntityKey")]
pub enum Entity {
    Participant(Participant) = 1,
    Mandate(Mandate) = 2,
    Line(Line) = 3,
    Payment(Payment) = 4,
    Refund(Refund) = 5,
    Window(Window) = 7,
    Obligation(Obligation) = 8,
    Position(Position) = 9,
    Control(Control) = 10,
    Schedule(FeeSchedule) = 11,
    WindowPayments(WindowPayments) = 12,
}

/// A licence to operate, as the regulator granted it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Licence {
    /// The regulator's number, at most 64 bytes.
    pub number: String,
    /// What it covers: the scenes.
    pub scenes: SceneSet,
    /// It ends here (exclusive).
    pub expires_at_ms: u64,
}

/// Signature suite of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Suite {
    /// Ed25519, strict verification (RFC 8032, no small-order points).
    Ed25519 = 1,
    /// SM2 with SM3 (GB/T 32918.2) under the default identifier.
    Sm2Sm3 = 2,
}

/// A signing key of a participant.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Key {
    /// Its number within the participant.
    pub key_id: KeyId,
    /// How it signs.
    pub suite: Suite,
    /// Public key: 32 bytes for Ed25519, 33 (compressed) for SM2.
    pub public_key: Vec<u8>,
    /// Valid from (inclusive).
    pub valid_from_ms: u64,
    /// Valid until (exclusive); `u64::MAX` for no end.
    pub valid_until_ms: u64,
    /// Revoked at this time, if it was.
    pub revoked_at_ms: Option<u64>,
}

/// To what envelopes are sealed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum SealSuite {
    /// HPKE (RFC 9180): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305.
    X25519 = 1,
    /// SM2 public-key encryption (GB/T 32918.4).
    Sm2 = 2,
}

/// A participant's key for envelopes.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct EncryptionKey {
    /// How one seals to it.
    pub suite: SealSuite,
    /// Public key: 32 bytes for X25519, 33 (compressed) for SM2.
    pub public_key: Vec<u8>,
}

/// An institution.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Participant {
    /// Its number.
    pub id: ParticipantId,
    /// Its part.
    pub role: Role,
    /// Short name for people, at most 32 bytes.
    pub name: String,
    /// Legal name, at most 128 bytes.
    pub legal_name: String,
    /// Whether it may act.
    pub active: bool,
    /// Its licence.
    pub licence: Licence,
    /// All its keys, past ones included.
    pub keys: Vec<Key>,
    /// Its key for envelopes; none for one that gets no envelope (a payee of fees without a node).
    pub encryption: Option<EncryptionKey>,
}

/// Where a mandate stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
#[expect(missing_docs, reason = "the states of DESIGN's mandate machine")]
pub enum MandateStatus {
    Proposed = 1,
    Active = 2,
    Suspended = 3,
    Revoked = 4,
    Expired = 5,
}

/// A value the issuer refreshes, with a version that counts from 1 (0 = never set).
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Versioned<T> {
    /// How often it was set.
    pub version: u32,
    /// The value in force.
    pub value: Option<T>,
}

/// A shopper's link.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Mandate {
    /// Its id.
    pub id: MandateId,
    /// Where it stands.
    pub status: MandateStatus,
    /// Grants the credit.
    pub issuer: ParticipantId,
    /// The shopper at the acquirer.
    pub payer: Pseudonym,
    /// The shopper at the issuer.
    pub payer_at_issuer: Pseudonym,
    /// Highest use of the line.
    pub ceiling: Amount,
    /// Highest single payment.
    pub payment_cap: Amount,
    /// Scenes served.
    pub scenes: SceneSet,
    /// Tier of the payer's account.
    pub tier: Tier,
    /// Ends here (exclusive).
    pub expires_at_ms: u64,
    /// Commitment to the shopper's request.
    pub request_commitment: Hash32,
    /// Who suspended it, while suspended.
    pub suspended_by: Option<ParticipantId>,
    /// The issuer's standing promise.
    pub guarantee: Versioned<Guarantee>,
    /// The issuer's view of the risk.
    pub assertion: Versioned<RiskAssertion>,
    /// What was shown.
    pub disclosure: Versioned<Disclosure>,
    /// What was agreed.
    pub consent: Versioned<Consent>,
}

/// Debit and credit, pending and posted, of an account in minor units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Balance {
    /// Debits that may still be released.
    pub debits_pending: u128,
    /// Debits for good.
    pub debits_posted: u128,
    /// Credits that may still be released.
    pub credits_pending: u128,
    /// Credits for good.
    pub credits_posted: u128,
}

/// The use of a mandate's line: holds are pending debits, captures posted debits, refunds and repayments posted credits.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Line {
    /// Whose line.
    pub mandate: MandateId,
    /// The account.
    pub balance: Balance,
    /// Version of the guarantee that `guarantee_used` counts against.
    pub guarantee_version: u32,
    /// Used of that guarantee by `Pay`.
    pub guarantee_used: Amount,
}

/// Where a payment stands. Closed and overdue states are derived from time, not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
#[expect(missing_docs, reason = "the states of DESIGN's payment machine")]
pub enum PaymentStatus {
    Requested = 1,
    Held = 2,
    Declined = 3,
    PartCaptured = 4,
    Captured = 5,
    Voided = 6,
    Expired = 7,
}

/// One fee leg of a payment: what was posted and what was returned so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct FeeLeg {
    /// Who receives it.
    pub payee: ParticipantId,
    /// Posted on captures, cumulative.
    pub posted: Amount,
    /// Returned on refunds, cumulative.
    pub returned: Amount,
}

/// A payment.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Payment {
    /// Its id: the op that created it.
    pub id: PaymentId,
    /// Where it stands.
    pub status: PaymentStatus,
    /// Whose line.
    pub mandate: MandateId,
    /// Who funds it.
    pub issuer: ParticipantId,
    /// Amount asked for.
    pub amount: Amount,
    /// In what.
    pub currency: Currency,
    /// Where.
    pub scene: Scene,
    /// For what.
    pub order: Order,
    /// Fee schedule frozen at request.
    pub schedule_version: ScheduleVersion,
    /// Instalments; 1 = plain.
    pub instalments: u8,
    /// Ledger time of the request.
    pub requested_at_ms: u64,
    /// The issuer must answer before.
    pub answer_by_ms: u64,
    /// Held money is released from here on.
    pub capture_by_ms: u64,
    /// Ledger time of the first capture; 0 if none.
    pub captured_at_ms: u64,
    /// Held in all: 0 or `amount`.
    pub held: Amount,
    /// Captured so far.
    pub captured: Amount,
    /// Released so far; `held = captured + released + remaining`.
    pub released: Amount,
    /// Refunds accepted and not failed, posted or in flight.
    pub refund_reserved: Amount,
    /// Refunds posted.
    pub refunded: Amount,
    /// Chargebacks, in flight or posted (rule book).
    pub charged_back: Amount,
    /// Number of refunds accepted, failed ones included.
    pub n_refunds: u16,
    /// Windows of the captures, in order (window, amount): each capture belongs to exactly one.
    pub captures: Vec<CaptureLeg>,
    /// Fee legs in the order of the schedule.
    pub fees: Vec<FeeLeg>,
    /// The acquirer's view of the risk.
    pub acquirer_assertion: RiskAssertion,
    /// The issuer's view of the risk, once it held; the version of the mandate's for `Pay`.
    pub issuer_assertion: Option<RiskAssertion>,
    /// Disclosure given for this payment (instalments).
    pub disclosure: Option<Disclosure>,
    /// The issuer's reason for a decline, the acquirer's for a void; 0 otherwise.
    pub reason: u16,
}

/// One capture and the window it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct CaptureLeg {
    /// The window.
    pub window: WindowId,
    /// The amount.
    pub amount: Amount,
}

/// Where a refund stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
#[expect(missing_docs, reason = "the states of DESIGN's refund machine")]
pub enum RefundStatus {
    Accepted = 1,
    Posted = 2,
    Failed = 3,
}

/// A refund.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Refund {
    /// Its id.
    pub id: RefundId,
    /// Of which payment.
    pub payment: PaymentId,
    /// Where it stands.
    pub status: RefundStatus,
    /// How much.
    pub amount: Amount,
    /// When it was accepted; overdue after the schedule's period, derived.
    pub accepted_at_ms: u64,
    /// The window it was posted in, once posted.
    pub window: Option<WindowId>,
    /// Reason number.
    pub reason: u16,
}

/// Where a settlement window stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
#[expect(missing_docs, reason = "the states of DESIGN's window machine")]
pub enum WindowStatus {
    Open = 1,
    Closed = 2,
    Attested = 3,
    Contested = 4,
    Funding = 5,
    Settled = 6,
    Defaulted = 7,
}

/// A participant's net in a closed window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Net {
    /// Who.
    pub participant: ParticipantId,
    /// Positive is owed to it, negative by it. The nets of a window add up to zero.
    pub net: i128,
}

/// A settlement window.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Window {
    /// Its number.
    pub id: WindowId,
    /// Where it stands.
    pub status: WindowStatus,
    /// Ledger time of opening.
    pub opened_at_ms: u64,
    /// Ledger time at which it closes by itself.
    pub closes_at_ms: u64,
    /// Ledger time of closing; 0 while open.
    pub closed_at_ms: u64,
    /// The nets, by participant, once closed.
    pub nets: Vec<Net>,
    /// Hash of the instruction file (rule book); zero before.
    pub instruction_hash: Hash32,
}

/// Which payments were captured in a closed window: proves that one was, and that another was not. Written once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct WindowPayments {
    /// The window.
    pub window: WindowId,
    /// Number of payments.
    pub n_payments: u64,
    /// Merkle root over [`ScopedId::to_sort_bytes`] of each, in ascending order.
    pub root: Hash32,
}

/// What a participant owes (debits) and is owed (credits) in a window.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Obligation {
    /// Who.
    pub participant: ParticipantId,
    /// In which window.
    pub window: WindowId,
    /// The account.
    pub balance: Balance,
}

/// A participant's cap, liquidity and exposure.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Position {
    /// Who.
    pub participant: ParticipantId,
    /// Net-debit cap.
    pub cap: Amount,
    /// Liquidity deposited: an account, credits minus debits is what is there.
    pub liquidity: Balance,
    /// Money of this issuer's lines that is held and not yet captured or released.
    pub holds: Amount,
    /// Debits over all unsettled windows.
    pub unsettled_debits: u128,
    /// Credits over all unsettled windows.
    pub unsettled_credits: u128,
}

/// The ledger's own account and its running sums.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Control {
    /// The other side of every line posting.
    pub lines: Balance,
    /// The other side of every liquidity posting.
    pub liquidity: Balance,
    /// Sum over all accounts; debits equal credits, pending and posted.
    pub totals: Balance,
    /// The open window.
    pub open_window: WindowId,
    /// The fee schedule in force.
    pub schedule_version: ScheduleVersion,
}

/// Who bears a fee leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Bearer {
    /// Taken off what the merchant receives.
    Merchant = 0,
    /// Paid by the payee of another leg, named by its place in the schedule, out of that leg.
    Leg(u8) = 1,
}

/// One leg of a fee schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct ScheduleLeg {
    /// Who receives it; participant 0 stands for the payment's acquirer, `u32::MAX` for its issuer.
    pub payee: ParticipantId,
    /// Rate in basis points of the amount.
    pub rate_bps: u32,
    /// Who bears it.
    pub bearer: Bearer,
    /// Whether it is given back on refunds.
    pub returned_on_refund: bool,
}

impl ScheduleLeg {
    /// Stands for the acquirer of the payment.
    pub const ACQUIRER: ParticipantId = ParticipantId(0);
    /// Stands for the issuer of the payment.
    pub const ISSUER: ParticipantId = ParticipantId(u32::MAX);
}

/// A fee schedule: at most 8 legs.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct FeeSchedule {
    /// Its version.
    pub version: ScheduleVersion,
    /// In force from this ledger time on.
    pub effective_at_ms: u64,
    /// The legs, in the order they appear on a payment.
    pub legs: Vec<ScheduleLeg>,
    /// Which leg takes the remainder of rounding.
    pub remainder_leg: u8,
}

/// What the ledger remembers of an operation for 24 hours, to answer the same id the same way.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct OpRecord {
    /// BLAKE3 of the operation's body bytes.
    pub body_hash: Hash32,
    /// The first receipt.
    pub receipt: crate::entry::Receipt,
}

impl Payment {
    /// What is still held: neither captured nor released.
    ///
    /// # Errors
    /// [`crate::Reject::HoldMismatch`] where more was captured and released than held.
    pub fn remaining(&self) -> Result<Amount, crate::Reject> {
        let rest = self.held.checked_sub(self.captured).and_then(|rest| rest.checked_sub(self.released));
        rest.ok_or(crate::Reject::HoldMismatch)
    }

    /// What may still be given back: captured, less refunds accepted or posted, less chargebacks.
    ///
    /// # Errors
    /// [`crate::Reject::HeadroomBroken`] where more was promised back than captured.
    pub fn refund_headroom(&self) -> Result<Amount, crate::Reject> {
        let rest = self.captured.checked_sub(self.refund_reserved).and_then(|rest| rest.checked_sub(self.charged_back));
        rest.ok_or(crate::Reject::HeadroomBroken)
    }

    /// From when on ledger time alone changes the payment, if it will.
    #[must_use]
    pub const fn due_at_ms(&self) -> Option<u64> {
        match self.status {
            PaymentStatus::Requested => Some(self.answer_by_ms),
            PaymentStatus::Held | PaymentStatus::PartCaptured => Some(self.capture_by_ms),
            PaymentStatus::Declined | PaymentStatus::Captured | PaymentStatus::Voided | PaymentStatus::Expired => None,
        }
    }

    /// Who took the order.
    #[must_use]
    pub const fn acquirer(&self) -> ParticipantId {
        self.id.0.participant
    }
}

impl Mandate {
    /// From when on ledger time alone changes the mandate, if it will.
    #[must_use]
    pub const fn due_at_ms(&self) -> Option<u64> {
        match self.status {
            MandateStatus::Proposed | MandateStatus::Active | MandateStatus::Suspended => Some(self.expires_at_ms),
            MandateStatus::Revoked | MandateStatus::Expired => None,
        }
    }

    /// Who proposed the link.
    #[must_use]
    pub const fn acquirer(&self) -> ParticipantId {
        self.id.0.participant
    }
}

impl Position {
    /// Holds plus the net debit over all unsettled windows; `None` if it exceeds every range.
    #[must_use]
    pub fn exposure(&self) -> Option<u128> {
        self.holds.wide().checked_add(self.unsettled_debits.saturating_sub(self.unsettled_credits))
    }

    /// The liquidity that is there.
    #[must_use]
    pub const fn cover(&self) -> u128 {
        self.liquidity.credits_posted.saturating_sub(self.liquidity.debits_posted)
    }
}

impl Entity {
    /// The key this state belongs to.
    #[must_use]
    pub fn key(&self) -> EntityKey {
        match self {
            Self::Participant(it) => EntityKey::Participant(it.id),
            Self::Mandate(it) => EntityKey::Mandate(it.id),
            Self::Line(it) => EntityKey::Line(it.mandate),
            Self::Payment(it) => EntityKey::Payment(it.id),
            Self::Refund(it) => EntityKey::Refund(it.id),
            Self::Window(it) => EntityKey::Window(it.id),
            Self::Obligation(it) => EntityKey::Obligation(it.participant, it.window),
            Self::Position(it) => EntityKey::Position(it.participant),
            Self::Control(_) => EntityKey::Control,
            Self::Schedule(it) => EntityKey::Schedule(it.version),
            Self::WindowPayments(it) => EntityKey::WindowPayments(it.window),
        }
    }

    /// When ledger time alone will change this entity, if ever: what the due index is sorted by.
    #[must_use]
    pub fn due_at_ms(&self) -> Option<u64> {
        match self {
            Self::Mandate(it) => it.due_at_ms(),
            Self::Payment(it) => it.due_at_ms(),
            Self::Participant(_)
            | Self::Line(_)
            | Self::Refund(_)
            | Self::Window(_)
            | Self::Obligation(_)
            | Self::Position(_)
            | Self::Control(_)
            | Self::Schedule(_)
            | Self::WindowPayments(_) => None,
        }
    }
}

impl EntityKey {
    /// Hot entities are appended to the log once a block, after all others.
    #[must_use]
    pub const fn is_hot(&self) -> bool {
        matches!(self, Self::Line(_) | Self::Obligation(..) | Self::Position(_) | Self::Control)
    }

    /// The scoped id inside the key, where there is one.
    #[must_use]
    pub const fn scoped_id(&self) -> Option<ScopedId> {
        match self {
            Self::Mandate(MandateId(id))
            | Self::Line(MandateId(id))
            | Self::Payment(PaymentId(id))
            | Self::Refund(RefundId(id))
            | Self::Dispute(DisputeId(id)) => Some(*id),
            Self::Participant(_)
            | Self::Window(_)
            | Self::Obligation(..)
            | Self::Position(_)
            | Self::Control
            | Self::Schedule(_)
            | Self::WindowPayments(_) => None,
        }
    }

    /// Bytes whose order is that of the key's fields (big-endian), for sorted stores: kind, then the id.
    #[must_use]
    pub fn to_sort_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(21);
        let mut scoped = |kind: u8, id: &ScopedId| {
            bytes.push(kind);
            bytes.extend_from_slice(&id.participant.0.to_be_bytes());
            bytes.extend_from_slice(&id.op_id.0.to_be_bytes());
        };
        match self {
            Self::Mandate(id) => scoped(2, &id.0),
            Self::Line(id) => scoped(3, &id.0),
            Self::Payment(id) => scoped(4, &id.0),
            Self::Refund(id) => scoped(5, &id.0),
            Self::Dispute(id) => scoped(6, &id.0),
            Self::Participant(id) => {
                bytes.push(1);
                bytes.extend_from_slice(&id.0.to_be_bytes());
            }
            Self::Window(id) => {
                bytes.push(7);
                bytes.extend_from_slice(&id.0.to_be_bytes());
            }
            Self::Obligation(participant, window) => {
                bytes.push(8);
                bytes.extend_from_slice(&participant.0.to_be_bytes());
                bytes.extend_from_slice(&window.0.to_be_bytes());
            }
            Self::Position(id) => {
                bytes.push(9);
                bytes.extend_from_slice(&id.0.to_be_bytes());
            }
            Self::Control => bytes.push(10),
            Self::Schedule(version) => {
                bytes.push(11);
                bytes.extend_from_slice(&version.0.to_be_bytes());
            }
            Self::WindowPayments(id) => {
                bytes.push(12);
                bytes.extend_from_slice(&id.0.to_be_bytes());
            }
        }
        bytes
    }
}

/// Reads the key back from [`EntityKey::to_sort_bytes`]; `None` if the bytes are not of that form.
#[must_use]
pub fn key_from_sort_bytes(bytes: &[u8]) -> Option<EntityKey> {
    let (kind, rest) = bytes.split_first()?;
    let scoped = |rest: &[u8]| {
        let participant = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?);
        let op_id = u128::from_be_bytes(rest.get(4..)?.try_into().ok()?);
        Some(ScopedId { participant: ParticipantId(participant), op_id: OpId(op_id) })
    };
    let u32_of = |rest: &[u8]| Some(u32::from_be_bytes(rest.try_into().ok()?));
    let u64_of = |rest: &[u8]| Some(u64::from_be_bytes(rest.try_into().ok()?));
    match kind {
        1 => Some(EntityKey::Participant(ParticipantId(u32_of(rest)?))),
        2 => Some(EntityKey::Mandate(MandateId(scoped(rest)?))),
        3 => Some(EntityKey::Line(MandateId(scoped(rest)?))),
        4 => Some(EntityKey::Payment(PaymentId(scoped(rest)?))),
        5 => Some(EntityKey::Refund(RefundId(scoped(rest)?))),
        6 => Some(EntityKey::Dispute(DisputeId(scoped(rest)?))),
        7 => Some(EntityKey::Window(WindowId(u64_of(rest)?))),
        8 => Some(EntityKey::Obligation(ParticipantId(u32_of(rest.get(..4)?)?), WindowId(u64_of(rest.get(4..)?)?))),
        9 => Some(EntityKey::Position(ParticipantId(u32_of(rest)?))),
        10 if rest.is_empty() => Some(EntityKey::Control),
        11 => Some(EntityKey::Schedule(ScheduleVersion(u32_of(rest)?))),
        12 => Some(EntityKey::WindowPayments(WindowId(u64_of(rest)?))),
        _ => None,
    }
}
