//! Inference: kernels that skip the zeros of their weights, and a program of layers that runs on them.
mod columns;
mod convolution;
mod dense;
mod groups;
mod layout;
mod rows;
mod table;
mod vector;
pub use convolution::{Choice, Convolution, Input, Method, Weights};
pub use layout::{Lines, Plane, Window};
