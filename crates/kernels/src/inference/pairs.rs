//! Sparse products of two rows together: what both rows weight is loaded once for both, and the columns of one row alone
//! are computed beside those of the other one alone.
//!
//! A row by itself needs a load for every multiply-add, and the units that load are then the limit. Rows become partners
//! by how many columns they share.

use std::ops::Range;

use super::columns::Columns;
use super::convolution::BAND;
use super::table::{Call, kernels};
use super::vector::{FourOffsets, InferenceVector, prefetch_values};

/// The kept weights of some rows of a matrix.
#[derive(Clone, Debug)]
pub(super) struct Pairs {
    blocks: Vec<Block>,
}

/// The kept weights in some neighbouring columns.
#[derive(Clone, Debug, Default)]
struct Block {
    pairs: Vec<Pair>,
    /// Of every pair: the offsets of the columns of both rows; in turn one of the first row alone and one of the second
    /// row alone; what is left of the first row.
    offsets: Vec<u16>,
    /// In the same order, for the columns of both rows two values each.
    values: Vec<f32>,
}

/// Two rows, or one row twice.
#[derive(Clone, Copy, Debug)]
struct Pair {
    rows: [u32; 2],
    /// Columns of both rows.
    both: u32,
    /// Columns of each row alone that are computed beside each other.
    apart: u32,
    /// Columns that are left of the first row.
    rest: u32,
}

impl Pairs {
    /// Packs `rows` of the matrix by blocks of columns. Partners are of the same band of [`BAND`] rows, counted from the first one.
    pub fn new(columns: &Columns, rows: Range<usize>, blocks: &[Range<usize>]) -> Self {
        let pack = |block: Range<usize>| {
            let kept: Vec<Kept> = rows
                .clone()
                .map(|row| Kept::new(columns, row, block.clone()))
                .collect();
            let mut pairs: Vec<[usize; 2]> = (0..kept.len())
                .step_by(BAND)
                .flat_map(|first| partners(&kept, first..kept.len().min(first + BAND)))
                .collect();
            // The ends of loops of the same length are predicted.
            pairs.sort_by_key(|[one, two]| kept[*one].and(&kept[*two]).count());
            let mut packed = Block::default();
            for pair in pairs {
                packed.push(pair, &kept, columns, rows.start, block.start);
            }
            packed
        };
        Self {
            blocks: blocks.iter().cloned().map(pack).collect(),
        }
    }
}

impl Block {
    /// Adds two rows, or one row twice. `kept` is of all rows from `first_row` on, and its columns of `first_column` on.
    fn push(
        &mut self,
        [mut one, mut two]: [usize; 2],
        kept: &[Kept],
        columns: &Columns,
        first_row: usize,
        first_column: usize,
    ) {
        if kept[one].count() < kept[two].count() {
            (one, two) = (two, one);
        }
        let nothing = Kept(vec![0; kept[one].0.len()]);
        let other = if one == two { &nothing } else { &kept[two] };
        let both = kept[one].and(other);
        let (alone, other) = (kept[one].without(&both), other.without(&both));
        self.pairs.push(Pair {
            rows: [one as u32, two as u32],
            both: both.count() as u32,
            apart: other.count() as u32,
            rest: (alone.count() - other.count()) as u32,
        });
        let base = columns.offset(first_column);
        let mut add = |column: usize, rows: &[usize]| {
            let column = first_column + column;
            let offset = u16::try_from(columns.offset(column) - base);
            self.offsets.push(offset.expect("a block spans 2^16"));
            let values = rows
                .iter()
                .map(|row| columns.value(first_row + row, column));
            self.values.extend(values);
        };
        both.columns().for_each(|column| add(column, &[one, two]));
        let mut others = other.columns();
        for column in alone.columns() {
            add(column, &[one]);
            if let Some(column) = others.next() {
                add(column, &[two]);
            }
        }
    }
}

/// Which columns of a block have a weight in a row.
struct Kept(Vec<u64>);

impl Kept {
    fn new(columns: &Columns, row: usize, block: Range<usize>) -> Self {
        let mut words = vec![0; block.len().div_ceil(64)];
        for (at, column) in block.enumerate() {
            let kept = columns.value(row, column) != 0.0;
            words[at / 64] |= u64::from(kept) << (at % 64);
        }
        Self(words)
    }

    fn and(&self, other: &Self) -> Self {
        let words = self.0.iter().zip(&other.0);
        Self(words.map(|(a, b)| a & b).collect())
    }

    fn without(&self, other: &Self) -> Self {
        let words = self.0.iter().zip(&other.0);
        Self(words.map(|(a, b)| a & !b).collect())
    }

    fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    fn columns(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let rest = |word: &u64| Some(word & (word - 1)).filter(|word| *word != 0);
            let words = std::iter::successors(Some(*word).filter(|word| *word != 0), rest);
            words.map(move |word| at * 64 + word.trailing_zeros() as usize)
        })
    }
}

/// Partners among some rows, those who share most columns first; a row that is left over is its own.
fn partners(kept: &[Kept], band: Range<usize>) -> Vec<[usize; 2]> {
    let mut candidates = Vec::new();
    for one in band.clone() {
        for two in one + 1..band.end {
            candidates.push((kept[one].and(&kept[two]).count(), [one, two]));
        }
    }
    candidates.sort_by_key(|(shared, rows)| (std::cmp::Reverse(*shared), *rows));
    let mut left: Vec<usize> = band.collect();
    let mut pairs = Vec::new();
    for (_, pair) in candidates {
        if pair.iter().all(|row| left.contains(row)) {
            left.retain(|row| !pair.contains(row));
            pairs.push(pair);
        }
    }
    pairs.extend(left.into_iter().map(|row| [row, row]));
    pairs
}

/// # Safety
/// As promised by the maker of the [`Call`], for `N` vectors that are `STRIDE` values apart.
#[inline(always)]
unsafe fn kernel<V: InferenceVector, const N: usize, const STRIDE: usize>(
    pairs: &Pairs,
    block: usize,
    call: &Call,
) {
    let first = block == 0;
    let relu = call.relu && block + 1 == pairs.blocks.len();
    let block = &pairs.blocks[block];
    // SAFETY: every offset of the block lies in the input with its N vectors, every row in the output, and the
    // offsets and values are as many as the pairs say; the caller promises the rest.
    unsafe {
        let input = call.input;
        let mut offset = block.offsets.as_ptr();
        let mut value = block.values.as_ptr();
        for (at, pair) in block.pairs.iter().enumerate() {
            if let (false, Some(next)) = (first, block.pairs.get(at + 1)) {
                for row in next.rows {
                    let sums = call.output.wrapping_add(row as usize * call.output_stride);
                    prefetch_values(sums, N * V::LANES);
                }
            }
            let [at_one, at_two] = pair.rows.map(|row| row as usize);
            let to_one = call.output.add(at_one * call.output_stride);
            let to_two = call.output.add(at_two * call.output_stride);
            let (mut one, mut two) = if first {
                let bias = |at| V::splat(*call.bias.add(at));
                ([bias(at_one); N], [bias(at_two); N])
            } else {
                (load::<V, N>(to_one), load::<V, N>(to_two))
            };
            for _ in 0..pair.both {
                let from = input.add(usize::from(*offset));
                let weights = [V::splat(*value), V::splat(*value.add(1))];
                for i in 0..N {
                    let right = V::load(from.add(i * STRIDE));
                    one[i] = one[i].multiply_add(weights[0], right);
                    two[i] = two[i].multiply_add(weights[1], right);
                }
                offset = offset.add(1);
                value = value.add(2);
            }
            let mut apart = pair.apart;
            // Offsets and weights of four are one load each.
            while apart >= 2 {
                let four = V::four(value);
                let offsets = FourOffsets::load(offset);
                let from = |i| input.add(offsets.get(i));
                add::<V, N, STRIDE>(&mut one, four.pick::<0>(), from(0));
                add::<V, N, STRIDE>(&mut two, four.pick::<1>(), from(1));
                add::<V, N, STRIDE>(&mut one, four.pick::<2>(), from(2));
                add::<V, N, STRIDE>(&mut two, four.pick::<3>(), from(3));
                offset = offset.add(4);
                value = value.add(4);
                apart -= 2;
            }
            let from = |offset: *const u16| input.add(usize::from(*offset));
            if apart > 0 {
                add::<V, N, STRIDE>(&mut one, V::splat(*value), from(offset));
                add::<V, N, STRIDE>(&mut two, V::splat(*value.add(1)), from(offset.add(1)));
                offset = offset.add(2);
                value = value.add(2);
            }
            for _ in 0..pair.rest {
                add::<V, N, STRIDE>(&mut one, V::splat(*value), from(offset));
                offset = offset.add(1);
                value = value.add(1);
            }
            // The second row first: of a row that is its own partner, the first has the sums.
            store(two, relu, to_two);
            store(one, relu, to_one);
        }
    }
}

/// # Safety
/// `N` vectors can be read, and the processor has the instructions.
#[inline(always)]
unsafe fn load<V: InferenceVector, const N: usize>(from: *const f32) -> [V; N] {
    // SAFETY: as promised by the caller.
    unsafe {
        let mut sums = [V::splat(0.0); N];
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = V::load(from.add(i * V::LANES));
        }
        sums
    }
}

/// Stores the sums of a row, negative ones as 0 if `relu` asks for it.
///
/// # Safety
/// `N` vectors can be written, and the processor has the instructions.
#[inline(always)]
unsafe fn store<V: InferenceVector, const N: usize>(sums: [V; N], relu: bool, to: *mut f32) {
    for (i, sum) in sums.iter().enumerate() {
        // SAFETY: as promised by the caller.
        unsafe {
            let sum = if relu { sum.relu() } else { *sum };
            sum.store(to.add(i * V::LANES));
        }
    }
}

/// Adds one column to the sums of a row.
///
/// # Safety
/// `N` vectors that are `STRIDE` values apart can be read, and the processor has the instructions.
#[inline(always)]
unsafe fn add<V: InferenceVector, const N: usize, const STRIDE: usize>(
    sums: &mut [V; N],
    weight: V,
    from: *const f32,
) {
    // SAFETY: as promised by the caller.
    unsafe {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = sum.multiply_add(weight, V::load(from.add(i * STRIDE)));
        }
    }
}

kernels!(Pairs, kernel, 8: [1 2 3 4 5 6], 16: [1 2 3 4 5 6 7 8 9 10 11 12]);
