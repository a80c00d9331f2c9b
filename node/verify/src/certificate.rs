//! Commit certificates: the precommits that decided a header.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use anji_contracts::codec::{self, Domain};
use anji_contracts::types::{ChainId, Hash32};
use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;

use crate::validators::{Address, ValidatorSet, is_more_than_two_thirds};

/// The kind of a vote.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum VoteKind {
    /// First phase.
    Prevote = 1,
    /// Second phase: more than two thirds of the power decide.
    Precommit = 2,
}

/// What a validator signs when it votes.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct VoteBody {
    /// Which ledger.
    pub chain_id: ChainId,
    /// Prevote or precommit.
    pub kind: VoteKind,
    /// Height voted on.
    pub height: u64,
    /// Round voted in.
    pub round: u32,
    /// Header hash, or none for nil.
    pub value: Option<Hash32>,
    /// Who votes.
    pub validator: Address,
}

impl VoteBody {
    /// The 32 bytes that are signed.
    #[must_use]
    pub fn sign_bytes(&self) -> [u8; 32] {
        codec::hash(Domain::Vote, &codec::encode(self)).0
    }
}

/// One precommit of a certificate.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct CommitSignature {
    /// Who signed.
    pub validator: Address,
    /// Ed25519 over [`VoteBody::sign_bytes`].
    pub signature: [u8; 64],
}

/// The precommits that decided a header.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct CommitCertificate {
    /// Height decided.
    pub height: u64,
    /// Round decided in.
    pub round: u32,
    /// Header hash.
    pub value: Hash32,
    /// The precommits, by address.
    pub signatures: Vec<CommitSignature>,
}

/// Why a certificate proves nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CertificateError {
    /// It has more signatures than there are validators.
    TooMany,
    /// It names an address twice.
    Duplicate(Address),
    /// It names an address that is no validator of the height.
    Unknown(Address),
    /// A signature does not verify.
    BadSignature(Address),
    /// The signers have two thirds of the power or less.
    NotEnoughPower {
        /// Power of the signers.
        signed: u64,
        /// Power of all validators.
        total: u64,
    },
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => f.write_str("the certificate has more signatures than there are validators"),
            Self::Duplicate(address) => write!(f, "validator {address} signed twice"),
            Self::Unknown(address) => write!(f, "{address} is not a validator of this height"),
            Self::BadSignature(address) => write!(f, "the signature of validator {address} does not verify"),
            Self::NotEnoughPower { signed, total } => {
                write!(f, "signed by power {signed} of {total}; more than two thirds is needed")
            }
        }
    }
}

impl core::error::Error for CertificateError {}

/// Checks that more than two thirds of the power precommitted to the certificate's value.
///
/// # Errors
/// What is wrong, see [`CertificateError`].
pub fn verify_certificate(
    certificate: &CommitCertificate,
    chain_id: &ChainId,
    validators: &ValidatorSet,
) -> Result<(), CertificateError> {
    if certificate.signatures.len() > validators.validators().len() {
        return Err(CertificateError::TooMany);
    }
    let mut seen = BTreeSet::new();
    let mut signed = 0u64;
    for CommitSignature { validator, signature } in &certificate.signatures {
        if !seen.insert(*validator) {
            return Err(CertificateError::Duplicate(*validator));
        }
        let known = validators.get(validator).ok_or(CertificateError::Unknown(*validator))?;
        let body = VoteBody {
            chain_id: *chain_id,
            kind: VoteKind::Precommit,
            height: certificate.height,
            round: certificate.round,
            value: Some(certificate.value),
            validator: *validator,
        };
        codec::verify_ed25519(&known.public_key, &body.sign_bytes(), signature)
            .map_err(|_| CertificateError::BadSignature(*validator))?;
        signed = signed.saturating_add(known.power);
    }
    let total = validators.total_power();
    if is_more_than_two_thirds(signed, total) {
        Ok(())
    } else {
        Err(CertificateError::NotEnoughPower { signed, total })
    }
}
