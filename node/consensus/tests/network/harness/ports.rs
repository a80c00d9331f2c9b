//! Neighbours in memory. They outlive a stopped node, as a disk does.

use anji_consensus::error::PortError;
use anji_consensus::ports::{Batch, Blocks, Body, CandidateLimits, Execution, Keys, Pool, StoredBody};
use anji_contracts::codec::verify_ed25519;
use anji_contracts::types::{Hash32, KeyId, ParticipantId};
use anji_contracts::{DecodedBatch, Reject, decode_batch};
use anji_verify::{CommitCertificate, Header, LogRoot};
use async_trait::async_trait;
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// A block file in memory.
#[derive(Default)]
pub struct Disk {
    inner: Mutex<Inner>,
    /// Appends fail while this is set.
    pub full: AtomicBool,
    /// Decisions take as long as this is set.
    pub stalled: AtomicBool,
    /// Where appends are written and synced as well, for measurements.
    pub file: Mutex<Option<File>>,
}

#[derive(Default)]
struct Inner {
    proposals: HashMap<Hash32, StoredBody>,
    decided: BTreeMap<u64, CommitCertificate>,
}

impl Disk {
    pub fn height(&self) -> u64 {
        self.inner.lock().expect("whole").decided.keys().next_back().copied().unwrap_or(0)
    }

    pub fn block(&self, height: u64) -> Option<(StoredBody, CommitCertificate)> {
        let inner = self.inner.lock().expect("whole");
        let certificate = inner.decided.get(&height)?.clone();
        Some((inner.proposals[&certificate.value].clone(), certificate))
    }

    /// Overwrites a decided block, as a node with other rules would serve it.
    pub fn forge(&self, height: u64, change: impl FnOnce(&mut StoredBody)) {
        let mut inner = self.inner.lock().expect("whole");
        let value = inner.decided[&height].value;
        change(inner.proposals.get_mut(&value).expect("there"));
    }

    /// Takes the last decision back: the node died before it was on disk.
    pub fn undecide_last(&self) {
        let mut inner = self.inner.lock().expect("whole");
        inner.decided.pop_last();
    }

    fn sync(&self, parts: &[&[u8]]) {
        if let Some(file) = self.file.lock().expect("whole").as_mut() {
            for part in parts {
                file.write_all(part).expect("written");
            }
            file.sync_data().expect("synced");
        }
    }

    fn check_space(&self) -> Result<(), PortError> {
        if self.full.load(Ordering::Relaxed) { Err(PortError::new("no space left".to_owned())) } else { Ok(()) }
    }
}

impl Blocks for Disk {
    fn append_proposal(&self, header: &Header, batches: &[Bytes]) -> Result<bool, PortError> {
        self.check_space()?;
        self.sync(&batches.iter().map(|bytes| &**bytes).collect::<Vec<_>>());
        let mut inner = self.inner.lock().expect("whole");
        if inner.decided.contains_key(&header.height) {
            return Ok(false);
        }
        inner.proposals.insert(header.hash(), StoredBody { header: header.clone(), batches: batches.to_vec() });
        Ok(true)
    }

    fn append_decision(&self, certificate: &CommitCertificate) -> Result<(), PortError> {
        while self.stalled.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.check_space()?;
        self.sync(&[&[1; 500]]);
        let mut inner = self.inner.lock().expect("whole");
        assert!(inner.proposals.contains_key(&certificate.value), "a decision without a body");
        assert_eq!(inner.decided.keys().next_back().copied().unwrap_or(0) + 1, certificate.height, "in order");
        inner.decided.insert(certificate.height, certificate.clone());
        Ok(())
    }

    fn append_decided(
        &self,
        header: &Header,
        batches: &[Bytes],
        certificate: &CommitCertificate,
    ) -> Result<(), PortError> {
        self.append_proposal(header, batches)?;
        self.append_decision(certificate)
    }

    fn decided_height(&self) -> u64 {
        self.height()
    }

    fn first_height(&self) -> u64 {
        1
    }

    fn load_decision(&self, height: u64) -> Result<Option<(Header, CommitCertificate)>, PortError> {
        Ok(self.block(height).map(|(body, certificate)| (body.header, certificate)))
    }

    fn load_block(&self, height: u64) -> Result<Option<(StoredBody, CommitCertificate)>, PortError> {
        Ok(self.block(height))
    }

    fn load_proposal(&self, value: &Hash32) -> Result<Option<StoredBody>, PortError> {
        Ok(self.inner.lock().expect("whole").proposals.get(value).cloned())
    }

    fn undecided(&self) -> Vec<Hash32> {
        let inner = self.inner.lock().expect("whole");
        let decided = inner.decided.keys().next_back().copied().unwrap_or(0);
        inner.proposals.iter().filter(|(_, body)| body.header.height > decided).map(|(value, _)| *value).collect()
    }
}

/// Execution that hashes what it is given. Heights above `gate` wait.
pub struct MemoryExecution {
    roots: Mutex<Vec<(LogRoot, u64, Vec<Hash32>)>>,
    queue: Mutex<BTreeMap<u64, (Hash32, u64, Vec<Hash32>)>>,
    executed: watch::Sender<u64>,
    pub gate: AtomicU64,
    /// Mixed into every root: a node with another number computes another state.
    pub flavour: AtomicU64,
    /// Takes keys that nobody else knows.
    pub lenient: AtomicBool,
    /// Has work for empty blocks up to this height.
    pub backlog_until: AtomicU64,
}

impl MemoryExecution {
    pub fn new() -> Self {
        let genesis = LogRoot { size: 1, root: Hash32([1; 32]) };
        Self {
            roots: Mutex::new(vec![(genesis, 0, Vec::new())]),
            queue: Mutex::default(),
            executed: watch::Sender::new(0),
            gate: AtomicU64::new(u64::MAX),
            flavour: AtomicU64::new(0),
            lenient: AtomicBool::new(false),
            backlog_until: AtomicU64::new(0),
        }
    }

    /// Runs what is queued and below the gate.
    pub fn run(&self) {
        let mut queue = self.queue.lock().expect("whole");
        loop {
            let next = *self.executed.borrow() + 1;
            if next > self.gate.load(Ordering::Relaxed) {
                return;
            }
            let Some((hash, time_ms, batches)) = queue.remove(&next) else { return };
            let mut roots = self.roots.lock().expect("whole");
            let (last, _, _) = roots.last().expect("genesis");
            let mut root = anji_contracts::codec::merkle_node(&last.root, &hash);
            root.0[0] ^= u8::try_from(self.flavour.load(Ordering::Relaxed)).expect("small");
            let log = LogRoot { size: last.size + 1 + batches.len() as u64, root };
            roots.push((log, time_ms, batches));
            self.executed.send_replace(next);
        }
    }
}

/// One key; `0` takes any other as well.
struct TestKeys(bool);

impl Keys for TestKeys {
    fn check_key(&self, participant: ParticipantId, key_id: KeyId, _time_ms: u64) -> Result<(), Reject> {
        if self.0 || (participant, key_id) == (ParticipantId(1), KeyId(1)) { Ok(()) } else { Err(Reject::UnknownKey) }
    }

    fn check_signature(&self, batch: &DecodedBatch, time_ms: u64) -> Result<(), Reject> {
        self.check_key(batch.header.participant, batch.header.key_id, time_ms)?;
        let key = SigningKey::from_bytes(&[9; 32]).verifying_key();
        verify_ed25519(key.as_bytes(), &batch.signing_digest, &batch.signature)
    }

    fn rules(&self) -> u32 {
        1
    }
}

#[async_trait]
impl Execution for MemoryExecution {
    async fn submit(&self, body: &Body, certificate: &CommitCertificate) -> Result<(), PortError> {
        let hashes = body.batches.iter().map(|batch| batch.checked.hash).collect();
        let entry = (certificate.value, body.header.time_ms, hashes);
        self.queue.lock().expect("whole").insert(certificate.height, entry);
        self.run();
        Ok(())
    }

    fn executed_height(&self) -> u64 {
        *self.executed.borrow()
    }

    fn has_backlog(&self) -> bool {
        self.executed_height() < self.backlog_until.load(Ordering::Relaxed)
    }

    async fn wait_executed(&self, height: u64) -> Result<(), PortError> {
        let mut executed = self.executed.subscribe();
        executed
            .wait_for(|executed| *executed >= height)
            .await
            .map(drop)
            .map_err(|_| PortError::new("stopped".to_owned()))
    }

    fn root_after(&self, height: u64) -> Option<LogRoot> {
        let at = usize::try_from(height).ok()?;
        self.roots.lock().expect("whole").get(at).map(|(log, _, _)| *log)
    }

    fn keys_after(&self, height: u64) -> Option<Arc<dyn Keys>> {
        let lenient = self.lenient.load(Ordering::Relaxed);
        self.root_after(height).map(|_| Arc::new(TestKeys(lenient)) as _)
    }

    fn recent_batches(&self, since_ms: u64) -> Result<Vec<(u64, u64, Hash32)>, PortError> {
        let roots = self.roots.lock().expect("whole");
        let mut recent = Vec::new();
        for (height, (_, time_ms, batches)) in
            roots.iter().enumerate().filter(|(_, (_, time_ms, _))| *time_ms >= since_ms)
        {
            recent.extend(batches.iter().map(|hash| (height as u64, *time_ms, *hash)));
        }
        Ok(recent)
    }

    async fn stopped(&self) -> PortError {
        std::future::pending().await
    }
}

/// A pool in memory.
#[derive(Default)]
pub struct MemoryPool {
    inner: Mutex<PoolInner>,
    filled: Notify,
    /// Proposes whatever it is told to, good or bad.
    pub forced: Mutex<Vec<Bytes>>,
}

#[derive(Default)]
struct PoolInner {
    batches: HashMap<Hash32, Batch>,
    order: Vec<Hash32>,
    included: HashSet<Hash32>,
}

impl MemoryPool {
    pub fn put(&self, bytes: &Bytes) {
        let checked = decode_batch(bytes, &super::CHAIN).expect("decodes").assume_verified();
        let hash = checked.hash;
        let mut inner = self.inner.lock().expect("whole");
        if inner.batches.insert(hash, Batch { bytes: bytes.clone(), checked: Arc::new(checked) }).is_none()
            && !inner.included.contains(&hash)
        {
            inner.order.push(hash);
        }
        self.filled.notify_waiters();
    }

    pub fn n_waiting(&self) -> usize {
        self.inner.lock().expect("whole").order.len()
    }

    fn waiting(&self) -> Vec<Batch> {
        let inner = self.inner.lock().expect("whole");
        inner
            .order
            .iter()
            .filter(|hash| !inner.included.contains(*hash))
            .map(|hash| inner.batches[hash].clone())
            .collect()
    }
}

#[async_trait]
impl Pool for MemoryPool {
    fn get(&self, hash: &Hash32) -> Option<Batch> {
        self.inner.lock().expect("whole").batches.get(hash).cloned()
    }

    fn candidate(&self, limits: &CandidateLimits) -> Vec<Batch> {
        let (mut bytes, mut ops) = (0, 0);
        self.waiting()
            .into_iter()
            .take(limits.batches)
            .take_while(|batch| {
                bytes += batch.bytes.len();
                ops += batch.checked.header.n_ops;
                bytes <= limits.bytes && ops <= limits.ops
            })
            .collect()
    }

    fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }

    async fn wait_nonempty(&self) {
        loop {
            let filled = self.filled.notified();
            tokio::pin!(filled);
            filled.as_mut().enable();
            if !self.is_empty() {
                return;
            }
            filled.await;
        }
    }

    fn mark_included(&self, _height: u64, _time_ms: u64, hashes: &[Hash32]) {
        let mut inner = self.inner.lock().expect("whole");
        inner.included.extend(hashes);
        let PoolInner { order, included, .. } = &mut *inner;
        order.retain(|hash| !included.contains(hash));
    }

    fn mark_executed(&self, _height: u64) {}

    fn offer(&self, batch: &Batch) {
        self.put(&batch.bytes);
    }
}
