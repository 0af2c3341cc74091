//! The weights of an ONNX model: its initializers, and constants and aliases that stand for some.

use std::collections::HashMap;
use std::ops::Range;

use super::protobuf::{Field, Fields, varint};
use super::{field, kind};
use crate::error::{InterchangeError, quote};
use crate::source::Format;
use crate::stored::{Entry, MOST_DIMENSIONS, Numbers, Place};

/// Reads a part of a file beside the model: its name, where the part starts, and how long it is, if that is said. Gives
/// where the part is in the bytes that the entries are read from.
pub(crate) type External<'a> =
    &'a mut dyn FnMut(&str, usize, Option<usize>) -> Result<Range<usize>, String>;

/// Whether bytes begin like an ONNX model: with the version of the format, or other fields of a model.
pub(crate) fn is_model(bytes: &[u8]) -> bool {
    let mut fields = Fields::new(bytes, 0..bytes.len());
    matches!(
        fields.next(),
        Some(Ok((field::MODEL_IR_VERSION, Field::Varint(1..=1000))))
    ) || Fields::new(bytes, 0..bytes.len())
        .take(100)
        .any(|item| matches!(item, Ok((field::MODEL_GRAPH, Field::Bytes(_)))))
}

/// The tensors of a model in the order in which nodes use them, those that none uses at the end.
///
/// Weights of linear layers come as `[out, in]`, whichever way the model multiplies by them.
pub(crate) fn read(file: &[u8], external: External) -> Result<Vec<Entry>, InterchangeError> {
    model(file, external).map_err(|reason| InterchangeError::Format {
        format: Format::Onnx,
        reason,
    })
}

/// A tensor with what nodes do with it.
struct Found {
    entry: Entry,
    /// The number of the first node and input that read it.
    used: Option<(usize, usize)>,
    /// Multiplied by as it is, and transposed.
    as_matrix: [bool; 2],
}

struct Reader<'a, 'b> {
    file: &'a [u8],
    external: External<'b>,
    found: Vec<Found>,
    by_name: HashMap<&'a str, usize>,
    /// Results of nodes that transpose a matrix, with the matrix.
    transposed: HashMap<&'a str, usize>,
}

fn model(file: &[u8], external: External) -> Result<Vec<Entry>, String> {
    let mut graph = None;
    for item in Fields::new(file, 0..file.len()) {
        if let (field::MODEL_GRAPH, Field::Bytes(range)) = item? {
            graph = Some(range);
        }
    }
    let graph = graph.ok_or("it has no graph; export it again")?;
    let mut reader = Reader {
        file,
        external,
        found: Vec::new(),
        by_name: HashMap::new(),
        transposed: HashMap::new(),
    };
    for item in Fields::new(file, graph.clone()) {
        if let (field::GRAPH_INITIALIZER, Field::Bytes(range)) = item? {
            reader.tensor(range, None)?;
        }
    }
    let mut number = 0;
    for item in Fields::new(file, graph) {
        if let (field::GRAPH_NODE, Field::Bytes(range)) = item? {
            reader.node(number, range)?;
            number += 1;
        }
    }
    let mut found = reader.found;
    // Stable: what is not used stays in the order of the file.
    found.sort_by_key(|found| found.used.unwrap_or((usize::MAX, 0)));
    found
        .into_iter()
        .map(|found| match found.as_matrix {
            [true, true] => Err(format!(
                "tensor {} is multiplied by both as it is and transposed; give each use its own copy",
                quote(found.entry.name())
            )),
            // x · W with W of [in, out].
            [true, false] => Ok(found.entry.transposed()),
            _ => Ok(found.entry),
        })
        .collect()
}

impl<'a> Reader<'a, '_> {
    fn text(&self, range: Range<usize>) -> Result<&'a str, String> {
        str::from_utf8(&self.file[range.clone()]).map_err(|_| {
            format!(
                "a name at byte {} is no UTF-8; export it again",
                range.start
            )
        })
    }

    fn add(&mut self, name: &'a str, entry: Entry) -> Result<(), String> {
        // A tensor that somebody wrote takes a name, a type and values.
        if self.found.len() >= 16 + self.file.len() / 8 {
            return Err(
                "it holds more tensors than a file of its size can; export it again".to_owned(),
            );
        }
        if self.by_name.insert(name, self.found.len()).is_some() {
            return Err(format!(
                "two of its tensors are called {}; export it again",
                quote(name)
            ));
        }
        self.found.push(Found {
            entry,
            used: None,
            as_matrix: [false; 2],
        });
        Ok(())
    }

    /// Looks at the inputs of a node; a constant becomes a tensor, an alias too.
    fn node(&mut self, number: usize, range: Range<usize>) -> Result<(), String> {
        let (mut kind, mut output) = ("", None);
        let mut transposed = false;
        let mut factors = [1.0; 2];
        let mut value = None;
        for item in Fields::new(self.file, range.clone()) {
            match item? {
                (field::NODE_TYPE, Field::Bytes(range)) => kind = self.text(range)?,
                (field::NODE_OUTPUT, Field::Bytes(range)) if output.is_none() => {
                    output = Some(self.text(range)?);
                }
                (field::NODE_ATTRIBUTE, Field::Bytes(range)) => {
                    let attribute = self.attribute(range)?;
                    match attribute.name {
                        "transB" => transposed = attribute.int != 0,
                        "alpha" => factors[0] = attribute.float,
                        "beta" => factors[1] = attribute.float,
                        "value" => value = attribute.tensor,
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        if let ("Constant", Some(output), Some(value)) = (kind, output, value) {
            return self.tensor(value, Some(output));
        }
        let mut index = 0;
        for item in Fields::new(self.file, range) {
            let (field::NODE_INPUT, Field::Bytes(range)) = item? else {
                continue;
            };
            let name = self.text(range)?;
            if let ("Gemm" | "MatMul", 1, Some(&place)) = (kind, index, self.transposed.get(name)) {
                let as_matrix = &mut self.found[place].as_matrix;
                as_matrix[usize::from(!(transposed && kind == "Gemm"))] = true;
            }
            if let Some(place) = self.by_name.get(name).copied() {
                // Exporters store equal tensors once and give the others their names by such nodes.
                if let ("Identity", Some(output)) = (kind, output) {
                    let mut entry = self.found[place].entry.clone();
                    entry.set_name(output.to_owned());
                    return self.add(output, entry);
                }
                let found = &mut self.found[place];
                found.used.get_or_insert((number, index));
                let matrix = found.entry.shape().len() == 2;
                if kind == "Gemm" && (1..=2).contains(&index) && factors[index - 1] != 1.0 {
                    return Err(format!(
                        "tensor {} is multiplied by {} when it is used, which is not read; put the factor into its values",
                        quote(name),
                        factors[index - 1]
                    ));
                }
                match kind {
                    "Transpose" if matrix => {
                        self.transposed.extend(output.map(|output| (output, place)));
                    }
                    "Gemm" if index == 1 && matrix => {
                        found.as_matrix[usize::from(transposed)] = true
                    }
                    "MatMul" if index == 1 && matrix => found.as_matrix[0] = true,
                    _ => {}
                }
            }
            index += 1;
        }
        Ok(())
    }

    fn attribute(&self, range: Range<usize>) -> Result<Attribute<'a>, String> {
        let mut attribute = Attribute {
            name: "",
            float: 0.0,
            int: 0,
            tensor: None,
        };
        for item in Fields::new(self.file, range) {
            match item? {
                (field::ATTRIBUTE_NAME, Field::Bytes(range)) => {
                    attribute.name = self.text(range)?
                }
                (field::ATTRIBUTE_FLOAT, Field::Fixed32(bits)) => {
                    attribute.float = f32::from_bits(bits)
                }
                (field::ATTRIBUTE_INT, Field::Varint(int)) => attribute.int = int,
                (field::ATTRIBUTE_TENSOR, Field::Bytes(range)) => attribute.tensor = Some(range),
                _ => {}
            }
        }
        Ok(attribute)
    }

    /// Reads a tensor; `name` is its name if it does not have one of its own.
    fn tensor(&mut self, range: Range<usize>, name: Option<&'a str>) -> Result<(), String> {
        let mut tensor = Tensor::default();
        for item in Fields::new(self.file, range) {
            match item? {
                (field::TENSOR_DIMS, value) => tensor.extents(self.file, value)?,
                (field::TENSOR_TYPE, Field::Varint(number)) => tensor.kind = number as i64,
                (field::TENSOR_NAME, Field::Bytes(range)) => tensor.name = self.text(range)?,
                (field::TENSOR_RAW, Field::Bytes(range)) => tensor.raw = Some(range),
                (field::TENSOR_FLOATS, value) => tensor.float(self.file, value)?,
                (field::TENSOR_INT32S, value) => tensor.int(self.file, value)?,
                (field::TENSOR_LOCATION, Field::Varint(1)) => tensor.is_external = true,
                (field::TENSOR_EXTERNAL, Field::Bytes(range)) => tensor.external(self, range)?,
                _ => {}
            }
        }
        let name = name.unwrap_or(tensor.name);
        let numbers = match tensor.kind {
            kind::FLOAT => Numbers::F32,
            kind::FLOAT16 => Numbers::F16,
            kind::BFLOAT16 => Numbers::Bf16,
            kind::DOUBLE => Numbers::Other("F64"),
            kind::INT64 => Numbers::Other("I64"),
            _ => Numbers::Other("one that is no floating-point number"),
        };
        let place = match (numbers, tensor.raw) {
            // Never read.
            (Numbers::Other(_), _) => Place::File(0..0),
            _ if tensor.is_external => {
                let [location, offset, length] = tensor.place;
                let number = |text: &str| {
                    text.parse::<usize>().map_err(|_| {
                        format!("where the values of {} are is no number", quote(name))
                    })
                };
                let offset = offset.map_or(Ok(0), number)?;
                let length = length.map(number).transpose()?;
                Place::File((self.external)(
                    location.unwrap_or_default(),
                    offset,
                    length,
                )?)
            }
            (_, Some(raw)) => Place::File(raw),
            (Numbers::F32, None) => match tensor.floats {
                Some(range) if tensor.gathered.is_empty() => Place::File(range),
                _ => Place::Own(tensor.gathered.into()),
            },
            _ => Place::Own(tensor.gathered.into()),
        };
        let entry = Entry::contiguous(name.to_owned(), &tensor.shape, numbers, place)?;
        self.add(name, entry)
    }
}

struct Attribute<'a> {
    name: &'a str,
    float: f32,
    int: u64,
    tensor: Option<Range<usize>>,
}

/// The fields of a tensor.
#[derive(Default)]
struct Tensor<'a> {
    name: &'a str,
    shape: Vec<usize>,
    kind: i64,
    raw: Option<Range<usize>>,
    /// Packed floats, if they are in one piece.
    floats: Option<Range<usize>>,
    /// Little-endian values that are not in one piece of the file.
    gathered: Vec<u8>,
    is_external: bool,
    /// Location, offset and length of values in another file.
    place: [Option<&'a str>; 3],
}

impl<'a> Tensor<'a> {
    fn extents(&mut self, file: &[u8], value: Field) -> Result<(), String> {
        each(file, value, |extent| {
            if self.shape.len() == MOST_DIMENSIONS {
                return Err(format!(
                    "a tensor has more than {MOST_DIMENSIONS} dimensions"
                ));
            }
            let extent =
                usize::try_from(extent).map_err(|_| "an extent of a tensor is too large")?;
            self.shape.push(extent);
            Ok(())
        })
    }

    fn float(&mut self, file: &[u8], value: Field) -> Result<(), String> {
        match value {
            Field::Bytes(range) if self.floats.is_none() && self.gathered.is_empty() => {
                self.floats = Some(range);
            }
            Field::Bytes(range) => {
                self.gather_floats(file);
                self.gathered.extend(&file[range]);
            }
            Field::Fixed32(bits) => {
                self.gather_floats(file);
                self.gathered.extend(bits.to_le_bytes());
            }
            _ => return Err("a tensor holds what is no float; export it again".to_owned()),
        }
        Ok(())
    }

    /// Puts the piece that came first before those that follow.
    fn gather_floats(&mut self, file: &[u8]) {
        if let Some(range) = self.floats.take() {
            self.gathered.extend(&file[range]);
        }
    }

    /// 16-bit floating-point numbers may come as integers.
    fn int(&mut self, file: &[u8], value: Field) -> Result<(), String> {
        each(file, value, |int| {
            self.gathered.extend((int as u16).to_le_bytes());
            Ok(())
        })
    }

    fn external(&mut self, reader: &Reader<'a, '_>, range: Range<usize>) -> Result<(), String> {
        let (mut key, mut value) = ("", "");
        for item in Fields::new(reader.file, range) {
            match item? {
                (field::ENTRY_KEY, Field::Bytes(range)) => key = reader.text(range)?,
                (field::ENTRY_VALUE, Field::Bytes(range)) => value = reader.text(range)?,
                _ => {}
            }
        }
        match key {
            "location" => self.place[0] = Some(value),
            "offset" => self.place[1] = Some(value),
            "length" => self.place[2] = Some(value),
            _ => {}
        }
        Ok(())
    }
}

/// The integers of a field, packed or one by one.
fn each(
    file: &[u8],
    value: Field,
    mut take: impl FnMut(u64) -> Result<(), String>,
) -> Result<(), String> {
    match value {
        Field::Varint(int) => take(int),
        Field::Bytes(range) => {
            let mut rest = &file[range];
            while !rest.is_empty() {
                let (int, length) =
                    varint(rest).ok_or("packed integers are damaged; export it again")?;
                take(int)?;
                rest = &rest[length..];
            }
            Ok(())
        }
        _ => Err("a tensor has an integer of another type; export it again".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::protobuf::Message;
    use super::*;

    fn tensor(name: &str, dims: &[usize], values: &[f32]) -> Message {
        let mut message = Message::default();
        for extent in dims {
            message.int(field::TENSOR_DIMS, *extent as i64);
        }
        message
            .int(field::TENSOR_TYPE, kind::FLOAT)
            .text(field::TENSOR_NAME, name);
        let raw: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        message.bytes(field::TENSOR_RAW, &raw);
        message
    }

    fn node(kind: &str, inputs: &[&str], output: &str) -> Message {
        let mut message = Message::default();
        for input in inputs {
            message.text(field::NODE_INPUT, input);
        }
        message
            .text(field::NODE_OUTPUT, output)
            .text(field::NODE_TYPE, kind);
        message
    }

    fn model_of(nodes: &[Message], tensors: &[Message]) -> Vec<u8> {
        let mut graph = Message::default();
        for node in nodes {
            graph.message(field::GRAPH_NODE, node);
        }
        for tensor in tensors {
            graph.message(field::GRAPH_INITIALIZER, tensor);
        }
        let mut model = Message::default();
        model
            .int(field::MODEL_IR_VERSION, 8)
            .message(field::MODEL_GRAPH, &graph);
        model.0
    }

    fn load(file: &[u8]) -> Result<Vec<Entry>, String> {
        read(file, &mut |_, _, _| Err("no other file".to_owned()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn tensors_come_in_the_order_of_their_use() {
        let file = model_of(
            &[
                node("Conv", &["x", "w1", "b1"], "y"),
                node("MatMul", &["y", "w2"], "z"),
            ],
            &[
                tensor("unused", &[1], &[9.0]),
                tensor("w2", &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
                tensor("b1", &[1], &[7.0]),
                tensor("w1", &[1, 1, 1, 1], &[8.0]),
            ],
        );
        assert!(is_model(&file));
        let entries = load(&file).unwrap();
        let names: Vec<&str> = entries.iter().map(Entry::name).collect();
        assert_eq!(names, ["w1", "b1", "w2", "unused"]);
        // [in, out] became [out, in].
        let matrix = entries[2].tensor(&file).unwrap();
        assert_eq!(
            (matrix.shape, matrix.data),
            (vec![3, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0])
        );
    }

    #[test]
    fn gemm_says_which_way_it_multiplies() {
        let mut turned = node("Gemm", &["x", "w"], "y");
        attribute(&mut turned, "transB", |attribute| {
            attribute.int(field::ATTRIBUTE_INT, 1);
        });
        let plain = node("Gemm", &["x", "w"], "z");
        let weights = tensor("w", &[1, 2], &[1.0, 2.0]);
        let shape = |nodes: &[Message]| {
            load(&model_of(nodes, std::slice::from_ref(&weights))).map(|entries| entries[0].shape())
        };
        assert_eq!(shape(std::slice::from_ref(&turned)).unwrap(), [1, 2]);
        assert_eq!(shape(std::slice::from_ref(&plain)).unwrap(), [2, 1]);
        assert!(
            shape(&[turned, plain])
                .unwrap_err()
                .contains("both as it is and transposed")
        );
    }

    fn attribute(node: &mut Message, name: &str, set: impl Fn(&mut Message)) {
        let mut attribute = Message::default();
        attribute.text(field::ATTRIBUTE_NAME, name);
        set(&mut attribute);
        node.message(field::NODE_ATTRIBUTE, &attribute);
    }

    #[test]
    fn a_transposed_matrix_is_read_the_way_it_is_multiplied() {
        let weights = tensor("w", &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let turn = node("Transpose", &["w"], "t");
        let shape = |kind: &str, trans: i64| {
            let mut multiply = node(kind, &["x", "t"], "y");
            attribute(&mut multiply, "transB", |attribute| {
                attribute.int(field::ATTRIBUTE_INT, trans);
            });
            let file = model_of(&[turn.clone(), multiply], std::slice::from_ref(&weights));
            load(&file).unwrap()[0].shape()
        };
        assert_eq!(shape("MatMul", 0), [2, 3]);
        assert_eq!(shape("Gemm", 0), [2, 3]);
        assert_eq!(shape("Gemm", 1), [3, 2]);
    }

    #[test]
    fn factors_of_a_gemm_are_refused_where_they_are_not_1() {
        let weights = [tensor("w", &[1, 2], &[1.0, 2.0]), tensor("b", &[1], &[1.0])];
        for (name, value, refused) in [
            ("alpha", 1.0, None),
            ("alpha", 0.5, Some("`w` is multiplied by 0.5")),
            ("beta", 2.0, Some("`b` is multiplied by 2")),
        ] {
            let mut multiply = node("Gemm", &["x", "w", "b"], "y");
            attribute(&mut multiply, name, |attribute| {
                attribute.float(field::ATTRIBUTE_FLOAT, value);
            });
            let loaded = load(&model_of(&[multiply], &weights));
            match refused {
                None => assert!(loaded.is_ok()),
                Some(reason) => assert!(loaded.unwrap_err().contains(reason)),
            }
        }
    }

    #[test]
    fn constants_and_aliases_are_tensors_too() {
        let mut constant = node("Constant", &[], "c");
        attribute(&mut constant, "value", |attribute| {
            attribute.message(field::ATTRIBUTE_TENSOR, &tensor("", &[1], &[3.0]));
        });
        let file = model_of(
            &[
                node("Identity", &["b"], "b2"),
                constant,
                node("Add", &["b2", "c"], "y"),
            ],
            &[tensor("b", &[1], &[4.0])],
        );
        let values: Vec<(String, Vec<f32>)> = load(&file)
            .unwrap()
            .iter()
            .map(|entry| (entry.name().to_owned(), entry.tensor(&file).unwrap().data))
            .collect();
        let expected = [("b2", 4.0), ("c", 3.0), ("b", 4.0)];
        assert_eq!(
            values,
            expected.map(|(name, value)| (name.to_owned(), vec![value]))
        );
    }

    #[test]
    fn values_come_packed_in_pieces_or_as_integers() {
        let mut packed = Message::default();
        packed
            .int(field::TENSOR_DIMS, 2)
            .int(field::TENSOR_TYPE, kind::FLOAT)
            .text(field::TENSOR_NAME, "p");
        packed.bytes(
            field::TENSOR_FLOATS,
            &[1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat(),
        );
        let mut pieces = Message::default();
        // Packed extents.
        pieces
            .bytes(field::TENSOR_DIMS, &[3])
            .int(field::TENSOR_TYPE, kind::FLOAT)
            .text(field::TENSOR_NAME, "q");
        pieces.bytes(field::TENSOR_FLOATS, &1.0f32.to_le_bytes());
        pieces.float(field::TENSOR_FLOATS, 2.0);
        pieces.bytes(field::TENSOR_FLOATS, &3.0f32.to_le_bytes());
        let mut halves = Message::default();
        halves
            .int(field::TENSOR_DIMS, 2)
            .int(field::TENSOR_TYPE, kind::FLOAT16)
            .text(field::TENSOR_NAME, "h");
        halves.bytes(field::TENSOR_INT32S, &[0x80, 0x78, 0x80, 0x80, 0x03]);
        let file = model_of(&[], &[packed, pieces, halves]);
        let data: Vec<Vec<f32>> = load(&file)
            .unwrap()
            .iter()
            .map(|entry| entry.tensor(&file).unwrap().data)
            .collect();
        assert_eq!(data, [vec![1.0, 2.0], vec![1.0, 2.0, 3.0], vec![1.0, -2.0]]);
    }

    #[test]
    fn models_that_cannot_be_are_errors() {
        for (file, reason) in [
            (
                model_of(&[], &[tensor("w", &[2], &[1.0])]),
                "2 values has 4 bytes",
            ),
            (
                model_of(&[], &[tensor("w", &[usize::MAX, 2], &[1.0])]),
                "too large",
            ),
            (model_of(&[], &[tensor("w", &[1; 9], &[1.0])]), "dimensions"),
            (
                model_of(&[], &[tensor("w", &[1], &[1.0]), tensor("w", &[1], &[1.0])]),
                "two of its tensors",
            ),
            (vec![8, 8], "no graph"),
            (vec![8, 8, 58, 3, 42], "damaged at byte 2"),
        ] {
            let message = load(&file).unwrap_err();
            assert!(message.contains(reason), "{message}");
        }
    }
}
