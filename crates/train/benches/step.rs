//! Times of one training step, interleaved so that they can be compared: without any sparsity, in a dense phase (masks
//! lifted), and in a sparse phase at density 0.1 (masks in force).
//!
//! `cargo bench -p skinny-train --bench step -- [NETWORK] [BATCH] [THREADS] [ROUNDS]`, by default `lenet5 64 1 60`.
#![allow(missing_docs)]

use std::time::Instant;

use skinny_network::{Init, Network};
use skinny_sparsity::{Structure, project};
use skinny_train::{
    CpuEngine, Engine, EngineSettings, Examples, Factors, Optimizer, Section, initialize,
};

fn engine(network: &str, batch: usize, threads: usize) -> CpuEngine {
    let graph = Network::load(network)
        .expect("a network of the zoo or a file")
        .graph()
        .expect("a valid network");
    let weights = initialize(&graph, Init::He {}, 0);
    let factors = graph
        .parameters
        .iter()
        .map(|p| Factors {
            lr: p.lr,
            decay: p.decay,
        })
        .collect();
    let settings = EngineSettings {
        batch,
        threads,
        optimizer: Optimizer::Sgd {
            momentum: 0.9,
            weight_decay: 5e-4,
            nesterov: true,
        },
        label_smoothing: 0.0,
        clip_norm: Some(1.0),
        ema: None,
        seed: 0,
        factors,
    };
    CpuEngine::new(graph, settings, weights)
}

fn mask(engine: &mut CpuEngine, density: f64) {
    let parameters = engine.graph().parameters.clone();
    let mut values = Vec::new();
    for (index, parameter) in parameters.iter().enumerate() {
        if parameter.role.thresholded() {
            engine.read(Section::Weights, index, &mut values);
            let k = Structure::Unstructured.resolve_k(&parameter.shape, density);
            let mask = project(&values, &parameter.shape, Structure::Unstructured, k, None)
                .expect("random weights can be ranked");
            engine.set_mask(index, Some(mask));
        }
    }
}

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let number = |index: usize, default: usize| {
        words
            .get(index)
            .map_or(default, |word| word.parse().expect("a number"))
    };
    let network = words.first().map_or("lenet5", String::as_str);
    let (batch, threads, rounds) = (number(1, 64), number(2, 1), number(3, 60));

    let plain = engine(network, batch, threads);
    let mut lifted = engine(network, batch, threads);
    mask(&mut lifted, 0.1);
    for index in 0..lifted.graph().parameters.len() {
        lifted.set_mask(index, None);
    }
    let mut masked = engine(network, batch, threads);
    mask(&mut masked, 0.1);

    let input = plain.graph().input.iter().product::<usize>();
    let classes = plain.graph().output[0] as u32;
    let images: Vec<f32> = (0..batch * input)
        .map(|i| ((i * 7919 % 1000) as f32) / 500.0 - 1.0)
        .collect();
    let labels: Vec<u32> = (0..batch as u32).map(|i| i % classes).collect();
    let mut engines = [
        ("no sparsity", plain),
        ("dense phase", lifted),
        ("sparse phase", masked),
    ];
    let mut times = [const { Vec::new() }; 3];
    for round in 0..rounds + 3 {
        for ((_, engine), times) in engines.iter_mut().zip(&mut times) {
            let start = Instant::now();
            let examples = Examples {
                images: &images,
                labels: &labels,
            };
            engine.train_step(examples, 1e-6, round as u64);
            if round >= 3 {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    println!("{network}, batch {batch}, {threads} threads, {rounds} rounds, ms per step");
    let mut base = 0.0;
    for ((name, _), times) in engines.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let (least, median) = (times[0], times[times.len() / 2]);
        if base == 0.0 {
            base = median;
        }
        println!(
            "{name:<13} median {median:8.3}  min {least:8.3}  ratio {:.3}",
            median / base
        );
    }
}
