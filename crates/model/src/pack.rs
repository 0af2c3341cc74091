//! Writing a model: for each layer the index and the values that take the fewest bytes.

use std::collections::BTreeMap;

use safetensors::Dtype;
use skinny_network::half::{f16_to_f32, f32_to_f16};
use skinny_network::{Network, Parameter, Preprocess, Role, Tensors};
use skinny_sparsity::Mask;

use crate::container::{self, NewPart};
use crate::error::ModelError;
use crate::index::gaps::Width;
use crate::index::{Matrix, bitmask, coded, gaps, offsets_to_bytes, rice};
use crate::model::{ENTRIES_PER_BYTE, VALUES_PER_BYTE};
use crate::values::{NewValues, ValueKind, float_bytes};
use crate::{FORMAT, VERSION, suffix, text};

/// A network with everything that belongs to it, as dense tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Unpacked {
    /// The network.
    pub network: Network,
    /// What happens to a picture before the first layer, with the tensors of a whitening attached.
    pub preprocess: Preprocess,
    /// All parameters and running statistics of the network, by name, in PyTorch's layouts.
    pub tensors: Tensors,
    /// Masks of weights by the weight's name; of a weight without one, all values are kept that are not zero.
    pub masks: BTreeMap<String, Mask>,
}

/// What the bytes of a file are spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Level {
    /// Cheap to load: bitmasks, gaps and values that are used where they lie.
    Fast,
    /// The fewest bytes: masks, gaps and values entropy-coded.
    #[default]
    Small,
}

/// How a model is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PackOptions {
    /// What the bytes are spent on.
    pub level: Level,
    /// How the values of weights are stored. Other parameters are f32; or f16, where the weights are not f32 and half precision costs
    /// them no more than rounding.
    pub values: ValueKind,
}

/// How far packing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackProgress<'a> {
    /// The parameter that was packed.
    pub parameter: &'a str,
    /// Values packed so far.
    pub done: u64,
    /// Values of all parameters.
    pub total: u64,
}

/// Writes a model as the bytes of a file; the same bytes for the same model and options.
///
/// `progress` is called after each parameter.
///
/// # Errors
/// A network that is not valid, tensors that are not the network's, a mask of another length or of a parameter that cannot have
/// one, a value that a mask drops but that is not zero, a value that the chosen kind cannot hold.
pub fn pack(
    model: &Unpacked,
    options: &PackOptions,
    progress: &mut dyn FnMut(PackProgress<'_>),
) -> Result<Vec<u8>, ModelError> {
    let graph = model.network.graph()?;
    model.preprocess.check(graph.input)?;
    model.tensors.check_against(&graph, true)?;
    for name in model.masks.keys() {
        let known = graph.parameter(name);
        if !known.is_some_and(|parameter| parameter.role.thresholded()) {
            return Err(unpackable(
                name,
                "there is a mask for it, but it is no weight of the network",
            ));
        }
    }
    let total: u64 = graph.parameters.iter().map(|p| p.len() as u64).sum();
    let (mut done, mut entries) = (0, 0);
    let mut parts = Vec::new();
    for parameter in &graph.parameters {
        let tensor = model.tensors.get(&parameter.name);
        let values = tensor.map_or(&[][..], |tensor| &tensor.data);
        if parameter.role.thresholded() {
            let mask = model.masks.get(&parameter.name);
            let (own, stored) = weight(parameter, values, mask, options)?;
            parts.extend(own);
            entries += stored;
        } else {
            parts.push(other(parameter, values, options));
        }
        done += parameter.len() as u64;
        progress(PackProgress {
            parameter: &parameter.name,
            done,
            total,
        });
    }
    for (name, tensor) in model.preprocess.tensors() {
        let bytes = float_bytes(&tensor.data);
        parts.push(NewPart::new(name, Dtype::F32, &tensor.shape, bytes));
    }
    let json = |value: serde_json::Result<String>| {
        value.map_err(|error| ModelError::NotAModel(error.to_string()))
    };
    let shapes: BTreeMap<&str, &[usize]> = (graph.parameters.iter())
        .filter(|parameter| parameter.role.thresholded())
        .map(|parameter| (parameter.name.as_str(), &parameter.shape[..]))
        .collect();
    let text = BTreeMap::from([
        (text::FORMAT, FORMAT.to_owned()),
        (text::VERSION, VERSION.to_string()),
        (text::NETWORK, json(serde_json::to_string(&model.network))?),
        (
            text::PREPROCESS,
            json(serde_json::to_string(&model.preprocess))?,
        ),
        (text::SHAPES, json(serde_json::to_string(&shapes))?),
    ]);
    // Readers refuse a file that says more than its bytes can; one of a network of nothing but zeros is made longer.
    let least = (total / VALUES_PER_BYTE).max((entries / ENTRIES_PER_BYTE) as u64) as usize + 1;
    Ok(container::write(&text, parts, least))
}

fn unpackable(name: &str, reason: impl Into<String>) -> ModelError {
    ModelError::Unpackable {
        name: name.to_owned(),
        reason: reason.into(),
    }
}

/// A bias, a parameter or a statistic of a normalization.
fn other(parameter: &Parameter, values: &[f32], options: &PackOptions) -> NewPart {
    // Half precision must cost no more than rounding does: of what is added to sums, beside the largest of its kind.
    let largest = values
        .iter()
        .fold(0.0f32, |most, value| most.max(value.abs()));
    let adds = matches!(parameter.role, Role::Bias | Role::Shift | Role::RunningMean);
    let fits = |value: &f32| {
        let error = (f16_to_f32(f32_to_f16(*value)) - value).abs();
        error <= if adds { largest } else { value.abs() } / 2048.0
    };
    let (name, shape) = (&parameter.name, &parameter.shape);
    if options.values != ValueKind::F32 && values.iter().all(fits) {
        let halves = values.iter().flat_map(|v| f32_to_f16(*v).to_le_bytes());
        NewPart::new(name, Dtype::F16, shape, halves.collect())
    } else {
        NewPart::new(name, Dtype::F32, shape, float_bytes(values))
    }
}

/// The parts of a weight, and the number of values that they store.
fn weight(
    parameter: &Parameter,
    values: &[f32],
    given: Option<&Mask>,
    options: &PackOptions,
) -> Result<(Vec<NewPart>, usize), ModelError> {
    let name = &parameter.name;
    check(name, values, given, options.values)?;
    let derived;
    let mask = match given {
        Some(mask) => mask,
        None => {
            derived = Mask::of_nonzero(values);
            &derived
        }
    };
    let matrix = Matrix::of(&parameter.shape);
    let full = mask.count() == mask.len();
    let kept: Vec<f32> = mask.iter().map(|i| values[i]).collect();
    let kept = NewValues::new(options.values, &kept, &matrix.row_starts(mask));

    // What is stored without an index is kept exactly where it is not zero.
    let mut candidates = Vec::new();
    if full {
        candidates.push((values_parts(name, &kept, options.level), mask.len()));
    }
    if let Some(dense) = dense(parameter, mask, &kept)
        && (given.is_none() || pattern_is(&dense[0], mask))
    {
        candidates.push((dense, mask.len()));
    }
    if !full || candidates.is_empty() || given.is_some() {
        let (index, padded) = index_parts(name, mask, matrix, kept.kind.bits(), options.level);
        let padded = padded.map(|width| pad(&kept, mask, matrix, width));
        let stored = padded.as_ref().unwrap_or(&kept);
        let values = values_parts(name, stored, options.level);
        candidates.push(([index, values].concat(), stored.symbols.len()));
    }
    Ok(candidates
        .into_iter()
        .min_by_key(|(parts, _)| cost(parts))
        .expect("there is always an index"))
}

fn cost(parts: &[NewPart]) -> usize {
    parts.iter().map(NewPart::cost).sum()
}

/// Whether mask and values go together.
fn check(
    name: &str,
    values: &[f32],
    mask: Option<&Mask>,
    kind: ValueKind,
) -> Result<(), ModelError> {
    if let Some(mask) = mask {
        if mask.len() != values.len() {
            return Err(unpackable(
                name,
                format!(
                    "its mask is for {} weights, but it has {}; give the mask of this network",
                    mask.len(),
                    values.len()
                ),
            ));
        }
        let dropped = |i: &usize| !mask.get(*i) && values[*i].to_bits() != 0;
        if let Some(index) = (0..values.len()).find(dropped) {
            return Err(unpackable(
                name,
                format!(
                    "value {index} is dropped by the mask but is {}; threshold the weights first",
                    values[index]
                ),
            ));
        }
    }
    let holds = |value: f32| match kind {
        ValueKind::F32 => true,
        ValueKind::F16 => f16_to_f32(f32_to_f16(value)).is_finite(),
        _ => value.is_finite(),
    };
    match values.iter().find(|value| !holds(**value)) {
        Some(value) => Err(unpackable(
            name,
            format!(
                "{} cannot hold its value {value}; use --values f32",
                kind.name()
            ),
        )),
        None => Ok(()),
    }
}

/// All values in the shape of the parameter; a codebook has no code for dropped weights.
fn dense(parameter: &Parameter, mask: &Mask, kept: &NewValues) -> Option<Vec<NewPart>> {
    let (name, shape) = (&parameter.name, &parameter.shape);
    let dtype = plain_dtype(kept.kind)?;
    let mut symbols = vec![0; mask.len()];
    for (index, symbol) in mask.iter().zip(&kept.symbols) {
        symbols[index] = *symbol;
    }
    let all = NewValues {
        symbols,
        ..kept.clone()
    };
    let mut parts = vec![NewPart::new(name, dtype, shape, all.plain())];
    parts.extend(table_part(name, kept));
    Some(parts)
}

/// Whether a number, 0.0 or −0.0 if it is a float, is zero.
fn is_zero(dtype: Dtype, value: &[u8]) -> bool {
    let (highest, rest) = value.split_last().expect("a number has bytes");
    let sign = if dtype == Dtype::I8 { 0 } else { 0x80 };
    highest & !sign == 0 && rest.iter().all(|byte| *byte == 0)
}

/// Whether the values of a dense part are zero exactly where the mask drops them.
fn pattern_is(part: &NewPart, mask: &Mask) -> bool {
    let size = part.dtype.bitsize() / 8;
    (part.bytes.chunks_exact(size).enumerate())
        .all(|(index, value)| is_zero(part.dtype, value) != mask.get(index))
}

fn plain_dtype(kind: ValueKind) -> Option<Dtype> {
    match kind {
        ValueKind::F32 => Some(Dtype::F32),
        ValueKind::F16 => Some(Dtype::F16),
        ValueKind::Int8 => Some(Dtype::I8),
        ValueKind::Codebook16 | ValueKind::Codebook256 => None,
    }
}

fn table_part(name: &str, values: &NewValues) -> Option<NewPart> {
    let suffix = match values.kind {
        ValueKind::F32 | ValueKind::F16 => return None,
        ValueKind::Int8 => suffix::SCALE,
        ValueKind::Codebook16 | ValueKind::Codebook256 => suffix::CODEBOOK,
    };
    Some(NewPart::new(
        format!("{name}.{suffix}"),
        Dtype::F32,
        &[values.table.len()],
        float_bytes(&values.table),
    ))
}

/// The values of the entries of an index.
fn values_parts(name: &str, values: &NewValues, level: Level) -> Vec<NewPart> {
    let part = |suffix: &str, dtype: Dtype, bytes: Vec<u8>| {
        let shape = [8 * bytes.len() / dtype.bitsize()];
        NewPart::new(format!("{name}.{suffix}"), dtype, &shape, bytes)
    };
    let mut best = match plain_dtype(values.kind) {
        Some(dtype) => part(suffix::COMPRESSED, dtype, values.plain()),
        None => part(suffix::CODES, Dtype::U8, values.plain()),
    };
    if level == Level::Small {
        let coded = part(suffix::CODED, Dtype::U8, values.coded());
        if coded.cost() < best.cost() {
            best = coded;
        }
    }
    [best].into_iter().chain(table_part(name, values)).collect()
}

/// The index of the fewest bytes, and the width of gaps, which need a value for entries that keep nothing.
fn index_parts(
    name: &str,
    mask: &Mask,
    matrix: Matrix,
    value_bits: u32,
    level: Level,
) -> (Vec<NewPart>, Option<Width>) {
    let part = |suffix: &str, dtype, shape: &[usize], bytes| {
        NewPart::new(format!("{name}.{suffix}"), dtype, shape, bytes)
    };
    let offsets_part = |offsets: &[usize]| {
        let bytes = offsets_to_bytes(offsets);
        part(suffix::ROW_OFFSETS, Dtype::I64, &[matrix.rows], bytes)
    };
    let mut candidates = Vec::new();

    let (bits, offsets) = bitmask::encode(mask, matrix);
    let row_bytes = matrix.columns.div_ceil(8);
    let shape = offsets_to_bytes(&[matrix.rows, matrix.columns]);
    candidates.push((
        vec![
            part(suffix::BITMASK, Dtype::U8, &[matrix.rows, row_bytes], bits),
            offsets_part(&offsets),
            part(suffix::SHAPE, Dtype::I64, &[2], shape),
        ],
        None,
    ));
    for (width, dtype) in [(Width::U8, Dtype::U8), (Width::U16, Dtype::U16)] {
        let (bytes, offsets) = gaps::encode(mask, matrix, width);
        let shape = [bytes.len() / width.bytes()];
        let parts = vec![
            part(suffix::GAPS, dtype, &shape, bytes),
            offsets_part(&offsets),
        ];
        candidates.push((parts, Some(width)));
    }
    if level == Level::Small {
        for (suffix, bytes) in [
            (suffix::RICE, rice::encode(mask)),
            (suffix::MASK, coded::encode(mask, matrix)),
        ] {
            let parts = vec![part(suffix, Dtype::U8, &[bytes.len()], bytes)];
            candidates.push((parts, None));
        }
    }
    let bits = |(parts, width): &(Vec<NewPart>, Option<Width>)| {
        let pads = width.map_or(0, |width| gaps::count(mask, matrix, width) - mask.count());
        8 * cost(parts) + pads * value_bits as usize
    };
    candidates
        .into_iter()
        .min_by_key(bits)
        .expect("there are candidates")
}

/// The values with a zero for every entry of the gaps that keeps nothing.
fn pad(kept: &NewValues, mask: &Mask, matrix: Matrix, width: Width) -> NewValues {
    let (entries, _) = gaps::encode(mask, matrix, width);
    let mut symbols = kept.symbols.iter();
    let padded = gaps::entries(&entries, width).map(|entry| match entry == width.pad() {
        true => 0,
        false => symbols.next().copied().unwrap_or(0),
    });
    NewValues {
        symbols: padded.collect(),
        ..kept.clone()
    }
}
