//! The file of those who may call the node's gRPC door, `tokens/callers.toml`, as `anji init` writes it.

use crate::config::parse_hex32;
use anji_adapters::settings;
use anji_adapters::settings::{FieldError, SettingsError};
use anji_contracts::Genesis;
use anji_contracts::types::ParticipantId;
use anji_services::CallerSpec;
use std::path::Path;

settings! {
    /// The callers file.
    pub(crate) struct NodeCallersFile { lists {
        /// Who may call.
        callers: NodeCallerSpec,
    } }
}

settings! {
    /// One caller.
    pub(crate) struct NodeCallerSpec { values {
        /// Its name, for logs and metrics.
        name: String,
        /// BLAKE3 of its token's text, 64 hex digits.
        token_blake3: String,
        /// Number of the participant it speaks for.
        participant: u32,
        /// What it may call: `wallet`, `operator` or both.
        roles: Vec<String>,
    } }
}

/// Reads a callers file and checks it against the participants of the chain.
pub(crate) fn load(file: &Path, genesis: &Genesis) -> Result<Vec<CallerSpec>, SettingsError> {
    let read: NodeCallersFile = settings::read(file)?;
    let check = |it: NodeCallerSpec| -> Result<CallerSpec, FieldError> {
        let field = |name: &str| format!("callers[{}].{name}", it.name);
        let token_blake3 = parse_hex32(&it.token_blake3).ok_or_else(|| {
            // Not shown: it may be the token itself.
            let way_out = "write the BLAKE3 of the token's text, never the token itself";
            FieldError::new(field("token_blake3"), "(not shown)", "not 64 hex digits", way_out)
        })?;
        if !genesis.participants.iter().any(|known| known.id.0 == it.participant) {
            let way_out = "use the number that genesis.json shows";
            return Err(FieldError::new(field("participant"), it.participant, "no such participant", way_out));
        }
        if let Some(unknown) = it.roles.iter().find(|role| !matches!(role.as_str(), "wallet" | "operator")) {
            return Err(FieldError::new(field("roles"), unknown, "no such role", "use `wallet`, `operator` or both"));
        }
        let has = |role: &str| it.roles.iter().any(|it| it == role);
        Ok(CallerSpec {
            wallet: has("wallet"),
            operator: has("operator"),
            participant: ParticipantId(it.participant),
            token_blake3,
            name: it.name,
        })
    };
    read.callers.into_iter().map(check).collect::<Result<_, _>>().map_err(|error| error.in_file(file))
}
