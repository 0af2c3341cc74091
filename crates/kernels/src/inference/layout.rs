//! Where activations lie: planes of whole vectors, and the windows of a convolution laid out for aligned loads.

use std::ops::Range;

/// Floats of a cache line.
const LINE: usize = 16;

/// One image: its rows start at multiples of the lanes, and its channels at an odd number of cache lines from each
/// other, so that equal pixels of neighbouring channels do not share a set of the first-level cache.
///
/// What lies behind the last column of a row has any finite value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    /// Channels, height, width.
    pub shape: [usize; 3],
    /// Values of one vector.
    pub lanes: usize,
    /// Values from one row to the next, a multiple of the lanes.
    pub pitch: usize,
    /// Values from one channel to the next.
    pub stride: usize,
}

impl Plane {
    /// The layout for vectors of `lanes` (8 or 16) values.
    pub fn new(shape: [usize; 3], lanes: usize) -> Self {
        let [_, height, width] = shape;
        let pitch = width.next_multiple_of(lanes);
        let lines = (height * pitch).div_ceil(LINE) | 1;
        Self {
            shape,
            lanes,
            pitch,
            stride: lines * LINE,
        }
    }

    /// Values of the whole image in this layout.
    pub fn len(&self) -> usize {
        self.shape[0] * self.stride
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Vectors of one channel.
    pub fn vectors(&self) -> usize {
        self.shape[1] * self.pitch / self.lanes
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
/// neighbouring values at every tap, without crossing a cache line.
///
/// Rows and columns are split by the stride into phases. A row is cut into segments of as many outputs as a vector
/// has lanes. A segment is a cache line: with 8 lanes it has the right neighbours of its values too, so that
/// the first nine shifts of a tap are loads within the line. For the others, and with 16 lanes for every shift, there
/// are shifted copies of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    window: Window,
    lanes: usize,
    /// Shifted copies.
    copies: usize,
    /// Segments of a row.
    segments: usize,
    /// Rows of one phase.
    rows: usize,
    /// Phases that some tap reads, vertical and horizontal.
    phases: [usize; 2],
    /// Values from one channel to the next.
    stride: usize,
}

impl Lines {
    /// The layout of the input of `window` for vectors of `lanes` (8 or 16) outputs.
    pub fn new(window: Window, lanes: usize) -> Self {
        let shifts = |axis: usize| (window.kernel[axis] - 1) / window.stride[axis];
        let phases = [0, 1].map(|axis| window.stride[axis].min(window.kernel[axis]));
        let copies = shifts(1) / (LINE + 1 - lanes) + 1;
        let segments = window.output[1].div_ceil(lanes);
        let rows = window.output[0] + shifts(0);
        let lines = phases[0] * phases[1] * copies * rows * segments;
        Self {
            window,
            lanes,
            copies,
            segments,
            rows,
            phases,
            stride: (lines | 1) * LINE,
        }
    }

    /// Values of the whole input in this layout.
    pub fn len(&self) -> usize {
        self.window.input[0] * self.stride
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values from one vector of outputs to the next, at any tap.
    pub fn vector_stride(&self) -> usize {
        LINE
    }

    /// Vectors of outputs in one channel.
    pub fn vectors(&self) -> usize {
        self.window.output[0] * self.segments
    }

    /// Where the value for the first output lies, for a tap of a channel.
    pub fn offset(&self, channel: usize, tap: [usize; 2]) -> usize {
        let [stride_y, stride_x] = self.window.stride;
        let phase = (tap[0] % stride_y) * self.phases[1] + tap[1] % stride_x;
        let shift = tap[1] / stride_x;
        let (copy, shift) = (shift / self.shifts(), shift % self.shifts());
        let row = (phase * self.copies + copy) * self.rows + tap[0] / stride_y;
        channel * self.stride + row * self.segments * LINE + shift
    }

    /// Values that [`Self::fill`] needs as scratch: all rows of one phase with their padding.
    pub fn scratch_len(&self) -> usize {
        self.rows * self.padded()
    }

    /// Values of a padded row: all columns that the segments of one phase hold.
    fn padded(&self) -> usize {
        let shifts = (self.copies - 1) * self.shifts();
        (self.segments - 1) * self.lanes + shifts + LINE
    }

    /// Fills the lines of one channel from its rows.
    ///
    /// `input` starts at the channel and has a row every `pitch` values; `lines` are the channel's own.
    pub fn fill(&self, input: &[f32], pitch: usize, lines: &mut [f32], scratch: &mut [f32]) {
        fill(self, input, pitch, lines, scratch);
    }

    /// Shifts that one copy serves.
    fn shifts(&self) -> usize {
        LINE + 1 - self.lanes
    }
}

multiversion! {
    fn fill(layout: &Lines, input: &[f32], pitch: usize, lines: &mut [f32], scratch: &mut [f32]) {
        let [_, height, width] = layout.window.input;
        let [stride_y, stride_x] = layout.window.stride;
        let [padding_y, padding_x] = layout.window.padding;
        let padded = layout.padded();
        let scratch = &mut scratch[..layout.scratch_len()];
        let mut segments = lines.as_chunks_mut::<LINE>().0.iter_mut();
        for phase_y in 0..layout.phases[0] {
            for phase_x in 0..layout.phases[1] {
                for (row, to) in scratch.chunks_exact_mut(padded).enumerate() {
                    let y = (row * stride_y + phase_y).checked_sub(padding_y);
                    let Some(y) = y.filter(|y| *y < height) else {
                        to.fill(0.0);
                        continue;
                    };
                    // Value `i` is column `phase + i * stride - padding`.
                    let from = &input[y * pitch..][..width];
                    let left = padding_x.saturating_sub(phase_x).div_ceil(stride_x).min(padded);
                    let first = left * stride_x + phase_x - padding_x.min(left * stride_x + phase_x);
                    let inside = width.saturating_sub(first).div_ceil(stride_x).min(padded - left);
                    let (before, rest) = to.split_at_mut(left);
                    let (values, behind) = rest.split_at_mut(inside);
                    before.fill(0.0);
                    behind.fill(0.0);
                    match stride_x {
                        1 => copy(&from[first..][..inside], values),
                        _ => {
                            for (i, value) in values.iter_mut().enumerate() {
                                *value = from[first + i * stride_x];
                            }
                        }
                    }
                }
                for copy in 0..layout.copies {
                    for row in scratch.chunks_exact(padded) {
                        let row = &row[copy * layout.shifts()..];
                        for segment in 0..layout.segments {
                            let from = row[segment * layout.lanes..].first_chunk::<LINE>();
                            let to = segments.next().expect("a segment for each of the loops");
                            *to = *from.expect("the padded row holds all segments");
                        }
                    }
                }
            }
        }
    }
}

/// Copies short rows without a call.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    let ((from, from_rest), (to, to_rest)) = (from.as_chunks::<8>(), to.as_chunks_mut::<8>());
    for (from, to) in from.iter().zip(to) {
        *to = *from;
    }
    for (from, to) in from_rest.iter().zip(to_rest) {
        *to = *from;
    }
}
