//! How error and loss grow when one layer is thresholded and all others are left as they are, and what that says about sharing kept
//! weights among the layers.

mod share;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use skinny_data::Dataset;
use skinny_network::Role;
use skinny_sparsity::{Structure, project};

use crate::engine::{Engine, Outcome, Section};
use crate::material::Material;
use crate::trainer::{evaluate, reestimate};
use crate::{Recipe, RecipeError, TrainError};

/// The densities at which layers are measured unless others are asked for.
pub const DENSITIES: [f64; 11] = [
    0.5, 0.35, 0.25, 0.18, 0.12, 0.09, 0.06, 0.045, 0.03, 0.02, 0.01,
];

/// Training pictures that stand in where a recipe holds none out.
const INSTEAD: usize = 5000;

/// What [`Sensitivity::measure`] finds. Errors are fractions, losses nats per picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sensitivity {
    /// Pictures that it was measured on.
    pub pictures: usize,
    /// Whether those are held out of training; training pictures otherwise. Never those of the test set.
    pub held_out: bool,
    /// Error of the network as it is.
    pub error: f64,
    /// Loss of the network as it is.
    pub loss: f64,
    /// The layers, from input to output.
    pub layers: Vec<LayerSensitivity>,
}

/// One layer, thresholded alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerSensitivity {
    /// Name of its weights.
    pub name: String,
    /// Shape of its weights.
    pub shape: Vec<usize>,
    /// What comes out at each density, from the largest density to the least.
    pub points: Vec<SensitivityPoint>,
}

/// A layer at one density.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensitivityPoint {
    /// Kept share.
    pub density: f64,
    /// Kept weights.
    pub k: usize,
    /// Error of the whole network.
    pub error: f64,
    /// Loss of the whole network.
    pub loss: f64,
}

impl LayerSensitivity {
    /// Number of weights.
    pub fn weights(&self) -> usize {
        self.shape.iter().product()
    }
}

/// How far a measurement has come.
#[derive(Clone, Copy, Debug)]
pub struct SensitivityStep<'a> {
    /// The layer.
    pub layer: &'a str,
    /// What came out.
    pub point: SensitivityPoint,
    /// Points measured, this one included.
    pub done: usize,
    /// Points in all.
    pub all: usize,
}

impl Sensitivity {
    /// Thresholds each layer of an engine alone, to each density by magnitude, in the structure and but for the layers that
    /// the recipe exempts; the engine has its weights back afterwards. Measured on the held-out pictures, or if there are none on
    /// training pictures, `most` at most; BatchNorm's statistics are estimated anew for each point, as they are after a flip.
    ///
    /// # Errors
    /// Densities outside (0, 1), pictures that cannot be read, weights that are not finite; [`TrainError::Stopped`] once
    /// `stop` is set.
    pub fn measure(
        engine: &mut dyn Engine,
        material: &Material,
        recipe: &Recipe,
        densities: &[f64],
        most: Option<usize>,
        stop: &AtomicBool,
        observe: &mut dyn FnMut(SensitivityStep<'_>),
    ) -> Result<Sensitivity, TrainError> {
        let mut densities = densities.to_vec();
        densities.sort_by(|a, b| b.total_cmp(a));
        densities.dedup();
        if densities.is_empty() || !densities.iter().all(|d| *d > 0.0 && *d < 1.0) {
            return Err(RecipeError::Value {
                key: "densities".into(),
                reason: "give kept shares between 0 and 1, for example 0.5,0.25,0.1".into(),
            }
            .into());
        }
        let held_out = material.validation.is_some();
        let all = material.validation.as_ref().unwrap_or(&material.train);
        let count = match held_out {
            true => most.unwrap_or(all.len()),
            false => most.unwrap_or(INSTEAD),
        };
        let pictures = match count < all.len() {
            true => Arc::new(all.part(count)),
            false => Arc::clone(all),
        };
        let mut bench = Bench::new(engine, material, recipe, pictures);
        let before = bench.evaluate()?;
        let thresholded = bench.thresholded();
        let points = thresholded.len() * densities.len();
        let mut sensitivity = Sensitivity {
            pictures: before.images,
            held_out,
            error: before.error(),
            loss: finite(before.mean_loss()),
            layers: Vec::new(),
        };
        let mut done = 0;
        for index in thresholded {
            let parameter = bench.engine.graph().parameters[index].clone();
            let mut layer = LayerSensitivity {
                name: parameter.name,
                shape: parameter.shape,
                points: Vec::new(),
            };
            for &density in &densities {
                if stop.load(Ordering::Relaxed) {
                    return Err(TrainError::Stopped);
                }
                // Of a small layer one weight stays, whatever the density.
                let k = recipe
                    .sparsity
                    .structure
                    .resolve_k(&layer.shape, density)
                    .max(1);
                let outcome = bench.thresholded_to(index, &layer, k, recipe.sparsity.structure)?;
                let point = SensitivityPoint {
                    density: k as f64 / layer.weights() as f64,
                    k,
                    error: outcome.error(),
                    loss: finite(outcome.mean_loss()),
                };
                layer.points.push(point);
                done += 1;
                observe(SensitivityStep {
                    layer: &layer.name,
                    point,
                    done,
                    all: points,
                });
            }
            sensitivity.layers.push(layer);
        }
        Ok(sensitivity)
    }
}

/// A loss as a file can hold it: one beyond all bounds is a very large one.
fn finite(loss: f64) -> f64 {
    if loss.is_finite() { loss } else { 1e9 }
}

/// An engine whose weights are changed and put back.
struct Bench<'a> {
    engine: &'a mut dyn Engine,
    material: &'a Material,
    recipe: &'a Recipe,
    pictures: Arc<Dataset>,
    /// BatchNorm's statistics: parameters with their values.
    statistics: Vec<(usize, Vec<f32>)>,
}

impl<'a> Bench<'a> {
    fn new(
        engine: &'a mut dyn Engine,
        material: &'a Material,
        recipe: &'a Recipe,
        pictures: Arc<Dataset>,
    ) -> Bench<'a> {
        let parameters = engine.graph().parameters.iter().enumerate();
        let is_statistic = |role| matches!(role, Role::RunningMean | Role::RunningVar);
        let indices: Vec<usize> = parameters
            .filter(|(_, parameter)| is_statistic(parameter.role))
            .map(|(index, _)| index)
            .collect();
        let statistics: Vec<_> = (indices.into_iter())
            .map(|index| {
                let mut values = Vec::new();
                engine.read(Section::Weights, index, &mut values);
                (index, values)
            })
            .collect();
        Bench {
            engine,
            material,
            recipe,
            pictures,
            statistics,
        }
    }

    /// Parameters that the recipe may threshold.
    fn thresholded(&self) -> Vec<usize> {
        let exempt = |name: &str| self.recipe.sparsity.keeps_dense(name);
        let parameters = self.engine.graph().parameters.iter().enumerate();
        parameters
            .filter(|(_, parameter)| parameter.role.thresholded() && !exempt(&parameter.name))
            .map(|(index, _)| index)
            .collect()
    }

    fn evaluate(&mut self) -> Result<Outcome, TrainError> {
        evaluate(
            self.engine,
            &self.pictures,
            self.material,
            self.recipe.data.batch,
        )
    }

    /// The outcome with one layer thresholded to its `k` largest weights.
    fn thresholded_to(
        &mut self,
        index: usize,
        layer: &LayerSensitivity,
        k: usize,
        structure: Structure,
    ) -> Result<Outcome, TrainError> {
        let mut whole = Vec::new();
        self.engine.read(Section::Weights, index, &mut whole);
        let mask = project(&whole, &layer.shape, structure, k, None).map_err(|error| {
            RecipeError::Value {
                key: layer.name.clone(),
                reason: error.to_string(),
            }
        })?;
        let mut thresholded = whole.clone();
        mask.apply(&mut thresholded);
        self.engine.write(Section::Weights, index, &thresholded);
        let reestimated = match self.statistics.is_empty() {
            true => Ok(()),
            false => reestimate(self.engine, self.material, self.recipe),
        };
        let outcome = reestimated.and_then(|()| self.evaluate());
        self.engine.write(Section::Weights, index, &whole);
        for (statistic, values) in &self.statistics {
            self.engine.write(Section::Weights, *statistic, values);
        }
        outcome
    }
}
