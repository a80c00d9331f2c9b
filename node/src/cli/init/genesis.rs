//! From the network file and everybody's public keys to the genesis document, and its readable dump.

use anji_adapters::keys::KeySuite;
use anji_adapters::settings;
use anji_adapters::settings::{FieldError, SettingsError};
use anji_contracts::Genesis;
use anji_contracts::batch::FORMAT;
use anji_contracts::entity::{EncryptionKey, Key, Licence, Participant};
use anji_contracts::genesis::{GenesisPosition, GenesisValidator, Params};
use anji_contracts::types::{Amount, Currency, KeyId};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

use super::network_file::{NetworkFile, NodeSpec};
use crate::config::parse_hex32;

settings! {
    /// What an operator sends to the others, `public.toml`: public keys only.
    pub(crate) struct PublicKeys { values {
        /// The node these keys belong to, as named in the network file.
        node: String,
        /// The node's identity towards its peers (Ed25519).
        network: String,
        /// Verifies the node's votes (Ed25519); left out for an observer.
        consensus: Option<String> = None,
        /// Verifies the participant's batches (Ed25519, or 33 bytes of SM2); left out where there is no adapter.
        signing: Option<String> = None,
        /// Seals envelopes to the participant (X25519, or 33 bytes of SM2).
        encryption: String,
    } }
}

/// Public keys by node name.
pub(crate) type Publics = BTreeMap<String, PublicKeys>;

/// Reads and checks one `public.toml`.
pub(crate) fn read_public(file: &Path) -> Result<PublicKeys, SettingsError> {
    let keys: PublicKeys = settings::read(file)?;
    let own = |key: &String| parse_key(key, KeySuite::Ed25519).or_else(|| parse_key(key, KeySuite::Sm2)).is_some();
    let other = |key: &String| parse_hex32(key).is_some();
    let fields = [
        ("network", Some(&keys.network), other(&keys.network), "not 64 hex digits"),
        ("consensus", keys.consensus.as_ref(), keys.consensus.as_ref().is_none_or(other), "not 64 hex digits"),
        ("signing", keys.signing.as_ref(), keys.signing.as_ref().is_none_or(own), "neither 64 nor 66 hex digits"),
        ("encryption", Some(&keys.encryption), own(&keys.encryption), "neither 64 nor 66 hex digits"),
    ];
    for (field, value, good, problem) in fields {
        if let Some(value) = value.filter(|_| !good) {
            let way_out = "ask the operator for the file that `anji init keys` wrote";
            return Err(FieldError::new(field, value, problem, way_out).in_file(file));
        }
    }
    Ok(keys)
}

/// The bytes of a participant's own key of this suite, by their number; whether they are a point the ledger's rules judge.
fn parse_key(text: &str, suite: KeySuite) -> Option<Vec<u8>> {
    hex::decode(text).ok().filter(|bytes| bytes.len() == suite.signing().public_key_bytes())
}

/// The genesis document. The same arguments give the same bytes everywhere.
///
/// # Errors
/// A key is missing or used twice.
pub(crate) fn build(
    network: &NetworkFile,
    publics: &Publics,
    salt: [u8; 32],
    time_ms: u64,
) -> Result<Genesis, FieldError> {
    let mut participants = Vec::new();
    let mut positions = Vec::new();
    for spec in &network.participants {
        let missing = |field: &str| {
            FieldError::new(
                format!("participants[{}].{field}", spec.name),
                "",
                "not usable",
                "correct the network file",
            )
        };
        let id = network.participant_id(&spec.name).ok_or_else(|| missing("name"))?;
        let holder = network.key_holder(&spec.name).map(|node| of_node(publics, node)).transpose()?;
        let suite = spec.suite().ok_or_else(|| missing("suite"))?;
        let own = |purpose: &str, text: &str| {
            parse_key(text, suite).ok_or_else(|| {
                let field = format!("participants[{}].suite", spec.name);
                let problem = format!("the {purpose} key of its public.toml is of another suite");
                let way_out = "make the keys with `anji init keys` and this network file";
                FieldError::new(field, suite.name(), problem, way_out)
            })
        };
        let signing = holder.and_then(|keys| keys.signing.as_deref()).map(|it| own("signing", it)).transpose()?;
        let encryption = holder.map(|keys| own("encryption", &keys.encryption)).transpose()?;
        let encryption = encryption.map(|public_key| EncryptionKey { suite: suite.sealing(), public_key });
        let keys = signing.map(|public_key| Key {
            key_id: KeyId(1),
            suite: suite.signing(),
            public_key,
            valid_from_ms: 0,
            valid_until_ms: u64::MAX,
            revoked_at_ms: None,
        });
        participants.push(Participant {
            id,
            role: spec.role().ok_or_else(|| missing("role"))?,
            name: spec.name.clone(),
            legal_name: spec.legal_name.clone(),
            active: true,
            licence: Licence {
                number: spec.licence_number.clone(),
                scenes: spec.scenes().ok_or_else(|| missing("licence_scenes"))?,
                expires_at_ms: spec.licence_ends_ms().ok_or_else(|| missing("licence_ends"))?,
            },
            keys: keys.into_iter().collect(),
            encryption,
        });
        if spec.cap > 0 || spec.liquidity > 0 {
            positions.push(GenesisPosition {
                participant: id,
                cap: Amount(spec.cap),
                liquidity: Amount(spec.liquidity),
            });
        }
    }
    let mut validators: Vec<GenesisValidator> = Vec::new();
    for node in network.nodes.iter().filter(|node| node.power > 0) {
        let field = || format!("nodes[{}]", node.name);
        let keys = of_node(publics, node)?;
        let Some(public_key) = keys.consensus.as_deref().and_then(parse_hex32) else {
            let way_out = "run `anji init keys` with the network file in which the node has a power above 0";
            return Err(FieldError::new(field(), "consensus key", "missing in its public.toml", way_out));
        };
        if validators.iter().any(|other| other.public_key == public_key) {
            let way_out = "every validator makes its own keys with `anji init keys`";
            return Err(FieldError::new(field(), "consensus key", "used by two validators", way_out));
        }
        let participant = network.participant_id(&node.participant).ok_or_else(|| {
            FieldError::new(field(), &node.participant, "no such participant", "correct the network file")
        })?;
        validators.push(GenesisValidator { participant, public_key, power: node.power });
    }
    let rules = &network.rules;
    Ok(Genesis {
        format: FORMAT,
        name: network.name.clone(),
        salt,
        time_ms,
        currency: Currency(network.currency),
        params: Params {
            rules: 1,
            window_length_ms: rules.window_length_ms,
            max_due_per_block: rules.max_due_per_block,
            max_answer_ms: rules.max_answer_ms,
            max_hold_ms: rules.max_hold_ms,
            min_disclosure_shown_ms: rules.min_disclosure_shown_ms,
            max_refunds: rules.max_refunds,
            refund_period_ms: rules.refund_period_ms,
            governance_threshold: rules.governance_threshold,
        },
        participants,
        validators,
        schedules: network.schedules.iter().map(|it| it.build(network)).collect::<Result<_, _>>()?,
        positions,
    })
}

/// The public keys of a node of the network file.
pub(crate) fn of_node<'a>(publics: &'a Publics, node: &NodeSpec) -> Result<&'a PublicKeys, FieldError> {
    publics.get(&node.name).ok_or_else(|| {
        let way_out = "put the public.toml of every node into the folder given by --participants";
        FieldError::new("nodes", &node.name, "its public keys are missing", way_out)
    })
}

/// The genesis document for people, as JSON. Nothing reads it back.
pub(crate) fn readable(genesis: &Genesis) -> Value {
    let participants: Vec<Value> = genesis
        .participants
        .iter()
        .map(|it| {
            json!({
                "id": it.id.0,
                "name": it.name,
                "role": format!("{:?}", it.role),
                "legal_name": it.legal_name,
                "active": it.active,
                "licence": {
                    "number": it.licence.number,
                    "scenes": format!("{:#x}", it.licence.scenes.0),
                    "expires_at_ms": it.licence.expires_at_ms,
                },
                "keys": it.keys.iter().map(|key| json!({
                    "key_id": key.key_id.0,
                    "suite": format!("{:?}", key.suite),
                    "public_key": hex::encode(&key.public_key),
                })).collect::<Vec<_>>(),
                "encryption": it.encryption.as_ref().map(|key| json!({
                    "suite": format!("{:?}", key.suite),
                    "public_key": hex::encode(&key.public_key),
                })),
            })
        })
        .collect();
    json!({
        "chain_id": genesis.chain_id().to_string(),
        "format": genesis.format,
        "name": genesis.name,
        "salt": hex::encode(genesis.salt),
        "time_ms": genesis.time_ms,
        "currency": genesis.currency.0,
        "params": {
            "rules": genesis.params.rules,
            "window_length_ms": genesis.params.window_length_ms,
            "max_due_per_block": genesis.params.max_due_per_block,
            "max_answer_ms": genesis.params.max_answer_ms,
            "max_hold_ms": genesis.params.max_hold_ms,
            "min_disclosure_shown_ms": genesis.params.min_disclosure_shown_ms,
            "max_refunds": genesis.params.max_refunds,
            "refund_period_ms": genesis.params.refund_period_ms,
            "governance_threshold": genesis.params.governance_threshold,
        },
        "participants": participants,
        "validators": genesis.validators.iter().map(|it| json!({
            "participant": it.participant.0,
            "public_key": hex::encode(it.public_key),
            "power": it.power,
        })).collect::<Vec<_>>(),
        "schedules": genesis.schedules.iter().map(|it| json!({
            "version": it.version.0,
            "effective_at_ms": it.effective_at_ms,
            "remainder_leg": it.remainder_leg,
            "legs": it.legs.iter().map(|leg| json!({
                "payee": leg.payee.0,
                "rate_bps": leg.rate_bps,
                "bearer": format!("{:?}", leg.bearer),
                "returned_on_refund": leg.returned_on_refund,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "positions": genesis.positions.iter().map(|it| json!({
            "participant": it.participant.0,
            "cap": it.cap.to_string(),
            "liquidity": it.liquidity.to_string(),
        })).collect::<Vec<_>>(),
    })
}
