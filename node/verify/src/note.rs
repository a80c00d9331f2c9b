//! C2SP signed-note: a text with signature lines below it, `— <name> base64(key id ‖ signature)`. Reading is strict: what parses
//! is written back as exactly the same bytes. Used for checkpoints ([`crate::checkpoint`]); nothing here knows what the text says.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use base64ct::{Base64, Encoding};
use core::fmt;
use sha2::{Digest, Sha256};

/// Bytes of the longest note that is read.
pub const MAX_NOTE_BYTES: usize = 65_536;

/// Signature lines of the longest note that is read. The specification asks for at least 16.
pub const MAX_NOTE_SIGNATURES: usize = 128;

/// What every signature line begins with: an em dash and a space.
const LINE_START: &str = "\u{2014} ";

/// What a key's signature covers; the byte enters the key id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum SignatureKind {
    /// Plain Ed25519 over the note text.
    Ed25519 = 0x01,
    /// A timestamped `cosignature/v1` of tlog-cosignature.
    CosignatureV1 = 0x04,
}

/// Why a note or a key text is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoteError {
    /// Longer than [`MAX_NOTE_BYTES`] or with more than [`MAX_NOTE_SIGNATURES`] signatures.
    TooLong,
    /// Not UTF-8, a control character, no empty line before the signatures, or no final newline.
    NotANote,
    /// A line below the empty line is not a signature line.
    BadSignatureLine,
    /// A key name is empty, or has a space or a plus in it.
    BadName,
    /// A verifier key text is not `name+id+base64`, or its id is not that of the key.
    BadKey,
}

impl fmt::Display for NoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the note is too long",
            Self::NotANote => "this is not a signed note",
            Self::BadSignatureLine => "a signature line of the note is malformed",
            Self::BadName => "a key name is empty or contains a space or a plus",
            Self::BadKey => "the verifier key is malformed",
        })
    }
}

impl core::error::Error for NoteError {}

/// One signature line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoteSignature {
    /// Name of the key.
    pub name: String,
    /// First four bytes of the hash over name, kind and key.
    pub key_id: [u8; 4],
    /// The signature's bytes; their shape is the kind's business.
    pub signature: Vec<u8>,
}

impl fmt::Display for NoteSignature {
    /// The line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.key_id.to_vec();
        bytes.extend_from_slice(&self.signature);
        write!(f, "{LINE_START}{} {}", self.name, Base64::encode_string(&bytes))
    }
}

/// A text and its signatures, not verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedNote {
    /// The text, with its last newline.
    pub text: String,
    /// The signature lines in order.
    pub signatures: Vec<NoteSignature>,
}

impl fmt::Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

impl SignedNote {
    /// Reads a note with at least one signature line.
    ///
    /// # Errors
    /// [`NoteError`], never `BadKey`.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong);
        }
        let note = core::str::from_utf8(bytes).map_err(|_| NoteError::NotANote)?;
        if note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return Err(NoteError::NotANote);
        }
        let border = note.rfind("\n\n").and_then(|at| at.checked_add(1)).ok_or(NoteError::NotANote)?;
        let (text, below) = note.split_at_checked(border).ok_or(NoteError::NotANote)?;
        let lines = below.strip_prefix('\n').ok_or(NoteError::NotANote)?;
        let signatures = parse_signature_lines(lines)?;
        if signatures.is_empty() {
            return Err(NoteError::NotANote);
        }
        Ok(Self { text: text.to_string(), signatures })
    }
}

/// Reads signature lines, each ended by a newline; possibly none.
///
/// # Errors
/// [`NoteError::TooLong`], [`NoteError::BadSignatureLine`] or [`NoteError::BadName`].
pub fn parse_signature_lines(lines: &str) -> Result<Vec<NoteSignature>, NoteError> {
    if lines.len() > MAX_NOTE_BYTES {
        return Err(NoteError::TooLong);
    }
    let mut signatures = Vec::new();
    for line in lines.split_inclusive('\n') {
        if signatures.len() >= MAX_NOTE_SIGNATURES {
            return Err(NoteError::TooLong);
        }
        let line = line.strip_suffix('\n').ok_or(NoteError::BadSignatureLine)?;
        let (name, encoded) =
            line.strip_prefix(LINE_START).and_then(|rest| rest.split_once(' ')).ok_or(NoteError::BadSignatureLine)?;
        check_name(name)?;
        let bytes = Base64::decode_vec(encoded).map_err(|_| NoteError::BadSignatureLine)?;
        let (key_id, signature) = bytes.split_first_chunk::<4>().ok_or(NoteError::BadSignatureLine)?;
        if signature.is_empty() {
            return Err(NoteError::BadSignatureLine);
        }
        signatures.push(NoteSignature { name: name.to_string(), key_id: *key_id, signature: signature.to_vec() });
    }
    Ok(signatures)
}

/// Judges a key name.
///
/// # Errors
/// [`NoteError::BadName`].
pub fn check_name(name: &str) -> Result<(), NoteError> {
    let bad = |character: char| character.is_whitespace() || character == '+' || character < ' ';
    if name.is_empty() || name.contains(bad) { Err(NoteError::BadName) } else { Ok(()) }
}

/// The id of a key: SHA-256(name ‖ newline ‖ kind ‖ public key), first four bytes.
#[must_use]
pub fn key_id(name: &str, kind: SignatureKind, public_key: &[u8; 32]) -> [u8; 4] {
    let hash = Sha256::new()
        .chain_update(name.as_bytes())
        .chain_update([b'\n', kind as u8])
        .chain_update(public_key)
        .finalize();
    let mut id = [0; 4];
    for (to, from) in id.iter_mut().zip(hash) {
        *to = from;
    }
    id
}

/// A key that notes are verified with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifierKey {
    /// Its name.
    pub name: String,
    /// What it signs.
    pub kind: SignatureKind,
    /// The Ed25519 key.
    pub public_key: [u8; 32],
}

impl VerifierKey {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        key_id(&self.name, self.kind, &self.public_key)
    }

    /// Reads `name+hex id+base64(kind ‖ key)`.
    ///
    /// # Errors
    /// [`NoteError::BadKey`] or [`NoteError::BadName`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, rest) = text.split_once('+').ok_or(NoteError::BadKey)?;
        let (id, encoded) = rest.split_once('+').ok_or(NoteError::BadKey)?;
        check_name(name)?;
        if encoded.len() > 64 {
            return Err(NoteError::BadKey);
        }
        let bytes = Base64::decode_vec(encoded).map_err(|_| NoteError::BadKey)?;
        let (kind, key) = bytes.split_first().ok_or(NoteError::BadKey)?;
        let kind = match kind {
            0x01 => SignatureKind::Ed25519,
            0x04 => SignatureKind::CosignatureV1,
            _ => return Err(NoteError::BadKey),
        };
        let public_key = key.try_into().map_err(|_| NoteError::BadKey)?;
        let key = Self { name: name.to_string(), kind, public_key };
        if u32::from_str_radix(id, 16).ok() == Some(u32::from_be_bytes(key.id())) && id.len() == 8 {
            Ok(key)
        } else {
            Err(NoteError::BadKey)
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::from([self.kind as u8]);
        bytes.extend_from_slice(&self.public_key);
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id()), Base64::encode_string(&bytes))
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test"
)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n\
        — quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";

    #[test]
    fn example_of_the_specification_is_read_and_written_back() {
        let note = SignedNote::parse(EXAMPLE.as_bytes()).unwrap();
        assert!(note.text.ends_with("ed è subito sera.\n"));
        assert_eq!(note.signatures[0].name, "quasimodo.example/salvatore");
        assert_eq!(note.signatures[0].key_id, [0x36, 0x7b, 0xa0, 0x4b]);
        assert_eq!(note.signatures[0].signature.len(), 64);
        assert_eq!(note.to_string(), EXAMPLE);
    }

    #[test]
    fn what_parses_is_written_back_as_the_same_bytes_whatever_bit_is_flipped() {
        for at in 0..EXAMPLE.len() {
            for bit in 0..8 {
                let mut bytes = EXAMPLE.as_bytes().to_vec();
                bytes[at] ^= 1 << bit;
                if let Ok(note) = SignedNote::parse(&bytes) {
                    assert_eq!(note.to_string().into_bytes(), bytes, "byte {at}, bit {bit}");
                }
            }
        }
    }

    #[test]
    fn notes_of_a_wrong_shape_are_refused() {
        let refused = |text: &str| SignedNote::parse(text.as_bytes()).unwrap_err();
        assert_eq!(refused(""), NoteError::NotANote);
        assert_eq!(refused("text\n"), NoteError::NotANote);
        assert_eq!(refused("text\n\n"), NoteError::NotANote);
        assert_eq!(refused("a\rb\n\n— n AAAAAAA=\n"), NoteError::NotANote);
        assert_eq!(refused("text\n\n— n AAAAAAA="), NoteError::BadSignatureLine);
        assert_eq!(refused("text\n\n- n AAAAAAA=\n"), NoteError::BadSignatureLine);
        assert_eq!(refused("text\n\n— n AAAAAA==\n"), NoteError::BadSignatureLine);
        assert_eq!(refused("text\n\n— n AAAAAAB=\n"), NoteError::BadSignatureLine);
        assert_eq!(refused("text\n\n— a+b AAAAAAA=\n"), NoteError::BadName);
        assert_eq!(refused("text\n\n—  AAAAAAA=\n"), NoteError::BadName);
        assert_eq!(refused(&"a\n".repeat(MAX_NOTE_BYTES)), NoteError::TooLong);
        let many = alloc::format!("text\n\n{}", "— n AAAAAAA=\n".repeat(MAX_NOTE_SIGNATURES + 1));
        assert_eq!(refused(&many), NoteError::TooLong);
        assert!(SignedNote::parse("text\n\n— n AAAAAAA=\n".as_bytes()).is_ok());
    }

    #[test]
    fn verifier_keys_are_read_and_written_back_and_a_wrong_id_is_refused() {
        // The key of the Go module checksum database.
        let text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
        let key = VerifierKey::parse(text).unwrap();
        assert_eq!(key.kind, SignatureKind::Ed25519);
        assert_eq!(key.to_string(), text);
        assert_eq!(VerifierKey::parse(&text.replace("033d", "033e")), Err(NoteError::BadKey));
        assert_eq!(VerifierKey::parse(&text.replace("033d", "+33d")), Err(NoteError::BadKey));
        assert_eq!(VerifierKey::parse("sum.golang.org+033de0ae"), Err(NoteError::BadKey));
        assert_eq!(VerifierKey::parse("sum golang.org+033de0ae+AAAA"), Err(NoteError::BadName));
    }
}
