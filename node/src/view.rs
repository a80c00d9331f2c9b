//! The node as its operator sees it: figures for the operator service, and every reason why it is not ready.

use crate::app::role_in_words;
use anji_checkpoints::{Checkpoints, Equivocations};
use anji_consensus::{ConsensusHandle, Role};
use anji_contracts::genesis::Params;
use anji_execution::ExecutionHandle;
use anji_mempool::Mempool;
use anji_network::NetworkHandle;
use anji_services::{NodeRole, NodeStatus, NodeView, PeerView, ValidatorView};
use anji_storage::Reader;
use anji_verify::ValidatorSet;
use anji_verify::equivocation::Equivocation;
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A node this far behind its peers is catching up and not ready.
const BEHIND_BLOCKS: u64 = 20;
/// Less free space than this, and the node says that it is not ready, while it still can.
const MIN_FREE_BYTES: u64 = 512 << 20;
/// Reading the disk's figures is not free.
const DISK_EVERY: Duration = Duration::from_secs(10);

/// What is looked at.
pub(crate) struct Parts {
    pub(crate) consensus: ConsensusHandle,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) execution: ExecutionHandle,
    pub(crate) network: NetworkHandle,
    pub(crate) mempool: Mempool,
    pub(crate) validators: Arc<ValidatorSet>,
    pub(crate) n_alarms: Arc<AtomicU64>,
    pub(crate) reader: Reader,
    pub(crate) equivocations: Equivocations,
}

/// The view.
pub(crate) struct View {
    parts: Parts,
    free_bytes: Mutex<(Option<Instant>, Option<u64>)>,
}

impl View {
    pub(crate) const fn new(parts: Parts) -> Self {
        Self { parts, free_bytes: Mutex::new((None, None)) }
    }

    /// Every reason why the node is not ready; empty when it is.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        let status = self.parts.consensus.status();
        let peers = self.parts.network.peers();
        if !peers.is_empty() && !peers.iter().any(anji_network::PeerStatus::is_connected) {
            troubles.push(String::from("no peer is connected"));
        }
        let highest = status.peers.values().filter(|it| it.connected).filter_map(|it| it.tip).max().unwrap_or(0);
        if highest > status.decided_height + BEHIND_BLOCKS {
            troubles.push(format!("catching up: decided {}, peers are at {highest}", status.decided_height));
        }
        let executed = self.parts.execution.executed().height;
        if status.decided_height > executed + BEHIND_BLOCKS {
            troubles.push(format!("execution is behind: decided {}, executed {executed}", status.decided_height));
        }
        if let Some(free) = self.free_bytes().filter(|it| *it < MIN_FREE_BYTES) {
            troubles.push(format!("only {} MiB are free in the data folder", free >> 20));
        }
        troubles
    }

    fn free_bytes(&self) -> Option<u64> {
        let mut cached = self.free_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.0.is_none_or(|at| at.elapsed() > DISK_EVERY) {
            *cached = (Some(Instant::now()), self.parts.reader.disk_usage().free_bytes);
        }
        cached.1
    }

    /// Figures for the health page.
    pub(crate) fn details(&self) -> Map<String, Value> {
        let status = self.parts.consensus.status();
        let executed = self.parts.execution.executed();
        let connected = self.parts.network.peers().iter().filter(|it| it.is_connected()).count();
        Map::from_iter([
            (String::from("role"), json!(role_in_words(&status.role))),
            (String::from("decided_height"), json!(status.decided_height)),
            (String::from("executed_height"), json!(executed.height)),
            (String::from("final_height"), json!(self.parts.checkpoints.final_head().height)),
            (String::from("ledger_time_ms"), json!(executed.time_ms)),
            (String::from("log_root"), json!(executed.log.root.to_string())),
            (String::from("peers_connected"), json!(connected)),
            (String::from("alarms"), json!(self.parts.n_alarms.load(Ordering::Relaxed))),
        ])
    }
}

impl NodeView for View {
    fn status(&self) -> NodeStatus {
        let status = self.parts.consensus.status();
        NodeStatus {
            role: match &status.role {
                Role::Validator => NodeRole::Validator,
                Role::Observer => NodeRole::Follower { reason: String::from("observer: it has no validator's key") },
                Role::Follower { .. } => NodeRole::Follower { reason: role_in_words(&status.role) },
            },
            decided_height: status.decided_height,
            consensus_height: status.height,
            consensus_round: status.round,
            n_alarms: self.parts.n_alarms.load(Ordering::Relaxed),
        }
    }

    fn peers(&self) -> Vec<PeerView> {
        let tips = self.parts.consensus.status().peers;
        let peers = self.parts.network.peers();
        peers
            .into_iter()
            .map(|peer| {
                let standing = self.parts.mempool.peer_standing(&peer.peer_id);
                PeerView {
                    connected: peer.is_connected(),
                    peer_id: peer.peer_id.to_string(),
                    height: tips.get(&peer.peer_id).and_then(|it| it.tip).unwrap_or(0),
                    name: peer.name,
                    address: String::new(),
                    n_faults: standing.n_faults,
                    muted_until_ms: standing.muted_until_ms,
                }
            })
            .collect()
    }

    fn validators(&self) -> Vec<ValidatorView> {
        let all = self.parts.validators.validators().iter();
        all.map(|it| ValidatorView {
            address: it.address.0,
            participant: it.participant,
            public_key: it.public_key,
            power: it.power,
        })
        .collect()
    }

    fn equivocations(&self) -> Vec<Equivocation> {
        self.parts.equivocations.all()
    }

    fn params(&self) -> Params {
        (*self.parts.execution.registry().params).clone()
    }
}
