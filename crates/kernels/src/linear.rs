//! Fully connected layers over the whole batch, on transposed activations.
//!
//! Outputs and input gradients are [features, batch], so that a block of features is contiguous and blocks
//! can be computed on different threads. The size of a block is fixed, so the bits do not depend on how many
//! threads there are.

mod sparse;

pub use sparse::SparseLinear;

use crate::elementwise;
use crate::finish::Finish;
use crate::gemm::{self, Base, LINE, Left, Matrix, Output, Right};
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
        forward.max(backward_input).max(backward_weight) + LINE
    }

    /// `output_t = weight · inputᵀ + bias`.
    ///
    /// `input` is [batch, inputs], `weight` [outputs, inputs], `bias` one value per output, `output_t` [outputs, batch];
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
            bias_gradient_of(batch, output_gradient_t, bias_gradient);
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

/// The sums of the rows of the output gradient.
fn bias_gradient_of(batch: usize, output_gradient_t: &[f32], bias_gradient: &mut [f32]) {
    if batch == 0 {
        bias_gradient.fill(0.0);
    }
    let rows = output_gradient_t.chunks_exact(batch.max(1));
    for (bias, row) in bias_gradient.iter_mut().zip(rows) {
        *bias = elementwise::sum(row);
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
    let packed = &mut gemm::aligned(scratch)[..depth * depth_row];
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
                let part = [some.clone(), from..to, first..last];
                gemm::multiply_packed(part, left, panels, base, &mut output, Finish::Keep);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers};

    #[test]
    fn linear_layers_match_plain_loops_at_any_number_of_threads() {
        let pools = [1, 2, 3, 8].map(Threads::new);
        for (batch, inputs, outputs) in [
            (1, 1, 1),
            (1, 7, 3),
            (3, 1, 5),
            (64, 280, 50),
            (17, 30, 100),
            (5, 513, 97),
            (400, 30, 10),
            (33, 49, 50),
        ] {
            let layer = Linear { inputs, outputs };
            let input = numbers(batch * inputs, 1);
            let weight = numbers(inputs * outputs, 2);
            let bias = numbers(outputs, 3);
            let gradient_t = numbers(outputs * batch, 4);
            let [mut output, mut input_gradient, mut weight_gradient] =
                [outputs * batch, inputs * batch, inputs * outputs].map(|n| vec![0.0f64; n]);
            let mut bias_gradient = vec![0.0f64; outputs];
            for n in 0..batch {
                for o in 0..outputs {
                    let gradient = f64::from(gradient_t[o * batch + n]);
                    bias_gradient[o] += gradient;
                    output[o * batch + n] = f64::from(bias[o]);
                    for i in 0..inputs {
                        let (x, w) = (
                            f64::from(input[n * inputs + i]),
                            f64::from(weight[o * inputs + i]),
                        );
                        output[o * batch + n] += x * w;
                        input_gradient[i * batch + n] += gradient * w;
                        weight_gradient[o * inputs + i] += gradient * x;
                    }
                }
            }
            let mut bits = Vec::new();
            for threads in &pools {
                let mut scratch = vec![f32::NAN; layer.scratch_len(batch)];
                let [mut y, mut dx, mut dw] =
                    [outputs * batch, inputs * batch, inputs * outputs].map(|n| vec![f32::NAN; n]);
                let mut db = vec![f32::NAN; outputs];
                layer.forward(
                    threads,
                    batch,
                    &input,
                    &weight,
                    Some(&bias),
                    &mut y,
                    &mut scratch,
                );
                layer.backward_input(threads, batch, &gradient_t, &weight, &mut dx, &mut scratch);
                layer.backward_weight(
                    threads,
                    batch,
                    &gradient_t,
                    &input,
                    &mut dw,
                    Some(&mut db),
                    &mut scratch,
                );
                let what = format!("{layer:?}, batch {batch}, {threads:?}");
                assert_close(&y, &output, &format!("output, {what}"));
                assert_close(&dx, &input_gradient, &format!("input gradient, {what}"));
                assert_close(&dw, &weight_gradient, &format!("weight gradient, {what}"));
                assert_close(&db, &bias_gradient, &format!("bias gradient, {what}"));
                let all: Vec<u32> = [y, dx, dw, db]
                    .iter()
                    .flatten()
                    .map(|x| x.to_bits())
                    .collect();
                bits.push(all);
            }
            assert!(
                bits.windows(2).all(|pair| pair[0] == pair[1]),
                "{layer:?}, batch {batch}"
            );
        }
    }

    #[test]
    fn an_empty_batch_gives_zero_gradients() {
        let layer = Linear {
            inputs: 3,
            outputs: 2,
        };
        let threads = Threads::new(2);
        let mut scratch = vec![f32::NAN; layer.scratch_len(0)];
        layer.forward(&threads, 0, &[], &[1.0; 6], None, &mut [], &mut scratch);
        let (mut weight, mut bias) = ([f32::NAN; 6], [f32::NAN; 2]);
        layer.backward_weight(
            &threads,
            0,
            &[],
            &[],
            &mut weight,
            Some(&mut bias),
            &mut scratch,
        );
        assert_eq!((weight, bias), ([0.0; 6], [0.0; 2]));
    }
}
