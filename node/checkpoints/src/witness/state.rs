//! What a witness remembers: per log the last checkpoint it cosigned, each in a file of its own that is on disk before the cosignature
//! leaves; and what logs showed that cannot be.

use anji_verify::checkpoint::parse_signed_checkpoint;
use anji_verify::note::SignedNote;
use anji_verify::{LogRoot, LogTree};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Pieces of evidence kept; more of the same proves nothing more.
const MAX_EVIDENCE: usize = 100;

/// Why a witness cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The folder or a file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file does not hold the checkpoint of its log. Without it the witness could cosign a fork.
    #[error("{} is damaged\n  way out: restore it from a backup that is not older than the last cosignature; never delete it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Another process has the folder.
    #[error("{} is in use by another witness", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A name or key in the configuration.
    #[error("{0}")]
    Config(String),
}

/// The folder, held by this process.
#[derive(Debug)]
pub(crate) struct StateFolder {
    dir: PathBuf,
    _lock: File,
}

impl StateFolder {
    pub(crate) fn open(dir: &Path) -> Result<Self, WitnessError> {
        let io = |source| WitnessError::Io { path: dir.to_owned(), source };
        fs::create_dir_all(dir.join("evidence")).map_err(io)?;
        let lock = File::options().create(true).truncate(false).write(true).open(dir.join("LOCK")).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(WitnessError::Locked { path: dir.to_owned() }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    fn path(&self, origin: &str) -> PathBuf {
        let name = anji_verify::log_tree::leaf_hash(origin.as_bytes()).to_string();
        self.dir.join(format!("{name}.checkpoint"))
    }

    /// The last checkpoint cosigned for a log; the empty log if there was none.
    pub(crate) fn load(&self, origin: &str) -> Result<LogRoot, WitnessError> {
        let path = self.path(origin);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LogTree::new().root()),
            Err(source) => return Err(WitnessError::Io { path, source }),
        };
        match parse_signed_checkpoint(&bytes) {
            Ok((_, checkpoint)) if checkpoint.origin == origin => Ok(checkpoint.log),
            _ => Err(WitnessError::Damaged { path }),
        }
    }

    /// Remembers a checkpoint; on disk when it returns.
    pub(crate) fn save(&self, origin: &str, note: &SignedNote) -> io::Result<()> {
        let path = self.path(origin);
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(note.to_string().as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(&self.dir)?.sync_all()
    }

    /// Keeps what a log showed beside what it had shown before. A full folder keeps what it has.
    pub(crate) fn keep_evidence(&self, origin: &str, submitted: &[u8]) -> io::Result<()> {
        let folder = self.dir.join("evidence");
        let n_kept = fs::read_dir(&folder)?.count();
        if n_kept >= MAX_EVIDENCE {
            return Ok(());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let before = fs::read(self.path(origin)).unwrap_or_default();
        let mut file = File::create_new(folder.join(format!("{now}-{n_kept}.txt")))?;
        file.write_all(b"cosigned before:\n\n")?;
        file.write_all(&before)?;
        file.write_all(b"\nsubmitted, not cosigned:\n\n")?;
        file.write_all(submitted)?;
        file.sync_all()
    }
}
