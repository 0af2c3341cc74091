//! Whole networks against plain loops, at any density and any number of threads.

mod plain;

use plain::{numbers, run, weights};
use skinny_network::{Network, Preprocess, Tensors};
use skinny_runtime::{Model, Options, RuntimeError};

fn model(network: &Network, tensors: &Tensors, options: Options) -> Model {
    Model::new(network, tensors, Preprocess::default(), &options).expect("the model is right")
}

/// Compares every image with the plain loops, and all numbers of threads with each other.
fn check(network: &Network, density: f32, images: usize) {
    let graph = network.graph().expect("the network is right");
    let tensors = weights(network, density, 1);
    let image = graph.input.iter().product::<usize>();
    let input = numbers(images * image, 7);
    let mut first: Option<Vec<f32>> = None;
    for threads in [1, 2, 3] {
        let options = Options {
            threads,
            ..Options::default()
        };
        let model = model(network, &tensors, options);
        // A target without threads runs everything on the caller.
        let possible = if cfg!(target_family = "wasm") {
            1
        } else {
            threads
        };
        assert_eq!(model.threads(), possible);
        assert_eq!(model.macs(), graph.macs());
        let output = model.run(&input).expect("the input is whole images");
        assert_eq!(output.len(), images * model.output_len());
        let first = first.get_or_insert_with(|| output.clone());
        let equal = first
            .iter()
            .zip(&output)
            .all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(equal, "{} differs with {threads} threads", network.name);
        // Alone or among others, an image gives the same.
        let alone = model.run(&input[..image]).expect("one image");
        assert_eq!(alone, output[..alone.len()], "{}", network.name);
    }
    let output = first.expect("there was a run");
    let results = output.chunks_exact(output.len() / images);
    for (input, output) in input.chunks_exact(image).zip(results) {
        let expected = run(&graph, &tensors, input);
        assert_eq!(output.len(), expected.len());
        let size = expected.iter().fold(1e-3f64, |size, x| size.max(x.abs()));
        for (at, (output, expected)) in output.iter().zip(&expected).enumerate() {
            let difference = (f64::from(*output) - expected).abs();
            assert!(
                difference <= 1e-5 * size,
                "{} at density {density}: [{at}] is {output}, not {expected}",
                network.name
            );
        }
    }
}

fn zoo(name: &str, density: f32, images: usize) {
    check(
        &Network::load(name).expect("the zoo has it"),
        density,
        images,
    );
}

#[test]
fn lenets_match_plain_loops() {
    for density in [0.0, 0.05, 0.1, 0.5, 1.0] {
        zoo("lenet5", density, 3);
        zoo("lenet-300-100", density, 2);
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes without optimization")]
fn nins_match_plain_loops() {
    zoo("nin-mnist", 0.25, 2);
    for density in [0.05, 0.1, 0.25, 0.5, 1.0] {
        zoo("nin-cifar10", density, 1);
    }
    zoo("nin-cifar100", 0.1, 3);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes without optimization")]
fn resnet_matches_plain_loops() {
    zoo("resnet20", 0.1, 2);
    zoo("resnet20", 0.25, 1);
    zoo("resnet20", 1.0, 1);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes without optimization")]
fn networks_for_large_pictures_match_plain_loops() {
    zoo("alexnet", 0.1, 1);
    zoo("caffenet", 0.05, 1);
    zoo("nin-imagenet", 0.1, 1);
}

/// Layers of every kind in orders that the zoo does not have.
const ODD: [&str; 6] = [
    // Everything on the input, and a normalization that has nothing to fold into.
    r#"
    name = "odd-1"
    input = [3, 7, 9]
    layers = [
        { name = "drop", type = "dropout" },
        { name = "bn", type = "batchnorm" },
        { name = "relu", type = "relu" },
        { name = "conv", type = "conv", out = 5, kernel = 3, padding = 1, bias = false },
        { name = "bn2", type = "batchnorm" },
        { name = "relu2", type = "relu" },
        { name = "bn3", type = "batchnorm" },
        { name = "drop2", type = "dropout" },
        { name = "relu3", type = "relu" },
    ]"#,
    // A convolution with two readers must keep its negative values and its scale.
    r#"
    name = "odd-2"
    input = [4, 8, 8]
    layers = [
        { name = "a", type = "conv", out = 6, kernel = 1 },
        { name = "drop", type = "dropout" },
        { name = "b", type = "relu" },
        { name = "c", type = "batchnorm", inputs = ["drop"] },
        { name = "d", type = "add", inputs = ["a", "b", "c"] },
        { name = "e", type = "relu" },
        { name = "f", type = "conv", out = 4, kernel = 3, stride = 2, padding = 1, groups = 2 },
        { name = "g", type = "lrn", size = 3 },
        { name = "h", type = "maxpool", kernel = 2, stride = 1, padding = 1 },
    ]"#,
    // Vectors and images in turn.
    r#"
    name = "odd-3"
    input = [2, 6, 6]
    layers = [
        { name = "global", type = "globalpool" },
        { name = "conv", type = "conv", out = 7, kernel = 1 },
        { name = "bn", type = "batchnorm" },
        { name = "flat", type = "flatten" },
        { name = "relu", type = "relu" },
        { name = "linear", type = "linear", out = 19, bias = false },
        { name = "bn2", type = "batchnorm" },
        { name = "relu2", type = "relu" },
        { name = "bn3", type = "batchnorm" },
        { name = "linear2", type = "linear", out = 4 },
        { name = "sum", type = "add", inputs = ["linear2", "linear2"] },
        { name = "soft", type = "softmax" },
    ]"#,
    // A flat input, and a sum that is the output.
    r#"
    name = "odd-4"
    input = [21, 1, 1]
    layers = [
        { name = "relu", type = "relu" },
        { name = "flat", type = "flatten" },
        { name = "linear", type = "linear", out = 21 },
        { name = "add", type = "add", inputs = ["linear", "input"] },
        { name = "drop", type = "dropout" },
    ]"#,
    // A long row, a chain whose middle is read twice, and a stride that leaves values out.
    r#"
    name = "odd-5"
    input = [3, 20, 70]
    layers = [
        { name = "a", type = "conv", out = 8, kernel = [1, 5], padding = [0, 2] },
        { name = "b", type = "conv", out = 8, kernel = 1 },
        { name = "c", type = "conv", out = 8, kernel = 1 },
        { name = "d", type = "relu" },
        { name = "e", type = "conv", out = 8, kernel = 1, groups = 4 },
        { name = "f", type = "add", inputs = ["c", "e"] },
        { name = "g", type = "conv", out = 3, kernel = 1, stride = [3, 2] },
        { name = "h", type = "avgpool", kernel = 3, stride = 2, ceil = true },
    ]"#,
    // Nothing but the input.
    r#"
    name = "odd-6"
    input = [2, 3, 5]
    layers = [{ name = "drop", type = "dropout" }]"#,
];

#[test]
fn odd_networks_match_plain_loops() {
    for text in ODD {
        let network = Network::from_toml(text).expect("the network is right");
        for density in [0.0, 0.3, 1.0] {
            check(&network, density, 4);
        }
    }
}

#[test]
fn measured_kernels_give_the_same_results() {
    let network = Network::from_toml(ODD[4]).expect("the network is right");
    let tensors = weights(&network, 0.3, 1);
    let input = numbers(3 * 20 * 70, 7);
    let options = Options {
        tune: true,
        ..Options::default()
    };
    let tuned = model(&network, &tensors, options)
        .run(&input)
        .expect("one image");
    let plain = run(
        &network.graph().expect("the network is right"),
        &tensors,
        &input,
    );
    for (tuned, plain) in tuned.iter().zip(plain) {
        assert!(
            (f64::from(*tuned) - plain).abs() < 1e-4,
            "{tuned} is not {plain}"
        );
    }
}

#[test]
fn a_final_softmax_can_be_left_out() {
    let network = Network::from_toml(ODD[2]).expect("the network is right");
    let tensors = weights(&network, 1.0, 1);
    let input = numbers(2 * 6 * 6, 7);
    let results = [true, false].map(|softmax| {
        let options = Options {
            softmax,
            ..Options::default()
        };
        model(&network, &tensors, options)
            .run(&input)
            .expect("one image")
    });
    assert!((results[0].iter().sum::<f32>() - 1.0).abs() < 1e-6);
    let sum: f32 = results[1].iter().map(|logit| logit.exp()).sum();
    for (chance, logit) in results[0].iter().zip(&results[1]) {
        assert!((chance - logit.exp() / sum).abs() < 1e-6);
    }
}

#[test]
fn wrong_inputs_and_weights_are_refused() {
    let network = Network::load("lenet5").expect("the zoo has it");
    let mut tensors = weights(&network, 0.5, 1);
    let ready = model(&network, &tensors, Options::default());
    assert!(matches!(
        ready.run(&[0.0; 783]),
        Err(RuntimeError::Input {
            found: 783,
            image: 784,
            ..
        })
    ));
    assert!(ready.run(&[]).expect("no image is fine").is_empty());
    let short = ready.runner().run(&[0.0; 784], &mut [0.0; 9]);
    assert!(matches!(
        short,
        Err(RuntimeError::Output {
            found: 9,
            expected: 10,
            ..
        })
    ));
    tensors.get_mut("fc1.bias").expect("it is there").data[3] = f32::NAN;
    let damaged = Model::new(
        &network,
        &tensors,
        Preprocess::default(),
        &Options::default(),
    );
    assert!(matches!(damaged, Err(RuntimeError::NotFinite(name)) if name == "fc1.bias"));
    tensors.remove("fc1.bias");
    let missing = Model::new(
        &network,
        &tensors,
        Preprocess::default(),
        &Options::default(),
    );
    assert!(matches!(missing, Err(RuntimeError::Tensors(_))));
}

#[test]
fn a_small_file_that_asks_for_much_memory_is_refused() {
    for (input, layers) in [
        // An activation of 160 GB.
        (
            "[1, 65536, 1]",
            "type = \"conv\"\nout = 1\nkernel = 1\npadding = 100000",
        ),
        // Rows of scratch of 256 GB.
        (
            "[1, 65536, 1]",
            "type = \"maxpool\"\nkernel = 1\nstride = [1, 1048576]",
        ),
        // Shifted copies of 17 GB.
        (
            "[1, 1, 262144]",
            "type = \"conv\"\nout = 1\nkernel = [1, 262144]\npadding = [0, 36864]",
        ),
    ] {
        let text = format!(
            "name = \"huge\"\ninput = {input}\n[[layers]]\nname = \"one\"\n{layers}\n[[layers]]\nname = \"all\"\ntype = \"globalpool\"\n"
        );
        let network = Network::from_toml(&text).expect("the network is right");
        // No address reaches such an activation.
        if cfg!(target_pointer_width = "32") && network.graph().is_err() {
            continue;
        }
        let tensors = weights(&network, 1.0, 1);
        let options = Options::default();
        let refused = Model::new(&network, &tensors, Preprocess::default(), &options);
        assert!(
            matches!(refused, Err(RuntimeError::Memory { .. })),
            "{layers}"
        );
    }
}

/// A convolution of one output packs a column of addresses for every weight.
#[test]
fn what_weights_take_once_they_are_packed_is_bounded() {
    let text = "name = \"n\"\ninput = [1, 64, 64]\n[[layers]]\nname = \"conv\"\ntype = \"conv\"\nout = 1\nkernel = 64\n";
    let network = Network::from_toml(text).expect("the network is right");
    let tensors = weights(&network, 1.0, 1);
    let weights = 64 * 64;
    let options = Options {
        memory: 20 * weights,
        ..Options::default()
    };
    let refused = Model::new(&network, &tensors, Preprocess::default(), &options);
    assert!(matches!(
        refused,
        Err(RuntimeError::Memory { needed, .. }) if needed > 24 * weights
    ));
    let options = Options::default();
    assert!(Model::new(&network, &tensors, Preprocess::default(), &options).is_ok());
}

#[test]
fn a_batch_normalization_that_makes_no_numbers_is_refused() {
    let text = "name = \"n\"\ninput = [1, 8, 8]\n[[layers]]\nname = \"conv\"\ntype = \"conv\"\nout = 2\nkernel = 3\n[[layers]]\nname = \"bn\"\ntype = \"batchnorm\"\n";
    let network = Network::from_toml(text).expect("the network is right");
    let mut tensors = weights(&network, 1.0, 1);
    tensors.get_mut("bn.running_var").expect("it is there").data[1] = -2.0;
    let options = Options::default();
    let refused = Model::new(&network, &tensors, Preprocess::default(), &options);
    assert!(matches!(refused, Err(RuntimeError::NotFinite(name)) if name == "conv"));
}

#[test]
fn a_value_that_is_no_number_is_not_hidden() {
    let text = "name = \"n\"\ninput = [1, 8, 8]\n[[layers]]\nname = \"conv\"\ntype = \"conv\"\nout = 4\nkernel = 3\npadding = 1\n[[layers]]\nname = \"relu\"\ntype = \"relu\"\n";
    let network = Network::from_toml(text).expect("the network is right");
    for density in [1.0, 0.3] {
        let tensors = weights(&network, density, 1);
        let ready = model(&network, &tensors, Options::default());
        let results = ready.run(&[f32::NAN; 64]).expect("one image");
        assert!(results.iter().any(|value| value.is_nan()));
    }
    // Wherever in a window it is.
    for (width, kernel, stride) in [(40, 3, 2), (40, 2, 2), (40, 4, 3), (9, 3, 1)] {
        let text = format!(
            "name = \"n\"\ninput = [1, 8, {width}]\n[[layers]]\nname = \"pool\"\ntype = \"maxpool\"\nkernel = {kernel}\nstride = {stride}\n"
        );
        let network = Network::from_toml(&text).expect("the network is right");
        let ready = model(&network, &weights(&network, 1.0, 1), Options::default());
        for place in 0..3 * width {
            let mut image = vec![1.0; 8 * width];
            image[place] = f32::NAN;
            let results = ready.run(&image).expect("one image");
            let [_, rows, columns] = ready.output_shape();
            for (at, value) in results.iter().enumerate() {
                let (row, column) = (at / columns * stride, at % columns * stride);
                let inside = (row..row + kernel).contains(&(place / width))
                    && (column..column + kernel).contains(&(place % width));
                assert_eq!(
                    value.is_nan(),
                    inside,
                    "{kernel}/{stride}: {place} in {at} of {rows}"
                );
            }
        }
    }
}
