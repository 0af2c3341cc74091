//! What must hold for any bytes; the fuzz targets and the replay of their corpus share it.

use std::fs;

use skinny_data::catalog::unpack_bytes;
use skinny_data::cifar::{self, Labels};
use skinny_data::{decode_picture, idx::decode_bytes};
use skinny_network::Preprocess;

fn one_line(reason: &str) {
    assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}");
}

/// An IDX file is an error in one line, or holds what its header says: `true`.
pub fn idx(bytes: &[u8]) -> bool {
    values::<3>(bytes) | values::<1>(bytes)
}

fn values<const D: usize>(bytes: &[u8]) -> bool {
    match decode_bytes::<D>(bytes) {
        Ok((dimensions, values)) => {
            assert_eq!(dimensions.iter().product::<usize>(), values.len());
            assert!(!values.is_empty());
            true
        }
        Err(reason) => {
            one_line(&reason);
            false
        }
    }
}

/// A picture is an error in one line, or as large as it says and fit for a network: `true`.
pub fn picture(bytes: &[u8]) -> bool {
    let picture = match decode_picture(bytes) {
        Ok(picture) => picture,
        Err(reason) => {
            one_line(&reason);
            return false;
        }
    };
    assert_eq!(
        picture.pixels.len(),
        picture.width * picture.height * picture.channels
    );
    let shape = [3, 8, 8];
    match Preprocess::for_input(shape).geometry(&picture, shape) {
        Ok(image) => {
            assert_eq!(image.len(), 3 * 8 * 8);
            assert!(image.iter().all(|value| (0.0..=255.0).contains(value)));
        }
        // A strip so long that it would not fit into memory at this height.
        Err(error) => one_line(&error.to_string()),
    }
    true
}

/// A file of CIFAR is an error in one line, or pictures whose classes there are: `true`. As names of classes, the
/// same bytes are an error in one line, or one name per class.
pub fn cifar(bytes: &[u8]) -> bool {
    let mut accepted = false;
    for labels in [Labels::Ten, Labels::Coarse, Labels::Fine] {
        match cifar::decode(bytes, labels) {
            Ok(records) => {
                assert_eq!(records.pixels.len(), records.labels.len() * 3072);
                assert!((records.labels.iter()).all(|label| (*label as usize) < labels.classes()));
                accepted = true;
            }
            Err(reason) => one_line(&reason),
        }
        match cifar::names(bytes, labels) {
            Ok(names) => {
                assert_eq!(names.len(), labels.classes());
                names.iter().for_each(|name| one_line(name));
                accepted = true;
            }
            Err(reason) => one_line(&reason),
        }
    }
    accepted
}

/// An archive is an error in one line that leaves at most what was right in it, or the two expected files: `true`.
/// Nothing else is ever written.
pub fn archive(bytes: &[u8]) -> bool {
    let parent = std::env::temp_dir().join(format!(
        "skinny-fuzz-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let folder = parent.join("inner");
    fs::create_dir_all(&folder).unwrap();
    let result = unpack_bytes(bytes, &folder);
    let names = |folder: &std::path::Path| -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&parent), ["inner"]);
    let found = names(&folder);
    assert!((found.iter()).all(|name| name == "a.bin" || name == "names.txt"));
    if found.iter().any(|name| name == "a.bin") {
        assert_eq!(fs::read(folder.join("a.bin")).unwrap(), b"content");
    }
    let accepted = match result {
        Ok(()) => {
            assert_eq!(found, ["a.bin", "names.txt"]);
            assert!(fs::metadata(folder.join("names.txt")).unwrap().len() <= 100);
            true
        }
        Err(reason) => {
            one_line(&reason);
            false
        }
    };
    fs::remove_dir_all(&parent).unwrap();
    accepted
}
