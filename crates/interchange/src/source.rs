//! A file of weights in any of the formats that are read.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::{Component, Path};

use skinny_network::{Tensor, Tensors};

use crate::error::{InterchangeError, quote};
use crate::onnx::External;
use crate::stored::{Entry, Numbers, Place};
use crate::{onnx, torch};

/// The formats that weights are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// safetensors.
    Safetensors,
    /// What `torch.save` writes: a zip file with a pickle, or (before PyTorch 1.6) a row of pickles.
    Torch,
    /// An ONNX model; its weights are its initializers.
    Onnx,
}

impl fmt::Display for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Safetensors => "safetensors",
            Self::Torch => "PyTorch",
            Self::Onnx => "ONNX",
        })
    }
}

/// A file of weights: its tensors in the order in which their network uses them, as far as the file tells.
///
/// PyTorch's files keep the order of the module; in ONNX files the nodes tell it; safetensors keeps none, so that names are
/// sorted there, with numbers in them by value (`features.3` before `features.10`) and those of one layer as PyTorch has them.
#[derive(Debug, Clone)]
pub struct Source {
    format: Format,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// The first bytes of a zip file.
const ZIP: &[u8] = b"PK\x03\x04";

impl Source {
    /// Reads a file; what it is, its first bytes say.
    ///
    /// # Errors
    /// As [`Source::from_bytes`], naming the file, or that the file cannot be read.
    pub fn open(path: &Path) -> Result<Self, InterchangeError> {
        let bytes = std::fs::read(path).map_err(|source| InterchangeError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut beside = Beside {
            folder: path.parent().unwrap_or(Path::new("")),
            bytes: Vec::new(),
            start: bytes.len(),
            files: HashMap::new(),
        };
        let found = find(&bytes, &mut |name, offset, length| {
            beside.part(name, offset, length)
        });
        let bytes = match beside.bytes.is_empty() {
            true => bytes,
            false => [bytes, beside.bytes].concat(),
        };
        found
            .and_then(|(format, entries)| Self::new(format, bytes, entries))
            .map_err(|source| InterchangeError::InFile {
                path: path.to_owned(),
                source: Box::new(source),
            })
    }

    /// Finds the tensors in the bytes of a file, without turning them into numbers yet.
    ///
    /// Nothing that a pickle names is ever run. The memory that this takes is bounded by a small multiple of the file.
    ///
    /// # Errors
    /// Bytes of no known format, a damaged file, or a pickle that asks for code.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, InterchangeError> {
        let (format, entries) = find(&bytes, &mut |_, _, _| {
            Err("its values are in another file; open it by its path, with the other file beside it".to_owned())
        })?;
        Self::new(format, bytes, entries)
    }

    fn new(format: Format, bytes: Vec<u8>, entries: Vec<Entry>) -> Result<Self, InterchangeError> {
        check_total(&entries, bytes.len())
            .map_err(|reason| InterchangeError::Format { format, reason })?;
        Ok(Self {
            format,
            bytes,
            entries,
        })
    }

    /// What the file is.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The tensors, in the order said above.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The numbers of one of [`Source::entries`] as f32: F32 keeps every bit, F16 and BF16 are widened.
    ///
    /// # Errors
    /// [`InterchangeError::Numbers`] for other types.
    pub fn tensor(&self, entry: &Entry) -> Result<Tensor, InterchangeError> {
        entry.tensor(&self.bytes)
    }

    /// All tensors that hold floating-point numbers of the types that are read, under their own names.
    ///
    /// # Errors
    /// None today; every entry was checked when it was found.
    pub fn tensors(&self) -> Result<Tensors, InterchangeError> {
        self.entries
            .iter()
            .filter(|entry| !matches!(entry.numbers(), Numbers::Other(_)))
            .map(|entry| Ok((entry.name().to_owned(), self.tensor(entry)?)))
            .collect()
    }
}

/// Finds out what a file is and where its tensors are.
fn find(bytes: &[u8], external: External) -> Result<(Format, Vec<Entry>), InterchangeError> {
    if bytes.starts_with(ZIP) {
        Ok((Format::Torch, torch::read_zip(bytes)?))
    } else if bytes.get(8) == Some(&b'{') && (header_fits(bytes) || !onnx::is_model(bytes)) {
        // Before pickles: the length that comes first, of a header of 128 bytes for example, can look like the start of one.
        Ok((Format::Safetensors, read_safetensors(bytes)?))
    } else if torch::is_legacy(bytes) {
        Ok((Format::Torch, torch::read_legacy(bytes)?))
    } else if onnx::is_model(bytes) {
        Ok((Format::Onnx, onnx::read(bytes, external)?))
    } else {
        Err(InterchangeError::UnknownFormat)
    }
}

/// Whether the length of a header of safetensors is one that the file has room for.
fn header_fits(bytes: &[u8]) -> bool {
    let length = bytes
        .first_chunk()
        .map(|length| u64::from_le_bytes(*length));
    length.is_some_and(|length| length <= (bytes.len() as u64).saturating_sub(8))
}

/// The files beside an ONNX model in which its values may be, read as they are asked for.
struct Beside<'a> {
    folder: &'a Path,
    /// All of them, one after the other.
    bytes: Vec<u8>,
    /// Where they start behind the model.
    start: usize,
    files: HashMap<String, Range<usize>>,
}

impl Beside<'_> {
    /// Where a part of a file is behind the model.
    fn part(
        &mut self,
        name: &str,
        offset: usize,
        length: Option<usize>,
    ) -> Result<Range<usize>, String> {
        if !self.files.contains_key(name) {
            // A model must not make this program read files elsewhere.
            let mut parts = Path::new(name).components();
            if !matches!(
                (parts.next(), parts.next()),
                (Some(Component::Normal(_)), None)
            ) {
                return Err(format!(
                    "its values are in {}, which is no file beside it; put them there",
                    quote(name)
                ));
            }
            let path = self.folder.join(name);
            let bytes = std::fs::read(&path)
                .map_err(|error| format!("its values are in {}: {error}", quote(name)))?;
            let start = self.start + self.bytes.len();
            self.bytes.extend(bytes);
            let end = self.start + self.bytes.len();
            self.files.insert(name.to_owned(), start..end);
        }
        let file = &self.files[name];
        let start = offset
            .checked_add(file.start)
            .filter(|start| *start <= file.end);
        let range = start.and_then(|start| {
            let end = length.map_or(Some(file.end), |length| start.checked_add(length))?;
            (end <= file.end).then_some(start..end)
        });
        range.ok_or_else(|| {
            format!(
                "its values lie beyond the end of {}; export it again",
                quote(name)
            )
        })
    }
}

/// Views may share a storage, as tied weights do, but not so often that a small file becomes a large network.
fn check_total(entries: &[Entry], file: usize) -> Result<(), String> {
    const LARGEST: usize = 8;
    let values = entries
        .iter()
        .filter(|entry| !matches!(entry.numbers(), Numbers::Other(_)))
        .try_fold(0usize, |sum, entry| sum.checked_add(entry.count()));
    match values.and_then(|values| values.checked_mul(4)) {
        Some(bytes) if bytes <= file.saturating_mul(LARGEST) => Ok(()),
        _ => Err(
            "its tensors overlap so that they are far larger than the file; save contiguous copies of them".to_owned(),
        ),
    }
}

fn read_safetensors(bytes: &[u8]) -> Result<Vec<Entry>, InterchangeError> {
    use safetensors::{Dtype, SafeTensors};
    let refuse = |reason: String| InterchangeError::Format {
        format: Format::Safetensors,
        reason,
    };
    let file = SafeTensors::deserialize(bytes).map_err(|error| {
        let text = quote(&error.to_string());
        refuse(format!("{text}; write it again or fetch it again"))
    })?;
    let mut entries = Vec::with_capacity(file.len());
    for (name, view) in file.iter() {
        // Its data is a part of the file.
        let start = view.data().as_ptr().addr() - bytes.as_ptr().addr();
        let numbers = match view.dtype() {
            Dtype::F32 => Numbers::F32,
            Dtype::F16 => Numbers::F16,
            Dtype::BF16 => Numbers::Bf16,
            Dtype::F64 => Numbers::Other("F64"),
            Dtype::I64 => Numbers::Other("I64"),
            Dtype::I32 => Numbers::Other("I32"),
            Dtype::U8 => Numbers::Other("U8"),
            Dtype::BOOL => Numbers::Other("BOOL"),
            _ => Numbers::Other("one of the rarer ones"),
        };
        let place = Place::File(start..start + view.data().len());
        let entry = Entry::contiguous(name.to_owned(), view.shape(), numbers, place);
        entries.push(entry.map_err(refuse)?);
    }
    entries.sort_by(|a, b| {
        let ((layer_a, kind_a), (layer_b, kind_b)) = (of_layer(a.name()), of_layer(b.name()));
        natural(layer_a, layer_b)
            .then(kind_a.cmp(&kind_b))
            .then_with(|| natural(a.name(), b.name()))
    });
    Ok(entries)
}

/// The tensors of a layer, in the order in which PyTorch's layers register them.
const KINDS: [&str; 5] = [
    "weight",
    "bias",
    "running_mean",
    "running_var",
    "num_batches_tracked",
];

/// A name without what kind of tensor it is, and the place of that among [`KINDS`]; the whole name if it says no kind.
pub(crate) fn of_layer(name: &str) -> (&str, Option<usize>) {
    let parts = name.rsplit_once('.');
    let known = parts.and_then(|(layer, kind)| {
        let place = KINDS.iter().position(|known| *known == kind)?;
        Some((layer, Some(place)))
    });
    known.unwrap_or((name, None))
}

/// Text and numbers in turn; a number is compared by its length without leading zeros, then by its digits.
fn parts(name: &str) -> impl Iterator<Item = (bool, usize, &str)> {
    name.as_bytes()
        .chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit())
        .scan(0, |at, part| {
            let text = &name[*at..*at + part.len()];
            *at += part.len();
            Some(match part[0].is_ascii_digit() {
                true => {
                    let digits = text.trim_start_matches('0');
                    (false, digits.len(), digits)
                }
                false => (true, 0, text),
            })
        })
}

/// Compares names with the numbers in them by value.
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    parts(a).cmp(parts(b)).then_with(|| a.cmp(b))
}

/// Whether the names of two tensors tell which comes first in their network: they are of one layer, or of layers with numbers.
pub(crate) fn order_is_told(a: &str, b: &str) -> bool {
    let (a, b) = (of_layer(a).0, of_layer(b).0);
    let differing = parts(a).zip(parts(b)).find(|(a, b)| a != b);
    a == b || matches!(differing, Some(((false, ..), (false, ..))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let length = (header.len() as u64).to_le_bytes();
        [&length, header.as_bytes(), data].concat()
    }

    #[test]
    fn a_model_with_a_brace_in_its_ninth_byte_is_no_safetensors() {
        // Version 8, a graph of 4 MB whose first node takes 123 (`{`) bytes.
        let start = [0x08, 0x08, 0x3a, 0x80, 0x80, 0x80, 0x02, 0x0a, b'{'];
        let message = Source::from_bytes(start.to_vec()).unwrap_err().to_string();
        assert!(message.contains("ONNX"), "{message}");
        let cut_off = file("{\"a\":", &[]);
        let mut longer = cut_off.clone();
        longer[0] = 200;
        for bytes in [cut_off, longer] {
            let message = Source::from_bytes(bytes).unwrap_err().to_string();
            assert!(message.contains("safetensors"), "{message}");
        }
    }

    #[test]
    fn safetensors_come_in_the_order_of_their_numbers() {
        let header = r#"{"features.10.weight":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"features.3.weight":{"dtype":"BF16","shape":[1],"data_offsets":[2,4]},"bn.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[4,12]}}"#;
        let source =
            Source::from_bytes(file(header, &[0, 0x3c, 0x80, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0]))
                .unwrap();
        assert_eq!(source.format(), Format::Safetensors);
        let names: Vec<&str> = source.entries().iter().map(Entry::name).collect();
        assert_eq!(
            names,
            [
                "bn.num_batches_tracked",
                "features.3.weight",
                "features.10.weight"
            ]
        );
        for entry in &source.entries()[1..] {
            assert_eq!(source.tensor(entry).unwrap().data, [1.0]);
        }
        assert_eq!(source.tensors().unwrap().len(), 2);
    }

    #[test]
    fn a_length_that_looks_like_a_pickle_is_none() {
        for length in [0x80, 0x180, 0x280, 0x380, 0x480, 0x580] {
            let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
            let header = format!("{header:length$}");
            let source = Source::from_bytes(file(&header, &1f32.to_le_bytes())).unwrap();
            assert_eq!(source.format(), Format::Safetensors);
            assert_eq!(source.tensors().unwrap().get("a").unwrap().data, [1.0]);
        }
    }

    #[test]
    fn numbers_in_names_are_compared_by_value() {
        let mut names = [
            "b",
            "a10",
            "a9.x",
            "a",
            "a09",
            "a9",
            "a99999999999999999999999",
            "10",
            "ä2",
        ];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            [
                "10",
                "a",
                "a09",
                "a9",
                "a9.x",
                "a10",
                "a99999999999999999999999",
                "b",
                "ä2"
            ]
        );
    }

    #[test]
    fn what_is_nothing_says_what_would_do() {
        for bytes in [&b""[..], b"x", b"hello, world", b"\x89PNG\r\n\x1a\n"] {
            let message = Source::from_bytes(bytes.to_vec()).unwrap_err().to_string();
            assert!(message.starts_with("neither safetensors"), "{message}");
        }
    }
}
