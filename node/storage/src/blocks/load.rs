//! Reading blocks back. Every record is checked again as it is read, so that a damaged one is an error and never an answer.

use super::index::{Location, ROW_LEN, Row, row_offset};
use super::record::{self, Kind, RECORD_HEADER_LEN, RecordHeader};
use super::{BlockFile, index_path, segment_path};
use crate::error::ReadError;
use anji_contracts::codec;
use anji_contracts::types::Hash32;
use anji_verify::{CommitCertificate, Header};
use bytes::Bytes;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// What is read of a body at a time, when only a part of it is wanted.
const PIECE_BYTES: usize = 16 << 10;

/// A decided block as it stands in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// The header; its hash is `certificate.value`.
    pub header: Header,
    /// The exact bytes of the batches, in order.
    pub batches: Vec<Bytes>,
    /// The precommits that decided it.
    pub certificate: CommitCertificate,
}

/// A proposed block: what a validator must have on disk before it votes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// The header; its hash is the value.
    pub header: Header,
    /// The exact bytes of the batches, in order.
    pub batches: Vec<Bytes>,
}

impl BlockFile {
    /// Height of the last decided block; 0 before the first.
    #[must_use]
    pub fn decided_height(&self) -> u64 {
        self.inner.read_index().decided
    }

    /// Lowest height that is in the file.
    #[must_use]
    pub fn first_height(&self) -> u64 {
        self.inner.read_index().segments.first().map_or(1, |segment| segment.first_height)
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.inner.read_index().bytes
    }

    /// The decided block of a height; `None` if it is not decided here.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn load_block(&self, height: u64) -> Result<Option<Block>, ReadError> {
        let Some(row) = self.row(height)? else { return Ok(None) };
        let certificate = self.load_certificate(&row, height)?;
        let Proposal { header, batches } = self.load_body(&row.proposal, height, &certificate.value)?;
        Ok(Some(Block { header, batches, certificate }))
    }

    /// Header and certificate of a decided height.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn load_decision(&self, height: u64) -> Result<Option<(Header, CommitCertificate)>, ReadError> {
        Ok(self.open_decided(height)?.map(|(header, certificate, _)| (header, certificate)))
    }

    /// The exact bytes of one batch of a decided height; `None` if the height is not decided here or its body has fewer batches.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    ///
    /// # Correctness
    /// Only what comes before the batch is read, so the checksum over the whole body is not checked: the caller compares the batch's hash.
    pub fn load_batch(&self, height: u64, place: usize) -> Result<Option<Bytes>, ReadError> {
        let Some((_, _, mut body)) = self.open_decided(height)? else { return Ok(None) };
        let n_batches = body.length()?;
        if place >= n_batches {
            return Ok(None);
        }
        for _ in 0..place {
            let length = body.length()?;
            body.skip(length)?;
        }
        let length = body.length()?;
        Ok(Some(body.take(length)?.into()))
    }

    /// Header and certificate of a decided height, and the rest of its body to be read piece by piece.
    fn open_decided(&self, height: u64) -> Result<Option<(Header, CommitCertificate, Body<'_>)>, ReadError> {
        let Some(row) = self.row(height)? else { return Ok(None) };
        let certificate = self.load_certificate(&row, height)?;
        let mut body = self.open_body(row.proposal, height)?;
        let length = body.length()?;
        let header = body.take(length)?;
        let header = self.decided_header(&row.proposal, codec::decode(&header).ok(), &certificate.value)?;
        Ok(Some((header, certificate, body)))
    }

    pub(super) fn load_certificate_of(&self, height: u64) -> Result<Option<CommitCertificate>, ReadError> {
        self.row(height)?.map(|row| self.load_certificate(&row, height)).transpose()
    }

    /// A proposed block by value, of a height that is not decided yet or is the last decided one.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn load_proposal(&self, value: &Hash32) -> Result<Option<Proposal>, ReadError> {
        let found = {
            let index = self.inner.read_index();
            let pending = index.pending.get(value).map(|pending| (pending.height, pending.location));
            let last =
                index.last.as_ref().filter(|(last, _)| last == value).map(|(_, row)| (index.decided, row.proposal));
            pending.or(last)
        };
        found.map(|(height, location)| self.load_body(&location, height, value)).transpose()
    }

    /// Values of the proposals in the file for heights above the decided one: (height, round of the header, value), sorted.
    #[must_use]
    pub fn undecided(&self) -> Vec<(u64, u32, Hash32)> {
        let index = self.inner.read_index();
        let mut undecided: Vec<_> =
            index.pending.iter().map(|(value, pending)| (pending.height, pending.round, *value)).collect();
        undecided.sort_unstable();
        undecided
    }

    fn row(&self, height: u64) -> Result<Option<Row>, ReadError> {
        let index = self.inner.read_index();
        if height == 0 || height > index.decided {
            return Ok(None);
        }
        let after = index.segments.partition_point(|segment| segment.first_height <= height);
        // Segments without a decision share their first height with the next one; the last of them has the row.
        let Some(segment) = after.checked_sub(1).and_then(|at| index.segments.get(at)) else { return Ok(None) };
        let (number, first_height) = (segment.number, segment.first_height);
        if after == index.segments.len() {
            let place = usize::try_from(height - first_height).unwrap_or(usize::MAX);
            return Ok(index.rows.get(place).copied());
        }
        drop(index);
        let path = index_path(&self.inner.dir, number);
        let mut bytes = [0; ROW_LEN];
        File::open(&path)
            .and_then(|file| file.read_exact_at(&mut bytes, row_offset(first_height, height)))
            .map_err(|error| ReadError::Failed { place: path.display().to_string(), what: error.to_string() })?;
        Row::decode(&bytes, number).map(Some).ok_or_else(|| ReadError::Corrupted {
            place: path.display().to_string(),
            what: format!("the row of height {height} does not match its checksum"),
        })
    }

    fn load_certificate(&self, row: &Row, height: u64) -> Result<CommitCertificate, ReadError> {
        let payload = self.load_record(&row.decision, Kind::Decision, height)?;
        record::decode_certificate(&payload)
            .filter(|certificate| certificate.height == height)
            .ok_or_else(|| self.corrupted(&row.decision, "the certificate cannot be decoded"))
    }

    fn load_body(&self, location: &Location, height: u64, value: &Hash32) -> Result<Proposal, ReadError> {
        let payload = self.load_record(location, Kind::Proposal, height)?;
        let (header, batches) = record::decode_proposal(Bytes::from(payload)).unzip();
        let header = self.decided_header(location, header, value)?;
        Ok(Proposal { header, batches: batches.unwrap_or_default() })
    }

    fn decided_header(&self, at: &Location, header: Option<Header>, value: &Hash32) -> Result<Header, ReadError> {
        let header = header.ok_or_else(|| self.corrupted(at, "the proposal cannot be decoded"))?;
        if header.hash() == *value {
            Ok(header)
        } else {
            Err(self.corrupted(at, "the proposal is not the one that was decided"))
        }
    }

    fn load_record(&self, location: &Location, kind: Kind, height: u64) -> Result<Vec<u8>, ReadError> {
        let length = RECORD_HEADER_LEN + location.length as usize;
        let mut bytes = vec![0; length];
        File::open(segment_path(&self.inner.dir, location.segment))
            .and_then(|file| file.read_exact_at(&mut bytes, location.offset))
            .map_err(|error| self.failed(location, &error))?;
        let header = self.record_header(location, kind, height, &bytes)?;
        let payload = bytes.split_off(RECORD_HEADER_LEN);
        if crc32c::crc32c(&payload) != header.payload_crc {
            return Err(self.corrupted(location, "the checksum does not match"));
        }
        Ok(payload)
    }

    fn record_header(&self, at: &Location, kind: Kind, height: u64, bytes: &[u8]) -> Result<RecordHeader, ReadError> {
        RecordHeader::decode(bytes)
            .filter(|header| header.kind == kind && header.height == height && header.length == at.length)
            .ok_or_else(|| self.corrupted(at, "there is no such record"))
    }

    fn open_body(&self, location: Location, height: u64) -> Result<Body<'_>, ReadError> {
        let open = || {
            let mut file = File::open(segment_path(&self.inner.dir, location.segment))?;
            file.seek(SeekFrom::Start(location.offset))?;
            let mut reader = BufReader::with_capacity(PIECE_BYTES, file);
            let mut header = [0; RECORD_HEADER_LEN];
            reader.read_exact(&mut header)?;
            Ok((reader, header))
        };
        let (reader, header) = open().map_err(|error| self.failed(&location, &error))?;
        self.record_header(&location, Kind::Proposal, height, &header)?;
        Ok(Body { blocks: self, location, reader, left: location.length as usize })
    }

    fn place(&self, location: &Location) -> String {
        format!("{} at byte {}", segment_path(&self.inner.dir, location.segment).display(), location.offset)
    }

    fn failed(&self, location: &Location, error: &io::Error) -> ReadError {
        ReadError::Failed { place: self.place(location), what: error.to_string() }
    }

    fn corrupted(&self, location: &Location, what: &str) -> ReadError {
        ReadError::Corrupted { place: self.place(location), what: what.to_owned() }
    }
}

/// A proposal's payload on disk, read from the front.
struct Body<'a> {
    blocks: &'a BlockFile,
    location: Location,
    reader: BufReader<File>,
    /// Bytes of the payload that were not read yet.
    left: usize,
}

impl Body<'_> {
    /// The next field: a length, or how many batches there are.
    fn length(&mut self) -> Result<usize, ReadError> {
        let mut field = [0; 4];
        self.advance(field.len())?;
        self.reader.read_exact(&mut field).map_err(|error| self.blocks.failed(&self.location, &error))?;
        Ok(u32::from_le_bytes(field) as usize)
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, ReadError> {
        self.advance(length)?;
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes).map_err(|error| self.blocks.failed(&self.location, &error))?;
        Ok(bytes)
    }

    fn skip(&mut self, length: usize) -> Result<(), ReadError> {
        self.advance(length)?;
        let distance = i64::try_from(length).unwrap_or(i64::MAX);
        self.reader.seek_relative(distance).map_err(|error| self.blocks.failed(&self.location, &error))
    }

    /// Lengths come from the disk: none leads past the record.
    fn advance(&mut self, length: usize) -> Result<(), ReadError> {
        self.left = self
            .left
            .checked_sub(length)
            .ok_or_else(|| self.blocks.corrupted(&self.location, "a length leads past its end"))?;
        Ok(())
    }
}
