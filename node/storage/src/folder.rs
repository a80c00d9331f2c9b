//! The data folder itself: `STORE` names format and chain, `LOCK` keeps a second process out.
//! Layout: `STORE`, `LOCK`, `blocks/` (see [`crate::blocks`]), `state/` (RocksDB, with `state/SUMS`, see [`crate::sums`]).

use crate::FORMAT_VERSION;
use crate::error::OpenError;
use anji_contracts::types::{ChainId, Hash32};
use borsh::{BorshDeserialize, BorshSerialize};
use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Way out where only this node's own files are damaged.
pub(crate) const RESTORE: &str =
    "restore the data folder from a backup, or move it away and let the node catch up as a follower";
/// Way out where only derived files are damaged.
pub(crate) const REBUILD: &str =
    "stop the node, delete the folder `state` and start again: the state is rebuilt from the block file";

/// Held as long as anything of the folder is open.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

pub(crate) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> OpenError + '_ {
    move |source| OpenError::Io { path: path.to_path_buf(), source }
}

/// What no copy of a file has in common with its original: number and time of birth in the file system. A number alone is given again soon
/// after a file is deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct FileBirth {
    /// Its number.
    pub inode: u64,
    /// Nanoseconds since 1970; 0 where the file system keeps no such time.
    pub born_ns: u64,
}

impl FileBirth {
    /// Of the file with this metadata.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        Self { inode: metadata.ino(), born_ns: u64::try_from(born.as_nanos()).unwrap_or(u64::MAX) }
    }
}

/// Makes a directory's entries durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Writes a file so that it is there as a whole or not at all.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Takes the folder for this process.
pub(crate) fn lock(dir: &Path) -> Result<FolderLock, OpenError> {
    let path = dir.join("LOCK");
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(io_error(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            let holder = holder.trim().parse::<u32>().map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            return Err(OpenError::Locked { path, holder });
        }
        Err(TryLockError::Error(source)) => return Err(OpenError::Io { path, source }),
    }
    // The process id is for people only, so a failure to write it is no reason to stop.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(FolderLock { _file: file })
}

fn render(version: u32, chain: &ChainId) -> Vec<u8> {
    let mut text = format!("anji store\nformat {version}\nchain {chain}\n");
    let sum = crc32c::crc32c(text.as_bytes());
    text.push_str(&format!("crc32c {sum:08x}\n"));
    text.into_bytes()
}

fn parse(text: &str) -> Option<(u32, ChainId)> {
    let mut lines = text.lines().skip(1);
    let version = lines.next()?.strip_prefix("format ")?.parse().ok()?;
    let hex = lines.next()?.strip_prefix("chain ")?;
    let mut hash = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (place, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(place * 2..place * 2 + 2)?, 16).ok()?;
    }
    Some((version, ChainId(Hash32(hash))))
}

/// Reads `STORE`; `None` if the folder has none.
pub(crate) fn load_store_file(dir: &Path) -> Result<Option<ChainId>, OpenError> {
    let path = dir.join("STORE");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::Io { path, source }),
    };
    let parsed = std::str::from_utf8(&bytes).ok().and_then(parse);
    // Rendered again it must be the same bytes, so that no flipped bit passes, not even in the checksum's own letters.
    let Some((version, chain)) = parsed.filter(|(version, chain)| render(*version, chain) == bytes) else {
        return Err(OpenError::Corrupted {
            path,
            offset: None,
            what: "it is not what was written".into(),
            way_out: RESTORE,
        });
    };
    if version != FORMAT_VERSION {
        return Err(OpenError::WrongVersion { path: dir.to_path_buf(), found: version, expected: FORMAT_VERSION });
    }
    Ok(Some(chain))
}

/// Writes `STORE` into an empty folder.
pub(crate) fn write_store_file(dir: &Path, chain: &ChainId) -> Result<(), OpenError> {
    let path = dir.join("STORE");
    write_atomically(&path, &render(FORMAT_VERSION, chain)).map_err(io_error(&path))
}

/// Whether a folder holds any file or folder but the ones named.
pub(crate) fn is_empty_dir(dir: &Path) -> bool {
    fs::read_dir(dir).map(|mut entries| entries.next().is_none()).unwrap_or(true)
}
