//! Sweeps: every run once, whatever happens in between.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Place, assert_same};

/// 2 rates × 3 cases of one or two densities × 2 seeds: 12 runs.
const SWEEP: &str = r#"
name = "twelve"
recipe = "small.toml"
seeds = "0..1"
set = { train.checkpoint = "5it" }
grid = { train.lr = [0.05, 0.02] }
[[cases]]
name = "iht"
[[cases]]
name = "dense"
sparsity = { method = "dense" }
[[cases]]
name = "rigl"
sparsity = { method = "rigl", density = 0.2, regrow_every = "5it" }
"#;

fn runs(place: &Place, out: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(place.path(out))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Runs that are finished, with the moment when they were.
fn finished(place: &Place, out: &str) -> Vec<(String, std::time::SystemTime)> {
    let summary = |run: &String| place.path(out).join(run).join("summary.json");
    let is_there = fs::read_dir(place.path(out)).is_ok();
    let names = if is_there {
        runs(place, out)
    } else {
        Vec::new()
    };
    names
        .into_iter()
        .filter_map(|run| {
            Some((
                run.clone(),
                fs::metadata(summary(&run)).ok()?.modified().ok()?,
            ))
        })
        .collect()
}

#[test]
fn a_sweep_killed_anywhere_ends_with_twelve_runs_and_none_twice() {
    let place = Place::new();
    place.write("sweep.toml", SWEEP);
    let start = ["sweep", "sweep.toml", "--jobs", "2", "--out"];
    let started = Instant::now();
    let told = place.run(&[&start[..], &["whole"]].concat()).good();
    let whole = started.elapsed();
    assert_eq!(told.err.matches("about").count(), 11, "{}", told.err);
    assert!(told.err.contains("nothing left to do"), "{}", told.err);
    let names = runs(&place, "whole");
    assert_eq!(names.len(), 12);
    let mut before = Vec::new();
    for enough in [1, 4, 7] {
        let mut child = place.start(&[&start[..], &["killed"]].concat());
        // In the middle of whatever comes after so many finished runs.
        let waiting = Instant::now();
        while finished(&place, "killed").len() < enough {
            assert!(waiting.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(u64::from(
            started.elapsed().subsec_nanos() % 50,
        )));
        child.kill().unwrap();
        child.wait().unwrap();
        let now = finished(&place, "killed");
        assert!(
            before.iter().all(|run| now.contains(run)),
            "finished runs are left alone"
        );
        before = now;
    }
    assert!(before.len() < 12, "it was killed before its end");
    let told = place.run(&[&start[..], &["killed"]].concat()).good();
    assert_eq!(
        told.err.matches("finished already").count(),
        before.len(),
        "{}",
        told.err
    );
    assert_eq!(runs(&place, "killed"), names);
    let after = finished(&place, "killed");
    assert_eq!(after.len(), 12);
    assert!(
        before.iter().all(|run| after.contains(run)),
        "none is trained twice"
    );
    for name in names.iter().filter(|name| !name.starts_with("dense")) {
        let run = |out: &str| place.path(out).join(name);
        assert_same(&run("whole"), &run("killed"), name);
    }
    // Nothing is left to do.
    let began = Instant::now();
    let again = place.run(&[&start[..], &["killed"]].concat()).good();
    assert_eq!(again.err.matches("finished already").count(), 12);
    assert!(began.elapsed() < whole.max(Duration::from_secs(2)));
}

#[test]
fn shards_share_the_runs() {
    let place = Place::new();
    place.write("sweep.toml", SWEEP);
    for (index, variables) in [
        (
            0,
            vec![
                ("SLURM_ARRAY_TASK_ID", "4"),
                ("SLURM_ARRAY_TASK_MIN", "4"),
                ("SLURM_ARRAY_TASK_COUNT", "3"),
            ],
        ),
        (1, vec![]),
        (2, vec![("JOB_COMPLETION_INDEX", "2")]),
    ] {
        let mut command =
            place.command(&["sweep", "sweep.toml", "--out", "runs", "--threads", "1"]);
        match index {
            1 => command.args(["--shard", "1/3"]),
            2 => command.args(["--shards", "3"]),
            _ => &mut command,
        };
        command.envs(variables);
        let told = place.finish(command).good();
        assert!(
            told.err
                .contains(&format!("shard {index} of 3: 4 of 12 runs")),
            "{}",
            told.err
        );
        assert_eq!(finished(&place, "runs").len(), 4 * (index + 1));
    }
    let list = place
        .run(&["--json", "sweep", "sweep.toml", "--out", "runs", "--list"])
        .good();
    let states: Vec<Value> = list.objects();
    assert_eq!(states.len(), 12);
    assert!(states.iter().all(|run| run["state"] == "finished"));
    // A part of an array that is handed in again does what it would have done.
    let mut command = place.command(&["sweep", "sweep.toml", "--list", "--shards", "3", "--json"]);
    for (name, value) in [("ID", "2"), ("MIN", "2"), ("COUNT", "1")] {
        command.env(format!("SLURM_ARRAY_TASK_{name}"), value);
    }
    let shard = ["sweep", "sweep.toml", "--list", "--shard", "2/3", "--json"];
    let again = place.finish(command).good();
    assert_eq!(again.out, place.run(&shard).good().out);
}

#[test]
fn what_lies_in_the_folders_of_a_sweep_is_called_what_it_is() {
    let place = Place::new();
    place.write(
        "sweep.toml",
        "name = \"two\"\nrecipe = \"small.toml\"\nseeds = \"0..1\"\nset = { train.epochs = 2 }\n",
    );
    let states = |text: &str| -> Vec<String> {
        place.write("now.toml", text);
        let told = place.run(&["--json", "sweep", "now.toml", "--out", "runs", "--list"]);
        let text = |run: &Value| run["state"].as_str().unwrap().to_string();
        told.good().objects().iter().map(text).collect()
    };
    let sweep = fs::read_to_string(place.path("sweep.toml")).unwrap();
    assert_eq!(states(&sweep), ["to do", "to do"]);
    let start = ["sweep", "sweep.toml", "--out", "runs", "--shard", "0/2"];
    place.run(&start).good();
    assert_eq!(states(&sweep), ["finished", "to do"]);
    let other = sweep.replace("epochs = 2", "epochs = 3");
    assert_eq!(states(&other), ["of other settings", "to do"]);
    let told = place.run(&["sweep", "now.toml", "--out", "runs", "--shard", "0/2"]);
    told.refused(2, &["1 of 1 runs failed"]);
    let run = &runs(&place, "runs")[0];
    let summary = place.path("runs").join(run).join("summary.json");
    let whole = fs::read(&summary).unwrap();
    fs::write(&summary, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(states(&sweep), ["unreadable", "to do"]);
    fs::write(&summary, whole).unwrap();
    // Nobody would look for runs in the folder of one.
    let inside = format!("runs/{run}");
    let told = place.run(&["sweep", "sweep.toml", "--out", &inside]);
    told.refused(2, &[run, "folder of a run", "--out"]);
    let told = place.train(&inside, &["--seeds", "0..1"]);
    told.refused(2, &[run, "folder of a run", "--out"]);
}

#[test]
fn a_run_that_fails_stops_no_other_and_is_listed() {
    let place = Place::new();
    // At this rate weights overflow.
    let diverging = "[[cases]]\nname = \"wild\"\nset = { train.lr = 1000.0, train.clip_norm = 0.0, train.schedule = \"constant\", train.momentum = 0.99 }\n\
                     sparsity = { method = \"dense\" }\ngrid = {}\n[[cases]]\nname = \"tame\"\n";
    let text = SWEEP.split("[[cases]]").next().unwrap().to_string() + diverging;
    place.write("sweep.toml", text);
    let start = ["--json", "sweep", "sweep.toml", "--out", "runs"];
    let told = place.run(&start).refused(4, &["2 of 6 runs failed"]);
    let states = |objects: &[Value]| -> Vec<(String, String)> {
        let last = objects
            .iter()
            .find(|object| object["event"] == "sweep")
            .unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_string();
        (last["runs"].as_array().unwrap().iter())
            .map(|run| (text(&run["run"]), text(&run["state"])))
            .collect()
    };
    let first = states(&told.objects());
    assert_eq!(
        first
            .iter()
            .filter(|(_, state)| state == "finished")
            .count(),
        4
    );
    // The epochs of the runs are told while they go on, each with its run.
    let objects = told.objects();
    let epochs = |run: &str| {
        let of_run = |object: &&Value| object["event"] == "epoch" && object["run"] == run;
        objects.iter().filter(of_run).count()
    };
    for (run, state) in &first {
        assert_eq!(epochs(run) > 0, state == "finished", "{run}");
    }
    assert!(
        first
            .iter()
            .all(|(run, state)| run.contains("wild") == (state == "failed"))
    );
    // It is not tried again until its folder is deleted.
    let again = place.run(&start).refused(4, &["2 of 6 runs failed"]);
    assert_eq!(states(&again.objects()), first);
    assert!(
        again.err.contains("has failed before") && again.err.contains("delete runs/wild-seed-0"),
        "{}",
        again.err
    );
}

#[test]
fn warnings_of_runs_are_told_with_the_run() {
    let place = Place::new();
    place.write(
        "sweep.toml",
        r#"
name = "wiped-out"
recipe = "small.toml"
seeds = [0]
set = { train.epochs = 20 }
[[cases]]
name = "few"
sparsity = { method = "one_shot", density = 0.02, budget = "uniform" }
"#,
    );
    let told = place.run(&["--json", "sweep", "sweep.toml", "--out", "runs"]);
    let told = told.good();
    assert!(told.err.contains("warning: few-seed-0: "), "{}", told.err);
    let objects = told.objects();
    let warning = objects.iter().find(|object| object["event"] == "warning");
    assert_eq!(warning.unwrap()["run"], "runs/few-seed-0");
}

#[test]
fn sweeps_that_cannot_work_are_refused_before_anything_is_trained() {
    let place = Place::new();
    for (from, to, words) in [
        ("small.toml", "nowhere.toml", "nowhere.toml"),
        (
            "train.lr = [0.05, 0.02]",
            "train.lr = [0.05, -1]",
            "run iht-lr--1-seed-0",
        ),
        (
            "density = 0.2, regrow_every = \"5it\"",
            "density = 0.2, l1 = 0.1",
            "run rigl-lr-0.05-seed-0",
        ),
        // With as many pictures as usual it would work, with these the run ends before the first replacement.
        (
            "density = 0.2, regrow_every = \"5it\"",
            "density = 0.2, regrow_every = \"50it\"",
            "run rigl-lr-0.05-seed-0",
        ),
        (
            "name = \"dense\"",
            "name = \"iht\"",
            "two runs would be called",
        ),
    ] {
        place.write("sweep.toml", SWEEP.replace(from, to));
        let told = place.run(&["sweep", "sweep.toml", "--out", "runs"]);
        told.refused(2, &[words]);
        assert!(!place.path("runs").exists());
    }
    // What only a look at the data can tell, here for the second value of a grid.
    for (values, code, words) in [
        ("data.name = [\"mnist\", \"mnits\"]", 3, "mnits"),
        ("data.augment = [[], [\"mirrorr\"]]", 2, "mirrorr"),
        ("data.validation = [96, 480]", 3, "choose 1 to 479"),
        ("network.classes = [10, 7]", 2, "gives 7"),
        (
            "data = [{ name = \"folder\", path = \"nowhere\" }]",
            3,
            "nowhere",
        ),
    ] {
        place.write(
            "sweep.toml",
            SWEEP.replace("train.lr = [0.05, 0.02]", values),
        );
        for more in [&[][..], &["--list"]] {
            let told = place.run(&[&["sweep", "sweep.toml", "--out", "runs"], more].concat());
            told.refused(code, &["run iht-", words]);
            assert!(!place.path("runs").exists());
        }
    }
    // Where the data is not, a sweep can be looked at all the same.
    place.write("sweep.toml", SWEEP);
    place
        .run(&["sweep", "sweep.toml", "--list", "--data", "nowhere"])
        .good();
    place
        .run(&["sweep", "sweep.toml", "--shards", "3"])
        .refused(2, &["--shard 0/4"]);
    // A folder with a run of the same name and other settings is not touched.
    place.train("runs/iht-lr-0.05-seed-0", &[]).good();
    let told = place.run(&["sweep", "sweep.toml", "--out", "runs", "--shard", "0/12"]);
    told.refused(2, &["1 of 1 runs failed"]);
}
