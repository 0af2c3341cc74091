//! How long training steps take, on random pictures of the right shape.

use std::time::{Duration, Instant};

use skinny_network::{Graph, Node, Source};
use skinny_sparsity::{Edge, Score};

use crate::TrainError;
use crate::checkpoint::Memory;
use crate::engine::cpu::CpuEngine;
use crate::engine::{Engine, Examples};
use crate::flip;
use crate::init::initialize;
use crate::resolved::Resolved;

/// A network ready to be trained on one random batch, again and again.
pub struct StepBenchmark {
    engine: CpuEngine,
    images: Vec<f32>,
    labels: Vec<u32>,
    steps: u64,
}

/// What one layer costs in a step.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTime {
    /// The layer's name.
    pub name: String,
    /// Seconds of a step's forward pass, the times of all threads together.
    pub forward: f64,
    /// Seconds of a step's backward pass, the times of all threads together.
    pub backward: f64,
    /// Floating-point operations of a step as if no weight were zero.
    pub operations: f64,
    /// Whether only kept weights are multiplied.
    pub sparse: bool,
}

impl StepBenchmark {
    /// The network of a recipe with its optimizer and batch; with a density, in a sparse phase of it.
    pub fn new(
        resolved: &Resolved,
        threads: usize,
        density: Option<f64>,
    ) -> Result<StepBenchmark, TrainError> {
        let settings = resolved.engine_settings(threads);
        let graph = resolved.graph.clone();
        let (batch, seed) = (settings.batch, settings.seed);
        let weights = initialize(&graph, resolved.recipe.train.init, seed);
        let mut engine = CpuEngine::new(graph, settings, weights);
        if let Some(density) = density {
            let mut by_magnitude = resolved.clone();
            by_magnitude.recipe.sparsity.score = Score::Magnitude;
            let mut memory = vec![Memory::default(); resolved.graph.parameters.len()];
            let edge = Edge::Threshold { density };
            flip::apply(&by_magnitude, &mut engine, &mut memory, edge, 0)?;
        }
        let length: usize = resolved.graph.input.iter().product();
        let classes = resolved.graph.output[0] as u32;
        Ok(StepBenchmark {
            engine,
            images: (0..batch * length)
                .map(|at| ((at * 7919 % 1000) as f32) / 500.0 - 1.0)
                .collect(),
            labels: (0..batch as u32).map(|at| at % classes).collect(),
            steps: 0,
        })
    }

    /// Makes one step and says how long it took.
    pub fn step(&mut self) -> Duration {
        let start = Instant::now();
        let examples = Examples {
            images: &self.images,
            labels: &self.labels,
        };
        // So small a rate that weights stay finite however many steps are made.
        self.engine.train_step(examples, 1e-6, self.steps);
        self.steps += 1;
        start.elapsed()
    }

    /// Measures every layer from now on.
    pub fn time_layers(&mut self) {
        self.engine.time_layers();
        self.steps = 0;
    }

    /// The layers' times in a step, the mean of all steps since [`Self::time_layers`].
    pub fn layers(&self) -> Vec<LayerTime> {
        let graph = self.engine.graph();
        let steps = self.steps.max(1) as f64;
        let batch = self.labels.len() as f64;
        let times = self.engine.layer_times().into_iter().zip(&graph.nodes);
        times
            .map(|([forward, backward], node)| LayerTime {
                name: node.name.clone(),
                forward: forward / steps,
                backward: backward / steps,
                operations: operations(graph, node) * batch,
                sparse: node
                    .parameters
                    .clone()
                    .any(|parameter| self.engine.is_sparse(parameter)),
            })
            .collect()
    }

    /// Floating-point operations of a step as if no weight were zero, 2 per multiply-add.
    pub fn operations(&self) -> f64 {
        let graph = self.engine.graph();
        let all: f64 = graph.nodes.iter().map(|node| operations(graph, node)).sum();
        all * self.labels.len() as f64
    }

    /// Weights that are not masked, and all of them.
    pub fn kept(&self) -> [usize; 2] {
        let mut counts = [0; 2];
        for (index, parameter) in self.engine.graph().parameters.iter().enumerate() {
            if parameter.role.thresholded() {
                counts[0] += self
                    .engine
                    .mask(index)
                    .map_or(parameter.len(), |mask| mask.count());
                counts[1] += parameter.len();
            }
        }
        counts
    }
}

/// Operations of one image: a forward product, one for the weights' gradient, and one for the input's where something
/// before the layer learns.
fn operations(graph: &Graph, node: &Node) -> f64 {
    let learns = |source: &Source| match source {
        Source::Input => false,
        Source::Node(index) => graph.nodes[..=*index]
            .iter()
            .any(|node| !node.parameters.is_empty()),
    };
    let products = 2 + usize::from(node.inputs.iter().any(learns));
    2.0 * products as f64 * node.macs as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    #[test]
    fn a_benchmark_steps_and_knows_what_it_did() {
        let recipe = Recipe::load("glyphs-lenet5-iht-10x", &["data.batch=4".into()]).unwrap();
        let resolved = Resolved::new(recipe, 400).unwrap();
        let mut benchmark = StepBenchmark::new(&resolved, 1, Some(0.1)).unwrap();
        let [kept, all] = benchmark.kept();
        assert_eq!(kept, (all as f64 / 10.0).round() as usize);
        benchmark.time_layers();
        assert!(benchmark.step() > Duration::ZERO);
        let layers = benchmark.layers();
        assert_eq!(layers.len(), resolved.graph.nodes.len());
        assert!(layers.iter().any(|layer| layer.sparse));
        let sum: f64 = layers.iter().map(|layer| layer.operations).sum();
        assert!((sum - benchmark.operations()).abs() < 1.0);
    }

    #[test]
    fn the_first_layer_needs_no_input_gradient() {
        let graph = skinny_network::Network::load("nin-cifar10")
            .unwrap()
            .graph()
            .unwrap();
        let all: f64 = graph
            .nodes
            .iter()
            .map(|node| operations(&graph, node))
            .sum();
        let macs: u64 = graph.nodes.iter().map(|node| node.macs).sum();
        let first = graph.nodes[0].macs;
        assert_eq!(all, (6 * macs - 2 * first) as f64);
    }
}
