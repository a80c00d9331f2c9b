//! What can be asked for on the command line, as the service takes it.

use anji_proto::v1 as pb;
use anji_proto::v1::evidence_claim::About;
use anji_proto::v1::evidence_entity::Key;
use anyhow::Result;
use clap::{Args, Subcommand};

/// What is to be proven.
#[derive(Subcommand)]
pub(super) enum Subject {
    /// A payment: the operation that created it with its signature and receipt, and the payment as it stands
    Payment(IdAt),
    /// An operation and the ledger's answer to it, done or refused
    Operation {
        /// PARTICIPANT-OPID, such as 1-0192f0c4a5b60000000000000000002a.
        id: String,
    },
    /// A refund as it stands
    Refund(IdAt),
    /// A mandate as it stands
    Mandate(IdAt),
    /// The balance of a mandate's line
    Line(IdAt),
    /// The balance of a participant: cap, liquidity and exposure
    Balance(NumberAt),
    /// What a participant owes and is owed in a settlement window
    Obligation {
        /// The participant's number.
        participant: u32,
        /// The window's number.
        #[arg(long)]
        window: u64,
        /// After the block of this height; the newest that can be proven if left out.
        #[arg(long, value_name = "HEIGHT")]
        at: Option<u64>,
    },
    /// A settlement window with its nets
    Window(NumberAt),
    /// A participant with its role, licence and keys
    Participant(NumberAt),
    /// That a payment was not captured in a closed settlement window
    Absence {
        /// PARTICIPANT-OPID, such as 1-0192f0c4a5b60000000000000000002a.
        payment: String,
        /// The window's number.
        #[arg(long)]
        window: u64,
    },
}

#[derive(Args)]
pub(super) struct IdAt {
    /// PARTICIPANT-OPID, such as 1-0192f0c4a5b60000000000000000002a.
    id: String,
    /// After the block of this height; the newest that can be proven if left out.
    #[arg(long, value_name = "HEIGHT")]
    at: Option<u64>,
}

#[derive(Args)]
pub(super) struct NumberAt {
    /// Its number.
    number: u64,
    /// After the block of this height; the newest that can be proven if left out.
    #[arg(long, value_name = "HEIGHT")]
    at: Option<u64>,
}

fn id(text: &str) -> Result<pb::Id> {
    let id = crate::cli::inspect::parse_id(text)?;
    Ok(pb::Id { participant: id.participant.0, op_id: id.op_id.0.to_be_bytes().to_vec() })
}

fn claim(about: About) -> pb::EvidenceClaim {
    pb::EvidenceClaim { about: Some(about), height: 0 }
}

fn state(key: Key, at: Option<u64>) -> pb::EvidenceClaim {
    let about = Some(About::Entity(pb::EvidenceEntity { key: Some(key) }));
    pb::EvidenceClaim { about, height: at.unwrap_or(0) }
}

fn number(value: u64) -> Result<u32> {
    u32::try_from(value).map_err(|_| anyhow::anyhow!("{value} is no participant's number"))
}

impl Subject {
    /// The claims to ask for.
    pub(super) fn claims(&self) -> Result<Vec<pb::EvidenceClaim>> {
        Ok(match self {
            Self::Payment(it) => {
                vec![claim(About::Operation(id(&it.id)?)), state(Key::Payment(id(&it.id)?), it.at)]
            }
            Self::Operation { id: text } => vec![claim(About::Operation(id(text)?))],
            Self::Refund(it) => vec![state(Key::Refund(id(&it.id)?), it.at)],
            Self::Mandate(it) => vec![state(Key::Mandate(id(&it.id)?), it.at)],
            Self::Line(it) => vec![state(Key::Line(id(&it.id)?), it.at)],
            Self::Balance(it) => vec![state(Key::Position(number(it.number)?), it.at)],
            Self::Obligation { participant, window, at } => {
                let key = pb::EvidenceObligation { participant: *participant, window: *window };
                vec![state(Key::Obligation(key), *at)]
            }
            Self::Window(it) => vec![state(Key::Window(it.number), it.at)],
            Self::Participant(it) => vec![state(Key::Participant(number(it.number)?), it.at)],
            Self::Absence { payment, window } => {
                let absence = pb::EvidenceAbsence { payment: Some(id(payment)?), window: *window };
                vec![claim(About::Absence(absence)), state(Key::Window(*window), None)]
            }
        })
    }
}
