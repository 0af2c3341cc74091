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
    assert_eq!(compare(folder.path()), 13);
}

/// Written once by `tests/python/write_torch.py`, so that no Python is needed here.
#[test]
fn kept_files_of_pytorch_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    assert_eq!(compare(&folder), 13);
    // The order is the module's, and counters are there but are no weights.
    let source = Source::open(&folder.join("state.pt")).unwrap();
    let names: Vec<&str> = source.entries().iter().map(|entry| entry.name()).collect();
    assert_eq!(names[..3], ["conv1.weight", "bn1.weight", "bn1.bias"]);
    let counter = (source.entries().iter()).find(|entry| entry.name() == "bn1.num_batches_tracked");
    assert_eq!(counter.unwrap().numbers(), Numbers::Other("I64"));
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
