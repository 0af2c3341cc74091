//! Inverted dropout with a counter-based mask: element `i` of image `n` is kept or not by a hash of
//! (seed, step, layer, n, i) alone, so the mask needs no memory and no generator state, and is the same
//! for any split of the batch over lanes and threads.

/// What the mask of one layer in one training step depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability that an element is dropped, in `0.0..1.0`.
    pub probability: f32,
    /// Seed of the run.
    pub seed: u64,
    /// Training step.
    pub step: u64,
    /// Number of the layer in its network.
    pub layer: u64,
}

impl Dropout {
    /// `output = input / (1 - p)` where kept, else 0.
    ///
    /// `first_image` is the number of the first image of these slices in the whole batch; both slices
    /// hold the same number of images of `elements` values each.
    pub fn forward(&self, first_image: usize, elements: usize, input: &[f32], output: &mut [f32]) {
        assert_eq!(input.len(), output.len());
        assert!(elements > 0 && input.len().is_multiple_of(elements));
        let (threshold, factor) = self.constants();
        let pairs = input
            .chunks_exact(elements)
            .zip(output.chunks_exact_mut(elements));
        for (image, (input, output)) in pairs.enumerate() {
            apply(
                self.key(first_image + image),
                threshold,
                factor,
                input,
                output,
            );
        }
    }

    /// `input_gradient = output_gradient / (1 - p)` where kept, else 0: the mask of [`Self::forward`].
    pub fn backward(
        &self,
        first_image: usize,
        elements: usize,
        output_gradient: &[f32],
        input_gradient: &mut [f32],
    ) {
        self.forward(first_image, elements, output_gradient, input_gradient);
    }

    /// The hash from which an element is kept on, and the factor of kept elements.
    fn constants(&self) -> (u32, f32) {
        assert!((0.0..1.0).contains(&self.probability));
        let threshold = (f64::from(self.probability) * 4_294_967_296.0) as u32;
        (threshold, 1.0 / (1.0 - self.probability))
    }

    fn key(&self, image: usize) -> [u32; 2] {
        let mut key = mix64(self.seed ^ 0x9e37_79b9_7f4a_7c15);
        for part in [self.step, self.layer, image as u64] {
            key = mix64(key.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ part);
        }
        [key as u32, (key >> 32) as u32]
    }
}

/// The finalizer of SplitMix64.
fn mix64(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A 32-bit hash of the element's number under a 64-bit key: two rounds of multiply and xor-shift, which
/// vector units have for 32-bit lanes, with the second half of the key between them.
#[inline(always)]
fn hash(key: [u32; 2], element: u32) -> u32 {
    let mut x = element ^ key[0];
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x = (x ^ (x >> 16)).wrapping_add(key[1]);
    x = (x ^ (x >> 16)).wrapping_mul(0x21f0_aaad);
    x ^ (x >> 15)
}

multiversion! {
    fn apply(key: [u32; 2], threshold: u32, factor: f32, input: &[f32], output: &mut [f32]) {
        for (element, (input, output)) in input.iter().zip(output).enumerate() {
            *output = if hash(key, element as u32) >= threshold { input * factor } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    const DROPOUT: Dropout = Dropout {
        probability: 0.5,
        seed: 1,
        step: 2,
        layer: 3,
    };

    /// The mask of one image of `elements` values.
    fn mask(dropout: &Dropout, image: usize, elements: usize) -> Vec<bool> {
        let mut output = vec![f32::NAN; elements];
        dropout.forward(image, elements, &vec![1.0; elements], &mut output);
        output.iter().map(|x| *x != 0.0).collect()
    }

    #[test]
    fn kept_values_are_scaled_and_the_others_are_zero() {
        let input: Vec<f32> = numbers(1000, 1).iter().map(|x| x + 2.0).collect();
        for probability in [0.0, 0.1, 0.5, 0.9] {
            let dropout = Dropout {
                probability,
                ..DROPOUT
            };
            let mut output = vec![f32::NAN; 1000];
            dropout.forward(0, 250, &input, &mut output);
            let factor = 1.0 / (1.0 - probability);
            assert!(
                output
                    .iter()
                    .zip(&input)
                    .all(|(y, x)| *y == 0.0 || *y == x * factor)
            );
            if probability == 0.0 {
                assert_eq!(output, input);
            }
            let mut gradient = vec![f32::NAN; 1000];
            dropout.backward(0, 250, &input, &mut gradient);
            assert_eq!(gradient, output);
        }
    }

    #[test]
    fn as_many_are_kept_as_asked_in_every_image_and_position() {
        for probability in [0.1f32, 0.5, 0.8] {
            let dropout = Dropout {
                probability,
                ..DROPOUT
            };
            let masks: Vec<_> = (0..1000).map(|image| mask(&dropout, image, 1000)).collect();
            let kept = |count: usize, of: usize, deviations: f64| {
                let rate = 1.0 - f64::from(probability);
                let deviation = (rate * (1.0 - rate) * of as f64).sqrt();
                let difference = (count as f64 - rate * of as f64).abs();
                assert!(
                    difference < deviations * deviation,
                    "{probability}: {count} of {of}"
                );
            };
            kept(
                masks.iter().flatten().filter(|kept| **kept).count(),
                1_000_000,
                4.0,
            );
            for number in 0..1000 {
                kept(
                    masks[number].iter().filter(|kept| **kept).count(),
                    1000,
                    5.0,
                );
                kept(masks.iter().filter(|mask| mask[number]).count(), 1000, 5.0);
            }
        }
    }

    #[test]
    fn masks_of_different_keys_agree_by_chance_only() {
        let base = mask(&DROPOUT, 5, 10_000);
        let others = [
            mask(&DROPOUT, 6, 10_000),
            mask(&DROPOUT, 4, 10_000),
            mask(&Dropout { seed: 2, ..DROPOUT }, 5, 10_000),
            mask(&Dropout { step: 3, ..DROPOUT }, 5, 10_000),
            mask(
                &Dropout {
                    layer: 4,
                    ..DROPOUT
                },
                5,
                10_000,
            ),
            mask(
                &Dropout {
                    step: 3,
                    layer: 2,
                    ..DROPOUT
                },
                5,
                10_000,
            ),
            base[1..].iter().chain(&base[..1]).copied().collect(),
            base[64..].iter().chain(&base[..64]).copied().collect(),
        ];
        for (number, other) in others.iter().enumerate() {
            let equal = base.iter().zip(other).filter(|(a, b)| a == b).count();
            assert!(
                (4700..5300).contains(&equal),
                "mask {number}: {equal} of 10000"
            );
        }
    }

    #[test]
    fn the_mask_does_not_depend_on_how_the_batch_is_split() {
        let input = numbers(8 * 37, 1);
        let mut whole = vec![f32::NAN; input.len()];
        DROPOUT.forward(0, 37, &input, &mut whole);
        let mut parts = vec![f32::NAN; input.len()];
        for (first, end) in [(0, 1), (1, 4), (4, 8)] {
            let range = first * 37..end * 37;
            DROPOUT.forward(first, 37, &input[range.clone()], &mut parts[range]);
        }
        assert_eq!(whole, parts);
    }
}
