//! What validators of this ledger signed that cannot stand side by side: one file of records, each synced before it is told, so that no
//! crash loses a proof. A record is u32 length, u32 CRC-32C (both little-endian), and the borsh bytes of an [`Equivocation`].

use crate::error::CheckpointsError;
use anji_contracts::codec;
use anji_verify::equivocation::Equivocation;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The file's place in the data folder.
pub const EQUIVOCATIONS_FILE: &str = "evidence/equivocations";

/// Records kept; a validator that signs so much twice needs no more proof.
const MAX_RECORDS: usize = 10_000;
/// A record is a few hundred bytes.
const MAX_RECORD_BYTES: usize = 4096;

/// The open file. Clones share it.
#[derive(Clone, Debug)]
pub struct Equivocations(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    file: File,
    /// What is on disk.
    size_bytes: u64,
    all: Vec<Equivocation>,
    subjects: BTreeSet<String>,
}

fn subject(it: &Equivocation) -> String {
    format!("{} {}", it.validator(), it.subject())
}

impl Equivocations {
    /// Opens the file in a data folder, or makes it. A torn record at its end is cut off. Blocks on the disk.
    ///
    /// # Errors
    /// The system refuses.
    pub fn open(data_dir: &Path) -> Result<Self, CheckpointsError> {
        let path = data_dir.join(EQUIVOCATIONS_FILE);
        let io = |source| CheckpointsError::Io { path: path.clone(), source };
        let folder = path.parent().unwrap_or(data_dir);
        fs::create_dir_all(folder).map_err(io)?;
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(io)?;
        let bytes = fs::read(&path).map_err(io)?;
        let (all, size_bytes) = scan(&bytes);
        if size_bytes < bytes.len() {
            tracing::warn!(path = %path.display(), cut = bytes.len() - size_bytes, "the end of the equivocation file was torn and is cut off");
            file.set_len(size_bytes as u64).map_err(io)?;
        }
        file.sync_all().and_then(|()| File::open(folder)?.sync_all()).map_err(io)?;
        let subjects = all.iter().map(subject).collect();
        Ok(Self(Arc::new(Mutex::new(Kept { path, file, size_bytes: size_bytes as u64, all, subjects }))))
    }

    /// Keeps an equivocation; on disk when it returns. One subject is kept once. Blocks on the disk.
    ///
    /// # Errors
    /// The system refuses.
    pub fn keep(&self, equivocation: &Equivocation) -> Result<(), CheckpointsError> {
        let mut kept = self.lock();
        let subject = subject(equivocation);
        if kept.all.len() >= MAX_RECORDS || kept.subjects.contains(&subject) {
            return Ok(());
        }
        let bytes = record(equivocation);
        let at = kept.size_bytes;
        let written = write_at(&mut kept.file, &bytes, at);
        written.map_err(|source| CheckpointsError::Io { path: kept.path.clone(), source })?;
        kept.size_bytes += bytes.len() as u64;
        tracing::error!(
            subject,
            "EQUIVOCATION: a validator signed two things that exclude each other; the proof is kept"
        );
        kept.all.push(equivocation.clone());
        kept.subjects.insert(subject);
        Ok(())
    }

    /// Everything kept, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Equivocation> {
        self.lock().all.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // A record is pushed only after it was written as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a data folder holds, without changing it. Blocks on the disk.
///
/// # Errors
/// The system refuses.
pub fn read_equivocations(data_dir: &Path) -> io::Result<Vec<Equivocation>> {
    match fs::read(data_dir.join(EQUIVOCATIONS_FILE)) {
        Ok(bytes) => Ok(scan(&bytes).0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn write_at(file: &mut File, bytes: &[u8], at: u64) -> io::Result<()> {
    io::Seek::seek(file, io::SeekFrom::Start(at))?;
    file.write_all(bytes)?;
    file.sync_data()
}

fn record(equivocation: &Equivocation) -> Vec<u8> {
    let body = codec::encode(equivocation);
    let mut bytes = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// The whole records, and where they end.
fn scan(bytes: &[u8]) -> (Vec<Equivocation>, usize) {
    let (mut all, mut at) = (Vec::new(), 0);
    while let Some((length, rest)) = bytes.get(at..).and_then(|it| it.split_first_chunk::<4>())
        && let Some((crc, rest)) = rest.split_first_chunk::<4>()
        && let Some(length) = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|it| *it <= MAX_RECORD_BYTES)
        && let Some(body) = rest.get(..length).filter(|body| crc32c::crc32c(body) == u32::from_le_bytes(*crc))
        && let Ok(equivocation) = codec::decode(body)
    {
        all.push(equivocation);
        at += 8 + length;
    }
    (all, at)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]
mod tests {
    use super::*;
    use anji_contracts::types::{ChainId, Hash32};
    use anji_verify::Address;
    use anji_verify::certificate::{VoteBody, VoteKind};
    use anji_verify::equivocation::Signed;

    fn equivocation(round: u32) -> Equivocation {
        let vote = |value| {
            let (chain_id, validator) = (ChainId(Hash32([1; 32])), Address([2; 20]));
            let value = Some(Hash32([value; 32]));
            let body = VoteBody { chain_id, kind: VoteKind::Prevote, height: 3, round, value, validator };
            Signed { body, signature: [value.map_or(0, |it| it.0[0]); 64] }
        };
        Equivocation::Votes(vote(1), vote(2))
    }

    #[test]
    fn what_is_kept_survives_and_one_subject_is_kept_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = Equivocations::open(folder.path()).unwrap();
        for round in [1, 2, 1, 1] {
            file.keep(&equivocation(round)).unwrap();
        }
        drop(file);
        let file = Equivocations::open(folder.path()).unwrap();
        file.keep(&equivocation(2)).unwrap();
        assert_eq!(file.all(), [equivocation(1), equivocation(2)]);
        assert_eq!(read_equivocations(folder.path()).unwrap(), file.all());
    }

    #[test]
    fn torn_at_any_byte_the_whole_records_before_it_are_kept_and_it_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = Equivocations::open(folder.path()).unwrap();
        file.keep(&equivocation(1)).unwrap();
        file.keep(&equivocation(2)).unwrap();
        drop(file);
        let path = folder.path().join(EQUIVOCATIONS_FILE);
        let bytes = fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            fs::write(&path, &bytes[..cut]).unwrap();
            let file = Equivocations::open(folder.path()).unwrap();
            let n_whole = cut / (bytes.len() / 2);
            assert_eq!(file.all().len(), n_whole, "cut at {cut}");
            file.keep(&equivocation(9)).unwrap();
            drop(file);
            assert_eq!(Equivocations::open(folder.path()).unwrap().all().len(), n_whole + 1, "cut at {cut}");
        }
    }
}
