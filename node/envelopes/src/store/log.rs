//! A log of framed records in files `<stem>-NNNNNNNN.log`: appended to in groups, each synced before the next begins.
//!
//! A file is a head (magic, ledger, number) and frames: length u32, group u32, frames of the group still to come u32, hash 32, checksum of the
//! payload u32, checksum of these u32, payload.
//! All integers little-endian, checksums CRC-32C. After a crash the last group may be torn in any place; that is cut off. What is wrong before a
//! later group is damage, since that group was begun after the earlier one was synced: it is named and nothing is guessed.

use super::error::{StoreError, io};
use crate::envelope::MAX_ENVELOPE_BYTES;
use anji_contracts::types::{ChainId, Hash32};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 16] = b"anji envelopes 1";
/// Magic, chain id, number.
const FILE_HEAD_BYTES: usize = 16 + 32 + 4;
const FRAME_HEAD_BYTES: usize = 52;

/// Where a record's payload is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Place {
    pub(super) file: u32,
    /// Of the payload's first byte.
    offset: u32,
    length: u32,
    checksum: u32,
}

/// The head of a frame.
struct FrameHead {
    length: u32,
    group: u32,
    /// Frames of the group after this one.
    to_come: u32,
    hash: Hash32,
    checksum: u32,
}

impl FrameHead {
    fn encode(&self) -> [u8; FRAME_HEAD_BYTES] {
        let mut bytes = [0; FRAME_HEAD_BYTES];
        bytes[..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.group.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.to_come.to_le_bytes());
        bytes[12..44].copy_from_slice(&self.hash.0);
        bytes[44..48].copy_from_slice(&self.checksum.to_le_bytes());
        let own = crc32c::crc32c(&bytes[..48]);
        bytes[48..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    /// `None` if the checksum is wrong or nothing so long is ever written.
    fn decode(bytes: &[u8; FRAME_HEAD_BYTES]) -> Option<Self> {
        let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let hash = Hash32(bytes.get(12..44)?.try_into().ok()?);
        let it = Self { length: word(0)?, group: word(4)?, to_come: word(8)?, hash, checksum: word(44)? };
        let good = word(48)? == crc32c::crc32c(bytes.get(..48)?) && it.length as usize <= MAX_ENVELOPE_BYTES;
        good.then_some(it)
    }
}

/// An open log.
pub(super) struct Log {
    dir: PathBuf,
    stem: &'static str,
    chain: ChainId,
    file_bytes: u64,
    files: BTreeMap<u32, File>,
    /// The file that is appended to, its length, and the number of its last group.
    current: u32,
    length: u64,
    group: u32,
    /// Bytes of the other files.
    older_bytes: u64,
    /// What was cut off when the log was opened.
    pub(super) cut_bytes: u64,
    /// After a failed sync nobody knows what is on the disk.
    is_lost: bool,
}

impl Log {
    /// Opens the log, or makes it, and hands every record to `on_frame` in order. Payloads of the last file are read and compared with their
    /// checksums where `is_whole` says that they were not overwritten.
    pub(super) fn open(
        dir: &Path,
        stem: &'static str,
        chain: ChainId,
        file_bytes: u64,
        is_whole: &dyn Fn(&Hash32) -> bool,
        on_frame: &mut dyn FnMut(Hash32, Place),
    ) -> Result<Self, StoreError> {
        let mut log = Self {
            dir: dir.to_path_buf(),
            stem,
            chain,
            file_bytes,
            files: BTreeMap::new(),
            current: 0,
            length: 0,
            group: 0,
            older_bytes: 0,
            cut_bytes: 0,
            is_lost: false,
        };
        let numbers = log.list()?;
        let Some(last) = numbers.last().copied() else {
            log.start_next()?;
            return Ok(log);
        };
        for number in numbers {
            let path = log.path(number);
            let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io(&path, "cannot open"))?;
            let scanned = log.scan(&file, number, number == last, is_whole, on_frame)?;
            if number == last {
                (log.current, log.length, log.group) = (number, scanned.good, scanned.group);
                log.cut_bytes = scanned.total - scanned.good;
                if log.cut_bytes > 0 {
                    file.set_len(scanned.good).map_err(io(&path, "cannot cut off what was not finished"))?;
                    file.sync_all().map_err(io(&path, "cannot sync"))?;
                }
            } else {
                log.older_bytes += scanned.total;
            }
            log.files.insert(number, file);
        }
        Ok(log)
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.older_bytes + self.length
    }

    /// Number of the file that is appended to.
    pub(super) const fn current(&self) -> u32 {
        self.current
    }

    /// Appends records as one group and syncs them. On an error the log is as before, unless it says that it is lost.
    pub(super) fn append(&mut self, records: &[(Hash32, &[u8])]) -> Result<Vec<(Hash32, Place)>, StoreError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        if self.is_lost {
            return Err(self.lost(&"an earlier write failed"));
        }
        if self.length >= self.file_bytes {
            self.start_next()?;
        }
        let path = self.path(self.current);
        let too_long = || StoreError::Damaged { path: path.clone(), offset: 0, what: "larger than any file is made" };
        let group = self.group.checked_add(1).ok_or_else(too_long)?;
        let (mut bytes, mut places) = (Vec::new(), Vec::with_capacity(records.len()));
        for ((hash, payload), to_come) in records.iter().zip((0..records.len()).rev()) {
            let to_come = u32::try_from(to_come).map_err(|_| too_long())?;
            let length = u32::try_from(payload.len()).map_err(|_| too_long())?;
            let head = FrameHead { length, group, to_come, hash: *hash, checksum: crc32c::crc32c(payload) };
            bytes.extend_from_slice(&head.encode());
            let offset = u32::try_from(self.length + bytes.len() as u64).map_err(|_| too_long())?;
            places.push((*hash, Place { file: self.current, offset, length, checksum: head.checksum }));
            bytes.extend_from_slice(payload);
        }
        let file = self.file(self.current)?;
        if let Err(source) = file.write_all_at(&bytes, self.length) {
            // Take back what may have been written, so that the next append starts where a frame does.
            return Err(match file.set_len(self.length) {
                Ok(()) => StoreError::Io { path, what: "cannot write", source },
                Err(error) => {
                    self.is_lost = true;
                    self.lost(&error)
                }
            });
        }
        if let Err(error) = file.sync_data() {
            self.is_lost = true;
            return Err(self.lost(&error));
        }
        self.length += bytes.len() as u64;
        self.group = group;
        Ok(places)
    }

    /// The payload at a place.
    pub(super) fn read(&self, hash: &Hash32, place: Place) -> Result<Vec<u8>, StoreError> {
        let file = self.file(place.file)?;
        let mut bytes = vec![0; FRAME_HEAD_BYTES + place.length as usize];
        let start = u64::from(place.offset).saturating_sub(FRAME_HEAD_BYTES as u64);
        file.read_exact_at(&mut bytes, start).map_err(io(&self.path(place.file), "cannot read"))?;
        let payload = bytes.split_off(FRAME_HEAD_BYTES);
        let head = bytes.as_slice().try_into().ok().and_then(FrameHead::decode);
        let same = head.is_some_and(|it| it.hash == *hash && it.length == place.length);
        if !same || crc32c::crc32c(&payload) != place.checksum {
            return Err(self.damaged(place, "the record does not match its checksum"));
        }
        Ok(payload)
    }

    /// Whether a payload was overwritten.
    pub(super) fn is_zero(&self, place: Place) -> Result<bool, StoreError> {
        let mut bytes = vec![0; place.length as usize];
        let file = self.file(place.file)?;
        file.read_exact_at(&mut bytes, place.offset.into()).map_err(io(&self.path(place.file), "cannot read"))?;
        Ok(bytes.iter().all(|byte| *byte == 0))
    }

    /// Overwrites payloads with zeros and syncs that.
    pub(super) fn overwrite(&self, places: &[Place]) -> Result<(), StoreError> {
        let mut touched = BTreeSet::new();
        for place in places {
            let path = self.path(place.file);
            let zeros = vec![0; place.length as usize];
            self.file(place.file)?.write_all_at(&zeros, place.offset.into()).map_err(io(&path, "cannot overwrite"))?;
            touched.insert(place.file);
        }
        for number in touched {
            let path = self.path(number);
            self.file(number)?.sync_data().map_err(io(&path, "cannot sync what was overwritten"))?;
        }
        Ok(())
    }

    /// Unlinks a file that is not appended to.
    pub(super) fn remove(&mut self, number: u32) -> Result<(), StoreError> {
        let path = self.path(number);
        let bytes = self.file(number)?.metadata().map_err(io(&path, "cannot look at"))?.len();
        std::fs::remove_file(&path).map_err(io(&path, "cannot remove"))?;
        sync_dir(&self.dir)?;
        self.files.remove(&number);
        self.older_bytes = self.older_bytes.saturating_sub(bytes);
        Ok(())
    }

    /// That what is at a place is not what was written.
    pub(super) fn damaged(&self, place: Place, what: &'static str) -> StoreError {
        StoreError::Damaged { path: self.path(place.file), offset: place.offset.into(), what }
    }

    fn lost(&self, what: &dyn ToString) -> StoreError {
        StoreError::Lost { path: self.path(self.current), what: what.to_string() }
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{}-{number:08}.log", self.stem))
    }

    fn file(&self, number: u32) -> Result<&File, StoreError> {
        let gone = || StoreError::Damaged { path: self.path(number), offset: 0, what: "the file is gone" };
        self.files.get(&number).ok_or_else(gone)
    }

    fn head(&self, number: u32) -> Vec<u8> {
        [MAGIC.as_slice(), &self.chain.0.0, &number.to_le_bytes()].concat()
    }

    /// Numbers of the files that are there; files that were never finished are removed.
    fn list(&self) -> Result<BTreeSet<u32>, StoreError> {
        let mut numbers = BTreeSet::new();
        for entry in std::fs::read_dir(&self.dir).map_err(io(&self.dir, "cannot list"))? {
            let path = entry.map_err(io(&self.dir, "cannot list"))?.path();
            let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
            let Some(rest) = name.strip_prefix(self.stem).and_then(|it| it.strip_prefix('-')) else { continue };
            if rest.ends_with(".tmp") {
                std::fs::remove_file(&path).map_err(io(&path, "cannot remove"))?;
                continue;
            }
            let number = rest.strip_suffix(".log").and_then(|it| it.parse().ok());
            let what = "not a name that is ever given";
            numbers.insert(number.ok_or(StoreError::Damaged { path: path.clone(), offset: 0, what })?);
        }
        Ok(numbers)
    }

    /// Makes the next file, whole or not at all, and appends to it from now on.
    fn start_next(&mut self) -> Result<(), StoreError> {
        let number = self.current + 1;
        let path = self.path(number);
        let part = path.with_extension("tmp");
        let head = self.head(number);
        let write = || -> std::io::Result<File> {
            let options = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).clone();
            let mut file = options.open(&part)?;
            file.write_all(&head)?;
            file.sync_all()?;
            std::fs::rename(&part, &path)?;
            Ok(file)
        };
        let file = write().map_err(io(&path, "cannot make the file"))?;
        sync_dir(&self.dir)?;
        self.older_bytes += self.length;
        (self.current, self.length, self.group) = (number, FILE_HEAD_BYTES as u64, 0);
        self.files.insert(number, file);
        Ok(())
    }

    /// Reads a file's frames.
    fn scan(
        &self,
        file: &File,
        number: u32,
        is_last: bool,
        is_whole: &dyn Fn(&Hash32) -> bool,
        on_frame: &mut dyn FnMut(Hash32, Place),
    ) -> Result<Scanned, StoreError> {
        let path = self.path(number);
        let fault = |offset: u64, what: &'static str| StoreError::Damaged { path: path.clone(), offset, what };
        let total = file.metadata().map_err(io(&path, "cannot look at"))?.len();
        if total > u64::from(u32::MAX) {
            return Err(fault(0, "larger than any file is made"));
        }
        let mut reader = BufReader::new(file);
        let mut head = [0; FILE_HEAD_BYTES];
        reader.seek(SeekFrom::Start(0)).map_err(io(&path, "cannot seek"))?;
        reader.read_exact(&mut head).map_err(|_| fault(0, "not a file of envelopes"))?;
        if !head.starts_with(MAGIC) || !head.ends_with(&number.to_le_bytes()) {
            return Err(fault(0, "not a file of envelopes of this version and number"));
        }
        if head != *self.head(number) {
            return Err(StoreError::Foreign { path });
        }
        let mut scanned = Scanned { good: FILE_HEAD_BYTES as u64, total, group: 0, to_come: 0 };
        while scanned.good < total {
            let mut bytes = [0; FRAME_HEAD_BYTES];
            let start = scanned.good + FRAME_HEAD_BYTES as u64;
            let read = start <= total && reader.read_exact(&mut bytes).is_ok();
            let frame = if read { FrameHead::decode(&bytes) } else { None };
            let end = frame.as_ref().map_or(u64::MAX, |it| start + u64::from(it.length));
            let mut whole = end <= total;
            if let Some(frame) = frame.as_ref().filter(|_| whole) {
                if is_last && is_whole(&frame.hash) {
                    let mut payload = vec![0; frame.length as usize];
                    reader.read_exact(&mut payload).map_err(io(&path, "cannot read"))?;
                    whole = crc32c::crc32c(&payload) == frame.checksum;
                } else {
                    reader.seek_relative(frame.length.into()).map_err(io(&path, "cannot seek"))?;
                }
            }
            let Some(frame) = frame.filter(|_| whole) else {
                if !is_last {
                    return Err(fault(scanned.good, "ends in the middle of a record, with a newer file beside it"));
                }
                if has_later_group(file, &path, &scanned)? {
                    return Err(fault(scanned.good, "a record does not match its checksum"));
                }
                return Ok(scanned);
            };
            let offset = u32::try_from(start).map_err(|_| fault(start, "larger than any file is made"))?;
            on_frame(frame.hash, Place { file: number, offset, length: frame.length, checksum: frame.checksum });
            (scanned.group, scanned.to_come) = (frame.group, frame.to_come);
            scanned.good = end;
        }
        Ok(scanned)
    }
}

/// How far a file is good.
struct Scanned {
    good: u64,
    total: u64,
    /// Of the last good frame.
    group: u32,
    to_come: u32,
}

/// Whether, after the first frame that is not good, there is one of a group that was begun after that frame's group was synced.
fn has_later_group(file: &File, path: &Path, scanned: &Scanned) -> Result<bool, StoreError> {
    let length = usize::try_from(scanned.total - scanned.good).unwrap_or(usize::MAX);
    let mut rest = vec![0; length];
    file.read_exact_at(&mut rest, scanned.good).map_err(io(path, "cannot read"))?;
    let torn = if scanned.to_come > 0 { scanned.group } else { scanned.group.saturating_add(1) };
    let later = torn.saturating_add(1);
    let frames = rest.windows(FRAME_HEAD_BYTES).filter_map(|bytes| FrameHead::decode(bytes.try_into().ok()?));
    Ok(frames.into_iter().any(|frame| frame.group >= later && frame.group < later.saturating_add(1 << 24)))
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|it| it.sync_all()).map_err(io(dir, "cannot sync the folder"))
}
