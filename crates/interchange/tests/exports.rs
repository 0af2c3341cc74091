//! What is written, read by those for whom it is written: PyTorch, ONNX's checker and ONNX Runtime.

#[path = "support/python.rs"]
mod python;
#[path = "support/weights.rs"]
mod weights;

use std::path::Path;

use skinny_interchange::{
    OnnxOptions, Rename, Source, masks_to_bytes, state_dict_to_bytes, to_onnx,
};
use skinny_network::{Network, zoo_names};
use skinny_sparsity::Mask;

#[test]
fn pytorch_loads_every_network_of_the_zoo_and_agrees_with_onnx_runtime() {
    let Some(found) = python::find(&["torch", "onnxruntime", "safetensors"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for name in zoo_names() {
        let network = Network::load(name).unwrap();
        let graph = network.graph().unwrap();
        let weights = weights::weights(&graph);
        let path = folder.path().join(name);
        std::fs::write(path.with_extension("toml"), network.to_toml()).unwrap();
        let state = state_dict_to_bytes(&graph, &weights, &Rename::default()).unwrap();
        std::fs::write(path.with_extension("safetensors"), state).unwrap();
        let model = to_onnx(&graph, &weights, &OnnxOptions::default()).unwrap();
        std::fs::write(path.with_extension("onnx"), model).unwrap();
    }
    let folder = folder.path().as_os_str();
    python::run(&found, "load_state_dicts.py", &[folder]);
}

#[test]
fn weights_come_back_bit_for_bit_from_every_format() {
    for name in ["lenet5", "resnet20", "nin-mnist"] {
        let graph = Network::load(name).unwrap().graph().unwrap();
        let weights = weights::weights(&graph);
        let state = state_dict_to_bytes(&graph, &weights, &Rename::default()).unwrap();
        let model = to_onnx(&graph, &weights, &OnnxOptions::default()).unwrap();
        for bytes in [state, model] {
            let source = Source::from_bytes(bytes).unwrap();
            let read = skinny_interchange::import(&source, &graph, &Default::default()).unwrap();
            for ((name, written), (other, read)) in weights.iter().zip(read.tensors.iter()) {
                assert_eq!((name, &written.shape), (other, &read.shape));
                let bits = |data: &[f32]| data.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert!(bits(&written.data) == bits(&read.data), "{name}");
            }
        }
    }
}

#[test]
fn a_value_that_is_added_twice_is_flattened_once() {
    let text = r#"
        name = "twice"
        input = [2, 3, 3]
        layers = [
            { name = "gp", type = "globalpool" },
            { name = "fc", type = "linear", out = 2 },
            { name = "sum", type = "add", inputs = ["gp", "gp", "fc"] },
        ]
    "#;
    let graph = Network::from_toml(text).unwrap().graph().unwrap();
    let weights = weights::weights(&graph);
    let model = to_onnx(&graph, &weights, &OnnxOptions::default()).unwrap();
    let flattened = model.windows(7).filter(|bytes| *bytes == b"Flatten");
    assert_eq!(flattened.count(), 3, "for fc, for sum, and for the output");
}

#[test]
fn the_python_of_the_documentation_works() {
    let Some(found) = python::find(&["torch", "onnxruntime", "safetensors"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let graph = Network::load("lenet5").unwrap().graph().unwrap();
    let weights = weights::weights(&graph);
    let kept: Vec<_> = (graph.parameters.iter())
        .filter(|parameter| parameter.role.thresholded())
        .map(|parameter| {
            let values = &weights.get(&parameter.name).unwrap().data;
            (parameter, Mask::from_fn(values.len(), |i| values[i] != 0.0))
        })
        .collect();
    let masks = (kept.iter()).map(|(parameter, mask)| (&*parameter.name, &*parameter.shape, mask));
    let masks = masks_to_bytes(masks, &Rename::default()).unwrap();
    let state = state_dict_to_bytes(&graph, &weights, &Rename::default()).unwrap();
    let model = to_onnx(&graph, &weights, &OnnxOptions::default()).unwrap();
    for (name, bytes) in [
        ("masks.safetensors", masks),
        ("lenet5.safetensors", state),
        ("lenet5.onnx", model),
    ] {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/interchange.md");
    let arguments = [page.as_os_str(), folder.path().as_os_str()];
    let told = python::run(&found, "run_docs.py", &arguments);
    assert!(told.contains("works"), "{told}");
}
