//! Softmax and the cross-entropy of its output, with label smoothing.

/// What the images of one lane add to the figures of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSums {
    /// Sum of the losses of the images.
    pub loss: f64,
    /// Images whose largest logit is that of their label.
    pub correct: usize,
}

/// The cross-entropy of softmax(`logits`) with the labels, and its gradient.
///
/// `logits` is [images, classes]; the target of an image is `1 - smoothing` at its label plus
/// `smoothing / classes` everywhere (PyTorch's meaning). `gradient`, if wanted, is overwritten with the
/// gradient of the loss times the factor, usually one over the images of the whole batch. The first of equal
/// logits is the largest; an image with a NaN is not correct and makes the loss NaN. A label that is no
/// class is a bug in the caller.
pub fn cross_entropy(
    classes: usize,
    logits: &[f32],
    labels: &[u32],
    smoothing: f32,
    gradient: Option<(&mut [f32], f32)>,
) -> LossSums {
    assert_eq!(logits.len(), labels.len() * classes);
    let mut sums = LossSums::default();
    let mut gradient = gradient;
    if let Some((gradient, _)) = &gradient {
        assert_eq!(gradient.len(), logits.len());
    }
    let (at_label, elsewhere) = (
        1.0 - f64::from(smoothing),
        f64::from(smoothing) / classes.max(1) as f64,
    );
    for (image, (logits, label)) in logits.chunks_exact(classes).zip(labels).enumerate() {
        let label = *label as usize;
        let largest = argmax(logits);
        let top = logits[largest];
        let total: f64 = logits.iter().map(|x| f64::from((x - top).exp())).sum();
        let log_total = total.ln();
        let log = |x: f32| f64::from(x) - f64::from(top) - log_total;
        sums.loss -= at_label * log(logits[label]);
        if smoothing > 0.0 {
            sums.loss -= elsewhere * logits.iter().map(|x| log(*x)).sum::<f64>();
        }
        sums.correct += usize::from(largest == label && !total.is_nan());
        if let Some((gradient, factor)) = &mut gradient {
            let gradient = &mut gradient[image * classes..(image + 1) * classes];
            for (number, (gradient, x)) in gradient.iter_mut().zip(logits).enumerate() {
                let target = elsewhere + if number == label { at_label } else { 0.0 };
                let probability = f64::from((x - top).exp()) / total;
                *gradient = ((probability - target) * f64::from(*factor)) as f32;
            }
        }
    }
    sums
}

/// Replaces every row of `values`, [images, classes], by its softmax.
pub fn softmax(classes: usize, values: &mut [f32]) {
    assert!(classes > 0 && values.len().is_multiple_of(classes));
    for row in values.chunks_exact_mut(classes) {
        let top = row[argmax(row)];
        let mut total = 0.0;
        for x in &mut *row {
            *x = (*x - top).exp();
            total += f64::from(*x);
        }
        for x in row {
            *x = (f64::from(*x) / total) as f32;
        }
    }
}

/// The position of the largest value, the first one of equals; NaN is never larger.
pub fn argmax(values: &[f32]) -> usize {
    let mut largest = 0;
    for (number, value) in values.iter().enumerate() {
        if *value > values[largest] {
            largest = number;
        }
    }
    largest
}
