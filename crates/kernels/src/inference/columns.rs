//! The columns of a weight matrix by the addresses of their inputs, cut into blocks that fit the first-level cache.

use std::collections::HashSet;
use std::ops::Range;

/// What a tile of outputs reads at each column: vectors of `lanes` values that are `stride` values apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub lanes: usize,
    pub vectors: usize,
    pub stride: usize,
    /// Bytes of input that one block of columns may touch.
    pub budget: usize,
}

/// A matrix whose columns are sorted by where their inputs lie.
#[derive(Clone, Debug)]
pub(super) struct Columns<'a> {
    values: &'a [f32],
    /// Offset of the input in values, and index in the matrix.
    columns: Vec<(usize, usize)>,
}

impl<'a> Columns<'a> {
    /// `values` are `[rows, offsets.len()]`; the inputs of column `c` start at `offsets[c]`.
    pub fn new(values: &'a [f32], offsets: impl Iterator<Item = usize>) -> Self {
        let mut columns: Vec<_> = offsets.zip(0..).collect();
        columns.sort_unstable();
        assert!(!columns.is_empty() && values.len().is_multiple_of(columns.len()));
        Self { values, columns }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.columns.len()
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Where the inputs of the column at this place in the order start.
    pub fn offset(&self, column: usize) -> usize {
        self.columns[column].0
    }

    /// The weight of a row at the column at this place in the order.
    pub fn value(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.columns.len() + self.columns[column].1]
    }

    /// Neighbouring columns that touch no more bytes than the budget (or are one), fewer than 2^16 of them, with
    /// offsets that differ by less than 2^16 values.
    pub fn blocks(&self, geometry: &Geometry) -> Vec<Range<usize>> {
        const LINE: usize = 16;
        let mut blocks = Vec::new();
        let mut touched = HashSet::new();
        let mut start = 0;
        for (column, (offset, _)) in self.columns.iter().enumerate() {
            let lines = (0..geometry.vectors).flat_map(|vector| {
                let from = offset + vector * geometry.stride;
                from / LINE..=(from + geometry.lanes - 1) / LINE
            });
            let before = touched.len();
            touched.extend(lines.clone());
            let full = touched.len() * LINE * 4 > geometry.budget && before > 0;
            let limit = usize::from(u16::MAX);
            if full || offset - self.columns[start].0 > limit || column - start >= limit {
                blocks.push(start..column);
                start = column;
                touched.clear();
                touched.extend(lines);
            }
        }
        blocks.push(start..self.columns.len());
        blocks
    }
}
