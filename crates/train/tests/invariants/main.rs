//! What holds in every run: the same bits at any number of threads and however often it was stopped, and ordinary
//! training where nothing is dropped.

mod masks;
mod sensitivity;
mod small;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use skinny_data::{Loader, LoaderOptions};
use skinny_network::Role;
use skinny_sparsity::Edge;
use skinny_train::{
    CpuEngine, Engine, Examples, Material, Recipe, Resolved, RunFolder, Section, Trained, Trainer,
    initialize,
};
use small::{Place, assert_same, outcome};

const SGD: &str = "lr = 0.05, momentum = 0.9, nesterov = true, weight_decay = 5e-4, clip_norm = 1.0, schedule = 'one-cycle'";
const ADAMW: &str =
    "optimizer = 'adamw', lr = 0.003, weight_decay = 0.01, ema = 0.9, checkpoint = '5it'";
const RAMP: &str =
    "method = 'iht', density = 0.1, budget = 'erk', ramp = 'cubic', final_thresholds = 2";
const SAVED: &str = "method = 'iht', density = 0.2, reactivated = 'saved', decay_frozen = true, \
                     slots_at_threshold = 'keep', slots_at_reactivation = 'keep'";
const GRADUAL: &str =
    "method = 'gradual', density = 0.1, thresholds = 5, score = 'magnitude_times_gradient'";

/// The networks, optimizers and policies that are stopped and resumed, and given other numbers of threads.
const CASES: [(&str, &str, &str); 7] = [
    ("plain", SGD, RAMP),
    ("plain", ADAMW, SAVED),
    ("normed", ADAMW, GRADUAL),
    ("normed", SGD, "method = 'ac_dc', density = 0.3"),
    (
        "normed",
        ADAMW,
        "method = 'rigl', density = 0.2, regrow_every = '5it'",
    ),
    (
        "plain",
        SGD,
        "method = 'set', density = 0.2, regrow_every = '5it'",
    ),
    ("plain", SGD, "method = 'l1', density = 0.2, l1 = 0.02"),
];

#[test]
fn threads_never_change_a_bit() {
    for (network, train, sparsity) in CASES {
        let place = Place::new();
        let recipe = place.recipe(network, train, sparsity);
        place.run(&recipe, "1", 1);
        for threads in [2, 3, 8] {
            let name = threads.to_string();
            place.run(&recipe, &name, threads);
            let what = format!("{network}, {sparsity}, {threads} threads");
            assert_same(&place.path("1"), &place.path(&name), &what);
        }
    }
}

#[test]
fn a_run_stopped_after_every_step_ends_with_the_same_bits() {
    for (network, train, sparsity) in CASES {
        let place = Place::new();
        let recipe = place.recipe(network, train, sparsity);
        place.run(&recipe, "whole", 2);
        let mut steps = 0;
        while !place.run_until(&recipe, "stopped", 1 + steps % 2, steps + 1) {
            steps += 1;
        }
        assert_eq!(steps, 4 * 8 - 1, "the last step is never interrupted");
        let what = format!("{network}, {sparsity}, stopped {steps} times");
        assert_same(&place.path("whole"), &place.path("stopped"), &what);
    }
}

#[test]
fn a_run_stopped_around_its_flips_ends_with_the_same_bits() {
    for (network, train, sparsity) in CASES {
        let place = Place::new();
        let recipe = place.recipe(network, train, sparsity);
        place.run(&recipe, "whole", 2);
        let resolved = Resolved::new(recipe.clone(), 384).unwrap();
        let edges = resolved.plan.edges();
        let flips: Vec<usize> = (edges.iter())
            .filter(|(_, edge)| *edge != Edge::Finish)
            .map(|(step, _)| *step)
            .collect();
        assert!(flips.len() >= 3 || sparsity.contains("'l1'"), "{flips:?}");
        for flip in flips {
            for stop in [flip, flip + 1] {
                let out = format!("stopped-{stop}");
                if stop == 0 || place.path(&out).exists() {
                    continue;
                }
                assert!(!place.run_until(&recipe, &out, 2, stop));
                assert!(place.run_until(&recipe, &out, 2, usize::MAX));
                let what = format!("{network}, {sparsity}, stopped after {stop} steps");
                assert_same(&place.path("whole"), &place.path(&out), &what);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn a_run_stopped_anywhere_ends_with_the_same_bits(
        case in 0..CASES.len(),
        mut stops in prop::collection::vec(1usize..32, 1..4),
        threads in 1usize..4,
    ) {
        let (network, train, sparsity) = CASES[case];
        let place = Place::new();
        let recipe = place.recipe(network, train, sparsity);
        place.run(&recipe, "whole", 2);
        stops.sort_unstable();
        stops.dedup();
        stops.push(usize::MAX);
        for stop in &stops {
            place.run_until(&recipe, "stopped", threads, *stop);
        }
        assert_same(&place.path("whole"), &place.path("stopped"), &format!("{network}, stops {stops:?}"));
    }
}

/// The parts of a results.csv row that ordinary training has too.
fn learning(run: &std::path::Path) -> Vec<Vec<String>> {
    let files = outcome(run);
    let (_, rows) = files
        .iter()
        .find(|(name, _)| name == "results.csv")
        .unwrap();
    let rows = String::from_utf8(rows.clone()).unwrap();
    let columns = |line: &str| -> Vec<String> {
        let phase_and_density = [2, 3];
        (line.split(',').enumerate())
            .filter(|(column, _)| !phase_and_density.contains(column))
            .map(|(_, text)| text.to_string())
            .collect()
    };
    rows.lines().map(columns).collect()
}

#[test]
fn density_one_is_ordinary_training() {
    for (network, train) in [("plain", SGD), ("normed", ADAMW)] {
        let place = Place::new();
        let dense = place.recipe(network, train, "method = 'dense'");
        place.run(&dense, "dense", 2);
        let weights = |run: &str, which: &str| {
            std::fs::read(place.path(run).join(format!("weights/{which}.safetensors"))).unwrap()
        };
        for sparsity in [
            "method = 'iht', density = 1.0",
            "method = 'iht', density = 1.0, budget = 'erk', reactivated = 'saved'",
            "method = 'ac_dc', density = 1.0",
            "method = 'gradual', density = 1.0, thresholds = 5",
            // Gradients are computed for the ranking, and change nothing else.
            "method = 'iht', density = 1.0, score = 'magnitude_times_gradient'",
            "method = 'rigl', density = 1.0, regrow_every = '5it'",
        ] {
            let run = sparsity.replace(|c: char| !c.is_alphanumeric(), "");
            let summary = place.run(&place.recipe(network, train, sparsity), &run, 2);
            assert_eq!(summary.density, 1.0);
            for which in ["last", "best"] {
                let same = weights("dense", which) == weights(&run, which);
                assert!(same, "{network}, {sparsity}: {which} differs");
            }
            assert_eq!(learning(&place.path("dense")), learning(&place.path(&run)));
        }
    }
}

fn engine(resolved: &Resolved, threads: usize) -> CpuEngine {
    let recipe = &resolved.recipe;
    CpuEngine::new(
        resolved.graph.clone(),
        resolved.engine_settings(threads),
        initialize(&resolved.graph, recipe.train.init, recipe.seed),
    )
}

fn material(place: &Place, recipe: &Recipe) -> (Resolved, Material) {
    let graph = recipe.network().unwrap().graph().unwrap();
    let material = Material::load(recipe, &graph, &place.roots()).unwrap();
    let resolved = Resolved::new(recipe.clone(), material.train.len()).unwrap();
    (resolved, material)
}

fn bits(engine: &dyn Engine, section: Section) -> Vec<Vec<u32>> {
    let mut values = Vec::new();
    (0..engine.graph().parameters.len())
        .map(|parameter| {
            engine.read(section, parameter, &mut values);
            values.iter().map(|value| value.to_bits()).collect()
        })
        .collect()
}

/// A loop that knows nothing of phases, flips, checkpoints or reports ends with the same weights and slots.
#[test]
fn without_flips_the_trainer_is_a_plain_loop() {
    let place = Place::new();
    let recipe = place.recipe("plain", SGD, "method = 'dense'");
    let (resolved, material) = material(&place, &recipe);
    let mut plain = engine(&resolved, 2);
    let mut options = LoaderOptions::training(recipe.data.batch, 4, recipe.seed);
    options.drop_last = true;
    let loader = Loader::new(Arc::clone(&material.train), &material.preprocess, options).unwrap();
    for (step, batch) in loader.enumerate() {
        let batch = batch.unwrap();
        let examples = Examples {
            images: &batch.images,
            labels: &batch.labels,
        };
        plain.train_step(examples, resolved.schedule.rate(step) as f32, step as u64);
    }
    let mut trained = engine(&resolved, 2);
    let folder = RunFolder::create(Some(&place.path("run")), &resolved).unwrap();
    Trainer::start(&resolved, &material, &mut trained, &folder)
        .unwrap()
        .run(&mut |_| {}, &AtomicBool::new(false))
        .unwrap();
    assert_eq!(plain.updates(), trained.updates());
    for section in [Section::Weights, Section::Slot(0)] {
        assert_eq!(bits(&plain, section), bits(&trained, section));
    }
}

/// With hardly any memory the average is the weights, also where a penalty has made them zero.
#[test]
fn the_average_follows_weights_that_a_penalty_shrinks() {
    let place = Place::new();
    let sparsity = "method = 'l1', density = 0.2, l1 = 0.1";
    let recipe = place.recipe("plain", "lr = 0.05, ema = 1e-6", sparsity);
    let (resolved, material) = material(&place, &recipe);
    let mut trained = engine(&resolved, 2);
    let folder = RunFolder::create(Some(&place.path("run")), &resolved).unwrap();
    // Stops after the first step, long before the threshold.
    Trainer::start(&resolved, &material, &mut trained, &folder)
        .unwrap()
        .run(&mut |_| {}, &AtomicBool::new(true))
        .unwrap_err();
    let (mut weights, mut average) = (Vec::new(), Vec::new());
    let mut zeros = 0;
    for parameter in 0..resolved.graph.parameters.len() {
        trained.read(Section::Weights, parameter, &mut weights);
        trained.read(Section::Average, parameter, &mut average);
        zeros += weights.iter().filter(|weight| **weight == 0.0).count();
        for (weight, average) in weights.iter().zip(&average) {
            assert!((weight - average).abs() < 1e-5, "{weight} {average}");
        }
    }
    assert!(zeros > 10, "{zeros}");
}

/// A network that learned from shifted pictures is given the statistics of shifted pictures, before it is saved.
#[test]
fn statistics_are_estimated_on_augmented_pictures() {
    let place = Place::new();
    // Without a rate only the running statistics move.
    let means = |augment: &[&str], batches: usize| -> Vec<f32> {
        let mut recipe = place.recipe("normed", "lr = 1e-9", "method = 'dense'");
        recipe.data.augment = augment.iter().map(ToString::to_string).collect();
        recipe.train.batchnorm_batches = batches;
        let out = format!("{}-{batches}", augment.len());
        place.run(&recipe, &out, 1);
        let folder = RunFolder::open(&place.path(&out)).unwrap();
        let trained = Trained::new(folder.unpacked("last").unwrap(), 48, 1).unwrap();
        let graph = trained.engine.graph();
        let index = (graph.parameters.iter()).position(|p| p.role == Role::RunningMean);
        let mut means = Vec::new();
        trained
            .engine
            .read(Section::Weights, index.unwrap(), &mut means);
        means
    };
    let distance =
        |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() };
    let learned = means(&["shift:4"], 0);
    let augmented = distance(&learned, &means(&["shift:4"], 8));
    let plain = distance(&learned, &means(&[], 8));
    assert!(augmented < 0.2 * plain, "{augmented} and {plain}");
}
