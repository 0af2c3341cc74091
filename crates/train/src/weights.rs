//! Weights out of files: those that a run starts from, and those that are measured.

use std::path::Path;

use skinny_interchange::{Imported, InterchangeError, Options, Source};
use skinny_network::{Graph, Tensors};

use crate::init::initialize;
use crate::resolved::Resolved;
use crate::{Recipe, TrainError};

impl Recipe {
    /// The weights that the recipe starts from, if it names some, matched with the parameters of its network: by
    /// default exactly those, with `network.import` perhaps only some of them.
    ///
    /// # Errors
    /// A file that cannot be read, weights that do not match, or one that is not finite.
    pub fn starting_weights(&self, graph: &Graph) -> Result<Option<Imported>, TrainError> {
        let path = self.network.weights.as_deref();
        path.map(|path| read(path, graph, &self.network.import))
            .transpose()
    }
}

/// The weights of a file for a network; any of the formats of [`Source`].
pub(crate) fn read(path: &Path, graph: &Graph, options: &Options) -> Result<Imported, TrainError> {
    let source = Source::open(path)?;
    let refuse = |reason: String, cure: &str| TrainError::Read {
        path: path.to_path_buf(),
        reason,
        cure: cure.into(),
    };
    let imported = skinny_interchange::import(&source, graph, options).map_err(|error| {
        let cure = match error {
            InterchangeError::Mismatch { .. } => {
                "give weights of this network, or name theirs in the recipe's [network]; `skinny import` lists and matches them"
            }
            _ => "give other weights",
        };
        refuse(error.to_string(), cure)
    })?;
    for (name, tensor) in imported.tensors.iter() {
        if let Some(value) = tensor.data.iter().find(|value| !value.is_finite()) {
            return Err(refuse(
                format!("{name} has a value {value}"),
                "give weights that are finite",
            ));
        }
    }
    Ok(imported)
}

/// The weights before the first step, in the order of the graph: those of the recipe's file, random ones where there are
/// none.
pub(crate) fn initial(resolved: &Resolved) -> Result<Vec<Vec<f32>>, TrainError> {
    let (recipe, graph) = (&resolved.recipe, &resolved.graph);
    match recipe.starting_weights(graph)? {
        Some(imported)
            if imported.mismatches.missing.is_empty()
                && imported.mismatches.wrong_shape.is_empty() =>
        {
            Ok(in_order(graph, imported.tensors, Vec::new()))
        }
        Some(imported) => {
            let random = initialize(graph, recipe.train.init, recipe.seed);
            Ok(in_order(graph, imported.tensors, random))
        }
        None => Ok(initialize(graph, recipe.train.init, recipe.seed)),
    }
}

/// Takes each parameter out of `tensors`, or out of `others` where it is not among them.
fn in_order(graph: &Graph, mut tensors: Tensors, others: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    let mut others = others.into_iter();
    (graph.parameters.iter())
        .map(|parameter| {
            let other = others.next().unwrap_or_default();
            let own = tensors.remove(&parameter.name);
            own.map_or(other, |tensor| tensor.data)
        })
        .collect()
}
