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
    /// At a threshold, the distribution of the weights before and after; a trainer may leave it out.
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
/// `decay` is the factor by which saved values have decayed since they were dropped: the product of
/// `1 − rate · decay / (1 − momentum)` over the steps of the sparse phase if [`FlipPolicy::decay_frozen`], else 1.
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
    // From 0.0 on: `sum` of nothing is −0.0, which is what would be written of a flip that drops nothing.
    let norm = |values: &mut dyn Iterator<Item = f32>| -> f64 {
        values.fold(0.0, |sum, w| sum + f64::from(w).powi(2)).sqrt()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A layer with as many slots as an optimizer has: 1 as SGD with momentum, 2 as AdamW.
    struct Layer {
        weights: Vec<f32>,
        slots: Vec<Vec<f32>>,
        saved: Vec<f32>,
    }

    impl Layer {
        fn new(weights: &[f32], slots: usize) -> Self {
            let slot = |s: usize| {
                (0..weights.len())
                    .map(|i| (10 * s + i + 1) as f32)
                    .collect()
            };
            Layer {
                weights: weights.to_vec(),
                slots: (0..slots).map(slot).collect(),
                saved: Vec::new(),
            }
        }

        fn with<T>(&mut self, flip: impl FnOnce(&mut LayerState) -> T) -> T {
            let mut slots: Vec<&mut [f32]> = self.slots.iter_mut().map(Vec::as_mut_slice).collect();
            flip(&mut LayerState {
                name: "fc.weight",
                weights: &mut self.weights,
                slots: &mut slots,
                saved: &mut self.saved,
            })
        }

        fn threshold(
            &mut self,
            mask: &Mask,
            previous: Previous,
            policy: FlipPolicy,
        ) -> LayerTransition {
            self.with(|layer| threshold(layer, mask, previous, policy))
        }

        fn reactivate(&mut self, mask: &Mask, policy: FlipPolicy) -> LayerTransition {
            self.with(|layer| reactivate(layer, mask, policy, 1.0))
        }
    }

    fn mask(bits: u64) -> Mask {
        Mask::from_words(4, vec![bits]).unwrap()
    }

    const WEIGHTS: [f32; 4] = [3.0, -4.0, 0.5, -12.0];

    #[test]
    fn records_by_hand() {
        let mut layer = Layer::new(&WEIGHTS, 1);
        let policy = FlipPolicy::default();
        let first = layer.threshold(&mask(0b1001), Previous::None, policy);
        assert_eq!((first.weights, first.k, first.kept), (4, 2, 2));
        assert_eq!(
            (first.dropped, first.reactivated, first.overlap),
            (2, 0, None)
        );
        assert_eq!(first.dropped_norm, 16.25f64.sqrt());
        assert_eq!(first.norm, 169.25f64.sqrt());
        assert_eq!(layer.weights, [3.0, 0.0, 0.0, -12.0]);

        let back = layer.reactivate(&mask(0b1001), policy);
        assert_eq!((back.k, back.kept, back.reactivated), (4, 2, 2));
        assert_eq!((back.dropped, back.overlap), (0, None));
        assert_eq!(back.dropped_norm.to_bits(), 0.0f64.to_bits());
        assert_eq!(back.histogram, None);

        layer.weights = vec![3.0, 5.0, 0.0, 1.0];
        let last = mask(0b1001);
        let second = layer.threshold(&mask(0b0011), Previous::Lifted(&last), policy);
        assert_eq!(
            (second.kept, second.dropped, second.overlap),
            (2, 2, Some(0.5))
        );

        let inside = layer.threshold(&mask(0b0010), Previous::InForce(&mask(0b0011)), policy);
        assert_eq!(
            (inside.kept, inside.dropped, inside.overlap),
            (1, 1, Some(1.0))
        );
        assert_eq!(inside.dropped_norm, 3.0);
    }

    #[test]
    fn dropped_weights_are_bit_zero() {
        let mut layer = Layer::new(&[-0.0, -1.0, -0.0, -2.0], 0);
        layer.threshold(&mask(0b1100), Previous::None, FlipPolicy::default());
        let bits: Vec<u32> = layer.weights.iter().map(|w| w.to_bits()).collect();
        assert_eq!(bits, [0, 0, (-0.0f32).to_bits(), (-2.0f32).to_bits()]);
        // Whatever was left outside the mask in force is cleared, too.
        layer.weights[0] = -0.0;
        layer.threshold(
            &mask(0b1000),
            Previous::InForce(&mask(0b1100)),
            FlipPolicy::default(),
        );
        assert_eq!(
            layer.weights.iter().map(|w| w.to_bits()).sum::<u32>(),
            (-2.0f32).to_bits()
        );
    }

    #[test]
    fn slots_follow_the_policy() {
        use SlotsAtReactivation as Back;
        use SlotsAtThreshold as Drop;
        let kept = mask(0b0101);
        for (at_threshold, at_reactivation, sparse, dense) in [
            (
                Drop::Zero,
                Back::Zero,
                [1.0, 0.0, 3.0, 0.0],
                [1.0, 0.0, 3.0, 0.0],
            ),
            (
                Drop::Zero,
                Back::Keep,
                [1.0, 0.0, 3.0, 0.0],
                [1.0, 0.0, 3.0, 0.0],
            ),
            (Drop::Zero, Back::ZeroAll, [1.0, 0.0, 3.0, 0.0], [0.0; 4]),
            (
                Drop::Keep,
                Back::Zero,
                [1.0, 2.0, 3.0, 4.0],
                [1.0, 0.0, 3.0, 0.0],
            ),
            (
                Drop::Keep,
                Back::Keep,
                [1.0, 2.0, 3.0, 4.0],
                [1.0, 2.0, 3.0, 4.0],
            ),
            (Drop::Keep, Back::ZeroAll, [1.0, 2.0, 3.0, 4.0], [0.0; 4]),
        ] {
            let policy = FlipPolicy {
                slots_at_threshold: at_threshold,
                slots_at_reactivation: at_reactivation,
                ..FlipPolicy::default()
            };
            for slots in [1, 2] {
                let mut layer = Layer::new(&WEIGHTS, slots);
                layer.threshold(&kept, Previous::None, policy);
                let expected = |values: [f32; 4], slot: usize| {
                    values.map(|v| {
                        if v == 0.0 {
                            0.0
                        } else {
                            v + 10.0 * slot as f32
                        }
                    })
                };
                for (s, slot) in layer.slots.iter().enumerate() {
                    assert_eq!(slot[..], expected(sparse, s), "{policy:?}");
                }
                layer.reactivate(&kept, policy);
                for (s, slot) in layer.slots.iter().enumerate() {
                    assert_eq!(slot[..], expected(dense, s), "{policy:?}");
                }
            }
        }
    }

    #[test]
    fn saved_values_come_back() {
        let policy = FlipPolicy {
            reactivated: Reactivated::Saved,
            ..FlipPolicy::default()
        };
        let mut layer = Layer::new(&WEIGHTS, 1);
        layer.threshold(&mask(0b1011), Previous::None, policy);
        layer.weights[1] = 7.0;
        // What was dropped first keeps its value through a second threshold of the same phase.
        layer.threshold(&mask(0b1001), Previous::InForce(&mask(0b1011)), policy);
        assert_eq!(layer.weights, [3.0, 0.0, 0.0, -12.0]);
        let mut decayed = Layer {
            weights: layer.weights.clone(),
            slots: layer.slots.clone(),
            saved: layer.saved.clone(),
        };
        layer.reactivate(&mask(0b1001), policy);
        assert_eq!(layer.weights, [3.0, 7.0, 0.5, -12.0]);
        assert!(layer.saved.is_empty());
        decayed.with(|layer| reactivate(layer, &mask(0b1001), policy, 0.5));
        assert_eq!(decayed.weights, [3.0, 3.5, 0.25, -12.0]);
    }

    #[test]
    fn zero_start_saves_nothing() {
        let mut layer = Layer::new(&WEIGHTS, 1);
        layer.threshold(&mask(0b1001), Previous::None, FlipPolicy::default());
        assert_eq!(layer.saved.capacity(), 0);
        layer.reactivate(&mask(0b1001), FlipPolicy::default());
        assert_eq!(layer.weights, [3.0, 0.0, 0.0, -12.0]);
    }

    #[test]
    fn a_full_mask_changes_nothing() {
        let policy = FlipPolicy {
            slots_at_reactivation: SlotsAtReactivation::ZeroAll,
            ..FlipPolicy::default()
        };
        let mut layer = Layer::new(&WEIGHTS, 2);
        let untouched = layer.slots.clone();
        layer.threshold(&mask(0b1111), Previous::None, policy);
        layer.reactivate(&mask(0b1111), policy);
        assert_eq!(layer.weights, WEIGHTS);
        assert_eq!(layer.slots, untouched);
    }

    #[test]
    fn regrown_weights_start_as_reactivated_ones() {
        let mut layer = Layer::new(&[3.0, -4.0, 0.0, 0.0], 1);
        let record = layer.threshold(
            &mask(0b0110),
            Previous::InForce(&mask(0b0011)),
            FlipPolicy::default(),
        );
        assert_eq!(
            (record.k, record.kept, record.dropped, record.reactivated),
            (2, 1, 1, 1)
        );
        assert_eq!(record.overlap, Some(0.5));
        assert_eq!(layer.weights, [0.0, -4.0, 0.0, 0.0]);
        assert_eq!(layer.slots[0], [0.0, 2.0, 0.0, 4.0]);
    }

    #[test]
    fn histograms_count_what_is_kept() {
        let mut layer = Layer::new(&[-4.0, 4.0, 0.0, 1.0], 0);
        let record = layer.threshold(&mask(0b0011), Previous::None, FlipPolicy::default());
        let histogram = record.histogram.unwrap();
        assert_eq!((histogram.low, histogram.high), (-4.0, 4.0));
        let filled = |counts: &[u64]| -> Vec<(usize, u64)> {
            counts
                .iter()
                .copied()
                .enumerate()
                .filter(|c| c.1 > 0)
                .collect()
        };
        assert_eq!(
            filled(&histogram.before),
            [(0, 1), (32, 1), (40, 1), (63, 1)]
        );
        assert_eq!(filled(&histogram.after), [(0, 1), (63, 1)]);
        assert_eq!((histogram.before.len(), histogram.after.len()), (64, 64));
        let mut zero = Layer::new(&[0.0; 4], 0);
        let record = zero.threshold(&mask(0b0011), Previous::None, FlipPolicy::default());
        assert_eq!(filled(&record.histogram.unwrap().before), [(32, 4)]);
    }

    #[test]
    fn json_has_the_keys_of_the_run_folder() {
        let mut layer = Layer::new(&WEIGHTS, 1);
        let record = layer.threshold(&mask(0b1001), Previous::None, FlipPolicy::default());
        let transition = Transition {
            step: 300,
            edge: Flip::Threshold,
            density: 0.5,
            layers: vec![record],
        };
        let json = serde_json::to_value(&transition).unwrap();
        assert_eq!(
            (&json["step"], &json["edge"]),
            (&300.into(), &"threshold".into())
        );
        let layer = json["layers"][0].as_object().unwrap();
        for key in [
            "name",
            "weights",
            "k",
            "kept",
            "dropped",
            "reactivated",
            "overlap",
            "dropped_norm",
            "norm",
            "histogram",
        ] {
            assert!(layer.contains_key(key), "{key}");
        }
        assert!(layer["overlap"].is_null());
        assert_eq!(
            serde_json::from_value::<Transition>(json).unwrap(),
            transition
        );
    }

    #[test]
    fn edges_name_their_flips() {
        assert_eq!(
            Edge::Threshold { density: 0.5 }.flip(),
            Some(Flip::Threshold)
        );
        assert_eq!(Edge::Reactivate.flip(), Some(Flip::Reactivate));
        assert_eq!(Edge::Regrow { fraction: 0.3 }.flip(), Some(Flip::Regrow));
        assert_eq!(Edge::Finish.flip(), None);
    }
}
