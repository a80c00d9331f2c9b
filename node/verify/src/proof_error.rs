//! Why a proof proves nothing.

use core::fmt;

/// Why a proof proves nothing. Whatever the variant, nothing may be concluded from the proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProofError {
    /// The place that the proof is about lies outside the tree.
    OutOfRange,
    /// It has more or fewer hashes than a tree of this size needs.
    WrongLength,
    /// It leads to another root than the one that is trusted.
    WrongRoot,
    /// The older tree is larger than the newer one.
    Shrunk,
    /// Bits are set past the end of the bitmap.
    BitsPastEnd,
    /// The two neighbours are not next to each other, or what is said to be absent does not lie between them.
    NotNeighbours,
}

impl fmt::Display for ProofError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfRange => "the place lies outside the tree",
            Self::WrongLength => "the path has another length than a tree of this size needs",
            Self::WrongRoot => "the path leads to another root",
            Self::Shrunk => "the older tree is larger than the newer one",
            Self::BitsPastEnd => "bits are set past the end of the bitmap",
            Self::NotNeighbours => "the neighbours do not enclose what is said to be absent",
        })
    }
}

impl core::error::Error for ProofError {}
