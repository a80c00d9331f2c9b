//! What the adapter's parts tell each other about the outside: the chain as the node shows it, and every trouble that keeps requests
//! from being served. Readiness is the absence of trouble.

use anji_contracts::Reject;
use anji_contracts::types::{Currency, ParticipantId, Role, ScheduleVersion};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Milliseconds since 1970 by this machine's clock.
#[must_use]
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The chain as the node last showed it.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) height: u64,
    pub(crate) currency: Currency,
    pub(crate) schedule: ScheduleVersion,
    pub(crate) role: Role,
    pub(crate) seen: Instant,
}

#[derive(Debug, Default)]
struct State {
    chain: Option<Chain>,
    /// Wrong chain, key or participant: nothing is signed until it is mended.
    identity: Option<String>,
    node: Option<String>,
    outbox: Option<String>,
    clock: Option<String>,
    refused: Option<(Reject, Instant)>,
    followers: Option<String>,
    stopping: bool,
}

/// Shared by all parts.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Whose adapter this is.
    pub(crate) participant: ParticipantId,
    state: Mutex<State>,
    seen: watch::Sender<bool>,
    /// Every block up to this height is final, as a node told.
    final_height: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn new(participant: ParticipantId) -> Self {
        Self {
            participant,
            state: Mutex::default(),
            seen: watch::Sender::new(false),
            final_height: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn chain(&self) -> Option<Chain> {
        self.lock().chain.clone()
    }

    pub(crate) fn saw_chain(&self, chain: Chain) {
        self.lock().chain = Some(chain);
        self.seen.send_replace(true);
    }

    /// The chain, as soon as it was seen once.
    pub(crate) async fn wait_chain(&self) -> Chain {
        loop {
            // The sender is here, so this cannot fail.
            let _ = self.seen.subscribe().wait_for(|seen| *seen).await;
            if let Some(chain) = self.chain() {
                return chain;
            }
        }
    }

    /// A node told that every block up to this height is final. What is final stays so, whichever node said it.
    pub(crate) fn saw_final(&self, height: u64) {
        self.final_height.send_if_modified(|known| {
            let higher = height > *known;
            *known = height.max(*known);
            higher
        });
    }

    pub(crate) fn final_height(&self) -> watch::Receiver<u64> {
        self.final_height.subscribe()
    }

    pub(crate) fn identity_trouble(&self, trouble: Option<String>) {
        self.lock().identity = trouble;
    }

    pub(crate) fn node_trouble(&self, trouble: Option<String>) {
        self.lock().node = trouble;
    }

    pub(crate) fn outbox_trouble(&self, trouble: Option<String>) {
        self.lock().outbox = trouble;
    }

    pub(crate) fn clock_trouble(&self, trouble: Option<String>) {
        self.lock().clock = trouble;
    }

    pub(crate) fn follower_trouble(&self, trouble: Option<String>) {
        self.lock().followers = trouble;
    }

    /// The ledger refused an operation for a reason that an operator must mend.
    pub(crate) fn refused_for_now(&self, reject: Reject) {
        let mut state = self.lock();
        if state.refused.is_none_or(|(last, at)| last != reject || at.elapsed() > Duration::from_secs(10)) {
            tracing::error!(%reject, "the ledger refuses this adapter's operations for now; they are kept and tried again. Check the key's validity and this machine's clock");
        }
        state.refused = Some((reject, Instant::now()));
    }

    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Whether the chain was seen and is the one that was pinned, with the key that signs.
    pub(crate) fn may_sign(&self) -> bool {
        let state = self.lock();
        state.identity.is_none() && state.chain.is_some()
    }

    /// Every reason why requests are not served as they should be.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let state = self.lock();
        let mut all: Vec<String> = [&state.identity, &state.node, &state.outbox, &state.clock, &state.followers]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        match &state.chain {
            None => all.push(String::from("no node was reached yet")),
            Some(chain) if chain.seen.elapsed() > Duration::from_secs(30) => {
                all.push(format!("no node was reached for {} s", chain.seen.elapsed().as_secs()));
            }
            Some(_) => {}
        }
        if let Some((reject, at)) = state.refused
            && at.elapsed() < Duration::from_secs(60)
        {
            all.push(format!("the ledger refuses operations for now: {reject}"));
        }
        if state.stopping {
            all.push(String::from("the adapter is stopping"));
        }
        all
    }
}
