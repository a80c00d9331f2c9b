//! Who proposes when: a pure function of the validator set and the last [`BENCH_WINDOW`] headers, the same on every node.
//!
//! The base order rotates by height. A header that was first proposed in a round above 0 shows that those before its proposer in the
//! base order let their turns pass: they are benched, that is moved behind the others, until they propose again or the header
//! leaves the window. So a dead validator costs one round of time-outs per window, not every n-th block (engine trap 13).

use anji_verify::{Address, Header, ValidatorSet};
use std::collections::VecDeque;

/// Headers looked at. A benched validator is tried again after so many heights: at 10 blocks a second once in 100 seconds, so that the lost
/// round stays below one per cent of the blocks. Being benched costs a live validator nothing: its batches are proposed by the others.
pub const BENCH_WINDOW: usize = 1024;

/// What the schedule needs to know of a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proposed {
    /// Height of the header.
    pub height: u64,
    /// Round in which it was first proposed.
    pub round: u32,
    /// Who proposed it.
    pub proposer: Address,
}

impl From<&Header> for Proposed {
    fn from(header: &Header) -> Self {
        Self { height: header.height, round: header.round, proposer: header.proposer }
    }
}

/// The last headers, oldest first.
#[derive(Clone, Debug, Default)]
pub struct History(VecDeque<Proposed>);

impl History {
    /// Adds the next header; the oldest leaves when the window is full.
    pub fn push(&mut self, proposed: Proposed) {
        if self.0.len() == BENCH_WINDOW {
            self.0.pop_front();
        }
        self.0.push_back(proposed);
    }

    /// The order of proposers at `height`, which follows the last header.
    #[must_use]
    pub fn schedule(&self, validators: &ValidatorSet, height: u64) -> Schedule {
        let base = base_order(validators, height);
        let (benched, active): (Vec<Address>, Vec<Address>) =
            base.into_iter().partition(|address| self.is_benched(validators, *address));
        Schedule { height, order: active.into_iter().chain(benched).collect() }
    }

    fn is_benched(&self, validators: &ValidatorSet, address: Address) -> bool {
        // The newest header that says anything about this validator decides.
        self.0
            .iter()
            .rev()
            .find_map(|proposed| {
                if proposed.proposer == address {
                    Some(false)
                } else if proposed.round > 0 && passed_over(validators, proposed, address) {
                    Some(true)
                } else {
                    None
                }
            })
            .unwrap_or(false)
    }
}

/// Whether `address` stands before the header's proposer in the base order of that height.
fn passed_over(validators: &ValidatorSet, proposed: &Proposed, address: Address) -> bool {
    base_order(validators, proposed.height)
        .into_iter()
        .take_while(|it| *it != proposed.proposer)
        .any(|it| it == address)
}

fn base_order(validators: &ValidatorSet, height: u64) -> Vec<Address> {
    let mut order: Vec<Address> = validators.validators().iter().map(|it| it.address).collect();
    let n = order.len() as u64;
    let first = usize::try_from(height % n).expect("smaller than the number of validators");
    order.rotate_left(first);
    order
}

/// Who proposes at one height.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    height: u64,
    order: Vec<Address>,
}

impl Schedule {
    /// The height it is for.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.height
    }

    /// All validators in the order of their rounds.
    #[must_use]
    pub fn order(&self) -> &[Address] {
        &self.order
    }

    /// Who proposes in a round.
    #[must_use]
    pub fn proposer(&self, round: u32) -> Address {
        self.order[usize::try_from(round).unwrap_or(0) % self.order.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anji_contracts::types::ParticipantId;
    use anji_verify::Validator;

    fn set(n: u8) -> ValidatorSet {
        let validator = |i: u8| Validator {
            address: Address([i; 20]),
            participant: ParticipantId(1),
            public_key: [i; 32],
            power: 1,
        };
        ValidatorSet::new((0..n).map(validator).collect()).expect("valid")
    }

    fn a(i: u8) -> Address {
        Address([i; 20])
    }

    fn push(history: &mut History, height: u64, round: u32, proposer: u8) {
        history.push(Proposed { height, round, proposer: a(proposer) });
    }

    #[test]
    fn rotates_by_height_and_wraps_by_round() {
        let (set, history) = (set(4), History::default());
        let schedule = history.schedule(&set, 6);
        assert_eq!(schedule.order(), [a(2), a(3), a(0), a(1)]);
        assert_eq!(schedule.proposer(5), a(3));
    }

    #[test]
    fn a_missed_turn_benches_until_the_next_proposal() {
        let set = set(4);
        let mut history = History::default();
        push(&mut history, 4, 0, 0);
        push(&mut history, 5, 1, 2); // 1 missed its turn
        assert_eq!(history.schedule(&set, 8).order(), [a(0), a(2), a(3), a(1)]);
        assert_eq!(history.schedule(&set, 9).order(), [a(2), a(3), a(0), a(1)], "the turn of 1 costs nothing any more");
        push(&mut history, 6, 0, 2);
        push(&mut history, 7, 3, 1); // 3 and 0 stand before 1 in the base order and missed theirs; 1 proposed
        assert_eq!(history.schedule(&set, 8).order(), [a(1), a(2), a(0), a(3)]);
    }

    #[test]
    fn the_newest_header_decides() {
        let set = set(2);
        let mut history = History::default();
        push(&mut history, 4, 1, 1);
        push(&mut history, 5, 1, 0);
        // 1 was passed over at height 5 after it proposed at 4; 0 proposed at 5.
        assert_eq!(history.schedule(&set, 7).order(), [a(0), a(1)]);
    }

    #[test]
    fn the_bench_ends_with_the_window() {
        let set = set(4);
        let mut history = History::default();
        push(&mut history, 1, 1, 2); // 1 missed
        for height in 2..=BENCH_WINDOW as u64 {
            push(&mut history, height, 0, 2);
        }
        let next = BENCH_WINDOW as u64 + 1;
        assert_eq!(history.schedule(&set, next).order().last(), Some(&a(1)));
        push(&mut history, next, 0, 2);
        assert_eq!(history.schedule(&set, next + 4).proposer(0), a(1), "tried again");
    }

    #[test]
    fn one_dead_of_four_costs_one_round_per_window() {
        let set = set(4);
        let mut history = History::default();
        let mut lost = 0;
        for height in 1..=3 * BENCH_WINDOW as u64 {
            let schedule = history.schedule(&set, height);
            let round = u32::from(schedule.proposer(0) == a(3));
            lost += round;
            history.push(Proposed { height, round, proposer: schedule.proposer(round) });
        }
        assert!(lost <= 4, "{lost} lost rounds");
    }
}
