//! The outbox file's records. Layout: head (kind u8, three zero bytes, length u32, crc32c of those eight bytes), payload (borsh),
//! crc32c of the payload. All integers little-endian. A head with a checksum of its own tells a torn tail (the file ends before the
//! record does) from damage (the record is all there and wrong).

use anji_contracts::Receipt;
use anji_contracts::ops::Op;
use anji_contracts::types::OpId;
use borsh::{BorshDeserialize, BorshSerialize};

/// Bytes before the payload.
pub(crate) const HEAD_BYTES: usize = 12;
/// Bytes after the payload.
pub(crate) const TAIL_BYTES: usize = 4;
/// Larger payloads are never written.
pub(crate) const MAX_PAYLOAD: u32 = 4 << 20;

/// What the outbox remembers.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
#[expect(clippy::large_enum_variant, reason = "short-lived: read, looked at, dropped; never kept in numbers")]
pub(crate) enum Record {
    /// A request and the operation it stands for, before anything is sent.
    Intent(Intent) = 1,
    /// The ledger's answer.
    Answer(Answer) = 2,
    /// All receipts of the chain below this sequence were looked at.
    Position(u64) = 3,
}

/// A request and its operation.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Intent {
    /// The caller's id.
    pub(crate) request_id: String,
    /// Hash of what the caller asked for.
    pub(crate) content: [u8; 16],
    /// The operation.
    pub(crate) op: Op,
}

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Answer {
    /// The caller's id.
    pub(crate) request_id: String,
    /// Hash of what the caller asked for.
    pub(crate) content: [u8; 16],
    /// The operation it stands for.
    pub(crate) op_id: OpId,
    /// The ledger's answer.
    pub(crate) receipt: Receipt,
}

impl Record {
    /// Appends the record's bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let payload = anji_contracts::codec::encode(self);
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        debug_assert!(length <= MAX_PAYLOAD, "a record is one operation");
        let mut head = [0; 8];
        if let Some((kind, rest)) = head.split_first_mut() {
            *kind = payload.first().copied().unwrap_or_default();
            if let Some(slot) = rest.get_mut(3..) {
                slot.copy_from_slice(&length.to_le_bytes());
            }
        }
        out.extend_from_slice(&head);
        out.extend_from_slice(&crc32c::crc32c(&head).to_le_bytes());
        out.extend_from_slice(&payload);
        out.extend_from_slice(&crc32c::crc32c(&payload).to_le_bytes());
    }
}

/// What is at the start of some bytes.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// A record and its length in bytes.
    Record(Box<Record>, usize),
    /// The bytes end before the record does, or nothing was ever written here.
    Torn,
    /// A whole record that is not what was written.
    Damaged(&'static str),
}

/// Reads the record at the start of `bytes`, which run to the end of the file and are not empty.
pub(crate) fn read(bytes: &[u8]) -> Found {
    // A file that grew before its bytes arrived ends in zeros; no record starts with one.
    if bytes.iter().all(|byte| *byte == 0) {
        return Found::Torn;
    }
    let Some((head, rest)) = bytes.split_at_checked(HEAD_BYTES) else { return Found::Torn };
    let (fields, checksum) = head.split_at(8);
    if checksum != crc32c::crc32c(fields).to_le_bytes() {
        return Found::Damaged("the record's head does not match its checksum");
    }
    let length = fields.get(4..).and_then(|it| it.try_into().ok()).map_or(u32::MAX, u32::from_le_bytes);
    if length > MAX_PAYLOAD {
        return Found::Damaged("the record is longer than any that is ever written");
    }
    let length = length as usize;
    let Some((payload, tail)) = rest.split_at_checked(length) else { return Found::Torn };
    let Some(checksum) = tail.get(..TAIL_BYTES) else { return Found::Torn };
    if checksum != crc32c::crc32c(payload).to_le_bytes() {
        return Found::Damaged("the record does not match its checksum");
    }
    match anji_contracts::codec::decode::<Record>(payload) {
        Ok(record) => Found::Record(Box::new(record), HEAD_BYTES + length + TAIL_BYTES),
        Err(_) => Found::Damaged("the record cannot be decoded; it may be of a newer version"),
    }
}
