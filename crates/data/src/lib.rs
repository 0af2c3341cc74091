//! Data for skinny: sets of labelled pictures, where they are found, augmentation, and a loader that
//! keeps training supplied.
//!
//! [`load`] finds a set by name and returns its [`Split`] into training and test pictures; a [`Loader`]
//! turns a [`Dataset`] into a stream of [`Batch`]es that is the same, bit for bit, whatever the number of
//! its workers, and that can start at any batch of any epoch.
#![forbid(unsafe_code)]

mod augment;
mod dataset;
mod error;
pub mod glyphs;
pub mod idx;
mod random;
mod roots;

pub use augment::{Augment, AugmentError, Key, augment};
pub use dataset::{Dataset, Info, Pixels, Split};
pub use error::DataError;
pub use roots::DataRoots;
