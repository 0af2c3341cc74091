//! Where activations lie: planes of whole vectors, and the windows of a convolution laid out for aligned loads.

use std::ops::Range;

use crate::gemm::copy_short;

/// Floats of a cache line.
pub(super) const LINE: usize = 16;

/// One image: its rows start at multiples of the lanes, or of half of them if a row is not longer than that, and its
/// channels at an odd number of cache lines from each other, so that equal pixels of neighbouring channels do not share
/// a set of the first-level cache.
///
/// What lies behind the last column of a row, or behind the last row, has any finite value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    /// Channels, height, width.
    pub shape: [usize; 3],
    /// Values of one vector.
    pub lanes: usize,
    /// Values from one row to the next.
    pub pitch: usize,
    /// Values from one channel to the next.
    pub stride: usize,
}

/// Values from one row of so many to the next, where vectors have `lanes`: whole vectors, but two rows share a vector of 16.
fn pitch(width: usize, lanes: usize) -> usize {
    match width <= lanes / 2 && lanes == LINE {
        true => lanes / 2,
        false => width.next_multiple_of(lanes),
    }
}

impl Plane {
    /// The layout for vectors of `lanes` (8 or 16) values.
    pub fn new(shape: [usize; 3], lanes: usize) -> Self {
        let [_, height, width] = shape;
        let pitch = pitch(width, lanes);
        let lines = (height * pitch).div_ceil(LINE) | 1;
        Self {
            shape,
            lanes,
            pitch,
            stride: lines * LINE,
        }
    }

    /// Values of the whole image in this layout; `usize::MAX` if there is no such number.
    pub fn len(&self) -> usize {
        self.shape[0].saturating_mul(self.stride)
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Vectors of one channel.
    pub fn vectors(&self) -> usize {
        (self.shape[1] * self.pitch).div_ceil(self.lanes)
    }

    /// One row of one channel, without what lies behind its last column.
    pub fn row(&self, channel: usize, row: usize) -> Range<usize> {
        let from = channel * self.stride + row * self.pitch;
        from..from + self.shape[2]
    }

    /// Copies a dense image into this layout.
    pub fn read_dense(&self, dense: &[f32], image: &mut [f32]) {
        let [channels, height, width] = self.shape;
        assert_eq!(dense.len(), channels * height * width);
        for (at, from) in dense.chunks_exact(width).enumerate() {
            let to = self.row(at / height, at % height);
            image[to.start..to.start + self.pitch].fill(0.0);
            image[to].copy_from_slice(from);
        }
    }

    /// Copies an image in this layout into a dense one.
    pub fn write_dense(&self, image: &[f32], dense: &mut [f32]) {
        let [channels, height, width] = self.shape;
        assert_eq!(dense.len(), channels * height * width);
        for (at, to) in dense.chunks_exact_mut(width).enumerate() {
            to.copy_from_slice(&image[self.row(at / height, at % height)]);
        }
    }
}

/// Sizes of a convolution, without groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Channels, height, width of the input.
    pub input: [usize; 3],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Zeros above and left.
    pub padding: [usize; 2],
}

impl Window {
    /// Whether every output reads the one input at its own place.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1]
            && self.stride == [1, 1]
            && self.padding == [0, 0]
            && self.output == self.input[1..]
    }
}

/// The padded input of a convolution, rearranged so that a vector of neighbouring outputs reads a vector of
/// neighbouring values at every tap, without crossing a cache line: some channels at a time.
///
/// Rows and columns are split by the stride into phases. A row is cut into segments of as many outputs as a vector
/// has lanes. A segment is a cache line: with 8 lanes it has the right neighbours of its values too, so that
/// the first nine shifts of a tap are loads within the line. For the others, and with 16 lanes for every shift, there
/// are shifted copies of the input. Where two rows of outputs share a vector, the line of a row has the next row too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    window: Window,
    /// Outputs of one row in a vector.
    columns: usize,
    /// Rows of outputs in a vector.
    together: usize,
    /// Shifted copies.
    copies: usize,
    /// Shifts that one copy serves.
    shifts: usize,
    /// Segments of a row.
    segments: usize,
    /// Rows of one phase that have lines.
    rows: usize,
    /// Phases that some tap reads, vertical and horizontal.
    phases: [usize; 2],
    /// Values from one channel to the next.
    stride: usize,
}

impl Lines {
    /// Height and width of a window.
    pub(super) fn kernel(&self) -> [usize; 2] {
        self.window.kernel
    }

    /// The layout of the input of `window` for vectors of `lanes` (8 or 16) outputs.
    pub fn new(window: Window, lanes: usize) -> Self {
        let layout = Self::without_stride(window, lanes);
        Self {
            stride: (layout.lines().product::<usize>() | 1) * LINE,
            ..layout
        }
    }

    /// Bytes of one channel in this layout, also where no address reaches them.
    pub fn channel_bytes(window: Window, lanes: usize) -> u64 {
        let layout = Self::without_stride(window, lanes);
        let lines = layout.lines().map(|count| count as u64);
        (lines.fold(1, u64::saturating_mul)).saturating_mul(4 * LINE as u64)
    }

    /// What the number of cache lines of a channel is the product of.
    fn lines(&self) -> impl Iterator<Item = usize> {
        let [vertical, horizontal] = self.phases;
        [vertical, horizontal, self.copies, self.rows, self.segments].into_iter()
    }

    fn without_stride(window: Window, lanes: usize) -> Self {
        let reach = |axis: usize| (window.kernel[axis] - 1) / window.stride[axis];
        let phases = [0, 1].map(|axis| window.stride[axis].min(window.kernel[axis]));
        let columns = lanes.min(pitch(window.output[1], lanes));
        let together = lanes / columns;
        let shifts = LINE + 1 - lanes;
        let copies = reach(1) / shifts + 1;
        let segments = window.output[1].div_ceil(columns);
        let rows = (window.output[0].div_ceil(together) - 1) * together + 1 + reach(0);
        Self {
            window,
            columns,
            together,
            copies,
            shifts,
            segments,
            rows,
            phases,
            stride: 0,
        }
    }

    /// Values from one channel to the next, a multiple of a cache line.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Channels of the input.
    pub fn channels(&self) -> usize {
        self.window.input[0]
    }

    /// Values from one vector of outputs to the next, at any tap.
    pub fn vector_stride(&self) -> usize {
        self.together * LINE
    }

    /// Vectors of outputs in one channel.
    pub fn vectors(&self) -> usize {
        self.window.output[0].div_ceil(self.together) * self.segments
    }

    /// Cache lines that `vectors` neighbouring vectors of outputs read in one channel, all taps together.
    pub fn touched(&self, vectors: usize) -> usize {
        // Taps of one phase below each other.
        let taps = self.window.kernel[0].div_ceil(self.window.stride[0]);
        let apart = taps * vectors;
        let overlapping = match self.together {
            1 => vectors + (taps - 1) * self.segments,
            _ => (vectors - 1) * self.together + taps,
        };
        self.phases[0] * self.phases[1] * self.copies * apart.min(overlapping)
    }

    /// Where the value for the first output lies, for a tap, from the channel's first value on.
    pub fn offset(&self, tap: [usize; 2]) -> usize {
        let [stride_y, stride_x] = self.window.stride;
        let phase = (tap[0] % stride_y) * self.phases[1] + tap[1] % stride_x;
        let shift = tap[1] / stride_x;
        let (copy, shift) = (shift / self.shifts, shift % self.shifts);
        let row = (phase * self.copies + copy) * self.rows + tap[0] / stride_y;
        row * self.segments * LINE + shift
    }

    /// Values that [`Self::fill`] needs as scratch: the padded rows of one phase.
    pub fn scratch_len(&self) -> usize {
        self.padded_rows() * self.padded()
    }

    /// Rows of one phase with their padding.
    fn padded_rows(&self) -> usize {
        self.rows + self.together - 1
    }

    /// Values of a padded row: all columns that the segments of one phase hold.
    fn padded(&self) -> usize {
        let shifts = (self.copies - 1) * self.shifts;
        (self.segments - 1) * self.columns + shifts + LINE
    }

    /// Fills, in some channels of an image, the lines that some neighbouring vectors of outputs read.
    ///
    /// `lines` start with the first of these channels; the scratch may have any values.
    ///
    /// # Panics
    /// If a slice is too short.
    pub fn fill(
        &self,
        channels: Range<usize>,
        vectors: Range<usize>,
        image: (&Plane, &[f32]),
        lines: &mut [f32],
        scratch: &mut [f32],
    ) {
        if vectors.is_empty() {
            return;
        }
        let row = |vector: usize| vector / self.segments * self.together;
        let reach = (self.window.kernel[0] - 1) / self.window.stride[0];
        let rows = row(vectors.start)..row(vectors.end - 1) + 1 + reach;
        let scratch = &mut scratch[..self.scratch_len()];
        for phase_y in 0..self.phases[0] {
            for phase_x in 0..self.phases[1] {
                scratch.fill(0.0);
                let phase = [phase_y, phase_x];
                fill(self, phase, &channels, &rows, image, lines, scratch);
            }
        }
    }

    /// Of the values `phase + i * stride - padding` of an axis, those that lie in the input: how many are before them,
    /// which one is the first, and how many there are, of at most `room` values with those before.
    fn inside(&self, axis: usize, phase: usize, room: usize) -> (usize, usize, usize) {
        let (stride, padding) = (self.window.stride[axis], self.window.padding[axis]);
        let extent = self.window.input[axis + 1];
        let before = padding.saturating_sub(phase).div_ceil(stride);
        let first = (before * stride + phase)
            .saturating_sub(padding)
            .min(extent);
        let count = (extent - first).div_ceil(stride);
        (before, first, count.min(room.saturating_sub(before)))
    }
}

multiversion! {
    fn fill(layout: &Lines, phase: [usize; 2], channels: &Range<usize>, rows: &Range<usize>, image: (&Plane, &[f32]), lines: &mut [f32], scratch: &mut [f32]) {
        let (plane, image) = image;
        let padded = layout.padded();
        let [stride_y, stride_x] = layout.window.stride;
        let (above, top, height) = layout.inside(0, phase[0], layout.padded_rows());
        let (before, left, width) = layout.inside(1, phase[1], padded);
        // Rows of the padded image that the lines have, and of these those that lie in the image.
        let begin = rows.start.max(above);
        let end = (rows.end + layout.together - 1).min(above + height);
        let first_copy = (phase[0] * layout.phases[1] + phase[1]) * layout.copies;
        for (channel, lines) in channels.clone().zip(lines.chunks_exact_mut(layout.stride)) {
            let image = &image[channel * plane.stride..][..plane.stride];
            for row in begin..end {
                let from = &image[(top + (row - above) * stride_y) * plane.pitch..][..plane.pitch];
                let to = &mut scratch[row * padded + before..][..width];
                let from = &from[left..];
                match stride_x {
                    1 => copy_short(&from[..width], to),
                    2 => every::<2>(from, to),
                    4 => every::<4>(from, to),
                    _ => {
                        for (i, value) in to.iter_mut().enumerate() {
                            *value = from[i * stride_x];
                        }
                    }
                }
            }
            for copy in 0..layout.copies {
                let first = (first_copy + copy) * layout.rows;
                let lines = &mut lines.as_chunks_mut::<LINE>().0
                    [(first + rows.start) * layout.segments..(first + rows.end) * layout.segments];
                let shifted = &scratch[rows.start * padded + copy * layout.shifts..];
                match (layout.together, layout.segments) {
                    (1, 1) => {
                        for (row, to) in lines.iter_mut().enumerate() {
                            *to = values(&shifted[row * padded..]);
                        }
                    }
                    (1, segments) => {
                        for (row, to) in lines.chunks_exact_mut(segments).enumerate() {
                            let from = &shifted[row * padded..];
                            for (segment, to) in to.iter_mut().enumerate() {
                                *to = values(&from[segment * layout.columns..]);
                            }
                        }
                    }
                    _ => {
                        for (row, to) in lines.iter_mut().enumerate() {
                            let (one, two) = to.split_at_mut(LINE / 2);
                            one.copy_from_slice(&values::<{ LINE / 2 }>(&shifted[row * padded..]));
                            two.copy_from_slice(&values::<{ LINE / 2 }>(&shifted[(row + 1) * padded..]));
                        }
                    }
                }
            }
        }
    }
}

/// The first values of a slice, which has them.
#[inline(always)]
fn values<const N: usize>(of: &[f32]) -> [f32; N] {
    *of.first_chunk().expect("the padded row holds all segments")
}

/// Copies every value number `i * STRIDE`.
#[inline(always)]
fn every<const STRIDE: usize>(from: &[f32], to: &mut [f32]) {
    let (whole, rest) = from.as_chunks::<STRIDE>();
    // The last value may have no whole stride behind it.
    let last = rest.first().copied();
    let values = whole.iter().map(|values| values[0]).chain(last);
    for (to, value) in to.iter_mut().zip(values) {
        *to = value;
    }
}
