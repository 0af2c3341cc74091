//! Sparse products, row after row: every kept weight is multiplied with up to sixteen vectors of the input, and the
//! sums of a row stay in registers over a block of columns.
//!
//! Columns are visited in the order of their addresses, in blocks whose inputs fit the first-level cache. In a block
//! the rows are sorted by how many weights they have, so that the length of the inner loop is predictable.

use std::ops::Range;

use super::columns::Columns;
use super::table::{Call, kernels};
use super::vector::{FourOffsets, InferenceVector, prefetch_values};

/// The kept weights of some rows of a matrix.
///
/// With 2 sets of sums, every other weight goes to the second set: a few vectors alone would wait for each other.
#[derive(Clone, Debug)]
pub(super) struct Rows<const SETS: usize> {
    blocks: Vec<Block>,
}

/// The kept weights in some neighbouring columns.
#[derive(Clone, Debug, Default)]
struct Block {
    /// Rows in the order in which they are computed, and behind the last one any row, which may be looked up too; how
    /// many weights they have, as runs of equal counts.
    order: Vec<u32>,
    runs: Vec<Run>,
    /// Of every weight, row after row: the offset of its column and its value.
    offsets: Vec<u16>,
    values: Vec<f32>,
}

/// Rows with the same number of weights.
#[derive(Clone, Copy, Debug)]
struct Run {
    rows: u32,
    weights: u32,
}

impl<const SETS: usize> Rows<SETS> {
    /// Packs `rows` of the matrix by blocks of columns.
    pub fn new(columns: &Columns, rows: Range<usize>, blocks: &[Range<usize>]) -> Self {
        let blocks = blocks
            .iter()
            .map(|block| {
                let base = columns.offset(block.start);
                let mut packed = Block::default();
                let mut weights: Vec<(u32, Vec<(u16, f32)>)> = rows
                    .clone()
                    .map(|row| {
                        let kept = block.clone().filter_map(|column| {
                            let value = columns.value(row, column);
                            let offset = u16::try_from(columns.offset(column) - base);
                            (value != 0.0).then(|| (offset.expect("a block spans 2^16"), value))
                        });
                        ((row - rows.start) as u32, kept.collect())
                    })
                    .collect();
                weights.sort_by_key(|(_, kept)| kept.len());
                for (row, kept) in weights {
                    packed.order.push(row);
                    match packed.runs.last_mut() {
                        Some(run) if run.weights as usize == kept.len() => run.rows += 1,
                        _ => packed.runs.push(Run {
                            rows: 1,
                            weights: kept.len() as u32,
                        }),
                    }
                    packed.offsets.extend(kept.iter().map(|kept| kept.0));
                    packed.values.extend(kept.iter().map(|kept| kept.1));
                }
                packed.order.push(0);
                packed
            })
            .collect();
        Self { blocks }
    }
}

/// # Safety
/// As promised by the maker of the [`Call`], for `N` vectors that are `STRIDE` values apart.
#[inline(always)]
unsafe fn kernel<V: InferenceVector, const SETS: usize, const N: usize, const STRIDE: usize>(
    rows: &Rows<SETS>,
    block: usize,
    call: &Call,
) {
    let first = block == 0;
    let last = block + 1 == rows.blocks.len();
    let block = &rows.blocks[block];
    // SAFETY: every offset of the block lies in the input with its N vectors, every row in the output, and the
    // offsets and values are as many as the runs say; the caller promises the rest.
    unsafe {
        let input = call.input;
        let mut offset = block.offsets.as_ptr();
        let mut value = block.values.as_ptr();
        let mut row = block.order.as_ptr();
        for run in &block.runs {
            if run.weights == 0 && !first && !(last && call.relu) {
                row = row.add(run.rows as usize);
                continue;
            }
            for _ in 0..run.rows {
                let at = *row as usize;
                row = row.add(1);
                let output = call.output.add(at * call.output_stride);
                if !first {
                    // Of the last row this is the entry behind it.
                    let next = call.output.wrapping_add(*row as usize * call.output_stride);
                    prefetch_values(next, N * V::LANES);
                }
                let mut sums = [V::splat(0.0); N];
                if first {
                    sums = [V::splat(*call.bias.add(at)); N];
                } else {
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = V::load(output.add(i * V::LANES));
                    }
                }
                let mut weights = run.weights;
                if SETS == 2 {
                    let mut others = [V::splat(0.0); N];
                    while weights >= 2 {
                        let (one, two) = (V::splat(*value), V::splat(*value.add(1)));
                        let from = input.add(*offset as usize);
                        let from_two = input.add(*offset.add(1) as usize);
                        for (i, sum) in sums.iter_mut().enumerate() {
                            *sum = sum.multiply_add(one, V::load(from.add(i * STRIDE)));
                        }
                        for (i, sum) in others.iter_mut().enumerate() {
                            *sum = sum.multiply_add(two, V::load(from_two.add(i * STRIDE)));
                        }
                        value = value.add(2);
                        offset = offset.add(2);
                        weights -= 2;
                    }
                    for (sum, other) in sums.iter_mut().zip(others) {
                        *sum = sum.add(other);
                    }
                }
                if SETS == 1 {
                    // Offsets and weights of four are one load each: the loads are the limit.
                    while weights >= 4 {
                        let four = V::four(value);
                        let offsets = FourOffsets::load(offset);
                        macro_rules! add {
                            ($i:literal) => {
                                let weight = four.pick::<$i>();
                                let from = input.add(offsets.get($i));
                                for (i, sum) in sums.iter_mut().enumerate() {
                                    *sum = sum.multiply_add(weight, V::load(from.add(i * STRIDE)));
                                }
                            };
                        }
                        add!(0);
                        add!(1);
                        add!(2);
                        add!(3);
                        value = value.add(4);
                        offset = offset.add(4);
                        weights -= 4;
                    }
                }
                while weights > 0 {
                    let weight = V::splat(*value);
                    let from = input.add(*offset as usize);
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = sum.multiply_add(weight, V::load(from.add(i * STRIDE)));
                    }
                    value = value.add(1);
                    offset = offset.add(1);
                    weights -= 1;
                }
                if last && call.relu {
                    for sum in &mut sums {
                        *sum = sum.relu();
                    }
                }
                for (i, sum) in sums.iter().enumerate() {
                    sum.store(output.add(i * V::LANES));
                }
            }
        }
    }
}

/// # Safety
/// As [`kernel`].
#[inline(always)]
unsafe fn single<V: InferenceVector, const N: usize, const STRIDE: usize>(
    rows: &Rows<1>,
    block: usize,
    call: &Call,
) {
    // SAFETY: the caller's promises are the same.
    unsafe { kernel::<V, 1, N, STRIDE>(rows, block, call) }
}

/// # Safety
/// As [`kernel`].
#[inline(always)]
unsafe fn double<V: InferenceVector, const N: usize, const STRIDE: usize>(
    rows: &Rows<2>,
    block: usize,
    call: &Call,
) {
    // SAFETY: the caller's promises are the same.
    unsafe { kernel::<V, 2, N, STRIDE>(rows, block, call) }
}

kernels!(Rows<1>, single, 8: [1 2 3 4 5 6 7 8 9 10 11 12], 16: [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16]);
kernels!(Rows<2>, double, 8: [1 2 3 4 5 6], 16: [1 2 3 4 5 6]);
