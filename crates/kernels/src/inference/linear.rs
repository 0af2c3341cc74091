//! Products of a matrix and one vector: fully connected layers at batch 1, bound by the memory of the weights.

use std::ops::Range;

use super::vector::{Eight, Vector};
use crate::{InstructionSet, instruction_set};

/// How the weights of a [`Linear`] layer are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// Every weight.
    Dense,
    /// Kept weights and their columns as 16-bit numbers.
    Gather,
    /// Kept weights and a bit for every weight.
    Bitmask,
}

impl Storage {
    /// All ways.
    pub const ALL: [Storage; 3] = [Storage::Dense, Storage::Gather, Storage::Bitmask];

    /// Whether a matrix of so many columns can be stored like this.
    pub fn can(self, columns: usize) -> bool {
        self != Storage::Gather || columns <= 1 << 16
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Storage::Dense => "dense",
            Storage::Gather => "gather",
            Storage::Bitmask => "bitmask",
        }
    }
}

/// Inputs are read in groups of this size; what is behind the last one must be zeros.
pub const GROUP: usize = 16;

/// A fully connected layer.
#[derive(Clone, Debug)]
pub struct Linear {
    storage: Storage,
    columns: usize,
    bias: Vec<f32>,
    relu: bool,
    nonzeros: usize,
    /// Where the values of a row begin, and behind the last one's end.
    starts: Vec<usize>,
    /// The kept weights, row after row, and some zeros to read behind the last one; for [`Storage::Dense`] all
    /// weights of rows of whole groups.
    values: Vec<f32>,
    /// Columns of the values, for [`Storage::Gather`].
    places: Vec<u16>,
    /// Bits of whole groups, for [`Storage::Bitmask`].
    masks: Vec<u16>,
}

impl Linear {
    /// Packs weights `[bias.len(), columns]`; negative results become 0 with `relu`.
    ///
    /// # Panics
    /// If the lengths differ, or there are more than 2^16 columns to gather.
    pub fn new(weights: &[f32], bias: &[f32], relu: bool, storage: Storage) -> Self {
        let rows = bias.len();
        assert!(rows > 0 && weights.len().is_multiple_of(rows));
        let columns = weights.len() / rows;
        assert!(storage.can(columns));
        let mut linear = Self {
            storage,
            columns,
            bias: bias.to_vec(),
            relu,
            nonzeros: weights.iter().filter(|weight| **weight != 0.0).count(),
            starts: vec![0],
            values: Vec::new(),
            places: Vec::new(),
            masks: Vec::new(),
        };
        for row in weights.chunks_exact(columns) {
            match storage {
                Storage::Dense => {
                    linear.values.extend(row);
                    let length = linear.values.len().next_multiple_of(GROUP);
                    linear.values.resize(length, 0.0);
                }
                Storage::Gather | Storage::Bitmask => {
                    linear
                        .values
                        .extend(row.iter().filter(|value| **value != 0.0));
                }
            }
            if storage == Storage::Gather {
                let kept = row.iter().zip(0..).filter(|(value, _)| **value != 0.0);
                linear.places.extend(kept.map(|(_, place): (_, u16)| place));
            }
            if storage == Storage::Bitmask {
                linear.masks.extend(row.chunks(GROUP).map(|group| {
                    let bits = group.iter().enumerate();
                    bits.fold(0, |mask, (i, value)| mask | u16::from(*value != 0.0) << i)
                }));
            }
            linear.starts.push(linear.values.len());
        }
        linear.values.extend([0.0; GROUP]);
        linear
    }

    /// How it is stored.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.bias.len()
    }

    /// Inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Weights that are not zero.
    pub fn nonzeros(&self) -> usize {
        self.nonzeros
    }

    /// Bytes of the packed weights, all of which one product reads.
    pub fn bytes(&self) -> usize {
        4 * self.values.len() + 2 * (self.places.len() + self.masks.len())
    }

    /// Some outputs; `input` has whole groups, `output` one value per row.
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn run(&self, rows: Range<usize>, input: &[f32], output: &mut [f32]) {
        assert_eq!(input.len(), self.columns.next_multiple_of(GROUP));
        assert!(rows.end <= self.rows() && output.len() == rows.len());
        // SAFETY: the lengths were just checked, and the instructions are those of this processor.
        unsafe {
            match instruction_set() {
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512 => avx512(self, rows, input, output),
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx2 => avx2(self, rows, input, output),
                _ => products::<Eight>(self, rows, input, output),
            }
        }
    }
}

/// # Safety
/// As [`products`], with AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,popcnt")]
unsafe fn avx512(linear: &Linear, rows: Range<usize>, input: &[f32], output: &mut [f32]) {
    // SAFETY: as promised by the caller.
    unsafe { products::<std::arch::x86_64::__m512>(linear, rows, input, output) }
}

/// # Safety
/// As [`products`], with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn avx2(linear: &Linear, rows: Range<usize>, input: &[f32], output: &mut [f32]) {
    // SAFETY: as promised by the caller.
    unsafe { products::<std::arch::x86_64::__m256>(linear, rows, input, output) }
}

/// # Safety
/// The rows exist, `input` has whole groups of columns, and the processor has the instructions of `V`.
#[inline(always)]
unsafe fn products<V: Vector>(
    linear: &Linear,
    rows: Range<usize>,
    input: &[f32],
    output: &mut [f32],
) {
    for (row, output) in rows.zip(output) {
        // SAFETY: as promised by the caller.
        let sum = unsafe {
            match linear.storage {
                Storage::Dense => dense::<V>(linear, row, input),
                Storage::Gather => gather(linear, row, input),
                Storage::Bitmask => bitmask::<V>(linear, row, input),
            }
        };
        let sum = sum + linear.bias[row];
        *output = if linear.relu && sum < 0.0 { 0.0 } else { sum };
    }
}

/// # Safety
/// As [`products`].
#[inline(always)]
unsafe fn dense<V: Vector>(linear: &Linear, row: usize, input: &[f32]) -> f32 {
    let values = &linear.values[linear.starts[row]..linear.starts[row + 1]];
    assert!(values.len() == input.len());
    const SUMS: usize = 4;
    // SAFETY: both slices have whole groups, which are whole vectors.
    unsafe {
        let mut sums = [V::splat(0.0); SUMS];
        let mut at = 0;
        while at + SUMS * V::LANES <= values.len() {
            for (i, sum) in sums.iter_mut().enumerate() {
                let at = at + i * V::LANES;
                let left = V::load(values.as_ptr().add(at));
                *sum = sum.multiply_add(left, V::load(input.as_ptr().add(at)));
            }
            at += SUMS * V::LANES;
        }
        while at < values.len() {
            let left = V::load(values.as_ptr().add(at));
            sums[0] = sums[0].multiply_add(left, V::load(input.as_ptr().add(at)));
            at += V::LANES;
        }
        sums[0].add(sums[1]).add(sums[2].add(sums[3])).total()
    }
}

/// # Safety
/// As [`products`].
#[inline(always)]
unsafe fn gather(linear: &Linear, row: usize, input: &[f32]) -> f32 {
    let range = linear.starts[row]..linear.starts[row + 1];
    let (values, places) = (&linear.values[range.clone()], &linear.places[range]);
    let mut sums = [0.0; 8];
    let (value_groups, value_rest) = values.as_chunks::<8>();
    let (place_groups, place_rest) = places.as_chunks::<8>();
    // SAFETY: every place is a column, and the input has as many.
    let at = |place: u16| unsafe { *input.get_unchecked(usize::from(place)) };
    for (values, places) in value_groups.iter().zip(place_groups) {
        for i in 0..8 {
            sums[i] += values[i] * at(places[i]);
        }
    }
    for (i, (value, place)) in value_rest.iter().zip(place_rest).enumerate() {
        sums[i] += value * at(*place);
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

/// # Safety
/// As [`products`].
#[inline(always)]
unsafe fn bitmask<V: Vector>(linear: &Linear, row: usize, input: &[f32]) -> f32 {
    let groups = input.len() / GROUP;
    let masks = &linear.masks[row * groups..(row + 1) * groups];
    let parts = GROUP / V::LANES;
    let bits = u32::MAX >> (32 - V::LANES as u32);
    // SAFETY: a vector's worth of values can be read behind the last one; the input has a group per mask.
    unsafe {
        let mut value = linear.values.as_ptr().add(linear.starts[row]);
        let mut from = input.as_ptr();
        let mut sums = [V::splat(0.0); 4];
        for (group, mask) in masks.iter().enumerate() {
            for part in 0..parts {
                let mask = u32::from(*mask) >> (part * V::LANES) & bits;
                let weights = V::expand(value, mask);
                let sum = &mut sums[(group * parts + part) % 4];
                *sum = sum.multiply_add(weights, V::load(from));
                value = value.add(mask.count_ones() as usize);
                from = from.add(V::LANES);
            }
        }
        sums[0].add(sums[1]).add(sums[2].add(sums[3])).total()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers};

    #[test]
    fn products_match_plain_loops_at_every_density() {
        for (rows, columns) in [
            (1, 1),
            (3, 15),
            (4, 16),
            (5, 17),
            (10, 100),
            (7, 800),
            (2, 9216),
        ] {
            for density in [0.0, 0.05, 0.1, 0.25, 0.5, 1.0] {
                let mut weights = numbers(rows * columns, 1);
                for (weight, chance) in weights.iter_mut().zip(numbers(rows * columns, 2)) {
                    if f64::from(chance.abs()) >= density {
                        *weight = 0.0;
                    }
                }
                let bias = numbers(rows, 3);
                let mut input = numbers(columns, 4);
                let expected: Vec<f64> = weights
                    .chunks_exact(columns)
                    .zip(&bias)
                    .map(|(row, bias)| {
                        let products = row
                            .iter()
                            .zip(&input)
                            .map(|(w, x)| f64::from(*w) * f64::from(*x));
                        products.sum::<f64>() + f64::from(*bias)
                    })
                    .collect();
                input.resize(columns.next_multiple_of(GROUP), 0.0);
                for storage in Storage::ALL {
                    for relu in [false, true] {
                        let linear = Linear::new(&weights, &bias, relu, storage);
                        let mut output = vec![f32::NAN; rows];
                        linear.run(0..rows, &input, &mut output);
                        let cut = |value: &f64| if relu { value.max(0.0) } else { *value };
                        let expected: Vec<f64> = expected.iter().map(cut).collect();
                        let what = format!("{storage:?} [{rows}, {columns}] density {density}");
                        assert_close(&output, &expected, &what);
                        let mut one = [f32::NAN];
                        linear.run(rows - 1..rows, &input, &mut one);
                        assert_eq!(one[0].to_bits(), output[rows - 1].to_bits(), "{what}");
                    }
                }
            }
        }
    }
}
