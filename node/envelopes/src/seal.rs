//! Sealing a text into an envelope, and opening it.

use crate::cipher::{Cipher, Secret};
use crate::context::{self, hash};
use crate::envelope::{
    About, ENVELOPE_MAGIC, Envelope, Head, MAX_RECIPIENTS, MAX_TEXT_BYTES, PADDING_BYTES, Recipient, VERSION,
    WRAPS_MAGIC, Wrap, Wraps, envelope_hash,
};
use crate::error::{OpenError, SealError};
use crate::keys::OpeningKey;
use crate::wrap::{binding, unwrap, wrap};
use anji_contracts::codec;
use anji_contracts::entity::EncryptionKey;
use anji_contracts::types::{Hash32, ParticipantId};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// What is to become of a text.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// What it is about.
    pub about: About,
    /// Who seals it.
    pub sender: ParticipantId,
    /// How the text is enciphered.
    pub cipher: Cipher,
    /// Who may open it, with the keys that the ledger has for them, in any order; the sender too, if it is to read its own. 1 to 16.
    pub recipients: &'a [(ParticipantId, &'a EncryptionKey)],
}

/// A sealed text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// The fixed part.
    pub envelope: Vec<u8>,
    /// Its hash, for the ledger.
    pub hash: Hash32,
    /// The wrapped secrets of all recipients.
    pub wraps: Vec<u8>,
}

/// Seals a text of at most [`MAX_TEXT_BYTES`]. `rng` is the operating system's or one seeded by it.
///
/// # Errors
/// [`SealError`].
pub fn seal(draft: &Draft<'_>, text: &[u8], rng: &mut impl CryptoRng) -> Result<Sealed, SealError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(SealError::TooLong(text.len()));
    }
    if draft.recipients.is_empty() || draft.recipients.len() > MAX_RECIPIENTS {
        return Err(SealError::Recipients(draft.recipients.len()));
    }
    let mut recipients = draft.recipients.to_vec();
    recipients.sort_by_key(|(participant, _)| *participant);
    if let Some([(twice, _), _]) = recipients.array_windows().find(|[one, next]| one.0 == next.0) {
        return Err(SealError::RecipientTwice(*twice));
    }

    let mut secret: Secret = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut *secret);
    let head = Head {
        magic: ENVELOPE_MAGIC,
        version: VERSION,
        about: draft.about,
        sender: draft.sender,
        recipients: recipients.iter().map(|(participant, key)| Recipient::of(*participant, key)).collect(),
        cipher: draft.cipher,
        secret_hash: hash(context::SECRET, &[&*secret]),
    };
    let head_bytes = codec::encode(&head);
    let wrapped = |(participant, key): &(ParticipantId, &EncryptionKey), rng: &mut _| {
        let bytes = wrap(key, &binding(&head_bytes, *participant), &secret, rng);
        Ok(Wrap { participant: *participant, bytes: bytes.ok_or(SealError::BadKey(*participant))? })
    };
    let wraps = recipients.iter().map(|it| wrapped(it, rng)).collect::<Result<Vec<_>, SealError>>()?;
    let ciphertext = draft.cipher.encipher(&secret, &head_bytes, &pad(text));
    let ciphertext = ciphertext.ok_or(SealError::TooLong(text.len()))?;
    let envelope = codec::encode(&Envelope { head, ciphertext });
    let hash = envelope_hash(&envelope);
    let wraps = codec::encode(&Wraps { magic: WRAPS_MAGIC, version: VERSION, envelope: hash, wraps });
    Ok(Sealed { envelope, hash, wraps })
}

/// Opens an envelope as `participant`, with its key. `about` is what the caller asked for; compare the envelope's hash with the ledger's
/// beside it, since only that says who vouches for it.
///
/// # Errors
/// [`OpenError`].
pub fn open(
    envelope: &[u8],
    wraps: &[u8],
    about: &About,
    participant: ParticipantId,
    key: &OpeningKey,
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let Envelope { head, ciphertext } = Envelope::decode(envelope)?;
    if head.about != *about {
        return Err(OpenError::AboutSomethingElse(Box::new(head.about)));
    }
    let wraps = Wraps::decode(wraps)?;
    if wraps.envelope != envelope_hash(envelope) {
        return Err(OpenError::OtherWraps);
    }
    let recipient = head.recipients.iter().find(|it| it.participant == participant);
    let recipient = recipient.ok_or(OpenError::NotARecipient(participant))?;
    if *recipient != Recipient::of(participant, key.public()) {
        return Err(OpenError::OtherKey);
    }
    let wrap = wraps.wraps.iter().find(|it| it.participant == participant);
    let wrap = wrap.ok_or(OpenError::NoWrap(participant))?;
    // Borsh has one encoding, so these are the bytes that were sealed.
    let head_bytes = codec::encode(&head);
    let secret = unwrap(key, &binding(&head_bytes, participant), &wrap.bytes).ok_or(OpenError::BadWrap)?;
    if hash(context::SECRET, &[&*secret]) != head.secret_hash {
        return Err(OpenError::BadText);
    }
    let padded = head.cipher.decipher(&secret, &head_bytes, &ciphertext).ok_or(OpenError::BadText)?;
    unpad(&padded).ok_or(OpenError::BadText)
}

/// Length, text, zeros up to a multiple of [`PADDING_BYTES`].
fn pad(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let whole = text.len().saturating_add(4).next_multiple_of(PADDING_BYTES);
    let mut padded = Zeroizing::new(Vec::with_capacity(whole));
    padded.extend_from_slice(&length.to_le_bytes());
    padded.extend_from_slice(text);
    padded.resize(whole, 0);
    padded
}

/// The text, if its padding is the one that [`pad`] makes.
fn unpad(padded: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (length, rest) = padded.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (text, zeros) = rest.split_at_checked(length)?;
    let good = zeros.len() < PADDING_BYTES && zeros.iter().all(|byte| *byte == 0);
    good.then(|| Zeroizing::new(text.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Purpose, Subject};
    use anji_contracts::entity::SealSuite;
    use anji_contracts::types::{ChainId, WindowId};

    const ABOUT: About =
        About { chain: ChainId(Hash32([1; 32])), subject: Subject::Window(WindowId(1)), purpose: Purpose::Evidence };

    /// Ciphers without a commitment to their key let a sender make one ciphertext that is two texts under two keys: one for the
    /// regulator, another for the issuer. The hash of the secret in the head takes that away.
    #[test]
    fn a_sender_cannot_give_recipients_different_secrets() {
        for (suite, cipher) in [(SealSuite::X25519, Cipher::ChaCha20Poly1305), (SealSuite::Sm2, Cipher::Sm4Gcm)] {
            let key = OpeningKey::from_bytes(suite, &[5; 32]).expect("a key");
            let who = ParticipantId(3);
            let draft = Draft { about: ABOUT, sender: who, cipher, recipients: &[(who, key.public())] };
            let sealed = seal(&draft, b"text", &mut rand::rng()).expect("sealed");
            let head = codec::encode(&Envelope::decode(&sealed.envelope).expect("decodes").head);
            let other: Secret = Zeroizing::new([8; 32]);
            let mut wraps = Wraps::decode(&sealed.wraps).expect("decodes");
            wraps.wraps[0].bytes = wrap(key.public(), &binding(&head, who), &other, &mut rand::rng()).expect("wrapped");
            let refused = open(&sealed.envelope, &codec::encode(&wraps), &ABOUT, who, &key);
            assert_eq!(refused, Err(OpenError::BadText), "{suite:?}");
        }
    }

    #[test]
    fn only_the_padding_that_is_made_is_taken() {
        for length in [0, 1, 251, 252, 253, 508, 509] {
            let text = vec![7; length];
            let padded = pad(&text);
            assert_eq!((padded.len() % PADDING_BYTES, unpad(&padded).as_deref()), (0, Some(&text)));
            let mut longer = padded.clone();
            longer.extend_from_slice(&[0; PADDING_BYTES]);
            assert_eq!(unpad(&longer), None, "a block of zeros too many");
            let mut marked = padded.clone();
            let last = marked.len() - 1;
            marked[last] ^= 1;
            assert!(unpad(&marked).is_none_or(|it| *it != text), "the padding carries something");
        }
        assert_eq!(unpad(&[255, 255, 255, 255, 0]), None);
        assert_eq!(unpad(&[0, 0, 0]), None);
    }
}
