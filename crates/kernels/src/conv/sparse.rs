//! Convolutions whose weights are mostly zero: the same products, with the kept weights only.

use super::windows::{Planes, Windows, add_windows};
use super::{Conv2d, add_bias_gradient};
use crate::finish::Finish;
use crate::gemm::Output;
use crate::sparse::SparseMatrix;

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
        assert!(mask.len() * 64 >= conv.weight_len());
        let [channels, taps] = [conv.output[0] / conv.groups, conv.taps()];
        let [inputs, area] = [conv.input[0] / conv.groups, conv.kernel[0] * conv.kernel[1]];
        let kept = |group: usize| {
            let from = group * channels * taps;
            (0..channels * taps).filter_map(move |at| {
                let source = from + at;
                let is_kept = mask[source / 64] >> (source % 64) & 1 == 1;
                is_kept.then_some((at / taps, at % taps, source))
            })
        };
        let mirrored = conv.mirrored().is_some();
        Self {
            conv,
            forward: (0..conv.groups)
                .map(|group| SparseMatrix::new([channels, taps], kept(group)))
                .collect(),
            backward: (0..conv.groups)
                .map(|group| {
                    if mirrored {
                        let elements = kept(group).map(|(output, tap, source)| {
                            let turned = area - 1 - tap % area;
                            (tap / area, output * area + turned, source)
                        });
                        SparseMatrix::new([inputs, channels * area], elements)
                    } else {
                        let elements =
                            kept(group).map(|(output, tap, source)| (tap, output, source));
                        SparseMatrix::new([taps, channels], elements)
                    }
                })
                .collect(),
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
        let (tap_gradients, scratch) = scratch.split_at_mut(conv.tap_gradients_len(images));
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
        mut values: &mut [f32],
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
        let windows = Windows::new(conv, images, input, padded);
        for (group, matrix) in self.forward.iter().enumerate() {
            let gradient = Planes {
                data: output_gradient,
                start: group * channels * pixels,
                pixels,
                image_stride: conv.output_len(),
            };
            let (own, rest) = values.split_at_mut(matrix.len());
            matrix.sample(
                images * pixels,
                &gradient,
                &windows.group(group),
                own,
                scratch,
            );
            values = rest;
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
    let windows = Windows::new(conv, images, input, padded);
    for (group, matrix) in matrices.iter().enumerate() {
        let rows = group * channels..(group + 1) * channels;
        let mut into = Output {
            start: rows.start * pixels,
            finish,
            ..Output::images(output, pixels, conv.output_len())
        };
        let bias = bias.map(|bias| &bias[rows]);
        matrix.multiply(
            images * pixels,
            &windows.group(group),
            bias,
            &mut into,
            scratch,
        );
    }
}
