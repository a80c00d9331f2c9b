//! Who may vote at start. The log is the only thing that keeps a validator from signing twice, so without an intact log of its own it
//! follows only (engine trap 11). `anji init` makes the log of a fresh node; a folder that was wiped has none, a folder that was copied or
//! restored has one that says so, and an old log does not fit the block file.

use crate::error::WalError;
use crate::wal::file::{Recovered, WalFile};
use anji_contracts::types::ChainId;
use anji_verify::Address;
use borsh::{BorshDeserialize, BorshSerialize};
use std::fmt;
use std::path::Path;

/// The log's name in the consensus folder.
pub const WAL_FILE: &str = "wal";
/// An operator who restores a whole network from backups makes this file, with the chain id in it: the node then votes again without an
/// intact log of its own. Nothing that was signed after the backup is remembered, so at least one third of the nodes must be known to
/// have signed nothing since. The file is removed when it was used.
pub const VOTE_AGAIN_FILE: &str = "vote-again";

/// Whose log it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Identity {
    /// Which ledger.
    pub chain_id: ChainId,
    /// Which validator.
    pub validator: Address,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "validator {} of chain {}", self.validator, self.chain_id)
    }
}

/// Makes the log of a node that has never run; `folder` is its consensus folder.
///
/// # Errors
/// [`WalError::Exists`] if there is one, or the system refused.
///
/// # Correctness
/// Only for a key that never signed anything on this chain: this file is what entitles the node to vote.
pub fn init_folder(folder: &Path, identity: Identity) -> Result<(), WalError> {
    let path = folder.join(WAL_FILE);
    std::fs::create_dir_all(folder).map_err(|source| WalError::Io { path: folder.to_owned(), source })?;
    if path.exists() {
        return Err(WalError::Exists { path });
    }
    WalFile::create(&path, identity, 0).map(drop)
}

/// What the log entitles to.
#[derive(Debug)]
pub(crate) enum MayVote {
    /// Vote, after replaying these entries.
    Yes(Box<Recovered>),
    /// The log is fresh, but this folder was prepared elsewhere, or restored to its first day: vote if the peers are at the beginning too.
    IfChainIsFresh(Box<Recovered>),
    /// Follow until it is provably past every height it could have signed; why, for the operator.
    No { reason: String },
}

/// Judges the log in `folder` against the block file.
///
/// # Errors
/// The log is damaged or foreign: the operator must decide.
pub(crate) fn check(folder: &Path, identity: Identity, decided_height: u64) -> Result<MayVote, WalError> {
    let path = folder.join(WAL_FILE);
    let again = take_vote_again(folder, identity)?;
    let Some(found) = WalFile::open(&path, identity)? else {
        if again {
            let wal = WalFile::create(&path, identity, decided_height + 1)?;
            return Ok(MayVote::Yes(Box::new(Recovered { wal, entries: Vec::new(), original: true, torn_bytes: 0 })));
        }
        return Ok(MayVote::No { reason: "there is no consensus log: this node was wiped or restored".to_owned() });
    };
    if found.torn_bytes > 0 {
        let (torn_bytes, path) = (found.torn_bytes, path.display());
        tracing::warn!(torn_bytes, %path, "cut off the torn end of the consensus log: it was never synced, so nothing was sent");
    }
    let height = found.wal.height();
    if again {
        let wal = WalFile::create(&path, identity, height.max(decided_height + 1))?;
        let entries = if height > decided_height { found.entries } else { Vec::new() };
        let mut wal = wal;
        for entry in &entries {
            wal.append(entry)?;
        }
        wal.flush()?;
        return Ok(MayVote::Yes(Box::new(Recovered { wal, entries, original: true, torn_bytes: 0 })));
    }
    if height == 0 && decided_height == 0 {
        let found = Box::new(found);
        return Ok(if found.original { MayVote::Yes(found) } else { MayVote::IfChainIsFresh(found) });
    }
    if !found.original {
        return Ok(MayVote::No { reason: "the consensus log is a copy: this node was moved or restored".to_owned() });
    }
    // It is at the height after the last decided one, or that decision was its last act.
    let fits = height > 0 && (height == decided_height || height == decided_height + 1);
    if !fits {
        let reason = format!(
            "the consensus log is at height {height} but the block file ends at {decided_height}: one of them was restored or lost"
        );
        return Ok(MayVote::No { reason });
    }
    Ok(MayVote::Yes(Box::new(found)))
}

fn take_vote_again(folder: &Path, identity: Identity) -> Result<bool, WalError> {
    let path = folder.join(VOTE_AGAIN_FILE);
    let Ok(content) = std::fs::read_to_string(&path) else { return Ok(false) };
    if content.trim() != identity.chain_id.to_string() {
        let found = format!("chain {}", content.trim());
        return Err(WalError::Foreign { path, found, expected: identity.to_string() });
    }
    std::fs::remove_file(&path).map_err(|source| WalError::Io { path: path.clone(), source })?;
    tracing::warn!(path = %path.display(), "the operator lets this node vote without an intact log of its own");
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anji_contracts::types::Hash32;

    fn identity() -> Identity {
        Identity { chain_id: ChainId(Hash32([1; 32])), validator: Address([2; 20]) }
    }

    fn may_vote(folder: &Path, decided_height: u64) -> Result<u64, String> {
        match check(folder, identity(), decided_height).expect("readable") {
            MayVote::Yes(found) => Ok(found.wal.height()),
            MayVote::IfChainIsFresh(_) => Err("asks".to_owned()),
            MayVote::No { reason } => Err(reason),
        }
    }

    fn at_height(folder: &Path, height: u64) {
        let mut wal = WalFile::create(&folder.join(WAL_FILE), identity(), 0).expect("made");
        wal.start_height(height).expect("started");
        wal.append(b"entry").expect("appended");
        wal.flush().expect("flushed");
    }

    #[test]
    fn a_fresh_node_votes_a_wiped_one_does_not() {
        let folder = tempfile::tempdir().expect("folder");
        assert!(may_vote(folder.path(), 0).expect_err("wiped").contains("wiped"));
        assert!(may_vote(folder.path(), 9).is_err());
        init_folder(folder.path(), identity()).expect("made");
        assert_eq!(may_vote(folder.path(), 0), Ok(0));
        assert!(
            matches!(init_folder(folder.path(), identity()), Err(WalError::Exists { .. })),
            "never over an existing one"
        );
        assert!(may_vote(folder.path(), 9).is_err(), "a fresh log beside blocks is no log of this node's votes");
        let deployed = tempfile::tempdir().expect("folder");
        std::fs::copy(folder.path().join(WAL_FILE), deployed.path().join(WAL_FILE)).expect("copied");
        assert_eq!(may_vote(deployed.path(), 0), Err("asks".to_owned()), "folders may be prepared elsewhere");
    }

    #[test]
    fn the_log_must_fit_the_block_file() {
        let folder = tempfile::tempdir().expect("folder");
        at_height(folder.path(), 7);
        assert_eq!(may_vote(folder.path(), 6), Ok(7), "stopped within height 7");
        assert_eq!(may_vote(folder.path(), 7), Ok(7), "stopped after deciding height 7");
        assert!(may_vote(folder.path(), 8).expect_err("old log").contains("restored"));
        assert!(may_vote(folder.path(), 5).expect_err("old blocks").contains("lost"));
    }

    #[test]
    fn a_restored_copy_follows_until_the_operator_says_otherwise() {
        let folder = tempfile::tempdir().expect("folder");
        at_height(folder.path(), 7);
        let restored = tempfile::tempdir().expect("folder");
        std::fs::copy(folder.path().join(WAL_FILE), restored.path().join(WAL_FILE)).expect("copied");
        assert!(may_vote(restored.path(), 6).expect_err("copy").contains("copy"));
        let flag = restored.path().join(VOTE_AGAIN_FILE);
        std::fs::write(&flag, "another chain").expect("written");
        assert!(check(restored.path(), identity(), 6).is_err());
        std::fs::write(&flag, format!("{}\n", identity().chain_id)).expect("written");
        match check(restored.path(), identity(), 6).expect("readable") {
            MayVote::Yes(found) => {
                assert_eq!(found.entries, [b"entry".to_vec()], "what it knows it has signed is kept")
            }
            other => panic!("{other:?}"),
        }
        assert!(!flag.exists(), "once only");
        assert_eq!(may_vote(restored.path(), 6), Ok(7));
    }
}
