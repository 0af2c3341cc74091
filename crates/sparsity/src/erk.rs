//! The Erdős–Rényi kernel budget (Evci et al. 2020).

/// The number of weights that each layer keeps so that all keep `k` together and small layers are kept denser.
///
/// A layer's density is proportional to (sum of the dimensions of its shape) / (their product), but at most 1; so it keeps
/// `min(weights, ε · sum)` weights, with one ε for all that makes the total `k`. Layers that reach density 1 leave the rest to the others.
///
/// Numbers are rounded by Webster's method: each is `ε · sum` rounded to nearest, ties to the first layer. The total is exact and
/// no layer's number ever rises when `k` falls, so that thresholds with falling `k` nest.
///
/// `layers` holds the sum of dimensions and the number of weights of each layer; `k` is at most all weights.
pub(crate) fn erk(layers: &[(usize, usize)], k: usize) -> Vec<usize> {
    let share = |epsilon: f64| -> Vec<usize> {
        layers
            .iter()
            .map(|&(sum, weights)| ((epsilon * sum as f64).round() as usize).min(weights))
            .collect()
    };
    let total = |kept: &[usize]| kept.iter().sum::<usize>();

    // Bisection for the largest ε that does not exceed the total. 1 + the largest layer is beyond every cap.
    let most = layers.iter().map(|&(_, weights)| weights).max();
    let (mut low, mut high) = (0.0, most.unwrap_or(0) as f64 + 1.0);
    while low < high {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        match total(&share(middle)) <= k {
            true => low = middle,
            false => high = middle,
        }
    }

    // What is left are layers that all reach their next weight at this very ε.
    let mut kept = share(low);
    let next = |kept: &[usize], layer: usize| layers[layer].0 as f64 / (kept[layer] as f64 + 0.5);
    for _ in total(&kept)..k {
        let open = (0..layers.len()).filter(|&layer| kept[layer] < layers[layer].1);
        let best = open.reduce(|best, layer| match next(&kept, layer) > next(&kept, best) {
            true => layer,
            false => best,
        });
        match best {
            Some(layer) => kept[layer] += 1,
            None => break,
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sum of dimensions and weights of conv1 20x1x5x5, conv2 50x20x5x5, fc1 500x800 and fc2 10x500.
    const LENET5: [(usize, usize); 4] = [(31, 500), (80, 25_000), (1300, 400_000), (510, 5_000)];

    #[test]
    fn lenet5_by_hand() {
        // 43,050 / 1921 = 22.41 per dimension would give conv1 695 of 500 and fc2 11,429 of 5,000 weights. Both are dense; for the rest
        // ε = (43,050 − 5,500) / 1,380 = 27.21014: conv2 2,176.8 and fc1 35,373.2.
        assert_eq!(erk(&LENET5, 43_050), [500, 2_177, 35_373, 5_000]);
        // 4,305 / 1921 = 2.241021: 69.5, 179.3, 2,913.3 and 1,142.9, no layer dense.
        assert_eq!(erk(&LENET5, 4_305), [69, 179, 2_914, 1_143]);
        assert_eq!(erk(&LENET5, 430_500), [500, 25_000, 400_000, 5_000]);
        assert_eq!(erk(&LENET5, 0), [0, 0, 0, 0]);
    }

    #[test]
    fn equal_layers_share_a_remainder_from_the_first() {
        assert_eq!(erk(&[(7, 12), (7, 12), (7, 12)], 20), [7, 7, 6]);
        assert_eq!(erk(&[(7, 12), (7, 12), (7, 12)], 35), [12, 12, 11]);
        assert_eq!(erk(&[], 0), [0; 0]);
    }

    proptest! {
        #[test]
        fn exact_capped_proportional_and_nested(
            layers in prop::collection::vec((1usize..300).prop_flat_map(|sum| (Just(sum), 1usize..5000)), 1..8),
            pick in any::<prop::sample::Index>(),
        ) {
            let weights: usize = layers.iter().map(|l| l.1).sum();
            let k = pick.index(weights) + 1;
            let kept = erk(&layers, k);
            prop_assert_eq!(kept.iter().sum::<usize>(), k);
            let fewer = erk(&layers, k - 1);
            for (i, &(sum, weights)) in layers.iter().enumerate() {
                prop_assert!(kept[i] <= weights && fewer[i] <= kept[i]);
                // Rounded by at most half a weight: the ranges of ε of all layers that are not dense meet.
                for (j, &(other, other_weights)) in layers.iter().enumerate() {
                    if kept[j] < other_weights {
                        let least = (kept[i] as f64 - 0.5) / sum as f64;
                        let most = (kept[j] as f64 + 0.5) / other as f64;
                        prop_assert!(least <= most + 1e-9);
                    }
                }
            }
        }
    }
}
