//! The two inner loops: a kept element times a row of registers, and two rows of registers multiplied and summed.

use super::{Entry, List, Places, TILE};
#[cfg(target_arch = "x86_64")]
use crate::simd::InstructionSet;
use crate::simd::instruction_set;
use crate::vector::{Four, Vector};

/// The kernels of one instruction set.
pub(super) struct Kernels {
    /// Values of a vector.
    pub lanes: usize,
    /// `(lists, entries, packed, tile)`: adds to each list's row of the tile.
    pub product: unsafe fn(&[List], &[Entry], *const f32, *mut f32),
    /// `(lists, entries, right, places of its vectors, tile)`: the same without packing.
    pub product_in_place: unsafe fn(&[List], &[Entry], *const f32, &Places, *mut f32),
    /// `(lists, entries, packed, gradient tile, values)`: adds to the value of each entry.
    pub sample: unsafe fn(&[List], &[Entry], *const f32, *const f32, *mut f32),
    /// `(lists, entries, right, places of its vectors, gradient tile, values)`: the same without packing.
    pub sample_in_place: unsafe fn(&[List], &[Entry], *const f32, &Places, *const f32, *mut f32),
}

/// The kernels of this processor.
pub(super) fn kernels() -> &'static Kernels {
    match instruction_set() {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => &x86::AVX512,
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => &x86::AVX2,
        _ => &BASELINE,
    }
}

/// Where some vectors of a tile begin, the first of which has this column: one after the other if there are no places.
///
/// # Safety
/// Every vector lies in the memory that `right` points to.
#[inline(always)]
unsafe fn vectors<V: Vector, const VECTORS: usize>(
    right: *const f32,
    places: Option<&Places>,
    first: usize,
) -> [*const f32; VECTORS] {
    std::array::from_fn(|vector| {
        let place = match places {
            None => first + vector * V::LANES,
            Some(places) => places[first / V::LANES + vector],
        };
        // SAFETY: the caller's promise.
        unsafe { right.add(place) }
    })
}

/// # Safety
/// The lists lie in the entries; every vector of the tile can be read from `right` on at its place and every offset, every
/// row be read and written in `tile`; the processor has the instructions of `V`.
#[inline(always)]
unsafe fn product<V: Vector, const VECTORS: usize>(
    lists: &[List],
    entries: &[Entry],
    right: *const f32,
    places: Option<&Places>,
    tile: *mut f32,
) {
    // SAFETY: the caller's promises are exactly the reads and writes below.
    unsafe {
        for list in lists {
            for first in (0..TILE).step_by(VECTORS * V::LANES) {
                let from = vectors::<V, VECTORS>(right, places, first);
                let to = tile.add(list.row as usize * TILE + first);
                let mut sums: [V; VECTORS] =
                    std::array::from_fn(|vector| V::load(to.add(vector * V::LANES)));
                for entry in entries.get_unchecked(list.start as usize..list.end as usize) {
                    let (offset, value) = (entry.offset as usize, V::splat(entry.value));
                    for (sum, from) in sums.iter_mut().zip(from) {
                        *sum = sum.multiply_add(value, V::load(from.add(offset)));
                    }
                }
                for (vector, sum) in sums.into_iter().enumerate() {
                    sum.store(to.add(vector * V::LANES));
                }
            }
        }
    }
}

/// # Safety
/// As for [`product`], with rows read in `gradient`; `values` has one for every entry.
#[inline(always)]
unsafe fn sample<V: Vector, const VECTORS: usize>(
    lists: &[List],
    entries: &[Entry],
    right: *const f32,
    places: Option<&Places>,
    gradient: *const f32,
    values: *mut f32,
) {
    // SAFETY: the caller's promises are exactly the reads and writes below.
    unsafe {
        for list in lists {
            for first in (0..TILE).step_by(VECTORS * V::LANES) {
                let from = vectors::<V, VECTORS>(right, places, first);
                let gradient = gradient.add(list.row as usize * TILE + first);
                let gradient: [V; VECTORS] =
                    std::array::from_fn(|vector| V::load(gradient.add(vector * V::LANES)));
                let dot = |entry: &Entry| {
                    let mut sum = V::splat(0.0);
                    for (gradient, from) in gradient.iter().zip(from) {
                        sum = sum.multiply_add(*gradient, V::load(from.add(entry.offset as usize)));
                    }
                    sum
                };
                let range = list.start as usize..list.end as usize;
                let entries = entries.get_unchecked(range.clone());
                let mut value = values.add(range.start);
                let (fours, rest) = entries.as_chunks::<4>();
                for [a, b, c, d] in fours {
                    let sums = V::sums([dot(a), dot(b), dot(c), dot(d)]);
                    for (number, sum) in sums.into_iter().enumerate() {
                        *value.add(number) += sum;
                    }
                    value = value.add(4);
                }
                for entry in rest {
                    let zero = V::splat(0.0);
                    *value += V::sums([dot(entry), zero, zero, zero])[0];
                    value = value.add(1);
                }
            }
        }
    }
}

/// The kernels of one vector type, compiled with an attribute.
macro_rules! kernels {
    ($vector:ty, $vectors:literal, $attribute:meta) => {{
        #[$attribute]
        unsafe fn run_product(
            lists: &[List],
            entries: &[Entry],
            packed: *const f32,
            tile: *mut f32,
        ) {
            // SAFETY: the caller's promises are the same, and the attribute names the instructions.
            unsafe { product::<$vector, $vectors>(lists, entries, packed, None, tile) }
        }
        #[$attribute]
        unsafe fn run_product_in_place(
            lists: &[List],
            entries: &[Entry],
            right: *const f32,
            places: &Places,
            tile: *mut f32,
        ) {
            // SAFETY: as above.
            unsafe { product::<$vector, $vectors>(lists, entries, right, Some(places), tile) }
        }
        #[$attribute]
        unsafe fn run_sample(
            lists: &[List],
            entries: &[Entry],
            packed: *const f32,
            gradient: *const f32,
            values: *mut f32,
        ) {
            // SAFETY: as above.
            unsafe { sample::<$vector, $vectors>(lists, entries, packed, None, gradient, values) }
        }
        #[$attribute]
        unsafe fn run_sample_in_place(
            lists: &[List],
            entries: &[Entry],
            right: *const f32,
            places: &Places,
            gradient: *const f32,
            values: *mut f32,
        ) {
            let places = Some(places);
            // SAFETY: as above.
            unsafe { sample::<$vector, $vectors>(lists, entries, right, places, gradient, values) }
        }
        Kernels {
            lanes: <$vector as Vector>::LANES,
            product: run_product,
            product_in_place: run_product_in_place,
            sample: run_sample,
            sample_in_place: run_sample_in_place,
        }
    }};
}

static BASELINE: Kernels = kernels!(Four, 8, inline(never));

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Entry, Kernels, List, Places, Vector, product, sample};
    use std::arch::x86_64::{__m256, __m512};

    pub(super) static AVX2: Kernels = kernels!(__m256, 8, target_feature(enable = "avx2,fma"));
    pub(super) static AVX512: Kernels =
        kernels!(__m512, 4, target_feature(enable = "avx512f,avx512dq"));
}
