//! A chain of one node: real mempool, block file, execution and services; the test decides when a block is made and what time it is.

use crate::contracts::{
    ACQUIRER, ACQUIRER_2, CLEARING, ISSUER, REGULATOR, START_MS, activate, genesis, propose, signing_key,
};
use anji_contracts::batch::MAX_BATCH_LIFE_MS;
use anji_contracts::genesis::Params;
use anji_contracts::ops::{Op, OpBody, PaymentRequest};
use anji_contracts::types::{ChainId, Hash32, KeyId, MandateId, OpId, ParticipantId, PaymentId, ScopedId};
use anji_contracts::{DecodedBatch, Genesis, Reject, encode_batch};
use anji_execution::{ExecutionHandle, ExecutionMetrics, ExecutionOptions, Executor, spawn};
use anji_mempool::{CandidateLimits, Mempool, Registry, Spread};
use anji_proto::v1;
use anji_proto::v1::operator_service_client::OperatorServiceClient;
use anji_proto::v1::wallet_service_client::WalletServiceClient;
use anji_services::{
    CallerSpec, Callers, Feed, Limits, NodeRole, NodeStatus, NodeView, PeerView, Services, Setup, ValidatorView,
};
use anji_storage::{Block, BlockFile, CheckpointStore, Store, StoreOptions};
use anji_verify::{Address, CommitCertificate, Header};
use bytes::Bytes;
use ed25519_dalek::Signer;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

pub(crate) type Wallet = WalletServiceClient<InterceptedService<Channel, Token>>;
pub(crate) type Operator = OperatorServiceClient<InterceptedService<Channel, Token>>;

/// Puts a caller's token on every call.
#[derive(Clone)]
pub(crate) struct Token(pub(crate) String);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if !self.0.is_empty() {
            let value: MetadataValue<_> = self.0.parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

struct Keys(ExecutionHandle);

impl Registry for Keys {
    fn check_signatures(&self, batches: &[&DecodedBatch], time_ms: u64) -> Vec<Result<(), Reject>> {
        batches.iter().map(|batch| self.0.registry().check_signature(batch, time_ms).map(drop)).collect()
    }
}

/// Waits for the execution thread when the test ends: RocksDB must be closed before the process exits.
struct Running(ExecutionHandle);

impl Drop for Running {
    fn drop(&mut self) {
        let execution = self.0.clone();
        let stopping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(execution.stop());
        });
        let _ = stopping.join();
    }
}

struct Nobody;

impl Spread for Nobody {
    fn push(&self, _bytes: Bytes) -> usize {
        0
    }
}

struct Alone;

impl NodeView for Alone {
    fn status(&self) -> NodeStatus {
        NodeStatus {
            role: NodeRole::Follower { reason: "the tests make the blocks".into() },
            decided_height: 77,
            consensus_height: 78,
            consensus_round: 2,
            n_alarms: 3,
        }
    }

    fn peers(&self) -> Vec<PeerView> {
        let peer = |name: &str, connected, height| PeerView {
            name: name.into(),
            peer_id: format!("id of {name}"),
            connected,
            address: String::new(),
            height,
            n_faults: 1,
            muted_until_ms: 0,
        };
        vec![peer("a", true, 70), peer("b", true, 76), peer("c", false, 99)]
    }

    fn validators(&self) -> Vec<ValidatorView> {
        let validator =
            |participant, power| ValidatorView { address: [1; 20], participant, public_key: [2; 32], power };
        vec![validator(ACQUIRER, 1), validator(ISSUER, 3)]
    }

    fn equivocations(&self) -> Vec<anji_verify::equivocation::Equivocation> {
        let vote = |value| {
            let (chain_id, validator) = (ChainId(Hash32([1; 32])), Address([2; 20]));
            let kind = anji_verify::certificate::VoteKind::Precommit;
            let value = Some(Hash32([value; 32]));
            let body = anji_verify::certificate::VoteBody { chain_id, kind, height: 3, round: 1, value, validator };
            anji_verify::equivocation::Signed { body, signature: [0; 64] }
        };
        vec![anji_verify::equivocation::Equivocation::Votes(vote(1), vote(2))]
    }

    fn params(&self) -> Params {
        Params::default()
    }
}

/// The chain. Everything ends when it is dropped.
pub(crate) struct Chain {
    pub(crate) genesis: Genesis,
    pub(crate) mempool: Mempool,
    pub(crate) feed: Arc<Feed>,
    pub(crate) services: Services,
    pub(crate) now_ms: Arc<AtomicU64>,
    /// What the node is told to be final.
    pub(crate) final_height: tokio::sync::watch::Sender<u64>,
    pub(crate) height: u64,
    execution: Running,
    blocks: BlockFile,
    checkpoints: CheckpointStore,
    reader: anji_storage::Reader,
    parent_hash: Hash32,
    next_id: u128,
    /// Whether the feed is told of blocks; a test may leave some out.
    pub(crate) told: bool,
    _dir: tempfile::TempDir,
}

pub(crate) const CALLERS: [(&str, ParticipantId); 6] = [
    ("wallet", ACQUIRER),
    ("credit", ISSUER),
    ("clearing", CLEARING),
    ("regulator", REGULATOR),
    ("wallet2", ACQUIRER_2),
    ("operator", ACQUIRER),
];

impl Chain {
    pub(crate) async fn start() -> Self {
        Self::with(Limits::default(), anji_mempool::Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits, pool_limits: anji_mempool::Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let genesis = genesis();
        let options = StoreOptions { cache_bytes: 8 << 20, write_buffer_bytes: 4 << 20, ..StoreOptions::default() };
        let opened = Store::open(dir.path(), &genesis, &options).unwrap();
        let (blocks, checkpoints) = (opened.blocks.clone(), opened.checkpoints.clone());
        let executor =
            Executor::open(opened, &genesis, &ExecutionOptions::default(), ExecutionMetrics::default()).unwrap();
        let reader = executor.reader().clone();
        let execution = spawn(executor).unwrap();
        let mut metrics = prometheus_client::registry::Registry::default();
        let now_ms = Arc::new(AtomicU64::new(START_MS));
        let clock = now_ms.clone();
        let mempool = Mempool::new(
            genesis.chain_id(),
            pool_limits,
            Arc::new(Keys(execution.clone())),
            Arc::new(Nobody),
            Arc::new(move || clock.load(Ordering::SeqCst)),
            &mut metrics,
        );
        let feed = Feed::new(reader.clone()).unwrap();
        let kept = reader.clone();
        let final_height = tokio::sync::watch::Sender::new(0);
        let callers = CALLERS.iter().map(|(name, participant)| CallerSpec {
            name: (*name).into(),
            token_blake3: token_blake3(name),
            participant: *participant,
            wallet: *name != "operator",
            operator: *name == "operator",
        });
        let setup = Setup {
            node: "node-1".into(),
            version: "0.0.1".into(),
            participant: ACQUIRER,
            genesis: Arc::new(genesis.clone()),
            reader,
            mempool: mempool.clone(),
            feed: feed.clone(),
            final_height: final_height.subscribe(),
            view: Arc::new(Alone),
            callers: Callers::new(callers.collect(), &limits).unwrap(),
            limits,
        };
        let services = Services::start("127.0.0.1:0".parse().unwrap(), setup, &mut metrics).await.unwrap();
        Self {
            genesis,
            mempool,
            feed,
            final_height,
            services,
            now_ms,
            height: 0,
            execution: Running(execution),
            blocks,
            checkpoints,
            reader: kept,
            parent_hash: Hash32::ZERO,
            next_id: 1,
            told: true,
            _dir: dir,
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    pub(crate) fn pass(&self, ms: u64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }

    pub(crate) fn chain_id(&self) -> ChainId {
        self.genesis.chain_id()
    }

    pub(crate) async fn channel(&self) -> Channel {
        let address = format!("http://{}", self.services.local_addr());
        Endpoint::from_shared(address).unwrap().connect().await.unwrap()
    }

    /// A client that lets little through while it does not read.
    pub(crate) async fn narrow_wallet(&self, name: &str) -> Wallet {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.services.local_addr())).unwrap();
        let endpoint = endpoint.initial_stream_window_size(64 << 10).initial_connection_window_size(64 << 10);
        let token = Token(format!("Bearer {name}-token"));
        WalletServiceClient::with_interceptor(endpoint.connect().await.unwrap(), token)
    }

    pub(crate) async fn wallet(&self, name: &str) -> Wallet {
        WalletServiceClient::with_interceptor(self.channel().await, Token(format!("Bearer {name}-token")))
    }

    pub(crate) async fn operator(&self) -> Operator {
        OperatorServiceClient::with_interceptor(self.channel().await, Token("Bearer operator-token".into()))
    }

    /// Makes, decides and executes a block of what waits, at the test's time; returns the number of batches.
    pub(crate) async fn block(&mut self) -> usize {
        self.pass(1);
        let limits = CandidateLimits { batches: 4096, ops: 10_000, bytes: 2 << 20, time_ms: self.now() };
        let batches = self.mempool.candidate(&limits);
        let hashes: Vec<Hash32> = batches.iter().map(|batch| batch.checked.hash).collect();
        self.height += 1;
        let log = self.execution.0.root_after(self.height.saturating_sub(2)).await.unwrap();
        let header = Header {
            format: 1,
            chain_id: self.chain_id(),
            height: self.height,
            round: 0,
            time_ms: self.now(),
            parent_hash: self.parent_hash,
            proposer: Address([1; 20]),
            n_batches: hashes.len() as u32,
            batches_root: Header::batches_root_of(&hashes),
            log,
            validators_hash: Hash32([2; 32]),
            next_validators_hash: Hash32([2; 32]),
            rules: 1,
        };
        self.parent_hash = header.hash();
        let certificate =
            CommitCertificate { height: self.height, round: 0, value: self.parent_hash, signatures: Vec::new() };
        let batches = batches.into_iter().map(|batch| batch.bytes).collect();
        let block = Block { header, batches, certificate };
        self.blocks.append_decided(&block.header, &block.batches, &block.certificate).unwrap();
        self.mempool.mark_included(self.height, self.now(), &hashes);
        self.execution.0.submit(block.into()).await.unwrap();
        self.execution.0.executed_up_to(self.height).await.unwrap();
        self.mempool.mark_executed(self.height);
        if self.told {
            self.feed.executed(&self.execution.0.executed().batches).await.unwrap();
        }
        hashes.len()
    }

    /// A final checkpoint of a height; nobody here checks who signed it.
    pub(crate) fn finish(&self, height: u64) {
        let log = self.reader.root_at(height).unwrap().unwrap();
        let checkpoint = anji_verify::SignedCheckpoint { height, log, signatures: Vec::new() };
        self.checkpoints.put(&checkpoint).unwrap();
    }

    /// Waits until the pool holds `n` batches, then makes a block of them.
    pub(crate) async fn block_of(&mut self, n: usize) {
        wait_for("the batches wait", || self.mempool.status().n_batches >= n as u64).await;
        assert_eq!(self.block().await, n);
    }

    pub(crate) fn new_id(&mut self) -> OpId {
        self.next_id += 1;
        OpId::new(self.now(), self.next_id)
    }

    pub(crate) fn op(&mut self, body: OpBody) -> Op {
        Op { op_id: self.new_id(), linked: false, body }
    }

    pub(crate) fn sign(&self, signer: ParticipantId, ops: &[Op]) -> Bytes {
        self.sign_until(signer, ops, self.now() + MAX_BATCH_LIFE_MS / 2)
    }

    pub(crate) fn sign_until(&self, signer: ParticipantId, ops: &[Op], expires_at_ms: u64) -> Bytes {
        let sign = |digest: &[u8; 32]| signing_key(signer, 1).sign(digest).to_bytes();
        encode_batch(&self.chain_id(), signer, KeyId(1), expires_at_ms, ops, sign).unwrap().into()
    }

    /// One operation in a batch and a block of its own; gives the receipt as the wallet service tells it.
    pub(crate) async fn run(&mut self, name: &str, body: OpBody) -> v1::Receipt {
        let op = self.op(body);
        self.run_op(name, op).await
    }

    pub(crate) async fn run_op(&mut self, name: &str, op: Op) -> v1::Receipt {
        let signer = CALLERS.iter().find(|(caller, _)| *caller == name).unwrap().1;
        let batch = self.sign(signer, &[op]);
        let mut wallet = self.wallet(name).await;
        let call = tokio::spawn(async move { wallet.submit_batch(decided(batch)).await });
        self.block_of(1).await;
        let receipts = call.await.unwrap().unwrap().into_inner().receipts.unwrap();
        assert_eq!(receipts.receipts.len(), 1);
        receipts.receipts.into_iter().next().unwrap()
    }

    /// A mandate from wallet to credit, ready for payments.
    pub(crate) async fn mandate(&mut self) -> MandateId {
        let mut world = crate::contracts::World::new();
        world.now_ms = self.now();
        let op = self.op(OpBody::MandatePropose(propose(&world)));
        let id = MandateId(ScopedId { participant: ACQUIRER, op_id: op.op_id });
        assert_eq!(code(&self.run_op("wallet", op).await), 0);
        assert_eq!(code(&self.run("credit", OpBody::MandateActivate(activate(&world, id))).await), 0);
        id
    }

    /// A payment that waits for the issuer.
    pub(crate) async fn requested(&mut self, mandate: MandateId) -> (PaymentId, PaymentRequest) {
        let mut world = crate::contracts::World::new();
        world.now_ms = self.now();
        let request = crate::contracts::request(&world, mandate, 700);
        let op = self.op(OpBody::PaymentRequest(request.clone()));
        let id = PaymentId(ScopedId { participant: ACQUIRER, op_id: op.op_id });
        assert_eq!(code(&self.run_op("wallet", op).await), 0);
        (id, request)
    }
}

pub(crate) fn token_blake3(name: &str) -> [u8; 32] {
    *blake3::hash(format!("{name}-token").as_bytes()).as_bytes()
}

pub(crate) fn decided(signed_batch: impl Into<Bytes>) -> v1::SubmitBatchRequest {
    v1::SubmitBatchRequest { signed_batch: signed_batch.into(), wait: v1::Wait::Decided.into() }
}

pub(crate) fn none(signed_batch: impl Into<Bytes>) -> v1::SubmitBatchRequest {
    v1::SubmitBatchRequest { signed_batch: signed_batch.into(), wait: v1::Wait::None.into() }
}

/// The reject's number in a receipt; 0 for done.
pub(crate) fn code(receipt: &v1::Receipt) -> u32 {
    match receipt.result.as_ref().unwrap() {
        v1::receipt::Result::Done(_) => 0,
        v1::receipt::Result::Refused(reject) => reject.code,
    }
}

pub(crate) fn reason(status: &Status) -> String {
    use tonic_types::StatusExt;
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "anji");
    info.reason
}

pub(crate) fn metadata(status: &Status, key: &str) -> Option<String> {
    use tonic_types::StatusExt;
    status.get_details_error_info()?.metadata.get(key).cloned()
}

pub(crate) async fn wait_for(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..4_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}
