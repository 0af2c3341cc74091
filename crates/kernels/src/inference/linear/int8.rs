//! Products of 8-bit weights and 8-bit inputs, exact in 32-bit integers: every instruction set gives the same bits.
//!
//! A weight is a code from -127 to 127 times the scale of its row. The inputs of one product share a scale: codes from
//! 0 to 255 if none of them is negative, as behind a ReLU, else from -127 to 127.

use std::ops::Range;

use super::{GROUP, PADDING, Packed, Storage, permute};
#[cfg(target_arch = "x86_64")]
use crate::InstructionSet;
use crate::instruction_set;

/// More columns could overflow: 255 · 127 · 2^16 < 2^31.
pub(super) const COLUMNS: usize = 1 << 16;

/// Packed codes of weights.
#[derive(Clone, Debug)]
pub(super) struct Int8 {
    packed: Packed<i8>,
    /// What a code is worth, by row.
    scales: Vec<f32>,
    /// Sums of the codes, by row.
    sums: Vec<i32>,
}

/// Length of the scratch for inputs of so many columns.
pub(super) fn scratch_len(columns: usize) -> usize {
    columns.next_multiple_of(PADDING) * size_of::<i16>() / size_of::<f32>()
}

impl Int8 {
    /// Rounds and packs weights `[rows, columns]`.
    pub fn new(
        weights: &[f32],
        [rows, columns]: [usize; 2],
        nonzeros: usize,
        storage: Storage,
    ) -> Self {
        let mut packed = Packed::new(rows, columns, nonzeros, storage);
        let (mut scales, mut sums) = (Vec::new(), Vec::new());
        let mut codes = vec![0i8; columns];
        for row in weights.chunks_exact(columns) {
            let largest = row.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            for (code, value) in codes.iter_mut().zip(row) {
                *code = (value * inverse).round_ties_even() as i8;
            }
            packed.push(&codes, storage);
            scales.push(largest / 127.0);
            sums.push(codes.iter().map(|code| i32::from(*code)).sum());
        }
        packed.finish();
        Self {
            packed,
            scales,
            sums,
        }
    }

    /// Products of some rows with the input.
    ///
    /// # Safety
    /// The rows exist and were packed by `storage`, and `input` has a value for every column, in whole groups.
    pub unsafe fn run(
        &self,
        storage: Storage,
        rows: Range<usize>,
        input: &[f32],
        output: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (least, most) = extremes(input);
        // A NaN or an infinity anywhere must not look like a number at the end.
        let finite = (most - least).is_finite();
        let signed = least < 0.0;
        let (largest, range) = match signed {
            true => (most.max(-least), 127.0),
            false => (most, 255.0),
        };
        let inverse = if largest > 0.0 { range / largest } else { 0.0 };
        let scale = if finite { largest / range } else { f32::NAN };
        // Codes of inputs without a sign are by so much larger.
        let offset = if signed && vnni() { 128 } else { 0 };
        let packed = &self.packed;
        let length = input.len();
        let first = rows.start;
        let finish = |row: usize, sum: i32| {
            let sum = sum - offset * self.sums[row];
            output[row - first] = sum as f32 * (self.scales[row] * scale);
        };
        // SAFETY: any bits are integers; the caller promises the rest, and the instructions are those of this
        // processor.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if vnni() {
                let (_, codes, _) = scratch.align_to_mut::<u8>();
                let codes = &mut codes[..length.next_multiple_of(PADDING)];
                unsigned_codes(input, inverse, offset, &mut codes[..length]);
                codes[length..].fill(0);
                return x86::products_vnni(packed, storage, rows, codes, finish);
            }
            let (_, codes, _) = scratch.align_to_mut::<i16>();
            let codes = &mut codes[..length];
            signed_codes(input, inverse, codes);
            match instruction_set() {
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx2 | InstructionSet::Avx512 => {
                    x86::products_avx2(packed, storage, rows, codes, finish);
                }
                _ => products(packed, storage, rows, codes, finish),
            }
        }
    }
}

multiversion! {
    /// The least and the greatest value; not both finite if one of the values is not.
    fn extremes(input: &[f32]) -> (f32, f32) {
        const LANES: usize = 16;
        let (mut least, mut most, mut wrong) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
        for group in input.chunks_exact(LANES) {
            for i in 0..LANES {
                least[i] = if group[i] < least[i] { group[i] } else { least[i] };
                most[i] = if group[i] > most[i] { group[i] } else { most[i] };
                // 0 for every finite value.
                wrong[i] += group[i] * 0.0;
            }
        }
        let wrong: f32 = wrong.iter().sum();
        let least = least.iter().fold(0.0f32, |a, b| a.min(*b));
        let most = most.iter().fold(0.0f32, |a, b| a.max(*b));
        (least, most + wrong)
    }
}

multiversion! {
    fn signed_codes(input: &[f32], inverse: f32, codes: &mut [i16]) {
        for (code, value) in codes.iter_mut().zip(input) {
            *code = (value * inverse).round_ties_even() as i32 as i16;
        }
    }
}

#[cfg(target_arch = "x86_64")]
multiversion! {
    fn unsigned_codes(input: &[f32], inverse: f32, offset: i32, codes: &mut [u8]) {
        for (code, value) in codes.iter_mut().zip(input) {
            // Wrapping: what is too large has no code, and its scale is no number.
            let rounded = (value * inverse).round_ties_even() as i32;
            *code = rounded.wrapping_add(offset) as u8;
        }
    }
}

/// Whether this processor multiplies, spreads and permutes bytes in 512 bits.
fn vnni() -> bool {
    #[cfg(target_arch = "x86_64")]
    return instruction_set() == InstructionSet::Avx512
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("bmi2");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Gives every row's sum of products to `finish`; plain Rust.
///
/// # Safety
/// As [`Int8::run`].
unsafe fn products(
    packed: &Packed<i8>,
    storage: Storage,
    rows: Range<usize>,
    codes: &[i16],
    mut finish: impl FnMut(usize, i32),
) {
    let product = |(value, code): (&i8, &i16)| i32::from(*value) * i32::from(*code);
    for row in rows {
        let values = &packed.values[packed.starts[row]..packed.starts[row + 1]];
        let sum: i32 = match storage {
            Storage::Dense => values.iter().zip(codes).map(product).sum(),
            // SAFETY: every place is a column.
            Storage::Gather => unsafe { gather(packed, row, codes) },
            Storage::Permute => permute::product(packed, row, codes),
            Storage::Bitmask => {
                let groups = codes.len() / GROUP;
                let masks = &packed.masks[row * groups..(row + 1) * groups];
                let mut values = values.iter();
                let mut sum = 0;
                for (mask, codes) in masks.iter().zip(codes.chunks_exact(GROUP)) {
                    let mut mask = *mask;
                    while mask != 0 {
                        let value = values.next().expect("a value per bit");
                        sum += product((value, &codes[mask.trailing_zeros() as usize]));
                        mask &= mask - 1;
                    }
                }
                sum
            }
        };
        finish(row, sum);
    }
}

/// The sum of one row.
///
/// # Safety
/// There is a code for every column.
#[inline(always)]
unsafe fn gather<T: Copy + Into<i32>>(packed: &Packed<i8>, row: usize, codes: &[T]) -> i32 {
    let range = packed.starts[row]..packed.starts[row + 1];
    let pairs = packed.values[range.clone()]
        .iter()
        .zip(&packed.places[range]);
    let product = |(value, place): (&i8, &u16)| {
        // SAFETY: every place is a column.
        let code: i32 = unsafe { *codes.get_unchecked(usize::from(*place)) }.into();
        i32::from(*value) * code
    };
    pairs.map(product).sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::ops::Range;

    use super::super::AHEAD;
    use super::{GROUP, Packed, Storage, gather, permute};
    use crate::inference::vector::prefetch_once;

    /// For every byte, which of the first bytes goes to each place; none where the top bit is set.
    static PLACES: [[u8; 8]; 256] = {
        let mut places = [[0x80; 8]; 256];
        let mut mask = 0;
        while mask < 256 {
            let (mut lane, mut next) = (0, 0);
            while lane < 8 {
                if mask >> lane & 1 == 1 {
                    places[mask][lane] = next;
                    next += 1;
                }
                lane += 1;
            }
            mask += 1;
        }
        places
    };

    /// # Safety
    /// As [`super::products`], with AVX2.
    #[target_feature(enable = "avx2,popcnt")]
    pub unsafe fn products_avx2(
        packed: &Packed<i8>,
        storage: Storage,
        rows: Range<usize>,
        codes: &[i16],
        mut finish: impl FnMut(usize, i32),
    ) {
        for row in rows {
            // SAFETY: as promised by the caller.
            let sum = unsafe {
                match storage {
                    Storage::Dense => dense(packed, row, codes),
                    Storage::Gather => gather(packed, row, codes),
                    Storage::Bitmask => bitmask(packed, row, codes),
                    Storage::Permute => permute::product(packed, row, codes),
                }
            };
            finish(row, sum);
        }
    }

    /// # Safety
    /// As [`super::products`], with AVX2.
    #[inline]
    #[target_feature(enable = "avx2,popcnt")]
    unsafe fn dense(packed: &Packed<i8>, row: usize, codes: &[i16]) -> i32 {
        let values = &packed.values[packed.starts[row]..packed.starts[row + 1]];
        assert!(values.len() == codes.len());
        let mut sums = [_mm256_setzero_si256(); 4];
        let mut take = |at: usize, i: usize| {
            // SAFETY: both slices have a whole group at `at`.
            unsafe {
                let weights = _mm_loadu_si128(values.as_ptr().add(at).cast());
                let codes = _mm256_loadu_si256(codes.as_ptr().add(at).cast());
                let products = _mm256_madd_epi16(_mm256_cvtepi8_epi16(weights), codes);
                sums[i] = _mm256_add_epi32(sums[i], products);
            }
        };
        let whole = values.len() / (4 * GROUP) * (4 * GROUP);
        for at in (0..whole).step_by(4 * GROUP) {
            for i in 0..4 {
                take(at + i * GROUP, i);
            }
        }
        for at in (whole..values.len()).step_by(GROUP) {
            take(at, 0);
        }
        total(sums)
    }

    /// # Safety
    /// As [`super::products`], with AVX2.
    #[inline]
    #[target_feature(enable = "avx2,popcnt")]
    unsafe fn bitmask(packed: &Packed<i8>, row: usize, codes: &[i16]) -> i32 {
        let groups = codes.len() / GROUP;
        let masks = &packed.masks[row * groups..(row + 1) * groups];
        let mut value = packed.values[packed.starts[row]..].as_ptr();
        let mut from = codes.as_ptr();
        let mut sums = [_mm256_setzero_si256(); 4];
        let mut take = |mask: u16, i: usize| {
            // SAFETY: eight values can be read behind the last one; there are codes of a group for every mask.
            unsafe {
                let low = spread(value, mask as u8);
                value = value.add((mask as u8).count_ones() as usize);
                let high = spread(value, (mask >> 8) as u8);
                value = value.add((mask >> 8).count_ones() as usize);
                let weights = _mm256_cvtepi8_epi16(_mm_unpacklo_epi64(low, high));
                let products = _mm256_madd_epi16(weights, _mm256_loadu_si256(from.cast()));
                from = from.add(GROUP);
                sums[i] = _mm256_add_epi32(sums[i], products);
            }
        };
        let (fours, rest) = masks.as_chunks::<4>();
        for masks in fours {
            for (i, mask) in masks.iter().enumerate() {
                take(*mask, i);
            }
        }
        rest.iter().for_each(|mask| take(*mask, 0));
        total(sums)
    }

    /// The values at `from` in the bytes whose bit is set, in order, and 0 in the others.
    ///
    /// # Safety
    /// Eight values can be read at `from`; with AVX2.
    #[inline]
    #[target_feature(enable = "avx2,popcnt")]
    unsafe fn spread(from: *const i8, mask: u8) -> __m128i {
        // SAFETY: as promised by the caller; a row of the table has eight bytes.
        unsafe {
            let places = _mm_loadl_epi64(PLACES[usize::from(mask)].as_ptr().cast());
            _mm_shuffle_epi8(_mm_loadl_epi64(from.cast()), places)
        }
    }

    /// As [`spread`] for 64 bytes.
    ///
    /// # Safety
    /// 64 values can be read at `from`; with AVX-512 VBMI2.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
    unsafe fn spread_64(from: *const i8, mask: u64) -> __m512i {
        // SAFETY: as promised by the caller; the assembly changes one register.
        unsafe {
            let values = _mm512_loadu_si512(from.cast());
            let spread: __m512i;
            // Some processors wait for what the register had before, though all of it is replaced: so it is cleared, which waits for
            // nothing. And some emulators get the form that loads wrong.
            std::arch::asm!(
                "vpxord {spread}, {spread}, {spread}",
                "vpexpandb {spread} {{{mask}}}, {values}",
                spread = out(zmm_reg) spread,
                mask = in(kreg) mask,
                values = in(zmm_reg) values,
                options(pure, nomem, nostack, preserves_flags),
            );
            spread
        }
    }

    /// The sum of one row.
    ///
    /// # Safety
    /// There is a code for every column; with AVX-512 VNNI for vectors of every length.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl,avx512vnni")]
    unsafe fn gather_vnni(packed: &Packed<i8>, row: usize, codes: &[u8]) -> i32 {
        let range = packed.starts[row]..packed.starts[row + 1];
        let values = packed.values[range.clone()].as_chunks::<GROUP>().0;
        let places = packed.places[range].as_chunks::<GROUP>().0;
        // In turn: a sum alone would wait for itself.
        let (mut sum, mut other) = (_mm_setzero_si128(), _mm_setzero_si128());
        for (values, places) in values.iter().zip(places) {
            prefetch_once(values.as_ptr().wrapping_byte_add(AHEAD));
            prefetch_once(places.as_ptr().wrapping_byte_add(AHEAD));
            // SAFETY: every place is a column; sixteen values can be read.
            unsafe {
                let code = |i: usize| i32::from(*codes.get_unchecked(usize::from(places[i])));
                macro_rules! collect {
                    ($($i:literal)*) => {{
                        let mut vector = _mm_cvtsi32_si128(code(0));
                        $(vector = _mm_insert_epi8::<$i>(vector, code($i));)*
                        vector
                    }};
                }
                let codes = collect!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
                let values = _mm_loadu_si128(values.as_ptr().cast());
                (sum, other) = (_mm_dpbusd_epi32(other, codes, values), sum);
            }
        }
        let sum = _mm_add_epi32(sum, other);
        let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b01_00_11_10>(sum));
        _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32::<0b10_11_00_01>(sum)))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn total(sums: [__m256i; 4]) -> i32 {
        let [a, b, c, d] = sums;
        let sum = _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d));
        let sum = _mm_add_epi32(
            _mm256_castsi256_si128(sum),
            _mm256_extracti128_si256::<1>(sum),
        );
        let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b01_00_11_10>(sum));
        let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b10_11_00_01>(sum));
        _mm_cvtsi128_si32(sum)
    }

    /// # Safety
    /// As [`super::products`], with AVX-512 VNNI, VBMI and VBMI2; 64 codes can be read for every group but that those behind
    /// the input are 0.
    #[target_feature(
        enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi,avx512vbmi2,bmi2,popcnt"
    )]
    pub unsafe fn products_vnni(
        packed: &Packed<i8>,
        storage: Storage,
        rows: Range<usize>,
        codes: &[u8],
        mut finish: impl FnMut(usize, i32),
    ) {
        const LANES: usize = 64;
        let groups = packed.masks.len() / (packed.starts.len() - 1);
        for row in rows {
            // SAFETY: 64 values can be read behind the last one; the codes are whole vectors, and zeros where other
            // rows' values meet them. The caller promises the rest.
            let sum = unsafe {
                let mut value = packed.values.as_ptr().add(packed.starts[row]);
                // In turn: a sum alone would wait for itself.
                let (mut sum, mut other) = (_mm512_setzero_si512(), _mm512_setzero_si512());
                let mut take = |weights: __m512i, at: usize| {
                    let codes = _mm512_loadu_si512(codes.as_ptr().add(at * LANES).cast());
                    let next = _mm512_dpbusd_epi32(other, codes, weights);
                    (sum, other) = (next, sum);
                };
                match storage {
                    Storage::Dense => {
                        for at in 0..codes.len() / LANES {
                            take(_mm512_loadu_si512(value.add(at * LANES).cast()), at);
                        }
                    }
                    Storage::Gather => {
                        finish(row, gather_vnni(packed, row, codes));
                        continue;
                    }
                    Storage::Permute => {
                        finish(row, permute::product_vbmi(packed, row, codes));
                        continue;
                    }
                    Storage::Bitmask => {
                        let masks = &packed.masks[row * groups..(row + 1) * groups];
                        let (whole, rest) = masks.as_chunks::<{ LANES / GROUP }>();
                        let mut spread = |mask: u64, at: usize| {
                            prefetch_once(value.wrapping_byte_add(AHEAD));
                            take(spread_64(value, mask), at);
                            value = value.add(mask.count_ones() as usize);
                        };
                        for (at, masks) in whole.iter().enumerate() {
                            // One load, the lowest bits first.
                            spread(masks.as_ptr().cast::<u64>().read_unaligned(), at);
                        }
                        if !rest.is_empty() {
                            let bits = rest.iter().zip((0..).step_by(GROUP));
                            let or =
                                |mask, (bits, at): (&u16, usize)| mask | u64::from(*bits) << at;
                            spread(bits.fold(0, or), whole.len());
                        }
                    }
                }
                _mm512_reduce_add_epi32(_mm512_add_epi32(sum, other))
            };
            finish(row, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::inference::{GROUP, Linear, Precision, Storage};
    use crate::testing::numbers;

    /// Random weights `[rows, columns]` of which a share is kept.
    fn weights(rows: usize, columns: usize, density: f64) -> Vec<f32> {
        let chances = numbers(rows * columns, 2);
        let values = numbers(rows * columns, 1).into_iter().zip(chances);
        let keep = |(value, chance): (f32, f32)| match f64::from(chance.abs()) < density {
            true => value,
            false => 0.0,
        };
        values.map(keep).collect()
    }

    /// The same by 64-bit integers, one code after another.
    fn by_codes(weights: &[f32], bias: &[f32], input: &[f32]) -> Vec<f32> {
        let largest = |values: &[f32]| values.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        let range = if input.iter().any(|value| *value < 0.0) {
            127.0
        } else {
            255.0
        };
        let codes = |values: &[f32], range: f32| -> Vec<i64> {
            let most = largest(values);
            let inverse = if most > 0.0 { range / most } else { 0.0 };
            let code = |value: &f32| (value * inverse).round_ties_even() as i64;
            values.iter().map(code).collect()
        };
        let inputs = codes(input, range);
        let rows = weights.chunks_exact(input.len()).zip(bias);
        rows.map(|(row, bias)| {
            let products = codes(row, 127.0).into_iter().zip(&inputs);
            let sum: i64 = products.map(|(weight, input)| weight * input).sum();
            sum as f32 * (largest(row) / 127.0 * (largest(input) / range)) + bias
        })
        .collect()
    }

    #[test]
    fn every_storage_gives_the_bits_of_plain_integers() {
        for (rows, columns) in [
            (1, 1),
            (3, 15),
            (4, 16),
            (5, 63),
            (3, 65),
            (10, 100),
            (7, 800),
            (2, 9216),
        ] {
            for density in [0.0, 0.05, 0.3, 1.0] {
                for signed in [false, true] {
                    let weights = weights(rows, columns, density);
                    let bias = numbers(rows, 3);
                    let mut input = numbers(columns, 4);
                    if !signed {
                        input.iter_mut().for_each(|value| *value = value.abs());
                    }
                    let expected = by_codes(&weights, &bias, &input);
                    input.resize(columns.next_multiple_of(GROUP), 0.0);
                    for storage in Storage::ALL {
                        let linear = Linear::new(&weights, &bias, false, storage, Precision::Int8);
                        let mut scratch = vec![f32::NAN; linear.scratch_len()];
                        let mut output = vec![f32::NAN; rows];
                        linear.run(0..rows, &input, &mut output, &mut scratch);
                        assert_eq!(
                            output, expected,
                            "{storage:?} [{rows}, {columns}] {density}"
                        );
                        let mut one = [f32::NAN];
                        linear.run(rows - 1..rows, &input, &mut one, &mut scratch);
                        assert_eq!(one[0].to_bits(), output[rows - 1].to_bits());
                    }
                }
            }
        }
    }

    #[test]
    fn the_error_is_what_rounding_can_cost() {
        let (rows, columns) = (20, 400);
        let weights = weights(rows, columns, 0.5);
        let mut input = numbers(columns, 4);
        let most = |values: &[f32]| {
            values
                .iter()
                .fold(0.0, |a: f64, b| a.max(f64::from(b.abs())))
        };
        let input_step = most(&input) / 127.0 / 2.0;
        let exact: Vec<(f64, f64)> = weights
            .chunks_exact(columns)
            .map(|row| {
                let weight_step = most(row) / 127.0 / 2.0;
                row.iter()
                    .zip(&input)
                    .fold((0.0, 0.0), |(sum, error), (w, x)| {
                        let (w, x) = (f64::from(*w), f64::from(*x));
                        // A weight of 0 stays one.
                        let weight_step = if w == 0.0 { 0.0 } else { weight_step };
                        let cost =
                            w.abs() * input_step + x.abs() * weight_step + weight_step * input_step;
                        (sum + w * x, error + cost)
                    })
            })
            .collect();
        input.resize(columns.next_multiple_of(GROUP), 0.0);
        let bias = vec![0.0; rows];
        let linear = Linear::new(&weights, &bias, false, Storage::Bitmask, Precision::Int8);
        let mut output = vec![f32::NAN; rows];
        linear.run(
            0..rows,
            &input,
            &mut output,
            &mut vec![0.0; linear.scratch_len()],
        );
        for (found, (exact, error)) in output.iter().zip(exact) {
            let found = f64::from(*found);
            assert!(
                (found - exact).abs() <= error * 1.001,
                "{found} is not {exact} ± {error}"
            );
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        let weights = weights(3, 32, 0.5);
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut input = numbers(32, 4);
            input[17] = wrong;
            let linear = Linear::new(&weights, &[0.0; 3], false, Storage::Gather, Precision::Int8);
            let mut output = [0.0; 3];
            linear.run(
                0..3,
                &input,
                &mut output,
                &mut vec![0.0; linear.scratch_len()],
            );
            assert!(output.iter().all(|value| value.is_nan()), "{output:?}");
        }
    }
}
