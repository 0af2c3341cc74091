//! State dicts in the files of `torch.save`, of today (a zip file) and from before PyTorch 1.6 (a row of pickles).

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::error::{InterchangeError, quote};
use crate::source::Format;
use crate::stored::{Entry, Place};
use crate::torch::pickle::{self, Global, Kind, Node, Pickle, PickleError, Value};
use crate::torch::zip;

/// Names under which a checkpoint keeps the weights of its model, where it holds more than one state dict.
const STATE_DICTS: [&str; 5] = ["state_dict", "model_state_dict", "model", "net", "weights"];

/// Where a storage's bytes are, by its key.
type Storages<'a> = HashMap<&'a [u8], Range<usize>>;

/// The tensors of the state dict in a zip file of `torch.save`, in its order.
pub(crate) fn read_zip(file: &[u8]) -> Result<Vec<Entry>, InterchangeError> {
    let files = zip::files(file).map_err(refuse)?;
    let mut pickles = files.iter().filter_map(|inner| {
        let prefix = inner.name.strip_suffix("data.pkl")?;
        (prefix.is_empty() || prefix.ends_with('/')).then_some((prefix, inner.bytes.clone()))
    });
    let (prefix, range) = match (pickles.next(), pickles.next()) {
        (Some(one), None) => one,
        _ => {
            return Err(refuse(
                "it is a zip file, but not one of torch.save: it should hold one data.pkl; save the weights with torch.save(model.state_dict(), FILE)".to_owned(),
            ));
        }
    };
    let mut storages = Storages::new();
    for inner in &files {
        let name = inner.name.strip_prefix(prefix).unwrap_or_default();
        if name == "byteorder" && &file[inner.bytes.clone()] != b"little" {
            return Err(refuse(big_endian()));
        }
        if let Some(key) = name.strip_prefix("data/") {
            storages.insert(key.as_bytes(), inner.bytes.clone());
        }
    }
    let pickle = pickle::read(file, range).map_err(of_pickle)?;
    State {
        file,
        pickle: &pickle,
        storages,
    }
    .entries()
    .map_err(refuse)
}

/// The first value of the old format, 0x1950a86a20f9469cfc6c.
const MAGIC: &[u8] = &[
    0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19,
];

/// Whether a file begins with a pickle.
pub(crate) fn is_legacy(file: &[u8]) -> bool {
    matches!(file, [0x80, 0..=5, ..])
}

/// The tensors of the state dict in a file of `torch.save` from before PyTorch 1.6, in its order.
pub(crate) fn read_legacy(file: &[u8]) -> Result<Vec<Entry>, InterchangeError> {
    if !file[..file.len().min(32)]
        .windows(MAGIC.len())
        .any(|bytes| bytes == MAGIC)
    {
        return Err(refuse(
            "it is a pickle, but not one of torch.save; save the weights with torch.save(model.state_dict(), FILE)".to_owned(),
        ));
    }
    let mut at = 0;
    let mut next = || {
        let pickle = pickle::read(file, at..file.len()).map_err(of_pickle)?;
        at = pickle.end;
        Ok::<_, InterchangeError>(pickle)
    };
    let (_magic, _version, system, object, keys) = (next()?, next()?, next()?, next()?, next()?);
    let little = system
        .dict(system.root)
        .into_iter()
        .flatten()
        .any(|(key, value)| {
            text(file, *key) == Some(b"little_endian") && *value == Value::Bool(true)
        });
    if !little {
        return Err(refuse(big_endian()));
    }
    let mut state = State {
        file,
        pickle: &object,
        storages: Storages::new(),
    };
    let kinds = state.kinds();
    // The bytes of the storages follow in the order of their keys, each after the number of its values.
    let mut at = keys.end;
    for key in keys.list(keys.root).unwrap_or_default() {
        let storage = || {
            let key = text(file, *key)?;
            let count = u64::from_le_bytes(*file.get(at..)?.first_chunk()?);
            let bytes = usize::try_from(count).ok()?.checked_mul(*kinds.get(key)?)?;
            let end = (at + 8).checked_add(bytes)?;
            (end <= file.len()).then_some((key, at + 8..end))
        };
        let (key, range) = storage().ok_or_else(|| {
            refuse(
                "a storage lies beyond its end or has no type; fetch or save it again".to_owned(),
            )
        })?;
        at = range.end;
        state.storages.insert(key, range);
    }
    state.entries().map_err(refuse)
}

fn refuse(reason: String) -> InterchangeError {
    InterchangeError::Format {
        format: Format::Torch,
        reason,
    }
}

fn of_pickle(error: PickleError) -> InterchangeError {
    match error {
        PickleError::Damaged(reason) => refuse(reason),
        PickleError::Code(name) => InterchangeError::Code { name },
    }
}

fn big_endian() -> String {
    "it was written on a big-endian machine; load it with PyTorch and save it as safetensors"
        .to_owned()
}

fn text(file: &[u8], value: Value) -> Option<&[u8]> {
    match value {
        Value::Text(start, length) => Some(&file[start as usize..][..length as usize]),
        _ => None,
    }
}

fn size(value: Value) -> Option<usize> {
    match value {
        Value::Int(number) => usize::try_from(number).ok(),
        _ => None,
    }
}

/// A pickle with the storages that it points at.
struct State<'a> {
    file: &'a [u8],
    pickle: &'a Pickle,
    storages: Storages<'a>,
}

impl<'a> State<'a> {
    fn entries(&self) -> Result<Vec<Entry>, String> {
        // A tensor that somebody wrote takes at least its name, its description and its storage's.
        let most = 16 + self.file.len() / 48;
        let mut entries: Vec<Entry> = Vec::new();
        let mut places: HashMap<&[u8], usize> = HashMap::new();
        for (key, value) in self.state_dict()? {
            let Some(Node::Tensor(arguments)) = self.pickle.node(*value) else {
                continue;
            };
            let bytes = text(self.file, *key).ok_or_else(|| {
                "a tensor has a name that is no text; save a state dict".to_owned()
            })?;
            let name = str::from_utf8(bytes)
                .map_err(|_| "the name of a tensor is no UTF-8; rename it".to_owned())?;
            let entry = self.tensor(name, *arguments)?;
            // Of two values under one key a dictionary keeps the later one, in the place of the first.
            match places.get(bytes) {
                Some(place) => entries[*place] = entry,
                None if entries.len() >= most => {
                    return Err(
                        "it holds more tensors than a file of its size can; save it again"
                            .to_owned(),
                    );
                }
                None => {
                    places.insert(bytes, entries.len());
                    entries.push(entry);
                }
            }
        }
        Ok(entries)
    }

    /// The dictionary of tensors: that of the model in a checkpoint, or the outermost one. Checkpoints may hold tensors of
    /// their own beside it, such as the best accuracy.
    fn state_dict(&self) -> Result<&'a [(Value, Value)], String> {
        let holds_tensors = |value: Value| {
            self.pickle.dict(value).filter(|items| {
                (items.iter())
                    .any(|(_, item)| matches!(self.pickle.node(*item), Some(Node::Tensor(_))))
            })
        };
        if let Some(items) = holds_tensors(self.pickle.root) {
            let inner = STATE_DICTS.iter().find_map(|name| {
                let named = |key: &Value| text(self.file, *key) == Some(name.as_bytes());
                let found = items.iter().rev().find(|(key, _)| named(key));
                found.and_then(|(_, value)| holds_tensors(*value))
            });
            return Ok(inner.unwrap_or(items));
        }
        let nothing = || {
            "it holds no named tensors; save the weights with torch.save(model.state_dict(), FILE)"
                .to_owned()
        };
        let outer = self.pickle.dict(self.pickle.root).ok_or_else(nothing)?;
        let mut inner = Vec::new();
        let mut seen = HashSet::new();
        for (key, value) in outer {
            // One dictionary may stand under several keys, in a hostile file under very many.
            let items = self.pickle.dict(*value);
            if !items.is_some_and(|items| seen.insert(items.as_ptr())) {
                continue;
            }
            if let Some(items) = holds_tensors(*value) {
                inner.push((text(self.file, *key).unwrap_or_default(), items));
            }
        }
        if let [(_, only)] = inner[..] {
            return Ok(only);
        }
        let model = STATE_DICTS
            .iter()
            .find_map(|name| inner.iter().find(|(key, _)| *key == name.as_bytes()));
        match model {
            Some((_, items)) => Ok(items),
            None if inner.is_empty() => Err(nothing()),
            None => {
                let names: Vec<String> = (inner.iter().take(6))
                    .map(|(key, _)| quote(&String::from_utf8_lossy(&key[..key.len().min(200)])))
                    .collect();
                Err(format!(
                    "it holds several sets of tensors ({}) and none is called state_dict; save the one that is meant",
                    names.join(", ")
                ))
            }
        }
    }

    /// Bytes of one number by storage.
    fn kinds(&self) -> HashMap<&'a [u8], usize> {
        let persistent = self.pickle.nodes().filter_map(|node| match node {
            Node::Persistent(id) => self.storage(*id),
            _ => None,
        });
        persistent
            .map(|(kind, key, _)| (key, kind.bytes()))
            .collect()
    }

    /// ("storage", type, key, device, number of values, and in old files None or a part of it).
    fn storage(&self, id: Value) -> Option<(Kind, &'a [u8], usize)> {
        match self.pickle.tuple(id)? {
            [tag, Value::Global(Global::Storage(kind)), key, _, count]
            | [
                tag,
                Value::Global(Global::Storage(kind)),
                key,
                _,
                count,
                Value::None,
            ] => {
                let key = text(self.file, *key)?;
                (text(self.file, *tag)? == b"storage").then_some((*kind, key, size(*count)?))
            }
            _ => None,
        }
    }

    /// (storage, first value, extents, strides, …).
    fn tensor(&self, name: &str, arguments: Value) -> Result<Entry, String> {
        let quoted = || quote(name);
        let parts = || {
            let [storage, first, shape, strides, ..] = self.pickle.tuple(arguments)? else {
                return None;
            };
            let Some(Node::Persistent(id)) = self.pickle.node(*storage) else {
                return None;
            };
            let sizes = |value: Value| {
                let items = self
                    .pickle
                    .tuple(value)
                    .or_else(|| self.pickle.list(value))?;
                // One more than is read, so that too many are refused as such.
                items
                    .iter()
                    .take(16)
                    .map(|item| size(*item))
                    .collect::<Option<Vec<_>>>()
            };
            Some((
                self.storage(*id)?,
                size(*first)?,
                sizes(*shape)?,
                sizes(*strides)?,
            ))
        };
        let ((kind, key, count), first, shape, strides) = parts().ok_or_else(|| {
            format!(
                "tensor {} is not described as torch.save does it; save it again",
                quoted()
            )
        })?;
        let place = self.storages.get(key).ok_or_else(|| {
            format!(
                "the values of tensor {} are not in the file; fetch or save it again",
                quoted()
            )
        })?;
        let length = count
            .checked_mul(kind.bytes())
            .filter(|length| *length <= place.len())
            .ok_or_else(|| {
                format!(
                    "the storage of tensor {} is shorter than it says; fetch or save it again",
                    quoted()
                )
            })?;
        let place = Place::File(place.start..place.start + length);
        Entry::view(
            name.to_owned(),
            &shape,
            &strides,
            first,
            kind.numbers(),
            place,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored::Numbers;

    /// `torch.save` of {name: tensor} with a storage of six values.
    fn pickle(body: &[u8]) -> Vec<u8> {
        [b"\x80\x02", body, b"."].concat()
    }

    fn string(text: &str) -> Vec<u8> {
        [
            b"X",
            (text.len() as u32).to_le_bytes().as_slice(),
            text.as_bytes(),
        ]
        .concat()
    }

    fn tensor(kind: &str, first: u8, shape: [u8; 2], strides: [u8; 2]) -> Vec<u8> {
        let mut bytes = b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
        bytes.extend(string("storage"));
        bytes.extend(format!("ctorch\n{kind}\n").bytes());
        bytes.extend([string("0"), string("cpu")].concat());
        bytes.extend(b"K\x06tQ");
        bytes.extend([b'K', first, b'K', shape[0], b'K', shape[1], 0x86]);
        bytes.extend([b'K', strides[0], b'K', strides[1], 0x86]);
        bytes.extend(b"\x89ccollections\nOrderedDict\n)RtR");
        bytes
    }

    fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = b"}(".to_vec();
        for (name, value) in items {
            bytes.extend([string(name), value.clone()].concat());
        }
        bytes.push(b'u');
        bytes
    }

    fn archive(pickle: &[u8]) -> Vec<u8> {
        let values: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
        zip::stored(&[
            ("weights/data.pkl", pickle),
            ("weights/byteorder", b"little"),
            ("weights/data/0", &values),
        ])
    }

    fn read(body: &[u8]) -> Result<Vec<Entry>, String> {
        read_zip(&archive(&pickle(body))).map_err(|error| error.to_string())
    }

    #[test]
    fn views_of_one_storage_are_tensors() {
        let body = dict(&[
            ("fc.weight", tensor("FloatStorage", 0, [2, 3], [3, 1])),
            ("epoch", b"K\x07".to_vec()),
            ("fc.turned", tensor("FloatStorage", 0, [3, 2], [1, 3])),
            ("fc.half", tensor("HalfStorage", 4, [1, 2], [2, 1])),
        ]);
        let entries = read(&body).unwrap();
        let names: Vec<&str> = entries.iter().map(Entry::name).collect();
        assert_eq!(names, ["fc.weight", "fc.turned", "fc.half"]);
        let file = archive(&pickle(&body));
        assert_eq!(
            entries[0].tensor(&file).unwrap().data,
            [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
        );
        assert_eq!(
            entries[1].tensor(&file).unwrap().data,
            [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
        );
        assert_eq!(entries[2].numbers(), Numbers::F16);
    }

    #[test]
    fn the_models_weights_are_found_in_a_checkpoint() {
        let model = dict(&[("a", tensor("FloatStorage", 0, [2, 3], [3, 1]))]);
        let other = dict(&[("b", tensor("FloatStorage", 0, [2, 3], [3, 1]))]);
        let first = |items: &[(&str, Vec<u8>)]| read(&dict(items)).map(|e| e[0].name().to_owned());
        assert_eq!(
            first(&[("epoch", b"N".to_vec()), ("x", model.clone())]).unwrap(),
            "a"
        );
        assert_eq!(
            first(&[("ema", other.clone()), ("model", model.clone())]).unwrap(),
            "a"
        );
        let message = first(&[("x", model), ("y", other)]).unwrap_err();
        assert!(message.contains("(`x`, `y`)"), "{message}");
        assert!(read(b"}").unwrap_err().contains("no named tensors"));
        assert!(read(b"N").unwrap_err().contains("no named tensors"));
    }

    #[test]
    fn of_two_tensors_under_one_name_the_later_counts() {
        let entries = read(&dict(&[
            ("a", tensor("FloatStorage", 0, [2, 3], [3, 1])),
            ("b", tensor("FloatStorage", 0, [1, 1], [1, 1])),
            ("a", tensor("FloatStorage", 0, [1, 2], [2, 1])),
        ]));
        let entries = entries.unwrap();
        assert_eq!((entries.len(), entries[0].shape()), (2, vec![1, 2]));
    }

    #[test]
    fn tensors_that_cannot_be_are_refused_by_name() {
        let one = |tensor: Vec<u8>| read(&dict(&[("fc.weight", tensor)])).unwrap_err();
        let far = one(tensor("FloatStorage", 1, [2, 3], [3, 1]));
        assert!(far.contains("`fc.weight` reaches beyond"), "{far}");
        let long = one(tensor("DoubleStorage", 0, [2, 3], [3, 1]));
        assert!(long.contains("shorter than it says"), "{long}");
        let none = one(b"ctorch._utils\n_rebuild_tensor_v2\n)R".to_vec());
        assert!(none.contains("not described"), "{none}");
        let code = one(b"cos\nsystem\n".to_vec());
        assert!(
            code.contains("`os.system`") && code.contains("nothing was run"),
            "{code}"
        );
    }

    #[test]
    fn other_zip_files_and_byte_orders_are_refused() {
        let refusal =
            |files: &[(&str, &[u8])]| read_zip(&zip::stored(files)).unwrap_err().to_string();
        assert!(refusal(&[("a.txt", b"")]).contains("data.pkl"));
        assert!(refusal(&[("a/data.pkl", b"N."), ("b/data.pkl", b"N.")]).contains("one data.pkl"));
        assert!(refusal(&[("a/data.pkl", b"N."), ("a/byteorder", b"big")]).contains("big-endian"));
    }

    #[test]
    fn the_old_format_is_read() {
        let mut file = pickle(MAGIC);
        file.extend(pickle(b"M\xe9\x03"));
        file.extend(pickle(&dict(&[("little_endian", b"\x88".to_vec())])));
        let weights = tensor("FloatStorage", 0, [2, 3], [3, 1]);
        file.extend(pickle(&dict(&[("fc.weight", weights)])));
        file.extend(pickle(
            &[b"]".to_vec(), string("0"), b"a".to_vec()].concat(),
        ));
        let head = file.len();
        file.extend(6u64.to_le_bytes());
        file.extend((0..6).flat_map(|i| (i as f32).to_le_bytes()));
        assert!(is_legacy(&file));
        let entries = read_legacy(&file).unwrap();
        assert_eq!(
            entries[0].tensor(&file).unwrap().data,
            [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
        );
        // Cut short, and with a count beyond all bounds.
        for cut in 0..file.len() {
            assert!(read_legacy(&file[..cut]).is_err());
        }
        file[head..head + 8].fill(0xff);
        assert!(
            read_legacy(&file)
                .unwrap_err()
                .to_string()
                .contains("beyond its end")
        );
        assert!(
            read_legacy(b"\x80\x02N.")
                .unwrap_err()
                .to_string()
                .contains("not one of torch.save")
        );
    }
}
