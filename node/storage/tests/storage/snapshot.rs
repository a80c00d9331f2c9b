//! The bytes of every column family, reviewed. A difference here is a new storage format: raise `FORMAT_VERSION`.

use crate::support::*;
use anji_storage::columns::{ALL, TILES};
use std::fmt::Write as _;

#[test]
fn column_families_hold_these_bytes() {
    let dir = folder();
    let mut opened = open(dir.path());
    Filler::new().fill(&mut opened, 2, 3);
    let log = opened.reader.root_at(2).unwrap().unwrap();
    let cosignature =
        anji_verify::Cosignature { validator: anji_verify::Address([7; 20]), time_s: 9, signature: [8; 64] };
    let signatures = vec![anji_verify::ValidatorSignatures { cosignature, plain: [9; 64] }];
    opened.checkpoints.put(&anji_verify::SignedCheckpoint { height: 2, log, signatures }).unwrap();
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    };
    let mut text = String::new();
    for family in ALL {
        let _ = writeln!(text, "[{family}]");
        opened
            .reader
            .visit_raw(family, |key, value| {
                let _ = writeln!(text, "{} {}", hex(key), hex(value));
                Ok(true)
            })
            .unwrap();
    }
    insta::assert_snapshot!("columns", text);
}

#[test]
fn a_tile_is_256_hashes_under_level_and_index() {
    let dir = folder();
    let mut opened = open(dir.path());
    Filler::new().fill(&mut opened, 10, 60);
    let mut keys = Vec::new();
    opened
        .reader
        .visit_raw(TILES, |key, value| {
            keys.push(key.to_vec());
            assert_eq!(value.len(), 256 * 32);
            Ok(true)
        })
        .unwrap();
    assert_eq!(keys, [[0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 1]]);
}

#[test]
fn the_block_file_holds_these_bytes() {
    let dir = folder();
    let opened = open(dir.path());
    decide(&opened.blocks, &block(1, &[b"batch one", b"batch two"]));
    let bytes = std::fs::read(segment(dir.path(), 1)).unwrap();
    let lines: Vec<String> = bytes
        .chunks(32)
        .map(|line| {
            line.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
        })
        .collect();
    insta::assert_snapshot!("block_file", lines.join("\n"));
}
