//! Reading a model: checked as a whole when it is opened, decoded layer by layer when it is asked for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use skinny_network::{Graph, Network, Parameter, Preprocess, Tensor, Tensors};
use skinny_sparsity::Mask;

use crate::container::{Header, Part};
use crate::error::{ModelError, quote};
use crate::index::gaps::Width;
use crate::index::{Matrix, bitmask, gaps, offsets};
use crate::pack::Unpacked;
use crate::read::{Data, Parts, Stored, StoredIndex, StoredValues};
use crate::values::{ValueKind, Values, floats};
use crate::{FORMAT, VERSION, text};

/// Parameters that a file may have for each of its bytes; masks of them take 32 times the file.
pub(crate) const VALUES_PER_BYTE: u64 = 256;
/// Stored values that a file may have for each of its bytes; as f32 they take 24 times the file.
pub(crate) const ENTRIES_PER_BYTE: usize = 6;
/// Bytes of a network's JSON that there are at least for each of its lists and objects.
const BYTES_PER_CONTAINER: usize = 12;

/// A model that has been read and found right: nothing that is asked of it can fail any more.
///
/// The file's bytes stay as they are; layers are decoded when they are asked for. `B` is what holds the bytes: a `Vec<u8>`,
/// a slice, or a mapped file.
#[derive(Clone, Debug)]
pub struct Model<B = Vec<u8>> {
    bytes: B,
    network: Network,
    preprocess: Preprocess,
    graph: Graph,
    stored: Vec<Stored>,
}

impl Model {
    /// Reads a model from a file.
    ///
    /// # Errors
    /// As [`Model::from_bytes`], naming the file, or that it cannot be read.
    pub fn load(path: &Path) -> Result<Model, ModelError> {
        let bytes = std::fs::read(path).map_err(|source| ModelError::Read {
            path: path.to_owned(),
            source,
        })?;
        Model::from_bytes(bytes).map_err(|source| ModelError::InFile {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }
}

impl<B: AsRef<[u8]>> Model<B> {
    /// Reads a model from the bytes of a file, and checks all of it.
    ///
    /// What is entropy-coded is decoded, to masks of a bit for every weight and to values; all else stays in the file's bytes.
    /// Together that takes at most 64 times the file.
    ///
    /// # Errors
    /// Bytes that are no model of this version, or whose parts contradict each other, the network or the format.
    pub fn from_bytes(bytes: B) -> Result<Model<B>, ModelError> {
        let file = bytes.as_ref();
        let header = Header::read(file)?;
        let find = |key: &str| {
            header
                .text
                .get(key)
                .ok_or_else(|| ModelError::NotAModel(format!("its metadata has no `{key}`")))
        };
        if find(text::FORMAT)? != FORMAT {
            let found = quote(find(text::FORMAT)?);
            return Err(ModelError::NotAModel(format!("its format is {found}")));
        }
        check_version(find(text::VERSION)?)?;
        let network = find(text::NETWORK)?;
        if is_crowded(network) {
            return Err(ModelError::TooMany {
                what: "a network of so many lists and objects".into(),
                bytes: file.len(),
            });
        }
        let network: Network = json(text::NETWORK, network)?;
        let mut preprocess: Preprocess = json(text::PREPROCESS, find(text::PREPROCESS)?)?;
        let graph = network.graph()?;
        let shapes: BTreeMap<String, Vec<usize>> = json(text::SHAPES, find(text::SHAPES)?)?;
        check_shapes(&shapes, &graph)?;
        let values: u64 = graph.parameters.iter().map(|p| p.len() as u64).sum();
        if values > VALUES_PER_BYTE * file.len() as u64 {
            return Err(ModelError::TooMany {
                what: format!("a network of {values} values"),
                bytes: file.len(),
            });
        }
        let mut parts = Parts {
            bytes: file,
            most_entries: ENTRIES_PER_BYTE * file.len(),
            left: header.parts,
        };
        let stored = (graph.parameters.iter())
            .map(|parameter| parts.parameter(parameter))
            .collect::<Result<_, _>>()?;
        attach(&mut preprocess, &mut parts.left, file)?;
        preprocess.check(graph.input)?;
        if let Some(name) = parts.left.keys().next() {
            return Err(ModelError::Stray { name: quote(name) });
        }
        Ok(Model {
            network,
            preprocess,
            graph,
            stored,
            bytes,
        })
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The network with its shapes and parameters.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What happens to a picture before the first layer.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// All parameters in the order of [`Graph::parameters`].
    pub fn parameters(&self) -> impl ExactSizeIterator<Item = StoredParameter<'_>> {
        (0..self.stored.len()).map(|index| self.at(index))
    }

    /// Bytes of all parameters as f32, which [`Model::unpack`] takes; a small file may ask for very many.
    pub fn unpacked_bytes(&self) -> u64 {
        self.parameters()
            .map(|parameter| 4 * parameter.len() as u64)
            .sum()
    }

    /// The parameter of this name, such as `conv1.weight`.
    pub fn parameter(&self, name: &str) -> Option<StoredParameter<'_>> {
        let index = (self.graph.parameters.iter()).position(|p| p.name == name)?;
        Some(self.at(index))
    }

    fn at(&self, index: usize) -> StoredParameter<'_> {
        StoredParameter {
            file: self.bytes.as_ref(),
            parameter: &self.graph.parameters[index],
            stored: &self.stored[index],
        }
    }

    /// All parameters as dense tensors, with the masks of those that have an index.
    ///
    /// This takes four bytes for every weight, dropped or not: at most 1024 times the file.
    pub fn unpack(&self) -> Unpacked {
        let mut tensors = Tensors::new();
        let mut masks = BTreeMap::new();
        for parameter in self.parameters() {
            let tensor = Tensor {
                shape: parameter.shape().to_vec(),
                data: parameter.dense(),
            };
            tensors.insert(parameter.name(), tensor);
            if let Some(mask) = parameter.mask() {
                masks.insert(parameter.name().to_owned(), mask.into_owned());
            }
        }
        Unpacked {
            network: self.network.clone(),
            preprocess: self.preprocess.clone(),
            tensors,
            masks,
        }
    }
}

fn check_version(found: &str) -> Result<(), ModelError> {
    if found == VERSION.to_string() {
        return Ok(());
    }
    let number: Option<u32> = found.parse().ok();
    Err(ModelError::Version {
        found: quote(found),
        known: VERSION,
        cure: match number {
            Some(newer) if newer > VERSION => "update skinny",
            _ => "export the model again",
        },
    })
}

/// The shapes of weights are there for readers that do not know networks; they must be the network's.
fn check_shapes(shapes: &BTreeMap<String, Vec<usize>>, graph: &Graph) -> Result<(), ModelError> {
    let weights = || graph.parameters.iter().filter(|p| p.role.thresholded());
    let wrong = weights().find(|weight| shapes.get(&weight.name) != Some(&weight.shape));
    match wrong {
        Some(weight) => Err(ModelError::Parameter {
            name: weight.name.clone(),
            reason: "the shape that the metadata gives it is not the network's".into(),
        }),
        None if shapes.len() != weights().count() => Err(ModelError::NotAModel(
            "its shapes name weights that the network does not have".into(),
        )),
        None => Ok(()),
    }
}

/// Whether a description has more lists and objects than its length can have use for; each may take 700 bytes.
fn is_crowded(network: &str) -> bool {
    // Names may have brackets.
    let (mut in_string, mut escaped) = (false, false);
    let opened = network.bytes().filter(|byte| {
        let is_escape = in_string && *byte == b'\\' && !escaped;
        in_string ^= *byte == b'"' && !escaped;
        escaped = is_escape;
        !in_string && matches!(byte, b'[' | b'{')
    });
    opened.count() > 2 + network.len() / BYTES_PER_CONTAINER
}

fn json<T: serde::de::DeserializeOwned>(key: &str, text: &str) -> Result<T, ModelError> {
    let refuse = |reason: &str| {
        let reason = quote(reason);
        ModelError::NotAModel(format!("its {key} is not readable: {reason}"))
    };
    // serde would take a list for an object, too.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(refuse("no JSON object"));
    }
    serde_json::from_str(text).map_err(|error| refuse(&error.to_string()))
}

/// Gives a whitening its tensors.
fn attach(
    preprocess: &mut Preprocess,
    parts: &mut BTreeMap<String, Part>,
    file: &[u8],
) -> Result<(), ModelError> {
    let names: Vec<String> = (parts.keys())
        .filter(|name| name.starts_with("preprocess."))
        .cloned()
        .collect();
    if preprocess.zca.is_none() {
        return Ok(());
    }
    let mut tensors = Tensors::new();
    for name in names {
        if let Some(part) = parts.remove(&name) {
            if part.dtype != safetensors::Dtype::F32 {
                return Err(ModelError::Parameter {
                    name,
                    reason: "its type is not F32".into(),
                });
            }
            let data = floats(&file[part.range]);
            let shape = part.shape;
            tensors.insert(name, Tensor { shape, data });
        }
    }
    preprocess.attach(&mut tensors)?;
    match tensors.names().next() {
        Some(name) => Err(ModelError::Stray { name: quote(name) }),
        None => Ok(()),
    }
}

/// Which values of a parameter are kept, as the file has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Index<'a> {
    /// All are.
    All,
    /// A bit for every value, rows in whole bytes, lowest bit first.
    Bitmask {
        /// As many bytes for each row as its columns need.
        bits: &'a [u8],
        /// For each row the number of stored values before it, as little-endian i64.
        row_offsets: &'a [u8],
    },
    /// For each stored value the dropped ones before it in its row; 255 passes over 255 and its own value is not kept.
    Gaps8 {
        /// A byte for each stored value.
        gaps: &'a [u8],
        /// For each row the number of stored values before it, as little-endian i64.
        row_offsets: &'a [u8],
    },
    /// As [`Index::Gaps8`], in little-endian u16, with 65,535 in the place of 255.
    Gaps16 {
        /// Two bytes for each stored value.
        gaps: &'a [u8],
        /// For each row the number of stored values before it, as little-endian i64.
        row_offsets: &'a [u8],
    },
    /// The mask, decoded when the model was read.
    Mask(&'a Mask),
}

/// How the index of a parameter is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IndexKind {
    /// There is none: all values are stored.
    Dense,
    /// A bit for every value.
    Bitmask,
    /// A byte for every gap.
    Gaps8,
    /// Two bytes for every gap.
    Gaps16,
    /// Gaps in Rice's code.
    Rice,
    /// Decisions, entropy-coded.
    Coded,
}

impl IndexKind {
    /// Its name, for example `bitmask`.
    pub fn name(self) -> &'static str {
        match self {
            IndexKind::Dense => "dense",
            IndexKind::Bitmask => "bitmask",
            IndexKind::Gaps8 => "gaps8",
            IndexKind::Gaps16 => "gaps16",
            IndexKind::Rice => "rice",
            IndexKind::Coded => "coded",
        }
    }
}

/// One parameter of a [`Model`].
#[derive(Clone, Copy, Debug)]
pub struct StoredParameter<'a> {
    file: &'a [u8],
    parameter: &'a Parameter,
    stored: &'a Stored,
}

impl<'a> StoredParameter<'a> {
    /// What the network knows of it: name, shape, role.
    pub fn parameter(&self) -> &'a Parameter {
        self.parameter
    }

    /// Its name, such as `conv1.weight`.
    pub fn name(&self) -> &'a str {
        &self.parameter.name
    }

    /// Its shape in PyTorch's layout.
    pub fn shape(&self) -> &'a [usize] {
        &self.parameter.shape
    }

    /// Rows of its matrix: the first extent, output channels.
    pub fn rows(&self) -> usize {
        self.matrix().rows
    }

    /// Columns of its matrix: the product of all other extents.
    pub fn columns(&self) -> usize {
        self.matrix().columns
    }

    fn matrix(&self) -> Matrix {
        Matrix::of(&self.parameter.shape)
    }

    /// Number of values, kept or not.
    pub fn len(&self) -> usize {
        self.parameter.len()
    }

    /// Whether it has no values; never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of kept values.
    pub fn kept(&self) -> usize {
        self.stored.kept
    }

    /// How its index is stored.
    pub fn index_kind(&self) -> IndexKind {
        match &self.stored.index {
            StoredIndex::Plain | StoredIndex::All => IndexKind::Dense,
            StoredIndex::Bitmask { .. } => IndexKind::Bitmask,
            StoredIndex::Gaps { width, .. } => match width {
                Width::U8 => IndexKind::Gaps8,
                Width::U16 => IndexKind::Gaps16,
            },
            StoredIndex::Rice(_) => IndexKind::Rice,
            StoredIndex::Coded(_) => IndexKind::Coded,
        }
    }

    /// How its values are stored.
    pub fn value_kind(&self) -> ValueKind {
        self.stored_values().kind()
    }

    /// Whether its values are entropy-coded in the file.
    pub fn is_coded(&self) -> bool {
        self.stored.coded
    }

    /// Bytes of its index in the file.
    pub fn index_bytes(&self) -> usize {
        self.stored.index_bytes
    }

    /// Bytes of its values in the file, scales or codebook included.
    pub fn value_bytes(&self) -> usize {
        self.stored.value_bytes
    }

    /// Which values are kept, as the file has it.
    pub fn index(&self) -> Index<'a> {
        match &self.stored.index {
            StoredIndex::Plain | StoredIndex::All => Index::All,
            StoredIndex::Bitmask { bits, offsets } => Index::Bitmask {
                bits: &self.file[bits.clone()],
                row_offsets: &self.file[offsets.clone()],
            },
            StoredIndex::Gaps {
                width,
                gaps,
                offsets,
            } => {
                let gaps = &self.file[gaps.clone()];
                let row_offsets = &self.file[offsets.clone()];
                match width {
                    Width::U8 => Index::Gaps8 { gaps, row_offsets },
                    Width::U16 => Index::Gaps16 { gaps, row_offsets },
                }
            }
            StoredIndex::Rice(mask) | StoredIndex::Coded(mask) => Index::Mask(mask),
        }
    }

    /// The values as the file has them: one for each kept value in row-major order, and with gaps one for each entry.
    pub fn stored_values(&self) -> Values<'a> {
        let data = |data: &'a Data| match data {
            Data::File(range) => Cow::Borrowed(&self.file[range.clone()]),
            Data::Decoded(bytes) => Cow::Borrowed(&bytes[..]),
        };
        match &self.stored.values {
            StoredValues::F32(bytes) => Values::F32(data(bytes)),
            StoredValues::F16(bytes) => Values::F16(data(bytes)),
            StoredValues::Int8 { codes, scale } => Values::Int8 {
                codes: data(codes),
                scale: floats(&self.file[scale.clone()]),
            },
            StoredValues::Codebook {
                codes,
                halves,
                codebook,
            } => Values::Codebook {
                codes: data(codes),
                halves: *halves,
                codebook: floats(&self.file[codebook.clone()]),
            },
        }
    }

    /// Which values are kept, one bit each in row-major order; `None` where all values are stored.
    pub fn mask(&self) -> Option<Cow<'a, Mask>> {
        let matrix = self.matrix();
        let bytes = |range: &std::ops::Range<usize>| &self.file[range.clone()];
        match &self.stored.index {
            StoredIndex::Plain => None,
            StoredIndex::All => Some(Cow::Owned(Mask::all(matrix.len()))),
            StoredIndex::Bitmask { bits, .. } => {
                Some(Cow::Owned(bitmask::decode(bytes(bits), matrix)))
            }
            StoredIndex::Gaps {
                width,
                gaps,
                offsets,
            } => {
                let mask = gaps::decode(bytes(gaps), bytes(offsets), matrix, *width);
                Some(Cow::Owned(mask))
            }
            StoredIndex::Rice(mask) | StoredIndex::Coded(mask) => Some(Cow::Borrowed(mask)),
        }
    }

    /// The kept values in row-major order; as many as [`StoredParameter::kept`].
    pub fn values(&self) -> Vec<f32> {
        let stored = self.stored_values();
        let mut values = match stored {
            Values::Int8 { .. } => stored.to_f32(self.stored.entries, &self.row_starts()),
            _ => stored.to_f32(self.stored.entries, &[]),
        };
        if let StoredIndex::Gaps { width, gaps, .. } = &self.stored.index
            && self.stored.kept < values.len()
        {
            let mut entries = gaps::entries(&self.file[gaps.clone()], *width);
            values.retain(|_| entries.next() != Some(width.pad()));
        }
        values
    }

    /// All values in row-major order, 0.0 where they are dropped.
    pub fn dense(&self) -> Vec<f32> {
        let mask = match &self.stored.index {
            StoredIndex::Plain | StoredIndex::All => return self.values(),
            _ => self.mask().expect("there is an index"),
        };
        let mut dense = vec![0.0; self.len()];
        for (index, value) in mask.iter().zip(self.values()) {
            dense[index] = value;
        }
        dense
    }

    /// For each row the number of stored values before it.
    fn row_starts(&self) -> Vec<usize> {
        let matrix = self.matrix();
        match &self.stored.index {
            StoredIndex::Plain | StoredIndex::All => {
                (0..matrix.rows).map(|row| row * matrix.columns).collect()
            }
            StoredIndex::Bitmask { offsets: range, .. }
            | StoredIndex::Gaps { offsets: range, .. } => offsets(&self.file[range.clone()])
                .map(|offset| offset as usize)
                .collect(),
            StoredIndex::Rice(mask) | StoredIndex::Coded(mask) => matrix.row_starts(mask),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_network_is_crowded() {
        let fullest = r#"{"name":"n","input":[1,1,1],"layers":[{"name":"a","type":"conv","out":1,"kernel":[1,2],"stride":[1,2],"padding":[1,2],"lr":{"bias":2},"decay":{"bias":0}},{"name":"b","type":"add","inputs":["a","a"]}]}"#;
        assert!(!is_crowded(fullest));
        for name in skinny_network::zoo_names() {
            let network = Network::load(name).unwrap();
            assert!(!is_crowded(&serde_json::to_string(&network).unwrap()));
        }
        assert!(is_crowded(&r#"{"a":0},"#.repeat(10)));
        assert!(!is_crowded(
            &r#"{"name":"s[i][j][k]\\\"[[","type":"relu"},"#.repeat(10)
        ));
    }
}
