//! The strict Ed25519 rule for keys that sign often, with the same answer as [`verify_ed25519`](anji_contracts::codec::verify_ed25519) for every input.
//!
//! The rule computes R' = s·B − k·A and compares its encoding with the signature's R. Most of that is doublings, which are the same for
//! every signature of a key: with the multiples of B and of A at hand nothing but additions is left, and signatures that are judged together
//! share the inversion of their encodings. It is the same point, computed in another order, so this is no batch equation: each signature is
//! judged by itself, and torsion components of crafted keys and points count as they do there.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;
use sha2::{Digest, Sha512};

/// Bits of a digit.
const WINDOW: u32 = 6;
/// Digits of a scalar of 256 bits.
const ROWS: usize = 43;
/// Digits are signed: from −32 to 32.
const HALF: i32 = 1 << (WINDOW - 1);

/// The multiples of one point by every digit at every place: 215 KiB.
struct Table(Vec<[EdwardsPoint; HALF.unsigned_abs() as usize]>);

#[expect(clippy::arithmetic_side_effects, reason = "points wrap by nature; digits are bounded by the window")]
impl Table {
    fn new(point: EdwardsPoint) -> Self {
        let mut unit = point;
        let row = |_| {
            let mut multiple = EdwardsPoint::identity();
            let multiples = core::array::from_fn(|_| {
                multiple += unit;
                multiple
            });
            for _ in 0..WINDOW {
                unit += unit;
            }
            multiples
        };
        Self((0..ROWS).map(row).collect())
    }

    /// Adds the point times the scalar to `sum`. What it takes depends on the scalar: for public values only.
    fn add_product(&self, scalar: &Scalar, sum: &mut EdwardsPoint) {
        for (row, digit) in self.0.iter().zip(digits(scalar)) {
            let multiple = usize::try_from(digit.unsigned_abs()).unwrap_or(0).checked_sub(1).and_then(|at| row.get(at));
            match multiple {
                Some(multiple) if digit > 0 => *sum += multiple,
                Some(multiple) => *sum -= multiple,
                None => {}
            }
        }
    }
}

/// The scalar is Σ digit·64^place. It is below 2²⁵³, so nothing is carried out of the last place.
#[expect(clippy::arithmetic_side_effects, reason = "digits are bounded by the window")]
fn digits(scalar: &Scalar) -> impl Iterator<Item = i32> {
    let bytes = scalar.to_bytes();
    let mut carry = 0;
    (0..ROWS).map(move |place| {
        let bit = place * WINDOW as usize;
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let two = u16::from_le_bytes([byte(bit / 8), byte(bit / 8 + 1)]) >> (bit % 8);
        let digit = i32::from(two) % (2 * HALF) + carry;
        carry = i32::from(digit > HALF);
        digit - carry * 2 * HALF
    })
}

/// The multiples of the base point, which all keys share.
#[derive(Clone)]
pub struct BaseTable(Arc<Table>);

impl Default for BaseTable {
    fn default() -> Self {
        Self(Arc::new(Table::new(ED25519_BASEPOINT_POINT)))
    }
}

impl fmt::Debug for BaseTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BaseTable")
    }
}

/// A public key with its multiples. Making one costs as much as some ten verifications.
pub struct PreparedKey {
    public_key: [u8; 32],
    /// Of −A.
    negated: Table,
    base: BaseTable,
}

impl fmt::Debug for PreparedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedKey").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}

/// A signature over a message, and the key that is said to have made it.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// The key.
    pub key: &'a PreparedKey,
    /// What was signed.
    pub message: &'a [u8],
    /// The signature.
    pub signature: &'a [u8; 64],
}

impl PreparedKey {
    /// `None` for a key that no signature verifies with: it is no point, or one of small order.
    #[must_use]
    pub fn new(base: &BaseTable, public_key: &[u8; 32]) -> Option<Self> {
        let point = CompressedEdwardsY(*public_key).decompress().filter(|point| !point.is_small_order())?;
        #[expect(clippy::arithmetic_side_effects, reason = "points have no overflow")]
        let negated = Table::new(-point);
        Some(Self { public_key: *public_key, negated, base: base.clone() })
    }

    /// Whether the key signed the message: [`verify_ed25519`](anji_contracts::codec::verify_ed25519) with this key.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let Some((r, point)) = self.expected(message, signature) else { return false };
        is_accepted(&r, &point, point.compress())
    }

    /// The signature's R, and the point whose encoding it must be. `None` if s is not reduced.
    fn expected(&self, message: &[u8], signature: &[u8; 64]) -> Option<([u8; 32], EdwardsPoint)> {
        let (r, s) = signature.split_first_chunk::<32>()?;
        let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(s.try_into().ok()?))?;
        let hash = Sha512::new().chain_update(r).chain_update(self.public_key).chain_update(message).finalize();
        let k = Scalar::from_bytes_mod_order_wide(&hash.into());
        let mut sum = EdwardsPoint::identity();
        self.base.0.add_product(&s, &mut sum);
        self.negated.add_product(&k, &mut sum);
        Some((*r, sum))
    }
}

/// R is the canonical encoding of the point; then R is that point, and its order is the point's.
fn is_accepted(r: &[u8; 32], point: &EdwardsPoint, encoded: CompressedEdwardsY) -> bool {
    encoded.0 == *r && !point.is_small_order()
}

/// Judges each signature by itself, as [`PreparedKey::verify`] does, in less time for many.
#[must_use]
pub fn verify_each(signed: &[Signed<'_>]) -> Vec<bool> {
    let expected: Vec<_> = signed.iter().map(|it| it.key.expected(it.message, it.signature)).collect();
    let points: Vec<EdwardsPoint> = expected.iter().flatten().map(|(_, point)| *point).collect();
    let mut encoded = EdwardsPoint::compress_batch_alloc(&points).into_iter();
    let judge = |expected: Option<([u8; 32], EdwardsPoint)>| {
        expected.is_some_and(|(r, point)| encoded.next().is_some_and(|encoded| is_accepted(&r, &point, encoded)))
    };
    expected.into_iter().map(judge).collect()
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test that panics has failed")]
#[path = "prepared_tests.rs"]
mod tests;
