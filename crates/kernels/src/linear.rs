//! Fully connected layers over the whole batch, on transposed activations.
//!
//! Outputs and input gradients are [features, batch], so that a block of features is contiguous and blocks
//! can be computed on different threads. The size of a block is fixed, so the bits do not depend on how many
//! threads there are.

use crate::elementwise;
use crate::gemm::{self, Base, Left, Matrix, Output, Right};
use crate::threads::Threads;

/// Features of one piece of work: a multiple of the rows of every tile, and whole cache lines of a row.
const BLOCK: usize = 48;

/// A fully connected layer: `output = weight · input + bias` for every image of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Input features.
    pub inputs: usize,
    /// Output features.
    pub outputs: usize,
}

impl Linear {
    /// Values of scratch that the calls with this batch need.
    pub fn scratch_len(&self, batch: usize) -> usize {
        let forward = self.inputs * gemm::packed_width(batch);
        let backward_input = self.outputs * gemm::packed_width(batch);
        let backward_weight = batch * gemm::packed_width(self.inputs);
        forward.max(backward_input).max(backward_weight)
    }

    /// `output_t = weight · inputᵀ + bias`.
    ///
    /// `input` is [batch, inputs], `weight` [outputs, inputs], `bias` [outputs], `output_t` [outputs, batch];
    /// `scratch` at least [`Self::scratch_len`].
    #[allow(clippy::too_many_arguments)]
    pub fn forward(
        &self,
        threads: &Threads,
        batch: usize,
        input: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        output_t: &mut [f32],
        scratch: &mut [f32],
    ) {
        self.check(
            batch,
            input.len(),
            weight.len(),
            output_t.len(),
            bias.map(<[f32]>::len),
        );
        product(
            threads,
            [self.outputs, self.inputs, batch],
            &Matrix::row_major(weight, self.inputs),
            &Matrix::row_major(input, self.inputs).transposed(),
            bias.map_or(Base::Zero, Base::Bias),
            output_t,
            scratch,
        );
    }

    /// `input_gradient_t = weightᵀ · output_gradient_t`, overwritten.
    ///
    /// `output_gradient_t` is [outputs, batch], `input_gradient_t` [inputs, batch].
    pub fn backward_input(
        &self,
        threads: &Threads,
        batch: usize,
        output_gradient_t: &[f32],
        weight: &[f32],
        input_gradient_t: &mut [f32],
        scratch: &mut [f32],
    ) {
        self.check(
            batch,
            input_gradient_t.len(),
            weight.len(),
            output_gradient_t.len(),
            None,
        );
        product(
            threads,
            [self.inputs, self.outputs, batch],
            &Matrix::row_major(weight, self.inputs).transposed(),
            &Matrix::row_major(output_gradient_t, batch),
            Base::Zero,
            input_gradient_t,
            scratch,
        );
    }

    /// The gradients of weight and bias, summed over the batch; both are overwritten.
    ///
    /// `output_gradient_t` is [outputs, batch], `input` [batch, inputs].
    #[allow(clippy::too_many_arguments)]
    pub fn backward_weight(
        &self,
        threads: &Threads,
        batch: usize,
        output_gradient_t: &[f32],
        input: &[f32],
        weight_gradient: &mut [f32],
        bias_gradient: Option<&mut [f32]>,
        scratch: &mut [f32],
    ) {
        let bias_len = bias_gradient.as_ref().map(|bias| bias.len());
        self.check(
            batch,
            input.len(),
            weight_gradient.len(),
            output_gradient_t.len(),
            bias_len,
        );
        product(
            threads,
            [self.outputs, batch, self.inputs],
            &Matrix::row_major(output_gradient_t, batch),
            &Matrix::row_major(input, self.inputs),
            Base::Zero,
            weight_gradient,
            scratch,
        );
        if let Some(bias_gradient) = bias_gradient {
            if batch == 0 {
                bias_gradient.fill(0.0);
            }
            for (bias, row) in bias_gradient
                .iter_mut()
                .zip(output_gradient_t.chunks_exact(batch.max(1)))
            {
                *bias = elementwise::sum(row);
            }
        }
    }

    fn check(&self, batch: usize, input: usize, weight: usize, output: usize, bias: Option<usize>) {
        assert_eq!(input, batch * self.inputs, "input of {self:?}");
        assert_eq!(weight, self.inputs * self.outputs, "weight of {self:?}");
        assert_eq!(output, batch * self.outputs, "output of {self:?}");
        assert!(
            bias.is_none_or(|bias| bias == self.outputs),
            "bias of {self:?}"
        );
    }
}

/// `into = base + left · right`, row-major, in blocks of rows.
fn product(
    threads: &Threads,
    [rows, depth, columns]: [usize; 3],
    left: &(impl Left + Sync),
    right: &(impl Right + Sync),
    base: Base,
    into: &mut [f32],
    scratch: &mut [f32],
) {
    if rows == 0 || columns == 0 {
        return;
    }
    let width = gemm::tile_columns();
    let depth_row = columns.next_multiple_of(width);
    let packed = &mut scratch[..depth * depth_row];
    if depth > 0 {
        threads.for_each_chunk(packed, gemm::DEPTH * depth_row, |block, packed| {
            let from = block * gemm::DEPTH;
            gemm::pack(
                right,
                from..from + packed.len() / depth_row,
                0..columns,
                width,
                packed,
            );
        });
    }
    let packed = &*packed;
    threads.for_each_chunk(into, BLOCK * columns, |block, into| {
        let some = block * BLOCK..block * BLOCK + into.len() / columns;
        let mut output = Output::matrix(into, columns, some.start);
        for (from, to, base) in gemm::depth_blocks(depth, base) {
            let packed = &packed[from * depth_row..to * depth_row];
            for first in (0..columns).step_by(gemm::COLUMNS) {
                let last = columns.min(first + gemm::COLUMNS);
                let panels = &packed[first * (to - from)..];
                gemm::multiply_packed(
                    some.clone(),
                    from..to,
                    first..last,
                    left,
                    panels,
                    base,
                    &mut output,
                );
            }
        }
    });
}
