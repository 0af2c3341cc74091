//! How many weights each layer keeps.

use crate::erk::erk;
use crate::global::global;
use crate::pattern::matches;
use crate::project::first_not_finite;
use crate::{Mask, Plan, SparsitySettings, Structure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How the kept weights are shared among layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
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
        "layer {layer} ({weights} weights) would keep nothing at density {density}: raise the density, add the layer to keep_dense or use budget erk"
    )]
    KeepsNothing {
        /// Name of the layer.
        layer: String,
        /// Its weights.
        weights: usize,
        /// The density of its share.
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

/// What each layer keeps at a threshold of this density, in the order of the layers.
///
/// `density` is the kept fraction of all *thresholded* weights: those of layers that `keep_dense` does not name, which keep all of theirs.
/// At a threshold before the last, [`Budget::PerLayer`] scales the dropped fraction of each layer like that of the whole network.
/// A `k` is brought to the [nearest](Structure::nearest) that the structure can keep; unstructured, totals are as exact as [`Budget`] says.
/// With falling density (and, for a global budget, supports given) no layer's `k` rises, so that thresholds nest.
///
/// `scores`, one entry for every layer, are needed for a global budget only, and ignored by the others.
///
/// # Errors
/// [`BudgetError`] if a density or floor is out of its range, a pattern fits no layer, a layer would keep nothing, floors or structure
/// forbid the density, or scores are missing, not finite or of another length.
pub fn resolve(
    settings: &SparsitySettings,
    layers: &[LayerShape],
    density: f64,
    scores: Option<&[Ranked]>,
) -> Result<Vec<LayerBudget>, BudgetError> {
    let shares = Shares::new(settings, layers, density)?;
    let kept = match settings.budget() {
        Budget::Uniform => shares.each(|_| density),
        Budget::PerLayer => shares.per_layer()?,
        Budget::Erk => shares.erk(),
        Budget::Global => shares.global(scores)?,
    };
    shares.finish(kept)
}

/// Checks, before the first step, that every threshold of a plan can be shared among the layers.
///
/// # Errors
/// What [`resolve`] would return for one of them; for a global budget, as far as it does not depend on scores.
pub fn validate(
    settings: &SparsitySettings,
    plan: &Plan,
    layers: &[LayerShape],
) -> Result<(), BudgetError> {
    for density in plan.thresholds() {
        match resolve(settings, layers, density, None) {
            Err(BudgetError::NoScores) => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// The layers of a network with those that take part.
struct Shares<'a> {
    settings: &'a SparsitySettings,
    layers: &'a [LayerShape],
    density: f64,
    /// Positions of the layers that are thresholded.
    thresholded: Vec<usize>,
}

impl<'a> Shares<'a> {
    fn new(
        settings: &'a SparsitySettings,
        layers: &'a [LayerShape],
        density: f64,
    ) -> Result<Self, BudgetError> {
        check_density(|| "density".to_string(), density)?;
        for pattern in &settings.keep_dense {
            check_pattern("keep_dense", pattern, layers)?;
        }
        let exempt =
            |layer: &LayerShape| settings.keep_dense.iter().any(|p| matches(p, &layer.name));
        let thresholded: Vec<usize> = (0..layers.len()).filter(|&i| !exempt(&layers[i])).collect();
        if thresholded.is_empty() {
            return Err(BudgetError::NothingToThreshold);
        }
        let structure = settings.structure;
        if let Some(fixed) = structure.fixed_density().filter(|_| density < 1.0) {
            let budget = settings.budget();
            if budget != Budget::Uniform {
                return Err(BudgetError::FixedBudget { structure, budget });
            }
            if (density - fixed).abs() > 1e-9 {
                return Err(BudgetError::FixedDensity {
                    structure,
                    fixed,
                    density,
                });
            }
        }
        Ok(Shares {
            settings,
            layers,
            density,
            thresholded,
        })
    }

    /// `k` of each thresholded layer by its own density.
    fn each(&self, density: impl Fn(&LayerShape) -> f64) -> Vec<usize> {
        let layers = self.thresholded.iter().map(|&i| &self.layers[i]);
        layers
            .map(|layer| {
                self.settings
                    .structure
                    .resolve_k(&layer.shape, density(layer))
            })
            .collect()
    }

    /// Kept weights of all thresholded layers together.
    fn total(&self) -> usize {
        let weights: usize = self
            .thresholded
            .iter()
            .map(|&i| self.layers[i].weights())
            .sum();
        (self.density * weights as f64).round() as usize
    }

    fn per_layer(&self) -> Result<Vec<usize>, BudgetError> {
        let patterns = self.settings.layers.as_ref();
        let patterns = patterns
            .filter(|p| !p.is_empty())
            .ok_or(BudgetError::NoPatterns)?;
        for (pattern, &density) in patterns {
            check_density(|| format!("density of layers \"{pattern}\""), density)?;
            check_pattern("layers", pattern, self.layers)?;
        }
        // How far the density has come on its way from 1 to its final value.
        let last = self.settings.density.unwrap_or(self.density);
        let progress = match last < 1.0 {
            true => ((1.0 - self.density) / (1.0 - last)).min(1.0),
            false => 1.0,
        };
        Ok(self.each(|layer| {
            let fitting = patterns.iter().filter(|(p, _)| matches(p, &layer.name));
            // The longest pattern, the first in the alphabet among equals.
            let best = fitting.reduce(|best, next| {
                if next.0.len() > best.0.len() {
                    next
                } else {
                    best
                }
            });
            best.map_or(self.density, |(_, &density)| {
                1.0 - progress * (1.0 - density)
            })
        }))
    }

    fn erk(&self) -> Vec<usize> {
        let sizes = |&i: &usize| (self.layers[i].shape.iter().sum(), self.layers[i].weights());
        let sizes: Vec<(usize, usize)> = self.thresholded.iter().map(sizes).collect();
        self.nearest(erk(&sizes, self.total()))
    }

    fn global(&self, scores: Option<&[Ranked]>) -> Result<Vec<usize>, BudgetError> {
        let floor = self.settings.floor();
        if !(0.0..=1.0).contains(&floor) {
            return Err(BudgetError::Floor { floor });
        }
        let least =
            |&i: &usize| ((floor * self.layers[i].weights() as f64).round() as usize).max(1);
        let floors: Vec<usize> = self.thresholded.iter().map(least).collect();
        let (needed, k) = (floors.iter().sum(), self.total());
        if needed > k {
            return Err(BudgetError::FloorTooHigh {
                floor,
                needed,
                k,
                density: self.density,
            });
        }
        let scores = scores.ok_or(BudgetError::NoScores)?;
        let ranked = self.ranked(scores)?;
        let supports = ranked
            .iter()
            .map(|r| r.support.map_or(r.score.len(), Mask::count));
        let supports: Vec<usize> = supports.collect();
        let capped = |(floor, &support): (usize, &usize)| floor.min(support);
        let floors: Vec<usize> = floors.into_iter().zip(&supports).map(capped).collect();
        let k = k.min(supports.iter().sum());
        let kept = self.nearest(global(&ranked, &floors, k));
        Ok(kept
            .into_iter()
            .zip(supports)
            .map(|(k, support)| k.min(support))
            .collect())
    }

    /// The scores of the thresholded layers.
    fn ranked(&self, scores: &[Ranked<'a>]) -> Result<Vec<Ranked<'a>>, BudgetError> {
        let one = |&i: &usize| {
            let (name, weights) = (&self.layers[i].name, self.layers[i].weights());
            let wrong = |scores| BudgetError::Scores {
                layer: name.clone(),
                weights,
                scores,
            };
            let &ranked = scores.get(i).ok_or_else(|| wrong(0))?;
            let lengths = [Some(ranked.score.len()), ranked.support.map(Mask::len)];
            if let Some(length) = lengths.into_iter().flatten().find(|&l| l != weights) {
                return Err(wrong(length));
            }
            match first_not_finite(ranked.score, ranked.support) {
                None => Ok(ranked),
                Some(index) => Err(BudgetError::NotFinite {
                    layer: name.clone(),
                    index,
                    value: ranked.score[index],
                }),
            }
        };
        self.thresholded.iter().map(one).collect()
    }

    fn nearest(&self, kept: Vec<usize>) -> Vec<usize> {
        let layers = self.thresholded.iter().zip(kept);
        layers
            .map(|(&i, k)| self.settings.structure.nearest(&self.layers[i].shape, k))
            .collect()
    }

    /// The budgets of all layers from the numbers of the thresholded ones.
    fn finish(&self, kept: Vec<usize>) -> Result<Vec<LayerBudget>, BudgetError> {
        let mut ks: Vec<usize> = self.layers.iter().map(LayerShape::weights).collect();
        for (&i, k) in self.thresholded.iter().zip(kept) {
            ks[i] = k;
        }
        let layers = self.layers.iter().zip(ks);
        layers
            .map(|(layer, k)| {
                let (name, weights) = (layer.name.clone(), layer.weights());
                match k {
                    0 => Err(BudgetError::KeepsNothing {
                        layer: name,
                        weights,
                        density: self.density,
                    }),
                    _ => Ok(LayerBudget {
                        name,
                        weights,
                        k,
                        density: k as f64 / weights as f64,
                    }),
                }
            })
            .collect()
    }
}

fn check_density(what: impl Fn() -> String, value: f64) -> Result<(), BudgetError> {
    match value > 0.0 && value <= 1.0 {
        true => Ok(()),
        false => Err(BudgetError::Density {
            what: what(),
            value,
        }),
    }
}

fn check_pattern(
    key: &'static str,
    pattern: &str,
    layers: &[LayerShape],
) -> Result<(), BudgetError> {
    if layers.iter().any(|layer| matches(pattern, &layer.name)) {
        return Ok(());
    }
    let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
    Err(BudgetError::NoSuchLayer {
        key,
        pattern: pattern.to_string(),
        layers: names.join(", "),
    })
}
