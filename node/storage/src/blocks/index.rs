//! Which height is where. Rows of the segment being written are in memory; a finished segment has its rows in an `.idx` file beside it:
//! a header `"ANJIDX\0\0"`, segment u32, n u32, first height u64, zero u32, crc32c of the 28 bytes before; then n rows. A row: proposal's segment
//! u32, its payload length u32, its offset u64, the decision's offset u64, its payload length u32, crc32c of the 28 bytes before. The file
//! is derived: one that is missing or damaged is written again from the segment.

pub(crate) const ROW_LEN: usize = 32;
pub(crate) const INDEX_HEADER_LEN: usize = 32;
const INDEX_MAGIC: [u8; 8] = *b"ANJIDX\0\0";

/// A record: its segment, the offset of its record header, the length of its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Location {
    pub(crate) segment: u32,
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

/// The two records of a decided height.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    pub(crate) proposal: Location,
    pub(crate) decision: Location,
}

fn with_crc(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

impl Row {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ROW_LEN);
        bytes.extend_from_slice(&self.proposal.segment.to_le_bytes());
        bytes.extend_from_slice(&self.proposal.length.to_le_bytes());
        bytes.extend_from_slice(&self.proposal.offset.to_le_bytes());
        bytes.extend_from_slice(&self.decision.offset.to_le_bytes());
        bytes.extend_from_slice(&self.decision.length.to_le_bytes());
        with_crc(bytes)
    }

    /// The row of a segment's index; `None` if it is damaged.
    pub(crate) fn decode(bytes: &[u8; ROW_LEN], segment: u32) -> Option<Self> {
        let (body, crc) = bytes.split_at_checked(28)?;
        if crc != crc32c::crc32c(body).to_le_bytes() {
            return None;
        }
        let (proposal_segment, rest) = body.split_first_chunk::<4>()?;
        let (proposal_length, rest) = rest.split_first_chunk::<4>()?;
        let (proposal_offset, rest) = rest.split_first_chunk::<8>()?;
        let (decision_offset, rest) = rest.split_first_chunk::<8>()?;
        let (decision_length, _) = rest.split_first_chunk::<4>()?;
        Some(Self {
            proposal: Location {
                segment: u32::from_le_bytes(*proposal_segment),
                offset: u64::from_le_bytes(*proposal_offset),
                length: u32::from_le_bytes(*proposal_length),
            },
            decision: Location {
                segment,
                offset: u64::from_le_bytes(*decision_offset),
                length: u32::from_le_bytes(*decision_length),
            },
        })
    }
}

fn encode_header(segment: u32, first_height: u64, n_rows: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(INDEX_HEADER_LEN);
    bytes.extend_from_slice(&INDEX_MAGIC);
    bytes.extend_from_slice(&segment.to_le_bytes());
    bytes.extend_from_slice(&n_rows.to_le_bytes());
    bytes.extend_from_slice(&first_height.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    with_crc(bytes)
}

/// The whole index file of a segment.
pub(crate) fn encode_index(segment: u32, first_height: u64, rows: &[Row]) -> Vec<u8> {
    let mut bytes = encode_header(segment, first_height, u32::try_from(rows.len()).unwrap_or(u32::MAX));
    for row in rows {
        bytes.extend_from_slice(&row.encode());
    }
    bytes
}

/// Number of rows if this is the whole, intact index file of the segment.
pub(crate) fn check_index(bytes: &[u8], segment: u32, first_height: u64) -> Option<Vec<Row>> {
    let (header, rows) = bytes.split_at_checked(INDEX_HEADER_LEN)?;
    let (rows, rest) = rows.as_chunks::<ROW_LEN>();
    let n_rows = u32::try_from(rows.len()).ok()?;
    if !rest.is_empty() || header != encode_header(segment, first_height, n_rows) {
        return None;
    }
    rows.iter().map(|row| Row::decode(row, segment)).collect()
}

/// Where the row of `height` is in the index file.
pub(crate) const fn row_offset(first_height: u64, height: u64) -> u64 {
    INDEX_HEADER_LEN as u64 + (height - first_height) * ROW_LEN as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_reads_back_and_no_flipped_bit_passes() {
        let rows: Vec<Row> = (0..3u32)
            .map(|n| Row {
                proposal: Location { segment: 1, offset: 64 + u64::from(n), length: n },
                decision: Location { segment: 2, offset: 1000 + u64::from(n), length: 300 },
            })
            .collect();
        let bytes = encode_index(2, 9, &rows);
        assert_eq!(check_index(&bytes, 2, 9), Some(rows));
        assert_eq!(check_index(&bytes, 2, 10), None);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check_index(&flipped, 2, 9), None, "bit {bit}");
        }
    }
}
