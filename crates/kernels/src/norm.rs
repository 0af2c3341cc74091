//! The pieces of batch normalization.
//!
//! The statistics are over the whole batch, which lies in several lanes, so each pass is split: every lane
//! computes sums per channel, the sums are [`combine`]d in the order of the lanes, and every lane applies the
//! result. Training takes two passes over the input for the statistics, first the sums, then the squares
//! of the differences from the mean, because a difference of two large sums would lose the variance.

/// Sums per channel over the images of one lane, overwritten.
///
/// `input` is [images, channels, area], `sums` one value per channel.
pub fn channel_sums(area: usize, input: &[f32], sums: &mut [f64]) {
    sums.fill(0.0);
    for image in images(area, input, sums.len()) {
        for (sum, plane) in sums.iter_mut().zip(image.chunks_exact(area)) {
            *sum += plane_sum(plane);
        }
    }
}

/// Sums per channel of `(x - mean)²` over the images of one lane, overwritten.
///
/// `input` is [images, channels, area], `mean` and `sums` one value per channel.
pub fn channel_squares(area: usize, input: &[f32], mean: &[f32], sums: &mut [f64]) {
    assert_eq!(mean.len(), sums.len());
    sums.fill(0.0);
    for image in images(area, input, sums.len()) {
        for ((sum, mean), plane) in sums.iter_mut().zip(mean).zip(image.chunks_exact(area)) {
            *sum += plane_squares(plane, *mean);
        }
    }
}

/// `total += sums`: adds what one lane has; start from zeros and keep the order of the lanes.
pub fn combine(sums: &[f64], total: &mut [f64]) {
    assert_eq!(sums.len(), total.len());
    for (total, sum) in total.iter_mut().zip(sums) {
        *total += sum;
    }
}

/// Adds one lane's squares about the mean of all lanes to `total`: from its `sums`, and its `squares` about `means`.
///
/// `Σ(x - m)² = Σ(x - l)² + 2 (l - m) (Σx - n l) + n (l - m)²` for the lane's mean `l` (as rounded) and `n` values.
pub fn combine_squares(
    count: usize,
    sums: &[f64],
    means: &[f32],
    squares: &[f64],
    mean: &[f32],
    total: &mut [f64],
) {
    assert!([sums.len(), means.len(), squares.len(), mean.len()] == [total.len(); 4]);
    let count = count as f64;
    for (channel, total) in total.iter_mut().enumerate() {
        let own = f64::from(means[channel]);
        let shift = own - f64::from(mean[channel]);
        let rest = sums[channel] - count * own;
        *total += squares[channel] + 2.0 * shift * rest + count * shift * shift;
    }
}

/// `average = total / count` per channel: the mean from sums, or the (biased) variance from squares.
///
/// `count` is the number of values per channel: images × area.
pub fn average(count: usize, total: &[f64], average: &mut [f32]) {
    assert_eq!(total.len(), average.len());
    for (average, total) in average.iter_mut().zip(total) {
        *average = (total / count as f64) as f32;
    }
}

/// `1 / sqrt(variance + epsilon)` per channel.
pub fn inverse_deviation(variance: &[f32], epsilon: f32, inverse: &mut [f32]) {
    assert_eq!(variance.len(), inverse.len());
    for (inverse, variance) in inverse.iter_mut().zip(variance) {
        *inverse = 1.0 / (variance + epsilon).sqrt();
    }
}

/// Moves the running statistics by `momentum` (PyTorch's meaning) towards those of a batch of `count` values
/// per channel; the running variance gets the unbiased one. With a momentum of 0 nothing changes, and with 1 nothing of what
/// was there stays, to the bit.
pub fn update_running(
    momentum: f32,
    count: usize,
    mean: &[f32],
    variance: &[f32],
    running_mean: &mut [f32],
    running_variance: &mut [f32],
) {
    assert!(
        [mean.len(), variance.len(), running_variance.len()]
            .iter()
            .all(|n| *n == running_mean.len())
    );
    let unbiased = count as f32 / (count.max(2) - 1) as f32;
    let towards = |running: &mut f32, value: f32| {
        *running = match momentum {
            0.0 => *running,
            1.0 => value,
            _ => *running + momentum * (value - *running),
        };
    };
    for (running, mean) in running_mean.iter_mut().zip(mean) {
        towards(running, *mean);
    }
    for (running, variance) in running_variance.iter_mut().zip(variance) {
        towards(running, unbiased * variance);
    }
}

/// `output = (input - mean) · inverse · scale + shift`, with `relu` rectified: training with the statistics of the batch, evaluation
/// with the running ones.
///
/// `input` and `output` are [images, channels, area], the others one value per channel.
#[allow(clippy::too_many_arguments)]
pub fn apply(
    area: usize,
    input: &[f32],
    mean: &[f32],
    inverse: &[f32],
    scale: &[f32],
    shift: &[f32],
    relu: bool,
    output: &mut [f32],
) {
    assert!(
        [mean, inverse, scale]
            .iter()
            .all(|channels| channels.len() == shift.len())
    );
    assert_eq!(input.len(), output.len());
    let channels = shift.len();
    let planes = images(area, input, channels).flat_map(|image| image.chunks_exact(area));
    for (number, (input, output)) in planes.zip(output.chunks_exact_mut(area)).enumerate() {
        let channel = number % channels;
        let factor = inverse[channel] * scale[channel];
        plane_apply(input, mean[channel], factor, shift[channel], relu, output);
    }
}

/// Sums per channel of `dy` (the gradient of the shift) and of `dy · (x - mean) · inverse` (that of the
/// scale) over the images of one lane, overwritten.
///
/// `input` and `output_gradient` are [images, channels, area], the others one value per channel.
pub fn backward_sums(
    area: usize,
    input: &[f32],
    output_gradient: &[f32],
    mean: &[f32],
    inverse: &[f32],
    shift_sums: &mut [f64],
    scale_sums: &mut [f64],
) {
    let channels = mean.len();
    assert!(
        inverse.len() == channels && shift_sums.len() == channels && scale_sums.len() == channels
    );
    assert_eq!(input.len(), output_gradient.len());
    shift_sums.fill(0.0);
    scale_sums.fill(0.0);
    for (image, gradient) in
        images(area, input, channels).zip(images(area, output_gradient, channels))
    {
        for (channel, (plane, gradient)) in image
            .chunks_exact(area)
            .zip(gradient.chunks_exact(area))
            .enumerate()
        {
            shift_sums[channel] += plane_sum(gradient);
            scale_sums[channel] +=
                plane_product(plane, mean[channel], gradient) * f64::from(inverse[channel]);
        }
    }
}

/// The gradient of the input, overwritten, when the statistics were those of the batch.
///
/// `shift_total` and `scale_total` are the combined sums of [`backward_sums`], `count` the number of values
/// per channel in the whole batch.
#[allow(clippy::too_many_arguments)]
pub fn backward_apply(
    area: usize,
    count: usize,
    input: &[f32],
    output_gradient: &[f32],
    mean: &[f32],
    inverse: &[f32],
    scale: &[f32],
    shift_total: &[f64],
    scale_total: &[f64],
    input_gradient: &mut [f32],
) {
    let channels = mean.len();
    assert!(inverse.len() == channels && scale.len() == channels);
    assert!(shift_total.len() == channels && scale_total.len() == channels);
    assert_eq!(input.len(), output_gradient.len());
    assert_eq!(input.len(), input_gradient.len());
    let planes = images(area, input, channels).flat_map(|image| image.chunks_exact(area));
    let gradients = output_gradient
        .chunks_exact(area)
        .zip(input_gradient.chunks_exact_mut(area));
    for (number, (input, (gradient, into))) in planes.zip(gradients).enumerate() {
        let channel = number % channels;
        let along = (scale_total[channel] / count as f64) as f32 * inverse[channel];
        let constant = (shift_total[channel] / count as f64) as f32;
        plane_backward(
            input,
            gradient,
            [
                mean[channel],
                along,
                constant,
                inverse[channel] * scale[channel],
            ],
            into,
        );
    }
}

/// The images of a slice, whose length must be a multiple of an image.
fn images(area: usize, values: &[f32], channels: usize) -> impl Iterator<Item = &[f32]> {
    let image = channels * area;
    assert!(image > 0 && values.len().is_multiple_of(image));
    values.chunks_exact(image)
}

multiversion! {
    fn plane_sum(plane: &[f32]) -> f64 {
        let mut sums = [0.0f64; 8];
        let chunks = plane.chunks_exact(8);
        let rest: f64 = chunks.remainder().iter().map(|x| f64::from(*x)).sum();
        for chunk in chunks {
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *sum += f64::from(*x);
            }
        }
        sums.iter().sum::<f64>() + rest
    }
}

multiversion! {
    fn plane_squares(plane: &[f32], mean: f32) -> f64 {
        let mut sums = [0.0f64; 8];
        let mean = f64::from(mean);
        let square = |x: f32| (f64::from(x) - mean) * (f64::from(x) - mean);
        let chunks = plane.chunks_exact(8);
        let rest: f64 = chunks.remainder().iter().map(|x| square(*x)).sum();
        for chunk in chunks {
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *sum += square(*x);
            }
        }
        sums.iter().sum::<f64>() + rest
    }
}

multiversion! {
    fn plane_product(plane: &[f32], mean: f32, gradient: &[f32]) -> f64 {
        let mut sums = [0.0f64; 8];
        let mean = f64::from(mean);
        let product = |x: f32, g: f32| (f64::from(x) - mean) * f64::from(g);
        let (left, right) = (plane.chunks_exact(8), gradient.chunks_exact(8));
        let rest = left.remainder().iter().zip(right.remainder());
        let rest: f64 = rest.map(|(x, g)| product(*x, *g)).sum();
        for (left, right) in left.zip(right) {
            for ((sum, x), g) in sums.iter_mut().zip(left).zip(right) {
                *sum += product(*x, *g);
            }
        }
        sums.iter().sum::<f64>() + rest
    }
}

multiversion! {
    fn plane_apply(
        input: &[f32],
        mean: f32,
        factor: f32,
        shift: f32,
        relu: bool,
        output: &mut [f32],
    ) {
        // NaN is kept by the rectifier.
        let least = if relu { 0.0 } else { f32::NEG_INFINITY };
        for (output, input) in output.iter_mut().zip(input) {
            let value = (input - mean) * factor + shift;
            *output = if value <= least { least } else { value };
        }
    }
}

multiversion! {
    fn plane_backward(input: &[f32], gradient: &[f32], numbers: [f32; 4], into: &mut [f32]) {
        let [mean, along, constant, factor] = numbers;
        for ((into, input), gradient) in into.iter_mut().zip(input).zip(gradient) {
            *into = factor * (gradient - constant - (input - mean) * along);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, finite_differences, numbers, weighted};

    const CHANNELS: usize = 3;
    const EPSILON: f32 = 1e-5;

    /// Mean and variance of a batch that lies in lanes of one, two and the remaining images.
    fn statistics(area: usize, input: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let image = CHANNELS * area;
        let count = input.len() / CHANNELS;
        let lanes = [
            &input[..image],
            &input[image..3 * image],
            &input[3 * image..],
        ];
        let [mut total, mut squares, mut partial] = [[0.0; CHANNELS]; 3];
        let [mut mean, mut variance] = [(); 2].map(|()| vec![f32::NAN; CHANNELS]);
        for lane in lanes {
            channel_sums(area, lane, &mut partial);
            combine(&partial, &mut total);
        }
        average(count, &total, &mut mean);
        for lane in lanes {
            let images = lane.len() / (CHANNELS * area);
            let [mut sums, mut own] = [[0.0; CHANNELS]; 2];
            let mut means = [f32::NAN; CHANNELS];
            channel_sums(area, lane, &mut sums);
            average(images * area, &sums, &mut means);
            channel_squares(area, lane, &means, &mut own);
            combine_squares(images * area, &sums, &means, &own, &mean, &mut squares);
        }
        average(count, &squares, &mut variance);
        (mean, variance)
    }

    fn forward(
        area: usize,
        input: &[f32],
        scale: &[f32],
        shift: &[f32],
    ) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let (mean, variance) = statistics(area, input);
        let mut inverse = vec![f32::NAN; CHANNELS];
        inverse_deviation(&variance, EPSILON, &mut inverse);
        let mut output = vec![f32::NAN; input.len()];
        apply(
            area,
            input,
            &mean,
            &inverse,
            scale,
            shift,
            false,
            &mut output,
        );
        (output, mean, inverse)
    }

    #[test]
    fn output_and_running_statistics_match_plain_loops() {
        for (images, area) in [(4, 1), (5, 7), (6, 16), (4, 33)] {
            // A large offset: a difference of two sums would lose the variance.
            let input: Vec<f32> = numbers(images * CHANNELS * area, 1)
                .iter()
                .map(|x| x + 100.0)
                .collect();
            let (scale, shift) = (numbers(CHANNELS, 2), numbers(CHANNELS, 3));
            let (output, mean, _) = forward(area, &input, &scale, &shift);
            let channel_of = |at: usize| at / area % CHANNELS;
            let count = (images * area) as f64;
            let [mut means, mut variances] = [[0.0; CHANNELS]; 2];
            for (at, x) in input.iter().enumerate() {
                means[channel_of(at)] += f64::from(*x) / count;
            }
            for (at, x) in input.iter().enumerate() {
                variances[channel_of(at)] +=
                    (f64::from(*x) - means[channel_of(at)]).powi(2) / count;
            }
            let reference: Vec<f64> = (input.iter().enumerate())
                .map(|(at, x)| {
                    let channel = channel_of(at);
                    (f64::from(*x) - means[channel])
                        / (variances[channel] + f64::from(EPSILON)).sqrt()
                        * f64::from(scale[channel])
                        + f64::from(shift[channel])
                })
                .collect();
            // The mean is rounded to 24 bits of 100.
            let error = (output.iter().zip(&reference)).map(|(y, r)| (f64::from(*y) - r).abs());
            assert!(error.fold(0.0, f64::max) < 2e-5, "area {area}");

            let (_, variance) = statistics(area, &input);
            let [mut running_mean, mut running_variance] =
                [vec![1.0; CHANNELS], vec![2.0; CHANNELS]];
            let momentum = 0.1;
            update_running(
                momentum,
                images * area,
                &mean,
                &variance,
                &mut running_mean,
                &mut running_variance,
            );
            let expected: Vec<f64> = means.iter().map(|mean| 0.9 + 0.1 * mean).collect();
            assert_close(&running_mean, &expected, "running mean");
            let expected: Vec<f64> = variances
                .iter()
                .map(|variance| 1.8 + 0.1 * variance * count / (count - 1.0))
                .collect();
            assert_close(&running_variance, &expected, "running variance");
        }
    }

    #[test]
    fn a_momentum_of_0_changes_nothing_and_1_leaves_nothing() {
        let (mean, variance) = ([0.1, f32::INFINITY], [0.7, f32::INFINITY]);
        let mut running = [[1e8, 2.0], [3e8, 4.0]];
        let [running_mean, running_variance] = &mut running;
        update_running(0.0, 9, &mean, &variance, running_mean, running_variance);
        assert_eq!(running, [[1e8, 2.0], [3e8, 4.0]]);
        let [running_mean, running_variance] = &mut running;
        update_running(1.0, 9, &mean, &variance, running_mean, running_variance);
        assert_eq!(running, [mean, [9.0 / 8.0 * 0.7, f32::INFINITY]]);
    }

    #[test]
    fn the_gradients_match_finite_differences() {
        for (images, area) in [(4, 1), (5, 4), (4, 9)] {
            let input = numbers(images * CHANNELS * area, 1);
            let (scale, shift) = (numbers(CHANNELS, 2), numbers(CHANNELS, 3));
            let above = numbers(input.len(), 4);
            let loss = |input: &[f32], scale: &[f32], shift: &[f32]| {
                weighted(&forward(area, input, scale, shift).0, &above)
            };
            let (_, mean, inverse) = forward(area, &input, &scale, &shift);
            let image = CHANNELS * area;
            let lanes = [0..image, image..3 * image, 3 * image..input.len()];
            let [
                mut shift_total,
                mut scale_total,
                mut shift_sums,
                mut scale_sums,
            ] = [[0.0; CHANNELS]; 4];
            for lane in lanes.clone() {
                backward_sums(
                    area,
                    &input[lane.clone()],
                    &above[lane],
                    &mean,
                    &inverse,
                    &mut shift_sums,
                    &mut scale_sums,
                );
                combine(&shift_sums, &mut shift_total);
                combine(&scale_sums, &mut scale_total);
            }
            let mut gradient = vec![f32::NAN; input.len()];
            for lane in lanes {
                backward_apply(
                    area,
                    images * area,
                    &input[lane.clone()],
                    &above[lane.clone()],
                    &mean,
                    &inverse,
                    &scale,
                    &shift_total,
                    &scale_total,
                    &mut gradient[lane],
                );
            }
            let check = |gradient: &[f64], reference: Vec<f64>| {
                for (gradient, reference) in gradient.iter().zip(reference) {
                    assert!(
                        (gradient - reference).abs() < 3e-3,
                        "{gradient}, not {reference}"
                    );
                }
            };
            check(
                &shift_total,
                finite_differences(&shift, 1e-2, |shift| loss(&input, &scale, shift)),
            );
            check(
                &scale_total,
                finite_differences(&scale, 1e-2, |scale| loss(&input, scale, &shift)),
            );
            let gradient: Vec<f64> = gradient.iter().map(|g| f64::from(*g)).collect();
            check(
                &gradient,
                finite_differences(&input, 1e-2, |input| loss(input, &scale, &shift)),
            );
        }
    }
}
