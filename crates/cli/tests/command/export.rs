//! Finished networks in a file: what is exported is what was saved, and a bad file is an error in one line.

use std::fs;

use skinny::network::Tensors;

use crate::support::Place;

#[test]
fn what_was_saved_is_exported_and_evaluated() {
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
    for pack in ["fast", "small"] {
        let file = format!("{pack}.skinny");
        let nonzeros = &run(&["inspect", "run"])["nonzeros"];
        assert!(nonzeros.as_u64() < Some(6 * 9 + 6 * 25 * 24 + 24 * 10));
        let told = run(&[
            "export", "run", "--to", &file, "--pack", pack, "--verify", "96",
        ]);
        assert_eq!(told["verified"]["images"], 96);
        assert_eq!(told["verified"]["same_class"], 96);
        assert_eq!(told["verified"]["largest_logit_difference"], 0.0);
        assert_eq!(told["verified"]["error"], saved["error"]);
        // The runtime adds up in another order than the engine that trained.
        let mut packed = run(&["eval", &file, "--recipe", "small.toml"]);
        let [expected, found] = [&saved, &packed].map(|told| told["loss"].as_f64().unwrap());
        assert!((expected - found).abs() <= 1e-5 * expected, "{found}");
        packed["loss"] = saved["loss"].clone();
        assert_eq!(packed, saved);
        let length = fs::metadata(place.path(&file)).unwrap().len();
        assert_eq!(told["file_bytes"], length);
        let inspected = run(&["inspect", &file, "--plots", "plots"]);
        assert_eq!(inspected["file_bytes"], length);
        assert_eq!(inspected["dense_bytes"], told["dense_bytes"]);
        assert_eq!(inspected["weights"], 6 * 9 + 6 * 25 * 24 + 24 * 10);
        // The same, whether a layer is stored with an index or with its zeros.
        assert_eq!(&inspected["nonzeros"], nonzeros);
        assert!(inspected["index_bytes"].as_u64() > Some(0));
        assert!(inspected["index_floor_bytes"].as_u64() > Some(0));
        assert!(place.path("plots/fc1.weight.png").exists());
    }
    // What the file says of pictures is done to them, whatever the recipe says.
    let recipe = fs::read_to_string(place.path("small.toml")).unwrap();
    let whitened = recipe.replace("batch = 48", "batch = 48, normalize = \"gcn-zca\"");
    place.write("whitened.toml", whitened);
    let told = run(&["eval", "small.skinny", "--recipe", "whitened.toml"]);
    assert_eq!(told["error"], saved["error"]);
    // A matrix that whitens pictures is in the file, and no part of the network's size.
    let short = ["train", "whitened.toml", "--set", "train.epochs=1"];
    place
        .run(&[&short[..], &["--out", "white", "--threads", "1"]].concat())
        .good();
    let white = run(&["export", "white", "--to", "white.skinny"]);
    let matrix = 4 * (144 * 144 + 144);
    assert_eq!(white["preprocess_bytes"], matrix);
    assert!(white["file_bytes"].as_u64() > Some(matrix));
    let told = place
        .run(&["export", "white", "--to", "white.skinny"])
        .good();
    assert!(told.out.contains("83.5 kB that prepare"), "{}", told.out);
    assert!(!told.out.contains("(÷ 0."), "{}", told.out);
    // Weights alone learn from the recipe what is done to pictures.
    let weights = "run/weights/last.safetensors";
    run(&[
        "export",
        weights,
        "--recipe",
        "small.toml",
        "--to",
        "weights.skinny",
    ]);
    let told = run(&["eval", "weights.skinny", "--recipe", "small.toml"]);
    assert_eq!(told["error"], saved["error"]);
    place
        .run(&["eval", weights])
        .refused(2, &["is a file", "--recipe"]);
    // The table at the end of a run says the bytes of the smallest file without loss.
    let summary: serde_json::Value =
        serde_json::from_slice(&fs::read(place.path("run/summary.json")).unwrap()).unwrap();
    let length = fs::metadata(place.path("small.skinny")).unwrap().len();
    assert_eq!(summary["packed_bytes"], length);
    assert_eq!(run(&["inspect", "run"])["file_bytes"], length);

    let smaller = run(&[
        "export",
        "small.skinny",
        "--to",
        "tiny.skinny",
        "--values",
        "codebook16",
    ]);
    assert!(smaller["file_bytes"].as_u64() < Some(length));
    let folded = run(&[
        "export",
        "run",
        "--to",
        "folded.skinny",
        "--fold",
        "--verify",
        "96",
    ]);
    assert!(folded["verified"]["largest_logit_difference"].as_f64() < Some(1e-4));
    let layers = run(&["summary", "folded.skinny"])["rows"].clone();
    assert!(
        layers
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["kind"] != "batchnorm")
    );
    let best = run(&["export", "run", "--to", "best.skinny", "--weights", "best"]);
    assert!(best["file_bytes"].as_u64() > Some(0));

    place.run(&["inspect", "small.skinny"]).good();
    place.run(&["export", "run", "--to", "again.skinny"]).good();
    let png = image::GrayImage::from_pixel(12, 12, image::Luma([9]));
    png.save(place.path("grey.png")).unwrap();
    let of = |model: &str| -> Vec<(String, f64)> {
        let told = run(&["predict", model, "grey.png", "--top", "10"]);
        let classes = told["classes"].as_array().unwrap().iter();
        let class = |class: &serde_json::Value| {
            let label = class["label"].as_str().unwrap().to_string();
            (label, class["probability"].as_f64().unwrap())
        };
        classes.map(class).collect()
    };
    for (run, file) in of("run").iter().zip(of("small.skinny")) {
        assert_eq!(run.0, file.0);
        assert!((run.1 - file.1).abs() < 1e-6, "{run:?} {file:?}");
    }
}

#[test]
fn bad_files_and_endings_are_refused() {
    let place = Place::new();
    place.train("run", &["--set", "train.epochs=3"]).good();
    let run = |arguments: &[&str]| place.run(arguments);
    run(&["export", "run", "--to", "model.zip"]).refused(2, &["model.zip", ".skinny"]);
    run(&["export", "none", "--to", "a.skinny"]).refused(2, &["none"]);
    run(&["export", "run", "--to", "no/folder/a.skinny"]).refused(3, &["no/folder/a.skinny"]);
    run(&["export", "run", "--to", "good.skinny"]).good();
    run(&["eval", "good.skinny"]).refused(2, &["--recipe"]);
    let bytes = fs::read(place.path("good.skinny")).unwrap();
    place.write("cut.skinny", &bytes[..bytes.len() - 9]);
    for verb in ["inspect", "summary"] {
        run(&[verb, "cut.skinny"]).refused(3, &["cut.skinny", "bytes"]);
        run(&[verb, "nowhere.skinny"]).refused(3, &["nowhere.skinny"]);
    }
    fs::copy(
        place.path("run/weights/last.safetensors"),
        place.path("weights.skinny"),
    )
    .unwrap();
    run(&["inspect", "weights.skinny"]).refused(3, &["not a .skinny file", "export"]);
}

#[test]
fn weights_that_are_no_numbers_are_refused_by_name() {
    let place = Place::new();
    place.train("run", &["--set", "train.epochs=2"]).good();
    let path = place.path("run/weights/last.safetensors");
    let mut tensors = Tensors::load(&path).unwrap();
    tensors.get_mut("fc2.bias").unwrap().data[3] = f32::NAN;
    tensors.save(&path).unwrap();
    let words = ["`fc2.bias`", "NaN"];
    let told = place.run(&["export", "run", "--to", "nan.skinny"]);
    told.refused(3, &["run: ", words[0], words[1]]);
    assert!(!place.path("nan.skinny").exists());
    place.run(&["eval", "run"]).refused(3, &words);
}

/// `w * mask` in other programs leaves −0.0 where a negative weight is dropped.
#[test]
fn weights_that_were_pruned_elsewhere_are_packed_sparse() {
    let place = Place::new();
    place.train("run", &["--set", "train.epochs=3"]).good();
    let mut tensors = Tensors::load(&place.path("run/weights/last.safetensors")).unwrap();
    let mut sizes = Vec::new();
    for zero in [0.0, -0.0] {
        for name in ["conv1.weight", "fc1.weight", "fc2.weight"] {
            let values = tensors.get_mut(name).unwrap().data.iter_mut();
            values
                .filter(|value| **value == 0.0)
                .for_each(|value| *value = zero);
        }
        tensors.save(&place.path("pruned.safetensors")).unwrap();
        let export = [
            "export",
            "pruned.safetensors",
            "--recipe",
            "small.toml",
            "--to",
            "a.skinny",
        ];
        place.run(&export).good();
        sizes.push(fs::metadata(place.path("a.skinny")).unwrap().len());
    }
    assert_eq!(sizes[0], sizes[1]);
}
