//! What is measured: a file, a run, or a network of the zoo with random weights.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use skinny::model::{Level, PackOptions, Unpacked, pack};
use skinny::network::{
    Graph, Network, Node, Operation, Preprocess, Role, Source, Tensor, Tensors, write_atomically,
};
use skinny::train::initialize;

use crate::arguments::Which;
use crate::commands::source;
use crate::failure::Failure;
use crate::output::note;

/// A model to measure, as a file.
pub struct Subject {
    /// What it is called in tables.
    pub name: String,
    /// The network with its weights.
    pub model: Unpacked,
    /// Its shapes and counts.
    pub graph: Graph,
    /// The `.skinny` file.
    pub file: PathBuf,
    /// Its length; none for weights that nobody trained.
    pub file_bytes: Option<u64>,
    /// Weights that are not zero.
    pub nonzeros: u64,
    /// Multiply-accumulates of one image with these weights.
    pub real_macs: u64,
}

impl Subject {
    /// Opens a model; `density` is that of random masks, for a network without weights.
    pub fn open(given: &str, density: Option<f64>, folder: &Path) -> Result<Subject, Failure> {
        let path = Path::new(given);
        let random = !source::is_skinny(path) && !path.is_dir();
        let model = match random {
            true => random_model(given, density)?,
            false if density.is_some() => {
                return Err(Failure::usage(format!(
                    "{given} has weights of its own; --density is for networks of the zoo and TOML files"
                )));
            }
            false => source::open(path, Which::Last, None)?.model,
        };
        let graph = model.network.graph()?;
        let (file, file_bytes) = match source::is_skinny(path) {
            true => (path.to_owned(), Some(length(path)?)),
            false => {
                let file = folder.join("model.skinny");
                let options = PackOptions {
                    // Entropy coding takes long and changes nothing once the model is loaded.
                    level: if random { Level::Fast } else { Level::Small },
                    ..PackOptions::default()
                };
                let bytes = pack(&model, &options, &mut |_| {})?;
                write(&file, &bytes)?;
                (file, (!random).then_some(bytes.len() as u64))
            }
        };
        let mut subject = Subject {
            name: match density {
                Some(density) => format!("{given} density {density}"),
                None => given.to_owned(),
            },
            nonzeros: 0,
            real_macs: 0,
            model,
            graph,
            file,
            file_bytes,
        };
        (subject.nonzeros, subject.real_macs) = subject.count();
        Ok(subject)
    }

    /// Bytes of what prepares pictures; they are in the file, but outside the network's size.
    pub fn preprocess_bytes(&self) -> u64 {
        source::preprocess_bytes(&self.model.preprocess)
    }

    /// Weights that are not zero, and what they have to do for one image.
    fn count(&self) -> (u64, u64) {
        let (mut nonzeros, mut macs) = (0, 0);
        for parameter in self
            .graph
            .parameters
            .iter()
            .filter(|p| p.role == Role::Weight)
        {
            let tensor = self.model.tensors.get(&parameter.name);
            let values = tensor.map_or(&[][..], |tensor| &tensor.data);
            let kept = values.iter().filter(|value| **value != 0.0).count() as u64;
            nonzeros += kept;
            macs += self.graph.nodes[parameter.node].macs / values.len().max(1) as u64 * kept;
        }
        (nonzeros, macs)
    }

    /// Writes what peers read into a folder: an ONNX model, the network as JSON, the weights as safetensors.
    pub fn write_for_peers(&self, folder: &Path) -> Result<(), Failure> {
        let onnx = skinny::interchange::to_onnx(
            &self.graph,
            &self.model.tensors,
            &skinny::interchange::OnnxOptions::default(),
        )?;
        write(&folder.join("model.onnx"), &onnx)?;
        let network = plain(&self.graph).to_string();
        write(&folder.join("network.json"), network.as_bytes())?;
        Ok(self
            .model
            .tensors
            .save(&folder.join("weights.safetensors"))?)
    }
}

/// The network with every setting said and every input named.
fn plain(graph: &Graph) -> Value {
    let layer = |node: &Node| {
        let inputs = node.inputs.iter().map(|source| match source {
            Source::Input => "input",
            Source::Node(node) => &graph.nodes[*node].name,
        });
        let settings = match &node.operation {
            Operation::Conv(conv) => {
                json!({ "stride": conv.stride, "padding": conv.padding, "groups": conv.groups })
            }
            Operation::BatchNorm { eps, .. } => json!({ "eps": eps }),
            Operation::MaxPool(pool) | Operation::AveragePool(pool) => json!({
                "kernel": pool.kernel, "stride": pool.stride, "padding": pool.padding, "ceil": pool.ceil,
            }),
            Operation::Lrn {
                size,
                alpha,
                beta,
                k,
            } => {
                json!({ "size": size, "alpha": alpha, "beta": beta, "k": k })
            }
            _ => json!({}),
        };
        let mut layer = json!({
            "name": node.name, "type": node.operation.kind(), "inputs": inputs.collect::<Vec<_>>(),
        });
        for (key, value) in settings.as_object().into_iter().flatten() {
            layer[key] = value.clone();
        }
        layer
    };
    let layers: Vec<Value> = graph.nodes.iter().map(layer).collect();
    json!({ "input": graph.input, "layers": layers })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = write_atomically(path, |out| std::io::Write::write_all(out, bytes));
    written.map_err(|error| Failure::data(format!("cannot write {}: {error}", path.display())))
}

fn length(path: &Path) -> Result<u64, Failure> {
    let metadata = std::fs::metadata(path);
    let length = metadata.map(|metadata| metadata.len());
    length.map_err(|error| Failure::data(format!("cannot read {}: {error}", path.display())))
}

/// A network with weights by He's rule, of which every layer keeps a random share of exactly this density.
fn random_model(given: &str, density: Option<f64>) -> Result<Unpacked, Failure> {
    let network = Network::load(given).map_err(|error| {
        Failure::usage(format!(
            "{given} is no .skinny file, no run folder and no network: {error}"
        ))
    })?;
    let graph = network.graph()?;
    let density = density.unwrap_or(1.0);
    note!("{given}: random weights, random masks of density {density}");
    let mut tensors = Tensors::new();
    let values = initialize(&without_own_rules(&graph), skinny::network::Init::He, 0);
    for (at, (parameter, mut data)) in graph.parameters.iter().zip(values).enumerate() {
        if parameter.role == Role::Weight {
            drop_random(&mut data, density, at as u64);
            // The activations keep their size.
            let gain = (1.0 / density.sqrt()) as f32;
            data.iter_mut().for_each(|value| *value *= gain);
        }
        let shape = parameter.shape.clone();
        tensors.insert(&parameter.name, Tensor { shape, data });
    }
    Ok(Unpacked {
        preprocess: Preprocess::for_input(network.input),
        network,
        tensors,
        masks: Default::default(),
    })
}

/// The same graph without rules of its own for how weights start: those may be so small that nothing is left of an image
/// after some sparse layers.
fn without_own_rules(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    for parameter in &mut graph.parameters {
        parameter.init = None;
    }
    graph
}

/// Keeps exactly `round(density · length)` values, at least one, at random places.
fn drop_random(values: &mut [f32], density: f64, seed: u64) {
    let kept = ((density * values.len() as f64).round() as usize).clamp(1, values.len());
    let mut order: Vec<(u64, usize)> = (0..values.len())
        .map(|at| {
            (
                mix(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ at as u64),
                at,
            )
        })
        .collect();
    if kept < values.len() {
        order.select_nth_unstable(kept);
    }
    for (_, at) in &order[kept..] {
        values[*at] = 0.0;
    }
}

/// Steele, Lea & Flood's SplitMix64: another number for every number, without a pattern.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_masks_have_exactly_their_density() {
        for (length, density, kept) in [
            (1000, 0.1, 100),
            (999, 0.5, 500),
            (10, 0.01, 1),
            (7, 1.0, 7),
        ] {
            let mut values = vec![1.0; length];
            drop_random(&mut values, density, 3);
            let left = values.iter().filter(|value| **value != 0.0).count();
            assert_eq!(left, kept, "{length} {density}");
        }
    }

    #[test]
    fn a_random_model_is_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let subject = Subject::open("lenet5", Some(0.1), folder.path()).expect("it is in the zoo");
        let weights = subject.graph.weight_count();
        assert!(
            subject.nonzeros.abs_diff(weights / 10) <= 2,
            "{}",
            subject.nonzeros
        );
        assert!(subject.real_macs.abs_diff(subject.graph.macs() / 10) < subject.graph.macs() / 100);
        assert_eq!(subject.file_bytes, None);
        assert!(Subject::open("no-such-net", None, folder.path()).is_err_and(|f| f.code == 2));
    }
}
