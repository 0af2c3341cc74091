//! Pictures in files, decoded when they are read and kept if they fit.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use skinny_network::Preprocess;

use crate::DataError;
use crate::picture::read_picture;

/// The bytes `[C, H, W]` of a picture once it has been read.
type Kept = OnceLock<Box<[u8]>>;

/// PNG and JPEG files that are brought to one shape when they are read.
#[derive(Clone, Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    geometry: Box<Preprocess>,
    /// One for each file, if the set may be kept in memory. Values are whole numbers, so what is kept
    /// is what was read.
    kept: Option<Arc<[Kept]>>,
}

impl Files {
    /// The files `paths`, resized and cropped by `geometry`; with `keep`, each is decoded only once.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>, geometry: Preprocess, keep: bool) -> Self {
        let kept = keep.then(|| paths.iter().map(|_| Kept::new()).collect());
        Self {
            paths,
            geometry: Box::new(geometry),
            kept,
        }
    }

    /// Number of files.
    #[must_use]
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there is no file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The path of file `index`.
    ///
    /// # Panics
    /// If there is no such file.
    #[must_use]
    pub fn path(&self, index: usize) -> &Path {
        &self.paths[index]
    }

    /// How pictures are resized and cropped.
    #[must_use]
    pub fn geometry(&self) -> &Preprocess {
        &self.geometry
    }

    pub(crate) fn subset(&self, indices: &[u32]) -> Self {
        let paths = indices
            .iter()
            .map(|&index| self.paths[index as usize].clone())
            .collect();
        Self::new(paths, (*self.geometry).clone(), self.kept.is_some())
    }

    /// Reads file `index` as `shape`, `[C, H, W]`, into `image`, which has that length.
    pub(crate) fn read(
        &self,
        index: usize,
        shape: [usize; 3],
        image: &mut [f32],
    ) -> Result<(), DataError> {
        let kept = self.kept.as_ref().map(|kept| &kept[index]);
        if let Some(bytes) = kept.and_then(Kept::get) {
            for (value, &byte) in image.iter_mut().zip(bytes) {
                *value = f32::from(byte);
            }
            return Ok(());
        }
        let path = &self.paths[index];
        let values = self
            .geometry
            .geometry(&read_picture(path)?, shape)
            .map_err(|error| DataError::Corrupt {
                path: path.clone(),
                reason: error.to_string(),
                cure: "replace or delete the picture".into(),
            })?;
        image.copy_from_slice(&values);
        if let Some(kept) = kept {
            kept.get_or_init(|| values.iter().map(|&value| value as u8).collect());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, RgbImage};
    use std::fs;

    #[test]
    fn a_kept_picture_is_read_once_and_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        RgbImage::from_fn(9, 7, |x, y| {
            Rgb([(x * 28) as u8, (y * 36) as u8, ((x * y) * 4) as u8])
        })
        .save(&path)
        .unwrap();
        let shape = [3, 4, 4];
        let read = |files: &Files| {
            let mut image = vec![f32::NAN; 48];
            files.read(0, shape, &mut image).map(|()| image)
        };
        let decoded = Files::new(vec![path.clone()], Preprocess::for_input(shape), false);
        let kept = Files::new(vec![path.clone()], Preprocess::for_input(shape), true);
        let first = read(&decoded).unwrap();
        assert!(first.iter().any(|&value| value > 100.0));
        assert_eq!(read(&kept).unwrap(), first);
        fs::remove_file(&path).unwrap();
        assert_eq!(read(&kept).unwrap(), first);
        let message = read(&decoded).unwrap_err().to_string();
        assert!(message.contains("picture.png"), "{message}");
    }

    #[test]
    fn a_subset_points_to_its_own_files() {
        let paths = ["a", "b", "c"].map(PathBuf::from).to_vec();
        let subset = Files::new(paths, Preprocess::default(), true).subset(&[2, 0]);
        assert_eq!(subset.len(), 2);
        assert_eq!(subset.path(0), Path::new("c"));
        assert_eq!(subset.path(1), Path::new("a"));
    }
}
