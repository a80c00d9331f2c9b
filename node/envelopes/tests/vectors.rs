//! Envelopes that were made once and must open for ever. `ANJI_REGENERATE=1` writes new ones: that approves a new format.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail loudly")]

use anji_contracts::codec;
use anji_contracts::entity::SealSuite;
use anji_contracts::types::{ChainId, Hash32, OpId, ParticipantId, PaymentId, ScopedId};
use anji_envelopes::{
    About, Cipher, Draft, Envelope, OpeningKey, Purpose, Salt, Subject, Wraps, commit, envelope_hash, open, seal,
};
use std::collections::BTreeMap;
use std::path::Path;

const PARTIES: [(ParticipantId, SealSuite, [u8; 32]); 2] =
    [(ParticipantId(1), SealSuite::X25519, [0x11; 32]), (ParticipantId(2), SealSuite::Sm2, [0x12; 32])];
const CIPHERS: [Cipher; 2] = [Cipher::ChaCha20Poly1305, Cipher::Sm4Gcm];
const TEXT: &[u8] = b"order 20231, 123.45";

fn about() -> About {
    let payment = PaymentId(ScopedId { participant: ParticipantId(1), op_id: OpId::new(1_800_000_000_000, 2) });
    About { chain: ChainId(Hash32([6; 32])), subject: Subject::Payment(payment), purpose: Purpose::Order }
}

fn keys() -> Vec<(ParticipantId, OpeningKey)> {
    PARTIES.iter().map(|(who, suite, bytes)| (*who, OpeningKey::from_bytes(*suite, bytes).unwrap())).collect()
}

/// Lines `name hex`.
fn make() -> String {
    let mut text = format!("text {}\nabout {}\n", hex::encode(TEXT), hex::encode(codec::encode(&about())));
    for (who, suite, bytes) in PARTIES {
        text += &format!("private.{who}.{suite:?} {}\n", hex::encode(bytes));
    }
    let keys = keys();
    let recipients: Vec<_> = keys.iter().map(|(who, key)| (*who, key.public())).collect();
    for cipher in CIPHERS {
        let draft = Draft { about: about(), sender: ParticipantId(1), cipher, recipients: &recipients };
        let it = seal(&draft, TEXT, &mut rand::rng()).unwrap();
        text += &format!("{cipher:?}.envelope {}\n", hex::encode(&it.envelope));
        text += &format!("{cipher:?}.hash {}\n", hex::encode(it.hash.0));
        text += &format!("{cipher:?}.wraps {}\n", hex::encode(&it.wraps));
    }
    text + &format!("commitment {}\n", hex::encode(commit(&Salt([4; 32]), TEXT).0))
}

#[test]
fn what_was_sealed_once_opens_for_ever() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/envelopes.txt");
    if std::env::var_os("ANJI_REGENERATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, make()).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: BTreeMap<&str, Vec<u8>> = text
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, it)| (name, hex::decode(it).unwrap()))
        .collect();
    assert_eq!(lines["about"], codec::encode(&about()));
    assert_eq!(lines["commitment"], commit(&Salt([4; 32]), TEXT).0);
    for cipher in CIPHERS {
        let part = |name: &str| &lines[format!("{cipher:?}.{name}").as_str()];
        let (envelope, wraps) = (part("envelope"), part("wraps"));
        assert_eq!(*part("hash"), envelope_hash(envelope).0);
        for (who, key) in keys() {
            assert_eq!(*open(envelope, wraps, &about(), who, &key).unwrap(), TEXT, "{cipher:?}, participant {who}");
        }
        // One encoding.
        assert_eq!(codec::encode(&Envelope::decode(envelope).unwrap()), *envelope);
        assert_eq!(codec::encode(&Wraps::decode(wraps).unwrap()), *wraps);
    }
}
