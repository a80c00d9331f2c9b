//! Bytes of the block file. All integers little-endian.
//!
//! A segment starts with 64 bytes: `"ANJBLK\0\0"`, format u32, segment number u32, chain id, first height u64, zero u32, crc32c of the
//! 60 bytes before. Then records: 32 bytes of record header, then the payload.
//! Record header: `"ANJR"`, kind u8, zero × 3, height u64, payload length u32, zero sectors u32, crc32c of the payload, crc32c of the
//! 28 bytes before. *Zero sectors* counts the aligned 512-byte pieces of the file inside the payload that are all zero as written: after
//! a power cut a sector that never reached the disk reads as zeros, and the count tells it from a payload that has zeros of its own.
//! Proposal payload: u32 length ‖ header ‖ u32 n ‖ n × (u32 length ‖ batch). Decision payload: the certificate.

use crate::FORMAT_VERSION;
use anji_contracts::codec;
use anji_contracts::types::ChainId;
use anji_verify::{CommitCertificate, Header, MAX_BLOCK_BATCHES};
use bytes::Bytes;

pub(crate) const SEGMENT_HEADER_LEN: usize = 64;
pub(crate) const RECORD_HEADER_LEN: usize = 32;
/// Bound of a record's payload; blocks are bounded far below by the rules of consensus.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 64 << 20;
const SEGMENT_MAGIC: [u8; 8] = *b"ANJBLK\0\0";
const RECORD_MAGIC: [u8; 4] = *b"ANJR";
const SECTOR: u64 = 512;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Proposal = 1,
    Decision = 2,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RecordHeader {
    pub(crate) kind: Kind,
    pub(crate) height: u64,
    pub(crate) length: u32,
    pub(crate) zero_sectors: u32,
    pub(crate) payload_crc: u32,
}

/// A cursor over little-endian fields; `None` past the end.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }
    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

pub(crate) fn encode_segment_header(chain: &ChainId, number: u32, first_height: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SEGMENT_HEADER_LEN);
    bytes.extend_from_slice(&SEGMENT_MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&chain.0.0);
    bytes.extend_from_slice(&first_height.to_le_bytes());
    bytes.extend_from_slice(&0u32.to_le_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// First height of the segment, or what is wrong with the header.
pub(crate) fn decode_segment_header(bytes: &[u8], chain: &ChainId, number: u32) -> Result<u64, String> {
    let first_height = bytes
        .get(48..56)
        .and_then(|field| field.try_into().ok())
        .map(u64::from_le_bytes)
        .ok_or_else(|| "the segment header is incomplete".to_owned())?;
    if encode_segment_header(chain, number, first_height) == bytes {
        return Ok(first_height);
    }
    let body = bytes.get(..60).unwrap_or_default();
    let sound = bytes.get(60..64).is_some_and(|crc| crc == crc32c::crc32c(body).to_le_bytes());
    Err(if sound {
        "it is a segment of another chain, number or format".to_owned()
    } else {
        "the checksum of the segment header does not match".to_owned()
    })
}

impl RecordHeader {
    pub(crate) fn encode(&self) -> [u8; RECORD_HEADER_LEN] {
        let mut bytes = [0; RECORD_HEADER_LEN];
        let fields: [&[u8]; 7] = [
            &RECORD_MAGIC,
            &[self.kind as u8, 0, 0, 0],
            &self.height.to_le_bytes(),
            &self.length.to_le_bytes(),
            &self.zero_sectors.to_le_bytes(),
            &self.payload_crc.to_le_bytes(),
            &[],
        ];
        let mut at = 0;
        for field in fields {
            for (to, from) in bytes.iter_mut().skip(at).zip(field) {
                *to = *from;
            }
            at += field.len();
        }
        let crc = crc32c::crc32c(bytes.get(..28).unwrap_or_default()).to_le_bytes();
        for (to, from) in bytes.iter_mut().skip(28).zip(crc) {
            *to = from;
        }
        bytes
    }

    /// `None` if the bytes are no intact record header.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.get(..RECORD_HEADER_LEN)?.split_at_checked(28)?;
        if crc != crc32c::crc32c(body).to_le_bytes() {
            return None;
        }
        let mut fields = Fields(body);
        if fields.take::<4>()? != RECORD_MAGIC {
            return None;
        }
        let kind = match fields.take::<4>()? {
            [1, 0, 0, 0] => Kind::Proposal,
            [2, 0, 0, 0] => Kind::Decision,
            _ => return None,
        };
        let header = Self {
            kind,
            height: fields.u64()?,
            length: fields.u32()?,
            zero_sectors: fields.u32()?,
            payload_crc: fields.u32()?,
        };
        (header.length as usize <= MAX_PAYLOAD_BYTES).then_some(header)
    }
}

/// All-zero aligned sectors wholly inside `bytes`, which lie at `offset` of the file.
pub(crate) fn count_zero_sectors(bytes: &[u8], offset: u64) -> u32 {
    let skip = usize::try_from(offset.next_multiple_of(SECTOR) - offset).unwrap_or(usize::MAX);
    let aligned = bytes.get(skip..).unwrap_or_default();
    let count = aligned.chunks_exact(512).filter(|sector| sector.iter().all(|byte| *byte == 0)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Appends a whole record to `buffer`, which will be written at `file_offset` of the file. Returns the payload's length.
pub(crate) fn push_record(
    buffer: &mut Vec<u8>,
    file_offset: u64,
    kind: Kind,
    height: u64,
    write_payload: impl FnOnce(&mut Vec<u8>),
) -> Option<u32> {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; RECORD_HEADER_LEN]);
    write_payload(buffer);
    let payload = buffer.get(start + RECORD_HEADER_LEN..)?;
    if payload.len() > MAX_PAYLOAD_BYTES {
        return None;
    }
    let length = u32::try_from(payload.len()).ok()?;
    let payload_offset = file_offset + (start + RECORD_HEADER_LEN) as u64;
    let header = RecordHeader {
        kind,
        height,
        length,
        zero_sectors: count_zero_sectors(payload, payload_offset),
        payload_crc: crc32c::crc32c(payload),
    };
    buffer.get_mut(start..start + RECORD_HEADER_LEN)?.copy_from_slice(&header.encode());
    Some(length)
}

/// Length of a proposal's payload, so that it can be refused before it is built; `None` on overflow of a field.
pub(crate) fn proposal_len(header: &[u8], batches: &[Bytes]) -> Option<usize> {
    let mut length = 8usize.checked_add(header.len())?;
    for batch in batches {
        u32::try_from(batch.len()).ok()?;
        length = length.checked_add(4)?.checked_add(batch.len())?;
    }
    u32::try_from(length).ok()?;
    Some(length)
}

/// Writes a proposal's payload; its length was checked by [`proposal_len`].
pub(crate) fn write_proposal(buffer: &mut Vec<u8>, header: &[u8], batches: &[Bytes]) {
    let length = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    buffer.extend_from_slice(&length(header.len()));
    buffer.extend_from_slice(header);
    buffer.extend_from_slice(&length(batches.len()));
    for batch in batches {
        buffer.extend_from_slice(&length(batch.len()));
        buffer.extend_from_slice(batch);
    }
}

fn split_bytes(rest: &mut Bytes, length: u32) -> Option<Bytes> {
    let length = length as usize;
    (length <= rest.len()).then(|| rest.split_to(length))
}

fn split_u32(rest: &mut Bytes) -> Option<u32> {
    let field = split_bytes(rest, 4)?;
    field.as_ref().try_into().ok().map(u32::from_le_bytes)
}

/// The header at the front of a proposal's payload.
pub(crate) fn decode_proposal_header(payload: &[u8]) -> Option<Header> {
    let length = payload.get(..4)?.try_into().ok().map(u32::from_le_bytes)? as usize;
    codec::decode(payload.get(4..4usize.checked_add(length)?)?).ok()
}

/// Header and batches; the batches share the payload's memory.
pub(crate) fn decode_proposal(mut payload: Bytes) -> Option<(Header, Vec<Bytes>)> {
    let length = split_u32(&mut payload)?;
    let header = codec::decode(&split_bytes(&mut payload, length)?).ok()?;
    let n_batches = split_u32(&mut payload)? as usize;
    if n_batches > MAX_BLOCK_BATCHES {
        return None;
    }
    let mut batches = Vec::with_capacity(n_batches);
    for _ in 0..n_batches {
        let length = split_u32(&mut payload)?;
        batches.push(split_bytes(&mut payload, length)?);
    }
    payload.is_empty().then_some((header, batches))
}

pub(crate) fn decode_certificate(payload: &[u8]) -> Option<CommitCertificate> {
    codec::decode(payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_record_header_is_seen() {
        let header =
            RecordHeader { kind: Kind::Decision, height: 7, length: 300, zero_sectors: 1, payload_crc: 0x1234_5678 };
        let bytes = header.encode();
        assert_eq!(RecordHeader::decode(&bytes), Some(header));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn zero_sectors_count_from_aligned_offsets_only() {
        let zeros = vec![0; 2048];
        assert_eq!(count_zero_sectors(&zeros, 0), 4);
        assert_eq!(count_zero_sectors(&zeros, 1), 3);
        assert_eq!(count_zero_sectors(&zeros, 512), 4);
        assert_eq!(count_zero_sectors(&zeros[..511], 512), 0);
    }
}
