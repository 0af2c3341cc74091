//! The values of a parameter in bytes: f32, f16, int8 with a scale per row, or codes of a codebook; plain or entropy-coded.

use std::borrow::Cow;

use skinny_network::half::{f16_to_f32, f32_to_f16};

use crate::bits::{BitReader, BitWriter};
use crate::codebook;
use crate::rans::{Chance, Decoder, Encoder, MOST_SEEN};

/// How values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ValueKind {
    /// Four bytes each; every bit is kept.
    #[default]
    F32,
    /// Two bytes each, the nearest binary16.
    F16,
    /// A byte each and a factor for every row (output channel): value = code × factor.
    Int8,
    /// Half a byte each, the place of the nearest of 16 values that the layer has.
    Codebook16,
    /// A byte each, the place of the nearest of 256 values that the layer has.
    Codebook256,
}

impl ValueKind {
    /// All of them.
    pub const ALL: [ValueKind; 5] = [
        ValueKind::F32,
        ValueKind::F16,
        ValueKind::Int8,
        ValueKind::Codebook16,
        ValueKind::Codebook256,
    ];

    /// Its name, for example `codebook16`.
    pub fn name(self) -> &'static str {
        match self {
            ValueKind::F32 => "f32",
            ValueKind::F16 => "f16",
            ValueKind::Int8 => "int8",
            ValueKind::Codebook16 => "codebook16",
            ValueKind::Codebook256 => "codebook256",
        }
    }

    /// Bits of one stored value.
    pub(crate) fn bits(self) -> u32 {
        match self {
            ValueKind::F32 => 32,
            ValueKind::F16 => 16,
            ValueKind::Int8 | ValueKind::Codebook256 => 8,
            ValueKind::Codebook16 => 4,
        }
    }
}

/// Values as they lie in a file, or as they were decoded from it.
#[derive(Clone, Debug, PartialEq)]
pub enum Values<'a> {
    /// Four bytes each, little-endian.
    F32(Cow<'a, [u8]>),
    /// Two bytes each, little-endian binary16.
    F16(Cow<'a, [u8]>),
    /// A signed byte each.
    Int8 {
        /// One code for each value.
        codes: Cow<'a, [u8]>,
        /// What the codes of each row (output channel) are multiplied with.
        scale: Vec<f32>,
    },
    /// The place of the value in a list.
    Codebook {
        /// A byte for each value, or half of one, the lower half first.
        codes: Cow<'a, [u8]>,
        /// Whether a byte holds two codes.
        halves: bool,
        /// The list, of at least one value; every code is below its length.
        codebook: Vec<f32>,
    },
}

/// Values that are to be written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NewValues {
    pub kind: ValueKind,
    /// One symbol for each value: the bits of a float, a byte of int8, the place in the codebook.
    pub symbols: Vec<u32>,
    /// Factors of the rows of int8, the values of a codebook, or nothing.
    pub table: Vec<f32>,
}

impl NewValues {
    /// The values of the rows, which have `entries` of each row, in one kind.
    pub fn new(kind: ValueKind, values: &[f32], row_starts: &[usize]) -> NewValues {
        let (symbols, table) = match kind {
            ValueKind::F32 => (values.iter().map(|v| v.to_bits()).collect(), Vec::new()),
            ValueKind::F16 => (
                values.iter().map(|v| f32_to_f16(*v).into()).collect(),
                Vec::new(),
            ),
            ValueKind::Int8 => int8(values, row_starts),
            ValueKind::Codebook16 => codebook::codes(values, 16),
            ValueKind::Codebook256 => codebook::codes(values, 256),
        };
        NewValues {
            kind,
            symbols,
            table,
        }
    }

    /// The symbols without entropy coding.
    pub fn plain(&self) -> Vec<u8> {
        let symbols = self.symbols.iter();
        match self.kind {
            ValueKind::F32 => symbols.flat_map(|s| s.to_le_bytes()).collect(),
            ValueKind::F16 => symbols.flat_map(|s| (*s as u16).to_le_bytes()).collect(),
            _ if self.halves() => (self.symbols.chunks(2))
                .map(|pair| (pair[0] | pair.get(1).unwrap_or(&0) << 4) as u8)
                .collect(),
            _ => symbols.map(|s| *s as u8).collect(),
        }
    }

    /// The symbols entropy-coded.
    pub fn coded(&self) -> Vec<u8> {
        encode(
            &self.symbols,
            if self.halves() { 4 } else { self.kind.bits() },
        )
    }

    /// Whether two codes go into a byte: a codebook of at most 16 values, of whichever kind.
    fn halves(&self) -> bool {
        matches!(self.kind, ValueKind::Codebook16 | ValueKind::Codebook256)
            && self.table.len() <= 16
    }
}

/// The largest magnitude of each row becomes 127.
fn int8(values: &[f32], row_starts: &[usize]) -> (Vec<u32>, Vec<f32>) {
    let mut symbols = Vec::with_capacity(values.len());
    let mut scales = Vec::with_capacity(row_starts.len());
    let ends = row_starts.iter().skip(1).copied().chain([values.len()]);
    for (start, end) in row_starts.iter().zip(ends) {
        let row = &values[*start..end];
        let largest = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let scale = largest / 127.0;
        scales.push(scale);
        symbols.extend(row.iter().map(|value| {
            let code = match scale > 0.0 {
                true => (value / scale).round_ties_even().clamp(-127.0, 127.0),
                false => 0.0,
            };
            u32::from(code as i8 as u8)
        }));
    }
    (symbols, scales)
}

/// Of a symbol, how many of its highest bits are coded by what went before; the others are as good as random.
fn modelled(bits: u32) -> u32 {
    match bits {
        32 => 10,
        16 => 8,
        other => other,
    }
}

/// Symbols of `bits` bits: a byte that says `bits`, their highest bits in the coder's stream, and, from the end of
/// a whole number of bytes backwards, the rest of their bits.
///
/// The coder goes through the bits of a symbol from the highest to the lowest and has a chance for each beginning of a symbol.
fn encode(symbols: &[u32], bits: u32) -> Vec<u8> {
    let high = modelled(bits);
    let low = bits - high;
    let mut chances = vec![Chance::EVEN; 1 << high];
    let mut encoder = Encoder::default();
    let mut rest = BitWriter::default();
    for symbol in symbols {
        let mut node = 1;
        for place in (low..bits).rev() {
            let bit = symbol >> place & 1;
            encoder.learn(&mut chances[node], MOST_SEEN, bit == 1);
            node = 2 * node + bit as usize;
        }
        rest.write(u64::from(*symbol) & ((1 << low) - 1), low);
    }
    let mut bytes = vec![bits as u8];
    encoder.finish(&mut bytes);
    bytes.extend(rest.finish(false));
    bytes
}

/// `count` symbols of the number of bits that the first byte says, as [`plain`] bytes but with a whole byte for each code.
/// `accepts` says which numbers of bits may be.
pub(crate) fn decode(
    bytes: &[u8],
    count: usize,
    accepts: &[u32],
) -> Result<(u32, Vec<u8>), String> {
    let damaged = "the coded values are cut off or damaged";
    let (&bits, stream) = bytes.split_first().ok_or(damaged)?;
    let bits = u32::from(bits);
    if !accepts.contains(&bits) {
        return Err(format!("the coded values have {bits} bits each"));
    }
    let high = modelled(bits);
    let low = bits - high;
    let rest = (count as u64 * u64::from(low)).div_ceil(8);
    let stream_end = (stream.len() as u64).checked_sub(rest).ok_or(damaged)? as usize;
    let mut rest = BitReader::new(&stream[stream_end..]);
    let mut decoder = Decoder::new(&stream[..stream_end]).ok_or(damaged)?;
    let mut chances = vec![Chance::EVEN; 1 << high];
    let size = bits.div_ceil(8) as usize;
    let mut out = Vec::with_capacity(count * size);
    for _ in 0..count {
        let mut node = 1;
        while node < chances.len() {
            node = 2 * node + usize::from(decoder.learn(&mut chances[node], MOST_SEEN));
        }
        let symbol = ((node - chances.len()) as u64) << low | rest.read(low).ok_or(damaged)?;
        out.extend_from_slice(&symbol.to_le_bytes()[..size]);
    }
    match decoder.is_at_end() && rest.read(rest.left() as u32) == Some(0) {
        true => Ok((bits, out)),
        false => Err(damaged.into()),
    }
}

impl Values<'_> {
    /// Number of stored values; of codes in halves, the last may be a filler.
    pub fn len(&self) -> usize {
        match self {
            Values::F32(bytes) => bytes.len() / 4,
            Values::F16(bytes) => bytes.len() / 2,
            Values::Int8 { codes, .. } => codes.len(),
            Values::Codebook { codes, halves, .. } => codes.len() << u32::from(*halves),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How they are stored.
    pub fn kind(&self) -> ValueKind {
        match self {
            Values::F32(_) => ValueKind::F32,
            Values::F16(_) => ValueKind::F16,
            Values::Int8 { .. } => ValueKind::Int8,
            Values::Codebook { codebook, .. } if codebook.len() <= 16 => ValueKind::Codebook16,
            Values::Codebook { .. } => ValueKind::Codebook256,
        }
    }

    /// The first `count` values as f32. `row_starts` holds, for each row, the number of values before it.
    pub(crate) fn to_f32(&self, count: usize, row_starts: &[usize]) -> Vec<f32> {
        match self {
            Values::F32(bytes) => floats(bytes),
            Values::F16(bytes) => (bytes.as_chunks().0.iter())
                .map(|word| f16_to_f32(u16::from_le_bytes(*word)))
                .collect(),
            Values::Int8 { codes, scale } => {
                let mut values = Vec::with_capacity(codes.len());
                let ends = row_starts.iter().skip(1).copied().chain([count]);
                for ((start, end), scale) in row_starts.iter().zip(ends).zip(scale) {
                    let row = &codes[*start..end];
                    values.extend(row.iter().map(|code| f32::from(*code as i8) * scale));
                }
                values
            }
            Values::Codebook {
                codes,
                halves: false,
                codebook,
            } => (codes.iter())
                .map(|code| codebook[usize::from(*code)])
                .collect(),
            Values::Codebook {
                codes,
                halves: true,
                codebook,
            } => (0..count)
                .map(|place| codebook[usize::from(codes[place / 2] >> (4 * (place % 2)) & 15)])
                .collect(),
        }
    }
}

/// Little-endian f32.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    (bytes.as_chunks().0.iter())
        .map(|word| f32::from_le_bytes(*word))
        .collect()
}

/// Little-endian bytes of f32.
pub(crate) fn float_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}
