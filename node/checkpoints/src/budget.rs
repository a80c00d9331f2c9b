//! What each peer may cost this node: a rate of signatures, paid for before they are verified.

use anji_network::PeerId;
use std::collections::HashMap;
use std::time::Instant;

/// Signatures a second and at once. A validator at 50 blocks a second sends 50; an answer to a question holds some hundred.
const PER_SECOND: f64 = 1_000.0;
const AT_ONCE: f64 = 2_000.0;
/// What a frame costs that no honest node sends.
const FAULT: f64 = 200.0;

/// All peers' budgets. Only configured peers connect, so the map is bounded by the configuration.
#[derive(Default)]
pub(crate) struct Budgets(HashMap<PeerId, Budget>);

struct Budget {
    left: f64,
    filled: Instant,
}

impl Budgets {
    fn of(&mut self, peer: PeerId, now: Instant) -> &mut Budget {
        let budget = self.0.entry(peer).or_insert(Budget { left: AT_ONCE, filled: now });
        let since = now.saturating_duration_since(budget.filled).as_secs_f64();
        budget.left = (budget.left + since * PER_SECOND).min(AT_ONCE);
        budget.filled = now;
        budget
    }

    /// Takes so much; false, and nothing is taken, if there is less.
    pub(crate) fn take(&mut self, peer: PeerId, now: Instant, worth: usize) -> bool {
        let worth = worth as f64;
        let budget = self.of(peer, now);
        let enough = budget.left >= worth;
        if enough {
            budget.left -= worth;
        }
        enough
    }

    /// A frame that no honest node sends.
    pub(crate) fn punish(&mut self, peer: PeerId, now: Instant) {
        let budget = self.of(peer, now);
        budget.left = (budget.left - FAULT).max(-AT_ONCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_flood_is_cut_and_faults_cost_more() {
        let (peer, other) = (PeerId::random(), PeerId::random());
        let start = Instant::now();
        let mut budgets = Budgets::default();
        assert_eq!((0..5_000).filter(|_| budgets.take(peer, start, 1)).count(), 2_000);
        assert!(budgets.take(other, start, 2_000), "another peer's is its own");
        let later = start + Duration::from_millis(100);
        assert!(!budgets.take(peer, later, 101) && budgets.take(peer, later, 100));
        for _ in 0..50 {
            budgets.punish(peer, later);
        }
        let later = later + Duration::from_millis(1_900);
        assert!(!budgets.take(peer, later, 1), "it pays for its faults first");
        assert!(budgets.take(peer, later + Duration::from_millis(200), 1));
    }
}
