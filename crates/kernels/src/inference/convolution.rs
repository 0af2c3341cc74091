//! A convolution with packed weights, ready to run over any tiles of its output.

use std::ops::Range;

use super::columns::{Columns, Geometry};
use super::dense::Dense;
use super::groups::Groups;
use super::layout::{LINE, Lines, Plane, Window};
use super::pairs::Pairs;
use super::rows::Rows;
use super::table::{Call, Kernel};

/// How the weights of a convolution are packed and multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Every weight, six rows at a time.
    Dense,
    /// Weights that are not zero, row after row.
    Rows,
    /// The same with two sets of sums, for tiles of few vectors.
    DoubleRows,
    /// Weights that are not zero, two rows together.
    Pairs,
    /// Four rows together, sorted by pattern.
    Fours,
}

impl Method {
    /// All methods.
    pub const ALL: [Method; 5] = [
        Method::Dense,
        Method::Rows,
        Method::DoubleRows,
        Method::Pairs,
        Method::Fours,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Method::Dense => "dense",
            Method::Rows => "rows",
            Method::DoubleRows => "double-rows",
            Method::Pairs => "pairs",
            Method::Fours => "fours",
        }
    }

    /// Vectors of the largest tile whose sums fit the registers.
    pub fn largest_tile(self, lanes: usize) -> usize {
        match (self, lanes) {
            (Method::Dense, 16) => 4,
            (Method::Dense, _) => 2,
            (Method::Fours, 16) => 6,
            (Method::Fours, _) => 3,
            (Method::Pairs, 16) => 12,
            (Method::Rows, 16) => 16,
            (Method::DoubleRows | Method::Pairs, _) => 6,
            (Method::Rows, _) => 12,
        }
    }
}

/// A choice of method and sizes for one convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Choice {
    /// How it is computed.
    pub method: Method,
    /// Vectors of a tile, at most [`Method::largest_tile`].
    pub vectors: usize,
    /// Bytes of input that one block of columns touches: what is to stay in the first-level cache.
    pub budget: usize,
}

/// A convolution over whole images: `rows` output channels, each the weighted sum of some inputs of its group.
#[derive(Clone, Debug)]
pub struct Convolution {
    choice: Choice,
    input: Input,
    lanes: usize,
    bias: Vec<f32>,
    relu: bool,
    /// Of every group.
    blocks: Vec<Vec<Block>>,
    pieces: Vec<Piece>,
    rows: usize,
}

/// The inputs of a block of columns.
#[derive(Clone, Debug)]
struct Block {
    /// Channels of the image.
    channels: Range<usize>,
    /// Where the first column starts, from the first of these channels on.
    base: usize,
}

/// Some output channels.
#[derive(Clone, Debug)]
struct Piece {
    group: usize,
    rows: Range<usize>,
    packed: Packed,
}

#[derive(Clone, Debug)]
enum Packed {
    Dense(Dense),
    Rows(Rows<1>),
    DoubleRows(Rows<2>),
    Pairs(Pairs),
    Fours(Groups),
}

/// The weights of a convolution in PyTorch's layout.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// `[out, in / groups, height, width]`.
    pub values: &'a [f32],
    /// One per output channel.
    pub bias: &'a [f32],
    /// Groups of channels that are convolved apart.
    pub groups: usize,
    /// Whether negative sums become 0.
    pub relu: bool,
}

/// Where a convolution finds the inputs of its taps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A 1×1 convolution reads the image as it is.
    Plane(Plane),
    /// Any other rearranges it, some channels at a time.
    Lines(Plane, Lines),
}

impl Input {
    /// How the convolution of `window` reads an image.
    pub fn new(image: Plane, window: Window) -> Self {
        match window.is_pointwise() {
            true => Input::Plane(image),
            false => Input::Lines(image, Lines::new(window, image.lanes)),
        }
    }

    /// The layout of the image.
    pub fn image(&self) -> &Plane {
        let (Input::Plane(image) | Input::Lines(image, _)) = self;
        image
    }

    /// Vectors of outputs in one channel.
    pub fn vectors(&self) -> usize {
        match self {
            Input::Plane(plane) => plane.vectors(),
            Input::Lines(_, lines) => lines.vectors(),
        }
    }

    /// Values from one vector to the next.
    fn vector_stride(&self) -> usize {
        match self {
            Input::Plane(plane) => plane.lanes,
            Input::Lines(_, lines) => lines.vector_stride(),
        }
    }

    /// Height and width of the windows that it is laid out for.
    fn kernel(&self) -> [usize; 2] {
        match self {
            Input::Plane(_) => [1, 1],
            Input::Lines(_, lines) => lines.kernel(),
        }
    }

    /// Values from one channel to the next.
    fn channel_stride(&self) -> usize {
        match self {
            Input::Plane(plane) => plane.stride,
            Input::Lines(_, lines) => lines.stride(),
        }
    }

    /// Where the first output finds its value for a tap, from the channel's first one on.
    fn offset(&self, tap: [usize; 2]) -> usize {
        match self {
            Input::Plane(_) => 0,
            Input::Lines(_, lines) => lines.offset(tap),
        }
    }
}

impl Convolution {
    /// Packs the weights, for `parts` threads that share the output channels.
    ///
    /// `kernel` is the height and width of a window. The bits of the result do not depend on `parts`.
    pub fn new(
        kernel: [usize; 2],
        weights: &Weights,
        input: &Input,
        choice: Choice,
        parts: usize,
    ) -> Self {
        assert_eq!(kernel, input.kernel());
        let lanes = input.image().lanes;
        let channels = input.image().shape[0] / weights.groups;
        let taps = kernel[0] * kernel[1];
        let rows = weights.bias.len();
        assert_eq!(weights.values.len(), rows * channels * taps);
        assert!(rows.is_multiple_of(weights.groups) && rows > 0);
        assert!((1..=choice.method.largest_tile(lanes)).contains(&choice.vectors));
        let geometry = Geometry {
            lanes,
            vectors: choice.vectors.min(input.vectors()),
            stride: input.vector_stride(),
            budget: choice.budget,
        };
        let rows_per_group = rows / weights.groups;
        let (mut blocks, mut pieces) = (Vec::new(), Vec::new());
        for group in 0..weights.groups {
            let stride = input.channel_stride();
            let offsets = (0..channels * taps).map(|column| {
                let tap = column % taps;
                column / taps * stride + input.offset([tap / kernel[1], tap % kernel[1]])
            });
            let first = group * rows_per_group;
            let values =
                &weights.values[first * channels * taps..][..rows_per_group * channels * taps];
            let columns = Columns::new(values, offsets, taps);
            let cut = columns.blocks(&geometry);
            for rows in split(&columns, choice.method, parts) {
                let packed = match choice.method {
                    Method::Rows => Packed::Rows(Rows::new(&columns, rows.clone(), &cut)),
                    Method::DoubleRows => {
                        Packed::DoubleRows(Rows::new(&columns, rows.clone(), &cut))
                    }
                    Method::Pairs => Packed::Pairs(Pairs::new(&columns, rows.clone(), &cut)),
                    Method::Fours => Packed::Fours(Groups::new(&columns, rows.clone(), &cut)),
                    Method::Dense => Packed::Dense(Dense::new(&columns, rows.clone(), &cut)),
                };
                pieces.push(Piece {
                    group,
                    rows: first + rows.start..first + rows.end,
                    packed,
                });
            }
            let block = |cut: Range<usize>| {
                let first = cut.start / taps;
                Block {
                    channels: group * channels + first..group * channels + cut.end.div_ceil(taps),
                    base: columns.offset(cut.start) - first * stride,
                }
            };
            blocks.push(cut.into_iter().map(block).collect());
        }
        Self {
            choice,
            input: *input,
            lanes,
            bias: weights.bias.to_vec(),
            relu: weights.relu,
            blocks,
            pieces,
            rows,
        }
    }

    /// The choice it was packed for.
    pub fn choice(&self) -> Choice {
        self.choice
    }

    /// Output channels.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Vectors of one output channel.
    pub fn vectors(&self) -> usize {
        self.input.vectors()
    }

    /// Values of a vector.
    pub(super) fn lanes(&self) -> usize {
        self.lanes
    }

    /// The pieces that part `part` of `parts` computes.
    pub(super) fn share(&self, part: usize, parts: usize) -> Range<usize> {
        let pieces = self.pieces.len();
        part * pieces / parts..(part + 1) * pieces / parts
    }

    /// All pieces.
    pub(super) fn pieces(&self) -> Range<usize> {
        0..self.pieces.len()
    }

    /// Values that [`Self::compute`] needs as scratch, whole cache lines: the rearranged channels of the largest block,
    /// and what rearranging needs.
    pub fn scratch_len(&self) -> usize {
        match &self.input {
            Input::Plane(_) => 0,
            Input::Lines(_, lines) => {
                let padded = lines.scratch_len().next_multiple_of(LINE);
                self.channels_of_block() * lines.stride() + padded
            }
        }
    }

    /// Channels of the largest block.
    fn channels_of_block(&self) -> usize {
        let blocks = self.blocks.iter().flatten();
        blocks.map(|block| block.channels.len()).max().unwrap_or(0)
    }

    /// Computes the whole output on this thread; its channels are `output_stride` values apart.
    ///
    /// # Panics
    /// If a slice is too short.
    pub fn compute(
        &self,
        input: &[f32],
        output: &mut [f32],
        output_stride: usize,
        scratch: &mut [f32],
    ) {
        let channel = self.vectors() * self.lanes;
        assert!(output_stride >= channel);
        assert!(output.len() >= (self.rows - 1) * output_stride + channel);
        // SAFETY: the output was just checked and is borrowed mutably.
        unsafe {
            self.run(
                self.pieces(),
                0..self.vectors(),
                input,
                output.as_mut_ptr(),
                output_stride,
                scratch,
            )
        };
    }

    /// Computes some pieces for some vectors of every output channel.
    ///
    /// Channel `c`, vector `v` goes to `output + c * output_stride + (v - vectors.start) * lanes`.
    ///
    /// # Safety
    /// All those places can be written, and nobody else reads or writes them meanwhile.
    ///
    /// # Panics
    /// If a slice is too short or there are not so many vectors.
    pub(super) unsafe fn run(
        &self,
        pieces: Range<usize>,
        vectors: Range<usize>,
        input: &[f32],
        output: *mut f32,
        output_stride: usize,
        scratch: &mut [f32],
    ) {
        let image = self.input.image();
        assert!(input.len() >= image.len() && vectors.end <= self.vectors());
        let (arranged, padded) =
            scratch.split_at_mut(self.channels_of_block() * self.arranged_stride());
        let pieces = &self.pieces[pieces];
        for pieces in pieces.chunk_by(|one, next| one.group == next.group) {
            let mut ready = 0..0;
            for (at, block) in self.blocks[pieces[0].group].iter().enumerate() {
                let from = match &self.input {
                    Input::Plane(_) => &input[block.channels.start * image.stride..],
                    Input::Lines(_, lines) => {
                        if ready != block.channels {
                            ready = block.channels.clone();
                            let (channels, vectors) = (ready.clone(), vectors.clone());
                            lines.fill(channels, vectors, (image, input), arranged, padded);
                        }
                        &*arranged
                    }
                };
                for piece in pieces {
                    let target = Target {
                        block: at,
                        vectors: vectors.clone(),
                        input: &from[block.base..],
                        // SAFETY: the channels of the piece are in the output.
                        output: unsafe { output.add(piece.rows.start * output_stride) },
                        output_stride,
                        bias: &self.bias[piece.rows.clone()],
                    };
                    // SAFETY: the caller promises the output of this piece; the kernels were found for this
                    // instruction set.
                    unsafe {
                        match &piece.packed {
                            Packed::Dense(packed) => self.tiles(packed, Dense::kernel, &target),
                            Packed::Rows(packed) => self.tiles(packed, Rows::<1>::kernel, &target),
                            Packed::DoubleRows(packed) => {
                                self.tiles(packed, Rows::<2>::kernel, &target)
                            }
                            Packed::Pairs(packed) => self.tiles(packed, Pairs::kernel, &target),
                            Packed::Fours(packed) => self.tiles(packed, Groups::kernel, &target),
                        }
                    }
                }
            }
        }
    }

    /// Values from one rearranged channel to the next.
    fn arranged_stride(&self) -> usize {
        match &self.input {
            Input::Plane(_) => 0,
            Input::Lines(_, lines) => lines.stride(),
        }
    }

    /// Runs one block over all tiles.
    ///
    /// # Safety
    /// The target's output is the caller's alone.
    unsafe fn tiles<T>(
        &self,
        packed: &T,
        kernel: fn(usize, usize, usize) -> Option<Kernel<T>>,
        target: &Target,
    ) {
        let vectors = target.vectors.len();
        let tiles = vectors.div_ceil(self.choice.vectors);
        let stride = self.input.vector_stride();
        let find =
            |count| kernel(self.lanes, count, stride).expect("a kernel for every tile of a choice");
        // Tiles are all as large as the first one or one vector smaller.
        let largest = vectors.div_ceil(tiles.max(1)).max(1);
        let kernels = [find(largest), find((largest - 1).max(1))];
        for tile in 0..tiles {
            let from = tile * vectors / tiles;
            let count = (tile + 1) * vectors / tiles - from;
            let first = (target.vectors.start + from) * stride;
            let call = Call {
                input: target.input[first..].as_ptr(),
                output: target.output.wrapping_add(from * self.lanes),
                output_stride: target.output_stride,
                bias: target.bias.as_ptr(),
                relu: self.relu,
            };
            // SAFETY: an offset of the weights plus any vector of the output lies in the input or its rearrangement; the
            // output is the caller's alone, and the bias has a value per row.
            unsafe { kernels[usize::from(count < largest)](packed, target.block, &call) };
        }
    }
}

/// What a block of a piece is computed from and to.
struct Target<'a> {
    block: usize,
    vectors: Range<usize>,
    /// From the first column of the block on.
    input: &'a [f32],
    output: *mut f32,
    output_stride: usize,
    bias: &'a [f32],
}

/// Output channels that threads do not divide: a multiple of the rows of every method, so that rows are grouped the same
/// way for any number of parts.
pub const BAND: usize = 12;

/// Splits the rows into at most `parts` with about as many weights; cuts are at whole bands.
fn split(columns: &Columns, method: Method, parts: usize) -> Vec<Range<usize>> {
    let rows = columns.rows();
    let weight = |row: usize| match method {
        Method::Dense => columns.len(),
        _ => {
            1 + (0..columns.len())
                .filter(|c| columns.value(row, *c) != 0.0)
                .count()
        }
    };
    let total: usize = (0..rows).map(weight).sum();
    let mut pieces = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for row in 0..rows {
        sum += weight(row);
        let end = row + 1;
        let full = end.is_multiple_of(BAND) && sum * parts >= total * (pieces.len() + 1);
        if full || end == rows {
            pieces.push(start..end);
            start = end;
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::Aligned;
    use crate::testing::{assert_close, numbers};
    use crate::{InstructionSet, instruction_set};

    /// Lanes that kernels of this processor exist for.
    fn lanes() -> &'static [usize] {
        match instruction_set() {
            InstructionSet::Avx512 => &[8, 16],
            _ => &[8],
        }
    }

    /// A convolution by its definition.
    fn reference(window: &Window, weights: &Weights, image: &[f32]) -> Vec<f64> {
        let [_, height, width] = window.input;
        let channels = window.input[0] / weights.groups;
        let rows = weights.bias.len();
        let mut output = Vec::new();
        for row in 0..rows {
            let group = row / (rows / weights.groups);
            for y in 0..window.output[0] {
                for x in 0..window.output[1] {
                    let mut sum = f64::from(weights.bias[row]);
                    for channel in 0..channels {
                        for ky in 0..window.kernel[0] {
                            for kx in 0..window.kernel[1] {
                                let at_y =
                                    (y * window.stride[0] + ky).wrapping_sub(window.padding[0]);
                                let at_x =
                                    (x * window.stride[1] + kx).wrapping_sub(window.padding[1]);
                                if at_y < height && at_x < width {
                                    let tap = (row * channels + channel) * window.kernel[0] + ky;
                                    let weight = weights.values[tap * window.kernel[1] + kx];
                                    let place = (group * channels + channel) * height + at_y;
                                    let value = image[place * width + at_x];
                                    sum += f64::from(weight) * f64::from(value);
                                }
                            }
                        }
                    }
                    output.push(if weights.relu { sum.max(0.0) } else { sum });
                }
            }
        }
        output
    }

    fn sparse(length: usize, density: f64, seed: u64) -> Vec<f32> {
        let mut values = numbers(length, seed);
        if density < 0.0 {
            // One weight alone.
            values.fill(0.0);
            values[length / 2] = 0.75;
            return values;
        }
        for (value, chance) in values.iter_mut().zip(numbers(length, seed + 1)) {
            if f64::from(chance.abs()) >= density {
                *value = 0.0;
            }
        }
        values
    }

    fn window(input: [usize; 3], kernel: usize, stride: usize, padding: usize) -> Window {
        let size = |extent: usize| (extent + 2 * padding - kernel) / stride + 1;
        Window {
            input,
            output: [size(input[1]), size(input[2])],
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 2],
        }
    }

    /// Computes and compares with plain loops, for every method, and for several tiles, budgets and parts.
    fn check(window: Window, rows: usize, groups: usize, density: f64) {
        let taps = window.input[0] / groups * window.kernel[0] * window.kernel[1];
        let values = sparse(rows * taps, density, 1);
        let mut values = values;
        // A row without weights, as far as there are several.
        if rows > 2 {
            values[taps..2 * taps].fill(0.0);
        }
        let (bias, image) = (numbers(rows, 2), numbers(window.input.iter().product(), 3));
        for relu in [false, true] {
            let weights = Weights {
                values: &values,
                bias: &bias,
                groups,
                relu,
            };
            let expected = reference(&window, &weights, &image);
            for &lanes in lanes() {
                let plane = Plane::new(window.input, lanes);
                let mut input = Aligned::new(plane.len());
                plane.read_dense(&image, input.as_mut_slice());
                let layout = Input::new(plane, window);
                let to = Plane::new([rows, window.output[0], window.output[1]], lanes);
                for method in Method::ALL {
                    for (vectors, budget) in
                        [(1, 1), (method.largest_tile(lanes), 2048), (2, 1 << 20)]
                    {
                        let choice = Choice {
                            method,
                            vectors,
                            budget,
                        };
                        let what =
                            format!("{choice:?} {window:?} rows {rows} groups {groups} {density}");
                        let mut first: Option<Vec<f32>> = None;
                        for parts in [1, 2, 5] {
                            let convolution =
                                Convolution::new(window.kernel, &weights, &layout, choice, parts);
                            assert_eq!(convolution.vectors(), to.vectors());
                            let mut output = vec![f32::NAN; to.len()];
                            let mut scratch = Aligned::new(convolution.scratch_len());
                            scratch.as_mut_slice().fill(f32::NAN);
                            convolution.compute(
                                input.as_slice(),
                                &mut output,
                                to.stride,
                                scratch.as_mut_slice(),
                            );
                            let mut dense = vec![f32::NAN; expected.len()];
                            to.write_dense(&output, &mut dense);
                            assert_close(&dense, &expected, &what);
                            for channel in output.chunks_exact(to.stride) {
                                let behind = &channel[to.vectors() * lanes..];
                                assert!(
                                    behind.iter().all(|value| value.is_nan()),
                                    "{what}: wrote behind"
                                );
                            }
                            let first = first.get_or_insert_with(|| dense.clone());
                            assert!(
                                first
                                    .iter()
                                    .zip(&dense)
                                    .all(|(a, b)| a.to_bits() == b.to_bits()),
                                "{what}: {parts} parts change the bits"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn products_match_plain_loops_at_every_density() {
        for density in [-1.0, 0.0, 0.05, 0.1, 0.25, 0.5, 0.8, 1.0] {
            check(window([5, 9, 11], 3, 1, 1), 7, 1, density);
            check(window([20, 6, 8], 1, 1, 0), 29, 1, density);
        }
    }

    #[test]
    fn products_match_plain_loops_for_every_shape() {
        check(window([3, 12, 20], 5, 1, 2), 13, 1, 0.3);
        check(window([1, 28, 28], 5, 1, 0), 4, 1, 0.3);
        check(window([3, 35, 35], 11, 4, 0), 5, 1, 0.3);
        check(window([4, 9, 9], 3, 2, 1), 6, 2, 0.5);
        check(window([6, 8, 8], 1, 2, 0), 3, 3, 0.5);
        check(window([2, 24, 30], 13, 1, 6), 2, 1, 0.2);
        check(window([2, 1, 1], 1, 1, 0), 1, 1, 1.0);
        check(window([2, 3, 40], 3, 1, 1), 1, 1, 0.5);
        check(window([6, 5, 5], 5, 1, 0), 12, 1, 0.5);
    }

    /// Small enough for Miri.
    #[test]
    fn a_small_convolution_matches_plain_loops() {
        check(window([2, 3, 5], 3, 1, 1), 3, 1, 0.5);
    }

    #[test]
    fn many_columns_are_cut_where_their_offsets_would_overflow() {
        check(window([70, 40, 40], 1, 1, 0), 2, 1, 0.3);
        // One channel alone, with its copies.
        check(window([1, 200, 200], 11, 4, 0), 2, 1, 0.3);
    }
}
