//! Weights that PyTorch has written, read here.

#[path = "support/python.rs"]
mod python;

use std::path::Path;

use skinny_interchange::{
    Format, Matching, Numbers, OnnxOptions, Options, Source, import, to_onnx,
};
use skinny_network::{Network, Tensors};

/// Compares every file of a folder with the safetensors file beside it, bit for bit.
fn compare(folder: &Path) -> usize {
    let mut compared = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "pt") {
            continue;
        }
        let source = Source::open(&path).unwrap();
        assert_eq!(source.format(), Format::Torch);
        let read = source.tensors().unwrap();
        let expected = Tensors::load(&path.with_extension("safetensors")).unwrap();
        assert_eq!(
            read.names().collect::<Vec<_>>(),
            expected.names().collect::<Vec<_>>(),
            "{}",
            path.display()
        );
        for ((name, one), (_, other)) in read.iter().zip(expected.iter()) {
            assert_eq!(one.shape, other.shape, "{name} of {}", path.display());
            let bits = |data: &[f32]| data.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(
                bits(&one.data),
                bits(&other.data),
                "{name} of {}",
                path.display()
            );
        }
        compared += 1;
    }
    compared
}

#[test]
fn files_of_pytorch_give_the_values_that_pytorch_put_there() {
    let Some(found) = python::find(&["torch", "safetensors"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    python::run(&found, "write_torch.py", &[folder.path().as_os_str()]);
    assert_eq!(compare(folder.path()), 15);
}

/// Written once by `tests/python/write_torch.py`, so that no Python is needed here.
#[test]
fn kept_files_of_pytorch_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    assert_eq!(compare(&folder), 15);
    // The order is the module's, and counters are there but are no weights.
    let source = Source::open(&folder.join("state.pt")).unwrap();
    let names: Vec<&str> = source.entries().iter().map(|entry| entry.name()).collect();
    assert_eq!(names[..3], ["conv1.weight", "bn1.weight", "bn1.bias"]);
    let counter = (source.entries().iter()).find(|entry| entry.name() == "bn1.num_batches_tracked");
    assert_eq!(counter.unwrap().numbers(), Numbers::Other("I64"));
}

/// Written once by `tests/python/write_onnx.py`: by both exporters of PyTorch, one of which puts values into another file, and
/// with matrices turned.
#[test]
fn kept_models_of_pytorch_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let text = r#"
        name = "exported"
        input = [2, 4, 4]
        layers = [
            { name = "conv1", type = "conv", out = 4, kernel = 3 },
            { name = "relu1", type = "relu" },
            { name = "flatten", type = "flatten" },
            { name = "fc1", type = "linear", out = 16 },
            { name = "relu2", type = "relu" },
            { name = "fc2", type = "linear", out = 3 },
        ]
    "#;
    let graph = Network::from_toml(text).unwrap().graph().unwrap();
    let expected = Tensors::load(&folder.join("onnx.safetensors")).unwrap();
    for name in ["torchscript", "dynamo", "turned"] {
        let source = Source::open(&folder.join(format!("onnx-{name}.onnx"))).unwrap();
        assert_eq!(source.format(), Format::Onnx);
        for matching in [Matching::Name, Matching::Order] {
            let options = Options {
                matching,
                ..Options::default()
            };
            let imported = import(&source, &graph, &options).unwrap();
            assert_eq!(imported.tensors.len(), 6);
            for (name, tensor) in imported.tensors.iter() {
                assert_eq!(Some(tensor), expected.get(name), "{name}");
            }
        }
    }
    // Without the file beside it, the model says which one that is.
    let alone = std::fs::read(folder.join("onnx-dynamo.onnx")).unwrap();
    let message = Source::from_bytes(alone.clone()).unwrap_err().to_string();
    assert!(message.contains("another file"), "{message}");
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("alone.onnx");
    std::fs::write(&path, alone).unwrap();
    let message = Source::open(&path).unwrap_err().to_string();
    assert!(message.contains("`onnx-dynamo.onnx.data`"), "{message}");
    std::fs::write(elsewhere.path().join("onnx-dynamo.onnx.data"), [0; 9]).unwrap();
    let message = Source::open(&path).unwrap_err().to_string();
    assert!(message.contains("beyond the end"), "{message}");
}

#[test]
fn models_read_no_files_elsewhere() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/onnx");
    for name in ["external-above", "external-root"] {
        let message = Source::open(&corpus.join(name)).unwrap_err().to_string();
        assert!(
            message.contains("passwd") && message.contains("no file beside it"),
            "{message}"
        );
    }
}

/// From a file under torchvision's names to the same outputs in ONNX Runtime.
#[test]
fn networks_of_torchvision_keep_their_outputs() {
    let Some(found) = python::find(&["torch", "onnx", "onnxruntime", "safetensors"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().as_os_str();
    python::run(&found, "torchvision_like.py", &[path]);
    for name in ["torchvision-alexnet", "torchvision-resnet18"] {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let network = Network::load_file(&examples.join(format!("{name}.toml"))).unwrap();
        let graph = network.graph().unwrap();
        let file = folder.path().join(format!("{name}.pth"));
        let source = Source::open(&file).unwrap();
        // By name alone nothing matches, and it says so.
        if name.ends_with("alexnet") {
            let error = import(&source, &graph, &Options::default()).unwrap_err();
            assert_eq!(
                error.mismatches().unwrap().unexpected[0],
                "features.0.weight"
            );
        }
        let by_order = Options {
            matching: Matching::Order,
            ..Options::default()
        };
        let imported = import(&source, &graph, &by_order).unwrap();
        assert_eq!(imported.pairs.len(), graph.parameters.len());
        let model = to_onnx(&graph, &imported.tensors, &OnnxOptions::default()).unwrap();
        std::fs::write(file.with_extension("onnx"), model).unwrap();
    }
    let told = python::run(&found, "compare_onnx.py", &[path]);
    assert!(told.contains("2 models"), "{told}");
}
