//! Fixtures of everything that is hashed, signed or stored: canonical bytes in hex and their BLAKE3. A difference here is a change
//! of format v1. `ANJI_REGENERATE=1 cargo test --release -p anji-contracts --test vectors` writes them anew: doing so
//! approves a new format. The tables of `proto/FORMAT.md` are compared with the code as well.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

mod common;
#[path = "common/samples.rs"]
mod samples;

use anji_contracts::codec::{self, Domain};
use anji_contracts::entity::{Entity, EntityKey, Suite, key_from_sort_bytes};
use anji_contracts::entry::{Entry, Receipt};
use anji_contracts::genesis::Genesis;
use anji_contracts::ops::{Op, OpBody};
use anji_contracts::types::*;
use anji_contracts::{Reject, decode_batch};
use borsh::{BorshDeserialize, BorshSerialize};
use common::*;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fmt::Write as _;
use std::path::Path;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// One line: name, bytes, BLAKE3 of the bytes. Also: what was written reads back as the same.
fn line<T: BorshSerialize + BorshDeserialize + PartialEq + Debug>(name: &str, value: &T) -> String {
    let bytes = codec::encode(value);
    assert_eq!(&codec::decode::<T>(&bytes).unwrap(), value);
    raw_line(name, &bytes)
}

fn raw_line(name: &str, bytes: &[u8]) -> String {
    format!("{name} {} {}\n", hex(bytes), hex(blake3::hash(bytes).as_bytes()))
}

fn check_fixture(file: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    if std::env::var_os("ANJI_REGENERATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected, "{file}: format v1 changed");
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "{file}: lines were added or taken away");
}

#[test]
fn operations() {
    let bodies = samples::op_bodies();
    let mut text = String::new();
    let mut numbers = BTreeSet::new();
    for (place, body) in bodies.iter().enumerate() {
        assert_eq!(codec::encode(body)[0], body.number());
        body.check_fields().unwrap();
        numbers.insert((body.number(), body.name()));
        let op = Op { op_id: OpId::new(START_MS, place as u128), linked: false, body: body.clone() };
        text += &line(body.name(), &op);
    }
    for (name, change) in samples::governance_changes() {
        text += &line(&format!("GovernanceChange.{name}"), &change);
    }
    assert_eq!(numbers.into_iter().collect::<Vec<_>>(), OpBody::ALL, "every operation has a vector");
    check_fixture("operations.txt", &text);
}

#[test]
fn entities_and_keys() {
    let mut text = String::new();
    for (name, entity) in samples::entities() {
        text += &line::<Entity>(name, &entity);
        text += &line::<EntityKey>(&format!("{name}.key"), &entity.key());
        let sorted = entity.key().to_sort_bytes();
        assert_eq!(key_from_sort_bytes(&sorted), Some(entity.key()));
        text += &raw_line(&format!("{name}.sort"), &sorted);
    }
    check_fixture("entities.txt", &text);
}

#[test]
fn entries_and_receipts() {
    let mut text = String::new();
    for (name, entry) in samples::entries() {
        text += &line::<Entry>(name, &entry);
    }
    for (name, receipt) in samples::receipts() {
        text += &line::<Receipt>(&format!("Receipt.{name}"), &receipt);
    }
    check_fixture("entries.txt", &text);
}

#[test]
fn batch_genesis_and_hashes() {
    let genesis = genesis();
    let mut text = line::<Genesis>("Genesis", &genesis);
    let add = |text: &mut String, name: &str, hash: &[u8]| *text += &format!("{name} {}\n", hex(hash));
    add(&mut text, "ChainId", &genesis.chain_id().0.0);

    let world = World::new();
    let mandate = MandateId(ScopedId { participant: ACQUIRER, op_id: OpId::new(START_MS, 1) });
    let ops: Vec<Op> = [100, 200, 300]
        .iter()
        .map(|amount| Op {
            op_id: OpId::new(START_MS, u128::from(*amount)),
            linked: *amount == 100,
            body: OpBody::Pay(pay(mandate, *amount)),
        })
        .collect();
    let bytes = world.batch_bytes(ACQUIRER, &ops);
    let batch = decode_batch(&bytes, &world.chain).unwrap();
    text += &raw_line("Batch", &bytes);
    add(&mut text, "Batch.hash", &batch.hash.0);
    add(&mut text, "Batch.signing_digest", &batch.signing_digest);
    add(&mut text, "Batch.ops_root", &batch.header.ops_root.0);
    for (place, hash) in batch.body_hashes.iter().enumerate() {
        add(&mut text, &format!("Batch.body_hash.{place}"), &hash.0);
    }
    let key = signing_key(ACQUIRER, 1).verifying_key().to_bytes();
    add(&mut text, "Batch.public_key", &key);
    batch.verify(Suite::Ed25519, &key).unwrap();

    let domains = [
        Domain::Genesis,
        Domain::BatchHeader,
        Domain::Batch,
        Domain::OpBody,
        Domain::BlockHeader,
        Domain::ValidatorSet,
        Domain::Vote,
        Domain::Proposal,
        Domain::Address,
        Domain::ActiveChunk,
        Domain::ActiveNode,
        Domain::Evidence,
    ];
    for domain in domains {
        add(&mut text, &format!("hash.{domain:?}"), &codec::hash(domain, b"abc").0);
    }
    let leaves: Vec<Hash32> = (0..9_u8).map(|byte| codec::merkle_leaf(&[byte])).collect();
    for size in 0..=leaves.len() {
        add(&mut text, &format!("merkle_root.{size}"), &codec::merkle_root(&leaves[..size]).0);
    }
    check_fixture("batch.txt", &text);
}

/// The tree by the RFC's own recursive words.
#[test]
fn the_merkle_root_has_the_shape_of_rfc_6962() {
    fn naive(leaves: &[Hash32]) -> Hash32 {
        match leaves {
            [] => Hash32(*blake3::hash(&[]).as_bytes()),
            [leaf] => *leaf,
            _ => {
                let mut half = 1;
                while half * 2 < leaves.len() {
                    half *= 2;
                }
                let (left, right) = (naive(&leaves[..half]), naive(&leaves[half..]));
                Hash32(*blake3::hash(&[&[1], left.0.as_slice(), &right.0].concat()).as_bytes())
            }
        }
    }
    let leaves: Vec<Hash32> = (0..70_u8).map(|byte| Hash32(*blake3::hash(&[0, byte]).as_bytes())).collect();
    assert_eq!(codec::merkle_leaf(&[3]), leaves[3]);
    for size in 0..=leaves.len() {
        assert_eq!(codec::merkle_root(&leaves[..size]), naive(&leaves[..size]), "{size} leaves");
    }
}

fn format_document() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/FORMAT.md")).unwrap()
}

/// The cells of a table's rows, for the table that follows `heading`.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let after = document.split_once(heading).unwrap_or_else(|| panic!("FORMAT.md has no {heading:?}")).1;
    let lines = after.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|it| it.trim().trim_matches('`').into()).collect();
    lines.skip(2).map(cells).collect()
}

#[test]
fn the_reject_table_of_the_format_document_is_the_code() {
    let rows = table(&format_document(), "### Reject codes");
    let found: Vec<_> = rows.iter().map(|row| row.join(" | ")).collect();
    let yes = |it: bool| if it { "yes" } else { "no" };
    let expected: Vec<_> = Reject::ALL
        .iter()
        .map(|it| {
            let (id_used, again) = (yes(it.consumes_id()), yes(it.is_transient()));
            format!("{} | {} | {id_used} | {again} | {}", it.code(), it.name(), it.text())
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn the_operation_table_of_the_format_document_is_the_code() {
    let rows = table(&format_document(), "### Operation numbers");
    let found: Vec<_> = rows.iter().map(|row| (row[0].parse().unwrap(), row[1].as_str())).collect();
    assert_eq!(found, OpBody::ALL);
    let mut world = World::new();
    for (body, row) in samples::op_bodies().into_iter().zip(&rows) {
        // Whoever signs: what is not in force says so before anything else.
        let code = world.code(ACQUIRER, body);
        assert_eq!(code == Reject::OpNotInForce.code(), row[3] == "no", "{row:?}");
    }
}

#[test]
fn the_hash_contexts_of_the_format_document_are_the_code() {
    let document = format_document();
    for row in table(&document, "### Hash contexts") {
        assert!(row[0].starts_with("anji v1 "), "{row:?}");
    }
    let contexts: Vec<String> =
        table(&document, "### Hash contexts").into_iter().map(|mut row| row.remove(0)).collect();
    let domains = [
        Domain::Genesis,
        Domain::BatchHeader,
        Domain::Batch,
        Domain::OpBody,
        Domain::BlockHeader,
        Domain::ValidatorSet,
        Domain::Vote,
        Domain::Proposal,
        Domain::Address,
        Domain::ActiveChunk,
        Domain::ActiveNode,
        Domain::Evidence,
    ];
    assert_eq!(contexts, domains.map(|it| it.context().to_string()));
}
