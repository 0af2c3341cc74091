//! Projection of AlexNet's 61 million weights and the cost of applying a mask, on one core.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use skinny_sparsity::{Mask, Score, Structure, project};
use std::hint::black_box;

/// Shapes of AlexNet's weights (grouped, bvlc).
const ALEXNET: [&[usize]; 8] = [
    &[96, 3, 11, 11],
    &[256, 48, 5, 5],
    &[384, 256, 3, 3],
    &[384, 192, 3, 3],
    &[256, 192, 3, 3],
    &[4096, 9216],
    &[4096, 4096],
    &[1000, 4096],
];
const DENSITY: f64 = 0.1;

/// Weights spread like trained ones: the sum of independent uniform numbers, around 0.
fn weights(shape: &[usize], layer: u64) -> Vec<f32> {
    let zeros = vec![0.0; shape.iter().product()];
    let draw = |seed| Score::Random { seed: Some(seed) }.of(&zeros, None, layer);
    let mut sum = zeros.clone();
    for seed in 0..4 {
        let uniform = draw(seed).expect("random scores need nothing");
        sum.iter_mut()
            .zip(uniform.iter())
            .for_each(|(s, u)| *s += (u - 0.5) * 0.02);
    }
    sum
}

fn projection(c: &mut Criterion) {
    let layers: Vec<(&[usize], Vec<f32>)> = (0..)
        .zip(ALEXNET)
        .map(|(layer, shape)| (shape, weights(shape, layer)))
        .collect();
    let total: usize = layers.iter().map(|(_, weights)| weights.len()).sum();
    let masks = |structure: Structure| -> Vec<Mask> {
        let one = |(shape, weights): &(&[usize], Vec<f32>)| {
            let density = structure.fixed_density().unwrap_or(DENSITY);
            project(
                weights,
                shape,
                structure,
                structure.resolve_k(shape, density),
                None,
            )
            .expect("weights are finite")
        };
        layers.iter().map(one).collect()
    };

    let mut group = c.benchmark_group("alexnet");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(total as u64));
    for name in ["unstructured", "2:4", "block:4x1", "filter"] {
        let structure = name.parse().expect("a structure");
        group.bench_function(name, |b| b.iter(|| masks(black_box(structure))));
    }
    group.bench_function("unstructured within the support", |b| {
        let supports = masks(Structure::Unstructured);
        b.iter(|| {
            for ((shape, weights), support) in layers.iter().zip(&supports) {
                let k = support.count() / 2;
                let mask = project(weights, shape, Structure::Unstructured, k, Some(support));
                black_box(mask.expect("weights are finite"));
            }
        })
    });
    group.finish();

    let (_, fc6) = &layers[5];
    let mask = &masks(Structure::Unstructured)[5];
    let mut group = c.benchmark_group("fc6");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(fc6.len() as u64));
    group.bench_function("apply", |b| {
        b.iter_batched_ref(|| fc6.clone(), |w| mask.apply(w), BatchSize::LargeInput)
    });
    group.finish();
}

criterion_group!(benches, projection);
criterion_main!(benches);
