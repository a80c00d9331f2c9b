//! The trust file: which ledger, and who its validators are. JSON, so that a stranger's verifier reads it too.

use crate::genesis;
use anji_contracts::types::{ChainId, Hash32, ParticipantId};
use anji_verify::bundle::Trust;
use anji_verify::{Address, Validator, ValidatorSet};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Version of the file.
const FORMAT: u32 = 1;

/// `anji evidence trust`.
#[derive(Args)]
pub(super) struct TrustArgs {
    /// The network's genesis.bin.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// Where to write the trust file; it is never overwritten. Printed if left out.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustFile {
    format: u32,
    chain_id: String,
    height: u64,
    validators: Vec<TrustedValidator>,
    names: BTreeMap<u32, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustedValidator {
    participant: u32,
    name: String,
    public_key: String,
    power: u64,
}

pub(super) fn run(args: &TrustArgs) -> Result<()> {
    let trust = Trust::of_genesis(&genesis::read(&args.genesis)?);
    let trust = trust.with_context(|| format!("{}: names no valid set of validators", args.genesis.display()))?;
    let text = to_text(&trust)?;
    match &args.out {
        None => print!("{text}"),
        Some(file) => {
            crate::cli::init::write_new(file, 0o644, text.as_bytes())?;
            println!(
                "{}: ledger {}, {} validators",
                file.display(),
                trust.chain_id,
                trust.validators.validators().len()
            );
        }
    }
    Ok(())
}

fn to_text(trust: &Trust) -> Result<String> {
    let validators = trust.validators.validators().iter().map(|it| TrustedValidator {
        participant: it.participant.0,
        name: trust.names.get(&it.participant).cloned().unwrap_or_default(),
        public_key: hex::encode(it.public_key),
        power: it.power,
    });
    let file = TrustFile {
        format: FORMAT,
        chain_id: trust.chain_id.to_string(),
        height: trust.height,
        validators: validators.collect(),
        names: trust.names.iter().map(|(id, name)| (id.0, name.clone())).collect(),
    };
    Ok(serde_json::to_string_pretty(&file)? + "\n")
}

/// Reads a trust file.
pub(super) fn read(file: &Path) -> Result<Trust> {
    let way_out = "way out: make one with `anji evidence trust --genesis FILE --out FILE`";
    let name = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("{name}: cannot be read\n  {way_out}"))?;
    let read: TrustFile = serde_json::from_str(&text).with_context(|| format!("{name}: no trust file\n  {way_out}"))?;
    ensure!(read.format == FORMAT, "{name}: `format = {}` is not known, only {FORMAT}\n  {way_out}", read.format);
    ensure!(read.height >= 1, "{name}: `height = 0`: heights count from 1\n  {way_out}");
    let hex32 = |field: &str, text: &str| -> Result<[u8; 32]> {
        let bytes = crate::config::parse_hex32(text);
        bytes.with_context(|| format!("{name}: `{field} = {text}` is not 64 hex digits\n  {way_out}"))
    };
    let mut validators = Vec::new();
    for it in &read.validators {
        let public_key = hex32("public_key", &it.public_key)?;
        let participant = ParticipantId(it.participant);
        validators.push(Validator { address: Address::of(&public_key), participant, public_key, power: it.power });
    }
    let count = validators.len();
    let validators = ValidatorSet::new(validators).filter(|set| set.validators().len() == count);
    Ok(Trust {
        chain_id: ChainId(Hash32(hex32("chain_id", &read.chain_id)?)),
        height: read.height,
        validators: validators
            .with_context(|| format!("{name}: `validators` is no valid set: empty, a key twice or a power of 0"))?,
        names: read.names.into_iter().map(|(id, name)| (ParticipantId(id), name)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust() -> Trust {
        let key = |byte| ed25519_public(byte);
        let validator = |byte, power| Validator {
            address: Address::of(&key(byte)),
            participant: ParticipantId(u32::from(byte)),
            public_key: key(byte),
            power,
        };
        Trust {
            chain_id: ChainId(Hash32([7; 32])),
            height: 12,
            validators: ValidatorSet::new(vec![validator(1, 2), validator(2, 3)]).expect("a set"),
            names: BTreeMap::from([(ParticipantId(1), String::from("one")), (ParticipantId(2), String::from("two"))]),
        }
    }

    fn ed25519_public(byte: u8) -> [u8; 32] {
        [byte; 32]
    }

    fn read_text(text: &str) -> Result<Trust> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("trust.json");
        std::fs::write(&file, text)?;
        read(&file)
    }

    #[test]
    fn a_trust_file_reads_back() {
        let text = to_text(&trust()).expect("JSON");
        assert_eq!(read_text(&text).expect("it was written so"), trust());
    }

    #[test]
    fn what_is_wrong_with_a_trust_file_is_named() {
        let good = to_text(&trust()).expect("JSON");
        let rows = [
            (good.replace("\"format\": 1", "\"format\": 2"), "`format = 2` is not known"),
            (good.replace("\"height\": 12", "\"height\": 0"), "heights count from 1"),
            (good.replace(&"07".repeat(32), "07"), "`chain_id = 07` is not 64 hex digits"),
            (good.replace(&"01".repeat(32), &"02".repeat(32)), "`validators` is no valid set"),
            (good.replace("\"power\": 2", "\"power\": 0"), "`validators` is no valid set"),
            (good.replace("\"names\"", "\"nomes\""), "no trust file"),
            (String::new(), "no trust file"),
        ];
        for (text, expected) in rows {
            let error = format!("{:#}", read_text(&text).expect_err(expected));
            assert!(error.contains(expected), "{expected:?} not in {error}");
        }
    }
}
