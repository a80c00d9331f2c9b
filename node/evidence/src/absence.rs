//! Absence in a closed window: the two payments between which the one in question would stand.

use crate::anchor::Anchored;
use crate::error::EvidenceError;
use anji_contracts::EntityKey;
use anji_contracts::types::{PaymentId, WindowId};
use anji_verify::bundle::AbsenceClaim;

impl Anchored<'_> {
    pub(crate) fn absence(&self, payment: &PaymentId, window: WindowId) -> Result<AbsenceClaim, EvidenceError> {
        let key = EntityKey::WindowPayments(window);
        let Some(version) = self.version_at(&key, self.last_index())? else {
            let exists = self.reader.entity(&EntityKey::Window(window))?.is_some();
            return Err(if exists { EvidenceError::WindowOpen } else { self.not_found("settlement window") });
        };
        // The entry is there, so the window's tree is complete: nothing to say of it means that the payment is in it.
        let neighbours = self.reader.window_absence(window, payment)?.ok_or(EvidenceError::Captured)?;
        Ok(AbsenceClaim { payment: *payment, payments: self.entry(version.known.index)?, neighbours })
    }
}
