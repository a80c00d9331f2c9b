//! Who may vote at start. The log is the only thing that keeps a validator from signing twice, so without an intact log of its own it
//! follows only (engine trap 11). `anji init` makes the log of a fresh node; a folder that was wiped has none, a folder that was copied or
//! restored has one that says so, and an old log does not fit the block file.

use crate::error::WalError;
use crate::wal::file::{Recovered, WalFile};
use anji_contracts::types::ChainId;
use anji_verify::Address;
use borsh::{BorshDeserialize, BorshSerialize};
use std::fmt;
use std::io::{self, Write};
use std::path::Path;

/// The log's name in the consensus folder.
pub const WAL_FILE: &str = "wal";
/// An operator who restores a whole network from backups makes this file, with the chain id in it: the node then votes again without an
/// intact log of its own. Nothing that was signed after the backup is remembered, so at least one third of the nodes must be known to
/// have signed nothing since. The file is removed when it was used.
pub const VOTE_AGAIN_FILE: &str = "vote-again";

/// Made before blocks are taken over past the engine, see `catch_up.rs`: the log then stays where it is while the block file grows. Holds
/// the height at which the log was left; without a fitting one, a block file far above the log means that the log was restored.
const CATCHING_UP_FILE: &str = "catching-up";

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
    let fits = |decided: u64| height == decided || height == decided + 1;
    let left_at = read_catch_up(folder, identity)?.filter(|left_at| fits(*left_at) && *left_at <= decided_height);
    if left_at.is_none() {
        // It is of an earlier time.
        end_catch_up(folder)?;
    }
    if (height == 0 || !fits(decided_height)) && left_at.is_none() {
        let reason = format!(
            "the consensus log is at height {height} but the block file ends at {decided_height}: one of them was restored or lost"
        );
        return Ok(MayVote::No { reason });
    }
    Ok(MayVote::Yes(Box::new(found)))
}

/// Notes that the log is at `decided` or the height after it and that blocks above are about to be taken over without a vote. What was noted
/// before holds: the log has not moved since.
///
/// # Errors
/// The system refused.
///
/// # Correctness
/// On disk when it returns. Only while the engine is between two heights, or not started.
pub(crate) fn note_catch_up(folder: &Path, identity: Identity, decided: u64) -> Result<(), WalError> {
    let path = folder.join(CATCHING_UP_FILE);
    let io = |source| WalError::Io { path: path.clone(), source };
    if read_catch_up(folder, identity)?.is_some() {
        return Ok(());
    }
    let mut bytes = anji_contracts::codec::encode(&(identity, decided));
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    let mut file = std::fs::File::create(&path).map_err(io)?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(io)?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}

/// The log has moved on: what [`note_catch_up`] noted is of no use any more.
///
/// # Errors
/// The system refused.
pub(crate) fn end_catch_up(folder: &Path) -> Result<(), WalError> {
    let path = folder.join(CATCHING_UP_FILE);
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(WalError::Io { path, source }),
        _ => Ok(()),
    }
}

/// What [`note_catch_up`] noted; `None` if there is nothing, or it is torn, and then nothing was taken over.
fn read_catch_up(folder: &Path, identity: Identity) -> Result<Option<u64>, WalError> {
    let path = folder.join(CATCHING_UP_FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(WalError::Io { path, source }),
    };
    let noted = bytes.split_last_chunk::<4>().filter(|(noted, crc)| crc32c::crc32c(noted).to_le_bytes() == **crc);
    let noted: Option<(Identity, u64)> = noted.and_then(|(noted, _)| anji_contracts::codec::decode(noted).ok());
    Ok(noted.filter(|(whose, _)| *whose == identity).map(|(_, decided)| decided))
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
    fn a_log_that_stood_still_while_blocks_were_taken_over_still_counts() {
        let folder = tempfile::tempdir().expect("folder");
        at_height(folder.path(), 7);
        note_catch_up(folder.path(), identity(), 6).expect("noted");
        note_catch_up(folder.path(), identity(), 300).expect("the first one holds");
        assert_eq!(may_vote(folder.path(), 500), Ok(7), "killed while catching up, even twice");
        assert_eq!(may_vote(folder.path(), 6), Ok(7), "nothing was taken over");
        assert!(may_vote(folder.path(), 5).expect_err("old blocks").contains("lost"));
        // The log has moved on, and then it is an old one again.
        note_catch_up(folder.path(), identity(), 6).expect("noted");
        at_height(folder.path(), 501);
        assert!(may_vote(folder.path(), 900).expect_err("old log").contains("restored"));
        assert!(!folder.path().join(CATCHING_UP_FILE).exists(), "what does not fit goes");
        // Torn or damaged, it says nothing.
        note_catch_up(folder.path(), identity(), 501).expect("noted");
        let path = folder.path().join(CATCHING_UP_FILE);
        let mut bytes = std::fs::read(&path).expect("there");
        for cut in [0, 3, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).expect("written");
            assert!(may_vote(folder.path(), 900).is_err(), "cut at {cut}");
        }
        bytes[5] ^= 1;
        std::fs::write(&path, &bytes).expect("written");
        assert!(may_vote(folder.path(), 900).is_err(), "flipped");
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
