//! Pictures per second of the loader on a set like MNIST in memory, as it is and with augmentation.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use skinny_data::{Dataset, Loader, LoaderOptions};

const PICTURES: usize = 20_000;

fn loader(criterion: &mut Criterion) {
    let length = 28 * 28;
    let names = (0..10).map(|digit| digit.to_string()).collect();
    let labels = (0..PICTURES as u32).map(|n| n % 10).collect();
    let pixels = (0..PICTURES * length)
        .map(|i| (i as u32).wrapping_mul(2_654_435_761).rotate_left(11) as u8)
        .collect();
    let dataset =
        Arc::new(Dataset::in_memory("like-mnist", [1, 28, 28], names, labels, pixels).unwrap());
    let preprocess = dataset.preprocess().unwrap();

    let mut group = criterion.benchmark_group("loader");
    group
        .throughput(Throughput::Elements(PICTURES as u64))
        .sample_size(10);
    for (name, augment) in [
        ("plain", &[][..]),
        ("shift", &["shift:2"]),
        ("affine", &["affine:10,0.1,5"]),
    ] {
        for workers in [1, 2] {
            let options = LoaderOptions {
                workers,
                augment: augment.iter().map(|text| text.parse().unwrap()).collect(),
                ..LoaderOptions::training(128, 1, 0)
            };
            group.bench_function(
                BenchmarkId::new(name, format!("{workers} workers")),
                |bencher| {
                    bencher.iter(|| {
                        for batch in
                            Loader::new(Arc::clone(&dataset), &preprocess, options.clone()).unwrap()
                        {
                            black_box(&batch.unwrap().images);
                        }
                    });
                },
            );
        }
    }
    group.finish();
}

criterion_group!(benches, loader);
criterion_main!(benches);
