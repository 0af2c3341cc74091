//! Kept 8-bit weights with their places among [`SPAN`] columns, whose inputs two registers hold: one instruction picks the
//! inputs of up to [`MOST`] weights.

use super::Packed;

/// Columns of a span.
pub(super) const SPAN: usize = 128;

/// Weights of one step.
const MOST: usize = 64;

/// Some weights of one row in one span: their number in the lowest byte, the number of the span above. One load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step(u32);

impl Step {
    fn new(span: usize, count: usize) -> Self {
        Self((span << 8 | count) as u32)
    }

    fn count(self) -> usize {
        (self.0 & 0xff) as usize
    }

    /// The first column of the span.
    fn column(self) -> usize {
        (self.0 >> 8) as usize * SPAN
    }
}

/// Adds a row to a matrix.
pub(super) fn push<T: Copy + Default + PartialEq>(packed: &mut Packed<T>, row: &[T]) {
    for (span, values) in row.chunks(SPAN).enumerate() {
        let before = packed.values.len();
        for (place, value) in values.iter().enumerate() {
            if *value != T::default() {
                packed.values.push(*value);
                packed.near.push(place as u8);
            }
        }
        let mut left = packed.values.len() - before;
        while left > 0 {
            let count = left.min(MOST);
            packed.steps.push(Step::new(span, count));
            left -= count;
        }
    }
    packed.step_starts.push(packed.steps.len());
}

fn steps<T>(packed: &Packed<T>, row: usize) -> &[Step] {
    &packed.steps[packed.step_starts[row]..packed.step_starts[row + 1]]
}

/// The sum of products of one row; plain Rust.
///
/// # Panics
/// If there is no code for a column of a weight.
pub(super) fn product(packed: &Packed<i8>, row: usize, codes: &[i16]) -> i32 {
    let mut at = packed.starts[row];
    let mut sum = 0;
    for step in steps(packed, row) {
        let codes = &codes[step.column()..];
        for i in at..at + step.count() {
            sum += i32::from(packed.values[i]) * i32::from(codes[usize::from(packed.near[i])]);
        }
        at += step.count();
    }
    sum
}

/// The sum of products of one row.
///
/// # Safety
/// There are codes for whole spans; with AVX-512 VNNI and VBMI.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx512vbmi,bmi2")]
pub(super) unsafe fn product_vbmi(packed: &Packed<i8>, row: usize, codes: &[u8]) -> i32 {
    use std::arch::x86_64::*;
    // SAFETY: there are as many weights as the steps say, and behind them what is padding; spans have codes.
    unsafe {
        let mut value = packed.values.as_ptr().add(packed.starts[row]);
        let mut place = packed.near.as_ptr().add(packed.starts[row]);
        // In turn: a sum alone would wait for itself.
        let (mut sum, mut other) = (_mm512_setzero_si512(), _mm512_setzero_si512());
        for step in steps(packed, row) {
            let span = codes.as_ptr().add(step.column());
            let low = _mm512_loadu_si512(span.cast());
            let high = _mm512_loadu_si512(span.add(SPAN / 2).cast());
            let places = _mm512_loadu_si512(place.cast());
            // It looks at the lowest byte only.
            let kept = _bzhi_u64(u64::MAX, step.0);
            let picked = _mm512_maskz_permutex2var_epi8(kept, low, places, high);
            let weights = _mm512_loadu_si512(value.cast());
            (sum, other) = (_mm512_dpbusd_epi32(other, picked, weights), sum);
            value = value.add(step.count());
            place = place.add(step.count());
        }
        _mm512_reduce_add_epi32(_mm512_add_epi32(sum, other))
    }
}
