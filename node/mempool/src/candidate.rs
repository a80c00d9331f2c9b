//! Fair shares: which of the waiting batches a block may hold.
//!
//! At every step the participant that has got the least of the block so far gives its oldest batch; equals take turns, and the turn
//! moves on from block to block. A participant whose next batch does not fit any more is done, so that its order is kept; the
//! others go on. So nobody can crowd out anybody, and a participant that is alone gets the whole block.

use anji_contracts::types::ParticipantId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// How much a candidate may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CandidateLimits {
    /// Batches.
    pub batches: usize,
    /// Operations.
    pub ops: u32,
    /// Bytes.
    pub bytes: usize,
    /// Ledger time of the block: batches that would be expired then, or expire too far ahead, are left out.
    pub time_ms: u64,
}

/// What the choice needs to know of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Size {
    pub(crate) ops: u32,
    pub(crate) bytes: usize,
}

impl CandidateLimits {
    /// The part of a block that a batch takes up, in parts of 2^32: by operations or by bytes, whichever is more.
    fn share(&self, size: Size) -> u64 {
        let part = |taken: u64, limit: u64| taken.saturating_mul(1 << 32) / limit.max(1);
        let wide = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        part(u64::from(size.ops), u64::from(self.ops)).max(part(wide(size.bytes), wide(self.bytes)))
    }
}

/// Takes batches from the `queues`, each in its order, until the limits are reached. `first` has the first turn among equals; it is
/// moved on to the participant after the first one served.
pub(crate) fn choose<T>(
    limits: &CandidateLimits,
    queues: BTreeMap<ParticipantId, impl Iterator<Item = (Size, T)>>,
    first: &mut ParticipantId,
) -> Vec<T> {
    // Turns: from `first` upwards, then from the lowest number on.
    let mut lines: Vec<_> = queues.into_iter().map(|(who, line)| (who, line.peekable())).collect();
    let split = lines.partition_point(|(who, _)| who < first);
    lines.rotate_left(split);

    let mut heap: BinaryHeap<Reverse<(u64, usize)>> = (0..lines.len()).map(|turn| Reverse((0, turn))).collect();
    let (mut chosen, mut ops, mut bytes) = (Vec::new(), 0u32, 0usize);
    while let Some(Reverse((share, turn))) = heap.pop() {
        if chosen.len() >= limits.batches {
            break;
        }
        let Some((who, line)) = lines.get_mut(turn) else { continue };
        let Some((size, _)) = line.peek() else { continue };
        let (more_ops, more_bytes) = (ops.saturating_add(size.ops), bytes.saturating_add(size.bytes));
        if more_ops > limits.ops || more_bytes > limits.bytes {
            continue;
        }
        let Some((size, batch)) = line.next() else { continue };
        if chosen.is_empty() {
            *first = ParticipantId(who.0.wrapping_add(1));
        }
        (ops, bytes) = (more_ops, more_bytes);
        chosen.push(batch);
        heap.push(Reverse((share.saturating_add(limits.share(size)), turn)));
    }
    chosen
}
