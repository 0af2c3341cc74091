//! Finding and reading a set by its name.

use std::path::{Path, PathBuf};

use skinny_network::Preprocess;

use crate::cifar::{self, Labels};
use crate::folder::{FolderSettings, load_folder};
use crate::glyphs::{self, GlyphSettings};
use crate::{DataError, DataRoots, Dataset, Split, idx};

/// The names that [`load`] knows, and what each set is.
pub const SETS: [(&str, &str); 7] = [
    (
        "glyphs",
        "digits and letters drawn by the program, 1x28x28; needs no file and no network",
    ),
    ("mnist", "handwritten digits, 1x28x28"),
    ("fashion-mnist", "articles of clothing, 1x28x28"),
    ("cifar10", "photographs of 10 kinds, 3x32x32"),
    ("cifar100", "photographs of 100 kinds, 3x32x32"),
    (
        "cifar100-coarse",
        "the photographs of cifar100, sorted into 20 kinds",
    ),
    (
        "folder",
        "your own pictures, PNG or JPEG in one folder for each class",
    ),
];

/// Files of MNIST and the sets made like it: training pictures and labels, test pictures and labels.
const IDX_FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];
const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
const CLOTHES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// What [`load`] may need to know beside the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// The folder of set "folder".
    pub path: Option<PathBuf>,
    /// Channels (1 or 3), height and width to which pictures of a folder are brought: the input of the
    /// network. 3x224x224 if not given.
    pub shape: Option<[usize; 3]>,
    /// Length of the shorter side of pictures of a folder before the centre is cut out; the longer side
    /// of `shape` if not given.
    pub resize: Option<usize>,
    /// Pictures of a folder are decoded only once if all of a part take at most so many bytes.
    pub keep: usize,
    /// How `glyphs` is drawn.
    pub glyphs: GlyphSettings,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            path: None,
            shape: None,
            resize: None,
            keep: 1 << 29,
            glyphs: GlyphSettings::default(),
        }
    }
}

/// Finds set `name` (see [`SETS`]) in `roots` and reads it.
///
/// # Errors
/// [`DataError::Unknown`] for a name that is not known, [`DataError::Missing`] if its files are nowhere,
/// [`DataError::Setting`] for options that cannot work, [`DataError::Read`], [`DataError::Corrupt`] and
/// [`DataError::Inconsistent`] for files that are not what they should be.
pub fn load(name: &str, roots: &DataRoots, options: &LoadOptions) -> Result<Split, DataError> {
    match name {
        "glyphs" => drawn(&options.glyphs),
        "mnist" => idx_set(name, roots, &DIGITS),
        "fashion-mnist" => idx_set(name, roots, &CLOTHES),
        "cifar10" => cifar::load(name, Labels::Ten, roots),
        "cifar100" => cifar::load(name, Labels::Fine, roots),
        "cifar100-coarse" => cifar::load(name, Labels::Coarse, roots),
        "folder" => folder(options),
        _ => Err(DataError::Unknown {
            what: "data set",
            name: name.to_owned(),
            known: SETS.map(|(name, _)| name).join(", "),
        }),
    }
}

fn drawn(settings: &GlyphSettings) -> Result<Split, DataError> {
    let (train, test) = glyphs::generate(settings);
    let dataset = |part: glyphs::Glyphs| {
        let shape = [1, glyphs::SIDE, glyphs::SIDE];
        Dataset::in_memory("glyphs", shape, glyphs::names(), part.labels, part.pixels)
    };
    Ok(Split {
        train: dataset(train)?,
        test: dataset(test)?,
    })
}

fn idx_set(name: &str, roots: &DataRoots, label_names: &[&str]) -> Result<Split, DataError> {
    let cure = format!("delete it and run `skinny data fetch {name}`");
    let files = roots.find(name, name, &IDX_FILES)?;
    let part = |images: &Path, labels: &Path| {
        let (images, labels) = idx::read_pair(images, labels, label_names.len(), &cure)?;
        let label_names = label_names.iter().map(|&label| label.to_owned()).collect();
        Dataset::in_memory(
            name,
            [1, images.height, images.width],
            label_names,
            labels,
            images.pixels,
        )
    };
    let train = part(&files[0], &files[1])?;
    let test = part(&files[2], &files[3])?;
    if train.shape != test.shape {
        let [[_, height, width], [_, test_height, test_width]] = [train.shape, test.shape];
        return Err(DataError::Corrupt {
            path: files[2].clone(),
            reason: format!(
                "its pictures are {test_height}x{test_width}, those of {} {height}x{width}",
                files[0].display()
            ),
            cure,
        });
    }
    Ok(Split { train, test })
}

fn folder(options: &LoadOptions) -> Result<Split, DataError> {
    let setting = |key: &str, reason: String| DataError::Setting {
        key: key.to_owned(),
        reason,
    };
    let Some(path) = &options.path else {
        return Err(setting(
            "data.path",
            "is missing; set it to the folder that holds your pictures".into(),
        ));
    };
    let shape = options.shape.unwrap_or([3, 224, 224]);
    if !matches!(shape[0], 1 | 3) {
        return Err(setting(
            "network.input",
            format!(
                "pictures have 1 channel (gray) or 3 (RGB), not {}",
                shape[0]
            ),
        ));
    }
    let mut geometry = Preprocess::for_input(shape);
    if let Some(resize) = options.resize {
        let smallest = shape[1].max(shape[2]);
        if resize < smallest {
            return Err(setting(
                "data.resize",
                format!(
                    "{resize} is less than the network's input of {}x{}; choose {smallest} or more",
                    shape[1], shape[2]
                ),
            ));
        }
        geometry.resize = Some(resize);
    }
    load_folder(
        path,
        &FolderSettings {
            shape,
            geometry,
            keep: options.keep,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn idx(dimensions: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
        bytes.extend(dimensions.iter().flat_map(|d| d.to_be_bytes()));
        bytes.extend(values);
        bytes
    }

    /// A tiny set in the format of MNIST: 3 training and 2 test pictures of 1x2.
    fn write(root: &Path, name: &str) {
        let folder = root.join(name);
        fs::create_dir_all(&folder).unwrap();
        for (file, bytes) in IDX_FILES.iter().zip([
            idx(&[3, 1, 2], &[1, 2, 3, 4, 5, 6]),
            idx(&[3], &[9, 0, 1]),
            idx(&[2, 1, 2], &[7, 8, 9, 10]),
            idx(&[2], &[5, 5]),
        ]) {
            fs::write(folder.join(file), bytes).unwrap();
        }
    }

    fn load_from(root: &Path, name: &str, options: &LoadOptions) -> Result<Split, String> {
        load(
            name,
            &DataRoots::from_places(vec![root.to_owned()]),
            options,
        )
        .map_err(|error| error.to_string())
    }

    #[test]
    fn sets_like_mnist_are_read_under_their_own_names() {
        let root = tempfile::tempdir().unwrap();
        for (name, ninth) in [("mnist", "9"), ("fashion-mnist", "Ankle boot")] {
            write(root.path(), name);
            let split = load_from(root.path(), name, &LoadOptions::default()).unwrap();
            assert_eq!((split.train.len(), split.test.len()), (3, 2));
            assert_eq!(split.train.name, name);
            assert_eq!(split.train.shape, [1, 1, 2]);
            assert_eq!(split.train.labels, [9, 0, 1]);
            assert_eq!(split.train.label_names[9], ninth);
            let mut image = [0.0; 2];
            split.test.read(1, &mut image).unwrap();
            assert_eq!(image, [9.0, 10.0]);
        }
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "mnist");
        let path = root.path().join("mnist").join(IDX_FILES[2]);
        fs::write(&path, idx(&[2, 2, 1], &[7, 8, 9, 10])).unwrap();
        let message = load_from(root.path(), "mnist", &LoadOptions::default()).unwrap_err();
        assert!(
            message.contains("2x1") && message.contains("1x2"),
            "{message}"
        );
        assert!(message.contains("skinny data fetch mnist"), "{message}");
    }

    #[test]
    fn a_name_that_is_not_known_lists_those_that_are() {
        let message = load_from(Path::new("."), "minst", &LoadOptions::default()).unwrap_err();
        assert!(
            message.contains("\"minst\"") && message.contains("mnist, fashion-mnist"),
            "{message}"
        );
    }

    #[test]
    fn glyphs_need_no_files() {
        let options = LoadOptions {
            glyphs: GlyphSettings {
                train: 30,
                test: 20,
                ..GlyphSettings::default()
            },
            ..LoadOptions::default()
        };
        let split = load_from(Path::new("/nowhere"), "glyphs", &options).unwrap();
        assert_eq!((split.train.len(), split.test.len()), (30, 20));
        assert_eq!(split.train.shape, [1, 28, 28]);
        split
            .train
            .preprocess()
            .unwrap()
            .check(split.train.shape)
            .unwrap();
    }

    #[test]
    fn a_folder_needs_a_path_and_settings_that_fit() {
        let with = |path: Option<&str>, shape, resize| LoadOptions {
            path: path.map(PathBuf::from),
            shape,
            resize,
            ..LoadOptions::default()
        };
        for (options, word) in [
            (with(None, None, None), "data.path"),
            (with(Some("/nowhere"), Some([2, 8, 8]), None), "1 channel"),
            (
                with(Some("/nowhere"), Some([3, 8, 9]), Some(8)),
                "choose 9 or more",
            ),
            (with(Some("/nowhere"), None, None), "/nowhere"),
        ] {
            let message = load_from(Path::new("."), "folder", &options).unwrap_err();
            assert!(message.contains(word), "{message}");
        }
    }
}
