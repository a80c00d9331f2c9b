//! What is pushed to a peer: one or more batches in one frame of the channel `batches`, version 2.
//!
//! A frame is a sequence of batches, each a `u32` length, little-endian, and so many bytes, up to the end of the frame. It holds 1 to
//! [`MAX_FRAME_BATCHES`] batches. The sender fills it up to [`FRAME_BYTES`]; a larger batch has a frame of its own. The network bounds a frame
//! before it is read. A frame that breaks these rules is nobody's honest push: all of it is dropped and counts as one bad batch.

use anji_contracts::Reject;
use anji_contracts::batch::MAX_BATCH_BYTES;
use bytes::{BufMut, Bytes, BytesMut};

/// Most batches of a frame.
pub const MAX_FRAME_BATCHES: usize = 256;
/// Bytes up to which batches are gathered.
const FRAME_BYTES: usize = 64 * 1024;
const LENGTH_BYTES: usize = 4;

/// As few frames as hold the batches, in their order. Batches above the bound of the ledger are left out: they are never admitted.
#[must_use]
pub fn encode_frames(batches: &[Bytes]) -> Vec<Bytes> {
    let (mut frames, mut open, mut n_open) = (Vec::new(), BytesMut::new(), 0);
    for batch in batches.iter().filter(|batch| batch.len() <= MAX_BATCH_BYTES) {
        let size = LENGTH_BYTES + batch.len();
        if n_open == MAX_FRAME_BATCHES || n_open > 0 && open.len() + size > FRAME_BYTES {
            frames.push(open.split().freeze());
            n_open = 0;
        }
        open.reserve(size);
        open.put_u32_le(u32::try_from(batch.len()).unwrap_or(u32::MAX));
        open.put_slice(batch);
        n_open += 1;
    }
    if n_open > 0 {
        frames.push(open.freeze());
    }
    frames
}

/// The batches of a frame, which share its memory.
///
/// # Errors
/// [`Reject::Malformed`] or [`Reject::TooLarge`].
pub fn decode_frame(mut frame: Bytes) -> Result<Vec<Bytes>, Reject> {
    let mut batches = Vec::new();
    while let Some(length) = frame.first_chunk::<LENGTH_BYTES>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > MAX_BATCH_BYTES || batches.len() == MAX_FRAME_BATCHES {
            return Err(Reject::TooLarge);
        }
        if frame.len() - LENGTH_BYTES < length {
            return Err(Reject::Malformed);
        }
        let _ = frame.split_to(LENGTH_BYTES);
        batches.push(frame.split_to(length));
    }
    if batches.is_empty() || !frame.is_empty() { Err(Reject::Malformed) } else { Ok(batches) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(byte: u8, length: usize) -> Bytes {
        Bytes::from(vec![byte; length])
    }

    fn round_trip(batches: &[Bytes]) -> Vec<usize> {
        let frames = encode_frames(batches);
        let decoded: Vec<Vec<Bytes>> =
            frames.into_iter().map(|frame| decode_frame(frame).expect("encoded just now")).collect();
        assert_eq!(decoded.concat(), batches);
        decoded.iter().map(Vec::len).collect()
    }

    #[test]
    fn batches_come_back_in_order_and_frames_are_bounded() {
        assert!(encode_frames(&[]).is_empty());
        assert_eq!(round_trip(&[batch(1, 0)]), [1]);
        let small: Vec<Bytes> = (0..=255).map(|byte| batch(byte, 10)).collect();
        assert_eq!(round_trip(&small), [256]);
        assert_eq!(round_trip(&[small.clone(), vec![batch(1, 10)]].concat()), [256, 1]);
        let exact = batch(1, FRAME_BYTES / 2 - LENGTH_BYTES);
        assert_eq!(round_trip(&[exact.clone(), exact.clone(), exact]), [2, 1]);
        assert_eq!(round_trip(&[batch(1, 10), batch(2, MAX_BATCH_BYTES), batch(3, 10)]), [1, 1, 1]);
        assert_eq!(encode_frames(&[batch(1, MAX_BATCH_BYTES + 1), batch(2, 1)]).len(), 1);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let whole = encode_frames(&[batch(1, 5), batch(2, 5)]).remove(0);
        for cut in (0..whole.len()).filter(|cut| *cut != 9) {
            assert_eq!(decode_frame(whole.slice(..cut)), Err(Reject::Malformed), "cut at {cut}");
        }
        assert_eq!(decode_frame(Bytes::from(vec![0; 4 * (MAX_FRAME_BATCHES + 1)])), Err(Reject::TooLarge));
        assert_eq!(decode_frame(Bytes::from(vec![0xff; 100])), Err(Reject::TooLarge));
    }
}
