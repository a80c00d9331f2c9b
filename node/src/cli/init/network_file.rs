//! The network file: what the founders of a network agree on before there is a genesis. Who takes part, the numbers of the rules,
//! fees, caps, and where the nodes are. It holds no key.

use anji_adapters::keys::KeySuite;
use anji_adapters::settings;
use anji_adapters::settings::{FieldError, SettingsError};
use anji_contracts::entity::{Bearer, FeeSchedule, ScheduleLeg};
use anji_contracts::types::{ParticipantId, Role, Scene, SceneSet, ScheduleVersion};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use crate::config::{is_name, split_address};

settings! {
    /// The network file.
    pub(crate) struct NetworkFile {
        values {
            /// The network's name, for people.
            name: String,
            /// ISO 4217 number of the one currency; 156 is CNY.
            currency: u16 = 156,
        }
        sections {
            /// Numbers of the rules.
            rules: Rules,
        }
        lists {
            /// Institutions, numbered from 1 in this order.
            participants: ParticipantSpec,
            /// Fee schedules.
            schedules: ScheduleSpec,
            /// Nodes.
            nodes: NodeSpec,
            /// Outside witnesses on the same machine, for the nodes with a `log_http`. Between real operators each runs its own.
            witnesses: WitnessSpec,
        }
    }
}

settings! {
    /// Numbers of the rules; governance changes them later.
    pub(crate) struct Rules { values {
        /// How long a settlement window stays open, in milliseconds.
        window_length_ms: u64 = 86_400_000,
        /// Due items applied per block at most.
        max_due_per_block: u32 = 4096,
        /// Longest time an issuer may be given to answer, in milliseconds.
        max_answer_ms: u64 = 3_600_000,
        /// Longest time money may be held, in milliseconds.
        max_hold_ms: u64 = 2_592_000_000,
        /// Shortest time a disclosure must have been shown, in milliseconds.
        min_disclosure_shown_ms: u32 = 3000,
        /// Most refunds of a payment.
        max_refunds: u16 = 50,
        /// Refunds are accepted this long after the first capture, in milliseconds.
        refund_period_ms: u64 = 31_536_000_000,
        /// Distinct participants whose approval governance needs.
        governance_threshold: u32 = 3,
    } }
}

settings! {
    /// One institution.
    pub(crate) struct ParticipantSpec { values {
        /// Short name: 1 to 32 of a-z, 0-9, `-`.
        name: String,
        /// Legal name.
        legal_name: String,
        /// `acquirer`, `issuer`, `service_provider`, `clearing`, `regulator` or `fee_payee`.
        role: String,
        /// Suite of its own keys: `ed25519` (with X25519 for envelopes), or `sm2` for both. Votes are always Ed25519.
        suite: String = String::from("ed25519"),
        /// Number of its licence.
        licence_number: String = String::new(),
        /// Scenes the licence covers: `online`, `merchant_presented`, `payer_presented`, `in_app`, `social_transfer`.
        licence_scenes: Vec<String> = Vec::new(),
        /// First day on which the licence no longer holds (UTC+8).
        licence_ends: Option<toml::value::Datetime> = None,
        /// Net-debit cap in minor units.
        cap: u64 = 0,
        /// Liquidity deposited with clearing before the start, in minor units.
        liquidity: u64 = 0,
    } }
}

settings! {
    /// One fee schedule.
    pub(crate) struct ScheduleSpec {
        values {
            /// Its version, from 1.
            version: u32,
            /// Place of the leg (from 0) that takes what rounding leaves.
            remainder_leg: u8 = 0,
        }
        lists {
            /// Its legs.
            legs: LegSpec,
        }
    }
}

settings! {
    /// One leg of a fee schedule.
    pub(crate) struct LegSpec { values {
        /// A participant's name; `@acquirer` and `@issuer` stand for those of the payment.
        payee: String,
        /// Basis points of the amount.
        rate_bps: u32,
        /// `merchant`, or `leg:N`: paid out of leg N.
        bearer: String = String::from("merchant"),
        /// Whether refunds give it back.
        returned_on_refund: bool = true,
    } }
}

settings! {
    /// One node.
    pub(crate) struct NodeSpec { values {
        /// Its name and the name of its folder.
        name: String,
        /// Whose it is.
        participant: String,
        /// Voting power; 0 is an observer.
        power: u64 = 1,
        /// Where peers dial it, `host:port`.
        p2p: String,
        /// Address of its gRPC door.
        grpc: SocketAddr,
        /// Address of its monitoring door.
        metrics: SocketAddr,
        /// Address of its adapter's gRPC door; leave it out where there is no adapter.
        adapter_grpc: Option<SocketAddr> = None,
        /// Address of its adapter's monitoring door.
        adapter_metrics: Option<SocketAddr> = None,
        /// Address where it serves the log over HTTP; leave it out where it does not.
        log_http: Option<SocketAddr> = None,
    } }
}

settings! {
    /// One outside witness.
    pub(crate) struct WitnessSpec { values {
        /// Its name and the name of its folder.
        name: String,
        /// Address that it listens on.
        listen: SocketAddr,
    } }
}

/// Reads and checks a network file; `port_offset` is added to every port, so that one file serves several networks at once.
pub(crate) fn load(file: &Path, port_offset: u16) -> Result<NetworkFile, SettingsError> {
    let mut network: NetworkFile = settings::read(file)?;
    shift_ports(&mut network, port_offset).map_err(|error| error.in_file(file))?;
    check(&network).map_err(|error| error.in_file(file))?;
    Ok(network)
}

fn shift_ports(network: &mut NetworkFile, offset: u16) -> Result<(), FieldError> {
    let shift = |field: String, port: u16| {
        port.checked_add(offset).ok_or_else(|| {
            FieldError::new(
                field,
                port,
                format!("with the offset {offset} it exceeds 65535"),
                "use a smaller --port-offset",
            )
        })
    };
    for witness in &mut network.witnesses {
        let port = shift(format!("witnesses[{}].listen", witness.name), witness.listen.port())?;
        witness.listen.set_port(port);
    }
    for node in &mut network.nodes {
        let field = |name: &str| format!("nodes[{}].{name}", node.name);
        let Some((host, port)) = split_address(&node.p2p) else {
            return Err(FieldError::new(field("p2p"), &node.p2p, "not an address", "write it as host:port"));
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        node.p2p = format!("{host}:{}", shift(field("p2p"), port)?);
        node.grpc.set_port(shift(field("grpc"), node.grpc.port())?);
        node.metrics.set_port(shift(field("metrics"), node.metrics.port())?);
        for (name, address) in [
            ("adapter_grpc", &mut node.adapter_grpc),
            ("adapter_metrics", &mut node.adapter_metrics),
            ("log_http", &mut node.log_http),
        ] {
            if let Some(address) = address {
                address.set_port(shift(format!("nodes[{}].{name}", node.name), address.port())?);
            }
        }
    }
    Ok(())
}

impl NetworkFile {
    /// The number of the participant with this name.
    pub(crate) fn participant_id(&self, name: &str) -> Option<ParticipantId> {
        let place = self.participants.iter().position(|it| it.name == name)?;
        u32::try_from(place).ok()?.checked_add(1).map(ParticipantId)
    }

    /// The node with this name.
    pub(crate) fn node(&self, name: &str) -> Option<&NodeSpec> {
        self.nodes.iter().find(|it| it.name == name)
    }

    /// The suite of the own keys of a node's participant.
    pub(crate) fn suite(&self, node: &NodeSpec) -> KeySuite {
        let spec = self.participants.iter().find(|it| it.name == node.participant);
        spec.and_then(ParticipantSpec::suite).unwrap_or_default()
    }

    /// The node whose operator holds the participant's own keys: the one with the adapter, else its first node.
    pub(crate) fn key_holder(&self, participant: &str) -> Option<&NodeSpec> {
        let mut own = self.nodes.iter().filter(|it| it.participant == participant);
        own.clone().find(|it| it.adapter_grpc.is_some()).or_else(|| own.next())
    }
}

impl ParticipantSpec {
    /// The suite of its own keys.
    pub(crate) fn suite(&self) -> Option<KeySuite> {
        KeySuite::of_name(&self.suite)
    }

    /// Its role.
    pub(crate) fn role(&self) -> Option<Role> {
        Some(match self.role.as_str() {
            "acquirer" => Role::Acquirer,
            "issuer" => Role::Issuer,
            "service_provider" => Role::ServiceProvider,
            "clearing" => Role::Clearing,
            "regulator" => Role::Regulator,
            "fee_payee" => Role::FeePayee,
            _ => return None,
        })
    }

    /// The scenes of its licence.
    pub(crate) fn scenes(&self) -> Option<SceneSet> {
        self.licence_scenes.iter().try_fold(SceneSet::default(), |set, name| {
            let scene = match name.as_str() {
                "online" => Scene::Online,
                "merchant_presented" => Scene::MerchantPresented,
                "payer_presented" => Scene::PayerPresented,
                "in_app" => Scene::InApp,
                "social_transfer" => Scene::SocialTransfer,
                _ => return None,
            };
            Some(SceneSet(set.0 | scene.bit()))
        })
    }

    /// End of the licence in ledger time; no end if none is given.
    pub(crate) fn licence_ends_ms(&self) -> Option<u64> {
        let Some(ends) = &self.licence_ends else { return Some(u64::MAX) };
        let date = ends.date.filter(|_| ends.time.is_none() && ends.offset.is_none())?;
        let days = days_from_civil(date.year.into(), date.month.into(), date.day.into());
        u64::try_from(days.checked_mul(86_400_000)?.checked_sub(8 * 3_600_000)?).ok()
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

impl ScheduleSpec {
    /// The schedule with participants' numbers; the error names the leg's field.
    pub(crate) fn build(&self, network: &NetworkFile) -> Result<FeeSchedule, FieldError> {
        let mut legs = Vec::new();
        for (place, leg) in self.legs.iter().enumerate() {
            let field = |name: &str| format!("schedules[{}].legs[{place}].{name}", self.version);
            let payee = match leg.payee.as_str() {
                "@acquirer" => ScheduleLeg::ACQUIRER,
                "@issuer" => ScheduleLeg::ISSUER,
                name => network.participant_id(name).ok_or_else(|| {
                    FieldError::new(
                        field("payee"),
                        name,
                        "no such participant",
                        "name a participant, `@acquirer` or `@issuer`",
                    )
                })?,
            };
            let bearer = match leg.bearer.strip_prefix("leg:").map(str::parse::<u8>) {
                None if leg.bearer == "merchant" => Bearer::Merchant,
                Some(Ok(other)) if usize::from(other) < self.legs.len() && usize::from(other) != place => {
                    Bearer::Leg(other)
                }
                _ => {
                    let way_out = "write `merchant`, or `leg:N` with the place of another leg, counted from 0";
                    return Err(FieldError::new(field("bearer"), &leg.bearer, "nobody who could bear it", way_out));
                }
            };
            legs.push(ScheduleLeg {
                payee,
                rate_bps: leg.rate_bps,
                bearer,
                returned_on_refund: leg.returned_on_refund,
            });
        }
        Ok(FeeSchedule {
            version: ScheduleVersion(self.version),
            effective_at_ms: 0,
            legs,
            remainder_leg: self.remainder_leg,
        })
    }
}

fn check(network: &NetworkFile) -> Result<(), FieldError> {
    if network.name.is_empty() || network.name.len() > 64 {
        return Err(FieldError::new("name", &network.name, "empty or longer than 64 bytes", "choose a short name"));
    }
    let mut names = BTreeSet::new();
    for participant in &network.participants {
        let field = |name: &str| format!("participants[{}].{name}", participant.name);
        if !is_name(&participant.name) || !names.insert(&participant.name) {
            let way_out = "use 1 to 32 of a-z, 0-9 and `-`, each name once";
            return Err(FieldError::new("participants.name", &participant.name, "not a name, or used twice", way_out));
        }
        if participant.role().is_none() {
            let way_out = "use acquirer, issuer, service_provider, clearing, regulator or fee_payee";
            return Err(FieldError::new(field("role"), &participant.role, "no such role", way_out));
        }
        if participant.suite().is_none() {
            return Err(FieldError::new(field("suite"), &participant.suite, "no such suite", "use ed25519 or sm2"));
        }
        if participant.scenes().is_none() {
            let way_out = "use online, merchant_presented, payer_presented, in_app, social_transfer";
            return Err(FieldError::new(
                field("licence_scenes"),
                participant.licence_scenes.join(", "),
                "no such scene",
                way_out,
            ));
        }
        if participant.licence_ends_ms().is_none() {
            let value = participant.licence_ends.map(|it| it.to_string()).unwrap_or_default();
            return Err(FieldError::new(field("licence_ends"), value, "not a date", "write a date such as 2036-12-31"));
        }
        if participant.legal_name.is_empty() || participant.legal_name.len() > 128 {
            return Err(FieldError::new(
                field("legal_name"),
                &participant.legal_name,
                "empty or longer than 128 bytes",
                "give the name on the licence",
            ));
        }
        if participant.licence_number.len() > 64 {
            return Err(FieldError::new(
                field("licence_number"),
                &participant.licence_number,
                "longer than 64 bytes",
                "give the regulator's number",
            ));
        }
    }
    if network.participants.is_empty() {
        return Err(FieldError::new("participants", "[]", "nobody takes part", "add at least one [[participants]]"));
    }
    let mut nodes = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    let mut adapters = BTreeSet::new();
    for node in &network.nodes {
        let field = |name: &str| format!("nodes[{}].{name}", node.name);
        if !is_name(&node.name) || !nodes.insert(&node.name) {
            let way_out = "use 1 to 32 of a-z, 0-9 and `-`, each name once";
            return Err(FieldError::new("nodes.name", &node.name, "not a name, or used twice", way_out));
        }
        if network.participant_id(&node.participant).is_none() {
            let way_out = "name one of the [[participants]]";
            return Err(FieldError::new(field("participant"), &node.participant, "no such participant", way_out));
        }
        let mut doors =
            vec![("p2p", node.p2p.clone()), ("grpc", node.grpc.to_string()), ("metrics", node.metrics.to_string())];
        if let Some(address) = node.adapter_grpc {
            doors.push(("adapter_grpc", address.to_string()));
            let Some(metrics) = node.adapter_metrics else {
                let way_out = "give the adapter an address for its metrics";
                return Err(FieldError::new(field("adapter_metrics"), "", "missing beside adapter_grpc", way_out));
            };
            doors.push(("adapter_metrics", metrics.to_string()));
            if !adapters.insert(&node.participant) {
                let way_out = "one node a participant has the adapter: it alone holds the signing key";
                return Err(FieldError::new(
                    field("adapter_grpc"),
                    address,
                    "a second adapter of this participant",
                    way_out,
                ));
            }
        }
        doors.extend(node.log_http.map(|address| ("log_http", address.to_string())));
        for (name, address) in doors {
            if !addresses.insert(address.clone()) {
                return Err(FieldError::new(
                    field(name),
                    address,
                    "used twice in this file",
                    "give every door its own port",
                ));
            }
        }
    }
    for witness in &network.witnesses {
        if !is_name(&witness.name) || !nodes.insert(&witness.name) {
            let way_out = "use 1 to 32 of a-z, 0-9 and `-`, each name once";
            return Err(FieldError::new("witnesses.name", &witness.name, "not a name, or used twice", way_out));
        }
        if !addresses.insert(witness.listen.to_string()) {
            let field = format!("witnesses[{}].listen", witness.name);
            return Err(FieldError::new(
                field,
                witness.listen,
                "used twice in this file",
                "give every door its own port",
            ));
        }
    }
    if !network.nodes.iter().any(|node| node.power > 0) {
        return Err(FieldError::new(
            "nodes",
            "power = 0",
            "there is no validator",
            "give at least one node a `power` above 0",
        ));
    }
    network.schedules.iter().try_for_each(|schedule| schedule.build(network).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days_since_1970() {
        for (date, days) in
            [((1970, 1, 1), 0), ((2000, 3, 1), 11_017), ((2026, 11, 22), 20_779), ((2036, 2, 29), 24_165)]
        {
            assert_eq!(days_from_civil(date.0, date.1, date.2), days, "{date:?}");
        }
    }
}
