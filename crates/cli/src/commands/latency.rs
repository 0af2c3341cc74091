//! The latency of a finished run, for the table at its end.

use std::time::{Duration, Instant};

use skinny::network::{Graph, Network, Parameter, Preprocess, Tensor, Tensors};
use skinny::runtime::{Model, Options, Runner, RuntimeError};
use skinny::sparsity::Method;
use skinny::train::RunFolder;

use crate::commands::bench::samples::Samples;
use crate::failure::Failure;

/// How long is measured: noise comes in waves, and nobody wants to wait.
const TIME: Duration = Duration::from_millis(600);
/// Turns of both models at least.
const TURNS: usize = 3;
/// Of one model at a time.
const SLICE: Duration = Duration::from_millis(20);

/// Milliseconds that the runtime takes for one image on one thread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// With every weight, as if none had been dropped; what they are makes no difference.
    pub dense: f64,
    /// With the weights of the run.
    pub skinny: f64,
}

impl Latency {
    /// Measures the last weights of a run.
    pub fn of(folder: &RunFolder) -> Result<Latency, Failure> {
        let run = folder.unpacked("last")?;
        let ready = |network: &Network, tensors: &Tensors| -> Result<Model, RuntimeError> {
            let options = Options::default();
            Model::new(network, tensors, Preprocess::default(), &options)
        };
        let recipe = folder.recipe()?;
        let dense = match recipe.sparsity.method {
            // The network of the run is a thinner one.
            Method::SmallDense => {
                let whole = recipe.whole_network()?;
                ready(&whole, &means(&whole.graph()?))?
            }
            _ => ready(&run.network, &without_zeros(&run.tensors))?,
        };
        let models = [dense, ready(&run.network, &run.tensors)?];
        let image = vec![0.5; models[0].input_len()];
        let mut result = vec![0.0; models[0].output_len()];
        let mut runners = [models[0].runner(), models[1].runner()];
        let mut samples = [Samples::default(), Samples::default()];
        let start = Instant::now();
        let mut turn = 0;
        while turn < TURNS || start.elapsed() < TIME {
            for (runner, samples) in runners.iter_mut().zip(&mut samples) {
                samples.extend(seconds(runner, &image, &mut result)?);
            }
            turn += 1;
        }
        let [dense, skinny] = samples.map(|samples| 1e3 * samples.median());
        Ok(Latency { dense, skinny })
    }
}

/// Seconds of single runs, of which the first after another model's is left out.
fn seconds(runner: &mut Runner, image: &[f32], result: &mut [f32]) -> Result<Vec<f64>, Failure> {
    runner.run(image, result)?;
    let mut seconds = Vec::new();
    let begin = Instant::now();
    while seconds.is_empty() || begin.elapsed() < SLICE {
        let start = Instant::now();
        runner.run(image, result)?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(seconds)
}

/// Weights by which every output is the mean of its inputs, so that values keep their scale.
fn means(graph: &Graph) -> Tensors {
    let tensor = |parameter: &Parameter| {
        let inputs: usize = parameter.shape[1..].iter().product();
        let data = vec![1.0 / inputs as f32; parameter.len()];
        let shape = parameter.shape.clone();
        (parameter.name.clone(), Tensor { shape, data })
    };
    graph.parameters.iter().map(tensor).collect()
}

/// The same tensors with a small value in place of every zero.
fn without_zeros(tensors: &Tensors) -> Tensors {
    let mut dense = Tensors::new();
    for (name, tensor) in tensors.iter() {
        let mut tensor = tensor.clone();
        let zeros = tensor.data.iter_mut().filter(|value| **value == 0.0);
        zeros.for_each(|value| *value = 1e-3);
        dense.insert(name, tensor);
    }
    dense
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn zeros_alone_are_replaced() {
        let mut tensors = Tensors::new();
        let tensor = Tensor {
            shape: vec![3],
            data: vec![0.0, -2.0, -0.0],
        };
        tensors.insert("a.weight", tensor);
        let dense = without_zeros(&tensors);
        let data = dense.get("a.weight").map(|tensor| tensor.data.clone());
        assert_eq!(data, Some(vec![1e-3, -2.0, 1e-3]));
    }
}
