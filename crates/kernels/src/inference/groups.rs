//! Pattern-grouped sparse products: four rows together, their columns sorted by which of the rows have a weight.
//!
//! Every pattern has a straight-line body that loads the input once for all rows that need it, and the sums of all
//! rows of the group stay in registers over a block of columns.

use std::ops::Range;

use super::columns::Columns;
use super::table::{Call, kernels};
use super::vector::InferenceVector;

/// Rows of a group.
const ROWS: usize = 4;

/// The weights of some rows of a matrix in groups of [`ROWS`].
#[derive(Clone, Debug)]
pub(super) struct Groups {
    rows: usize,
    blocks: Vec<Block>,
}

/// The weights in some neighbouring columns.
#[derive(Clone, Debug, Default)]
struct Block {
    /// Columns of every pattern of every group; pattern `p` has row `r` if bit `r` of `p + 1` is set.
    counts: Vec<u16>,
    /// Of every column of a pattern: its offset, and the values of the rows of the pattern.
    offsets: Vec<u16>,
    values: Vec<f32>,
}

impl Groups {
    /// Packs `rows` of the matrix by blocks of columns.
    pub fn new(columns: &Columns, rows: Range<usize>, blocks: &[Range<usize>]) -> Self {
        let pack = |block: Range<usize>| {
            let base = columns.offset(block.start);
            let mut packed = Block::default();
            for first in rows.clone().step_by(ROWS) {
                let mut patterns = vec![(Vec::new(), Vec::new()); (1 << ROWS) - 1];
                for column in block.clone() {
                    let weights: [f32; ROWS] =
                        std::array::from_fn(|r| match first + r < rows.end {
                            true => columns.value(first + r, column),
                            false => 0.0,
                        });
                    let kept = |r: usize| weights[r] != 0.0;
                    let pattern = (0..ROWS).fold(0, |p, r| p | usize::from(kept(r)) << r);
                    if let Some(pattern) = pattern.checked_sub(1) {
                        let offset = u16::try_from(columns.offset(column) - base);
                        patterns[pattern]
                            .0
                            .push(offset.expect("a block spans 2^16"));
                        let kept = (0..ROWS).filter(|r| kept(*r)).map(|r| weights[r]);
                        patterns[pattern].1.extend(kept);
                    }
                }
                for (offsets, values) in patterns {
                    packed.counts.push(offsets.len() as u16);
                    packed.offsets.extend(offsets);
                    packed.values.extend(values);
                }
            }
            packed
        };
        Self {
            rows: rows.len(),
            blocks: blocks.iter().cloned().map(pack).collect(),
        }
    }
}

/// Where the weights of a block are read from.
struct Cursor {
    offset: *const u16,
    value: *const f32,
}

/// Adds the columns of one pattern.
///
/// # Safety
/// The cursor has `count` more columns of this pattern, whose inputs can be read with their N vectors.
#[inline(always)]
unsafe fn pattern<V: InferenceVector, const N: usize, const STRIDE: usize, const PATTERN: usize>(
    count: u16,
    cursor: &mut Cursor,
    input: *const f32,
    sums: &mut [[V; N]; ROWS],
) {
    let kept = const { PATTERN.count_ones() as usize };
    // SAFETY: as promised by the caller.
    unsafe {
        for _ in 0..count {
            let from = input.add(*cursor.offset as usize);
            // The fewer of weights and inputs wait in registers for the others.
            if kept <= N {
                let mut weights = [V::splat(0.0); ROWS];
                let mut at = 0;
                for (row, weight) in weights.iter_mut().enumerate() {
                    if PATTERN >> row & 1 == 1 {
                        *weight = V::splat(*cursor.value.add(at));
                        at += 1;
                    }
                }
                for i in 0..N {
                    let right = V::load(from.add(i * STRIDE));
                    for (row, sums) in sums.iter_mut().enumerate() {
                        if PATTERN >> row & 1 == 1 {
                            sums[i] = sums[i].multiply_add(weights[row], right);
                        }
                    }
                }
            } else {
                let mut right = [V::splat(0.0); N];
                for (i, right) in right.iter_mut().enumerate() {
                    *right = V::load(from.add(i * STRIDE));
                }
                let mut at = 0;
                for (row, sums) in sums.iter_mut().enumerate() {
                    if PATTERN >> row & 1 == 1 {
                        let left = V::splat(*cursor.value.add(at));
                        at += 1;
                        for (sum, right) in sums.iter_mut().zip(right) {
                            *sum = sum.multiply_add(left, right);
                        }
                    }
                }
            }
            cursor.offset = cursor.offset.add(1);
            cursor.value = cursor.value.add(kept);
        }
    }
}

/// # Safety
/// As promised by the maker of the [`Call`], for `N` vectors that are `STRIDE` values apart.
#[inline(always)]
unsafe fn kernel<V: InferenceVector, const N: usize, const STRIDE: usize>(
    groups: &Groups,
    block: usize,
    call: &Call,
) {
    let first = block == 0;
    let relu = call.relu && block + 1 == groups.blocks.len();
    let block = &groups.blocks[block];
    // SAFETY: every offset of the block lies in the input with its N vectors, and the counts say how many offsets
    // and values there are; only rows that exist are read and written. The caller promises the rest.
    unsafe {
        let input = call.input;
        let mut cursor = Cursor {
            offset: block.offsets.as_ptr(),
            value: block.values.as_ptr(),
        };
        for (group, counts) in block.counts.chunks_exact((1 << ROWS) - 1).enumerate() {
            let top = group * ROWS;
            let rows = ROWS.min(groups.rows - top);
            let output = call.output.add(top * call.output_stride);
            let mut sums = [[V::splat(0.0); N]; ROWS];
            for (row, sums) in sums.iter_mut().enumerate() {
                if row >= rows {
                    continue;
                }
                if first {
                    *sums = [V::splat(*call.bias.add(top + row)); N];
                } else {
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = V::load(output.add(row * call.output_stride + i * V::LANES));
                    }
                }
            }
            macro_rules! patterns {
                ($($pattern:literal)*) => {
                    $(
                        let count = *counts.get_unchecked($pattern - 1);
                        pattern::<V, N, STRIDE, $pattern>(count, &mut cursor, input, &mut sums);
                    )*
                };
            }
            patterns!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
            for (row, sums) in sums.iter().enumerate() {
                if row >= rows {
                    continue;
                }
                for (i, sum) in sums.iter().enumerate() {
                    let sum = if relu { sum.relu() } else { *sum };
                    sum.store(output.add(row * call.output_stride + i * V::LANES));
                }
            }
        }
    }
}

kernels!(Groups, kernel, 8: [1 2 3], 16: [1 2 3 4 5 6]);
