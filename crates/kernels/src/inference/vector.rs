//! A vector register: one source of the kernels for every instruction set.

/// Some lanes of `f32`.
///
/// Every method is `unsafe` for one reason in common: the processor must have the instructions of the type.
pub(super) trait Vector: Copy {
    /// Number of lanes.
    const LANES: usize;
    /// # Safety
    /// `LANES` values can be read at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `LANES` values can be written at `to`.
    unsafe fn store(self, to: *mut f32);
    /// # Safety
    /// The processor has the instructions.
    unsafe fn splat(value: f32) -> Self;
    /// # Safety
    /// The processor has the instructions.
    unsafe fn add(self, other: Self) -> Self;
    /// The larger of both lanes; `other` where `self` is NaN.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn max(self, other: Self) -> Self;
    /// `self + a * b`.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn multiply_add(self, a: Self, b: Self) -> Self;
}

/// Eight lanes of whatever the target guarantees: two NEON or SSE2 registers, or plain numbers.
#[derive(Clone, Copy)]
pub(super) struct Eight([f32; 8]);

impl Vector for Eight {
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller promises 8 readable values; arrays of f32 need no other alignment than f32.
        Self(unsafe { *from.cast() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller promises 8 writable values.
        unsafe { *to.cast() = self.0 };
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 8])
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        let larger = |i| match self.0[i] > other.0[i] {
            true => self.0[i],
            false => other.0[i],
        };
        Self(std::array::from_fn(larger))
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
}

/// Implements [`Vector`] for a register of x86-64 by its intrinsics.
#[cfg(target_arch = "x86_64")]
macro_rules! register {
    ($vector:ident, $lanes:literal, $load:ident, $store:ident, $splat:ident, $add:ident, $max:ident, $fma:ident) => {
        impl Vector for std::arch::x86_64::$vector {
            const LANES: usize = $lanes;
            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                // SAFETY: as promised by the caller.
                unsafe { std::arch::x86_64::$load(from) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                // SAFETY: as promised by the caller.
                unsafe { std::arch::x86_64::$store(to, self) }
            }
            #[inline(always)]
            unsafe fn splat(value: f32) -> Self {
                // SAFETY: as promised by the caller.
                unsafe { std::arch::x86_64::$splat(value) }
            }
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                // SAFETY: as promised by the caller.
                unsafe { std::arch::x86_64::$add(self, other) }
            }
            #[inline(always)]
            unsafe fn max(self, other: Self) -> Self {
                // SAFETY: as promised by the caller.
                unsafe { std::arch::x86_64::$max(self, other) }
            }
            #[inline(always)]
            unsafe fn multiply_add(self, a: Self, b: Self) -> Self {
                // SAFETY: as promised by the caller.
                unsafe { std::arch::x86_64::$fma(a, b, self) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
register!(
    __m256,
    8,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_add_ps,
    _mm256_max_ps,
    _mm256_fmadd_ps
);
#[cfg(target_arch = "x86_64")]
register!(
    __m512,
    16,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_add_ps,
    _mm512_max_ps,
    _mm512_fmadd_ps
);
