//! Measuring layers leaves no trace in the network, and says what thresholding by hand says.

use std::sync::atomic::AtomicBool;

use skinny_sparsity::{Structure, project};
use skinny_train::{Engine, Material, RunFolder, Section, Sensitivity, TrainError, Trained};

use crate::small::Place;

fn all(engine: &dyn Engine) -> Vec<Vec<f32>> {
    (0..engine.graph().parameters.len())
        .map(|index| {
            let mut values = Vec::new();
            engine.read(Section::Weights, index, &mut values);
            values
        })
        .collect()
}

#[test]
fn a_measurement_leaves_the_network_as_it_was_and_is_right() {
    for network in ["plain", "normed"] {
        let place = Place::new();
        let recipe = place.recipe(network, super::SGD, "");
        place.run(&recipe, "run", 1);
        let folder = RunFolder::open(&place.path("run")).unwrap();
        let graph = recipe.network().unwrap().graph().unwrap();
        let material = Material::load(&recipe, &graph, &place.roots()).unwrap();
        let trained = || Trained::new(folder.unpacked("last").unwrap(), 48, 1).unwrap();
        let measure = |engine: &mut dyn Engine, densities: &[f64], stop: bool| {
            Sensitivity::measure(
                engine,
                &material,
                &recipe,
                densities,
                None,
                &AtomicBool::new(stop),
                &mut |_| {},
            )
        };
        let mut engine = trained().engine;
        let before = all(&engine);
        let found = measure(&mut engine, &[0.1, 0.5, 0.999], false).unwrap();
        assert!(all(&engine) == before, "{network}: bits have changed");
        assert_eq!(
            measure(&mut engine, &[0.5, 0.1, 0.999], false).unwrap(),
            found
        );
        assert_eq!((found.pictures, found.held_out), (96, true));
        let summary = folder.summary().unwrap().unwrap();
        assert_eq!(Some(found.error), summary.validation_error);
        // Each layer by hand.
        for layer in &found.layers {
            let index = graph
                .parameters
                .iter()
                .position(|p| p.name == layer.name)
                .unwrap();
            let densities: Vec<f64> = layer.points.iter().map(|point| point.density).collect();
            assert!(
                densities.windows(2).all(|pair| pair[0] >= pair[1]),
                "{densities:?}"
            );
            if network == "normed" {
                // Statistics are estimated anew, so a layer that loses almost nothing costs almost nothing.
                assert!((layer.points[0].loss - found.loss).abs() < 0.3, "{layer:?}");
                continue;
            }
            let mut engine = trained().engine;
            let point = layer.points[2];
            let mask = project(
                &before[index],
                &layer.shape,
                Structure::Unstructured,
                point.k,
                None,
            )
            .unwrap();
            assert_eq!(mask.count(), point.k);
            let mut kept = before[index].clone();
            mask.apply(&mut kept);
            engine.write(Section::Weights, index, &kept);
            // A thresholded network measured by the same rule, all other layers at their whole density.
            let own = measure(&mut engine, &[0.999], false).unwrap();
            assert_eq!(
                (own.error, own.loss),
                (point.error, point.loss),
                "{}",
                layer.name
            );
        }
        assert!(matches!(
            measure(&mut engine, &[0.5], true),
            Err(TrainError::Stopped)
        ));
        for wrong in [&[][..], &[0.0], &[1.0], &[f64::NAN], &[0.5, -1.0]] {
            assert!(measure(&mut engine, wrong, false).is_err(), "{wrong:?}");
        }
    }
}
