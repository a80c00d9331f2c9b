//! The block file: bodies and certificates, synced before anything is told. The write-ahead log of the whole node.
#![allow(clippy::missing_errors_doc, unused_variables)]

use crate::error::{AppendError, ReadError};
use anji_contracts::types::Hash32;
use anji_verify::{CommitCertificate, Header};
use bytes::Bytes;

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

/// The block file. Clones share it. Every call blocks the thread (appends sync the disk): keep it off the async threads.
#[derive(Clone, Debug)]
pub struct BlockFile {
    _inner: std::sync::Arc<()>,
}

impl BlockFile {
    /// Writes a proposed block and syncs it; returns its value (the header hash). Writing one that is there already does nothing.
    ///
    /// # Correctness
    /// Call before voting for the value or answering with it: a decided value whose body is nowhere halts the chain.
    pub fn append_proposal(&self, header: &Header, batches: &[Bytes]) -> Result<Hash32, AppendError> {
        unimplemented!()
    }

    /// Writes the certificate that decides the next height and syncs it. Its proposal must be in the file. A certificate for a height that is
    /// decided with the same value does nothing.
    ///
    /// # Correctness
    /// Call before anybody is told that the height is decided.
    pub fn append_decision(&self, certificate: &CommitCertificate) -> Result<(), AppendError> {
        unimplemented!()
    }

    /// Body and certificate with one sync: for decided blocks that come from a peer.
    pub fn append_decided(
        &self,
        header: &Header,
        batches: &[Bytes],
        certificate: &CommitCertificate,
    ) -> Result<(), AppendError> {
        unimplemented!()
    }

    /// Height of the last decided block; 0 before the first.
    #[must_use]
    pub fn decided_height(&self) -> u64 {
        unimplemented!()
    }

    /// Lowest height that is still in the file; 1 unless old segments were archived.
    #[must_use]
    pub fn first_height(&self) -> u64 {
        unimplemented!()
    }

    /// The decided block of a height; `None` if it is not decided here.
    pub fn load_block(&self, height: u64) -> Result<Option<Block>, ReadError> {
        unimplemented!()
    }

    /// Header and certificate of a decided height without its batches.
    pub fn load_decision(&self, height: u64) -> Result<Option<(Header, CommitCertificate)>, ReadError> {
        unimplemented!()
    }

    /// A proposed block by value, of a height that is not decided yet or is the last decided one.
    pub fn load_proposal(&self, value: &Hash32) -> Result<Option<Proposal>, ReadError> {
        unimplemented!()
    }

    /// Values of the proposals in the file for heights above the decided one: (height, round of the header, value), sorted.
    #[must_use]
    pub fn undecided(&self) -> Vec<(u64, u32, Hash32)> {
        unimplemented!()
    }
}
