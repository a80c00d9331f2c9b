//! No debit without a record, signed by the issuer, of what the shopper was shown.

use crate::reject::Reject;
use crate::types::{Disclosure, Hash32, ScheduleVersion};

/// A record as such: it names the lender, has the page, and the page was shown long enough.
pub(crate) fn check_record(disclosure: &Disclosure, min_shown_ms: u32) -> Result<(), Reject> {
    let complete = !disclosure.lender.is_empty() && disclosure.page_hash != Hash32::ZERO;
    if complete && disclosure.shown_ms >= min_shown_ms { Ok(()) } else { Err(Reject::DisclosureMissing) }
}

/// A record that covers a payment with these fee legs.
pub(crate) fn check_covers(
    disclosure: Option<&Disclosure>,
    schedule: ScheduleVersion,
    min_shown_ms: u32,
) -> Result<(), Reject> {
    let disclosure = disclosure.ok_or(Reject::DisclosureMissing)?;
    if disclosure.schedule_version != schedule {
        return Err(Reject::DisclosureMissing);
    }
    check_record(disclosure, min_shown_ms)
}
