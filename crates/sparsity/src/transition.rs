//! Flips: the change of a layer from one support to another, and the record of it.

use crate::{Edge, FlipPolicy, Mask, Reactivated, SlotsAtReactivation, SlotsAtThreshold};
use serde::{Deserialize, Serialize};

/// What happened at a flip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flip {
    /// Weights were dropped.
    Threshold,
    /// All weights may train again.
    Reactivate,
    /// A part of the support was replaced.
    Regrow,
}

impl Edge {
    /// The kind of flip that the edge asks for; none at the end of a run.
    pub fn flip(self) -> Option<Flip> {
        match self {
            Edge::Threshold { .. } => Some(Flip::Threshold),
            Edge::Reactivate => Some(Flip::Reactivate),
            Edge::Regrow { .. } => Some(Flip::Regrow),
            Edge::Finish => None,
        }
    }
}

/// What a flip did to a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// Training step that the flip came immediately before (from 0).
    pub step: usize,
    /// Kind of flip.
    pub edge: Flip,
    /// Kept fraction asked for from now on; 1 at a re-activation.
    pub density: f64,
    /// What it did to each thresholded layer.
    pub layers: Vec<LayerTransition>,
}

/// What a flip did to one layer. `kept + reactivated = k`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerTransition {
    /// Name of the weights.
    pub name: String,
    /// Number of weights.
    pub weights: usize,
    /// Weights that may be non-zero from now on.
    pub k: usize,
    /// Those of them that could be before, too.
    pub kept: usize,
    /// Weights that could be non-zero before and cannot now.
    pub dropped: usize,
    /// Weights that may be non-zero now and could not before.
    pub reactivated: usize,
    /// At a threshold, the fraction of the new support that was in the last one, 0–1; none at the first threshold.
    pub overlap: Option<f64>,
    /// L2 norm of what was dropped.
    pub dropped_norm: f64,
    /// L2 norm of all weights before the flip.
    pub norm: f64,
    /// At a threshold, the distribution of the weights before and after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<Histogram>,
}

/// How many weights lie in each of 64 equal bins from `low` to `high`, before and after a threshold. Dropped weights do not count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Lower end of the first bin: −`high`.
    pub low: f32,
    /// Upper end of the last bin: the largest magnitude before.
    pub high: f32,
    /// Counts before.
    pub before: Vec<u64>,
    /// Counts after.
    pub after: Vec<u64>,
}

const BINS: usize = 64;

/// One layer of a network in training, as a flip sees it: row-major slices of equal length.
#[derive(Debug)]
pub struct LayerState<'a, 'b> {
    /// Name of the weights.
    pub name: &'a str,
    /// The weights.
    pub weights: &'a mut [f32],
    /// The optimizer's slots, each with one value per weight.
    pub slots: &'a mut [&'b mut [f32]],
    /// Values of dropped weights under [`Reactivated::Saved`]; empty in a dense phase and under the other policies. Part of a checkpoint.
    pub saved: &'a mut Vec<f32>,
}

/// The mask before a threshold.
#[derive(Debug, Clone, Copy)]
pub enum Previous<'a> {
    /// There was none yet.
    None,
    /// That of the last sparse phase; all weights were re-activated since.
    Lifted(&'a Mask),
    /// That of the sparse phase that goes on.
    InForce(&'a Mask),
}

/// Moves a layer to the support `mask`: dropped weights become +0.0, values and slots follow the policy.
///
/// Serves thresholds and regrowth alike: a weight of `mask` that the mask in force does not have is re-activated.
///
/// # Panics
/// If weights, slots, saved values and masks are not of one length.
pub fn threshold(
    layer: &mut LayerState,
    mask: &Mask,
    previous: Previous,
    policy: FlipPolicy,
) -> LayerTransition {
    let all;
    let (before, last) = match previous {
        Previous::None => (None, None),
        Previous::Lifted(last) => (None, Some(last)),
        Previous::InForce(last) => (Some(last), Some(last)),
    };
    let before = match before {
        Some(mask) => mask,
        None => {
            all = Mask::all(mask.len());
            &all
        }
    };
    let histogram = Histogram::new(layer.weights, before, mask);
    let mut record = change(layer, before, mask, policy, 1.0);
    mask.apply(layer.weights);
    record.overlap = last.map(|last| mask.overlap(last) as f64 / mask.count().max(1) as f64);
    record.histogram = Some(histogram);
    record
}

/// Lets all weights of a layer train again, which were under `mask`: values and slots follow the policy.
///
/// `decay` is the factor by which saved values have decayed since they were dropped: the product of `1 − rate · decay` over the steps
/// of the sparse phase if [`FlipPolicy::decay_frozen`], else 1.
///
/// # Panics
/// If weights, slots, saved values and mask are not of one length.
pub fn reactivate(
    layer: &mut LayerState,
    mask: &Mask,
    policy: FlipPolicy,
    decay: f32,
) -> LayerTransition {
    let record = change(layer, mask, &Mask::all(mask.len()), policy, decay);
    *layer.saved = Vec::new();
    record
}

/// The change from support `before` to `after`, all but the zeroing of what lies outside both.
fn change(
    layer: &mut LayerState,
    before: &Mask,
    after: &Mask,
    policy: FlipPolicy,
    decay: f32,
) -> LayerTransition {
    let weights = layer.weights.len();
    let dropped = before.without(after);
    let reactivated = after.without(before);
    let norm = |values: &mut dyn Iterator<Item = f32>| -> f64 {
        values.map(|w| f64::from(w).powi(2)).sum::<f64>().sqrt()
    };
    let record = LayerTransition {
        name: layer.name.to_string(),
        weights,
        k: after.count(),
        kept: after.overlap(before),
        dropped: dropped.count(),
        reactivated: reactivated.count(),
        overlap: None,
        dropped_norm: norm(&mut dropped.iter().map(|i| layer.weights[i])),
        norm: norm(&mut layer.weights.iter().copied()),
        histogram: None,
    };

    if policy.reactivated == Reactivated::Saved {
        if layer.saved.is_empty() {
            layer.saved.resize(weights, 0.0);
        }
        for i in &reactivated {
            layer.weights[i] = layer.saved[i] * decay;
        }
        for i in &dropped {
            layer.saved[i] = layer.weights[i];
        }
    } else {
        reactivated.iter().for_each(|i| layer.weights[i] = 0.0);
    }
    dropped.iter().for_each(|i| layer.weights[i] = 0.0);

    for slot in layer.slots.iter_mut() {
        assert_eq!(slot.len(), weights, "slot of layer {}", layer.name);
        if policy.slots_at_threshold == SlotsAtThreshold::Zero {
            dropped.iter().for_each(|i| slot[i] = 0.0);
        }
        match policy.slots_at_reactivation {
            SlotsAtReactivation::Keep => {}
            SlotsAtReactivation::Zero => reactivated.iter().for_each(|i| slot[i] = 0.0),
            SlotsAtReactivation::ZeroAll if record.reactivated > 0 => slot.fill(0.0),
            SlotsAtReactivation::ZeroAll => {}
        }
    }
    record
}

impl Histogram {
    fn new(weights: &[f32], before: &Mask, after: &Mask) -> Self {
        let high = weights.iter().fold(0f32, |high, w| high.max(w.abs()));
        let scale = BINS as f64 / (2.0 * f64::from(high));
        let bin = |w: f32| match high > 0.0 {
            true => (((f64::from(w) + f64::from(high)) * scale) as usize).min(BINS - 1),
            false => BINS / 2,
        };
        let count = |mask: &Mask| {
            let mut counts = vec![0; BINS];
            mask.iter().for_each(|i| counts[bin(weights[i])] += 1);
            counts
        };
        Histogram {
            low: -high,
            high,
            before: count(before),
            after: count(after),
        }
    }
}
