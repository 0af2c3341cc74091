//! The windows of a convolution as the elements of a matrix: taps × pixels.

use std::ops::Range;

use super::Conv2d;
use crate::gemm::{Left, Right, Rows, TILE_COLUMNS_MAX};

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

/// Pixels of one output row: `length` of them, written at `to`, whose first window begins at `from`.
#[derive(Clone, Copy, Default)]
struct Run {
    to: usize,
    from: usize,
    length: usize,
}

impl<'a> Windows<'a> {
    pub fn new(conv: &Conv2d, images: usize, input: &'a [f32], padded: &'a mut [f32]) -> Self {
        let [channels, height, width] = conv.input;
        let [mut rows, mut columns] = [height, width];
        let data = if conv.padding == [0, 0] {
            input
        } else {
            [rows, columns] = conv.covered();
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
            data: &self.data[group * self.group_channels * self.channel_stride..],
            ..self
        }
    }

    /// Where the tap's values begin in a window.
    fn tap(&self, tap: usize) -> usize {
        let area = self.kernel[0] * self.kernel[1];
        let (channel, rest) = (tap / area, tap % area);
        channel * self.channel_stride
            + rest / self.kernel[1] * self.row_stride
            + rest % self.kernel[1]
    }

    /// The runs that a range of pixels consists of, counted over all images.
    fn runs(&self, pixels: Range<usize>) -> impl Iterator<Item = Run> {
        let [height, width] = self.output;
        let first = pixels.start;
        let mut next = pixels.start;
        std::iter::from_fn(move || {
            if next >= pixels.end {
                return None;
            }
            let (row, column) = (next / width, next % width);
            let (image, row) = (row / height, row % height);
            let length = (width - column).min(pixels.end - next);
            let from = image * self.image_stride
                + row * self.stride[0] * self.row_stride
                + column * self.stride[1];
            let run = Run {
                to: next - first,
                from,
                length,
            };
            next += length;
            Some(run)
        })
    }

    #[inline(always)]
    fn copy(&self, run: Run, tap: usize, to: &mut [f32]) {
        let to = &mut to[run.to..run.to + run.length];
        let from = &self.data[run.from + tap..];
        if self.stride[1] == 1 {
            copy_short(&from[..run.length], to);
        } else {
            for (to, from) in to.iter_mut().zip(from.iter().step_by(self.stride[1])) {
                *to = *from;
            }
        }
    }
}

/// Copies a few values without a call for the lengths that tiles and common planes have.
#[inline(always)]
fn copy_short(from: &[f32], to: &mut [f32]) {
    #[inline(always)]
    fn fixed<const N: usize>(from: &[f32], to: &mut [f32]) {
        let from: &[f32; N] = from.try_into().expect("the caller matched the length");
        to.copy_from_slice(from);
    }
    match from.len() {
        4 => fixed::<4>(from, to),
        8 => fixed::<8>(from, to),
        16 => fixed::<16>(from, to),
        32 => fixed::<32>(from, to),
        length if length < 16 => {
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from;
            }
        }
        _ => to.copy_from_slice(from),
    }
}

impl Right for Windows<'_> {
    fn pack(&self, taps: Range<usize>, pixels: Range<usize>, width: usize, panel: &mut [f32]) {
        let mut runs = [Run::default(); TILE_COLUMNS_MAX];
        let mut count = 0;
        let used = pixels.len();
        for (run, place) in self.runs(pixels).zip(&mut runs) {
            *place = run;
            count += 1;
        }
        let runs = &runs[..count];
        for (tap, row) in taps.zip(panel.chunks_exact_mut(width)) {
            let tap = self.tap(tap);
            for run in runs {
                self.copy(*run, tap, row);
            }
            row[used..].fill(0.0);
        }
    }
}

impl Left for Windows<'_> {
    fn rows<'a>(
        &'a self,
        taps: Range<usize>,
        pixels: Range<usize>,
        buffer: &'a mut [f32],
    ) -> Rows<'a> {
        let depth = pixels.len();
        let Some(first) = self.runs(pixels.clone()).next() else {
            return Rows {
                data: &[],
                row_stride: 0,
                depth_stride: 0,
            };
        };
        if self.kernel == [1, 1] && first.length == depth {
            let data = &self.data[first.from + self.tap(taps.start)..];
            return Rows {
                data,
                row_stride: self.channel_stride,
                depth_stride: self.stride[1],
            };
        }
        for (tap, row) in taps.zip(buffer.chunks_exact_mut(depth)) {
            let tap = self.tap(tap);
            for run in self.runs(pixels.clone()) {
                self.copy(run, tap, row);
            }
        }
        Rows {
            data: buffer,
            row_stride: depth,
            depth_stride: 1,
        }
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

impl Right for Planes<'_> {
    fn pack(&self, channels: Range<usize>, pixels: Range<usize>, width: usize, panel: &mut [f32]) {
        let used = pixels.len();
        for (to, from, length) in self.parts(pixels) {
            for (channel, row) in channels.clone().zip(panel.chunks_exact_mut(width)) {
                let from = from + channel * self.pixels;
                copy_short(&self.data[from..from + length], &mut row[to..to + length]);
            }
        }
        if used < width {
            panel
                .chunks_exact_mut(width)
                .for_each(|row| row[used..].fill(0.0));
        }
    }
}

/// [`Planes`] as a matrix of pixels × channels.
pub(super) struct TransposedPlanes<'a>(Planes<'a>);

impl Right for TransposedPlanes<'_> {
    fn pack(&self, pixels: Range<usize>, channels: Range<usize>, width: usize, panel: &mut [f32]) {
        let used = channels.len();
        if used < width {
            panel.fill(0.0);
        }
        for (to, from, length) in self.0.parts(pixels) {
            for (column, channel) in channels.clone().enumerate() {
                let plane = &self.0.data[from + channel * self.0.pixels..][..length];
                for (row, value) in panel[to * width..].chunks_exact_mut(width).zip(plane) {
                    row[column] = *value;
                }
            }
        }
    }
}

/// Copies the part of every plane that windows cover, with zeros around it.
fn pad(conv: &Conv2d, input: &[f32], padded: &mut [f32]) {
    let [_, height, width] = conv.input;
    let [rows, columns] = conv.covered();
    let [top, left] = conv.padding;
    let inside = left.min(columns)..columns.min(left + width);
    let planes = input
        .chunks_exact(height * width)
        .zip(padded.chunks_exact_mut(rows * columns));
    for (plane, padded) in planes {
        for (number, row) in padded.chunks_exact_mut(columns).enumerate() {
            if number < top || number >= top + height {
                row.fill(0.0);
                continue;
            }
            let from = &plane[(number - top) * width..][..inside.len()];
            row[..inside.start].fill(0.0);
            row[inside.clone()].copy_from_slice(from);
            row[inside.end..].fill(0.0);
        }
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
        let mut taps = tap_gradients.chunks(row_stride);
        for plane in planes.take(channels) {
            for y in 0..conv.kernel[0] {
                for x in 0..conv.kernel[1] {
                    let Some(tap) = taps.next() else { return };
                    let valid = inside(x, conv.stride[1], conv.padding[1], width, columns);
                    if valid.is_empty() {
                        continue;
                    }
                    let first = valid.start * conv.stride[1] + x - conv.padding[1];
                    for row in inside(y, conv.stride[0], conv.padding[0], height, rows) {
                        let from = &tap[row * columns..][valid.clone()];
                        let into = row * conv.stride[0] + y - conv.padding[0];
                        let into = &mut plane[into * width + first..(into + 1) * width];
                        if conv.stride[1] == 1 {
                            for (into, from) in into.iter_mut().zip(from) {
                                *into += from;
                            }
                        } else {
                            for (into, from) in into.iter_mut().step_by(conv.stride[1]).zip(from) {
                                *into += from;
                            }
                        }
                    }
                }
            }
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
