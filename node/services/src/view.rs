//! What the operator service shows of the rest of the node.

use anji_contracts::genesis::Params;
use anji_contracts::types::ParticipantId;
use anji_verify::equivocation::Equivocation;

/// What the node does in consensus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeRole {
    /// Votes.
    Validator,
    /// Follows without voting.
    Follower {
        /// Why.
        reason: String,
    },
}

/// The node in figures, beside what storage and mempool know themselves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeStatus {
    /// What it does in consensus.
    pub role: NodeRole,
    /// Last height decided and durable here.
    pub decided_height: u64,
    /// Height consensus is working on.
    pub consensus_height: u64,
    /// And its round.
    pub consensus_round: u32,
    /// Operations refused with a 9xxx code since the process started.
    pub n_alarms: u64,
}

/// A peer as the node sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerView {
    /// Name in the node's configuration.
    pub name: String,
    /// libp2p identity.
    pub peer_id: String,
    /// Whether it is connected.
    pub connected: bool,
    /// Where, if known.
    pub address: String,
    /// Highest height it says it has decided; 0 if unknown.
    pub height: u64,
    /// Bad batches or messages it sent.
    pub n_faults: u64,
    /// Its pushes are dropped until then; 0 if not.
    pub muted_until_ms: u64,
}

/// A validator of the next height.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ValidatorView {
    /// Its address.
    pub address: [u8; 20],
    /// Whose node.
    pub participant: ParticipantId,
    /// Its Ed25519 key.
    pub public_key: [u8; 32],
    /// Its voting power.
    pub power: u64,
}

/// The rest of the node, seen from here. Cheap calls that do not block.
pub trait NodeView: Send + Sync + 'static {
    /// The node in figures.
    fn status(&self) -> NodeStatus;
    /// The other nodes it may talk to.
    fn peers(&self) -> Vec<PeerView>;
    /// Who votes on the next height.
    fn validators(&self) -> Vec<ValidatorView>;
    /// What validators signed that excludes each other, oldest first.
    fn equivocations(&self) -> Vec<Equivocation>;
    /// The numbers of the rules in force.
    fn params(&self) -> Params;
}
