//! BatchNorm: the lanes' sums are joined in lane order between two lane-local passes.

use skinny_kernels::{Threads, norm};

use super::lane::{Lane, Mode};
use super::program::{Norm, Program, Work};

/// What BatchNorm keeps from the forward to the backward pass, per step of the program.
pub(super) struct NormBuffers {
    mean: Vec<Vec<f32>>,
    inverse: Vec<Vec<f32>>,
    variance: Vec<f32>,
    totals: [Vec<f64>; 2],
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
            momentum: None,
        }
    }

    /// Makes the next forward pass number `index` of those over which running statistics are averaged.
    pub fn average_over(&mut self, index: usize) {
        self.momentum = Some(1.0 / (index + 1) as f32);
    }

    /// Gives the layers their own momentum again.
    pub fn average_over_none(&mut self) {
        self.momentum = None;
    }

    pub fn forward(
        &mut self,
        program: &Program,
        index: usize,
        threads: &Threads,
        lanes: &mut [Lane],
        weights: &mut [Vec<f32>],
        mode: Mode,
    ) {
        let step = &program.steps[index];
        let Work::BatchNorm(layer) = &step.work else {
            return;
        };
        let (input, output) = (step.inputs[0], step.output);
        let Norm { channels, area, .. } = *layer;
        let (mean, inverse) = (&mut self.mean[index], &mut self.inverse[index]);
        if mode == Mode::Evaluate {
            mean.copy_from_slice(&weights[layer.mean]);
            norm::inverse_deviation(&weights[layer.variance], layer.epsilon, inverse);
        } else {
            let count = area * lanes.iter().map(|lane| lane.images).sum::<usize>();
            threads.for_each(lanes, |_, lane| {
                let values = &lane.values[input][..program.value_lengths[input] * lane.images];
                norm::channel_sums(area, values, &mut lane.sums[0][..channels]);
            });
            norm::average(count, join(lanes, 0, &mut self.totals[0][..channels]), mean);
            let known = &*mean;
            threads.for_each(lanes, |_, lane| {
                let values = &lane.values[input][..program.value_lengths[input] * lane.images];
                norm::channel_squares(area, values, known, &mut lane.sums[0][..channels]);
            });
            let variance = &mut self.variance[..channels];
            norm::average(
                count,
                join(lanes, 0, &mut self.totals[0][..channels]),
                variance,
            );
            norm::inverse_deviation(variance, layer.epsilon, inverse);
            let momentum = self.momentum.unwrap_or(layer.momentum);
            let mut running_mean = std::mem::take(&mut weights[layer.mean]);
            let running_variance = &mut weights[layer.variance];
            norm::update_running(
                momentum,
                count,
                mean,
                variance,
                &mut running_mean,
                running_variance,
            );
            weights[layer.mean] = running_mean;
        }
        let (scale, shift) = (&weights[layer.scale], &weights[layer.shift]);
        let (mean, inverse) = (&self.mean[index], &self.inverse[index]);
        threads.for_each(lanes, |_, lane| {
            let length = program.value_lengths[input] * lane.images;
            let (before, after) = lane.values.split_at_mut(output);
            let (values, target) = (&before[input][..length], &mut after[0][..length]);
            norm::apply(area, values, mean, inverse, scale, shift, target);
        });
    }

    /// The gradients when the statistics were those of the batch.
    pub fn backward(
        &mut self,
        program: &Program,
        index: usize,
        threads: &Threads,
        lanes: &mut [Lane],
        weights: &[Vec<f32>],
        gradients: &mut [Vec<f32>],
    ) {
        let step = &program.steps[index];
        let Work::BatchNorm(layer) = &step.work else {
            return;
        };
        let Some(slot) = program.gradient_slots[step.output] else {
            return;
        };
        let input = step.inputs[0];
        let Norm { channels, area, .. } = *layer;
        let count = area * lanes.iter().map(|lane| lane.images).sum::<usize>();
        let (mean, inverse) = (&self.mean[index], &self.inverse[index]);
        threads.for_each(lanes, |_, lane| {
            let length = program.value_lengths[input] * lane.images;
            let [shift, scale] = &mut lane.sums;
            let (values, gradient) = (
                &lane.values[input][..length],
                &lane.gradients[slot][..length],
            );
            let (shift, scale) = (&mut shift[..channels], &mut scale[..channels]);
            norm::backward_sums(area, values, gradient, mean, inverse, shift, scale);
        });
        let [shift, scale] = &mut self.totals;
        let shift = &*join(lanes, 0, &mut shift[..channels]);
        let scale = &*join(lanes, 1, &mut scale[..channels]);
        for (totals, parameter) in [(shift, layer.shift), (scale, layer.scale)] {
            for (gradient, total) in gradients[parameter].iter_mut().zip(totals) {
                *gradient = *total as f32;
            }
        }
        let first = program.first_writer[index][0];
        threads.for_each(lanes, |_, lane| {
            let length = program.value_lengths[input] * lane.images;
            let gradient = std::mem::take(&mut lane.gradients[slot]);
            lane.write_gradient(program, input, first, |lane, target| {
                norm::backward_apply(
                    area,
                    count,
                    &lane.values[input][..length],
                    &gradient[..length],
                    mean,
                    inverse,
                    &weights[layer.scale],
                    shift,
                    scale,
                    target,
                );
            });
            lane.gradients[slot] = gradient;
        });
    }
}

/// Adds up one of the lanes' sums in lane order.
fn join<'a>(lanes: &[Lane], which: usize, totals: &'a mut [f64]) -> &'a mut [f64] {
    totals.fill(0.0);
    for lane in lanes {
        norm::combine(&lane.sums[which][..totals.len()], totals);
    }
    totals
}
