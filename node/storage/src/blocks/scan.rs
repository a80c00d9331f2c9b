//! Reading the block file back at start: every record in order, torn tail told from corruption.
//!
//! Torn is only what a crash can leave: the last record of the last segment, never acknowledged, cut short or with sectors that
//! never reached the disk. It is cut off. Anything else that does not fit is corruption: the node must not start.

use super::index::{Location, Row, check_index};
use super::record::{
    Kind, RECORD_HEADER_LEN, RecordHeader, SEGMENT_HEADER_LEN, count_zero_sectors, decode_certificate,
    decode_proposal_header, decode_segment_header,
};
use crate::error::OpenError;
use crate::folder::{RESTORE, io_error};
use anji_contracts::types::{ChainId, Hash32};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// A proposal that no decision names yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) height: u64,
    pub(crate) round: u32,
    pub(crate) location: Location,
}

/// What was found so far, segment by segment.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    chain: ChainId,
    /// Last decided height; 0 if none.
    pub(crate) decided: u64,
    /// Value and place of the last decided height.
    pub(crate) last: Option<(Hash32, Row)>,
    pub(crate) pending: HashMap<Hash32, Pending>,
}

/// One segment as read.
#[derive(Debug)]
pub(crate) struct SegmentScan {
    pub(crate) first_height: u64,
    pub(crate) rows: Vec<Row>,
    /// End of the last good record.
    pub(crate) end: u64,
    /// Length of the file; more than `end` if the tail is torn.
    pub(crate) length: u64,
}

/// Why a record could not be read.
enum Bad {
    Torn,
    Corrupted(&'static str),
}

impl Scan {
    pub(crate) fn new(chain: ChainId) -> Self {
        Self { chain, decided: 0, last: None, pending: HashMap::new() }
    }

    /// Reads a segment. `known` are the rows of its index file where that is intact; `may_be_torn` for the last segment.
    pub(crate) fn read_segment(
        &mut self,
        path: &Path,
        number: u32,
        known: Option<&[Row]>,
        may_be_torn: bool,
    ) -> Result<SegmentScan, OpenError> {
        let corrupted = |offset: u64, what: String| OpenError::Corrupted {
            path: path.to_path_buf(),
            offset: Some(offset),
            what,
            way_out: RESTORE,
        };
        let mut file = File::open(path).map_err(io_error(path))?;
        let length = file.metadata().map_err(io_error(path))?.len();
        let first_height = self.read_segment_header(&mut file, path, number)?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut scan = SegmentScan { first_height, rows: Vec::new(), end: SEGMENT_HEADER_LEN as u64, length };
        let mut payload = Vec::new();
        while scan.end < length {
            let offset = scan.end;
            let header = match read_record(&mut reader, offset, length, &mut payload).map_err(io_error(path))? {
                Ok(header) => header,
                Err(Bad::Torn) if may_be_torn => return Ok(scan),
                Err(Bad::Torn) => return Err(corrupted(offset, "a record is cut short".into())),
                Err(Bad::Corrupted(what)) => return Err(corrupted(offset, what.into())),
            };
            let location = Location { segment: number, offset, length: header.length };
            self.take_record(&header, location, &payload, known, &mut scan).map_err(|what| corrupted(offset, what))?;
            scan.end = offset + (RECORD_HEADER_LEN as u64) + u64::from(header.length);
        }
        Ok(scan)
    }

    fn read_segment_header(&self, file: &mut File, path: &Path, number: u32) -> Result<u64, OpenError> {
        let mut header = [0; SEGMENT_HEADER_LEN];
        file.read_exact(&mut header).map_err(io_error(path))?;
        let corrupted =
            |what| OpenError::Corrupted { path: path.to_path_buf(), offset: Some(0), what, way_out: RESTORE };
        let first_height = decode_segment_header(&header, &self.chain, number).map_err(corrupted)?;
        let expected = self.decided + 1;
        if first_height == expected {
            return Ok(first_height);
        }
        Err(corrupted(format!("the segment starts at height {first_height}, the one before ends below {expected}")))
    }

    /// Takes a segment on the word of its intact index file. Its undecided proposals are not looked at: later heights have their own.
    pub(crate) fn skip_segment(&mut self, path: &Path, number: u32, index: &[u8]) -> Option<SegmentScan> {
        let mut file = File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        let first_height = self.read_segment_header(&mut file, path, number).ok()?;
        let rows = check_index(index, number, first_height)?;
        let end =
            rows.last().map(|row| row.decision.offset + (RECORD_HEADER_LEN as u64) + u64::from(row.decision.length));
        if end.is_some_and(|end| end > length) {
            return None;
        }
        self.decided += rows.len() as u64;
        Some(SegmentScan { first_height, rows, end: length, length })
    }

    fn take_record(
        &mut self,
        header: &RecordHeader,
        location: Location,
        payload: &[u8],
        known: Option<&[Row]>,
        scan: &mut SegmentScan,
    ) -> Result<(), String> {
        let height = header.height;
        match header.kind {
            Kind::Proposal => {
                let proposed = decode_proposal_header(payload).ok_or("a proposal's header cannot be decoded")?;
                if proposed.height != height || proposed.chain_id != self.chain {
                    return Err("a proposal is of another height or chain than its record says".into());
                }
                let pending = Pending { height, round: proposed.round, location };
                if height > self.decided {
                    self.pending.entry(proposed.hash()).or_insert(pending);
                }
                Ok(())
            }
            Kind::Decision => {
                let certificate = decode_certificate(payload).ok_or("a certificate cannot be decoded")?;
                let expected = self.decided + 1;
                if certificate.height != height || height != expected {
                    return Err(format!("height {height} is decided where {expected} is next"));
                }
                let place = known.and_then(|rows| rows.get(scan.rows.len())).map(|row| row.proposal);
                let proposal = match self.pending.get(&certificate.value) {
                    Some(pending) if pending.height == height => pending.location,
                    _ => place.ok_or_else(|| format!("height {height} is decided, but its body is not in the file"))?,
                };
                let row = Row { proposal, decision: location };
                scan.rows.push(row);
                self.decided = height;
                self.last = Some((certificate.value, row));
                self.pending.retain(|_, pending| pending.height > height);
                Ok(())
            }
        }
    }
}

/// Reads one record at `offset` of a file of `length` bytes.
fn read_record(
    reader: &mut BufReader<File>,
    offset: u64,
    length: u64,
    payload: &mut Vec<u8>,
) -> std::io::Result<Result<RecordHeader, Bad>> {
    let left = length - offset;
    let mut bytes = [0; RECORD_HEADER_LEN];
    if left < RECORD_HEADER_LEN as u64 {
        return Ok(Err(Bad::Torn));
    }
    reader.read_exact(&mut bytes)?;
    let Some(header) = RecordHeader::decode(&bytes) else {
        // No record header is all zero, so one that is never reached the disk, unless records follow that did.
        let unwritten = bytes == [0; RECORD_HEADER_LEN] && !record_follows(reader)?;
        let what = "the checksum of a record header does not match";
        return Ok(Err(if unwritten { Bad::Torn } else { Bad::Corrupted(what) }));
    };
    if left - (RECORD_HEADER_LEN as u64) < u64::from(header.length) {
        return Ok(Err(Bad::Torn));
    }
    payload.resize(header.length as usize, 0);
    reader.read_exact(payload)?;
    if crc32c::crc32c(payload) == header.payload_crc {
        return Ok(Ok(header));
    }
    let zero_sectors = count_zero_sectors(payload, offset + RECORD_HEADER_LEN as u64);
    let unwritten = zero_sectors > header.zero_sectors && !record_follows(reader)?;
    Ok(Err(if unwritten { Bad::Torn } else { Bad::Corrupted("the checksum of a record does not match") }))
}

/// Whether an intact record header stands anywhere from here to the end.
fn record_follows(reader: &mut BufReader<File>) -> std::io::Result<bool> {
    let mut rest = Vec::new();
    let position = reader.stream_position()?;
    reader.read_to_end(&mut rest)?;
    reader.seek(SeekFrom::Start(position))?;
    Ok(rest
        .windows(RECORD_HEADER_LEN)
        .any(|window| window.starts_with(b"ANJR") && RecordHeader::decode(window).is_some()))
}
