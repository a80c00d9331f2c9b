//! From a configuration to a running consensus, and its end.

use crate::app::Next;
use crate::bodies::Bodies;
use crate::chain::Chain;
use crate::config::ConsensusConfig;
use crate::engine::{Engine, Start, role_at_start, settle_fresh, with_new_log};
use crate::error::{Fatal, PortError};
use crate::handlers::decided::restore;
use crate::inbound::{Inbound, Inbox};
use crate::metrics::Metrics;
use crate::peers::PeerView;
use crate::ports::{Blocks, Execution, Pool};
use crate::proposals::Proposals;
use crate::proposer::BENCH_WINDOW;
use crate::serve::Server;
use crate::shared::{Parts, Role, Shared};
use crate::status;
use anji_contracts::batch::MAX_BATCH_LIFE_MS;
use anji_network::{NetworkHandle, PeerId};
use anji_verify::equivocation::Equivocation;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Mutex, broadcast, mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};

/// The neighbours of consensus.
pub struct Neighbours {
    /// The block file.
    pub blocks: Arc<dyn Blocks>,
    /// Execution, already replayed to the last decided block.
    pub execution: Arc<dyn Execution>,
    /// The mempool.
    pub pool: Arc<dyn Pool>,
    /// The network.
    pub network: NetworkHandle,
    /// Its receivers for consensus.
    pub inbox: Inbox,
}

/// Consensus on one node.
pub struct Consensus;

/// How consensus stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsensusStatus {
    /// The last decided height.
    pub decided_height: u64,
    /// Its header hash; zero before the first block.
    pub decided_hash: anji_contracts::types::Hash32,
    /// Its ledger time.
    pub decided_time_ms: u64,
    /// The height that the engine works on.
    pub height: u64,
    /// Its round.
    pub round: u32,
    /// What this node does.
    pub role: Role,
    /// The peers, and how far they say they are.
    pub peers: BTreeMap<PeerId, PeerView>,
    /// Batches of the last ten minutes of ledger time, which may not be repeated.
    pub recent_batches: usize,
}

/// The way to a running consensus. Clones share it; it goes on when they are dropped.
#[derive(Clone)]
pub struct ConsensusHandle {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
    fatal: Arc<Mutex<mpsc::Receiver<Fatal>>>,
}

impl std::fmt::Debug for ConsensusHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ConsensusHandle(decided {})", self.shared.decided_height())
    }
}

impl Consensus {
    /// Starts consensus at the height after the last decided one.
    ///
    /// # Errors
    /// The configuration contradicts itself, the log is damaged, the block file cannot be read, or the engine does not start.
    pub async fn start(
        config: ConsensusConfig,
        neighbours: Neighbours,
        registry: &mut Registry,
    ) -> Result<ConsensusHandle, Fatal> {
        config.check()?;
        let Neighbours { blocks, execution, pool, network, inbox } = neighbours;
        let (fatal, fatal_rx) = mpsc::channel(1);
        let metrics = Metrics::register(registry);
        let loading = (config.clone(), Arc::clone(&blocks), Arc::clone(&execution), Arc::clone(&pool));
        let loaded = tokio::task::spawn_blocking(move || load(&loading.0, &*loading.1, &*loading.2, &*loading.3)).await;
        let (chain, bodies) = loaded.map_err(|error| Fatal::Engine(error.to_string()))?.map_err(Fatal::Blocks)?;
        let parts = Parts { config, blocks, execution, pool, network, metrics, chain, bodies, fatal };
        let shared = Arc::new(Shared::new(parts));
        let (start, role) = role_at_start(&shared)?;
        if role == Role::Validator {
            shared.set_votes_from(0);
        } else {
            shared.update_progress(|progress| progress.role = role);
        }
        for peer in shared.network.peers().into_iter().filter(anji_network::PeerStatus::is_connected) {
            shared.peers.set_connected(peer.peer_id, true);
            status::send_to(&shared, peer.peer_id);
        }

        let proposals = Arc::new(Proposals::new(Arc::clone(&shared)));
        let inbound = Inbound::new(Arc::clone(&shared), proposals, Server::new(Arc::clone(&shared)));
        let tasks = vec![
            tokio::spawn(inbound.run(inbox)),
            tokio::spawn(status::tell(Arc::clone(&shared))),
            tokio::spawn(status::pace_sync(Arc::clone(&shared))),
            tokio::spawn(watch_execution(Arc::clone(&shared))),
        ];
        let (stop, stop_rx) = watch::channel(false);
        let (ended_tx, ended) = watch::channel(false);
        tokio::spawn(supervise(Arc::clone(&shared), start, stop_rx, abort_handles(&tasks), ended_tx));
        Ok(ConsensusHandle { shared, stop, ended, fatal: Arc::new(Mutex::new(fatal_rx)) })
    }
}

fn abort_handles(tasks: &[JoinHandle<()>]) -> Vec<AbortHandle> {
    tasks.iter().map(JoinHandle::abort_handle).collect()
}

impl ConsensusHandle {
    /// How it stands.
    #[must_use]
    pub fn status(&self) -> ConsensusStatus {
        let (tip, recent_batches) = {
            let chain = self.shared.chain();
            (chain.tip(), chain.recent().len())
        };
        let progress = self.shared.progress();
        ConsensusStatus {
            decided_height: tip.height,
            decided_hash: tip.hash,
            decided_time_ms: tip.time_ms,
            height: progress.height,
            round: progress.round,
            role: progress.role,
            peers: self.shared.peers.all(),
            recent_batches,
        }
    }

    /// Tells every decided height; one that looks away sees only the newest.
    #[must_use]
    pub fn decided(&self) -> watch::Receiver<u64> {
        self.shared.decided()
    }

    /// Everything the engine sees validators sign that excludes each other, from now on.
    #[must_use]
    pub fn equivocations(&self) -> broadcast::Receiver<Equivocation> {
        self.shared.equivocations()
    }

    /// The first height that this node may sign for: 0 if its consensus log is intact; the height after that at which it was past
    /// everything it could have signed, if it lost its log; `None` while it does not vote.
    #[must_use]
    pub fn votes_from(&self) -> watch::Receiver<Option<u64>> {
        self.shared.votes_from()
    }

    /// Resolves when consensus cannot go on; the process should then exit with [`Fatal::exit_code`]. Only one caller gets the reason;
    /// pending for ever after a clean stop.
    pub async fn fatal(&self) -> Fatal {
        match self.fatal.lock().await.recv().await {
            Some(fatal) => fatal,
            None => std::future::pending().await,
        }
    }

    /// Ends consensus and waits for that. What is decided is on disk already.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        let mut ended = self.ended.clone();
        // An error means that the supervisor is gone, which is what was asked for.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

/// Runs the engine until it ends or is stopped, then everything around it.
async fn supervise(
    shared: Arc<Shared>,
    start: Start,
    mut stop: watch::Receiver<bool>,
    tasks: Vec<AbortHandle>,
    ended: watch::Sender<bool>,
) {
    let start = tokio::select! {
        start = settle_fresh(&shared, start) => Some(start),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    match start {
        Some(Ok(start)) => run_engine(&shared, start, &mut stop).await,
        Some(Err(fatal)) => shared.fail(fatal),
        None => {}
    }
    for task in tasks {
        task.abort();
    }
    ended.send_replace(true);
}

/// Runs the engine, as a follower first where it must.
async fn run_engine(shared: &Arc<Shared>, mut start: Start, stop: &mut watch::Receiver<bool>) {
    let mut failed = shared.failed();
    loop {
        let (mut engine, mut app) = match Engine::start(shared, start).await {
            Ok(started) => started,
            Err(fatal) => return shared.fail(fatal),
        };
        let next = tokio::select! {
            next = engine.serve(&mut app) => next,
            _ = failed.wait_for(|failed| *failed) => Next::Stop,
            _ = stop.wait_for(|stop| *stop) => Next::Stop,
        };
        engine.stop(shared).await;
        let Next::Promote { decided } = next else { return };
        match with_new_log(shared, decided + 1) {
            Ok(validator) => start = validator,
            Err(fatal) => return shared.fail(fatal),
        }
        tracing::info!(
            decided,
            "this node is past every height it could have signed; it votes from the next height on"
        );
        shared.set_votes_from(decided + 1);
    }
}

async fn watch_execution(shared: Arc<Shared>) {
    let reason = shared.execution.stopped().await;
    shared.fail(Fatal::Execution(reason));
}

/// What the block file and the state know that consensus must remember. Blocks the thread.
fn load(
    config: &ConsensusConfig,
    blocks: &dyn Blocks,
    execution: &dyn Execution,
    pool: &dyn Pool,
) -> Result<(Chain, Bodies), PortError> {
    let mut chain = Chain::new(config.chain_id, Arc::clone(&config.validators), config.genesis_time_ms);
    let decided = blocks.decided_height();
    let oldest = decided.saturating_sub(BENCH_WINDOW as u64 - 1).max(blocks.first_height()).max(1);
    for height in oldest..=decided {
        let Some((header, _)) = blocks.load_decision(height)? else {
            return Err(PortError::new(format!(
                "height {height} is missing in the block file, which ends at {decided}"
            )));
        };
        chain.load_header(&header);
    }
    let since_ms = chain.tip().time_ms.saturating_sub(MAX_BATCH_LIFE_MS);
    let mut by_block: BTreeMap<(u64, u64), Vec<_>> = BTreeMap::new();
    for (height, time_ms, hash) in execution.recent_batches(since_ms)? {
        by_block.entry((height, time_ms)).or_default().push(hash);
    }
    for ((height, time_ms), hashes) in by_block {
        pool.mark_included(height, time_ms, &hashes);
        chain.load_batches(height, time_ms, hashes);
    }
    pool.mark_executed(execution.executed_height());
    let bodies = Bodies::default();
    for value in blocks.undecided() {
        if let Some(stored) = blocks.load_proposal(&value)? {
            bodies.insert(value, restore(stored, &config.chain_id)?);
        }
    }
    bodies.prune(decided);
    Ok((chain, bodies))
}
