//! The frames waiting for one peer on one channel: bounded in number and bytes, with a stated answer when full.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::{Channel, ChannelLimits};

/// What a full queue does with one more frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhenFull {
    /// A newer vote or status supersedes an older one.
    DropOldest,
    /// An older batch is named by a proposal sooner.
    RefuseNewest,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pushed {
    pub(crate) accepted: bool,
    /// Frames lost by this push, the offered one included.
    pub(crate) n_dropped: u64,
}

pub(crate) struct SendQueue {
    state: Mutex<State>,
    filled: Notify,
    max_frames: usize,
    max_bytes: usize,
    when_full: WhenFull,
}

#[derive(Default)]
struct State {
    frames: VecDeque<Bytes>,
    size_bytes: usize,
    open: bool,
}

impl SendQueue {
    /// A queue that takes nothing until it is opened.
    pub(crate) fn new(channel: Channel, limits: &ChannelLimits) -> Self {
        Self {
            state: Mutex::default(),
            filled: Notify::new(),
            max_frames: limits.queue_frames,
            max_bytes: limits.queue_bytes,
            when_full: match channel {
                Channel::Consensus | Channel::Control | Channel::Checkpoints => WhenFull::DropOldest,
                Channel::Batches => WhenFull::RefuseNewest,
            },
        }
    }

    pub(crate) fn open(&self) {
        self.state().open = true;
    }

    /// Takes nothing more and forgets what waits; says how many frames that were.
    pub(crate) fn close(&self) -> u64 {
        let state = std::mem::take(&mut *self.state());
        state.frames.len() as u64
    }

    /// Never blocks. A closed queue refuses without counting: there is nobody to send to.
    pub(crate) fn push(&self, frame: Bytes) -> Pushed {
        let mut state = self.state();
        if !state.open {
            return Pushed { accepted: false, n_dropped: 0 };
        }
        if frame.len() > self.max_bytes {
            return Pushed { accepted: false, n_dropped: 1 };
        }
        let mut n_dropped = 0;
        while state.frames.len() >= self.max_frames || state.size_bytes + frame.len() > self.max_bytes {
            if self.when_full == WhenFull::RefuseNewest {
                return Pushed { accepted: false, n_dropped: 1 };
            }
            let Some(oldest) = state.frames.pop_front() else { break };
            state.size_bytes -= oldest.len();
            n_dropped += 1;
        }
        state.size_bytes += frame.len();
        state.frames.push_back(frame);
        drop(state);
        self.filled.notify_one();
        Pushed { accepted: true, n_dropped }
    }

    pub(crate) fn try_pop(&self) -> Option<Bytes> {
        let mut state = self.state();
        let frame = state.frames.pop_front()?;
        state.size_bytes -= frame.len();
        Some(frame)
    }

    /// Waits for a frame. Dropping the future loses none: it ends at once when it has taken one.
    pub(crate) async fn pop(&self) -> Bytes {
        loop {
            let filled = self.filled.notified();
            if let Some(frame) = self.try_pop() {
                return frame;
            }
            filled.await;
        }
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.state().size_bytes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half-way; a poisoned state is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(channel: Channel, queue_frames: usize, queue_bytes: usize) -> SendQueue {
        let queue = SendQueue::new(
            channel,
            &ChannelLimits { frame_bytes: queue_bytes, queue_frames, queue_bytes, inbox_frames: 1 },
        );
        queue.open();
        queue
    }

    fn frame(byte: u8, len: usize) -> Bytes {
        Bytes::from(vec![byte; len])
    }

    fn first_bytes(queue: &SendQueue) -> Vec<u8> {
        std::iter::from_fn(|| queue.try_pop()).map(|frame| frame[0]).collect()
    }

    #[test]
    fn full_consensus_queue_drops_the_oldest() {
        let queue = queue(Channel::Consensus, 2, 100);
        for byte in 1..=3 {
            assert!(queue.push(frame(byte, 10)).accepted);
        }
        // One of 95 bytes pushes out both that are left.
        assert_eq!(queue.push(frame(4, 95)), Pushed { accepted: true, n_dropped: 2 });
        assert_eq!(queue.size_bytes(), 95);
        assert_eq!(first_bytes(&queue), [4]);
        assert_eq!(queue.size_bytes(), 0);
    }

    #[test]
    fn full_batch_queue_refuses_the_newest() {
        let queue = queue(Channel::Batches, 10, 100);
        assert!(queue.push(frame(1, 60)).accepted);
        assert_eq!(queue.push(frame(2, 60)), Pushed { accepted: false, n_dropped: 1 });
        assert!(queue.push(frame(3, 40)).accepted);
        assert_eq!(first_bytes(&queue), [1, 3]);
    }

    #[test]
    fn a_frame_larger_than_the_queue_displaces_nothing() {
        let queue = queue(Channel::Control, 10, 100);
        queue.push(frame(1, 60));
        assert_eq!(queue.push(frame(2, 101)), Pushed { accepted: false, n_dropped: 1 });
        assert_eq!(first_bytes(&queue), [1]);
    }

    #[test]
    fn a_closed_queue_takes_nothing_and_forgets_what_waited() {
        let queue = queue(Channel::Control, 10, 100);
        queue.push(frame(1, 1));
        assert_eq!(queue.close(), 1);
        assert_eq!(queue.push(frame(2, 1)), Pushed { accepted: false, n_dropped: 0 });
        queue.open();
        assert_eq!(queue.try_pop(), None);
    }
}
