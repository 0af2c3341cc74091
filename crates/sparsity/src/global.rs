//! The global budget: one ranking over all layers.

use crate::Ranked;
use crate::select::{Single, cut};

/// The number of weights of each layer among the `k` highest scores of all layers together, if each layer keeps at least its floor;
/// ties go to the first layer. Exactly `k` together.
///
/// Floors must not exceed their layers and together not `k`; `k` must not exceed all ranked weights; scores must be finite.
pub(crate) fn global(layers: &[Ranked], floors: &[usize], k: usize) -> Vec<usize> {
    let pools: Vec<Single> = layers
        .iter()
        .map(|layer| Single {
            score: layer.score,
            support: layer.support,
        })
        .collect();
    let cut = cut(&pools, floors, k);
    let mut kept: Vec<usize> = (0..layers.len())
        .map(|i| floors[i].max(cut.above[i]))
        .collect();
    let mut left = k - kept.iter().sum::<usize>();
    for (i, kept) in kept.iter_mut().enumerate() {
        // A floor may already have taken some of the ties.
        let ties = (cut.above[i] + cut.at[i]).saturating_sub(*kept).min(left);
        *kept += ties;
        left -= ties;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranked(score: &[f32]) -> Ranked<'_> {
        Ranked {
            score,
            support: None,
        }
    }

    #[test]
    fn by_hand() {
        let layers = [
            ranked(&[9.0, -8.0, 1.0]),
            ranked(&[7.0, 1.0]),
            ranked(&[0.5, 0.4]),
        ];
        assert_eq!(global(&layers, &[0, 0, 0], 3), [2, 1, 0]);
        assert_eq!(global(&layers, &[1, 1, 1], 3), [1, 1, 1]);
        assert_eq!(global(&layers, &[1, 1, 1], 4), [2, 1, 1]);
        // Two scores of 1 tie for one place.
        assert_eq!(global(&layers, &[1, 1, 1], 5), [3, 1, 1]);
        assert_eq!(global(&layers, &[0, 0, 2], 7), [3, 2, 2]);
    }

    proptest! {
        #[test]
        fn equals_a_greedy_reference(
            scores in prop::collection::vec(prop::collection::vec(0u8..12, 1..20), 1..5),
            floor in 0usize..3,
            pick in any::<prop::sample::Index>(),
        ) {
            let scores: Vec<Vec<f32>> = scores.iter().map(|l| l.iter().map(|&s| f32::from(s)).collect()).collect();
            let floors: Vec<usize> = scores.iter().map(|l| floor.min(l.len())).collect();
            let (least, most) = (floors.iter().sum::<usize>(), scores.iter().map(Vec::len).sum::<usize>());
            let k = least + pick.index(most - least + 1);
            prop_assume!(k > 0);

            // Every layer's floor first, then the best of what is left, one at a time.
            let sorted: Vec<Vec<f32>> = scores.iter().map(|l| {
                let mut l = l.clone();
                l.sort_by(|a, b| b.total_cmp(a));
                l
            }).collect();
            let mut expected = floors.clone();
            for _ in least..k {
                let best = (0..sorted.len())
                    .filter(|&i| expected[i] < sorted[i].len())
                    .reduce(|b, i| if sorted[i][expected[i]] > sorted[b][expected[b]] { i } else { b });
                expected[best.unwrap()] += 1;
            }
            let layers: Vec<Ranked> = scores.iter().map(|l| ranked(l)).collect();
            prop_assert_eq!(global(&layers, &floors, k), expected);
        }
    }
}
