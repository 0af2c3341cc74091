//! Products with a sparse left matrix, and the gradient of such a product at the kept elements only.
//!
//! The columns are taken [`TILE`] at a time and the depth [`BLOCK`] at a time, so that the packed part of the right
//! matrix stays in the first-level cache while every kept element of its depths is multiplied with a row of it: one
//! element of the left matrix, one whole row of registers. Nothing is done for elements that are not kept.
//!
//! Where few elements are kept, packing is most of the work. A right matrix whose vectors of columns lie together in memory
//! can then be read where it lies: the order of the sums, and so their bits, are the same.

mod kernel;

use std::ops::Range;

use crate::gemm::{LINE, Output, Right, aligned};
use kernel::kernels;

/// Columns of one tile, a multiple of the lanes of every vector.
pub(crate) const TILE: usize = 64;

/// Depths whose part of a tile is multiplied at once.
pub(crate) const BLOCK: usize = 96;

/// Vectors of a tile, where vectors are shortest.
const VECTORS_MAX: usize = TILE / 4;

/// Where the vectors of a tile begin in a right matrix that is read where it lies.
pub(crate) type Places = [usize; VECTORS_MAX];

/// Columns of a vector on this processor.
pub(crate) fn lanes() -> usize {
    kernels().lanes
}

/// A right matrix that is read where it lies: vectors of columns begin at their places, plus the offset of the depth.
pub(crate) struct InPlace<'a, P: Fn(Range<usize>) -> Places> {
    pub data: &'a [f32],
    /// The places of the vectors of [`TILE`] columns.
    pub places: P,
}

/// A kept element: where its row of the packed block begins, or the offset of its depth in place, and its value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(crate) struct Entry {
    offset: u32,
    value: f32,
}

/// The kept elements of one row in one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct List {
    row: u32,
    start: u32,
    end: u32,
}

#[derive(Clone, Debug)]
struct Block {
    depth: Range<usize>,
    lists: Range<usize>,
}

/// The kept elements of a matrix, block after block of its depth; their order never changes.
#[derive(Clone, Debug)]
pub(crate) struct SparseMatrix {
    rows: usize,
    blocks: Vec<Block>,
    lists: Vec<List>,
    entries: Vec<Entry>,
    /// For every entry, the position of its value among the weights.
    sources: Vec<u32>,
    /// The largest offset.
    reach: usize,
    /// Whether offsets are those of depths in place instead of rows of a packed block.
    in_place: bool,
}

impl SparseMatrix {
    /// The pattern with the given kept elements `(row, depth, position of the value among the weights)`.
    pub fn new(shape: [usize; 2], elements: impl Iterator<Item = (usize, usize, usize)>) -> Self {
        Self::with_offsets(shape, BLOCK, |at| at % BLOCK * TILE, elements)
    }

    /// The same for a right matrix that is read where it lies, with the offset of every depth.
    pub fn in_place(
        rows: usize,
        offsets: &[usize],
        elements: impl Iterator<Item = (usize, usize, usize)>,
    ) -> Self {
        let depth = offsets.len();
        Self {
            in_place: true,
            ..Self::with_offsets([rows, depth], depth.max(1), |at| offsets[at], elements)
        }
    }

    /// Whether the right matrix is read where it lies, not packed.
    pub fn is_in_place(&self) -> bool {
        self.in_place
    }

    fn with_offsets(
        [rows, depth]: [usize; 2],
        block: usize,
        offset: impl Fn(usize) -> usize,
        elements: impl Iterator<Item = (usize, usize, usize)>,
    ) -> Self {
        let mut elements: Vec<[u32; 4]> = elements
            .map(|(row, at, source)| {
                assert!(row < rows && at < depth);
                [(at / block) as u32, row as u32, at as u32, source as u32]
            })
            .collect();
        elements.sort_unstable();
        let mut matrix = Self {
            rows,
            blocks: Vec::new(),
            lists: Vec::new(),
            entries: Vec::with_capacity(elements.len()),
            sources: Vec::with_capacity(elements.len()),
            reach: 0,
            in_place: false,
        };
        for elements in elements.chunk_by(|a, b| a[0] == b[0]) {
            let from = elements[0][0] as usize * block;
            let first = matrix.lists.len();
            let mut rows: Vec<&[[u32; 4]]> = elements.chunk_by(|a, b| a[1] == b[1]).collect();
            // Lists of the same length one after the other: the end of each loop is predicted.
            rows.sort_by_key(|row| row.len());
            for row in rows {
                let start = matrix.entries.len() as u32;
                for [_, _, at, source] in row {
                    let offset = offset(*at as usize);
                    matrix.reach = matrix.reach.max(offset);
                    matrix.entries.push(Entry {
                        offset: offset as u32,
                        value: 0.0,
                    });
                    matrix.sources.push(*source);
                }
                matrix.lists.push(List {
                    row: row[0][1],
                    start,
                    end: matrix.entries.len() as u32,
                });
            }
            matrix.blocks.push(Block {
                depth: from..depth.min(from + block),
                lists: first..matrix.lists.len(),
            });
        }
        matrix
    }

    /// Kept elements.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes the values of the kept elements from the weights.
    pub fn refresh(&mut self, weights: &[f32]) {
        for (entry, source) in self.entries.iter_mut().zip(&self.sources) {
            entry.value = weights[*source as usize];
        }
    }

    /// Writes values in the order of the entries to their places among the weights.
    pub fn scatter(&self, values: &[f32], weights: &mut [f32]) {
        for (value, source) in values.iter().zip(&self.sources) {
            weights[*source as usize] = *value;
        }
    }

    /// Values of scratch that [`Self::multiply`] and [`Self::sample`] need.
    pub fn scratch_len(rows: usize) -> usize {
        (BLOCK + rows) * TILE + LINE
    }

    /// `output = bias + self · right` for `columns` columns; without a bias, 0 is in its place.
    pub fn multiply(
        &self,
        columns: usize,
        right: &impl Right,
        bias: Option<&[f32]>,
        output: &mut Output,
        scratch: &mut [f32],
    ) {
        let (packed, scratch) = aligned(scratch).split_at_mut(BLOCK * TILE);
        let tile = &mut scratch[..self.rows * TILE];
        for first in (0..columns).step_by(TILE) {
            let some = first..columns.min(first + TILE);
            start(bias, tile);
            for block in &self.blocks {
                let packed = &mut packed[..block.depth.len() * TILE];
                right.pack(block.depth.clone(), some.clone(), TILE, packed);
                self.multiply_block(block, packed, tile);
            }
            output.write(some, tile, TILE);
        }
    }

    /// [`Self::multiply`] with a right matrix that is read where it lies; `columns` is a multiple of [`TILE`].
    pub fn multiply_in_place(
        &self,
        columns: usize,
        right: &InPlace<impl Fn(Range<usize>) -> Places>,
        bias: Option<&[f32]>,
        output: &mut Output,
        scratch: &mut [f32],
    ) {
        let tile = &mut aligned(scratch)[..self.rows * TILE];
        for first in (0..columns).step_by(TILE) {
            let some = first..first + TILE;
            start(bias, tile);
            let places = (right.places)(some.clone());
            self.check_in_place(right.data, &places);
            // SAFETY: as in `multiply_block`; every vector of every entry lies in the data, as just checked.
            unsafe {
                (kernels().product_in_place)(
                    &self.lists,
                    &self.entries,
                    right.data.as_ptr(),
                    &places,
                    tile.as_mut_ptr(),
                );
            }
            output.write(some, tile, TILE);
        }
    }

    /// One tile of the product with a right matrix that is packed whole, [`TILE`] values per depth.
    pub fn multiply_packed(&self, packed: &[f32], bias: Option<&[f32]>, tile: &mut [f32]) {
        start(bias, tile);
        for block in &self.blocks {
            let packed = &packed[block.depth.start * TILE..block.depth.end * TILE];
            self.multiply_block(block, packed, tile);
        }
    }

    fn multiply_block(&self, block: &Block, packed: &[f32], tile: &mut [f32]) {
        assert!(!self.in_place);
        assert!(packed.len() >= block.depth.len() * TILE && tile.len() >= self.rows * TILE);
        let lists = &self.lists[block.lists.clone()];
        // SAFETY: the rows and offsets of a pattern lie in the matrix that it was made for, so in the tile and in the
        // packed block, as asserted; the lists lie in the entries; the instructions were detected.
        unsafe { (kernels().product)(lists, &self.entries, packed.as_ptr(), tile.as_mut_ptr()) };
    }

    /// Adds `gradient · rightᵀ` at the kept elements to `values`, in the order of the entries.
    ///
    /// `gradient` has this matrix's rows, `right` its depths, and both the same `columns`.
    pub fn sample(
        &self,
        columns: usize,
        gradient: &impl Right,
        right: &impl Right,
        values: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (packed, scratch) = aligned(scratch).split_at_mut(BLOCK * TILE);
        let tile = &mut scratch[..self.rows * TILE];
        for first in (0..columns).step_by(TILE) {
            let some = first..columns.min(first + TILE);
            gradient.pack(0..self.rows, some.clone(), TILE, tile);
            for block in &self.blocks {
                let packed = &mut packed[..block.depth.len() * TILE];
                right.pack(block.depth.clone(), some.clone(), TILE, packed);
                self.sample_block(block, tile, packed, values);
            }
        }
    }

    /// [`Self::sample`] with a right matrix that is read where it lies; `columns` is a multiple of [`TILE`].
    pub fn sample_in_place(
        &self,
        columns: usize,
        gradient: &impl Right,
        right: &InPlace<impl Fn(Range<usize>) -> Places>,
        values: &mut [f32],
        scratch: &mut [f32],
    ) {
        let tile = &mut aligned(scratch)[..self.rows * TILE];
        assert!(values.len() >= self.entries.len());
        for first in (0..columns).step_by(TILE) {
            let some = first..first + TILE;
            gradient.pack(0..self.rows, some.clone(), TILE, tile);
            let places = (right.places)(some);
            self.check_in_place(right.data, &places);
            // SAFETY: as in `sample_block`; every vector of every entry lies in the data, as just checked.
            unsafe {
                (kernels().sample_in_place)(
                    &self.lists,
                    &self.entries,
                    right.data.as_ptr(),
                    &places,
                    tile.as_ptr(),
                    values.as_mut_ptr(),
                );
            }
        }
    }

    /// Asserts that the vectors of every entry lie in the data.
    fn check_in_place(&self, data: &[f32], places: &Places) {
        let last = places.iter().max().expect("a tile has vectors");
        assert!(self.in_place && last + self.reach + lanes() <= data.len());
    }

    /// [`Self::sample`] for one tile of columns whose both sides are packed, [`TILE`] values per row and per depth.
    pub fn sample_packed(&self, gradient: &[f32], packed: &[f32], values: &mut [f32]) {
        for block in &self.blocks {
            let packed = &packed[block.depth.start * TILE..block.depth.end * TILE];
            self.sample_block(block, gradient, packed, values);
        }
    }

    fn sample_block(&self, block: &Block, gradient: &[f32], packed: &[f32], values: &mut [f32]) {
        assert!(!self.in_place);
        assert!(packed.len() >= block.depth.len() * TILE && gradient.len() >= self.rows * TILE);
        assert!(values.len() >= self.entries.len());
        let lists = &self.lists[block.lists.clone()];
        // SAFETY: as in `multiply_block`; there is a value for every entry, as asserted.
        unsafe {
            (kernels().sample)(
                lists,
                &self.entries,
                packed.as_ptr(),
                gradient.as_ptr(),
                values.as_mut_ptr(),
            );
        }
    }
}

/// Whether a training step of a `rows` × `depth` product with `columns` columns is faster sparse than dense.
///
/// A model in units of one dense multiply-add, so that the choice depends on shape and density alone. A kept element
/// takes as long as two of the dense product's; packing a row or a depth as long as four. Both were measured by
/// `benches/sparse.rs`.
pub(crate) fn pays([rows, depth]: [usize; 2], kept: usize, columns: usize) -> bool {
    const KEPT: f64 = 2.0;
    const PACKED: f64 = 4.0;
    let tiles = columns.next_multiple_of(TILE) as f64;
    let dense = (rows * depth * columns) as f64;
    let sparse = KEPT * kept as f64 * tiles + PACKED * (rows + depth) as f64 * tiles;
    sparse < dense
}

/// Fills every row of a tile with its bias.
fn start(bias: Option<&[f32]>, tile: &mut [f32]) {
    match bias {
        None => tile.fill(0.0),
        Some(bias) => {
            for (row, bias) in tile.chunks_exact_mut(TILE).zip(bias) {
                row.fill(*bias);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::Matrix;
    use crate::testing::{assert_close, numbers};

    fn kept(count: usize, density: f64, seed: u64) -> Vec<bool> {
        let most = density * 2.0 - 1.0;
        numbers(count, seed)
            .iter()
            .map(|&x| f64::from(x) < most)
            .collect()
    }

    #[test]
    fn products_and_gradients_match_plain_loops() {
        for [rows, depth, columns] in [
            [1, 1, 1],
            [3, 200, 64],
            [50, 97, 130],
            [7, 96, 65],
            [192, 300, 63],
        ] {
            for density in [0.0, 0.03, 0.1, 0.5, 1.0] {
                let keep = kept(rows * depth, density, 5);
                let mut weights = numbers(rows * depth, 1);
                for (weight, keep) in weights.iter_mut().zip(&keep) {
                    *weight = if *keep { *weight } else { 0.0 };
                }
                let right = numbers(depth * columns, 2);
                let gradient = numbers(rows * columns, 3);
                let bias = numbers(rows, 4);
                let elements = (0..rows * depth).filter(|at| keep[*at]);
                let mut matrix = SparseMatrix::new(
                    [rows, depth],
                    elements.map(|at| (at / depth, at % depth, at)),
                );
                matrix.refresh(&weights);
                let mut scratch = vec![f32::NAN; SparseMatrix::scratch_len(rows)];
                let what = format!("{rows} x {depth} x {columns} at {density}");

                let mut reference = vec![0.0; rows * columns];
                let mut sampled = vec![0.0; rows * depth];
                for row in 0..rows {
                    for column in 0..columns {
                        let at = row * columns + column;
                        reference[at] = f64::from(bias[row]);
                        for d in 0..depth {
                            let x = f64::from(right[d * columns + column]);
                            reference[at] += f64::from(weights[row * depth + d]) * x;
                            if keep[row * depth + d] {
                                sampled[row * depth + d] += f64::from(gradient[at]) * x;
                            }
                        }
                    }
                }
                let mut output = vec![f32::NAN; rows * columns];
                let right = Matrix::row_major(&right, columns);
                matrix.multiply(
                    columns,
                    &right,
                    Some(&bias),
                    &mut Output::matrix(&mut output, columns, 0),
                    &mut scratch,
                );
                assert_close(&output, &reference, &what);

                let mut values = vec![0.0; matrix.len()];
                let gradient = Matrix::row_major(&gradient, columns);
                matrix.sample(columns, &gradient, &right, &mut values, &mut scratch);
                let mut dense = vec![0.0; rows * depth];
                matrix.scatter(&values, &mut dense);
                assert_close(&dense, &sampled, &format!("gradient of {what}"));
            }
        }
    }
}
