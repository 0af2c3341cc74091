//! Every wrong description is refused in one line that names the layer and the cure.

use std::fs;

use skinny_network::{Network, Tensor, Tensors};

const HEAD: &str = "name = \"net\"\ninput = [3, 8, 8]\n";
const CONV: &str = "name = \"conv1\"\ntype = \"conv\"\nout = 4\nkernel = 3\n";

/// The message for a network of these layers, each given as the body of its table.
fn message(layers: &[&str]) -> String {
    let text = layers.iter().fold(HEAD.to_owned(), |text, layer| {
        format!("{text}[[layers]]\n{layer}\n")
    });
    refusal(&text)
}

fn refusal(text: &str) -> String {
    let error = Network::from_toml(text).and_then(|network| network.graph());
    let message = error.expect_err("a refusal").to_string();
    assert!(!message.contains('\n'), "{message}");
    assert!(message.len() < 400, "{message}");
    message
}

#[test]
fn unknown_keys_name_the_nearest() {
    assert_eq!(
        message(&["name = \"conv1\"\ntype = \"conv\"\nout = 4\nkernel = 3\npading = 1"]),
        "layer `conv1`: unknown key `pading`; did you mean `padding`?"
    );
    assert_eq!(
        message(&["name = \"r\"\ntype = \"relu\"\nkernel = 3"]),
        "layer `r`: unknown key `kernel`; known: name, type, inputs"
    );
    assert_eq!(
        refusal("name = \"n\"\ninput = [1, 1, 1]\nlayer = []"),
        "the network: unknown key `layer`; did you mean `layers`?"
    );
    assert_eq!(
        message(&[&format!("{CONV}lr = {{ weigth = 2 }}")]),
        "layer `conv1`: key `lr`: unknown key `weigth`; did you mean `weight`?"
    );
    assert_eq!(
        message(&["name = \"c\"\ntype = \"convolution\""]),
        "layer `c`: unknown type `convolution`; known: conv, linear, batchnorm, relu, maxpool, avgpool, globalpool, lrn, dropout, flatten, add, softmax"
    );
    assert_eq!(
        message(&["name = \"p\"\ntype = \"max_pool\""]),
        "layer `p`: unknown type `max_pool`; did you mean `maxpool`?"
    );
}

#[test]
fn too_many_layers_are_refused() {
    let layers = vec!["type = \"lrn\""; 10_001];
    let text = layers
        .iter()
        .enumerate()
        .fold(HEAD.to_owned(), |text, (index, layer)| {
            format!("{text}[[layers]]\nname = \"a{index}\"\n{layer}\n")
        });
    assert_eq!(
        refusal(&text),
        "the network: key `layers`: there are 10001; at most 10000 are read"
    );
}

#[test]
fn missing_keys_and_wrong_values_name_the_key() {
    assert_eq!(
        refusal("input = [1, 1, 1]"),
        "the network: key `name` is missing; add for example `name = \"my-net\"`"
    );
    assert_eq!(
        message(&["type = \"relu\""]),
        "layer 1: key `name` is missing; add for example `name = \"conv1\"`"
    );
    assert_eq!(
        message(&["name = \"c\"\ntype = \"conv\"\nout = 4"]),
        "layer `c`: key `kernel` is missing; add for example `kernel = 3`"
    );
    for (layer, part) in [
        (
            "name = \"c\"\ntype = \"conv\"\nout = -4\nkernel = 3",
            "layer `c`: key `out`: invalid value",
        ),
        (
            "name = \"c\"\ntype = \"conv\"\nout = 4\nkernel = \"3\"",
            "layer `c`: key `kernel`: invalid type",
        ),
        (
            "name = \"c\"\ntype = \"conv\"\nout = 4\nkernel = [3, 3, 3]",
            "give one number or [height, width]",
        ),
        (
            "name = \"c\"\ntype = \"conv\"\nout = 4\nkernel = 3\nbias = 1",
            "layer `c`: key `bias`: invalid type",
        ),
        (
            "name = \"c\"\ntype = \"conv\"\nout = 4\nkernel = 0",
            "layer `c`: key `kernel`: 0 must be 1 or more",
        ),
        (
            "name = \"c\"\ntype = \"conv\"\nout = 0\nkernel = 3",
            "layer `c`: key `out`: 0 must be 1 or more",
        ),
        (
            "name = \"c\"\ntype = \"conv\"\nout = 4\nkernel = 3\nstride = [1, 0]",
            "layer `c`: key `stride`: 0 must be",
        ),
        (
            "name = \"c\"\ntype = \"conv\"\nout = 4\nkernel = 3\ngroups = 0",
            "layer `c`: key `groups`: 0 must be",
        ),
        (
            "name = \"c\"\ntype = \"conv\"\nout = 4\nkernel = 3\ngroups = 2",
            "layer `c`: key `groups`: 2 must divide the input channels (3) and `out` (4)",
        ),
        (
            "name = \"c\"\ntype = \"conv\"\nout = 4\nkernel = 9",
            "layer `c`: cannot take an input of shape 3x8x8: the kernel 9x9 is larger than the padded input",
        ),
        (
            "name = \"c\"\ntype = \"maxpool\"\nkernel = [9, 1]",
            "the kernel 9x1 is larger than the padded input",
        ),
        (
            "name = \"c\"\ntype = \"avgpool\"\nkernel = 3\npadding = 2",
            "layer `c`: key `padding`: 2x2 is more than half of the kernel 3x3",
        ),
        (
            "name = \"c\"\ntype = \"linear\"\nout = 3",
            "layer `c`: cannot take an input of shape 3x8x8: a linear layer reads a flat input; put a flatten layer before it",
        ),
        (
            "name = \"c\"\ntype = \"softmax\"",
            "layer `c`: cannot take an input of shape 3x8x8: a softmax reads a flat input",
        ),
        (
            "name = \"c\"\ntype = \"dropout\"\np = 1.0",
            "layer `c`: key `p`: 1 must be at least 0 and below 1",
        ),
        (
            "name = \"c\"\ntype = \"dropout\"\np = nan",
            "layer `c`: key `p`: NaN must be",
        ),
        (
            "name = \"c\"\ntype = \"dropout\"\np = -0.1",
            "layer `c`: key `p`: -0.1 must be",
        ),
        (
            "name = \"c\"\ntype = \"lrn\"\nsize = 4",
            "layer `c`: key `size`: 4 must be odd",
        ),
        (
            "name = \"c\"\ntype = \"lrn\"\nk = 0",
            "layer `c`: key `k`: 0 must be above 0",
        ),
        (
            "name = \"c\"\ntype = \"lrn\"\nalpha = inf",
            "layer `c`: key `alpha`: inf must be",
        ),
        (
            "name = \"c\"\ntype = \"batchnorm\"\neps = 0",
            "layer `c`: key `eps`: 0 must be above 0",
        ),
        (
            "name = \"c\"\ntype = \"batchnorm\"\nmomentum = 2",
            "layer `c`: key `momentum`: 2 must be above 0 and at most 1",
        ),
        (
            "name = \"c\"\ntype = \"batchnorm\"\nlr = { bias = -1 }",
            "layer `c`: key `lr`: -1 must be 0 or more",
        ),
        (
            "name = \"c\"\ntype = \"batchnorm\"\ndecay = { weight = nan }",
            "layer `c`: key `decay`: NaN must be 0 or more",
        ),
        (
            "name = \"c\"\ntype = \"batchnorm\"\ninit = { weight = inf }",
            "layer `c`: key `init`: inf must be a finite number",
        ),
        (
            "name = \"c\"\ntype = \"batchnorm\"\ninit = { weight = { kind = \"gaussian\", std = -1 } }",
            "layer `c`: key `init`: -1 must be 0 or more",
        ),
        (
            "name = \"c\"\ntype = \"batchnorm\"\ninit = { weight = { kind = \"gaussian\" } }",
            "layer `c`: key `init`: key `weight`: `std` is missing",
        ),
        (
            "name = \"c\"\ntype = \"batchnorm\"\ninit = { weight = { kind = \"gauss\", std = 1 } }",
            "unknown kind `gauss`; known: constant, gaussian",
        ),
        (
            "name = \"c\"\ntype = \"batchnorm\"\ninit = { weight = { kind = \"he\", std = 1 } }",
            "unknown key `std`",
        ),
        (
            "name = \"c\"\ntype = \"batchnorm\"\ninit = { weight = { std = 1 } }",
            "`kind` is missing",
        ),
        (
            "name = \"c\"\ntype = \"batchnorm\"\ninit = { weight = true }",
            "give a number",
        ),
        (
            "name = \"c\"\ntype = \"relu\"\ninputs = \"input\"",
            "layer `c`: key `inputs`: invalid type",
        ),
    ] {
        let message = message(&[layer]);
        assert!(message.contains(part), "{message}\nshould have: {part}");
    }
}

#[test]
fn text_that_is_no_toml_names_the_line() {
    let message = refusal("name = \"n\"\ninput = [1,\n1, 1\nlayers = 3");
    assert!(
        message.starts_with("the network's TOML is not readable, line 4: "),
        "{message}"
    );
    assert!(refusal("\u{0}").starts_with("the network's TOML is not readable, line 1: "));
    assert!(refusal(&format!("a = {}", "[".repeat(100_000))).contains("not readable"));
}

#[test]
fn names_must_be_usable_and_different() {
    for name in ["a.b", "a b", "a\\nb", "input", "", "a/b"] {
        let message = message(&[&format!("name = \"{name}\"\ntype = \"relu\"")]);
        assert!(
            message.starts_with("layer 1: the name `") && message.contains("cannot be used"),
            "{message}"
        );
    }
    assert_eq!(
        message(&["name = \"r\"\ntype = \"relu\""; 2]),
        "two layers are named `r`; give each layer its own name"
    );
    let message =
        refusal("name = \"a b\"\ninput = [1, 1, 1]\n[[layers]]\nname = \"r\"\ntype = \"relu\"");
    assert!(
        message.starts_with("the network: the name `a b` cannot be used"),
        "{message}"
    );
}

#[test]
fn inputs_must_come_before() {
    let relu =
        |name: &str, inputs: &str| format!("name = \"{name}\"\ntype = \"relu\"\ninputs = {inputs}");
    let add = |inputs: &str| format!("name = \"add3\"\ntype = \"add\"\n{inputs}");
    assert_eq!(
        message(&[CONV, &relu("r", "[\"conv2\"]")]),
        "layer `r`: reads `conv2`, which is no layer; did you mean `conv1`?"
    );
    assert_eq!(
        message(&[CONV, &relu("r", "[\"somewhere\"]")]),
        "layer `r`: reads `somewhere`, which is no layer; name a layer above it or \"input\""
    );
    for inputs in ["[\"r\"]", "[\"s\"]"] {
        let message = message(&[&relu("r", inputs), &relu("s", "[\"r\"]")]);
        assert!(message.contains("does not come before it"), "{message}");
    }
    assert_eq!(
        message(&[&relu("r", "[\"input\", \"input\"]")]),
        "layer `r`: type `relu` reads one layer, but `inputs` names 2"
    );
    assert_eq!(
        message(&[&relu("r", "[]")]),
        "layer `r`: type `relu` reads one layer, but `inputs` names 0"
    );
    assert_eq!(
        message(&[&add("")]),
        "layer `add3`: type `add` reads two or more layers, but `inputs` names 0"
    );
    assert_eq!(
        message(&[&add("inputs = [\"input\"]")]),
        "layer `add3`: type `add` reads two or more layers, but `inputs` names 1"
    );
    assert_eq!(
        message(&[CONV, &add("inputs = [\"conv1\", \"input\"]")]),
        "layer `add3`: inputs have shapes 4x6x6 and 3x8x8; they must be equal"
    );
}

#[test]
fn only_the_last_layer_is_an_output() {
    let relu = "name = \"r\"\ntype = \"relu\"\ninputs = [\"input\"]";
    assert_eq!(
        message(&[CONV, relu]),
        "layer `conv1`: no layer reads its output, and only the last layer is the network's output; remove it or name it in the `inputs` of a layer below"
    );
    let message = message(&[
        "name = \"g\"\ntype = \"globalpool\"",
        "name = \"s\"\ntype = \"softmax\"",
        "name = \"r\"\ntype = \"relu\"",
    ]);
    assert!(
        message.starts_with("layer `s`: ") && message.contains("only as the last layer"),
        "{message}"
    );
    assert_eq!(
        refusal(HEAD),
        "the network has no layers; add a [[layers]] table"
    );
}

#[test]
fn sizes_without_end_are_refused() {
    let huge = i64::MAX;
    for layer in [
        format!("name = \"c\"\ntype = \"conv\"\nout = {huge}\nkernel = 3"),
        format!("name = \"c\"\ntype = \"conv\"\nout = 4\nkernel = {huge}"),
        format!("name = \"c\"\ntype = \"conv\"\nout = 4\nkernel = {huge}\npadding = {huge}"),
        format!("name = \"c\"\ntype = \"conv\"\nout = 4\nkernel = 3\npadding = {huge}"),
        "name = \"c\"\ntype = \"conv\"\nout = 4\nkernel = 1048576\npadding = 1048576".to_owned(),
        format!(
            "name = \"c\"\ntype = \"maxpool\"\nkernel = {huge}\npadding = {}",
            huge / 2
        ),
        format!("name = \"c\"\ntype = \"lrn\"\nsize = {huge}"),
        "name = \"c\"\ntype = \"conv\"\nout = 1000000000000\nkernel = 1".to_owned(),
    ] {
        let message = message(&[&layer]);
        assert!(
            message.contains("layer `c`") && message.contains("large"),
            "{message}"
        );
    }
    // A stride beyond the input leaves one window.
    let one =
        format!("{HEAD}[[layers]]\nname = \"c\"\ntype = \"avgpool\"\nkernel = 2\nstride = 99");
    assert_eq!(
        Network::from_toml(&one).unwrap().graph().unwrap().output,
        [3, 1, 1]
    );
    let message = refusal(&format!(
        "name = \"n\"\ninput = [{huge}, {huge}, {huge}]\n[[layers]]\nname = \"r\"\ntype = \"relu\""
    ));
    assert!(
        message.starts_with("the network: the input is larger than"),
        "{message}"
    );
    let message =
        refusal("name = \"n\"\ninput = [3, 0, 8]\n[[layers]]\nname = \"r\"\ntype = \"relu\"");
    assert!(
        message.starts_with("the network: key `input`: 3x0x8 has a zero"),
        "{message}"
    );
    // Each layer is small enough, all of them together are not.
    let many: String = (0..70)
        .map(|index| format!("[[layers]]\nname = \"f{index}\"\ntype = \"linear\"\nout = 32768\n"))
        .collect();
    let message = refusal(&format!("name = \"n\"\ninput = [32768, 1, 1]\n{many}"));
    assert!(
        message.starts_with("layer `f63`: the number of parameters up to here is larger than"),
        "{message}"
    );
}

#[test]
fn unknown_networks_list_the_zoo() {
    let message = Network::load("lenet-5").unwrap_err().to_string();
    assert_eq!(
        message,
        "no network is named `lenet-5` and no such file exists; did you mean `lenet5`? The zoo has lenet-300-100, lenet5, nin-mnist, nin-cifar10, nin-cifar10-bn, nin-cifar100, resnet20, wrn-22-2, vgg11-cifar, nin-imagenet, alexnet, caffenet"
    );
    assert!(
        Network::load("nets/mine.toml")
            .unwrap_err()
            .to_string()
            .contains("or give the path of a .toml file")
    );
    let folder = tempfile::tempdir().unwrap();
    let message = Network::load(folder.path().to_str().unwrap())
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("cannot read the network file "),
        "{message}"
    );
    let path = folder.path().join("wrong.toml");
    fs::write(
        &path,
        format!("{HEAD}[[layers]]\nname = \"c\"\ntype = \"con\""),
    )
    .unwrap();
    let message = Network::load(path.to_str().unwrap())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("wrong.toml: layer `c`: unknown type `con`; did you mean `conv`?"),
        "{message}"
    );
}

#[test]
fn the_example_of_an_own_network_loads() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/own-net.toml");
    let network = Network::load(path).unwrap();
    assert_eq!(Network::from_toml(&network.to_toml()).unwrap(), network);
    let graph = network.graph().unwrap();
    assert_eq!(graph.node("pool2").unwrap().output_shape, [16, 8, 8]);
    assert_eq!(
        graph.parameter_count(),
        432 + 32 + 2 * (2_304 + 16) + 10_240 + 10
    );
    assert_eq!(graph.output, [10, 1, 1]);
}

#[test]
fn the_documented_examples_are_networks() {
    let text = include_str!("../../../docs/networks.md");
    let examples: Vec<&str> = text
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    let whole: Vec<&str> = examples
        .iter()
        .copied()
        .filter(|example| example.starts_with("name = "))
        .collect();
    assert!(!whole.is_empty());
    for example in whole {
        Network::from_toml(example)
            .and_then(|network| network.graph())
            .unwrap();
    }
}

#[test]
fn weights_of_another_shape_are_refused_with_both_shapes() {
    let graph = Network::load("lenet5").unwrap().graph().unwrap();
    let all = || {
        graph
            .parameters
            .iter()
            .map(|parameter| (parameter.name.clone(), Tensor::zeros(&parameter.shape)))
            .collect::<Tensors>()
    };
    assert!(all().check_against(&graph, true).unwrap().is_empty());

    let mut wrong = all();
    wrong.insert("conv1.weight", Tensor::zeros(&[20, 3, 5, 5]));
    for strict in [false, true] {
        assert_eq!(
            wrong.check_against(&graph, strict).unwrap_err().to_string(),
            "weight `conv1.weight` has shape 20x3x5x5, but network `lenet5` needs 20x1x5x5"
        );
    }
    let mut torn = all();
    torn.get_mut("fc2.bias").unwrap().data.pop();
    assert!(
        torn.check_against(&graph, true)
            .unwrap_err()
            .to_string()
            .contains("shape 10 with 9 values")
    );

    let mut renamed = all();
    let weight = renamed.remove("fc2.weight").unwrap();
    renamed.insert("fc3.weight", weight);
    assert_eq!(
        renamed.check_against(&graph, true).unwrap_err().to_string(),
        "the weights are not those of network `lenet5`: missing `fc2.weight`; unexpected `fc3.weight`"
    );
    let differences = renamed.check_against(&graph, false).unwrap();
    assert_eq!(differences.missing, ["fc2.weight"]);
    assert_eq!(differences.unexpected, ["fc3.weight"]);
    assert!(
        Tensors::new()
            .check_against(&graph, true)
            .unwrap_err()
            .to_string()
            .contains("and 2 more")
    );
}
