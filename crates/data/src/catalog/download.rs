//! One file from the first mirror that gives it whole.
//!
//! The bytes gather in `NAME.part` beside the file, which gets its name when its checksum is right. What an
//! earlier run or another mirror left there is gone on with; should the checksum then be wrong, the mirror
//! that ended the file is asked for all of it before it is blamed.

use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;

use ureq::Agent;

use super::http::{Answer, ask, receive};
use super::{CatalogError, FetchOptions, KnownFile, MirrorFailure, Progress, checksum};

/// A broken connection that brought as many bytes as this is taken up again at once.
const WORTH: u64 = 1 << 20;

/// How a download ended that nothing on this machine hindered.
pub(super) enum Ending {
    /// The file is there.
    Done,
    /// No mirror gave it.
    Failed(Vec<MirrorFailure>),
}

/// Why a mirror did not give the file.
struct Failure {
    reason: String,
    /// Whether it may give it another time.
    again: bool,
}

/// Downloads `file` into `folder`. The mirror that gave it moves to the front of `mirrors`.
///
/// # Errors
/// Only those of this machine: [`CatalogError::Write`], [`CatalogError::Read`], [`CatalogError::Full`] and
/// [`CatalogError::Busy`].
pub(super) fn download(
    file: &KnownFile,
    folder: &Path,
    mirrors: &mut [String],
    agent: &Agent,
    options: &FetchOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Ending, CatalogError> {
    let mut part = Part::open(folder, file)?;
    let urls: Vec<String> = mirrors
        .iter()
        .map(|mirror| format!("{}/{}", mirror.trim_end_matches('/'), file.name))
        .collect();
    let mut failures: Vec<Option<Failure>> = urls.iter().map(|_| None).collect();
    for round in 0..options.rounds.max(1) {
        let open = |failure: &Option<Failure>| failure.as_ref().is_none_or(|failure| failure.again);
        if !failures.iter().any(open) {
            break;
        }
        if round > 0 {
            thread::sleep(options.pause.saturating_mul(1 << (round - 1).min(4)));
        }
        for (index, url) in urls.iter().enumerate() {
            if !open(&failures[index]) {
                continue;
            }
            match from_mirror(url, file, &mut part, agent, options, progress)? {
                Ok(()) => {
                    part.finish(folder)?;
                    mirrors[..=index].rotate_right(1);
                    progress(Progress::Done { file: file.name });
                    return Ok(Ending::Done);
                }
                Err(failure) => {
                    progress(Progress::Failed {
                        file: file.name,
                        url,
                        reason: &failure.reason,
                    });
                    failures[index] = Some(failure);
                }
            }
        }
    }
    let failures = urls.into_iter().zip(failures);
    let reason =
        |failure: Option<Failure>| failure.map_or("not asked".to_owned(), |failure| failure.reason);
    Ok(Ending::Failed(
        failures
            .map(|(url, failure)| MirrorFailure {
                url,
                reason: reason(failure),
            })
            .collect(),
    ))
}

/// Completes `part` from one mirror; its checksum is right in the end. The outer error is one of this
/// machine, the inner one of the mirror.
fn from_mirror(
    url: &str,
    file: &KnownFile,
    part: &mut Part,
    agent: &Agent,
    options: &FetchOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Result<(), Failure>, CatalogError> {
    let failure = |reason: String, again| Ok(Err(Failure { reason, again }));
    // Whether every byte of the part came from this mirror in this call.
    let mut own = part.length == 0;
    let mut furthest = part.length;
    loop {
        if part.length < file.bytes {
            progress(Progress::Start {
                file: file.name,
                url,
                from: part.length,
                bytes: file.bytes,
            });
            let body = match ask(agent, url, part.length, file.bytes) {
                Answer::Rest(body) => body,
                Answer::Whole(body) => {
                    part.clear()?;
                    own = true;
                    body
                }
                Answer::Nothing => {
                    part.clear()?;
                    own = true;
                    continue;
                }
                Answer::Later(reason) => return failure(reason, true),
                Answer::Never(reason) => return failure(reason, false),
            };
            let broken = receive(
                body,
                file.bytes - part.length,
                options.stall_timeout,
                |bytes| {
                    part.append(bytes)?;
                    progress(Progress::Bytes {
                        file: file.name,
                        done: part.length,
                        bytes: file.bytes,
                    });
                    Ok(())
                },
            )?;
            if part.length < file.bytes {
                if part.length >= furthest + WORTH {
                    furthest = part.length;
                    continue;
                }
                let reason = broken.unwrap_or("the connection ended early".to_owned());
                return failure(
                    format!("{reason} ({} of {} bytes)", part.length, file.bytes),
                    true,
                );
            }
        }
        progress(Progress::Check { file: file.name });
        let found = part.checksum()?;
        if found == file.md5 {
            return Ok(Ok(()));
        }
        part.clear()?;
        if own {
            return failure(
                format!(
                    "wrong content (md5 {found} where {} is published)",
                    file.md5
                ),
                false,
            );
        }
        own = true;
    }
}

/// The bytes that are there so far, in a file of their own that no other process writes meanwhile.
struct Part {
    path: PathBuf,
    target: PathBuf,
    file: File,
    length: u64,
    size: u64,
}

impl Part {
    fn open(folder: &Path, known: &KnownFile) -> Result<Self, CatalogError> {
        let target = folder.join(known.name);
        let path = folder.join(format!("{}.part", known.name));
        let failed = |error| CatalogError::write(&path, known.bytes, error);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        // A file system without locks is no reason to refuse.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(CatalogError::Busy { path });
        }
        let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut part = Self {
            path,
            target,
            file,
            length,
            size: known.bytes,
        };
        if part.length > part.size {
            part.clear()?;
        }
        Ok(part)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), CatalogError> {
        self.file
            .write_all(bytes)
            .map_err(|error| self.failed(error))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn clear(&mut self) -> Result<(), CatalogError> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .map_err(|error| self.failed(error))?;
        self.length = 0;
        Ok(())
    }

    fn checksum(&mut self) -> Result<String, CatalogError> {
        self.file
            .rewind()
            .and_then(|()| checksum::of_reader(&mut self.file))
            .map_err(|error| CatalogError::read(&self.path, error))
    }

    /// Gives the file its name.
    fn finish(&self, folder: &Path) -> Result<(), CatalogError> {
        self.file.sync_all().map_err(|error| self.failed(error))?;
        fs::rename(&self.path, &self.target)
            .map_err(|error| CatalogError::write(&self.target, self.size, error))?;
        sync_folder(folder);
        Ok(())
    }

    fn failed(&self, error: io::Error) -> CatalogError {
        CatalogError::write(&self.path, self.size - self.length.min(self.size), error)
    }
}

impl Drop for Part {
    /// Leaves no empty file behind.
    fn drop(&mut self) {
        if self.length == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes names in a folder survive a power failure, where the system can.
pub(super) fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trial;
