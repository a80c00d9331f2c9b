//! The bytes between nodes on the checkpoint channel. Borsh, tagged, bounded.

use anji_verify::SignedCheckpoint;
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;

/// Signatures in one frame at most: far above any permissioned validator set.
pub(crate) const MAX_SIGNATURES: usize = 256;
/// Heights that one question may ask for.
pub(crate) const MAX_HEIGHTS: u64 = 32;

/// One frame.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) enum Frame {
    /// Signatures on one checkpoint: the sender's own as it signs, or all it knows as an answer.
    Signed(SignedCheckpoint),
    /// Asks for what the receiver knows of these heights, both included, at most [`MAX_HEIGHTS`]. The answer is `Signed` frames.
    Ask {
        /// First height.
        first: u64,
        /// Last height.
        last: u64,
    },
}

pub(crate) fn encode(frame: &Frame) -> Bytes {
    anji_contracts::codec::encode(frame).into()
}

/// Reads a frame; `None` for anything else, or if it is above the bounds.
pub(crate) fn decode(bytes: &[u8]) -> Option<Frame> {
    let frame = anji_contracts::codec::decode::<Frame>(bytes).ok()?;
    let bounded = match &frame {
        Frame::Signed(checkpoint) => (1..=MAX_SIGNATURES).contains(&checkpoint.signatures.len()),
        Frame::Ask { first, last } => last.checked_sub(*first).is_some_and(|n| n < MAX_HEIGHTS),
    };
    bounded.then_some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_beyond_the_bounds_are_refused() {
        let ask = |first, last| decode(&encode(&Frame::Ask { first, last }));
        assert!(ask(5, 5 + MAX_HEIGHTS - 1).is_some());
        assert!(ask(5, 5 + MAX_HEIGHTS).is_none());
        assert!(ask(5, 4).is_none());
        assert!(ask(0, u64::MAX).is_none());
        assert!(decode(&[]).is_none() && decode(&[2]).is_none());
        let log = anji_verify::LogRoot { size: 1, root: anji_contracts::types::Hash32::ZERO };
        let none = Frame::Signed(SignedCheckpoint { height: 1, log, signatures: Vec::new() });
        assert!(decode(&encode(&none)).is_none());
        let mut huge = encode(&none).to_vec();
        let at = huge.len() - 4;
        huge[at..].fill(0xff);
        assert!(decode(&huge).is_none(), "a length without its bytes");
    }
}
