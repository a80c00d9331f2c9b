//! Randomness from a printed seed.

/// SplitMix64. Set `ANJI_TEST_SEED` to repeat a run.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// From `ANJI_TEST_SEED`, or from the clock; prints the seed either way.
    #[must_use]
    pub fn from_environment(test: &str) -> Self {
        let given = std::env::var("ANJI_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let seed = given.unwrap_or_else(|| u64::from(clock.subsec_nanos()) ^ clock.as_secs());
        println!("{test}: seed {seed} (repeat with ANJI_TEST_SEED={seed})");
        Self(seed)
    }

    /// From a given seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll() % (high - low + 1)
    }

    /// One of the items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[usize::try_from(self.roll() % items.len() as u64).unwrap_or(0)]
    }
}
