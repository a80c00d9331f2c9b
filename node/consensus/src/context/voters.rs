//! The validators of one height with the order in which they propose: so that the engine's choice of a proposer is a pure look-up.

use super::{Anji, Height, PublicKey, VoterAddress};
use crate::engine_types::core::{self, VotingPower};
use crate::proposer::Schedule;
use anji_verify::ValidatorSet;
use std::sync::Arc;

/// One validator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Voter {
    pub(crate) address: VoterAddress,
    pub(crate) public_key: PublicKey,
    pub(crate) power: u64,
}

impl core::Validator<Anji> for Voter {
    fn address(&self) -> &VoterAddress {
        &self.address
    }

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn voting_power(&self) -> VotingPower {
        self.power
    }
}

/// The validators of one height, sorted by address. Cheap to clone: the engine does so often.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Voters(Arc<Inner>);

#[derive(PartialEq, Eq, Debug)]
struct Inner {
    height: Height,
    voters: Vec<Voter>,
    total_power: u64,
    /// Positions in `voters`, by round modulo their number.
    order: Vec<usize>,
}

impl Voters {
    /// The voters of a height. `schedule` was made from the same set.
    pub(crate) fn new(set: &ValidatorSet, schedule: &Schedule) -> Self {
        let voters: Vec<Voter> = set
            .validators()
            .iter()
            .map(|it| Voter {
                address: VoterAddress(it.address),
                public_key: PublicKey(it.public_key),
                power: it.power,
            })
            .collect();
        let place = |address| voters.iter().position(|voter| voter.address.0 == address);
        let order = schedule.order().iter().filter_map(|address| place(*address)).collect();
        Self(Arc::new(Inner { height: Height(schedule.height()), voters, total_power: set.total_power(), order }))
    }

    pub(crate) fn height(&self) -> Height {
        self.0.height
    }

    /// Who proposes in a round.
    pub(crate) fn proposer(&self, round: u32) -> &Voter {
        let turn = usize::try_from(round).unwrap_or(0) % self.0.order.len();
        &self.0.voters[self.0.order[turn]]
    }
}

impl core::ValidatorSet<Anji> for Voters {
    fn count(&self) -> usize {
        self.0.voters.len()
    }

    fn total_voting_power(&self) -> VotingPower {
        self.0.total_power
    }

    fn get_by_address(&self, address: &VoterAddress) -> Option<&Voter> {
        self.0.voters.binary_search_by_key(address, |it| it.address).ok().map(|index| &self.0.voters[index])
    }

    fn get_by_index(&self, index: usize) -> Option<&Voter> {
        self.0.voters.get(index)
    }
}
