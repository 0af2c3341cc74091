//! Counter-based randomness: every draw is a pure function of its key, so that neither the order of work
//! nor the number of workers can change it.

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};

/// What random numbers are for; two purposes never share a stream.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// The order of an epoch.
    Order = 1,
    /// The augmentation of one picture.
    Augment = 2,
    /// Which pictures are held out or go to the test part.
    Divide = 3,
    /// The training pictures of the glyphs.
    GlyphsTrain = 4,
    /// The test pictures of the glyphs.
    GlyphsTest = 5,
    /// The labels of the glyphs' training pictures.
    GlyphsTrainLabels = 6,
    /// The labels of the glyphs' test pictures.
    GlyphsTestLabels = 7,
}

/// A stream of random numbers given by its key.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    /// The stream of `(seed, purpose, epoch, index)`.
    pub(crate) fn new(seed: u64, purpose: Purpose, epoch: u64, index: u64) -> Self {
        let mut key = [0; 32];
        for (bytes, word) in key
            .chunks_exact_mut(8)
            .zip([seed, purpose as u64, epoch, index])
        {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A number below `bound`, each equally likely; `bound` is at least 1.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        // Lemire's method: the high word of a product, rejecting the few low words that would favour
        // some results.
        let rejected = bound.wrapping_neg() % bound;
        loop {
            let product = u64::from(self.0.next_u32()) * u64::from(bound);
            if product as u32 >= rejected {
                return (product >> 32) as u32;
            }
        }
    }

    /// A number between `-limit` and `limit`, uniformly; exactly 0 if `limit` is 0.
    pub(crate) fn within(&mut self, limit: f32) -> f32 {
        (2.0 * self.unit() - 1.0) * limit
    }

    /// A number from 0 to below 1, uniformly.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1 << 24) as f32
    }

    /// A number between `low` and `high`, uniformly.
    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// A bell-shaped number of mean 0 and standard deviation 1, never beyond 3.46: the sum of four
    /// bytes, so that it needs no function whose bits differ between platforms.
    pub(crate) fn bell(&mut self) -> f32 {
        let bytes = self.0.next_u32().to_le_bytes();
        let sum: u32 = bytes.into_iter().map(u32::from).sum();
        (sum as f32 - 510.0) / 147.8
    }

    /// Puts 0, 1, … into `order`, shuffled (Fisher–Yates).
    pub(crate) fn permutation(&mut self, order: &mut [u32]) {
        for (index, slot) in order.iter_mut().enumerate() {
            *slot = index as u32;
        }
        for last in (1..order.len()).rev() {
            order.swap(last, self.below(last as u32 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_give_separate_streams() {
        let draw = |seed, purpose, epoch, index| {
            let mut random = Random::new(seed, purpose, epoch, index);
            [random.below(u32::MAX), random.below(u32::MAX)]
        };
        let first = draw(1, Purpose::Order, 2, 3);
        assert_eq!(first, draw(1, Purpose::Order, 2, 3));
        for other in [
            draw(0, Purpose::Order, 2, 3),
            draw(1, Purpose::Augment, 2, 3),
            draw(1, Purpose::Order, 3, 3),
            draw(1, Purpose::Order, 2, 4),
            draw(1, Purpose::Order, 3, 2),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn the_stream_of_a_key_never_changes() {
        // Held fixed because orders, augmentation and splits of published runs depend on it.
        let mut order = [0; 8];
        Random::new(7, Purpose::Order, 1, 0).permutation(&mut order);
        assert_eq!(order, [3, 2, 1, 6, 7, 0, 5, 4]);
    }

    #[test]
    fn every_number_below_a_bound_is_equally_likely() {
        let mut random = Random::new(5, Purpose::Order, 0, 0);
        let mut counts = [0_u32; 7];
        for _ in 0..70_000 {
            counts[random.below(7) as usize] += 1;
        }
        // Five standard deviations of a count are 463.
        assert!(
            counts.iter().all(|count| count.abs_diff(10_000) < 463),
            "{counts:?}"
        );
        assert_eq!(random.below(1), 0);
    }

    #[test]
    fn a_permutation_holds_each_index_once_in_a_random_place() {
        let mut mean_of_first = 0.0;
        for epoch in 0..200 {
            let mut order = [0; 100];
            Random::new(5, Purpose::Order, epoch, 0).permutation(&mut order);
            mean_of_first += f64::from(order[0]) / 200.0;
            order.sort_unstable();
            assert!(
                order
                    .iter()
                    .enumerate()
                    .all(|(index, &value)| index == value as usize)
            );
        }
        assert!((mean_of_first - 49.5).abs() < 10.2, "{mean_of_first}");
    }

    #[test]
    fn within_stays_within_and_is_centred() {
        let mut random = Random::new(1, Purpose::Augment, 0, 0);
        let draws: Vec<f32> = (0..10_000).map(|_| random.within(3.0)).collect();
        assert!(draws.iter().all(|draw| (-3.0..3.0).contains(draw)));
        assert!(draws.iter().sum::<f32>().abs() / 10_000.0 < 0.09);
        assert_eq!(random.within(0.0), 0.0);
    }

    #[test]
    fn bell_has_mean_0_and_deviation_1() {
        let mut random = Random::new(1, Purpose::GlyphsTrain, 0, 0);
        let draws: Vec<f32> = (0..20_000).map(|_| random.bell()).collect();
        let mean = draws.iter().sum::<f32>() / 20_000.0;
        let variance = draws.iter().map(|draw| draw * draw).sum::<f32>() / 20_000.0;
        assert!(mean.abs() < 0.03, "{mean}");
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
        assert!(draws.iter().all(|draw| draw.abs() < 3.46));
    }
}
