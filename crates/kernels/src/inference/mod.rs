//! Inference: kernels that skip the zeros of their weights, and a program of layers that runs on them.
//!
//! An image is a [`Plane`] per channel, with pixels in the lanes of the vectors. A 1×1 convolution reads it as it is;
//! any other makes [`Lines`] of some channels at a time, a rearrangement in which every tap is an aligned load. A
//! [`Convolution`] keeps its weights packed for one [`Choice`] of method and tile. A [`Program`] is a list of [`Step`]s over the memory of one
//! image; images are shared among threads, and one image alone is computed by all threads together.

mod columns;
mod convolution;
mod dense;
mod groups;
mod layout;
mod linear;
mod memory;
mod pairs;
mod pointwise;
mod pool;
mod program;
mod rows;
mod table;
mod vector;

pub use convolution::{BAND, Choice, Convolution, Input, Method, Weights};
pub use layout::{Lines, Plane, Window};
pub use linear::{GROUP, Linear, Precision, Storage};
pub use memory::Aligned;
pub use pointwise::Normalization;
pub use pool::{Pool, PoolKind};
pub use program::{Chain, Program, Region, Step, Workspace};
