//! The checked network: every shape, every parameter, every count.

use std::collections::HashMap;
use std::ops::Range;

use crate::description::{Conv, Factors, Init, Layer, Linear, Network, Operation};
use crate::error::{NetworkError, nearest, quote};
use crate::names::check_name;
use crate::shapes::output_shape;

/// The largest number of values in one activation, one parameter, or all parameters together.
pub const MAX_VALUES: u64 = if usize::BITS < 64 { 1 << 28 } else { 1 << 36 };

/// A checked network: layers in order with shapes, parameters and counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// Name of the network.
    pub name: String,
    /// Shape of one input: channels, height, width.
    pub input: [usize; 3],
    /// The layers in the order of the description, which is a topological order.
    pub nodes: Vec<Node>,
    /// All parameters and running statistics, in the order of the layers.
    pub parameters: Vec<Parameter>,
    /// Shape of the output: classes × 1 × 1 for a classifier.
    pub output: [usize; 3],
}

/// One layer of a [`Graph`].
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Name of the layer.
    pub name: String,
    /// What it does.
    pub operation: Operation,
    /// Where its inputs come from.
    pub inputs: Vec<Source>,
    /// Shapes of its inputs, channels × height × width.
    pub input_shapes: Vec<[usize; 3]>,
    /// Shape of its output.
    pub output_shape: [usize; 3],
    /// Multiply-accumulates for one image; 0 but for convolutions and linear layers.
    pub macs: u64,
    /// Its parameters, as a range of [`Graph::parameters`].
    pub parameters: Range<usize>,
}

/// Where an input of a [`Node`] comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The network's input.
    Input,
    /// The output of the node with this index, which is smaller than the reader's.
    Node(usize),
}

/// One named tensor that belongs to a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Name in every file: layer, dot, PyTorch's name of the parameter (`conv1.weight`).
    pub name: String,
    /// Shape in PyTorch's layout: OIHW with I per group, `[out, in]`, or `[channels]`.
    pub shape: Vec<usize>,
    /// What it is.
    pub role: Role,
    /// Index of its layer in [`Graph::nodes`].
    pub node: usize,
    /// Values that one output of its layer sums over (a bias has its layer's).
    pub fan_in: usize,
    /// Outputs that one input of its layer goes to: out channels per group × kernel.
    pub fan_out: usize,
    /// Factor of the learning rate.
    pub lr: f32,
    /// Factor of the weight decay.
    pub decay: f32,
    /// How it starts; `None` leaves it to the recipe.
    pub init: Option<Init>,
}

impl Parameter {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no values; never true in a [`Graph`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a [`Parameter`] is to its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Weight of a convolution or linear layer.
    Weight,
    /// Bias of a convolution or linear layer.
    Bias,
    /// Scale of a batch normalization.
    Scale,
    /// Shift of a batch normalization.
    Shift,
    /// Running mean of a batch normalization.
    RunningMean,
    /// Running variance of a batch normalization.
    RunningVar,
}

impl Role {
    /// Whether training learns it; running statistics are measured instead, and are no parameters
    /// in any count.
    pub fn trainable(self) -> bool {
        !matches!(self, Self::RunningMean | Self::RunningVar)
    }

    /// Whether thresholding may drop values of it: weights only.
    pub fn thresholded(self) -> bool {
        self == Self::Weight
    }
}

impl Graph {
    /// Number of parameters: weights, biases, scales and shifts, without running statistics.
    pub fn parameter_count(&self) -> u64 {
        self.count(Role::trainable)
    }

    /// Number of weights, which is what a density is a fraction of.
    pub fn weight_count(&self) -> u64 {
        self.count(Role::thresholded)
    }

    /// Multiply-accumulates for one image.
    pub fn macs(&self) -> u64 {
        self.nodes.iter().map(|node| node.macs).sum()
    }

    /// Number of classes, if the output is flat: the first extent of the output.
    pub fn classes(&self) -> Option<usize> {
        (self.output[1] == 1 && self.output[2] == 1).then_some(self.output[0])
    }

    /// The layer with this name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The parameter with this name, such as `conv1.weight`.
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters
            .iter()
            .find(|parameter| parameter.name == name)
    }

    /// The parameters and running statistics of one layer.
    pub fn parameters_of(&self, node: &Node) -> &[Parameter] {
        &self.parameters[node.parameters.clone()]
    }

    /// What training takes as logits: the output, or what a final softmax reads.
    pub fn logits(&self) -> Source {
        let last = self.nodes.len() - 1;
        match self.nodes[last].operation {
            Operation::Softmax => self.nodes[last].inputs[0],
            _ => Source::Node(last),
        }
    }

    fn count(&self, of: fn(Role) -> bool) -> u64 {
        self.parameters
            .iter()
            .filter(|parameter| of(parameter.role))
            .map(|parameter| parameter.len() as u64)
            .sum()
    }
}

impl Network {
    /// Checks names, inputs, shapes and sizes, and works out every shape and count.
    ///
    /// # Errors
    /// Any fault of the description, with the layer's name: see [`NetworkError`].
    pub fn graph(&self) -> Result<Graph, NetworkError> {
        Builder::new(self)?.build()
    }
}

/// The runtime finds the places of activations in time that grows with the square of the layers.
const MOST_LAYERS: usize = 10_000;

struct Builder<'a> {
    network: &'a Network,
    places: HashMap<&'a str, usize>,
    nodes: Vec<Node>,
    parameters: Vec<Parameter>,
    values: u64,
}

impl<'a> Builder<'a> {
    fn new(network: &'a Network) -> Result<Self, NetworkError> {
        check_name("the network", &network.name)?;
        if network.layers.is_empty() {
            return Err(NetworkError::NoLayers);
        }
        if network.layers.len() > MOST_LAYERS {
            return Err(NetworkError::Value {
                owner: "the network".to_owned(),
                key: "layers".to_owned(),
                message: format!(
                    "there are {}; at most {MOST_LAYERS} are read",
                    network.layers.len()
                ),
            });
        }
        if network.input.contains(&0) {
            return Err(NetworkError::Value {
                owner: "the network".to_owned(),
                key: "input".to_owned(),
                message: format!(
                    "{} has a zero; give channels, height and width",
                    shape_text(&network.input)
                ),
            });
        }
        volume("the network", "the input", &network.input)?;
        let mut places = HashMap::new();
        for (index, layer) in network.layers.iter().enumerate() {
            check_name(&format!("layer {}", index + 1), &layer.name)?;
            if places.insert(layer.name.as_str(), index).is_some() {
                return Err(NetworkError::DuplicateName(layer.name.clone()));
            }
        }
        Ok(Self {
            network,
            places,
            nodes: Vec::new(),
            parameters: Vec::new(),
            values: 0,
        })
    }

    fn build(mut self) -> Result<Graph, NetworkError> {
        let mut used = vec![false; self.network.layers.len()];
        for (index, layer) in self.network.layers.iter().enumerate() {
            layer.check_settings()?;
            let inputs = self.inputs(index, layer)?;
            for source in &inputs {
                if let Source::Node(read) = source {
                    used[*read] = true;
                }
            }
            self.push(index, layer, inputs)?;
        }
        // Nobody can read the last layer: it is the output.
        used.pop();
        if let Some(unused) = used.iter().position(|used| !used) {
            return Err(NetworkError::Unused(
                self.network.layers[unused].name.clone(),
            ));
        }
        if let Some(inner) = self
            .nodes
            .iter()
            .rev()
            .skip(1)
            .find(|node| node.operation == Operation::Softmax)
        {
            return Err(NetworkError::BadInput {
                layer: inner.name.clone(),
                shape: shape_text(&inner.output_shape),
                reason: "a softmax is allowed only as the last layer; remove it".to_owned(),
            });
        }
        let output = self.nodes[self.nodes.len() - 1].output_shape;
        Ok(Graph {
            name: self.network.name.clone(),
            input: self.network.input,
            nodes: self.nodes,
            parameters: self.parameters,
            output,
        })
    }

    fn inputs(&self, index: usize, layer: &Layer) -> Result<Vec<Source>, NetworkError> {
        let Some(names) = &layer.inputs else {
            if layer.operation == Operation::Add {
                return Err(NetworkError::InputCount {
                    layer: layer.name.clone(),
                    kind: "add",
                    needs: "two or more layers",
                    found: 0,
                });
            }
            return Ok(vec![if index == 0 {
                Source::Input
            } else {
                Source::Node(index - 1)
            }]);
        };
        let wrong = match layer.operation {
            Operation::Add => (names.len() < 2).then_some("two or more layers"),
            _ => (names.len() != 1).then_some("one layer"),
        };
        if let Some(needs) = wrong {
            return Err(NetworkError::InputCount {
                layer: layer.name.clone(),
                kind: layer.operation.kind(),
                needs,
                found: names.len(),
            });
        }
        names
            .iter()
            .map(|name| self.source(index, layer, name))
            .collect()
    }

    fn source(&self, index: usize, layer: &Layer, name: &str) -> Result<Source, NetworkError> {
        if name == "input" {
            return Ok(Source::Input);
        }
        match self.places.get(name) {
            Some(&place) if place < index => Ok(Source::Node(place)),
            Some(_) => Err(NetworkError::LaterInput {
                layer: layer.name.clone(),
                input: name.to_owned(),
            }),
            None => {
                let before = self.network.layers[..index]
                    .iter()
                    .map(|layer| layer.name.as_str());
                Err(NetworkError::UnknownInput {
                    layer: layer.name.clone(),
                    input: quote(name),
                    hint: match nearest(name, before.chain(["input"])) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "name a layer above it or \"input\"".to_owned(),
                    },
                })
            }
        }
    }

    fn push(
        &mut self,
        index: usize,
        layer: &Layer,
        inputs: Vec<Source>,
    ) -> Result<(), NetworkError> {
        let input_shapes: Vec<[usize; 3]> = inputs
            .iter()
            .map(|source| match source {
                Source::Input => self.network.input,
                Source::Node(read) => self.nodes[*read].output_shape,
            })
            .collect();
        let output_shape = output_shape(layer, &input_shapes)?;
        let owner = format!("layer `{}`", layer.name);
        let outputs = volume(&owner, "its output", &output_shape)?;
        let first = self.parameters.len();
        self.push_parameters(index, layer, input_shapes[0])?;
        let macs = match layer.operation {
            // The weight holds one multiplication for each of its values at every output position.
            Operation::Conv(_) | Operation::Linear(_) => {
                let positions = outputs / output_shape[0] as u64;
                (self.parameters[first].len() as u64)
                    .checked_mul(positions)
                    .filter(|macs| *macs <= MAX_MACS)
                    .ok_or(NetworkError::TooLarge {
                        owner,
                        what: "its number of MACs",
                        limit: MAX_MACS,
                    })?
            }
            _ => 0,
        };
        self.nodes.push(Node {
            name: layer.name.clone(),
            operation: layer.operation.clone(),
            inputs,
            input_shapes,
            output_shape,
            macs,
            parameters: first..self.parameters.len(),
        });
        Ok(())
    }

    fn push_parameters(
        &mut self,
        node: usize,
        layer: &Layer,
        input: [usize; 3],
    ) -> Result<(), NetworkError> {
        let Factors {
            weight: lr,
            bias: bias_lr,
        } = layer.lr;
        let Factors {
            weight: decay,
            bias: bias_decay,
        } = layer.decay;
        let mut add =
            |role: Role, shape: Vec<usize>, fan: [usize; 2]| -> Result<(), NetworkError> {
                let owner = format!("layer `{}`", layer.name);
                let len = volume(&owner, "its weight", &shape)?;
                // Both terms are at most MAX_VALUES.
                self.values += len;
                if self.values > MAX_VALUES {
                    return Err(NetworkError::TooLarge {
                        owner,
                        what: "the number of parameters up to here",
                        limit: MAX_VALUES,
                    });
                }
                let weight = matches!(role, Role::Weight | Role::Scale);
                self.parameters.push(Parameter {
                    name: format!("{}.{}", layer.name, role.suffix()),
                    shape,
                    role,
                    node,
                    fan_in: fan[0],
                    fan_out: fan[1],
                    lr: if weight { lr } else { bias_lr },
                    decay: if weight { decay } else { bias_decay },
                    init: if !role.trainable() {
                        None
                    } else if weight {
                        layer.init.weight
                    } else {
                        layer.init.bias
                    },
                });
                Ok(())
            };
        match &layer.operation {
            Operation::Conv(Conv {
                out,
                kernel,
                groups,
                bias,
                ..
            }) => {
                let shape = vec![*out, input[0] / groups, kernel[0], kernel[1]];
                volume(&format!("layer `{}`", layer.name), "its weight", &shape)?;
                let window = kernel[0] * kernel[1];
                let fan = [shape[1] * window, out / groups * window];
                add(Role::Weight, shape, fan)?;
                if *bias {
                    add(Role::Bias, vec![*out], fan)?;
                }
            }
            Operation::Linear(Linear { out, bias }) => {
                let fan = [input[0], *out];
                add(Role::Weight, vec![*out, input[0]], fan)?;
                if *bias {
                    add(Role::Bias, vec![*out], fan)?;
                }
            }
            Operation::BatchNorm { .. } => {
                for role in [
                    Role::Scale,
                    Role::Shift,
                    Role::RunningMean,
                    Role::RunningVar,
                ] {
                    add(role, vec![input[0]], [1, 1])?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The largest number of MACs of one layer: sums over layers cannot overflow.
const MAX_MACS: u64 = 1 << 48;

impl Role {
    /// The part of a parameter's name after the dot, as PyTorch calls it.
    fn suffix(self) -> &'static str {
        match self {
            Self::Weight | Self::Scale => "weight",
            Self::Bias | Self::Shift => "bias",
            Self::RunningMean => "running_mean",
            Self::RunningVar => "running_var",
        }
    }
}

/// A shape as messages and tables show it: 16x32x32.
pub fn shape_text(shape: &[usize]) -> String {
    shape
        .iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join("x")
}

/// The number of values of a shape without zeros, at most [`MAX_VALUES`].
fn volume(owner: &str, what: &'static str, shape: &[usize]) -> Result<u64, NetworkError> {
    shape
        .iter()
        .try_fold(1u64, |product, &extent| product.checked_mul(extent as u64))
        .filter(|values| *values <= MAX_VALUES)
        .ok_or_else(|| NetworkError::TooLarge {
            owner: owner.to_owned(),
            what,
            limit: MAX_VALUES,
        })
}
