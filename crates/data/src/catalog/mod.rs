//! The sets that skinny knows by name: where their files are published, what they are called, how long
//! they are and which checksums they have; fetching them, and telling whether those at hand are whole.
//!
//! [`sets`] lists them, [`find`] looks one up, [`fetch`] downloads what is missing and [`verify`] only
//! looks. Sets lie side by side below one folder, each in the folder that its publisher's archive has:
//! `mnist/`, `fashion-mnist/`, `cifar-10-batches-bin/`, `cifar-100-binary/`.
//!
//! The published checksums are MD5. They show that a file is the published one and not a damaged one or
//! an error page; they would not stop somebody who can forge MD5, which is why addresses are HTTPS
//! wherever the publisher has it and why archives are unpacked by a list of expected members only.

mod checksum;
mod download;
mod error;
mod fetch;
#[cfg(test)]
mod fixtures;
mod http;
mod known;
#[cfg(test)]
mod server;
mod unpack;
mod verify;

pub use error::{CatalogError, MirrorFailure};
pub use fetch::{FetchOptions, Progress, fetch};
pub use known::sets;
#[doc(hidden)]
pub use unpack::unpack_bytes;
pub use verify::{FileState, State, verify};

/// A set that can be asked for by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownSet {
    /// The name used in recipes and on the command line, e.g. "mnist".
    pub name: &'static str,
    /// What it is, in a few words.
    pub title: &'static str,
    /// Channels, height and width; `None` where it is up to the user.
    pub shape: Option<[usize; 3]>,
    /// Number of classes; `None` where it is up to the user.
    pub classes: Option<usize>,
    /// Number of training pictures; `None` where it is up to the user.
    pub train: Option<usize>,
    /// Number of test pictures; `None` where it is up to the user.
    pub test: Option<usize>,
    /// Licence or terms, as far as the publisher states any.
    pub terms: &'static str,
    /// Address of a page about the set; empty if there is none.
    pub homepage: &'static str,
    /// Where its pictures come from.
    pub source: Source,
}

/// Where the pictures of a [`KnownSet`] come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The program draws them.
    Embedded,
    /// The user has them.
    Own,
    /// They are published as files.
    Published(Published),
}

/// A set that is published as files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Name of the folder that holds its files, below the folder where sets lie side by side.
    pub folder: &'static str,
    /// Addresses that each serve every file, best first; a file's address is `mirror/name`.
    pub mirrors: &'static [&'static str],
    /// What is served there.
    pub files: Files,
}

/// The files of a [`Published`] set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// Files that are kept as they are served.
    Single(&'static [Single]),
    /// One archive (tar, compressed with gzip) that is unpacked.
    Archive {
        /// The archive as it is served.
        archive: KnownFile,
        /// What is taken out of it.
        members: &'static [Member],
    },
}

/// A file whose every byte is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownFile {
    /// Its name, without folder.
    pub name: &'static str,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its MD5 in lower-case hexadecimal.
    pub md5: &'static str,
}

/// A file that is kept as it is served, and may as well lie there decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Single {
    /// The file as served, compressed with gzip.
    pub served: KnownFile,
    /// The same file decompressed, for those who did that by hand.
    pub plain: KnownFile,
}

/// A file inside an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// A file of which every byte is known.
    Exact(KnownFile),
    /// A small text without a published checksum.
    Text {
        /// Its name, without folder.
        name: &'static str,
        /// Longest length in bytes that is accepted.
        limit: u64,
    },
}

impl KnownSet {
    /// The files of the set, or `None` if it needs none.
    pub fn published(&self) -> Option<&Published> {
        match &self.source {
            Source::Published(published) => Some(published),
            Source::Embedded | Source::Own => None,
        }
    }
}

impl Published {
    /// Number of bytes that a complete download takes.
    pub fn download_bytes(&self) -> u64 {
        match self.files {
            Files::Single(files) => files.iter().map(|file| file.served.bytes).sum(),
            Files::Archive { archive, .. } => archive.bytes,
        }
    }

    /// Number of bytes that the files take in their folder, as [`fetch`] leaves them there; small texts
    /// are not counted.
    pub fn disk_bytes(&self) -> u64 {
        match self.files {
            Files::Single(_) => self.download_bytes(),
            Files::Archive { members, .. } => members
                .iter()
                .map(|member| match member {
                    Member::Exact(file) => file.bytes,
                    Member::Text { .. } => 0,
                })
                .sum(),
        }
    }
}

impl Member {
    /// Its name, without folder.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Exact(file) => file.name,
            Self::Text { name, .. } => name,
        }
    }

    /// Longest length in bytes that is accepted.
    pub fn limit(&self) -> u64 {
        match self {
            Self::Exact(file) => file.bytes,
            Self::Text { limit, .. } => *limit,
        }
    }
}

/// The set of that name.
///
/// # Errors
/// [`CatalogError::UnknownSet`] with the names that are known.
pub fn find(name: &str) -> Result<&'static KnownSet, CatalogError> {
    sets()
        .iter()
        .find(|set| set.name == name)
        .ok_or_else(|| CatalogError::UnknownSet {
            name: name.to_owned(),
            known: sets()
                .iter()
                .map(|set| set.name)
                .collect::<Vec<_>>()
                .join(", "),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_found_by_its_name() {
        for set in sets() {
            assert_eq!(find(set.name).unwrap(), set);
        }
        let error = find("mnits").unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown data set \"mnits\"; known are glyphs, mnist, fashion-mnist, cifar10, cifar100, cifar100-coarse, folder"
        );
    }

    #[test]
    fn sizes_add_up() {
        let published = find("mnist").unwrap().published().unwrap();
        assert_eq!(published.download_bytes(), 11_594_722);
        assert_eq!(published.disk_bytes(), 11_594_722);
        let published = find("cifar10").unwrap().published().unwrap();
        assert_eq!(published.download_bytes(), 170_052_171);
        assert_eq!(published.disk_bytes(), 6 * 30_730_000);
        assert_eq!(find("glyphs").unwrap().published(), None);
    }
}
