#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod description;
mod error;
mod fields;
mod graph;
mod names;
mod shapes;
mod text;
mod zoo;

pub use description::{Conv, Factors, Init, Layer, LayerInit, Linear, Network, Operation, Pool};
pub use error::NetworkError;
pub use graph::{Graph, MAX_VALUES, Node, Parameter, Role, Source, shape_text};
pub use zoo::{zoo_names, zoo_text};
