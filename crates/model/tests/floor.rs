//! The index takes about the entropy of the mask: H(d)/d bits for each kept weight at density d.

use std::collections::BTreeMap;

use skinny_model::{Level, Model, PackOptions, Unpacked, ValueKind, index_floor_bytes, pack};
use skinny_network::{Network, Preprocess, Tensors};
use skinny_sparsity::Mask;

/// NIN for CIFAR-10 with weights kept at random: the masks with the most information.
fn model(density: f64) -> Unpacked {
    let network = Network::load("nin-cifar10").unwrap();
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
        let mut tensor = skinny_network::Tensor::zeros(&parameter.shape);
        let dropped = |p: f64| parameter.role.thresholded() && p >= density;
        let mask = Mask::from_fn(tensor.data.len(), |_| !dropped(unit()));
        for index in mask.iter() {
            tensor.data[index] = (unit() - 0.5) as f32;
        }
        if parameter.role.thresholded() {
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

#[test]
fn the_index_comes_within_three_per_cent_of_the_floor() {
    for density in [0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02] {
        let options = PackOptions {
            level: Level::Small,
            values: ValueKind::Codebook16,
        };
        let bytes = pack(&model(density), &options, &mut |_| ()).unwrap();
        let read = Model::from_bytes(bytes).unwrap();
        let (mut index, mut floor) = (0, 0.0);
        for weight in read
            .parameters()
            .filter(|p| p.parameter().role.thresholded())
        {
            index += weight.index_bytes();
            floor += index_floor_bytes(weight.len(), weight.kept());
            let most = 1.05 * index_floor_bytes(weight.len(), weight.kept()) + 24.0;
            assert!(
                (weight.index_bytes() as f64) < most,
                "{density} {}",
                weight.name()
            );
        }
        let ratio = index as f64 / floor;
        println!("density {density}: {index} bytes, floor {floor:.0}, ratio {ratio:.4}");
        assert!(ratio < 1.01, "{density}: {ratio}");
    }
}
