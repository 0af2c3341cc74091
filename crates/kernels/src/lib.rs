//! CPU kernels for training convolutional networks: `f32`, NCHW, plain slices.
//!
//! Every kernel is a function over slices that runs on the calling thread and handles `images`
//! consecutive images, unless it takes [`Threads`], which is how whole-batch work is split. Work is
//! split by shape and never by the number of threads, and every sum has a fixed order, so the same
//! inputs give the same bits at any thread count on one instruction set. A warm call allocates
//! nothing: temporary memory is passed in as `scratch`.
//!
//! Shapes are checked with assertions: the caller has validated the network before it gets here, and a
//! wrong length is a bug in the caller, not bad input.
//!
//! This is the only crate of the workspace with `unsafe`; every block says why it is sound.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

#[macro_use]
mod simd;
mod gemm;
mod sparse;
#[cfg(test)]
mod testing;

pub mod activation;
pub mod conv;
pub mod dropout;
pub mod elementwise;
mod finish;
pub mod inference;
pub mod linear;
pub mod loss;
pub mod lrn;
pub mod norm;
pub mod peak;
pub mod pool;
pub mod threads;
mod transpose;
pub mod update;
mod vector;

pub use conv::{Conv2d, SparseConv2d};
pub use finish::Finish;
pub use linear::{Linear, SparseLinear};
pub use pool::Pool2d;
pub use simd::{InstructionSet, first_level_cache, instruction_set};
pub use threads::Threads;
pub use transpose::transpose;
