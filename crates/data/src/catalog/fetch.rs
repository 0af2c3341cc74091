//! Fetching a set: what is missing or wrong is downloaded and unpacked, what is right is left alone.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::download::{Ending, download};
use super::verify::{exact, member};
use super::{
    CatalogError, Files, KnownFile, KnownSet, Member, Published, Single, Source, State, http,
    unpack,
};

/// How to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOptions {
    /// Addresses to use instead of the catalogue's; each serves every file as `mirror/name`. Empty: the
    /// catalogue's.
    pub mirrors: Vec<String>,
    /// Longest time to find a host and connect to it.
    pub connect_timeout: Duration,
    /// Longest time without a byte.
    pub stall_timeout: Duration,
    /// How often each mirror is asked, at least once; one that cannot have the file is asked once only.
    pub rounds: u32,
    /// Time between the first two rounds; it doubles from round to round.
    pub pause: Duration,
    /// Whether an archive is kept after it was unpacked.
    pub keep_archive: bool,
    /// File of the certificates (PEM) that are trusted instead of the built-in ones, for networks that
    /// look into their traffic.
    pub certificates: Option<PathBuf>,
}

impl Default for FetchOptions {
    /// The catalogue's mirrors, three rounds, patience of 10 s and 20 s, certificates from `SSL_CERT_FILE` if
    /// that is set.
    fn default() -> Self {
        Self {
            mirrors: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(20),
            rounds: 3,
            pause: Duration::from_secs(1),
            keep_archive: false,
            certificates: std::env::var_os("SSL_CERT_FILE")
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
        }
    }
}

/// What [`fetch`] is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A file is there already and right.
    Present {
        /// The file.
        file: &'a str,
    },
    /// A mirror is asked for a file.
    Start {
        /// The file.
        file: &'a str,
        /// The address.
        url: &'a str,
        /// Number of bytes that are there already.
        from: u64,
        /// Length of the file in bytes.
        bytes: u64,
    },
    /// Bytes of a file came in.
    Bytes {
        /// The file.
        file: &'a str,
        /// Number of bytes that are there.
        done: u64,
        /// Length of the file in bytes.
        bytes: u64,
    },
    /// A mirror did not give a file; others, or the same one later, may.
    Failed {
        /// The file.
        file: &'a str,
        /// The address.
        url: &'a str,
        /// The reason, on one line.
        reason: &'a str,
    },
    /// The checksum of a file is taken.
    Check {
        /// The file.
        file: &'a str,
    },
    /// A file is taken out of an archive.
    Unpack {
        /// The file.
        file: &'a str,
    },
    /// A file is there, and right.
    Done {
        /// The file.
        file: &'a str,
    },
}

/// Makes the files of `set` be in its folder below `dir`, the folder where sets lie side by side, and
/// returns the set's folder. A download that was cut short, even by killing the process, goes on where it
/// stopped when it is fetched again.
///
/// # Errors
/// [`CatalogError::NothingToFetch`] for a set without published files, [`CatalogError::NoMirror`] if no
/// mirror gave a file, [`CatalogError::Full`], [`CatalogError::Write`] and [`CatalogError::Read`] for what
/// this machine refuses, [`CatalogError::Busy`] if another process fetches the same file,
/// [`CatalogError::Archive`] if an archive lacks what it should hold, [`CatalogError::Certificates`].
pub fn fetch(
    set: &KnownSet,
    dir: &Path,
    options: &FetchOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, CatalogError> {
    let published = match &set.source {
        Source::Published(published) => published,
        Source::Embedded => {
            let reason = "the program draws it; use it as it is";
            return Err(CatalogError::NothingToFetch {
                name: set.name,
                reason,
            });
        }
        Source::Own => {
            let reason =
                "it is your own pictures; name their folder with the key data.path of the recipe";
            return Err(CatalogError::NothingToFetch {
                name: set.name,
                reason,
            });
        }
    };
    let folder = dir.join(published.folder);
    fs::create_dir_all(&folder).map_err(|error| CatalogError::write(&folder, 0, error))?;
    let mirrors = match &options.mirrors[..] {
        [] => published
            .mirrors
            .iter()
            .map(|mirror| (*mirror).to_owned())
            .collect(),
        mirrors => mirrors.to_vec(),
    };
    let mut job = Job {
        published,
        dir,
        folder: &folder,
        mirrors,
        options,
        progress,
    };
    let fetched = job.all();
    // An empty folder would look like a damaged set; one that is not empty stays, and so does what another process is about to fill.
    if !matches!(fetched, Ok(()) | Err(CatalogError::Busy { .. })) {
        let _ = fs::remove_dir(&folder);
    }
    fetched.map(|()| folder.clone())
}

struct Job<'a> {
    published: &'a Published,
    dir: &'a Path,
    folder: &'a Path,
    /// Best first, as experience has it.
    mirrors: Vec<String>,
    options: &'a FetchOptions,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl Job<'_> {
    fn all(&mut self) -> Result<(), CatalogError> {
        match &self.published.files {
            Files::Single(files) => self.singles(files),
            Files::Archive { archive, members } => self.archive(archive, members),
        }
    }

    fn archive(&mut self, archive: &KnownFile, members: &[Member]) -> Result<(), CatalogError> {
        // Before the lock: a whole set may lie where nothing can be written.
        if self.has_all(members) {
            return Ok(());
        }
        // Two processes must not write the same members, nor one remove what the other reads.
        let lock = self.dir.join(format!("{}.lock", archive.name));
        let held = File::create(&lock).map_err(|error| CatalogError::write(&lock, 0, error))?;
        // A file system without locks is no reason to refuse.
        if let Err(TryLockError::WouldBlock) = held.try_lock() {
            return Err(CatalogError::Busy { path: lock });
        }
        let fetched = self.members(archive, members);
        // Who has opened it before finds the set complete.
        let _ = fs::remove_file(&lock);
        fetched
    }

    fn has_all(&mut self, members: &[Member]) -> bool {
        let all = members
            .iter()
            .all(|file| member(file, self.folder).is_good());
        if all {
            members
                .iter()
                .for_each(|file| (self.progress)(Progress::Present { file: file.name() }));
        }
        all
    }

    fn members(&mut self, archive: &KnownFile, members: &[Member]) -> Result<(), CatalogError> {
        // Another process may have fetched them since.
        if self.has_all(members) {
            return Ok(());
        }
        self.file(archive, self.dir)?;
        let path = self.dir.join(archive.name);
        // Whoever failed meanwhile has removed the empty folder.
        fs::create_dir_all(self.folder)
            .map_err(|error| CatalogError::write(self.folder, 0, error))?;
        unpack::unpack(
            &path,
            self.published.folder,
            members,
            self.folder,
            self.progress,
        )?;
        if !self.options.keep_archive {
            // A leftover does no harm; the set is complete.
            let _ = fs::remove_file(&path);
        }
        Ok(())
    }

    fn singles(&mut self, files: &[Single]) -> Result<(), CatalogError> {
        for file in files {
            if exact(&file.plain, self.folder) == State::Ok {
                (self.progress)(Progress::Present {
                    file: file.plain.name,
                });
            } else {
                self.file(&file.served, self.folder)?;
                // One that is not as published would be read in its place.
                let path = self.folder.join(file.plain.name);
                if file.plain.name != file.served.name && path.exists() {
                    let reason = format!(
                        "is not as published, and is read before {}",
                        file.served.name
                    );
                    return Err(CatalogError::Archive { path, reason });
                }
            }
        }
        Ok(())
    }

    /// Makes a file be in `place`, which is the set's folder or, for an archive, the one above.
    fn file(&mut self, file: &KnownFile, place: &Path) -> Result<(), CatalogError> {
        if exact(file, place) == State::Ok {
            (self.progress)(Progress::Present { file: file.name });
            return Ok(());
        }
        let agent = http::agent(self.options)?;
        match download(
            file,
            place,
            &mut self.mirrors,
            &agent,
            self.options,
            self.progress,
        )? {
            Ending::Done => Ok(()),
            Ending::Failed(failures) => Err(CatalogError::NoMirror {
                file: file.name,
                failures,
                wanted: self.wanted(),
                place: if place == self.folder {
                    self.folder
                } else {
                    self.dir
                }
                .to_owned(),
                folder: self.published.folder,
            }),
        }
    }

    /// The names of the files that are still to be had, for somebody who gets them by hand.
    fn wanted(&self) -> String {
        match self.published.files {
            Files::Archive { archive, .. } => archive.name.to_owned(),
            Files::Single(files) => {
                let missing = |file: &&Single| {
                    exact(&file.served, self.folder) != State::Ok
                        && exact(&file.plain, self.folder) != State::Ok
                };
                let names: Vec<_> = files
                    .iter()
                    .filter(missing)
                    .map(|file| file.served.name)
                    .collect();
                names.join(", ")
            }
        }
    }
}

#[cfg(test)]
mod tests;
