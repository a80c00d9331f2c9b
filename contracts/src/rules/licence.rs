//! Who may act at all: role, status, licence term; and what the licence covers.

use crate::entity::Participant;
use crate::reject::Reject;
use crate::types::{Role, SceneSet};

/// The signer of an operation.
pub(crate) fn check_signer(signer: &Participant, roles: &[Role], now_ms: u64) -> Result<(), Reject> {
    if !roles.contains(&signer.role) {
        return Err(Reject::WrongRole);
    }
    check_standing(signer, now_ms)
}

/// A participant that must be able to act, signer or not.
pub(crate) const fn check_standing(participant: &Participant, now_ms: u64) -> Result<(), Reject> {
    if !participant.active {
        return Err(Reject::ParticipantNotActive);
    }
    if now_ms >= participant.licence.expires_at_ms {
        return Err(Reject::LicenceExpired);
    }
    Ok(())
}

/// The scenes that a licence must cover.
pub(crate) const fn check_scope(participant: &Participant, scenes: SceneSet) -> Result<(), Reject> {
    if scenes.is_subset_of(participant.licence.scenes) { Ok(()) } else { Err(Reject::LicenceScope) }
}
