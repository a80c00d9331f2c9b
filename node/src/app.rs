//! One node from its configuration to its end: what is opened in which order, who is handed what, and what ends it.
//!
//! Start: data folder (checked), execution (replayed), network, mempool, consensus, gRPC. End: gRPC first, so that nobody is told
//! anything new, then consensus and network, then execution, which makes the state durable. A crash at any point is safe too.

use crate::config::{NodeConfig, VerifyMode, WitnessConfig, parse_hex32, split_address};
use crate::metrics::{Health, HealthSource, Page};
use crate::ports::LatestKeys;
use crate::process::Threads;
use crate::view::{Parts, View};
use crate::{genesis, metrics, node_callers, process};
use anji_adapters::keys::{PrivateKey, Purpose};
use anji_checkpoints::{Checkpoints, CheckpointsError, CosignKey, Equivocations, LogHttp, Witnessed};
use anji_consensus::{
    Consensus, ConsensusConfig, ConsensusHandle, ConsensusKey, Fatal, Inbox, Neighbours, Role, Timing,
};
use anji_contracts::Genesis;
use anji_contracts::types::ChainId;
use anji_execution::{Executed, ExecutionHandle, ExecutionMetrics, ExecutionOptions, Executor};
use anji_mempool::Mempool;
use anji_network::{Events, Multiaddr, Network, NetworkHandle, PeerConfig, PeerId};
use anji_services::{Callers, Feed, Limits, Services, Setup};
use anji_storage::open::{StoreOptions, Verify};
use anji_storage::{BlockFile, CheckpointStore, Reader, Store};
use anji_verify::equivocation::Equivocation;
use anji_verify::{Address, Validator, ValidatorSet};
use anyhow::{Context, Result, bail, ensure};
use prometheus_client::registry::Registry;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The folder of the consensus log within the data folder.
pub(crate) const CONSENSUS_FOLDER: &str = "consensus";

/// The node ended on purpose because going on could be unsafe; carries the process's exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Stopped {
    pub(crate) code: u8,
    message: String,
}

/// The consensus key and what follows from it.
struct Voter {
    key: ConsensusKey,
    cosign_key: CosignKey,
    validator: Validator,
}

/// Runs a node until it is told to stop or must stop.
pub(crate) async fn run(config: NodeConfig) -> Result<()> {
    let stop = CancellationToken::new();
    process::stop_on_signal(stop.clone())?;
    let genesis = genesis::read(&config.genesis)?;
    let validators = validator_set(&genesis)?;
    let mut voter = load_voter(&config, &genesis, &validators)?;
    let network_key = PrivateKey::read(&config.keys.network, Purpose::Network)?;
    let limits = Limits { calls_per_second: config.grpc.max_rate, ..Limits::default() };
    let callers = node_callers::load(&config.grpc.callers, &genesis)?;
    let callers = Callers::new(callers, &limits)
        .map_err(|error| anyhow::anyhow!("{}: {error}", config.grpc.callers.display()))?;
    let page = Page::default();
    let monitoring = metrics::bind(config.metrics.listen).await?;
    let monitored = tokio::spawn(metrics::serve(monitoring, page.clone(), stop.clone()));
    announce(&config, &genesis, voter.as_ref(), &network_key);
    if config.benchmark.bare {
        tracing::warn!(
            "`benchmark.bare = true`: this node orders blocks and executes nothing; it is good for measuring only"
        );
    }

    let threads = Threads::start()?;
    let mut registry = Registry::default();
    let opening = open_ledger(&config, &genesis, ExecutionMetrics::register(&mut registry));
    let Ledger { blocks, reader, execution, checkpoints: checkpoint_store } = tokio::select! {
        opened = opening => opened?,
        // Whatever was begun is finished by the next start.
        () = stop.cancelled() => return Ok(()),
    };

    let network_config = network_config(&config, &genesis, &network_key)?;
    let (network, events) = threads
        .network
        .inside(Network::start(network_config, &mut registry))
        .await
        .context("the peers' port cannot be opened (`network.listen`)")?;
    let Events { consensus: consensus_frames, batches, control, checkpoints: cosignatures, requests, peers } = events;
    let mempool = Mempool::new(
        genesis.chain_id(),
        mempool_limits(&config),
        Arc::new(LatestKeys::new(execution.clone())),
        Arc::new(network.clone()),
        anji_mempool::system_clock(),
        &mut registry,
    );
    let neighbours = Neighbours {
        blocks: Arc::new(blocks.clone()),
        execution: Arc::new(execution.clone()),
        pool: Arc::new(mempool.clone()),
        network: network.clone(),
        inbox: Inbox { consensus: consensus_frames, control, requests, peers },
    };
    let consensus_config = consensus_config(&config, &genesis, &validators, voter.as_ref())?;
    let executed = execution.subscribe();
    let decided_height = blocks.decided_height();
    let starting = Consensus::start(consensus_config, neighbours, &mut registry);
    let consensus = threads.order.inside(starting).await.map_err(stopped)?;
    let data_dir = config.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || Equivocations::open(&data_dir)).await?;
    let equivocations = opened.map_err(|error| checkpoints_stopped(&error))?;
    let keeping = tokio::spawn(keep_equivocations(consensus.equivocations(), equivocations.clone()));
    let checkpoints = Checkpoints::start(
        anji_checkpoints::Setup {
            chain_id: genesis.chain_id(),
            validators: validators.clone(),
            key: voter.take().map(|it| it.cosign_key),
            folder: config.data_dir.join(CONSENSUS_FOLDER),
            decided_height,
            signs_from: consensus.votes_from(),
            execution: execution.clone(),
            network: network.clone(),
            frames: cosignatures,
            store: checkpoint_store,
            reader: reader.clone(),
            equivocations: equivocations.clone(),
            bare: config.benchmark.bare,
        },
        &mut registry,
    )
    .await
    .map_err(|error| checkpoints_stopped(&error))?;
    let mut public = serve_log(&config, genesis.chain_id(), &validators, &reader, &checkpoints, &stop).await?;
    let feed = Feed::new(reader.clone())?;
    let n_alarms = Arc::new(AtomicU64::new(0));
    let view = Arc::new(View::new(Parts {
        consensus: consensus.clone(),
        checkpoints: checkpoints.clone(),
        execution: execution.clone(),
        network: network.clone(),
        mempool: mempool.clone(),
        validators,
        n_alarms: n_alarms.clone(),
        reader: reader.clone(),
        equivocations,
    }));
    let setup = Setup {
        node: config.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        participant: anji_contracts::types::ParticipantId(config.participant),
        genesis: Arc::new(genesis),
        reader,
        mempool: mempool.clone(),
        feed: feed.clone(),
        final_height: checkpoints.watch_final_height(),
        view: view.clone(),
        callers,
        limits,
    };
    let services =
        Services::start(config.grpc.listen, setup, &mut registry).await.context("`grpc.listen` cannot be opened")?;
    let health: HealthSource = {
        let view = view.clone();
        Arc::new(move || Health { reasons: view.troubles(), details: view.details() })
    };
    page.fill(Arc::new(registry), health, more_metrics);
    let spreading = tokio::spawn(async move { mempool.run(batches).await });
    let feeding = tokio::spawn(feed_services(feed, executed, n_alarms));

    let parts = Running { services, consensus, checkpoints, network, execution, view };
    let result = parts.until_the_end(&stop).await;
    stop.cancel();
    spreading.abort();
    feeding.abort();
    public.abort_all();
    keeping.abort();
    process::finish("monitoring", monitored).await;
    result
}

/// What is counted outside the registry.
fn more_metrics() -> String {
    anji_consensus::engine_metrics() + &anji_meter::text()
}

struct Running {
    services: Services,
    consensus: ConsensusHandle,
    checkpoints: Checkpoints,
    network: NetworkHandle,
    execution: ExecutionHandle,
    view: Arc<View>,
}

impl Running {
    async fn until_the_end(self, stop: &CancellationToken) -> Result<()> {
        let mut serving = None;
        let fatal = loop {
            let troubles = self.view.troubles();
            if serving != Some(troubles.is_empty()) {
                serving = Some(troubles.is_empty());
                self.services.set_serving(troubles.is_empty()).await;
                if troubles.is_empty() {
                    tracing::info!("ready");
                } else {
                    tracing::info!(reasons = troubles.join("; "), "not ready");
                }
            }
            tokio::select! {
                fatal = self.consensus.fatal() => break Some(stopped(fatal)),
                error = self.checkpoints.failed() => break Some(checkpoints_stopped(&error)),
                () = stop.cancelled() => break None,
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
        };
        self.services.stop().await;
        self.consensus.shutdown().await;
        self.checkpoints.shutdown().await;
        self.network.shutdown().await;
        let flushed = self.execution.stop().await;
        if let Some(fatal) = fatal {
            return Err(fatal);
        }
        flushed
            .map_err(|error| anyhow::anyhow!("the state could not be flushed: {error}; the next start replays it"))?;
        tracing::info!("stopped, state flushed");
        Ok(())
    }
}

fn stopped(fatal: Fatal) -> anyhow::Error {
    Stopped { code: fatal.exit_code(), message: fatal.to_string() }.into()
}

/// Keeps the proofs that the engine finds.
async fn keep_equivocations(mut found: broadcast::Receiver<Equivocation>, kept: Equivocations) {
    loop {
        let equivocation = match found.recv().await {
            Ok(equivocation) => equivocation,
            Err(broadcast::error::RecvError::Lagged(_)) => continue,
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let kept = kept.clone();
        let written = tokio::task::spawn_blocking(move || kept.keep(&equivocation)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(%error, "a proof of equivocation could not be kept; it is in this log");
        }
    }
}

/// The log for everyone, if it is wanted, and its way to the witnesses.
async fn serve_log(
    config: &NodeConfig,
    chain_id: ChainId,
    validators: &Arc<ValidatorSet>,
    reader: &Reader,
    checkpoints: &Checkpoints,
    stop: &CancellationToken,
) -> Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    let targets: Result<Vec<_>, _> = config.witnesses.iter().map(WitnessConfig::target).collect();
    let targets = targets.map_err(|error| anyhow::anyhow!("`{}`: {}", error.field, error.problem))?;
    let witnessed = (!targets.is_empty()).then(Witnessed::default);
    if let Some(witnessed) = &witnessed {
        tasks.spawn(anji_checkpoints::submit_to_witnesses(
            chain_id,
            validators.clone(),
            reader.clone(),
            checkpoints.clone(),
            targets,
            witnessed.clone(),
            stop.clone(),
        ));
    }
    if let Some(listen) = config.log_http.listen {
        let listener = anji_checkpoints::bind_log_http(listen).await;
        let listener = listener.with_context(|| {
            format!("`log_http.listen = {listen}` cannot be opened\n  way out: stop what uses the port, or change it in the config")
        })?;
        tracing::info!(address = %listen, "the log is served over HTTP");
        let http = LogHttp::new(chain_id, validators.clone(), reader.clone(), checkpoints.clone(), witnessed);
        tasks.spawn(http.serve(listener, stop.clone()));
    }
    Ok(tasks)
}

fn checkpoints_stopped(error: &CheckpointsError) -> anyhow::Error {
    Stopped { code: error.exit_code(), message: error.to_string() }.into()
}

/// Tells the services of every executed block; what a slow moment missed is read from storage.
async fn feed_services(feed: Arc<Feed>, mut executed: broadcast::Receiver<Arc<Executed>>, n_alarms: Arc<AtomicU64>) {
    loop {
        let told = match executed.recv().await {
            Ok(block) => {
                for alarm in &block.alarms {
                    n_alarms.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(height = block.height, op = %alarm.op, reject = %alarm.reject, "ALARM: an operation would have broken an invariant and was refused; find out who made it and how");
                }
                feed.executed(&block.batches).await
            }
            Err(broadcast::error::RecvError::Lagged(blocks)) => {
                tracing::debug!(blocks, "the services missed executed blocks and read them from storage");
                feed.executed(&[]).await
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        if let Err(error) = told {
            tracing::error!(%error, "receipts cannot be read; callers wait for the next block");
        }
    }
}

/// What is open once the ledger is.
struct Ledger {
    blocks: BlockFile,
    reader: Reader,
    execution: ExecutionHandle,
    checkpoints: CheckpointStore,
}

async fn open_ledger(config: &NodeConfig, genesis: &Genesis, metrics: ExecutionMetrics) -> Result<Ledger> {
    let mib = |size: u32| (size as usize) << 20;
    let options = StoreOptions {
        cache_bytes: mib(config.storage.cache_mib),
        write_buffer_bytes: mib(config.storage.write_buffer_mib),
        segment_bytes: u64::from(config.storage.segment_mib) << 20,
        verify: match config.storage.verify {
            VerifyMode::Full => Verify::Full,
            VerifyMode::Recent => Verify::Recent,
        },
        ..StoreOptions::default()
    };
    let execution = ExecutionOptions {
        cached_entities: config.execution.cached_entities as usize,
        cached_ops: config.execution.cached_ops as usize,
        bare: config.benchmark.bare,
    };
    let (dir, genesis) = (config.data_dir.clone(), genesis.clone());
    let opened = tokio::task::spawn_blocking(move || -> Result<Ledger> {
        make_data_folder(&dir)?;
        let opened = Store::open(&dir, &genesis, &options)?;
        let (blocks, reader, checkpoints) = (opened.blocks.clone(), opened.reader.clone(), opened.checkpoints.clone());
        let executor = Executor::open(opened, &genesis, &execution, metrics).map_err(|error| {
            let code = if error.is_broken() { 70 } else { 74 };
            anyhow::Error::from(Stopped { code, message: error.to_string() })
        })?;
        tracing::info!(height = executor.height(), log = ?executor.log_root(), "ledger open");
        let execution = anji_execution::spawn(executor)?;
        Ok(Ledger { blocks, reader, execution, checkpoints })
    });
    opened.await.context("opening the ledger did not end well")?
}

/// A data folder that was wiped is made again; its node follows without voting until that is safe.
fn make_data_folder(dir: &PathBuf) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| {
        format!("`data_dir = {}`: cannot be made\n  way out: check the path and who may write there", dir.display())
    })
}

pub(crate) fn validator_set(genesis: &Genesis) -> Result<Arc<ValidatorSet>> {
    let validators = genesis.validators.iter().map(|it| Validator {
        address: Address::of(&it.public_key),
        participant: it.participant,
        public_key: it.public_key,
        power: it.power,
    });
    let set = ValidatorSet::new(validators.collect()).context("genesis names no valid set of validators")?;
    Ok(Arc::new(set))
}

fn load_voter(config: &NodeConfig, genesis: &Genesis, validators: &ValidatorSet) -> Result<Option<Voter>> {
    let known = genesis.participants.iter().any(|it| it.id.0 == config.participant);
    ensure!(
        known,
        "`participant = {}`: genesis has no such participant\n  way out: use the number that genesis.json shows",
        config.participant
    );
    let Some(file) = &config.keys.consensus else { return Ok(None) };
    let seed = PrivateKey::read(file, Purpose::Consensus)?;
    let key = ConsensusKey::from_seed(seed.seed());
    let Some(validator) = validators.get(&key.address()) else {
        bail!(
            "`keys.consensus = {}`: this key is no validator's of this chain\n  way out: use the key that was sent to the others before genesis; leave the field out to run an observer",
            file.display()
        );
    };
    ensure!(
        validator.participant.0 == config.participant,
        "`participant = {}`: the consensus key belongs to participant {}\n  way out: correct one of the two",
        config.participant,
        validator.participant
    );
    let cosign_key = CosignKey::from_seed(seed.seed());
    Ok(Some(Voter { validator: validator.clone(), key, cosign_key }))
}

fn announce(config: &NodeConfig, genesis: &Genesis, voter: Option<&Voter>, network_key: &PrivateKey) {
    let peer_id = anji_network::peer_id_of_seed(network_key.seed());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        storage_format = anji_storage::FORMAT_VERSION,
        ledger_format = genesis.format,
        node = config.name,
        participant = config.participant,
        role = if voter.is_some() { "validator" } else { "observer" },
        validator = voter.map(|it| it.validator.address.to_string()),
        network = genesis.name,
        chain = %genesis.chain_id(),
        %peer_id,
        p2p = %config.network.listen,
        grpc = %config.grpc.listen,
        metrics = %config.metrics.listen,
        data = %config.data_dir.display(),
        "anji node"
    );
}

/// The peer's identity, from its public network key.
fn peer_id(peer: &crate::config::PeerConfig) -> Result<PeerId> {
    let key = parse_hex32(&peer.public_key).context("checked when the config was read")?;
    anji_network::peer_id_of_public_key(&key)
        .with_context(|| format!("`peers[{}].public_key = {}`: not an Ed25519 key", peer.name, peer.public_key))
}

fn network_config(config: &NodeConfig, genesis: &Genesis, key: &PrivateKey) -> Result<anji_network::Config> {
    let mut peers = Vec::new();
    for peer in &config.peers {
        let addrs = match &peer.address {
            Some(address) => vec![multiaddr(address)?],
            None => Vec::new(),
        };
        peers.push(PeerConfig { peer_id: peer_id(peer)?, name: peer.name.clone(), addrs });
    }
    let listen = config.network.listen;
    Ok(anji_network::Config {
        listen: multiaddr(&listen.to_string())?,
        peers,
        chain_id_hex: genesis.chain_id().to_string(),
        identity_seed: *key.seed(),
        limits: anji_network::Limits::default(),
    })
}

fn multiaddr(address: &str) -> Result<Multiaddr> {
    let way_out = || format!("`{address}`: not an address\n  way out: write it as host:port");
    // Port 0 is good for listening, never for dialling; `split_address` refuses it.
    let (host, port) = match address.parse::<std::net::SocketAddr>() {
        Ok(it) => (it.ip().to_string(), it.port()),
        Err(_) => split_address(address).map(|(host, port)| (host.to_owned(), port)).with_context(way_out)?,
    };
    let kind = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => "ip4",
        Ok(IpAddr::V6(_)) => "ip6",
        Err(_) => "dns",
    };
    format!("/{kind}/{host}/tcp/{port}").parse().with_context(way_out)
}

fn mempool_limits(config: &NodeConfig) -> anji_mempool::Limits {
    anji_mempool::Limits {
        total_bytes: (config.mempool.max_mib as usize) << 20,
        participant_bytes: (config.mempool.max_participant_mib as usize) << 20,
        participant_batches: config.mempool.max_participant_batches as usize,
        ..anji_mempool::Limits::default()
    }
}

fn consensus_config(
    config: &NodeConfig,
    genesis: &Genesis,
    validators: &Arc<ValidatorSet>,
    voter: Option<&Voter>,
) -> Result<ConsensusConfig> {
    let mut peers = Vec::new();
    for peer in &config.peers {
        let validator = peer.consensus_key.as_deref().and_then(parse_hex32).map(|key| Address::of(&key));
        if let Some(address) = validator {
            ensure!(
                validators.get(&address).is_some(),
                "`peers[{}].consensus_key`: no validator of this chain has this key\n  way out: use the key in the peer's public.toml; leave the field out for an observer",
                peer.name
            );
        }
        peers.push((peer_id(peer)?, validator));
    }
    let millis = Duration::from_millis;
    let timing = &config.consensus;
    Ok(ConsensusConfig {
        name: config.name.clone(),
        chain_id: genesis.chain_id(),
        genesis_time_ms: genesis.time_ms,
        validators: validators.clone(),
        key: voter.map(|it| it.key.clone()),
        folder: config.data_dir.join(CONSENSUS_FOLDER),
        peers,
        timing: Timing {
            propose: millis(timing.propose_timeout_ms),
            prevote: millis(timing.vote_timeout_ms),
            precommit: millis(timing.vote_timeout_ms),
            round_delta: millis(timing.timeout_step_ms),
            rebroadcast: millis(timing.rebroadcast_ms),
            target_time: (timing.block_time_ms > 0).then(|| millis(timing.block_time_ms)),
            heartbeat: millis(timing.heartbeat_ms),
            ..Timing::default()
        },
        clock: anji_consensus::clock::Clock::system(),
    })
}

/// What this node does, in words.
pub(crate) fn role_in_words(role: &Role) -> String {
    match role {
        Role::Validator => String::from("validator"),
        Role::Follower { reason, votes_after: Some(height) } => format!("follows until height {height}: {reason}"),
        Role::Follower { reason, votes_after: None } => format!("follows until its peers' heights are known: {reason}"),
        Role::Observer => String::from("observer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_what_the_network_dials() {
        let rows = [
            ("127.0.0.1:27010", "/ip4/127.0.0.1/tcp/27010"),
            ("0.0.0.0:0", "/ip4/0.0.0.0/tcp/0"),
            ("[::1]:5", "/ip6/::1/tcp/5"),
            ("node.issuer.example:27010", "/dns/node.issuer.example/tcp/27010"),
        ];
        for (address, expected) in rows {
            assert_eq!(multiaddr(address).expect("an address").to_string(), expected);
        }
        assert!(multiaddr("node.example").expect_err("no port").to_string().contains("way out"));
    }
}
