//! Local response normalization across channels, with Caffe's meaning of its numbers.

/// `y = x · scale^-beta` with `scale = k + alpha / size · Σ x²` over the `size` channels around each one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lrn {
    /// Channels of the window, an odd number; those beyond the first and last channel count as 0.
    pub size: usize,
    /// Weight of the mean square.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Constant; positive.
    pub k: f32,
}

impl Lrn {
    /// Normalizes images of `channels` planes of `area` values.
    ///
    /// `scale` gets what [`Self::backward`] needs. All slices are [images, channels, area].
    pub fn forward(
        &self,
        channels: usize,
        area: usize,
        input: &[f32],
        output: &mut [f32],
        scale: &mut [f32],
    ) {
        let image = self.check(channels, area, input.len());
        assert_eq!(output.len(), input.len());
        assert_eq!(scale.len(), input.len());
        let outputs = output
            .chunks_exact_mut(image)
            .zip(scale.chunks_exact_mut(image));
        for (input, (output, scale)) in input.chunks_exact(image).zip(outputs) {
            scales(self, channels, area, input, scale);
            for ((output, input), scale) in output.iter_mut().zip(input).zip(&*scale) {
                *output = input * self.power(*scale);
            }
        }
    }

    /// The gradient of the input, overwritten.
    ///
    /// `scale` comes from [`Self::forward`]. All slices are [images, channels, area].
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        &self,
        channels: usize,
        area: usize,
        input: &[f32],
        output: &[f32],
        scale: &[f32],
        output_gradient: &[f32],
        input_gradient: &mut [f32],
    ) {
        let image = self.check(channels, area, input.len());
        for other in [output, scale, output_gradient, input_gradient] {
            assert_eq!(other.len(), input.len());
        }
        let factor = 2.0 * self.alpha * self.beta / self.size as f32;
        for first in (0..input.len()).step_by(image) {
            let one = first..first + image;
            spread(
                self,
                [channels, area],
                factor,
                &input[one.clone()],
                &output[one.clone()],
                &scale[one.clone()],
                &output_gradient[one.clone()],
                &mut input_gradient[one.clone()],
            );
            let values = input_gradient[one.clone()]
                .iter_mut()
                .zip(&scale[one.clone()]);
            for ((gradient, scale), output) in values.zip(&output_gradient[one]) {
                *gradient += output * self.power(*scale);
            }
        }
    }

    /// `scale^-beta`, by square roots for the exponent that everybody uses.
    #[inline(always)]
    fn power(&self, scale: f32) -> f32 {
        if self.beta == 0.75 {
            let root = scale.sqrt();
            1.0 / (root * root.sqrt())
        } else {
            scale.powf(-self.beta)
        }
    }

    /// Values of an image.
    fn check(&self, channels: usize, area: usize, length: usize) -> usize {
        assert!(self.size % 2 == 1, "the window of {self:?} has no middle");
        let image = channels * area;
        assert!(image > 0 && length.is_multiple_of(image));
        image
    }

    /// The channels in the window around one of them.
    #[inline(always)]
    fn window(&self, channel: usize, channels: usize) -> std::ops::Range<usize> {
        let half = self.size / 2;
        channel.saturating_sub(half)..channels.min(channel + half + 1)
    }
}

multiversion! {
    fn scales(lrn: &Lrn, channels: usize, area: usize, input: &[f32], scale: &mut [f32]) {
        let factor = lrn.alpha / lrn.size as f32;
        for (channel, scale) in scale.chunks_exact_mut(area).enumerate() {
            scale.fill(0.0);
            for near in lrn.window(channel, channels) {
                for (scale, input) in scale.iter_mut().zip(&input[near * area..(near + 1) * area]) {
                    *scale += input * input;
                }
            }
            for scale in scale {
                *scale = lrn.k + factor * *scale;
            }
        }
    }
}

multiversion! {
    fn spread(
        lrn: &Lrn,
        shape: [usize; 2],
        factor: f32,
        input: &[f32],
        output: &[f32],
        scale: &[f32],
        output_gradient: &[f32],
        input_gradient: &mut [f32],
    ) {
        let [channels, area] = shape;
        for (channel, gradient) in input_gradient.chunks_exact_mut(area).enumerate() {
            gradient.fill(0.0);
            for near in lrn.window(channel, channels) {
                let near = near * area..(near + 1) * area;
                let values = output[near.clone()].iter().zip(&scale[near.clone()]);
                for ((gradient, (output, scale)), above) in
                    gradient.iter_mut().zip(values).zip(&output_gradient[near])
                {
                    *gradient += above * output / scale;
                }
            }
            let input = &input[channel * area..(channel + 1) * area];
            for (gradient, input) in gradient.iter_mut().zip(input) {
                *gradient *= -factor * input;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, finite_differences, numbers, weighted};

    fn settings() -> [Lrn; 4] {
        let caffe = Lrn {
            size: 5,
            alpha: 1e-4,
            beta: 0.75,
            k: 1.0,
        };
        [
            caffe,
            Lrn {
                alpha: 2.0,
                ..caffe
            },
            Lrn {
                size: 3,
                alpha: 0.5,
                beta: 0.6,
                k: 2.0,
            },
            Lrn {
                size: 1,
                alpha: 1.0,
                beta: 1.0,
                k: 0.5,
            },
        ]
    }

    #[test]
    fn the_output_matches_plain_loops() {
        for lrn in settings() {
            for (images, channels, area) in [(1, 1, 1), (2, 3, 7), (1, 12, 20)] {
                let input = numbers(images * channels * area, 1);
                let [mut output, mut scale] = [(); 2].map(|()| vec![f32::NAN; input.len()]);
                lrn.forward(channels, area, &input, &mut output, &mut scale);
                let at = |image: usize, channel: usize, pixel: usize| {
                    f64::from(input[(image * channels + channel) * area + pixel])
                };
                let mut reference = Vec::new();
                for image in 0..images {
                    for channel in 0..channels {
                        for pixel in 0..area {
                            let half = lrn.size / 2;
                            let squares: f64 = (0..channels)
                                .filter(|near| near.abs_diff(channel) <= half)
                                .map(|near| at(image, near, pixel).powi(2))
                                .sum();
                            let scale =
                                f64::from(lrn.k) + f64::from(lrn.alpha) / lrn.size as f64 * squares;
                            reference
                                .push(at(image, channel, pixel) * scale.powf(-f64::from(lrn.beta)));
                        }
                    }
                }
                assert_close(&output, &reference, &format!("{lrn:?}"));
            }
        }
    }

    #[test]
    fn the_gradient_matches_finite_differences() {
        for lrn in settings() {
            let (channels, area) = (6, 3);
            let input = numbers(2 * channels * area, 1);
            let above = numbers(input.len(), 2);
            let [mut output, mut scale, mut gradient] =
                [(); 3].map(|()| vec![f32::NAN; input.len()]);
            let reference = finite_differences(&input, 1e-2, |input| {
                lrn.forward(channels, area, input, &mut output, &mut scale);
                weighted(&output, &above)
            });
            lrn.forward(channels, area, &input, &mut output, &mut scale);
            lrn.backward(
                channels,
                area,
                &input,
                &output,
                &scale,
                &above,
                &mut gradient,
            );
            for (gradient, reference) in gradient.iter().zip(reference) {
                assert!(
                    (f64::from(*gradient) - reference).abs() < 2e-3,
                    "{gradient}, not {reference}"
                );
            }
        }
    }
}
