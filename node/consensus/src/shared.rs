//! What all parts of consensus on one node hold together. Every lock is held for look-ups only, never across an await.

use crate::bodies::Bodies;
use crate::catch_up::Avoided;
use crate::chain::Chain;
use crate::config::ConsensusConfig;
use crate::context::{Anji, Voters};
use crate::engine_link::EngineLink;
use crate::engine_types::core::HeightParams;
use crate::error::{Fatal, PortError};
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::ports::{Blocks, Execution, Pool};
use anji_network::NetworkHandle;
use anji_verify::Address;
use anji_verify::equivocation::Equivocation;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;
use tokio::sync::{broadcast, mpsc, watch};

/// Equivocations that wait to be kept; a validator that makes more has been found out already.
const EQUIVOCATIONS: usize = 256;

/// One node's consensus.
pub(crate) struct Shared {
    pub(crate) config: ConsensusConfig,
    pub(crate) blocks: Arc<dyn Blocks>,
    pub(crate) execution: Arc<dyn Execution>,
    pub(crate) pool: Arc<dyn Pool>,
    pub(crate) network: NetworkHandle,
    pub(crate) peers: Peers,
    pub(crate) bodies: Bodies,
    pub(crate) metrics: Metrics,
    pub(crate) link: EngineLink,
    chain: RwLock<Chain>,
    /// The last decided height, after the chain has it.
    decided: watch::Sender<u64>,
    /// The highest height that a validator has signed a message for, as far as heard.
    heard: watch::Sender<u64>,
    /// The last height that came from a peer's block file.
    last_synced: AtomicU64,
    /// Empty blocks in a row that were made though the pool had something before and after.
    fruitless: AtomicU32,
    /// Set once consensus has failed.
    failed: watch::Sender<bool>,
    fatal: mpsc::Sender<Fatal>,
    /// The first height that this node votes on since it started or began to vote; `None` while it does not.
    votes_from: watch::Sender<Option<u64>>,
    /// Peers that are not asked for blocks for a while.
    pub(crate) avoided: Avoided,
    /// What validators signed that excludes each other.
    equivocations: broadcast::Sender<Equivocation>,
    progress: Mutex<Progress>,
}

/// Where the engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) height: u64,
    pub(crate) round: u32,
    pub(crate) height_started: Instant,
    pub(crate) role: Role,
}

/// What this node does in consensus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// Signs votes and proposals.
    Validator,
    /// Holds a validator's key but follows only, until `votes_after` is decided (`None`: the tips of enough validators are not known yet).
    Follower {
        /// Why.
        reason: String,
        /// The decided height after which it votes.
        votes_after: Option<u64>,
    },
    /// Is no validator.
    Observer,
}

pub(crate) struct Parts {
    pub(crate) config: ConsensusConfig,
    pub(crate) blocks: Arc<dyn Blocks>,
    pub(crate) execution: Arc<dyn Execution>,
    pub(crate) pool: Arc<dyn Pool>,
    pub(crate) network: NetworkHandle,
    pub(crate) metrics: Metrics,
    pub(crate) chain: Chain,
    pub(crate) bodies: Bodies,
    pub(crate) fatal: mpsc::Sender<Fatal>,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Self {
        let decided = parts.chain.tip().height;
        parts.metrics.height.set(i64::try_from(decided).unwrap_or(i64::MAX));
        Self {
            peers: Peers::new(parts.config.peers.iter().copied()),
            config: parts.config,
            blocks: parts.blocks,
            execution: parts.execution,
            pool: parts.pool,
            network: parts.network,
            bodies: parts.bodies,
            metrics: parts.metrics,
            link: EngineLink::default(),
            chain: RwLock::new(parts.chain),
            decided: watch::Sender::new(decided),
            heard: watch::Sender::new(decided),
            last_synced: AtomicU64::new(0),
            fruitless: AtomicU32::new(0),
            failed: watch::Sender::new(false),
            fatal: parts.fatal,
            votes_from: watch::Sender::new(None),
            avoided: Avoided::default(),
            equivocations: broadcast::Sender::new(EQUIVOCATIONS),
            progress: Mutex::new(Progress {
                height: decided,
                round: 0,
                height_started: Instant::now(),
                role: Role::Observer,
            }),
        }
    }

    pub(crate) fn chain(&self) -> RwLockReadGuard<'_, Chain> {
        // Nothing in `Chain` panics half-way through a change.
        self.chain.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn chain_mut(&self) -> RwLockWriteGuard<'_, Chain> {
        self.chain.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last decided height.
    pub(crate) fn decided_height(&self) -> u64 {
        *self.decided.borrow()
    }

    pub(crate) fn decided(&self) -> watch::Receiver<u64> {
        self.decided.subscribe()
    }

    /// The chain has a new tip.
    pub(crate) fn set_decided(&self, height: u64) {
        self.decided.send_replace(height);
        self.metrics.height.set(i64::try_from(height).unwrap_or(i64::MAX));
    }

    pub(crate) fn heard_height(&self) -> u64 {
        *self.heard.borrow()
    }

    pub(crate) fn heard(&self) -> watch::Receiver<u64> {
        self.heard.subscribe()
    }

    /// A validator signed something for this height.
    pub(crate) fn set_heard(&self, height: u64) {
        self.heard.send_if_modified(|heard| {
            let higher = height > *heard;
            *heard = height.max(*heard);
            higher
        });
    }

    pub(crate) fn last_synced(&self) -> u64 {
        self.last_synced.load(Ordering::Relaxed)
    }

    pub(crate) fn set_last_synced(&self, height: u64) {
        self.last_synced.store(height, Ordering::Relaxed);
    }

    /// How many blocks in a row took nothing from a pool that has something, `next` being about to begin.
    pub(crate) fn count_fruitless(&self, next: u64, pool_has_some: bool) -> u32 {
        let last_nonempty = self.chain().last_nonempty();
        if !pool_has_some || next <= last_nonempty + 2 {
            self.fruitless.store(0, Ordering::Relaxed);
            return 0;
        }
        self.fruitless.fetch_add(1, Ordering::Relaxed)
    }

    /// Stops the node. The first reason is the one that is told.
    pub(crate) fn fail(&self, fatal: Fatal) {
        tracing::error!(%fatal, "consensus stops");
        // Full: another reason came first.
        let _ = self.fatal.try_send(fatal);
        self.failed.send_replace(true);
    }

    /// Whether consensus has failed.
    pub(crate) fn failed(&self) -> watch::Receiver<bool> {
        self.failed.subscribe()
    }

    /// This node votes, and on nothing below `height`; 0 if its log tells all it ever signed.
    pub(crate) fn set_votes_from(&self, height: u64) {
        self.update_progress(|progress| progress.role = Role::Validator);
        self.votes_from.send_replace(Some(height));
    }

    /// A validator signed two things that exclude each other.
    pub(crate) fn equivocated(&self, equivocation: Equivocation) {
        // Nobody listening: it was logged and counted.
        let _ = self.equivocations.send(equivocation);
    }

    pub(crate) fn equivocations(&self) -> broadcast::Receiver<Equivocation> {
        self.equivocations.subscribe()
    }

    pub(crate) fn votes_from(&self) -> watch::Receiver<Option<u64>> {
        self.votes_from.subscribe()
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn update_progress(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What the engine needs to start the height after the tip.
    pub(crate) fn next_height_params(&self) -> HeightParams<Anji> {
        let chain = self.chain();
        let voters = Voters::new(chain.validators(), &chain.next_schedule());
        HeightParams::new(voters, self.config.timing.engine(), self.config.timing.target_time)
    }

    /// The public key of a validator.
    pub(crate) fn validator_key(&self, address: &Address) -> Option<[u8; 32]> {
        self.config.validators.get(address).map(|validator| validator.public_key)
    }

    /// Runs something that blocks, such as an append to the block file, off the async threads.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, PortError> + Send + 'static,
    ) -> Result<T, PortError> {
        let shared = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&shared)).await {
            Ok(result) => result,
            Err(error) => Err(PortError::new(format!("a blocking task ended: {error}"))),
        }
    }
}
