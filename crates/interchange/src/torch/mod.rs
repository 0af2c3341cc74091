//! PyTorch's files: `.pt` in, state dicts and masks out.

mod pickle;
mod state;
mod write;
mod zip;

pub use write::{masks_to_bytes, state_dict_to_bytes};

pub(crate) use state::{is_legacy, read_legacy, read_zip};
