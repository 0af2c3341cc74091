//! From a network with its weights to fewer layers: what a layer does to its only reader's input is done at once.
//!
//! A batch normalization becomes part of the convolution or linear layer before it, a ReLU the end of the layer before
//! it, and a dropout disappears.

use std::borrow::Cow;

use skinny_network::{Graph, Node, Operation, Role, Source, Tensors};

use crate::error::RuntimeError;

/// Index of a [`Layer`], or the input of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum From {
    Input,
    Layer(usize),
}

/// A layer of the folded network.
#[derive(Clone, Debug)]
pub(crate) struct Layer<'a> {
    /// The name of the first layer that it is made of.
    pub name: String,
    pub inputs: Vec<From>,
    pub input_shape: [usize; 3],
    pub output_shape: [usize; 3],
    pub work: Work<'a>,
    /// Whether negative results become 0.
    pub relu: bool,
    /// Multiply-accumulates of one image with all weights.
    pub macs: u64,
}

/// What a [`Layer`] computes.
#[derive(Clone, Debug)]
pub(crate) enum Work<'a> {
    Conv {
        conv: skinny_network::Conv,
        weights: Weights<'a>,
    },
    Linear {
        weights: Weights<'a>,
    },
    Affine {
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
    /// Any other operation as the network has it; [`Operation::Relu`] where it could not be folded.
    Plain(Operation),
}

/// Weights `[out, …]`, those of the file if nothing was folded into them, with a bias per output.
#[derive(Clone, Debug)]
pub(crate) struct Weights<'a> {
    pub values: Cow<'a, [f32]>,
    pub bias: Vec<f32>,
}

/// Folds the network; `softmax` says whether a final softmax is kept. The last layer is the output.
pub(crate) fn fold<'a>(
    graph: &Graph,
    tensors: &'a Tensors,
    softmax: bool,
) -> Result<Vec<Layer<'a>>, RuntimeError> {
    tensors.check_against(graph, true)?;
    for (name, tensor) in tensors.iter() {
        if !tensor.data.iter().all(|value| value.is_finite()) {
            return Err(RuntimeError::NotFinite(name.to_owned()));
        }
    }
    let last = match graph.logits() {
        Source::Node(node) if !softmax => node + 1,
        _ => graph.nodes.len(),
    };
    let nodes = &graph.nodes[..last];
    let is_dropout = |node: usize| matches!(nodes[node].operation, Operation::Dropout { .. });
    let resolve = |mut source: Source| loop {
        match source {
            Source::Node(node) if is_dropout(node) => source = nodes[node].inputs[0],
            other => return other,
        }
    };
    let mut readers = vec![0; last];
    for (at, node) in nodes.iter().enumerate() {
        for source in node.inputs.iter().filter(|_| !is_dropout(at)) {
            if let Source::Node(source) = resolve(*source) {
                readers[source] += 1;
            }
        }
    }
    let mut folder = Folder {
        graph,
        tensors,
        layers: Vec::new(),
        places: Vec::new(),
    };
    for node in nodes {
        let alone = match resolve(node.inputs[0]) {
            Source::Node(source) => readers[source] == 1,
            Source::Input => false,
        };
        let place = folder.node(node, alone);
        folder.places.push(place);
    }
    // The output of the network may be the input of the last dropout, which others read too or which is no layer.
    let output = folder.places[last - 1];
    // Finite numbers too can make others: a variance below 0 for one.
    for layer in &folder.layers {
        let made: [&[f32]; 2] = match &layer.work {
            Work::Affine { scale, shift } => [scale, shift],
            Work::Conv { weights, .. } | Work::Linear { weights } => match &weights.values {
                Cow::Owned(values) => [values, &weights.bias],
                Cow::Borrowed(_) => continue,
            },
            Work::Plain(_) => continue,
        };
        if !made
            .iter()
            .copied()
            .flatten()
            .all(|value| value.is_finite())
        {
            return Err(RuntimeError::NotFinite(layer.name.clone()));
        }
    }
    let closing = folder.layers.len().checked_sub(1).map(From::Layer);
    if closing != Some(output) {
        folder.plain(&nodes[last - 1], Operation::Add);
    }
    Ok(folder.layers)
}

struct Folder<'g, 'a> {
    graph: &'g Graph,
    tensors: &'a Tensors,
    layers: Vec<Layer<'a>>,
    /// Where the output of every node so far is.
    places: Vec<From>,
}

impl<'a> Folder<'_, 'a> {
    /// Adds a node, or folds it into the layer that it reads if it reads it `alone`.
    fn node(&mut self, node: &Node, alone: bool) -> From {
        let inputs: Vec<From> = node
            .inputs
            .iter()
            .map(|source| self.place(*source))
            .collect();
        let before = match inputs[0] {
            From::Layer(layer) if alone => Some(layer),
            _ => None,
        };
        match &node.operation {
            Operation::Dropout { .. } => return inputs[0],
            Operation::Relu => {
                if let Some(layer) = before.filter(|layer| self.takes_relu(*layer)) {
                    self.layers[layer].relu = true;
                    return From::Layer(layer);
                }
                self.plain(node, Operation::Relu);
            }
            Operation::BatchNorm { eps, .. } => {
                let (scale, shift) = self.affine(node, *eps);
                let linear = before.filter(|layer| !self.layers[*layer].relu);
                if let Some(layer) = linear.filter(|layer| self.scale(*layer, &scale, &shift)) {
                    return From::Layer(layer);
                }
                self.add(node, Work::Affine { scale, shift });
            }
            Operation::Conv(conv) => {
                let weights = self.weights(node);
                self.add(
                    node,
                    Work::Conv {
                        conv: *conv,
                        weights,
                    },
                );
            }
            Operation::Linear(_) => {
                let weights = self.weights(node);
                self.add(node, Work::Linear { weights });
            }
            other => self.plain(node, other.clone()),
        }
        From::Layer(self.layers.len() - 1)
    }

    fn place(&self, source: Source) -> From {
        match source {
            Source::Input => From::Input,
            Source::Node(node) => self.places[node],
        }
    }

    fn plain(&mut self, node: &Node, operation: Operation) {
        self.add(node, Work::Plain(operation));
    }

    fn add(&mut self, node: &Node, work: Work<'a>) {
        self.layers.push(Layer {
            name: node.name.clone(),
            inputs: node
                .inputs
                .iter()
                .map(|source| self.place(*source))
                .collect(),
            input_shape: node.input_shapes[0],
            output_shape: node.output_shape,
            work,
            relu: false,
            macs: node.macs,
        });
    }

    /// Whether a layer can end with a ReLU.
    fn takes_relu(&self, layer: usize) -> bool {
        match &self.layers[layer].work {
            Work::Conv { .. } | Work::Linear { .. } | Work::Affine { .. } => true,
            Work::Plain(operation) => matches!(operation, Operation::Add | Operation::Relu),
        }
    }

    /// Scales and shifts the results of a layer through its weights; false if it has none.
    fn scale(&mut self, layer: usize, scale: &[f32], shift: &[f32]) -> bool {
        match &mut self.layers[layer].work {
            Work::Conv { weights, .. } | Work::Linear { weights } => {
                let length = weights.values.len() / weights.bias.len();
                let rows = weights
                    .values
                    .to_mut()
                    .chunks_exact_mut(length)
                    .zip(&mut weights.bias);
                for ((values, bias), (scale, shift)) in rows.zip(scale.iter().zip(shift)) {
                    values.iter_mut().for_each(|value| *value *= scale);
                    *bias = *bias * scale + shift;
                }
                true
            }
            Work::Affine {
                scale: old_scale,
                shift: old_shift,
            } => {
                for (old, new) in old_scale.iter_mut().zip(scale) {
                    *old *= new;
                }
                for (old, (scale, shift)) in old_shift.iter_mut().zip(scale.iter().zip(shift)) {
                    *old = *old * scale + shift;
                }
                true
            }
            Work::Plain(_) => false,
        }
    }

    fn values(&self, node: &Node, role: Role) -> Option<&'a [f32]> {
        let parameter = self
            .graph
            .parameters_of(node)
            .iter()
            .find(|p| p.role == role)?;
        self.tensors
            .get(&parameter.name)
            .map(|tensor| &*tensor.data)
    }

    fn weights(&self, node: &Node) -> Weights<'a> {
        let outputs = node.output_shape[0];
        Weights {
            values: Cow::Borrowed(self.values(node, Role::Weight).unwrap_or_default()),
            bias: match self.values(node, Role::Bias) {
                Some(bias) => bias.to_vec(),
                None => vec![0.0; outputs],
            },
        }
    }

    /// Scale and shift of a batch normalization with its running statistics.
    fn affine(&self, node: &Node, eps: f32) -> (Vec<f32>, Vec<f32>) {
        let of = |role| self.values(node, role).unwrap_or_default();
        let variance = of(Role::RunningVar).iter();
        let scale: Vec<f32> = variance
            .zip(of(Role::Scale))
            .map(|(variance, scale)| {
                (f64::from(*scale) / (f64::from(*variance) + f64::from(eps)).sqrt()) as f32
            })
            .collect();
        let mean = of(Role::RunningMean).iter().zip(&scale);
        let shift = mean
            .zip(of(Role::Shift))
            .map(|((mean, scale), shift)| shift - mean * scale)
            .collect();
        (scale, shift)
    }
}
