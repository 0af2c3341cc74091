//! How long it takes to pack and to load: AlexNet at 10x, with weights kept at random.

use std::collections::BTreeMap;

use criterion::{Criterion, criterion_group, criterion_main};
use skinny_model::{Level, Model, PackOptions, Unpacked, ValueKind, pack};
use skinny_network::{Network, Preprocess, Tensor, Tensors};
use skinny_sparsity::Mask;

fn alexnet(density: f64) -> Unpacked {
    let network = Network::load("alexnet").unwrap();
    let mut state = 88_172_645_463_325_252u64;
    let mut unit = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut tensors = Tensors::new();
    let mut masks = BTreeMap::new();
    for parameter in network.graph().unwrap().parameters {
        let mut tensor = Tensor::zeros(&parameter.shape);
        let thresholded = parameter.role.thresholded();
        let mask = Mask::from_fn(tensor.data.len(), |_| !thresholded || unit() < density);
        for index in mask.iter() {
            // About normal, as the sum of uniform numbers is.
            tensor.data[index] = ((unit() + unit() + unit() + unit() - 2.0) * 0.05) as f32;
        }
        if thresholded {
            masks.insert(parameter.name.clone(), mask);
        }
        tensors.insert(parameter.name, tensor);
    }
    Unpacked {
        network,
        preprocess: Preprocess::default(),
        tensors,
        masks,
    }
}

fn benches(criterion: &mut Criterion) {
    let model = alexnet(0.1);
    let folder = tempfile::tempdir().unwrap();
    let mut group = criterion.benchmark_group("alexnet-10x");
    group.sample_size(10);
    for (name, level, values) in [
        ("fast-f32", Level::Fast, ValueKind::F32),
        ("fast-int8", Level::Fast, ValueKind::Int8),
        ("small-f32", Level::Small, ValueKind::F32),
        ("small-codebook16", Level::Small, ValueKind::Codebook16),
    ] {
        let options = PackOptions { level, values };
        let path = folder.path().join(name);
        let bytes = pack(&model, &options, &mut |_| ()).unwrap();
        println!("{name}: {} bytes", bytes.len());
        std::fs::write(&path, bytes).unwrap();
        group.bench_function(format!("load/{name}"), |bencher| {
            bencher.iter(|| Model::load(&path).unwrap());
        });
        let read = Model::load(&path).unwrap();
        group.bench_function(format!("masks-and-values/{name}"), |bencher| {
            bencher.iter(|| {
                let parts = read.parameters().map(|p| (p.mask(), p.values()));
                parts.collect::<Vec<_>>()
            });
        });
        group.bench_function(format!("pack/{name}"), |bencher| {
            bencher.iter(|| pack(&model, &options, &mut |_| ()).unwrap());
        });
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
