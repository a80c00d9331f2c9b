//! The stream of changes: every entry of the log that shows an entity the caller may see, from any index, in order.

use crate::access::Sight;
use crate::ledger::{self, Failure};
use crate::outlet::{Closed, Outlet};
use crate::server::Core;
use anji_contracts::entry::{Cause, EntityEntry};
use anji_contracts::types::ParticipantId;
use anji_contracts::{Entity, Entry, codec};
use anji_proto::v1;
use anji_proto::v1::stream_changes_response::Item;
use anji_storage::{ReadError, Reader};
use anji_wire::FieldError;
use anji_wire::ledger as to;
use std::sync::Arc;
use tokio::time::Instant;

/// Changes taken at a time, and entries looked at for them.
const CHUNK: usize = 256;
const SCAN: u64 = 8192;

/// The kinds that are served, a bit each.
const SERVED: u32 = bit(v1::EntityKind::Participant)
    | bit(v1::EntityKind::Mandate)
    | bit(v1::EntityKind::Payment)
    | bit(v1::EntityKind::Refund)
    | bit(v1::EntityKind::Window)
    | bit(v1::EntityKind::Position)
    | bit(v1::EntityKind::Schedule);

const fn bit(kind: v1::EntityKind) -> u32 {
    1 << (kind as u32)
}

/// The kinds a caller wants, a bit each; all that are served for none.
///
/// # Errors
/// A kind that is not served.
pub(crate) fn read_kinds(kinds: &[i32]) -> Result<u32, FieldError> {
    let bits = kinds.iter().try_fold(0, |bits, number| match v1::EntityKind::try_from(*number) {
        Ok(kind) if SERVED & bit(kind) != 0 => Ok(bits | bit(kind)),
        _ => Err(FieldError::new("kinds", "names a kind that is not served as changes")),
    })?;
    Ok(if bits == 0 { SERVED } else { bits })
}

/// Runs a stream until it is over.
pub(crate) async fn run(
    core: Arc<Core>,
    from_index: u64,
    kinds: u32,
    own: ParticipantId,
    outlet: Outlet<v1::StreamChangesResponse>,
) {
    // The outlet knows why it is over; whoever reads from the other end is told.
    let _ = follow(&core, from_index, kinds, own, &outlet).await;
}

async fn follow(
    core: &Core,
    mut next_index: u64,
    kinds: u32,
    own: ParticipantId,
    outlet: &Outlet<v1::StreamChangesResponse>,
) -> Result<(), Closed> {
    let mut head = core.feed.head();
    let mut told = Instant::now();
    loop {
        let until = head.borrow_and_update().log.size;
        let (changes, looked_at) = if next_index < until {
            let read = ledger::read(&core.reader, move |reader| load(reader, own, kinds, next_index, until));
            match outlet.or_over(read).await? {
                Ok(found) => found,
                Err(status) => {
                    outlet.close(status);
                    return Err(Closed);
                }
            }
        } else {
            (Vec::new(), next_index)
        };
        for change in changes {
            outlet.send(v1::StreamChangesResponse { item: Some(Item::Change(change)) }).await?;
            core.metrics.sent_changes.inc();
            told = Instant::now();
        }
        next_index = looked_at;
        if told.elapsed() >= core.limits.heartbeat {
            outlet.send(v1::StreamChangesResponse { item: Some(Item::NextIndex(next_index)) }).await?;
            told = Instant::now();
        }
        if next_index >= until {
            let quiet = tokio::time::timeout_at(told + core.limits.heartbeat, head.changed());
            // Woken by a block or by the heartbeat: both mean to look again. The feed outlives its streams.
            let _ = outlet.or_over(quiet).await?;
        }
    }
}

/// The caller's changes from `from` on, below `until`; and the index up to which all was looked at.
fn load(
    reader: &Reader,
    own: ParticipantId,
    kinds: u32,
    from: u64,
    until: u64,
) -> Result<(Vec<v1::Change>, u64), Failure> {
    let mut entries: Vec<(u64, EntityEntry)> = Vec::new();
    let mut next = from;
    reader.visit_entries(from, |index, bytes| {
        if index >= until || index.saturating_sub(from) >= SCAN || entries.len() >= CHUNK {
            return Ok(false);
        }
        next = index.saturating_add(1);
        // Entries of other kinds are most of the log: their first two bytes say so, and they are not decoded.
        let wanted = matches!(bytes, [1, kind, ..] if kinds.checked_shr(u32::from(*kind)).unwrap_or(0) & 1 == 1);
        if wanted {
            match codec::decode::<Entry>(bytes) {
                Ok(Entry::Entity(entry)) => entries.push((index, entry)),
                Ok(Entry::Batch(_) | Entry::Block(_)) | Err(_) => {
                    let what = "it cannot be decoded".to_owned();
                    return Err(ReadError::Corrupted { place: format!("entries {index}"), what });
                }
            }
        }
        Ok(true)
    })?;
    if next == from {
        let what = "it is missing, but the log is longer".to_owned();
        return Err(ReadError::Corrupted { place: format!("entries {from}"), what }.into());
    }
    let sight = Sight::of(reader, own)?;
    let mut changes = Vec::with_capacity(entries.len());
    for (index, entry) in entries {
        if sight.sees_entity(reader, &entry.state)? {
            changes.extend(change(index, &entry));
        }
    }
    Ok((changes, next))
}

fn change(index: u64, entry: &EntityEntry) -> Option<v1::Change> {
    use v1::change::State;
    let state = match &entry.state {
        Entity::Participant(it) => State::Participant(to::participant(it)),
        Entity::Mandate(it) => State::Mandate(to::mandate(it)),
        Entity::Payment(it) => State::Payment(to::payment(it)),
        Entity::Refund(it) => State::Refund(to::refund(it)),
        Entity::Window(it) => State::Window(to::window(it)),
        Entity::Position(it) => State::Position(to::position(it)),
        Entity::Schedule(it) => State::Schedule(to::schedule(it)),
        Entity::Line(_) | Entity::Obligation(_) | Entity::Control(_) | Entity::WindowPayments(_) => return None,
    };
    let cause = match entry.cause {
        Cause::Op(id) => Some(to::id(id)),
        Cause::Genesis | Cause::Time | Cause::Block => None,
    };
    Some(v1::Change { index, version: entry.version, cause, state: Some(state) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_those_of_the_log_and_hot_ones_are_not_served() {
        assert_eq!(read_kinds(&[]), Ok(SERVED));
        assert_eq!(read_kinds(&[4, 5, 4]), Ok(1 << 4 | 1 << 5));
        for wrong in [0, 3, 6, 8, 10, 12, -1, i32::MAX] {
            assert!(read_kinds(&[wrong]).is_err(), "{wrong}");
        }
    }
}
