//! BatchNorm: a stretch of lane-local steps ends with each lane's sums, these are joined in lane order, and the next stretch
//! begins with the normalization; so what a lane normalizes is still, or again, in the cache for the step beside it.

use skinny_kernels::{activation, norm};

use super::lane::{Lane, Mode};
use super::program::{Norm, Program, Work};

/// What BatchNorm keeps from the forward to the backward pass, per step of the program.
pub(super) struct NormBuffers {
    mean: Vec<Vec<f32>>,
    inverse: Vec<Vec<f32>>,
    variance: Vec<f32>,
    totals: [Vec<f64>; 2],
    /// Values per channel of the whole batch, of the layer that was joined last.
    count: usize,
    /// Momentum of the running statistics where it is not the layer's own.
    momentum: Option<f32>,
}

impl NormBuffers {
    pub fn new(program: &Program) -> NormBuffers {
        let per_step = || {
            let channels = program.steps.iter().map(|step| match &step.work {
                Work::BatchNorm(norm) => norm.channels,
                _ => 0,
            });
            channels.map(|channels| vec![0.0; channels]).collect()
        };
        let most = program.most_norm_channels();
        NormBuffers {
            mean: per_step(),
            inverse: per_step(),
            variance: vec![0.0; most],
            totals: [vec![0.0; most], vec![0.0; most]],
            count: 0,
            momentum: None,
        }
    }

    /// Makes the next forward pass number `index` of those over which running statistics are averaged.
    pub fn average_over(&mut self, index: usize) {
        self.momentum = Some(1.0 / (index + 1) as f32);
    }

    /// Leaves the running statistics of the next forward passes as they are.
    pub fn keep_running(&mut self) {
        self.momentum = Some(0.0);
    }

    /// Gives the layers their own momentum again.
    pub fn own_momentum(&mut self) {
        self.momentum = None;
    }

    /// What a lane knows of the batch's statistics: the sum of each channel, and the squares about the lane's own mean.
    pub fn sums(program: &Program, index: usize, lane: &mut Lane) {
        let (layer, input) = layer(program, index);
        let Norm { channels, area, .. } = *layer;
        let length = program.value_lengths[input] * lane.images;
        let values = &lane.values[input][..length];
        let [sums, squares] = &mut lane.sums;
        let (sums, squares) = (&mut sums[..channels], &mut squares[..channels]);
        let means = &mut lane.means[..channels];
        norm::channel_sums(area, values, sums);
        norm::average(area * lane.images, sums, means);
        norm::channel_squares(area, values, means, squares);
    }

    /// The statistics to normalize with: those of the batch, or when evaluating the running ones.
    pub fn join(
        &mut self,
        program: &Program,
        index: usize,
        lanes: &[Lane],
        weights: &mut [Vec<f32>],
        mode: Mode,
    ) {
        let layer = layer(program, index).0;
        let Norm { channels, area, .. } = *layer;
        let (mean, inverse) = (&mut self.mean[index], &mut self.inverse[index]);
        if mode == Mode::Evaluate {
            mean.copy_from_slice(&weights[layer.mean]);
            norm::inverse_deviation(&weights[layer.variance], layer.epsilon, inverse);
            return;
        }
        self.count = values_per_channel(layer, lanes);
        let [totals, squares] = &mut self.totals;
        norm::average(self.count, join(lanes, 0, &mut totals[..channels]), mean);
        let squares = &mut squares[..channels];
        squares.fill(0.0);
        for lane in lanes {
            let [sums, own] = lane.sums.each_ref().map(|sums| &sums[..channels]);
            let means = &lane.means[..channels];
            norm::combine_squares(area * lane.images, sums, means, own, mean, squares);
        }
        let variance = &mut self.variance[..channels];
        norm::average(self.count, squares, variance);
        norm::inverse_deviation(variance, layer.epsilon, inverse);
        let momentum = self.momentum.unwrap_or(layer.momentum);
        let mut running_mean = std::mem::take(&mut weights[layer.mean]);
        let running_variance = &mut weights[layer.variance];
        norm::update_running(
            momentum,
            self.count,
            mean,
            variance,
            &mut running_mean,
            running_variance,
        );
        weights[layer.mean] = running_mean;
    }

    /// Normalizes what a lane has, by the joined statistics.
    pub fn apply(&self, program: &Program, index: usize, lane: &mut Lane, weights: &[Vec<f32>]) {
        let (layer, input) = layer(program, index);
        let step = &program.steps[index];
        let length = program.value_lengths[input] * lane.images;
        let (before, after) = lane.values.split_at_mut(step.output);
        norm::apply(
            layer.area,
            &before[input][..length],
            &self.mean[index],
            &self.inverse[index],
            &weights[layer.scale],
            &weights[layer.shift],
            step.relu,
            &mut after[0][..length],
        );
    }

    /// A lane's share of the gradients of scale and shift.
    pub fn backward_sums(&self, program: &Program, index: usize, lane: &mut Lane) {
        let (layer, input) = layer(program, index);
        let step = &program.steps[index];
        let Some(slot) = program.gradient_slots[step.output] else {
            return;
        };
        let length = program.value_lengths[input] * lane.images;
        let gradient = &mut lane.gradients[slot][..length];
        if step.relu && !program.is_finished[step.output] {
            activation::relu_backward(&lane.values[step.output][..length], gradient);
        }
        let [shift, scale] = &mut lane.sums;
        norm::backward_sums(
            layer.area,
            &lane.values[input][..length],
            gradient,
            &self.mean[index],
            &self.inverse[index],
            &mut shift[..layer.channels],
            &mut scale[..layer.channels],
        );
    }

    /// The gradients of scale and shift, when the statistics were those of the batch.
    pub fn join_backward(
        &mut self,
        program: &Program,
        index: usize,
        lanes: &[Lane],
        gradients: &mut [Vec<f32>],
    ) {
        let layer = layer(program, index).0;
        self.count = values_per_channel(layer, lanes);
        for (which, parameter) in [(0, layer.shift), (1, layer.scale)] {
            let totals = &mut self.totals[which][..layer.channels];
            let totals = &*join(lanes, which, totals);
            for (gradient, total) in gradients[parameter].iter_mut().zip(totals) {
                *gradient = *total as f32;
            }
        }
    }

    /// The gradient of a lane's input from the joined sums.
    pub fn backward_apply(
        &self,
        program: &Program,
        index: usize,
        lane: &mut Lane,
        weights: &[Vec<f32>],
    ) {
        let (layer, input) = layer(program, index);
        let Some(slot) = program.gradient_slots[program.steps[index].output] else {
            return;
        };
        let first = program.first_writer[index][0];
        let length = program.value_lengths[input] * lane.images;
        let gradient = std::mem::take(&mut lane.gradients[slot]);
        let [shift, scale] = self.totals.each_ref().map(|sums| &sums[..layer.channels]);
        lane.write_gradient(program, input, first, |lane, target| {
            norm::backward_apply(
                layer.area,
                self.count,
                &lane.values[input][..length],
                &gradient[..length],
                &self.mean[index],
                &self.inverse[index],
                &weights[layer.scale],
                shift,
                scale,
                target,
            );
        });
        lane.gradients[slot] = gradient;
    }
}

/// The normalization that a step of the program is, and the value that it reads.
fn layer(program: &Program, index: usize) -> (&Norm, usize) {
    let step = &program.steps[index];
    match &step.work {
        Work::BatchNorm(norm) => (norm, step.inputs[0]),
        work => unreachable!("step {index} is {work:?}, not a normalization"),
    }
}

fn values_per_channel(layer: &Norm, lanes: &[Lane]) -> usize {
    layer.area * lanes.iter().map(|lane| lane.images).sum::<usize>()
}

/// Adds up one of the lanes' sums in lane order.
fn join<'a>(lanes: &[Lane], which: usize, totals: &'a mut [f64]) -> &'a mut [f64] {
    totals.fill(0.0);
    for lane in lanes {
        norm::combine(&lane.sums[which][..totals.len()], totals);
    }
    totals
}
