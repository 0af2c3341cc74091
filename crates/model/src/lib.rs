#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod bits;
mod codebook;
mod container;
mod error;
mod floor;
mod fold;
mod index;
mod model;
mod pack;
mod rans;
mod read;
mod values;

pub use error::ModelError;
pub use floor::index_floor_bytes;
pub use model::{Index, IndexKind, Model, StoredParameter};
pub use pack::{Level, PackOptions, PackProgress, Unpacked, pack};
pub use values::{ValueKind, Values};

/// What the file says it is.
const FORMAT: &str = "skinny";
/// The version of the format that is written and read.
pub const VERSION: u32 = 1;

/// Keys of the text beside the tensors.
mod text {
    pub const FORMAT: &str = "format";
    pub const VERSION: &str = "version";
    pub const NETWORK: &str = "network";
    pub const PREPROCESS: &str = "preprocess";
    pub const SHAPES: &str = "shapes";
}

/// The parts of a weight, each named `weight.part`.
mod suffix {
    pub const BITMASK: &str = "bitmask";
    pub const ROW_OFFSETS: &str = "row_offsets";
    pub const SHAPE: &str = "shape";
    pub const GAPS: &str = "gaps";
    pub const RICE: &str = "rice";
    pub const MASK: &str = "mask";
    pub const COMPRESSED: &str = "compressed";
    pub const CODES: &str = "codes";
    pub const CODED: &str = "coded";
    pub const SCALE: &str = "scale";
    pub const CODEBOOK: &str = "codebook";
}
