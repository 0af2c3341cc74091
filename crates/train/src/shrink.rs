//! The penalty of method `l1`, as the proximal step of λ·Σ|w|: after each update, weights move towards zero by rate · λ and
//! stop there.

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
    let mut values = Vec::new();
    for (&index, layer) in resolved.thresholded.iter().zip(&resolved.layers) {
        if resolved.recipe.sparsity.keeps_dense(&layer.name) {
            continue;
        }
        let factor = f64::from(resolved.factors[index].lr);
        engine.read(Section::Weights, index, &mut values);
        soft_threshold(&mut values, (rate * factor * strength) as f32);
        engine.write(Section::Weights, index, &values);
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
