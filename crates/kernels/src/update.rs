//! Optimizer updates: one pass over weights, gradient and slots, with or without a mask.
//!
//! A mask is a slice of words whose bit `i % 64` of word `i / 64` says that weight `i` is kept. Where it is 0,
//! the weight becomes +0.0 and the slots stay as they are.

/// Stochastic gradient descent with momentum in PyTorch's form: the rate is applied to the velocity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate of this tensor.
    pub rate: f32,
    /// Momentum.
    pub momentum: f32,
    /// Weight decay of this tensor, added to the gradient.
    pub decay: f32,
    /// Nesterov's momentum.
    pub nesterov: bool,
    /// Factor of the gradient, for clipping its norm; 1 leaves it alone.
    pub gradient_factor: f32,
}

impl Sgd {
    /// `v = momentum · v + g + decay · w`, then `w -= rate · v`, or `w -= rate · (g + decay · w + momentum · v)`
    /// with Nesterov's momentum.
    pub fn update(
        &self,
        weights: &mut [f32],
        gradient: &[f32],
        velocity: &mut [f32],
        mask: Option<&[u64]>,
    ) {
        sgd(self, weights, gradient, velocity, mask);
    }
}

/// Stochastic gradient descent with momentum in Caffe's form: the rate is inside the velocity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CaffeSgd {
    /// Learning rate of this tensor.
    pub rate: f32,
    /// Momentum.
    pub momentum: f32,
    /// Weight decay of this tensor, added to the gradient.
    pub decay: f32,
    /// Nesterov's momentum, as Caffe does it.
    pub nesterov: bool,
    /// Factor of the gradient, for clipping its norm; 1 leaves it alone.
    pub gradient_factor: f32,
}

impl CaffeSgd {
    /// `v' = momentum · v + rate · (g + decay · w)`, then `w -= v'`, or `w -= (1 + momentum) · v' - momentum · v`
    /// with Nesterov's momentum.
    pub fn update(
        &self,
        weights: &mut [f32],
        gradient: &[f32],
        velocity: &mut [f32],
        mask: Option<&[u64]>,
    ) {
        caffe_sgd(self, weights, gradient, velocity, mask);
    }
}

/// Adam with decoupled weight decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this tensor.
    pub rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Weight decay of this tensor, times the rate.
    pub decay: f32,
    /// Number of this update, from 1.
    pub step: u64,
    /// Factor of the gradient, for clipping its norm; 1 leaves it alone.
    pub gradient_factor: f32,
}

impl AdamW {
    /// `m = β₁ · m + (1 - β₁) · g`, `v = β₂ · v + (1 - β₂) · g²`, then `w -= rate · decay · w` and
    /// `w -= rate · m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + ε)`.
    pub fn update(
        &self,
        weights: &mut [f32],
        gradient: &[f32],
        first: &mut [f32],
        second: &mut [f32],
        mask: Option<&[u64]>,
    ) {
        assert!(self.step > 0, "the updates of {self:?} are counted from 1");
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(self.step as f64);
        let size = (f64::from(self.rate) / correction(self.beta1)) as f32;
        let root = correction(self.beta2).sqrt() as f32;
        adamw(self, size, root, weights, gradient, first, second, mask);
    }
}

multiversion! {
    fn sgd(
        settings: &Sgd,
        weights: &mut [f32],
        gradient: &[f32],
        velocity: &mut [f32],
        mask: Option<&[u64]>,
    ) {
        let Sgd { rate, momentum, decay, nesterov, gradient_factor } = *settings;
        if nesterov {
            each(weights, gradient, [velocity], mask, |w, g, [v]| {
                let g = g * gradient_factor + decay * w;
                let v = momentum * v + g;
                (w - rate * (g + momentum * v), [v])
            });
        } else {
            each(weights, gradient, [velocity], mask, |w, g, [v]| {
                let v = momentum * v + (g * gradient_factor + decay * w);
                (w - rate * v, [v])
            });
        }
    }
}

multiversion! {
    fn caffe_sgd(
        settings: &CaffeSgd,
        weights: &mut [f32],
        gradient: &[f32],
        velocity: &mut [f32],
        mask: Option<&[u64]>,
    ) {
        let CaffeSgd { rate, momentum, decay, nesterov, gradient_factor } = *settings;
        if nesterov {
            each(weights, gradient, [velocity], mask, |w, g, [v]| {
                let next = momentum * v + rate * (g * gradient_factor + decay * w);
                (w - ((1.0 + momentum) * next - momentum * v), [next])
            });
        } else {
            each(weights, gradient, [velocity], mask, |w, g, [v]| {
                let v = momentum * v + rate * (g * gradient_factor + decay * w);
                (w - v, [v])
            });
        }
    }
}

multiversion! {
    fn adamw(
        settings: &AdamW,
        size: f32,
        root: f32,
        weights: &mut [f32],
        gradient: &[f32],
        first: &mut [f32],
        second: &mut [f32],
        mask: Option<&[u64]>,
    ) {
        let AdamW { rate, beta1, beta2, epsilon, decay, gradient_factor, .. } = *settings;
        each(weights, gradient, [first, second], mask, |w, g, [m, v]| {
            let g = g * gradient_factor;
            let w = w - rate * decay * w;
            let m = beta1 * m + (1.0 - beta1) * g;
            let v = beta2 * v + (1.0 - beta2) * (g * g);
            (w - size * (m / (v.sqrt() / root + epsilon)), [m, v])
        });
    }
}

/// Lanes that are updated together; a byte of the mask.
const LANES: usize = 8;

/// Replaces every kept weight and its slots by what `f` makes of weight, gradient and slots.
#[inline(always)]
fn each<const SLOTS: usize>(
    weights: &mut [f32],
    gradient: &[f32],
    mut slots: [&mut [f32]; SLOTS],
    mask: Option<&[u64]>,
    f: impl Fn(f32, f32, [f32; SLOTS]) -> (f32, [f32; SLOTS]),
) {
    let length = weights.len();
    assert_eq!(gradient.len(), length);
    assert!(slots.iter().all(|slot| slot.len() == length));
    assert!(mask.is_none_or(|mask| mask.len() == length.div_ceil(64)));
    for from in (0..length).step_by(LANES) {
        let bits = mask.map_or(0xff, |mask| (mask[from / 64] >> (from % 64)) as u32 & 0xff);
        if from + LANES <= length {
            eight(from, bits, weights, gradient, &mut slots, &f);
        } else {
            for at in from..length {
                if bits >> (at - from) & 1 == 0 {
                    weights[at] = 0.0;
                    continue;
                }
                let old = std::array::from_fn(|slot| slots[slot][at]);
                let (weight, new) = f(weights[at], gradient[at], old);
                weights[at] = weight;
                for (slot, new) in slots.iter_mut().zip(new) {
                    slot[at] = new;
                }
            }
        }
    }
}

/// [`each`] for eight consecutive weights.
#[inline(always)]
fn eight<const SLOTS: usize>(
    from: usize,
    bits: u32,
    weights: &mut [f32],
    gradient: &[f32],
    slots: &mut [&mut [f32]; SLOTS],
    f: &impl Fn(f32, f32, [f32; SLOTS]) -> (f32, [f32; SLOTS]),
) {
    let range = from..from + LANES;
    let gradient = &gradient[range.clone()];
    let weights = &mut weights[range.clone()];
    let slots = slots.each_mut().map(|slot| &mut slot[range.clone()]);
    let mut new_weights = [0.0; LANES];
    let mut new_slots = [[0.0; LANES]; SLOTS];
    for lane in 0..LANES {
        let kept = bits & 1 << lane != 0;
        let old: [f32; SLOTS] = std::array::from_fn(|slot| slots[slot][lane]);
        let (weight, new) = f(weights[lane], gradient[lane], old);
        new_weights[lane] = if kept { weight } else { 0.0 };
        for slot in 0..SLOTS {
            new_slots[slot][lane] = if kept { new[slot] } else { old[slot] };
        }
    }
    weights.copy_from_slice(&new_weights);
    for (slot, new) in slots.into_iter().zip(new_slots) {
        slot.copy_from_slice(&new);
    }
}

multiversion! {
    /// The sum of squares in `f64`, in eight partial sums that are added up in order.
    pub fn squared_norm(values: &[f32]) -> f64 {
        let mut sums = [0.0f64; 8];
        let chunks = values.chunks_exact(8);
        let rest: f64 = chunks.remainder().iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        for chunk in chunks {
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *sum += f64::from(*x) * f64::from(*x);
            }
        }
        sums.iter().sum::<f64>() + rest
    }
}

multiversion! {
    /// Writes +0.0 where the mask is 0; `mask` has a bit for every value, and may have more.
    pub fn apply_mask(values: &mut [f32], mask: &[u64]) {
        assert!(mask.len() >= values.len().div_ceil(64));
        for (values, word) in values.chunks_mut(64).zip(mask) {
            for (at, value) in values.iter_mut().enumerate() {
                *value = if word >> at & 1 == 1 { *value } else { 0.0 };
            }
        }
    }
}

multiversion! {
    /// `average = decay · average + (1 - decay) · weights`, both of the same length.
    pub fn ema_update(decay: f32, weights: &[f32], average: &mut [f32]) {
        assert_eq!(weights.len(), average.len());
        for (average, weight) in average.iter_mut().zip(weights) {
            *average = decay * *average + (1.0 - decay) * weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers};

    const SGD: Sgd = Sgd {
        rate: 0.1,
        momentum: 0.9,
        decay: 5e-3,
        nesterov: false,
        gradient_factor: 1.0,
    };
    const CAFFE: CaffeSgd = CaffeSgd {
        rate: 0.1,
        momentum: 0.9,
        decay: 5e-3,
        nesterov: false,
        gradient_factor: 1.0,
    };
    const ADAMW: AdamW = AdamW {
        rate: 0.1,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        decay: 0.01,
        step: 1,
        gradient_factor: 1.0,
    };

    const PLAIN: [f64; 3] = [0.469750000000, 0.462290125000, 0.454595621744];
    const NESTEROV: [f64; 3] = [0.442525000000, 0.455602101250, 0.441655671788];
    const CAFFE_PLAIN: [f64; 3] = [0.469750000000, 0.462290125000, 0.448553122994];
    const CAFFE_NESTEROV: [f64; 3] = [0.442525000000, 0.455602101250, 0.436227346425];
    const ADAM: [f64; 3] = [0.399500003333, 0.384648450925, 0.378418714267];

    /// An update of weights, gradient and two slots (of which it may use one), as step number `step`.
    type Update = Box<dyn Fn(u64, &mut [f32], &[f32], [&mut [f32]; 2], Option<&[u64]>)>;

    fn updates() -> Vec<Update> {
        let mut updates: Vec<Update> = Vec::new();
        for (nesterov, gradient_factor) in [(false, 1.0), (true, 0.5)] {
            let sgd = Sgd {
                nesterov,
                gradient_factor,
                ..SGD
            };
            updates.push(Box::new(move |_, w, g, [v, _], mask| {
                sgd.update(w, g, v, mask)
            }));
            let caffe = CaffeSgd {
                nesterov,
                gradient_factor,
                ..CAFFE
            };
            updates.push(Box::new(move |_, w, g, [v, _], mask| {
                caffe.update(w, g, v, mask)
            }));
            let adamw = AdamW {
                gradient_factor,
                ..ADAMW
            };
            updates.push(Box::new(move |step, w, g, [m, v], mask| {
                AdamW { step, ..adamw }.update(w, g, m, v, mask);
            }));
        }
        updates
    }

    /// One weight through three updates with these rates and gradients, by `update(rate, step, w, g, slots)`.
    fn three(update: impl Fn(f32, u64, &mut [f32], &[f32], [&mut [f32]; 2])) -> [f32; 3] {
        let (mut weight, mut first, mut second) = ([0.5], [0.0], [0.0]);
        [(0.1, 0.3), (0.1, -0.2), (0.01, 0.7)].map({
            let mut step = 0;
            move |(rate, gradient)| {
                step += 1;
                update(
                    rate,
                    step,
                    &mut weight,
                    &[gradient],
                    [&mut first, &mut second],
                );
                weight[0]
            }
        })
    }

    #[test]
    fn updates_match_values_computed_by_hand() {
        // Worked out in f64 from the formulas in the documentation; PyTorch's SGD and AdamW give the first,
        // second and last row.
        let sgd = |nesterov| {
            three(move |rate, _, w, g, [v, _]| {
                Sgd {
                    rate,
                    nesterov,
                    ..SGD
                }
                .update(w, g, v, None)
            })
        };
        assert_close(&sgd(false), &PLAIN, "sgd");
        assert_close(&sgd(true), &NESTEROV, "sgd with Nesterov's momentum");
        let caffe = |nesterov| {
            three(move |rate, _, w, g, [v, _]| {
                CaffeSgd {
                    rate,
                    nesterov,
                    ..CAFFE
                }
                .update(w, g, v, None)
            })
        };
        assert_close(&caffe(false), &CAFFE_PLAIN, "Caffe's sgd");
        assert_close(
            &caffe(true),
            &CAFFE_NESTEROV,
            "Caffe's sgd with Nesterov's momentum",
        );
        let adamw = three(|rate, step, w, g, [m, v]| {
            AdamW {
                rate,
                step,
                ..ADAMW
            }
            .update(w, g, m, v, None)
        });
        assert_close(&adamw, &ADAM, "AdamW");
    }

    #[test]
    fn the_gradient_factor_scales_the_gradient() {
        let gradient = numbers(19, 1);
        let half: Vec<f32> = gradient.iter().map(|g| g * 0.5).collect();
        for pair in [0, 1, 2] {
            let whole = |factor: f32, gradient: &[f32]| {
                let mut weights = numbers(19, 2);
                let [mut first, mut second] = [numbers(19, 3), vec![0.1; 19]];
                match pair {
                    0 => Sgd {
                        gradient_factor: factor,
                        ..SGD
                    }
                    .update(&mut weights, gradient, &mut first, None),
                    1 => CaffeSgd {
                        gradient_factor: factor,
                        ..CAFFE
                    }
                    .update(&mut weights, gradient, &mut first, None),
                    _ => AdamW {
                        gradient_factor: factor,
                        ..ADAMW
                    }
                    .update(
                        &mut weights,
                        gradient,
                        &mut first,
                        &mut second,
                        None,
                    ),
                }
                weights
            };
            assert_eq!(whole(0.5, &gradient), whole(1.0, &half));
        }
    }

    #[test]
    fn masked_weights_are_zero_and_their_slots_untouched() {
        for length in [1usize, 7, 8, 9, 63, 64, 65, 200, 256] {
            let words: Vec<u64> = (0..length as u64)
                .map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
                .collect();
            let masks = [
                vec![0; length.div_ceil(64)],
                words[..length.div_ceil(64)].to_vec(),
            ];
            for (number, update) in updates().iter().enumerate() {
                for mask in &masks {
                    let state = || (numbers(length, 1), numbers(length, 2), vec![0.25; length]);
                    let gradient = numbers(length, 3);
                    let (mut dense, mut dense_first, mut dense_second) = state();
                    update(
                        2,
                        &mut dense,
                        &gradient,
                        [&mut dense_first, &mut dense_second],
                        None,
                    );
                    let (mut weights, mut first, mut second) = state();
                    update(
                        2,
                        &mut weights,
                        &gradient,
                        [&mut first, &mut second],
                        Some(mask),
                    );
                    let (_, old_first, old_second) = state();
                    for at in 0..length {
                        let kept = mask[at / 64] >> (at % 64) & 1 == 1;
                        let expected = match kept {
                            true => [dense[at], dense_first[at], dense_second[at]],
                            false => [0.0, old_first[at], old_second[at]],
                        };
                        let bits = |values: [f32; 3]| values.map(f32::to_bits);
                        let what = format!("update {number}, {at} of {length}");
                        assert_eq!(
                            bits([weights[at], first[at], second[at]]),
                            bits(expected),
                            "{what}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_full_mask_changes_no_bit() {
        for update in updates() {
            let run = |mask: Option<&[u64]>| {
                let [mut weights, mut first, mut second] =
                    [numbers(77, 1), numbers(77, 2), vec![0.5; 77]];
                for step in 1..4 {
                    update(
                        step,
                        &mut weights,
                        &numbers(77, step),
                        [&mut first, &mut second],
                        mask,
                    );
                }
                [weights, first, second]
                    .concat()
                    .iter()
                    .map(|x| x.to_bits())
                    .collect::<Vec<_>>()
            };
            assert_eq!(run(Some(&[u64::MAX, 0x1fff])), run(None));
        }
    }

    #[test]
    fn norms_and_averages_match_plain_loops() {
        for length in [0, 1, 8, 13, 1000] {
            let values = numbers(length, 1);
            let expected: f64 = values.iter().map(|x| f64::from(*x).powi(2)).sum();
            assert!((squared_norm(&values) - expected).abs() <= 1e-12 * expected);
            let mut average = numbers(length, 2);
            let expected: Vec<f64> = average
                .iter()
                .zip(&values)
                .map(|(a, w)| 0.99 * f64::from(*a) + 0.01 * f64::from(*w))
                .collect();
            ema_update(0.99, &values, &mut average);
            assert_close(&average, &expected, "average");
        }
    }
}
