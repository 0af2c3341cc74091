//! What can be wrong with a description of a network, in one line each.

use std::path::PathBuf;

/// Why a network was refused. Every message is one line that names the thing and the cure.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The text is not TOML.
    #[error("the network's TOML is not readable, line {line}: {message}")]
    Syntax {
        /// Line of the text, from 1.
        line: usize,
        /// What the TOML reader found.
        message: String,
    },
    /// A key that the network or the layer type does not have.
    #[error("{owner}: unknown key {key}; {hint}")]
    UnknownKey {
        /// The layer or the network.
        owner: String,
        /// The key, quoted.
        key: String,
        /// The nearest known key, or all of them.
        hint: String,
    },
    /// A key with a value that it cannot have.
    #[error("{owner}: key `{key}`: {message}")]
    Value {
        /// The layer or the network.
        owner: String,
        /// The key.
        key: String,
        /// What is wrong with the value.
        message: String,
    },
    /// A key that must be there and is not.
    #[error("{owner}: key `{key}` is missing; add for example `{example}`")]
    MissingKey {
        /// The layer or the network.
        owner: String,
        /// The key.
        key: &'static str,
        /// A line that would do.
        example: &'static str,
    },
    /// A layer type that does not exist.
    #[error("{owner}: unknown type {kind}; {hint}")]
    UnknownType {
        /// The layer.
        owner: String,
        /// The type, quoted.
        kind: String,
        /// The nearest known type, or all of them.
        hint: String,
    },
    /// A network or layer name that cannot be used.
    #[error(
        "{owner}: the name {name} cannot be used: {reason}; use letters, digits, `_` and `-`, for example `conv1`"
    )]
    BadName {
        /// What bears the name.
        owner: String,
        /// The name, quoted.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// Two layers with the same name.
    #[error("two layers are named `{0}`; give each layer its own name")]
    DuplicateName(String),
    /// A network without layers.
    #[error("the network has no layers; add a [[layers]] table")]
    NoLayers,
    /// A layer reads something that is not there.
    #[error("layer `{layer}`: reads {input}, which is no layer; {hint}")]
    UnknownInput {
        /// The reading layer.
        layer: String,
        /// What it reads, quoted.
        input: String,
        /// The nearest name, or what may be read.
        hint: String,
    },
    /// A layer reads itself or a layer further down.
    #[error(
        "layer `{layer}`: reads `{input}`, which does not come before it; a layer reads only layers above it in the file"
    )]
    LaterInput {
        /// The reading layer.
        layer: String,
        /// What it reads.
        input: String,
    },
    /// The wrong number of inputs.
    #[error("layer `{layer}`: type `{kind}` reads {needs}, but `inputs` names {found}")]
    InputCount {
        /// The layer.
        layer: String,
        /// Its type.
        kind: &'static str,
        /// How many inputs the type needs.
        needs: &'static str,
        /// How many were given.
        found: usize,
    },
    /// The inputs of an `add` have different shapes.
    #[error("layer `{layer}`: inputs have shapes {first} and {second}; they must be equal")]
    ShapesDiffer {
        /// The layer.
        layer: String,
        /// Shape of the first input, such as 16x32x32.
        first: String,
        /// Shape of the input that differs.
        second: String,
    },
    /// The layer cannot take an input of this shape.
    #[error("layer `{layer}`: cannot take an input of shape {shape}: {reason}")]
    BadInput {
        /// The layer.
        layer: String,
        /// Shape of its input.
        shape: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// A size is beyond what can be addressed.
    #[error("{owner}: {what} is larger than {limit}; make the network smaller")]
    TooLarge {
        /// The layer or the network.
        owner: String,
        /// What is too large.
        what: &'static str,
        /// The largest size allowed.
        limit: u64,
    },
    /// A layer before the last one that nobody reads.
    #[error(
        "layer `{0}`: no layer reads its output, and only the last layer is the network's output; remove it or name it in the `inputs` of a layer below"
    )]
    Unused(String),
    /// Neither a name in the zoo nor a file.
    #[error("no network is named {name} and no such file exists; {hint}")]
    UnknownNetwork {
        /// What was asked for, quoted.
        name: String,
        /// The nearest name and the names in the zoo.
        hint: String,
    },
    /// The file cannot be read.
    #[error("cannot read the network file {}: {source}", path.display())]
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
        source: Box<NetworkError>,
    },
}

/// Quotes text that came from outside so that a message stays one short line.
pub(crate) fn quote(text: &str) -> String {
    format!("`{}`", shortened(text, 60))
}

/// A message of a library on one line.
pub(crate) fn one_line(message: &str) -> String {
    shortened(message.trim(), 160)
}

fn shortened(text: &str, longest: usize) -> String {
    let mut out = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == longest {
            out.push('…');
            break;
        }
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// The known word nearest to `word`, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The distance costs the product of both lengths, and words come from untrusted files.
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let allowed = 1 + word.chars().count() / 3;
    known
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (distance(&word.to_lowercase(), candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(feature = "text")]
use strsim::damerau_levenshtein as distance;

/// Without text that people write, nothing is near but the same.
#[cfg(not(feature = "text"))]
fn distance(word: &str, candidate: &str) -> usize {
    if word == candidate { 0 } else { usize::MAX }
}

/// "did you mean …?" where a known word is near, or else the list of known words.
pub(crate) fn hint(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "it has no keys of its own".to_owned(),
        None => format!("known: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_keeps_a_message_on_one_short_line() {
        assert_eq!(quote("a\nb"), "`a\\nb`");
        assert_eq!(quote(&"x".repeat(1000)).chars().count(), 63);
        assert_eq!(one_line(" expected `a`\n"), "expected `a`");
    }

    #[test]
    fn the_nearest_word_is_found_or_all_are_listed() {
        let known = ["kernel", "stride", "padding"];
        assert_eq!(hint("kernal", &known), "did you mean `kernel`?");
        assert_eq!(hint("Stride", &known), "did you mean `stride`?");
        assert_eq!(hint("zzzzzz", &known), "known: kernel, stride, padding");
        assert_eq!(nearest(&"k".repeat(65), known), None);
    }
}
