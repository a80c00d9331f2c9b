//! Fixtures of proofs: what `proto/FORMAT.md` section 6 says, as hex, for whoever writes a verifier. A difference here is a change of
//! format v1. `ANJI_REGENERATE=1 cargo test --release --test proof_vectors` writes them anew: doing so approves a new format.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

use anji_contracts::codec;
use anji_contracts::types::*;
use anji_contracts::window_tree::{WindowTree, payment_leaf};
use anji_verify::active_tree::{ActiveTree, depth};
use anji_verify::log_proof::{consistency_path, inclusion_path};
use anji_verify::log_tree::{leaf_hash, subtree_root};
use anji_verify::{
    LogRoot, LogTree, WindowAbsence, WindowMember, check_absent, check_active, check_captured, check_consistency,
    check_inclusion, merkle_path,
};
use std::fmt::Write as _;
use std::path::Path;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn path_text(path: &[Hash32]) -> String {
    if path.is_empty() { "-".into() } else { path.iter().map(|hash| hex(&hash.0)).collect::<Vec<_>>().join(",") }
}

/// The log of entries whose bytes are their index, u32 little-endian.
fn log() -> String {
    let leaves: Vec<Hash32> = (0..300u32).map(|index| leaf_hash(&index.to_le_bytes())).collect();
    let root = |size: u64| {
        let mut tree = LogTree::new();
        leaves.iter().take(size as usize).for_each(|leaf| tree.append(*leaf, &mut |_| {}));
        tree.root()
    };
    let subtree = |level: u32, index: u64| {
        let start = (index << level) as usize;
        subtree_root(&leaves[start..start + (1 << level)]).ok_or(())
    };
    let mut text = String::new();
    let sizes = [0, 1, 2, 3, 4, 7, 8, 255, 256, 257, 300];
    for size in sizes {
        let _ = writeln!(text, "log.root.{size} {}", hex(&root(size).root.0));
        for index in [0, 1, 2, 6, 255, 256, 299].into_iter().filter(|index| *index < size) {
            let path = inclusion_path(index, size, subtree).unwrap();
            assert_eq!(check_inclusion(&leaves[index as usize], index, &root(size), &path), Ok(()));
            let _ = writeln!(text, "log.inclusion.{index}.{size} {}", path_text(&path));
        }
        for old in sizes.into_iter().filter(|old| *old > 0 && *old < size) {
            let path = consistency_path(old, size, subtree).unwrap();
            let LogRoot { size: found, .. } = root(old);
            assert_eq!(found, old);
            assert_eq!(check_consistency(&root(old), &root(size), &path), Ok(()));
            let _ = writeln!(text, "log.consistency.{old}.{size} {}", path_text(&path));
        }
    }
    text
}

/// Bitmaps in which every third entry is active.
fn active() -> String {
    let mut text = String::new();
    for size in [1, 7, 2047, 2048, 2049, 4096, 4097, 8193, 20_000] {
        let mut tree = ActiveTree::new();
        tree.apply(size, (0..size).step_by(3), [], &mut |_, _, _| {}).unwrap();
        let _ = writeln!(text, "active.root.{size} {} depth {}", hex(&tree.root().0), depth(size));
        for index in [0, 1, 2046, 2048, 19_998].into_iter().filter(|index| *index < size) {
            let proof = tree.proof(index).unwrap();
            assert_eq!(check_active(&proof, index, size, &tree.root()), Ok(index % 3 == 0));
            let _ = writeln!(text, "active.proof.{index}.{size} {}", hex(&codec::encode(&proof)));
        }
    }
    text
}

/// Windows whose payments have even operation ids of two participants.
fn windows() -> String {
    let mut text = String::new();
    let id = |n: u128| PaymentId(ScopedId { participant: ParticipantId(1 + u32::from(n >= 4)), op_id: OpId(n * 2) });
    for size in [0, 1, 2, 7] {
        let payments: Vec<PaymentId> = (0..size).map(id).collect();
        let leaves: Vec<Hash32> = payments.iter().map(payment_leaf).collect();
        let mut tree = WindowTree::start(WindowId(9));
        payments.iter().for_each(|payment| tree.push(*payment));
        let window = tree.finish();
        let _ = writeln!(text, "window.{size} {}", hex(&codec::encode(&window)));
        let member = |index: usize| WindowMember {
            payment: payments[index],
            index: index as u64,
            path: merkle_path(&leaves, index as u64).unwrap(),
        };
        for index in 0..payments.len() {
            assert_eq!(check_captured(&member(index), &window), Ok(()));
            let _ = writeln!(text, "window.member.{index}.{size} {}", hex(&codec::encode(&member(index))));
        }
        for place in 0..=payments.len() {
            let absent = match place.checked_sub(1) {
                None => PaymentId(ScopedId { participant: ParticipantId(0), op_id: OpId(5) }),
                Some(before) => {
                    let before = payments[before].0;
                    PaymentId(ScopedId { op_id: OpId(before.op_id.0 + 1), ..before })
                }
            };
            let before = place.checked_sub(1).map(member);
            let absence = WindowAbsence { before, after: (place < payments.len()).then(|| member(place)) };
            assert_eq!(check_absent(&absent, &absence, &window), Ok(()));
            let (name, proof) = (hex(&absent.0.to_sort_bytes()), hex(&codec::encode(&absence)));
            let _ = writeln!(text, "window.absence.{name}.{size} {proof}");
        }
    }
    text
}

#[test]
fn proofs_are_those_of_the_fixture() {
    let found = [log(), active(), windows()].concat();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/proofs.txt");
    if std::env::var_os("ANJI_REGENERATE").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected, "format v1 changed");
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "lines were added or taken away");
}
