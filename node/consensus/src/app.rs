//! The application behind the engine: answers its messages, one by one, each in a file of `handlers/`. The engine waits for most answers,
//! so nothing here takes long: candidates are pre-built, proposals were judged before the engine knew of them (engine trap 6).

use crate::context::Anji;
use crate::handlers;
use crate::shared::{Role, Shared};
use anji_verify::Address;
use arc_malachitebft_app_channel::AppMsg;
use std::sync::Arc;

/// One run of the engine.
pub(crate) struct App {
    pub(crate) shared: Arc<Shared>,
    /// The address to propose under; only a validator has one.
    pub(crate) voter: Option<Address>,
    /// Whether the engine has been given what the block file knew of its first height.
    pub(crate) resumed: bool,
    /// Whether the consensus log may have been left behind to catch up, now or before this start, and has not moved since.
    pub(crate) log_left: bool,
}

/// What the engine's last message leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Go on.
    Go,
    /// The follower is past every height it could have signed: start again as a validator, at the height after this one.
    Promote { decided: u64 },
    /// The node stops; the reason was told.
    Stop,
}

impl App {
    pub(crate) fn new(shared: Arc<Shared>, voter: Option<Address>) -> Self {
        Self { shared, voter, resumed: false, log_left: voter.is_some() }
    }

    /// Whether the follower may vote after this height.
    pub(crate) fn may_promote(&self, decided: u64) -> bool {
        let shared = &self.shared;
        let Some(own) = shared.config.own_address() else { return false };
        let mut may = false;
        shared.update_progress(|progress| {
            if let Role::Follower { votes_after, .. } = &mut progress.role {
                may = crate::follow::may_vote(votes_after, decided, || {
                    shared.peers.quorum_tip(&shared.config.validators, own)
                });
            }
        });
        may
    }

    /// Answers one message.
    pub(crate) async fn handle(&mut self, message: AppMsg<Anji>) -> Next {
        match message {
            AppMsg::ConsensusReady { reply } => handlers::ready::on_ready(self, reply).await,
            AppMsg::StartedRound { height, round, role: _, proposer, reply_value } => {
                handlers::started_round::on_started_round(self, height, round, proposer, reply_value)
            }
            AppMsg::GetValue { height, round, timeout, reply } => {
                handlers::get_value::on_get_value(self, height, round, timeout, reply).await
            }
            AppMsg::ReceivedProposalPart { part, reply, .. } => handlers::received_part::on_received_part(part, reply),
            AppMsg::RestreamProposal { height, round, valid_round, value_id, address: _ } => {
                handlers::restream::on_restream(self, height, round, valid_round, value_id)
            }
            AppMsg::Decided { certificate, extensions: _, reply } => {
                handlers::decided::on_decided(self, &certificate, reply).await
            }
            AppMsg::Finalized { certificate, extensions: _, evidence, reply } => {
                handlers::finalized::on_finalized(self, &certificate, &evidence, reply).await
            }
            AppMsg::ProcessSyncedValue { height, round, proposer, value_bytes, reply } => {
                handlers::synced::on_synced_value(self, height, round, proposer, value_bytes, reply).await
            }
            AppMsg::GetHistoryMinHeight { reply } => handlers::history::on_min_height(self, reply),
            AppMsg::GetDecidedValues { range, reply } => handlers::history::on_get_decided(&range, reply),
            AppMsg::ExtendVote { reply, .. } => {
                // Extensions are off; the engine does not ask.
                let _ = reply.send(None);
                Next::Go
            }
            AppMsg::VerifyVoteExtensions { extensions, reply, .. } => {
                let refused =
                    Err(arc_malachitebft_app_channel::app::consensus::VoteExtensionError::InvalidVoteExtension);
                let _ = reply.send(extensions.into_iter().map(|(address, ())| (address, refused.clone())).collect());
                Next::Go
            }
        }
    }
}
