//! Sums of activations, for residual connections and gradients that meet.

multiversion! {
    /// `sum = left + right`, all of the same length.
    pub fn add(left: &[f32], right: &[f32], sum: &mut [f32]) {
        assert_eq!(left.len(), sum.len());
        assert_eq!(right.len(), sum.len());
        for ((sum, left), right) in sum.iter_mut().zip(left).zip(right) {
            *sum = left + right;
        }
    }
}

multiversion! {
    /// `into += from`, both of the same length: one more term of a sum, forward or backward.
    pub fn accumulate(from: &[f32], into: &mut [f32]) {
        assert_eq!(from.len(), into.len());
        for (into, from) in into.iter_mut().zip(from) {
            *into += from;
        }
    }
}

multiversion! {
    /// `values *= factor`.
    pub fn scale(values: &mut [f32], factor: f32) {
        for value in values {
            *value *= factor;
        }
    }
}

multiversion! {
    /// The sum of all values, in sixteen partial sums that are added up in order.
    pub fn sum(values: &[f32]) -> f32 {
        let mut sums = [0.0f32; 16];
        let chunks = values.chunks_exact(16);
        let rest: f32 = chunks.remainder().iter().sum();
        for chunk in chunks {
            for (sum, value) in sums.iter_mut().zip(chunk) {
                *sum += value;
            }
        }
        sums.iter().sum::<f32>() + rest
    }
}
