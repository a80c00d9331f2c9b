//! Freshness of what each side asserts: risk, consent.

use super::CLOCK_AHEAD_MS;
use crate::reject::Reject;
use crate::types::{Consent, RiskAssertion};

/// A risk assertion that may be relied on now.
pub(crate) const fn check_fresh(assertion: &RiskAssertion, now_ms: u64) -> Result<(), Reject> {
    let made = assertion.as_of_ms <= now_ms.saturating_add(CLOCK_AHEAD_MS);
    if made && now_ms < assertion.valid_until_ms { Ok(()) } else { Err(Reject::AssertionStale) }
}

/// A consent that holds now.
pub(crate) const fn check_consent(consent: Option<&Consent>, now_ms: u64) -> Result<(), Reject> {
    match consent {
        Some(it) if it.given_at_ms <= now_ms.saturating_add(CLOCK_AHEAD_MS) && now_ms < it.until_ms => Ok(()),
        _ => Err(Reject::ConsentExpired),
    }
}
