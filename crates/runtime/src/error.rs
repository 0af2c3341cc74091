//! What can go wrong; every message is one line.

use skinny_model::ModelError;
use skinny_network::{NetworkError, TensorsError};

/// Why a model could not be made ready or run.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The file is wrong.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The network is wrong.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The weights are not those of the network.
    #[error(transparent)]
    Tensors(#[from] TensorsError),
    /// The input is not whole images.
    #[error(
        "the input has {found} values; give a multiple of {image}, the values of one image ({shape})"
    )]
    Input {
        /// Values given.
        found: usize,
        /// Values of an image.
        image: usize,
        /// Its shape.
        shape: String,
    },
    /// The output has another length than the results.
    #[error("the output has room for {found} values; {images} images give {expected}")]
    Output {
        /// Room given.
        found: usize,
        /// Images given.
        images: usize,
        /// Values of their results.
        expected: usize,
    },
    /// The network needs more memory than it may.
    #[error(
        "{name} needs {needed} bytes of memory to run and may use {most}; use fewer threads, or if the file is to be trusted a larger Options::memory of this library"
    )]
    Memory {
        /// Name of the network.
        name: String,
        /// Bytes of the buffers of all threads.
        needed: u64,
        /// What the options allow.
        most: u64,
    },
    /// A weight is not a finite number.
    #[error("`{0}` holds a value that is not finite; the file is damaged or the training diverged")]
    NotFinite(String),
}
