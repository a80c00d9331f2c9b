//! The operations: their bytes in `body`, their meaning in one file per machine.

mod body;
pub(crate) mod mandate;
pub(crate) mod payment;
pub(crate) mod position;
pub(crate) mod refund;
pub(crate) mod window;

pub use body::*;

use crate::block::StateView;
use crate::entity::{EncryptionKey, EntityKey, Key, Licence, Mandate, Participant, Payment};
use crate::ledger::{Answer, Ledger};
use crate::reject::Reject;
use crate::types::{MandateId, ParticipantId, PaymentId, RiskAssertion, ScopedId, WindowId};
use alloc::sync::Arc;

pub use payment::MAX_CAPTURES;

/// Longest legal name in bytes.
pub const MAX_LEGAL_NAME_BYTES: usize = 128;
/// Longest licence number or bank reference in bytes.
pub const MAX_REFERENCE_BYTES: usize = 64;
/// Longest policy document in bytes.
pub const MAX_POLICY_BYTES: usize = 16 * 1024;
/// Most keys of a participant.
pub const MAX_KEYS: usize = 16;
/// Exact size of a sealed report.
pub const SEALED_REPORT_BYTES: usize = 1024;
/// Highest risk score.
pub const MAX_RISK_SCORE: u16 = 10_000;

/// Who asks, under which id.
pub(crate) struct Caller<'a> {
    /// The participant that signed the batch.
    pub(crate) signer: &'a Participant,
    /// The operation's id.
    pub(crate) id: ScopedId,
}

impl Caller<'_> {
    /// The signer is the party that the entity names for this step.
    fn check_party(&self, party: ParticipantId) -> Result<(), Reject> {
        if self.signer.id == party { Ok(()) } else { Err(Reject::NotTheParty) }
    }
}

fn check_length(length: usize, most: usize) -> Result<(), Reject> {
    if length <= most { Ok(()) } else { Err(Reject::FieldTooLong) }
}

const fn check_score(assertion: &RiskAssertion) -> Result<(), Reject> {
    if assertion.score <= MAX_RISK_SCORE { Ok(()) } else { Err(Reject::Malformed) }
}

fn check_licence(licence: &Licence) -> Result<(), Reject> {
    check_length(licence.number.len(), MAX_REFERENCE_BYTES)
}

/// Its length only: whether it is a point costs too much to ask before the batch's signature is verified.
fn check_key(key: &Key) -> Result<(), Reject> {
    if key.public_key.len() == key.suite.public_key_bytes() { Ok(()) } else { Err(Reject::Malformed) }
}

fn check_encryption(key: &EncryptionKey) -> Result<(), Reject> {
    if key.public_key.len() == key.suite.public_key_bytes() { Ok(()) } else { Err(Reject::Malformed) }
}

macro_rules! numbers {
    ($($name:ident = $number:literal,)*) => {
        impl OpBody {
            /// Every operation of format v1: its number and its name.
            pub const ALL: &'static [(u8, &'static str)] = &[$(($number, stringify!($name)),)*];

            /// The operation's number in format v1: the first byte of its body.
            #[must_use]
            pub const fn number(&self) -> u8 {
                match self { $(Self::$name(_) => $number,)* }
            }

            /// The operation's name as written in `proto/FORMAT.md`.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$name(_) => stringify!($name),)* }
            }
        }
    };
}

numbers! {
    MandatePropose = 16,
    MandateActivate = 17,
    MandateRefresh = 18,
    MandateSuspend = 19,
    MandateResume = 20,
    MandateRevoke = 21,
    Pay = 32,
    PaymentRequest = 33,
    PaymentHold = 34,
    PaymentDecline = 35,
    PaymentCapture = 36,
    PaymentVoid = 37,
    PaymentIncrement = 38,
    PaymentReduce = 39,
    RefundRequest = 48,
    RefundPost = 49,
    RefundFail = 50,
    DisputeOpen = 64,
    DisputeAccept = 65,
    DisputeChallenge = 66,
    DisputeWithdraw = 67,
    DisputePreArbitration = 68,
    DisputeArbitration = 69,
    DisputeRuling = 70,
    WindowClose = 80,
    WindowAttest = 81,
    WindowContest = 82,
    WindowFund = 83,
    WindowConfirmLeg = 84,
    WindowDefault = 85,
    CapSet = 96,
    LiquidityDeposit = 97,
    LiquidityWithdraw = 98,
    BilateralCapSet = 99,
    GovernancePropose = 112,
    GovernanceApprove = 113,
    GovernanceWithdraw = 114,
    SealedReport = 120,
}

impl OpBody {
    /// What can be judged from the bytes alone: lengths and ranges. A batch with such an operation is malformed as a whole.
    ///
    /// # Errors
    /// [`Reject::FieldTooLong`] or [`Reject::Malformed`].
    pub fn check_fields(&self) -> Result<(), Reject> {
        match self {
            Self::MandateActivate(it) => {
                check_length(it.disclosure.lender.len(), MAX_LEGAL_NAME_BYTES)?;
                it.assertion.iter().try_for_each(check_score)
            }
            Self::MandateRefresh(it) => {
                check_length(it.disclosure.as_ref().map_or(0, |it| it.lender.len()), MAX_LEGAL_NAME_BYTES)?;
                it.assertion.iter().try_for_each(check_score)
            }
            Self::Pay(it) => check_score(&it.assertion),
            Self::PaymentRequest(it) => {
                check_score(&it.assertion)?;
                if it.instalments == 0 { Err(Reject::Malformed) } else { Ok(()) }
            }
            Self::PaymentHold(it) => {
                check_length(it.disclosure.as_ref().map_or(0, |it| it.lender.len()), MAX_LEGAL_NAME_BYTES)?;
                check_score(&it.assertion)
            }
            Self::LiquidityDeposit(it) | Self::LiquidityWithdraw(it) => {
                check_length(it.bank_reference.len(), MAX_REFERENCE_BYTES)
            }
            Self::GovernancePropose(it) => check_change(&it.change),
            Self::SealedReport(it) => match it.blob.len() {
                SEALED_REPORT_BYTES => Ok(()),
                length => check_length(length, SEALED_REPORT_BYTES).and(Err(Reject::Malformed)),
            },
            Self::MandatePropose(_)
            | Self::MandateSuspend(_)
            | Self::MandateResume(_)
            | Self::MandateRevoke(_)
            | Self::PaymentDecline(_)
            | Self::PaymentCapture(_)
            | Self::PaymentVoid(_)
            | Self::PaymentIncrement(_)
            | Self::PaymentReduce(_)
            | Self::RefundRequest(_)
            | Self::RefundPost(_)
            | Self::RefundFail(_)
            | Self::DisputeOpen(_)
            | Self::DisputeAccept(_)
            | Self::DisputeChallenge(_)
            | Self::DisputeWithdraw(_)
            | Self::DisputePreArbitration(_)
            | Self::DisputeArbitration(_)
            | Self::DisputeRuling(_)
            | Self::WindowClose(_)
            | Self::WindowAttest(_)
            | Self::WindowContest(_)
            | Self::WindowFund(_)
            | Self::WindowConfirmLeg(_)
            | Self::WindowDefault(_)
            | Self::CapSet(_)
            | Self::BilateralCapSet(_)
            | Self::GovernanceApprove(_)
            | Self::GovernanceWithdraw(_) => Ok(()),
        }
    }
}

fn check_change(change: &GovernanceChange) -> Result<(), Reject> {
    match change {
        GovernanceChange::ParticipantAdd { legal_name, licence, keys, encryption, .. } => {
            check_length(legal_name.len(), MAX_LEGAL_NAME_BYTES)?;
            check_licence(licence)?;
            check_length(keys.len(), MAX_KEYS)?;
            keys.iter().try_for_each(check_key)?;
            encryption.iter().try_for_each(check_encryption)
        }
        GovernanceChange::LicenceSet { licence, .. } => check_licence(licence),
        GovernanceChange::KeyAdd { key, .. } => check_key(key),
        GovernanceChange::ScheduleAdd(schedule) => check_length(schedule.legs.len(), crate::fees::MAX_LEGS),
        GovernanceChange::PolicySet { document, .. } => check_length(document.len(), MAX_POLICY_BYTES),
        GovernanceChange::ParticipantStatus { .. }
        | GovernanceChange::KeyRevoke { .. }
        | GovernanceChange::ValidatorSet { .. }
        | GovernanceChange::Freeze { .. }
        | GovernanceChange::Upgrade { .. } => Ok(()),
    }
}

/// Applies ledger time to whatever the operation touches, before it runs. This stands even if the operation is refused.
pub(crate) fn apply_overdue<V: StateView>(ledger: &mut Ledger<'_, V>, body: &OpBody) -> Answer<V, ()> {
    match body {
        OpBody::MandateActivate(MandateActivate { mandate, .. })
        | OpBody::MandateRefresh(MandateRefresh { mandate, .. })
        | OpBody::MandateSuspend(MandateStop { mandate, .. })
        | OpBody::MandateResume(MandateStop { mandate, .. })
        | OpBody::MandateRevoke(MandateStop { mandate, .. })
        | OpBody::Pay(Pay { mandate, .. })
        | OpBody::PaymentRequest(PaymentRequest { mandate, .. }) => mandate::apply_time(ledger, *mandate),
        OpBody::PaymentHold(PaymentHold { payment, .. }) => {
            payment::apply_time(ledger, *payment)?;
            match ledger.payment(*payment)? {
                Some(it) => mandate::apply_time(ledger, it.mandate),
                None => Ok(()),
            }
        }
        OpBody::PaymentDecline(PaymentDecline { payment, .. })
        | OpBody::PaymentCapture(PaymentCapture { payment, .. })
        | OpBody::PaymentVoid(PaymentVoid { payment, .. })
        | OpBody::RefundRequest(RefundRequest { payment, .. }) => payment::apply_time(ledger, *payment),
        OpBody::RefundPost(RefundStep { refund, .. }) | OpBody::RefundFail(RefundStep { refund, .. }) => {
            match ledger.refund(*refund)? {
                Some(it) => payment::apply_time(ledger, it.payment),
                None => Ok(()),
            }
        }
        OpBody::MandatePropose(_)
        | OpBody::PaymentIncrement(_)
        | OpBody::PaymentReduce(_)
        | OpBody::DisputeOpen(_)
        | OpBody::DisputeAccept(_)
        | OpBody::DisputeChallenge(_)
        | OpBody::DisputeWithdraw(_)
        | OpBody::DisputePreArbitration(_)
        | OpBody::DisputeArbitration(_)
        | OpBody::DisputeRuling(_)
        | OpBody::WindowClose(_)
        | OpBody::WindowAttest(_)
        | OpBody::WindowContest(_)
        | OpBody::WindowFund(_)
        | OpBody::WindowConfirmLeg(_)
        | OpBody::WindowDefault(_)
        | OpBody::CapSet(_)
        | OpBody::LiquidityDeposit(_)
        | OpBody::LiquidityWithdraw(_)
        | OpBody::BilateralCapSet(_)
        | OpBody::GovernancePropose(_)
        | OpBody::GovernanceApprove(_)
        | OpBody::GovernanceWithdraw(_)
        | OpBody::SealedReport(_) => Ok(()),
    }
}

/// Runs one operation. On a reject the caller takes back whatever was changed.
pub(crate) fn apply<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    caller: &Caller<'_>,
    body: &OpBody,
) -> Answer<V, EntityKey> {
    match body {
        OpBody::MandatePropose(op) => mandate::propose(ledger, caller, op),
        OpBody::MandateActivate(op) => mandate::activate(ledger, caller, op),
        OpBody::MandateRefresh(op) => mandate::refresh(ledger, caller, op),
        OpBody::MandateSuspend(op) => mandate::suspend(ledger, caller, op),
        OpBody::MandateResume(op) => mandate::resume(ledger, caller, op),
        OpBody::MandateRevoke(op) => mandate::revoke(ledger, caller, op),
        OpBody::Pay(op) => payment::pay(ledger, caller, op),
        OpBody::PaymentRequest(op) => payment::request(ledger, caller, op),
        OpBody::PaymentHold(op) => payment::hold(ledger, caller, op),
        OpBody::PaymentDecline(op) => payment::decline(ledger, caller, op),
        OpBody::PaymentCapture(op) => payment::capture(ledger, caller, op),
        OpBody::PaymentVoid(op) => payment::void(ledger, caller, op),
        OpBody::RefundRequest(op) => refund::request(ledger, caller, op),
        OpBody::RefundPost(op) => refund::post(ledger, caller, op),
        OpBody::RefundFail(op) => refund::fail(ledger, caller, op),
        OpBody::WindowClose(op) => window::close(ledger, caller, op),
        OpBody::CapSet(op) => position::set_cap(ledger, caller, op),
        OpBody::LiquidityDeposit(op) => position::deposit(ledger, caller, op),
        OpBody::LiquidityWithdraw(op) => position::withdraw(ledger, caller, op),
        OpBody::PaymentIncrement(_)
        | OpBody::PaymentReduce(_)
        | OpBody::DisputeOpen(_)
        | OpBody::DisputeAccept(_)
        | OpBody::DisputeChallenge(_)
        | OpBody::DisputeWithdraw(_)
        | OpBody::DisputePreArbitration(_)
        | OpBody::DisputeArbitration(_)
        | OpBody::DisputeRuling(_)
        | OpBody::WindowAttest(_)
        | OpBody::WindowContest(_)
        | OpBody::WindowFund(_)
        | OpBody::WindowConfirmLeg(_)
        | OpBody::WindowDefault(_)
        | OpBody::BilateralCapSet(_)
        | OpBody::GovernancePropose(_)
        | OpBody::GovernanceApprove(_)
        | OpBody::GovernanceWithdraw(_)
        | OpBody::SealedReport(_) => Err(Reject::OpNotInForce.into()),
    }
}

fn known_mandate<V: StateView>(ledger: &mut Ledger<'_, V>, id: MandateId) -> Answer<V, Arc<Mandate>> {
    Ok(ledger.mandate(id)?.ok_or(Reject::UnknownMandate)?)
}

fn known_payment<V: StateView>(ledger: &mut Ledger<'_, V>, id: PaymentId) -> Answer<V, Arc<Payment>> {
    Ok(ledger.payment(id)?.ok_or(Reject::UnknownPayment)?)
}

/// A participant that an entity of the ledger names.
fn party<V: StateView>(ledger: &mut Ledger<'_, V>, id: ParticipantId) -> Answer<V, Arc<Participant>> {
    Ok(ledger.participant(id)?.ok_or(Reject::StateMissing)?)
}

/// The window in which money moves now.
fn open_window<V: StateView>(ledger: &mut Ledger<'_, V>) -> Answer<V, WindowId> {
    let id = ledger.control()?.open_window;
    let window = ledger.window(id)?.ok_or(Reject::StateMissing)?;
    if window.status == crate::entity::WindowStatus::Open { Ok(id) } else { Err(Reject::WindowReassigned.into()) }
}
