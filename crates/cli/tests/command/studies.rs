//! Comparing runs, measuring layers, searching for the smallest network.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Place;

fn event<'a>(objects: &'a [Value], name: &str) -> &'a Value {
    objects
        .iter()
        .find(|object| object["event"] == name)
        .unwrap_or_else(|| panic!("no event {name} in {objects:?}"))
}

#[test]
fn runs_are_compared_with_their_dense_twins() {
    let place = Place::new();
    let seeds = |out: &str, more: &[&str]| {
        let start = [
            "train",
            "small.toml",
            "--threads",
            "1",
            "--seeds",
            "0..2",
            "--out",
            out,
        ];
        place.run(&[&start, more].concat()).good();
    };
    seeds("runs/iht", &[]);
    seeds("runs/dense", &["--set", "sparsity={method=\"dense\"}"]);
    let told = place
        .run(&[
            "--json",
            "compare",
            "runs",
            "--latency",
            "--out",
            "compared",
        ])
        .good();
    let objects = told.objects();
    let groups = event(&objects, "comparison")["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 2);
    assert_eq!(groups[0]["keys"]["method"], "dense");
    assert!(
        groups
            .iter()
            .all(|group| group["milliseconds"].as_f64().unwrap() > 0.0)
    );
    let iht = &groups[1];
    assert_eq!(iht["difference"]["count"], 3);
    // The mean of the differences is the difference of the means.
    let mean = |group: &Value| group["error"]["mean"].as_f64().unwrap();
    let difference = iht["difference"]["mean"].as_f64().unwrap();
    assert!((mean(iht) - mean(&groups[0]) - difference).abs() < 1e-12);
    let summary: Value =
        serde_json::from_slice(&fs::read(place.path("runs/iht/seed-1/summary.json")).unwrap())
            .unwrap();
    assert_eq!(iht["nonzeros"].as_f64(), summary["nonzeros"].as_f64());
    for name in [
        "compare.md",
        "compare.csv",
        "compare.json",
        "plots/error-density.png",
        "plots/error-milliseconds.svg",
    ] {
        assert!(place.path("compared").join(name).exists(), "{name}");
    }
    let table = place.run(&["compare", "runs"]).good().out;
    assert!(
        table.contains("| against dense |") && table.contains("| iht "),
        "{table}"
    );
    // A run that is not finished is told of and does not count.
    fs::remove_file(place.path("runs/iht/seed-2/summary.json")).unwrap();
    let table = place.run(&["compare", "runs"]).good().out;
    assert!(
        table.contains("not counted: runs/iht/seed-2: begun (5 epochs done)"),
        "{table}"
    );
    place.run(&["compare", "nowhere"]).refused(2, &["nowhere"]);
    place
        .run(&["compare", "runs", "--by", "colour"])
        .refused(2, &["colour"]);
    place
        .run(&["compare", "runs", "--baseline", "dense"])
        .refused(2, &["key=value"]);
}

#[test]
fn a_thin_network_is_set_beside_the_whole_one() {
    let place = Place::new();
    let thin = ["--set", "sparsity={method=\"small_dense\", density=0.3}"];
    // The cells of the row of non-zeros, without thousands separators.
    let row = |out: &str, more: &[&str]| -> Vec<String> {
        let told = place.train(out, &[&thin, more].concat()).good().out;
        let line = told.lines().find(|line| line.starts_with("non-zeros"));
        let cells = line.unwrap().split_whitespace().skip(1);
        cells.map(|cell| cell.replace(',', "")).collect()
    };
    let nonzeros = |run: &str| -> u64 {
        let text = fs::read(place.path(run).join("summary.json")).unwrap();
        let summary: Value = serde_json::from_slice(&text).unwrap();
        summary["nonzeros"].as_u64().unwrap()
    };
    let alone = row("alone/thin", &[]);
    let beside = row("runs/thin", &["--with-dense"]);
    let (whole, kept) = (nonzeros("runs/thin-dense"), nonzeros("runs/thin"));
    assert!(10 * kept < 4 * whole, "{kept} {whole}");
    assert_eq!(alone, ["–".to_string(), kept.to_string()]);
    let share = format!("({:.1}", 100.0 * kept as f64 / whole as f64);
    assert_eq!(
        beside,
        [&whole.to_string(), &kept.to_string(), &share, "%)"]
    );
}

#[test]
fn sensitivity_is_measured_on_held_out_pictures_and_makes_a_recipe() {
    let place = Place::new();
    place
        .train("run", &["--set", "sparsity={method=\"dense\"}"])
        .good();
    // Nothing of the test set is needed.
    let test = place.path("data/mnist/t10k-labels-idx1-ubyte");
    let labels = fs::read(&test).unwrap();
    let shuffled: Vec<u8> = (labels.iter().enumerate())
        .map(|(index, label)| if index < 8 { *label } else { (label + 1) % 10 })
        .collect();
    let arguments = [
        "--json",
        "sensitivity",
        "run",
        "--densities",
        "0.5,0.1,0.02",
        "--density",
        "0.2",
    ];
    let before = place.run(&arguments).good().objects();
    fs::write(&test, shuffled).unwrap();
    let after = place
        .run(&[&arguments[..], &["--threads", "1"]].concat())
        .good()
        .objects();
    let found = &event(&before, "sensitivity")["sensitivity"];
    assert_eq!(found, &event(&after, "sensitivity")["sensitivity"]);
    assert_eq!(
        (&found["held_out"], &found["pictures"]),
        (&Value::Bool(true), &Value::from(96))
    );
    let layers = found["layers"].as_array().unwrap();
    let names: Vec<&str> = layers
        .iter()
        .map(|layer| layer["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["conv1.weight", "fc1.weight", "fc2.weight"]);
    let last = |layer: &Value| layer["points"][2]["loss"].as_f64().unwrap();
    assert!(
        layers
            .iter()
            .any(|layer| last(layer) > found["loss"].as_f64().unwrap())
    );
    for name in [
        "sensitivity.json",
        "sensitivity.csv",
        "plots/sensitivity.png",
    ] {
        assert!(place.path("run").join(name).exists(), "{name}");
    }
    // What is printed is a part of a recipe.
    let printed = place
        .run(&[
            "sensitivity",
            "run",
            "--densities",
            "0.5,0.1",
            "--density",
            "0.2",
        ])
        .good()
        .out;
    let begin = printed.find("[sparsity]").unwrap();
    let end = printed[begin..]
        .find("\n\n\n")
        .or(printed[begin..].find("\nlayer "))
        .unwrap();
    let recipe = fs::read_to_string(place.path("small.toml")).unwrap();
    let recipe: String = recipe
        .lines()
        .filter(|line| !line.starts_with("sparsity"))
        .map(|line| line.to_string() + "\n")
        .collect();
    place.write(
        "own.toml",
        format!("{recipe}{}", &printed[begin..begin + end]),
    );
    let plan = place.run(&["plan", "own.toml"]).good().out;
    assert!(plan.contains("0.2"), "{plan}");
    place
        .run(&["sensitivity", "run", "--densities", "0.5,1.5"])
        .refused(2, &["densities"]);
    place
        .run(&["sensitivity", "run", "--density", "0"])
        .refused(2, &["--density"]);
    place
        .run(&["sensitivity", "nowhere"])
        .refused(2, &["nowhere"]);
}

const SLIM: [&str; 13] = [
    "slim",
    "dense",
    "--max-error-increase",
    "15",
    "--trials",
    "4",
    "--start",
    "0.3",
    "--threads",
    "1",
    "--set",
    "train.checkpoint=2it",
    "--out",
];

#[test]
fn slim_finds_a_smaller_network_and_goes_on_after_a_kill() {
    let place = Place::new();
    place
        .train(
            "dense",
            &[
                "--set",
                "sparsity={method=\"dense\"}",
                "--set",
                "train.epochs=8",
            ],
        )
        .good();
    let told = place
        .run(&[&["--json"], &SLIM[..], &["whole"]].concat())
        .good();
    let objects = told.objects();
    let slim = event(&objects, "slim");
    let trials = slim["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 4);
    let limit = slim["validation_error"].as_f64().unwrap() + 0.15;
    for trial in trials {
        let error = trial["validation_error"].as_f64().unwrap();
        assert_eq!(
            trial["good"].as_bool().unwrap(),
            error <= limit + 1e-9,
            "{trial}"
        );
    }
    let winner = &slim["winner"];
    let good = trials.iter().filter(|trial| trial["good"] == true);
    let fewest = good.map(|trial| trial["nonzeros"].as_u64().unwrap()).min();
    assert_eq!(winner["nonzeros"].as_u64(), fewest, "{slim}");
    let file = winner["file"].as_str().unwrap();
    assert_eq!(
        fs::metadata(place.path(file)).unwrap().len(),
        winner["file_bytes"].as_u64().unwrap()
    );
    let eval = place
        .run(&["--json", "eval", file, "--recipe", "small.toml"])
        .good()
        .objects();
    assert_eq!(eval[0]["error"], winner["test_error"]);
    assert_eq!(eval[0]["nonzeros"], winner["nonzeros"]);
    // Killed in its second trial, it ends in the same way.
    let mut child = place.start(&[&SLIM[..], &["killed"]].concat());
    let begun = Instant::now();
    let runs = || {
        let entries = fs::read_dir(place.path("killed"))
            .into_iter()
            .flatten()
            .flatten();
        entries
            .filter(|entry| entry.path().join("results.csv").exists())
            .count()
    };
    while runs() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    place.run(&[&SLIM[..], &["killed"]].concat()).good();
    let record = |out: &str| -> Value {
        let text = fs::read_to_string(place.path(out).join("slim.json")).unwrap();
        serde_json::from_str(&text.replace("killed/", "whole/")).unwrap()
    };
    let (whole, killed) = (record("whole"), record("killed"));
    assert_eq!(whole, killed);
    // It is finished, so it is only told again; other settings are refused.
    let again = place.run(&[&SLIM[..], &["whole"]].concat()).good();
    assert!(again.out.contains("skinny inspect"), "{}", again.out);
    place
        .run(&[
            "slim",
            "dense",
            "--max-error-increase",
            "1",
            "--out",
            "whole",
        ])
        .refused(2, &["another --out"]);
}

#[test]
fn slim_says_when_there_is_nothing_to_find() {
    let place = Place::new();
    place
        .train("dense", &["--set", "sparsity={method=\"dense\"}"])
        .good();
    // A density at which a layer would keep nothing ends the search in that direction, not the search.
    let told = place
        .run(&[
            "slim",
            "dense",
            "--recipe",
            "small.toml",
            "--max-error-increase",
            "100",
            "--trials",
            "3",
            "--start",
            "0.02",
            "--budget",
            "recipe",
            "--set",
            "sparsity.budget=uniform",
            "--out",
            "tiny",
        ])
        .good();
    assert!(told.out.contains("impossible"), "{}", told.out);
    assert!(told.out.contains("skinny inspect"), "{}", told.out);
    // One step of training cannot repair anything.
    let told = place
        .run(&[
            "slim",
            "dense",
            "--max-error-increase",
            "0",
            "--trials",
            "2",
            "--start",
            "0.01",
            "--set",
            "train.lr=0.00001",
            "--out",
            "none",
        ])
        .good();
    assert!(
        told.out
            .contains("no smaller network lost at most 0 points"),
        "{}",
        told.out
    );
    // What a recipe says of its own density does not end the search at a larger one.
    let larger = [
        "slim",
        "dense",
        "--recipe",
        "small.toml",
        "--max-error-increase",
        "0",
        "--trials",
        "2",
        "--start",
        "0.2",
        "--set",
        "train.lr=0.00001",
        "--set",
        "sparsity.start_density=0.3",
        "--out",
        "larger",
    ];
    let told = place.run(&larger).good();
    assert!(told.out.contains("\n2          0.4 "), "{}", told.out);
    assert!(!told.out.contains("impossible"), "{}", told.out);
    let fixed = [
        "slim",
        "dense",
        "--recipe",
        "small.toml",
        "--max-error-increase",
        "1",
        "--budget",
        "recipe",
        "--set",
        "sparsity.budget=per_layer",
        "--set",
        "sparsity.layers={'*'=0.1}",
    ];
    place.run(&fixed).refused(2, &["--budget recipe"]);
    let recipe = fs::read_to_string(place.path("small.toml")).unwrap();
    let sparsity = recipe.find("sparsity =").unwrap();
    let pattern = "sparsity = { method = \"iht\", density = 0.5, structure = \"2:4\" }\n";
    place.write("pattern.toml", format!("{}{pattern}", &recipe[..sparsity]));
    for command in [
        &["sensitivity", "dense"][..],
        &["slim", "dense", "--max-error-increase", "1"],
    ] {
        place
            .run(&[command, &["--recipe", "pattern.toml"]].concat())
            .refused(2, &["2:4", "sparsity.structure"]);
    }
    place
        .run(&["slim", "dense", "--max-error-increase", "-1"])
        .refused(2, &["--max-error-increase"]);
    place
        .run(&[
            "slim",
            "dense",
            "--max-error-increase",
            "1",
            "--set",
            "data.validation=0",
        ])
        .refused(2, &["data.validation"]);
    // The network has learned from most of these.
    let seen = ["--set", "data.validation=120"];
    place
        .run(&[&["slim", "dense", "--max-error-increase", "1"], &seen[..]].concat())
        .refused(2, &["dense has learned from", "it held out 96"]);
    place.write(
        "more.toml",
        fs::read_to_string(place.path("small.toml"))
            .unwrap()
            .replace("validation = 96", "validation = 120"),
    );
    place
        .run(&["sensitivity", "dense", "--recipe", "more.toml"])
        .refused(2, &["dense has learned from"]);
    place
        .run(&[
            "slim",
            "dense/weights/last.safetensors",
            "--max-error-increase",
            "1",
        ])
        .refused(2, &["--recipe"]);
}
