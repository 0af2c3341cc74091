//! ONNX: networks out, weights in.

mod nodes;
mod preprocess;
mod protobuf;
mod read;
mod write;

pub use write::{OnnxOptions, to_onnx};

pub(crate) use read::{External, is_model, read};

/// Field numbers of ONNX's messages (onnx.proto3), those that are used.
pub(crate) mod field {
    pub const MODEL_IR_VERSION: u64 = 1;
    pub const MODEL_PRODUCER: u64 = 2;
    pub const MODEL_PRODUCER_VERSION: u64 = 3;
    pub const MODEL_DOC: u64 = 6;
    pub const MODEL_GRAPH: u64 = 7;
    pub const MODEL_OPSET: u64 = 8;
    pub const MODEL_METADATA: u64 = 14;
    pub const OPSET_VERSION: u64 = 2;
    pub const ENTRY_KEY: u64 = 1;
    pub const ENTRY_VALUE: u64 = 2;
    pub const GRAPH_NODE: u64 = 1;
    pub const GRAPH_NAME: u64 = 2;
    pub const GRAPH_INITIALIZER: u64 = 5;
    pub const GRAPH_INPUT: u64 = 11;
    pub const GRAPH_OUTPUT: u64 = 12;
    pub const NODE_INPUT: u64 = 1;
    pub const NODE_OUTPUT: u64 = 2;
    pub const NODE_NAME: u64 = 3;
    pub const NODE_TYPE: u64 = 4;
    pub const NODE_ATTRIBUTE: u64 = 5;
    pub const ATTRIBUTE_NAME: u64 = 1;
    pub const ATTRIBUTE_FLOAT: u64 = 2;
    pub const ATTRIBUTE_INT: u64 = 3;
    pub const ATTRIBUTE_TENSOR: u64 = 5;
    pub const ATTRIBUTE_INTS: u64 = 8;
    pub const ATTRIBUTE_TYPE: u64 = 20;
    pub const TENSOR_DIMS: u64 = 1;
    pub const TENSOR_TYPE: u64 = 2;
    pub const TENSOR_FLOATS: u64 = 4;
    pub const TENSOR_INT32S: u64 = 5;
    pub const TENSOR_NAME: u64 = 8;
    pub const TENSOR_RAW: u64 = 9;
    pub const TENSOR_EXTERNAL: u64 = 13;
    pub const TENSOR_LOCATION: u64 = 14;
    pub const VALUE_NAME: u64 = 1;
    pub const VALUE_TYPE: u64 = 2;
    pub const TYPE_TENSOR: u64 = 1;
    pub const TENSOR_TYPE_ELEMENT: u64 = 1;
    pub const TENSOR_TYPE_SHAPE: u64 = 2;
    pub const SHAPE_DIM: u64 = 1;
    pub const DIM_VALUE: u64 = 1;
    pub const DIM_NAME: u64 = 2;
}

/// ONNX's numbers for types of values.
pub(crate) mod kind {
    pub const FLOAT: i64 = 1;
    pub const INT64: i64 = 7;
    pub const FLOAT16: i64 = 10;
    pub const DOUBLE: i64 = 11;
    pub const BFLOAT16: i64 = 16;
}
