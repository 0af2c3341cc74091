//! Which weights of a layer are kept, in bytes. A layer is a matrix of rows (output channels) and columns.

pub mod bitmask;
pub mod coded;
pub mod gaps;
pub mod rice;

use skinny_sparsity::Mask;

/// Why index bytes were refused, without the layer's name.
pub(crate) type Refusal = String;

/// Extents of a layer's weights seen as a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matrix {
    pub rows: usize,
    pub columns: usize,
}

impl Matrix {
    /// Rows of the first extent, columns of all others; a single number is one row.
    pub fn of(shape: &[usize]) -> Matrix {
        Matrix {
            rows: shape.first().copied().unwrap_or(1),
            columns: shape.get(1..).unwrap_or_default().iter().product(),
        }
    }

    pub fn len(self) -> usize {
        self.rows * self.columns
    }

    /// Number of kept weights before each row.
    pub fn row_starts(self, mask: &Mask) -> Vec<usize> {
        let mut starts = Vec::with_capacity(self.rows);
        let mut kept = mask.iter().peekable();
        let mut before = 0;
        for row in 0..self.rows {
            starts.push(before);
            let end = (row + 1) * self.columns;
            while kept.next_if(|index| *index < end).is_some() {
                before += 1;
            }
        }
        starts
    }
}

/// Offsets of rows as the file has them.
pub(crate) fn offsets_to_bytes(offsets: &[usize]) -> Vec<u8> {
    offsets
        .iter()
        .flat_map(|offset| (*offset as i64).to_le_bytes())
        .collect()
}

/// The offsets of rows in a file, one by one.
pub(crate) fn offsets(bytes: &[u8]) -> impl Iterator<Item = i64> {
    bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|word| i64::from_le_bytes(*word))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use skinny_sparsity::Mask;

    use super::*;

    /// Matrices with masks from nearly empty to full, rows without a kept weight included.
    pub fn masks() -> impl Strategy<Value = (Matrix, Mask)> {
        (1usize..20, 1usize..700, 0.0f64..=1.0, any::<u64>()).prop_map(
            |(rows, columns, density, seed)| {
                let matrix = Matrix { rows, columns };
                (matrix, mask(matrix, density * density, seed))
            },
        )
    }

    /// A mask that keeps about this share of all weights.
    pub fn mask(matrix: Matrix, density: f64, seed: u64) -> Mask {
        let mut state = seed | 1;
        Mask::from_fn(matrix.len(), |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 11) as f64) < density * (1u64 << 53) as f64
        })
    }
}
