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
