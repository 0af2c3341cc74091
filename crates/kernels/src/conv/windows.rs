//! The windows of a convolution as the elements of a matrix: taps × pixels.

use std::ops::Range;

use super::Conv2d;
use crate::gemm::{Buffer, DEPTH, Left, Right, Rows, Run, copy_short, panels};
use crate::sparse::{Places, TILE as PANEL_COLUMNS_MAX};
use crate::transpose;

/// The input of a convolution, padded if windows leave it: every tap of every window is inside.
#[derive(Clone, Copy)]
pub(super) struct Windows<'a> {
    data: &'a [f32],
    image_stride: usize,
    channel_stride: usize,
    row_stride: usize,
    group_channels: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    /// Height and width of the output; one row of all pixels if every window is one pixel.
    output: [usize; 2],
}

impl<'a> Windows<'a> {
    pub fn new(conv: &Conv2d, images: usize, input: &'a [f32], padded: &'a mut [f32]) -> Self {
        let [channels, ..] = conv.input;
        let [rows, columns] = plane_shape(conv);
        let data = if conv.padding == [0, 0] {
            input
        } else {
            pad(conv, input, padded);
            padded
        };
        assert!(data.len() >= images * channels * rows * columns);
        let (row_stride, output) = if conv.is_pointwise() {
            (rows * columns, [1, rows * columns])
        } else {
            (columns, [conv.output[1], conv.output[2]])
        };
        Self {
            data,
            image_stride: channels * rows * columns,
            channel_stride: rows * columns,
            row_stride,
            group_channels: channels / conv.groups,
            kernel: conv.kernel,
            stride: conv.stride,
            output,
        }
    }

    /// The windows of one group: its channels are the first ones.
    pub fn group(self, group: usize) -> Self {
        Self {
            data: self
                .data
                .get(group * self.group_channels * self.channel_stride..)
                .unwrap_or_default(),
            ..self
        }
    }

    /// Where the values of some taps begin, counted from the beginning of a window.
    fn taps(&self, taps: Range<usize>) -> impl Iterator<Item = usize> {
        tap_offsets(self.kernel, self.channel_stride, self.row_stride, taps)
    }

    /// The padded input.
    pub fn data(&self) -> &'a [f32] {
        self.data
    }

    /// Where the vectors of some pixels, counted over all images, begin; each of them must lie in one output row.
    pub fn places(&self, pixels: Range<usize>, lanes: usize) -> Places {
        let mut places = Places::default();
        let vectors = self
            .runs(pixels)
            .flat_map(|run| (0..run.length).step_by(lanes).map(move |at| run.start + at));
        for (place, start) in places.iter_mut().zip(vectors) {
            *place = start;
        }
        places
    }

    /// Where the windows of some pixels, counted over all images, begin: one run per output row.
    fn runs(&self, pixels: Range<usize>) -> impl Iterator<Item = Run> {
        let [height, width] = self.output;
        let (row, mut column) = (pixels.start / width, pixels.start % width);
        let mut image_start = row / height * self.image_stride;
        let mut row = row % height;
        let mut left = pixels.len();
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let length = (width - column).min(left);
            let start =
                image_start + row * self.stride[0] * self.row_stride + column * self.stride[1];
            left -= length;
            column = 0;
            row += 1;
            if row == height {
                row = 0;
                image_start += self.image_stride;
            }
            Some(Run { start, length })
        })
    }
}

/// Height and width of the planes that windows are read from: the input's if no window leaves it, padded ones else.
fn plane_shape(conv: &Conv2d) -> [usize; 2] {
    if conv.padding == [0, 0] {
        [conv.input[1], conv.input[2]]
    } else {
        conv.covered()
    }
}

/// Where the values of all taps of a group begin in the planes of [`Windows`], counted from the beginning of a window.
pub(super) fn window_offsets(conv: &Conv2d) -> Vec<usize> {
    let [rows, columns] = plane_shape(conv);
    tap_offsets(conv.kernel, rows * columns, columns, 0..conv.taps()).collect()
}

/// Where the values of some taps begin in planes of this size and width, counted from the beginning of a window.
pub(super) fn tap_offsets(
    [height, width]: [usize; 2],
    channel_stride: usize,
    row_stride: usize,
    taps: Range<usize>,
) -> impl Iterator<Item = usize> {
    let (row, mut x) = (taps.start / width, taps.start % width);
    let mut y = row % height;
    let mut channel_start = row / height * channel_stride;
    taps.map(move |_| {
        let offset = channel_start + y * row_stride + x;
        x += 1;
        if x == width {
            x = 0;
            y += 1;
        }
        if y == height {
            y = 0;
            channel_start += channel_stride;
        }
        offset
    })
}

/// Values that a vector of the widest registers holds.
const WIDE: usize = 16;

/// Copies that fill one row of a panel, (to, from), by the number of values that each copies.
struct Copies {
    sixteens: CopyList,
    eights: CopyList,
    fours: CopyList,
    ones: CopyList,
}

/// Copies of the same number of values each: (to, from).
struct CopyList {
    list: [(usize, usize); PANEL_COLUMNS_MAX],
    count: usize,
}

impl CopyList {
    const EMPTY: Self = Self {
        list: [(0, 0); PANEL_COLUMNS_MAX],
        count: 0,
    };

    /// Adds copies of `size` values that cover `length` ones; the last one overlaps if need be.
    fn cover(&mut self, size: usize, to: usize, from: usize, length: usize) {
        for at in (0..length).step_by(size) {
            let at = at.min(length - size);
            self.list[self.count] = (to + at, from + at);
            self.count += 1;
        }
    }

    /// Makes the copies for every tap of a panel with rows of `width` values.
    #[inline(always)]
    fn run<const SIZE: usize>(
        &self,
        from: &[f32],
        taps: &[usize],
        width: usize,
        panel: &mut [f32],
    ) {
        for (to, start) in &self.list[..self.count] {
            for (tap, row) in taps.iter().zip(panel.chunks_exact_mut(width)) {
                row[*to..][..SIZE].copy_from_slice(&from[start + tap..][..SIZE]);
            }
        }
    }
}

multiversion! {
    /// Makes the copies for every tap of a panel with rows of `width` values.
    fn fill_panel(copies: &Copies, from: &[f32], taps: &[usize], width: usize, panel: &mut [f32]) {
        copies.sixteens.run::<WIDE>(from, taps, width, panel);
        copies.eights.run::<8>(from, taps, width, panel);
        copies.fours.run::<4>(from, taps, width, panel);
        copies.ones.run::<1>(from, taps, width, panel);
    }
}

impl Right for Windows<'_> {
    fn pack(&self, depth: Range<usize>, pixels: Range<usize>, width: usize, packed: &mut [f32]) {
        let mut taps = [0; DEPTH];
        let taps = &mut taps[..depth.len()];
        for (place, tap) in taps.iter_mut().zip(self.taps(depth.clone())) {
            *place = tap;
        }
        for (pixels, panel) in panels(depth.len(), pixels, width, packed) {
            let mut copies = Copies {
                sixteens: CopyList::EMPTY,
                eights: CopyList::EMPTY,
                fours: CopyList::EMPTY,
                ones: CopyList::EMPTY,
            };
            let mut to = 0;
            for Run { start, length } in self.runs(pixels) {
                match length {
                    WIDE.. if self.stride[1] == 1 => copies.sixteens.cover(WIDE, to, start, length),
                    8.. if self.stride[1] == 1 => copies.eights.cover(8, to, start, length),
                    4.. if self.stride[1] == 1 => copies.fours.cover(4, to, start, length),
                    _ => {
                        for at in 0..length {
                            let from = start + at * self.stride[1];
                            copies.ones.cover(1, to + at, from, 1);
                        }
                    }
                }
                to += length;
            }
            fill_panel(&copies, self.data, taps, width, panel);
        }
    }
}

impl Left for Windows<'_> {
    fn rows<'a>(
        &'a self,
        taps: Range<usize>,
        pixels: Range<usize>,
        buffer: &'a mut Buffer,
    ) -> Rows<'a> {
        let mut count = 0;
        for (place, run) in buffer.runs.iter_mut().zip(self.runs(pixels)) {
            *place = run;
            count += 1;
        }
        Rows::new(
            self.data,
            self.taps(taps),
            self.stride[1],
            &buffer.runs[..count],
        )
    }
}

/// The output planes of some images as a matrix: channels × pixels of all images.
#[derive(Clone, Copy)]
pub(super) struct Planes<'a> {
    pub data: &'a [f32],
    /// Where the first channel of the first image begins.
    pub start: usize,
    pub pixels: usize,
    pub image_stride: usize,
}

impl<'a> Planes<'a> {
    pub fn transposed(self) -> TransposedPlanes<'a> {
        TransposedPlanes(self)
    }

    /// The parts of a range of pixels that lie in one image each: start in the range, offset, length.
    fn parts(&self, pixels: Range<usize>) -> impl Iterator<Item = (usize, usize, usize)> {
        let first = pixels.start;
        let mut next = pixels.start;
        std::iter::from_fn(move || {
            if next >= pixels.end {
                return None;
            }
            let (image, pixel) = (next / self.pixels, next % self.pixels);
            let length = (self.pixels - pixel).min(pixels.end - next);
            let part = (
                next - first,
                self.start + image * self.image_stride + pixel,
                length,
            );
            next += length;
            Some(part)
        })
    }
}

multiversion! {
    /// Copies a matrix of this shape to another one, whose rows begin `to_stride` instead of `from_stride` values apart.
    fn copy_matrix(shape: [usize; 2], from_values: &[f32], from_stride: usize, to_values: &mut [f32], to_stride: usize) {
        let [rows, columns] = shape;
        for row in 0..rows {
            let (from, to) = (row * from_stride, row * to_stride);
            copy_short(&from_values[from..from + columns], &mut to_values[to..to + columns]);
        }
    }
}

impl Right for Planes<'_> {
    fn pack(&self, channels: Range<usize>, pixels: Range<usize>, width: usize, packed: &mut [f32]) {
        for (pixels, panel) in panels(channels.len(), pixels, width, packed) {
            for (to, from, length) in self.parts(pixels) {
                let planes = &self.data[from + channels.start * self.pixels..];
                let shape = [channels.len(), length];
                copy_matrix(shape, planes, self.pixels, &mut panel[to..], width);
            }
        }
    }
}

/// [`Planes`] as a matrix of pixels × channels.
pub(super) struct TransposedPlanes<'a>(Planes<'a>);

impl Right for TransposedPlanes<'_> {
    fn pack(&self, pixels: Range<usize>, channels: Range<usize>, width: usize, packed: &mut [f32]) {
        for (channels, panel) in panels(pixels.len(), channels, width, packed) {
            for (to, from, length) in self.0.parts(pixels.clone()) {
                let planes = &self.0.data[from + channels.start * self.0.pixels..];
                let shape = [channels.len(), length];
                transpose::strided(
                    shape,
                    planes,
                    self.0.pixels,
                    &mut panel[to * width..],
                    width,
                );
            }
        }
    }
}

multiversion! {
    /// Copies the part of every plane that windows cover, with zeros around it.
    fn pad(conv: &Conv2d, input: &[f32], padded: &mut [f32]) {
        let [_, height, width] = conv.input;
        let [rows, columns] = conv.covered();
        let [top, left] = conv.padding;
        let inside = left.min(columns)..columns.min(left + width);
        let inside_rows = top.min(rows)..rows.min(top + height);
        let planes = input
            .chunks_exact(height * width)
            .zip(padded.chunks_exact_mut(rows * columns));
        for (plane, padded) in planes {
            let first = (inside_rows.start * columns + inside.start).min(padded.len());
            let (before, mut rest) = padded.split_at_mut(first);
            before.fill(0.0);
            let gap = columns - inside.len();
            for from in plane.chunks_exact(width).take(inside_rows.len()) {
                let (row, after) = rest.split_at_mut(inside.len());
                copy_row(&from[..inside.len()], row);
                // The zeros between two rows; those after the last one are filled with what follows.
                zero_start(after, gap);
                rest = after.get_mut(gap..).unwrap_or_default();
            }
            rest.fill(0.0);
        }
    }
}

/// Sets at least the first `count` values to 0, as far as there are any: a few more cost less than a call.
#[inline(always)]
fn zero_start(values: &mut [f32], count: usize) {
    match values.first_chunk_mut::<8>() {
        Some(some) if count <= 8 => *some = [0.0; 8],
        _ => {
            let count = count.min(values.len());
            values[..count].fill(0.0);
        }
    }
}

/// Copies a row in vectors, of which the last one overlaps if need be.
#[inline(always)]
fn copy_row(from: &[f32], to: &mut [f32]) {
    match from.len() {
        WIDE.. => copy_vectors::<WIDE>(from, to),
        8.. => copy_vectors::<8>(from, to),
        4.. => copy_vectors::<4>(from, to),
        _ => copy_vectors::<1>(from, to),
    }
}

#[inline(always)]
fn copy_vectors<const SIZE: usize>(from: &[f32], to: &mut [f32]) {
    for at in (0..from.len()).step_by(SIZE) {
        let at = at.min(from.len() - SIZE);
        to[at..][..SIZE].copy_from_slice(&from[at..][..SIZE]);
    }
}

multiversion! {
    /// Adds the gradients of the taps of one group and image to the gradient of the image.
    ///
    /// `tap_gradients` holds a row of `row_stride` values per tap, which begins with the pixels of the image.
    pub(super) fn add_windows(
        conv: &Conv2d,
        group: usize,
        tap_gradients: &[f32],
        row_stride: usize,
        image: &mut [f32],
    ) {
        let [channels, height, width] = [conv.input[0] / conv.groups, conv.input[1], conv.input[2]];
        let [_, rows, columns] = conv.output;
        let planes = image[group * channels * height * width..].chunks_exact_mut(height * width);
        let area = conv.kernel[0] * conv.kernel[1];
        for (channel, plane) in planes.take(channels).enumerate() {
            for x in 0..conv.kernel[1] {
                let valid = inside(x, conv.stride[1], conv.padding[1], width, columns);
                if valid.is_empty() {
                    continue;
                }
                let first = valid.start * conv.stride[1] + x - conv.padding[1];
                let taps = (channel * area + x) * row_stride + valid.start;
                if conv.stride == [1, 1] {
                    // Every row of the plane gets the sum over the kernel's rows that reach it at once.
                    for (row, into) in plane.chunks_exact_mut(width).enumerate() {
                        let bottom = row + conv.padding[0];
                        let y = (bottom + 1).saturating_sub(rows)..conv.kernel[0].min(bottom + 1);
                        if y.is_empty() {
                            continue;
                        }
                        let from = taps + y.start * conv.kernel[1] * row_stride + (bottom - y.start) * columns;
                        let step = conv.kernel[1] * row_stride - columns;
                        let from = &tap_gradients[from..];
                        add_rows(from, step, y.len(), &mut into[first..first + valid.len()]);
                    }
                    continue;
                }
                for y in 0..conv.kernel[0] {
                    let tap = &tap_gradients[taps + y * conv.kernel[1] * row_stride..];
                    for row in inside(y, conv.stride[0], conv.padding[0], height, rows) {
                        let from = &tap[row * columns..][..valid.len()];
                        let into = row * conv.stride[0] + y - conv.padding[0];
                        let into = &mut plane[into * width + first..(into + 1) * width];
                        for (into, from) in into.iter_mut().step_by(conv.stride[1]).zip(from) {
                            *into += from;
                        }
                    }
                }
            }
        }
    }
}

/// Adds `count` rows, which begin `step` values apart, to one row.
#[inline(always)]
fn add_rows(from: &[f32], step: usize, count: usize, into: &mut [f32]) {
    let (chunks, rest) = into.as_chunks_mut::<8>();
    let rest_start = chunks.len() * 8;
    for (number, into) in chunks.iter_mut().enumerate() {
        let mut sums = [0.0f32; 8];
        for row in 0..count {
            let from = &from[row * step + number * 8..][..8];
            for (sum, from) in sums.iter_mut().zip(from) {
                *sum += from;
            }
        }
        for (into, sum) in into.iter_mut().zip(sums) {
            *into += sum;
        }
    }
    for (column, into) in rest.iter_mut().enumerate() {
        let mut sum = 0.0;
        for row in 0..count {
            sum += from[row * step + rest_start + column];
        }
        *into += sum;
    }
}

/// `to[row, column] += from[column, row]` for a row-major `to` with rows of `columns` values and a `from` with
/// rows of `stride` values.
pub(super) fn add_transposed(from: &[f32], stride: usize, columns: usize, to: &mut [f32]) {
    /// Side of the squares that are added one after the other, so that lines are used while cached.
    const SIDE: usize = 16;
    let rows = to.len() / columns;
    for top in (0..rows).step_by(SIDE) {
        for left in (0..columns).step_by(SIDE) {
            let right = columns.min(left + SIDE);
            for row in top..rows.min(top + SIDE) {
                let from = from[left * stride + row..].iter().step_by(stride);
                for (to, from) in to[row * columns + left..row * columns + right]
                    .iter_mut()
                    .zip(from)
                {
                    *to += from;
                }
            }
        }
    }
}

/// The weights of the convolution that leads back to the input: inputs and outputs of each group swapped,
/// every kernel turned by half a turn.
pub(super) fn mirror(conv: &Conv2d, weight: &[f32], mirrored: &mut [f32]) {
    let [inputs, outputs] = [conv.input[0] / conv.groups, conv.output[0] / conv.groups];
    let area = conv.kernel[0] * conv.kernel[1];
    let kernels = mirrored.chunks_exact_mut(area).enumerate();
    for (number, kernel) in kernels {
        let (channel, output) = (number / outputs, number % outputs);
        let (group, input) = (channel / inputs, channel % inputs);
        let from = ((group * outputs + output) * inputs + input) * area;
        for (to, from) in kernel
            .iter_mut()
            .zip(weight[from..from + area].iter().rev())
        {
            *to = *from;
        }
    }
}

/// The outputs whose tap number `tap` lies inside an input of `size`.
#[inline(always)]
fn inside(tap: usize, stride: usize, padding: usize, size: usize, outputs: usize) -> Range<usize> {
    let first = padding.saturating_sub(tap).div_ceil(stride);
    let end = (size + padding)
        .saturating_sub(tap)
        .div_ceil(stride)
        .min(outputs);
    first.min(end)..end
}
