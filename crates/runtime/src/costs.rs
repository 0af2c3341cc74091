//! What every kernel would cost, layer by layer.

use skinny_kernels::inference::{Choice, Method, Storage};
use skinny_network::{Network, Preprocess, Tensors};

use crate::choose;
use crate::error::RuntimeError;
use crate::fold::fold;
use crate::measure;
use crate::model::{ByModel, Model, Options};
use crate::plan::{Chooser, ConvProblem, LinearProblem, plan};

/// A convolution or linear layer and its kernels.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerCost {
    /// Name of the layer.
    pub name: String,
    /// Its weights.
    pub weights: usize,
    /// Its weights that are not zero.
    pub nonzeros: usize,
    /// Name of the kernel that it gets.
    pub chosen: String,
    /// All kernels, measured on this thread for one image, or for one piece of it in a chain of layers.
    pub kernels: Vec<KernelCost>,
}

/// A kernel and its time.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelCost {
    /// Its name.
    pub name: String,
    /// Seconds with the best size of tile.
    pub seconds: f64,
}

impl LayerCost {
    /// Seconds of a kernel.
    pub fn seconds(&self, kernel: &str) -> Option<f64> {
        let mut kernels = self.kernels.iter();
        kernels
            .find(|cost| cost.name == kernel)
            .map(|cost| cost.seconds)
    }
}

/// Measures all kernels for every convolution and linear layer: some tenths of a second per layer.
///
/// # Errors
/// As [`crate::Model::new`].
pub fn layer_costs(
    network: &Network,
    tensors: &Tensors,
    options: &Options,
) -> Result<Vec<LayerCost>, RuntimeError> {
    // Refuses what would take too much memory, before anything is measured.
    let untuned = Options {
        tune: false,
        threads: 1,
        ..options.clone()
    };
    Model::new(network, tensors, Preprocess::default(), &untuned)?;
    let graph = network.graph()?;
    let layers = fold(&graph, tensors, options.softmax)?;
    let mut costs = Costs {
        tune: options.tune,
        layers: Vec::new(),
    };
    plan(graph.input, &layers, 1, options.precision(), &mut costs);
    Ok(costs.layers)
}

/// Chooses as the options ask for, and measures everything.
struct Costs {
    tune: bool,
    layers: Vec<LayerCost>,
}

impl Chooser for Costs {
    fn convolution(&mut self, problem: &ConvProblem) -> Choice {
        let choices = choose::candidates(&problem.shape());
        let seconds = measure::convolutions(problem, &choices);
        let chosen = match self.tune {
            true => measure::fastest(&choices, &seconds),
            false => ByModel.convolution(problem),
        };
        let of = |method: Method| {
            let times = choices.iter().zip(&seconds);
            times.filter(move |(choice, _)| choice.method == method)
        };
        let kernels = Method::ALL.into_iter().filter_map(|method| {
            // Of the kernel that is used, the size of tile that is used counts.
            let used = of(method).find(|(choice, _)| **choice == chosen);
            let best = of(method).map(|(_, seconds)| *seconds).reduce(f64::min)?;
            Some(KernelCost {
                name: method.name().to_owned(),
                seconds: used.map_or(best, |(_, seconds)| *seconds),
            })
        });
        self.layers.push(LayerCost {
            name: problem.name.to_owned(),
            weights: problem.weights.values.len(),
            nonzeros: problem.nonzeros(),
            chosen: chosen.method.name().to_owned(),
            kernels: kernels.collect(),
        });
        chosen
    }

    fn linear(&mut self, problem: &LinearProblem) -> Storage {
        let storages = problem.storages();
        let seconds = measure::linears(problem, &storages);
        let chosen = match self.tune {
            true => measure::fastest(&storages, &seconds),
            false => ByModel.linear(problem),
        };
        let kernels = storages
            .iter()
            .zip(seconds)
            .map(|(storage, seconds)| KernelCost {
                name: storage.name().to_owned(),
                seconds,
            });
        self.layers.push(LayerCost {
            name: problem.name.to_owned(),
            weights: problem.values.len(),
            nonzeros: problem.nonzeros(),
            chosen: chosen.name().to_owned(),
            kernels: kernels.collect(),
        });
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skinny_network::Tensor;

    #[test]
    fn every_layer_with_weights_has_all_kernels() {
        let network = Network::load("lenet5").expect("the zoo has it");
        let mut tensors = Tensors::new();
        for parameter in network.graph().expect("it is right").parameters {
            let mut tensor = Tensor::zeros(&parameter.shape);
            tensor
                .data
                .iter_mut()
                .step_by(3)
                .for_each(|value| *value = 0.5);
            tensors.insert(&parameter.name, tensor);
        }
        let costs = layer_costs(&network, &tensors, &Options::default()).expect("it is right");
        let names: Vec<&str> = costs.iter().map(|cost| &*cost.name).collect();
        assert_eq!(names, ["conv1", "conv2", "fc1", "fc2"]);
        for cost in &costs {
            assert!(cost.seconds("dense").is_some_and(|seconds| seconds > 0.0));
            assert!(cost.seconds(&cost.chosen).is_some_and(f64::is_finite));
            assert!(cost.kernels.len() >= 3 && cost.nonzeros < cost.weights);
        }
    }
}
