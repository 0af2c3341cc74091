//! How many weights each layer keeps.

use crate::{Mask, Structure};
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How the kept weights are shared among layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// The same density for each layer; each rounds for itself, so the total may be off by half a weight per layer.
    #[default]
    Uniform,
    /// Small layers are denser (Evci et al. 2020); the total is exact.
    Erk,
    /// One ranking over all layers, with a floor per layer; the total is exact.
    Global,
    /// A density by pattern of layer name; the total is what they make it.
    PerLayer,
}

impl std::fmt::Display for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Budget::Uniform => "uniform",
            Budget::Erk => "erk",
            Budget::Global => "global",
            Budget::PerLayer => "per_layer",
        })
    }
}

/// A layer whose weights may be thresholded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerShape {
    /// Name of the weights, as `conv1.weight`.
    pub name: String,
    /// Shape of the weights, outputs first.
    pub shape: Vec<usize>,
}

impl LayerShape {
    /// Number of weights.
    pub fn weights(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What a layer is ranked by: one finite score per weight, of absolute value, and within a sparse phase the support.
#[derive(Debug, Clone, Copy)]
pub struct Ranked<'a> {
    /// One score per weight.
    pub score: &'a [f32],
    /// Weights that may be kept; all if there is none.
    pub support: Option<&'a Mask>,
}

/// What a layer keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerBudget {
    /// Name of the weights.
    pub name: String,
    /// Number of weights.
    pub weights: usize,
    /// Number of kept weights, from 1 to all.
    pub k: usize,
    /// `k / weights`.
    pub density: f64,
}

/// What to do if a layer would keep nothing.
fn keep_something(budget: Budget) -> &'static str {
    match budget {
        Budget::PerLayer => "raise its density under layers or add it to keep_dense",
        Budget::Erk => "raise the density or add the layer to keep_dense",
        _ => "raise the density, add the layer to keep_dense or use budget erk",
    }
}

/// Why a budget cannot be shared.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum BudgetError {
    /// A density that is none.
    #[error("{what} {value} is outside (0, 1]: write the kept fraction, as 0.1 for a tenth")]
    Density {
        /// What the value is for.
        what: String,
        /// The value.
        value: f64,
    },
    /// A floor that is none.
    #[error("floor {floor} is outside [0, 1]: write the least density of a layer, as 0.01")]
    Floor {
        /// The value.
        floor: f64,
    },
    /// A pattern that fits no layer.
    #[error("{key} \"{pattern}\" fits no layer: the layers are {layers}")]
    NoSuchLayer {
        /// The key that holds the pattern.
        key: &'static str,
        /// The pattern.
        pattern: String,
        /// Names of the layers.
        layers: String,
    },
    /// Every layer is exempt.
    #[error("keep_dense leaves no layer to threshold: shorten it or use method dense")]
    NothingToThreshold,
    /// A budget of patterns without any.
    #[error("budget per_layer needs layers: write layers = {{ \"fc*\" = 0.05 }}")]
    NoPatterns,
    /// A layer that would keep nothing.
    #[error(
        "layer {layer} ({weights} weights) would keep nothing at density {density}: {}",
        keep_something(*.budget)
    )]
    KeepsNothing {
        /// Name of the layer.
        layer: String,
        /// Its weights.
        weights: usize,
        /// The density of its share.
        density: f64,
        /// How the density is shared.
        budget: Budget,
    },
    /// A structure whose tiles are too large to drop any.
    #[error(
        "structure {structure} keeps every weight of every layer at density {density}: choose smaller blocks"
    )]
    KeepsAll {
        /// Structure asked for.
        structure: Structure,
        /// Density asked for.
        density: f64,
    },
    /// The floors of all layers are more than the total.
    #[error(
        "floor {floor} alone keeps {needed} weights, more than the {k} of density {density}: lower floor"
    )]
    FloorTooHigh {
        /// Least density of a layer.
        floor: f64,
        /// Weights that all floors keep.
        needed: usize,
        /// Weights to keep.
        k: usize,
        /// Density asked for.
        density: f64,
    },
    /// The structure fixes the density.
    #[error(
        "structure {structure} keeps {fixed} of each layer, but density {density} was asked for: set density = {fixed} with ramp = \"constant\" or choose another structure"
    )]
    FixedDensity {
        /// Structure asked for.
        structure: Structure,
        /// The density that it has.
        fixed: f64,
        /// Density asked for.
        density: f64,
    },
    /// The structure leaves nothing to share.
    #[error(
        "structure {structure} keeps the same fraction of each layer: use budget uniform instead of {budget}"
    )]
    FixedBudget {
        /// Structure asked for.
        structure: Structure,
        /// Budget asked for.
        budget: Budget,
    },
    /// A global budget without scores.
    #[error("budget global ranks the weights of all layers: pass their scores")]
    NoScores,
    /// Scores that do not fit the layers.
    #[error(
        "layer {layer} has {weights} weights but {scores} scores or places in its support: pass one of each per weight of every layer, in order"
    )]
    Scores {
        /// Name of the layer.
        layer: String,
        /// Its weights.
        weights: usize,
        /// Scores that were given.
        scores: usize,
    },
    /// A score is NaN or infinite.
    #[error(
        "the score of weight {index} of layer {layer} is {value}: training has diverged, lower the learning rate or clip the gradient"
    )]
    NotFinite {
        /// Name of the layer.
        layer: String,
        /// Row-major index of the weight.
        index: usize,
        /// Its score.
        value: f32,
    },
}
