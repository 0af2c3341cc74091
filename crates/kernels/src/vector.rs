//! Vector registers of every instruction set behind one trait, so that a kernel is written once.

/// A vector register.
pub(crate) trait Vector: Copy {
    const LANES: usize;
    /// # Safety
    /// `LANES` values can be read at `from`, and the processor has the instructions.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `LANES` values can be written at `to`, and the processor has the instructions.
    unsafe fn store(self, to: *mut f32);
    /// # Safety
    /// The processor has the instructions.
    unsafe fn splat(value: f32) -> Self;
    /// # Safety
    /// The processor has the instructions.
    unsafe fn add(self, other: Self) -> Self;
    /// `self + a * b`.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn multiply_add(self, a: Self, b: Self) -> Self;
    /// The rectifier of every lane; NaN stays NaN.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn relu(self) -> Self;
    /// The lanes where `other` is positive, 0 elsewhere.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn where_positive(self, other: Self) -> Self;
    /// The sum of the lanes of each of four vectors.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn sums(vectors: [Self; 4]) -> [f32; 4];
}

/// So many lanes of whatever the target guarantees: NEON or SSE2 registers, or plain numbers.
#[derive(Clone, Copy)]
pub(crate) struct Lanes<const N: usize>(pub(crate) [f32; N]);

/// One register of SSE2 or NEON.
pub(crate) type Four = Lanes<4>;
/// Two of them.
pub(crate) type Eight = Lanes<8>;

impl<const N: usize> Vector for Lanes<N> {
    const LANES: usize = N;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller promises `N` readable values; arrays of f32 need no other alignment than f32.
        Self(unsafe { *from.cast() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller promises `N` writable values.
        unsafe { *to.cast() = self.0 };
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; N])
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
    #[inline(always)]
    unsafe fn multiply_add(self, a: Self, b: Self) -> Self {
        // AArch64 always has the fused instruction; elsewhere `mul_add` may be a slow call.
        if cfg!(target_arch = "aarch64") {
            Self(std::array::from_fn(|i| a.0[i].mul_add(b.0[i], self.0[i])))
        } else {
            Self(std::array::from_fn(|i| self.0[i] + a.0[i] * b.0[i]))
        }
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        Self(self.0.map(|value| if value <= 0.0 { 0.0 } else { value }))
    }
    #[inline(always)]
    unsafe fn where_positive(self, other: Self) -> Self {
        let keep = |i| if other.0[i] > 0.0 { self.0[i] } else { 0.0 };
        Self(std::array::from_fn(keep))
    }
    #[inline(always)]
    unsafe fn sums(vectors: [Self; 4]) -> [f32; 4] {
        vectors.map(|Self(mut lanes)| {
            let mut length = N;
            while length > 1 {
                length /= 2;
                for i in 0..length {
                    lanes[i] = lanes[2 * i] + lanes[2 * i + 1];
                }
            }
            lanes[0]
        })
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    impl Vector for __m256 {
        const LANES: usize = 8;
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: as promised by the caller.
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as promised by the caller.
            unsafe { _mm256_storeu_ps(to, self) }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: as promised by the caller.
            unsafe { _mm256_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: as promised by the caller.
            unsafe { _mm256_add_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn multiply_add(self, a: Self, b: Self) -> Self {
            // SAFETY: as promised by the caller.
            unsafe { _mm256_fmadd_ps(a, b, self) }
        }
        #[inline(always)]
        unsafe fn relu(self) -> Self {
            // SAFETY: as promised by the caller. Of a NaN and a number, the second operand is the maximum.
            unsafe { _mm256_max_ps(_mm256_setzero_ps(), self) }
        }
        #[inline(always)]
        unsafe fn where_positive(self, other: Self) -> Self {
            // SAFETY: as promised by the caller.
            unsafe {
                let keep = _mm256_cmp_ps::<_CMP_GT_OQ>(other, _mm256_setzero_ps());
                _mm256_and_ps(self, keep)
            }
        }
        #[inline(always)]
        unsafe fn sums([a, b, c, d]: [Self; 4]) -> [f32; 4] {
            // SAFETY: as promised by the caller; four values are four values.
            unsafe {
                let quarters = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
                let sums = _mm_add_ps(
                    _mm256_castps256_ps128(quarters),
                    _mm256_extractf128_ps::<1>(quarters),
                );
                std::mem::transmute::<__m128, [f32; 4]>(sums)
            }
        }
    }

    impl Vector for __m512 {
        const LANES: usize = 16;
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: as promised by the caller.
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as promised by the caller.
            unsafe { _mm512_storeu_ps(to, self) }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: as promised by the caller.
            unsafe { _mm512_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: as promised by the caller.
            unsafe { _mm512_add_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn multiply_add(self, a: Self, b: Self) -> Self {
            // SAFETY: as promised by the caller.
            unsafe { _mm512_fmadd_ps(a, b, self) }
        }
        #[inline(always)]
        unsafe fn relu(self) -> Self {
            // SAFETY: as promised by the caller. Of a NaN and a number, the second operand is the maximum.
            unsafe { _mm512_max_ps(_mm512_setzero_ps(), self) }
        }
        #[inline(always)]
        unsafe fn where_positive(self, other: Self) -> Self {
            // SAFETY: as promised by the caller.
            unsafe {
                let keep = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(other, _mm512_setzero_ps());
                _mm512_maskz_mov_ps(keep, self)
            }
        }
        #[inline(always)]
        unsafe fn sums(vectors: [Self; 4]) -> [f32; 4] {
            // SAFETY: as promised by the caller.
            unsafe {
                __m256::sums(vectors.map(|vector| {
                    let high = _mm512_extractf32x8_ps::<1>(vector);
                    _mm256_add_ps(_mm512_castps512_ps256(vector), high)
                }))
            }
        }
    }
}
