//! One frame on a substream: `u32` length, big-endian, then the bytes. The length is judged before anything is allocated.

use std::io;

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const HEADER_BYTES: usize = 4;
/// Smaller frames are gathered into one write; a larger one is written from where it lies.
const GATHER_BYTES: usize = 32 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("frame of {size_bytes} bytes, at most {limit_bytes}")]
    TooLarge { size_bytes: usize, limit_bytes: usize },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads one frame; `None` when the other side closed the substream between two frames.
///
/// # Errors
/// `TooLarge` is the peer's fault. A substream that ends inside a frame is `Io`: a crash looks the same.
pub(crate) async fn read_frame<S: AsyncRead + Unpin>(
    stream: &mut S,
    limit_bytes: usize,
) -> Result<Option<Bytes>, FrameError> {
    let mut header = [0; HEADER_BYTES];
    let n_read = stream.read(&mut header).await?;
    if n_read == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut header[n_read..]).await?;
    let size_bytes = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if size_bytes > limit_bytes {
        return Err(FrameError::TooLarge { size_bytes, limit_bytes });
    }
    let mut frame = vec![0; size_bytes];
    stream.read_exact(&mut frame).await?;
    Ok(Some(Bytes::from(frame)))
}

/// Writes frames, small ones gathered, so that a burst of votes is one write and not one per vote.
pub(crate) struct FrameWriter<S> {
    stream: S,
    gathered: Vec<u8>,
}

impl<S: AsyncWrite + Unpin> FrameWriter<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, gathered: Vec::new() }
    }

    /// Takes a frame; it is on its way at the latest after [`FrameWriter::flush`].
    pub(crate) async fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let length = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.gathered.extend_from_slice(&length.to_be_bytes());
        if frame.len() < GATHER_BYTES {
            self.gathered.extend_from_slice(frame);
            if self.gathered.len() >= GATHER_BYTES {
                self.write_gathered().await?;
            }
            return Ok(());
        }
        self.write_gathered().await?;
        self.stream.write_all(frame).await
    }

    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.write_gathered().await?;
        self.stream.flush().await
    }

    /// Flushes and closes our direction; hands back the substream for the other one.
    pub(crate) async fn close(mut self) -> io::Result<S> {
        self.flush().await?;
        self.stream.close().await?;
        Ok(self.stream)
    }

    async fn write_gathered(&mut self) -> io::Result<()> {
        if !self.gathered.is_empty() {
            self.stream.write_all(&self.gathered).await?;
            self.gathered.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use futures::io::Cursor;

    fn encode(frames: &[&[u8]]) -> Vec<u8> {
        let mut writer = FrameWriter::new(Cursor::new(Vec::new()));
        block_on(async {
            for frame in frames {
                writer.write(frame).await.expect("a vector takes all");
            }
            writer.close().await.expect("a vector takes all").into_inner()
        })
    }

    #[test]
    fn frames_come_back_whole_and_in_order() {
        let large = vec![9; GATHER_BYTES + 1];
        let frames: [&[u8]; 4] = [b"vote", b"", &large, b"next"];
        let mut wire = Cursor::new(encode(&frames));
        for frame in frames {
            let read = block_on(read_frame(&mut wire, large.len())).expect("a whole frame");
            assert_eq!(read.as_deref(), Some(frame));
        }
        assert!(block_on(read_frame(&mut wire, 1)).expect("a clean end").is_none());
    }

    #[test]
    fn a_frame_above_the_limit_is_named_and_not_read() {
        let mut wire = Cursor::new(encode(&[b"12345"]));
        let error = block_on(read_frame(&mut wire, 4)).expect_err("too large");
        assert!(matches!(error, FrameError::TooLarge { size_bytes: 5, limit_bytes: 4 }));
        assert_eq!(wire.position(), 4);
    }

    #[test]
    fn an_end_inside_a_frame_is_no_clean_end() {
        let whole = encode(&[b"12345"]);
        for cut in 1..whole.len() {
            let error = block_on(read_frame(&mut Cursor::new(&whole[..cut]), 5)).expect_err("cut");
            assert!(matches!(error, FrameError::Io(_)), "cut at {cut}");
        }
    }
}
