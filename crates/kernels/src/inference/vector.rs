//! What inference asks of vector registers beside their arithmetic.

use crate::vector::{Eight, Lanes, Vector};

/// A vector register as inference uses it.
///
/// Every method is `unsafe` for one reason in common: the processor must have the instructions of the type.
pub(super) trait InferenceVector: Vector {
    /// The larger of both lanes; NaN where one of them is.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn max(self, other: Self) -> Self;
    /// The values number 0, 2, 4 and so on of both vectors behind each other.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn evens(self, next: Self) -> Self;
    /// The values at `from` in the lanes whose bit is set in `mask`, in order, and 0 in the others.
    ///
    /// # Safety
    /// `LANES` values can be read at `from`, and the processor has the instructions.
    unsafe fn expand(from: *const f32, mask: u32) -> Self;
    /// The values at these places behind `from`.
    ///
    /// # Safety
    /// As many places as lanes can be read, and a value at each of them; the processor has the instructions.
    unsafe fn collect(from: *const f32, places: *const u16) -> Self;
    /// The sum of all lanes, neighbours first.
    ///
    /// # Safety
    /// The processor has the instructions.
    #[inline(always)]
    unsafe fn total(self) -> f32 {
        let mut lanes = [0.0; 16];
        // SAFETY: no vector has more than 16 lanes; the caller promises the instructions.
        unsafe { self.store(lanes.as_mut_ptr()) };
        let mut length = Self::LANES;
        while length > 1 {
            length /= 2;
            for i in 0..length {
                lanes[i] = lanes[2 * i] + lanes[2 * i + 1];
            }
        }
        lanes[0]
    }
    /// Four values, again and again, for [`Self::pick`].
    ///
    /// # Safety
    /// 4 values can be read at `from`, and the processor has the instructions.
    unsafe fn four(from: *const f32) -> Self;
    /// Value number `I` of [`Self::four`] in all lanes: four of them for one load.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn pick<const I: i32>(self) -> Self;
}

/// Four neighbouring offsets for one load: where every multiply-add needs a load of its own, loads are the limit.
#[derive(Clone, Copy)]
pub(super) struct FourOffsets(u64);

impl FourOffsets {
    /// # Safety
    /// 4 offsets can be read at `from`.
    #[inline(always)]
    pub unsafe fn load(from: *const u16) -> Self {
        // SAFETY: as promised by the caller.
        Self(unsafe { from.cast::<u64>().read_unaligned() })
    }

    /// Offset number `i`.
    #[inline(always)]
    pub fn get(self, i: usize) -> usize {
        let from_lowest = if cfg!(target_endian = "little") {
            i
        } else {
            3 - i
        };
        usize::from((self.0 >> (16 * from_lowest)) as u16)
    }
}

/// Brings what is at `from`, which is used once, into the first-level cache, and leaves the others alone; any address will do.
#[inline(always)]
pub(super) fn prefetch_once<T>(from: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and it faults on no address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_NTA }>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// Brings what is at `from` into the first-level cache; any address will do.
#[inline(always)]
pub(super) fn prefetch<T>(from: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and it faults on no address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// Brings some values, wherever they lie, into the first-level cache.
#[inline(always)]
pub(super) fn prefetch_values(from: *const f32, count: usize) {
    const LINE: usize = 16;
    for line in 0..count / LINE + 1 {
        prefetch(from.wrapping_add(line * LINE));
    }
}

impl InferenceVector for Eight {
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        let larger = |i: usize| match self.0[i] > other.0[i] || self.0[i].is_nan() {
            true => self.0[i],
            false => other.0[i],
        };
        Lanes(std::array::from_fn(larger))
    }
    #[inline(always)]
    unsafe fn evens(self, next: Self) -> Self {
        Lanes(std::array::from_fn(|i| match i < 4 {
            true => self.0[2 * i],
            false => next.0[2 * i - 8],
        }))
    }
    #[inline(always)]
    unsafe fn four(from: *const f32) -> Self {
        // SAFETY: the caller promises 4 readable values.
        let [a, b, c, d] = unsafe { *from.cast::<[f32; 4]>() };
        Lanes([a, b, c, d, a, b, c, d])
    }
    #[inline(always)]
    unsafe fn pick<const I: i32>(self) -> Self {
        Lanes([self.0[I as usize]; 8])
    }
    #[inline(always)]
    unsafe fn collect(from: *const f32, places: *const u16) -> Self {
        // SAFETY: as promised by the caller.
        Lanes(std::array::from_fn(|i| unsafe {
            *from.add(usize::from(*places.add(i)))
        }))
    }
    #[inline(always)]
    unsafe fn expand(from: *const f32, mask: u32) -> Self {
        let mut next = 0;
        Lanes(std::array::from_fn(|i| {
            let kept = mask >> i & 1 == 1;
            // SAFETY: as many values as lanes before this one can be read.
            let value = unsafe { *from.add(next) };
            next += usize::from(kept);
            if kept { value } else { 0.0 }
        }))
    }
}

/// Implements [`InferenceVector`] for a register of x86-64 by its intrinsics.
#[cfg(target_arch = "x86_64")]
macro_rules! register {
    ($vector:ident, $max:ident, $evens:ident, $collect:ident, $expand:ident, $four:ident, $pick:ident) => {
        impl InferenceVector for std::arch::x86_64::$vector {
            #[inline(always)]
            unsafe fn max(self, other: Self) -> Self {
                // SAFETY: as promised by the caller.
                unsafe { $max(self, other) }
            }
            #[inline(always)]
            unsafe fn evens(self, next: Self) -> Self {
                // SAFETY: as promised by the caller.
                unsafe { $evens(self, next) }
            }
            #[inline(always)]
            unsafe fn four(from: *const f32) -> Self {
                use std::arch::x86_64::*;
                // SAFETY: as promised by the caller.
                unsafe { $four(_mm_loadu_ps(from)) }
            }
            #[inline(always)]
            unsafe fn pick<const I: i32>(self) -> Self {
                use std::arch::x86_64::*;
                // SAFETY: as promised by the caller. Two bits per lane select the value.
                unsafe {
                    match I {
                        0 => $pick::<0x00>(self),
                        1 => $pick::<0x55>(self),
                        2 => $pick::<0xaa>(self),
                        _ => $pick::<0xff>(self),
                    }
                }
            }
            #[inline(always)]
            unsafe fn collect(from: *const f32, places: *const u16) -> Self {
                // SAFETY: as promised by the caller.
                unsafe { $collect(from, places) }
            }
            #[inline(always)]
            unsafe fn expand(from: *const f32, mask: u32) -> Self {
                // SAFETY: as promised by the caller.
                unsafe { $expand(from, mask) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
register!(
    __m256,
    max_8,
    evens_8,
    collect_8,
    expand_8,
    four_8,
    _mm256_permute_ps
);
#[cfg(target_arch = "x86_64")]
register!(
    __m512,
    max_16,
    evens_16,
    collect_16,
    expand_16,
    four_16,
    _mm512_permute_ps
);

/// As [`InferenceVector::max`].
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
fn max_8(
    one: std::arch::x86_64::__m256,
    two: std::arch::x86_64::__m256,
) -> std::arch::x86_64::__m256 {
    use std::arch::x86_64::*;
    // The instruction gives its second value if one of them is no number.
    let is_nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(one, one);
    _mm256_blendv_ps(_mm256_max_ps(one, two), one, is_nan)
}

/// As [`InferenceVector::max`].
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn max_16(
    one: std::arch::x86_64::__m512,
    two: std::arch::x86_64::__m512,
) -> std::arch::x86_64::__m512 {
    use std::arch::x86_64::*;
    let is_number = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(one, one);
    _mm512_mask_max_ps(one, is_number, one, two)
}

/// As [`InferenceVector::evens`].
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
fn evens_8(
    one: std::arch::x86_64::__m256,
    two: std::arch::x86_64::__m256,
) -> std::arch::x86_64::__m256 {
    use std::arch::x86_64::*;
    // Within each half: two values of the first vector, two of the second one.
    let halves = _mm256_castps_pd(_mm256_shuffle_ps::<0b10_00_10_00>(one, two));
    _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(halves))
}

/// As [`InferenceVector::evens`].
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn evens_16(
    one: std::arch::x86_64::__m512,
    two: std::arch::x86_64::__m512,
) -> std::arch::x86_64::__m512 {
    use std::arch::x86_64::*;
    let places = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    _mm512_permutex2var_ps(one, places, two)
}

/// Four values, each loaded to its place: the instructions that gather take longer.
///
/// # Safety
/// As [`InferenceVector::collect`].
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn collect_4(from: *const f32, places: *const u16) -> std::arch::x86_64::__m128 {
    use std::arch::x86_64::*;
    // SAFETY: as promised by the caller.
    unsafe {
        let places = FourOffsets::load(places);
        let value = |i| _mm_load_ss(from.add(places.get(i)));
        let two = _mm_insert_ps::<0x10>(value(0), value(1));
        _mm_insert_ps::<0x30>(_mm_insert_ps::<0x20>(two, value(2)), value(3))
    }
}

/// # Safety
/// As [`InferenceVector::collect`].
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn collect_8(from: *const f32, places: *const u16) -> std::arch::x86_64::__m256 {
    // SAFETY: as promised by the caller.
    unsafe {
        let (low, high) = (collect_4(from, places), collect_4(from, places.add(4)));
        std::arch::x86_64::_mm256_set_m128(high, low)
    }
}

/// # Safety
/// As [`InferenceVector::collect`].
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn collect_16(from: *const f32, places: *const u16) -> std::arch::x86_64::__m512 {
    use std::arch::x86_64::*;
    // SAFETY: as promised by the caller.
    unsafe {
        let (low, high) = (collect_8(from, places), collect_8(from, places.add(8)));
        let low = _mm512_castps_pd(_mm512_castps256_ps512(low));
        _mm512_castpd_ps(_mm512_insertf64x4::<1>(low, _mm256_castps_pd(high)))
    }
}

/// For every byte, which of the first values goes to each lane; negative for a lane that gets none.
#[cfg(target_arch = "x86_64")]
static PLACES: [[i32; 8]; 256] = {
    let mut places = [[-1; 8]; 256];
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
/// As [`InferenceVector::expand`]; the mask has 8 bits.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn expand_8(from: *const f32, mask: u32) -> std::arch::x86_64::__m256 {
    use std::arch::x86_64::*;
    // SAFETY: 8 values can be read at `from`, and a row of the table has 8 places.
    unsafe {
        let places = _mm256_loadu_si256(PLACES[usize::from(mask as u8)].as_ptr().cast());
        let values = _mm256_permutevar8x32_ps(_mm256_loadu_ps(from), places);
        _mm256_blendv_ps(values, _mm256_setzero_ps(), _mm256_castsi256_ps(places))
    }
}

/// # Safety
/// As [`InferenceVector::expand`]; the mask has 16 bits.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn expand_16(from: *const f32, mask: u32) -> std::arch::x86_64::__m512 {
    use std::arch::x86_64::*;
    // SAFETY: 16 values can be read at `from`.
    unsafe {
        let mut values = _mm512_loadu_ps(from);
        // Loaded by an instruction of its own: some processors are slow to load and spread in one.
        std::arch::asm!("/* {0} */", inout(zmm_reg) values, options(pure, nomem, nostack, preserves_flags));
        _mm512_maskz_expand_ps(mask as u16, values)
    }
}

/// Four values twice, in a register: the compiler would load every one of them for itself.
///
/// # Safety
/// The processor has the instructions.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn four_8(values: std::arch::x86_64::__m128) -> std::arch::x86_64::__m256 {
    let mut four = std::arch::x86_64::_mm256_set_m128(values, values);
    // SAFETY: no instruction at all.
    unsafe {
        std::arch::asm!("/* {0} */", inout(ymm_reg) four, options(pure, nomem, nostack, preserves_flags));
    }
    four
}

/// Four values four times, as [`four_8`].
///
/// # Safety
/// The processor has the instructions.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn four_16(values: std::arch::x86_64::__m128) -> std::arch::x86_64::__m512 {
    let mut four = std::arch::x86_64::_mm512_broadcast_f32x4(values);
    // SAFETY: no instruction at all.
    unsafe {
        std::arch::asm!("/* {0} */", inout(zmm_reg) four, options(pure, nomem, nostack, preserves_flags));
    }
    four
}
