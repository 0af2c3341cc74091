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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn sums_and_products_match_plain_loops() {
        for length in [0, 1, 15, 16, 17, 100] {
            let (left, right) = (numbers(length, 1), numbers(length, 2));
            let mut total = vec![f32::NAN; length];
            add(&left, &right, &mut total);
            let mut grown = left.clone();
            accumulate(&right, &mut grown);
            let mut scaled = left.clone();
            scale(&mut scaled, 0.25);
            for at in 0..length {
                assert_eq!(total[at], left[at] + right[at]);
                assert_eq!(grown[at], total[at]);
                assert_eq!(scaled[at], left[at] * 0.25);
            }
            let reference: f64 = left.iter().map(|x| f64::from(*x)).sum();
            assert!((f64::from(sum(&left)) - reference).abs() < 1e-5);
        }
    }
}
