//! A network as an ONNX model.

use std::borrow::Cow;
use std::collections::BTreeMap;

use skinny_network::{Graph, Node, Operation, Pool, Preprocess, Role, Source, Tensors};

use super::nodes::{Attribute, Nodes, Values};
use super::protobuf::Message;
use super::{field, kind, preprocess};
use crate::error::InterchangeError;

/// What an ONNX model holds besides the network.
#[derive(Debug, Clone, Copy, Default)]
pub struct OnnxOptions<'a> {
    /// What is done to the values of a picture before the first layer: the model then reads values 0 to 255. Without it
    /// the model reads what the first layer reads. Resizing and cropping are never included.
    pub preprocess: Option<&'a Preprocess>,
}

/// The operator set that is written; older programs than those of 2022 do not know it.
const OPSET: i64 = 17;
/// The version of the file format that belongs to it.
const IR_VERSION: i64 = 8;
/// The name of the model's input; no layer may have it.
const INPUT: &str = "input";

/// The bytes of an ONNX model of the network with these weights, zeros included.
///
/// Opset 17. It reads `input`, f32 of N × channels × height × width with any N, and gives `output`: N × classes for a flat
/// output, otherwise N × channels × height × width. Nodes are called after their layers, weights after their parameters.
/// Dropout is left out. With preprocessing, its settings are in the metadata under `preprocess`, as JSON.
///
/// # Errors
/// Weights that are not exactly the network's, preprocessing for another input, or a model of 2 GB or more, which
/// protocol buffers cannot hold.
pub fn to_onnx(
    graph: &Graph,
    tensors: &Tensors,
    options: &OnnxOptions,
) -> Result<Vec<u8>, InterchangeError> {
    tensors.check_against(graph, true)?;
    let mut writer = Writer {
        graph,
        nodes: Nodes::default(),
        values: Vec::with_capacity(graph.nodes.len()),
        input: Value {
            name: INPUT.to_owned(),
            shape: graph.input,
            flat: false,
        },
    };
    if let Some(settings) = options.preprocess {
        settings.check(graph.input)?;
        writer.input.name = preprocess::add(&mut writer.nodes, INPUT, settings, graph.input);
    }
    for parameter in &graph.parameters {
        if let Some(tensor) = tensors.get(&parameter.name) {
            let values = Values::F32(Cow::Borrowed(&tensor.data));
            writer
                .nodes
                .constant(&parameter.name, &tensor.shape, values);
        }
    }
    for node in &graph.nodes {
        let value = writer.layer(node);
        writer.values.push(value);
    }
    let output = writer.finish();

    let mut message = Message::default();
    message.text(field::GRAPH_NAME, &graph.name);
    let [channels, height, width] = graph.input;
    let shape = [channels, height, width];
    message.message(field::GRAPH_INPUT, &value_info(INPUT, &shape));
    let shape = match graph.classes() {
        Some(classes) => vec![classes],
        None => graph.output.to_vec(),
    };
    message.message(field::GRAPH_OUTPUT, &value_info(output, &shape));
    writer.nodes.finish(&mut message);

    let mut model = Message::default();
    model.int(field::MODEL_IR_VERSION, IR_VERSION);
    model.text(field::MODEL_PRODUCER, "skinny");
    model.text(field::MODEL_PRODUCER_VERSION, env!("CARGO_PKG_VERSION"));
    let reads = match options.preprocess {
        Some(_) => "Reads the values 0 to 255 of pictures at the input's size.",
        None => "Reads what the first layer reads: pictures after all preprocessing.",
    };
    model.text(field::MODEL_DOC, reads);
    let mut opset = Message::default();
    opset.int(field::OPSET_VERSION, OPSET);
    model.message(field::MODEL_OPSET, &opset);
    if let Some(settings) = options.preprocess {
        let mut entry = Message::default();
        let json = serde_json::to_string(settings).expect("settings are plain data");
        entry.text(field::ENTRY_KEY, "preprocess");
        entry.text(field::ENTRY_VALUE, &json);
        model.message(field::MODEL_METADATA, &entry);
    }
    // The length before the graph takes at most six bytes.
    let limit = i32::MAX as usize;
    if message.0.len() + model.0.len() + 6 > limit {
        return Err(InterchangeError::Unwritable {
            format: "ONNX",
            reason: format!(
                "{} bytes of weights are more than the 2 GB of a protocol buffer; export safetensors",
                message.0.len()
            ),
        });
    }
    model.message(field::MODEL_GRAPH, &message);
    Ok(model.0)
}

/// A tensor of f32 with any number of images.
fn value_info(name: &str, shape: &[usize]) -> Message {
    let mut dims = Message::default();
    let mut images = Message::default();
    images.text(field::DIM_NAME, "N");
    dims.message(field::SHAPE_DIM, &images);
    for extent in shape {
        let mut dim = Message::default();
        dim.int(field::DIM_VALUE, *extent as i64);
        dims.message(field::SHAPE_DIM, &dim);
    }
    let mut tensor = Message::default();
    tensor.int(field::TENSOR_TYPE_ELEMENT, kind::FLOAT);
    tensor.message(field::TENSOR_TYPE_SHAPE, &dims);
    let mut of = Message::default();
    of.message(field::TYPE_TENSOR, &tensor);
    let mut info = Message::default();
    info.text(field::VALUE_NAME, name);
    info.message(field::VALUE_TYPE, &of);
    info
}

/// An activation in the ONNX graph.
#[derive(Clone)]
struct Value {
    name: String,
    shape: [usize; 3],
    /// N × C instead of N × C × H × W.
    flat: bool,
}

struct Writer<'a> {
    graph: &'a Graph,
    nodes: Nodes<'a>,
    /// The output of each layer.
    values: Vec<Value>,
    input: Value,
}

impl Writer<'_> {
    fn value(&self, source: Source) -> Value {
        match source {
            Source::Input => self.input.clone(),
            Source::Node(index) => self.values[index].clone(),
        }
    }

    /// The name of a value as N × C · H · W; `reader` is the layer that wants it so.
    fn flat(&mut self, value: &Value, reader: &str) -> String {
        if value.flat {
            return value.name.clone();
        }
        let name = format!("{reader}.flat.{}", value.name);
        self.nodes.node(
            "Flatten",
            &name,
            &[&value.name],
            &[Attribute::Int("axis", 1)],
        );
        name
    }

    /// The name of a value as N × C × H × W.
    fn planes(&mut self, value: &Value, reader: &str) -> String {
        if !value.flat {
            return value.name.clone();
        }
        let (name, shape) = (format!("{reader}.planes"), format!("{reader}.shape"));
        let extents = value.shape.map(|extent| extent as i64);
        let extents = [&[0], extents.as_slice()].concat();
        self.nodes.constant(&shape, &[4], Values::I64(extents));
        self.nodes
            .node("Reshape", &name, &[&value.name, &shape], &[]);
        name
    }

    /// Adds the nodes of one layer and gives its output, which is called after it.
    fn layer(&mut self, node: &Node) -> Value {
        let graph = self.graph;
        let name = node.name.as_str();
        let value = self.value(node.inputs[0]);
        let output = |flat| Value {
            name: name.to_owned(),
            shape: node.output_shape,
            flat,
        };
        let parameters = || {
            (graph.parameters[node.parameters.clone()].iter())
                .map(|parameter| parameter.name.as_str())
        };
        match &node.operation {
            Operation::Conv(conv) => {
                let from = self.planes(&value, name);
                let inputs: Vec<&str> = std::iter::once(&*from).chain(parameters()).collect();
                let [rows, columns] = conv.padding;
                let attributes = [
                    Attribute::Ints("kernel_shape", &conv.kernel),
                    Attribute::Ints("strides", &conv.stride),
                    Attribute::Ints("pads", &[rows, columns, rows, columns]),
                    Attribute::Int("group", conv.groups as i64),
                ];
                self.nodes.node("Conv", name, &inputs, &attributes);
                output(false)
            }
            Operation::Linear(_) => {
                let from = self.flat(&value, name);
                let inputs: Vec<&str> = std::iter::once(&*from).chain(parameters()).collect();
                self.nodes
                    .node("Gemm", name, &inputs, &[Attribute::Int("transB", 1)]);
                output(true)
            }
            Operation::BatchNorm { eps, .. } => {
                debug_assert_eq!(
                    graph.parameters[node.parameters.clone()]
                        .iter()
                        .map(|p| p.role)
                        .collect::<Vec<_>>(),
                    [
                        Role::Scale,
                        Role::Shift,
                        Role::RunningMean,
                        Role::RunningVar
                    ],
                    "the order of ONNX's inputs"
                );
                let inputs: Vec<&str> = std::iter::once(&*value.name).chain(parameters()).collect();
                let eps = [Attribute::Float("epsilon", *eps)];
                self.nodes.node("BatchNormalization", name, &inputs, &eps);
                output(value.flat)
            }
            Operation::Relu => {
                self.nodes.node("Relu", name, &[&value.name], &[]);
                output(value.flat)
            }
            Operation::MaxPool(pool) => {
                let from = self.planes(&value, name);
                let pads = pads(pool, value.shape, node.output_shape);
                self.nodes
                    .node("MaxPool", name, &[&from], &window(pool, &pads));
                output(false)
            }
            Operation::AveragePool(pool) => {
                let from = self.planes(&value, name);
                let pads = pads(pool, value.shape, node.output_shape);
                let [kernel, strides, pads] = window(pool, &pads);
                let inside = Attribute::Int("count_include_pad", 0);
                self.nodes.node(
                    "AveragePool",
                    name,
                    &[&from],
                    &[kernel, strides, pads, inside],
                );
                output(false)
            }
            Operation::GlobalPool => {
                let from = self.planes(&value, name);
                self.nodes.node("GlobalAveragePool", name, &[&from], &[]);
                output(false)
            }
            Operation::Lrn {
                size,
                alpha,
                beta,
                k,
            } => {
                let from = self.planes(&value, name);
                let attributes = [
                    Attribute::Int("size", *size as i64),
                    Attribute::Float("alpha", *alpha),
                    Attribute::Float("beta", *beta),
                    Attribute::Float("bias", *k),
                ];
                self.nodes.node("LRN", name, &[&from], &attributes);
                output(false)
            }
            // Does nothing outside of training.
            Operation::Dropout { .. } => value,
            Operation::Flatten => {
                self.nodes.node(
                    "Flatten",
                    name,
                    &[&value.name],
                    &[Attribute::Int("axis", 1)],
                );
                output(true)
            }
            Operation::Add => {
                let values: Vec<Value> = node
                    .inputs
                    .iter()
                    .map(|source| self.value(*source))
                    .collect();
                let flat = values.iter().any(|value| value.flat);
                // A value that is added twice is flattened once: a name has one definition.
                let mut flattened: BTreeMap<&str, String> = BTreeMap::new();
                if flat {
                    for value in &values {
                        if !flattened.contains_key(value.name.as_str()) {
                            let name = self.flat(value, name);
                            flattened.insert(&value.name, name);
                        }
                    }
                }
                let names: Vec<&str> = (values.iter())
                    .map(|value| flattened.get(value.name.as_str()).unwrap_or(&value.name))
                    .map(String::as_str)
                    .collect();
                self.nodes.node(
                    if names.len() == 2 { "Add" } else { "Sum" },
                    name,
                    &names,
                    &[],
                );
                output(flat)
            }
            Operation::Softmax => {
                let from = self.flat(&value, name);
                self.nodes
                    .node("Softmax", name, &[&from], &[Attribute::Int("axis", 1)]);
                output(true)
            }
        }
    }

    /// Adds the node that gives the model's output, and gives its name.
    fn finish(&mut self) -> &'static str {
        // Names of layers have no dots.
        let name = match self.graph.node("output") {
            Some(_) => "network.output",
            None => "output",
        };
        let last = self.values.last().unwrap_or(&self.input);
        match self.graph.classes() {
            Some(_) => {
                self.nodes
                    .node("Flatten", name, &[&last.name], &[Attribute::Int("axis", 1)]);
            }
            None => self.nodes.node("Identity", name, &[&last.name], &[]),
        }
        name
    }
}

/// Rows and columns to add before and behind, so that exactly the windows of this network fit without rounding: programs
/// do not agree on which last windows rounding up adds. What is added is in no window's maximum or mean.
fn pads(pool: &Pool, input: [usize; 3], output: [usize; 3]) -> [usize; 4] {
    let behind = |axis: usize| {
        let reach = (output[1 + axis] - 1) * pool.stride[axis] + pool.kernel[axis];
        reach.saturating_sub(input[1 + axis] + pool.padding[axis])
    };
    [pool.padding[0], pool.padding[1], behind(0), behind(1)]
}

fn window<'a>(pool: &'a Pool, pads: &'a [usize; 4]) -> [Attribute<'a>; 3] {
    [
        Attribute::Ints("kernel_shape", &pool.kernel),
        Attribute::Ints("strides", &pool.stride),
        Attribute::Ints("pads", pads),
    ]
}

#[cfg(test)]
mod tests {
    use skinny_network::Network;

    use super::*;

    fn zeros(graph: &Graph) -> Tensors {
        (graph.parameters.iter())
            .map(|parameter| {
                (
                    parameter.name.clone(),
                    skinny_network::Tensor::zeros(&parameter.shape),
                )
            })
            .collect()
    }

    #[test]
    fn windows_fit_without_rounding() {
        for input in 1..14usize {
            for kernel in 1..6 {
                for stride in 1..7 {
                    for padding in 0..=kernel / 2 {
                        for ceil in [false, true] {
                            let text = format!(
                                "name = \"p\"\ninput = [1, {input}, {input}]\n[[layers]]\nname = \"pool\"\ntype = \"maxpool\"\n\
                                 kernel = {kernel}\nstride = {stride}\npadding = {padding}\nceil = {ceil}\n"
                            );
                            let Ok(graph) = Network::from_toml(&text).unwrap().graph() else {
                                continue;
                            };
                            let Operation::MaxPool(pool) = &graph.nodes[0].operation else {
                                panic!("a pool")
                            };
                            let [before, _, behind, _] = pads(pool, graph.input, graph.output);
                            let windows = (input + before + behind - kernel) / stride + 1;
                            assert_eq!(windows, graph.output[1], "{text}");
                            // ONNX Runtime refuses pads as large as the kernel.
                            assert!(before < kernel && behind < kernel, "{text}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn weights_of_another_network_and_wrong_settings_are_refused() {
        let graph = Network::load("lenet5").unwrap().graph().unwrap();
        let message = to_onnx(&graph, &Tensors::new(), &OnnxOptions::default()).unwrap_err();
        assert!(message.to_string().contains("missing"), "{message}");
        let settings = Preprocess {
            mean: vec![0.0; 3],
            ..Preprocess::default()
        };
        let options = OnnxOptions {
            preprocess: Some(&settings),
        };
        let message = to_onnx(&graph, &zeros(&graph), &options).unwrap_err();
        assert!(message.to_string().contains("key `mean`"), "{message}");
    }

    #[test]
    fn the_same_network_gives_the_same_bytes() {
        let graph = Network::load("resnet20").unwrap().graph().unwrap();
        let write = || to_onnx(&graph, &zeros(&graph), &OnnxOptions::default()).unwrap();
        assert_eq!(write(), write());
    }
}
