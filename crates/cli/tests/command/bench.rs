//! How fast models are, by the command.

use std::fs;
use std::process::Command;

use crate::support::Place;

/// Of ONNX Runtime and PyTorch those that Python can import.
fn peers(python: &str) -> Vec<&'static str> {
    let imports = |module: &str| {
        let mut command = Command::new(python);
        command.args(["-c", &format!("import {module}")]);
        command.output().is_ok_and(|told| told.status.success())
    };
    let known = [
        ("onnxruntime", "onnxruntime, numpy"),
        ("torch", "torch, safetensors.torch, numpy"),
    ];
    let there = known.into_iter().filter(|(name, modules)| {
        let there = imports(modules);
        if !there {
            eprintln!("SKIPPED: {python} cannot import {modules}, nothing is compared with {name}");
        }
        there
    });
    there.map(|(name, _)| name).collect()
}

#[test]
fn a_network_is_measured_at_every_density_batch_and_number_of_threads() {
    let place = Place::new();
    let arguments = [
        "--json",
        "bench",
        "small.net.toml",
        "--density",
        "1,0.25",
        "--batch",
        "1,3",
        "--threads",
        "1,2",
        "--seconds",
        "0",
        "--layers",
    ];
    let objects = place.run(&arguments).good().objects();
    let of = |event: &str| {
        objects
            .iter()
            .filter(move |object| object["event"] == event)
            .collect::<Vec<_>>()
    };
    let measured = of("bench");
    assert_eq!(measured.len(), 2 * 2 * 2);
    for (at, result) in measured.iter().enumerate() {
        assert_eq!(result["batch"], [1, 3][at % 2]);
        assert_eq!(result["threads"], [1, 2][at / 2 % 2]);
        let number = |key: &str| {
            result[key]
                .as_f64()
                .unwrap_or_else(|| panic!("no {key}: {result}"))
        };
        for key in [
            "load_ms",
            "images_per_s",
            "gflops_dense",
            "peak_gflops",
            "peak_fraction",
        ] {
            assert!(number(key) > 0.0, "{key}: {result}");
        }
        assert!(0.0 < number("latency_ms_min"));
        assert!(number("latency_ms_min") <= number("latency_ms_median"));
        assert!(number("latency_ms_median") <= number("latency_ms_p99"));
        if cfg!(target_os = "linux") {
            assert!(number("peak_rss_bytes") > 1e5);
        }
        let share = number("gflops_real") / number("gflops_dense");
        let density = [1.0, 0.25][at / 4];
        assert!((share - density).abs() < 0.02, "{share} at {density}");
        assert_eq!(result["file_bytes"], serde_json::Value::Null);
        assert_eq!(result["peers"], serde_json::json!({}));
    }
    let layers = of("layer");
    let names: Vec<&str> = layers
        .iter()
        .map(|layer| layer["layer"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["conv1", "fc1", "fc2"].repeat(2));
    for layer in layers {
        let costs = layer["microseconds"].as_object().unwrap();
        assert!(costs.contains_key("dense"), "{layer}");
        assert!(
            costs.contains_key(layer["kernel"].as_str().unwrap()),
            "{layer}"
        );
    }
}

#[test]
fn a_file_and_its_run_are_the_same_model() {
    let place = Place::new();
    place.train("run", &[]).good();
    place.run(&["export", "run", "--to", "small.skinny"]).good();
    let arguments = ["bench", "small.skinny", "run", "--seconds", "0", "--tune"];
    let objects = place
        .run(&[&["--json"], &arguments[..]].concat())
        .good()
        .objects();
    assert_eq!(objects.len(), 2);
    let bytes = fs::metadata(place.path("small.skinny")).unwrap().len();
    for object in &objects {
        assert_eq!(object["file_bytes"], bytes);
        assert_eq!(object["nonzeros"], objects[0]["nonzeros"]);
    }
    assert!(
        place.path("small.skinny.tuned.json").exists(),
        "what was measured is kept"
    );
    let table = place.run(&arguments).good().out;
    assert!(
        table.contains("images/s") && table.contains("small.skinny: "),
        "{table}"
    );
}

#[test]
fn others_run_the_same_weights_and_agree() {
    let Ok(python) = std::env::var("SKINNY_PYTHON") else {
        eprintln!("SKIPPED: SKINNY_PYTHON is not set, nothing is compared with other programs");
        return;
    };
    let peers = peers(&python);
    if peers.is_empty() {
        return;
    }
    let place = Place::new();
    place.train("run", &[]).good();
    for model in ["run", "small.net.toml"] {
        let mut command = place.command(&[
            "--json",
            "bench",
            model,
            "--against",
            &peers.join(","),
            "--batch",
            "2",
            "--seconds",
            "0",
        ]);
        command.env("SKINNY_PYTHON", &python);
        let objects = place.finish(command).good().objects();
        for peer in &peers {
            let told = &objects[0]["peers"][*peer];
            for key in [
                "latency_ms_median",
                "latency_ms_min",
                "load_ms",
                "peak_rss_bytes",
            ] {
                assert!(told[key].as_f64().is_some_and(|x| x > 0.0), "{key}: {told}");
            }
            assert_eq!((&told["batch"], &told["threads"]), (&2.into(), &1.into()));
            assert!(told["largest_difference"].as_f64().unwrap() < 1e-5);
        }
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let place = Place::new();
    place.train("run", &[]).good();
    let bench = |more: &[&str]| place.run(&[&["bench"], more].concat());
    bench(&["no-such-net"]).refused(2, &["no-such-net", "run folder"]);
    bench(&["run", "--density", "0.1"]).refused(2, &["run", "--density"]);
    bench(&["gone.skinny"]).refused(3, &["gone.skinny"]);
    let train = ["--train", "small.toml"];
    bench(&[&train[..], &["--batch", "1,2"]].concat()).refused(2, &["--batch", "one value"]);
    for wrong in [
        &[][..],
        &["run", "--density", "0"],
        &["run", "--batch", "0"],
        &["run", "--seconds", "-1"],
        &["run", "--set", "a=b"],
        &["run", "--train", "small.toml"],
    ] {
        assert_eq!(bench(wrong).code, 2, "{wrong:?}");
    }
    for (python, words) in [
        ("no-such-python", ["cannot start", "venv"]),
        ("true", ["does not answer", "venv"]),
    ] {
        let mut command = place.command(&["bench", "run", "--against", "onnxruntime"]);
        command.env("SKINNY_PYTHON", python);
        place.finish(command).refused(3, &words);
    }
}
