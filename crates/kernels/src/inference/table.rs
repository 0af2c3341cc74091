//! Choosing the compiled version of a kernel for a number of vectors, their distance and the instruction set.

/// Where one call of a kernel reads and writes.
///
/// Its maker promises: with the block's base and any of its offsets added, all vectors of the tile can be read at
/// `input`; for every row of the packed matrix the tile's vectors can be read and written at `output`, where
/// nobody else reads or writes meanwhile; `bias` has a value for every row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub input: *const f32,
    pub output: *mut f32,
    /// Values from one row of the output to the next.
    pub output_stride: usize,
    pub bias: *const f32,
    /// Whether negative sums become 0 at the end.
    pub relu: bool,
}

/// Computes one block of a packed matrix for one tile.
pub(super) type Kernel<T> = unsafe fn(&T, usize, &Call);

/// Gives `$packed` the method `kernel(lanes, vectors, stride)`, which finds `$kernel::<Vector, vectors, stride>`
/// for any of the numbers of vectors that are listed for vectors of 8 and of 16 lanes, which are 1, 2, 3 and so on.
macro_rules! kernels {
    ($packed:ty, $kernel:ident, 8: [$($eight:literal)*], 16: [$($sixteen:literal)*]) => {
        impl $packed {
            /// The kernel for tiles of so many vectors that are `stride` values apart; none if it does not exist.
            pub fn kernel(
                lanes: usize,
                vectors: usize,
                stride: usize,
            ) -> Option<$crate::inference::table::Kernel<$packed>> {
                use $crate::inference::table::{Call, Kernel};
                use $crate::{InstructionSet, instruction_set};
                macro_rules! list {
                    (8, $run:ident) => { &[$($run::<$eight>),*] };
                    (16, $run:ident) => { &[$($run::<$sixteen>),*] };
                }
                macro_rules! versions {
                    ($lanes:tt, $vector:ty, $distance:literal, $attribute:meta) => {{
                        #[$attribute]
                        unsafe fn run<const N: usize>(packed: &$packed, block: usize, call: &Call) {
                            // SAFETY: the caller's promises are the same, and the attribute names the instructions.
                            unsafe { $kernel::<$vector, N, $distance>(packed, block, call) }
                        }
                        const KERNELS: &[Kernel<$packed>] = list!($lanes, run);
                        KERNELS.get(vectors.wrapping_sub(1)).copied()
                    }};
                }
                #[cfg(target_arch = "x86_64")]
                {
                    use std::arch::x86_64::{__m256, __m512};
                    match (instruction_set(), lanes, stride) {
                        (InstructionSet::Avx512, 16, 16) => {
                            return versions!(16, __m512, 16, target_feature(enable = "avx512f"));
                        }
                        (InstructionSet::Avx512, 16, 32) => {
                            return versions!(16, __m512, 32, target_feature(enable = "avx512f"));
                        }
                        (InstructionSet::Avx512 | InstructionSet::Avx2, 8, 16) => {
                            return versions!(8, __m256, 16, target_feature(enable = "avx2,fma"));
                        }
                        (InstructionSet::Avx512 | InstructionSet::Avx2, 8, 8) => {
                            return versions!(8, __m256, 8, target_feature(enable = "avx2,fma"));
                        }
                        _ => {}
                    }
                }
                match (instruction_set(), lanes, stride) {
                    (InstructionSet::Baseline, 8, 16) => {
                        versions!(8, $crate::vector::Eight, 16, inline(never))
                    }
                    (InstructionSet::Baseline, 8, 8) => {
                        versions!(8, $crate::vector::Eight, 8, inline(never))
                    }
                    _ => None,
                }
            }
        }
    };
}
pub(super) use kernels;
