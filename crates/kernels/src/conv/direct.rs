//! The output of a convolution straight from its padded input: nothing is packed.
//!
//! With a stride of 1, the pixels of a vector lie side by side in the input too, at every tap. So a tile of a few output
//! channels and two vectors of pixels is accumulated over the taps from where the input lies. Kernel rows that only see
//! padding are passed over. A vector at the end of a row overlaps the one before it, so a row of pixels must hold one.

use super::{Conv2d, windows};
use crate::finish::Finish;
#[cfg(target_arch = "x86_64")]
use crate::simd::InstructionSet;
use crate::simd::instruction_set;
use crate::vector::{Four, Vector};

/// Output channels of the largest tile.
const ROWS_MAX: usize = 12;

/// Offsets of taps and places of vectors fit on the stack.
const TAPS_MAX: usize = 16 * 1024;

/// `(tile, tap offsets, weights, input, output, finish)`.
type Kernel = unsafe fn(&Tile, *const u32, *const f32, *const f32, *mut f32, &Finish);

/// The tile sizes and kernels of one instruction set.
struct Kernels {
    lanes: usize,
    rows: usize,
    /// `kernels[r - 1][v - 1]` computes `r` output channels and `v` vectors of pixels.
    kernels: &'static [[Kernel; 2]],
}

/// One tile: which taps of a channel, and where things are.
struct Tile {
    /// Input channels.
    channels: usize,
    /// Taps of a channel, all of them and those that are not only padding.
    area: usize,
    first: usize,
    count: usize,
    /// Weights between two output channels.
    weight_stride: usize,
    /// Values between two output planes.
    plane: usize,
    /// Where each vector begins in an input plane and in an output plane.
    from: [usize; 2],
    to: [usize; 2],
    bias: [f32; ROWS_MAX],
}

fn kernels() -> &'static Kernels {
    match instruction_set() {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => &x86::AVX512,
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => &x86::AVX2,
        _ => &BASELINE,
    }
}

/// Whether this way is open, and the faster one: lanes that are computed twice must cost less than packing.
pub(super) fn pays(conv: &Conv2d) -> bool {
    /// Packing a tap takes as long as so many output channels.
    const PACKING: usize = 24;
    let lanes = kernels().lanes;
    let [channels, width] = [conv.output[0] / conv.groups, conv.output[2]];
    let computed = channels * width.next_multiple_of(lanes);
    // What is padded has the size that the windows cover.
    let all_covered = conv.padding != [0, 0] || conv.covered() == conv.input[1..];
    conv.stride == [1, 1]
        && all_covered
        && !conv.is_pointwise()
        && width >= lanes
        && conv.taps() <= TAPS_MAX
        && computed <= (channels + PACKING) * width
}

/// [`Conv2d::forward`] from the padded input of all images.
pub(super) fn forward(
    conv: &Conv2d,
    images: usize,
    padded: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
    finish: Finish,
) {
    let kernels = kernels();
    let [height, width] = [conv.output[1], conv.output[2]];
    let [rows, columns] = conv.covered();
    let [channels, taps] = [conv.output[0] / conv.groups, conv.taps()];
    let inputs = conv.input[0] / conv.groups;
    let [kernel_height, kernel_width] = conv.kernel;
    let mut offsets = [0; TAPS_MAX];
    for (offset, tap) in offsets.iter_mut().zip(windows::tap_offsets(
        conv.kernel,
        rows * columns,
        columns,
        0..taps,
    )) {
        *offset = tap as u32;
    }
    assert!(padded.len() >= images * conv.input[0] * rows * columns);
    assert!(weight.len() >= conv.output[0] * taps && output.len() >= images * conv.output_len());
    finish.check(images * conv.output_len());
    assert!(conv.stride == [1, 1] && width >= kernels.lanes && taps <= TAPS_MAX);
    let per_row = width.div_ceil(kernels.lanes);
    let place = |number: usize| {
        let x = (number % per_row * kernels.lanes).min(width - kernels.lanes);
        (number / per_row, x)
    };
    for (image, output) in output.chunks_exact_mut(conv.output_len()).enumerate() {
        for group in 0..conv.groups {
            let input = &padded[(image * conv.groups + group) * inputs * rows * columns..];
            for first in (0..channels).step_by(kernels.rows) {
                let count = kernels.rows.min(channels - first);
                let channel = group * channels + first;
                let finish = finish.at(image * conv.output_len() + channel * height * width);
                let mut tile = Tile {
                    channels: inputs,
                    area: kernel_height * kernel_width,
                    first: 0,
                    count: 0,
                    weight_stride: taps,
                    plane: height * width,
                    from: [0; 2],
                    to: [0; 2],
                    bias: [0.0; ROWS_MAX],
                };
                if let Some(bias) = bias {
                    tile.bias[..count].copy_from_slice(&bias[channel..channel + count]);
                }
                for number in (0..per_row * height).step_by(2) {
                    let last = (number + 1).min(per_row * height - 1);
                    let vectors = [number, last].map(place);
                    // The kernel's rows that reach into the input from one of the output's rows.
                    let top = conv.padding[0]
                        .saturating_sub(vectors[1].0)
                        .min(kernel_height);
                    let bottom = (conv.padding[0] + conv.input[1]).saturating_sub(vectors[0].0);
                    let bottom = bottom.min(kernel_height).max(top);
                    tile.first = top * kernel_width;
                    tile.count = (bottom - top) * kernel_width;
                    tile.from = vectors.map(|(y, x)| y * columns + x);
                    tile.to = vectors.map(|(y, x)| y * width + x);
                    let kernel = kernels.kernels[count - 1][last - number];
                    // SAFETY: every tap of every window lies in the padded planes of the group's inputs, every vector
                    // in the output's planes and every weight in its channel's, as asserted; the instructions were
                    // detected.
                    unsafe {
                        kernel(
                            &tile,
                            offsets.as_ptr(),
                            weight.as_ptr().add(channel * taps),
                            input.as_ptr(),
                            output.as_mut_ptr().add(channel * height * width),
                            &finish,
                        );
                    }
                }
            }
        }
    }
}

/// # Safety
/// For all taps of the tile, `input` can be read at their offsets from both places on, `weights` at them in `ROWS` rows,
/// and `output` be written (and what `finish`
/// reads be read) at both places in `ROWS` planes; the processor has the instructions of `V`.
#[inline(always)]
unsafe fn kernel<V: Vector, const ROWS: usize, const VECTORS: usize>(
    tile: &Tile,
    offsets: *const u32,
    weights: *const f32,
    input: *const f32,
    output: *mut f32,
    finish: &Finish,
) {
    // SAFETY: the caller's promises are exactly the reads and writes below.
    unsafe {
        let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
        let rows: [usize; ROWS] = std::array::from_fn(|row| row * tile.weight_stride);
        let from: [*const f32; VECTORS] =
            std::array::from_fn(|vector| input.add(tile.from[vector]));
        for channel in 0..tile.channels {
            let start = channel * tile.area + tile.first;
            let mut weight = weights.add(start);
            let mut offset = offsets.add(start);
            for _ in 0..tile.count {
                let at = *offset as usize;
                let right: [V; VECTORS] =
                    std::array::from_fn(|vector| V::load(from[vector].add(at)));
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let left = V::splat(*weight.add(row));
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum = sum.multiply_add(left, right);
                    }
                }
                weight = weight.add(1);
                offset = offset.add(1);
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (vector, sum) in sums.iter().enumerate() {
                let to = row * tile.plane + tile.to[vector];
                let value = V::splat(tile.bias[row]).add(*sum);
                finish.vector(value, to).store(output.add(to));
            }
        }
    }
}

/// The kernels of one vector type, compiled with an attribute, for every number of rows.
macro_rules! kernels {
    ($vector:ty, [$($rows:literal),*], $attribute:meta) => {{
        #[$attribute]
        unsafe fn run<const ROWS: usize, const VECTORS: usize>(
            tile: &Tile,
            offsets: *const u32,
            weights: *const f32,
            input: *const f32,
            output: *mut f32,
            finish: &Finish,
        ) {
            // SAFETY: the caller's promises are the same, and the attribute names the instructions.
            unsafe { kernel::<$vector, ROWS, VECTORS>(tile, offsets, weights, input, output, finish) }
        }
        &[$([run::<$rows, 1>, run::<$rows, 2>]),*]
    }};
}

static BASELINE: Kernels = Kernels {
    lanes: 4,
    rows: 4,
    kernels: kernels!(Four, [1, 2, 3, 4], inline(never)),
};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Finish, Kernels, Tile, kernel};
    use std::arch::x86_64::{__m256, __m512};

    pub(super) static AVX2: Kernels = Kernels {
        lanes: 8,
        rows: 6,
        kernels: kernels!(
            __m256,
            [1, 2, 3, 4, 5, 6],
            target_feature(enable = "avx2,fma")
        ),
    };

    pub(super) static AVX512: Kernels = Kernels {
        lanes: 16,
        rows: 12,
        kernels: kernels!(
            __m512,
            [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
            target_feature(enable = "avx512f,avx512dq")
        ),
    };
}
