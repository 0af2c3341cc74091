//! Models for tests.

use std::collections::BTreeMap;

use skinny_model::Unpacked;
use skinny_network::{Network, Preprocess, Tensor, Tensors};
use skinny_sparsity::Mask;

/// Numbers from 0 up to 1, the same for the same seed.
pub fn numbers(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Random weights, of which `density(name, row, column)` says how likely each is kept; among the kept ones are zeros of both signs.
/// Without masks there are no kept zeros, which only a mask can tell.
pub fn random(
    network: Network,
    seed: u64,
    with_masks: bool,
    density: impl Fn(&str, usize, usize) -> f64,
) -> Unpacked {
    let mut unit = numbers(seed);
    let mut tensors = Tensors::new();
    let mut masks = BTreeMap::new();
    for parameter in network.graph().unwrap().parameters {
        let mut tensor = Tensor::zeros(&parameter.shape);
        let columns = tensor.data.len() / parameter.shape[0];
        let thresholded = parameter.role.thresholded();
        let mask = Mask::from_fn(tensor.data.len(), |index| {
            !thresholded || unit() < density(&parameter.name, index / columns, index % columns)
        });
        for index in mask.iter() {
            tensor.data[index] = match unit() {
                p if p < 0.02 && with_masks && thresholded => 0.0,
                p if p < 0.04 && with_masks && thresholded => -0.0,
                _ => ((unit() + unit() + unit() - 1.4) * 0.05) as f32,
            };
        }
        if with_masks && thresholded {
            masks.insert(parameter.name.clone(), mask);
        }
        tensors.insert(parameter.name, tensor);
    }
    Unpacked {
        network,
        preprocess: Preprocess {
            mean: vec![0.25],
            labels: vec!["a \"b\"".into()],
            ..Preprocess::default()
        },
        tensors,
        masks,
    }
}

/// Layers of such densities and sizes that every encoding is the smallest of some.
#[allow(dead_code)]
pub fn many_densities() -> Unpacked {
    let network = Network::from_toml(
        r#"
name = "many"
input = [3, 6, 6]
layers = [
    { name = "tiny", type = "conv", out = 4, kernel = 3, padding = 1, bias = false },
    { name = "norm", type = "batchnorm" },
    { name = "flatten", type = "flatten" },
    { name = "full", type = "linear", out = 30 },
    { name = "half", type = "linear", out = 90 },
    { name = "wide", type = "linear", out = 900 },
    { name = "rare", type = "linear", out = 60 },
    { name = "uneven", type = "linear", out = 200 },
    { name = "last", type = "linear", out = 3 },
]
"#,
    )
    .unwrap();
    random(network, 7, true, |name, row, column| match name {
        "full.weight" => 1.0,
        "half.weight" => 0.5,
        "wide.weight" => 0.1,
        "rare.weight" => 0.002,
        "uneven.weight" => 0.3 * f64::from(row % 3 == 0) * f64::from(column % 4 == 0),
        _ => 0.2,
    })
}
