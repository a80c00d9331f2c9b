//! Between the engine's types and the bytes of [`crate::wire`]. The engine's own log uses the same bytes.
//! Round numbers are never negative on the wire: a message without a round cannot be written.

use crate::context::Proposal;
use crate::context::{Anji, BlockValue, Height, ProposalPart, Signature, Vote, VoterAddress};
use crate::engine_types::core::{
    CommitCertificate as EngineCertificate, ExtendedCommitCertificate, ExtendedCommitSignature, NilOrVal,
    PolkaCertificate, PolkaSignature, Round, RoundCertificate, RoundCertificateType, RoundSignature, SignedMessage,
    Validity, VoteType,
};
use crate::engine_types::{ProposedValue, SignedConsensusMsg};
use crate::error::WireError;
use crate::wire;
use anji_contracts::types::Hash32;
use anji_verify::{Address, CommitCertificate, CommitSignature};
use arc_malachitebft_app_channel::app::consensus::LivenessMsg;
use arc_malachitebft_app_channel::app::types::codec::{Codec, HasEncodedLen};
use arc_malachitebft_sync::{Request, Response, Status, ValueResponse};
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use std::sync::Arc;

/// The codec that the engine is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireCodec;

fn round(round: Round) -> Result<u32, WireError> {
    round.as_u32().ok_or(WireError::NoRound)
}

fn value_of(value: NilOrVal<Hash32>) -> Option<Hash32> {
    match value {
        NilOrVal::Nil => None,
        NilOrVal::Val(hash) => Some(hash),
    }
}

fn nil_or(value: Option<Hash32>) -> NilOrVal<Hash32> {
    value.map_or(NilOrVal::Nil, NilOrVal::Val)
}

const fn kind(precommit: bool) -> VoteType {
    if precommit { VoteType::Precommit } else { VoteType::Prevote }
}

type SignedVote = SignedMessage<Anji, Vote>;
type SignedProposal = SignedMessage<Anji, Proposal>;

pub(crate) fn vote_to_wire(vote: &SignedVote) -> Result<wire::SignedVote, WireError> {
    let Vote { kind, height, round: at, value, address } = vote.message;
    Ok(wire::SignedVote {
        precommit: kind == VoteType::Precommit,
        height: height.0,
        round: round(at)?,
        value: value_of(value),
        validator: address.0,
        signature: vote.signature.0,
    })
}

pub(crate) fn vote_from_wire(vote: &wire::SignedVote) -> SignedVote {
    let message = Vote {
        kind: kind(vote.precommit),
        height: Height(vote.height),
        round: Round::new(vote.round),
        value: nil_or(vote.value),
        address: VoterAddress(vote.validator),
    };
    SignedMessage::new(message, Signature(vote.signature))
}

pub(crate) fn proposal_to_wire(proposal: &SignedProposal) -> Result<wire::SignedProposal, WireError> {
    let Proposal { height, round: at, value, pol_round, address } = proposal.message;
    Ok(wire::SignedProposal {
        height: height.0,
        round: round(at)?,
        value: value.0,
        pol_round: pol_round.as_u32(),
        validator: address.0,
        signature: proposal.signature.0,
    })
}

pub(crate) fn proposal_from_wire(proposal: &wire::SignedProposal) -> SignedProposal {
    let message = Proposal {
        height: Height(proposal.height),
        round: Round::new(proposal.round),
        value: BlockValue(proposal.value),
        pol_round: Round::from(proposal.pol_round),
        address: VoterAddress(proposal.validator),
    };
    SignedMessage::new(message, Signature(proposal.signature))
}

pub(crate) fn part_to_wire(part: &ProposalPart) -> wire::Part {
    wire::Part {
        round: part.round,
        valid_round: part.valid_round,
        header: (*part.header).clone(),
        batch_hashes: part.batch_hashes.to_vec(),
    }
}

pub(crate) fn part_from_wire(part: wire::Part) -> ProposalPart {
    ProposalPart {
        round: part.round,
        valid_round: part.valid_round,
        header: Arc::new(part.header),
        batch_hashes: part.batch_hashes.into(),
    }
}

pub(crate) fn polka_to_wire(polka: &PolkaCertificate<Anji>) -> Result<wire::Polka, WireError> {
    Ok(wire::Polka {
        height: polka.height.0,
        round: round(polka.round)?,
        value: polka.value_id,
        signatures: polka.polka_signatures.iter().map(|it| (it.address.0, it.signature.0)).collect(),
    })
}

pub(crate) fn polka_from_wire(polka: wire::Polka) -> PolkaCertificate<Anji> {
    PolkaCertificate {
        height: Height(polka.height),
        round: Round::new(polka.round),
        value_id: polka.value,
        polka_signatures: polka
            .signatures
            .into_iter()
            .map(|(address, signature)| PolkaSignature::new(VoterAddress(address), Signature(signature)))
            .collect(),
    }
}

fn round_votes_to_wire(certificate: &RoundCertificate<Anji>) -> Result<wire::RoundVotes, WireError> {
    Ok(wire::RoundVotes {
        height: certificate.height.0,
        round: round(certificate.round)?,
        precommits: certificate.cert_type == RoundCertificateType::Precommit,
        signatures: certificate
            .round_signatures
            .iter()
            .map(|it| wire::RoundVote {
                precommit: it.vote_type == VoteType::Precommit,
                value: value_of(it.value_id),
                validator: it.address.0,
                signature: it.signature.0,
            })
            .collect(),
    })
}

pub(crate) fn round_votes_from_wire(votes: wire::RoundVotes) -> RoundCertificate<Anji> {
    RoundCertificate {
        height: Height(votes.height),
        round: Round::new(votes.round),
        cert_type: if votes.precommits { RoundCertificateType::Precommit } else { RoundCertificateType::Skip },
        round_signatures: votes
            .signatures
            .into_iter()
            .map(|it| {
                let (value, address) = (nil_or(it.value), VoterAddress(it.validator));
                RoundSignature::new(kind(it.precommit), value, address, Signature(it.signature))
            })
            .collect(),
    }
}

/// The frame of a message of consensus.
pub(crate) fn consensus_frame(message: &SignedConsensusMsg<Anji>) -> Result<wire::ConsensusFrame, WireError> {
    Ok(match message {
        SignedConsensusMsg::Vote(vote) => wire::ConsensusFrame::Vote(vote_to_wire(vote)?),
        SignedConsensusMsg::Proposal(proposal) => wire::ConsensusFrame::Proposal(proposal_to_wire(proposal)?),
    })
}

/// The frame of a message that keeps rounds going.
pub(crate) fn liveness_frame(message: &LivenessMsg<Anji>) -> Result<wire::ConsensusFrame, WireError> {
    Ok(match message {
        LivenessMsg::Vote(vote) => wire::ConsensusFrame::Vote(vote_to_wire(vote)?),
        LivenessMsg::PolkaCertificate(polka) => wire::ConsensusFrame::Polka(polka_to_wire(polka)?),
        LivenessMsg::SkipRoundCertificate(votes) => wire::ConsensusFrame::Round(round_votes_to_wire(votes)?),
    })
}

/// The certificate as the ledger keeps it: signatures by address, each once.
pub(crate) fn certificate_to_ledger(certificate: &EngineCertificate<Anji>) -> Result<CommitCertificate, WireError> {
    let mut signatures: Vec<CommitSignature> = certificate
        .commit_signatures
        .iter()
        .map(|it| CommitSignature { validator: it.address.0, signature: it.signature.0 })
        .collect();
    signatures.sort_by_key(|it| it.validator);
    signatures.dedup_by_key(|it| it.validator);
    Ok(CommitCertificate {
        height: certificate.height.0,
        round: round(certificate.round)?,
        value: certificate.value_id,
        signatures,
    })
}

/// The ledger's certificate as the engine's sync wants it.
pub(crate) fn certificate_to_engine(certificate: &CommitCertificate) -> ExtendedCommitCertificate<Anji> {
    ExtendedCommitCertificate {
        height: Height(certificate.height),
        round: Round::new(certificate.round),
        value_id: certificate.value,
        commit_signatures: certificate
            .signatures
            .iter()
            .map(|it| ExtendedCommitSignature::new(VoterAddress(it.validator), Signature(it.signature), None))
            .collect(),
    }
}

/// A proposed value in the engine's log.
#[derive(BorshSerialize, BorshDeserialize)]
struct LoggedValue {
    height: u64,
    round: u32,
    valid_round: Option<u32>,
    proposer: Address,
    value: Hash32,
    valid: bool,
}

// The engine's log: votes, proposals, values and polkas.

impl Codec<SignedConsensusMsg<Anji>> for WireCodec {
    type Error = WireError;

    fn decode(&self, bytes: Bytes) -> Result<SignedConsensusMsg<Anji>, WireError> {
        match wire::decode_consensus(&bytes)? {
            wire::ConsensusFrame::Vote(vote) => Ok(SignedConsensusMsg::Vote(vote_from_wire(&vote))),
            wire::ConsensusFrame::Proposal(it) => Ok(SignedConsensusMsg::Proposal(proposal_from_wire(&it))),
            _ => Err(WireError::Malformed("vote or proposal")),
        }
    }

    fn encode(&self, message: &SignedConsensusMsg<Anji>) -> Result<Bytes, WireError> {
        Ok(wire::encode(&consensus_frame(message)?))
    }
}

impl Codec<PolkaCertificate<Anji>> for WireCodec {
    type Error = WireError;

    fn decode(&self, bytes: Bytes) -> Result<PolkaCertificate<Anji>, WireError> {
        match wire::decode_consensus(&bytes)? {
            wire::ConsensusFrame::Polka(polka) => Ok(polka_from_wire(polka)),
            _ => Err(WireError::Malformed("polka")),
        }
    }

    fn encode(&self, polka: &PolkaCertificate<Anji>) -> Result<Bytes, WireError> {
        Ok(wire::encode(&wire::ConsensusFrame::Polka(polka_to_wire(polka)?)))
    }
}

impl Codec<ProposedValue<Anji>> for WireCodec {
    type Error = WireError;

    fn decode(&self, bytes: Bytes) -> Result<ProposedValue<Anji>, WireError> {
        let logged: LoggedValue = borsh::from_slice(&bytes).map_err(|_| WireError::Malformed("logged value"))?;
        Ok(ProposedValue {
            height: Height(logged.height),
            round: Round::new(logged.round),
            valid_round: Round::from(logged.valid_round),
            proposer: VoterAddress(logged.proposer),
            value: BlockValue(logged.value),
            validity: Validity::from_bool(logged.valid),
        })
    }

    fn encode(&self, value: &ProposedValue<Anji>) -> Result<Bytes, WireError> {
        Ok(wire::encode(&LoggedValue {
            height: value.height.0,
            round: round(value.round)?,
            valid_round: value.valid_round.as_u32(),
            proposer: value.proposer.0,
            value: value.value.0,
            valid: value.validity.is_valid(),
        }))
    }
}

// The engine's sync. Requests and answers are made and read by the network actor itself; the engine only asks for lengths.

impl Codec<Status<Anji>> for WireCodec {
    type Error = WireError;

    fn decode(&self, _bytes: Bytes) -> Result<Status<Anji>, WireError> {
        Err(WireError::Malformed("status: the network actor reads it, as it knows the sender"))
    }

    fn encode(&self, status: &Status<Anji>) -> Result<Bytes, WireError> {
        let frame = wire::ControlFrame::Status {
            decided_height: status.tip_height.0,
            first_height: status.history_min_height.0,
        };
        Ok(wire::encode(&frame))
    }
}

impl Codec<Request<Anji>> for WireCodec {
    type Error = WireError;

    fn decode(&self, bytes: Bytes) -> Result<Request<Anji>, WireError> {
        match wire::decode_request(&bytes)? {
            wire::PeerRequest::Blocks { first, last } => {
                Ok(Request::ValueRequest(arc_malachitebft_sync::ValueRequest::new(Height(first)..=Height(last))))
            }
            wire::PeerRequest::Batches(_) => Err(WireError::Malformed("request for blocks")),
        }
    }

    fn encode(&self, request: &Request<Anji>) -> Result<Bytes, WireError> {
        let Request::ValueRequest(request) = request;
        Ok(wire::encode(&wire::PeerRequest::Blocks { first: request.range.start().0, last: request.range.end().0 }))
    }
}

/// In front of a synced block on its way through the engine: the value that the certificate names, so that the block can be compared with
/// it before it is judged.
pub(crate) const SYNCED_PREFIX: usize = 32;

/// A synced block as it goes through the engine: certified value, then [`wire::BlockBytes`].
pub(crate) fn synced_value(certified: &Hash32, body: &wire::BlockBytes) -> Bytes {
    let mut bytes = certified.0.to_vec();
    bytes.extend_from_slice(&anji_contracts::codec::encode(body));
    Bytes::from(bytes)
}

/// Takes [`synced_value`] apart again.
pub(crate) fn split_synced_value(bytes: &[u8]) -> Result<(Hash32, wire::BlockBytes), WireError> {
    let (head, tail) = bytes.split_at_checked(SYNCED_PREFIX).ok_or(WireError::Malformed("synced value"))?;
    let certified: [u8; 32] = head.try_into().map_err(|_| WireError::Malformed("synced value"))?;
    Ok((Hash32(certified), wire::decode_block(tail)?))
}

/// An answer with blocks as the engine's sync wants it.
pub(crate) fn blocks_to_engine(answer: wire::BlocksAnswer, first: Height) -> ValueResponse<Anji> {
    let values = answer
        .blocks
        .into_iter()
        .map(|block| {
            let bytes = synced_value(&block.certificate.value, &block.body);
            arc_malachitebft_sync::RawDecidedValue::new(bytes, certificate_to_engine(&block.certificate))
        })
        .collect();
    ValueResponse::new(first, values)
}

impl Codec<Response<Anji>> for WireCodec {
    type Error = WireError;

    fn decode(&self, bytes: Bytes) -> Result<Response<Anji>, WireError> {
        let answer = wire::decode_blocks(&bytes)?;
        let first = answer.blocks.first().map_or(Height(0), |block| Height(block.certificate.height));
        Ok(Response::ValueResponse(blocks_to_engine(answer, first)))
    }

    fn encode(&self, _response: &Response<Anji>) -> Result<Bytes, WireError> {
        Err(WireError::Malformed("blocks: they are served from the block file, past the engine"))
    }
}

impl HasEncodedLen<Response<Anji>> for WireCodec {
    fn encoded_len(&self, response: &Response<Anji>) -> Result<usize, WireError> {
        let Response::ValueResponse(response) = response;
        Ok(response
            .values
            .iter()
            .map(|value| value.value_bytes.len() + 64 + 84 * value.certificate.commit_signatures.len())
            .sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_logs_comes_back_as_it_was() {
        let vote = SignedMessage::new(
            Vote {
                kind: VoteType::Prevote,
                height: Height(4),
                round: Round::new(0),
                value: NilOrVal::Nil,
                address: VoterAddress(Address([1; 20])),
            },
            Signature([2; 64]),
        );
        let message = SignedConsensusMsg::Vote(vote);
        assert_eq!(WireCodec.decode(WireCodec.encode(&message).expect("encodes")), Ok(message));
        let proposal = SignedMessage::new(
            Proposal {
                height: Height(4),
                round: Round::new(3),
                value: BlockValue(Hash32([5; 32])),
                pol_round: Round::new(1),
                address: VoterAddress(Address([1; 20])),
            },
            Signature([2; 64]),
        );
        let message = SignedConsensusMsg::Proposal(proposal);
        assert_eq!(WireCodec.decode(WireCodec.encode(&message).expect("encodes")), Ok(message));
        let value = ProposedValue {
            height: Height(4),
            round: Round::new(3),
            valid_round: Round::Nil,
            proposer: VoterAddress(Address([1; 20])),
            value: BlockValue(Hash32([5; 32])),
            validity: Validity::Valid,
        };
        assert_eq!(WireCodec.decode(WireCodec.encode(&value).expect("encodes")), Ok(value));
        let polka: PolkaCertificate<Anji> = PolkaCertificate {
            height: Height(4),
            round: Round::new(3),
            value_id: Hash32([5; 32]),
            polka_signatures: vec![PolkaSignature::new(VoterAddress(Address([1; 20])), Signature([2; 64]))],
        };
        assert_eq!(WireCodec.decode(WireCodec.encode(&polka).expect("encodes")), Ok(polka));
    }

    #[test]
    fn a_vote_without_a_round_is_not_written() {
        let vote: SignedVote = SignedMessage::new(
            Vote {
                kind: VoteType::Prevote,
                height: Height(4),
                round: Round::Nil,
                value: NilOrVal::Nil,
                address: VoterAddress(Address([1; 20])),
            },
            Signature([2; 64]),
        );
        assert_eq!(vote_to_wire(&vote), Err(WireError::NoRound));
    }

    #[test]
    fn a_synced_value_carries_what_its_certificate_names() {
        assert!(split_synced_value(&[1; 31]).is_err());
        assert!(split_synced_value(&[1; 40]).is_err());
    }
}
