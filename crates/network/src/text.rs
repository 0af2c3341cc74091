//! Descriptions from TOML and JSON and back.
//!
//! Keys and types of values are checked here, one table at a time; names, shapes and sizes are
//! checked by [`Network::graph`].

use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use crate::description::{Conv, Factors, Init, Layer, LayerInit, Linear, Network, Operation, Pool};
use crate::error::{NetworkError, hint, quote};
use crate::fields::{Fields, pair, plain};

/// Every layer type with the keys of its own, in the order in which they are written.
const KINDS: &[(&str, &[&str])] = &[
    (
        "conv",
        &["out", "kernel", "stride", "padding", "groups", "bias"],
    ),
    ("linear", &["out", "bias"]),
    ("batchnorm", &["eps", "momentum"]),
    ("relu", &[]),
    ("maxpool", &["kernel", "stride", "padding", "ceil"]),
    ("avgpool", &["kernel", "stride", "padding", "ceil"]),
    ("globalpool", &[]),
    ("lrn", &["size", "alpha", "beta", "k"]),
    ("dropout", &["p"]),
    ("flatten", &[]),
    ("add", &[]),
    ("softmax", &[]),
];

#[cfg(feature = "text")]
impl Network {
    /// Reads a description in TOML; keys and types of values are checked, shapes are not.
    ///
    /// # Errors
    /// What is not TOML, an unknown key or type, a missing key, a value of the wrong type.
    pub fn from_toml(text: &str) -> Result<Self, NetworkError> {
        let table = text
            .parse::<Table>()
            .map_err(|error| NetworkError::Syntax {
                line: error.span().map_or(1, |span| line_of(text, span.start)),
                message: crate::error::one_line(error.message()),
            })?;
        read_network(table)
    }

    /// Writes the description in TOML, leaving out the values that are defaults.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for (key, value) in [
            ("name", Value::from(self.name.clone())),
            ("input", sizes(&self.input)),
        ] {
            text += &format!("{key} = {value}\n");
        }
        for layer in &self.layers {
            text += "\n[[layers]]\n";
            for (key, value) in entries(layer) {
                text += &format!("{key} = {value}\n");
            }
        }
        text
    }
}

#[cfg(feature = "text")]
fn line_of(text: &str, position: usize) -> usize {
    1 + text
        .bytes()
        .take(position)
        .filter(|byte| *byte == b'\n')
        .count()
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_network(Table::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Entries<'a>(&'a Layer);
        impl Serialize for Entries<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(entries(self.0))
            }
        }
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("input", &self.input)?;
        map.serialize_entry(
            "layers",
            &self.layers.iter().map(Entries).collect::<Vec<_>>(),
        )?;
        map.end()
    }
}

fn read_network(table: Table) -> Result<Network, NetworkError> {
    let mut fields = Fields::new("the network".to_owned(), table);
    let name = fields.need("name", "name = \"my-net\"")?;
    let input = fields.need("input", "input = [3, 32, 32]")?;
    let layers = fields
        .take::<Vec<Table>>("layers")?
        .unwrap_or_default()
        .into_iter()
        .enumerate()
        .map(|(index, table)| read_layer(index + 1, table))
        .collect::<Result<_, _>>()?;
    fields.finish(&["name", "input", "layers"])?;
    Ok(Network {
        name,
        input,
        layers,
    })
}

fn read_layer(number: usize, table: Table) -> Result<Layer, NetworkError> {
    let mut fields = Fields::new(format!("layer {number}"), table);
    let name: String = fields.need("name", "name = \"conv1\"")?;
    fields.set_owner(format!("layer {}", quote(&name)));
    let kind: String = fields.need("type", "type = \"conv\"")?;
    let Some((_, own_keys)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        let known: Vec<&str> = KINDS.iter().map(|(known, _)| *known).collect();
        return Err(NetworkError::UnknownType {
            owner: fields.owner(),
            hint: hint(&kind, &known),
            kind: quote(&kind),
        });
    };
    let mut known = vec!["name", "type", "inputs"];
    known.extend_from_slice(own_keys);
    let inputs = fields.take("inputs")?;
    let operation = read_operation(&kind, &mut fields)?;
    let mut layer = Layer {
        inputs,
        ..Layer::new(name, operation)
    };
    if let Operation::Conv(_) | Operation::Linear(_) | Operation::BatchNorm { .. } = layer.operation
    {
        known.extend(["init", "lr", "decay"]);
        let init = read_of_parameters(&mut fields, "init", read_init)?;
        layer.init = LayerInit {
            weight: init[0],
            bias: init[1],
        };
        for (key, factors) in [("lr", &mut layer.lr), ("decay", &mut layer.decay)] {
            let [weight, bias] = read_of_parameters(&mut fields, key, plain)?;
            *factors = Factors {
                weight: weight.unwrap_or(1.0),
                bias: bias.unwrap_or(1.0),
            };
        }
    }
    fields.finish(&known)?;
    Ok(layer)
}

fn read_operation(kind: &str, fields: &mut Fields) -> Result<Operation, NetworkError> {
    Ok(match kind {
        "conv" => {
            let kernel = fields.take_with("kernel", pair)?;
            Operation::Conv(Conv {
                out: fields.need("out", "out = 32")?,
                kernel: fields.present(kernel, "kernel", "kernel = 3")?,
                stride: fields.take_with("stride", pair)?.unwrap_or([1; 2]),
                padding: fields.take_with("padding", pair)?.unwrap_or([0; 2]),
                groups: fields.take("groups")?.unwrap_or(1),
                bias: fields.take("bias")?.unwrap_or(true),
            })
        }
        "linear" => Operation::Linear(Linear {
            out: fields.need("out", "out = 10")?,
            bias: fields.take("bias")?.unwrap_or(true),
        }),
        "batchnorm" => Operation::BatchNorm {
            eps: fields.take("eps")?.unwrap_or(EPS),
            momentum: fields.take("momentum")?.unwrap_or(MOMENTUM),
        },
        "maxpool" => Operation::MaxPool(read_pool(fields)?),
        "avgpool" => Operation::AveragePool(read_pool(fields)?),
        "lrn" => Operation::Lrn {
            size: fields.take("size")?.unwrap_or(LRN.0),
            alpha: fields.take("alpha")?.unwrap_or(LRN.1),
            beta: fields.take("beta")?.unwrap_or(LRN.2),
            k: fields.take("k")?.unwrap_or(LRN.3),
        },
        "dropout" => Operation::Dropout {
            p: fields.take("p")?.unwrap_or(DROPOUT),
        },
        "relu" => Operation::Relu,
        "globalpool" => Operation::GlobalPool,
        "flatten" => Operation::Flatten,
        "add" => Operation::Add,
        "softmax" => Operation::Softmax,
        _ => unreachable!("every type of KINDS is read"),
    })
}

fn read_pool(fields: &mut Fields) -> Result<Pool, NetworkError> {
    let kernel = fields.take_with("kernel", pair)?;
    let kernel = fields.present(kernel, "kernel", "kernel = 2")?;
    Ok(Pool {
        kernel,
        stride: fields.take_with("stride", pair)?.unwrap_or(kernel),
        padding: fields.take_with("padding", pair)?.unwrap_or([0; 2]),
        ceil: fields.take("ceil")?.unwrap_or(true),
    })
}

/// Reads a table { weight, bias } of optional values.
fn read_of_parameters<T>(
    fields: &mut Fields,
    key: &str,
    read: fn(Value) -> Result<T, String>,
) -> Result<[Option<T>; 2], NetworkError> {
    let Some(table) = fields.take::<Table>(key)? else {
        return Ok([None, None]);
    };
    let mut inner = Fields::new(format!("{}: key `{key}`", fields.owner()), table);
    let values = [
        inner.take_with("weight", read)?,
        inner.take_with("bias", read)?,
    ];
    inner.finish(&["weight", "bias"])?;
    Ok(values)
}

fn read_init(value: Value) -> Result<Init, String> {
    const KINDS: &[(&str, &[&str])] = &[
        ("constant", &["value"]),
        ("gaussian", &["std"]),
        ("uniform", &["bound"]),
        ("he", &[]),
        ("xavier", &[]),
    ];
    let mut table = match value {
        Value::Integer(_) | Value::Float(_) => return Ok(Init::Constant { value: plain(value)? }),
        Value::String(kind) => Table::from_iter([("kind".to_owned(), Value::String(kind))]),
        Value::Table(table) => table,
        _ => return Err("give a number, \"he\", \"xavier\" or a table such as { kind = \"gaussian\", std = 0.05 }".to_owned()),
    };
    let Some(Value::String(kind)) = table.remove("kind") else {
        return Err(
            "`kind` is missing or no text; add for example `kind = \"gaussian\"`".to_owned(),
        );
    };
    let Some((_, own)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        let known: Vec<&str> = KINDS.iter().map(|(known, _)| *known).collect();
        return Err(format!(
            "unknown kind {}; {}",
            quote(&kind),
            hint(&kind, &known)
        ));
    };
    let mut number = |key: &str| -> Result<f32, String> {
        let value = table
            .remove(key)
            .ok_or_else(|| format!("`{key}` is missing; add for example `{key} = 0.05`"))?;
        plain(value).map_err(|message| format!("`{key}`: {message}"))
    };
    let init = match kind.as_str() {
        "constant" => Init::Constant {
            value: number("value")?,
        },
        "gaussian" => Init::Gaussian {
            std: number("std")?,
        },
        "uniform" => Init::Uniform {
            bound: number("bound")?,
        },
        "he" => Init::He,
        _ => Init::Xavier,
    };
    match table.keys().next() {
        None => Ok(init),
        Some(key) => Err(format!("unknown key {}; {}", quote(key), hint(key, own))),
    }
}

const EPS: f32 = 1e-5;
const MOMENTUM: f32 = 0.1;
const DROPOUT: f32 = 0.5;
/// Size, alpha, beta and k, as AlexNet has them.
const LRN: (usize, f32, f32, f32) = (5, 1e-4, 0.75, 1.0);

/// The keys of one layer with their values, without those that are defaults.
fn entries(layer: &Layer) -> Vec<(&'static str, Value)> {
    let mut out = vec![
        ("name", Value::from(layer.name.clone())),
        ("type", Value::from(layer.operation.kind())),
    ];
    let mut put = |key: &'static str, value: Value, is_default: bool| {
        if !is_default {
            out.push((key, value));
        }
    };
    if let Some(inputs) = &layer.inputs {
        put(
            "inputs",
            Value::Array(inputs.iter().cloned().map(Value::from).collect()),
            false,
        );
    }
    match &layer.operation {
        Operation::Conv(conv) => {
            put("out", size(conv.out), false);
            put("kernel", short_pair(conv.kernel), false);
            put("stride", short_pair(conv.stride), conv.stride == [1; 2]);
            put("padding", short_pair(conv.padding), conv.padding == [0; 2]);
            put("groups", size(conv.groups), conv.groups == 1);
            put("bias", Value::from(conv.bias), conv.bias);
        }
        Operation::Linear(linear) => {
            put("out", size(linear.out), false);
            put("bias", Value::from(linear.bias), linear.bias);
        }
        Operation::BatchNorm { eps, momentum } => {
            put("eps", float(*eps), *eps == EPS);
            put("momentum", float(*momentum), *momentum == MOMENTUM);
        }
        Operation::MaxPool(pool) | Operation::AveragePool(pool) => {
            put("kernel", short_pair(pool.kernel), false);
            put(
                "stride",
                short_pair(pool.stride),
                pool.stride == pool.kernel,
            );
            put("padding", short_pair(pool.padding), pool.padding == [0; 2]);
            put("ceil", Value::from(pool.ceil), pool.ceil);
        }
        Operation::Lrn {
            size: neighbours,
            alpha,
            beta,
            k,
        } => {
            put("size", size(*neighbours), *neighbours == LRN.0);
            put("alpha", float(*alpha), *alpha == LRN.1);
            put("beta", float(*beta), *beta == LRN.2);
            put("k", float(*k), *k == LRN.3);
        }
        Operation::Dropout { p } => put("p", float(*p), false),
        Operation::Relu
        | Operation::GlobalPool
        | Operation::Flatten
        | Operation::Add
        | Operation::Softmax => {}
    }
    let init = [layer.init.weight, layer.init.bias].map(|init| init.map(init_value));
    put(
        "init",
        of_parameters(init),
        layer.init == LayerInit::default(),
    );
    for (key, factors) in [("lr", layer.lr), ("decay", layer.decay)] {
        let values =
            [factors.weight, factors.bias].map(|factor| (factor != 1.0).then(|| float(factor)));
        put(key, of_parameters(values), factors == Factors::default());
    }
    out
}

fn of_parameters(values: [Option<Value>; 2]) -> Value {
    let keys = ["weight", "bias"].map(str::to_owned);
    Value::Table(
        keys.into_iter()
            .zip(values)
            .filter_map(|(key, value)| Some((key, value?)))
            .collect(),
    )
}

fn init_value(init: Init) -> Value {
    let (kind, number) = match init {
        Init::Constant { value } => return float(value),
        Init::Gaussian { std } => ("gaussian", Some(("std", std))),
        Init::Uniform { bound } => ("uniform", Some(("bound", bound))),
        Init::He => ("he", None),
        Init::Xavier => ("xavier", None),
    };
    let mut table = Table::from_iter([("kind".to_owned(), Value::from(kind))]);
    if let Some((key, value)) = number {
        table.insert(key.to_owned(), float(value));
    }
    Value::Table(table)
}

/// The shortest decimal that reads back as the same f32, and not the f64 that equals it.
fn float(value: f32) -> Value {
    let short: f64 = value.to_string().parse().unwrap_or(f64::from(value));
    let exact = if short as f32 == value {
        short
    } else {
        f64::from(value)
    };
    Value::Float(exact)
}

fn size(value: usize) -> Value {
    // TOML's integers end at i64; the checks of a graph allow far less.
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

fn sizes(values: &[usize]) -> Value {
    Value::Array(values.iter().map(|value| size(*value)).collect())
}

fn short_pair(values: [usize; 2]) -> Value {
    if values[0] == values[1] {
        size(values[0])
    } else {
        sizes(&values)
    }
}
