//! What is known of the peers: who is connected, which validator a peer is, how far each says it is. Tips are claims: they wake and hurry
//! this node, they decide nothing, except that a follower waits for all of them to be passed before it votes.

use anji_network::PeerId;
use anji_verify::{Address, ValidatorSet, is_more_than_two_thirds};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::watch;

/// One peer as it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerView {
    /// The validator it is, if any.
    pub validator: Option<Address>,
    /// Whether all its channels are open.
    pub connected: bool,
    /// Its last decided height, as it said since this node started.
    pub tip: Option<u64>,
    /// The first height it can serve.
    pub first_height: Option<u64>,
}

/// All configured peers. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Peers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    table: RwLock<BTreeMap<PeerId, PeerView>>,
    /// Counts changes, so that one can wait for them.
    changes: watch::Sender<u64>,
}

impl Peers {
    pub(crate) fn new(configured: impl IntoIterator<Item = (PeerId, Option<Address>)>) -> Self {
        let table = configured
            .into_iter()
            .map(|(peer, validator)| (peer, PeerView { validator, ..PeerView::default() }))
            .collect();
        Self(Arc::new(Inner { table: RwLock::new(table), changes: watch::Sender::new(0) }))
    }

    pub(crate) fn set_connected(&self, peer: PeerId, connected: bool) {
        if let Some(view) = self.write().get_mut(&peer) {
            view.connected = connected;
        }
        self.0.changes.send_modify(|count| *count += 1);
    }

    /// Whether the tip is a new one.
    pub(crate) fn set_tip(&self, peer: PeerId, tip: u64, first_height: u64) -> bool {
        let changed = match self.write().get_mut(&peer) {
            Some(view) if view.tip != Some(tip) || view.first_height != Some(first_height) => {
                (view.tip, view.first_height) = (Some(tip), Some(first_height));
                true
            }
            _ => false,
        };
        if changed {
            self.0.changes.send_modify(|count| *count += 1);
        }
        changed
    }

    pub(crate) fn validator_of(&self, peer: &PeerId) -> Option<Address> {
        self.read().get(peer).and_then(|view| view.validator)
    }

    pub(crate) fn connected(&self) -> Vec<PeerId> {
        self.read().iter().filter(|(_, view)| view.connected).map(|(peer, _)| *peer).collect()
    }

    pub(crate) fn all(&self) -> BTreeMap<PeerId, PeerView> {
        self.read().clone()
    }

    /// The highest tip that any peer has told.
    pub(crate) fn highest_tip(&self) -> u64 {
        self.read().values().filter_map(|view| view.tip).max().unwrap_or(0)
    }

    /// Power of the connected validators, this node's own included.
    pub(crate) fn connected_power(&self, validators: &ValidatorSet, own: Option<Address>) -> u64 {
        let others = self.read().values().filter(|view| view.connected).filter_map(|view| view.validator).collect();
        power(validators, others, own)
    }

    /// The highest tip told by other validators, once those that told one have more than two thirds of the power.
    ///
    /// # Correctness
    /// Whatever height this node signed for, more than two thirds had decided or precommitted the height before: any two such groups share
    /// an honest validator, so this node signed for nothing above the answer + 2.
    pub(crate) fn quorum_tip(&self, validators: &ValidatorSet, own: Address) -> Option<u64> {
        let table = self.read();
        let told = || {
            table.values().filter_map(|view| Some((view.validator?, view.tip?))).filter(|(address, _)| *address != own)
        };
        let told_power = power(validators, told().map(|(address, _)| address).collect(), None);
        if !is_more_than_two_thirds(told_power, validators.total_power()) {
            return None;
        }
        told().map(|(_, tip)| tip).max()
    }

    /// The highest tip told, once the validators that told one and this node have more than two thirds of the power.
    pub(crate) fn tip_of_most(&self, validators: &ValidatorSet, own: Address) -> Option<u64> {
        let table = self.read();
        let told = || table.values().filter_map(|view| Some((view.validator?, view.tip?)));
        let told_power = power(validators, told().map(|(address, _)| address).collect(), Some(own));
        is_more_than_two_thirds(told_power, validators.total_power())
            .then(|| told().map(|(_, tip)| tip).max().unwrap_or(0))
    }

    /// The highest height that validators with more than a third of the power say is decided: one of them is honest, so it is.
    pub(crate) fn sure_tip(&self, validators: &ValidatorSet) -> u64 {
        let mut told: Vec<(u64, Address)> =
            self.read().values().filter_map(|view| Some((view.tip?, view.validator?))).collect();
        told.sort_unstable_by(|a, b| b.cmp(a));
        let total = u128::from(validators.total_power());
        let mut counted = Vec::with_capacity(told.len());
        for (tip, address) in told {
            counted.push(address);
            if u128::from(power(validators, counted.clone(), None)) * 3 > total {
                return tip;
            }
        }
        0
    }

    /// Whether every connected validator has told its tip.
    pub(crate) fn told_tips(&self) -> bool {
        let table = self.read();
        table.values().filter(|view| view.connected && view.validator.is_some()).all(|view| view.tip.is_some())
    }

    /// Counts changes of anything here.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<PeerId, PeerView>> {
        // Plain fields: whole whatever happened to the last holder.
        self.0.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<PeerId, PeerView>> {
        self.0.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn power(validators: &ValidatorSet, mut addresses: Vec<Address>, own: Option<Address>) -> u64 {
    addresses.extend(own);
    addresses.sort_unstable();
    addresses.dedup();
    addresses.iter().filter_map(|address| validators.get(address)).map(|it| it.power).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anji_contracts::types::ParticipantId;
    use anji_verify::Validator;

    fn set() -> ValidatorSet {
        let validator = |i: u8| Validator {
            address: Address([i; 20]),
            participant: ParticipantId(1),
            public_key: [i; 32],
            power: 1,
        };
        ValidatorSet::new((0..4).map(validator).collect()).expect("valid")
    }

    fn peer(i: u8) -> PeerId {
        anji_network::peer_id_of_seed(&[i; 32])
    }

    #[test]
    fn tips_count_once_more_than_two_thirds_of_other_validators_told_them() {
        let own = Address([0; 20]);
        let peers = Peers::new((1..4).map(|i| (peer(i), Some(Address([i; 20])))).chain([(peer(9), None)]));
        peers.set_tip(peer(1), 10, 1);
        peers.set_tip(peer(2), 12, 1);
        peers.set_tip(peer(9), 99, 1);
        assert_eq!(peers.quorum_tip(&set(), own), None, "two of four are no quorum, and an observer does not count");
        assert_eq!(peers.tip_of_most(&set(), own), Some(12), "with this node they are three");
        peers.set_tip(peer(3), 11, 1);
        assert_eq!(peers.quorum_tip(&set(), own), Some(12));
        assert_eq!(peers.highest_tip(), 99);
    }

    #[test]
    fn one_liar_of_four_makes_no_tip_sure() {
        let peers = Peers::new((1..4).map(|i| (peer(i), Some(Address([i; 20])))).chain([(peer(9), None)]));
        assert_eq!(peers.sure_tip(&set()), 0);
        peers.set_tip(peer(1), 1_000_000, 1);
        peers.set_tip(peer(9), 1_000_000, 1);
        assert_eq!(peers.sure_tip(&set()), 0, "a quarter of the power and an observer");
        peers.set_tip(peer(2), 40, 1);
        assert_eq!(peers.sure_tip(&set()), 40);
        peers.set_tip(peer(3), 42, 1);
        assert_eq!(peers.sure_tip(&set()), 42);
    }

    #[test]
    fn connected_power_counts_each_validator_once_and_strangers_never() {
        let peers = Peers::new((1..4).map(|i| (peer(i), Some(Address([i; 20])))));
        assert_eq!(peers.connected_power(&set(), Some(Address([0; 20]))), 1);
        peers.set_connected(peer(1), true);
        peers.set_connected(peer(77), true);
        assert_eq!(peers.connected_power(&set(), Some(Address([0; 20]))), 2);
        assert_eq!(peers.connected_power(&set(), None), 1);
        assert!(!is_more_than_two_thirds(2, 3) && is_more_than_two_thirds(3, 4));
    }
}
