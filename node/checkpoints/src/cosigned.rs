//! What this validator has signed: one file that is synced before every signature, so that no crash makes it sign two roots for one
//! size.
//!
//! | bytes | header, 512 bytes |
//! |---|---|
//! | 8 | `anjicosi` |
//! | 4 | version, 1 |
//! | 32 + 20 | chain id, validator's address |
//! | 8 | floor: heights up to this one are signed only as recorded below |
//! | 8 + 8 | inode and time of birth of the file: a copy has others |
//! | 4 | CRC-32C of all before |
//!
//! | bytes | record, 64 bytes |
//! |---|---|
//! | 8 + 8 + 32 | height, size, root |
//! | 4 | CRC-32C of the previous record's CRC (the header's for the first) and of the 48 bytes before |
//! | 12 | zero |
//!
//! Numbers are little-endian. The file is filled with zeros when it is made, so an append changes no metadata. A full one is replaced
//! by a new one with the newest records. A file that is missing, a copy, torn or damaged says nothing of what was signed; then nothing
//! is signed up to the last decided height: whatever was signed had been executed, and so decided, before.

use crate::error::CheckpointsError;
use anji_contracts::types::{ChainId, Hash32};
use anji_storage::FileBirth;
use anji_verify::{Address, LogRoot};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The file's name in the consensus folder.
pub const COSIGNED_FILE: &str = "cosigned";

const MAGIC: &[u8; 8] = b"anjicosi";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 512;
const HEADER_USED: usize = 8 + 4 + 32 + 20 + 8 + 8 + 8;
const RECORD_BYTES: usize = 64;
const RECORD_USED: usize = 8 + 8 + 32;
/// Records in a file: five minutes of 50 blocks a second.
const RECORDS: usize = 16_000;
/// Newest records that a new file takes over.
const CARRIED: usize = 1_000;

/// Whose signatures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) chain_id: ChainId,
    pub(crate) validator: Address,
}

/// One signed log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Signed {
    pub(crate) height: u64,
    pub(crate) log: LogRoot,
}

/// Whether a log may be signed, once [`Cosigned::sync`] has returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Permit {
    Sign,
    /// Too old to know whether something else was signed.
    Skip,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Cosigned {
    path: PathBuf,
    file: File,
    identity: Identity,
    floor: u64,
    records: Vec<Signed>,
    by_size: BTreeMap<u64, Hash32>,
    /// The newest record's CRC.
    chain: u32,
    /// Records that are on disk.
    n_synced: usize,
}

impl Cosigned {
    /// Opens the file, or makes one that signs nothing up to `decided_height`, the last decided one, which must be durable.
    ///
    /// # Errors
    /// The system refuses, or the file is another node's.
    pub(crate) fn open(path: &Path, identity: Identity, decided_height: u64) -> Result<Self, CheckpointsError> {
        let why = match read(path, identity)? {
            Ok(mut found) => {
                // Without a record it may have been made in a wiped folder, whose node had signed before: it says no more than a missing
                // one.
                if found.records.is_empty() {
                    found.raise_floor(decided_height)?;
                }
                return Ok(found);
            }
            Err(why) => why,
        };
        if decided_height > 0 {
            tracing::warn!(path = %path.display(), decided_height, why, "what this validator has cosigned is not known; it cosigns nothing up to the last decided height");
        }
        Self::create(path, identity, decided_height, &[])
    }

    /// Makes a new file over whatever is there; on disk when it returns.
    fn create(path: &Path, identity: Identity, floor: u64, records: &[Signed]) -> Result<Self, CheckpointsError> {
        let new_path = path.with_extension("new");
        let io = |source| CheckpointsError::Io { path: new_path.clone(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&new_path).map_err(io)?;
        let FileBirth { inode, born_ns } = FileBirth::of(&file.metadata().map_err(io)?);
        let mut bytes = Vec::with_capacity(file_bytes());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&identity.chain_id.0.0);
        bytes.extend_from_slice(&identity.validator.0);
        for number in [floor, inode, born_ns] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let mut chain = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&chain.to_le_bytes());
        bytes.resize(HEADER_BYTES, 0);
        for record in records {
            let (record, crc) = encode(record, chain);
            bytes.extend_from_slice(&record);
            chain = crc;
        }
        bytes.resize(file_bytes(), 0);
        file.write_all_at(&bytes, 0).map_err(io)?;
        file.sync_all().map_err(io)?;
        std::fs::rename(&new_path, path).map_err(io)?;
        if let Some(folder) = path.parent() {
            File::open(folder).and_then(|it| it.sync_all()).map_err(io)?;
        }
        let by_size = records.iter().map(|it| (it.log.size, it.log.root)).collect();
        let (path, records) = (path.to_owned(), records.to_vec());
        let n_synced = records.len();
        Ok(Self { path, file, identity, floor, records, by_size, chain, n_synced })
    }

    /// Nothing is signed any more up to this height, unless it is recorded. On disk when it returns.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn raise_floor(&mut self, height: u64) -> Result<(), CheckpointsError> {
        if height > self.newest().max(self.floor) {
            *self = Self::create(&self.path, self.identity, height, &self.records)?;
        }
        Ok(())
    }

    fn newest(&self) -> u64 {
        self.records.last().map_or(0, |it| it.height)
    }

    /// Takes note of a log that is to be signed.
    ///
    /// # Errors
    /// [`CheckpointsError::Contradiction`].
    pub(crate) fn take(&mut self, wanted: Signed) -> Result<Permit, CheckpointsError> {
        let Signed { height, log } = wanted;
        let contradiction = |signed: &Signed| CheckpointsError::Contradiction {
            height,
            signed_size: signed.log.size,
            signed_root: signed.log.root,
            size: log.size,
            root: log.root,
        };
        if let Some(root) = self.by_size.get(&log.size) {
            if *root != log.root {
                return Err(contradiction(&Signed { height, log: LogRoot { size: log.size, root: *root } }));
            }
            return Ok(Permit::Sign);
        }
        if let Some(other) = self.records.iter().rev().find(|it| it.height == height) {
            return Err(contradiction(other));
        }
        if height <= self.floor || height <= self.newest() {
            return Ok(Permit::Skip);
        }
        if let Some(last) = self.records.last().filter(|last| last.log.size > log.size) {
            // A log never shrinks.
            return Err(contradiction(last));
        }
        self.records.push(wanted);
        self.by_size.insert(log.size, log.root);
        Ok(Permit::Sign)
    }

    /// Makes everything taken durable; what is on disk already costs nothing.
    ///
    /// # Errors
    /// The system refuses; then nothing may be signed.
    pub(crate) fn sync(&mut self) -> Result<(), CheckpointsError> {
        let new = self.records.get(self.n_synced..).unwrap_or_default();
        if new.is_empty() {
            return Ok(());
        }
        if self.records.len() > RECORDS {
            let from = self.records.len().saturating_sub(CARRIED);
            let (floor, carried) = (self.floor.max(self.newest()), self.records.split_off(from));
            *self = Self::create(&self.path, self.identity, floor, &carried)?;
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(new.len() * RECORD_BYTES);
        let mut chain = self.chain;
        for record in new {
            let (record, crc) = encode(record, chain);
            bytes.extend_from_slice(&record);
            chain = crc;
        }
        let at = (HEADER_BYTES + self.n_synced * RECORD_BYTES) as u64;
        let written = self.file.write_all_at(&bytes, at).and_then(|()| self.file.sync_data());
        written.map_err(|source| CheckpointsError::Io { path: self.path.clone(), source })?;
        self.chain = chain;
        self.n_synced = self.records.len();
        Ok(())
    }
}

const fn file_bytes() -> usize {
    HEADER_BYTES + RECORDS * RECORD_BYTES
}

fn encode(record: &Signed, chain: u32) -> ([u8; RECORD_BYTES], u32) {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..8].copy_from_slice(&record.height.to_le_bytes());
    bytes[8..16].copy_from_slice(&record.log.size.to_le_bytes());
    bytes[16..RECORD_USED].copy_from_slice(&record.log.root.0);
    let crc = record_crc(chain, &bytes[..RECORD_USED]);
    bytes[RECORD_USED..RECORD_USED + 4].copy_from_slice(&crc.to_le_bytes());
    (bytes, crc)
}

fn record_crc(chain: u32, used: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&chain.to_le_bytes()), used)
}

fn number(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|it| it.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn crc_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|it| it.try_into().ok()).map(u32::from_le_bytes)
}

/// Reads the file; the inner error says why it is of no use.
fn read(path: &Path, identity: Identity) -> Result<Result<Cosigned, &'static str>, CheckpointsError> {
    let io_error = |source| CheckpointsError::Io { path: path.to_owned(), source };
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err("there is no such file")),
        Err(source) => return Err(io_error(source)),
    };
    let metadata = file.metadata().map_err(io_error)?;
    if metadata.len() != file_bytes() as u64 {
        return Ok(Err("the file has another length than it was made with"));
    }
    let mut bytes = vec![0; file_bytes()];
    file.read_exact_at(&mut bytes, 0).map_err(io_error)?;
    let Some((used, rest)) = bytes.split_at_checked(HEADER_USED) else { return Ok(Err("the file is too short")) };
    let header_crc = crc32c::crc32c(used);
    if crc_at(rest, 0) != Some(header_crc) || !used.starts_with(MAGIC) || used[8..12] != VERSION.to_le_bytes() {
        return Ok(Err("the header is damaged"));
    }
    if used[12..44] != identity.chain_id.0.0 || used[44..64] != identity.validator.0 {
        return Err(CheckpointsError::Foreign { path: path.to_owned() });
    }
    let (floor, birth) = (number(used, 64), FileBirth { inode: number(used, 72), born_ns: number(used, 80) });
    if birth != FileBirth::of(&metadata) {
        return Ok(Err("the file is a copy"));
    }
    let (records, chain) = match scan(&bytes[HEADER_BYTES..], header_crc) {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let by_size = records.iter().map(|it| (it.log.size, it.log.root)).collect();
    let n_synced = records.len();
    // What the page cache held through a crash of the process may not be on the disk yet.
    file.sync_data().map_err(io_error)?;
    Ok(Ok(Cosigned { path: path.to_owned(), file, identity, floor, records, by_size, chain, n_synced }))
}

fn scan(bytes: &[u8], mut chain: u32) -> Result<(Vec<Signed>, u32), &'static str> {
    let mut records = Vec::new();
    let mut chunks = bytes.chunks_exact(RECORD_BYTES);
    for chunk in chunks.by_ref() {
        if chunk.iter().all(|byte| *byte == 0) {
            break;
        }
        let crc = record_crc(chain, &chunk[..RECORD_USED]);
        if crc_at(chunk, RECORD_USED) != Some(crc) || chunk[RECORD_USED + 4..].iter().any(|byte| *byte != 0) {
            return Err("a record is torn or damaged");
        }
        let mut root = Hash32::ZERO;
        root.0.copy_from_slice(&chunk[16..RECORD_USED]);
        records.push(Signed { height: number(chunk, 0), log: LogRoot { size: number(chunk, 8), root } });
        chain = crc;
    }
    if chunks.flatten().any(|byte| *byte != 0) {
        return Err("a record is missing");
    }
    Ok((records, chain))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { chain_id: ChainId(Hash32([1; 32])), validator: Address([2; 20]) }
    }

    fn signed(height: u64, root: u8) -> Signed {
        Signed { height, log: LogRoot { size: height * 10, root: Hash32([root; 32]) } }
    }

    fn open(path: &Path, decided: u64) -> Cosigned {
        Cosigned::open(path, identity(), decided).unwrap()
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(COSIGNED_FILE);
        (folder, path)
    }

    fn take(file: &mut Cosigned, height: u64, root: u8) -> Permit {
        let permit = file.take(signed(height, root)).unwrap();
        file.sync().unwrap();
        permit
    }

    #[test]
    fn what_was_signed_is_signed_again_and_never_with_another_root() {
        let (_folder, path) = file();
        let mut first = open(&path, 0);
        assert_eq!(take(&mut first, 1, 1), Permit::Sign);
        assert_eq!(take(&mut first, 3, 3), Permit::Sign);
        drop(first);
        let mut again = open(&path, 9);
        assert_eq!(take(&mut again, 1, 1), Permit::Sign);
        assert_eq!(take(&mut again, 2, 2), Permit::Skip, "older than the newest and not recorded");
        assert!(matches!(again.take(signed(3, 9)), Err(CheckpointsError::Contradiction { height: 3, .. })));
        let other_size = Signed { height: 3, log: LogRoot { size: 31, root: Hash32([3; 32]) } };
        assert!(matches!(again.take(other_size), Err(CheckpointsError::Contradiction { .. })));
        let shrunk = Signed { height: 5, log: LogRoot { size: 29, root: Hash32([5; 32]) } };
        assert!(matches!(again.take(shrunk), Err(CheckpointsError::Contradiction { .. })));
        assert_eq!(take(&mut again, 4, 4), Permit::Sign, "an intact file goes on where it ended");
        let same_log = Signed { height: 5, log: signed(4, 4).log };
        assert_eq!(again.take(same_log).unwrap(), Permit::Sign, "a block that added nothing has the same log");
    }

    #[test]
    fn a_node_without_its_file_signs_only_above_what_was_decided() {
        let (folder, path) = file();
        let mut wiped = open(&path, 7);
        assert_eq!(take(&mut wiped, 7, 7), Permit::Skip);
        assert_eq!(take(&mut wiped, 8, 8), Permit::Sign);
        drop(wiped);
        let copy = folder.path().join("copy");
        std::fs::copy(&path, &copy).unwrap();
        let mut copied = open(&copy, 9);
        assert_eq!(take(&mut copied, 8, 8), Permit::Skip, "a copy may be older than the last signature");
        assert_eq!(take(&mut copied, 9, 9), Permit::Skip);
        assert_eq!(take(&mut copied, 10, 10), Permit::Sign);
        let other = Identity { validator: Address([9; 20]), ..identity() };
        assert!(matches!(Cosigned::open(&path, other, 0), Err(CheckpointsError::Foreign { .. })));
    }

    #[test]
    fn an_empty_file_beside_blocks_says_nothing() {
        let (_folder, path) = file();
        drop(open(&path, 0));
        let mut after_a_wipe = open(&path, 5);
        assert_eq!(take(&mut after_a_wipe, 5, 5), Permit::Skip);
        assert_eq!(take(&mut after_a_wipe, 6, 6), Permit::Sign);
    }

    #[test]
    fn a_raised_floor_survives_a_restart() {
        let (_folder, path) = file();
        let mut file = open(&path, 0);
        assert_eq!(take(&mut file, 1, 1), Permit::Sign);
        file.raise_floor(5).unwrap();
        file.raise_floor(4).unwrap();
        drop(file);
        let mut file = open(&path, 6);
        assert_eq!(take(&mut file, 5, 5), Permit::Skip);
        assert_eq!(take(&mut file, 1, 1), Permit::Sign, "recorded");
        assert_eq!(take(&mut file, 6, 6), Permit::Sign);
    }

    /// Puts bytes where the file is, into the file that was made there: a copy would be told from it.
    fn put(original: &Path, path: &Path, bytes: &[u8]) {
        std::fs::write(original, bytes).unwrap();
        let _ = std::fs::remove_file(path);
        std::fs::hard_link(original, path).unwrap();
    }

    /// Cuts the file off, or overwrites its end with zeros, at every byte of its used part: whatever is left, no height that was signed
    /// before is ever signed with another root.
    #[test]
    fn torn_at_any_byte_it_never_signs_a_second_root() {
        let (folder, path) = file();
        let mut whole = open(&path, 0);
        for height in 1..=3 {
            take(&mut whole, height, 1);
        }
        drop(whole);
        let original = folder.path().join("original");
        std::fs::hard_link(&path, &original).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let used = HEADER_BYTES + 3 * RECORD_BYTES;
        let mut n_contradictions = 0;
        for at in (0..HEADER_USED + 4).chain(HEADER_BYTES..used) {
            for zeros in [false, true] {
                let mut left = bytes.clone();
                if zeros {
                    left[at..].fill(0);
                } else {
                    left.truncate(at);
                }
                for height in 1..=3 {
                    put(&original, &path, &left);
                    match open(&path, 3).take(signed(height, 2)) {
                        Ok(Permit::Skip) => {}
                        Err(CheckpointsError::Contradiction { .. }) => n_contradictions += 1,
                        // Whole records are gone: only a power cut before their sync does that, and then they were never signed.
                        Ok(Permit::Sign) => {
                            let never_synced = at <= HEADER_BYTES + (height as usize - 1) * RECORD_BYTES;
                            assert!(zeros && never_synced, "cut at {at}, height {height}");
                            // Or only the zeros that fill up a record.
                            let within = (at - HEADER_BYTES) % RECORD_BYTES;
                            assert!(within == 0 || within >= RECORD_USED + 4, "cut at {at}, height {height}");
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        }
        assert!(n_contradictions > 0, "what is left of an intact file is remembered");
    }

    #[test]
    fn any_flipped_bit_makes_it_fall_back_to_the_decided_height() {
        let (folder, path) = file();
        let mut whole = open(&path, 0);
        for height in 1..=3 {
            take(&mut whole, height, 1);
        }
        drop(whole);
        let original = folder.path().join("original");
        std::fs::hard_link(&path, &original).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for at in (0..HEADER_USED + 4).chain(HEADER_BYTES..HEADER_BYTES + 5 * RECORD_BYTES) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            put(&original, &path, &flipped);
            assert!(matches!(read(&path, identity()), Ok(Err(_))), "byte {at}");
            assert_eq!(open(&path, 3).take(signed(3, 2)).unwrap(), Permit::Skip, "byte {at}");
        }
        put(&original, &path, &bytes);
        assert!(matches!(read(&path, identity()), Ok(Ok(_))), "and it was the file itself all the time");
    }

    #[test]
    fn a_full_file_is_replaced_and_keeps_the_newest() {
        let (_folder, path) = file();
        let mut file = open(&path, 0);
        let last = RECORDS as u64 + 5;
        for height in 1..=last {
            assert_eq!(file.take(signed(height, 1)).unwrap(), Permit::Sign);
            if height.is_multiple_of(1000) || height > RECORDS as u64 {
                file.sync().unwrap();
            }
        }
        drop(file);
        let mut file = open(&path, last);
        assert!(file.records.len() < 2 * CARRIED);
        assert_eq!(take(&mut file, last, 1), Permit::Sign);
        assert!(matches!(file.take(signed(last - 10, 2)), Err(CheckpointsError::Contradiction { .. })));
        assert_eq!(take(&mut file, 5, 1), Permit::Skip, "forgotten, and so not signed again");
        assert_eq!(take(&mut file, last + 1, 1), Permit::Sign);
    }
}
