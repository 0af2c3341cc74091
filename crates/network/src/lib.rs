#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod description;
mod error;
mod fields;
mod files;
mod graph;
pub mod half;
mod names;
mod picture;
mod preprocess;
mod shapes;
mod summary;
mod tensors;
mod text;
mod whitening;
#[cfg(feature = "text")]
mod zoo;

pub use description::{Conv, Factors, Init, Layer, LayerInit, Linear, Network, Operation, Pool};
pub use error::NetworkError;
pub use files::write_atomically;
pub use graph::{Graph, MAX_VALUES, Node, Parameter, Role, Source, shape_text};
pub use picture::Picture;
pub use preprocess::{Preprocess, PreprocessError};
pub use summary::{Summary, SummaryRow};
pub use tensors::{Differences, Tensor, Tensors, TensorsError};
pub use whitening::{Gcn, Zca};
#[cfg(feature = "text")]
pub use zoo::{zoo_names, zoo_text};
