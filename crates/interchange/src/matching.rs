//! Which tensor of a file is which parameter of a network.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use skinny_network::{Graph, Parameter, Tensors};

use crate::error::{InterchangeError, Mismatches, WrongShape, quote};
use crate::rename::Rename;
use crate::source::{Format, Source, of_layer, order_is_told};
use crate::stored::{Entry, Numbers};

/// How tensors of a file are matched with parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Matching {
    /// By name.
    #[default]
    Name,
    /// By order: the first tensor of the file is the first parameter of the network, and so on. Shapes must agree, and so
    /// must the last parts of the names where both are PyTorch's (`weight`, `bias`, `running_mean`, `running_var`).
    Order,
}

/// How a file is read for a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How tensors are matched with parameters.
    #[serde(rename = "match")]
    pub matching: Matching,
    /// New names for the file's tensors, before they are matched.
    pub rename: Rename,
    /// Whether every tensor and every parameter must match; otherwise what matches is taken.
    pub strict: bool,
}

impl Options {
    /// Refuses options of which one makes another do nothing.
    ///
    /// # Errors
    /// [`InterchangeError::RenameInOrder`].
    pub fn check(&self) -> Result<(), InterchangeError> {
        match self.matching == Matching::Order && !self.rename.is_empty() {
            true => Err(InterchangeError::RenameInOrder),
            false => Ok(()),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            matching: Matching::Name,
            rename: Rename::default(),
            strict: true,
        }
    }
}

/// One tensor of a file and the parameter that it is taken for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// Name in the file.
    pub name: String,
    /// Name in the network.
    pub parameter: String,
    /// The shape that both have.
    pub shape: Vec<usize>,
}

impl std::fmt::Display for Pair {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shape = crate::error::shape(&self.shape);
        write!(out, "{} -> {} ({shape})", quote(&self.name), self.parameter)
    }
}

/// Weights of a file under the names of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The weights, in the shapes of the network; all of them when strict.
    pub tensors: Tensors,
    /// What was taken for what, in the order of the network.
    pub pairs: Vec<Pair>,
    /// What did not match; nothing when strict.
    pub mismatches: Mismatches,
}

/// Takes the weights of a network from a file.
///
/// PyTorch's counters of batches and other tensors of integers are no weights and are passed over.
///
/// # Errors
/// Options that [`Options::check`] refuses. When strict, anything that does not match; otherwise, that nothing does. Two tensors that come out under one name. A
/// tensor that matches and has numbers of a type that is not read.
pub fn import(
    source: &Source,
    graph: &Graph,
    options: &Options,
) -> Result<Imported, InterchangeError> {
    options.check()?;
    let is_parameter = |name: &str| graph.parameters.iter().any(|own| own.name == name);
    // What an ONNX model does to pictures before the first layer is none of the network's.
    let of_pictures = |entry: &Entry| {
        let name = entry.name();
        source.format() == Format::Onnx && name.starts_with("preprocess.") && !is_parameter(name)
    };
    let entries = (source.entries().iter()).filter(|entry| !of_pictures(entry));
    let (found, mismatches) = match options.matching {
        Matching::Name => {
            // A weight in numbers that are not read must be refused as such, not as missing.
            let asked_for = |entry: &Entry| is_parameter(&options.rename.apply(entry.name()));
            let entries = entries.filter(|entry| may_be_weight(entry) || asked_for(entry));
            by_name(entries, graph, &options.rename)?
        }
        Matching::Order => {
            let entries: Vec<&Entry> = entries.filter(|entry| may_be_weight(entry)).collect();
            if source.format() == Format::Safetensors {
                check_order(&entries)?;
            }
            by_order(entries.into_iter(), graph)
        }
    };
    if found.is_empty() || options.strict && !mismatches.is_empty() {
        return Err(InterchangeError::Mismatch {
            network: graph.name.clone(),
            mismatches,
        });
    }
    let mut tensors = Tensors::new();
    let mut pairs = Vec::with_capacity(found.len());
    for (entry, parameter) in found {
        tensors.insert(&parameter.name, source.tensor(entry)?);
        pairs.push(Pair {
            name: entry.name().to_owned(),
            parameter: parameter.name.clone(),
            shape: parameter.shape.clone(),
        });
    }
    Ok(Imported {
        tensors,
        pairs,
        mismatches,
    })
}

/// Takes the weights of a network from a file by its path.
///
/// # Errors
/// As [`Source::open`] and [`import`], naming the file.
pub fn import_file(
    path: &Path,
    graph: &Graph,
    options: &Options,
) -> Result<Imported, InterchangeError> {
    let source = Source::open(path)?;
    import(&source, graph, options).map_err(|source| InterchangeError::InFile {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// Refuses sorted names that do not tell the order of the network.
fn check_order(entries: &[&Entry]) -> Result<(), InterchangeError> {
    let names = entries
        .windows(2)
        .map(|pair| (pair[0].name(), pair[1].name()));
    match names.into_iter().find(|(a, b)| !order_is_told(a, b)) {
        None => Ok(()),
        Some((first, second)) => Err(InterchangeError::NoOrder {
            first: quote(first),
            second: quote(second),
        }),
    }
}

fn may_be_weight(entry: &Entry) -> bool {
    !matches!(entry.numbers(), Numbers::Other(name) if name != "F64")
}

type Found<'a> = Vec<(&'a Entry, &'a Parameter)>;

fn by_name<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    graph: &'a Graph,
    rename: &Rename,
) -> Result<(Found<'a>, Mismatches), InterchangeError> {
    let mut named: HashMap<String, &Entry> = HashMap::new();
    let mut order = Vec::new();
    for entry in entries {
        let name = rename.apply(entry.name());
        if let Some(first) = named.insert(name.clone(), entry) {
            return Err(InterchangeError::Collision {
                first: quote(first.name()),
                second: quote(entry.name()),
                name,
            });
        }
        order.push((name, entry));
    }
    let (mut found, mut mismatches) = (Vec::new(), Mismatches::default());
    for parameter in &graph.parameters {
        match named.remove(&parameter.name) {
            Some(entry) if entry.shape() == parameter.shape => found.push((entry, parameter)),
            Some(entry) => mismatches.wrong_shape.push(wrong_shape(entry, parameter)),
            None => mismatches.missing.push(parameter.name.clone()),
        }
    }
    let left = order.iter().filter(|(name, _)| named.contains_key(name));
    mismatches.unexpected = left.map(|(_, entry)| entry.name().to_owned()).collect();
    Ok((found, mismatches))
}

fn by_order<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    graph: &'a Graph,
) -> (Found<'a>, Mismatches) {
    let (mut found, mut mismatches) = (Vec::new(), Mismatches::default());
    let mut parameters = graph.parameters.iter();
    for entry in entries {
        match parameters.next() {
            None => mismatches.unexpected.push(entry.name().to_owned()),
            Some(parameter) if kinds_differ(entry.name(), &parameter.name) => {
                mismatches.unexpected.push(entry.name().to_owned());
                mismatches.missing.push(parameter.name.clone());
            }
            Some(parameter) if entry.shape() == parameter.shape => found.push((entry, parameter)),
            Some(parameter) => mismatches.wrong_shape.push(wrong_shape(entry, parameter)),
        }
    }
    (mismatches.missing).extend(parameters.map(|parameter| parameter.name.clone()));
    (found, mismatches)
}

fn wrong_shape(entry: &Entry, parameter: &Parameter) -> WrongShape {
    WrongShape {
        name: entry.name().to_owned(),
        parameter: parameter.name.clone(),
        found: entry.shape(),
        needed: parameter.shape.clone(),
    }
}

/// Whether both names end as PyTorch's do, in different words.
fn kinds_differ(name: &str, parameter: &str) -> bool {
    let kind = |name| of_layer(name).1;
    matches!((kind(name), kind(parameter)), (Some(one), Some(other)) if one != other)
}

#[cfg(test)]
mod tests {
    use skinny_network::{Network, Tensor};

    use super::*;

    fn graph() -> Graph {
        let text = r#"
            name = "small"
            input = [1, 2, 2]
            [[layers]]
            name = "conv1"
            type = "conv"
            out = 2
            kernel = 1
            [[layers]]
            name = "flatten"
            type = "flatten"
            [[layers]]
            name = "fc"
            type = "linear"
            out = 8
        "#;
        Network::from_toml(text).unwrap().graph().unwrap()
    }

    fn source(tensors: &[(&str, &[usize])]) -> Source {
        let tensors: Tensors = tensors
            .iter()
            .enumerate()
            .map(|(index, (name, shape))| {
                let data = vec![index as f32; shape.iter().product()];
                (
                    (*name).to_owned(),
                    Tensor {
                        shape: shape.to_vec(),
                        data,
                    },
                )
            })
            .collect();
        Source::from_bytes(tensors.to_bytes().unwrap()).unwrap()
    }

    fn mismatches(result: Result<Imported, InterchangeError>) -> Mismatches {
        match result.unwrap_err() {
            InterchangeError::Mismatch { mismatches, .. } => mismatches,
            other => panic!("{other}"),
        }
    }

    const OWN: [(&str, &[usize]); 4] = [
        ("conv1.bias", &[2]),
        ("conv1.weight", &[2, 1, 1, 1]),
        ("fc.bias", &[8]),
        ("fc.weight", &[8, 8]),
    ];

    #[test]
    fn names_match_whatever_their_order() {
        let imported = import(&source(&OWN), &graph(), &Options::default()).unwrap();
        assert_eq!(imported.tensors.len(), 4);
        assert_eq!(imported.tensors.get("conv1.weight").unwrap().data, [1.0; 2]);
        assert_eq!(
            imported.pairs[0].to_string(),
            "`conv1.weight` -> conv1.weight (2x1x1x1)"
        );
        imported.tensors.check_against(&graph(), true).unwrap();
    }

    #[test]
    fn all_differences_are_named() {
        let source = source(&[
            ("conv1.weight", &[2, 1, 3, 3]),
            ("fc.bias", &[8]),
            ("fc.weight", &[8, 8]),
            ("head.bias", &[3]),
        ]);
        let found = mismatches(import(&source, &graph(), &Options::default()));
        assert_eq!(found.missing, ["conv1.bias"]);
        assert_eq!(found.unexpected, ["head.bias"]);
        assert_eq!(
            found.wrong_shape[0].to_string(),
            "`conv1.weight` is 2x1x3x3 instead of 2x1x1x1"
        );
        let loose = Options {
            strict: false,
            ..Options::default()
        };
        let imported = import(&source, &graph(), &loose).unwrap();
        assert_eq!(imported.mismatches, found);
        assert_eq!(
            imported.tensors.names().collect::<Vec<_>>(),
            ["fc.bias", "fc.weight"]
        );
    }

    #[test]
    fn nothing_in_common_is_an_error_even_if_not_strict() {
        let loose = Options {
            strict: false,
            ..Options::default()
        };
        let found = mismatches(import(&source(&[("x", &[1])]), &graph(), &loose));
        assert_eq!((found.missing.len(), found.unexpected.len()), (4, 1));
    }

    #[test]
    fn names_may_be_changed_but_not_into_one() {
        let source = source(&[
            ("module.classifier.bias", &[8]),
            ("module.classifier.weight", &[8, 8]),
            ("module.features.0.bias", &[2]),
            ("module.features.0.weight", &[2, 1, 1, 1]),
        ]);
        let with = |pairs: &[&str]| Options {
            rename: Rename::parse(pairs).unwrap(),
            ..Options::default()
        };
        let good = with(&["module.classifier=fc", "module.features.0=conv1"]);
        assert_eq!(
            import(&source, &graph(), &good).unwrap().pairs[3].name,
            "module.classifier.bias"
        );
        let bad = with(&["module.classifier=fc", "module.features.0=fc"]);
        let message = import(&source, &graph(), &bad).unwrap_err().to_string();
        assert!(
            message.contains("would both become `fc.weight`"),
            "{message}"
        );
    }

    #[test]
    fn a_weight_in_numbers_that_are_not_read_is_refused_as_such() {
        let header = r#"{"conv1.weight":{"dtype":"I8","shape":[2,1,1,1],"data_offsets":[0,2]},"counter":{"dtype":"I64","shape":[],"data_offsets":[2,10]}}"#;
        let length = (header.len() as u64).to_le_bytes();
        let bytes = [&length, header.as_bytes(), &[0; 10]].concat();
        let loose = Options {
            strict: false,
            ..Options::default()
        };
        let source = Source::from_bytes(bytes).unwrap();
        let message = import(&source, &graph(), &loose).unwrap_err().to_string();
        assert!(
            message.contains("`conv1.weight` has values of type"),
            "{message}"
        );
    }

    #[test]
    fn order_matches_shapes_and_kinds() {
        let order = Options {
            matching: Matching::Order,
            ..Options::default()
        };
        // Words tell no order.
        let unknown = import(&source(&OWN), &graph(), &order).unwrap_err();
        assert!(
            unknown.to_string().contains("`conv1.bias` and `fc.weight`"),
            "{unknown}"
        );
        let numbered = source(&[
            ("net.10.bias", &[8]),
            ("net.10.weight", &[8, 8]),
            ("net.2.bias", &[2]),
            ("net.2.weight", &[2, 1, 1, 1]),
        ]);
        let imported = import(&numbered, &graph(), &order).unwrap();
        assert_eq!(imported.tensors.get("conv1.bias").unwrap().data, [2.0; 2]);
        assert_eq!(imported.tensors.get("fc.bias").unwrap().data, [0.0; 8]);
        let good = source(&[
            ("1.w", &[2, 1, 1, 1]),
            ("2.b", &[2]),
            ("3.w", &[8, 8]),
            ("4.b", &[8]),
        ]);
        let imported = import(&good, &graph(), &order).unwrap();
        assert_eq!(imported.tensors.get("fc.bias").unwrap().data, [3.0; 8]);
        let short = source(&[("1.w", &[2, 1, 1, 1]), ("2.b", &[3])]);
        let found = mismatches(import(&short, &graph(), &order));
        assert_eq!(found.missing, ["fc.weight", "fc.bias"]);
        assert_eq!(
            found.wrong_shape[0].to_string(),
            "`2.b` for `conv1.bias` is 3 instead of 2"
        );
        let long = source(&[
            ("1.w", &[2, 1, 1, 1]),
            ("2.b", &[2]),
            ("3.w", &[8, 8]),
            ("4.b", &[8]),
            ("5", &[1]),
        ]);
        assert_eq!(
            mismatches(import(&long, &graph(), &order)).unexpected,
            ["5"]
        );
    }
}
