//! Pools over planes, some channels at a time.

use super::layout::Plane;

/// Which value of a window is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest one.
    Max,
    /// The mean of those that lie in the input.
    Average,
}

/// A pool. Windows are clipped to the input: padding and what lies beyond the edge take no part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// What it keeps.
    pub kind: PoolKind,
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Padding above and left.
    pub padding: [usize; 2],
}

impl Pool {
    /// Values that [`Self::run`] needs as scratch.
    pub fn scratch_len(&self, from: &Plane, to: &Plane) -> usize {
        self.padded(from, to)
    }

    /// Values of a padded row: all columns that any window reads.
    fn padded(&self, from: &Plane, to: &Plane) -> usize {
        let windows = (to.shape[2] - 1) * self.stride[1] + self.kernel[1];
        windows.max(self.padding[1] + from.shape[2])
    }

    /// Pools one channel: `input` and `output` start at it.
    pub fn run(
        &self,
        from: &Plane,
        to: &Plane,
        input: &[f32],
        output: &mut [f32],
        scratch: &mut [f32],
    ) {
        let length = self.padded(from, to);
        let scratch = &mut scratch[..length];
        let [_, height, width] = from.shape;
        let [_, rows, columns] = to.shape;
        let empty = match self.kind {
            PoolKind::Max => f32::NEG_INFINITY,
            PoolKind::Average => 0.0,
        };
        scratch.fill(empty);
        let inside = self.padding[1]..self.padding[1] + width;
        for row in 0..rows {
            let start = row * self.stride[0];
            let end = (start + self.kernel[0]).saturating_sub(self.padding[0]);
            let lines = start.saturating_sub(self.padding[0])..end.min(height);
            let column = &mut scratch[inside.clone()];
            let mut above = lines.clone().map(|y| &input[y * from.pitch..][..width]);
            let first = above.next().expect("every window holds a row of the input");
            column.copy_from_slice(first);
            let output = &mut output[row * to.pitch..][..columns];
            match self.kind {
                PoolKind::Max => {
                    above.for_each(|line| larger(line, column));
                    across_max(self.kernel[1], self.stride[1], scratch, output);
                }
                PoolKind::Average => {
                    above.for_each(|line| sum(line, column));
                    across_sum(self.kernel[1], self.stride[1], scratch, output);
                    for (x, value) in output.iter_mut().enumerate() {
                        let from = (x * self.stride[1]).max(inside.start);
                        let to = (x * self.stride[1] + self.kernel[1]).min(inside.end);
                        *value /= ((to - from) * lines.len()) as f32;
                    }
                }
            }
        }
    }
}

multiversion! {
    fn larger(line: &[f32], column: &mut [f32]) {
        for (column, value) in column.iter_mut().zip(line) {
            *column = if *value > *column { *value } else { *column };
        }
    }
}

multiversion! {
    fn sum(line: &[f32], column: &mut [f32]) {
        for (column, value) in column.iter_mut().zip(line) {
            *column += value;
        }
    }
}

multiversion! {
    fn across_max(kernel: usize, stride: usize, line: &[f32], output: &mut [f32]) {
        let max = |a: f32, b: f32| if b > a { b } else { a };
        if kernel == 3 && stride == 2 {
            let line = &line[..2 * output.len() + 1];
            for (x, value) in output.iter_mut().enumerate() {
                *value = max(max(line[2 * x], line[2 * x + 1]), line[2 * x + 2]);
            }
        } else {
            for (x, value) in output.iter_mut().enumerate() {
                let window = &line[x * stride..][..kernel];
                *value = window.iter().copied().fold(window[0], max);
            }
        }
    }
}

multiversion! {
    fn across_sum(kernel: usize, stride: usize, line: &[f32], output: &mut [f32]) {
        if kernel == 3 && stride == 2 {
            let line = &line[..2 * output.len() + 1];
            for (x, value) in output.iter_mut().enumerate() {
                *value = line[2 * x] + line[2 * x + 1] + line[2 * x + 2];
            }
        } else {
            for (x, value) in output.iter_mut().enumerate() {
                *value = line[x * stride..][..kernel].iter().sum();
            }
        }
    }
}

/// The mean of one channel that starts at `input`.
pub(super) fn mean(from: &Plane, input: &[f32]) -> f32 {
    let [_, height, width] = from.shape;
    let sum: f32 = (0..height)
        .map(|y| input[y * from.pitch..][..width].iter().sum::<f32>())
        .sum();
    sum / (height * width) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pool2d;
    use crate::testing::{assert_close, numbers};

    #[test]
    fn pools_match_those_of_training() {
        let cases = [
            ([3, 8, 8], [4, 4], [3, 3], [2, 2], [0, 0]),
            ([2, 32, 32], [16, 16], [3, 3], [2, 2], [0, 0]),
            ([1, 7, 5], [4, 3], [3, 3], [2, 2], [1, 1]),
            ([2, 9, 13], [5, 7], [2, 2], [2, 2], [0, 0]),
            ([1, 6, 6], [6, 6], [3, 3], [1, 1], [1, 1]),
            ([1, 5, 5], [2, 2], [2, 2], [3, 3], [1, 1]),
            ([1, 55, 55], [27, 27], [3, 3], [2, 2], [0, 0]),
        ];
        for (input, [rows, columns], kernel, stride, padding) in cases {
            let output = [input[0], rows, columns];
            let reference = Pool2d {
                input,
                output,
                kernel,
                stride,
                padding,
            };
            let values = numbers(reference.input_len(), 1);
            for lanes in [8, 16] {
                let (from, to) = (Plane::new(input, lanes), Plane::new(output, lanes));
                let mut image = vec![f32::NAN; from.len()];
                from.read_dense(&values, &mut image);
                for kind in [PoolKind::Max, PoolKind::Average] {
                    let pool = Pool {
                        kind,
                        kernel,
                        stride,
                        padding,
                    };
                    let mut expected = vec![0.0; reference.output_len()];
                    match kind {
                        PoolKind::Max => {
                            let mut argmax = vec![0; expected.len()];
                            reference.max_forward(1, &values, &mut expected, &mut argmax);
                        }
                        PoolKind::Average => {
                            reference.average_forward(1, &values, &mut expected);
                        }
                    }
                    let mut pooled = vec![f32::NAN; to.len()];
                    let mut scratch = vec![f32::NAN; pool.scratch_len(&from, &to)];
                    for channel in 0..input[0] {
                        pool.run(
                            &from,
                            &to,
                            &image[channel * from.stride..],
                            &mut pooled[channel * to.stride..],
                            &mut scratch,
                        );
                    }
                    let mut dense = vec![f32::NAN; expected.len()];
                    to.write_dense(&pooled, &mut dense);
                    let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
                    assert_close(&dense, &expected, &format!("{pool:?} {input:?} {lanes}"));
                }
            }
        }
    }

    #[test]
    fn the_mean_leaves_out_what_is_behind_the_rows() {
        let plane = Plane::new([1, 2, 3], 8);
        let mut image = vec![f32::NAN; plane.len()];
        plane.read_dense(&[1.0, 2.0, 3.0, 4.0, 5.0, 9.0], &mut image);
        image[3..8].fill(f32::NAN);
        assert_eq!(mean(&plane, &image), 4.0);
    }
}
