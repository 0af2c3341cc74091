//! The CPU engine against ONNX Runtime on the exported model: every layer type in odd shapes, every network of the zoo,
//! with preprocessing in the model or before it.

#[path = "../../interchange/tests/support/python.rs"]
mod python;
#[path = "../../interchange/tests/support/weights.rs"]
mod weights;

use std::path::Path;

use skinny_interchange::{OnnxOptions, to_onnx};
use skinny_network::{Gcn, Graph, Network, Operation, Preprocess, Tensor, Tensors, Zca, zoo_names};
use skinny_train::{CpuEngine, Engine, EngineSettings, Factors, Optimizer, softmax};

const IMAGES: usize = 3;

fn tensor(shape: &[usize], data: Vec<f32>) -> Tensor {
    Tensor {
        shape: shape.to_vec(),
        data,
    }
}

/// What our own engine makes of images that are ready for the first layer.
fn outputs(graph: &Graph, weights: &Tensors, images: &[f32]) -> Vec<f32> {
    let settings = EngineSettings {
        batch: IMAGES,
        threads: 1,
        optimizer: Optimizer::Sgd {
            momentum: 0.0,
            weight_decay: 0.0,
            nesterov: false,
        },
        label_smoothing: 0.0,
        clip_norm: None,
        ema: None,
        seed: 0,
        factors: vec![
            Factors {
                lr: 1.0,
                decay: 1.0
            };
            graph.parameters.len()
        ],
    };
    let own = (graph.parameters.iter())
        .map(|parameter| weights.get(&parameter.name).unwrap().data.clone())
        .collect();
    let mut engine = CpuEngine::new(graph.clone(), settings, own);
    let mut logits = Vec::new();
    engine.logits(images, &mut logits);
    // Logits are what a last softmax reads.
    if matches!(graph.nodes.last().unwrap().operation, Operation::Softmax) {
        softmax(logits.len() / IMAGES, &mut logits);
    }
    logits
}

/// Writes a model with an input and what must come of it.
fn write(folder: &Path, name: &str, network: &Network, preprocess: Option<&Preprocess>) {
    let graph = network.graph().unwrap();
    let weights = weights::weights(&graph);
    let options = OnnxOptions { preprocess };
    let model = to_onnx(&graph, &weights, &options).unwrap();
    std::fs::write(folder.join(format!("{name}.onnx")), model).unwrap();

    let values: usize = graph.input.iter().product();
    let mut images = weights::numbers(&format!("{name}.images"), IMAGES * values);
    let input = match preprocess {
        None => images.clone(),
        Some(settings) => {
            for value in &mut images {
                *value = (127.5 * (*value + 1.0)).round();
            }
            // A picture of one colour has no contrast to divide by.
            images[values..2 * values].fill(7.0);
            let input = images.clone();
            for image in images.chunks_exact_mut(values) {
                settings.normalize(image, graph.input);
            }
            input
        }
    };
    let shape = [&[IMAGES], &graph.input[..]].concat();
    let output = match graph.classes() {
        Some(classes) => vec![IMAGES, classes],
        None => [&[IMAGES], &graph.output[..]].concat(),
    };
    let mut data = Tensors::new();
    data.insert("input", tensor(&shape, input));
    data.insert(
        "expected",
        tensor(&output, outputs(&graph, &weights, &images)),
    );
    data.save(&folder.join(format!("{name}.safetensors")))
        .unwrap();
}

#[test]
fn every_network_gives_the_same_outputs_in_onnx_runtime() {
    let Some(found) = python::find(&["onnx", "onnxruntime", "safetensors"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let networks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/networks");
    let mut count = 0;
    for entry in std::fs::read_dir(networks).unwrap() {
        let path = entry.unwrap().path();
        let network = Network::load_file(&path).unwrap();
        let name = format!("layer-{}", path.file_stem().unwrap().to_string_lossy());
        write(folder.path(), &name, &network, None);
        count += 1;
    }
    for name in zoo_names() {
        write(folder.path(), name, &Network::load(name).unwrap(), None);
        count += 1;
    }
    let told = python::run(&found, "compare_onnx.py", &[folder.path().as_os_str()]);
    assert!(told.contains(&format!("\n{count} models, ")), "{told}");
}

#[test]
fn preprocessing_is_the_same_inside_the_model() {
    let Some(found) = python::find(&["onnx", "onnxruntime", "safetensors"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let values = 3 * 32 * 32;
    // Near the identity, as whitening is.
    let mut matrix = weights::numbers("matrix", values * values);
    for (index, value) in matrix.iter_mut().enumerate() {
        *value = *value / values as f32 + f32::from(index % (values + 1) == 0);
    }
    let zca = Zca {
        mean: weights::numbers("mean", values),
        matrix,
        ..Zca::default()
    };
    let mean = Preprocess {
        mean: vec![0.49, 0.48, 0.45],
        std: vec![0.25, 0.24, 0.26],
        ..Preprocess::default()
    };
    let one = Preprocess {
        mean: vec![0.5],
        ..Preprocess::default()
    };
    let gcn = Preprocess {
        gcn: Some(Gcn::default()),
        ..Preprocess::default()
    };
    let all = Preprocess {
        zca: Some(zca),
        gcn: Some(Gcn::default()),
        ..mean.clone()
    };
    let unscaled = Preprocess {
        scale: 1.0,
        mean: vec![128.0, 127.0, 126.0],
        ..Preprocess::default()
    };
    let network = Network::load("resnet20").unwrap();
    for (name, settings) in [
        ("default", Preprocess::default()),
        ("mean", mean),
        ("one", one),
        ("gcn", gcn),
        ("all", all),
        ("unscaled", unscaled),
    ] {
        write(folder.path(), name, &network, Some(&settings));
    }
    let told = python::run(&found, "compare_onnx.py", &[folder.path().as_os_str()]);
    assert!(told.contains("6 models"), "{told}");
}
