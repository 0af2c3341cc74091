//! What every step and every flip does to weights, averages and optimizer slots, watched from outside: an engine that
//! passes everything on to the CPU engine and compares the state before and after with plain loops over single values.

use std::sync::atomic::AtomicBool;

use skinny_network::Graph;
use skinny_sparsity::{
    Budget, Edge, FlipPolicy, Mask, Method, Phase, Reactivated, SlotsAtReactivation,
    SlotsAtThreshold, resolve,
};
use skinny_train::{
    CpuEngine, Engine, Examples, FlipRecord, Material, Outcome, Resolved, RunFolder, Section,
    Trainer, initialize,
};

use super::small::Place;

/// One thresholded parameter as it was after the last step.
#[derive(Clone, Default)]
struct Before {
    weights: Vec<f32>,
    slots: Vec<Vec<f32>>,
    kept: Vec<bool>,
    /// Values of the weights that are dropped now, when they were dropped.
    saved: Vec<f32>,
}

struct Watched {
    engine: CpuEngine,
    resolved: Resolved,
    policy: FlipPolicy,
    before: Vec<Before>,
    thresholds: usize,
    reactivations: usize,
    /// The gradients that were asked for since the last step, of each thresholded parameter.
    gradients: Vec<Vec<f32>>,
    regrown: usize,
    /// Slots of all parameters after the last step.
    all_slots: Vec<Vec<Vec<f32>>>,
}

impl Watched {
    fn read(&self, section: Section, parameter: usize) -> Vec<f32> {
        let mut values = Vec::new();
        self.engine.read(section, parameter, &mut values);
        values
    }

    fn slots(&self, parameter: usize) -> Vec<Vec<f32>> {
        let slots = self.resolved.recipe.train.optimizer().slots();
        (0..slots.len())
            .map(|slot| self.read(Section::Slot(slot), parameter))
            .collect()
    }

    fn kept(&self, parameter: usize) -> Vec<bool> {
        let weights = self.resolved.graph.parameters[parameter].len();
        (0..weights)
            .map(|index| {
                self.engine
                    .mask(parameter)
                    .is_none_or(|mask| mask.get(index))
            })
            .collect()
    }

    /// Whatever happened to a parameter since the last step is a flip that follows the policy, or nothing.
    fn check_flip(&mut self, parameter: usize, position: usize, all_start_anew: bool) {
        let (weights, slots) = (
            self.read(Section::Weights, parameter),
            self.slots(parameter),
        );
        let average = match self.resolved.recipe.train.ema > 0.0 {
            true => self.read(Section::Average, parameter),
            false => Vec::new(),
        };
        let kept = self.kept(parameter);
        let policy = self.policy;
        let before = &mut self.before[position];
        if before.weights.is_empty() {
            before.saved = vec![0.0; weights.len()];
        } else {
            let reactivates = (0..kept.len()).any(|i| kept[i] && !before.kept[i]);
            let drops = (0..kept.len()).any(|i| !kept[i] && before.kept[i]);
            self.thresholds += usize::from(drops);
            self.reactivations += usize::from(reactivates);
            for index in 0..weights.len() {
                let weight = weights[index];
                match (before.kept[index], kept[index]) {
                    (true, true) => assert_eq!(weight.to_bits(), before.weights[index].to_bits()),
                    (true, false) => {
                        assert_eq!(weight.to_bits(), 0);
                        before.saved[index] = before.weights[index];
                    }
                    (false, false) => assert_eq!(weight.to_bits(), 0),
                    (false, true) => match (policy.reactivated, policy.decay_frozen) {
                        (Reactivated::Zero, _) => assert_eq!(weight.to_bits(), 0),
                        (Reactivated::Saved, false) => assert_eq!(weight, before.saved[index]),
                        (Reactivated::Saved, true) => {
                            let part = weight / before.saved[index];
                            assert!(before.saved[index] == 0.0 || (0.9..1.0).contains(&part));
                        }
                    },
                }
                if let (false, true, Some(average)) =
                    (before.kept[index], kept[index], average.get(index))
                {
                    assert_eq!(average.to_bits(), weight.to_bits());
                }
                for (slot, was) in slots.iter().zip(&before.slots) {
                    let zeroed = all_start_anew
                        || match (before.kept[index], kept[index]) {
                            (true, false) => policy.slots_at_threshold == SlotsAtThreshold::Zero,
                            (false, true) => {
                                policy.slots_at_reactivation == SlotsAtReactivation::Zero
                            }
                            _ => false,
                        };
                    let expected = if zeroed { 0.0 } else { was[index] };
                    assert_eq!(slot[index].to_bits(), f32::to_bits(expected));
                }
            }
        }
    }

    /// Whether all optimizer slots are to be zero at a step: at a re-activation or a regrowth under `zero_all`.
    fn all_start_anew(&self, step: usize) -> bool {
        self.policy.slots_at_reactivation == SlotsAtReactivation::ZeroAll
            && matches!(
                self.resolved.plan.edge(step),
                Some(Edge::Reactivate | Edge::Regrow { .. })
            )
    }

    /// The slots of biases and of normalizations start anew with all others, or are as they were.
    fn check_other_slots(&self, step: usize) {
        let zeroed = self.all_start_anew(step);
        for (parameter, before) in self.all_slots.iter().enumerate() {
            let after = self.slots(parameter);
            if zeroed {
                let mut values = after.iter().flatten();
                assert!(values.all(|value| value.to_bits() == 0), "step {step}");
            } else if !self.resolved.thresholded.contains(&parameter) {
                assert_eq!(&after, before, "step {step}");
            }
        }
    }

    /// A replacement drops the least weights of the support and lets the largest gradients of the others grow, if there are
    /// gradients; all of it by sorting whole lists.
    fn check_regrowth(&mut self, parameter: usize, position: usize, fraction: f64) {
        let (before, after) = (&self.before[position], self.kept(parameter));
        let ranked = |mut indices: Vec<usize>, values: &[f32]| -> Vec<usize> {
            indices.sort_by(|&a, &b| values[b].abs().total_cmp(&values[a].abs()).then(a.cmp(&b)));
            indices
        };
        let support = (0..after.len()).filter(|&i| before.kept[i]).collect();
        let support = ranked(support, &before.weights);
        let k = support.len();
        let replaced = ((fraction * k as f64).round() as usize).min(k - 1);
        let stays = &support[..k - replaced];
        assert!(stays.iter().all(|&i| after[i]), "the largest stay");
        let grown: Vec<usize> = (0..after.len())
            .filter(|i| after[*i] && !stays.contains(i))
            .collect();
        assert_eq!(grown.len(), replaced);
        self.regrown += replaced;
        if let Some(gradient) = self.gradients.get(position) {
            let others = (0..after.len()).filter(|i| !stays.contains(i)).collect();
            let mut expected = ranked(others, gradient)[..replaced].to_vec();
            expected.sort_unstable();
            assert_eq!(grown, expected, "the largest gradients grow");
        }
    }

    /// Each layer keeps exactly its k, and what it does not keep is bit-zero and has frozen slots.
    fn check_support(&self, step: usize) {
        let sparsity = &self.resolved.recipe.sparsity;
        let phase = self.resolved.plan.at(step);
        let layers = &self.resolved.layers;
        let masks = || (self.resolved.thresholded.iter()).map(|&p| self.engine.mask(p));
        let Phase::Sparse { density } = phase else {
            assert!(masks().all(|mask| mask.is_none()), "step {step} is dense");
            return;
        };
        let counts: Vec<usize> = masks()
            .zip(layers)
            .map(|(mask, layer)| mask.map_or(layer.weights(), Mask::count))
            .collect();
        if sparsity.budget() == Budget::Global {
            let weights: usize = layers.iter().map(|layer| layer.weights()).sum();
            let all = (density * weights as f64).round() as usize;
            assert_eq!(counts.iter().sum::<usize>(), all, "step {step}");
        } else {
            let budgets = resolve(sparsity, layers, density, None).unwrap();
            let k: Vec<usize> = budgets.iter().map(|budget| budget.k).collect();
            assert_eq!(counts, k, "step {step}");
        }
        for &parameter in &self.resolved.thresholded {
            let kept = self.kept(parameter);
            let mut sections = vec![self.read(Section::Weights, parameter)];
            if self.resolved.recipe.train.ema > 0.0 {
                sections.push(self.read(Section::Average, parameter));
            }
            for values in sections {
                let dropped = (0..kept.len()).filter(|&index| !kept[index]);
                dropped.for_each(|index| assert_eq!(values[index].to_bits(), 0, "step {step}"));
            }
        }
    }
}

impl Engine for Watched {
    fn train_step(&mut self, examples: Examples<'_>, lr: f32, step: u64) -> Outcome {
        let thresholded = self.resolved.thresholded.clone();
        self.check_other_slots(step as usize);
        if self.all_start_anew(step as usize) {
            assert_eq!(
                self.engine.updates(),
                0,
                "AdamW corrects as at its first step"
            );
        }
        for (position, &parameter) in thresholded.iter().enumerate() {
            self.check_flip(parameter, position, self.all_start_anew(step as usize));
            if let Some(Edge::Regrow { fraction }) = self.resolved.plan.edge(step as usize) {
                self.check_regrowth(parameter, position, fraction);
            }
        }
        self.gradients.clear();
        let frozen: Vec<_> = thresholded.iter().map(|&p| self.slots(p)).collect();
        let outcome = self.engine.train_step(examples, lr, step);
        self.check_support(step as usize);
        for (position, &parameter) in thresholded.iter().enumerate() {
            let (weights, slots) = (
                self.read(Section::Weights, parameter),
                self.slots(parameter),
            );
            let kept = self.kept(parameter);
            for (slot, frozen) in slots.iter().zip(&frozen[position]) {
                for index in (0..kept.len()).filter(|&index| !kept[index]) {
                    assert_eq!(slot[index].to_bits(), frozen[index].to_bits());
                }
            }
            let before = &mut self.before[position];
            (before.weights, before.slots, before.kept) = (weights, slots, kept);
        }
        let parameters = 0..self.resolved.graph.parameters.len();
        self.all_slots = parameters.map(|parameter| self.slots(parameter)).collect();
        outcome
    }

    fn graph(&self) -> &Graph {
        self.engine.graph()
    }
    fn gradients(&mut self, examples: Examples<'_>, step: u64) -> Outcome {
        let outcome = self.engine.gradients(examples, step);
        let thresholded = self.resolved.thresholded.iter();
        self.gradients = thresholded
            .map(|&parameter| self.read(Section::Gradients, parameter))
            .collect();
        outcome
    }
    fn evaluate(&mut self, examples: Examples<'_>) -> Outcome {
        self.engine.evaluate(examples)
    }
    fn logits(&mut self, images: &[f32], logits: &mut Vec<f32>) {
        self.engine.logits(images, logits);
    }
    fn reestimate(&mut self, examples: Examples<'_>, index: usize) {
        self.engine.reestimate(examples, index);
    }
    fn read(&self, section: Section, parameter: usize, values: &mut Vec<f32>) {
        self.engine.read(section, parameter, values);
    }
    fn write(&mut self, section: Section, parameter: usize, values: &[f32]) {
        self.engine.write(section, parameter, values);
    }
    fn set_mask(&mut self, parameter: usize, mask: Option<Mask>) {
        self.engine.set_mask(parameter, mask);
    }
    fn mask(&self, parameter: usize) -> Option<&Mask> {
        self.engine.mask(parameter)
    }
    fn swap_average(&mut self) {
        self.engine.swap_average();
    }
    fn updates(&self) -> u64 {
        self.engine.updates()
    }
    fn set_updates(&mut self, updates: u64) {
        self.engine.set_updates(updates);
    }
}

/// Trains, watched; returns how many layers met a threshold and a re-activation.
fn watch(network: &str, train: &str, sparsity: &str) -> (usize, usize) {
    let place = Place::new();
    let recipe = place.recipe(network, train, sparsity);
    let graph = recipe.network().unwrap().graph().unwrap();
    let material = Material::load(&recipe, &graph, &place.roots()).unwrap();
    let resolved = Resolved::new(recipe, material.train.len()).unwrap();
    let recipe = &resolved.recipe;
    let mut watched = Watched {
        engine: CpuEngine::new(
            resolved.graph.clone(),
            resolved.engine_settings(2),
            initialize(&resolved.graph, recipe.train.init, recipe.seed),
        ),
        policy: recipe.sparsity.policy(),
        before: vec![Before::default(); resolved.thresholded.len()],
        resolved: resolved.clone(),
        thresholds: 0,
        reactivations: 0,
        gradients: Vec::new(),
        regrown: 0,
        all_slots: Vec::new(),
    };
    let folder = RunFolder::create(Some(&place.path("run")), &resolved).unwrap();
    Trainer::start(&resolved, &material, &mut watched, &folder)
        .unwrap()
        .run(&mut |_| {}, &AtomicBool::new(false))
        .unwrap();
    let regrows = matches!(recipe.sparsity.method, Method::Set | Method::Rigl);
    assert_eq!(watched.regrown > 0, regrows);
    (watched.thresholds, watched.reactivations)
}

const SGD: &str = "lr = 0.05, momentum = 0.9, nesterov = true, weight_decay = 5e-4";
const CAFFE: &str = "optimizer = 'caffe-sgd', lr = 0.02, momentum = 0.9, weight_decay = 5e-4, clip_norm = 1.0, ema = 0.8";
const ADAMW: &str = "optimizer = 'adamw', lr = 0.003, weight_decay = 0.01, ema = 0.9";

#[test]
fn what_is_dropped_is_zero_and_slots_follow_every_policy() {
    for (network, train) in [("plain", SGD), ("plain", ADAMW), ("normed", CAFFE)] {
        for reactivated in ["'zero'", "'saved'", "'saved', decay_frozen = true"] {
            for at_threshold in ["zero", "keep"] {
                for at_reactivation in ["zero", "keep", "zero_all"] {
                    let sparsity = format!(
                        "method = 'iht', density = 0.1, budget = 'erk', ramp = 'cubic', reactivated = {reactivated}, \
                         slots_at_threshold = '{at_threshold}', slots_at_reactivation = '{at_reactivation}'"
                    );
                    let (thresholds, reactivations) = watch(network, train, &sparsity);
                    assert!(thresholds >= 6 && reactivations >= 4, "{sparsity}");
                }
            }
        }
    }
}

#[test]
fn a_dense_network_before_its_first_threshold_is_not_the_best_of_dsd() {
    let place = Place::new();
    let best = |sparsity: &str| -> Vec<usize> {
        let recipe = place.recipe("plain", SGD, sparsity);
        let resolved = Resolved::new(recipe, 384).unwrap();
        let steps = 0..resolved.total_steps();
        steps.filter(|step| resolved.may_be_best(*step)).collect()
    };
    let dsd = best("method = 'dsd', density = 0.5, warmup = '8it', sparse = '8it'");
    assert_eq!(dsd, (16..32).collect::<Vec<_>>());
    let iht = best(
        "method = 'iht', density = 0.5, warmup = '8it', sparse = '4it', dense = '4it', final = '8it'",
    );
    assert_eq!(
        iht,
        [(8..12), (16..20), (24..32)]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
    );
    assert_eq!(best("method = 'dense'").len(), 32);
}

#[test]
fn regrowth_lets_every_slot_start_anew_if_it_is_asked_to() {
    for (network, train) in [("normed", SGD), ("normed", ADAMW)] {
        let sparsity = "method = 'rigl', density = 0.2, regrow_every = '4it', slots_at_reactivation = 'zero_all'";
        watch(network, train, sparsity);
    }
}

#[test]
fn a_static_mask_is_random_and_stays() {
    for network in ["plain", "normed"] {
        let sparsity = "method = 'static_random', density = 0.1";
        assert_eq!(watch(network, SGD, sparsity), (0, 0));
        // The mask comes from the seed, not from the weights.
        let place = Place::new();
        let mut recipe = place.recipe(network, SGD, sparsity);
        let mut masks = |seed: u64, out: &str| {
            recipe.seed = seed;
            place.run(&recipe, out, 1);
            std::fs::read(place.path(out).join("masks.safetensors")).unwrap()
        };
        let (first, other) = (masks(1, "first"), masks(2, "other"));
        assert!(first != other);
        assert!(first == masks(1, "again"));
    }
}

#[test]
fn a_penalty_draws_weights_to_zero_until_the_threshold() {
    let place = Place::new();
    let norms = |sparsity: &str, out: &str| -> (f64, usize) {
        let recipe = place.recipe("plain", SGD, sparsity);
        let summary = place.run(&recipe, out, 1);
        let flips = std::fs::read_to_string(place.path(out).join("flips.jsonl")).unwrap();
        let flip: FlipRecord = serde_json::from_str(flips.lines().next().unwrap()).unwrap();
        let dropped = flip
            .transition
            .layers
            .iter()
            .map(|layer| layer.dropped_norm.powi(2));
        (dropped.sum::<f64>().sqrt(), summary.nonzeros)
    };
    let (plain, kept) = norms("method = 'one_shot', density = 0.1", "plain");
    let (drawn, as_many) = norms("method = 'l1', density = 0.1, l1 = 0.005", "drawn");
    assert_eq!(kept, as_many);
    assert!(drawn < 0.85 * plain, "{drawn} {plain}");
    let (weak, _) = norms("method = 'l1', density = 0.1, l1 = 1e-12", "weak");
    assert!((weak - plain).abs() < 1e-3 * plain, "{weak} {plain}");
}

#[test]
fn a_penalty_leaves_alone_what_is_kept_dense_or_does_not_train() {
    let place = Place::new();
    let factors = "lr = 0.05, factors = { 'fc1.weight' = { lr = 0.0 } }";
    // Strong enough to make everything that it reaches zero.
    let sparsity = "method = 'l1', density = 0.5, l1 = 1.0, keep_dense = ['conv1.*']";
    let recipe = place.recipe("plain", factors, sparsity);
    place.run(&recipe, "run", 1);
    let weights = RunFolder::open(&place.path("run"))
        .and_then(|folder| folder.unpacked("last"))
        .unwrap();
    let zeros = |name: &str| {
        let values = &weights.tensors.get(name).unwrap().data;
        values.iter().filter(|value| **value == 0.0).count() as f64 / values.len() as f64
    };
    assert_eq!(zeros("conv1.weight"), 0.0);
    assert!(
        (zeros("fc1.weight") - 0.5).abs() < 0.2,
        "only the threshold"
    );
    assert!(zeros("fc2.weight") > 0.4);
}

#[test]
fn a_small_dense_network_has_as_many_parameters_as_the_sparse_one() {
    let place = Place::new();
    for network in ["plain", "normed"] {
        let run = |sparsity: &str, out: &str| {
            place.run(
                &place.recipe(network, SGD, sparsity),
                &format!("{network}-{out}"),
                1,
            )
        };
        let sparse = run("method = 'one_shot', density = 0.3", "sparse");
        let small = run("method = 'small_dense', density = 0.3", "small");
        assert_eq!((small.density, small.parameters), (1.0, small.nonzeros));
        assert!(small.parameters <= sparse.nonzeros);
        assert!(small.parameters as f64 > 0.7 * sparse.nonzeros as f64);
        // The folder describes the network that was trained, not one that is thinner still.
        let folder = RunFolder::open(&place.path(&format!("{network}-small"))).unwrap();
        let read = folder.unpacked("last").unwrap();
        let graph = read.network.graph().unwrap();
        read.tensors.check_against(&graph, true).unwrap();
        let out = format!("{network}-interrupted");
        let recipe = place.recipe(network, SGD, "method = 'small_dense', density = 0.3");
        assert!(!place.run_until(&recipe, &out, 1, 11));
        assert!(place.run_until(&recipe, &out, 1, usize::MAX));
        let again = RunFolder::open(&place.path(&out)).unwrap();
        assert_eq!(again.unpacked("last").unwrap().tensors, read.tensors);
    }
}

#[test]
fn every_method_and_budget_keeps_exactly_k() {
    for (sparsity, reactivates) in [
        ("method = 'iht', density = 0.05", true),
        (
            "method = 'iht', density = 0.25, structure = '2:8', keep_dense = ['conv1.*']",
            true,
        ),
        (
            "method = 'iht', density = 0.3, ramp = 'linear', final_thresholds = 3",
            true,
        ),
        ("method = 'ac_dc', density = 0.1, floor = 0.05", true),
        ("method = 'dsd', density = 0.5", true),
        (
            "method = 'one_shot', density = 0.1, score = 'random:3'",
            false,
        ),
        (
            "method = 'gradual', density = 0.1, thresholds = 6, score = 'magnitude_times_gradient'",
            false,
        ),
        (
            "method = 'iht', density = 0.4, budget = 'per_layer', layers = { 'fc*' = 0.1 }",
            true,
        ),
        (
            "method = 'rigl', density = 0.2, regrow_every = '3it', slots_at_threshold = 'keep'",
            true,
        ),
        (
            "method = 'set', density = 0.1, regrow_every = '1it', budget = 'uniform'",
            true,
        ),
    ] {
        for network in ["plain", "normed"] {
            let (thresholds, reactivations) = watch(network, SGD, sparsity);
            assert!(thresholds > 0, "{sparsity}");
            assert_eq!(reactivations > 0, reactivates, "{sparsity}");
        }
    }
}
