//! Seeded normal numbers, and the normal distribution. The stream is BLAKE3's and the functions are `libm`'s own, so that a seed gives
//! the same payments on every machine.

/// P(Z ≤ x).
#[must_use]
pub fn cumulative(x: f64) -> f64 {
    0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)
}

/// The x with P(Z ≤ x) = `probability`, by bisection.
#[must_use]
pub fn quantile(probability: f64) -> f64 {
    bisect(-12.0, 12.0, |x| cumulative(x) < probability)
}

/// P(Z > z and W > w) of two standard normals with a correlation, by Simpson's rule over the conditional distribution.
#[must_use]
pub fn both_above(z: f64, w: f64, correlation: f64) -> f64 {
    const STEPS: u32 = 2_000;
    let rest = (1.0 - correlation * correlation).sqrt();
    let width = (z.max(0.0) + 10.0 - z) / f64::from(STEPS);
    let density = |x: f64| libm::exp(-x * x / 2.0) / (2.0 * std::f64::consts::PI).sqrt();
    let height = |step: u32| {
        let x = z + width * f64::from(step);
        density(x) * cumulative((correlation * x - w) / rest)
    };
    let inner: f64 = (1..STEPS).map(|step| height(step) * if step % 2 == 1 { 4.0 } else { 2.0 }).sum();
    (height(0) + inner + height(STEPS)) * width / 3.0
}

/// Where a condition that holds on the left stops to hold.
#[must_use]
pub fn bisect(mut left: f64, mut right: f64, holds: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..80 {
        let middle = f64::midpoint(left, right);
        if holds(middle) {
            left = middle;
        } else {
            right = middle;
        }
    }
    f64::midpoint(left, right)
}

/// Random numbers of one seed and purpose.
#[derive(Debug)]
pub struct Stream(blake3::OutputReader);

impl Stream {
    /// The stream of a seed; `purpose` keeps streams of one seed apart.
    #[must_use]
    pub fn new(purpose: &str, seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(purpose);
        hasher.update(&seed.to_le_bytes());
        Self(hasher.finalize_xof())
    }

    /// Uniform over all 64-bit numbers.
    pub fn bits(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Uniform in (0, 1].
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Two independent standard normals (Box and Muller).
    pub fn normals(&mut self) -> [f64; 2] {
        let radius = (-2.0 * libm::log(self.uniform())).sqrt();
        let (sine, cosine) = libm::sincos(2.0 * std::f64::consts::PI * self.uniform());
        [radius * cosine, radius * sine]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_is_the_normal_one() {
        // Tables of the normal distribution; the bivariate value at 0 is 1/4 + arcsin(r) / (2 pi).
        for (x, below) in [(0.0, 0.5), (1.0, 0.841_344_746), (-1.959_963_985, 0.025), (2.326_347_874, 0.99)] {
            assert!((cumulative(x) - below).abs() < 1e-9, "{x}");
            assert!((quantile(below) - x).abs() < 1e-7, "{x}");
        }
        for r in [0.0_f64, 0.3, 0.8, -0.5] {
            let known = 0.25 + r.asin() / (2.0 * std::f64::consts::PI);
            assert!((both_above(0.0, 0.0, r) - known).abs() < 1e-9, "{r}");
        }
        assert!((both_above(1.5, -0.5, 0.0) - cumulative(-1.5) * cumulative(0.5)).abs() < 1e-9);
    }

    #[test]
    fn normals_have_mean_nought_and_variance_one() {
        let mut stream = Stream::new("anji experiment test", 1);
        let n = 200_000;
        let (mut sums, mut squares, mut product) = ([0.0; 2], [0.0; 2], 0.0);
        for _ in 0..n {
            let pair = stream.normals();
            for side in 0..2 {
                sums[side] += pair[side];
                squares[side] += pair[side] * pair[side];
            }
            product += pair[0] * pair[1];
        }
        for side in 0..2 {
            assert!((sums[side] / f64::from(n)).abs() < 0.01 && (squares[side] / f64::from(n) - 1.0).abs() < 0.02);
        }
        assert!((product / f64::from(n)).abs() < 0.01);
    }
}
