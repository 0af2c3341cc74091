//! What is done to a value on its way to memory, so that no pass of its own is needed.

use crate::activation;
use crate::gemm::copy_short;
use crate::vector::Vector;

/// What is done to every value of a result before it is written.
#[derive(Clone, Copy, Debug)]
pub enum Finish<'a> {
    /// Nothing.
    Keep,
    /// The rectifier: `max(x, 0)`; NaN stays NaN.
    Relu,
    /// The gradient of a rectifier whose output this is, laid out like the result: 0 where it is not positive.
    Where(&'a [f32]),
}

impl Finish<'_> {
    /// The finished value that goes to `at`.
    #[inline(always)]
    pub(crate) fn value(&self, value: f32, at: usize) -> f32 {
        match self {
            Finish::Keep => value,
            Finish::Relu if value <= 0.0 => 0.0,
            Finish::Relu => value,
            Finish::Where(output) if output[at] > 0.0 => value,
            Finish::Where(_) => 0.0,
        }
    }

    /// Writes some values, the first of which goes to `at`, finished.
    #[inline(always)]
    pub(crate) fn write(&self, values: &[f32], at: usize, into: &mut [f32]) {
        match self {
            Finish::Keep => copy_short(values, into),
            Finish::Relu => {
                for (into, value) in into.iter_mut().zip(values) {
                    *into = Finish::Relu.value(*value, 0);
                }
            }
            Finish::Where(output) => {
                let output = &output[at..at + values.len()];
                for (at, (into, value)) in into.iter_mut().zip(values).enumerate() {
                    *into = Finish::Where(output).value(*value, at);
                }
            }
        }
    }

    /// The same for the values of a result from `start` on.
    pub(crate) fn at(&self, start: usize) -> Self {
        match self {
            Finish::Where(output) => Finish::Where(&output[start..]),
            other => *other,
        }
    }

    /// The finished vector that goes to `at`.
    ///
    /// # Safety
    /// As many values as there are lanes can be read at `at` of the rectifier's output, if there is one, and the
    /// processor has the instructions.
    #[inline(always)]
    pub(crate) unsafe fn vector<V: Vector>(&self, vector: V, at: usize) -> V {
        // SAFETY: the caller's promises.
        unsafe {
            match self {
                Finish::Keep => vector,
                Finish::Relu => vector.relu(),
                Finish::Where(output) => vector.where_positive(V::load(output.as_ptr().add(at))),
            }
        }
    }

    /// Finishes values in place.
    pub(crate) fn apply(&self, values: &mut [f32]) {
        match self {
            Finish::Keep => {}
            Finish::Relu => activation::relu_forward(values),
            Finish::Where(output) => activation::relu_backward(output, values),
        }
    }

    /// Asserts that every value of a result of this length has its place.
    pub(crate) fn check(&self, length: usize) {
        if let Finish::Where(output) = self {
            assert!(output.len() >= length);
        }
    }
}
