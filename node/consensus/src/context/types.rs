//! Heights, addresses and values as the engine wants them.

use crate::engine_types::core;
use anji_contracts::types::Hash32;
use anji_verify::Address;
use std::fmt;

/// A block height; the first block is 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Height(pub(crate) u64);

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl core::Height for Height {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, n: u64) -> Self {
        // A peer may name any height; 2^64 blocks are not reached by counting.
        Self(self.0.saturating_add(n))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

/// A validator's address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct VoterAddress(pub(crate) Address);

impl fmt::Display for VoterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl core::Address for VoterAddress {}

/// What is decided: a header, by its hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct BlockValue(pub(crate) Hash32);

impl core::Value for BlockValue {
    type Id = Hash32;

    fn id(&self) -> Hash32 {
        self.0
    }
}
