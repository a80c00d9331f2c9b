//! Whole networks in one process: real engines over real loopback connections, with a block file in memory, execution that chains hashes
//! instead of running rules, and a pool without limits. Waits are for conditions; a test that waits too long prints where every node stands.

#![allow(dead_code, unreachable_pub, clippy::type_complexity, reason = "shared: each test binary uses a part")]

mod ports;

pub use ports::{Disk, MemoryExecution, MemoryPool};

use anji_consensus::clock::Clock;
use anji_consensus::{
    Consensus, ConsensusConfig, ConsensusHandle, ConsensusKey, Fatal, Identity, Inbox, Neighbours, Role, Timing,
    WAL_FILE, init_folder,
};
use anji_contracts::ops::{MandateStop, Op, OpBody};
use anji_contracts::types::{ChainId, Hash32, KeyId, MandateId, OpId, ParticipantId};
use anji_contracts::{decode_batch, encode_batch};
use anji_network::{Config, Limits, Network, NetworkHandle, PeerConfig, peer_id_of_seed};
use anji_verify::{Validator, ValidatorSet, verify_certificate};
use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use prometheus_client::registry::Registry;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub const CHAIN: ChainId = ChainId(Hash32([42; 32]));

pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("small")
}

/// Nodes of one network; the last ones may be observers.
pub struct TestNet {
    pub nodes: Vec<TestNode>,
    pub validators: Arc<ValidatorSet>,
    folder: tempfile::TempDir,
    next_batch: u64,
}

pub struct TestNode {
    pub index: usize,
    pub disk: Arc<Disk>,
    pub execution: Arc<MemoryExecution>,
    pub pool: Arc<MemoryPool>,
    pub clock: Clock,
    pub config: ConsensusConfig,
    network: Config,
    running: Option<Running>,
}

struct Running {
    network: NetworkHandle,
    consensus: ConsensusHandle,
    registry: Registry,
    /// Batches are not spread in these tests: they are put into the pools.
    _batches: tokio::sync::mpsc::Receiver<anji_network::Message>,
}

fn seed(kind: u8, index: usize) -> [u8; 32] {
    let mut seed = [kind; 32];
    seed[0] = u8::try_from(index).expect("few");
    seed
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

impl TestNet {
    pub fn new(n_validators: usize, n_observers: usize, timing: Timing) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(std::env::var("TEST_LOG").unwrap_or_else(|_| "off".to_owned()))
            .with_test_writer()
            .try_init();
        let n = n_validators + n_observers;
        let keys: Vec<ConsensusKey> = (0..n).map(|i| ConsensusKey::from_seed(&seed(1, i))).collect();
        let validator = |key: &ConsensusKey| Validator {
            address: key.address(),
            participant: ParticipantId(1),
            public_key: key.public_key(),
            power: 1,
        };
        let validators =
            Arc::new(ValidatorSet::new(keys[..n_validators].iter().map(validator).collect()).expect("valid"));
        let ports: Vec<u16> = (0..n).map(|_| free_port()).collect();
        let addr = |i: usize| format!("/ip4/127.0.0.1/tcp/{}", ports[i]).parse().expect("an address");
        let folder = tempfile::tempdir().expect("folder");
        let genesis_time_ms = now_ms() - 60_000;
        let nodes = (0..n)
            .map(|index| {
                let others = || (0..n).filter(move |other| *other != index);
                let peers = others()
                    .map(|i| PeerConfig {
                        peer_id: peer_id_of_seed(&seed(2, i)),
                        name: format!("node-{i}"),
                        addrs: vec![addr(i)],
                    })
                    .collect();
                let network = Config {
                    listen: addr(index),
                    peers,
                    chain_id_hex: CHAIN.to_string(),
                    identity_seed: seed(2, index),
                    limits: Limits::default(),
                };
                let clock = Clock::system();
                let address = |i: usize| (i < n_validators).then(|| keys[i].address());
                let config = ConsensusConfig {
                    name: format!("node-{index}"),
                    chain_id: CHAIN,
                    genesis_time_ms,
                    validators: Arc::clone(&validators),
                    key: Some(keys[index].clone()),
                    folder: folder.path().join(format!("{index}")),
                    peers: others().map(|i| (peer_id_of_seed(&seed(2, i)), address(i))).collect(),
                    timing,
                    clock: clock.clone(),
                };
                if let Some(validator) = config.own_address() {
                    init_folder(&config.folder, Identity { chain_id: CHAIN, validator }).expect("a fresh log");
                }
                TestNode {
                    index,
                    disk: Arc::default(),
                    execution: Arc::new(MemoryExecution::new()),
                    pool: Arc::default(),
                    clock,
                    config,
                    network,
                    running: None,
                }
            })
            .collect();
        Self { nodes, validators, folder, next_batch: 0 }
    }

    pub async fn start_all(&mut self) {
        for node in &mut self.nodes {
            node.start().await.expect("starts");
        }
    }

    pub async fn stop_all(&mut self) {
        for node in &mut self.nodes {
            node.stop().await;
        }
    }

    /// Appends of all nodes go to real files too.
    pub fn sync_disks(&self) {
        for node in &self.nodes {
            let file = std::fs::File::create(self.folder.path().join(format!("{}.blk", node.index))).expect("made");
            *node.disk.file.lock().expect("whole") = Some(file);
        }
    }

    pub fn wal_path(&self, index: usize) -> PathBuf {
        self.nodes[index].config.folder.join(WAL_FILE)
    }

    /// A signed batch of about `size_bytes` that nobody has seen.
    pub fn batch(&mut self, size_bytes: usize) -> Bytes {
        self.next_batch += 1;
        batch(ParticipantId(1), self.next_batch, size_bytes, now_ms() + 60_000)
    }

    /// A batch of a participant that the ledger does not know.
    pub fn foreign_batch(&mut self) -> Bytes {
        self.next_batch += 1;
        batch(ParticipantId(2), self.next_batch, 100, now_ms() + 60_000)
    }

    /// Puts a new batch into the pools of some nodes.
    pub fn submit(&mut self, nodes: &[usize]) -> Hash32 {
        let bytes = self.batch(500);
        for index in nodes {
            self.nodes[*index].pool.put(&bytes);
        }
        hash_of(&bytes)
    }

    /// Waits until all of `nodes` have decided `height`.
    pub async fn wait_decided(&self, nodes: &[usize], height: u64, limit: Duration) {
        self.wait(limit, &format!("nodes {nodes:?} decide {height}"), || {
            nodes.iter().all(|index| self.nodes[*index].disk.height() >= height)
        })
        .await;
    }

    pub async fn wait(&self, limit: Duration, what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            if begun.elapsed() > limit {
                for node in &self.nodes {
                    let status = node.running.as_ref().map(|running| running.consensus.status());
                    eprintln!("node {}: disk at {}, {status:#?}", node.index, node.disk.height());
                }
                panic!("waited {limit:?} in vain until {what}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Every decided block is the same everywhere, follows its parent and is proven by its certificate.
    pub fn check_chains(&self) {
        let longest = self.nodes.iter().max_by_key(|node| node.disk.height()).expect("nodes");
        let mut parent = Hash32::ZERO;
        for height in 1..=longest.disk.height() {
            let (body, certificate) = longest.disk.block(height).expect("no gap");
            assert_eq!(body.header.parent_hash, parent, "height {height}");
            parent = body.header.hash();
            assert_eq!(certificate.value, parent);
            verify_certificate(&certificate, &CHAIN, &self.validators).expect("proven");
            for node in &self.nodes {
                if let Some((other, certificate)) = node.disk.block(height) {
                    assert_eq!(other, body, "height {height} at node {}", node.index);
                    verify_certificate(&certificate, &CHAIN, &self.validators).expect("proven");
                }
            }
        }
    }
}

/// A signed batch of one or more harmless operations.
pub fn batch(participant: ParticipantId, number: u64, size_bytes: usize, expires_at_ms: u64) -> Bytes {
    let op = |i: u64| Op {
        op_id: OpId::new(now_ms(), u128::from(number) << 32 | u128::from(i)),
        linked: false,
        body: OpBody::MandateRevoke(MandateStop { mandate: MandateId::default(), reason: 1 }),
    };
    let op_bytes = anji_contracts::codec::encode(&op(0)).len() + 4;
    let n_ops = (size_bytes / op_bytes).clamp(1, 4096) as u64;
    let ops: Vec<Op> = (0..n_ops).map(op).collect();
    let key = SigningKey::from_bytes(&[9; 32]);
    let sign = |digest: &[u8; 32]| key.sign(digest).to_bytes();
    let bytes = encode_batch(&CHAIN, participant, KeyId(1), expires_at_ms, &ops, sign).expect("fits");
    Bytes::from(bytes)
}

pub fn hash_of(bytes: &Bytes) -> Hash32 {
    decode_batch(bytes, &CHAIN).expect("decodes").hash
}

impl TestNode {
    pub async fn start(&mut self) -> Result<(), Fatal> {
        let mut registry = Registry::default();
        let (network, events) = Network::start(self.network.clone(), &mut registry).await.expect("the port is free");
        let neighbours = Neighbours {
            blocks: Arc::clone(&self.disk) as _,
            execution: Arc::clone(&self.execution) as _,
            pool: Arc::clone(&self.pool) as _,
            network: network.clone(),
            inbox: Inbox {
                consensus: events.consensus,
                control: events.control,
                requests: events.requests,
                peers: events.peers,
            },
        };
        match Consensus::start(self.config.clone(), neighbours, &mut registry).await {
            Ok(consensus) => {
                self.running = Some(Running { network, consensus, registry, _batches: events.batches });
                Ok(())
            }
            Err(fatal) => {
                network.shutdown().await;
                Err(fatal)
            }
        }
    }

    pub async fn stop(&mut self) {
        if let Some(Running { network, consensus, .. }) = self.running.take() {
            network.shutdown().await;
            consensus.shutdown().await;
        }
    }

    /// Loses everything but the keys.
    pub fn wipe(&mut self) {
        assert!(self.running.is_none());
        std::fs::remove_dir_all(&self.config.folder).expect("removed");
        self.disk = Arc::default();
        self.execution = Arc::new(MemoryExecution::new());
        self.pool = Arc::default();
    }

    pub fn consensus(&self) -> &ConsensusHandle {
        &self.running.as_ref().expect("running").consensus
    }

    pub fn role(&self) -> Role {
        self.consensus().status().role
    }

    pub fn height(&self) -> u64 {
        self.disk.height()
    }

    /// A figure of this run, by its line in the exposition.
    pub fn metric(&self, line_start: &str) -> f64 {
        let mut text = String::new();
        let registry = &self.running.as_ref().expect("running").registry;
        prometheus_client::encoding::text::encode(&mut text, registry).expect("encodes");
        text.lines()
            .filter(|line| line.starts_with(line_start))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

/// Time-outs for tests: short enough not to wait for, long enough for a busy machine.
pub fn quick() -> Timing {
    Timing {
        heartbeat: Duration::from_millis(300),
        peer_wait: Duration::from_secs(10),
        sync_patience: Duration::from_millis(150),
        ..Timing::default()
    }
}
