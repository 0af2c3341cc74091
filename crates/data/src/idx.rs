//! Reader of the IDX files of MNIST and its relatives, plain or gzip-compressed.
//!
//! An IDX file is a big-endian header, `00 00 type dimensions` and one u32 per dimension, then the
//! values. Nothing is allocated before the header has been checked against the length of the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::DataError;

/// The pictures of an IDX file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Number of pictures, at least 1.
    pub count: usize,
    /// Height of each, at least 1.
    pub height: usize,
    /// Width of each, at least 1.
    pub width: usize,
    /// The pictures, `[count, height, width]`.
    pub pixels: Vec<u8>,
}

/// Type code of unsigned bytes, the only one these sets use.
const UNSIGNED_BYTES: u8 = 0x08;
/// Deflate cannot compress better than this, so a short file cannot truthfully promise much data.
const LARGEST_COMPRESSION: u64 = 1032;
/// Space reserved before any data has been seen to be there.
const LARGEST_RESERVATION: usize = 1 << 26;

/// Reads pictures, e.g. `train-images-idx3-ubyte.gz`. `cure` ends the message of an error.
///
/// # Errors
/// [`DataError::Read`] if the file cannot be read, [`DataError::Corrupt`] if it is not a whole IDX file
/// of pictures.
pub fn read_images(path: &Path, cure: &str) -> Result<Images, DataError> {
    let ([count, height, width], pixels) = read(path, cure)?;
    Ok(Images {
        count,
        height,
        width,
        pixels,
    })
}

/// Reads labels, each below `classes`, e.g. `train-labels-idx1-ubyte.gz`. `cure` ends the message of an error.
///
/// # Errors
/// As [`read_images`], and [`DataError::Corrupt`] if a label is `classes` or more.
pub fn read_labels(path: &Path, classes: usize, cure: &str) -> Result<Vec<u32>, DataError> {
    let ([_], labels) = read(path, cure)?;
    if let Some(index) = labels
        .iter()
        .position(|&label| usize::from(label) >= classes)
    {
        return Err(DataError::Corrupt {
            path: path.to_owned(),
            reason: format!(
                "label {index} is {}, but there are {classes} classes (0 to {})",
                labels[index],
                classes.saturating_sub(1)
            ),
            cure: cure.to_owned(),
        });
    }
    Ok(labels.into_iter().map(u32::from).collect())
}

/// Reads pictures and their labels.
///
/// # Errors
/// As [`read_images`] and [`read_labels`], and [`DataError::Corrupt`] if there are not as many labels as
/// pictures.
pub fn read_pair(
    images: &Path,
    labels: &Path,
    classes: usize,
    cure: &str,
) -> Result<(Images, Vec<u32>), DataError> {
    let pictures = read_images(images, cure)?;
    let classes_of_pictures = read_labels(labels, classes, cure)?;
    if pictures.count != classes_of_pictures.len() {
        return Err(DataError::Corrupt {
            path: labels.to_owned(),
            reason: format!(
                "holds {} labels, but {} holds {} pictures",
                classes_of_pictures.len(),
                images.display(),
                pictures.count
            ),
            cure: cure.to_owned(),
        });
    }
    Ok((pictures, classes_of_pictures))
}

/// Reads IDX values of `D` dimensions from the bytes of a file. For fuzzing and tests.
///
/// # Errors
/// What is wrong, without the name of a file.
#[doc(hidden)]
pub fn decode_bytes<const D: usize>(bytes: &[u8]) -> Result<([usize; D], Vec<u8>), String> {
    decode(bytes, bytes.len() as u64).map_err(|problem| match problem {
        Problem::Corrupt(reason) => reason,
        Problem::Io(error) => error.to_string(),
    })
}

/// Why a file could not be decoded: the disk's fault or the file's.
enum Problem {
    Io(io::Error),
    Corrupt(String),
}

fn read<const D: usize>(path: &Path, cure: &str) -> Result<([usize; D], Vec<u8>), DataError> {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    opened
        .map_err(Problem::Io)
        .and_then(|(stored, file)| decode(BufReader::new(file), stored))
        .map_err(|problem| match problem {
            Problem::Io(source) => DataError::Read {
                path: path.to_owned(),
                source,
            },
            Problem::Corrupt(reason) => DataError::Corrupt {
                path: path.to_owned(),
                reason,
                cure: cure.to_owned(),
            },
        })
}

fn decode<const D: usize>(
    mut source: impl BufRead,
    stored: u64,
) -> Result<([usize; D], Vec<u8>), Problem> {
    let start = source.fill_buf().map_err(Problem::Io)?;
    if start.is_empty() {
        return Err(Problem::Corrupt("the file is empty".into()));
    }
    if start.first() == Some(&b'<') {
        return Err(Problem::Corrupt(
            "this is a web page, not an IDX file".into(),
        ));
    }
    if start.starts_with(&[0x1f, 0x8b]) {
        let largest = stored.saturating_mul(LARGEST_COMPRESSION);
        decode_plain(MultiGzDecoder::new(source), largest)
    } else {
        decode_plain(source, stored)
    }
}

/// Decodes uncompressed IDX data that is at most `largest` bytes long.
fn decode_plain<const D: usize>(
    mut source: impl Read,
    largest: u64,
) -> Result<([usize; D], Vec<u8>), Problem> {
    let mut word = || {
        let mut bytes = [0; 4];
        match source.read_exact(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(error) => Err(damage(error, "the file ends within its header")),
        }
    };
    let magic = word()?;
    let expected = [0, 0, UNSIGNED_BYTES, D as u8];
    if magic != expected {
        return Err(Problem::Corrupt(wrong_magic(magic, expected)));
    }
    let mut dimensions = [0; D];
    for dimension in &mut dimensions {
        *dimension = u32::from_be_bytes(word()?) as usize;
    }
    let shape = dimensions.map(|d| d.to_string()).join("x");
    if dimensions[0] == 0 {
        return Err(Problem::Corrupt(
            "the set is empty: its header says 0 items".into(),
        ));
    }
    if dimensions.contains(&0) {
        return Err(Problem::Corrupt(format!(
            "its header says {shape}, pictures without pixels"
        )));
    }
    let room = largest.saturating_sub(4 + 4 * D as u64);
    let expected = dimensions
        .iter()
        .try_fold(1_u64, |product, &d| product.checked_mul(d as u64))
        .filter(|&product| product <= room)
        .ok_or_else(|| {
            Problem::Corrupt(format!(
                "its header promises {shape} values, more than the file can hold (truncated or not IDX)"
            ))
        })?;
    let length = usize::try_from(expected)
        .map_err(|_| Problem::Corrupt(format!("{shape} values do not fit into memory")))?;
    let mut values = Vec::with_capacity(length.min(LARGEST_RESERVATION));
    source
        .by_ref()
        .take(expected)
        .read_to_end(&mut values)
        .map_err(|error| damage(error, "the compressed data ends early (truncated)"))?;
    if values.len() < length {
        return Err(Problem::Corrupt(format!(
            "holds {} values where its header promises {shape} (truncated)",
            values.len()
        )));
    }
    // Reading on also makes the decompressor check the checksum at the end.
    let mut more = [0; 1];
    loop {
        match source.read(&mut more) {
            Ok(0) => return Ok((dimensions, values)),
            Ok(_) => {
                return Err(Problem::Corrupt(format!(
                    "more data follows the {shape} values of its header"
                )));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(damage(
                    error,
                    "the compressed data is cut at its very end, or something follows it",
                ));
            }
        }
    }
}

/// An error of reading: `early_end` if the data ended, the decompressor's words if it refused the data,
/// otherwise the disk's.
fn damage(error: io::Error, early_end: &str) -> Problem {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Problem::Corrupt(early_end.to_owned()),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            Problem::Corrupt(format!("damaged gzip data ({error})"))
        }
        _ => Problem::Io(error),
    }
}

fn wrong_magic(found: [u8; 4], expected: [u8; 4]) -> String {
    let hint = match found {
        [0, 0, UNSIGNED_BYTES, 1] => "these are labels, not pictures",
        [0, 0, UNSIGNED_BYTES, 3] => "these are pictures, not labels",
        [0, 0, UNSIGNED_BYTES, _] => "its number of dimensions is not the one of this kind of file",
        [0, 0, 0x09 | 0x0b..=0x0e, _] => "its values are not unsigned bytes",
        _ => "this is not an IDX file",
    };
    format!(
        "starts with {:08x} where {:08x} is expected ({hint})",
        u32::from_be_bytes(found),
        u32::from_be_bytes(expected)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::path::PathBuf;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    fn images(count: u32, height: u32, width: u32, values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, 3];
        for dimension in [count, height, width] {
            bytes.extend(dimension.to_be_bytes());
        }
        bytes.extend(values);
        bytes
    }

    fn labels(values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, 1];
        bytes.extend((values.len() as u32).to_be_bytes());
        bytes.extend(values);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn six() -> Vec<u8> {
        images(2, 1, 3, &[1, 2, 3, 4, 5, 6])
    }

    fn refused(bytes: &[u8], word: &str) {
        let reason = decode_bytes::<3>(bytes).unwrap_err();
        assert!(
            reason.contains(word),
            "\"{reason}\" does not say \"{word}\""
        );
        assert!(!reason.contains('\n'), "{reason}");
    }

    fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train-images-idx3-ubyte");
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn plain_and_gzip_give_the_same_pictures() {
        let expected = Images {
            count: 2,
            height: 1,
            width: 3,
            pixels: vec![1, 2, 3, 4, 5, 6],
        };
        for bytes in [
            six(),
            gzip(&six()),
            [gzip(&six()[..9]), gzip(&six()[9..])].concat(),
        ] {
            let (_folder, path) = file(&bytes);
            assert_eq!(read_images(&path, "").unwrap(), expected);
        }
    }

    #[test]
    fn wrong_kinds_of_file_are_named() {
        refused(b"", "empty");
        refused(b"<!DOCTYPE html>", "web page");
        refused(&labels(&[1, 2]), "these are labels");
        refused(&images(1, 1, 1, &[1])[..3], "within its header");
        refused(&images(1, 1, 1, &[1])[..14], "within its header");
        refused(&[3, 8, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1], "not an IDX file");
        refused(
            &[&[0, 0, 0x0d, 3][..], &[0; 12]].concat(),
            "not unsigned bytes",
        );
        refused(
            &[&[0, 0, 8, 2][..], &[0; 12]].concat(),
            "number of dimensions",
        );
        refused(&gzip(b"PK"), "within its header");
        let reason = decode_bytes::<1>(&six()).unwrap_err();
        assert!(reason.contains("these are pictures"), "{reason}");
    }

    #[test]
    fn sizes_that_cannot_be_true_are_refused() {
        refused(&images(0, 28, 28, &[]), "empty");
        refused(&images(1, 0, 28, &[]), "without pixels");
        refused(
            &images(2, 1, 3, &[1, 2, 3, 4, 5]),
            "more than the file can hold",
        );
        refused(
            &images(2, 1, 3, &[1, 2, 3, 4, 5, 6, 7]),
            "more data follows",
        );
        for huge in [
            images(u32::MAX, u32::MAX, u32::MAX, &[1]),
            images(1 << 31, 1 << 31, 4, &[1]),
            images(60_000, 28, 28, &[1; 100]),
        ] {
            refused(&huge, "more than the file can hold");
            refused(&gzip(&huge), "more than the file can hold");
        }
    }

    #[test]
    fn a_promise_that_gzip_could_keep_allocates_only_what_comes() {
        // 1 GiB would fit a gzip file of this length, but only 1 MiB is in it.
        let mut bytes = gzip(&images(1 << 20, 32, 32, &vec![0; 1 << 20]));
        bytes.extend(gzip(&[]).repeat(60_000));
        let reason = decode_bytes::<3>(&bytes).unwrap_err();
        assert!(reason.contains("truncated"), "{reason}");
    }

    #[test]
    fn gzip_cut_anywhere_is_refused() {
        let values: Vec<u8> = (0..2000_u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let whole = gzip(&images(20, 10, 10, &values));
        for end in 0..whole.len() {
            assert!(
                decode_bytes::<3>(&whole[..end]).is_err(),
                "cut at {end} of {}",
                whole.len()
            );
        }
        decode_bytes::<3>(&whole).unwrap();
    }

    #[test]
    fn gzip_damage_and_rubbish_after_the_end_are_refused() {
        let whole = gzip(&six());
        let mut checksum = whole.clone();
        let place = whole.len() - 6;
        checksum[place] ^= 1;
        refused(&checksum, "damaged gzip data");
        refused(&[&whole[..], b"rubbish"].concat(), "something follows");
        refused(&[&whole[..], b"more rubbish"].concat(), "gzip");
        refused(&[&whole[..], &gzip(b"more")].concat(), "more data follows");
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] ^= 0x10;
            // A flip in the header's flags or time stamp may go unnoticed, but never changes a pixel.
            if let Ok(read) = decode_bytes::<3>(&damaged) {
                assert_eq!(read, ([2, 1, 3], vec![1, 2, 3, 4, 5, 6]), "byte {place}");
            }
        }
    }

    #[test]
    fn labels_must_be_below_the_number_of_classes() {
        let (_folder, path) = file(&labels(&[0, 9, 10]));
        let message = read_labels(&path, 10, "fetch it again")
            .unwrap_err()
            .to_string();
        assert!(message.contains("label 2 is 10"), "{message}");
        assert!(message.contains("train-images-idx3-ubyte"), "{message}");
        assert!(message.ends_with("fetch it again"), "{message}");
        assert_eq!(read_labels(&path, 11, "").unwrap(), [0, 9, 10]);
    }

    #[test]
    fn labels_must_match_pictures() {
        let (_folder, pictures) = file(&six());
        let (_other, three) = file(&labels(&[0, 1, 2]));
        let message = read_pair(&pictures, &three, 10, "")
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("3 labels") && message.contains("2 pictures"),
            "{message}"
        );
    }

    #[test]
    fn a_missing_file_and_a_folder_are_errors_of_reading() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().join("nothing"), folder.path().to_owned()] {
            assert!(matches!(
                read_images(&path, ""),
                Err(DataError::Read { .. })
            ));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            (count, height, width) in (1_u32..5, 1_u32..7, 1_u32..7),
            seed in any::<u8>(),
            compressed in any::<bool>(),
        ) {
            let values: Vec<u8> = (0..count * height * width).map(|i| (i as u8).wrapping_mul(seed)).collect();
            let bytes = images(count, height, width, &values);
            let bytes = if compressed { gzip(&bytes) } else { bytes };
            let (dimensions, read) = decode_bytes::<3>(&bytes).unwrap();
            prop_assert_eq!(dimensions.map(|d| d as u32), [count, height, width]);
            prop_assert_eq!(read, values);
        }

        #[test]
        fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut with_magic = vec![0, 0, 8, 3];
            with_magic.extend(&bytes);
            for bytes in [&bytes, &with_magic, &gzip(&bytes), &gzip(&with_magic)] {
                let _ = decode_bytes::<3>(bytes);
                let _ = decode_bytes::<1>(bytes);
            }
        }
    }
}
