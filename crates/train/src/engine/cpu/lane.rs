//! A lane: a fixed share of the batch with buffers of its own, computed by one thread at a time.
//!
//! How many lanes a batch has depends on its size alone, and the sums of the lanes are joined in lane order:
//! that is why the number of threads never changes a bit.

use std::time::Instant;

use skinny_kernels::dropout::Dropout;
use skinny_kernels::{Finish, activation, elementwise};

use super::norm::NormBuffers;
use super::parameters::{Parameters, Sparse};
use super::program::{Program, Step, Stretch, Work};

/// Lanes of a full batch; enough for sixteen threads.
const MOST_LANES: usize = 16;
/// Fewer images than this are not worth a lane.
const LEAST_IMAGES: usize = 4;

/// The number of lanes of a batch of `images` images.
pub(super) fn lane_count(images: usize) -> usize {
    images.div_ceil(LEAST_IMAGES).clamp(1, MOST_LANES)
}

/// The most images that a lane can be given when a batch has up to `batch` images.
pub(super) fn lane_capacity(batch: usize) -> usize {
    batch.min(batch.div_ceil(MOST_LANES).max(LEAST_IMAGES))
}

/// The images of lane `lane` of a batch of `images` images.
pub(super) fn lane_range(images: usize, lane: usize) -> std::ops::Range<usize> {
    let lanes = lane_count(images);
    let (share, rest) = (images / lanes, images % lanes);
    let start = lane * share + lane.min(rest);
    start..start + share + usize::from(lane < rest)
}

/// How a pass treats the layers that behave differently in training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mode {
    /// Statistics of the batch, and dropout keyed by (seed, step).
    Train { seed: u64, step: u64 },
    /// Statistics of the batch, no dropout.
    Measure,
    /// Running statistics, no dropout.
    Evaluate,
}

impl Mode {
    /// The dropout of a step of the program, if there is any in this mode.
    fn dropout(self, index: usize, probability: f32) -> Option<Dropout> {
        match self {
            Mode::Train { seed, step } if probability > 0.0 => Some(Dropout {
                probability,
                seed,
                step,
                layer: index as u64,
            }),
            _ => None,
        }
    }
}

/// The buffers of one lane. Buffers hold the images of this call first; what lies behind is stale.
pub(super) struct Lane {
    /// First image of the lane in the batch.
    pub first: usize,
    /// Images of the lane in this call.
    pub images: usize,
    /// One buffer per value; value 0 is a copy of the lane's pictures.
    pub values: Vec<Vec<f32>>,
    /// Gradient slots; empty until the first backward pass.
    pub gradients: Vec<Vec<f32>>,
    /// The lane's share of each parameter's gradient; empty where a whole-batch step computes it. Where weights are
    /// sparse, the gradients of the kept ones come first and the rest is stale.
    pub parameter_gradients: Vec<Vec<f32>>,
    /// Per-channel sums of a batch normalization on their way to the other lanes.
    pub sums: [Vec<f64>; 2],
    /// Per-channel means of a batch normalization over the lane.
    pub means: Vec<f32>,
    /// What the loss adds.
    pub loss: f64,
    /// Right images.
    pub correct: usize,
    /// Positions of the maxima, per step.
    maxima: Vec<Vec<u32>>,
    /// Scales of local response normalization, per step.
    scales: Vec<Vec<f32>>,
    scratch: Vec<f32>,
    /// An input gradient before it is added to one that is already there.
    addend: Vec<f32>,
    /// Seconds of each step, forward and backward, where they are measured.
    pub times: Vec<[f64; 2]>,
}

impl Lane {
    pub fn new(program: &Program, capacity: usize) -> Lane {
        let output_length = |step: &Step| program.value_lengths[step.output] * capacity;
        Lane {
            first: 0,
            images: 0,
            values: program
                .value_lengths
                .iter()
                .map(|length| vec![0.0; length * capacity])
                .collect(),
            gradients: Vec::new(),
            parameter_gradients: Vec::new(),
            sums: std::array::from_fn(|_| vec![0.0; program.most_norm_channels()]),
            means: vec![0.0; program.most_norm_channels()],
            loss: 0.0,
            correct: 0,
            maxima: (program.steps.iter())
                .map(|step| match step.work {
                    Work::MaxPool(_) => vec![0; output_length(step)],
                    _ => Vec::new(),
                })
                .collect(),
            scales: (program.steps.iter())
                .map(|step| match step.work {
                    Work::Lrn { .. } => vec![0.0; output_length(step)],
                    _ => Vec::new(),
                })
                .collect(),
            scratch: vec![0.0; program.scratch_length(capacity)],
            addend: Vec::new(),
            times: Vec::new(),
        }
    }

    /// Makes room for calls that need more scratch.
    pub fn reserve_scratch(&mut self, length: usize) {
        if self.scratch.len() < length {
            self.scratch.resize(length, 0.0);
        }
    }

    /// Allocates what only a backward pass needs; `lengths` are those of the parameters.
    pub fn prepare_backward(&mut self, program: &Program, lengths: &[usize], capacity: usize) {
        if !self.gradients.is_empty() {
            return;
        }
        self.gradients = program
            .slot_lengths
            .iter()
            .map(|length| vec![0.0; length * capacity])
            .collect();
        self.parameter_gradients = vec![Vec::new(); lengths.len()];
        for step in &program.steps {
            if let Work::Conv { weight, bias, .. } = &step.work {
                for parameter in [Some(*weight), *bias].into_iter().flatten() {
                    self.parameter_gradients[parameter] = vec![0.0; lengths[parameter]];
                }
            }
        }
        let added = program
            .steps
            .iter()
            .zip(&program.first_writer)
            .filter(|(step, _)| !step.in_place());
        let most = added
            .flat_map(|(step, first)| step.inputs.iter().zip(first))
            .filter(|(_, first)| !**first)
            .map(|(&input, _)| program.value_lengths[input])
            .max()
            .unwrap_or(0);
        self.addend = vec![0.0; most * capacity];
    }

    /// The part of a value's buffer that holds the images of this call.
    pub fn value(&self, program: &Program, value: usize) -> &[f32] {
        &self.values[value][..program.value_lengths[value] * self.images]
    }

    /// Goes a stretch forward.
    pub fn forward(
        &mut self,
        stretch: &Stretch,
        program: &Program,
        parameters: &Parameters,
        mode: Mode,
    ) {
        if let Some(index) = stretch.normalize {
            self.timed(index, 0, |lane| {
                let norms = parameters.norms;
                norms.apply(program, index, lane, parameters.values)
            });
        }
        for index in stretch.steps.clone() {
            self.timed(index, 0, |lane| {
                lane.step_forward(index, program, parameters, mode)
            });
        }
        if let Some(index) = stretch.sums
            && mode != Mode::Evaluate
        {
            self.timed(index, 0, |lane| NormBuffers::sums(program, index, lane));
        }
    }

    /// Goes a stretch backward: from the gradient of each output to those of its inputs and parameters.
    pub fn backward(
        &mut self,
        stretch: &Stretch,
        program: &Program,
        parameters: &Parameters,
        mode: Mode,
    ) {
        let norms = parameters.norms;
        if let Some(index) = stretch.sums {
            self.timed(index, 1, |lane| {
                norms.backward_apply(program, index, lane, parameters.values)
            });
        }
        for index in stretch.steps.clone().rev() {
            self.timed(index, 1, |lane| {
                lane.step_backward(index, program, parameters, mode)
            });
        }
        if let Some(index) = stretch.normalize {
            self.timed(index, 1, |lane| norms.backward_sums(program, index, lane));
        }
    }

    fn timed(&mut self, index: usize, direction: usize, run: impl FnOnce(&mut Lane)) {
        if self.times.is_empty() {
            return run(self);
        }
        let start = Instant::now();
        run(self);
        self.times[index][direction] += start.elapsed().as_secs_f64();
    }

    fn step_forward(
        &mut self,
        index: usize,
        program: &Program,
        parameters: &Parameters,
        mode: Mode,
    ) {
        let step = &program.steps[index];
        let images = self.images;
        let length = |value: usize| program.value_lengths[value] * images;
        if step.in_place() {
            activation::relu_forward(&mut self.values[step.output][..length(step.output)]);
            return;
        }
        let (before, after) = self.values.split_at_mut(step.output);
        let output = &mut after[0][..length(step.output)];
        let input = &before[step.inputs[0]][..length(step.inputs[0])];
        match &step.work {
            Work::Conv { conv, weight, bias } => {
                let bias = bias.map(|bias| parameters.values[bias].as_slice());
                let scratch = &mut self.scratch;
                let finish = match step.relu {
                    true => Finish::Relu,
                    false => Finish::Keep,
                };
                match &parameters.sparse[*weight] {
                    Some(Sparse::Conv(sparse)) => {
                        sparse.forward(images, input, bias, output, finish, scratch)
                    }
                    _ => {
                        let weight = &parameters.values[*weight];
                        conv.forward(images, input, weight, bias, output, finish, scratch)
                    }
                }
            }
            Work::Relu => {
                output.copy_from_slice(input);
                activation::relu_forward(output);
            }
            Work::MaxPool(pool) => {
                let maxima = &mut self.maxima[index][..output.len()];
                pool.max_forward(images, input, output, maxima);
            }
            Work::AveragePool(pool) => pool.average_forward(images, input, output),
            Work::Lrn {
                lrn,
                channels,
                area,
            } => {
                let scales = &mut self.scales[index][..output.len()];
                lrn.forward(*channels, *area, input, output, scales);
            }
            Work::Dropout { probability } => match mode.dropout(index, *probability) {
                Some(dropout) => {
                    let elements = program.value_lengths[step.output];
                    dropout.forward(self.first, elements, input, output);
                }
                None => output.copy_from_slice(input),
            },
            Work::Add => {
                elementwise::add(input, &before[step.inputs[1]][..output.len()], output);
                for &other in &step.inputs[2..] {
                    elementwise::accumulate(&before[other][..output.len()], output);
                }
                if step.relu {
                    activation::relu_forward(output);
                }
            }
            Work::Linear { .. } | Work::BatchNorm(_) => {
                unreachable!("whole-batch steps have stages of their own")
            }
        }
    }

    fn step_backward(
        &mut self,
        index: usize,
        program: &Program,
        parameters: &Parameters,
        mode: Mode,
    ) {
        let step = &program.steps[index];
        let Some(slot) = program.gradient_slots[step.output] else {
            return;
        };
        let mut gradient = std::mem::take(&mut self.gradients[slot]);
        let output_gradient = &mut gradient[..program.value_lengths[step.output] * self.images];
        if step.in_place() {
            let output = &self.values[step.output][..output_gradient.len()];
            activation::relu_backward(output, output_gradient);
        } else {
            if step.relu && !program.is_finished[step.output] {
                let output = &self.values[step.output][..output_gradient.len()];
                activation::relu_backward(output, output_gradient);
            }
            self.parameter_gradient(program, parameters, step, output_gradient);
            for (&input, &first) in step.inputs.iter().zip(&program.first_writer[index]) {
                self.write_gradient(program, input, first, |lane, target| {
                    lane.input_gradient(
                        index,
                        program,
                        input,
                        parameters,
                        mode,
                        output_gradient,
                        target,
                    );
                });
            }
        }
        self.gradients[slot] = gradient;
    }

    /// Has `compute` write the gradient of a value, or add to it where another step wrote it before.
    pub fn write_gradient(
        &mut self,
        program: &Program,
        value: usize,
        first: bool,
        compute: impl FnOnce(&mut Lane, &mut [f32]),
    ) {
        let Some(slot) = program.gradient_slots[value] else {
            return;
        };
        let length = program.value_lengths[value] * self.images;
        let mut target = std::mem::take(&mut self.gradients[slot]);
        if first {
            compute(self, &mut target[..length]);
        } else {
            let mut addend = std::mem::take(&mut self.addend);
            compute(self, &mut addend[..length]);
            elementwise::accumulate(&addend[..length], &mut target[..length]);
            self.addend = addend;
        }
        self.gradients[slot] = target;
    }

    fn parameter_gradient(
        &mut self,
        program: &Program,
        parameters: &Parameters,
        step: &Step,
        output_gradient: &[f32],
    ) {
        let Work::Conv { conv, weight, bias } = &step.work else {
            return;
        };
        let mut weight_gradient = std::mem::take(&mut self.parameter_gradients[*weight]);
        let mut bias_gradient =
            bias.map(|bias| std::mem::take(&mut self.parameter_gradients[bias]));
        let input = step.inputs[0];
        let input = &self.values[input][..program.value_lengths[input] * self.images];
        match &parameters.sparse[*weight] {
            Some(Sparse::Conv(sparse)) if parameters.masked => sparse.backward_weight(
                self.images,
                input,
                output_gradient,
                &mut weight_gradient[..sparse.kept()],
                bias_gradient.as_deref_mut(),
                &mut self.scratch,
            ),
            _ => conv.backward_weight(
                self.images,
                input,
                output_gradient,
                &mut weight_gradient,
                bias_gradient.as_deref_mut(),
                &mut self.scratch,
            ),
        }
        self.parameter_gradients[*weight] = weight_gradient;
        if let (Some(bias), Some(gradient)) = (bias, bias_gradient) {
            self.parameter_gradients[*bias] = gradient;
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the operands of a backward call")]
    fn input_gradient(
        &mut self,
        index: usize,
        program: &Program,
        input: usize,
        parameters: &Parameters,
        mode: Mode,
        output_gradient: &[f32],
        target: &mut [f32],
    ) {
        let step = &program.steps[index];
        let images = self.images;
        match &step.work {
            Work::Conv { conv, weight, .. } => {
                let finish = match step.finishes_relu {
                    true => Finish::Where(&self.values[input][..target.len()]),
                    false => Finish::Keep,
                };
                let scratch = &mut self.scratch;
                match &parameters.sparse[*weight] {
                    Some(Sparse::Conv(sparse)) => {
                        sparse.backward_input(images, output_gradient, target, finish, scratch)
                    }
                    _ => {
                        let weight = &parameters.values[*weight];
                        conv.backward_input(
                            images,
                            output_gradient,
                            weight,
                            target,
                            finish,
                            scratch,
                        )
                    }
                }
            }
            Work::Relu => {
                target.copy_from_slice(output_gradient);
                activation::relu_backward(&self.values[step.output][..target.len()], target);
            }
            Work::MaxPool(pool) => {
                let maxima = &self.maxima[index][..output_gradient.len()];
                pool.max_backward(images, output_gradient, maxima, target);
            }
            Work::AveragePool(pool) => pool.average_backward(images, output_gradient, target),
            Work::Lrn {
                lrn,
                channels,
                area,
            } => lrn.backward(
                *channels,
                *area,
                &self.values[input][..target.len()],
                &self.values[step.output][..target.len()],
                &self.scales[index][..target.len()],
                output_gradient,
                target,
            ),
            Work::Dropout { probability } => match mode.dropout(index, *probability) {
                Some(dropout) => {
                    let elements = program.value_lengths[step.output];
                    dropout.backward(self.first, elements, output_gradient, target);
                }
                None => target.copy_from_slice(output_gradient),
            },
            Work::Add => target.copy_from_slice(output_gradient),
            Work::Linear { .. } | Work::BatchNorm(_) => {
                unreachable!("whole-batch steps have stages of their own")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_cover_every_batch_without_gap_or_overlap() {
        for images in 1..300 {
            let mut next = 0;
            for lane in 0..lane_count(images) {
                let range = lane_range(images, lane);
                assert_eq!(range.start, next);
                assert!(!range.is_empty());
                assert!(range.len() <= lane_capacity(300));
                next = range.end;
            }
            assert_eq!(next, images);
        }
    }
}
