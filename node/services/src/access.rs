//! Who sees what: a caller sees its own participant's part of the ledger; the clearing party and the regulator see all of it.

use crate::ledger::{Failure, entity, state_as};
use anji_contracts::entity::{Mandate, Payment};
use anji_contracts::types::{ParticipantId, PaymentId, Role};
use anji_contracts::{Entity, EntityKey};
use anji_storage::Reader;
use anji_wire::Reason;
use tonic::Status;

/// What a caller may see, as of now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sight {
    /// Its participant.
    pub(crate) own: ParticipantId,
    /// Whether it sees everybody's.
    pub(crate) all: bool,
}

impl Sight {
    /// Looks up the participant's role.
    ///
    /// # Errors
    /// The node's trouble. A participant that the ledger does not know sees what everybody sees.
    pub(crate) fn of(reader: &Reader, own: ParticipantId) -> Result<Self, Failure> {
        let known = reader.entity(&EntityKey::Participant(own))?;
        let role = known.and_then(|known| match known.entry.state {
            Entity::Participant(participant) => Some(participant.role),
            _ => None,
        });
        Ok(Self { own, all: matches!(role, Some(Role::Clearing | Role::Regulator)) })
    }

    /// Whether one of the parties is the caller's.
    pub(crate) fn sees(&self, parties: &[ParticipantId]) -> bool {
        self.all || parties.contains(&self.own)
    }

    /// Like [`Self::sees`].
    ///
    /// # Errors
    /// NOT_YOUR_DATA.
    pub(crate) fn check(&self, parties: &[ParticipantId]) -> Result<(), Status> {
        if self.sees(parties) { Ok(()) } else { Err(not_your_data()) }
    }

    /// Whether a changed entity is for the caller's eyes. A refund's parties are those of its payment, hence the reader.
    ///
    /// # Errors
    /// The node's trouble.
    pub(crate) fn sees_entity(&self, reader: &Reader, state: &Entity) -> Result<bool, Failure> {
        Ok(match state {
            Entity::Participant(_) | Entity::Window(_) | Entity::Schedule(_) => true,
            Entity::Mandate(mandate) => self.sees(&mandate_parties(mandate)),
            Entity::Payment(payment) => self.sees(&payment_parties(payment)),
            Entity::Refund(refund) => {
                self.sees(&[refund.id.0.participant]) || self.sees(&parties_of(reader, refund.payment)?)
            }
            Entity::Position(position) => self.sees(&[position.participant]),
            Entity::Line(_) | Entity::Obligation(_) | Entity::Control(_) | Entity::WindowPayments(_) => false,
        })
    }
}

/// The refusal that names nobody.
pub(crate) fn not_your_data() -> Status {
    Reason::NotYourData.status("this belongs to other participants")
}

/// Acquirer and issuer.
pub(crate) fn mandate_parties(mandate: &Mandate) -> [ParticipantId; 2] {
    [mandate.acquirer(), mandate.issuer]
}

/// Acquirer and issuer.
pub(crate) fn payment_parties(payment: &Payment) -> [ParticipantId; 2] {
    [payment.acquirer(), payment.issuer]
}

/// Acquirer and issuer of a payment by its id.
///
/// # Errors
/// The node's trouble.
pub(crate) fn parties_of(reader: &Reader, payment: PaymentId) -> Result<[ParticipantId; 2], Failure> {
    let (payment, ..) = state_as!(entity(reader, &EntityKey::Payment(payment), "payment")?, Payment)?;
    Ok(payment_parties(&payment))
}
