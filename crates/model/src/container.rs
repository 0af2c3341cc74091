//! The safetensors file around a model: named parts of bytes, and text beside them.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::error::{ModelError, quote};

/// The key under which a header keeps its text.
const METADATA: &str = "__metadata__";
/// Where the data starts, as a multiple: a cache line, so that mapped values are aligned.
const ALIGNMENT: usize = 64;

/// The header of a file, checked: parts lie within the file, follow each other without holes, and shapes agree with lengths.
#[derive(Debug)]
pub(crate) struct Header {
    pub text: BTreeMap<String, String>,
    pub parts: BTreeMap<String, Part>,
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Where in the file its bytes are.
    pub range: Range<usize>,
}

impl Header {
    /// Reads and checks the header of a file.
    pub fn read(bytes: &[u8]) -> Result<Header, ModelError> {
        let wrong = |message: &str| ModelError::Container(message.to_owned());
        let (length, rest) = bytes
            .split_first_chunk::<8>()
            .ok_or_else(|| wrong("it is shorter than its own length field"))?;
        let length = usize::try_from(u64::from_le_bytes(*length))
            .ok()
            .filter(|length| *length <= rest.len())
            .ok_or_else(|| wrong("its header is longer than the file"))?;
        let (header, data) = rest.split_at(length);
        let metadata: Metadata =
            serde_json::from_slice(header).map_err(|error| wrong(&one_line(&error.to_string())))?;
        if metadata.data_len() != data.len() {
            return Err(wrong(&format!(
                "it holds {} bytes of values where its header says {}",
                data.len(),
                metadata.data_len()
            )));
        }
        let start = 8 + length;
        let parts = metadata.tensors().into_iter().map(|(name, info)| {
            let (from, to) = info.data_offsets;
            let part = Part {
                dtype: info.dtype,
                shape: info.shape.clone(),
                range: start + from..start + to,
            };
            (name, part)
        });
        Ok(Header {
            parts: parts.collect(),
            text: (metadata.metadata().clone().unwrap_or_default())
                .into_iter()
                .collect(),
        })
    }
}

/// A tensor that is to be written.
#[derive(Clone, Debug)]
pub(crate) struct NewPart {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl NewPart {
    pub fn new(name: impl Into<String>, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> NewPart {
        let part = NewPart {
            name: name.into(),
            dtype,
            shape: shape.to_vec(),
            bytes,
        };
        debug_assert_eq!(
            part.shape.iter().product::<usize>() * dtype.bitsize() / 8,
            part.bytes.len(),
            "{}",
            part.name
        );
        part
    }

    /// Bytes that the part takes in a file, its entry in the header included.
    pub fn cost(&self) -> usize {
        // The offsets are not known yet; six digits each are about right.
        let info = TensorInfo {
            dtype: self.dtype,
            shape: self.shape.clone(),
            data_offsets: (100_000, 100_000),
        };
        let entry = serde_json::to_string(&info).map_or(0, |text| text.len());
        self.bytes.len() + entry + self.name.len() + 4
    }
}

/// Writes a file of at least so many bytes; the same bytes for the same content. Wider types come first, so that every part is
/// aligned to its type.
pub(crate) fn write(
    text: &BTreeMap<&str, String>,
    mut parts: Vec<NewPart>,
    least: usize,
) -> Vec<u8> {
    parts.sort_by(|a, b| {
        (b.dtype.bitsize().cmp(&a.dtype.bitsize())).then_with(|| a.name.cmp(&b.name))
    });
    let mut end = 0;
    let infos: Vec<(&str, TensorInfo)> = (parts.iter())
        .map(|part| {
            let start = end;
            end += part.bytes.len();
            let info = TensorInfo {
                dtype: part.dtype,
                shape: part.shape.clone(),
                data_offsets: (start, end),
            };
            (part.name.as_str(), info)
        })
        .collect();
    let mut header =
        serde_json::to_vec(&Entries { text, infos }).expect("names, numbers and text are JSON");
    // The length field of eight bytes comes before the header.
    let start = (8 + header.len()).max(least.saturating_sub(end));
    header.resize(start.next_multiple_of(ALIGNMENT) - 8, b' ');
    let mut bytes = Vec::with_capacity(8 + header.len() + end);
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header);
    for part in parts {
        bytes.extend(part.bytes);
    }
    bytes
}

struct Entries<'a> {
    text: &'a BTreeMap<&'a str, String>,
    infos: Vec<(&'a str, TensorInfo)>,
}

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(METADATA, self.text)?;
        for (name, info) in &self.infos {
            map.serialize_entry(name, info)?;
        }
        map.end()
    }
}

/// A message of a library, which may quote the file, on one line.
fn one_line(message: &str) -> String {
    let quoted = quote(message);
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = BTreeMap::from([("a", "b\n\"c\"".to_owned())]);
        let parts = vec![
            NewPart::new("x", Dtype::U8, &[3], vec![1, 2, 3]),
            NewPart::new("y", Dtype::F32, &[1, 1], vec![0; 4]),
        ];
        let bytes = write(&text, parts.clone(), 0);
        let header = Header::read(&bytes).unwrap();
        assert_eq!(header.text["a"], "b\n\"c\"");
        assert_eq!(header.parts["x"].shape, [3]);
        assert_eq!(bytes[header.parts["x"].range.clone()], [1, 2, 3]);
        assert_eq!(header.parts["y"].range.start % ALIGNMENT, 0);
        let mut reversed = parts.clone();
        reversed.reverse();
        assert_eq!(write(&text, reversed, bytes.len()), bytes);
        let longer = write(&text, parts, 10_000);
        assert_eq!(longer.len(), 10_000 + 55);
        assert_eq!(Header::read(&longer).unwrap().parts.len(), 2);
        for length in 0..bytes.len() {
            assert!(Header::read(&bytes[..length]).is_err());
        }
    }
}
