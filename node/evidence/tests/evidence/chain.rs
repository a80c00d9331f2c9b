//! A chain whose blocks the test makes, decides with the validators' keys and executes for real.

use crate::contracts::{ACQUIRER, CLEARING, ISSUER, PROVIDER, World, genesis, signing_key};
use anji_contracts::entry::OpResult;
use anji_contracts::genesis::GenesisValidator;
use anji_contracts::ops::{Op, OpBody};
use anji_contracts::types::{Hash32, KeyId, OpId, ParticipantId, ScopedId};
use anji_contracts::{Genesis, encode_batch};
use anji_evidence::Evidence;
use anji_execution::{ExecutionMetrics, ExecutionOptions, Executor};
use anji_storage::{Block, BlockFile, CheckpointStore, Store, StoreOptions};
use anji_verify::bundle::Trust;
use anji_verify::certificate::{CommitCertificate, CommitSignature, VoteBody, VoteKind};
use anji_verify::checkpoint::{SignedCheckpoint, ValidatorSignatures, checkpoint_text, cosigned_message, origin};
use anji_verify::{Address, Cosignature, Header, LogRoot};
use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};

const VALIDATORS: [ParticipantId; 4] = [ACQUIRER, ISSUER, PROVIDER, CLEARING];

fn key_of(validator: ParticipantId) -> SigningKey {
    signing_key(validator, 99)
}

pub(crate) struct Chain {
    pub(crate) genesis: Genesis,
    pub(crate) trust: Trust,
    pub(crate) world: World,
    pub(crate) executor: Executor,
    blocks: BlockFile,
    checkpoints: CheckpointStore,
    pub(crate) roots: Vec<LogRoot>,
    parent_hash: Hash32,
    _dir: tempfile::TempDir,
}

impl Chain {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut genesis = genesis();
        genesis.validators = VALIDATORS
            .map(|participant| GenesisValidator {
                participant,
                public_key: key_of(participant).verifying_key().to_bytes(),
                power: 1,
            })
            .to_vec();
        let options = StoreOptions { cache_bytes: 8 << 20, write_buffer_bytes: 4 << 20, ..StoreOptions::default() };
        let opened = Store::open(dir.path(), &genesis, &options).unwrap();
        let (blocks, checkpoints) = (opened.blocks.clone(), opened.checkpoints.clone());
        let executor =
            Executor::open(opened, &genesis, &ExecutionOptions::default(), ExecutionMetrics::default()).unwrap();
        let trust = Trust::of_genesis(&genesis).unwrap();
        let world = World::with(&genesis);
        let roots = vec![executor.log_root()];
        Self { genesis, trust, world, executor, blocks, checkpoints, roots, parent_hash: Hash32::ZERO, _dir: dir }
    }

    pub(crate) fn evidence(&self) -> Evidence {
        Evidence::new(self.executor.reader().clone())
    }

    pub(crate) fn height(&self) -> u64 {
        self.roots.len() as u64 - 1
    }

    /// Makes, decides and executes a block a second after the last one; its checkpoint becomes final unless told otherwise.
    pub(crate) fn block(&mut self, batches: Vec<Vec<u8>>) {
        self.block_with(batches, true);
    }

    pub(crate) fn block_with(&mut self, batches: Vec<Vec<u8>>, is_final: bool) {
        self.world.now_ms += 1000;
        let height = self.height() + 1;
        let chain_id = self.genesis.chain_id();
        let hash = |bytes: &Vec<u8>| anji_contracts::decode_batch(bytes, &chain_id).unwrap().hash;
        let hashes: Vec<Hash32> = batches.iter().map(hash).collect();
        let set = self.trust.validators.hash();
        let header = Header {
            format: 1,
            chain_id,
            height,
            round: 0,
            time_ms: self.world.now_ms,
            parent_hash: self.parent_hash,
            proposer: Address([1; 20]),
            n_batches: batches.len() as u32,
            batches_root: Header::batches_root_of(&hashes),
            log: self.roots[height.saturating_sub(2) as usize],
            validators_hash: set,
            next_validators_hash: set,
            rules: 1,
        };
        self.parent_hash = header.hash();
        let certificate = certify(&header);
        let block = Block { header, batches: batches.into_iter().map(Bytes::from).collect(), certificate };
        self.blocks.append_decided(&block.header, &block.batches, &block.certificate).unwrap();
        let executed = self.executor.execute(&block.into()).unwrap();
        self.roots.push(executed.log);
        if is_final {
            self.cosign(height);
        }
    }

    /// Three of four validators cosign the checkpoint of a height.
    pub(crate) fn cosign(&self, height: u64) {
        let log = self.roots[height as usize];
        let text = checkpoint_text(&origin(&self.genesis.chain_id()), &log);
        let one = |validator: &ParticipantId| {
            let (key, time_s) = (key_of(*validator), self.world.now_ms / 1000);
            let cosignature = Cosignature {
                validator: Address::of(&key.verifying_key().to_bytes()),
                time_s,
                signature: key.sign(&cosigned_message(time_s, &text)).to_bytes(),
            };
            ValidatorSignatures { cosignature, plain: key.sign(text.as_bytes()).to_bytes() }
        };
        let signatures = VALIDATORS[..3].iter().map(one).collect();
        self.checkpoints.put(&SignedCheckpoint { height, log, signatures }).unwrap();
    }

    /// A signed batch.
    pub(crate) fn batch(&self, signer: ParticipantId, ops: &[Op]) -> Vec<u8> {
        let sign = |digest: &[u8; 32]| signing_key(signer, 1).sign(digest).to_bytes();
        encode_batch(&self.genesis.chain_id(), signer, KeyId(1), self.world.now_ms + 60_000, ops, sign).unwrap()
    }

    pub(crate) fn op(&mut self, body: OpBody) -> Op {
        self.world.next_id += 1;
        Op { op_id: OpId::new(self.world.now_ms, self.world.next_id), linked: false, body }
    }

    /// One operation in a block of its own; gives its id.
    pub(crate) fn run(&mut self, signer: ParticipantId, body: OpBody) -> ScopedId {
        let op = self.op(body);
        self.block(vec![self.batch(signer, std::slice::from_ref(&op))]);
        ScopedId { participant: signer, op_id: op.op_id }
    }

    pub(crate) fn done(&mut self, signer: ParticipantId, body: OpBody) -> ScopedId {
        let id = self.run(signer, body);
        let row = self.executor.reader().op(&id).unwrap().unwrap();
        let result = row.record.receipt.result;
        assert!(matches!(result, OpResult::Done(_)), "{result:?}");
        id
    }
}

fn certify(header: &Header) -> CommitCertificate {
    let (height, round, value) = (header.height, 0, header.hash());
    let one = |validator: &ParticipantId| {
        let key = key_of(*validator);
        let address = Address::of(&key.verifying_key().to_bytes());
        let body = VoteBody {
            chain_id: header.chain_id,
            kind: VoteKind::Precommit,
            height,
            round,
            value: Some(value),
            validator: address,
        };
        CommitSignature { validator: address, signature: key.sign(&body.sign_bytes()).to_bytes() }
    };
    CommitCertificate { height, round, value, signatures: VALIDATORS[1..].iter().map(one).collect() }
}
