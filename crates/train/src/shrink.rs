//! The penalty of method `l1`, as the proximal step of λ·Σ|w|: after each update, weights move towards zero and stop there, as far
//! as a gradient of λ would have moved them.

use skinny_sparsity::Phase;

use crate::engine::{Engine, Section};
use crate::resolved::Resolved;

/// Shrinks the thresholded weights after step `step`, whose learning rate was `rate`, if it was a dense one of `l1`.
pub fn shrink(resolved: &Resolved, engine: &mut dyn Engine, step: usize, rate: f64) {
    let Some(strength) = resolved.recipe.sparsity.l1 else {
        return;
    };
    if resolved.plan.at(step) != Phase::Dense {
        return;
    }
    let train = &resolved.recipe.train;
    let reach = strength * train.optimizer().reach();
    let (mut values, mut average) = (Vec::new(), Vec::new());
    for (&index, layer) in resolved.thresholded.iter().zip(&resolved.layers) {
        if resolved.recipe.sparsity.keeps_dense(&layer.name) {
            continue;
        }
        let factor = f64::from(resolved.factors[index].lr);
        engine.read(Section::Weights, index, &mut values);
        let before = (train.ema > 0.0).then(|| values.clone());
        soft_threshold(&mut values, (rate * factor * reach) as f32);
        engine.write(Section::Weights, index, &values);
        if let Some(before) = before {
            // The step has put the weights into their average already, as they were before.
            let part = (1.0 - train.ema) as f32;
            engine.read(Section::Average, index, &mut average);
            for ((average, before), after) in average.iter_mut().zip(before).zip(&values) {
                *average += part * (after - before);
            }
            engine.write(Section::Average, index, &average);
        }
    }
}

/// Moves each value towards zero by `by`; what would pass zero becomes +0.0.
fn soft_threshold(values: &mut [f32], by: f32) {
    for value in values {
        let size = value.abs() - by;
        *value = if size > 0.0 {
            size.copysign(*value)
        } else {
            0.0
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::Optimizer;

    /// ½(w − 1)² + λ|w| is least at 1 − λ.
    #[test]
    fn the_least_of_loss_and_penalty_is_found_whatever_the_momentum() {
        const RATE: f64 = 0.05;
        for momentum in [0.0, 0.5, 0.9] {
            for nesterov in [false, true] {
                let optimizer = Optimizer::Sgd {
                    momentum: momentum as f32,
                    weight_decay: 0.0,
                    nesterov,
                };
                let (mut weight, mut velocity) = ([0.3f32], 0.0);
                for _ in 0..2000 {
                    let gradient = f64::from(weight[0]) - 1.0;
                    velocity = momentum * velocity + gradient;
                    let step = match nesterov {
                        true => gradient + momentum * velocity,
                        false => velocity,
                    };
                    weight[0] -= (RATE * step) as f32;
                    soft_threshold(&mut weight, (RATE * 0.2 * optimizer.reach()) as f32);
                }
                assert!((weight[0] - 0.8).abs() < 1e-4, "{momentum} {weight:?}");
            }
        }
    }

    #[test]
    fn values_move_to_zero_and_stop_there() {
        let mut values = [1.0, -1.0, 0.25, -0.25, 0.1, -0.0];
        soft_threshold(&mut values, 0.25);
        assert_eq!(
            values.map(f32::to_bits),
            [0.75, -0.75, 0.0, 0.0, 0.0, 0.0f32].map(f32::to_bits)
        );
        soft_threshold(&mut values, 0.0);
        assert_eq!(values[..2], [0.75, -0.75]);
    }
}
