//! The columns of a weight matrix by the addresses of their inputs, cut into blocks that fit the first-level cache.

use std::collections::HashSet;
use std::ops::Range;

use super::layout::LINE;

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
    /// Neighbouring columns that read the same channel.
    taps: usize,
}

impl<'a> Columns<'a> {
    /// `values` are `[rows, offsets.len()]`; the inputs of column `c` start at `offsets[c]`, and every `taps` columns read
    /// the same channel.
    pub fn new(values: &'a [f32], offsets: impl Iterator<Item = usize>, taps: usize) -> Self {
        let mut columns: Vec<_> = offsets.zip(0..).collect();
        columns.sort_unstable();
        assert!(!columns.is_empty() && values.len().is_multiple_of(columns.len()));
        assert!(columns.len().is_multiple_of(taps));
        Self {
            values,
            columns,
            taps,
        }
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

    /// Neighbouring columns that touch no more bytes than the budget, fewer than 2^16 of them, with offsets that differ by
    /// less than 2^16 values: whole channels, or a part of one where one alone is too much.
    pub fn blocks(&self, geometry: &Geometry) -> Vec<Range<usize>> {
        let mut blocks = Vec::new();
        let mut block = Block::new(0);
        for channel in (0..self.len()).step_by(self.taps) {
            let channel = channel..channel + self.taps;
            if channel
                .clone()
                .all(|column| block.take(self, column, geometry))
            {
                continue;
            }
            if channel.start > block.start {
                blocks.push(block.start..channel.start);
            }
            block = Block::new(channel.start);
            for column in channel.clone() {
                if !block.take(self, column, geometry) {
                    blocks.push(block.start..column);
                    block = Block::new(column);
                    block.take(self, column, geometry);
                }
            }
            // The parts of a channel stay alone.
            if block.start > channel.start {
                blocks.push(block.start..channel.end);
                block = Block::new(channel.end);
            }
        }
        if block.start < self.len() {
            blocks.push(block.start..self.len());
        }
        blocks
    }
}

/// A block that grows.
struct Block {
    start: usize,
    /// Cache lines.
    touched: HashSet<usize>,
}

impl Block {
    fn new(start: usize) -> Self {
        Self {
            start,
            touched: HashSet::new(),
        }
    }

    /// Whether there is room for the next column, which the first one always has.
    fn take(&mut self, columns: &Columns, column: usize, geometry: &Geometry) -> bool {
        let offset = columns.offset(column);
        self.touched
            .extend((0..geometry.vectors).flat_map(|vector| {
                let from = offset + vector * geometry.stride;
                from / LINE..=(from + geometry.lanes - 1) / LINE
            }));
        let limit = usize::from(u16::MAX);
        column == self.start
            || self.touched.len() * LINE * 4 <= geometry.budget
                && offset - columns.offset(self.start) <= limit
                && column - self.start < limit
    }
}
