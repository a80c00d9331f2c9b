//! The signed batch: one participant's signature over a header that commits to every operation. Bytes are archived as
//! received and never re-serialised; whatever is hashed or verified here is a slice of what arrived.

use crate::codec::{self, Domain};
use crate::entity::{Key, Participant, Suite};
use crate::keys;
use crate::ops::Op;
use crate::reject::Reject;
use crate::types::{ChainId, Hash32, KeyId, ParticipantId};
use alloc::vec::Vec;
use borsh::{BorshDeserialize, BorshSerialize};

/// Format version of everything in this crate.
pub const FORMAT: u16 = 1;
/// Largest batch in bytes.
pub const MAX_BATCH_BYTES: usize = 1 << 20;
/// Most operations of a batch.
pub const MAX_BATCH_OPS: usize = 4096;
/// A batch expires at most this long after the time of the block that holds it.
pub const MAX_BATCH_LIFE_MS: u64 = 10 * 60 * 1000;

/// Bytes of an operation before its body: the id and the `linked` flag.
const OP_PREFIX_BYTES: usize = 17;

/// What is signed.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct BatchHeader {
    /// [`FORMAT`].
    pub format: u16,
    /// Which ledger.
    pub chain_id: ChainId,
    /// Who signs.
    pub participant: ParticipantId,
    /// With which of its keys.
    pub key_id: KeyId,
    /// No block whose time is at or after this may hold the batch.
    pub expires_at_ms: u64,
    /// Number of operations.
    pub n_ops: u32,
    /// Merkle root over the operations' bytes, see [`codec::merkle_root`].
    pub ops_root: Hash32,
}

/// A batch whose bytes were decoded and whose header matches its operations. The signature is not verified yet.
#[derive(Clone, Debug)]
pub struct DecodedBatch {
    /// BLAKE3 over all the bytes.
    pub hash: Hash32,
    /// The signed header.
    pub header: BatchHeader,
    /// The operations.
    pub ops: Vec<Op>,
    /// BLAKE3 of each operation's body bytes as received: what the duplicate rule compares.
    pub body_hashes: Vec<Hash32>,
    /// The signature: 64 bytes.
    pub signature: [u8; 64],
    /// BLAKE3 of what the signature covers.
    pub signing_digest: [u8; 32],
}

/// A batch whose signature was verified with the key its header names.
#[derive(Clone, Debug)]
pub struct CheckedBatch(DecodedBatch);

impl core::ops::Deref for CheckedBatch {
    type Target = DecodedBatch;
    fn deref(&self) -> &DecodedBatch {
        &self.0
    }
}

impl DecodedBatch {
    /// Verifies the signature with `public_key` of this suite, see [`keys::verify`].
    ///
    /// # Errors
    /// [`Reject::BadSignature`] if it does not verify or the key is none.
    pub fn verify(self, suite: Suite, public_key: &[u8]) -> Result<CheckedBatch, Reject> {
        keys::verify(suite, public_key, &self.signing_digest, &self.signature)?;
        Ok(CheckedBatch(self))
    }

    /// Takes a batch as verified that was verified before, on this machine, with the same key and the same hash.
    ///
    /// # Correctness
    /// The caller must have kept (public key, batch hash) from an earlier successful [`Self::verify`], or hold the batch inside a
    /// block whose commit certificate it verified.
    #[must_use]
    pub const fn assume_verified(self) -> CheckedBatch {
        CheckedBatch(self)
    }
}

/// The key `key_id` of `participant` if it may sign at ledger time `time_ms`. Admission asks with the state it has, the
/// executor asks again at block time.
///
/// # Errors
/// [`Reject::UnknownKey`] or [`Reject::KeyNotValid`].
pub fn find_key(participant: &Participant, key_id: KeyId, time_ms: u64) -> Result<&Key, Reject> {
    let key = participant.keys.iter().find(|key| key.key_id == key_id).ok_or(Reject::UnknownKey)?;
    let revoked = key.revoked_at_ms.is_some_and(|revoked_at_ms| time_ms >= revoked_at_ms);
    if revoked || time_ms < key.valid_from_ms || time_ms >= key.valid_until_ms {
        return Err(Reject::KeyNotValid);
    }
    Ok(key)
}

/// Whether a batch with this expiry may be in a block of this time.
///
/// # Errors
/// [`Reject::BatchExpired`] or [`Reject::ExpiryTooFar`].
pub const fn check_expiry(expires_at_ms: u64, block_time_ms: u64) -> Result<(), Reject> {
    if expires_at_ms <= block_time_ms {
        return Err(Reject::BatchExpired);
    }
    if expires_at_ms > block_time_ms.saturating_add(MAX_BATCH_LIFE_MS) {
        return Err(Reject::ExpiryTooFar);
    }
    Ok(())
}

/// The parts of a batch, as they lie in its bytes.
struct Parts<'a> {
    bytes: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Reads the header, which bounds everything else.
    fn open(bytes: &'a [u8], chain: &ChainId) -> Result<(BatchHeader, usize, Self), Reject> {
        if bytes.len() > MAX_BATCH_BYTES {
            return Err(Reject::TooLarge);
        }
        let mut rest = bytes;
        let header = codec::decode_prefix::<BatchHeader>(&mut rest)?;
        if header.format != FORMAT {
            return Err(Reject::UnsupportedFormat);
        }
        if header.chain_id != *chain {
            return Err(Reject::WrongChain);
        }
        let n_ops = usize::try_from(header.n_ops).map_err(|_| Reject::TooManyOps)?;
        if n_ops == 0 {
            return Err(Reject::EmptyBatch);
        }
        if n_ops > MAX_BATCH_OPS {
            return Err(Reject::TooManyOps);
        }
        Ok((header, n_ops, Self { bytes, rest }))
    }

    /// Bytes from the front to where reading is.
    fn at(&self) -> usize {
        self.bytes.len().saturating_sub(self.rest.len())
    }

    fn next_op(&mut self) -> Result<&'a [u8], Reject> {
        let length = codec::decode_prefix::<u32>(&mut self.rest)?;
        codec::take(&mut self.rest, length)
    }

    /// The signature, with which the batch ends.
    fn close(mut self) -> Result<[u8; 64], Reject> {
        let signature = codec::take(&mut self.rest, 64)?.try_into().map_err(|_| Reject::Malformed)?;
        if self.rest.is_empty() { Ok(signature) } else { Err(Reject::TrailingBytes) }
    }
}

/// Layout: header ‖ per operation (u32 length ‖ bytes) ‖ 64 bytes of signature. All integers little-endian.
///
/// # Errors
/// A 1xxx reject that names what is wrong with the bytes. Sizes are bounded before anything is allocated.
pub fn decode_batch(bytes: &[u8], chain: &ChainId) -> Result<DecodedBatch, Reject> {
    let (header, n_ops, mut parts) = Parts::open(bytes, chain)?;
    let signed = bytes.get(..parts.at()).ok_or(Reject::Malformed)?;
    let signing_digest = codec::hash(Domain::BatchHeader, signed).0;
    let mut ops = Vec::with_capacity(n_ops.min(parts.rest.len() / 8));
    let mut leaves = Vec::with_capacity(ops.capacity());
    let mut body_hashes = Vec::with_capacity(ops.capacity());
    for _ in 0..n_ops {
        let op_bytes = parts.next_op()?;
        let op = codec::decode::<Op>(op_bytes)?;
        op.body.check_fields()?;
        ops.push(op);
        body_hashes.push(codec::hash(Domain::OpBody, op_bytes.get(OP_PREFIX_BYTES..).ok_or(Reject::Malformed)?));
        leaves.push(codec::merkle_leaf(op_bytes));
    }
    let signature = parts.close()?;
    if ops.last().is_some_and(|op| op.linked) {
        return Err(Reject::LinkUnterminated);
    }
    if codec::merkle_root(&leaves) != header.ops_root {
        return Err(Reject::OpsRootMismatch);
    }
    Ok(DecodedBatch { hash: codec::hash(Domain::Batch, bytes), header, ops, body_hashes, signature, signing_digest })
}

/// A batch taken apart, its operations as the bytes that arrived.
pub struct SplitBatch<'a> {
    /// BLAKE3 of all bytes, with the batch's domain.
    pub hash: Hash32,
    /// The header.
    pub header: BatchHeader,
    /// The exact bytes of each operation, in order.
    pub ops: Vec<&'a [u8]>,
    /// Over the hash of the header, by the suite of the key that the header names.
    pub signature: [u8; 64],
}

/// Takes a batch apart without decoding its operations: for proofs about one that was decoded and executed before. The caller compares
/// the hash with that batch's.
///
/// # Errors
/// As [`decode_batch`], for what is around the operations.
pub fn split_batch<'a>(bytes: &'a [u8], chain: &ChainId) -> Result<SplitBatch<'a>, Reject> {
    let (header, n_ops, mut parts) = Parts::open(bytes, chain)?;
    let mut ops = Vec::with_capacity(n_ops.min(parts.rest.len() / 8));
    for _ in 0..n_ops {
        ops.push(parts.next_op()?);
    }
    Ok(SplitBatch { hash: codec::hash(Domain::Batch, bytes), header, ops, signature: parts.close()? })
}

/// Builds the exact bytes of a batch; `sign` gets the digest that the signature covers.
///
/// # Errors
/// [`Reject::EmptyBatch`], [`Reject::TooManyOps`], [`Reject::LinkUnterminated`], [`Reject::TooLarge`] or what
/// [`crate::ops::OpBody::check_fields`] finds.
pub fn encode_batch(
    chain: &ChainId,
    participant: ParticipantId,
    key_id: KeyId,
    expires_at_ms: u64,
    ops: &[Op],
    sign: impl FnOnce(&[u8; 32]) -> [u8; 64],
) -> Result<Vec<u8>, Reject> {
    if ops.is_empty() {
        return Err(Reject::EmptyBatch);
    }
    if ops.len() > MAX_BATCH_OPS {
        return Err(Reject::TooManyOps);
    }
    if ops.last().is_some_and(|op| op.linked) {
        return Err(Reject::LinkUnterminated);
    }
    ops.iter().try_for_each(|op| op.body.check_fields())?;
    let encoded: Vec<Vec<u8>> = ops.iter().map(codec::encode).collect();
    let leaves: Vec<Hash32> = encoded.iter().map(|op| codec::merkle_leaf(op)).collect();
    let header = BatchHeader {
        format: FORMAT,
        chain_id: *chain,
        participant,
        key_id,
        expires_at_ms,
        n_ops: u32::try_from(ops.len()).map_err(|_| Reject::TooManyOps)?,
        ops_root: codec::merkle_root(&leaves),
    };
    let mut bytes = codec::encode(&header);
    let digest = codec::hash(Domain::BatchHeader, &bytes).0;
    for op in &encoded {
        bytes.extend_from_slice(&u32::try_from(op.len()).map_err(|_| Reject::TooLarge)?.to_le_bytes());
        bytes.extend_from_slice(op);
    }
    bytes.extend_from_slice(&sign(&digest));
    if bytes.len() > MAX_BATCH_BYTES {
        return Err(Reject::TooLarge);
    }
    Ok(bytes)
}
