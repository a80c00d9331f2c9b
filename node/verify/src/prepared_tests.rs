//! Every signature gets the answer of `verify_ed25519`, crafted ones above all.

use super::*;
use alloc::vec;
use anji_contracts::codec::verify_ed25519;
use curve25519_dalek::constants::EIGHT_TORSION;
use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;

/// The order of the base point, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn base() -> BaseTable {
    BaseTable::default()
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// Both answers, which must be one.
fn judge(base: &BaseTable, public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    let strict = verify_ed25519(public_key, message, signature).is_ok();
    let prepared = PreparedKey::new(base, public_key);
    let alone = prepared.as_ref().is_some_and(|key| key.verify(message, signature));
    assert_eq!(alone, strict, "key {public_key:?} message {message:?} signature {signature:?}");
    if let Some(key) = &prepared {
        let other = [7; 64];
        let it = Signed { key, message, signature };
        // Beside one that is not even read, and one that does not verify.
        let unread = Signed { signature: &[0xff; 64], ..it };
        let beside = Signed { signature: &other, ..it };
        assert_eq!(verify_each(&[unread, it, beside, it]), [false, strict, false, strict]);
    }
    strict
}

/// A signature by the secret scalar `a` under the given encoding of its key, with torsion added to R = r·B.
fn sign_with(a: &Scalar, public_key: &[u8; 32], message: &[u8], torsion: &EdwardsPoint, r: u64) -> [u8; 64] {
    let r = Scalar::from(r);
    let point = (EdwardsPoint::mul_base(&r) + torsion).compress().0;
    let hash = Sha512::new().chain_update(point).chain_update(public_key).chain_update(message).finalize();
    let s = r + Scalar::from_bytes_mod_order_wide(&hash.into()) * a;
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&point);
    signature[32..].copy_from_slice(&s.to_bytes());
    signature
}

#[test]
fn good_signatures_verify_and_changed_ones_do_not() {
    let base = base();
    for seed in 0..4 {
        let key = key(seed);
        let public_key = key.verifying_key().to_bytes();
        for length in [0, 1, 32, 200] {
            let message = vec![seed; length];
            let signature = key.sign(&message).to_bytes();
            assert!(judge(&base, &public_key, &message, &signature));
            for bit in (0..512).step_by(37) {
                let mut changed = signature;
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(!judge(&base, &public_key, &message, &changed), "bit {bit}");
            }
        }
        assert!(!judge(&base, &public_key, b"another", &key.sign(b"message").to_bytes()));
    }
}

#[test]
fn s_must_be_reduced() {
    let key = key(1);
    let signature = key.sign(b"message").to_bytes();
    let mut raised = signature;
    let mut carry = 0;
    for (byte, order) in raised[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    assert_eq!(carry, 0);
    assert!(!judge(&base(), &key.verifying_key().to_bytes(), b"message", &raised));
}

#[test]
fn small_orders_are_refused() {
    let (base, zero) = (base(), Scalar::ZERO);
    let good = key(1).verifying_key().to_bytes();
    for torsion in &EIGHT_TORSION {
        let weak = torsion.compress().0;
        assert!(PreparedKey::new(&base, &weak).is_none());
        for r in 0..4 {
            assert!(!judge(&base, &weak, b"message", &sign_with(&zero, &weak, b"message", torsion, r)));
        }
        // R of small order with an s that fits it, which takes the secret scalar.
        let a = Scalar::from(5u64);
        let public_key = EdwardsPoint::mul_base(&a).compress().0;
        assert!(!judge(&base, &public_key, b"message", &sign_with(&a, &public_key, b"message", torsion, 0)));
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&weak);
        assert!(!judge(&base, &good, b"message", &signature));
    }
}

#[test]
fn torsion_in_key_or_point_counts_as_in_the_strict_rule() {
    let base = base();
    let a = Scalar::from(0x1234_5678_9abc_def0_u64);
    let (mut accepted, mut refused) = (0, 0);
    for in_key in &EIGHT_TORSION {
        let public_key = (EdwardsPoint::mul_base(&a) + in_key).compress().0;
        for in_point in &EIGHT_TORSION {
            for r in 1..6 {
                let signature = sign_with(&a, &public_key, b"message", in_point, r);
                match judge(&base, &public_key, b"message", &signature) {
                    true => accepted += 1,
                    false => refused += 1,
                }
            }
        }
    }
    // All of them satisfy the equation with the cofactor. Strictly, one in eight: those whose torsion cancels out.
    assert!(accepted > 20 && refused > 200, "{accepted} accepted, {refused} refused");
}

#[test]
fn encodings_that_are_no_point_or_not_canonical_get_the_same_answer() {
    let base = base();
    let signature = key(1).sign(b"message").to_bytes();
    // y from p − 1 to 2²⁵⁵ − 1, with either sign.
    for low in 0xec..=0xff {
        for sign in [0x7f, 0xff] {
            let mut encoding = [0xff; 32];
            (encoding[0], encoding[31]) = (low, sign);
            judge(&base, &encoding, b"message", &signature);
            let mut of_point = signature;
            of_point[..32].copy_from_slice(&encoding);
            judge(&base, &key(1).verifying_key().to_bytes(), b"message", &of_point);
        }
    }
}

#[test]
fn digits_add_up_to_the_scalar() {
    let extremes =
        [Scalar::ZERO, Scalar::ONE, -Scalar::ONE, Scalar::from(32u64), Scalar::from(33u64), Scalar::from(63u64)];
    for scalar in extremes {
        let mut sum = EdwardsPoint::identity();
        base().0.add_product(&scalar, &mut sum);
        assert_eq!(sum, EdwardsPoint::mul_base(&scalar));
        assert!(digits(&scalar).all(|digit| (-HALF..=HALF).contains(&digit)));
    }
}

proptest! {
    #[test]
    fn products_are_those_of_the_curve(bytes: [u8; 32], of: [u8; 32]) {
        let (scalar, point) = (Scalar::from_bytes_mod_order(bytes), EdwardsPoint::mul_base(&Scalar::from_bytes_mod_order(of)));
        let point = point + EIGHT_TORSION[usize::from(of[0] % 8)];
        let mut sum = EdwardsPoint::identity();
        Table::new(point).add_product(&scalar, &mut sum);
        prop_assert_eq!(sum, point * scalar);
    }

    #[test]
    fn any_bytes_get_the_same_answer(public_key: [u8; 32], message: Vec<u8>, low: [u8; 32], high: [u8; 32]) {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&low);
        signature[32..].copy_from_slice(&high);
        judge(&base(), &public_key, &message, &signature);
        judge(&base(), &key(1).verifying_key().to_bytes(), &message, &signature);
    }
}
