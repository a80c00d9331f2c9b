//! The body of `add-checkpoint`: `old <size>`, the consistency proof's hashes, an empty line, the signed checkpoint.

use anji_contracts::types::Hash32;
use anji_verify::checkpoint::{Checkpoint, parse_signed_checkpoint};
use anji_verify::note::SignedNote;
use base64ct::{Base64, Encoding};

/// Lines of a proof at most: the specification's bound.
pub(crate) const MAX_PROOF: usize = 63;

/// What is submitted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AddCheckpoint {
    pub(crate) old_size: u64,
    pub(crate) proof: Vec<Hash32>,
    pub(crate) note: SignedNote,
    pub(crate) checkpoint: Checkpoint,
}

impl AddCheckpoint {
    /// Reads a body; `None` for anything else.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let (head, note) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        let size = lines.next()?.strip_prefix("old ")?;
        let old_size: u64 = size.parse().ok()?;
        if old_size.to_string() != size {
            return None;
        }
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() >= MAX_PROOF || line.len() != 44 {
                return None;
            }
            proof.push(Hash32(Base64::decode_vec(line).ok()?.try_into().ok()?));
        }
        let (note, checkpoint) = parse_signed_checkpoint(note.as_bytes()).ok()?;
        Some(Self { old_size, proof, note, checkpoint })
    }

    /// Writes a body.
    pub(crate) fn render(old_size: u64, proof: &[Hash32], note: &str) -> String {
        let mut body = format!("old {old_size}\n");
        for hash in proof {
            body.push_str(&Base64::encode_string(&hash.0));
            body.push('\n');
        }
        body.push('\n');
        body.push_str(note);
        body
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]
mod tests {
    use super::*;

    const EXAMPLE: &str = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\
        \n\
        example.com/behind-the-sofa\n\
        20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
        \n\
        — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        — example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";

    #[test]
    fn example_of_the_specification_is_read_and_written_back() {
        let read = AddCheckpoint::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!((read.old_size, read.proof.len(), read.checkpoint.log.size), (20_852_014, 4, 20_852_163));
        assert_eq!(read.note.signatures.len(), 2);
        assert_eq!(AddCheckpoint::render(read.old_size, &read.proof, &read.note.to_string()), EXAMPLE);
    }

    #[test]
    fn bodies_of_a_wrong_shape_are_refused() {
        let parse = |text: &str| AddCheckpoint::parse(text.as_bytes());
        assert!(parse("").is_none() && parse("old 1\n").is_none());
        for (from, to) in
            [("old 20852014", "old 020852014"), ("old 20852014", "20852014"), ("old 2", "old +2"), ("PlRN", "PlR")]
        {
            assert!(parse(&EXAMPLE.replacen(from, to, 1)).is_none(), "{to}");
        }
        let line = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n";
        let lines = |n: usize| EXAMPLE.replacen(line, &line.repeat(n), 1);
        assert!(parse(&lines(MAX_PROOF - 3)).is_some());
        assert!(parse(&lines(MAX_PROOF - 2)).is_none());
    }
}
