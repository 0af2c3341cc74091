//! The nodes and constants of an ONNX graph that is being written.

use std::borrow::Cow;

use super::protobuf::Message;
use super::{field, kind};

/// An attribute of a node.
pub(crate) enum Attribute<'a> {
    Int(&'a str, i64),
    Float(&'a str, f32),
    Ints(&'a str, &'a [usize]),
}

/// The values of a constant.
pub(crate) enum Values<'a> {
    F32(Cow<'a, [f32]>),
    F64(f64),
    I64(Vec<i64>),
}

/// A named constant: what ONNX calls an initializer.
struct Constant<'a> {
    /// Everything but the values.
    header: Message,
    values: Values<'a>,
}

/// Nodes in the order of computation, and the constants that they read.
#[derive(Default)]
pub(crate) struct Nodes<'a> {
    nodes: Message,
    constants: Vec<Constant<'a>>,
}

impl<'a> Nodes<'a> {
    /// Adds a node with one output, which gets the node's name.
    pub fn node(&mut self, kind: &str, name: &str, inputs: &[&str], attributes: &[Attribute]) {
        let mut node = Message::default();
        for input in inputs {
            node.text(field::NODE_INPUT, input);
        }
        node.text(field::NODE_OUTPUT, name);
        node.text(field::NODE_NAME, name);
        node.text(field::NODE_TYPE, kind);
        for attribute in attributes {
            // ONNX's numbers for the types of attributes: FLOAT 1, INT 2, INTS 7.
            let mut message = Message::default();
            let kind = match attribute {
                Attribute::Float(name, value) => {
                    message.text(field::ATTRIBUTE_NAME, name);
                    message.float(field::ATTRIBUTE_FLOAT, *value);
                    1
                }
                Attribute::Int(name, value) => {
                    message.text(field::ATTRIBUTE_NAME, name);
                    message.int(field::ATTRIBUTE_INT, *value);
                    2
                }
                Attribute::Ints(name, values) => {
                    message.text(field::ATTRIBUTE_NAME, name);
                    for value in *values {
                        message.int(field::ATTRIBUTE_INTS, *value as i64);
                    }
                    7
                }
            };
            message.int(field::ATTRIBUTE_TYPE, kind);
            node.message(field::NODE_ATTRIBUTE, &message);
        }
        self.nodes.message(field::GRAPH_NODE, &node);
    }

    /// Adds a constant; a shape without extents is a single number.
    pub fn constant(&mut self, name: &str, shape: &[usize], values: Values<'a>) {
        let mut header = Message::default();
        for extent in shape {
            header.int(field::TENSOR_DIMS, *extent as i64);
        }
        let kind = match &values {
            Values::F32(_) => kind::FLOAT,
            Values::F64(_) => kind::DOUBLE,
            Values::I64(_) => kind::INT64,
        };
        header.int(field::TENSOR_TYPE, kind);
        header.text(field::TENSOR_NAME, name);
        self.constants.push(Constant { header, values });
    }

    /// The graph's nodes and constants as fields of its message; the values are copied once.
    pub fn finish(self, graph: &mut Message) {
        graph.0.extend(self.nodes.0);
        for Constant { mut header, values } in self.constants {
            let length = match &values {
                Values::F32(values) => 4 * values.len(),
                Values::F64(_) => 8,
                Values::I64(values) => 8 * values.len(),
            };
            header.length(field::TENSOR_RAW, length);
            graph.length(field::GRAPH_INITIALIZER, header.0.len() + length);
            graph.0.extend(header.0);
            match values {
                Values::F32(values) => graph.0.extend(values.iter().flat_map(|v| v.to_le_bytes())),
                Values::F64(value) => graph.0.extend(value.to_le_bytes()),
                Values::I64(values) => graph.0.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            }
        }
    }
}
