//! The memory of a program: one aligned buffer that the threads of a step share.

use std::ops::Range;

/// A cache line of values.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A buffer of `f32` that starts at a cache line, all zeros at first.
#[derive(Clone, Debug, Default)]
pub struct Aligned {
    lines: Vec<Line>,
}

impl Aligned {
    /// A buffer of at least so many values.
    pub fn new(length: usize) -> Self {
        Self {
            lines: vec![Line([0.0; 16]); length.div_ceil(16)],
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.lines.len() * 16
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The values.
    pub fn as_slice(&self) -> &[f32] {
        // SAFETY: a `Line` is 16 values without padding, and any bits are values.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len()) }
    }

    /// The values.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the lines are borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len()) }
    }
}

/// An empty vector with room for so many values, in large pages if it is long and the system has them: they are read from the
/// first to the last at every product, and processors fetch ahead within a page only.
pub(super) fn large<T>(capacity: usize) -> Vec<T> {
    let vector = Vec::<T>::with_capacity(capacity);
    #[cfg(all(target_os = "linux", not(miri)))]
    advise(vector.as_ptr().addr(), capacity * size_of::<T>());
    vector
}

/// Asks for large pages for what lies in this memory of ours, before it is used for the first time.
#[cfg(all(target_os = "linux", not(miri)))]
fn advise(start: usize, length: usize) {
    use std::ffi::{c_int, c_void};
    /// From here on it is worth a call to the system.
    const LARGE: usize = 4 << 20;
    const PAGE: usize = 4096;
    const MADV_HUGEPAGE: c_int = 14;
    // SAFETY: as the C library, which the standard library is linked with, declares it.
    unsafe extern "C" {
        fn madvise(start: *mut c_void, length: usize, advice: c_int) -> c_int;
    }
    if length < LARGE {
        return;
    }
    let (first, end) = (start.next_multiple_of(PAGE), (start + length) / PAGE * PAGE);
    // SAFETY: whole pages within memory that was just allocated. The advice changes no value; that it was not taken is no
    // reason to fail.
    unsafe {
        madvise(
            std::ptr::with_exposed_provenance_mut(first),
            end - first,
            MADV_HUGEPAGE,
        )
    };
}

/// The values of one image while threads work on it together.
///
/// Its users divide it: no range is written by one of them while another one reads or writes any of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    base: *mut f32,
    length: usize,
}

// SAFETY: the users of the memory promise, at every access, that no other thread interferes.
unsafe impl Sync for Memory {}
// SAFETY: as above.
unsafe impl Send for Memory {}

impl Memory {
    /// The memory behind a slice that stays borrowed as long as the memory is used.
    pub fn new(values: &mut [f32]) -> Self {
        Self {
            base: values.as_mut_ptr(),
            length: values.len(),
        }
    }

    /// Values to read.
    ///
    /// # Safety
    /// The slice of [`Self::new`] is still borrowed, and nobody writes the range while the result lives.
    pub unsafe fn read<'a>(&self, range: Range<usize>) -> &'a [f32] {
        assert!(range.start <= range.end && range.end <= self.length);
        // SAFETY: the range lies in the slice; the caller promises the rest.
        unsafe { std::slice::from_raw_parts(self.base.add(range.start), range.len()) }
    }

    /// Values to write.
    ///
    /// # Safety
    /// The slice of [`Self::new`] is still borrowed, and nobody else reads or writes the range while the result
    /// lives.
    pub unsafe fn write<'a>(&self, range: Range<usize>) -> &'a mut [f32] {
        assert!(range.start <= range.end && range.end <= self.length);
        // SAFETY: the range lies in the slice; the caller promises the rest.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(range.start), range.len()) }
    }

    /// The start of a range, for kernels that share it.
    pub fn pointer(&self, range: Range<usize>) -> *mut f32 {
        assert!(range.start <= range.end && range.end <= self.length);
        self.base.wrapping_add(range.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_vectors_are_vectors_like_others() {
        for capacity in [0, 1, 3 << 20] {
            let mut vector: Vec<f32> = large(capacity);
            assert!(vector.is_empty() && vector.capacity() >= capacity);
            vector.resize(capacity, 1.5);
            assert!(vector.iter().all(|value| *value == 1.5));
        }
    }

    #[test]
    fn buffers_start_at_a_cache_line_and_are_long_enough() {
        for length in [0, 1, 16, 17, 1000] {
            let mut buffer = Aligned::new(length);
            assert!(buffer.len() >= length && buffer.len() < length + 16);
            assert_eq!(buffer.as_slice().as_ptr() as usize % 64, 0);
            assert!(buffer.as_slice().iter().all(|value| *value == 0.0));
            buffer.as_mut_slice().fill(1.0);
            assert_eq!(buffer.as_slice().iter().sum::<f32>(), buffer.len() as f32);
        }
    }

    #[test]
    #[should_panic(expected = "range.end <= self.length")]
    fn a_range_beyond_the_buffer_is_a_bug() {
        Memory::new(&mut [0.0; 4]).pointer(2..5);
    }
}
