//! What can be wrong with a model file, in one line each.

use std::path::PathBuf;

use skinny_network::{NetworkError, PreprocessError, TensorsError};

/// Why a model could not be read or written. Every message is one line that names the thing and the cure.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be read.
    #[error("cannot read the model {}: {source}; `skinny export RUN --to model.skinny` makes one", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the model {}: {source}; the old file, if any, is unchanged", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file was read and is wrong.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<ModelError>,
    },
    /// The bytes are no safetensors file.
    #[error("not a whole safetensors file: {0}; export the model again or fetch it again")]
    Container(String),
    /// A safetensors file, but not a model.
    #[error("not a .skinny file: {0}; make one with `skinny export RUN --to model.skinny`")]
    NotAModel(String),
    /// A model of another version of the format.
    #[error("the file has format version {found}, but this program reads version {known}; {cure}")]
    Version {
        /// Version of the file, quoted.
        found: String,
        /// Version that is read.
        known: u32,
        /// What to do.
        cure: &'static str,
    },
    /// The network of the file is wrong.
    #[error("the model's network: {0}")]
    Network(#[from] NetworkError),
    /// The preprocessing of the file is wrong.
    #[error("the model's preprocessing: {0}")]
    Preprocess(#[from] PreprocessError),
    /// A parameter whose parts contradict each other, the network or the format.
    #[error("parameter `{name}`: {reason}; the file is damaged, export the model again")]
    Parameter {
        /// The parameter.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Tensors that do not belong to the network.
    #[error(
        "tensor {name} belongs to no parameter of the network; the file is damaged, export the model again"
    )]
    Stray {
        /// The tensor, quoted.
        name: String,
    },
    /// So few bytes cannot be what so many weights have come to.
    #[error(
        "{what} in a file of {bytes} bytes: more than any file of this format holds; it is damaged or made to exhaust memory"
    )]
    TooMany {
        /// What there are too many of.
        what: String,
        /// Length of the file.
        bytes: usize,
    },
    /// What was given to be packed is not the network's.
    #[error(transparent)]
    Tensors(#[from] TensorsError),
    /// A parameter that cannot be packed.
    #[error("parameter `{name}` cannot be packed: {reason}")]
    Unpackable {
        /// The parameter.
        name: String,
        /// Why, and what to do.
        reason: String,
    },
}

/// Text from outside, quoted and short, so that a message stays one line.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut out = String::from("`");
    for (count, character) in text.chars().enumerate() {
        if count == LONGEST {
            out.push('…');
            break;
        }
        match character.is_control() {
            true => out.extend(character.escape_default()),
            false => out.push(character),
        }
    }
    out.push('`');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_one_short_line() {
        assert_eq!(quote("a\nb"), "`a\\nb`");
        assert_eq!(quote(&"x".repeat(1000)).chars().count(), 63);
    }
}
