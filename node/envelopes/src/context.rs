//! The BLAKE3 contexts of this crate, one per purpose, as in `anji_contracts::codec::Domain`.

use anji_contracts::types::Hash32;

/// Over an envelope's fixed part: what `Order.envelope_hash` holds.
pub(crate) const ENVELOPE: &str = "anji v1 envelope";
/// Over head and recipient: ties a wrapped secret to both. Also HPKE's `info`.
pub(crate) const WRAP: &str = "anji v1 envelope wrap";
/// From the content secret: the cipher's key.
pub(crate) const KEY: &str = "anji v1 envelope key";
/// From the content secret: the cipher's nonce.
pub(crate) const NONCE: &str = "anji v1 envelope nonce";
/// From the content secret: what commits the sender to one secret for all recipients.
pub(crate) const SECRET: &str = "anji v1 envelope secret";
/// Over suite and bytes of a public key: names the key a secret is wrapped for.
pub(crate) const RECIPIENT: &str = "anji v1 encryption key";
/// Over salt and field.
pub(crate) const COMMITMENT: &str = "anji v1 commitment";

/// All of them, in the order of the document.
#[cfg(test)]
pub(crate) const ALL: [&str; 7] = [ENVELOPE, WRAP, KEY, NONCE, SECRET, RECIPIENT, COMMITMENT];

/// BLAKE3 in `derive_key` mode over the parts one after another. Each caller's parts but the last have a fixed length.
pub(crate) fn hash(context: &str, parts: &[&[u8]]) -> Hash32 {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    Hash32(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use anji_contracts::codec::Domain;

    #[test]
    fn the_contexts_of_the_format_document_are_the_code() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/FORMAT.md");
        let document = std::fs::read_to_string(path).expect("the document");
        let after = document.split_once("### Contexts of envelopes").expect("the section").1;
        let rows = after.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
        let first = |line: &str| line.split('|').nth(1).map(|cell| cell.trim().trim_matches('`').to_owned());
        let written: Vec<String> = rows.skip(2).filter_map(first).collect();
        assert_eq!(written, super::ALL);
        // None is another's.
        let ledger = [Domain::Genesis, Domain::BatchHeader, Domain::Batch, Domain::OpBody, Domain::Evidence];
        assert!(ledger.iter().all(|it| !super::ALL.contains(&it.context())));
    }
}
