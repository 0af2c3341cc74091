//! Replays the corpus of the fuzz targets.

use std::fs;
use std::path::Path;

#[path = "../fuzz/fuzz_targets/check.rs"]
mod check;

/// Names of the files in the corpus of `target` that `check` accepts, and the number of all.
fn replay(target: &str, check: fn(&[u8]) -> bool) -> (Vec<String>, usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
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
fn idx() {
    let (accepted, count) = replay("idx", check::idx);
    let expected = [
        "images",
        "images.gz",
        "labels",
        "labels.gz",
        "name-and-extra.gz",
        "two-members.gz",
    ];
    assert_eq!(accepted, expected);
    assert!(count > 2 * expected.len());
}

#[test]
fn picture() {
    let (accepted, count) = replay("picture", check::picture);
    let expected = [
        "bit.png",
        "cmyk.jpg",
        "deep.png",
        "gray-alpha.png",
        "gray.jpg",
        "gray.png",
        "interlaced.png",
        "more.jpg",
        "optimized.jpg",
        "palette.png",
        "progressive.jpg",
        "restart.jpg",
        "rgb.jpg",
        "rgb.png",
        "rgba.png",
        "subsampled.jpg",
        "thin.png",
        "transparent.png",
        "turned.jpg",
    ];
    assert_eq!(accepted, expected);
    assert!(count > expected.len());
}

#[test]
fn cifar() {
    let (accepted, count) = replay("cifar", check::cifar);
    let expected = ["coarse-names.txt", "names.txt", "ten", "two-of-a-hundred"];
    assert_eq!(accepted, expected);
    assert!(count > 2 * expected.len());
}

#[test]
fn archive() {
    let (accepted, count) = replay("archive", check::archive);
    let expected = [
        "folder-first.tar.gz",
        "other-files.tar.gz",
        "twice.tar.gz",
        "whole.tar.gz",
    ];
    assert_eq!(accepted, expected);
    assert!(count > 2 * expected.len());
}
