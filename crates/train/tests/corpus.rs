//! Replays the corpus of the fuzz targets, and keeps its good checkpoint good.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../fuzz/fuzz_targets/check.rs"]
mod check;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target)
}

/// Names of the files in the corpus of `target` that `check` accepts, and the number of all.
fn replay(target: &str, check: fn(&[u8]) -> bool) -> (Vec<String>, usize) {
    let mut files: Vec<_> = fs::read_dir(corpus(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let count = files.len();
    let accepted = files.into_iter().filter(|file| {
        println!("{}", file.display());
        check(&fs::read(file).unwrap())
    });
    let names = accepted.map(|file| file.file_name().unwrap().to_string_lossy().into_owned());
    (names.collect(), count)
}

#[test]
fn recipe() {
    let (accepted, count) = replay("recipe", check::recipe);
    let expected = [
        "every-cycle-a-step.toml",
        "every-key.toml",
        "everything.toml",
        "many-thresholds.toml",
        "names-a-file.toml",
        "never-sparse.toml",
        "short.toml",
    ];
    assert_eq!(accepted, expected);
    assert!(count > 2 * expected.len(), "{count}");
}

#[test]
fn checkpoint() {
    let (accepted, count) = replay("checkpoint", check::checkpoint);
    assert_eq!(accepted, ["dense.safetensors", "sparse.safetensors"]);
    assert!(count >= 8, "{count}");
}
