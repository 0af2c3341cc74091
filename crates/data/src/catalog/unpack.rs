//! Taking the expected files, and nothing else, out of an archive.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use flate2::read::GzDecoder;

use super::checksum::Checksum;
use super::download::sync_folder;
use super::{CatalogError, Member, Progress};

/// Bytes that an archive may hold beyond its expected members: other small files, headers and padding.
const SLACK: u64 = 1 << 20;

/// Takes `members` out of the archive at `path`, where they lie in a folder named `prefix`, into `folder`.
/// Only regular files of exactly the expected names are read, none longer than expected; no path from the
/// archive is ever used.
///
/// # Errors
/// [`CatalogError::Archive`] if the archive is damaged, too long, or a member is missing or wrong;
/// [`CatalogError::Read`], [`CatalogError::Write`] and [`CatalogError::Full`] for what this machine refuses.
pub(super) fn unpack(
    path: &Path,
    prefix: &str,
    members: &[Member],
    folder: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), CatalogError> {
    let file = File::open(path).map_err(|error| CatalogError::read(path, error))?;
    unpack_from(
        io::BufReader::new(file),
        path,
        prefix,
        members,
        folder,
        progress,
    )
}

/// The same from the bytes of an archive; `path` is what messages call it.
fn unpack_from(
    source: impl Read,
    path: &Path,
    prefix: &str,
    members: &[Member],
    folder: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), CatalogError> {
    // What the library says of an archive quotes names from it, which may hold anything.
    let fault = |reason: String| CatalogError::Archive {
        path: path.to_owned(),
        reason: reason.replace(char::is_control, " "),
    };
    let damaged = |error: io::Error| fault(format!("it is damaged ({error})"));
    let limit = members
        .iter()
        .map(|member| member.limit() + 1024)
        .sum::<u64>()
        + SLACK;
    let mut archive = tar::Archive::new(GzDecoder::new(source).take(limit));
    let mut missing: Vec<&Member> = members.iter().collect();
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let expected = |member: &&Member| is_member(&entry.path_bytes(), prefix, member.name());
        let Some(index) = missing.iter().position(expected) else {
            continue;
        };
        let member = missing[index];
        let name = member.name();
        if !entry.header().entry_type().is_file() {
            return Err(fault(format!("its {name} is no regular file")));
        }
        if entry.size() > member.limit() {
            return Err(fault(format!(
                "its {name} has {} bytes where {} are expected",
                entry.size(),
                member.limit()
            )));
        }
        progress(Progress::Unpack { file: name });
        let bytes = entry.size();
        take(&mut entry, bytes, member, folder, &fault)?;
        progress(Progress::Done { file: name });
        missing.swap_remove(index);
        if missing.is_empty() {
            break;
        }
    }
    sync_folder(folder);
    match missing.first() {
        Some(member) => Err(fault(format!("it holds no {prefix}/{}", member.name()))),
        None => Ok(()),
    }
}

/// Takes "set/a.bin" (the bytes "content") and "set/names.txt" (at most 100 bytes) out of an archive into `folder`.
/// For fuzzing and tests.
///
/// # Errors
/// What is wrong.
#[doc(hidden)]
pub fn unpack_bytes(archive: &[u8], folder: &Path) -> Result<(), String> {
    let members = [
        Member::Exact(super::KnownFile {
            name: "a.bin",
            bytes: 7,
            md5: "9a0364b9e99bb480dd25e1f0284c8555",
        }),
        Member::Text {
            name: "names.txt",
            limit: 100,
        },
    ];
    let path = Path::new("archive");
    unpack_from(archive, path, "set", &members, folder, &mut |_| {})
        .map_err(|error| error.to_string())
}

fn is_member(path: &[u8], prefix: &str, name: &str) -> bool {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    path.strip_prefix(prefix.as_bytes())
        .and_then(|path| path.strip_prefix(b"/"))
        == Some(name.as_bytes())
}

/// Writes a member into `folder`; it gets its name when its checksum is right.
fn take(
    entry: &mut impl Read,
    bytes: u64,
    member: &Member,
    folder: &Path,
    fault: &impl Fn(String) -> CatalogError,
) -> Result<(), CatalogError> {
    let name = member.name();
    let part = folder.join(format!("{name}.part"));
    let result = write(entry, bytes, member, &part, fault);
    if result.is_err() {
        let _ = fs::remove_file(&part);
        return result;
    }
    let target = folder.join(name);
    fs::rename(&part, &target).map_err(|error| CatalogError::write(&target, 0, error))
}

fn write(
    entry: &mut impl Read,
    bytes: u64,
    member: &Member,
    part: &Path,
    fault: &impl Fn(String) -> CatalogError,
) -> Result<(), CatalogError> {
    let mut done = 0;
    let mut checksum = Checksum::default();
    let failed =
        |done: u64| move |error| CatalogError::write(part, bytes.saturating_sub(done), error);
    let mut file = File::create(part).map_err(failed(0))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = match entry.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => {
                return Err(fault(format!(
                    "it is damaged at {} ({error})",
                    member.name()
                )));
            }
        };
        file.write_all(&buffer[..count]).map_err(failed(done))?;
        checksum.update(&buffer[..count]);
        done += count as u64;
    }
    file.sync_all().map_err(failed(done))?;
    if done != bytes {
        return Err(fault(format!("it ends in the middle of {}", member.name())));
    }
    match (member, checksum.hexadecimal()) {
        (Member::Exact(known), found) if found != known.md5 => {
            let reason = format!(
                "its {} has md5 {found} where {} is published",
                known.name, known.md5
            );
            Err(fault(reason))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::super::fixtures::{content, known};
    use super::*;

    /// An entry of an archive: its path, its type and its content.
    type Entry<'a> = (&'a [u8], tar::EntryType, &'a [u8]);

    const FILE: tar::EntryType = tar::EntryType::Regular;
    const NAMES: &[u8] = b"cat\ndog\n";

    fn pack(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            // Set byte by byte: the library would refuse the hostile names.
            header.as_old_mut().name[..path.len()].copy_from_slice(path);
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            if !kind.is_file() {
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_mode(0o644);
            header.set_cksum();
            archive.append(&header, *content).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap()
    }

    /// A folder with a folder "set" in it, into which an archive is unpacked that should hold "a.bin" and
    /// "names.txt".
    struct Trial {
        dir: TempDir,
        data: Vec<u8>,
    }

    impl Trial {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("set")).unwrap();
            Self {
                dir,
                data: content(100_000),
            }
        }

        fn folder(&self) -> PathBuf {
            self.dir.path().join("set")
        }

        fn unpack(&self, archive: &[u8]) -> Result<(), String> {
            let path = self.dir.path().join("set.tar.gz");
            fs::write(&path, archive).unwrap();
            let members = [
                Member::Exact(known("a.bin", &self.data)),
                Member::Text {
                    name: "names.txt",
                    limit: 100,
                },
            ];
            unpack(&path, "set", &members, &self.folder(), &mut |_| {})
                .map_err(|error| error.to_string())
        }

        /// Everything below the folder, by name.
        fn found(&self) -> Vec<String> {
            let mut found = Vec::new();
            let mut folders = vec![self.dir.path().to_owned()];
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() && !path.is_symlink() {
                        folders.push(path.clone());
                    }
                    let path = path.strip_prefix(self.dir.path()).unwrap();
                    found.push(path.to_str().unwrap().replace('\\', "/"));
                }
            }
            found.sort();
            found
        }

        /// Unpacks an archive that must be refused, leaving nothing, and gives the reason.
        fn refuse(&self, archive: &[u8]) -> String {
            let error = self.unpack(archive).unwrap_err();
            assert_eq!(self.found(), ["set", "set.tar.gz"]);
            assert!(error.ends_with("; delete it and fetch it again"), "{error}");
            error
        }
    }

    #[test]
    fn expected_members_are_taken_and_others_left() {
        let trial = Trial::new();
        let archive = pack(&[
            (b"set/", tar::EntryType::Directory, b""),
            (b"set/readme.html", FILE, b"<html>"),
            (b"./set/names.txt", FILE, NAMES),
            (b"set/a.bin", FILE, &trial.data),
        ]);
        trial.unpack(&archive).unwrap();
        assert_eq!(
            trial.found(),
            ["set", "set.tar.gz", "set/a.bin", "set/names.txt"]
        );
        assert!(fs::read(trial.folder().join("a.bin")).unwrap() == trial.data);
        assert_eq!(fs::read(trial.folder().join("names.txt")).unwrap(), NAMES);
    }

    #[test]
    fn no_path_of_the_archive_is_ever_written_to() {
        let trial = Trial::new();
        let data: &[u8] = &trial.data.clone();
        let hostile = [
            "../a.bin",
            "../set/a.bin",
            "/set/a.bin",
            "set/../a.bin",
            "set/./a.bin",
            "set//a.bin",
            "set/a.bin/",
            "a.bin",
            "other/a.bin",
            "set/sub/a.bin",
            "set\\a.bin",
            "././set/a.bin",
            "SET/a.bin",
            "C:/a.bin",
            "",
        ];
        for path in hostile {
            let error = trial.refuse(&pack(&[(path.as_bytes(), FILE, data)]));
            assert!(
                error.contains("it holds no set/a.bin") || error.contains("it is damaged"),
                "{path}: {error}"
            );
        }
    }

    #[test]
    fn links_and_devices_are_refused() {
        let trial = Trial::new();
        for kind in [
            tar::EntryType::Symlink,
            tar::EntryType::Link,
            tar::EntryType::Char,
            tar::EntryType::Directory,
        ] {
            let error = trial.refuse(&pack(&[(b"set/a.bin", kind, b"")]));
            assert!(error.contains("its a.bin is no regular file"), "{error}");
        }
    }

    #[test]
    fn a_link_in_the_place_of_a_member_is_replaced_not_followed() {
        let trial = Trial::new();
        #[cfg(unix)]
        {
            let other = trial.dir.path().join("other");
            fs::write(&other, b"mine").unwrap();
            std::os::unix::fs::symlink(&other, trial.folder().join("a.bin")).unwrap();
            trial
                .unpack(&pack(&[
                    (b"set/a.bin", FILE, &trial.data),
                    (b"set/names.txt", FILE, NAMES),
                ]))
                .unwrap();
            assert_eq!(fs::read(other).unwrap(), b"mine");
            assert!(!trial.folder().join("a.bin").is_symlink());
        }
    }

    #[test]
    fn wrong_long_short_and_missing_members_are_refused() {
        let trial = Trial::new();
        let mut wrong = trial.data.clone();
        wrong[5] ^= 1;
        let error = trial.refuse(&pack(&[(b"set/a.bin", FILE, &wrong)]));
        assert!(error.contains("its a.bin has md5 "), "{error}");
        let error = trial.refuse(&pack(&[(b"set/a.bin", FILE, &content(100_001))]));
        assert!(
            error.contains("its a.bin has 100001 bytes where 100000 are expected"),
            "{error}"
        );
        let error = trial.refuse(&pack(&[(b"set/a.bin", FILE, &content(99_999))]));
        assert!(error.contains("its a.bin has md5 "), "{error}");
        let error = trial.refuse(&pack(&[(b"set/names.txt", FILE, &content(101))]));
        assert!(
            error.contains("its names.txt has 101 bytes where 100 are expected"),
            "{error}"
        );
        let error = trial.refuse(&pack(&[]));
        assert!(error.contains("it holds no set/a.bin"), "{error}");
    }

    #[test]
    fn damaged_archives_are_refused() {
        let trial = Trial::new();
        let archive = pack(&[
            (b"set/a.bin", FILE, &trial.data),
            (b"set/names.txt", FILE, NAMES),
        ]);
        for length in [0, 5, 100, 1000, archive.len() / 2] {
            let error = trial.refuse(&archive[..length]);
            assert!(
                error.contains("it is damaged") || error.contains("it holds no"),
                "{length}: {error}"
            );
        }
        let error = trial.refuse(b"no archive at all");
        assert!(error.contains("it is damaged"), "{error}");
    }

    #[test]
    fn an_archive_that_unfolds_without_end_is_refused() {
        let trial = Trial::new();
        let zeros = vec![0; 4 << 20];
        let archive = pack(&[
            (b"set/other", FILE, &zeros),
            (b"set/a.bin", FILE, &trial.data),
        ]);
        assert!(archive.len() < 1 << 20);
        let error = trial.refuse(&archive);
        assert!(
            error.contains("it is damaged") || error.contains("it holds no"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_archive_is_named() {
        let trial = Trial::new();
        let path = trial.dir.path().join("none.tar.gz");
        let error = unpack(&path, "set", &[], &trial.folder(), &mut |_| {})
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("cannot read ") && error.contains("none.tar.gz"),
            "{error}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn damage_anywhere_never_gives_a_wrong_member(at in 0..4000_usize, byte in any::<u8>(), plain in any::<bool>()) {
            let trial = Trial { data: content(3000), ..Trial::new() };
            let mut archive = pack(&[(b"set/a.bin", FILE, &trial.data), (b"set/names.txt", FILE, NAMES)]);
            if plain {
                // Damage behind the compression, where no checksum of gzip sees it.
                let mut tar = Vec::new();
                GzDecoder::new(&archive[..]).read_to_end(&mut tar).unwrap();
                let index = at % tar.len();
                tar[index] = byte;
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&tar).unwrap();
                archive = encoder.finish().unwrap();
            } else {
                let index = at % archive.len();
                archive[index] = byte;
            }
            let result = trial.unpack(&archive);
            let member = fs::read(trial.folder().join("a.bin"));
            prop_assert!(member.as_ref().map_or(result.is_err(), |found| *found == trial.data));
            let allowed = ["set", "set.tar.gz", "set/a.bin", "set/names.txt"];
            prop_assert!(trial.found().iter().all(|name| allowed.contains(&name.as_str())));
        }
    }
}
