//! What peers may push: a rate for each, and a standing that bad pushes cost.

use crate::limits::Limits;
use anji_contracts::Reject;
use anji_network::PeerId;
use std::collections::HashMap;

const FAULT_MEMORY_MS: u64 = 60_000;

/// How a peer stands with the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerStanding {
    /// Bad pushes since the node started.
    pub n_faults: u64,
    /// Its pushes are dropped unread until then; 0 if they are not.
    pub muted_until_ms: u64,
    /// Pushes dropped for its rate or its standing.
    pub n_dropped: u64,
}

#[derive(Default)]
struct Record {
    standing: PeerStanding,
    recent_faults: u32,
    since_ms: u64,
    second: u64,
    second_bytes: usize,
    second_batches: u32,
}

/// All peers that ever pushed. Only admitted peers can, so the map is small.
#[derive(Default)]
pub(crate) struct Standings(HashMap<PeerId, Record>);

impl Standings {
    /// Whether a push of this size with so many batches is judged at all.
    pub(crate) fn accepts(
        &mut self,
        limits: &Limits,
        peer: PeerId,
        size_bytes: usize,
        n_batches: usize,
        now_ms: u64,
    ) -> bool {
        let record = self.0.entry(peer).or_default();
        let second = now_ms / 1000;
        if record.second != second {
            (record.second, record.second_bytes, record.second_batches) = (second, 0, 0);
        }
        record.second_bytes = record.second_bytes.saturating_add(size_bytes);
        record.second_batches = record.second_batches.saturating_add(u32::try_from(n_batches).unwrap_or(u32::MAX));
        let bytes_limit = usize::try_from(limits.peer_bytes_per_second).unwrap_or(usize::MAX);
        let accepted = now_ms >= record.standing.muted_until_ms
            && record.second_bytes <= bytes_limit
            && record.second_batches <= limits.peer_batches_per_second;
        if !accepted {
            record.standing.n_dropped += 1;
        }
        accepted
    }

    /// A push was bad. Returns true when this one costs the peer its standing.
    pub(crate) fn fault(&mut self, limits: &Limits, peer: PeerId, now_ms: u64) -> bool {
        let record = self.0.entry(peer).or_default();
        record.standing.n_faults += 1;
        if now_ms.saturating_sub(record.since_ms) > FAULT_MEMORY_MS {
            (record.since_ms, record.recent_faults) = (now_ms, 0);
        }
        record.recent_faults += 1;
        if record.recent_faults < limits.peer_faults {
            return false;
        }
        record.recent_faults = 0;
        let mute_ms = u64::try_from(limits.peer_mute.as_millis()).unwrap_or(u64::MAX);
        record.standing.muted_until_ms = now_ms.saturating_add(mute_ms);
        true
    }

    pub(crate) fn get(&self, peer: &PeerId) -> PeerStanding {
        self.0.get(peer).map(|record| record.standing).unwrap_or_default()
    }
}

/// Whether an honest peer can never push such a batch. Expiry and keys may be judged differently by another clock or another height.
pub(crate) fn is_fault(reject: Reject) -> bool {
    !matches!(reject, Reject::BatchExpired | Reject::ExpiryTooFar | Reject::UnknownKey | Reject::KeyNotValid)
}
