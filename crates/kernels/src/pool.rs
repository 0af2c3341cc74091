//! Maximum and average pools, forward and backward, and the global average.

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

    /// The maximum of every window, the first one of equals; NaN counts as the largest.
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
    fn window(&self, axis: usize, at: usize) -> std::ops::Range<usize> {
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

multiversion! {
    fn max_planes(pool: &Pool2d, input: &[f32], output: &mut [f32], argmax: &mut [u32]) {
        let [_, height, width] = pool.input;
        let [_, _, columns] = pool.output;
        let area = pool.output[1] * columns;
        let outputs = output.chunks_exact_mut(area).zip(argmax.chunks_exact_mut(area));
        for (plane, (output, argmax)) in input.chunks_exact(height * width).zip(outputs) {
            let rows = output.chunks_exact_mut(columns).zip(argmax.chunks_exact_mut(columns));
            for (row, (output, argmax)) in rows.enumerate() {
                let window = pool.window(0, row);
                for (column, (output, argmax)) in output.iter_mut().zip(argmax).enumerate() {
                    let span = pool.window(1, column);
                    let mut position = window.start * width + span.start;
                    let mut maximum = plane[position];
                    for y in window.clone() {
                        for x in y * width + span.start..y * width + span.end {
                            let value = plane[x];
                            let larger = value > maximum || (value.is_nan() && !maximum.is_nan());
                            maximum = if larger { value } else { maximum };
                            position = if larger { x } else { position };
                        }
                    }
                    *output = maximum;
                    *argmax = position as u32;
                }
            }
        }
    }
}

multiversion! {
    fn average_planes(pool: &Pool2d, input: &[f32], output: &mut [f32]) {
        let [_, height, width] = pool.input;
        let [_, rows, columns] = pool.output;
        let outputs = output.chunks_exact_mut(rows * columns);
        for (plane, output) in input.chunks_exact(height * width).zip(outputs) {
            for (row, output) in output.chunks_exact_mut(columns).enumerate() {
                let window = pool.window(0, row);
                for (column, output) in output.iter_mut().enumerate() {
                    let span = pool.window(1, column);
                    let mut sum = 0.0;
                    for y in window.clone() {
                        for value in &plane[y * width + span.start..y * width + span.end] {
                            sum += value;
                        }
                    }
                    *output = sum / (window.len() * span.len()) as f32;
                }
            }
        }
    }
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

/// The average of every plane of `area` values: `input` is [planes, area], `output` [planes].
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
