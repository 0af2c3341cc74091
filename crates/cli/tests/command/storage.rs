//! Folders that are taken, disks that are full or read-only, files that were damaged: nothing is lost, and the program says
//! what to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Place, assert_same};

#[test]
fn folders_that_are_taken_are_left_alone() {
    let place = Place::new();
    place.train("run", &[]).good();
    let told = place.train("run", &[]);
    told.refused(2, &["run", "finished run", "never overwritten", "--out"]);
    fs::rename(place.path("run/summary.json"), place.path("summary.json")).unwrap();
    let told = place.train("run", &[]);
    told.refused(
        2,
        &["run", "not finished", "skinny train --resume run", "--out"],
    );
    place.write("mine/notes.txt", "mine");
    place
        .train("mine", &[])
        .refused(2, &["mine", "not empty", "--out"]);
    let told = place.train("mine/notes.txt", &[]);
    told.refused(2, &["mine/notes.txt", "--out"]);
    let told = place.train("mine/notes.txt/run", &[]);
    told.refused(2, &["mine/notes.txt/run", "--out"]);
    assert_eq!(fs::read(place.path("mine/notes.txt")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(place.path("mine")).unwrap().count(), 1);
    fs::create_dir(place.path("empty")).unwrap();
    place.train("empty", &[]).good();
}

#[test]
fn a_run_without_a_place_of_its_own_gets_a_numbered_one() {
    let place = Place::new();
    let start = ["train", "small.toml", "--set", "train.epochs=2"];
    for folder in ["runs/small", "runs/small-2"] {
        let told = place.run(&start).good();
        assert!(
            told.out
                .ends_with(&format!("next: skinny report {folder}\n")),
            "{}",
            told.out
        );
        assert!(place.path(folder).join("summary.json").exists());
    }
    fs::remove_dir_all(place.path("runs")).unwrap();
    place.write("runs", "a file");
    place.run(&start).refused(2, &["runs", "--out DIR"]);
}

#[test]
fn only_runs_that_are_not_finished_are_resumed() {
    let place = Place::new();
    place.train("run", &[]).good();
    let resume = |folder: &str| place.run(&["train", "--resume", folder]);
    resume("run").refused(2, &["run", "finished", "nothing to resume"]);
    resume("nowhere").refused(2, &["nowhere", "recipe.toml"]);
    resume("data").refused(2, &["data", "recipe.toml"]);
    fs::remove_file(place.path("run/summary.json")).unwrap();
    place.write("run/recipe.toml", "name = ");
    resume("run").refused(2, &["run/recipe.toml", "line 1"]);
}

/// A run that is over but for its summary: everything is there to go on from.
fn unfinished(place: &Place, out: &str) -> PathBuf {
    place.train(out, &["--set", "train.epochs=2"]).good();
    fs::remove_file(place.path(out).join("summary.json")).unwrap();
    place.path(out).join("checkpoint/state.safetensors")
}

#[test]
fn damaged_checkpoints_are_refused_and_kept() {
    let place = Place::new();
    let state = unfinished(&place, "run");
    let whole = fs::read(&state).unwrap();
    let resume = || place.run(&["train", "--threads", "1", "--resume", "run"]);
    let refused = |content: &[u8]| {
        fs::write(&state, content).unwrap();
        resume().refused(3, &["run/checkpoint/state.safetensors", "--out DIR"]);
        assert!(fs::read(&state).unwrap() == content, "it is left as it was");
    };
    for length in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..length]);
    }
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let in_header = (0..16).map(|part| 8 + part * (header - 8) / 16);
    let in_tensors = (0..8).map(|part| 8 + header + part * (whole.len() - 9 - header) / 7);
    for position in [0, 7].into_iter().chain(in_header).chain(in_tensors) {
        let mut flipped = whole.clone();
        flipped[position] ^= 1;
        refused(&flipped);
    }
    fs::write(&state, &whole).unwrap();
    resume().good();
}

#[test]
fn a_checkpoint_of_another_recipe_is_refused() {
    let place = Place::new();
    unfinished(&place, "run");
    let recipe = fs::read_to_string(place.path("run/recipe.toml")).unwrap();
    let network = fs::read_to_string(place.path("run/network.toml")).unwrap();
    let resume = || place.run(&["train", "--threads", "1", "--resume", "run"]);
    for (from, to) in [
        ("lr = 0.05", "lr = 0.04"),
        ("seed = 0", "seed = 1"),
        ("density = 0.1", "density = 0.2"),
    ] {
        assert!(recipe.contains(from), "{recipe}");
        place.write("run/recipe.toml", recipe.replacen(from, to, 1));
        resume().refused(
            3,
            &[
                "run/checkpoint/state.safetensors",
                "another recipe",
                "recipe.toml",
            ],
        );
    }
    place.write("run/recipe.toml", &recipe);
    place.write("run/network.toml", network.replace("p = 0.2", "p = 0.3"));
    resume().refused(3, &["run/checkpoint/state.safetensors", "another recipe"]);
    place.write("run/network.toml", network);
    resume().good();
}

#[test]
fn a_run_does_not_go_on_with_other_pictures() {
    let place = Place::new();
    unfinished(&place, "run");
    let path = place.path("data/mnist/t10k-labels-idx1-ubyte");
    let labels = fs::read(&path).unwrap();
    let mut other = labels.clone();
    other.swap(8, labels.len() - 1);
    let differs = labels[8] != labels[labels.len() - 1];
    assert!(differs, "swapped labels must tell");
    let resume = || place.run(&["train", "--threads", "1", "--resume", "run"]);
    fs::write(&path, other).unwrap();
    resume().refused(
        3,
        &["run/checkpoint/state.safetensors", "pictures", "--out DIR"],
    );
    fs::write(&path, labels).unwrap();
    resume().good();
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_training() {
    let place = Place::new();
    for (out, arguments) in [("text", &[][..]), ("json", &["--json"])] {
        let mut command = place.command(&["train", "small.toml", "--out", out]);
        command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        assert!(child.wait().unwrap().success());
        assert!(place.path(out).join("summary.json").exists());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn output_that_cannot_be_written_is_an_error_and_progress_is_not() {
    let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap());
    let place = Place::new();
    for arguments in [
        &["recipes"][..],
        &["man"],
        &["completions", "bash"],
        &["env", "--json"],
    ] {
        let mut command = place.command(arguments);
        let output = command
            .stdout(full())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.starts_with("skinny: cannot write the output: "),
            "{said}"
        );
    }
    let mut command = place.command(&["train", "small.toml", "--out", "run"]);
    let status = command
        .stdout(Stdio::null())
        .stderr(full())
        .status()
        .unwrap();
    assert!(status.success());
}

/// A file system of its own; root alone can have one.
struct Disk {
    path: PathBuf,
}

impl Disk {
    fn mount(path: PathBuf, options: &str) -> Option<Disk> {
        fs::create_dir(&path).unwrap();
        let disk = Disk { path };
        disk.mounts(&["-t", "tmpfs", "-o", options, "tmpfs"])
            .then_some(disk)
    }

    fn remount(&self, options: &str) {
        assert!(self.mounts(&["-o", &format!("remount,{options}")]));
    }

    fn mounts(&self, arguments: &[&str]) -> bool {
        let mut command = Command::new("mount");
        command
            .args(arguments)
            .arg(&self.path)
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg(&self.path)
            .stderr(Stdio::null())
            .status();
    }
}

fn skip(what: &str) {
    eprintln!("######## SKIPPED: {what} needs root, to mount a small file system ########");
}

/// Whether a folder has no file that is only half written.
fn is_tidy(folder: &Path) -> bool {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries.into_iter().all(|path| match path.is_dir() {
        true => is_tidy(&path),
        false => path.extension().is_none_or(|extension| extension != "part"),
    })
}

#[test]
fn a_full_disk_loses_nothing() {
    let place = Place::new();
    place.train("whole", &[]).good();
    let (mut refused, mut interrupted, mut finished) = (0, 0, 0);
    for kilobytes in [4, 8, 16, 32, 64, 80, 96, 112, 128, 160, 192, 1024] {
        let name = format!("disk-{kilobytes}");
        let Some(disk) = Disk::mount(place.path(&name), &format!("size={kilobytes}k")) else {
            return skip("a full disk");
        };
        let out = format!("{name}/run");
        let told = place.train(&out, &[]);
        let run = disk.path.join("run");
        match told.code {
            // Not even the recipe fits: nothing is left.
            2 => {
                told.refused(2, &[&out, "No space left", "free some space", "--out DIR"]);
                assert!(!run.exists());
                refused += 1;
            }
            // What is there is whole, and with more space the run goes on to the same end.
            5 => {
                told.refused(5, &[&out, "No space left", "free some space", "--resume"]);
                assert!(is_tidy(&run));
                disk.remount("size=2m");
                place
                    .run(&["train", "--threads", "1", "--resume", &out])
                    .good();
                assert_same(&place.path("whole"), &run, &name);
                interrupted += 1;
            }
            _ => {
                told.good();
                assert_same(&place.path("whole"), &run, &name);
                finished += 1;
            }
        }
    }
    assert!(
        refused >= 1 && interrupted >= 3 && finished >= 1,
        "{refused} {interrupted} {finished}"
    );
}

#[test]
fn a_read_only_folder_is_refused() {
    let place = Place::new();
    let Some(disk) = Disk::mount(place.path("disk"), "size=2m") else {
        return skip("a read-only folder");
    };
    place.train("disk/run", &["--set", "train.epochs=2"]).good();
    fs::remove_file(disk.path.join("run/summary.json")).unwrap();
    fs::create_dir(disk.path.join("empty")).unwrap();
    disk.remount("ro");
    for out in ["disk/new", "disk/empty"] {
        place
            .train(out, &[])
            .refused(2, &[out, "Read-only", "--out DIR"]);
    }
    assert_eq!(fs::read_dir(&disk.path).unwrap().count(), 2);
    let mut command = place.command(&["train"]);
    command
        .arg(place.path("small.toml"))
        .current_dir(&disk.path);
    command.arg("--set").arg(format!(
        "network.file='{}'",
        place.path("small.net.toml").display()
    ));
    place
        .finish(command)
        .refused(2, &["runs", "Read-only", "--out DIR"]);
    let told = place.run(&["train", "--resume", "disk/run"]);
    told.refused(2, &["disk/run", "Read-only"]);
    disk.remount("rw");
    place.run(&["train", "--resume", "disk/run"]).good();
}
