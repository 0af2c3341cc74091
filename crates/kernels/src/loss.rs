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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers};

    /// Loss and gradient in `f64`, straight from the definition.
    fn reference(
        classes: usize,
        logits: &[f32],
        labels: &[u32],
        smoothing: f64,
    ) -> (f64, Vec<f64>) {
        let (mut loss, mut gradient) = (0.0, Vec::new());
        for (row, label) in logits.chunks(classes).zip(labels) {
            let total: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
            for (class, x) in row.iter().enumerate() {
                let probability = f64::from(*x).exp() / total;
                let here = if class == *label as usize {
                    1.0 - smoothing
                } else {
                    0.0
                };
                let target = here + smoothing / classes as f64;
                loss -= target * probability.ln();
                gradient.push(probability - target);
            }
        }
        (loss, gradient)
    }

    #[test]
    fn loss_gradient_and_hits_match_the_definition() {
        for (images, classes) in [(1, 2), (5, 10), (64, 10), (3, 1000)] {
            for smoothing in [0.0, 0.1, 1.0] {
                let logits: Vec<f32> = numbers(images * classes, 1)
                    .iter()
                    .map(|x| 5.0 * x)
                    .collect();
                let labels: Vec<u32> = (0..images).map(|n| (n * 7 % classes) as u32).collect();
                let mut gradient = vec![f32::NAN; logits.len()];
                let factor = 1.0 / 64.0;
                let sums = cross_entropy(
                    classes,
                    &logits,
                    &labels,
                    smoothing,
                    Some((&mut gradient, factor)),
                );
                let (loss, mut expected) =
                    reference(classes, &logits, &labels, f64::from(smoothing));
                expected.iter_mut().for_each(|g| *g /= 64.0);
                assert!(
                    (sums.loss - loss).abs() < 1e-5 * loss.max(1.0),
                    "{} not {loss}",
                    sums.loss
                );
                assert_close(&gradient, &expected, "gradient");
                let hits = (logits.chunks(classes).zip(&labels))
                    .filter(|(row, label)| row.iter().all(|x| *x <= row[**label as usize]))
                    .count();
                assert_eq!(sums.correct, hits);
                assert_eq!(
                    cross_entropy(classes, &logits, &labels, smoothing, None),
                    sums
                );
            }
        }
    }

    #[test]
    fn huge_logits_stay_finite_and_nan_is_noticed() {
        let mut gradient = [f32::NAN; 4];
        let sums = cross_entropy(
            2,
            &[1e30, -1e30, -1e4, 1e4],
            &[0, 0],
            0.0,
            Some((&mut gradient, 1.0)),
        );
        assert_eq!(
            sums,
            LossSums {
                loss: 2e4,
                correct: 1
            }
        );
        assert_eq!(gradient, [0.0, 0.0, -1.0, 1.0]);
        for logits in [[f32::NAN, 1.0], [1.0, f32::NAN], [f32::INFINITY, 0.0]] {
            let sums = cross_entropy(2, &logits, &[0], 0.1, None);
            assert!(sums.loss.is_nan() && sums.correct == 0, "{logits:?}");
        }
    }

    #[test]
    fn softmax_gives_probabilities() {
        let logits = numbers(4 * 7, 1);
        let mut values = logits.clone();
        softmax(7, &mut values);
        let mut expected = Vec::new();
        for row in logits.chunks(7) {
            let total: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
            expected.extend(row.iter().map(|x| f64::from(*x).exp() / total));
        }
        assert_close(&values, &expected, "softmax");
    }

    #[test]
    fn the_first_of_equals_is_the_largest() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(argmax(&[2.0, 2.0]), 0);
        assert_eq!(cross_entropy(2, &[2.0, 2.0], &[1], 0.0, None).correct, 0);
    }
}
