//! The block that everything is proven against, and the proofs against its log.

use crate::error::EvidenceError;
use anji_contracts::types::ChainId;
use anji_storage::{Known, LogProver, Reader};
use anji_verify::bundle::{Anchor, EntryProof, LastEntry, List, Path};
use anji_verify::{ActiveProof, LogRoot};
use std::cell::RefCell;

/// Later versions that are walked over at most to find the one of some time.
const MAX_VERSIONS: usize = 100_000;
/// Heights below the newest final one that are tried: a header or a checkpoint may lag a little.
const TRIED: u64 = 16;

/// A block with a final checkpoint and a decided header that carries its root.
pub struct Anchored<'a> {
    pub(crate) reader: &'a Reader,
    height: u64,
    pub(crate) log: LogRoot,
    anchor: Anchor,
    prover: RefCell<LogProver<'a>>,
}

/// A version of an entity, and the one after it as far as the anchor's log goes.
pub(crate) struct Version {
    pub(crate) known: Known,
    pub(crate) next: Option<Known>,
}

fn list<T, const MAX: usize>(items: Vec<T>) -> Result<List<T, MAX>, EvidenceError> {
    List::new(items).ok_or(EvidenceError::Inconsistent("something is larger than a bundle takes"))
}

impl<'a> Anchored<'a> {
    /// The newest such block.
    ///
    /// # Errors
    /// There is none yet, or the node has trouble.
    pub fn newest(reader: &'a Reader) -> Result<Self, EvidenceError> {
        let newest = reader.newest_checkpoint()?.ok_or(EvidenceError::NotYet("no checkpoint is final"))?;
        // The header that carries a block's root is two heights above it.
        let carried = reader.decided_height().saturating_sub(2);
        let top = newest.height.min(carried);
        for height in (top.saturating_sub(TRIED)..=top).rev() {
            let Some(checkpoint) = reader.checkpoint(height)? else { continue };
            let Some((header, certificate)) = reader.decision(height + 2)? else { continue };
            if header.log != checkpoint.log {
                return Err(EvidenceError::Inconsistent("a header carries another root than the checkpoint"));
            }
            let log = checkpoint.log;
            let last = log.size.checked_sub(1).ok_or(EvidenceError::Inconsistent("the log is empty"))?;
            let shorter = EvidenceError::Inconsistent("the log is shorter than its checkpoint");
            let mut prover = reader.prover(log.size).ok_or(shorter)?;
            let EntryProof { entry, path, .. } = entry_proof(reader, &mut prover, last)?;
            let anchor = Anchor {
                // No rule in force changes the validators; the first that does brings the headers that do.
                set_changes: List::default(),
                header,
                certificate,
                cosignatures: list(checkpoint.cosignatures())?,
                block: LastEntry { entry, path },
            };
            return Ok(Self { reader, height, log, anchor, prover: RefCell::new(prover) });
        }
        Err(EvidenceError::NotYet("no header carries the root of a final checkpoint"))
    }

    /// Its height.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.height
    }

    pub(crate) const fn chain_id(&self) -> ChainId {
        self.anchor.header.chain_id
    }

    pub(crate) fn into_anchor(self) -> Anchor {
        self.anchor
    }

    /// Log index of the block's own entry, the last of the log.
    pub(crate) const fn last_index(&self) -> u64 {
        self.log.size.saturating_sub(1)
    }

    /// An entry with its path.
    pub(crate) fn entry(&self, index: u64) -> Result<EntryProof, EvidenceError> {
        entry_proof(self.reader, &mut self.prover.borrow_mut(), index)
    }

    /// The bit of an entry, which must be set.
    pub(crate) fn active(&self, index: u64) -> Result<ActiveProof, EvidenceError> {
        let found = self.reader.active_proof(index, self.height)?.ok_or(EvidenceError::Overtaken)?;
        if found.is_active {
            Ok(found.proof)
        } else {
            Err(EvidenceError::Inconsistent("the bitmap and the entries disagree about what is current"))
        }
    }

    /// The version that was the latest of its entity when the log had grown to `moment`; `None` if there was none yet. Walks back from the
    /// newest version.
    pub(crate) fn version_at(
        &self,
        key: &anji_contracts::EntityKey,
        moment: u64,
    ) -> Result<Option<Version>, EvidenceError> {
        self.walk(key, |known| known.index < moment)
    }

    /// The newest version in the anchor's log for which `is_it` holds.
    pub(crate) fn walk(
        &self,
        key: &anji_contracts::EntityKey,
        is_it: impl Fn(&Known) -> bool,
    ) -> Result<Option<Version>, EvidenceError> {
        let Some(mut known) = self.reader.entity(key)? else { return Ok(None) };
        let mut next = None;
        for _ in 0..MAX_VERSIONS {
            let is_in_log = known.index < self.last_index();
            if is_in_log && is_it(&known) {
                return Ok(Some(Version { known, next }));
            }
            let Some(before) = self.reader.version_before(&known)? else { return Ok(None) };
            let later = std::mem::replace(&mut known, before);
            next = is_in_log.then_some(later);
        }
        Err(EvidenceError::TooFar { most: MAX_VERSIONS })
    }
}

fn entry_proof(reader: &Reader, prover: &mut LogProver<'_>, index: u64) -> Result<EntryProof, EvidenceError> {
    let missing = EvidenceError::Inconsistent("an entry of the log is missing");
    let Some(bytes) = reader.entry_bytes(index)? else { return Err(missing) };
    let Some(path) = prover.inclusion(index)? else { return Err(missing) };
    Ok(EntryProof { index, entry: list(bytes)?, path: list_path(path)? })
}

/// Makes a path of hashes.
pub(crate) fn list_path(path: Vec<anji_contracts::types::Hash32>) -> Result<Path, EvidenceError> {
    list(path)
}

/// Exact bytes as they are sealed in.
pub(crate) fn list_bytes<const MAX: usize>(bytes: Vec<u8>) -> Result<List<u8, MAX>, EvidenceError> {
    list(bytes)
}
