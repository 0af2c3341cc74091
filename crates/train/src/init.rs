//! How parameters start.

use chacha20::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use skinny_network::{Graph, Init, Parameter, Role};

/// Initial values of every parameter of `graph`, in its order.
///
/// A parameter's values depend on the seed and on its position alone. Where the network says nothing, weights start
/// by `init`, biases and shifts at 0, scales and running variances at 1.
pub fn initialize(graph: &Graph, init: Init, seed: u64) -> Vec<Vec<f32>> {
    graph
        .parameters
        .iter()
        .enumerate()
        .map(|(index, parameter)| {
            let length = parameter.shape.iter().product();
            let init = match (parameter.init, parameter.role) {
                (Some(own), _) => own,
                (None, Role::Weight) => init,
                (None, Role::Scale | Role::RunningVar) => Init::Constant { value: 1.0 },
                (None, Role::Bias | Role::Shift | Role::RunningMean) => {
                    Init::Constant { value: 0.0 }
                }
            };
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(index as u64);
            values(init, parameter, length, &mut random)
        })
        .collect()
}

fn values(init: Init, parameter: &Parameter, length: usize, random: &mut ChaCha8Rng) -> Vec<f32> {
    let (fan_in, fan_out) = (parameter.fan_in.max(1) as f64, parameter.fan_out as f64);
    match init {
        Init::Constant { value } => vec![value; length],
        Init::Gaussian { std } => normal(f64::from(std), length, random),
        // He et al. 2015: keeps the variance of activations through ReLU.
        Init::He => normal((2.0 / fan_in).sqrt(), length, random),
        // Glorot & Bengio 2010.
        Init::Xavier => uniform((6.0 / (fan_in + fan_out)).sqrt(), length, random),
        Init::Uniform { bound } => uniform(f64::from(bound), length, random),
    }
}

fn uniform(bound: f64, length: usize, random: &mut ChaCha8Rng) -> Vec<f32> {
    (0..length)
        .map(|_| ((random.random::<f64>() * 2.0 - 1.0) * bound) as f32)
        .collect()
}

/// Box & Muller's transform, two values from two.
fn normal(std: f64, length: usize, random: &mut ChaCha8Rng) -> Vec<f32> {
    let mut values = Vec::with_capacity(length + 1);
    while values.len() < length {
        // 1 − u lies in (0, 1], whose logarithm is finite.
        let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt() * std;
        let angle = std::f64::consts::TAU * random.random::<f64>();
        values.push((radius * angle.cos()) as f32);
        values.push((radius * angle.sin()) as f32);
    }
    values.truncate(length);
    values
}

#[cfg(test)]
mod tests {
    use skinny_network::Network;

    use super::*;

    fn moments(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values
            .iter()
            .map(|&v| (f64::from(v) - mean).powi(2))
            .sum::<f64>()
            / n;
        (mean, variance.sqrt())
    }

    #[test]
    fn he_and_xavier_have_their_standard_deviations() {
        let graph = Network::load("lenet5").unwrap().graph().unwrap();
        let fc1 = graph
            .parameters
            .iter()
            .position(|p| p.name == "fc1.weight")
            .unwrap();
        let (mean, deviation) = moments(&initialize(&graph, Init::He {}, 7)[fc1]);
        assert!(mean.abs() < 3e-4 && (deviation - (2.0f64 / 800.0).sqrt()).abs() < 3e-4);
        let xavier = &initialize(&graph, Init::Xavier {}, 7)[fc1];
        let bound = (6.0f64 / 1300.0).sqrt();
        let (_, deviation) = moments(xavier);
        assert!((deviation - bound / 3f64.sqrt()).abs() < 3e-4);
        assert!(xavier.iter().all(|v| f64::from(v.abs()) <= bound));
    }

    #[test]
    fn the_networks_own_initialization_wins() {
        let graph = Network::load("nin-mnist").unwrap().graph().unwrap();
        let start = initialize(&graph, Init::He {}, 0);
        let (_, deviation) = moments(
            &start[graph
                .parameters
                .iter()
                .position(|p| p.name == "conv2.weight")
                .unwrap()],
        );
        assert!((deviation - 0.05).abs() < 1e-3);
    }

    #[test]
    fn seeds_differ_and_repeat() {
        let graph = Network::load("lenet5").unwrap().graph().unwrap();
        assert_eq!(
            initialize(&graph, Init::He {}, 1),
            initialize(&graph, Init::He {}, 1)
        );
        assert_ne!(
            initialize(&graph, Init::He {}, 1)[0],
            initialize(&graph, Init::He {}, 2)[0]
        );
    }
}
