//! Flips: the algebra of `skinny-sparsity` applied to the state of an engine.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use skinny_sparsity::{
    BudgetError, Edge, Flip, LayerState, LayerTransition, Mask, Method, Previous, Ranked, Score,
    SlotsAtReactivation, Transition, project, random_scores, reactivate, regrow, resolve,
    threshold,
};

use crate::checkpoint::Memory;
use crate::engine::{Engine, Section};
use crate::resolved::Resolved;
use crate::{RecipeError, TrainError};

/// What a flip did, and what it cost: one line of `flips.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlipRecord {
    /// What it did to each layer.
    #[serde(flatten)]
    pub transition: Transition,
    /// Epochs done, not necessarily whole.
    pub epoch: f64,
    /// Mean loss of one batch of training pictures immediately before the flip.
    pub loss_before: Option<f64>,
    /// The same immediately after it.
    pub loss_after: Option<f64>,
}

impl FlipRecord {
    /// Whether any weight was dropped or re-activated.
    pub fn changed(&self) -> bool {
        let changes = |layer: &LayerTransition| layer.dropped + layer.reactivated > 0;
        self.transition.layers.iter().any(changes)
    }

    /// What the user should know, if the flip cost more than it should: the network is worse than one that guesses.
    pub fn warning(&self, classes: usize) -> Option<String> {
        let (before, after) = (self.loss_before?, self.loss_after?);
        let chance = (classes as f64).ln();
        (after > chance && before < chance / 2.0).then(|| {
            format!(
                "the flip to density {} before step {} wiped out what the network knew: loss {before:.2} -> {after:.2} \
                 (guessing: {chance:.2}); let the density fall in steps (sparsity.ramp = \"cubic\"), or keep small \
                 layers denser (sparsity.budget = \"erk\")",
                self.transition.density, self.transition.step,
            )
        })
    }
}

/// What ranks the weights at a threshold.
fn score(resolved: &Resolved) -> Score {
    resolved.recipe.sparsity.score_of(resolved.recipe.seed)
}

/// Whether an edge ranks by gradients, which the engine has to compute first.
pub(crate) fn needs_gradients(resolved: &Resolved, edge: Edge) -> bool {
    match edge {
        Edge::Threshold { .. } => score(resolved).needs_gradients(),
        Edge::Regrow { .. } => resolved.recipe.sparsity.method == Method::Rigl,
        Edge::Reactivate | Edge::Finish => false,
    }
}

/// Does what an edge asks for to weights, slots, averages and masks of an engine.
pub(crate) fn apply(
    resolved: &Resolved,
    engine: &mut dyn Engine,
    memory: &mut [Memory],
    edge: Edge,
    step: usize,
) -> Result<Option<FlipRecord>, TrainError> {
    let Some(kind) = edge.flip() else {
        return Ok(None);
    };
    let with_gradient = needs_gradients(resolved, edge);
    let read = |&parameter: &usize| Layer::read(resolved, engine, parameter, with_gradient);
    let mut layers: Vec<Layer> = resolved.thresholded.iter().map(read).collect();
    let (masks, density) = match edge {
        Edge::Threshold { density } => (targets(resolved, &layers, density, step)?, density),
        Edge::Regrow { fraction } => {
            let masks = layers.iter().enumerate().map(|(number, layer)| {
                // RigL grows where the gradient is largest, SET anywhere.
                let growth = match &layer.gradient {
                    Some(gradient) => Cow::Borrowed(&gradient[..]),
                    None => {
                        let (seed, weights) = (resolved.recipe.seed, layer.weights.len());
                        random_scores(seed, step as u64, number as u64, weights).into()
                    }
                };
                let grown = layer
                    .mask
                    .as_ref()
                    .map(|mask| regrow(&layer.weights, &growth, mask, fraction));
                grown.transpose().map_err(|error| infinite(step, &error))
            });
            let density = resolved.plan.at(step).density();
            (masks.collect::<Result<_, TrainError>>()?, density)
        }
        Edge::Reactivate | Edge::Finish => (vec![None; layers.len()], 1.0),
    };
    let mut transitions = Vec::with_capacity(layers.len());
    for (layer, mask) in layers.iter_mut().zip(masks) {
        let remembered = &mut memory[layer.parameter];
        let mut record = layer.flip(resolved, engine, remembered, mask, step);
        if kind == Flip::Regrow {
            // There may be thousands of them, and the distribution hardly changes.
            record.histogram = None;
        }
        transitions.push(record);
    }
    let policy = resolved.recipe.sparsity.policy();
    let reactivated = transitions.iter().any(|layer| layer.reactivated > 0);
    if matches!(kind, Flip::Reactivate | Flip::Regrow)
        && policy.slots_at_reactivation == SlotsAtReactivation::ZeroAll
        && reactivated
    {
        zero_slots(resolved, engine);
    }
    Ok(Some(FlipRecord {
        transition: Transition {
            step,
            edge: kind,
            density,
            layers: transitions,
        },
        epoch: step as f64 / resolved.steps_per_epoch as f64,
        loss_before: None,
        loss_after: None,
    }))
}

/// Lets the optimizer of every parameter, biases and normalizations included, start anew; Adam's correction of averages that begin at
/// zero with it.
fn zero_slots(resolved: &Resolved, engine: &mut dyn Engine) {
    for slot in 0..resolved.recipe.train.optimizer().slots().len() {
        for (index, parameter) in resolved.graph.parameters.iter().enumerate() {
            if parameter.role.trainable() {
                engine.write(Section::Slot(slot), index, &vec![0.0; parameter.len()]);
            }
        }
    }
    engine.set_updates(0);
}

/// A thresholded parameter on its way through a flip.
struct Layer {
    parameter: usize,
    name: String,
    weights: Vec<f32>,
    /// Read only where the edge ranks by it.
    gradient: Option<Vec<f32>>,
    slots: Vec<Vec<f32>>,
    mask: Option<Mask>,
}

impl Layer {
    fn read(
        resolved: &Resolved,
        engine: &dyn Engine,
        parameter: usize,
        with_gradient: bool,
    ) -> Layer {
        let read = |section| {
            let mut values = Vec::new();
            engine.read(section, parameter, &mut values);
            values
        };
        let slots = resolved.recipe.train.optimizer().slots();
        Layer {
            parameter,
            name: resolved.graph.parameters[parameter].name.clone(),
            weights: read(Section::Weights),
            gradient: with_gradient.then(|| read(Section::Gradients)),
            slots: (0..slots.len())
                .map(|slot| read(Section::Slot(slot)))
                .collect(),
            mask: engine.mask(parameter).cloned(),
        }
    }

    fn flip(
        &mut self,
        resolved: &Resolved,
        engine: &mut dyn Engine,
        memory: &mut Memory,
        mask: Option<Mask>,
        step: usize,
    ) -> LayerTransition {
        let policy = resolved.recipe.sparsity.policy();
        let mut slots: Vec<&mut [f32]> = self.slots.iter_mut().map(Vec::as_mut_slice).collect();
        let mut state = LayerState {
            name: &self.name,
            weights: &mut self.weights,
            slots: &mut slots,
            saved: &mut memory.saved,
        };
        let all = Mask::all(state.weights.len());
        let record = match (&mask, &self.mask) {
            (None, before) => {
                let decay = if policy.decay_frozen {
                    frozen_decay(resolved, self.parameter, step)
                } else {
                    1.0
                };
                reactivate(&mut state, before.as_ref().unwrap_or(&all), policy, decay)
            }
            (Some(mask), in_force) => {
                let previous = match (in_force, &memory.support) {
                    (Some(mask), _) => Previous::InForce(mask),
                    (None, Some(support)) => Previous::Lifted(support),
                    (None, None) => Previous::None,
                };
                threshold(&mut state, mask, previous, policy)
            }
        };
        engine.set_mask(self.parameter, None);
        engine.write(Section::Weights, self.parameter, &self.weights);
        if resolved.recipe.train.ema > 0.0 {
            self.restart_average(engine);
        }
        for (slot, values) in self.slots.iter().enumerate() {
            engine.write(Section::Slot(slot), self.parameter, values);
        }
        if let Some(mask) = mask {
            engine.set_mask(self.parameter, Some(mask.clone()));
            memory.support = Some(mask);
        }
        record
    }

    /// The average of a re-activated weight starts at its value, as that of every weight did.
    fn restart_average(&self, engine: &mut dyn Engine) {
        let Some(before) = &self.mask else {
            return;
        };
        let mut average = Vec::new();
        engine.read(Section::Average, self.parameter, &mut average);
        for (index, value) in average.iter_mut().enumerate() {
            if !before.get(index) {
                *value = self.weights[index];
            }
        }
        engine.write(Section::Average, self.parameter, &average);
    }
}

/// The masks of a threshold; layers that keep everything get none.
fn targets(
    resolved: &Resolved,
    layers: &[Layer],
    density: f64,
    step: usize,
) -> Result<Vec<Option<Mask>>, TrainError> {
    let sparsity = &resolved.recipe.sparsity;
    let ranking = score(resolved);
    let scores: Vec<_> = (layers.iter().enumerate())
        .map(|(number, layer)| {
            let score = ranking.of(&layer.weights, layer.gradient.as_deref(), number as u64);
            score.expect("gradients are read when they are ranked")
        })
        .collect();
    let ranked: Vec<Ranked<'_>> = (scores.iter().zip(layers))
        .map(|(score, layer)| Ranked {
            score,
            support: layer.mask.as_ref(),
        })
        .collect();
    let budgets =
        resolve(sparsity, &resolved.layers, density, Some(&ranked)).map_err(
            |error| match error {
                BudgetError::NotFinite { .. } => infinite(step, &error),
                error => RecipeError::from(error).into(),
            },
        )?;
    (layers
        .iter()
        .zip(&resolved.layers)
        .zip(&ranked)
        .zip(budgets))
    .map(|(((layer, shape), ranked), budget)| {
        if budget.k == budget.weights {
            return Ok(None);
        }
        // A density that rounds to more than the support has keeps the support.
        let k = layer
            .mask
            .as_ref()
            .map_or(budget.k, |mask| mask.count().min(budget.k));
        project(
            ranked.score,
            &shape.shape,
            sparsity.structure,
            k,
            ranked.support,
        )
        .map(Some)
        .map_err(|error| infinite(step, &error))
    })
    .collect()
}

fn infinite(step: usize, error: &dyn std::fmt::Display) -> TrainError {
    TrainError::Threshold {
        step,
        reason: error.to_string(),
    }
}

/// By how much values that were dropped at the last threshold have decayed: ∏ (1 − rate · decay), as far as momentum carries it.
fn frozen_decay(resolved: &Resolved, parameter: usize, step: usize) -> f32 {
    let factors = resolved.factors[parameter];
    let train = &resolved.recipe.train;
    let decay = train.weight_decay * f64::from(factors.decay) * train.optimizer().reach();
    let segments = resolved.plan.segments();
    let index = segments.partition_point(|segment| segment.end < step);
    let start = segments.get(index).map_or(step, |segment| segment.start);
    (start..step)
        .map(|step| (1.0 - resolved.rate(step) * f64::from(factors.lr) * decay).max(0.0))
        .product::<f64>() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;

    #[test]
    fn frozen_values_decay_as_a_weight_without_a_gradient_does() {
        for optimizer in ["sgd", "caffe-sgd"] {
            let text = format!(
                "name = 'small'\ndata.name = 'mnist'\nnetwork.name = 'lenet5'\n\
                 train = {{ optimizer = '{optimizer}', lr = 0.05, momentum = 0.9, weight_decay = 0.01 }}\n\
                 sparsity = {{ method = 'iht', density = 0.1, reactivated = 'saved', decay_frozen = true }}"
            );
            let recipe = Recipe::from_toml(&text, &[]).unwrap();
            let resolved = Resolved::new(recipe, 12_800).unwrap();
            let sparse = (resolved.plan.segments().iter())
                .find(|segment| matches!(segment.phase, skinny_sparsity::Phase::Sparse { .. }))
                .unwrap();
            let (mut weight, mut velocity) = (1.0, 0.0);
            for step in sparse.start..sparse.end {
                velocity = 0.9 * velocity + 0.01 * weight;
                weight -= resolved.rate(step) * velocity;
            }
            let decayed = f64::from(frozen_decay(&resolved, 0, sparse.end));
            assert!(weight < 0.8, "{weight}");
            assert!(
                (decayed - weight).abs() < 0.05 * weight,
                "{decayed} {weight}"
            );
        }
    }
}
