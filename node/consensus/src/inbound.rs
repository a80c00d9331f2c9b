//! From the peers into the engine. Everything is decoded here, bounded here, and only then handed on: the engine's mailboxes have no
//! bound of their own.
//!
//! * Each peer has so many frames a second; the rest is dropped, and its votes are sent again by it anyway.
//! * A vote counts only from the validator that cast it: nobody can fill the engine's queues with votes in others' names.
//! * Messages for heights that are decided, or further ahead than the engine can use, are dropped: catching up is for sync.
//! * Of a later height, each peer has so many messages.

use crate::codec;
use crate::context::{Anji, PublicKey};
use crate::network_actor::engine_peer;
use crate::proposals::Proposals;
use crate::serve::Server;
use crate::shared::Shared;
use crate::signer::VoteVerifier;
use crate::status;
use crate::wire::{self, ConsensusFrame, ControlFrame};
use anji_network::{Message, PeerEvent, PeerId, Request};
use anji_verify::Address;
use arc_malachitebft_app_channel::app::engine::network::NetworkEvent;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

/// Heights above the decided one whose messages the engine can use: the one it works on, and what it queues, which is ten. As many as of
/// proposals: one is of no use without the other.
pub(crate) const HEIGHTS_AHEAD: u64 = 8;
/// Messages of one peer for one height that is not worked on yet.
const EARLY_PER_HEIGHT: u32 = 64;
/// Frames of one peer a second, and at once. A healthy network at 100 blocks a second sends 500.
const FRAMES_PER_SECOND: f64 = 5_000.0;
const FRAMES_AT_ONCE: f64 = 10_000.0;

/// The receivers of the network that are consensus' own.
#[derive(Debug)]
pub struct Inbox {
    /// Frames of the consensus channel.
    pub consensus: mpsc::Receiver<Message>,
    /// Frames of the control channel.
    pub control: mpsc::Receiver<Message>,
    /// Requests of peers.
    pub requests: mpsc::Receiver<Request>,
    /// Peers that came and went.
    pub peers: mpsc::Receiver<PeerEvent>,
}

/// Takes everything off the network until it ends.
pub(crate) struct Inbound {
    shared: Arc<Shared>,
    proposals: Arc<Proposals>,
    server: Server,
    verifier: VoteVerifier,
    budgets: HashMap<PeerId, Budget>,
}

/// What one peer may still send.
struct Budget {
    frames: f64,
    filled: Instant,
    /// Messages for heights not worked on yet, by height.
    early: HashMap<u64, u32>,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { frames: FRAMES_AT_ONCE, filled: now, early: HashMap::new() }
    }

    /// Takes one frame, or as many as a frame is worth that is dear to check.
    fn take(&mut self, now: Instant, worth: usize) -> bool {
        let worth = worth as f64;
        let since = now.duration_since(self.filled).as_secs_f64();
        self.frames = (self.frames + since * FRAMES_PER_SECOND).min(FRAMES_AT_ONCE);
        self.filled = now;
        let enough = self.frames >= worth;
        if enough {
            self.frames -= worth;
        }
        enough
    }

    fn take_early(&mut self, height: u64, decided: u64) -> bool {
        self.early.retain(|early, _| *early > decided);
        let count = self.early.entry(height).or_default();
        *count += 1;
        *count <= EARLY_PER_HEIGHT
    }
}

impl Inbound {
    pub(crate) fn new(shared: Arc<Shared>, proposals: Arc<Proposals>, server: Server) -> Self {
        let verifier = VoteVerifier::new(shared.config.chain_id, &shared.config.validators);
        Self { shared, proposals, server, verifier, budgets: HashMap::new() }
    }

    /// Runs until the network ends.
    pub(crate) async fn run(mut self, mut inbox: Inbox) {
        loop {
            tokio::select! {
                Some(message) = inbox.consensus.recv() => self.on_consensus(message),
                Some(message) = inbox.control.recv() => self.on_control(&message),
                Some(request) = inbox.requests.recv() => self.server.serve(request),
                Some(event) = inbox.peers.recv() => self.on_peer(event),
                else => return,
            }
        }
    }

    fn on_peer(&mut self, event: PeerEvent) {
        let (peer, connected) = match event {
            PeerEvent::Connected(peer) => (peer, true),
            PeerEvent::Disconnected(peer) => (peer, false),
        };
        self.shared.peers.set_connected(peer, connected);
        if connected {
            status::send_to(&self.shared, peer);
        }
        let Some(peer) = engine_peer(&peer) else { return };
        let event = if connected { NetworkEvent::PeerConnected(peer) } else { NetworkEvent::PeerDisconnected(peer) };
        self.shared.link.emit(&event);
    }

    fn on_control(&mut self, message: &Message) {
        if !self.has_budget(message.from) {
            return self.shared.metrics.dropped("rate");
        }
        match wire::decode_control(&message.bytes) {
            Ok(ControlFrame::Status { decided_height, first_height }) => {
                self.shared.peers.set_tip(message.from, decided_height, first_height);
            }
            Err(error) => {
                self.shared.metrics.dropped("malformed");
                tracing::warn!(peer = %message.from, %error, "dropped a control frame");
            }
        }
    }

    fn on_consensus(&mut self, message: Message) {
        let peer = message.from;
        if !self.has_budget(peer) {
            return self.shared.metrics.dropped("rate");
        }
        let frame = match wire::decode_consensus(&message.bytes) {
            Ok(frame) => frame,
            Err(error) => {
                self.shared.metrics.dropped("malformed");
                tracing::warn!(%peer, %error, "dropped a consensus frame");
                return;
            }
        };
        let n_signatures = match &frame {
            ConsensusFrame::Polka(polka) => polka.signatures.len(),
            ConsensusFrame::Round(votes) => votes.signatures.len(),
            ConsensusFrame::Vote(_) | ConsensusFrame::Proposal(_) | ConsensusFrame::Part(_) => 0,
        };
        if n_signatures > self.shared.config.validators.validators().len() {
            return self.shared.metrics.dropped("too_many_signatures");
        }
        // Each signature is verified.
        if n_signatures > 0 && !self.has_budget_for(peer, n_signatures) {
            return self.shared.metrics.dropped("rate");
        }
        match self.route(peer, frame) {
            Ok(Some(event)) => self.shared.link.emit(&event),
            Ok(None) => {}
            Err(reason) => {
                self.shared.metrics.dropped(reason);
                tracing::debug!(%peer, reason, "dropped a consensus frame");
            }
        }
    }

    /// The event for the engine, if any; `Err` says why the frame is dropped.
    fn route(&mut self, peer: PeerId, frame: ConsensusFrame) -> Result<Option<NetworkEvent<Anji>>, &'static str> {
        let engine_peer = engine_peer(&peer).ok_or("peer")?;
        match frame {
            ConsensusFrame::Vote(vote) => {
                if self.shared.peers.validator_of(&peer) != Some(vote.validator) {
                    return Err("not_the_voter");
                }
                self.admit_height(peer, vote.height)?;
                let vote = codec::vote_from_wire(&vote);
                self.hear(vote.message.height.0, &vote.message.address.0, |verifier, key| {
                    verifier.verify_vote(&vote.message, &vote.signature, key)
                });
                Ok(Some(NetworkEvent::Vote(engine_peer, vote)))
            }
            ConsensusFrame::Proposal(proposal) => {
                self.admit_height(peer, proposal.height)?;
                let proposal = codec::proposal_from_wire(&proposal);
                self.hear(proposal.message.height.0, &proposal.message.address.0, |verifier, key| {
                    verifier.verify_proposal(&proposal.message, &proposal.signature, key)
                });
                Ok(Some(NetworkEvent::Proposal(engine_peer, proposal)))
            }
            ConsensusFrame::Polka(polka) => {
                self.admit_height(peer, polka.height)?;
                Ok(Some(NetworkEvent::PolkaCertificate(engine_peer, codec::polka_from_wire(polka))))
            }
            ConsensusFrame::Round(votes) => {
                self.admit_height(peer, votes.height)?;
                Ok(Some(NetworkEvent::RoundCertificate(engine_peer, codec::round_votes_from_wire(votes))))
            }
            ConsensusFrame::Part(part) => {
                // Held back until its batches are here, it is judged valid and its body is on disk.
                self.proposals.receive(peer, codec::part_from_wire(part))?;
                Ok(None)
            }
        }
    }

    fn admit_height(&mut self, peer: PeerId, height: u64) -> Result<(), &'static str> {
        let decided = self.shared.decided_height();
        if height <= decided {
            return Err("old_height");
        }
        if height > decided + HEIGHTS_AHEAD {
            return Err("far_height");
        }
        if height > decided + 1 && !self.budget(peer).take_early(height, decided) {
            return Err("early");
        }
        Ok(())
    }

    /// Notes that a validator works on a height, if it signed that: wakes an idle node. One signature per height is verified.
    fn hear(&self, height: u64, address: &Address, verify: impl FnOnce(&VoteVerifier, &PublicKey) -> bool) {
        if height <= self.shared.heard_height() {
            return;
        }
        let key = self.shared.validator_key(address).map(PublicKey);
        if key.is_some_and(|key| verify(&self.verifier, &key)) {
            self.shared.set_heard(height);
        }
    }

    fn budget(&mut self, peer: PeerId) -> &mut Budget {
        // Only configured peers connect, so this map is bounded by the configuration.
        self.budgets.entry(peer).or_insert_with(|| Budget::new(Instant::now()))
    }

    fn has_budget(&mut self, peer: PeerId) -> bool {
        self.has_budget_for(peer, 1)
    }

    fn has_budget_for(&mut self, peer: PeerId, worth: usize) -> bool {
        let now = Instant::now();
        self.budget(peer).take(now, worth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_flood_is_cut_to_the_budget_and_silence_fills_it_again() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let passed = (0..20_000).filter(|_| budget.take(start, 1)).count();
        assert_eq!(passed, 10_000);
        let later = start + Duration::from_millis(100);
        let passed = (0..20_000).filter(|_| budget.take(later, 1)).count();
        assert_eq!(passed, 500);
        assert!(!budget.take(later + Duration::from_millis(10), 51), "a certificate costs its signatures");
        assert!(budget.take(later + Duration::from_millis(10), 50));
    }

    #[test]
    fn early_messages_are_counted_per_height_and_forgotten_with_it() {
        let mut budget = Budget::new(Instant::now());
        let passed = (0..100).filter(|_| budget.take_early(12, 10)).count();
        assert_eq!(passed, 64);
        assert!(budget.take_early(13, 10));
        assert!(budget.take_early(14, 12));
        assert!(!budget.early.contains_key(&12));
    }
}
