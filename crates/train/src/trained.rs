//! A finished network, ready to be measured and used.

use skinny_model::Unpacked;
use skinny_network::{Graph, Parameter, Role, Tensors};

use crate::TrainError;
use crate::engine::cpu::CpuEngine;
use crate::engine::{EngineSettings, Factors};
use crate::optimizer::Optimizer;

/// A network with its weights in an engine: what `skinny eval` and `skinny predict` ask about a run.
pub struct Trained {
    /// The network as it was given.
    pub model: Unpacked,
    /// Its engine, which holds the weights of the model.
    pub engine: CpuEngine,
}

impl Trained {
    /// Puts a network into an engine that takes up to `batch` pictures at once.
    ///
    /// # Errors
    /// Tensors or preprocessing that are not the network's, or a value that is not finite.
    pub fn new(model: Unpacked, batch: usize, threads: usize) -> Result<Trained, TrainError> {
        let graph = (model.network.graph()).map_err(crate::RecipeError::from)?;
        model.preprocess.check(graph.input)?;
        model.tensors.check_against(&graph, true)?;
        model.tensors.check_finite()?;
        let values = |parameter: &Parameter| {
            let tensor = model.tensors.get(&parameter.name);
            tensor.map(|tensor| tensor.data.clone()).unwrap_or_default()
        };
        let weights = graph.parameters.iter().map(values).collect();
        // Nothing of this is used, because no step is ever taken.
        let settings = EngineSettings {
            batch,
            threads,
            optimizer: Optimizer::Sgd {
                momentum: 0.0,
                weight_decay: 0.0,
                nesterov: false,
            },
            label_smoothing: 0.0,
            clip_norm: None,
            ema: None,
            seed: 0,
            factors: vec![
                Factors {
                    lr: 1.0,
                    decay: 1.0
                };
                graph.parameters.len()
            ],
        };
        let engine = CpuEngine::new(graph, settings, weights);
        Ok(Trained { model, engine })
    }
}

/// Trainable parameters of a network that are not dropped: of weights those that are not zero, of others all.
pub fn nonzeros(graph: &Graph, tensors: &Tensors) -> usize {
    let parameters = graph.parameters.iter().filter(|p| p.role.trainable());
    parameters
        .map(
            |parameter| match (parameter.role, tensors.get(&parameter.name)) {
                (Role::Weight, Some(tensor)) => {
                    tensor.data.iter().filter(|value| **value != 0.0).count()
                }
                _ => parameter.len(),
            },
        )
        .sum()
}
