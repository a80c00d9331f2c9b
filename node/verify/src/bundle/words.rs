//! What is proven and by whom, in sentences for people who do not read code. One paragraph a statement, then why to believe it.

use super::proven::{Moment, Proven, Statement};
use super::trust::Trust;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use anji_contracts::entity::{Balance, Entity, EntityKey, Line, Mandate, Participant, Payment, Position, Window};
use anji_contracts::entry::{Cause, EntityEntry, OpResult, Receipt};
use anji_contracts::ops::{Op, OpBody};
use anji_contracts::types::ParticipantId;

/// A time in milliseconds since 1970 as people write it, in UTC.
#[must_use]
pub(super) fn time(ms: u64) -> String {
    let instant = i64::try_from(ms / 1000).ok().and_then(|s| time::OffsetDateTime::from_unix_timestamp(s).ok());
    let Some(at) = instant else { return format!("{ms} ms after 1970") };
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{:03} UTC", ms % 1000)
}

/// A sum in minor units with two decimals.
fn sum(minor: u128) -> String {
    format!("{}.{:02}", minor / 100, minor % 100)
}

fn net(minor: i128) -> String {
    let sign = if minor < 0 { "-" } else { "+" };
    format!("{sign}{}", sum(minor.unsigned_abs()))
}

/// Sentences about one bundle.
struct Words<'a> {
    trust: &'a Trust,
    proven: &'a Proven,
}

impl Proven {
    /// What is proven and why, a paragraph each. Names come from `trust` and from the proven entries.
    #[must_use]
    pub fn words(&self, trust: &Trust) -> Vec<String> {
        let words = Words { trust, proven: self };
        let mut paragraphs = Vec::new();
        paragraphs.push(format!(
            "On ledger {}, as it was after block {} of {}:",
            self.chain_id,
            self.height,
            time(self.time_ms)
        ));
        for (number, statement) in (1_usize..).zip(&self.statements) {
            paragraphs.push(format!("{number}. {}", words.statement(statement)));
        }
        paragraphs.push(words.why());
        paragraphs.push(String::from(
            "Not proven here: who stands behind a pseudonym, what lies behind a hash, and that what a participant signed is true \
             outside the ledger.",
        ));
        paragraphs
    }
}

impl Words<'_> {
    fn name(&self, id: ParticipantId) -> String {
        match self.trust.names.get(&id) {
            Some(name) => format!("{name} (participant {id})"),
            None => format!("participant {id}"),
        }
    }

    fn statement(&self, statement: &Statement) -> String {
        match statement {
            Statement::Operation { signer, key, op, receipt, batch_index, made } => {
                let mut text = format!(
                    "{} signed, with its key {key}, the operation {}-{}: {}. {} Operation and answer are committed to by entry \
                     {batch_index} of the log.",
                    participant(signer),
                    signer.id,
                    op.op_id,
                    self.body(op),
                    answer(receipt)
                );
                if let Some((index, entry)) = made {
                    text.push_str(&format!(
                        " It made entry {index}, version {} of {}: {}.",
                        entry.version,
                        subject(&entry.key),
                        self.state(&entry.state)
                    ));
                }
                text
            }
            Statement::State { index, entry, at, replaced } => self.version(*index, entry, at.as_ref(), *replaced),
            Statement::Absence { window, payment, n_payments, index } => format!(
                "No capture of payment {payment} belongs to settlement window {window}. The window is closed; entry {index} of the log \
                 commits to all {n_payments} payments captured in it, and this one is not among them."
            ),
        }
    }

    fn version(&self, index: u64, entry: &EntityEntry, at: Option<&Moment>, replaced: Option<u64>) -> String {
        let when = match at {
            Some(moment) => format!("after block {} of {}", moment.height, time(moment.time_ms)),
            None => String::from("after that block"),
        };
        let cause = match entry.cause {
            Cause::Genesis => String::from("the genesis document"),
            Cause::Op(id) => format!("operation {}-{} of {}", id.participant, id.op_id, self.name(id.participant)),
            Cause::Time => String::from("ledger time"),
            Cause::Block => String::from("operations of its block"),
        };
        let since = match replaced {
            Some(next) => format!(" It was replaced later, by entry {next}."),
            None => String::from(" It is the latest version that the log holds."),
        };
        format!(
            "{} was, {when}: {}. That is version {}, entry {index} of the log, made by {cause}.{since}",
            capital(&subject(&entry.key)),
            self.state(&entry.state),
            entry.version,
        )
    }

    fn why(&self) -> String {
        let Proven { log, decided_at_height, n_validators, n_precommits, signers, n_set_changes, .. } = self.proven;
        let names: Vec<String> = signers.iter().map(|signer| self.name(signer.participant)).collect();
        let last = signers.iter().map(|signer| signer.time_s).max().unwrap_or(0);
        let followed = match n_set_changes {
            0 => format!("They are the validators that the trust file pins from height {} on.", self.trust.height),
            1 => String::from(
                "They follow from the trust file's validators by one change, decided by those before them.",
            ),
            n => {
                format!("They follow from the trust file's validators by {n} changes, each decided by those before it.")
            }
        };
        format!(
            "Why: all of this is in one log of {} entries with the root {}. {} of {n_validators} validators, with more than two thirds of \
             the power, cosigned exactly this log: {}; the last one at {} by its own clock. {n_precommits} of {n_validators} decided the \
             header of block {decided_at_height}, which carries the same root. {followed}",
            log.size,
            log.root,
            signers.len(),
            names.join(", "),
            time(last.saturating_mul(1000)),
        )
    }

    /// What an operation asks for.
    fn body(&self, op: &Op) -> String {
        let name = op.body.name();
        match &op.body {
            OpBody::Pay(it) => format!("{name} of {} on mandate {}", it.amount, it.mandate),
            OpBody::PaymentRequest(it) => format!("{name} of {} on mandate {}", it.amount, it.mandate),
            OpBody::PaymentHold(it) => format!("{name} of payment {}", it.payment),
            OpBody::PaymentDecline(it) => format!("{name} of payment {}, reason {}", it.payment, it.reason),
            OpBody::PaymentCapture(it) => format!("{name} of {} of payment {}", it.amount, it.payment),
            OpBody::PaymentVoid(it) => format!("{name} of payment {}, reason {}", it.payment, it.reason),
            OpBody::RefundRequest(it) => format!("{name} of {} of payment {}", it.amount, it.payment),
            OpBody::RefundPost(it) | OpBody::RefundFail(it) => format!("{name} of refund {}", it.refund),
            OpBody::MandatePropose(it) => format!("{name} to {}, ceiling {}", self.name(it.issuer), it.ceiling),
            OpBody::MandateActivate(it) => format!("{name} of mandate {}, ceiling {}", it.mandate, it.ceiling),
            OpBody::MandateRefresh(it) => format!("{name} of mandate {}", it.mandate),
            OpBody::MandateSuspend(it) | OpBody::MandateResume(it) | OpBody::MandateRevoke(it) => {
                format!("{name} of mandate {}, reason {}", it.mandate, it.reason)
            }
            OpBody::WindowClose(it) => format!("{name} of window {}", it.window),
            _ => name.to_string(),
        }
    }

    fn state(&self, state: &Entity) -> String {
        match state {
            Entity::Participant(it) => {
                let state = if it.active { "active" } else { "not active" };
                format!(
                    "{:?}, {state}, {} keys, licence {} until {}",
                    it.role,
                    it.keys.len(),
                    it.licence.number,
                    time(it.licence.expires_at_ms)
                )
            }
            Entity::Mandate(it) => self.mandate(it),
            Entity::Line(it) => line(it),
            Entity::Payment(it) => self.payment(it),
            Entity::Refund(it) => format!("{:?}, {} of payment {}", it.status, it.amount, it.payment),
            Entity::Window(it) => self.window(it),
            Entity::Obligation(it) => obligation(&it.balance),
            Entity::Position(it) => position(it),
            Entity::Control(it) => format!(
                "window {} open, fee schedule {} in force, all accounts debited {} and credited {}",
                it.open_window,
                it.schedule_version,
                sum(it.totals.debits_posted),
                sum(it.totals.credits_posted)
            ),
            Entity::WindowPayments(it) => format!("{} payments captured, root {}", it.n_payments, it.root),
            Entity::Schedule(it) => format!("{} legs, in force from {}", it.legs.len(), time(it.effective_at_ms)),
        }
    }

    fn mandate(&self, it: &Mandate) -> String {
        format!(
            "{:?}, from {} to {}, ceiling {}, at most {} a payment, until {}",
            it.status,
            self.name(it.acquirer()),
            self.name(it.issuer),
            it.ceiling,
            it.payment_cap,
            time(it.expires_at_ms)
        )
    }

    fn payment(&self, it: &Payment) -> String {
        let mut text = format!(
            "{:?}, {} in currency {}, taken by {}, funded by {}, captured {}, released {}, refunded {}",
            it.status,
            it.amount,
            it.currency,
            self.name(it.acquirer()),
            self.name(it.issuer),
            it.captured,
            it.released,
            it.refunded
        );
        if !it.captures.is_empty() {
            let legs: Vec<String> =
                it.captures.iter().map(|leg| format!("{} in window {}", leg.amount, leg.window)).collect();
            text.push_str(&format!("; captures: {}", legs.join(", ")));
        }
        if !it.fees.is_empty() {
            let legs: Vec<String> =
                it.fees.iter().map(|leg| format!("{} to {}", leg.posted, self.name(leg.payee))).collect();
            text.push_str(&format!("; fees: {}", legs.join(", ")));
        }
        text
    }

    fn window(&self, it: &Window) -> String {
        if it.closed_at_ms == 0 {
            return format!(
                "{:?}, opened at {}, closing at {}",
                it.status,
                time(it.opened_at_ms),
                time(it.closes_at_ms)
            );
        }
        let nets: Vec<String> =
            it.nets.iter().map(|it| format!("{} {}", self.name(it.participant), net(it.net))).collect();
        format!(
            "{:?}, opened at {}, closed at {}; nets, which add up to zero (+ is owed to the participant): {}",
            it.status,
            time(it.opened_at_ms),
            time(it.closed_at_ms),
            if nets.is_empty() { String::from("none") } else { nets.join(", ") }
        )
    }
}

fn participant(it: &Participant) -> String {
    format!("{} (participant {}, {})", it.name, it.id, it.legal_name)
}

fn line(it: &Line) -> String {
    let owed = it.balance.debits_posted.saturating_sub(it.balance.credits_posted);
    format!("held {}, owed {owed}", sum(it.balance.debits_pending), owed = sum(owed))
}

fn obligation(balance: &Balance) -> String {
    format!("owes {}, is owed {}", sum(balance.debits_posted), sum(balance.credits_posted))
}

fn position(it: &Position) -> String {
    let exposure = it.exposure().map_or_else(|| String::from("beyond range"), sum);
    format!("exposure {exposure}, cap {}, liquidity {}, held {}", it.cap, sum(it.cover()), it.holds)
}

fn answer(receipt: &Receipt) -> String {
    let when = format!("in block {} of {}", receipt.height, time(receipt.time_ms));
    match &receipt.result {
        OpResult::Done(key) => format!("The ledger did it, {when}, for {}.", subject(key)),
        OpResult::Refused(reject) => format!("The ledger refused it, {when}, with {reject}."),
    }
}

/// What an entity is called.
#[must_use]
pub fn subject(key: &EntityKey) -> String {
    match key {
        EntityKey::Participant(id) => format!("participant {id}"),
        EntityKey::Mandate(id) => format!("mandate {id}"),
        EntityKey::Line(id) => format!("the credit line of mandate {id}"),
        EntityKey::Payment(id) => format!("payment {id}"),
        EntityKey::Refund(id) => format!("refund {id}"),
        EntityKey::Dispute(id) => format!("dispute {id}"),
        EntityKey::Window(id) => format!("settlement window {id}"),
        EntityKey::Obligation(id, window) => format!("the account of participant {id} in settlement window {window}"),
        EntityKey::Position(id) => format!("the position of participant {id}"),
        EntityKey::Control => String::from("the ledger's own account"),
        EntityKey::WindowPayments(id) => format!("the list of payments of settlement window {id}"),
        EntityKey::Schedule(version) => format!("fee schedule {version}"),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sums_read_as_people_write_them() {
        assert_eq!(time(0), "1970-01-01 00:00:00.000 UTC");
        assert_eq!(time(1_763_836_466_123), "2025-11-22 18:34:26.123 UTC");
        assert_eq!(time(u64::MAX), "18446744073709551615 ms after 1970");
        assert_eq!((sum(5), net(-1_234_567), net(20)), ("0.05".into(), "-12345.67".into(), "+0.20".into()));
    }
}
