//! From the caller's `request_id` to the operation's id, fixed once.
//!
//! A request id that is a ULID or a UUID of version 7 carries its own time: its operation id is derived from it, so that the same
//! request finds the same operation even if everything here were forgotten. Any other text gets a random operation id, which only
//! the outbox knows.

use anji_contracts::types::OpId;

/// Longest request id.
pub(crate) const MAX_BYTES: usize = 64;
/// 2020-01-01: a time before this is no time but a coincidence.
const PLAUSIBLE_FROM_MS: u64 = 1_577_836_800_000;
/// A caller's clock may be this far ahead before its ids count as ids without a time.
const PLAUSIBLE_AHEAD_MS: u64 = 10 * 60 * 1000;

/// Whether a text may be a request id: 1 to 64 printable ASCII characters.
#[must_use]
pub(crate) fn is_valid(text: &str) -> bool {
    (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// The operation id that follows from a request id which carries a time.
#[must_use]
pub(crate) fn derived_op_id(text: &str, now_ms: u64) -> Option<OpId> {
    let time_ms = ulid_time(text).or_else(|| uuid7_time(text))?;
    let plausible = (PLAUSIBLE_FROM_MS..now_ms.saturating_add(PLAUSIBLE_AHEAD_MS)).contains(&time_ms);
    plausible.then(|| OpId::new(time_ms, tail(text)))
}

/// A fresh operation id of this moment.
///
/// # Errors
/// The system gives no randomness.
pub(crate) fn random_op_id(now_ms: u64) -> Result<OpId, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(OpId::new(now_ms, u128::from_le_bytes(bytes)))
}

fn tail(text: &str) -> u128 {
    let hash = blake3::derive_key("anji v1 adapter request id", text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(hash.split_at(16).0);
    u128::from_le_bytes(bytes)
}

/// 26 characters of Crockford's base 32, the first at most 7; the first ten are the time.
fn ulid_time(text: &str) -> Option<u64> {
    if text.len() != 26 {
        return None;
    }
    let mut time = 0u64;
    for (place, byte) in text.bytes().enumerate() {
        let digit = match byte.to_ascii_uppercase() {
            digit @ b'0'..=b'9' => digit - b'0',
            letter @ b'A'..=b'Z' => {
                let letters = b"ABCDEFGHJKMNPQRSTVWXYZ";
                u8::try_from(letters.iter().position(|it| *it == letter)?).ok()? + 10
            }
            _ => return None,
        };
        if place == 0 && digit > 7 {
            return None;
        }
        if place < 10 {
            time = time << 5 | u64::from(digit);
        }
    }
    Some(time)
}

/// 8-4-4-4-12 hex digits, version 7, variant 10; the first 48 bits are the time.
fn uuid7_time(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let shape = bytes.len() == 36
        && bytes.iter().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if !shape || bytes.get(14) != Some(&b'7') || !bytes.get(19).is_some_and(|it| b"89abAB".contains(it)) {
        return None;
    }
    u64::from_str_radix(&format!("{}{}", text.get(..8)?, text.get(9..13)?), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_000_000_000;

    #[test]
    fn ulids_and_uuid7s_give_the_same_operation_for_ever() {
        // 01KZ...: the time of 2026 in Crockford's letters.
        let ulid = "01M8ZK2Q400123456789ABCDEF";
        let time = ulid_time(ulid).expect("a ULID");
        assert_eq!(derived_op_id(ulid, time), derived_op_id(ulid, time + 86_400_000 * 400));
        assert_eq!(derived_op_id(ulid, time).expect("dated").time_ms(), time);
        // RFC 9562, appendix A.6.
        let uuid = "017F22E2-79B0-7CC3-98C4-DC0C0C07398F";
        assert_eq!(uuid7_time(uuid), Some(0x017f_22e2_79b0));
        assert_eq!(derived_op_id(uuid, NOW).expect("dated").time_ms(), 1_645_557_742_000);
        assert_ne!(derived_op_id(uuid, NOW), derived_op_id(&uuid.to_lowercase(), NOW));
        // The specification's own example of a ULID.
        assert_eq!(ulid_time("01ARZ3NDEKTSV4RRFFQ69G5FAV"), Some(1_469_922_850_259));
    }

    #[test]
    fn other_texts_have_no_time() {
        let texts = [
            "order-1",
            "20261122000000000000000001",
            "ORDER000000000000000000001",
            "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "017F22E2-79B0-4CC3-98C4-DC0C0C07398F",
            "017F22E2-79B0-7CC3-78C4-DC0C0C07398F",
            "017F22E279B07CC398C4DC0C0C07398F",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        ];
        for text in texts {
            assert_eq!(derived_op_id(text, NOW), None, "{text}");
        }
    }

    #[test]
    fn only_short_printable_texts_are_request_ids() {
        assert!(is_valid("a") && is_valid(&"x".repeat(64)) && is_valid("a b/c"));
        for bad in ["", &"x".repeat(65), "a\n", "é", "\u{7f}"] {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }
}
