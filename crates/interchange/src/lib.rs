#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod error;
mod matching;
mod onnx;
mod rename;
mod source;
mod stored;
mod torch;

pub use error::{InterchangeError, Mismatches, WrongShape};
pub use matching::{Imported, Matching, Options, Pair, import, import_file};
pub use onnx::{OnnxOptions, to_onnx};
pub use rename::Rename;
pub use source::{Format, Source};
pub use stored::{Entry, Numbers};
pub use torch::{masks_to_bytes, state_dict_to_bytes};
