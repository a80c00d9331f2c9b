//! The outbox in memory: requests under way, and answered ones for as long as they must be remembered. Shared behind a mutex that
//! is held for single look-ups only.

use super::record::{Answer, Intent, Record};
use crate::request_id::derived_op_id;
use anji_contracts::Receipt;
use anji_contracts::ops::Op;
use anji_contracts::types::OpId;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Answered requests whose operation id follows from their request id are remembered only to answer quickly: this many.
const MAX_DATED: usize = 100_000;
/// Callers that may wait for one request at a time.
const MAX_WAITERS: usize = 64;

/// What a waiting caller is told.
pub(crate) type Waited = Result<Receipt, Arc<super::OutboxError>>;

/// How much is remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexLimits {
    /// Requests under way.
    pub(crate) pending: usize,
    /// Answered requests whose operation id only the outbox knows.
    pub(crate) remembered: usize,
    /// For how long those are remembered.
    pub(crate) remember_ms: u64,
}

struct Entry {
    content: [u8; 16],
    op_id: OpId,
    state: State,
}

enum State {
    Pending { op: Arc<Op>, waiters: Vec<oneshot::Sender<Waited>> },
    Done(Receipt),
}

/// What is known of a request.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// Nothing.
    Unknown,
    /// It was used for something else.
    Conflict,
    /// Under way; the receiver gets the answer.
    Pending(OpId, oneshot::Receiver<Waited>),
    /// Under way, and too many wait for it already.
    Crowded,
    /// Answered.
    Done(OpId, Receipt),
}

/// Why a new request is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Full {
    /// Too many are under way.
    Pending,
    /// Too many answered ones must still be remembered.
    Remembered,
}

/// The memory.
pub(crate) struct Index {
    limits: IndexLimits,
    entries: HashMap<Arc<str>, Entry>,
    by_op: HashMap<OpId, Arc<str>>,
    n_pending: usize,
    dated: VecDeque<Arc<str>>,
    opaque: VecDeque<Arc<str>>,
}

impl Index {
    pub(crate) fn new(limits: IndexLimits) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
            by_op: HashMap::new(),
            n_pending: 0,
            dated: VecDeque::new(),
            opaque: VecDeque::new(),
        }
    }

    /// Takes over a record read from disk.
    pub(crate) fn restore(&mut self, record: Record, now_ms: u64) {
        match record {
            Record::Intent(Intent { request_id, content, op }) => {
                if !self.entries.contains_key(request_id.as_str()) {
                    self.put_pending(request_id.into(), content, Arc::new(op));
                }
            }
            Record::Answer(Answer { request_id, content, op_id, receipt }) => {
                let request_id: Arc<str> = request_id.into();
                let old =
                    self.entries.insert(request_id.clone(), Entry { content, op_id, state: State::Done(receipt) });
                match old.map(|it| it.state) {
                    Some(State::Done(_)) => {}
                    Some(State::Pending { .. }) => {
                        self.n_pending = self.n_pending.saturating_sub(1);
                        self.remember(request_id, op_id, now_ms);
                    }
                    None => {
                        self.by_op.insert(op_id, request_id.clone());
                        self.remember(request_id, op_id, now_ms);
                    }
                }
            }
            Record::Position(_) => {}
        }
    }

    /// What is known of a request with this content.
    pub(crate) fn find(&mut self, request_id: &str, content: &[u8; 16]) -> Lookup {
        let Some(entry) = self.entries.get_mut(request_id) else { return Lookup::Unknown };
        if entry.content != *content {
            return Lookup::Conflict;
        }
        match &mut entry.state {
            State::Done(receipt) => Lookup::Done(entry.op_id, receipt.clone()),
            State::Pending { waiters, .. } => {
                waiters.retain(|it| !it.is_closed());
                if waiters.len() >= MAX_WAITERS {
                    return Lookup::Crowded;
                }
                let (sender, receiver) = oneshot::channel();
                waiters.push(sender);
                Lookup::Pending(entry.op_id, receiver)
            }
        }
    }

    /// The operation and, once decided, the answer of a request, whatever its content.
    pub(crate) fn status(&self, request_id: &str) -> Option<(OpId, Option<Receipt>)> {
        let entry = self.entries.get(request_id)?;
        match &entry.state {
            State::Pending { .. } => Some((entry.op_id, None)),
            State::Done(receipt) => Some((entry.op_id, Some(receipt.clone()))),
        }
    }

    /// Takes in a new request; nobody waits for it yet. The caller made sure that it is unknown.
    pub(crate) fn insert(&mut self, request_id: &str, content: [u8; 16], op: Arc<Op>) -> Result<(), Full> {
        if self.n_pending >= self.limits.pending {
            return Err(Full::Pending);
        }
        if self.opaque.len() >= self.limits.remembered && !is_dated(request_id, op.op_id) {
            return Err(Full::Remembered);
        }
        self.put_pending(request_id.into(), content, op);
        Ok(())
    }

    fn put_pending(&mut self, request_id: Arc<str>, content: [u8; 16], op: Arc<Op>) {
        self.by_op.insert(op.op_id, request_id.clone());
        let entry = Entry { content, op_id: op.op_id, state: State::Pending { op, waiters: Vec::new() } };
        self.entries.insert(request_id, entry);
        self.n_pending += 1;
    }

    /// Drops a request that could not be made durable; nothing was sent for it.
    pub(crate) fn forget(&mut self, op_id: OpId, why: &Arc<super::OutboxError>) {
        let Some(request_id) = self.by_op.remove(&op_id) else { return };
        if let Some(Entry { state: State::Pending { waiters, .. }, .. }) = self.entries.remove(&request_id) {
            self.n_pending = self.n_pending.saturating_sub(1);
            for waiter in waiters {
                let _ = waiter.send(Err(why.clone()));
            }
        }
    }

    /// The ledger answered: tells everybody who waits. Returns what is to be written; `None` if it is not ours or was answered before.
    pub(crate) fn answer(&mut self, receipt: &Receipt, now_ms: u64) -> Option<Answer> {
        let request_id = self.by_op.get(&receipt.op_id)?.clone();
        let entry = self.entries.get_mut(&request_id)?;
        let State::Pending { waiters, .. } = &mut entry.state else { return None };
        for waiter in waiters.drain(..) {
            let _ = waiter.send(Ok(receipt.clone()));
        }
        entry.state = State::Done(receipt.clone());
        let answer = Answer {
            request_id: String::from(&*request_id),
            content: entry.content,
            op_id: receipt.op_id,
            receipt: receipt.clone(),
        };
        self.n_pending = self.n_pending.saturating_sub(1);
        self.remember(request_id, receipt.op_id, now_ms);
        Some(answer)
    }

    fn remember(&mut self, request_id: Arc<str>, op_id: OpId, now_ms: u64) {
        if is_dated(&request_id, op_id) {
            self.dated.push_back(request_id);
        } else {
            self.opaque.push_back(request_id);
        }
        self.expire(now_ms);
    }

    /// Forgets what need not be remembered any more.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        while self.dated.len() > MAX_DATED {
            let Some(request_id) = self.dated.pop_front() else { break };
            self.drop_entry(&request_id);
        }
        while let Some(request_id) = self.opaque.front() {
            let expired = self
                .entries
                .get(request_id)
                .is_none_or(|entry| entry.op_id.time_ms().saturating_add(self.limits.remember_ms) < now_ms);
            if !expired {
                break;
            }
            if let Some(request_id) = self.opaque.pop_front() {
                self.drop_entry(&request_id);
            }
        }
    }

    fn drop_entry(&mut self, request_id: &str) {
        if let Some(entry) = self.entries.remove(request_id) {
            self.by_op.remove(&entry.op_id);
        }
    }

    /// The request behind an operation.
    pub(crate) fn request_of(&self, op_id: OpId) -> Option<Arc<str>> {
        self.by_op.get(&op_id).cloned()
    }

    /// Operations without an answer.
    pub(crate) fn pending_ops(&self) -> Vec<Arc<Op>> {
        let pending = self.entries.values().filter_map(|entry| match &entry.state {
            State::Pending { op, .. } => Some(op.clone()),
            State::Done(_) => None,
        });
        let mut ops: Vec<_> = pending.collect();
        ops.sort_by_key(|op| op.op_id);
        ops
    }

    /// Number of requests under way, and of answered ones that must be remembered.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.n_pending, self.opaque.len())
    }

    /// Everything that is remembered, as the records of a new file.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // In the order of the queues, so that a restart expires in the same order.
        for request_id in self.opaque.iter().chain(&self.dated) {
            if let Some(Entry { content, op_id, state: State::Done(receipt) }) = self.entries.get(request_id) {
                Record::Answer(Answer {
                    request_id: String::from(&**request_id),
                    content: *content,
                    op_id: *op_id,
                    receipt: receipt.clone(),
                })
                .encode(&mut bytes);
            }
        }
        for (request_id, entry) in &self.entries {
            if let State::Pending { op, .. } = &entry.state {
                let request_id = String::from(&**request_id);
                Record::Intent(Intent { request_id, content: entry.content, op: (**op).clone() }).encode(&mut bytes);
            }
        }
        bytes
    }
}

/// Whether the operation id follows from the request id, so that nothing is lost by forgetting it.
fn is_dated(request_id: &str, op_id: OpId) -> bool {
    derived_op_id(request_id, op_id.time_ms()) == Some(op_id)
}
