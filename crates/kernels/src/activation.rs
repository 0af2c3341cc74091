//! The rectifier.

multiversion! {
    /// `x = max(x, 0)` in place; NaN stays NaN, so that a diverged network is noticed.
    pub fn relu_forward(values: &mut [f32]) {
        for value in values {
            *value = if *value <= 0.0 { 0.0 } else { *value };
        }
    }
}

multiversion! {
    /// `gradient = 0` where the rectifier's `output` is not positive, in place.
    ///
    /// `gradient` comes in as the gradient of the output and leaves as that of the input. Both have the
    /// same length.
    pub fn relu_backward(output: &[f32], gradient: &mut [f32]) {
        assert_eq!(output.len(), gradient.len());
        for (gradient, output) in gradient.iter_mut().zip(output) {
            *gradient = if *output > 0.0 { *gradient } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_values_become_zero_and_nan_stays() {
        let mut values = [
            -1.0,
            -0.0,
            0.0,
            0.5,
            f32::NAN,
            f32::NEG_INFINITY,
            f32::INFINITY,
            3.0,
            -2.0,
        ];
        relu_forward(&mut values);
        assert!(values[4].is_nan());
        values[4] = 7.0;
        assert_eq!(
            values,
            [0.0, 0.0, 0.0, 0.5, 7.0, 0.0, f32::INFINITY, 3.0, 0.0]
        );
        assert!(values.iter().all(|value| value.is_sign_positive()));
    }

    #[test]
    fn the_gradient_passes_where_the_output_is_positive() {
        for length in [0, 1, 7, 33] {
            let mut output = crate::testing::numbers(length, 1);
            relu_forward(&mut output);
            let above = crate::testing::numbers(length, 2);
            let mut gradient = above.clone();
            relu_backward(&output, &mut gradient);
            for at in 0..length {
                assert_eq!(gradient[at], if output[at] > 0.0 { above[at] } else { 0.0 });
            }
        }
    }
}
