//! Linear layers: the whole batch at once, so that large weights are read once a pass.

use skinny_kernels::{Linear, Threads};

use super::lane::Lane;
use super::parameters::{Parameters, ParametersMut, Sparse};
use super::program::{Program, Work};

/// Buffers of the largest linear layer, shared by all.
pub(super) struct WholeBuffers {
    /// `[batch, inputs]`
    input: Vec<f32>,
    /// `[features, batch]`
    transposed: Vec<f32>,
    /// `[batch, features]`
    rows: Vec<f32>,
    scratch: Vec<f32>,
}

impl WholeBuffers {
    pub fn new(program: &Program, batch: usize) -> WholeBuffers {
        let layers: Vec<Linear> = program
            .steps
            .iter()
            .filter_map(|step| match &step.work {
                Work::Linear { linear, .. } => Some(*linear),
                _ => None,
            })
            .collect();
        let most = |length: &dyn Fn(&Linear) -> usize| layers.iter().map(length).max().unwrap_or(0);
        let features = most(&|linear| linear.inputs.max(linear.outputs));
        WholeBuffers {
            input: vec![0.0; batch * most(&|linear| linear.inputs)],
            transposed: vec![0.0; batch * features],
            rows: vec![0.0; batch * features],
            scratch: vec![0.0; most(&|linear| linear.scratch_len(batch))],
        }
    }

    /// Makes room for calls that need more scratch.
    pub fn reserve_scratch(&mut self, length: usize) {
        if self.scratch.len() < length {
            self.scratch.resize(length, 0.0);
        }
    }

    pub fn forward(
        &mut self,
        program: &Program,
        index: usize,
        threads: &Threads,
        lanes: &mut [Lane],
        parameters: &Parameters,
    ) {
        let step = &program.steps[index];
        let Work::Linear {
            linear,
            weight,
            bias,
        } = &step.work
        else {
            return;
        };
        let batch = gather(program, step.inputs[0], lanes, &mut self.input);
        let output_t = &mut self.transposed[..batch * linear.outputs];
        let input = &self.input[..batch * linear.inputs];
        let bias = bias.map(|bias| parameters.values[bias].as_slice());
        let scratch = &mut self.scratch;
        match &parameters.sparse[*weight] {
            Some(Sparse::Linear(sparse)) => {
                sparse.forward(threads, batch, input, bias, output_t, scratch)
            }
            _ => {
                let weight = &parameters.values[*weight];
                linear.forward(threads, batch, input, weight, bias, output_t, scratch);
            }
        }
        let rows = &mut self.rows[..batch * linear.outputs];
        skinny_kernels::transpose(linear.outputs, batch, output_t, rows);
        for lane in lanes {
            let range = lane.first * linear.outputs..(lane.first + lane.images) * linear.outputs;
            lane.values[step.output][..range.len()].copy_from_slice(&rows[range]);
        }
    }

    pub fn backward(
        &mut self,
        program: &Program,
        index: usize,
        threads: &Threads,
        lanes: &mut [Lane],
        parameters: ParametersMut,
    ) {
        let step = &program.steps[index];
        let Work::Linear {
            linear,
            weight,
            bias,
        } = &step.work
        else {
            return;
        };
        let Some(slot) = program.gradient_slots[step.output] else {
            return;
        };
        let ParametersMut {
            values: weights,
            sparse,
            masked,
            gradients,
        } = parameters;
        let batch = gather(program, step.inputs[0], lanes, &mut self.input);
        for lane in lanes.iter() {
            let range = lane.first * linear.outputs..(lane.first + lane.images) * linear.outputs;
            self.rows[range.clone()].copy_from_slice(&lane.gradients[slot][..range.len()]);
        }
        let output_gradient_t = &mut self.transposed[..batch * linear.outputs];
        skinny_kernels::transpose(
            batch,
            linear.outputs,
            &self.rows[..batch * linear.outputs],
            output_gradient_t,
        );
        let mut bias_gradient = bias.map(|bias| std::mem::take(&mut gradients[bias]));
        let sparse = &mut sparse[*weight];
        let input = &self.input[..batch * linear.inputs];
        match sparse {
            Some(Sparse::Linear(sparse)) if masked => sparse.backward_weight(
                threads,
                batch,
                output_gradient_t,
                input,
                &mut gradients[*weight],
                bias_gradient.as_deref_mut(),
                &mut self.scratch,
            ),
            _ => linear.backward_weight(
                threads,
                batch,
                output_gradient_t,
                input,
                &mut gradients[*weight],
                bias_gradient.as_deref_mut(),
                &mut self.scratch,
            ),
        }
        if let (Some(bias), Some(gradient)) = (bias, bias_gradient) {
            gradients[*bias] = gradient;
        }
        let input = step.inputs[0];
        if program.gradient_slots[input].is_none() {
            return;
        }
        // The input is not needed any more: its buffer takes the input's gradient.
        let input_gradient_t = &mut self.input[..batch * linear.inputs];
        let scratch = &mut self.scratch;
        match sparse {
            Some(Sparse::Linear(sparse)) => {
                sparse.backward_input(threads, batch, output_gradient_t, input_gradient_t, scratch)
            }
            _ => {
                let weight = &weights[*weight];
                let gradient = output_gradient_t;
                linear.backward_input(threads, batch, gradient, weight, input_gradient_t, scratch);
            }
        }
        let rows = &mut self.rows[..batch * linear.inputs];
        skinny_kernels::transpose(linear.inputs, batch, input_gradient_t, rows);
        let first = program.first_writer[index][0];
        for lane in lanes {
            let range = lane.first * linear.inputs..(lane.first + lane.images) * linear.inputs;
            lane.write_gradient(program, input, first, |_, target| {
                target.copy_from_slice(&rows[range])
            });
        }
    }
}

/// Collects a value of all lanes as `[batch, features]`; returns the batch.
fn gather(program: &Program, value: usize, lanes: &[Lane], rows: &mut [f32]) -> usize {
    let features = program.value_lengths[value];
    for lane in lanes {
        let start = lane.first * features;
        rows[start..start + lane.images * features].copy_from_slice(lane.value(program, value));
    }
    lanes.iter().map(|lane| lane.images).sum()
}
