//! The genesis document: everything the first block starts from. Its canonical bytes give the chain id.

use crate::batch::FORMAT;
use crate::block::{BlockEffects, Write};
use crate::codec::{self, Domain};
use crate::entity::{Balance, Control, Entity, FeeSchedule, Participant, Position, ScheduleLeg, Suite};
use crate::entry::Cause;
use crate::fees::check_schedule;
use crate::keys::{check_encryption_key, check_signing_key};
use crate::ops::window::opened;
use crate::ops::{MAX_KEYS, MAX_LEGAL_NAME_BYTES, MAX_REFERENCE_BYTES};
use crate::types::{Amount, ChainId, Currency, ParticipantId, Role, Scene, SceneSet, ScheduleVersion, WindowId};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use borsh::{BorshDeserialize, BorshSerialize};

/// The genesis document.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Genesis {
    /// [`crate::batch::FORMAT`].
    pub format: u16,
    /// A name for people, at most 64 bytes.
    pub name: String,
    /// Random bytes, so that two networks made from the same file differ.
    pub salt: [u8; 32],
    /// Ledger time of height 0.
    pub time_ms: u64,
    /// The one currency of this ledger.
    pub currency: Currency,
    /// Numbers of the rules.
    pub params: Params,
    /// All participants; numbers count from 1, in order.
    pub participants: Vec<Participant>,
    /// The validators.
    pub validators: Vec<GenesisValidator>,
    /// Fee schedules; the one with the highest version already effective is in force.
    pub schedules: Vec<FeeSchedule>,
    /// Caps and liquidity.
    pub positions: Vec<GenesisPosition>,
}

/// The numbers of the rules. All of them change by governance only.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Params {
    /// Rule book in force; 1 is the founding one.
    pub rules: u32,
    /// How long a settlement window stays open.
    pub window_length_ms: u64,
    /// Due items applied per block at most.
    pub max_due_per_block: u32,
    /// Longest time between request and `answer_by`.
    pub max_answer_ms: u64,
    /// Longest time between request and `capture_by`.
    pub max_hold_ms: u64,
    /// Shortest time a disclosure must have been shown.
    pub min_disclosure_shown_ms: u32,
    /// Most refunds of a payment (50).
    pub max_refunds: u16,
    /// Refunds are accepted this long after the first capture (one year).
    pub refund_period_ms: u64,
    /// Number of distinct participants whose approval governance needs.
    pub governance_threshold: u32,
}

impl Default for Params {
    fn default() -> Self {
        const HOUR_MS: u64 = 3_600_000;
        Self {
            rules: 1,
            window_length_ms: 24 * HOUR_MS,
            max_due_per_block: 4096,
            max_answer_ms: HOUR_MS,
            max_hold_ms: 30 * 24 * HOUR_MS,
            min_disclosure_shown_ms: 3000,
            max_refunds: 50,
            refund_period_ms: 365 * 24 * HOUR_MS,
            governance_threshold: 3,
        }
    }
}

/// A validator at genesis.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct GenesisValidator {
    /// Whose node.
    pub participant: ParticipantId,
    /// Ed25519 key for votes.
    pub public_key: [u8; 32],
    /// Voting power, at least 1.
    pub power: u64,
}

/// A participant's cap and liquidity at genesis.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct GenesisPosition {
    /// Whose.
    pub participant: ParticipantId,
    /// Net-debit cap.
    pub cap: Amount,
    /// Liquidity already deposited with clearing.
    pub liquidity: Amount,
}

impl Genesis {
    /// The chain id: BLAKE3 of the canonical bytes.
    #[must_use]
    pub fn chain_id(&self) -> ChainId {
        ChainId(codec::hash(Domain::Genesis, &codec::encode(self)))
    }
}

/// Most participants and validators of a genesis document.
const MAX_PARTICIPANTS: usize = 1000;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// The state that the genesis document describes, as the writes of height 0.
///
/// # Errors
/// A sentence naming the field that is wrong.
pub fn genesis_writes(genesis: &Genesis) -> Result<BlockEffects, String> {
    check_head(genesis)?;
    check_params(genesis)?;
    check_participants(genesis)?;
    check_validators(genesis)?;
    let schedule_version = check_schedules(genesis)?;
    check_positions(genesis)?;

    let write = |state: Entity| Write { key: state.key(), state, cause: Cause::Genesis };
    let mut begin: Vec<Write> = genesis.participants.iter().map(|it| write(Entity::Participant(it.clone()))).collect();
    begin.extend(genesis.schedules.iter().map(|it| write(Entity::Schedule(it.clone()))));
    let window = opened(WindowId(1), genesis.time_ms, genesis.params.window_length_ms);
    begin.push(write(Entity::Window(window)));

    let deposited = genesis.positions.iter().fold(0_u128, |sum, it| sum.saturating_add(it.liquidity.wide()));
    let mut positions: Vec<&GenesisPosition> = genesis.positions.iter().collect();
    positions.sort_by_key(|it| it.participant);
    let mut hot: Vec<Write> = positions
        .into_iter()
        .map(|it| {
            let liquidity = Balance { credits_posted: it.liquidity.wide(), ..Balance::default() };
            write(Entity::Position(Position {
                participant: it.participant,
                cap: it.cap,
                liquidity,
                ..Position::default()
            }))
        })
        .collect();
    hot.push(write(Entity::Control(Control {
        liquidity: Balance { debits_posted: deposited, ..Balance::default() },
        totals: Balance { debits_posted: deposited, credits_posted: deposited, ..Balance::default() },
        open_window: WindowId(1),
        schedule_version,
        ..Control::default()
    })));
    Ok(BlockEffects {
        begin,
        batches: Vec::new(),
        hot,
        due_removed: Vec::new(),
        due_added: Vec::new(),
        captured: Vec::new(),
        window_tree: None,
        alarms: Vec::new(),
        broken: None,
    })
}

fn check_head(genesis: &Genesis) -> Result<(), String> {
    ensure(genesis.format == FORMAT, || format!("format: {} is not {FORMAT}", genesis.format))?;
    let name = genesis.name.len();
    ensure((1..=64).contains(&name), || format!("name: has {name} bytes, not 1 to 64"))?;
    ensure(genesis.time_ms > 0 && genesis.time_ms < 1 << 48, || "time_ms: not within 48 bits".to_string())
}

fn check_params(genesis: &Genesis) -> Result<(), String> {
    let params = &genesis.params;
    ensure(params.rules == 1, || format!("params.rules: {} are not known, only 1", params.rules))?;
    ensure(params.window_length_ms >= 1000, || "params.window_length_ms: less than a second".to_string())?;
    ensure(params.max_due_per_block >= 1, || "params.max_due_per_block: zero".to_string())?;
    ensure(params.max_answer_ms >= 1, || "params.max_answer_ms: zero".to_string())?;
    ensure(params.max_hold_ms >= 1, || "params.max_hold_ms: zero".to_string())?;
    ensure((1..=1000).contains(&params.max_refunds), || "params.max_refunds: not 1 to 1,000".to_string())?;
    ensure(params.refund_period_ms >= 1, || "params.refund_period_ms: zero".to_string())?;
    let threshold = usize::try_from(params.governance_threshold).unwrap_or(usize::MAX);
    ensure((1..=genesis.participants.len()).contains(&threshold), || {
        "params.governance_threshold: not between 1 and the number of participants".to_string()
    })
}

fn check_participants(genesis: &Genesis) -> Result<(), String> {
    let all = &genesis.participants;
    ensure((1..=MAX_PARTICIPANTS).contains(&all.len()), || format!("participants: {} of them", all.len()))?;
    let mut public_keys = BTreeSet::new();
    for (number, it) in (1_u32..).zip(all) {
        let field = |name: &str| format!("participants[{number}].{name}");
        ensure(it.id.0 == number, || format!("{}: {} is not its place in the list", field("id"), it.id))?;
        ensure((1..=32).contains(&it.name.len()), || format!("{}: not 1 to 32 bytes", field("name")))?;
        let legal = (1..=MAX_LEGAL_NAME_BYTES).contains(&it.legal_name.len());
        ensure(legal, || format!("{}: not 1 to 128 bytes", field("legal_name")))?;
        let licence = (1..=MAX_REFERENCE_BYTES).contains(&it.licence.number.len());
        ensure(licence, || format!("{}: not 1 to 64 bytes", field("licence.number")))?;
        let known = it.licence.scenes.is_subset_of(SceneSet::ALL);
        let social = it.licence.scenes.contains(Scene::SocialTransfer);
        ensure(known && !social, || format!("{}: names a scene that is never served", field("licence.scenes")))?;
        if let Some(key) = &it.encryption {
            let good = check_encryption_key(key).is_ok();
            ensure(good, || format!("{}: no {:?} key", field("encryption"), key.suite))?;
        }
        ensure(it.keys.len() <= MAX_KEYS, || format!("{}: more than {MAX_KEYS}", field("keys")))?;
        let signs = !matches!(it.role, Role::Regulator | Role::FeePayee);
        ensure(!signs || !it.keys.is_empty(), || format!("{}: this role needs one", field("keys")))?;
        for (key_id, key) in (1_u32..).zip(&it.keys) {
            let field = |name: &str| field(&format!("keys[{key_id}].{name}"));
            ensure(key.key_id.0 == key_id, || format!("{}: not its place in the list", field("key_id")))?;
            let good = check_signing_key(key.suite, &key.public_key).is_ok();
            ensure(good, || format!("{}: no {:?} key", field("public_key"), key.suite))?;
            ensure(public_keys.insert(&key.public_key), || format!("{}: used twice", field("public_key")))?;
            let term = key.valid_from_ms < key.valid_until_ms;
            ensure(term, || format!("{}: not after valid_from_ms", field("valid_until_ms")))?;
        }
    }
    for role in [Role::Acquirer, Role::Issuer, Role::Clearing] {
        ensure(all.iter().any(|it| it.role == role), || format!("participants: none is {role:?}"))?;
    }
    Ok(())
}

/// The number of a participant of the document.
fn is_participant(genesis: &Genesis, id: ParticipantId) -> bool {
    genesis.participants.iter().any(|it| it.id == id)
}

fn check_validators(genesis: &Genesis) -> Result<(), String> {
    let all = &genesis.validators;
    ensure((1..=MAX_PARTICIPANTS).contains(&all.len()), || format!("validators: {} of them", all.len()))?;
    let mut public_keys = BTreeSet::new();
    let mut power = 0_u64;
    for (number, it) in (1_u32..).zip(all) {
        let field = |name: &str| format!("validators[{number}].{name}");
        let known = is_participant(genesis, it.participant);
        ensure(known, || format!("{}: {} is not in the list", field("participant"), it.participant))?;
        let good = check_signing_key(Suite::Ed25519, &it.public_key).is_ok();
        ensure(good, || format!("{}: no Ed25519 key", field("public_key")))?;
        ensure(public_keys.insert(it.public_key), || format!("{}: used twice", field("public_key")))?;
        ensure(it.power >= 1, || format!("{}: zero", field("power")))?;
        // A quarter of the range leaves room for "three times the power" in 64 bits.
        power = power.saturating_add(it.power);
        ensure(power <= u64::MAX / 4, || format!("{}: the sum is too large", field("power")))?;
    }
    Ok(())
}

fn check_schedules(genesis: &Genesis) -> Result<ScheduleVersion, String> {
    let mut in_force = None;
    let mut last = 0;
    for (version, it) in (1_u32..).zip(&genesis.schedules) {
        let field = |name: &str| format!("schedules[{version}].{name}");
        ensure(it.version.0 == version, || format!("{}: not its place in the list", field("version")))?;
        ensure(it.effective_at_ms >= last, || format!("{}: before its predecessor's", field("effective_at_ms")))?;
        last = it.effective_at_ms;
        check_schedule(it).map_err(|what| format!("{}: {what}", field("legs")))?;
        let payee = |leg: &ScheduleLeg| {
            leg.payee == ScheduleLeg::ACQUIRER || leg.payee == ScheduleLeg::ISSUER || is_participant(genesis, leg.payee)
        };
        ensure(it.legs.iter().all(payee), || format!("{}: a payee is not in the list", field("legs")))?;
        if it.effective_at_ms <= genesis.time_ms {
            in_force = Some(it.version);
        }
    }
    in_force.ok_or_else(|| "schedules: none is in force at time_ms".to_string())
}

fn check_positions(genesis: &Genesis) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for it in &genesis.positions {
        let who = it.participant;
        ensure(is_participant(genesis, who), || format!("positions: participant {who} is not in the list"))?;
        ensure(seen.insert(who), || format!("positions: participant {who} is there twice"))?;
    }
    Ok(())
}
