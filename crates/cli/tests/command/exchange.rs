//! Networks to other programs and weights from them, by the command.

use std::fs;
use std::path::Path;

use crate::support::Place;

#[path = "../../../interchange/tests/support/python.rs"]
mod python;

fn fixture(path: &str) -> String {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../interchange");
    crates.join(path).to_string_lossy().into_owned()
}

#[test]
fn what_is_exported_comes_back() {
    let place = Place::new();
    place.train("run", &[]).good();
    let run = |arguments: &[&str]| {
        place
            .run(&[&["--json"][..], arguments].concat())
            .good()
            .objects()
            .remove(0)
    };
    let saved = run(&["eval", "run"]);
    let model = run(&["export", "run", "--to", "small.onnx"]);
    assert_eq!(model["format"], "onnx");
    assert_eq!(
        model["file_bytes"],
        fs::metadata(place.path("small.onnx")).unwrap().len()
    );
    let whole = run(&["export", "run", "--to", "whole.onnx", "--with-preprocess"]);
    assert!(whole["file_bytes"].as_u64() > model["file_bytes"].as_u64());
    run(&["export", "run", "--to", "folded.onnx", "--fold"]);
    run(&["export", "run", "--to", "small.safetensors"]);
    let renamed = [
        "export",
        "run",
        "--to",
        "renamed.safetensors",
        "--rename",
        "conv1=features.0",
    ];
    let nonsense = place.run(&[&renamed[..], &["--rename", "nonsense"]].concat());
    nonsense.refused(2, &["nonsense", "OLD=NEW"]);
    run(&[&renamed[..], &["--rename", "=model"]].concat());
    // Any way that weights can take, they are the same.
    for (file, options) in [
        ("small.onnx", &[][..]),
        ("small.onnx", &["--match", "order"]),
        ("whole.onnx", &[]),
        ("whole.onnx", &["--match", "order"]),
        ("small.safetensors", &[]),
        (
            "renamed.safetensors",
            &["--rename", "features.0=conv1", "--rename", "model="],
        ),
    ] {
        let import = [
            "import",
            file,
            "--network",
            "small.net.toml",
            "--to",
            "back.safetensors",
        ];
        let told = run(&[&import, options].concat());
        assert_eq!(told["pairs"].as_array().unwrap().len(), 10, "{told}");
        assert_eq!(
            run(&["eval", "back.safetensors", "--recipe", "small.toml"]),
            saved
        );
        let bits = |path: &str| fs::read(place.path(path)).unwrap();
        assert!(bits("back.safetensors").ends_with(&bits("run/weights/last.safetensors")[2000..]));
    }
    assert_eq!(
        run(&["eval", "small.onnx", "--recipe", "small.toml"]),
        saved
    );
    assert_eq!(
        run(&["import", "small.onnx"])["tensors"]
            .as_array()
            .unwrap()
            .len(),
        10
    );

    // A recipe tells how weights that have other names are matched.
    let recipe = fs::read_to_string(place.path("small.toml")).unwrap();
    let import = "import = { rename = { \"features.0\" = \"conv1\", \"model\" = \"\" } } }";
    let names = recipe.replace(
        "file = \"small.net.toml\" }",
        &format!("file = \"small.net.toml\", {import}"),
    );
    place.write("names.toml", names);
    for weights in ["renamed.safetensors", "small.safetensors"] {
        assert_eq!(run(&["eval", weights, "--recipe", "names.toml"]), saved);
    }

    // Masks are those of the run, with or without the ending.
    let masks = run(&["export", "run", "--to", "masks"]);
    assert_eq!(masks["weights"], 6 * 9 + 6 * 25 * 24 + 24 * 10);
    let written = fs::read(place.path("masks.safetensors")).unwrap();
    let own = fs::read(place.path("run/masks.safetensors")).unwrap();
    // Behind the header there is one byte for each weight.
    let ones = |bytes: &[u8]| {
        let masks = &bytes[bytes.len() - (6 * 9 + 6 * 25 * 24 + 24 * 10)..];
        masks.iter().filter(|byte| **byte == 1).count()
    };
    assert_eq!(ones(&written), ones(&own));
    assert_eq!(Some(ones(&written) as u64), masks["kept"].as_u64());
}

/// The pictures that ONNX Runtime gets wrong, from the bytes of the set to the class, are as many as `skinny eval` says.
#[test]
fn an_exported_model_errs_where_the_run_does() {
    let Some(found) = python::find(&["numpy", "onnxruntime"]) else {
        return;
    };
    let place = Place::new();
    place.train("run", &["--set", "train.epochs=3"]).good();
    let export = ["export", "run", "--to", "run.onnx", "--with-preprocess"];
    for options in [&[][..], &["--fold"], &["--weights", "best"]] {
        place.run(&[&export[..], options].concat()).good();
        let weights = [&["--json", "eval", "run"][..], options].concat();
        let weights: Vec<&str> = weights.into_iter().filter(|w| *w != "--fold").collect();
        let told = place.run(&weights).good().objects().remove(0);
        let paths = [
            "run.onnx",
            "data/mnist/t10k-images-idx3-ubyte",
            "data/mnist/t10k-labels-idx1-ubyte",
        ];
        let paths = paths.map(|path| place.path(path));
        let paths: Vec<_> = paths.iter().map(|path| path.as_os_str()).collect();
        let printed = python::run(&found, "count_errors.py", &paths);
        assert_eq!(
            printed.trim(),
            format!("wrong {}", told["wrong"]),
            "{options:?}"
        );
    }
}

#[test]
fn a_run_starts_from_weights_of_others() {
    let place = Place::new();
    place.train("run", &["--set", "train.epochs=3"]).good();
    place.run(&["export", "run", "--to", "small.onnx"]).good();
    let export = ["export", "run", "--to", "other.safetensors"];
    place
        .run(
            &[
                &export[..],
                &["--rename", "conv1=a", "--rename", "fc2=head"],
            ]
            .concat(),
        )
        .good();

    place.train("one", &["--init", "small.onnx"]).good();
    let start = fs::read(place.path("one/weights/init.safetensors")).unwrap();
    let renamed = [
        "--init",
        "other.safetensors",
        "--rename",
        "a=conv1",
        "--rename",
        "head=fc2",
    ];
    let told = place.train("two", &renamed).good();
    assert!(
        told.err.contains("`head.bias` -> fc2.bias (10)"),
        "{}",
        told.err
    );
    assert_eq!(
        fs::read(place.path("two/weights/init.safetensors")).unwrap(),
        start
    );
    // The folder names its own copy, by the names of the network.
    let recipe = fs::read_to_string(place.path("two/recipe.toml")).unwrap();
    assert!(
        recipe.contains("weights/init.safetensors") && !recipe.contains("head"),
        "{recipe}"
    );
    let read =
        |run: &str| fs::read(place.path(&format!("{run}/weights/last.safetensors"))).unwrap();
    assert_eq!(read("one"), read("two"));

    // A head of another size is left to chance, if that is asked for.
    let network = fs::read_to_string(place.path("small.net.toml")).unwrap();
    place.write("small.net.toml", network.replace("\"fc2\"", "\"head2\""));
    place
        .train("three", &["--init", "small.onnx"])
        .refused(3, &["missing `head2.weight`", "unexpected `fc2.weight`"]);
    let told = place
        .train("three", &["--init", "small.onnx", "--no-strict"])
        .good();
    assert!(
        told.err.contains("\nmissing `head2.bias`\n"),
        "{}",
        told.err
    );
    place
        .train("four", &["--match", "order"])
        .refused(2, &["--match", "--init"]);
}

#[test]
fn files_of_pytorch_are_imported() {
    let place = Place::new();
    let network = r#"
name = "fixture"
input = [2, 4, 4]
layers = [
    { name = "conv1", type = "conv", out = 4, kernel = 3, bias = false },
    { name = "bn1", type = "batchnorm" },
    { name = "flatten", type = "flatten" },
    { name = "fc", type = "linear", out = 3 },
]
"#;
    place.write("fixture.toml", network);
    place.write("renamed.toml", network.replace("\"fc\"", "\"head\""));
    for name in ["state", "state-old", "checkpoint", "protocol-4"] {
        let file = fixture(&format!("tests/fixtures/{name}.pt"));
        let import = ["import", &file, "--network"];
        place
            .run(&[&import[..], &["fixture.toml", "--to", "w.safetensors"]].concat())
            .good();
        assert!(place.path("w.safetensors").exists());
        let order = ["renamed.toml", "--match", "order"];
        let told = place.run(&[&import[..], &order].concat()).good();
        assert!(told.out.contains("7 of 7 parameters match"), "{}", told.out);
        let refused = place.run(&[&import[..], &["renamed.toml"]].concat());
        for name in [
            "missing `head.weight`",
            "missing `head.bias`",
            "unexpected `fc.bias`",
        ] {
            assert!(refused.err.contains(name), "{}", refused.err);
        }
        refused.refused(3, &["fixture"]);
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let place = Place::new();
    place.train("run", &["--set", "train.epochs=3"]).good();
    let run = |arguments: &[&str]| place.run(arguments);
    let to = |path: &'static str| ["export", "run", "--to", path];
    for (path, options, words) in [
        ("a.onnx", &["--values", "int8"][..], "--values"),
        ("a.onnx", &["--rename", "a=b"], "--rename"),
        ("a.onnx", &["--verify", "9"], "--verify"),
        ("a.safetensors", &["--with-preprocess"], "--with-preprocess"),
        ("a.safetensors", &["--fold"], "--fold"),
        ("a.safetensors", &["--rename", "a"], "OLD=NEW"),
        ("a.skinny", &["--with-preprocess"], "--with-preprocess"),
        ("a.pt", &[], ".safetensors"),
    ] {
        let told = run(&[&to(path)[..], options].concat());
        let code = told.code;
        assert!([2, 3].contains(&code));
        told.refused(code, &[words]);
    }
    let weights = "run/weights/last.safetensors";
    let recipe = ["--recipe", "small.toml", "--with-preprocess"];
    // What is done to pictures follows from the recipe's data.
    let export = [&["export", weights, "--to", "a.onnx"][..], &recipe].concat();
    run(&export).good();
    std::fs::remove_dir_all(place.path("data")).unwrap();
    run(&export).refused(3, &["mnist"]);

    run(&["import", "nowhere.pt"]).refused(3, &["nowhere.pt"]);
    let code = fixture("fuzz/corpus/torch/code-2");
    run(&["import", &code]).refused(3, &["system", "nothing was run"]);
    run(&["import", weights, "--match", "order"]).refused(2, &["--network"]);
    let order = [
        "import",
        weights,
        "--network",
        "small.net.toml",
        "--match",
        "order",
        "--rename",
        "a=b",
    ];
    run(&order).refused(2, &["renaming", "order"]);
    let rename = [
        "export",
        "run",
        "--to",
        "a.safetensors",
        "--rename",
        "conf1=a",
    ];
    run(&rename).refused(2, &["--rename conf1=a", "skinny summary"]);
    run(&[
        "export",
        weights,
        "--to",
        "a.onnx",
        "--recipe",
        "small.toml",
        "--weights",
        "best",
    ])
    .refused(2, &["is a file", "--weights best"]);
    run(&["inspect", weights]).refused(2, &["is a file", "skinny export"]);
    let import = ["import", weights, "--network", "small.net.toml", "--to"];
    run(&[&import[..], &["a.pt"]].concat()).refused(2, &[".safetensors"]);
    run(&[&import[..], &["no/where/a.safetensors"]].concat()).refused(3, &["no/where"]);
    run(&["import", weights, "--network", "lenet5"]).refused(3, &["wrong shape", "conv1.weight"]);
}
