//! Products of `f32` weights.

use std::ops::Range;

use super::{AHEAD, GROUP, Packed, Storage};
#[cfg(target_arch = "x86_64")]
use crate::InstructionSet;
use crate::inference::vector::{InferenceVector, prefetch_once};
use crate::instruction_set;
use crate::vector::Eight;

/// Products of some rows with the input, of whole groups.
///
/// # Safety
/// The rows exist and were packed by `storage`, and `input` has a value for every column, in whole groups.
pub(super) unsafe fn run(
    packed: &Packed<f32>,
    storage: Storage,
    rows: Range<usize>,
    input: &[f32],
    output: &mut [f32],
) {
    // SAFETY: as promised by the caller, and the instructions are those of this processor.
    unsafe {
        match instruction_set() {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => avx512(packed, storage, rows, input, output),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => avx2(packed, storage, rows, input, output),
            _ => products::<Eight>(packed, storage, rows, input, output),
        }
    }
}

/// # Safety
/// As [`products`], with AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma,popcnt")]
unsafe fn avx512(
    packed: &Packed<f32>,
    storage: Storage,
    rows: Range<usize>,
    input: &[f32],
    output: &mut [f32],
) {
    // SAFETY: as promised by the caller.
    unsafe { products::<std::arch::x86_64::__m512>(packed, storage, rows, input, output) }
}

/// # Safety
/// As [`products`], with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,popcnt")]
unsafe fn avx2(
    packed: &Packed<f32>,
    storage: Storage,
    rows: Range<usize>,
    input: &[f32],
    output: &mut [f32],
) {
    // SAFETY: as promised by the caller.
    unsafe { products::<std::arch::x86_64::__m256>(packed, storage, rows, input, output) }
}

/// # Safety
/// The rows exist, `input` has whole groups of columns, and the processor has the instructions of `V`.
#[inline(always)]
unsafe fn products<V: InferenceVector>(
    packed: &Packed<f32>,
    storage: Storage,
    rows: Range<usize>,
    input: &[f32],
    output: &mut [f32],
) {
    for (row, output) in rows.zip(output) {
        // SAFETY: as promised by the caller.
        *output = unsafe {
            match storage {
                Storage::Dense => dense::<V>(packed, row, input),
                Storage::Gather => gather::<V>(packed, row, input),
                Storage::Bitmask => bitmask::<V>(packed, row, input),
                Storage::Permute => unreachable!("for 8 bits only"),
            }
        };
    }
}

/// # Safety
/// As [`products`].
#[inline(always)]
unsafe fn dense<V: InferenceVector>(packed: &Packed<f32>, row: usize, input: &[f32]) -> f32 {
    let values = &packed.values[packed.starts[row]..packed.starts[row + 1]];
    assert!(values.len() == input.len());
    const SUMS: usize = 4;
    // SAFETY: both slices have whole groups, which are whole vectors.
    unsafe {
        let mut sums = [V::splat(0.0); SUMS];
        let mut at = 0;
        while at + SUMS * V::LANES <= values.len() {
            for (i, sum) in sums.iter_mut().enumerate() {
                let at = at + i * V::LANES;
                let left = V::load(values.as_ptr().add(at));
                *sum = sum.multiply_add(left, V::load(input.as_ptr().add(at)));
            }
            at += SUMS * V::LANES;
        }
        while at < values.len() {
            let left = V::load(values.as_ptr().add(at));
            sums[0] = sums[0].multiply_add(left, V::load(input.as_ptr().add(at)));
            at += V::LANES;
        }
        sums[0].add(sums[1]).add(sums[2].add(sums[3])).total()
    }
}

/// # Safety
/// As [`products`].
#[inline(always)]
unsafe fn gather<V: InferenceVector>(packed: &Packed<f32>, row: usize, input: &[f32]) -> f32 {
    const SUMS: usize = 2;
    let range = packed.starts[row]..packed.starts[row + 1];
    let (values, places) = (&packed.values[range.clone()], &packed.places[range]);
    // SAFETY: values and places are as many, whole groups, which are whole vectors; every place is a column, and the input
    // has as many.
    unsafe {
        let mut sums = [V::splat(0.0); SUMS];
        for at in (0..values.len()).step_by(GROUP) {
            let (value, place) = (values.as_ptr().add(at), places.as_ptr().add(at));
            prefetch_once(value.wrapping_byte_add(AHEAD));
            prefetch_once(place.wrapping_byte_add(AHEAD));
            for i in 0..GROUP / V::LANES {
                let left = V::load(value.add(i * V::LANES));
                let right = V::collect(input.as_ptr(), place.add(i * V::LANES));
                let sum = &mut sums[i % SUMS];
                *sum = sum.multiply_add(left, right);
            }
        }
        sums[0].add(sums[1]).total()
    }
}

/// # Safety
/// As [`products`].
#[inline(always)]
unsafe fn bitmask<V: InferenceVector>(packed: &Packed<f32>, row: usize, input: &[f32]) -> f32 {
    const SUMS: usize = 4;
    let groups = input.len() / GROUP;
    let masks = &packed.masks[row * groups..(row + 1) * groups];
    let bits = u32::MAX >> (32 - V::LANES as u32);
    // SAFETY: a vector's worth of values can be read behind the last one; the input has a group per mask.
    unsafe {
        let mut value = packed.values.as_ptr().add(packed.starts[row]);
        let mut from = input.as_ptr();
        let mut sums = [V::splat(0.0); SUMS];
        // Sum `i` takes vector `i` of the masks that begin at the first of `masks`.
        let mut take = |masks: &[u16], i: usize| {
            let first = i * V::LANES;
            let mask = u32::from(masks[first / GROUP]) >> (first % GROUP) & bits;
            let weights = V::expand(value, mask);
            sums[i] = sums[i].multiply_add(weights, V::load(from));
            value = value.add(mask.count_ones() as usize);
            from = from.add(V::LANES);
            value
        };
        let whole = masks.chunks_exact(SUMS * V::LANES / GROUP);
        let rest = whole.remainder();
        for masks in whole {
            for i in 0..SUMS {
                let value = take(masks, i);
                if i % 2 == 0 {
                    prefetch_once(value.wrapping_byte_add(AHEAD));
                }
            }
        }
        for i in 0..rest.len() * GROUP / V::LANES {
            take(rest, i);
        }
        sums[0].add(sums[1]).add(sums[2].add(sums[3])).total()
    }
}
