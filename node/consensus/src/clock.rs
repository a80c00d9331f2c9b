//! The wall clock, and the one test that uses it: a live proposal whose time is too far ahead waits. It is never called invalid: whether a
//! block is valid must not depend on a clock (engine trap 10). A node with a wrong clock therefore votes late or not at all, keeps
//! following, and says by how much its clock is off.

use anji_verify::Address;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, with an offset that tests turn.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    offset_ms: Arc<AtomicI64>,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// Turns the clock, for tests and drills.
    pub fn set_offset_ms(&self, offset_ms: i64) {
        self.offset_ms.store(offset_ms, Ordering::Relaxed);
    }

    /// Now.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        now_ms.saturating_add_signed(self.offset_ms.load(Ordering::Relaxed))
    }
}

/// How long to wait until a live proposal of time `time_ms` may be judged; `None` if it may be now.
#[must_use]
pub fn wait_for_time(time_ms: u64, now_ms: u64, drift: Duration) -> Option<Duration> {
    let limit_ms = now_ms.saturating_add(u64::try_from(drift.as_millis()).unwrap_or(u64::MAX));
    time_ms.checked_sub(limit_ms).filter(|wait_ms| *wait_ms > 0).map(Duration::from_millis)
}

/// Warns when the others' proposals tell that this node's clock is off. One liar alone is not believed.
#[derive(Debug)]
pub(crate) struct OffsetWatch {
    tolerance_ms: i64,
    /// Per proposer, its newest proposal's time minus our time on arrival, and when that was.
    seen: BTreeMap<Address, (i64, Instant)>,
    warned: Option<Instant>,
}

/// Observations older than this count no more.
const FRESH: Duration = Duration::from_secs(60);
/// At most one warning in this time.
const REPEAT: Duration = Duration::from_secs(30);

impl OffsetWatch {
    pub(crate) fn new(drift: Duration) -> Self {
        let tolerance_ms = i64::try_from(drift.as_millis()).unwrap_or(i64::MAX);
        Self { tolerance_ms, seen: BTreeMap::new(), warned: None }
    }

    /// A fresh proposal of `proposer` arrived; returns our clock's offset (positive: ahead) where a warning is due.
    pub(crate) fn on_proposal(&mut self, proposer: Address, time_ms: u64, now_ms: u64, at: Instant) -> Option<i64> {
        let ahead_ms = i64::try_from(i128::from(now_ms) - i128::from(time_ms)).unwrap_or(i64::MAX);
        self.seen.insert(proposer, (ahead_ms, at));
        self.seen.retain(|_, (_, seen)| at.duration_since(*seen) < FRESH);
        if self.warned.is_some_and(|warned| at.duration_since(warned) < REPEAT) {
            return None;
        }
        let mut offsets: Vec<i64> = self.seen.values().map(|(ahead_ms, _)| *ahead_ms).collect();
        if offsets.len() < 2 {
            return None;
        }
        offsets.sort_unstable();
        // All must agree; of three and more, all but the most extreme one.
        let extreme = usize::from(offsets.len() > 2);
        let ahead = offsets[extreme];
        let behind = offsets[offsets.len() - 1 - extreme];
        let offset = if ahead > self.tolerance_ms {
            ahead
        } else if behind < -self.tolerance_ms {
            behind
        } else {
            return None;
        };
        self.warned = Some(at);
        Some(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRIFT: Duration = Duration::from_secs(2);

    #[test]
    fn a_proposal_from_the_future_waits_until_it_is_within_the_drift() {
        assert_eq!(wait_for_time(10_000, 8_000, DRIFT), None);
        assert_eq!(wait_for_time(10_001, 8_000, DRIFT), Some(Duration::from_millis(1)));
        assert_eq!(wait_for_time(1, 8_000, DRIFT), None, "an old time is no reason: catching up must work");
        assert_eq!(wait_for_time(u64::MAX, 0, DRIFT), Some(Duration::from_millis(u64::MAX - 2_000)));
    }

    #[test]
    fn two_proposers_that_agree_are_believed_one_is_not() {
        let mut watch = OffsetWatch::new(DRIFT);
        let at = Instant::now();
        assert_eq!(watch.on_proposal(Address([1; 20]), 100_000, 3_700_000, at), None);
        assert_eq!(
            watch.on_proposal(Address([2; 20]), 100_100, 3_700_100, at),
            Some(3_600_000),
            "our clock is an hour ahead"
        );
        assert_eq!(watch.on_proposal(Address([3; 20]), 100_100, 3_700_100, at), None, "not again at once");

        let mut watch = OffsetWatch::new(DRIFT);
        watch.on_proposal(Address([1; 20]), 100_000, 100_010, at);
        assert_eq!(watch.on_proposal(Address([2; 20]), 9_000_000, 100_010, at), None, "one liar");

        let mut watch = OffsetWatch::new(DRIFT);
        watch.on_proposal(Address([1; 20]), 105_000, 100_000, at);
        assert_eq!(watch.on_proposal(Address([2; 20]), 105_000, 100_000, at), Some(-5_000), "our clock is behind");
    }
}
