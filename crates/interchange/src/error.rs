//! What can be wrong with a file of another tool, or with what is to be written for one.

use std::path::PathBuf;

use skinny_network::{PreprocessError, TensorsError};

use crate::source::Format;

/// Why weights could not be read from a file, matched with a network, or written. Every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterchangeError {
    /// The file cannot be read.
    #[error("cannot read the weights {}: {source}", path.display())]
    Read {
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
        source: Box<InterchangeError>,
    },
    /// The bytes begin like none of the formats.
    #[error(
        "neither safetensors, nor a PyTorch file (.pt, .pth), nor ONNX; save the weights in one of these formats"
    )]
    UnknownFormat,
    /// The bytes begin like the format, but are damaged or use what is not read.
    #[error("not a readable {format} file: {reason}")]
    Format {
        /// The format it begins like.
        format: Format,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A pickle that asks for code which is not needed to hold weights. Nothing of it was run.
    #[error(
        "the pickle asks to run {name}, which no file of weights needs; nothing was run; save the weights alone, with torch.save(model.state_dict(), FILE)"
    )]
    Code {
        /// The function or class, quoted.
        name: String,
    },
    /// A tensor of numbers that are not read.
    #[error("tensor {name} has values of type {numbers}; convert it to F32, F16 or BF16")]
    Numbers {
        /// The tensor, quoted.
        name: String,
        /// Its type.
        numbers: String,
    },
    /// Tensors that are not those of the network.
    #[error("the weights are not those of network `{network}`: {mismatches}")]
    Mismatch {
        /// The network.
        network: String,
        /// All that does not match.
        mismatches: Mismatches,
    },
    /// Two tensors that come out under one name.
    #[error("tensors {first} and {second} would both become `{name}`; change the renaming")]
    Collision {
        /// One name in the file, quoted.
        first: String,
        /// The other, quoted.
        second: String,
        /// The name after renaming.
        name: String,
    },
    /// A file that keeps no order, with names that do not tell it.
    #[error(
        "safetensors keeps no order, and of {first} and {second} the names do not tell which comes first; match by name, with OLD=NEW where names differ"
    )]
    NoOrder {
        /// A name in the file, quoted.
        first: String,
        /// Another, quoted.
        second: String,
    },
    /// A renaming that cannot be.
    #[error("renaming {text}: {reason}; write OLD=NEW, for example features.0=conv1")]
    Rename {
        /// What was given, quoted.
        text: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A renaming together with matching by order.
    #[error(
        "a renaming does nothing where tensors are matched by their order; leave it out, or match by name"
    )]
    RenameInOrder,
    /// A network or weights that the format cannot hold.
    #[error("cannot be written as {format}: {reason}")]
    Unwritable {
        /// The format asked for.
        format: &'static str,
        /// Why not, and what to do.
        reason: String,
    },
    /// Weights that are not those of the network that is to be written.
    #[error(transparent)]
    Tensors(#[from] TensorsError),
    /// Preprocessing that does not belong to the network that is to be written.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
}

impl InterchangeError {
    /// What did not match, if that is what is wrong, also inside a named file.
    pub fn mismatches(&self) -> Option<&Mismatches> {
        match self {
            Self::Mismatch { mismatches, .. } => Some(mismatches),
            Self::InFile { source, .. } => source.mismatches(),
            _ => None,
        }
    }
}

/// All by which a file and a network differ.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mismatches {
    /// The network has them, the file does not: names of the network, in its order.
    pub missing: Vec<String>,
    /// The file has them, the network does not: names of the file, in its order.
    pub unexpected: Vec<String>,
    /// Both have them, in different shapes, in the network's order.
    pub wrong_shape: Vec<WrongShape>,
}

/// A tensor whose shape is not what the network needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongShape {
    /// Its name in the file.
    pub name: String,
    /// The network's name for it.
    pub parameter: String,
    /// Its shape in the file, outermost extent first.
    pub found: Vec<usize>,
    /// The shape that the network needs.
    pub needed: Vec<usize>,
}

impl std::fmt::Display for WrongShape {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", quote(&self.name))?;
        if self.name != self.parameter {
            write!(out, " for `{}`", self.parameter)?;
        }
        write!(
            out,
            " is {} instead of {}",
            shape(&self.found),
            shape(&self.needed)
        )
    }
}

impl Mismatches {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.wrong_shape.is_empty()
    }

    /// One line for each: what is missing, what is unexpected, what has another shape.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let missing = self.missing.iter().map(|n| format!("missing {}", quote(n)));
        let unexpected = (self.unexpected.iter()).map(|n| format!("unexpected {}", quote(n)));
        let shapes = (self.wrong_shape.iter()).map(|wrong| format!("wrong shape: {wrong}"));
        missing.chain(unexpected).chain(shapes)
    }
}

impl std::fmt::Display for Mismatches {
    /// On one line, the first six of each kind.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        let mut list = |what: &str, items: Vec<String>| {
            const SHOWN: usize = 6;
            if !items.is_empty() {
                let shown = items[..items.len().min(SHOWN)].join(", ");
                let more = match items.len().saturating_sub(SHOWN) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                parts.push(format!("{what} {shown}{more}"));
            }
        };
        list("missing", self.missing.iter().map(|n| quote(n)).collect());
        list(
            "unexpected",
            self.unexpected.iter().map(|n| quote(n)).collect(),
        );
        list(
            "wrong shape:",
            self.wrong_shape.iter().map(ToString::to_string).collect(),
        );
        match parts.is_empty() {
            true => out.write_str("no differences"),
            false => out.write_str(&parts.join("; ")),
        }
    }
}

/// Quotes text from a file so that a message stays one short line.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 100;
    let mut quoted = String::from("`");
    for (count, character) in text.chars().enumerate() {
        if count == LONGEST {
            quoted.push('…');
            break;
        }
        match character.is_control() {
            true => quoted.extend(character.escape_default()),
            false => quoted.push(character),
        }
    }
    quoted.push('`');
    quoted
}

/// A shape as messages show it: 16x3x5x5, or "a single number".
pub(crate) fn shape(shape: &[usize]) -> String {
    match shape.is_empty() {
        true => "a single number".to_owned(),
        false => skinny_network::shape_text(shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_has_a_line_and_all_fit_on_one() {
        let mismatches = Mismatches {
            missing: (0..8).map(|i| format!("fc{i}.weight")).collect(),
            unexpected: vec!["a\nb".into()],
            wrong_shape: vec![WrongShape {
                name: "features.0.weight".into(),
                parameter: "conv1.weight".into(),
                found: vec![64, 3, 11, 11],
                needed: vec![],
            }],
        };
        assert_eq!(mismatches.lines().count(), 10);
        let text = mismatches.to_string();
        assert!(
            text.ends_with("`fc5.weight` and 2 more; unexpected `a\\nb`; wrong shape: `features.0.weight` for `conv1.weight` is 64x3x11x11 instead of a single number"),
            "{text}"
        );
        assert!(!mismatches.is_empty() && Mismatches::default().is_empty());
        assert_eq!(Mismatches::default().to_string(), "no differences");
    }

    #[test]
    fn names_from_files_stay_on_one_short_line() {
        assert_eq!(quote("a\nb"), "`a\\nb`");
        assert_eq!(quote(&"x".repeat(5000)).chars().count(), 103);
    }
}
