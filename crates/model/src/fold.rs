//! Batch normalizations folded into the layers before them.

use skinny_network::{Operation, Role, Source, Tensor};
use skinny_sparsity::Mask;

use crate::error::ModelError;
use crate::pack::Unpacked;

impl Unpacked {
    /// Folds every batch normalization that alone reads a convolution or linear layer into that layer: its scale into the weights,
    /// its shift into a bias. Gives the number of those folded.
    ///
    /// The network computes the same up to rounding, with fewer layers and fewer bytes. Dropped weights stay dropped.
    ///
    /// # Errors
    /// A network that is not valid, or tensors that are not the network's.
    pub fn fold_batchnorm(&mut self) -> Result<usize, ModelError> {
        let mut folded = 0;
        while let Some(norm) = self.foldable()? {
            self.fold(norm)?;
            folded += 1;
        }
        Ok(folded)
    }

    /// The place of a batch normalization that can be folded.
    fn foldable(&self) -> Result<Option<usize>, ModelError> {
        let graph = self.network.graph()?;
        let readers = |place: usize| {
            let sources = graph.nodes.iter().flat_map(|node| &node.inputs);
            sources.filter(|s| **s == Source::Node(place)).count()
        };
        Ok(graph.nodes.iter().position(|node| {
            let Operation::BatchNorm { .. } = node.operation else {
                return false;
            };
            let Source::Node(place) = node.inputs[0] else {
                return false;
            };
            let before = &graph.nodes[place].operation;
            matches!(before, Operation::Conv(_) | Operation::Linear(_)) && readers(place) == 1
        }))
    }

    fn fold(&mut self, norm: usize) -> Result<(), ModelError> {
        let graph = self.network.graph()?;
        self.tensors.check_against(&graph, true)?;
        let node = &graph.nodes[norm];
        let (Source::Node(place), Operation::BatchNorm { eps, .. }) =
            (node.inputs[0], &node.operation)
        else {
            unreachable!("only a batch normalization over a layer is folded");
        };
        let mut take = |role: Role| {
            let parameter = (graph.parameters_of(node).iter())
                .find(|parameter| parameter.role == role)
                .expect("a batch normalization has every role");
            let tensor = self.tensors.remove(&parameter.name);
            tensor.expect("the tensors were checked").data
        };
        let [scale, shift] = [take(Role::Scale), take(Role::Shift)];
        let [mean, variance] = [take(Role::RunningMean), take(Role::RunningVar)];
        let factors: Vec<f64> = (scale.iter().zip(&variance))
            .map(|(scale, variance)| {
                f64::from(*scale) / (f64::from(*variance) + f64::from(*eps)).sqrt()
            })
            .collect();
        if factors.iter().any(|factor| !factor.is_finite()) {
            return Err(ModelError::Unpackable {
                name: format!("{}.running_var", node.name),
                reason: "it has a variance that gives no finite factor; the file is damaged, take other weights"
                    .into(),
            });
        }

        let name = graph.nodes[place].name.clone();
        let weight = format!("{name}.weight");
        let mask = self.masks.get(&weight);
        if let Some(tensor) = self.tensors.get_mut(&weight) {
            scale_rows(tensor, &factors, mask);
        }
        let bias_name = format!("{name}.bias");
        let old = self.tensors.remove(&bias_name).map(|bias| bias.data);
        let bias: Vec<f32> = (0..factors.len())
            .map(|row| {
                let old = old.as_ref().map_or(0.0, |bias| f64::from(bias[row]));
                ((old - f64::from(mean[row])) * factors[row] + f64::from(shift[row])) as f32
            })
            .collect();
        let shape = vec![bias.len()];
        let tensor = Tensor { shape, data: bias };
        self.tensors.insert(bias_name, tensor);
        self.remove_layer(norm, place);
        Ok(())
    }

    /// Takes a layer out; who read it reads the layer at `place`, which gets a bias.
    fn remove_layer(&mut self, removed: usize, place: usize) {
        let layers = &mut self.network.layers;
        match &mut layers[place].operation {
            Operation::Conv(conv) => conv.bias = true,
            Operation::Linear(linear) => linear.bias = true,
            _ => unreachable!("only convolutions and linear layers take a bias"),
        }
        let (old, new) = (layers[removed].name.clone(), layers[place].name.clone());
        for (index, layer) in layers.iter_mut().enumerate().skip(removed + 1) {
            match &mut layer.inputs {
                Some(names) => {
                    for name in names.iter_mut().filter(|name| **name == old) {
                        *name = new.clone();
                    }
                }
                // Who read the layer before without naming it still does, if that is the folded layer's.
                None if index == removed + 1 && place + 1 != removed => {
                    layer.inputs = Some(vec![new.clone()]);
                }
                None => {}
            }
        }
        layers.remove(removed);
    }
}

/// Multiplies each row with its factor. What is dropped keeps its bits: a negative factor would make it −0.0.
fn scale_rows(tensor: &mut Tensor, factors: &[f64], mask: Option<&Mask>) {
    let columns = tensor.data.len() / factors.len();
    for (index, value) in tensor.data.iter_mut().enumerate() {
        let kept = mask.map_or(*value != 0.0, |mask| mask.get(index));
        if kept {
            *value = (f64::from(*value) * factors[index / columns]) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use skinny_network::{Network, Preprocess, Tensors};

    use super::*;

    fn model() -> Unpacked {
        let network = Network::from_toml(
            r#"
name = "test"
input = [1, 2, 2]
[[layers]]
name = "a"
type = "conv"
out = 2
kernel = 1
bias = false
[[layers]]
name = "b"
type = "relu"
inputs = ["input"]
[[layers]]
name = "norm"
type = "batchnorm"
eps = 0.25
inputs = ["a"]
[[layers]]
name = "c"
type = "conv"
out = 1
kernel = 1
[[layers]]
name = "last"
type = "batchnorm"
inputs = ["b"]
[[layers]]
name = "d"
type = "add"
inputs = ["c", "last"]
"#,
        )
        .unwrap();
        let values = [
            ("a.weight", vec![2.0, 0.0]),
            ("norm.weight", vec![3.0, -1.0]),
            ("norm.bias", vec![0.5, 0.25]),
            ("norm.running_mean", vec![1.0, 2.0]),
            ("norm.running_var", vec![3.75, 15.75]),
            ("c.weight", vec![1.0, 1.0]),
            ("c.bias", vec![0.0]),
            ("last.weight", vec![1.0]),
            ("last.bias", vec![0.0]),
            ("last.running_mean", vec![0.0]),
            ("last.running_var", vec![1.0]),
        ];
        let graph = network.graph().unwrap();
        let tensors: Tensors = values
            .into_iter()
            .map(|(name, data)| {
                let shape = graph.parameter(name).unwrap().shape.clone();
                (name.to_owned(), Tensor { shape, data })
            })
            .collect();
        Unpacked {
            network,
            preprocess: Preprocess::default(),
            tensors,
            masks: BTreeMap::new(),
        }
    }

    #[test]
    fn a_variance_that_makes_no_numbers_is_refused() {
        let mut model = model();
        model.tensors.get_mut("norm.running_var").unwrap().data[1] = -2.0;
        let error = model.fold_batchnorm().unwrap_err().to_string();
        assert!(
            error.contains("`norm.running_var` cannot be packed"),
            "{error}"
        );
    }

    #[test]
    fn scale_and_shift_go_into_weights_and_bias() {
        let mut model = model();
        assert_eq!(model.fold_batchnorm().unwrap(), 1);
        let get = |name: &str| model.tensors.get(name).unwrap().data.clone();
        // (2x − 1) · 3/2 + 0.5 and (0x − 2) · −1/4 + 0.25.
        assert_eq!(get("a.weight"), [3.0, 0.0]);
        assert_eq!(get("a.weight")[1].to_bits(), 0);
        assert_eq!(get("a.bias"), [-1.0, 0.75]);
        let graph = model.network.graph().unwrap();
        model.tensors.check_against(&graph, true).unwrap();
        let node = graph.node("c").unwrap();
        assert_eq!(graph.nodes[0].name, "a");
        assert_eq!(node.inputs, [Source::Node(0)]);
        // That over a ReLU stays.
        assert!(graph.node("last").is_some());
    }

    #[test]
    fn resnet_loses_all_its_batch_normalizations() {
        let network = Network::load("resnet20").unwrap();
        let tensors: Tensors = (network.graph().unwrap().parameters.iter())
            .map(|parameter| {
                let mut tensor = Tensor::zeros(&parameter.shape);
                tensor.data.fill(0.5);
                (parameter.name.clone(), tensor)
            })
            .collect();
        let mut model = Unpacked {
            network,
            preprocess: Preprocess::default(),
            tensors,
            masks: BTreeMap::new(),
        };
        assert!(model.fold_batchnorm().unwrap() >= 19);
        let graph = model.network.graph().unwrap();
        model.tensors.check_against(&graph, true).unwrap();
        let norm =
            |node: &&skinny_network::Node| matches!(node.operation, Operation::BatchNorm { .. });
        assert_eq!(graph.nodes.iter().filter(norm).count(), 0);
    }
}
