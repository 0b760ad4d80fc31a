//! Random numbers that are the same in every run and on every machine.

/// A linear congruential generator modulo 2^64 with Knuth's MMIX constants. Its upper 31 bits are used.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator that starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The generator for a tensor's name.
    pub fn named(name: &str) -> Self {
        let hash = |seed: u64, byte| seed.wrapping_mul(31) ^ u64::from(byte);
        Self::new(name.bytes().fold(1, hash))
    }

    /// 31 random bits.
    pub fn bits(&mut self) -> u32 {
        self.0 = (self.0)
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// A number from 0 to `n` - 1.
    ///
    /// # Panics
    ///
    /// For `n` of 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.bits() as usize % n
    }

    /// A uniform number from -1 to 1.
    pub fn f64(&mut self) -> f64 {
        f64::from(self.bits()) / f64::from(1u32 << 30) - 1.0
    }

    /// The same as `f32`.
    pub fn f32(&mut self) -> f32 {
        self.f64() as f32
    }

    /// `n` random bytes.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.bits() as u8).collect()
    }

    /// `n` uniform numbers from -1 to 1.
    pub fn f64s(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.f64()).collect()
    }

    /// `n` uniform numbers from -1 to 1.
    pub fn f32s(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.f32()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_are_spread_from_minus_one_to_one() {
        let numbers = Random::new(1).f64s(10_000);
        assert!(numbers.iter().all(|x| (-1.0..1.0).contains(x)));
        let mean = numbers.iter().sum::<f64>() / 1e4;
        let variance = numbers.iter().map(|x| x * x).sum::<f64>() / 1e4;
        assert!(
            mean.abs() < 0.03 && (variance - 1.0 / 3.0).abs() < 0.02,
            "{mean} {variance}"
        );
        assert_ne!(Random::new(2).f64s(4), Random::new(3).f64s(4));
        assert_ne!(Random::named("a").bits(), Random::named("b").bits());
    }
}
