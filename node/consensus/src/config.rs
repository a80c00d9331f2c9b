//! What an operator may set. The defaults are those of a data centre network of a handful of nodes.

use crate::clock::Clock;
use crate::engine_types::core::LinearTimeouts;
use crate::error::Fatal;
use crate::signer::ConsensusKey;
use anji_contracts::types::ChainId;
use anji_network::PeerId;
use anji_verify::{Address, ValidatorSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything consensus is told at start.
#[derive(Clone, Debug)]
pub struct ConsensusConfig {
    /// This node's name, in the engine's metrics.
    pub name: String,
    /// The ledger.
    pub chain_id: ChainId,
    /// Ledger time of genesis.
    pub genesis_time_ms: u64,
    /// Who votes.
    pub validators: Arc<ValidatorSet>,
    /// The key to vote with; an observer has none. A key outside the validator set makes an observer too.
    pub key: Option<ConsensusKey>,
    /// The folder of the consensus log.
    pub folder: PathBuf,
    /// All configured peers, with the validator that each is, if any.
    pub peers: Vec<(PeerId, Option<Address>)>,
    /// Time-outs.
    pub timing: Timing,
    /// The clock.
    pub clock: Clock,
}

/// Times of consensus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// How long to wait for a proposal before prevoting nil.
    pub propose: Duration,
    /// How long to wait for the rest of split prevotes.
    pub prevote: Duration,
    /// How long to wait for the rest of split precommits.
    pub precommit: Duration,
    /// All three grow by this with every round.
    pub round_delta: Duration,
    /// Votes are sent again after this, as long as a height lasts.
    pub rebroadcast: Duration,
    /// Shortest time from one block to the next; `None` goes as fast as it can. Batches gather meanwhile, so under load blocks are fuller.
    pub target_time: Option<Duration>,
    /// An idle chain makes a block after this long.
    pub heartbeat: Duration,
    /// How far ahead of this node's clock a live proposal may be.
    pub drift: Duration,
    /// How long to wait for peers at start, so that the first round is not lost.
    pub peer_wait: Duration,
    /// How long a peer's higher tip may stand before blocks are fetched instead of agreed on.
    pub sync_patience: Duration,
    /// How long a peer may take to answer a request.
    pub request_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            propose: Duration::from_millis(800),
            prevote: Duration::from_millis(200),
            precommit: Duration::from_millis(200),
            round_delta: Duration::from_millis(200),
            rebroadcast: Duration::from_secs(1),
            target_time: None,
            heartbeat: Duration::from_secs(10),
            drift: Duration::from_secs(2),
            peer_wait: Duration::from_secs(5),
            sync_patience: Duration::from_millis(300),
            request_timeout: Duration::from_secs(10),
        }
    }
}

impl Timing {
    pub(crate) fn engine(&self) -> LinearTimeouts {
        LinearTimeouts {
            propose: self.propose,
            propose_delta: self.round_delta,
            prevote: self.prevote,
            prevote_delta: self.round_delta,
            precommit: self.precommit,
            precommit_delta: self.round_delta,
            rebroadcast: self.rebroadcast,
            max_timeout: Duration::from_secs(10),
        }
    }
}

impl ConsensusConfig {
    /// Finds what contradicts itself.
    ///
    /// # Errors
    /// [`Fatal::Config`], naming the field.
    pub fn check(&self) -> Result<(), Fatal> {
        let timing = &self.timing;
        let named = [
            ("propose", timing.propose),
            ("prevote", timing.prevote),
            ("precommit", timing.precommit),
            ("rebroadcast", timing.rebroadcast),
            ("heartbeat", timing.heartbeat),
            ("drift", timing.drift),
            ("sync_patience", timing.sync_patience),
            ("request_timeout", timing.request_timeout),
        ];
        for (name, value) in named {
            if value.is_zero() {
                return Err(Fatal::Config(format!("{name} must be more than zero")));
            }
        }
        if timing.target_time.is_some_and(|target| target >= timing.heartbeat) {
            return Err(Fatal::Config("target_time must be less than heartbeat".to_owned()));
        }
        let unknown = self.peers.iter().filter_map(|(_, it)| *it).find(|it| self.validators.get(it).is_none());
        if let Some(address) = unknown {
            return Err(Fatal::Config(format!("a peer is configured as validator {address}, which is none")));
        }
        let mut addresses: Vec<Address> = self.peers.iter().filter_map(|(_, it)| *it).collect();
        addresses.extend(self.own_address());
        addresses.sort_unstable();
        if addresses.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Fatal::Config("two nodes are configured as the same validator".to_owned()));
        }
        Ok(())
    }

    /// The address this node votes under; `None` for an observer.
    #[must_use]
    pub fn own_address(&self) -> Option<Address> {
        let address = self.key.as_ref()?.address();
        self.validators.get(&address).map(|_| address)
    }
}
