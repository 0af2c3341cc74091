//! Round trips for any description and any tensors; no panic for any input.

use proptest::prelude::*;
use skinny_network::{
    Conv, Factors, Init, Layer, LayerInit, Linear, Network, Operation, Pool, Tensor, Tensors,
};

fn number() -> impl Strategy<Value = f32> {
    prop_oneof![
        any::<f32>().prop_filter("finite", |value| value.is_finite()),
        0.0f32..1.0
    ]
}

fn pair() -> impl Strategy<Value = [usize; 2]> {
    prop_oneof![
        (1usize..6).prop_map(|size| [size; 2]),
        [0usize..6, 0usize..6]
    ]
}

fn pool() -> impl Strategy<Value = Pool> {
    (pair(), pair(), pair(), any::<bool>()).prop_map(|(kernel, stride, padding, ceil)| Pool {
        kernel,
        stride,
        padding,
        ceil,
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    let conv = (1usize..9, pair(), pair(), pair(), 1usize..4, any::<bool>()).prop_map(
        |(out, kernel, stride, padding, groups, bias)| {
            Operation::Conv(Conv {
                out,
                kernel,
                stride,
                padding,
                groups,
                bias,
            })
        },
    );
    prop_oneof![
        conv,
        (1usize..99, any::<bool>()).prop_map(|(out, bias)| Operation::Linear(Linear { out, bias })),
        (number(), number()).prop_map(|(eps, momentum)| Operation::BatchNorm { eps, momentum }),
        Just(Operation::Relu),
        pool().prop_map(Operation::MaxPool),
        pool().prop_map(Operation::AveragePool),
        Just(Operation::GlobalPool),
        (0usize..9, number(), number(), number()).prop_map(|(size, alpha, beta, k)| {
            Operation::Lrn {
                size,
                alpha,
                beta,
                k,
            }
        }),
        number().prop_map(|p| Operation::Dropout { p }),
        Just(Operation::Flatten),
        Just(Operation::Add),
        Just(Operation::Softmax),
    ]
}

fn init() -> impl Strategy<Value = Option<Init>> {
    proptest::option::of(prop_oneof![
        number().prop_map(|value| Init::Constant { value }),
        number().prop_map(|std| Init::Gaussian { std }),
        number().prop_map(|bound| Init::Uniform { bound }),
        Just(Init::He),
        Just(Init::Xavier),
    ])
}

fn factors() -> impl Strategy<Value = Factors> {
    (number(), prop_oneof![Just(1.0), number()]).prop_map(|(weight, bias)| Factors { weight, bias })
}

fn layer() -> impl Strategy<Value = Layer> {
    let inputs = proptest::option::of(proptest::collection::vec("[a-c]{1,2}|input", 0..3));
    (
        any::<String>(),
        inputs,
        operation(),
        init(),
        init(),
        factors(),
        factors(),
    )
        .prop_map(|(name, inputs, operation, weight, bias, lr, decay)| {
            let layer = Layer {
                inputs,
                ..Layer::new(name, operation)
            };
            match layer.operation {
                Operation::Conv(_) | Operation::Linear(_) | Operation::BatchNorm { .. } => Layer {
                    init: LayerInit { weight, bias },
                    lr,
                    decay,
                    ..layer
                },
                _ => layer,
            }
        })
}

fn network() -> impl Strategy<Value = Network> {
    (
        any::<String>(),
        [0usize..40, 0usize..40, 0usize..40],
        proptest::collection::vec(layer(), 0..6),
    )
        .prop_map(|(name, input, layers)| Network {
            name,
            input,
            layers,
        })
}

/// Chains that have a good chance to be valid.
fn chain() -> impl Strategy<Value = Network> {
    proptest::collection::vec(operation(), 1..8).prop_map(|operations| Network {
        name: "chain".to_owned(),
        input: [4, 12, 12],
        layers: operations
            .into_iter()
            .enumerate()
            .map(|(index, operation)| Layer::new(format!("layer{index}"), operation))
            .collect(),
    })
}

fn tensors() -> impl Strategy<Value = Tensors> {
    let tensor = proptest::collection::vec(0usize..5, 0..4).prop_flat_map(|shape| {
        let values = shape.iter().product::<usize>();
        proptest::collection::vec(any::<u32>(), values).prop_map(move |bits| Tensor {
            shape: shape.clone(),
            data: bits.into_iter().map(f32::from_bits).collect(),
        })
    });
    let named = proptest::collection::btree_map("[a-zé\"\\\\.]{0,8}", tensor, 0..5);
    (
        named,
        proptest::collection::btree_map(any::<String>(), any::<String>(), 0..4),
    )
        .prop_map(|(named, metadata)| {
            let mut tensors: Tensors = named.into_iter().collect();
            tensors.metadata = metadata;
            tensors
        })
}

fn bits(tensors: &Tensors) -> Vec<(&str, &[usize], Vec<u32>)> {
    let of = |tensor: &Tensor| tensor.data.iter().map(|value| value.to_bits()).collect();
    tensors
        .iter()
        .map(|(name, tensor)| (name, tensor.shape.as_slice(), of(tensor)))
        .collect()
}

proptest! {
    #[test]
    fn a_description_survives_toml_and_json(network in network()) {
        prop_assert_eq!(&Network::from_toml(&network.to_toml()).unwrap(), &network);
        let json = serde_json::to_string(&network).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Network>(&json).unwrap(), &network);
    }

    #[test]
    fn a_graph_is_consistent_or_an_error_of_one_line(network in prop_oneof![network(), chain()]) {
        match network.graph() {
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
            Ok(graph) => {
                let ranges: usize = graph.nodes.iter().map(|node| node.parameters.len()).sum();
                prop_assert_eq!(ranges, graph.parameters.len());
                prop_assert_eq!(graph.nodes.len(), network.layers.len());
                for (index, node) in graph.nodes.iter().enumerate() {
                    prop_assert!(node.output_shape.iter().all(|extent| *extent > 0));
                    for parameter in graph.parameters_of(node) {
                        prop_assert_eq!(parameter.node, index);
                        prop_assert!(!parameter.is_empty());
                    }
                }
            }
        }
    }

    #[test]
    fn tensors_keep_every_bit(tensors in tensors()) {
        let bytes = tensors.to_bytes().unwrap();
        let read = Tensors::from_bytes(&bytes).unwrap();
        prop_assert_eq!(bits(&read), bits(&tensors));
        prop_assert_eq!(&read.metadata, &tensors.metadata);
        prop_assert_eq!(read.to_bytes().unwrap(), bytes);
    }

    #[test]
    fn torn_and_changed_bytes_never_panic(tensors in tensors(), cut in any::<prop::sample::Index>(), value in any::<u8>()) {
        let bytes = tensors.to_bytes().unwrap();
        let place = cut.index(bytes.len());
        prop_assert!(Tensors::from_bytes(&bytes[..place]).is_err());
        let mut changed = bytes.clone();
        changed[place] = value;
        let _ = Tensors::from_bytes(&changed);
        let mut longer = bytes;
        longer.push(value);
        prop_assert!(Tensors::from_bytes(&longer).is_err());
    }

    #[test]
    fn any_text_is_a_network_or_an_error(text in any::<String>()) {
        let _ = Network::from_toml(&text);
    }
}
