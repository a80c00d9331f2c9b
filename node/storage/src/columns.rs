//! The column families: their names, keys and values, and nothing else. Keys are big-endian so that they sort as their fields do;
//! values hold varints (LEB128) and borsh. A change here raises [`crate::FORMAT_VERSION`] and updates the byte snapshot in `tests/`.
//!
//! | family | key | value |
//! |---|---|---|
//! | `entries` | log index ÷ 16, u64 | up to 16 times: varint length, the entry's exact bytes |
//! | `latest` | entity key's sort bytes | varint index, varint version; no row for a payment in its first version |
//! | `ops` | participant u32, op id u128 | body hash 32, varint batch seq, position, height, time; result; for tag 1: varint index of the payment's first entry |
//! | `receipts` | batch seq u64 | varint height, time; participant u32, batch hash 32, varint n; n × (op id 16, result) |
//! | `due` | due time u64, entity key's sort bytes | nothing |
//! | `tiles` | level u8, index u64 | 256 hashes of 32 bytes |
//! | `roots` | height u64 | borsh of [`BlockRecord`] |
//! | `active` | chunk u64 | 256 bytes of the active bitmap as of the height in `meta` |
//! | `captured` | window u64, payment id's sort bytes | nothing |
//! | `checkpoints` | height u64 | borsh of [`anji_verify::SignedCheckpoint`]; final ones only |
//! | `meta` | `chain`, `executed`, `active`, `windows` | chain id 32; height u64; height u64; borsh of `WindowTree` |
//!
//! A result: tag u8 (0 refused, 1 payment, 2 mandate, 3 refund named by the operation's own id, 4 any other entity; +128 if the receipt is
//! that of an earlier block), then for 0 the code u16, for 4 varint length and the entity key's sort bytes, for +128 varint height and time.

use anji_contracts::entity::key_from_sort_bytes;
use anji_contracts::entry::{OpResult, Receipt};
use anji_contracts::types::{Hash32, MandateId, OpId, ParticipantId, PaymentId, RefundId, ScopedId, WindowId};
use anji_contracts::{EntityKey, OpRecord, Reject};
use anji_verify::LogRoot;
use borsh::{BorshDeserialize, BorshSerialize};

/// Entries, sixteen to a row.
pub const ENTRIES: &str = "entries";
/// Newest version of every entity but payments in their first version, which their operation's row in [`OPS`] leads to.
pub const LATEST: &str = "latest";
/// Operations that consumed their ids.
pub const OPS: &str = "ops";
/// Receipts by batch.
pub const RECEIPTS: &str = "receipts";
/// Entities by due time.
pub const DUE: &str = "due";
/// Full tiles of the log tree.
pub const TILES: &str = "tiles";
/// Executed blocks by height.
pub const ROOTS: &str = "roots";
/// The bitmap of latest versions.
pub const ACTIVE: &str = "active";
/// Payments by the window of their captures.
pub const CAPTURED: &str = "captured";
/// Final checkpoints by height, with the validators' signatures. Not derived from blocks: a rebuilt state has none.
pub const CHECKPOINTS: &str = "checkpoints";
/// Chain and heights.
pub const META: &str = "meta";
/// All of them, in the order of the table above.
pub const ALL: [&str; 11] = [ENTRIES, LATEST, OPS, RECEIPTS, DUE, TILES, ROOTS, ACTIVE, CAPTURED, CHECKPOINTS, META];

pub(crate) const META_CHAIN: &[u8] = b"chain";
pub(crate) const META_EXECUTED: &[u8] = b"executed";
pub(crate) const META_ACTIVE: &[u8] = b"active";
pub(crate) const META_WINDOWS: &[u8] = b"windows";

/// Where the latest version of an entity is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Latest {
    /// Log index of its entry.
    pub index: u64,
    /// Its version, counted from 1.
    pub version: u64,
}

/// An operation that consumed its id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpRow {
    /// What the duplicate rule remembers.
    pub record: OpRecord,
    /// The batch it was in.
    pub batch_seq: u64,
    /// Its place in that batch, from 0.
    pub position: u32,
    /// If it made a payment: log index of the payment's first entry.
    pub payment_index: Option<u64>,
}

/// The receipts of one executed batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchReceipts {
    /// Counts all batches of the chain from 0.
    pub seq: u64,
    /// Height of the block.
    pub height: u64,
    /// Ledger time of the block.
    pub time_ms: u64,
    /// Who signed the batch.
    pub participant: ParticipantId,
    /// BLAKE3 of the batch.
    pub batch_hash: Hash32,
    /// One receipt per operation, in order.
    pub receipts: Vec<Receipt>,
}

/// What is kept of every executed block; height 0 is genesis.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct BlockRecord {
    /// Its height.
    pub height: u64,
    /// Hash of its header; the chain id's bytes at height 0.
    pub header_hash: Hash32,
    /// Its ledger time.
    pub time_ms: u64,
    /// The log after it.
    pub log: LogRoot,
    /// Batches executed since genesis, this block's included.
    pub n_batches_total: u64,
    /// Operations executed since genesis, this block's included.
    pub n_ops_total: u64,
}

pub(crate) fn op_key(id: &ScopedId) -> [u8; 20] {
    id.to_sort_bytes()
}

pub(crate) fn decode_op_key(key: &[u8]) -> Option<ScopedId> {
    ScopedId::from_sort_bytes(key)
}

pub(crate) fn due_key(due_at_ms: u64, key: &EntityKey) -> Vec<u8> {
    let mut bytes = due_at_ms.to_be_bytes().to_vec();
    bytes.extend_from_slice(&key.to_sort_bytes());
    bytes
}

pub(crate) fn decode_due_key(bytes: &[u8]) -> Option<(u64, EntityKey)> {
    let (time, key) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*time), key_from_sort_bytes(key)?))
}

pub(crate) fn captured_key(window: WindowId, payment: &PaymentId) -> [u8; 28] {
    let mut key = [0; 28];
    let (number, id) = key.split_at_mut(8);
    number.copy_from_slice(&window.0.to_be_bytes());
    id.copy_from_slice(&payment.0.to_sort_bytes());
    key
}

pub(crate) fn decode_captured_key(key: &[u8]) -> Option<(WindowId, PaymentId)> {
    let (window, id) = key.split_first_chunk::<8>()?;
    Some((WindowId(u64::from_be_bytes(*window)), PaymentId(ScopedId::from_sort_bytes(id)?)))
}

pub(crate) fn tile_key(level: u8, index: u64) -> [u8; 9] {
    let mut key = [level; 9];
    if let Some(tail) = key.last_chunk_mut::<8>() {
        *tail = index.to_be_bytes();
    }
    key
}

pub(crate) fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push((value & 0x7f) as u8);
}

pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take_u8(bytes)?;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return None;
        }
        value |= part << shift;
        if byte < 0x80 {
            // One number, one form.
            return (byte != 0 || shift == 0).then_some(value);
        }
    }
    None
}

fn take_u8(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

fn take_chunk<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

/// Runs a decoder and asks that it used every byte.
fn whole<T>(mut bytes: &[u8], decode: impl FnOnce(&mut &[u8]) -> Option<T>) -> Option<T> {
    let value = decode(&mut bytes)?;
    bytes.is_empty().then_some(value)
}

const REFUSED: u8 = 0;
const OWN_PAYMENT: u8 = 1;
const OWN_MANDATE: u8 = 2;
const OWN_REFUND: u8 = 3;
const OTHER_ENTITY: u8 = 4;
const EARLIER: u8 = 0x80;

/// Writes a receipt without its op id; `participant` scopes it, `height` and `time_ms` are the block's.
fn push_result(bytes: &mut Vec<u8>, receipt: &Receipt, participant: ParticipantId, height: u64, time_ms: u64) {
    let own = ScopedId { participant, op_id: receipt.op_id };
    let is_earlier = receipt.height != height || receipt.time_ms != time_ms;
    let flag = if is_earlier { EARLIER } else { 0 };
    match receipt.result {
        OpResult::Refused(reject) => {
            bytes.push(REFUSED | flag);
            bytes.extend_from_slice(&reject.code().to_be_bytes());
        }
        OpResult::Done(key) if key == EntityKey::Payment(PaymentId(own)) => bytes.push(OWN_PAYMENT | flag),
        OpResult::Done(key) if key == EntityKey::Mandate(MandateId(own)) => bytes.push(OWN_MANDATE | flag),
        OpResult::Done(key) if key == EntityKey::Refund(RefundId(own)) => bytes.push(OWN_REFUND | flag),
        OpResult::Done(key) => {
            let key = key.to_sort_bytes();
            bytes.push(OTHER_ENTITY | flag);
            push_varint(bytes, key.len() as u64);
            bytes.extend_from_slice(&key);
        }
    }
    if is_earlier {
        push_varint(bytes, receipt.height);
        push_varint(bytes, receipt.time_ms);
    }
}

fn take_result(bytes: &mut &[u8], own: ScopedId, height: u64, time_ms: u64) -> Option<Receipt> {
    let tag = take_u8(bytes)?;
    let result = match tag & !EARLIER {
        REFUSED => OpResult::Refused(Reject::from_code(u16::from_be_bytes(take_chunk(bytes)?))?),
        OWN_PAYMENT => OpResult::Done(EntityKey::Payment(PaymentId(own))),
        OWN_MANDATE => OpResult::Done(EntityKey::Mandate(MandateId(own))),
        OWN_REFUND => OpResult::Done(EntityKey::Refund(RefundId(own))),
        OTHER_ENTITY => {
            let length = usize::try_from(take_varint(bytes)?).ok()?;
            let (key, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            OpResult::Done(key_from_sort_bytes(key)?)
        }
        _ => return None,
    };
    let (height, time_ms) =
        if tag & EARLIER == 0 { (height, time_ms) } else { (take_varint(bytes)?, take_varint(bytes)?) };
    Some(Receipt { op_id: own.op_id, result, time_ms, height })
}

impl Latest {
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        push_varint(bytes, self.index);
        push_varint(bytes, self.version);
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        whole(bytes, |bytes| Some(Self { index: take_varint(bytes)?, version: take_varint(bytes)? }))
    }
}

impl OpRow {
    pub(crate) fn encode(&self, id: &ScopedId, bytes: &mut Vec<u8>) {
        let receipt = &self.record.receipt;
        bytes.extend_from_slice(&self.record.body_hash.0);
        push_varint(bytes, self.batch_seq);
        push_varint(bytes, u64::from(self.position));
        push_varint(bytes, receipt.height);
        push_varint(bytes, receipt.time_ms);
        push_result(bytes, receipt, id.participant, receipt.height, receipt.time_ms);
        if let Some(index) = self.payment_index {
            push_varint(bytes, index);
        }
    }

    /// Whether the operation made the payment that is named after it.
    #[must_use]
    pub fn made_payment(&self, id: &ScopedId) -> bool {
        self.record.receipt.result == OpResult::Done(EntityKey::Payment(PaymentId(*id)))
    }

    pub(crate) fn decode(id: &ScopedId, bytes: &[u8]) -> Option<Self> {
        whole(bytes, |bytes| {
            let body_hash = Hash32(take_chunk(bytes)?);
            let batch_seq = take_varint(bytes)?;
            let position = u32::try_from(take_varint(bytes)?).ok()?;
            let height = take_varint(bytes)?;
            let time_ms = take_varint(bytes)?;
            let receipt = take_result(bytes, *id, height, time_ms)?;
            let record = OpRecord { body_hash, receipt };
            let mut row = Self { record, batch_seq, position, payment_index: None };
            if row.made_payment(id) {
                row.payment_index = Some(take_varint(bytes)?);
            }
            Some(row)
        })
    }
}

impl BatchReceipts {
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        push_varint(bytes, self.height);
        push_varint(bytes, self.time_ms);
        bytes.extend_from_slice(&self.participant.0.to_be_bytes());
        bytes.extend_from_slice(&self.batch_hash.0);
        push_varint(bytes, self.receipts.len() as u64);
        for receipt in &self.receipts {
            bytes.extend_from_slice(&receipt.op_id.0.to_be_bytes());
            push_result(bytes, receipt, self.participant, self.height, self.time_ms);
        }
    }

    pub(crate) fn decode(seq: u64, bytes: &[u8]) -> Option<Self> {
        whole(bytes, |bytes| {
            let mut batch = Self::decode_head(seq, bytes)?;
            let n_receipts = usize::try_from(take_varint(bytes)?).ok()?;
            batch.receipts.reserve(n_receipts.min(bytes.len() / 17));
            for _ in 0..n_receipts {
                let op_id = OpId(u128::from_be_bytes(take_chunk(bytes)?));
                let own = ScopedId { participant: batch.participant, op_id };
                batch.receipts.push(take_result(bytes, own, batch.height, batch.time_ms)?);
            }
            Some(batch)
        })
    }

    /// Everything but the receipts.
    pub(crate) fn decode_head(seq: u64, bytes: &mut &[u8]) -> Option<Self> {
        Some(Self {
            seq,
            height: take_varint(bytes)?,
            time_ms: take_varint(bytes)?,
            participant: ParticipantId(u32::from_be_bytes(take_chunk(bytes)?)),
            batch_hash: Hash32(take_chunk(bytes)?),
            receipts: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_one_form() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            push_varint(&mut bytes, value);
            assert_eq!(whole(&bytes, take_varint), Some(value));
        }
        assert_eq!(whole(&[0x80, 0x00], take_varint), None);
        assert_eq!(whole(&[0xff; 11], take_varint), None);
        assert_eq!(whole(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], take_varint), None);
    }

    #[test]
    fn receipts_of_every_kind_read_back() {
        let participant = ParticipantId(3);
        let id = |tail| ScopedId { participant, op_id: OpId::new(1_700_000_000_000, tail) };
        let other = ScopedId { participant: ParticipantId(9), op_id: OpId(77) };
        let receipt = |tail, result, height| Receipt { op_id: id(tail).op_id, result, time_ms: height * 10, height };
        let receipts = vec![
            receipt(1, OpResult::Done(EntityKey::Payment(PaymentId(id(1)))), 5),
            receipt(2, OpResult::Done(EntityKey::Mandate(MandateId(id(2)))), 5),
            receipt(3, OpResult::Done(EntityKey::Refund(RefundId(id(3)))), 5),
            receipt(4, OpResult::Done(EntityKey::Payment(PaymentId(other))), 5),
            receipt(5, OpResult::Refused(Reject::AboveCap), 5),
            receipt(1, OpResult::Done(EntityKey::Payment(PaymentId(id(1)))), 4),
            receipt(6, OpResult::Refused(Reject::Overflow), 3),
            receipt(7, OpResult::Done(EntityKey::Control), 5),
        ];
        for one in &receipts {
            let record = OpRecord { body_hash: Hash32([7; 32]), receipt: one.clone() };
            let key = ScopedId { participant, op_id: one.op_id };
            let mut row = OpRow { record, batch_seq: 300, position: 4095, payment_index: None };
            row.payment_index = row.made_payment(&key).then_some(1 << 40);
            let mut bytes = Vec::new();
            row.encode(&key, &mut bytes);
            assert_eq!(OpRow::decode(&key, &bytes), Some(row));
            assert_eq!(decode_op_key(&op_key(&key)), Some(key));
            bytes.push(0);
            assert_eq!(OpRow::decode(&key, &bytes), None, "a byte is left over");
        }
        let batch =
            BatchReceipts { seq: 12, height: 5, time_ms: 50, participant, batch_hash: Hash32([1; 32]), receipts };
        let mut bytes = Vec::new();
        batch.encode(&mut bytes);
        assert_eq!(BatchReceipts::decode(12, &bytes), Some(batch));
        for cut in 0..bytes.len() {
            assert_eq!(BatchReceipts::decode(12, &bytes[..cut]), None, "cut at {cut}");
        }
    }
}
