//! Convolutions whose weights are mostly zero: the same products, with the kept weights only.

use std::ops::Range;

use super::windows::{Planes, Windows, add_windows, window_offsets};
use super::{Conv2d, add_bias_gradient};
use crate::finish::Finish;
use crate::gemm::{Output, aligned};
use crate::simd::first_level_cache;
use crate::sparse::{self, InPlace, Places, SparseMatrix, TILE};

/// A convolution with a fixed set of kept weights.
///
/// The pattern is made once for a mask; [`Self::refresh`] takes the values after every update.
#[derive(Clone, Debug)]
pub struct SparseConv2d {
    conv: Conv2d,
    /// Per group: output channels × taps.
    forward: Vec<SparseMatrix>,
    /// Per group, what leads back to the input: input channels × taps of the mirrored convolution, or taps ×
    /// output channels.
    backward: Vec<SparseMatrix>,
}

impl SparseConv2d {
    /// The convolution with the weights whose bits are set in `mask`, 64 weights per word.
    pub fn new(conv: Conv2d, mask: &[u64]) -> Self {
        Self::with(conv, mask, |conv, kept| {
            lies_in_vectors(conv) && is_cheap_in_place(conv, kept)
        })
    }

    /// The same with a choice, by a convolution and the kept weights of a group, whether windows are read where they lie.
    fn with(conv: Conv2d, mask: &[u64], in_place: impl Fn(&Conv2d, usize) -> bool) -> Self {
        assert!(mask.len() * 64 >= conv.weight_len());
        let [channels, taps] = [conv.output[0] / conv.groups, conv.taps()];
        let area = conv.kernel[0] * conv.kernel[1];
        let kept = |group: usize| {
            let from = group * channels * taps;
            (0..channels * taps).filter_map(move |at| {
                let source = from + at;
                let is_kept = mask[source / 64] >> (source % 64) & 1 == 1;
                is_kept.then_some((at / taps, at % taps, source))
            })
        };
        let over_windows = |conv: &Conv2d, elements: Vec<(usize, usize, usize)>| {
            let rows = conv.output[0] / conv.groups;
            if in_place(conv, elements.len()) {
                let offsets = window_offsets(conv);
                SparseMatrix::in_place(rows, &offsets, elements.into_iter())
            } else {
                SparseMatrix::new([rows, conv.taps()], elements.into_iter())
            }
        };
        let forward = |group| over_windows(&conv, kept(group).collect());
        let backward = |group| match conv.mirrored() {
            Some(mirrored) => {
                let elements = kept(group).map(|(output, tap, source)| {
                    let turned = area - 1 - tap % area;
                    (tap / area, output * area + turned, source)
                });
                over_windows(&mirrored, elements.collect())
            }
            None => {
                let elements = kept(group).map(|(output, tap, source)| (tap, output, source));
                SparseMatrix::new([taps, channels], elements)
            }
        };
        Self {
            conv,
            forward: (0..conv.groups).map(forward).collect(),
            backward: (0..conv.groups).map(backward).collect(),
        }
    }

    /// Kept weights.
    pub fn kept(&self) -> usize {
        self.forward.iter().map(SparseMatrix::len).sum()
    }

    /// Values of scratch that the calls with this many images need.
    pub fn scratch_len(&self, images: usize) -> usize {
        let conv = &self.conv;
        let [channels, taps] = [conv.output[0] / conv.groups, conv.taps()];
        let forward = conv.padded_len(images) + SparseMatrix::scratch_len(channels);
        let backward = match conv.mirrored() {
            Some(mirrored) => {
                let inputs = conv.input[0] / conv.groups;
                mirrored.padded_len(images) + SparseMatrix::scratch_len(inputs)
            }
            None => conv.tap_gradients_len(images) + SparseMatrix::scratch_len(taps),
        };
        forward.max(backward)
    }

    /// Takes the values of the kept weights.
    pub fn refresh(&mut self, weight: &[f32]) {
        assert_eq!(weight.len(), self.conv.weight_len());
        for matrix in self.forward.iter_mut().chain(&mut self.backward) {
            matrix.refresh(weight);
        }
    }

    /// [`Conv2d::forward`] with the kept weights.
    pub fn forward(
        &self,
        images: usize,
        input: &[f32],
        bias: Option<&[f32]>,
        output: &mut [f32],
        finish: Finish,
        scratch: &mut [f32],
    ) {
        let conv = &self.conv;
        let bias_len = bias.map(<[f32]>::len);
        conv.check(
            images,
            input.len(),
            conv.weight_len(),
            output.len(),
            bias_len,
        );
        forward(
            conv,
            &self.forward,
            images,
            input,
            bias,
            output,
            finish,
            scratch,
        );
    }

    /// [`Conv2d::backward_input`] with the kept weights.
    pub fn backward_input(
        &self,
        images: usize,
        output_gradient: &[f32],
        input_gradient: &mut [f32],
        finish: Finish,
        scratch: &mut [f32],
    ) {
        let conv = &self.conv;
        let lengths = [
            input_gradient.len(),
            conv.weight_len(),
            output_gradient.len(),
        ];
        conv.check(images, lengths[0], lengths[1], lengths[2], None);
        if let Some(mirrored) = conv.mirrored() {
            let back = &self.backward;
            forward(
                &mirrored,
                back,
                images,
                output_gradient,
                None,
                input_gradient,
                finish,
                scratch,
            );
            return;
        }
        let [channels, taps, pixels] = [conv.output[0] / conv.groups, conv.taps(), conv.pixels()];
        if conv.is_pointwise() {
            for (group, matrix) in self.backward.iter().enumerate() {
                let gradient = Planes {
                    data: output_gradient,
                    start: group * channels * pixels,
                    pixels,
                    image_stride: conv.output_len(),
                };
                let mut into = Output {
                    start: group * taps * pixels,
                    finish,
                    ..Output::images(input_gradient, pixels, conv.input_len())
                };
                matrix.multiply(images * pixels, &gradient, None, &mut into, scratch);
            }
            return;
        }
        input_gradient.fill(0.0);
        let at_once = conv.images_at_once();
        let (tap_gradients, scratch) =
            aligned(scratch).split_at_mut(conv.tap_gradients_len(images));
        let chunks = output_gradient.chunks(at_once * conv.output_len());
        let into = input_gradient.chunks_mut(at_once * conv.input_len());
        for (gradients, into) in chunks.zip(into) {
            let columns = gradients.len() / conv.output_len() * pixels;
            for (group, matrix) in self.backward.iter().enumerate() {
                let gradient = Planes {
                    data: gradients,
                    start: group * channels * pixels,
                    pixels,
                    image_stride: conv.output_len(),
                };
                let mut product = Output::padded(tap_gradients, columns);
                let row_stride = product.row_stride;
                matrix.multiply(columns, &gradient, None, &mut product, scratch);
                for (image, into) in into.chunks_exact_mut(conv.input_len()).enumerate() {
                    let taps = &tap_gradients[image * pixels..];
                    add_windows(conv, group, taps, row_stride, into);
                }
            }
        }
        finish.apply(input_gradient);
    }

    /// Adds the gradients of the kept weights to `values`, one value per kept weight, and of the bias to its own.
    ///
    /// [`Self::scatter`] knows which value belongs to which weight.
    pub fn backward_weight(
        &self,
        images: usize,
        input: &[f32],
        output_gradient: &[f32],
        values: &mut [f32],
        bias_gradient: Option<&mut [f32]>,
        scratch: &mut [f32],
    ) {
        let conv = &self.conv;
        let bias_len = bias_gradient.as_ref().map(|bias| bias.len());
        conv.check(
            images,
            input.len(),
            conv.weight_len(),
            output_gradient.len(),
            bias_len,
        );
        let [channels, pixels] = [conv.output[0] / conv.groups, conv.pixels()];
        let (padded, scratch) = scratch.split_at_mut(conv.padded_len(images));
        for some in conv.parts(images) {
            let input = &input[some.start * conv.input_len()..some.end * conv.input_len()];
            let windows = Windows::new(conv, some.len(), input, padded);
            let mut values = &mut *values;
            for (group, matrix) in self.forward.iter().enumerate() {
                let gradient = Planes {
                    data: &output_gradient[some.start * conv.output_len()..],
                    start: group * channels * pixels,
                    pixels,
                    image_stride: conv.output_len(),
                };
                let (own, rest) = values.split_at_mut(matrix.len());
                let (windows, columns) = (windows.group(group), some.len() * pixels);
                if matrix.is_in_place() {
                    let right = in_place(&windows);
                    matrix.sample_in_place(columns, &gradient, &right, own, scratch);
                } else {
                    matrix.sample(columns, &gradient, &windows, own, scratch);
                }
                values = rest;
            }
        }
        if let Some(bias_gradient) = bias_gradient {
            add_bias_gradient(conv, output_gradient, bias_gradient);
        }
    }

    /// Writes the gradients of the kept weights to their places in `weight_gradient`; the others stay as they are.
    pub fn scatter(&self, mut values: &[f32], weight_gradient: &mut [f32]) {
        for matrix in &self.forward {
            let (own, rest) = values.split_at(matrix.len());
            matrix.scatter(own, weight_gradient);
            values = rest;
        }
    }

    /// Whether a training step with `kept` weights is faster with this than with [`Conv2d`], by a model of the
    /// multiply-adds, of the packing and of the tiles that both need.
    pub fn pays(conv: &Conv2d, kept: usize, images: usize) -> bool {
        crate::sparse::pays(
            [conv.output[0] / conv.groups, conv.taps()],
            kept / conv.groups.max(1),
            images * conv.pixels(),
        )
    }
}

/// Whether every vector of pixels lies in one row of the padded input, and every tile in one image.
fn lies_in_vectors(conv: &Conv2d) -> bool {
    conv.stride == [1, 1]
        && conv.output[2].is_multiple_of(sparse::lanes())
        && conv.pixels().is_multiple_of(TILE)
}

/// Whether so few weights are kept that loads which cross cache lines cost less than packing; of windows of one pixel,
/// which lie whole planes apart, packing reads every line but once.
fn is_cheap_in_place(conv: &Conv2d, kept: usize) -> bool {
    /// Kept weights of a tap, measured by `benches/sparse.rs`, where the rows that a tile needs fit the first-level cache
    /// and where they do not.
    const MOST_KEPT: [usize; 2] = [8, 4];
    let channels = conv.input[0] / conv.groups;
    let rows = TILE.div_ceil(conv.output[2]) + conv.kernel[0] - 1;
    let bytes = channels * rows * conv.covered()[1] * size_of::<f32>();
    let most_kept = MOST_KEPT[usize::from(bytes > first_level_cache())];
    !conv.is_pointwise() && kept <= most_kept * conv.taps()
}

/// Windows that are read where they lie.
fn in_place<'a>(windows: &'a Windows) -> InPlace<'a, impl Fn(Range<usize>) -> Places> {
    InPlace {
        data: windows.data(),
        places: |pixels| windows.places(pixels, sparse::lanes()),
    }
}

/// `output = matrices ∗ input + bias`, finished, for the windows of `conv`, one matrix per group.
#[allow(clippy::too_many_arguments)]
fn forward(
    conv: &Conv2d,
    matrices: &[SparseMatrix],
    images: usize,
    input: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
    finish: Finish,
    scratch: &mut [f32],
) {
    let [channels, pixels] = [conv.output[0] / conv.groups, conv.pixels()];
    let (padded, scratch) = scratch.split_at_mut(conv.padded_len(images));
    for some in conv.parts(images) {
        let input = &input[some.start * conv.input_len()..some.end * conv.input_len()];
        let from = some.start * conv.output_len();
        let output = &mut output[from..some.end * conv.output_len()];
        let windows = Windows::new(conv, some.len(), input, padded);
        for (group, matrix) in matrices.iter().enumerate() {
            let rows = group * channels..(group + 1) * channels;
            let mut into = Output {
                start: rows.start * pixels,
                finish: finish.at(from),
                ..Output::images(output, pixels, conv.output_len())
            };
            let bias = bias.map(|bias| &bias[rows]);
            let (windows, columns) = (windows.group(group), some.len() * pixels);
            if matrix.is_in_place() {
                matrix.multiply_in_place(columns, &in_place(&windows), bias, &mut into, scratch);
            } else {
                matrix.multiply(columns, &windows, bias, &mut into, scratch);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    /// The output, the input gradient and the weight gradient, as bits.
    fn results(sparse: &mut SparseConv2d, images: usize) -> [Vec<u32>; 3] {
        let conv = sparse.conv;
        let input = numbers(images * conv.input_len(), 1);
        let weight = numbers(conv.weight_len(), 2);
        let bias = numbers(conv.output[0], 3);
        let gradient = numbers(images * conv.output_len(), 4);
        let mut scratch = vec![f32::NAN; sparse.scratch_len(images)];
        let mut output = vec![f32::NAN; gradient.len()];
        let mut back = vec![f32::NAN; input.len()];
        let mut values = vec![0.0; sparse.kept()];
        let mut weight_gradient = vec![0.0; weight.len()];
        sparse.refresh(&weight);
        let bias = Some(&bias[..]);
        sparse.forward(
            images,
            &input,
            bias,
            &mut output,
            Finish::Relu,
            &mut scratch,
        );
        sparse.backward_input(images, &gradient, &mut back, Finish::Keep, &mut scratch);
        sparse.backward_weight(images, &input, &gradient, &mut values, None, &mut scratch);
        sparse.scatter(&values, &mut weight_gradient);
        [output, back, weight_gradient].map(|values| values.into_iter().map(f32::to_bits).collect())
    }

    #[test]
    fn windows_read_in_place_give_the_bits_of_packed_ones() {
        let conv = |input: [usize; 3], outputs: usize, padding: usize, groups: usize| Conv2d {
            input,
            output: [outputs, 16, 16],
            kernel: [3, 3],
            stride: [1, 1],
            padding: [padding; 2],
            groups,
        };
        for conv in [
            conv([12, 16, 16], 10, 1, 1),
            conv([16, 16, 16], 18, 1, 2),
            conv([5, 18, 18], 7, 0, 1),
        ] {
            assert!(lies_in_vectors(&conv));
            let choices = numbers(conv.weight_len(), 5);
            let mut mask = vec![0u64; conv.weight_len().div_ceil(64)];
            for (at, _) in choices
                .iter()
                .enumerate()
                .filter(|(_, choice)| **choice < -0.4)
            {
                mask[at / 64] |= 1 << (at % 64);
            }
            let mut packed = SparseConv2d::with(conv, &mask, |_, _| false);
            let mut in_place = SparseConv2d::with(conv, &mask, |conv, _| lies_in_vectors(conv));
            assert!(in_place.forward.iter().all(SparseMatrix::is_in_place));
            for images in [1, 3] {
                let expected = results(&mut packed, images);
                assert_eq!(results(&mut in_place, images), expected, "{conv:?}");
            }
        }
    }

    #[test]
    fn few_kept_weights_are_read_in_place_and_many_are_packed() {
        let conv = Conv2d {
            input: [16, 32, 32],
            output: [16, 32, 32],
            kernel: [3, 3],
            stride: [1, 1],
            padding: [1, 1],
            groups: 1,
        };
        let sparse = |mask: u64| SparseConv2d::new(conv, &[mask; 36]);
        let [few, many] = [sparse(0x8080_8080_8080_8080), sparse(u64::MAX)];
        assert!(few.forward[0].is_in_place() && few.backward[0].is_in_place());
        assert!(!many.forward[0].is_in_place() && !many.backward[0].is_in_place());
    }
}
