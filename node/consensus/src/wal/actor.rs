//! Serves the engine's log messages from [`WalFile`]. Answers an error where a write or sync failed: the engine then stops for good,
//! as it must. A follower has no file: it signs nothing, so it has nothing to remember.

use crate::codec::WireCodec;
use crate::context::Anji;
use crate::wal::WalFile;
use arc_malachitebft_app_channel::app::consensus::Input;
use arc_malachitebft_app_channel::app::engine::wal::{Msg, WalRef, decode_entry, encode_entry};
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr};
use std::io;

/// The log as the engine sees it.
pub(crate) struct WalActor;

/// A log with what it held at start.
pub(crate) struct OpenWal {
    pub(crate) file: WalFile,
    pub(crate) entries: Vec<Vec<u8>>,
}

pub(crate) enum State {
    /// A follower's: nothing is kept.
    Follower,
    Validator {
        /// `None` while a sync runs on another thread, and for ever after one failed.
        file: Option<WalFile>,
        /// What the file held at start, for its own height.
        replay: Vec<Vec<u8>>,
        /// Set by the first height that starts.
        started: bool,
    },
}

/// More than this is written at once, whether the engine asks for it or not.
const MAX_PENDING_BYTES: usize = 1 << 20;

impl WalActor {
    /// Starts the actor; without a log for a follower.
    pub(crate) async fn spawn(wal: Option<OpenWal>) -> Result<WalRef<Anji>, SpawnErr> {
        let (actor, _) = Actor::spawn(None, Self, wal).await?;
        Ok(actor)
    }
}

type Entries = Vec<io::Result<Input<Anji>>>;

impl State {
    async fn start_height(&mut self, height: u64, forget: bool) -> eyre::Result<Entries> {
        let Self::Validator { file, replay, started } = self else { return Ok(Vec::new()) };
        let mut wal = file.take().ok_or_else(failed_before)?;
        if wal.height() == height && !forget {
            // The first time the entries are this height's; an entry that does not decode is handed on as an error: the engine
            // stops for safety, it does not skip it. The second time there is nothing to do.
            *file = Some(wal);
            let entries = if *started { Vec::new() } else { std::mem::take(replay) };
            *started = true;
            return Ok(entries.iter().map(|entry| decode_entry(&WireCodec, entry.as_slice())).collect());
        }
        *started = true;
        replay.clear();
        wal = tokio::task::spawn_blocking(move || wal.start_height(height).map(|()| wal)).await??;
        *file = Some(wal);
        Ok(Vec::new())
    }

    async fn append(&mut self, height: u64, entry: Input<Anji>) -> eyre::Result<()> {
        let Self::Validator { file, .. } = self else { return Ok(()) };
        let wal = file.as_mut().ok_or_else(failed_before)?;
        if wal.height() != height {
            // A late entry of a height that is decided: nothing can be signed for it any more.
            tracing::debug!(height, log_height = wal.height(), "an entry of another height is not logged");
            return Ok(());
        }
        let mut bytes = Vec::new();
        encode_entry(entry, &WireCodec, &mut bytes)?;
        wal.append(&bytes)?;
        let full = wal.pending_bytes() > MAX_PENDING_BYTES;
        if full { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> eyre::Result<()> {
        let Self::Validator { file, .. } = self else { return Ok(()) };
        let mut wal = file.take().ok_or_else(failed_before)?;
        if wal.pending_bytes() > 0 {
            wal = tokio::task::spawn_blocking(move || wal.flush().map(|()| wal)).await??;
        }
        *file = Some(wal);
        Ok(())
    }
}

fn failed_before() -> eyre::Report {
    eyre::eyre!("the consensus log failed before; nothing more is signed in this process")
}

#[async_trait::async_trait]
impl Actor for WalActor {
    type Msg = Msg<Anji>;
    type State = State;
    type Arguments = Option<OpenWal>;

    async fn pre_start(&self, _myself: ActorRef<Msg<Anji>>, wal: Option<OpenWal>) -> Result<State, ActorProcessingErr> {
        Ok(match wal {
            None => State::Follower,
            Some(OpenWal { file, entries }) => State::Validator { file: Some(file), replay: entries, started: false },
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Msg<Anji>>,
        message: Msg<Anji>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        // Nobody waits for an answer only when the engine is ending.
        match message {
            Msg::StartedHeight(height, reply) => {
                let _ = reply.send(state.start_height(height.0, false).await);
            }
            Msg::Reset(height, reply) => {
                let _ = reply.send(state.start_height(height.0, true).await.map(drop));
            }
            Msg::Append(height, entry, reply) => {
                let _ = reply.send(state.append(height.0, entry).await);
            }
            Msg::Flush(reply) => {
                let _ = reply.send(state.flush().await);
            }
            Msg::Dump => {}
        }
        Ok(())
    }
}
