//! Matrix multiplication: the one inner loop behind convolutions and linear layers.
//!
//! `C = A·B`, split over the depth into blocks of [`DEPTH`]. B is packed into panels as wide as a tile, by
//! whatever knows how to find its elements (a plain matrix, or the windows of a convolution), so no
//! intermediate im2col matrix exists. A is read in place where its rows are contiguous. Each element of C
//! is the sum over its depth in order, block by block, so its bits depend on neither its position nor the
//! other elements computed with it.

mod tile;

use std::ops::Range;

pub(crate) use tile::{TILE_COLUMNS_MAX, TILE_ROWS_MAX};
use tile::{Tile, tiles};

/// Depth of one block: a block of 6 rows of A and a panel of 16 columns of B fit the first-level cache.
pub(crate) const DEPTH: usize = 256;

/// Columns that are packed at once: a block of B of this width fits the second-level cache.
pub(crate) const COLUMNS: usize = 384;

/// Elements that [`multiply`] needs as scratch.
pub(crate) const fn scratch_len(columns: usize) -> usize {
    let columns = if columns < COLUMNS { columns } else { COLUMNS };
    packed_width(columns) * DEPTH
}

/// Columns of the packed form of this many columns, on any processor.
pub(crate) const fn packed_width(columns: usize) -> usize {
    columns.next_multiple_of(TILE_COLUMNS_MAX)
}

/// Width of the panels that [`multiply_packed`] takes on this processor.
pub(crate) fn tile_columns() -> usize {
    tiles().columns
}

/// Some rows of A: element (row, depth) is `data[row * row_stride + depth * depth_stride]`.
pub(crate) struct Rows<'a> {
    pub data: &'a [f32],
    pub row_stride: usize,
    pub depth_stride: usize,
}

/// Where the left matrix comes from.
pub(crate) trait Left {
    /// At most [`TILE_ROWS_MAX`] rows and [`DEPTH`] depths of A, in place or copied to `buffer`.
    fn rows<'a>(
        &'a self,
        rows: Range<usize>,
        depth: Range<usize>,
        buffer: &'a mut [f32],
    ) -> Rows<'a>;
}

/// Where the right matrix comes from.
pub(crate) trait Right {
    /// Writes element (depth, column) of B to `panel[d * width + c]`, counted from the starts of the ranges,
    /// and zeros to the columns up to `width`.
    fn pack(&self, depth: Range<usize>, columns: Range<usize>, width: usize, panel: &mut [f32]);
}

/// The result: element (row, column) is `data[start + (row - first_row) * row_stride + image * image_stride + rest]`, where
/// `image = column / columns_per_image` and `rest = column % columns_per_image`, times `column_stride`.
pub(crate) struct Output<'a> {
    pub data: &'a mut [f32],
    /// Offset of the first element.
    pub start: usize,
    /// The row that the first element belongs to.
    pub first_row: usize,
    pub row_stride: usize,
    pub column_stride: usize,
    pub columns_per_image: usize,
    pub image_stride: usize,
}

impl<'a> Output<'a> {
    /// A plain row-major matrix, from some row on.
    pub fn matrix(data: &'a mut [f32], columns: usize, first_row: usize) -> Self {
        Self {
            data,
            start: 0,
            first_row,
            row_stride: columns,
            column_stride: 1,
            columns_per_image: columns.max(1),
            image_stride: 0,
        }
    }

    fn offset(&self, row: usize, column: usize) -> usize {
        self.start
            + (row - self.first_row) * self.row_stride
            + column / self.columns_per_image * self.image_stride
            + column % self.columns_per_image * self.column_stride
    }
}

/// What the product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Base<'a> {
    /// Nothing: C is overwritten.
    Zero,
    /// One value per row: C is overwritten.
    Bias(&'a [f32]),
    /// What C holds.
    Present,
}

/// `C = base + A·B` for `rows` × `depth` times `depth` × `columns`.
pub(crate) fn multiply(
    [rows, depth, columns]: [usize; 3],
    left: &impl Left,
    right: &impl Right,
    base: Base,
    output: &mut Output,
    scratch: &mut [f32],
) {
    if rows == 0 || columns == 0 {
        return;
    }
    let tile = tiles();
    for first in (0..columns).step_by(COLUMNS) {
        let block = first..columns.min(first + COLUMNS);
        for (from, to, base) in depth_blocks(depth, base) {
            let packed = pack(right, from..to, block.clone(), tile.columns, scratch);
            multiply_packed(0..rows, from..to, block.clone(), left, packed, base, output);
        }
    }
}

/// The blocks of the depth in order, with what each adds to; one empty block if there is no depth.
pub(crate) fn depth_blocks(depth: usize, base: Base) -> impl Iterator<Item = (usize, usize, Base)> {
    (0..depth.max(1)).step_by(DEPTH).map(move |from| {
        (
            from,
            depth.min(from + DEPTH),
            if from == 0 { base } else { Base::Present },
        )
    })
}

/// Packs a block of B, panel after panel of `width` columns.
pub(crate) fn pack<'s>(
    right: &impl Right,
    depth: Range<usize>,
    columns: Range<usize>,
    width: usize,
    scratch: &'s mut [f32],
) -> &'s [f32] {
    let size = depth.len() * width;
    let packed = &mut scratch[..columns.len().div_ceil(width) * size];
    if size > 0 {
        for (panel, from) in packed
            .chunks_exact_mut(size)
            .zip(columns.clone().step_by(width))
        {
            right.pack(
                depth.clone(),
                from..columns.end.min(from + width),
                width,
                panel,
            );
        }
    }
    packed
}

/// `C = base + A·B` for some rows, some columns and one block of the depth, with B packed.
pub(crate) fn multiply_packed(
    rows: Range<usize>,
    depth: Range<usize>,
    columns: Range<usize>,
    left: &impl Left,
    packed: &[f32],
    base: Base,
    output: &mut Output,
) {
    let tile = tiles();
    let mut buffer = [0.0; TILE_ROWS_MAX * DEPTH];
    for from in rows.clone().step_by(tile.rows) {
        let some = from..rows.end.min(from + tile.rows);
        let left = left.rows(some.clone(), depth.clone(), &mut buffer);
        for (number, from) in columns.clone().step_by(tile.columns).enumerate() {
            let panel =
                &packed[number * depth.len() * tile.columns..][..depth.len() * tile.columns];
            let columns = from..columns.end.min(from + tile.columns);
            one_tile(
                tile,
                some.clone(),
                columns,
                depth.len(),
                &left,
                panel,
                base,
                output,
            );
        }
    }
}

#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn one_tile(
    tile: &Tile,
    rows: Range<usize>,
    columns: Range<usize>,
    depth: usize,
    left: &Rows,
    panel: &[f32],
    base: Base,
    output: &mut Output,
) {
    let mut start = [0.0; TILE_ROWS_MAX];
    if let Base::Bias(bias) = base {
        start[..rows.len()].copy_from_slice(&bias[rows.clone()]);
    }
    let in_place = output.column_stride == 1
        && columns.len() == tile.columns
        && columns.start % output.columns_per_image + tile.columns <= output.columns_per_image;
    if in_place {
        let first = output.offset(rows.start, columns.start);
        let start = if matches!(base, Base::Present) {
            None
        } else {
            Some(&start)
        };
        tile.run(
            rows.len(),
            tile.columns,
            depth,
            left,
            panel,
            start,
            &mut output.data[first..],
            output.row_stride,
        );
        return;
    }
    let mut result = [0.0; TILE_ROWS_MAX * TILE_COLUMNS_MAX];
    tile.run(
        rows.len(),
        columns.len(),
        depth,
        left,
        panel,
        Some(&start),
        &mut result,
        tile.columns,
    );
    let present = matches!(base, Base::Present);
    for (result, row) in result.chunks_exact(tile.columns).zip(rows) {
        for (value, column) in result.iter().zip(columns.clone()) {
            let offset = output.offset(row, column);
            let into = &mut output.data[offset];
            *into = if present { *into + value } else { *value };
        }
    }
}

/// A plain matrix as either operand: element (i, j) is `data[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub data: &'a [f32],
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a> Matrix<'a> {
    pub fn row_major(data: &'a [f32], columns: usize) -> Self {
        Self {
            data,
            row_stride: columns,
            column_stride: 1,
        }
    }

    pub fn transposed(self) -> Self {
        Self {
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

impl Left for Matrix<'_> {
    fn rows<'a>(
        &'a self,
        rows: Range<usize>,
        depth: Range<usize>,
        buffer: &'a mut [f32],
    ) -> Rows<'a> {
        let first = rows.start * self.row_stride + depth.start * self.column_stride;
        if depth.is_empty() {
            return Rows {
                data: &[],
                row_stride: 0,
                depth_stride: 0,
            };
        }
        if self.column_stride == 1 {
            return Rows {
                data: &self.data[first..],
                row_stride: self.row_stride,
                depth_stride: 1,
            };
        }
        let width = rows.len();
        for (number, packed) in buffer.chunks_exact_mut(width).take(depth.len()).enumerate() {
            let from = first + number * self.column_stride;
            if self.row_stride == 1 {
                packed.copy_from_slice(&self.data[from..from + width]);
            } else {
                for (row, packed) in packed.iter_mut().enumerate() {
                    *packed = self.data[from + row * self.row_stride];
                }
            }
        }
        Rows {
            data: buffer,
            row_stride: 1,
            depth_stride: width,
        }
    }
}

impl Right for Matrix<'_> {
    fn pack(&self, depth: Range<usize>, columns: Range<usize>, width: usize, panel: &mut [f32]) {
        let first = depth.start * self.row_stride + columns.start * self.column_stride;
        let used = columns.len();
        if self.column_stride == 1 {
            for (number, packed) in panel.chunks_exact_mut(width).enumerate() {
                let from = first + number * self.row_stride;
                packed[..used].copy_from_slice(&self.data[from..from + used]);
                packed[used..].fill(0.0);
            }
            return;
        }
        if used < width {
            panel.fill(0.0);
        }
        for column in 0..used {
            let from = first + column * self.column_stride;
            for (number, packed) in panel.chunks_exact_mut(width).enumerate() {
                packed[column] = self.data[from + number * self.row_stride];
            }
        }
    }
}
