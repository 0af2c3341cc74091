//! Dense products: six rows together, whose sums stay in registers over a block of columns.

use std::ops::Range;

use super::columns::Columns;
use super::table::{Call, kernels};
use super::vector::InferenceVector;

/// Rows that are computed together.
const ROWS: usize = 6;

/// All weights of some rows of a matrix.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    rows: usize,
    blocks: Vec<Block>,
}

/// The weights in some neighbouring columns.
#[derive(Clone, Debug)]
struct Block {
    /// Of every column.
    offsets: Vec<u16>,
    /// Of every group of rows, column after column; 0 for rows that do not exist.
    values: Vec<[f32; ROWS]>,
}

impl Dense {
    /// Packs `rows` of the matrix by blocks of columns.
    pub fn new(columns: &Columns, rows: Range<usize>, blocks: &[Range<usize>]) -> Self {
        let pack = |block: Range<usize>| {
            let base = columns.offset(block.start);
            let offset = |column| u16::try_from(columns.offset(column) - base);
            let values = |first: usize, column| {
                std::array::from_fn(|r| match first + r < rows.end {
                    true => columns.value(first + r, column),
                    false => 0.0,
                })
            };
            Block {
                offsets: block
                    .clone()
                    .map(|column| offset(column).expect("a block spans 2^16"))
                    .collect(),
                values: rows
                    .clone()
                    .step_by(ROWS)
                    .flat_map(|first| block.clone().map(move |column| values(first, column)))
                    .collect(),
            }
        };
        Self {
            rows: rows.len(),
            blocks: blocks.iter().cloned().map(pack).collect(),
        }
    }
}

/// # Safety
/// As promised by the maker of the [`Call`], for `N` vectors that are `STRIDE` values apart.
#[inline(always)]
unsafe fn kernel<V: InferenceVector, const N: usize, const STRIDE: usize>(
    dense: &Dense,
    block: usize,
    call: &Call,
) {
    let first = block == 0;
    let relu = call.relu && block + 1 == dense.blocks.len();
    let block = &dense.blocks[block];
    // SAFETY: every offset of the block lies in the input with its N vectors, there are values for every column of
    // every group, and only rows that exist are read and written. The caller promises the rest.
    unsafe {
        let input = call.input;
        let mut values = block.values.as_ptr();
        for top in (0..dense.rows).step_by(ROWS) {
            let rows = ROWS.min(dense.rows - top);
            let output = call.output.add(top * call.output_stride);
            let mut sums = [[V::splat(0.0); N]; ROWS];
            for offset in &block.offsets {
                let from = input.add(usize::from(*offset));
                let mut right = [V::splat(0.0); N];
                for (i, right) in right.iter_mut().enumerate() {
                    *right = V::load(from.add(i * STRIDE));
                }
                for (sums, left) in sums.iter_mut().zip(&*values) {
                    let left = V::splat(*left);
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum = sum.multiply_add(left, right);
                    }
                }
                values = values.add(1);
            }
            for (row, sums) in sums.iter().enumerate() {
                if row >= rows {
                    continue;
                }
                for (i, sum) in sums.iter().enumerate() {
                    let to = output.add(row * call.output_stride + i * V::LANES);
                    let start = match first {
                        true => V::splat(*call.bias.add(top + row)),
                        false => V::load(to),
                    };
                    let sum = start.add(*sum);
                    let sum = if relu { sum.relu() } else { sum };
                    sum.store(to);
                }
            }
        }
    }
}

kernels!(Dense, kernel, 8: [1 2], 16: [1 2 3 4]);
