//! The projection against its definition, on random layers of every structure.

use proptest::prelude::*;
use skinny_sparsity::{Mask, Score, Structure, project};
use std::cmp::Reverse;

const STRUCTURES: [Structure; 8] = [
    Structure::Unstructured,
    Structure::NOfM { n: 2, m: 4 },
    Structure::NOfM { n: 1, m: 3 },
    Structure::NOfM { n: 5, m: 20 },
    Structure::Block {
        rows: 4,
        columns: 1,
    },
    Structure::Block {
        rows: 2,
        columns: 3,
    },
    Structure::Block {
        rows: 1,
        columns: 1,
    },
    Structure::Filter,
];

/// Rows and columns of the matrix as which a layer is seen.
fn matrix(shape: &[usize]) -> (usize, usize) {
    (shape[0], shape[1..].iter().product())
}

/// The definition, by sorting.
fn reference(
    score: &[f32],
    (rows, columns): (usize, usize),
    structure: Structure,
    k: usize,
    support: &Mask,
) -> Mask {
    let mut mask = Mask::none(score.len());
    let highest = |mut indices: Vec<usize>, count: usize| {
        indices.sort_by(|&a, &b| score[b].abs().total_cmp(&score[a].abs()).then(a.cmp(&b)));
        indices.truncate(count);
        indices
    };
    if let Structure::NOfM { n, m } = structure {
        for row in 0..rows {
            let columns: Vec<usize> = (0..columns).map(|c| row * columns + c).collect();
            for group in columns.chunks(m) {
                let kept = (group.len() as f64 * n as f64 / m as f64).ceil() as usize;
                let ranked = group.iter().copied().filter(|&i| support.get(i)).collect();
                highest(ranked, kept)
                    .iter()
                    .for_each(|&i| mask.set(i, true));
            }
        }
        return mask;
    }
    let (r, c) = match structure {
        Structure::Block { rows, columns } => (rows, columns),
        Structure::Filter => (1, columns),
        _ => (1, 1),
    };
    let mut tiles = std::collections::BTreeMap::<(usize, usize), Vec<usize>>::new();
    for i in support {
        let (row, column) = (i / columns, i % columns);
        tiles.entry((row / r, column / c)).or_default().push(i);
    }
    let mut tiles: Vec<Vec<usize>> = tiles.into_values().collect();
    tiles.sort_by_key(|t| Reverse(t.iter().map(|&i| score[i].abs() as u64).sum::<u64>()));
    let mut left = k;
    for tile in tiles {
        for i in highest(tile, left) {
            mask.set(i, true);
            left -= 1;
        }
    }
    mask
}

fn layer() -> impl Strategy<Value = (Vec<usize>, Vec<f32>, Structure, f64)> {
    let shape = prop::collection::vec(1usize..7, 1..5);
    (shape, prop::sample::select(&STRUCTURES), 0.001..1.0f64).prop_flat_map(
        |(shape, structure, density)| {
            let weights: usize = shape.iter().product();
            // Few different values, so that most ties are real.
            let score = prop::collection::vec((0u8..6, any::<bool>()), weights).prop_map(|v| {
                v.into_iter()
                    .map(|(s, negative)| {
                        if negative {
                            -f32::from(s)
                        } else {
                            f32::from(s)
                        }
                    })
                    .collect()
            });
            (Just(shape), score, Just(structure), Just(density))
        },
    )
}

proptest! {
    #[test]
    fn equals_the_definition((shape, score, structure, density) in layer()) {
        let k = structure.resolve_k(&shape, density);
        prop_assume!(k > 0);
        let mask = project(&score, &shape, structure, k, None).unwrap();
        prop_assert_eq!(mask.count(), k);
        let all = Mask::all(score.len());
        let expected = if k == score.len() { all } else { reference(&score, matrix(&shape), structure, k, &all) };
        prop_assert_eq!(&mask, &expected);

        // Idempotent: its own support is all that is left, and what is kept of it is the same.
        prop_assert_eq!(&project(&score, &shape, structure, k, Some(&mask)).unwrap(), &mask);
        let mut hard = score.clone();
        mask.apply(&mut hard);
        prop_assert_eq!(&project(&hard, &shape, structure, k, Some(&mask)).unwrap(), &mask);
    }

    #[test]
    fn any_k_is_exact_nested_and_within_the_support((shape, score, structure, density) in layer(), bits in any::<u64>()) {
        prop_assume!(structure.fixed_density().is_none());
        let support = Mask::from_fn(score.len(), |i| bits >> (i % 61) & 1 == 1);
        let k = (density * support.count() as f64).ceil() as usize;
        prop_assume!(k > 0);
        let mask = project(&score, &shape, structure, k, Some(&support)).unwrap();
        prop_assert_eq!(mask.count(), k);
        prop_assert!(mask.is_subset(&support));
        prop_assert_eq!(&mask, &reference(&score, matrix(&shape), structure, k, &support));
        if k > 1 {
            let fewer = project(&score, &shape, structure, k - 1, Some(&support)).unwrap();
            prop_assert!(fewer.is_subset(&mask));
            // From a smaller support the same weights are kept, if no tile had to be trimmed.
            if structure == Structure::Unstructured {
                prop_assert_eq!(&project(&score, &shape, structure, k - 1, Some(&mask)).unwrap(), &fewer);
            }
        }
    }

    #[test]
    fn real_scores_equal_a_sort(bits in prop::collection::vec(any::<u32>(), 1..400), pick in any::<prop::sample::Index>()) {
        let score: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).map(|s| if s.is_finite() { s } else { 0.0 }).collect();
        let k = pick.index(score.len()) + 1;
        let mut order: Vec<usize> = (0..score.len()).collect();
        order.sort_by(|&a, &b| score[b].abs().total_cmp(&score[a].abs()).then(a.cmp(&b)));
        let expected = Mask::from_fn(score.len(), |i| order[..k].contains(&i));
        prop_assert_eq!(project(&score, &[score.len()], Structure::Unstructured, k, None).unwrap(), expected);
    }
}

#[test]
#[cfg_attr(target_family = "wasm", ignore = "the target has no threads")]
fn the_same_at_any_number_of_threads() {
    let layers: Vec<(Vec<f32>, Structure)> = (0..24)
        .map(|layer| {
            let seed = Score::Random { seed: Some(7) };
            let score = seed.of(&[0.0; 40 * 30], None, layer).unwrap().into_owned();
            (score, STRUCTURES[layer as usize % STRUCTURES.len()])
        })
        .collect();
    let one = |(score, structure): &(Vec<f32>, Structure)| {
        let k = structure.resolve_k(&[40, 30], 0.3);
        project(score, &[40, 30], *structure, k, None).unwrap()
    };
    let expected: Vec<Mask> = layers.iter().map(one).collect();
    for threads in [2, 3, 8] {
        let masks: Vec<Mask> = std::thread::scope(|scope| {
            let parts = layers.chunks(layers.len().div_ceil(threads));
            let running: Vec<_> = parts
                .map(|part| scope.spawn(move || part.iter().map(one).collect::<Vec<_>>()))
                .collect();
            running
                .into_iter()
                .flat_map(|t| t.join().unwrap())
                .collect()
        });
        assert_eq!(masks, expected, "{threads} threads");
    }
}
