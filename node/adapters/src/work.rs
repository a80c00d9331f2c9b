//! What waits for this participant's answer as an issuer: mandates to activate, payments to hold or decline, refunds to post or fail.
//! Learned from the node's stream of changes, kept as ids only, and remembered in `work.bin` so that a restart need not read the
//! whole log again. Losing that file loses nothing.

use crate::follow::{Patience, next_message};
use crate::metrics::Metrics;
use crate::node::Nodes;
use anji_proto::v1;
use borsh::{BorshDeserialize, BorshSerialize};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Kinds of work; the numbers are those of `EntityKind`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub(crate) enum Kind {
    Mandate = 2,
    Payment = 4,
    Refund = 6,
}

/// One thing that waits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Item {
    pub(crate) kind: Kind,
    pub(crate) participant: u32,
    pub(crate) op_id: [u8; 16],
}

impl Item {
    pub(crate) fn id(&self) -> v1::Id {
        v1::Id { participant: self.participant, op_id: self.op_id.to_vec() }
    }
}

#[derive(Debug, Default)]
struct State {
    /// By the log index of the change that asked.
    open: BTreeMap<u64, Item>,
    index_of: HashMap<Item, u64>,
    /// All changes below were looked at.
    next_index: u64,
    /// There was no room for the item of this change: read again from here once there is.
    overflow: Option<u64>,
}

#[derive(BorshSerialize, BorshDeserialize)]
struct Saved {
    chain_id: [u8; 32],
    next_index: u64,
    open: Vec<(u64, Item)>,
}

/// Everything that waits.
#[derive(Debug)]
pub(crate) struct Work {
    participant: u32,
    max_open: usize,
    file: PathBuf,
    chain_id: [u8; 32],
    state: Mutex<State>,
    /// Raised with every new item.
    news: watch::Sender<u64>,
}

impl Work {
    /// Reads back what was known; starts from the beginning of the log where that cannot be used.
    pub(crate) fn load(dir: &Path, chain_id: [u8; 32], participant: u32, max_open: usize) -> Self {
        let file = dir.join("work.bin");
        let mut state = State::default();
        match std::fs::read(&file) {
            Ok(bytes) => match decode(&bytes).filter(|saved| saved.chain_id == chain_id) {
                Some(saved) => {
                    state.next_index = saved.next_index;
                    for (index, item) in saved.open {
                        state.open.insert(index, item);
                        state.index_of.insert(item, index);
                    }
                }
                None => tracing::warn!(file = %file.display(), "cannot be used; open work is read from the log again"),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "cannot be read; open work is read from the log again")
            }
        }
        Self { participant, max_open, file, chain_id, state: Mutex::new(state), news: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells when something new waits.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Up to `limit` items that were asked for at or above `from`, with their log index.
    pub(crate) fn open_from(&self, from: u64, limit: usize) -> Vec<(u64, Item)> {
        self.lock().open.range(from..).take(limit).map(|(index, item)| (*index, *item)).collect()
    }

    fn on_change(&self, change: &v1::Change) {
        let Some((item, waits)) = judge(change, self.participant) else { return };
        let mut state = self.lock();
        if waits {
            if state.index_of.contains_key(&item) {
                return;
            }
            if state.open.len() >= self.max_open {
                if state.overflow.is_none() {
                    tracing::error!(
                        limit = self.max_open,
                        "too much waits for an answer; new items are left in the log until there is room"
                    );
                    state.overflow = Some(change.index);
                }
                return;
            }
            state.open.insert(change.index, item);
            state.index_of.insert(item, change.index);
            drop(state);
            self.news.send_modify(|it| *it += 1);
        } else if let Some(index) = state.index_of.remove(&item) {
            state.open.remove(&index);
        }
    }

    /// Where to read on. After an overflow, and once half the room is free, from where the first item was left out.
    fn read_from(&self) -> u64 {
        let mut state = self.lock();
        if state.open.len() <= self.max_open / 2
            && let Some(index) = state.overflow.take()
        {
            state.next_index = index;
        }
        state.next_index
    }

    fn must_reread(&self) -> bool {
        let state = self.lock();
        state.overflow.is_some() && state.open.len() <= self.max_open / 2
    }

    fn saved(&self) -> Vec<u8> {
        let state = self.lock();
        let saved = Saved {
            chain_id: self.chain_id,
            next_index: state.overflow.unwrap_or(state.next_index),
            open: state.open.iter().map(|(index, item)| (*index, *item)).collect(),
        };
        encode(&saved)
    }

    /// Writes what is known; a failure costs only time after a restart.
    pub(crate) fn save(&self) {
        let part = self.file.with_extension("tmp");
        let written = std::fs::write(&part, self.saved()).and_then(|()| std::fs::rename(&part, &self.file));
        if let Err(error) = written {
            tracing::warn!(file = %self.file.display(), %error, "cannot be written; a restart will read the log from further back");
        }
    }

    fn n_open(&self) -> usize {
        self.lock().open.len()
    }
}

fn encode(saved: &Saved) -> Vec<u8> {
    let mut bytes = borsh::to_vec(saved).unwrap_or_default();
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Saved> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    (checksum == crc32c::crc32c(body).to_le_bytes()).then(|| borsh::from_slice(body).ok()).flatten()
}

/// Which item a change is about, and whether it waits for `participant` after the change.
fn judge(change: &v1::Change, participant: u32) -> Option<(Item, bool)> {
    let item = |kind: Kind, id: &Option<v1::Id>| -> Option<Item> {
        let id = id.as_ref()?;
        Some(Item { kind, participant: id.participant, op_id: id.op_id.as_slice().try_into().ok()? })
    };
    match change.state.as_ref()? {
        v1::change::State::Mandate(it) if it.issuer == participant => {
            Some((item(Kind::Mandate, &it.id)?, it.status() == v1::MandateStatus::Proposed))
        }
        v1::change::State::Payment(it) if it.issuer == participant => {
            Some((item(Kind::Payment, &it.id)?, it.status() == v1::PaymentStatus::Requested))
        }
        // Whoever sees a refund that is not its own payment's as acquirer is the issuer of that payment.
        v1::change::State::Refund(it) if it.id.as_ref().is_some_and(|id| id.participant != participant) => {
            Some((item(Kind::Refund, &it.id)?, it.status() == v1::RefundStatus::Accepted))
        }
        _ => None,
    }
}

/// Follows the log for ever.
pub(crate) async fn follow(work: Arc<Work>, nodes: Arc<Nodes>, metrics: Metrics, stop: CancellationToken) {
    let mut patience = Patience::default();
    let mut save = tokio::time::interval(Duration::from_secs(5));
    save.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut saved_index = work.lock().next_index;
    loop {
        let mut reading = Box::pin(read_once(&work, &nodes, &mut patience));
        let ended = loop {
            tokio::select! {
                () = stop.cancelled() => {
                    work.save();
                    return;
                }
                ended = &mut reading => break ended,
                _ = save.tick() => {
                    metrics.work_open.set(i64::try_from(work.n_open()).unwrap_or(i64::MAX));
                    let next = work.lock().next_index;
                    if next != saved_index {
                        saved_index = next;
                        let work = work.clone();
                        let _ = tokio::task::spawn_blocking(move || work.save()).await;
                    }
                }
            }
        };
        drop(reading);
        tracing::debug!(node = nodes.address(), code = %ended.code(), "the stream of changes ended: {}", ended.message());
        tokio::select! {
            () = stop.cancelled() => {}
            () = patience.wait() => {}
        }
    }
}

async fn read_once(work: &Work, nodes: &Nodes, patience: &mut Patience) -> Status {
    let kinds = [v1::EntityKind::Mandate, v1::EntityKind::Payment, v1::EntityKind::Refund];
    let from_index = work.read_from();
    let message = v1::StreamChangesRequest { from_index, kinds: kinds.into_iter().map(i32::from).collect() };
    let opened = nodes.open(message, |mut client, request| async move { client.stream_changes(request).await }).await;
    let (node, mut stream) = match opened {
        Ok(opened) => opened,
        Err(status) => return status,
    };
    let ended = loop {
        if work.must_reread() {
            return Status::aborted("there is room again for what was left out");
        }
        let item = match next_message(&mut stream).await {
            Ok(message) => message.item,
            Err(status) => break status,
        };
        patience.reset();
        let next = match item {
            Some(v1::stream_changes_response::Item::Change(change)) => {
                work.on_change(&change);
                change.index.saturating_add(1)
            }
            Some(v1::stream_changes_response::Item::NextIndex(next)) => next,
            None => continue,
        };
        let mut state = work.lock();
        state.next_index = state.next_index.max(next);
    };
    nodes.stream_failed(node, &ended);
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payment(index: u64, id: u8, status: v1::PaymentStatus) -> v1::Change {
        let payment = v1::Payment {
            id: Some(v1::Id { participant: 1, op_id: vec![id; 16] }),
            issuer: 2,
            status: status.into(),
            ..Default::default()
        };
        v1::Change { index, state: Some(v1::change::State::Payment(payment)), ..Default::default() }
    }

    #[test]
    fn what_waits_is_open_until_it_is_answered_and_survives_a_restart() {
        let dir = tempfile::tempdir().expect("temp");
        let work = Work::load(dir.path(), [1; 32], 2, 10);
        work.on_change(&payment(5, 1, v1::PaymentStatus::Requested));
        work.on_change(&payment(6, 2, v1::PaymentStatus::Requested));
        work.on_change(&payment(7, 1, v1::PaymentStatus::Held));
        let ids =
            |work: &Work| work.open_from(0, 10).into_iter().map(|(index, it)| (index, it.op_id[0])).collect::<Vec<_>>();
        assert_eq!(ids(&work), [(6, 2)]);
        work.save();
        assert_eq!(ids(&Work::load(dir.path(), [1; 32], 2, 10)), [(6, 2)]);
        assert_eq!(ids(&Work::load(dir.path(), [9; 32], 2, 10)), []);
        let file = dir.path().join("work.bin");
        let bytes = std::fs::read(&file).expect("read");
        for cut in 0..bytes.len() {
            std::fs::write(&file, &bytes[..cut]).expect("written");
            assert_eq!(ids(&Work::load(dir.path(), [1; 32], 2, 10)), [], "cut at {cut}");
        }
        // Somebody else's payment.
        let other = Work::load(dir.path(), [1; 32], 3, 10);
        other.on_change(&payment(5, 1, v1::PaymentStatus::Requested));
        assert_eq!(ids(&other), []);
    }

    #[test]
    fn what_did_not_fit_is_read_again_once_there_is_room() {
        let dir = tempfile::tempdir().expect("temp");
        let work = Work::load(dir.path(), [1; 32], 2, 2);
        for (index, id) in [(10, 1), (11, 2), (12, 3), (13, 4)] {
            work.on_change(&payment(index, id, v1::PaymentStatus::Requested));
            work.lock().next_index = index + 1;
        }
        assert_eq!(work.open_from(0, 10).len(), 2);
        assert!(!work.must_reread());
        work.on_change(&payment(14, 1, v1::PaymentStatus::Declined));
        assert!(work.must_reread());
        assert_eq!(work.read_from(), 12);
        assert!(!work.must_reread());
        work.on_change(&payment(12, 3, v1::PaymentStatus::Requested));
        assert_eq!(work.open_from(12, 10).len(), 1);
    }
}
