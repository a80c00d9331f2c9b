//! The numbered business answers. A number is never reused or redefined; a retired one stays, marked retired.
//! Ranges: 1xxx malformed or badly signed, 2xxx not permitted, 3xxx identity, 4xxx debtor side, 5xxx creditor side,
//! 9xxx would break an invariant (raises an alarm). Of several that apply, the answer is the first in this order: the signer
//! (2001, 2003, 2004); the scene and the currency (2007, 2008); what is named must exist (3xxx); the party (2002, 2010);
//! the state of the thing acted upon; then by number. Each file of `ops/` reads in that order.

use borsh::{BorshDeserialize, BorshSerialize, io};
use core::fmt;

macro_rules! rejects {
    ($($name:ident = $code:literal, $transient:literal, $text:literal;)*) => {
        /// Why an operation or a batch was refused: deterministic, in the receipt, part of the root.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u16)]
        pub enum Reject {
            $(#[doc = $text] $name = $code,)*
        }

        impl Reject {
            /// Every reject, in order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The number clients and receipts carry.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self { $(Self::$name => $code,)* }
            }

            /// The reject with this number.
            #[must_use]
            pub const fn from_code(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// Whether asking again, under a new `op_id`, may succeed without anybody changing the request.
            #[must_use]
            pub const fn is_transient(self) -> bool {
                match self { $(Self::$name => $transient,)* }
            }

            /// One plain sentence.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The name as written in `proto/FORMAT.md`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

rejects! {
    Malformed = 1001, false, "the bytes cannot be decoded";
    UnsupportedFormat = 1002, false, "this format version is not served";
    WrongChain = 1003, false, "the batch names another chain";
    TooLarge = 1004, false, "the batch is larger than 1 MiB";
    TooManyOps = 1005, false, "the batch has more than 4,096 operations";
    EmptyBatch = 1006, false, "the batch has no operation";
    OpsRootMismatch = 1007, false, "the operations do not match the signed root";
    BadSignature = 1008, false, "the signature does not verify";
    UnknownKey = 1009, false, "the participant or its key is not registered";
    KeyNotValid = 1010, false, "the key is not valid at this time";
    BatchExpired = 1011, true, "the batch expired before it entered a block";
    ExpiryTooFar = 1012, false, "the batch expires more than 10 minutes after block time";
    BatchRepeated = 1013, false, "the batch is already on the chain";
    TrailingBytes = 1014, false, "bytes are left over after the last field";
    LinkUnterminated = 1015, false, "the last operation of the batch is linked to nothing";
    FieldTooLong = 1016, false, "a text field is longer than its limit";

    WrongRole = 2001, false, "the participant's role may not do this";
    NotTheParty = 2002, false, "the participant is not the party named for this step";
    ParticipantNotActive = 2003, false, "the participant is not active";
    LicenceExpired = 2004, false, "the participant's licence has expired";
    LicenceScope = 2005, false, "the participant's licence does not cover this";
    SceneNotAgreed = 2006, false, "the scene is not agreed on the mandate";
    SceneForbidden = 2007, false, "the scene is never served with credit";
    CurrencyNotServed = 2008, false, "the ledger does not serve this currency";
    OpNotInForce = 2009, false, "the rules in force do not know this operation yet";
    SelfDealing = 2010, false, "acquirer and issuer must be different participants";

    IdConflict = 3001, false, "the id was used before with another body";
    IdTooOld = 3002, false, "the id's time is more than 24 hours before ledger time";
    IdTooNew = 3003, false, "the id's time is more than 2 minutes after ledger time";
    UnknownMandate = 3004, false, "no such mandate";
    UnknownPayment = 3005, false, "no such payment";
    UnknownRefund = 3006, false, "no such refund";
    UnknownWindow = 3007, false, "no such settlement window";
    UnknownParticipant = 3008, false, "no such participant";
    UnknownSchedule = 3009, false, "no such fee schedule";
    LinkedOpFailed = 3010, true, "another operation of the linked chain failed; this id is not consumed";

    MandateNotProposed = 4001, false, "the mandate is not waiting for activation";
    MandateNotActive = 4002, false, "the mandate is not active yet";
    MandateSuspended = 4003, true, "the mandate is suspended";
    MandateRevoked = 4004, false, "the mandate is revoked";
    MandateExpired = 4005, false, "the mandate has expired";
    MandateNotSuspended = 4006, false, "the mandate is not suspended";
    SuspendedByAnother = 4007, false, "only the party that suspended the mandate may resume it";
    AboveProposedTerms = 4008, false, "the issuer's terms exceed what the acquirer proposed";
    GuaranteeVersion = 4009, true, "the payment names another version of the guarantee than the one in force";
    GuaranteeExpired = 4010, true, "the issuer's guarantee is missing or has expired";
    GuaranteeExceeded = 4011, true, "the issuer's guarantee does not cover the amount";
    AssertionVersion = 4012, true, "the payment names another version of the issuer's risk assertion";
    AssertionStale = 4013, true, "a risk assertion is stale or not valid yet";
    ConsentVersion = 4014, true, "the payment names another version of the consent";
    ConsentExpired = 4015, false, "the shopper's consent is missing or has expired";
    DisclosureMissing = 4016, false, "no disclosure record that meets the rules";
    AbovePaymentCap = 4017, false, "the amount is above the mandate's cap per payment";
    AboveCeiling = 4018, true, "the mandate's line would exceed its ceiling";
    AboveCap = 4019, true, "the issuer's exposure would exceed its net-debit cap";
    AboveLiquidity = 4020, true, "the issuer's exposure would exceed its liquidity cover";
    DeadlinePassed = 4021, false, "the time named in the operation has passed or is too far ahead";
    RepaidTooMuch = 4022, false, "the repayment exceeds what was used of the line";

    ZeroAmount = 5001, false, "the amount is zero";
    PaymentNotRequested = 5002, false, "the payment is not waiting for the issuer";
    PaymentNotHeld = 5003, false, "the payment holds no money that could be captured or released";
    PaymentExpired = 5004, false, "the payment has expired";
    CaptureAboveHold = 5005, false, "the capture exceeds what is left of the hold";
    GoodsMismatch = 5006, false, "merchant, category or order differ from what was bound at request";
    ScheduleNotInForce = 5007, true, "the fee schedule named is not the one in force";
    RefundAboveHeadroom = 5008, false, "the refund exceeds what was captured and not yet given back";
    TooManyRefunds = 5009, false, "a payment takes at most 50 refunds";
    RefundTooLate = 5010, false, "refunds are accepted for one year after the first capture";
    RefundNotAccepted = 5011, false, "the refund is not waiting for the issuer";
    WindowNotOpen = 5012, false, "the settlement window is not open";
    CapDirection = 5013, false, "a participant may only lower its own cap";
    LiquidityInUse = 5014, false, "the withdrawal would leave less liquidity than the exposure needs";
    FeesAboveAmount = 5015, false, "the fees would exceed the amount";
    RefundAboveCap = 5016, true, "the acquirer's exposure would exceed its cap or liquidity cover";
    TooManyCaptures = 5017, false, "a payment takes at most 100 captures";

    UnbalancedPosting = 9001, false, "a posting would not balance";
    Overflow = 9002, false, "a sum would exceed its range";
    NegativeBalance = 9003, false, "a balance would become negative";
    HoldMismatch = 9004, false, "held would differ from captured, released and remaining";
    HeadroomBroken = 9005, false, "refunds and chargebacks would exceed what was captured";
    FeeMismatch = 9006, false, "fee legs would differ from the quote";
    WindowReassigned = 9007, false, "a capture would belong to a second window";
    StateMissing = 9008, false, "an entity that must exist is missing";
}

impl Reject {
    /// Whether an operation refused with this code has used up its id. A malformed or badly signed operation has not,
    /// nor one that only an id rule or a partner of its linked chain stopped.
    #[must_use]
    pub const fn consumes_id(self) -> bool {
        self.code() >= 2000
            && !matches!(self, Self::IdConflict | Self::IdTooOld | Self::IdTooNew | Self::LinkedOpFailed)
    }

    /// Whether the code reports a would-be broken invariant and must wake an operator.
    #[must_use]
    pub const fn is_alarm(self) -> bool {
        self.code() >= 9000
    }
}

impl BorshSerialize for Reject {
    fn serialize<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        self.code().serialize(writer)
    }
}

impl BorshDeserialize for Reject {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        Self::from_code(u16::deserialize_reader(reader)?)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unknown reject code"))
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code(), self.name(), self.text())
    }
}

impl core::error::Error for Reject {}
