//! Which vector instructions this processor has, and how a plain loop is compiled for each of them.

use std::sync::OnceLock;

/// The instruction sets that the kernels are compiled for, chosen once when the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    /// What the target guarantees: SSE2 on x86-64, NEON on AArch64.
    Baseline,
    /// x86-64 with AVX2, FMA and POPCNT.
    Avx2,
    /// x86-64 with AVX-512 F, BW, CD, DQ and VL.
    Avx512,
}

/// The instruction set that the kernels use: the best one of this processor that they know.
///
/// The environment variable `SKINNY_INSTRUCTION_SET` (`baseline`, `avx2` or `avx512`) lowers it, to get the
/// bits of another machine; a set that this processor lacks is not used.
pub fn instruction_set() -> InstructionSet {
    static DETECTED: OnceLock<InstructionSet> = OnceLock::new();
    *DETECTED.get_or_init(|| {
        let wanted = match std::env::var("SKINNY_INSTRUCTION_SET").as_deref() {
            Ok("baseline") => InstructionSet::Baseline,
            Ok("avx2") => InstructionSet::Avx2,
            _ => InstructionSet::Avx512,
        };
        detect().min(wanted)
    })
}

#[cfg(target_arch = "x86_64")]
fn detect() -> InstructionSet {
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("popcnt");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (avx2, avx512) {
        (true, true) => InstructionSet::Avx512,
        (true, false) => InstructionSet::Avx2,
        _ => InstructionSet::Baseline,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> InstructionSet {
    InstructionSet::Baseline
}

/// Bytes of the first-level data cache of this processor: what it says, or what most have.
pub fn first_level_cache() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    const USUAL: usize = 32 << 10;
    *BYTES.get_or_init(|| cache_of_processor().unwrap_or(USUAL))
}

/// The first data cache that CPUID describes: Intel by leaf 4, AMD by leaf 0x8000_001d, both in the same form.
#[cfg(target_arch = "x86_64")]
fn cache_of_processor() -> Option<usize> {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const DATA: u32 = 1;
    let leaf = |leaf: u32| (__cpuid(leaf & 0x8000_0000).eax >= leaf).then_some(leaf);
    let leaves = [leaf(4), leaf(0x8000_001d)].into_iter().flatten();
    leaves
        .flat_map(|leaf| (0..4).map(move |index| __cpuid_count(leaf, index)))
        .find_map(|cache| {
            let (kind, level) = (cache.eax & 31, cache.eax >> 5 & 7);
            let field = |bits: u32| bits as usize + 1;
            let ways = field(cache.ebx >> 22);
            let partitions = field(cache.ebx >> 12 & 0x3ff);
            let line = field(cache.ebx & 0xfff);
            (kind == DATA && level == 1).then(|| ways * partitions * line * field(cache.ecx))
        })
}

#[cfg(not(target_arch = "x86_64"))]
fn cache_of_processor() -> Option<usize> {
    None
}

/// Compiles a function once per instruction set and calls the best one for this processor.
///
/// The body is ordinary safe Rust without fused multiply-add, so every version gives the same bits.
macro_rules! multiversion {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $visibility fn $name($($argument: $kind),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body($($argument: $kind),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($argument: $kind),*) $(-> $result)? {
                    body($($argument),*)
                }
                #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($argument: $kind),*) $(-> $result)? {
                    body($($argument),*)
                }
                match $crate::simd::instruction_set() {
                    $crate::simd::InstructionSet::Avx512 => {
                        // SAFETY: `instruction_set` found all features of `avx512` on this processor.
                        return unsafe { avx512($($argument),*) };
                    }
                    $crate::simd::InstructionSet::Avx2 => {
                        // SAFETY: `instruction_set` found all features of `avx2` on this processor.
                        return unsafe { avx2($($argument),*) };
                    }
                    $crate::simd::InstructionSet::Baseline => {}
                }
            }
            body($($argument),*)
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_level_cache_has_a_size_that_processors_have() {
        let bytes = first_level_cache();
        assert!((8 << 10..=512 << 10).contains(&bytes) && bytes.is_multiple_of(4 << 10));
    }

    /// Runs the tests of the products again with every lower instruction set, in a process of its own.
    #[test]
    fn products_are_right_with_every_instruction_set() {
        if std::env::var_os("SKINNY_INSTRUCTION_SET").is_some() {
            return;
        }
        let sets = [
            (InstructionSet::Baseline, "baseline"),
            (InstructionSet::Avx2, "avx2"),
        ];
        for (_, name) in sets.iter().filter(|(set, _)| *set < instruction_set()) {
            let tests = std::env::current_exe().expect("a test has a program");
            let result = std::process::Command::new(tests)
                .args([
                    "gemm::",
                    "conv::",
                    "linear::",
                    "sparse::",
                    "inference::",
                    "simd::",
                    "--skip",
                    "any_convolution",
                ])
                .env("SKINNY_INSTRUCTION_SET", name)
                .output()
                .expect("the program of this test starts");
            let output = String::from_utf8_lossy(&result.stdout);
            assert!(result.status.success(), "with {name}: {output}");
            assert!(
                output.contains("products_match_plain_loops"),
                "with {name}: {output}"
            );
        }
    }

    #[test]
    fn the_environment_lowers_the_instruction_set() {
        let expected = match std::env::var("SKINNY_INSTRUCTION_SET").as_deref() {
            Ok("baseline") => InstructionSet::Baseline,
            Ok("avx2") => detect().min(InstructionSet::Avx2),
            _ => detect(),
        };
        assert_eq!(instruction_set(), expected);
        // With `--nocapture` a run under an emulator shows what it has checked.
        println!("instruction set: {expected:?}");
    }
}
