//! Evidence bundles: one file that proves facts of the ledger to whoever holds the trusted validators' keys, offline, at any age.
//!
//! [`verify`] takes the file's bytes and a [`Trust`]; it checks every byte (a flipped one anywhere fails) and gives what is
//! proven, or the first thing that is wrong, by its place. It judges in this order: validator sets from the trusted one on,
//! header, certificate, cosignatures, the log's last block entry, then each claim against that log. The words for people are in
//! [`Proven::words`]. Format: `proto/FORMAT.md`, "Evidence bundles".

mod claims;
mod error;
mod list;
mod proven;
mod trust;
mod types;
mod words;

pub use error::{BundleError, ClaimPart, Fault, Part};
pub use list::{Bytes, List};
pub use proven::{Moment, Proven, Signer, Statement};
pub use trust::Trust;
pub use types::*;
pub use words::subject;

use crate::certificate::{CommitCertificate, verify_certificate};
use crate::checkpoint::{CheckpointError, check_final};
use crate::header::Header;
use crate::validators::{Address, ValidatorSet};
use alloc::vec::Vec;
use anji_contracts::batch::FORMAT;
use anji_contracts::codec::{self, Domain};
use anji_contracts::entry::{BlockEntry, Entry};
use anji_contracts::types::Hash32;
use borsh::BorshDeserialize;
use claims::Log;

impl Bundle {
    /// The bytes of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&codec::encode(self));
        bytes.extend_from_slice(&seal_of(&bytes).0);
        bytes
    }

    /// Reads a bundle without judging it, its seal neither.
    ///
    /// # Errors
    /// The part that cannot be read.
    pub fn decode(bytes: &[u8]) -> Result<Self, BundleError> {
        let file = |fault| BundleError::new(Part::File, fault);
        if bytes.len() > MAX_BUNDLE_BYTES {
            return Err(file(Fault::TooLarge { limit: MAX_BUNDLE_BYTES }));
        }
        let sealed = bytes.strip_prefix(&MAGIC).ok_or(file(Fault::NoBundle))?;
        let (mut rest, _) = sealed.split_last_chunk::<SEAL_BYTES>().ok_or(file(Fault::Malformed))?;
        let rest = &mut rest;
        let anchor = Anchor {
            set_changes: read(rest, Part::SetChange(1))?,
            header: read(rest, Part::Header)?,
            certificate: read(rest, Part::Certificate)?,
            cosignatures: read(rest, Part::Cosignatures)?,
            block: read(rest, Part::Block)?,
        };
        let count: u32 = read(rest, Part::File)?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > MAX_CLAIMS {
            return Err(file(Fault::Malformed));
        }
        let claims: Result<Vec<Claim>, _> =
            (1..=count).map(|number| read(rest, Part::Claim(number, ClaimPart::Whole))).collect();
        if !rest.is_empty() {
            return Err(file(Fault::TrailingBytes));
        }
        Ok(Self { anchor, claims: List::new(claims?).ok_or(file(Fault::Malformed))? })
    }
}

/// What the last bytes of a file must be: the hash of all before them. It proves nothing about the ledger; it notices damage where
/// the rest would only say something else that is true, such as the absence of another payment.
fn seal_of(bytes: &[u8]) -> Hash32 {
    codec::hash(Domain::Evidence, bytes)
}

fn check_seal(bytes: &[u8]) -> Result<(), BundleError> {
    let holds = bytes.split_last_chunk::<SEAL_BYTES>().is_some_and(|(sealed, seal)| seal_of(sealed).0 == *seal);
    if holds { Ok(()) } else { Err(BundleError::new(Part::File, Fault::Damaged)) }
}

fn read<T: BorshDeserialize>(rest: &mut &[u8], part: Part) -> Result<T, BundleError> {
    codec::decode_prefix(rest).map_err(|_| BundleError::new(part, Fault::Malformed))
}

/// Checks a bundle and gives what it proves.
///
/// # Errors
/// The first thing that is wrong.
///
/// # Correctness
/// What is proven is what the statements say, not what the file was asked for: compare their ids with those you meant.
pub fn verify(bytes: &[u8], trust: &Trust) -> Result<Proven, BundleError> {
    let bundle = Bundle::decode(bytes)?;
    let anchor = &bundle.anchor;
    let validators = follow_set_changes(anchor, trust)?;
    let block = check_anchor(anchor, trust, &validators)?;
    if bundle.claims.is_empty() {
        return Err(BundleError::new(Part::File, Fault::NoClaim));
    }
    let log = Log { root: anchor.header.log, chain: trust.chain_id, active_root: block.active_root };
    let statements: Result<Vec<Statement>, BundleError> = (1_usize..)
        .zip(bundle.claims.iter())
        .map(|(number, claim)| {
            log.check(claim).map_err(|(part, fault)| BundleError::new(Part::Claim(number, part), fault))
        })
        .collect();
    let statements = statements?;
    check_seal(bytes)?;
    let signers = anchor.cosignatures.iter().filter_map(|cosignature| {
        let validator = validators.get(&cosignature.validator)?;
        Some(Signer { participant: validator.participant, address: validator.address, time_s: cosignature.time_s })
    });
    Ok(Proven {
        chain_id: trust.chain_id,
        log: anchor.header.log,
        height: block.height,
        time_ms: block.time_ms,
        decided_at_height: anchor.header.height,
        n_set_changes: anchor.set_changes.len(),
        n_validators: validators.validators().len(),
        n_precommits: anchor.certificate.signatures.len(),
        signers: signers.collect(),
        statements,
    })
}

/// A header that this verifier knows how to read, of the trusted ledger.
fn check_header(header: &Header, trust: &Trust, lowest: u64) -> Result<(), Fault> {
    if header.format != FORMAT {
        return Err(Fault::Format(header.format));
    }
    if header.chain_id != trust.chain_id {
        return Err(Fault::OtherChain(header.chain_id));
    }
    if header.height < lowest {
        return Err(Fault::Order { height: header.height, lowest });
    }
    Ok(())
}

/// A header's validators are these, and its certificate is theirs.
fn check_decided(
    header: &Header,
    certificate: &CommitCertificate,
    trust: &Trust,
    validators: &ValidatorSet,
) -> Result<(), Fault> {
    let expected = validators.hash();
    if header.validators_hash != expected {
        return Err(Fault::OtherValidators { found: header.validators_hash, expected });
    }
    if certificate.value != header.hash() || certificate.height != header.height {
        return Err(Fault::OtherHeader);
    }
    verify_certificate(certificate, &trust.chain_id, validators).map_err(Fault::Certificate)
}

/// From the trusted set to the one that votes on the anchor's header.
fn follow_set_changes(anchor: &Anchor, trust: &Trust) -> Result<ValidatorSet, BundleError> {
    let mut validators = trust.validators.clone();
    let mut lowest = trust.height;
    for (number, change) in (1_usize..).zip(anchor.set_changes.iter()) {
        let wrong = |fault| BundleError::new(Part::SetChange(number), fault);
        check_header(&change.header, trust, lowest).map_err(wrong)?;
        check_decided(&change.header, &change.certificate, trust, &validators).map_err(wrong)?;
        if change.header.next_validators_hash == change.header.validators_hash {
            return Err(wrong(Fault::NoChange));
        }
        validators = read_set(change).ok_or(wrong(Fault::BadNextSet))?;
        lowest = change.header.height.saturating_add(1);
    }
    let wrong = |fault| BundleError::new(Part::Header, fault);
    check_header(&anchor.header, trust, lowest).map_err(wrong)?;
    Ok(validators)
}

/// The set that a change hands over to, if it is written out as the header commits to it.
fn read_set(change: &SetChange) -> Option<ValidatorSet> {
    let next: &[_] = &change.next;
    let commits = codec::hash(Domain::ValidatorSet, &codec::encode(next)) == change.header.next_validators_hash;
    let own_addresses = next.iter().all(|it| it.address == Address::of(&it.public_key));
    let set = ValidatorSet::new(next.to_vec())?;
    (commits && own_addresses && set.validators() == next).then_some(set)
}

/// Header, certificate, cosignatures and the block entry at the end of the log.
fn check_anchor(anchor: &Anchor, trust: &Trust, validators: &ValidatorSet) -> Result<BlockEntry, BundleError> {
    let header = &anchor.header;
    check_decided(header, &anchor.certificate, trust, validators).map_err(|fault| {
        let part = if matches!(fault, Fault::OtherValidators { .. }) { Part::Header } else { Part::Certificate };
        BundleError::new(part, fault)
    })?;
    check_final(&header.log, &anchor.cosignatures, &trust.chain_id, validators)
        .map_err(|error: CheckpointError| BundleError::new(Part::Cosignatures, Fault::Checkpoint(error)))?;
    let wrong = |fault| BundleError::new(Part::Block, fault);
    let index = header.log.size.checked_sub(1).ok_or(wrong(Fault::NotInLog { index: 0 }))?;
    let entry = claims::included(index, &anchor.block.entry, &anchor.block.path, &header.log).map_err(wrong)?;
    let Entry::Block(block) = entry else { return Err(wrong(Fault::WrongKind)) };
    if block.height.checked_add(2) != Some(header.height) {
        return Err(wrong(Fault::Mismatch("its height, two below the header's,")));
    }
    Ok(block)
}
