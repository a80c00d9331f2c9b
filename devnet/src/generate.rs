//! Makes `orders.csv` and `shoppers.csv` from a seed: the same seed gives the same bytes on every machine.
//! Keeps a small model of each shopper's line, so that every order has exactly one expected end, whatever order different
//! shoppers are served in. Reject codes stand here as numbers on purpose: they are the published interface.

use crate::orders::{Action, MandateState, Order, Scene, Shopper, Status, Step, Twist};

const YUAN: u64 = 100;
const N_ORDINARY: usize = 160;
const N_PREMIUM: usize = 12;
const N_MERCHANTS: usize = 60;

/// SplitMix64: small, fixed for ever, good enough for prices.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `low..=high`.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let index = self.next() % items.len() as u64;
        &items[usize::try_from(index).unwrap_or(0)]
    }
}

/// A trade: ISO 18245 category, usual prices in fen, where its customers pay.
struct Trade {
    category: u16,
    low: u64,
    high: u64,
    scenes: &'static [Scene],
}

const IN_STORE: &[Scene] = &[Scene::MerchantPresented, Scene::PayerPresented];
const WEB: &[Scene] = &[Scene::Online, Scene::InApp];
const BOTH: &[Scene] = &[Scene::Online, Scene::MerchantPresented, Scene::PayerPresented];

const TRADES: &[Trade] = &[
    Trade { category: 5411, low: 350, high: 48_000, scenes: IN_STORE }, // groceries
    Trade { category: 5812, low: 1_800, high: 90_000, scenes: IN_STORE }, // restaurants
    Trade { category: 5814, low: 600, high: 12_000, scenes: BOTH },     // fast food
    Trade { category: 4111, low: 100, high: 3_000, scenes: IN_STORE },  // local transport
    Trade { category: 5732, low: 4_900, high: 500_000, scenes: BOTH },  // electronics
    Trade { category: 5651, low: 3_900, high: 200_000, scenes: BOTH },  // clothing
    Trade { category: 5912, low: 550, high: 36_000, scenes: IN_STORE }, // pharmacies
    Trade { category: 5942, low: 990, high: 40_000, scenes: WEB },      // books
    Trade { category: 7832, low: 2_500, high: 16_000, scenes: WEB },    // cinemas
    Trade { category: 4814, low: 1_000, high: 30_000, scenes: WEB },    // telephone credit
    Trade { category: 5541, low: 10_000, high: 60_000, scenes: IN_STORE }, // fuel
    Trade { category: 5815, low: 1, high: 9_800, scenes: WEB },         // digital goods
];
/// Orders that are held first and captured later.
const HOLD_TRADES: &[Trade] = &[
    Trade { category: 7011, low: 18_000, high: 420_000, scenes: WEB }, // hotels
    Trade { category: 7512, low: 15_000, high: 250_000, scenes: WEB }, // car rental
    Trade { category: 5311, low: 5_000, high: 320_000, scenes: WEB },  // shipped in parts
];

struct Maker {
    dice: Dice,
    orders: Vec<Order>,
    /// Per shopper, an upper bound of what the line and the guarantee were used for.
    used: Vec<u64>,
    shoppers: Vec<Shopper>,
}

/// The whole input for a seed.
pub(crate) fn generate(seed: u64) -> (Vec<Shopper>, Vec<Order>) {
    let shoppers = shoppers();
    let mut maker = Maker { dice: Dice(seed), orders: Vec::new(), used: vec![0; shoppers.len()], shoppers };
    maker.ordinary();
    maker.premium();
    maker.holds();
    maker.shuffle();
    // After the shuffle, because the order among these matters to their shoppers.
    maker.special();
    maker.spread();
    (maker.shoppers, maker.orders)
}

fn shopper(index: usize, ceiling: u64, payment_cap: u64, guarantee: u64) -> Shopper {
    Shopper {
        name: format!("S{index:03}"),
        ceiling: ceiling * YUAN,
        payment_cap: payment_cap * YUAN,
        guarantee: guarantee * YUAN,
        tier: 1,
        scenes: vec![Scene::Online, Scene::MerchantPresented, Scene::PayerPresented, Scene::InApp],
        state: MandateState::Active,
    }
}

/// Who shops. The last ones exist for the orders that must be refused, one kind of trouble each.
fn shoppers() -> Vec<Shopper> {
    let mut all: Vec<Shopper> = (1..=N_ORDINARY).map(|index| shopper(index, 50_000, 5_000, 40_000)).collect();
    let mut add = |count: usize, make: &dyn Fn(usize) -> Shopper| {
        for _ in 0..count {
            let it = make(all.len() + 1);
            all.push(it);
        }
    };
    add(N_PREMIUM, &|index| shopper(index, 400_000, 50_000, 400_000));
    add(4, &|index| shopper(index, 50_000, 5_000, 200)); // a small guarantee
    add(4, &|index| shopper(index, 300, 5_000, 10_000)); // a low ceiling
    add(4, &|index| Shopper { state: MandateState::Suspended, ..shopper(index, 50_000, 5_000, 5_000) });
    add(4, &|index| Shopper { state: MandateState::Revoked, ..shopper(index, 50_000, 5_000, 5_000) });
    add(4, &|index| Shopper { state: MandateState::Proposed, ..shopper(index, 50_000, 5_000, 5_000) });
    add(4, &|index| shopper(index, 50_000, 5_000, 0)); // no guarantee at all
    add(4, &|index| Shopper { scenes: vec![Scene::Online], ..shopper(index, 50_000, 5_000, 5_000) });
    all
}

impl Maker {
    fn push(&mut self, shopper: usize, trade: &Trade, amount: u64, story: Vec<Step>, status: Status) {
        let mut captured = 0;
        let mut refunded = 0;
        for step in story.iter().filter(|step| step.refused.is_none()) {
            match step.action {
                Action::Pay => captured += amount,
                Action::Capture(part) | Action::Last(part) => captured += part,
                Action::Refund(part) if step.twist != Some(Twist::Fails) => refunded += part,
                _ => {}
            }
        }
        let merchant = self.merchant_of(trade.category);
        let scene = *self.dice.pick(trade.scenes);
        self.orders.push(Order {
            id: String::new(),
            shopper: self.shoppers[shopper].name.clone(),
            merchant: format!("M{merchant:02}"),
            category: trade.category,
            scene,
            amount,
            story,
            status,
            captured,
            refunded,
        });
    }

    /// A merchant stays in its trade: merchant n belongs to trade n, n + 15, n + 30, n + 45.
    fn merchant_of(&mut self, category: u16) -> usize {
        let n_trades = TRADES.len() + HOLD_TRADES.len();
        let trade = TRADES.iter().chain(HOLD_TRADES).position(|it| it.category == category).unwrap_or(0);
        let round = self.dice.between(0, (N_MERCHANTS / n_trades) as u64 - 1);
        1 + trade + n_trades * usize::try_from(round).unwrap_or(0)
    }

    fn last(&mut self) -> &mut Order {
        self.orders.last_mut().expect("called after a push")
    }

    /// A price: small ones are far more common than large ones, and most end in .00, .90 or .99.
    fn price(&mut self, low: u64, high: u64) -> u64 {
        let roof = self.dice.between(low, high);
        let roof = self.dice.between(low, roof);
        let raw = self.dice.between(low, roof);
        let ending = *self.dice.pick(&[None, None, Some(0), Some(90), Some(99)]);
        ending.map_or(raw, |ending| (raw / YUAN * YUAN + ending).clamp(low, high))
    }

    /// A shopper of the group whose line and guarantee surely cover `amount` more.
    fn shopper_for(&mut self, group: std::ops::Range<usize>, amount: u64) -> usize {
        loop {
            let index = usize::try_from(self.dice.between(group.start as u64, group.end as u64 - 1)).unwrap_or(0);
            let room = self.shoppers[index].ceiling.min(self.shoppers[index].guarantee);
            if self.used[index] + amount <= room {
                self.used[index] += amount;
                return index;
            }
        }
    }

    fn paid(&mut self, then: impl FnOnce(&mut Self, u64) -> Vec<Step>) {
        let trade = self.dice.pick(TRADES);
        let amount = self.price(trade.low, trade.high).max(1);
        let shopper = self.shopper_for(0..N_ORDINARY, amount);
        let mut story = vec![Step::new(Action::Pay)];
        story.extend(then(self, amount));
        self.push(shopper, trade, amount, story, Status::Captured);
    }

    /// Payments inside the guarantee: most of a day's business.
    fn ordinary(&mut self) {
        for _ in 0..900 {
            self.paid(|_, _| vec![]);
        }
        for amount in [1, 1, 2, 3, 41, 42, 83, 84, 100, 1_000_000 / 2] {
            let shopper = self.shopper_for(0..N_ORDINARY, amount);
            self.push(shopper, &TRADES[11], amount, vec![Step::new(Action::Pay)], Status::Captured);
        }
        for _ in 0..8 {
            self.paid(|_, _| vec![Step::new(Action::Again)]);
        }
        for index in 0..66 {
            self.paid(|maker, amount| {
                let mut story = if index % 2 == 0 { vec![Step::new(Action::NextWindow)] } else { vec![] };
                story.extend(maker.refunds(amount));
                story
            });
        }
        // Fifty refunds are allowed, the fifty-first is not.
        let shopper = self.shopper_for(0..N_ORDINARY, 9_999);
        let mut story = vec![Step::new(Action::Pay)];
        story.extend((0..50).map(|index| Step::new(Action::Refund(100 + index))));
        story.push(Step::new(Action::Refund(1)).refused(5009));
        self.push(shopper, &TRADES[4], 9_999, story, Status::Captured);
    }

    /// Partial, several, full, failed, and one fen too many.
    fn refunds(&mut self, amount: u64) -> Vec<Step> {
        let part = self.dice.between(1, amount);
        let full = Step::new(Action::Refund(amount));
        match self.dice.next() % 5 {
            0 => vec![full],
            1 if amount > 1 => {
                let first = self.dice.between(1, amount - 1);
                vec![Step::new(Action::Refund(first)), Step::new(Action::Refund(amount - first))]
            }
            2 => vec![full.twist(Twist::Fails), Step::new(Action::Refund(part))],
            3 => vec![Step::new(Action::Refund(part)), Step::new(Action::Refund(amount - part + 1)).refused(5008)],
            _ => vec![Step::new(Action::Refund(part))],
        }
    }

    /// Large purchases.
    fn premium(&mut self) {
        for _ in 0..30 {
            let amount = self.price(500_001, 5_000_000);
            let shopper = self.shopper_for(N_ORDINARY..N_ORDINARY + N_PREMIUM, amount);
            self.push(shopper, &TRADES[4], amount, vec![Step::new(Action::Pay)], Status::Captured);
        }
        // The published example of the founding schedule, and the cap itself.
        for amount in [1_000_000, 5_000_000] {
            let shopper = self.shopper_for(N_ORDINARY..N_ORDINARY + N_PREMIUM, amount);
            self.push(shopper, &TRADES[4], amount, vec![Step::new(Action::Pay)], Status::Captured);
        }
    }

    fn held(&mut self, status: Status, story: impl FnOnce(&mut Self, u64) -> Vec<Step>) {
        let trade = self.dice.pick(HOLD_TRADES);
        let amount = self.price(trade.low, trade.high);
        let shopper = self.shopper_for(0..N_ORDINARY, amount);
        let story = story(self, amount);
        self.push(shopper, trade, amount, story, status);
    }

    /// Request, hold, and everything that can become of a hold.
    fn holds(&mut self) {
        let begin = || vec![Step::new(Action::Request), Step::new(Action::Hold)];
        let then = |steps: &[Step]| {
            let mut story = begin();
            story.extend_from_slice(steps);
            story
        };
        for _ in 0..60 {
            self.held(Status::Captured, |_, amount| then(&[Step::new(Action::Last(amount))]));
        }
        for index in 0..40 {
            self.held(Status::Captured, |maker, amount| {
                let first = maker.dice.between(1, amount / 2);
                let second = maker.dice.between(1, amount / 3);
                let mut story = then(&[Step::new(Action::Capture(first))]);
                if index % 3 == 0 {
                    story.push(Step::new(Action::NextWindow));
                }
                story.push(Step::new(Action::Last(second)));
                if index % 4 == 0 {
                    story.push(Step::new(Action::Refund(maker.dice.between(1, first + second))));
                }
                story
            });
        }
        for _ in 0..24 {
            self.held(Status::Voided, |_, _| then(&[Step::new(Action::Void)]));
        }
        for _ in 0..12 {
            self.held(Status::Captured, |_, amount| {
                then(&[Step::new(Action::Capture(amount / 3)), Step::new(Action::Void)])
            });
        }
        for _ in 0..28 {
            self.held(Status::Declined, |_, _| vec![Step::new(Action::Request), Step::new(Action::Decline)]);
        }
        self.lapses();
        self.wrong_steps(&then);
    }

    /// Left to expire: the issuer never answers, or the acquirer never captures (all).
    fn lapses(&mut self) {
        let short = Step::new(Action::Request).twist(Twist::Short);
        for _ in 0..10 {
            self.held(Status::Expired, |_, _| vec![short, Step::new(Action::Silent), Step::new(Action::Lapse)]);
        }
        for _ in 0..12 {
            self.held(Status::Expired, |_, _| vec![short, Step::new(Action::Hold), Step::new(Action::Lapse)]);
        }
        for _ in 0..6 {
            self.held(Status::Captured, |_, amount| {
                vec![short, Step::new(Action::Hold), Step::new(Action::Capture(amount / 4)), Step::new(Action::Lapse)]
            });
        }
    }

    /// One wrong step in an otherwise good story.
    fn wrong_steps(&mut self, then: &dyn Fn(&[Step]) -> Vec<Step>) {
        for _ in 0..3 {
            self.held(Status::Captured, |_, amount| {
                let wrong = Step::new(Action::Last(amount)).twist(Twist::OtherMerchant).refused(5006);
                then(&[wrong, Step::new(Action::Last(amount))])
            });
            self.held(Status::Captured, |_, amount| {
                let wrong = Step::new(Action::Last(amount)).twist(Twist::OtherOrder).refused(5006);
                then(&[wrong, Step::new(Action::Last(amount))])
            });
            self.held(Status::Captured, |_, amount| {
                then(&[Step::new(Action::Last(amount + 1)).refused(5005), Step::new(Action::Last(amount - 1))])
            });
            self.held(Status::Captured, |_, amount| {
                then(&[Step::new(Action::Capture(0)).refused(5001), Step::new(Action::Last(amount))])
            });
            self.held(Status::Voided, |_, amount| {
                then(&[Step::new(Action::Void), Step::new(Action::Last(amount)).refused(5003)])
            });
            self.held(Status::Captured, |_, amount| {
                then(&[Step::new(Action::Last(amount)), Step::new(Action::Void).refused(5003)])
            });
            self.held(Status::Refused, |_, _| vec![Step::new(Action::Request).twist(Twist::Late).refused(4021)]);
            self.held(Status::Declined, |_, amount| {
                vec![
                    Step::new(Action::Request),
                    Step::new(Action::Decline),
                    Step::new(Action::Last(amount)).refused(5003),
                ]
            });
        }
    }

    fn shuffle(&mut self) {
        for index in (1..self.orders.len()).rev() {
            let other = usize::try_from(self.dice.between(0, index as u64)).unwrap_or(0);
            self.orders.swap(index, other);
        }
    }

    /// The single `Pay` that must be refused.
    fn refused(&mut self, shopper: usize, amount: u64, step: Step) {
        self.push(shopper, &TRADES[11], amount, vec![step], Status::Refused);
    }

    /// Orders of the shoppers with one kind of trouble each, and orders that nobody may place.
    fn special(&mut self) {
        let pay = || Step::new(Action::Pay);
        let group = |number: usize| {
            let first = N_ORDINARY + N_PREMIUM + 4 * number;
            first..first + 4
        };
        for shopper in group(0) {
            self.push(shopper, &TRADES[11], 15_000, vec![pay()], Status::Captured);
            self.refused(shopper, 5_001, pay().refused(4011));
            self.push(shopper, &TRADES[11], 5_000, vec![pay()], Status::Captured);
            self.refused(shopper, 1, pay().refused(4011));
            // Beyond the guarantee the issuer is asked, and may well say yes.
            let story = vec![Step::new(Action::Request), Step::new(Action::Hold), Step::new(Action::Last(30_000))];
            self.push(shopper, &HOLD_TRADES[2], 30_000, story, Status::Captured);
        }
        for shopper in group(1) {
            self.push(shopper, &TRADES[11], 20_000, vec![pay()], Status::Captured);
            self.refused(shopper, 10_001, pay().refused(4018));
            let story = vec![pay(), Step::new(Action::Refund(10_000))];
            self.push(shopper, &TRADES[11], 10_000, story, Status::Captured);
            // What was given back frees the line.
            self.push(shopper, &TRADES[11], 10_000, vec![pay()], Status::Captured);
            self.refused(shopper, 1, pay().refused(4018));
        }
        for (number, code) in [(2, 4003), (3, 4004), (4, 4002), (5, 4010)] {
            for shopper in group(number) {
                let amount = self.price(100, 90_000);
                self.refused(shopper, amount, pay().refused(code));
                if code != 4010 {
                    self.refused(shopper, amount, Step::new(Action::Request).refused(code));
                }
            }
        }
        for shopper in group(5) {
            let story = vec![Step::new(Action::Request), Step::new(Action::Hold), Step::new(Action::Last(8_800))];
            self.push(shopper, &HOLD_TRADES[2], 8_800, story, Status::Captured);
        }
        for shopper in group(6) {
            self.refused(shopper, 1_250, pay().refused(2006));
            self.last().scene = Scene::PayerPresented;
            self.push(shopper, &TRADES[11], 1_250, vec![pay()], Status::Captured);
            self.last().scene = Scene::Online;
        }
        for _ in 0..12 {
            let amount = self.price(1_000, 200_000);
            let shopper = self.shopper_for(0..N_ORDINARY, 0);
            self.refused(shopper, amount, pay().refused(2007));
            self.last().scene = Scene::SocialTransfer;
            self.refused(shopper, amount, Step::new(Action::Request).refused(2007));
            self.last().scene = Scene::SocialTransfer;
        }
        for _ in 0..6 {
            let shopper = self.shopper_for(0..N_ORDINARY, 0);
            self.refused(shopper, 0, pay().refused(5001));
            self.refused(shopper, 500_001, pay().refused(4017));
            self.refused(shopper, 2_500, pay().twist(Twist::Stale).refused(4013));
            self.refused(shopper, 2_500, pay().twist(Twist::Unknown).refused(3004));
            let amount = self.price(1_000, 40_000);
            let shopper = self.shopper_for(0..N_ORDINARY, amount);
            let story = vec![pay(), Step::new(Action::Again).twist(Twist::OtherBody).refused(3001)];
            self.push(shopper, &TRADES[11], amount, story, Status::Captured);
            let amount = self.price(1_000, 40_000);
            let shopper = self.shopper_for(0..N_ORDINARY, amount);
            let story = vec![
                pay(),
                Step::new(Action::Refund(amount)).twist(Twist::Unknown).refused(3005),
                Step::new(Action::Refund(0)).refused(5001),
                Step::new(Action::Refund(amount)).twist(Twist::OtherOrder).refused(5006),
                Step::new(Action::Refund(amount)),
            ];
            self.push(shopper, &TRADES[11], amount, story, Status::Captured);
        }
    }

    /// Mixes the special orders among the others without changing the order of any one shopper's, then numbers them.
    fn spread(&mut self) {
        let n_plain = self.orders.iter().position(|order| order.story.iter().any(|step| step.refused == Some(4011)));
        let special = self.orders.split_off(n_plain.map_or(self.orders.len(), |index| index.saturating_sub(1)));
        let plain = std::mem::take(&mut self.orders);
        let (n_plain, n_special) = (plain.len(), special.len());
        let (mut plain, mut special) = (plain.into_iter(), special.into_iter());
        for index in 0..n_plain + n_special {
            let left = n_plain + n_special - index;
            let take_special = self.dice.next() % (left as u64) < special.len() as u64;
            let next = if take_special { special.next() } else { plain.next() };
            self.orders.extend(next);
        }
        for (index, order) in self.orders.iter_mut().enumerate() {
            order.id = format!("O{:04}", index + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orders::{ORDERS_HEADER, SHOPPERS_HEADER, load, to_text};
    use std::collections::BTreeMap;

    /// The seed of the shipped files.
    const SEED: u64 = 20_260_101;

    #[test]
    fn the_shipped_files_are_what_the_seed_gives() {
        let (shoppers, orders) = generate(SEED);
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let shipped: Vec<Order> = load(&folder.join("orders.csv"), ORDERS_HEADER).expect("orders.csv");
        assert_eq!(to_text(ORDERS_HEADER, &shipped), to_text(ORDERS_HEADER, &orders));
        let shipped: Vec<Shopper> = load(&folder.join("shoppers.csv"), SHOPPERS_HEADER).expect("shoppers.csv");
        assert_eq!(to_text(SHOPPERS_HEADER, &shipped), to_text(SHOPPERS_HEADER, &shoppers));
    }

    #[test]
    fn the_input_is_large_and_varied() {
        let (shoppers, orders) = generate(SEED);
        assert!(orders.len() >= 1_200, "{}", orders.len());
        assert_eq!(shoppers.len(), 200);
        assert!(orders.iter().any(|order| order.amount == 1) && orders.iter().any(|order| order.amount == 5_000_000));
        let mut codes: BTreeMap<u16, usize> = BTreeMap::new();
        for code in orders.iter().flat_map(|order| &order.story).filter_map(|step| step.refused) {
            *codes.entry(code).or_default() += 1;
        }
        let wanted = [
            2006, 2007, 3001, 3004, 3005, 4002, 4003, 4004, 4010, 4011, 4013, 4017, 4018, 4021, 5001, 5003, 5005, 5006,
            5008, 5009,
        ];
        assert!(wanted.iter().all(|code| codes.contains_key(code)), "{codes:?}");
        for (status, name) in Status::NAMES {
            assert!(orders.iter().filter(|order| order.status == status).count() >= 20, "{name}");
        }
    }

    #[test]
    fn nobody_spends_more_than_their_line_by_accident() {
        let (shoppers, orders) = generate(SEED);
        for shopper in shoppers.iter().take(N_ORDINARY + N_PREMIUM) {
            let mine = orders.iter().filter(|order| order.shopper == shopper.name);
            let sum: u64 = mine.filter(|order| order.status != Status::Refused).map(|order| order.amount).sum();
            assert!(sum <= shopper.ceiling.min(shopper.guarantee), "{}: {sum}", shopper.name);
        }
    }
}
