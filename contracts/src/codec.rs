//! Canonical bytes (borsh) and hashes: whatever is hashed, signed or stored. BLAKE3 with a context string per purpose, so that
//! a hash of one thing can never be taken for a hash of another.

pub use crate::keys::verify_ed25519;
use crate::reject::Reject;
use crate::types::Hash32;
use alloc::vec::Vec;
use borsh::{BorshDeserialize, BorshSerialize};

/// What is hashed; each has a context string of its own, listed in `proto/FORMAT.md`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Domain {
    /// The genesis document: gives the chain id.
    Genesis,
    /// A batch's signed header: gives the digest that is signed.
    BatchHeader,
    /// All bytes of a batch: gives its hash.
    Batch,
    /// An operation's body bytes: the duplicate rule compares them.
    OpBody,
    /// A block header: gives the value consensus decides.
    BlockHeader,
    /// A validator set.
    ValidatorSet,
    /// A consensus vote's sign bytes.
    Vote,
    /// A consensus proposal's sign bytes.
    Proposal,
    /// A validator's address.
    Address,
    /// An evidence bundle: its last bytes are the hash of those before.
    Evidence,
    /// A chunk of the bitmap of latest versions.
    ActiveChunk,
    /// An inner node of the tree over these chunks.
    ActiveNode,
}

impl Domain {
    /// The BLAKE3 `derive_key` context.
    #[must_use]
    pub const fn context(self) -> &'static str {
        match self {
            Self::Genesis => "anji v1 genesis",
            Self::BatchHeader => "anji v1 batch header",
            Self::Batch => "anji v1 batch",
            Self::OpBody => "anji v1 operation body",
            Self::BlockHeader => "anji v1 block header",
            Self::ValidatorSet => "anji v1 validator set",
            Self::Vote => "anji v1 consensus vote",
            Self::Proposal => "anji v1 consensus proposal",
            Self::Address => "anji v1 validator address",
            Self::Evidence => "anji v1 evidence bundle",
            Self::ActiveChunk => "anji v1 active chunk",
            Self::ActiveNode => "anji v1 active node",
        }
    }
}

/// BLAKE3 in `derive_key` mode with the domain's context.
#[must_use]
pub fn hash(domain: Domain, bytes: &[u8]) -> Hash32 {
    Hash32(blake3::derive_key(domain.context(), bytes))
}

/// Canonical bytes of a value.
///
/// # Panics
/// Never: writing to memory does not fail, and no type of this crate refuses to be written.
#[must_use]
#[expect(clippy::expect_used, reason = "borsh fails only when the writer does, and a Vec does not")]
pub fn encode<T: BorshSerialize + ?Sized>(value: &T) -> Vec<u8> {
    borsh::to_vec(value).expect("a Vec takes every byte")
}

/// Reads a value that fills `bytes` exactly.
///
/// # Errors
/// [`Reject::Malformed`] or [`Reject::TrailingBytes`].
pub fn decode<T: BorshDeserialize>(mut bytes: &[u8]) -> Result<T, Reject> {
    let value = decode_prefix(&mut bytes)?;
    if bytes.is_empty() { Ok(value) } else { Err(Reject::TrailingBytes) }
}

/// Reads a value off the front of `bytes`.
///
/// # Errors
/// [`Reject::Malformed`].
pub fn decode_prefix<T: BorshDeserialize>(bytes: &mut &[u8]) -> Result<T, Reject> {
    T::deserialize(bytes).map_err(|_| Reject::Malformed)
}

/// Takes `length` bytes off the front of `bytes`.
///
/// # Errors
/// [`Reject::Malformed`] if there are fewer.
pub fn take<'a>(bytes: &mut &'a [u8], length: u32) -> Result<&'a [u8], Reject> {
    let length = usize::try_from(length).map_err(|_| Reject::Malformed)?;
    let (head, tail) = bytes.split_at_checked(length).ok_or(Reject::Malformed)?;
    *bytes = tail;
    Ok(head)
}

/// Leaf of an operation or receipt: BLAKE3(0x00 ‖ bytes).
#[must_use]
pub fn merkle_leaf(bytes: &[u8]) -> Hash32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[0]);
    hasher.update(bytes);
    Hash32(*hasher.finalize().as_bytes())
}

/// Inner node: BLAKE3(0x01 ‖ left ‖ right).
#[must_use]
pub fn merkle_node(left: &Hash32, right: &Hash32) -> Hash32 {
    let mut bytes = [1; 65];
    let (head, tail) = bytes.split_at_mut(33);
    if let Some(slot) = head.get_mut(1..) {
        slot.copy_from_slice(&left.0);
    }
    tail.copy_from_slice(&right.0);
    Hash32(*blake3::hash(&bytes).as_bytes())
}

/// Root of the tree of RFC 6962 shape (a left subtree is the largest power of two below the size) over the leaves, with
/// BLAKE3. The root of nothing is BLAKE3 of nothing.
#[must_use]
pub fn merkle_root(leaves: &[Hash32]) -> Hash32 {
    if leaves.is_empty() {
        return Hash32(*blake3::hash(&[]).as_bytes());
    }
    // A lone node moves up unchanged, which yields exactly the RFC's shape.
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .filter_map(|pair| match pair {
                [left, right] => Some(merkle_node(left, right)),
                [lone] => Some(*lone),
                _ => None,
            })
            .collect();
    }
    level.first().copied().unwrap_or(Hash32::ZERO)
}
