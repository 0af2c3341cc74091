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

    /// Fills the lines of one channel from its rows.
    ///
    /// `input` starts at the channel and has a row every `pitch` values; `lines` are the channel's own.
    pub fn fill(&self, input: &[f32], pitch: usize, lines: &mut [f32]) {
        let [_, height, width] = self.window.input;
        let [stride_y, stride_x] = self.window.stride;
        let lines = &mut lines[..self.phases[0] * self.phases[1] * self.copies * self.row_values()];
        let mut rows = lines.chunks_exact_mut(self.segments * LINE);
        for phase_y in 0..self.phases[0] {
            for phase_x in 0..self.phases[1] {
                for copy in 0..self.copies {
                    for row in 0..self.rows {
                        let line = rows.next().expect("as many rows as the loops have");
                        let y = (row * stride_y + phase_y).checked_sub(self.window.padding[0]);
                        match y.filter(|y| *y < height) {
                            None => line.fill(0.0),
                            Some(y) => {
                                let from = &input[y * pitch..y * pitch + width];
                                let first = phase_x + copy * self.shifts() * stride_x;
                                self.fill_row(from, first as isize, line);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Shifts that one copy serves.
    fn shifts(&self) -> usize {
        LINE + 1 - self.lanes
    }

    fn row_values(&self) -> usize {
        self.rows * self.segments * LINE
    }

    /// Fills one row: value `i` of segment `s` is column `first + (s * lanes + i) * stride - padding`.
    fn fill_row(&self, from: &[f32], first: isize, line: &mut [f32]) {
        let step = self.window.stride[1];
        let first = first - self.window.padding[1] as isize;
        for (segment, to) in line.chunks_exact_mut(LINE).enumerate() {
            let start = first + (segment * self.lanes * step) as isize;
            let inside = start >= 0 && start as usize + (to.len() - 1) * step < from.len();
            match (inside, step) {
                (true, 1) => {
                    let start = start as usize;
                    to.copy_from_slice(&from[start..start + LINE]);
                }
                (true, _) => {
                    let values = from[start as usize..].iter().step_by(step);
                    to.iter_mut()
                        .zip(values)
                        .for_each(|(to, value)| *to = *value);
                }
                (false, _) => {
                    for (i, to) in to.iter_mut().enumerate() {
                        let at = start + (i * step) as isize;
                        *to = usize::try_from(at)
                            .ok()
                            .and_then(|at| from.get(at))
                            .map_or(0.0, |value| *value);
                    }
                }
            }
        }
    }
}
