//! Layers that treat every value, or every place, on its own.

multiversion! {
    /// `output = input * scale + shift`, negative results replaced by 0 with `relu`.
    pub(super) fn affine(scale: f32, shift: f32, relu: bool, input: &[f32], output: &mut [f32]) {
        for (output, input) in output.iter_mut().zip(input) {
            let value = input * scale + shift;
            *output = if relu && value < 0.0 { 0.0 } else { value };
        }
    }
}

multiversion! {
    /// `output += input`.
    pub(super) fn add(input: &[f32], output: &mut [f32]) {
        for (output, input) in output.iter_mut().zip(input) {
            *output += input;
        }
    }
}

multiversion! {
    /// Replaces negative values by 0.
    pub(super) fn relu(values: &mut [f32]) {
        for value in values {
            *value = if *value < 0.0 { 0.0 } else { *value };
        }
    }
}

/// Local response normalization: x / (k + alpha/size · Σ x²)^beta over `size` neighbouring channels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalization {
    /// Number of neighbouring channels, odd.
    pub size: usize,
    /// Factor of the mean of squares.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Constant term, positive.
    pub k: f32,
}

impl Normalization {
    /// Normalizes one channel of `stride` values.
    pub fn run(
        &self,
        channels: usize,
        channel: usize,
        stride: usize,
        input: &[f32],
        output: &mut [f32],
    ) {
        let half = self.size / 2;
        let output = &mut output[..stride];
        output.fill(0.0);
        for near in channel.saturating_sub(half)..channels.min(channel + half + 1) {
            squares(&input[near * stride..][..stride], output);
        }
        normalize(self, &input[channel * stride..][..stride], output);
    }
}

multiversion! {
    fn squares(input: &[f32], sums: &mut [f32]) {
        for (sum, input) in sums.iter_mut().zip(input) {
            *sum += input * input;
        }
    }
}

multiversion! {
    fn normalize(lrn: &Normalization, input: &[f32], sums: &mut [f32]) {
        let factor = lrn.alpha / lrn.size as f32;
        if lrn.beta == 0.75 {
            for (sum, input) in sums.iter_mut().zip(input) {
                let root = (lrn.k + factor * *sum).sqrt();
                *sum = input / (root * root.sqrt());
            }
        } else {
            for (sum, input) in sums.iter_mut().zip(input) {
                *sum = input * (lrn.k + factor * *sum).powf(-lrn.beta);
            }
        }
    }
}

/// Softmax in place.
pub(super) fn softmax(values: &mut [f32]) {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in values.iter_mut() {
        *value = (*value - largest).exp();
        sum += *value;
    }
    values.iter_mut().for_each(|value| *value /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lrn::Lrn;
    use crate::testing::{assert_close, numbers};

    #[test]
    fn normalization_matches_that_of_training() {
        for (size, beta, channels, area) in [(5, 0.75, 7, 48), (3, 0.5, 2, 16), (5, 0.75, 1, 32)] {
            let input = numbers(channels * area, 3);
            let (mut expected, mut scale) = (input.clone(), input.clone());
            let (alpha, k) = (0.3, 2.0);
            Lrn {
                size,
                alpha,
                beta,
                k,
            }
            .forward(channels, area, &input, &mut expected, &mut scale);
            let lrn = Normalization {
                size,
                alpha,
                beta,
                k,
            };
            let mut output = vec![f32::NAN; input.len()];
            for (channel, output) in output.chunks_exact_mut(area).enumerate() {
                lrn.run(channels, channel, area, &input, output);
            }
            let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
            assert_close(&output, &expected, "lrn");
        }
    }

    #[test]
    fn values_are_scaled_shifted_added_and_cut() {
        let mut output = [0.0; 3];
        affine(2.0, -1.0, true, &[0.0, 1.0, -3.0], &mut output);
        assert_eq!(output, [0.0, 1.0, 0.0]);
        affine(2.0, -1.0, false, &[0.0, 1.0, -3.0], &mut output);
        assert_eq!(output, [-1.0, 1.0, -7.0]);
        add(&[1.0, 1.0, 1.0], &mut output);
        relu(&mut output);
        assert_eq!(output, [0.0, 2.0, 0.0]);
    }

    #[test]
    fn softmax_sums_to_one_and_survives_large_values() {
        let mut values = [1000.0, 1000.0, -1000.0];
        softmax(&mut values);
        assert_eq!(values, [0.5, 0.5, 0.0]);
    }
}
