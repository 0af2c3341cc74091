//! Products of a matrix and one vector: fully connected layers at batch 1, bound by the memory of the weights.

mod int8;
mod permute;
mod single;

use std::ops::Range;

use int8::Int8;

use super::memory::large;

/// How the weights of a [`Linear`] layer are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// Every weight.
    Dense,
    /// Kept weights and their columns as 16-bit numbers.
    Gather,
    /// Kept weights and a bit for every weight.
    Bitmask,
    /// Kept weights of 8 bits and their places among 128 columns.
    Permute,
}

impl Storage {
    /// All ways.
    pub const ALL: [Storage; 4] = [
        Storage::Dense,
        Storage::Gather,
        Storage::Bitmask,
        Storage::Permute,
    ];

    /// Whether a matrix of so many columns can be stored like this.
    pub fn can(self, columns: usize, precision: Precision) -> bool {
        match self {
            Storage::Dense | Storage::Bitmask => true,
            Storage::Gather => columns <= 1 << 16,
            Storage::Permute => precision == Precision::Int8,
        }
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Storage::Dense => "dense",
            Storage::Gather => "gather",
            Storage::Bitmask => "bitmask",
            Storage::Permute => "permute",
        }
    }
}

/// The numbers that a [`Linear`] layer computes with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// `f32` throughout.
    #[default]
    Single,
    /// Weights of 8 bits with a scale per output, times inputs of 8 bits with one scale, which is found anew for every
    /// input.
    Int8,
}

impl Precision {
    /// Whether a layer of so many inputs can be computed like this: the sums must not overflow.
    pub fn can(self, columns: usize) -> bool {
        self == Precision::Single || columns <= int8::COLUMNS
    }
}

/// Inputs are read in groups of this size; what is behind the last one must be zeros.
pub const GROUP: usize = 16;

/// Zeros behind the last value, which a kernel may read.
const PADDING: usize = 128;

/// Bytes of weights are fetched so far ahead of their use: what memory needs to answer, at its full speed.
const AHEAD: usize = 8192;

/// A fully connected layer.
#[derive(Clone, Debug)]
pub struct Linear {
    storage: Storage,
    columns: usize,
    bias: Vec<f32>,
    relu: bool,
    values: Values,
}

/// The weights of a layer in its precision.
#[derive(Clone, Debug)]
enum Values {
    Single(Packed<f32>),
    Int8(Int8),
}

impl Linear {
    /// Packs weights `[bias.len(), columns]`; negative results become 0 with `relu`.
    ///
    /// # Panics
    /// If the lengths differ, or there are too many columns for the storage or the precision.
    pub fn new(
        weights: &[f32],
        bias: &[f32],
        relu: bool,
        storage: Storage,
        precision: Precision,
    ) -> Self {
        let rows = bias.len();
        assert!(rows > 0 && weights.len().is_multiple_of(rows));
        let columns = weights.len() / rows;
        assert!(storage.can(columns, precision) && precision.can(columns));
        let nonzeros = weights.iter().filter(|weight| **weight != 0.0).count();
        let values = match precision {
            Precision::Single => {
                let mut packed = Packed::new(rows, columns, nonzeros, storage);
                for row in weights.chunks_exact(columns) {
                    packed.push(row, storage);
                }
                packed.finish();
                Values::Single(packed)
            }
            Precision::Int8 => Values::Int8(Int8::new(weights, [rows, columns], nonzeros, storage)),
        };
        Self {
            storage,
            columns,
            bias: bias.to_vec(),
            relu,
            values,
        }
    }

    /// How it is stored.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// What it computes with.
    pub fn precision(&self) -> Precision {
        match self.values {
            Values::Single(_) => Precision::Single,
            Values::Int8(_) => Precision::Int8,
        }
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.bias.len()
    }

    /// Inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Values that [`Self::run`] needs to itself.
    pub fn scratch_len(&self) -> usize {
        match &self.values {
            Values::Single(_) => 0,
            Values::Int8(_) => int8::scratch_len(self.columns),
        }
    }

    /// Some outputs; `input` has whole groups, `output` one value per row.
    ///
    /// # Panics
    /// If a slice has another length, or the scratch is too short.
    pub fn run(&self, rows: Range<usize>, input: &[f32], output: &mut [f32], scratch: &mut [f32]) {
        assert_eq!(input.len(), self.columns.next_multiple_of(GROUP));
        assert!(rows.end <= self.rows() && output.len() == rows.len());
        // SAFETY: the rows exist, and the length of the input was just checked.
        unsafe {
            match &self.values {
                Values::Single(packed) => {
                    single::run(packed, self.storage, rows.clone(), input, output);
                }
                Values::Int8(int8) => {
                    int8.run(self.storage, rows.clone(), input, output, scratch);
                }
            }
        }
        for (output, bias) in output.iter_mut().zip(&self.bias[rows]) {
            let sum = *output + bias;
            *output = if self.relu && sum < 0.0 { 0.0 } else { sum };
        }
    }
}

/// Rows of weights in one of the ways to store them.
#[derive(Clone, Debug)]
struct Packed<T> {
    /// Where the values of a row begin, and behind the last one's end.
    starts: Vec<usize>,
    /// The kept weights, row after row, and some zeros to read behind the last one. For [`Storage::Gather`] rows are whole
    /// groups, with zeros for the first column behind their weights; for [`Storage::Dense`] too, with all weights.
    values: Vec<T>,
    /// Columns of the values, for [`Storage::Gather`].
    places: Vec<u16>,
    /// Bits of whole groups, for [`Storage::Bitmask`].
    masks: Vec<u16>,
    /// For [`Storage::Permute`], places of the values in their spans, the steps, and where those of a row begin.
    near: Vec<u8>,
    steps: Vec<permute::Step>,
    step_starts: Vec<usize>,
}

impl<T: Copy + Default + PartialEq> Packed<T> {
    /// No row yet, but room for all of them and what is read behind the last one.
    fn new(rows: usize, columns: usize, nonzeros: usize, storage: Storage) -> Self {
        let groups = rows * columns.div_ceil(GROUP);
        let (values, places, masks, near) = match storage {
            Storage::Dense => (groups * GROUP, 0, 0, 0),
            Storage::Gather => (nonzeros + rows * GROUP, nonzeros + rows * GROUP, 0, 0),
            Storage::Bitmask => (nonzeros, 0, groups, 0),
            Storage::Permute => (nonzeros, 0, 0, nonzeros),
        };
        let mut starts = Vec::with_capacity(rows + 1);
        starts.push(0);
        Self {
            starts,
            values: large(values + PADDING),
            places: large(places),
            masks: large(masks),
            near: large(near + PADDING),
            steps: Vec::new(),
            step_starts: vec![0],
        }
    }

    /// Adds a row.
    fn push(&mut self, row: &[T], storage: Storage) {
        match storage {
            Storage::Dense => {
                self.values.extend_from_slice(row);
                let length = self.values.len().next_multiple_of(GROUP);
                self.values.resize(length, T::default());
            }
            Storage::Gather | Storage::Bitmask => {
                for (group, at) in row.chunks(GROUP).zip((0..).step_by(GROUP)) {
                    // What is not kept is written too, and then written over: no branch to mispredict.
                    let (mut values, mut places) = ([T::default(); GROUP], [0; GROUP]);
                    let (mut mask, mut length) = (0, 0);
                    for (i, value) in group.iter().enumerate() {
                        let kept = *value != T::default();
                        values[length] = *value;
                        places[length] = (at + i) as u16;
                        mask |= u16::from(kept) << i;
                        length += usize::from(kept);
                    }
                    self.values.extend_from_slice(&values[..length]);
                    match storage {
                        Storage::Gather => self.places.extend_from_slice(&places[..length]),
                        _ => self.masks.push(mask),
                    }
                }
            }
            Storage::Permute => permute::push(self, row),
        }
        if storage == Storage::Gather {
            let length = self.values.len().next_multiple_of(GROUP);
            self.values.resize(length, T::default());
            self.places.resize(length, 0);
        }
        self.starts.push(self.values.len());
    }

    /// Adds what kernels read behind the last row.
    fn finish(&mut self) {
        self.values.extend([T::default(); PADDING]);
        self.near.extend([0; PADDING]);
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
                for storage in [Storage::Dense, Storage::Gather, Storage::Bitmask] {
                    for relu in [false, true] {
                        let linear = Linear::new(&weights, &bias, relu, storage, Precision::Single);
                        let mut output = vec![f32::NAN; rows];
                        linear.run(0..rows, &input, &mut output, &mut []);
                        let cut = |value: &f64| if relu { value.max(0.0) } else { *value };
                        let expected: Vec<f64> = expected.iter().map(cut).collect();
                        let what = format!("{storage:?} [{rows}, {columns}] density {density}");
                        assert_close(&output, &expected, &what);
                        let mut one = [f32::NAN];
                        linear.run(rows - 1..rows, &input, &mut one, &mut []);
                        assert_eq!(one[0].to_bits(), output[rows - 1].to_bits(), "{what}");
                    }
                }
            }
        }
    }
}
