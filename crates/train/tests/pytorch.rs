//! The CPU engine against PyTorch: losses, gradients, weights, averages and running statistics for every layer
//! type, update rule and zoo network, from the fixtures that `scripts/pytorch_fixtures.py` writes.

mod support;

use skinny_network::{Graph, zoo_names};
use skinny_train::{CpuEngine, EngineSettings, Optimizer};
use support::compare::differences;
use support::fixture::{self, Case};

fn agree(prefix: &str) {
    let found: Vec<String> = fixture::cases(prefix)
        .iter()
        .flat_map(|case| differences(case, CpuEngine::new))
        .collect();
    assert!(
        found.is_empty(),
        "{} differences from PyTorch:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn every_layer_type_agrees() {
    agree("layer-");
}

#[test]
fn every_update_rule_agrees() {
    agree("optimizer-");
}

#[test]
fn lenets_agree() {
    agree("zoo-lenet");
}

#[test]
fn nin_for_mnist_agrees() {
    agree("zoo-nin-mnist");
}

#[test]
fn nins_for_cifar_agree() {
    agree("zoo-nin-cifar");
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes without optimization")]
fn nin_for_imagenet_agrees() {
    agree("zoo-nin-imagenet");
}

#[test]
fn resnet20_agrees() {
    agree("zoo-resnet20");
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes without optimization")]
fn alexnet_agrees() {
    agree("zoo-alexnet");
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes without optimization")]
fn caffenet_agrees() {
    agree("zoo-caffenet");
}

#[test]
fn generated_values_are_those_of_the_script() {
    for case in fixture::cases("") {
        let graph = case.graph();
        let images = case.images(&graph, 0);
        assert_eq!(
            images[..case.input_check.len()],
            case.input_check,
            "{}",
            case.name
        );
        assert_eq!(case.labels(0), case.labels_check, "{}", case.name);
        for tensor in &case.parameters {
            let length = tensor.check.len();
            let values =
                support::reference::values(&tensor.name, length, tensor.scale, tensor.offset);
            assert_eq!(values, tensor.check, "{}: {}", case.name, tensor.name);
        }
    }
}

#[test]
fn fixtures_describe_the_networks() {
    for case in fixture::cases("") {
        let graph = case.graph();
        assert_eq!(
            graph.output.iter().product::<usize>(),
            case.classes,
            "{}",
            case.name
        );
        assert_eq!(case.learning_rates.len(), case.steps, "{}", case.name);
        assert_eq!(
            graph.parameters.len(),
            case.parameters.len(),
            "{}",
            case.name
        );
        for parameter in &graph.parameters {
            let tensor = case.parameter(&parameter.name);
            assert_eq!(
                parameter.shape, tensor.shape,
                "{}: {}",
                case.name, parameter.name
            );
            assert_eq!(
                parameter.role.trainable(),
                tensor.gradient.is_some(),
                "{}",
                parameter.name
            );
        }
    }
}

/// Closer than this, float32 may take the other branch of a ReLU and the comparison says nothing.
#[test]
fn no_fixture_comes_close_to_another_branch() {
    for case in fixture::cases("") {
        assert!(
            case.margin.is_none_or(|margin| margin > 1e-6),
            "{}: {:?}",
            case.name,
            case.margin
        );
    }
}

#[test]
fn every_network_of_the_zoo_has_a_fixture() {
    for name in zoo_names() {
        assert_eq!(fixture::case(&format!("zoo-{name}")).network, name);
    }
}

/// The number of differences that are found if the engine is built with other settings than the case asks for.
fn found_with(case: &Case, change: impl Fn(&mut EngineSettings)) -> usize {
    let make = |graph: Graph, mut settings: EngineSettings, weights: Vec<Vec<f32>>| {
        change(&mut settings);
        CpuEngine::new(graph, settings, weights)
    };
    differences(case, make).len()
}

type Change = fn(&mut EngineSettings);

#[test]
fn wrong_settings_are_found() {
    let wrong: [(&str, Change); 9] = [
        ("optimizer-caffe-sgd", |s| {
            s.optimizer = Optimizer::Sgd {
                momentum: 0.9,
                weight_decay: 0.05,
                nesterov: false,
            };
        }),
        ("optimizer-sgd-nesterov", |s| {
            s.optimizer = Optimizer::Sgd {
                momentum: 0.9,
                weight_decay: 0.05,
                nesterov: false,
            };
        }),
        ("optimizer-sgd-weight-decay", |s| {
            s.optimizer = Optimizer::Sgd {
                momentum: 0.9,
                weight_decay: 0.0499,
                nesterov: false,
            };
        }),
        ("optimizer-adamw", |s| {
            s.optimizer = Optimizer::Adamw {
                beta1: 0.9,
                beta2: 0.998,
                epsilon: 1e-4,
                weight_decay: 0.1,
            };
        }),
        ("optimizer-label-smoothing", |s| s.label_smoothing = 0.101),
        ("optimizer-clip-norm", |s| s.clip_norm = Some(0.2501)),
        ("optimizer-ema", |s| s.ema = Some(0.8001)),
        ("optimizer-factors-sgd", |s| {
            s.factors.iter_mut().for_each(|f| f.lr = 1.0)
        }),
        ("optimizer-factors-sgd", |s| {
            s.factors.iter_mut().for_each(|f| f.decay = 1.0)
        }),
    ];
    for (name, change) in wrong {
        let case = fixture::case(name);
        assert_eq!(found_with(&case, |_| ()), 0, "{name}");
        assert!(
            found_with(&case, change) > 0,
            "{name}: the change is not seen"
        );
    }
}

#[test]
fn a_wrong_network_is_found() {
    let case = fixture::case("layer-batchnorm");
    let make = |mut graph: Graph, settings: EngineSettings, weights: Vec<Vec<f32>>| {
        for node in &mut graph.nodes {
            if let skinny_network::Operation::BatchNorm { momentum, .. } = &mut node.operation {
                *momentum *= 1.001;
            }
        }
        CpuEngine::new(graph, settings, weights)
    };
    let found = differences(&case, make);
    assert!(
        found
            .iter()
            .all(|line| line.contains("running") || line.contains("after")),
        "{found:#?}"
    );
    assert!(!found.is_empty());
}
