//! Identifiers, amounts and times: one type per idea, so that a wrong argument does not compile.
//! Nothing here reads a clock or draws a random number. Encoding: borsh, see `proto/FORMAT.md`.

use crate::reject::Reject;
use alloc::string::String;
use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;

/// A 32-byte hash: BLAKE3 unless the field says SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, BorshSerialize, BorshDeserialize)]
pub struct Hash32(pub [u8; 32]);

impl Hash32 {
    /// All zero: "nothing before this".
    pub const ZERO: Self = Self([0; 32]);
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for Hash32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Hash32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

/// Names one ledger instance: BLAKE3 of its genesis document. Part of everything that is signed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, BorshSerialize, BorshDeserialize)]
pub struct ChainId(pub Hash32);

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, BorshSerialize, BorshDeserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// An institution on the ledger; numbered by genesis, later by governance. Never reused.
    ParticipantId(u32)
);
number!(
    /// A signing key of a participant, counted from 1 within the participant. Never reused.
    KeyId(u32)
);
number!(
    /// A settlement window, counted from 1. Exactly one is open at any time.
    WindowId(u64)
);
number!(
    /// A version of the fee schedule, counted from 1.
    ScheduleVersion(u32)
);
number!(
    /// A four-digit merchant category code (ISO 18245).
    MerchantCategory(u16)
);
number!(
    /// A currency by its ISO 4217 number; 156 is CNY.
    Currency(u16)
);

impl Currency {
    /// Renminbi; its minor unit is the fen, 1/100 yuan.
    pub const CNY: Self = Self(156);
}

/// A caller's own 128-bit id in the ULID layout: 48 bits of milliseconds since 1970, then 80 bits of the caller's choice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, BorshSerialize, BorshDeserialize)]
pub struct OpId(pub u128);

impl OpId {
    /// Builds an id from its time and the low 80 bits of `tail`; higher bits of both are cut off.
    #[must_use]
    pub const fn new(time_ms: u64, tail: u128) -> Self {
        Self((((time_ms & 0xffff_ffff_ffff) as u128) << 80) | (tail & 0xffff_ffff_ffff_ffff_ffff))
    }

    /// The time in the id, in milliseconds since 1970.
    #[must_use]
    pub const fn time_ms(self) -> u64 {
        (self.0 >> 80) as u64
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An id within the name space of the participant that chose it, so that nobody can burn another's id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct ScopedId {
    /// Who chose the id.
    pub participant: ParticipantId,
    /// The id of the operation that created the thing.
    pub op_id: OpId,
}

impl ScopedId {
    /// Bytes whose order is that of the ids: both integers big-endian.
    #[must_use]
    pub fn to_sort_bytes(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        let (participant, op_id) = bytes.split_at_mut(4);
        participant.copy_from_slice(&self.participant.0.to_be_bytes());
        op_id.copy_from_slice(&self.op_id.0.to_be_bytes());
        bytes
    }

    /// Reads [`Self::to_sort_bytes`] back; `None` if there are not exactly 20 bytes.
    #[must_use]
    pub fn from_sort_bytes(bytes: &[u8]) -> Option<Self> {
        let (participant, op_id) = bytes.split_first_chunk::<4>()?;
        Some(Self {
            participant: ParticipantId(u32::from_be_bytes(*participant)),
            op_id: OpId(u128::from_be_bytes(op_id.try_into().ok()?)),
        })
    }
}

impl fmt::Display for ScopedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.participant, self.op_id)
    }
}

macro_rules! scoped {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, BorshSerialize, BorshDeserialize)]
        pub struct $name(pub ScopedId);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

scoped!(
    /// A shopper's link from an acquirer to an issuer; scoped by the acquirer.
    MandateId
);
scoped!(
    /// A payment; scoped by the acquirer.
    PaymentId
);
scoped!(
    /// A refund; scoped by the acquirer.
    RefundId
);
scoped!(
    /// A dispute; scoped by the issuer.
    DisputeId
);
scoped!(
    /// A governance proposal; scoped by its proposer.
    ProposalId
);

/// A sum of money in whole minor units (fen). Only checked arithmetic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Amount(pub u64);

impl Amount {
    /// No money.
    pub const ZERO: Self = Self(0);

    /// `self + other`, or `None` on overflow.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// `self - other`, or `None` where it would be negative.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }

    /// `self + other`.
    ///
    /// # Errors
    /// [`Reject::Overflow`].
    pub const fn plus(self, other: Self) -> Result<Self, Reject> {
        match self.checked_add(other) {
            Some(sum) => Ok(sum),
            None => Err(Reject::Overflow),
        }
    }

    /// `self - other`.
    ///
    /// # Errors
    /// [`Reject::NegativeBalance`].
    pub const fn minus(self, other: Self) -> Result<Self, Reject> {
        match self.checked_sub(other) {
            Some(difference) => Ok(difference),
            None => Err(Reject::NegativeBalance),
        }
    }

    /// The amount as the ledger's accounts hold it.
    #[must_use]
    pub const fn wide(self) -> u128 {
        self.0 as u128
    }

    /// Whether the amount is zero.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// A person or a shop as one institution sees them: a keyed hash (HMAC under the institution's secret, cut to 16 bytes),
/// stable within the institution, meaningless elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, BorshSerialize, BorshDeserialize)]
pub struct Pseudonym(pub [u8; 16]);

impl fmt::Debug for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

/// What ties order, mandate, payment, refunds, window and funding together for an auditor; chosen by the acquirer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, BorshSerialize, BorshDeserialize)]
pub struct TraceId(pub [u8; 16]);

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

/// The part a participant plays.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Role {
    /// The front wallet: takes the order from the merchant.
    Acquirer = 1,
    /// Grants the credit and funds the payment.
    Issuer = 2,
    /// Runs the bridge for a fee.
    ServiceProvider = 3,
    /// Closes and settles the windows.
    Clearing = 4,
    /// Reads everything, writes nothing.
    Regulator = 5,
    /// A payee of fee legs only (the payment channel, the technical provider).
    FeePayee = 6,
}

/// Where the shopper pays. A mandate lists the scenes it serves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Scene {
    /// Online e-commerce.
    Online = 1,
    /// In a store, the shopper scans the merchant's code.
    MerchantPresented = 2,
    /// In a store, the merchant scans the shopper's code.
    PayerPresented = 3,
    /// Inside the front wallet's own apps.
    InApp = 4,
    /// Person to person. Always refused: credit must not be cashed out.
    SocialTransfer = 5,
}

impl Scene {
    /// The scene's bit in a [`SceneSet`].
    #[must_use]
    pub const fn bit(self) -> u16 {
        1 << (self as u8)
    }
}

/// A set of scenes, one bit each (bit number = the scene's number).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct SceneSet(pub u16);

impl SceneSet {
    /// Every scene there is.
    pub const ALL: Self = Self(
        Scene::Online.bit()
            | Scene::MerchantPresented.bit()
            | Scene::PayerPresented.bit()
            | Scene::InApp.bit()
            | Scene::SocialTransfer.bit(),
    );

    /// The set of these scenes.
    #[must_use]
    pub fn of(scenes: &[Scene]) -> Self {
        Self(scenes.iter().fold(0, |bits, scene| bits | scene.bit()))
    }

    /// Whether every scene of this set is in `other`.
    #[must_use]
    pub const fn is_subset_of(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether there is no scene in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `scene` is in the set.
    #[must_use]
    pub const fn contains(self, scene: Scene) -> bool {
        self.0 & scene.bit() != 0
    }
}

/// Payer tier of 条码支付业务规范 for code payments: A self-agreed, B 5,000, C 1,000, D 500 CNY a day.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
#[expect(missing_docs, reason = "the regulation's own letters")]
pub enum Tier {
    A = 1,
    B = 2,
    C = 3,
    D = 4,
}

/// One side's view of the risk, signed by that side's batch. Scores are integers 0..=10,000, higher is riskier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct RiskAssertion {
    /// Which family of model made the score (1 rules, 2 statistical, 3 learned).
    pub model_kind: u8,
    /// 0 (no risk seen) to 10,000.
    pub score: u16,
    /// When the score was made.
    pub as_of_ms: u64,
    /// Until when it may be used; afterwards it is stale and refused.
    pub valid_until_ms: u64,
    /// BLAKE3 of the evidence the side keeps.
    pub evidence_hash: Hash32,
}

/// The issuer's promise to fund payments without being asked first, up to an amount and until a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Guarantee {
    /// Sum of `Pay` that the promise covers; each payment uses some of it up.
    pub amount: Amount,
    /// The promise ends here (exclusive).
    pub until_ms: u64,
}

/// What the shopper was shown before a debit, signed by the issuer's batch.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Disclosure {
    /// The lender's legal name as shown; at most 128 bytes.
    pub lender: String,
    /// The service provider that was named.
    pub service_provider: ParticipantId,
    /// All-in annual cost in basis points.
    pub annual_cost_bps: u32,
    /// Fee schedule whose legs were shown.
    pub schedule_version: ScheduleVersion,
    /// BLAKE3 of the page as shown.
    pub page_hash: Hash32,
    /// For how long it was shown.
    pub shown_ms: u32,
}

/// The shopper's consent given on the lender's own page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Consent {
    /// When it was given.
    pub given_at_ms: u64,
    /// Until when it holds (exclusive).
    pub until_ms: u64,
    /// BLAKE3 of the consent record the issuer keeps.
    pub record_hash: Hash32,
}
