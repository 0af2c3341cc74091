//! Every parameter and MAC count of the zoo, to the unit.

use skinny_network::{Init, Network, Operation, Role, Source, zoo_names, zoo_text};

/// Weights per layer in order, biases, MACs per image, output.
struct Counts {
    name: &'static str,
    weights: &'static [(&'static str, u64)],
    biases: u64,
    total: u64,
    macs: u64,
    classes: usize,
}

const COUNTS: &[Counts] = &[
    Counts {
        name: "lenet-300-100",
        weights: &[("fc1", 235_200), ("fc2", 30_000), ("fc3", 1_000)],
        biases: 410,
        total: 266_610,
        macs: 266_200,
        classes: 10,
    },
    Counts {
        name: "lenet5",
        weights: &[
            ("conv1", 500),
            ("conv2", 25_000),
            ("fc1", 400_000),
            ("fc2", 5_000),
        ],
        biases: 580,
        total: 431_080,
        macs: 2_293_000,
        classes: 10,
    },
    Counts {
        name: "nin-mnist",
        weights: &[
            ("conv1", 2_400),
            ("cccp1", 6_144),
            ("cccp2", 3_072),
            ("conv2", 153_600),
            ("cccp3", 12_288),
            ("cccp4", 4_608),
            ("conv3", 153_600),
            ("cccp5", 12_288),
            ("cccp6", 960),
        ],
        biases: 714,
        total: 349_674,
        macs: 50_699_712,
        classes: 10,
    },
    Counts {
        name: "nin-cifar10",
        weights: &[
            ("conv1", 14_400),
            ("cccp1", 30_720),
            ("cccp2", 15_360),
            ("conv2", 460_800),
            ("cccp3", 36_864),
            ("cccp4", 36_864),
            ("conv3", 331_776),
            ("cccp5", 36_864),
            ("cccp6", 1_920),
        ],
        biases: 1_418,
        total: 966_986,
        macs: 222_486_528,
        classes: 10,
    },
    Counts {
        name: "nin-cifar100",
        weights: &[
            ("conv1", 14_400),
            ("cccp1", 30_720),
            ("cccp2", 15_360),
            ("conv2", 460_800),
            ("cccp3", 36_864),
            ("cccp4", 36_864),
            ("conv3", 331_776),
            ("cccp5", 36_864),
            ("cccp6", 19_200),
        ],
        biases: 1_508,
        total: 984_356,
        // Ninety more outputs of the last 1x1 convolution at 8x8 positions.
        macs: 222_486_528 + 90 * 192 * 64,
        classes: 100,
    },
    Counts {
        name: "nin-imagenet",
        weights: &[
            ("conv1", 34_848),
            ("cccp1", 9_216),
            ("cccp2", 9_216),
            ("conv2", 614_400),
            ("cccp3", 65_536),
            ("cccp4", 65_536),
            ("conv3", 884_736),
            ("cccp5", 147_456),
            ("cccp6", 147_456),
            ("conv4", 3_538_944),
            ("cccp7", 1_048_576),
            ("cccp8", 1_024_000),
        ],
        biases: 5_256,
        total: 7_595_176,
        // 54x54, 27x27, 13x13 and 6x6 positions of the four blocks.
        macs: 53_280 * 2_916 + 745_472 * 729 + 1_179_648 * 169 + 5_611_520 * 36,
        classes: 1000,
    },
    Counts {
        name: "alexnet",
        weights: ALEXNET,
        biases: 10_568,
        total: 60_965_224,
        macs: 724_406_816,
        classes: 1000,
    },
    Counts {
        name: "caffenet",
        weights: ALEXNET,
        biases: 10_568,
        total: 60_965_224,
        macs: 724_406_816,
        classes: 1000,
    },
];

const ALEXNET: &[(&str, u64)] = &[
    ("conv1", 34_848),
    ("conv2", 307_200),
    ("conv3", 884_736),
    ("conv4", 663_552),
    ("conv5", 442_368),
    ("fc6", 37_748_736),
    ("fc7", 16_777_216),
    ("fc8", 4_096_000),
];

#[test]
fn counts_are_exact() {
    for counts in COUNTS {
        let graph = Network::load(counts.name).unwrap().graph().unwrap();
        let of = |role: Role| {
            graph
                .parameters
                .iter()
                .filter(move |parameter| parameter.role == role)
        };
        let weights: Vec<(&str, u64)> = of(Role::Weight)
            .map(|parameter| {
                (
                    parameter.name.strip_suffix(".weight").unwrap(),
                    parameter.len() as u64,
                )
            })
            .collect();
        assert_eq!(weights, counts.weights, "{}", counts.name);
        assert_eq!(
            graph.weight_count(),
            counts
                .weights
                .iter()
                .map(|(_, weights)| weights)
                .sum::<u64>()
        );
        assert_eq!(
            of(Role::Bias).map(|bias| bias.len() as u64).sum::<u64>(),
            counts.biases,
            "{}",
            counts.name
        );
        assert_eq!(graph.parameter_count(), counts.total, "{}", counts.name);
        assert_eq!(graph.macs(), counts.macs, "{}", counts.name);
        assert_eq!(graph.output, [counts.classes, 1, 1], "{}", counts.name);
        assert_eq!(graph.classes(), Some(counts.classes));
    }
}

#[test]
fn the_totals_of_weights_are_those_of_the_literature() {
    for (name, weights) in [
        ("nin-mnist", 348_960),
        ("nin-cifar10", 965_568),
        ("nin-cifar100", 982_848),
        ("alexnet", 60_954_656),
    ] {
        assert_eq!(
            Network::load(name).unwrap().graph().unwrap().weight_count(),
            weights,
            "{name}"
        );
    }
}

/// As PyTorch counts them for the same layers.
#[test]
fn networks_with_batch_norm_have_pytorchs_counts() {
    for (name, parameters, weights, macs) in [
        ("nin-cifar10-bn", 968_394, 965_568, 222_486_528),
        ("wrn-22-2", 1_079_642, 1_076_912, 157_730_048),
        ("vgg11-cifar", 9_228_362, 9_222_848, 152_769_536),
    ] {
        let graph = Network::load(name).unwrap().graph().unwrap();
        let found = (graph.parameter_count(), graph.weight_count(), graph.macs());
        assert_eq!(found, (parameters, weights, macs), "{name}");
        assert_eq!((graph.input, graph.output), ([3, 32, 32], [10, 1, 1]));
    }
}

#[test]
fn resnet20_has_projection_shortcuts() {
    let graph = Network::load("resnet20").unwrap().graph().unwrap();
    assert_eq!(graph.parameter_count(), 272_474);
    // conv1; six 3x3 at 16 channels; per later stage one of half the cost and five whole; two
    // shortcuts; the last layer.
    let macs = 442_368 + 6 * 2_359_296 + 2 * (1_179_648 + 5 * 2_359_296) + 2 * 131_072 + 640;
    assert_eq!(graph.macs(), macs);
    assert_eq!(
        graph
            .nodes
            .iter()
            .filter(|node| node.operation == Operation::Add)
            .count(),
        9
    );
    assert_eq!(
        graph
            .parameters
            .iter()
            .filter(|parameter| !parameter.role.trainable())
            .count(),
        42
    );
    assert_eq!(graph.output, [10, 1, 1]);
}

#[test]
fn pools_round_up() {
    let shape = |name: &str, layer: &str| {
        Network::load(name)
            .unwrap()
            .graph()
            .unwrap()
            .node(layer)
            .unwrap()
            .output_shape
    };
    assert_eq!(shape("nin-cifar10", "pool1"), [96, 16, 16]);
    assert_eq!(shape("nin-cifar10", "pool2"), [192, 8, 8]);
    assert_eq!(shape("nin-mnist", "pool1"), [48, 14, 14]);
    assert_eq!(shape("nin-mnist", "pool2"), [48, 7, 7]);
    assert_eq!(shape("nin-imagenet", "pool3"), [384, 6, 6]);
    assert_eq!(shape("alexnet", "pool5"), [256, 6, 6]);
    assert_eq!(shape("lenet5", "pool2"), [50, 4, 4]);
}

#[test]
fn every_original_network_in_network_ends_with_relu_and_global_pool() {
    let original = |name: &&str| name.starts_with("nin-") && !name.ends_with("-bn");
    for name in zoo_names().filter(original) {
        let network = Network::load(name).unwrap();
        let kinds: Vec<&str> = network
            .layers
            .iter()
            .map(|layer| layer.operation.kind())
            .collect();
        assert_eq!(
            kinds[kinds.len() - 3..],
            ["conv", "relu", "globalpool"],
            "{name}"
        );
        for (layer, next) in network.layers.iter().zip(&network.layers[1..]) {
            assert_eq!(
                layer.operation.kind() == "conv",
                next.operation.kind() == "relu",
                "{name} {}",
                next.name
            );
        }
        assert!(!kinds.contains(&"batchnorm"));
    }
}

#[test]
fn factors_and_initialization_are_those_of_the_original_networks() {
    for name in ["nin-mnist", "nin-cifar10", "nin-cifar100"] {
        let graph = Network::load(name).unwrap().graph().unwrap();
        for parameter in &graph.parameters {
            let lr = match (name, parameter.name.as_str()) {
                (_, "cccp6.weight") | ("nin-cifar10" | "nin-cifar100", "cccp6.bias") => 0.1,
                (_, name) if name.ends_with(".weight") => 1.0,
                _ => 2.0,
            };
            let (decay, init) = match parameter.role {
                Role::Weight => (1.0, Init::Gaussian { std: 0.05 }),
                _ => (0.0, Init::Constant { value: 0.0 }),
            };
            assert_eq!(
                (parameter.lr, parameter.decay, parameter.init),
                (lr, decay, Some(init)),
                "{}",
                parameter.name
            );
        }
    }
    for (name, bias) in [("alexnet", 0.1), ("caffenet", 1.0)] {
        let graph = Network::load(name).unwrap().graph().unwrap();
        for parameter in &graph.parameters {
            let layer = parameter.name.split('.').next().unwrap();
            let (lr, decay, init) = match parameter.role {
                Role::Weight => (
                    1.0,
                    1.0,
                    Init::Gaussian {
                        std: if ["fc6", "fc7"].contains(&layer) {
                            0.005
                        } else {
                            0.01
                        },
                    },
                ),
                _ => {
                    let value = if ["conv2", "conv4", "conv5", "fc6", "fc7"].contains(&layer) {
                        bias
                    } else {
                        0.0
                    };
                    (2.0, 0.0, Init::Constant { value })
                }
            };
            assert_eq!(
                (parameter.lr, parameter.decay, parameter.init),
                (lr, decay, Some(init)),
                "{}",
                parameter.name
            );
        }
    }
    for name in ["lenet5", "lenet-300-100"] {
        let graph = Network::load(name).unwrap().graph().unwrap();
        assert!(
            graph
                .parameters
                .iter()
                .all(|parameter| parameter.init.is_none() && parameter.lr == 1.0)
        );
    }
}

#[test]
fn alexnet_normalizes_before_the_pool_and_caffenet_after() {
    let order = |name: &str| {
        let network = Network::load(name).unwrap();
        network.layers[..8]
            .iter()
            .map(|layer| layer.operation.kind())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        order("alexnet"),
        [
            "conv", "relu", "lrn", "maxpool", "conv", "relu", "lrn", "maxpool"
        ]
    );
    assert_eq!(
        order("caffenet"),
        [
            "conv", "relu", "maxpool", "lrn", "conv", "relu", "maxpool", "lrn"
        ]
    );
}

#[test]
fn grouped_convolutions_see_their_group_only() {
    let graph = Network::load("alexnet").unwrap().graph().unwrap();
    let conv2 = graph.parameter("conv2.weight").unwrap();
    assert_eq!(conv2.shape, [256, 48, 5, 5]);
    assert_eq!((conv2.fan_in, conv2.fan_out), (48 * 25, 128 * 25));
    let fc6 = graph.parameter("fc6.weight").unwrap();
    assert_eq!(
        (fc6.shape.as_slice(), fc6.fan_in, fc6.fan_out),
        ([4096, 9216].as_slice(), 9216, 4096)
    );
}

#[test]
fn every_network_is_named_like_its_file_and_survives_being_written() {
    for name in zoo_names() {
        let network = Network::load(name).unwrap();
        assert_eq!(network.name, name);
        assert_eq!(
            network,
            Network::from_toml(zoo_text(name).unwrap()).unwrap()
        );
        assert_eq!(
            Network::from_toml(&network.to_toml()).unwrap(),
            network,
            "{name}"
        );
        let json = serde_json::to_string(&network).unwrap();
        assert_eq!(
            serde_json::from_str::<Network>(&json).unwrap(),
            network,
            "{name}"
        );
        let graph = network.graph().unwrap();
        assert_eq!(graph.logits(), Source::Node(graph.nodes.len() - 1));
    }
    assert_eq!(zoo_names().count(), 12);
}

#[test]
fn the_documentation_has_the_same_counts() {
    let text = include_str!("../../../docs/networks.md");
    for name in zoo_names() {
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}`")))
            .expect(name);
        let cells: Vec<String> = row
            .split('|')
            .map(|cell| cell.trim().replace(',', ""))
            .collect();
        let graph = Network::load(name).unwrap().graph().unwrap();
        assert_eq!(cells[2], skinny_network::shape_text(&graph.input));
        assert_eq!(
            [&cells[3], &cells[4]],
            [
                &graph.parameter_count().to_string(),
                &graph.macs().to_string()
            ],
            "{name}"
        );
    }
}
