//! The processor's peak, to compare kernels with.

use std::time::Instant;

#[cfg(target_arch = "x86_64")]
use crate::simd::InstructionSet;
use crate::simd::instruction_set;
use crate::threads::Threads;
use crate::vector::{Four, Vector};

/// Multiply-adds that do not wait for each other: more than latency times units of any processor.
const CHAINS: usize = 12;
/// Multiply-adds of each chain in one measurement: some milliseconds.
const LENGTH: usize = 2_000_000;
const ROUNDS: usize = 15;

/// The most multiply-adds of registers, counted as two operations each, that all threads together have reached in
/// GFLOP/s over a tenth of a second. No memory is touched, so no kernel can be faster.
pub fn fma_gflops(threads: &Threads) -> f64 {
    let (kernel, lanes): (Kernel, usize) = match instruction_set() {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => (x86::avx512, 16),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => (x86::avx2, 8),
        _ => (baseline, 4),
    };
    let operations = 2.0 * (CHAINS * LENGTH * lanes) as f64;
    let mut shares = vec![0.0f32; threads.count()];
    let mut best = 0.0f64;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        threads.for_each(&mut shares, |index, share| {
            // SAFETY: this instruction set was detected.
            *share = unsafe { kernel(1.0 / (1.0 + index as f32)) };
        });
        let all = operations * shares.len() as f64 / start.elapsed().as_secs_f64();
        best = best.max(all * 1e-9);
    }
    assert!(shares.iter().all(|share| share.is_finite()));
    best
}

type Kernel = unsafe fn(f32) -> f32;

/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn chains<V: Vector>(start: f32) -> f32 {
    // SAFETY: promised by the caller.
    unsafe {
        let (factor, addend) = (V::splat(0.999), V::splat(start));
        let mut chains = [V::splat(start); CHAINS];
        for _ in 0..LENGTH {
            for chain in &mut chains {
                *chain = addend.multiply_add(*chain, factor);
            }
        }
        let mut total = 0.0;
        for four in chains.as_chunks::<4>().0 {
            total += V::sums(*four).iter().sum::<f32>();
        }
        total
    }
}

unsafe fn baseline(start: f32) -> f32 {
    // SAFETY: every processor of the target has the instructions.
    unsafe { chains::<Four>(start) }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::chains;
    use std::arch::x86_64::{__m256, __m512};

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(start: f32) -> f32 {
        // SAFETY: the caller promises the instructions.
        unsafe { chains::<__m256>(start) }
    }

    #[target_feature(enable = "avx512f,avx512dq")]
    pub(super) unsafe fn avx512(start: f32) -> f32 {
        // SAFETY: the caller promises the instructions.
        unsafe { chains::<__m512>(start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_a_positive_number() {
        let peak = fma_gflops(&Threads::new(1));
        assert!(peak.is_finite() && peak > 0.1, "{peak}");
    }
}
