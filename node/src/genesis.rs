//! Reading the genesis document, for whoever starts from it.

use anji_contracts::genesis::genesis_writes;
use anji_contracts::{Genesis, codec};
use anyhow::{Context, Result};
use std::path::Path;

/// Reads a genesis document and checks it by the ledger's own rules.
pub(crate) fn read(file: &Path) -> Result<Genesis> {
    let name = file.display();
    let way_out = "way out: get the genesis.bin of this network from another operator and compare the chain id";
    let bytes = std::fs::read(file).with_context(|| format!("{name}: cannot be read\n  {way_out}"))?;
    let genesis: Genesis = codec::decode(&bytes)
        .map_err(|reject| anyhow::anyhow!("{name}: not a genesis document ({reject})\n  {way_out}"))?;
    genesis_writes(&genesis).map_err(|problem| anyhow::anyhow!("{name}: not valid: {problem}\n  {way_out}"))?;
    Ok(genesis)
}
