//! The file: 16-byte headers, payloads padded to 16 bytes, zeros after the last record.
//!
//! | bytes | record header |
//! |---|---|
//! | 4 | length of the payload |
//! | 1 | kind: 1 identity (first record), 2 height, 3 entry of the last height |
//! | 3 | zero |
//! | 4 | CRC-32C of the payload |
//! | 4 | CRC-32C of the 12 bytes before and of the previous record's header CRC |
//!
//! The file is filled with zeros when it is made, so an append changes no metadata and one `fdatasync` is enough; and a torn record, which
//! only a power cut can leave, shows as a whole sector of zeros where data should be. Anything else that does not fit is damage, and
//! damage is never cut off. When the file is nearly full, the next height starts a new one, renamed over the old.

use crate::error::WalError;
use crate::wal::Identity;
use anji_contracts::codec;
use anji_storage::FileBirth;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;
const HEADER: usize = 16;
const SECTOR: usize = 512;
/// Zeros ahead of the log; a new file is begun at the first height past three quarters of it.
const FILE_BYTES: u64 = 8 << 20;
/// A height that lasts for days makes the file grow; weeks of rounds are less than this.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// No entry of the engine is near this: a certificate of 256 signatures is 22 KiB.
const MAX_PAYLOAD: usize = 256 << 10;

const KIND_IDENTITY: u8 = 1;
const KIND_HEIGHT: u8 = 2;
const KIND_ENTRY: u8 = 3;

/// The open log. Records are collected in memory until [`Self::flush`]; nothing is sent before that.
#[derive(Debug)]
pub(crate) struct WalFile {
    path: PathBuf,
    file: File,
    /// Where the next flush writes.
    offset: u64,
    /// The newest header CRC: chains the records.
    chain: u32,
    pending: Vec<u8>,
    identity: Identity,
    height: u64,
}

/// What an existing log says.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// The log, ready for appending.
    pub(crate) wal: WalFile,
    /// Entries of its last height, in order.
    pub(crate) entries: Vec<Vec<u8>>,
    /// Whether the file is the very one that was made for it, not a copy.
    pub(crate) original: bool,
    /// Bytes of a torn record that were cut off.
    pub(crate) torn_bytes: usize,
}

/// First record.
#[derive(borsh::BorshSerialize, borsh::BorshDeserialize)]
struct IdentityRecord {
    version: u32,
    identity: Identity,
    /// The file it was made as: a copy is another one.
    made: FileBirth,
}

impl WalFile {
    /// Makes a new log at `path`, over an existing one, at `height` without entries. On disk when it returns.
    pub(crate) fn create(path: &Path, identity: Identity, height: u64) -> Result<Self, WalError> {
        let new_path = path.with_extension("new");
        let io = |source| WalError::Io { path: new_path.clone(), source };
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).read(true).write(true).mode(0o600);
        let file = options.open(&new_path).map_err(io)?;
        let zeros = vec![0; 1 << 20];
        for at in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, at).map_err(io)?;
        }
        let made = FileBirth::of(&file.metadata().map_err(io)?);
        let mut wal = Self { path: path.to_owned(), file, offset: 0, chain: 0, pending: Vec::new(), identity, height };
        wal.push(KIND_IDENTITY, &codec::encode(&IdentityRecord { version: VERSION, identity, made }));
        wal.push(KIND_HEIGHT, &height.to_le_bytes());
        wal.flush()?;
        wal.file.sync_all().map_err(io)?;
        std::fs::rename(&new_path, path).map_err(io)?;
        sync_folder(path).map_err(io)?;
        Ok(wal)
    }

    /// Opens the log at `path`; `None` if there is none.
    pub(crate) fn open(path: &Path, identity: Identity) -> Result<Option<Recovered>, WalError> {
        let io = |source| WalError::Io { path: path.to_owned(), source };
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io(source)),
        };
        let damaged = |offset: usize, what: &str| WalError::Damaged {
            path: path.to_owned(),
            offset: offset as u64,
            what: what.to_owned(),
        };
        let metadata = file.metadata().map_err(io)?;
        if metadata.len() > MAX_FILE_BYTES {
            return Err(damaged(0, "it is larger than any log"));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let made = FileBirth::of(&metadata);

        let scan = scan(&bytes).map_err(|(offset, what)| damaged(offset, &what))?;
        let mut records = scan.records.iter();
        let found = match records.next() {
            Some((offset, KIND_IDENTITY, payload)) => codec::decode::<IdentityRecord>(&bytes[payload.clone()])
                .map_err(|_| damaged(*offset, "its identity"))?,
            _ => return Err(damaged(0, "it does not begin with an identity")),
        };
        if found.version != VERSION {
            let found = format!("format {}", found.version);
            return Err(WalError::Foreign { path: path.to_owned(), found, expected: format!("format {VERSION}") });
        }
        if found.identity != identity {
            let (found, expected) = (found.identity.to_string(), identity.to_string());
            return Err(WalError::Foreign { path: path.to_owned(), found, expected });
        }

        let mut height = None;
        let mut entries = Vec::new();
        for (offset, kind, payload) in records {
            let payload = &bytes[payload.clone()];
            match *kind {
                KIND_HEIGHT => {
                    let payload = payload.try_into().map_err(|_| damaged(*offset, "a height of wrong length"))?;
                    height = Some(u64::from_le_bytes(payload));
                    entries.clear();
                }
                KIND_ENTRY => entries.push(payload.to_vec()),
                _ => return Err(damaged(*offset, "a record of unknown kind")),
            }
        }
        let height = height.ok_or_else(|| damaged(scan.end, "it has no height"))?;
        if scan.torn_bytes > 0 {
            // Zeros again, so that what follows is as if the record had never been begun.
            file.write_all_at(&vec![0; bytes.len() - scan.end], scan.end as u64).map_err(io)?;
            file.sync_data().map_err(io)?;
        }
        let wal = Self {
            path: path.to_owned(),
            file,
            offset: scan.end as u64,
            chain: scan.chain,
            pending: Vec::new(),
            identity,
            height,
        };
        let original = found.made == made;
        Ok(Some(Recovered { wal, entries, original, torn_bytes: scan.torn_bytes }))
    }

    pub(crate) fn height(&self) -> u64 {
        self.height
    }

    /// Begins a height: entries of earlier ones are of no use any more.
    pub(crate) fn start_height(&mut self, height: u64) -> Result<(), WalError> {
        self.height = height;
        if self.offset + self.pending.len() as u64 > FILE_BYTES / 4 * 3 {
            // What is pending belongs to the height before.
            let (path, identity) = (self.path.clone(), self.identity);
            *self = Self::create(&path, identity, height)?;
        } else {
            self.push(KIND_HEIGHT, &height.to_le_bytes());
        }
        Ok(())
    }

    /// Adds an entry of the height; on disk with the next [`Self::flush`].
    pub(crate) fn append(&mut self, entry: &[u8]) -> Result<(), WalError> {
        if entry.len() > MAX_PAYLOAD {
            let source = io::Error::other(format!("an entry of {} bytes", entry.len()));
            return Err(WalError::Io { path: self.path.clone(), source });
        }
        self.push(KIND_ENTRY, entry);
        Ok(())
    }

    /// Bytes that are not on disk yet.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Writes and syncs what is pending. After an error nothing more may be signed in this process.
    pub(crate) fn flush(&mut self) -> Result<(), WalError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let io = |source| WalError::Io { path: self.path.clone(), source };
        self.file.write_all_at(&self.pending, self.offset).map_err(io)?;
        self.file.sync_data().map_err(io)?;
        self.offset += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    fn push(&mut self, kind: u8, payload: &[u8]) {
        let header = header(kind, payload, self.chain);
        self.chain = header_crc(&header);
        self.pending.extend_from_slice(&header);
        self.pending.extend_from_slice(payload);
        self.pending.resize(self.pending.len().next_multiple_of(HEADER), 0);
    }
}

fn header(kind: u8, payload: &[u8], chain: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let length = u32::try_from(payload.len()).expect("entries are bounded");
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4] = kind;
    header[8..12].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    let crc = crc32c::crc32c_append(chain, &header[..12]);
    header[12..].copy_from_slice(&crc.to_le_bytes());
    header
}

fn header_crc(header: &[u8; HEADER]) -> u32 {
    u32::from_le_bytes([header[12], header[13], header[14], header[15]])
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

struct Scan {
    /// Offset, kind and place of the payload.
    records: Vec<(usize, u8, std::ops::Range<usize>)>,
    end: usize,
    chain: u32,
    torn_bytes: usize,
}

/// Reads all records; `Err` is where it is damaged and how.
fn scan(bytes: &[u8]) -> Result<Scan, (usize, String)> {
    let mut scan = Scan { records: Vec::new(), end: 0, chain: 0, torn_bytes: 0 };
    while let Some(header) = bytes.get(scan.end..).and_then(|rest| rest.first_chunk::<HEADER>()) {
        let at = scan.end;
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        if crc32c::crc32c_append(scan.chain, &header[..12]) != header_crc(header) {
            return Err((at, "the header of a record does not fit its checksum".to_owned()));
        }
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let place = at + HEADER..at + HEADER + length;
        let crc = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        let payload = bytes.get(place.clone());
        if payload.is_none_or(|payload| crc32c::crc32c(payload) != crc) {
            if is_torn(bytes, &place) {
                scan.torn_bytes = HEADER + length;
                break;
            }
            return Err((at, "a record does not fit its checksum".to_owned()));
        }
        scan.records.push((at, header[4], place.clone()));
        scan.chain = header_crc(header);
        scan.end = place.end.next_multiple_of(HEADER);
    }
    // After the last record there is nothing but zeros; of a torn one, whatever sectors of it arrived.
    let rest = (scan.end + scan.torn_bytes).next_multiple_of(SECTOR);
    match bytes.get(rest.min(bytes.len())..).and_then(|rest| rest.iter().position(|byte| *byte != 0)) {
        Some(at) => Err((rest + at, "data after the end of the log".to_owned())),
        None if scan.torn_bytes == 0 => {
            let tail = &bytes[scan.end.min(bytes.len())..rest.min(bytes.len())];
            match tail.iter().position(|byte| *byte != 0) {
                Some(at) => Err((scan.end + at, "data after the end of the log".to_owned())),
                None => Ok(scan),
            }
        }
        None => Ok(scan),
    }
}

/// Whether a sector of the payload never arrived: disks write sectors whole, and the file was zeros before.
fn is_torn(bytes: &[u8], place: &std::ops::Range<usize>) -> bool {
    let mut start = place.start;
    while start < place.end {
        let end = ((start / SECTOR + 1) * SECTOR).min(place.end);
        match bytes.get(start..end) {
            None => return true,
            Some(part) if end - start >= HEADER && part.iter().all(|byte| *byte == 0) => return true,
            Some(_) => start = end,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use anji_contracts::types::{ChainId, Hash32};
    use anji_verify::Address;

    fn identity() -> Identity {
        Identity { chain_id: ChainId(Hash32([1; 32])), validator: Address([2; 20]) }
    }

    fn entry(i: u8) -> Vec<u8> {
        (0..180).map(|at| i.wrapping_add(at) | 1).collect()
    }

    fn written(folder: &Path) -> PathBuf {
        let path = folder.join("wal");
        let mut wal = WalFile::create(&path, identity(), 0).expect("made");
        wal.start_height(1).expect("started");
        wal.append(&entry(1)).expect("appended");
        wal.start_height(2).expect("started");
        for i in 0..9 {
            wal.append(&entry(i)).expect("appended");
        }
        wal.flush().expect("flushed");
        path
    }

    fn open(path: &Path) -> Result<Recovered, WalError> {
        WalFile::open(path, identity()).map(|found| found.expect("there"))
    }

    #[test]
    fn the_last_height_comes_back_and_can_go_on() {
        let folder = tempfile::tempdir().expect("folder");
        let path = written(folder.path());
        let mut found = open(&path).expect("good");
        assert!(found.original);
        assert_eq!((found.wal.height(), found.torn_bytes), (2, 0));
        assert_eq!(found.entries, (0..9).map(entry).collect::<Vec<_>>());
        found.wal.append(&entry(50)).expect("appended");
        found.wal.flush().expect("flushed");
        assert_eq!(open(&path).expect("good").entries.len(), 10);
        assert!(WalFile::open(&folder.path().join("none"), identity()).expect("no error").is_none());
    }

    #[test]
    fn what_was_not_flushed_is_gone() {
        let folder = tempfile::tempdir().expect("folder");
        let path = written(folder.path());
        let mut found = open(&path).expect("good");
        found.wal.append(&entry(50)).expect("appended");
        assert!(found.wal.pending_bytes() > 0);
        drop(found);
        assert_eq!(open(&path).expect("good").entries.len(), 9);
    }

    #[test]
    fn every_flipped_byte_of_the_log_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        let path = written(folder.path());
        let good = std::fs::read(&path).expect("read");
        let end = scan(&good).map_err(|(_, what)| what).expect("good").end;
        for at in (0..end + 64).step_by(3).chain([end - 1, 5 << 20]) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            // A byte of the padding is nobody's; everything else must be found.
            match scan(&bad) {
                Err((offset, _)) => assert!(offset <= at, "{at}: named {offset}"),
                Ok(found) => {
                    let in_padding = found.records.iter().all(|(start, _, place)| !(*start..place.end).contains(&at));
                    assert!(in_padding && at < end, "flip at {at} was not noticed");
                }
            }
        }
        let mut bad = good;
        bad[40] ^= 1;
        std::fs::write(&path, &bad).expect("write");
        let error = open(&path).expect_err("damaged").to_string();
        assert!(error.contains("damaged at byte") && error.contains("without voting"), "{error}");
    }

    #[test]
    fn a_torn_record_is_cut_off_and_only_that_one() {
        let folder = tempfile::tempdir().expect("folder");
        let path = written(folder.path());
        let mut found = open(&path).expect("good");
        let before = found.wal.offset;
        found.wal.append(&vec![7; 2000]).expect("appended");
        found.wal.flush().expect("flushed");
        drop(found);
        let mut bytes = std::fs::read(&path).expect("read");
        // The second sector of the record never arrived.
        let second = (usize::try_from(before).expect("small") / SECTOR + 1) * SECTOR;
        bytes[second..second + SECTOR].fill(0);
        std::fs::write(&path, &bytes).expect("write");
        let found = open(&path).expect("torn is no damage");
        assert!(found.torn_bytes > 0);
        assert_eq!(found.entries.len(), 9);
        drop(found);
        let found = open(&path).expect("clean now");
        assert_eq!((found.torn_bytes, found.entries.len()), (0, 9));
    }

    #[test]
    fn a_copy_a_foreign_log_and_an_empty_file_are_told_apart() {
        let folder = tempfile::tempdir().expect("folder");
        let path = written(folder.path());
        let copy = folder.path().join("copy");
        std::fs::copy(&path, &copy).expect("copied");
        assert!(!open(&copy).expect("readable").original);
        let content = std::fs::read(&path).expect("readable");
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, content).expect("restored, perhaps under the same number");
        assert!(!open(&path).expect("readable").original);
        let other = Identity { validator: Address([3; 20]), ..identity() };
        assert!(matches!(WalFile::open(&path, other), Err(WalError::Foreign { .. })));
        let empty = folder.path().join("empty");
        std::fs::write(&empty, []).expect("written");
        assert!(matches!(open(&empty), Err(WalError::Damaged { .. })));
    }

    #[test]
    fn a_height_that_outgrows_the_file_loses_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let path = written(folder.path());
        let mut wal = open(&path).expect("good").wal;
        wal.start_height(3).expect("started");
        for _ in 0..400 {
            wal.append(&vec![1; 100_000]).expect("appended");
            wal.flush().expect("flushed");
        }
        assert!(wal.offset > 4 * FILE_BYTES);
        drop(wal);
        let found = open(&path).expect("good");
        assert_eq!((found.wal.height(), found.entries.len(), found.torn_bytes), (3, 400, 0));
    }

    #[test]
    fn a_full_file_is_replaced_at_a_height() {
        let folder = tempfile::tempdir().expect("folder");
        let path = written(folder.path());
        let mut wal = open(&path).expect("good").wal;
        for height in 3..200 {
            wal.start_height(height).expect("started");
            wal.append(&vec![1; 100_000]).expect("appended");
            wal.flush().expect("flushed");
            assert!(wal.offset <= FILE_BYTES);
        }
        drop(wal);
        let found = open(&path).expect("good");
        assert_eq!((found.wal.height(), found.entries.len(), found.original), (199, 1, true));
    }
}
