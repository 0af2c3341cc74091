//! Convolutions, forward and backward, as matrix products whose operand is read from the windows directly.
//!
//! | product | rows | depth | columns |
//! |---|---|---|---|
//! | output | output channels | taps | pixels of all images |
//! | input gradient | taps | output channels | pixels of a few images, then added to where the taps came from |
//! | weight gradient | taps | pixels of all images | output channels |
//!
//! A tap is one (input channel, kernel row, kernel column) of a group. Where the output is about as large as the
//! input, the input gradient is instead the convolution of the output gradient with mirrored weights.

mod direct;
mod sparse;
#[cfg(test)]
mod tests;
mod windows;

pub use sparse::SparseConv2d;

use std::ops::Range;

use crate::elementwise;
use crate::finish::Finish;
use crate::gemm::{self, Base, Matrix, Output};
use windows::{Planes, Windows, add_transposed, add_windows, mirror};

/// Values of the tap gradients that are held at once: they stay in the second-level cache.
const TAP_GRADIENTS: usize = 64 * 1024;

/// Values of the padded input that are held at once: they stay in the second-level cache.
const PADDED: usize = 128 * 1024;

/// A two-dimensional convolution (cross-correlation, as in every framework) of NCHW images with OIHW weights.
///
/// The output shape is part of the description, so that the caller's rule for it is the only one; windows
/// must not reach past the padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Channels, height, width of one input image.
    pub input: [usize; 3],
    /// Channels, height, width of one output image.
    pub output: [usize; 3],
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Rows of zeros above and below, columns of zeros left and right.
    pub padding: [usize; 2],
    /// Groups of channels that do not see each other; divides both channel counts.
    pub groups: usize,
}

impl Conv2d {
    /// Values of one input image.
    pub fn input_len(&self) -> usize {
        self.input.iter().product()
    }

    /// Values of one output image.
    pub fn output_len(&self) -> usize {
        self.output.iter().product()
    }

    /// Weights: output channels × input channels per group × kernel height × kernel width.
    pub fn weight_len(&self) -> usize {
        self.output[0] * self.taps()
    }

    /// Values of scratch that the calls with this many images need.
    pub fn scratch_len(&self, images: usize) -> usize {
        let pixels = images * self.pixels();
        let channels = self.output[0] / self.groups;
        let forward = self.padded_len(images) + gemm::scratch_len(pixels);
        let backward_weight = self.padded_len(images)
            + self.taps() * gemm::packed_width(channels)
            + gemm::scratch_len(channels);
        let backward_input = match self.mirrored() {
            Some(mirrored) => {
                // Its product has a column for every pixel of the input, of which there may be more.
                let columns = images * mirrored.pixels();
                self.weight_len() + mirrored.padded_len(images) + gemm::scratch_len(columns)
            }
            None => self.tap_gradients_len(images) + gemm::scratch_len(pixels),
        };
        forward.max(backward_weight).max(backward_input)
    }

    /// `output = weight ∗ input + bias`, finished.
    ///
    /// `input` is [images, input], `weight` [output channels, input channels / groups, kernel], `bias` one value
    /// per output channel, `output` [images, output]; `scratch` at least [`Self::scratch_len`].
    #[allow(clippy::too_many_arguments)]
    pub fn forward(
        &self,
        images: usize,
        input: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        output: &mut [f32],
        finish: Finish,
        scratch: &mut [f32],
    ) {
        self.check(
            images,
            input.len(),
            weight.len(),
            output.len(),
            bias.map(<[f32]>::len),
        );
        let (padded, scratch) = scratch.split_at_mut(self.padded_len(images));
        let [channels, taps, pixels] = [self.output[0] / self.groups, self.taps(), self.pixels()];
        for some in self.parts(images) {
            let input = &input[some.start * self.input_len()..some.end * self.input_len()];
            let from = some.start * self.output_len();
            let output = &mut output[from..some.end * self.output_len()];
            let finish = finish.at(from);
            let windows = Windows::new(self, some.len(), input, padded);
            if direct::pays(self) {
                let padded = windows.data();
                direct::forward(self, some.len(), padded, weight, bias, output, finish);
                continue;
            }
            for group in 0..self.groups {
                let rows = group * channels..(group + 1) * channels;
                gemm::multiply(
                    [channels, taps, some.len() * pixels],
                    &Matrix::row_major(&weight[rows.start * taps..rows.end * taps], taps),
                    &windows.group(group),
                    bias.map_or(Base::Zero, |bias| Base::Bias(&bias[rows.clone()])),
                    &mut Output {
                        start: rows.start * pixels,
                        finish,
                        ..Output::images(output, pixels, self.output_len())
                    },
                    scratch,
                );
            }
        }
    }

    /// The gradient of the input, finished, which is overwritten, from that of the output.
    ///
    /// Shapes as in [`Self::forward`].
    pub fn backward_input(
        &self,
        images: usize,
        output_gradient: &[f32],
        weight: &[f32],
        input_gradient: &mut [f32],
        finish: Finish,
        scratch: &mut [f32],
    ) {
        self.check(
            images,
            input_gradient.len(),
            weight.len(),
            output_gradient.len(),
            None,
        );
        if let Some(mirrored) = self.mirrored() {
            let (mirrored_weight, scratch) = scratch.split_at_mut(self.weight_len());
            mirror(self, weight, mirrored_weight);
            mirrored.forward(
                images,
                output_gradient,
                mirrored_weight,
                None,
                input_gradient,
                finish,
                scratch,
            );
            return;
        }
        let [channels, taps, pixels] = [self.output[0] / self.groups, self.taps(), self.pixels()];
        let at_once = if self.is_pointwise() {
            images.max(1)
        } else {
            self.images_at_once()
        };
        let (tap_gradients, scratch) =
            gemm::aligned(scratch).split_at_mut(self.tap_gradients_len(images));
        if !self.is_pointwise() {
            input_gradient.fill(0.0);
        }
        for first in (0..images).step_by(at_once) {
            let some = at_once.min(images - first);
            let columns = some * pixels;
            for group in 0..self.groups {
                let rows = group * channels..(group + 1) * channels;
                let weight = Matrix::row_major(&weight[rows.start * taps..rows.end * taps], taps);
                let gradient = Planes {
                    data: &output_gradient[first * self.output_len()..][..some * self.output_len()],
                    start: rows.start * pixels,
                    pixels,
                    image_stride: self.output_len(),
                };
                let mut into = if self.is_pointwise() {
                    Output {
                        start: group * taps * pixels,
                        finish: finish.at(first * self.input_len()),
                        ..Output::images(input_gradient, pixels, self.input_len())
                    }
                } else {
                    Output::padded(tap_gradients, columns)
                };
                let row_stride = into.row_stride;
                let product = [taps, channels, columns];
                gemm::multiply(
                    product,
                    &weight.transposed(),
                    &gradient,
                    Base::Zero,
                    &mut into,
                    scratch,
                );
                if !self.is_pointwise() {
                    let images =
                        &mut input_gradient[first * self.input_len()..][..some * self.input_len()];
                    for (image, into) in images.chunks_exact_mut(self.input_len()).enumerate() {
                        add_windows(
                            self,
                            group,
                            &tap_gradients[image * pixels..],
                            row_stride,
                            into,
                        );
                    }
                }
            }
        }
        if !self.is_pointwise() {
            finish.apply(input_gradient);
        }
    }

    /// Adds the gradients of the weights and of the bias to what the slices hold.
    ///
    /// Shapes as in [`Self::forward`].
    pub fn backward_weight(
        &self,
        images: usize,
        input: &[f32],
        output_gradient: &[f32],
        weight_gradient: &mut [f32],
        bias_gradient: Option<&mut [f32]>,
        scratch: &mut [f32],
    ) {
        let bias_len = bias_gradient.as_ref().map(|bias| bias.len());
        self.check(
            images,
            input.len(),
            weight_gradient.len(),
            output_gradient.len(),
            bias_len,
        );
        let [channels, taps, pixels] = [self.output[0] / self.groups, self.taps(), self.pixels()];
        let (padded, scratch) = scratch.split_at_mut(self.padded_len(images));
        let (transposed, scratch) =
            gemm::aligned(scratch).split_at_mut(taps * gemm::packed_width(channels));
        for group in 0..self.groups {
            transposed.fill(0.0);
            for some in self.parts(images) {
                let input = &input[some.start * self.input_len()..some.end * self.input_len()];
                let windows = Windows::new(self, some.len(), input, padded);
                let gradient = Planes {
                    data: &output_gradient[some.start * self.output_len()..],
                    start: group * channels * pixels,
                    pixels,
                    image_stride: self.output_len(),
                };
                gemm::multiply(
                    [taps, some.len() * pixels, channels],
                    &windows.group(group),
                    &gradient.transposed(),
                    Base::Present,
                    &mut Output::padded(transposed, channels),
                    scratch,
                );
            }
            let rows = &mut weight_gradient[group * channels * taps..][..channels * taps];
            add_transposed(transposed, gemm::packed_width(channels), taps, rows);
        }
        if let Some(bias_gradient) = bias_gradient {
            add_bias_gradient(self, output_gradient, bias_gradient);
        }
    }

    /// Taps of one group.
    fn taps(&self) -> usize {
        self.input[0] / self.groups * self.kernel[0] * self.kernel[1]
    }

    /// Pixels of one output plane.
    fn pixels(&self) -> usize {
        self.output[1] * self.output[2]
    }

    /// A window is one pixel and the windows are the pixels.
    fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1]
            && self.stride == [1, 1]
            && self.padding == [0, 0]
            && self.input[1..] == self.output[1..]
    }

    /// The convolution of the output gradient with mirrored weights that gives the input gradient, if that is
    /// worth it: it has a product for every tap of every input pixel, and a row of tiles per few channels.
    fn mirrored(&self) -> Option<Self> {
        let [_, height, width] = self.input;
        let reaches = self.padding[0] < self.kernel[0] && self.padding[1] < self.kernel[1];
        let worth_it = height * width * 5 <= self.pixels() * 6 && self.input[0] / self.groups >= 8;
        if self.is_pointwise() || self.stride != [1, 1] || !reaches || !worth_it {
            return None;
        }
        let padding = [0, 1].map(|axis| self.kernel[axis] - 1 - self.padding[axis]);
        let mirrored = Self {
            input: self.output,
            output: self.input,
            padding,
            ..*self
        };
        // The description may leave out windows at the far edge; then the shapes do not mirror.
        let fits = [0, 1]
            .map(|axis| mirrored.covered()[axis] <= self.output[1 + axis] + 2 * padding[axis]);
        (fits == [true, true]).then_some(mirrored)
    }

    /// Height and width of the part of a padded input plane that the windows cover.
    fn covered(&self) -> [usize; 2] {
        [0, 1].map(|axis| (self.output[1 + axis] - 1) * self.stride[axis] + self.kernel[axis])
    }

    /// Values of the padded copy of the input; none if no window leaves the input.
    fn padded_len(&self, images: usize) -> usize {
        if self.padding == [0, 0] {
            0
        } else {
            self.padded_at_once(images) * self.padded_image_len()
        }
    }

    fn padded_image_len(&self) -> usize {
        self.input[0] * self.covered()[0] * self.covered()[1]
    }

    /// The images in parts whose padded copies stay in the cache; all of them if no window leaves the input.
    fn parts(&self, images: usize) -> impl Iterator<Item = Range<usize>> {
        let at_once = self.padded_at_once(images).max(1);
        (0..images)
            .step_by(at_once)
            .map(move |first| first..images.min(first + at_once))
    }

    /// Images of a part, never more for fewer images. The pixels of every part but the last are whole blocks of the depth
    /// of a weight gradient's product, whose sums so have the same order as in one part.
    fn padded_at_once(&self, images: usize) -> usize {
        if self.padding == [0, 0] {
            return images;
        }
        let cached = 1 << (PADDED / self.padded_image_len()).max(1).ilog2();
        let whole_blocks = gemm::DEPTH >> self.pixels().trailing_zeros().min(gemm::DEPTH.ilog2());
        images.min(cached.max(whole_blocks))
    }

    fn images_at_once(&self) -> usize {
        (TAP_GRADIENTS / (self.taps() * self.pixels()).max(1)).max(1)
    }

    fn tap_gradients_len(&self, images: usize) -> usize {
        if self.is_pointwise() {
            0
        } else {
            self.taps() * gemm::packed_width(self.pixels() * images.min(self.images_at_once()))
        }
    }

    fn check(
        &self,
        images: usize,
        input: usize,
        weight: usize,
        output: usize,
        bias: Option<usize>,
    ) {
        let [channels, ..] = self.output;
        assert!(self.groups > 0 && channels.is_multiple_of(self.groups));
        assert!(self.input[0].is_multiple_of(self.groups));
        assert!(self.pixels() > 0 && self.kernel[0] > 0 && self.kernel[1] > 0);
        for axis in [0, 1] {
            assert!(self.covered()[axis] <= self.input[1 + axis] + 2 * self.padding[axis]);
        }
        assert_eq!(input, images * self.input_len(), "input of {self:?}");
        assert_eq!(weight, self.weight_len(), "weight of {self:?}");
        assert_eq!(output, images * self.output_len(), "output of {self:?}");
        assert!(bias.is_none_or(|bias| bias == channels), "bias of {self:?}");
    }
}

/// Adds the sums of the planes of every output channel to its bias's gradient.
fn add_bias_gradient(conv: &Conv2d, output_gradient: &[f32], bias_gradient: &mut [f32]) {
    for image in output_gradient.chunks_exact(conv.output_len()) {
        for (bias, plane) in bias_gradient
            .iter_mut()
            .zip(image.chunks_exact(conv.pixels()))
        {
            *bias += elementwise::sum(plane);
        }
    }
}
