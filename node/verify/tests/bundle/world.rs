//! A made-up ledger: entries in memory, trees computed the slow way, validators of the test.

use crate::contracts::{ACQUIRER, CLEARING, ISSUER, PROVIDER, START_MS, genesis, signing_key};
use anji_contracts::batch::encode_batch;
use anji_contracts::codec::{self, merkle_leaf, merkle_root};
use anji_contracts::entry::{BatchEntry, BlockEntry, Cause, EntityEntry, Entry, NO_PREVIOUS, OpResult, Receipt};
use anji_contracts::ops::Op;
use anji_contracts::types::{ChainId, Hash32, KeyId, ParticipantId};
use anji_contracts::{Entity, EntityKey};
use anji_verify::active_tree::{ActiveProof, ActiveTree, put_bit};
use anji_verify::bundle::{
    Anchor, Bundle, Claim, EntryProof, LastEntry, List, OperationClaim, SetChange, Standing, StateClaim, Trust,
};
use anji_verify::certificate::{CommitCertificate, CommitSignature, VoteBody, VoteKind};
use anji_verify::checkpoint::{Cosignature, checkpoint_text, cosigned_message, origin};
use anji_verify::log_proof::inclusion_path;
use anji_verify::log_tree::{leaf_hash, subtree_root};
use anji_verify::merkle_proof::merkle_path;
use anji_verify::{Address, Header, LogRoot, Validator, ValidatorSet};
use ed25519_dalek::{Signer, SigningKey};
use std::collections::BTreeMap;

/// A set of validators with their keys.
#[derive(Clone)]
pub(crate) struct Voters(pub(crate) Vec<(SigningKey, Validator)>);

impl Voters {
    /// One validator a number, each with power 1.
    pub(crate) fn new(numbers: &[u32]) -> Self {
        Self::weighted(&numbers.iter().map(|number| (*number, 1)).collect::<Vec<_>>())
    }

    pub(crate) fn weighted(numbers: &[(u32, u64)]) -> Self {
        let one = |&(number, power): &(u32, u64)| {
            let key = signing_key(ParticipantId(number), 77);
            let public_key = key.verifying_key().to_bytes();
            let participant = ParticipantId(number);
            (key, Validator { address: Address::of(&public_key), participant, public_key, power })
        };
        Self(numbers.iter().map(one).collect())
    }

    pub(crate) fn set(&self) -> ValidatorSet {
        ValidatorSet::new(self.0.iter().map(|(_, validator)| validator.clone()).collect()).unwrap()
    }

    pub(crate) fn certify(&self, header: &Header, n: usize) -> CommitCertificate {
        let (height, round, value) = (header.height, header.round + 1, header.hash());
        let signatures = self.0.iter().take(n).map(|(key, validator)| {
            let body = VoteBody {
                chain_id: header.chain_id,
                kind: VoteKind::Precommit,
                height,
                round,
                value: Some(value),
                validator: validator.address,
            };
            CommitSignature { validator: validator.address, signature: key.sign(&body.sign_bytes()).to_bytes() }
        });
        CommitCertificate { height, round, value, signatures: signatures.collect() }
    }

    pub(crate) fn cosign(&self, chain: &ChainId, log: &LogRoot, n: usize) -> Vec<Cosignature> {
        let text = checkpoint_text(&origin(chain), log);
        let one = |(number, (key, validator)): (usize, &(SigningKey, Validator))| {
            let time_s = START_MS / 1000 + number as u64;
            let signature = key.sign(&cosigned_message(time_s, &text)).to_bytes();
            Cosignature { validator: validator.address, time_s, signature }
        };
        self.0.iter().enumerate().take(n).map(one).collect()
    }
}

/// A batch in the log.
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) participant: ParticipantId,
    pub(crate) ops: Vec<Op>,
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) index: u64,
}

/// The ledger.
pub(crate) struct Ledger {
    pub(crate) chain: ChainId,
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) latest: BTreeMap<EntityKey, (u64, u64)>,
    /// Index of the block entry of each height.
    pub(crate) blocks: Vec<u64>,
    pub(crate) voters: Voters,
    pub(crate) trust: Trust,
    pub(crate) changes: Vec<SetChange>,
    pub(crate) height: u64,
    n_batches: u64,
}

impl Ledger {
    /// Participants as in the contracts' tests, four validators, block 0.
    pub(crate) fn new() -> Self {
        let genesis = genesis();
        let voters = Voters::new(&[ACQUIRER.0, ISSUER.0, PROVIDER.0, CLEARING.0]);
        let trust = Trust {
            chain_id: genesis.chain_id(),
            height: 1,
            validators: voters.set(),
            names: genesis.participants.iter().map(|it| (it.id, it.name.clone())).collect(),
        };
        let mut ledger = Self {
            chain: genesis.chain_id(),
            entries: Vec::new(),
            latest: BTreeMap::new(),
            blocks: Vec::new(),
            voters,
            trust,
            changes: Vec::new(),
            height: 0,
            n_batches: 0,
        };
        for participant in genesis.participants {
            ledger.put(Entity::Participant(participant), Cause::Genesis);
        }
        ledger.block();
        ledger
    }

    pub(crate) fn now(&self) -> u64 {
        START_MS + self.height * 1000
    }

    /// Appends a version; gives its index.
    pub(crate) fn put(&mut self, state: Entity, cause: Cause) -> u64 {
        let key = state.key();
        let index = self.entries.len() as u64;
        let (prev_index, version) = self.latest.get(&key).map_or((NO_PREVIOUS, 1), |(index, old)| (*index, old + 1));
        self.push(&Entry::Entity(EntityEntry { key, version, prev_index, state, cause }));
        self.latest.insert(key, (index, version));
        index
    }

    pub(crate) fn push(&mut self, entry: &Entry) {
        self.entries.push(codec::encode(entry));
    }

    /// Appends a batch entry of operations with these results.
    pub(crate) fn batch(&mut self, signer: ParticipantId, ops: &[(Op, OpResult)]) -> Batch {
        self.batch_with(signer, &signing_key(signer, 1), KeyId(1), ops)
    }

    pub(crate) fn batch_with(
        &mut self,
        signer: ParticipantId,
        key: &SigningKey,
        key_id: KeyId,
        ops: &[(Op, OpResult)],
    ) -> Batch {
        let (ops, results): (Vec<Op>, Vec<OpResult>) = ops.iter().cloned().unzip();
        let expires_at_ms = self.now() + 60_000;
        let sign = |digest: &[u8; 32]| key.sign(digest).to_bytes();
        let bytes = encode_batch(&self.chain, signer, key_id, expires_at_ms, &ops, sign).unwrap();
        let receipt = |(op, result): (&Op, OpResult)| Receipt {
            op_id: op.op_id,
            result,
            time_ms: self.now() + 1000,
            height: self.height + 1,
        };
        let receipts: Vec<Receipt> = ops.iter().zip(results).map(receipt).collect();
        let leaves: Vec<Hash32> = receipts.iter().map(|it| merkle_leaf(&codec::encode(it))).collect();
        let op_leaves: Vec<Hash32> = ops.iter().map(|it| merkle_leaf(&codec::encode(it))).collect();
        let index = self.entries.len() as u64;
        self.push(&Entry::Batch(BatchEntry {
            batch_seq: self.n_batches,
            batch_hash: codec::hash(codec::Domain::Batch, &bytes),
            participant: signer,
            expires_at_ms,
            n_ops: ops.len() as u32,
            ops_root: merkle_root(&op_leaves),
            receipts_root: merkle_root(&leaves),
        }));
        self.n_batches += 1;
        Batch { bytes, participant: signer, ops, receipts, index }
    }

    /// Ends a block.
    pub(crate) fn block(&mut self) {
        if !self.blocks.is_empty() {
            self.height += 1;
        }
        let active_root = active_tree(self.entries.len(), &self.latest).root();
        self.blocks.push(self.entries.len() as u64);
        self.push(&Entry::Block(BlockEntry {
            height: self.height,
            header_hash: Hash32([9; 32]),
            time_ms: self.now(),
            active_root,
            n_batches_total: self.n_batches,
            n_ops_total: 0,
        }));
    }

    pub(crate) fn log(&self) -> LogRoot {
        let leaves: Vec<Hash32> = self.entries.iter().map(|entry| leaf_hash(entry)).collect();
        LogRoot { size: leaves.len() as u64, root: subtree_root(&leaves).unwrap() }
    }

    pub(crate) fn header(&self, height: u64, next: &ValidatorSet) -> Header {
        Header {
            format: 1,
            chain_id: self.chain,
            height,
            round: 0,
            time_ms: START_MS + height * 1000,
            parent_hash: Hash32([8; 32]),
            proposer: Address([1; 20]),
            n_batches: 0,
            batches_root: merkle_root(&[]),
            log: self.log(),
            validators_hash: self.voters.set().hash(),
            next_validators_hash: next.hash(),
            rules: 1,
        }
    }

    /// Hands over to other validators, by the header of a height.
    pub(crate) fn change_set(&mut self, height: u64, next: &Voters) {
        let header = self.header(height, &next.set());
        let certificate = self.voters.certify(&header, self.voters.0.len() - 1);
        let next_list = List::new(next.set().validators().to_vec()).unwrap();
        self.changes.push(SetChange { header, certificate, next: next_list });
        self.voters = next.clone();
    }

    pub(crate) fn anchor(&self) -> Anchor {
        let header = self.header(self.height + 2, &self.voters.set());
        let n = (self.voters.0.len() - 1).max(1);
        let last = self.entry(*self.blocks.last().unwrap());
        Anchor {
            set_changes: List::new(self.changes.clone()).unwrap(),
            certificate: self.voters.certify(&header, n),
            cosignatures: List::new(self.voters.cosign(&self.chain, &header.log, n)).unwrap(),
            header,
            block: LastEntry { entry: last.entry, path: last.path },
        }
    }

    pub(crate) fn bundle(&self, claims: Vec<Claim>) -> Bundle {
        Bundle { anchor: self.anchor(), claims: List::new(claims).unwrap() }
    }

    /// An entry with its path.
    pub(crate) fn entry(&self, index: u64) -> EntryProof {
        let leaves: Vec<Hash32> = self.entries.iter().map(|entry| leaf_hash(entry)).collect();
        let subtree = |level: u32, at: u64| {
            let start = (at << level) as usize;
            Ok::<_, ()>(subtree_root(&leaves[start..start + (1 << level)]).unwrap())
        };
        let path = inclusion_path(index, leaves.len() as u64, subtree).unwrap();
        let entry = List::new(self.entries[index as usize].clone()).unwrap();
        EntryProof { index, entry, path: List::new(path).unwrap() }
    }

    /// The bit of an entry at the end of the log, which must end with a block entry.
    pub(crate) fn active(&self, index: u64) -> ActiveProof {
        active_tree(self.entries.len() - 1, &self.latest).proof(index).unwrap()
    }

    /// The claim about one operation of a batch.
    pub(crate) fn operation(&self, batch: &Batch, position: usize, made: Option<u64>) -> OperationClaim {
        let ops: Vec<Vec<u8>> = batch.ops.iter().map(codec::encode).collect();
        let receipts: Vec<Vec<u8>> = batch.receipts.iter().map(codec::encode).collect();
        let path = |items: &[Vec<u8>]| {
            let leaves: Vec<Hash32> = items.iter().map(|item| merkle_leaf(item)).collect();
            List::new(merkle_path(&leaves, position as u64).unwrap()).unwrap()
        };
        let signer = self.latest[&EntityKey::Participant(batch.participant)].0;
        OperationClaim {
            batch_header: batch.bytes[..86].try_into().unwrap(),
            signature: batch.bytes[batch.bytes.len() - 64..].try_into().unwrap(),
            position: position as u32,
            op: List::new(ops[position].clone()).unwrap(),
            op_path: path(&ops),
            receipt: List::new(receipts[position].clone()).unwrap(),
            receipt_path: path(&receipts),
            batch: self.entry(batch.index),
            signer: self.entry(signer),
            signer_standing: Standing::Latest(self.active(signer)),
            made: made.map(|index| self.entry(index)),
        }
    }

    /// The claim that an entry is the latest of its entity.
    pub(crate) fn current(&self, index: u64) -> StateClaim {
        StateClaim { entry: self.entry(index), at: None, standing: Standing::Latest(self.active(index)) }
    }

    /// The claim that an entry was the latest after a height, and was replaced by another later.
    pub(crate) fn at_height(&self, index: u64, height: u64, next: Option<u64>) -> StateClaim {
        let standing = match next {
            Some(next) => Standing::Replaced(self.entry(next)),
            None => Standing::Latest(self.active(index)),
        };
        StateClaim { entry: self.entry(index), at: Some(self.entry(self.blocks[height as usize])), standing }
    }
}

/// The active tree over `n` entries.
fn active_tree(n: usize, latest: &BTreeMap<EntityKey, (u64, u64)>) -> ActiveTree {
    let mut chunks = vec![[0_u8; 256]; n.div_ceil(2048).max(1)];
    for (index, _) in latest.values().filter(|(index, _)| *index < n as u64) {
        put_bit(&mut chunks[*index as usize / 2048], *index, true);
    }
    ActiveTree::from_chunks(n as u64, chunks).unwrap()
}
