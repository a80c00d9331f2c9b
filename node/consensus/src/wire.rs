//! The bytes between nodes: what goes over the consensus and control channels and over requests. Borsh, every enum tagged, every list
//! bounded. A frame that does not decode costs its sender, and nothing else happens.

use crate::error::WireError;
use anji_contracts::types::Hash32;
use anji_verify::{Address, CommitCertificate, Header, MAX_BLOCK_BATCHES};
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;

/// Signatures in any certificate at most: far above any permissioned validator set.
pub(crate) const MAX_SIGNATURES: usize = 256;
/// Hashes in one request for batches.
pub(crate) const MAX_HASHES_PER_REQUEST: usize = 256;
/// Blocks in one request.
pub(crate) const MAX_BLOCKS_PER_REQUEST: u64 = 64;
/// An answer stops growing here. The next item may pass it: one block (2 MiB and its header) always fits the network's answers.
pub(crate) const ANSWER_SOFT_BYTES: usize = 8 << 20;
/// The largest frame on the consensus channel: a header with 4,096 hashes is half of it.
pub(crate) const MAX_FRAME_BYTES: usize = 256 << 10;
/// Rounds above this are nobody's: nodes that failed so often have other troubles.
pub(crate) const MAX_ROUND: u32 = 100_000;

/// One frame of the consensus channel.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) enum ConsensusFrame {
    /// A vote of the sender.
    Vote(SignedVote),
    /// A proposal.
    Proposal(SignedProposal),
    /// Header and batch hashes of a proposal.
    Part(Part),
    /// The prevotes that let a value be proposed again.
    Polka(Polka),
    /// The votes that end a round.
    Round(RoundVotes),
}

/// A vote with its signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct SignedVote {
    /// Whether it is a precommit.
    pub(crate) precommit: bool,
    pub(crate) height: u64,
    pub(crate) round: u32,
    pub(crate) value: Option<Hash32>,
    pub(crate) validator: Address,
    pub(crate) signature: [u8; 64],
}

/// A proposal with its signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct SignedProposal {
    pub(crate) height: u64,
    pub(crate) round: u32,
    pub(crate) value: Hash32,
    pub(crate) pol_round: Option<u32>,
    pub(crate) validator: Address,
    pub(crate) signature: [u8; 64],
}

/// Header and batch hashes of a proposal.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Part {
    pub(crate) round: u32,
    pub(crate) valid_round: Option<u32>,
    pub(crate) header: Header,
    pub(crate) batch_hashes: Vec<Hash32>,
}

/// Prevotes for one value.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Polka {
    pub(crate) height: u64,
    pub(crate) round: u32,
    pub(crate) value: Hash32,
    pub(crate) signatures: Vec<(Address, [u8; 64])>,
}

/// Votes of any value that end a round.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct RoundVotes {
    pub(crate) height: u64,
    pub(crate) round: u32,
    /// Whether more than two thirds precommitted; otherwise more than one third is in a later round.
    pub(crate) precommits: bool,
    pub(crate) signatures: Vec<RoundVote>,
}

/// One vote of [`RoundVotes`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct RoundVote {
    pub(crate) precommit: bool,
    pub(crate) value: Option<Hash32>,
    pub(crate) validator: Address,
    pub(crate) signature: [u8; 64],
}

/// One frame of the control channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) enum ControlFrame {
    /// Where the sender stands.
    Status {
        /// Its last decided height, durable; 0 before the first.
        decided_height: u64,
        /// The first height it can serve.
        first_height: u64,
    },
}

/// What a peer may ask.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) enum PeerRequest {
    /// Batches by hash, at most [`MAX_HASHES_PER_REQUEST`]. The answer is [`BatchesAnswer`].
    Batches(Vec<Hash32>),
    /// Decided blocks, both ends included. The answer is [`BlocksAnswer`].
    Blocks {
        /// First height.
        first: u64,
        /// Last height.
        last: u64,
    },
}

/// Batches that the peer has, in the order asked for; unknown ones and those past the answer's size are left out.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct BatchesAnswer {
    pub(crate) batches: Vec<Vec<u8>>,
}

/// Decided blocks from the first height asked for; as many as fit, at least one if the peer has it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct BlocksAnswer {
    pub(crate) blocks: Vec<DecidedBytes>,
}

/// One decided block on the wire.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct DecidedBytes {
    pub(crate) certificate: CommitCertificate,
    pub(crate) body: BlockBytes,
}

/// Header and batches as archived.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct BlockBytes {
    pub(crate) header: Header,
    pub(crate) batches: Vec<Vec<u8>>,
}

/// Encodes anything of this file.
pub(crate) fn encode<T: BorshSerialize>(value: &T) -> Bytes {
    Bytes::from(anji_contracts::codec::encode(value))
}

fn decode_exact<T: BorshDeserialize>(what: &'static str, bytes: &[u8]) -> Result<T, WireError> {
    borsh::from_slice(bytes).map_err(|_| WireError::Malformed(what))
}

fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), WireError> {
    if found > limit { Err(WireError::TooMany { what, found, limit }) } else { Ok(()) }
}

fn round_in_range(round: u32) -> Result<(), WireError> {
    if round > MAX_ROUND { Err(WireError::Round(round)) } else { Ok(()) }
}

/// Decodes a frame of the consensus channel.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn decode_consensus(bytes: &[u8]) -> Result<ConsensusFrame, WireError> {
    at_most("bytes of a frame", bytes.len(), MAX_FRAME_BYTES)?;
    let frame: ConsensusFrame = decode_exact("consensus frame", bytes)?;
    match &frame {
        ConsensusFrame::Vote(vote) => round_in_range(vote.round)?,
        ConsensusFrame::Proposal(proposal) => round_in_range(proposal.round)?,
        ConsensusFrame::Part(part) => {
            round_in_range(part.round)?;
            at_most("batch hashes", part.batch_hashes.len(), MAX_BLOCK_BATCHES)?;
        }
        ConsensusFrame::Polka(polka) => {
            round_in_range(polka.round)?;
            at_most("signatures", polka.signatures.len(), MAX_SIGNATURES)?;
        }
        ConsensusFrame::Round(votes) => {
            round_in_range(votes.round)?;
            at_most("signatures", votes.signatures.len(), MAX_SIGNATURES)?;
        }
    }
    Ok(frame)
}

/// Decodes a frame of the control channel.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn decode_control(bytes: &[u8]) -> Result<ControlFrame, WireError> {
    decode_exact("control frame", bytes)
}

/// Decodes a peer's request.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn decode_request(bytes: &[u8]) -> Result<PeerRequest, WireError> {
    let request: PeerRequest = decode_exact("request", bytes)?;
    match &request {
        PeerRequest::Batches(hashes) => at_most("batch hashes", hashes.len(), MAX_HASHES_PER_REQUEST)?,
        PeerRequest::Blocks { first, last } => {
            if first > last || *first == 0 || last - first >= MAX_BLOCKS_PER_REQUEST {
                return Err(WireError::Range { first: *first, last: *last });
            }
        }
    }
    Ok(request)
}

/// Decodes an answer to [`PeerRequest::Batches`].
///
/// # Errors
/// What is wrong with it.
pub(crate) fn decode_batches(bytes: &[u8]) -> Result<BatchesAnswer, WireError> {
    let answer: BatchesAnswer = decode_exact("answer with batches", bytes)?;
    at_most("batches", answer.batches.len(), MAX_HASHES_PER_REQUEST)?;
    Ok(answer)
}

/// Decodes an answer to [`PeerRequest::Blocks`].
///
/// # Errors
/// What is wrong with it.
pub(crate) fn decode_blocks(bytes: &[u8]) -> Result<BlocksAnswer, WireError> {
    let answer: BlocksAnswer = decode_exact("answer with blocks", bytes)?;
    at_most("blocks", answer.blocks.len(), usize::try_from(MAX_BLOCKS_PER_REQUEST).unwrap_or(usize::MAX))?;
    for block in &answer.blocks {
        at_most("signatures", block.certificate.signatures.len(), MAX_SIGNATURES)?;
        at_most("batches", block.body.batches.len(), MAX_BLOCK_BATCHES)?;
    }
    Ok(answer)
}

/// Decodes header and batches of a decided block.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn decode_block(bytes: &[u8]) -> Result<BlockBytes, WireError> {
    let block: BlockBytes = decode_exact("block", bytes)?;
    at_most("batches", block.batches.len(), MAX_BLOCK_BATCHES)?;
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote() -> ConsensusFrame {
        ConsensusFrame::Vote(SignedVote {
            precommit: true,
            height: 3,
            round: 1,
            value: Some(Hash32([1; 32])),
            validator: Address([2; 20]),
            signature: [3; 64],
        })
    }

    #[test]
    fn frames_survive_the_wire_and_nothing_else_does() {
        let bytes = encode(&vote());
        assert_eq!(decode_consensus(&bytes).expect("good"), vote());
        for cut in 0..bytes.len() {
            assert!(decode_consensus(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(decode_consensus(&longer).is_err());
        assert!(decode_consensus(&[9; 40]).is_err(), "unknown tag");
        assert!(decode_consensus(&vec![0; MAX_FRAME_BYTES + 1]).is_err());
    }

    #[test]
    fn a_list_that_claims_to_be_huge_allocates_nothing() {
        let mut bytes = vec![3u8];
        bytes.extend_from_slice(&1u64.to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
        bytes.extend_from_slice(&[0; 32]);
        bytes.extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(decode_consensus(&bytes).is_err());
    }

    #[test]
    fn rounds_and_ranges_are_bounded() {
        let ConsensusFrame::Vote(mut inner) = vote() else { unreachable!("made above") };
        inner.round = u32::MAX;
        assert!(decode_consensus(&encode(&ConsensusFrame::Vote(inner))).is_err());
        for (first, last, good) in
            [(1, 1, true), (1, 64, true), (1, 65, false), (0, 1, false), (5, 4, false), (1, u64::MAX, false)]
        {
            assert_eq!(decode_request(&encode(&PeerRequest::Blocks { first, last })).is_ok(), good, "{first}..={last}");
        }
        let many = vec![Hash32::ZERO; MAX_HASHES_PER_REQUEST + 1];
        assert!(decode_request(&encode(&PeerRequest::Batches(many))).is_err());
    }
}
