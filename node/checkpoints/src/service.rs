//! From executed blocks and peers' frames to final heights. Two threads: one signs, one verifies and counts; both are fed over bounded
//! channels, so that neither ever holds up a vote or an execution.

use crate::budget::Budgets;
use crate::cosigned::{COSIGNED_FILE, Cosigned, Identity, Signed};
use crate::cosigner::{CosignKey, Cosigner, CosignerHandle};
use crate::error::CheckpointsError;
use crate::metrics::Metrics;
use crate::misbehaviour::Equivocations;
use crate::tracker::{Contradiction, Counted, Fault, Outcome, Tracker};
use crate::wire::{self, Frame, MAX_HEIGHTS};
use anji_contracts::types::ChainId;
use anji_execution::ExecutionHandle;
use anji_network::{Channel, Message, NetworkHandle, PeerId};
use anji_storage::{CheckpointStore, Reader};
use anji_verify::equivocation::{Equivocation, SignedLog};
use anji_verify::{LogRoot, SignedCheckpoint, ValidatorSet};
use bytes::Bytes;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

/// Events that wait for the counting thread.
const EVENTS: usize = 1024;
/// Executed heights told at once; what is older is covered by later checkpoints.
const HEIGHTS_AT_ONCE: u64 = 32;
/// How often a height that does not become final is looked at.
const TICK: Duration = Duration::from_millis(250);

/// The newest final height.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FinalHead {
    /// The height; 0 before the first.
    pub height: u64,
    /// The log after it; size 0 before the first.
    pub log: LogRoot,
}

/// What is needed to start.
pub struct Setup {
    /// Which ledger.
    pub chain_id: ChainId,
    /// Who cosigns.
    pub validators: Arc<ValidatorSet>,
    /// This node's key, if it is a validator.
    pub key: Option<CosignKey>,
    /// The consensus folder: what must not be lost, copied or restored.
    pub folder: PathBuf,
    /// The last decided height, durable, when the data folder was opened.
    pub decided_height: u64,
    /// The first height that this node may sign for; `None` while it does not vote.
    pub signs_from: watch::Receiver<Option<u64>>,
    /// What is executed.
    pub execution: ExecutionHandle,
    /// The peers.
    pub network: NetworkHandle,
    /// Frames of [`Channel::Checkpoints`].
    pub frames: mpsc::Receiver<Message>,
    /// Where final checkpoints are kept.
    pub store: CheckpointStore,
    /// And read.
    pub reader: Reader,
    /// Where proofs of contradictions are kept.
    pub equivocations: Equivocations,
    /// The node executes nothing, for a benchmark: there is no log to sign, and what is decided counts as final.
    pub bare: bool,
}

/// The running service. Clones share it; it goes on when they are dropped.
#[derive(Clone)]
pub struct Checkpoints {
    head: watch::Receiver<FinalHead>,
    height: watch::Receiver<u64>,
    failed: watch::Receiver<Option<Arc<CheckpointsError>>>,
    cosigner: CosignerHandle,
    events: mpsc::Sender<Event>,
    tasks: Arc<Vec<AbortHandle>>,
}

enum Event {
    Executed(Signed),
    Own(SignedCheckpoint),
    Frame(PeerId, Bytes),
    Tick,
    Stop,
}

impl Checkpoints {
    /// Starts it. Needs a Tokio runtime.
    ///
    /// # Errors
    /// The file of what was signed cannot be used, or the stored checkpoints cannot be read.
    pub async fn start(setup: Setup, registry: &mut Registry) -> Result<Self, CheckpointsError> {
        let Setup { chain_id, validators, key, folder, decided_height, bare: setup_bare, .. } = setup;
        let Setup { mut signs_from, execution, network, mut frames, store, reader, equivocations, .. } = setup;
        let metrics = Metrics::register(registry);
        if setup_bare {
            return Ok(Self::bare(execution));
        }
        let key = key.filter(|key| validators.get(&key.address()).is_some());
        let opening = move || -> Result<_, CheckpointsError> {
            let opened = match key {
                Some(key) => {
                    let identity = Identity { chain_id, validator: key.address() };
                    Some((Cosigned::open(&folder.join(COSIGNED_FILE), identity, decided_height)?, key))
                }
                None => None,
            };
            let newest = reader.newest_checkpoint().map_err(|error| CheckpointsError::Store(error.to_string()))?;
            Ok((opened, newest, reader))
        };
        let opened = tokio::task::spawn_blocking(opening).await;
        let (opened, newest, reader) = opened.map_err(|error| CheckpointsError::Store(error.to_string()))??;

        let none = FinalHead { height: 0, log: LogRoot { size: 0, root: anji_contracts::types::Hash32::ZERO } };
        let head = watch::Sender::new(newest.map_or(none, |it| FinalHead { height: it.height, log: it.log }));
        let height = watch::Sender::new(head.borrow().height);
        let failed = watch::Sender::new(None);
        let (events, events_rx) = mpsc::channel(EVENTS);
        let cosigner = CosignerHandle::default();
        let this = Self {
            head: head.subscribe(),
            height: height.subscribe(),
            failed: failed.subscribe(),
            cosigner: cosigner.clone(),
            events: events.clone(),
            tasks: Arc::default(),
        };
        metrics.final_height.set(i64::try_from(head.borrow().height).unwrap_or(i64::MAX));
        let signs = opened.is_some();
        if let Some((file, key)) = opened {
            let thread = Cosigner { chain_id, key, file, handle: cosigner.clone(), metrics: metrics.clone() };
            let (out, failed) = (events.clone(), failed.clone());
            spawn_thread("anji-cosigner", move || {
                // An error means that the other thread has ended, and so will this one.
                let told = thread.run(|signed| drop(out.blocking_send(Event::Own(signed))));
                if let Err(error) = told {
                    fail(&failed, error);
                }
            })?;
        }
        let counter = Counter {
            tracker: Tracker::new(&chain_id, validators),
            budgets: Budgets::default(),
            network,
            store,
            reader,
            head,
            height,
            equivocations,
            metrics,
            executed_at: BTreeMap::new(),
            next_peer: 0,
            quiet: None,
        };
        spawn_thread("anji-checkpoints", move || {
            if let Err(error) = counter.run(events_rx) {
                fail(&failed, error);
            }
        })?;

        let blocks = {
            let (events, cosigner) = (events.clone(), cosigner.clone());
            tokio::spawn(follow_execution(execution, events, signs.then_some(cosigner)))
        };
        let received = {
            let events = events.clone();
            tokio::spawn(async move {
                while let Some(message) = frames.recv().await {
                    if events.send(Event::Frame(message.from, message.bytes)).await.is_err() {
                        return;
                    }
                }
            })
        };
        let voting = tokio::spawn(async move {
            loop {
                let from = *signs_from.borrow_and_update();
                cosigner.signs_from(from);
                if signs_from.changed().await.is_err() {
                    return;
                }
            }
        });
        let ticking = tokio::spawn(async move {
            let mut interval = tokio::time::interval(TICK);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                // Full: there is enough to do.
                if let Err(mpsc::error::TrySendError::Closed(_)) = events.try_send(Event::Tick) {
                    return;
                }
            }
        });
        let tasks = [blocks, received, voting, ticking].iter().map(|it| it.abort_handle()).collect();
        Ok(Self { tasks: Arc::new(tasks), ..this })
    }

    fn bare(execution: ExecutionHandle) -> Self {
        let none = FinalHead { height: 0, log: LogRoot { size: 0, root: anji_contracts::types::Hash32::ZERO } };
        let (head, height, failed) = (watch::Sender::new(none), watch::Sender::new(0), watch::Sender::new(None));
        let (events, _) = mpsc::channel(1);
        let (heads, heights, failures) = (head.subscribe(), height.subscribe(), failed.subscribe());
        let following = tokio::spawn(async move {
            // Kept open: nothing fails here.
            let _failed = failed;
            let mut executed = execution.watch();
            loop {
                let newest = executed.borrow_and_update().height;
                height.send_replace(newest);
                head.send_replace(FinalHead { height: newest, ..none });
                if executed.changed().await.is_err() {
                    return;
                }
            }
        });
        Self {
            head: heads,
            height: heights,
            failed: failures,
            cosigner: CosignerHandle::default(),
            events,
            tasks: Arc::new(vec![following.abort_handle()]),
        }
    }

    /// The newest final height.
    #[must_use]
    pub fn final_head(&self) -> FinalHead {
        *self.head.borrow()
    }

    /// Tells every new final height; one that looks away sees only the newest.
    #[must_use]
    pub fn watch_final(&self) -> watch::Receiver<FinalHead> {
        self.head.clone()
    }

    /// The same, heights alone.
    #[must_use]
    pub fn watch_final_height(&self) -> watch::Receiver<u64> {
        self.height.clone()
    }

    /// Resolves when checkpoints cannot go on; the process should then exit.
    pub async fn failed(&self) -> Arc<CheckpointsError> {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(error) => match &*error {
                Some(error) => Arc::clone(error),
                None => std::future::pending().await,
            },
            // Both threads have ended without an error.
            Err(_) => std::future::pending().await,
        }
    }

    /// Ends it. What is signed is on disk already.
    pub async fn shutdown(&self) {
        for task in self.tasks.iter() {
            task.abort();
        }
        self.cosigner.stop();
        // An error means that the thread has ended already.
        let _ = self.events.send(Event::Stop).await;
    }
}

fn spawn_thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), CheckpointsError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop).map_err(CheckpointsError::Thread)
}

fn fail(failed: &watch::Sender<Option<Arc<CheckpointsError>>>, error: CheckpointsError) {
    tracing::error!(%error, "checkpoints stop, and the node with them");
    failed.send_replace(Some(Arc::new(error)));
}

/// Hands on every executed block, in order; of many at once only the newest.
async fn follow_execution(execution: ExecutionHandle, events: mpsc::Sender<Event>, cosigner: Option<CosignerHandle>) {
    let mut executed = execution.watch();
    let mut next = 1;
    loop {
        let newest = executed.borrow_and_update().height;
        for height in next.max((newest + 1).saturating_sub(HEIGHTS_AT_ONCE))..=newest {
            let Some(log) = execution.try_root_after(height) else { continue };
            let block = Signed { height, log };
            // Counted before it is signed: the own signature finds its block.
            if events.send(Event::Executed(block)).await.is_err() {
                return;
            }
            if let Some(cosigner) = &cosigner {
                cosigner.executed(block);
            }
        }
        next = newest + 1;
        if executed.changed().await.is_err() {
            return;
        }
    }
}

/// The counting thread's own.
struct Counter {
    tracker: Tracker,
    budgets: Budgets,
    network: NetworkHandle,
    store: CheckpointStore,
    reader: Reader,
    head: watch::Sender<FinalHead>,
    height: watch::Sender<u64>,
    equivocations: Equivocations,
    metrics: Metrics,
    /// When the newest blocks were executed.
    executed_at: BTreeMap<u64, Instant>,
    next_peer: usize,
    /// The executed height that was not final at the last tick.
    quiet: Option<u64>,
}

impl Counter {
    fn run(mut self, mut events: mpsc::Receiver<Event>) -> Result<(), CheckpointsError> {
        while let Some(event) = events.blocking_recv() {
            match event {
                Event::Executed(Signed { height, log }) => {
                    self.executed_at.insert(height, Instant::now());
                    while self.executed_at.len() > 256 {
                        self.executed_at.pop_first();
                    }
                    let outcomes = self.tracker.on_executed(height, log);
                    self.take(outcomes)?;
                }
                Event::Own(signed) => {
                    self.network.broadcast(Channel::Checkpoints, wire::encode(&Frame::Signed(signed.clone())));
                    let counted = self.tracker.on_signatures(&signed);
                    self.take(counted.outcomes)?;
                }
                Event::Frame(peer, bytes) => self.on_frame(peer, &bytes)?,
                Event::Tick => self.on_tick(),
                Event::Stop => return Ok(()),
            }
        }
        Ok(())
    }

    fn on_frame(&mut self, peer: PeerId, bytes: &[u8]) -> Result<(), CheckpointsError> {
        let now = Instant::now();
        if !self.budgets.take(peer, now, 1) {
            self.metrics.dropped("rate");
            return Ok(());
        }
        match wire::decode(bytes) {
            Some(Frame::Signed(checkpoint)) => self.on_signed(peer, now, &checkpoint),
            Some(Frame::Ask { first, last }) => {
                let n_heights = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
                if self.budgets.take(peer, now, n_heights) {
                    self.answer(peer, first, last)
                } else {
                    self.metrics.dropped("rate");
                    Ok(())
                }
            }
            None => {
                self.metrics.dropped("malformed");
                self.budgets.punish(peer, now);
                tracing::warn!(%peer, "dropped a malformed checkpoint frame");
                Ok(())
            }
        }
    }

    fn on_signed(&mut self, peer: PeerId, now: Instant, checkpoint: &SignedCheckpoint) -> Result<(), CheckpointsError> {
        let n_unknown = self.tracker.n_unknown(checkpoint);
        if n_unknown == 0 {
            return Ok(());
        }
        if !self.budgets.take(peer, now, n_unknown) {
            self.metrics.dropped("rate");
            return Ok(());
        }
        let Counted { outcomes, n_new, fault } = self.tracker.on_signatures(checkpoint);
        self.metrics.verified.inc_by(n_new);
        if let Some(fault) = fault {
            self.budgets.punish(peer, now);
            let reason = match fault {
                Fault::Unknown => "unknown_validator",
                Fault::BadSignature => "bad_signature",
            };
            self.metrics.dropped(reason);
            tracing::warn!(%peer, height = checkpoint.height, reason, "dropped a cosignature");
        }
        self.take(outcomes)
    }

    fn take(&mut self, outcomes: Vec<Outcome>) -> Result<(), CheckpointsError> {
        for outcome in outcomes {
            match outcome {
                Outcome::Final(checkpoint) => self.on_final(&checkpoint)?,
                Outcome::Contradiction(contradiction) => self.on_contradiction(&contradiction)?,
            }
        }
        Ok(())
    }

    fn on_final(&mut self, checkpoint: &SignedCheckpoint) -> Result<(), CheckpointsError> {
        let (height, log) = (checkpoint.height, checkpoint.log);
        self.store.put(checkpoint).map_err(|error| CheckpointsError::Store(error.to_string()))?;
        if height <= self.head.borrow().height {
            return Ok(());
        }
        if let Some(at) = self.executed_at.get(&height) {
            self.metrics.final_seconds.observe(at.elapsed().as_secs_f64());
        }
        self.metrics.final_height.set(i64::try_from(height).unwrap_or(i64::MAX));
        self.head.send_replace(FinalHead { height, log });
        self.height.send_replace(height);
        tracing::debug!(height, size = log.size, signatures = checkpoint.signatures.len(), "final");
        Ok(())
    }

    fn on_contradiction(&self, it: &Contradiction) -> Result<(), CheckpointsError> {
        self.metrics.contradictions.inc();
        let (validator, signed_both) = (it.cosignature.validator, it.other_cosignature.is_some());
        tracing::error!(height = it.height, %validator, signed_both, signed = ?it.signed, other = ?it.other, "ALARM: a validator cosigned a log that is not this node's");
        match &it.other_cosignature {
            Some(other) if it.signed.size == it.other.size => {
                let first = SignedLog { log: it.other, cosignature: other.clone() };
                let second = SignedLog { log: it.signed, cosignature: it.cosignature.clone() };
                self.equivocations.keep(&Equivocation::Roots(first, second))
            }
            _ => Ok(()),
        }
    }

    /// Tells a peer what is known of some heights.
    fn answer(&self, peer: PeerId, first: u64, last: u64) -> Result<(), CheckpointsError> {
        for height in first..=last {
            let known = match self.tracker.known(height) {
                Some(known) => Some(known),
                None => self.reader.checkpoint(height).map_err(|error| CheckpointsError::Store(error.to_string()))?,
            };
            if let Some(known) = known {
                self.network.send(peer, Channel::Checkpoints, wire::encode(&Frame::Signed(known)));
            }
        }
        Ok(())
    }

    /// Asks one peer after the other for what is missing, while a height does not become final by itself.
    fn on_tick(&mut self) {
        let executed = self.tracker.executed_height();
        let head = self.head.borrow().height;
        if executed <= head {
            self.quiet = None;
            return;
        }
        let waited = self.quiet.is_some_and(|height| height > head);
        if !waited {
            self.quiet = Some(executed);
            return;
        }
        let peers: Vec<PeerId> =
            self.network.peers().into_iter().filter(|it| it.is_connected()).map(|it| it.peer_id).collect();
        if peers.is_empty() {
            return;
        }
        self.next_peer = (self.next_peer + 1) % peers.len();
        let first = (head + 1).max((executed + 1).saturating_sub(MAX_HEIGHTS));
        let ask = Frame::Ask { first, last: executed };
        if let Some(peer) = peers.get(self.next_peer) {
            self.network.send(*peer, Channel::Checkpoints, wire::encode(&ask));
        }
    }
}
