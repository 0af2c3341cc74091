//! Weights to try, the same on every machine.

use skinny_network::{Graph, Role, Tensor, Tensors};

/// Numbers in [-1, 1) that depend on a name alone.
pub fn numbers(name: &str, count: usize) -> Vec<f32> {
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    (0..count)
        .map(|_| {
            // splitmix64
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((word ^ word >> 31) >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

/// Weights that keep activations of the same size from layer to layer, three quarters of them zeros; some are −0.0.
pub fn weights(graph: &Graph) -> Tensors {
    let tensor = |parameter: &skinny_network::Parameter| {
        let count = parameter.len();
        let values = numbers(&parameter.name, count).into_iter();
        let kept = numbers(&format!("{}.mask", parameter.name), count).into_iter();
        let scale = (6.0 / parameter.fan_in as f32 / 0.25).sqrt();
        let data = values.zip(kept).map(|(value, kept)| match parameter.role {
            Role::Weight if kept > 0.5 => value * scale,
            Role::Weight => 0.0f32.copysign(value),
            Role::Scale => 1.0 + 0.3 * value,
            Role::RunningVar => 1.0 + 0.5 * value,
            Role::Bias | Role::Shift | Role::RunningMean => 0.1 * value,
        });
        Tensor {
            shape: parameter.shape.clone(),
            data: data.collect(),
        }
    };
    (graph.parameters.iter())
        .map(|parameter| (parameter.name.clone(), tensor(parameter)))
        .collect()
}
