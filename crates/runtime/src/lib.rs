#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod choose;
mod costs;
mod error;
mod fold;
mod measure;
mod memory;
mod model;
mod plan;
mod tune;

pub use costs::{KernelCost, LayerCost, layer_costs};
pub use error::RuntimeError;
pub use model::{Model, Options, Runner};
pub use skinny_kernels::{InstructionSet, instruction_set};
pub use skinny_network::{Picture, Preprocess};
