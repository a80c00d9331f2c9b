//! Reads of the ledger for calls: on blocking threads, with the node's trouble kept apart from the ledger's answer.

use anji_contracts::{Entity, EntityKey};
use anji_storage::{Known, ReadError, Reader};
use anji_wire::Reason;
use tonic::Status;

/// Runs reads on a blocking thread.
///
/// # Errors
/// STORAGE_FAILED, or what `read` answers.
pub(crate) async fn read<T: Send + 'static>(
    reader: &Reader,
    read: impl FnOnce(&Reader) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Status> {
    let reader = reader.clone();
    let task = tokio::task::spawn_blocking(move || read(&reader));
    match task.await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Failure::Answer(status))) => Err(*status),
        Ok(Err(Failure::Storage(error))) => {
            tracing::error!(%error, "a call could not be answered from storage");
            Err(Reason::StorageFailed.status("the node cannot read its data; its log says more"))
        }
        Err(error) => {
            tracing::error!(%error, "a read did not finish");
            Err(Reason::StorageFailed.status("the node could not finish a read; its log says more"))
        }
    }
}

/// Why a read has no result.
pub(crate) enum Failure {
    /// The node's trouble.
    Storage(ReadError),
    /// The answer is an error of the caller's.
    Answer(Box<Status>),
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::Storage(error)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Answer(Box::new(status))
    }
}

/// The latest version of an entity that must be there.
///
/// # Errors
/// NOT_FOUND, or the node's trouble.
pub(crate) fn entity(reader: &Reader, key: &EntityKey, what: &'static str) -> Result<Known, Failure> {
    let known = reader.entity(key)?;
    Ok(known.ok_or_else(|| Reason::NotFound.status(format!("the ledger has no such {what} here (yet)")))?)
}

/// An entity under another entity's key: the state contradicts itself.
pub(crate) fn mismatch(key: &EntityKey) -> Failure {
    tracing::error!(?key, "the state under this key is of another kind");
    Reason::StorageFailed.status("the node's data contradicts itself; its log says more").into()
}

/// Takes the state apart by its kind.
macro_rules! state_as {
    ($known:expr, $kind:ident) => {{
        let known = $known;
        match known.entry.state {
            anji_contracts::Entity::$kind(state) => Ok((state, known.index, known.entry.version)),
            _ => Err($crate::ledger::mismatch(&known.entry.key)),
        }
    }};
}
pub(crate) use state_as;

/// The ledger's own account: the open window and the schedule in force.
///
/// # Errors
/// The node's trouble; every ledger has it from genesis on.
pub(crate) fn control(reader: &Reader) -> Result<anji_contracts::entity::Control, Failure> {
    match entity(reader, &EntityKey::Control, "ledger")?.entry.state {
        Entity::Control(control) => Ok(control),
        _ => Err(mismatch(&EntityKey::Control)),
    }
}
