//! Envelopes from outside: what opens, and everything that must not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail loudly")]

use anji_contracts::codec;
use anji_contracts::entity::{EncryptionKey, SealSuite};
use anji_contracts::types::{ChainId, Hash32, OpId, ParticipantId, PaymentId, ScopedId, WindowId};
use anji_envelopes::envelope::{MAX_TEXT_BYTES, PADDING_BYTES};
use anji_envelopes::{
    About, Cipher, Draft, Envelope, OpenError, OpeningKey, Purpose, SealError, Sealed, Subject, Wraps, envelope_hash,
    open, seal,
};
use proptest::prelude::*;

const CIPHERS: [Cipher; 2] = [Cipher::ChaCha20Poly1305, Cipher::Sm4Gcm];
const ACQUIRER: ParticipantId = ParticipantId(1);
const ISSUER: ParticipantId = ParticipantId(2);
const REGULATOR: ParticipantId = ParticipantId(7);

fn about() -> About {
    let payment = PaymentId(ScopedId { participant: ACQUIRER, op_id: OpId::new(1_800_000_000_000, 5) });
    About { chain: ChainId(Hash32([1; 32])), subject: Subject::Payment(payment), purpose: Purpose::Order }
}

fn key(suite: SealSuite, byte: u8) -> OpeningKey {
    OpeningKey::from_bytes(suite, &[byte; 32]).unwrap()
}

/// Two suites among the recipients of one envelope.
fn keys() -> [(ParticipantId, OpeningKey); 3] {
    [(REGULATOR, key(SealSuite::Sm2, 7)), (ACQUIRER, key(SealSuite::X25519, 1)), (ISSUER, key(SealSuite::Sm2, 2))]
}

fn sealed(cipher: Cipher, text: &[u8]) -> Sealed {
    let keys = keys();
    let recipients: Vec<_> = keys.iter().map(|(who, key)| (*who, key.public())).collect();
    let draft = Draft { about: about(), sender: ACQUIRER, cipher, recipients: &recipients };
    seal(&draft, text, &mut rand::rng()).unwrap()
}

#[test]
fn every_recipient_of_either_suite_reads_the_text_and_nobody_else() {
    for cipher in CIPHERS {
        for length in [0, 1, 251, 252, 253, 5000, MAX_TEXT_BYTES] {
            let text: Vec<u8> = (0..length).map(|it| (it % 251).to_le_bytes()[0]).collect();
            let it = sealed(cipher, &text);
            assert_eq!(it.hash, envelope_hash(&it.envelope));
            let ciphertext = Envelope::decode(&it.envelope).unwrap().ciphertext.len() - Cipher::TAG_BYTES;
            assert!(ciphertext.is_multiple_of(PADDING_BYTES) && ciphertext - length < PADDING_BYTES + 4);
            for (who, key) in keys() {
                assert_eq!(*open(&it.envelope, &it.wraps, &about(), who, &key).unwrap(), text, "{cipher:?} {who}");
                // Its own wrap is all it needs.
                let only = Wraps::decode(&it.wraps).unwrap().only(who).unwrap();
                assert_eq!(*open(&it.envelope, &only, &about(), who, &key).unwrap(), text);
                let other = if who == ISSUER { ACQUIRER } else { ISSUER };
                let refused =
                    open(&it.envelope, &only, &about(), other, &keys().into_iter().find(|it| it.0 == other).unwrap().1);
                assert_eq!(refused, Err(OpenError::NoWrap(other)));
            }
        }
    }
}

#[test]
fn who_is_no_recipient_or_has_another_key_reads_nothing() {
    let it = sealed(Cipher::Sm4Gcm, b"text");
    let try_as = |who, key: &OpeningKey| open(&it.envelope, &it.wraps, &about(), who, key).unwrap_err();
    let clearing = ParticipantId(4);
    assert_eq!(try_as(clearing, &key(SealSuite::X25519, 4)), OpenError::NotARecipient(clearing));
    assert_eq!(try_as(ACQUIRER, &key(SealSuite::X25519, 4)), OpenError::OtherKey);
    assert_eq!(try_as(ISSUER, &key(SealSuite::Sm2, 7)), OpenError::OtherKey);
    // The same 32 bytes in another suite are another key.
    assert_eq!(try_as(ACQUIRER, &key(SealSuite::Sm2, 1)), OpenError::OtherKey);
}

#[test]
fn an_envelope_about_something_else_is_refused() {
    let it = sealed(Cipher::ChaCha20Poly1305, b"text");
    let (_, key) = &keys()[1];
    for other in [
        About { chain: ChainId(Hash32([2; 32])), ..about() },
        About { subject: Subject::Window(WindowId(1)), ..about() },
        About { purpose: Purpose::Identity, ..about() },
    ] {
        let refused = open(&it.envelope, &it.wraps, &other, ACQUIRER, key);
        assert_eq!(refused, Err(OpenError::AboutSomethingElse(Box::new(about()))));
    }
    let other = sealed(Cipher::ChaCha20Poly1305, b"text");
    assert_ne!(it.hash, other.hash, "the same text never gives the same envelope");
    assert_eq!(open(&it.envelope, &other.wraps, &about(), ACQUIRER, key), Err(OpenError::OtherWraps));
}

#[test]
fn a_wrap_opens_in_no_other_envelope_and_for_no_other_recipient() {
    let (one, two) = (sealed(Cipher::Sm4Gcm, b"one"), sealed(Cipher::Sm4Gcm, b"two"));
    for (who, key) in keys() {
        // Another envelope's secret under this one's hash.
        let mut moved = Wraps::decode(&two.wraps).unwrap();
        moved.envelope = one.hash;
        let refused = open(&one.envelope, &codec::encode(&moved), &about(), who, &key);
        assert_eq!(refused, Err(OpenError::BadWrap));
    }
    // Two recipients with one key: a wrap of the one is none of the other.
    for suite in [SealSuite::X25519, SealSuite::Sm2] {
        let key = key(suite, 9);
        let recipients = [(ACQUIRER, key.public()), (ISSUER, key.public())];
        let draft = Draft { about: about(), sender: ACQUIRER, cipher: Cipher::Sm4Gcm, recipients: &recipients };
        let it = seal(&draft, b"text", &mut rand::rng()).unwrap();
        let mut swapped = Wraps::decode(&it.wraps).unwrap();
        let [one, two] = &mut swapped.wraps[..] else { panic!("two wraps") };
        std::mem::swap(&mut one.bytes, &mut two.bytes);
        assert_eq!(open(&it.envelope, &codec::encode(&swapped), &about(), ISSUER, &key), Err(OpenError::BadWrap));
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    for cipher in CIPHERS {
        let it = sealed(cipher, b"a text that nobody changes");
        for (who, key) in keys() {
            for at in 0..it.envelope.len() {
                let mut bad = it.envelope.clone();
                bad[at] ^= 1 << (at % 8);
                // Whoever changed it would also make the hashes fit; the wraps name the hash, so let them.
                let mut wraps = Wraps::decode(&it.wraps).unwrap();
                wraps.envelope = envelope_hash(&bad);
                assert!(
                    open(&bad, &codec::encode(&wraps), &about(), who, &key).is_err(),
                    "{cipher:?}, byte {at} of the envelope"
                );
            }
            let only = Wraps::decode(&it.wraps).unwrap().only(who).unwrap();
            for at in 0..only.len() {
                let mut bad = only.clone();
                bad[at] ^= 1 << (at % 8);
                assert!(open(&it.envelope, &bad, &about(), who, &key).is_err(), "byte {at} of the wrap of {who}");
            }
        }
        for cut in 0..it.envelope.len() {
            assert!(Envelope::decode(&it.envelope[..cut]).is_err());
        }
        let longer = [&it.envelope[..], &[0]].concat();
        assert!(Envelope::decode(&longer).is_err());
    }
}

#[test]
fn a_draft_that_cannot_be_sealed_says_why() {
    let (good, rng) = (key(SealSuite::X25519, 1), &mut rand::rng());
    let mut attempt = |recipients: &[(ParticipantId, &EncryptionKey)], length| {
        let draft = Draft { about: about(), sender: ACQUIRER, cipher: Cipher::Sm4Gcm, recipients };
        seal(&draft, &vec![0; length], rng).unwrap_err()
    };
    let one = [(ACQUIRER, good.public())];
    assert_eq!(attempt(&one, MAX_TEXT_BYTES + 1), SealError::TooLong(MAX_TEXT_BYTES + 1));
    assert_eq!(attempt(&[], 1), SealError::Recipients(0));
    let many: Vec<_> = (1..=17).map(|it| (ParticipantId(it), good.public())).collect();
    assert_eq!(attempt(&many, 1), SealError::Recipients(17));
    assert_eq!(attempt(&[one[0], (ISSUER, good.public()), one[0]], 1), SealError::RecipientTwice(ACQUIRER));
    for (suite, bytes) in
        [(SealSuite::X25519, vec![0; 32]), (SealSuite::X25519, vec![9; 31]), (SealSuite::Sm2, vec![2; 33])]
    {
        let bad = EncryptionKey { suite, public_key: bytes };
        assert_eq!(attempt(&[one[0], (ISSUER, &bad)], 1), SealError::BadKey(ISSUER));
    }
    // Sixteen recipients of the longer suite, and the longest text, fit.
    let key = key(SealSuite::Sm2, 3);
    let recipients: Vec<_> = (1..=16).map(|it| (ParticipantId(it), key.public())).collect();
    let draft = Draft { about: about(), sender: ACQUIRER, cipher: Cipher::Sm4Gcm, recipients: &recipients };
    let text = vec![b'x'; MAX_TEXT_BYTES];
    let it = seal(&draft, &text, &mut rand::rng()).unwrap();
    assert_eq!(*open(&it.envelope, &it.wraps, &about(), ParticipantId(16), &key).unwrap(), text);
}

#[test]
fn a_key_is_in_range_and_never_shown() {
    assert!(OpeningKey::from_bytes(SealSuite::Sm2, &[0; 32]).is_none());
    assert!(OpeningKey::from_bytes(SealSuite::Sm2, &[0xff; 32]).is_none());
    let key = key(SealSuite::X25519, 0x77);
    assert_eq!(format!("{key:?}"), "OpeningKey(X25519, not shown)");
}

proptest! {
    #[test]
    fn random_bytes_are_never_an_envelope_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let (who, key) = &keys()[0];
        prop_assert!(open(&bytes, &bytes, &about(), *who, key).is_err());
        let _ = (Envelope::decode(&bytes), Wraps::decode(&bytes));
    }

    /// Bytes that begin well, so that the decoder gets further.
    #[test]
    fn damaged_envelopes_never_panic(cipher in 0..2_usize, edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>()) {
        let it = sealed(CIPHERS[cipher], b"text");
        let (who, key) = &keys()[2];
        for good in [&it.envelope, &it.wraps] {
            let mut bad = good.clone();
            for (at, byte) in &edits {
                let at = at.index(bad.len());
                bad[at] = *byte;
            }
            bad.truncate(cut.index(good.len()) + 1);
            let _ = (Envelope::decode(&bad), Wraps::decode(&bad));
            let _ = open(&bad, &it.wraps, &about(), *who, key);
            let _ = open(&it.envelope, &bad, &about(), *who, key);
        }
    }
}
