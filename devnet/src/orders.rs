//! The shipped input: `orders.csv` (one merchant's order a line, with its whole story and its expected end) and
//! `shoppers.csv` (one mandate a line). Reads and writes both; knows nothing about the network.
//! The story language is explained in `devnet/README.md`.

use anyhow::{Context, Result, bail, ensure};
use std::fmt;
use std::str::FromStr;

/// Header line of `orders.csv`.
pub(crate) const ORDERS_HEADER: &str =
    "order,shopper,merchant,category,scene,amount_fen,story,status,captured_fen,refunded_fen";
/// Header line of `shoppers.csv`.
pub(crate) const SHOPPERS_HEADER: &str = "shopper,ceiling_fen,payment_cap_fen,guarantee_fen,tier,scenes,state";

/// Where the shopper pays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scene {
    Online,
    MerchantPresented,
    PayerPresented,
    InApp,
    SocialTransfer,
}

impl Scene {
    const NAMES: [(Self, &'static str); 5] = [
        (Self::Online, "online"),
        (Self::MerchantPresented, "merchant_presented"),
        (Self::PayerPresented, "payer_presented"),
        (Self::InApp, "in_app"),
        (Self::SocialTransfer, "social_transfer"),
    ];
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(scene, _)| scene == self).map_or("?", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for Scene {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::NAMES.iter().find(|(_, name)| *name == text).map(|(scene, _)| *scene).context("unknown scene")
    }
}

/// What a mandate is brought to before the first order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MandateState {
    Active,
    Suspended,
    Revoked,
    Proposed,
}

impl MandateState {
    const NAMES: [(Self, &'static str); 4] = [
        (Self::Active, "active"),
        (Self::Suspended, "suspended"),
        (Self::Revoked, "revoked"),
        (Self::Proposed, "proposed"),
    ];
}

impl fmt::Display for MandateState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.iter().find(|(state, _)| state == self).map_or("?", |(_, name)| name))
    }
}

impl FromStr for MandateState {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::NAMES.iter().find(|(_, name)| *name == text).map(|(state, _)| *state).context("unknown mandate state")
    }
}

/// One shopper and the mandate that links them to the issuer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Shopper {
    pub(crate) name: String,
    pub(crate) ceiling: u64,
    pub(crate) payment_cap: u64,
    /// Zero: the issuer gives no standing promise.
    pub(crate) guarantee: u64,
    /// 1..=4 for A..D.
    pub(crate) tier: u8,
    pub(crate) scenes: Vec<Scene>,
    pub(crate) state: MandateState,
}

/// What the acquirer or the issuer does next in an order's story.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Request, hold and capture in one.
    Pay,
    /// The same call again: must give the first answer, and no second payment.
    Again,
    /// Asks the issuer to hold.
    Request,
    /// The issuer holds.
    Hold,
    /// The issuer declines.
    Decline,
    /// The issuer never answers.
    Silent,
    /// Takes part of the hold and keeps the rest.
    Capture(u64),
    /// Takes part of the hold and releases the rest.
    Last(u64),
    /// Releases what is left.
    Void,
    /// Waits until ledger time has released what is left.
    Lapse,
    /// Asks for a refund, which the issuer posts.
    Refund(u64),
    /// What follows happens in the next settlement window.
    NextWindow,
}

/// How a step departs from the honest way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Twist {
    /// The acquirer's risk assertion ran out a minute ago.
    Stale,
    /// Names a mandate (or payment) that does not exist.
    Unknown,
    /// Another merchant than the one bound at request.
    OtherMerchant,
    /// Another order hash than the one bound at request.
    OtherOrder,
    /// The same request id with another amount.
    OtherBody,
    /// A deadline in the past.
    Late,
    /// A deadline that passes while the demo runs.
    Short,
    /// The issuer could not give the money back.
    Fails,
}

impl Twist {
    const NAMES: [(Self, &'static str); 8] = [
        (Self::Stale, "stale"),
        (Self::Unknown, "unknown"),
        (Self::OtherMerchant, "other_merchant"),
        (Self::OtherOrder, "other_order"),
        (Self::OtherBody, "other_body"),
        (Self::Late, "late"),
        (Self::Short, "short"),
        (Self::Fails, "fails"),
    ];
}

/// One step of a story.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    pub(crate) action: Action,
    pub(crate) twist: Option<Twist>,
    /// The step must be refused with this code.
    pub(crate) refused: Option<u16>,
}

impl Step {
    pub(crate) const fn new(action: Action) -> Self {
        Self { action, twist: None, refused: None }
    }

    pub(crate) const fn twist(mut self, twist: Twist) -> Self {
        self.twist = Some(twist);
        self
    }

    pub(crate) const fn refused(mut self, code: u16) -> Self {
        self.refused = Some(code);
        self
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.action {
            Action::Pay => f.write_str("pay")?,
            Action::Again => f.write_str("again")?,
            Action::Request => f.write_str("request")?,
            Action::Hold => f.write_str("hold")?,
            Action::Decline => f.write_str("decline")?,
            Action::Silent => f.write_str("silent")?,
            Action::Capture(amount) => write!(f, "capture:{amount}")?,
            Action::Last(amount) => write!(f, "last:{amount}")?,
            Action::Void => f.write_str("void")?,
            Action::Lapse => f.write_str("lapse")?,
            Action::Refund(amount) => write!(f, "refund:{amount}")?,
            Action::NextWindow => f.write_str("//")?,
        }
        if let Some(twist) = self.twist {
            let name = Twist::NAMES.iter().find(|(it, _)| *it == twist).map_or("?", |(_, name)| name);
            write!(f, "@{name}")?;
        }
        match self.refused {
            Some(code) => write!(f, "!{code}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Step {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self> {
        let (rest, refused) = match text.split_once('!') {
            Some((rest, code)) => (rest, Some(code.parse().context("reject code after `!`")?)),
            None => (text, None),
        };
        let (rest, twist) = match rest.split_once('@') {
            Some((rest, name)) => {
                let twist = Twist::NAMES.iter().find(|(_, it)| *it == name).map(|(twist, _)| *twist);
                (rest, Some(twist.context("unknown twist after `@`")?))
            }
            None => (rest, None),
        };
        let (verb, amount) = match rest.split_once(':') {
            Some((verb, amount)) => (verb, Some(amount.parse::<u64>().context("amount after `:`")?)),
            None => (rest, None),
        };
        let action = match (verb, amount) {
            ("pay", None) => Action::Pay,
            ("again", None) => Action::Again,
            ("request", None) => Action::Request,
            ("hold", None) => Action::Hold,
            ("decline", None) => Action::Decline,
            ("silent", None) => Action::Silent,
            ("capture", Some(amount)) => Action::Capture(amount),
            ("last", Some(amount)) => Action::Last(amount),
            ("void", None) => Action::Void,
            ("lapse", None) => Action::Lapse,
            ("refund", Some(amount)) => Action::Refund(amount),
            ("//", None) => Action::NextWindow,
            _ => bail!("unknown step `{text}`"),
        };
        Ok(Self { action, twist, refused })
    }
}

/// Where an order must end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Status {
    /// All money that was ever to be captured is captured.
    Captured,
    Declined,
    Voided,
    Expired,
    /// No payment came into being.
    Refused,
}

impl Status {
    /// Every status with its name, in the order of the summary.
    pub(crate) const NAMES: [(Self, &'static str); 5] = [
        (Self::Captured, "captured"),
        (Self::Declined, "declined"),
        (Self::Voided, "voided"),
        (Self::Expired, "expired"),
        (Self::Refused, "refused"),
    ];
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.iter().find(|(status, _)| status == self).map_or("?", |(_, name)| name))
    }
}

impl FromStr for Status {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::NAMES.iter().find(|(_, name)| *name == text).map(|(status, _)| *status).context("unknown status")
    }
}

/// One order with its story and its expected end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) shopper: String,
    pub(crate) merchant: String,
    pub(crate) category: u16,
    pub(crate) scene: Scene,
    pub(crate) amount: u64,
    pub(crate) story: Vec<Step>,
    pub(crate) status: Status,
    pub(crate) captured: u64,
    pub(crate) refunded: u64,
}

impl Order {
    /// The story's steps before (0) or after (1) the close of the first window.
    pub(crate) fn act(&self, act: usize) -> &[Step] {
        self.story.split(|step| step.action == Action::NextWindow).nth(act).unwrap_or(&[])
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, shopper, merchant, category, scene, amount, story, status, captured, refunded } = self;
        let story = story.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        write!(f, "{id},{shopper},{merchant},{category},{scene},{amount},{story},{status},{captured},{refunded}")
    }
}

impl FromStr for Order {
    type Err = anyhow::Error;
    fn from_str(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split(',').collect();
        let [id, shopper, merchant, category, scene, amount, story, status, captured, refunded] = fields[..] else {
            bail!("{} fields where 10 are wanted", fields.len());
        };
        let order = Self {
            id: id.to_owned(),
            shopper: shopper.to_owned(),
            merchant: merchant.to_owned(),
            category: category.parse().context("category")?,
            scene: scene.parse()?,
            amount: amount.parse().context("amount_fen")?,
            story: story.split_whitespace().map(str::parse).collect::<Result<_>>()?,
            status: status.parse()?,
            captured: captured.parse().context("captured_fen")?,
            refunded: refunded.parse().context("refunded_fen")?,
        };
        ensure!(!order.story.is_empty(), "an order without a story");
        ensure!(
            order.story.iter().filter(|step| step.action == Action::NextWindow).count() <= 1,
            "a story spans at most two windows"
        );
        Ok(order)
    }
}

impl fmt::Display for Shopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, ceiling, payment_cap, guarantee, tier, scenes, state } = self;
        let scenes = scenes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        write!(f, "{name},{ceiling},{payment_cap},{guarantee},{tier},{scenes},{state}")
    }
}

impl FromStr for Shopper {
    type Err = anyhow::Error;
    fn from_str(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split(',').collect();
        let [name, ceiling, payment_cap, guarantee, tier, scenes, state] = fields[..] else {
            bail!("{} fields where 7 are wanted", fields.len());
        };
        let shopper = Self {
            name: name.to_owned(),
            ceiling: ceiling.parse().context("ceiling_fen")?,
            payment_cap: payment_cap.parse().context("payment_cap_fen")?,
            guarantee: guarantee.parse().context("guarantee_fen")?,
            tier: tier.parse().context("tier")?,
            scenes: scenes.split_whitespace().map(str::parse).collect::<Result<_>>()?,
            state: state.parse()?,
        };
        ensure!((1..=4).contains(&shopper.tier), "tier is 1 to 4");
        Ok(shopper)
    }
}

/// Reads a file of `T`, one a line under `header`.
pub(crate) fn load<T: FromStr<Err = anyhow::Error>>(path: &std::path::Path, header: &str) -> Result<Vec<T>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = text.lines();
    ensure!(lines.next() == Some(header), "{}: the first line must be `{header}`", path.display());
    lines
        .enumerate()
        .map(|(index, line)| line.parse().with_context(|| format!("{} line {}", path.display(), index + 2)))
        .collect()
}

/// Writes `items` under `header`, one a line.
pub(crate) fn to_text<T: fmt::Display>(header: &str, items: &[T]) -> String {
    let mut text = String::from(header);
    text.push('\n');
    for item in items {
        text.push_str(&format!("{item}\n"));
    }
    text
}

/// Fen as yuan with two places and thousands marks, for people.
pub(crate) fn yuan(fen: i128) -> String {
    let sign = if fen < 0 { "-" } else { "" };
    let fen = fen.unsigned_abs();
    let whole = (fen / 100).to_string();
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}.{:02}", fen % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_as_it_was_written() {
        let line = "O0007,S012,M03,5812,online,4200,request hold capture:1200 last:800 // refund:500@fails refund:2001!5008,\
                    captured,2000,0";
        let order: Order = line.parse().expect("a good line");
        assert_eq!(order.to_string(), line);
        assert_eq!(order.act(0).len(), 4);
        assert_eq!(order.act(1).len(), 2);
        assert_eq!(order.act(1)[1].refused, Some(5008));
    }

    #[test]
    fn unknown_words_are_errors() {
        for story in ["jump", "pay@sideways", "capture", "refund:x", "pay!", "", "pay // void // void"] {
            let line = format!("O1,S1,M1,5812,online,1,{story},captured,1,0");
            assert!(line.parse::<Order>().is_err(), "{story}");
        }
    }

    #[test]
    fn money_is_shown_in_yuan() {
        assert_eq!(yuan(0), "0.00");
        assert_eq!(yuan(-5), "-0.05");
        assert_eq!(yuan(123_456_789), "1,234,567.89");
        assert_eq!(yuan(-100_000), "-1,000.00");
    }
}
