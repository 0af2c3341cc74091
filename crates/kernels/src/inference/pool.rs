//! Pools over planes, some channels at a time.

use super::layout::{LINE, Plane};
use super::vector::InferenceVector;
use crate::vector::Eight;
#[cfg(target_arch = "x86_64")]
use crate::{InstructionSet, instruction_set};

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
    /// Values that [`Self::run`] needs as scratch, all of them [`Self::empty`] at first: the rows of the output with the
    /// padded columns of the input; `usize::MAX` if there is no such number.
    pub fn scratch_len(&self, from: &Plane, to: &Plane) -> usize {
        to.shape[1].saturating_mul(self.padded(from, to))
    }

    /// What stands for padding.
    pub fn empty(&self) -> f32 {
        match self.kind {
            PoolKind::Max => Max::EMPTY,
            PoolKind::Average => Sum::EMPTY,
        }
    }

    /// Pools one channel: `input` and `output` start at it. The scratch is that of the channel before, or is empty.
    ///
    /// # Panics
    /// If a slice is too short, or the output has rows of which no part lies in the input.
    pub fn run(
        &self,
        from: &Plane,
        to: &Plane,
        input: &[f32],
        output: &mut [f32],
        scratch: &mut [f32],
    ) {
        assert!(input.len() >= from.shape[1] * from.pitch);
        assert!(output.len() >= to.shape[1] * to.pitch);
        assert!(scratch.len() >= self.scratch_len(from, to));
        assert!(from.pitch.is_multiple_of(8) && to.pitch.is_multiple_of(8));
        assert!(from.shape[2] <= from.pitch && to.shape[2] <= to.pitch);
        assert!((0..to.shape[1]).all(|row| !self.window(0, row, from.shape[1]).is_empty()));
        let mut work = Work {
            pool: self,
            from,
            to,
            input,
            output,
            scratch,
        };
        match self.kind {
            PoolKind::Max => work.reduce::<Max>(),
            PoolKind::Average => {
                work.reduce::<Sum>();
                self.divide(from, to, work.output);
            }
        }
    }

    /// Makes means of sums.
    fn divide(&self, from: &Plane, to: &Plane, output: &mut [f32]) {
        let [_, height, width] = from.shape;
        let [_, rows, columns] = to.shape;
        let kernel = self.kernel[1];
        // Windows that reach over an edge are divided by what they have.
        let clipped = |x: &usize| self.window(1, *x, width).len() < kernel;
        let left = (0..columns).take_while(clipped).count();
        let right = (left..columns).rev().take_while(clipped).count();
        for (row, output) in output.chunks_exact_mut(to.pitch).take(rows).enumerate() {
            let full = 1.0 / (kernel * self.window(0, row, height).len()) as f32;
            output.iter_mut().for_each(|value| *value *= full);
            for x in (0..left).chain(columns - right..columns) {
                output[x] *= kernel as f32 / self.window(1, x, width).len() as f32;
            }
        }
    }

    /// Values of a row of scratch: what whole vectors of windows read, and a row of the input behind its padding.
    fn padded(&self, from: &Plane, to: &Plane) -> usize {
        let windows = (to.pitch.saturating_mul(self.stride[1])).saturating_add(self.kernel[1]);
        windows
            .max(self.padding[1].saturating_add(from.pitch))
            .checked_next_multiple_of(LINE)
            .unwrap_or(usize::MAX)
    }

    /// The part of window number `at` along an axis of `extent` values that lies in the input.
    #[inline(always)]
    fn window(&self, axis: usize, at: usize, extent: usize) -> std::ops::Range<usize> {
        let start = at * self.stride[axis];
        let end = (start + self.kernel[axis]).saturating_sub(self.padding[axis]);
        start.saturating_sub(self.padding[axis])..end.min(extent)
    }
}

/// One channel to pool.
struct Work<'a> {
    pool: &'a Pool,
    from: &'a Plane,
    to: &'a Plane,
    input: &'a [f32],
    output: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl Work<'_> {
    fn reduce<R: Reduce>(&mut self) {
        match (self.pool.kernel[1], self.pool.stride[1]) {
            (3, 2) => self.dispatch::<R, 3, 2>(),
            (2, 2) => self.dispatch::<R, 2, 2>(),
            (_, 2) => self.dispatch::<R, 0, 2>(),
            (_, 1) => self.dispatch::<R, 0, 1>(),
            _ => self.dispatch::<R, 0, 0>(),
        }
    }

    fn dispatch<R: Reduce, const KERNEL: usize, const STRIDE: usize>(&mut self) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{__m256, __m512};
            #[target_feature(enable = "avx512f")]
            unsafe fn avx512<R: Reduce, const KERNEL: usize, const STRIDE: usize>(work: &mut Work) {
                // SAFETY: as promised by the caller.
                unsafe { channel::<R, __m512, KERNEL, STRIDE>(work) }
            }
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2<R: Reduce, const KERNEL: usize, const STRIDE: usize>(work: &mut Work) {
                // SAFETY: as promised by the caller.
                unsafe { channel::<R, __m256, KERNEL, STRIDE>(work) }
            }
            let wide = self.from.pitch.is_multiple_of(16) && self.to.pitch.is_multiple_of(16);
            match instruction_set() {
                InstructionSet::Avx512 if wide => {
                    // SAFETY: the processor has the instructions; the lengths were checked, and rows are whole vectors.
                    return unsafe { avx512::<R, KERNEL, STRIDE>(self) };
                }
                InstructionSet::Avx512 | InstructionSet::Avx2 => {
                    // SAFETY: as above, with vectors of 8.
                    return unsafe { avx2::<R, KERNEL, STRIDE>(self) };
                }
                InstructionSet::Baseline => {}
            }
        }
        // SAFETY: every processor can do this; the lengths were checked, and rows are multiples of 8 values.
        unsafe { channel::<R, Eight, KERNEL, STRIDE>(self) }
    }
}

/// What a pool does to two values.
trait Reduce {
    /// What does not change the other value.
    const EMPTY: f32;
    fn one(a: f32, b: f32) -> f32;
    /// # Safety
    /// The processor has the instructions.
    unsafe fn both<V: InferenceVector>(a: V, b: V) -> V;
}

struct Max;
struct Sum;

impl Reduce for Max {
    const EMPTY: f32 = f32::NEG_INFINITY;
    #[inline(always)]
    fn one(a: f32, b: f32) -> f32 {
        if a > b || a.is_nan() { a } else { b }
    }
    #[inline(always)]
    unsafe fn both<V: InferenceVector>(a: V, b: V) -> V {
        // SAFETY: as promised by the caller.
        unsafe { a.max(b) }
    }
}

impl Reduce for Sum {
    const EMPTY: f32 = 0.0;
    #[inline(always)]
    fn one(a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    unsafe fn both<V: InferenceVector>(a: V, b: V) -> V {
        // SAFETY: as promised by the caller.
        unsafe { a.add(b) }
    }
}

/// Reduces one channel, first down the columns, then along the rows; `KERNEL` and `STRIDE` are the horizontal ones, or 0
/// for any.
///
/// # Safety
/// The slices are as long as [`Pool::run`] asks for, rows are whole vectors, and the processor has the instructions.
#[inline(always)]
unsafe fn channel<R: Reduce, V: InferenceVector, const KERNEL: usize, const STRIDE: usize>(
    work: &mut Work,
) {
    let (pool, from, to) = (work.pool, work.from, work.to);
    let [_, height, width] = from.shape;
    let [_, rows, columns] = to.shape;
    let padded = pool.padded(from, to);
    // SAFETY: windows lie in the input; `padded` has room for a row of it behind the padding, and for all windows.
    unsafe {
        let mut reduced = work.scratch.as_mut_ptr().add(pool.padding[1]);
        for row in 0..rows {
            let window = pool.window(0, row, height);
            let input = work.input.as_ptr().add(window.start * from.pitch);
            match window.len() {
                3 => down::<R, V>(input, from.pitch, 3, reduced),
                2 => down::<R, V>(input, from.pitch, 2, reduced),
                rows => down::<R, V>(input, from.pitch, rows, reduced),
            }
            for behind in width..from.pitch {
                *reduced.add(behind) = R::EMPTY;
            }
            reduced = reduced.add(padded);
        }
        // In a loop of its own: values that were stored a moment ago cannot be loaded yet from between two vectors.
        let mut reduced: *const f32 = work.scratch.as_ptr();
        let mut output = work.output.as_mut_ptr();
        let kernel = if KERNEL > 0 { KERNEL } else { pool.kernel[1] };
        for _ in 0..rows {
            if STRIDE > 0 {
                let load = |at: usize| match STRIDE {
                    1 => V::load(reduced.add(at)),
                    _ => V::load(reduced.add(at)).evens(V::load(reduced.add(at + V::LANES))),
                };
                for x in (0..to.pitch).step_by(V::LANES) {
                    let mut value = load(x * STRIDE);
                    for k in 1..kernel {
                        value = R::both(value, load(x * STRIDE + k));
                    }
                    value.store(output.add(x));
                }
            } else {
                for x in 0..columns {
                    let values = (0..kernel).map(|k| *reduced.add(x * pool.stride[1] + k));
                    *output.add(x) = values.fold(R::EMPTY, R::one);
                }
            }
            for behind in columns..to.pitch {
                *output.add(behind) = 0.0;
            }
            reduced = reduced.add(padded);
            output = output.add(to.pitch);
        }
    }
}

/// Reduces so many rows down their columns.
///
/// # Safety
/// The rows can be read and one can be written, all as whole vectors, and the processor has the instructions.
#[inline(always)]
unsafe fn down<R: Reduce, V: InferenceVector>(
    input: *const f32,
    pitch: usize,
    rows: usize,
    to: *mut f32,
) {
    for x in (0..pitch).step_by(V::LANES) {
        // SAFETY: as promised by the caller.
        unsafe {
            let mut value = V::load(input.add(x));
            for y in 1..rows {
                value = R::both(value, V::load(input.add(y * pitch + x)));
            }
            value.store(to.add(x));
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
                    let mut scratch = vec![pool.empty(); pool.scratch_len(&from, &to)];
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
