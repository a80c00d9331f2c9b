//! What this machine's cores can verify: the strict check that the node makes, and the batch equation (one multi-scalar multiplication for many
//! signatures), which bounds what any node could do if every payment came with a signature of its own.

use super::rows::{Row, Rows};
use anyhow::{Result, ensure};
use clap::Args;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};
use ed25519_dalek::{Signature, Signer, SigningKey};
use sha2::{Digest, Sha512};
use std::path::PathBuf;
use std::time::Instant;

/// Signatures of one equation.
const BATCH: usize = 256;
/// Equations of a window.
const ROUNDS: usize = 12;
const WINDOWS: usize = 3;

#[derive(Args)]
pub(super) struct SignaturesArgs {
    /// Appends the figures to this file, a JSON object a line.
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
}

struct Signed {
    message: [u8; 32],
    signature: Signature,
}

pub(super) fn run(args: &SignaturesArgs) -> Result<()> {
    let key = SigningKey::from_bytes(&rand::random());
    let signed: Vec<Signed> = (0..BATCH)
        .map(|_| {
            let message: [u8; 32] = rand::random();
            Signed { message, signature: key.sign(&message) }
        })
        .collect();
    let (mut strict, mut batch) = (Vec::new(), Vec::new());
    for _ in 0..WINDOWS {
        let started = Instant::now();
        for _ in 0..ROUNDS {
            for it in &signed {
                ensure!(
                    key.verifying_key().verify_strict(&it.message, &it.signature).is_ok(),
                    "a good signature must verify"
                );
            }
        }
        strict.push((BATCH * ROUNDS) as f64 / started.elapsed().as_secs_f64());
        let started = Instant::now();
        for _ in 0..ROUNDS {
            ensure!(verify_batch(&key.verifying_key().to_bytes(), &signed), "good signatures must verify");
        }
        batch.push((BATCH * ROUNDS) as f64 / started.elapsed().as_secs_f64());
    }
    Rows(args.rows.clone()).add(&[
        Row::of("signatures_strict_per_s_core", &strict, "signatures/s"),
        Row::of("signatures_batch_per_s_core", &batch, "signatures/s").with_note(format!("equations of {BATCH}")),
    ])
}

/// Σ z·(s·B − k·A − R) = 0 with random z of 128 bits. A measure of cost, not what the node decides by.
fn verify_batch(public_key: &[u8; 32], signed: &[Signed]) -> bool {
    let Some(key) = CompressedEdwardsY(*public_key).decompress() else { return false };
    let (mut scalars, mut points) = (Vec::new(), Vec::new());
    let (mut base, mut of_key) = (Scalar::ZERO, Scalar::ZERO);
    for Signed { message, signature } in signed {
        let hash = Sha512::new().chain_update(signature.r_bytes()).chain_update(public_key).chain_update(message);
        let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        let Some(s) = Option::<Scalar>::from(Scalar::from_canonical_bytes(*signature.s_bytes())) else { return false };
        let Some(r) = CompressedEdwardsY(*signature.r_bytes()).decompress() else { return false };
        let z = Scalar::from(rand::random::<u128>());
        base += z * s;
        of_key += z * k;
        scalars.push(-z);
        points.push(r);
    }
    scalars.extend([base, -of_key]);
    points.extend([curve25519_dalek::constants::ED25519_BASEPOINT_POINT, key]);
    EdwardsPoint::vartime_multiscalar_mul(scalars, points).is_identity()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_equation_holds_for_good_signatures_only() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let sign = |message: [u8; 32]| Signed { message, signature: key.sign(&message) };
        let mut signed: Vec<Signed> = (0..8).map(|n| sign([n; 32])).collect();
        let public = key.verifying_key().to_bytes();
        assert!(verify_batch(&public, &signed));
        signed[3].message[0] ^= 1;
        assert!(!verify_batch(&public, &signed));
    }
}
