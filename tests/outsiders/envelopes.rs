//! SM2 signatures and envelopes, ours and those of other people's libraries, each way. No network: bytes against bytes.

use super::{said, script, write};
use anji_contracts::entity::{SealSuite, Suite};
use anji_contracts::keys::SM2_ID;
use anji_contracts::ops::{MandateStop, Op, OpBody};
use anji_contracts::types::{ChainId, Hash32, KeyId, MandateId, OpId, ParticipantId, PaymentId, ScopedId};
use anji_contracts::{decode_batch, encode_batch};
use anji_envelopes::{About, Cipher, Draft, OpeningKey, Purpose, Salt, Subject, commit, open, seal};
use serde_json::{Value, json};
use sm2::dsa::signature::Signer;
use sm2::elliptic_curve::sec1::ToSec1Point;

const CHAIN: ChainId = ChainId(Hash32([6; 32]));
const ACQUIRER: ParticipantId = ParticipantId(1);

fn batch(key: &sm2::dsa::SigningKey) -> Vec<u8> {
    let body = OpBody::MandateSuspend(MandateStop { mandate: MandateId::default(), reason: 1 });
    let op = Op { op_id: OpId::new(1_800_000_000_000, 1), linked: false, body };
    let sign = |digest: &[u8; 32]| {
        let signature: sm2::dsa::Signature = key.sign(digest);
        signature.to_bytes().into()
    };
    encode_batch(&CHAIN, ACQUIRER, KeyId(1), 1_800_000_000_000, &[op], sign).expect("a batch")
}

#[test]
fn sm2_signatures_and_envelopes_of_ours_and_of_others_are_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let private = [0x51; 32];
    let key = sm2::dsa::SigningKey::from_slice(SM2_ID, &private).expect("a key");
    let public = key.verifying_key().as_affine().to_sec1_point(true).as_bytes().to_vec();

    let parties = [
        (ACQUIRER, SealSuite::X25519, [0x11; 32]),
        (ParticipantId(2), SealSuite::Sm2, [0x12; 32]),
        (ParticipantId(3), SealSuite::Sm2, [0x13; 32]),
    ];
    let opening = parties.map(|(who, suite, bytes)| (who, OpeningKey::from_bytes(suite, &bytes).expect("a key")));
    let recipients: Vec<_> = opening.iter().map(|(who, key)| (*who, key.public())).collect();
    let payment = PaymentId(ScopedId { participant: ACQUIRER, op_id: OpId::new(1_800_000_000_000, 2) });
    let about = About { chain: CHAIN, subject: Subject::Payment(payment), purpose: Purpose::Order };
    let text = "李春, order 20231 of 17 June, 123.45".as_bytes();
    let seal = |cipher| {
        let draft = Draft { about, sender: ACQUIRER, cipher, recipients: &recipients };
        let it = seal(&draft, text, &mut rand::rng()).expect("sealed");
        json!({ "envelope": hex::encode(it.envelope), "wraps": hex::encode(it.wraps) })
    };
    let salt = Salt([4; 32]);
    let out = dir.path().join("out.json");
    let settings = dir.path().join("settings.json");
    let party = |(who, suite, bytes): &(ParticipantId, SealSuite, [u8; 32])| json!({ "participant": who.0, "suite": *suite as u8, "private": hex::encode(bytes) });
    write(
        &settings,
        &json!({
            "out": out,
            "signing": { "private": hex::encode(private), "public": hex::encode(&public), "batch": hex::encode(batch(&key)) },
            "parties": parties.iter().map(party).collect::<Vec<_>>(),
            "envelopes": [seal(Cipher::ChaCha20Poly1305), seal(Cipher::Sm4Gcm)],
            "text": hex::encode(text),
            "salt": hex::encode(salt.0),
            "commitment": commit(&salt, text).to_string(),
        }),
    );
    let told = said(script("envelopes.py").arg(&settings));
    assert!(told.contains("2 signatures and 2 envelopes of ours and theirs agree"), "{told}");

    // What they made, by our rules.
    let made: Value = serde_json::from_slice(&std::fs::read(&out).expect("written")).expect("JSON");
    let bytes = |value: &Value| hex::decode(value.as_str().expect("text")).expect("hex");
    for library in ["gmalg", "openssl"] {
        let signed = bytes(&made["batches"][library]);
        let decoded = decode_batch(&signed, &CHAIN).expect("a batch");
        decoded.clone().verify(Suite::Sm2Sm3, &public).unwrap_or_else(|reject| panic!("{library}: {reject:?}"));
        let mut other = decoded;
        other.signing_digest[0] ^= 1;
        assert!(other.verify(Suite::Sm2Sm3, &public).is_err());
    }
    let envelopes = made["envelopes"].as_array().expect("a list");
    assert_eq!(envelopes.len(), 2);
    for it in envelopes {
        for (who, key) in &opening {
            let opened = open(&bytes(&it["envelope"]), &bytes(&it["wraps"]), &about, *who, key).expect("opens");
            assert_eq!(*opened, text);
        }
    }
}
