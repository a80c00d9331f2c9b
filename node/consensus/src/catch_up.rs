//! Taking over what the others have decided, past the engine, which goes height by height with a log record, a round and several syncs
//! each. Only while the engine stands between two heights or is not started (its answer is withheld), so nothing else moves the chain.
//!
//! Ranges of blocks are fetched from several peers at a time. Off the async threads each answer is decoded, its certificates are verified
//! and its batches hashed; then, in order, each block is judged by every rule but a clock, kept with one sync together with its certificate,
//! and handed to execution, which runs meanwhile. Judging needs the state two blocks before, so execution is never further behind.
//!
//! Peers' tips are claims. A node is behind only where validators with more than a third of the power say so, and a peer that does not
//! deliver what it claims to have is left alone for a while. What remains, a few blocks, is for the engine's own sync.

use crate::app::App;
use crate::chain::log_height;
use crate::error::{Fatal, PortError, WalError};
use crate::handlers::decided::advance;
use crate::handlers::synced::{Unread, judge_body, read_body};
use crate::inbound::HEIGHTS_AHEAD;
use crate::ports::Body;
use crate::shared::Shared;
use crate::validity::Fault;
use crate::wal::{Identity, end_catch_up, note_catch_up};
use crate::wire::{self, DecidedBytes, PeerRequest};
use anji_contracts::types::Hash32;
use anji_network::PeerId;
use anji_verify::{CommitCertificate, verify_certificate};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Heights in one range, and ranges fetched or waiting at a time: at most 32 blocks of 2 MiB are in memory.
const RANGE: u64 = 8;
const RANGES_AHEAD: usize = 4;
/// A peer that failed is not asked again for so long.
const AVOID_FOR: Duration = Duration::from_secs(60);

/// Peers that did not deliver, and when. Bounded by the configured peers.
#[derive(Debug, Default)]
pub(crate) struct Avoided(Mutex<HashMap<PeerId, Instant>>);

impl Avoided {
    fn add(&self, peer: PeerId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, Instant::now());
    }

    fn contains(&self, peer: &PeerId) -> bool {
        let mut avoided = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        avoided.retain(|_, since| since.elapsed() < AVOID_FOR);
        avoided.contains_key(peer)
    }
}

/// A decided block from a peer: its certificate verifies, and the body is the one it names.
struct Decided {
    value: Hash32,
    body: Body,
    certificate: CommitCertificate,
}

/// Why an answer ends before its last block.
enum Trouble {
    /// The peer sent something else.
    Peer(String),
    /// More than two thirds of the power decided a block that breaks a rule.
    Broken(Fatal),
}

/// Before the engine starts: any block that is missing.
///
/// # Errors
/// The node must stop.
pub(crate) async fn at_start(app: &mut App) -> Result<(), Fatal> {
    let behind = sure_tip(&app.shared) > app.shared.decided_height();
    if behind { take_over(app).await } else { Ok(()) }
}

/// After a height, before the next: where the others are so far ahead that their messages are of no use here.
///
/// # Errors
/// The node must stop.
pub(crate) async fn between_heights(app: &mut App) -> Result<(), Fatal> {
    if std::mem::take(&mut app.log_left) {
        // The engine has synced its log before it decided the height that is over.
        on_folder(&app.shared, end_catch_up).await?;
    }
    let reach = app.shared.decided_height() + HEIGHTS_AHEAD;
    if sure_tip(&app.shared) > reach { take_over(app).await } else { Ok(()) }
}

/// How far the others are for certain.
fn sure_tip(shared: &Shared) -> u64 {
    shared.peers.sure_tip(&shared.config.validators)
}

async fn take_over(app: &mut App) -> Result<(), Fatal> {
    let shared = Arc::clone(&app.shared);
    let (from, started) = (shared.decided_height(), Instant::now());
    if let Some(validator) = app.voter {
        app.log_left = true;
        let identity = Identity { chain_id: shared.config.chain_id, validator };
        on_folder(&shared, move |folder| note_catch_up(folder, identity, from)).await?;
    }
    tracing::info!(from, to = sure_tip(&shared), "taking over decided blocks");
    // Every pass but the last gets further or leaves a peer alone.
    while sure_tip(&shared) > shared.decided_height() && pass(&shared).await? {}
    tracing::info!(from, to = shared.decided_height(), seconds = started.elapsed().as_secs_f64(), "blocks taken over");
    Ok(())
}

/// Runs something on the consensus folder, off the async threads.
async fn on_folder(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Path) -> Result<(), WalError> + Send + 'static,
) -> Result<(), Fatal> {
    let shared = Arc::clone(shared);
    let done = tokio::task::spawn_blocking(move || work(&shared.config.folder));
    Ok(done.await.map_err(|error| Fatal::Engine(format!("a blocking task ended: {error}")))??)
}

/// A fetch under way; it ends with its handle.
struct Fetch(JoinHandle<Fetched>);

impl Drop for Fetch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Blocks of a range from its first height on.
struct Fetched {
    blocks: Vec<Decided>,
    /// Whether the range ends early.
    is_short: bool,
    broken: Option<Fatal>,
}

/// Fetches and takes over until a range comes back short. False if that was all there is to get.
async fn pass(shared: &Arc<Shared>) -> Result<bool, Fatal> {
    let begun_at = shared.decided_height();
    let mut next = begun_at + 1;
    let mut turn = 0;
    let mut fetches = VecDeque::with_capacity(RANGES_AHEAD);
    loop {
        let goal = sure_tip(shared);
        while fetches.len() < RANGES_AHEAD && next <= goal {
            let last = next + RANGE - 1;
            fetches.push_back(Fetch(tokio::spawn(fetch(Arc::clone(shared), next, last, turn))));
            (next, turn) = (last + 1, turn + 1);
        }
        let Some(mut fetch) = fetches.pop_front() else { return Ok(true) };
        let fetched = (&mut fetch.0).await.map_err(|error| Fatal::Engine(format!("a fetch ended: {error}")))?;
        for block in fetched.blocks {
            decide(shared, block).await?;
        }
        if let Some(fatal) = fetched.broken {
            return Err(fatal);
        }
        if fetched.is_short {
            return Ok(shared.decided_height() > begun_at);
        }
    }
}

/// Fetches a range, from one peer after the other where one has a part only, or fails.
async fn fetch(shared: Arc<Shared>, first: u64, last: u64, turn: usize) -> Fetched {
    let mut blocks = Vec::new();
    let mut next = first;
    while next <= last {
        let Some(peer) = choose(&shared, next, turn) else { break };
        let (got, trouble) = ask(&shared, peer, next, last).await;
        next += got.len() as u64;
        let nothing = got.is_empty();
        blocks.extend(got);
        match trouble {
            Some(Trouble::Broken(fatal)) => return Fetched { blocks, is_short: true, broken: Some(fatal) },
            Some(Trouble::Peer(what)) => {
                tracing::warn!(%peer, first, last, what, "this peer's blocks are of no use; another one is asked");
                shared.metrics.dropped("malformed_answer");
                shared.avoided.add(peer);
            }
            // It said it has this height.
            None if nothing => {
                tracing::debug!(%peer, first, last, "no blocks from this peer; another one is asked");
                shared.avoided.add(peer);
            }
            None => {}
        }
    }
    Fetched { blocks, is_short: next <= last, broken: None }
}

/// A connected peer that says it has the height; ranges go to all of them in turn.
fn choose(shared: &Shared, height: u64, turn: usize) -> Option<PeerId> {
    let has = |tip: Option<u64>, first: Option<u64>| tip.zip(first).is_some_and(|(t, f)| f <= height && height <= t);
    let peers: Vec<PeerId> = shared
        .peers
        .all()
        .into_iter()
        .filter(|(peer, view)| view.connected && has(view.tip, view.first_height) && !shared.avoided.contains(peer))
        .map(|(peer, _)| peer)
        .collect();
    peers.get(turn.checked_rem(peers.len())?).copied()
}

/// The blocks from `first` on that the peer sent and that are what they should be, and what was wrong with the next one.
async fn ask(shared: &Arc<Shared>, peer: PeerId, first: u64, last: u64) -> (Vec<Decided>, Option<Trouble>) {
    let request = wire::encode(&PeerRequest::Blocks { first, last });
    let answer = match shared.network.request(peer, request, shared.config.timing.request_timeout).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%peer, %error, "no blocks from this peer");
            return (Vec::new(), None);
        }
    };
    let reader = Arc::clone(shared);
    let read = tokio::task::spawn_blocking(move || read_answer(&reader, &answer, first, last)).await;
    read.unwrap_or_else(|error| (Vec::new(), Some(Trouble::Peer(format!("reading its answer ended: {error}")))))
}

fn read_answer(shared: &Shared, answer: &[u8], first: u64, last: u64) -> (Vec<Decided>, Option<Trouble>) {
    let answer = match wire::decode_blocks(answer) {
        Ok(answer) => answer,
        Err(error) => return (Vec::new(), Some(Trouble::Peer(error.to_string()))),
    };
    let mut blocks = Vec::with_capacity(answer.blocks.len());
    for (height, block) in (first..=last).zip(answer.blocks) {
        match read_block(shared, height, block) {
            Ok(block) => blocks.push(block),
            Err(trouble) => return (blocks, Some(trouble)),
        }
    }
    (blocks, None)
}

/// The certificate first: only what more than two thirds of the power stand for can be called broken, all else is the peer's fault.
fn read_block(shared: &Shared, height: u64, block: DecidedBytes) -> Result<Decided, Trouble> {
    let DecidedBytes { certificate, body } = block;
    if certificate.height != height {
        return Err(Trouble::Peer(format!("height {} where {height} was asked for", certificate.height)));
    }
    verify_certificate(&certificate, &shared.config.chain_id, &shared.config.validators)
        .map_err(|error| Trouble::Peer(format!("height {height}: {error}")))?;
    let value = certificate.value;
    match read_body(&shared.config.chain_id, value, body) {
        Ok(body) => Ok(Decided { value, body, certificate }),
        Err(Unread::Foreign(what)) => Err(Trouble::Peer(format!("height {height}: {what}"))),
        Err(Unread::Broken(fault)) => Err(Trouble::Broken(Fatal::InvalidDecision { height, value, fault })),
    }
}

/// Judges the next block, makes it durable and hands it on.
async fn decide(shared: &Arc<Shared>, block: Decided) -> Result<(), Fatal> {
    let Decided { value, body, certificate } = block;
    let height = certificate.height;
    shared.execution.wait_executed(log_height(height)).await.map_err(Fatal::Execution)?;
    shared.pool.mark_executed(log_height(height));
    let (kept, named) = (body.clone(), certificate.clone());
    let started = Instant::now();
    let judged: Result<(), Fault> = shared
        .blocking(move |shared| {
            if let Err(fault) = judge_body(shared, height, &kept)? {
                return Ok(Err(fault));
            }
            let batches: Vec<Bytes> = kept.batches.iter().map(|batch| batch.bytes.clone()).collect();
            shared.blocks.append_decided(&kept.header, &batches, &named)?;
            Ok::<_, PortError>(Ok(()))
        })
        .await
        .map_err(Fatal::Blocks)?;
    judged.map_err(|fault| Fatal::InvalidDecision { height, value, fault })?;
    shared.metrics.append_seconds.observe(started.elapsed().as_secs_f64());
    shared.metrics.synced_blocks.inc();
    shared.set_last_synced(height);
    advance(shared, value, &body);
    shared.execution.submit(&body, &certificate).await.map_err(Fatal::Execution)
}
