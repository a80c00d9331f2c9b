//! The push channels and the protocol names on the wire.

use libp2p::StreamProtocol;

/// Number of push channels.
pub(crate) const N_CHANNELS: usize = 4;

/// A stream of one-way frames with its own substream, queue and receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// Votes, proposals and their parts: small and urgent.
    Consensus,
    /// Signed batches on their way to every node: large, and fetched by request when lost.
    Batches,
    /// Status and other small news, of which the latest counts.
    Control,
    /// Validators' cosignatures of checkpoints, which can be asked for again.
    Checkpoints,
}

impl Channel {
    /// Every channel, in the order of [`Channel::index`].
    pub const ALL: [Self; N_CHANNELS] = [Self::Consensus, Self::Batches, Self::Control, Self::Checkpoints];

    /// The name in protocol names, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Consensus => "consensus",
            Self::Batches => "batches",
            Self::Control => "control",
            Self::Checkpoints => "checkpoints",
        }
    }

    /// The version of what its frames hold, in the protocol name: peers with another version are refused, not misread.
    fn version(self) -> u32 {
        match self {
            Self::Consensus | Self::Control | Self::Checkpoints => 1,
            // Several batches a frame.
            Self::Batches => 2,
        }
    }

    pub(crate) fn index(self) -> usize {
        match self {
            Self::Consensus => 0,
            Self::Batches => 1,
            Self::Control => 2,
            Self::Checkpoints => 3,
        }
    }
}

/// What a substream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Push(Channel),
    Request,
}

/// The protocol names of one chain.
#[derive(Debug, Clone)]
pub(crate) struct Protocols {
    push: [StreamProtocol; N_CHANNELS],
    request: StreamProtocol,
}

impl Protocols {
    /// `chain_id_hex` must be checked before: it becomes part of a protocol name.
    pub(crate) fn new(chain_id_hex: &str) -> Self {
        let name = |what: &str, version: u32| {
            StreamProtocol::try_from_owned(format!("/anji/{chain_id_hex}/{what}/{version}"))
                .expect("the name starts with a slash")
        };
        Self { push: Channel::ALL.map(|channel| name(channel.name(), channel.version())), request: name("request", 1) }
    }

    pub(crate) fn name(&self, purpose: Purpose) -> &StreamProtocol {
        match purpose {
            Purpose::Push(channel) => &self.push[channel.index()],
            Purpose::Request => &self.request,
        }
    }

    pub(crate) fn all(&self) -> Vec<StreamProtocol> {
        self.push.iter().chain([&self.request]).cloned().collect()
    }

    pub(crate) fn purpose(&self, name: &StreamProtocol) -> Option<Purpose> {
        if *name == self.request {
            return Some(Purpose::Request);
        }
        Channel::ALL.into_iter().find(|channel| self.push[channel.index()] == *name).map(Purpose::Push)
    }
}
