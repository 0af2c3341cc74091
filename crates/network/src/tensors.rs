//! Named weights, and the safetensors files that hold them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::error::{one_line, quote};
use crate::files::write_atomically;
use crate::graph::{Graph, shape_text};
use crate::half;

/// A dense array of f32 in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Extents, outermost first; empty for a single number.
    pub shape: Vec<usize>,
    /// As many values as the product of the extents.
    pub data: Vec<f32>,
}

impl Tensor {
    /// A tensor of zeros.
    ///
    /// # Panics
    /// If the number of values overflows a `usize`; no shape of a [`Graph`] does.
    pub fn zeros(shape: &[usize]) -> Self {
        Self {
            shape: shape.to_vec(),
            data: vec![0.0; shape.iter().product()],
        }
    }

    /// Whether the shape and the number of values agree.
    pub fn is_consistent(&self) -> bool {
        let values = self
            .shape
            .iter()
            .try_fold(1usize, |product, extent| product.checked_mul(*extent));
        values == Some(self.data.len())
    }
}

/// Named tensors in the order of their names, with free text beside them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tensors {
    tensors: BTreeMap<String, Tensor>,
    /// Text that a file carries beside its tensors.
    pub metadata: BTreeMap<String, String>,
}

/// Why tensors could not be read, written or used. Every message is one line.
#[derive(Debug, thiserror::Error)]
pub enum TensorsError {
    /// The file cannot be read.
    #[error("cannot read the weights {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the weights {}: {source}; the old file, if any, is unchanged", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file was read and is wrong.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<TensorsError>,
    },
    /// The bytes are no safetensors file.
    #[error("not a whole safetensors file: {0}; write it again or fetch it again")]
    Format(String),
    /// A tensor of a type that is not read.
    #[error("tensor {name} has values of type {dtype}; convert it to F32, F16 or BF16")]
    Type {
        /// The tensor, quoted.
        name: String,
        /// Its type.
        dtype: String,
    },
    /// A tensor whose shape and number of values disagree, or a name that no file can hold.
    #[error("tensor {name} cannot be written: {reason}")]
    Unwritable {
        /// The tensor, quoted.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A weight whose shape is not the network's.
    #[error("weight `{name}` has shape {found}, but network `{network}` needs {needed}")]
    Shape {
        /// The weight.
        name: String,
        /// Its shape.
        found: String,
        /// The network.
        network: String,
        /// The shape that the network needs.
        needed: String,
    },
    /// A value that is NaN or infinite.
    #[error(
        "`{name}` has a value {value}; its training diverged or the file is damaged, take other weights"
    )]
    NotFinite {
        /// The tensor.
        name: String,
        /// The value.
        value: f32,
    },
    /// Weights that are missing, or that the network does not have.
    #[error("the weights are not those of network `{network}`: {differences}")]
    Names {
        /// The network.
        network: String,
        /// What is missing and what is unexpected.
        differences: Differences,
    },
}

/// Names by which weights differ from those of a network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Differences {
    /// The network has them, the weights do not.
    pub missing: Vec<String>,
    /// The weights have them, the network does not.
    pub unexpected: Vec<String>,
}

impl Differences {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty()
    }
}

impl std::fmt::Display for Differences {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 6;
        let list = |what: &str, names: &[String]| {
            let mut text = names
                .iter()
                .take(SHOWN)
                .map(|name| quote(name))
                .collect::<Vec<_>>()
                .join(", ");
            if names.len() > SHOWN {
                text += &format!(" and {} more", names.len() - SHOWN);
            }
            format!("{what} {text}")
        };
        let mut parts = Vec::new();
        if !self.missing.is_empty() {
            parts.push(list("missing", &self.missing));
        }
        if !self.unexpected.is_empty() {
            parts.push(list("unexpected", &self.unexpected));
        }
        if parts.is_empty() {
            parts.push("no differences".to_owned());
        }
        out.write_str(&parts.join("; "))
    }
}

impl Tensors {
    /// No tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a tensor and returns what was there.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) -> Option<Tensor> {
        self.tensors.insert(name.into(), tensor)
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.tensors.remove(name)
    }

    /// The tensor with this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The tensor with this name, to change.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Tensor> {
        self.tensors.get_mut(name)
    }

    /// All tensors in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// All tensors in the order of their names, to change.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&str, &mut Tensor)> {
        self.tensors
            .iter_mut()
            .map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// All names in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Looks for values that are no numbers.
    ///
    /// # Errors
    /// [`TensorsError::NotFinite`] for the first one.
    pub fn check_finite(&self) -> Result<(), TensorsError> {
        for (name, tensor) in self.iter() {
            if let Some(value) = tensor.data.iter().find(|value| !value.is_finite()) {
                return Err(TensorsError::NotFinite {
                    name: name.to_owned(),
                    value: *value,
                });
            }
        }
        Ok(())
    }

    /// Compares names and shapes with what a network needs.
    ///
    /// Running statistics are needed too. When `strict`, any difference in names is an error;
    /// otherwise the differences are returned and only a wrong shape is an error.
    ///
    /// # Errors
    /// [`TensorsError::Shape`] for the first wrong shape, [`TensorsError::Names`] as said.
    pub fn check_against(&self, graph: &Graph, strict: bool) -> Result<Differences, TensorsError> {
        let mut differences = Differences::default();
        for parameter in &graph.parameters {
            match self.tensors.get(&parameter.name) {
                None => differences.missing.push(parameter.name.clone()),
                Some(tensor) if tensor.shape != parameter.shape || !tensor.is_consistent() => {
                    return Err(TensorsError::Shape {
                        name: parameter.name.clone(),
                        found: if tensor.shape == parameter.shape {
                            format!(
                                "{} with {} values",
                                shape_text(&tensor.shape),
                                tensor.data.len()
                            )
                        } else {
                            shape_text(&tensor.shape)
                        },
                        network: graph.name.clone(),
                        needed: shape_text(&parameter.shape),
                    });
                }
                Some(_) => {}
            }
        }
        let known: BTreeSet<&str> = graph
            .parameters
            .iter()
            .map(|parameter| parameter.name.as_str())
            .collect();
        differences.unexpected = self
            .names()
            .filter(|name| !known.contains(name))
            .map(str::to_owned)
            .collect();
        if strict && !differences.is_empty() {
            return Err(TensorsError::Names {
                network: graph.name.clone(),
                differences,
            });
        }
        Ok(differences)
    }

    /// Reads a safetensors file.
    ///
    /// # Errors
    /// As [`Tensors::from_bytes`], naming the file, or that the file cannot be read.
    pub fn load(path: &Path) -> Result<Self, TensorsError> {
        let bytes = fs::read(path).map_err(|source| TensorsError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_bytes(&bytes).map_err(|source| TensorsError::InFile {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// Writes a safetensors file of f32, under a temporary name first.
    ///
    /// # Errors
    /// As [`Tensors::to_bytes`], or that the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TensorsError> {
        let header = self.header()?;
        write_atomically(path, |out| self.write(&header, out)).map_err(|source| {
            TensorsError::Write {
                path: path.to_owned(),
                source,
            }
        })
    }

    /// Reads the bytes of a safetensors file; F32 keeps every bit, F16 and BF16 are widened.
    ///
    /// PyTorch's counters of batches (`X.num_batches_tracked`) are left out: nothing here reads them.
    ///
    /// # Errors
    /// Bytes that are no whole safetensors file, or a tensor of another type.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TensorsError> {
        let (metadata, data) = split(bytes)?;
        let mut tensors = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            if name.ends_with(".num_batches_tracked") {
                continue;
            }
            // The offsets lie within the data: they end where the data ends.
            let values = &data[info.data_offsets.0..info.data_offsets.1];
            let data = match info.dtype {
                Dtype::F32 => from_words(values, f32::from_le_bytes),
                Dtype::F16 => from_words(values, |word| half::f16_to_f32(u16::from_le_bytes(word))),
                Dtype::BF16 => {
                    from_words(values, |word| half::bf16_to_f32(u16::from_le_bytes(word)))
                }
                other => {
                    return Err(TensorsError::Type {
                        name: quote(&name),
                        dtype: other.to_string(),
                    });
                }
            };
            tensors.insert(
                name,
                Tensor {
                    shape: info.shape.clone(),
                    data,
                },
            );
        }
        let metadata = metadata
            .metadata()
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect();
        Ok(Self { tensors, metadata })
    }

    /// The bytes of a safetensors file of f32; the same bytes for the same tensors.
    ///
    /// # Errors
    /// A tensor whose shape and number of values disagree, or that is named `__metadata__`.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TensorsError> {
        let mut bytes = Vec::new();
        let header = self.header()?;
        self.write(&header, &mut bytes)
            .map_err(|error| TensorsError::Format(error.to_string()))?;
        Ok(bytes)
    }

    fn write(&self, header: &[u8], out: &mut impl Write) -> io::Result<()> {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header)?;
        let mut words = Vec::with_capacity(4 * CHUNK);
        for values in self
            .tensors
            .values()
            .flat_map(|tensor| tensor.data.chunks(CHUNK))
        {
            words.clear();
            words.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            out.write_all(&words)?;
        }
        Ok(())
    }

    /// The JSON header, padded so that the data starts at a multiple of eight bytes.
    fn header(&self) -> Result<Vec<u8>, TensorsError> {
        let mut infos = Vec::with_capacity(self.len());
        let mut start = 0;
        for (name, tensor) in self.iter() {
            let unwritable = |reason: String| TensorsError::Unwritable {
                name: quote(name),
                reason,
            };
            if name == METADATA {
                return Err(unwritable(
                    "the name is the format's own; rename it".to_owned(),
                ));
            }
            if !tensor.is_consistent() {
                let (shape, values) = (shape_text(&tensor.shape), tensor.data.len());
                return Err(unwritable(format!(
                    "shape {shape} and {values} values disagree"
                )));
            }
            let end = start + 4 * tensor.data.len();
            infos.push((
                name,
                TensorInfo {
                    dtype: Dtype::F32,
                    shape: tensor.shape.clone(),
                    data_offsets: (start, end),
                },
            ));
            start = end;
        }
        let mut header = serde_json::to_vec(&Header {
            metadata: &self.metadata,
            infos,
        })
        .map_err(|error| TensorsError::Format(error.to_string()))?;
        header.resize(header.len().next_multiple_of(8), b' ');
        Ok(header)
    }
}

impl FromIterator<(String, Tensor)> for Tensors {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(tensors: I) -> Self {
        Self {
            tensors: tensors.into_iter().collect(),
            metadata: BTreeMap::new(),
        }
    }
}

impl IntoIterator for Tensors {
    type Item = (String, Tensor);
    type IntoIter = std::collections::btree_map::IntoIter<String, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.tensors.into_iter()
    }
}

/// The key under which a header keeps its free text.
const METADATA: &str = "__metadata__";
/// Values that are turned into bytes at a time.
const CHUNK: usize = 1 << 14;

/// A header whose order, and so its bytes, depend only on its content; the writer of the
/// safetensors crate keeps the metadata in a hash map.
struct Header<'a> {
    metadata: &'a BTreeMap<String, String>,
    infos: Vec<(&'a str, TensorInfo)>,
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA, self.metadata)?;
        }
        for (name, info) in &self.infos {
            map.serialize_entry(name, info)?;
        }
        map.end()
    }
}

/// Splits a file into its validated header and its data, which is exactly as long as the header says.
fn split(bytes: &[u8]) -> Result<(Metadata, &[u8]), TensorsError> {
    let wrong = |message: &str| TensorsError::Format(message.to_owned());
    let (length, rest) = bytes
        .split_first_chunk::<8>()
        .ok_or_else(|| wrong("it is shorter than its own length field"))?;
    let length = usize::try_from(u64::from_le_bytes(*length))
        .ok()
        .filter(|length| *length <= rest.len());
    let (header, data) =
        rest.split_at(length.ok_or_else(|| wrong("its header is longer than the file"))?);
    // Reading the header checks that the tensors follow each other without holes and that shapes
    // agree with lengths.
    let metadata: Metadata =
        serde_json::from_slice(header).map_err(|error| wrong(&one_line(&error.to_string())))?;
    if metadata.data_len() != data.len() {
        return Err(wrong(&format!(
            "it holds {} bytes of values where its header says {}",
            data.len(),
            metadata.data_len()
        )));
    }
    Ok((metadata, data))
}

fn from_words<const BYTES: usize>(bytes: &[u8], read: impl Fn([u8; BYTES]) -> f32) -> Vec<f32> {
    bytes
        .as_chunks::<BYTES>()
        .0
        .iter()
        .map(|word| read(*word))
        .collect()
}
