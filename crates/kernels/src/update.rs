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
