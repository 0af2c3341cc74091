//! Helpers of the tests.

/// Numbers between -1 and 1 that depend on the seed only.
pub fn numbers(length: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..length).map(|_| next()).collect()
}

/// Asserts that every value differs from the reference by at most 1e-5 of the largest reference.
#[track_caller]
pub fn assert_close(values: &[f32], reference: &[f64], what: &str) {
    assert_eq!(values.len(), reference.len(), "{what}");
    let size = reference
        .iter()
        .fold(1e-3, |size: f64, x| size.max(x.abs()));
    for (at, (value, reference)) in values.iter().zip(reference).enumerate() {
        let difference = (f64::from(*value) - reference).abs();
        assert!(
            difference <= 1e-5 * size,
            "{what}: [{at}] is {value}, not {reference}"
        );
    }
}

/// The gradient of `f` at `x` by central differences.
pub fn finite_differences(x: &[f32], step: f32, mut f: impl FnMut(&[f32]) -> f64) -> Vec<f64> {
    let mut x = x.to_vec();
    (0..x.len())
        .map(|at| {
            let old = x[at];
            x[at] = old + step;
            let above = f(&x);
            let width = f64::from(x[at]);
            x[at] = old - step;
            let below = f(&x);
            let width = width - f64::from(x[at]);
            x[at] = old;
            (above - below) / width
        })
        .collect()
}

/// The sum of `weights[i] * values[i]`: a loss whose gradient is `weights`.
pub fn weighted(values: &[f32], weights: &[f32]) -> f64 {
    values
        .iter()
        .zip(weights)
        .map(|(value, weight)| f64::from(*value) * f64::from(*weight))
        .sum()
}
