//! The tile: a few rows times a few vectors of columns, accumulated in registers over the depth.

use super::{Rows, Run};
use crate::finish::Finish;
#[cfg(target_arch = "x86_64")]
use crate::simd::InstructionSet;
use crate::simd::instruction_set;
use crate::vector::{Four, Vector};

/// Rows of the largest tile.
pub(crate) const TILE_ROWS_MAX: usize = 12;
/// Columns of the largest tile.
pub(crate) const TILE_COLUMNS_MAX: usize = 32;
/// Columns of the smallest tile.
pub(crate) const TILE_COLUMNS_MIN: usize = 8;

/// One kernel: `(left, panel, c, c_row, start, finish)`.
type Kernel = unsafe fn(&Rows, *const f32, *mut f32, usize, *const f32, &Finish);

/// The tile sizes and kernels of one instruction set.
pub(crate) struct Tile {
    pub rows: usize,
    pub columns: usize,
    /// `kernels[r - 1][v - 1]` computes `r` rows and `v` vectors of columns.
    kernels: &'static [[Kernel; 2]],
}

/// The tiles of this processor.
pub(crate) fn tiles() -> &'static Tile {
    match instruction_set() {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => &x86::AVX512,
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => &x86::AVX2,
        _ => &BASELINE,
    }
}

impl Tile {
    /// Columns that a tile of this many columns writes: whole vectors.
    pub fn written(&self, columns: usize) -> usize {
        if columns > self.columns / 2 {
            self.columns
        } else {
            self.columns / 2
        }
    }

    /// `C = start + A·B`, or `C += A·B` without a start, for the rows of `left` and [`Self::written`] columns, finished.
    ///
    /// `panel` holds, for every depth, a row of `self.columns` values.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    pub fn run(
        &self,
        left: &Rows,
        columns: usize,
        panel: &[f32],
        start: Option<&[f32; TILE_ROWS_MAX]>,
        c: &mut [f32],
        c_row: usize,
        finish: &Finish,
    ) {
        let rows = left.count;
        assert!(rows >= 1 && columns >= 1 && columns <= self.columns);
        assert!(c.len() >= (rows - 1) * c_row + self.written(columns));
        assert!(panel.len() >= left.depth * self.columns);
        finish.check((rows - 1) * c_row + self.written(columns));
        let kernel = self.kernels[rows - 1][usize::from(columns > self.columns / 2)];
        let start = start.map_or(std::ptr::null(), |start| start.as_ptr());
        // SAFETY: `Rows::new` and the assertions above cover every element that a kernel of this many rows and
        // vectors reads or writes; `start` is null or has a value for every row; this instruction set was
        // detected.
        unsafe { kernel(left, panel.as_ptr(), c.as_mut_ptr(), c_row, start, finish) };
    }
}

/// # Safety
/// The first `ROWS` rows of `left` lie in its data for all of its runs, `panel` can be read at 2 vectors per
/// depth, `c` be read and written at `VECTORS` vectors from every `row * c_row`, `start` is null or has `ROWS`
/// values, `finish` has a value for every element of `c`, and the processor has the instructions of `V`.
#[inline(always)]
unsafe fn kernel<V: Vector, const ROWS: usize, const VECTORS: usize>(
    left: &Rows,
    panel: *const f32,
    c: *mut f32,
    c_row: usize,
    start: *const f32,
    finish: &Finish,
) {
    // SAFETY: the caller's promises are exactly the reads and writes below.
    unsafe {
        let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
        let rows: [usize; ROWS] = std::array::from_fn(|row| left.rows[row]);
        let mut panel = panel;
        for Run { start, length } in left.runs {
            let mut a = left.data.as_ptr().wrapping_add(*start);
            for _ in 0..*length {
                let mut right = [V::splat(0.0); VECTORS];
                for (vector, right) in right.iter_mut().enumerate() {
                    *right = V::load(panel.add(vector * V::LANES));
                }
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let left = V::splat(*a.add(row));
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum = sum.multiply_add(left, right);
                    }
                }
                a = a.wrapping_add(left.depth_stride);
                panel = panel.wrapping_add(2 * V::LANES);
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (vector, sum) in sums.iter().enumerate() {
                let at = row * c_row + vector * V::LANES;
                let to = c.add(at);
                let base = if start.is_null() {
                    V::load(to)
                } else {
                    V::splat(*start.add(row))
                };
                finish.vector(base.add(*sum), at).store(to);
            }
        }
    }
}

/// The kernels of one vector type, compiled with an attribute, for every number of rows.
macro_rules! kernels {
    ($vector:ty, [$($rows:literal),*], $attribute:meta) => {{
        #[$attribute]
        unsafe fn run<const ROWS: usize, const VECTORS: usize>(
            left: &Rows,
            panel: *const f32,
            c: *mut f32,
            c_row: usize,
            start: *const f32,
            finish: &Finish,
        ) {
            // SAFETY: the caller's promises are the same, and the attribute names the instructions.
            unsafe { kernel::<$vector, ROWS, VECTORS>(left, panel, c, c_row, start, finish) }
        }
        &[$([run::<$rows, 1>, run::<$rows, 2>]),*]
    }};
}

static BASELINE: Tile = Tile {
    rows: 4,
    columns: 8,
    kernels: kernels!(Four, [1, 2, 3, 4], inline(never)),
};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Finish, Rows, Tile, kernel};
    use std::arch::x86_64::{__m256, __m512};

    pub(super) static AVX2: Tile = Tile {
        rows: 6,
        columns: 16,
        kernels: kernels!(
            __m256,
            [1, 2, 3, 4, 5, 6],
            target_feature(enable = "avx2,fma")
        ),
    };

    pub(super) static AVX512: Tile = Tile {
        rows: 12,
        columns: 32,
        kernels: kernels!(
            __m512,
            [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
            target_feature(enable = "avx512f")
        ),
    };
}
