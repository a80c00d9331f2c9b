//! Sees operations through: outbox first, then batches, signature, submission, answer. One task owns all of it.
//!
//! An operation leaves the engine only with the ledger's own answer. While that is open it is looked up before it is sent again, and
//! sent again only as the very same operation: in the same bytes while its batch may still enter a block, in a new batch after that.
//! A refusal that leaves the id free (the clock, the key) is no answer: the operation could still happen later.

use crate::config::AdapterConfig;
use crate::keys::PrivateKey;
use crate::metrics::Metrics;
use crate::node::Nodes;
use crate::outbox::OutboxError;
use crate::outbox::index::Index;
use crate::outbox::record::{Intent, Record};
use crate::outbox::writer::Writer;
use crate::state::{Shared, now_ms};
use anji_contracts::entry::OpResult;
use anji_contracts::ops::Op;
use anji_contracts::types::{ChainId, KeyId, OpId, ParticipantId};
use anji_contracts::{Receipt, Reject, codec};
use anji_wire::status::status_reject;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

/// Operations that may wait in front of the engine; more are refused at the door.
pub(crate) const INTAKE: usize = 16_384;
/// Groups being synced at a time.
const MAX_SYNCING: usize = 16;
/// Operations looked up at a time.
const MAX_ASKING: usize = 64;
const TICK: Duration = Duration::from_millis(100);
/// A batch counts as expired this long after its time, for clocks differ.
const EXPIRY_MARGIN_MS: u64 = 3000;
/// Answers that could not be written yet are dropped past this size; they are looked up again after a restart.
const MAX_UNSAVED: usize = 64 << 20;

/// Who signs.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) chain: ChainId,
    pub(crate) participant: ParticipantId,
    pub(crate) key_id: KeyId,
    pub(crate) key: PrivateKey,
}

/// The index, shared with the services.
pub(crate) type SharedIndex = Arc<Mutex<Index>>;

/// Locks the index for a look-up.
pub(crate) fn lock(index: &SharedIndex) -> MutexGuard<'_, Index> {
    // A panic aborts the process, so the lock is never poisoned in earnest.
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request on its way into the engine; it is in the index already.
#[derive(Debug)]
pub(crate) struct NewRequest {
    pub(crate) request_id: String,
    pub(crate) content: [u8; 16],
    pub(crate) op: Arc<Op>,
}

/// What the followers of the node's streams tell the engine.
#[derive(Debug)]
pub(crate) enum News {
    /// Receipts of one batch of this participant; all sequences below `next_seq` were looked at.
    Receipts { receipts: Vec<Receipt>, next_seq: u64 },
}

enum Event {
    Synced { ops: Vec<OpId>, answers: Vec<u8>, result: Result<(), Arc<OutboxError>> },
    Submitted { batch: u64, bytes: Bytes, result: Result<(), Status> },
    Signed { batch: u64, reject: Reject },
    Asked { op_id: OpId, result: Result<Option<Receipt>, Status> },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Being written to the outbox.
    Writing,
    /// Waiting for a batch.
    Ready,
    /// In this batch.
    InBatch(u64),
    /// Being looked up, or waiting for that.
    Asking,
    /// Refused for now; tried again at that time.
    Later(Instant),
}

struct Pending {
    op: Arc<Op>,
    size: usize,
    stage: Stage,
    /// When its caller asked; not known of what a restart found.
    started: Option<Instant>,
    /// Answer if a look-up finds none: the id is too old to be used.
    fallback: Option<Receipt>,
}

enum BatchState {
    Sending,
    /// Sent again at that time.
    Backoff(Instant),
    /// The node has it; looked up again at that time.
    Accepted(Instant),
}

struct Batch {
    ops: Vec<OpId>,
    n_open: usize,
    bytes: Option<Bytes>,
    expires_at_ms: u64,
    attempts: u32,
    state: BatchState,
}

/// The batches under way, and how many of them the node has not taken yet.
#[derive(Default)]
struct Batches {
    all: HashMap<u64, Batch>,
    n_busy: usize,
}

impl Batches {
    const fn is_busy(state: &BatchState) -> bool {
        !matches!(state, BatchState::Accepted(_))
    }

    fn insert(&mut self, number: u64, batch: Batch) {
        self.n_busy += usize::from(Self::is_busy(&batch.state));
        self.all.insert(number, batch);
    }

    fn remove(&mut self, number: u64) -> Option<Batch> {
        let batch = self.all.remove(&number)?;
        self.n_busy -= usize::from(Self::is_busy(&batch.state));
        Some(batch)
    }

    fn set_state(&mut self, number: u64, state: BatchState) {
        if let Some(batch) = self.all.get_mut(&number) {
            self.n_busy -= usize::from(Self::is_busy(&batch.state));
            self.n_busy += usize::from(Self::is_busy(&state));
            batch.state = state;
        }
    }
}

/// The engine.
pub(crate) struct Engine {
    config: AdapterConfig,
    signer: Arc<Signer>,
    index: SharedIndex,
    nodes: Arc<Nodes>,
    shared: Arc<Shared>,
    metrics: Metrics,
    writer: Writer,
    pending: HashMap<OpId, Pending>,
    gathering: Vec<NewRequest>,
    gathered_bytes: usize,
    gather_until: Option<Instant>,
    n_syncing: usize,
    ready: VecDeque<OpId>,
    forced: VecDeque<Vec<OpId>>,
    batches: Batches,
    next_batch: u64,
    to_ask: VecDeque<OpId>,
    n_asking: usize,
    unsaved: Vec<u8>,
    next_seq: u64,
    saved_seq: u64,
    compact_above: u64,
    events: mpsc::Sender<Event>,
}

/// What the engine needs to start.
pub(crate) struct EngineParts {
    pub(crate) config: AdapterConfig,
    pub(crate) signer: Signer,
    pub(crate) index: SharedIndex,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: Metrics,
    pub(crate) writer: Writer,
    /// Receipts below were looked at; not known of a fresh outbox.
    pub(crate) next_seq: Option<u64>,
}

impl Engine {
    /// Runs until `stop`; what is in the outbox then is seen through after the next start.
    ///
    /// # Errors
    /// The outbox's disk failed: nobody knows what is on it until it is read again.
    pub(crate) async fn run(
        parts: EngineParts,
        mut intake: mpsc::Receiver<NewRequest>,
        mut news: mpsc::Receiver<News>,
        stop: CancellationToken,
    ) -> Result<(), Arc<OutboxError>> {
        let (events, mut told) = mpsc::channel(1024);
        let compact_above = u64::from(parts.config.outbox.keep_mib) << 20;
        let mut engine = Self {
            config: parts.config,
            signer: Arc::new(parts.signer),
            index: parts.index,
            nodes: parts.nodes,
            shared: parts.shared,
            metrics: parts.metrics,
            writer: parts.writer,
            pending: HashMap::new(),
            gathering: Vec::new(),
            gathered_bytes: 0,
            gather_until: None,
            n_syncing: 0,
            ready: VecDeque::new(),
            forced: VecDeque::new(),
            batches: Batches::default(),
            next_batch: 0,
            to_ask: VecDeque::new(),
            n_asking: 0,
            unsaved: Vec::new(),
            next_seq: parts.next_seq.unwrap_or_default(),
            saved_seq: parts.next_seq.unwrap_or_default(),
            compact_above,
            events,
        };
        engine.recover();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            engine.work();
            let gather_until = engine.gather_until;
            let linger = async {
                match gather_until {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                Some(event) = told.recv() => engine.on_event(event)?,
                Some(news) = news.recv() => engine.on_news(news),
                Some(request) = intake.recv(), if engine.n_syncing < MAX_SYNCING => engine.gather(request),
                () = linger => engine.write_group().await,
                _ = tick.tick() => engine.on_tick().await?,
            }
            while engine.is_group_due() {
                engine.write_group().await;
            }
        }
        // Whatever was gathered is in nobody's hands yet: its callers are told that it was not taken.
        engine.save_answers().await;
        Ok(())
    }

    /// What the outbox held without an answer is looked up first: it may have been sent before the restart.
    fn recover(&mut self) {
        let ops = lock(&self.index).pending_ops();
        if !ops.is_empty() {
            tracing::info!(count = ops.len(), "requests of before the restart are looked up and seen through");
        }
        for op in ops {
            let op_id = op.op_id;
            self.put(op, Stage::Asking, None);
            self.to_ask.push_back(op_id);
        }
    }

    fn put(&mut self, op: Arc<Op>, stage: Stage, started: Option<Instant>) {
        let size = codec::encode(&*op).len();
        self.pending.insert(op.op_id, Pending { op, size, stage, started, fallback: None });
    }

    // ---- into the outbox --------------------------------------------------------------------------------------------

    fn gather(&mut self, request: NewRequest) {
        self.put(request.op.clone(), Stage::Writing, Some(Instant::now()));
        self.gathered_bytes += self.pending.get(&request.op.op_id).map_or(0, |it| it.size);
        self.gathering.push(request);
        // Alone on the road there is nobody to wait for.
        let idle = self.n_syncing == 0 && self.batches.n_busy == 0;
        let wait = if idle { Duration::ZERO } else { Duration::from_millis(self.config.batch.linger_ms) };
        let until = Instant::now() + wait;
        self.gather_until = Some(self.gather_until.map_or(until, |at| at.min(until)));
    }

    fn is_group_due(&self) -> bool {
        let full = self.gathering.len() >= self.config.batch.max_ops as usize
            || self.gathered_bytes >= (self.config.batch.max_kib as usize) << 10;
        full || self.gather_until.is_some_and(|at| at <= Instant::now())
    }

    async fn write_group(&mut self) {
        self.gather_until = None;
        self.gathered_bytes = 0;
        let group = std::mem::take(&mut self.gathering);
        if group.is_empty() {
            return;
        }
        let ops: Vec<OpId> = group.iter().map(|it| it.op.op_id).collect();
        let answers = self.take_unsaved();
        let mut bytes = answers.clone();
        for request in group {
            let NewRequest { request_id, content, op } = request;
            Record::Intent(Intent { request_id, content, op: (*op).clone() }).encode(&mut bytes);
        }
        self.append(bytes, ops, answers).await;
    }

    /// Answers go along with the next group; without one they are written by themselves.
    async fn save_answers(&mut self) {
        if self.unsaved.is_empty() && self.next_seq == self.saved_seq {
            return;
        }
        let answers = self.take_unsaved();
        self.append(answers.clone(), Vec::new(), answers).await;
    }

    fn take_unsaved(&mut self) -> Vec<u8> {
        let mut answers = std::mem::take(&mut self.unsaved);
        if self.next_seq != self.saved_seq {
            // Behind the answers it stands for.
            Record::Position(self.next_seq).encode(&mut answers);
            self.saved_seq = self.next_seq;
        }
        answers
    }

    async fn append(&mut self, bytes: Vec<u8>, ops: Vec<OpId>, answers: Vec<u8>) {
        let done = self.writer.append(bytes).await;
        self.n_syncing += 1;
        self.watch_sync(done, ops, answers);
    }

    fn watch_sync(
        &self,
        done: tokio::sync::oneshot::Receiver<Result<(), Arc<OutboxError>>>,
        ops: Vec<OpId>,
        answers: Vec<u8>,
    ) {
        let events = self.events.clone();
        let lost = self.config.data_dir.clone();
        tokio::spawn(async move {
            let result = done.await.unwrap_or_else(|_| {
                let source = std::io::Error::other("the outbox's thread has stopped");
                Err(Arc::new(OutboxError::Lost { path: lost, source }))
            });
            let _ = events.send(Event::Synced { ops, answers, result }).await;
        });
    }

    fn on_synced(
        &mut self,
        ops: Vec<OpId>,
        answers: Vec<u8>,
        result: Result<(), Arc<OutboxError>>,
    ) -> Result<(), Arc<OutboxError>> {
        self.n_syncing = self.n_syncing.saturating_sub(1);
        self.metrics.outbox_bytes.set(i64::try_from(self.writer.size()).unwrap_or(i64::MAX));
        match result {
            Ok(()) => {
                self.shared.outbox_trouble(None);
                for op_id in ops {
                    if let Some(it) = self.pending.get_mut(&op_id) {
                        it.stage = Stage::Ready;
                        self.ready.push_back(op_id);
                    }
                }
                Ok(())
            }
            Err(error) if error.is_fatal() => Err(error),
            Err(error) => {
                tracing::error!(%error, "the outbox cannot be written; requests are refused");
                self.shared.outbox_trouble(Some(error.to_string()));
                let mut index = lock(&self.index);
                for op_id in ops {
                    self.pending.remove(&op_id);
                    index.forget(op_id, &error);
                }
                drop(index);
                if answers.len() + self.unsaved.len() <= MAX_UNSAVED {
                    let newer = std::mem::replace(&mut self.unsaved, answers);
                    self.unsaved.extend_from_slice(&newer);
                }
                Ok(())
            }
        }
    }

    // ---- into batches -----------------------------------------------------------------------------------------------

    /// Starts whatever may start now: batches and look-ups.
    fn work(&mut self) {
        while self.batches.n_busy < self.config.batch.in_flight as usize && self.shared.may_sign() {
            let ops = match self.forced.pop_front() {
                Some(ops) => ops,
                None => self.next_ops(),
            };
            if ops.is_empty() {
                break;
            }
            self.send_new(ops);
        }
        while self.n_asking < MAX_ASKING {
            let Some(op_id) = self.to_ask.pop_front() else { break };
            if self.pending.contains_key(&op_id) {
                self.ask(op_id);
            }
        }
    }

    fn next_ops(&mut self) -> Vec<OpId> {
        let max_ops = self.config.batch.max_ops as usize;
        // Header, signature and four bytes per operation stay well below the space between this and the ledger's own limit.
        let max_bytes = (self.config.batch.max_kib as usize) << 10;
        let mut ops = Vec::new();
        let mut bytes = 0;
        while ops.len() < max_ops {
            let Some(&op_id) = self.ready.front() else { break };
            if let Some(it) = self.pending.get(&op_id).filter(|it| it.stage == Stage::Ready) {
                bytes += it.size + 4;
                if bytes > max_bytes && !ops.is_empty() {
                    break;
                }
                ops.push(op_id);
            }
            self.ready.pop_front();
        }
        ops
    }

    fn send_new(&mut self, ops: Vec<OpId>) {
        let number = self.next_batch;
        self.next_batch += 1;
        let mut body = Vec::with_capacity(ops.len());
        let mut kept = Vec::with_capacity(ops.len());
        for op_id in ops {
            if let Some(it) = self.pending.get_mut(&op_id) {
                it.stage = Stage::InBatch(number);
                body.push(it.op.clone());
                kept.push(op_id);
            }
        }
        if kept.is_empty() {
            return;
        }
        let expires_at_ms = now_ms() + self.config.batch.life_s * 1000;
        let (signer, nodes, events) = (self.signer.clone(), self.nodes.clone(), self.events.clone());
        let n_open = kept.len();
        let state = BatchState::Sending;
        self.batches.insert(number, Batch { ops: kept, n_open, bytes: None, expires_at_ms, attempts: 1, state });
        tokio::spawn(async move {
            let ops: Vec<Op> = body.iter().map(|it| (**it).clone()).collect();
            let Signer { chain, participant, key_id, key } = &*signer;
            let sign = |digest: &[u8; 32]| key.sign(digest);
            let event = match anji_contracts::encode_batch(chain, *participant, *key_id, expires_at_ms, &ops, sign) {
                Ok(bytes) => {
                    let bytes = Bytes::from(bytes);
                    let result = nodes.submit(bytes.clone()).await;
                    Event::Submitted { batch: number, bytes, result }
                }
                Err(reject) => Event::Signed { batch: number, reject },
            };
            let _ = events.send(event).await;
        });
    }

    fn send_again(&mut self, number: u64) {
        let Some(batch) = self.batches.all.get_mut(&number) else { return };
        let Some(bytes) = batch.bytes.clone() else { return };
        batch.attempts = batch.attempts.saturating_add(1);
        self.batches.set_state(number, BatchState::Sending);
        let (nodes, events) = (self.nodes.clone(), self.events.clone());
        tokio::spawn(async move {
            let result = nodes.submit(bytes.clone()).await;
            let _ = events.send(Event::Submitted { batch: number, bytes, result }).await;
        });
    }

    fn on_submitted(&mut self, number: u64, bytes: Bytes, result: Result<(), Status>) {
        let Some(batch) = self.batches.all.get_mut(&number) else { return };
        batch.bytes = Some(bytes);
        let attempts = batch.attempts;
        let ask_after = Duration::from_millis(self.config.batch.ask_after_ms);
        let outcome = match &result {
            Ok(()) => Outcome::Accepted,
            Err(status) => judge(status, attempts),
        };
        self.metrics.batches.get_or_create(&[("answer", outcome.name())]).inc();
        match outcome {
            Outcome::Accepted => {
                self.batches.set_state(number, BatchState::Accepted(Instant::now() + ask_after));
                self.shared.node_trouble(None);
            }
            Outcome::Again(wait) => {
                if let Err(status) = result {
                    let trouble = format!("the node refuses batches for now: {}", status.message());
                    tracing::warn!(node = self.nodes.address(), code = %status.code(), attempts, "{trouble}");
                    self.shared.node_trouble(Some(trouble));
                }
                self.batches.set_state(number, BatchState::Backoff(Instant::now() + wait));
            }
            Outcome::Expired => self.look_up_all(number),
            Outcome::Content(reject) => self.on_bad_content(number, reject),
        }
    }

    /// Some operation of the batch can never be in any batch. Halves find it.
    fn on_bad_content(&mut self, number: u64, reject: Reject) {
        let Some(batch) = self.batches.remove(number) else { return };
        let ops: Vec<OpId> = batch.ops.into_iter().filter(|it| self.is_in(*it, number)).collect();
        if let [op_id] = ops.as_slice() {
            tracing::error!(op = %op_id, %reject, "the node cannot take this operation in any batch; its caller is told");
            let receipt = Receipt { op_id: *op_id, result: OpResult::Refused(reject), time_ms: 0, height: 0 };
            self.resolve(&receipt);
            return;
        }
        let (left, right) = ops.split_at(ops.len() / 2);
        for half in [right, left] {
            if !half.is_empty() {
                self.forced.push_front(half.to_vec());
            }
        }
    }

    fn is_in(&self, op_id: OpId, number: u64) -> bool {
        self.pending.get(&op_id).is_some_and(|it| it.stage == Stage::InBatch(number))
    }

    // ---- looking up -------------------------------------------------------------------------------------------------

    /// The batch can enter no block any more: what it held is looked up, and goes into a new one if it did not happen.
    fn look_up_all(&mut self, number: u64) {
        let Some(batch) = self.batches.remove(number) else { return };
        for op_id in batch.ops {
            if self.is_in(op_id, number)
                && let Some(it) = self.pending.get_mut(&op_id)
            {
                it.stage = Stage::Asking;
                self.to_ask.push_back(op_id);
            }
        }
    }

    fn ask(&mut self, op_id: OpId) {
        self.n_asking += 1;
        self.metrics.asked.inc();
        let (nodes, events, participant) = (self.nodes.clone(), self.events.clone(), self.signer.participant);
        tokio::spawn(async move {
            let result = nodes.ask(participant, op_id).await;
            let _ = events.send(Event::Asked { op_id, result }).await;
        });
    }

    fn on_asked(&mut self, op_id: OpId, result: Result<Option<Receipt>, Status>) {
        self.n_asking = self.n_asking.saturating_sub(1);
        let Some(it) = self.pending.get_mut(&op_id) else { return };
        match result {
            Ok(Some(receipt)) => {
                // A decided batch has decided operations: ask for its others at once.
                let others = match it.stage {
                    Stage::InBatch(number) => self.batches.all.get(&number).map(|batch| batch.ops.clone()),
                    _ => None,
                };
                self.resolve(&receipt);
                for other in others.into_iter().flatten() {
                    if self.pending.contains_key(&other) {
                        self.to_ask.push_back(other);
                    }
                }
            }
            Ok(None) => {
                if let Some(receipt) = it.fallback.take() {
                    self.resolve(&receipt);
                    return;
                }
                match it.stage {
                    Stage::InBatch(number) => {
                        let over = self
                            .batches
                            .all
                            .get(&number)
                            .is_none_or(|it| it.expires_at_ms + EXPIRY_MARGIN_MS < now_ms());
                        if over {
                            self.look_up_all(number);
                        } else if self
                            .batches
                            .all
                            .get(&number)
                            .is_some_and(|it| matches!(it.state, BatchState::Accepted(_)))
                        {
                            // The node may have forgotten it: the same bytes again.
                            self.send_again(number);
                        }
                    }
                    Stage::Asking => {
                        it.stage = Stage::Ready;
                        self.ready.push_back(op_id);
                    }
                    Stage::Writing | Stage::Ready | Stage::Later(_) => {}
                }
            }
            Err(status) => {
                tracing::debug!(op = %op_id, code = %status.code(), "the look-up failed: {}", status.message());
                if it.stage == Stage::Asking {
                    it.stage = Stage::Later(Instant::now() + Duration::from_millis(self.config.batch.ask_after_ms));
                }
            }
        }
    }

    // ---- answers ----------------------------------------------------------------------------------------------------

    fn on_news(&mut self, news: News) {
        let News::Receipts { receipts, next_seq } = news;
        for receipt in receipts {
            self.on_receipt(receipt);
        }
        self.next_seq = self.next_seq.max(next_seq);
    }

    fn on_receipt(&mut self, receipt: Receipt) {
        let Some(it) = self.pending.get_mut(&receipt.op_id) else { return };
        match receipt.result {
            OpResult::Refused(reject) if is_open_refusal(reject) => {
                // The id is still free: the operation may yet happen, so this is no answer.
                let wait = Duration::from_millis(self.config.batch.ask_after_ms);
                self.shared.refused_for_now(reject);
                let old = std::mem::replace(&mut it.stage, Stage::Later(Instant::now() + wait));
                self.leave_batch(old);
            }
            OpResult::Refused(Reject::IdTooOld) => {
                // It may have happened long ago; only then is there another answer.
                let op_id = receipt.op_id;
                it.fallback = Some(receipt);
                let old = std::mem::replace(&mut it.stage, Stage::Asking);
                self.leave_batch(old);
                self.to_ask.push_back(op_id);
            }
            OpResult::Done(_) | OpResult::Refused(_) => self.resolve(&receipt),
        }
    }

    fn leave_batch(&mut self, stage: Stage) {
        if let Stage::InBatch(number) = stage
            && let Some(batch) = self.batches.all.get_mut(&number)
        {
            batch.n_open = batch.n_open.saturating_sub(1);
            if batch.n_open == 0 {
                self.batches.remove(number);
            }
        }
    }

    fn resolve(&mut self, receipt: &Receipt) {
        let Some(it) = self.pending.remove(&receipt.op_id) else { return };
        self.leave_batch(it.stage);
        let result = match receipt.result {
            OpResult::Done(_) => "done",
            OpResult::Refused(_) => "refused",
        };
        self.metrics.decided.get_or_create(&[("result", result)]).inc();
        if let Some(started) = it.started {
            self.metrics.decided_seconds.observe(started.elapsed().as_secs_f64());
        }
        let answer = lock(&self.index).answer(receipt, now_ms());
        if let Some(answer) = answer {
            Record::Answer(answer).encode(&mut self.unsaved);
        }
    }

    // ---- housekeeping -----------------------------------------------------------------------------------------------

    fn on_event(&mut self, event: Event) -> Result<(), Arc<OutboxError>> {
        match event {
            Event::Synced { ops, answers, result } => self.on_synced(ops, answers, result)?,
            Event::Submitted { batch, bytes, result } => self.on_submitted(batch, bytes, result),
            Event::Signed { batch, reject } => self.on_bad_content(batch, reject),
            Event::Asked { op_id, result } => self.on_asked(op_id, result),
        }
        Ok(())
    }

    async fn on_tick(&mut self) -> Result<(), Arc<OutboxError>> {
        let now = Instant::now();
        let clock = now_ms();
        let ask_after = Duration::from_millis(self.config.batch.ask_after_ms);
        let mut again = Vec::new();
        let mut over = Vec::new();
        for (number, batch) in &mut self.batches.all {
            match batch.state {
                BatchState::Backoff(_) | BatchState::Accepted(_) if batch.expires_at_ms + EXPIRY_MARGIN_MS < clock => {
                    over.push(*number)
                }
                BatchState::Backoff(at) if at <= now => again.push(*number),
                BatchState::Accepted(at) if at <= now => {
                    batch.state = BatchState::Accepted(now + ask_after);
                    // One of them tells about all: they are decided together.
                    let first = batch
                        .ops
                        .iter()
                        .find(|op_id| self.pending.get(op_id).is_some_and(|it| it.stage == Stage::InBatch(*number)));
                    self.to_ask.extend(first);
                }
                BatchState::Sending | BatchState::Backoff(_) | BatchState::Accepted(_) => {}
            }
        }
        for number in again {
            self.send_again(number);
        }
        for number in over {
            self.look_up_all(number);
        }
        let due: Vec<OpId> = self
            .pending
            .iter()
            .filter(|(_, it)| matches!(it.stage, Stage::Later(at) if at <= now))
            .map(|(id, _)| *id)
            .collect();
        for op_id in due {
            if let Some(it) = self.pending.get_mut(&op_id) {
                it.stage = Stage::Asking;
                self.to_ask.push_back(op_id);
            }
        }
        if self.n_syncing < MAX_SYNCING {
            self.save_answers().await;
        }
        let (pending, remembered) = {
            let mut index = lock(&self.index);
            index.expire(clock);
            index.counts()
        };
        self.metrics.pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
        self.metrics.remembered.set(i64::try_from(remembered).unwrap_or(i64::MAX));
        if self.writer.size() > self.compact_above {
            self.compact().await?;
        }
        Ok(())
    }

    /// Writes what is still needed into a new file. Everything the index knows is in it, synced or about to be.
    async fn compact(&mut self) -> Result<(), Arc<OutboxError>> {
        let answers = self.take_unsaved();
        let mut bytes = lock(&self.index).snapshot();
        Record::Position(self.next_seq).encode(&mut bytes);
        let needed = bytes.len() as u64;
        let done = self.writer.compact(bytes).await;
        let result = done.await.unwrap_or_else(|_| {
            let source = std::io::Error::other("the outbox's thread has stopped");
            Err(Arc::new(OutboxError::Lost { path: self.config.data_dir.clone(), source }))
        });
        match result {
            Ok(()) => {
                // Twice what is needed, so that the work is paid for by what it frees.
                self.compact_above = (u64::from(self.config.outbox.keep_mib) << 20).max(needed.saturating_mul(2));
                tracing::info!(bytes = needed, "the outbox was compacted");
                Ok(())
            }
            Err(error) if error.is_fatal() => Err(error),
            Err(error) => {
                tracing::error!(%error, "the outbox cannot be compacted; tried again later");
                self.unsaved = answers;
                self.compact_above = self.compact_above.saturating_mul(2);
                Ok(())
            }
        }
    }
}

/// What the node's answer to a batch means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Accepted,
    Again(Duration),
    Expired,
    Content(Reject),
}

impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Again(_) => "again",
            Self::Expired => "expired",
            Self::Content(_) => "content",
        }
    }
}

fn judge(status: &Status, attempts: u32) -> Outcome {
    use tonic_types::StatusExt;
    let growing = Duration::from_millis(100u64.saturating_mul(1 << attempts.min(6)).min(5000));
    match status_reject(status) {
        Some(Reject::BatchRepeated) => Outcome::Accepted,
        Some(Reject::BatchExpired) => Outcome::Expired,
        Some(
            reject @ (Reject::Malformed
            | Reject::TooLarge
            | Reject::TooManyOps
            | Reject::OpsRootMismatch
            | Reject::TrailingBytes
            | Reject::LinkUnterminated
            | Reject::FieldTooLong),
        ) => Outcome::Content(reject),
        // The key, the chain or the clock: an operator must act, the operations wait.
        Some(_) => Outcome::Again(Duration::from_secs(2)),
        None => {
            let asked = status.get_details_retry_info().and_then(|it| it.retry_delay);
            match (asked, status.code()) {
                (Some(wait), _) => Outcome::Again(wait.clamp(Duration::from_millis(10), Duration::from_secs(30))),
                (None, Code::Unauthenticated | Code::PermissionDenied) => Outcome::Again(Duration::from_secs(2)),
                (None, _) => Outcome::Again(growing),
            }
        }
    }
}

/// A refusal that leaves the id free and may be another one tomorrow.
const fn is_open_refusal(reject: Reject) -> bool {
    matches!(reject, Reject::UnknownKey | Reject::KeyNotValid | Reject::IdTooNew | Reject::LinkedOpFailed)
}
