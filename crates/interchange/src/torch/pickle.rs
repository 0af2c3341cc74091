//! Reads the pickles of PyTorch without running anything.
//!
//! A pickle is a program for a small stack machine. Only the instructions that build plain values are known here, and of
//! the functions that a pickle may name only those that put tensors together; they are recorded, not called.
//!
//! Values live in an arena and point at each other by index, so that no depth of nesting can exhaust the stack. Text stays
//! in the file. Together with the limit on containers this bounds the memory by the length of the file.

use std::cmp::Ordering;
use std::ops::Range;

use crate::error::quote;
use crate::stored::Numbers;

/// Why a pickle is not read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PickleError {
    /// Damaged, or more than plain values.
    Damaged(String),
    /// It names a function or class that is not needed for weights.
    Code(String),
}

/// A value, or where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// A number that no weights are described by: floating-point, or an integer of more than 64 bits.
    Number,
    /// Text or bytes: start and length in the file.
    Text(u32, u32),
    /// A name out of [`KNOWN`].
    Global(Global),
    /// Index of a container.
    At(u32),
}

/// What a pickle may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    OrderedDict,
    Size,
    RebuildTensor,
    RebuildParameter,
    Storage(Kind),
}

/// The numbers of a storage: a place in [`STORAGES`], so that a value stays small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind(u8);

/// PyTorch's types of storages: name, numbers, and bytes of one.
const STORAGES: [(&str, Numbers, usize); 10] = [
    ("FloatStorage", Numbers::F32, 4),
    ("HalfStorage", Numbers::F16, 2),
    ("BFloat16Storage", Numbers::Bf16, 2),
    ("DoubleStorage", Numbers::Other("F64"), 8),
    ("LongStorage", Numbers::Other("I64"), 8),
    ("IntStorage", Numbers::Other("I32"), 4),
    ("ShortStorage", Numbers::Other("I16"), 2),
    ("CharStorage", Numbers::Other("I8"), 1),
    ("ByteStorage", Numbers::Other("U8"), 1),
    ("BoolStorage", Numbers::Other("BOOL"), 1),
];

impl Kind {
    pub fn numbers(self) -> Numbers {
        STORAGES[usize::from(self.0)].1
    }

    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        STORAGES[usize::from(self.0)].2
    }
}

/// What consists of other values.
#[derive(Debug)]
pub(crate) enum Node {
    Tuple(Box<[Value]>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// What a persistent id stands for, which is a tuple.
    Persistent(Value),
    /// Arguments of `_rebuild_tensor_v2`, a tuple.
    Tensor(Value),
}

/// Every name that a pickle may use, by module and name.
fn known(module: &[u8], name: &[u8]) -> Option<Global> {
    match (module, name) {
        (b"collections", b"OrderedDict") => Some(Global::OrderedDict),
        (b"torch", b"Size") => Some(Global::Size),
        (b"torch._utils", b"_rebuild_tensor_v2" | b"_rebuild_tensor") => {
            Some(Global::RebuildTensor)
        }
        (b"torch._utils", b"_rebuild_parameter") => Some(Global::RebuildParameter),
        (b"torch", name) => STORAGES
            .iter()
            .zip(0..)
            .find(|((known, ..), _)| known.as_bytes() == name)
            .map(|(_, index)| Global::Storage(Kind(index))),
        _ => None,
    }
}

/// The value of a pickle and everything that it points at.
#[derive(Debug)]
pub(crate) struct Pickle {
    pub root: Value,
    nodes: Vec<Node>,
    /// Where the pickle ends in the file.
    pub end: usize,
}

impl Pickle {
    pub fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::At(index) => Some(&self.nodes[index as usize]),
            _ => None,
        }
    }

    /// Everything that consists of other values, in the order in which it was made.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    pub fn tuple(&self, value: Value) -> Option<&[Value]> {
        match self.node(value) {
            Some(Node::Tuple(items)) => Some(items),
            _ => None,
        }
    }

    pub fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.node(value) {
            Some(Node::Dict(items)) => Some(items),
            _ => None,
        }
    }

    pub fn list(&self, value: Value) -> Option<&[Value]> {
        match self.node(value) {
            Some(Node::List(items)) => Some(items),
            _ => None,
        }
    }
}

/// Reads the pickle in this part of the file, up to its end or that of the part.
///
/// # Errors
/// Instructions or names that are not needed for weights, or a program that makes no sense.
pub(crate) fn read(file: &[u8], part: Range<usize>) -> Result<Pickle, PickleError> {
    if u32::try_from(part.end).is_err() {
        return Err(PickleError::Damaged(
            "its pickle lies beyond 4 GB; save the weights as safetensors".to_owned(),
        ));
    }
    let mut machine = Machine {
        file,
        most_nodes: 256 + part.len() / 4,
        at: part.start,
        end: part.end,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        nodes: Vec::new(),
    };
    let root = machine.run()?;
    Ok(Pickle {
        root,
        nodes: machine.nodes,
        end: machine.at,
    })
}

struct Machine<'a> {
    file: &'a [u8],
    at: usize,
    end: usize,
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<u32>,
    memo: Vec<Value>,
    nodes: Vec<Node>,
    /// Every container of a sensible pickle takes several bytes of it.
    most_nodes: usize,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Value, PickleError> {
        loop {
            let at = self.at;
            let [code] = self.array()?;
            match code {
                b'.' => return self.pop(),
                // Version, and the length of a part that follows: both say nothing about the value.
                0x80 => drop(self.array::<1>()?),
                0x95 => drop(self.array::<8>()?),
                b'(' => {
                    let height = self.stack.len() as u32;
                    grow(&mut self.marks, height);
                }
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_mark()?),
                b'2' => {
                    let top = self.top()?;
                    self.push(top);
                }
                b'N' => self.push(Value::None),
                0x88 => self.push(Value::Bool(true)),
                0x89 => self.push(Value::Bool(false)),
                b'J' => {
                    let number = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(number.into()));
                }
                b'K' => {
                    let [number] = self.array()?;
                    self.push(Value::Int(number.into()));
                }
                b'M' => {
                    let number = u16::from_le_bytes(self.array()?);
                    self.push(Value::Int(number.into()));
                }
                0x8a => {
                    let [length] = self.array()?;
                    let bytes = self.bytes(length.into())?;
                    self.push(integer(&self.file[bytes]));
                }
                b'G' => {
                    self.array::<8>()?;
                    self.push(Value::Number);
                }
                // Text and bytes with lengths of one, four and eight bytes.
                0x8c | b'U' | b'C' => {
                    let [length] = self.array()?;
                    self.text(length.into())?;
                }
                b'X' | b'T' | b'B' => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.text(length.into())?;
                }
                0x8d | 0x8e => {
                    let length = u64::from_le_bytes(self.array()?);
                    self.text(length)?;
                }
                b')' => self.container(Node::Tuple(Box::default()))?,
                0x85..=0x87 => {
                    let items = self.top_items(usize::from(code - 0x84))?;
                    self.container(Node::Tuple(items))?;
                }
                b't' => {
                    let items = self.pop_mark()?;
                    self.container(Node::Tuple(items))?;
                }
                b']' => self.container(Node::List(Vec::new()))?,
                b'l' => {
                    let items = self.pop_mark()?;
                    self.container(Node::List(items.into_vec()))?;
                }
                b'}' => self.container(Node::Dict(Vec::new()))?,
                b'd' => {
                    let items = self.pop_mark()?;
                    let pairs = self.pairs(&items)?;
                    self.container(Node::Dict(pairs))?;
                }
                b'a' => {
                    let items = self.top_items(1)?;
                    self.extend_list(&items)?;
                }
                b'e' => {
                    let items = self.pop_mark()?;
                    self.extend_list(&items)?;
                }
                b's' => {
                    let items = self.top_items(2)?;
                    self.extend_dict(&items)?;
                }
                b'u' => {
                    let items = self.pop_mark()?;
                    self.extend_dict(&items)?;
                }
                b'q' => {
                    let [index] = self.array()?;
                    self.remember(index.into())?;
                }
                b'r' => {
                    let index = u32::from_le_bytes(self.array()?);
                    self.remember(index as usize)?;
                }
                0x94 => self.remember(self.memo.len())?,
                b'h' => {
                    let [index] = self.array()?;
                    self.recall(index.into())?;
                }
                b'j' => {
                    let index = u32::from_le_bytes(self.array()?);
                    self.recall(index as usize)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.name(module, name)?;
                }
                0x93 => {
                    let items = self.top_items(2)?;
                    let [Value::Text(at, length), Value::Text(name, name_length)] = *items else {
                        return Err(nonsense("a name is no text"));
                    };
                    let range = |at: u32, length: u32| at as usize..(at + length) as usize;
                    self.name(range(at, length), range(name, name_length))?;
                }
                b'Q' => {
                    let id = self.pop()?;
                    self.container(Node::Persistent(id))?;
                }
                b'R' => self.reduce()?,
                b'b' => self.build()?,
                // Classes by name, objects of classes, extensions, and code by other ways.
                b'i' => {
                    let (module, name) = (self.line()?, self.line()?);
                    return Err(self.code(module, name));
                }
                b'o' | 0x81 | 0x92 => {
                    return Err(PickleError::Code("a class".to_owned()));
                }
                0x82..=0x84 => {
                    return Err(PickleError::Code("a registered extension".to_owned()));
                }
                other => {
                    return Err(PickleError::Damaged(format!(
                        "its pickle has instruction 0x{other:02x} at byte {at}, which no weights need; save the weights alone, with torch.save(model.state_dict(), FILE)"
                    )));
                }
            }
        }
    }

    /// Records what a call would give, if it is one of those that put weights together.
    fn reduce(&mut self) -> Result<(), PickleError> {
        let items = self.top_items(2)?;
        let (function, arguments) = (items[0], items[1]);
        let Value::Global(function) = function else {
            return Err(PickleError::Code("a value that is no function".to_owned()));
        };
        let Value::At(index) = arguments else {
            return Err(nonsense("a call has no arguments"));
        };
        let Node::Tuple(values) = &self.nodes[index as usize] else {
            return Err(nonsense("the arguments of a call are no tuple"));
        };
        match (function, &values[..]) {
            (Global::OrderedDict, []) => self.container(Node::Dict(Vec::new())),
            // The extents, as the tuple or list that they are given as.
            (Global::Size, [extents]) => {
                let extents = *extents;
                self.push(extents);
                Ok(())
            }
            (Global::RebuildTensor, _) => self.container(Node::Tensor(arguments)),
            // Tensor, whether it needs a gradient, hooks.
            (Global::RebuildParameter, [tensor, ..]) => {
                let tensor = *tensor;
                self.push(tensor);
                Ok(())
            }
            _ => Err(nonsense("a call has arguments of another function")),
        }
    }

    /// Attributes of a dictionary (`_metadata` of a state dict) say nothing about weights; other objects have none.
    fn build(&mut self) -> Result<(), PickleError> {
        self.pop()?;
        match self.top()? {
            Value::At(index) if matches!(self.nodes[index as usize], Node::Dict(_)) => Ok(()),
            _ => Err(PickleError::Code("the restoring of an object".to_owned())),
        }
    }

    fn name(&mut self, module: Range<usize>, name: Range<usize>) -> Result<(), PickleError> {
        match known(&self.file[module.clone()], &self.file[name.clone()]) {
            Some(global) => {
                self.push(Value::Global(global));
                Ok(())
            }
            None => Err(self.code(module, name)),
        }
    }

    fn code(&self, module: Range<usize>, name: Range<usize>) -> PickleError {
        // Messages are short, names from files need not be.
        let text = |range: Range<usize>| {
            let bytes = &self.file[range];
            String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned()
        };
        PickleError::Code(quote(&format!("{}.{}", text(module), text(name))))
    }

    fn push(&mut self, value: Value) {
        grow(&mut self.stack, value);
    }

    fn container(&mut self, node: Node) -> Result<(), PickleError> {
        if self.nodes.len() >= self.most_nodes {
            return Err(nonsense("it holds more containers than its length allows"));
        }
        // The pickle lies below 4 GB and makes at most one container per byte.
        let index = self.nodes.len() as u32;
        grow(&mut self.nodes, node);
        self.push(Value::At(index));
        Ok(())
    }

    /// The height below which an instruction may not take values away.
    fn floor(&self) -> usize {
        self.marks.last().map_or(0, |mark| *mark as usize)
    }

    fn top(&self) -> Result<Value, PickleError> {
        match self.stack.last() {
            Some(top) if self.stack.len() > self.floor() => Ok(*top),
            _ => Err(nonsense("an instruction finds no value")),
        }
    }

    fn pop(&mut self) -> Result<Value, PickleError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn top_items(&mut self, count: usize) -> Result<Box<[Value]>, PickleError> {
        match self.stack.len().checked_sub(count) {
            Some(start) if start >= self.floor() => {
                let items = Box::from(&self.stack[start..]);
                self.stack.truncate(start);
                Ok(items)
            }
            _ => Err(nonsense("an instruction finds too few values")),
        }
    }

    fn pop_mark(&mut self) -> Result<Box<[Value]>, PickleError> {
        let mark = self
            .marks
            .pop()
            .ok_or_else(|| nonsense("a mark is missing"))?;
        let items = Box::from(&self.stack[mark as usize..]);
        self.stack.truncate(mark as usize);
        Ok(items)
    }

    fn pairs(&self, items: &[Value]) -> Result<Vec<(Value, Value)>, PickleError> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(nonsense("a key has no value"));
        }
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    }

    fn extend_list(&mut self, items: &[Value]) -> Result<(), PickleError> {
        match self.top()? {
            Value::At(index) => match &mut self.nodes[index as usize] {
                Node::List(list) => {
                    list.extend_from_slice(items);
                    Ok(())
                }
                _ => Err(nonsense("a value is appended to no list")),
            },
            _ => Err(nonsense("a value is appended to no list")),
        }
    }

    fn extend_dict(&mut self, items: &[Value]) -> Result<(), PickleError> {
        let pairs = self.pairs(items)?;
        match self.top()? {
            Value::At(index) => match &mut self.nodes[index as usize] {
                Node::Dict(dict) => {
                    dict.extend(pairs);
                    Ok(())
                }
                _ => Err(nonsense("a key is set in no dictionary")),
            },
            _ => Err(nonsense("a key is set in no dictionary")),
        }
    }

    /// Writers number what they remember from 0 upwards.
    fn remember(&mut self, index: usize) -> Result<(), PickleError> {
        let top = self.top()?;
        match index.cmp(&self.memo.len()) {
            Ordering::Less => self.memo[index] = top,
            Ordering::Equal => grow(&mut self.memo, top),
            Ordering::Greater => return Err(nonsense("it remembers values out of order")),
        }
        Ok(())
    }

    fn recall(&mut self, index: usize) -> Result<(), PickleError> {
        let value = self.memo.get(index).copied();
        self.push(value.ok_or_else(|| nonsense("it recalls what it did not remember"))?);
        Ok(())
    }

    fn text(&mut self, length: u64) -> Result<(), PickleError> {
        let range = self.bytes(length)?;
        // The pickle lies below 4 GB.
        self.push(Value::Text(range.start as u32, range.len() as u32));
        Ok(())
    }

    fn bytes(&mut self, length: u64) -> Result<Range<usize>, PickleError> {
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| self.at.checked_add(length))
            .filter(|end| *end <= self.end)
            .ok_or_else(|| nonsense("it ends too early"))?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], PickleError> {
        let range = self.bytes(LENGTH as u64)?;
        let mut array = [0; LENGTH];
        array.copy_from_slice(&self.file[range]);
        Ok(array)
    }

    fn line(&mut self) -> Result<Range<usize>, PickleError> {
        let length = self.file[self.at..self.end]
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or_else(|| nonsense("it ends too early"))?;
        let range = self.at..self.at + length;
        self.at = range.end + 1;
        Ok(range)
    }
}

/// Little-endian two's complement of any length.
fn integer(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Number;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut word = [if negative { 0xff } else { 0 }; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(word))
}

/// Appends and grows by a quarter, so that hostile pickles cost little more than what they hold.
fn grow<T>(items: &mut Vec<T>, item: T) {
    if items.len() == items.capacity() {
        items.reserve_exact(16 + items.len() / 4);
    }
    items.push(item);
}

fn nonsense(reason: &str) -> PickleError {
    PickleError::Damaged(format!(
        "its pickle makes no sense, {reason}; fetch or save it again"
    ))
}

#[cfg(test)]
mod tests;
