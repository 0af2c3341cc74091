//! A set given as class folders of pictures: `train/<class>/*` and `val/<class>/*` or `test/<class>/*`,
//! or class folders alone, which are divided.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};
use skinny_network::Preprocess;

use crate::files::Files;
use crate::{DataError, Dataset, Pixels, Split};

/// Of class folders that are not divided by their owner, every so-manieth picture is for testing.
const TEST_SHARE: usize = 5;
/// Names of folders for testing, the one to be preferred first.
const TEST_FOLDERS: [&str; 4] = ["test", "val", "valid", "validation"];

/// What a folder should look like; the end of an error message.
const LAYOUT: &str = "put the pictures (PNG or JPEG) of each class into a folder of its own, as FOLDER/train/CLASS and FOLDER/val/CLASS, or FOLDER/CLASS";

/// How pictures in folders become a set.
pub(crate) struct FolderSettings {
    /// Channels, height and width that every picture is brought to.
    pub(crate) shape: [usize; 3],
    /// How it is brought there.
    pub(crate) geometry: Preprocess,
    /// Decoded pictures are kept if all of a part take at most so many bytes.
    pub(crate) keep: usize,
}

/// The pictures of a class.
#[derive(Debug)]
struct Class {
    name: OsString,
    files: Vec<PathBuf>,
}

/// Reads the names of the pictures below `root`; the pictures themselves are read when they are needed.
pub(crate) fn load_folder(root: &Path, settings: &FolderSettings) -> Result<Split, DataError> {
    let folders = entries(root)?.folders;
    let path_of = |name: &str| {
        folders
            .iter()
            .find(|(folder, _)| folder.eq_ignore_ascii_case(name))
            .map(|(_, path)| path.as_path())
    };
    let mut tests = TEST_FOLDERS.iter().filter_map(|name| path_of(name));
    let train_folder = path_of("train");
    let is_part = |(name, _): &(OsString, PathBuf)| {
        let mut parts = ["train"].iter().chain(&TEST_FOLDERS);
        parts.any(|part| name.eq_ignore_ascii_case(part))
    };
    // A class may be called "train": it stands beside other classes, and holds pictures alone.
    if let Some(train) = train_folder
        && !folders.iter().all(is_part)
    {
        let inside = entries(train)?;
        if inside.folders.is_empty() && inside.files.iter().any(|file| is_picture(file)) {
            let (train, test) = divided(root, classes(root)?);
            return split(root, train, test, settings);
        }
    }
    let (train, test) = match (train_folder, tests.next()) {
        (Some(train), Some(test)) => {
            if let Some(unused) = tests.next() {
                tracing::warn!(
                    "{} is not used: {} is the test part, and what is held out comes from the training part",
                    unused.display(),
                    test.display()
                );
            }
            let train = classes(train)?;
            let test = in_order_of(&train, classes(test)?, test)?;
            (train, test)
        }
        (Some(train), None) => divided(train, classes(train)?),
        // Class folders may have any names, but these alone are surely parts of a divided set.
        (None, Some(test)) if folders.len() == 1 => {
            return Err(corrupt(
                root,
                format!("holds a folder {} but no folder train", test.display()),
            ));
        }
        (None, _) => divided(root, classes(root)?),
    };
    split(root, train, test, settings)
}

fn split(
    root: &Path,
    train: Vec<Class>,
    test: Vec<Class>,
    settings: &FolderSettings,
) -> Result<Split, DataError> {
    let names: Vec<String> = train
        .iter()
        .map(|class| class.name.to_string_lossy().into_owned())
        .collect();
    Ok(Split {
        train: dataset(root, train, &names, settings)?,
        test: dataset(root, test, &names, settings)?,
    })
}

fn corrupt(path: &Path, reason: String) -> DataError {
    DataError::Corrupt {
        path: path.to_owned(),
        reason,
        cure: LAYOUT.into(),
    }
}

/// What a folder holds, each kind sorted by name, hidden entries left out.
struct Entries {
    folders: Vec<(OsString, PathBuf)>,
    files: Vec<PathBuf>,
}

fn entries(folder: &Path) -> Result<Entries, DataError> {
    let unreadable = |source| DataError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        if !name.as_encoded_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort_unstable();
    let mut found = Entries {
        folders: Vec::new(),
        files: Vec::new(),
    };
    for name in names {
        let path = folder.join(&name);
        if path.is_dir() {
            found.folders.push((name, path));
        } else {
            found.files.push(path);
        }
    }
    Ok(found)
}

/// The class folders in `folder`, sorted by name.
fn classes(folder: &Path) -> Result<Vec<Class>, DataError> {
    let found = entries(folder)?;
    let mut skipped = found.files.len();
    let mut classes = Vec::new();
    for (name, path) in found.folders {
        let inside = entries(&path)?;
        let all = inside.files.len() + inside.folders.len();
        let files: Vec<PathBuf> = inside
            .files
            .into_iter()
            .filter(|file| is_picture(file))
            .collect();
        skipped += all - files.len();
        if files.is_empty() {
            return Err(corrupt(&path, "this class folder holds no picture".into()));
        }
        classes.push(Class { name, files });
    }
    if classes.is_empty() {
        return Err(corrupt(folder, "there are no class folders in it".into()));
    }
    if skipped > 0 {
        tracing::warn!(
            "{}: {skipped} entries that are not pictures (PNG or JPEG) in a class folder were skipped",
            folder.display()
        );
    }
    Ok(classes)
}

fn is_picture(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["png", "jpg", "jpeg"]
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    })
}

/// The classes of the test part in the order of the training part, so that equal numbers mean equal
/// classes; a class without test pictures is there, empty.
fn in_order_of(
    train: &[Class],
    mut test: Vec<Class>,
    folder: &Path,
) -> Result<Vec<Class>, DataError> {
    let ordered = train
        .iter()
        .map(|class| {
            let files = match test.iter().position(|other| other.name == class.name) {
                Some(place) => test.swap_remove(place).files,
                None => Vec::new(),
            };
            Class {
                name: class.name.clone(),
                files,
            }
        })
        .collect();
    match test.first() {
        None => Ok(ordered),
        Some(unknown) => Err(corrupt(
            &folder.join(&unknown.name),
            "the training part has no class of this name".into(),
        )),
    }
}

/// Divides every class: a fifth of its pictures, at least one of two, is for testing. They are the first by a checksum
/// of class and file name, so every run tests on the same ones, and a picture more or less moves one other at the most.
fn divided(folder: &Path, classes: Vec<Class>) -> (Vec<Class>, Vec<Class>) {
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for class in classes {
        let count = class.files.len();
        let for_test = (count / TEST_SHARE).max(usize::from(count > 1));
        let mut tested = class.files;
        tested.sort_by_cached_key(|file| checksum(&class.name, file));
        let mut kept = tested.split_off(for_test);
        tested.sort_unstable();
        kept.sort_unstable();
        train.push(Class {
            name: class.name.clone(),
            files: kept,
        });
        test.push(Class {
            name: class.name,
            files: tested,
        });
    }
    let count = |classes: &[Class]| classes.iter().map(|class| class.files.len()).sum::<usize>();
    tracing::warn!(
        "{} is not divided into train/ and val/: of each class a fifth was set aside, {} pictures to learn from and {} to test on",
        folder.display(),
        count(&train),
        count(&test)
    );
    (train, test)
}

/// Of the name of a class and of a file in its folder.
fn checksum(class: &OsStr, file: &Path) -> [u8; 16] {
    let name = file.file_name().unwrap_or_default();
    Md5::new()
        .chain_update(class.as_encoded_bytes())
        .chain_update(b"/")
        .chain_update(name.as_encoded_bytes())
        .finalize()
        .into()
}

fn dataset(
    root: &Path,
    classes: Vec<Class>,
    names: &[String],
    settings: &FolderSettings,
) -> Result<Dataset, DataError> {
    let mut labels = Vec::new();
    let mut paths = Vec::new();
    for (label, class) in classes.into_iter().enumerate() {
        labels.resize(labels.len() + class.files.len(), label as u32);
        paths.extend(class.files);
    }
    if paths.is_empty() {
        return Err(corrupt(
            root,
            "too few pictures to set any aside for testing".into(),
        ));
    }
    let bytes = settings
        .shape
        .iter()
        .try_fold(paths.len(), |bytes, &side| bytes.checked_mul(side));
    let keep = bytes.is_some_and(|bytes| bytes <= settings.keep);
    let dataset = Dataset {
        name: "folder".into(),
        shape: settings.shape,
        classes: names.len(),
        label_names: names.to_vec(),
        labels,
        pixels: Pixels::Files(Files::new(paths, settings.geometry.clone(), keep)),
        prepared: None,
    };
    dataset.validate()?;
    Ok(dataset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, Luma};
    use std::collections::BTreeSet;

    const SHAPE: [usize; 3] = [1, 2, 2];

    fn load(root: &Path) -> Result<Split, DataError> {
        load_folder(
            root,
            &FolderSettings {
                shape: SHAPE,
                geometry: Preprocess::for_input(SHAPE),
                keep: 0,
            },
        )
    }

    /// Pictures of one gray value each, in `root/folder`.
    fn draw(root: &Path, folder: &str, values: impl IntoIterator<Item = u8>) {
        fs::create_dir_all(root.join(folder)).unwrap();
        for value in values {
            GrayImage::from_pixel(3, 3, Luma([value]))
                .save(root.join(folder).join(format!("{value:03}.png")))
                .unwrap();
        }
    }

    fn values(dataset: &Dataset) -> Vec<(u32, u8)> {
        let mut image = [0.0; 4];
        (0..dataset.len())
            .map(|index| {
                dataset.read(index, &mut image).unwrap();
                assert!(image.iter().all(|value| *value == image[0]));
                (dataset.labels[index], image[0] as u8)
            })
            .collect()
    }

    fn refused(root: &Path, word: &str) {
        let message = load(root).unwrap_err().to_string();
        assert!(
            message.contains(word) && !message.contains('\n'),
            "\"{message}\" does not say \"{word}\""
        );
    }

    #[test]
    fn divided_folders_are_read_in_sorted_order() {
        for test in ["val", "test", "Validation"] {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path();
            draw(root, "train/dog", [9, 8]);
            draw(root, "train/cat", [7]);
            draw(root, "train/ant", [1, 3, 2]);
            draw(root, &format!("{test}/dog"), [5]);
            draw(root, &format!("{test}/ant"), [4]);
            let split = load(root).unwrap();
            assert_eq!(split.train.label_names, ["ant", "cat", "dog"]);
            assert_eq!(split.test.label_names, split.train.label_names);
            assert_eq!(
                values(&split.train),
                [(0, 1), (0, 2), (0, 3), (1, 7), (2, 8), (2, 9)]
            );
            assert_eq!(values(&split.test), [(0, 4), (2, 5)]);
        }
    }

    #[test]
    fn a_class_may_be_called_train() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for class in ["bus", "train", "test"] {
            draw(root, class, 1..=5);
        }
        let split = load(root).unwrap();
        assert_eq!(split.train.label_names, ["bus", "test", "train"]);
        assert_eq!((split.train.len(), split.test.len()), (12, 3));
        // Without another class they are parts.
        fs::remove_dir_all(root.join("bus")).unwrap();
        refused(root, "no class folders");
    }

    #[test]
    fn a_part_is_evenly_spread_over_the_classes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        draw(root, "train/ant", [1, 2, 3, 4]);
        draw(root, "train/cat", [5, 6]);
        draw(root, "train/dog", [7, 8]);
        draw(root, "test/ant", [9]);
        let train = load(root).unwrap().train;
        assert_eq!(values(&train.part(4)), [(0, 1), (0, 3), (1, 5), (2, 7)]);
        assert_eq!(values(&train.part(3)), [(0, 1), (0, 3), (1, 6)]);
        assert_eq!(values(&train.part(9)), values(&train));
    }

    #[test]
    fn class_folders_alone_are_divided_a_fifth_of_each() {
        for train in ["", "train/"] {
            let folder = tempfile::tempdir().unwrap();
            draw(folder.path(), &format!("{train}a"), 0..20);
            draw(folder.path(), &format!("{train}b"), 100..103);
            draw(folder.path(), &format!("{train}c"), [200]);
            let split = load(folder.path()).unwrap();
            let (train, test) = (values(&split.train), values(&split.test));
            let count = |part: &[(u32, u8)], class| {
                part.iter().filter(|(label, _)| *label == class).count()
            };
            assert_eq!([0, 1, 2].map(|class| count(&test, class)), [4, 1, 0]);
            assert_eq!([0, 1, 2].map(|class| count(&train, class)), [16, 2, 1]);
            let all: BTreeSet<_> = train.iter().chain(&test).collect();
            assert_eq!(all.len(), 24);
            assert_eq!(values(&load(folder.path()).unwrap().test), test);
        }
    }

    #[test]
    fn a_new_picture_or_class_moves_hardly_any_other_to_the_test_part() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        draw(root, "b", 0..50);
        draw(root, "c", 100..150);
        let tested = || -> BTreeSet<u8> {
            let test = load(root).unwrap().test;
            values(&test).into_iter().map(|(_, value)| value).collect()
        };
        let before = tested();
        assert_eq!(before.len(), 20);
        draw(root, "a", 200..201);
        assert_eq!(tested(), before);
        draw(root, "b", 50..51);
        assert!(tested().difference(&before).count() <= 1);
    }

    #[test]
    fn what_is_not_a_picture_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        draw(root, "train/a", [1, 2]);
        draw(root, "val/a", [3]);
        draw(root, "train/a/deeper", [9]);
        draw(root, "train/.hidden", [9]);
        fs::write(root.join("train/a/notes.txt"), "x").unwrap();
        fs::write(root.join("train/a/.DS_Store"), "x").unwrap();
        fs::write(root.join("train/labels.csv"), "x").unwrap();
        let split = load(root).unwrap();
        assert_eq!(values(&split.train), [(0, 1), (0, 2)]);
    }

    #[test]
    fn an_unreadable_picture_is_an_error_naming_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        draw(root, "train/a", [1]);
        draw(root, "val/a", [3]);
        fs::write(root.join("train/a/broken.JPG"), "no picture").unwrap();
        let split = load(root).unwrap();
        let message = split.train.read(1, &mut [0.0; 4]).unwrap_err().to_string();
        assert!(
            message.contains("broken.JPG") && message.contains("neither PNG nor JPEG"),
            "{message}"
        );
    }

    #[test]
    fn folders_that_are_no_set_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        refused(root, "no class folders");
        refused(&root.join("nowhere"), "nowhere");
        fs::write(root.join("picture.png"), "x").unwrap();
        refused(root, "FOLDER/train/CLASS");
        refused(&root.join("picture.png"), "picture.png");
        draw(root, "val/a", [1]);
        refused(root, "no folder train");
        draw(root, "train/b", [1]);
        refused(root, "no class of this name");
        draw(root, "train/a", []);
        refused(root, "holds no picture");
        let single = tempfile::tempdir().unwrap();
        draw(single.path(), "a", [1]);
        refused(single.path(), "too few pictures");
    }
}
