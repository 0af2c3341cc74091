//! What a run has to tell so far: the rows of its log, its flips, its best state.

use serde::{Deserialize, Serialize};

use crate::engine::Outcome;
use crate::flip::FlipRecord;

/// The log of a run up to the present step; part of every checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub step: usize,
    /// Sums of the epoch that is under way.
    pub epoch: Outcome,
    /// Seconds that its steps took.
    pub epoch_seconds: f64,
    /// Rows of the finished epochs.
    pub rows: Vec<EpochRow>,
    /// Flips so far.
    pub flips: Vec<FlipRecord>,
    /// The best state so far, if one could be chosen.
    pub best: Option<Best>,
    /// Seconds of work, interruptions left out.
    pub seconds: f64,
}

/// The state with the least error on the held-out pictures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Its epoch, from 1.
    pub epoch: usize,
    /// Its error, a fraction.
    pub error: f64,
    /// Its loss.
    pub loss: f64,
}

/// One row of `results.csv`. Errors are fractions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Steps done at its end.
    pub step: usize,
    /// `dense` or `sparse`, at its end.
    pub phase: String,
    /// Density asked for at its end.
    pub density: f64,
    /// Learning rate of its last step.
    pub lr: f64,
    /// Mean loss over its steps, as they were taken.
    pub train_loss: f64,
    /// Error over its steps, as they were taken.
    pub train_error: f64,
    /// Loss on the held-out pictures at its end.
    pub validation_loss: Option<f64>,
    /// Error on the held-out pictures at its end.
    pub validation_error: Option<f64>,
    /// Largest norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Weights and other parameters that are not zero, at its end.
    pub nonzeros: usize,
    /// Training speed.
    pub images_per_second: f64,
    /// Seconds since the start of the run.
    pub seconds: f64,
}

/// The header of `results.csv`.
pub const CSV_HEADER: &str = "epoch,step,phase,density,lr,train_loss,train_error,validation_loss,validation_error,gradient_norm,nonzeros,images_per_second,seconds";

impl EpochRow {
    /// The row as CSV, without the line's end.
    pub fn to_csv(&self) -> String {
        let optional =
            |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.6}"));
        format!(
            "{},{},{},{},{:.8},{:.6},{:.6},{},{},{:.5},{},{:.1},{:.2}",
            self.epoch,
            self.step,
            self.phase,
            self.density,
            self.lr,
            self.train_loss,
            self.train_error,
            optional(self.validation_loss),
            optional(self.validation_error),
            self.gradient_norm,
            self.nonzeros,
            self.images_per_second,
            self.seconds,
        )
    }
}
