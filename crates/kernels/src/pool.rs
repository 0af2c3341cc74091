//! Maximum and average pools, forward and backward, and the global average.

use std::ops::Range;

/// A pool over NCHW planes. Windows are clipped to the input: padding and the part of a window beyond the
/// edge take no part in the maximum nor in the average, which divides by the clipped size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2d {
    /// Channels, height, width of one input image.
    pub input: [usize; 3],
    /// Channels (the same), height, width of one output image.
    pub output: [usize; 3],
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Padding above and below, left and right; smaller than the kernel.
    pub padding: [usize; 2],
}

impl Pool2d {
    /// Values of one input image.
    pub fn input_len(&self) -> usize {
        self.input.iter().product()
    }

    /// Values of one output image.
    pub fn output_len(&self) -> usize {
        self.output.iter().product()
    }

    /// The maximum of every window, the first one of equals in the order of rows; NaN counts as the largest.
    ///
    /// `input` is [images, input], `output` and `argmax` [images, output]; `argmax` gets the position of the
    /// maximum in its input plane.
    pub fn max_forward(
        &self,
        images: usize,
        input: &[f32],
        output: &mut [f32],
        argmax: &mut [u32],
    ) {
        self.check(images, input.len(), output.len());
        assert_eq!(argmax.len(), output.len());
        max_planes(self, input, output, argmax);
    }

    /// The gradient of the input, overwritten, from that of the output and the positions of the maxima.
    pub fn max_backward(
        &self,
        images: usize,
        output_gradient: &[f32],
        argmax: &[u32],
        input_gradient: &mut [f32],
    ) {
        self.check(images, input_gradient.len(), output_gradient.len());
        assert_eq!(argmax.len(), output_gradient.len());
        let (inputs, outputs) = (
            self.input[1] * self.input[2],
            self.output[1] * self.output[2],
        );
        input_gradient.fill(0.0);
        let planes = input_gradient.chunks_exact_mut(inputs);
        let outputs = output_gradient
            .chunks_exact(outputs)
            .zip(argmax.chunks_exact(outputs));
        for (plane, (gradients, positions)) in planes.zip(outputs) {
            for (gradient, position) in gradients.iter().zip(positions) {
                plane[*position as usize] += gradient;
            }
        }
    }

    /// The average of every window.
    ///
    /// `input` is [images, input], `output` [images, output].
    pub fn average_forward(&self, images: usize, input: &[f32], output: &mut [f32]) {
        self.check(images, input.len(), output.len());
        average_planes(self, input, output);
    }

    /// The gradient of the input, overwritten, from that of the output.
    pub fn average_backward(
        &self,
        images: usize,
        output_gradient: &[f32],
        input_gradient: &mut [f32],
    ) {
        self.check(images, input_gradient.len(), output_gradient.len());
        spread_planes(self, output_gradient, input_gradient);
    }

    /// The part of window number `at` along an axis that lies in the input.
    #[inline(always)]
    fn window(&self, axis: usize, at: usize) -> Range<usize> {
        let start = at * self.stride[axis];
        let end = (start + self.kernel[axis]).saturating_sub(self.padding[axis]);
        start.saturating_sub(self.padding[axis])..end.min(self.input[1 + axis])
    }

    fn check(&self, images: usize, input: usize, output: usize) {
        assert_eq!(self.input[0], self.output[0]);
        assert_eq!(input, images * self.input_len(), "input of {self:?}");
        assert_eq!(output, images * self.output_len(), "output of {self:?}");
        for axis in [0, 1] {
            assert!(self.output[1 + axis] > 0 && self.stride[axis] > 0);
            assert!(!self.window(axis, 0).is_empty(), "first window of {self:?}");
            assert!(
                !self.window(axis, self.output[1 + axis] - 1).is_empty(),
                "last window of {self:?}"
            );
        }
    }
}

/// Columns of the output whose windows lie inside the input, and how many windows are computed side by side: 8, 4 where
/// there are fewer than 8, 0 where there are fewer than 4 or the stride is not one of those that have a block.
fn blocks(pool: &Pool2d) -> (Range<usize>, usize) {
    let [stride, kernel, padding] = [pool.stride[1], pool.kernel[1], pool.padding[1]];
    let first = padding.div_ceil(stride);
    let end =
        ((pool.input[2] + padding + stride).saturating_sub(kernel) / stride).min(pool.output[2]);
    match end.saturating_sub(first) {
        8.. if stride <= 3 => (first..end, 8),
        4.. if stride <= 3 => (first..end, 4),
        _ => (0..0, 0),
    }
}

/// Where the blocks of so many columns begin; the last one may overlap the one before.
fn starts(inner: &Range<usize>, lanes: usize) -> impl Iterator<Item = usize> + use<> {
    let last = inner.end.saturating_sub(lanes);
    let all = inner.clone().step_by(lanes.max(1));
    all.map(move |from| from.min(last))
}

multiversion! {
    fn max_planes(pool: &Pool2d, input: &[f32], output: &mut [f32], argmax: &mut [u32]) {
        match (blocks(pool), pool.stride[1]) {
            ((inner, 8), 1) => max_rows::<8, 1>(pool, inner, input, output, argmax),
            ((inner, 8), 2) => max_rows::<8, 2>(pool, inner, input, output, argmax),
            ((inner, 8), _) => max_rows::<8, 3>(pool, inner, input, output, argmax),
            ((inner, _), 1) => max_rows::<4, 1>(pool, inner, input, output, argmax),
            ((inner, _), 2) => max_rows::<4, 2>(pool, inner, input, output, argmax),
            ((inner, _), _) => max_rows::<4, 3>(pool, inner, input, output, argmax),
        }
    }
}

/// All maxima, those of the `inner` columns in blocks.
#[inline(always)]
fn max_rows<const LANES: usize, const STRIDE: usize>(
    pool: &Pool2d,
    inner: Range<usize>,
    input: &[f32],
    output: &mut [f32],
    argmax: &mut [u32],
) {
    let [_, height, width] = pool.input;
    let [_, _, columns] = pool.output;
    let area = pool.output[1] * columns;
    let outputs = output
        .chunks_exact_mut(area)
        .zip(argmax.chunks_exact_mut(area));
    for (plane, (output, argmax)) in input.chunks_exact(height * width).zip(outputs) {
        let rows = output
            .chunks_exact_mut(columns)
            .zip(argmax.chunks_exact_mut(columns));
        for (row, (output, argmax)) in rows.enumerate() {
            let window = pool.window(0, row);
            for from in starts(&inner, LANES) {
                let left = from * STRIDE - pool.padding[1];
                let size = [window.len(), pool.kernel[1]];
                let corner = window.start * width + left;
                let (maxima, positions) = max_block::<LANES, STRIDE>(&plane[corner..], width, size);
                output[from..from + LANES].copy_from_slice(&maxima);
                let first = corner as u32;
                argmax[from..from + LANES].copy_from_slice(&positions.map(|at| first + at));
            }
            for column in (0..inner.start).chain(inner.end..columns) {
                let span = pool.window(1, column);
                let mut position = window.start * width + span.start;
                let mut maximum = f32::NEG_INFINITY;
                for y in window.clone() {
                    let start = y * width + span.start;
                    for (value, at) in plane[start..start + span.len()].iter().zip(start..) {
                        let larger = *value > maximum || value.is_nan();
                        maximum = if larger { *value } else { maximum };
                        position = if larger { at } else { position };
                    }
                }
                output[column] = maximum;
                argmax[column] = position as u32;
            }
        }
    }
}

/// The maxima of `LANES` windows side by side, and where they lie; the first window begins with the plane.
#[inline(always)]
fn max_block<const LANES: usize, const STRIDE: usize>(
    plane: &[f32],
    width: usize,
    [rows, columns]: [usize; 2],
) -> ([f32; LANES], [u32; LANES]) {
    let mut maxima = [f32::NEG_INFINITY; LANES];
    // The tap of every maximum, the same for all windows; they are this far apart.
    let mut taps = [0; LANES];
    for y in 0..rows {
        for x in 0..columns {
            let tap = y * width + x;
            let values = &plane[tap..tap + (LANES - 1) * STRIDE + 1];
            let tap = tap as u32;
            for lane in 0..LANES {
                let value = values[lane * STRIDE];
                let larger = value > maxima[lane] || value.is_nan();
                maxima[lane] = if larger { value } else { maxima[lane] };
                taps[lane] = if larger { tap } else { taps[lane] };
            }
        }
    }
    let position = |lane| taps[lane] + (lane * STRIDE) as u32;
    (maxima, std::array::from_fn(position))
}

multiversion! {
    fn average_planes(pool: &Pool2d, input: &[f32], output: &mut [f32]) {
        match (blocks(pool), pool.stride[1]) {
            ((inner, 8), 1) => average_rows::<8, 1>(pool, inner, input, output),
            ((inner, 8), 2) => average_rows::<8, 2>(pool, inner, input, output),
            ((inner, 8), _) => average_rows::<8, 3>(pool, inner, input, output),
            ((inner, _), 1) => average_rows::<4, 1>(pool, inner, input, output),
            ((inner, _), 2) => average_rows::<4, 2>(pool, inner, input, output),
            ((inner, _), _) => average_rows::<4, 3>(pool, inner, input, output),
        }
    }
}

/// All averages, those of the `inner` columns in blocks.
#[inline(always)]
fn average_rows<const LANES: usize, const STRIDE: usize>(
    pool: &Pool2d,
    inner: Range<usize>,
    input: &[f32],
    output: &mut [f32],
) {
    let [_, height, width] = pool.input;
    let [_, rows, columns] = pool.output;
    let outputs = output.chunks_exact_mut(rows * columns);
    for (plane, output) in input.chunks_exact(height * width).zip(outputs) {
        for (row, output) in output.chunks_exact_mut(columns).enumerate() {
            let window = pool.window(0, row);
            for from in starts(&inner, LANES) {
                let corner = window.start * width + from * STRIDE - pool.padding[1];
                let size = [window.len(), pool.kernel[1]];
                let sums = sum_block::<LANES, STRIDE>(&plane[corner..], width, size);
                let count = (window.len() * pool.kernel[1]) as f32;
                output[from..from + LANES].copy_from_slice(&sums.map(|sum| sum / count));
            }
            for column in (0..inner.start).chain(inner.end..columns) {
                let span = pool.window(1, column);
                let mut sum = 0.0;
                for y in window.clone() {
                    for value in &plane[y * width + span.start..y * width + span.end] {
                        sum += value;
                    }
                }
                output[column] = sum / (window.len() * span.len()) as f32;
            }
        }
    }
}

/// The sums of `LANES` windows side by side, as in [`max_block`].
#[inline(always)]
fn sum_block<const LANES: usize, const STRIDE: usize>(
    plane: &[f32],
    width: usize,
    [rows, columns]: [usize; 2],
) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    for y in 0..rows {
        for x in 0..columns {
            let tap = y * width + x;
            let values = &plane[tap..tap + (LANES - 1) * STRIDE + 1];
            for lane in 0..LANES {
                sums[lane] += values[lane * STRIDE];
            }
        }
    }
    sums
}

multiversion! {
    fn spread_planes(pool: &Pool2d, output_gradient: &[f32], input_gradient: &mut [f32]) {
        let [_, height, width] = pool.input;
        let [_, rows, columns] = pool.output;
        input_gradient.fill(0.0);
        let gradients = output_gradient.chunks_exact(rows * columns);
        for (plane, gradients) in input_gradient.chunks_exact_mut(height * width).zip(gradients) {
            for (row, gradients) in gradients.chunks_exact(columns).enumerate() {
                let window = pool.window(0, row);
                for (column, gradient) in gradients.iter().enumerate() {
                    let span = pool.window(1, column);
                    let share = gradient / (window.len() * span.len()) as f32;
                    for y in window.clone() {
                        for value in &mut plane[y * width + span.start..y * width + span.end] {
                            *value += share;
                        }
                    }
                }
            }
        }
    }
}

/// The average of every plane of `area` values: `input` is [planes, area], `output` one value per plane.
pub fn global_average_forward(area: usize, input: &[f32], output: &mut [f32]) {
    assert_eq!(input.len(), output.len() * area);
    for (plane, output) in input.chunks_exact(area).zip(output) {
        *output = crate::elementwise::sum(plane) / area as f32;
    }
}

/// The gradient of the input, overwritten, from that of the output of [`global_average_forward`].
pub fn global_average_backward(area: usize, output_gradient: &[f32], input_gradient: &mut [f32]) {
    assert_eq!(input_gradient.len(), output_gradient.len() * area);
    for (plane, gradient) in input_gradient.chunks_exact_mut(area).zip(output_gradient) {
        plane.fill(gradient / area as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers};

    /// A pool with the output shape of PyTorch's rule, rounding up or down.
    fn pool(
        input: [usize; 3],
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        up: bool,
    ) -> Pool2d {
        let size = |axis: usize| {
            let room = input[1 + axis] + 2 * padding[axis] - kernel[axis];
            let size = if up {
                room.div_ceil(stride[axis])
            } else {
                room / stride[axis]
            } + 1;
            // A window never starts beyond the input and the padding before it.
            size - usize::from((size - 1) * stride[axis] >= input[1 + axis] + padding[axis])
        };
        Pool2d {
            input,
            output: [input[0], size(0), size(1)],
            kernel,
            stride,
            padding,
        }
    }

    fn pools() -> Vec<Pool2d> {
        let mut pools = vec![
            pool([2, 24, 24], [2, 2], [2, 2], [0, 0], true),
            pool([3, 32, 32], [3, 3], [2, 2], [0, 0], true),
            pool([2, 55, 55], [3, 3], [2, 2], [0, 0], false),
            pool([1, 1, 1], [1, 1], [1, 1], [0, 0], true),
            pool([1, 3, 40], [2, 5], [1, 3], [1, 2], true),
            pool([1, 9, 30], [3, 4], [4, 5], [1, 1], true),
        ];
        for up in [false, true] {
            for size in [4, 7, 8, 17, 25] {
                for (kernel, stride, padding) in [
                    (2, 1, 0),
                    (2, 2, 1),
                    (3, 1, 1),
                    (3, 2, 1),
                    (3, 3, 0),
                    (4, 3, 2),
                ] {
                    pools.push(pool(
                        [2, size, size],
                        [kernel; 2],
                        [stride; 2],
                        [padding; 2],
                        up,
                    ));
                }
            }
        }
        pools
    }

    /// The positions, in the input plane, of the window of an output.
    fn window(pool: &Pool2d, row: usize, column: usize) -> Vec<usize> {
        let mut positions = Vec::new();
        for y in row * pool.stride[0]..row * pool.stride[0] + pool.kernel[0] {
            for x in column * pool.stride[1]..column * pool.stride[1] + pool.kernel[1] {
                let (Some(y), Some(x)) = (
                    y.checked_sub(pool.padding[0]),
                    x.checked_sub(pool.padding[1]),
                ) else {
                    continue;
                };
                if y < pool.input[1] && x < pool.input[2] {
                    positions.push(y * pool.input[2] + x);
                }
            }
        }
        positions
    }

    /// Calls `f(input plane, output position, window)` for every output.
    fn windows(pool: &Pool2d, images: usize, mut f: impl FnMut(usize, usize, Vec<usize>)) {
        let [channels, rows, columns] = pool.output;
        for plane in 0..images * channels {
            for row in 0..rows {
                for column in 0..columns {
                    let window = window(pool, row, column);
                    f(
                        plane * pool.input[1] * pool.input[2],
                        (plane * rows + row) * columns + column,
                        window,
                    );
                }
            }
        }
    }

    #[test]
    fn maxima_and_their_gradients_match_plain_loops() {
        for pool in pools() {
            for images in [1, 3] {
                // Few different values: the first of equals counts.
                let input: Vec<f32> = numbers(images * pool.input_len(), 1)
                    .iter()
                    .map(|x| (x * 4.0).round())
                    .collect();
                let above = numbers(images * pool.output_len(), 2);
                let mut output = vec![f32::NAN; above.len()];
                let mut argmax = vec![u32::MAX; above.len()];
                pool.max_forward(images, &input, &mut output, &mut argmax);
                let mut gradient = vec![f32::NAN; input.len()];
                pool.max_backward(images, &above, &argmax, &mut gradient);
                let mut expected = vec![0.0; input.len()];
                windows(&pool, images, |plane, at, window| {
                    let mut best = window[0];
                    for position in window {
                        if input[plane + position] > input[plane + best] {
                            best = position;
                        }
                    }
                    assert_eq!(argmax[at] as usize, best, "{pool:?}");
                    assert_eq!(output[at], input[plane + best], "{pool:?}");
                    expected[plane + best] += f64::from(above[at]);
                });
                assert_close(&gradient, &expected, &format!("{pool:?}"));
            }
        }
    }

    #[test]
    fn averages_and_their_gradients_match_plain_loops() {
        for pool in pools() {
            for images in [1, 3] {
                let input = numbers(images * pool.input_len(), 1);
                let above = numbers(images * pool.output_len(), 2);
                let mut output = vec![f32::NAN; above.len()];
                pool.average_forward(images, &input, &mut output);
                let mut gradient = vec![f32::NAN; input.len()];
                pool.average_backward(images, &above, &mut gradient);
                let mut averages = vec![0.0; above.len()];
                let mut expected = vec![0.0; input.len()];
                windows(&pool, images, |plane, at, window| {
                    for position in &window {
                        averages[at] += f64::from(input[plane + position]) / window.len() as f64;
                        expected[plane + position] += f64::from(above[at]) / window.len() as f64;
                    }
                });
                assert_close(&output, &averages, &format!("{pool:?}"));
                assert_close(&gradient, &expected, &format!("{pool:?}"));
            }
        }
    }

    #[test]
    fn nan_is_the_maximum() {
        for width in [4, 40] {
            let pool = pool([1, 2, width], [2, 2], [2, 2], [0, 0], true);
            let mut input = numbers(2 * width, 1);
            input[1] = f32::NAN;
            let (mut output, mut argmax) = (vec![0.0; width / 2], vec![0; width / 2]);
            pool.max_forward(1, &input, &mut output, &mut argmax);
            assert!(output[0].is_nan() && argmax[0] == 1);
            assert!(output[1..].iter().all(|x| !x.is_nan()));
            input.fill(f32::NEG_INFINITY);
            pool.max_forward(1, &input, &mut output, &mut argmax);
            assert!(
                argmax
                    .iter()
                    .enumerate()
                    .all(|(column, at)| *at as usize == 2 * column)
            );
        }
    }

    #[test]
    fn the_global_average_is_that_of_every_plane() {
        let input = numbers(6 * 49, 1);
        let mut output = vec![f32::NAN; 6];
        global_average_forward(49, &input, &mut output);
        let expected: Vec<f64> = input
            .chunks(49)
            .map(|plane| plane.iter().map(|x| f64::from(*x)).sum::<f64>() / 49.0)
            .collect();
        assert_close(&output, &expected, "averages");
        let mut gradient = vec![f32::NAN; input.len()];
        global_average_backward(49, &output, &mut gradient);
        assert!(
            gradient
                .chunks(49)
                .zip(&output)
                .all(|(plane, y)| plane.iter().all(|g| *g == y / 49.0))
        );
    }
}
