//! Data for skinny: sets of labelled pictures, where they are found, augmentation, and a loader that
//! keeps training supplied.
//!
//! [`load`] finds a set by name and returns its [`Split`] into training and test pictures; a [`Loader`]
//! turns a [`Dataset`] into a stream of [`Batch`]es that is the same, bit for bit, whatever the number of
//! its workers, and that can start at any batch of any epoch.
//!
//! ```
//! use std::sync::Arc;
//! use skinny_data::{DataRoots, Loader, LoaderOptions, LoadOptions, glyphs::GlyphSettings, load};
//!
//! let few = GlyphSettings { train: 100, test: 20, ..GlyphSettings::default() };
//! let options = LoadOptions { glyphs: few, ..LoadOptions::default() };
//! let split = load("glyphs", &DataRoots::new(None), &options)?;
//! let preprocess = split.train.preprocess()?;
//! let (train, _held_out) = split.train.hold_out(20, 0)?;
//! let mut pictures = 0;
//! for batch in Loader::new(Arc::new(train), &preprocess, LoaderOptions::training(32, 2, 0))? {
//!     let batch = batch?;
//!     assert_eq!(batch.images.len(), batch.labels.len() * 28 * 28);
//!     pictures += batch.len();
//! }
//! assert_eq!(pictures, 2 * 80);
//! # Ok::<(), skinny_data::DataError>(())
//! ```
#![forbid(unsafe_code)]

mod augment;
pub mod catalog;
pub mod cifar;
mod dataset;
mod error;
mod files;
mod folder;
pub mod glyphs;
pub mod idx;
mod load;
mod loader;
mod picture;
mod random;
mod roots;

pub use augment::{Augment, AugmentError, Fill, Key, augment};
pub use dataset::{Dataset, Info, Pixels, Split};
pub use error::DataError;
pub use files::Files;
pub use load::{LoadOptions, SETS, load};
pub use loader::{Batch, Loader, LoaderOptions};
pub use picture::{decode_picture, read_picture};
pub use roots::{DataRoots, cache_folder};
