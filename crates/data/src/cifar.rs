//! Reader of the binary files of CIFAR-10 and CIFAR-100.
//!
//! A file is a sequence of records without a header: one byte per label (CIFAR-10: the class; CIFAR-100: the coarse,
//! then the fine class), then 3072 bytes of a picture, red, green and blue planes of 32x32. The names of the
//! classes are lines of a text file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{DataError, Dataset, Split};

/// Channels, height and width of every picture.
pub const SHAPE: [usize; 3] = [3, 32, 32];

/// Bytes of one picture.
const PICTURE: usize = 3 * 32 * 32;
/// Longest text of class names that is read, in bytes; the longest published one has 725.
const LONGEST_NAMES: u64 = 1 << 14;

/// Which classes the pictures are sorted into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// The 10 classes of CIFAR-10.
    Ten,
    /// The 20 coarse classes of CIFAR-100.
    Coarse,
    /// The 100 fine classes of CIFAR-100.
    Fine,
}

impl Labels {
    /// Number of classes.
    #[must_use]
    pub fn classes(self) -> usize {
        match self {
            Self::Ten => 10,
            Self::Coarse => 20,
            Self::Fine => 100,
        }
    }

    /// Numbers of classes that the label bytes of a record stand for, in their order.
    fn bytes(self) -> &'static [usize] {
        match self {
            Self::Ten => &[10],
            Self::Coarse | Self::Fine => &[20, 100],
        }
    }

    /// Which of the label bytes is the class.
    fn position(self) -> usize {
        usize::from(self == Self::Fine)
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Ten => "cifar-10-batches-bin",
            Self::Coarse | Self::Fine => "cifar-100-binary",
        }
    }

    /// Names of the classes, training pictures, test pictures; the first and the last are one file each.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::Ten => &[
                "batches.meta.txt",
                "data_batch_1.bin",
                "data_batch_2.bin",
                "data_batch_3.bin",
                "data_batch_4.bin",
                "data_batch_5.bin",
                "test_batch.bin",
            ],
            Self::Coarse => &["coarse_label_names.txt", "train.bin", "test.bin"],
            Self::Fine => &["fine_label_names.txt", "train.bin", "test.bin"],
        }
    }
}

/// Pictures and their classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Class of each picture.
    pub labels: Vec<u32>,
    /// The pictures, `[N, 3, 32, 32]`.
    pub pixels: Vec<u8>,
}

/// Finds a set in `roots` and reads it.
pub(crate) fn load(
    name: &str,
    labels: Labels,
    roots: &crate::DataRoots,
) -> Result<Split, DataError> {
    let cure = format!("delete it and run `skinny data fetch {name}`");
    let files = roots.find(name, labels.folder(), labels.files())?;
    let (names, parts) = files.split_first().expect("a set has files");
    let (test, train) = parts.split_last().expect("a set has a test part");
    let names = read_names(names, labels, &cure)?;
    let part = |paths: &[std::path::PathBuf]| {
        let mut all = Records::default();
        for path in paths {
            let mut records = read(path, labels, &cure)?;
            all.labels.append(&mut records.labels);
            all.pixels.append(&mut records.pixels);
        }
        Dataset::in_memory(name, SHAPE, names.clone(), all.labels, all.pixels)
    };
    Ok(Split {
        train: part(train)?,
        test: part(std::slice::from_ref(test))?,
    })
}

/// Reads a file of records, e.g. `data_batch_1.bin`. `cure` ends the message of an error.
///
/// # Errors
/// [`DataError::Read`] if the file cannot be read, [`DataError::Corrupt`] if it is not a sequence of whole records.
pub fn read(path: &Path, labels: Labels, cure: &str) -> Result<Records, DataError> {
    let bytes = std::fs::read(path).map_err(|source| unreadable(path, source))?;
    decode(&bytes, labels).map_err(|reason| corrupt(path, reason, cure))
}

/// Reads the names of the classes, e.g. `batches.meta.txt`. `cure` ends the message of an error.
///
/// # Errors
/// [`DataError::Read`] if the file cannot be read, [`DataError::Corrupt`] if it does not hold one name per class.
pub fn read_names(path: &Path, labels: Labels, cure: &str) -> Result<Vec<String>, DataError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_NAMES + 1).read_to_end(&mut bytes))
        .map_err(|source| unreadable(path, source))?;
    names(&bytes, labels).map_err(|reason| corrupt(path, reason, cure))
}

fn unreadable(path: &Path, source: std::io::Error) -> DataError {
    DataError::Read {
        path: path.to_owned(),
        source,
    }
}

fn corrupt(path: &Path, reason: String, cure: &str) -> DataError {
    DataError::Corrupt {
        path: path.to_owned(),
        reason,
        cure: cure.to_owned(),
    }
}

/// Decodes the bytes of a file of records.
///
/// # Errors
/// What is wrong, without the name of a file.
pub fn decode(bytes: &[u8], labels: Labels) -> Result<Records, String> {
    let label_bytes = labels.bytes();
    let length = label_bytes.len() + PICTURE;
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return Err("it is compressed with gzip; unpack it".into());
    }
    if !bytes.len().is_multiple_of(length) {
        return Err(format!(
            "{} bytes are no whole number of records of {length} (truncated, or not the binary version)",
            bytes.len()
        ));
    }
    let count = bytes.len() / length;
    let mut records = Records {
        labels: Vec::with_capacity(count),
        pixels: Vec::with_capacity(count * PICTURE),
    };
    for (index, record) in bytes.chunks_exact(length).enumerate() {
        let (found, picture) = record.split_at(label_bytes.len());
        for (&label, &classes) in found.iter().zip(label_bytes) {
            if usize::from(label) >= classes {
                return Err(format!(
                    "picture {index} has label {label}, but there are {classes} classes (0 to {})",
                    classes - 1
                ));
            }
        }
        records.labels.push(u32::from(found[labels.position()]));
        records.pixels.extend_from_slice(picture);
    }
    Ok(records)
}

/// Decodes the names of the classes, one a line; empty lines are passed over.
///
/// # Errors
/// What is wrong, without the name of a file.
pub fn names(bytes: &[u8], labels: Labels) -> Result<Vec<String>, String> {
    if bytes.len() as u64 > LONGEST_NAMES {
        return Err(format!(
            "it is longer than {LONGEST_NAMES} bytes, no list of class names"
        ));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no UTF-8 text".to_owned())?;
    let names: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    if names.len() != labels.classes() {
        return Err(format!(
            "it names {} classes where there are {}",
            names.len(),
            labels.classes()
        ));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataRoots, LoadOptions};
    use proptest::prelude::*;
    use std::fs;

    /// A record whose picture is all `value`.
    fn record(labels: &[u8], value: u8) -> Vec<u8> {
        [labels, &[value; PICTURE]].concat()
    }

    fn lines(count: usize) -> String {
        (0..count).map(|class| format!("class {class}\n")).collect()
    }

    fn write(root: &Path, folder: &str, files: &[(&str, Vec<u8>)]) {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in files {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }

    fn load_from(root: &Path, name: &str) -> Result<Split, String> {
        let roots = DataRoots::from_places(vec![root.to_owned()]);
        crate::load(name, &roots, &LoadOptions::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_batches_of_cifar10_are_joined_in_order() {
        let root = tempfile::tempdir().unwrap();
        let mut files = vec![
            ("batches.meta.txt", (lines(10) + "\n\n").into_bytes()),
            (
                "test_batch.bin",
                [record(&[3], 30), record(&[9], 90)].concat(),
            ),
        ];
        for (number, name) in Labels::Ten.files()[1..6].iter().enumerate() {
            files.push((name, record(&[number as u8], number as u8 + 1)));
        }
        write(root.path(), "cifar-10-batches-bin", &files);
        let split = load_from(root.path(), "cifar10").unwrap();
        assert_eq!(split.train.labels, [0, 1, 2, 3, 4]);
        assert_eq!(split.test.labels, [3, 9]);
        assert_eq!((split.train.shape, split.train.classes), (SHAPE, 10));
        assert_eq!(split.train.label_names[9], "class 9");
        let mut image = vec![0.0; PICTURE];
        split.train.read(4, &mut image).unwrap();
        assert!(image.iter().all(|&value| value == 5.0));
        fs::remove_file(root.path().join("cifar-10-batches-bin/data_batch_3.bin")).unwrap();
        let message = load_from(root.path(), "cifar10").unwrap_err();
        assert!(message.contains("it lacks data_batch_3.bin"), "{message}");
    }

    #[test]
    fn cifar100_is_sorted_coarsely_or_finely() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            ("coarse_label_names.txt", lines(20).into_bytes()),
            ("fine_label_names.txt", lines(100).into_bytes()),
            (
                "train.bin",
                [record(&[19, 99], 1), record(&[0, 7], 2)].concat(),
            ),
            ("test.bin", record(&[4, 50], 3)),
        ];
        write(root.path(), "cifar-100-binary", &files);
        let fine = load_from(root.path(), "cifar100").unwrap();
        assert_eq!((fine.train.labels, fine.train.classes), (vec![99, 7], 100));
        let coarse = load_from(root.path(), "cifar100-coarse").unwrap();
        assert_eq!(
            (coarse.train.labels, coarse.train.classes),
            (vec![19, 0], 20)
        );
        assert_eq!(coarse.test.labels, [4]);
    }

    #[test]
    fn planes_are_red_green_blue_row_by_row() {
        let mut bytes = record(&[5], 0);
        bytes[1] = 10; // red, first pixel
        bytes[1 + 1024 + 1] = 20; // green, second pixel
        bytes[1 + 2048 + 32] = 30; // blue, first pixel of the second row
        let pixels = decode(&bytes, Labels::Ten).unwrap().pixels;
        assert_eq!((pixels[0], pixels[1025], pixels[2080]), (10, 20, 30));
    }

    #[test]
    fn what_is_no_sequence_of_records_is_refused() {
        for (bytes, labels, word) in [
            (Vec::new(), Labels::Ten, "empty"),
            (vec![0; 3072], Labels::Ten, "records of 3073"),
            (vec![0; 3073], Labels::Fine, "records of 3074"),
            (vec![0; 3074 * 2 + 1], Labels::Coarse, "6149 bytes"),
            (record(&[10], 0), Labels::Ten, "picture 0 has label 10"),
            (record(&[20, 0], 0), Labels::Fine, "20 classes (0 to 19)"),
            (record(&[0, 100], 0), Labels::Coarse, "100 classes"),
            (vec![0x1f, 0x8b, 8], Labels::Ten, "gzip"),
        ] {
            let reason = decode(&bytes, labels).unwrap_err();
            assert!(reason.contains(word), "{reason}");
        }
        for (bytes, word) in [
            (lines(9).into_bytes(), "names 9 classes"),
            (lines(11).into_bytes(), "names 11 classes"),
            (vec![0xff; 20], "UTF-8"),
            (vec![b'\n'; 20_000], "longer"),
        ] {
            let reason = names(&bytes, Labels::Ten).unwrap_err();
            assert!(reason.contains(word), "{reason}");
        }
    }

    #[test]
    fn a_bad_file_is_named_with_the_cure() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            ("fine_label_names.txt", lines(100).into_bytes()),
            ("train.bin", vec![1; 5000]),
            ("test.bin", record(&[4, 50], 3)),
        ];
        write(root.path(), "cifar-100-binary", &files);
        let message = load_from(root.path(), "cifar100").unwrap_err();
        for part in ["train.bin", "5000 bytes", "skinny data fetch cifar100"] {
            assert!(message.contains(part), "{message}");
        }
    }

    proptest! {
        #[test]
        fn records_come_back_as_they_were_written(
            pictures in proptest::collection::vec((0_u8..20, 0_u8..100, any::<u8>()), 1..6),
        ) {
            let bytes: Vec<u8> = (pictures.iter())
                .flat_map(|&(coarse, fine, value)| record(&[coarse, fine], value))
                .collect();
            let fine = decode(&bytes, Labels::Fine).unwrap();
            let coarse = decode(&bytes, Labels::Coarse).unwrap();
            prop_assert_eq!(&fine.pixels, &coarse.pixels);
            for (index, &(c, f, value)) in pictures.iter().enumerate() {
                prop_assert_eq!((coarse.labels[index], fine.labels[index]), (u32::from(c), u32::from(f)));
                prop_assert!(fine.pixels[index * PICTURE..(index + 1) * PICTURE].iter().all(|&p| p == value));
            }
        }
    }
}
