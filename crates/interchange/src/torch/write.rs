//! safetensors files that PyTorch takes as they are: state dicts, and masks for `torch.nn.utils.prune`.

use std::collections::HashMap;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use skinny_network::{Graph, Operation, Tensors};
use skinny_sparsity::Mask;

use crate::error::InterchangeError;
use crate::rename::Rename;

/// The bytes of a safetensors file that `load_state_dict(strict=True)` of the same network in PyTorch accepts.
///
/// `tensors` are the weights of `graph`, in the layouts that both share: OIHW and `[out, in]`. Each batch normalization
/// gets PyTorch's counter of batches, at zero. `rename` gives layers the names that the module has.
///
/// # Errors
/// Weights that are not exactly the network's, or two that come out under one name.
pub fn state_dict_to_bytes(
    graph: &Graph,
    tensors: &Tensors,
    rename: &Rename,
) -> Result<Vec<u8>, InterchangeError> {
    tensors.check_against(graph, true)?;
    let mut files: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, tensor) in tensors.iter() {
        let bytes = tensor.data.iter().flat_map(|value| value.to_le_bytes());
        files.push((
            name.to_owned(),
            Dtype::F32,
            tensor.shape.clone(),
            bytes.collect(),
        ));
    }
    let norms = graph
        .nodes
        .iter()
        .filter(|node| matches!(node.operation, Operation::BatchNorm { .. }));
    for node in norms {
        let name = format!("{}.num_batches_tracked", node.name);
        files.push((name, Dtype::I64, Vec::new(), vec![0; 8]));
    }
    write(&files, rename)
}

/// The bytes of a safetensors file of booleans in the shapes of their weights, each under its weight's name.
///
/// `masks` gives each weight's name, shape and mask.
///
/// # Errors
/// A mask that does not have as many places as its shape, or two weights that come out under one name.
pub fn masks_to_bytes<'a>(
    masks: impl IntoIterator<Item = (&'a str, &'a [usize], &'a Mask)>,
    rename: &Rename,
) -> Result<Vec<u8>, InterchangeError> {
    let mut files = Vec::new();
    for (name, shape, mask) in masks {
        let bytes = (0..mask.len()).map(|index| u8::from(mask.get(index)));
        files.push((
            name.to_owned(),
            Dtype::BOOL,
            shape.to_vec(),
            bytes.collect(),
        ));
    }
    write(&files, rename)
}

fn write(
    files: &[(String, Dtype, Vec<usize>, Vec<u8>)],
    rename: &Rename,
) -> Result<Vec<u8>, InterchangeError> {
    let refuse = |error: safetensors::SafeTensorError| InterchangeError::Unwritable {
        format: "safetensors",
        reason: crate::error::quote(&error.to_string()),
    };
    let mut views: Vec<(String, TensorView)> = Vec::with_capacity(files.len());
    let mut names: HashMap<String, &str> = HashMap::new();
    for (name, dtype, shape, bytes) in files {
        let renamed = rename.apply(name);
        if let Some(first) = names.insert(renamed.clone(), name) {
            return Err(InterchangeError::Collision {
                first: crate::error::quote(first),
                second: crate::error::quote(name),
                name: renamed,
            });
        }
        views.push((
            renamed,
            TensorView::new(*dtype, shape.clone(), bytes).map_err(refuse)?,
        ));
    }
    // What PyTorch's own writers say, so that loaders which ask for it are content.
    let metadata = [("format".to_owned(), "pt".to_owned())].into_iter();
    safetensors::serialize(views, Some(metadata.collect())).map_err(refuse)
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;
    use skinny_network::{Network, Tensor};

    use super::*;

    #[test]
    fn a_state_dict_has_everything_under_the_names_asked_for() {
        let graph = Network::load("resnet20").unwrap().graph().unwrap();
        let tensors: Tensors = (graph.parameters.iter())
            .map(|parameter| (parameter.name.clone(), Tensor::zeros(&parameter.shape)))
            .collect();
        let rename = Rename::parse(&["conv1=stem.0"]).unwrap();
        let bytes = state_dict_to_bytes(&graph, &tensors, &rename).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("stem.0.weight").unwrap().shape(), [16, 3, 3, 3]);
        let counters = file
            .iter()
            .filter(|(name, _)| name.ends_with("num_batches_tracked"));
        let norms = graph
            .parameters
            .iter()
            .filter(|p| p.name.ends_with("running_var"))
            .count();
        assert_eq!(counters.count(), norms);
        assert_eq!(file.len(), graph.parameters.len() + norms);

        let both = Rename::parse(&["conv1=x", "fc=x"]).unwrap();
        let message = state_dict_to_bytes(&graph, &tensors, &both)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("would both become `x.weight`"),
            "{message}"
        );
        let message = state_dict_to_bytes(&graph, &Tensors::new(), &rename).unwrap_err();
        assert!(message.to_string().contains("missing"), "{message}");
    }

    #[test]
    fn masks_are_booleans_in_the_shape_of_their_weight() {
        let mut mask = Mask::none(6);
        mask.set(1, true);
        mask.set(5, true);
        let shape = [2, 3];
        let bytes = masks_to_bytes([("fc.weight", &shape[..], &mask)], &Rename::default()).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let view = file.tensor("fc.weight").unwrap();
        assert_eq!((view.dtype(), view.shape()), (Dtype::BOOL, &shape[..]));
        assert_eq!(view.data(), [0, 1, 0, 0, 0, 1]);
        let wrong = masks_to_bytes([("fc.weight", &[7][..], &mask)], &Rename::default());
        assert!(wrong.is_err());
    }
}
