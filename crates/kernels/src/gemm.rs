//! Matrix multiplication: the one inner loop behind convolutions and linear layers.
//!
//! `C = A·B`, split over the depth into blocks of [`DEPTH`]. B is packed into panels as wide as a tile, by
//! whatever knows how to find its elements (a plain matrix, or the windows of a convolution), so no
//! intermediate im2col matrix exists. A is read in place where its rows are contiguous. Each element of C
//! is the sum over its depth in order, block by block, so its bits depend on neither its position nor the
//! other elements computed with it.

mod tile;

use std::ops::Range;

use crate::finish::Finish;
use crate::transpose;

pub(crate) use tile::{TILE_COLUMNS_MAX, TILE_ROWS_MAX};
use tile::{TILE_COLUMNS_MIN, tiles};

/// Depth of one block: a block of 6 rows of A and a panel of 16 columns of B fit the first-level cache.
pub(crate) const DEPTH: usize = 256;

/// Columns that are packed at once: a block of B of this width fits the second-level cache.
pub(crate) const COLUMNS: usize = 384;

/// Values of a cache line, which is as long as the longest vector.
pub(crate) const LINE: usize = 16;

/// Some scratch without what lies before its first cache line, less than [`LINE`] values: a vector that crosses two lines
/// takes twice as long to load.
pub(crate) fn aligned(scratch: &mut [f32]) -> &mut [f32] {
    let before = scratch.as_ptr().align_offset(LINE * size_of::<f32>());
    &mut scratch[before..]
}

/// Elements that [`multiply`] needs as scratch.
pub(crate) const fn scratch_len(columns: usize) -> usize {
    let columns = if columns < COLUMNS { columns } else { COLUMNS };
    packed_width(columns) * DEPTH + LINE
}

/// Columns of the packed form of this many columns, on any processor.
pub(crate) const fn packed_width(columns: usize) -> usize {
    columns.next_multiple_of(TILE_COLUMNS_MAX)
}

/// Width of the panels that [`multiply_packed`] takes on this processor.
pub(crate) fn tile_columns() -> usize {
    tiles().columns
}

/// Depths that are evenly spaced in A: `length` of them, the first one at `start`.
#[derive(Clone, Copy, Default)]
pub(crate) struct Run {
    pub start: usize,
    pub length: usize,
}

/// Some rows of A: depth number `i` of a run is at `data[rows[row] + run.start + i * depth_stride]`.
pub(crate) struct Rows<'a> {
    data: &'a [f32],
    rows: [usize; TILE_ROWS_MAX],
    count: usize,
    depth_stride: usize,
    runs: &'a [Run],
    depth: usize,
}

impl<'a> Rows<'a> {
    /// Rows that begin at the given offsets; every element of them must lie in `data`.
    pub fn new(
        data: &'a [f32],
        starts: impl Iterator<Item = usize>,
        depth_stride: usize,
        runs: &'a [Run],
    ) -> Self {
        let mut rows = [0; TILE_ROWS_MAX];
        let mut count = 0;
        for (row, start) in rows.iter_mut().zip(starts) {
            *row = start;
            count += 1;
        }
        let last_row = rows.into_iter().max().unwrap_or(0);
        let mut depth = 0;
        for run in runs.iter().filter(|run| run.length > 0) {
            depth += run.length;
            assert!(last_row + run.start + (run.length - 1) * depth_stride < data.len());
        }
        Self {
            data,
            rows,
            count,
            depth_stride,
            runs,
            depth,
        }
    }
}

/// Memory that [`Left`] may use for some rows and one block of the depth.
pub(crate) struct Buffer {
    pub values: [f32; TILE_ROWS_MAX * DEPTH],
    pub runs: [Run; DEPTH],
}

/// Where the left matrix comes from.
pub(crate) trait Left {
    /// At most [`TILE_ROWS_MAX`] rows and [`DEPTH`] depths of A, in place or copied to the buffer.
    fn rows<'a>(
        &'a self,
        rows: Range<usize>,
        depth: Range<usize>,
        buffer: &'a mut Buffer,
    ) -> Rows<'a>;
}

/// Where the right matrix comes from.
pub(crate) trait Right {
    /// Writes a block of B, panel after panel of `width` columns: element (depth, column) of panel number n, all
    /// counted from the starts of the ranges, to `packed[(n * depth.len() + depth) * width + column]`, and
    /// zeros to the columns of the last panel that do not exist.
    fn pack(&self, depth: Range<usize>, columns: Range<usize>, width: usize, packed: &mut [f32]);
}

/// The panels of a block of B: the columns of each and its part of `packed`, zeroed if columns are missing.
pub(crate) fn panels(
    depth: usize,
    columns: Range<usize>,
    width: usize,
    packed: &mut [f32],
) -> impl Iterator<Item = (Range<usize>, &mut [f32])> {
    let panels = packed.chunks_exact_mut((depth * width).max(1));
    panels
        .zip(columns.clone().step_by(width))
        .map(move |(panel, from)| {
            let to = columns.end.min(from + width);
            if to - from < width {
                panel.fill(0.0);
            }
            (from..to, panel)
        })
}

/// The result: element (row, column) is at
/// `start + (row - first_row) * row_stride + image * image_stride + column % columns_per_image`, where
/// `image = column / columns_per_image`.
pub(crate) struct Output<'a> {
    pub data: &'a mut [f32],
    /// Offset of the first element.
    pub start: usize,
    /// The row that the first element belongs to.
    pub first_row: usize,
    pub row_stride: usize,
    pub columns_per_image: usize,
    pub image_stride: usize,
    /// Values after the columns of an image that may be overwritten.
    pub spare: usize,
    /// What is done to the values; what it reads is laid out like `data`.
    pub finish: Finish<'a>,
}

impl<'a> Output<'a> {
    /// A plain row-major matrix, from some row on.
    pub fn matrix(data: &'a mut [f32], columns: usize, first_row: usize) -> Self {
        Self {
            data,
            start: 0,
            first_row,
            row_stride: columns,
            columns_per_image: columns.max(1),
            image_stride: 0,
            spare: 0,
            finish: Finish::Keep,
        }
    }

    /// The planes of images with `pixels` values each, a row per channel, columns over all images.
    pub fn images(data: &'a mut [f32], pixels: usize, image_stride: usize) -> Self {
        Self {
            data,
            start: 0,
            first_row: 0,
            row_stride: pixels,
            columns_per_image: pixels,
            image_stride,
            spare: 0,
            finish: Finish::Keep,
        }
    }

    /// A row-major matrix whose rows are padded to [`packed_width`], so that only whole vectors are written.
    pub fn padded(data: &'a mut [f32], columns: usize) -> Self {
        let width = packed_width(columns);
        Self {
            row_stride: width,
            spare: width - columns,
            ..Self::matrix(data, columns, 0)
        }
    }

    /// The offset of a column from the beginning of a row, and the values from there on that are contiguous.
    fn place(&self, column: usize) -> (usize, usize) {
        let (image, rest) = (
            column / self.columns_per_image,
            column % self.columns_per_image,
        );
        let contiguous = self.columns_per_image - rest + self.spare;
        (self.start + image * self.image_stride + rest, contiguous)
    }

    /// Writes a tile of rows of `width` values, of which `columns` count.
    pub fn write(&mut self, columns: Range<usize>, tile: &[f32], width: usize) {
        let mut next = columns.start;
        while next < columns.end {
            let (offset, contiguous) = self.place(next);
            let end = columns.end.min(next + contiguous - self.spare);
            let part = next - columns.start..end - columns.start;
            let (finish, into) = (self.finish.at(offset), &mut self.data[offset..]);
            write_rows(tile, width, part, finish, into, self.row_stride);
            next = end;
        }
    }

    /// Writes or adds a tile of rows of `width` values, of which `columns` count, that belongs to several images.
    #[allow(clippy::too_many_arguments)]
    fn scatter(
        &mut self,
        row: usize,
        columns: Range<usize>,
        tile: &[f32],
        width: usize,
        add: bool,
        finish: Finish,
    ) {
        for (row, values) in (row..).zip(tile.chunks_exact(width)) {
            let row_start = (row - self.first_row) * self.row_stride;
            let mut next = columns.start;
            while next < columns.end {
                let (offset, contiguous) = self.place(next);
                let end = columns.end.min(next + contiguous - self.spare);
                let values = &values[next - columns.start..end - columns.start];
                let finish = finish.at(row_start + offset);
                let into = &mut self.data[row_start + offset..][..values.len()];
                for (at, (into, value)) in into.iter_mut().zip(values).enumerate() {
                    *into = finish.value(if add { *into + value } else { *value }, at);
                }
                next = end;
            }
        }
    }
}

multiversion! {
    /// Writes some columns of the rows of a tile, finished, to rows that begin `row_stride` values apart.
    fn write_rows(
        tile: &[f32],
        width: usize,
        columns: Range<usize>,
        finish: Finish<'_>,
        into: &mut [f32],
        row_stride: usize,
    ) {
        for (row, values) in tile.chunks_exact(width).enumerate() {
            let (at, values) = (row * row_stride, &values[columns.clone()]);
            finish.write(values, at, &mut into[at..at + values.len()]);
        }
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
    let scratch = aligned(scratch);
    for first in (0..columns).step_by(COLUMNS) {
        let block = first..columns.min(first + COLUMNS);
        for (from, to, base) in depth_blocks(depth, base) {
            let packed = pack(right, from..to, block.clone(), tile.columns, scratch);
            let finish = if to == depth {
                output.finish
            } else {
                Finish::Keep
            };
            let part = [0..rows, from..to, block.clone()];
            multiply_packed(part, left, packed, base, output, finish);
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
    let packed = &mut scratch[..columns.len().div_ceil(width) * width * depth.len()];
    right.pack(depth, columns, width, packed);
    packed
}

/// `C = base + A·B` for some rows, one block of the depth and at most [`COLUMNS`] columns, with B packed; `finish` is
/// the output's after the last block of the depth.
pub(crate) fn multiply_packed(
    [rows, depth, columns]: [Range<usize>; 3],
    left: &impl Left,
    packed: &[f32],
    base: Base,
    output: &mut Output,
    finish: Finish,
) {
    let tile = tiles();
    let size = depth.len() * tile.columns;
    let mut places = [(0, 0); COLUMNS / TILE_COLUMNS_MIN];
    for (place, from) in places.iter_mut().zip(columns.clone().step_by(tile.columns)) {
        *place = output.place(from);
    }
    let mut buffer = Buffer {
        values: [0.0; _],
        runs: [Run::default(); _],
    };
    for from in rows.clone().step_by(tile.rows) {
        let some = from..rows.end.min(from + tile.rows);
        let left = left.rows(some.clone(), depth.clone(), &mut buffer);
        let mut bias = [0.0; TILE_ROWS_MAX];
        if let Base::Bias(values) = base {
            bias[..some.len()].copy_from_slice(&values[some.clone()]);
        }
        let start = match base {
            Base::Present => None,
            Base::Bias(_) | Base::Zero => Some(&bias),
        };
        let row_start = (some.start - output.first_row) * output.row_stride;
        for (number, from) in columns.clone().step_by(tile.columns).enumerate() {
            let panel = &packed[number * size..][..size];
            let columns = from..columns.end.min(from + tile.columns);
            let (offset, contiguous) = places[number];
            if tile.written(columns.len()) <= contiguous {
                let finish = finish.at(row_start + offset);
                let into = &mut output.data[row_start + offset..];
                let row_stride = output.row_stride;
                tile.run(
                    &left,
                    columns.len(),
                    panel,
                    start,
                    into,
                    row_stride,
                    &finish,
                );
            } else {
                let mut result = [0.0; TILE_ROWS_MAX * TILE_COLUMNS_MAX];
                tile.run(
                    &left,
                    columns.len(),
                    panel,
                    Some(&bias),
                    &mut result,
                    tile.columns,
                    &Finish::Keep,
                );
                let result = &result[..some.len() * tile.columns];
                output.scatter(
                    some.start,
                    columns,
                    result,
                    tile.columns,
                    start.is_none(),
                    finish,
                );
            }
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
        buffer: &'a mut Buffer,
    ) -> Rows<'a> {
        let Buffer { values, runs } = buffer;
        runs[0] = Run {
            start: 0,
            length: depth.len(),
        };
        let first = rows.start * self.row_stride + depth.start * self.column_stride;
        let width = rows.len();
        let (data, row_stride, depth_stride) = if self.column_stride == 1 {
            (&self.data[first.min(self.data.len())..], self.row_stride, 1)
        } else {
            for (number, packed) in values.chunks_exact_mut(width).take(depth.len()).enumerate() {
                let from = first + number * self.column_stride;
                if self.row_stride == 1 {
                    copy_short(&self.data[from..from + width], packed);
                } else {
                    for (row, packed) in packed.iter_mut().enumerate() {
                        *packed = self.data[from + row * self.row_stride];
                    }
                }
            }
            (&values[..], 1, width)
        };
        Rows::new(
            data,
            (0..width).map(|row| row * row_stride),
            depth_stride,
            &runs[..1],
        )
    }
}

impl Right for Matrix<'_> {
    fn pack(&self, depth: Range<usize>, columns: Range<usize>, width: usize, packed: &mut [f32]) {
        for (columns, panel) in panels(depth.len(), columns, width, packed) {
            let first = depth.start * self.row_stride + columns.start * self.column_stride;
            if self.column_stride == 1 {
                for (number, row) in panel.chunks_exact_mut(width).enumerate() {
                    let from = &self.data[first + number * self.row_stride..][..columns.len()];
                    copy_short(from, &mut row[..columns.len()]);
                }
            } else if self.row_stride == 1 {
                let shape = [columns.len(), depth.len()];
                transpose::strided(shape, &self.data[first..], self.column_stride, panel, width);
            } else {
                for (number, row) in panel.chunks_exact_mut(width).enumerate() {
                    let from = self.data[first + number * self.row_stride..].iter();
                    for (to, from) in row[..columns.len()]
                        .iter_mut()
                        .zip(from.step_by(self.column_stride))
                    {
                        *to = *from;
                    }
                }
            }
        }
    }
}

/// Copies a few values without a call.
#[inline(always)]
pub(crate) fn copy_short(from: &[f32], to: &mut [f32]) {
    let (from, from_rest) = from.as_chunks::<8>();
    let (to, to_rest) = to.as_chunks_mut::<8>();
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
    for (to, from) in to_rest.iter_mut().zip(from_rest) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers};

    fn product(
        [rows, depth, columns]: [usize; 3],
        [left_transposed, right_transposed]: [bool; 2],
        base: Base,
        padded: bool,
    ) {
        let (a, b) = (numbers(rows * depth, 1), numbers(depth * columns, 2));
        let left = match left_transposed {
            false => Matrix::row_major(&a, depth),
            true => Matrix::row_major(&a, rows).transposed(),
        };
        let right = match right_transposed {
            false => Matrix::row_major(&b, columns),
            true => Matrix::row_major(&b, depth).transposed(),
        };
        let width = if padded {
            packed_width(columns)
        } else {
            columns
        };
        let mut c = numbers(rows * width, 3);
        let mut expected = Vec::new();
        for row in 0..rows {
            for column in 0..columns {
                let start = match base {
                    Base::Zero => 0.0,
                    Base::Bias(bias) => bias[row],
                    Base::Present => c[row * width + column],
                };
                let mut sum = f64::from(start);
                for d in 0..depth {
                    let a = left.data[row * left.row_stride + d * left.column_stride];
                    let b = right.data[d * right.row_stride + column * right.column_stride];
                    sum += f64::from(a) * f64::from(b);
                }
                expected.push(sum);
            }
        }
        let mut scratch = vec![f32::NAN; scratch_len(columns)];
        let mut output = match padded {
            true => Output::padded(&mut c, columns),
            false => Output::matrix(&mut c, columns, 0),
        };
        multiply(
            [rows, depth, columns],
            &left,
            &right,
            base,
            &mut output,
            &mut scratch,
        );
        let c: Vec<f32> = c
            .chunks(width.max(1))
            .flat_map(|row| row[..columns].to_vec())
            .collect();
        assert_close(&c, &expected, &format!("{rows} x {depth} x {columns}"));
    }

    #[test]
    fn products_match_plain_loops() {
        let bias = numbers(100, 4);
        for shape in [
            [1, 1, 1],
            [1, 300, 1],
            [6, 16, 16],
            [12, 5, 32],
            [7, 3, 17],
            [50, 257, 65],
            [13, 600, 9],
            [3, 10, 800],
            [25, 40, 385],
            [5, 0, 7],
            [0, 3, 4],
            [4, 3, 0],
        ] {
            for transposed in [[false, false], [false, true], [true, false], [true, true]] {
                for base in [Base::Zero, Base::Bias(&bias), Base::Present] {
                    product(shape, transposed, base, false);
                    product(shape, transposed, base, true);
                }
            }
        }
    }

    #[test]
    fn an_element_has_the_same_bits_wherever_it_is_computed() {
        let (rows, depth, columns) = (29, 300, 71);
        let (a, b) = (numbers(rows * depth, 1), numbers(depth * columns, 2));
        let mut scratch = vec![f32::NAN; scratch_len(columns)];
        let mut all = |rows: Range<usize>, columns_from: usize, columns_to: usize| {
            let mut c = vec![f32::NAN; rows.len() * (columns_to - columns_from)];
            let right = Matrix {
                data: &b[columns_from..],
                row_stride: columns,
                column_stride: 1,
            };
            multiply(
                [rows.len(), depth, columns_to - columns_from],
                &Matrix::row_major(&a[rows.start * depth..rows.end * depth], depth),
                &right,
                Base::Zero,
                &mut Output::matrix(&mut c, columns_to - columns_from, 0),
                &mut scratch,
            );
            c
        };
        let whole = all(0..rows, 0, columns);
        for (row, column) in [(0, 0), (5, 15), (6, 16), (28, 70), (17, 64)] {
            let one = all(row..row + 1, column, column + 1);
            assert_eq!(
                one[0].to_bits(),
                whole[row * columns + column].to_bits(),
                "{row}, {column}"
            );
        }
    }
}
