//! The runtime gives the logits of the engine that trained the weights.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use skinny::data::{DataRoots, Loader, LoaderOptions};
use skinny::model::{Model as File, PackOptions, Unpacked, pack};
use skinny::network::{Init, Network, Preprocess, Role, Tensor, Tensors};
use skinny::runtime::{Model, Options};
use skinny::train::{Engine, Job, JobOptions, Material, Recipe, RunFolder, Trained, initialize};

/// The largest difference that is allowed, as a part of the largest logit.
const TOLERANCE: f32 = 1e-5;

fn options(threads: usize) -> Options {
    Options {
        threads,
        softmax: false,
        ..Options::default()
    }
}

fn compare(expected: &[f32], found: &[f32], what: &str) {
    assert_eq!(expected.len(), found.len(), "{what}");
    let size = expected.iter().fold(0.0f32, |size, x| size.max(x.abs()));
    assert!(
        size > 0.0 && size.is_finite(),
        "{what}: logits up to {size}"
    );
    for (expected, found) in expected.iter().zip(found) {
        let apart = (expected - found).abs();
        assert!(apart <= TOLERANCE * size, "{what}: {found}, not {expected}");
    }
}

/// Numbers in [-1, 1) without a pattern.
fn numbers(length: usize) -> Vec<f32> {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..length).map(|_| next()).collect()
}

/// Weights of the size that lets a signal through, of which about every `nth` is left.
fn weights(network: &Network, nth: usize) -> Tensors {
    let mut graph = network.graph().expect("the network is right");
    // Rules of its own may make weights so small that nothing is left of an image.
    for parameter in &mut graph.parameters {
        parameter.init = None;
    }
    let mut tensors = Tensors::new();
    let values = initialize(&graph, Init::He, 1);
    for (parameter, mut data) in graph.parameters.iter().zip(values) {
        if parameter.role == Role::Weight {
            let gain = (nth as f32).sqrt();
            for (value, choice) in data.iter_mut().zip(numbers(parameter.len())) {
                let kept = (choice + 1.0) * nth as f32 <= 2.0;
                *value *= if kept { gain } else { 0.0 };
            }
        }
        let shape = parameter.shape.clone();
        tensors.insert(&parameter.name, Tensor { shape, data });
    }
    tensors
}

#[test]
fn networks_of_the_zoo_give_the_logits_of_the_trainer() {
    for name in [
        "lenet5",
        "lenet-300-100",
        "nin-mnist",
        "nin-cifar10",
        "nin-cifar10-bn",
        "resnet20",
        "vgg11-cifar",
        "wrn-22-2",
        "alexnet",
    ] {
        let network = Network::load(name).expect("the zoo has it");
        let images = 2;
        let input = numbers(images * network.input.iter().product::<usize>());
        for nth in [1, 10] {
            let tensors = weights(&network, nth);
            let ready = Model::new(&network, &tensors, Preprocess::default(), &options(2));
            let found = ready.expect("it is right").run(&input).expect("it runs");
            let model = Unpacked {
                network: network.clone(),
                preprocess: Preprocess::default(),
                tensors,
                masks: BTreeMap::new(),
            };
            let mut trained = Trained::new(model, images, 2).expect("it is right");
            let mut expected = Vec::new();
            trained.engine.logits(&input, &mut expected);
            compare(&expected, &found, &format!("{name}, every {nth}th weight"));
        }
    }
}

#[test]
fn a_packed_run_classifies_every_test_picture_as_its_trainer_does() {
    let roots = DataRoots::new(None);
    if std::env::var_os("SKINNY_DATA").is_none() {
        eprintln!("SKIPPED: SKINNY_DATA is not set, no run on MNIST is compared with the runtime");
        return;
    }
    let place = tempfile::tempdir().expect("a folder");
    let settings = ["data.train=12800", "train.epochs=2"].map(String::from);
    let recipe = Recipe::load("mnist-lenet5-iht-10x", &settings).expect("it is built in");
    let out = place.path().join("run");
    let job_options = JobOptions {
        roots: roots.clone(),
        threads: 2,
        environment: Default::default(),
    };
    let job = Job::start(recipe.clone(), Some(&out), &job_options).expect("it can start");
    job.run(None, &mut |_| {}, &AtomicBool::new(false))
        .expect("it ends");
    let folder = RunFolder::open(&out).expect("it is there");
    let run = folder.unpacked("last").expect("it has weights");
    let file = pack(&run, &PackOptions::default(), &mut |_| {}).expect("it can be packed");
    let unpacked = File::from_bytes(&file[..]).expect("it is right").unpack();
    let model = Model::new(
        &unpacked.network,
        &unpacked.tensors,
        unpacked.preprocess,
        &options(2),
    )
    .expect("it is right");
    let graph = run.network.graph().expect("it is right");
    let set = Material::load(&recipe, &graph, &roots)
        .expect("the set is there")
        .test;
    let preprocess = run.preprocess.clone();
    let batch = 250;
    let mut trained = Trained::new(run, batch, 2).expect("it is right");
    let (mut pictures, mut expected) = (0, Vec::new());
    let loader = Loader::new(set, &preprocess, LoaderOptions::evaluation(batch));
    for batch in loader.expect("it can be read") {
        let batch = batch.expect("it can be read");
        trained.engine.logits(&batch.images, &mut expected);
        let found = model.run(&batch.images).expect("it runs");
        compare(&expected, &found, "pictures of MNIST");
        let top = |logits: &[f32]| -> Vec<usize> {
            let classes = logits.chunks_exact(10);
            let best = classes.map(|logits| {
                let order = (0..10).max_by(|a: &usize, b| logits[*a].total_cmp(&logits[*b]));
                order.expect("ten classes")
            });
            best.collect()
        };
        assert_eq!(top(&expected), top(&found));
        pictures += batch.len();
    }
    assert_eq!(pictures, 10_000);
}
