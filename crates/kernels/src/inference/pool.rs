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
    /// Values that [`Self::run`] needs as scratch: a row with all columns that any window reads, and those that whole
    /// vectors of windows would read behind them.
    pub fn scratch_len(&self, from: &Plane, to: &Plane) -> usize {
        let windows = (to.pitch - 1) * self.stride[1] + self.kernel[1] + 2 * VECTOR;
        windows.max(self.padding[1] + from.pitch)
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
        channel(self, from, to, input, output, scratch);
    }

    /// The part of window number `at` along an axis of `extent` values that lies in the input.
    #[inline(always)]
    fn window(&self, axis: usize, at: usize, extent: usize) -> std::ops::Range<usize> {
        let start = at * self.stride[axis];
        let end = (start + self.kernel[axis]).saturating_sub(self.padding[axis]);
        start.saturating_sub(self.padding[axis])..end.min(extent)
    }
}

/// Values that are computed together.
const VECTOR: usize = 8;

multiversion! {
    fn channel(pool: &Pool, from: &Plane, to: &Plane, input: &[f32], output: &mut [f32], scratch: &mut [f32]) {
        match (pool.kind, pool.kernel[1], pool.stride[1]) {
            (PoolKind::Max, 3, 2) => rows::<Max, 3, 2>(pool, from, to, input, output, scratch),
            (PoolKind::Max, 2, 2) => rows::<Max, 2, 2>(pool, from, to, input, output, scratch),
            (PoolKind::Max, _, _) => rows::<Max, 0, 0>(pool, from, to, input, output, scratch),
            (PoolKind::Average, 3, 2) => rows::<Sum, 3, 2>(pool, from, to, input, output, scratch),
            (PoolKind::Average, 2, 2) => rows::<Sum, 2, 2>(pool, from, to, input, output, scratch),
            (PoolKind::Average, _, _) => rows::<Sum, 0, 0>(pool, from, to, input, output, scratch),
        }
    }
}

/// What a pool does to two values.
trait Reduce {
    /// What does not change the other value.
    const EMPTY: f32;
    fn both(a: f32, b: f32) -> f32;
}

struct Max;
struct Sum;

impl Reduce for Max {
    const EMPTY: f32 = f32::NEG_INFINITY;
    #[inline(always)]
    fn both(a: f32, b: f32) -> f32 {
        if b > a { b } else { a }
    }
}

impl Reduce for Sum {
    const EMPTY: f32 = 0.0;
    #[inline(always)]
    fn both(a: f32, b: f32) -> f32 {
        a + b
    }
}

/// Pools one channel, first down the columns, then along the rows; `KERNEL` and `STRIDE` are the horizontal ones, or 0
/// for any.
#[inline(always)]
fn rows<R: Reduce, const KERNEL: usize, const STRIDE: usize>(
    pool: &Pool,
    from: &Plane,
    to: &Plane,
    input: &[f32],
    output: &mut [f32],
    scratch: &mut [f32],
) {
    let [_, height, width] = from.shape;
    let [_, rows, columns] = to.shape;
    let padding = pool.padding[1];
    let line = &mut scratch[..pool.scratch_len(from, to)];
    line.fill(R::EMPTY);
    for row in 0..rows {
        let window = pool.window(0, row, height);
        let column = &mut line[padding..padding + from.pitch];
        match window.len() {
            2 => down::<R, 2>(&input[window.start * from.pitch..], from.pitch, column),
            3 => down::<R, 3>(&input[window.start * from.pitch..], from.pitch, column),
            _ => {
                column.copy_from_slice(&input[window.start * from.pitch..][..from.pitch]);
                for y in window.start + 1..window.end {
                    let below = &input[y * from.pitch..][..from.pitch];
                    for (column, below) in column.iter_mut().zip(below) {
                        *column = R::both(*column, *below);
                    }
                }
            }
        }
        column[width..].fill(R::EMPTY);
        let output = &mut output[row * to.pitch..][..to.pitch];
        if KERNEL > 0 {
            for (at, output) in output.as_chunks_mut::<VECTOR>().0.iter_mut().enumerate() {
                // At most 3 columns, 2 apart, of 8 windows.
                let from: &[f32; 3 * VECTOR] = line[at * VECTOR * STRIDE..]
                    .first_chunk()
                    .expect("the scratch has room for whole vectors");
                for (i, output) in output.iter_mut().enumerate() {
                    *output = from[i * STRIDE];
                    for k in 1..KERNEL {
                        *output = R::both(*output, from[i * STRIDE + k]);
                    }
                }
            }
        } else {
            for (x, output) in output[..columns].iter_mut().enumerate() {
                let from = &line[x * pool.stride[1]..][..pool.kernel[1]];
                *output = from[1..].iter().fold(from[0], |a, b| R::both(a, *b));
            }
        }
        if pool.kind == PoolKind::Average {
            let full = 1.0 / (pool.kernel[1] * window.len()) as f32;
            output.iter_mut().for_each(|value| *value *= full);
            // Windows that reach over an edge are divided by what they have.
            for (x, value) in output[..columns].iter_mut().enumerate() {
                let inside = pool.window(1, x, width).len();
                if inside < pool.kernel[1] {
                    *value *= pool.kernel[1] as f32 / inside as f32;
                }
            }
        }
    }
}

/// The first `ROWS` rows, reduced down the columns.
#[inline(always)]
fn down<R: Reduce, const ROWS: usize>(input: &[f32], pitch: usize, column: &mut [f32]) {
    let rows: [&[f32]; ROWS] = std::array::from_fn(|y| &input[y * pitch..][..pitch]);
    for x in 0..pitch {
        let mut value = rows[0][x];
        for row in &rows[1..] {
            value = R::both(value, row[x]);
        }
        column[x] = value;
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
