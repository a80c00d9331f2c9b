//! The block file: bodies and certificates, synced before anything is told. The write-ahead log of the whole node.
//!
//! `blocks/NNNNNN.blk` are segments of records in the order they were written: proposals (header and batches) and decisions
//! (certificates), see [`record`]. A height's proposal stands before its decision, not always in the same segment.
//! Appends go through one writer; reads never wait for it. After any failed write nothing more is taken in this run.

pub mod disk;
mod index;
mod load;
pub(crate) mod open;
mod record;
mod scan;

use self::disk::Disk;
use self::index::{Location, Row, encode_index};
use self::record::{Kind, RECORD_HEADER_LEN, push_record};
use self::scan::Pending;
use crate::error::AppendError;
use crate::folder::{FolderLock, sync_dir, write_atomically};
use anji_contracts::codec;
use anji_contracts::types::{ChainId, Hash32};
use anji_verify::{CommitCertificate, Header};
use bytes::Bytes;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use self::load::{Block, Proposal};

/// Proposals above the decided height that are kept; consensus needs those of one or two heights.
const MAX_PENDING: usize = 1024;

/// The block file. Clones share it. Every call blocks the thread (appends sync the disk): keep it off the async threads.
#[derive(Clone, Debug)]
pub struct BlockFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    chain: ChainId,
    segment_bytes: u64,
    disk: Arc<dyn Disk>,
    /// `None` when opened for looking only.
    writer: Option<Mutex<Writer>>,
    index: RwLock<Index>,
    _lock: Option<Arc<FolderLock>>,
}

/// The segment being written.
#[derive(Debug)]
struct Writer {
    file: File,
    number: u32,
    /// End of the last good record: where the next one goes.
    end: u64,
    failed: bool,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Segment {
    number: u32,
    first_height: u64,
}

/// What is where. Bounded: rows of the last segment only, and the proposals of undecided heights.
#[derive(Debug)]
struct Index {
    segments: Vec<Segment>,
    /// Rows of the last segment.
    rows: Vec<Row>,
    pending: HashMap<Hash32, Pending>,
    decided: u64,
    last: Option<(Hash32, Row)>,
    bytes: u64,
}

fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:06}.blk"))
}

fn index_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:06}.idx"))
}

impl Inner {
    fn read_index(&self) -> RwLockReadGuard<'_, Index> {
        // The index is only ever replaced field by field after the disk took the record, so it is whole even if a thread died.
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_index(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fills a buffer with records for a file offset and returns their payloads' lengths; `None` if one is too large.
type BuildRecords<'a> = dyn FnMut(&mut Vec<u8>, u64) -> Option<Vec<u32>> + 'a;

impl BlockFile {
    /// Writes a proposed block and syncs it; returns its value (the header hash). Writing one that is there already does nothing.
    ///
    /// # Errors
    /// [`AppendError`]; after anything but `Refused` the node must stop.
    ///
    /// # Correctness
    /// Call before voting for the value or answering with it: a decided value whose body is nowhere halts the chain.
    pub fn append_proposal(&self, header: &Header, batches: &[Bytes]) -> Result<Hash32, AppendError> {
        let value = header.hash();
        let mut writer = self.writer(header.height)?;
        if self.is_known(header, &value)? {
            return Ok(value);
        }
        let payload = self.proposal_payload(header, batches)?;
        let written = self.append(&mut writer, header.height, &mut |buffer, offset| {
            let length = push_record(buffer, offset, Kind::Proposal, header.height, |buffer| {
                record::write_proposal(buffer, &payload, batches);
            })?;
            Some(vec![length])
        })?;
        drop(writer);
        if let Some(location) = written.first() {
            let pending = Pending { height: header.height, round: header.round, location: *location };
            self.inner.write_index().pending.insert(value, pending);
        }
        Ok(value)
    }

    /// Writes the certificate that decides the next height and syncs it. Its proposal must be in the file. A certificate for a height that is
    /// decided with the same value does nothing.
    ///
    /// # Errors
    /// [`AppendError`]; after anything but `Refused` the node must stop.
    ///
    /// # Correctness
    /// Call before anybody is told that the height is decided. The caller has verified the certificate.
    pub fn append_decision(&self, certificate: &CommitCertificate) -> Result<(), AppendError> {
        let mut writer = self.writer(certificate.height)?;
        if self.is_decided(certificate)? {
            return Ok(());
        }
        let proposal = self.inner.read_index().pending.get(&certificate.value).copied();
        let Some(proposal) = proposal.filter(|it| it.height == certificate.height) else {
            let what = format!("{} is decided, but its body is not in the block file", certificate.value);
            return Err(AppendError::Refused { height: certificate.height, what });
        };
        let written = self.append(&mut writer, certificate.height, &mut |buffer, offset| {
            let payload = codec::encode(certificate);
            let length = push_record(buffer, offset, Kind::Decision, certificate.height, |buffer| {
                buffer.extend_from_slice(&payload);
            })?;
            Some(vec![length])
        })?;
        if let Some(location) = written.first() {
            self.note_decision(certificate, Row { proposal: proposal.location, decision: *location });
        }
        Ok(())
    }

    /// Body and certificate with one sync: for decided blocks that come from a peer.
    ///
    /// # Errors
    /// [`AppendError`]; after anything but `Refused` the node must stop.
    ///
    /// # Correctness
    /// The caller has verified the certificate and that the batches are those the header commits to.
    pub fn append_decided(
        &self,
        header: &Header,
        batches: &[Bytes],
        certificate: &CommitCertificate,
    ) -> Result<(), AppendError> {
        let value = header.hash();
        if value != certificate.value || header.height != certificate.height {
            let what = "the certificate is that of another header".to_owned();
            return Err(AppendError::Refused { height: header.height, what });
        }
        let mut writer = self.writer(header.height)?;
        if self.is_decided(certificate)? {
            return Ok(());
        }
        if self.is_known(header, &value)? {
            drop(writer);
            return self.append_decision(certificate);
        }
        let header_bytes = self.proposal_payload(header, batches)?;
        let payload = codec::encode(certificate);
        let written = self.append(&mut writer, header.height, &mut |buffer, offset| {
            let body = push_record(buffer, offset, Kind::Proposal, header.height, |buffer| {
                record::write_proposal(buffer, &header_bytes, batches);
            })?;
            let decision = push_record(buffer, offset, Kind::Decision, header.height, |buffer| {
                buffer.extend_from_slice(&payload);
            })?;
            Some(vec![body, decision])
        })?;
        if let [proposal, decision] = written.as_slice() {
            self.note_decision(certificate, Row { proposal: *proposal, decision: *decision });
        }
        Ok(())
    }

    fn writer(&self, height: u64) -> Result<std::sync::MutexGuard<'_, Writer>, AppendError> {
        let refused = || AppendError::Refused { height, what: "the block file is open for reading only".into() };
        let writer = self.inner.writer.as_ref().ok_or_else(refused)?;
        let writer = writer.lock().map_err(|_| AppendError::Poisoned)?;
        if writer.failed { Err(AppendError::Poisoned) } else { Ok(writer) }
    }

    /// Whether a proposal is in the file; an error if it cannot be taken.
    fn is_known(&self, header: &Header, value: &Hash32) -> Result<bool, AppendError> {
        let index = self.inner.read_index();
        let refused = |what: &str| Err(AppendError::Refused { height: header.height, what: what.to_owned() });
        if header.chain_id != self.inner.chain {
            return refused("the header is of another chain");
        }
        if index.pending.contains_key(value) || index.last.as_ref().is_some_and(|(last, _)| last == value) {
            return Ok(true);
        }
        if header.height <= index.decided {
            return refused("the height is decided already");
        }
        if index.pending.len() >= MAX_PENDING {
            return refused("too many undecided proposals");
        }
        Ok(false)
    }

    fn is_decided(&self, certificate: &CommitCertificate) -> Result<bool, AppendError> {
        let index = self.inner.read_index();
        let height = certificate.height;
        if height == index.decided + 1 {
            return Ok(false);
        }
        if height == 0 || height > index.decided {
            let what = format!("height {} is next", index.decided + 1);
            return Err(AppendError::Refused { height, what });
        }
        drop(index);
        match self.load_certificate_of(height)? {
            Some(known) if known.value == certificate.value => Ok(true),
            Some(known) => Err(AppendError::Conflict { height, decided: known.value, offered: certificate.value }),
            None => Err(AppendError::Refused { height, what: "the height is not in the file".into() }),
        }
    }

    fn proposal_payload(&self, header: &Header, batches: &[Bytes]) -> Result<Vec<u8>, AppendError> {
        let bytes = codec::encode(header);
        let refused = |what: &str| AppendError::Refused { height: header.height, what: what.to_owned() };
        if u32::try_from(batches.len()) != Ok(header.n_batches) || batches.len() > anji_verify::MAX_BLOCK_BATCHES {
            return Err(refused("the body has another number of batches than the header says"));
        }
        match record::proposal_len(&bytes, batches) {
            Some(length) if length <= record::MAX_PAYLOAD_BYTES => Ok(bytes),
            _ => Err(refused("the block is too large for a record")),
        }
    }

    /// Writes records at the end and syncs them. `build` fills the buffer for a file offset and returns the payloads' lengths.
    fn append(
        &self,
        writer: &mut Writer,
        height: u64,
        build: &mut BuildRecords<'_>,
    ) -> Result<Vec<Location>, AppendError> {
        let inner = &self.inner;
        if writer.end >= inner.segment_bytes {
            self.rotate(writer).map_err(|(path, source)| {
                writer.failed = true;
                append_error(path, source)
            })?;
        }
        let mut buffer = std::mem::take(&mut writer.buffer);
        buffer.clear();
        let Some(lengths) = build(&mut buffer, writer.end) else {
            return Err(AppendError::Refused { height, what: "the record is too large".into() });
        };
        let result =
            inner.disk.write_all_at(&writer.file, &buffer, writer.end).and_then(|()| inner.disk.sync(&writer.file));
        let n_bytes = buffer.len() as u64;
        writer.buffer = buffer;
        // A burst's buffer is not kept for ever.
        writer.buffer.shrink_to(8 << 20);
        if let Err(source) = result {
            // After a failed sync nobody knows what is durable, so nothing more is taken; the tail goes, so that what was never
            // acknowledged is not found again either.
            writer.failed = true;
            let cut = inner.disk.truncate(&writer.file, writer.end).and_then(|()| inner.disk.sync(&writer.file));
            if let Err(error) = cut {
                tracing::error!(%error, segment = writer.number, "the block file could not be cut back after a failed write");
            }
            return Err(append_error(segment_path(&inner.dir, writer.number), source));
        }
        let mut written = Vec::with_capacity(lengths.len());
        let mut offset = writer.end;
        for length in lengths {
            written.push(Location { segment: writer.number, offset, length });
            offset += RECORD_HEADER_LEN as u64 + u64::from(length);
        }
        writer.end += n_bytes;
        inner.write_index().bytes += n_bytes;
        Ok(written)
    }

    fn note_decision(&self, certificate: &CommitCertificate, row: Row) {
        let mut index = self.inner.write_index();
        index.rows.push(row);
        index.decided = certificate.height;
        index.last = Some((certificate.value, row));
        index.pending.retain(|_, pending| pending.height > certificate.height);
    }

    /// Ends the segment and begins the next.
    fn rotate(&self, writer: &mut Writer) -> Result<(), (PathBuf, io::Error)> {
        let inner = &self.inner;
        let next = writer.number + 1;
        let (bytes, first_height) = {
            let index = inner.read_index();
            let first_height = index.segments.last().map_or(1, |segment| segment.first_height);
            (encode_index(writer.number, first_height, &index.rows), index.decided + 1)
        };
        let path = index_path(&inner.dir, writer.number);
        write_atomically(&path, &bytes).map_err(|error| (path, error))?;
        let file = create_segment(&inner.dir, &inner.chain, inner.disk.as_ref(), next, first_height)?;
        *writer = Writer {
            file,
            number: next,
            end: record::SEGMENT_HEADER_LEN as u64,
            failed: false,
            buffer: std::mem::take(&mut writer.buffer),
        };
        let mut index = inner.write_index();
        index.rows.clear();
        index.segments.push(Segment { number: next, first_height });
        Ok(())
    }
}

fn append_error(path: PathBuf, source: io::Error) -> AppendError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AppendError::DiskFull { path },
        _ => AppendError::Io { path, source },
    }
}

fn create_segment(
    dir: &Path,
    chain: &ChainId,
    disk: &dyn Disk,
    number: u32,
    first_height: u64,
) -> Result<File, (PathBuf, io::Error)> {
    let path = segment_path(dir, number);
    let create = || {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        disk.write_all_at(&file, &record::encode_segment_header(chain, number, first_height), 0)?;
        disk.sync(&file)?;
        file.sync_all()?;
        sync_dir(dir)?;
        Ok(file)
    };
    create().map_err(|error| (path.clone(), error))
}
