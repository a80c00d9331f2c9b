//! Small chains: headers and certificates that fit together, states with every kind of row.

use anji_contracts::entity::{Entity, EntityKey, Line, Obligation, Payment, PaymentStatus, Position};
use anji_contracts::entry::{Cause, EntityEntry, Entry, NO_PREVIOUS, OpResult, Receipt};
use anji_contracts::genesis::Params;
use anji_contracts::ops::Order;
use anji_contracts::types::*;
use anji_contracts::{Genesis, OpRecord, Reject};
use anji_storage::{BatchReceipts, Block, BlockCommit, BlockFile, Latest, OpRow, Opened, Store, StoreOptions};
use anji_verify::{Address, CommitCertificate, CommitSignature, Header, LogRoot};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) fn genesis(salt: u8) -> Genesis {
    Genesis {
        format: 1,
        name: "test".into(),
        salt: [salt; 32],
        time_ms: 1000,
        currency: Currency::CNY,
        params: Params::default(),
        participants: Vec::new(),
        validators: Vec::new(),
        schedules: Vec::new(),
        positions: Vec::new(),
    }
}

/// A folder that goes away with the test; in memory where the system offers that, since no test here pulls the plug.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

pub(crate) fn options() -> StoreOptions {
    StoreOptions { cache_bytes: 1 << 20, write_buffer_bytes: 1 << 20, ..StoreOptions::default() }
}

pub(crate) fn open(dir: &Path) -> Opened {
    Store::open(dir, &genesis(1), &options()).unwrap()
}

/// The error of an open that must fail.
pub(crate) fn refused(dir: &Path) -> String {
    match Store::open(dir, &genesis(1), &options()) {
        Ok(opened) => panic!("opened at height {}", opened.blocks.decided_height()),
        Err(error) => error.to_string(),
    }
}

pub(crate) fn header(height: u64, round: u32, n_batches: usize) -> Header {
    Header {
        format: 1,
        chain_id: genesis(1).chain_id(),
        height,
        round,
        time_ms: 1000 + height,
        parent_hash: Hash32([height as u8; 32]),
        proposer: Address([1; 20]),
        n_batches: n_batches as u32,
        batches_root: Hash32([3; 32]),
        log: LogRoot { size: 0, root: Hash32::ZERO },
        validators_hash: Hash32([4; 32]),
        next_validators_hash: Hash32([4; 32]),
        rules: 1,
    }
}

/// A decided block; `fill` makes its body.
pub(crate) fn block(height: u64, batches: &[&[u8]]) -> Block {
    let header = header(height, 0, batches.len());
    let value = header.hash();
    let signatures = vec![CommitSignature { validator: Address([2; 20]), signature: [height as u8; 64] }];
    let certificate = CommitCertificate { height, round: 0, value, signatures };
    Block { header, batches: batches.iter().map(|bytes| Bytes::copy_from_slice(bytes)).collect(), certificate }
}

pub(crate) fn decide(blocks: &BlockFile, block: &Block) {
    blocks.append_proposal(&block.header, &block.batches).unwrap();
    blocks.append_decision(&block.certificate).unwrap();
}

pub(crate) fn segment(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("blocks/{number:06}.blk"))
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

fn payment(id: ScopedId, amount: u64, status: PaymentStatus) -> Entity {
    Entity::Payment(Payment {
        id: PaymentId(id),
        status,
        mandate: MandateId(id),
        issuer: ParticipantId(2),
        amount: Amount(amount),
        currency: Currency::CNY,
        scene: Scene::Online,
        order: Order::default(),
        schedule_version: ScheduleVersion(1),
        instalments: 1,
        requested_at_ms: 1,
        answer_by_ms: 5_000 + amount,
        capture_by_ms: 9_000 + amount,
        captured_at_ms: 0,
        held: Amount::ZERO,
        captured: Amount::ZERO,
        released: Amount::ZERO,
        refund_reserved: Amount::ZERO,
        refunded: Amount::ZERO,
        charged_back: Amount::ZERO,
        n_refunds: 0,
        captures: Vec::new(),
        fees: Vec::new(),
        acquirer_assertion: RiskAssertion::default(),
        issuer_assertion: None,
        disclosure: None,
        reason: 0,
    })
}

/// Commits blocks by hand, the way execution does, and remembers what it wrote.
pub(crate) struct Filler {
    pub(crate) latest: BTreeMap<EntityKey, (Latest, Entity)>,
    pub(crate) next_index: u64,
    pub(crate) next_seq: u64,
}

impl Filler {
    pub(crate) fn new() -> Self {
        Self { latest: BTreeMap::new(), next_index: 0, next_seq: 0 }
    }

    fn write(&mut self, commit: &mut BlockCommit, state: Entity) {
        let key = state.key();
        let before = self.latest.get(&key).map(|(latest, _)| *latest);
        commit.superseded.extend(before.map(|before| before.index));
        let version = before.map_or(1, |before| before.version + 1);
        let prev_index = before.map_or(NO_PREVIOUS, |before| before.index);
        let entry = EntityEntry { key, version, prev_index, state: state.clone(), cause: Cause::Block };
        commit.entries.push(&Entry::Entity(entry));
        let latest = Latest { index: self.next_index, version };
        commit.latest.push((key, latest));
        self.latest.insert(key, (latest, state));
        self.next_index += 1;
    }

    /// Height 0 has no batch; every later block one batch of `n_payments` operations, one of them refused. From the third on, a block also
    /// changes a payment of the one two before.
    pub(crate) fn commit(&mut self, opened: &mut Opened, height: u64, header_hash: Hash32, n_payments: u64) {
        let time_ms = 1000 + height;
        let mut commit = BlockCommit { height, header_hash, time_ms, ..BlockCommit::default() };
        let participant = ParticipantId(1);
        let mut receipts = Vec::new();
        for n in 0..n_payments {
            let op_id = OpId::new(time_ms, u128::from(height * 1000 + n));
            let id = ScopedId { participant, op_id };
            let state = payment(id, height + n, PaymentStatus::Requested);
            commit.due_added.extend(state.due_at_ms().map(|due| (due, state.key())));
            let result = if n == 1 { OpResult::Refused(Reject::AboveCap) } else { OpResult::Done(state.key()) };
            let receipt = Receipt { op_id, result, time_ms, height };
            let record = OpRecord { body_hash: Hash32([n as u8; 32]), receipt: receipt.clone() };
            let payment_index = (n != 1).then_some(self.next_index);
            let row = OpRow { record, batch_seq: self.next_seq, position: n as u32, payment_index };
            commit.ops.push((id, row));
            receipts.push(receipt);
            if n != 1 {
                self.write(&mut commit, state);
            }
        }
        if height > 2 && n_payments > 2 {
            let op_id = OpId::new(time_ms - 2, u128::from((height - 2) * 1000 + 2));
            self.write(&mut commit, payment(ScopedId { participant, op_id }, height, PaymentStatus::Held));
        }
        for participant in [ParticipantId(1), ParticipantId(2)] {
            self.write(&mut commit, Entity::Position(Position { participant, ..Position::default() }));
            let window = WindowId(1);
            self.write(&mut commit, Entity::Obligation(Obligation { participant, window, ..Obligation::default() }));
        }
        let mandate = MandateId(ScopedId { participant, op_id: OpId(7) });
        self.write(&mut commit, Entity::Line(Line { mandate, ..Line::default() }));
        commit.n_ops = n_payments;
        if height > 0 {
            let batch_hash = Hash32([height as u8; 32]);
            let seq = self.next_seq;
            commit.batches.push(Arc::new(BatchReceipts { seq, height, time_ms, participant, batch_hash, receipts }));
            self.next_seq += 1;
        }
        // The block entry.
        self.next_index += 1;
        commit.latest.sort_unstable_by_key(|(key, _)| *key);
        let record = opened.store.commit(&commit).unwrap();
        assert_eq!(record.log.size, self.next_index);
    }

    /// Genesis and `n_blocks` decided blocks with their effects.
    pub(crate) fn fill(&mut self, opened: &mut Opened, n_blocks: u64, n_payments: u64) {
        self.commit(opened, 0, genesis(1).chain_id().0, 0);
        for height in 1..=n_blocks {
            let block = block(height, &[b"batch"]);
            decide(&opened.blocks, &block);
            self.commit(opened, height, block.certificate.value, n_payments);
        }
    }
}
