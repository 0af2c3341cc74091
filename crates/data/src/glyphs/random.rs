//! Random numbers whose values are defined here, down to the bit, and by the ChaCha cipher alone.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream of random numbers is for; no two uses share numbers.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    TrainImages = 1,
    TestImages = 2,
    TrainLabels = 3,
    TestLabels = 4,
}

/// A stream of random numbers.
pub(super) struct Random(ChaCha8Rng);

impl Random {
    /// The stream of item `index` of one purpose under one seed.
    pub fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8] = purpose as u8;
        key[16..22].copy_from_slice(b"glyphs");
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(index);
        Self(generator)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1 << 24) as f32
    }

    /// Uniform between two numbers.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Uniform between `-reach` and `reach`.
    pub fn around(&mut self, reach: f32) -> f32 {
        self.between(-reach, reach)
    }

    /// True with the given probability.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// Uniform in `0..bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u64::from(self.0.next_u32()) * bound as u64) >> 32) as usize
    }

    /// Bell-shaped with mean 0 and standard deviation 1, never beyond 3.46: the sum of four bytes.
    pub fn bell(&mut self) -> f32 {
        let sum: u32 = self.0.next_u32().to_le_bytes().map(u32::from).iter().sum();
        (sum as f32 - 510.0) / 147.8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_have_the_promised_moments() {
        let mut random = Random::new(7, Purpose::TrainImages, 0);
        let draws = 40_000;
        let moments = |draw: &mut dyn FnMut() -> f32| {
            let (sum, squares) = (0..draws).fold((0.0, 0.0), |(sum, squares), _| {
                let x = f64::from(draw());
                (sum + x, squares + x * x)
            });
            let mean = sum / f64::from(draws);
            (mean, (squares / f64::from(draws) - mean * mean).sqrt())
        };
        let (mean, deviation) = moments(&mut || random.bell());
        assert!(mean.abs() < 0.02 && (deviation - 1.0).abs() < 0.02);
        let (mean, deviation) = moments(&mut || random.between(2.0, 4.0));
        assert!((mean - 3.0).abs() < 0.02 && (deviation - 1.0 / 3f64.sqrt()).abs() < 0.02);
        let (mean, _) = moments(&mut || random.below(5) as f32);
        assert!((mean - 2.0).abs() < 0.05);
    }

    #[test]
    fn purposes_seeds_and_indices_have_streams_of_their_own() {
        let first = |seed, purpose, index| Random::new(seed, purpose, index).unit().to_bits();
        let reference = first(0, Purpose::TrainImages, 0);
        assert_eq!(reference, first(0, Purpose::TrainImages, 0));
        assert_ne!(reference, first(1, Purpose::TrainImages, 0));
        assert_ne!(reference, first(0, Purpose::TestImages, 0));
        assert_ne!(reference, first(0, Purpose::TrainImages, 1));
    }
}
