//! Comparisons of runs whose numbers are known.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::groups::{Baseline, Grouped, Metric, group};
use super::pictures::pictures;
use super::runs::Found;
use super::statistics::Verdict;
use super::table::Comparison;
use crate::report::plots::ink;

/// Writes a run folder: recipe and summary.
fn run(folder: &Path, sparsity: &str, lr: f64, seed: u64, error: f64) {
    fs::create_dir_all(folder).unwrap();
    let recipe = format!(
        "name = \"a\"\nseed = {seed}\n[data]\nname = \"mnist\"\nvalidation = 100\n[network]\nname = \"lenet5\"\n[train]\nlr = {lr}\n[sparsity]\n{sparsity}\n"
    );
    fs::write(folder.join("recipe.toml"), recipe).unwrap();
    let method = sparsity.split('"').nth(1).unwrap();
    let density: f64 = sparsity
        .rsplit("density = ")
        .next()
        .unwrap()
        .parse()
        .unwrap_or(1.0);
    let summary = json!({
        "schema": 1, "name": "a", "seed": seed, "method": method, "network": "lenet5", "data": "mnist", "status": "finished",
        "epochs": 15, "steps": 100, "density": density, "parameters": 1000, "weights": 990,
        "nonzeros": (density * 990.0) as usize + 10, "dense_bytes": 4000, "packed_bytes": (4000.0 * density) as u64 + 100,
        "best_epoch": null, "best_validation_error": null, "validation_error": error + 0.001,
        "test_error": error, "test_loss": 0.1, "seconds": 10.0,
        "settings_hash": format!("{sparsity}{lr}"), "dense_twin": null,
    });
    fs::write(folder.join("summary.json"), summary.to_string()).unwrap();
}

const DENSE: &str = "method = \"dense\"";

fn iht(density: f64) -> String {
    format!("method = \"iht\"\ndensity = {density}")
}

/// Three seeds each: a dense network, one that is surely worse at density .1, one that differs by chance at .5; the errors of a seed go
/// up and down together.
fn study() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (seed, luck) in [(0, 0.001), (1, 0.0), (2, -0.001)] {
        let path = |name: &str| folder.path().join(format!("{name}-seed-{seed}"));
        let odd = 0.0001 * (seed % 2) as f64;
        run(&path("dense"), DENSE, 0.1, seed, 0.010 + luck);
        run(&path("iht-a"), &iht(0.1), 0.1, seed, 0.012 + luck + odd);
        run(&path("iht-b"), &iht(0.5), 0.1, seed, 0.010 - luck);
    }
    folder
}

fn compared(found: &Found, keys: &[&str], baseline: &str) -> Grouped {
    let keys: Vec<String> = keys.iter().map(|key| key.to_string()).collect();
    let baseline = Baseline::parse(baseline).unwrap();
    group(&found.runs, &keys, &baseline, Metric::Test).unwrap()
}

fn read(paths: &[&Path]) -> Found {
    let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
    Found::read(&paths).unwrap()
}

fn whole(found: Found, keys: &[&str]) -> Comparison {
    let Grouped { groups, notes } = compared(&found, keys, "method=dense");
    Comparison {
        keys: keys.iter().map(|key| key.to_string()).collect(),
        baseline: Baseline::parse("method=dense").unwrap(),
        metric: Metric::Test,
        runs: found.runs,
        missing: found.missing,
        groups,
        notes,
    }
}

#[test]
fn pairs_see_what_means_alone_do_not() {
    let folder = study();
    let found = read(&[folder.path()]);
    assert_eq!((found.runs.len(), found.missing.len()), (9, 0));
    let Grouped { groups, notes } = compared(&found, &["method", "density"], "method=dense");
    assert!(notes.is_empty(), "{notes:?}");
    let values: Vec<String> = groups.iter().map(|group| group.values.join(" ")).collect();
    assert_eq!(values, ["dense 1", "iht 0.5", "iht 0.1"]);
    assert!(groups[0].is_baseline && groups[0].difference.is_none());
    let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(close(groups[0].error.mean, 0.01) && close(groups[0].error.sd.unwrap(), 0.001));
    let tenth = groups[2].difference.unwrap();
    assert_eq!(tenth.verdict, Verdict::Worse);
    assert!(close(tenth.sample.mean, 0.002 + 0.0001 / 3.0));
    // Their intervals overlap all the same.
    assert!(groups[2].error.interval.unwrap().0 < groups[0].error.interval.unwrap().1);
    assert_eq!(groups[1].difference.unwrap().verdict, Verdict::Noise);
    assert!(close(groups[2].nonzeros, 109.0) && close(groups[2].bytes, 500.0));
}

#[test]
fn partners_have_the_same_training() {
    let folder = study();
    for seed in 0..3 {
        let path = folder.path().join(format!("faster-seed-{seed}"));
        run(&path, &iht(0.1), 0.2, seed, 0.5);
    }
    let found = read(&[folder.path()]);
    let Grouped { groups, notes } = compared(&found, &["method", "density"], "method=dense");
    assert_eq!(groups[2].runs.len(), 6);
    let said = notes.join("\n");
    assert!(
        said.contains("differ in more than their seed (train.lr)"),
        "{said}"
    );
    assert!(said.contains("3 of 6 runs have no partner"), "{said}");
    let Grouped { groups, notes } =
        compared(&found, &["method", "density", "train.lr"], "method=dense");
    let faster = groups
        .iter()
        .find(|group| group.values[2] == "0.2")
        .unwrap();
    assert_eq!((faster.runs.len(), faster.difference), (3, None));
    let said = notes.join("\n");
    assert!(said.contains("0.2: 3 of 3 runs have no partner"), "{said}");
    // A baseline may be anything; the other keys are then the same.
    let Grouped { groups, .. } = compared(&found, &["train.lr", "density"], "train.lr=0.1");
    let faster = groups
        .iter()
        .find(|group| group.values == ["0.2", "0.1"])
        .unwrap();
    let difference = faster.difference.unwrap();
    assert_eq!(
        (difference.sample.count, difference.verdict),
        (3, Verdict::Worse)
    );
    let Grouped { groups, .. } = compared(&found, &["case"], "case=iht-b");
    let names: Vec<&str> = groups
        .iter()
        .map(|group| group.values[0].as_str())
        .collect();
    assert_eq!(names, ["iht-b", "dense", "faster", "iht-a"]);
    assert!(groups[1..].iter().all(|group| group.difference.is_some()));
}

#[test]
fn a_missing_seed_of_the_baseline_has_no_stand_in() {
    let folder = study();
    for seed in 0..3 {
        let path = folder.path().join(format!("gradual-seed-{seed}"));
        let gradual = "method = \"gradual\"\ndensity = 0.1";
        run(&path, gradual, 0.1, seed, 0.02);
    }
    fs::remove_dir_all(folder.path().join("iht-a-seed-1")).unwrap();
    let found = read(&[folder.path()]);
    let Grouped { groups, notes } = compared(&found, &["method", "density"], "method=iht");
    let gradual = groups.iter().find(|group| group.values[0] == "gradual");
    let pairs = gradual.unwrap().difference.unwrap().sample.count;
    assert_eq!(pairs, 2, "that of density 0.5 is none");
    let said = notes.join("\n");
    assert!(said.contains("1 of 3 runs have no partner"), "{said}");
}

#[test]
fn a_run_of_the_baseline_is_not_compared_with_itself() {
    let folder = study();
    for seed in 0..3 {
        fs::remove_dir_all(folder.path().join(format!("iht-b-seed-{seed}"))).unwrap();
    }
    let found = read(&[folder.path()]);
    let Grouped { groups, notes } = compared(&found, &["network"], "method=dense");
    assert_eq!(groups[0].runs.len(), 6);
    assert!(!notes.join("\n").contains("no partner"), "{notes:?}");
    let difference = groups[0].difference.unwrap();
    assert_eq!(difference.sample.count, 3);
    assert!(
        (difference.sample.mean - 0.002).abs() < 1e-4,
        "of IHT alone"
    );
}

#[test]
fn runs_that_share_a_partner_are_no_seeds_of_their_own() {
    let folder = study();
    let found = read(&[folder.path()]);
    let Grouped { groups, notes } = compared(&found, &["method"], "method=dense");
    let iht = &groups[1];
    assert_eq!((iht.runs.len(), iht.seeds, iht.difference), (6, 3, None));
    let said = notes.join("\n");
    assert!(
        said.contains("iht: several of its runs have the same partner"),
        "{said}"
    );
    assert!(!said.contains("no run"), "{said}");
    // Seen from dense, every seed has two runs of IHT.
    let Grouped { notes, .. } = compared(&found, &["method"], "method=iht");
    let said = notes.join("\n");
    assert!(
        said.contains("every seed has several partners with iht"),
        "{said}"
    );
    let Grouped { notes, .. } = compared(&found, &["method", "density"], "method=iht,density=0.1");
    assert!(notes.is_empty(), "{notes:?}");
    let Grouped { notes, .. } = compared(&found, &["method"], "method=rigl");
    assert_eq!(
        notes.last().unwrap(),
        "no run is rigl, so there is nothing to compare with; choose a baseline with --baseline"
    );
}

#[test]
fn what_the_baseline_fixes_may_be_called_by_its_short_name() {
    let folder = study();
    for seed in 0..3 {
        let path = folder.path().join(format!("long-seed-{seed}"));
        run(&path, DENSE, 0.1, seed, 0.005);
        for (file, from, to) in [
            ("recipe.toml", "lr = 0.1", "lr = 0.1\nepochs = 30"),
            ("summary.json", "\"epochs\":15", "\"epochs\":30"),
            ("summary.json", "\"dense\\\"0.1", "\"dense\\\"0.1 long"),
        ] {
            let text = fs::read_to_string(path.join(file)).unwrap();
            assert!(text.contains(from), "{text}");
            fs::write(path.join(file), text.replace(from, to)).unwrap();
        }
    }
    let found = read(&[folder.path()]);
    for key in ["epochs", "train.epochs"] {
        let Grouped { groups, .. } =
            compared(&found, &["method", "density", key], &format!("{key}=15"));
        let long = groups.iter().find(|group| group.values[2] == "30");
        assert_eq!(long.unwrap().difference.unwrap().sample.count, 3, "{key}");
    }
}

#[test]
fn nothing_is_dropped_in_silence() {
    let folder = study();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("begun-seed-0")).unwrap();
    let recipe = fs::read(path("dense-seed-0/recipe.toml")).unwrap();
    fs::write(path("begun-seed-0/recipe.toml"), &recipe).unwrap();
    fs::write(path("begun-seed-0/results.csv"), "epoch\n1\n2\n").unwrap();
    fs::create_dir_all(path("wild-seed-0")).unwrap();
    fs::write(path("wild-seed-0/recipe.toml"), &recipe).unwrap();
    fs::write(
        path("wild-seed-0/failure.json"),
        r#"{"message":"training diverged"}"#,
    )
    .unwrap();
    run(&path("copy"), DENSE, 0.1, 0, 0.011);
    fs::create_dir_all(path("broken")).unwrap();
    fs::write(path("broken/recipe.toml"), &recipe).unwrap();
    fs::write(path("broken/summary.json"), "{").unwrap();
    fs::write(
        path("sweep.toml"),
        "name = \"s\"\nrecipe = \"mnist-lenet5-dense\"\nseeds = [7]\n",
    )
    .unwrap();
    // Another sweep beside its recipe, which cannot be read.
    fs::create_dir_all(path("other")).unwrap();
    fs::write(path("other/recipe.toml"), &recipe).unwrap();
    fs::write(path("other/sweep.toml"), "name = \"other\"\n").unwrap();
    run(&path("other/seed-8"), DENSE, 0.1, 8, 0.010);
    let found = read(&[folder.path(), &path("dense-seed-0")]);
    let other = found.runs.iter().find(|run| run.summary.seed == 8).unwrap();
    assert_eq!(other.value("case").as_deref(), Some("other"));
    assert_eq!(found.runs.len(), 10, "given twice is not counted twice");
    let states: Vec<String> = (found.missing.iter())
        .map(|missing| {
            let name = missing.folder.file_name().unwrap().to_string_lossy();
            format!("{name}: {}", missing.state)
        })
        .collect();
    assert_eq!(
        states,
        [
            "begun-seed-0: begun",
            "broken: unreadable",
            "dense-seed-0: repeated",
            "sweep.toml: unreadable",
            "seed-7: to do",
            "wild-seed-0: failed"
        ]
    );
    let text = whole(found, &["method", "density"]).markdown();
    for words in [
        "begun-seed-0: begun (2 epochs done)",
        "wild-seed-0: failed (training diverged)",
        "1 still to do: ",
    ] {
        assert!(text.contains(words), "{text}");
    }
    assert!(Found::read(&[path("nowhere")]).is_err());
    let no_such_key = group(
        &read(&[folder.path()]).runs,
        &["colour".to_string()],
        &Baseline::parse("method=dense").unwrap(),
        Metric::Test,
    );
    assert!(no_such_key.unwrap_err().message.contains("`colour`"));
    assert!(Baseline::parse("dense").is_err());
}

#[test]
fn the_tables_say_the_same_in_every_form() {
    let folder = study();
    let comparison = whole(read(&[folder.path()]), &["method", "density"]);
    insta::assert_snapshot!("comparison", comparison.markdown());
    let csv = comparison.csv();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 4);
    let columns = lines[0].split(',').count();
    assert!(
        lines.iter().all(|line| line.split(',').count() == columns),
        "{csv}"
    );
    let json = comparison.json();
    assert_eq!(json["groups"][2]["difference"]["verdict"], "worse");
    assert_eq!(json["groups"][2]["keys"]["density"], "0.1");
    assert_eq!(json["groups"][0]["seeds"], json!([0, 1, 2]));
}

#[test]
fn series_of_one_method_can_be_told_apart() {
    let folder = study();
    for seed in 0..3 {
        let path = |name: &str| folder.path().join(format!("{name}-seed-{seed}"));
        for (name, density) in [("iht-c", 0.1), ("iht-d", 0.5)] {
            run(&path(name), &iht(density), 0.2, seed, 0.015);
        }
    }
    let found = read(&[folder.path()]);
    let comparison = whole(found, &["method", "density", "train.lr"]);
    for (name, canvas) in pictures(&comparison) {
        let svg = canvas.svg_file();
        for ink in [ink::DENSE, ink::KEPT, ink::TRAIN] {
            assert!(svg.contains(ink), "{name} without {ink}");
        }
    }
}

#[test]
fn pictures_are_drawn_of_what_there_is() {
    let folder = study();
    let mut comparison = whole(read(&[folder.path()]), &["method", "density"]);
    let names = |comparison: &Comparison| -> Vec<String> {
        pictures(comparison)
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    };
    assert_eq!(names(&comparison), ["error-density", "error-bytes"]);
    for (index, group) in comparison.groups.iter_mut().enumerate() {
        group.milliseconds = Some(1.0 / (index + 1) as f64);
    }
    assert_eq!(names(&comparison).len(), 3);
    for (name, canvas) in pictures(&comparison) {
        let svg = canvas.svg_file();
        assert!(
            svg.contains("iht") && svg.contains("dense"),
            "{name}: {svg}"
        );
        assert!(svg.contains("lenet5 on mnist"));
        assert!(!svg.contains("NaN"));
    }
    comparison.groups.truncate(1);
    assert!(names(&comparison).is_empty());
}
