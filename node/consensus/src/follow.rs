//! When a validator without an intact log of its own may vote (engine trap 11): once a height is decided that is above every height it could
//! have signed.

/// Heights above the highest tip of a quorum that this node could have signed for, see [`crate::peers`].
const MARGIN: u64 = 2;

/// Whether the node may vote after `decided`. `votes_after` is fixed by the first quorum of tips that is learned.
pub(crate) fn may_vote(votes_after: &mut Option<u64>, decided: u64, quorum_tip: impl FnOnce() -> Option<u64>) -> bool {
    if votes_after.is_none() {
        *votes_after = quorum_tip().map(|tip| tip + MARGIN);
        if let Some(after) = votes_after {
            tracing::info!(
                votes_after = *after,
                "the tips of enough validators are known; this node votes once a height above that is decided"
            );
        }
    }
    votes_after.is_some_and(|after| decided > after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wiped_validator_waits_for_a_quorum_of_tips_and_then_for_more_than_two_heights() {
        let mut votes_after = None;
        assert!(!may_vote(&mut votes_after, 1_000, || None), "no quorum, no vote, however far it has followed");
        assert!(!may_vote(&mut votes_after, 1_000, || Some(1_000)));
        assert!(!may_vote(&mut votes_after, 1_002, || unreachable!("fixed")));
        assert!(may_vote(&mut votes_after, 1_003, || unreachable!("fixed")));
    }
}
