//! The few values that stand best for many: one-dimensional k-means.

/// Rounds of Lloyd's algorithm at most; it mostly stands still before.
const ROUNDS: usize = 200;

/// For each value the place of the nearest in a list, and the list: ascending, of at least one and at most `size` values.
///
/// With at most `size` different values the list holds exactly these. Zeros of either sign are one value.
pub(crate) fn codes(values: &[f32], size: usize) -> (Vec<u32>, Vec<f32>) {
    let mut sorted: Vec<f32> = values.iter().map(|value| value + 0.0).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let list = list(&sorted, size);
    // The nearest of the list is found by where the middles between its neighbours are.
    let middles: Vec<f64> = middles(&list);
    let code = |value: &f32| middles.partition_point(|middle| *middle < f64::from(*value)) as u32;
    (values.iter().map(code).collect(), list)
}

fn middles(list: &[f32]) -> Vec<f64> {
    (list.windows(2))
        .map(|pair| (f64::from(pair[0]) + f64::from(pair[1])) / 2.0)
        .collect()
}

/// The list for sorted values.
fn list(sorted: &[f32], size: usize) -> Vec<f32> {
    let mut different = sorted.to_vec();
    different.dedup();
    if different.len() <= size {
        if different.is_empty() {
            different.push(0.0);
        }
        return different;
    }
    // Sums of values and of their squares up to each place give the mean and error of any run of values.
    let sums: Vec<f64> = running(sorted, |value| value);
    let squares: Vec<f64> = running(sorted, |value| value * value);
    let error = |list: &[f32]| -> f64 {
        let bounds = bounds(sorted, list);
        (bounds.windows(2).zip(list))
            .map(|(run, centre)| {
                let centre = f64::from(*centre);
                let (from, to) = (run[0], run[1]);
                squares[to] - squares[from] - 2.0 * centre * (sums[to] - sums[from])
                    + (to - from) as f64 * centre * centre
            })
            .sum()
    };
    let (low, high) = (f64::from(sorted[0]), f64::from(sorted[sorted.len() - 1]));
    let even: Vec<f32> = (0..size)
        .map(|i| (low + (high - low) * (i as f64 + 0.5) / size as f64) as f32)
        .collect();
    let quantiles: Vec<f32> = (0..size)
        .map(|i| sorted[(2 * i + 1) * sorted.len() / (2 * size)])
        .collect();
    [even, quantiles]
        .into_iter()
        .map(|start| improve(start, sorted, &sums))
        .min_by(|a, b| error(a).total_cmp(&error(b)))
        .expect("two starts")
}

fn running(sorted: &[f32], of: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut sum = 0.0;
    let sums = sorted.iter().map(|value| {
        sum += of(f64::from(*value));
        sum
    });
    [0.0].into_iter().chain(sums).collect()
}

/// Where in the sorted values the runs of each value of the list begin, and the end of the last.
fn bounds(sorted: &[f32], list: &[f32]) -> Vec<usize> {
    let inner = middles(list)
        .into_iter()
        .map(|middle| sorted.partition_point(|value| f64::from(*value) <= middle));
    [0].into_iter().chain(inner).chain([sorted.len()]).collect()
}

/// Lloyd's algorithm: every value of the list moves to the mean of those it stands for.
fn improve(mut list: Vec<f32>, sorted: &[f32], sums: &[f64]) -> Vec<f32> {
    for _ in 0..ROUNDS {
        let bounds = bounds(sorted, &list);
        let mut moved = false;
        for (centre, run) in list.iter_mut().zip(bounds.windows(2)) {
            if run[0] < run[1] {
                let mean = ((sums[run[1]] - sums[run[0]]) / (run[1] - run[0]) as f64) as f32;
                moved |= mean != *centre;
                *centre = mean;
            }
        }
        if !moved {
            break;
        }
        list.sort_unstable_by(f32::total_cmp);
    }
    list.dedup();
    list
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_value_gets_the_nearest_of_the_list(values in prop::collection::vec(-2.0f32..2.0, 0..600)) {
            let (codes, list) = codes(&values, 16);
            prop_assert!(!list.is_empty() && list.len() <= 16);
            prop_assert!(list.is_sorted());
            for (value, code) in values.iter().zip(codes) {
                let distance = (list[code as usize] - value).abs();
                for other in &list {
                    prop_assert!(distance <= (other - value).abs() + 1e-6);
                }
            }
        }
    }

    #[test]
    fn few_values_are_kept_exactly() {
        let values = [0.5f32, -1.0, 0.5, 3.25, 0.0];
        let (codes, list) = codes(&values, 4);
        assert_eq!(list, [-1.0, 0.0, 0.5, 3.25]);
        assert_eq!(codes, [2, 0, 2, 3, 1]);
    }

    #[test]
    fn clusters_are_found() {
        let values: Vec<f32> = (0..1000)
            .map(|i| [-1.0, 0.25, 2.0][i % 3] + 1e-3 * ((i * 37 % 100) as f32 - 49.5) / 50.0)
            .collect();
        let (_, list) = codes(&values, 3);
        for (found, centre) in list.iter().zip([-1.0, 0.25, 2.0]) {
            assert!((found - centre).abs() < 1e-4, "{list:?}");
        }
    }
}
