//! The plans of all methods: what they promise for any settings, and what is refused.

use proptest::prelude::*;
use skinny_sparsity::{Duration, Edge, Method, Ramp, SettingsError, SparsitySettings, Timeline};

const METHODS: [Method; 11] = [
    Method::StaticRandom,
    Method::Set,
    Method::Rigl,
    Method::L1,
    Method::SmallDense,
    Method::Dense,
    Method::OneShot,
    Method::Gradual,
    Method::Dsd,
    Method::Iht,
    Method::AcDc,
];

fn timeline(steps_per_epoch: usize, epochs: usize) -> Timeline {
    Timeline {
        steps_per_epoch,
        epochs,
    }
}

fn of(method: Method, density: f64) -> SparsitySettings {
    SparsitySettings {
        density: (method != Method::Dense).then_some(density),
        ..SparsitySettings::of(method)
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_cure() {
    let iht = of(Method::Iht, 0.1);
    let gradual = of(Method::Gradual, 0.1);
    let over = |settings: SparsitySettings, total| {
        settings.plan(timeline(total, 1)).unwrap_err().to_string()
    };
    let cases = [
        (
            over(SparsitySettings::of(Method::Iht), 100),
            "method iht needs density",
        ),
        (
            over(
                SparsitySettings {
                    density: Some(0.1),
                    ..SparsitySettings::of(Method::Dense)
                },
                100,
            ),
            "never thresholds",
        ),
        (
            over(
                SparsitySettings {
                    density: Some(0.0),
                    ..iht.clone()
                },
                100,
            ),
            "density 0 is outside",
        ),
        (
            over(
                SparsitySettings {
                    density: Some(1.5),
                    ..iht.clone()
                },
                100,
            ),
            "density 1.5 is outside",
        ),
        (
            over(
                SparsitySettings {
                    density: Some(f64::NAN),
                    ..iht.clone()
                },
                100,
            ),
            "density NaN is outside",
        ),
        (over(iht.clone(), 0), "the run has no steps"),
        (
            over(
                SparsitySettings {
                    sparse: Some(Duration::Steps(0)),
                    ..iht.clone()
                },
                100,
            ),
            "sparse = \"0it\"",
        ),
        (
            over(
                SparsitySettings {
                    dense: Some(Duration::Percent(0.1)),
                    ..iht.clone()
                },
                100,
            ),
            "dense = \"0.1%\"",
        ),
        (
            over(
                SparsitySettings {
                    final_phase: Some(Duration::Percent(0.0)),
                    ..iht.clone()
                },
                100,
            ),
            "final = \"0%\"",
        ),
        (
            over(
                SparsitySettings {
                    sparse: Some(Duration::Steps(usize::MAX)),
                    ..iht.clone()
                },
                100,
            ),
            "shorten them",
        ),
        (
            over(
                SparsitySettings {
                    final_thresholds: Some(0),
                    ..iht.clone()
                },
                100,
            ),
            "final_thresholds = 0",
        ),
        (
            over(
                SparsitySettings {
                    final_thresholds: Some(2),
                    ..iht.clone()
                },
                100,
            ),
            "final_thresholds does nothing",
        ),
        (
            over(
                SparsitySettings {
                    start_density: Some(0.5),
                    ..iht.clone()
                },
                100,
            ),
            "start_density does nothing",
        ),
        (
            over(
                SparsitySettings {
                    final_thresholds: Some(usize::MAX),
                    ramp: Some(Ramp::Cubic),
                    ..iht.clone()
                },
                100,
            ),
            "do not fit into",
        ),
        (
            over(
                SparsitySettings {
                    start_density: Some(0.05),
                    ramp: Some(Ramp::Cubic),
                    ..iht.clone()
                },
                100,
            ),
            "start_density = 0.05 is outside",
        ),
        (
            over(
                SparsitySettings {
                    thresholds: Some(usize::MAX),
                    ..gradual.clone()
                },
                100,
            ),
            "do not fit into",
        ),
        (
            over(
                SparsitySettings {
                    thresholds: Some(0),
                    ..gradual.clone()
                },
                100,
            ),
            "thresholds = 0",
        ),
        (
            over(
                SparsitySettings {
                    ramp: Some(Ramp::Constant),
                    ..gradual
                },
                100,
            ),
            "thresholds does nothing",
        ),
        (
            over(
                SparsitySettings {
                    warmup: Some(Duration::Percent(100.0)),
                    ..of(Method::OneShot, 0.1)
                },
                100,
            ),
            "shorten them",
        ),
        (
            over(
                SparsitySettings {
                    sparse: Some(Duration::Percent(67.0)),
                    ..of(Method::Dsd, 0.1)
                },
                100,
            ),
            "shorten them",
        ),
    ];
    for (error, expected) in cases {
        assert!(error.contains(expected), "{error}, not {expected}");
    }
}

#[test]
fn presets_stay_valid_when_the_number_of_epochs_changes() {
    for method in METHODS {
        for epochs in 1..=200 {
            for steps_per_epoch in [100, 469] {
                let plan = of(method, 0.1).plan(timeline(steps_per_epoch, epochs));
                let plan =
                    plan.unwrap_or_else(|error| panic!("{method}, {epochs} epochs: {error}"));
                assert_eq!(plan.total_steps(), steps_per_epoch * epochs);
                let sparse = !(method.never_sparse() || method == Method::Dsd);
                assert_eq!(plan.final_density(), if sparse { 0.1 } else { 1.0 });
            }
        }
    }
}

proptest! {
    #[test]
    fn iht_keeps_its_promises(
        (warmup, sparse, dense, last) in (0usize..50, 1usize..30, 1usize..30, 1usize..50),
        more in 0usize..200,
        final_thresholds in 1usize..4,
        ramp in prop::sample::select(&[Ramp::Linear, Ramp::Cubic]),
        density in 0.01..0.9f64,
    ) {
        let settings = SparsitySettings {
            warmup: Some(Duration::Steps(warmup)),
            sparse: Some(Duration::Steps(sparse)),
            dense: Some(Duration::Steps(dense)),
            final_phase: Some(Duration::Steps(last)),
            ramp: Some(ramp),
            final_thresholds: Some(final_thresholds),
            ..of(Method::Iht, density)
        };
        let total = warmup + sparse + dense + last + more;
        let plan = settings.plan(timeline(total, 1));
        prop_assume!(!matches!(plan, Err(SettingsError::TooMany { .. })));
        let plan = plan.unwrap();
        prop_assert_eq!(plan.total_steps(), total);
        prop_assert_eq!(plan.final_density(), density);
        let densities: Vec<f64> = plan.thresholds().collect();
        prop_assert!(densities.windows(2).all(|w| w[0] > w[1]));
        let reactivated = plan.edges().iter().rev().find(|(_, edge)| *edge == Edge::Reactivate);
        let closing = total - (reactivated.unwrap().0 + dense);
        prop_assert!(last <= closing && closing < last + sparse + dense);
        let at_density = total - plan.segments().last().unwrap().start;
        prop_assert!(2 * at_density >= closing);
    }
}
