//! What the program prints: help, plans, summaries, JSON, and the tables at the end of a run.

use std::fs;

use crate::support::{Place, SIDE};

fn printed(arguments: &[&str]) -> String {
    Place::new().run(arguments).good().out
}

#[test]
fn help_says_what_there_is() {
    insta::assert_snapshot!("help", printed(&["--help"]));
    insta::assert_snapshot!("help-train", printed(&["train", "--help"]));
    for verb in [
        "eval",
        "predict",
        "plan",
        "sweep",
        "compare",
        "sensitivity",
        "slim",
        "bench",
        "summary",
        "export",
        "import",
        "inspect",
        "report",
        "data",
        "recipes",
        "env",
        "man",
    ] {
        let help = printed(&[verb, "--help"]);
        assert!(
            help.contains("Example") && help.contains(&format!("skinny {verb}")),
            "{help}"
        );
    }
}

/// Unlike those of the program, never tuned.
const FIXED: &str = r#"
name = "fixed"
data = { name = "mnist", batch = 128, validation = 5000 }
network = { name = "lenet5" }
train = { epochs = 15, lr = 0.1, momentum = 0.9, nesterov = true, schedule = "one-cycle" }
sparsity = { method = "iht", density = 0.05, budget = "erk", ramp = "cubic", final_thresholds = 2 }
"#;

#[test]
fn a_plan_needs_no_data() {
    let place = Place::new();
    fs::remove_dir_all(place.path("data")).unwrap();
    place.write("fixed.toml", FIXED);
    let told = place.run(&["plan", "fixed.toml"]).good();
    insta::assert_snapshot!("plan", told.out);
    let told = place.run(&["plan", "mnist-lenet5-iht-20x"]).good();
    let all = told
        .out
        .lines()
        .find(|line| line.starts_with("all "))
        .unwrap();
    let all: Vec<&str> = all.split_whitespace().collect();
    assert_eq!(all, ["all", "430,500", "21,525", "0.0500"]);
    for recipe in place.run(&["recipes", "--json"]).good().objects() {
        let name = recipe["name"].as_str().unwrap();
        let plan = place.run(&["plan", name]).good();
        assert!(plan.out.contains("packed"), "{}", plan.out);
        let shown = place.run(&["recipes", name]).good();
        place.write("copy.toml", &shown.out);
        assert_eq!(place.run(&["plan", "copy.toml"]).good().out, plan.out);
    }
}

#[test]
fn a_summary_shows_the_layers() {
    insta::assert_snapshot!("summary", printed(&["summary", "lenet5"]));
    let place = Place::new();
    let own = place.run(&["summary", "small.net.toml"]).good();
    assert!(own.out.contains("fc1"), "{}", own.out);
    for name in place.run(&["summary", "--list"]).good().out.lines() {
        place.run(&["summary", name]).good();
    }
}

#[test]
fn manual_and_completions_are_there() {
    let place = Place::new();
    assert!(place.run(&["man"]).good().out.contains(".TH skinny 1"));
    place.run(&["man", "--out", "pages"]).good();
    assert!(place.path("pages/skinny-train.1").exists());
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = place.run(&["completions", shell]).good().out;
        assert!(script.contains("resume"), "{shell}");
    }
}

#[test]
fn json_is_one_object_per_line() {
    let place = Place::new();
    let run = |arguments: &[&str]| {
        place
            .run(&[&["--json"], arguments].concat())
            .good()
            .objects()
    };
    let events = run(&["train", "small.toml", "--out", "run", "--with-dense"]);
    let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!(
        (count("start"), count("epoch"), count("finished")),
        (2, 10, 1)
    );
    assert!(count("flip") >= 5);
    let summary = &events.last().unwrap()["summary"];
    assert_eq!(summary["status"], "finished");
    assert_eq!(summary["dense_twin"]["run"], "run-dense");
    let eval = run(&["eval", "run"]);
    assert_eq!(eval[0]["error"], summary["test_error"]);
    assert_eq!(eval[0]["nonzeros"], summary["nonzeros"]);
    let best = run(&["eval", "run", "--weights", "best"]);
    assert_eq!(best[0]["images"], 96);
    let weights = run(&[
        "eval",
        "run/weights/last.safetensors",
        "--recipe",
        "small.toml",
    ]);
    assert_eq!(weights, eval);
    let report = run(&["report", "run", "run-dense", "--out", "compared"]);
    assert!(place.path(report[0]["page"].as_str().unwrap()).exists());
    for arguments in [
        &["plan", "small.toml"][..],
        &["recipes"],
        &["recipes", "small.toml"],
        &["env"],
        &["data", "list"],
        &["data", "info", "mnist"],
        &["summary", "lenet5"],
        &["summary", "--list"],
    ] {
        run(arguments);
    }
    let told = place.run(&["--json", "train", "nonsense"]);
    let told = told.refused(2, &["nonsense"]);
    assert_eq!(told.objects()[0]["event"], "error");
    assert_eq!(told.objects()[0]["code"], 2);
}

#[test]
fn pictures_are_classified() {
    let place = Place::new();
    place
        .train(
            "run",
            &["--set", "train.epochs=12", "--set", "sparsity.density=0.5"],
        )
        .good();
    // The bright bar of class 3, at twice the size of the network's input.
    let side = 2 * SIDE as u32;
    let bar = image::GrayImage::from_fn(side, side, |_, y| {
        image::Luma([if y / 2 == 7 { 230 } else { 60 }])
    });
    bar.save(place.path("three.png")).unwrap();
    let told = place
        .run(&["predict", "run", "three.png", "--top", "2"])
        .good();
    assert!(told.out.starts_with("three.png: 3 "), "{}", told.out);
    let classes = place
        .run(&["--json", "predict", "run", "three.png", "--top", "10"])
        .good();
    let classes = classes.objects()[0]["classes"].clone();
    let sum: f64 = (classes.as_array().unwrap().iter())
        .map(|class| class["probability"].as_f64().unwrap())
        .sum();
    assert!((sum - 1.0).abs() < 1e-5);
    place.write("none.png", "no picture");
    let told = place.run(&["predict", "run", "none.png", "three.png", "nowhere.png"]);
    assert_eq!(told.code, 3);
    assert!(
        told.out.starts_with("three.png: 3 "),
        "the others are classified: {}",
        told.out
    );
    assert!(
        told.err.contains("none.png") && told.err.contains("nowhere.png"),
        "{}",
        told.err
    );
    let told = place.run(&["--json", "predict", "run", "none.png", "three.png"]);
    let objects = told.objects();
    assert_eq!(objects[0]["picture"], "none.png");
    assert!(objects[0]["error"].is_string() && objects[1]["classes"].is_array());
}

/// The default job, small enough for a test.
const TINY: [&str; 10] = [
    "--set",
    "data.train=256",
    "--set",
    "data.test=100",
    "--set",
    "data.validation=100",
    "--set",
    "train.epochs=3",
    "--threads",
    "1",
];

#[test]
fn the_default_job_ends_with_the_table_and_reuses_its_twin() {
    let place = Place::new();
    let told = place.run(&[&["train"][..], &TINY].concat()).good();
    let lines: Vec<Vec<&str>> = told
        .out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let row = |first: &str| {
        lines
            .iter()
            .find(|words| words.first() == Some(&first))
            .unwrap()
    };
    assert_eq!(row("dense")[..], ["dense", "skinny"]);
    assert_eq!(row("error").len(), 5, "{}", told.out);
    assert_eq!(row("non-zeros")[1], "439,096");
    assert!(row("file").last().unwrap().ends_with(')'));
    let latency = row("latency");
    for milliseconds in [latency[1], latency[3]] {
        assert!(milliseconds.parse::<f64>().unwrap() > 0.0, "{}", told.out);
    }
    assert!(told.out.contains(", batch 1, 1 thread)"), "{}", told.out);
    let next = "next: skinny report runs/glyphs-lenet5-iht-10x runs/glyphs-lenet5-dense";
    assert_eq!(told.out.lines().last(), Some(next));
    assert_eq!(told.err.matches(": done in ").count(), 2);
    let again = place.run(&[&["train"][..], &TINY].concat()).good();
    assert_eq!(again.err.matches(": done in ").count(), 1, "{}", again.err);
    let next = "next: skinny report runs/glyphs-lenet5-iht-10x-2 runs/glyphs-lenet5-dense";
    assert_eq!(again.out.lines().last(), Some(next));
    let table = |out: &str| {
        out.lines()
            .filter(|line| !line.starts_with("next") && !line.starts_with("latency"))
            .map(str::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(table(&told.out), table(&again.out));
    // Another schedule has another twin, which is not there.
    let named = [
        &["train", "glyphs-lenet5-iht-10x"][..],
        &TINY,
        &["--set", "train.lr=0.04"],
    ]
    .concat();
    let other = place.run(&named).good();
    let error = other
        .out
        .lines()
        .find(|line| line.starts_with("error"))
        .unwrap();
    assert_eq!(error.split_whitespace().nth(1), Some("–"));
    place
        .run(&[
            "report",
            "runs/glyphs-lenet5-iht-10x",
            "runs/glyphs-lenet5-dense",
        ])
        .good();
    place.run(&["report", "runs/glyphs-lenet5-iht-10x"]).good();
    assert!(
        place
            .path("runs/glyphs-lenet5-iht-10x/report.html")
            .exists()
    );
}

#[test]
fn several_seeds_end_with_mean_and_deviation() {
    let place = Place::new();
    let start = [
        "train",
        "small.toml",
        "--seeds",
        "0..1",
        "--out",
        "seeds",
        "--with-dense",
    ];
    let told = place.run(&start).good();
    let mean = told.out.lines().last().unwrap();
    assert!(mean.starts_with("mean ± sd  "), "{mean}");
    assert_eq!(mean.matches('±').count(), 3, "dense and skinny: {mean}");
    for folder in ["seed-0", "seed-1", "seed-0-dense", "seed-1-dense"] {
        assert!(
            place
                .path("seeds")
                .join(folder)
                .join("summary.json")
                .exists()
        );
    }
    let weights = |seed: &str| {
        fs::read(place.path(&format!("seeds/{seed}/weights/last.safetensors"))).unwrap()
    };
    assert!(weights("seed-0") != weights("seed-1"));
    // What is finished is not trained again, and one seed alone is the same run.
    let again = place.run(&start).good();
    assert_eq!(again.out.lines().last(), Some(mean));
    assert_eq!(again.err.matches("finished already").count(), 2);
    place.train("one", &["--seed", "1"]).good();
    let one = fs::read(place.path("one/weights/last.safetensors")).unwrap();
    assert!(weights("seed-1") == one);
    let other = place.run(&[&start[..], &["--set", "train.lr=0.04"]].concat());
    other.refused(2, &["seeds/seed-0", "other settings", "--out"]);
}
