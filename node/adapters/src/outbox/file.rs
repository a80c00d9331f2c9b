//! The outbox on disk: `outbox-NNNNNNNN.log` in the adapter's data folder. One file is appended to; compaction writes what is still
//! needed into the next one and removes the older. One thread owns the file; every append is synced before it is acknowledged.

use super::OutboxError;
use super::record::{Found, Record, read};
use anji_contracts::types::{ChainId, ParticipantId};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 16] = b"anji outbox v1\n\0";
/// Magic, chain id, participant.
const FILE_HEAD_BYTES: usize = 16 + 32 + 4;

/// The open file. The folder stays locked until it is dropped.
#[derive(Debug)]
pub(crate) struct OutboxFile {
    dir: PathBuf,
    head: Vec<u8>,
    number: u32,
    file: File,
    /// Everything before this is synced.
    length: u64,
    _lock: File,
}

fn path_of(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("outbox-{number:08}.log"))
}

fn io(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> OutboxError {
    let path = path.to_path_buf();
    move |source| OutboxError::Io { path, what, source }
}

fn sync_dir(dir: &Path) -> Result<(), OutboxError> {
    File::open(dir).and_then(|it| it.sync_all()).map_err(io(dir, "cannot sync the folder"))
}

impl OutboxFile {
    /// Opens the outbox in `dir`, or makes it, and hands every record to `on_record` in order. An incomplete last record is cut off.
    pub(crate) fn open(
        dir: &Path,
        chain: ChainId,
        participant: ParticipantId,
        mut on_record: impl FnMut(Record),
    ) -> Result<Self, OutboxError> {
        std::fs::create_dir_all(dir).map_err(io(dir, "cannot make the folder"))?;
        let lock_path = dir.join("LOCK");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(io(&lock_path, "cannot open"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(OutboxError::Locked(dir.to_path_buf())),
            Err(std::fs::TryLockError::Error(error)) => return Err(io(&lock_path, "cannot lock")(error)),
        }
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&chain.0.0);
        head.extend_from_slice(&participant.0.to_le_bytes());

        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(io(dir, "cannot list"))? {
            let path = entry.map_err(io(dir, "cannot list"))?.path();
            let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
            if name.ends_with(".tmp") {
                // A compaction that was never finished; the older file still has everything.
                std::fs::remove_file(&path).map_err(io(&path, "cannot remove"))?;
            } else if let Some(number) = name.strip_prefix("outbox-").and_then(|it| it.strip_suffix(".log")) {
                let number = number.parse().map_err(|_| OutboxError::Damaged {
                    path: path.clone(),
                    offset: 0,
                    what: "not a name that is ever given",
                })?;
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        let Some((&last, older)) = numbers.split_last() else {
            let (file, length) = create(dir, 1, &head, &[])?;
            return Ok(Self { dir: dir.to_path_buf(), head, number: 1, file, length, _lock: lock });
        };
        for &number in older {
            let (_, torn) = scan(&path_of(dir, number), &head, &mut on_record)?;
            if let Some(offset) = torn {
                let path = path_of(dir, number);
                return Err(OutboxError::Damaged {
                    path,
                    offset,
                    what: "ends in the middle of a record, with a newer file beside it",
                });
            }
        }
        let path = path_of(dir, last);
        let (length, torn) = scan(&path, &head, &mut on_record)?;
        let mut file = OpenOptions::new().write(true).open(&path).map_err(io(&path, "cannot open"))?;
        if let Some(offset) = torn {
            tracing::warn!(file = %path.display(), offset, "the last record was not finished before a crash; it is cut off");
            file.set_len(length).map_err(io(&path, "cannot cut off the unfinished record"))?;
            file.sync_all().map_err(io(&path, "cannot sync"))?;
        }
        if length < FILE_HEAD_BYTES as u64 {
            // The crash came before the head was written: nothing was ever in this file.
            file.set_len(0).map_err(io(&path, "cannot cut"))?;
            file.write_all(&head).map_err(io(&path, "cannot write"))?;
            file.sync_all().map_err(io(&path, "cannot sync"))?;
        }
        let length = file.seek(SeekFrom::End(0)).map_err(io(&path, "cannot seek"))?;
        let opened = Self { dir: dir.to_path_buf(), head, number: last, file, length, _lock: lock };
        for &number in older {
            // A compaction that was finished but for the removal.
            let path = path_of(dir, number);
            std::fs::remove_file(&path).map_err(io(&path, "cannot remove"))?;
        }
        Ok(opened)
    }

    /// Bytes in the file.
    pub(crate) const fn len(&self) -> u64 {
        self.length
    }

    /// Appends encoded records and syncs them. On an error the file is as before, unless the error says that it is lost.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), OutboxError> {
        let path = path_of(&self.dir, self.number);
        if let Err(source) = self.file.write_all(bytes) {
            // Take back what may have been written, so that the next append starts at the end of a record.
            let back = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
            return Err(match back {
                Ok(_) => OutboxError::Io { path, what: "cannot write", source },
                Err(source) => OutboxError::Lost { path, source },
            });
        }
        // After a failed sync nobody knows what is on the disk: stop rather than guess.
        self.file.sync_data().map_err(|source| OutboxError::Lost { path, source })?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Starts the next file with `bytes`, which hold everything still needed, and removes this one.
    pub(crate) fn compact(&mut self, bytes: &[u8]) -> Result<(), OutboxError> {
        let number = self.number + 1;
        let (file, length) = create(&self.dir, number, &self.head, bytes)?;
        let old = path_of(&self.dir, self.number);
        self.file = file;
        self.number = number;
        self.length = length;
        std::fs::remove_file(&old).map_err(io(&old, "cannot remove"))
    }
}

/// A new, synced file that holds `bytes`, open for appending.
fn create(dir: &Path, number: u32, head: &[u8], bytes: &[u8]) -> Result<(File, u64), OutboxError> {
    let path = path_of(dir, number);
    let part = path.with_extension("tmp");
    let write = || -> std::io::Result<File> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(head)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, &path)?;
        Ok(file)
    };
    let file = write().map_err(io(&path, "cannot write"))?;
    sync_dir(dir)?;
    Ok((file, (head.len() + bytes.len()) as u64))
}

/// Reads a file; the length of its whole records, and where an unfinished one starts.
fn scan(path: &Path, head: &[u8], on_record: &mut impl FnMut(Record)) -> Result<(u64, Option<u64>), OutboxError> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut it| it.read_to_end(&mut bytes)).map_err(io(path, "cannot read"))?;
    let Some((found, mut rest)) = bytes.split_at_checked(FILE_HEAD_BYTES) else {
        let fits = head.starts_with(&bytes) || bytes.iter().all(|byte| *byte == 0);
        return if fits {
            Ok((0, Some(0)))
        } else {
            Err(OutboxError::Damaged { path: path.to_path_buf(), offset: 0, what: "not an outbox file" })
        };
    };
    if found != head {
        let what = if found.starts_with(MAGIC) { "" } else { "not an outbox file of this version" };
        return Err(if what.is_empty() {
            OutboxError::Foreign { path: path.to_path_buf() }
        } else {
            OutboxError::Damaged { path: path.to_path_buf(), offset: 0, what }
        });
    }
    let mut offset = FILE_HEAD_BYTES as u64;
    while !rest.is_empty() {
        match read(rest) {
            Found::Record(record, length) => {
                on_record(*record);
                offset += length as u64;
                rest = rest.get(length..).unwrap_or_default();
            }
            Found::Torn => return Ok((offset, Some(offset))),
            Found::Damaged(what) => return Err(OutboxError::Damaged { path: path.to_path_buf(), offset, what }),
        }
    }
    Ok((offset, None))
}
