//! Keys and signatures of every suite: the standard's own sample, what is refused, and a batch signed with SM2.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests fail loudly")]

mod common;

use anji_contracts::entity::{EncryptionKey, Key, SealSuite, Suite};
use anji_contracts::keys::{SM2_ID, check_encryption_key, check_signing_key, verify, verify_sm2};
use anji_contracts::ops::{Op, OpBody};
use anji_contracts::types::{KeyId, OpId};
use anji_contracts::{Reject, decode_batch, encode_batch, genesis_writes};
use common::*;
use sm2::dsa::SigningKey as Sm2Key;
use sm2::dsa::signature::Signer;

/// GB/T 32918.5-2017, annex A: digital signature on the recommended curve, "message digest" by "1234567812345678".
const PRIVATE: &str = "3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8";
const PUBLIC: &str = "0309F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020";
const R: &str = "F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3";
const S: &str = "B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA";
/// The order of the base point, and the field's prime.
const N: &str = "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123";
const P: &str = "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF";
/// x of the base point.
const G: &str = "32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7";

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn joined(r: &str, s: &str) -> [u8; 64] {
    [unhex(r), unhex(s)].concat().try_into().unwrap()
}

fn sm2_key(participant: u32) -> Sm2Key {
    let mut seed = [9; 32];
    seed[0] = participant as u8;
    Sm2Key::from_slice(SM2_ID, &seed).unwrap()
}

fn public(key: &Sm2Key) -> Vec<u8> {
    use sm2::elliptic_curve::sec1::ToSec1Point;
    key.verifying_key().as_affine().to_sec1_point(true).as_bytes().to_vec()
}

#[test]
fn the_sample_of_the_standard_verifies() {
    let key = unhex(PUBLIC);
    check_signing_key(Suite::Sm2Sm3, &key).unwrap();
    assert_eq!(public(&Sm2Key::from_slice(SM2_ID, &unhex(PRIVATE)).unwrap()), key);
    verify_sm2(&key, b"message digest", &joined(R, S)).unwrap();
    verify(Suite::Sm2Sm3, &key, b"message digest", &joined(R, S)).unwrap();
    assert_eq!(verify_sm2(&key, b"message digesu", &joined(R, S)), Err(Reject::BadSignature));
    assert_eq!(verify(Suite::Ed25519, &key, b"message digest", &joined(R, S)), Err(Reject::BadSignature));
}

#[test]
fn every_flipped_bit_of_an_sm2_signature_or_key_is_refused() {
    let (key, good) = (unhex(PUBLIC), joined(R, S));
    for bit in 0..512 {
        let mut bad = good;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(verify_sm2(&key, b"message digest", &bad), Err(Reject::BadSignature), "bit {bit} of the signature");
    }
    for bit in 0..264 {
        let mut bad = key.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(verify_sm2(&bad, b"message digest", &good), Err(Reject::BadSignature), "bit {bit} of the key");
    }
}

/// a − b for 32-byte big-endian numbers, a ≥ b.
fn minus(a: &str, b: &str) -> String {
    let (a, b) = (unhex(a), unhex(b));
    let mut borrow = 0;
    let mut out = [0; 32];
    for at in (0..32).rev() {
        let digit = i32::from(a[at]) - i32::from(b[at]) - borrow;
        borrow = i32::from(digit < 0);
        out[at] = (digit + 256 * borrow) as u8;
    }
    out.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[test]
fn numbers_out_of_range_and_negated_ones_are_refused() {
    let zero = "0".repeat(64);
    let key = unhex(PUBLIC);
    let rows = [
        (zero.clone(), S.to_owned(), "r = 0"),
        (R.to_owned(), zero.clone(), "s = 0"),
        (zero.clone(), zero, "both 0"),
        (N.to_owned(), S.to_owned(), "r = n"),
        (R.to_owned(), N.to_owned(), "s = n"),
        ("F".repeat(64), S.to_owned(), "r = 2^256 - 1"),
        (R.to_owned(), "F".repeat(64), "s = 2^256 - 1"),
        (R.to_owned(), minus(N, S), "-s: SM2 has no twin of a signature as ECDSA has"),
        (minus(N, R), S.to_owned(), "-r"),
        (minus(N, R), minus(N, S), "-r, -s"),
        (R.to_owned(), minus(N, R), "r + s = n"),
        (S.to_owned(), R.to_owned(), "swapped"),
    ];
    for (r, s, what) in rows {
        assert_eq!(verify_sm2(&key, b"message digest", &joined(&r, &s)), Err(Reject::BadSignature), "{what}");
    }
}

#[test]
fn what_is_no_key_is_refused() {
    let x = &PUBLIC[2..];
    let full = format!("04{x}CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13");
    let rows = [
        (Suite::Sm2Sm3, String::new(), "nothing"),
        (Suite::Sm2Sm3, "00".into(), "infinity"),
        (Suite::Sm2Sm3, "00".repeat(33), "infinity, padded"),
        (Suite::Sm2Sm3, x.into(), "32 bytes"),
        (Suite::Sm2Sm3, full, "not compressed"),
        (Suite::Sm2Sm3, format!("04{x}"), "tag 4 on 33 bytes"),
        (Suite::Sm2Sm3, format!("05{x}"), "the compact tag"),
        (Suite::Sm2Sm3, format!("{PUBLIC}00"), "one byte more"),
        (Suite::Sm2Sm3, format!("02{P}"), "x = p"),
        (Suite::Sm2Sm3, format!("02{}", "F".repeat(64)), "x above p"),
        (Suite::Sm2Sm3, format!("02{}04", "0".repeat(62)), "x of no point"),
        (Suite::Sm2Sm3, format!("03{G}"), "-G"),
        (Suite::Ed25519, PUBLIC.into(), "another suite's"),
        (Suite::Ed25519, "00".repeat(32), "small order"),
        (Suite::Ed25519, format!("01{}", "00".repeat(31)), "the neutral point"),
        (Suite::Ed25519, format!("02{}", "00".repeat(31)), "no point"),
    ];
    for (suite, key, what) in rows {
        assert_eq!(check_signing_key(suite, &unhex(&key)), Err(Reject::Malformed), "{suite:?}: {what}");
    }
    check_signing_key(Suite::Sm2Sm3, &unhex(&format!("02{x}"))).unwrap();
    check_signing_key(Suite::Sm2Sm3, &unhex(&format!("02{G}"))).unwrap();
    check_signing_key(Suite::Ed25519, signing_key(ACQUIRER, 1).verifying_key().as_bytes()).unwrap();

    let sealed = |suite, key: &str| check_encryption_key(&EncryptionKey { suite, public_key: unhex(key) });
    assert_eq!(sealed(SealSuite::Sm2, PUBLIC), Ok(()));
    assert_eq!(sealed(SealSuite::X25519, &format!("09{}", "00".repeat(31))), Ok(()));
    for (suite, key, what) in [
        (SealSuite::X25519, "00".repeat(32), "0"),
        (SealSuite::X25519, format!("01{}", "00".repeat(31)), "1"),
        // Of order 8, and −1, from the list at https://cr.yp.to/ecdh.html.
        (SealSuite::X25519, "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800".into(), "order 8"),
        (
            SealSuite::X25519,
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157".into(),
            "order 8, twist",
        ),
        (SealSuite::X25519, format!("ec{}7f", "ff".repeat(30)), "p - 1"),
        (SealSuite::X25519, format!("ed{}7f", "ff".repeat(30)), "p"),
        (SealSuite::X25519, format!("ee{}7f", "ff".repeat(30)), "p + 1"),
        (SealSuite::X25519, "09".repeat(31), "31 bytes"),
        (SealSuite::X25519, PUBLIC.into(), "an SM2 key"),
        (SealSuite::Sm2, format!("05{x}"), "a bad tag"),
        (SealSuite::Sm2, "09".repeat(32), "an X25519 key"),
    ] {
        assert_eq!(sealed(suite, &key), Err(Reject::Malformed), "{suite:?}: {what}");
    }
}

#[test]
fn a_batch_signed_with_sm2_counts_and_with_one_bit_changed_does_not() {
    let mut genesis = genesis();
    let signer = sm2_key(8);
    let key = Key { suite: Suite::Sm2Sm3, public_key: public(&signer), ..genesis.participants[0].keys[0].clone() };
    genesis.participants[0].keys = vec![key.clone()];
    genesis.participants[0].encryption =
        Some(EncryptionKey { suite: SealSuite::Sm2, public_key: key.public_key.clone() });
    genesis_writes(&genesis).unwrap();

    let mut world = World::with(&genesis);
    let mandate = world.active_mandate();
    let op = Op { op_id: OpId::new(START_MS, 5), linked: false, body: OpBody::Pay(pay(mandate, 100)) };
    let sign = |digest: &[u8; 32]| -> [u8; 64] {
        let signature: sm2::dsa::Signature = signer.sign(digest);
        signature.to_bytes().into()
    };
    let bytes = encode_batch(&world.chain, ACQUIRER, KeyId(1), START_MS + 1000, &[op], sign).unwrap();
    let decoded = decode_batch(&bytes, &world.chain).unwrap();
    decoded.clone().verify(Suite::Sm2Sm3, &key.public_key).unwrap();
    assert_eq!(decoded.clone().verify(Suite::Ed25519, &key.public_key).unwrap_err(), Reject::BadSignature);
    let other = public(&sm2_key(9));
    assert_eq!(decoded.verify(Suite::Sm2Sm3, &other).unwrap_err(), Reject::BadSignature);
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        let refused = decode_batch(&flipped, &world.chain).and_then(|it| it.verify(Suite::Sm2Sm3, &key.public_key));
        assert!(refused.is_err(), "the flipped byte {at} was not noticed");
    }
}

#[test]
fn genesis_refuses_a_key_that_is_none() {
    let refused = |change: &dyn Fn(&mut Key)| {
        let mut genesis = genesis();
        change(&mut genesis.participants[0].keys[0]);
        genesis_writes(&genesis).expect_err("refused")
    };
    let shown = refused(&|key| key.suite = Suite::Sm2Sm3);
    assert_eq!(shown, "participants[1].keys[1].public_key: no Sm2Sm3 key");
    let shown = refused(&|key| key.public_key = vec![0; 32]);
    assert_eq!(shown, "participants[1].keys[1].public_key: no Ed25519 key");
    let mut genesis = genesis();
    genesis.participants[1].encryption = Some(EncryptionKey { suite: SealSuite::X25519, public_key: vec![0; 32] });
    assert_eq!(genesis_writes(&genesis).expect_err("refused"), "participants[2].encryption: no X25519 key");
    genesis.participants[1].encryption = None;
    genesis_writes(&genesis).unwrap();
}
