//! The seam between the training loop and the machine that computes.
//!
//! An engine owns weights, optimizer slots, averaged weights and masks; the loop owns time.
//! The loop reads and writes whole parameters at flips and checkpoints only.

pub mod cpu;

use serde::{Deserialize, Serialize};
use skinny_network::Graph;
use skinny_sparsity::Mask;

use crate::optimizer::Optimizer;

/// What an engine needs to know besides the network.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineSettings {
    /// The largest number of images in one call.
    pub batch: usize,
    /// Threads to compute with; never changes a bit of the result.
    pub threads: usize,
    /// The update rule with its constants.
    pub optimizer: Optimizer,
    /// Share of the target distribution spread evenly over all classes, in `[0, 1)`.
    pub label_smoothing: f32,
    /// Upper bound of the global gradient norm; `None` leaves gradients as they are.
    pub clip_norm: Option<f32>,
    /// Decay per step of the exponential moving average of the weights; `None` keeps no average.
    pub ema: Option<f32>,
    /// Key of the dropout masks.
    pub seed: u64,
    /// Learning-rate and decay factor of each parameter, in the order of [`Graph::parameters`].
    pub factors: Vec<Factors>,
}

/// Multipliers of the learning rate and of the weight decay for one parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    /// Multiplies the learning rate.
    pub lr: f32,
    /// Multiplies the weight decay.
    pub decay: f32,
}

/// A stored quantity that has one value per weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The parameters themselves, running statistics included.
    Weights,
    /// The gradients of the last call that computed them.
    Gradients,
    /// The exponential moving average of the parameters.
    Average,
    /// Optimizer slot number `i` of [`Optimizer::slots`].
    Slot(usize),
}

/// Sums over the images of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Sum of the cross-entropy over the images, in nats.
    pub loss: f64,
    /// Images whose largest logit is at the right label.
    pub correct: usize,
    /// Images seen.
    pub images: usize,
    /// Norm of the masked gradient before clipping; 0 where no gradient was computed.
    pub gradient_norm: f64,
}

impl Outcome {
    /// Adds the sums of another call; the gradient norm becomes the larger one.
    pub fn add(&mut self, other: Outcome) {
        self.loss += other.loss;
        self.correct += other.correct;
        self.images += other.images;
        self.gradient_norm = self.gradient_norm.max(other.gradient_norm);
    }

    /// Mean loss per image.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.images.max(1) as f64
    }

    /// Fraction of wrong images, in `[0, 1]`.
    pub fn error(&self) -> f64 {
        1.0 - self.correct as f64 / self.images.max(1) as f64
    }
}

/// Images and labels of one call: `images` is `[n, C, H, W]`, preprocessed; `labels` has n entries.
#[derive(Clone, Copy, Debug)]
pub struct Examples<'a> {
    /// Pixels, `n · C · H · W` values.
    pub images: &'a [f32],
    /// One class index per image.
    pub labels: &'a [u32],
}

/// Computes the steps of a training run for one [`Graph`].
///
/// Invariant kept by every engine: while a parameter has a mask, its dropped entries are exactly +0.0 in
/// the weights and in the average after every call, and its slots are not changed at dropped entries.
pub trait Engine {
    /// The network that is trained.
    fn graph(&self) -> &Graph;

    /// Forward, backward, masking of gradients, clipping, update, commit: one optimizer step at rate `lr`.
    fn train_step(&mut self, examples: Examples<'_>, lr: f32, step: u64) -> Outcome;

    /// Forward and backward only; afterwards [`Section::Gradients`] holds the unmasked mean gradients.
    fn gradients(&mut self, examples: Examples<'_>, step: u64) -> Outcome;

    /// Loss and hits with the present weights, without any change of state.
    fn evaluate(&mut self, examples: Examples<'_>) -> Outcome;

    /// Logits `[n, classes]` with the present weights, without any change of state.
    fn logits(&mut self, images: &[f32], logits: &mut Vec<f32>);

    /// Forward pass that replaces the running statistics of BatchNorm by their cumulative average:
    /// call with `index` 0, 1, 2, … over the batches to average. Dropout is off.
    fn reestimate(&mut self, examples: Examples<'_>, index: usize);

    /// Copies one parameter's values of a section into `values`.
    fn read(&self, section: Section, parameter: usize, values: &mut Vec<f32>);

    /// Replaces one parameter's values of a section.
    fn write(&mut self, section: Section, parameter: usize, values: &[f32]);

    /// Sets or lifts the mask of one parameter. Setting it zeroes the dropped weights and averages.
    fn set_mask(&mut self, parameter: usize, mask: Option<Mask>);

    /// The mask of one parameter, if it has one now.
    fn mask(&self, parameter: usize) -> Option<&Mask>;

    /// Exchanges weights and averaged weights, running statistics included; twice is the identity.
    /// Without an average nothing happens.
    fn swap_average(&mut self);

    /// The number of updates since the optimizer last started anew, which AdamW's bias correction counts.
    fn updates(&self) -> u64;

    /// Sets that number (resume; 0 where slots are zeroed).
    fn set_updates(&mut self, updates: u64);
}
