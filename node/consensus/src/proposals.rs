//! Proposals of others, from the header and the batch hashes to something the engine may vote on. Each is held back here until its
//! parent is decided, its batches are present, the block is judged valid and its body is on disk; only then does the engine hear of it,
//! and the answer to its question is ready (engine traps 1, 6, 10).
//!
//! The engine is never told that a proposal is invalid. One that breaks a rule is dropped and counted, and the engine prevotes nil when
//! its time is over, as it would for a silent proposer. So a wrong "invalid" can never block this node.

use crate::chain::log_height;
use crate::clock::{OffsetWatch, wait_for_time};
use crate::context::{Anji, ProposalPart};
use crate::engine_types::streaming::{StreamId, StreamMessage};
use crate::error::{Fatal, PortError};
use crate::fetch;
use crate::network_actor::engine_peer;
use crate::ports::{Batch, Body, Keys};
use crate::shared::Shared;
use crate::validity::{self, BatchFacts, Fault};
use anji_contracts::types::Hash32;
use anji_network::PeerId;
use anji_verify::LogRoot;
use arc_malachitebft_app_channel::app::engine::network::NetworkEvent;
use arc_malachitebft_app_channel::app::engine::util::streaming::StreamContent;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Proposals of one peer under way at a time.
const PENDING_PER_PEER: usize = 8;
/// Values of one peer for one height, ever: bounds what a liar can make this node write.
const VALUES_PER_PEER_AND_HEIGHT: usize = 16;
/// Heights above the decided one whose proposals are kept. The others go on without a node that one slow sync holds up; a proposal it
/// dropped meanwhile would cost it a round of time-outs, and everybody else the same when its turn to propose comes.
const HEIGHTS_AHEAD: u64 = 8;
/// From this round on, the engine lets anybody who has a quorum for a value send it again.
const OPEN_ROUND: u32 = 10;

/// Receives proposals.
pub(crate) struct Proposals {
    shared: Arc<Shared>,
    state: Mutex<State>,
}

struct State {
    /// (round, value, sender) by height: each is worked on once.
    seen: BTreeMap<u64, HashSet<(u32, Hash32, PeerId)>>,
    pending: HashMap<PeerId, usize>,
    offsets: OffsetWatch,
}

/// Why a proposal is not handed to the engine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// It breaks a rule: the proposer is wrong, or this node is.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The sender may not propose in this round.
    #[error("the sender does not propose in this round")]
    NotTheProposer,
    /// The height was decided meanwhile.
    #[error("the height is decided")]
    Stale,
    /// Execution or the block file has failed; the node is stopping.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl Refusal {
    fn name(&self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.name(),
            Self::NotTheProposer => "not_the_proposer",
            Self::Stale => "stale",
            Self::Port(_) => "own_failure",
        }
    }
}

impl Proposals {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let offsets = OffsetWatch::new(shared.config.timing.drift);
        let state = State { seen: BTreeMap::new(), pending: HashMap::new(), offsets };
        Self { shared, state: Mutex::new(state) }
    }

    /// Takes a proposal from a peer and works on it in the background; `Err` says why it is dropped at once.
    pub(crate) fn receive(self: &Arc<Self>, from: PeerId, part: ProposalPart) -> Result<(), &'static str> {
        let height = part.header.height;
        let decided = self.shared.decided_height();
        if height <= decided {
            return Err("old_height");
        }
        if height > decided + HEIGHTS_AHEAD {
            return Err("far_height");
        }
        if part.header.chain_id != self.shared.config.chain_id {
            return Err("chain");
        }
        let rounds_fit = part.header.round <= part.round
            && part.valid_round.is_none_or(|valid| valid < part.round && part.header.round <= valid);
        if !rounds_fit || validity::check_batch_list(&part.header, &part.batch_hashes).is_err() {
            return Err("malformed");
        }
        let value = part.header.hash();
        self.note_offset(&part);
        {
            let mut state = self.lock();
            state.seen = state.seen.split_off(&(decided + 1));
            if state.pending.get(&from).is_some_and(|pending| *pending >= PENDING_PER_PEER) {
                return Err("too_many_pending");
            }
            let seen = state.seen.entry(height).or_default();
            if seen.iter().filter(|(_, _, peer)| *peer == from).count() >= VALUES_PER_PEER_AND_HEIGHT {
                return Err("too_many_values");
            }
            if !seen.insert((part.round, value, from)) {
                return Ok(());
            }
            *state.pending.entry(from).or_default() += 1;
        }
        let proposals = Arc::clone(self);
        tokio::spawn(async move {
            let round = part.round;
            if let Err(refusal) = proposals.admit(from, part, value).await {
                proposals.refused(from, height, round, value, refusal);
            }
            if let Some(pending) = proposals.lock().pending.get_mut(&from) {
                *pending -= 1;
            }
        });
        Ok(())
    }

    fn refused(&self, peer: PeerId, height: u64, round: u32, value: Hash32, refusal: Refusal) {
        self.shared.metrics.refused(refusal.name());
        match refusal {
            Refusal::Stale => tracing::debug!(height, round, %peer, %value, "a proposal came too late"),
            Refusal::Fault(fault @ Fault::Log { .. }) => {
                tracing::error!(height, round, %peer, %value, %fault, "not voted for: this node or the proposer computes a wrong state");
            }
            Refusal::Fault(_) | Refusal::NotTheProposer => {
                tracing::warn!(height, round, %peer, %value, reason = %refusal, "not voted for");
            }
            Refusal::Port(error) => tracing::error!(height, round, %value, %error, "a proposal could not be taken"),
        }
    }

    async fn admit(&self, from: PeerId, part: ProposalPart, value: Hash32) -> Result<(), Refusal> {
        let height = part.header.height;
        self.wait_for_parent(height).await?;
        self.check_sender(&from, &part)?;
        // The height itself is started only when this is executed, so as a rule nobody waits here. Late, never invalid.
        let (log, keys) = self.state_before(height).await?;
        if self.shared.bodies.get(height, &value).is_none() {
            self.check_header(&part, log, keys.rules())?;
            let batches = fetch::collect(&self.shared, from, &part, &keys).await?;
            self.wait_for_clock(&part).await?;
            self.judge(&part, &batches, log, &keys)?;
            self.keep(&part, value, batches).await?;
        }
        self.deliver(from, part, value);
        Ok(())
    }

    async fn wait_for_parent(&self, height: u64) -> Result<(), Refusal> {
        let mut decided = self.shared.decided();
        let now = *decided.wait_for(|decided| decided + 1 >= height).await.map_err(|_| Refusal::Stale)?;
        if now >= height { Err(Refusal::Stale) } else { Ok(()) }
    }

    fn check_sender(&self, from: &PeerId, part: &ProposalPart) -> Result<(), Refusal> {
        let sender = self.shared.peers.validator_of(from).ok_or(Refusal::NotTheProposer)?;
        let turn = self.shared.chain().proposer(part.round);
        if sender == turn || part.round >= OPEN_ROUND { Ok(()) } else { Err(Refusal::NotTheProposer) }
    }

    /// The log and the keys that a block of this height is judged by.
    async fn state_before(&self, height: u64) -> Result<(LogRoot, Arc<dyn Keys>), Refusal> {
        let executed = log_height(height);
        let execution = &self.shared.execution;
        until_decided(&self.shared, height, execution.wait_executed(executed)).await??;
        let log = execution.root_after(executed).ok_or(Refusal::Stale)?;
        let keys = execution.keys_after(executed).ok_or(Refusal::Stale)?;
        Ok((log, keys))
    }

    fn check_header(&self, part: &ProposalPart, log: LogRoot, rules: u32) -> Result<(), Refusal> {
        let chain = self.shared.chain();
        if chain.tip().height + 1 != part.header.height {
            return Err(Refusal::Stale);
        }
        validity::check_header(&part.header, &chain.expected(log, rules), |round| chain.proposer(round))?;
        Ok(())
    }

    async fn wait_for_clock(&self, part: &ProposalPart) -> Result<(), Refusal> {
        let drift = self.shared.config.timing.drift;
        while let Some(wait) = wait_for_time(part.header.time_ms, self.shared.config.clock.now_ms(), drift) {
            self.shared.metrics.refused("clock");
            until_decided(&self.shared, part.header.height, tokio::time::sleep(wait)).await?;
        }
        Ok(())
    }

    /// Judges header and body against the chain, under its lock: it cannot move meanwhile.
    fn judge(&self, part: &ProposalPart, batches: &[Batch], log: LogRoot, keys: &Arc<dyn Keys>) -> Result<(), Refusal> {
        let facts: Vec<BatchFacts> = batches.iter().map(facts).collect();
        let chain = self.shared.chain();
        if chain.tip().height + 1 != part.header.height {
            return Err(Refusal::Stale);
        }
        validity::check_header(&part.header, &chain.expected(log, keys.rules()), |round| chain.proposer(round))?;
        let key = |participant, key_id, time_ms| keys.check_key(participant, key_id, time_ms);
        validity::check_body(&part.header, &facts, key, |hash| chain.recent().contains(hash))?;
        Ok(())
    }

    async fn keep(&self, part: &ProposalPart, value: Hash32, batches: Vec<Batch>) -> Result<(), Refusal> {
        let body = Body { header: Arc::clone(&part.header), batches: batches.into() };
        if !keep_body(&self.shared, value, body).await? {
            return Err(Refusal::Stale);
        }
        Ok(())
    }

    fn deliver(&self, from: PeerId, part: ProposalPart, value: Hash32) {
        let Some(peer) = engine_peer(&from) else { return };
        let stream = StreamId::new(Bytes::copy_from_slice(&value.0));
        let message: StreamMessage<ProposalPart> = StreamMessage::new(stream, 0, StreamContent::Data(part));
        let event: NetworkEvent<Anji> = NetworkEvent::ProposalPart(peer, Some(peer), message);
        self.shared.link.emit(&event);
    }

    /// Fresh proposals tell their proposers' clocks.
    fn note_offset(&self, part: &ProposalPart) {
        if part.header.round != part.round || part.header.height != self.shared.decided_height() + 1 {
            return;
        }
        let now_ms = self.shared.config.clock.now_ms();
        let warning =
            self.lock().offsets.on_proposal(part.header.proposer, part.header.time_ms, now_ms, Instant::now());
        if let Some(offset_ms) = warning {
            tracing::warn!(
                offset_ms,
                "this node's clock is {} by {} ms against the others' proposals: set the clock; until then its votes come late or not at all",
                if offset_ms > 0 { "ahead" } else { "behind" },
                offset_ms.unsigned_abs()
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters and sets: whole whatever happened to the last holder.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the rules need to know of a batch.
pub(crate) fn facts(batch: &Batch) -> BatchFacts {
    BatchFacts {
        hash: batch.checked.hash,
        size_bytes: batch.bytes.len(),
        n_ops: batch.checked.header.n_ops,
        participant: batch.checked.header.participant,
        key_id: batch.checked.header.key_id,
        expires_at_ms: batch.checked.header.expires_at_ms,
    }
}

/// Waits for `work`, but not past the decision of `height`.
pub(crate) async fn until_decided<T>(
    shared: &Shared,
    height: u64,
    work: impl Future<Output = T>,
) -> Result<T, Refusal> {
    let mut decided = shared.decided();
    tokio::select! {
        done = work => Ok(done),
        _ = decided.wait_for(|decided| *decided >= height) => Err(Refusal::Stale),
    }
}

/// Puts a body on disk, then in memory. False when its height is decided meanwhile. A failed append stops the node.
pub(crate) async fn keep_body(shared: &Arc<Shared>, value: Hash32, body: Body) -> Result<bool, PortError> {
    let started = Instant::now();
    let (header, batches) = (Arc::clone(&body.header), Arc::clone(&body.batches));
    let kept = shared
        .blocking(move |shared| {
            let bytes: Vec<Bytes> = batches.iter().map(|batch| batch.bytes.clone()).collect();
            shared.blocks.append_proposal(&header, &bytes)
        })
        .await
        .inspect_err(|error| shared.fail(Fatal::Blocks(error.clone())))?;
    shared.metrics.append_seconds.observe(started.elapsed().as_secs_f64());
    if kept {
        shared.bodies.insert(value, body);
    }
    Ok(kept)
}
