//! What must hold at all times. [`check_payment`] judges every new state of a payment before it is kept; [`Broken`] is how a
//! block says that the state itself is wrong; [`Scan`] recomputes every sum from all entities, for inspection and tests.

use crate::entity::{
    Balance, Control, Entity, EntityKey, FeeSchedule, Line, Obligation, Payment, PaymentStatus, Position, Refund,
    RefundStatus, Window, WindowStatus,
};
use crate::fees;
use crate::reject::Reject;
use crate::types::{ParticipantId, ScheduleVersion, WindowId};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// The state is wrong, whoever asked for what: the node must stop at this height and say so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Broken {
    /// Debits and credits over all accounts differ.
    Totals(Balance),
    /// Ledger time could not be applied to an entity.
    DueItem(EntityKey, Reject),
    /// The open window could not be closed at its end.
    CutOff(Reject),
    /// The control account or what it names is missing.
    Control(Reject),
    /// Found by a full scan.
    Scan(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Totals(it) => write!(
                f,
                "debits and credits over all accounts differ: pending {} and {}, posted {} and {}",
                it.debits_pending, it.credits_pending, it.debits_posted, it.credits_posted
            ),
            Self::DueItem(key, reject) => write!(f, "ledger time cannot be applied to {key:?}: {reject}"),
            Self::CutOff(reject) => write!(f, "the open settlement window cannot be closed: {reject}"),
            Self::Control(reject) => write!(f, "the control account cannot be read: {reject}"),
            Self::Scan(what) => f.write_str(what),
        }
    }
}

impl core::error::Error for Broken {}

/// What holds for every payment in every state.
///
/// # Errors
/// [`Reject::HoldMismatch`], [`Reject::HeadroomBroken`] or [`Reject::FeeMismatch`].
pub fn check_payment(payment: &Payment, schedule: &FeeSchedule) -> Result<(), Reject> {
    let remaining = payment.remaining()?;
    let mut captured = 0_u128;
    for leg in &payment.captures {
        captured = captured.checked_add(leg.amount.wide()).ok_or(Reject::Overflow)?;
    }
    let amounts = match payment.status {
        PaymentStatus::Requested | PaymentStatus::Declined => payment.held.is_zero(),
        PaymentStatus::Held => payment.captured.is_zero() && remaining == payment.amount,
        PaymentStatus::PartCaptured => !payment.captured.is_zero() && !remaining.is_zero(),
        PaymentStatus::Captured => !payment.captured.is_zero() && remaining.is_zero(),
        PaymentStatus::Voided => payment.captured.is_zero() && payment.released == payment.amount,
        PaymentStatus::Expired => payment.captured.is_zero() && remaining.is_zero(),
    };
    let held = payment.held.is_zero() || payment.held == payment.amount;
    if !amounts || !held || captured != payment.captured.wide() {
        return Err(Reject::HoldMismatch);
    }
    payment.refund_headroom()?;
    if payment.refunded > payment.refund_reserved {
        return Err(Reject::HeadroomBroken);
    }
    fees::check_legs(payment, schedule)
}

/// Recomputes every sum of the ledger from its active entities, independently of the running sums. Feed each entity once,
/// in any order, then ask. Needs memory for one line per mandate and per refunded payment.
#[derive(Default)]
pub struct Scan {
    schedules: BTreeMap<ScheduleVersion, FeeSchedule>,
    /// Differences that must come out as zero in the end, by the sentence that is wrong otherwise.
    zero: BTreeMap<(What, EntityKey), i128>,
    /// Differences that must not be negative.
    room: BTreeMap<(What, EntityKey), i128>,
    sums: Balance,
    lines: Balance,
    liquidity: Balance,
    closed: BTreeMap<WindowId, Window>,
    open: Vec<WindowId>,
    control: Option<Control>,
    broken: Vec<Broken>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    LinePending,
    LinePosted,
    LineRefunds,
    LineCeiling,
    Holds,
    RefundsReserved,
    RefundsPosted,
    RefundsCounted,
    UnsettledDebits,
    UnsettledCredits,
    WindowNets,
    WindowNet(ParticipantId),
}

impl What {
    const fn sentence(self) -> &'static str {
        match self {
            Self::LinePending => "the line's pending debits are not what its payments still hold",
            Self::LinePosted => "the line's posted debits are not what its payments captured",
            Self::LineRefunds => "the line was credited less than its payments refunded",
            Self::LineCeiling => "the line is used above its mandate's ceiling",
            Self::Holds => "the issuer's holds are not what its payments still hold",
            Self::RefundsReserved => "the payment's reserve is not the sum of its refunds that did not fail",
            Self::RefundsPosted => "the payment's refunded amount is not the sum of its posted refunds",
            Self::RefundsCounted => "the payment counts another number of refunds than it has",
            Self::UnsettledDebits => "unsettled debits are not the sum over the unsettled windows",
            Self::UnsettledCredits => "unsettled credits are not the sum over the unsettled windows",
            Self::WindowNets => "the nets of the window do not add up to zero",
            Self::WindowNet(_) => "a net of the window is not what its obligations say",
        }
    }
}

fn signed(amount: u128) -> i128 {
    i128::try_from(amount).unwrap_or(i128::MAX)
}

fn total(sum: &mut Balance, of: &Balance) {
    sum.debits_pending = sum.debits_pending.saturating_add(of.debits_pending);
    sum.debits_posted = sum.debits_posted.saturating_add(of.debits_posted);
    sum.credits_pending = sum.credits_pending.saturating_add(of.credits_pending);
    sum.credits_posted = sum.credits_posted.saturating_add(of.credits_posted);
}

/// The other side's balance of accounts that only ever post against it.
const fn mirrored(of: &Balance) -> Balance {
    Balance {
        debits_pending: of.credits_pending,
        debits_posted: of.credits_posted,
        credits_pending: of.debits_pending,
        credits_posted: of.debits_posted,
    }
}

impl Scan {
    /// A scan that judges payments by these schedules.
    #[must_use]
    pub fn new(schedules: impl IntoIterator<Item = FeeSchedule>) -> Self {
        let schedules = schedules.into_iter().map(|it| (it.version, it)).collect();
        Self { schedules, ..Self::default() }
    }

    fn zero(&mut self, what: What, key: EntityKey, plus: u128, minus: u128) {
        let slot = self.zero.entry((what, key)).or_default();
        *slot = slot.saturating_add(signed(plus)).saturating_sub(signed(minus));
    }

    fn room(&mut self, what: What, key: EntityKey, plus: u128, minus: u128) {
        let slot = self.room.entry((what, key)).or_default();
        *slot = slot.saturating_add(signed(plus)).saturating_sub(signed(minus));
    }

    /// Takes one entity in.
    pub fn add(&mut self, entity: &Entity) {
        match entity {
            Entity::Participant(_) | Entity::Schedule(_) | Entity::WindowPayments(_) => {}
            Entity::Mandate(it) => self.room(What::LineCeiling, EntityKey::Line(it.id), it.ceiling.wide(), 0),
            Entity::Line(it) => self.add_line(it),
            Entity::Payment(it) => self.add_payment(it),
            Entity::Refund(it) => self.add_refund(it),
            Entity::Window(it) => self.add_window(it),
            Entity::Obligation(it) => self.add_obligation(it),
            Entity::Position(it) => self.add_position(it),
            Entity::Control(it) => {
                total(&mut self.sums, &it.lines);
                total(&mut self.sums, &it.liquidity);
                self.control = Some(it.clone());
            }
        }
    }

    fn add_line(&mut self, it: &Line) {
        let key = EntityKey::Line(it.mandate);
        let Balance { debits_pending, debits_posted, credits_posted, .. } = it.balance;
        self.zero(What::LinePending, key, debits_pending, 0);
        self.zero(What::LinePosted, key, debits_posted, 0);
        self.room(What::LineRefunds, key, credits_posted, 0);
        self.room(What::LineCeiling, key, credits_posted, debits_pending.saturating_add(debits_posted));
        total(&mut self.sums, &it.balance);
        total(&mut self.lines, &it.balance);
    }

    fn add_payment(&mut self, it: &Payment) {
        let schedule = self.schedules.get(&it.schedule_version).ok_or(Reject::StateMissing);
        if let Err(reject) = schedule.and_then(|schedule| check_payment(it, schedule)) {
            self.broken.push(Broken::Scan(format!("payment {}: {reject}", it.id)));
        }
        let rest = it.remaining().map_or(0, |rest| rest.wide());
        self.zero(What::LinePending, EntityKey::Line(it.mandate), 0, rest);
        self.zero(What::LinePosted, EntityKey::Line(it.mandate), 0, it.captured.wide());
        self.room(What::LineRefunds, EntityKey::Line(it.mandate), 0, it.refunded.wide());
        self.zero(What::Holds, EntityKey::Position(it.issuer), 0, rest);
        if it.n_refunds > 0 {
            let key = EntityKey::Payment(it.id);
            self.zero(What::RefundsReserved, key, it.refund_reserved.wide(), 0);
            self.zero(What::RefundsPosted, key, it.refunded.wide(), 0);
            self.zero(What::RefundsCounted, key, u128::from(it.n_refunds), 0);
        }
    }

    fn add_refund(&mut self, it: &Refund) {
        let key = EntityKey::Payment(it.payment);
        let amount = it.amount.wide();
        self.zero(What::RefundsReserved, key, 0, if it.status == RefundStatus::Failed { 0 } else { amount });
        self.zero(What::RefundsPosted, key, 0, if it.status == RefundStatus::Posted { amount } else { 0 });
        self.zero(What::RefundsCounted, key, 0, 1);
    }

    fn add_window(&mut self, it: &Window) {
        if it.status == WindowStatus::Open {
            self.open.push(it.id);
        } else {
            self.closed.insert(it.id, it.clone());
        }
    }

    fn add_obligation(&mut self, it: &Obligation) {
        let Balance { debits_posted, credits_posted, .. } = it.balance;
        let window = EntityKey::Window(it.window);
        self.zero(What::UnsettledDebits, EntityKey::Position(it.participant), 0, debits_posted);
        self.zero(What::UnsettledCredits, EntityKey::Position(it.participant), 0, credits_posted);
        self.zero(What::WindowNets, window, credits_posted, debits_posted);
        self.zero(What::WindowNet(it.participant), window, credits_posted, debits_posted);
        total(&mut self.sums, &it.balance);
    }

    fn add_position(&mut self, it: &Position) {
        let key = EntityKey::Position(it.participant);
        self.zero(What::Holds, key, it.holds.wide(), 0);
        self.zero(What::UnsettledDebits, key, it.unsettled_debits, 0);
        self.zero(What::UnsettledCredits, key, it.unsettled_credits, 0);
        total(&mut self.sums, &it.liquidity);
        total(&mut self.liquidity, &it.liquidity);
    }

    /// What does not hold; empty if everything does.
    #[must_use]
    pub fn finish(mut self) -> Vec<Broken> {
        let mut say = |holds: bool, what: String| {
            if !holds {
                self.broken.push(Broken::Scan(what));
            }
        };
        for (id, window) in &self.closed {
            for net in &window.nets {
                let key = (What::WindowNet(net.participant), EntityKey::Window(*id));
                let recomputed = self.zero.remove(&key).unwrap_or(0);
                say(recomputed == net.net, format!("{:?}: {}", key.1, key.0.sentence()));
            }
        }
        for ((what, key), difference) in &self.zero {
            // The open window has no nets yet.
            let open = matches!((what, key), (What::WindowNet(_), EntityKey::Window(id)) if self.open.contains(id));
            say(*difference == 0 || open, format!("{key:?}: {} (by {difference})", what.sentence()));
        }
        for ((what, key), room) in &self.room {
            say(*room >= 0, format!("{key:?}: {} (by {room})", what.sentence()));
        }
        match &self.control {
            None => say(false, String::from("there is no control account")),
            Some(control) => {
                say(self.open == [control.open_window], format!("{:?} are open, not one", self.open));
                say(control.lines == mirrored(&self.lines), String::from("the lines do not add up to control"));
                let liquidity = control.liquidity == mirrored(&self.liquidity);
                say(liquidity, String::from("the liquidity does not add up to control"));
                say(control.totals == self.sums, String::from("the running totals are not the sum of the accounts"));
                let balanced = crate::postings::is_balanced(&control.totals);
                say(balanced, format!("{}", Broken::Totals(control.totals)));
            }
        }
        self.broken
    }
}
