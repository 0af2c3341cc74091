//! Stopping and killing: whatever happens to a run, going on with it leads to the same bits.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::{Place, assert_same};

/// The moments of 5 runs; `scripts/kill_and_resume.sh` does as many as one likes.
const KILLS: u32 = 5;

fn kill(child: &mut Child) -> bool {
    child.kill().unwrap();
    !child.wait().unwrap().success()
}

#[test]
fn a_run_killed_anywhere_goes_on_to_the_same_bits() {
    let place = Place::new();
    let started = Instant::now();
    place.train("whole", &[]).good();
    let whole = started.elapsed();
    for number in 0..KILLS {
        // Spread over the run, and different in every run of the tests.
        let jitter = f64::from(started.elapsed().subsec_nanos() % 1000) / 1000.0;
        let share = (f64::from(number) + jitter) / f64::from(KILLS);
        let out = format!("killed-{number}");
        let first = ["train", "small.toml", "--threads", "2", "--out", &out];
        let mut child = place.start(&first);
        sleep(whole.mul_f64(share));
        if kill(&mut child) {
            // Killed again while it goes on: at once, if nothing else.
            let mut again = match place.path(&out).join("recipe.toml").exists() {
                true => place.start(&["train", "--resume", &out]),
                false => place.start(&first),
            };
            sleep(whole.mul_f64(share * jitter));
            kill(&mut again);
        }
        let folder = place.path(&out);
        if !folder.join("recipe.toml").exists() {
            place.run(&first).good();
        } else if !folder.join("summary.json").exists() {
            place
                .run(&["train", "--threads", "1", "--resume", &out])
                .good();
        }
        let what = format!("killed after {:.0} % of a run", 100.0 * share);
        assert_same(&place.path("whole"), &folder, &what);
    }
}

/// A run of minutes, of which nobody waits for the end; ends when it is dropped.
struct Long {
    child: Child,
    err: BufReader<std::process::ChildStderr>,
}

impl Long {
    fn start(place: &Place, out: &str) -> Long {
        let mut command = place.command(&["train", "small.toml", "--threads", "1", "--out", out]);
        command.args([
            "--set",
            "train.epochs=100000",
            "--set",
            "train.checkpoint='1000ep'",
        ]);
        let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let err = BufReader::new(child.stderr.take().unwrap());
        Long { child, err }
    }

    /// Waits for the end of an epoch.
    fn trains(&mut self) {
        let mut line = String::new();
        while !line.starts_with("epoch") {
            line.clear();
            assert!(self.err.read_line(&mut line).unwrap() > 0, "it trains");
        }
    }

    /// Sends a signal and waits for the end: exit code and the rest of standard error.
    fn signal(&mut self, signal: &str) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
        let mut rest = String::new();
        self.err.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Long {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_interrupt_saves_the_state_and_tells_how_to_go_on() {
    for signal in ["-INT", "-TERM"] {
        let place = Place::new();
        let mut run = Long::start(&place, "my run");
        run.trains();
        let (code, said) = run.signal(signal);
        assert_eq!(code, Some(5), "{said}");
        let last = said.lines().last().unwrap();
        assert!(
            last.starts_with("skinny: interrupted after step "),
            "{last}"
        );
        let (_, command) = last.split_once("go on with: ").unwrap();
        assert_eq!(command, "skinny train --resume 'my run'");
        assert!(!place.path("my run/summary.json").exists());
        let step: usize = last
            .split_whitespace()
            .find_map(|word| word.trim_end_matches(';').parse().ok())
            .unwrap();
        let state = place.path("my run/checkpoint/state.safetensors");
        let state = String::from_utf8_lossy(&std::fs::read(state).unwrap()).into_owned();
        assert!(
            state.contains(&format!("\\\"progress\\\":{{\\\"step\\\":{step},")),
            "step {step} is saved"
        );
    }
}

#[test]
fn checkpoints_are_as_rare_as_the_recipe_says() {
    let place = Place::new();
    let mut run = Long::start(&place, "rare");
    run.trains();
    run.trains();
    let state = place.path("rare/checkpoint/state.safetensors");
    let state = String::from_utf8_lossy(&std::fs::read(state).unwrap()).into_owned();
    assert!(state.contains(r#"\"progress\":{\"step\":0,"#), "{state}");
    let log = std::fs::read_to_string(place.path("rare/results.csv")).unwrap();
    assert!(log.lines().count() > 1, "{log}");
}

#[test]
fn a_run_that_goes_on_cannot_be_resumed_at_the_same_time() {
    let place = Place::new();
    let mut run = Long::start(&place, "busy");
    run.trains();
    let second = place.run(&["train", "--resume", "busy"]);
    second.refused(2, &["busy", "being trained by another process"]);
    run.trains();
}

#[test]
fn the_command_that_goes_on_names_the_data_too() {
    let place = Place::new();
    std::fs::rename(place.path("data"), place.path("elsewhere")).unwrap();
    let started = ["train", "small.toml", "--data", "elsewhere", "--out", "run"];
    let mut command = place.command(&started);
    command.args(["--json", "--set", "train.epochs=100000"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"epoch\"") {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0);
    }
    let pid = child.id().to_string();
    Command::new("kill").args(["-INT", &pid]).status().unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    let event = |name: &str| -> serde_json::Value {
        (rest.lines())
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .find(|object| object["event"] == name)
            .unwrap()
    };
    assert_eq!(
        event("interrupted")["resume"],
        "skinny train --resume run --data elsewhere"
    );
    assert_eq!(event("error")["code"], 5);
}

#[test]
fn a_network_that_is_changed_meanwhile_does_not_change_the_run() {
    let place = Place::new();
    place.train("whole", &[]).good();
    let mut child = place.start(&["train", "small.toml", "--out", "killed"]);
    let waiting = Instant::now();
    while !place.path("killed/checkpoint/state.safetensors").exists() {
        assert!(waiting.elapsed() < Duration::from_secs(60));
        sleep(Duration::from_millis(1));
    }
    kill(&mut child);
    std::fs::remove_file(place.path("small.net.toml")).unwrap();
    if !place.path("killed/summary.json").exists() {
        place.run(&["train", "--resume", "killed"]).good();
    }
    assert_same(
        &place.path("whole"),
        &place.path("killed"),
        "network removed",
    );
}

#[test]
fn an_interrupted_twin_is_resumed_and_then_found() {
    let place = Place::new();
    let start = [
        "train",
        "small.toml",
        "--threads",
        "1",
        "--with-dense",
        "--out",
        "run",
    ];
    let mut command = place.command(&start);
    // So slow that it cannot be over before the signal.
    command.args([
        "--set",
        "train.epochs=3000",
        "--set",
        "train.checkpoint='1000ep'",
    ]);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut run = Long {
        err: BufReader::new(child.stderr.take().unwrap()),
        child,
    };
    run.trains();
    let (code, said) = run.signal("-INT");
    assert_eq!(code, Some(5), "{said}");
    let end = "go on with: skinny train --resume run-dense, then give this command again";
    assert!(said.trim_end().ends_with(end), "{said}");
    assert!(!place.path("run").exists());
}
