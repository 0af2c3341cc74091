//! Fully connected layers whose weights are mostly zero.

use super::{BLOCK, Linear, bias_gradient_of};
use crate::gemm::{DEPTH, LINE, Matrix, Output, Right, aligned};
use crate::sparse::{SparseMatrix, TILE};
use crate::threads::Threads;

/// A fully connected layer with a fixed set of kept weights.
///
/// The pattern is made once for a mask; [`Self::refresh`] takes the values after every update.
#[derive(Clone, Debug)]
pub struct SparseLinear {
    linear: Linear,
    /// Outputs × inputs, in blocks of [`BLOCK`] outputs.
    forward: Vec<Rows>,
    /// Inputs × outputs, in blocks of [`BLOCK`] inputs.
    backward: Vec<SparseMatrix>,
}

/// A block of outputs, whose weights are positions in the block's own part of the weights.
#[derive(Clone, Debug)]
struct Rows {
    matrix: SparseMatrix,
    /// The gradients of the kept weights.
    gradients: Vec<f32>,
}

impl SparseLinear {
    /// The layer with the weights whose bits are set in `mask`, 64 weights per word.
    pub fn new(linear: Linear, mask: &[u64]) -> Self {
        let [rows, depth] = [linear.outputs, linear.inputs];
        assert!(mask.len() * 64 >= rows * depth);
        let kept = |at: usize| mask[at / 64] >> (at % 64) & 1 == 1;
        let forward = (0..rows).step_by(BLOCK).map(|first| {
            let count = BLOCK.min(rows - first);
            let elements = (0..count * depth).filter(|at| kept(first * depth + at));
            let elements = elements.map(|at| (at / depth, at % depth, at));
            let matrix = SparseMatrix::new([count, depth], elements);
            let gradients = vec![0.0; matrix.len()];
            Rows { matrix, gradients }
        });
        let backward = (0..depth).step_by(BLOCK).map(|first| {
            let count = BLOCK.min(depth - first);
            let elements = (0..rows).flat_map(|row| {
                (0..count).map(move |input| (input, row, row * depth + first + input))
            });
            SparseMatrix::new([count, rows], elements.filter(|(_, _, at)| kept(*at)))
        });
        Self {
            linear,
            forward: forward.collect(),
            backward: backward.collect(),
        }
    }

    /// Kept weights.
    pub fn kept(&self) -> usize {
        self.forward.iter().map(|rows| rows.matrix.len()).sum()
    }

    /// Values of scratch that the calls with this batch need.
    pub fn scratch_len(&self, batch: usize) -> usize {
        (self.linear.inputs + self.linear.outputs) * batch.next_multiple_of(TILE) + LINE
    }

    /// Takes the values of the kept weights.
    pub fn refresh(&mut self, threads: &Threads, weight: &[f32]) {
        assert_eq!(weight.len(), self.linear.inputs * self.linear.outputs);
        let inputs = self.linear.inputs;
        threads.for_each(&mut self.forward, |block, rows| {
            rows.matrix.refresh(&weight[block * BLOCK * inputs..]);
        });
        threads.for_each(&mut self.backward, |_, matrix| matrix.refresh(weight));
    }

    /// [`Linear::forward`] with the kept weights.
    pub fn forward(
        &self,
        threads: &Threads,
        batch: usize,
        input: &[f32],
        bias: Option<&[f32]>,
        output_t: &mut [f32],
        scratch: &mut [f32],
    ) {
        let [inputs, outputs] = [self.linear.inputs, self.linear.outputs];
        let lengths = [input.len(), output_t.len()];
        assert_eq!(lengths, [batch * inputs, batch * outputs]);
        let input = Matrix::row_major(input, inputs).transposed();
        let packed = pack_tiles(threads, [inputs, batch], &input, scratch);
        threads.for_each_chunk(output_t, BLOCK * batch.max(1), |block, into| {
            let bias = bias.map(|bias| &bias[block * BLOCK..]);
            product(
                &self.forward[block].matrix,
                [inputs, batch],
                packed,
                bias,
                into,
            );
        });
    }

    /// [`Linear::backward_input`] with the kept weights.
    pub fn backward_input(
        &self,
        threads: &Threads,
        batch: usize,
        output_gradient_t: &[f32],
        input_gradient_t: &mut [f32],
        scratch: &mut [f32],
    ) {
        let [inputs, outputs] = [self.linear.inputs, self.linear.outputs];
        let lengths = [output_gradient_t.len(), input_gradient_t.len()];
        assert_eq!(lengths, [batch * outputs, batch * inputs]);
        let gradient = Matrix::row_major(output_gradient_t, batch);
        let packed = pack_tiles(threads, [outputs, batch], &gradient, scratch);
        threads.for_each_chunk(input_gradient_t, BLOCK * batch.max(1), |block, into| {
            product(&self.backward[block], [outputs, batch], packed, None, into);
        });
    }

    /// [`Linear::backward_weight`] for the kept weights; the gradients of the others are 0.
    #[allow(clippy::too_many_arguments)]
    pub fn backward_weight(
        &mut self,
        threads: &Threads,
        batch: usize,
        output_gradient_t: &[f32],
        input: &[f32],
        weight_gradient: &mut [f32],
        bias_gradient: Option<&mut [f32]>,
        scratch: &mut [f32],
    ) {
        let [inputs, outputs] = [self.linear.inputs, self.linear.outputs];
        let lengths = [input.len(), output_gradient_t.len(), weight_gradient.len()];
        assert_eq!(lengths, [batch * inputs, batch * outputs, inputs * outputs]);
        let (input_scratch, scratch) =
            aligned(scratch).split_at_mut(inputs * batch.next_multiple_of(TILE));
        let input = Matrix::row_major(input, inputs).transposed();
        let packed = pack_tiles(threads, [inputs, batch], &input, input_scratch);
        let gradient = Matrix::row_major(output_gradient_t, batch);
        let gradients = pack_tiles(threads, [outputs, batch], &gradient, scratch);
        threads.for_each(&mut self.forward, |block, rows| {
            rows.gradients.fill(0.0);
            for (tile, packed) in packed.chunks_exact(inputs * TILE).enumerate() {
                let own = &gradients[(tile * outputs + block * BLOCK) * TILE..];
                rows.matrix.sample_packed(own, packed, &mut rows.gradients);
            }
        });
        let forward = &self.forward;
        threads.for_each_chunk(weight_gradient, BLOCK * inputs, |block, into| {
            into.fill(0.0);
            let Rows { matrix, gradients } = &forward[block];
            matrix.scatter(gradients, into);
        });
        if let Some(bias_gradient) = bias_gradient {
            bias_gradient_of(batch, output_gradient_t, bias_gradient);
        }
    }

    /// Whether a training step with `kept` weights is faster with this than with [`Linear`], by a model of both.
    pub fn pays(linear: &Linear, kept: usize, batch: usize) -> bool {
        crate::sparse::pays([linear.outputs, linear.inputs], kept, batch)
    }
}

/// Packs a whole matrix, tile of columns after tile, [`TILE`] values per depth.
fn pack_tiles<'s>(
    threads: &Threads,
    [depth, columns]: [usize; 2],
    right: &(impl Right + Sync),
    scratch: &'s mut [f32],
) -> &'s [f32] {
    let packed = &mut aligned(scratch)[..depth * columns.next_multiple_of(TILE)];
    let tiles = packed.chunks_exact_mut((depth * TILE).max(1));
    for (packed, first) in tiles.zip((0..columns).step_by(TILE)) {
        threads.for_each_chunk(packed, DEPTH * TILE, |block, packed| {
            let from = block * DEPTH;
            let depth = from..from + packed.len() / TILE;
            right.pack(depth, first..columns.min(first + TILE), TILE, packed);
        });
    }
    packed
}

/// `into = bias + matrix · right` for a block of rows and a right matrix that is packed whole.
fn product(
    matrix: &SparseMatrix,
    [depth, columns]: [usize; 2],
    packed: &[f32],
    bias: Option<&[f32]>,
    into: &mut [f32],
) {
    /// Rows that begin with cache lines.
    #[repr(align(64))]
    struct Tile([f32; BLOCK * TILE]);
    let mut tile = Tile([0.0; _]);
    let tile = &mut tile.0[..into.len() / columns * TILE];
    for (number, first) in (0..columns).step_by(TILE).enumerate() {
        let packed = &packed[number * depth * TILE..][..depth * TILE];
        matrix.multiply_packed(packed, bias, tile);
        let some = first..columns.min(first + TILE);
        Output::matrix(into, columns, 0).write(some, tile, TILE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers};

    #[test]
    fn sparse_layers_match_dense_layers_with_zeros_at_any_number_of_threads() {
        let pools = [1, 3].map(Threads::new);
        for (batch, inputs, outputs, density) in [
            (1, 1, 1, 1.0),
            (64, 280, 50, 0.1),
            (70, 513, 97, 0.3),
            (5, 100, 10, 0.0),
            (130, 49, 100, 0.9),
        ] {
            let layer = Linear { inputs, outputs };
            let mut mask = vec![0u64; (inputs * outputs).div_ceil(64)];
            let mut weight = numbers(inputs * outputs, 2);
            for (at, choice) in numbers(weight.len(), 6).into_iter().enumerate() {
                if f64::from(choice) < 2.0 * density - 1.0 {
                    mask[at / 64] |= 1 << (at % 64);
                } else {
                    weight[at] = 0.0;
                }
            }
            let input = numbers(batch * inputs, 1);
            let bias = numbers(outputs, 3);
            let gradient_t = numbers(outputs * batch, 4);
            let mut sparse = SparseLinear::new(layer, &mask);
            let length = layer.scratch_len(batch).max(sparse.scratch_len(batch));
            let mut bits = Vec::new();
            for threads in &pools {
                let mut scratch = vec![f32::NAN; length];
                let [mut y, mut dx, mut dw] = [outputs * batch, inputs * batch, inputs * outputs]
                    .map(|length| [vec![f32::NAN; length], vec![f32::NAN; length]]);
                let mut db = [vec![f32::NAN; outputs], vec![f32::NAN; outputs]];
                layer.forward(
                    threads,
                    batch,
                    &input,
                    &weight,
                    Some(&bias),
                    &mut y[0],
                    &mut scratch,
                );
                layer.backward_input(
                    threads,
                    batch,
                    &gradient_t,
                    &weight,
                    &mut dx[0],
                    &mut scratch,
                );
                layer.backward_weight(
                    threads,
                    batch,
                    &gradient_t,
                    &input,
                    &mut dw[0],
                    Some(&mut db[0]),
                    &mut scratch,
                );
                for (at, gradient) in dw[0].iter_mut().enumerate() {
                    if mask[at / 64] >> (at % 64) & 1 == 0 {
                        *gradient = 0.0;
                    }
                }
                scratch.fill(f32::NAN);
                sparse.refresh(threads, &weight);
                sparse.forward(threads, batch, &input, Some(&bias), &mut y[1], &mut scratch);
                sparse.backward_input(threads, batch, &gradient_t, &mut dx[1], &mut scratch);
                sparse.backward_weight(
                    threads,
                    batch,
                    &gradient_t,
                    &input,
                    &mut dw[1],
                    Some(&mut db[1]),
                    &mut scratch,
                );
                let what = format!("{layer:?}, batch {batch}, density {density}");
                for [dense, sparse] in [&y, &dx, &dw, &db] {
                    let dense: Vec<f64> = dense.iter().map(|x| f64::from(*x)).collect();
                    assert_close(sparse, &dense, &what);
                }
                bits.push([y, dx, dw].map(|[_, sparse]| sparse));
            }
            assert_eq!(bits[0], bits[1]);
        }
    }
}
